"""Progress on stderr: a line for every evaluation, and at a terminal one line that is rewritten."""

from __future__ import annotations

import errno
import io
import re
import sys
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pytest

from c2f_ref.method import Evaluation
from c2f_ref.runtime import START_OF_LINE, ProgressLine, say
from c2f_ref.training import Progress


@dataclass(frozen=True)
class At:
    """What progress reads of a state."""

    n_steps: int
    evaluations: tuple[Evaluation, ...]
    losses: tuple[float, ...] = ()
    phase: int = 1
    epoch: int = 0


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Full(io.StringIO):
    """A device without room."""

    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


FIRST = Evaluation("coarse", 1, 0, 0, 0, None, 0.0123, True)
SECOND = Evaluation("coarse", 1, 5, 30, 0, 0.5, 0.01, False)


def watched(monkeypatch: Any, stream: io.StringIO | None, *states: At, pause: int = 1) -> str:
    """What is written while these states of at most 90 steps go by."""
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("COLUMNS", "60")
    clock = iter(range(7, 10_000))
    monkeypatch.setattr("time.perf_counter", lambda: float(7 + next(clock) * pause))
    progress = ProgressLine()
    for state in states:
        progress(Progress("coarse", state, 90, 20))  # type: ignore[arg-type]
    progress.close()
    return stream.getvalue() if stream else ""


STATES = (
    At(0, (FIRST,)),
    At(15, (FIRST,), losses=(0.75,), epoch=4),
    At(30, (FIRST, SECOND), phase=2, epoch=5),
    At(31, (FIRST, SECOND), losses=(0.4,), phase=2, epoch=5),
)


def test_every_evaluation_is_a_line_with_its_k_and_phase(monkeypatch: pytest.MonkeyPatch) -> None:
    """30 steps in 2 s, so 60 are left for 4 s. The evaluation that ends phase 1 is of phase 1."""
    assert watched(monkeypatch, io.StringIO(), *STATES).splitlines() == [
        "coarse phase 1, epoch 0, step 0: NDCG@20 0.0123 (best of its phase)",
        "coarse phase 1, epoch 5, step 30: NDCG@20 0.0100, loss 0.5000, 15.0 steps/s, "
        "at most 0:00:04 left",
    ]


def test_a_terminal_shows_steps_on_one_line_that_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = watched(monkeypatch, Terminal(), *STATES).split(START_OF_LINE)
    assert parts[0] == parts[-1] == ""
    assert [part.endswith("\n") for part in parts[1:-1]] == [True, False, True, False]
    assert parts[2].startswith("coarse phase 1, epoch 4, step 15, loss 0.7500, 15.0 steps/s")
    assert len(parts[2]) == len(parts[4]) == 59
    assert "phase 2" in parts[4]


def test_a_terminal_is_not_written_to_at_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = (At(step, (FIRST,), losses=(0.5,)) for step in range(50))
    assert watched(monkeypatch, Terminal(), *steps, pause=0).count(START_OF_LINE) == 2  # and close


def test_what_was_shown_before_a_stop_is_not_shown_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training goes on from step 30; the rate is that of the steps since then: 30 in 1 s."""
    third = Evaluation("coarse", 2, 10, 61, 1, 0.3, 0.2, True)
    states = At(31, (FIRST, SECOND), (0.4,), 2, 5), At(61, (FIRST, SECOND, third), (), 2, 10)
    (line,) = watched(monkeypatch, io.StringIO(), *states).splitlines()
    assert re.match("coarse phase 2, epoch 10, step 61: NDCG@20 0.2000 .*, 30.0 steps/s", line)


@pytest.mark.parametrize("stream", [Full(), None])
def test_progress_that_cannot_be_shown_ends_nothing(monkeypatch: Any, stream: Any) -> None:
    assert watched(monkeypatch, stream, *STATES) == ""
    say("lost")


def test_progress_is_wanted_at_a_terminal_and_in_a_notebook(monkeypatch: Any) -> None:
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    for stream, wanted in ((Terminal(), True), (io.StringIO(), False), (None, False)):
        monkeypatch.setattr(sys, "stderr", stream)
        assert ProgressLine.wanted() == wanted
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    monkeypatch.setitem(sys.modules, "ipykernel", ModuleType("ipykernel"))
    assert ProgressLine.wanted()
