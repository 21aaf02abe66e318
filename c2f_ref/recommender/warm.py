"""A warm start: both stages from where an earlier model stands, on the same or on other users and items."""

from __future__ import annotations

from types import ModuleType
from typing import Any, Unpack

import numpy as np
import numpy.typing as npt
from scipy import sparse

from .. import spec
from ..bundle import Model
from ..interactions import Split
from ..interactions.fields import place_of
from ..spec import Float64Array, IntArray, Settings, SettingsError, SpecError
from ..training import Callbacks, CoarseStage, FineStage, Recipe, StageResult, norm_adjacency_of, run_stage, start_state, train_fine


def train_from(
    init: Model, split: Split, settings: Settings, recipe: Recipe, *, seed: int, ops: ModuleType, **callbacks: Unpack[Callbacks]
) -> tuple[StageResult, StageResult | None]:
    """As `c2f_ref.train`, but each stage starts from the tables and assignments of `init`, and in its second phase.

    Entities are the same where their raw ids are. A new one gets the weights that every entity has at the start of the coarse
    stage, its own part drawn at random, and the mean bias of the known of its kind.

    Edge: a model without fine table gives the coarse stage its start alone. The chosen coarse model is never worse on validation
    than the start, which is evaluated first.
    Errors: SettingsError for a size in which `init` differs; SpecError where it shares no item, or for a split that `train` would
    not take.
    """
    has_fine = init.fine is not None and settings.n_fine > 0
    sizes = ["n_coarse", "dim", "coarse_per_entity"] + ["n_fine", "fine_per_coarse"] * has_fine
    for name in sizes:
        wanted, got = getattr(init.settings, name), getattr(settings, name)
        if got != wanted:
            raise SettingsError(f"{name} must be {wanted}, that of the model to start from, got {got}")
    train = split.train
    start_rng, coarse_rng, fine_rng = np.random.default_rng(seed).spawn(3)
    assignment, bias = _taken_over(init, split, settings, rng=start_rng)
    adjacency = norm_adjacency_of(train, np.float64 if ops is spec else np.float32)
    coarse_stage = CoarseStage(adjacency, train.n_users, settings, ops)
    state = start_state((init.coarse.astype(np.float64), bias), assignment, rng=coarse_rng, first_phase=2)
    coarse = run_stage(coarse_stage, state, split, settings, recipe.coarse, ops=ops, **callbacks)
    if settings.n_fine == 0:
        return coarse, None
    if init.fine is None or init.fine_assignment is None:
        return coarse, train_fine(split, coarse.best, settings, recipe, rng=fine_rng, ops=ops, **callbacks)
    table, bias = coarse.best.tables
    fine_stage = FineStage(adjacency, train.n_users, coarse.best.assignment, table, settings, ops)
    tables = init.fine.astype(np.float64), bias
    state = start_state(tables, init.fine_assignment.astype(np.float64), rng=fine_rng, first_phase=2)
    return coarse, run_stage(fine_stage, state, split, settings, recipe.fine, ops=ops, **callbacks)


def _taken_over(
    init: Model, split: Split, settings: Settings, *, rng: np.random.Generator
) -> tuple[sparse.csr_array, Float64Array]:
    """S_c (N, C) and b (N,) of the split's entities: rows of `init` where it has them."""
    train = split.train
    users, items = _places(init.user_ids, train.user_ids), _places(init.item_ids, train.item_ids)
    if not (items >= 0).any():
        raise SpecError("the model to start from must share an item with the training data, got none")
    rows = np.concatenate([users, np.where(items >= 0, init.n_users + items, -1)])
    is_new = rows < 0
    n_new = int(is_new.sum())
    drawn = spec.start_coarse_assignment(rng.integers(settings.n_coarse, size=n_new), settings, rng=rng)
    both = sparse.vstack([drawn, init.coarse_assignment.astype(np.float64)], format="csr")
    assignment = sparse.csr_array(both)[np.where(is_new, is_new.cumsum() - 1, n_new + rows)]
    bias = init.bias.astype(np.float64)[rows]
    for kind in (slice(train.n_users), slice(train.n_users, None)):
        known = bias[kind][~is_new[kind]]
        bias[kind][is_new[kind]] = known.mean() if known.size else 0.0
    return assignment, bias


def _places(old_ids: npt.NDArray[Any], ids: npt.NDArray[Any]) -> IntArray:
    """Position of each raw id among the old ones, -1 for a new one."""
    place = place_of(old_ids)
    return np.array([place.get(str(raw), -1) for raw in ids.tolist()], dtype=np.int64)
