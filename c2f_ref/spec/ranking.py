"""From embeddings to lists of items, and how good the lists are."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy import sparse

from .assignment import top_columns
from .notation import Float64Array, IntArray, SpecError, require_finite, require_indices, require_shape, stored_pairs

USERS_PER_BLOCK = 256


def rank_scores(scores: Float64Array, k: int) -> tuple[IntArray, Float64Array]:
    """The k best columns of every row and their scores, best first: (items, scores).

    Shapes: (B, I) -> (B, k) int64, (B, k).
    Edge: a score of -inf is no candidate; where fewer than k remain the list ends with item -1 and score -inf. Ties go to
    the lowest index. k may exceed I.
    Errors: SpecError for a NaN or k < 0.
    Source: evaluation protocol.
    """
    width = min(k, scores.shape[1])
    items = top_columns(scores, width)
    best = np.take_along_axis(scores, items, axis=1)
    pad = ((0, 0), (0, k - width))
    return (
        np.pad(np.where(np.isneginf(best), -1, items), pad, constant_values=-1),
        np.pad(best, pad, constant_values=-np.inf),
    )


def rank_items(
    entities: Float64Array, bias: Float64Array, n_users: int, users: IntArray, seen: sparse.csr_array, k: int
) -> tuple[IntArray, Float64Array]:
    """The k best items of each user, best first, without those it has seen: (items, scores).

        H_u . H_(U+i) + b_(U+i), the terms of `score_pairs` that differ between items

    Shapes: propagated entities (N, D), bias (N,), users (B,) int64, seen (U, I) -> (B, k) int64, (B, k).
    Edge: seen items are masked with -inf (D12: official -1024); users with fewer than k unseen items get -1 and -inf at
    the end; ties go to the lowest index; any number of users (D13).
    Errors: SpecError for a user out of range, sizes that do not fit or values that are not finite.
    Source: evaluation protocol; coarse stage, step 4.
    """
    n_entities = len(entities)
    require_shape("bias", bias, (n_entities,))
    require_shape("seen", seen, (n_users, n_entities - n_users))
    require_finite("entities", entities)
    require_finite("bias", bias)
    item_table, item_bias = entities[n_users:], bias[n_users:]
    return rank_by(lambda block: entities[block] @ item_table.T + item_bias, users, seen, k)


def rank_by(
    score_users: Callable[[IntArray], Float64Array], users: IntArray, seen: sparse.csr_array, k: int
) -> tuple[IntArray, Float64Array]:
    """The k best items of each user by any score, in blocks of users: (items, scores).

    Shapes: score_users maps users (b,) to fresh scores (b, I); users (B,) int64, seen (U, I) -> (B, k) int64, (B, k).
    Edge: as `rank_items`.
    Errors: SpecError for a user out of range or a score that is NaN.
    Source: evaluation protocol.
    """
    require_indices("users", users, seen.shape[0])
    if k < 0:
        raise SpecError(f"k must be at least 0, got {k}")
    seen = stored_pairs(seen)
    items, scores = np.empty((users.size, k), dtype=np.int64), np.empty((users.size, k))
    for start in range(0, users.size, USERS_PER_BLOCK):
        block = slice(start, start + USERS_PER_BLOCK)
        block_scores = score_users(users[block])
        block_scores[seen[users[block]].nonzero()] = -np.inf
        items[block], scores[block] = rank_scores(block_scores, k)
    return items, scores


def recall_at_k(ranked: IntArray, held_out: sparse.csr_array, k: int) -> Float64Array:
    """Share of a user's held-out items among its first k.

        hits / |held out|

    Shapes: ranked (B, at least k) int64, held_out (B, I), an entry for every held-out pair -> (B,).
    Edge: -1 in a list is never a hit. The denominator is not cut at k.
    Errors: SpecError for a user without held-out item, for whom recall has no meaning, or lists shorter than k.
    Source: evaluation protocol.
    """
    hits, counts = _hits(ranked, held_out, k)
    return np.asarray(hits.sum(axis=1) / counts)


def ndcg_at_k(ranked: IntArray, held_out: sparse.csr_array, k: int) -> Float64Array:
    """Normalised discounted cumulative gain with binary gains.

        sum over hits at place p (from 0) of 1 / log2(p + 2), over the same sum for the first min(k, |held out|) places

    Shapes: as `recall_at_k` -> (B,) in [0, 1].
    Edge: as `recall_at_k`.
    Errors: as `recall_at_k`.
    Source: evaluation protocol.
    """
    hits, counts = _hits(ranked, held_out, k)
    discounts = 1.0 / np.log2(np.arange(k) + 2.0)
    ideal = np.cumsum(discounts)[np.minimum(counts, k) - 1]
    return np.asarray(hits @ discounts / ideal)


def mean_metrics(ranked: IntArray, held_out: sparse.csr_array, ks: Sequence[int]) -> dict[str, float]:
    """Means over users of both metrics: {"ndcg@5": ..., "recall@5": ...} for every k of `ks`.

    Shapes: as `recall_at_k`.
    Edge: only users with at least one held-out item belong in `ranked` and `held_out`; no user at all is an error.
    Errors: as `recall_at_k`.
    Source: evaluation protocol.
    """
    if len(ranked) == 0:
        raise SpecError("a mean over users needs at least one user with a held-out item, got none")
    ndcg = {f"ndcg@{k}": float(ndcg_at_k(ranked, held_out, k).mean()) for k in ks}
    return ndcg | {f"recall@{k}": float(recall_at_k(ranked, held_out, k).mean()) for k in ks}


def _hits(ranked: IntArray, held_out: sparse.csr_array, k: int) -> tuple[Float64Array, IntArray]:
    """1.0 where place p of a user's list holds one of its held-out items, and how many it has. Shapes: -> (B, k), (B,)."""
    n_items = held_out.shape[1]
    require_shape("held_out", held_out, (len(ranked), n_items))
    require_indices("ranked + 1", ranked + 1, n_items + 1)
    if not 1 <= k <= ranked.shape[1]:
        raise SpecError(f"k must be in [1, {ranked.shape[1]}], the length of the lists, got {k}")
    held_out = stored_pairs(held_out)
    counts = np.diff(held_out.indptr)
    if (counts == 0).any():
        raise SpecError(f"every user must have a held-out item, the one in row {int((counts == 0).argmax())} has none")
    # Pairs as single numbers; column 0 is kept for the padding -1.
    rows = np.arange(len(ranked)) * (n_items + 1)
    pairs = np.repeat(rows, counts) + held_out.indices + 1
    return np.isin(ranked[:, :k] + 1 + rows[:, None], pairs).astype(np.float64), counts
