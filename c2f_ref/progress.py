"""How far training is, on stderr."""

from __future__ import annotations

import shutil
import sys
import time
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .training import Progress

SECONDS_BETWEEN = 0.2
START_OF_LINE = "\r\x1b[K"


class ProgressLine:
    """The `watch` of a training: each evaluation is a line, and at a terminal a line shows the
    step.

    Time left is that of all steps that the schedule allows; patience may end a stage earlier.
    """

    def __init__(self) -> None:
        is_live = sys.stderr is not None and sys.stderr.isatty()
        self.start = START_OF_LINE if is_live else ""
        self.stage, self.first_step, self.began, self.shown = "", 0, 0.0, 0.0

    @staticmethod
    def wanted() -> bool:
        """Whether progress is shown by default: at a terminal and in a notebook."""
        return sys.stderr is not None and (sys.stderr.isatty() or "ipykernel" in sys.modules)

    def __call__(self, progress: Progress) -> None:
        (stage, state, max_steps, k), now = progress, time.perf_counter()
        if stage != self.stage:
            self.stage, self.first_step, self.began = stage, state.n_steps, now
        last = state.evaluations[-1]  # there is one before the first step
        is_evaluation = last.n_steps == state.n_steps
        if not is_evaluation and not (self.start and now - self.shown >= SECONDS_BETWEEN):
            return
        self.shown = now
        phase, loss = (last.phase, last.loss) if is_evaluation else (state.phase, state.losses[-1])
        text = f"{stage} phase {phase}, epoch {state.epoch}, step {state.n_steps:,}"
        if is_evaluation:
            text += f": NDCG@{k} {last.ndcg:.4f}{' (best of its phase)' if last.is_best else ''}"
        text += "" if loss is None else f", loss {loss:.4f}"
        n_done, seconds = state.n_steps - self.first_step, now - self.began
        if n_done:
            left = timedelta(seconds=round(seconds / n_done * (max_steps - state.n_steps)))
            text += f", {n_done / seconds:.1f} steps/s, at most {left} left"
        width = None if is_evaluation else shutil.get_terminal_size().columns - 1
        say(self.start + text[:width], ends_line=is_evaluation)

    def close(self) -> None:
        """Leave the terminal on an empty line."""
        say(self.start, ends_line=False)


def say(text: str, ends_line: bool = True) -> None:
    """Print on stderr, if it takes anything: nothing fails because a message cannot be shown."""
    if sys.stderr is not None:
        with suppress(OSError):
            print(text, end="\n" if ends_line else "", file=sys.stderr, flush=True)
