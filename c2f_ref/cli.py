"""The command line: `c2f-ref` and `python -m c2f_ref`.

Results go to stdout, progress to stderr. Exit codes: 0 done, 1 a check failed, 2 wrong usage, 3 bad input file.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from . import spec
from .bundle import Model, load_model, save_model
from .conformance import ModuleLoadError, VectorError, load_module, run
from .container import BundleError
from .demo import run_demo
from .interactions import DataError, read_split
from .progress import ProgressLine
from .spec import Settings, SettingsError, SpecError
from .tables import metric_columns, text_table
from .threads import at_most
from .training import (
    RECIPES,
    bootstrap_intervals,
    embed_model,
    metrics_by_user,
    to_model,
    train,
    with_overrides,
)

INTERRUPTED = 130
"""Exit code after Ctrl-C or SIGTERM, as shells have it."""
PARTITIONERS = {"own": spec.partition, "metis": spec.metis_partition}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; `arguments` default to those of the process."""
    parser = _parser()
    options = parser.parse_args(arguments)
    terminated = signal.signal(signal.SIGTERM, _on_terminate)
    try:
        return int(options.run(options))
    except KeyboardInterrupt:
        parser.exit(INTERRUPTED, f"\n{parser.prog}: interrupted{_how_to_go_on(options)}\n")
    except (SettingsError, ModuleLoadError, ModuleNotFoundError) as error:
        parser.exit(2, f"{parser.prog}: {error}\n")
    except (DataError, BundleError, VectorError, SpecError, OSError) as error:
        parser.exit(3, f"{parser.prog}: {error}\n")
    finally:
        signal.signal(signal.SIGTERM, terminated)


def _how_to_go_on(options: argparse.Namespace) -> str:
    folder = getattr(options, "checkpoint", None)
    return f"; the same command with --resume goes on from {folder}" if folder else ""


def _demo(options: argparse.Namespace) -> int:
    run_demo(options.out, options.seed)
    return 0


def _train(options: argparse.Namespace) -> int:
    if not options.out.absolute().parent.is_dir():
        raise DataError(f"the folder of {options.out} must exist before training begins")
    split = read_split(options.data, split_file=options.split, seed=options.split_seed)
    settings, recipe = with_overrides(Settings(), RECIPES[options.recipe], options.set)
    print(split.describe(), file=sys.stderr)
    progress = ProgressLine()
    with at_most(options.threads):
        coarse, fine = train(
            split,
            settings,
            recipe,
            seed=options.seed,
            ops=spec if options.implementation == "spec" else None,
            partition=PARTITIONERS[options.partition],
            checkpoint=options.checkpoint,
            resume=options.resume,
            **progress.callbacks(),
        )
    progress.close()
    provenance = {
        "recipe": options.recipe,
        "implementation": options.implementation,
        "partition": options.partition,
        "overrides": " ".join(options.set),
        "seed": str(options.seed),
    }
    model = to_model(split, settings, coarse.best, fine.best if fine else None, provenance)
    save_model(options.out, model)
    print(f"{options.out}: {model.describe_stored()}")
    return 0


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


def _conformance(options: argparse.Namespace) -> int:
    sys.path.insert(0, "")  # a module in the current folder is found, as `python -m` would
    report = run(load_module(options.module), options.vectors)
    print(json.dumps(report.as_dict()) if options.json else "\n".join(report.lines()))
    return 0 if report.passed else 1


def _recommend(model: Model, users: Any, k: int) -> tuple[Any, Any]:
    return spec.rank_items(embed_model(model, ops=spec), model.bias, model.n_users, users, model.seen, k)


def _on_terminate(signal_number: int, frame: Any) -> None:
    """End as after Ctrl-C, so that everything that is being written is finished or undone."""
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="c2f-ref", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    demo = commands.add_parser("demo", help="train both stages on planted data and show everything, in under a minute")
    demo.add_argument("--out", type=Path, default=Path("c2f-demo"), metavar="DIR", help="folder for model and picture")
    demo.add_argument("--seed", type=_at_least(0), default=0)
    demo.set_defaults(run=_demo)

    train_ = commands.add_parser("train", help="train both stages on your interactions")
    _add_data(train_)
    train_.add_argument("--out", type=Path, required=True, metavar="MODEL")
    train_.add_argument("--recipe", choices=sorted(RECIPES), default="laptop")
    train_.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="override a field of Settings or Recipe")
    train_.add_argument("--seed", type=_at_least(0), default=0)
    train_.add_argument("--partition", choices=PARTITIONERS, default="own", help='"metis" needs the extra of that name')
    train_.add_argument(
        "--implementation", choices=["fast", "spec"], default="fast", help="compiled, or the specification in float64, slowly"
    )
    train_.add_argument("--threads", type=_at_least(1), metavar="N", help="of the compiled loops; changes no result")
    train_.add_argument("--checkpoint", type=Path, metavar="DIR", help="keep here what is needed to go on after a stop")
    train_.add_argument("--resume", action="store_true", help="go on from --checkpoint, if anything is there")
    train_.set_defaults(run=_train)

    evaluate = commands.add_parser("evaluate", help="recall and NDCG of a model on the split's test pairs")
    evaluate.add_argument("model", type=Path, metavar="MODEL")
    _add_data(evaluate)
    evaluate.add_argument("--k", type=_at_least(1), nargs="+", default=[5, 10, 20, 50])
    evaluate.add_argument("--json", action="store_true")
    evaluate.set_defaults(run=_evaluate)

    recommend = commands.add_parser("recommend", help="the best unseen items of some users, by their raw ids")
    recommend.add_argument("model", type=Path, metavar="MODEL")
    recommend.add_argument("user", nargs="+", metavar="USER")
    recommend.add_argument("-k", type=_at_least(1), default=10)
    recommend.add_argument("--json", action="store_true")
    recommend.set_defaults(run=_recommend_command)

    conformance = commands.add_parser("conformance", help="hold an implementation against known answers")
    conformance.add_argument("module", metavar="MODULE", help="dotted name of a module with names of c2f_ref.spec")
    conformance.add_argument("--vectors", type=Path, required=True, metavar="DIR")
    conformance.add_argument("--json", action="store_true")
    conformance.set_defaults(run=_conformance)
    return parser


def _at_least(least: int) -> Callable[[str], int]:
    """A whole number that is not below `least`, for argparse, which turns the error into wrong usage."""

    def read(text: str) -> int:
        number = int(text)
        if number < least:
            raise argparse.ArgumentTypeError(f"expected a whole number of at least {least}, got {text}")
        return number

    read.__name__ = "int"  # what argparse calls the value
    return read


def _add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", type=Path, metavar="DATA", help="a folder with train.txt and test.txt, or one file of pairs")
    split = parser.add_mutually_exclusive_group()
    split.add_argument(
        "--split", type=Path, metavar="FILE", help=".npz with validation and test pairs; what it leaves of DATA is training"
    )
    split.add_argument("--split-seed", type=_at_least(0), default=0, metavar="N", help="draw the split with this seed (default 0)")


if __name__ == "__main__":
    sys.exit(main())
