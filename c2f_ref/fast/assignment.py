"""What rows keep, and both refreshes, in blocks of rows that threads share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import sparse

from ..spec import SpecError, pseudo_inverse, softmax_rows
from ..spec.notation import require_finite, require_propagated
from ..threads import one_blas_thread
from . import kernels
from .blocks import over_blocks
from .plan import FloatArray
from .primitives import own

ROWS_PER_BLOCK = 4096


def keep_top(values: FloatArray, k: int) -> sparse.csr_array:
    """As `c2f_ref.spec.keep_top`; what is kept has the type of the values."""
    (table,) = own(values)
    return _keep_top(lambda block: table[block], table.shape, k, table.dtype)


def refresh_coarse(
    entities: FloatArray, coarse: FloatArray, coarse_per_entity: int, pinv_rtol: float | None = None
) -> sparse.csr_array:
    """As `c2f_ref.spec.refresh_coarse`; nothing of size (N, C) is made."""
    require_propagated(entities, coarse)
    with one_blas_thread():
        inverse = pseudo_inverse(coarse, pinv_rtol)
    dtype, shape = np.result_type(entities, inverse), (len(entities), len(coarse))
    return _keep_top(lambda block: entities[block] @ inverse, shape, coarse_per_entity, dtype)


def refresh_fine(
    entities: FloatArray, coarse: FloatArray, fine: FloatArray, fine_per_coarse: int, pinv_rtol: float | None = None
) -> sparse.csr_array:
    """As `c2f_ref.spec.refresh_fine`; nothing of size (N, C) is made, but (C, F) for a block of rows, summed in their order."""
    require_propagated(entities, coarse, fine)
    with one_blas_thread():
        to_coarse, to_fine = pseudo_inverse(coarse, pinv_rtol), pseudo_inverse(fine, pinv_rtol)
    matches = np.zeros((len(coarse), len(fine)), dtype=np.result_type(entities, to_coarse, to_fine))

    def match(block: slice) -> FloatArray:
        rows = entities[block]
        return np.asarray((rows @ to_coarse).T @ (rows @ to_fine))

    over_blocks(match, len(entities), ROWS_PER_BLOCK, lambda of_block: np.add(matches, of_block, out=matches))
    return keep_top(softmax_rows(matches), fine_per_coarse)


def _keep_top(rows_of: Callable[[slice], FloatArray], shape: tuple[int, ...], k: int, dtype: Any) -> sparse.csr_array:
    """`keep_top` of a table that is made a block at a time; `rows_of` gives the rows of a block."""
    n_rows, n_columns = shape
    if not 0 <= k <= n_columns:
        raise SpecError(f"k must be in [0, {n_columns}], the number of columns, got {k}")
    columns, values = np.empty((n_rows, k), dtype=np.int64), np.empty((n_rows, k), dtype=dtype)

    def keep(block: slice) -> None:
        rows = rows_of(block)
        require_finite("values", rows)
        kernels.top_of_rows(rows, columns[block], values[block])

    over_blocks(keep, n_rows, ROWS_PER_BLOCK)
    kept = sparse.csr_array((values.ravel(), columns.ravel(), np.arange(n_rows + 1) * k), shape=shape)
    kept.sort_indices()
    return kept
