"""The yardsticks: what ranking without learning, or without compression, achieves."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any, Unpack

import numpy as np
from scipy import sparse

from .interactions import Split
from .spec import Float64Array, IntArray, Settings, Triples, bipartite, normalise, rank_by
from .training import Callbacks, Schedule, StageResult, Tables, default_ops, norm_adjacency_of, run_stage, start_state


def rank_by_popularity(users: IntArray, seen: sparse.csr_array, k: int) -> tuple[IntArray, Float64Array]:
    """The k items with most training pairs that the user has not seen: (items, scores).

    Shapes: users (B,) int64, seen (U, I) -> (B, k) int64, (B, k).
    Edge: ties go to the lowest index; otherwise as `c2f_ref.spec.rank_items`.
    """
    counts = np.bincount(seen.indices, minlength=seen.shape[1]).astype(np.float64)
    return rank_by(lambda block: np.tile(counts, (block.size, 1)), users, seen, k)


def rank_by_item_filter(users: IntArray, seen: sparse.csr_array, k: int) -> tuple[IntArray, Float64Array]:
    """A linear filter over co-occurring items, which learns nothing: (items, scores).

        scores = R~ R~^T R~,  R~ = D_u^-1/2 R D_i^-1/2

    Shapes: users (B,) int64, seen (U, I) -> (B, k) int64, (B, k).
    Edge: users and items without a pair score 0; otherwise as `c2f_ref.spec.rank_items`.
    Source: the linear part of GF-CF, Shen et al., CIKM 2021.
    """
    norm_seen = item_filter(seen)
    return rank_by(lambda block: np.asarray((norm_seen[block] @ norm_seen.T).toarray() @ norm_seen), users, seen, k)


def item_filter(seen: sparse.csr_array) -> sparse.csr_array:
    """R~: every pair divided by the root of the product of its user's and its item's number of pairs, as the graph A has it.

    Shapes: seen (U, I) -> (U, I).
    """
    n_users, n_items = seen.shape
    users, items = seen.nonzero()
    return normalise(bipartite(users, items, n_users, n_items))[:n_users, n_users:]


@dataclass(frozen=True)
class LightGCNStage:
    """A row of its own for every entity: what compression is measured against. Trains (E, b); b is 0 and has no gradient.

        H = (E + A E + ... + A^L E) / (L + 1),  score H_u . H_(U+i)

    Loss, penalty and sampling are those of the coarse stage. Its assignment has no entries, and a refresh changes nothing.

    Source: He et al., SIGIR 2020.
    """

    norm_adjacency: sparse.csr_array
    n_users: int
    settings: Settings
    ops: ModuleType
    name: str = "LightGCN"

    def prepare(self, assignment: sparse.csr_array, previous: Any = None) -> Any:
        """The graph needs no preparation."""
        return None

    def embed(self, plan: Any, tables: Tables) -> Float64Array:
        """Propagated entities (N, D)."""
        table = tables[0]
        entities: Float64Array = self.ops.propagate_coarse(self.norm_adjacency, self.settings.n_layers, table, table[:0])[0]
        return entities

    def loss_and_grad(self, plan: Any, tables: Tables, triples: Triples) -> tuple[float, Tables]:
        """Loss and (gradient in E, zeros)."""
        (table, bias), ops, n_users, weight = tables, self.ops, self.n_users, self.settings.l2_weight
        entities = self.embed(plan, tables)
        pairs = [(entities, bias, 0.0, n_users, triples.users, items) for items in (triples.positives, triples.negatives)]
        scores = [ops.score_pairs(*pair) for pair in pairs]
        loss = ops.bpr_loss(*scores) + ops.ego_penalty(table, n_users, triples, weight)
        grads = ops.bpr_loss_vjp(*scores, 1.0)
        grad_entities = sum(ops.score_pairs_vjp(*pair, grad)[0] for pair, grad in zip(pairs, grads, strict=True))
        grad_table = ops.propagate_coarse_vjp(self.norm_adjacency, self.settings.n_layers, grad_entities, table[:0])[0]
        return loss, (grad_table + ops.ego_penalty_vjp(table, n_users, triples, weight, 1.0), np.zeros_like(bias))

    def refresh(self, plan: Any, tables: Tables) -> sparse.csr_array:
        """Nothing is assigned."""
        return sparse.csr_array((len(tables[0]), 0))


LIGHTGCN_SCHEDULE = Schedule(
    batch=65536,
    lr=0.02,
    last_lr=0.0005,
    n_negatives=1,
    draws_per_epoch=13 * 65536,
    max_epochs=81,
    evaluate_every=8,
    selection_k=20,
)
"""At most 1,040 large steps, minutes on Gowalla; He et al. make steps of 2,048 triples at 1e-3 for up to 1,000 epochs."""


def train_lightgcn(
    split: Split,
    settings: Settings,
    schedule: Schedule = LIGHTGCN_SCHEDULE,
    *,
    rng: np.random.Generator,
    ops: ModuleType | None = None,
    **callbacks: Unpack[Callbacks],
) -> StageResult:
    """Train LightGCN at full size, by the loop that trains the stages: `dim`, `n_layers`, `l2_weight` and Adam are the settings'.

    Shapes: the result's tables are E (N, D) float32 and zeros (N,).
    Errors: SpecError for a split without training or validation pairs.
    Source: He et al., SIGIR 2020; E starts from N(0, 0.1^2), as there.
    """
    ops = ops or default_ops()
    train = split.train
    table = 0.1 * rng.standard_normal((train.n_entities, settings.dim), dtype=np.float32)
    stage = LightGCNStage(norm_adjacency_of(train, np.float32), train.n_users, settings, ops)
    tables: Any = table, np.zeros(train.n_entities, dtype=np.float32)
    state = start_state(tables, stage.refresh(None, tables), rng=rng, first_phase=2)
    return run_stage(stage, state, split, settings, schedule, ops=ops, **callbacks)
