"""Recipes: the published numbers, what is refused, and overrides by name."""

from __future__ import annotations

import math
from dataclasses import asdict, fields, replace
from typing import Any

import pytest

from c2f_ref.spec import Settings, SettingsError
from c2f_ref.training import DEMO_SETTINGS, RECIPES, Recipe, with_overrides


def test_the_published_recipe_has_the_published_numbers_and_no_others() -> None:
    """Coarse stage, step 6: lr 1e-3, batch 8192; fine stage, step 1: lr 3e-3, batch 32768. Coarse stage, step 7: NDCG@5,
    every 5 epochs, 5 evaluations of patience, 900 epochs. Sampling: n_train users, 5 negatives.
    """
    assert asdict(RECIPES["published"]) == {
        "coarse_batch": 8192,
        "coarse_lr": 0.001,
        "fine_batch": 32768,
        "fine_lr": 0.003,
        "n_negatives": 5,
        "draws_per_epoch": None,
        "max_epochs": 900,
        "evaluate_every": 5,
        "patience": 5,
        "selection_k": 5,
    }


def test_the_demo_differs_from_the_method_in_sizes_and_pace_alone() -> None:
    changed = {field.name for field in fields(Settings) if getattr(DEMO_SETTINGS, field.name) != getattr(Settings(), field.name)}
    assert changed == {"n_coarse", "n_fine", "dim", "n_layers"}
    demo, published = asdict(RECIPES["demo"]), asdict(RECIPES["published"])
    paced = {name for name in demo if demo[name] != published[name]}
    assert paced == {"coarse_batch", "coarse_lr", "fine_batch", "fine_lr", "max_epochs"}


COUNTS = ("coarse_batch", "fine_batch", "n_negatives", "max_epochs", "evaluate_every", "patience", "selection_k")


@pytest.mark.parametrize("name", [*COUNTS, "draws_per_epoch"])
@pytest.mark.parametrize("value", [0, -1, 2.0, "2", True])
def test_a_count_is_a_whole_number_of_at_least_one(name: str, value: Any) -> None:
    with pytest.raises(SettingsError, match=f"{name} must be .*whole number of at least 1, got {value!r}"):
        Recipe(**{name: value})
    assert getattr(Recipe(**{name: 1}), name) == 1


@pytest.mark.parametrize("name", ["coarse_lr", "fine_lr"])
@pytest.mark.parametrize("value", [0, -0.1, math.nan, math.inf, "0.1", None, True])
def test_a_rate_is_a_finite_number_above_zero(name: str, value: Any) -> None:
    with pytest.raises(SettingsError, match=f"{name} must be a finite number above 0"):
        Recipe(**{name: value})
    assert getattr(Recipe(**{name: 1}), name) == 1


def test_an_override_goes_where_there_is_such_a_field() -> None:
    settings, recipe = with_overrides(
        Settings(), Recipe(), ["dim=16", "threshold=inf", "fine_lr=2e-2", "draws_per_epoch=7", "pinv_rtol=0.5"]
    )
    assert settings == Settings(dim=16, threshold=math.inf, pinv_rtol=0.5)
    assert recipe == Recipe(fine_lr=0.02, draws_per_epoch=7)
    assert with_overrides(settings, recipe, ["pinv_rtol=None", "draws_per_epoch=None"]) == (
        replace(settings, pinv_rtol=None),
        Recipe(fine_lr=0.02),
    )


def test_of_two_overrides_of_one_name_the_last_counts_and_none_changes_nothing() -> None:
    assert with_overrides(Settings(), Recipe(), ["dim=16", "dim=8"])[0].dim == 8
    assert with_overrides(DEMO_SETTINGS, RECIPES["demo"], []) == (DEMO_SETTINGS, RECIPES["demo"])


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("dims=3", "no setting is called 'dims'; there are .*dim.*patience"),
        ("=3", "no setting is called ''"),
        ("dim", "name=value.*'dim'"),
        ("5", "name=value.*'5'"),
        ("dim=", "name=value.*'dim='"),
        ("dim=twelve", "name=value.*'dim=twelve'"),
        ("dim=1.5", "dim must be of type int, got 1.5"),
        ("dim=true", "dim must be of type int, got True"),
        ("dim=[3]", r"dim must be of type int, got \[3\]"),
        ("dim=None", "dim must be of type int, got None"),
        ("bridge_weight=1.5", "bridge_weight must be in"),
        ("patience=0", "patience must be"),
        ("coarse_lr=inf", "coarse_lr must be"),
        ("threshold=NaN", "threshold must be in"),
    ],
)
def test_a_wrong_override_is_one_kind_of_error(override: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        with_overrides(Settings(), Recipe(), ["n_layers=2", override])
