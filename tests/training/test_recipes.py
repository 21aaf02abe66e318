"""Recipes: the published numbers, rates by hand, what is refused, and overrides by name."""

from __future__ import annotations

import math
from dataclasses import asdict, fields, replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from c2f_ref import method
from c2f_ref.interactions import Interactions
from c2f_ref.method import Settings, SettingsError
from c2f_ref.training import DEMO_SETTINGS, RECIPES, Additions, Recipe, Schedule, with_overrides

PLAIN = Schedule(batch=8, lr=0.5, draws_per_epoch=4, n_negatives=2, max_epochs=21, evaluate_every=4)


def test_the_published_recipe_has_the_published_numbers_and_no_others() -> None:
    """Coarse: rate 1e-3, batch 8192; fine: rate 3e-3, batch 32768.

    NDCG@5 every 5 epochs, 5 evaluations of patience, 900 epochs, n_train users with 5 negatives,
    b from N(0, 1). The rate is constant, one for tables and bias; patience alone ends phase one.
    """
    shared = {"last_lr": None, "bias_lr": 1.0, "bias_scales": (1.0,), "n_negatives": 5}
    shared |= {"n_candidates": 1, "disjoint_share": 0.0, "draws_per_epoch": None}
    shared |= {"max_epochs": 900, "max_fixed_epochs": None, "evaluate_every": 5}
    shared |= {"patience": 5, "selection_k": 5}
    assert asdict(RECIPES["published"]) == {
        "coarse": {"batch": 8192, "lr": 0.001, **shared},
        "fine": {"batch": 32768, "lr": 0.003, **shared},
        "bias_start": "normal",
        "sparse_pca_solver": "lars",
    }
    for stage, paper in (("coarse", method.COARSE_SCHEDULE), ("fine", method.FINE_SCHEDULE)):
        assert asdict(paper).items() <= asdict(getattr(RECIPES["published"], stage)).items()
        assert paper.rates(7) == (paper.lr, paper.lr)


def test_the_demo_differs_from_the_method_in_sizes_and_pace_alone() -> None:
    changed = {
        name for name, value in asdict(DEMO_SETTINGS).items() if value != asdict(Settings())[name]
    }
    assert changed == {"n_coarse", "n_fine", "dim", "n_layers"}
    demo, published = asdict(RECIPES["demo"]), asdict(RECIPES["published"])
    assert demo["bias_start"] == published["bias_start"]
    for stage in ("coarse", "fine"):
        paced = {name for name, value in demo[stage].items() if value != published[stage][name]}
        assert paced == {"batch", "lr", "max_epochs"}


# Rates and counts that follow


@given(st.floats(1e-6, 10), st.floats(1e-6, 10), st.integers(1, 200))
def test_rates_go_from_the_first_to_the_last_without_turning(
    first: float, last: float, n_epochs: int
) -> None:
    """But for a few roundings: of the argument, the cosine, a product and two sums, twice."""
    schedule = replace(PLAIN, lr=first, last_lr=last, evaluate_every=1, max_epochs=n_epochs + 1)
    rates = [schedule.rates(step)[0] for step in range(schedule.max_steps + 1)]
    slack, sign = 8 * math.ulp(max(first, last)), 1 if last >= first else -1
    assert all(sign * (later - earlier) >= -slack for earlier, later in pairwise(rates))
    assert rates[0] == pytest.approx(first, abs=slack)
    assert rates[-1] == pytest.approx(last, abs=slack)


def test_the_last_evaluation_is_of_the_last_multiple_below_the_epochs() -> None:
    """Epochs are numbered from 0 to max_epochs - 1, and one is evaluated before it is trained."""
    cases = (1, 5, 0), (5, 5, 0), (6, 5, 5), (10, 5, 5), (11, 5, 10), (900, 5, 895), (7, 1, 6)
    for max_epochs, evaluate_every, last in cases:
        schedule = replace(PLAIN, max_epochs=max_epochs, evaluate_every=evaluate_every)
        assert schedule.last_evaluation == last


def test_steps_of_a_stage_by_hand() -> None:
    """Of 13 pairs: 13 * 5 = 65 triples are 8 batches of 8 and one triple more. Of 4 draws: 8."""
    pairs = Interactions.from_indices(range(13), range(13), 13, 13)
    cases = (None, 5, 8, 9), (None, 1, 13, 1), (None, 1, 12, 2), (4, 2, 8, 1), (4, 2, 7, 2)
    for draws, n_negatives, batch, steps in cases:
        changes: Any = {"batch": batch, "n_negatives": n_negatives, "draws_per_epoch": draws}
        schedule = replace(PLAIN, **changes, max_epochs=11, evaluate_every=5)
        assert Additions(schedule, pairs, method).schedule.max_steps == 10 * steps


# What is refused

