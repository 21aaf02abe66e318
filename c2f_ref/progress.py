"""How far training is, told on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta

from .training import Callbacks, Estimate, Evaluation, Progress

SECONDS_BETWEEN = 0.2
START_OF_LINE = "\r\x1b[K"


class ProgressLine:
    """Progress on stderr: one line that is written over on a terminal, a line per evaluation elsewhere."""

    def __init__(self) -> None:
        self.live = sys.stderr is not None and sys.stderr.isatty()
        self.last = 0.0

    def callbacks(self, listener: Callable[[Evaluation], None] | None = None) -> Callbacks:
        """What `c2f_ref.train` is to tell it; `listener` is told of evaluations too."""

        def evaluated(evaluation: Evaluation) -> None:
            self.evaluated(evaluation)
            if listener:
                listener(evaluation)

        return {"on_estimate": self.estimated, "on_evaluation": evaluated, "on_step": self.stepped}

    def estimated(self, estimate: Estimate) -> None:
        """Say how long a stage takes that goes on to its last step."""
        steps = f"{estimate.max_steps:,} steps of {estimate.step_seconds:.3f} s"
        epochs = f"{estimate.max_epochs} epochs of {estimate.epoch_seconds:.2f} s besides"
        evaluations = f"{estimate.max_evaluations} evaluations of {estimate.evaluation_seconds:.2f} s"
        _say(f"{estimate.stage}: at most {_duration(estimate.seconds)} for {steps}, {epochs} and {evaluations}\n")

    def stepped(self, progress: Progress) -> None:
        """Show how far training is, a few times a second."""
        now = time.perf_counter()
        if self.live and now - self.last >= SECONDS_BETWEEN:
            self.last = now
            _say(f"{START_OF_LINE}{_where(progress)}, loss {progress.loss:.4f}, {_pace(progress)}")

    def evaluated(self, evaluation: Evaluation) -> None:
        """Say what an evaluation found."""
        loss = "untrained" if evaluation.loss is None else f"loss {evaluation.loss:.4f}, {_pace(evaluation)}"
        best = " (best of its phase)" if evaluation.is_best else ""
        start = START_OF_LINE if self.live else ""
        _say(f"{start}{_where(evaluation)}: validation NDCG {evaluation.ndcg:.4f}{best}, {loss}\n")

    def close(self) -> None:
        """Leave the terminal on a fresh line."""
        if self.live:
            _say(START_OF_LINE)


def _say(text: str) -> None:
    """On stderr, if there is one that takes it: training does not end because nobody can be told of it."""
    if sys.stderr is not None:
        with suppress(OSError):
            print(text, end="", file=sys.stderr, flush=True)


def _where(told: Progress | Evaluation) -> str:
    return f"{told.stage} phase {told.phase}, epoch {told.epoch}, step {told.n_steps}"


def _pace(told: Progress | Evaluation) -> str:
    rate = told.n_steps / told.seconds
    return f"{rate:.1f} steps/s, at most {_duration((told.max_steps - told.n_steps) / rate)} left"


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
