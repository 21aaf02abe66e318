"""LightGCN at full size as a stage of the method's loop: what compression is measured against.

    python examples/lightgcn.py [DATA] [--split FILE] [--set name=value]...

`method.train_stage` trains anything with the methods of `LightGCNStage`. Without DATA pairs are
planted and the schedule is that of the demo; on DATA, which is what `c2f-ref train` takes, training
makes at most 1,040 steps of `SCHEDULE`, 6 minutes on Gowalla (He et al. make steps of 2,048 triples
at 1e-3, for up to 1,000 epochs). Fields of `Schedule` are set with `coarse.`, as in coarse.lr=0.01.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import numpy as np
from common import baseline_metrics, figures, given, parser_of, table
from scipy import sparse

from c2f_ref import method
from c2f_ref.evaluation import evaluate_embeddings
from c2f_ref.interactions import Split
from c2f_ref.method import Settings, State, Triples
from c2f_ref.runtime import ProgressLine, one_blas_thread
from c2f_ref.training import Additions, Progress, Schedule, norm_adjacency_of, with_overrides

KS = (10, 20, 50)
SCHEDULE = Schedule(
    batch=65536,
    lr=0.02,
    last_lr=0.0005,
    n_negatives=1,
    draws_per_epoch=13 * 65536,
    max_epochs=81,
    evaluate_every=8,
    selection_k=20,
)


@dataclass(frozen=True)
class LightGCNStage:
    """A row of its own for every entity. Trains (E, b); b is 0 and has no gradient.

        H = (E + A E + ... + A^L E) / (L + 1);  score H_u . H_(U+i)

    Loss, penalty and sampling are those of the coarse stage. Nothing is assigned: there is no plan,
    and a refresh changes nothing.

    Source: He et al. 2020.
    """

    norm_adjacency: sparse.csr_array
    n_users: int
    settings: Settings
    ops: ModuleType
    name: str = "LightGCN"

    def prepare(self, assignment: sparse.csr_array) -> None:
        """The graph needs no preparation."""

    def embed(self, plan: None, tables: Any) -> Any:
        """Propagated entities. Shapes: E (N, D) -> (N, D)."""
        table, n_layers = tables[0].astype(self.norm_adjacency.dtype), self.settings.n_layers
        return self.ops.propagate_coarse(self.norm_adjacency, n_layers, table, table[:0])[0]

    def loss_and_grad(self, plan: None, tables: Any, triples: Triples) -> tuple[float, Any]:
        """Loss and (gradient in E, zeros)."""
        (table, bias), ops, n_users = tables, self.ops, self.n_users
        penalty = table, n_users, triples, self.settings.l2_weight
        entities, (users, *items) = self.embed(plan, tables), triples
        pairs = [(entities, bias, 0.0, n_users, users, each) for each in items]
        scores = [ops.score_pairs(*pair) for pair in pairs]
        loss = ops.bpr_loss(*scores) + ops.ego_penalty(*penalty)
        grads = zip(pairs, ops.bpr_loss_vjp(*scores, 1.0), strict=True)
        grad = sum(ops.score_pairs_vjp(*pair, grad)[0] for pair, grad in grads)
        back = self.norm_adjacency, self.settings.n_layers, grad, table[:0]
        grad = ops.propagate_coarse_vjp(*back)[0] + ops.ego_penalty_vjp(*penalty, 1.0)
        return loss, (grad, np.zeros_like(bias))

    def refresh(self, plan: None, tables: Any) -> sparse.csr_array:
        """Nothing is assigned."""
        return sparse.csr_array((len(tables[0]), 0))


def train_lightgcn(
    split: Split,
    settings: Settings,
    schedule: Schedule,
    ops: ModuleType,
    watch: Callable[[Progress], object],
) -> tuple[LightGCNStage, State]:
    """Train it, with `dim`, `n_layers`, `l2_weight` and Adam of the settings, from E ~ N(0, 0.1^2).

    Training starts in phase 2, so that patience ends it.

    As in the other stages the graph is float32, tables and Adam's moments are float64.

    Shapes: the tables of the state are E (N, D) and zeros (N,).
    """
    rng, pairs = np.random.default_rng(0), split.train
    stage = LightGCNStage(norm_adjacency_of(pairs, np.float32), pairs.n_users, settings, ops)
    table = 0.1 * rng.standard_normal((pairs.n_entities, settings.dim), dtype=np.float32)
    tables: Any = table.astype(np.float64), np.zeros(pairs.n_entities)
    ours = Additions(schedule, pairs, ops)
    schedule = ours.schedule
    judge = ours.judge(split.valid.matrix())
    start = replace(method.start_state(tables, stage.refresh(None, tables), rng=rng), phase=2)
    with one_blas_thread():
        for state in method.train_stage(stage, start, schedule, ours.draw_epoch, judge):
            watch(Progress(stage.name, state, schedule.max_steps, schedule.selection_k))
    return stage, state


def lightgcn_metrics(
    split: Split, settings: Settings, schedule: Schedule, ops: ModuleType, ks: tuple[int, ...]
) -> dict[str, float]:
    """Test metrics of the model that validation chose."""
    progress = ProgressLine()
    stage, state = train_lightgcn(split, settings, schedule, ops, progress)
    progress.close()
    entities, bias = stage.embed(None, state.chosen.tables), state.chosen.tables[1]
    pairs = split.train.matrix(), split.test.matrix()
    return evaluate_embeddings(entities, bias, *pairs, ks, ops=ops)


def main() -> None:
    """Train it and print a table with the baselines."""
    options = parser_of(__doc__).parse_args()
    split, settings, recipe, ops = given(options)
    if options.data:
        at_full_size = Settings(dim=64), replace(recipe, coarse=SCHEDULE)
        settings, recipe = with_overrides(*at_full_size, options.set)
    print(split.describe())
    rows = baseline_metrics(split, KS)
    rows[f"LightGCN, D = {settings.dim}"] = lightgcn_metrics(
        split, settings, recipe.coarse, ops, KS
    )
    print(table({name: figures(metrics) for name, metrics in rows.items()}))


if __name__ == "__main__":
    main()
