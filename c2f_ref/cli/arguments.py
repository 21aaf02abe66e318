"""What several commands take, and how all of them print."""

from __future__ import annotations

import argparse
import inspect
import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeAlias

UNITS = {"": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
Commands: TypeAlias = Any
"""What `add_subparsers` returns, which argparse keeps private."""


def add_command(
    commands: Commands, name: str, run: Callable[[argparse.Namespace], int | None], example: str, *shared: argparse.ArgumentParser
) -> Callable[..., argparse.Action]:
    """A new command with arguments that it shares with others; what is returned adds those of its own.

    `run` carries it out and returns an exit code, or None for 0. Its docstring is the help text, which ends with an example.
    """
    text, raw = inspect.getdoc(run) or "", argparse.RawDescriptionHelpFormatter
    parser: argparse.ArgumentParser = commands.add_parser(
        name, parents=shared, help=text.partition("\n")[0], description=text, epilog=f"example: {example}", formatter_class=raw
    )
    parser.set_defaults(run=run, parser=parser)
    return parser.add_argument


def print_result(options: argparse.Namespace, told: Any, lines: Iterable[str]) -> None:
    """Print a result on stdout: one JSON object where --json asks for it, otherwise lines."""
    print(json.dumps(told) if options.json else "\n".join(lines))


def checked(kind: Callable[[str], Any], holds: Callable[[Any], bool], expected: str) -> Callable[[str], Any]:
    """A reader of values for argparse, which turns into wrong usage what is not of this kind, or what does not hold."""

    def read(text: str) -> Any:
        value = kind(text)
        if not holds(value):
            raise argparse.ArgumentTypeError(f"expected {expected}, got {text}")
        return value

    read.__name__ = kind.__name__  # what argparse calls the value
    return read


whole_number = checked(int, lambda number: number >= 0, "a whole number of at least 0")
positive_number = checked(int, lambda number: number >= 1, "a whole number of at least 1")
seconds = checked(float, lambda number: 0 < number <= 1e6, "seconds, more than 0 and at most 1e+06")


def size_in_bytes(text: str) -> int:
    """Bytes, or a whole number of KiB, MiB or GiB, for argparse, which turns the error into wrong usage."""
    parts = re.fullmatch(r"([0-9]+) ?(|KiB|MiB|GiB)", text)
    if not parts:
        raise argparse.ArgumentTypeError(f"expected bytes, or a whole number of KiB, MiB or GiB, got {text!r}")
    return int(parts[1]) * UNITS[parts[2]]


def _shared(*names: str, **how: Any) -> argparse.ArgumentParser:
    """A parser of one argument, for the commands that take it."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument(*names, **how)
    return parser


MODEL = _shared("model", type=Path, metavar="MODEL", help="a file that `c2f-ref train` wrote")
DATA = _shared("data", type=Path, metavar="DATA", help="a folder with train.txt and test.txt, or one file of pairs")
SPLIT = DATA.add_mutually_exclusive_group()
SPLIT.add_argument(
    "--split", type=Path, metavar="FILE", help=".npz with validation and test pairs; what it leaves of DATA is training"
)
SPLIT.add_argument("--split-seed", type=whole_number, default=0, metavar="N", help="draw the split with this seed (default 0)")
SET = _shared("--set", action="append", default=[], metavar="NAME=VALUE", help="override a field of Settings or Recipe")
SEED = _shared("--seed", type=whole_number, default=0, metavar="N", help="of every random draw (default 0)")
JSON = _shared("--json", action="store_true", help="print one JSON object")
