"""`plot` and `doctor`: what a model looks like, and what the machine is."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from .. import spec
from ..bundle import Model, load_model
from ..doctor import examine, is_sound
from ..interactions import DataError
from ..plots import plot_bridges, plot_embeddings, plot_sparsity, plot_training
from ..training import Checkpoints, Evaluation, embed_nodes
from .arguments import Commands, add_command

PLOT_EXAMPLE = """\
c2f-ref plot c2f-demo/model.npz --out pictures

writes one .png for each picture that the file can show, and prints a line for each. Training curves are no part of a model
file: they come from the folder that `c2f-ref train --checkpoint DIR` kept.
"""
DOCTOR_EXAMPLE = """\
c2f-ref doctor > machine.txt

Put what it prints into a report of a defect. Exit code 1 says that something that is installed does not work.
"""


def add(commands: Commands) -> None:
    """Put both commands among the others."""
    plot = add_command(commands, "plot", "pictures of a trained model", PLOT_EXAMPLE)
    plot.add_argument("model", type=Path, metavar="MODEL")
    plot.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the pictures; made if there is none")
    plot.add_argument("--checkpoint", type=Path, metavar="DIR", help="the checkpoint folder of its training, for training curves")
    plot.set_defaults(run=_plot)

    text = "versions, threads and compiler of this machine: what a bug report needs"
    doctor = add_command(commands, "doctor", text, DOCTOR_EXAMPLE)
    doctor.add_argument("--json", action="store_true", help="one JSON object")
    doctor.set_defaults(run=_doctor)


def _plot(options: argparse.Namespace) -> int:
    model = load_model(options.model)
    entities, *nodes = embed_nodes(model, ops=spec)
    pictures = {"embeddings": plot_embeddings(entities, model.n_users, *nodes)}
    if model.fine is not None and model.fine_assignment is not None:
        pictures["fine_table"] = plot_sparsity({"fine table, thresholded": model.fine})[0]
        pictures["bridges"] = plot_bridges(model.fine_assignment)
    if options.checkpoint:
        pictures["training"] = plot_training(_told(options.checkpoint, model))
    options.out.mkdir(parents=True, exist_ok=True)
    for name, axes in pictures.items():
        path = options.out / f"{name}.png"
        axes.figure.savefig(path, dpi=150)
        print(path)
    return 0


def _told(folder: Path, model: Model) -> list[Evaluation]:
    """What was evaluated in the training that this folder is of; that of another model is refused."""
    if not folder.is_dir():
        raise DataError(f"--checkpoint must be a folder that training kept, there is none at {folder}")
    run = {"split": model.provenance.get("split"), "settings": asdict(model.settings)}
    states = [Checkpoints(folder, run, resume=True).load(stage) for stage in ("coarse", "fine")]
    if not any(states):
        raise DataError(f"{folder}: expected coarse.npz and fine.npz, found neither")
    return [evaluation for state in states if state for evaluation in state.evaluations]


def _doctor(options: argparse.Namespace) -> int:
    found = examine()
    if options.json:
        print(json.dumps(found))
    else:
        for section, entries in found.items():
            print(f"{section}:" if entries else f"{section}: none")
            for name, value in entries.items():
                print(f"  {name}: {value}")
    return 0 if is_sound(found) else 1
