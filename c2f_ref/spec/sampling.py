"""One epoch of training triples, drawn exactly and in bounded time."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from .notation import IntArray, SpecError, Triples, stored_pairs


def sample_triples(seen: sparse.csr_array, n_draws: int, n_negatives: int, *, rng: np.random.Generator) -> Triples:
    """Draw users, for each one of its items, and for that pair some unseen items; shuffle all triples.

    `n_draws` users are drawn uniformly with replacement and those without an item are skipped. The item is drawn
    uniformly from the user's, the negatives uniformly from the items it does not have, without replacement.

    Shapes: seen (U, I), an entry for every training pair -> triples (at most n_draws * n_negatives,) each.
    Edge: a user with fewer than `n_negatives` unseen items gets them all, one with every item none; so no user can keep
    the sampler waiting (D15).
    Errors: SpecError for negative counts.
    Source: "sampling, one epoch".
    """
    if n_draws < 0 or n_negatives < 0:
        raise SpecError(f"n_draws and n_negatives must not be negative, got {n_draws} and {n_negatives}")
    n_users, n_items = seen.shape
    seen = stored_pairs(seen)
    counts = np.diff(seen.indptr)
    users = rng.integers(n_users, size=n_draws if n_users else 0)
    users = users[counts[users] > 0]
    positives = seen.indices[seen.indptr[users] + rng.integers(counts[users])].astype(np.int64)
    ranks = _draw_distinct(n_items - counts[users], n_negatives, rng)
    drawn = ranks >= 0
    repeated = np.broadcast_to(users[:, None], ranks.shape)[drawn]
    negatives = _unseen_items(seen, repeated, ranks[drawn])
    order = rng.permutation(negatives.size)
    return Triples(repeated[order], np.broadcast_to(positives[:, None], ranks.shape)[drawn][order], negatives[order])


def _draw_distinct(sizes: IntArray, n_columns: int, rng: np.random.Generator) -> IntArray:
    """Per row, `n_columns` distinct numbers from [0, size), uniform; -1 once the row has no number left.

    Number j is drawn from the size - j numbers that remain: drawn as a rank among them, then moved past every earlier
    number at or below it, in ascending order of those.
    """
    drawn = np.full((sizes.size, n_columns), -1, dtype=np.int64)
    for j in range(n_columns):
        left = sizes - j
        number = np.where(left > 0, rng.integers(np.maximum(left, 1)), -1)
        for earlier in np.sort(drawn[:, :j], axis=1).T:
            number = number + ((left > 0) & (number >= earlier))
        drawn[:, j] = number
    return drawn


def _unseen_items(seen: sparse.csr_array, users: IntArray, ranks: IntArray) -> IntArray:
    """The item that is number `rank` (from 0) among those the user does not have.

    Of a user's sorted items, the m-th has `item - m` unseen items before it, a number that never falls along the row; so
    the rank-th unseen item has as many seen items before it as there are such numbers at or below the rank.
    """
    n_users, n_items = seen.shape
    counts = np.diff(seen.indptr)
    owners = np.repeat(np.arange(n_users), counts)
    unseen_before = seen.indices - (np.arange(seen.nnz) - seen.indptr[owners])
    # One ascending list for all users: a user's stretch starts at user * (I + 1).
    keys = owners * (n_items + 1) + unseen_before
    n_before = np.searchsorted(keys, users * (n_items + 1) + ranks, side="right") - seen.indptr[users]
    return np.asarray(ranks + n_before, dtype=np.int64)
