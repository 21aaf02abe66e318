"""What the default recipe adds: hard negatives, epochs with a graph of their own, bias factors."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from support.implementations import FAST
from support.strategies import rngs
from training.tiny import RECIPE, SETTINGS, content_of, tiny_split, with_schedules

from c2f_ref import method
from c2f_ref.method import CoarseStage, MethodError, State, Triples
from c2f_ref.training import Additions, Schedule, Trainer, hardest_negatives, norm_adjacency_of

IMPLEMENTATIONS = pytest.mark.parametrize("ops", [pytest.param(method, id="method"), FAST])

# Two users with embeddings 1 and -1, five items with embeddings 0 to 4: user 0 prefers item 4, user
# 1 item 0. User 0 has item 4.
ENTITIES = np.array([1.0, -1.0, 0.0, 1.0, 2.0, 3.0, 4.0])[:, None]
SEEN = sparse.csr_array(([1.0], ([0], [4])), shape=(2, 5))
TRIPLES = Triples(np.array([0, 1, 0, 1]), np.array([4, 4, 4, 4]), np.array([1, 3, 2, 0]))


def chosen(n_candidates: int, bias: Any = 0.0, triples: Triples = TRIPLES, **ops: Any) -> list[int]:
    bias = np.broadcast_to(bias, 7).astype(np.float64)
    return hardest_negatives(triples, ENTITIES, bias, SEEN, n_candidates, **ops).negatives.tolist()


# Hard negatives


@IMPLEMENTATIONS
def test_the_best_of_a_triples_negative_and_those_behind_it_is_taken(ops: ModuleType) -> None:
    """Candidates 1 3 | 3 2 | 2 0 | 0 1 of users 0 1 0 1, then 1 3 2 | 3 2 0 | 2 0 1 | 0 1 3.

    An item that the user has is no candidate, and the bias counts.
    """
    assert chosen(1, ops=ops) == [1, 3, 2, 0]
    assert chosen(2, ops=ops) == [3, 2, 2, 0]
    assert chosen(3, ops=ops) == [3, 0, 2, 0]
    with_own = TRIPLES._replace(negatives=np.array([1, 4, 2, 4]))
    assert chosen(4, triples=with_own, ops=ops) == [2, 1, 2, 1]
    assert chosen(4, bias=[0, 0, 0, 9, 0, 0, 0], ops=ops) == [1, 1, 1, 1]
    with pytest.raises(MethodError, match="n_candidates must be at least 1, got 0"):
        chosen(0, ops=ops)


@IMPLEMENTATIONS
@given(st.data(), rngs(), st.integers(1, 6))
def test_negatives_are_those_of_scalar_loops(
    ops: ModuleType, data: Any, rng: np.random.Generator, n_candidates: int
) -> None:
    """Scores are multiples of 1/16 without rounding error, so that they tie alike."""
    n_users, n_items = data.draw(st.integers(1, 4)), data.draw(st.integers(2, 7))
    n_triples, n_entities = data.draw(st.integers(0, 9)), n_users + n_items
    has = rng.random((n_users, n_items)) < 0.4
    has[:, 0] = False
    entities = rng.integers(-4, 5, size=(n_entities, 3)) / 4
    bias = rng.integers(-4, 5, size=n_entities) / 4
    users = rng.integers(n_users, size=n_triples)
    drawn = [rng.choice(np.flatnonzero(~has[user])) for user in users]
    negatives = np.array(drawn, dtype=np.int64)
    triples = Triples(users, rng.integers(n_items, size=n_triples), negatives)
    for part in (*triples, entities, bias):
        part.flags.writeable = False
    expected = []
    for t in range(n_triples):
        best, best_score = -1, -np.inf
        for k in range(n_candidates):
            item = negatives[(t + k) % n_triples]
            score = bias[n_users + item]
            for d in range(3):
                score += entities[users[t], d] * entities[n_users + item, d]
            if not has[users[t], item] and score > best_score:
                best, best_score = item, score
        expected.append(best)
    seen = sparse.csr_array(has.astype(float))
    result = hardest_negatives(triples, entities, bias, seen, n_candidates, ops=ops)
    assert result.negatives.tolist() == expected
    assert content_of((result.users, result.positives)) == content_of((users, triples.positives))


# Epochs that learn from pairs which their graph does not have

SHARE = 0.4
SCHEDULE = Schedule(batch=40, lr=0.05, max_epochs=13, evaluate_every=1, patience=20)
SCHEDULE = replace(SCHEDULE, disjoint_share=SHARE, max_fixed_epochs=2)


@dataclass(frozen=True)
class Watched(CoarseStage):
    """The coarse stage; `calls` has the graph, the plan, and triples where there are any."""

    calls: list[tuple[sparse.csr_array, Any, Triples | None]] = field(default_factory=list)

    def loss_and_grad(self, plan: Any, tables: Any, triples: Triples) -> Any:
        self.calls.append((self.norm_adjacency, plan, triples))
        return super().loss_and_grad(plan, tables, triples)

    def refresh(self, plan: Any, tables: Any) -> sparse.csr_array:
        self.calls.append((self.norm_adjacency, plan, None))
        return super().refresh(plan, tables)


def watched_run(phase: int = 1, **changes: Any) -> tuple[Watched, State]:
    """The coarse stage by the method, without our own start."""
    train_, rng = tiny_split().train, np.random.default_rng(0)
    stage = Watched(norm_adjacency_of(train_, np.float64), train_.n_users, SETTINGS, method)
    labels = rng.integers(SETTINGS.n_coarse, size=train_.n_entities)
    assignment = method.start_coarse_assignment(labels, SETTINGS, rng=rng)
    tables = method.start_coarse(train_.n_entities, SETTINGS, rng=rng)
    state = replace(method.start_state(tables, assignment, rng=rng), phase=phase)
    ours = Additions(replace(SCHEDULE, **changes), train_, method)
    judge = ours.judge(tiny_split().valid.matrix())
    *_, last = method.train_stage(stage, state, ours.schedule, ours.draw_epoch, judge, ours.choose)
    return stage, last


def pairs_of(users: Any, items: Any) -> set[tuple[int, int]]:
    return set(zip(users.tolist(), items.tolist(), strict=True))


def test_phase_two_learns_from_pairs_that_its_graph_does_not_have() -> None:
    train_ = tiny_split().train
    known = pairs_of(train_.users, train_.items)
    stage, _ = watched_run()
    graphs: list[Any] = []
    n_apart = 0
    for adjacency, plan, triples in stage.calls:
        users, items = adjacency[:30, 30:].nonzero()
        graph = pairs_of(users, items)
        is_new = not any(adjacency is earlier for earlier in graphs)
        graphs += [adjacency] if is_new else []
        if triples is None:  # a refresh sees all pairs
            assert graph == known
            continue
        learnt_from = pairs_of(triples.users, triples.positives)
        assert not known & pairs_of(triples.users, triples.negatives)
        assert triples.users.size <= SCHEDULE.batch
        if adjacency is stage.norm_adjacency:  # phase one
            assert learnt_from <= known == graph
        else:
            assert learnt_from <= known - graph
            n_apart += len(known - graph) * is_new
        # Normalised by its own degrees.
        own = method.normalise(method.bipartite(users, items, 30, 40))
        assert (adjacency != own).nnz == 0
        expanded = method.expand_coarse(adjacency, plan.coarse_assignment)
        assert (plan.graph != expanded).nnz == 0
    n_epochs, n_drawn = len(graphs) - 1, (len(graphs) - 1) * len(known)
    assert n_epochs == 10  # the epochs of phase one share the whole graph
    assert abs(n_apart - SHARE * n_drawn) <= 6 * (n_drawn * SHARE * (1 - SHARE)) ** 0.5


def test_where_no_pair_is_drawn_the_epoch_has_the_whole_graph() -> None:
    stage, _ = watched_run(phase=2, disjoint_share=1e-12)
    assert all(adjacency is stage.norm_adjacency for adjacency, _, _ in stage.calls)


@pytest.mark.parametrize("share", [0.02, 0.9])
def test_few_draws_may_find_no_user_to_learn_from(share: float) -> None:
    """Two users of thirty are drawn in an epoch, most of whom have no pair apart."""
    stage, state = watched_run(2, disjoint_share=share, draws_per_epoch=2, n_negatives=1)
    assert state.n_steps == sum(triples is not None for _, _, triples in stage.calls)
    assert state.n_steps == 12 if share == 0.9 else 0 < state.n_steps < 12


def test_a_share_begins_with_phase_two_in_either_stage() -> None:
    """The first phases are those of a run without it; a share of 0 is no share at all."""
    assert with_schedules(RECIPE, disjoint_share=0) == RECIPE
    without, shared = (with_schedules(RECIPE, patience=1, disjoint_share=s) for s in (0, SHARE))
    given: Any = {"split": tiny_split(), "settings": SETTINGS, "seed": 0, "ops": method}
    plain, apart = (Trainer(recipe=recipe, **given) for recipe in (without, shared))
    coarse = plain.coarse()
    of_stages = ((coarse, apart.coarse()), (plain.fine(coarse.chosen), apart.fine(coarse.chosen)))
    for one, other in of_stages:
        assert content_of(one.best_fixed) == content_of(other.best_fixed)
        assert content_of(one.best) != content_of(other.best)


# Factors of the bias


def test_the_first_best_factor_of_the_bias_is_part_of_the_model_and_not_of_training() -> None:
    """User 0 has embedding 1, user 1 has -1, and item i has i: with a bias that falls, both decide.

    Held out are item 3 of user 0 (who has seen 4) and item 0 of user 1. Without bias both are
    first. The bias -4 i of the items turns user 0's list round: factors below 1/4 are best, and
    tie.
    """
    train_ = tiny_split().train
    ours = Additions(Schedule(batch=1, lr=1.0, bias_scales=(1.0, 0.125, 0.0625)), train_, method)
    ours.seen = SEEN
    judge = ours.judge(sparse.csr_array(([1.0, 1.0], ([0, 1], [3, 0])), shape=(2, 5)))
    bias = np.array([0.0, 0.0, *(-4.0 * np.arange(5))])
    ndcg, (table, scaled) = judge(ENTITIES, (np.ones(3), bias))
    assert ndcg == 1.0
    assert scaled.tolist() == (bias / 8).tolist()
    assert table.tolist() == [1.0] * 3
    recipe = with_schedules(RECIPE, bias_scales=(2.0,), max_epochs=1)
    given: Any = {"split": tiny_split(), "settings": SETTINGS, "recipe": recipe, "seed": 0}
    states: list[State] = []
    watch = lambda progress: states.append(progress.state)  # noqa: E731
    chosen = Trainer(**given, ops=method, watch=watch).coarse().chosen
    (bias,) = (s.tables[1] for s in states if s.n_steps == chosen.n_steps and not s.losses)
    assert np.array_equal(chosen.tables[1], 2.0 * bias)
