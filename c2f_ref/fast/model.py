"""The implementation contract of `c2f_ref.spec.model`, compiled: the same names and parameters, float32 or float64."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import sparse

from .. import spec
from ..spec import IntArray, Settings, Triples
from ..spec.notation import (
    item_rows,
    require_batch,
    require_finite,
    require_shape,
    require_sizes,
    require_table,
)
from . import kernels
from .graph import expand_coarse, expand_fine
from .plan import CoarsePlan, FinePlan, FloatArray, Matrix, Workspace, locality, renumbered
from .primitives import sharpen, soft_threshold, soft_threshold_vjp, unsharpen


def prepare_coarse(
    norm_adjacency: sparse.csr_array,
    coarse_assignment: sparse.csr_array,
    n_users: int,
    settings: Settings,
    previous: CoarsePlan | FinePlan | None = None,
) -> CoarsePlan:
    """As `c2f_ref.spec.prepare_coarse`; numbers are of the adjacency's type."""
    require_sizes(norm_adjacency, coarse_assignment, n_users, settings)
    where = locality(norm_adjacency, previous.where if previous else None)
    own = renumbered(coarse_assignment, where.order)
    dtype = norm_adjacency.dtype
    graph = Matrix.of(expand_coarse(where.norm_adjacency, own), dtype)
    return CoarsePlan(graph, Matrix.of(own, dtype), Matrix.of(own.T, dtype), where, _workspace(previous), n_users, settings)


def embed_coarse(plan: CoarsePlan, coarse: FloatArray) -> tuple[FloatArray, FloatArray]:
    """As `c2f_ref.spec.embed_coarse`."""
    require_table("coarse", coarse, plan.settings.n_coarse, plan.settings)
    n_entities = plan.where.place.size
    rows = np.concatenate([plan.where.place, np.arange(n_entities, plan.graph.n_rows)])
    _, propagated = _forward_coarse(plan, _own_type(plan, coarse), rows)
    return propagated[:n_entities].copy(), propagated[n_entities:].copy()


def coarse_loss_and_grad(
    plan: CoarsePlan, coarse: FloatArray, bias: FloatArray, triples: Triples
) -> tuple[float, FloatArray, FloatArray]:
    """As `c2f_ref.spec.coarse_loss_and_grad`."""
    batch = _batch(plan, bias, triples)
    require_table("coarse", coarse, plan.settings.n_coarse, plan.settings)
    layers, propagated = _forward_coarse(plan, _own_type(plan, coarse), batch.rows)
    loss, grad, grad_bias = _pairs(plan, batch, propagated, layers[0], bias)
    total = layers[1]  # layers but the first are free from here on
    if plan.settings.n_layers == 0:
        kernels.put_rows(batch.slots, grad, total)
    for layer in range(plan.settings.n_layers):
        # G is symmetric, so that it pulls back by itself.
        if layer == 0:
            kernels.first_step_back(*plan.graph.arrays, batch.slots, grad, total)
        else:
            before, total = total, layers[1 + layer % 2]
            kernels.step_back(*plan.graph.arrays, batch.slots, grad, before, total)
    grad_ego, grad_coarse = np.split(total, _cuts(plan))
    grad_coarse = grad_coarse / total.dtype.type(plan.settings.n_layers + 1)
    return loss, grad_coarse + _pull_back_ego(plan, batch, layers[0], grad_ego), grad_bias


def prepare_fine(
    norm_adjacency: sparse.csr_array,
    coarse_assignment: sparse.csr_array,
    fine_assignment: sparse.csr_array,
    n_users: int,
    settings: Settings,
    previous: CoarsePlan | FinePlan | None = None,
) -> FinePlan:
    """As `c2f_ref.spec.prepare_fine`; numbers are of the adjacency's type."""
    require_sizes(norm_adjacency, coarse_assignment, n_users, settings)
    require_shape("fine_assignment", fine_assignment, (settings.n_coarse, settings.n_fine))
    where = locality(norm_adjacency, previous.where if previous else None)
    own = renumbered(coarse_assignment, where.order)
    dtype = norm_adjacency.dtype
    return FinePlan(
        Matrix.of(expand_fine(where.norm_adjacency, own, fine_assignment), dtype),
        Matrix.of(own, dtype),
        Matrix.of(own.T, dtype),
        Matrix.of(fine_assignment, dtype),
        Matrix.of(fine_assignment.T, dtype),
        where,
        _workspace(previous),
        n_users,
        settings,
    )


