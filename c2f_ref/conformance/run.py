"""Asks an implementation for the results of the cases: a Python module, or any command.

README.md in this folder says what files a command is given and what it must write.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from functools import partial
from pathlib import Path
from subprocess import DEVNULL, Popen, TimeoutExpired
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from ..method import AdamState, Triples
from .cases import CSR_PARTS, DTYPES, Case, assemble, cases, flatten, operations
from .judge import NoAnswer, judge

OPTIONAL = ("partition", "edge_cut")
"""Operations that are not part of the method, which takes labels from anywhere."""


class ConformanceError(ValueError):
    """What cannot be asked: an unknown operation, or a command that cannot be run."""


Names: TypeAlias = Iterable[str] | None
Answer: TypeAlias = Callable[[Case], Sequence[Any] | NoAnswer]


class Result(NamedTuple):
    """What all cases of an operation say together."""

    operation: str
    verdict: str
    """pass, fail or missing."""
    n_checks: int
    """Cases that were asked."""
    worst: float
    """Largest error as a share of what is allowed."""
    failure: str
    """The first case that fails, and what is wrong."""


class Report(NamedTuple):
    """Results of one implementation, in the reading order of the method."""

    module: str
    """Name of the module, or the command."""
    results: tuple[Result, ...]

    @property
    def passed(self) -> bool:
        """Whether there are results and all of them pass."""
        return bool(self.results) and all(result.verdict == "pass" for result in self.results)

    def lines(self) -> Iterator[str]:
        """A line for each operation, more for what is wrong or missing, and a summary."""
        missing = []
        for name, verdict, n_checks, worst, failure in self.results:
            if verdict == "missing":
                missing.append(name if failure.endswith(f" {name}") else f"{name} ({failure})")
                continue
            yield f"{name:<24} {n_checks:>3} checks, worst {worst:>7.1e} of its bound: {verdict}"
            if failure:
                yield f"  {' '.join(failure.split())}"
        if missing:
            yield f"missing: {', '.join(missing)}"
        n_right = sum(result.verdict == "pass" for result in self.results)
        verdict = f"{len(missing)} missing: fail" if missing else "pass" if self.passed else "fail"
        yield f"{self.module}: {n_right} of {len(self.results)} operations right: {verdict}"

    def as_dict(self) -> dict[str, Any]:
        """Everything, ready to be written as JSON; an infinite share is None."""
        worst = [result.worst if np.isfinite(result.worst) else None for result in self.results]
        results = [r._asdict() | {"worst": w} for r, w in zip(self.results, worst, strict=True)]
        return {"module": self.module, "passed": self.passed, "results": results}


def check(module: Any, *, only: Names = (), skip: Names = (), dtype: str = "") -> Report:
    """Judge a module, or anything that has the functions as attributes.

    `only`, `skip`: names of operations. `dtype`: "float64" or "float32"; both if it is empty.

    Errors: ConformanceError for the name of an operation that does not exist.
    """
    title = getattr(module, "__name__", type(module).__name__)
    return _report(title, partial(ask_module, module), only, skip, dtype)


def check_command(
    command: str, *, only: Names = (), skip: Names = (), dtype: str = "", time_limit: float = 60.0
) -> Report:
    """Judge a command, such as "./impl {in} {out}"; `time_limit` is in seconds for a case.

    Errors: as `check`, and ConformanceError for a command that lacks {in} or {out} or names a
    program that does not exist.
    """
    words: list[str] = []
    with suppress(ValueError):  # a quotation that does not end
        words = shlex.split(command)
    if not (words and shutil.which(words[0]) and "{in}" in command and "{out}" in command):
        raise ConformanceError(f"expected a program that exists, {{in}}, {{out}}; got {command!r}")
    return _report(command, partial(_ask_command, words, time_limit), only, skip, dtype)


def write_vectors(folder: str | os.PathLike[str]) -> int:
    """Write every case to `folder`, the same bytes every time, and return their number.

    `manifest.json` lists the cases. The folder of a case has `in`, just what a command is given,
    `expected` and `allowed`; README.md, written next to the manifest, explains them.

    Errors: OSError if the folder cannot be written.
    """
    manifest = []
    for number, case in enumerate(cases()):
        place = f"{case.operation}/{number:03}"
        write_inputs(Path(folder, place, "in"), case)
        _write(Path(folder, place, "expected"), case.expected)
        _write(Path(folder, place, "allowed"), case.allowed)
        manifest.append({"folder": place} | dict(zip(case._fields[:4], case[:4], strict=True)))
    text = json.dumps({"format": "c2f-ref vectors 2", "cases": manifest}, indent=1)
    Path(folder, "manifest.json").write_text(f"{text}\n", encoding="utf-8")
    shutil.copyfile(Path(__file__).with_name("README.md"), Path(folder, "README.md"))
    return len(manifest)


def _report(name: str, answer: Answer, only: Names, skip: Names, dtype: str) -> Report:
    wanted, unwanted = set(only or operations()), set(skip or ())
    for unknown in (wanted | unwanted).difference(operations()):
        raise ConformanceError(f"expected names of {', '.join(operations())}; got {unknown!r}")
    dtypes = (dtype,) if dtype else DTYPES
    chosen = [each for each in operations(dtypes) if each in wanted - unwanted]
    results = (_result(answer, each, cases([each], dtypes)) for each in chosen)
    optional = () if only else OPTIONAL
    kept = (r for r in results if r.verdict != "missing" or r.operation not in optional)
    return Report(name, tuple(kept))


def _result(answer: Answer, operation: str, asked: Iterable[Case]) -> Result:
    n_checks, worst, first = 0, 0.0, ""
    for case in asked:
        results = answer(case)
        kind = results.kind if isinstance(results, NoAnswer) else ""
        share, reason = judge(case, results)
        if kind == "missing":
            return Result(operation, kind, 0, share, reason)
        n_checks, worst = n_checks + 1, max(worst, share)
        first = first or (reason and f"{case.name}, {case.dtype}: {reason}")
        if kind == "overdue":
            break
    return Result(operation, "fail" if first else "pass", n_checks, worst, first)


def ask_module(module: Any, case: Case) -> Sequence[Any] | NoAnswer:
    """Results of a module for a case, or why there are none."""
    before = deepcopy(case.inputs)
    try:
        results = call(module, case)
    except (Exception, SystemExit) as error:  # whatever someone's module raises
        name = error.name if isinstance(error, AttributeError) else None
        if name in operations() and not hasattr(module, name):
            return NoAnswer("missing", f"there is no {name}")
        kind = "refused" if isinstance(error, ValueError) else "broken"
        return NoAnswer(kind, f"{type(error).__name__}: {error}")
    after = flatten(case.inputs)
    for name, array in flatten(before).items():
        if array is not None and array.tobytes() != np.asarray(after[name]).tobytes():
            return NoAnswer("broken", f"the function writes to its input {name}")
    return results


def _ask_command(words: Sequence[str], time_limit: float, case: Case) -> list[Any] | NoAnswer:
    with tempfile.TemporaryDirectory() as name:
        given, wanted = Path(name, "in"), Path(name, "out")
        write_inputs(given, case)
        wanted.mkdir()
        filled = [word.replace("{in}", str(given)).replace("{out}", str(wanted)) for word in words]
        code, complaint = _run(filled, Path(name, "stderr"), time_limit)
        if code is None:
            return NoAnswer("overdue", f"no result within the time limit of {time_limit:g} s")
        if code:
            kind = {3: "refused", 4: "missing"}.get(code, "broken")
            reason = f"the command ends with exit code {code}: {complaint}"
            return NoAnswer(kind, f"there is no {case.operation}" if code == 4 else reason)
        try:
            return [_read(wanted, key) for key in case.expected]
        except FileNotFoundError as error:
            return NoAnswer("broken", f"the command wrote no {Path(error.filename).name}")
        except Exception as error:  # NumPy and SciPy have many types for what is no array
            return NoAnswer("broken", f"results cannot be read: {type(error).__name__}: {error}")


def _run(words: Sequence[str], stderr: Path, time_limit: float) -> tuple[int | None, str]:
    """Exit code, None if it takes too long, and the last line of stderr.

    The command is ended with everything that it started. It may write without end: stdout is
    dropped, and the shell limits the size of every file.
    """
    # Blocks of 512 bytes, or of a KiB in some shells.
    limited = ["sh", "-c", 'ulimit -f 524288; exec "$@"', "sh", *words]
    with stderr.open("w+b") as file:
        process = Popen(limited, stdin=DEVNULL, stdout=DEVNULL, stderr=file, start_new_session=True)
        with suppress(TimeoutExpired):
            process.wait(time_limit)
        code = process.poll()
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        file.seek(max(file.seek(0, os.SEEK_END) - 10_000, 0))  # the last lines are enough
        lines = file.read().decode(errors="replace").strip().splitlines()
    return code, lines[-1] if lines else "it says nothing"


def write_inputs(folder: Path, case: Case) -> None:
    """Write what a command is given for a case."""
    _write(folder, case.inputs)
    Path(folder, "operation").write_text(f"{case.operation}\n", encoding="utf-8")
    Path(folder, "results").write_text("".join(f"{name}\n" for name in case.expected), "utf-8")


def _write(folder: Path, values: Mapping[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in flatten(values).items():
        if array is not None:
            np.save(folder / f"{name}.npy", array)


def _read(folder: Path, name: str) -> Any:
    is_sparse = (folder / f"{name}.data.npy").exists()
    parts = [f"{name}.{part}" for part in CSR_PARTS] if is_sparse else [name]
    arrays = {part: np.load(folder / f"{part}.npy", allow_pickle=False) for part in parts}
    result = assemble(arrays, "float32")[name]
    if is_sparse:
        result.check_format(full_check=True)
    return result


# How an operation is called: with the inputs of a case in order, unless these functions say
# otherwise. What takes a plan is given what the plan is made of: the names of PLAN.

PLAN = ("norm_adjacency", "coarse_assignment", "fine_assignment", "n_users", "settings")
TABLES = ("coarse", "fine")
TERMS = ("coarse", "fine", "coarse_assignment", "fine_assignment", "bias", "ids", "graph")


def call(ops: Any, case: Case) -> tuple[Any, ...]:
    """Results of the operation, one after the other, whatever tuples they came in."""
    has_plan = "norm_adjacency" in case.inputs and "settings" in case.inputs
    result = (_with_plan if has_plan else _plain)(ops, case.operation, dict(case.inputs))
    if isinstance(result, Mapping):
        return tuple(result[name] for name in case.expected)
    return tuple(_flat(result))


def _flat(result: Any) -> list[Any]:
    return [x for part in result for x in _flat(part)] if isinstance(result, tuple) else [result]


def _plain(ops: Any, operation: str, given: dict[str, Any]) -> Any:
    keywords: dict[str, Any] = {}
    if "seed" in given:
        seed, is_pca = given.pop("seed"), operation == "sparse_pca_scores"
        keywords = {"random_state": seed} if is_pca else {"rng": np.random.default_rng(seed)}
    if operation == "stored_bytes_bound":
        keywords = {"n_pairs": given.pop("n_pairs")}
    if operation == "mean_metrics":
        given["ks"] = given["ks"].tolist()
    if operation == "total_bytes":
        given["terms"] = dict(zip(TERMS, given["terms"].tolist(), strict=True))
    if operation == "rank_by":
        given["scores"] = lambda users, scores=given["scores"]: scores[users].copy()
    return getattr(ops, operation)(*given.values(), **keywords)


def _with_plan(ops: Any, operation: str, given: dict[str, Any]) -> Any:
    stage = "fine" if "fine" in given else "coarse"
    if operation == f"{stage}_steps":
        return _steps(ops, stage, given)
    function, tables = getattr(ops, operation), _named(TABLES, given)
    if operation == f"prepare_{stage}":
        # An earlier plan, of another assignment, is made and used first: it must leave no trace.
        earlier = given | {f"{stage}_assignment": given.pop("earlier_assignment")}
        function = getattr(ops, f"embed_{stage}")
        function(_plan(ops, stage, earlier), *tables)
    return function(_plan(ops, stage, given), *tables, *_named(("bias", "triples"), given))


def _plan(ops: Any, stage: str, given: Mapping[str, Any]) -> Any:
    return getattr(ops, f"prepare_{stage}")(*_named(PLAN, given))


def _named(names: Sequence[str], given: Mapping[str, Any]) -> list[Any]:
    return [given[name] for name in names if name in given]


def _steps(ops: Any, stage: str, given: dict[str, Any]) -> Any:
    """Training steps of a stage: (losses, the table it trains, bias, the assignment it refreshes).

    The assignment is refreshed at one step, whose gradient remains the one of the old assignment.
    E_c is frozen in the fine stage (D7).

    Shapes: batches (T, B, 3) -> T losses; (C, D) or (F, D), (N,), (N, C) or (C, F).
    Source: equations (20), (21), (23) and (24).
    """
    settings, losses, plan = given["settings"], [], _plan(ops, stage, given)
    per_row = settings.coarse_per_entity if stage == "coarse" else settings.fine_per_coarse
    zeros = {name: np.zeros_like(given[name]) for name in (stage, "bias")}
    states = {name: AdamState(table, table, 0) for name, table in zeros.items()}
    for step, batch in enumerate(given["batches"]):
        tables, triples = _named(TABLES, given), Triples(*np.ascontiguousarray(batch.T))
        loss, *grads = getattr(ops, f"{stage}_loss_and_grad")(plan, *tables, given["bias"], triples)
        losses.append(loss)
        if step == given["refresh_at"]:
            embeddings = getattr(ops, f"embed_{stage}")(plan, *tables)
            refresh = getattr(ops, f"refresh_{stage}")
            given[f"{stage}_assignment"] = refresh(*embeddings, per_row, settings.pinv_rtol)
            plan = _plan(ops, stage, given)
        for name, grad in zip((stage, "bias"), grads[-2:], strict=True):
            arguments = given[name], grad, states[name], given["lr"], settings
            given[name], states[name] = ops.adam_step(*arguments)
    return losses, given[stage], given["bias"], given[f"{stage}_assignment"]
