"""The comparators of recorded arrays: what they let pass, and above all what they do not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from c2f_ref import spec
from c2f_ref.conformance import Case
from c2f_ref.conformance.comparators import judge
from c2f_ref.conformance.official import tied_at_cut

EXPECTED = np.array([[4.0, -0.5, 0.0], [1e-7, 2.0, -4.0]])


def _case(expected: Any = EXPECTED, comparator: str = "recorded", **allowed: Any) -> Case:
    return Case("some_operation", "some.npz", "float64", comparator, {}, {"some.key": expected}, allowed)


ITERATED = _case(comparator="iterated")


def test_the_known_answer_passes_dense_and_sparse() -> None:
    for got in (EXPECTED, EXPECTED.tolist(), sparse.csr_array(EXPECTED), sparse.coo_array(EXPECTED)):
        assert judge(_case(), [got]) == (0.0, None)


@pytest.mark.parametrize("index", list(np.ndindex(EXPECTED.shape)))
def test_an_error_is_told_as_a_share_of_the_tolerance_which_is_1e_10_of_the_largest(index: tuple[int, int]) -> None:
    """The largest is 4, so 4e-10 is allowed: 3e-10 is a share of 0.75, 6e-10 one of 1.5, at a small entry as at a large."""
    inside, outside = EXPECTED.copy(), EXPECTED.copy()
    inside[index] += 3e-10
    outside[index] -= 6e-10
    worst, failure = judge(_case(), [inside])
    assert worst == pytest.approx(0.75, rel=1e-5)
    assert failure is None
    worst, failure = judge(_case(), [outside])
    assert worst == pytest.approx(1.5, rel=1e-5)
    assert failure is not None
    assert failure.index == index
    assert (failure.expected, failure.got) == (EXPECTED[index], outside[index])
    assert failure.allowed == pytest.approx(4e-10)
    assert str(failure).startswith(f"some.npz, float64: some.key[{index[0]}, {index[1]}]: expected ")


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_never_right(wrong: float) -> None:
    got = EXPECTED.copy()
    got[1, 1] = wrong
    for case in (_case(), ITERATED):
        worst, failure = judge(case, [got])
        assert worst == np.inf
        assert failure is not None
        assert failure.index == (1, 1)


def test_where_zeros_are_expected_only_zeros_are_right() -> None:
    zeros = _case(np.zeros(3))
    assert judge(zeros, [np.zeros(3)]) == (0.0, None)
    assert judge(zeros, [np.array([0.0, 1e-300, 0.0])])[0] == np.inf


def test_single_precision_is_not_enough() -> None:
    """1.1 rounded to float32 is 2e-8 off, and 1.1e-10 is allowed."""
    assert judge(_case(np.array([1.1])), [np.array([1.1], dtype=np.float32)])[1] is not None


def test_a_mean_is_compared_where_one_is_recorded() -> None:
    case = _case(np.full(4, 0.25), "mean")
    assert judge(case, [np.array([1.0, 0.0, 0.0, 0.0])]) == (0.0, None)
    assert judge(case, [np.array([1.0, 0.0, 0.0, 1e-9])])[1] is not None
    assert judge(case, [np.array([1.0, 0.0, 0.0])])[1] is not None
    assert judge(_case(np.full(4, 0.25)), [np.array([1.0, 0.0, 0.0, 0.0])])[1] is not None


def test_a_result_that_is_not_recorded_is_not_compared() -> None:
    case = replace(_case(), expected={"some.key": EXPECTED, "other": None})
    assert judge(case, [EXPECTED, "anything"]) == (0.0, None)
    assert judge(case, [EXPECTED])[1] is not None


@pytest.mark.parametrize(
    ("got", "message"),
    [
        (EXPECTED.T, "expected shape (2, 3), got (3, 2)"),
        (EXPECTED[0], "expected shape (2, 3), got (3,)"),
        (4.0, "expected shape (2, 3), got ()"),
        (None, "expected dtype float32 or float64, got object"),
        ([[1.0], [2.0, 3.0]], "expected numbers, got list"),
        (EXPECTED.astype(str), "expected dtype float32 or float64, got <U32"),
        (EXPECTED + 0j, "expected dtype float32 or float64, got complex128"),
    ],
)
def test_another_shape_or_no_numbers_at_all_fail_in_words(got: Any, message: str) -> None:
    worst, failure = judge(_case(), [got])
    assert worst == np.inf
    assert failure is not None
    assert failure.index is None
    assert failure.reason.startswith(f"some.key: {message}")


def test_an_iteration_is_allowed_1e_6_of_the_largest_and_a_small_entry_1e_3_of_itself() -> None:
    """Largest 4. At 4.0: min(4e-6, 4e-3) = 4e-6. At 1e-7: min(4e-6, 1e-10 + 4e-10) = 5e-10, so 1 % (1e-9) is too much."""
    for index, tolerance in (((0, 0), 4e-6), ((1, 0), 5e-10)):
        got = EXPECTED.copy()
        got[index] += 0.9 * tolerance
        assert judge(ITERATED, [got])[1] is None
        got[index] += 0.2 * tolerance
        assert judge(ITERATED, [got])[1] is not None
    got = EXPECTED.copy()
    got[1, 0] *= 1.01
    assert judge(ITERATED, [got])[1] is not None


# Row 0: of three candidates for two places, columns 1 and 3 tie at the cut. Row 1 has no tie.
CANDIDATES = np.array([[0.9, 0.5, 0.1, 0.5 + 1e-14], [0.2, 0.8, 0.7, 0.3]])


def _top(*columns: tuple[int, int]) -> np.ndarray:
    kept = np.zeros(CANDIDATES.shape)
    for row, pair in enumerate(columns):
        kept[row, list(pair)] = CANDIDATES[row, list(pair)]
    return kept


def _tied_case(expected: np.ndarray) -> Case:
    return _case(expected, tied=tied_at_cut(CANDIDATES, 2))


def test_tied_candidates_are_those_within_rounding_of_the_last_that_is_kept() -> None:
    assert tied_at_cut(CANDIDATES, 2).tolist() == [[False, True, False, True], [False, False, True, False]]
    assert tied_at_cut(CANDIDATES, 4).tolist() == [[False, False, True, False], [True, False, False, False]]


def test_of_tied_candidates_any_may_be_kept() -> None:
    expected = _top((0, 3), (1, 2))
    before = expected.copy()
    assert judge(_tied_case(expected), [_top((0, 1), (1, 2))])[1] is None
    assert judge(_case(expected), [_top((0, 1), (1, 2))])[1] is not None
    assert np.array_equal(expected, before)


def test_a_tie_excuses_no_other_difference() -> None:
    """Each of the six: both of the tied, none of them, the untied moved, the untied row wrong, a wrong weight, two weights."""
    expected = _top((0, 3), (1, 2))
    both, none, moved = expected.copy(), expected.copy(), expected.copy()
    both[0, 1] = 0.5
    none[0, 3] = 0.0
    moved[0, [0, 2]] = 0.0, 0.9
    for got in (both, none, moved, _top((0, 3), (1, 3)), _top((0, 1), (1, 2)) * 1.01, _top((0, 1), (1, 2))[:, ::-1]):
        assert judge(_tied_case(expected), [got])[1] is not None


@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.sampled_from([1.01, 0.99]))
def test_a_changed_weight_is_seen_in_any_pattern_of_ties(seed: int, k: int, factor: float) -> None:
    """Candidates of a few values tie a lot; whichever of the kept entries above 1e-7 of the largest changes must be seen."""
    rng = np.random.default_rng(seed)
    candidates = rng.choice([1.0, 0.3, 1e-3, 2e-7, 0.0], size=(3, 5))
    candidates[0, 0] = 1.0
    kept = spec.keep_top(candidates, k).toarray()
    case = _case(kept, tied=tied_at_cut(candidates, k))
    assert judge(case, [kept]) == (0.0, None)
    for row, column in np.argwhere(kept > 1e-7 * kept.max()):
        changed = kept.copy()
        changed[row, column] *= factor
        assert judge(replace(case, expected={"some.key": changed}), [kept])[1] is not None
