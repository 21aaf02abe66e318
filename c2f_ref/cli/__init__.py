"""The command line: `c2f-ref` and `python -m c2f_ref`.

Results go to stdout, progress to stderr. Exit codes: 0 done, 1 a check failed, 2 wrong usage,
3 bad input file, or not enough memory.
"""

from __future__ import annotations

import argparse
import inspect
import io
import json
import os
import re
import shlex
import signal
import sys
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from .. import __version__
from ..runtime import ProgressLine, say, when_slow

INTERRUPTED, BROKEN_PIPE = 130, 141
"""Exit codes after Ctrl-C or SIGTERM, and when nobody reads the output any more, as in shells."""
COLUMNS = ["format", "user_column", "item_column", "rating_column", "timestamp_column"]
COLUMNS += ["least_rating", "separator", "header", "encoding"]
"""Options that say how to read a file of pairs, by their names in Python."""
USAGE = {"SettingsError", "ConformanceError", "ModuleNotFoundError"}
INPUT = {"DataError", "StoreError", "DeviceError", "MethodError", "OSError", "MemoryError"}
"""Names of exceptions for wrong usage, and for bad input: a name needs no import."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; `arguments` default to those of the process."""
    is_main = threading.current_thread() is threading.main_thread()  # others have no signals
    before = signal.signal(signal.SIGTERM, signal.default_int_handler) if is_main else None
    try:
        made = parser()
        options, rest = made.parse_known_args(arguments)
        if rest and not hasattr(options, "ids"):
            made.error(f"unrecognized arguments: {shlex.join(rest)}")
        if rest:  # ids may begin with "-"
            options.ids = options.ids + [word for word in rest if word != "--"]
        sys.path.insert(0, "")  # a module in the current folder is found, as with `python -m`
        if isinstance(sys.stdout, io.TextIOWrapper):  # an id may hold what a terminal cannot show
            sys.stdout.reconfigure(errors="backslashreplace")
        code = int(options.run(options) or 0)
        print(end="", flush=True)
        return code
    except KeyboardInterrupt as stop:
        say("; ".join(["\nc2f-ref: interrupted", *getattr(stop, "__notes__", [])]))
        return INTERRUPTED
    except BrokenPipeError:  # `c2f-ref ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the last flush
        return BROKEN_PIPE
    except Exception as error:
        names = {kind.__name__ for kind in type(error).__mro__}
        if not names & (USAGE | INPUT):
            raise
        library = str(getattr(error, "name", "")).partition(".")[0]
        library = library.replace("sklearn", "scikit-learn")
        hint = f": pip install {library}" if "No module named" in str(error) else ""
        say(f"c2f-ref: {str(error) or 'not enough memory'}{hint}")
        return 2 if names & USAGE else 3
    finally:
        if is_main:
            signal.signal(signal.SIGTERM, before)


def show(options: argparse.Namespace, result: Mapping[str, Any], lines: Iterable[str]) -> None:
    """Print a result on stdout: one JSON object with --json, otherwise lines."""
    print(json.dumps(result) if options.json else "\n".join(lines))


def text_table(rows: Mapping[str, Mapping[str, float]], form: str) -> str:
    """Rows of numbers in this format, under the names of the columns, right-aligned."""
    table = {"": list(next(iter(rows.values())))}
    table |= {name: [format(value, form) for value in row.values()] for name, row in rows.items()}
    widths = [max(map(len, cells)) for cells in zip(*table.values(), strict=True)]
    lines = ((name, map(str.rjust, cells, widths)) for name, cells in table.items())
    return "\n".join("  ".join([name.ljust(max(map(len, table))), *cells]) for name, cells in lines)


def given(options: argparse.Namespace, *names: str) -> dict[str, Any]:
    """The options of these names that were given: `read_split` calls them the same."""
    return {name: getattr(options, name) for name in names if getattr(options, name) is not None}


def split_of(options: argparse.Namespace) -> Any:
    """DATA and its split, as the options say; what was read and left out goes to stderr."""
    from .. import read_split

    how = given(options, "shares", "split_by", *COLUMNS)
    split = read_split(options.data, split_file=options.split, seed=options.split_seed, **how)
    say(split.source)
    return split


