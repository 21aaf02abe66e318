"""What several examples share: their arguments, their data, and how they print a table."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from c2f_ref import method
from c2f_ref.baselines import rank_by_graph_filter, rank_by_popularity
from c2f_ref.interactions import Split, planted, read_split, split_ratio
from c2f_ref.method import Settings
from c2f_ref.runtime import load_implementation
from c2f_ref.training import DEMO_SETTINGS, RECIPES, Recipe, with_overrides


class Given(NamedTuple):
    """What an example trains on, and how."""

    split: Split
    settings: Settings
    recipe: Recipe
    ops: ModuleType


def parser_of(text: str | None) -> argparse.ArgumentParser:
    """A parser that prints `text` as help and takes DATA, a split of it, and --set."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=text, formatter_class=form)
    parser.add_argument("data", type=Path, nargs="?", metavar="DATA")
    parser.add_argument("--split", type=Path, metavar="FILE")
    parser.add_argument("--split-seed", type=int, default=0, metavar="N")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    return parser


def given(
    options: argparse.Namespace, quick: Sequence[str] = (), recipe: str = "laptop", **sizes: Any
) -> Given:
    """DATA, `recipe` and compiled kernels; or planted pairs, recipe `demo` and the method itself.

    For planted pairs, compiling would take longer than training; `quick` are further settings for
    them, and `sizes` are arguments of `planted`.
    """
    if options.data:
        split = read_split(options.data, split_file=options.split, seed=options.split_seed)
        both = with_overrides(Settings(), RECIPES[recipe], options.set)
        return Given(split, *both, load_implementation())
    pairs = planted(rng=np.random.default_rng(0), **sizes)
    both = with_overrides(DEMO_SETTINGS, RECIPES["demo"], [*quick, *options.set])
    return Given(split_ratio(pairs, valid=0.2, test=0.3, seed=0), *both, method)


def baseline_metrics(split: Split, ks: Sequence[int]) -> dict[str, dict[str, float]]:
    """Test metrics of the baselines, which learn nothing."""
    seen, held_out = split.train.matrix(), split.test.matrix()
    users = np.flatnonzero(np.diff(held_out.indptr))
    ranks = {"popularity": rank_by_popularity, "graph filter": rank_by_graph_filter}
    ranked = {name: rank(users, seen, max(ks))[0] for name, rank in ranks.items()}
    return {name: method.mean_metrics(each, held_out[users], ks) for name, each in ranked.items()}


def figures(metrics: Mapping[str, float]) -> dict[str, str]:
    """Cells of a row: NDCG as "N@5" and the like, recall as "R@5", to four places."""
    heads = {name: name.replace("ndcg", "N").replace("recall", "R") for name in metrics}
    return {heads[name]: f"{value:.4f}" for name, value in metrics.items()}


def table(rows: Mapping[str, Mapping[str, str]]) -> str:
    """Rows of cells, right-aligned under the columns of all rows; a row may lack some."""
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    lines = {"": columns} | {
        name: [row.get(column, "") for column in columns] for name, row in rows.items()
    }
    widths = [max(map(len, cells)) for cells in zip(*lines.values(), strict=True)]
    first = max(map(len, lines))
    cells = {name: map(str.rjust, line, widths) for name, line in lines.items()}
    return "\n".join("  ".join([name.ljust(first), *line]) for name, line in cells.items())
