"""How many files and named functions of c2f_ref a command passes: `python tests/count_path.py`.

Counts `train` on 60 planted users with `--implementation method`, and `conformance` of a copy of
the method outside the package, both run in this process under `sys.setprofile`. A file counts when
a named function in it is called. Left out are lambdas, comprehensions, bodies of modules and
classes, methods with dunder names, and what dataclasses generate. Exit code 1 where a command
passes more than `LIMITS` allows.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import shutil
import sys
import tempfile
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

import c2f_ref
from c2f_ref import cli, planted

PACKAGE = Path(c2f_ref.__file__).parent
LIMITS = {"train": (16, 110), "conformance": (7, None)}
"""Files and functions that a command may pass."""
SMALL = ["n_coarse=24", "n_fine=12", "dim=16", "both.max_epochs=5"]
SMALL += ["both.max_fixed_epochs=1", "both.draws_per_epoch=2000"]
"""Settings with which both phases of both stages and a refresh of each assignment take place."""


def passed(arguments: list[str]) -> dict[str, set[str]]:
    """Names of the functions of c2f_ref that a command calls, by file."""
    functions: dict[str, set[str]] = {}

    def note(frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(str(PACKAGE)):
            file = str(Path(code.co_filename).relative_to(PACKAGE))
            name = code.co_name
            is_body = "__qualname__" in code.co_names and "__module__" in code.co_names
            if not (name.startswith(("<", "__")) or is_body):
                functions.setdefault(file, set()).add(code.co_qualname)

    error = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(error):
        threading.setprofile(note)
        sys.setprofile(note)
        code = cli.main(arguments)
        sys.setprofile(None)
    if code != 0:
        raise SystemExit(f"{' '.join(arguments)}: exit code {code}\n{error.getvalue()}")
    return functions


def commands(folder: Path, implementation: str) -> dict[str, list[str]]:
    """The two commands, with their inputs in `folder`."""
    pairs = planted(n_users=60, n_items=60, pairs_per_user=12, rng=np.random.default_rng(0))
    lines = (f"u{u},i{i}\n" for u, i in zip(pairs.users, pairs.items, strict=True))
    (folder / "pairs.csv").write_text("user,item\n" + "".join(lines))
    shutil.copytree(PACKAGE / implementation, folder / "mine")
    sys.path.insert(0, str(folder))
    overrides = [word for setting in SMALL for word in ("--set", setting)]
    train = [str(folder / "pairs.csv"), "--out", str(folder / "model.npz"), *overrides]
    return {
        "train": ["train", *train, "--implementation", implementation],
        "conformance": ["conformance", "mine"],
    }


def main() -> int:
    """Print every file and function, and say whether they are within the limits."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--implementation", default="method", help="a module of c2f_ref")
    options = parser.parse_args()
    excess = False
    with tempfile.TemporaryDirectory() as folder:
        for name, arguments in commands(Path(folder), options.implementation).items():
            functions = passed(arguments)
            for file, names in sorted(functions.items()):
                print(f"{name}: {file} {len(names)}: {', '.join(sorted(names))}")
            n_files, n_functions = len(functions), sum(map(len, functions.values()))
            most_files, most_functions = LIMITS[name]
            most = f"at most {most_files} files, {most_functions or 'any number of'} functions"
            print(f"{name}: {n_files} files, {n_functions} functions; {most}")
            excess |= n_files > most_files or n_functions > (most_functions or n_functions)
    return int(excess)


if __name__ == "__main__":
    sys.exit(main())
