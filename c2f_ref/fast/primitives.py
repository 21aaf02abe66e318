"""The small functions of the specification, compiled: without a plan, in the caller's order, fresh arrays out.

Results are float32 where every dense input is, float64 otherwise. What the specification leaves to NumPy and SciPy, that sizes fit
and indices are in range, is checked here: a kernel would read beyond its arrays.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse

from ..spec import IntArray
from ..spec.notation import item_rows, require_indices, require_shape
from . import kernels
from .compile import ask_for_row, kernel, span
from .plan import FloatArray, Matrix


def compose(assignment: sparse.csr_array, table: FloatArray) -> FloatArray:
    """As `c2f_ref.spec.compose`."""
    require_shape("table", table, (assignment.shape[1], *table.shape[1:]))
    (table,) = own(table)
    return Matrix.of(assignment, table.dtype).product(table)


def compose_vjp(assignment: sparse.csr_array, grad: FloatArray) -> FloatArray:
    """As `c2f_ref.spec.compose_vjp`."""
    return compose(assignment.T, grad)


def soft_threshold(table: FloatArray, threshold: float) -> FloatArray:
    """As `c2f_ref.spec.soft_threshold`, in one pass; the threshold takes the type of the table."""
    (table,) = own(table)
    out = np.empty_like(table)
    _shrink(table.ravel(), table.dtype.type(threshold), out.ravel())
    return out


def soft_threshold_vjp(table: FloatArray, threshold: float, grad: FloatArray) -> FloatArray:
    """As `c2f_ref.spec.soft_threshold_vjp`, in one pass; the threshold takes the type of the table."""
    require_shape("grad", grad, table.shape)
    table, grad = own(table, grad)
    out = np.empty_like(table)
    _pass_outside(table.ravel(), table.dtype.type(threshold), grad.ravel(), out.ravel())
    return out


def bridge(fine_assignment: sparse.csr_array, weight: float, coarse: FloatArray, fine: FloatArray) -> FloatArray:
    """As `c2f_ref.spec.bridge`."""
    return float(1.0 - weight) * coarse + float(weight) * compose(fine_assignment, fine)


def bridge_vjp(fine_assignment: sparse.csr_array, weight: float, grad: FloatArray) -> tuple[FloatArray, FloatArray]:
    """As `c2f_ref.spec.bridge_vjp`."""
    return float(1.0 - weight) * grad, float(weight) * compose_vjp(fine_assignment, grad)


def sharpen(fine_assignment: Matrix, weight: float, coarse: FloatArray, fine: FloatArray) -> FloatArray:
    """What a fine layer makes of its coarse rows c (C, D) and fine rows f (F, D): c' = bridge(c - S_f f, f)."""
    shared = fine_assignment.product(fine)
    return float(1.0 - weight) * (coarse - shared) + float(weight) * shared


def unsharpen(
    coarse_transposed: Matrix, fine_transposed: Matrix, weight: float, h: FloatArray, c: FloatArray, f: FloatArray
) -> None:
    """Pull the gradients of a fine layer back, in place, through what follows its product; that of the entities stays.

    c' = bridge(c - S_f f, f),  h' = h + S_c (c' - c)
    """
    from_entities = coarse_transposed.product(h)
    sharpened = c + from_entities
    unmixed = float(1.0 - weight) * sharpened
    f += fine_transposed.product(float(weight) * sharpened - unmixed)
    c[:] = unmixed - from_entities


