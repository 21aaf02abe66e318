"""Holds a function of the specification against its definition in scalar loops."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import sparse

BOUND = 1e-12
"""Of the largest expected entry. Sums here have fewer than 100 terms of similar size, so they round by less
than 100 * 2^-53 = 1.2e-14."""


def assert_close(actual: Any, expected: Any, bound: float = BOUND, least: float = 0.0) -> None:
    """Raise AssertionError unless shapes agree and no entry is off by more than `bound` times the largest expected one.

    Sparse arrays are compared as dense, tuples entry by entry, integers exactly. Where 0 is expected throughout, only 0 will do,
    unless `least` says how large the terms are that can cancel: entries count as at least so large.
    """
    if isinstance(expected, tuple):
        if len(actual) != len(expected):
            raise AssertionError(f"expected {len(expected)} results, got {len(actual)}")
        for a, e in zip(actual, expected, strict=True):
            assert_close(a, e, bound, least)
        return
    actual, expected = as_dense(actual), as_dense(expected)
    if actual.shape != expected.shape:
        raise AssertionError(f"expected shape {expected.shape}, got {actual.shape}")
    if expected.size == 0:
        return
    exact = expected.dtype.kind in "iub"
    allowed = 0.0 if exact else bound * max(least, float(np.abs(expected).max()))
    errors = np.abs(actual - expected)
    if not (errors <= allowed).all():  # a NaN is not below anything
        raise AssertionError(f"off by {np.max(errors)!r}, allowed {allowed!r}\nactual {actual!r}\nexpected {expected!r}")


def assert_by_definition(function: Callable[..., Any], definition: Callable[..., Any], *arguments: Any, **options: Any) -> None:
    """`assert_close` on the same arguments; refuses a definition that is the function, or comes from the package under test."""
    if definition is function or (definition.__module__ or "").startswith("c2f_ref"):
        raise AssertionError(f"{definition} is the code under test: it cannot define what is right")
    assert_close(function(*arguments), definition(*arguments), **options)


def same_bits(actual: Any, expected: Any) -> bool:
    """True for the same numbers, the sign of zero aside, in arrays of one shape and type, or in tuples, plans and dicts of them."""
    if isinstance(expected, dict):
        return set(actual) == set(expected) and all(same_bits(actual[key], expected[key]) for key in expected)
    if isinstance(expected, tuple):
        return len(actual) == len(expected) and all(same_bits(a, e) for a, e in zip(actual, expected, strict=True))
    if sparse.issparse(expected):
        return actual.nnz == expected.nnz and same_bits(actual.toarray(), expected.toarray())
    if isinstance(expected, (np.ndarray, float, int)):
        actual, expected = np.asarray(actual), np.asarray(expected)
        return actual.dtype == expected.dtype and np.array_equal(actual, expected)
    return bool(actual == expected)


def as_dense(value: Any) -> np.ndarray[Any, Any]:
    """An ordinary array of a dense or sparse array or a list."""
    return np.asarray(value.toarray() if sparse.issparse(value) else value)
