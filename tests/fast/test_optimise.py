"""Adam compiled, against the specification: the same bits in float64, one rounding per operation in float32."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.agreement import same_bits

from c2f_ref import fast, spec
from c2f_ref.spec import AdamState, Settings, SpecError

SETTINGS = Settings(clip_limit=1.5)


def drawn(seed: int, shape: tuple[int, ...], dtype: Any) -> tuple[Any, ...]:
    """Table, gradient (some of it beyond the clip limit, some exactly 0) and moments."""
    rng = np.random.default_rng(seed)
    table, grad, first = (rng.standard_normal(shape).astype(dtype) for _ in range(3))
    grad = np.where(rng.random(shape) < 0.3, 0, 2 * grad).astype(dtype)
    second = (rng.random(shape) ** 4).astype(dtype)
    for array in (table, grad, first, second):
        array.flags.writeable = False
    return table, grad, AdamState(first, second, int(rng.integers(0, 5000)))


@given(st.integers(0, 2**32 - 1), st.sampled_from([(7,), (3, 5), (1, 1), (0, 4)]))
def test_a_step_in_float64_has_the_bits_of_the_specification(seed: int, shape: tuple[int, ...]) -> None:
    given_ = drawn(seed, shape, np.float64)
    assert same_bits(fast.adam_step(*given_, 0.01, SETTINGS), spec.adam_step(*given_, 0.01, SETTINGS))


@given(st.integers(0, 2**32 - 1))
def test_a_step_in_float32_is_near_that_of_the_specification(seed: int) -> None:
    """At most 10 roundings lead to the new table; each moves the step, which is at most |table| + |step| large, by eps / 2."""
    table, grad, state = drawn(seed, (6, 4), np.float32)
    wide = AdamState(state.first.astype(np.float64), state.second.astype(np.float64), state.n_steps)
    got, got_state = fast.adam_step(table, grad, state, 0.01, SETTINGS)
    expected, expected_state = spec.adam_step(table.astype(np.float64), grad.astype(np.float64), wide, 0.01, SETTINGS)
    eps = np.finfo(np.float32).eps
    assert {part.dtype for part in (got, got_state.first, got_state.second)} == {np.dtype(np.float32)}
    assert (np.abs(got - expected) <= 10 * eps * (np.abs(table) + np.abs(table - expected))).all()
    terms = np.abs(0.9 * wide.first) + np.abs(0.1 * np.clip(grad, -1.5, 1.5))
    assert (np.abs(got_state.first - expected_state.first) <= 4 * eps * terms).all()
    assert (np.abs(got_state.second - expected_state.second) <= 5 * eps * expected_state.second).all()
    assert got_state.n_steps == state.n_steps + 1


def test_an_entry_without_gradient_and_moments_stays_bit_for_bit() -> None:
    table = np.array([0.1, -0.0, 5e-324], dtype=np.float64)
    stepped, state = fast.adam_step(table, np.zeros(3), spec.start_adam(table), 0.5, SETTINGS)
    assert stepped.tobytes() == table.tobytes()
    assert not state.first.any()
    assert not np.shares_memory(stepped, table)


@pytest.mark.parametrize("which", ["table", "grad", "first moment", "second moment"])
def test_what_does_not_fit_or_is_not_finite_is_refused(which: str) -> None:
    names = ("table", "grad", "first moment", "second moment")
    for wrong, words in ((np.full((2, 3), np.nan), "finite"), (np.zeros((3, 2)), "shape")):
        arrays = [wrong if name == which else np.zeros((2, 3)) for name in names]
        if which == "table" and words == "shape":
            continue  # the table's shape is what the others are held against
        with pytest.raises(SpecError, match=f"{which} must .*{words}"):
            fast.adam_step(arrays[0], arrays[1], AdamState(arrays[2], arrays[3], 0), 0.1, SETTINGS)
