"""Compiled loops over plain arrays. A sparse matrix is (data, indices, indptr), in SciPy's order.

Rows are the unit of work: one thread adds the entries of a row, in stored order, into the output
row itself. Four entries are added in one pass, so that the output row is read and written a quarter
as often. Rows are prefetched, because a product is bound by memory latency. `blocks` are row
numbers that cut a matrix into pieces of similar work.

A training step needs the propagated rows of its batch alone, which are stored as a compact table:
`rows` (R,) are their node numbers, and `slots` (n,) lead back, with -1 for a node that is not in
the batch.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .compile import kernel, prefetch_row, span

AHEAD = 12
"""Entries between prefetching a row and using it."""


def balanced_blocks(counts: Any, n_blocks: int = 256) -> Any:
    """Row numbers, from 0 to n, that cut n rows into at most `n_blocks` pieces of similar work.

    Shapes: counts (n,), the stored entries of each row -> (at most n_blocks + 1,) int64.
    """
    work = np.concatenate([[0], np.cumsum(counts + 1)])
    cuts = np.searchsorted(work, np.linspace(0, work[-1], n_blocks + 1), side="left")
    return np.unique(cuts).astype(np.int64)


@kernel(inline="always")
def start_row(slot: int, compact: Any, target: Any) -> None:
    """Row target = compact[slot], or 0 for slot -1."""
    if slot >= 0:
        target[:] = compact[slot]
    else:
        target[:] = 0


@kernel(inline="always")
def add_row(data: Any, indices: Any, start: int, stop: int, dense: Any, target: Any) -> None:
    """Row target += sum over stored entries [start, stop) of data * dense[index]."""
    whole = start + (stop - start) // 4 * 4
    for p in range(start, whole, 4):
        for q in range(p + AHEAD, min(p + AHEAD + 4, indices.size)):
            prefetch_row(dense, indices[q])
        a, b, c, e = data[p], data[p + 1], data[p + 2], data[p + 3]
        x, y = dense[indices[p]], dense[indices[p + 1]]
        z, w = dense[indices[p + 2]], dense[indices[p + 3]]
        for d in range(target.size):
            target[d] = target[d] + a * x[d] + b * y[d] + c * z[d] + e * w[d]
    for p in range(whole, stop):
        a = data[p]
        x = dense[indices[p]]
        for d in range(target.size):
            target[d] += a * x[d]


@kernel(parallel=True)
def step(
    blocks: Any, matrix: Any, rows: Any, slots: Any, first: Any, total: Any, divisor: Any, out: Any
) -> None:
    """A step of Horner's rule.

        out[r] = (first[slots[r]] + (matrix total)[rows[r]]) / divisor

    Edge: slot -1 has no first term; with no `slots` at all, the first term is what `out` holds.
    Blocks cut the rows of `out`.
    """
    data, indices, indptr = matrix
    for b in span(blocks.size - 1):
        for r in range(blocks[b], blocks[b + 1]):
            if slots.size:
                start_row(slots[r], first, out[r])
            add_row(data, indices, indptr[rows[r]], indptr[rows[r] + 1], total, out[r])
            if divisor != 1:
                for d in range(out.shape[1]):
                    out[r, d] /= divisor


@kernel(parallel=True)
def step_from_batch(blocks: Any, matrix: Any, slots: Any, compact: Any, out: Any) -> None:
    """Put X + matrix X into `out`; X is `compact` in the rows of the batch, and 0 elsewhere."""
    data, indices, indptr = matrix
    for b in span(blocks.size - 1):
        most = indptr[blocks[b + 1]] - indptr[blocks[b]]
        kept_data, kept_slots = np.empty(most, data.dtype), np.empty(most, slots.dtype)
        for row in range(blocks[b], blocks[b + 1]):
            n_kept = 0
            for p in range(indptr[row], indptr[row + 1]):
                # An entry that is not kept is written over by the next one.
                kept_data[n_kept], kept_slots[n_kept] = data[p], slots[indices[p]]
                n_kept += kept_slots[n_kept] >= 0
            start_row(slots[row], compact, out[row])
            add_row(kept_data, kept_slots, 0, n_kept, compact, out[row])


@kernel(parallel=True)
def back_through_tanh(slots: Any, penalties: Any, ego: Any, grad: Any) -> None:
    """In place, grad = (grad + penalty ego) (1 - ego^2); `penalties` has the batch's rows."""
    for row in span(len(ego)):
        penalty = penalties[slots[row]] if slots[row] >= 0 else penalties.dtype.type(0)
        for d in range(ego.shape[1]):
            x = ego[row, d]
            g = grad[row, d] + penalty * x
            grad[row, d] = g - g * x * x


@kernel(parallel=True)
def add_products(entities: Any, lefts: Any, rights: Any, out: Any) -> None:
    """out[p] += entities[lefts[p]] . entities[rights[p]]."""
    whole = entities.shape[1] // 4 * 4
    for p in span(out.size):
        if p + AHEAD < out.size:
            prefetch_row(entities, lefts[p + AHEAD])
            prefetch_row(entities, rights[p + AHEAD])
        x, y = entities[lefts[p]], entities[rights[p]]
        a = b = c = e = out.dtype.type(0)  # four sums do not wait for each other
        for d in range(0, whole, 4):
            a, b = a + x[d] * y[d], b + x[d + 1] * y[d + 1]
            c, e = c + x[d + 2] * y[d + 2], e + x[d + 3] * y[d + 3]
        for d in range(whole, x.size):
            a += x[d] * y[d]
        out[p] += (a + b) + (c + e)


@kernel(nogil=True)
def top_of_rows(values: Any, columns: Any, best: Any) -> None:
    """Columns of the k largest entries of every row, largest first, and these entries, `best`.

    Edge: ties go to the lowest column. -inf is no candidate: a row with fewer than k others ends
    with column -1 and -inf.
    """
    columns[:] = -1
    best[:] = -np.inf
    last = columns.shape[1] - 1
    if last < 0:
        return
    for row in range(len(values)):
        for column in range(values.shape[1]):
            value = values[row, column]
            if value > best[row, last]:
                place = last
                while place > 0 and value > best[row, place - 1]:
                    best[row, place] = best[row, place - 1]
                    columns[row, place] = columns[row, place - 1]
                    place -= 1
                best[row, place] = value
                columns[row, place] = column
