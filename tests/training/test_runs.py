"""Both stages from one seed: what they start from, what the second takes over, who computes, and what is left."""

from __future__ import annotations

import importlib
import math
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from support.implementations import FAST, fast
from training.tiny import (
    RECIPE,
    SETTINGS,
    assert_both_phases,
    bytes_of,
    content_of_run,
    content_of_state,
    tiny_split,
    with_schedules,
)

import c2f_ref
from c2f_ref import spec
from c2f_ref.bundle import load_model, save_model
from c2f_ref.training import Estimate, State, embed_model, evaluate_model, stages, to_model, train

SPLIT = tiny_split()


# Where the bias begins


UNSOLD = replace(SPLIT, train=SPLIT.train.select(SPLIT.train.items != 7))
"""One item has no training pair."""


def first_tables(bias_start: str) -> tuple[Any, Any]:
    """E_c and b as the coarse stage begins: with a single epoch, which is evaluated and not trained, they are the result."""
    recipe = with_schedules(replace(RECIPE, bias_start=bias_start), max_epochs=1)
    coarse, _ = train(UNSOLD, replace(SETTINGS, n_fine=0), recipe, seed=5, ops=spec)
    table, bias = coarse.best.tables
    return table, bias


def test_the_published_start_of_the_bias_is_drawn() -> None:
    """Straight from the specification: partition, assignment and tables have one stream, the triples another."""
    start_rng, _ = np.random.default_rng(5).spawn(2)[0].spawn(2)
    graph = spec.bipartite(UNSOLD.train.users, UNSOLD.train.items, 30, 40)
    labels = spec.partition(graph, SETTINGS.n_coarse, rng=start_rng)
    spec.start_coarse_assignment(labels, SETTINGS, rng=start_rng)
    assert bytes_of(*first_tables("normal")) == bytes_of(*spec.start_coarse(70, SETTINGS, rng=start_rng))


def test_a_bias_may_begin_at_zero() -> None:
    assert bytes_of(first_tables("zero")[1]) == bytes_of(np.zeros(70))


def test_a_bias_may_begin_with_the_popularity_of_items() -> None:
    """The logarithm of 1 + the training pairs of an item, 0 for one without; users begin at 0, as their bias cancels."""
    bias = first_tables("popularity")[1]
    counts = Counter(UNSOLD.train.items.tolist())
    assert bias[:30].tolist() == [0.0] * 30
    assert bias[30:] == pytest.approx([math.log(1 + counts[item]) for item in range(40)], rel=1e-15)
    assert counts[7] == bias[30 + 7] == 0
    assert len(set(counts.values())) > 2


def test_the_start_of_the_bias_changes_no_table() -> None:
    assert len({bytes_of(first_tables(start)[0]) for start in ("normal", "zero", "popularity")}) == 1


# From one stage to the next


def test_the_fine_stage_starts_from_the_chosen_coarse_model_of_the_same_split() -> None:
    """D16: another seed trains another coarse model, and its fine stage takes over that one; the split stays the same."""
    models = []
    for seed in (0, 1):
        coarse, fine = train(SPLIT, SETTINGS, RECIPE, seed=seed)
        assert fine is not None
        model = to_model(SPLIT, SETTINGS, coarse.best, fine.best)
        for kept, chosen in ((model.coarse, coarse.best.tables[0]), (model.coarse_assignment.data, coarse.best.assignment.data)):
            assert np.array_equal(kept, chosen)
        assert model.fine is not None
        assert model.provenance["split"] == SPLIT.describe()
        models.append(model)
    assert not np.array_equal(models[0].coarse, models[1].coarse)


def test_each_stage_has_a_schedule_of_its_own() -> None:
    recipe = replace(RECIPE, fine=replace(RECIPE.fine, evaluate_every=3, max_epochs=7, batch=10**6))
    coarse, fine = train(SPLIT, SETTINGS, recipe, seed=0)
    assert fine is not None
    assert {e.epoch % 2 for e in coarse.evaluations} == {0}
    assert [(e.epoch, e.n_steps) for e in fine.evaluations] == [(0, 0), (3, 3), (6, 6)]


@pytest.mark.parametrize("stage", ["coarse", "fine"])
def test_a_refreshed_plan_is_told_of_the_one_before(stage: str) -> None:
    """An implementation may take over what it kept for the graph: the first plan has no forerunner, each later one the last."""
    made: list[Any] = []

    def prepare(*given: Any) -> Any:
        assert given[-1] is (made[-1] if made else None)
        made.append(getattr(spec, f"prepare_{stage}")(*given))
        return made[-1]

    ops = ModuleType("ops")
    vars(ops).update({name: getattr(spec, name) for name in spec.CONTRACT} | {f"prepare_{stage}": prepare})
    train(SPLIT, SETTINGS, RECIPE, seed=0, ops=ops)
    assert len(made) > 1


# Who watches


