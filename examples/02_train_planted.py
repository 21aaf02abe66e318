"""Both stages on data whose structure is known, next to two baselines; a table and the curves.

    python examples/02_train_planted.py [DATA] [--split FILE] [--out DIR] [--set name=value]...

Without DATA the pairs are planted: 600 users in 6 groups of 4 subgroups prefer the items of their
group, and more so those of their subgroup. DATA is a folder or file of your own, as for `c2f-ref
train`. DIR gets `training.png`.
"""

from __future__ import annotations

from pathlib import Path

from common import baseline_metrics, figures, given, parser_of, table

from c2f_ref.evaluation import evaluate_model
from c2f_ref.plots import plot_training, save_picture
from c2f_ref.training import Progress, to_model, train

KS = (5, 10, 20)


def main() -> None:
    """Train, compare, draw."""
    parser = parser_of(__doc__)
    parser.add_argument("--out", type=Path, default=Path("c2f-examples"), metavar="DIR")
    options = parser.parse_args()

    # Pairs are divided into three sets per user. Validation pairs choose the model, test pairs are
    # looked at once, below.
    split, settings, recipe, ops = given(options)
    sizes = f"{settings.n_coarse} coarse and {settings.n_fine} fine rows of dimension"
    print(f"data: {split.describe()}\nmodel: {sizes} {settings.dim}")

    # The coarse stage learns what groups of entities share. Phase 1 keeps every entity on the rows
    # that it was given by partition; watch the jump when phase 2 begins, which lets entities choose
    # their rows anew, once an epoch. The fine stage freezes that and adds sparse rows, to which
    # coarse rows are bridged.
    coarse, fine = train(split, settings, recipe, seed=0, ops=ops, watch=report)
    assert fine is not None

    # All items are ranked, those of training are masked. Is each line better than the one above?
    rows, held_out = baseline_metrics(split, KS), split.test.matrix()
    for name, chosen in (("coarse", None), ("coarse + fine", fine.chosen)):
        model = to_model(split, settings, coarse.chosen, chosen)
        rows[name] = evaluate_model(model, held_out, KS, ops=ops)
    print("\ntest pairs (N is NDCG, R is recall, at 5, 10, 20):")
    print(table({name: figures(metrics) for name, metrics in rows.items()}))

    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "training.png"
    save_picture(plot_training(coarse.evaluations + fine.evaluations), path)
    print(f"\nwrote {path}: every refresh of an assignment is a tick, stars are the chosen models")


def report(progress: Progress) -> None:
    """One line for every evaluation; training calls this after each step, too."""
    state = progress.state
    if state.losses:  # of the steps since the last evaluation
        return
    last = state.evaluations[-1]
    chosen = " (best of its phase so far)" if last.is_best else ""
    where = f"{last.stage} stage, phase {last.phase}, step {last.n_steps:4}"
    print(f"{where}: validation NDCG@{progress.selection_k} {last.ndcg:.4f}{chosen}", flush=True)


if __name__ == "__main__":
    main()
