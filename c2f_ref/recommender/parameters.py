"""What stands behind the estimator's parameters: a recipe, an implementation, a seed; and how a model file keeps them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np

from ..container import BundleError
from ..spec import CONTRACT, SettingsError
from ..training import RECIPES, Recipe, Schedule, default_ops

PROVENANCE = "estimator"
"""Under which name a model's provenance keeps what an estimator is made from again."""


def recipe_named(recipe: Any) -> Recipe:
    """A recipe as it is, or the one of this name. Errors: SettingsError for a name that no recipe has."""
    if isinstance(recipe, Recipe):
        return recipe
    if not isinstance(recipe, str) or recipe not in RECIPES:
        raise SettingsError(f"recipe must be a Recipe or one of {', '.join(RECIPES)}, got {recipe!r}")
    return RECIPES[recipe]


def implementation_named(name: str | None) -> ModuleType:
    """The module of this dotted name, which must have the names of `c2f_ref.spec.CONTRACT`; None: `c2f_ref.fast`.

    Errors: ModuleNotFoundError where there is none; SettingsError for one that lacks a name.
    """
    if name is None:
        return default_ops()
    module = import_module(name)
    missing = [wanted for wanted in CONTRACT if not hasattr(module, wanted)]
    if missing:
        raise SettingsError(f"implementation must have the names of c2f_ref.spec.CONTRACT, {name} has no {', '.join(missing)}")
    return module


def seed_of(random_state: Any) -> int:
    """The seed that `random_state` stands for: an int is one; a generator of NumPy draws one; None takes a fresh one.

    Errors: SettingsError for anything else. The global generator is never asked.
    """
    if random_state is None:
        return int(np.random.SeedSequence().generate_state(1)[0])
    if isinstance(random_state, np.random.Generator):
        return int(random_state.integers(2**32))
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(2**32, dtype=np.int64))
    if isinstance(random_state, bool) or not isinstance(random_state, (int, np.integer)) or random_state < 0:
        raise SettingsError(f"random_state must be None, an int >= 0 or a generator of NumPy, got {random_state!r}")
    return int(random_state)


def to_provenance(recipe: str | Recipe, seed: int, validation_ndcg: float) -> dict[str, str]:
    """What `from_provenance` reads: the recipe, by name or field by field, the seed, and the chosen model's figure."""
    told = {
        "recipe": asdict(recipe) if isinstance(recipe, Recipe) else recipe,
        "seed": seed,
        "validation_ndcg": validation_ndcg,
    }
    return {PROVENANCE: json.dumps(told)}


def from_provenance(provenance: Mapping[str, str]) -> tuple[str | Recipe, int | None, float | None]:
    """Recipe, seed and validation figure; "laptop", None and None where no estimator wrote the model.

    Errors: BundleError for what no estimator writes.
    """
    if PROVENANCE not in provenance:
        return "laptop", None, None
    try:
        told = json.loads(provenance[PROVENANCE])
        recipe, seed, ndcg = told["recipe"], int(told["seed"]), float(told["validation_ndcg"])
        if not isinstance(recipe, str):
            recipe = Recipe(**recipe | {stage: Schedule(**recipe[stage]) for stage in ("coarse", "fine")})
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise BundleError(f"provenance must hold what an estimator writes under {PROVENANCE!r}: {error!r}") from error
    return recipe, seed, ndcg
