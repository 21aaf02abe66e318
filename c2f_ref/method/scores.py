"""From embeddings to scores: triples and loss that train them, lists that they order, metrics."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from . import notation
from .graph import top_columns
from .notation import Float64Array, IntArray, MethodError, Sparse, Triples

__all__ = [
    "bpr_loss", "bpr_loss_vjp", "ego_penalty", "ego_penalty_vjp", "mean_metrics", "ndcg_at_k",
    "rank_by", "rank_items", "rank_scores", "recall_at_k", "sample_triples", "score_pairs",
    "score_pairs_vjp",
]  # fmt: skip


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
    seen = notation.stored_pairs(seen)
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


def score_pairs(
    entities: Float64Array, bias: Float64Array, offset: float, n_users: int,
    users: IntArray, items: IntArray,
) -> Float64Array:  # fmt: skip
    """How well each user and item fit: a dot product and linear terms, which carry popularity (D8).

        s = H_u . H_(U+i) + b_u + b_(U+i) + b_0

    Shapes: propagated entities (N, D), bias (N,), users (P,), items (P,) int64 -> (P,).
    Edge: b_u and b_0 cancel in the loss and in every ranking; a stored model need not keep them.
    Source: equation (17).
    """
    rows = notation.item_rows(n_users, items)
    dots: Float64Array = np.einsum("pd,pd->p", entities[users], entities[rows])
    return dots + bias[users] + bias[rows] + offset


def score_pairs_vjp(
    entities: Float64Array, bias: Float64Array, offset: float, n_users: int,
    users: IntArray, items: IntArray, grad: Float64Array,
) -> tuple[Float64Array, Float64Array, float]:  # fmt: skip
    """Pull `grad` back through `score_pairs`: (grad_entities, grad_bias, grad_offset).

    Shapes: as `score_pairs`, grad (P,) -> (N, D), (N,), one number.
    Edge: an entity that is in several pairs gets the sum, in the order of the pairs.
    """
    rows = notation.item_rows(n_users, items)
    grad_entities, grad_bias = np.zeros_like(entities), np.zeros_like(bias)
    np.add.at(grad_entities, users, grad[:, None] * entities[rows])
    np.add.at(grad_entities, rows, grad[:, None] * entities[users])
    np.add.at(grad_bias, users, grad)
    np.add.at(grad_bias, rows, grad)
    return grad_entities, grad_bias, float(grad.sum())


def bpr_loss(positive_scores: Float64Array, negative_scores: Float64Array) -> float:
    """Mean over triples of softplus(s_uj - s_ui) = log(1 + exp(s_uj - s_ui)).

    Shapes: (B,), (B,) -> one number.
    Edge: logaddexp is exact over the whole range; equal scores give log 2; no triple gives 0.
    Source: equation (18); Rendle et al., UAI 2009.
    """
    losses = np.logaddexp(0.0, negative_scores - positive_scores)
    return float(losses.sum() / max(positive_scores.size, 1))


def bpr_loss_vjp(
    positive_scores: Float64Array, negative_scores: Float64Array, grad: float
) -> tuple[Float64Array, Float64Array]:
    """Pull `grad` back through `bpr_loss`: (grad_positive_scores, grad_negative_scores).

        d softplus(z) / dz = exp(z - softplus(z)) = 1 / (1 + exp(-z)),  z = s_uj - s_ui

    Shapes: (B,), (B,), one number -> (B,), (B,).
    Edge: no exponential overflows; the two results are exact opposites.
    """
    difference = negative_scores - positive_scores
    slope = grad * np.exp(difference - np.logaddexp(0.0, difference)) / max(positive_scores.size, 1)
    return -slope, slope


def ego_penalty(ego: Float64Array, n_users: int, triples: Triples, weight: float) -> float:
    """Squared norms of the batch's ego rows, before any propagation.

        weight / B sum (|X_u|^2 + |X_i|^2 + |X_j|^2)

    Shapes: ego (N, D), triples (B,) each -> one number.
    Edge: an entity counts as often as it is in the batch; no triple gives 0. No factor 1/2.
    Source: equation (19).
    """
    squares = np.einsum("nd,nd->n", ego, ego)
    total = squares[_entities_of(n_users, triples)].sum()
    return float(weight * total / max(triples.users.size, 1))


def ego_penalty_vjp(
    ego: Float64Array, n_users: int, triples: Triples, weight: float, grad: float
) -> Float64Array:
    """Pull `grad` back through `ego_penalty`: rows times 2 weight / B times their count.

    Shapes: as `ego_penalty`, grad one number -> (N, D).
    """
    counts = np.bincount(_entities_of(n_users, triples), minlength=len(ego))
    return (2.0 * weight * grad / max(triples.users.size, 1)) * counts[:, None] * ego


def _entities_of(n_users: int, triples: Triples) -> IntArray:
    items = notation.item_rows(n_users, np.concatenate([triples.positives, triples.negatives]))
    return np.concatenate([triples.users, items])


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
