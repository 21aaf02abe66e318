"""`evaluate`, `recommend`, `similar`, `memory` and `plot`: what a trained model is used for.

Imports that need more than NumPy stand in the commands: `recommend` runs on NumPy alone.
"""

from __future__ import annotations

import argparse
import csv
import math
import re
from collections.abc import Container, Sequence
from dataclasses import asdict, replace
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import Device, DeviceError, Settings, SettingsError, load_model
from ..device import _Graph as Graph
from ..device import embed_column
from ..runtime import say
from . import COLUMNS, compare, given, show, split_of, text_table

if TYPE_CHECKING:
    from .. import Model


def evaluate(options: argparse.Namespace) -> None:
    """Recall and NDCG of a model, of popularity and of the graph filter, on pairs it has not seen.

    These are the test pairs of DATA, split as for `train --hold-out`, or all pairs of --test. The
    intervals are a bootstrap over users: split, seed and training stay as they are.

    example: c2f-ref evaluate model.npz ratings.csv --k 10 20
    """
    from .. import DataError, Interactions, read_interactions
    from ..interactions import interactions_within

    model = load_model(options.model)
    trained_on = model.provenance.get("split")
    if options.test:
        ids = {"user_ids": model.user_ids, "item_ids": model.item_ids}
        known = Interactions.from_csr(model.seen, **ids)
        pairs = read_interactions(options.test, **given(options, *COLUMNS))
        try:
            test = interactions_within(known, pairs, unknown=options.unknown)
        except DataError as error:
            raise DataError(f"{error}, with --unknown drop", options.test) from error
        described = test.describe()
    else:
        split = split_of(options)
        for kind in ("user_ids", "item_ids"):
            found, ids = getattr(model, kind).tolist(), getattr(split.train, kind).tolist()
            for old, new in zip_longest(found, ids, fillvalue="nothing"):
                if old != new:
                    text = f"{kind} must be the model's, got {new!r} where it has {old!r}"
                    raise DataError(f"{text}; --test takes pairs of some of them")
        test, described = split.test, split.describe()
        if n_seen := model.seen.multiply(test.matrix()).nnz:
            raise DataError(
                f"the model has seen {n_seen:,} of the {test.n_pairs:,} test pairs it would be "
                "judged by: give the split of its training, and write it with train --hold-out"
            )
        if trained_on != described:
            say(f"note: the model was trained on another split: {trained_on}")
    rows = compare(model, test.matrix(), options.k)
    result = {"split": described, "trained_on": trained_on}
    show(options, result | {"metrics": rows}, [described, text_table(rows, ".4f")])


def recommend(options: argparse.Namespace) -> None:
    """The best items for some users, without those that they have.

    A user has the pairs in the model's file: all pairs of its DATA, or the training pairs alone
    after `train --hold-out`. A user without any gets the most popular items, marked as such, with
    their numbers of users.

    example: c2f-ref recommend model.npz u17 u42 -k 5 --names items.csv
    """
    device = Device.load(options.model, memory_budget=options.memory_budget)
    model, known = device._model, device.user_ids.tolist()
    ids = _asked(options, known)
    listed = dict(zip(ids, zip(*device.recommend(ids, options.k), strict=True), strict=True))
    n_items_of = np.diff(model.arrays["graph.starts"])
    popular = [user for user in ids if n_items_of[known.index(user)] == 0]
    if popular:
        counts = np.bincount(model.arrays["graph.columns"], minlength=model.n_items)
        best = np.argsort(-counts, kind="stable")[: options.k]
        listed |= dict.fromkeys(popular, (model.item_ids[best], counts[best]))
    _show_lists(options, model, listed, popular)


def similar(options: argparse.Namespace) -> None:
    """The items nearest to some items, by cosine of propagated embeddings.

    example: c2f-ref similar model.npz i8 -k 5 --names items.csv
    """
    model = load_model(options.model)
    item_ids, graph = model.item_ids, Graph(model)
    ids = _asked(options, item_ids.tolist())
    columns = (embed_column(model, graph, number) for number in range(model.settings.dim))
    table = np.stack([column[model.n_users :] for column in columns], axis=1)
    lengths = np.linalg.norm(table, axis=1, keepdims=True)
    table /= np.where(lengths > 0, lengths, 1.0)
    listed = {}
    for asked in ids:
        if (place := np.flatnonzero(item_ids == asked)).size == 0:
            raise DeviceError(f"item {asked!r} is not among the {model.n_items} items of the model")
        cosines = np.einsum("id,d->i", table, table[place[0]])
        cosines[place] = -np.inf
        best = np.argsort(-cosines, kind="stable")[: options.k]
        listed[asked] = item_ids[best], cosines[best]
    _show_lists(options, model, listed)


