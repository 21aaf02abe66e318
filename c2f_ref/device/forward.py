"""The forward pass, one column of the embeddings at a time.

Nothing in it mixes columns: composing, thresholding, bridging and every layer act on each of the D columns alone. So a pass needs
room for a few vectors of N numbers, whatever D is. Nor are the values of the graph stored: with d the number of neighbours and d'
the row sums of the expanded graph, a link of user and item weighs (1 / sqrt(d_u d_i)) / sqrt(d'_u d'_i), which is the scale
1 / sqrt(d d') of the one end times that of the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ..stored import Array, FixedRows, StoredModel


class DevicePlan(NamedTuple):
    """What does not depend on the column.

    Shapes: starts (U + 1,) int64, scale (N,), coarse_links (N, t), fine_links (C, k), thresholded (F, D), all others float64.
    """

    starts: Array
    scale: Array
    """Of an entity, for what it sends to entities and gets from them."""
    coarse_links: FixedRows
    """S_c as it stands in the normalised graph."""
    fine_links: FixedRows | None
    thresholded: Array | None
    """soft(E_f)."""


def prepare(stored: StoredModel) -> DevicePlan:
    """Degrees and what follows from them.

    Edge: D11: an entity, coarse or fine node whose degree is not positive gets nothing and sends nothing. A degree that is 0 but
    for rounding may fall on either side, here as in the specification; two entities whose degrees have a product below 1e-323,
    which the specification takes for 0, stay linked.
    Source: coarse stage, step 2; fine stage, step 4; building blocks, normalise and soft.
    """
    starts, n_coarse = stored.graph_starts.astype(np.int64), len(stored.coarse)
    counts = _sum_over_neighbours(stored, starts, np.ones(stored.n_users + stored.n_items))
    degrees = _degrees_of_entities(stored, starts, counts)
    coarse_degrees = compose_transposed(stored.coarse_assignment, np.ones(len(degrees)), n_coarse)
    fine_links = thresholded = None
    table = stored.fine_table()
    if table is not None and stored.fine_assignment is not None:
        thresholded = soft(table.astype(np.float64), stored.settings["threshold"])
        coarse_degrees += compose(stored.fine_assignment, np.ones(len(thresholded)))
        fine_degrees = compose_transposed(stored.fine_assignment, np.ones(n_coarse), len(thresholded))
        fine_links = _normalise(stored.fine_assignment, coarse_degrees, fine_degrees)
    coarse_links = _normalise(stored.coarse_assignment, degrees, coarse_degrees)
    scale = _inverse_root(counts) * _inverse_root(degrees)
    return DevicePlan(starts, scale, coarse_links, fine_links, thresholded)


def embed_column(stored: StoredModel, plan: DevicePlan, column: int) -> Array:
    """One column of the propagated embeddings of all entities, as `embed_coarse` and `embed_fine` of the specification define it.

    Shapes: -> (N,) float64.
    Source: coarse stage, step 3; fine stage, steps 5 and 6.
    """
    n_layers = stored.settings["n_layers"]
    coarse = stored.coarse[:, column].astype(np.float64)
    entities = compose(stored.coarse_assignment, coarse)
    np.tanh(entities, out=entities)
    fine = np.zeros(0)
    if plan.thresholded is not None and stored.fine_assignment is not None:
        coarse = bridge(stored.fine_assignment, stored.settings["bridge_weight"], coarse, plan.thresholded[:, column])
        fine = np.tanh(plan.thresholded[:, column])
    total = entities.copy()
    for _ in range(n_layers):
        entities, coarse, fine = _layer(stored, plan, entities, coarse, fine)
        total += entities
    total /= n_layers + 1
    return total


def compose(rows: FixedRows, vector: Array) -> Array:
    """S x, term by term from the left. Shapes: S (n, m), x (m,) -> (n,) float64."""
    total = np.zeros(len(rows.values))
    for values, columns in zip(rows.values.T, rows.columns.T, strict=True):
        total += values * vector[columns]
    return total


def compose_transposed(rows: FixedRows, vector: Array, n_columns: int) -> Array:
    """S^T x. Shapes: S (n, m), x (n,) -> (m,) float64."""
    total = np.zeros(n_columns)
    for values, columns in zip(rows.values.T, rows.columns.T, strict=True):
        total += np.bincount(columns.astype(np.intp), values * vector, minlength=n_columns)
    return total


def soft(table: Array, threshold: float) -> Array:
    """sign(x) max(|x| - tau, 0), as `soft_threshold` of the specification."""
    return np.sign(table) * np.maximum(np.abs(table) - threshold, 0.0)


def bridge(fine_assignment: FixedRows, weight: float, coarse: Array, fine: Array) -> Array:
    """(1 - w) coarse + w S_f fine. Shapes: coarse (C,), fine (F,) -> (C,)."""
    return (1.0 - weight) * coarse + weight * compose(fine_assignment, fine)


def _layer(stored: StoredModel, plan: DevicePlan, entities: Array, coarse: Array, fine: Array) -> tuple[Array, Array, Array]:
    """G x, and in the fine stage what follows it (D2), line by line as in `propagate_fine` of the specification."""
    h = _sum_over_neighbours(stored, plan.starts, plan.scale * entities)
    h *= plan.scale
    h += compose(plan.coarse_links, coarse)
    c = compose_transposed(plan.coarse_links, entities, len(coarse))
    if plan.fine_links is None or stored.fine_assignment is None:
        return h, c, fine
    c += compose(plan.fine_links, fine)
    f = compose_transposed(plan.fine_links, coarse, len(fine))
    h -= compose(stored.coarse_assignment, c)
    c -= compose(stored.fine_assignment, f)
    c = bridge(stored.fine_assignment, stored.settings["bridge_weight"], c, f)
    h += compose(stored.coarse_assignment, c)
    return h, c, f


def _sum_over_neighbours(stored: StoredModel, starts: Array, values: Array) -> Array:
    """The sum of the values of an entity's neighbours: the other ends of its pairs. Shapes: (N,) -> (N,)."""
    n_users, total = stored.n_users, np.zeros(len(values))
    for users, starts_here, items in blocks_of_pairs(stored, starts):
        total[users] = _sum_runs(values[n_users:][items], starts_here)
        total[n_users:] += np.bincount(items, np.repeat(values[users], np.diff(starts_here)), minlength=stored.n_items)
    return total


