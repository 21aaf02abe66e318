"""`evaluate`, `recommend`, `memory` and `plot`: what a trained model is for, what it takes and what it looks like."""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from .. import spec
from ..bundle import Model, load_model
from ..device import Device, DeviceError, MemoryBudgetError
from ..interactions import DataError, read_split
from ..plots import plot_bridges, plot_embeddings, plot_sparsity, plot_training, save_picture
from ..spec import Settings, SettingsError, fine_sparsity, stored_bytes_bound, total_bytes
from ..tables import metric_columns, text_table
from ..training import (
    RECIPES,
    Checkpoints,
    Evaluation,
    bootstrap_intervals,
    embed_model,
    embed_nodes,
    metrics_by_user,
    with_overrides,
)
from .arguments import Commands, add_command, add_data, at_least, size_in_bytes

WORDS = {"tables": "tables alone", "everything": "everything"}
PLOT_EXAMPLE = """\
c2f-ref plot c2f-demo/model.npz --out pictures

writes one .png for each picture that the file can show, and prints a line for each. Training curves are no part of a model
file: they come from the folder that `c2f-ref train --checkpoint DIR` kept.
"""


def add(commands: Commands) -> None:
    """Put the commands among the others."""
    text = "recall and NDCG of a model on the split's test pairs"
    evaluate = add_command(commands, _evaluate, "evaluate", text, "c2f-ref evaluate model.npz ratings.csv --k 10 20")
    evaluate.add_argument("model", type=Path, metavar="MODEL")
    add_data(evaluate)
    evaluate.add_argument("--k", type=at_least(1), nargs="+", default=[5, 10, 20, 50])
    evaluate.add_argument("--json", action="store_true")

    text = "the best unseen items of some users, by their raw ids"
    recommend = add_command(commands, _recommend, "recommend", text, "c2f-ref recommend model.npz u17 u42 -k 5")
    recommend.add_argument("model", type=Path, metavar="MODEL")
    recommend.add_argument("user", nargs="+", metavar="USER")
    recommend.add_argument("-k", type=at_least(1), default=10)
    budget_text = "compute within so many, 32MiB for example (default: as many as it takes)"
    recommend.add_argument("--memory-budget", type=size_in_bytes, default=sys.maxsize, metavar="BYTES", help=budget_text)
    recommend.add_argument("--json", action="store_true")

    text = "bytes of a model, or the most that settings can come to, term by term"
    example = "c2f-ref memory --users 30000 --items 40000 --pairs 800000 --budget 3MiB"
    memory = add_command(commands, _memory, "memory", text, example)
    memory.add_argument("model", nargs="?", type=Path, metavar="MODEL")
    memory.add_argument("--users", type=at_least(0), metavar="U", help="without MODEL: how many users")
    memory.add_argument("--items", type=at_least(0), metavar="I", help="and items")
    memory.add_argument("--pairs", type=at_least(0), default=0, metavar="P", help="training pairs (default 0)")
    memory.add_argument("--id-bytes", type=at_least(0), default=0, metavar="B", help="bytes of a raw id (default 0)")
    memory.add_argument("--dtype", choices=["float32", "float64"], default="float32", help="type of the values")
    memory.add_argument("--tables", choices=["float16", "float32", "float64"], help="type of both tables, if another")
    memory.add_argument("--budget", type=size_in_bytes, metavar="BYTES", help="find the largest model for it, 2MiB for example")
    memory.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="override a field of Settings")
    memory.add_argument("--json", action="store_true")

    plot = add_command(commands, _plot, "plot", "pictures of a trained model", PLOT_EXAMPLE)
    plot.add_argument("model", type=Path, metavar="MODEL")
    plot.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the pictures; made if there is none")
    plot.add_argument("--checkpoint", type=Path, metavar="DIR", help="the checkpoint folder of its training, for training curves")


