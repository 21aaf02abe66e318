"""`evaluate`, `recommend`, `memory` and `plot`: what a trained model is for, what it takes and what it looks like."""

from __future__ import annotations

import argparse
import math
import re
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from .. import spec, training
from ..bundle import Model, load_model
from ..device import Device, DeviceError, MemoryBudgetError
from ..interactions import DataError, read_split
from ..plots import plot_bridges, plot_embeddings, plot_sparsity, plot_training, save_picture
from ..spec import Settings, SettingsError, fine_sparsity, stored_bytes_bound, total_bytes
from ..tables import metric_columns, text_table
from .arguments import DATA, JSON, MODEL, SET, Commands, add_command, positive_number, print_result, size_in_bytes, whole_number


def add(commands: Commands) -> None:
    """Put the commands among the others."""
    argument = add_command(commands, "evaluate", _evaluate, "c2f-ref evaluate model.npz ratings.csv --k 10 20", MODEL, DATA, JSON)
    argument("--k", type=positive_number, nargs="+", default=[5, 10, 20, 50], help="lengths of lists (default 5 10 20 50)")

    argument = add_command(commands, "recommend", _recommend, "c2f-ref recommend model.npz u17 u42 -k 5", MODEL, JSON)
    argument("user", nargs="+", metavar="USER", help="raw id")
    argument("-k", type=positive_number, default=10, help="items for each user (default %(default)s)")
    budget_text = "compute within so many, 32MiB for example (default: as many as it takes)"
    argument("--memory-budget", type=size_in_bytes, default=sys.maxsize, metavar="BYTES", help=budget_text)

    example = "c2f-ref memory --users 30000 --items 40000 --pairs 800000 --budget 3MiB"
    argument = add_command(commands, "memory", _memory, example, SET, JSON)
    argument("model", nargs="?", type=Path, metavar="MODEL", help="a file that `c2f-ref train` wrote")
    argument("--users", type=whole_number, metavar="U", help="without MODEL: how many users")
    argument("--items", type=whole_number, metavar="I", help="and items")
    argument("--pairs", type=whole_number, metavar="P", help="training pairs (default 0)")
    argument("--id-bytes", type=whole_number, metavar="B", help="bytes of a raw id (default 0)")
    argument("--dtype", choices=["float32", "float64"], help="type of the values (default float32)")
    argument("--tables", choices=["float16", "float32", "float64"], help="type of both tables, if another")
    argument("--budget", type=size_in_bytes, metavar="BYTES", help="find the largest model for it, 2MiB for example")

    argument = add_command(commands, "plot", _plot, "c2f-ref plot c2f-demo/model.npz --out pictures", MODEL)
    argument("--out", type=Path, required=True, metavar="DIR", help="folder for the pictures; made if there is none")
    argument("--checkpoint", type=Path, metavar="DIR", help="the checkpoint folder of its training, for training curves")


def _evaluate(options: argparse.Namespace) -> None:
    """Recall and NDCG of a model on the split's test pairs."""
    model, split = load_model(options.model), read_split(options.data, split_file=options.split, seed=options.split_seed)
    for name, known, ids in (("users", model.user_ids, split.train.user_ids), ("items", model.item_ids, split.train.item_ids)):
        if not np.array_equal(known, ids):
            unlike = (
                f", and {new!r} where {old!r} is" for old, new in zip(known.tolist(), ids.tolist(), strict=False) if old != new
            )
            raise DataError(f"the model must be of the data's {name}: it has {known.size}, the data {ids.size}{next(unlike, '')}")
    if model.seen.multiply(split.test.matrix()).nnz:
        raise DataError("test pairs of this split are among the model's training pairs: give the split it was trained on")
    trained_on = model.provenance.get("split")
    if trained_on != split.describe():
        print(f"note: the model was trained on another split: {trained_on}", file=sys.stderr)
    by_user = training.metrics_by_user(training.embed_model(model), model.bias, model.seen, split.test.matrix(), options.k)
    metrics = {name: float(values.mean()) for name, values in by_user.items()}
    intervals = training.bootstrap_intervals(by_user, rng=np.random.default_rng(0))
    columns = metric_columns(options.k)
    rows = {options.model.name: [f"{metrics[key]:.4f}" for key in columns]}
    for end, name in enumerate(("95 % from", "95 % to")):
        rows[name] = [f"{intervals[key][end]:.4f}" for key in columns]
    note = "the interval is a bootstrap over users: the split, the seed and the training stay as they are"
    told = {"split": split.describe(), "trained_on": trained_on, "metrics": metrics, "intervals": intervals}
    print_result(options, told, [split.describe(), text_table(list(columns.values()), rows), note])


def _recommend(options: argparse.Namespace) -> None:
    """The best unseen items of some users, by their raw ids."""
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
    lines = (
        f"{_shown(raw)}: " + "  ".join(f"{_shown(entry['item'])} ({entry['score']:.3f})" for entry in entries)
        for raw, entries in zip(options.user, lists, strict=True)
    )
    print_result(options, dict(zip(options.user, lists, strict=True)), lines)


def _shown(raw: Any) -> str:
    """A raw id without anything that a terminal or a line must not see."""
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in str(raw))


def _memory(options: argparse.Namespace) -> None:
    """Bytes of a model, or the most that settings can come to, term by term."""
    told = _of_model(options) if options.model else _of_settings(options)
    print_result(options, told, _memory_lines(told))


