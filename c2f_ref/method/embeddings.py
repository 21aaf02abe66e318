"""From tables to propagated embeddings: compose, threshold, bridge, start, propagate.

A linear map takes its structure first and its operands last; its pull-back takes the structure and
then the gradient, and needs no primal values. Graphs and assignments may be anything that has `@`
and `.T`.
"""

from __future__ import annotations

import warnings

import numpy as np

from . import notation
from .notation import Float64Array, IntArray, MethodError, Settings, Sparse

__all__ = [
    "bridge", "bridge_vjp", "compose", "compose_vjp", "draw_positions", "ego_embed",
    "ego_embed_vjp", "fine_embed", "fine_embed_vjp", "propagate_coarse", "propagate_coarse_vjp",
    "propagate_fine", "propagate_fine_vjp", "scatter_scores", "soft_threshold",
    "soft_threshold_vjp", "sparse_pca_scores", "start_coarse", "start_fine",
]  # fmt: skip


def compose(assignment: Sparse, table: Float64Array) -> Float64Array:
    """Weighted sums of table rows: S E.

    Shapes: assignment (n, m), table (m, D) -> (n, D).
    Edge: an empty row of the assignment gives a row of zeros.
    Source: equation (8).
    """
    return np.asarray(assignment @ table)


def compose_vjp(assignment: Sparse, grad: Float64Array) -> Float64Array:
    """Pull `grad` back through `compose`: grad_table = S^T grad. The assignment is no parameter.

    Shapes: assignment (n, m), grad (n, D) -> (m, D).
    """
    return np.asarray(assignment.T @ grad)


def ego_embed(coarse_assignment: Sparse, coarse: Float64Array) -> Float64Array:
    """Ego embeddings: every entity composed from its coarse rows.

        X_e = tanh(S_c E_c)

    Shapes: S_c (N, C), E_c (C, D) -> (N, D), entries in [-1, 1].
    Edge: the table is the unbridged one in both stages (D1).
    Source: equation (10).
    """
    return np.tanh(compose(coarse_assignment, coarse))


def ego_embed_vjp(
    coarse_assignment: Sparse, coarse: Float64Array, grad: Float64Array
) -> Float64Array:
    """Pull `grad` back through `ego_embed`: grad_coarse = S_c^T (grad (1 - X_e^2)).

    Shapes: S_c (N, C), coarse (C, D), grad (N, D) -> (C, D).
    """
    return compose_vjp(coarse_assignment, grad * (1.0 - ego_embed(coarse_assignment, coarse) ** 2))


def soft_threshold(table: Float64Array, threshold: float) -> Float64Array:
    """Shrink every entry towards zero; small entries become exactly 0.

        soft(x) = sign(x) max(|x| - tau, 0)

    Shapes: table (F, D) -> (F, D).
    Edge: |x| == tau gives 0; tau == 0 gives x back; tau == inf gives all zeros.
    Source: equation (9); Donoho 1995.
    """
    return np.sign(table) * np.maximum(np.abs(table) - threshold, 0.0)


def soft_threshold_vjp(table: Float64Array, threshold: float, grad: Float64Array) -> Float64Array:
    """Pull `grad` back through `soft_threshold`: it passes where |x| > tau; elsewhere it is 0.

    Shapes: table (F, D), grad (F, D) -> (F, D).
    Edge: at the kink |x| == tau the subgradient 0 is taken.
    """
    return np.where(np.abs(table) > threshold, grad, 0.0)


def fine_embed(fine: Float64Array, threshold: float) -> Float64Array:
    """Fine nodes: tanh(soft(E_f)), so that a small entry is an exact 0 in the graph too.

    Shapes: fine (F, D) -> (F, D), entries in [-1, 1].
    Edge: as `soft_threshold`.
    Source: equation (11).
    """
    return np.tanh(soft_threshold(fine, threshold))


def fine_embed_vjp(fine: Float64Array, threshold: float, grad: Float64Array) -> Float64Array:
    """Pull `grad` back through `fine_embed`.

    Shapes: fine (F, D), grad (F, D) -> (F, D).
    Edge: as `soft_threshold_vjp`.
    """
    return soft_threshold_vjp(fine, threshold, grad * (1.0 - fine_embed(fine, threshold) ** 2))


def bridge(
    fine_assignment: Sparse, weight: float, coarse: Float64Array, fine: Float64Array
) -> Float64Array:
    """Mix into every coarse row the fine rows that are assigned to it.

        (1 - w) coarse + w S_f fine

    Shapes: S_f (C, F), coarse (C, D), fine (F, D) -> (C, D). Of tables, `fine` is thresholded.
    Edge: w == 0 gives the coarse rows, w == 1 the composed fine rows alone.
    Source: equation (12); again after every fine layer (D2).
    """
    return (1.0 - weight) * coarse + weight * compose(fine_assignment, fine)


def bridge_vjp(
    fine_assignment: Sparse, weight: float, grad: Float64Array
) -> tuple[Float64Array, Float64Array]:
    """Pull `grad` back through `bridge`: (grad_coarse, grad_fine). Linear, so no primal values.

    Shapes: S_f (C, F), grad (C, D) -> (C, D), (F, D).
    """
    return (1.0 - weight) * grad, weight * compose_vjp(fine_assignment, grad)


