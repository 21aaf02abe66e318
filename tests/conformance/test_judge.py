"""Comparators and properties: what they let pass, and above all what they do not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from c2f_ref import method, partition
from c2f_ref.conformance import Case, cases
from c2f_ref.conformance.judge import PROPERTIES, broken_property, judge
from c2f_ref.conformance.run import call

EPS = 2.0**-52
EXPECTED = np.array([[4.0, -0.5, 0.0], [1.5, 2.0, -4.0]])
ALLOWED = np.array([[8.0, 2.0, 0.0], [2.0, 4.0, 8.0]], dtype=np.float32)


def case_of(how: str, expected: Any, dtype: str = "float64", **allowed: Any) -> Case:
    expected = expected if isinstance(expected, dict) else {"result": expected}
    return Case("some", "case", dtype, how, {}, expected, allowed)


BOUNDED = case_of("bounded", EXPECTED, result=ALLOWED)


def is_right(case: Case, *results: Any) -> bool:
    share, reason = judge(case, results)
    assert (share > 1) == bool(reason)
    return not reason


def test_a_right_result_passes_in_any_form() -> None:
    forms = [EXPECTED, EXPECTED.tolist(), EXPECTED.astype(np.longdouble), EXPECTED.astype(">f8")]
    for got in (*forms, sparse.csr_array(EXPECTED), sparse.coo_array(EXPECTED)):
        assert judge(BOUNDED, [got]) == (0.0, "")


@pytest.mark.parametrize("index", list(np.ndindex(EXPECTED.shape)))
def test_an_entry_may_be_off_by_its_bound_and_no_more(index: tuple[int, int]) -> None:
    inside, outside = EXPECTED.copy(), EXPECTED.copy()
    inside[index] += 0.75 * EPS * ALLOWED[index]
    outside[index] -= max(2 * EPS * float(ALLOWED[index]), 1e-300)
    assert is_right(BOUNDED, inside)
    share, reason = judge(BOUNDED, [outside])
    assert share > 1
    allowed = f"{EPS * float(ALLOWED[index]):.2g}"
    numbers = f"expected {EXPECTED[index].item()!r}, got {outside[index].item()!r}"
    assert reason == f"result{list(index)}: {numbers}, allowed {allowed}"


def test_the_coarser_of_two_precisions_decides() -> None:
    """4 + 2^-20 is 2^29 spacings of double, and half a spacing of single at 4."""
    off = EXPECTED.copy()
    off[0, 0] += 2.0**-20
    assert is_right(BOUNDED._replace(dtype="float32"), off)
    assert is_right(BOUNDED, off.astype(np.float32))
    assert is_right(BOUNDED, off.astype(">f4"))
    assert not is_right(BOUNDED, off)


def test_nan_and_infinity_are_never_right() -> None:
    for wrong in (np.nan, np.inf, -np.inf):
        got = EXPECTED.copy()
        got[1, 1] = wrong
        for case in (BOUNDED, case_of("exact", EXPECTED)):
            assert judge(case, [got])[0] == np.inf
            assert f"result[1, 1]: expected 2.0, got {wrong}" in judge(case, [got])[1]


class Guarded:
    """A type that does not give its numbers."""

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise RuntimeError("call detach() first")


def test_another_form_fails_in_words() -> None:
    for got, words in (
        (EXPECTED.T, "shape (2, 3), got (3, 2)"),
        (EXPECTED[0], "shape (2, 3), got (3,)"),
        (4.0, "shape (2, 3), got ()"),
        (None, "floats, got object"),
        ([[1.0], [2.0, 3.0]], "numbers, got list: "),
        (EXPECTED.astype(str), "floats, got <U32"),
        (EXPECTED + 0j, "floats, got complex128"),
        (EXPECTED.astype(np.float16), "floats, got float16"),
        (EXPECTED > 0, "floats, got bool"),
        (Guarded(), "numbers, got Guarded: call detach() first"),
    ):
        share, reason = judge(BOUNDED, [got])
        assert share == np.inf
        assert reason.startswith(f"result: expected {words}")


def test_integers_must_be_integers_equal_and_in_number() -> None:
    case = case_of("exact", np.array([3, 1, 2]))
    assert is_right(case, np.array([3, 1, 2], dtype=np.uint8))
    assert not is_right(case, np.array([3, 1, 4]))
    assert "expected integers, got float64" in judge(case, [np.array([3.0, 1.0, 2.0])])[1]
    assert judge(case, [EXPECTED] * 2)[1] == "expected 1 results (result), got 2"


def test_a_large_sparse_result_is_compared_without_its_zeros() -> None:
    places = (np.array([1.0, 2.0]), (np.array([3, 69_999]), np.array([50_000, 7])))
    expected = sparse.csr_array(places, shape=(70_000, 70_000))
    assert is_right(case_of("exact", expected), expected.tocoo())
    for wrong in (expected.T, expected * 2, sparse.csr_array(expected.shape)):
        share, reason = judge(case_of("exact", expected), [wrong])
        assert share == np.inf
        assert reason.startswith("result[3, 50000]: expected 1.0, got ") or wrong is not expected


# Kept: two of four candidates a row. Row 0: columns 1 and 3 are a tie; row 2 keeps one of two zeros

CANDIDATES = np.array([[0.9, 0.5, 0.1, 0.5 + EPS], [-0.2, 0.8, 0.7, -0.3], [0.0, -1.0, 0.4, 0.0]])
ERRORS = np.full((3, 4), 2.0, dtype=np.float32)
KEPT = case_of("kept", np.zeros((3, 4)), candidates=CANDIDATES, errors=ERRORS, k=np.array(2))


def kept(*columns: tuple[int, ...]) -> Any:
    result = np.zeros(CANDIDATES.shape)
    for row, chosen in enumerate(columns):
        result[row, list(chosen)] = CANDIDATES[row, list(chosen)]
    return result


def test_of_candidates_that_rounding_cannot_tell_apart_any_may_be_kept() -> None:
    for first in ((0, 1), (0, 3)):
        assert is_right(KEPT, kept(first, (1, 2), (0, 2)))
        assert is_right(KEPT, sparse.csr_array(kept(first, (1, 2), (0, 2))))


def test_no_other_choice_and_no_other_value_is_right() -> None:
    right = [(0, 1), (1, 2), (0, 2)]
    wrong: list[tuple[int, tuple[int, ...]]] = [(0, (0, 1, 3)), (0, (0,)), (0, (1, 3)), (0, (0, 2))]
    wrong += [(1, (1, 3)), (1, (1,)), (2, (0,)), (2, (0, 1, 2))]
    for row, columns in wrong:
        assert not is_right(KEPT, kept(*right[:row], columns, *right[row + 1 :]))
    table, other = kept(*right), kept((0, 1), (1, 3), (0, 2))
    for values in (table * (1 + 1e-12), -table, np.abs(other), table[:, ::-1]):
        assert not is_right(KEPT, values)


# Ranked: three of five items. Row 0: items 1 and 4 tie within rounding, item 2 is seen

SCORES = np.array([[0.1, 0.5, -np.inf, 0.9, 0.5 + EPS], [-np.inf, -np.inf, 7.0, -np.inf, -2.0]])
BOUND = np.where(np.isfinite(SCORES), 2.0, 0.0).astype(np.float32)
BEST = {"items": np.array([[3, 4, 1], [2, 4, -1]]), "scores": np.zeros((2, 3))}
LISTS = case_of("ranked", BEST, candidates=SCORES, errors=BOUND)


def lists(*rows: tuple[int, ...]) -> list[Any]:
    items = np.array(rows)
    found = np.take_along_axis(SCORES, np.maximum(items, 0), axis=1)
    return [items, np.where(items >= 0, found, -np.inf)]


def test_lists_may_differ_only_where_rounding_cannot_tell() -> None:
    for first in ((3, 4, 1), (3, 1, 4)):
        assert is_right(LISTS, *lists(first, (2, 4, -1)))


def test_a_wrong_list_is_reported_with_its_place() -> None:
    first = ((3, 4, 0), 2), ((4, 3, 1), 0), ((3, 4, 4), 2), ((3, 4, 2), 2), ((3, 4, 5), 2)
    wrong = [(0, *each) for each in (*first, ((3, 4, -1), 2))]
    wrong += [(1, (2, 4, 0), 2), (1, (4, 2, -1), 0), (1, (2, -1, 4), 1)]
    for row, items, place in wrong:
        lists = BEST["items"].copy()
        lists[row] = items
        share, reason = judge(LISTS, [lists, np.zeros((2, 3))])
        assert share == np.inf
        assert reason.startswith(f"items[{row}, {place}]: expected item ")


def test_the_scores_of_a_right_list_must_be_right_and_minus_infinity_at_its_end() -> None:
    items, scores = lists((3, 4, 1), (2, 4, -1))
    for index, wrong in (((0, 0), 0.9 + 1e-12), ((1, 2), -1024.0), ((1, 1), np.nan)):
        changed = scores.copy()
        changed[index] = wrong
        assert judge(LISTS, [items, changed])[1].startswith(f"scores{list(index)}: ")


# Properties


def drawn(operation: str, name: str | None = None) -> list[Case]:
    found = cases([operation], ["float64"])
    return [case for case in found if case.comparator == "drawn" and name in (None, case.name)]


def results(case: Case) -> list[Any]:
    made = call(partition if case.operation == "partition" else method, case)
    return [part.toarray() if sparse.issparse(part) else np.asarray(part) for part in made]


@pytest.mark.parametrize("operation", [name for name in PROPERTIES if name != "start_fine"])
@settings(max_examples=5)
@given(seed=st.integers(0, 2**31 - 1))
def test_the_method_has_them_with_any_seed(operation: str, seed: int) -> None:
    """A false alarm is as rare as six standard deviations. (`start_fine` is slow: below.)"""
    for case in drawn(operation):
        case = case._replace(inputs=case.inputs | {"seed": seed})
        assert broken_property(case, results(case)) == ""


def _one_negative(parts: list[Any]) -> list[Any]:
    """The first negative of every user for all of its triples."""
    users, positives, negatives = parts
    first = {user: negatives[np.flatnonzero(users == user)[0]] for user in np.unique(users)}
    return [users, positives, np.array([first[user] for user in users])]


def _in_turn(parts: list[Any]) -> list[Any]:
    """Every user equally often instead of at random."""
    keep = [np.flatnonzero(parts[0] == user) for user in range(301)]
    order = np.concatenate([np.resize(own, 20) for own in keep if own.size])
    return [part[np.random.default_rng(0).permutation(order)] for part in parts]


def _uniform(values: Any) -> Any:
    """Numbers in the same order, evenly spaced, with mean 0 and variance 1."""
    ranks = np.argsort(np.argsort(values, axis=None)).reshape(values.shape)
    return np.sqrt(3) * (2 * ranks / (values.size - 1) - 1)


FEW, MORE = "users with few or all items", "more fine than coarse rows"
BROKEN: list[tuple[str, str, Callable[[list[Any]], list[Any]], str]] = [
    ("partition", "four groups", lambda p: [np.arange(40) // 10], "of random parts"),
    ("partition", "four groups", lambda p: [p[0] + 1], "have 1 to ceil"),
    ("partition", "four groups", lambda p: [np.where(p[0] == 3, 2, p[0])], "have 1 to ceil"),
    ("partition", "four groups", lambda p: [p[0][:-1]], "label for every vertex"),
    ("start_coarse_assignment", "t = 2", lambda p: [p[0][:, ::-1]], "the part of an entity"),
    ("start_coarse_assignment", "t = 2", lambda p: [p[0] * 0.5], "the part of an entity"),
    ("start_coarse_assignment", "t = 3", lambda p: [p[0] * (p[0] != 0.125) + (p[0] == 0.125) / 4],
     "(1 - anchor_weight)"),
    ("start_coarse_assignment", "t = 3", lambda p: [p[0] + 0.1], "coarse_per_entity entries"),
    ("start_coarse", "drawn", lambda p: [p[0] + 0.5, p[1]], "coarse is standard normal: moment 1"),
    ("start_coarse", "drawn", lambda p: [p[0] * 1.3, p[1]], "coarse is standard normal: moment 2"),
    ("start_coarse", "drawn", lambda p: [p[0], np.zeros(700)], "bias is standard normal: moment 2"),
    ("start_coarse", "drawn", lambda p: [_uniform(p[0]), p[1]], "normal: moment 4"),
    ("start_coarse", "drawn", lambda p: [p[0].round(2), p[1]], "occurs twice"),
    ("start_coarse", "drawn", lambda p: [p[0].T, p[1]], "coarse has shape"),
    ("start_fine", MORE, lambda p: [p[0] + 1.0], "more entries than components"),
    ("start_fine", MORE, lambda p: [np.sort(p[0] != 0, axis=1) * 1.0], "different columns"),
    ("start_fine", MORE, lambda p: [p[0] * 0.0], "only where, rows vary"),
    ("start_fine", "rows all alike", lambda p: [p[0] + np.eye(8, 7)], "only where, rows vary"),
    ("draw_positions", "some columns", lambda p: [p[0][:, ::-1]], "ascend"),
    ("draw_positions", "some columns", lambda p: [np.tile([0, 1, 2], (500, 1))], "equally likely"),
    ("draw_positions", "some columns", lambda p: [p[0] + 1], "in [0, dim)"),
    ("sparse_pca_scores", "rows on a line", lambda p: [p[0] * 1.01], "places on the line"),
    ("sample_triples", "many users", lambda p: [p[0], p[2], p[1]], "positives are items"),
    ("sample_triples", "many users", lambda p: [x[np.argsort(p[0])] for x in p], "shuffled"),
    ("sample_triples", "many users", _in_turn, "one by one"),
    ("sample_triples", FEW, _one_negative, "unseen items are equally likely"),
    ("sample_triples", FEW, lambda p: [part[1:] for part in p], "a draw gives"),
    ("sample_triples", "one draw", lambda p: [p[0], p[1], p[2][[0, 0, 2, 3, 4]]], "distinct"),
]  # fmt: skip


@pytest.mark.parametrize(("operation", "name", "spoil", "words"), BROKEN)
def test_the_property_that_is_lacking_is_named(
    operation: str, name: str, spoil: Callable[[list[Any]], list[Any]], words: str
) -> None:
    (case,) = drawn(operation, name)
    right = results(case)
    assert broken_property(case, right) == ""
    assert broken_property(case, spoil(right)).startswith("expected that ")
    assert words in broken_property(case, spoil(right))


@pytest.mark.parametrize("operation", list(PROPERTIES))
def test_garbage_is_reported_in_words(operation: str) -> None:
    for case in drawn(operation):
        for value in (None, "text", np.zeros(0), np.array(3.0), np.full((2, 2), np.nan)):
            assert broken_property(case, [value] * len(case.expected)) != ""
        assert broken_property(case, []) != ""
