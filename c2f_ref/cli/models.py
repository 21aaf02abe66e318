"""`evaluate`, `recommend`, `similar`, `memory` and `plot`: what a trained model is used for.

Imports that need more than NumPy stand in the commands: `recommend` runs on NumPy alone.
"""

from __future__ import annotations

import argparse
import math
import re
from dataclasses import asdict
from itertools import zip_longest
from typing import Any

import numpy as np

from .. import Device, Settings, SettingsError, load_model
from ..runtime import say
from . import show, text_table


def evaluate(options: argparse.Namespace) -> None:
    """Recall and NDCG of a model, and of popularity, on the split's test pairs.

    The interval is a bootstrap over users: the split, the seed and the training stay as they are.

    example: c2f-ref evaluate model.npz ratings.csv --k 10 20
    """
    from .. import DataError, embed_model, evaluation, read_split

    model = load_model(options.model)
    split = read_split(options.data, split_file=options.split, seed=options.split_seed)
    for kind in ("user_ids", "item_ids"):
        known, ids = getattr(model, kind).tolist(), getattr(split.train, kind).tolist()
        for old, new in zip_longest(known, ids, fillvalue="nothing"):
            if old != new:
                raise DataError(f"{kind} must be the model's, got {new!r} where it has {old!r}")
    seen, test = model.seen, split.test.matrix()
    if seen.multiply(test).nnz:
        raise DataError("the model was trained on test pairs of this split: give its own split")
    trained_on = model.provenance.get("split")
    if trained_on != split.describe():
        say(f"note: the model was trained on another split: {trained_on}")
    entities, ks = embed_model(model), options.k
    by_user = evaluation.metrics_by_user(entities, model.bias, seen, test, ks)
    intervals = evaluation.bootstrap_intervals(by_user, rng=np.random.default_rng(0))
    rows = {"model": {name: float(each.mean()) for name, each in by_user.items()}}
    for end, name in enumerate(("95 % from", "95 % to")):
        rows[name] = {metric: interval[end] for metric, interval in intervals.items()}
    counts = np.concatenate([np.zeros(model.n_users), seen.sum(axis=0)])
    nothing = np.zeros((counts.size, 1))  # without embeddings, items are ranked by their counts
    rows["popularity"] = evaluation.evaluate_embeddings(nothing, counts, seen, test, ks)
    result = {"split": split.describe(), "trained_on": trained_on}
    show(options, result | {"metrics": rows}, [split.describe(), text_table(rows, ".4f")])


def recommend(options: argparse.Namespace) -> None:
    """The best items for some users, without those of their training pairs.

    example: c2f-ref recommend model.npz u17 u42 -k 5
    """
    device = Device.load(options.model, memory_budget=options.memory_budget)
    _show_lists(options, device.user_ids, lambda ids: device.recommend(ids, options.k))


def similar(options: argparse.Namespace) -> None:
    """The items nearest to some items, by cosine of propagated embeddings.

    example: c2f-ref similar model.npz i8 -k 5
    """
    from .. import C2FRecommender

    model = C2FRecommender.load(options.model)
    _show_lists(options, model.item_ids_, lambda ids: model.similar_items(ids, options.k))


def _show_lists(options: argparse.Namespace, known: Any, ask: Any) -> None:
    """A line of items and scores for each id; a score of -inf says that no item is left."""
    is_whole = known.dtype.kind in "iu"
    ids = [int(w) if is_whole and re.fullmatch("-?[0-9]{1,18}", w) else w for w in options.ids]
    lists, lines = {}, []
    for word, items, scores in zip(options.ids, *ask(ids), strict=True):
        pairs = zip(items.tolist(), scores.tolist(), strict=True)
        lists[word] = [{"item": item, "score": score} for item, score in pairs if score > -math.inf]
        signs = f"{word}: " + "  ".join("{item} ({score:.3f})".format(**e) for e in lists[word])
        # An id may hold a line end, or what controls a terminal.
        lines.append("".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in signs))
    show(options, lists, lines)


def memory(options: argparse.Namespace) -> None:
    """Bytes of a model, or the most that settings can come to, term by term.

    example: c2f-ref memory --users 30000 --items 40000 --pairs 800000 --budget 3MiB
    """
    from .. import Recipe, method, training

    names = ("users", "items", "pairs", "id_bytes", "dtype", "tables", "budget", "set")
    given = [f"--{n.replace('_', '-')}" for n in names if getattr(options, n) not in (None, [])]
    if options.model:
        if given:
            raise SettingsError(f"a model has its own sizes: leave out {', '.join(given)}")
        model = load_model(options.model)
        settings, terms, sizes = model.settings, model.stored_bytes(), model.seen.shape
    elif options.users is None or options.items is None:
        raise SettingsError("memory needs a model, or --users and --items")
    else:
        sizes = options.users, options.items
        settings, _ = training.with_overrides(Settings(), Recipe(), options.set)
        form: dict[str, Any] = {"n_pairs": options.pairs or 0, "id_bytes": options.id_bytes or 0}
        form |= {"dtype": options.dtype or "float32", "table_dtype": options.tables}
        if options.budget is not None:
            changed = {override.partition("=")[0] for override in options.set}
            others = {name: value for name, value in asdict(settings).items() if name in changed}
            settings = method.settings_for_budget(options.budget, *sizes, **(form | others))
        terms = method.stored_bytes_bound(settings, *sizes, **form)
    full = sum(sizes) * (terms["coarse"] // settings.n_coarse)
    terms = terms | method.total_bytes(terms)
    rows = {name: {"bytes": n, "%": round(100 * n / max(full, 1), 2)} for name, n in terms.items()}
    # JSON has no infinity.
    values = {name: str(v) if v == math.inf else v for name, v in asdict(settings).items()}
    head = "{n_coarse:,} coarse and {n_fine:,} fine rows of dimension {dim:,}".format(**values)
    lines = [head, text_table(rows, ","), f"100 % is one vector per entity, {full:,} bytes"]
    show(options, {"settings": values, "bytes": terms, "one_vector_per_entity": full}, lines)


def plot(options: argparse.Namespace) -> None:
    """Pictures of a trained model, as .png files.

    Training curves are not in a model file: they come from what `train --checkpoint DIR` kept.

    example: c2f-ref plot c2f-demo/model.npz --out pictures
    """
    from .. import DataError, evaluation, method, plots
    from ..training.runs import load_state

    model = load_model(options.model)
    entities, *nodes = evaluation.embed_nodes(model, ops=method)
    pictures = {"embeddings": plots.plot_embeddings(entities, model.n_users, *nodes)}
    if model.fine is not None and model.fine_assignment is not None:
        pictures["fine_table"] = plots.plot_sparsity({"fine table, thresholded": model.fine})[0]
        pictures["bridges"] = plots.plot_bridges(model.fine_assignment)
    if options.checkpoint:
        run = {"split": model.provenance.get("split"), "settings": asdict(model.settings)}
        states = [load_state(path, run) for path in sorted(options.checkpoint.glob("*.npz"))]
        biases = [state.chosen.tables[-1].astype(model.bias.dtype) for state in states]
        if not any(np.array_equal(b[model.n_users :], model.bias[model.n_users :]) for b in biases):
            raise DataError(f"{options.checkpoint}: expected checkpoints of this model's training")
        pictures["training"] = plots.plot_training([e for s in states for e in s.evaluations])
    options.out.mkdir(parents=True, exist_ok=True)
    for name, axes in pictures.items():
        plots.save_picture(axes, options.out / f"{name}.png")
        print(options.out / f"{name}.png")
