"""Baselines that learn nothing: popularity, and a graph filter over the training pairs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import sparse

from .method import Float64Array, IntArray, MethodError
from .method.notation import require_indices, stored_pairs

USERS_PER_BLOCK = 128
"""Users of whom all scores are held at once."""


def rank_by_popularity(
    users: IntArray, seen: sparse.csr_array, k: int
) -> tuple[IntArray, Float64Array]:
    """The k items with the most training pairs that the user has not seen: (items, scores).

    Shapes: users (B,) int64, seen (U, I) -> (B, k) int64, (B, k).
    Edge: ties go to the lowest index; otherwise as `c2f_ref.method.rank_items`.
    """
    counts = np.bincount(seen.indices, minlength=seen.shape[1]).astype(np.float64)
    return _best(lambda block: np.tile(counts, (block.size, 1)), users, seen, k)


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
    return _best(lambda block: (rows[block] @ back).toarray() @ forth, users, seen, k)


def _best(
    score_users: Callable[[IntArray], Float64Array], users: IntArray, seen: sparse.csr_array, k: int
) -> tuple[IntArray, Float64Array]:
    """The lists of `c2f_ref.method.rank_by`, of which only the candidates are sorted.

    Candidates are the items whose score is not below the k-th highest of the maxima of groups of
    items, above which the user has k items.

    Shapes: as `rank_by`.
    Edge: ties go to the lowest index; fewer than k unseen items leave -1 and -inf.
    Errors: MethodError for a user out of range, or k below 0.
    """
    require_indices("users", users, seen.shape[0])
    if k < 0:
        raise MethodError(f"k must be at least 0, got {k}")
    seen, n = stored_pairs(seen), min(k, seen.shape[1])
    width = max(1, seen.shape[1] // max(8 * n, 1))  # of a group; there are at least n
    items, best = np.full((users.size, k), -1), np.full((users.size, k), -np.inf)
    for start in range(0, users.size if n else 0, USERS_PER_BLOCK):
        block = users[start : start + USERS_PER_BLOCK]
        scores = score_users(block)
        scores[seen[block].nonzero()] = -np.inf
        peaks = np.maximum.reduceat(scores, np.arange(0, seen.shape[1], width), axis=1)
        cuts = np.partition(peaks, -n)[:, -n, None]
        rows, columns = np.nonzero((scores >= cuts) & (scores > -np.inf))
        found = scores[rows, columns]
        order = np.lexsort((-found, rows))  # stable: columns ascend in every row
        places = np.arange(rows.size) - np.searchsorted(rows, rows)
        order, rows, places = (each[places < n] for each in (order, rows, places))
        items[start + rows, places], best[start + rows, places] = columns[order], found[order]
    return items, best


RANKS = {"popularity": rank_by_popularity, "graph filter": rank_by_graph_filter}
