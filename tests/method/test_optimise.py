"""Clipping and Adam."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from support.agreement import assert_close, same_bits
from support.strategies import array, draw_table, read_only, rngs

from c2f_ref.method import AdamState, Settings, adam_step, clip, start_adam


def test_the_first_step_by_hand() -> None:
    """Corrected moments of the first step are g and g^2, so it moves by lr g / (|g| + epsilon).

    Moments: 0.1 * 2 and 0.001 * 4; 0.1 * -0.5 and 0.001 * 0.25. A gradient of 50 counts as 3. After
    a million steps no correction is left: lr m / (sqrt(v) + epsilon).
    """
    assert clip(array(4.0, -3.5, 2.0, -3.0), 3.0).tolist() == [3, -3, 2, -3]
    table, grad = array(1.0, 1.0), array(2.0, -0.5)
    assert same_bits(start_adam(table), AdamState(np.zeros(2), np.zeros(2), 0))
    moved, state = adam_step(table, grad, start_adam(table), 0.1, Settings())
    assert_close(moved, [1 - 0.2 / (2 + 1e-8), 1 + 0.05 / (0.5 + 1e-8)])
    assert_close(state, (np.array([0.2, -0.05]), np.array([0.004, 0.00025]), 1))
    _, clipped = adam_step(array(0.0), array(50.0), start_adam(array(0.0)), 0.1, Settings())
    assert_close(clipped, (np.array([0.3]), np.array([0.009]), 1))
    late = AdamState(array(1.0), array(1.0), 10**6)
    moved, late = adam_step(array(0.0), array(1.0), late, 0.5, Settings())
    assert_close(moved, [-0.5 / (1 + 1e-8)])
    assert late.n_steps == 10**6 + 1


def path(start: float, grads: list[float], lr: float, numbers: tuple[float, ...]) -> list[float]:
    """The path of one number under Adam, algorithm 1 of the paper, on clipped gradients."""
    beta1, beta2, epsilon, limit = numbers
    value, first, second, walked = start, 0.0, 0.0, []
    for n_steps, raw in enumerate(grads, start=1):
        grad = min(max(raw, -limit), limit)
        first = beta1 * first + (1 - beta1) * grad
        second = beta2 * second + (1 - beta2) * grad * grad
        spread = math.sqrt(second / (1 - beta2**n_steps)) + epsilon
        value -= lr * first / (1 - beta1**n_steps) / spread
        walked.append(value)
    return walked


@given(
    rngs(),
    st.integers(1, 12),
    st.sampled_from([(0.9, 0.999, 1e-8, 3.0), (0.5, 0.25, 1e-3, 0.75), (0.0, 0.0, 0.5, math.inf)]),
)
def test_adam_by_definition_over_many_steps(rng, n_steps, numbers) -> None:
    """Every entry walks the path of the scalar loop, whatever its neighbours do."""
    names = "adam_beta1", "adam_beta2", "adam_epsilon", "clip_limit"
    settings = Settings(**dict(zip(names, numbers, strict=True)))
    table, lr = draw_table((2, 3), rng), 0.05
    grads = [draw_table((2, 3), rng) * scale for scale in rng.uniform(0.1, 5.0, n_steps)]
    places = list(np.ndindex(2, 3))
    paths = [path(table[place], [g[place] for g in grads], lr, numbers) for place in places]
    state = start_adam(table)
    for step, grad in enumerate(grads):
        table, state = (read_only(value) for value in adam_step(table, grad, state, lr, settings))
        assert_close(table.ravel(), [walked[step] for walked in paths])
    assert state.n_steps == n_steps
