"""Recipes: the published numbers, rates by hand, what is refused, and overrides by name."""

from __future__ import annotations

import math
from dataclasses import asdict, fields, replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from c2f_ref.spec import Settings, SettingsError
from c2f_ref.training import DEMO_SETTINGS, RECIPES, Recipe, Schedule, with_overrides

PLAIN = Schedule(batch=8, lr=0.5)


def test_the_published_recipe_has_the_published_numbers_and_no_others() -> None:
    """Coarse stage, step 6: lr 1e-3, batch 8192; fine stage, step 1: lr 3e-3, batch 32768. Coarse stage, step 7: NDCG@5,
    every 5 epochs, 5 evaluations of patience, 900 epochs. Sampling: n_train users, 5 negatives. Coarse stage, step 1: b from
    N(0, 1). The rate is constant, one and the same for tables and bias, and nothing but patience ends the first phase.
    """
    shared = {
        "last_lr": None,
        "bias_lr": 1.0,
        "bias_scales": (1.0,),
        "n_negatives": 5,
        "n_candidates": 1,
        "disjoint_share": 0.0,
        "draws_per_epoch": None,
        "max_epochs": 900,
        "max_fixed_epochs": None,
        "evaluate_every": 5,
        "patience": 5,
        "selection_k": 5,
    }
    assert asdict(RECIPES["published"]) == {
        "coarse": {"batch": 8192, "lr": 0.001, **shared},
        "fine": {"batch": 32768, "lr": 0.003, **shared},
        "bias_start": "normal",
        "sparse_pca_method": "lars",
    }


def test_the_demo_differs_from_the_method_in_sizes_and_pace_alone() -> None:
    changed = {field.name for field in fields(Settings) if getattr(DEMO_SETTINGS, field.name) != getattr(Settings(), field.name)}
    assert changed == {"n_coarse", "n_fine", "dim", "n_layers"}
    demo, published = asdict(RECIPES["demo"]), asdict(RECIPES["published"])
    assert demo["bias_start"] == published["bias_start"]
    for stage in ("coarse", "fine"):
        paced = {name for name in demo[stage] if demo[stage][name] != published[stage][name]}
        assert paced == {"batch", "lr", "max_epochs"}


# Rates


def test_a_rate_without_a_last_one_is_constant() -> None:
    assert {PLAIN.lr_at(step, 7) for step in range(7)} == {0.5}
    assert PLAIN.lr_at(0, 0) == 0.5


def test_rates_by_hand() -> None:
    """From 0.5 to 0.125 over 4 steps. The cosine at 0, 1/4, 2/4, 3/4 and 4/4 of pi is 1, r, 0, -r, -1 with r = sqrt(1/2); the
    rate is 0.3125 + 0.1875 times it.
    """
    schedule = replace(PLAIN, last_lr=0.125)
    root = math.sqrt(0.5)
    expected = [0.5, 0.3125 + 0.1875 * root, 0.3125, 0.3125 - 0.1875 * root, 0.125]
    assert [schedule.lr_at(step, 4) for step in range(5)] == pytest.approx(expected, rel=1e-15)


def test_a_rate_may_rise() -> None:
    """From 0.5 to 1.5: 1 in the middle, 1.5 at the end."""
    schedule = replace(PLAIN, last_lr=1.5)
    assert [schedule.lr_at(step, 2) for step in range(3)] == pytest.approx([0.5, 1.0, 1.5], rel=1e-15)


@given(st.floats(1e-6, 10), st.floats(1e-6, 10), st.integers(1, 1000))
def test_rates_go_from_the_first_to_the_last_without_turning(first: float, last: float, max_steps: int) -> None:
    """But for a few roundings: of the argument, the cosine, a product and two sums, in each of two rates."""
    schedule = replace(PLAIN, lr=first, last_lr=last)
    rates = [schedule.lr_at(step, max_steps) for step in range(max_steps + 1)]
    slack = 8 * math.ulp(max(first, last))
    sign = 1 if last >= first else -1
    assert all(sign * (later - earlier) >= -slack for earlier, later in pairwise(rates))
    assert rates[0] == pytest.approx(first, abs=slack)
    assert rates[-1] == pytest.approx(last, abs=slack)


# Counts that follow


@pytest.mark.parametrize(
    ("max_epochs", "evaluate_every", "last"),
    [(1, 5, 0), (5, 5, 0), (6, 5, 5), (10, 5, 5), (11, 5, 10), (900, 5, 895), (7, 1, 6), (1, 1, 0)],
)
def test_the_last_evaluation_is_of_the_last_multiple_below_the_epochs(max_epochs: int, evaluate_every: int, last: int) -> None:
    """Epochs are numbered from 0 to max_epochs - 1, and one is evaluated before it is trained."""
    schedule = replace(PLAIN, max_epochs=max_epochs, evaluate_every=evaluate_every)
    assert schedule.last_evaluation == last
    assert schedule.last_evaluation == max(epoch for epoch in range(max_epochs) if epoch % evaluate_every == 0)


