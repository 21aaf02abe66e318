"""`evaluate` and `recommend`: what a trained model is for."""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np

from .. import spec
from ..bundle import load_model
from ..device import Device, DeviceError, MemoryBudgetError
from ..interactions import DataError, read_split
from ..spec import SettingsError
from ..tables import metric_columns, text_table
from ..training import bootstrap_intervals, embed_model, metrics_by_user
from .arguments import Commands, add_command, add_data, at_least, size_in_bytes


def add(commands: Commands) -> None:
    """Put both commands among the others."""
    text = "recall and NDCG of a model on the split's test pairs"
    evaluate = add_command(commands, "evaluate", text, "c2f-ref evaluate model.npz ratings.csv --k 10 20")
    evaluate.add_argument("model", type=Path, metavar="MODEL")
    add_data(evaluate)
    evaluate.add_argument("--k", type=at_least(1), nargs="+", default=[5, 10, 20, 50])
    evaluate.add_argument("--json", action="store_true")
    evaluate.set_defaults(run=_evaluate)

    recommend = add_command(
        commands, "recommend", "the best unseen items of some users, by their raw ids", "c2f-ref recommend model.npz u17 u42 -k 5"
    )
    recommend.add_argument("model", type=Path, metavar="MODEL")
    recommend.add_argument("user", nargs="+", metavar="USER")
    recommend.add_argument("-k", type=at_least(1), default=10)
    recommend.add_argument(
        "--memory-budget", type=size_in_bytes, metavar="BYTES", help="compute with c2f_ref.device within so many, 32MiB for example"
    )
    recommend.add_argument("--json", action="store_true")
    recommend.set_defaults(run=_recommend_command)


def _evaluate(options: argparse.Namespace) -> int:
    model, split = load_model(options.model), read_split(options.data, split_file=options.split, seed=options.split_seed)
    if model.seen.shape != (split.train.n_users, split.train.n_items):
        raise DataError(f"the model is for {model.seen.shape} users and items, the data has {split.train.matrix().shape}")
    if model.seen.multiply(split.test.matrix()).nnz:
        raise DataError("test pairs of this split are among the model's training pairs: give the split it was trained on")
    if model.provenance.get("split") != split.describe():
        print(f"note: the model was trained on another split: {model.provenance.get('split')}", file=sys.stderr)
    by_user = metrics_by_user(embed_model(model), model.bias, model.seen, split.test.matrix(), options.k)
    metrics = {name: float(values.mean()) for name, values in by_user.items()}
    intervals = bootstrap_intervals(by_user, rng=np.random.default_rng(0))
    if options.json:
        print(json.dumps({"split": split.describe(), "metrics": metrics, "intervals": intervals}))
    else:
        columns = metric_columns(options.k)
        rows = {options.model.name: [f"{metrics[key]:.4f}" for key in columns]}
        for end, name in enumerate(("95 % from", "95 % to")):
            rows[name] = [f"{intervals[key][end]:.4f}" for key in columns]
        print(split.describe())
        print(text_table(list(columns.values()), rows))
        print("the interval is a bootstrap over users: the split, the seed and the training stay as they are")
    return 0


def _recommend_command(options: argparse.Namespace) -> int:
    ids, scores = (_recommend if options.memory_budget is None else _recommend_on_device)(options)
    lists = {
        raw: [{"item": item.item(), "score": float(score)} for item, score in zip(*rows, strict=True) if score > -np.inf]
        for raw, *rows in zip(options.user, ids, scores, strict=True)
    }
    if options.json:
        print(json.dumps(lists))
    else:
        for raw, entries in lists.items():
            print(f"{raw}: " + "  ".join(f"{entry['item']} ({entry['score']:.3f})" for entry in entries))
    return 0


def _recommend(options: argparse.Namespace) -> tuple[Any, Any]:
    """Raw ids and scores by the specification; a score of -inf where no item is left."""
    model = load_model(options.model)
    positions = {str(raw): position for position, raw in enumerate(model.user_ids)}
    for raw in options.user:
        if raw not in positions:
            known = f"{model.n_users} users, {model.user_ids[0]!s} to {model.user_ids[-1]!s}"
            raise DataError(f"user {raw!r} is not in {options.model}, which knows {known}")
    users = np.array([positions[raw] for raw in options.user], dtype=np.int64)
    items, scores = spec.rank_items(embed_model(model, ops=spec), model.bias, model.n_users, users, model.seen, options.k)
    return model.item_ids[items], scores


def _recommend_on_device(options: argparse.Namespace) -> tuple[Any, Any]:
    """The same, within a budget of bytes."""
    try:
        device = Device.load(options.model, memory_budget=options.memory_budget)
        whole = device.user_ids.dtype.kind in "iu"
        users = [int(raw) if whole and re.fullmatch(r"-?[0-9]+", raw) else raw for raw in options.user]
        return device.recommend(users, options.k)
    except MemoryBudgetError as error:
        raise SettingsError(f"--memory-budget: {error}") from error
    except DeviceError as error:
        raise DataError(f"{options.model}: {error}") from error
