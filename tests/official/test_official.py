"""Every array that the official code recorded is given, and no entry of theirs could be another.

The files are those of `tests/vectors/official`, or of the folder in $C2F_OFFICIAL.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from support.implementations import FAST

from c2f_ref import method

from .recorded import Answer, Recorded, answers, tied_at_cut

OURS = Path(__file__).parents[1] / "vectors" / "official"
FILES = sorted(Path(os.environ.get("C2F_OFFICIAL", OURS)).glob("*.npz"))
assert FILES, "there are no .npz files in the folder of $C2F_OFFICIAL"
EACH_FILE = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
SMALL = 1e-7
pytestmark = pytest.mark.usefixtures("one_thread")


@cache
def answers_of(ops: ModuleType, path: Path) -> tuple[Answer, ...]:
    """Computed once for each file, since both tests below only read them."""
    return tuple(answers(ops, Recorded(path)))


@EACH_FILE
@pytest.mark.parametrize("ops", [pytest.param(method, id="method"), FAST])
def test_an_implementation_gives_every_array_of_every_file(ops: ModuleType, path: Path) -> None:
    """No answer is right by its tolerance."""
    for answer in answers_of(ops, path):
        share, reason = answer.compared()
        assert share < (1e-2 if ops is method else 1), reason
    assert {answer.key for answer in answers_of(ops, path)} == Recorded(path).outputs()


@EACH_FILE
def test_any_entry_changed_by_1_percent_and_any_moved_index_are_seen(path: Path) -> None:
    """All entries above 1e-7 of the largest, up or down by turns; one by one where some tie.

    Each entry of a refreshed assignment is moved to each other column of its row, tied or not.
    """
    n_tried, n_moved = 0, 0
    for answer in answers_of(method, path):
        expected, has_ties = np.array(answer.expected, np.float64), answer.tied is not None
        large = np.abs(expected) > SMALL * np.abs(expected).max(initial=0.0)
        change = np.where(np.arange(expected.size) % 2, 1.01, 0.99).reshape(expected.shape)
        error = np.abs(change * expected - answer.got)
        assert (error > 1.01 * answer.tolerance())[large].all(), answer.key
        places = np.argwhere(large)
        for place in map(tuple, places if has_ties else places[:: max(len(places) // 3, 1)]):
            changed = expected.copy()
            changed[place] *= change[place]
            assert answer._replace(expected=changed).compared()[1], (answer.key, place)
            for other in np.flatnonzero(expected[place[0]] == 0) if has_ties else ():
                moved, (row, column) = expected.copy(), place
                moved[row, [column, other]] = moved[row, [other, column]]
                assert answer._replace(expected=moved).compared()[1], (answer.key, place, other)
                n_moved += 1
        if not places.size:
            assert answer._replace(expected=expected + 1e-7).compared()[1]
        n_tried += len(places)
    assert (n_tried > 5_000 and n_moved > 100) or path.parent != OURS


CANDIDATES = np.array([[0.9, 0.5, 0.1, 0.5 + 1e-14], [0.2, 0.8, 0.7, 0.3]])


def kept(*columns: tuple[int, int]) -> Any:
    table = np.zeros(CANDIDATES.shape)
    for row, pair in enumerate(columns):
        table[row, list(pair)] = CANDIDATES[row, list(pair)]
    return table


def test_of_tied_candidates_any_may_be_kept_and_a_tie_excuses_nothing_else() -> None:
    """Row 0: of three candidates for two places, columns 1 and 3 tie. Row 1 has no tie."""
    tied = tied_at_cut(CANDIDATES, 2)
    assert tied.tolist() == [[False, True, False, True], [False, False, True, False]]
    right = Answer("S", kept((0, 3), (1, 2)), kept((0, 1), (1, 2)), tied=tied)
    assert not right.compared()[1]
    assert right._replace(tied=None).compared()[1]
    both, neither, moved = (right.expected.copy() for _ in range(3))
    both[0, 1], neither[0, 3], moved[0, [0, 2]] = 0.5, 0.0, (0.0, 0.9)
    for wrong in (both, neither, moved, kept((0, 3), (1, 3)), kept((0, 1), (1, 2)) * 1.01):
        assert right._replace(got=wrong).compared()[1]


def test_an_entry_may_be_off_by_1e_10_of_the_largest_or_1e_3_of_itself_if_iterated() -> None:
    expected = np.array([[4.0, -0.5, 0.0], [1e-7, 2.0, -4.0]])
    for is_iterated, index, tolerance in (
        (False, (0, 0), 4e-10), (False, (0, 2), 4e-10), (True, (0, 0), 4e-6), (True, (1, 0), 5e-10),
    ):  # fmt: skip
        for share, is_right in ((0.9, True), (1.1, False)):
            got = expected.copy()
            got[index] += share * tolerance
            assert (Answer("x", expected, got, is_iterated).compared()[1] == "") == is_right
    assert Answer("x", np.zeros(3), np.array([0.0, 1e-300, 0.0])).compared()[0] == np.inf
    assert Answer("x", np.ones(3), np.array([1.0, np.nan, 1.0])).compared()[0] == np.inf
    assert "expected shape (3,)" in Answer("x", np.ones(3), np.ones(2)).compared()[1]
