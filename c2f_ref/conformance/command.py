"""Holding a command against the cases: any program that reads and writes `.npy` files.

For every case it is run once with two folders. The first holds

    operation       the operation's name, one line of text
    results         names of the results, one a line, in order
    <input>.npy     an array; a number is an array without axes
    <input>.data.npy, .indices.npy, .indptr.npy, .shape.npy     a sparse matrix in CSR form
    <input>.<field>.npy     a field of settings, triples or Adam's state; one that is left out is None

and into the second, empty, it writes `<result>.npy`, dense, or the four arrays of a CSR matrix. Names of inputs are those of the
parameters in `c2f_ref.spec`; what takes a plan there gets what the plan is made of. `seed` stands for a generator.

Exit codes: 0 results are written; 3 the input is refused, as bad input must be; 4 the command does not have this operation.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from .cases import CSR_PARTS, Case, assemble
from .report import Report
from .runner import TIME_LIMIT, BrokenError, MissingError, OverdueError, RefusedError, run_cases

REFUSED, MISSING = 3, 4


class CommandError(ValueError):
    """A command that cannot be run: it lacks the folders, or there is no such program."""


def check_command(
    command: str,
    *,
    only: Iterable[str] | None = None,
    skip: Iterable[str] | None = None,
    dtype: str | None = None,
    time_limit: float = TIME_LIMIT,
) -> Report:
    """Hold a command, such as "./impl {in} {out}", against every case; the options are those of `check`.

    Errors: CommandError for a command that is no words, lacks {in} or {out}, or is of no program; UnknownOperationError as in
    `check`.
    """
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise CommandError(f"the command must be words of a shell, got {command!r}: {error}") from error
    for folder in ("{in}", "{out}"):
        if not any(folder in word for word in words):
            raise CommandError(f"the command must say where {folder} goes, got {command!r}")
    if shutil.which(words[0]) is None:
        raise CommandError(f"{words[0]}: there is no such program")
    return run_cases(command, lambda case: _answer(words, case, time_limit), only, skip, dtype)


def write_inputs(folder: Path, case: Case) -> None:
    """Write what a command is given."""
    (folder / "operation").write_text(f"{case.operation}\n", encoding="utf-8")
    (folder / "results").write_text("".join(f"{name}\n" for name in case.expected), encoding="utf-8")
    for name, array in case.given().items():
        np.save(folder / f"{name}.npy", array, allow_pickle=False)


def read_result(folder: Path, name: str) -> Any:
    """A result that a command wrote, dense or sparse.

    Errors: BrokenError for one that is missing or cannot be read.
    """
    is_sparse = (folder / f"{name}.data.npy").exists()
    parts = [f"{name}.{part}" for part in CSR_PARTS] if is_sparse else [name]
    try:
        result = assemble({part: np.load(folder / f"{part}.npy", allow_pickle=False) for part in parts}, "float32")[name]
        if is_sparse:
            result.check_format(full_check=True)
        return result
    except FileNotFoundError as error:
        raise BrokenError(f"the command wrote no {Path(str(error.filename)).name}") from error
    except Exception as error:  # NumPy and SciPy have many types of error for what is no array
        raise BrokenError(f"{name}: cannot be read: {type(error).__name__}: {error}") from error


def _answer(words: Sequence[str], case: Case, time_limit: float) -> list[Any]:
    with tempfile.TemporaryDirectory() as name:
        given, wanted, stderr = (Path(name) / part for part in ("in", "out", "stderr"))
        given.mkdir()
        wanted.mkdir()
        write_inputs(given, case)
        filled = [word.replace("{in}", str(given)).replace("{out}", str(wanted)) for word in words]
        code = _run(filled, stderr, time_limit)
        complaint = (stderr.read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["it says nothing"])[-1]
        if code == MISSING:
            raise MissingError(case.operation)
        if code == REFUSED:
            raise RefusedError(f"the command refuses its input: {complaint}")
        if code != 0:
            raise BrokenError(f"the command ends with exit code {code}: {complaint}")
        return [read_result(wanted, result) for result in case.expected]


def _run(words: Sequence[str], stderr: Path, time_limit: float) -> int:
    """Exit code of the command, which is ended with everything that it started."""
    with stderr.open("wb") as file:
        try:
            process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=file, start_new_session=True
            )
        except OSError as error:
            raise BrokenError(f"{words[0]} cannot be started: {error}") from error
        try:
            return process.wait(time_limit)
        except subprocess.TimeoutExpired as error:
            raise OverdueError(time_limit) from error
        finally:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
