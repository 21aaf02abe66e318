"""What each stage brings, on your data: two yardsticks, coarse, coarse + fine, and two controls, over several seeds.

    python examples/compare_stages.py DATA [--split FILE | --split-seed N] [--seeds 0 1 2] [--set name=value]...

DATA is a folder with train.txt and test.txt or one file of pairs, as for `c2f-ref train`; all seeds share one split. The
fine stage adds steps as well as a table. So it has two controls, which make as many further steps from the same coarse model,
with the fine stage's batches, rate and evaluations, but without a fine table: "coarse continued" goes on training E_c and b
and refreshing S_c, "bias alone" trains b. Every model is chosen on validation items alone.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from c2f_ref import fast, spec
from c2f_ref.baselines import rank_by_item_filter, rank_by_popularity
from c2f_ref.bundle import Model
from c2f_ref.interactions import Split, read_split
from c2f_ref.spec import Float64Array, Settings, Triples
from c2f_ref.tables import metric_columns, text_table
from c2f_ref.training import (
    RECIPES,
    CoarseStage,
    Evaluation,
    Recipe,
    StageResult,
    Tables,
    evaluate_model,
    run_stage,
    start_state,
    to_model,
    train,
    with_overrides,
)

KS = (5, 10, 20, 50)


@dataclass(frozen=True)
class BiasStage:
    """Trains b alone on a frozen coarse model; its one table is the bias."""

    coarse: CoarseStage
    table: Float64Array
    name: str = "bias alone"

    def prepare(self, assignment: Any, previous: Any = None) -> Any:
        """Graph of entities and coarse nodes."""
        return self.coarse.prepare(assignment, previous)

    def embed(self, plan: Any, tables: Tables) -> Float64Array:
        """Propagated entities (N, D)."""
        return self.coarse.embed(plan, (self.table, *tables))

    def loss_and_grad(self, plan: Any, tables: Tables, triples: Triples) -> tuple[float, Tables]:
        """Loss and (grad_bias,)."""
        loss, (_, grad_bias) = self.coarse.loss_and_grad(plan, (self.table, *tables), triples)
        return loss, (grad_bias,)

    def refresh(self, plan: Any, tables: Tables) -> Any:
        """S_c anew; never called, since the stage stays in its first phase."""
        return self.coarse.refresh(plan, (self.table, *tables))


def main() -> None:
    """Train everything and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("--split", type=Path, metavar="FILE")
    parser.add_argument("--split-seed", type=int, default=0, metavar="N")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    split = read_split(options.data, split_file=options.split, seed=options.split_seed)
    settings, recipe = with_overrides(Settings(), RECIPES["published"], options.set)
    print(split.describe())
    print(f"settings {' '.join(options.set) or 'as published'}; seeds {' '.join(map(str, options.seeds))}", flush=True)
    results: dict[str, list[dict[str, float]]] = defaultdict(list)
    stored: dict[str, str] = {}
    yardsticks(split, results, stored)
    for seed in options.seeds:
        for name, model in models_of_one_seed(split, settings, recipe, seed).items():
            metrics = evaluate_model(model, split.test.matrix(), KS, ops=fast)
            results[name].append(metrics)
            totals = spec.total_bytes(model.with_tables(np.float32, np.float32).stored_bytes())
            stored[name] = f"{totals['tables']:,} / {totals['everything']:,}"
            told(f"seed {seed}, {name}: " + " ".join(f"{key} {value:.4f}" for key, value in metrics.items()))
    if options.json:
        print(json.dumps(results))
    columns = metric_columns(KS)
    rows = {
        name: [*(spread([metrics[key] for metrics in of_seeds]) for key in columns), stored[name]]
        for name, of_seeds in results.items()
    }
    print(text_table([*columns.values(), "bytes: tables / all"], rows))


def yardsticks(split: Split, results: dict[str, list[dict[str, float]]], stored: dict[str, str]) -> None:
    """Popularity and the linear item filter: they learn nothing, so one run says all."""
    seen, held_out = split.train.matrix(), split.test.matrix()
    users = np.flatnonzero(np.diff(held_out.indptr))
    graph = spec.stored_bytes_bound(Settings(), split.train.n_users, split.train.n_items, n_pairs=seen.nnz)["graph"]
    pairs_and_ids = graph + split.train.user_ids.nbytes + split.train.item_ids.nbytes
    for name, rank, n_floats in (
        ("popularity", rank_by_popularity, split.train.n_items),
        ("item filter", rank_by_item_filter, split.train.n_entities),
    ):
        results[name].append(spec.mean_metrics(rank(users, seen, max(KS))[0], held_out[users], KS))
        stored[name] = f"0 / {4 * n_floats + pairs_and_ids:,}"


def models_of_one_seed(split: Split, settings: Settings, recipe: Recipe, seed: int) -> dict[str, Model]:
    """Both stages, and the controls with as many steps as the fine stage took."""

    def report(evaluation: Evaluation) -> None:
        told(
            f"seed {seed}, {evaluation.stage}, phase {evaluation.phase}, epoch {evaluation.epoch}, step {evaluation.n_steps}: "
            f"validation NDCG {evaluation.ndcg:.5f}{' (best)' if evaluation.is_best else ''}, {evaluation.seconds:.0f} s"
        )

    coarse, fine = train(split, settings, recipe, seed=seed, on_evaluation=report)
    assert fine is not None
    train_pairs = split.train
    graph = spec.bipartite(train_pairs.users, train_pairs.items, train_pairs.n_users, train_pairs.n_items)
    adjacency = spec.normalise(graph).astype(np.float32)
    stage = CoarseStage(adjacency, train_pairs.n_users, settings, fast, name="coarse continued")
    # As many epochs as the fine stage, with the evaluation that ended it, and no patience.
    as_long = replace(recipe.fine, max_epochs=fine.last_epoch + 1, patience=fine.last_epoch + 2)
    table, bias = coarse.best.tables

    def control(stage: Any, tables: Tables, first_phase: int) -> StageResult:
        rng = np.random.default_rng([seed, first_phase])
        state = start_state(tables, coarse.best.assignment, rng=rng, first_phase=first_phase)
        return run_stage(stage, state, split, settings, as_long, ops=fast, on_evaluation=report)

    continued = control(stage, (table, bias), 2)
    rebiased = control(BiasStage(stage, table), (bias,), 1).best
    assert coarse.best_fixed is not None
    return {
        "coarse, S_c fixed": to_model(split, settings, coarse.best_fixed),
        "coarse": to_model(split, settings, coarse.best),
        "coarse + fine": to_model(split, settings, coarse.best, fine.best),
        "coarse continued": to_model(split, settings, continued.best),
        "bias alone": to_model(split, settings, replace(rebiased, tables=(table, *rebiased.tables))),
    }


def spread(values: list[float]) -> str:
    """Mean, and the standard deviation over seeds where there are several."""
    return f"{np.mean(values):.4f}" + (f" +- {np.std(values, ddof=1):.4f}" if len(values) > 1 else "")


def told(line: str) -> None:
    """Progress goes to stderr."""
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