def _degrees_of_entities(stored: StoredModel, starts: Array, counts: Array) -> Array:
    """Row sums of [A, S_c], with A_ui = 1 / sqrt(d_u d_i) in the form of the specification. Shapes: -> (N,)."""
    n_users, degrees = stored.n_users, np.zeros(len(counts))
    for users, starts_here, items in blocks_of_pairs(stored, starts):
        weights = 1.0 / np.sqrt(np.repeat(counts[users], np.diff(starts_here)) * counts[n_users:][items])
        degrees[users] = _sum_runs(weights, starts_here)
        degrees[n_users:] += np.bincount(items, weights, minlength=stored.n_items)
    degrees += compose(stored.coarse_assignment, np.ones(len(stored.coarse)))
    return degrees


def blocks_of_pairs(stored: StoredModel, starts: Array) -> Iterator[tuple[slice, Array, Array]]:
    """All pairs, in blocks of whole users: at most N pairs, which a single user, who has at most I, cannot exceed.

    Of each block: its users, where the pairs of each begin, counted from the first of them, and the items of the pairs.
    """
    first, n_pairs = 0, stored.n_users + stored.n_items
    while first < stored.n_users:
        last = max(int(np.searchsorted(starts, starts[first] + n_pairs, side="right")) - 1, first + 1)
        items = stored.graph_columns[starts[first] : starts[last]].astype(np.intp)
        yield slice(first, last), starts[first : last + 1] - starts[first], items
        first = last


def _sum_runs(values: Array, starts: Array) -> Array:
    """Sums of values[starts[n] : starts[n + 1]]. Shapes: starts (n + 1,) -> (n,)."""
    total = np.zeros(len(starts) - 1)
    filled = np.flatnonzero(np.diff(starts))  # `reduceat` takes an empty run for one of a single value
    total[filled] = np.add.reduceat(values, starts[filled])
    return total


def _normalise(rows: FixedRows, row_degrees: Array, column_degrees: Array) -> FixedRows:
    """S_ij / sqrt(d_i d_j), 0 where a degree or their product is not positive (D11)."""
    values = np.zeros(rows.values.shape)
    for column in range(rows.values.shape[1]):
        products = row_degrees * column_degrees[rows.columns[:, column]]
        connected = (row_degrees > 0) & (products > 0)
        values[connected, column] = rows.values[connected, column] / np.sqrt(products[connected])
    return FixedRows(values, rows.columns)


def _inverse_root(degrees: Array) -> Array:
    """1 / sqrt(d), and 0 where d is not positive."""
    roots = np.sqrt(np.maximum(degrees, 0.0))
    return np.divide(1.0, roots, where=roots > 0, out=np.zeros(len(roots)))
