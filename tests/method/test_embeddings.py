"""From tables to propagated embeddings: compose, threshold, bridge, start, propagate."""

from __future__ import annotations

import itertools
import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from support.agreement import assert_close, assert_refused, chi_square, same_bits
from support.calls import calls
from support.strategies import array, csr, draw_table, models

from c2f_ref import method
from c2f_ref.method import Settings, draw_positions, scatter_scores
from c2f_ref.method import sparse_pca_scores as scores_of


def test_compose_by_hand() -> None:
    """Row 0 is half of row 0 and half of row 1; row 1 is empty."""
    table = array([2, 4], [6, 8], [9, 9])
    assert method.compose(csr([[0.5, 0.5, 0], [0, 0, 0]]), table).tolist() == [[4, 6], [0, 0]]


def test_ego_embed_by_hand() -> None:
    """The rows (1, 0) and (0, -2) in equal parts: tanh(1/2), tanh(-1)."""
    ego = method.ego_embed(csr([[0.5, 0.5]]), array([1, 0], [0, -2]))
    assert_close(ego, [[math.tanh(0.5), -math.tanh(1)]])


def test_soft_threshold_by_hand() -> None:
    """With tau = 1/2: 2 becomes 3/2, -3/4 becomes -1/4, and 1/2, -1/2, 1/4 and 0 become 0. The kink
    is 0 and its neighbours differ. A gradient passes outside [-1, 1]; inside and at the kink it is
    exactly 0.
    """
    by_hand = method.soft_threshold(array([2, -0.75, 0.5], [-0.5, 0.25, 0]), 0.5)
    assert by_hand.tolist() == [[1.5, -0.25, 0], [0, 0, 0]]
    kink = array([1.0, -1.0, np.nextafter(1.0, 2.0), np.nextafter(1.0, 0.0)])
    assert method.soft_threshold(kink, 1.0).tolist() == [[0, 0, 2.0**-52, 0]]
    pulled = method.soft_threshold_vjp(array([2, 1, 0.5, -1, -1.5]), 1.0, array([3, 4, 5, 6, -7]))
    assert pulled.tolist() == [[3, 0, 0, 0, -7]]


def test_fine_embed_by_hand() -> None:
    embedded = method.fine_embed(array([3, -0.5, -2, 1]), 1.0)
    assert_close(embedded, [[math.tanh(2), 0.0, -math.tanh(1), 0.0]])
    assert embedded[0, 1] == embedded[0, 3] == 0.0


def test_bridge_by_hand() -> None:
    """With w = 1/4, 3/4 of (4, 8) and 1/4 of 2 (6, 0) is (6, 6)."""
    mixed = method.bridge(csr([[2, 0]]), 0.25, array([4, 8]), array([6, 0], [9, 9]))
    assert mixed.tolist() == [[6, 6]]


def test_start_coarse_is_standard_normal_in_table_and_bias() -> None:
    """The mean of 40,000 draws deviates by 1/200, the variance by sqrt(2)/200; fourfold passes."""
    own = Settings(n_coarse=400, dim=100)
    coarse, bias = method.start_coarse(40_000, own, rng=np.random.default_rng(5))
    assert (coarse.shape, bias.shape) == ((400, 100), (40_000,))
    for values in (coarse, bias):
        assert abs(values.mean()) < 4 / 200
        assert abs(values.var() - 1) < 4 * math.sqrt(2) / 200
        assert 3.5 < np.abs(values).max() < 6


# start_fine and its parts


def test_positions_of_every_row_are_drawn_uniformly() -> None:
    """Two of four columns: six choices, 1000 rows each; chi-square as in the coarse start."""
    positions = draw_positions(6000, 2, 4, rng=np.random.default_rng(2)).tolist()
    choices = dict.fromkeys(itertools.combinations(range(4), 2), 1)
    assert chi_square(map(tuple, positions), choices) < 20.5


def test_parts_of_a_start_refuse_what_does_not_fit() -> None:
    rng, places = np.random.default_rng(0), np.zeros((2, 2), dtype=np.int64)
    message = r"n_positions must be in \[0, dim = 3\], got 4"
    assert_refused(message, draw_positions, 2, 4, 3, rng=rng)
    assert_refused("positions must have shape", scatter_scores, np.ones((2, 3)), places, 4)
    for bad in (places - 1, places + 4):
        assert_refused(r"positions must be in \[0, 4\)", scatter_scores, np.ones((2, 2)), bad, 4)
    message = 'solver must be "lars" or "cd", got \'svd\''
    assert_refused(message, scores_of, np.eye(3), 2, 1.0, random_state=0, solver="svd")


