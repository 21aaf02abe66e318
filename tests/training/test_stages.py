"""Both stages as a whole: against straight-line code, from one seed, and on someone else's implementation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from scipy import sparse
from support.implementations import FAST, fast
from training.tiny import RECIPE, SETTINGS, assert_both_phases, content_of, content_of_run, tiny_split, with_schedules

from c2f_ref import spec
from c2f_ref.interactions import Split
from c2f_ref.threads import one_blas_thread
from c2f_ref.training import (
    Schedule,
    Snapshot,
    StageResult,
    Tables,
    embed_model,
    evaluate_embeddings,
    hardest_negatives,
    to_model,
    train,
    train_coarse,
    train_fine,
)

SEED = 3


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Straight-line code must round as training does, whatever the number of threads."""
    with one_blas_thread():
        yield


@pytest.fixture(scope="module")
def split() -> Split:
    return tiny_split()


@pytest.fixture(scope="module")
def trained(split: Split) -> tuple[StageResult, StageResult]:
    """Both stages, computed by the specification."""
    coarse, fine = train(split, SETTINGS, RECIPE, seed=SEED, ops=spec)
    assert fine is not None
    return coarse, fine


# By definition


def by_hand(
    split: Split,
    schedule: Schedule,
    rng: np.random.Generator,
    tables: Tables,
    assignment: sparse.csr_array,
    embed: Callable[..., Any],
    gradients: Callable[..., Tables],
    refresh: Callable[..., sparse.csr_array],
) -> list[list[Snapshot]]:
    """Every evaluated model of phase one and of phase two; the chosen one is the first with the highest figure.

    One loop for each phase, nothing prepared or kept from one batch to the next.
    """
    seen, held_out = split.train.matrix(), split.valid.matrix()
    users = np.flatnonzero(np.diff(held_out.indptr))
    states = [spec.start_adam(table) for table in tables]
    epoch, n_steps = 0, 0
    phases: list[list[Snapshot]] = [[], []]
    for phase in phases:
        while True:
            if epoch % schedule.evaluate_every == 0 and epoch not in {model.epoch for model in phases[0]}:
                entities = embed(assignment, tables)[0]
                ranked, _ = spec.rank_items(entities, tables[-1], split.train.n_users, users, seen, schedule.selection_k)
                ndcg = float(np.mean(spec.ndcg_at_k(ranked, held_out[users], schedule.selection_k)))
                phase.append(Snapshot(tables, assignment, ndcg, epoch, n_steps))
                figures = [model.ndcg for model in phase]
                if len(figures) - 1 - figures.index(max(figures)) == schedule.patience:
                    break
            users_, positives, negatives = spec.sample_triples(seen, split.train.n_pairs, schedule.n_negatives, rng=rng)
            for start in range(0, len(users_), schedule.batch):
                triples = spec.Triples(*(part[start : start + schedule.batch] for part in (users_, positives, negatives)))
                if phase is phases[1]:
                    if start % (10 * schedule.batch) == 0:
                        entities_before = embed(assignment, tables)[0]
                    triples = hardest_negatives(triples, entities_before, tables[-1], seen, schedule.n_candidates)
                grads = gradients(assignment, tables, triples)
                if phase is phases[1] and start == 0:
                    assignment = refresh(*embed(assignment, tables))
                stepped = [
                    spec.adam_step(table, grad, state, schedule.lr, SETTINGS)
                    for table, grad, state in zip(tables, grads, states, strict=True)
                ]
                tables, states = tuple(table for table, _ in stepped), [state for _, state in stepped]
                n_steps += 1
            epoch += 1
    return phases


def best_of(phase: list[Snapshot]) -> Snapshot:
    return max(phase, key=lambda model: model.ndcg)  # the first of the highest