def _evaluate(options: argparse.Namespace) -> None:
    model, split = load_model(options.model), read_split(options.data, split_file=options.split, seed=options.split_seed)
    for name, known, ids in (("users", model.user_ids, split.train.user_ids), ("items", model.item_ids, split.train.item_ids)):
        if not np.array_equal(known, ids):
            raise DataError(f"the model must be of the data's {name}: it has {known.size}, the data {_unlike(known, ids)}")
    if model.seen.multiply(split.test.matrix()).nnz:
        raise DataError("test pairs of this split are among the model's training pairs: give the split it was trained on")
    if model.provenance.get("split") != split.describe():
        print(f"note: the model was trained on another split: {model.provenance.get('split')}", file=sys.stderr)
    by_user = metrics_by_user(embed_model(model), model.bias, model.seen, split.test.matrix(), options.k)
    metrics = {name: float(values.mean()) for name, values in by_user.items()}
    intervals = bootstrap_intervals(by_user, rng=np.random.default_rng(0))
    columns = metric_columns(options.k)
    rows = {options.model.name: [f"{metrics[key]:.4f}" for key in columns]}
    for end, name in enumerate(("95 % from", "95 % to")):
        rows[name] = [f"{intervals[key][end]:.4f}" for key in columns]
    note = "the interval is a bootstrap over users: the split, the seed and the training stay as they are"
    lines = (split.describe(), text_table(list(columns.values()), rows), note)
    told = {"split": split.describe(), "trained_on": model.provenance.get("split"), "metrics": metrics, "intervals": intervals}
    print(json.dumps(told) if options.json else "\n".join(lines))


def _recommend(options: argparse.Namespace) -> None:
    try:
        device = Device.load(options.model, memory_budget=options.memory_budget)
        whole = device.user_ids.dtype.kind in "iu"
        users = [int(raw) if whole and re.fullmatch(r"-?[0-9]{1,19}", raw) else raw for raw in options.user]
        ids, scores = device.recommend(users, options.k)
    except MemoryBudgetError as error:
        raise SettingsError(f"--memory-budget: {error}") from error
    except DeviceError as error:
        raise DataError(f"{options.model}: {error}") from error
    lists = [
        [{"item": item.item(), "score": float(score)} for item, score in zip(*rows, strict=True) if score > -np.inf]
        for rows in zip(ids, scores, strict=True)
    ]
    if options.json:
        print(json.dumps(dict(zip(options.user, lists, strict=True))))
        return
    for raw, entries in zip(options.user, lists, strict=True):
        print(f"{_shown(raw)}:", "  ".join(f"{_shown(entry['item'])} ({entry['score']:.3f})" for entry in entries))


def _unlike(known: Any, ids: Any) -> str:
    """How many ids there are, and the first that is not the one of that place in `known`."""
    n_shared = min(known.size, ids.size)
    first = int(np.argmax(np.append(known[:n_shared] != ids[:n_shared], True)))
    return f"{ids.size}" + (f", and {ids[first].item()!r} where {known[first].item()!r} is" if first < n_shared else "")


def _shown(raw: Any) -> str:
    """A raw id without anything that a terminal or a line must not see."""
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in str(raw))


def _memory(options: argparse.Namespace) -> None:
    sized = {"--users": options.users, "--items": options.items, "--budget": options.budget, "--set": options.set or None}
    needless = [name for name, value in sized.items() if value is not None]
    if options.model and needless:
        raise SettingsError(f"memory of a MODEL is what it is: leave out {', '.join(needless)}, or the MODEL")
    told = _of_model(options.model) if options.model else _of_settings(options)
    if options.json:
        print(json.dumps(told))
        return
    settings, columns = told["settings"], [column for column in ("counted", "promised") if column in told]
    print(
        f"{told['n_users']:,} users, {told['n_items']:,} items, {told['n_pairs']:,} training pairs; "
        f"{settings['n_coarse']:,} coarse and {settings['n_fine']:,} fine rows of {settings['dim']:,} dimensions"
    )
    totals = {column: total_bytes(told[column]) for column in columns}
    rows = {name: [f"{told[column][name]:,}" for column in columns] for name in told["promised"]}
    for name, words in WORDS.items():
        rows[words] = [f"{totals[column][name]:,}" for column in columns]
        rows[f"{words}, %"] = [f"{100 * totals[column][name] / max(told['one_vector_per_entity'], 1):.2f}" for column in columns]
    print(text_table(columns, rows))
    print(f"bytes; % of one vector per entity, {told['one_vector_per_entity']:,}")
    if "sparsity" in told:
        print(f"exact zeros in the fine table: {100 * told['sparsity']:.2f} %")


