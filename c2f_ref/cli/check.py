"""`conformance`, `vectors`, `doctor`: judge an implementation, hand out the known answers, say what machine this is."""

from __future__ import annotations

import argparse
import faulthandler
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..conformance import Report, check, check_command, load_module, run, write_vectors
from ..conformance.cases import DTYPES
from ..conformance.runner import TIME_LIMIT
from ..doctor import examine, is_sound
from ..files import replacing
from .arguments import JSON, Commands, add_command, print_result, seconds


def add(commands: Commands) -> None:
    """Put the commands among the others."""
    example = "c2f-ref conformance mine.py --only propagate_coarse"
    argument = add_command(commands, "conformance", _conformance, example, JSON)
    argument("module", nargs="?", metavar="MODULE", help="dotted name or .py file, with names of c2f_ref.spec")
    argument("--command", metavar="'./impl {in} {out}'", help="a program of any kind, see c2f_ref/conformance/command.py")
    argument("--only", nargs="+", metavar="NAME", help='operations by name or pattern, such as "*_vjp"')
    argument("--skip", nargs="+", metavar="NAME", help="operations to leave out")
    argument("--dtype", choices=DTYPES, help="only what is given in this precision (default: both)")
    argument("--time-limit", type=seconds, default=TIME_LIMIT, metavar="S", help="seconds for a case (default %(default)g)")
    argument("--vectors", type=Path, metavar="DIR", help="numbers recorded from the official code, instead of the cases")
    argument("--junit", type=Path, metavar="FILE", help="write a report for continuous integration")

    argument = add_command(commands, "vectors", _vectors, "c2f-ref vectors answers")
    argument("folder", type=Path, metavar="DIR", help="made if there is none")

    add_command(commands, "doctor", _doctor, "c2f-ref doctor > machine.txt", JSON)


def _conformance(options: argparse.Namespace) -> int:
    """Hold an implementation against the method."""
    report = _report(options)
    if options.junit:
        with replacing(options.junit) as file:
            file.write(report.as_junit().encode())
    print_result(options, report.as_dict(), report.lines())
    return 0 if report.passed else 1


def _report(options: argparse.Namespace) -> Report:
    chosen = {"only": options.only, "skip": options.skip, "dtype": options.dtype}
    if (options.module is None) == (options.command is None):
        options.parser.error("give either a MODULE or a --command")
    if options.vectors and (options.command or any(chosen.values())):
        options.parser.error("--vectors takes a MODULE, and all of it")
    if options.command is not None:
        return check_command(options.command, **chosen, time_limit=options.time_limit)
    sys.path.insert(0, "")  # a module in the current folder is found, as `python -m` would
    module = load_module(options.module)
    faulthandler.enable(sys.__stderr__ or 2)  # a crash of compiled code names the place that called it
    limits = {"time_limit": options.time_limit, "exits_when_stuck": True}
    return run(module, options.vectors, **limits) if options.vectors else check(module, **chosen, **limits)


def _vectors(options: argparse.Namespace) -> None:
    """Write the cases as files: a manifest and .npy arrays."""
    print(f"{options.folder}: {write_vectors(options.folder)} cases")


def _doctor(options: argparse.Namespace) -> int:
    """Versions, processor, threads and compiler of this machine: what a bug report needs.

    Put what it prints into a report of a defect. Exit code 1 says that something that is installed does not work.
    """
    found = examine()
    print_result(options, found, _doctor_lines(found))
    return 0 if is_sound(found) else 1


def _doctor_lines(found: dict[str, Any]) -> Iterator[str]:
    for section, entries in found.items():
        yield f"{section}:" if entries else f"{section}: none"
        yield from (f"  {name}: {value}" for name, value in entries.items())
