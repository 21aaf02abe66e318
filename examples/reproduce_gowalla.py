"""The published Gowalla table on your machine: both stages, three seeds on three official splits.

    python examples/reproduce_gowalla.py DATA [--out DIR] [--seeds 2024 2025 2026]
        [--recipe laptop] [--set name=value]... [--threads N]

DATA is a folder with Gowalla's train.txt and test.txt and the files official_split_seed2024.npz,
...2025.npz, ...2026.npz. The training pairs are the same in all three; validation and test pairs
differ (D9). Trained are

- coarse and fine on the split of each seed, and
- fine on each split from the one coarse model of the first, as published (D16: that model was
  chosen on validation items some of which are test items of the other splits).

Every model is chosen on validation items alone. DIR gets the models, checkpoints (a second call
resumes where the first was stopped, and repeats nothing that is finished), `curves.png`, and
`log.json` with every evaluation and all metrics with intervals.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from common import figures, table

from c2f_ref.evaluation import bootstrap_intervals, embed_model, metrics_by_user
from c2f_ref.interactions import Split, read_split
from c2f_ref.method import Evaluation, Settings, Snapshot, State
from c2f_ref.model import save_model
from c2f_ref.plots import plot_training, save_picture
from c2f_ref.runtime import ProgressLine, at_most
from c2f_ref.training import RECIPES, Recipe, Trainer, to_model, with_overrides

KS = (5, 10, 20, 50)
SEEDS = (2024, 2025, 2026)
PUBLISHED = {
    "coarse, seed 2024": (0.0788, 0.0856, 0.0984, 0.1213, 0.0678, 0.0978, 0.1405, 0.2233),
    "fine, seed 2024": (0.0829, 0.0897, 0.1021, 0.1247, 0.0712, 0.1016, 0.1433, 0.2251),
    "fine, seed 2025": (0.0840, 0.0906, 0.1032, 0.1256, 0.0717, 0.1020, 0.1446, 0.2256),
    "fine, seed 2026": (0.0843, 0.0907, 0.1034, 0.1258, 0.0721, 0.1022, 0.1446, 0.2257),
}
"""Test metrics of the authors' logs, N@5, N@10, N@20, N@50, R@5, ..., R@50; the fine runs start
from the one coarse model."""
KEYS = [f"{name}@{k}" for name in ("ndcg", "recall") for k in KS]


@dataclass
class Reproduction:
    """What all runs share, and what they leave: metrics by row of the table, and the log."""

    out: Path
    settings: Settings
    recipe: Recipe
    metrics: dict[str, dict[str, float]] = field(default_factory=dict)
    runs: dict[str, Any] = field(default_factory=dict)
    curves: dict[str, tuple[Evaluation, ...]] = field(default_factory=dict)
    began: float = field(default_factory=time.perf_counter)

    def coarse(self, split: Split, seed: int) -> State:
        """The coarse stage on a split."""
        name = f"coarse, seed {seed}"
        state = self._trainer(name, split, seed).coarse()
        self._finish(name, split, state, state.chosen, None)
        return state

    def fine(self, name: str, split: Split, coarse: State, seed: int) -> None:
        """The fine stage on a split, from a coarse model of this or of another one."""
        state = self._trainer(name, split, seed).fine(coarse.chosen)
        self._finish(name, split, state, coarse.chosen, state.chosen)

    def _trainer(self, name: str, split: Split, seed: int) -> Trainer:
        """Each run has a folder of its own for its checkpoint."""
        return Trainer(
            split=split,
            settings=self.settings,
            recipe=self.recipe,
            seed=seed,
            checkpoint=self.out / "checkpoints" / file_name(name),
            resume=True,
            watch=ProgressLine(),
        )

    def _finish(
        self, name: str, split: Split, state: State, coarse: Snapshot, fine: Snapshot | None
    ) -> None:
        """Test the chosen model, save it, and report."""
        model = to_model(split, self.settings, coarse, fine, {"run": name})
        held_out = split.test.matrix()
        by_user = metrics_by_user(embed_model(model), model.bias, model.seen, held_out, KS)
        means = {key: float(by_user[key].mean()) for key in KEYS}
        chosen = fine or coarse
        self.metrics[name], self.curves[name] = means, state.evaluations
        self.runs[name] = {
            "split": split.describe(),
            "best": {"epoch": chosen.epoch, "step": chosen.n_steps, "validation_ndcg": chosen.ndcg},
            "test": means,
            "test_intervals": bootstrap_intervals(by_user, rng=np.random.default_rng(0)),
            "stored_bytes": model.stored_bytes(),
            "evaluations": [asdict(evaluation) for evaluation in state.evaluations],
        }
        how = {"settings": asdict(self.settings), "recipe": asdict(self.recipe)}
        save_model(self.out / f"{file_name(name)}.npz", model)
        (self.out / "log.json").write_text(json.dumps(how | {"runs": self.runs}, indent=1))
        words = " ".join(f"{key} {value:.4f}" for key, value in means.items())
        minutes = (time.perf_counter() - self.began) / 60
        steps = f"step {chosen.n_steps} of {state.n_steps}"
        print(f"{name}: {words}; {steps}; {minutes:.1f} minutes so far", flush=True)

    def table(self) -> str:
        """Ours and the published figures, row by row; means where all three splits are there."""
        rows = {}
        for name, metrics in self.metrics.items():
            rows[name] = figures(metrics)
            if name in PUBLISHED:
                rows[f"{name}, published"] = figures(dict(zip(KEYS, PUBLISHED[name], strict=True)))
        for kind in ("fine, seed {}", "fine of its own coarse, seed {}"):
            names = [kind.format(seed) for seed in SEEDS]
            if set(names) <= self.metrics.keys():
                ours = [list(self.metrics[name].values()) for name in names]
                published = [PUBLISHED[f"fine, seed {seed}"] for seed in SEEDS]
                rows[kind.format("mean")] = mean_figures(ours)
                rows["fine, mean, published"] = mean_figures(published)
        return table(rows)


def mean_figures(of_seeds: Any) -> dict[str, str]:
    """Cells of the mean over seeds. Shapes: (seeds, metrics)."""
    return figures(dict(zip(KEYS, np.mean(of_seeds, axis=0), strict=True)))


def file_name(name: str) -> str:
    """The name of a run as part of a path."""
    return name.replace(", ", "-").replace(" ", "-")


def main() -> None:
    """Train what there are splits for, and print the table."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("--out", type=Path, default=Path("gowalla-reproduction"), metavar="DIR")
    parser.add_argument("--recipe", choices=sorted(RECIPES), default="laptop")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS), metavar="N")
    parser.add_argument("--threads", type=int, metavar="N")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    both = with_overrides(Settings(), RECIPES[options.recipe], options.set)
    run, (first, *others) = Reproduction(options.out, *both), options.seeds
    files = {seed: options.data / f"official_split_seed{seed}.npz" for seed in options.seeds}
    splits = {seed: read_split(options.data, split_file=file) for seed, file in files.items()}
    with at_most(options.threads):
        coarse = run.coarse(splits[first], first)
        for seed, split in splits.items():
            run.fine(f"fine, seed {seed}", split, coarse, seed)
        own = "fine of its own coarse, seed {}"
        for seed in others:
            run.fine(own.format(seed), splits[seed], run.coarse(splits[seed], seed), seed)
        if others:
            run.metrics[own.format(first)] = run.metrics[f"fine, seed {first}"]
    curves = run.curves[f"coarse, seed {first}"] + run.curves[f"fine, seed {first}"]
    save_picture(plot_training(curves), options.out / "curves.png")
    print(run.table())


if __name__ == "__main__":
    main()
