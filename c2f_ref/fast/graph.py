"""The expanded graph, written straight into place: no stacking of blocks, no second pass that normalises."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse

from ..spec.notation import require_finite
from .compile import kernel


def expand(
    norm_adjacency: sparse.csr_array, coarse_assignment: sparse.csr_array, fine_assignment: sparse.csr_array
) -> sparse.csr_array:
    """As `c2f_ref.spec.expand_fine`, or with an S_f of no columns as `expand_coarse`, of parts whose sizes fit.

    Edge: float64 whatever the adjacency is; a place stored twice is summed.
    """
    (n_entities, n_coarse), n_fine = coarse_assignment.shape, fine_assignment.shape[1]
    coarse, fine = _canonical("coarse_assignment", coarse_assignment), _canonical("fine_assignment", fine_assignment)
    first, second = n_entities, n_entities + n_coarse  # coarse node, fine node
    # Every block with its first row and column; those of one row from left to right, so that columns ascend.
    blocks = [
        (_canonical("norm_adjacency", norm_adjacency), 0, 0),
        (coarse, 0, first),
        (coarse.T.tocsr(), first, 0),
        (fine, first, second),
        (fine.T.tocsr(), second, first),
    ]
    n_nodes = second + n_fine
    counts, degrees = np.zeros(n_nodes, dtype=np.int64), np.zeros(n_nodes)
    for block, row, _ in blocks:
        rows = slice(row, row + block.shape[0])
        counts[rows] += np.diff(block.indptr)
        degrees[rows] += block.sum(axis=1)
    degrees = np.maximum(degrees, 0.0)  # D11: a negative degree counts as none, so that no product with it is above 0
    indptr = np.concatenate([[0], np.cumsum(counts)])
    n_stored = int(indptr[-1])
    data, indices = np.empty(n_stored), np.empty(n_stored, dtype=np.int32 if n_stored <= np.iinfo(np.int32).max else np.int64)
    free = indptr[:-1].copy()
    for block, row, column in blocks:
        _put_block((block.data, block.indices, block.indptr), row, column, degrees, free, data, indices)
    return sparse.csr_array((data, indices, indptr.astype(indices.dtype)), shape=(n_nodes, n_nodes))


def _canonical(name: str, matrix: sparse.csr_array) -> sparse.csr_array:
    """`matrix` in float64 and CSR form, columns ascending, each place once; a copy where anything must change."""
    own = sparse.csr_array(matrix, dtype=np.float64)
    if not own.has_canonical_format:
        own = own.copy()
        own.sum_duplicates()
    require_finite(name, own)
    return own


@kernel()
def _put_block(matrix: Any, row: int, column: int, degrees: Any, free: Any, out: Any, out_columns: Any) -> None:
    """Rescale the entries of a matrix whose first one is (row, column) into the free places of their rows, which move on.

    A_ij / sqrt(d_i d_j) where the product is above 0, else 0
    """
    data, indices, indptr = matrix
    for r in range(indptr.size - 1):
        start, n, to = indptr[r], indptr[r + 1] - indptr[r], free[row + r]
        values, columns, scaled = data[start : start + n], indices[start : start + n], out[to : to + n]
        # Two loops, because the roots of a row can then be taken several at a time.
        for p in range(n):
            out_columns[to + p] = column + columns[p]
            scaled[p] = degrees[row + r] * degrees[column + columns[p]]
        for p in range(n):
            scaled[p] = values[p] / np.sqrt(scaled[p]) if scaled[p] > 0 else 0.0
        free[row + r] = to + n