def assert_same_run(result: StageResult, phases: list[list[Snapshot]]) -> None:
    assert_both_phases(result)
    assert result.best_fixed is not None
    assert [(e.phase, e.epoch, e.n_steps, e.ndcg) for e in result.evaluations] == [
        (number, model.epoch, model.n_steps, model.ndcg) for number, phase in enumerate(phases, 1) for model in phase
    ]
    assert content_of(result.best_fixed) == content_of(best_of(phases[0]))
    assert content_of(result.best) == content_of(best_of(phases[1]))
    assert result.n_steps == phases[1][-1].n_steps


@pytest.mark.parametrize("n_candidates", [1, 3])
def test_the_coarse_stage_is_its_straight_line_code_bit_for_bit(
    split: Split, trained: tuple[StageResult, StageResult], n_candidates: int
) -> None:
    result, recipe = trained[0], with_schedules(RECIPE, n_candidates=n_candidates)
    if n_candidates > 1:
        result = train_coarse(split, SETTINGS, recipe, rng=np.random.default_rng(SEED).spawn(2)[0], ops=spec)
        assert content_of(result.best_fixed) == content_of(trained[0].best_fixed)
        assert content_of(result.best) != content_of(trained[0].best)
    start_rng, sample_rng = np.random.default_rng(SEED).spawn(2)[0].spawn(2)
    n_users = split.train.n_users
    graph = spec.bipartite(split.train.users, split.train.items, n_users, split.train.n_items)
    adjacency = spec.normalise(graph)
    labels = spec.partition(graph, SETTINGS.n_coarse, rng=start_rng)
    assignment = spec.start_coarse_assignment(labels, SETTINGS, rng=start_rng)
    tables = spec.start_coarse(split.train.n_entities, SETTINGS, rng=start_rng)

    def plan(assignment: sparse.csr_array) -> Any:
        return spec.prepare_coarse(adjacency, assignment, n_users, SETTINGS)

    phases = by_hand(
        split,
        recipe.coarse,
        sample_rng,
        tables,
        assignment,
        embed=lambda assignment, tables: spec.embed_coarse(plan(assignment), tables[0]),
        gradients=lambda assignment, tables, triples: spec.coarse_loss_and_grad(plan(assignment), *tables, triples)[1:],
        refresh=lambda entities, coarse: spec.refresh_coarse(entities, coarse, SETTINGS.coarse_per_entity),
    )
    assert_same_run(result, phases)


def test_the_fine_stage_is_its_straight_line_code_bit_for_bit(split: Split, trained: tuple[StageResult, StageResult]) -> None:
    start_rng, sample_rng = np.random.default_rng(SEED).spawn(2)[1].spawn(2)
    n_users = split.train.n_users
    (coarse_table, bias), coarse_assignment = trained[0].best.tables, trained[0].best.assignment
    graph = spec.bipartite(split.train.users, split.train.items, n_users, split.train.n_items)
    adjacency = spec.normalise(graph)
    labels = spec.partition(graph, SETTINGS.n_fine, rng=start_rng)
    affinity = spec.part_affinity(labels, SETTINGS.n_fine)
    assignment = spec.start_fine_assignment(coarse_assignment, affinity, SETTINGS.fine_per_coarse)
    fine_table = spec.start_fine(coarse_table, SETTINGS, rng=start_rng)

    def plan(assignment: sparse.csr_array) -> Any:
        return spec.prepare_fine(adjacency, coarse_assignment, assignment, n_users, SETTINGS)

    phases = by_hand(
        split,
        RECIPE.fine,
        sample_rng,
        (fine_table, bias),
        assignment,
        embed=lambda assignment, tables: spec.embed_fine(plan(assignment), coarse_table, tables[0]),
        gradients=lambda assignment, tables, triples: spec.fine_loss_and_grad(plan(assignment), coarse_table, *tables, triples)[2:],
        refresh=lambda entities, coarse, fine: spec.refresh_fine(entities, coarse, fine, SETTINGS.fine_per_coarse),
    )
    assert_same_run(trained[1], phases)


