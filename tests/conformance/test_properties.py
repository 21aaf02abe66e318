"""Properties of what is drawn: the specification has them with any seed, and believable mistakes do not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from c2f_ref import spec
from c2f_ref.conformance import Case, cases
from c2f_ref.conformance.calls import call
from c2f_ref.conformance.properties import PROPERTIES, broken_property


def drawn(operation: str, name: str | None = None) -> list[Case]:
    return [case for case in cases([operation], ["float64"]) if case.comparator == "drawn" and name in (None, case.name)]


def results(case: Case) -> list[Any]:
    return [np.asarray(part.toarray() if hasattr(part, "toarray") else part) for part in call(spec, case)]


@pytest.mark.parametrize("operation", [name for name in PROPERTIES if name != "start_fine"])
@settings(max_examples=10)
@given(seed=st.integers(0, 2**31 - 1))
def test_the_specification_has_them_with_any_seed(operation: str, seed: int) -> None:
    """A false alarm is as rare as six standard deviations. (Sparse PCA is slow: `start_fine` is asked once, below.)"""
    for case in drawn(operation):
        case = replace(case, inputs=case.inputs | {"seed": seed})
        assert broken_property(case, results(case)) == ""


def _swapped(parts: list[Any]) -> list[Any]:
    users, positives, negatives = parts
    return [users, negatives, positives]


def _sorted_triples(parts: list[Any]) -> list[Any]:
    order = np.argsort(parts[0], kind="stable")
    return [part[order] for part in parts]


def _one_replaced(parts: list[Any]) -> list[Any]:
    """The first negative of every user for all of its triples."""
    users, positives, negatives = parts
    first = {user: negatives[np.flatnonzero(users == user)[0]] for user in np.unique(users)}
    return [users, positives, np.array([first[user] for user in users])]


def _uniform(values: Any) -> Any:
    """Numbers in the same order, evenly spaced, with mean 0 and variance 1."""
    ranks = np.argsort(np.argsort(values, axis=None)).reshape(values.shape)
    return np.sqrt(3) * (2 * ranks / (values.size - 1) - 1)


BROKEN: list[tuple[str, str, Callable[[list[Any]], list[Any]], str]] = [
    ("partition", "four groups", lambda p: [np.arange(40) // 10], "as by random parts"),
    ("partition", "four groups", lambda p: [p[0] + 1], "labels are in"),
    ("partition", "four groups", lambda p: [np.where(p[0] == 3, 2, p[0])], "no part is empty"),
    ("partition", "four groups", lambda p: [p[0][:-1]], "label for every vertex"),
    ("partition", "four groups", lambda p: [p[0] * 1.0], "an integer label"),
    ("start_coarse_assignment", "t = 2", lambda p: [p[0][:, ::-1]], "own part"),
    ("start_coarse_assignment", "t = 2", lambda p: [p[0] * 0.5], "own part"),
    ("start_coarse_assignment", "t = 3", lambda p: [np.where(p[0] == 0.125, 0.25, p[0])], "(1 - anchor_weight)"),
    ("start_coarse_assignment", "t = 3", lambda p: [p[0] + 0.1], "coarse_per_entity entries"),
    ("start_coarse", "drawn", lambda p: [p[0] + 0.5, p[1]], "coarse has mean 0"),
    ("start_coarse", "drawn", lambda p: [p[0] * 1.3, p[1]], "coarse has variance 1"),
    ("start_coarse", "drawn", lambda p: [p[0], np.zeros(700)], "bias has variance 1"),
    ("start_coarse", "drawn", lambda p: [_uniform(p[0]), p[1]], "coarse is normal"),
    ("start_coarse", "drawn", lambda p: [p[0].round(2), p[1]], "comes twice"),
    ("start_coarse", "drawn", lambda p: [p[0].T, p[1]], "coarse has shape"),
    ("start_fine", "more fine than coarse rows", lambda p: [p[0] + 1.0], "more entries than components"),
    ("start_fine", "more fine than coarse rows", lambda p: [np.sort(p[0] != 0, axis=1) * 1.0], "different columns"),
    ("start_fine", "more fine than coarse rows", lambda p: [p[0] * 0.0], "not 0"),
    ("start_fine", "rows all alike", lambda p: [p[0] + np.eye(8, 7)], "do not vary"),
    ("draw_positions", "some columns", lambda p: [p[0][:, ::-1]], "ascend"),
    ("draw_positions", "some columns", lambda p: [np.tile([0, 1, 2], (500, 1))], "drawn alike"),
    ("draw_positions", "some columns", lambda p: [p[0] + 1], "in [0, dim)"),
    ("sparse_pca_scores", "rows on a line", lambda p: [p[0] * 1.01], "places on the line"),
    ("sparse_pca_scores", "rows on a line", lambda p: [np.abs(p[0])], "the line's order"),
    ("sample_triples", "many users", _swapped, "positives are items"),
    ("sample_triples", "many users", _sorted_triples, "shuffled"),
    ("sample_triples", "users with few or all items", _one_replaced, "unseen items are drawn alike"),
    ("sample_triples", "users with few or all items", lambda p: [part[1:] for part in p], "as many triples a draw"),
    ("sample_triples", "one draw", lambda p: [p[0], p[1], p[2][[0] * len(p[2])]], ""),
]  # fmt: skip


@pytest.mark.parametrize(("operation", "name", "spoil", "words"), BROKEN)
def test_what_lacks_a_property_is_told_which(
    operation: str, name: str, spoil: Callable[[list[Any]], list[Any]], words: str
) -> None:
    (case,) = drawn(operation, name)
    right = results(case)
    assert broken_property(case, right) == ""
    told = broken_property(case, spoil(right))
    assert told.startswith("expected that ")
    assert words in told


@pytest.mark.parametrize("operation", list(PROPERTIES))
def test_garbage_is_told_and_no_crash(operation: str) -> None:
    case = drawn(operation)[0]
    n_results = len(case.expected)
    for garbage in (None, "text", np.zeros(0), np.array(3.0), np.full((2, 2), np.nan)):
        assert broken_property(case, [garbage] * n_results) != ""
    assert broken_property(case, []) != ""
