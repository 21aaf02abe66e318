"""The graph that embeddings travel on: users and items, then coarse and fine nodes beside them."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from .notation import IntArray, SpecError, item_rows, require_finite, require_indices, require_shape


def bipartite(users: IntArray, items: IntArray, n_users: int, n_items: int) -> sparse.csr_array:
    """The user-item graph of training pairs: entry 1 at (u, U + i) and (U + i, u) for every pair.

    Shapes: users (P,), items (P,) int64 -> (N, N) float64, symmetric.
    Edge: a pair given twice counts once; no pair gives an empty graph.
    Errors: SpecError for an index out of range or lists of different length.
    Source: the graph under A, "words and shapes".
    """
    require_indices("users", users, n_users)
    require_indices("items", items, n_items)
    require_shape("items", items, users.shape)
    rows = np.concatenate([users, item_rows(n_users, items)])
    columns = np.concatenate([item_rows(n_users, items), users])
    n_entities = n_users + n_items
    graph = sparse.csr_array((np.ones(rows.size), (rows, columns)), shape=(n_entities, n_entities))
    graph.sum_duplicates()
    graph.data = np.ones(graph.nnz)
    return graph


def normalise(graph: sparse.csr_array) -> sparse.csr_array:
    """Divide every entry by the root of the product of its two degrees.

        G_ij / sqrt(d_i * d_j),  d = row sums of G

    Shapes: (n, n) float64 -> (n, n) float64 with the stored pattern of `graph`.
    Edge: a row whose degree is 0 stays 0. D11: so does a row, and its column, whose degree is negative, which negative
    assignment entries can bring about; the formula holds as it stands wherever both degrees are positive.
    Errors: SpecError for a graph that is not square or not finite.
    Source: building blocks; He et al., SIGIR 2020, equation 3.
    """
    require_shape("graph", graph, (graph.shape[0], graph.shape[0]))
    require_finite("graph", graph)
    degrees = np.asarray(graph.sum(axis=1), dtype=np.float64)
    row_degrees = np.repeat(degrees, np.diff(graph.indptr))
    column_degrees = degrees[graph.indices]
    # D11: a product that underflows to 0 is treated like a degree of 0.
    connected = (row_degrees > 0) & (row_degrees * column_degrees > 0)
    roots = np.sqrt(np.where(connected, row_degrees * column_degrees, 1.0))
    values = np.where(connected, graph.data / roots, 0.0)
    return sparse.csr_array((values, graph.indices.copy(), graph.indptr.copy()), shape=graph.shape)


def expand_coarse(norm_adjacency: sparse.csr_array, coarse_assignment: sparse.csr_array) -> sparse.csr_array:
    """The graph of the coarse stage: entities, and the coarse nodes that compose them.

        normalise([[A, S_c], [S_c^T, 0]])

    Shapes: A (N, N), S_c (N, C) -> (N + C, N + C).
    Edge: A is normalised already and is normalised again (D3).
    Errors: SpecError for sizes that do not fit or values that are not finite.
    Source: coarse stage, step 2.
    """
    _require_fitting(norm_adjacency, coarse_assignment)
    blocks = [[norm_adjacency, coarse_assignment], [coarse_assignment.T, None]]
    return normalise(sparse.block_array(blocks, format="csr"))


def expand_fine(
    norm_adjacency: sparse.csr_array, coarse_assignment: sparse.csr_array, fine_assignment: sparse.csr_array
) -> sparse.csr_array:
    """The graph of the fine stage: entities, coarse nodes, and the fine nodes that sharpen those.

        normalise([[A, S_c, 0], [S_c^T, 0, S_f], [0, S_f^T, 0]])

    Shapes: A (N, N), S_c (N, C), S_f (C, F) -> (N + C + F, N + C + F).
    Edge: A is normalised already and is normalised again (D3).
    Errors: SpecError for sizes that do not fit or values that are not finite.
    Source: fine stage, step 4.
    """
    _require_fitting(norm_adjacency, coarse_assignment)
    require_shape("fine_assignment", fine_assignment, (coarse_assignment.shape[1], fine_assignment.shape[1]))
    blocks = [
        [norm_adjacency, coarse_assignment, None],
        [coarse_assignment.T, None, fine_assignment],
        [None, fine_assignment.T, None],
    ]
    return normalise(sparse.block_array(blocks, format="csr"))


def _require_fitting(norm_adjacency: sparse.csr_array, coarse_assignment: sparse.csr_array) -> None:
    n_entities, n_coarse = coarse_assignment.shape
    require_shape("norm_adjacency", norm_adjacency, (n_entities, n_entities))
    if n_coarse == 0:
        raise SpecError("coarse_assignment must have at least one column, got none")
