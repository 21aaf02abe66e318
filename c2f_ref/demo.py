"""The demonstration: the main job on planted data, without a network, in well under a minute."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from . import spec
from .baselines import rank_by_item_filter, rank_by_popularity
from .bundle import Model, save_model
from .interactions import Split, planted, split_ratio
from .plots import plot_training, save_picture
from .progress import ProgressLine
from .spec import mean_metrics
from .tables import metric_columns, text_table
from .training import DEMO_SETTINGS, RECIPES, embed_model, evaluate_model, to_model, train

KS = (5, 10, 20)


def run_demo(out: Path, seed: int) -> None:
    """Train both stages on planted data, print what came of it, and leave model and picture in the folder `out`.

    Errors: OSError where the folder cannot be made or written.
    """
    began = time.perf_counter()
    out.mkdir(parents=True, exist_ok=True)
    split = split_ratio(planted(rng=np.random.default_rng(seed)), valid=0.2, test=0.3, seed=seed)
    settings, recipe = DEMO_SETTINGS, RECIPES["demo"]
    print(f"planted data, seed {seed}: {split.describe()}")
    progress = ProgressLine()
    # The specification: kernels would take longer to compile than this takes.
    coarse, fine = train(split, settings, recipe, seed=seed, ops=spec, **progress.callbacks())
    progress.close()
    assert fine is not None
    models = {
        "coarse": to_model(split, settings, coarse.best),
        "coarse + fine": to_model(split, settings, coarse.best, fine.best, {"recipe": "demo", "seed": str(seed)}),
    }
    columns = metric_columns(KS)
    rows = {name: [f"{value:.4f}" for value in row.values()] for name, row in compared(split, models, KS).items()}
    print("\ntest pairs, all unseen items ranked; N is NDCG, R is recall:")
    print(text_table(list(columns.values()), rows))
    model = models["coarse + fine"]
    print(f"\nfirst 5 items for user {model.user_ids[0]}:")
    items, scores = spec.rank_items(
        embed_model(model, ops=spec), model.bias, model.n_users, np.zeros(1, dtype=np.int64), model.seen, 5
    )
    print("  ".join(f"{model.item_ids[item]} ({score:.2f})" for item, score in zip(items[0], scores[0], strict=True)))
    print("\n" + model.describe_stored())
    save_model(out / "model.npz", model)
    axes = plot_training((*coarse.evaluations, *fine.evaluations))
    save_picture(axes, out / "training.png")
    print(f"\nwrote {out / 'model.npz'} and {out / 'training.png'} after {time.perf_counter() - began:.0f} s")


def compared(split: Split, models: dict[str, Model], ks: Sequence[int]) -> dict[str, dict[str, float]]:
    """Test metrics of the two yardsticks that learn nothing, then of every model."""
    seen, held_out = split.train.matrix(), split.test.matrix()
    users = np.flatnonzero(np.diff(held_out.indptr))
    rows = {
        "popularity": mean_metrics(rank_by_popularity(users, seen, max(ks))[0], held_out[users], ks),
        "item filter": mean_metrics(rank_by_item_filter(users, seen, max(ks))[0], held_out[users], ks),
    }
    for name, model in models.items():
        rows[name] = evaluate_model(model, held_out, ks, ops=spec)
    return rows
