"""Eight training steps of either stage, as recorded: the answer of `adam_step`.

They run the module's own functions one after the other, and so this one fails too where one of those does. A tie at the cut of a
refresh would let two right implementations go different ways from there. None of the ten files has one (the smallest gap is 3e-7 of
the largest candidate), so what comes after a refresh is compared place by place.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from types import ModuleType
from typing import Any

from .answers import Answer
from .calls import coarse_steps, fine_steps
from .vectors import Vectors


def adam_step(ops: ModuleType, v: Vectors) -> Iterator[Answer]:
    given, start = _training(v, "coarse"), v.start("coarse")
    adjacency, settings = v.matrix("norm_adjacency"), given.pop("settings")
    losses, coarse, bias, assignment = coarse_steps(
        ops, adjacency, start.coarse_assignment, v.n_users, settings, start.coarse, start.bias, **given
    )
    yield Answer("coarse.traj.loss", losses)
    yield Answer("coarse.traj.coarse_meta", coarse)
    yield Answer("coarse.traj.linear_weight", bias[:, None])
    yield Answer("coarse.traj.coarse_assignment", assignment)
    # Nothing in this stage reads the fine table: it must be recorded as it was given.
    yield Answer("coarse.traj.fine_meta", start.fine)
    yield Answer("coarse.traj.fine_assignment", start.fine_assignment)
    # The fine stage starts where these steps ended.
    yield Answer("fine_init.coarse_meta", coarse)
    yield Answer("fine_init.coarse_assignment", assignment)

    given, start = _training(v, "fine"), v.start("fine")
    graphs = adjacency, start.coarse_assignment, start.fine_assignment
    losses, fine, bias, assignment = fine_steps(
        ops, *graphs, v.n_users, given.pop("settings"), start.coarse, start.fine, start.bias, **given
    )
    yield Answer("fine.traj.loss", losses)
    yield Answer("fine.traj.coarse_meta", start.coarse)  # D7
    yield Answer("fine.traj.fine_meta", fine)
    yield Answer("fine.traj.linear_weight", bias[:, None])
    yield Answer("fine.traj.coarse_assignment", start.coarse_assignment)
    yield Answer("fine.traj.fine_assignment", assignment)


def _training(v: Vectors, stage: str) -> dict[str, Any]:
    """What a stage's training steps take beside the model."""
    return {
        "settings": replace(v.settings, clip_limit=float(v.array(f"{stage}.traj.clip"))),
        "batches": v.array(f"{stage}.traj.triples"),
        "lr": float(v.array(f"{stage}.traj.lr")),
        "refresh_at": int(v.array(f"{stage}.traj.refresh_at")),
    }
