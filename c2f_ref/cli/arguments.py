"""What several commands take."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

UNITS = {"": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
Commands: TypeAlias = Any
"""What `add_subparsers` returns, which argparse keeps private."""


def add_command(
    commands: Commands, run: Callable[[argparse.Namespace], int | None], name: str, text: str, example: str
) -> argparse.ArgumentParser:
    """The parser of a new command: `run` carries it out and returns an exit code, or None for 0; its help ends with an example."""
    raw, epilog = argparse.RawDescriptionHelpFormatter, f"example: {example}"
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text, epilog=epilog, formatter_class=raw)
    parser.set_defaults(run=run, parser=parser)
    return parser


def at_least(least: int) -> Callable[[str], int]:
    """A whole number that is not below `least`, for argparse, which turns the error into wrong usage."""

    def read(text: str) -> int:
        number = int(text)
        if number < least:
            raise argparse.ArgumentTypeError(f"expected a whole number of at least {least}, got {text}")
        return number

    read.__name__ = "int"  # what argparse calls the value
    return read


def size_in_bytes(text: str) -> int:
    """Bytes, or a whole number of KiB, MiB or GiB, for argparse, which turns the error into wrong usage."""
    parts = re.fullmatch(r"([0-9]+) ?(|KiB|MiB|GiB)", text)
    if not parts:
        raise argparse.ArgumentTypeError(f"expected bytes, or a whole number of KiB, MiB or GiB, got {text!r}")
    return int(parts[1]) * UNITS[parts[2]]


def add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", type=Path, metavar="DATA", help="a folder with train.txt and test.txt, or one file of pairs")
    split = parser.add_mutually_exclusive_group()
    split.add_argument(
        "--split", type=Path, metavar="FILE", help=".npz with validation and test pairs; what it leaves of DATA is training"
    )
    split.add_argument("--split-seed", type=at_least(0), default=0, metavar="N", help="draw the split with this seed (default 0)")
