"""`demo` and `train`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from .. import spec
from ..bundle import save_model
from ..demo import run_demo
from ..files import require_place
from ..interactions import read_split
from ..progress import ProgressLine
from ..spec import Settings, SettingsError
from ..threads import at_most
from ..training import RECIPES, default_ops, to_model, train, with_overrides
from .arguments import DATA, SEED, SET, Commands, add_command, positive_number

STORED = {"float16": ("float16", "float32"), "float32": ("float32", "float32"), "float64": ("float64", "float64")}
"""Types of both tables and of all other values in a model file."""
PARTITIONERS = {"own": spec.partition, "metis": spec.metis_partition}


def add(commands: Commands) -> None:
    """Put both commands among the others."""
    argument = add_command(commands, "demo", _demo, "c2f-ref demo --out c2f-demo", SEED)
    argument("--out", type=Path, default=Path("c2f-demo"), metavar="DIR", help="folder for model and picture (default %(default)s)")

    example = "c2f-ref train ratings.csv --out model.npz --set n_coarse=60 --set n_fine=20 --checkpoint run"
    argument = add_command(commands, "train", _train, example, DATA, SET, SEED)
    argument("--out", type=Path, required=True, metavar="MODEL", help="the file to write")
    argument("--recipe", choices=sorted(RECIPES), default="laptop", help="how to train (default %(default)s)")
    argument("--partition", choices=PARTITIONERS, default="own", help='"metis" needs the extra of that name')
    argument("--implementation", choices=["fast", "spec"], default="fast", help="compiled, or the specification in float64, slowly")
    store_text = "numbers of MODEL; float16 is for its tables alone (default float32, float64 from spec)"
    argument("--store", choices=STORED, help=store_text)
    argument("--threads", type=positive_number, metavar="N", help="of the compiled loops; changes no result")
    argument("--checkpoint", type=Path, metavar="DIR", help="keep here what is needed to go on after a stop")
    argument("--resume", action="store_true", help="go on from --checkpoint, if anything is there")


def _demo(options: argparse.Namespace) -> None:
    """Train both stages on planted data and show everything, in under a minute."""
    run_demo(options.out, options.seed)


def _train(options: argparse.Namespace) -> None:
    """Train both stages on your interactions.

    Stopped? With --checkpoint, the same command and --resume go on to the same bytes.
    """
    require_place(options.out)
    _require_no_input(options)
    split = read_split(options.data, split_file=options.split, seed=options.split_seed)
    settings, recipe = with_overrides(Settings(), RECIPES[options.recipe], options.set)
    print(split.describe(), file=sys.stderr)
    ops = spec if options.implementation == "spec" else default_ops()
    if ops is spec and options.implementation == "fast":
        print("numba is not installed: the specification trains, slowly and in float64", file=sys.stderr)
    progress = ProgressLine()
    try:
        with at_most(options.threads):
            coarse, fine = train(
                split,
                settings,
                recipe,
                seed=options.seed,
                ops=ops,
                partition=PARTITIONERS[options.partition],
                checkpoint=options.checkpoint,
                resume=options.resume,
                **progress.callbacks(),
            )
    except KeyboardInterrupt as stop:
        if options.checkpoint:
            stop.add_note(f"the same command with --resume goes on from {options.checkpoint}")
        raise
    progress.close()
    provenance = {
        "recipe": options.recipe,
        "implementation": "spec" if ops is spec else "fast",
        "partition": options.partition,
        "overrides": " ".join(options.set),
        "seed": str(options.seed),
    }
    store = options.store or ("float64" if ops is spec else "float32")
    model = to_model(split, settings, coarse.best, fine.best if fine else None, provenance).with_tables(*STORED[store])
    save_model(options.out, model)
    print(f"{options.out}: {model.describe_stored()}")


def _require_no_input(options: argparse.Namespace) -> None:
    """Raise SettingsError where the model would be written over something that training reads or keeps."""
    kept = [options.checkpoint / f"{stage}.npz" for stage in ("coarse", "fine")] if options.checkpoint else []
    for path in filter(None, [options.data, options.data / "train.txt", options.data / "test.txt", options.split, *kept]):
        if options.out.resolve() == path.resolve():
            raise SettingsError(f"--out must be a file of its own, {path} is read or kept by the training itself")
