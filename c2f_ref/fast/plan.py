"""What the compiled implementation keeps for a graph and its assignments: entities renumbered, matrices as plain arrays.

Inside a plan users come before items, and either are numbered part by part of a partition of the user-item graph: what the rows
of a part read, which is of the other kind alone, lies close together in memory. Everything that leaves is in the caller's order
again. A plan's number type is that of the adjacency.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import sparse

from ..spec import IntArray, Settings, SpecError, partition
from ..spec.notation import require_shape
from . import kernels

FloatArray: TypeAlias = npt.NDArray[Any]
"""float32 or float64."""

ENTITIES_PER_PART = 2048
SMALL = 2**18
"""Products of fewer multiplications than this take less time than waking a second thread."""


class Matrix:
    """A sparse matrix that multiplies by compiled loops: `arrays` (data, int32 indices, int64 indptr), rows cut in `blocks`.

    With `@`, `T` and `shape` it stands in the formulas of the specification where a sparse array does.
    """

    def __init__(self, matrix: sparse.csr_array, dtype: Any) -> None:
        """`matrix` in CSR form with numbers of this type."""
        matrix = sparse.csr_array(matrix)
        self.shape: tuple[int, int] = matrix.shape
        self.arrays = np.array(matrix.data, dtype=dtype), matrix.indices.astype(np.int32), matrix.indptr.astype(np.int64)
        self.blocks = kernels.balanced_blocks(np.diff(matrix.indptr))

    @cached_property
    def T(self) -> Matrix:  # noqa: N802  SciPy's name
        """The transpose."""
        return Matrix(sparse.csr_array(self.arrays, shape=self.shape).T, self.arrays[0].dtype)

    def __matmul__(self, dense: FloatArray) -> FloatArray:
        """Matrix times dense (n, D)."""
        n_rows, n_columns = self.shape
        require_shape("what a sparse matrix is multiplied with", dense, (n_columns, *dense.shape[1:]))
        out = np.zeros((n_rows, dense.shape[1]), dtype=dense.dtype)
        self.step(None, out, dense, out)
        return out

    def step(
        self,
        slots: IntArray | None,
        first: FloatArray,
        total: FloatArray,
        out: FloatArray,
        rows: IntArray | None = None,
        divisor: int = 1,
    ) -> None:
        """out[r] = (first[slots[r]] + (matrix total)[rows[r]]) / divisor, of all rows where none are named; see `step_of_rows`."""
        data, _, indptr = self.arrays
        if rows is None:
            rows, blocks = np.arange(self.shape[0]), self.blocks
        else:
            blocks = kernels.balanced_blocks(indptr[rows + 1] - indptr[rows])
        arguments = self.arrays, rows, slots, first, total, out.dtype.type(divisor), out
        if data.size * out.shape[1] < SMALL:
            kernels.step_of_rows(0, len(out), *arguments)
        else:
            kernels.step(blocks, *arguments)


@dataclass(frozen=True)
class Locality:
    """Entities as the plan numbers them: `order[new]` is the caller's number, `place[old]` the plan's; and A in that order."""

    order: IntArray
    place: IntArray
    norm_adjacency: sparse.csr_array
    source: sparse.csr_array


def locality(norm_adjacency: sparse.csr_array, n_users: int, previous: Plan | None) -> Locality:
    """Renumber the entities of `norm_adjacency`, or take over what an earlier plan of the same entities found."""
    if previous is not None and previous.where.source is norm_adjacency:
        return previous.where
    n_entities = norm_adjacency.shape[0]
    require_shape("norm_adjacency", norm_adjacency, (n_entities, n_entities))
    if norm_adjacency.dtype not in (np.float32, np.float64):
        raise SpecError(f"norm_adjacency must be float32 or float64, got {norm_adjacency.dtype}")
    if previous is not None and (previous.n_users, previous.where.order.size) == (n_users, n_entities):
        order = previous.where.order
    else:
        n_parts = -(-n_entities // ENTITIES_PER_PART)
        labels = np.zeros(n_entities, dtype=np.int64)
        if n_parts > 1:
            # The numbering changes no result but its rounding, so its seed is no part of a run.
            labels = partition(norm_adjacency, n_parts, rng=np.random.default_rng(0), n_sweeps=0)
        order = np.lexsort((labels, np.arange(n_entities) >= n_users))
    own = sparse.csr_array(norm_adjacency)[order][:, order]
    own.sort_indices()
    return Locality(order, np.argsort(order), own, norm_adjacency)


class Work(NamedTuple):
    """Tables (n, D) that are made once and written over at every call; none of them ever leaves the room."""

    first: FloatArray
    total: FloatArray
    spare: FloatArray
    grad: FloatArray


@dataclass(frozen=True)
class Plan:
    """Of either stage: G, S_c and S_f in the plan's order, and the numbering. The coarse stage has an S_f without columns.

    Edge: a plan, and whichever has taken over its tables, serves one call at a time.
    """

    graph: Matrix
    coarse_assignment: Matrix
    fine_assignment: Matrix
    where: Locality
    work: Work
    n_users: int
    settings: Settings

    @property
    def cuts(self) -> list[int]:
        """Where coarse nodes begin in a layer, and fine nodes."""
        n_entities, n_coarse = self.coarse_assignment.shape
        return [n_entities, n_entities + n_coarse]

    @property
    def dtype(self) -> Any:
        """The number type."""
        return self.work.first.dtype
