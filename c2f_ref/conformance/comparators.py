"""When results are right: one function for each way to compare, `judge` chooses.

No tolerance of a frozen case is set by hand. An entry may be off by eps times the error that its case allows it, where eps is the
spacing of floats at 1 in the coarser of two precisions, that of the numbers given and that of the result; where the case allows
none, not at all. What the official code recorded says nothing of its rounding: there an entry may be off by a small share of the
largest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import sparse

from .cases import RECORDED, Array, Case
from .properties import broken_property
from .report import Failure

RELATIVE = 1e-10
"""Tolerance of a recorded entry, as a share of its array's largest: thousands of roundings, and far less than any wrong formula."""
RELATIVE_ITERATED = 1e-6
"""The same where an iteration stopped (SparsePCA); and there an entry must also agree to a share of itself,"""
RELATIVE_ENTRY = 1e-3
"""so that a small entry which is wrong by 1 % is seen beside a large one."""


class ResultError(ValueError):
    """What came cannot be compared: it has another type, kind or shape."""


def judge(case: Case, results: Sequence[Any]) -> tuple[float, Failure | None]:
    """Largest error as a share of what is allowed, and a failure when that is above 1 or the results are of another form."""
    try:
        if case.comparator == "raises":
            raise ResultError("expected an error that is a ValueError, got a result")
        if case.comparator == "drawn":
            broken = broken_property(case, results)
            return (np.inf, Failure(case.title, "", broken)) if broken else (0.0, None)
        if len(results) != len(case.expected):
            raise ResultError(f"expected {len(case.expected)} results ({', '.join(case.expected)}), got {len(results)}")
        if case.comparator == "ranked":
            return _ranked(case, *results)
        pairs = zip(case.expected.items(), results, strict=True)
        outcomes = [_entries(case, key, expected, got) for (key, expected), got in pairs if expected is not None]
        return max(share for share, _ in outcomes), next((failure for _, failure in outcomes if failure), None)
    except ResultError as error:
        return np.inf, Failure(case.title, "", str(error))


def compare(case: Case, key: str, expected: Array, got: Array, allowed: Array) -> tuple[float, Failure | None]:
    """Largest |got - expected| as a share of `allowed`, and a failure that names the worst entry when it is above 1.

    Edge: what is infinite must be so on both sides; NaN is never right.
    """
    with np.errstate(all="ignore"):
        error = np.where(got == expected, 0.0, np.abs(got - expected))
        share = np.where(error == 0, 0.0, error / allowed)
    share[~(share >= 0)] = np.inf
    worst = float(share.max(initial=0.0))
    if worst <= 1:
        return worst, None
    index = np.unravel_index(share.argmax(), share.shape)
    return worst, _off(case, key, index, expected[index], got[index], allowed[index])


def _off(case: Case, key: str, index: Sequence[Any], *numbers: Any) -> Failure:
    """The failure of an entry, with what should be there, what is, and how far apart they may be."""
    expected, got, allowed = (np.asarray(number).item() for number in numbers)
    reason = f"expected {expected!r}, got {got!r}, allowed {allowed:.1e}"
    return Failure(case.title, key, reason, tuple(int(i) for i in index), expected, got, allowed)


def _entries(case: Case, key: str, expected: Any, got: Any) -> tuple[float, Failure | None]:
    """Entry by entry; a sparse result is compared as the dense array that it stands for."""
    got = _in_form(key, expected, got)
    if sparse.issparse(expected):  # too large to make all its places
        difference = (sparse.csr_array(got) != expected).tocoo()
        if difference.nnz == 0:
            return 0.0, None
        index = difference.row[0], difference.col[0]
        return np.inf, _off(case, key, index, expected[index], sparse.csr_array(got)[index], 0.0)
    expected, eps = np.asarray(expected), _eps(case, got)
    got = got.astype(np.int64 if expected.dtype.kind in "iu" else np.float64)
    if case.comparator in RECORDED:
        return compare(case, key, *_as_recorded(case, expected, got))
    if case.comparator == "kept":
        expected, allowed = _nearest_choice(case, got, eps)
    else:
        allowed = _margin(case.allowed.get(key, np.zeros(expected.shape)), eps)
    return compare(case, key, expected, got, allowed)


def _as_recorded(case: Case, expected: Array, got: Array) -> tuple[Array, Array, Array]:
    """(expected, got, allowed) of an array that the official code gave.

        |got - expected| <= 1e-10 max|expected|
        |got - expected| <= min(1e-6 max|expected|, 1e-3 |expected| + 1e-10 max|expected|), for an iteration

    Edge: where zeros are expected only exact zeros are right. What is `tied` is compared in the order of its size.
    """
    if case.comparator == "mean":
        got = np.full(got.shape, got.mean())
    expected = expected.copy()
    for row, tied in enumerate(case.allowed.get("tied", ())):
        for table in (expected, got):
            table[row, tied] = np.sort(table[row, tied])
    size = np.abs(expected)
    allowed = np.full(size.shape, RELATIVE * size.max(initial=0.0))
    if case.comparator == "iterated":
        allowed = np.minimum(RELATIVE_ITERATED * size.max(initial=0.0), RELATIVE_ENTRY * size + allowed)
    return expected, got, allowed


