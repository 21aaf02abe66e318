"""The published Gowalla table on your machine: both stages, three seeds on the three official splits.

    python examples/reproduce_gowalla.py DATA [--out DIR] [--recipe laptop] [--set name=value]... [--threads N]

DATA is a folder with Gowalla's train.txt and test.txt and the files official_split_seed2024.npz, ...2025.npz, ...2026.npz, as many
of them as there are. The training pairs are the same in all three; validation and test pairs differ (D9). Trained are

- coarse and fine on the split of each seed, and
- fine on each split from the one coarse model of the first, as published (D16: that model was chosen on validation items some of
  which are test items of the other splits).

Every model is chosen on validation items alone. DIR gets the models, checkpoints (a second call goes on where the first was
stopped, and redoes nothing that is finished), `curves.png`, and `log.json` with every evaluation, all metrics with intervals, and
seconds.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from c2f_ref.bundle import save_model
from c2f_ref.interactions import Split, read_split
from c2f_ref.plots import plot_training, save_picture
from c2f_ref.progress import ProgressLine
from c2f_ref.spec import Settings
from c2f_ref.tables import metric_columns, text_table
from c2f_ref.threads import at_most
from c2f_ref.training import (
    RECIPES,
    Checkpoints,
    Evaluation,
    Recipe,
    Snapshot,
    StageResult,
    bootstrap_intervals,
    embed_model,
    metrics_by_user,
    to_model,
    train_coarse,
    train_fine,
    with_overrides,
)

KS = (5, 10, 20, 50)
SEEDS = (2024, 2025, 2026)
PUBLISHED = {
    "coarse, seed 2024": (0.0788, 0.0856, 0.0984, 0.1213, 0.0678, 0.0978, 0.1405, 0.2233),
    "fine, seed 2024": (0.0829, 0.0897, 0.1021, 0.1247, 0.0712, 0.1016, 0.1433, 0.2251),
    "fine, seed 2025": (0.0840, 0.0906, 0.1032, 0.1256, 0.0717, 0.1020, 0.1446, 0.2256),
    "fine, seed 2026": (0.0843, 0.0907, 0.1034, 0.1258, 0.0721, 0.1022, 0.1446, 0.2257),
}
"""Test metrics of the authors' logs, N@5, N@10, N@20, N@50, R@5, ..., R@50; the fine runs start from the one coarse model."""