COUNTS = ("batch", "n_negatives", "n_candidates", "max_epochs", "evaluate_every", "patience")
OPTIONAL = ("draws_per_epoch", "max_fixed_epochs", "last_lr")
WRONG: list[tuple[str, tuple[Any, ...]]] = [
    *((name, (0, -1, 2.0, "2", True, 2**31)) for name in (*COUNTS, "selection_k", *OPTIONAL[:2])),
    *((name, (0, -0.1, math.nan, math.inf, "0.1", True)) for name in ("lr", "last_lr", "bias_lr")),
    *((name, (None,)) for name in (*COUNTS, "lr", "bias_lr")),
    ("bias_scales", ((), 1.0, "1", None, (0,), (1.0, -1.0), (math.nan,), (math.inf,), ("1",))),
    ("disjoint_share", (1, 1.0, -0.1, math.nan, math.inf, True, None, "0.3", [0.3])),
]


@pytest.mark.parametrize(("name", "values"), WRONG)
def test_a_number_that_cannot_be_trained_with_is_refused(name: str, values: Any) -> None:
    for value in values:
        with pytest.raises(SettingsError, match=f"{name} must be .*, got "):
            replace(PLAIN, **{name: value})


def test_the_least_number_and_none_where_it_means_something_are_taken() -> None:
    for name in (*COUNTS, *OPTIONAL, "lr"):
        assert getattr(replace(PLAIN, **{name: 1}), name) == 1
    for name in OPTIONAL:
        assert getattr(replace(PLAIN, **{name: None}), name) is None
    assert replace(PLAIN, bias_scales=[1, 0.5]).bias_scales == (1, 0.5)
    assert replace(PLAIN, disjoint_share=0.999).disjoint_share == 0.999


def test_a_word_of_a_recipe_is_one_of_few() -> None:
    for name in ("bias_start", "sparse_pca_solver", "coarse", "fine"):
        for value in ("uniform", "", None, 0):
            with pytest.raises(SettingsError, match=f"{name} must be .*, got {value!r}"):
                Recipe(**{name: value})


# Overrides

UNKNOWN = ("", "coarse", "coarse.", ".lr", "rough.lr", "coarse.dim", "fine.c.lr", "fine.bias_start")


def test_an_override_goes_where_there_is_such_a_field() -> None:
    of_settings = ["dim=16", "threshold=inf", "pinv_rtol=0.5"]
    of_stages = ["fine.lr=2e-2", "coarse.draws_per_epoch=7", "coarse.bias_scales=[1, 1.25]"]
    overrides = [*of_settings, *of_stages, "bias_start=popularity"]
    settings, recipe = with_overrides(Settings(), Recipe(), overrides)
    assert settings == Settings(dim=16, threshold=math.inf, pinv_rtol=0.5)
    assert recipe == Recipe(
        coarse=Schedule(batch=8192, lr=0.001, draws_per_epoch=7, bias_scales=(1, 1.25)),
        fine=Schedule(batch=32768, lr=0.02),
        bias_start="popularity",
    )
    overrides = ["pinv_rtol=None", "both.draws_per_epoch=None", "both.lr=.5", "coarse.lr=.75"]
    settings, recipe = with_overrides(settings, recipe, overrides)
    assert (settings.pinv_rtol, recipe.coarse.draws_per_epoch) == (None, None)
    assert (recipe.coarse.lr, recipe.fine.lr) == (0.75, 0.5)
    assert with_overrides(settings, recipe, []) == (settings, recipe)


def test_every_field_can_be_overridden() -> None:
    wanted = {field.name: 1 if field.type == "int" else 0.5 for field in fields(Settings)}
    overrides = [f"{name}={value}" for name, value in wanted.items()]
    assert asdict(with_overrides(Settings(), Recipe(), overrides)[0]) == wanted
    numbers: dict[str, Any] = {field.name: 1 for field in fields(Schedule)}
    numbers |= {"disjoint_share": 0.5, "bias_scales": [2]}
    overrides = [f"both.{name}={number}" for name, number in numbers.items()]
    both = with_overrides(Settings(), Recipe(), overrides)[1]
    overrides = [each.replace("both", stage) for each in overrides for stage in ("coarse", "fine")]
    assert both == with_overrides(Settings(), Recipe(), overrides)[1]
    assert asdict(both.fine) == numbers | {"bias_scales": (2,)}


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("dims=3", r"'dims' is not a setting: did you mean dim, .*\?$"),
        ("n_courses=3", "did you mean n_coarse, "),
        ("coarse.patiense=3", r"did you mean coarse.patience, "),
        *((f"{name}=3", f"{name!r} is not a setting: did you mean ") for name in UNKNOWN),
        ("lr=3", r"^'lr' is a setting of each stage: did you mean coarse.lr, fine.lr, both.lr\?$"),
        ("dim", "name=value.*'dim'"),
        *((f"dim={value}", "dim must be ") for value in ("", "x", "1.5", "true", "[3]", "None")),
        ("bridge_weight=1.5", "bridge_weight must be "),
        ("fine.patience=0", "patience must be"),
        ("coarse.lr=inf", "lr must be"),
        ("both.lr=fast", "lr must be a finite number above 0, got 'fast'"),
        ("threshold=NaN", "threshold must be "),
        ("bias_start=3", "bias_start must be .*, got 3"),
    ],
)
def test_a_wrong_override_is_one_kind_of_error(override: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        with_overrides(Settings(), Recipe(), ["n_layers=2", override])
