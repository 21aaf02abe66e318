"""One epoch of triples: the generator is asked what the specification asks it, and what lies between is compiled."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse

from ..spec import SpecError, Triples
from ..spec.notation import stored_pairs
from .compile import kernel, span


def sample_triples(seen: sparse.csr_array, n_draws: int, n_negatives: int, *, rng: np.random.Generator) -> Triples:
    """As `c2f_ref.spec.sample_triples`, bit for bit: the same calls on `rng`, with the same arguments and in the same order.

    Memory: 24 bytes a triple are the result; beside them 4 a triple, 8 a draw and 16 a pair, more where indices are int64. While
    negatives are drawn, before there are triples: 32 a draw beside these.
    """
    if n_draws < 0 or n_negatives < 0:
        raise SpecError(f"n_draws and n_negatives must not be negative, got {n_draws} and {n_negatives}")
    n_users, n_items = seen.shape
    seen = stored_pairs(seen)
    counts = np.diff(seen.indptr)
    # SciPy chose a type of indices that holds every user and every item, and so every rank.
    users = rng.integers(n_users, size=n_draws if n_users else 0).astype(seen.indices.dtype, copy=False)
    users = users[counts[users] > 0]
    positives = seen.indices[seen.indptr[users] + rng.integers(counts[users])]
    n_unseen = n_items - counts[users]
    # Ranks first, items in the same place later.
    negatives = np.empty((users.size, n_negatives), dtype=seen.indices.dtype)
    for j in range(n_negatives):
        negatives[:, j] = rng.integers(np.maximum(n_unseen - j, 1))
    ranks_to_items(seen.indices, seen.indptr, users, negatives)
    places = None if (n_unseen >= n_negatives).all() else np.flatnonzero(np.arange(n_negatives) < n_unseen[:, None])
    del n_unseen
    order = rng.permutation(negatives.size if places is None else places.size)
    if places is not None:
        order = places[order]
    # A triple's place is read before its negative is written there.
    triples = Triples(np.empty_like(order), np.empty_like(order), order)
    put_triples(users, positives, negatives.ravel(), n_negatives, order, *triples)
    return triples


@kernel(parallel=True)
def ranks_to_items(indices: Any, indptr: Any, users: Any, numbers: Any) -> None:
    """Ranks (draws, n) become, in place, the items of those ranks among those that the draw's user does not have.

    Rank j counts only what ranks 0 to j - 1 have left. Putting these back, the last one first, moves it up by one for every
    one at or below it. Then the rank counts all unseen items, of which `row[m] - m` lie before the user's m-th item.
    Edge: what stands in a row behind as many ranks as the user has unseen items is no item.
    """
    for draw in span(users.size):
        row = indices[indptr[users[draw]] : indptr[users[draw] + 1]]
        for j in range(numbers.shape[1] - 1, -1, -1):
            rank = numbers[draw, j]
            for earlier in range(j - 1, -1, -1):
                rank += rank >= numbers[draw, earlier]
            # Up to about 1,000 items a user, counting is faster than a binary search, whose branches no processor foresees.
            n_before = 0
            for m in range(row.size):
                n_before += row[m] - m <= rank
            numbers[draw, j] = rank + n_before


@kernel(parallel=True)
def put_triples(
    users: Any, positives: Any, negatives: Any, n_negatives: int, order: Any, out_users: Any, out_positives: Any, out_negatives: Any
) -> None:
    """Triple t has the negative at place order[t], and the user and positive of that place's draw: n_negatives places each."""
    # Unsigned, because a signed division that rounds down, as Python's does, takes three times as long.
    width = np.uint64(n_negatives)
    for t in span(order.size):
        place = np.uint64(order[t])
        draw = place // width
        out_users[t] = users[draw]
        out_positives[t] = positives[draw]
        out_negatives[t] = negatives[place]
