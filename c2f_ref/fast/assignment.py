"""The refresh of S_c in blocks of rows."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from ..spec import SpecError, pseudo_inverse
from ..spec.notation import require_finite, require_propagated
from . import kernels
from .plan import FloatArray

ROWS_PER_BLOCK = 8192


def refresh_coarse(
    entities: FloatArray, coarse: FloatArray, coarse_per_entity: int, pinv_rtol: float | None = None
) -> sparse.csr_array:
    """As `c2f_ref.spec.refresh_coarse`, in blocks of rows, so that nothing of size (N, C) is ever made."""
    require_propagated(entities, coarse)
    inverse = pseudo_inverse(coarse, pinv_rtol)
    n_entities, n_coarse = len(entities), len(coarse)
    if not 0 <= coarse_per_entity <= n_coarse:
        raise SpecError(f"k must be in [0, {n_coarse}], the number of columns, got {coarse_per_entity}")
    values = np.empty((n_entities, coarse_per_entity), dtype=entities.dtype)
    columns = np.empty((n_entities, coarse_per_entity), dtype=np.int64)
    for start in range(0, n_entities, ROWS_PER_BLOCK):
        block = slice(start, start + ROWS_PER_BLOCK)
        use = entities[block] @ inverse
        require_finite("use of the coarse rows", use)
        if coarse_per_entity:
            kernels.top_of_rows(use, coarse_per_entity, columns[block])
            columns[block].sort(axis=1)
            values[block] = np.take_along_axis(use, columns[block], axis=1)
    row_starts = np.arange(n_entities + 1) * coarse_per_entity
    return sparse.csr_array((values.ravel(), columns.ravel(), row_starts), shape=(n_entities, n_coarse))
