"""What is kept for a graph and its assignments: entities renumbered, plain arrays.

Users come before items, and entities with the same main coarse row are neighbours, so that the rows
that one row of the graph reads are close together in memory. Results are always in the caller's
order. All numbers of a plan have the type of the adjacency, float32 or float64.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from ..method import IntArray, MethodError, Settings, notation
from ..method.notation import Sparse
from . import kernels
from .compile import kernel, span

__all__ = ["prepare_coarse", "prepare_fine"]

Array: TypeAlias = npt.NDArray[Any]
"""float32 or float64."""


def arrays_of(matrix: Sparse, dtype: Any = np.float64) -> Any:
    """(data, indices int32, indptr int64), writable ones, so that each kernel is compiled once."""
    types = {"data": dtype, "indices": np.int32, "indptr": np.int64}
    return tuple(np.require(getattr(matrix, name), kind, "W") for name, kind in types.items())


class Matrix:
    """A sparse matrix for compiled loops: `arrays` as `arrays_of` gives them.

    It has `@`, `T` and `shape`, so that the formulas of `c2f_ref.method` take it as they take a
    SciPy array.
    """

    def __init__(self, matrix: Any, dtype: Any) -> None:
        matrix, self.dtype = csr_array(matrix), dtype
        self.shape: tuple[int, int] = matrix.shape
        self.arrays = arrays_of(matrix, dtype)
        self.blocks = kernels.balanced_blocks(np.diff(matrix.indptr))

    @cached_property
    def T(self) -> Matrix:  # noqa: N802  SciPy's name
        """The transpose."""
        return Matrix(csr_array(self.arrays, shape=self.shape).T, self.dtype)

    def __matmul__(self, dense: Array) -> Array:
        """Matrix times a dense table. Shapes: (n, m) times (m, D) -> (n, D)."""
        notation.require_shape("a factor of a product", dense, (self.shape[1], dense.shape[1]))
        dense = np.require(dense, None, ["C", "W"])
        out = np.zeros((self.shape[0], dense.shape[1]), dtype=dense.dtype)
        self.step(None, out, dense, out)
        return out

    def step(
        self, slots: IntArray | None, first: Array, total: Array, out: Array,
        rows: IntArray | None = None, divisor: int = 1,
    ) -> None:  # fmt: skip
        """As `kernels.step`; without `rows`, for all of them."""
        slots = np.arange(0) if slots is None else slots
        if rows is None:
            rows, blocks = np.arange(self.shape[0]), self.blocks
        else:
            indptr = self.arrays[2]
            blocks = kernels.balanced_blocks(indptr[rows + 1] - indptr[rows])
        kernels.step(blocks, self.arrays, rows, slots, first, total, out.dtype.type(divisor), out)


@dataclass(frozen=True)
class Plan:
    """G, S_c and S_f of either stage, in the plan's order; S_f of the coarse stage has no column.

    `order[new]` is the caller's number of an entity, and `place[old]` is the plan's. `cuts` are the
    first coarse node and the first fine node.
    """

    graph: Matrix
    coarse_assignment: Matrix
    fine_assignment: Sparse
    order: IntArray
    place: IntArray
    cuts: list[int]
    n_users: int
    settings: Settings


def prepare_coarse(
    norm_adjacency: Sparse, coarse_assignment: Sparse, n_users: int, settings: Settings
) -> Plan:
    """As `c2f_ref.method.prepare_coarse`: `prepare_fine` without fine rows."""
    no_fine, settings = csr_array((settings.n_coarse, 0)), replace(settings, n_fine=0)
    return prepare_fine(norm_adjacency, coarse_assignment, no_fine, n_users, settings)


def prepare_fine(
    norm_adjacency: Sparse, coarse_assignment: Sparse, fine_assignment: Sparse, n_users: int,
    settings: Settings,
) -> Plan:  # fmt: skip
    """As `c2f_ref.method.prepare_fine`; a plan depends on nothing but these arguments.

    Entities are numbered users first, then by their main coarse row.

    Edge: gradients take A to be symmetric, which is not checked.
    Errors: MethodError, also for an adjacency that is neither float32 nor float64.
    """
    notation.require_sizes(norm_adjacency, coarse_assignment, n_users, settings)
    n_entities, n_coarse = coarse_assignment.shape
    notation.require_shape("norm_adjacency", norm_adjacency, (n_entities, n_entities))
    notation.require_shape("fine_assignment", fine_assignment, (n_coarse, settings.n_fine))
    dtype = norm_adjacency.dtype
    if dtype not in (np.float32, np.float64):
        raise MethodError(f"norm_adjacency must be float32 or float64, got {dtype}")
    adjacency = _canonical("norm_adjacency", norm_adjacency)
    coarse = _canonical("coarse_assignment", coarse_assignment)
    fine = _canonical("fine_assignment", fine_assignment)

    keys = np.empty(n_entities, dtype=np.int64)
    put_main_columns(arrays_of(adjacency), arrays_of(coarse), keys)
    keys[n_users:] += n_coarse
    narrow = np.min_scalar_type(2 * n_coarse)  # 16 bits sort faster
    order = np.argsort(keys.astype(narrow), kind="stable")
    place = np.empty_like(order)
    place[order] = np.arange(n_entities)
    graph = expand(adjacency, coarse, fine, place)
    if settings.n_layers == 0:  # nothing is propagated
        graph = csr_array(graph.shape)
    matrices = Matrix(graph, dtype), Matrix(coarse[order], dtype), fine.astype(dtype)
    cuts = [n_entities, n_entities + n_coarse]
    return Plan(*matrices, order, place, cuts, n_users, settings)


def _canonical(name: str, matrix: Sparse) -> Sparse:
    """`matrix` in float64 with ascending columns, each once; a copy where anything must change."""
    matrix = csr_array(matrix, dtype=np.float64)
    if not matrix.has_canonical_format:
        matrix = matrix.copy()
        matrix.sum_duplicates()
    notation.require_finite(name, matrix)
    return matrix


@kernel(parallel=True)
def put_main_columns(adjacency: Any, assignment: Any, out: Any) -> None:
    """out[row] = the column of the largest entry of a row of the assignment, else 0.

    Edge: among equal entries, the column that most neighbours have; then the lowest column.
    """
    _, neighbours, graph_starts = adjacency
    values, columns, starts = assignment
    for row in span(out.size):
        begin, end = starts[row], starts[row + 1]
        out[row], largest, n_largest, most = 0, -np.inf, 0, -1
        for p in range(begin, end):
            n_largest = 1 if values[p] > largest else n_largest + (values[p] == largest)
            largest = max(largest, values[p])
        for p in range(begin, end):
            if values[p] < largest:
                continue
            n_sharing = 0
            if n_largest > 1:
                for neighbour in neighbours[graph_starts[row] : graph_starts[row + 1]]:
                    for q in range(starts[neighbour], starts[neighbour + 1]):
                        n_sharing += columns[q] == columns[p]
            if n_sharing > most:
                most = n_sharing
                out[row] = columns[p]


def expand(
    norm_adjacency: Sparse, coarse_assignment: Sparse, fine_assignment: Sparse, place: IntArray
) -> Sparse:
    """The normalised graph of equation (4), or (3) where S_f has no column, entities at `place`.

    Entries are written straight into their rows: no blocks are stacked, and no second pass
    normalises.

    Shapes: canonical A (N, N), S_c (N, C), S_f (C, F), place (N,) -> (N + C + F, N + C + F).
    Edge: a row keeps the caller's order of entries. D11: a negative degree counts as 0.
    """
    (n_entities, n_coarse), n_fine = coarse_assignment.shape, fine_assignment.shape[1]
    first, second = n_entities, n_entities + n_coarse  # coarse node, fine node
    n_nodes = second + n_fine
    # Each block with its first row and column; blocks of the same rows from left to right.
    blocks = (
        (norm_adjacency, 0, 0),
        (coarse_assignment, 0, first),
        (coarse_assignment.T.tocsr(), first, 0),
        (fine_assignment, first, second),
        (fine_assignment.T.tocsr(), second, first),
    )
    degrees, counts = np.zeros(n_nodes), np.zeros(n_nodes, dtype=np.int64)
    for block, row, _ in blocks:
        degrees[row : row + block.shape[0]] += block.sum(axis=1)
        counts[row : row + block.shape[0]] += np.diff(block.indptr)
    degrees = np.maximum(degrees, 0.0)
    places = np.concatenate([place, np.arange(first, n_nodes)])
    indptr = np.zeros(n_nodes + 1, dtype=np.int64)
    indptr[places + 1] = counts
    indptr = np.cumsum(indptr)
    # SciPy copies index arrays of two types.
    indptr = indptr.astype(np.int32 if indptr[-1] < 2**31 else np.int64)
    data, indices, free = np.empty(indptr[-1]), np.empty(indptr[-1], indptr.dtype), indptr[places]
    for block, row, column in blocks:
        put_block(arrays_of(block), row, column, degrees, places, free, data, indices)
    return csr_array((data, indices, indptr), shape=(n_nodes, n_nodes))


@kernel(parallel=True)
def put_block(
    matrix: Any, first: int, offset: int, degrees: Any, places: Any, free: Any, out: Any, put: Any
) -> None:
    """Normalise the entries of a block into the free places of their rows, which move on.

        A_ij / sqrt(d_i d_j) where the product is above 0, else 0

    The block has its first row at node `first` and its first column at node `offset`; `put` gets
    the columns.
    """
    data, indices, indptr = matrix
    for r in span(indptr.size - 1):
        start, stop, degree, to = indptr[r], indptr[r + 1], degrees[first + r], free[first + r]
        values, columns = data[start:stop], indices[start:stop]
        scaled, moved = out[to : to + stop - start], put[to : to + stop - start]
        # In two loops, because the second one is vectorised.
        for p in range(values.size):
            moved[p] = places[offset + columns[p]]
            scaled[p] = degree * degrees[offset + columns[p]]
        for p in range(values.size):
            scaled[p] = values[p] / np.sqrt(scaled[p]) if scaled[p] > 0 else 0.0
        free[first + r] = to + values.size


_scratch = threading.local()


def scratch(plan: Plan) -> list[Array]:
    """Three tables of this thread for the nodes of a plan; nothing that is returned shares them.

    The calls of a thread follow one another, so one set serves all plans. That of the latest shape
    and type is kept, because new memory is slow.
    """
    shape, tables = (plan.graph.shape[0], plan.settings.dim), getattr(_scratch, "tables", [])
    if not tables or (tables[0].shape, tables[0].dtype) != (shape, plan.graph.dtype):
        _scratch.tables = tables = [np.empty(shape, dtype=plan.graph.dtype) for _ in range(3)]
    return tables
