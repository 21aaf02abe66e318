"""The rest of the contract: refreshes, ranking and sampling."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from .. import method
from ..method import IntArray, MethodError, Triples, notation
from ..method.notation import Sparse
from ..runtime import one_blas_thread, thread_count
from . import kernels
from .compile import kernel, span
from .plan import Array

__all__ = ["rank_items", "refresh_coarse", "refresh_fine", "sample_triples"]

ROWS_PER_BLOCK = 4096
USERS_PER_BLOCK = 128


def over_blocks(work: Callable[[slice], Any], n_rows: int, rows_per_block: int) -> list[Any]:
    """Results of `work` on blocks of rows, in order, computed on several threads.

    A matrix product in a block runs on one thread, and blocks do not depend on the number of
    threads, so results have the same bits for any number. `work` writes only to rows of its block
    and calls no parallel kernel.
    """
    starts = range(0, n_rows, rows_per_block)
    blocks = [slice(start, min(start + rows_per_block, n_rows)) for start in starts]
    with one_blas_thread(), ThreadPoolExecutor(thread_count()) as pool:
        # A single block is done sooner than a thread starts.
        return list((pool.map if len(blocks) > 1 else map)(work, blocks))


def refresh_coarse(
    entities: Array, coarse: Array, coarse_per_entity: int, pinv_rtol: float | None = None
) -> Sparse:
    """As `c2f_ref.method.refresh_coarse`, without a table of size (N, C)."""
    notation.require_propagated(entities, coarse)
    (n_rows, n_columns), k = (len(entities), len(coarse)), coarse_per_entity
    if not 0 <= k <= n_columns:
        raise MethodError(f"k must be in [0, {n_columns}], the number of columns, got {k}")
    with one_blas_thread():
        inverse = method.pseudo_inverse(coarse, pinv_rtol)
    columns = np.empty((n_rows, k), dtype=np.int64)
    values = np.empty(columns.shape, dtype=np.result_type(entities, inverse))

    def keep(block: slice) -> None:
        rows = entities[block] @ inverse
        notation.require_finite("values", rows)
        kernels.top_of_rows(rows, columns[block], values[block])

    over_blocks(keep, n_rows, ROWS_PER_BLOCK)
    entries = values.ravel(), columns.ravel(), np.arange(n_rows + 1) * k
    kept = csr_array(entries, shape=(n_rows, n_columns))
    kept.sort_indices()
    return kept


def refresh_fine(
    entities: Array, coarse: Array, fine: Array, fine_per_coarse: int,
    pinv_rtol: float | None = None,
) -> Sparse:  # fmt: skip
    """As `c2f_ref.method.refresh_fine`, without a table of size (N, C): matches of blocks are
    added in order.
    """
    notation.require_propagated(entities, coarse, fine)
    with one_blas_thread():
        to_coarse = method.pseudo_inverse(coarse, pinv_rtol)
        to_fine = method.pseudo_inverse(fine, pinv_rtol)
    nothing = np.zeros((len(coarse), len(fine)), np.result_type(entities, to_coarse, to_fine))

    def match(block: slice) -> Array:
        return np.asarray((entities[block] @ to_coarse).T @ (entities[block] @ to_fine))

    matches = sum(over_blocks(match, len(entities), ROWS_PER_BLOCK), start=nothing)
    return method.keep_top(method.softmax_rows(matches), fine_per_coarse)


def rank_items(
    entities: Array, bias: Array, n_users: int, users: IntArray, seen: Sparse, k: int
) -> tuple[IntArray, Array]:
    """As `c2f_ref.method.rank_items`, in the type of the entities."""
    notation.require_shape("bias", bias, (len(entities),))
    notation.require_shape("seen", seen, (n_users, len(entities) - n_users))
    notation.require_finite("entities", entities)
    notation.require_finite("bias", bias)
    notation.require_indices("users", users, n_users)
    if k < 0:
        raise MethodError(f"k must be at least 0, got {k}")
    seen = notation.stored_pairs(seen)
    shape = users.size, k
    items, best = np.empty(shape, dtype=np.int64), np.empty(shape, entities.dtype)
    table, item_bias = entities[n_users:].T, bias[n_users:].astype(entities.dtype)

    def rank(block: slice) -> None:
        scores = entities[users[block]] @ table
        scores += item_bias
        scores[seen[users[block]].nonzero()] = -np.inf
        kernels.top_of_rows(scores, items[block], best[block])

    over_blocks(rank, users.size, USERS_PER_BLOCK)
    return items, best


def sample_triples(
    seen: Sparse, n_draws: int, n_negatives: int, *, rng: np.random.Generator
) -> Triples:
    """As `c2f_ref.method.sample_triples`, bit for bit: the same calls of `rng`, in the same order.

    Memory: a triple takes 24 bytes in the result and 4 before, a draw 8 and a pair 16; more where
    indices are int64.
    """
    if min(n_draws, n_negatives) < 0:
        raise MethodError(f"counts must be at least 0, got {n_draws=} and {n_negatives=}")
    n_users, n_items = seen.shape
    seen = notation.stored_pairs(seen)
    counts, dtype = np.diff(seen.indptr), seen.indices.dtype  # holds every user, item and rank
    users = rng.integers(n_users, size=n_draws if n_users else 0).astype(dtype, copy=False)
    users = users[counts[users] > 0]
    positives = seen.indices[seen.indptr[users] + rng.integers(counts[users])]
    n_unseen = n_items - counts[users]
    negatives = np.empty((users.size, n_negatives), dtype)
    for j in range(n_negatives):
        negatives[:, j] = rng.integers(np.maximum(n_unseen - j, 1))
    ranks_to_items(seen.indices, seen.indptr, users, negatives)
    order = rng.permutation(int(np.minimum(n_unseen, n_negatives).sum()))
    if order.size < negatives.size:  # some users have too few unseen items
        order = np.flatnonzero(np.arange(n_negatives) < n_unseen[:, None])[order]
    # The kernel reads the place of a triple before it writes the negative there.
    triples = Triples(np.empty_like(order), np.empty_like(order), order)
    put_triples(users, positives, negatives.ravel(), n_negatives, order, *triples)
    return triples


@kernel(parallel=True)
def ranks_to_items(indices: Any, indptr: Any, users: Any, numbers: Any) -> None:
    """In place, ranks (draws, n) become the items of those ranks among the user's unseen ones.

    Rank j counts what ranks 0 to j - 1 left over. Putting these back, the last one first, moves it
    up by one for each that is not above it. Then the rank counts all unseen items, of which
    `row[m] - m` come before the user's m-th item.

    Edge: a column beyond the number of unseen items holds no item.
    """
    for draw in span(users.size):
        row = indices[indptr[users[draw]] : indptr[users[draw] + 1]]
        for j in range(numbers.shape[1] - 1, -1, -1):
            rank = numbers[draw, j]
            for earlier in range(j - 1, -1, -1):
                rank += rank >= numbers[draw, earlier]
            # Up to about 1,000 items, counting is faster than the branches of a binary search.
            n_before = 0
            for m in range(row.size):
                n_before += row[m] - m <= rank
            numbers[draw, j] = rank + n_before


@kernel(parallel=True)
def put_triples(
    users: Any, positives: Any, negatives: Any, n_negatives: int, order: Any, out_users: Any,
    out_positives: Any, out_negatives: Any,
) -> None:  # fmt: skip
    """Triple t gets the negative at place order[t], and the user and positive of its draw."""
    # A signed division rounds down, as in Python, which takes three times as long.
    width = np.uint64(n_negatives)
    for t in span(order.size):
        place = np.uint64(order[t])
        draw = place // width
        out_users[t] = users[draw]
        out_positives[t] = positives[draw]
        out_negatives[t] = negatives[place]
