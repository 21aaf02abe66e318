"""Epochs that learn from pairs which their graph is without."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from scipy import sparse
from training.tiny import RECIPE, SETTINGS, content_of, tiny_split, with_schedules

from c2f_ref import spec
from c2f_ref.interactions import Split
from c2f_ref.spec import Triples
from c2f_ref.training import (
    CoarseStage,
    FineStage,
    Schedule,
    StageResult,
    Tables,
    norm_adjacency_of,
    run_stage,
    start_state,
    train_coarse,
)

SHARE = 0.4
SCHEDULE = Schedule(batch=40, lr=0.05, disjoint_share=SHARE, max_epochs=13, max_fixed_epochs=2, evaluate_every=1, patience=20)


@dataclass(frozen=True)
class Watched(CoarseStage):
    """The coarse stage, and in `calls` what it was asked for: the graph of the stage, its plan, and triples where there are any."""

    calls: list[tuple[sparse.csr_array, Any, Triples | None]] = field(default_factory=list)

    def loss_and_grad(self, plan: Any, tables: Tables, triples: Triples) -> tuple[float, Tables]:
        self.calls.append((self.norm_adjacency, plan, triples))
        return super().loss_and_grad(plan, tables, triples)

    def refresh(self, plan: Any, tables: Tables) -> sparse.csr_array:
        self.calls.append((self.norm_adjacency, plan, None))
        return super().refresh(plan, tables)


def watched_run(split: Split, schedule: Schedule, **changes: Any) -> tuple[Watched, StageResult]:
    """The coarse stage, run on the specification."""
    train, rng = split.train, np.random.default_rng(0)
    stage = Watched(norm_adjacency_of(train, np.float64), train.n_users, SETTINGS, spec)
    labels = rng.integers(SETTINGS.n_coarse, size=train.n_entities)
    assignment = spec.start_coarse_assignment(labels, SETTINGS, rng=rng)
    state = start_state(spec.start_coarse(train.n_entities, SETTINGS, rng=rng), assignment, rng=rng, **changes)
    return stage, run_stage(stage, state, split, SETTINGS, schedule, ops=spec)


def pairs_of(adjacency: sparse.csr_array, n_users: int) -> set[tuple[int, int]]:
    """Pairs of user and item that are joined."""
    users, items = adjacency[:n_users, n_users:].nonzero()
    return set(zip(users.tolist(), items.tolist(), strict=True))


def epochs_of(stage: Watched) -> list[tuple[set[tuple[int, int]], list[Triples]]]:
    """Of every epoch, its graph's pairs and its batches: an epoch has a graph of its own, refreshes aside."""
    epochs: list[tuple[sparse.csr_array, list[Triples]]] = []
    for adjacency, _, triples in stage.calls:
        if triples is not None and (not epochs or adjacency is not epochs[-1][0]):
            epochs.append((adjacency, []))
        if triples is not None:
            epochs[-1][1].append(triples)
    return [(pairs_of(adjacency, stage.n_users), batches) for adjacency, batches in epochs]


def test_phase_two_learns_from_pairs_that_the_graph_is_without_and_phase_one_from_all() -> None:
    split = tiny_split()
    known = set(zip(split.train.users.tolist(), split.train.items.tolist(), strict=True))
    (graph, batches), *later = epochs_of(watched_run(split, SCHEDULE)[0])
    assert graph == known
    assert len(later) == 10  # the two epochs of phase one share a graph
    for graph, batches in later:
        learnt_from = {pair for batch in batches for pair in zip(batch.users.tolist(), batch.positives.tolist(), strict=True)}
        assert graph < known
        assert learnt_from <= known - graph
        assert not known & {pair for b in batches for pair in zip(b.users.tolist(), b.negatives.tolist(), strict=True)}
    assert len({frozenset(graph) for graph, _ in later}) == len(later)
    n_apart = sum(len(known - graph) for graph, _ in later)
    n_drawn = len(known) * len(later)
    assert abs(n_apart - SHARE * n_drawn) <= 6 * (n_drawn * SHARE * (1 - SHARE)) ** 0.5


def test_the_graph_of_an_epoch_is_normalised_by_its_own_degrees() -> None:
    split = tiny_split()
    stage, _ = watched_run(split, SCHEDULE)
    for adjacency, plan, triples in stage.calls:
        users, items = adjacency[: stage.n_users, stage.n_users :].nonzero()
        expected = spec.normalise(spec.bipartite(users, items, stage.n_users, split.train.n_items))
        assert (adjacency != expected).nnz == 0
        assert (plan.graph != spec.expand_coarse(adjacency, plan.coarse_assignment)).nnz == 0
        assert triples is None or triples.users.size <= SCHEDULE.batch


