"""The implementation contract of `c2f_ref.spec.model`, compiled: the same names and parameters, float32 or float64."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from .. import spec
from ..spec import IntArray, Settings, Triples
from ..spec.notation import require_shape, require_sizes, require_table
from . import kernels
from .batch import Batch, batch_of, pairs_loss_and_grad
from .graph import expand_coarse, expand_fine
from .plan import CoarsePlan, FinePlan, FloatArray, Matrix, Workspace, locality, renumbered, work_table
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
    where = locality(norm_adjacency, n_users, previous.where if previous else None)
    own = renumbered(coarse_assignment, where.order)
    dtype = norm_adjacency.dtype
    graph = Matrix.of(expand_coarse(where.norm_adjacency, own), dtype)
    return CoarsePlan(graph, Matrix.of(own, dtype), Matrix.of(own.T, dtype), where, _workspace(previous), n_users, settings)


def embed_coarse(plan: CoarsePlan, coarse: FloatArray) -> tuple[FloatArray, FloatArray]:
    """As `c2f_ref.spec.embed_coarse`."""
    require_table("coarse", coarse, plan.settings.n_coarse, plan.settings)
    propagated, _ = _forward_coarse(plan, _own_type(plan, coarse), np.arange(plan.graph.n_rows))
    h, c = _handed_out(plan, propagated)
    return h, c


def coarse_loss_and_grad(
    plan: CoarsePlan, coarse: FloatArray, bias: FloatArray, triples: Triples
) -> tuple[float, FloatArray, FloatArray]:
    """As `c2f_ref.spec.coarse_loss_and_grad`."""
    batch = batch_of(plan, bias, triples)
    require_table("coarse", coarse, plan.settings.n_coarse, plan.settings)
    propagated, ego = _forward_coarse(plan, _own_type(plan, coarse), batch.rows)
    loss, grad, grad_bias = pairs_loss_and_grad(plan, batch, propagated, ego, bias)
    total, spare = work_table(plan, "total"), work_table(plan, "spare")  # nobody reads `propagated` any more
    # G is symmetric, so that it pulls back by itself.
    if plan.settings.n_layers < 2:
        kernels.put_rows(batch.slots, grad, total)
    else:
        kernels.first_step_back(*plan.graph.arrays, batch.slots, grad, total)
    for _ in range(plan.settings.n_layers - 2):
        kernels.horner_step(*plan.graph.arrays, batch.slots, grad, total, spare)
        total, spare = spare, total
    grad_ego, grad_coarse = _last_step_back(plan, batch, ego, grad, total, spare)
    return loss, grad_coarse + plan.coarse_transposed.product(grad_ego), grad_bias


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
    where = locality(norm_adjacency, n_users, previous.where if previous else None)
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
    propagated, _ = _forward_fine(plan, _own_type(plan, coarse), _own_type(plan, fine), np.arange(plan.where.place.size))
    h, c, f = _handed_out(plan, propagated)
    return h, c, f


def fine_loss_and_grad(
    plan: FinePlan, coarse: FloatArray, fine: FloatArray, bias: FloatArray, triples: Triples
) -> tuple[float, FloatArray, FloatArray, FloatArray]:
    """As `c2f_ref.spec.fine_loss_and_grad`."""
    settings = plan.settings
    batch = batch_of(plan, bias, triples)
    require_table("coarse", coarse, settings.n_coarse, settings)
    require_table("fine", fine, settings.n_fine, settings)
    coarse, fine = _own_type(plan, coarse), _own_type(plan, fine)
    propagated, ego = _forward_fine(plan, coarse, fine, batch.rows)
    loss, grad, grad_bias = pairs_loss_and_grad(plan, batch, propagated[: batch.rows.size], ego, bias)
    total, spare = work_table(plan, "total"), work_table(plan, "spare")  # nobody reads `propagated` any more
    kernels.put_rows(batch.slots, grad, total)
    for layer in range(settings.n_layers):
        unsharpen(plan.coarse_transposed, plan.fine_transposed, settings.bridge_weight, *np.split(total, _cuts(plan)))
        if layer < settings.n_layers - 1:
            kernels.horner_step(*plan.graph.arrays, batch.slots, grad, total, spare)
            total, spare = spare, total
    grad_ego, grad_bridged, grad_nodes = _last_step_back(plan, batch, ego, grad, total, spare)

    grad_thresholded = settings.bridge_weight * plan.fine_transposed.product(grad_bridged)
    grad_coarse = (1 - settings.bridge_weight) * grad_bridged + plan.coarse_transposed.product(grad_ego)
    grad_fine = soft_threshold_vjp(fine, settings.threshold, grad_thresholded)
    grad_fine = grad_fine + spec.fine_embed_vjp(fine, settings.threshold, grad_nodes)
    return loss, grad_coarse, grad_fine, grad_bias


def _forward_coarse(plan: CoarsePlan, coarse: FloatArray, rows: IntArray) -> tuple[FloatArray, FloatArray]:
    """The propagated nodes `rows` and the ego rows, in the plan's order, in work tables: (propagated, ego).

    H = (X + G (X + G (X + ...))) / (L + 1), the last product for `rows` alone.
    """
    first, total, spare = _first_layer(plan, coarse, coarse), work_table(plan, "total"), work_table(plan, "spare")
    n_layers, everywhere = plan.settings.n_layers, np.arange(plan.graph.n_rows)
    before = first
    for _ in range(n_layers - 1):
        kernels.horner_step(*plan.graph.arrays, everywhere, first, before, total)
        before, total, spare = total, spare, total
    out = total[: rows.size]
    _last_graph(plan).step_of_rows(rows, rows, first, before, n_layers + 1, out)
    return out, first[: plan.where.order.size]


def _forward_fine(plan: FinePlan, coarse: FloatArray, fine: FloatArray, rows: IntArray) -> tuple[FloatArray, FloatArray]:
    """As `_forward_coarse`; all coarse and fine nodes stand behind the propagated entities `rows`.

    H = (X + M (X + M (X + ...))) / (L + 1), where M is the product (h, c, f) with G and then
    c' = bridge(c - S_f f, f),  h' = h + S_c (c' - c)
    """
    settings, n_entities = plan.settings, plan.where.place.size
    thresholded = soft_threshold(fine, settings.threshold)
    bridged = (1 - settings.bridge_weight) * coarse + settings.bridge_weight * plan.fine_assignment.product(thresholded)
    first, total, spare = (
        _first_layer(plan, coarse, bridged, np.tanh(thresholded)),
        work_table(plan, "total"),
        work_table(plan, "spare"),
    )
    nodes = np.arange(n_entities, plan.graph.n_rows)  # coarse and fine
    nowhere = np.full(nodes.size, -1)
    entities_alone = np.concatenate([np.arange(n_entities), nowhere])

    def sharpened(moved: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Coarse and fine rows of M total from those of G total (`moved`), and c' - c."""
        c, f = np.split(moved, [settings.n_coarse])
        c_new = sharpen(plan.fine_assignment, settings.bridge_weight, c, f)
        return np.concatenate([c_new, f]), c_new - c

    before = first
    for _ in range(settings.n_layers - 1):
        kernels.horner_step(*plan.graph.arrays, entities_alone, first, before, total)
        moved, change = sharpened(total[n_entities:])
        kernels.add_product(*plan.coarse_assignment.arrays, change, total[:n_entities])
        np.add(first[n_entities:], moved, out=total[n_entities:])
        before, total, spare = total, spare, total
    out = total[: rows.size + nodes.size]
    h, nodes_out = np.split(out, [rows.size])
    graph, divisor = _last_graph(plan), settings.n_layers + 1
    moved = np.empty_like(nodes_out)
    graph.step_of_rows(nodes, nowhere, first, before, 1, moved)
    moved, change = sharpened(moved)
    nodes_out[:] = (first[n_entities:] + moved) / out.dtype.type(divisor)
    plan.coarse_assignment.step_of_rows(rows, rows, first, change, 1, h)
    graph.step_of_rows(rows, np.arange(rows.size), h, before, divisor, h)
    return out, first[:n_entities]


def _first_layer(plan: CoarsePlan | FinePlan, coarse: FloatArray, *tables: FloatArray) -> FloatArray:
    """X (n, D): [tanh(S_c coarse); tables]."""
    n_entities = plan.where.order.size
    first = work_table(plan, "first")
    ego = first[:n_entities]
    kernels.put_product(*plan.coarse_assignment.arrays, coarse, ego)
    np.tanh(ego, out=ego)
    np.concatenate(tables, out=first[n_entities:])
    return first


def _last_step_back(
    plan: CoarsePlan | FinePlan, batch: Batch, ego: FloatArray, grad: FloatArray, total: FloatArray, out: FloatArray
) -> list[FloatArray]:
    """Gradient in what tanh is taken of, propagated and penalised, and in every kind of node; in `out`."""
    dtype = out.dtype.type
    weight = dtype(2 * plan.settings.l2_weight / max(batch.users.size, 1))
    divisor = dtype(plan.settings.n_layers + 1)
    matrix = _last_graph(plan).arrays
    kernels.last_step_back(*matrix, batch.slots, grad, total, divisor, ego, batch.counts, weight, out)
    return np.split(out, _cuts(plan))


def _last_graph(plan: CoarsePlan | FinePlan) -> Matrix:
    """G, and without layers the matrix of zeros: then nothing is propagated, forwards or backwards."""
    return plan.graph if plan.settings.n_layers else plan.graph.without_entries()


def _workspace(previous: CoarsePlan | FinePlan | None) -> Workspace:
    return previous.work if previous else Workspace()


def _handed_out(plan: CoarsePlan | FinePlan, nodes: FloatArray) -> list[FloatArray]:
    """A copy in the caller's order, by kind of node."""
    out = np.empty_like(nodes)
    kernels.put_rows(np.concatenate([plan.where.place, np.arange(plan.where.place.size, len(nodes))]), nodes, out)
    return np.split(out, _cuts(plan))


def _own_type(plan: CoarsePlan | FinePlan, table: FloatArray) -> FloatArray:
    return np.ascontiguousarray(table, dtype=plan.graph.data.dtype)


def _cuts(plan: CoarsePlan | FinePlan) -> list[int]:
    """Where the rows of coarse nodes begin in a layer, and those of fine nodes."""
    first = plan.where.order.size
    return [first] if isinstance(plan, CoarsePlan) else [first, first + plan.settings.n_coarse]
