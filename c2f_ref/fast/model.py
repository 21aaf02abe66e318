"""The implementation contract of `c2f_ref.spec.model`, compiled: the same names and parameters, float32 or float64."""

from __future__ import annotations

from typing import Any

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
from .plan import CoarsePlan, FinePlan, FloatArray, Matrix, Workspace, locality, renumbered

LAYERS = ("one layer", "the next")


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
    graph = Matrix.of(spec.expand_coarse(where.norm_adjacency, own), dtype)
    return CoarsePlan(graph, Matrix.of(own, dtype), Matrix.of(own.T, dtype), where, _workspace(previous), n_users, settings)


def embed_coarse(plan: CoarsePlan, coarse: FloatArray) -> tuple[FloatArray, FloatArray]:
    """As `c2f_ref.spec.embed_coarse`."""
    require_table("coarse", coarse, plan.settings.n_coarse, plan.settings)
    entities, propagated = _forward_coarse(plan, _own_type(plan, coarse))[1:]
    return entities[plan.where.place], propagated.copy()


def coarse_loss_and_grad(
    plan: CoarsePlan, coarse: FloatArray, bias: FloatArray, triples: Triples
) -> tuple[float, FloatArray, FloatArray]:
    """As `c2f_ref.spec.coarse_loss_and_grad`."""
    rows = _rows_of(plan, bias, triples)
    require_table("coarse", coarse, plan.settings.n_coarse, plan.settings)
    ego, entities, _ = _forward_coarse(plan, _own_type(plan, coarse))
    loss, grad, grad_bias, counts = _pairs(plan, entities, ego, bias, rows)
    total = grad
    for layer in range(plan.settings.n_layers):
        out = _work(plan, LAYERS[layer % 2])
        # G is symmetric, so that it pulls back by itself.
        kernels.step_back(*plan.graph.arrays, grad, total, out)
        total = out
    grad_coarse = total[len(ego) :] / total.dtype.type(plan.settings.n_layers + 1)
    return loss, grad_coarse + _pull_back_ego(plan, ego, counts, total[: len(ego)]), grad_bias


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
        Matrix.of(spec.expand_fine(where.norm_adjacency, own, fine_assignment), dtype),
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
    _, entities, propagated_coarse, propagated_fine = _forward_fine(plan, _own_type(plan, coarse), _own_type(plan, fine))
    return entities[plan.where.place], propagated_coarse.copy(), propagated_fine.copy()


def fine_loss_and_grad(
    plan: FinePlan, coarse: FloatArray, fine: FloatArray, bias: FloatArray, triples: Triples
) -> tuple[float, FloatArray, FloatArray, FloatArray]:
    """As `c2f_ref.spec.fine_loss_and_grad`."""
    settings = plan.settings
    rows = _rows_of(plan, bias, triples)
    require_table("coarse", coarse, settings.n_coarse, settings)
    require_table("fine", fine, settings.n_fine, settings)
    coarse, fine = _own_type(plan, coarse), _own_type(plan, fine)
    ego, entities, *_ = _forward_fine(plan, coarse, fine)
    loss, grad, grad_bias, counts = _pairs(plan, entities, ego, bias, rows)
    total = grad
    for layer in range(settings.n_layers):
        out = _work(plan, LAYERS[layer % 2])
        kernels.step_back(*plan.graph.arrays, grad, _undo_rebridge(plan, total), out)
        total = out
    grad_ego, grad_bridged, grad_nodes = np.split(total, _cuts(plan))
    grad_bridged, grad_nodes = (part / total.dtype.type(settings.n_layers + 1) for part in (grad_bridged, grad_nodes))

    grad_thresholded = settings.bridge_weight * plan.fine_transposed.product(grad_bridged)
    grad_coarse = (1 - settings.bridge_weight) * grad_bridged + _pull_back_ego(plan, ego, counts, grad_ego)
    grad_fine = spec.soft_threshold_vjp(fine, settings.threshold, grad_thresholded)
    grad_fine = grad_fine + spec.fine_embed_vjp(fine, settings.threshold, grad_nodes)
    return loss, grad_coarse, grad_fine, grad_bias


