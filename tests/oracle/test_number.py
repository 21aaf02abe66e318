"""The arithmetic of the evaluation: bounds hold in any order, derivatives are right, doubt is said.

The pseudo-inverse: the four conditions that define it, its cut, and its bound.
"""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oracle import number
from oracle.number import Number, UndecidedError, dot, exact, gradients, held_to, inverse, total

EPS = {np.float64: 2.0**-52, np.float32: 2.0**-23}
DTYPES = st.sampled_from([np.float64, np.float32])
RNGS = st.integers(0, 2**32 - 1).map(np.random.default_rng)
DOUBLE = 2.0**-52


def singles(rng: np.random.Generator, n: int) -> Any:
    """Numbers of many magnitudes that float32 holds."""
    return (rng.standard_normal(n) * 2.0 ** rng.integers(-8, 9, n)).astype(np.float32)


def assert_within(got: Any, wanted: Number) -> None:
    """Raise AssertionError unless a computed number is inside the bound of its precision."""
    error = abs(Fraction(float(got)) - Fraction(wanted.value))
    assert error <= Fraction(EPS[got.dtype.type] * wanted.error)


@given(RNGS, st.integers(1, 40), DTYPES)
def test_a_sum_of_products_is_within_its_bound_in_any_order(
    rng: np.random.Generator, n: int, dtype: Any
) -> None:
    left, right = singles(rng, n), singles(rng, n)
    with held_to(EPS[dtype]):
        wanted = dot(zip(map(exact, left), map(exact, right), strict=True))
    products = (left.astype(dtype) * right.astype(dtype))[rng.permutation(n)]
    assert_within(np.cumsum(products)[-1], wanted)  # one after the other
    assert_within(products.sum(), wanted)  # in pairs
    assert_within(np.cumsum(products[::-1])[-1], wanted)


@given(RNGS, DTYPES)
def test_every_function_is_within_its_bound(rng: np.random.Generator, dtype: Any) -> None:
    """softplus(tanh(a) b - sqrt(c^2 + d^2)) / (1 + exp(-e)), each step rounded."""
    a, b, c, d, e = (dtype(x) for x in singles(rng, 5))
    with held_to(EPS[dtype]):
        x = [exact(value) for value in (a, b, c, d, e)]
        inner = number.tanh(x[0]) * x[1] - number.root(x[2] * x[2] + x[3] * x[3])
        wanted = number.softplus(inner) * number.sigmoid(x[4])
        quotient = number.softplus(inner) / (exact(1) + number.exp(exact(0) - x[4]))
    with np.errstate(over="ignore"):
        computed = np.logaddexp(dtype(0), np.tanh(a) * b - np.sqrt(c * c + d * d))
        computed = computed / (dtype(1) + np.exp(-e))
    if np.finfo(dtype).tiny < abs(computed) < 1e30:  # nothing underflows
        assert_within(computed, wanted)
        assert_within(computed, quotient)


def test_values_are_right_to_30_digits() -> None:
    """By other formulas: tanh 1 = (e^2 - 1) / (e^2 + 1), softplus(-3) = ln(1 + e^-3)."""
    with held_to(DOUBLE):
        square = Decimal(2).exp()
        pairs = [
            (number.tanh(exact(1)).value, (square - 1) / (square + 1)),
            (number.softplus(exact(-3)).value, (1 + Decimal(-3).exp()).ln()),
            (number.softplus(exact(1000)).value, Decimal(1000)),
            (number.sigmoid(exact(-800)).value, Decimal(-800).exp()),
            (number.root(exact(2)).value ** 2, Decimal(2)),
            ((exact(1) / exact(3)).value * 3, Decimal(1)),
        ]
    for got, wanted in pairs:
        assert abs(got - wanted) <= abs(wanted) * Decimal("1e-30")


@given(RNGS)
def test_gradients_are_difference_quotients_of_50_digits(rng: np.random.Generator) -> None:
    """A function of everything; a step of 1e-16 in 50 digits leaves an error near 1e-30."""
    start = [Decimal(float(x)) for x in rng.uniform(0.5, 2.0, 4)]

    def function(values: list[Number]) -> Number:
        a, b, c, d = values
        first = dot([(a, b), (number.tanh(c), d)])
        loss = number.softplus(first - number.settled(total([a, c, d]))) * (a / (b + exact(3)))
        return loss + number.soft(c, 0.25) * d

    with held_to(DOUBLE):
        variables = [Number(value, abs(float(value)), 0.0, ()) for value in start]
        grads = gradients([(function(variables), exact(1))], variables)
        step = Decimal("1e-16")
        for place, grad in enumerate(grads):
            ends = []
            for sign in (1, -1):
                moved = [value + sign * step * (n == place) for n, value in enumerate(start)]
                ends.append(function([Number(value, 1.0, 0.0) for value in moved]).value)
            quotient = (ends[0] - ends[1]) / (2 * step)
            assert abs(grad.value - quotient) <= Decimal("1e-25") * (1 + abs(quotient))


