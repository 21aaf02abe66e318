"""The pseudo-inverse of the evaluation: the four conditions that define it, its cut, and its bound."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.strategies import rngs

from oracle.inverse import inverse
from oracle.number import UndecidedError, exact, held_to

EPS = 2.0**-52


def table_of(values: Any) -> list[list[Any]]:
    return [[exact(value) for value in row] for row in values.tolist()]


def inverse_of(values: Any, rtol: float | None = None) -> tuple[Any, float]:
    """Values as Decimal in an object array, and the error that they share."""
    with held_to(EPS):
        result = inverse(table_of(values), rtol)
    return np.array([[x.value for x in row] for row in result]), result[0][0].error


@given(rngs(), st.sampled_from([(4, 3), (3, 5), (6, 2), (1, 4)]), st.integers(1, 3))
def test_the_conditions_of_moore_and_penrose_hold_for_any_rank(rng: np.random.Generator, shape: tuple[int, int], rank: int) -> None:
    """Small whole numbers, so that a low rank is exact."""
    values = rng.integers(-3, 4, (shape[0], rank)) @ rng.integers(-3, 4, (rank, shape[1]))
    if not values.any():
        return
    with held_to(EPS):
        given_, found = np.vectorize(Decimal, otypes=[object])(values), inverse_of(values.astype(float))[0]
        for left, right in (
            (given_ @ found @ given_, given_),
            (found @ given_ @ found, found),
            ((given_ @ found).T, given_ @ found),
            ((found @ given_).T, found @ given_),
        ):
            assert np.abs(left - right).max() < Decimal("1e-30")


def test_a_cut_drops_singular_values_at_or_below_it() -> None:
    """Singular values 4, 2, 1: with rtol 0.3 the last, a quarter of the first, counts as 0."""
    values = np.diag([4.0, 2.0, 1.0])
    assert inverse_of(values, 0.3)[0].astype(float).tolist() == np.diag([0.25, 0.5, 0.0]).tolist()
    assert inverse_of(values, 0.2)[0].astype(float).tolist() == np.diag([0.25, 0.5, 1.0]).tolist()
    with pytest.raises(UndecidedError):
        inverse_of(values, 0.25)


def test_the_default_cut_does_not_decide_what_is_near_it() -> None:
    assert float(inverse_of(np.diag([1.0, 20 * EPS]))[0][1, 1]) == 1 / (20 * EPS)
    assert float(inverse_of(np.diag([1.0, EPS / 4]))[0][1, 1]) == 0.0
    with pytest.raises(UndecidedError):
        inverse_of(np.diag([1.0, 3 * EPS]))


def test_zeros_give_zeros() -> None:
    with held_to(EPS):
        assert all(x.is_zero for row in inverse(table_of(np.zeros((2, 3))), None) for x in row)


@given(rngs(), st.sampled_from([(4, 3), (3, 5)]))
def test_a_table_as_far_off_as_rounding_puts_it_has_an_inverse_within_the_bound(
    rng: np.random.Generator, shape: tuple[int, int]
) -> None:
    """A change of max(n, D) eps of the largest singular value, in any direction, before an exact inverse."""
    values = rng.standard_normal(shape)
    found, error = inverse_of(values)
    change = rng.standard_normal(shape)
    change *= max(shape) * EPS * np.linalg.norm(values, 2) / np.linalg.norm(change, 2)
    moved, _ = inverse_of(values + change)
    assert np.abs(moved - found).astype(float).max() <= error * EPS
