"""The graph: by hand, by definition, and what normalising promises."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from scipy import sparse
from support import scalar
from support.agreement import BOUND, assert_by_definition, assert_close, same_bits
from support.strategies import draw_pairs, draw_square, models, read_only, rngs

from c2f_ref.spec import SpecError, bipartite, expand_coarse, expand_fine, normalise


def ints(*values: int) -> np.ndarray:
    return read_only(np.array(values, dtype=np.int64))


# bipartite


def test_bipartite_by_hand() -> None:
    """Two users and three items: item i is node 2 + i. Pairs (0, 1) and (1, 0) join nodes 0 and 3, 1 and 2, in both directions."""
    expected = np.zeros((5, 5))
    for i, j in [(0, 3), (3, 0), (1, 2), (2, 1)]:
        expected[i, j] = 1.0
    assert np.array_equal(bipartite(ints(0, 1), ints(1, 0), 2, 3).toarray(), expected)


@given(models())
def test_bipartite_by_definition(model) -> None:
    assert_by_definition(bipartite, scalar.bipartite, model.users, model.items, model.n_users, model.n_items)


@given(models(), rngs())
def test_duplicate_pairs_count_once(model, rng) -> None:
    again = rng.integers(model.users.size, size=2 * model.users.size)
    once = bipartite(model.users, model.items, model.n_users, model.n_items)
    users, items = (read_only(np.concatenate([ends, ends[again]])) for ends in (model.users, model.items))
    assert same_bits(bipartite(users, items, model.n_users, model.n_items), once)
    assert once.nnz == 2 * model.users.size


@given(models(), rngs())
def test_order_and_index_type_of_the_pairs_change_nothing(model, rng) -> None:
    once = bipartite(model.users, model.items, model.n_users, model.n_items)
    order = rng.permutation(model.users.size)
    for dtype in (np.int32, np.int64):
        users, items = (np.repeat(ends[order].astype(dtype), 2)[::2] for ends in (model.users, model.items))
        assert same_bits(bipartite(users, items, model.n_users, model.n_items), once)


def test_bipartite_of_no_pairs_is_an_empty_graph() -> None:
    assert bipartite(ints(), ints(), 2, 3).nnz == 0
    assert bipartite(ints(), ints(), 2, 3).shape == (5, 5)


def test_bipartite_refuses_indices_out_of_range_and_lists_of_different_length() -> None:
    for users, items in [((2,), (0,)), ((0,), (3,)), ((-1,), (0,)), ((0, 1), (0,))]:
        with pytest.raises(SpecError, match=r"(users|items) must"):
            bipartite(ints(*users), ints(*items), 2, 3)


def test_narrow_index_types_do_not_wrap_around() -> None:
    """User 0 and item 60 of 100 users and 61 items join nodes 0 and 160, which int8 cannot hold."""
    graph = bipartite(np.array([0], dtype=np.int8), np.array([60], dtype=np.int8), 100, 61)
    assert graph.toarray()[0, 160] == 1.0


# normalise


def test_normalise_by_hand() -> None:
    """A path 0 - 1 - 2 has degrees 1, 2, 1: its two edges become 1 / sqrt(2). A loop of weight 3 becomes 3 / 3."""
    graph = read_only(sparse.csr_array([[0.0, 1, 0, 0], [1, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 3]]))
    root = 1 / math.sqrt(2)
    expected = [[0, root, 0, 0], [root, 0, root, 0], [0, root, 0, 0], [0, 0, 0, 1]]
    assert np.array_equal(normalise(graph).toarray(), expected)


def test_equal_degrees_give_exact_quotients() -> None:
    """Degrees 2 and 2 give exactly 1/2: two diagonal scalings by 1/sqrt(2) would give 0.4999999999999999."""
    graph = sparse.csr_array(np.ones((3, 3)) - np.eye(3))
    assert np.array_equal(normalise(graph).toarray(), (np.ones((3, 3)) - np.eye(3)) / 2)


def cancellation_bound(raw: np.ndarray) -> float:
    """A degree whose terms cancel has a relative rounding error as many times larger as they are larger than their sum."""
    degrees, sizes = raw.sum(axis=1), np.abs(raw).sum(axis=1)
    return BOUND * float(np.max(sizes[degrees > 0] / degrees[degrees > 0], initial=1.0))


@given(rngs())
def test_normalise_by_definition(rng) -> None:
    """Also for asymmetric graphs and, D11, degrees that are not positive."""
    graph = draw_square(7, rng)
    assert_by_definition(normalise, scalar.normalise, graph, bound=cancellation_bound(graph.toarray()))


def relabelled(matrix: sparse.csr_array, order: np.ndarray) -> sparse.csr_array:
    """Node order[n] of the given graph becomes node n."""
    return read_only(sparse.csr_array(matrix.toarray()[np.ix_(order, order)]))


@given(models(), rngs())
def test_relabelling_nodes_relabels_the_normalised_graph(model, rng) -> None:
    graph = bipartite(model.users, model.items, model.n_users, model.n_items)
    order = rng.permutation(graph.shape[0])
    assert_close(normalise(relabelled(graph, order)), relabelled(normalise(graph), order))


@given(models())
def test_normalised_graphs_are_symmetric(model) -> None:
    """Bit for bit: both directions of an edge divide the same number by the root of the same product."""
    graphs = [
        normalise(bipartite(model.users, model.items, model.n_users, model.n_items)),
        expand_coarse(model.norm_adjacency, model.coarse_assignment),
        expand_fine(model.norm_adjacency, model.coarse_assignment, model.fine_assignment),
    ]
    for graph in graphs:
        assert graph.nnz > 0
        assert np.array_equal(graph.toarray(), graph.toarray().T)


@given(models(signed=True))
def test_normalised_graphs_with_negative_entries_are_symmetric_and_finite(model) -> None:
    graph = expand_fine(model.norm_adjacency, model.coarse_assignment, model.fine_assignment).toarray()
    assert np.isfinite(graph).all()
    assert np.array_equal(graph, graph.T)


@given(models())
def test_normalised_graphs_of_non_negative_entries_have_their_spectrum_between_minus_one_and_one(model) -> None:
    """And reach 1, at the vector of root degrees: a graph scaled too small would not."""
    graphs = [
        normalise(bipartite(model.users, model.items, model.n_users, model.n_items)),
        expand_coarse(model.norm_adjacency, model.coarse_assignment),
        expand_fine(model.norm_adjacency, model.coarse_assignment, model.fine_assignment),
    ]
    for graph in graphs:
        spectrum = np.linalg.eigvalsh(graph.toarray())
        assert np.abs(spectrum).max() == pytest.approx(1.0, abs=1e-12)


@given(models(signed=True))
def test_rows_and_columns_of_degrees_that_are_not_positive_are_zero_and_the_formula_holds_elsewhere(model) -> None:
    """D11, on the unnormalised graph assembled by hand."""
    blocks = [[model.norm_adjacency, model.coarse_assignment], [model.coarse_assignment.T, None]]
    raw = sparse.block_array(blocks).toarray()
    degrees = np.array([math.fsum(row) for row in raw])
    positive = np.flatnonzero(degrees > 0)
    graph = expand_coarse(model.norm_adjacency, model.coarse_assignment).toarray()
    assert not graph[degrees <= 0].any()
    assert not graph[:, degrees <= 0].any()
    inside = np.ix_(positive, positive)
    expected = raw[inside] / np.sqrt(np.outer(degrees[positive], degrees[positive]))
    assert_close(graph[inside], expected, cancellation_bound(raw))


def test_a_negative_degree_by_hand() -> None:
    """Row sums 1 - 2, 1 and -2 + 5: row and column 0 vanish, and the loop of node 2 becomes 5 / sqrt(3 * 3)."""
    graph = read_only(sparse.csr_array([[0.0, 1, -2], [1, 0, 0], [-2, 0, 5]]))
    assert np.array_equal(normalise(graph).toarray(), [[0, 0, 0], [0, 0, 0], [0, 0, 5 / 3]])


@given(models(), rngs())
def test_storage_of_the_graph_changes_nothing(model, rng) -> None:
    """Storage order within rows and the type of the indices; dyadic entries, so that degrees have no rounding."""
    graph = bipartite(model.users, model.items, model.n_users, model.n_items)
    graph.data = rng.choice([0.5, 1.0, 1.75], graph.nnz)
    shuffled, wide = reordered(graph, rng), graph.copy()
    wide.indices, wide.indptr = graph.indices.astype(np.int64), graph.indptr.astype(np.int64)
    for variant in (shuffled, wide, read_only(graph)):
        assert same_bits(normalise(variant), normalise(graph))


def reordered(matrix: sparse.csr_array, rng: np.random.Generator) -> sparse.csr_array:
    """The same sparse array with the entries of each row stored in random order."""
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    order = np.lexsort((rng.permutation(rows.size), rows))
    return read_only(sparse.csr_array((matrix.data[order], matrix.indices[order], matrix.indptr.copy()), shape=matrix.shape))


def test_the_stored_pattern_stays_and_an_isolated_node_stays_zero() -> None:
    graph = sparse.csr_array((np.array([0.0, 2.0]), np.array([1, 2]), np.array([0, 0, 1, 2])), shape=(3, 3))
    result = normalise(graph)
    assert result.indices.tolist() == [1, 2]
    assert result.toarray().tolist() == [[0, 0, 0], [0, 0, 0], [0, 0, 1]]


def test_degrees_whose_product_underflows_count_as_zero() -> None:
    """1e-200 * 1e-200 is 0 in float64; dividing by its root would give infinity."""
    assert normalise(sparse.csr_array([[0.0, 1e-200], [1e-200, 0.0]])).toarray().tolist() == [[0, 0], [0, 0]]


def test_normalise_refuses_what_is_not_square_or_not_finite() -> None:
    with pytest.raises(SpecError, match=r"graph must have shape \(2, 2\)"):
        normalise(sparse.csr_array((2, 3)))
    with pytest.raises(SpecError, match="graph must be finite"):
        normalise(sparse.csr_array([[np.nan]]))


# expand


def test_expand_coarse_by_hand() -> None:
    """One user, one item, one coarse row with S_c = [1; 1]: a triangle, all degrees 2, so every edge is exactly 1/2."""
    adjacency = read_only(sparse.csr_array([[0.0, 1.0], [1.0, 0.0]]))
    graph = expand_coarse(adjacency, read_only(sparse.csr_array(np.ones((2, 1)))))
    assert np.array_equal(graph.toarray(), (np.ones((3, 3)) - np.eye(3)) / 2)


def test_expand_fine_by_hand() -> None:
    """The triangle with a fine row hung on the coarse one: degrees 2, 2, 3, 1."""
    adjacency = read_only(sparse.csr_array([[0.0, 1.0], [1.0, 0.0]]))
    graph = expand_fine(adjacency, read_only(sparse.csr_array(np.ones((2, 1)))), read_only(sparse.csr_array([[1.0]])))
    a, b, c = 1 / 2, 1 / math.sqrt(6), 1 / math.sqrt(3)
    assert np.array_equal(graph.toarray(), [[0, a, b, 0], [a, 0, b, 0], [b, b, 0, c], [0, 0, c, 0]])


@given(models())
def test_expand_by_definition(model) -> None:
    assert_by_definition(expand_coarse, scalar.expand_coarse, model.norm_adjacency, model.coarse_assignment)
    assert_by_definition(expand_fine, scalar.expand_fine, model.norm_adjacency, model.coarse_assignment, model.fine_assignment)


@given(models(signed=True))
def test_expand_with_negative_assignments_by_definition(model) -> None:
    arguments = model.norm_adjacency, model.coarse_assignment, model.fine_assignment
    blocks = [[arguments[0], arguments[1], None], [arguments[1].T, None, arguments[2]], [None, arguments[2].T, None]]
    bound = cancellation_bound(sparse.block_array(blocks).toarray())
    assert_by_definition(expand_fine, scalar.expand_fine, *arguments, bound=bound)


@given(rngs())
def test_the_adjacency_is_normalised_twice(rng) -> None:
    """D3: the entity block is A_ij / sqrt(d_i d_j) of the normalised A and S_c, not A again."""
    users, items = draw_pairs(3, 4, rng)
    adjacency = normalise(bipartite(users, items, 3, 4))
    assignment = sparse.csr_array(np.full((7, 1), 0.5))
    degrees = adjacency.toarray().sum(axis=1) + 0.5
    block = expand_coarse(adjacency, assignment).toarray()[:7, :7]
    assert_close(block, adjacency.toarray() / np.sqrt(np.outer(degrees, degrees)))
    assert np.abs(block - adjacency.toarray()).max() > 0.01


def test_expand_refuses_sizes_that_do_not_fit() -> None:
    square, tall, wide = (sparse.csr_array(np.ones(shape)) for shape in [(3, 3), (4, 2), (3, 2)])
    with pytest.raises(SpecError, match="norm_adjacency must have shape"):
        expand_coarse(square, tall)
    with pytest.raises(SpecError, match="at least one column"):
        expand_coarse(square, sparse.csr_array((3, 0)))
    with pytest.raises(SpecError, match="fine_assignment must have shape"):
        expand_fine(square, wide, tall)
