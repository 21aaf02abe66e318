"""Figure 1 of the paper in calls: what an implementation of the method offers, and nothing more.

`c2f_ref.training` and everything that serves recommendations call only the names listed in `CONTRACT`. A module that has
them with these parameters is an implementation: this one, `c2f_ref.fast`, or yours. A plan is whatever the implementation
wants to keep for a graph and its assignments; callers pass it on and look at nothing in it. Checks stand at these doors:
the functions that they call trust what they get.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import sparse

from .assignment import refresh_coarse, refresh_fine
from .embeddings import (
    bridge,
    bridge_vjp,
    ego_embed,
    ego_embed_vjp,
    fine_embed,
    fine_embed_vjp,
    soft_threshold,
    soft_threshold_vjp,
)
from .graph import expand_coarse, expand_fine
from .loss import bpr_loss, bpr_loss_vjp, ego_penalty, ego_penalty_vjp, score_pairs, score_pairs_vjp
from .notation import Float64Array, Settings, Triples, require_batch, require_finite, require_shape, require_sizes, require_table
from .optimise import adam_step
from .propagation import propagate_coarse, propagate_coarse_vjp, propagate_fine, propagate_fine_vjp
from .ranking import rank_items
from .sampling import sample_triples

__all__ = [
    "adam_step",
    "coarse_loss_and_grad",
    "embed_coarse",
    "embed_fine",
    "fine_loss_and_grad",
    "prepare_coarse",
    "prepare_fine",
    "rank_items",
    "refresh_coarse",
    "refresh_fine",
    "sample_triples",
]
CONTRACT = tuple(__all__)


class CoarsePlan(NamedTuple):
    """What the specification keeps for the coarse stage: G (N + C, N + C), S_c (N, C), U and the settings."""

    graph: sparse.csr_array
    coarse_assignment: sparse.csr_array
    n_users: int
    settings: Settings


class FinePlan(NamedTuple):
    """What the specification keeps for the fine stage: G (N + C + F, N + C + F), S_c (N, C), S_f (C, F), U and the settings."""

    graph: sparse.csr_array
    coarse_assignment: sparse.csr_array
    fine_assignment: sparse.csr_array
    n_users: int
    settings: Settings


def prepare_coarse(
    norm_adjacency: sparse.csr_array,
    coarse_assignment: sparse.csr_array,
    n_users: int,
    settings: Settings,
    previous: CoarsePlan | FinePlan | None = None,
) -> CoarsePlan:
    """Everything of the coarse stage that changes only when S_c does.

    `previous` is an earlier plan of the same adjacency, of which an implementation may take over what it can; this one
    takes nothing.

    Shapes: A (N, N), S_c (N, C) -> a plan.
    Errors: SpecError for sizes that do not fit or values that are not finite.
    Source: coarse stage, step 2.
    """
    require_sizes(norm_adjacency, coarse_assignment, n_users, settings)
    return CoarsePlan(expand_coarse(norm_adjacency, coarse_assignment), coarse_assignment.copy(), n_users, settings)


def embed_coarse(plan: CoarsePlan, coarse: Float64Array) -> tuple[Float64Array, Float64Array]:
    """Forward pass of the coarse stage: propagated (entities, coarse).

    Shapes: E_c (C, D) -> (N, D), (C, D).
    Errors: SpecError for a wrong shape or values that are not finite.
    Source: coarse stage, step 3.
    """
    require_table("coarse", coarse, plan.settings.n_coarse, plan.settings)
    ego = ego_embed(plan.coarse_assignment, coarse)
    return propagate_coarse(plan.graph, plan.settings.n_layers, ego, coarse)


def coarse_loss_and_grad(
    plan: CoarsePlan, coarse: Float64Array, bias: Float64Array, triples: Triples
) -> tuple[float, Float64Array, Float64Array]:
    """Loss of a batch and its gradient in every table it reads: (loss, grad_coarse, grad_bias).

    Shapes: E_c (C, D), b (N,), triples (B,) each -> one number, (C, D), (N,).
    Edge: an empty batch has loss 0 and zero gradients. Gradients are not clipped yet.
    Errors: SpecError for wrong shapes, indices out of range or values that are not finite.
    Source: coarse stage, steps 3 to 5.
    """
    graph, coarse_assignment, n_users, settings = plan
    require_batch(coarse_assignment.shape[0], n_users, bias, triples)
    entities, propagated_coarse = embed_coarse(plan, coarse)
    ego = ego_embed(coarse_assignment, coarse)
    ranking_loss, grad_entities, grad_bias = _ranking_loss_and_grad(entities, bias, n_users, triples)
    loss = ranking_loss + ego_penalty(ego, n_users, triples, settings.l2_weight)

    grad_ego, grad_coarse = propagate_coarse_vjp(graph, settings.n_layers, grad_entities, np.zeros_like(propagated_coarse))
    grad_ego = grad_ego + ego_penalty_vjp(ego, n_users, triples, settings.l2_weight, 1.0)
    return loss, grad_coarse + ego_embed_vjp(coarse_assignment, coarse, grad_ego), grad_bias


def prepare_fine(
    norm_adjacency: sparse.csr_array,
    coarse_assignment: sparse.csr_array,
    fine_assignment: sparse.csr_array,
    n_users: int,
    settings: Settings,
    previous: CoarsePlan | FinePlan | None = None,
) -> FinePlan:
    """Everything of the fine stage that changes only when S_f does; `previous` as in `prepare_coarse`.

    Shapes: A (N, N), S_c (N, C), S_f (C, F) -> a plan.
    Errors: SpecError for sizes that do not fit or values that are not finite.
    Source: fine stage, step 4.
    """
    require_sizes(norm_adjacency, coarse_assignment, n_users, settings)
    require_shape("fine_assignment", fine_assignment, (settings.n_coarse, settings.n_fine))
    graph = expand_fine(norm_adjacency, coarse_assignment, fine_assignment)
    return FinePlan(graph, coarse_assignment.copy(), fine_assignment.copy(), n_users, settings)


def embed_fine(plan: FinePlan, coarse: Float64Array, fine: Float64Array) -> tuple[Float64Array, Float64Array, Float64Array]:
    """Forward pass of the fine stage: propagated (entities, coarse, fine).

        nodes: [tanh(S_c E_c); bridge(E_c, soft(E_f)); tanh(soft(E_f))]

    Shapes: E_c (C, D), E_f (F, D) -> (N, D), (C, D), (F, D).
    Edge: ego rows come from the unbridged table (D1).
    Errors: SpecError for a wrong shape or values that are not finite.
    Source: fine stage, steps 5 and 6.
    """
    graph, coarse_assignment, fine_assignment, _, settings = plan
    require_table("coarse", coarse, settings.n_coarse, settings)
    require_table("fine", fine, settings.n_fine, settings)
    return propagate_fine(
        graph,
        coarse_assignment,
        fine_assignment,
        settings.bridge_weight,
        settings.n_layers,
        ego_embed(coarse_assignment, coarse),
        bridge(fine_assignment, settings.bridge_weight, coarse, soft_threshold(fine, settings.threshold)),
        fine_embed(fine, settings.threshold),
    )


def fine_loss_and_grad(
    plan: FinePlan, coarse: Float64Array, fine: Float64Array, bias: Float64Array, triples: Triples
) -> tuple[float, Float64Array, Float64Array, Float64Array]:
    """Loss of a batch and its gradient in every table it reads: (loss, grad_coarse, grad_fine, grad_bias).

    Shapes: E_c (C, D), E_f (F, D), b (N,), triples (B,) each -> one number, (C, D), (F, D), (N,).
    Edge: E_c is frozen in training and has a gradient all the same (D7). An entry of E_f in [-tau, tau] has gradient 0.
    Otherwise as `coarse_loss_and_grad`.
    Errors: SpecError for wrong shapes, indices out of range or values that are not finite.
    Source: fine stage, steps 5 to 7.
    """
    graph, coarse_assignment, fine_assignment, n_users, settings = plan
    require_batch(coarse_assignment.shape[0], n_users, bias, triples)
    entities, propagated_coarse, propagated_fine = embed_fine(plan, coarse, fine)
    ego = ego_embed(coarse_assignment, coarse)
    ranking_loss, grad_entities, grad_bias = _ranking_loss_and_grad(entities, bias, n_users, triples)
    loss = ranking_loss + ego_penalty(ego, n_users, triples, settings.l2_weight)

    grad_ego, grad_bridged, grad_nodes = propagate_fine_vjp(
        graph,
        coarse_assignment,
        fine_assignment,
        settings.bridge_weight,
        settings.n_layers,
        grad_entities,
        np.zeros_like(propagated_coarse),
        np.zeros_like(propagated_fine),
    )
    grad_ego = grad_ego + ego_penalty_vjp(ego, n_users, triples, settings.l2_weight, 1.0)
    grad_coarse, grad_thresholded = bridge_vjp(fine_assignment, settings.bridge_weight, grad_bridged)
    grad_coarse = grad_coarse + ego_embed_vjp(coarse_assignment, coarse, grad_ego)
    grad_fine = soft_threshold_vjp(fine, settings.threshold, grad_thresholded)
    grad_fine = grad_fine + fine_embed_vjp(fine, settings.threshold, grad_nodes)
    return loss, grad_coarse, grad_fine, grad_bias


def _ranking_loss_and_grad(
    entities: Float64Array, bias: Float64Array, n_users: int, triples: Triples
) -> tuple[float, Float64Array, Float64Array]:
    """BPR of the batch on propagated embeddings: (loss, grad_entities, grad_bias)."""
    users, positives, negatives = triples
    positive_scores = score_pairs(entities, bias, 0.0, n_users, users, positives)
    negative_scores = score_pairs(entities, bias, 0.0, n_users, users, negatives)
    grad_positive, grad_negative = bpr_loss_vjp(positive_scores, negative_scores, 1.0)
    from_positive = score_pairs_vjp(entities, bias, 0.0, n_users, users, positives, grad_positive)
    from_negative = score_pairs_vjp(entities, bias, 0.0, n_users, users, negatives, grad_negative)
    loss = bpr_loss(positive_scores, negative_scores)
    require_finite("loss", loss)  # finite tables can still overflow in a product
    return loss, from_positive[0] + from_negative[0], from_positive[1] + from_negative[1]