def test_refreshes_see_all_training_pairs_and_the_epoch_goes_on_with_what_they_give() -> None:
    split = tiny_split()
    stage, _ = watched_run(split, SCHEDULE, first_phase=2)
    n_refreshes = 0
    for before, refresh, after in zip(stage.calls, stage.calls[1:], stage.calls[2:], strict=False):
        if refresh[2] is None:
            n_refreshes += 1
            assert refresh[0] is stage.norm_adjacency
            assert before[0] is after[0] is not stage.norm_adjacency
            assert (before[1].coarse_assignment != refresh[1].coarse_assignment).nnz == 0
            assert (after[1].coarse_assignment != refresh[1].coarse_assignment).nnz > 0
    assert n_refreshes == 12


def test_models_are_judged_with_all_training_pairs() -> None:
    """The figure of the chosen model is that of its tables on the whole graph."""
    split = tiny_split()
    stage, result = watched_run(split, SCHEDULE)
    entities = stage.embed(stage.prepare(result.best.assignment), result.best.tables)
    held_out = split.valid.matrix()
    users = np.flatnonzero(np.diff(held_out.indptr))
    ranked, _ = spec.rank_items(entities, result.best.tables[-1], stage.n_users, users, split.train.matrix(), 5)
    assert result.best.ndcg == spec.ndcg_at_k(ranked, held_out[users], 5).mean()


def test_where_no_pair_is_drawn_the_epoch_is_one_as_published() -> None:
    split = tiny_split()
    stage, _ = watched_run(split, replace(SCHEDULE, disjoint_share=1e-12), first_phase=2)
    assert all(adjacency is stage.norm_adjacency for adjacency, _, _ in stage.calls)


def test_a_share_of_nothing_draws_nothing() -> None:
    """The published run's numbers stay what they were before there was such a share."""
    split = tiny_split()
    runs = [
        train_coarse(split, SETTINGS, with_schedules(RECIPE, **changes), rng=np.random.default_rng(0), ops=spec)
        for changes in ({}, {"disjoint_share": 0}, {"disjoint_share": SHARE})
    ]
    assert content_of(runs[0].best) == content_of(runs[1].best)
    assert content_of(runs[0].best_fixed) == content_of(runs[1].best_fixed) == content_of(runs[2].best_fixed)
    assert content_of(runs[0].best) != content_of(runs[2].best)


@pytest.mark.parametrize("share", [0.02, 0.9])
def test_few_draws_may_find_no_user_to_learn_from(share: float) -> None:
    """Two users of thirty are drawn in an epoch, of whom most have no pair apart, so that many epochs make no step."""
    split = tiny_split()
    stage, result = watched_run(split, replace(SCHEDULE, disjoint_share=share, draws_per_epoch=2, n_negatives=1), first_phase=2)
    n_steps = sum(triples is not None for _, _, triples in stage.calls)
    assert result.n_steps == n_steps
    assert n_steps == 12 if share == 0.9 else 0 < n_steps < 12


def test_the_fine_stage_takes_a_share_too() -> None:
    split = tiny_split()
    train, rng = split.train, np.random.default_rng(1)
    adjacency = norm_adjacency_of(train, np.float64)
    coarse, bias = spec.start_coarse(train.n_entities, SETTINGS, rng=rng)
    assignment = spec.start_coarse_assignment(rng.integers(SETTINGS.n_coarse, size=train.n_entities), SETTINGS, rng=rng)
    affinity = spec.part_affinity(rng.integers(SETTINGS.n_fine, size=train.n_entities), SETTINGS.n_fine)
    stage = FineStage(adjacency, train.n_users, assignment, coarse, SETTINGS, spec)
    tables = spec.start_fine(coarse, SETTINGS, rng=rng), bias
    by_fine = spec.start_fine_assignment(assignment, affinity, SETTINGS.fine_per_coarse)
    state = start_state(tables, by_fine, rng=rng, first_phase=2)
    without, with_share = (
        run_stage(stage, state, split, SETTINGS, replace(SCHEDULE, disjoint_share=share), ops=spec) for share in (0.0, SHARE)
    )
    assert without.evaluations[0].ndcg == with_share.evaluations[0].ndcg
    assert [e.loss for e in without.evaluations][1:] != [e.loss for e in with_share.evaluations][1:]
    assert without.n_steps >= with_share.n_steps > 0
