"""The graph that embeddings travel on: users and items, with coarse and fine nodes attached."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from .notation import IntArray, Sparse, item_rows, require_finite, require_indices, require_shape

__all__ = ["bipartite", "expand_coarse", "expand_fine", "normalise"]


def bipartite(users: IntArray, items: IntArray, n_users: int, n_items: int) -> Sparse:
    """The user-item graph of training pairs: entry 1 at (u, U + i) and (U + i, u) for every pair.

    Shapes: users (P,), items (P,) int64 -> (N, N) float64, symmetric.
    Edge: a pair given twice counts once; no pair gives an empty graph.
    Errors: MethodError for an index out of range or lists of different length.
    Source: equation (1).
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


def normalise(graph: Sparse) -> Sparse:
    """Divide every entry by the root of the product of its two degrees.

        G_ij / sqrt(d_i d_j),  d = row sums of G

    Shapes: (n, n) float64 -> (n, n) float64 with the stored pattern of `graph`.
    Edge: a row of degree 0 stays 0. D11: so do a row of negative degree and its column, which
    negative assignment entries can bring about; where both degrees are positive, the formula holds.
    Errors: MethodError for a graph that is not square or not finite.
    Source: equation (2); He et al., SIGIR 2020, equation 3.
    """
    require_shape("graph", graph, (graph.shape[0], graph.shape[0]))
    require_finite("graph", graph)
    degrees = np.asarray(graph.sum(axis=1), dtype=np.float64)
    row_degrees = np.repeat(degrees, np.diff(graph.indptr))
    products = row_degrees * degrees[graph.indices]
    # D11: a product that underflows to 0 is treated like a degree of 0.
    connected = (row_degrees > 0) & (products > 0)
    values = np.where(connected, graph.data / np.sqrt(np.where(connected, products, 1.0)), 0.0)
    return sparse.csr_array((values, graph.indices.copy(), graph.indptr.copy()), shape=graph.shape)


def expand_coarse(norm_adjacency: Sparse, coarse_assignment: Sparse) -> Sparse:
    """The graph of the coarse stage: entities, and the coarse nodes that compose them.

        normalise([[A, S_c], [S_c^T, 0]])

    Shapes: A (N, N), S_c (N, C) -> (N + C, N + C).
    Edge: A is normalised already and is normalised again (D3).
    Errors: MethodError for sizes that do not fit or values that are not finite.
    Source: equation (3).
    """
    n_entities = coarse_assignment.shape[0]
    require_shape("norm_adjacency", norm_adjacency, (n_entities, n_entities))
    blocks = [[norm_adjacency, coarse_assignment], [coarse_assignment.T, None]]
    return normalise(sparse.block_array(blocks, format="csr"))


def expand_fine(
    norm_adjacency: Sparse, coarse_assignment: Sparse, fine_assignment: Sparse
) -> Sparse:
    """The graph of the fine stage: entities, coarse nodes, and the fine nodes that refine those.

        normalise([[A, S_c, 0], [S_c^T, 0, S_f], [0, S_f^T, 0]])

    Shapes: A (N, N), S_c (N, C), S_f (C, F) -> (N + C + F, N + C + F).
    Edge: A is normalised already and is normalised again (D3).
    Errors: MethodError for sizes that do not fit or values that are not finite.
    Source: equation (4).
    """
    (n_entities, n_coarse), n_fine = coarse_assignment.shape, fine_assignment.shape[1]
    require_shape("norm_adjacency", norm_adjacency, (n_entities, n_entities))
    require_shape("fine_assignment", fine_assignment, (n_coarse, n_fine))
    blocks = [
        [norm_adjacency, coarse_assignment, None],
        [coarse_assignment.T, None, fine_assignment],
        [None, fine_assignment.T, None],
    ]
    return normalise(sparse.block_array(blocks, format="csr"))