def _forward_coarse(plan: CoarsePlan, coarse: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """(ego, entities, coarse) in the plan's order."""
    nodes, ego = _nodes(plan, coarse, coarse)
    total, n_layers = _work(plan, "total"), plan.settings.n_layers
    total[:] = nodes
    for layer in range(n_layers):
        out = _work(plan, LAYERS[layer % 2])
        kernels.put_product(*plan.graph.arrays, nodes, out)
        kernels.add_scaled(plan.graph.blocks, out, total, _divisor(total, layer, n_layers))
        nodes = out
    return ego, total[: len(ego)], total[len(ego) :]


def _forward_fine(plan: FinePlan, coarse: FloatArray, fine: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """(ego, entities, coarse, fine) in the plan's order.

    After each product, c' = bridge(c - S_f f, f); the two lines on h add S_c (c' - c).
    """
    weight, n_layers = plan.settings.bridge_weight, plan.settings.n_layers
    thresholded = spec.soft_threshold(fine, plan.settings.threshold)
    bridged = (1 - weight) * coarse + weight * plan.fine_assignment.product(thresholded)
    nodes, ego = _nodes(plan, coarse, bridged, np.tanh(thresholded))
    total = _work(plan, "total")
    total[:] = nodes
    for layer in range(n_layers):
        out = _work(plan, LAYERS[layer % 2])
        kernels.put_product(*plan.graph.arrays, nodes, out)
        h, c, f = np.split(out, _cuts(plan))  # views
        shared = plan.fine_assignment.product(f)
        sharpened = (1 - weight) * (c - shared) + weight * shared
        kernels.add_product(*plan.coarse_assignment.arrays, sharpened - c, h)
        c[:] = sharpened
        kernels.add_scaled(plan.graph.blocks, out, total, _divisor(total, layer, n_layers))
        nodes = out
    h, c, f = np.split(total, _cuts(plan))
    return ego, h, c, f


def _nodes(plan: CoarsePlan | FinePlan, coarse: FloatArray, *tables: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Layer 0, [tanh(S_c coarse); tables], and a view of its ego rows."""
    n_entities = plan.where.order.size
    nodes = _work(plan, "layer 0")
    ego = nodes[:n_entities]
    kernels.put_product(*plan.coarse_assignment.arrays, coarse, ego)
    np.tanh(ego, out=ego)
    np.concatenate(tables, out=nodes[n_entities:])
    return nodes, ego


def _divisor(total: FloatArray, layer: int, n_layers: int) -> Any:
    """What the sum of layers is divided by after this one: the last makes it a mean."""
    return total.dtype.type(n_layers + 1 if layer == n_layers - 1 else 1)


def _undo_rebridge(plan: FinePlan, grad: FloatArray) -> FloatArray:
    """Pull a gradient back through what follows the product in a fine layer."""
    weight = plan.settings.bridge_weight
    h, c, f = np.split(grad, _cuts(plan))
    from_entities = plan.coarse_transposed.product(h)
    sharpened = c + from_entities
    unmixed = (1 - weight) * sharpened
    f = f + plan.fine_transposed.product(weight * sharpened - unmixed)
    return np.concatenate([h, unmixed - from_entities, f], out=_work(plan, "undone"))


def _pull_back_ego(plan: CoarsePlan | FinePlan, ego: FloatArray, counts: IntArray, grad: FloatArray) -> FloatArray:
    """Gradient in E_c of the ego rows, propagated and penalised; `grad` is used up."""
    dtype = ego.dtype.type
    weight = dtype(2 * plan.settings.l2_weight / max(counts.sum() // 3, 1))
    divisor = dtype(plan.settings.n_layers + 1)
    kernels.pull_back_ego(plan.coarse_assignment.blocks, ego, counts, divisor, weight, grad)
    return plan.coarse_transposed.product(grad)


def _pairs(
    plan: CoarsePlan | FinePlan,
    entities: FloatArray,
    ego: FloatArray,
    bias: FloatArray,
    rows: tuple[IntArray, IntArray, IntArray],
) -> tuple[float, FloatArray, FloatArray, IntArray]:
    """Loss of the batch: (loss, gradient in all nodes, gradient in the bias, how often each entity is in the batch).

    The gradient in the nodes is 0 in the rows behind the entities. `bias` and its gradient are in the caller's order,
    everything else is in the plan's.
    """
    n_entities, dtype = len(entities), entities.dtype
    n_triples = max(rows[0].size, 1)
    differences = np.empty(rows[0].size, dtype=dtype)
    kernels.pair_differences(entities, _own_type(plan, bias)[plan.where.order], *rows, differences)
    losses = np.logaddexp(0, differences)
    slopes = (np.exp(differences - losses) / dtype.type(n_triples)).astype(dtype)
    indptr, places = kernels.places_by_row(*rows, n_entities)
    grad = _work(plan, "grad")
    grad[n_entities:] = 0
    grad_bias = np.empty(n_entities, dtype=dtype)
    kernels.pull_back_pairs(entities, *rows, slopes, indptr, places, grad[:n_entities], grad_bias)

    counts = np.diff(indptr)
    squares = np.empty(n_entities, dtype=dtype)
    kernels.squared_rows(ego, squares)
    penalty = plan.settings.l2_weight / n_triples * float((counts * squares.astype(np.float64)).sum())
    loss = float(losses.sum(dtype=np.float64) / n_triples) + penalty
    require_finite("loss", loss)
    return loss, grad, grad_bias[plan.where.place], counts


def _rows_of(plan: CoarsePlan | FinePlan, bias: FloatArray, triples: Triples) -> tuple[IntArray, IntArray, IntArray]:
    """Rows of users, positives and negatives in the plan's order, after the checks of the specification."""
    place = plan.where.place
    require_batch(place.size, plan.n_users, bias, triples)
    return (
        place[triples.users],
        place[item_rows(plan.n_users, triples.positives)],
        place[item_rows(plan.n_users, triples.negatives)],
    )


def _workspace(previous: CoarsePlan | FinePlan | None) -> Workspace:
    return previous.work if previous else Workspace()


def _work(plan: CoarsePlan | FinePlan, name: str) -> FloatArray:
    return plan.work.get(name, plan.graph.n_rows, plan.settings.dim, plan.graph.data.dtype)


def _own_type(plan: CoarsePlan | FinePlan, table: FloatArray) -> FloatArray:
    return np.ascontiguousarray(table, dtype=plan.graph.data.dtype)


def _cuts(plan: FinePlan) -> list[int]:
    n_entities = plan.where.order.size
    return [n_entities, n_entities + plan.settings.n_coarse]