def compare(
    model: Any, held_out: Any, ks: Sequence[int], *, ops: Any = None
) -> dict[str, dict[str, float]]:
    """Recall and NDCG of a model, popularity and the graph filter, each with its 95 % interval."""
    import numpy as np

    from .. import baselines, embed_model, evaluation

    users = np.flatnonzero(np.diff(held_out.indptr))
    with when_slow("embedding and ranking, for the model and what learns nothing"):
        of_model = embed_model(model, ops=ops), model.bias, model.seen, held_out, ks
        by_user = {"model": evaluation.metrics_by_user(*of_model, ops=ops)}
        for name, rank in baselines.RANKS.items():
            ranked, _ = rank(users, model.seen, max(ks))
            by_user[name] = evaluation.metrics_of_lists(ranked, held_out[users], ks)
    rows = {}
    for name, metrics in by_user.items():
        rows[name] = {metric: float(values.mean()) for metric, values in metrics.items()}
        intervals = evaluation.bootstrap_intervals(metrics, rng=np.random.default_rng(0))
        rows[f"{name}, 95 % from"] = {metric: low for metric, (low, _) in intervals.items()}
        rows[f"{name}, 95 % to"] = {metric: high for metric, (_, high) in intervals.items()}
    return rows


def parser() -> argparse.ArgumentParser:
    """All commands; the help text of each is the docstring of the function that carries it out."""
    from . import check, models  # a page imports what a command needs when it is called

    columns = " ".join(f"--{name.replace('_', '-')}" for name in COLUMNS if name != "header")
    columns += " --no-header"
    data, sizes = f"--split|--split-seed --shares --split-by {columns}", "--users --items --pairs"
    commands = {
        demo: "--out --seed",
        train: f"data --out --hold-out --recipe --set --seed --partition --implementation --store"
        f" --threads --checkpoint --resume {data}",
        models.evaluate: f"model data|--test --unknown --k --json {data}",
        models.recommend: "model ids --ids --names -k --memory-budget --json",
        models.similar: "model ids --ids --names -k --json",
        models.memory: f"model {sizes} --id-bytes --dtype --tables --budget --set --json",
        models.plot: "model --out --checkpoint",
        check.conformance: "module|--command --only --skip --dtype --time-limit --json",
        check.vectors: "folder",
        check.doctor: "--json",
    }
    raw: Any = {"formatter_class": argparse.RawDescriptionHelpFormatter}
    made = argparse.ArgumentParser("c2f-ref", description=__doc__, **raw)
    made.add_argument("--version", action="version", version=f"c2f-ref {__version__}")
    add = made.add_subparsers(required=True, metavar="COMMAND").add_parser
    for run, words in commands.items():
        text = inspect.getdoc(run) or ""
        first = text.partition("\n")[0]
        command = add(run.__name__, help=first, description=text, allow_abbrev=False, **raw)
        command.set_defaults(run=run)
        for word in words.split():
            group: Any = command
            if "|" in word:  # one of these at most; or just one, if the first is not an option
                group = command.add_mutually_exclusive_group(required=not word.startswith("-"))
            for name in word.split("|"):
                form, text = ARGUMENTS.get(f"{run.__name__} {name}") or ARGUMENTS[name]
                group.add_argument(name, help=text, **form)
    return made


