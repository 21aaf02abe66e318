"""A batch of triples on the rows that it reads, and its loss there."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..spec import IntArray, Triples
from ..spec.notation import item_rows, require_batch, require_finite
from .compile import ask_for_row, kernel, span
from .kernels import AHEAD
from .plan import CoarsePlan, FinePlan, FloatArray, work_table


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


def batch_of(plan: CoarsePlan | FinePlan, bias: FloatArray, triples: Triples) -> Batch:
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


def pairs_loss_and_grad(
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
    pair_differences(entities, bias[named].astype(dtype), *triples, differences)
    losses = np.logaddexp(0, differences)
    slopes = (np.exp(differences - losses) / dtype.type(n_triples)).astype(dtype)
    indptr, places = places_by_row(*triples, n_rows)
    grad = work_table(plan, "grad")[:n_rows]
    grad_of_rows = np.empty(n_rows, dtype=dtype)
    pull_back_pairs(entities, *triples, slopes, indptr, places, grad, grad_of_rows)
    grad_bias = np.zeros(bias.size, dtype=dtype)
    grad_bias[named] = grad_of_rows

    squares = np.empty(n_rows, dtype=dtype)
    squared_rows(batch.rows, ego, squares)
    penalty = plan.settings.l2_weight / n_triples * float((batch.counts * squares.astype(np.float64)).sum())
    loss = float(losses.sum(dtype=np.float64) / n_triples) + penalty
    require_finite("loss", loss)
    return loss, grad, grad_bias


@kernel(parallel=True)
def pair_differences(entities: Any, bias: Any, users: Any, positives: Any, negatives: Any, out: Any) -> None:
    """out[t] = s_uj - s_ui of every triple, rows of entities given: H_u . (H_j - H_i) + b_j - b_i."""
    for t in span(users.size):
        ahead = t + AHEAD // 2
        if ahead < users.size:
            ask_for_row(entities, users[ahead])
            ask_for_row(entities, positives[ahead])
            ask_for_row(entities, negatives[ahead])
        u, i, j = users[t], positives[t], negatives[t]
        total = bias[j] - bias[i]
        for d in range(entities.shape[1]):
            total += entities[u, d] * (entities[j, d] - entities[i, d])
        out[t] = total


@kernel()
def places_by_row(users: Any, positives: Any, negatives: Any, n_rows: int) -> tuple[Any, Any]:
    """Where every row stands in the triples: (indptr (n_rows + 1,), places (3 B,)); place t, B + t or 2 B + t, ascending."""
    n_triples = users.size
    indptr = np.zeros(n_rows + 1, dtype=np.int64)
    for t in range(n_triples):
        indptr[users[t] + 1] += 1
        indptr[positives[t] + 1] += 1
        indptr[negatives[t] + 1] += 1
    for row in range(n_rows):
        indptr[row + 1] += indptr[row]
    free = indptr[:-1].copy()
    places = np.empty(3 * n_triples, dtype=np.int64)
    for t in range(n_triples):
        places[free[users[t]]] = t
        free[users[t]] += 1
    for t in range(n_triples):
        places[free[positives[t]]] = n_triples + t
        free[positives[t]] += 1
    for t in range(n_triples):
        places[free[negatives[t]]] = 2 * n_triples + t
        free[negatives[t]] += 1
    return indptr, places


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
        row = ego[rows[r]]
        total = row[0] * row[0]
        for d in range(1, row.size):
            total += row[d] * row[d]
        out[r] = total
