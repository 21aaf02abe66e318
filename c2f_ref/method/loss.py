"""What training minimises: Bayesian personalised ranking of pair scores, and an ego penalty."""

from __future__ import annotations

import numpy as np

from .notation import Float64Array, IntArray, Triples, item_rows

__all__ = [
    "bpr_loss", "bpr_loss_vjp", "ego_penalty", "ego_penalty_vjp", "score_pairs", "score_pairs_vjp",
]  # fmt: skip


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
    rows = item_rows(n_users, items)
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
    rows = item_rows(n_users, items)
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
    users, positives, negatives = triples
    return np.concatenate([users, item_rows(n_users, positives), item_rows(n_users, negatives)])
