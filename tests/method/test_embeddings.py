"""From tables to nodes: compose, threshold, bridge, and where the tables start."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.agreement import assert_close, chi_square, same_bits
from support.strategies import array, csr, draw_table, rngs

from c2f_ref import method
from c2f_ref.method import MethodError, Settings, draw_positions, scatter_scores, soft_threshold
from c2f_ref.method import sparse_pca_scores as scores_of


def test_compose_by_hand() -> None:
    """Row 0 is half of row 0 and half of row 1; row 1 is empty."""
    table = array([2, 4], [6, 8], [9, 9])
    assert method.compose(csr([[0.5, 0.5, 0], [0, 0, 0]]), table).tolist() == [[4, 6], [0, 0]]


def test_ego_embed_by_hand() -> None:
    """The rows (1, 0) and (0, -2) in equal parts: tanh(1/2), tanh(-1)."""
    ego = method.ego_embed(csr([[0.5, 0.5]]), array([1, 0], [0, -2]))
    assert_close(ego, [[math.tanh(0.5), -math.tanh(1)]])


# soft_threshold


def test_soft_threshold_by_hand() -> None:
    """With tau = 1/2: 2 becomes 3/2, -3/4 becomes -1/4, and 1/2, -1/2, 1/4 and 0 become 0."""
    table = array([2, -0.75, 0.5], [-0.5, 0.25, 0])
    assert soft_threshold(table, 0.5).tolist() == [[1.5, -0.25, 0], [0, 0, 0]]


def test_soft_threshold_and_its_pull_back_at_their_edges() -> None:
    """Threshold 0 gives x back, infinity zeros; the kink is 0 and its neighbours differ. A gradient
    passes outside [-1, 1]; inside and at the kink it is exactly 0.
    """
    table = array([1.5, -2.0, 2.0**-1022, 1e308])
    assert same_bits(soft_threshold(table, 0.0), table)
    assert not soft_threshold(table, math.inf).any()
    kink = array([1.0, -1.0, np.nextafter(1.0, 2.0), np.nextafter(1.0, 0.0)])
    assert soft_threshold(kink, 1.0).tolist() == [[0, 0, 2.0**-52, 0]]
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


@given(rngs(), st.integers(1, 6), st.integers(1, 8))
def test_drawn_positions_are_distinct_and_rising_and_scattered_scores_come_back(
    rng, n_positions, dim
) -> None:
    n_positions = min(n_positions, dim)
    positions = draw_positions(7, n_positions, dim, rng=rng)
    assert positions.shape == (7, n_positions)
    assert (np.diff(positions, axis=1) > 0).all()
    scores = draw_table((7, n_positions), rng)
    table = scatter_scores(scores, positions, dim)
    assert table.shape == (7, dim)
    assert same_bits(np.take_along_axis(table, positions, axis=1), scores)
    assert np.count_nonzero(table) == scores.size


def test_positions_of_every_row_are_drawn_uniformly() -> None:
    """Two of four columns: six choices, 1000 rows each; chi-square as in the coarse start."""
    positions = draw_positions(6000, 2, 4, rng=np.random.default_rng(2)).tolist()
    choices = dict.fromkeys(itertools.combinations(range(4), 2), 1)
    assert chi_square(map(tuple, positions), choices) < 20.5


def test_positions_and_scatter_refuse_what_does_not_fit() -> None:
    with pytest.raises(MethodError, match="n_positions must be in \\[0, dim = 3\\], got 4"):
        draw_positions(2, 4, 3, rng=np.random.default_rng(0))
    with pytest.raises(MethodError, match="positions must have shape"):
        scatter_scores(np.ones((2, 3)), np.zeros((2, 2), dtype=np.int64), 4)
    for bad in (-1, 4):
        with pytest.raises(MethodError, match=r"positions must be in \[0, 4\)"):
            scatter_scores(np.ones((1, 1)), np.array([[bad]]), 4)


def test_sparse_pca_scores_of_one_column_are_the_centred_rows_up_to_shrinkage() -> None:
    """Rows 1, 2, 6 less their mean 3 are (-2, -1, 3): scores are in the ratio -2 : -1 : 3."""
    scores = scores_of(np.array([[1.0], [2.0], [6.0]]), 1, 0.01, random_state=0)[:, 0]
    assert scores[0] != 0
    assert_close(scores / scores[0], [1.0, 0.5, -1.5])


def test_both_solvers_of_sparse_pca_solve_the_same_problem() -> None:
    """Rows along three directions of two columns each: scores explain them equally well."""
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


def test_coordinate_descent_warns_of_nothing_and_another_solver_is_refused() -> None:
    """With fewer different rows than components some lasso problems do not finish."""
    rng = np.random.default_rng(1)
    rows = 10 * rng.standard_normal((8, 12))[rng.integers(8, size=8)]
    assert np.isfinite(scores_of(rows, 12, 1.0, random_state=0, solver="cd")).all()
    with pytest.raises(MethodError, match='solver must be "lars" or "cd", got \'svd\''):
        scores_of(np.eye(3), 2, 1.0, random_state=0, solver="svd")


def test_a_fine_start_is_made_of_drawn_rows_scores_and_positions_in_that_order() -> None:
    """The generator gives F row numbers, a random state, then positions (D6)."""
    settings_ = Settings(n_coarse=6, n_fine=5, dim=7, sparse_pca_components=3)
    coarse = draw_table((6, 7), np.random.default_rng(0))
    rng = np.random.default_rng(11)
    rows, state = rng.integers(6, size=5), int(rng.integers(2**32))
    scores = scores_of(coarse[rows], 3, 1.0, random_state=state)
    by_hand = scatter_scores(scores, draw_positions(5, 3, 7, rng=rng), 7)
    assert np.count_nonzero(scores) > scores.size / 2  # scores are dense (D6)
    assert same_bits(method.start_fine(coarse, settings_, rng=np.random.default_rng(11)), by_hand)
    assert len(set(rows.tolist())) < 5  # with replacement: here one row came twice
