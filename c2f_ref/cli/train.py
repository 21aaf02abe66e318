"""`train` and `demo`: from pairs to a model file."""

from __future__ import annotations

import argparse
import shlex
from typing import Any

from ..progress import ProgressLine, say
from . import parser


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