def propagate_coarse(
    graph: sparse.csr_array, n_layers: int, entities: FloatArray, coarse: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """As `c2f_ref.spec.propagate_coarse`."""
    nodes, matrix = _joined(graph, entities, coarse)
    total = nodes.copy()
    for _ in range(n_layers):
        nodes = matrix.product(nodes)
        total += nodes
    h, c = _means(total, n_layers, entities)
    return h, c


def propagate_coarse_vjp(
    graph: sparse.csr_array, n_layers: int, grad_entities: FloatArray, grad_coarse: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """As `c2f_ref.spec.propagate_coarse_vjp`; the graph need not be symmetric."""
    grad, matrix = _joined(graph.T, grad_entities, grad_coarse)
    total = grad
    for _ in range(n_layers):
        total = grad + matrix.product(total)
    h, c = _means(total, n_layers, grad_entities)
    return h, c


def propagate_fine(
    graph: sparse.csr_array,
    coarse_assignment: sparse.csr_array,
    fine_assignment: sparse.csr_array,
    bridge_weight: float,
    n_layers: int,
    entities: FloatArray,
    coarse: FloatArray,
    fine: FloatArray,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """As `c2f_ref.spec.propagate_fine`; its two lines on h are one, h + S_c (c' - c)."""
    _require_assignments(coarse_assignment, fine_assignment, entities, coarse, fine)
    nodes, matrix = _joined(graph, entities, coarse, fine)
    by_coarse, by_fine = Matrix.of(coarse_assignment, nodes.dtype), Matrix.of(fine_assignment, nodes.dtype)
    total = nodes.copy()
    for _ in range(n_layers):
        nodes = matrix.product(nodes)
        h, c, f = _split(nodes, entities, coarse)  # views
        sharpened = sharpen(by_fine, bridge_weight, c, f)
        kernels.add_product(*by_coarse.arrays, sharpened - c, h)
        c[:] = sharpened
        total += nodes
    h, c, f = _means(total, n_layers, entities, coarse)
    return h, c, f


def propagate_fine_vjp(
    graph: sparse.csr_array,
    coarse_assignment: sparse.csr_array,
    fine_assignment: sparse.csr_array,
    bridge_weight: float,
    n_layers: int,
    grad_entities: FloatArray,
    grad_coarse: FloatArray,
    grad_fine: FloatArray,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """As `c2f_ref.spec.propagate_fine_vjp`; the graph need not be symmetric."""
    _require_assignments(coarse_assignment, fine_assignment, grad_entities, grad_coarse, grad_fine)
    grad, matrix = _joined(graph.T, grad_entities, grad_coarse, grad_fine)
    to_coarse, to_fine = Matrix.of(coarse_assignment.T, grad.dtype), Matrix.of(fine_assignment.T, grad.dtype)
    total = grad.copy()
    for _ in range(n_layers):
        h, c, f = _split(total, grad_entities, grad_coarse)  # views
        unsharpen(to_coarse, to_fine, bridge_weight, h, c, f)
        total = grad + matrix.product(total)
    h, c, f = _means(total, n_layers, grad_entities, grad_coarse)
    return h, c, f


def score_pairs(
    entities: FloatArray, bias: FloatArray, offset: float, n_users: int, users: IntArray, items: IntArray
) -> FloatArray:
    """As `c2f_ref.spec.score_pairs`."""
    users, rows = _ends(entities, bias, n_users, users, items)
    entities, bias = own(entities, bias)
    out = np.empty(users.size, dtype=bias.dtype)
    _score(entities, bias, bias.dtype.type(offset), users, rows, out)
    return out


def score_pairs_vjp(
    entities: FloatArray,
    bias: FloatArray,
    offset: float,
    n_users: int,
    users: IntArray,
    items: IntArray,
    grad: FloatArray,
) -> tuple[FloatArray, FloatArray, float]:
    """As `c2f_ref.spec.score_pairs_vjp`; an entity sums its places in their order, as a user first."""
    users, rows = _ends(entities, bias, n_users, users, items)
    require_shape("grad", grad, users.shape)
    entities, grad = own(entities, grad)
    places = np.arange(2 * grad.size)
    entries = np.concatenate([grad, grad]), (np.concatenate([users, rows]), places)
    incidence = sparse.csr_array(entries, shape=(len(entities), places.size))
    # An entity's places lead to the other ends of its pairs.
    others = np.concatenate([rows, users])[incidence.indices]
    pairs = sparse.csr_array((incidence.data, others, incidence.indptr), shape=(len(entities), len(entities)))
    return Matrix.of(pairs, grad.dtype).product(entities), incidence.sum(axis=1), float(grad.sum(dtype=np.float64))


@kernel()
def _shrink(table: Any, threshold: Any, out: Any) -> None:
    """Entries of out: sign(x) max(|x| - threshold, 0); a NaN stays one."""
    for p in range(table.size):
        x = table[p]
        out[p] = x - np.copysign(threshold, x)
        if abs(x) <= threshold:
            out[p] = 0


@kernel()
def _pass_outside(table: Any, threshold: Any, grad: Any, out: Any) -> None:
    """Entries of out: those of `grad` where |x| > threshold, else 0."""
    for p in range(table.size):
        out[p] = grad[p] if abs(table[p]) > threshold else grad.dtype.type(0)


@kernel(parallel=True)
def _score(entities: Any, bias: Any, offset: Any, users: Any, rows: Any, out: Any) -> None:
    """out[p] = H_u . H_i + b_u + b_i + offset, rows of entities given."""
    for p in span(users.size):
        ahead = p + kernels.AHEAD // 2
        if ahead < users.size:
            ask_for_row(entities, users[ahead])
            ask_for_row(entities, rows[ahead])
        u, i = users[p], rows[p]
        total = bias[u] + bias[i] + offset
        for d in range(entities.shape[1]):
            total += entities[u, d] * entities[i, d]
        out[p] = total


def own(*tables: FloatArray) -> list[FloatArray]:
    """Dense inputs as the kernels take them: of one type, rows contiguous, and writable, so that each is compiled once."""
    dtype = np.float32 if all(table.dtype == np.float32 for table in tables) else np.float64
    return [np.require(table, dtype, ["C", "W"]) for table in tables]


def _ends(entities: FloatArray, bias: FloatArray, n_users: int, users: IntArray, items: IntArray) -> tuple[IntArray, IntArray]:
    """Both ends of every pair as entities, int64, after the checks that a kernel needs: (users, rows)."""
    require_shape("bias", bias, (len(entities),))
    require_shape("items", items, users.shape)
    require_indices("users", users, n_users)
    require_indices("items", items, len(entities) - n_users)
    return np.array(users, dtype=np.int64), item_rows(n_users, items)


def _require_assignments(
    coarse_assignment: sparse.csr_array, fine_assignment: sparse.csr_array, h: FloatArray, c: FloatArray, f: FloatArray
) -> None:
    require_shape("coarse_assignment", coarse_assignment, (len(h), len(c)))
    require_shape("fine_assignment", fine_assignment, (len(c), len(f)))


def _joined(graph: sparse.csr_array, *tables: FloatArray) -> tuple[FloatArray, Matrix]:
    """The tables one below the other, and the graph on their rows."""
    (nodes,) = own(np.concatenate(tables))
    require_shape("graph", graph, (len(nodes), len(nodes)))
    return nodes, Matrix.of(graph, nodes.dtype)


def _split(nodes: FloatArray, *tables: FloatArray) -> list[FloatArray]:
    """Views of the rows that belong to each of these tables, and of those behind them."""
    return np.split(nodes, np.cumsum([len(table) for table in tables]))


def _means(total: FloatArray, n_layers: int, *tables: FloatArray) -> list[FloatArray]:
    """Sums of layers 0 to L made means: an array of its own for each of these tables, and one for the rows behind them."""
    return [part / total.dtype.type(n_layers + 1) for part in _split(total, *tables)]
