"""Lists of items and their metrics."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from support import scalar
from support.agreement import assert_close
from support.strategies import array, draw_table, ints, items_of, read_only, rngs, tied_tables

from c2f_ref import method
from c2f_ref.method import MethodError, ndcg_at_k, rank_items, rank_scores, recall_at_k


@given(tied_tables(), st.integers(0, 12))
def test_ranking_equals_a_full_sort_with_ties_to_the_lowest_index(scores, k) -> None:
    """Of rows full of ties; a score of -inf is as good as seen."""
    items, best = rank_scores(scores, k)
    for row, listed, found in zip(scores.tolist(), items.tolist(), best.tolist(), strict=True):
        expected = scalar.rank(row, {i for i, score in enumerate(row) if score == -np.inf}, k)
        assert listed == expected
        assert found == [row[item] if item >= 0 else -np.inf for item in expected]


def test_rank_items_by_hand() -> None:
    """User (1, 2) scores items (1, 0), (0, 1), (1, 1), (0, 0) with 1, 2, 3, 0; a bias of 9 lifts
    the last; item 2 is seen, and masked with -inf (D12) although it has the highest product.
    """
    entities, bias = array([1, 2], [1, 0], [0, 1], [1, 1], [0, 0]), array(100, 0, -5000, 0, 9)
    items, scores = rank_items(entities, bias, 1, ints(0), items_of([[2]], 4), 4)
    assert items.tolist() == [[3, 0, 1, -1]]
    assert scores.tolist() == [[9, 1, -4998, -np.inf]]


def test_more_users_than_a_block_holds_are_ranked_one_by_one_alike() -> None:
    """D13: 256, a multiple of the block, and one more and less."""
    rng = np.random.default_rng(0)
    entities, bias = draw_table((12, 3), rng), draw_table((12,), rng)
    seen = items_of([[0, 3], [], [1], [2, 5], [6]], 7)
    singles = [rank_items(entities, bias, 5, np.array([user]), seen, 4) for user in range(5)]
    for n in (255, 256, 257, 512, 600):
        users = rng.integers(5, size=n)
        items, scores = rank_items(entities, bias, 5, users, seen, 4)
        assert np.array_equal(items, np.concatenate([singles[user][0] for user in users]))
        assert_close(scores, np.concatenate([singles[user][1] for user in users]))


def test_rank_by_takes_any_score_and_any_stored_pair_is_seen() -> None:
    """Scores 10 user + item; item 2 of user 0 is seen, though its stored value is 0."""
    parts = np.array([0.0]), np.array([2]), np.array([0, 1, 1])
    seen = sparse.csr_array(parts, shape=(2, 3))
    items, scores = method.rank_by(
        lambda u: 10.0 * u[:, None] + np.arange(3), np.array([1, 0]), seen, 2
    )
    assert items.tolist() == [[2, 1], [1, 0]]
    assert scores.tolist() == [[12, 11], [1, 0]]


def test_lists_refuse_what_does_not_fit() -> None:
    entities, bias, seen = np.ones((5, 3)), np.ones(5), items_of([[0], []], 3)
    for *arguments, message in [
        (bias[:4], 2, ints(0), r"bias must have shape \(5,\)"),
        (bias, 3, ints(0), r"seen must have shape \(3, 2\)"),
        (bias, 2, ints(2), r"users must be in \[0, 2\)"),
        (bias, 2, ints(-1), r"users must be in \[0, 2\)"),
        (bias, 2, array(0.0), "users must be integers"),
    ]:
        with pytest.raises(MethodError, match=message):
            rank_items(entities, *arguments, seen, 2)
    for scores, k, message in [(array([1, np.nan]), 1, "NaN"), (array([1, 2]), -1, "k must be in")]:
        with pytest.raises(MethodError, match=message):
            rank_scores(scores, k)


def test_metrics_by_hand() -> None:
    """List (4, 0, 2), held out {0, 2, 3}. At 2: one hit at place 1: recall 1/3, NDCG (1/log2 3) /
    (1 + 1/log2 3). At 3: hits at places 1 and 2: recall 2/3. A pair stored twice counts once.
    """
    ranked, held_out = ints(4, 0, 2)[None], items_of([[0, 2, 3]], 5)
    second = 1 / math.log2(3)
    assert_close(recall_at_k(ranked, held_out, 2), [1 / 3])
    assert_close(recall_at_k(ranked, held_out, 3), [2 / 3])
    assert_close(ndcg_at_k(ranked, held_out, 2), [second / (1 + second)])
    assert_close(ndcg_at_k(ranked, held_out, 3), [(second + 0.5) / (1.5 + second)])
    twice = sparse.csr_array((np.ones(2), np.array([1, 1]), np.array([0, 2])), shape=(1, 3))
    for metric in (recall_at_k, ndcg_at_k):
        assert metric(ints(1, 0)[None], twice, 2).tolist() == [1]


@st.composite
def evaluations(draw):
    """(ranked (B, 7), distinct items and trailing -1; held out (B, 11), at least one a user)."""
    rng, n_users = draw(rngs()), draw(st.integers(1, 9))
    ranked = np.argsort(rng.random((n_users, 11)), axis=1)[:, :7]
    ranked[np.arange(7) >= rng.integers(1, 9, (n_users, 1))] = -1
    chosen = rng.random((n_users, 11)) < rng.uniform(0.1, 0.9)
    chosen[np.arange(n_users), rng.integers(11, size=n_users)] = True
    return read_only((ranked.astype(np.int64), sparse.csr_array(chosen.astype(np.float64))))


@given(evaluations(), st.integers(1, 7))
def test_metrics_and_their_means_equal_scalar_loops(evaluation, k) -> None:
    ranked, held_out = evaluation
    means = method.mean_metrics(ranked, held_out, [k, 1])
    assert set(means) == {f"{name}@{n}" for name in ("recall", "ndcg") for n in (k, 1)}
    for name, metric, by_loop in [
        ("recall", recall_at_k, scalar.recall),
        ("ndcg", ndcg_at_k, scalar.ndcg),
    ]:
        rows = zip(ranked.tolist(), held_out.toarray(), strict=True)
        expected = [by_loop(row, set(np.flatnonzero(items).tolist()), k) for row, items in rows]
        assert_close(metric(ranked, held_out, k), np.array(expected), 1e-14)
        assert means[f"{name}@{k}"] == pytest.approx(math.fsum(expected) / len(ranked), abs=1e-14)


def test_metrics_refuse_what_has_no_meaning() -> None:
    ranked, held_out = np.array([[0, 1], [1, 0]]), items_of([[0], [1]], 3)
    for metric in (recall_at_k, ndcg_at_k):
        for arguments, message in [
            ((ranked, held_out, 3), r"k must be in \[1, 2\], the length of the lists, got 3"),
            ((ranked, held_out, 0), "k must be in"),
            ((ranked, items_of([[0], []], 3), 1), "the one in row 1 has none"),
            ((ranked, items_of([[0]], 3), 1), r"held_out must have shape \(2, 3\)"),
            ((ranked + 2, held_out, 1), "ranked"),
            ((ranked - 2, held_out, 1), "ranked"),
        ]:
            with pytest.raises(MethodError, match=message):
                metric(*arguments)
    with pytest.raises(MethodError, match="at least one user"):
        method.mean_metrics(ranked[:0], held_out[:0], [1])
