"""Assignments: top entries, starts, the pseudo-inverse and both refreshes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from support import scalar
from support.agreement import assert_by_definition, assert_close, same_bits
from support.strategies import draw_assignment, draw_table, models, read_only, rngs, tables, tied_tables

from c2f_ref.spec import (
    Settings,
    SpecError,
    keep_top,
    part_affinity,
    pseudo_inverse,
    refresh_coarse,
    refresh_fine,
    softmax_rows,
    start_coarse_assignment,
    start_fine_assignment,
    top_columns,
)

EPS = 2.0**-52


# top_columns, keep_top


def test_top_columns_by_hand() -> None:
    """Largest first; the two 3s in column order; -0 and 0 are one value; -inf comes last."""
    values = read_only(np.array([[1.0, 3, 2, 3], [0, -0.0, 0, -1], [-np.inf, -5, -np.inf, -7]]))
    assert top_columns(values, 3).tolist() == [[1, 3, 2], [0, 1, 2], [1, 3, 0]]


@given(tied_tables(), st.data())
def test_top_columns_equal_a_full_sort_with_ties_to_the_lowest_column(values, data) -> None:
    k = data.draw(st.integers(0, values.shape[1]))
    assert_by_definition(top_columns, scalar.top_columns, values, k)


@given(tied_tables())
def test_fewer_top_columns_are_the_beginning_of_more(values) -> None:
    n_columns = values.shape[1]
    for k in range(n_columns + 1):
        assert np.array_equal(top_columns(values, k), top_columns(values, n_columns)[:, :k])


def test_top_columns_refuses_more_than_there_are_and_nan() -> None:
    for k in (-1, 4):
        with pytest.raises(SpecError, match=rf"k must be in \[0, 3\], the number of columns, got {k}"):
            top_columns(np.ones((2, 3)), k)
    with pytest.raises(SpecError, match="must not be NaN, got one in row 1"):
        top_columns(np.array([[1.0, 2.0], [3.0, np.nan]]), 1)


def test_keep_top_by_hand() -> None:
    """By signed value: -1 beats -2, and an exact 0 that is kept is stored."""
    kept = keep_top(read_only(np.array([[-3.0, -1, -2], [0.0, 5, -1], [2, 2, 2]])), 2)
    assert kept.toarray().tolist() == [[0, -1, -2], [0, 5, 0], [2, 2, 0]]
    assert kept.indices.tolist() == [1, 2, 0, 1, 0, 1]
    assert kept.data.tolist() == [-1, -2, 0, 5, 2, 2]


@given(tables(), st.data())
def test_keep_top_by_definition_with_exact_row_counts(values, data) -> None:
    k = data.draw(st.integers(0, values.shape[1]))
    kept = keep_top(values, k)
    assert np.array_equal(kept.toarray(), scalar.keep_top(values, k))
    assert np.diff(kept.indptr).tolist() == [k] * values.shape[0]
    assert kept.has_canonical_format


@given(tables())
def test_keep_top_of_all_columns_is_the_table(values) -> None:
    assert np.array_equal(keep_top(values, values.shape[1]).toarray(), values)


# softmax_rows


def test_softmax_by_hand() -> None:
    """Equal entries share evenly; log 3 beside 0 weighs 3 : 1."""
    assert_close(softmax_rows(np.array([[7.0, 7.0], [math.log(3), 0.0]])), [[0.5, 0.5], [0.75, 0.25]])


@given(tables())
def test_softmax_by_definition(values) -> None:
    assert_by_definition(softmax_rows, scalar.softmax_rows, values)


@given(tables())
def test_softmax_rows_sum_to_one_and_ignore_a_common_shift(values) -> None:
    assert_close(softmax_rows(values).sum(axis=1), np.ones(len(values)))
    assert_close(softmax_rows(values + 3.0), softmax_rows(values))


def test_softmax_neither_overflows_nor_loses_an_underflow() -> None:
    """A difference of 2000 underflows to an exact 0."""
    assert softmax_rows(np.array([[1000.0, -1000.0], [-1e308, -1e308]])).tolist() == [[1, 0], [0.5, 0.5]]


# start_coarse_assignment, part_affinity, start_fine_assignment


def test_start_coarse_assignment_by_hand() -> None:
    """With two parts and two entries a row there is no choice: w* = 0.6 on the own part, 0.4 on the other."""
    settings = Settings(n_coarse=2, coarse_per_entity=2, anchor_weight=0.6)
    start = start_coarse_assignment(read_only(np.array([0, 1, 1])), settings, rng=np.random.default_rng(0))
    assert start.toarray().tolist() == [[0.6, 0.4], [0.4, 0.6], [0.4, 0.6]]


@given(rngs(), st.integers(2, 6), st.integers(2, 9), st.floats(0, 1))
def test_start_rows_have_the_anchor_on_the_own_part_and_equal_shares_on_others(rng, per_entity, n_coarse, anchor) -> None:
    per_entity = min(per_entity, n_coarse)
    settings = Settings(n_coarse=n_coarse, coarse_per_entity=per_entity, anchor_weight=anchor)
    labels = read_only(rng.integers(n_coarse, size=11))
    start = start_coarse_assignment(labels, settings, rng=rng)
    assert np.diff(start.indptr).tolist() == [per_entity] * 11
    assert start.has_canonical_format
    for row, label in enumerate(labels):
        columns = start.indices[start.indptr[row] : start.indptr[row + 1]]
        weights = start.data[start.indptr[row] : start.indptr[row + 1]]
        assert weights[columns == label].tolist() == [anchor]
        assert weights[columns != label].tolist() == [(1 - anchor) / (per_entity - 1)] * (per_entity - 1)


def test_one_entry_a_row_has_the_weight_one() -> None:
    settings = Settings(n_coarse=3, coarse_per_entity=1)
    start = start_coarse_assignment(np.array([2, 0]), settings, rng=np.random.default_rng(0))
    assert start.toarray().tolist() == [[0, 0, 1], [1, 0, 0]]


def test_other_parts_of_the_start_are_drawn_uniformly() -> None:
    """6000 entities of part 1 among 5 draw two of {0, 2, 3, 4}: six pairs, 1000 each.

    Chi-square with 5 degrees of freedom exceeds 20.5 once in a thousand; the generator is fixed.
    """
    settings = Settings(n_coarse=5, coarse_per_entity=3)
    start = start_coarse_assignment(np.ones(6000, dtype=np.int64), settings, rng=np.random.default_rng(3))
    others = start.indices.reshape(6000, 3)
    pairs = np.array([[a, b] for a, b in (row[row != 1] for row in others)])
    _, counts = np.unique(pairs, axis=0, return_counts=True)
    assert counts.size == 6
    assert ((counts - 1000) ** 2 / 1000).sum() < 20.5


def test_start_coarse_assignment_is_determined_by_the_generator() -> None:
    settings, labels = Settings(n_coarse=7), np.arange(20) % 7
    starts = [start_coarse_assignment(labels, settings, rng=np.random.default_rng(seed)) for seed in (1, 1, 2)]
    assert same_bits(starts[0], starts[1])
    assert not same_bits(starts[0], starts[2])


def test_start_coarse_assignment_refuses_a_label_out_of_range() -> None:
    for label in (-1, 3):
        with pytest.raises(SpecError, match=r"labels must be in \[0, 3\)"):
            start_coarse_assignment(np.array([label]), Settings(n_coarse=3), rng=np.random.default_rng(0))


def test_part_affinity_by_hand() -> None:
    """0.5 on the own part, 0.5 / 2 on the two others; a single part has the weight 1."""
    assert part_affinity(np.array([2, 0]), 3).tolist() == [[0.25, 0.25, 0.5], [0.5, 0.25, 0.25]]
    assert part_affinity(np.array([0, 0]), 1).tolist() == [[1], [1]]


@given(rngs(), st.integers(2, 8))
def test_part_affinity_by_definition_with_rows_that_sum_to_one(rng, n_parts) -> None:
    labels = read_only(rng.integers(n_parts, size=9))
    assert_by_definition(part_affinity, scalar.part_affinity, labels, n_parts)
    assert_close(part_affinity(labels, n_parts).sum(axis=1), np.ones(9))


def test_part_affinity_refuses_a_label_out_of_range() -> None:
    with pytest.raises(SpecError, match=r"labels must be in \[0, 3\)"):
        part_affinity(np.array([3]), 3)


def test_start_fine_assignment_by_hand() -> None:
    """Coarse row 0 has one entity, of part 1: its row of S_c^T P is (0.25, 0.5), shares 1 : exp(0.25), the latter kept."""
    assignment = read_only(sparse.csr_array([[1.0, 0.0], [0.0, 1.0]]))
    affinity = read_only(np.array([[0.25, 0.5], [0.5, 0.25]]))
    share = math.exp(0.25) / (1 + math.exp(0.25))
    assert_close(start_fine_assignment(assignment, affinity, 1), [[0.0, share], [share, 0.0]])


@given(models(), rngs())
def test_start_fine_assignment_by_definition_with_exact_row_counts(model, rng) -> None:
    affinity = read_only(rng.random((model.n_entities, model.settings.n_fine)))
    k = model.settings.fine_per_coarse
    assert_by_definition(start_fine_assignment, scalar.start_fine_assignment, model.coarse_assignment, affinity, k)
    assert np.diff(start_fine_assignment(model.coarse_assignment, affinity, k).indptr).tolist() == [k] * model.settings.n_coarse


def test_start_fine_assignment_refuses_sizes_that_do_not_fit() -> None:
    with pytest.raises(SpecError, match="affinity must have shape"):
        start_fine_assignment(sparse.csr_array(np.ones((3, 2))), np.ones((4, 2)), 1)
    with pytest.raises(SpecError, match="k must be in"):
        start_fine_assignment(sparse.csr_array(np.ones((3, 2))), np.ones((3, 2)), 3)


# pseudo_inverse


def test_pseudo_inverse_by_hand() -> None:
    """A diagonal table is inverted entry by entry, its zero column stays; the row (3, 4) has the inverse (3, 4) / 25."""
    assert_close(pseudo_inverse(read_only(np.array([[2.0, 0, 0], [0, 4, 0]])), None), [[0.5, 0], [0, 0.25], [0, 0]])
    assert_close(pseudo_inverse(read_only(np.array([[3.0, 4.0]])), None), [[0.12], [0.16]])


@given(tables())
def test_pseudo_inverse_satisfies_the_four_penrose_conditions(table) -> None:
    """A X A = A, X A X = X, A X and X A symmetric; the condition number multiplies the rounding."""
    inverse = pseudo_inverse(table, None)
    singular = np.linalg.svd(table, compute_uv=False)
    bound = 1e-13 * (singular[0] / singular[-1]) ** 2
    assert_close(table @ inverse @ table, table, bound)
    assert_close(inverse @ table @ inverse, inverse, bound)
    assert_close(table @ inverse, (table @ inverse).T, bound)
    assert_close(inverse @ table, (inverse @ table).T, bound)


@pytest.mark.parametrize("shape", [(3, 7), (7, 3)])
def test_the_default_cut_is_the_larger_side_times_eps(shape) -> None:
    """With singular values 1, s and s just above 7 eps both are kept; just below only the first."""
    for factor, rank in [(1.25, 2), (0.75, 1)]:
        table = np.zeros(shape)
        table[0, 0], table[1, 1] = 1.0, factor * 7 * EPS
        assert (
            np.linalg.matrix_rank(pseudo_inverse(table, None) * np.array([1.0, table[1, 1]] + [0] * (shape[0] - 2)), tol=0.5)
            == rank
        )


def test_singular_values_at_or_below_a_chosen_cut_are_dropped_and_above_it_kept() -> None:
    """Singular values 4, 2, 1: a cut of 1/2 is 2 itself, which is dropped; just under 1/2 keeps it."""
    table = read_only(np.diag([4.0, 2.0, 1.0]))
    assert_close(pseudo_inverse(table, 0.5), np.diag([0.25, 0, 0]))
    assert_close(pseudo_inverse(table, 0.499), np.diag([0.25, 0.5, 0]))
    assert_close(pseudo_inverse(table, 0.0), np.diag([0.25, 0.5, 1.0]))
    assert_close(pseudo_inverse(table, 1.0), np.zeros((3, 3)))


def test_the_default_cut_follows_the_type_of_the_table() -> None:
    """Float32 has eps 2^-23 = 1.2e-7: a share of 1e-7 counts as 0 there and not in float64."""
    table = np.diag([1.0, 1e-7])
    assert pseudo_inverse(table, None)[1, 1] == pytest.approx(1e7)
    assert pseudo_inverse(table.astype(np.float32), None)[1, 1] == 0.0


def test_a_table_of_zeros_has_an_inverse_of_zeros() -> None:
    assert np.array_equal(pseudo_inverse(np.zeros((3, 2)), None), np.zeros((2, 3)))


# refresh_coarse, refresh_fine


def test_refresh_coarse_by_hand() -> None:
    """Pinv of diag(2, 4, 1) halves, quarters and keeps: (2, -4, 3) becomes (1, -1, 3), of which 1 and 3 stay as they are."""
    refreshed = refresh_coarse(read_only(np.array([[2.0, -4.0, 3.0]])), read_only(np.diag([2.0, 4.0, 1.0])), 2)
    assert_close(refreshed, [[1.0, 0.0, 3.0]])


def test_refresh_coarse_can_keep_negative_entries() -> None:
    """D11."""
    assert_close(refresh_coarse(np.array([[-1.0, -2.0]]), np.eye(2), 2), [[-1.0, -2.0]])


def test_refresh_fine_by_hand() -> None:
    """With identity tables each use is H_e itself; H_e^T H_e = diag(log 3, 0) has softmax rows (3/4, 1/4), (1/2, 1/2)."""
    entities = read_only(np.array([[math.sqrt(math.log(3)), 0.0]]))
    refreshed = refresh_fine(entities, np.eye(2), np.eye(2), 1)
    assert_close(refreshed, [[0.75, 0], [0.5, 0]])


@given(models(), rngs())
def test_refreshes_by_definition_with_exact_row_counts(model, rng) -> None:
    """By the normal equations, not a singular value decomposition: pinv(H) = H^T (H H^T)^-1, for wide tables of full rank.

    Tables have orthogonal rows of different lengths, so that H H^T is diagonal and easy to divide by.
    """
    n_coarse, n_fine = model.settings.n_coarse, model.settings.n_fine
    dim = max(n_coarse, n_fine) + 1
    entities = draw_table((model.n_entities, dim), rng)
    use, propagated = [], []
    for n_rows in (n_coarse, n_fine):
        lengths = rng.uniform(0.5, 2.0, n_rows)
        directions = np.linalg.qr(rng.normal(size=(dim, dim)))[0][:n_rows]
        propagated.append(read_only(lengths[:, None] * directions))
        use.append(scalar.product(entities, directions.T / lengths))
    k = model.settings.coarse_per_entity
    coarse_refreshed = refresh_coarse(entities, propagated[0], k)
    assert_close(coarse_refreshed, scalar.keep_top(use[0], k), 1e-11)
    assert np.diff(coarse_refreshed.indptr).tolist() == [k] * model.n_entities
    k = model.settings.fine_per_coarse
    fine_refreshed = refresh_fine(entities, propagated[0], propagated[1], k)
    expected = scalar.keep_top(scalar.softmax_rows(scalar.product(use[0].T, use[1])), k)
    assert_close(fine_refreshed, expected, 1e-11)
    assert np.diff(fine_refreshed.indptr).tolist() == [k] * n_coarse


@given(models(), rngs())
def test_row_counts_are_exact_after_every_refresh(model, rng) -> None:
    """Also for tables of deficient rank, all zeros and identical entities."""
    entities = draw_table((model.n_entities, model.settings.dim), rng)
    same = read_only(np.tile(entities[:1], (model.n_entities, 1)))
    for coarse in (model.coarse, np.zeros_like(model.coarse), np.ones_like(model.coarse)):
        for these in (entities, same, np.zeros_like(entities)):
            refreshed = refresh_coarse(these, coarse, model.settings.coarse_per_entity)
            assert np.diff(refreshed.indptr).tolist() == [model.settings.coarse_per_entity] * model.n_entities
            assert refreshed.shape == (model.n_entities, model.settings.n_coarse)
            refreshed = refresh_fine(these, coarse, model.fine, model.settings.fine_per_coarse)
            assert np.diff(refreshed.indptr).tolist() == [model.settings.fine_per_coarse] * model.settings.n_coarse
            assert refreshed.shape == (model.settings.n_coarse, model.settings.n_fine)


@given(models(), rngs())
def test_relabelling_entities_relabels_the_coarse_refresh_and_leaves_the_fine_one(model, rng) -> None:
    entities = draw_table((model.n_entities, model.settings.dim), rng)
    order = rng.permutation(model.n_entities)
    k = model.settings.coarse_per_entity
    assert_close(
        refresh_coarse(entities[order], model.coarse, k).toarray(), refresh_coarse(entities, model.coarse, k).toarray()[order]
    )
    all_columns = model.settings.n_fine  # so that rounding cannot choose between near ties
    again = refresh_fine(entities[order], model.coarse, model.fine, all_columns)
    # Exponents are sums over entities: their rounding, multiplied by the condition numbers, is what the softmax passes on.
    use = [np.abs(entities @ pseudo_inverse(table, None)) for table in (model.coarse, model.fine)]
    bound = 1e-13 * max(1.0, (use[0].T @ use[1]).max()) * np.linalg.cond(model.coarse) * np.linalg.cond(model.fine)
    assert_close(again, refresh_fine(entities, model.coarse, model.fine, all_columns), bound)


def test_a_refresh_from_zeros_stores_zeros() -> None:
    refreshed = refresh_coarse(np.ones((3, 2)), np.zeros((4, 2)), 2)
    assert refreshed.nnz == 6
    assert refreshed.indices.tolist() == [0, 1] * 3
    assert not refreshed.data.any()


def test_the_cut_of_the_pseudo_inverse_reaches_both_refreshes() -> None:
    """Singular values 1 and 0.1: a cut of 0.5 drops the second, and everything that came through it."""
    entities, coarse = np.array([[1.0, 1.0]]), np.diag([1.0, 0.1])
    assert_close(refresh_coarse(entities, coarse, 2), [[1.0, 10.0]])
    assert_close(refresh_coarse(entities, coarse, 2, 0.5), [[1.0, 0.0]])
    assert refresh_fine(entities, coarse, np.eye(2), 2).toarray()[1].tolist() == [0.5, 0.5]
    narrow, cut = (
        refresh_fine(entities, coarse, np.diag([1.0, 0.1]), 2),
        refresh_fine(entities, coarse, np.diag([1.0, 0.1]), 2, 0.5),
    )
    assert narrow.toarray()[0, 1] > 0.99
    share = math.e / (1 + math.e)
    assert_close(cut, [[share, 1 - share], [0.5, 0.5]])


def test_a_refresh_refuses_more_entries_than_columns() -> None:
    with pytest.raises(SpecError, match="k must be in"):
        refresh_coarse(np.ones((3, 2)), np.ones((4, 2)), 5)
    with pytest.raises(SpecError, match="k must be in"):
        refresh_fine(np.ones((3, 2)), np.ones((4, 2)), np.ones((5, 2)), 6)


@given(rngs())
def test_an_assignment_that_explains_the_entities_comes_back(rng) -> None:
    """H_e = S H_c with H_c of full row rank and S non-negative: keep_top(S H_c pinv(H_c), t) is S again."""
    assignment, coarse = draw_assignment(9, 4, 2, rng), draw_table((4, 6), rng)
    bound = 1e-13 * np.linalg.cond(coarse) ** 2
    refreshed = refresh_coarse(assignment @ coarse, coarse, 2).toarray()
    assert np.abs(refreshed - assignment.toarray()).max() <= max(bound, 1e-12)
