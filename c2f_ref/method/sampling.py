"""One epoch of training triples, drawn exactly and in bounded time."""

from __future__ import annotations

import numpy as np

from .notation import MethodError, Sparse, Triples, stored_pairs

__all__ = ["sample_triples"]


def sample_triples(
    seen: Sparse, n_draws: int, n_negatives: int, *, rng: np.random.Generator
) -> Triples:
    """Draw users, for each one of its items, and for that pair some unseen items; shuffle all.

    `n_draws` users are drawn uniformly with replacement, and those without an item are skipped.
    The item is drawn uniformly from the user's, the negatives uniformly without replacement from
    the items that the user does not have: negative j is the item at a drawn rank in the list of
    those that are left.

    Shapes: seen (U, I), an entry for every training pair -> at most n_draws * n_negatives triples.
    Edge: a user with fewer than `n_negatives` unseen items gets them all, one with every item none,
    so that no user can stall the sampler (D15).
    Errors: MethodError for negative counts.
    Source: equation (22).
    """
    if min(n_draws, n_negatives) < 0:
        raise MethodError(f"counts must be at least 0, got {n_draws=} and {n_negatives=}")
    n_users, n_items = seen.shape
    seen = stored_pairs(seen)
    counts = np.diff(seen.indptr)
    users = rng.integers(n_users, size=n_draws if n_users else 0)
    users = users[counts[users] > 0]
    positives = seen.indices[seen.indptr[users] + rng.integers(counts[users])].astype(np.int64)
    n_left = (n_items - counts[users])[:, None] - np.arange(n_negatives)
    ranks = [rng.integers(np.maximum(column, 1)) for column in n_left.T]
    negatives = np.full(n_left.shape, -1)
    # Draws in the order of users: only one user's list of unseen items is held at a time.
    listed = -1
    for draw in np.argsort(users, kind="stable"):
        if users[draw] != listed:
            listed = users[draw]
            has = seen.indices[seen.indptr[listed] : seen.indptr[listed + 1]]
            unseen = np.delete(np.arange(n_items), has).tolist()
        left = unseen.copy()
        for j in range(min(n_negatives, len(unseen))):
            negatives[draw, j] = left.pop(ranks[j][draw])
    drawn = np.argwhere(negatives >= 0)
    draws, columns = drawn[rng.permutation(len(drawn))].T
    return Triples(users[draws], positives[draws], negatives[draws, columns])