def train(options: argparse.Namespace) -> None:
    """Train both stages on your interactions, and write the model that serves.

    Its quality on the test pairs is printed, next to popularity and the graph filter. Then all
    pairs of DATA join its graph, and no list has them. With --hold-out the model keeps to the
    training pairs, and `c2f-ref evaluate` can judge it. Of both stages the better one is written.

    Stopped? With --checkpoint, the same command and --resume go on to the same bytes.

    --set takes NAME=VALUE, as often as you like. Of the model:
      n_coarse n_fine dim n_layers coarse_per_entity fine_per_coarse anchor_weight threshold
      bridge_weight l2_weight clip_limit adam_beta1 adam_beta2 adam_epsilon sparse_pca_components
      sparse_pca_alpha pinv_rtol
    of how it starts:
      bias_start sparse_pca_solver
    of a stage, with coarse. or fine. before the name, or both. for the two:
      batch lr n_negatives max_epochs evaluate_every patience selection_k last_lr bias_lr
      bias_scales n_candidates disjoint_share draws_per_epoch max_fixed_epochs

    example: c2f-ref train ratings.csv --out model.npz --set n_coarse=60 --set coarse.lr=0.5
    """
    import numpy as np

    from .. import SettingsError, method, partition, runtime, store, training
    from ..model import save_model

    out, data, kept = options.out, options.data, options.checkpoint
    store.require_place(out)
    files = [kept / "coarse.npz", kept / "fine.npz"] if kept else []
    files += [data / f"{part}{end}" for part in ("train", "valid", "test") for end in ENDS]
    if out.resolve() in [path.resolve() for path in (data, options.split, *files) if path]:
        raise SettingsError(f"--out must be another file: training reads or keeps {out}")
    split = split_of(options)
    recipe = training.RECIPES[options.recipe]
    settings, recipe = training.with_overrides(method.Settings(), recipe, options.set)
    ops = runtime.load_implementation(options.implementation)
    say(f"{split.describe()}; {ops.__name__.removeprefix('c2f_ref.')} computes")
    divide = partition.partition if options.partition == "own" else partition.metis_partition
    watch = ProgressLine()
    how: dict[str, Any] = {"ops": ops, "partition": divide, "seed": options.seed, "watch": watch}
    how |= {"split": split, "settings": settings, "recipe": recipe}
    try:
        with runtime.at_most(options.threads):
            trainer = training.Trainer(**how, checkpoint=kept, resume=options.resume)
            model, *_ = trainer.model(options.store)
            parts = [(p.users, p.items) for p in (split.train, split.valid, split.test)]
            users, items = np.concatenate(parts, axis=1)
            pairs = replace(split.train, users=users, items=items, timestamps=None)
            written = model if options.hold_out else training.with_pairs(model, pairs)
            save_model(out, written)
            if split.test.n_pairs:
                rows = compare(model, split.test.matrix(), [10, 20], ops=ops)
                print(text_table(rows, ".4f"))
    except KeyboardInterrupt as stop:
        if kept:
            stop.add_note(f"the same command with --resume goes on from {kept}")
        raise
    finally:
        watch.close()
    print(f"{out}: {written.describe_stored()}")


def demo(options: argparse.Namespace) -> None:
    """Train both stages on planted data and show everything, in under a minute.

    It runs the other commands, and prints each of them as one would type it.

    example: c2f-ref demo --out c2f-demo
    """
    import numpy as np

    from ..interactions import planted

    out, pairs = options.out, planted(rng=np.random.default_rng(options.seed))
    data, model = out / "pairs.csv", out / "model.npz"
    out.mkdir(parents=True, exist_ok=True)
    raw = zip(pairs.user_ids[pairs.users], pairs.item_ids[pairs.items], strict=True)
    data.write_text("".join(f"{user},{item}\n" for user, item in [("user", "item"), *raw]))
    # The method itself trains: kernels would take longer to compile than all of this.
    split = ["--shares", 0.5, 0.2, 0.3, "--split-seed", options.seed]
    how = ["--hold-out", "--recipe", "demo", "--implementation", "method", *split]
    how += [f"--set={setting}" for setting in ("n_coarse=24", "n_fine=12", "dim=32", "n_layers=2")]
    for command in (
        ["train", data, "--out", model, "--seed", options.seed, *how],
        ["evaluate", model, data, *split],
        ["recommend", model, "u0", "u1", "-k", 5],
        ["similar", model, "i0", "-k", 5],
        ["memory", model],
        ["plot", model, "--out", out],
    ):
        words = [str(word) for word in command]
        print(f"\n$ c2f-ref {shlex.join(words)}", flush=True)
        chosen = parser().parse_args(words)
        chosen.run(chosen)


def _at_least(least: int, text: str) -> int:
    if not re.fullmatch("[0-9]{1,18}", text) or int(text) < least:
        raise argparse.ArgumentTypeError(f"expected a whole number from {least}, got {text!r}")
    return int(text)


def _bytes(text: str) -> int:
    parts = re.fullmatch("([0-9]{1,12}) ?(|KiB|MiB|GiB)", text)
    if not parts:
        raise argparse.ArgumentTypeError(f"expected bytes, KiB, MiB or GiB, got {text!r}")
    return int(parts[1]) << 10 * ["", "KiB", "MiB", "GiB"].index(parts[2])