def _nearest_choice(case: Case, got: Array, eps: float) -> tuple[Array, Array]:
    """Of all choices of k candidates a row that rounding lets a right program make, the one nearest to `got`: (values, allowed).

    A candidate must be kept when fewer than k others can reach it, and cannot be when k others certainly exceed it.
    Errors: ResultError for a row that keeps more or fewer.
    """
    candidates, margin = case.allowed["candidates"], _margin(case.allowed["errors"], eps)
    n_kept = int(case.allowed["k"])
    low, high = candidates - margin, candidates + margin
    others = ~np.eye(candidates.shape[1], dtype=np.bool_)
    must = ((high[:, None, :] >= low[:, :, None]) & others).sum(axis=2) < n_kept
    may = ((low[:, None, :] > high[:, :, None]) & others).sum(axis=2) < n_kept
    chosen = must | (may & (got != 0))
    # A kept 0 cannot be told from one that was left out.
    spare = may & ~chosen & (np.abs(candidates) <= margin)
    for row, (least, most) in enumerate(zip(chosen.sum(axis=1), (chosen | spare).sum(axis=1), strict=True)):
        if not least <= n_kept <= most:
            raise ResultError(
                f"row {row} must keep {n_kept} of its candidates, the largest, it keeps {np.flatnonzero(got[row]).tolist()}"
            )
    return np.where(chosen, candidates, 0.0), np.where(chosen, margin, 0.0)


def _ranked(case: Case, items: Any, scores: Any) -> tuple[float, Failure | None]:
    """Lists of the best: each place holds the best of what is left, as far as rounding can tell, with its score."""
    items, scores = (_in_form(key, case.expected[key], got) for key, got in (("items", items), ("scores", scores)))
    candidates, margin = case.allowed["candidates"], _margin(case.allowed["errors"], _eps(case, scores))
    low, high = candidates - margin, candidates + margin
    left = candidates > -np.inf
    expected, allowed = np.full(items.shape, -np.inf), np.zeros(items.shape)
    for (row, place), item in np.ndenumerate(items):
        best = int(np.where(left[row], low[row], -np.inf).argmax()) if left[row].any() else -1
        if item == best == -1:
            continue
        is_left = 0 <= item < left.shape[1] and left[row, item]
        if not is_left or high[row, item] < low[row, best]:
            why = "" if is_left else ", which is no item, seen, or in the list already"
            reason = f"expected item {best} or one that scores as much, got {item}{why}"
            return np.inf, Failure(case.title, "items", reason, (row, place), best, int(item))
        expected[row, place], allowed[row, place] = candidates[row, item], margin[row, item]
        left[row, item] = False
    return compare(case, "scores", expected, scores.astype(np.float64), allowed)


def _in_form(key: str, expected: Any, got: Any) -> Any:
    """`got` as an array, or sparse as it is where that is expected.

    Errors: ResultError for another kind of numbers or another shape than what is expected has.
    """
    try:
        got = got if sparse.issparse(got) else np.asarray(got)
    except Exception as error:  # whatever someone's type raises when it is asked for its numbers
        raise ResultError(f"{key}: expected numbers, got {type(got).__name__}: {error}") from error
    expected = expected if sparse.issparse(expected) else np.asarray(expected)
    is_float = expected.dtype.kind == "f"
    if not (got.dtype.kind in "iu" or (is_float and got.dtype.kind == "f" and got.dtype.itemsize >= 4)):
        raise ResultError(f"{key}: expected dtype {'float32 or float64' if is_float else 'int'}, got {got.dtype}")
    if got.shape != expected.shape:
        raise ResultError(f"{key}: expected shape {expected.shape}, got {got.shape}")
    return got.toarray() if sparse.issparse(got) and not sparse.issparse(expected) else got


def _eps(case: Case, got: Any) -> float:
    """Spacing of floats at 1 in the precision of the numbers given, or of the result if that is coarser."""
    return max(float(np.finfo(dtype).eps) for dtype in (np.dtype(case.dtype), got.dtype) if dtype.kind == "f")


def _margin(errors: Array, eps: float) -> Array:
    """What rounding allows; and the smallest normal number where it allows anything, since programs may take less for 0."""
    smallest = np.finfo(np.float32 if eps > 1e-10 else np.float64).tiny
    return np.asarray(np.where(errors > 0, eps * errors.astype(np.float64) + smallest, 0.0))