class Reproduction:
    """What all runs share, and what they leave: metrics by row of the table, and the log."""

    def __init__(self, out: Path, settings: Settings, recipe: Recipe) -> None:
        self.out, self.settings, self.recipe = out, settings, recipe
        self.metrics: dict[str, list[float]] = {}
        self.log: dict[str, Any] = {"settings": asdict(settings), "recipe": asdict(recipe), "runs": {}}
        self.curves: dict[str, tuple[Evaluation, ...]] = {}

    def coarse(self, split: Split, seed: int) -> StageResult:
        """The coarse stage on a split."""
        began = time.perf_counter()
        rng = np.random.default_rng(seed).spawn(2)[0]
        result = train_coarse(split, self.settings, self.recipe, rng=rng, **self._shared(split, f"coarse, seed {seed}", seed))
        self._finish(f"coarse, seed {seed}", split, result, began, result.best, None)
        return result

    def fine(self, name: str, split: Split, coarse: StageResult, seed: int) -> StageResult:
        """The fine stage on a split, from a coarse model of this or of another one."""
        began = time.perf_counter()
        rng = np.random.default_rng(seed).spawn(2)[1]
        result = train_fine(split, coarse.best, self.settings, self.recipe, rng=rng, **self._shared(split, name, seed))
        self._finish(name, split, result, began, coarse.best, result.best)
        return result

    def _shared(self, split: Split, name: str, seed: int) -> dict[str, Any]:
        run = {"name": name, "split": split.describe(), "seed": seed, **{key: self.log[key] for key in ("settings", "recipe")}}
        checkpoints = Checkpoints(self.out / "checkpoints" / name.replace(", ", "-").replace(" ", "-"), run, resume=True)
        return {"checkpoints": checkpoints, **ProgressLine().callbacks()}

    def _finish(self, name: str, split: Split, result: StageResult, began: float, coarse: Snapshot, fine: Snapshot | None) -> None:
        """Test the chosen model, save it, and tell."""
        seconds = time.perf_counter() - began
        chosen = fine or coarse
        model = to_model(split, self.settings, coarse, fine, {"run": name})
        held_out = split.test.matrix()
        by_user = metrics_by_user(embed_model(model), model.bias, model.seen, held_out, KS)
        means = {key: float(values.mean()) for key, values in by_user.items()}
        self.metrics[name] = [means[key] for key in metric_columns(KS)]
        self.curves[name] = result.evaluations
        stage_seconds = result.evaluations[-1].seconds
        self.log["runs"][name] = {
            "split": split.describe(),
            "seconds": stage_seconds,
            "seconds_with_start": seconds,
            "best": {"epoch": chosen.epoch, "step": chosen.n_steps, "validation_ndcg": chosen.ndcg},
            "test": means,
            "test_intervals": bootstrap_intervals(by_user, rng=np.random.default_rng(0)),
            "stored_bytes": model.stored_bytes(),
            "evaluations": [asdict(evaluation) for evaluation in result.evaluations],
        }
        save_model(self.out / f"{name.replace(', ', '-').replace(' ', '-')}.npz", model)
        (self.out / "log.json").write_text(json.dumps(self.log, indent=1))
        figures = " ".join(f"{key} {value:.4f}" for key, value in means.items())
        print(f"{name}: {figures}; step {chosen.n_steps} of {result.n_steps}, {stage_seconds / 60:.1f} min", flush=True)

    def table(self) -> str:
        """Ours and the published figures, row by row; means over splits where all three are there."""
        rows = {}
        for name, figures in self.metrics.items():
            rows[name] = [f"{value:.4f}" for value in figures]
            if name in PUBLISHED:
                rows[f"{name}, published"] = [f"{value:.4f}" for value in PUBLISHED[name]]
        for kind in ("fine, seed {}", "fine of its own coarse, seed {}"):
            names = [kind.format(seed) for seed in SEEDS]
            if set(names) <= self.metrics.keys():
                rows[kind.format("mean")] = [f"{value:.4f}" for value in np.mean([self.metrics[name] for name in names], axis=0)]
                published = np.mean([PUBLISHED[f"fine, seed {seed}"] for seed in SEEDS], axis=0)
                rows["fine, mean, published"] = [f"{value:.4f}" for value in published]
        return text_table(list(metric_columns(KS).values()), rows)


def main() -> None:
    """Train what there are splits for, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("--out", type=Path, default=Path("gowalla-reproduction"), metavar="DIR")
    parser.add_argument("--recipe", choices=sorted(RECIPES), default="laptop")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=list(SEEDS), help="of the splits, the published coarse model's first"
    )
    parser.add_argument("--threads", type=int, metavar="N")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    run = Reproduction(options.out, *with_overrides(Settings(), RECIPES[options.recipe], options.set))
    files = {seed: options.data / f"official_split_seed{seed}.npz" for seed in options.seeds}
    splits = {seed: read_split(options.data, split_file=file) for seed, file in files.items()}
    with at_most(options.threads):
        first = options.seeds[0]
        coarse = run.coarse(splits[first], first)
        for seed, split in splits.items():
            run.fine(f"fine, seed {seed}", split, coarse, seed)
        for seed in options.seeds[1:]:
            run.fine(f"fine of its own coarse, seed {seed}", splits[seed], run.coarse(splits[seed], seed), seed)
        if len(options.seeds) > 1:
            run.metrics[f"fine of its own coarse, seed {first}"] = run.metrics[f"fine, seed {first}"]
    axes = plot_training((*run.curves[f"coarse, seed {first}"], *run.curves[f"fine, seed {first}"]))
    save_picture(axes, options.out / "curves.png")
    print(run.table())


if __name__ == "__main__":
    main()
