"""LightGCN at full size: its embeddings by dense algebra, its gradient in random directions, and that it learns."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest
from scipy import sparse
from support.agreement import assert_close, same_bits
from support.gradients import check_vjp
from support.implementations import FAST, fast

from c2f_ref import spec
from c2f_ref.baselines import LightGCNStage, rank_by_popularity, train_lightgcn
from c2f_ref.interactions import Split, planted, split_ratio
from c2f_ref.spec import Settings, Triples, mean_metrics
from c2f_ref.training import Schedule, evaluate_embeddings

N_USERS, N_ITEMS, DIM, N_LAYERS, N_TRIPLES = 5, 7, 3, 2, 8


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def stage_of(ops: ModuleType, rng: np.random.Generator) -> tuple[LightGCNStage, Any, Triples]:
    """Stage, tables and triples of pairwise different sizes."""
    pairs = rng.integers(N_USERS, size=12), rng.integers(N_ITEMS, size=12)
    settings = Settings(dim=DIM, n_layers=N_LAYERS, l2_weight=0.1)
    stage = LightGCNStage(spec.normalise(spec.bipartite(*pairs, N_USERS, N_ITEMS)), N_USERS, settings, ops)
    tables = rng.standard_normal((N_USERS + N_ITEMS, DIM)), np.zeros(N_USERS + N_ITEMS)
    triples = Triples(*(rng.integers(size, size=N_TRIPLES) for size in (N_USERS, N_ITEMS, N_ITEMS)))
    for array in (*tables, *triples):
        array.flags.writeable = False
    return stage, tables, triples


@pytest.mark.parametrize("ops", [spec, FAST])
def test_embeddings_are_the_mean_of_powers_of_the_adjacency(ops: ModuleType, rng: np.random.Generator) -> None:
    stage, tables, _ = stage_of(ops, rng)
    adjacency = stage.norm_adjacency.toarray()
    expected = (tables[0] + adjacency @ tables[0] + adjacency @ adjacency @ tables[0]) / 3
    assert_close(stage.embed(None, tables), expected)


@pytest.mark.parametrize("ops", [spec, FAST])
def test_the_gradient_is_that_of_the_loss_and_the_bias_stays_zero(ops: ModuleType, rng: np.random.Generator) -> None:
    stage, (table, bias), triples = stage_of(ops, rng)
    loss, (grad, grad_bias) = stage.loss_and_grad(None, (table, bias), triples)
    assert not grad_bias.any()
    check_vjp(
        lambda moved: stage.loss_and_grad(None, (moved, bias), triples)[0],
        lambda weight: (weight * stage.loss_and_grad(None, (table, bias), triples)[1][0],),
        (table,),
        rng,
    )
    # By definition: mean softplus of score differences and the penalty on the rows of the batch.
    entities = stage.embed(None, (table, bias))
    total = 0.0
    for user, positive, negative in zip(*triples, strict=True):
        i, j = N_USERS + positive, N_USERS + negative
        total += np.log1p(np.exp(entities[user] @ (entities[j] - entities[i]))) / N_TRIPLES
        total += 0.1 * sum(float(table[row] @ table[row]) for row in (user, i, j)) / N_TRIPLES
    assert loss == pytest.approx(total, rel=1e-12)
    assert grad.any()


def tiny() -> tuple[Split, Settings, Schedule]:
    pairs = planted(n_users=80, n_items=60, n_groups=4, subgroups_per_group=1, pairs_per_user=12, rng=np.random.default_rng(0))
    split = split_ratio(pairs, valid=0.2, test=0.3, seed=0)
    schedule = Schedule(batch=256, lr=0.02, n_negatives=1, max_epochs=60, patience=3)
    return split, Settings(dim=16, n_layers=2, l2_weight=1e-4), schedule


@pytest.mark.numba
def test_it_learns_and_one_seed_gives_one_result() -> None:
    """On planted groups it is ahead of popularity on held-out pairs; the same loop, patience included, as for the stages."""
    split, settings, schedule = tiny()
    result, again = (train_lightgcn(split, settings, schedule, rng=np.random.default_rng(1)) for _ in range(2))
    assert same_bits(result.best.tables, again.best.tables)
    table, bias = result.best.tables
    assert (table.shape, table.dtype, bias.any()) == ((140, 16), np.float32, False)
    assert result.best.epoch > 0
    assert {e.phase for e in result.evaluations} == {2}

    seen, held_out = split.train.matrix(), split.test.matrix()
    users = np.flatnonzero(np.diff(held_out.indptr))
    graph = spec.bipartite(split.train.users, split.train.items, 80, 60)
    entities = LightGCNStage(spec.normalise(graph), 80, settings, spec).embed(None, result.best.tables)
    learned = evaluate_embeddings(entities, bias, seen, held_out, (10,))["ndcg@10"]
    popular = mean_metrics(rank_by_popularity(users, seen, 10)[0], held_out[users], (10,))["ndcg@10"]
    assert learned > 1.2 * popular


@pytest.mark.numba
def test_both_implementations_train_alike() -> None:
    split, settings, _ = tiny()
    short = Schedule(batch=256, lr=0.02, n_negatives=1, max_epochs=6)
    ends = [train_lightgcn(split, settings, short, rng=np.random.default_rng(1), ops=ops) for ops in (spec, fast)]
    assert [e.n_steps for e in ends[0].evaluations] == [e.n_steps for e in ends[1].evaluations]
    first, second = (end.evaluations[-1].loss for end in ends)
    assert first == pytest.approx(second, rel=1e-4)


def test_nothing_is_assigned() -> None:
    stage, tables, _ = stage_of(spec, np.random.default_rng(0))
    assert isinstance(stage.refresh(None, tables), sparse.csr_array)
    assert stage.refresh(None, tables).shape == (N_USERS + N_ITEMS, 0)
    assert stage.prepare(stage.refresh(None, tables)) is None
