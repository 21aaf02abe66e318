"""When results are right: one function for each comparator, `judge` chooses.

No tolerance is set by hand. An entry may be off by eps times the error that its case allows it, where eps is the spacing of floats
at 1 in the coarser of two precisions, that of the numbers given and that of the result; where the case allows none, not at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import sparse

from .cases import Array, Case
from .properties import broken_property
from .report import Failure


class ResultError(ValueError):
    """What came cannot be compared: it has another type, kind or shape."""


def judge(case: Case, results: Sequence[Any]) -> tuple[float, Failure | None]:
    """Largest error as a share of what is allowed, and a failure when that is above 1 or the results are of another form."""
    name = f"{case.name}, {case.dtype}"
    try:
        if case.comparator == "drawn":
            broken = broken_property(case, results)
            return (np.inf, Failure(name, "", broken)) if broken else (0.0, None)
        if len(results) != len(case.expected):
            raise ResultError(f"expected {len(case.expected)} results ({', '.join(case.expected)}), got {len(results)}")
        if case.comparator == "ranked":
            return _ranked(name, case, *results)
        worst, first = 0.0, None
        for (key, expected), got in zip(case.expected.items(), results, strict=True):
            share, failure = _entries(name, case, key, expected, got)
            worst, first = max(worst, share), first or failure
        return worst, first
    except ResultError as error:
        return np.inf, Failure(name, "", str(error))


def _entries(name: str, case: Case, key: str, expected: Any, got: Any) -> tuple[float, Failure | None]:
    """Entry by entry; a sparse result is compared as the dense array that it stands for."""
    _require_form(key, expected, got)
    if sparse.issparse(expected):
        return _sparse_entries(name, key, expected, got)
    kept = case.comparator == "kept" and key == "assignment"
    eps = _eps(case, got)
    got = np.asarray(got.toarray() if sparse.issparse(got) else got).astype(np.float64 if _kind(expected) == "f" else np.int64)
    if kept:
        expected, allowed = _nearest_choice(case, got, eps)
    else:
        allowed = _margin(case.allowed.get(key, np.zeros(np.shape(expected))), eps)
    return compare(name, key, np.asarray(expected), got, allowed)


def compare(name: str, key: str, expected: Array, got: Array, allowed: Array) -> tuple[float, Failure | None]:
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
    index = tuple(int(i) for i in np.unravel_index(share.argmax(), share.shape))
    numbers = expected[index].item(), got[index].item(), float(allowed[index])
    return worst, Failure(name, key, "expected {!r}, got {!r}, allowed {:.1e}".format(*numbers), index, *numbers)


def _sparse_entries(name: str, key: str, expected: sparse.csr_array, got: Any) -> tuple[float, Failure | None]:
    """Exactly, and without making the places of a large matrix."""
    difference = (sparse.csr_array(got) != expected).tocoo()
    if difference.nnz == 0:
        return 0.0, None
    index = int(difference.row[0]), int(difference.col[0])
    numbers = float(expected[index]), float(sparse.csr_array(got)[index]), 0.0
    return np.inf, Failure(name, key, "expected {!r}, got {!r}, allowed {:.1e}".format(*numbers), index, *numbers)


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


def _ranked(name: str, case: Case, items: Any, scores: Any) -> tuple[float, Failure | None]:
    """Lists of the best: each place holds the best of what is left, as far as rounding can tell, with its score."""
    for key, got in (("items", items), ("scores", scores)):
        _require_form(key, case.expected[key], got)
    items, eps = np.asarray(items), _eps(case, scores)
    candidates, margin = case.allowed["candidates"], _margin(case.allowed["errors"], eps)
    expected, allowed = np.full(items.shape, -np.inf), np.zeros(items.shape)
    for row, places in enumerate(items.tolist()):
        low, high = candidates[row] - margin[row], candidates[row] + margin[row]
        left = candidates[row] > -np.inf
        for place, item in enumerate(places):
            index = (row, place)
            if item == -1 and not left.any():
                continue
            if not 0 <= item < left.size or not left[item]:
                wanted = int(case.expected["items"][index])
                reason = f"expected item {wanted}, got {item}, which is no item, seen, or in the list already"
                return np.inf, Failure(name, "items", reason, index, wanted, item)
            best = np.where(left, low, -np.inf).argmax()
            if high[item] < low[best]:
                reason = f"expected item {best} or one that scores as much, got {item}"
                return np.inf, Failure(name, "items", reason, index, int(best), item)
            expected[index], allowed[index] = candidates[row, item], margin[row, item]
            left[item] = False
    return compare(name, "scores", expected, np.asarray(scores, dtype=np.float64), allowed)


def _require_form(key: str, expected: Any, got: Any) -> None:
    kind, shape = _kind(expected), np.shape(expected) if not sparse.issparse(expected) else expected.shape
    try:
        form = got if sparse.issparse(got) else np.asarray(got)
        found = form.dtype
    except Exception as error:  # whatever someone's type raises when it is asked for its numbers
        raise ResultError(f"{key}: expected numbers, got {type(got).__name__}: {error}") from error
    wanted = "int" if kind == "i" else "float32 or float64"
    if not (found.kind in "iu" if kind == "i" else found.kind in "iu" or (found.kind == "f" and found.itemsize >= 4)):
        raise ResultError(f"{key}: expected dtype {wanted}, got {found}")
    if form.shape != shape:
        raise ResultError(f"{key}: expected shape {shape}, got {form.shape}")


def _kind(expected: Any) -> str:
    return "i" if getattr(expected, "dtype", np.asarray(expected).dtype).kind in "iu" else "f"


def _eps(case: Case, got: Any) -> float:
    """Spacing of floats at 1 in the precision of the numbers given, or of the result if that is coarser."""
    found = got.dtype if sparse.issparse(got) else np.asarray(got).dtype
    return max(float(np.finfo(dtype).eps) for dtype in (case.dtype, found) if np.dtype(dtype).kind == "f")


def _margin(errors: Array, eps: float) -> Array:
    """What rounding allows; and the smallest normal number where it allows anything, since programs may take less for 0."""
    smallest = np.finfo(np.float32 if eps > 1e-10 else np.float64).tiny
    return np.asarray(np.where(errors > 0, eps * errors.astype(np.float64) + smallest, 0.0))
