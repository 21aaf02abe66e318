"""From tables to nodes: compose, threshold, bridge, and where the tables start."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from support import scalar
from support.agreement import assert_by_definition, assert_close, same_bits
from support.gradients import check_vjp, taylor_slope
from support.strategies import draw_table, models, read_only, rngs, tables

from c2f_ref.spec import (
    Settings,
    SpecError,
    bridge,
    bridge_vjp,
    compose,
    compose_vjp,
    draw_positions,
    ego_embed,
    ego_embed_vjp,
    fine_embed,
    fine_embed_vjp,
    scatter_scores,
    soft_threshold,
    soft_threshold_vjp,
    sparse_pca_scores,
    start_coarse,
    start_fine,
)

thresholds = st.floats(0, 2)
TINY = 2.0**-1022


# compose


def test_compose_by_hand() -> None:
    """Row 0 is half of row 0 and half of row 1; row 1 is empty."""
    assignment = read_only(sparse.csr_array([[0.5, 0.5, 0], [0, 0, 0]]))
    assert compose(assignment, read_only(np.array([[2.0, 4], [6, 8], [9, 9]]))).tolist() == [[4, 6], [0, 0]]


@given(models())
def test_compose_by_definition(model) -> None:
    assert_by_definition(compose, scalar.compose, model.coarse_assignment, model.coarse)
    assert_by_definition(compose, scalar.compose, model.fine_assignment, model.fine)


@given(models(), st.sampled_from([0.5, -2.0]))
def test_compose_is_linear(model, factor) -> None:
    """Bit for bit under a factor that is a power of two."""
    assert same_bits(
        compose(model.coarse_assignment, factor * model.coarse), factor * compose(model.coarse_assignment, model.coarse)
    )


@given(models(), rngs())
def test_compose_of_dyadic_numbers_ignores_storage_bit_for_bit(model, rng) -> None:
    """Multiples of 1/8 make no rounding error, so the order in which a row is stored cannot matter."""
    assignment = sparse.csr_array(np.round(8 * model.coarse_assignment.toarray()) / 8)
    table = np.round(8 * model.coarse) / 8
    once = compose(assignment, table)
    turned = assignment[:, ::-1]  # columns of every row stored from last to first
    turned = sparse.csr_array(
        (turned.data[::-1], turned.indices[::-1], np.cumsum([0, *np.diff(turned.indptr)[::-1]])), shape=turned.shape
    )
    assert same_bits(compose(turned, table[::-1])[::-1], once)
    assert same_bits(compose(assignment, np.asfortranarray(table)), once)
    assert same_bits(compose(assignment, np.repeat(table, 2, axis=1)[:, ::2]), once)


@settings(max_examples=200)
@given(models(signed=True), rngs())
def test_pull_back_of_compose(model, rng) -> None:
    assignment = model.coarse_assignment
    check_vjp(lambda table: compose(assignment, table), lambda grad: compose_vjp(assignment, grad), [model.coarse], rng)


# ego_embed


def test_ego_embed_by_hand() -> None:
    """The rows (1, 0) and (0, -2) in equal parts: tanh(1/2), tanh(-1)."""
    assignment = read_only(sparse.csr_array([[0.5, 0.5]]))
    assert_close(ego_embed(assignment, np.array([[1.0, 0.0], [0.0, -2.0]])), [[math.tanh(0.5), -math.tanh(1)]])


@given(models())
def test_ego_embed_by_definition(model) -> None:
    assert_by_definition(ego_embed, scalar.ego_embed, model.coarse_assignment, model.coarse)


@given(models())
def test_ego_embeddings_are_odd_and_at_most_one(model) -> None:
    ego = ego_embed(model.coarse_assignment, 100 * model.coarse)
    assert np.abs(ego).max() <= 1.0
    assert same_bits(ego_embed(model.coarse_assignment, -100 * model.coarse), -ego)


@settings(max_examples=200)
@given(models(signed=True), rngs())
def test_pull_back_of_ego_embed(model, rng) -> None:
    assignment, coarse = model.coarse_assignment, model.coarse
    check_vjp(lambda table: ego_embed(assignment, table), lambda grad: ego_embed_vjp(assignment, coarse, grad), [coarse], rng)
    grad = draw_table((model.n_entities, model.settings.dim), rng)
    slope = taylor_slope(
        lambda table: float((grad * ego_embed(assignment, table)).sum()), [ego_embed_vjp(assignment, coarse, grad)], [coarse], rng
    )
    assert slope >= 1.9


# soft_threshold


def test_soft_threshold_by_hand() -> None:
    """With tau = 1/2: 2 becomes 3/2, -3/4 becomes -1/4, and 1/2, -1/2, 1/4 and 0 become 0."""
    table = read_only(np.array([[2.0, -0.75, 0.5], [-0.5, 0.25, 0.0]]))
    assert soft_threshold(table, 0.5).tolist() == [[1.5, -0.25, 0], [0, 0, 0]]


@given(tables(), thresholds)
def test_soft_threshold_by_definition(table, threshold) -> None:
    assert np.array_equal(soft_threshold(table, threshold), scalar.soft_threshold(table, threshold))


@given(st.floats(-3, 3), thresholds)
def test_soft_threshold_as_a_prox_beats_a_grid(x, threshold) -> None:
    """It minimises (z - x)^2 / 2 + tau |z|: no z of a grid over [-4, 4], nor a neighbour, does better."""

    def objective(z: np.ndarray) -> np.ndarray:
        return (z - x) ** 2 / 2 + threshold * np.abs(z)

    best = soft_threshold(np.array([[x]]), threshold)[0]
    grid = np.concatenate([np.linspace(-4, 4, 1001), best + 1e-5, best - 1e-5, [0.0]])
    assert (objective(best) <= objective(grid) + 1e-15).all()
    far = np.abs(grid - best) > 1e-5  # strictly better than anything farther, as the objective is 1-strongly convex
    assert (objective(best) < objective(grid[far]) - 1e-11).all()


@given(tables(), thresholds)
def test_soft_threshold_is_odd(table, threshold) -> None:
    assert same_bits(soft_threshold(-table, threshold), -soft_threshold(table, threshold))


@given(tables(), thresholds)
def test_soft_threshold_shrinks(table, threshold) -> None:
    """By tau or to 0, and never past it."""
    shrunk = soft_threshold(table, threshold)
    assert (np.abs(shrunk) <= np.abs(table)).all()
    assert (shrunk * table >= 0).all()
    assert (np.abs(table) - np.abs(shrunk) <= threshold + 1e-15).all()
    assert ((np.abs(table) <= threshold) == (shrunk == 0)).all()


@given(tables(), rngs(), thresholds)
def test_soft_threshold_is_non_expansive(table, rng, threshold) -> None:
    other = table + rng.normal(size=table.shape)
    apart = np.abs(soft_threshold(table, threshold) - soft_threshold(other, threshold))
    assert (apart <= np.abs(table - other) + 4 * np.spacing(np.maximum(np.abs(table), np.abs(other)))).all()


@given(tables(), thresholds, thresholds)
def test_soft_thresholds_compose_to_their_sum(table, first, second) -> None:
    """Up to the rounding of the largest number that is subtracted."""
    twice = soft_threshold(soft_threshold(table, first), second)
    assert np.abs(twice - soft_threshold(table, first + second)).max() <= 4 * np.spacing(np.abs(table).max() + first + second)


@given(tables(), thresholds, thresholds)
def test_a_larger_threshold_never_revives_an_entry(table, threshold, growth) -> None:
    dead = soft_threshold(table, threshold) == 0
    assert not soft_threshold(table, threshold + growth)[dead].any()


def test_soft_threshold_at_its_edges() -> None:
    """Threshold 0 gives x back, infinity gives zeros, and the kink itself is 0; the neighbours of the kink are told apart."""
    table = read_only(np.array([[1.5, -2.0, TINY, 1e308]]))
    assert same_bits(soft_threshold(table, 0.0), table)
    assert not soft_threshold(table, math.inf).any()
    kink = np.array([[1.0, -1.0, np.nextafter(1.0, 2.0), np.nextafter(1.0, 0.0)]])
    assert soft_threshold(kink, 1.0).tolist() == [[0, 0, 2.0**-52, 0]]


@settings(max_examples=200)
@given(models(), rngs())
def test_pull_back_of_soft_threshold_away_from_the_kink(model, rng) -> None:
    """No Taylor slope: away from its kink the function is linear, and the difference quotients are exact."""
    fine, tau = model.fine, model.settings.threshold
    check_vjp(lambda table: soft_threshold(table, tau), lambda grad: soft_threshold_vjp(fine, tau, grad), [fine], rng, n_entries=6)


def test_pull_back_of_soft_threshold_by_hand() -> None:
    """It passes outside [-1, 1]; inside and at the kink it is exactly 0, whatever the gradient."""
    table = read_only(np.array([[2.0, 1.0, 0.5, -1.0, -1.5]]))
    assert soft_threshold_vjp(table, 1.0, read_only(np.array([[3.0, 4, 5, 6, -7]]))).tolist() == [[3, 0, 0, 0, -7]]


# fine_embed


def test_fine_embed_by_hand() -> None:
    assert_close(fine_embed(np.array([[3.0, -0.5, -2.0]]), 1.0), [[math.tanh(2), 0.0, -math.tanh(1)]])


@given(models())
def test_fine_embed_by_definition_with_exact_zeros(model) -> None:
    fine, tau = model.fine, model.settings.threshold
    assert_by_definition(fine_embed, scalar.fine_embed, fine, tau)
    assert ((fine_embed(fine, tau) == 0) == (np.abs(fine) <= tau)).all()


@settings(max_examples=200)
@given(models(), rngs())
def test_pull_back_of_fine_embed(model, rng) -> None:
    fine, tau = model.fine, model.settings.threshold
    check_vjp(lambda table: fine_embed(table, tau), lambda grad: fine_embed_vjp(fine, tau, grad), [fine], rng)
    grad = draw_table(fine.shape, rng)
    pulled = fine_embed_vjp(fine, tau, grad)
    assert not pulled[np.abs(fine) <= tau].any()
    assert taylor_slope(lambda table: float((grad * fine_embed(table, tau)).sum()), [pulled], [fine], rng) >= 1.9


# bridge


def test_bridge_by_hand() -> None:
    """With w = 1/4, 3/4 of (4, 8) and 1/4 of 2 (6, 0) is (6, 6)."""
    mixed = bridge(read_only(sparse.csr_array([[2.0, 0.0]])), 0.25, np.array([[4.0, 8.0]]), np.array([[6.0, 0.0], [9.0, 9.0]]))
    assert mixed.tolist() == [[6, 6]]


@given(models(signed=True))
def test_bridge_by_definition(model) -> None:
    assert_by_definition(bridge, scalar.bridge, model.fine_assignment, model.settings.bridge_weight, model.coarse, model.fine)


@given(models())
def test_bridge_weights_of_zero_and_one(model) -> None:
    """0 gives the coarse rows, 1 the composed fine rows, bit for bit."""
    assert same_bits(bridge(model.fine_assignment, 0.0, model.coarse, model.fine), model.coarse)
    assert same_bits(bridge(model.fine_assignment, 1.0, model.coarse, model.fine), compose(model.fine_assignment, model.fine))


@settings(max_examples=200)
@given(models(signed=True), rngs())
def test_pull_back_of_bridge(model, rng) -> None:
    assignment, weight = model.fine_assignment, model.settings.bridge_weight
    check_vjp(
        lambda coarse, fine: bridge(assignment, weight, coarse, fine),
        lambda grad: bridge_vjp(assignment, weight, grad),
        [model.coarse, model.fine],
        rng,
    )


# start_coarse


def test_start_coarse_is_standard_normal_in_table_and_bias() -> None:
    """40,000 draws: the mean's deviation is 1/200, the variance's sqrt(2)/200; four of each are allowed, the generator is fixed."""
    coarse, bias = start_coarse(40_000, Settings(n_coarse=400, dim=100), rng=np.random.default_rng(5))
    assert coarse.shape == (400, 100)
    assert bias.shape == (40_000,)
    for values in (coarse, bias):
        assert abs(values.mean()) < 4 / 200
        assert abs(values.var() - 1) < 4 * math.sqrt(2) / 200
        assert 3.5 < np.abs(values).max() < 6


def test_starts_are_determined_by_the_generator() -> None:
    settings_ = Settings(n_coarse=6, n_fine=5, dim=7, sparse_pca_components=3)
    coarse = draw_table((6, 7), np.random.default_rng(0))
    for start in (lambda rng: start_coarse(9, settings_, rng=rng), lambda rng: (start_fine(coarse, settings_, rng=rng),)):
        runs = [start(np.random.default_rng(seed)) for seed in (1, 1, 2)]
        assert same_bits(runs[0], runs[1])
        assert not any(same_bits(a, b) for a, b in zip(runs[0], runs[2], strict=True))


# start_fine and its parts


def test_scatter_scores_by_hand() -> None:
    table = scatter_scores(read_only(np.array([[1.0, 2], [3, 4]])), read_only(np.array([[0, 2], [3, 1]])), 4)
    assert table.tolist() == [[1, 0, 2, 0], [0, 4, 0, 3]]


@given(rngs(), st.integers(1, 6), st.integers(1, 8))
def test_drawn_positions_are_distinct_and_rising_and_scattered_scores_come_back(rng, n_positions, dim) -> None:
    n_positions = min(n_positions, dim)
    positions = draw_positions(7, n_positions, dim, rng=rng)
    assert positions.shape == (7, n_positions)
    assert (np.diff(positions, axis=1) > 0).all()
    assert positions.min() >= 0
    assert positions.max() < dim
    scores = draw_table((7, n_positions), rng)
    table = scatter_scores(scores, positions, dim)
    assert table.shape == (7, dim)
    assert same_bits(np.take_along_axis(table, positions, axis=1), scores)
    assert np.count_nonzero(table) == scores.size


def test_positions_of_every_row_are_drawn_uniformly() -> None:
    """Two of four columns: six choices, 1000 rows each. Chi-square with 5 degrees of freedom exceeds 20.5 once in a thousand."""
    positions = draw_positions(6000, 2, 4, rng=np.random.default_rng(2))
    _, counts = np.unique(positions, axis=0, return_counts=True)
    assert counts.size == 6
    assert ((counts - 1000) ** 2 / 1000).sum() < 20.5


def test_positions_of_all_columns_are_the_columns_in_order() -> None:
    assert draw_positions(3, 4, 4, rng=np.random.default_rng(0)).tolist() == [[0, 1, 2, 3]] * 3


def test_positions_and_scatter_refuse_what_does_not_fit() -> None:
    with pytest.raises(SpecError, match="n_positions must be in \\[0, dim = 3\\], got 4"):
        draw_positions(2, 4, 3, rng=np.random.default_rng(0))
    with pytest.raises(SpecError, match="positions must have shape"):
        scatter_scores(np.ones((2, 3)), np.zeros((2, 2), dtype=np.int64), 4)
    for bad in (-1, 4):
        with pytest.raises(SpecError, match=r"positions must be in \[0, 4\)"):
            scatter_scores(np.ones((1, 1)), np.array([[bad]]), 4)


def test_sparse_pca_scores_of_one_column_are_the_centred_rows_up_to_shrinkage() -> None:
    """Rows 1, 2, 6 less their mean 3 are (-2, -1, 3), and the single component is +-1 or 0 wide: scores stand as -2 : -1 : 3."""
    scores = sparse_pca_scores(np.array([[1.0], [2.0], [6.0]]), 1, 0.01, random_state=0)[:, 0]
    assert scores[0] != 0
    assert_close(scores / scores[0], [1.0, 0.5, -1.5])


def test_sparse_pca_scores_are_determined_by_the_random_state_and_dense() -> None:
    rows = draw_table((9, 7), np.random.default_rng(3))
    scores = [sparse_pca_scores(rows, 4, 1.0, random_state=4) for _ in range(2)]
    assert scores[0].shape == (9, 4)
    assert scores[0].dtype == np.float64
    assert same_bits(*scores)
    assert np.count_nonzero(scores[0]) > scores[0].size / 2


def test_both_ways_to_sparse_pca_scores_solve_the_same_problem() -> None:
    """Rows along three directions of two columns each: whichever way, the scores explain the rows equally well."""
    rng = np.random.default_rng(5)
    directions = np.kron(np.eye(3), np.ones((1, 2)))
    rows = rng.standard_normal((40, 3)) @ directions * 3 + 0.1 * rng.standard_normal((40, 6))
    centred = rows - rows.mean(axis=0)
    left = []
    for method in ("lars", "cd"):
        scores = sparse_pca_scores(rows, 3, 1.0, random_state=0, method=method)
        left.append(np.linalg.norm(centred - scores @ np.linalg.lstsq(scores, centred, rcond=None)[0]) / np.linalg.norm(centred))
    assert max(left) < 0.05
    assert abs(left[0] - left[1]) < 1e-3


def test_sparse_pca_scores_by_coordinate_descent_warn_of_nothing() -> None:
    """With fewer different rows than components, single lasso problems are left unfinished; a warning would be an error here."""
    rng = np.random.default_rng(1)
    rows = 10 * rng.standard_normal((8, 12))[rng.integers(8, size=8)]
    assert np.isfinite(sparse_pca_scores(rows, 12, 1.0, random_state=0, method="cd")).all()


def test_another_way_to_sparse_pca_scores_is_an_error() -> None:
    with pytest.raises(SpecError, match='method must be "lars" or "cd", got \'svd\''):
        sparse_pca_scores(np.eye(3), 2, 1.0, random_state=0, method="svd")


@given(rngs(), st.integers(1, 6))
def test_a_fine_start_has_at_most_as_many_entries_a_row_as_components(rng, n_components) -> None:
    """8 coarse rows, 5 fine ones, dim 4: at most min(components, 4) entries a row are not 0; none, if the l1 weight wins."""
    settings_ = Settings(n_coarse=8, n_fine=5, dim=4, sparse_pca_components=n_components)
    fine = start_fine(draw_table((8, 4), rng), settings_, rng=rng)
    assert fine.shape == (5, 4)
    assert np.count_nonzero(fine, axis=1).max() <= min(n_components, 4)


def test_a_fine_start_is_made_of_drawn_rows_scores_and_positions_in_that_order() -> None:
    """The generator gives F row numbers, a random state, then positions: fed by hand, the parts give the same table."""
    settings_ = Settings(n_coarse=6, n_fine=5, dim=7, sparse_pca_components=3)
    coarse = draw_table((6, 7), np.random.default_rng(0))
    rng = np.random.default_rng(11)
    rows, state = rng.integers(6, size=5), int(rng.integers(2**32))
    scores = sparse_pca_scores(coarse[rows], 3, 1.0, random_state=state)
    by_hand = scatter_scores(scores, draw_positions(5, 3, 7, rng=rng), 7)
    assert np.count_nonzero(by_hand) > 0
    assert same_bits(start_fine(coarse, settings_, rng=np.random.default_rng(11)), by_hand)
    assert len(set(rows.tolist())) < 5  # with replacement: here one row came twice
