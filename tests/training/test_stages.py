"""Both stages as a whole: against straight-line code, from one seed, on someone else's code."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from time import sleep
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from scipy import sparse
from support.implementations import FAST, fast
from training.tiny import RECIPE, SETTINGS, content_of, implementation, tiny_split, with_schedules

from c2f_ref import method
from c2f_ref.evaluation import embed_model, evaluate_embeddings
from c2f_ref.interactions import Interactions, Split, split_given
from c2f_ref.method import MethodError, Settings, SettingsError, Snapshot, State
from c2f_ref.model import load_model, save_model
from c2f_ref.partition import partition
from c2f_ref.runtime import load_implementation, one_blas_thread
from c2f_ref.training import Recipe, Trainer, hardest_negatives, to_model, train

SEED, SPLIT, STAGES = 3, tiny_split(), ("coarse", "fine")
N_USERS = SPLIT.train.n_users


def graph_of(split: Split) -> sparse.csr_array:
    """The bipartite graph of its training pairs."""
    return method.bipartite(split.train.users, split.train.items, N_USERS, 40)


GRAPH = graph_of(SPLIT)
SHORT = with_schedules(RECIPE, patience=1)
ONCE = with_schedules(RECIPE, max_epochs=1)
IMPLEMENTATIONS = pytest.mark.parametrize("ops", [pytest.param(method, id="method"), FAST])


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Straight-line code must round as training does, for any number of threads."""
    with one_blas_thread():
        yield


def both(
    split: Split = SPLIT, settings: Settings = SETTINGS, **options: Any
) -> tuple[State, State]:
    """Both stages, by the method unless told otherwise."""
    given = {"recipe": RECIPE, "seed": SEED, "ops": method} | options
    coarse, fine = train(split, settings, **given)
    assert fine is not None
    return coarse, fine


@pytest.fixture(scope="module")
def trained() -> tuple[State, State]:
    return both()


@cache
def short_run(ops: ModuleType, dtype: Any = np.float64) -> tuple[State, State]:
    """Tests share it: nothing writes to a state."""
    return both(recipe=SHORT, ops=ops, dtype=dtype)


# By definition


def by_hand(
    name: str, recipe: Recipe, tables: Any, assignment: Any, frozen: Any = ()
) -> list[list[Snapshot]]:
    """Every evaluated model of phase one and of phase two; nothing is kept between batches.

    `frozen` has (S_c, E_c) in the fine stage.
    """
    seen, held_out, schedule = SPLIT.train.matrix(), SPLIT.valid.matrix(), getattr(recipe, name)
    adjacency = method.normalise(GRAPH)
    rng = streams(name)[1]
    prepare, embed_by, grad_by, refresh_by = (
        getattr(method, each.format(name))
        for each in ("prepare_{}", "embed_{}", "{}_loss_and_grad", "refresh_{}")
    )
    per_row = SETTINGS.fine_per_coarse if frozen else SETTINGS.coarse_per_entity

    def plan() -> Any:
        return prepare(adjacency, *frozen[:1], assignment, N_USERS, SETTINGS)

    def embed() -> Any:
        return embed_by(plan(), *frozen[1:], tables[0])

    users, k = np.flatnonzero(np.diff(held_out.indptr)), schedule.selection_k
    states = [method.start_adam(table) for table in tables]
    epoch, n_steps = 0, 0
    phases: list[list[Snapshot]] = [[], []]
    for phase in phases:
        while True:
            if epoch % schedule.evaluate_every == 0 and epoch not in {m.epoch for m in phases[0]}:
                ranked, _ = method.rank_items(embed()[0], tables[-1], N_USERS, users, seen, k)
                ndcg = float(np.mean(method.ndcg_at_k(ranked, held_out[users], k)))
                phase.append(Snapshot(tables, assignment, ndcg, epoch, n_steps))
                figures = [model.ndcg for model in phase]
                if len(figures) - 1 - figures.index(max(figures)) == schedule.patience:
                    break
            drawn = method.sample_triples(seen, seen.nnz, schedule.n_negatives, rng=rng)
            for start in range(0, len(drawn.users), schedule.batch):
                triples = method.Triples(*(p[start : start + schedule.batch] for p in drawn))
                if phase is phases[1]:
                    if start % (10 * schedule.batch) == 0:
                        before = embed()[0]
                    hard = before, tables[-1], seen, schedule.n_candidates
                    triples = hardest_negatives(triples, *hard)
                grads = grad_by(plan(), *frozen[1:], *tables, triples)[-2:]
                if phase is phases[1] and start == 0:
                    assignment = refresh_by(*embed(), per_row)
                each = zip(tables, grads, states, strict=True)
                steps = [method.adam_step(*one, schedule.lr, SETTINGS) for one in each]
                tables, states = tuple(table for table, _ in steps), [state for _, state in steps]
                n_steps += 1
            epoch += 1
    return phases


