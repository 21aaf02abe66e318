"""Ranking in blocks of users, which threads share."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from ..spec import IntArray, SpecError, rank_scores
from ..spec.notation import require_finite, require_indices, require_shape, stored_pairs
from . import kernels
from .blocks import over_blocks
from .plan import FloatArray

USERS_PER_BLOCK = 128
LONG = 256
"""Longer lists are sorted whole: putting items into their place one by one takes a time that grows with the list."""


def rank_items(
    entities: FloatArray, bias: FloatArray, n_users: int, users: IntArray, seen: sparse.csr_array, k: int
) -> tuple[IntArray, FloatArray]:
    """As `c2f_ref.spec.rank_items`."""
    require_shape("bias", bias, (len(entities),))
    require_shape("seen", seen, (n_users, len(entities) - n_users))
    require_finite("entities", entities)
    require_finite("bias", bias)
    require_indices("users", users, n_users)
    if k < 0:
        raise SpecError(f"k must be at least 0, got {k}")
    seen = stored_pairs(seen)
    items = np.empty((users.size, k), dtype=np.int64)
    best = np.empty((users.size, k), dtype=entities.dtype)
    table, item_bias = entities[n_users:].T, bias[n_users:].astype(entities.dtype)

    def rank(block: slice) -> None:
        scores = entities[users[block]] @ table
        scores += item_bias
        scores[seen[users[block]].nonzero()] = -np.inf
        if k > LONG:
            items[block], best[block] = rank_scores(scores, k)
        else:
            kernels.top_of_rows(scores, items[block], best[block])

    over_blocks(rank, users.size, USERS_PER_BLOCK)
    return items, best
