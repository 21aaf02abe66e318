"""Triples, scores and losses that train the model; lists of items and their metrics.

That triples are valid, even and shuffled is among the properties that the oracle's cases ask for.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from support.agreement import assert_close, assert_refused, chi_square, same_bits
from support.scalar import rank
from support.strategies import (
    array,
    draw_table,
    ints,
    items_of,
    models,
    read_only,
    rngs,
    tied_tables,
)

from c2f_ref import method
from c2f_ref.method import Triples, sample_triples, score_pairs


def sample(rows: list[list[int]], n_items: int, *numbers: int, seed: int) -> Triples:
    return sample_triples(items_of(rows, n_items), *numbers, rng=np.random.default_rng(seed))


def test_by_hand_where_nothing_is_left_to_chance() -> None:
    """One user with item 1 of three, two negatives a pair: all draws give (0, 1, 0), (0, 1, 2)."""
    triples = sample([[1]], 3, 4, 2, seed=0)
    assert triples.users.tolist() == [0] * 8
    assert triples.positives.tolist() == [1] * 8
    assert sorted(triples.negatives.tolist()) == [0] * 4 + [2] * 4


def test_a_user_with_fewer_than_five_unseen_items_gets_them_all() -> None:
    """D15: the official sampler never ends here."""
    for n_seen in range(3, 8):
        triples = sample([list(range(n_seen))], 7, 1, 5, seed=n_seen)
        assert sorted(triples.negatives.tolist()) == list(range(n_seen, 7))


def test_sets_of_distinct_negatives_are_drawn_uniformly_and_their_places_too() -> None:
    """Three of five unseen items: ten sets, 9 degrees of freedom, 27.9 once in a thousand; each
    place is uniform over the items: 4 degrees, 18.5. Drawing with replacement and dropping
    repeats, or drawing near the last one, would not be uniform over sets.
    """
    seen, rng = items_of([[1, 4]], 7), np.random.default_rng(6)
    drawn = [sample_triples(seen, 1, 3, rng=rng).negatives.tolist() for _ in range(3000)]
    sets = dict.fromkeys(itertools.combinations([0, 2, 3, 5, 6], 3), 1)
    assert chi_square((tuple(sorted(row)) for row in drawn), sets) < 27.9
    for place in range(3):
        items = [row[place] for row in drawn]
        assert chi_square(items, dict.fromkeys([0, 2, 3, 5, 6], 1)) < 18.5


@given(rngs())
def test_storage_of_the_pairs_changes_no_draw(rng) -> None:
    """Order within rows, duplicate entries and the stored values."""
    has = read_only(rng.random((6, 8)) < rng.random((6, 1)))
    seen = sparse.csr_array(has.astype(np.float64))
    rows, columns = seen.nonzero()
    twice = np.tile(np.arange(rows.size), 2)
    order = twice[np.lexsort((rng.permutation(twice.size), rows[twice]))]
    parts = rng.random(order.size), columns[order], 2 * seen.indptr
    stored = read_only(sparse.csr_array(parts, shape=seen.shape))
    once, again = (
        sample_triples(pairs, 40, 3, rng=np.random.default_rng(1)) for pairs in (seen, stored)
    )
    assert same_bits(again, once)


# Scores and losses


def test_score_pairs_by_hand() -> None:
    """User 0 = (1, 2), item 1 = entity 2 = (3, -1): 3 - 2, biases 10 and 30, offset 100: 141.

    Backwards: user (2) meets items (3) and (5) with gradients 1 and 10: 3 + 50, and 2 and 20.
    """
    entities, (bias,) = array([1, 2], [9, 9], [3, -1]), array([10, 20, 30])
    assert score_pairs(entities, bias, 100.0, 1, ints(0), ints(1)).tolist() == [141]
    pairs = array([2], [3], [5]), bias, 0.0, 1, ints(0, 0), ints(0, 1)
    grads = method.score_pairs_vjp(*pairs, array(1, 10))
    assert [np.ravel(grad).tolist() for grad in grads] == [[53, 2, 20], [11, 1, 10], [11]]


@settings(max_examples=20)
@given(models(), rngs())
def test_user_bias_and_offset_cancel_in_score_differences(model, rng) -> None:
    """D8: b_u and b_0 need not be stored."""
    entities = draw_table((model.n_entities, model.settings.dim), rng)
    users, *both = model.triples
    shifted = model.bias + np.where(np.arange(model.n_entities) < model.n_users, 5.0, 0.0)
    differences = []
    for bias, offset in [(model.bias, 0.0), (shifted, 7.0)]:
        s = [score_pairs(entities, bias, offset, model.n_users, users, items) for items in both]
        differences.append(s[0] - s[1])
    largest = np.abs(entities).max() ** 2 * model.settings.dim + 24
    assert np.abs(differences[0] - differences[1]).max() <= 100 * np.spacing(largest)


def test_bpr_loss_by_hand() -> None:
    """A lead of log 3 costs log(1 + 1/3), a lag log(1 + 3): their mean is log(16/3) / 2. Equal
    scores cost log 2 with slopes of 1/2.
    """
    lead = array(math.log(3), 0.0)
    assert method.bpr_loss(lead, lead[::-1]) == pytest.approx(math.log(16 / 3) / 2, rel=1e-15)
    assert method.bpr_loss(lead, lead) == pytest.approx(math.log(2), rel=1e-15)
    assert same_bits(method.bpr_loss_vjp(lead, lead, 1.0), (np.full(2, -0.25), np.full(2, 0.25)))


def test_ego_penalty_by_hand() -> None:
    """User (1, 2), items (3, 0) and (0, 1), triples (0, 0, 1) twice: 2 (5 + 9 + 1) weight / 2."""
    ego, triples = array([1, 2], [3, 0], [0, 1]), Triples(ints(0, 0), ints(0, 0), ints(1, 1))
    assert method.ego_penalty(ego, 1, triples, 0.5) == 7.5
    grad = method.ego_penalty_vjp(ego, 1, triples, 0.5, 1.0)
    assert grad.tolist() == [[1, 2], [3, 0], [0, 1]]


# Lists and metrics


@given(tied_tables(), st.integers(0, 12))
def test_ranking_equals_a_full_sort_with_ties_to_the_lowest_index(scores, k) -> None:
    """Of rows full of ties; a score of -inf is as good as seen."""
    items, best = method.rank_scores(scores, k)
    for row, listed, found in zip(scores.tolist(), items.tolist(), best.tolist(), strict=True):
        expected = rank(row, {i for i, score in enumerate(row) if score == -np.inf}, k)
        assert listed == expected
        assert found == [row[item] if item >= 0 else -np.inf for item in expected]


def test_rank_items_by_hand() -> None:
    """User (1, 2) scores items (1, 0), (0, 1), (1, 1), (0, 0) with 1, 2, 3, 0; a bias of 9 lifts
    the last; item 2 is seen, and masked with -inf (D12) although it has the highest product.
    """
    entities, bias = array([1, 2], [1, 0], [0, 1], [1, 1], [0, 0]), array(100, 0, -5000, 0, 9)
    items, scores = method.rank_items(entities, bias, 1, ints(0), items_of([[2]], 4), 4)
    assert items.tolist() == [[3, 0, 1, -1]]
    assert scores.tolist() == [[9, 1, -4998, -np.inf]]


def test_more_users_than_a_block_holds_are_ranked_one_by_one_alike() -> None:
    """D13: 256, a multiple of the block, and one more and less."""
    rng = np.random.default_rng(0)
    entities, bias = draw_table((12, 3), rng), draw_table((12,), rng)
    seen = items_of([[0, 3], [], [1], [2, 5], [6]], 7)
    singles = [method.rank_items(entities, bias, 5, np.array([user]), seen, 4) for user in range(5)]
    for n in (255, 256, 257, 512, 600):
        users = rng.integers(5, size=n)
        items, scores = method.rank_items(entities, bias, 5, users, seen, 4)
        assert np.array_equal(items, np.concatenate([singles[user][0] for user in users]))
        assert_close(scores, np.concatenate([singles[user][1] for user in users]))


def test_metrics_by_hand() -> None:
    """List (4, 0, 2), held out {0, 2, 3}. At 2: one hit at place 1: recall 1/3, NDCG (1/log2 3) /
    (1 + 1/log2 3). At 3: hits at places 1 and 2: recall 2/3. A pair stored twice counts once.
    """
    ranked, held_out = ints(4, 0, 2)[None], items_of([[0, 2, 3]], 5)
    second = 1 / math.log2(3)
    assert_close(method.recall_at_k(ranked, held_out, 2), [1 / 3])
    assert_close(method.recall_at_k(ranked, held_out, 3), [2 / 3])
    assert_close(method.ndcg_at_k(ranked, held_out, 2), [second / (1 + second)])
    assert_close(method.ndcg_at_k(ranked, held_out, 3), [(second + 0.5) / (1.5 + second)])
    twice = sparse.csr_array((np.ones(2), np.array([1, 1]), np.array([0, 2])), shape=(1, 3))
    for metric in (method.recall_at_k, method.ndcg_at_k):
        assert metric(ints(1, 0)[None], twice, 2).tolist() == [1]


def test_triples_lists_and_metrics_refuse_what_does_not_fit() -> None:
    for numbers in [(-1, 5), (5, -1)]:
        assert_refused(r"counts must be at least 0, got .*=-1", sample, [[0]], 2, *numbers, seed=0)
    entities, bias, seen = np.ones((5, 3)), np.ones(5), items_of([[0], []], 3)
    for *arguments, message in [
        (bias[:4], 2, ints(0), r"bias must have shape \(5,\)"),
        (bias, 3, ints(0), r"seen must have shape \(3, 2\)"),
        (bias, 2, ints(2), r"users must be in \[0, 2\)"),
        (bias, 2, ints(-1), r"users must be in \[0, 2\)"),
        (bias, 2, array(0.0), "users must be integers"),
    ]:
        assert_refused(message, method.rank_items, entities, *arguments, seen, 2)
    assert_refused("k must be", method.rank_items, entities, bias, 2, ints(0), seen, -1)
    assert_refused("NaN", method.rank_scores, array([1, np.nan]), 1)
    assert_refused("k must be in", method.rank_scores, array([1, 2]), -1)
    ranked, held_out = np.array([[0, 1], [1, 0]]), items_of([[0], [1]], 3)
    for metric in (method.recall_at_k, method.ndcg_at_k):
        for *arguments, message in [
            (ranked, held_out, 3, r"k must be in \[1, 2\], the length of the lists, got 3"),
            (ranked, held_out, 0, "k must be in"),
            (ranked, items_of([[0], []], 3), 1, "the one in row 1 has none"),
            (ranked, items_of([[0]], 3), 1, r"held_out must have shape \(2, 3\)"),
            (ranked + 2, held_out, 1, "ranked"),
            (ranked - 2, held_out, 1, "ranked"),
        ]:
            assert_refused(message, metric, *arguments)
    assert_refused("at least one user", method.mean_metrics, ranked[:0], held_out[:0], [1])
