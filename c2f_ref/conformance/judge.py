"""Whether results are right: comparators for numbers, properties for what is drawn at random.

    exact     equal to what is expected, in float32 too
    bounded   |result - expected| <= eps * bound, entry by entry; equal where the bound is 0
    kept      each row keeps its k largest candidates, each within eps * bound, and is 0 elsewhere
    ranked    each row lists its best candidates in falling order, each within eps * bound
    raises    the input is refused
    drawn     the result is random and must have the properties at the end of this page

eps is the spacing of floats at 1 in the coarser of two precisions, that of the inputs and that of
the result. Where candidates differ by less than their bounds, `kept` and `ranked` accept either.
No tolerance of a frozen case is set by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from scipy import sparse

from .cases import Array, Case


class NoAnswer(NamedTuple):
    """Why an implementation gives no results."""

    kind: str
    """missing (no such function), refused (bad input), overdue, or broken."""
    reason: str
    """In words; the name of the function where it is missing."""


Outcome: TypeAlias = tuple[float, str]
"""Largest error as a share of what is allowed; if that is above 1, what is wrong, in words."""


def judge(case: Case, answer: Sequence[Any] | NoAnswer) -> Outcome:
    """Compare all results of a case; the share is infinite where there is nothing to compare."""
    if isinstance(answer, NoAnswer):
        is_right = case.comparator == "raises" and answer.kind == "refused"
        return (0.0, "") if is_right else (np.inf, answer.reason)
    if case.comparator == "raises":
        return np.inf, "expected an error that is a ValueError, got a result"
    if case.comparator == "drawn":
        reason = broken_property(case, answer)
        return np.inf if reason else 0.0, reason
    names, arrays = tuple(case.expected), {}
    if len(answer) != len(names):
        return np.inf, f"expected {len(names)} results ({', '.join(names)}), got {len(answer)}"
    for name, got in zip(names, answer, strict=True):
        arrays[name], reason = in_form(case.expected[name], got)
        if reason:
            return np.inf, f"{name}: {reason}"
    if case.comparator == "ranked":
        return _ranked(case, **arrays)
    compare_one = _kept if case.comparator == "kept" else _entries
    return max(compare_one(case, name, got) for name, got in arrays.items())


def compare(name: str, expected: Array, got: Array, allowed: Array) -> Outcome:
    """Compare entry by entry; the text names the worst entry.

    Edge: an infinite entry must be infinite on both sides; NaN is never right.
    """
    with np.errstate(all="ignore"):
        share = np.where(got == expected, 0.0, np.abs(got - expected) / allowed)
    share[~(share >= 0)] = np.inf
    worst = float(share.max(initial=0.0))
    if worst <= 1:
        return worst, ""
    index = tuple(int(i) for i in np.unravel_index(share.argmax(), share.shape))
    right, wrong, limit = (part[index].item() for part in (expected, got, allowed))
    place = f"{name}{list(index) or ''}"
    return worst, f"{place}: expected {right!r}, got {wrong!r}, allowed {limit:.2g}"


def in_form(expected: Any, got: Any) -> tuple[Any, str]:
    """`got` as an array, sparse where that is expected; or in words why it cannot be compared."""
    try:
        array = got if sparse.issparse(got) else np.asarray(got)
    except Exception as error:  # whatever someone's type raises when it is converted
        return None, f"expected numbers, got {type(got).__name__}: {error}"
    wanted = expected if sparse.issparse(expected) else np.asarray(expected)
    kind, is_float = array.dtype.kind, wanted.dtype.kind == "f"
    if not (kind in "iu" or (is_float and kind == "f" and array.dtype.itemsize >= 4)):
        return None, f"expected {'floats' if is_float else 'integers'}, got {array.dtype}"
    if array.shape != wanted.shape:
        return None, f"expected shape {wanted.shape}, got {array.shape}"
    return (sparse.csr_array if sparse.issparse(expected) else as_dense)(array), ""


def as_dense(value: Any) -> Any:
    """As a dense array."""
    return value.toarray() if sparse.issparse(value) else np.asarray(value)


def _entries(case: Case, name: str, got: Any) -> Outcome:
    expected = case.expected[name]
    if sparse.issparse(expected):  # too large for a dense comparison
        for i, j in zip(*(got != expected).nonzero(), strict=True):
            return np.inf, f"{name}[{i}, {j}]: expected {expected[i, j]}, got {got[i, j]}"
        return 0.0, ""
    expected = np.asarray(expected)
    allowed = _bound(case, got, case.allowed.get(name, np.zeros(expected.shape)))
    return compare(name, expected, got.astype(expected.dtype), allowed)


def _kept(case: Case, name: str, got: Array) -> Outcome:
    """Compare with the nearest choice of k candidates a row that rounding lets a program make.

    A candidate must be kept when fewer than k others can reach it, and cannot be kept when k others
    certainly exceed it.
    """
    candidates, n_kept = case.allowed["candidates"], int(case.allowed["k"])
    bound = _bound(case, got, case.allowed["errors"])
    low, high = candidates - bound, candidates + bound
    others = ~np.eye(candidates.shape[1], dtype=np.bool_)
    must = ((high[:, None, :] >= low[:, :, None]) & others).sum(axis=2) < n_kept
    may = ((low[:, None, :] > high[:, :, None]) & others).sum(axis=2) < n_kept
    chosen = must | (may & (got != 0))
    # A kept 0 cannot be told from an entry that was left out.
    spare = may & ~chosen & (np.abs(candidates) <= bound)
    least, most = chosen.sum(axis=1), (chosen | spare).sum(axis=1)
    for row in np.flatnonzero((least > n_kept) | (most < n_kept)):
        kept = np.flatnonzero(got[row]).tolist()
        return np.inf, f"{name}: row {row} must keep its {n_kept} largest, it keeps {kept}"
    expected, allowed = np.where(chosen, candidates, 0.0), np.where(chosen, bound, 0.0)
    return compare(name, expected, got.astype(np.float64), allowed)


def _ranked(case: Case, items: Array, scores: Array) -> Outcome:
    """Each place must hold the best of the items that are left, as far as rounding can tell."""
    candidates, bound = case.allowed["candidates"], _bound(case, scores, case.allowed["errors"])
    low, high = candidates - bound, candidates + bound
    left = candidates > -np.inf
    expected, allowed = np.full(items.shape, -np.inf), np.zeros(items.shape)
    for (row, place), item in np.ndenumerate(items):
        best = int(np.where(left[row], low[row], -np.inf).argmax()) if left[row].any() else -1
        if item == best == -1:
            continue
        is_left = 0 <= item < left.shape[1] and left[row, item]
        if not is_left or high[row, item] < low[row, best]:
            why = "" if is_left else ", which is no item, seen, or in the list already"
            reason = f"expected item {best} or one with the same score, got {item}{why}"
            return np.inf, f"items{[row, place]}: {reason}"
        expected[row, place], allowed[row, place] = candidates[row, item], bound[row, item]
        left[row, item] = False
    return compare("scores", expected, scores.astype(np.float64), allowed)


def _bound(case: Case, got: Any, errors: Array) -> Array:
    """Scale by eps and add the smallest normal number: programs may flush to 0 below it."""
    precision = np.finfo("float32" if "float32" in (case.dtype, got.dtype.name) else "float64")
    bound = float(precision.eps) * errors.astype(np.float64) + float(precision.tiny)
    return np.asarray(np.where(errors > 0, bound, 0.0))


# Properties of what is drawn at random

Claims: TypeAlias = Iterator[tuple[str, Any]]
DEVIATIONS = 6.0
"""A mean may be off by this many standard deviations: a right program fails once in 500 million."""


def broken_property(case: Case, results: Sequence[Any]) -> str:
    """The first property that does not hold, in words; empty when all hold."""
    try:
        claims = PROPERTIES[case.operation](*map(as_dense, results), **case.inputs)
        return next((f"expected that {claim}" for claim, holds in claims if not np.all(holds)), "")
    except Exception as error:  # the form of the results makes a property fail in many ways
        return f"results have another form: {type(error).__name__}: {error}"


def _are_even(counts: Any, n_draws: Any, share: Any) -> Any:
    """Whether counts are near n_draws * share, as for independent draws."""
    spread = DEVIATIONS * np.sqrt(n_draws * share * (1 - share)) + 1e-9
    return np.abs(counts - n_draws * share) <= spread


def _partition(labels: Any, graph: Any, n_parts: int, seed: int) -> Claims:
    n, sizes = graph.shape[0], np.bincount(labels, minlength=n_parts)
    yield "there is a label for every vertex", labels.shape == (n,)
    largest = np.where(np.arange(sizes.size) < n_parts, -(-105 * n // (100 * n_parts)), 0)
    yield "n_parts parts have 1 to ceil(1.05 N / n_parts)", (sizes > 0) & (sizes <= largest)
    rows, columns = graph.nonzero()
    share = (labels[rows] != labels[columns]).sum() / max(rows.size, 1)
    # Every graph of the cases has parts that cut less than half of what random parts cut.
    yield "the cut is at most 2/3 of that of random parts", share <= 2 / 3 * (1 - 1 / n_parts)


def _start_coarse_assignment(assignment: Any, labels: Any, settings: Any, seed: int) -> Claims:
    n, t, n_coarse = labels.size, settings.coarse_per_entity, settings.n_coarse
    anchor = settings.anchor_weight if t > 1 else 1.0
    yield "the shape is (N, C)", assignment.shape == (n, n_coarse)
    yield "every row has coarse_per_entity entries", (assignment != 0).sum(axis=1) == t
    # Every row turned so that the part of its entity comes first.
    columns = (labels[:, None] + np.arange(n_coarse)) % n_coarse
    first, *others = np.take_along_axis(assignment, columns, axis=1).T
    yield "the part of an entity has anchor_weight, or 1 where t = 1", first == anchor
    weights, share = np.array(others), (1.0 - anchor) / max(t - 1, 1)
    are_shares = (weights == 0) | np.isclose(weights, share, rtol=1e-6, atol=0.0)
    yield "the others have (1 - anchor_weight) / (t - 1) each", are_shares
    counts = (weights != 0).sum(axis=1)
    yield "the others are equally likely", _are_even(counts, n, (t - 1) / (n_coarse - 1))


def _start_coarse(coarse: Any, bias: Any, n_entities: int, settings: Any, seed: int) -> Claims:
    yield "coarse has shape (C, D)", coarse.shape == (settings.n_coarse, settings.dim)
    yield "bias has shape (N,)", bias.shape == (n_entities,)
    for name, values in (("coarse", coarse), ("bias", bias)):
        # Moments of a standard normal, and the variance of their estimate over n values.
        for power, moment, variance in ((1, 0.0, 1.0), (2, 1.0, 2.0), (4, 3.0, 96.0)):
            error = abs((values**power).mean() - moment)
            is_near = error <= DEVIATIONS * np.sqrt(variance / values.size)
            yield f"{name} is standard normal: moment {power} is {moment:g}", is_near
        yield f"no value of {name} occurs twice", np.unique(values).size == values.size


def _start_fine(fine: Any, coarse: Any, settings: Any, seed: int) -> Claims:
    n_entries, n_components = (fine != 0).sum(axis=1), settings.sparse_pca_components
    yield "the shape is (F, D)", fine.shape == (settings.n_fine, settings.dim)
    yield "all values are finite", np.isfinite(fine)
    yield "no row has more entries than components", n_entries <= n_components
    varies = np.ptp(coarse, axis=0).any()
    yield "there are entries where, and only where, rows vary", n_entries.any() == varies
    has_patterns = len(np.unique(fine != 0, axis=0)) > 1 or n_components >= settings.dim
    yield "rows have their scores in different columns", has_patterns or not varies


def _draw_positions(positions: Any, n_rows: int, n_positions: int, dim: int, seed: int) -> Claims:
    yield "the shape is (n_rows, n_positions)", positions.shape == (n_rows, n_positions)
    yield "positions are in [0, dim)", (positions >= 0) & (positions < dim)
    yield "positions ascend in every row", np.diff(positions, axis=1) > 0
    counts = np.bincount(positions.ravel(), minlength=dim)
    yield "columns are equally likely", _are_even(counts, n_rows, n_positions / dim)


def _sparse_pca_scores(scores: Any, rows: Any, n_components: int, alpha: float, **_: Any) -> Claims:
    """Rows on a line have one component v, whose entries lose alpha / s of their size.

    s is the singular value; scikit-learn takes scores by a ridge regression of weight 0.01.
    """
    yield "the shape is (F, n_components)", scores.shape == (len(rows), n_components)
    centred = rows.astype(np.float64) - rows.mean(axis=0, dtype=np.float64)
    singular, right = np.linalg.svd(centred, full_matrices=False)[1:]
    component = np.sign(right[0]) * np.maximum(np.abs(right[0]) * singular[0] - alpha, 0.0)
    line = centred @ component / max(np.linalg.norm(component), 1e-300) / 1.01
    yield "rows on a line have one component", np.abs(scores[:, 1:]) <= 1e-6
    error = min(np.abs(scores[:, 0] - sign * line).max() for sign in (1, -1))
    yield "scores are the places on the line", error <= 1e-6 * np.abs(line).max(initial=1.0)


def _sample_triples(*lists: Any, seen: Any, n_draws: int, n_negatives: int, seed: int) -> Claims:
    (users, positives, negatives), has = lists, seen.toarray() != 0
    yield "there are three lists of indices", np.ndim(lists) == 2 and np.all(np.array(lists) >= 0)
    possible, n_users = np.flatnonzero(has.any(axis=1) & ~has.all(axis=1)), len(has)
    yield "users have an item and an unseen item", np.isin(users, possible)
    rows, has = np.searchsorted(possible, users), has[possible]
    liked, rejected = np.zeros(has.shape), np.zeros(has.shape)
    np.add.at(liked, (rows, positives), 1)
    np.add.at(rejected, (rows, negatives), 1)
    yield "positives are items of the user, negatives not", np.where(has, rejected, liked) == 0
    n_seen, n_unseen = (part.sum(axis=1, keepdims=True) for part in (has, ~has))
    per_draw = np.minimum(n_unseen, n_negatives)
    draws = liked.sum(axis=1, keepdims=True) / per_draw
    yield "a draw gives min(n_negatives, unseen items) triples", draws == np.round(draws)
    yield "users are equally likely", _are_even(draws, n_draws, 1 / n_users)
    spread = ((draws - n_draws / n_users) ** 2).sum() * n_users / max(n_draws, 1)
    is_usual = abs(spread - draws.size + 1) <= DEVIATIONS * np.sqrt(2 * draws.size)
    yield "users are drawn one by one: chi-squared", is_usual or draws.size <= 100
    yield "a user's items are equally likely", _are_even(liked / per_draw, draws, 1 / n_seen)[has]
    are_even = _are_even(rejected, draws, per_draw / n_unseen)
    yield "a user's unseen items are equally likely", are_even[~has]
    yield "the negatives of a draw are distinct", rejected <= draws
    yield "triples are shuffled", n_draws <= 100 or np.mean(users[1:] == users[:-1]) < 0.5


CHECKERS: list[Callable[..., Claims]] = [_partition, _start_coarse_assignment, _start_coarse]
CHECKERS += [_start_fine, _draw_positions, _sparse_pca_scores, _sample_triples]
PROPERTIES = {function.__name__.removeprefix("_"): function for function in CHECKERS}
