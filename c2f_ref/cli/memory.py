"""`memory`: bytes of a model, counted and promised."""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ..bundle import load_model
from ..spec import Settings, SettingsError, fine_sparsity, stored_bytes_bound, total_bytes
from ..tables import text_table
from ..training import RECIPES, with_overrides
from .arguments import Commands, add_command, at_least, size_in_bytes

WORDS = {"tables": "tables alone", "everything": "everything"}


def add(commands: Commands) -> None:
    """Put the command among the others."""
    text = "bytes of a model, or the most that settings can come to, term by term"
    memory = add_command(commands, "memory", text, "c2f-ref memory --users 30000 --items 40000 --pairs 800000 --budget 3MiB")
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
    memory.set_defaults(run=_memory)


def _memory(options: argparse.Namespace) -> int:
    told = _of_model(options.model) if options.model else _of_settings(options)
    if options.json:
        print(json.dumps(told))
        return 0
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
    return 0


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
