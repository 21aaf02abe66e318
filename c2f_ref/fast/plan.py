"""What the compiled implementation keeps for a graph and its assignments: entities renumbered, matrices as plain arrays.

Inside a plan users come before items, and either are numbered part by part of a partition of the user-item graph: what the rows
of a part read, which is of the other kind alone, lies close together in memory. Everything that leaves is in the caller's order
again. A plan's number type is that of the adjacency.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

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


@dataclass(frozen=True)
class Matrix:
    """A sparse matrix as the kernels take it: data, int32 indices, int64 indptr, and rows cut into pieces for threads."""

    data: FloatArray
    indices: npt.NDArray[Any]
    indptr: npt.NDArray[Any]
    blocks: IntArray
    n_rows: int

    @classmethod
    def of(cls, matrix: sparse.csr_array, dtype: Any) -> Matrix:
        """`matrix` in CSR form with these numbers."""
        matrix = sparse.csr_array(matrix)
        indices, indptr = matrix.indices.astype(np.int32), matrix.indptr.astype(np.int64)
        blocks = kernels.balanced_blocks(np.diff(indptr))
        return cls(np.array(matrix.data, dtype=dtype), indices, indptr, blocks, matrix.shape[0])

    @property
    def arrays(self) -> tuple[Any, Any, Any, Any]:
        """(blocks, data, indices, indptr), the first arguments of a kernel."""
        return self.blocks, self.data, self.indices, self.indptr

    def product(self, dense: FloatArray) -> FloatArray:
        """Matrix times dense (n, D)."""
        out = np.zeros((self.n_rows, dense.shape[1]), dtype=dense.dtype)
        is_small = self.indices.size * dense.shape[1] < SMALL
        (kernels.add_small_product if is_small else kernels.add_product)(*self.arrays, dense, out)
        return out

    def step_of_rows(
        self, rows: IntArray, slots: IntArray, first: FloatArray, total: FloatArray, divisor: int, out: FloatArray
    ) -> None:
        """out[r] = (first[slots[r]] + (matrix times total)[rows[r]]) / divisor, without the first term where the slot is -1."""
        blocks = kernels.balanced_blocks(self.indptr[rows + 1] - self.indptr[rows])
        matrix = self.data, self.indices, self.indptr
        kernels.step_of_rows(blocks, rows, *matrix, slots, first, total, out.dtype.type(divisor), out)

    def without_entries(self) -> Matrix:
        """The matrix of zeros of this size."""
        return Matrix.of(sparse.csr_array((self.n_rows, self.n_rows)), self.data.dtype)


@dataclass(frozen=True)
class Locality:
    """Entities as the plan numbers them: `order[new]` is the caller's number, `place[old]` the plan's; and A in that order."""

    order: IntArray
    place: IntArray
    norm_adjacency: sparse.csr_array
    source: sparse.csr_array


def locality(norm_adjacency: sparse.csr_array, n_users: int, previous: Locality | None) -> Locality:
    """Renumber the entities of `norm_adjacency`, or take over what an earlier plan of the very same matrix found."""
    if previous is not None and previous.source is norm_adjacency:
        return previous
    n_entities = norm_adjacency.shape[0]
    require_shape("norm_adjacency", norm_adjacency, (n_entities, n_entities))
    if norm_adjacency.dtype not in (np.float32, np.float64):
        raise SpecError(f"norm_adjacency must be float32 or float64, got {norm_adjacency.dtype}")
    n_parts = -(-n_entities // ENTITIES_PER_PART)
    # The numbering changes no result but its rounding, so its seed is no part of a run.
    labels = (
        partition(norm_adjacency, n_parts, rng=np.random.default_rng(0), n_sweeps=0)
        if n_parts > 1
        else np.zeros(n_entities, dtype=np.int64)
    )
    order = np.lexsort((labels, np.arange(n_entities) >= n_users))
    place = np.empty_like(order)
    place[order] = np.arange(n_entities)
    return Locality(order, place, renumbered(norm_adjacency, order, place), norm_adjacency)


def renumbered(matrix: sparse.csr_array, order: IntArray, place: IntArray | None = None) -> sparse.csr_array:
    """Rows of `matrix` in this order; columns too where `place` is given, ascending in every row."""
    rows = sparse.csr_array(matrix)[order]
    if place is None:
        return rows
    rows = sparse.csr_array((rows.data, place[rows.indices].astype(rows.indices.dtype), rows.indptr), shape=rows.shape)
    rows.sort_indices()
    return rows


class Workspace:
    """Arrays of a row per node that are made once and written over at every call; none of them ever leaves the room.

    Edge: a plan serves one call at a time.
    """

    def __init__(self) -> None:
        self._arrays: dict[str, FloatArray] = {}

    def get(self, name: str, shape: tuple[int, ...], dtype: Any) -> FloatArray:
        """The array of this name and shape, with whatever was left in it."""
        array = self._arrays.get(name)
        if array is None or array.shape != shape or array.dtype != dtype:
            array = self._arrays[name] = np.empty(shape, dtype=dtype)
        return array


@dataclass(frozen=True)
class CoarsePlan:
    """Of the coarse stage: G and S_c in the plan's order, S_c^T, and the numbering."""

    graph: Matrix
    coarse_assignment: Matrix
    coarse_transposed: Matrix
    where: Locality
    work: Workspace
    n_users: int
    settings: Settings


@dataclass(frozen=True)
class FinePlan:
    """Of the fine stage: as `CoarsePlan`, and S_f with S_f^T."""

    graph: Matrix
    coarse_assignment: Matrix
    coarse_transposed: Matrix
    fine_assignment: Matrix
    fine_transposed: Matrix
    where: Locality
    work: Workspace
    n_users: int
    settings: Settings


def work_table(plan: CoarsePlan | FinePlan, name: str) -> FloatArray:
    """The work buffer of this name, (n, D)."""
    return plan.work.get(name, (plan.graph.n_rows, plan.settings.dim), plan.graph.data.dtype)
