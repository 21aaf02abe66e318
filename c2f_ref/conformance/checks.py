"""When an array is the one that the official code gave."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from ..spec import Float64Array
from ..spec.notation import BoolArray
from .report import Failure
from .vectors import AnyArray

RELATIVE = 1e-10
"""Tolerance of an entry, as a share of the array's largest: thousands of roundings, and far less than any wrong formula."""
RELATIVE_ITERATED = 1e-6
"""The same where an iteration stopped (SparsePCA); and there an entry must also agree to a share of itself,"""
RELATIVE_ENTRY = 1e-3
"""so that a small entry which is wrong by 1 % is seen beside a large one."""


@dataclass(frozen=True)
class Check:
    """An array that an operation gave, beside the one it had to give."""

    operation: str
    """Name of the function under test."""
    file: str
    """Name of the file of known answers."""
    key: str = ""
    """Name of the array."""
    got: Any = None
    """What came: an array or a number, sparse or dense."""
    expected: AnyArray | None = None
    """The known answer, dense; None when the operation failed before it gave one."""
    tied: BoolArray | None = None
    """Where values may have changed places within their row: see `tied_at_cut`."""
    iterated: bool = False
    """Whether the answer is where an iteration stopped."""
    error: str = ""
    """Why nothing came."""

    def judge(self) -> tuple[float, Failure | None]:
        """Largest error as a share of its tolerance, and a failure when that is above 1.

            |got - expected| <= 1e-10 max|expected|
            |got - expected| <= min(1e-6 max|expected|, 1e-3 |expected| + 1e-10 max|expected|), for an iteration

        Edge: where zeros are expected only exact zeros are right; NaN and infinity never are; the share is inf where
        nothing can be compared.
        """
        if self.expected is None:
            return np.inf, Failure(self.file, self.key, self.error)
        got, expected = _as_dense(self.got), np.asarray(self.expected, dtype=np.float64)
        if got is None:
            return np.inf, Failure(self.file, self.key, f"expected numbers, got {type(self.got).__name__}")
        if got.shape != expected.shape:
            return np.inf, Failure(self.file, self.key, f"expected shape {expected.shape}, got {got.shape}")
        if self.tied is not None:
            got, expected = _settle(got, self.tied), _settle(expected, self.tied)
        tolerance = self._tolerance(expected)
        with np.errstate(all="ignore"):
            error = np.abs(got - expected)
            share = np.where(error == 0, 0.0, error / tolerance)
        share[np.isnan(share)] = np.inf
        worst = float(share.max(initial=0.0))
        if worst <= 1:
            return worst, None
        index = tuple(int(i) for i in np.unravel_index(share.argmax(), share.shape))
        numbers = float(expected[index]), float(got[index]), float(tolerance[index])
        return worst, Failure(self.file, self.key, "expected {!r}, got {!r}, allowed {:.1e}".format(*numbers), index, *numbers)

    def _tolerance(self, expected: Float64Array) -> Float64Array:
        size = np.abs(expected)
        largest = size.max(initial=0.0)
        if self.iterated:
            return np.asarray(np.minimum(RELATIVE_ITERATED * largest, RELATIVE_ENTRY * size + RELATIVE * largest))
        return np.full(expected.shape, RELATIVE * largest)


def tied_at_cut(candidates: Float64Array, k: int) -> BoolArray:
    """Which candidates of a top-k are within rounding of the k-th, so that any of them may be the one that is kept.

    Shapes: (n, m), 1 <= k <= m -> (n, m); True at the k-th itself.
    Source: the README beside the files of known answers.
    """
    cut = np.sort(candidates, axis=1)[:, -k, None]
    return np.asarray(np.abs(candidates - cut) <= RELATIVE * np.abs(candidates).max())


def _settle(values: Float64Array, tied: BoolArray) -> Float64Array:
    """Sort what stands on tied places, within its row; all other places keep what they hold."""
    settled = values.copy()
    for row in np.flatnonzero(tied.sum(axis=1) > 1):
        settled[row, tied[row]] = np.sort(values[row, tied[row]])
    return settled


def _as_dense(value: Any) -> Float64Array | None:
    """`value` as an array of float64, or None when it is not one of real numbers."""
    try:
        array = np.asarray(value.toarray() if sparse.issparse(value) else value)
    except ValueError:  # lists of different lengths
        return None
    return array.astype(np.float64) if array.dtype.kind in "fiu" else None
