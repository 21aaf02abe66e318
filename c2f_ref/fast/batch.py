"""A batch of triples on the rows that it reads, and its loss there."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import sparse

from ..spec import IntArray, Triples
from ..spec.notation import item_rows, require_batch, require_finite
from .compile import ask_for_row, kernel, span
from .kernels import AHEAD
from .plan import FloatArray, Plan


class Batch(NamedTuple):
    """A batch on the rows that it reads: their numbers in the plan (R,), ascending, and the triples in `rows`.

    `slots` (n,) is where a node stands in `rows`, -1 for one that does not. Row r stands in the triples at
    `places[indptr[r] : indptr[r + 1]]`, ascending: t as the user of triple t, B + t as its positive, 2 B + t as its negative.
    """

    rows: IntArray
    slots: IntArray
    indptr: IntArray
    places: IntArray
    triples: Triples


def batch_of(plan: Plan, bias: FloatArray, triples: Triples) -> Batch:
    """The batch in the plan's order, after the checks of the specification."""
    place, n_users = plan.where.place, plan.n_users
    require_batch(place.size, n_users, bias, triples)
    entities = triples.users, item_rows(n_users, triples.positives), item_rows(n_users, triples.negatives)
    nodes = place[np.concatenate(entities, dtype=np.int64)]
    standing = places_by_row(nodes, np.ones(nodes.size, dtype=bool), plan.graph.shape[0])
    counts = np.diff(standing.indptr)
    rows = np.flatnonzero(counts)
    slots = np.full(counts.size, -1)
    slots[rows] = np.arange(rows.size)
    indptr = np.concatenate([[0], np.cumsum(counts[rows])])
    return Batch(rows, slots, indptr, standing.indices, Triples(*np.split(slots[nodes], 3)))


def places_by_row(rows: IntArray, values: npt.NDArray[Any], n_rows: int) -> sparse.csr_array:
    """Where every row stands in `rows` (P,): (n_rows, P) with values[p] at (rows[p], p), the places of a row ascending."""
    indices, indptr = rows.astype(np.int32), np.arange(rows.size + 1, dtype=np.int32)
    return sparse.csc_array((values, indices, indptr), shape=(n_rows, rows.size)).tocsr()


def pairs_loss_and_grad(
    plan: Plan, batch: Batch, entities: FloatArray, ego: FloatArray, bias: FloatArray
) -> tuple[float, FloatArray, FloatArray]:
    """Loss of the batch: (loss, gradient in its propagated rows, gradient in the bias).

    `entities` and their gradient are compact; `bias` and its gradient are in the caller's order.
    """
    n_rows, dtype = batch.rows.size, entities.dtype
    n_triples = max(batch.triples.users.size, 1)
    named = plan.where.order[batch.rows]
    users, positives, negatives = batch.triples
    own_bias = bias[named].astype(dtype)
    differences = own_bias[negatives] - own_bias[positives]
    add_products(entities, users, negatives, positives, differences)
    losses = np.logaddexp(0, differences)
    slopes = (np.exp(differences - losses) / dtype.type(n_triples)).astype(dtype)
    grad = plan.work.grad[:n_rows]
    grad_of_rows = np.empty(n_rows, dtype=dtype)
    pull_back_pairs(entities, *batch.triples, slopes, batch.indptr, batch.places, grad, grad_of_rows)
    grad_bias = np.zeros(bias.size, dtype=dtype)
    grad_bias[named] = grad_of_rows

    squares = np.empty(n_rows, dtype=dtype)
    squared_rows(batch.rows, ego, squares)
    penalty = plan.settings.l2_weight / n_triples * float((np.diff(batch.indptr) * squares.astype(np.float64)).sum())
    loss = float(losses.sum(dtype=np.float64) / n_triples) + penalty
    require_finite("loss", loss)
    return loss, grad, grad_bias


@kernel(parallel=True)
def add_products(entities: Any, users: Any, items: Any, others: Any, out: Any) -> None:
    """out[p] += H_u . H_i, or H_u . (H_i - H_j) where there are `others`; rows of entities given."""
    for p in span(users.size):
        ahead = p + AHEAD // 2
        if ahead < users.size:
            ask_for_row(entities, users[ahead])
            ask_for_row(entities, items[ahead])
            if others is not None:
                ask_for_row(entities, others[ahead])
        user, item, total = entities[users[p]], entities[items[p]], out[p]
        for d in range(user.size):
            total += user[d] * (item[d] if others is None else item[d] - entities[others[p], d])
        out[p] = total


@kernel(parallel=True)
def pull_back_pairs(
    entities: Any, users: Any, positives: Any, negatives: Any, slopes: Any, indptr: Any, places: Any, grad: Any, grad_bias: Any
) -> None:
    """Gradients of every row, from slopes d loss / d (s_uj - s_ui); a row sums its places in their order.

    grad[u] += slope (H_j - H_i),  grad[i] -= slope H_u,  grad[j] += slope H_u,  grad_bias[i] -= slope,  grad_bias[j] += slope
    """
    n_triples = users.size
    for row in span(grad.shape[0]):
        target = grad[row]
        target[:] = 0
        grad_bias[row] = 0
        for p in range(indptr[row], indptr[row + 1]):
            role, t = places[p] // n_triples, places[p] % n_triples
            slope = slopes[t]
            if role == 0:
                i, j = positives[t], negatives[t]
                for d in range(target.size):
                    target[d] += slope * (entities[j, d] - entities[i, d])
            else:
                signed = slope if role == 2 else -slope
                u = users[t]
                for d in range(target.size):
                    target[d] += signed * entities[u, d]
                grad_bias[row] += signed


@kernel(parallel=True)
def squared_rows(rows: Any, ego: Any, out: Any) -> None:
    """out[r] = sum of ego[rows[r]]^2."""
    for r in span(rows.size):
        if r + AHEAD < rows.size:
            ask_for_row(ego, rows[r + AHEAD])
        row = ego[rows[r]]
        whole = row.size // 4 * 4
        a = b = c = e = ego.dtype.type(0)
        for d in range(0, whole, 4):
            a += row[d] * row[d]
            b += row[d + 1] * row[d + 1]
            c += row[d + 2] * row[d + 2]
            e += row[d + 3] * row[d + 3]
        for d in range(whole, row.size):
            a += row[d] * row[d]
        out[r] = (a + b) + (c + e)
