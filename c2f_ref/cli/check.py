"""`conformance`, `vectors`, `doctor`: judge an implementation, hand out the known answers, say what machine this is."""

from __future__ import annotations

import argparse
import faulthandler
import json
import sys
from pathlib import Path

from ..conformance import CommandError, Report, UnknownOperationError, check, check_command, load_module, run, write_vectors
from ..conformance.cases import DTYPES
from ..conformance.runner import TIME_LIMIT
from ..doctor import examine, is_sound
from ..files import replacing
from .arguments import Commands, add_command

LONGEST = 1e6
"""Seconds that a case may be given at most."""
DOCTOR_EXAMPLE = """\
c2f-ref doctor > machine.txt

Put what it prints into a report of a defect. Exit code 1 says that something that is installed does not work.
"""


def add(commands: Commands) -> None:
    """Put the commands among the others."""
    text, example = "hold an implementation against the method", "c2f-ref conformance mine.py --only propagate_coarse"
    conformance = add_command(commands, _conformance, "conformance", text, example)
    conformance.add_argument("module", nargs="?", metavar="MODULE", help="dotted name or .py file, with names of c2f_ref.spec")
    conformance.add_argument(
        "--command", metavar="'./impl {in} {out}'", help="a program of any kind, see c2f_ref/conformance/command.py"
    )
    conformance.add_argument("--only", nargs="+", metavar="NAME", help='operations by name or pattern, such as "*_vjp"')
    conformance.add_argument("--skip", nargs="+", metavar="NAME", help="operations to leave out")
    conformance.add_argument("--dtype", choices=DTYPES, help="only what is given in this precision (default: both)")
    conformance.add_argument(
        "--time-limit", type=_seconds, default=TIME_LIMIT, metavar="S", help="seconds for a case (default %(default)g)"
    )
    conformance.add_argument(
        "--vectors", type=Path, metavar="DIR", help="numbers recorded from the official code, instead of the cases"
    )
    conformance.add_argument("--json", action="store_true")
    conformance.add_argument("--junit", type=Path, metavar="FILE", help="write a report for continuous integration")

    text = "write the cases as files: a manifest and .npy arrays"
    vectors = add_command(commands, _vectors, "vectors", text, "c2f-ref vectors answers")
    vectors.add_argument("folder", type=Path, metavar="DIR")

    text = "versions, threads and compiler of this machine: what a bug report needs"
    doctor = add_command(commands, _doctor, "doctor", text, DOCTOR_EXAMPLE)
    doctor.add_argument("--json", action="store_true", help="one JSON object")


def _seconds(text: str) -> float:
    """A time that can be waited for, for argparse, which turns the error into wrong usage."""
    seconds = float(text)
    if not 0 < seconds <= LONGEST:
        raise argparse.ArgumentTypeError(f"expected seconds, more than 0 and at most {LONGEST:g}, got {text}")
    return seconds


def _conformance(options: argparse.Namespace) -> int:
    try:
        report = _report(options)
    except (CommandError, UnknownOperationError) as error:
        options.parser.error(str(error))
    if options.junit:
        with replacing(options.junit) as file:
            file.write(report.as_junit().encode())
    print(json.dumps(report.as_dict()) if options.json else "\n".join(report.lines()))
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
    if options.vectors:
        return run(module, options.vectors)
    faulthandler.enable(sys.__stderr__ or 2)  # a crash of compiled code names the place that called it
    return check(module, **chosen, time_limit=options.time_limit, exits_when_stuck=True)


def _vectors(options: argparse.Namespace) -> None:
    print(f"{options.folder}: {write_vectors(options.folder)} cases")


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
