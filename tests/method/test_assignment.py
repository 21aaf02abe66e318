"""Assignments: top entries, starts, the pseudo-inverse and both refreshes."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.agreement import assert_close, chi_square
from support.scalar import rank
from support.strategies import array, csr, ints, read_only, rngs, tables, tied_tables

from c2f_ref import method
from c2f_ref.method import MethodError, Settings


@given(tied_tables(), st.data())
def test_top_columns_equal_a_full_sort_with_ties_to_the_lowest_column(values, data) -> None:
    k = data.draw(st.integers(0, values.shape[1]))
    expected = [rank(row, set(), k) for row in values.tolist()]
    assert method.top_columns(values, k).tolist() == expected


def test_top_columns_refuses_more_than_there_are_and_nan() -> None:
    for k in (-1, 4):
        message = rf"k must be in \[0, 3\], the number of columns, got {k}"
        with pytest.raises(MethodError, match=message):
            method.top_columns(np.ones((2, 3)), k)
    with pytest.raises(MethodError, match="must not be NaN, got one in row 1"):
        method.top_columns(array([1.0, 2.0], [3.0, np.nan]), 1)


def test_keep_top_by_hand() -> None:
    """By signed value: -1 beats -2, and an exact 0 that is kept is stored."""
    kept = method.keep_top(array([-3.0, -1, -2], [0.0, 5, -1], [2, 2, 2]), 2)
    assert kept.indices.tolist() == [1, 2, 0, 1, 0, 1]
    assert kept.data.tolist() == [-1, -2, 0, 5, 2, 2]


@given(tables(), st.data())
def test_keep_top_by_definition_with_exact_row_counts(values, data) -> None:
    """Kept entries are as they were, not renormalised (D5)."""
    k = data.draw(st.integers(0, values.shape[1]))
    kept, expected = method.keep_top(values, k), np.zeros(values.shape)
    for i, row in enumerate(values.tolist()):
        for j in rank(row, set(), k):
            expected[i, j] = row[j]
    assert np.array_equal(kept.toarray(), expected)
    assert np.diff(kept.indptr).tolist() == [k] * values.shape[0]
    assert kept.has_canonical_format


def test_softmax_by_hand_neither_overflows_nor_loses_an_underflow() -> None:
    """Equal entries share evenly; log 3 next to 0 weighs 3 : 1; a gap of 2000 gives an exact 0."""
    assert_close(method.softmax_rows(array([7, 7], [math.log(3), 0])), [[0.5, 0.5], [0.75, 0.25]])
    extreme = method.softmax_rows(array([1000, -1000], [-1e308, -1e308]))
    assert extreme.tolist() == [[1, 0], [0.5, 0.5]]


# Starts


def start(labels: np.ndarray, settings: Settings, seed: int = 0):
    return method.start_coarse_assignment(labels, settings, rng=np.random.default_rng(seed))


def test_start_coarse_assignment_by_hand() -> None:
    """With two parts there is no choice: w* = 0.6 on the label, 0.4 on the other part."""
    settings = Settings(n_coarse=2, coarse_per_entity=2, anchor_weight=0.6)
    assert start(ints(0, 1, 1), settings).toarray().tolist() == [[0.6, 0.4], [0.4, 0.6], [0.4, 0.6]]
    settings = Settings(n_coarse=3, coarse_per_entity=1)
    assert start(ints(2, 0), settings).toarray().tolist() == [[0, 0, 1], [1, 0, 0]]


@given(rngs(), st.integers(2, 6), st.integers(2, 9), st.floats(0, 1))
def test_start_rows_have_the_anchor_on_the_own_part_and_equal_shares_on_others(
    rng, per_entity, n_coarse, anchor
) -> None:
    """The anchor weight is a setting (D4)."""
    per_entity = min(per_entity, n_coarse)
    settings = Settings(n_coarse=n_coarse, coarse_per_entity=per_entity, anchor_weight=anchor)
    labels = read_only(rng.integers(n_coarse, size=11))
    drawn = method.start_coarse_assignment(labels, settings, rng=rng)
    assert drawn.has_canonical_format
    assert np.diff(drawn.indptr).tolist() == [per_entity] * 11
    columns, weights = (part.reshape(11, -1) for part in (drawn.indices, drawn.data))
    for label, row, weight in zip(labels, columns, weights, strict=True):
        assert weight[row == label].tolist() == [anchor]
        shares = [(1 - anchor) / (per_entity - 1)] * (per_entity - 1)
        assert weight[row != label].tolist() == shares


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


def test_starts_refuse_labels_out_of_range_and_sizes_that_do_not_fit() -> None:
    ones, calls = csr([[1, 1]] * 3), []
    for label in (-1, 3):
        calls.append((start, (ints(label), Settings(n_coarse=3)), r"labels must be in \[0, 3\)"))
        calls.append((method.part_affinity, (ints(label), 3), r"labels must be in \[0, 3\)"))
    for shape, k, message in [((4, 2), 1, "affinity must have shape"), ((3, 2), 3, "k must be in")]:
        calls.append((method.start_fine_assignment, (ones, np.ones(shape), k), message))
    for function, arguments, message in calls:
        with pytest.raises(MethodError, match=message):
            function(*arguments)


# pseudo_inverse


def test_pseudo_inverse_by_hand() -> None:
    """A diagonal is inverted entry by entry; the row (3, 4) has the inverse (3, 4) / 25."""
    inverse = method.pseudo_inverse(array([2.0, 0, 0], [0, 4, 0]), None)
    assert_close(inverse, [[0.5, 0], [0, 0.25], [0, 0]])
    assert_close(method.pseudo_inverse(array([3.0, 4.0]), None), [[0.12], [0.16]])


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
    """Singular values 4, 2, 1: a cut of 1/2 is 2 itself, which is dropped; just under keeps it."""
    table = read_only(np.diag([4.0, 2.0, 1.0]))
    kept = {0.5: [0.25, 0, 0], 0.499: [0.25, 0.5, 0], 0.0: [0.25, 0.5, 1.0], 1.0: [0, 0, 0]}
    for rtol, diagonal in kept.items():
        assert_close(method.pseudo_inverse(table, rtol), np.diag(diagonal), least=1.0)


# Refreshes


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


def test_the_cut_of_the_pseudo_inverse_reaches_both_refreshes() -> None:
    """Singular values 1 and 0.1: a cut of 0.5 drops the second, and all that came through it."""
    entities, coarse, share = array([1.0, 1.0]), np.diag([1.0, 0.1]), math.e / (1 + math.e)
    assert_close(method.refresh_coarse(entities, coarse, 2), [[1.0, 10.0]])
    assert_close(method.refresh_coarse(entities, coarse, 2, 0.5), [[1.0, 0.0]])
    assert method.refresh_fine(entities, coarse, coarse, 2).toarray()[0, 1] > 0.99
    refreshed = method.refresh_fine(entities, coarse, coarse, 2, 0.5)
    assert_close(refreshed, [[share, 1 - share], [0.5, 0.5]])
