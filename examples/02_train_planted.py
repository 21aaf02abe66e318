"""Both stages on data whose structure is known, against two yardsticks that learn nothing; a table and the training curves.

    python examples/02_train_planted.py [DATA] [--out DIR] [--set name=value]...

Without DATA the pairs are planted: 600 users in 6 groups of 4 subgroups prefer the items of their group, and more so those of
their subgroup. DATA is a folder or file of your own, as for `c2f-ref train`. DIR gets `training.png`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from c2f_ref import spec
from c2f_ref.demo import compared
from c2f_ref.interactions import planted, read_split, split_ratio
from c2f_ref.plots import plot_training, save_picture
from c2f_ref.spec import Settings
from c2f_ref.tables import metric_columns, text_table
from c2f_ref.training import DEMO_SETTINGS, RECIPES, Evaluation, to_model, train, with_overrides

KS = (5, 10, 20)


def main() -> None:
    """Train, compare, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", metavar="DATA")
    parser.add_argument("--out", type=Path, default=Path("c2f-examples"), metavar="DIR")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    options = parser.parse_args()

    # Pairs are divided into three sets per user. Validation pairs choose the model, test pairs are looked at once, below.
    if options.data:
        split, settings, recipe, ops = read_split(options.data), Settings(), RECIPES["laptop"], None
    else:
        split = split_ratio(planted(rng=np.random.default_rng(0)), valid=0.2, test=0.3, seed=0)
        settings, recipe, ops = DEMO_SETTINGS, RECIPES["demo"], spec  # the specification: kernels would take longer to compile
    settings, recipe = with_overrides(settings, recipe, options.set)
    print(
        f"data: {split.describe()}\nmodel: {settings.n_coarse} coarse and {settings.n_fine} fine rows of {settings.dim} dimensions"
    )

    # The coarse stage learns what groups of entities share. Phase 1 keeps every entity on the rows it was given by partition;
    # watch the jump when phase 2 begins, which lets entities choose their rows anew, once an epoch.
    # The fine stage freezes that and adds sparse rows, to which coarse rows are bridged.
    coarse, fine = train(split, settings, recipe, seed=0, ops=ops, on_evaluation=tell)
    assert fine is not None
    models = {
        "coarse": to_model(split, settings, coarse.best),
        "coarse + fine": to_model(split, settings, coarse.best, fine.best),
    }

    # All items are ranked, those of training are masked. Look at whether each line beats the one above.
    columns = metric_columns(KS)
    rows = {name: [f"{value:.4f}" for value in row.values()] for name, row in compared(split, models, KS).items()}
    print("\ntest pairs (N is NDCG, R is recall, at 5, 10, 20):")
    print(text_table(list(columns.values()), rows))

    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "training.png"
    save_picture(plot_training((*coarse.evaluations, *fine.evaluations)), path)
    print(f"\nwrote {path}: the hatched parts are those in which assignments are refreshed, with a tick for every refresh")


def tell(evaluation: Evaluation) -> None:
    """One line for every evaluation."""
    chosen = " (best of its phase so far)" if evaluation.is_best else ""
    where = f"{evaluation.stage} stage, phase {evaluation.phase}, step {evaluation.n_steps:4}"
    print(f"{where}: validation NDCG {evaluation.ndcg:.4f}{chosen}", flush=True)


if __name__ == "__main__":
    main()
