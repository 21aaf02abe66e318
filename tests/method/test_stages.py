"""Clipping and Adam; the training loop has tests of its own, in `tests/training`."""

from __future__ import annotations

import numpy as np
from support.agreement import assert_close, assert_refused, same_bits
from support.strategies import array

from c2f_ref.method import AdamState, Settings, adam_step, clip, start_adam


def test_the_first_steps_of_adam_by_hand() -> None:
    """Corrected moments of the first step are g and g^2, so it moves by lr g / (|g| + epsilon).

    Moments: 0.1 * 2 and 0.001 * 4; 0.1 * -0.5 and 0.001 * 0.25. A gradient of 50 counts as 3. After
    a million steps no correction is left: lr m / (sqrt(v) + epsilon).

    With beta1 = 1/2, beta2 = 3/4 and no epsilon to speak of, the gradients 4 and 0 give m = 2, 1
    and v = 4, 3; corrected m / (1/2), m / (3/4) and v / (1/4), v / (7/16), so that the steps are
    4 / 4 and (4/3) / sqrt(48/7).
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
    own = Settings(adam_beta1=0.5, adam_beta2=0.75, adam_epsilon=1e-300, clip_limit=9.0)
    moved, state = adam_step(array(0.0), array(4.0), start_adam(array(0.0)), 1.0, own)
    assert_close(moved, [-1.0])
    moved, state = adam_step(moved, array(0.0), state, 1.0, own)
    assert_close(state, (np.array([1.0]), np.array([3.0]), 2))
    assert_close(moved, [-1.0 - (4 / 3) / np.sqrt(48 / 7)])


def test_a_step_refuses_a_gradient_and_a_state_of_another_table() -> None:
    table, other, own = np.ones((4, 6)), np.ones((1, 6)), Settings()
    message = "grad must have shape"
    assert_refused(message, adam_step, table, other, start_adam(table), 0.1, own)
    message = "first moment must have shape"
    assert_refused(message, adam_step, table, table, start_adam(other), 0.1, own)
