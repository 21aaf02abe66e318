"""How long and how fast to train: recipes are data."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from ..spec import Settings, SettingsError

MOST = 2**31 - 1
"""The largest count that a schedule may have."""


def _is_positive(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value <= sys.float_info.max


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long and how fast to train one stage; the defaults are the published Gowalla run.

    Errors: SettingsError for a number that cannot be trained with.
    """

    batch: int
    """Triples in a step. Source: coarse stage, step 6; fine stage, step 1."""
    lr: float
    """Adam's rate in the first step. Source: coarse stage, step 6; fine stage, step 1."""
    last_lr: float | None = None
    """Adam's rate in the last possible step, reached along half a cosine; None: as the first. Published: constant."""
    bias_lr: float = 1.0
    """How many times as fast the bias learns as the tables. Published: 1."""
    bias_scales: tuple[float, ...] = (1.0,)
    """Factors of b that every evaluation tries. The best by validation NDCG is part of the model that may be chosen; training goes
    on with b as it is. Published: 1 alone."""
    n_negatives: int = 5
    """Unseen items drawn for every drawn pair. Source: "sampling, one epoch"."""
    n_candidates: int = 1
    """Unseen items of which the best-scored one becomes a triple's negative, in the second phase: see `hardest_negatives`. Scores
    follow from embeddings that are at most 9 steps old. Published: 1, so as drawn."""
    disjoint_share: float = 0.0
    """Share of the training pairs that an epoch of the second phase learns from and has not in its graph, drawn anew for each.
    Published: 0, so every epoch has all pairs in its graph and learns from all of them. Source: Zhang and Chen, NeurIPS 2018."""
    draws_per_epoch: int | None = None
    """Users drawn in an epoch; None: as many as there are training pairs. Source: "sampling, one epoch"."""
    max_epochs: int = 900
    """Epochs at most. Source: coarse stage, step 7."""
    max_fixed_epochs: int | None = None
    """Epochs after which the assignment is refreshed even without patience running out; None: no such limit, as published."""
    evaluate_every: int = 5
    """Epochs from one evaluation to the next; the first is of the untrained model. Source: coarse stage, step 7."""
    patience: int = 5
    """Evaluations in a row without improvement that end a phase. Source: coarse stage, step 7."""
    selection_k: int = 5
    """Models are chosen by validation NDCG at this k. Source: coarse stage, step 7."""

    def __post_init__(self) -> None:
        counts = ("batch", "n_negatives", "n_candidates", "max_epochs", "evaluate_every", "patience", "selection_k")
        optional = [name for name in ("draws_per_epoch", "max_fixed_epochs") if getattr(self, name) is not None]
        for name in (*counts, *optional):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST:
                raise SettingsError(f"{name} must be a whole number from 1 to {MOST}, got {value!r}")
        for name in ("lr", "bias_lr", *(["last_lr"] if self.last_lr is not None else [])):
            if not _is_positive(getattr(self, name)):
                raise SettingsError(f"{name} must be a finite number above 0, got {getattr(self, name)!r}")
        share = self.disjoint_share
        if not share == 0 and not (_is_positive(share) and share < 1):
            raise SettingsError(f"disjoint_share must be a number of at least 0 and below 1, got {share!r}")
        scales = self.bias_scales
        if not isinstance(scales, (list, tuple)) or not scales or not all(map(_is_positive, scales)):
            raise SettingsError(f"bias_scales must be one or more finite numbers above 0, got {scales!r}")
        object.__setattr__(self, "bias_scales", tuple(scales))  # JSON has lists alone

    def lr_at(self, step: int, max_steps: int) -> float:
        """Adam's rate in this step, counted from 0.

        last + (first - last) (1 + cos(pi step / max_steps)) / 2
        """
        if self.last_lr is None:
            return self.lr
        return self.last_lr + (self.lr - self.last_lr) * 0.5 * (1.0 + math.cos(math.pi * step / max_steps))

    @property
    def last_evaluation(self) -> int:
        """The last epoch before whose training there is an evaluation; later training could choose no model."""
        return (self.max_epochs - 1) // self.evaluate_every * self.evaluate_every

    def steps_per_epoch(self, n_pairs: int) -> int:
        """Steps of an epoch on so many training pairs, at most: users without a pair or without unseen items make it fewer."""
        return -(-(self.draws_per_epoch or n_pairs) * self.n_negatives // self.batch)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to train both stages; the defaults are the published Gowalla run. A recipe is data.

    Errors: SettingsError for a number that cannot be trained with.
    """

    coarse: Schedule = Schedule(batch=8192, lr=1e-3)
    """The coarse stage."""
    fine: Schedule = Schedule(batch=32768, lr=3e-3)
    """The fine stage."""
    bias_start: str = "normal"
    """b at first: "normal", from N(0, 1) as published; "zero"; or "popularity", the logarithm of 1 + an item's training pairs."""

    sparse_pca_method: str = "lars"
    """How scikit-learn solves the sparse PCA that E_f starts from: "lars" as published, or "cd", which is faster."""

    def __post_init__(self) -> None:
        for stage in ("coarse", "fine"):
            if not isinstance(getattr(self, stage), Schedule):
                raise SettingsError(f"{stage} must be a Schedule, got {getattr(self, stage)!r}")
        if self.sparse_pca_method not in ("lars", "cd"):
            raise SettingsError(f'sparse_pca_method must be "lars" or "cd", got {self.sparse_pca_method!r}')
        if self.bias_start not in ("normal", "zero", "popularity"):
            raise SettingsError(f'bias_start must be "normal", "zero" or "popularity", got {self.bias_start!r}')


RECIPES = {
    "published": Recipe(),
    # The same model on two cores in minutes: large batches with one negative each, a bias that starts from popularity instead of
    # from noise, and rates that are very high and fall along a cosine to almost nothing. At the first refreshes coarse rows are
    # then large and S_c small, which leaves no row without an entity, and 100 steps with a refreshed S_c lead as far as 800 at a
    # tenth of the rate. In the coarse stage a negative is the hardest of eight; an epoch learns from pairs that its graph is
    # without, as those are that have to be found; and an evaluation tries factors of the bias, beside which the embeddings come
    # out too large. The fine stage, whose bias learns again beside frozen coarse rows, does best with all of this as published.
    "laptop": Recipe(
        coarse=Schedule(
            batch=65536,
            lr=1.0,
            last_lr=0.001,
            bias_lr=0.1,
            bias_scales=(1.0, 1.25, 1.5, 1.75, 2.0),
            n_negatives=1,
            n_candidates=8,
            disjoint_share=0.3,
            draws_per_epoch=50 * 65536,
            max_epochs=13,
            max_fixed_epochs=4,
            evaluate_every=2,
            selection_k=20,
        ),
        fine=Schedule(
            batch=65536,
            lr=0.04,
            last_lr=0.0005,
            bias_lr=0.5,
            bias_scales=(0.9, 1.0, 1.1, 1.2, 1.3),
            n_negatives=1,
            draws_per_epoch=50 * 65536,
            max_epochs=17,
            max_fixed_epochs=4,
            evaluate_every=2,
            selection_k=20,
        ),
        bias_start="popularity",
        sparse_pca_method="cd",
    ),
    # For `DEMO_SETTINGS` on planted pairs: few, large steps, so that both stages reach their patience in seconds.
    "demo": Recipe(
        coarse=Schedule(batch=2048, lr=0.02, max_epochs=300),
        fine=Schedule(batch=4096, lr=0.01, max_epochs=300),
    ),
}
DEMO_SETTINGS = Settings(n_coarse=24, n_fine=12, dim=32, n_layers=2)
"""As many coarse rows as planted subgroups, half as many fine rows; everything else as published."""
STAGES = {"coarse", "fine"}
"""Fields of `Recipe` that hold a `Schedule`."""


def with_overrides(settings: Settings, recipe: Recipe, overrides: Sequence[str]) -> tuple[Settings, Recipe]:
    """Settings and recipe with every `name=value` put where there is such a field.

    Values are numbers, words, lists, `inf` or `None`.
    A field of `Schedule` is set in both stages, or in one with `coarse.` or `fine.` before its name.

    Errors: SettingsError for an unknown name or a value that the field does not take.
    """
    changes: dict[str, dict[str, Any]] = {"settings": {}, "recipe": {}, "coarse": {}, "fine": {}}
    for override in overrides:
        name, separator, text = override.partition("=")
        if not separator:
            raise SettingsError(f"a setting is given as name=value, got {override!r}")
        stage, dot, of_stage = name.rpartition(".")
        if name in _names(settings):
            changes["settings"][name] = _value_of(text)
        elif name in _names(recipe) - STAGES:
            changes["recipe"][name] = _value_of(text)
        elif of_stage in _names(recipe.coarse) and (stage in STAGES or not dot):
            for changed in [stage] if dot else STAGES:
                changes[changed][of_stage] = _value_of(text)
        else:
            known = sorted({*_names(settings), *_names(recipe), *_names(recipe.coarse)} - STAGES)
            raise SettingsError(f"no setting is called {name!r}; there are {', '.join(known)}")
    stages = {stage: replace(getattr(recipe, stage), **changes[stage]) for stage in STAGES}
    return replace(settings, **changes["settings"]), replace(recipe, **stages, **changes["recipe"])


def _names(of: Any) -> set[str]:
    return {field.name for field in fields(of)}


def _value_of(text: str) -> Any:
    if text == "None":
        return None
    for read in (json.loads, float):  # `.1` and `inf` are no JSON
        try:
            return read(text)
        except (ValueError, RecursionError):
            continue
    return text
