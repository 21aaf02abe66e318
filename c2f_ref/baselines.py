"""Baselines that learn nothing: popularity, and a graph filter over the training pairs."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from .method import Float64Array, IntArray, rank_by


def rank_by_popularity(
    users: IntArray, seen: sparse.csr_array, k: int
) -> tuple[IntArray, Float64Array]:
    """The k items with the most training pairs that the user has not seen: (items, scores).

    Shapes: users (B,) int64, seen (U, I) -> (B, k) int64, (B, k).
    Edge: ties go to the lowest index; otherwise as `c2f_ref.method.rank_items`.
    """
    counts = np.bincount(seen.indices, minlength=seen.shape[1]).astype(np.float64)
    return rank_by(lambda block: np.tile(counts, (block.size, 1)), users, seen, k)


def rank_by_graph_filter(
    users: IntArray,
    seen: sparse.csr_array,
    k: int,
    *,
    alpha: float = 0.5,
    beta: float = 1.0,
    gamma: float = 0.5,
) -> tuple[IntArray, Float64Array]:
    """The k best unseen items by two passes over the training pairs R: (items, scores).

        f(u, .) = r_u D_i^-alpha R^T D_u^-beta R D_i^-gamma

    r_u is the user's row of R; D_u and D_i hold the numbers of pairs of users and items.

    Shapes: users (B,) int64, seen (U, I) -> (B, k) int64, (B, k).
    Edge: users and items without a pair score 0; otherwise as `c2f_ref.method.rank_items`.
    Source: the linear part of GF-CF, Shen et al. 2021; free exponents, Fu et al. 2022.
    """
    pairs = sparse.csr_array((np.ones(seen.nnz), seen.indices, seen.indptr), shape=seen.shape)
    of_users, of_items = pairs.sum(axis=1), pairs.sum(axis=0)

    def power(degrees: Float64Array, exponent: float) -> sparse.dia_array:
        """The diagonal of degrees^-exponent, 0 where there is no pair."""
        scale = np.where(degrees > 0, np.maximum(degrees, 1.0) ** -exponent, 0.0)
        return sparse.diags_array(scale)

    back = (power(of_users, beta) @ pairs @ power(of_items, alpha)).T.tocsr()
    rows, forth = pairs, pairs @ power(of_items, gamma)
    return rank_by(lambda block: (rows[block] @ back).toarray() @ forth, users, seen, k)
