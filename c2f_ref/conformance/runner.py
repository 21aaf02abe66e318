"""Holding a Python module against the cases."""

from __future__ import annotations

import faulthandler
import importlib
import importlib.util
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from .calls import call, needs
from .cases import DTYPES, Case, cases, flatten, operations
from .comparators import judge
from .report import MISSING, Failure, Report, Result

TIME_LIMIT = 60.0
"""Seconds that a case may take: the specification needs less than 0.1, a compiler at its first call may need ten."""
FILE_PREFIX = "c2f_ref_conformance_"
"""Before the name of a module that is loaded from a file: numpy.py does no harm."""
Answer = Callable[[Case], Sequence[Any]]


class ModuleLoadError(ImportError):
    """The module to be tested cannot be imported: the message names it and says why."""


class UnknownOperationError(ValueError):
    """No operation has the name that is asked for."""


class MissingError(LookupError):
    """The implementation does not have the operation; the message is the name that it lacks."""


class RefusedError(Exception):
    """The implementation refuses what it is given."""


class BrokenError(Exception):
    """There is no answer, for the reason in the message."""


def check(
    module: ModuleType | Any,
    *,
    only: Iterable[str] | None = None,
    skip: Iterable[str] | None = None,
    dtype: str | None = None,
    time_limit: float = TIME_LIMIT,
    exits_when_stuck: bool = False,
) -> Report:
    """Hold `module` against every case: a module, or anything that has the functions as attributes.

    `only`, `skip`: names or patterns such as "*_vjp". `dtype`: "float64" or "float32", for the cases of that precision alone.
    `time_limit`: seconds for a case; after one that takes longer, the rest of its operation is left out, and the call stays
    behind in a thread of its own. Compiled code that never gives Python a turn cannot be left: with `exits_when_stuck` it ends
    this process after twice the time, with exit code 1 and its place on stderr.

    Errors: UnknownOperationError for a name or pattern that fits no operation.
    """

    def answer(case: Case) -> tuple[Any, ...]:
        for name in needs(case.operation):
            if not hasattr(module, name):
                raise MissingError(name)
        before = {name: array.copy() for name, array in flatten(case.inputs).items() if array is not None}
        try:
            results: tuple[Any, ...] = _within(time_limit, lambda: call(module, case.operation, case.inputs), exits_when_stuck)
        except ValueError as error:
            raise RefusedError(f"{type(error).__name__}: {error}") from error
        for name, array in flatten(case.inputs).items():
            if array is not None and not np.array_equal(before[name], array, equal_nan=array.dtype.kind == "f"):
                raise BrokenError(f"the function writes to its input {name}")
        return results

    name = getattr(module, "__name__", type(module).__name__)
    return run_cases(name.removeprefix(FILE_PREFIX), answer, only, skip, dtype)


def run_cases(name: str, answer: Answer, only: Iterable[str] | None, skip: Iterable[str] | None, dtype: str | None) -> Report:
    """The report on whoever gives these answers."""
    dtypes = (dtype,) if dtype else DTYPES
    return Report(name, "frozen cases", tuple(_operation(answer, name, dtypes) for name in _chosen(only, skip, dtypes)))


def _operation(answer: Answer, operation: str, dtypes: Sequence[str]) -> Result:
    result = Result(operation)
    for case in cases([operation], dtypes):
        name = f"{case.name}, {case.dtype}"
        try:
            results = answer(case)
        except MissingError as error:
            return Result(operation, 0, np.inf, Failure("", "", f"{MISSING} {error}"))
        except RefusedError as error:
            is_right = case.comparator == "raises"
            worst, failure = (0.0, None) if is_right else (np.inf, Failure(name, "", str(error)))
        except TimeoutError as error:
            return result.with_check(np.inf, Failure(name, "", str(error)))
        except (Exception, SystemExit) as error:  # whatever someone's module raises
            reason = str(error) if isinstance(error, BrokenError) else f"{type(error).__name__}: {error}"
            worst, failure = np.inf, Failure(name, "", reason)
        else:
            if case.comparator == "raises":
                worst, failure = np.inf, Failure(name, "", "expected an error that is a ValueError, got a result")
            else:
                worst, failure = judge(case, results)
        result = result.with_check(worst, failure)
    return result


def _chosen(only: Iterable[str] | None, skip: Iterable[str] | None, dtypes: Sequence[str]) -> list[str]:
    """Operations that some pattern of `only` fits, and none of `skip`."""
    only, skip = list(only or ["*"]), list(skip or [])
    for pattern in (*only, *skip):
        if not any(fnmatchcase(name, pattern) for name in operations()):
            raise UnknownOperationError(f"{pattern!r} fits no operation; there are {', '.join(operations())}")
    return [name for name in operations(dtypes) if _fits(name, only) and not _fits(name, skip)]


def _fits(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _within(seconds: float, work: Callable[[], Any], exits_when_stuck: bool) -> Any:
    """What `work` returns or raises, in a thread that is left to itself when it takes longer."""
    outcome: dict[str, Any] = {}

    def run() -> None:
        try:
            outcome["result"] = work()
        except BaseException as error:
            outcome["error"] = error

    thread = threading.Thread(target=run, daemon=True)
    if exits_when_stuck:
        faulthandler.dump_traceback_later(2 * seconds, exit=True, file=sys.__stderr__ or 2)
    thread.start()
    thread.join(seconds)
    faulthandler.cancel_dump_traceback_later()
    if "error" in outcome:
        raise outcome["error"]
    if "result" not in outcome:
        raise TimeoutError(f"no result within the time limit of {seconds:g} s")
    return outcome["result"]


def load_module(name: str) -> ModuleType:
    """Import the module to be tested: a dotted name, or the path of a .py file.

    Errors: ModuleLoadError, whatever the import raises.
    """
    try:
        return _load_file(Path(name)) if name.endswith(".py") else importlib.import_module(name)
    except (Exception, SystemExit) as error:
        raise ModuleLoadError(f"{name}: cannot be imported: {type(error).__name__}: {error}") from error


def _load_file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"{FILE_PREFIX}{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ImportError("not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look for their module there
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[spec.name]
        raise
    return module
