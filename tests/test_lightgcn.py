"""LightGCN as a stage: its embeddings by dense algebra, its gradient, and that it learns."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from conftest import PROJECT
from support.agreement import assert_close, same_bits
from support.implementations import FAST, fast

from c2f_ref import method
from c2f_ref.baselines import rank_by_popularity
from c2f_ref.evaluation import evaluate_embeddings
from c2f_ref.interactions import planted, split_ratio
from c2f_ref.method import Settings, Triples, mean_metrics
from c2f_ref.training import Schedule

sys.path.append(str(PROJECT / "examples"))
lightgcn: Any = importlib.import_module("lightgcn")
N_USERS, N_ITEMS, DIM, N_TRIPLES = 5, 7, 3, 8


def stage_of(ops: ModuleType) -> tuple[Any, Any, Triples]:
    """Stage, tables and triples of pairwise different sizes, read-only."""
    rng = np.random.default_rng(7)
    pairs = rng.integers(N_USERS, size=12), rng.integers(N_ITEMS, size=12)
    adjacency = method.normalise(method.bipartite(*pairs, N_USERS, N_ITEMS))
    settings = Settings(dim=DIM, n_layers=2, l2_weight=0.1)
    stage = lightgcn.LightGCNStage(adjacency, N_USERS, settings, ops)
    tables = rng.standard_normal((N_USERS + N_ITEMS, DIM)), np.zeros(N_USERS + N_ITEMS)
    triples = Triples(*(rng.integers(size, size=N_TRIPLES) for size in (N_USERS, N_ITEMS, N_ITEMS)))
    for array in (*tables, *triples):
        array.flags.writeable = False
    return stage, tables, triples


@pytest.mark.parametrize("ops", [method, FAST])
def test_embeddings_are_the_mean_of_powers_of_the_adjacency(ops: ModuleType) -> None:
    stage, tables, _ = stage_of(ops)
    adjacency = stage.norm_adjacency.toarray()
    expected = (tables[0] + adjacency @ tables[0] + adjacency @ adjacency @ tables[0]) / 3
    assert_close(stage.embed(None, tables), expected)


@pytest.mark.parametrize("ops", [method, FAST])
def test_the_gradient_is_that_of_the_loss_and_the_bias_stays_zero(ops: ModuleType) -> None:
    """The loss by definition: mean softplus of score differences, and the penalty on the rows."""
    stage, (table, bias), triples = stage_of(ops)
    loss, (grad, grad_bias) = stage.loss_and_grad(None, (table, bias), triples)
    assert not grad_bias.any()
    for seed in range(5):  # difference quotients, extrapolated
        direction = np.random.default_rng(seed).standard_normal(table.shape)
        slope, *quotients = float((grad * direction).sum()), 2.0**-8, 2.0**-9
        for place, step in enumerate(quotients):
            moved = (table + sign * step * direction for sign in (1, -1))
            ahead, behind = (stage.loss_and_grad(None, (x, bias), triples)[0] for x in moved)
            quotients[place] = (ahead - behind) / (2 * step)
        assert slope == pytest.approx((4 * quotients[1] - quotients[0]) / 3, rel=1e-6)
    entities, total = stage.embed(None, (table, bias)), 0.0
    for user, positive, negative in zip(*triples, strict=True):
        i, j = N_USERS + positive, N_USERS + negative
        total += np.log1p(np.exp(entities[user] @ (entities[j] - entities[i])))
        total += 0.1 * sum(float(table[row] @ table[row]) for row in (user, i, j))
    assert loss == pytest.approx(total / N_TRIPLES, rel=1e-12)


@pytest.mark.numba
def test_it_learns_alike_in_both_implementations_and_one_seed_gives_one_result() -> None:
    """On planted groups it beats popularity on held-out pairs."""
    sizes = {"n_users": 80, "n_items": 60, "n_groups": 4, "subgroups_per_group": 1}
    pairs = planted(**sizes, pairs_per_user=12, rng=np.random.default_rng(0))
    split, settings = split_ratio(pairs, valid=0.2, test=0.3, seed=0), Settings(dim=16, n_layers=2)
    schedule = Schedule(batch=256, lr=0.02, n_negatives=1, max_epochs=16, patience=3)

    def trained(ops: ModuleType) -> tuple[Any, Any]:
        return lightgcn.train_lightgcn(split, settings, schedule, ops, lambda progress: None)

    (stage, state), (_, again), (_, by_method) = map(trained, (fast, fast, method))
    assert same_bits(state.chosen.tables, again.chosen.tables)
    table, bias = state.chosen.tables
    assert (table.shape, table.dtype, bias.any()) == ((140, 16), np.float64, False)
    assert state.chosen.epoch > 0
    assert {evaluation.phase for evaluation in state.evaluations} == {2}
    first, other = (each.evaluations[1] for each in (state, by_method))
    assert (first.n_steps, first.loss) == (other.n_steps, pytest.approx(other.loss, rel=1e-4))

    seen, held_out = split.train.matrix(), split.test.matrix()
    users = np.flatnonzero(np.diff(held_out.indptr))
    entities = stage.embed(None, state.chosen.tables)
    learned = evaluate_embeddings(entities, bias, seen, held_out, (10,), ops=fast)
    popular = mean_metrics(rank_by_popularity(users, seen, 10)[0], held_out[users], (10,))
    assert learned["ndcg@10"] > 1.2 * popular["ndcg@10"]
