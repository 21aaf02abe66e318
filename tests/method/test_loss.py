"""Scores, the ranking loss and the ego penalty."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from support.agreement import same_bits
from support.strategies import array, draw_table, ints, models, rngs

from c2f_ref import method
from c2f_ref.method import Triples, bpr_loss, bpr_loss_vjp, score_pairs


def test_score_pairs_by_hand() -> None:
    """User 0 = (1, 2), item 1 = entity 2 = (3, -1): 3 - 2, biases 10 and 30, offset 100: 141.

    Backwards: user (2) meets items (3) and (5) with gradients 1 and 10: 3 + 50, and 2 and 20.
    """
    entities, (bias,) = array([1, 2], [9, 9], [3, -1]), array([10, 20, 30])
    assert score_pairs(entities, bias, 100.0, 1, ints(0), ints(1)).tolist() == [141]
    pairs = array([2], [3], [5]), bias, 0.0, 1, ints(0, 0), ints(0, 1)
    grads = method.score_pairs_vjp(*pairs, array(1, 10))
    assert [np.ravel(grad).tolist() for grad in grads] == [[53, 2, 20], [11, 1, 10], [11]]


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
    assert bpr_loss(lead, lead[::-1]) == pytest.approx(math.log(16 / 3) / 2, rel=1e-15)
    assert bpr_loss(lead, lead) == pytest.approx(math.log(2), rel=1e-15)
    assert same_bits(bpr_loss_vjp(lead, lead, 1.0), (np.full(2, -0.25), np.full(2, 0.25)))


@pytest.mark.parametrize("size", [1e4, 1e308])
def test_bpr_loss_and_its_pull_back_are_right_at_far_scores(size) -> None:
    """A lag of z costs z, a lead of z costs exp(-z) = 0; the slopes are 1 and 0. A lead of 40 costs
    exp(-40) to 17 digits; log(1 + exp(-40)) as written gives 0.
    """
    ahead, behind = array(size), array(0.0)
    assert bpr_loss(behind, ahead) == size
    assert bpr_loss(ahead, behind) == 0.0
    assert same_bits(bpr_loss_vjp(behind, ahead, 1.0), (np.array([-1.0]), np.array([1.0])))
    assert same_bits(bpr_loss_vjp(ahead, behind, 1.0), (np.array([0.0]), np.array([0.0])))
    assert bpr_loss(array(40.0), behind) == pytest.approx(math.exp(-40), rel=1e-14)


def test_ego_penalty_by_hand() -> None:
    """User (1, 2), items (3, 0) and (0, 1), triples (0, 0, 1) twice: 2 (5 + 9 + 1) weight / 2."""
    ego, triples = array([1, 2], [3, 0], [0, 1]), Triples(ints(0, 0), ints(0, 0), ints(1, 1))
    assert method.ego_penalty(ego, 1, triples, 0.5) == 7.5
    grad = method.ego_penalty_vjp(ego, 1, triples, 0.5, 1.0)
    assert grad.tolist() == [[1, 2], [3, 0], [0, 1]]
