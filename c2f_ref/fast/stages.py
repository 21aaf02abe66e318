"""Both stages of the contract of `c2f_ref.method`, fused and in place.

Layers are added by Horner's rule. A step of training computes the last layer and the first step
back for the rows of its batch alone. Tables in the plan's order are scratch; what is returned is
new.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.sparse import csc_array, csr_array

from .. import method
from ..method import IntArray, Triples, notation
from . import kernels
from .plan import Array, Matrix, Plan, scratch

__all__ = [
    "coarse_loss_and_grad", "embed_coarse", "embed_fine", "fine_loss_and_grad", "score_pairs",
    "score_pairs_vjp",
]  # fmt: skip


def embed_coarse(plan: Plan, coarse: Array) -> tuple[Array, Array]:
    """As `c2f_ref.method.embed_coarse`."""
    propagated, _ = _forward_coarse(plan, coarse, np.arange(plan.graph.shape[0]))
    entities, coarse, _ = _in_callers_order(plan, propagated)
    return entities, coarse


def embed_fine(plan: Plan, coarse: Array, fine: Array) -> tuple[Array, Array, Array]:
    """As `c2f_ref.method.embed_fine`."""
    propagated, _ = _forward_fine(plan, coarse, fine, np.arange(plan.cuts[0]))
    return _in_callers_order(plan, propagated)


def coarse_loss_and_grad(
    plan: Plan, coarse: Array, bias: Array, triples: Triples
) -> tuple[float, Array, Array]:
    """As `c2f_ref.method.coarse_loss_and_grad`."""
    batch, n_layers = _batch_of(plan, bias, triples), plan.settings.n_layers
    propagated, ego = _forward_coarse(plan, coarse, batch.rows)
    loss, grad, grad_bias = _ranking_loss_and_grad(plan, batch, propagated, ego, bias)
    _, total, spare = scratch(plan)  # `propagated` is not needed any more
    # G is symmetric, so it pulls back by itself.
    if n_layers < 2:
        total[:] = 0
        total[batch.rows] = grad
    else:
        kernels.step_from_batch(plan.graph.blocks, plan.graph.arrays, batch.slots, grad, total)
    for _ in range(n_layers - 2):
        plan.graph.step(batch.slots, grad, total, spare)
        total, spare = spare, total
    grad_ego, grad_coarse, _ = _last_step_back(plan, batch, ego, grad, total, spare)
    return loss, grad_coarse + plan.coarse_assignment.T @ grad_ego, grad_bias


def fine_loss_and_grad(
    plan: Plan, coarse: Array, fine: Array, bias: Array, triples: Triples
) -> tuple[float, Array, Array, Array]:
    """As `c2f_ref.method.fine_loss_and_grad`."""
    settings, batch = plan.settings, _batch_of(plan, bias, triples)
    propagated, ego = _forward_fine(plan, coarse, fine, batch.rows)
    loss, grad, grad_bias = _ranking_loss_and_grad(plan, batch, propagated, ego, bias)
    _, total, spare = scratch(plan)  # `propagated` is not needed any more
    total[:] = 0
    total[batch.rows] = grad
    for layer in range(settings.n_layers):
        _sharpen_vjp(plan, *np.split(total, plan.cuts))
        if layer < settings.n_layers - 1:
            plan.graph.step(batch.slots, grad, total, spare)
            total, spare = spare, total
    grad_ego, grad_bridged, grad_nodes = _last_step_back(plan, batch, ego, grad, total, spare)

    fine, weight, threshold = _table(plan, "fine", fine), settings.bridge_weight, settings.threshold
    grad_coarse, grad_soft = method.bridge_vjp(plan.fine_assignment, weight, grad_bridged)
    grad_coarse = grad_coarse + plan.coarse_assignment.T @ grad_ego
    grad_fine = method.soft_threshold_vjp(fine, threshold, grad_soft)
    grad_fine = grad_fine + method.fine_embed_vjp(fine, threshold, grad_nodes)
    return loss, grad_coarse, grad_fine, grad_bias


def score_pairs(
    entities: Array, bias: Array, offset: float, n_users: int, users: IntArray, items: IntArray
) -> Array:
    """As `c2f_ref.method.score_pairs`, in the type of the entities."""
    users, rows = _require_pairs(entities, bias, n_users, users, items)
    entities, bias = np.require(entities, None, ["C", "W"]), bias.astype(entities.dtype)
    scores: Array = bias[users] + bias[rows] + bias.dtype.type(offset)
    kernels.add_products(entities, users, rows, scores)
    return scores


def score_pairs_vjp(
    entities: Array, bias: Array, offset: float, n_users: int, users: IntArray, items: IntArray,
    grad: Array,
) -> tuple[Array, Array, float]:  # fmt: skip
    """As `c2f_ref.method.score_pairs_vjp`; an entity first adds its pairs as a user, in order."""
    users, rows = _require_pairs(entities, bias, n_users, users, items)
    notation.require_shape("grad", grad, users.shape)
    entities = np.require(entities, None, ["C", "W"])
    # Row e of the incidence has grad at the places where entity e is an end of a pair.
    ends, others = np.concatenate([users, rows]), np.concatenate([rows, users])
    grads, shape = np.tile(grad.astype(entities.dtype), 2), (len(entities), ends.size)
    incidence = csc_array((grads, ends, np.arange(ends.size + 1)), shape=shape).tocsr()
    # The same entries, at the other ends of the pairs.
    entries = incidence.data, others[incidence.indices], incidence.indptr
    pairs = csr_array(entries, shape=(len(entities), len(entities)))
    grad_bias = np.bincount(ends, grads, len(entities)).astype(entities.dtype)
    return Matrix(pairs, entities.dtype) @ entities, grad_bias, float(grad.sum(dtype=np.float64))


def _require_pairs(
    entities: Array, bias: Array, n_users: int, users: IntArray, items: IntArray
) -> tuple[IntArray, IntArray]:
    """Both ends of every pair as entities, int64; MethodError for wrong shapes or indices."""
    notation.require_shape("bias", bias, (len(entities),))
    notation.require_shape("items", items, users.shape)
    notation.require_indices("users", users, n_users)
    notation.require_indices("items", items, len(entities) - n_users)
    return np.array(users, dtype=np.int64), notation.item_rows(n_users, items)


class _Batch(NamedTuple):
    """A batch on the rows it reads: their node numbers (R,), ascending, `slots` (n,) which lead
    back, how often each row is in the batch (R,), and the triples as rows and items among them.
    """

    rows: IntArray
    slots: IntArray
    counts: IntArray
    n_users: int
    triples: Triples


def _batch_of(plan: Plan, bias: Array, triples: Triples) -> _Batch:
    notation.require_batch(plan.place.size, plan.n_users, bias, triples)
    users, *items = triples
    entities = [users, *(notation.item_rows(plan.n_users, part) for part in items)]
    nodes = plan.place[np.concatenate(entities, dtype=np.int64)]
    counts = np.bincount(nodes, minlength=plan.graph.shape[0])
    rows = np.flatnonzero(counts)
    slots = np.full(counts.size, -1)
    slots[rows] = np.arange(rows.size)
    n_users = int(np.searchsorted(rows, plan.n_users))  # users come first in both orders
    users, positives, negatives = np.split(slots[nodes], 3)
    compact = Triples(users, positives - n_users, negatives - n_users)
    return _Batch(rows, slots, counts[rows], n_users, compact)


def _ranking_loss_and_grad(
    plan: Plan, batch: _Batch, entities: Array, ego: Array, bias: Array
) -> tuple[float, Array, Array]:
    """Loss of a batch: (loss, gradient in its propagated rows, gradient in the bias).

    Shapes: entities (at least R, D), ego (N, D), both in the plan's order, b (N,) -> one number,
    (R, D), (N,).
    """
    users, positives, negatives = batch.triples
    named, n_users, l2_weight = plan.order[batch.rows], batch.n_users, plan.settings.l2_weight
    pairs = entities[: named.size], bias[named], 0.0, n_users
    scores = score_pairs(*pairs, users, positives), score_pairs(*pairs, users, negatives)
    squares = np.zeros(batch.rows.size, plan.graph.dtype)
    kernels.add_products(ego, batch.rows, batch.rows, squares)
    penalty = float(batch.counts @ squares) / max(users.size, 1)
    loss = method.bpr_loss(*scores) + l2_weight * penalty
    notation.require_finite("loss", loss)  # finite tables can still overflow in a product

    slopes = np.concatenate(method.bpr_loss_vjp(*scores, 1.0))
    twice, items = np.concatenate([users, users]), np.concatenate([positives, negatives])
    grad, grad_of_rows, _ = score_pairs_vjp(*pairs, twice, items, slopes)
    grad_bias = np.zeros(bias.size, dtype=plan.graph.dtype)
    grad_bias[named[n_users:]] = grad_of_rows[n_users:]  # that of a user cancels
    return loss, grad, grad_bias


def _forward_coarse(plan: Plan, coarse: Array, rows: IntArray) -> tuple[Array, Array]:
    """The propagated nodes `rows` and the ego rows, both scratch: (propagated, ego).

    H = (X + G (X + G (X + ...))) / (L + 1), the last product for `rows` alone.
    """
    coarse = _table(plan, "coarse", coarse)
    graph, n_layers = plan.graph, plan.settings.n_layers
    first, total, spare = scratch(plan)
    ego = _put_first_layer(plan, coarse, (coarse,), first)
    previous, everywhere = first, np.arange(graph.shape[0])
    for _ in range(n_layers - 1):
        graph.step(everywhere, first, previous, total)
        previous, total, spare = total, spare, total
    out = total[: rows.size]
    graph.step(rows, first, previous, out, rows, n_layers + 1)
    return out, ego


def _forward_fine(plan: Plan, coarse: Array, fine: Array, rows: IntArray) -> tuple[Array, Array]:
    """As `_forward_coarse`; all coarse and fine nodes follow the propagated entities `rows`.

    H = (X + M (X + M (X + ...))) / (L + 1), where M is the product with G, which gives (h, c, f),
    and then  c' = bridge(c - S_f f, f),  h' = h + S_c (c' - c).
    """
    coarse, fine = _table(plan, "coarse", coarse), _table(plan, "fine", fine)
    graph, settings, n_entities = plan.graph, plan.settings, plan.cuts[0]
    weight, thresholded = settings.bridge_weight, method.soft_threshold(fine, settings.threshold)
    bridged = method.bridge(plan.fine_assignment, weight, coarse, thresholded)
    first, total, spare = scratch(plan)
    ego = _put_first_layer(plan, coarse, (bridged, np.tanh(thresholded)), first)
    entities, nodes = np.split(np.arange(graph.shape[0]), [n_entities])  # nodes: coarse and fine
    nowhere = np.full(nodes.size, -1)

    def sharpened(moved: Array) -> tuple[Array, Array]:
        """Coarse and fine rows of M X from those of G X, and c' - c."""
        c, f = np.split(moved, [settings.n_coarse])
        c_new = method.bridge(plan.fine_assignment, weight, c - plan.fine_assignment @ f, f)
        return np.concatenate([c_new, f]), c_new - c

    previous = first
    for _ in range(settings.n_layers - 1):
        graph.step(np.concatenate([entities, nowhere]), first, previous, total)
        moved, change = sharpened(total[n_entities:])
        plan.coarse_assignment.step(None, total, change, total[:n_entities])
        np.add(first[n_entities:], moved, out=total[n_entities:])
        previous, total, spare = total, spare, total
    out = total[: rows.size + nodes.size]
    h, nodes_out = np.split(out, [rows.size])
    moved = np.empty_like(nodes_out)
    graph.step(nowhere, first, previous, moved, nodes)
    moved, change = sharpened(moved)
    nodes_out[:] = (first[n_entities:] + moved) / out.dtype.type(settings.n_layers + 1)
    plan.coarse_assignment.step(rows, first, change, h, rows)
    graph.step(None, h, previous, h, rows, settings.n_layers + 1)
    return out, ego


def _put_first_layer(plan: Plan, coarse: Array, tables: tuple[Array, ...], out: Array) -> Array:
    """Write X = [tanh(S_c E_c); tables] to `out` (n, D); return the ego rows, its first part."""
    ego = out[: plan.cuts[0]]
    plan.coarse_assignment.step(np.full(len(ego), -1), coarse, coarse, ego)
    np.tanh(ego, out=ego)
    np.concatenate(tables, out=out[len(ego) :])
    return ego


def _sharpen_vjp(plan: Plan, h: Array, c: Array, f: Array) -> None:
    """Pull gradients back, in place, through what follows the product of a fine layer.

    c' = bridge(c - S_f f, f),  h' = h + S_c (c' - c)
    """
    weight = plan.settings.bridge_weight
    from_entities = plan.coarse_assignment.T @ h
    sharpened = c + from_entities
    unmixed = (1.0 - weight) * sharpened
    f += plan.fine_assignment.T @ (weight * sharpened - unmixed)
    c[:] = unmixed - from_entities


def _last_step_back(
    plan: Plan, batch: _Batch, ego: Array, grad: Array, total: Array, out: Array
) -> list[Array]:
    """Gradients of each kind of node, in `out`: those of ego rows with the penalty, before tanh."""
    plan.graph.step(batch.slots, grad, total, out, np.arange(len(out)), plan.settings.n_layers + 1)
    weight = 2 * plan.settings.l2_weight / max(batch.triples.users.size, 1)
    penalties = (weight * batch.counts).astype(plan.graph.dtype)
    kernels.back_through_tanh(batch.slots, penalties, ego, out)
    return np.split(out, plan.cuts)


def _in_callers_order(plan: Plan, nodes: Array) -> tuple[Array, Array, Array]:
    """A copy, by kind of node."""
    entities, coarse, fine = np.split(nodes, plan.cuts)
    return entities[plan.place], coarse.copy(), fine.copy()


def _table(plan: Plan, name: str, table: Array) -> Array:
    """A validated table of the plan's type."""
    notation.require_table(name, table, getattr(plan.settings, f"n_{name}"), plan.settings)
    return np.require(table, plan.graph.dtype, ["C", "W"])
