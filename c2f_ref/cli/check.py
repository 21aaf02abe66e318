"""`conformance`: holds someone's implementation against the method."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from ..conformance import load_module, run
from .arguments import Commands


def add(commands: Commands) -> None:
    """Put the command among the others."""
    conformance = commands.add_parser("conformance", help="hold an implementation against known answers")
    conformance.add_argument("module", metavar="MODULE", help="dotted name of a module with names of c2f_ref.spec")
    conformance.add_argument("--vectors", type=Path, required=True, metavar="DIR")
    conformance.add_argument("--json", action="store_true")
    conformance.set_defaults(run=_conformance)


def _conformance(options: argparse.Namespace) -> int:
    sys.path.insert(0, "")  # a module in the current folder is found, as `python -m` would
    report = run(load_module(options.module), options.vectors)
    print(json.dumps(report.as_dict()) if options.json else "\n".join(report.lines()))
    return 0 if report.passed else 1
