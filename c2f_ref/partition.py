"""Balanced graph partitioning: where both assignments start, without METIS.

Repeated bisection. All N vertices form one block that is to become `n_parts` parts. Every block of
more than one part is cut in two, all blocks of a level at once, until each block is one part. A
block of s vertices and w parts gives floor(s * w_left / w) of them to its left half. If s lies in
[w m, w (m + 1)], then so do both halves in theirs, with the same m: with m = floor(N / n_parts),
every part ends with m or m + 1 vertices, whatever the graph.

One bisection starts from random sides and then only swaps vertices, so the sizes stay. With
s_v = +1 on the left and -1 on the right, moving v to the other side lowers the cut by

    gain_v = (neighbours on the other side) - (neighbours on the same side)
           = -s_v * sum over neighbours u of v in the block of s_u

In each of 32 rounds a random half of the vertices may move, then the other half. In every block,
the vertex with the highest gain on the left is paired with that on the right, the second with the
second, and so on; pairs whose gains sum to more than 0 swap. Gains count as if no neighbour moved
at the same time: if all vertices were free to move, whole neighbourhoods would change sides back
and forth (on Gowalla the parts would be no better than random ones). Noise on the gains, integers
in [-heat, heat] with a heat that falls to 0, leads out of local optima in which swaps that only
improve get stuck (Gowalla, 300 parts: .716 of the edges cut instead of .733).

At the end, `_refine` moves single vertices to any part, within 5 % of equal sizes: a random half
may move in each sweep, those with the highest gain first, as far as there is room; again with
noise that falls to 0. (Gowalla, 300 parts: .691 instead of .715. It matters more than it looks:
from the better parts, training with S_c fixed reaches a validation NDCG@5 some 10 % higher.)

Gains and swaps are from Kernighan and Lin 1970; many swaps at once, applied recursively, from the
Social Hash Partitioner, Kabiljo et al. 2017; falling noise from Johnson et al. 1989. METIS (Karypis
and Kumar 1998) coarsens the graph first. Meshes and road maps need that: on them, these parts are
poor. Interaction graphs, which have many neighbours and no geography, do not: see the figures in
`partition`.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import sparse

from .method import notation
from .method.notation import BoolArray, IntArray, MethodError

_N_ROUNDS = 32
_N_HEATED_ROUNDS = 24
_N_SWEEPS = 96
_N_HEATED_SWEEPS = 72
_SWEEP_HEAT = 8


def partition(
    graph: sparse.csr_array, n_parts: int, *, rng: np.random.Generator, n_sweeps: int = _N_SWEEPS
) -> IntArray:
    """Labels of `n_parts` parts that cut few edges.

    Parts have floor(0.95 N / n_parts) to ceil(1.05 N / n_parts) vertices; without sweeps of
    refinement floor(N / n_parts) or one more, and they cut more edges. Only the pattern counts:
    i != j are joined by one edge if (i, j) or (j, i) is stored and not 0. Every decision is made on
    integers and ties go to the lowest index, so that one seed gives one result, in any storage
    order, on any machine. Equal sizes have a price: a group of vertices that belong together is cut
    where it is larger than a part.

    Vertices without an edge take no part in this: in their order, they fill up the smaller parts.

    Gowalla (N = 70,839; 810,128 edges), share of edges cut by 300 and by 100 parts: .716 and .582,
    in 3 and 2 s; METIS, with parts 3 % above the mean, .701 and .573; random parts .997 and .990.
    Time grows as edges * log(n_parts).

    Shapes: graph (N, N) -> (N,) int64 in [0, n_parts).
    Edge: isolated vertices, several components, no edges at all: the sizes are as promised.
    Errors: MethodError for a graph that is not square or not finite, and unless n_parts is an
    integer in [1, N].
    Source: equation (34); equations (5) and (6) use the labels (official: METIS).
    """
    rows, columns = _edges(graph)
    n_vertices = graph.shape[0]
    _require_parts(n_parts, n_vertices)
    is_joined = np.zeros(n_vertices, dtype=np.bool_)
    is_joined[rows] = True
    if not is_joined.all():
        rows, columns = (np.cumsum(is_joined)[ends] - 1 for ends in (rows, columns))
    labels = np.zeros(is_joined.sum(), dtype=np.int64)
    widths = np.array([n_parts], dtype=np.int64)  # parts that each block is to become
    while widths.max() > 1 and labels.size:
        left_widths = (widths + 1) // 2  # a block of one part stays whole: it is all left
        n_left = np.bincount(labels, minlength=widths.size) * left_widths // widths
        inside = labels[rows] == labels[columns]
        on_left = _bisect(rows[inside], columns[inside], labels, n_left, rng=rng)
        halves = np.stack((left_widths, widths - left_widths), axis=1).ravel()
        new_labels = np.cumsum(halves > 0, dtype=np.int64) - 1
        labels, widths = new_labels[2 * labels + ~on_left], halves[halves > 0]
    # Sizes of floor(N / n_parts) or one more, the larger ones where there are more joined vertices.
    n_joined = np.bincount(labels, minlength=n_parts)
    targets = np.full(n_parts, n_vertices // n_parts)
    targets[np.argsort(-n_joined, kind="stable")[: n_vertices % n_parts]] += 1
    n_alone = targets - n_joined
    result = np.empty(n_vertices, dtype=np.int64)
    result[~is_joined] = np.repeat(np.arange(n_parts), n_alone)
    result[is_joined] = _refine(rows, columns, labels, n_alone, n_sweeps, rng=rng)
    return result


def metis_partition(graph: sparse.csr_array, n_parts: int, *, rng: np.random.Generator) -> IntArray:
    """Labels of `n_parts` parts by METIS, as in the official code: some 2 % fewer cut edges.

    Shapes: graph (N, N) -> (N,) int64 in [0, n_parts).
    Edge: part sizes are those of METIS, within about 3 % of each other on graphs like Gowalla's; no
    part is empty.
    Errors: as `partition`; ModuleNotFoundError without pymetis; MethodError where METIS leaves a
    part empty, which happens on graphs of few vertices.
    Source: equation (34); Karypis and Kumar 1998.
    """
    try:
        import pymetis
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'METIS needs pymetis: pip install "c2f-ref[metis]"', name="pymetis"
        ) from error

    rows, columns = _edges(graph)
    n_vertices = graph.shape[0]
    _require_parts(n_parts, n_vertices)
    neighbours = np.split(columns, np.searchsorted(rows, np.arange(1, n_vertices)))
    seed = pymetis.Options(seed=int(rng.integers(2**31)))
    labels = np.array(
        pymetis.part_graph(n_parts, adjacency=neighbours, options=seed)[1], dtype=np.int64
    )
    n_empty = n_parts - np.unique(labels).size
    if n_empty:
        raise MethodError(
            f"METIS must give {n_parts} parts, got {n_empty} empty ones among them; use `partition`"
        )
    return labels


def edge_cut(graph: sparse.csr_array, labels: IntArray) -> float:
    """Share of the edges whose two ends have different labels; edges as in `partition`.

    Shapes: graph (N, N), labels (N,) in [0, N) -> a number in [0, 1].
    Edge: 0 for a graph without edges.
    Errors: MethodError for a graph that is not square or not finite, and for labels of another
    shape, type or range.
    Source: equation (34).
    """
    rows, columns = _edges(graph)
    notation.require_shape("labels", labels, graph.shape[:1])
    notation.require_indices("labels", labels, len(labels))
    return float(np.mean(labels[rows] != labels[columns])) if rows.size else 0.0


def _require_parts(n_parts: int, n_vertices: int) -> None:
    if not isinstance(n_parts, (int, np.integer)) or not 1 <= n_parts <= n_vertices:
        raise MethodError(f"n_parts must be an integer in [1, N = {n_vertices}], got {n_parts!r}")


def _edges(graph: sparse.csr_array) -> tuple[IntArray, IntArray]:
    """Every edge once in each direction, sorted, as (rows, columns); validates the graph."""
    n_vertices = graph.shape[0]
    notation.require_shape("graph", graph, (n_vertices, n_vertices))
    notation.require_finite("graph", graph)
    rows, columns = np.stack(graph.nonzero())
    ends = np.concatenate((rows, columns)), np.concatenate((columns, rows))
    values = np.ones(len(ends[0]), dtype=np.bool_)
    rows, columns = sparse.csr_array((values, ends), shape=graph.shape).nonzero()
    return rows[rows != columns].astype(np.int64), columns[rows != columns].astype(np.int64)


def _bisect(
    rows: IntArray, columns: IntArray, blocks: IntArray, n_left: IntArray, *,
    rng: np.random.Generator,
) -> BoolArray:  # fmt: skip
    """Split every block b into n_left[b] vertices on the left and the others; cut few edges.

    Shapes: rows, columns (2 * edges,) within blocks, blocks (N,), n_left (n_blocks,) -> (N,), True
    on the left.
    """
    n_vertices = len(blocks)
    graph = sparse.csr_array(
        (np.ones(len(rows), dtype=np.int64), (rows, columns)), shape=(n_vertices, n_vertices)
    )
    order, ranks = _queue(np.arange(n_vertices), blocks, rng.permutation(n_vertices))
    on_left = np.empty(n_vertices, dtype=np.bool_)
    on_left[order] = ranks < n_left[blocks[order]]
    # On random sides, the standard deviation of a gain is the root of the degree.
    first_heat = 2.0 * math.sqrt(len(rows) / n_vertices)
    for turn in range(_N_ROUNDS):
        heat = int(first_heat * max(0.0, 1.0 - turn / _N_HEATED_ROUNDS))
        half = rng.integers(2, size=n_vertices, dtype=np.bool_)
        for may_move in (half, ~half):
            sides = np.where(on_left, 1, -1)
            gains = -sides * (graph @ sides) + rng.integers(-heat, heat + 1, size=n_vertices)
            movable = np.flatnonzero(may_move & on_left), np.flatnonzero(may_move & ~on_left)
            left, right = _pair(*movable, blocks, gains)
            swap = gains[left] + gains[right] > 0
            on_left[left[swap]], on_left[right[swap]] = False, True
    return on_left


def _refine(
    rows: IntArray, columns: IntArray, labels: IntArray, n_alone: IntArray, n_sweeps: int, *,
    rng: np.random.Generator,
) -> IntArray:  # fmt: skip
    """Move single vertices to the parts of most of their neighbours; sizes stay within 5 %.

    gain of a move = (neighbours in the new part) - (neighbours in the present part)

    `n_alone` (n_parts,) counts the other vertices of each part, which stay.
    """
    n_vertices, n_parts = labels.size, n_alone.size
    n_all = n_vertices + n_alone.sum()
    least = max(1, 95 * n_all // (100 * n_parts))
    most = -(-105 * n_all // (100 * n_parts))
    graph = sparse.csr_array(
        (np.ones(rows.size, dtype=np.int64), (rows, columns)), shape=(n_vertices, n_vertices)
    )
    for sweep in range(n_sweeps if n_parts > 1 and n_vertices else 0):
        heat = round(_SWEEP_HEAT * max(0.0, 1.0 - sweep / _N_HEATED_SWEEPS))
        movable = np.flatnonzero(rng.integers(2, size=n_vertices))
        membership = sparse.csr_array(
            (np.ones(n_vertices, dtype=np.int64), labels, np.arange(n_vertices + 1))
        )
        neighbours = graph[movable] @ membership  # (half of N, n_parts), how many in each part
        neighbours.sort_indices()
        owners = np.repeat(np.arange(movable.size), np.diff(neighbours.indptr))
        is_present = neighbours.indices == labels[movable][owners]
        n_present = np.zeros(movable.size, dtype=np.int64)
        n_present[owners[is_present]] = neighbours.data[is_present]
        gains = neighbours.data - n_present[owners] + rng.integers(heat + 1, size=owners.size)
        # A vertex tries the part with its highest gain, the first of several.
        candidates = np.flatnonzero(~is_present & (gains > 0))
        candidates = candidates[np.lexsort((-gains[candidates], owners[candidates]))]
        candidates = candidates[np.diff(owners[candidates], prepend=-1) > 0]
        vertices, targets = movable[owners[candidates]], neighbours.indices[candidates]
        gains = gains[candidates]
        sizes = np.bincount(labels, minlength=n_parts) + n_alone
        entering = _best(targets, gains, most - sizes)
        vertices, targets, gains = vertices[entering], targets[entering], gains[entering]
        leaving = _best(labels[vertices], gains, sizes - least)
        labels = labels.copy()
        labels[vertices[leaving]] = targets[leaving]
    return labels


def _pair(
    left: IntArray, right: IntArray, blocks: IntArray, gains: IntArray
) -> tuple[IntArray, IntArray]:
    """Pair the i-th best of `left` with the i-th best of `right` in every block, while both last.

    Shapes: left, right any lengths, vertices; blocks, gains (N,) -> two arrays of one length.
    """
    left, left_ranks = _queue(left, blocks, -gains)
    right, right_ranks = _queue(right, blocks, -gains)
    left_places = blocks[left] * len(blocks) + left_ranks
    right_places = blocks[right] * len(blocks) + right_ranks
    _, at_left, at_right = np.intersect1d(
        left_places, right_places, assume_unique=True, return_indices=True
    )
    return left[at_left], right[at_right]


def _best(parts: IntArray, gains: IntArray, room: IntArray) -> IntArray:
    """Which moves have the highest gains in their part, as many as it has room for.

    Shapes: parts, gains (P,), room (n_parts,) -> any length, rising.
    """
    order, ranks = _queue(np.arange(parts.size), parts, -gains)
    return np.sort(order[ranks < room[parts[order]]])


def _queue(vertices: IntArray, blocks: IntArray, keys: IntArray) -> tuple[IntArray, IntArray]:
    """`vertices` (rising) in the order of block, key and index, and the rank of each in its block.

    Shapes: vertices (P,), blocks and keys (N,) -> (P,), (P,).
    """
    ordered = vertices[np.lexsort((keys[vertices], blocks[vertices]))]
    return ordered, np.arange(len(ordered)) - np.searchsorted(blocks[ordered], blocks[ordered])