def embed_fine(plan: FinePlan, coarse: FloatArray, fine: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """As `c2f_ref.spec.embed_fine`."""
    require_table("coarse", coarse, plan.settings.n_coarse, plan.settings)
    require_table("fine", fine, plan.settings.n_fine, plan.settings)
    _, *propagated = _forward_fine(plan, _own_type(plan, coarse), _own_type(plan, fine), plan.where.place)
    h, c, f = (part.copy() for part in propagated)
    return h, c, f


def fine_loss_and_grad(
    plan: FinePlan, coarse: FloatArray, fine: FloatArray, bias: FloatArray, triples: Triples
) -> tuple[float, FloatArray, FloatArray, FloatArray]:
    """As `c2f_ref.spec.fine_loss_and_grad`."""
    settings = plan.settings
    batch = _batch(plan, bias, triples)
    require_table("coarse", coarse, settings.n_coarse, settings)
    require_table("fine", fine, settings.n_fine, settings)
    coarse, fine = _own_type(plan, coarse), _own_type(plan, fine)
    layers, propagated, *_ = _forward_fine(plan, coarse, fine, batch.rows)
    loss, grad, grad_bias = _pairs(plan, batch, propagated, layers[0], bias)
    total = layers[1]  # layers but the first are free from here on
    kernels.put_rows(batch.slots, grad, total)
    for layer in range(settings.n_layers):
        parts = np.split(total, _cuts(plan))  # views
        unsharpen(plan.coarse_transposed, plan.fine_transposed, settings.bridge_weight, *parts)
        before, total = total, layers[2 - layer % 2]
        kernels.step_back(*plan.graph.arrays, batch.slots, grad, before, total)
    grad_ego, grad_bridged, grad_nodes = np.split(total, _cuts(plan))
    grad_bridged, grad_nodes = (part / total.dtype.type(settings.n_layers + 1) for part in (grad_bridged, grad_nodes))

    grad_thresholded = settings.bridge_weight * plan.fine_transposed.product(grad_bridged)
    grad_coarse = (1 - settings.bridge_weight) * grad_bridged + _pull_back_ego(plan, batch, layers[0], grad_ego)
    grad_fine = soft_threshold_vjp(fine, settings.threshold, grad_thresholded)
    grad_fine = grad_fine + spec.fine_embed_vjp(fine, settings.threshold, grad_nodes)
    return loss, grad_coarse, grad_fine, grad_bias


def _forward_coarse(plan: CoarsePlan, coarse: FloatArray, rows: IntArray) -> tuple[FloatArray, FloatArray]:
    """(layers 0 to L - 1, propagated nodes `rows`) in the plan's order; the last layer is made for those rows alone."""
    n_layers = plan.settings.n_layers
    layers = _first_layer(plan, coarse, coarse)
    for layer in range(1, n_layers):
        kernels.put_product(*plan.graph.arrays, layers[layer - 1], layers[layer])
    out = _work(plan, "propagated", plan.graph.n_rows)[: rows.size]
    kernels.sum_layers(rows, layers[: max(n_layers, 1)], out)
    if n_layers:
        plan.graph.add_rows(rows, layers[n_layers - 1], n_layers + 1, out)
    return layers, out


def _forward_fine(
    plan: FinePlan, coarse: FloatArray, fine: FloatArray, rows: IntArray
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """(layers 0 to L - 1, propagated entities `rows`, coarse, fine) in the plan's order; the last layer is made for those alone.

    After each product, c' = bridge(c - S_f f, f); the two lines on h add S_c (c' - c).
    """
    weight, n_layers, n_entities = plan.settings.bridge_weight, plan.settings.n_layers, plan.where.place.size
    thresholded = soft_threshold(fine, plan.settings.threshold)
    bridged = (1 - weight) * coarse + weight * plan.fine_assignment.product(thresholded)
    layers = _first_layer(plan, coarse, bridged, np.tanh(thresholded))
    for layer in range(1, n_layers):
        kernels.put_product(*plan.graph.arrays, layers[layer - 1], layers[layer])
        h, c, f = np.split(layers[layer], _cuts(plan))  # views
        sharpened = sharpen(plan.fine_assignment, weight, c, f)
        kernels.add_product(*plan.coarse_assignment.arrays, sharpened - c, h)
        c[:] = sharpened
    nodes = np.arange(n_entities, plan.graph.n_rows)  # coarse and fine
    out = _work(plan, "propagated", plan.graph.n_rows)[: rows.size + nodes.size]
    kernels.sum_layers(np.concatenate([rows, nodes]), layers[: max(n_layers, 1)], out)
    h, c, f = np.split(out, [rows.size, rows.size + plan.settings.n_coarse])
    if n_layers:
        last = np.zeros((nodes.size, out.shape[1]), dtype=out.dtype)
        plan.graph.add_rows(nodes, layers[n_layers - 1], 1, last)
        last_c, last_f = np.split(last, [plan.settings.n_coarse])
        sharpened = sharpen(plan.fine_assignment, weight, last_c, last_f)
        plan.graph.add_rows(rows, layers[n_layers - 1], 1, h)
        plan.coarse_assignment.add_rows(rows, sharpened - last_c, n_layers + 1, h)
        c[:] = (c + sharpened) / out.dtype.type(n_layers + 1)
        f[:] = (f + last_f) / out.dtype.type(n_layers + 1)
    return layers, h, c, f


def _first_layer(plan: CoarsePlan | FinePlan, coarse: FloatArray, *tables: FloatArray) -> FloatArray:
    """Room for layers (at least 3, n, D), the first of them filled: [tanh(S_c coarse); tables]."""
    n_entities = plan.where.order.size
    layers = _work(plan, "layers", max(plan.settings.n_layers, 3), plan.graph.n_rows)
    ego = layers[0, :n_entities]
    kernels.put_product(*plan.coarse_assignment.arrays, coarse, ego)
    np.tanh(ego, out=ego)
    np.concatenate(tables, out=layers[0, n_entities:])
    return layers


def _pull_back_ego(plan: CoarsePlan | FinePlan, batch: Batch, layer: FloatArray, grad: FloatArray) -> FloatArray:
    """Gradient in E_c of the ego rows, propagated and penalised; `grad` is used up."""
    dtype = grad.dtype.type
    weight = dtype(2 * plan.settings.l2_weight / max(batch.users.size, 1))
    divisor = dtype(plan.settings.n_layers + 1)
    ego = layer[: len(grad)]
    kernels.pull_back_ego(plan.coarse_assignment.blocks, ego, batch.slots, batch.counts, divisor, weight, grad)
    return plan.coarse_transposed.product(grad)


def _pairs(
    plan: CoarsePlan | FinePlan, batch: Batch, entities: FloatArray, ego: FloatArray, bias: FloatArray
) -> tuple[float, FloatArray, FloatArray]:
    """Loss of the batch: (loss, gradient in its propagated rows, gradient in the bias).

    `entities` and their gradient are compact; `bias` and its gradient are in the caller's order.
    """
    n_rows, dtype = batch.rows.size, entities.dtype
    n_triples = max(batch.users.size, 1)
    named = plan.where.order[batch.rows]
    triples = batch.users, batch.positives, batch.negatives
    differences = np.empty(batch.users.size, dtype=dtype)
    kernels.pair_differences(entities, bias[named].astype(dtype), *triples, differences)
    losses = np.logaddexp(0, differences)
    slopes = (np.exp(differences - losses) / dtype.type(n_triples)).astype(dtype)
    indptr, places = kernels.places_by_row(*triples, n_rows)
    grad = _work(plan, "grad", plan.graph.n_rows)[:n_rows]
    grad_of_rows = np.empty(n_rows, dtype=dtype)
    kernels.pull_back_pairs(entities, *triples, slopes, indptr, places, grad, grad_of_rows)
    grad_bias = np.zeros(bias.size, dtype=dtype)
    grad_bias[named] = grad_of_rows

    squares = np.empty(n_rows, dtype=dtype)
    kernels.squared_rows(batch.rows, ego, squares)
    penalty = plan.settings.l2_weight / n_triples * float((batch.counts * squares.astype(np.float64)).sum())
    loss = float(losses.sum(dtype=np.float64) / n_triples) + penalty
    require_finite("loss", loss)
    return loss, grad, grad_bias


class Batch(NamedTuple):
    """A batch on the rows that it reads: their numbers in the plan (R,), how often each occurs (R,), and the triples in `rows`.

    `slots` (n,) is where a node stands in `rows`, -1 for one that does not.
    """

    rows: IntArray
    slots: IntArray
    counts: IntArray
    users: IntArray
    positives: IntArray
    negatives: IntArray


def _batch(plan: CoarsePlan | FinePlan, bias: FloatArray, triples: Triples) -> Batch:
    """The batch in the plan's order, after the checks of the specification."""
    place, n_users = plan.where.place, plan.n_users
    require_batch(place.size, n_users, bias, triples)
    entities = triples.users, item_rows(n_users, triples.positives), item_rows(n_users, triples.negatives)
    own = [place[part] for part in entities]
    occurrences = np.bincount(np.concatenate(own), minlength=plan.graph.n_rows)
    rows = np.flatnonzero(occurrences)
    slots = np.full(plan.graph.n_rows, -1, dtype=np.int64)
    slots[rows] = np.arange(rows.size)
    return Batch(rows, slots, occurrences[rows], *(slots[part] for part in own))


def _workspace(previous: CoarsePlan | FinePlan | None) -> Workspace:
    return previous.work if previous else Workspace()


def _work(plan: CoarsePlan | FinePlan, name: str, *shape: int) -> FloatArray:
    """The work buffer of this name and shape (..., D)."""
    return plan.work.get(name, (*shape, plan.settings.dim), plan.graph.data.dtype)


def _own_type(plan: CoarsePlan | FinePlan, table: FloatArray) -> FloatArray:
    return np.ascontiguousarray(table, dtype=plan.graph.data.dtype)


def _cuts(plan: CoarsePlan | FinePlan) -> list[int]:
    """Where the rows of coarse nodes begin in a layer, and those of fine nodes."""
    first = plan.where.order.size
    return [first] if isinstance(plan, CoarsePlan) else [first, first + plan.settings.n_coarse]
