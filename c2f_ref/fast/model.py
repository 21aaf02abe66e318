"""The implementation contract of `c2f_ref.spec.model`, compiled: the same names and parameters, float32 or float64."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy import sparse

from .. import spec
from ..spec import IntArray, Settings, Triples
from ..spec.notation import require_shape, require_sizes, require_table
from . import kernels
from .batch import Batch, batch_of, pairs_loss_and_grad
from .graph import expand
from .plan import FloatArray, Matrix, Plan, Work, locality
from .primitives import soft_threshold, soft_threshold_vjp


def prepare_coarse(
    norm_adjacency: sparse.csr_array,
    coarse_assignment: sparse.csr_array,
    n_users: int,
    settings: Settings,
    previous: Plan | None = None,
) -> Plan:
    """As `c2f_ref.spec.prepare_coarse`: as `prepare_fine` for a model without fine rows."""
    no_fine = sparse.csr_array((settings.n_coarse, 0))
    return prepare_fine(norm_adjacency, coarse_assignment, no_fine, n_users, replace(settings, n_fine=0), previous)


def embed_coarse(plan: Plan, coarse: FloatArray) -> tuple[FloatArray, FloatArray]:
    """As `c2f_ref.spec.embed_coarse`."""
    coarse = _table(plan, "coarse", coarse)
    propagated, _ = _forward_coarse(plan, coarse, np.arange(plan.graph.shape[0]))
    h, c, _ = _handed_out(plan, propagated)
    return h, c


def coarse_loss_and_grad(
    plan: Plan, coarse: FloatArray, bias: FloatArray, triples: Triples
) -> tuple[float, FloatArray, FloatArray]:
    """As `c2f_ref.spec.coarse_loss_and_grad`."""
    batch = batch_of(plan, bias, triples)
    propagated, ego = _forward_coarse(plan, _table(plan, "coarse", coarse), batch.rows)
    loss, grad, grad_bias = pairs_loss_and_grad(plan, batch, propagated, ego, bias)
    total, spare = plan.work.total, plan.work.spare  # nobody reads `propagated` any more
    # G is symmetric, so that it pulls back by itself.
    if plan.settings.n_layers < 2:
        kernels.put_rows(batch.slots, grad, total)
    else:
        kernels.first_step_back(plan.graph.blocks, plan.graph.arrays, batch.slots, grad, total)
    for _ in range(plan.settings.n_layers - 2):
        plan.graph.step(batch.slots, grad, total, spare)
        total, spare = spare, total
    grad_ego, grad_coarse, _ = _last_step_back(plan, batch, ego, grad, total, spare)
    return loss, grad_coarse + plan.coarse_assignment.T @ grad_ego, grad_bias


def prepare_fine(
    norm_adjacency: sparse.csr_array,
    coarse_assignment: sparse.csr_array,
    fine_assignment: sparse.csr_array,
    n_users: int,
    settings: Settings,
    previous: Plan | None = None,
) -> Plan:
    """As `c2f_ref.spec.prepare_fine`; numbers are of the adjacency's type, order and work tables are taken over where they fit.

    Edge: gradients take A to be symmetric, which is not checked.
    """
    require_sizes(norm_adjacency, coarse_assignment, n_users, settings)
    require_shape("fine_assignment", fine_assignment, (settings.n_coarse, settings.n_fine))
    where, dtype = locality(norm_adjacency, n_users, previous), norm_adjacency.dtype
    own = sparse.csr_array(coarse_assignment)[where.order]
    graph = expand(where.norm_adjacency, own, fine_assignment)
    if settings.n_layers == 0:
        graph = sparse.csr_array(graph.shape)  # nothing is propagated
    shape = graph.shape[0], settings.dim
    if previous is not None and (previous.work.first.shape, previous.dtype) == (shape, dtype):
        work = previous.work
    else:
        work = Work(*(np.empty(shape, dtype=dtype) for _ in Work._fields))
    return Plan(Matrix(graph, dtype), Matrix(own, dtype), Matrix(fine_assignment, dtype), where, work, n_users, settings)


def embed_fine(plan: Plan, coarse: FloatArray, fine: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """As `c2f_ref.spec.embed_fine`."""
    coarse, fine = _table(plan, "coarse", coarse), _table(plan, "fine", fine)
    propagated, _ = _forward_fine(plan, coarse, fine, np.arange(plan.cuts[0]))
    h, c, f = _handed_out(plan, propagated)
    return h, c, f


def fine_loss_and_grad(
    plan: Plan, coarse: FloatArray, fine: FloatArray, bias: FloatArray, triples: Triples
) -> tuple[float, FloatArray, FloatArray, FloatArray]:
    """As `c2f_ref.spec.fine_loss_and_grad`."""
    settings = plan.settings
    batch = batch_of(plan, bias, triples)
    coarse, fine = _table(plan, "coarse", coarse), _table(plan, "fine", fine)
    propagated, ego = _forward_fine(plan, coarse, fine, batch.rows)
    loss, grad, grad_bias = pairs_loss_and_grad(plan, batch, propagated[: batch.rows.size], ego, bias)
    total, spare = plan.work.total, plan.work.spare  # nobody reads `propagated` any more
    kernels.put_rows(batch.slots, grad, total)
    for layer in range(settings.n_layers):
        _unsharpen(plan, *np.split(total, plan.cuts))
        if layer < settings.n_layers - 1:
            plan.graph.step(batch.slots, grad, total, spare)
            total, spare = spare, total
    grad_ego, grad_bridged, grad_nodes = _last_step_back(plan, batch, ego, grad, total, spare)

    grad_coarse, grad_thresholded = spec.bridge_vjp(plan.fine_assignment, settings.bridge_weight, grad_bridged)
    grad_coarse = grad_coarse + plan.coarse_assignment.T @ grad_ego
    grad_fine = soft_threshold_vjp(fine, settings.threshold, grad_thresholded)
    grad_fine = grad_fine + spec.fine_embed_vjp(fine, settings.threshold, grad_nodes)
    return loss, grad_coarse, grad_fine, grad_bias


def _forward_coarse(plan: Plan, coarse: FloatArray, rows: IntArray) -> tuple[FloatArray, FloatArray]:
    """The propagated nodes `rows` and the ego rows, in the plan's order, in work tables: (propagated, ego).

    H = (X + G (X + G (X + ...))) / (L + 1), the last product for `rows` alone.
    """
    graph, n_layers = plan.graph, plan.settings.n_layers
    first, total, spare = _first_layer(plan, coarse, coarse), plan.work.total, plan.work.spare
    before, everywhere = first, np.arange(graph.shape[0])
    for _ in range(n_layers - 1):
        graph.step(everywhere, first, before, total)
        before, total, spare = total, spare, total
    out = total[: rows.size]
    graph.step(rows, first, before, out, rows, n_layers + 1)
    return out, first[: plan.cuts[0]]


def _forward_fine(plan: Plan, coarse: FloatArray, fine: FloatArray, rows: IntArray) -> tuple[FloatArray, FloatArray]:
    """As `_forward_coarse`; all coarse and fine nodes stand behind the propagated entities `rows`.

    H = (X + M (X + M (X + ...))) / (L + 1), where M is the product (h, c, f) with G and then
    c' = bridge(c - S_f f, f),  h' = h + S_c (c' - c)
    """
    settings, graph, n_entities, weight = plan.settings, plan.graph, plan.cuts[0], plan.settings.bridge_weight
    thresholded = soft_threshold(fine, settings.threshold)
    bridged = spec.bridge(plan.fine_assignment, weight, coarse, thresholded)
    first = _first_layer(plan, coarse, bridged, np.tanh(thresholded))
    total, spare = plan.work.total, plan.work.spare
    entities, nodes = np.split(np.arange(graph.shape[0]), [n_entities])  # nodes: coarse and fine
    nowhere = np.full(nodes.size, -1)

    def sharpened(moved: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Coarse and fine rows of M total from those of G total (`moved`), and c' - c."""
        c, f = np.split(moved, [settings.n_coarse])
        c_new = spec.bridge(plan.fine_assignment, weight, c - plan.fine_assignment @ f, f)
        return np.concatenate([c_new, f]), c_new - c

    before = first
    for _ in range(settings.n_layers - 1):
        graph.step(np.concatenate([entities, nowhere]), first, before, total)
        moved, change = sharpened(total[n_entities:])
        plan.coarse_assignment.step(None, total, change, total[:n_entities])
        np.add(first[n_entities:], moved, out=total[n_entities:])
        before, total, spare = total, spare, total
    out = total[: rows.size + nodes.size]
    h, nodes_out = np.split(out, [rows.size])
    moved = np.empty_like(nodes_out)
    graph.step(nowhere, first, before, moved, nodes)
    moved, change = sharpened(moved)
    nodes_out[:] = (first[n_entities:] + moved) / out.dtype.type(settings.n_layers + 1)
    plan.coarse_assignment.step(rows, first, change, h, rows)
    graph.step(None, h, before, h, rows, settings.n_layers + 1)
    return out, first[:n_entities]


def _first_layer(plan: Plan, coarse: FloatArray, *tables: FloatArray) -> FloatArray:
    """X (n, D): [tanh(S_c coarse); tables]."""
    first, n_entities = plan.work.first, plan.cuts[0]
    ego = first[:n_entities]
    plan.coarse_assignment.step(np.full(n_entities, -1), coarse, coarse, ego)
    np.tanh(ego, out=ego)
    np.concatenate(tables, out=first[n_entities:])
    return first


def _unsharpen(plan: Plan, h: FloatArray, c: FloatArray, f: FloatArray) -> None:
    """Pull the gradients of a fine layer back, in place, through what follows its product; that of the entities stays.

    c' = bridge(c - S_f f, f),  h' = h + S_c (c' - c)
    """
    weight = plan.settings.bridge_weight
    from_entities = plan.coarse_assignment.T @ h
    sharpened = c + from_entities
    unmixed = (1.0 - weight) * sharpened
    f += plan.fine_assignment.T @ (weight * sharpened - unmixed)
    c[:] = unmixed - from_entities


def _last_step_back(
    plan: Plan, batch: Batch, ego: FloatArray, grad: FloatArray, total: FloatArray, out: FloatArray
) -> list[FloatArray]:
    """Gradient in what tanh is taken of, propagated and penalised, and in every kind of node; in `out`."""
    weight = plan.dtype.type(2 * plan.settings.l2_weight / max(batch.triples.users.size, 1))
    penalties, divisor = weight * np.diff(batch.indptr).astype(plan.dtype), plan.dtype.type(plan.settings.n_layers + 1)
    graph, rows = plan.graph, np.arange(len(out))
    kernels.last_step_back(graph.blocks, graph.arrays, rows, batch.slots, grad, total, divisor, ego, penalties, out)
    return np.split(out, plan.cuts)


def _handed_out(plan: Plan, nodes: FloatArray) -> list[FloatArray]:
    """A copy in the caller's order, by kind of node."""
    out = np.empty_like(nodes)
    kernels.put_rows(np.concatenate([plan.where.place, np.arange(plan.cuts[0], len(nodes))]), nodes, out)
    return np.split(out, plan.cuts)


def _table(plan: Plan, name: str, table: FloatArray) -> FloatArray:
    """The coarse or fine table, checked and of the plan's type."""
    require_table(name, table, {"coarse": plan.settings.n_coarse, "fine": plan.settings.n_fine}[name], plan.settings)
    return np.ascontiguousarray(table, dtype=plan.dtype)
