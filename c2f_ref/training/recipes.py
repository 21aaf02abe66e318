"""How long and how fast to train: recipes are data."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from ..spec import Settings, SettingsError


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How long and how fast to train; the defaults are the published Gowalla run. A recipe is data.

    Errors: SettingsError for a number that cannot be trained with.
    """

    coarse_batch: int = 8192
    """Triples in a step of the coarse stage. Source: coarse stage, step 6."""
    coarse_lr: float = 1e-3
    """Adam's rate in the coarse stage. Source: coarse stage, step 6."""
    fine_batch: int = 32768
    """Triples in a step of the fine stage. Source: fine stage, step 1."""
    fine_lr: float = 3e-3
    """Adam's rate in the fine stage. Source: fine stage, step 1."""
    n_negatives: int = 5
    """Unseen items drawn for every drawn pair. Source: "sampling, one epoch"."""
    draws_per_epoch: int | None = None
    """Users drawn in an epoch; None: as many as there are training pairs. Source: "sampling, one epoch"."""
    max_epochs: int = 900
    """Epochs of a stage at most. Source: coarse stage, step 7."""
    evaluate_every: int = 5
    """Epochs from one evaluation to the next; the first is of the untrained model. Source: coarse stage, step 7."""
    patience: int = 5
    """Evaluations in a row without improvement that end a phase. Source: coarse stage, step 7."""
    selection_k: int = 5
    """Models are chosen by validation NDCG at this k. Source: coarse stage, step 7."""

    def __post_init__(self) -> None:
        counts = ("coarse_batch", "fine_batch", "n_negatives", "max_epochs", "evaluate_every", "patience", "selection_k")
        for name in (*counts, *(["draws_per_epoch"] if self.draws_per_epoch is not None else [])):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise SettingsError(f"{name} must be a whole number of at least 1, got {value!r}")
        for name in ("coarse_lr", "fine_lr"):
            value = getattr(self, name)
            if isinstance(value, bool) or not (isinstance(value, (int, float)) and np.isfinite(value) and value > 0):
                raise SettingsError(f"{name} must be a finite number above 0, got {value!r}")


RECIPES = {
    "published": Recipe(),
    # For `DEMO_SETTINGS` on planted pairs: few, large steps, so that both stages reach their patience in seconds.
    "demo": Recipe(coarse_batch=2048, coarse_lr=0.02, fine_batch=4096, fine_lr=0.01, max_epochs=300),
}
DEMO_SETTINGS = Settings(n_coarse=24, n_fine=12, dim=32, n_layers=2)
"""As many coarse rows as planted subgroups, half as many fine rows; everything else as published."""


def with_overrides(settings: Settings, recipe: Recipe, overrides: Sequence[str]) -> tuple[Settings, Recipe]:
    """Settings and recipe with every `name=value` put where there is such a field; values are numbers, `inf` or `None`.

    Errors: SettingsError for an unknown name or a value that the field does not take.
    """
    values: dict[str, Any] = {}
    for override in overrides:
        name, separator, text = override.partition("=")
        try:
            values[name] = json.loads(text) if text not in ("inf", "None") else {"inf": float("inf"), "None": None}[text]
        except json.JSONDecodeError as error:
            raise SettingsError(f"a setting is given as name=value with a number, got {override!r}") from error
        if not separator:
            raise SettingsError(f"a setting is given as name=value, got {override!r}")
    of_model, of_recipe = ({field.name for field in fields(kind)} for kind in (settings, recipe))
    for name in values:
        if name not in of_model | of_recipe:
            raise SettingsError(f"no setting is called {name!r}; there are {', '.join(sorted(of_model | of_recipe))}")
    return (
        replace(settings, **{name: value for name, value in values.items() if name in of_model}),
        replace(recipe, **{name: value for name, value in values.items() if name in of_recipe}),
    )
