"""The method in scalar loops, straight from its formulas: the definitions that `c2f_ref.spec` is held against.

Nothing here comes from `c2f_ref`. Matrices come in as anything `dense` takes and go out as float64 arrays; every sum is a
Python loop.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Rows = list[list[float]]


def dense(matrix: Any) -> Rows:
    """Rows of a dense or sparse matrix as lists of numbers."""
    rows: Rows = (matrix.toarray() if hasattr(matrix, "toarray") else np.asarray(matrix)).tolist()
    return rows


def zeros(n_rows: int, n_columns: int) -> Rows:
    """A matrix of zeros."""
    return [[0.0] * n_columns for _ in range(n_rows)]


def product(left: Any, right: Any) -> Array:
    """Matrix product."""
    left, right = dense(left), dense(right)
    result = zeros(len(left), len(right[0]))
    for i, row in enumerate(left):
        for j in range(len(right[0])):
            result[i][j] = sum(row[k] * right[k][j] for k in range(len(right)))
    return np.array(result)


def transpose(matrix: Any) -> Rows:
    """Rows become columns."""
    return [list(column) for column in zip(*dense(matrix), strict=True)]


# Graph


def bipartite(users: Any, items: Any, n_users: int, n_items: int) -> Array:
    """1 at (u, U + i) and (U + i, u)."""
    graph = zeros(n_users + n_items, n_users + n_items)
    for user, item in zip(users, items, strict=True):
        graph[user][n_users + item] = graph[n_users + item][user] = 1.0
    return np.array(graph)


def normalise(graph: Any) -> Array:
    """G_ij / sqrt(d_i d_j), 0 where a degree is not positive."""
    rows = dense(graph)
    degrees = [sum(row) for row in rows]
    result = zeros(len(rows), len(rows))
    for i, row in enumerate(rows):
        for j, value in enumerate(row):
            if degrees[i] > 0 and degrees[j] > 0:
                result[i][j] = value / math.sqrt(degrees[i] * degrees[j])
    return np.array(result)


def expand_coarse(norm_adjacency: Any, coarse_assignment: Any) -> Array:
    """normalise([[A, S_c], [S_c^T, 0]])."""
    n_entities, n_coarse = coarse_assignment.shape
    return normalise(_blocks([n_entities, n_coarse], {(0, 0): norm_adjacency}, {(0, 1): coarse_assignment}))


def expand_fine(norm_adjacency: Any, coarse_assignment: Any, fine_assignment: Any) -> Array:
    """normalise([[A, S_c, 0], [S_c^T, 0, S_f], [0, S_f^T, 0]])."""
    (n_entities, n_coarse), n_fine = coarse_assignment.shape, fine_assignment.shape[1]
    linked = {(0, 1): coarse_assignment, (1, 2): fine_assignment}
    return normalise(_blocks([n_entities, n_coarse, n_fine], {(0, 0): norm_adjacency}, linked))


def _blocks(sizes: Sequence[int], placed: dict[tuple[int, int], Any], mirrored: dict[tuple[int, int], Any]) -> Array:
    starts = [sum(sizes[:n]) for n in range(len(sizes))]
    result = zeros(sum(sizes), sum(sizes))
    for (block_row, block_column), block in (placed | mirrored).items():
        for i, row in enumerate(dense(block)):
            for j, value in enumerate(row):
                result[starts[block_row] + i][starts[block_column] + j] = value
                if (block_row, block_column) in mirrored:
                    result[starts[block_column] + j][starts[block_row] + i] = value
    return np.array(result)


# Assignment


def top_columns(values: Any, k: int) -> npt.NDArray[np.int64]:
    """A full sort of every row: by value falling, then by column rising."""
    rows = [[column for _, column in sorted((-value, column) for column, value in enumerate(row))][:k] for row in dense(values)]
    return np.array(rows, dtype=np.int64).reshape(len(rows), k)


def keep_top(values: Any, k: int) -> Array:
    """The k largest entries of every row, 0 elsewhere."""
    rows = dense(values)
    result = zeros(len(rows), len(rows[0]))
    for i, columns in enumerate(top_columns(values, k).tolist()):
        for column in columns:
            result[i][column] = rows[i][column]
    return np.array(result)


def softmax_rows(values: Any) -> Array:
    """exp(x_ij) / sum_j exp(x_ij)."""
    result = []
    for row in dense(values):
        exponentials = [math.exp(value - max(row)) for value in row]
        result.append([value / math.fsum(exponentials) for value in exponentials])
    return np.array(result)


def part_affinity(labels: Any, n_parts: int) -> Array:
    """0.5 on the own part, 0.5 / (F - 1) elsewhere."""
    return np.array([[0.5 if part == label else 0.5 / (n_parts - 1) for part in range(n_parts)] for label in labels])


def start_fine_assignment(coarse_assignment: Any, affinity: Any, fine_per_coarse: int) -> Array:
    """keep_top(softmax_rows(S_c^T P), fine_per_coarse)."""
    return keep_top(softmax_rows(product(transpose(coarse_assignment), affinity)), fine_per_coarse)


# Embeddings


def compose(assignment: Any, table: Any) -> Array:
    """S E."""
    return product(assignment, table)


def ego_embed(coarse_assignment: Any, coarse: Any) -> Array:
    """tanh(S_c E_c)."""
    return _map(math.tanh, product(coarse_assignment, coarse))


def soft(value: float, threshold: float) -> float:
    """sign(x) max(|x| - tau, 0), by cases."""
    if value > threshold:
        return value - threshold
    if value < -threshold:
        return value + threshold
    return 0.0


def soft_threshold(table: Any, threshold: float) -> Array:
    """Entry by entry."""
    return np.array([[soft(value, threshold) for value in row] for row in dense(table)])


def fine_embed(fine: Any, threshold: float) -> Array:
    """tanh(soft(E_f))."""
    return _map(math.tanh, soft_threshold(fine, threshold))


def bridge(fine_assignment: Any, weight: float, coarse: Any, fine: Any) -> Array:
    """(1 - w) E_c + w S_f E."""
    composed, coarse = dense(product(fine_assignment, fine)), dense(coarse)
    return np.array(
        [[(1 - weight) * c + weight * f for c, f in zip(*rows, strict=True)] for rows in zip(coarse, composed, strict=True)]
    )


def _map(function: Any, table: Any) -> Array:
    return np.array([[function(value) for value in row] for row in dense(table)])


# Propagation


def propagate_coarse(graph: Any, n_layers: int, entities: Any, coarse: Any) -> tuple[Array, Array]:
    """Mean of X, G X, ..., G^L X."""
    nodes = np.array(dense(entities) + dense(coarse))
    layers = [nodes]
    for _ in range(n_layers):
        layers.append(product(graph, layers[-1]))
    mean = _mean(layers)
    return mean[: len(entities)], mean[len(entities) :]


def propagate_fine(
    graph: Any, coarse_assignment: Any, fine_assignment: Any, weight: float, n_layers: int, entities: Any, coarse: Any, fine: Any
) -> tuple[Array, Array, Array]:
    """The layer of the fine stage, line by line, each with an explicit sum."""
    by_entity, by_coarse = dense(coarse_assignment), dense(fine_assignment)
    n_entities, n_coarse = len(by_entity), len(by_coarse)
    layers = [np.array(dense(entities) + dense(coarse) + dense(fine))]
    for _ in range(n_layers):
        nodes = dense(product(graph, layers[-1]))
        h, c, f = nodes[:n_entities], nodes[n_entities : n_entities + n_coarse], nodes[n_entities + n_coarse :]
        for d in range(len(nodes[0])):
            for n in range(n_entities):
                h[n][d] -= sum(by_entity[n][m] * c[m][d] for m in range(n_coarse))
            for m in range(n_coarse):
                c[m][d] -= sum(by_coarse[m][q] * f[q][d] for q in range(len(f)))
            for m in range(n_coarse):
                c[m][d] = weight * sum(by_coarse[m][q] * f[q][d] for q in range(len(f))) + (1 - weight) * c[m][d]
            for n in range(n_entities):
                h[n][d] += sum(by_entity[n][m] * c[m][d] for m in range(n_coarse))
        layers.append(np.array(h + c + f))
    mean = _mean(layers)
    return mean[:n_entities], mean[n_entities : n_entities + n_coarse], mean[n_entities + n_coarse :]


def _mean(layers: Sequence[Array]) -> Array:
    n_rows, n_columns = layers[0].shape
    return np.array([[math.fsum(layer[i, d] for layer in layers) / len(layers) for d in range(n_columns)] for i in range(n_rows)])


# Loss


def score_pairs(entities: Any, bias: Any, offset: float, n_users: int, users: Any, items: Any) -> Array:
    """H_u . H_(U+i) + b_u + b_(U+i) + b_0."""
    scores = []
    for user, item in zip(users, items, strict=True):
        dot = sum(entities[user][d] * entities[n_users + item][d] for d in range(len(entities[0])))
        scores.append(dot + bias[user] + bias[n_users + item] + offset)
    return np.array(scores)


def softplus(value: float) -> float:
    """log(1 + exp(z)), from the side on which the exponential is at most 1."""
    return max(value, 0.0) + math.log1p(math.exp(-abs(value)))


def bpr_loss(positive_scores: Any, negative_scores: Any) -> float:
    """Mean of softplus(s_uj - s_ui)."""
    losses = [softplus(negative - positive) for positive, negative in zip(positive_scores, negative_scores, strict=True)]
    return math.fsum(losses) / len(losses)


def ego_penalty(ego: Any, n_users: int, triples: Any, weight: float) -> float:
    """Squared norms: weight (||X_u||^2 + ||X_i||^2 + ||X_j||^2) / B, summed over triples."""
    total = 0.0
    for user, positive, negative in zip(*triples, strict=True):
        for entity in (user, n_users + positive, n_users + negative):
            total += sum(value * value for value in ego[entity])
    return weight * total / len(triples[0])


def coarse_loss(
    users: Any, items: Any, n_users: int, n_items: int, assignment: Any, coarse: Any, bias: Any, triples: Any, settings: Any
) -> float:
    """The coarse stage, steps 2 to 5, from raw pairs to the loss."""
    adjacency = normalise(bipartite(users, items, n_users, n_items))
    ego = ego_embed(assignment, coarse)
    entities, _ = propagate_coarse(expand_coarse(adjacency, assignment), settings.n_layers, ego, coarse)
    return _batch_loss(entities, ego, bias, n_users, triples, settings.l2_weight)


def fine_loss(
    users: Any,
    items: Any,
    n_users: int,
    n_items: int,
    assignment: Any,
    fine_assignment: Any,
    coarse: Any,
    fine: Any,
    bias: Any,
    triples: Any,
    settings: Any,
) -> float:
    """The fine stage, steps 4 to 7, from raw pairs to the loss."""
    adjacency = normalise(bipartite(users, items, n_users, n_items))
    ego = ego_embed(assignment, coarse)
    entities, _, _ = propagate_fine(
        expand_fine(adjacency, assignment, fine_assignment),
        assignment,
        fine_assignment,
        settings.bridge_weight,
        settings.n_layers,
        ego,
        bridge(fine_assignment, settings.bridge_weight, coarse, soft_threshold(fine, settings.threshold)),
        fine_embed(fine, settings.threshold),
    )
    return _batch_loss(entities, ego, bias, n_users, triples, settings.l2_weight)


def _batch_loss(entities: Any, ego: Any, bias: Any, n_users: int, triples: Any, l2_weight: float) -> float:
    positive_scores = score_pairs(entities, bias, 0.0, n_users, triples[0], triples[1])
    negative_scores = score_pairs(entities, bias, 0.0, n_users, triples[0], triples[2])
    return bpr_loss(positive_scores, negative_scores) + ego_penalty(ego, n_users, triples, l2_weight)


# Optimiser


def adam(start: float, grads: Sequence[float], lr: float, beta1: float, beta2: float, epsilon: float, limit: float) -> list[float]:
    """The path of one number under Adam, algorithm 1 of the paper, on gradients clipped by value."""
    value, first, second, path = start, 0.0, 0.0, []
    for n_steps, raw in enumerate(grads, start=1):
        grad = min(max(raw, -limit), limit)
        first = beta1 * first + (1 - beta1) * grad
        second = beta2 * second + (1 - beta2) * grad * grad
        unbiased_first, unbiased_second = first / (1 - beta1**n_steps), second / (1 - beta2**n_steps)
        value -= lr * unbiased_first / (math.sqrt(unbiased_second) + epsilon)
        path.append(value)
    return path


# Ranking


def rank(scores: Sequence[float], seen: set[int], k: int) -> list[int]:
    """A full sort of the unseen items, best first, ties to the lowest index, -1 where the list is too short."""
    unseen = sorted((item for item in range(len(scores)) if item not in seen), key=lambda item: (-scores[item], item))
    return (unseen + [-1] * k)[:k]


def recall(ranked: Sequence[int], held_out: set[int], k: int) -> float:
    """Hits among the first k over all held-out items."""
    return sum(item in held_out for item in ranked[:k]) / len(held_out)


def ndcg(ranked: Sequence[int], held_out: set[int], k: int) -> float:
    """Discounted gain of the hits over that of a perfect list."""
    gain = sum(1 / math.log2(place + 1) for place, item in enumerate(ranked[:k], start=1) if item in held_out)
    ideal = sum(1 / math.log2(place + 1) for place in range(1, min(k, len(held_out)) + 1))
    return gain / ideal
