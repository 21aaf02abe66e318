"""The yardsticks: what ranking without learning, or without compression, achieves."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from .spec import Float64Array, IntArray, rank_by


def rank_by_popularity(users: IntArray, seen: sparse.csr_array, k: int) -> tuple[IntArray, Float64Array]:
    """The k items with most training pairs that the user has not seen: (items, scores).

    Shapes: users (B,) int64, seen (U, I) -> (B, k) int64, (B, k).
    Edge: ties go to the lowest index; otherwise as `c2f_ref.spec.rank_items`.
    """
    counts = np.bincount(seen.indices, minlength=seen.shape[1]).astype(np.float64)
    return rank_by(lambda block: np.tile(counts, (block.size, 1)), users, seen, k)


def rank_by_item_filter(users: IntArray, seen: sparse.csr_array, k: int) -> tuple[IntArray, Float64Array]:
    """A linear filter over co-occurring items, which learns nothing: (items, scores).

        scores = R~ R~^T R~,  R~ = D_u^-1/2 R D_i^-1/2

    Shapes: users (B,) int64, seen (U, I) -> (B, k) int64, (B, k).
    Edge: users and items without a pair score 0; otherwise as `c2f_ref.spec.rank_items`.
    Source: the linear part of GF-CF, Shen et al., CIKM 2021.
    """
    norm_seen = item_filter(seen)
    return rank_by(lambda block: np.asarray((norm_seen[block] @ norm_seen.T).toarray() @ norm_seen), users, seen, k)


def item_filter(seen: sparse.csr_array) -> sparse.csr_array:
    """R~: every pair divided by the root of the product of its user's and its item's number of pairs.

    Shapes: seen (U, I) -> (U, I).
    """
    user_counts = np.diff(seen.indptr)
    item_counts = np.bincount(seen.indices, minlength=seen.shape[1])
    values = 1.0 / np.sqrt(np.repeat(user_counts, user_counts) * item_counts[seen.indices])
    return sparse.csr_array((values, seen.indices.copy(), seen.indptr.copy()), shape=seen.shape)
