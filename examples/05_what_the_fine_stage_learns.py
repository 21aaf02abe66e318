"""What the fine stage learns: which entries are left of its table, where its bridges lead, and who gains.

    python examples/05_what_the_fine_stage_learns.py [DATA] [--out DIR] [--set name=value]...

DATA is a folder or file of your own, as for `c2f-ref train`; without it pairs are planted. DIR gets `fine_table.png` and
`bridges.png`.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from c2f_ref import spec
from c2f_ref.interactions import planted, read_split, split_ratio
from c2f_ref.plots import plot_bridges, plot_sparsity, save_picture
from c2f_ref.progress import ProgressLine
from c2f_ref.spec import Settings
from c2f_ref.tables import text_table
from c2f_ref.training import DEMO_SETTINGS, RECIPES, State, default_ops, embed_model, to_model, train, with_overrides

K = 20
N_GROUPS = 3


def main() -> None:
    """Train both stages and take the fine one apart."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", metavar="DATA")
    parser.add_argument("--out", type=Path, default=Path("c2f-examples"), metavar="DIR")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    options = parser.parse_args()
    if options.data:
        split, settings, recipe, ops = read_split(options.data), Settings(), RECIPES["laptop"], default_ops()
    else:
        split = split_ratio(planted(rng=np.random.default_rng(0)), valid=0.2, test=0.3, seed=0)
        settings, recipe, ops = DEMO_SETTINGS, RECIPES["demo"], spec
    settings, recipe = with_overrides(settings, recipe, options.set)
    print(split.describe())
    first_states: dict[str, State] = {}

    def remember(state: State) -> None:
        """Keep the first state of each stage: that of the untrained model."""
        first_states.setdefault(state.evaluations[-1].stage, state)

    progress = ProgressLine()  # on stderr
    told = progress.callbacks()
    told["on_state"] = remember
    coarse, fine = train(split, settings, recipe, seed=0, ops=ops, **told)
    progress.close()
    assert fine is not None
    start, trained = first_states["fine"], fine.best

    # 1. The table starts dense: sparse PCA gives dense scores (D6). All sparsity comes from the threshold, and what it once
    # holds at 0 has no gradient and never comes back: look at the last column, which can only fall.
    tables = {"start": start.tables[0], "trained": trained.tables[0]}
    left = {name: spec.soft_threshold(table, settings.threshold) for name, table in tables.items()}
    rows = {
        name: [f"{table.size:,}", f"{np.count_nonzero(table):,}", f"{np.count_nonzero(left[name]):,}"]
        for name, table in tables.items()
    }
    print("\n1. Entries of the fine table")
    print(text_table(["all", "not 0", f"beyond the threshold {settings.threshold}"], rows))

    # 2. Bridges start from parts of the graph and are then chosen by use: coarse and fine rows that serve the same entities.
    old, new = (heaviest(assignment) for assignment in (start.assignment, trained.assignment))
    weights = trained.assignment.data
    print("\n2. Bridges")
    print(f"{np.mean(old != new):.0%} of the coarse rows lean on another fine row than at the start;")
    print(f"{np.unique(new).size} of {settings.n_fine} fine rows are the heaviest of some coarse row;")
    print(f"weights are {weights.min():.3f} to {weights.max():.3f}, {np.mean(weights > 0.5):.0%} of them above 0.5")

    # 3. Who gains? The second line has the fine stage's graph and start table, but not one step of its training: how much of the
    # gain is there already says what the propagation brings and what the training.
    models = {"coarse": None, "fine, untrained": start.best, "fine, trained": trained}
    seen, held_out = split.train.matrix(), split.test.matrix()
    users, ranked = np.flatnonzero(np.diff(held_out.indptr)), {}
    for name, chosen in models.items():
        model = to_model(split, settings, coarse.best, chosen)
        ranked[name] = ops.rank_items(embed_model(model, ops=ops), model.bias, model.n_users, users, seen, K)[0]
    ndcg = {name: spec.ndcg_at_k(lists, held_out[users], K) for name, lists in ranked.items()}
    groups = item_groups(seen, held_out)
    columns = [f"N@{K}", *(f"R@{K} of {name}" for name in groups)]
    rows = {
        name: [f"{ndcg[name].mean():.4f}", *(f"{recall_of(lists, held_out[users], items):.4f}" for items in groups.values())]
        for name, lists in ranked.items()
    }
    print("\n3. Test metrics: NDCG of users, recall of held-out pairs by how often their item is in training")
    print(text_table(columns, rows))
    gain = ndcg["fine, trained"] - ndcg["coarse"]
    print(f"{np.mean(gain > 0):.0%} of the users gain, {np.mean(gain < 0):.0%} lose, from coarse to fine, trained")

    options.out.mkdir(parents=True, exist_ok=True)
    shown = {"start": tables["start"], "start, thresholded": left["start"], "trained, thresholded": left["trained"]}
    for name, axes in {"fine_table": plot_sparsity(shown)[0], "bridges": plot_bridges(trained.assignment)}.items():
        save_picture(axes, options.out / f"{name}.png")
        print(f"wrote {options.out / name}.png")


def heaviest(assignment: sparse.csr_array) -> Any:
    """The fine row that each coarse row leans on most."""
    return assignment.toarray().argmax(axis=1)


def item_groups(seen: sparse.csr_array, held_out: sparse.csr_array) -> dict[str, Any]:
    """Items from rare to popular, in groups that hold about as many held-out pairs each; a bool for every item."""
    counts = np.bincount(seen.indices, minlength=seen.shape[1])
    cuts = np.quantile(counts[held_out.indices], np.linspace(0, 1, N_GROUPS + 1)[1:-1])
    group = np.searchsorted(cuts, counts)
    return {name: group == number for number, name in enumerate(("rare", "middling", "popular"))}


def recall_of(ranked: Any, held_out: sparse.csr_array, items: Any) -> float:
    """Share of the held-out pairs of these items that are in the lists of their users."""
    rows = np.repeat(np.arange(len(ranked)), ranked.shape[1])
    listed = sparse.csr_array(
        (np.ones((ranked >= 0).sum()), (rows[ranked.ravel() >= 0], ranked[ranked >= 0])), shape=held_out.shape
    )
    hits = np.asarray(listed.multiply(held_out).sum(axis=0))[items].sum()
    return float(hits / max(held_out[:, items].nnz, 1))


if __name__ == "__main__":
    main()
