"""How much recall a byte buys: models of several sizes or budgets, LightGCN, and two baselines.

    python examples/04_memory_against_recall.py [DATA] [--split FILE] [--coarse 6 12 24 48]
        [--budgets BYTES...] [--out DIR] [--set name=value]...

For every number of coarse rows both stages are trained, with a third as many fine rows, as
published. A budget is turned into the largest model that is guaranteed to stay within it. LightGCN
has one vector for every entity, of D and of D / 8 numbers; on planted pairs it is trained like the
coarse stage, on yours by `lightgcn.SCHEDULE`. DATA is a folder or file of your own and FILE a split
of it, as for `c2f-ref train`. DIR gets `memory_against_recall.png`.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from common import baseline_metrics, figures, given, parser_of, table
from lightgcn import SCHEDULE, lightgcn_metrics
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from c2f_ref import method
from c2f_ref.evaluation import evaluate_model
from c2f_ref.plots import save_picture
from c2f_ref.runtime import ProgressLine
from c2f_ref.training import to_model, train, with_overrides

K = 20
QUICK = ("both.max_epochs=61", "both.patience=2")
"""For planted pairs: enough to see the shape of the curve in under a minute."""


class Results:
    """Rows of the table and points of the picture."""

    def __init__(self) -> None:
        self.points: dict[str, list[tuple[float, float]]] = defaultdict(list)
        self.rows: dict[str, dict[str, str]] = {}

    def add(
        self, family: str, size: str, tables: int, everything: int, metrics: dict[str, float]
    ) -> None:
        """A model: bytes of its tables and of everything but ids, and its test metrics."""
        self.points[family].append((everything, metrics[f"recall@{K}"]))
        cells = {"bytes: tables": f"{tables:,}", "all but ids": f"{everything:,}", "promised": ""}
        self.rows[f"{family}, {size}" if size else family] = cells | figures(metrics)

    def plot(self) -> Any:
        """Recall against bytes: a line with a marker of its own for each family."""
        axes = Figure(figsize=(7, 4), layout="constrained").add_subplot()
        for marker, (name, points) in zip("osD^v", self.points.items(), strict=False):
            axes.plot(*zip(*sorted(points), strict=True), f"{marker}-", label=name)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(EngFormatter(unit="B"))
        axes.set(title=f"recall@{K} against memory", ylabel=f"recall@{K}")
        axes.set(xlabel="bytes, training pairs included (logarithmic)")
        axes.grid(visible=True, color="0.9")
        axes.legend(fontsize="small")
        return axes


def main() -> None:
    """Train everything, print the table, draw the curve."""
    parser = parser_of(__doc__)
    parser.add_argument("--coarse", type=int, nargs="*", default=[6, 12, 24, 48], metavar="C")
    parser.add_argument("--budgets", type=int, nargs="*", default=[], metavar="BYTES")
    parser.add_argument("--out", type=Path, default=Path("c2f-examples"), metavar="DIR")
    options = parser.parse_args()
    split, settings, recipe, ops = given(options, QUICK, n_users=400, n_items=400)
    schedule = recipe.coarse
    if options.data:
        at_full_size = settings, replace(recipe, coarse=SCHEDULE)
        schedule = with_overrides(*at_full_size, options.set)[1].coarse
    print(split.describe())

    # Bytes are those of float32 values, of narrow indices and of the training pairs, over which
    # inference propagates. Raw ids are left out: whatever serves them needs them. Popularity is a
    # count for every item; the weights of the filter follow from its pairs.
    train_pairs, held_out = split.train, split.test.matrix()
    sizes: dict[str, Any] = {"n_users": train_pairs.n_users, "n_items": train_pairs.n_items}
    sizes["n_pairs"] = train_pairs.n_pairs
    graph = method.stored_bytes_bound(settings, **sizes)["graph"]
    results, learnt_nothing = Results(), baseline_metrics(split, (K,))
    results.add("popularity", "", 0, 4 * train_pairs.n_items, learnt_nothing["popularity"])
    results.add("graph filter", "", 0, graph, learnt_nothing["graph filter"])
    for dim in (max(settings.dim // 8, 1), settings.dim):
        vectors = 4 * dim * train_pairs.n_entities
        metrics = lightgcn_metrics(split, replace(settings, dim=dim), schedule, ops, (K,))
        results.add("LightGCN", f"D = {dim}", vectors, vectors + graph, metrics)

    models = {}
    for n in options.coarse:
        n_fine = max(n // 3, settings.fine_per_coarse)
        models[f"{n} coarse rows"] = replace(settings, n_coarse=n, n_fine=n_fine)
    others = {n: value for n, value in vars(settings).items() if n not in ("n_coarse", "n_fine")}
    for budget in options.budgets:
        largest = method.settings_for_budget(budget, **sizes, **others)
        models[f"budget {budget:,}"] = largest
    progress = ProgressLine()  # on stderr
    for size, of_size in models.items():
        coarse, fine = train(split, of_size, recipe, seed=0, ops=ops, watch=progress)
        chosen = {"coarse": None, "coarse + fine": fine.chosen} if fine else {"coarse": None}
        for family, snapshot in chosen.items():
            model = to_model(split, of_size, coarse.chosen, snapshot)
            model = model.with_tables(np.float32, np.float32)
            totals = method.total_bytes(model.stored_bytes() | {"ids": 0})
            metrics = evaluate_model(model, held_out, (K,), ops=ops)
            results.add(family, size, totals["tables"], totals["everything"], metrics)
        promised = sum(method.stored_bytes_bound(of_size, **sizes).values())
        results.rows[f"{family}, {size}"]["promised"] = f"{promised:,}"
    progress.close()

    print(table(results.rows))
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "memory_against_recall.png"
    save_picture(results.plot(), path)
    print(f"wrote {path}\n")
    print("Compare bytes of tables with all bytes: assignments, biases and training pairs do not")
    print("shrink with the rows. Compare with LightGCN of about as many bytes, and with the graph")
    print("filter, which learns nothing.")


if __name__ == "__main__":
    main()
