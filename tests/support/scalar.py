"""Definitions that share no code with the package: lists in scalar loops, stages in dense NumPy.

What belongs to the stages has the names and parameters of the package; matrices are dense here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np


def rank(scores: Sequence[float], seen: set[int], k: int) -> list[int]:
    """A full sort of the unseen items, best first, ties to the lowest index, padded with -1."""
    unseen = sorted(set(range(len(scores))) - seen, key=lambda item: (-scores[item], item))
    return (unseen + [-1] * k)[:k]


def recall(ranked: Sequence[int], held_out: set[int], k: int) -> float:
    """Hits among the first k over all held-out items."""
    return sum(item in held_out for item in ranked[:k]) / len(held_out)


def ndcg(ranked: Sequence[int], held_out: set[int], k: int) -> float:
    """Discounted gain of the hits over that of a perfect list."""
    places = [place for place, item in enumerate(ranked[:k], start=1) if item in held_out]
    best = range(1, min(k, len(held_out)) + 1)
    return sum(1 / math.log2(p + 1) for p in places) / sum(1 / math.log2(p + 1) for p in best)


def zeros(n_rows: int, n_columns: int) -> Any:
    """A matrix of zeros."""
    return np.zeros((n_rows, n_columns))


def bipartite(users: Sequence[int], items: Sequence[int], n_users: int, n_items: int) -> Any:
    """1 at (u, U + i) and (U + i, u) for every pair."""
    graph = zeros(n_users + n_items, n_users + n_items)
    for user, item in zip(users, items, strict=True):
        graph[user, n_users + item] = graph[n_users + item, user] = 1.0
    return graph


def normalise(graph: Any) -> Any:
    """G_ij / sqrt(d_i d_j), and 0 where a degree is not positive."""
    degrees = np.array([math.fsum(row) for row in graph])
    roots = np.sqrt(np.where(degrees > 0, degrees, np.inf))
    return graph / roots[:, None] / roots


def expand_coarse(norm_adjacency: Any, s_c: Any) -> Any:
    """normalise([[A, S_c], [S_c^T, 0]])."""
    n_coarse = s_c.shape[1]
    return normalise(np.block([[norm_adjacency, s_c], [s_c.T, zeros(n_coarse, n_coarse)]]))


def expand_fine(norm_adjacency: Any, s_c: Any, s_f: Any) -> Any:
    """normalise([[A, S_c, 0], [S_c^T, 0, S_f], [0, S_f^T, 0]])."""
    (n_entities, n_coarse), n_fine = s_c.shape, s_f.shape[1]
    first = [norm_adjacency, s_c, zeros(n_entities, n_fine)]
    second = [s_c.T, zeros(n_coarse, n_coarse), s_f]
    third = [zeros(n_fine, n_entities), s_f.T, zeros(n_fine, n_fine)]
    return normalise(np.block([first, second, third]))


def ego_embed(s_c: Any, coarse: Any) -> Any:
    """tanh(S_c E_c)."""
    return np.tanh(s_c @ coarse)


def soft_threshold(table: Any, threshold: float) -> Any:
    """X - tau above tau, x + tau below -tau, else 0."""
    return table - np.clip(table, -threshold, threshold)


def fine_embed(fine: Any, threshold: float) -> Any:
    """tanh(soft(E_f))."""
    return np.tanh(soft_threshold(fine, threshold))


def bridge(s_f: Any, weight: float, coarse: Any, fine: Any) -> Any:
    """(1 - w) coarse + w S_f fine."""
    return (1 - weight) * coarse + weight * (s_f @ fine)


def propagate_coarse(graph: Any, n_layers: int, *nodes: Any) -> list[Any]:
    """Mean of X, G X, ..., G^L X, by powers of G."""
    stacked = np.concatenate(nodes)
    total = sum(np.linalg.matrix_power(graph, layer) @ stacked for layer in range(n_layers + 1))
    return np.split(total / (n_layers + 1), np.cumsum([len(part) for part in nodes])[:-1])


def propagate_fine(
    graph: Any, s_c: Any, s_f: Any, weight: float, n_layers: int, *nodes: Any
) -> list[Any]:
    """The same of the one matrix of a fine layer: G, then the correction of h and c."""
    n, m, k = (len(part) for part in nodes)
    mixed = np.hstack([(1 - weight) * np.eye(m), (2 * weight - 1) * s_f])  # T of [c; f]
    change = s_c @ (mixed - np.hstack([np.eye(m), zeros(m, k)]))
    rows = [[np.eye(n), change], [zeros(m, n), mixed], [zeros(k, n + m), np.eye(k)]]
    layer = np.block(rows)
    return propagate_coarse(layer @ graph, n_layers, *nodes)