def test_what_nothing_flows_through_has_an_exact_gradient_of_0() -> None:
    with held_to(DOUBLE):
        asleep, awake = (Number(Decimal(x), x, 0.0, ()) for x in (0.25, 0.75))
        outputs = [(number.soft(x, 0.5), exact(3)) for x in (asleep, awake)]
        grads = gradients(outputs, [asleep, awake])
    assert (grads[0].value, grads[0].error, grads[1].value) == (0, 0, 3)


def test_a_settled_number_forgets_the_terms_it_is_made_of_and_keeps_its_error() -> None:
    with held_to(DOUBLE):
        difference = exact(1000) - exact(999)
        settled = number.settled(difference)
    assert (difference.size, settled.size) == (1999, 1)
    assert settled.error == difference.error >= 1999


def test_where_rounding_decides_there_is_no_answer() -> None:
    for undecided in (
        lambda: number.root(exact(1) / exact(3) - exact(1) / exact(3)),
        lambda: exact(1) / (number.tanh(exact(1)) - number.tanh(exact(1))),
        lambda: number.soft(exact(1) / exact(4), 0.25),
        lambda: number.clip(exact(1) / exact(-4), 0.25),
        lambda: inverse(table_of(np.diag([4.0, 2.0, 1.0])), 0.25),
        lambda: inverse(table_of(np.diag([1.0, 3 * DOUBLE])), None),
    ):
        with held_to(DOUBLE), pytest.raises(UndecidedError):
            undecided()


def test_a_given_number_at_the_threshold_is_decided() -> None:
    with held_to(DOUBLE):
        assert number.soft(exact(0.25), 0.25).is_zero
        assert number.soft(exact(-0.5), 0.25).value == Decimal("-0.25")
        assert number.clip(exact(-0.25), 0.25).value == Decimal("-0.25")
        assert number.soft(exact(7), math.inf).is_zero


def table_of(values: Any) -> list[list[Number]]:
    return [[exact(value) for value in row] for row in values.tolist()]


def inverse_of(values: Any, rtol: float | None = None) -> tuple[Any, float]:
    """Values as Decimal in an object array, and the error that they share."""
    with held_to(DOUBLE):
        result = inverse(table_of(values), rtol)
    return np.array([[x.value for x in row] for row in result]), result[0][0].error


@given(RNGS, st.sampled_from([(4, 3), (3, 5), (6, 2), (1, 4)]), st.integers(1, 3))
def test_the_conditions_of_moore_and_penrose_hold_for_any_rank(
    rng: np.random.Generator, shape: tuple[int, int], rank: int
) -> None:
    """Small whole numbers, so that a low rank is exact; zeros give zeros."""
    values = rng.integers(-3, 4, (shape[0], rank)) @ rng.integers(-3, 4, (rank, shape[1]))
    a, x = np.vectorize(Decimal, otypes=[object])(values), inverse_of(values.astype(float))[0]
    with held_to(DOUBLE):
        pairs = [(a @ x @ a, a), (x @ a @ x, x), ((a @ x).T, a @ x), ((x @ a).T, x @ a)]
        for left, right in pairs:
            assert np.abs(left - right).max() < Decimal("1e-30")


def test_a_cut_drops_singular_values_at_or_below_it() -> None:
    for values, rtol, wanted in (
        ([4.0, 2.0, 1.0], 0.3, [0.25, 0.5, 0.0]),
        ([4.0, 2.0, 1.0], 0.2, [0.25, 0.5, 1.0]),
        ([1.0, 20 * DOUBLE], None, [1.0, 1 / (20 * DOUBLE)]),
        ([1.0, DOUBLE / 4], None, [1.0, 0.0]),
    ):
        found = inverse_of(np.diag(values), rtol)[0].astype(float)
        assert found.tolist() == np.diag(wanted).tolist()


@given(RNGS, st.sampled_from([(4, 3), (3, 5)]))
def test_a_table_as_far_off_as_rounding_puts_it_has_an_inverse_within_the_bound(
    rng: np.random.Generator, shape: tuple[int, int]
) -> None:
    """A change of max(n, D) eps of the largest singular value, in any direction."""
    values, change = rng.standard_normal(shape), rng.standard_normal(shape)
    change *= max(shape) * DOUBLE * np.linalg.norm(values, 2) / np.linalg.norm(change, 2)
    (found, error), (moved, _) = inverse_of(values), inverse_of(values + change)
    assert np.abs(moved - found).astype(float).max() <= error * DOUBLE
