"""What a run is made of: where a stage stands, what it chose, and what those who watch are told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np
from scipy import sparse

from ..spec import AdamState, start_adam
from .stages import Tables


@dataclass(frozen=True)
class Snapshot:
    """A model of one stage as it was at an evaluation: its trained tables, its assignment, and how good they were."""

    tables: Tables
    assignment: sparse.csr_array
    ndcg: float
    epoch: int
    n_steps: int


@dataclass(frozen=True)
class Evaluation:
    """What `on_evaluation` is told: where training stands, the validation NDCG, and seconds since the stage began.

    `loss` is the mean since the last evaluation, None before the first step; `n_refreshes` counts those of the assignment.
    """

    stage: str
    phase: int
    epoch: int
    n_steps: int
    max_steps: int
    n_refreshes: int
    loss: float | None
    ndcg: float
    is_best: bool
    seconds: float
    bias_scale: float = 1.0
    """The factor of b that gave this NDCG: see `Schedule.bias_scales`."""


@dataclass(frozen=True)
class Progress:
    """What `on_step` is told after every step: how many there were of the most there can be, seconds since the stage began."""

    stage: str
    phase: int
    epoch: int
    n_steps: int
    max_steps: int
    loss: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What `on_estimate` is told before a stage: seconds, measured, and how many steps, epochs and evaluations there can be.

    `epoch_seconds` is what an epoch takes besides its steps: sampling, a refresh, perhaps a graph of its own.
    """

    stage: str
    step_seconds: float
    epoch_seconds: float
    evaluation_seconds: float
    max_steps: int
    max_epochs: int
    max_evaluations: int

    @property
    def seconds(self) -> float:
        """The longest that the stage can take at this pace; patience may end it sooner."""
        of_epochs = self.max_steps * self.step_seconds + self.max_epochs * self.epoch_seconds
        return of_epochs + self.max_evaluations * self.evaluation_seconds


@dataclass(frozen=True)
class State:
    """Everything that the rest of a stage depends on, as it is before the training of `epoch`.

    `rng` is the generator's state. The epoch is evaluated already, unless nothing was evaluated yet; `is_finished` says that
    no training follows.
    """

    tables: Tables
    moments: tuple[AdamState, ...]
    assignment: sparse.csr_array
    rng: dict[str, Any]
    phase: int = 1
    epoch: int = 0
    n_steps: int = 0
    n_refreshes: int = 0
    n_misses: int = 0
    best: Snapshot | None = None
    best_fixed: Snapshot | None = None
    evaluations: tuple[Evaluation, ...] = ()
    is_finished: bool = False

    @property
    def is_evaluated(self) -> bool:
        """Whether the evaluation before the training of `epoch` is made."""
        return bool(self.evaluations) and self.evaluations[-1].epoch == self.epoch


@dataclass(frozen=True)
class StageResult:
    """The chosen model of a stage, the best one of its first phase (None if it began in the second), and the whole run.

    `last_epoch` is the epoch before which training ended and `n_steps` counts all steps made, those after the best model too.
    """

    best: Snapshot
    best_fixed: Snapshot | None
    evaluations: tuple[Evaluation, ...]
    last_epoch: int
    n_steps: int


class Callbacks(TypedDict, total=False):
    """Who is told of training: an estimate before a stage, every evaluation, every step, and every state to go on from."""

    on_estimate: Callable[[Estimate], None] | None
    on_evaluation: Callable[[Evaluation], None] | None
    on_step: Callable[[Progress], None] | None
    on_state: Callable[[State], None] | None


def start_state(tables: Tables, assignment: sparse.csr_array, *, rng: np.random.Generator, first_phase: int = 1) -> State:
    """Where a stage begins: these tables, no step made, triples drawn from `rng` from where it stands."""
    state = dict(rng.bit_generator.state)
    return State(tables, tuple(start_adam(table) for table in tables), assignment, state, phase=first_phase)
