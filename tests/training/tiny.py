"""A planted problem so small that both stages run through both phases in half a second."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from c2f_ref.interactions import Split, planted, split_ratio
from c2f_ref.spec import Settings
from c2f_ref.training import Recipe, Snapshot, StageResult

SETTINGS = Settings(n_coarse=6, n_fine=4, dim=5, n_layers=2, fine_per_coarse=3)
RECIPE = Recipe(coarse_batch=128, coarse_lr=0.05, fine_batch=96, fine_lr=0.04, evaluate_every=2, patience=2, max_epochs=60)


def tiny_split(seed: int = 0) -> Split:
    """30 users, 40 items, two groups of two subgroups: 150 training, 30 validation and 60 test pairs."""
    pairs = planted(n_users=30, n_items=40, n_groups=2, subgroups_per_group=2, pairs_per_user=8, rng=np.random.default_rng(seed))
    return split_ratio(pairs, valid=0.2, test=0.3, seed=seed)


def content_of(snapshot: Snapshot) -> tuple[Any, ...]:
    """All bytes and numbers of a snapshot; two are equal only bit for bit."""
    matrix = snapshot.assignment
    arrays = *snapshot.tables, matrix.data, matrix.indices, matrix.indptr
    described = [(str(array.dtype), array.shape, array.tobytes()) for array in arrays]
    return (*described, matrix.shape, snapshot.ndcg, snapshot.epoch, snapshot.n_steps)


def told_of(result: StageResult) -> list[tuple[Any, ...]]:
    """Everything that the evaluations told, but the time."""
    return [(e.stage, e.phase, e.epoch, e.n_steps, e.max_steps, e.loss, e.ndcg, e.is_best) for e in result.evaluations]


def assert_both_phases(result: StageResult) -> None:
    """Raise AssertionError unless patience ended both phases and more than the start was chosen in each."""
    assert Counter(e.phase for e in result.evaluations).keys() == {1, 2}
    assert result.last_epoch < RECIPE.max_epochs - 1
    assert result.best_fixed is not None
    assert result.best.epoch > result.best_fixed.epoch