@pytest.mark.parametrize(
    ("draws", "n_negatives", "batch", "steps"),
    [(None, 5, 8, 9), (None, 1, 13, 1), (None, 1, 12, 2), (4, 2, 8, 1), (4, 2, 7, 2), (1, 1, 100, 1)],
)
def test_steps_of_an_epoch_by_hand(draws: int | None, n_negatives: int, batch: int, steps: int) -> None:
    """Of 13 pairs: 13 * 5 = 65 triples are 8 batches of 8 and one triple more. Of 4 draws: 8 triples."""
    schedule = replace(PLAIN, batch=batch, n_negatives=n_negatives, draws_per_epoch=draws)
    assert schedule.steps_per_epoch(13) == steps


# What is refused

COUNTS = ("batch", "n_negatives", "max_epochs", "evaluate_every", "patience", "selection_k")
OPTIONAL_COUNTS = ("draws_per_epoch", "max_fixed_epochs")


@pytest.mark.parametrize("name", [*COUNTS, *OPTIONAL_COUNTS])
@pytest.mark.parametrize("value", [0, -1, 2.0, "2", True, 2**31, 10**30])
def test_a_count_is_a_whole_number_of_at_least_one(name: str, value: Any) -> None:
    with pytest.raises(SettingsError, match=f"{name} must be a whole number from 1 to 2147483647, got {value!r}"):
        replace(PLAIN, **{name: value})
    assert getattr(replace(PLAIN, **{name: 1}), name) == 1


@pytest.mark.parametrize("name", ["lr", "last_lr", "bias_lr"])
@pytest.mark.parametrize("value", [0, -0.1, math.nan, math.inf, "0.1", True])
def test_a_rate_is_a_finite_number_above_zero(name: str, value: Any) -> None:
    with pytest.raises(SettingsError, match=f"{name} must be a finite number above 0, got {value!r}"):
        replace(PLAIN, **{name: value})
    assert getattr(replace(PLAIN, **{name: 1}), name) == 1


@pytest.mark.parametrize("value", [(), 1.0, "1", None, (0,), (1.0, -1.0), (math.nan,), (math.inf,), ("1",), (True,)])
def test_factors_of_the_bias_are_finite_numbers_above_zero(value: Any) -> None:
    with pytest.raises(SettingsError, match="bias_scales must be one or more finite numbers above 0, got "):
        replace(PLAIN, bias_scales=value)
    assert replace(PLAIN, bias_scales=[1, 0.5]).bias_scales == (1, 0.5)


@pytest.mark.parametrize("value", [1, 1.0, -0.1, math.nan, math.inf, True, None, "0.3", [0.3]])
def test_a_disjoint_share_is_below_one_and_not_below_zero(value: Any) -> None:
    with pytest.raises(SettingsError, match="disjoint_share must be a number of at least 0 and below 1, got "):
        replace(PLAIN, disjoint_share=value)
    assert replace(PLAIN, disjoint_share=0.999).disjoint_share == 0.999


def test_factors_of_the_bias_can_be_given_as_a_list() -> None:
    _, recipe = with_overrides(Settings(), Recipe(), ["fine.bias_scales=[1, 1.25]"])
    assert (recipe.coarse.bias_scales, recipe.fine.bias_scales) == ((1.0,), (1, 1.25))


@pytest.mark.parametrize("name", [*COUNTS, "lr", "bias_lr"])
def test_what_is_not_optional_is_not_none(name: str) -> None:
    with pytest.raises(SettingsError, match=f"{name} must be .*, got None"):
        replace(PLAIN, **{name: None})


@pytest.mark.parametrize("name", [*OPTIONAL_COUNTS, "last_lr"])
def test_what_is_optional_may_be_none(name: str) -> None:
    assert getattr(replace(PLAIN, **{name: 1}), name) == 1
    assert getattr(replace(PLAIN, **{name: None}), name) is None


@pytest.mark.parametrize("value", ["uniform", "", "Normal", None, 0])
def test_a_start_of_the_bias_is_one_of_three(value: Any) -> None:
    with pytest.raises(SettingsError, match=f'bias_start must be "normal", "zero" or "popularity", got {value!r}'):
        Recipe(bias_start=value)
    for known in ("normal", "zero", "popularity"):
        assert Recipe(bias_start=known).bias_start == known


# Overrides


