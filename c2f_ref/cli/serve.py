"""`evaluate` and `recommend`: what a trained model is for."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from .. import spec
from ..bundle import Model, load_model
from ..interactions import DataError, read_split
from ..tables import metric_columns, text_table
from ..training import bootstrap_intervals, embed_model, metrics_by_user
from .arguments import Commands, add_data, at_least


def add(commands: Commands) -> None:
    """Put both commands among the others."""
    evaluate = commands.add_parser("evaluate", help="recall and NDCG of a model on the split's test pairs")
    evaluate.add_argument("model", type=Path, metavar="MODEL")
    add_data(evaluate)
    evaluate.add_argument("--k", type=at_least(1), nargs="+", default=[5, 10, 20, 50])
    evaluate.add_argument("--json", action="store_true")
    evaluate.set_defaults(run=_evaluate)

    recommend = commands.add_parser("recommend", help="the best unseen items of some users, by their raw ids")
    recommend.add_argument("model", type=Path, metavar="MODEL")
    recommend.add_argument("user", nargs="+", metavar="USER")
    recommend.add_argument("-k", type=at_least(1), default=10)
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
    model = load_model(options.model)
    positions = {str(raw): position for position, raw in enumerate(model.user_ids)}
    for raw in options.user:
        if raw not in positions:
            known = f"{model.n_users} users, {model.user_ids[0]!s} to {model.user_ids[-1]!s}"
            raise DataError(f"user {raw!r} is not in {options.model}, which knows {known}")
    users = np.array([positions[raw] for raw in options.user], dtype=np.int64)
    items, scores = _recommend(model, users, options.k)
    lists = {
        raw: [
            {"item": model.item_ids[item].item(), "score": float(score)}
            for item, score in zip(row, row_scores, strict=True)
            if item >= 0
        ]
        for raw, row, row_scores in zip(options.user, items, scores, strict=True)
    }
    if options.json:
        print(json.dumps(lists))
    else:
        for raw, entries in lists.items():
            print(f"{raw}: " + "  ".join(f"{entry['item']} ({entry['score']:.3f})" for entry in entries))
    return 0


def _recommend(model: Model, users: Any, k: int) -> tuple[Any, Any]:
    return spec.rank_items(embed_model(model, ops=spec), model.bias, model.n_users, users, model.seen, k)
