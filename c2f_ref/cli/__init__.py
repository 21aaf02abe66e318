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
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from .. import __version__
from ..runtime import ProgressLine, say

INTERRUPTED, BROKEN_PIPE = 130, 141
"""Exit codes after Ctrl-C or SIGTERM, and when nobody reads the output any more, as in shells."""
USAGE = {"SettingsError", "ConformanceError", "ModuleNotFoundError"}
INPUT = {"DataError", "StoreError", "DeviceError", "MethodError", "OSError", "MemoryError"}
"""Names of exceptions for wrong usage, and for bad input: a name needs no import."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; `arguments` default to those of the process."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C
    try:
        options = parser().parse_args(arguments)
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


def parser() -> argparse.ArgumentParser:
    """All commands; the help text of each is the docstring of the function that carries it out."""
    from . import check, models  # a page imports what a command needs when it is called

    data, sizes = "data --split|--split-seed", "--users --items --pairs --id-bytes"
    commands = {
        demo: "--out --seed",
        train: f"{data} --out --recipe --partition --implementation --store --threads"
        " --checkpoint --resume --set --seed",
        models.evaluate: f"model {data} --k --json",
        models.recommend: "model ids -k --memory-budget --json",
        models.similar: "model ids -k --json",
        models.memory: f"model {sizes} --dtype --tables --budget --set --json",
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
        command = add(run.__name__, help=text.partition("\n")[0], description=text, **raw)
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
    """Train both stages on your interactions.

    Stopped? With --checkpoint, the same command and --resume go on to the same bytes.

    example: c2f-ref train ratings.csv --out model.npz --set n_coarse=60 --set n_fine=20
    """
    from .. import SettingsError, method, partition, read_split, runtime, store, training
    from ..model import save_model

    out, data, kept = options.out, options.data, options.checkpoint
    store.require_place(out)
    paths = [data, data / "train.txt", data / "test.txt", options.split]
    paths += [kept / "coarse.npz", kept / "fine.npz"] if kept else []
    if out.resolve() in [path.resolve() for path in paths if path]:
        raise SettingsError(f"--out must be another file: training reads or keeps {out}")
    split = read_split(data, split_file=options.split, seed=options.split_seed)
    recipe = training.RECIPES[options.recipe]
    settings, recipe = training.with_overrides(method.Settings(), recipe, options.set)
    ops = runtime.load_implementation(options.implementation)
    name = ops.__name__.removeprefix("c2f_ref.")
    say(f"{split.describe()}; {name} computes")
    parts = partition.partition if options.partition == "own" else partition.metis_partition
    watch = ProgressLine()
    how: dict[str, Any] = {"ops": ops, "partition": parts, "seed": options.seed, "watch": watch}
    how |= {"checkpoint": kept, "resume": options.resume}
    try:
        with runtime.at_most(options.threads):
            coarse, fine = training.train(split, settings, recipe, **how)
    except KeyboardInterrupt as stop:
        if kept:
            stop.add_note(f"the same command with --resume goes on from {kept}")
        raise
    finally:
        watch.close()
    provenance = {"recipe": options.recipe, "implementation": name, "partition": options.partition}
    provenance |= {"overrides": " ".join(options.set), "seed": str(options.seed)}
    tables = options.store or ("float64" if name == "method" else "float32")
    values = "float32" if tables == "float16" else tables
    chosen = coarse.chosen, fine.chosen if fine else None
    model = training.to_model(split, settings, *chosen, provenance).with_tables(tables, values)
    save_model(out, model)
    print(f"{out}: {model.describe_stored()}")


def demo(options: argparse.Namespace) -> None:
    """Train both stages on planted data and show everything, in under a minute.

    It runs the other commands, and prints each of them as one would type it.

    example: c2f-ref demo --out c2f-demo
    """
    import numpy as np

    from ..interactions import planted, read_interactions, save_split, split_ratio

    out, pairs = options.out, planted(rng=np.random.default_rng(options.seed))
    data, split, model = (out / name for name in ("pairs.csv", "split.npz", "model.npz"))
    out.mkdir(parents=True, exist_ok=True)
    raw = zip(pairs.user_ids[pairs.users], pairs.item_ids[pairs.items], strict=True)
    data.write_text("".join(f"{user},{item}\n" for user, item in [("user", "item"), *raw]))
    pairs = read_interactions(data)  # in the order in which `train` has them
    save_split(split, split_ratio(pairs, valid=0.2, test=0.3, seed=options.seed))
    # The method itself trains: kernels would take longer to compile than all of this.
    how = ["--split", split, "--recipe", "demo", "--implementation", "method"]
    how += [f"--set={setting}" for setting in ("n_coarse=24", "n_fine=12", "dim=32", "n_layers=2")]
    for command in (
        ["train", data, "--out", model, "--seed", options.seed, *how],
        ["evaluate", model, data, "--split", split],
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
TYPES = ["float16", "float32", "float64"]
ARGUMENTS: dict[str, tuple[dict[str, Any], str]] = {
    "data": (FILE, "a folder with train.txt and test.txt, or one file of pairs"),
    "--split": (FILE, "saved validation and test pairs of the data"),
    "--split-seed": (COUNT | {"default": 0}, "draw the split with it (default 0)"),
    "model": (FILE, "a file that `c2f-ref train` wrote"),
    "memory model": (FILE | {"nargs": "?"}, "a model file; or give --users and --items"),
    "demo --out": (FILE | {"default": Path("c2f-demo")}, "folder to write (default c2f-demo)"),
    "--out": (FILE | {"required": True}, "the file to write, or the folder of pictures"),
    "--seed": (COUNT | {"default": 0}, "of every random draw (default 0)"),
    "--set": ({"action": "append", "default": []}, "NAME=VALUE, a field of Settings or Recipe"),
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
    "ids": (WORDS, "raw ids"),
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