def test_an_override_goes_where_there_is_such_a_field() -> None:
    settings, recipe = with_overrides(
        Settings(),
        Recipe(),
        ["dim=16", "threshold=inf", "fine.lr=2e-2", "coarse.draws_per_epoch=7", "pinv_rtol=0.5", "bias_start=popularity"],
    )
    assert settings == Settings(dim=16, threshold=math.inf, pinv_rtol=0.5)
    assert recipe == Recipe(
        coarse=Schedule(batch=8192, lr=0.001, draws_per_epoch=7), fine=Schedule(batch=32768, lr=0.02), bias_start="popularity"
    )
    assert with_overrides(settings, recipe, ["pinv_rtol=None", "draws_per_epoch=None"]) == (
        replace(settings, pinv_rtol=None),
        replace(recipe, coarse=Schedule(batch=8192, lr=0.001)),
    )


def test_a_field_of_a_schedule_without_a_stage_is_set_in_both() -> None:
    _, recipe = with_overrides(Settings(), Recipe(), ["lr=.25", "last_lr=1.25e-1", "max_fixed_epochs=9"])
    changes = {"lr": 0.25, "last_lr": 0.125, "max_fixed_epochs": 9}
    assert recipe == Recipe(coarse=replace(Recipe().coarse, **changes), fine=replace(Recipe().fine, **changes))


def test_of_two_overrides_of_one_field_the_last_counts_and_none_changes_nothing() -> None:
    assert with_overrides(Settings(), Recipe(), ["dim=16", "dim=8"])[0].dim == 8
    for overrides, expected in ((["lr=0.5", "coarse.lr=0.25"], (0.25, 0.5)), (["coarse.lr=0.25", "lr=0.5"], (0.5, 0.5))):
        recipe = with_overrides(Settings(), Recipe(), overrides)[1]
        assert (recipe.coarse.lr, recipe.fine.lr) == expected
    assert with_overrides(DEMO_SETTINGS, RECIPES["demo"], []) == (DEMO_SETTINGS, RECIPES["demo"])


def test_every_field_can_be_overridden() -> None:
    wanted = {field.name: 1 if field.type == "int" else 0.5 for field in fields(Settings)}
    assert asdict(with_overrides(Settings(), Recipe(), [f"{name}={value}" for name, value in wanted.items()])[0]) == wanted
    numbers: dict[str, Any] = {field.name: 1 for field in fields(Schedule)} | {"disjoint_share": 0.5}
    del numbers["bias_scales"]  # a list: it has a test of its own
    both = with_overrides(Settings(), Recipe(), [f"{name}={number}" for name, number in numbers.items()])[1]
    one_by_one = [f"{stage}.{name}={number}" for name, number in numbers.items() for stage in ("coarse", "fine")]
    assert both == with_overrides(Settings(), Recipe(), one_by_one)[1]
    for schedule in (both.coarse, both.fine):
        assert {name: getattr(schedule, name) for name in numbers} == numbers


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("dims=3", "no setting is called 'dims'; there are .*bias_start.*dim.*lr.*patience"),
        ("=3", "no setting is called ''"),
        ("coarse=3", "no setting is called 'coarse'; there are (?!.*\\b(coarse|fine),)"),
        ("coarse.=3", "no setting is called 'coarse.'"),
        (".lr=3", "no setting is called '.lr'"),
        ("rough.lr=3", "no setting is called 'rough.lr'"),
        ("fine.coarse.lr=3", "no setting is called 'fine.coarse.lr'"),
        ("coarse.dim=3", "no setting is called 'coarse.dim'"),
        ("fine.bias_start=zero", "no setting is called 'fine.bias_start'"),
        ("coarse_lr=3", "no setting is called 'coarse_lr'"),
        ("dim", "name=value.*'dim'"),
        ("5", "name=value.*'5'"),
        ("dim=", "dim must be of type int, got ''"),
        ("dim=twelve", "dim must be of type int, got 'twelve'"),
        ("dim=1.5", "dim must be of type int, got 1.5"),
        ("dim=true", "dim must be of type int, got True"),
        ("dim=[3]", r"dim must be of type int, got \[3\]"),
        ("dim=None", "dim must be of type int, got None"),
        ("bridge_weight=1.5", "bridge_weight must be in"),
        ("patience=0", "patience must be"),
        ("fine.patience=0", "patience must be"),
        ("coarse.lr=inf", "lr must be"),
        ("lr=fast", "lr must be a finite number above 0, got 'fast'"),
        ("threshold=NaN", "threshold must be in"),
        ("bias_start=3", "bias_start must be .*, got 3"),
    ],
)
def test_a_wrong_override_is_one_kind_of_error(override: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        with_overrides(Settings(), Recipe(), ["n_layers=2", override])
