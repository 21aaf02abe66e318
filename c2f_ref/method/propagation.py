"""How embeddings travel over the graph: L layers, and the mean of all of them.

Both maps are linear in the nodes, so their pull-backs need no primal values.
Graphs and assignments may be anything that has `@` and `.T`.
"""

from __future__ import annotations

import numpy as np

from .embeddings import bridge, bridge_vjp, compose, compose_vjp
from .notation import Float64Array, Sparse

__all__ = ["propagate_coarse", "propagate_coarse_vjp", "propagate_fine", "propagate_fine_vjp"]


def propagate_coarse(
    graph: Sparse, n_layers: int, entities: Float64Array, coarse: Float64Array
) -> tuple[Float64Array, Float64Array]:
    """Mean over layers of the coarse stage: (entities, coarse).

        H = (X + G X + ... + G^L X) / (L + 1),  X = [entities; coarse]

    Shapes: G (N + C, N + C), entities (N, D), coarse (C, D) -> (N, D), (C, D).
    Edge: zero layers give the nodes back.
    Source: equation (15); He et al., SIGIR 2020, equations 3 to 6.
    """
    nodes = np.concatenate([entities, coarse])
    total = nodes
    for _ in range(n_layers):
        nodes = graph @ nodes
        total = total + nodes
    mean = total / (n_layers + 1)
    return mean[: len(entities)], mean[len(entities) :]


def propagate_coarse_vjp(
    graph: Sparse, n_layers: int, grad_entities: Float64Array, grad_coarse: Float64Array
) -> tuple[Float64Array, Float64Array]:
    """Pull the gradients back through `propagate_coarse`: (grad_entities, grad_coarse), by Horner.

    Shapes: as `propagate_coarse`.
    """
    grad = np.concatenate([grad_entities, grad_coarse])
    total = grad
    for _ in range(n_layers):
        total = grad + graph.T @ total
    mean = total / (n_layers + 1)
    return mean[: len(grad_entities)], mean[len(grad_entities) :]


def propagate_fine(
    graph: Sparse, coarse_assignment: Sparse, fine_assignment: Sparse, bridge_weight: float,
    n_layers: int, entities: Float64Array, coarse: Float64Array, fine: Float64Array,
) -> tuple[Float64Array, Float64Array, Float64Array]:  # fmt: skip
    """Mean over layers of the fine stage: (entities, coarse, fine). One layer, in this order (D2):

        [h; c; f] = G [h; c; f]
        h = h - S_c c
        c = c - S_f f
        c = w S_f f + (1 - w) c
        h = h + S_c c

    Shapes: G (N + C + F, N + C + F), S_c (N, C), S_f (C, F), nodes (N, D), (C, D), (F, D) -> the
    same three.
    Edge: zero layers give the nodes back; layer 0 is part of the mean.
    Source: equation (16).
    """
    cuts = [len(entities), len(entities) + len(coarse)]
    nodes = np.concatenate([entities, coarse, fine])
    total = nodes
    for _ in range(n_layers):
        h, c, f = np.split(graph @ nodes, cuts)
        h = h - compose(coarse_assignment, c)
        c = c - compose(fine_assignment, f)
        c = bridge(fine_assignment, bridge_weight, c, f)
        h = h + compose(coarse_assignment, c)
        nodes = np.concatenate([h, c, f])
        total = total + nodes
    h, c, f = np.split(total / (n_layers + 1), cuts)
    return h, c, f


def propagate_fine_vjp(
    graph: Sparse, coarse_assignment: Sparse, fine_assignment: Sparse, bridge_weight: float,
    n_layers: int, grad_entities: Float64Array, grad_coarse: Float64Array, grad_fine: Float64Array,
) -> tuple[Float64Array, Float64Array, Float64Array]:  # fmt: skip
    """Pull the gradients back through `propagate_fine`: (grad_entities, grad_coarse, grad_fine).

    Every layer is undone from its last line to its first.

    Shapes: as `propagate_fine`.
    """
    cuts = [len(grad_entities), len(grad_entities) + len(grad_coarse)]
    grad = np.concatenate([grad_entities, grad_coarse, grad_fine])
    total = grad
    for _ in range(n_layers):
        h, c, f = np.split(total, cuts)
        c = c + compose_vjp(coarse_assignment, h)  # h = h + S_c c
        c, f_bridged = bridge_vjp(fine_assignment, bridge_weight, c)  # c = w S_f f + (1 - w) c
        f = f + f_bridged - compose_vjp(fine_assignment, c)  # c = c - S_f f
        c = c - compose_vjp(coarse_assignment, h)  # h = h - S_c c
        total = grad + graph.T @ np.concatenate([h, c, f])
    h, c, f = np.split(total / (n_layers + 1), cuts)
    return h, c, f