def _asked(options: argparse.Namespace, known: Sequence[Any]) -> list[Any]:
    """The ids asked for: whole numbers where the model's ids are and they are written like one.

    Errors: SettingsError for none; OSError where their file cannot be read.
    """
    text = options.ids_file.read_text("utf-8-sig", "replace") if options.ids_file else ""
    words = options.ids + [line.strip() for line in text.splitlines() if line.strip()]
    if not words:
        raise SettingsError("give one or more ids, or a file of them with --ids")
    whole = re.compile("0|-?[1-9][0-9]{0,18}" if isinstance(known[0], int) else "(?!)")
    return [int(word) if whole.fullmatch(word) else word for word in words]


def _show_lists(
    options: argparse.Namespace, model: Model, listed: Any, popular: Container[Any] = ()
) -> None:
    """A line of items and scores for each id; a score of -inf says that no item is left."""
    titles = read_names(options.names, model.item_ids) if options.names else {}
    lists: dict[str, list[dict[str, Any]]] = {}
    lines = []
    for asked, (items, scores) in listed.items():
        line, form, mark = f"{asked}:", ".3f", {}
        if asked in popular:
            line, form, mark = f"{asked} has nothing, the most popular:", ",", {"by": "popularity"}
        lists[str(asked)] = found = []
        for item, score in zip(items.tolist(), scores.tolist(), strict=True):
            if score > -math.inf:
                title = {"title": titles[str(item)]} if str(item) in titles else {}
                found.append({"item": item, **title, "score": score, **mark})
                line += f"  {' '.join([str(item), *title.values()])} ({score:{form}})"
        # An id may hold a line end, or what controls a terminal.
        lines.append("".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in line))
    show(options, lists, [line.replace(":  ", ": ", 1) for line in lines])


def read_names(path: Path, known: Any) -> dict[str, str]:
    """Titles of items by raw id, from a file such as movies.csv, u.item, movies.dat or x.item.

    The file is UTF-8 or else Latin-1; fields are parted by what the first line has most of. With a
    header, ids are in the column of a usual name, or "id", and titles in the first other one with
    "title" or "name" in its own. Without, they are in the first and the second one.

    Errors: DataError where no id is one of `known`, or a field is far too long; OSError where the
    file cannot be read.
    """
    from .. import DataError
    from ..interactions.arrays import usual_role

    content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    lines = text.splitlines() or [""]
    mark = "::" if "::" in lines[0] else max("\t,;|", key=lines[0].count)
    quoted = csv.reader(lines, delimiter=mark) if mark in ",;" else None
    try:
        rows = [[cell.strip() for cell in row] for row in quoted or (x.split(mark) for x in lines)]
    except csv.Error as error:
        raise DataError(str(error), path) from error
    of_id = [p for p, name in enumerate(rows[0]) if usual_role(name) == "item" or name == "id"]
    named = [p for p, name in enumerate(rows[0]) if re.search("title|name", name.lower())]
    columns = [*of_id[:1], *(p for p in named if p not in of_id)] if of_id else [0]
    at_id, at_title = columns[:2] if len(columns) > 1 else (columns[0], 1)
    titles = {row[at_id]: row[at_title] for row in rows if len(row) > max(at_id, at_title)}
    if titles.keys().isdisjoint(map(str, known.tolist())):
        raise DataError(f"expected ids of items in column {at_id + 1}", path, 1, lines[0])
    return titles


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
        settings = settings if model.fine is not None else replace(settings, n_fine=0)
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
    notes = [f"100 % is one vector per entity, {full:,} bytes"]
    if terms["everything"] > full:
        notes.append("note: this model is larger than one vector per entity")
    result = {"settings": values, "bytes": terms, "one_vector_per_entity": full, "notes": notes}
    show(options, result, [head, text_table(rows, ","), *notes])


def plot(options: argparse.Namespace) -> None:
    """Pictures of a trained model, as .png files: the bridges, and the training curves.

    Curves are not in a model file: they come from what `train --checkpoint DIR` kept.

    example: c2f-ref plot c2f-demo/model.npz --out pictures
    """
    from .. import DataError, plots
    from ..training.runs import load_state

    model, pictures = load_model(options.model), {}
    if model.fine_assignment is not None:
        pictures["bridges"] = plots.plot_bridges(model.fine_assignment)
    if options.checkpoint:
        run = {"split": model.provenance.get("split"), "settings": asdict(model.settings)}
        states = [load_state(path, run) for path in sorted(options.checkpoint.glob("*.npz"))]
        biases = [state.chosen.tables[-1].astype(model.bias.dtype) for state in states]
        if not any(np.array_equal(b[model.n_users :], model.bias[model.n_users :]) for b in biases):
            raise DataError(f"{options.checkpoint}: expected checkpoints of this model's training")
        pictures["training"] = plots.plot_training([e for s in states for e in s.evaluations])
    if not pictures:
        say("nothing to draw: a model of the coarse stage has no bridges, --checkpoint has curves")
    options.out.mkdir(parents=True, exist_ok=True)
    for name, axes in pictures.items():
        plots.save_picture(axes, options.out / f"{name}.png")
        print(options.out / f"{name}.png")
