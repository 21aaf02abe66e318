"""What each stage brings: baselines, coarse, coarse + fine, and two controls, over several seeds.

    python examples/compare_stages.py [DATA] [--split FILE | --split-seed N] [--seeds 0 1 2]
        [--set name=value]...

DATA is a folder or file of your own, as for `c2f-ref train`, and is trained as published; without
it pairs are planted. All seeds share one split. The fine stage adds steps as well as a table. So it
has two controls, which make as many further steps from the same coarse model, with the fine stage's
batches, rate and evaluations, but without a fine table: "coarse continued" goes on training E_c and
b and refreshing S_c, "bias alone" trains b. Every model is chosen on validation items alone.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from dataclasses import replace
from typing import Any

import numpy as np
from common import Given, baseline_metrics, figures, given, parser_of, table

from c2f_ref import method
from c2f_ref.evaluation import evaluate_model
from c2f_ref.method import CoarseStage, Snapshot, Triples
from c2f_ref.model import Model
from c2f_ref.runtime import one_blas_thread
from c2f_ref.training import Additions, Progress, norm_adjacency_of, to_model, train

KS = (5, 10, 20, 50)
BYTES = "bytes: tables / all"


class BiasStage(CoarseStage):
    """Trains b alone: Adam does not move a table whose gradient is always 0."""

    def loss_and_grad(self, plan: Any, tables: Any, triples: Triples) -> tuple[float, Any]:
        """Loss and (zeros, grad_bias)."""
        loss, (grad, grad_bias) = super().loss_and_grad(plan, tables, triples)
        return loss, (np.zeros_like(grad), grad_bias)


def main() -> None:
    """Train everything and print one table."""
    parser = parser_of(__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    have = given(options, recipe="published")
    split, held_out = have.split, have.split.test.matrix()
    print(split.describe())
    print(f"{' '.join(options.set) or 'settings as they are'}; seeds {options.seeds}", flush=True)

    results = defaultdict(list, {n: [each] for n, each in baseline_metrics(split, KS).items()})
    stored: dict[str, str] = {}
    for seed in options.seeds:
        for name, model in models_of_one_seed(have, seed).items():
            results[name].append(evaluate_model(model, held_out, KS, ops=have.ops))
            totals = method.total_bytes(model.with_tables(np.float32, np.float32).stored_bytes())
            stored[name] = f"{totals['tables']:,} / {totals['everything']:,}"
            say(f"seed {seed}, {name}: {figures(results[name][-1])}")
    if options.json:
        print(json.dumps(results))
    terms = model.stored_bytes()  # baselines learn nothing, so one run says all
    stored["popularity"] = f"0 / {4 * split.train.n_items + terms['ids']:,}"
    stored["graph filter"] = f"0 / {terms['graph'] + terms['ids']:,}"
    rows = {}
    for name, of_seeds in results.items():
        values = {key: [metrics[key] for metrics in of_seeds] for key in of_seeds[0]}
        row = figures({key: float(np.mean(each)) for key, each in values.items()})
        if len(of_seeds) > 1:  # the standard deviation over seeds
            spreads = [np.std(each, ddof=1) for each in values.values()]
            row = {c: f"{m} +- {s:.4f}" for (c, m), s in zip(row.items(), spreads, strict=True)}
        rows[name] = row | {BYTES: stored[name]}
    print(table(rows))


def models_of_one_seed(have: Given, seed: int) -> dict[str, Model]:
    """Both stages, and the controls with as many steps as the fine stage took."""
    split, settings, recipe, ops = have

    def report(progress: Progress) -> None:
        if not progress.state.losses:  # just evaluated
            last = progress.state.evaluations[-1]
            where = f"{last.stage}, phase {last.phase}, epoch {last.epoch}, step {last.n_steps}"
            best = " (best)" if last.is_best else ""
            say(f"seed {seed}, {where}: validation NDCG {last.ndcg:.5f}{best}")

    coarse, fine = train(split, settings, recipe, seed=seed, ops=ops, watch=report)
    assert fine is not None
    dtype = np.float64 if ops is method else np.float32
    given = norm_adjacency_of(split.train, dtype), split.train.n_users, settings, ops
    # As many epochs as the fine stage, with the evaluation that ended it, and no patience.
    last = fine.epoch
    schedule = replace(recipe.fine, max_epochs=last + 1, patience=last + 2, max_fixed_epochs=None)
    ours = Additions(schedule, split.train, ops)
    schedule = ours.schedule
    hooks = ours.draw_epoch, ours.judge(split.valid.matrix()), ours.choose

    def control(stage: CoarseStage, phase: int) -> Snapshot:
        rng, chosen = np.random.default_rng([seed, phase]), coarse.chosen
        start = replace(method.start_state(chosen.tables, chosen.assignment, rng=rng), phase=phase)
        with one_blas_thread():
            for state in method.train_stage(stage, start, schedule, *hooks):
                report(Progress(stage.name, state, schedule.max_steps, schedule.selection_k))
        return state.chosen

    continued = control(CoarseStage(*given, name="coarse continued"), 2)
    rebiased = control(BiasStage(*given, name="bias alone"), 1)
    return {
        "coarse, S_c fixed": to_model(split, settings, coarse.best_fixed or coarse.chosen),
        "coarse": to_model(split, settings, coarse.chosen),
        "coarse + fine": to_model(split, settings, coarse.chosen, fine.chosen),
        "coarse continued": to_model(split, settings, continued),
        "bias alone": to_model(split, settings, rebiased),
    }


def say(line: str) -> None:
    """Progress goes to stderr."""
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
