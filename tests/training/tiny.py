"""A planted problem so small that both stages run through both phases in a fraction of a second."""

from __future__ import annotations

from dataclasses import asdict, replace
from types import ModuleType
from typing import Any

import numpy as np
from scipy import sparse

from c2f_ref import method
from c2f_ref.interactions import Split, planted, split_ratio
from c2f_ref.method import Settings, Snapshot, State
from c2f_ref.training import Recipe, Schedule

SETTINGS = Settings(n_coarse=6, n_fine=4, dim=5, n_layers=2, fine_per_coarse=3)
_PACE: Any = {"evaluate_every": 2, "patience": 2, "max_epochs": 60, "selection_k": 3}
RECIPE = Recipe(
    coarse=Schedule(batch=128, lr=0.05, **_PACE), fine=Schedule(batch=96, lr=0.04, **_PACE)
)


def tiny_split(seed: int = 0) -> Split:
    """30 users, 40 items, 4 subgroups: 150 training, 30 validation, 60 test pairs."""
    sizes = {"n_users": 30, "n_items": 40, "n_groups": 2, "subgroups_per_group": 2}
    pairs = planted(**sizes, pairs_per_user=8, rng=np.random.default_rng(seed))
    return split_ratio(pairs, valid=0.2, test=0.3, seed=seed)


def with_schedules(recipe: Recipe, **changes: Any) -> Recipe:
    """The recipe with these changes in both stages."""
    stages = {name: replace(getattr(recipe, name), **changes) for name in ("coarse", "fine")}
    return replace(recipe, **stages)


def implementation(**changes: Any) -> ModuleType:
    """A module with the names of the contract and nothing else, some of them changed."""
    module = ModuleType("theirs")
    vars(module).update({name: getattr(method, name) for name in method.CONTRACT} | changes)
    return module


def content_of(value: Any) -> Any:
    """Bytes, types and shapes of everything in a state, a snapshot or a tuple of them."""
    if sparse.issparse(value):
        return content_of((value.data, value.indices, value.indptr, value.shape))
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, State | Snapshot):
        return {name: content_of(part) for name, part in vars(value).items()}
    if isinstance(value, tuple):
        return tuple(map(content_of, value))
    return asdict(value) if hasattr(value, "ndcg") else value
