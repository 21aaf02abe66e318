"""Figure 1 of the paper in calls: what an implementation of the method offers, and nothing more.

`c2f_ref.training` and everything that serves recommendations call only the names in `CONTRACT`. A
module that has them with these parameters is an implementation: this package, `c2f_ref.fast`, or
yours. A plan is what an implementation keeps for one graph and its assignments, and `embed_*` may
return anything that its `rank_items`, `refresh_*` and `score_pairs` take; callers look into
neither. Arguments are validated here; the functions that are called trust what they get.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from . import embeddings, notation, scores
from .graph import expand_coarse, expand_fine
from .notation import Float64Array, Settings, Sparse, Triples

__all__ = [
    "CONTRACT", "CoarsePlan", "FinePlan", "coarse_loss_and_grad", "embed_coarse", "embed_fine",
    "fine_loss_and_grad", "prepare_coarse", "prepare_fine",
]  # fmt: skip

CONTRACT = (
    "adam_step", "coarse_loss_and_grad", "embed_coarse", "embed_fine", "fine_loss_and_grad",
    "prepare_coarse", "prepare_fine", "rank_items", "refresh_coarse", "refresh_fine",
    "sample_triples", "score_pairs",
)  # fmt: skip
"""What every implementation has, with the parameters that it has here."""


class CoarsePlan(NamedTuple):
    """What is kept for the coarse stage: G (N + C, N + C), S_c (N, C), U and the settings."""

    graph: Sparse
    coarse_assignment: Sparse
    n_users: int
    settings: Settings


class FinePlan(NamedTuple):
    """What is kept for the fine stage: G (N + C + F, N + C + F), S_c, S_f (C, F), U, settings."""

    graph: Sparse
    coarse_assignment: Sparse
    fine_assignment: Sparse
    n_users: int
    settings: Settings


def prepare_coarse(
    norm_adjacency: Sparse, coarse_assignment: Sparse, n_users: int, settings: Settings
) -> CoarsePlan:
    """Everything of the coarse stage that changes only when S_c does.

    Shapes: A (N, N), S_c (N, C) -> a plan.
    Errors: MethodError for sizes that do not fit or values that are not finite.
    Source: equation (3).
    """
    notation.require_sizes(norm_adjacency, coarse_assignment, n_users, settings)
    graph = expand_coarse(norm_adjacency, coarse_assignment)
    return CoarsePlan(graph, coarse_assignment.copy(), n_users, settings)


def embed_coarse(plan: CoarsePlan, coarse: Float64Array) -> tuple[Float64Array, Float64Array]:
    """Forward pass of the coarse stage: propagated (entities, coarse).

    Shapes: E_c (C, D) -> (N, D), (C, D).
    Errors: MethodError for a wrong shape or values that are not finite.
    Source: equations (10) and (15).
    """
    notation.require_table("coarse", coarse, plan.settings.n_coarse, plan.settings)
    ego = embeddings.ego_embed(plan.coarse_assignment, coarse)
    return embeddings.propagate_coarse(plan.graph, plan.settings.n_layers, ego, coarse)


def coarse_loss_and_grad(
    plan: CoarsePlan, coarse: Float64Array, bias: Float64Array, triples: Triples
) -> tuple[float, Float64Array, Float64Array]:
    """Loss of a batch and its gradient in every table it reads: (loss, grad_coarse, grad_bias).

    Shapes: E_c (C, D), b (N,), triples (B,) each -> one number, (C, D), (N,).
    Edge: an empty batch has loss 0 and zero gradients. Gradients are not clipped yet.
    Errors: MethodError for wrong shapes, indices out of range or values that are not finite.
    Source: equation (20).
    """
    graph, coarse_assignment, n_users, settings = plan
    notation.require_batch(coarse_assignment.shape[0], n_users, bias, triples)
    entities, _ = embed_coarse(plan, coarse)
    ego = embeddings.ego_embed(coarse_assignment, coarse)
    loss, grad_entities, grad_bias, grad_penalty = _objective(plan, entities, ego, bias, triples)
    zeros = np.zeros_like(coarse)
    grads = grad_entities, zeros
    grad_ego, grad_coarse = embeddings.propagate_coarse_vjp(graph, settings.n_layers, *grads)
    grad_ego = grad_ego + grad_penalty
    grad_coarse = grad_coarse + embeddings.ego_embed_vjp(coarse_assignment, coarse, grad_ego)
    return loss, grad_coarse, grad_bias


def prepare_fine(
    norm_adjacency: Sparse, coarse_assignment: Sparse, fine_assignment: Sparse,
    n_users: int, settings: Settings,
) -> FinePlan:  # fmt: skip
    """Everything of the fine stage that changes only when S_f does.

    Shapes: A (N, N), S_c (N, C), S_f (C, F) -> a plan.
    Errors: MethodError for sizes that do not fit or values that are not finite.
    Source: equation (4).
    """
    notation.require_sizes(norm_adjacency, coarse_assignment, n_users, settings)
    notation.require_shape("fine_assignment", fine_assignment, (settings.n_coarse, settings.n_fine))
    graph = expand_fine(norm_adjacency, coarse_assignment, fine_assignment)
    return FinePlan(graph, coarse_assignment.copy(), fine_assignment.copy(), n_users, settings)


def embed_fine(
    plan: FinePlan, coarse: Float64Array, fine: Float64Array
) -> tuple[Float64Array, Float64Array, Float64Array]:
    """Forward pass of the fine stage: propagated (entities, coarse, fine).

        nodes: [tanh(S_c E_c); embeddings.bridge(E_c, soft(E_f)); tanh(soft(E_f))]

    Shapes: E_c (C, D), E_f (F, D) -> (N, D), (C, D), (F, D).
    Edge: ego rows come from the unbridged table (D1).
    Errors: MethodError for a wrong shape or values that are not finite.
    Source: equations (10) to (12) and (16).
    """
    graph, coarse_assignment, fine_assignment, _, settings = plan
    notation.require_table("coarse", coarse, settings.n_coarse, settings)
    notation.require_table("fine", fine, settings.n_fine, settings)
    weight, threshold = settings.bridge_weight, settings.threshold
    ego = embeddings.ego_embed(coarse_assignment, coarse)
    thresholded = embeddings.soft_threshold(fine, threshold)
    bridged = embeddings.bridge(fine_assignment, weight, coarse, thresholded)
    nodes = ego, bridged, embeddings.fine_embed(fine, threshold)
    structure = graph, coarse_assignment, fine_assignment, weight, settings.n_layers
    return embeddings.propagate_fine(*structure, *nodes)


def fine_loss_and_grad(
    plan: FinePlan, coarse: Float64Array, fine: Float64Array, bias: Float64Array, triples: Triples
) -> tuple[float, Float64Array, Float64Array, Float64Array]:
    """Loss of a batch and its gradient in all it reads: (loss, grad_coarse, grad_fine, grad_bias).

    Shapes: E_c (C, D), E_f (F, D), b (N,), triples (B,) each -> one number, (C, D), (F, D), (N,).
    Edge: E_c is frozen in training and has a gradient all the same (D7). An entry of E_f in
    [-tau, tau] has gradient 0. Otherwise as `coarse_loss_and_grad`.
    Errors: MethodError for wrong shapes, indices out of range or values that are not finite.
    Source: equation (20).
    """
    graph, coarse_assignment, fine_assignment, n_users, settings = plan
    notation.require_batch(coarse_assignment.shape[0], n_users, bias, triples)
    entities, _, _ = embed_fine(plan, coarse, fine)
    ego = embeddings.ego_embed(coarse_assignment, coarse)
    loss, grad_entities, grad_bias, grad_penalty = _objective(plan, entities, ego, bias, triples)
    weight, threshold = settings.bridge_weight, settings.threshold
    structure = graph, coarse_assignment, fine_assignment, weight, settings.n_layers
    grad_ego, grad_bridged, grad_nodes = embeddings.propagate_fine_vjp(
        *structure, grad_entities, np.zeros_like(coarse), np.zeros_like(fine)
    )
    grad_ego = grad_ego + grad_penalty
    grad_coarse, grad_thresholded = embeddings.bridge_vjp(fine_assignment, weight, grad_bridged)
    grad_coarse = grad_coarse + embeddings.ego_embed_vjp(coarse_assignment, coarse, grad_ego)
    grad_fine = embeddings.soft_threshold_vjp(fine, threshold, grad_thresholded)
    grad_fine = grad_fine + embeddings.fine_embed_vjp(fine, threshold, grad_nodes)
    return loss, grad_coarse, grad_fine, grad_bias


def _objective(
    plan: CoarsePlan | FinePlan, entities: Float64Array, ego: Float64Array, bias: Float64Array,
    triples: Triples,
) -> tuple[float, Float64Array, Float64Array, Float64Array]:  # fmt: skip
    """L of a batch, and the same calls backwards: (loss, grad_entities, grad_bias, grad_penalty).

    L = 1/B sum softplus(s_uj - s_ui) + l2/B sum (|X_u|^2 + |X_(U+i)|^2 + |X_(U+j)|^2)
    """
    n_users, l2_weight = plan.n_users, plan.settings.l2_weight
    users, positives, negatives = triples
    positive_pairs = entities, bias, 0.0, n_users, users, positives
    negative_pairs = entities, bias, 0.0, n_users, users, negatives
    both = scores.score_pairs(*positive_pairs), scores.score_pairs(*negative_pairs)
    loss = scores.bpr_loss(*both) + scores.ego_penalty(ego, n_users, triples, l2_weight)
    notation.require_finite("loss", loss)  # finite tables can still overflow in a product

    grad_penalty = scores.ego_penalty_vjp(ego, n_users, triples, l2_weight, 1.0)
    grad_positive, grad_negative = scores.bpr_loss_vjp(*both, 1.0)
    from_positive = scores.score_pairs_vjp(*positive_pairs, grad_positive)
    from_negative = scores.score_pairs_vjp(*negative_pairs, grad_negative)
    grad_entities = from_positive[0] + from_negative[0]
    grad_bias = from_positive[1] + from_negative[1]
    return loss, grad_entities, grad_bias, grad_penalty
