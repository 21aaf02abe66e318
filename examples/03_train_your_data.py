"""From a file of pairs to recommendations: read, split, train, evaluate, recommend, save and load.

    python examples/03_train_your_data.py [PAIRS] [--out MODEL] [--user ID] [--set name=value]...

PAIRS is a file of user and item, one pair a line: CSV or TSV with a header, LightGCN text,
MovieLens or RecBole. Without one, a CSV of planted pairs is written first and then read like yours.
As commands this is `c2f-ref train`, `evaluate` and `recommend`.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

from c2f_ref.evaluation import bootstrap_intervals, embed_model, metrics_by_user
from c2f_ref.interactions import planted, read_interactions, split_ratio
from c2f_ref.method import Settings
from c2f_ref.model import load_model, save_model
from c2f_ref.runtime import ProgressLine, load_implementation
from c2f_ref.training import DEMO_SETTINGS, RECIPES, to_model, train, with_overrides


def main() -> None:
    """Every step of a small project."""
    form, out = argparse.RawDescriptionHelpFormatter, Path("c2f-examples/model.npz")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("pairs", type=Path, nargs="?", metavar="PAIRS")
    parser.add_argument("--out", type=Path, default=out, metavar="MODEL")
    parser.add_argument("--user", metavar="ID")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    options = parser.parse_args()
    if options.pairs and options.pairs.is_dir():
        parser.error("PAIRS must be one file; `c2f-ref train` takes a folder with two files")

    # 1. Read. Ids can be numbers or text and come back as they were; a malformed line is an error
    # that names it.
    pairs = read_interactions(
        options.pairs or write_planted(Path(tempfile.mkdtemp()) / "pairs.csv")
    )
    counts = f"{pairs.n_pairs:,} pairs of {pairs.n_users:,} users and {pairs.n_items:,} items"
    print(f"1. {counts}, {100 * pairs.n_pairs / (pairs.n_users * pairs.n_items):.2f} % of all")

    # 2. Split each user's pairs. The hash at the end says whether two runs were measured on the
    # same pairs.
    split = split_ratio(pairs, valid=0.2, test=0.2, seed=0)
    print(f"2. {split.describe()}")

    # 3. Train. Few entities need few rows: a coarse row for every 50 entities is a start, half as
    # many fine ones another. Compiled kernels pay where training takes longer than compiling.
    n_coarse = int(np.clip(pairs.n_entities // 50, DEMO_SETTINGS.coarse_per_entity, 300))
    sizes = [f"n_coarse={n_coarse}", f"n_fine={max(n_coarse // 2, DEMO_SETTINGS.fine_per_coarse)}"]
    base = (Settings(), RECIPES["laptop"]) if options.pairs else (DEMO_SETTINGS, RECIPES["demo"])
    settings, recipe = with_overrides(*base, [*sizes, *options.set])
    ops, progress = load_implementation(None if options.pairs else "method"), ProgressLine()
    coarse, fine = train(split, settings, recipe, seed=0, ops=ops, watch=progress)
    progress.close()
    model = to_model(split, settings, coarse.chosen, fine.chosen if fine else None)
    n_steps = coarse.n_steps + (fine.n_steps if fine else 0)
    print(f"3. {settings.n_coarse} coarse and {settings.n_fine} fine rows, {n_steps:,} steps")

    # 4. Evaluate on the test pairs, once, with an interval that says how far the choice of users
    # could have moved the mean.
    entities, held_out = embed_model(model, ops=ops), split.test.matrix()
    by_user = metrics_by_user(entities, model.bias, model.seen, held_out, (10,), ops=ops)
    for name, (low, high) in bootstrap_intervals(by_user, rng=np.random.default_rng(0)).items():
        print(f"4. {name} {by_user[name].mean():.4f}, 95 % between {low:.4f} and {high:.4f}")

    # 5. Save, load, recommend: the file is a plain .npz without pickle, written completely or not
    # at all.
    options.out.parent.mkdir(parents=True, exist_ok=True)
    save_model(options.out, model)
    loaded = load_model(options.out)
    user = pairs.user_index(options.user) if options.user else 0
    print(f"5. {options.out}, {options.out.stat().st_size:,} bytes")
    print(f"   the first items that are new to user {pairs.user_ids[user]}:")
    users, entities = np.array([user]), embed_model(loaded, ops=ops)
    items, scores = ops.rank_items(entities, loaded.bias, loaded.n_users, users, loaded.seen, 5)
    for item, score in zip(items[0], scores[0], strict=True):
        if item >= 0:
            print(f"   {loaded.item_ids[item]}  {score:.3f}")


def write_planted(path: Path) -> Path:
    """A file such as yours: a header, then a pair a line."""
    pairs = planted(rng=np.random.default_rng(0))
    ids = zip(pairs.user_ids[pairs.users], pairs.item_ids[pairs.items], strict=True)
    lines = (f"{user},{item}\n" for user, item in ids)
    path.write_text("user,item\n" + "".join(lines), encoding="utf-8")
    return path


if __name__ == "__main__":
    main()