def test_refreshes_change_the_assignments_and_training_changes_the_tables(trained: tuple[StageResult, StageResult]) -> None:
    """The straight-line comparison would say little about stages that stand still."""
    for result in trained:
        assert result.best_fixed is not None
        assert (result.best.assignment != result.best_fixed.assignment).nnz
        assert all(not np.array_equal(*pair) for pair in zip(result.best.tables, result.best_fixed.tables, strict=True))


@pytest.mark.numba
def test_the_fine_stage_leaves_the_coarse_model_as_it_was(split: Split, trained: tuple[StageResult, StageResult]) -> None:
    coarse, _ = trained
    before = content_of(coarse.best)
    for ops in (spec, fast):
        train_fine(split, coarse.best, SETTINGS, with_schedules(RECIPE, max_epochs=3), rng=np.random.default_rng(0), ops=ops)
        assert content_of(coarse.best) == before


# Seeds


@pytest.mark.parametrize("ops", [spec, FAST])
def test_one_seed_gives_one_result_and_another_seed_another(split: Split, ops: ModuleType) -> None:
    first, again, other = (train(split, SETTINGS, RECIPE, seed=seed, ops=ops) for seed in (SEED, SEED, SEED + 1))
    assert content_of_run(first) == content_of_run(again)
    for one, two in zip(first, other, strict=True):
        assert one is not None
        assert two is not None
        assert content_of(one.best) != content_of(two.best)


def test_the_stages_draw_from_streams_of_their_own(split: Split, trained: tuple[StageResult, StageResult]) -> None:
    """However long the coarse stage runs, the fine stage gets the same numbers; and no fine stage changes the coarse one."""
    coarse, fine = trained
    alone = train_fine(split, coarse.best, SETTINGS, RECIPE, rng=np.random.default_rng(SEED).spawn(2)[1], ops=spec)
    assert content_of(alone.best) == content_of(fine.best)
    without, nothing = train(split, replace(SETTINGS, n_fine=0), RECIPE, seed=SEED, ops=spec)
    assert nothing is None
    assert content_of(without.best) == content_of(coarse.best)


def test_a_partitioner_that_draws_more_does_not_change_the_triples(split: Split) -> None:
    """Labels, start tables and triples: the triples have a stream of their own."""

    def draws_of(n_spare: int) -> tuple[list[Any], StageResult]:
        def partition(graph: Any, n_parts: int, *, rng: np.random.Generator) -> Any:
            rng.random(n_spare)
            return np.arange(graph.shape[0]) % n_parts

        drawn = []
        ops = ModuleType("recording")
        vars(ops).update({name: getattr(spec, name) for name in spec.CONTRACT})
        ops.sample_triples = lambda *given, rng: drawn.append(spec.sample_triples(*given, rng=rng)) or drawn[-1]  # type: ignore
        short = with_schedules(RECIPE, evaluate_every=1, max_epochs=3)
        result = train_coarse(split, SETTINGS, short, rng=np.random.default_rng(0), ops=ops, partition=partition)
        return drawn, result

    (few, first), (many, second) = draws_of(0), draws_of(1000)
    assert len(few) == 2
    assert all(np.array_equal(a, b) for a, b in zip(few, many, strict=True))
    assert not np.array_equal(few[0], few[1])
    assert content_of(first.best) != content_of(second.best)


def test_the_global_generator_is_left_alone(split: Split) -> None:
    before = np.random.get_state(legacy=False)  # noqa: NPY002
    train(split, SETTINGS, with_schedules(RECIPE, max_epochs=3), seed=SEED)
    after = np.random.get_state(legacy=False)  # noqa: NPY002
    assert np.array_equal(before["state"]["key"], after["state"]["key"])
    assert before["state"]["pos"] == after["state"]["pos"]


# Someone else's implementation


@dataclass(frozen=True)
class Sealed:
    """A plan that only its owner can open."""

    _plan: Any