def assert_same_run(state: State, phases: list[list[Snapshot]]) -> None:
    assert [e.phase for e in state.evaluations[:: len(state.evaluations) - 1]] == [1, 2]
    assert state.epoch < RECIPE.coarse.max_epochs - 1  # patience ended it
    assert [(e.phase, e.epoch, e.n_steps, e.ndcg) for e in state.evaluations] == [
        (number, model.epoch, model.n_steps, model.ndcg)
        for number, phase in enumerate(phases, 1)
        for model in phase
    ]
    fixed, best = (max(phase, key=lambda model: model.ndcg) for phase in phases)  # first highest
    assert content_of((state.best_fixed, state.best)) == content_of((fixed, best))
    assert state.n_steps == phases[1][-1].n_steps
    # The comparison would say little about a stage that stands still.
    assert best.epoch > fixed.epoch > 0
    assert (best.assignment != fixed.assignment).nnz
    for now, before in zip(best.tables, fixed.tables, strict=True):
        assert not np.array_equal(now, before)


def streams(stage: str) -> tuple[np.random.Generator, np.random.Generator]:
    """Those of the start and of the triples of a stage, whatever the other ones have drawn."""
    start, sample = np.random.default_rng(SEED).spawn(2)[STAGES.index(stage)].spawn(2)
    return start, sample


@pytest.mark.parametrize("n_candidates", [1, 3])
def test_the_coarse_stage_is_its_straight_line_code_bit_for_bit(
    trained: Any, n_candidates: int
) -> None:
    """Negatives are chosen by embeddings of every tenth step, of 12 in an epoch."""
    state, recipe = trained[0], RECIPE
    if n_candidates > 1:
        recipe = with_schedules(RECIPE, n_candidates=n_candidates, batch=64)
        options: Any = {"split": SPLIT, "settings": SETTINGS, "recipe": recipe, "ops": method}
        state = Trainer(seed=SEED, **options).coarse()
    rng, _ = streams("coarse")
    labels = partition(GRAPH, SETTINGS.n_coarse, rng=rng)
    assignment = method.start_coarse_assignment(labels, SETTINGS, rng=rng)
    tables = method.start_coarse(SPLIT.train.n_entities, SETTINGS, rng=rng)
    assert_same_run(state, by_hand("coarse", recipe, tables, assignment))


def test_the_fine_stage_is_its_straight_line_code_bit_for_bit(trained: Any) -> None:
    (table, bias), s_c = trained[0].chosen.tables, trained[0].chosen.assignment
    rng, _ = streams("fine")
    labels = partition(GRAPH, SETTINGS.n_fine, rng=rng)
    affinity = method.part_affinity(labels, SETTINGS.n_fine)
    assignment = method.start_fine_assignment(s_c, affinity, SETTINGS.fine_per_coarse)
    tables = method.start_fine(table, SETTINGS, rng=rng), bias
    assert_same_run(trained[1], by_hand("fine", RECIPE, tables, assignment, (s_c, table)))


# Seeds


def test_without_fine_rows_the_coarse_stage_is_the_same_and_alone() -> None:
    without, nothing = train(SPLIT, replace(SETTINGS, n_fine=0), SHORT, seed=SEED, ops=method)
    assert nothing is None
    assert content_of(without) == content_of(short_run(method)[0])


def test_the_global_generator_is_left_alone() -> None:
    before = np.random.get_state(legacy=False)  # noqa: NPY002
    both(recipe=with_schedules(RECIPE, max_epochs=3), ops=None)
    after = np.random.get_state(legacy=False)  # noqa: NPY002
    assert np.array_equal(before["state"]["key"], after["state"]["key"])
    assert before["state"]["pos"] == after["state"]["pos"]


