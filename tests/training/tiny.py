"""A planted problem so small that both stages run through both phases in a fraction of a second."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
from scipy import sparse

from c2f_ref.interactions import Split, planted, split_ratio
from c2f_ref.spec import Settings
from c2f_ref.training import Evaluation, Recipe, Schedule, Snapshot, StageResult, State

SETTINGS = Settings(n_coarse=6, n_fine=4, dim=5, n_layers=2, fine_per_coarse=3)
RECIPE = Recipe(
    coarse=Schedule(batch=128, lr=0.05, evaluate_every=2, patience=2, max_epochs=60),
    fine=Schedule(batch=96, lr=0.04, evaluate_every=2, patience=2, max_epochs=60),
)


def tiny_split(seed: int = 0) -> Split:
    """30 users, 40 items, two groups of two subgroups: 150 training, 30 validation and 60 test pairs."""
    pairs = planted(n_users=30, n_items=40, n_groups=2, subgroups_per_group=2, pairs_per_user=8, rng=np.random.default_rng(seed))
    return split_ratio(pairs, valid=0.2, test=0.3, seed=seed)


def bytes_of(*arrays: Any) -> tuple[Any, ...]:
    """Types, shapes and bytes; of sparse arrays those of all three parts. Two are equal only bit for bit."""
    parts = [part for a in arrays for part in ((a.data, a.indices, a.indptr, np.array(a.shape)) if sparse.issparse(a) else (a,))]
    return tuple((part.dtype.str, part.shape, part.tobytes()) for part in parts)


def content_of(snapshot: Snapshot | None) -> tuple[Any, ...] | None:
    """All bytes and numbers of a snapshot."""
    if snapshot is None:
        return None
    return *bytes_of(*snapshot.tables, snapshot.assignment), snapshot.ndcg, snapshot.epoch, snapshot.n_steps


def content_of_state(state: State) -> dict[str, Any]:
    """All bytes and numbers of a state, but the times of its evaluations."""
    return vars(state) | {
        "tables": bytes_of(*state.tables),
        "moments": [(bytes_of(moment.first, moment.second), moment.n_steps) for moment in state.moments],
        "assignment": bytes_of(state.assignment),
        "best": content_of(state.best),
        "best_fixed": content_of(state.best_fixed),
        "evaluations": told_of(state),
    }


def content_of_run(results: tuple[StageResult | None, ...]) -> list[Any]:
    """All bytes and numbers that stages leave, but the times of their evaluations."""
    stages = [result for result in results if result is not None]
    return [(content_of(r.best), content_of(r.best_fixed), told_of(r), r.last_epoch, r.n_steps) for r in stages]


def with_schedules(recipe: Recipe, **changes: Any) -> Recipe:
    """The recipe with these changes in both stages."""
    return replace(recipe, coarse=replace(recipe.coarse, **changes), fine=replace(recipe.fine, **changes))


def told_of(run: StageResult | State) -> list[Evaluation]:
    """Everything that the evaluations told, but the time."""
    return [replace(evaluation, seconds=0.0) for evaluation in run.evaluations]


def assert_both_phases(result: StageResult) -> None:
    """Raise AssertionError unless patience ended both phases and more than the start was chosen in each."""
    assert Counter(e.phase for e in result.evaluations).keys() == {1, 2}
    assert result.last_epoch < RECIPE.coarse.max_epochs - 1
    assert result.best_fixed is not None
    assert result.best.epoch > result.best_fixed.epoch
