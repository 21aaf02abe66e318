"""The graph: by hand, and what normalising promises."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from scipy import sparse
from support.agreement import BOUND, assert_close
from support.strategies import csr, draw_pairs, ints, models, rngs

from c2f_ref.method import MethodError, bipartite, expand_coarse, expand_fine, normalise

EDGE = csr([[0, 1], [1, 0]])
"""One user and one item, joined."""


def test_bipartite_by_hand() -> None:
    """Two users and three items: item i is node 2 + i. Pairs (0, 1) and (1, 0) join nodes 0 and 3,
    1 and 2, in both directions. Duplicates count once, in any order.
    """
    expected = np.zeros((5, 5))
    for i, j in [(0, 3), (3, 0), (1, 2), (2, 1)]:
        expected[i, j] = 1.0
    for users, items in [(ints(0, 1), ints(1, 0)), (ints(1, 0, 1), ints(0, 1, 0))]:
        graph = bipartite(users, items, 2, 3)
        assert graph.nnz == 4
        assert np.array_equal(graph.toarray(), expected)


def test_bipartite_refuses_indices_out_of_range_and_lists_of_different_length() -> None:
    for users, items in [((2,), (0,)), ((0,), (3,)), ((-1,), (0,)), ((0, 1), (0,))]:
        with pytest.raises(MethodError, match=r"(users|items) must"):
            bipartite(ints(*users), ints(*items), 2, 3)


def test_normalise_by_hand() -> None:
    """A path 0 - 1 - 2 has degrees 1, 2, 1: both edges become 1 / sqrt(2). A loop of weight 3
    becomes 3 / 3. A triangle has degrees 2 and exactly 1/2: two scalings by 1 / sqrt(2) would give
    0.4999999999999999. With row sums 1 - 2, 1 and -2 + 5 row and column 0 vanish (D11).
    """
    graph, root = csr([[0, 1, 0, 0], [1, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 3]]), 1 / math.sqrt(2)
    expected = [[0, root, 0, 0], [root, 0, root, 0], [0, root, 0, 0], [0, 0, 0, 1]]
    assert np.array_equal(normalise(graph).toarray(), expected)
    triangle = np.ones((3, 3)) - np.eye(3)
    assert np.array_equal(normalise(csr(triangle)).toarray(), triangle / 2)
    negative = normalise(csr([[0, 1, -2], [1, 0, 0], [-2, 0, 5]]))
    assert np.array_equal(negative.toarray(), [[0, 0, 0], [0, 0, 0], [0, 0, 5 / 3]])


@given(models())
def test_normalised_graphs_are_symmetric_bit_for_bit_with_a_spectral_radius_of_one(model) -> None:
    """Both directions of an edge divide the same number by the root of the same product. The vector
    of root degrees has eigenvalue 1: a graph scaled too small would not reach it.
    """
    for graph in (
        normalise(bipartite(model.users, model.items, model.n_users, model.n_items)),
        expand_coarse(model.norm_adjacency, model.coarse_assignment),
        expand_fine(model.norm_adjacency, model.coarse_assignment, model.fine_assignment),
    ):
        assert np.array_equal(graph.toarray(), graph.toarray().T)
        assert np.abs(np.linalg.eigvalsh(graph.toarray())).max() == pytest.approx(1, abs=1e-12)


@given(models(signed=True))
def test_rows_and_columns_of_degrees_that_are_not_positive_are_zero_and_the_formula_holds_elsewhere(
    model,
) -> None:
    """D11, on the unnormalised graph assembled by hand. A degree whose terms cancel has a relative
    rounding error that many times larger as they are larger than their sum.
    """
    blocks = [[model.norm_adjacency, model.coarse_assignment], [model.coarse_assignment.T, None]]
    raw = sparse.block_array(blocks).toarray()
    degrees = np.array([math.fsum(row) for row in raw])
    positive = degrees > 0
    graph = expand_coarse(model.norm_adjacency, model.coarse_assignment).toarray()
    assert not graph[~positive].any()
    assert not graph[:, ~positive].any()
    inside, kept = np.ix_(positive, positive), degrees[positive]
    growth = np.max(np.abs(raw).sum(axis=1)[positive] / kept, initial=1.0)
    assert_close(graph[inside], raw[inside] / np.sqrt(np.outer(kept, kept)), BOUND * growth)


def test_the_stored_pattern_and_degrees_of_0_stay_and_products_that_underflow_count_as_0() -> None:
    """1e-200 * 1e-200 is 0 in float64; dividing by its root would give infinity."""
    parts = np.array([0.0, 2.0]), np.array([1, 2]), np.array([0, 0, 1, 2])
    result = normalise(sparse.csr_array(parts, shape=(3, 3)))
    assert result.indices.tolist() == [1, 2]
    assert result.toarray().tolist() == [[0, 0, 0], [0, 0, 0], [0, 0, 1]]
    assert not normalise(csr([[0.0, 1e-200], [1e-200, 0.0]])).toarray().any()


def test_expand_coarse_by_hand() -> None:
    """S_c = [1; 1] makes a triangle: all degrees are 2, so every edge is exactly 1/2."""
    graph = expand_coarse(EDGE, csr([[1], [1]])).toarray()
    assert np.array_equal(graph, (np.ones((3, 3)) - np.eye(3)) / 2)


def test_expand_fine_by_hand() -> None:
    """The triangle with a fine row attached to the coarse one: degrees 2, 2, 3, 1."""
    graph = expand_fine(EDGE, csr([[1], [1]]), csr([[1]])).toarray()
    a, b, c = 1 / 2, 1 / math.sqrt(6), 1 / math.sqrt(3)
    assert np.array_equal(graph, [[0, a, b, 0], [a, 0, b, 0], [b, b, 0, c], [0, 0, c, 0]])


@given(rngs())
def test_the_adjacency_is_normalised_twice(rng) -> None:
    """D3: the entity block is A_ij / sqrt(d_i d_j) of the normalised A and S_c, not A again."""
    adjacency = normalise(bipartite(*draw_pairs(3, 4, rng), 3, 4))
    degrees = adjacency.toarray().sum(axis=1) + 0.5
    block = expand_coarse(adjacency, csr(np.full((7, 1), 0.5))).toarray()[:7, :7]
    assert_close(block, adjacency.toarray() / np.sqrt(np.outer(degrees, degrees)))
    assert np.abs(block - adjacency.toarray()).max() > 0.01


def test_expand_refuses_sizes_that_do_not_fit() -> None:
    square, tall, wide = (csr(np.ones(shape)) for shape in [(3, 3), (4, 2), (3, 2)])
    with pytest.raises(MethodError, match="norm_adjacency must have shape"):
        expand_coarse(square, tall)
    with pytest.raises(MethodError, match="norm_adjacency must have shape"):
        expand_fine(square, tall, wide)
    with pytest.raises(MethodError, match="fine_assignment must have shape"):
        expand_fine(square, wide, tall)
