"""Holding a Python module against the cases."""

from __future__ import annotations

import faulthandler
import fnmatch
import importlib
import importlib.util
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, wait
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from .calls import call
from .cases import DTYPES, Case, cases, operations
from .comparators import judge
from .report import MISSING, Failure, Report, Result

TIME_LIMIT = 60.0
"""Seconds that a case may take: the specification needs less than 0.1, a compiler at its first call may need ten."""
Answer = Callable[[Case], Sequence[Any]]


class ModuleLoadError(ImportError):
    """The module to be tested cannot be imported: the message names it and says why."""


class UnknownOperationError(ValueError):
    """No operation has the name that is asked for."""


class MissingError(LookupError):
    """The implementation does not have the operation; the message is the name that it lacks."""


class BrokenError(Exception):
    """There is no answer, for the reason in the message."""


class RefusedError(BrokenError, ValueError):
    """A command refuses what it is given, as a function does by a ValueError."""


class OverdueError(BrokenError):
    """There is no answer in time."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"no result within the time limit of {seconds:g} s")


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
    name = getattr(module, "__name__", type(module).__name__)
    return run_cases(name, answers_of(module, time_limit, exits_when_stuck), only, skip, dtype)


def run_cases(name: str, answer: Answer, only: Iterable[str] | None, skip: Iterable[str] | None, dtype: str | None) -> Report:
    """The report on whoever gives these answers."""
    dtypes = (dtype,) if dtype else DTYPES
    chosen = _chosen(only, skip, dtypes)
    return Report(name, "frozen cases", tuple(result_of(answer, operation, cases([operation], dtypes)) for operation in chosen))


def result_of(answer: Answer, operation: str, asked: Iterable[Case]) -> Result:
    """What these cases of the operation say together."""
    outcomes: list[tuple[float, Failure | None]] = []
    for case in asked:
        try:
            outcomes.append(judge(case, answer(case)))
        except MissingError as error:
            return Result(operation, 0, np.inf, Failure("", "", f"{MISSING} {error}"))
        except (Exception, SystemExit) as error:  # whatever someone's module raises
            reason = str(error) if isinstance(error, BrokenError) else f"{type(error).__name__}: {error}"
            is_right = case.comparator == "raises" and isinstance(error, ValueError)
            outcomes.append((0.0, None) if is_right else (np.inf, Failure(case.title, "", reason)))
            if isinstance(error, OverdueError):
                break
    worst = max((share for share, _ in outcomes), default=0.0)
    return Result(operation, len(outcomes), worst, next((failure for _, failure in outcomes if failure), None))


def answers_of(module: ModuleType | Any, time_limit: float, exits_when_stuck: bool) -> Answer:
    """Who answers for a module; the options are those of `check`."""

    def answer(case: Case) -> Sequence[Any]:
        before = {name: array.copy() for name, array in case.given().items()}
        results = _within(time_limit, lambda: call(_Names(module), case), exits_when_stuck)
        for name, array in case.given().items():
            if not np.array_equal(before[name], array, equal_nan=array.dtype.kind == "f"):
                raise BrokenError(f"the function writes to its input {name}")
        return results

    return answer


class _Names:
    """The names of a module; one that it lacks is a MissingError."""

    def __init__(self, module: ModuleType | Any) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Any:
        if not hasattr(self._module, name):
            raise MissingError(name)
        return getattr(self._module, name)


def _chosen(only: Iterable[str] | None, skip: Iterable[str] | None, dtypes: Sequence[str]) -> list[str]:
    """Operations that some pattern of `only` fits, and none of `skip`."""
    chosen = set[str]().union(*map(_fitting, only or ["*"])).difference(*map(_fitting, skip or []))
    return [name for name in operations(dtypes) if name in chosen]


def _fitting(pattern: str) -> list[str]:
    names = fnmatch.filter(operations(), pattern)
    if not names:
        raise UnknownOperationError(f"{pattern!r} fits no operation; there are {', '.join(operations())}")
    return names


def _within(seconds: float, work: Callable[[], Sequence[Any]], exits_when_stuck: bool) -> Sequence[Any]:
    """What `work` returns or raises, in a thread that is left to itself when it takes longer."""
    outcome: Future[Sequence[Any]] = Future()

    def run() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:
            outcome.set_exception(error)

    if exits_when_stuck:
        faulthandler.dump_traceback_later(2 * seconds, exit=True, file=sys.__stderr__ or 2)
    threading.Thread(target=run, daemon=True).start()
    is_done = bool(wait([outcome], seconds).done)
    faulthandler.cancel_dump_traceback_later()
    if not is_done:
        raise OverdueError(seconds)
    return outcome.result()


def load_module(name: str) -> ModuleType:
    """Import the module to be tested: a dotted name, or the path of a .py file.

    Errors: ModuleLoadError, whatever the import raises.
    """
    try:
        return _load_file(Path(name)) if name.endswith(".py") else importlib.import_module(name)
    except (Exception, SystemExit) as error:
        raise ModuleLoadError(f"{name}: cannot be imported: {type(error).__name__}: {error}") from error


def _load_file(path: Path) -> ModuleType:
    # Under a name of its own while it loads: numpy.py does no harm.
    spec = importlib.util.spec_from_file_location(f"c2f_ref_conformance_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ImportError("not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look for their module there
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[spec.name]
        raise
    module.__name__ = path.stem
    return module
