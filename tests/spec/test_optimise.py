"""Clipping and Adam."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import scalar
from support.agreement import assert_close, same_bits
from support.strategies import draw_table, read_only, rngs, tables

from c2f_ref.spec import AdamState, Settings, adam_step, clip, start_adam


def test_clip_by_hand() -> None:
    """By value: only the entries beyond 3 change, and each on its own."""
    assert clip(read_only(np.array([[4.0, -3.5, 2.0], [3.0, -0.0, -3.0]])), 3.0).tolist() == [[3, -3, 2], [3, 0, -3]]


@given(tables(), st.floats(0.01, 3))
def test_clip_by_definition(grad, limit) -> None:
    assert np.array_equal(clip(grad, limit), [[min(max(value, -limit), limit) for value in row] for row in grad.tolist()])


@given(tables(), st.floats(0.01, 3))
def test_clip_is_idempotent_odd_and_without_effect_at_infinity(grad, limit) -> None:
    assert same_bits(clip(clip(grad, limit), limit), clip(grad, limit))
    assert same_bits(clip(-grad, limit), -clip(grad, limit))
    assert same_bits(clip(grad, math.inf), grad)


def test_start_adam_is_zero_moments_and_no_step() -> None:
    state = start_adam(read_only(np.ones((2, 3))))
    assert same_bits(state, AdamState(np.zeros((2, 3)), np.zeros((2, 3)), 0))


def test_the_first_step_by_hand() -> None:
    """Corrected moments of the first step are g and g^2, so it moves by lr g / (|g| + epsilon): 0.1 down for 2, 0.1 up for -0.5.

    Moments: 0.1 * 2 and 0.001 * 4; 0.1 * -0.5 and 0.001 * 0.25.
    """
    table, grad = read_only(np.array([1.0, 1.0])), read_only(np.array([2.0, -0.5]))
    moved, state = adam_step(table, grad, start_adam(table), 0.1, Settings())
    assert_close(moved, [1 - 0.2 / (2 + 1e-8), 1 + 0.05 / (0.5 + 1e-8)])
    assert_close(state.first, [0.2, -0.05])
    assert_close(state.second, [0.004, 0.00025])
    assert state.n_steps == 1


def test_the_gradient_is_clipped_before_the_moments() -> None:
    """A gradient of 50 counts as 3: first moment 0.3, second 0.009."""
    _, state = adam_step(np.zeros(1), np.array([50.0]), start_adam(np.zeros(1)), 0.1, Settings())
    assert_close(state.first, [0.3])
    assert_close(state.second, [0.009])


@given(rngs(), st.integers(1, 12), st.sampled_from([(0.9, 0.999, 1e-8, 3.0), (0.5, 0.25, 1e-3, 0.75), (0.0, 0.0, 0.5, math.inf)]))
def test_adam_by_definition_over_many_steps(rng, n_steps, numbers) -> None:
    """Every entry walks the path of the scalar loop, whatever its neighbours do."""
    beta1, beta2, epsilon, limit = numbers
    settings = Settings(adam_beta1=beta1, adam_beta2=beta2, adam_epsilon=epsilon, clip_limit=limit)
    table, lr = draw_table((2, 3), rng), 0.05
    grads = [draw_table((2, 3), rng) * scale for scale in rng.uniform(0.1, 5.0, n_steps)]
    paths = [scalar.adam(table[place], [g[place] for g in grads], lr, *numbers) for place in np.ndindex(2, 3)]
    state = start_adam(table)
    for step, grad in enumerate(grads):
        table, state = (read_only(value) for value in adam_step(table, grad, state, lr, settings))
        assert_close(table.ravel(), [path[step] for path in paths])
    assert state.n_steps == n_steps


@given(tables(), rngs())
def test_an_entry_with_zero_gradient_and_zero_moments_stays_bit_for_bit(table, rng) -> None:
    """As those of E_f in the dead zone have; the others move. The sign of zero stays too."""
    still = rng.random(table.shape) < 0.5
    still.flat[0], still.flat[-1] = True, False
    signed = np.where(rng.random(table.shape) < 0.2, -0.0, table)
    moved, state = read_only(signed), start_adam(table)
    for _ in range(3):
        moved, state = adam_step(moved, np.where(still, 0.0, rng.uniform(0.5, 1.0, table.shape)), state, 0.1, Settings())
    assert np.array_equal(moved[still].view(np.int64), signed[still].view(np.int64))
    assert (moved[~still] != signed[~still]).all()
    assert not state.first[still].any()
    assert not state.second[still].any()


@given(tables())
def test_a_step_is_no_longer_than_the_learning_rate_at_first(table) -> None:
    moved, _ = adam_step(table, 100 * table, start_adam(table), 0.01, Settings())
    assert np.abs(moved - table).max() <= 0.01 * (1 + 1e-12)
    assert (np.sign(table - moved) == np.sign(table)).all()


@pytest.mark.parametrize("n_steps", [0, 10**6])
def test_the_number_of_steps_is_carried_on(n_steps) -> None:
    """After a million steps nothing is left of the correction: lr m / (sqrt(v) + epsilon)."""
    table = np.zeros(1)
    moved, state = adam_step(table, np.array([1.0]), AdamState(np.array([1.0]), np.array([1.0]), n_steps), 0.5, Settings())
    assert state.n_steps == n_steps + 1
    if n_steps:
        assert_close(moved, [-0.5 / (1 + 1e-8)])