def test_training_and_serving_call_the_contract_alone_and_look_into_no_plan(
    split: Split, trained: tuple[StageResult, StageResult]
) -> None:
    """A module with the names of the contract and nothing else gives the very same models.

    It is told to compute in float64, as the specification does unasked.
    """
    counts: Counter[str] = Counter()

    def wrapped(name: str) -> Callable[..., Any]:
        def call(*given: Any, **options: Any) -> Any:
            counts[name] += 1
            opened = [one._plan if isinstance(one, Sealed) else one for one in given]
            made = getattr(spec, name)(*opened, **options)
            return Sealed(made) if name.startswith("prepare") else made

        return call

    theirs = ModuleType("theirs")
    vars(theirs).update({name: wrapped(name) for name in spec.CONTRACT})
    coarse, fine = train(split, SETTINGS, RECIPE, seed=SEED, ops=theirs, dtype=np.float64)
    assert fine is not None
    assert content_of_run((coarse, fine)) == content_of_run(trained)
    assert counts.keys() == set(spec.CONTRACT)
    assert counts["coarse_loss_and_grad"] == coarse.n_steps
    assert counts["fine_loss_and_grad"] == fine.n_steps
    assert counts["adam_step"] == 2 * (coarse.n_steps + fine.n_steps)
    assert counts["rank_items"] == len(coarse.evaluations) + len(fine.evaluations)

    for model in (to_model(split, SETTINGS, coarse.best), to_model(split, SETTINGS, coarse.best, fine.best)):
        entities = embed_model(model, ops=theirs)
        assert np.array_equal(entities, embed_model(model, ops=spec))
        metrics = evaluate_embeddings(entities, model.bias, model.seen, split.test.matrix(), (5,), ops=theirs)
        assert metrics == evaluate_embeddings(entities, model.bias, model.seen, split.test.matrix(), (5,), ops=spec)


def test_refreshes_are_told_the_settings_they_need(split: Split) -> None:
    """Entries per row, and below which share of the largest singular value the others count as 0."""
    settings, told = replace(SETTINGS, pinv_rtol=0.25), []
    theirs = ModuleType("theirs")
    vars(theirs).update({name: getattr(spec, name) for name in spec.CONTRACT})

    def recording(refresh: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *given: told.append((refresh, *given[-2:])) or refresh(*given)

    vars(theirs).update(refresh_coarse=recording(spec.refresh_coarse), refresh_fine=recording(spec.refresh_fine))
    train(split, settings, RECIPE, seed=SEED, ops=theirs)
    assert set(told) == {(spec.refresh_coarse, 2, 0.25), (spec.refresh_fine, 3, 0.25)}


# The model that training leaves


def test_a_model_embeds_as_its_stage_did(split: Split, trained: tuple[StageResult, StageResult]) -> None:
    """Its validation NDCG, from the model alone, is the one for which it was chosen. What cannot matter it has as 0: the bias of
    users, and fine entries inside the threshold.
    """
    coarse, fine = trained
    for model, chosen in (
        (to_model(split, SETTINGS, coarse.best), coarse.best),
        (to_model(split, SETTINGS, coarse.best, fine.best), fine.best),
    ):
        entities = embed_model(model, ops=spec)
        metrics = evaluate_embeddings(entities, model.bias, model.seen, split.valid.matrix(), (5,), ops=spec)
        assert metrics["ndcg@5"] == chosen.ndcg
        assert np.array_equal(model.bias[split.train.n_users :], chosen.tables[1][split.train.n_users :])
        assert not model.bias[: split.train.n_users].any()
        assert np.array_equal(model.coarse, coarse.best.tables[0])
    table = fine.best.tables[0]
    assert np.array_equal(model.fine, np.where(np.abs(table) > SETTINGS.threshold, table, 0.0))


def test_a_model_knows_its_split_and_what_it_is_told(split: Split, trained: tuple[StageResult, StageResult]) -> None:
    model = to_model(split, SETTINGS, trained[0].best, provenance={"seed": "3"})
    assert model.provenance == {"split": split.describe(), "seed": "3"}
    assert model.fine is None
    assert model.fine_assignment is None
    assert model.user_ids.tolist() == [f"u{user}" for user in range(30)]
    assert (model.seen != split.train.matrix()).nnz == 0
