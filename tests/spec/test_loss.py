"""Scores, the ranking loss and the ego penalty."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import scalar
from support.agreement import assert_by_definition, assert_close, same_bits
from support.gradients import check_vjp, taylor_slope
from support.strategies import draw_table, models, read_only, rngs

from c2f_ref.spec import Triples, bpr_loss, bpr_loss_vjp, ego_penalty, ego_penalty_vjp, score_pairs, score_pairs_vjp


def entities_of(model, rng):
    """Propagated entities for a drawn model."""
    return draw_table((model.n_entities, model.settings.dim), rng)


def score_pair(rng, n):
    """Two read-only lists of n scores."""
    return draw_table((n,), rng), draw_table((n,), rng)


# score_pairs


def test_score_pairs_by_hand() -> None:
    """User 0 = (1, 2) and item 1 = entity 2 = (3, -1): 3 - 2 = 1, with biases 10 and 30 and offset 100 that is 141."""
    entities, bias = read_only(np.array([[1.0, 2], [9, 9], [3, -1]])), read_only(np.array([10.0, 20, 30]))
    assert score_pairs(entities, bias, 100.0, 1, np.array([0]), np.array([1])).tolist() == [141]


@given(models(), rngs())
def test_score_pairs_by_definition(model, rng) -> None:
    users, items, _ = model.triples
    assert_by_definition(score_pairs, scalar.score_pairs, entities_of(model, rng), model.bias, 0.75, model.n_users, users, items)


@given(models(), rngs())
def test_user_bias_and_offset_cancel_in_score_differences(model, rng) -> None:
    entities, (users, positives, negatives) = entities_of(model, rng), model.triples
    shifted = model.bias + np.where(np.arange(model.n_entities) < model.n_users, 5.0, 0.0)
    differences = [
        score_pairs(entities, bias, offset, model.n_users, users, positives)
        - score_pairs(entities, bias, offset, model.n_users, users, negatives)
        for bias, offset in [(model.bias, 0.0), (shifted, 7.0)]
    ]
    assert np.abs(differences[0] - differences[1]).max() <= 100 * np.spacing(np.abs(entities).max() ** 2 * model.settings.dim + 24)


@settings(max_examples=200)
@given(models(), rngs())
def test_pull_back_of_score_pairs(model, rng) -> None:
    """For entities, bias and offset; users and items repeat, so their contributions must be summed."""
    entities, n_users, (users, items, _) = entities_of(model, rng), model.n_users, model.triples
    check_vjp(
        lambda table, bias, offset: score_pairs(table, bias, offset, n_users, users, items),
        lambda grad: score_pairs_vjp(entities, model.bias, 0.5, n_users, users, items, grad),
        [entities, model.bias, 0.5],
        rng,
    )
    grad = draw_table(users.shape, rng)
    slope = taylor_slope(
        lambda table, bias: float((grad * score_pairs(table, bias, 0.5, n_users, users, items)).sum()),
        score_pairs_vjp(entities, model.bias, 0.5, n_users, users, items, grad)[:2],
        [entities, model.bias],
        rng,
    )
    assert slope >= 1.9


def test_an_entity_in_several_pairs_gets_the_sum() -> None:
    """User (2) meets items (3) and (5) with gradients 1 and 10: 3 + 50 for the user, 2 and 20 for the items."""
    entities, bias = np.array([[2.0], [3.0], [5.0]]), np.zeros(3)
    grads = score_pairs_vjp(entities, bias, 0.0, 1, np.array([0, 0]), np.array([0, 1]), np.array([1.0, 10.0]))
    assert grads[0].tolist() == [[53], [2], [20]]
    assert grads[1].tolist() == [11, 1, 10]
    assert grads[2] == 11


# bpr_loss


def test_bpr_loss_by_hand() -> None:
    """A lead of log 3 costs log(1 + 1/3), a lag of log 3 costs log(1 + 3): their mean is log(16/3) / 2."""
    lead = read_only(np.array([math.log(3), 0.0]))
    assert bpr_loss(lead, lead[::-1]) == pytest.approx(math.log(16 / 3) / 2, rel=1e-15)


@given(rngs(), st.integers(1, 9))
def test_bpr_loss_by_definition(rng, n) -> None:
    assert_by_definition(bpr_loss, scalar.bpr_loss, *score_pair(rng, n))


@given(rngs(), st.integers(1, 9))
def test_bpr_loss_is_log_two_at_equal_scores(rng, n) -> None:
    scores, _ = score_pair(rng, n)
    assert bpr_loss(scores, scores) == pytest.approx(math.log(2), rel=1e-15)
    assert_close(bpr_loss_vjp(scores, scores, 1.0), (np.full(n, -0.5 / n), np.full(n, 0.5 / n)))


@pytest.mark.parametrize("size", [1e4, 1e308])
def test_bpr_loss_and_its_pull_back_are_finite_at_far_scores(size) -> None:
    """A lag of z costs z, a lead of z costs exp(-z) = 0; the slopes are 1 and 0."""
    ahead, behind = read_only(np.array([size])), read_only(np.array([0.0]))
    assert bpr_loss(behind, ahead) == size
    assert bpr_loss(ahead, behind) == 0.0
    assert same_bits(bpr_loss_vjp(behind, ahead, 1.0), (np.array([-1.0]), np.array([1.0])))
    assert same_bits(bpr_loss_vjp(ahead, behind, 1.0), (np.array([0.0]), np.array([0.0])))


def test_a_small_loss_keeps_its_digits() -> None:
    """Of a lead of 40 the loss is exp(-40) to 17 digits, where log(1 + exp(-40)) computed as written gives 0."""
    assert bpr_loss(np.array([40.0]), np.array([0.0])) == pytest.approx(math.exp(-40), rel=1e-14)


@given(rngs(), st.integers(2, 9))
def test_bpr_loss_falls_with_the_lead_and_ignores_a_common_shift(rng, n) -> None:
    positive, negative = score_pair(rng, n)
    assert bpr_loss(positive + 0.5, negative) < bpr_loss(positive, negative)
    assert bpr_loss(positive + 8.0, negative + 8.0) == pytest.approx(bpr_loss(positive, negative), rel=1e-13)


@settings(max_examples=200)
@given(rngs(), st.integers(1, 9))
def test_pull_back_of_bpr_loss(rng, n) -> None:
    positive, negative = score_pair(rng, n)
    check_vjp(bpr_loss, lambda grad: bpr_loss_vjp(positive, negative, grad), [positive, negative], rng)
    grads = bpr_loss_vjp(positive, negative, 1.0)
    assert same_bits(grads[0], -grads[1])
    assert taylor_slope(bpr_loss, grads, [positive, negative], rng) >= 1.9


def test_a_batch_of_no_triples_has_no_loss_and_no_gradient() -> None:
    empty = np.zeros(0)
    assert bpr_loss(empty, empty) == 0.0
    assert [grad.shape for grad in bpr_loss_vjp(empty, empty, 1.0)] == [(0,), (0,)]


# ego_penalty


def test_ego_penalty_by_hand() -> None:
    """User (1, 2), items (3, 0) and (0, 1), triples (0, 0, 1) twice: 2 (5 + 9 + 1) weight / 2 = 15 weight."""
    ego = read_only(np.array([[1.0, 2], [3, 0], [0, 1]]))
    triples = read_only(Triples(np.array([0, 0]), np.array([0, 0]), np.array([1, 1])))
    assert ego_penalty(ego, 1, triples, 0.5) == 7.5
    assert ego_penalty_vjp(ego, 1, triples, 0.5, 1.0).tolist() == [[1, 2], [3, 0], [0, 1]]


@given(models(), rngs())
def test_ego_penalty_by_definition(model, rng) -> None:
    assert_by_definition(ego_penalty, scalar.ego_penalty, entities_of(model, rng), model.n_users, model.triples, 0.3)


@given(models(), rngs())
def test_ego_penalty_follows_eulers_identity(model, rng) -> None:
    """Of degree two in the rows: <grad, X> = 2 penalty."""
    ego = entities_of(model, rng)
    pulled = ego_penalty_vjp(ego, model.n_users, model.triples, 0.3, 1.0)
    assert (pulled * ego).sum() == pytest.approx(2 * ego_penalty(ego, model.n_users, model.triples, 0.3), rel=1e-13)


@settings(max_examples=200)
@given(models(), rngs())
def test_pull_back_of_ego_penalty(model, rng) -> None:
    """Entities outside the batch have gradient 0, exactly."""
    ego, n_users, triples = entities_of(model, rng), model.n_users, model.triples
    check_vjp(
        lambda table: ego_penalty(table, n_users, triples, 0.3),
        lambda grad: ego_penalty_vjp(ego, n_users, triples, 0.3, grad),
        [ego],
        rng,
        n_entries=0,
    )
    pulled = ego_penalty_vjp(ego, n_users, triples, 0.3, 1.0)
    inside = np.concatenate([triples.users, n_users + triples.positives, n_users + triples.negatives])
    assert not np.delete(pulled, inside, axis=0).any()
    assert taylor_slope(lambda table: ego_penalty(table, n_users, triples, 0.3), [pulled], [ego], rng) >= 1.9


def test_the_penalty_of_no_triples_is_nothing() -> None:
    none = Triples(*(np.zeros(0, dtype=np.int64) for _ in range(3)))
    assert ego_penalty(np.ones((3, 2)), 1, none, 0.5) == 0.0
    assert not ego_penalty_vjp(np.ones((3, 2)), 1, none, 0.5, 1.0).any()
