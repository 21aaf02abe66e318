"""Compiled loops over plain arrays. A sparse matrix is (data, indices, indptr), SciPy's order, indices int32 and indptr int64.

Rows are the unit of work: one thread sums a row, entry by entry in stored order, into the row itself. Four entries are taken
in one pass over the row, which is read and written a quarter as often, and rows that will be needed are asked for early: what
takes the time is waiting for them. `blocks` are row numbers that cut a matrix into pieces of about equally many entries, see
`balanced_blocks`.

A step of training reads the propagated rows of its batch alone. Those stand in a compact table; `rows` (R,) are their numbers in
the graph, `slots` (n,) the way back, with -1 for a row that is not in the batch.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..spec import Settings
from .compile import ask_for_row, kernel, span

AHEAD = 12
"""Entries between asking for a row and using it."""
PUBLISHED_DIM = Settings().dim
"""Rows of this length are added by a loop whose length the compiler knows: a tenth less time for the same bits."""


@kernel(part=True)
def add_row(data: Any, indices: Any, start: int, stop: int, dense: Any, target: Any) -> None:
    """Row target += sum over stored entries [start, stop) of data * dense[index]."""
    whole = start + (stop - start) // 4 * 4
    for p in range(start, whole, 4):
        for q in range(p + AHEAD, min(p + AHEAD + 4, indices.size)):
            ask_for_row(dense, indices[q])
        a, b, c, e = data[p], data[p + 1], data[p + 2], data[p + 3]
        x, y, z, w = dense[indices[p]], dense[indices[p + 1]], dense[indices[p + 2]], dense[indices[p + 3]]
        if target.size == PUBLISHED_DIM:
            for d in range(PUBLISHED_DIM):
                target[d] = target[d] + a * x[d] + b * y[d] + c * z[d] + e * w[d]
        else:
            for d in range(target.size):
                target[d] = target[d] + a * x[d] + b * y[d] + c * z[d] + e * w[d]
    for p in range(whole, stop):
        if p + AHEAD < indices.size:
            ask_for_row(dense, indices[p + AHEAD])
        a = data[p]
        x = dense[indices[p]]
        for d in range(target.size):
            target[d] += a * x[d]


@kernel(part=True)
def step_of_rows(start: int, stop: int, matrix: Any, rows: Any, slots: Any, first: Any, total: Any, divisor: Any, out: Any) -> None:
    """One turn of Horner's rule for rows [start, stop) of `out`: out[r] = (first[slots[r]] + (G total)[rows[r]]) / divisor.

    Edge: without the first term where the slot is -1; where `slots` is None, it is what `out` holds.
    """
    data, indices, indptr = matrix
    for r in range(start, stop):
        if slots is not None:
            start_row(slots[r], first, out[r])
        add_row(data, indices, indptr[rows[r]], indptr[rows[r] + 1], total, out[r])
        if divisor != 1:
            for d in range(out.shape[1]):
                out[r, d] /= divisor


@kernel(parallel=True)
def step(blocks: Any, matrix: Any, rows: Any, slots: Any, first: Any, total: Any, divisor: Any, out: Any) -> None:
    """As `step_of_rows` for all rows; `blocks` cut `out`."""
    for block in span(blocks.size - 1):
        step_of_rows(blocks[block], blocks[block + 1], matrix, rows, slots, first, total, divisor, out)


@kernel(parallel=True)
def first_step_back(blocks: Any, matrix: Any, slots: Any, grad: Any, out: Any) -> None:
    """The first turn backwards, out = grad + G grad: only entries whose column is in the batch count."""
    data, indices, indptr = matrix
    for block in span(blocks.size - 1):
        longest = 0
        for row in range(blocks[block], blocks[block + 1]):
            longest = max(longest, indptr[row + 1] - indptr[row])
        kept_data, kept_slots = np.empty(longest, dtype=data.dtype), np.empty(longest, dtype=slots.dtype)
        for row in range(blocks[block], blocks[block + 1]):
            n_kept = 0
            for p in range(indptr[row], indptr[row + 1]):
                slot = slots[indices[p]]
                kept_data[n_kept], kept_slots[n_kept] = data[p], slot  # written over if it is not to be kept
                n_kept += slot >= 0
            start_row(slots[row], grad, out[row])
            add_row(kept_data, kept_slots[:n_kept], 0, n_kept, grad, out[row])


@kernel(parallel=True)
def last_step_back(
    blocks: Any, matrix: Any, rows: Any, slots: Any, grad: Any, total: Any, divisor: Any, ego: Any, penalties: Any, out: Any
) -> None:
    """The last turn backwards, of all `rows`, and for entities, the first ones, what their ego rows add and what tanh is taken of.

    out = (grad + G total) / divisor,  out[:N] = (out[:N] + penalty ego) (1 - ego^2)

    Penalties are compact like `grad`; a row that is not in the batch has none.
    """
    for block in span(blocks.size - 1):
        start, stop = blocks[block], blocks[block + 1]
        step_of_rows(start, stop, matrix, rows, slots, grad, total, divisor, out)
        for row in range(start, min(stop, ego.shape[0])):
            if slots[row] >= 0:
                for d in range(out.shape[1]):
                    out[row, d] += penalties[slots[row]] * ego[row, d]
            for d in range(out.shape[1]):
                out[row, d] -= out[row, d] * ego[row, d] * ego[row, d]


@kernel(parallel=True)
def put_rows(slots: Any, compact: Any, out: Any) -> None:
    """out[row] = compact[slots[row]], or 0 where there is none."""
    for row in span(slots.size):
        start_row(slots[row], compact, out[row])


@kernel(part=True)
def start_row(slot: int, compact: Any, target: Any) -> None:
    """Row target = compact[slot], or 0 where there is none."""
    if slot >= 0:
        target[:] = compact[slot]
    else:
        target[:] = 0


@kernel(nogil=True)
def top_of_rows(values: Any, columns: Any, best: Any) -> None:
    """The columns of the k largest entries of every row, largest first, ties to the lowest column, and these entries, `best`.

    Edge: -inf is no candidate; where others are fewer than k, the list ends with column -1 and -inf.
    """
    columns[:] = -1
    best[:] = -np.inf
    last = columns.shape[1] - 1
    if last < 0:
        return
    for row in range(values.shape[0]):
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


def balanced_blocks(counts: Any, n_blocks: int = 256) -> Any:
    """Row numbers, from 0 to n, that cut n rows of so many entries into at most `n_blocks` pieces of about equal work."""
    work = np.concatenate([[0], np.cumsum(counts + 1)])
    return np.unique(np.searchsorted(work, np.linspace(0, work[-1], n_blocks + 1), side="left")).astype(np.int64)