def start_coarse(
    n_entities: int, settings: Settings, *, rng: np.random.Generator
) -> tuple[Float64Array, Float64Array]:
    """The first E_c and b, both from a standard normal: (coarse, bias).

    Shapes: -> (C, D), (N,) float64.
    Edge: the bias starts as noise, as in the official code; `c2f_ref.training` has other starts.
    Source: equation (13).
    """
    return rng.standard_normal((settings.n_coarse, settings.dim)), rng.standard_normal(n_entities)


def start_fine(
    coarse: Float64Array, settings: Settings, *, rng: np.random.Generator, solver: str = "lars"
) -> Float64Array:
    """The first E_f: sparse PCA scores of F coarse rows, drawn with replacement, then scattered.

    `solver` as in `sparse_pca_scores`.

    Shapes: coarse (C, D) -> (F, D).
    Edge: scores are dense (D6), so min(components, D) entries a row differ from 0; an entry that is
    0 stays 0 in training. Rows that vary little against `sparse_pca_alpha` give scores of 0, and a
    fine table that can never learn.
    Errors: MethodError for another shape, values that are not finite, or another solver.
    Source: equation (14).
    """
    notation.require_shape("coarse", coarse, (settings.n_coarse, settings.dim))
    n_components = min(settings.sparse_pca_components, settings.dim)
    rows = coarse[rng.integers(settings.n_coarse, size=settings.n_fine)]
    seed, alpha = int(rng.integers(2**32)), settings.sparse_pca_alpha
    scores = sparse_pca_scores(rows, n_components, alpha, random_state=seed, solver=solver)
    positions = draw_positions(settings.n_fine, n_components, settings.dim, rng=rng)
    return scatter_scores(scores, positions, settings.dim)


def sparse_pca_scores(
    rows: Float64Array, n_components: int, alpha: float, *,
    random_state: int | np.random.RandomState, solver: str = "lars",
) -> Float64Array:  # fmt: skip
    """Scores of the rows on sparse principal components, by scikit-learn; scores are dense (D6).

    `solver` solves the lasso problems of every iteration: "lars" as published, or "cd", coordinate
    descent from the previous iteration. On 100 rows of a trained Gowalla model, "cd" took a tenth
    of the time, and scores differed by less than 1 % of the largest.

    Shapes: rows (F, D) -> (F, n_components).
    Edge: the components are sparse and unused. If there are more of them than the rows have rank,
    scikit-learn draws the others from `random_state`; the official code from the global generator.
    Errors: MethodError for values that are not finite, or another solver.
    Source: equation (14); Zou, Hastie, Tibshirani 2006.
    """
    from sklearn.decomposition import SparsePCA
    from sklearn.exceptions import ConvergenceWarning

    notation.require_finite("rows", rows)
    if solver not in ("lars", "cd"):
        raise MethodError(f'solver must be "lars" or "cd", got {solver!r}')
    if len(rows) == 0:
        return np.zeros((0, n_components))
    pca = SparsePCA(n_components, alpha=alpha, random_state=random_state, method=solver)
    with warnings.catch_warnings():
        # Single lasso problems may stop early: the next iteration continues them.
        warnings.simplefilter("ignore", ConvergenceWarning)
        scores = pca.fit_transform(rows)
    # A single row comes back without its axis.
    return np.asarray(scores, dtype=np.float64).reshape(len(rows), n_components)


def draw_positions(
    n_rows: int, n_positions: int, dim: int, *, rng: np.random.Generator
) -> IntArray:
    """For every row, `n_positions` of the `dim` columns, drawn without replacement, ascending.

    Shapes: -> (n_rows, n_positions) int64.
    Edge: n_positions == dim gives every column in order. Each row has positions of its own, so a
    column has no common meaning (D6).
    Errors: MethodError for n_positions outside [0, dim].
    Source: equation (14).
    """
    if not 0 <= n_positions <= dim:
        raise MethodError(f"n_positions must be in [0, dim = {dim}], got {n_positions}")
    columns = rng.permuted(np.tile(np.arange(dim), (n_rows, 1)), axis=1)
    return np.sort(columns[:, :n_positions], axis=1)


def scatter_scores(scores: Float64Array, positions: IntArray, dim: int) -> Float64Array:
    """Put scores[r, j] at column positions[r, j] of row r; every other entry is 0.

    Shapes: scores (F, k), positions (F, k) int64 -> (F, dim).
    Errors: MethodError for a position outside [0, dim) or shapes that differ.
    Source: equation (14).
    """
    notation.require_shape("positions", positions, scores.shape)
    notation.require_indices("positions", positions, dim)
    table = np.zeros((scores.shape[0], dim))
    np.put_along_axis(table, positions, scores, axis=1)
    return table


def propagate_coarse(
    graph: Sparse, n_layers: int, entities: Float64Array, coarse: Float64Array
) -> tuple[Float64Array, Float64Array]:
    """Mean over layers of the coarse stage: (entities, coarse).

        H = (X + G X + ... + G^L X) / (L + 1),  X = [entities; coarse]

    Shapes: G (N + C, N + C), entities (N, D), coarse (C, D) -> (N, D), (C, D).
    Edge: zero layers give the nodes back.
    Source: equation (15); He et al., SIGIR 2020, equations 7 and 8.
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
        del h, c, f  # a device has no room for them during the next product
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
