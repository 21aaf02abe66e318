"""The graph that embeddings travel on, and the assignments: which rows compose which.

S_c composes entities of coarse rows, S_f coarse rows of fine rows.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

from . import notation
from .notation import Float64Array, IntArray, MethodError, Settings, Sparse

__all__ = [
    "bipartite", "expand_coarse", "expand_fine", "keep_top", "normalise", "part_affinity",
    "pseudo_inverse", "refresh_coarse", "refresh_fine", "softmax_rows", "start_coarse_assignment",
    "start_fine_assignment", "top_columns",
]  # fmt: skip


def bipartite(users: IntArray, items: IntArray, n_users: int, n_items: int) -> Sparse:
    """The user-item graph of training pairs: entry 1 at (u, U + i) and (U + i, u) for every pair.

    Shapes: users (P,), items (P,) int64 -> (N, N) float64, symmetric.
    Edge: a pair given twice counts once; no pair gives an empty graph.
    Errors: MethodError for an index out of range or lists of different length.
    Source: equation (1).
    """
    notation.require_indices("users", users, n_users)
    notation.require_indices("items", items, n_items)
    notation.require_shape("items", items, users.shape)
    rows = np.concatenate([users, notation.item_rows(n_users, items)])
    columns = np.concatenate([notation.item_rows(n_users, items), users])
    n_entities = n_users + n_items
    graph = sparse.csr_array((np.ones(rows.size), (rows, columns)), shape=(n_entities, n_entities))
    graph.sum_duplicates()
    graph.data = np.ones(graph.nnz)
    return graph


def normalise(graph: Sparse) -> Sparse:
    """Divide every entry by the root of the product of its two degrees.

        G_ij / sqrt(d_i d_j),  d = row sums of G

    Shapes: (n, n) float64 -> (n, n) float64 with the stored pattern of `graph`.
    Edge: a row of degree 0 stays 0. D11: so do a row of negative degree and its column, which
    negative assignment entries can bring about; where both degrees are positive, the formula holds.
    Errors: MethodError for a graph that is not square or not finite.
    Source: equation (2); He et al., SIGIR 2020, equation 3.
    """
    notation.require_shape("graph", graph, (graph.shape[0], graph.shape[0]))
    notation.require_finite("graph", graph)
    degrees = np.asarray(graph.sum(axis=1), dtype=np.float64)
    row_degrees = np.repeat(degrees, np.diff(graph.indptr))
    products = row_degrees * degrees[graph.indices]
    # D11: a product that underflows to 0 is treated like a degree of 0.
    connected = (row_degrees > 0) & (products > 0)
    values = np.where(connected, graph.data / np.sqrt(np.where(connected, products, 1.0)), 0.0)
    return sparse.csr_array((values, graph.indices.copy(), graph.indptr.copy()), shape=graph.shape)


def expand_coarse(norm_adjacency: Sparse, coarse_assignment: Sparse) -> Sparse:
    """The graph of the coarse stage: entities, and the coarse nodes that compose them.

        normalise([[A, S_c], [S_c^T, 0]])

    Shapes: A (N, N), S_c (N, C) -> (N + C, N + C).
    Edge: A is normalised already and is normalised again (D3).
    Errors: MethodError for sizes that do not fit or values that are not finite.
    Source: equation (3).
    """
    n_entities = coarse_assignment.shape[0]
    notation.require_shape("norm_adjacency", norm_adjacency, (n_entities, n_entities))
    blocks = [[norm_adjacency, coarse_assignment], [coarse_assignment.T, None]]
    return normalise(sparse.block_array(blocks, format="csr"))


def expand_fine(
    norm_adjacency: Sparse, coarse_assignment: Sparse, fine_assignment: Sparse
) -> Sparse:
    """The graph of the fine stage: entities, coarse nodes, and the fine nodes that refine those.

        normalise([[A, S_c, 0], [S_c^T, 0, S_f], [0, S_f^T, 0]])

    Shapes: A (N, N), S_c (N, C), S_f (C, F) -> (N + C + F, N + C + F).
    Edge: A is normalised already and is normalised again (D3).
    Errors: MethodError for sizes that do not fit or values that are not finite.
    Source: equation (4).
    """
    (n_entities, n_coarse), n_fine = coarse_assignment.shape, fine_assignment.shape[1]
    notation.require_shape("norm_adjacency", norm_adjacency, (n_entities, n_entities))
    notation.require_shape("fine_assignment", fine_assignment, (n_coarse, n_fine))
    blocks = [
        [norm_adjacency, coarse_assignment, None],
        [coarse_assignment.T, None, fine_assignment],
        [None, fine_assignment.T, None],
    ]
    return normalise(sparse.block_array(blocks, format="csr"))


def top_columns(values: Float64Array, k: int) -> IntArray:
    """The columns of the k largest entries of every row, largest first.

    Shapes: (n, m) -> (n, k) int64.
    Edge: by signed value; ties go to the lowest column; k == 0 gives no columns; -inf comes last.
    Errors: MethodError for k > m or a NaN, which has no place in an order.
    Source: equation (7).
    """
    n_columns = values.shape[1]
    if not 0 <= k <= n_columns:
        raise MethodError(f"k must be in [0, {n_columns}], the number of columns, got {k}")
    is_nan = np.isnan(values).any(axis=1)
    if is_nan.any():
        raise MethodError(f"values to be ordered must not be NaN, got one in row {is_nan.argmax()}")
    return np.argsort(-values, axis=1, kind="stable")[:, :k]


def keep_top(values: Float64Array, k: int) -> Sparse:
    """Keep the k largest entries of every row as they are; the others become zeros, not stored.

    Shapes: (n, m) float64 -> (n, m) sparse, exactly k stored entries a row, columns ascending.
    Edge: by signed value, so negative entries can be kept (D11); ties go to the lowest column; an
    exact 0 that is kept is stored; nothing is renormalised (D5).
    Errors: MethodError for k > m or values that are not finite.
    Source: equation (7).
    """
    notation.require_finite("values", values)
    columns = np.sort(top_columns(values, k), axis=1)
    kept = np.take_along_axis(values, columns, axis=1)
    row_starts = np.arange(values.shape[0] + 1) * k
    return sparse.csr_array((kept.ravel(), columns.ravel(), row_starts), shape=values.shape)


def softmax_rows(values: Float64Array) -> Float64Array:
    """exp(x_ij) / sum_j exp(x_ij), shifted by the row's largest entry so that none overflows.

    Shapes: (n, m) float64 -> (n, m) float64, rows sum to 1.
    Edge: entries far below the largest underflow to an exact 0.
    Source: equations (6) and (24).
    """
    exponentials = np.exp(values - values.max(axis=1, keepdims=True, initial=-np.inf))
    return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True))


def start_coarse_assignment(
    labels: IntArray, settings: Settings, *, rng: np.random.Generator
) -> Sparse:
    """The first S_c: w* on the part of an entity, (1 - w*)/(t - 1) on t - 1 other parts at random.

    Shapes: labels (N,) int64, part of every entity in [0, C) -> (N, C) with t entries a row.
    Edge: t == 1 gives the weight 1. The anchor weight is a setting here (D4).
    Errors: MethodError for a label out of range.
    Source: equation (5).
    """
    notation.require_indices("labels", labels, settings.n_coarse)
    n_others, shape = settings.coarse_per_entity - 1, (labels.size, settings.n_coarse)
    # A random order of the other C - 1 parts, counted from the one after the label, so that the
    # label itself is never drawn.
    offsets = rng.permuted(np.tile(np.arange(1, shape[1]), (shape[0], 1)), axis=1)[:, :n_others]
    columns = np.column_stack([labels, (labels[:, None] + offsets) % shape[1]])
    weights = np.ones(columns.shape)
    if n_others:
        weights[:, 0] = settings.anchor_weight
        weights[:, 1:] = (1.0 - settings.anchor_weight) / n_others
    row_starts = np.arange(labels.size + 1) * settings.coarse_per_entity
    assignment = sparse.csr_array((weights.ravel(), columns.ravel(), row_starts), shape=shape)
    assignment.sort_indices()
    return assignment


def part_affinity(labels: IntArray, n_parts: int) -> Float64Array:
    """P: 0.5 on the part that an entity lies in, and 0.5/(F - 1) on every other.

    Shapes: labels (N,) int64 in [0, F) -> (N, F) float64, rows sum to 1.
    Edge: a single part gets the weight 1.
    Errors: MethodError for a label out of range.
    Source: equation (6).
    """
    notation.require_indices("labels", labels, n_parts)
    affinity = np.full((labels.size, n_parts), 0.5 / max(n_parts - 1, 1))
    affinity[np.arange(labels.size), labels] = 0.5 if n_parts > 1 else 1.0
    return affinity


def start_fine_assignment(
    coarse_assignment: Sparse, affinity: Float64Array, fine_per_coarse: int
) -> Sparse:
    """The first S_f: coarse rows choose the parts in which their entities lie.

        keep_top(softmax_rows(S_c^T P), fine_per_coarse)

    Shapes: S_c (N, C), P (N, F) -> (C, F) with `fine_per_coarse` entries a row.
    Edge: not renormalised (D5).
    Errors: MethodError for fine_per_coarse > F or sizes that do not fit.
    Source: equation (6).
    """
    notation.require_shape("affinity", affinity, (coarse_assignment.shape[0], affinity.shape[1]))
    return keep_top(softmax_rows(coarse_assignment.T @ affinity), fine_per_coarse)


def pseudo_inverse(table: Float64Array, rtol: float | None) -> Float64Array:
    """Moore-Penrose inverse; singular values at or below rtol times the largest count as 0.

    Shapes: (n, D) float64 -> (D, n) float64.
    Edge: rtol None means max(n, D) * eps of the table's dtype, which is torch's default and not
    NumPy's; a table of zeros gives zeros.
    Errors: MethodError for values that are not finite.
    Source: equation (25).
    """
    notation.require_finite("table to invert", table)
    if rtol is None:
        rtol = max(table.shape) * float(np.finfo(table.dtype).eps)
    return np.asarray(np.linalg.pinv(table, rcond=rtol))


def refresh_coarse(
    entities: Float64Array, coarse: Float64Array, coarse_per_entity: int,
    pinv_rtol: float | None = None,
) -> Sparse:  # fmt: skip
    """S_c anew: the t largest of each entity's least-squares weights on all coarse rows.

        keep_top(H_e pinv(H_c), t)

    Shapes: propagated entities (N, D) and coarse rows (C, D) -> (N, C) with t entries a row.
    Edge: not renormalised (D5); entries can be negative (D11); zero tables give stored zeros.
    Errors: MethodError for values that are not finite, tables of different width, or t > C.
    Source: equation (23); Liang et al., SIGIR 2024.
    """
    notation.require_propagated(entities, coarse)
    return keep_top(entities @ pseudo_inverse(coarse, pinv_rtol), coarse_per_entity)


def refresh_fine(
    entities: Float64Array, coarse: Float64Array, fine: Float64Array, fine_per_coarse: int,
    pinv_rtol: float | None = None,
) -> Sparse:  # fmt: skip
    """S_f anew, the weight-bridging update: rows match when the same entities use both.

        keep_top(softmax_rows((H_e pinv(H_c))^T (H_e pinv(H_f))), fine_per_coarse)

    Shapes: propagated entities (N, D), coarse rows (C, D) and fine rows (F, D) -> (C, F).
    Edge: softmax can underflow, so an exact 0 can be a stored entry; not renormalised (D5).
    Errors: MethodError for values that are not finite, tables of different width, or too many kept.
    Source: equation (24).
    """
    notation.require_propagated(entities, coarse, fine)
    coarse_use = entities @ pseudo_inverse(coarse, pinv_rtol)
    fine_use = entities @ pseudo_inverse(fine, pinv_rtol)
    return keep_top(softmax_rows(coarse_use.T @ fine_use), fine_per_coarse)