# Starts


UNSOLD = replace(SPLIT, train=SPLIT.train.select(SPLIT.train.items != 7))
"""One item has no training pair."""


def first_tables(bias_start: str) -> tuple[Any, Any]:
    """E_c and b as the coarse stage begins."""
    recipe, settings = replace(ONCE, bias_start=bias_start), replace(SETTINGS, n_fine=0)
    states: list[State] = []
    watch = lambda progress: states.append(progress.state)  # noqa: E731
    train(UNSOLD, settings, recipe, seed=SEED, ops=method, watch=watch)
    table, bias = states[0].tables
    return table, bias


def test_a_bias_begins_as_published_at_zero_or_with_the_popularity_of_items() -> None:
    """The logarithm of 1 + an item's training pairs; users begin at 0, as their bias cancels."""
    rng, _ = streams("coarse")
    labels = partition(graph_of(UNSOLD), SETTINGS.n_coarse, rng=rng)
    method.start_coarse_assignment(labels, SETTINGS, rng=rng)
    normal, zero, popular = map(first_tables, ("normal", "zero", "popularity"))
    assert content_of(normal) == content_of(method.start_coarse(70, SETTINGS, rng=rng))
    assert content_of(zero[0]) == content_of(popular[0]) == content_of(normal[0])
    assert not zero[1].any()
    counts = Counter(UNSOLD.train.items.tolist())
    assert popular[1][:30].tolist() == [0.0] * 30
    assert popular[1][30:] == pytest.approx([math.log(1 + counts[item]) for item in range(40)])
    assert counts[7] == popular[1][30 + 7] == 0


