"""The run of a module over a folder of known answers, and what it tells."""

from __future__ import annotations

import importlib
import importlib.util
import math
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path
from types import ModuleType
from typing import Any

from .checks import Failure
from .official import MISSING, operations
from .vectors import VectorError, read_vectors


class ModuleLoadError(ImportError):
    """The module to be tested cannot be imported: the message names it and says why."""


@dataclass(frozen=True)
class Result:
    """What all files together say about one operation."""

    operation: str
    """Name of the function."""
    n_checks: int
    """Arrays compared."""
    worst: float
    """Largest error, as a share of its tolerance."""
    failure: Failure | None
    """The first, in order of files."""

    @property
    def verdict(self) -> str:
        """'pass', 'fail', or 'missing' for a function that the module does not have."""
        if self.failure is None:
            return "pass"
        return "missing" if self.failure.reason == MISSING else "fail"


@dataclass(frozen=True)
class Report:
    """Results of one module, operation by operation."""

    module: str
    """Name of the module."""
    n_files: int
    """Files of known answers that were read."""
    results: tuple[Result, ...]
    """In order of `official.OPERATIONS`."""

    @property
    def passed(self) -> bool:
        """Whether every operation passed; a missing one did not."""
        return all(result.failure is None for result in self.results)

    def lines(self) -> Iterator[str]:
        """One line for each operation, and a last one that sums up."""
        for result in self.results:
            line = f"{result.operation:<22} {result.n_checks:>3} checks, worst {result.worst:>7.1e} of tolerance: {result.verdict}"
            yield line if result.failure is None else f"{line}: {result.failure}"
        n_passed = sum(result.failure is None for result in self.results)
        n_right = f"{n_passed} of {len(self.results)} operations right, {self.n_files} files of known answers"
        yield f"{self.module}: {n_right}: {'pass' if self.passed else 'fail'}"

    def as_dict(self) -> dict[str, Any]:
        """Everything, ready to be written as JSON; a number that JSON does not have is its name in words."""
        results = [{"verdict": result.verdict, **asdict(result)} for result in self.results]
        report = {"module": self.module, "passed": self.passed, "n_files": self.n_files, "results": results}
        return dict(_as_json(report))


def run(module: ModuleType, folder: str | PathLike[str]) -> Report:
    """Hold `module` against every .npz file in `folder`.

    Errors: VectorError when there is none, or for the first that cannot be used.
    """
    paths = sorted(Path(folder).glob("*.npz"))
    if not paths:
        raise VectorError(f"{folder}: no .npz file in this folder")
    results: dict[str, Result] = {}
    for vectors in [read_vectors(path) for path in paths]:
        for check in operations(module, vectors):
            worst, failure = check.judge()
            so_far = results.get(check.operation, Result(check.operation, 0, 0.0, None))
            n_checks = so_far.n_checks + (check.expected is not None)
            results[check.operation] = Result(check.operation, n_checks, max(so_far.worst, worst), so_far.failure or failure)
    return Report(module.__name__, len(paths), tuple(results.values()))


def load_module(name: str) -> ModuleType:
    """Import the module to be tested: a dotted name, or the path of a .py file.

    Errors: ModuleLoadError, whatever the import raises.
    """
    try:
        return _load_file(Path(name)) if name.endswith(".py") else importlib.import_module(name)
    except (Exception, SystemExit) as error:
        raise ModuleLoadError(f"{name}: cannot be imported: {type(error).__name__}: {error}") from error


def _load_file(path: Path) -> ModuleType:
    # Under a name of its own, so that a file can be called as it likes: numpy.py too.
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
    return module


def _as_json(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _as_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_as_json(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