def _of_model(path: Path) -> dict[str, Any]:
    """What a model takes, and what was promised for its settings and types."""
    model = load_model(path)
    tables = [table for table in (model.coarse, model.fine) if table is not None]
    values = [part for part in (model.bias, model.coarse_assignment, model.fine_assignment) if part is not None]
    types = {"dtype": np.result_type(*(part.dtype for part in values)), "table_dtype": np.result_type(*tables)}
    id_bytes = max(model.user_ids.itemsize, model.item_ids.itemsize)
    told = _promised(model.settings, model.n_users, model.n_items, id_bytes, n_pairs=int(model.seen.nnz), **types)
    sparsity = {} if model.fine is None else {"sparsity": fine_sparsity(model.fine, model.settings.threshold)}
    return told | {"counted": model.stored_bytes()} | sparsity


def _of_settings(options: argparse.Namespace) -> dict[str, Any]:
    """The most that settings can come to, which are found where a budget is given."""
    if options.users is None or options.items is None:
        raise SettingsError("memory needs a MODEL, or --users and --items")
    n_users, n_items = options.users, options.items
    rest: dict[str, Any] = {"n_pairs": options.pairs, "dtype": options.dtype, "table_dtype": options.tables}
    settings, _ = with_overrides(Settings(), RECIPES["laptop"], options.set)
    if options.budget is not None:
        names = [override.partition("=")[0] for override in options.set]
        rest_of_settings = {name: value for name, value in asdict(settings).items() if name in names}
        settings = Settings.for_budget(options.budget, n_users, n_items, id_bytes=options.id_bytes, **rest, **rest_of_settings)
    return _promised(settings, n_users, n_items, options.id_bytes, **rest)


def _promised(settings: Settings, n_users: int, n_items: int, id_bytes: int, *, n_pairs: int, **types: Any) -> dict[str, Any]:
    table_bytes = np.dtype(types["table_dtype"] or types["dtype"]).itemsize
    return {
        "n_users": n_users,
        "n_items": n_items,
        "n_pairs": n_pairs,
        "settings": {name: value if value != math.inf else str(value) for name, value in asdict(settings).items()},
        "one_vector_per_entity": (n_users + n_items) * settings.dim * table_bytes,
        "promised": stored_bytes_bound(settings, n_users, n_items, id_bytes, n_pairs=n_pairs, **types),
    }


def _plot(options: argparse.Namespace) -> None:
    model = load_model(options.model)
    entities, *nodes = embed_nodes(model, ops=spec)
    pictures = {"embeddings": plot_embeddings(entities, model.n_users, *nodes)}
    if model.fine is not None and model.fine_assignment is not None:
        pictures["fine_table"] = plot_sparsity({"fine table, thresholded": model.fine})[0]
        pictures["bridges"] = plot_bridges(model.fine_assignment)
    if options.checkpoint:
        pictures["training"] = plot_training(_told(options.checkpoint, model))
    options.out.mkdir(parents=True, exist_ok=True)
    for name, axes in pictures.items():
        path = options.out / f"{name}.png"
        save_picture(axes, path)
        print(path)


def _told(folder: Path, model: Model) -> list[Evaluation]:
    """What was evaluated in the training that this folder is of; that of another model is refused."""
    if not folder.is_dir():
        raise DataError(f"--checkpoint must be a folder that training kept, there is none at {folder}")
    run = {"split": model.provenance.get("split"), "settings": asdict(model.settings)}
    states = [Checkpoints(folder, run, resume=True).load(stage) for stage in ("coarse", "fine")]
    if not any(states):
        raise DataError(f"{folder}: expected coarse.npz and fine.npz, found neither")
    last = states[0 if model.fine is None else 1]
    chosen = (last.best or last.best_fixed) if last else None
    bias = chosen.tables[-1].astype(model.bias.dtype) if chosen else np.zeros(0)
    if not np.array_equal(bias[model.n_users :], model.bias[model.n_users :]):
        raise DataError(f"{folder}: expected the training of this model, it has chosen another one")
    return [evaluation for state in states if state for evaluation in state.evaluations]
