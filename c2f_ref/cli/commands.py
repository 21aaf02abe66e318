"""The command line: `c2f-ref` and `python -m c2f_ref`.

Results go to stdout, progress to stderr. Exit codes: 0 done, 1 a check failed, 2 wrong usage, 3 bad input file, or no room for
what is asked.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence

from ..conformance import CommandError, ModuleLoadError, UnknownOperationError, VectorError
from ..container import BundleError
from ..interactions import DataError
from ..spec import SettingsError, SpecError
from . import check, models, train

BROKEN_PIPE = 141
"""Exit code when nobody reads the output any more, as shells have it."""
COMMANDS = (train, models, check)
"""Modules whose `add` puts commands into the parser, in the order of the help text."""


def run(arguments: Sequence[str] | None) -> int:
    """Run the command that is asked for, and return its exit code."""
    parser = argparse.ArgumentParser(prog="c2f-ref", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for module in COMMANDS:
        module.add(commands)
    options = parser.parse_args(arguments)
    try:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # raw ids may hold what the terminal cannot show
        code = int(options.run(options) or 0)
        if sys.stdout is not None:
            sys.stdout.flush()
        return code
    except BrokenPipeError:  # `c2f-ref ... | head`: whoever read has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter complains when it flushes
        return BROKEN_PIPE
    except (SettingsError, ModuleLoadError, ModuleNotFoundError, CommandError, UnknownOperationError) as error:
        parser.exit(2, f"{parser.prog}: {error}\n")
    except (DataError, BundleError, VectorError, SpecError, OSError) as error:
        parser.exit(3, f"{parser.prog}: {error}\n")
    except MemoryError as error:
        parser.exit(3, f"{parser.prog}: not enough memory for these data and settings: {str(error) or 'nothing is left'}\n")
