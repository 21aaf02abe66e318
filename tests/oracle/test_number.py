"""The arithmetic of the evaluation: its bounds hold for floating point in any order, its derivatives are right, and it says when it
cannot decide.
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
from support.strategies import rngs

from oracle import number
from oracle.number import Number, UndecidedError, dot, exact, gradients, held_to, total, variable

EPS = {np.float64: 2.0**-52, np.float32: 2.0**-23}
DTYPES = st.sampled_from([np.float64, np.float32])


def singles(rng: np.random.Generator, n: int) -> Any:
    """Numbers of many magnitudes that float32 holds."""
    return (rng.standard_normal(n) * 2.0 ** rng.integers(-8, 9, n)).astype(np.float32)


def assert_within(got: Any, wanted: Number) -> None:
    """Raise AssertionError unless a computed number is inside the bound of its precision."""
    assert abs(Fraction(float(got)) - Fraction(wanted.value)) <= Fraction(EPS[got.dtype.type] * wanted.error)


@given(rngs(), st.integers(1, 40), DTYPES)
def test_a_sum_of_products_is_within_its_bound_in_any_order(rng: np.random.Generator, n: int, dtype: Any) -> None:
    left, right = singles(rng, n), singles(rng, n)
    with held_to(EPS[dtype]):
        wanted = dot(zip(map(exact, left), map(exact, right), strict=True))
    products = (left.astype(dtype) * right.astype(dtype))[rng.permutation(n)]
    assert_within(np.cumsum(products)[-1], wanted)  # one after the other
    assert_within(products.sum(), wanted)  # in pairs
    assert_within(np.cumsum(np.sort(np.abs(products)))[-1] if (products > 0).all() else products[::-1].sum(), wanted)


@given(rngs(), DTYPES)
def test_a_chain_of_every_function_is_within_its_bound(rng: np.random.Generator, dtype: Any) -> None:
    """softplus(tanh(a) b - sqrt(c^2 + d^2)) / (1 + exp(-e)), each step rounded."""
    a, b, c, d, e = (dtype(x) for x in singles(rng, 5))
    with held_to(EPS[dtype]):
        x = [exact(value) for value in (a, b, c, d, e)]
        inner = number.tanh(x[0]) * x[1] - number.root(x[2] * x[2] + x[3] * x[3])
        wanted = number.softplus(inner) * number.sigmoid(x[4])
        quotient = number.softplus(inner) / (exact(1) + number.exp(exact(0) - x[4]))
    with np.errstate(over="ignore"):
        computed = np.logaddexp(dtype(0), np.tanh(a) * b - np.sqrt(c * c + d * d)) / (dtype(1) + np.exp(-e))
    if np.finfo(dtype).tiny < abs(computed) < 1e30:  # nothing underflows
        assert_within(computed, wanted)
        assert_within(computed, quotient)


def test_values_are_right_to_30_digits() -> None:
    """By other formulas of the decimal module: tanh 1 = (e^2 - 1) / (e^2 + 1), softplus(-3) = ln(1 + e^-3)."""
    with held_to(2.0**-52):
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


@given(rngs())
def test_gradients_are_difference_quotients_of_50_digits(rng: np.random.Generator) -> None:
    """A function of everything; a step of 1e-16 in 50 digits leaves an error near 1e-30."""
    start = [Decimal(float(x)) for x in rng.uniform(0.5, 2.0, 4)]

    def function(values: list[Number]) -> Number:
        a, b, c, d = values
        first = dot([(a, b), (number.tanh(c), d)])
        return number.softplus(first - number.settled(total([a, c, d]))) * (a / (b + exact(3))) + number.soft(c, 0.25) * d

    with held_to(2.0**-52):
        variables = [variable(0) for _ in start]
        for own, value in zip(variables, start, strict=True):
            own.value, own.size = value, abs(float(value))
        grads = gradients([(function(variables), exact(1))], variables)
        step = Decimal("1e-16")
        for place in range(4):
            ends = []
            for sign in (1, -1):
                moved = [Number(value + sign * step * (n == place), 1.0, 0.0) for n, value in enumerate(start)]
                ends.append(function(moved).value)
            quotient = (ends[0] - ends[1]) / (2 * step)
            assert abs(grads[place].value - quotient) <= Decimal("1e-25") * (1 + abs(quotient))


def test_what_nothing_flows_through_has_an_exact_gradient_of_0() -> None:
    with held_to(2.0**-52):
        asleep, awake = variable(0.25), variable(0.75)
        grads = gradients([(number.soft(x, 0.5), exact(3)) for x in (asleep, awake)], [asleep, awake])
    assert (grads[0].value, grads[0].error) == (0, 0)
    assert grads[1].value == 3


def test_a_settled_number_forgets_the_terms_it_is_made_of_and_keeps_its_error() -> None:
    with held_to(2.0**-52):
        difference = exact(1000) - exact(999)
        settled = number.settled(difference)
    assert (difference.size, settled.size) == (1999, 1)
    assert settled.error == difference.error >= 1999


@pytest.mark.parametrize(
    "undecided",
    [
        lambda: number.root(exact(1) / exact(3) - exact(1) / exact(3)),
        lambda: exact(1) / (number.tanh(exact(1)) - number.tanh(exact(1))),
        lambda: number.soft(exact(1) / exact(4), 0.25),
        lambda: number.clip(exact(1) / exact(-4), 0.25),
    ],
)
def test_where_rounding_decides_there_is_no_answer(undecided: Any) -> None:
    with held_to(2.0**-52), pytest.raises(UndecidedError):
        undecided()


def test_a_given_number_at_the_threshold_is_decided() -> None:
    with held_to(2.0**-52):
        assert number.soft(exact(0.25), 0.25).is_zero
        assert number.soft(exact(-0.5), 0.25).value == Decimal("-0.25")
        assert number.clip(exact(-0.25), 0.25).value == Decimal("-0.25")
        assert number.soft(exact(7), math.inf).is_zero
