"""What the fine stage learns: what is left of its table, where its bridges lead, and who gains.

    python examples/05_what_the_fine_stage_learns.py [DATA] [--split FILE] [--out DIR]
        [--set name=value]...

DATA is a folder or file of your own, as for `c2f-ref train`; without it pairs are planted. DIR gets
`fine_table.png` and `bridges.png`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from common import given, parser_of, table
from scipy import sparse

from c2f_ref import method
from c2f_ref.evaluation import embed_model
from c2f_ref.method import State
from c2f_ref.plots import plot_bridges, save_picture
from c2f_ref.runtime import ProgressLine
from c2f_ref.training import Progress, to_model, train

K = 20
GROUPS = ("rare", "middling", "popular")


def main() -> None:
    """Train both stages and take the fine one apart."""
    parser = parser_of(__doc__)
    parser.add_argument("--out", type=Path, default=Path("c2f-examples"), metavar="DIR")
    options = parser.parse_args()
    split, settings, recipe, ops = given(options)
    print(split.describe())
    first_states: dict[str, State] = {}
    line = ProgressLine()  # on stderr

    def watch(progress: Progress) -> None:
        """Keep the first state of each stage: that of the untrained model."""
        first_states.setdefault(progress.stage, progress.state)
        line(progress)

    coarse, fine = train(split, settings, recipe, seed=0, ops=ops, watch=watch)
    line.close()
    assert fine is not None
    start, trained = first_states["fine"].chosen, fine.chosen

    # 1. The table starts dense: sparse PCA gives dense scores (D6). All sparsity comes from the
    # threshold, and what it once holds at 0 has no gradient and never comes back: the last column
    # can only fall.
    tables = {"start": start.tables[0], "trained": trained.tables[0]}
    kept = {name: method.soft_threshold(each, settings.threshold) for name, each in tables.items()}
    rows = {
        name: {
            "all": f"{each.size:,}",
            "not 0": f"{np.count_nonzero(each):,}",
            f"beyond the threshold {settings.threshold}": f"{np.count_nonzero(kept[name]):,}",
        }
        for name, each in tables.items()
    }
    print(f"\n1. Entries of the fine table\n{table(rows)}")

    # 2. Bridges start from parts of the graph and are then chosen by use: coarse and fine rows that
    # serve the same entities.
    old, new = (each.assignment.toarray().argmax(axis=1) for each in (start, trained))
    weights, n_used = trained.assignment.data, np.unique(new).size
    moved, heavy = np.mean(old != new), np.mean(weights > 0.5)
    print("\n2. Bridges")
    print(f"{moved:.0%} of the coarse rows lean on another fine row than at the start;")
    print(f"{n_used} of {settings.n_fine} fine rows are the heaviest of some coarse row;")
    print(f"weights are {weights.min():.3f} to {weights.max():.3f}, {heavy:.0%} of them above 0.5")

    # 3. Who gains? The second line has the graph and the first table of the fine stage, but no step
    # of its training: the gain that is there already is what the propagation brings.
    models = {"coarse": None, "fine, untrained": start, "fine, trained": trained}
    seen, held_out = split.train.matrix(), split.test.matrix()
    groups, users = item_groups(seen, held_out), np.flatnonzero(np.diff(held_out.indptr))
    rows, ndcg = {}, {}
    for name, chosen in models.items():
        model = to_model(split, settings, coarse.chosen, chosen)
        entities = embed_model(model, ops=ops)
        ranked, _ = ops.rank_items(entities, model.bias, model.n_users, users, seen, K)
        ndcg[name] = method.ndcg_at_k(ranked, held_out[users], K)
        rows[name] = {f"N@{K}": f"{ndcg[name].mean():.4f}"}
        for group, items in groups.items():
            recall = recall_of(ranked, held_out[users], items)
            rows[name][f"R@{K} of {group}"] = f"{recall:.4f}"
    print(
        "\n3. Test metrics: NDCG of users, recall of held-out pairs by how often their item is in"
    )
    print(f"training\n{table(rows)}")
    gain = ndcg["fine, trained"] - ndcg["coarse"]
    shares = f"{np.mean(gain > 0):.0%} of the users gain, {np.mean(gain < 0):.0%} lose"
    print(f"{shares}, from coarse to fine, trained")

    options.out.mkdir(parents=True, exist_ok=True)
    save_picture(plot_bridges(trained.assignment), options.out / "bridges.png")
    print(f"wrote {options.out / 'bridges.png'}")


def item_groups(seen: sparse.csr_array, held_out: sparse.csr_array) -> dict[str, Any]:
    """Items from rare to popular, in groups with about as many held-out pairs each.

    Shapes: seen and held_out (U, I) -> a bool for every item, (I,), by group.
    """
    counts = np.bincount(seen.indices, minlength=seen.shape[1])
    shares = np.linspace(0, 1, len(GROUPS) + 1)[1:-1]
    group = np.searchsorted(np.quantile(counts[held_out.indices], shares), counts)
    return {name: group == number for number, name in enumerate(GROUPS)}


def recall_of(ranked: Any, held_out: sparse.csr_array, items: Any) -> float:
    """Share of the held-out pairs of these items that are in the lists of their users."""
    hits = [
        np.isin(row.indices, found)[items[row.indices]].sum()
        for row, found in zip((held_out[[i]] for i in range(len(ranked))), ranked, strict=True)
    ]
    return float(sum(hits) / max(items[held_out.indices].sum(), 1))


if __name__ == "__main__":
    main()