FILE, COUNT, SOME = {"type": Path}, {"type": partial(_at_least, 0)}, {"type": partial(_at_least, 1)}
BYTES, FLAG, WORD, WORDS = {"type": _bytes}, {"action": "store_true"}, {"type": str}, {"nargs": "+"}
UNKNOWN = {"choices": ["refuse", "drop"], "default": "refuse"}
ENDS = ".txt", ".csv"
TYPES = ["float16", "float32", "float64"]
ARGUMENTS: dict[str, tuple[dict[str, Any], str]] = {
    "data": (FILE, "a folder with train.txt and test.txt, or one file of pairs"),
    "--split": (FILE, "saved validation and test pairs of the data"),
    "--split-seed": (COUNT | {"default": 0}, "draw the split with it (default 0)"),
    "--shares": ({"type": float, "nargs": 3}, "train, valid, test (default 0.7 0.1 0.2)"),
    "--split-by": ({"choices": ["ratio", "time", "leave-one-out"]}, "of one file (default ratio)"),
    "--format": (WORD, "how lines are cut, where the file's name does not say it"),
    "--user-column": (WORD, "name of the column of users"),
    "--item-column": (WORD, "of items"),
    "--rating-column": (WORD, "of ratings, for --least-rating"),
    "--timestamp-column": (WORD, "of times, for --split-by"),
    "--least-rating": ({"type": float}, "leave out pairs that are rated below it"),
    "--separator": (WORD, "between the fields of a line"),
    "--no-header": ({"action": "store_const", "const": False, "dest": "header"}, "no names first"),
    "--encoding": (WORD, "of the file (default utf-8)"),
    "--hold-out": (FLAG, "keep validation and test pairs out of the model, for `evaluate`"),
    "evaluate data": (FILE | {"nargs": "?"}, "what it was trained on, with --hold-out"),
    "--test": (FILE, "a file of pairs to judge by, instead"),
    "--unknown": (UNKNOWN, "of --test: pairs of the model, and of ids that it lacks"),
    "model": (FILE, "a file that `c2f-ref train` wrote"),
    "memory model": (FILE | {"nargs": "?"}, "a model file; or give --users and --items"),
    "demo --out": (FILE | {"default": Path("c2f-demo")}, "folder to write (default c2f-demo)"),
    "--out": (FILE | {"required": True}, "the file to write, or the folder of pictures"),
    "--seed": (COUNT | {"default": 0}, "of every random draw (default 0)"),
    "--set": ({"action": "append", "default": []}, "NAME=VALUE, see `c2f-ref train --help`"),
    "--json": (FLAG, "print one JSON object"),
    "--recipe": ({"choices": ["laptop", "published", "demo"], "default": "laptop"}, "how to train"),
    "--partition": ({"choices": ["own", "metis"], "default": "own"}, "metis needs pymetis"),
    "--implementation": (WORD, "fast, method, mine.py or package.module (default fast)"),
    "--store": ({"choices": TYPES}, "type of the model's numbers; float16: of its tables alone"),
    "--threads": (SOME, "of compiled loops; changes no result"),
    "--checkpoint": (FILE, "folder in which training keeps what --resume needs"),
    "--resume": (FLAG, "go on from --checkpoint, if anything is there"),
    "--k": (SOME | {"nargs": "+", "default": [5, 10, 20, 50]}, "lengths of the ranked lists"),
    "-k": (SOME | {"default": 10}, "items in a list (default 10)"),
    "ids": ({"nargs": "*", "default": []}, "raw ids; after -- if they look like options"),
    "--ids": (FILE | {"dest": "ids_file"}, "a file of further ids, one a line"),
    "--names": (FILE, "titles of items: a file with a column of ids and one of titles"),
    "--memory-budget": (BYTES | {"default": sys.maxsize}, "compute within it, such as 32MiB"),
    "--users": (COUNT, "number of users"),
    "--items": (COUNT, "number of items"),
    "--pairs": (COUNT, "training pairs (default 0)"),
    "--id-bytes": (COUNT, "bytes of a raw id (default 0)"),
    "--dtype": ({"choices": TYPES[1:]}, "type of numbers (memory: float32, conformance: both)"),
    "--tables": ({"choices": TYPES}, "type of the tables, if another"),
    "--budget": (BYTES, "find the largest model for it, such as 2MiB"),
    "module": ({"nargs": "?"}, "dotted name or .py file"),
    "--command": (WORD, "a program: './mine {in} {out}', see conformance/README.md"),
    "--only": (WORDS, "operations to ask for"),
    "--skip": (WORDS, "operations to leave out"),
    "--time-limit": (SOME | {"default": 60}, "seconds that --command may take for a case"),
    "folder": (FILE, "folder to write, made if there is none"),
}
"""Every argument, once; "demo --out" is what --out means to `demo`."""
