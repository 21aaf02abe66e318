"""From embeddings to lists of items, and how good the lists are."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from . import notation
from .assignment import top_columns
from .notation import Float64Array, IntArray, MethodError, Sparse

__all__ = ["mean_metrics", "ndcg_at_k", "rank_by", "rank_items", "rank_scores", "recall_at_k"]

USERS_PER_BLOCK = 256


def rank_scores(scores: Float64Array, k: int) -> tuple[IntArray, Float64Array]:
    """The k best columns of every row and their scores, best first: (items, scores).

    Shapes: (B, I) -> (B, k) int64, (B, k).
    Edge: a score of -inf is no candidate; where fewer than k remain, the list ends with item -1 and
    score -inf. Ties go to the lowest index. k may exceed I.
    Errors: MethodError for a NaN or k < 0.
    Source: equation (27).
    """
    items = top_columns(scores, min(k, scores.shape[1]))
    best = np.take_along_axis(scores, items, axis=1)
    pad = ((0, 0), (0, k - items.shape[1]))
    items = np.where(np.isneginf(best), -1, items)
    return np.pad(items, pad, constant_values=-1), np.pad(best, pad, constant_values=-np.inf)


def rank_items(
    entities: Float64Array, bias: Float64Array, n_users: int, users: IntArray, seen: Sparse, k: int
) -> tuple[IntArray, Float64Array]:
    """The k best items of each user, best first, without those it has seen: (items, scores).

        H_u . H_(U+i) + b_(U+i), the terms of `score_pairs` that differ between items

    Shapes: propagated entities (N, D), bias (N,), users (B,) int64, seen (U, I) -> (B, k) int64,
    (B, k).
    Edge: seen items are masked with -inf (D12: official -1024); users with fewer than k unseen
    items get -1 and -inf at the end; ties go to the lowest index; any number of users (D13).
    Errors: MethodError for a user out of range, sizes that do not fit or values that are not
    finite.
    Source: equation (27).
    """
    notation.require_shape("bias", bias, (len(entities),))
    notation.require_shape("seen", seen, (n_users, len(entities) - n_users))
    notation.require_finite("entities", entities)
    notation.require_finite("bias", bias)
    item_table, item_bias = entities[n_users:], bias[n_users:]
    return rank_by(lambda block: entities[block] @ item_table.T + item_bias, users, seen, k)


def rank_by(
    score_users: Callable[[IntArray], Float64Array], users: IntArray, seen: Sparse, k: int
) -> tuple[IntArray, Float64Array]:
    """The k best items of each user by any score, in blocks of users: (items, scores).

    Shapes: score_users maps users (b,) to fresh scores (b, I); users (B,) int64, seen (U, I) ->
    (B, k) int64, (B, k).
    Edge: as `rank_items`.
    Errors: MethodError for a user out of range or a score that is NaN.
    Source: equation (27).
    """
    notation.require_indices("users", users, seen.shape[0])
    if k < 0:
        raise MethodError(f"k must be at least 0, got {k}")
    seen = notation.stored_pairs(seen)
    items, scores = np.empty((users.size, k), dtype=np.int64), np.empty((users.size, k))
    for start in range(0, users.size, USERS_PER_BLOCK):
        block = slice(start, start + USERS_PER_BLOCK)
        block_scores = score_users(users[block])
        block_scores[seen[users[block]].nonzero()] = -np.inf
        items[block], scores[block] = rank_scores(block_scores, k)
    return items, scores


def recall_at_k(ranked: IntArray, held_out: Sparse, k: int) -> Float64Array:
    """Share of a user's held-out items among its first k: hits / |held out|.

    Shapes: ranked (B, at least k) int64, held_out (B, I), an entry for every held-out pair -> (B,).
    Edge: -1 in a list is never a hit. The denominator is not cut at k.
    Errors: MethodError for a user without a held-out item, for whom recall is not defined, or
    lists shorter than k.
    Source: equation (28).
    """
    hits, counts = _hits(ranked, held_out, k)
    return np.asarray(hits.sum(axis=1) / counts)


def ndcg_at_k(ranked: IntArray, held_out: Sparse, k: int) -> Float64Array:
    """Normalised discounted cumulative gain with binary gains.

        sum over hits at place p (from 0) of 1 / log2(p + 2),
        over the same sum for the first min(k, |held out|) places

    Shapes: as `recall_at_k` -> (B,) in [0, 1].
    Edge: as `recall_at_k`.
    Errors: as `recall_at_k`.
    Source: equation (29).
    """
    hits, counts = _hits(ranked, held_out, k)
    discounts = 1.0 / np.log2(np.arange(k) + 2.0)
    ideal = np.cumsum(discounts)[np.minimum(counts, k) - 1]
    return np.asarray(hits @ discounts / ideal)


def mean_metrics(ranked: IntArray, held_out: Sparse, ks: Sequence[int]) -> dict[str, float]:
    """Means over users of both metrics: {"ndcg@5": ..., "recall@5": ...} for every k of `ks`.

    Shapes: as `recall_at_k`.
    Edge: `ranked` and `held_out` have only users with at least one held-out item.
    Errors: as `recall_at_k`; also MethodError for no user at all.
    Source: equation (30).
    """
    if len(ranked) == 0:
        raise MethodError("a mean needs at least one user with a held-out item, got none")
    ndcg = {f"ndcg@{k}": float(ndcg_at_k(ranked, held_out, k).mean()) for k in ks}
    return ndcg | {f"recall@{k}": float(recall_at_k(ranked, held_out, k).mean()) for k in ks}


def _hits(ranked: IntArray, held_out: Sparse, k: int) -> tuple[Float64Array, IntArray]:
    """1.0 where place p of a list holds a held-out item, (B, k), and the number of those, (B,)."""
    n_items = held_out.shape[1]
    notation.require_shape("held_out", held_out, (len(ranked), n_items))
    notation.require_indices("ranked + 1", ranked + 1, n_items + 1)
    if not 1 <= k <= ranked.shape[1]:
        raise MethodError(f"k must be in [1, {ranked.shape[1]}], the length of the lists, got {k}")
    held_out = notation.stored_pairs(held_out)
    counts = np.diff(held_out.indptr)
    if (counts == 0).any():
        row = int((counts == 0).argmax())
        raise MethodError(f"every user must have a held-out item, the one in row {row} has none")
    hits = np.zeros((len(ranked), k))
    for row, items in enumerate(np.split(held_out.indices, held_out.indptr[1:-1])):
        hits[row] = np.isin(ranked[row, :k], items)
    return hits, counts
