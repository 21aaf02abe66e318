"""Whether two results agree, within a bound or bit for bit, and draws have their shares."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from c2f_ref.method import MethodError

BOUND = 1e-12
"""Of the largest expected entry. Sums here have fewer than 100 terms of similar size, so they round
by less than 100 * 2^-53 = 1.2e-14."""


def assert_close(actual: Any, expected: Any, bound: float = BOUND, least: float = 0.0) -> None:
    """Raise AssertionError unless shapes agree and errors are at most `bound` times the largest.

    Sparse arrays are compared as dense, tuples part by part, integers exactly. Where 0 is expected
    throughout, only 0 will do, unless `least` says how large the terms are that can cancel.
    """
    if isinstance(expected, tuple):
        assert len(actual) == len(expected)
        for a, e in zip(actual, expected, strict=True):
            assert_close(a, e, bound, least)
        return
    actual, expected = (
        np.asarray(value.toarray() if sparse.issparse(value) else value)
        for value in (actual, expected)
    )
    assert actual.shape == expected.shape
    largest = max(least, float(np.abs(expected).max(initial=0.0)))
    allowed = 0.0 if expected.dtype.kind in "iub" else bound * largest
    errors = np.abs(actual - expected)
    # A NaN is not below anything.
    assert (errors <= allowed).all(), f"off by {errors.max()}, not {allowed}\n{actual}\n{expected}"


def same_bits(actual: Any, expected: Any) -> bool:
    """True for the same numbers, the sign of zero aside, in arrays of one shape and type.

    Tuples, plans and dicts are compared part by part.
    """
    if isinstance(expected, dict):
        return actual.keys() == expected.keys() and all(
            same_bits(actual[key], expected[key]) for key in expected
        )
    if isinstance(expected, tuple):
        return len(actual) == len(expected) and all(map(same_bits, actual, expected))
    if sparse.issparse(expected):
        return actual.nnz == expected.nnz and same_bits(actual.toarray(), expected.toarray())
    if isinstance(expected, (np.ndarray, float, int)):
        actual, expected = np.asarray(actual), np.asarray(expected)
        return actual.dtype == expected.dtype and np.array_equal(actual, expected)
    return bool(actual == expected)


def chi_square(drawn: Any, shares: Mapping[Any, float]) -> float:
    """Sum of (count - expected)^2 / expected over cells of these shares, which must be all."""
    counts = Counter(drawn)
    assert set(counts) <= set(shares)
    unit = counts.total() / sum(shares.values())
    return sum((counts[cell] - unit * s) ** 2 / (unit * s) for cell, s in shares.items())


def assert_refused(
    message: str, function: Callable[..., Any], *given: Any, error: Any = MethodError, **named: Any
) -> None:
    """Raise AssertionError unless a call is refused by such an error with this message."""
    with pytest.raises(error, match=message):
        function(*given, **named)