def test_a_first_assignment_drawn_in_blocks_is_that_of_one_draw(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = first_tables("normal")
    monkeypatch.setattr("c2f_ref.training.runs.ROWS_PER_BLOCK", 7)
    assert content_of(first_tables("normal")) == content_of(whole)


# What a training leaves


def test_a_schedule_that_would_train_nothing_is_evaluated_after_its_last_epoch() -> None:
    """With `max_epochs` at or below `evaluate_every`, which is 2; above it nothing changes."""
    for n_epochs, expected in ((1, [0, 1]), (2, [0, 2]), (3, [0, 2])):
        recipe = with_schedules(RECIPE, max_epochs=n_epochs, last_lr=0.01, patience=9)
        for state in both(recipe=recipe):
            assert [evaluation.epoch for evaluation in state.evaluations] == expected
            assert state.n_steps == state.evaluations[-1].n_steps > 0


def model_of(**schedules: Any) -> tuple[Any, list[str], State, State]:
    """What `Trainer.model` gives, and what it tells."""
    told: list[str] = []
    given: Any = {"split": SPLIT, "settings": SETTINGS, "seed": SEED, "ops": method}
    recipe = replace(SHORT, **schedules)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("c2f_ref.training.runs.say", told.append)
        model, coarse, fine = Trainer(**given, recipe=recipe).model()
    return model, told, coarse, fine


def test_the_better_of_both_stages_is_the_model_and_what_is_odd_is_told() -> None:
    """The short fine stage ends below the short coarse stage, and above one that learns nothing."""
    model, told, coarse, fine = model_of()
    assert fine.chosen.ndcg < coarse.chosen.ndcg
    figures = f"is {fine.chosen.ndcg:.4f}, below {coarse.chosen.ndcg:.4f} of the coarse stage"
    assert told == [f"the fine stage's validation NDCG {figures}, which is the model"]
    assert model.fine is None
    assert np.array_equal(model.coarse, coarse.chosen.tables[0])
    assert np.array_equal(model.bias[N_USERS:], coarse.chosen.tables[1][N_USERS:])

    idle = replace(SHORT.coarse, lr=1e-12, max_epochs=1)
    model, told, coarse, fine = model_of(coarse=idle, fine=RECIPE.fine)
    assert (coarse.chosen.n_steps, fine.chosen.ndcg >= coarse.chosen.ndcg) == (0, True)
    assert told == ["no evaluation of the coarse stage was better than its start, untrained"]
    assert np.array_equal(model.bias[N_USERS:], fine.chosen.tables[1][N_USERS:])


def test_steps_that_take_long_say_what_they_do_to_those_who_watch(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def slowly(function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *given, **options: sleep(0.05) or function(*given, **options)

    monkeypatch.setattr("c2f_ref.runtime.SLOW_SECONDS", 0.01)
    monkeypatch.setattr(method, "start_fine", slowly(method.start_fine))
    options: Any = {"partition": slowly(partition), "recipe": ONCE}
    options["ops"] = implementation(embed_coarse=slowly(method.embed_coarse))
    both(**options)
    assert capsys.readouterr().err == ""
    both(**options, watch=lambda progress: None)
    lines = capsys.readouterr().err.splitlines()
    assert "dividing 70 users and items into 6 parts ..." in lines
    assert "coarse stage: first evaluation and step, compiling ..." in lines
    assert "sparse PCA, from which the fine table starts ..." in lines


# Someone else's implementation


@dataclass(frozen=True)
class Sealed:
    """A plan or embeddings that only their owner can open."""

    _content: Any


def test_training_and_serving_call_the_contract_alone_and_look_into_nothing() -> None:
    """Plans and embeddings are sealed; negatives are chosen; the models are the very same."""
    counts: Counter[str] = Counter()

    def wrapped(name: str) -> Callable[..., Any]:
        def call(*given: Any, **options: Any) -> Any:
            counts[name] += 1
            opened = [one._content if isinstance(one, Sealed) else one for one in given]
            made = getattr(method, name)(*opened, **options)
            if name.startswith("embed"):
                return tuple(map(Sealed, made))
            return Sealed(made) if name.startswith("prepare") else made

        return call

    theirs = implementation(**{name: wrapped(name) for name in method.CONTRACT})
    recipe = replace(SHORT, coarse=replace(SHORT.coarse, n_candidates=2, disjoint_share=0.2))
    coarse, fine = both(ops=theirs, dtype=np.float64, recipe=recipe)
    assert content_of((coarse, fine)) == content_of(both(recipe=recipe))
    assert counts.keys() == set(method.CONTRACT)
    assert counts["coarse_loss_and_grad"] == coarse.n_steps
    assert counts["adam_step"] == 2 * (coarse.n_steps + fine.n_steps)
    for chosen in (None, fine.chosen):
        model = to_model(SPLIT, SETTINGS, coarse.chosen, chosen)
        given = model.bias, model.seen, SPLIT.test.matrix(), (5,)
        sealed = evaluate_embeddings(embed_model(model, ops=theirs), *given, ops=theirs)
        assert sealed == evaluate_embeddings(embed_model(model, ops=method), *given, ops=method)


def test_an_implementation_gets_graphs_in_float32_and_the_settings_of_refreshes() -> None:
    graphs: list[Any] = []
    settings: list[Any] = []

    def prepare(name: str, graph: Any, *rest: Any) -> Any:
        graphs.append((name, str(graph.dtype), str(graph.indices.dtype)))
        return getattr(method, name)(graph, *rest)

    def refresh(name: str, *given: Any) -> Any:
        settings.append((name, *given[-2:]))
        return getattr(method, name)(*given)

    changes = {f"prepare_{stage}": partial(prepare, f"prepare_{stage}") for stage in STAGES}
    changes |= {f"refresh_{stage}": partial(refresh, f"refresh_{stage}") for stage in STAGES}
    both(settings=replace(SETTINGS, pinv_rtol=0.25), ops=implementation(**changes), recipe=SHORT)
    assert set(graphs) == {(f"prepare_{stage}", "float32", "int32") for stage in STAGES}
    assert set(settings) == {("refresh_coarse", 2, 0.25), ("refresh_fine", 3, 0.25)}


@pytest.mark.numba
def test_training_is_compiled_and_in_float32_unless_told_otherwise() -> None:
    """Refreshed assignments have the dtype of the graph; tables are float64 either way.

    One seed gives one result, and another seed another: that the method does, too, follows from
    its straight-line code.
    """
    options: Any = {"split": SPLIT, "settings": SETTINGS, "recipe": SHORT}
    assert Trainer(**options, seed=SEED).ops is load_implementation() is fast
    assert content_of(both(recipe=SHORT, ops=None)) == content_of(short_run(fast, None))
    other = Trainer(**options, seed=SEED + 1).coarse()
    assert content_of(other.chosen) != content_of(short_run(fast, None)[0].chosen)
    for dtype, expected in ((None, np.float32), (np.float64, np.float64)):
        for state in short_run(fast, dtype):
            assert state.chosen.assignment.dtype == expected
            assert {table.dtype for table in state.chosen.tables} == {np.dtype(np.float64)}


# What is left, and what is refused


@IMPLEMENTATIONS
def test_a_saved_model_embeds_as_its_stage_did(tmp_path: Path, ops: ModuleType) -> None:
    """Its validation NDCG, from the file alone, is the one for which it was chosen."""
    coarse, fine = (state.chosen for state in short_run(ops))
    for chosen in (None, fine):
        ndcg, (table, bias) = (chosen or coarse).ndcg, (chosen or coarse).tables
        made = to_model(SPLIT, SETTINGS, coarse, chosen, {"recipe": "x"})
        assert made.provenance == {"split": SPLIT.describe(), "recipe": "x"}
        save_model(tmp_path / "m.npz", made)
        model = load_model(tmp_path / "m.npz")
        given = model.bias, model.seen, SPLIT.valid.matrix(), (3,)
        metrics = evaluate_embeddings(embed_model(model, ops=ops), *given, ops=ops)
        assert metrics["ndcg@3"] == ndcg
        assert np.array_equal(model.bias[N_USERS:], bias[N_USERS:])
        assert not model.bias[:N_USERS].any()
        assert np.array_equal(model.coarse, coarse.tables[0])
        assert np.array_equal(model.coarse_assignment.data, coarse.assignment.data)
        if model.fine is not None:
            inside = np.abs(table) <= SETTINGS.threshold
            assert np.array_equal(model.fine, np.where(inside, 0.0, table))


def test_what_cannot_be_trained_is_refused() -> None:
    none = SPLIT.valid.select(np.zeros(SPLIT.valid.n_pairs, dtype=bool))
    for split, missing in (
        (split_given(none, SPLIT.valid, SPLIT.test), "training"),
        (replace(SPLIT, valid=none), "validation"),
    ):
        with pytest.raises(MethodError, match=f"training needs {missing} pairs, got none"):
            both(split)
    for name in ("n_coarse", "n_fine"):
        with pytest.raises(SettingsError, match=f"{name} must be at most .* items, 70, got 71"):
            both(settings=replace(SETTINGS, **{name: 71}))
    options: Any = {"split": SPLIT, "recipe": ONCE, "seed": 0, "ops": method}
    trainer = Trainer(settings=replace(SETTINGS, n_fine=0), **options)
    with pytest.raises(SettingsError, match="n_fine must be at least 1"):
        trainer.fine(trainer.coarse().chosen)


@IMPLEMENTATIONS
@pytest.mark.parametrize(("stage", "lr"), [("coarse", 1e300), ("fine", 1e307)])
def test_divergence_names_the_stage_and_the_step(ops: ModuleType, stage: str, lr: float) -> None:
    recipe = replace(SHORT, **{stage: replace(getattr(SHORT, stage), lr=lr)})
    words = f"the {stage} stage diverged after [0-9]+ steps; lower"
    with np.errstate(all="ignore"), pytest.raises(MethodError, match=words):
        both(ops=ops, recipe=recipe)


# Degenerate problems


def assert_alive(states: tuple[State, State], settings: Settings, split: Split, ops: Any) -> Any:
    """Both stages reached phase two, and everything that they leave is finite: the embeddings."""
    for state in states:
        assert {e.phase for e in state.evaluations} == {1, 2}
        left = (*state.chosen.tables, state.chosen.assignment.data)
        assert all(np.isfinite(table).all() for table in left)
        assert all(e.loss is None or math.isfinite(e.loss) for e in state.evaluations)
    model = to_model(split, settings, *(state.chosen for state in states))
    entities = embed_model(model, ops=ops)
    assert np.isfinite(entities).all()
    return model, entities


def split_of(*parts: dict[int, list[int]]) -> Split:
    """A split of given items by user, of 6 users and 7 items."""

    def pairs(items_of: dict[int, list[int]]) -> Interactions:
        listed = [(user, item) for user, items in items_of.items() for item in items]
        return Interactions.from_indices([u for u, _ in listed], [i for _, i in listed], 6, 7)

    return split_given(*map(pairs, parts))


@IMPLEMENTATIONS
def test_a_user_with_every_item_is_never_drawn_and_gets_no_list(ops: ModuleType) -> None:
    """User 0 has all 7 items, user 1 all but one, user 5 none."""
    have = {0: list(range(7)), 1: list(range(6)), 2: [0, 1], 3: [2], 4: [3, 4]}
    split, settings = split_of(have, {2: [2], 3: [0]}, {4: [6]}), replace(SETTINGS, n_coarse=4)
    states = both(split, settings, recipe=SHORT, ops=ops)
    model, entities = assert_alive(states, settings, split, ops)
    items, scores = ops.rank_items(entities, model.bias, 6, np.array([0, 1, 5]), model.seen, 8)
    assert items[0].tolist() == [-1] * 8
    assert np.isneginf(scores[0]).all()
    assert items[1].tolist() == [6] + [-1] * 7
    assert sorted(items[2].tolist()) == [-1, *range(7)]


@IMPLEMENTATIONS
def test_where_nobody_can_be_drawn_there_is_no_step(ops: ModuleType) -> None:
    """Both users with a training pair have every item."""
    split = split_of({0: list(range(7)), 1: list(range(7))}, {2: [0]}, {3: [1]})
    coarse, fine = both(split, replace(SETTINGS, n_coarse=4), recipe=SHORT, ops=ops)
    assert (coarse.n_steps, fine.n_steps) == (0, 0)


@IMPLEMENTATIONS
@pytest.mark.parametrize("changes", [{"n_coarse": 70, "n_layers": 0}, {"threshold": math.inf}])
def test_extreme_settings_train_all_the_same(ops: ModuleType, changes: dict[str, Any]) -> None:
    """Every entity a part of its own; no layers; a fine table that cannot move."""
    settings = replace(SETTINGS, **changes)
    states = both(settings=settings, recipe=SHORT, ops=ops)
    model, entities = assert_alive(states, settings, SPLIT, ops)
    if settings.n_layers == 0:
        ego = np.tanh(model.coarse_assignment.toarray() @ model.coarse)
        np.testing.assert_allclose(entities, ego, rtol=1e-12, atol=1e-12)
    if settings.threshold == math.inf:
        fine_table, bias = states[1].chosen.tables
        rng, _ = streams("fine")
        partition(GRAPH, settings.n_fine, rng=rng)
        assert np.array_equal(fine_table, method.start_fine(model.coarse, settings, rng=rng))
        assert not np.array_equal(bias, states[0].chosen.tables[1])
        assert not model.fine.any()


@IMPLEMENTATIONS
def test_training_stays_finite_with_negative_assignments(ops: ModuleType) -> None:
    """D11: refreshed entries are so negative that degrees of the expanded graph fall below 0."""
    lowest: dict[str, list[float]] = {stage: [] for stage in STAGES}

    def refresh(stage: str, *given: Any) -> sparse.csr_array:
        return -2.0 * abs(getattr(ops, f"refresh_{stage}")(*given))

    def prepare(stage: str, *given: Any) -> Any:
        # The nodes that only this assignment joins to others.
        lowest[stage].append(given[1 if stage == "coarse" else 2].sum(axis=0).min())
        return getattr(ops, f"prepare_{stage}")(*given)

    theirs = implementation(**{name: getattr(ops, name) for name in method.CONTRACT})
    for name, function in (("refresh", refresh), ("prepare", prepare)):
        vars(theirs).update({f"{name}_{stage}": partial(function, stage) for stage in STAGES})
    states = both(recipe=SHORT, ops=theirs, dtype=np.float64)
    assert_alive(states, SETTINGS, SPLIT, ops)
    for state, degrees in zip(states, lowest.values(), strict=True):
        assert degrees[0] > 0
        assert all(degree < 0 for degree in degrees[1:])
        assert (state.chosen.assignment.data <= 0).all()