def test_both_solvers_of_sparse_pca_solve_the_same_problem() -> None:
    """Rows along three directions of two columns each: scores explain them equally well. With fewer
    different rows than components some lasso problems do not finish, and nothing warns of it.
    """
    rng, left = np.random.default_rng(5), []
    directions = np.kron(np.eye(3), np.ones((1, 2)))
    rows = rng.standard_normal((40, 3)) @ directions * 3 + 0.1 * rng.standard_normal((40, 6))
    centred = rows - rows.mean(axis=0)
    for solver in ("lars", "cd"):
        scores = scores_of(rows, 3, 1.0, random_state=0, solver=solver)
        explained = scores @ np.linalg.lstsq(scores, centred, rcond=None)[0]
        left.append(np.linalg.norm(centred - explained) / np.linalg.norm(centred))
    assert max(left) < 0.05
    assert abs(left[0] - left[1]) < 1e-3
    rng = np.random.default_rng(1)
    rows = 10 * rng.standard_normal((8, 12))[rng.integers(8, size=8)]
    assert np.isfinite(scores_of(rows, 12, 1.0, random_state=0, solver="cd")).all()


def test_a_fine_start_is_made_of_drawn_rows_scores_and_positions_in_that_order() -> None:
    """The generator gives F row numbers, a random state, then positions (D6)."""
    own = Settings(n_coarse=6, n_fine=5, dim=7, sparse_pca_components=3)
    coarse = draw_table((6, 7), np.random.default_rng(0))
    rng = np.random.default_rng(11)
    rows, state = rng.integers(6, size=5), int(rng.integers(2**32))
    scores = scores_of(coarse[rows], 3, 1.0, random_state=state)
    by_hand = scatter_scores(scores, draw_positions(5, 3, 7, rng=rng), 7)
    assert np.count_nonzero(scores) > scores.size / 2  # scores are dense (D6)
    assert same_bits(method.start_fine(coarse, own, rng=np.random.default_rng(11)), by_hand)
    assert len(set(rows.tolist())) < 5  # with replacement: here one row came twice


# Propagation


def test_propagate_coarse_by_hand() -> None:
    """One entity and one coarse row, edge 1/2 from the coarse row to the entity and 2 back:

    (4, 8) -> (8/2, 2 * 4) = (4, 8) -> (4, 8), mean (4, 8); from (6, 0): (0, 12), (6, 0), (4, 4).
    """
    nodes = method.propagate_coarse(csr([[0, 0.5], [2, 0]]), 2, array([4, 6]), array([8, 0]))
    assert [table.tolist() for table in nodes] == [[[4, 4]], [[8, 4]]]


def test_propagate_fine_by_hand() -> None:
    """Graph of `test_expand_fine_by_hand`: user and item at x, coarse row c, fine row f; S_c and
    S_f are all ones, w = 1/4. The layer, line by line (D2):

    After G:  h = x/2 + c/sqrt6,  c1 = 2x/sqrt6 + f/sqrt3,  f1 = c/sqrt3; then c2 = c1 - f1,
    c3 = w f1 + (1 - w) c2, entities end at h - c1 + c3; means with layer 0 halve the sums.
    """
    x, c, f, w = 0.5, -1.5, 2.0, 0.25
    a, b, g = 1 / 2, 1 / math.sqrt(6), 1 / math.sqrt(3)
    graph = csr([[0, a, b, 0], [a, 0, b, 0], [b, b, 0, g], [0, 0, g, 0]])
    h, c1, f1 = x * a + c * b, 2 * x * b + f * g, c * g
    c3 = w * f1 + (1 - w) * (c1 - f1)
    nodes = array([x], [x]), array([c]), array([f])
    means = [[(x + h - c1 + c3) / 2]] * 2, [[(c + c3) / 2]], [[(f + f1) / 2]]
    assert_close(method.propagate_fine(graph, csr([[1], [1]]), csr([[1]]), w, 1, *nodes), means)


class Operator:
    """Nothing but a product and a transpose, on NumPy rows."""

    def __init__(self, dense: np.ndarray) -> None:
        self._dense = dense

    def __matmul__(self, other: np.ndarray) -> np.ndarray:
        return self._dense @ other

    @property
    def T(self) -> Operator:  # noqa: N802
        """The transpose."""
        return Operator(self._dense.T)


@settings(max_examples=10)
@given(models(signed=True), st.integers(0, 2**32))
def test_anything_with_a_product_and_a_transpose_propagates(model, seed) -> None:
    """Graphs and assignments need not be SciPy's."""
    made = calls(model, seed)
    for name in ("propagate_coarse", "propagate_fine"):
        for function, arguments in (made[name], made[f"{name}_vjp"]):
            n = 1 if name == "propagate_coarse" else 3
            operators = [Operator(matrix.toarray()) for matrix in arguments[:n]]
            assert_close(function(*operators, *arguments[n:]), function(*arguments), 1e-11)