def _of_model(options: argparse.Namespace) -> dict[str, Any]:
    """What a model takes, and what was promised for its settings and types."""
    needless = [name for name, value in vars(options).items() if value != options.parser.get_default(name)]
    flags = [f"--{name.replace('_', '-')}" for name in needless if name not in ("model", "json")]
    if flags:
        raise SettingsError(f"memory of a MODEL is what it is: leave out {', '.join(flags)}, or the MODEL")
    model = load_model(options.model)
    values, tables = (model.bias, model.coarse_assignment, model.fine_assignment), (model.coarse, model.fine)
    told = _promised(
        model.settings,
        n_users=model.n_users,
        n_items=model.n_items,
        n_pairs=int(model.seen.nnz),
        id_bytes=max(model.user_ids.itemsize, model.item_ids.itemsize),
        dtype=np.result_type(*(part.dtype for part in values if part is not None)),
        table_dtype=np.result_type(*(part.dtype for part in tables if part is not None)),
    )
    sparsity = {} if model.fine is None else {"sparsity": fine_sparsity(model.fine, model.settings.threshold)}
    return told | {"counted": model.stored_bytes()} | sparsity


def _of_settings(options: argparse.Namespace) -> dict[str, Any]:
    """The most that settings can come to, which are found where a budget is given."""
    if options.users is None or options.items is None:
        raise SettingsError("memory needs a MODEL, or --users and --items")
    sizes = {
        "n_users": options.users,
        "n_items": options.items,
        "n_pairs": options.pairs or 0,
        "id_bytes": options.id_bytes or 0,
        "dtype": options.dtype or "float32",
        "table_dtype": options.tables,
    }
    settings, _ = training.with_overrides(Settings(), training.RECIPES["laptop"], options.set)
    if options.budget is not None:
        names = {override.partition("=")[0] for override in options.set}
        given = {name: value for name, value in asdict(settings).items() if name in names}
        settings = Settings.for_budget(options.budget, **sizes, **given)
    return _promised(settings, **sizes)


def _promised(settings: Settings, **sizes: Any) -> dict[str, Any]:
    promised = stored_bytes_bound(settings, **sizes)
    bytes_of_a_vector = promised["coarse"] // settings.n_coarse
    return {
        **{name: sizes[name] for name in ("n_users", "n_items", "n_pairs")},
        "settings": {name: value if value != math.inf else str(value) for name, value in asdict(settings).items()},
        "one_vector_per_entity": (sizes["n_users"] + sizes["n_items"]) * bytes_of_a_vector,
        "promised": promised,
    }


def _memory_lines(told: dict[str, Any]) -> Iterator[str]:
    settings, columns = told["settings"], [column for column in ("counted", "promised") if column in told]
    yield (
        f"{told['n_users']:,} users, {told['n_items']:,} items, {told['n_pairs']:,} training pairs; "
        f"{settings['n_coarse']:,} coarse and {settings['n_fine']:,} fine rows of {settings['dim']:,} dimensions"
    )
    totals = {column: total_bytes(told[column]) for column in columns}
    rows = {name: [f"{told[column][name]:,}" for column in columns] for name in told["promised"]}
    for name, words in (("tables", "tables alone"), ("everything", "everything")):
        rows[words] = [f"{totals[column][name]:,}" for column in columns]
        rows[f"{words}, %"] = [f"{100 * totals[column][name] / max(told['one_vector_per_entity'], 1):.2f}" for column in columns]
    yield text_table(columns, rows)
    yield f"bytes; % of one vector per entity, {told['one_vector_per_entity']:,}"
    if "sparsity" in told:
        yield f"exact zeros in the fine table: {100 * told['sparsity']:.2f} %"


def _plot(options: argparse.Namespace) -> None:
    """Pictures of a trained model.

    Writes one .png for each picture that the file can show, and prints a line for each. Training curves are no part of a model
    file: they come from the folder that `c2f-ref train --checkpoint DIR` kept.
    """
    model = load_model(options.model)
    entities, *nodes = training.embed_nodes(model, ops=spec)
    pictures = {"embeddings": plot_embeddings(entities, model.n_users, *nodes)}
    if model.fine is not None and model.fine_assignment is not None:
        pictures["fine_table"] = plot_sparsity({"fine table, thresholded": model.fine})[0]
        pictures["bridges"] = plot_bridges(model.fine_assignment)
    if options.checkpoint:
        pictures["training"] = plot_training(_evaluations(options.checkpoint, model))
    options.out.mkdir(parents=True, exist_ok=True)
    for name, axes in pictures.items():
        path = options.out / f"{name}.png"
        save_picture(axes, path)
        print(path)


def _evaluations(folder: Path, model: Model) -> list[training.Evaluation]:
    """What was evaluated in the training that this folder is of; that of another model is refused."""
    if not folder.is_dir():
        raise DataError(f"--checkpoint must be a folder that training kept, there is none at {folder}")
    run = {"split": model.provenance.get("split"), "settings": asdict(model.settings)}
    states = [training.Checkpoints(folder, run, resume=True).load(stage) for stage in ("coarse", "fine")]
    chosen = [state.best or state.best_fixed for state in states if state]
    if not chosen:
        raise DataError(f"{folder}: expected coarse.npz and fine.npz, found neither")
    biases = [snapshot.tables[-1].astype(model.bias.dtype) for snapshot in chosen if snapshot]
    if not any(np.array_equal(bias[model.n_users :], model.bias[model.n_users :]) for bias in biases):
        raise DataError(f"{folder}: expected the training of this model, it has chosen another one")
    return [evaluation for state in states if state for evaluation in state.evaluations]
