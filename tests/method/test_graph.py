"""The graph and the assignments: top entries, starts, the pseudo-inverse and both refreshes."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from support.agreement import assert_close, assert_refused, chi_square
from support.scalar import rank
from support.strategies import array, csr, ints, models, read_only, tied_tables

from c2f_ref import method
from c2f_ref.method import Settings, bipartite, expand_coarse, expand_fine, normalise

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


@settings(max_examples=20)
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


def test_the_stored_pattern_and_degrees_of_0_stay_and_products_that_underflow_count_as_0() -> None:
    """1e-200 * 1e-200 is 0 in float64; dividing by its root would give infinity."""
    parts = np.array([0.0, 2.0]), np.array([1, 2]), np.array([0, 0, 1, 2])
    result = normalise(sparse.csr_array(parts, shape=(3, 3)))
    assert result.indices.tolist() == [1, 2]
    assert result.toarray().tolist() == [[0, 0, 0], [0, 0, 0], [0, 0, 1]]
    assert not normalise(csr([[0.0, 1e-200], [1e-200, 0.0]])).toarray().any()


def test_expand_coarse_by_hand() -> None:
    """S_c = [1; 1] makes a triangle: all degrees are 2, so every edge is exactly 1/2, that of the
    normalised adjacency too: it is normalised once more (D3).
    """
    graph = expand_coarse(normalise(EDGE), csr([[1], [1]])).toarray()
    assert np.array_equal(graph, (np.ones((3, 3)) - np.eye(3)) / 2)


def test_expand_fine_by_hand() -> None:
    """The triangle with a fine row attached to the coarse one: degrees 2, 2, 3, 1."""
    graph = expand_fine(EDGE, csr([[1], [1]]), csr([[1]])).toarray()
    a, b, c = 1 / 2, 1 / math.sqrt(6), 1 / math.sqrt(3)
    assert np.array_equal(graph, [[0, a, b, 0], [a, 0, b, 0], [b, b, 0, c], [0, 0, c, 0]])


def test_graphs_refuse_indices_out_of_range_and_sizes_that_do_not_fit() -> None:
    for users, items in [((2,), (0,)), ((0,), (3,)), ((-1,), (0,)), ((0, 1), (0,))]:
        assert_refused(r"(users|items) must", bipartite, ints(*users), ints(*items), 2, 3)
    square, tall, wide = (csr(np.ones(shape)) for shape in [(3, 3), (4, 2), (3, 2)])
    assert_refused("norm_adjacency must have shape", expand_coarse, square, tall)
    assert_refused("norm_adjacency must have shape", expand_fine, square, tall, wide)
    assert_refused("fine_assignment must have shape", expand_fine, square, wide, tall)
    assert_refused(r"must have shape \(3, 3\), got \(3, 2\)", normalise, wide)


# Top entries


@given(tied_tables(), st.data())
def test_top_columns_equal_a_full_sort_with_ties_to_the_lowest_column(values, data) -> None:
    k = data.draw(st.integers(0, values.shape[1]))
    expected = [rank(row, set(), k) for row in values.tolist()]
    assert method.top_columns(values, k).tolist() == expected


def test_keep_top_by_hand() -> None:
    """By signed value: -1 beats -2, and an exact 0 that is kept is stored. Entries stay as they
    are, not renormalised (D5).
    """
    kept = method.keep_top(array([-3.0, -1, -2], [0.0, 5, -1], [2, 2, 2]), 2)
    assert kept.indices.tolist() == [1, 2, 0, 1, 0, 1]
    assert kept.data.tolist() == [-1, -2, 0, 5, 2, 2]
    assert kept.indptr.tolist() == [0, 2, 4, 6]


def test_softmax_by_hand_neither_overflows_nor_loses_an_underflow() -> None:
    """Equal entries share evenly; log 3 next to 0 weighs 3 : 1; a gap of 2000 gives an exact 0."""
    assert_close(method.softmax_rows(array([7, 7], [math.log(3), 0])), [[0.5, 0.5], [0.75, 0.25]])
    extreme = method.softmax_rows(array([1000, -1000], [-1e308, -1e308]))
    assert extreme.tolist() == [[1, 0], [0.5, 0.5]]


# Starts


def start(labels: np.ndarray, settings_: Settings, seed: int = 0):
    return method.start_coarse_assignment(labels, settings_, rng=np.random.default_rng(seed))


def test_start_coarse_assignment_by_hand() -> None:
    """With two parts there is no choice: w* = 0.6 on the label, 0.4 on the other part (D4). With
    three of three, two others have (1 - w*) / 2 each, which is stored where it is 0.
    """
    own = Settings(n_coarse=2, coarse_per_entity=2, anchor_weight=0.6)
    assert start(ints(0, 1, 1), own).toarray().tolist() == [[0.6, 0.4], [0.4, 0.6], [0.4, 0.6]]
    for anchor, shares in {0.5: [0.5, 0.25, 0.25], 1.0: [1, 0, 0], 0.0: [0, 0.5, 0.5]}.items():
        own = Settings(n_coarse=3, coarse_per_entity=3, anchor_weight=anchor)
        assert start(ints(0), own).data.tolist() == shares
    own = Settings(n_coarse=3, coarse_per_entity=1)
    assert start(ints(2, 0), own).toarray().tolist() == [[0, 0, 1], [1, 0, 0]]


def test_other_parts_of_the_start_are_drawn_uniformly() -> None:
    """6000 entities of part 1 among 5 draw two of {0, 2, 3, 4}: six pairs, 1000 each.

    Chi-square with 5 degrees of freedom exceeds 20.5 once in a thousand; the generator is fixed.
    """
    drawn = start(np.ones(6000, dtype=np.int64), Settings(n_coarse=5, coarse_per_entity=3), 3)
    columns = drawn.indices.reshape(6000, 3)
    others = map(tuple, columns[columns != 1].reshape(6000, 2).tolist())
    assert chi_square(others, dict.fromkeys(itertools.combinations([0, 2, 3, 4], 2), 1)) < 20.5


def test_start_fine_assignment_by_hand() -> None:
    """P has 0.5 on the label and 0.25 on the two others; a single part has the weight 1.

    Coarse row 0 has one entity, of part 1: its row of S_c^T P is (0.25, 0.5), and the larger share,
    exp(0.25) : 1, is kept.
    """
    assert method.part_affinity(ints(2, 0), 3).tolist() == [[0.25, 0.25, 0.5], [0.5, 0.25, 0.25]]
    assert method.part_affinity(ints(0, 0), 1).tolist() == [[1], [1]]
    share = math.exp(0.25) / (1 + math.exp(0.25))
    started = method.start_fine_assignment(csr(np.eye(2)), array([0.25, 0.5], [0.5, 0.25]), 1)
    assert_close(started, [[0.0, share], [share, 0.0]])


# The pseudo-inverse and refreshes


@pytest.mark.parametrize("shape", [(3, 7), (7, 3)])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_default_cut_is_the_larger_side_times_eps(shape, dtype) -> None:
    """Eps is that of the table's type. Singular values 1 and s: just above 7 eps both are kept,
    just below only the first.
    """
    for factor, is_kept in [(1.25, True), (0.75, False)]:
        table = np.zeros(shape, dtype=dtype)
        table[0, 0], table[1, 1] = 1.0, factor * 7 * np.finfo(dtype).eps
        inverse = method.pseudo_inverse(table, None)
        assert inverse[0, 0] == pytest.approx(1.0)
        assert (inverse[1, 1] > 0) == is_kept


def test_singular_values_at_or_below_a_chosen_cut_are_dropped_and_above_it_kept() -> None:
    """Singular values 4, 2, 1: a cut of 1/2 is 2 itself, which is dropped; just under keeps it. The
    row (3, 4) has the inverse (3, 4) / 25.
    """
    table = read_only(np.diag([4.0, 2.0, 1.0]))
    kept = {0.5: [0.25, 0, 0], 0.499: [0.25, 0.5, 0], 0.0: [0.25, 0.5, 1.0], 1.0: [0, 0, 0]}
    for rtol, diagonal in kept.items():
        assert_close(method.pseudo_inverse(table, rtol), np.diag(diagonal), least=1.0)
    assert_close(method.pseudo_inverse(array([3.0, 4.0]), None), [[0.12], [0.16]])


def test_refresh_coarse_by_hand() -> None:
    """Pinv of diag(2, 4, 1) turns (2, -4, 3) into (1, -1, 3), of which 1 and 3 are kept.

    Negative entries can be kept (D11).
    """
    refreshed = method.refresh_coarse(array([2.0, -4.0, 3.0]), np.diag([2.0, 4.0, 1.0]), 2)
    assert_close(refreshed, [[1.0, 0.0, 3.0]])
    assert_close(method.refresh_coarse(array([-1.0, -2.0]), np.eye(2), 2), [[-1.0, -2.0]])


def test_refresh_fine_by_hand() -> None:
    """With identity tables each use is H_e itself; H_e^T H_e = diag(log 3, 0) has softmax rows
    (3/4, 1/4) and (1/2, 1/2).
    """
    entities = array([math.sqrt(math.log(3)), 0.0])
    assert_close(method.refresh_fine(entities, np.eye(2), np.eye(2), 1), [[0.75, 0], [0.5, 0]])


def test_assignments_refuse_what_does_not_fit() -> None:
    for k in (-1, 4):
        message = rf"k must be in \[0, 3\], the number of columns, got {k}"
        assert_refused(message, method.top_columns, np.ones((2, 3)), k)
    message, values = "must not be NaN, got one in row 1", array([1.0, 2.0], [3.0, np.nan])
    assert_refused(message, method.top_columns, values, 1)
    for label in (-1, 3):
        assert_refused(r"labels must be in \[0, 3\)", start, ints(label), Settings(n_coarse=3))
        assert_refused(r"labels must be in \[0, 3\)", method.part_affinity, ints(label), 3)
    of_ones, starting = csr([[1, 1]] * 3), method.start_fine_assignment
    assert_refused("affinity must have shape", starting, of_ones, np.ones((4, 2)), 1)
    assert_refused("k must be in", starting, of_ones, np.ones((3, 2)), 3)
    tables = np.ones((5, 6)), np.ones((4, 6)), np.ones((3, 6))
    assert_refused("k must be in", method.refresh_coarse, *tables[:2], 5)
    assert_refused("k must be in", method.refresh_fine, *tables, 4)
    assert_refused("must have shape", method.refresh_coarse, tables[0], np.ones((4, 3)), 2)
    assert_refused("must have shape", method.refresh_fine, *tables[:2], np.ones((3, 2)), 2)
