"""Who is made of what: the assignments S_c (entities to coarse rows) and S_f (coarse rows to fine rows)."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from .notation import (
    Float64Array,
    IntArray,
    Settings,
    SpecError,
    require_finite,
    require_indices,
    require_propagated,
    require_shape,
)


def top_columns(values: Float64Array, k: int) -> IntArray:
    """The columns of the k largest entries of every row, largest first.

    Shapes: (n, m) -> (n, k) int64.
    Edge: by signed value; ties go to the lowest column; k == 0 gives no columns; -inf is the least value of all.
    Errors: SpecError for k > m or a NaN, which has no place in an order.
    Source: building blocks, keep_top; evaluation protocol.
    """
    n_rows, n_columns = values.shape
    if not 0 <= k <= n_columns:
        raise SpecError(f"k must be in [0, {n_columns}], the number of columns, got {k}")
    if np.isnan(values).any():
        raise SpecError(f"values to be ordered must not be NaN, got one in row {np.isnan(values).any(axis=1).argmax()}")
    if k == 0 or n_rows == 0:
        return np.zeros((n_rows, k), dtype=np.int64)
    cut = np.partition(values, n_columns - k, axis=1)[:, n_columns - k, None]
    above, level = values > cut, values == cut
    room = k - above.sum(axis=1, keepdims=True)
    columns = np.nonzero(above | (level & (level.cumsum(axis=1) <= room)))[1].reshape(n_rows, k)
    order = np.argsort(-np.take_along_axis(values, columns, axis=1), axis=1, kind="stable")
    return np.take_along_axis(columns, order, axis=1)


def keep_top(values: Float64Array, k: int) -> sparse.csr_array:
    """Keep the k largest entries of every row as they are; everything else becomes a zero that is not stored.

    Shapes: (n, m) float64 -> (n, m) sparse with exactly k stored entries a row, columns ascending.
    Edge: by signed value, so negative entries can be kept (D11); ties go to the lowest column; an exact 0 that is kept
    is stored; nothing is renormalised (D5).
    Errors: SpecError for k > m or values that are not finite.
    Source: building blocks.
    """
    require_finite("values", values)
    columns = np.sort(top_columns(values, k), axis=1)
    kept = np.take_along_axis(values, columns, axis=1)
    return sparse.csr_array((kept.ravel(), columns.ravel(), np.arange(values.shape[0] + 1) * k), shape=values.shape)


def softmax_rows(values: Float64Array) -> Float64Array:
    """exp(x_ij) / sum_j exp(x_ij), shifted by the row's largest entry so that no exponential overflows.

    Shapes: (n, m) float64 -> (n, m) float64, rows sum to 1.
    Edge: entries far below the largest underflow to an exact 0.
    Source: fine stage, steps 3 and 7.
    """
    exponentials = np.exp(values - values.max(axis=1, keepdims=True, initial=-np.inf))
    return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True))


def start_coarse_assignment(labels: IntArray, settings: Settings, *, rng: np.random.Generator) -> sparse.csr_array:
    """The first S_c: w* on an entity's own part, (1 - w*)/(t - 1) on t - 1 other parts drawn at random.

    Shapes: labels (N,) int64, part of every entity in [0, C) -> (N, C) with t entries a row.
    Edge: t == 1 gives the weight 1.
    Errors: SpecError for a label out of range.
    Source: coarse stage, step 1; the weight is hard-wired in the official code (D4).
    """
    require_indices("labels", labels, settings.n_coarse)
    n_entities, n_others = labels.size, settings.coarse_per_entity - 1
    # A random order of the other C - 1 parts; counting starts behind the own part, so that it is never drawn.
    others = rng.permuted(np.tile(np.arange(1, settings.n_coarse), (n_entities, 1)), axis=1)[:, :n_others]
    columns = np.column_stack([labels, (labels[:, None] + others) % settings.n_coarse])
    if n_others == 0:
        weights = np.ones((n_entities, 1))
    else:
        weights = np.full(columns.shape, (1.0 - settings.anchor_weight) / n_others)
        weights[:, 0] = settings.anchor_weight
    row_starts = np.arange(n_entities + 1) * settings.coarse_per_entity
    assignment = sparse.csr_array((weights.ravel(), columns.ravel(), row_starts), shape=(n_entities, settings.n_coarse))
    assignment.sort_indices()
    return assignment


def part_affinity(labels: IntArray, n_parts: int) -> Float64Array:
    """P: 0.5 on an entity's own part and 0.5/(F - 1) on every other.

    Shapes: labels (N,) int64 in [0, F) -> (N, F) float64, rows sum to 1.
    Edge: a single part gets the weight 1.
    Errors: SpecError for a label out of range.
    Source: fine stage, step 3.
    """
    require_indices("labels", labels, n_parts)
    if n_parts == 1:
        return np.ones((labels.size, 1))
    affinity = np.full((labels.size, n_parts), 0.5 / (n_parts - 1))
    affinity[np.arange(labels.size), labels] = 0.5
    return affinity


def start_fine_assignment(coarse_assignment: sparse.csr_array, affinity: Float64Array, fine_per_coarse: int) -> sparse.csr_array:
    """The first S_f: coarse rows choose the parts in which their entities lie.

        keep_top(softmax_rows(S_c^T P), fine_per_coarse)

    Shapes: S_c (N, C), P (N, F) -> (C, F) with `fine_per_coarse` entries a row.
    Edge: not renormalised (D5).
    Errors: SpecError for fine_per_coarse > F or sizes that do not fit.
    Source: fine stage, step 3.
    """
    require_shape("affinity", affinity, (coarse_assignment.shape[0], affinity.shape[1]))
    return keep_top(softmax_rows(coarse_assignment.T @ affinity), fine_per_coarse)


def pseudo_inverse(table: Float64Array, rtol: float | None) -> Float64Array:
    """Moore-Penrose inverse; singular values at or below rtol times the largest count as 0.

    Shapes: (n, D) float64 -> (D, n) float64.
    Edge: rtol None means max(n, D) * eps of the table's dtype, which is torch's default and not NumPy's; a table of
    zeros gives zeros.
    Errors: SpecError for values that are not finite.
    Source: end of the fine stage.
    """
    require_finite("table to invert", table)
    if rtol is None:
        rtol = max(table.shape) * float(np.finfo(table.dtype).eps)
    return np.asarray(np.linalg.pinv(table, rcond=rtol))


def refresh_coarse(
    entities: Float64Array, coarse: Float64Array, coarse_per_entity: int, pinv_rtol: float | None = None
) -> sparse.csr_array:
    """S_c anew: the coarse rows that, weighted, come nearest to each propagated entity.

        keep_top(H_entities pinv(H_coarse), t)

    Shapes: propagated entities (N, D), propagated coarse rows (C, D) -> (N, C) with t entries a row.
    Edge: not renormalised (D5); entries can be negative (D11); a table of zeros gives stored zeros.
    Errors: SpecError for values that are not finite, tables with different numbers of columns, or t > C.
    Source: coarse stage, step 7; Liang et al., SIGIR 2024.
    """
    require_propagated(entities, coarse)
    return keep_top(entities @ pseudo_inverse(coarse, pinv_rtol), coarse_per_entity)


def refresh_fine(
    entities: Float64Array, coarse: Float64Array, fine: Float64Array, fine_per_coarse: int, pinv_rtol: float | None = None
) -> sparse.csr_array:
    """S_f anew, the weight-bridging update: coarse and fine rows match when the same entities use both.

        keep_top(softmax_rows((H_e pinv(H_c))^T (H_e pinv(H_f))), fine_per_coarse)

    Shapes: propagated entities (N, D), coarse rows (C, D), fine rows (F, D) -> (C, F).
    Edge: softmax can underflow, so an exact 0 can be a stored entry; not renormalised (D5).
    Errors: SpecError for values that are not finite, tables with different numbers of columns, or fine_per_coarse > F.
    Source: fine stage, step 7.
    """
    require_propagated(entities, coarse, fine)
    coarse_use = entities @ pseudo_inverse(coarse, pinv_rtol)
    fine_use = entities @ pseudo_inverse(fine, pinv_rtol)
    return keep_top(softmax_rows(coarse_use.T @ fine_use), fine_per_coarse)
