"""What must be true of results that are drawn, whoever draws them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from scipy import sparse

from .cases import Case

Claims = Iterator[tuple[str, Any]]
DEVIATIONS = 6.0
"""A mean of random numbers may be so many standard deviations from where it belongs: a right program fails once in 500 million."""


def broken_property(case: Case, results: Sequence[Any]) -> str:
    """The first property that does not hold, in words; empty when all do."""
    try:
        for claim, is_true in PROPERTIES[case.operation](*(as_dense(result) for result in results), **case.inputs):
            if not np.all(is_true):
                return f"expected that {claim}"
    except (TypeError, ValueError, IndexError, AttributeError) as error:
        return f"results have another form: {type(error).__name__}: {error}"
    return ""


def as_dense(value: Any) -> Any:
    """An array of numbers, dense."""
    return np.asarray(value.toarray() if sparse.issparse(value) else value)


def _partition(labels: Any, graph: Any, n_parts: int, seed: int) -> Claims:
    n = graph.shape[0]
    yield "there is an integer label for every vertex", labels.shape == (n,) and labels.dtype.kind in "iu"
    yield f"labels are in [0, {n_parts})", (labels >= 0) & (labels < n_parts)
    sizes = np.bincount(labels, minlength=n_parts)
    yield "no part is empty or above ceil(1.05 N / n_parts)", (sizes > 0) & (sizes <= -(-105 * n // (100 * n_parts)))
    rows, columns = graph.nonzero()
    cut = np.mean(labels[rows] != labels[columns]) if rows.size else 0.0
    # Every graph of the cases has parts that cut less than half of what random ones cut.
    yield "at most two thirds as many edges are cut as by random parts", cut <= 2 / 3 * (1 - 1 / n_parts)


def _start_coarse_assignment(assignment: Any, labels: Any, settings: Any, seed: int) -> Claims:
    n, t, n_coarse = labels.size, settings.coarse_per_entity, settings.n_coarse
    own = settings.anchor_weight if t > 1 else 1.0
    yield "the shape is (N, C)", assignment.shape == (n, n_coarse)
    yield "every row has coarse_per_entity entries", (assignment != 0).sum(axis=1) == t
    yield "the weight on an entity's own part is anchor_weight, or 1 where t = 1", assignment[np.arange(n), labels] == own
    rows, columns = assignment.nonzero()
    is_other = columns != labels[rows]
    if t > 1:
        weights, share = assignment[rows, columns][is_other], (1.0 - own) / (t - 1)
        yield "the others have (1 - anchor_weight) / (t - 1) each", np.isclose(weights, share, rtol=1e-6, atol=0.0)
        drawn = np.bincount((columns - labels[rows])[is_other] % n_coarse, minlength=n_coarse)[1:]
        yield "the other parts are drawn alike", _is_even(drawn, n, (t - 1) / (n_coarse - 1))


def _start_coarse(coarse: Any, bias: Any, n_entities: int, settings: Any, seed: int) -> Claims:
    for name, values, shape in (("coarse", coarse, (settings.n_coarse, settings.dim)), ("bias", bias, (n_entities,))):
        yield f"{name} has shape {shape}", values.shape == shape
        n = values.size
        yield f"{name} has mean 0", abs(values.mean()) <= DEVIATIONS / np.sqrt(n)
        yield f"{name} has variance 1", abs((values**2).mean() - 1) <= DEVIATIONS * np.sqrt(2 / n)
        yield f"{name} is normal: fourth moment 3", abs((values**4).mean() - 3) <= DEVIATIONS * np.sqrt(96 / n)
        yield f"no value of {name} comes twice", np.unique(values).size == n


def _start_fine(fine: Any, coarse: Any, settings: Any, seed: int) -> Claims:
    n_components = min(settings.sparse_pca_components, settings.dim)
    yield "the shape is (F, D)", fine.shape == (settings.n_fine, settings.dim)
    yield "all values are finite", np.isfinite(fine)
    yield "no row has more entries than components", (fine != 0).sum(axis=1) <= n_components
    if np.ptp(coarse, axis=0).max() == 0:
        yield "rows that do not vary give zeros", fine == 0
    else:
        yield "some entries are not 0", (fine != 0).any()
        if n_components < settings.dim:
            yield "rows have their scores in different columns", np.unique(fine != 0, axis=0).shape[0] > 1


def _draw_positions(positions: Any, n_rows: int, n_positions: int, dim: int, seed: int) -> Claims:
    yield "the shape is (n_rows, n_positions)", positions.shape == (n_rows, n_positions)
    yield "positions are integers in [0, dim)", positions.dtype.kind in "iu" and np.all((positions >= 0) & (positions < dim))
    yield "positions ascend in every row", np.diff(positions, axis=1) > 0
    yield "all columns are drawn alike", _is_even(np.bincount(positions.ravel(), minlength=dim), n_rows, n_positions / dim)


def _sparse_pca_scores(scores: Any, rows: Any, n_components: int, alpha: float, seed: int) -> Claims:
    """Rows on a line have one component v, whose entries lose alpha / s of their size, s the singular value; scikit-learn takes
    the scores by a ridge regression with weight 0.01.
    """
    yield "the shape is (F, n_components)", scores.shape == (len(rows), n_components)
    centred = rows.astype(np.float64) - rows.mean(axis=0, dtype=np.float64)
    _, singular, right = np.linalg.svd(centred, full_matrices=False)
    component = np.sign(right[0]) * np.maximum(np.abs(right[0]) * singular[0] - alpha, 0.0)
    length = np.linalg.norm(component)
    line = centred @ component / max(length, 1e-300) / 1.01
    yield "a component beyond the first has nothing to say of rows on a line", np.abs(scores[:, 1:]) <= 1e-6
    yield "scores are places on the line", np.abs(np.abs(scores[:, 0]) - np.abs(line)) <= 1e-6 * np.abs(line).max(initial=1.0)
    yield "scores have the line's order", abs(abs(scores[:, 0] @ line) - line @ line) <= 1e-6 * max(line @ line, 1e-300)


def _sample_triples(users: Any, positives: Any, negatives: Any, seen: Any, n_draws: int, n_negatives: int, seed: int) -> Claims:
    has = seen.toarray() != 0
    n_users, n_items = has.shape
    is_list = all(part.shape == (users.size,) and part.dtype.kind in "iu" for part in (users, positives, negatives))
    yield "there are three lists of integers of one length", is_list
    yield "indices are in range", (users >= 0) & (users < n_users) & (negatives >= 0) & (negatives < n_items) & (positives >= 0)
    yield "positives are items that the user has", has[users, positives]
    yield "negatives are items that the user does not have", ~has[users, negatives]
    counts, n_unseen = has.sum(axis=1), n_items - has.sum(axis=1)
    per_draw, drawn = np.minimum(n_unseen, n_negatives), np.bincount(users, minlength=n_users)
    is_whole = drawn[per_draw > 0] % per_draw[per_draw > 0] == 0
    yield "a user gives as many triples a draw as it has unseen items, n_negatives at most", is_whole
    may_be_drawn = (counts > 0) & (per_draw > 0)
    yield "only users with an item are drawn", drawn[~may_be_drawn] == 0
    draws = drawn[may_be_drawn] // per_draw[may_be_drawn]
    yield "all users are drawn alike", _is_even(draws, n_draws, 1 / n_users)
    if draws.size > 100:
        spread, dof = ((draws - n_draws / n_users) ** 2).sum() * n_users / n_draws, draws.size - 1
        yield "users are drawn one by one: chi-squared", abs(spread - dof) <= DEVIATIONS * np.sqrt(2 * dof)
    for user in np.flatnonzero(drawn):
        own, size = users == user, per_draw[user]
        n_own = drawn[user] / size
        of_positives, of_negatives = (np.bincount(part[own], minlength=n_items) for part in (positives, negatives))
        yield "a user's items are drawn alike", _is_even(of_positives[has[user]] / size, n_own, 1 / counts[user])
        yield "a user's unseen items are drawn alike", _is_even(of_negatives[~has[user]], n_own, size / n_unseen[user])
        yield "a draw's negatives are distinct", of_negatives <= n_own
    if n_draws > 100:
        yield "triples are shuffled", np.mean(users[1:] == users[:-1]) < 0.5


def _is_even(counts: Any, n_draws: float, share: float) -> Any:
    """Whether counts are near n_draws * share, as of so many independent draws."""
    return np.abs(counts - n_draws * share) <= DEVIATIONS * np.sqrt(n_draws * share * (1 - share)) + 1e-9


PROPERTIES: dict[str, Callable[..., Claims]] = {
    "partition": _partition,
    "start_coarse_assignment": _start_coarse_assignment,
    "start_coarse": _start_coarse,
    "start_fine": _start_fine,
    "draw_positions": _draw_positions,
    "sparse_pca_scores": _sparse_pca_scores,
    "sample_triples": _sample_triples,
}
