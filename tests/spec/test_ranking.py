"""Lists of items and their metrics."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from support import scalar
from support.agreement import assert_close, same_bits
from support.strategies import draw_table, models, read_only, rngs, tied_tables

from c2f_ref.spec import SpecError, mean_metrics, ndcg_at_k, rank_by, rank_items, rank_scores, recall_at_k


def pairs_matrix(rows: list[list[int]], n_items: int) -> sparse.csr_array:
    """The items of every user as a read-only sparse array."""
    matrix = np.zeros((len(rows), n_items))
    for user, row in enumerate(rows):
        matrix[user, row] = 1.0
    return read_only(sparse.csr_array(matrix))


# rank_scores


def test_rank_scores_by_hand() -> None:
    """Best first, the two 3s in index order, -inf no candidate, and the list filled up with -1."""
    items, scores = rank_scores(read_only(np.array([[3.0, 5, -np.inf, 3], [-np.inf, 1, 2, 0]])), 5)
    assert items.tolist() == [[1, 0, 3, -1, -1], [2, 1, 3, -1, -1]]
    assert scores.tolist() == [[5, 3, 3, -np.inf, -np.inf], [2, 1, 0, -np.inf, -np.inf]]


@given(tied_tables(), st.integers(0, 12))
def test_ranking_equals_a_full_sort_with_ties_to_the_lowest_index(scores, k) -> None:
    """Of rows full of ties; a score of -inf is as good as seen."""
    items, best = rank_scores(scores, k)
    for row, given_items, given_scores in zip(scores.tolist(), items.tolist(), best.tolist(), strict=True):
        expected = scalar.rank(row, {item for item, score in enumerate(row) if score == -np.inf}, k)
        assert given_items == expected
        assert given_scores == [row[item] if item >= 0 else -np.inf for item in expected]


def test_rank_scores_refuses_nan_and_a_negative_length() -> None:
    with pytest.raises(SpecError, match="NaN"):
        rank_scores(np.array([[1.0, np.nan]]), 1)
    with pytest.raises(SpecError, match="k must be in"):
        rank_scores(np.ones((2, 3)), -1)


# rank_items, rank_by


def test_rank_items_by_hand() -> None:
    """User (1, 2) scores items (1, 0), (0, 1), (1, 1), (0, 0) with 1, 2, 3, 0; a bias of 9 lifts the last; item 2 is seen."""
    entities = read_only(np.array([[1.0, 2], [1, 0], [0, 1], [1, 1], [0, 0]]))
    bias = read_only(np.array([100.0, 0, 0, 0, 9]))
    items, scores = rank_items(entities, bias, 1, np.array([0]), pairs_matrix([[2]], 4), 4)
    assert items.tolist() == [[3, 1, 0, -1]]
    assert scores.tolist() == [[9, 2, 1, -np.inf]]


@given(models(), rngs(), st.integers(0, 12))
def test_rank_items_by_definition(model, rng, k) -> None:
    """Scores in scalar loops, then a full sort. Entities are multiples of 1/8, so ties are real and no rounding breaks them."""
    entities = read_only(np.round(rng.normal(size=(model.n_entities, model.settings.dim)) * 2) / 8)
    bias = read_only(np.round(model.bias * 2) / 8)
    users = read_only(rng.integers(model.n_users, size=3 * model.n_users))
    seen_rows = [set(model.items[model.users == user].tolist()) for user in range(model.n_users)]
    items, scores = rank_items(
        entities, bias, model.n_users, users, pairs_matrix([list(row) for row in seen_rows], model.n_items), k
    )
    everything = np.arange(model.n_items)
    for user, row_items, row_scores in zip(users.tolist(), items.tolist(), scores.tolist(), strict=True):
        own = np.where(np.arange(model.n_entities) < model.n_users, 0.0, bias)
        by_item = scalar.score_pairs(entities, own, 0.0, model.n_users, [user] * model.n_items, everything).tolist()
        expected = scalar.rank(by_item, seen_rows[user], k)
        assert row_items == expected
        assert row_scores == [by_item[item] if item >= 0 else -np.inf for item in expected]


@given(models(), rngs())
def test_relabelling_entities_relabels_the_ranking(model, rng) -> None:
    """New labels for users and for items; drawn scores have no ties."""
    entities = draw_table((model.n_entities, model.settings.dim), rng)
    new_users, new_items = rng.permutation(model.n_users), rng.permutation(model.n_items)
    order = np.concatenate([new_users, model.n_users + new_items])
    has = np.zeros((model.n_users, model.n_items))
    has[model.users, model.items] = 1.0
    seen, seen_again = sparse.csr_array(has), sparse.csr_array(has[np.ix_(new_users, new_items)])
    everyone, k = np.arange(model.n_users), model.n_items
    once = rank_items(entities, model.bias, model.n_users, everyone, seen, k)
    again = rank_items(entities[order], model.bias[order], model.n_users, everyone, seen_again, k)
    old_names = np.where(again[0] < 0, -1, new_items[again[0]])
    assert np.array_equal(old_names, once[0][new_users])
    found = once[0][new_users] >= 0
    assert_close(again[1][found], once[1][new_users][found])


def test_more_users_than_a_block_holds_are_ranked_one_by_one_alike() -> None:
    """D13: 256, a multiple of the block, and one more and less."""
    rng = np.random.default_rng(0)
    entities, bias = draw_table((12, 3), rng), draw_table((12,), rng)
    seen = pairs_matrix([[0, 3], [], [1], [2, 5], [6]], 7)
    singles = [rank_items(entities, bias, 5, np.array([user]), seen, 4) for user in range(5)]
    for n in (255, 256, 257, 512, 600):
        users = rng.integers(5, size=n)
        items, scores = rank_items(entities, bias, 5, users, seen, 4)
        assert np.array_equal(items, np.concatenate([singles[user][0] for user in users]))
        assert_close(scores, np.concatenate([singles[user][1] for user in users]))


def test_rank_by_takes_any_score() -> None:
    """Scores 10 user + item, with item 2 of user 0 seen: items fall from the last to the first."""
    seen = pairs_matrix([[2], []], 3)
    items, scores = rank_by(lambda users: 10.0 * users[:, None] + np.arange(3), np.array([1, 0]), seen, 2)
    assert items.tolist() == [[2, 1], [1, 0]]
    assert scores.tolist() == [[12, 11], [1, 0]]


def test_a_pair_that_is_stored_is_seen_whatever_its_value() -> None:
    """As `sample_triples` has it: an entry for every pair, also one whose stored value is 0."""
    seen = sparse.csr_array((np.array([0.0]), np.array([1]), np.array([0, 1])), shape=(1, 3))
    items, _ = rank_items(np.ones((4, 2)), np.zeros(4), 1, np.array([0]), seen, 3)
    assert items.tolist() == [[0, 2, -1]]


def test_rank_items_refuses_what_does_not_fit() -> None:
    entities, bias, seen = np.ones((5, 3)), np.ones(5), pairs_matrix([[0], []], 3)
    for arguments, message in [
        ((entities, bias[:4], 2, np.array([0]), seen), r"bias must have shape \(5,\)"),
        ((entities, bias, 3, np.array([0]), seen), r"seen must have shape \(3, 2\)"),
        ((entities, bias, 2, np.array([2]), seen), r"users must be in \[0, 2\)"),
        ((entities, bias, 2, np.array([-1]), seen), r"users must be in \[0, 2\)"),
        ((entities, bias, 2, np.array([0.0]), seen), "users must be integers"),
    ]:
        with pytest.raises(SpecError, match=message):
            rank_items(*arguments, 2)


# recall_at_k, ndcg_at_k


def test_metrics_by_hand() -> None:
    """List (4, 0, 2), held out {0, 2, 3}. At 2: one hit at place 1, so recall 1/3; ndcg (1/log2 3) / (1 + 1/log2 3).

    At 3: hits at places 1 and 2: recall 2/3; ndcg (1/log2 3 + 1/2) / (1 + 1/log2 3 + 1/2).
    """
    ranked, held_out = read_only(np.array([[4, 0, 2]])), pairs_matrix([[0, 2, 3]], 5)
    second = 1 / math.log2(3)
    assert_close(recall_at_k(ranked, held_out, 2), [1 / 3])
    assert_close(recall_at_k(ranked, held_out, 3), [2 / 3])
    assert_close(ndcg_at_k(ranked, held_out, 2), [second / (1 + second)])
    assert_close(ndcg_at_k(ranked, held_out, 3), [(second + 0.5) / (1.5 + second)])


@st.composite
def evaluations(draw):
    """(ranked (B, 7) of distinct items and trailing -1, held out (B, I) with at least one item a user)."""
    rng, n_users = draw(rngs()), draw(st.integers(1, 9))
    ranked = np.argsort(rng.random((n_users, 11)), axis=1)[:, :7]
    ranked[np.arange(7) >= rng.integers(1, 9, (n_users, 1))] = -1
    chosen = rng.random((n_users, 11)) < rng.uniform(0.1, 0.9)
    chosen[np.arange(n_users), rng.integers(11, size=n_users)] = True
    return read_only(ranked.astype(np.int64)), read_only(sparse.csr_array(chosen.astype(np.float64)))


@given(evaluations(), st.integers(1, 7))
def test_metrics_equal_scalar_loops(evaluation, k) -> None:
    ranked, held_out = evaluation
    items_of = [set(np.flatnonzero(row).tolist()) for row in held_out.toarray()]
    expected = [
        np.array([metric(row, items, k) for row, items in zip(ranked.tolist(), items_of, strict=True)])
        for metric in (scalar.recall, scalar.ndcg)
    ]
    for metric, values in zip((recall_at_k, ndcg_at_k), expected, strict=True):
        result = metric(ranked, held_out, k)
        assert result.shape == values.shape
        assert np.abs(result - values).max() <= 1e-14
    means = mean_metrics(ranked, held_out, [k, 1])
    assert set(means) == {f"{name}@{n}" for name in ("recall", "ndcg") for n in (k, 1)}
    assert means[f"recall@{k}"] == pytest.approx(math.fsum(expected[0]) / len(ranked), abs=1e-14)
    assert means[f"ndcg@{k}"] == pytest.approx(math.fsum(expected[1]) / len(ranked), abs=1e-14)


@given(evaluations(), st.integers(1, 7))
def test_metrics_lie_between_zero_and_one_and_recall_rises_with_k(evaluation, k) -> None:
    ranked, held_out = evaluation
    for metric in (recall_at_k, ndcg_at_k):
        values = metric(ranked, held_out, k)
        assert (values >= 0).all()
        assert (values <= 1 + 1e-15).all()
    assert (recall_at_k(ranked, held_out, 7) >= recall_at_k(ranked, held_out, k)).all()


@given(evaluations(), st.integers(1, 7))
def test_a_perfect_list_has_ndcg_one_and_a_list_without_hits_zero(evaluation, k) -> None:
    _, held_out = evaluation
    wanted = held_out.toarray()
    for values, ndcg, recall in [
        (-wanted, 1.0, np.minimum(k, wanted.sum(axis=1)) / wanted.sum(axis=1)),
        (wanted, None, None),
    ]:
        ranked = np.argsort(values, axis=1, kind="stable")[:, :7]
        if ndcg is None:
            ranked = np.where(np.take_along_axis(wanted, ranked, axis=1) > 0, -1, ranked)
            assert not ndcg_at_k(ranked, held_out, k).any()
            assert not recall_at_k(ranked, held_out, k).any()
        else:
            assert_close(ndcg_at_k(ranked, held_out, k), np.full(len(wanted), ndcg))
            assert_close(recall_at_k(ranked, held_out, k), recall)


@given(evaluations(), st.integers(1, 7), rngs())
def test_metrics_ignore_storage_order_and_index_types(evaluation, k, rng) -> None:
    ranked, held_out = evaluation
    rows = np.repeat(np.arange(held_out.shape[0]), np.diff(held_out.indptr))
    order = np.lexsort((rng.permutation(rows.size), rows))
    shuffled = sparse.csr_array((held_out.data[order], held_out.indices[order], held_out.indptr.copy()), shape=held_out.shape)
    shuffled.indices, shuffled.indptr = shuffled.indices.astype(np.int64), shuffled.indptr.astype(np.int64)
    for metric in (recall_at_k, ndcg_at_k):
        once = metric(ranked, held_out, k)
        assert same_bits(metric(ranked, shuffled, k), once)
        assert same_bits(metric(ranked.astype(np.int32), held_out, k), once)
        assert same_bits(metric(np.asfortranarray(ranked), held_out, k), once)


def test_a_held_out_pair_that_is_stored_twice_counts_once() -> None:
    """Item 1 twice: the user has one held-out item, and the list finds it."""
    held_out = sparse.csr_array((np.ones(2), np.array([1, 1]), np.array([0, 2])), shape=(1, 3))
    ranked = np.array([[1, 0]])
    assert recall_at_k(ranked, held_out, 2).tolist() == [1]
    assert ndcg_at_k(ranked, held_out, 2).tolist() == [1]


def test_only_the_first_k_places_count() -> None:
    ranked, held_out = np.array([[0, 1, 2]]), pairs_matrix([[2]], 4)
    assert recall_at_k(ranked, held_out, 2).tolist() == [0]
    assert recall_at_k(ranked, held_out, 3).tolist() == [1]
    assert_close(ndcg_at_k(ranked, held_out, 3), [0.5])


def test_metrics_refuse_what_has_no_meaning() -> None:
    ranked, held_out = np.array([[0, 1], [1, 0]]), pairs_matrix([[0], [1]], 3)
    for metric in (recall_at_k, ndcg_at_k):
        for arguments, message in [
            ((ranked, held_out, 3), r"k must be in \[1, 2\], the length of the lists, got 3"),
            ((ranked, held_out, 0), "k must be in"),
            ((ranked, pairs_matrix([[0], []], 3), 1), "the one in row 1 has none"),
            ((ranked, pairs_matrix([[0]], 3), 1), r"held_out must have shape \(2, 3\)"),
            ((ranked + 2, held_out, 1), "ranked"),
            ((ranked - 2, held_out, 1), "ranked"),
        ]:
            with pytest.raises(SpecError, match=message):
                metric(*arguments)
    with pytest.raises(SpecError, match="at least one user"):
        mean_metrics(ranked[:0], held_out[:0], [1])