@pytest.mark.parametrize("ops", [spec, FAST])
def test_an_estimate_leaves_no_trace(ops: ModuleType) -> None:
    """State, generator and result are those of a run that was not estimated."""
    runs, estimates = [], list[Estimate]()
    for hook in (None, estimates.append):
        states: list[State] = []
        results = train(SPLIT, SETTINGS, RECIPE, seed=0, ops=ops, on_estimate=hook, on_state=states.append)
        runs.append((content_of_run(results), [content_of_state(state) for state in states]))
    assert runs[0] == runs[1]
    assert [estimate.stage for estimate in estimates] == ["coarse", "fine"]
    for estimate, result in zip(estimates, results, strict=True):
        assert result is not None
        assert_both_phases(result)
        assert estimate.max_steps == result.evaluations[0].max_steps
        # Epochs 0, 2, ..., 58 of 60.
        assert estimate.max_evaluations == 30
        assert 0 < estimate.step_seconds < estimate.seconds
        assert 0 < estimate.evaluation_seconds < estimate.seconds


# Who computes


@pytest.mark.numba
def test_training_is_compiled_and_in_float32_unless_told_otherwise() -> None:
    """Refreshed assignments have the type of the graph; tables are float64 either way."""
    results = {
        name: train(SPLIT, SETTINGS, RECIPE, seed=0, **options)
        for name, options in (
            ("default", {}),
            ("float32", {"ops": fast, "dtype": np.float32}),
            ("float64", {"ops": fast, "dtype": np.float64}),
            ("spec", {"ops": spec}),
        )
    }
    contents = {name: content_of_run(result) for name, result in results.items()}
    assert contents["default"] == contents["float32"]
    assert contents["default"] != contents["float64"] != contents["spec"]
    for name, dtype in (("default", np.float32), ("float64", np.float64), ("spec", np.float64)):
        for result in results[name]:
            assert result is not None
            assert_both_phases(result)
            assert result.best.assignment.dtype == dtype
            assert {table.dtype for table in result.best.tables} == {np.dtype(np.float64)}


@pytest.mark.parametrize(("dtype", "given"), [(None, np.float32), (np.float64, np.float64)])
def test_an_implementation_is_given_graphs_in_float32_unless_told_otherwise(dtype: Any, given: Any) -> None:
    graphs: list[Any] = []
    theirs = ModuleType("theirs")
    vars(theirs).update({name: getattr(spec, name) for name in spec.CONTRACT})
    for name in ("prepare_coarse", "prepare_fine"):
        prepare = getattr(spec, name)
        setattr(theirs, name, lambda graph, *rest, prepare=prepare: graphs.append(graph.dtype) or prepare(graph, *rest))
    train(SPLIT, SETTINGS, with_schedules(RECIPE, max_epochs=1), seed=0, ops=theirs, dtype=dtype)
    assert graphs == [given] * 2


@pytest.fixture
def _unloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if `c2f_ref.fast` had never been imported; what is imported meanwhile is forgotten again."""
    for name in [name for name in sys.modules if name == "c2f_ref.fast" or name.startswith("c2f_ref.fast.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr(c2f_ref, "fast")


@pytest.mark.numba
@pytest.mark.usefixtures("_unloaded")
def test_where_numba_is_not_installed_the_specification_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numba", None)
    assert stages.default_ops() is spec
    expected = content_of_run(train(SPLIT, SETTINGS, RECIPE, seed=0, ops=spec))
    assert content_of_run(train(SPLIT, SETTINGS, RECIPE, seed=0)) == expected


@pytest.mark.numba
@pytest.mark.usefixtures("_unloaded")
@pytest.mark.parametrize("missing", ["llvmlite", "c2f_ref.fast.kernels"])
def test_another_module_that_cannot_be_imported_is_told(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    """A numba that is there and broken, or a package that is, must not be taken for one that is not installed."""
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ModuleNotFoundError, match=missing):
        stages.default_ops()


@pytest.mark.numba
def test_the_compiled_implementation_is_the_default_where_it_can_be_loaded() -> None:
    assert stages.default_ops() is importlib.import_module("c2f_ref.fast")


# What is left


@pytest.mark.parametrize("options", [{}, {"ops": spec}], ids=["default", "spec"])
def test_the_model_that_training_leaves_can_be_saved_and_loaded(tmp_path: Path, options: Any) -> None:
    """Byte for byte the same embeddings and metrics, with and without the fine stage."""
    coarse, fine = train(SPLIT, SETTINGS, RECIPE, seed=0, **options)
    assert fine is not None
    for chosen in (None, fine.best):
        model = to_model(SPLIT, SETTINGS, coarse.best, chosen)
        save_model(tmp_path / "model.npz", model)
        loaded = load_model(tmp_path / "model.npz")
        assert bytes_of(embed_model(loaded)) == bytes_of(embed_model(model))
        held_out = SPLIT.test.matrix()
        assert evaluate_model(loaded, held_out, (5, 10)) == evaluate_model(model, held_out, (5, 10))
