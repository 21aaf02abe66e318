"""How much recall a byte buys: models of several sizes, or of several budgets, against LightGCN, popularity and the item filter.

    python examples/04_memory_against_recall.py [DATA [--split FILE]] [--coarse 6 12 24 48] [--budgets BYTES...] [--out DIR]
        [--set name=value]...

For every number of coarse rows both stages are trained, with a third as many fine rows, as published. A budget is turned into
the largest model that can be promised to stay within it (`Settings.for_budget`). LightGCN has one vector for every entity, of D and
of D / 8 numbers; on planted pairs it is trained like the coarse stage, on yours by `c2f_ref.baselines.LIGHTGCN_SCHEDULE`. DATA is a
folder or file of your own and FILE a split of it, as for `c2f-ref train`; without DATA pairs are planted. DIR gets
`memory_against_recall.png`.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from c2f_ref import spec
from c2f_ref.baselines import LIGHTGCN_SCHEDULE, rank_by_item_filter, rank_by_popularity, train_lightgcn
from c2f_ref.interactions import Split, planted, read_split, split_ratio
from c2f_ref.plots import plot_memory, save_picture
from c2f_ref.progress import ProgressLine
from c2f_ref.spec import Settings
from c2f_ref.spec.memory import stored_bytes_bound
from c2f_ref.tables import text_table
from c2f_ref.training import (
    DEMO_SETTINGS,
    RECIPES,
    Schedule,
    default_ops,
    evaluate_embeddings,
    evaluate_model,
    to_model,
    train,
    with_overrides,
)

K = 20
QUICK = ("max_epochs=61", "patience=2")
"""For planted pairs: enough to see the shape of the curve in under a minute."""


def main() -> None:
    """Train everything, print the table, draw the curve."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", metavar="DATA")
    parser.add_argument("--split", type=Path, metavar="FILE")
    parser.add_argument("--coarse", type=int, nargs="*", default=[6, 12, 24, 48], metavar="C")
    parser.add_argument("--budgets", type=int, nargs="*", default=[], metavar="BYTES")
    parser.add_argument("--out", type=Path, default=Path("c2f-examples"), metavar="DIR")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    options = parser.parse_args()
    if options.data:
        split, ops = read_split(options.data, split_file=options.split), default_ops()
        settings, recipe = with_overrides(Settings(), RECIPES["laptop"], options.set)
        lightgcn_schedule = with_overrides(settings, replace(recipe, coarse=LIGHTGCN_SCHEDULE), options.set)[1].coarse
    else:
        pairs = planted(n_users=400, n_items=400, rng=np.random.default_rng(0))
        split, ops = split_ratio(pairs, valid=0.2, test=0.3, seed=0), spec
        settings, recipe = with_overrides(DEMO_SETTINGS, RECIPES["demo"], [*QUICK, *options.set])
        lightgcn_schedule = recipe.coarse
    print(split.describe())
    n_users, n_items, n_pairs = split.train.n_users, split.train.n_items, split.train.n_pairs
    sized = {
        f"{n} coarse rows": replace(settings, n_coarse=n, n_fine=max(n // 3, settings.fine_per_coarse)) for n in options.coarse
    }
    free = {name: value for name, value in vars(settings).items() if name not in ("n_coarse", "n_fine")}
    for budget in options.budgets:
        sized[f"budget {budget:,}"] = Settings.for_budget(budget, n_users, n_items, n_pairs=n_pairs, **free)

    # Bytes are those of float32 values, of narrow indices and of the training pairs, over which inference propagates. Raw ids are
    # left out: whatever serves them needs them. Popularity is a count for every item; the filter's weights follow from its pairs.
    graph_bytes = stored_bytes_bound(settings, n_users, n_items, n_pairs=n_pairs)["graph"]
    seen, held_out = split.train.matrix(), split.test.matrix()
    users = np.flatnonzero(np.diff(held_out.indptr))
    families: dict[str, list[tuple[float, float]]] = {
        "popularity": [],
        "item filter": [],
        "LightGCN": [],
        "coarse": [],
        "coarse + fine": [],
    }
    rows: dict[str, list[str]] = {}

    def tell(family: str, size: str, table_bytes: int, n_bytes: int, metrics: dict[str, float], promised: str = "") -> None:
        families[family].append((n_bytes, metrics[f"recall@{K}"]))
        figures = [f"{metrics[key]:.4f}" for key in (f"ndcg@{K}", f"recall@{K}")]
        rows[", ".join(filter(None, (family, size)))] = [f"{table_bytes:,}", f"{n_bytes:,}", promised, *figures]

    for family, rank, n_bytes in (
        ("popularity", rank_by_popularity, 4 * n_items),
        ("item filter", rank_by_item_filter, graph_bytes),
    ):
        tell(family, "", 0, n_bytes, spec.mean_metrics(rank(users, seen, K)[0], held_out[users], (K,)))
    for dim in (max(settings.dim // 8, 1), settings.dim):
        n_bytes = 4 * dim * split.train.n_entities
        tell(
            "LightGCN",
            f"D = {dim}",
            n_bytes,
            n_bytes + graph_bytes,
            lightgcn(split, replace(settings, dim=dim), lightgcn_schedule, ops),
        )
    progress = ProgressLine()  # on stderr
    for size, of_size in sized.items():
        promised = stored_bytes_bound(of_size, n_users, n_items, n_pairs=n_pairs)
        coarse, fine = train(split, of_size, recipe, seed=0, ops=ops, **progress.callbacks())
        for family, chosen in {"coarse": None, "coarse + fine": fine.best if fine else None}.items():
            if family == "coarse" or chosen:
                model = to_model(split, of_size, coarse.best, chosen).with_tables(np.float32, np.float32)
                terms = model.stored_bytes() | {"ids": 0}
                bound = f"{sum(promised.values()):,}" if chosen else ""
                metrics = evaluate_model(model, held_out, (K,), ops=ops)
                tell(family, size, terms["coarse"] + terms["fine"], sum(terms.values()), metrics, bound)

    progress.close()
    print(text_table(["bytes: tables", "all but ids", "promised", f"N@{K}", f"R@{K}"], rows))
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "memory_against_recall.png"
    shown = {name: points for name, points in families.items() if points}
    save_picture(plot_memory(shown, measure=f"recall@{K}", counted="bytes stored, training pairs included"), path)
    print(f"wrote {path}\n")
    print("Look at how little of all bytes the tables are: assignments, biases and training pairs do not shrink with the rows;")
    planted_pairs = "" if options.data else ": planted pairs have 6 groups, and more rows learn slower"
    print(f"at LightGCN of about as many bytes; and whether more rows help{planted_pairs}.")


def lightgcn(split: Split, settings: Settings, schedule: Schedule, ops: ModuleType) -> dict[str, float]:
    """Test metrics of LightGCN, trained by this schedule."""
    table, bias = train_lightgcn(split, settings, schedule, rng=np.random.default_rng(0), ops=ops).best.tables
    adjacency = spec.normalise(spec.bipartite(split.train.users, split.train.items, split.train.n_users, split.train.n_items))
    entities: Any = spec.propagate_coarse(adjacency, settings.n_layers, table, table[:0])[0]
    return evaluate_embeddings(entities, bias, split.train.matrix(), split.test.matrix(), (K,), ops=ops)


if __name__ == "__main__":
    main()
