"""The comparators: what they let pass, and above all what they do not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from support.strategies import rngs

from c2f_ref.conformance import Case
from c2f_ref.conformance.comparators import judge

EPS = 2.0**-52
EXPECTED = np.array([[4.0, -0.5, 0.0], [1.5, 2.0, -4.0]])
ALLOWED = np.array([[8.0, 2.0, 0.0], [2.0, 4.0, 8.0]], dtype=np.float32)


def bounded(dtype: str = "float64") -> Case:
    return Case("some", "case", dtype, "bounded", {}, {"result": EXPECTED}, {"result": ALLOWED})


def exact(expected: Any) -> Case:
    return Case("some", "case", "float64", "exact", {}, {"result": expected}, {})


def test_a_right_result_passes_dense_sparse_or_as_a_list() -> None:
    for got in (
        EXPECTED,
        EXPECTED.tolist(),
        sparse.csr_array(EXPECTED),
        sparse.coo_array(EXPECTED),
        EXPECTED.astype(np.longdouble),
    ):
        assert judge(bounded(), [got]) == (0.0, None)


@pytest.mark.parametrize("index", list(np.ndindex(EXPECTED.shape)))
def test_an_entry_may_be_off_by_what_it_is_allowed_and_no_more(index: tuple[int, int]) -> None:
    inside, outside = EXPECTED.copy(), EXPECTED.copy()
    inside[index] += 0.75 * EPS * ALLOWED[index]
    outside[index] -= max(2 * EPS * float(ALLOWED[index]), 1e-300)
    assert judge(bounded(), [inside])[1] is None
    worst, failure = judge(bounded(), [outside])
    assert worst > 1
    assert failure is not None
    assert (failure.index, failure.key, failure.case) == (index, "result", "case, float64")
    assert (failure.expected, failure.got) == (EXPECTED[index], outside[index])
    assert failure.allowed == pytest.approx(EPS * ALLOWED[index])
    assert str(failure).startswith(f"case, float64: result[{index[0]}, {index[1]}]: expected ")


def test_the_coarser_of_two_precisions_decides() -> None:
    """4 + 2^-20 is 2^29 spacings of double, and half a spacing of single at 4."""
    off = EXPECTED.copy()
    off[0, 0] += 2.0**-20
    assert judge(bounded("float32"), [off])[1] is None
    assert judge(bounded(), [off.astype(np.float32)])[1] is None
    assert judge(bounded(), [off])[1] is not None


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_never_right(wrong: float) -> None:
    got = EXPECTED.copy()
    got[1, 1] = wrong
    worst, failure = judge(bounded(), [got])
    assert worst == np.inf
    assert failure is not None
    assert failure.index == (1, 1)
    assert judge(exact(EXPECTED), [got])[0] == np.inf


@pytest.mark.parametrize(
    ("got", "words"),
    [
        (EXPECTED.T, "result: expected shape (2, 3), got (3, 2)"),
        (EXPECTED[0], "result: expected shape (2, 3), got (3,)"),
        (4.0, "result: expected shape (2, 3), got ()"),
        (None, "result: expected dtype float32 or float64, got object"),
        ([[1.0], [2.0, 3.0]], "result: expected numbers, got list: "),
        (EXPECTED.astype(str), "result: expected dtype float32 or float64, got <U32"),
        (EXPECTED + 0j, "result: expected dtype float32 or float64, got complex128"),
        (EXPECTED.astype(np.float16), "result: expected dtype float32 or float64, got float16"),
        (EXPECTED > 0, "result: expected dtype float32 or float64, got bool"),
    ],
)
def test_another_form_fails_in_words(got: Any, words: str) -> None:
    worst, failure = judge(bounded(), [got])
    assert worst == np.inf
    assert failure is not None
    assert str(failure).startswith(f"case, float64: {words}")


def test_a_type_that_will_not_give_its_numbers_fails_in_words() -> None:
    class Guarded:
        def __array__(self, *_: Any, **__: Any) -> Any:
            raise RuntimeError("call detach() first")

    assert str(judge(bounded(), [Guarded()])[1]) == "case, float64: result: expected numbers, got Guarded: call detach() first"


def test_another_number_of_results_fails_in_words() -> None:
    assert str(judge(bounded(), [EXPECTED, EXPECTED])[1]) == "case, float64: expected 1 results (result), got 2"


def test_integers_must_be_integers_and_equal() -> None:
    case = exact(np.array([3, 1, 2]))
    assert judge(case, [np.array([3, 1, 2], dtype=np.uint8)])[1] is None
    assert judge(case, [np.array([3, 1, 4])])[1] is not None
    assert "expected dtype int, got float64" in str(judge(case, [np.array([3.0, 1.0, 2.0])])[1])


def test_a_large_sparse_result_is_compared_without_its_zeros() -> None:
    places = (np.array([1.0, 2.0]), (np.array([3, 69_999]), np.array([50_000, 7])))
    expected = sparse.csr_array(places, shape=(70_000, 70_000))
    assert judge(exact(expected), [expected.tocoo()])[1] is None
    for wrong in (expected.T, expected * 2, sparse.csr_array(expected.shape)):
        worst, failure = judge(exact(expected), [wrong])
        assert worst == np.inf
        assert failure is not None
        assert failure.index is not None


# Kept: two of four candidates a row. Row 0: columns 1 and 3 cannot be told apart. Row 1 has no doubt, row 2 keeps a 0.

CANDIDATES = np.array([[0.9, 0.5, 0.1, 0.5 + EPS], [-0.2, 0.8, 0.7, -0.3], [0.0, -1.0, 0.4, -2.0]])
KEPT = Case(
    "refresh",
    "case",
    "float64",
    "kept",
    {},
    {"assignment": np.zeros((3, 4))},
    {"candidates": CANDIDATES, "errors": np.full((3, 4), 2.0, dtype=np.float32), "k": np.array(2)},
)


def kept(*columns: tuple[int, ...]) -> Any:
    result = np.zeros(CANDIDATES.shape)
    for row, own in enumerate(columns):
        result[row, list(own)] = CANDIDATES[row, list(own)]
    return result


def test_of_candidates_that_rounding_cannot_tell_apart_any_may_be_kept() -> None:
    for first in ((0, 1), (0, 3)):
        assert judge(KEPT, [kept(first, (1, 2), (0, 2))])[1] is None
        assert judge(KEPT, [sparse.csr_array(kept(first, (1, 2), (0, 2)))])[1] is None


@pytest.mark.parametrize(
    "wrong",
    [
        kept((0, 1, 3), (1, 2), (0, 2)),
        kept((0,), (1, 2), (0, 2)),
        kept((1, 3), (1, 2), (0, 2)),
        kept((0, 2), (1, 2), (0, 2)),
        kept((0, 1), (1, 3), (0, 2)),
        kept((0, 1), (1,), (0, 2)),
        kept((0, 1), (1, 2), (0,)),
        kept((0, 1), (1, 2), (0, 1, 2)),
        kept((0, 1), (1, 2), (0, 2)) * 1.01,
        -kept((0, 1), (1, 2), (0, 2)),
        np.abs(kept((0, 1), (1, 3), (0, 2))),
        kept((0, 1), (1, 2), (0, 2))[:, ::-1],
    ],
)
def test_no_other_choice_and_no_other_value_is_right(wrong: Any) -> None:
    worst, failure = judge(KEPT, [wrong])
    assert worst > 1
    assert failure is not None


@given(rngs(), st.integers(1, 5))
def test_moving_or_changing_a_kept_entry_is_seen_where_nothing_ties(rng: np.random.Generator, k: int) -> None:
    candidates = rng.permuted(np.tile(np.arange(1.0, 8.0), (3, 1)), axis=1)
    right = np.where(candidates > 7 - k, candidates, 0.0)
    allowed = {"candidates": candidates, "errors": np.ones((3, 7), dtype=np.float32), "k": np.array(k)}
    case = Case("refresh", "case", "float64", "kept", {}, {"assignment": right}, allowed)
    assert judge(case, [right]) == (0.0, None)
    row, place, other = rng.integers(3), rng.integers(k), rng.integers(7 - k)
    own, others = np.flatnonzero(right[row])[place], np.flatnonzero(right[row] == 0)[other]
    moved, changed = right.copy(), right.copy()
    moved[row, [own, others]] = moved[row, [others, own]]
    changed[row, own] *= 1 + 1e-12
    assert judge(case, [moved])[1] is not None
    assert judge(case, [changed])[1] is not None


# Ranked: three of five items. Row 0: items 1 and 4 tie within rounding, item 2 is seen. Row 1 has only two items left.

SCORES = np.array([[0.1, 0.5, -np.inf, 0.9, 0.5 + EPS], [-np.inf, -np.inf, 7.0, -np.inf, -2.0]])
LISTS = Case(
    "rank_items",
    "case",
    "float64",
    "ranked",
    {},
    {"items": np.array([[3, 4, 1], [2, 4, -1]]), "scores": np.zeros((2, 3))},
    {"candidates": SCORES, "errors": np.where(np.isfinite(SCORES), 2.0, 0.0).astype(np.float32)},
)


def lists(*rows: tuple[int, ...]) -> list[Any]:
    items = np.array(rows)
    scores = np.where(items >= 0, np.take_along_axis(SCORES, np.maximum(items, 0), axis=1), -np.inf)
    return [items, scores]


def test_lists_may_differ_only_where_rounding_cannot_tell() -> None:
    for first in ((3, 4, 1), (3, 1, 4)):
        assert judge(LISTS, lists(first, (2, 4, -1)))[1] is None


@pytest.mark.parametrize(
    ("items", "index"),
    [
        (((3, 4, 0), (2, 4, -1)), (0, 2)),
        (((4, 3, 1), (2, 4, -1)), (0, 0)),
        (((3, 4, 4), (2, 4, -1)), (0, 2)),
        (((3, 4, 2), (2, 4, -1)), (0, 2)),
        (((3, 4, 5), (2, 4, -1)), (0, 2)),
        (((3, 4, -1), (2, 4, -1)), (0, 2)),
        (((3, 4, 1), (2, 4, 0)), (1, 2)),
        (((3, 4, 1), (4, 2, -1)), (1, 0)),
        (((3, 4, 1), (2, -1, 4)), (1, 1)),
    ],
)
def test_a_wrong_list_is_told_with_its_place(items: Any, index: tuple[int, int]) -> None:
    worst, failure = judge(LISTS, [np.array(items), np.zeros((2, 3))])
    assert worst == np.inf
    assert failure is not None
    assert (failure.key, failure.index) == ("items", index)


def test_the_scores_of_a_right_list_must_be_right_and_minus_infinity_at_its_end() -> None:
    items, scores = lists((3, 4, 1), (2, 4, -1))
    for index, wrong in (((0, 0), 0.9 + 1e-12), ((1, 2), -1024.0), ((1, 1), np.nan)):
        changed = scores.copy()
        changed[index] = wrong
        failure = judge(LISTS, [items, changed])[1]
        assert failure is not None
        assert (failure.key, failure.index) == ("scores", index)
