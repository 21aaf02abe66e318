"""Asking modules and commands: right ones pass whole, and all that can be wrong is reported."""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy import sparse
from support.implementations import FAST

from c2f_ref import method, partition
from c2f_ref.conformance import ConformanceError, cases, check, check_command, operations, run
from c2f_ref.conformance.cases import flatten
from c2f_ref.conformance.run import OPTIONAL, Report, write_vectors

pytestmark = pytest.mark.usefixtures("one_thread")


def with_(**functions: Any) -> ModuleType:
    """The method with some functions replaced; None takes one away."""
    module = ModuleType("mine")
    names = {name: getattr(method, name) for name in method.__all__} | functions
    vars(module).update({name: value for name, value in names.items() if value is not None})
    return module


def failures(report: Report) -> dict[str, str]:
    return {result.operation: result.failure for result in report.results if result.failure}


def complaint(function: Any, name: str = "compose") -> str:
    """What is wrong with this one function; nothing else may be."""
    report = check(with_(**{name: function}), only=[name])
    assert not report.passed
    assert report.results[0].verdict == "fail"
    return failures(report)[name]


@pytest.mark.parametrize("module", [pytest.param(method, id="method"), FAST])
def test_an_implementation_that_is_right_passes(module: ModuleType) -> None:
    report = check(module)
    assert report.passed, "\n".join(report.lines())
    asked = [name for name in operations() if name not in OPTIONAL]
    assert [result.operation for result in report.results] == asked
    # No answer is right by the width of its bound.
    assert max(result.worst for result in report.results) < 0.5
    n = len(asked)
    assert list(report.lines())[-1] == f"{module.__name__}: {n} of {n} operations right: pass"


def test_partition_and_edge_cut_are_asked_of_those_who_have_them_or_by_name() -> None:
    assert check(partition, only=OPTIONAL).passed
    assert [result.verdict for result in check(method, only=OPTIONAL).results] == ["missing"] * 2
    both = with_(partition=partition.partition, edge_cut=partition.edge_cut, clip=None)
    asked = {result.operation for result in check(both, skip=["start_fine"]).results}
    assert asked == set(operations()) - {"start_fine"}


def test_a_module_in_single_precision_is_held_to_that_precision() -> None:
    def compose(assignment: Any, table: Any) -> Any:
        return assignment.astype(np.float32) @ table.astype(np.float32)

    def refusing(assignment: Any, table: Any) -> Any:
        if table.dtype != np.float32:
            raise ValueError("float32 only")
        return method.compose(assignment, table)

    assert check(SimpleNamespace(compose=compose), only=["compose"]).passed
    assert complaint(lambda *given: compose(*given).astype(np.float64)).startswith("drawn, with")
    assert complaint(refusing)
    names = ["compose", "part_affinity", "fine_steps"]
    report = check(with_(compose=refusing), only=names, dtype="float32")
    assert report.passed
    asked = [(result.operation, result.n_checks) for result in report.results]
    assert asked == [("part_affinity", 4), ("compose", 3)]


def test_results_may_be_sparse_or_lists() -> None:
    forms = {
        "compose": lambda s, e: method.compose(s, e).tolist(),
        "keep_top": lambda v, k: method.keep_top(v, k).toarray(),
        "ego_embed": lambda s, e: sparse.coo_array(method.ego_embed(s, e)),
    }
    assert check(with_(**forms), only=list(forms)).passed


def test_a_wrong_result_is_reported_with_case_place_and_numbers() -> None:
    """Every other form is in test_judge.py."""
    reason = complaint(lambda *given: method.compose(*given) + np.eye(9, 4) / 8)
    assert reason.startswith("eighths, float64: result[0, 0]: expected ")


@pytest.mark.parametrize("kind", [RuntimeError, SystemExit, ValueError, KeyError, AttributeError])
def test_an_exception_is_a_failure_in_one_line(kind: type[BaseException]) -> None:
    error = kind("a\nb")

    def raises(*_: Any) -> Any:
        raise error

    report = check(with_(compose=raises), only=["compose"])
    assert failures(report) == {"compose": f"eighths, float64: {kind.__name__}: {error}"}
    assert not any("\n" in line for line in report.lines())


def test_bad_input_must_be_refused_by_a_value_error() -> None:
    def lenient(labels: Any, n_parts: int) -> Any:
        return method.part_affinity(np.minimum(labels, n_parts - 1), n_parts)

    def other_error(labels: Any, n_parts: int) -> Any:
        return lenient(np.arange(n_parts)[labels], n_parts)

    title = "a label out of range, float64: "
    reason = "expected an error that is a ValueError, got a result"
    assert complaint(lenient, "part_affinity") == title + reason
    assert complaint(other_error, "part_affinity").startswith(f"{title}IndexError: index ")


def test_a_function_that_writes_to_its_input_fails() -> None:
    def in_place(assignment: Any, table: Any) -> Any:
        table *= 2
        return method.compose(assignment, table / 2)

    assert complaint(in_place) == "eighths, float64: the function writes to its input table"


def test_an_earlier_plan_that_leaves_a_trace_is_found() -> None:
    plans: dict[int, Any] = {}

    def stale(*given: Any) -> Any:
        return plans.setdefault(id(given[0]), method.prepare_coarse(*given))

    report = check(with_(prepare_coarse=stale), only=["prepare_coarse", "embed_coarse"])
    assert "prepare_coarse" in failures(report)


def test_what_is_missing_is_listed_and_does_not_pass() -> None:
    """What needs a plan may be there, or is no function itself."""
    some = SimpleNamespace(compose=method.compose, clip=method.clip, embed_fine=method.embed_fine)
    report, n = check(some), len(operations())
    assert not report.passed
    *lines, missing, last = report.lines()
    assert [line.split()[0] for line in lines] == ["compose", "clip"]
    names = missing.removeprefix("missing: ").split(", ")
    needy = {f"{name} (there is no prepare_fine)" for name in ("embed_fine", "fine_steps")}
    needy.add("coarse_steps (there is no prepare_coarse)")
    assert {name for name in names if "(" in name} == needy
    assert last == f"SimpleNamespace: 2 of {n - 2} operations right: {n - 4} missing: fail"


def test_a_name_that_is_missing_where_a_module_looks_it_up_is_missing() -> None:
    module = ModuleType("lazy")
    vars(module)["__getattr__"] = lambda name: getattr(partition, name)
    results = check(module, only=["clip", "edge_cut"]).results
    assert [result.verdict for result in results] == ["pass", "missing"]
    assert "no attribute 'foo'" in complaint(lambda *_: np.foo)


def test_a_report_is_words_and_json() -> None:
    """The first case is wrong beyond all bounds, those that follow are right."""
    first = iter([np.inf])
    wrong = with_(clip=None, compose=lambda *given: method.compose(*given) + next(first, 0.0))
    report = check(wrong, only=["clip", "compose", "bridge"])
    assert len(list(report.lines())) == 5
    written = json.loads(json.dumps(report.as_dict(), allow_nan=False))
    assert (written["module"], written["passed"]) == ("mine", False)
    verdicts = {result["operation"]: result["verdict"] for result in written["results"]}
    assert verdicts == {"compose": "fail", "bridge": "pass", "clip": "missing"}
    assert written["results"][0]["worst"] is None
    assert written["results"][0]["failure"].startswith("eighths, float64: result[")


def test_only_operations_that_exist_can_be_asked_and_asking_none_passes_none() -> None:
    for options in ({"only": ["no_such_name"]}, {"skip": ["clip*"]}):
        with pytest.raises(ConformanceError, match=r"bipartite, .*; got '(no_such_name|clip\*)'"):
            check(method, **options)
    assert not check(method, only=["clip"], skip=["clip"]).passed


# Commands. This one knows two operations, by no name of a function, and uses nothing of the package

PROGRAM = """
import sys
from pathlib import Path
import numpy as np

given, wanted = Path(sys.argv[1]), Path(sys.argv[2])
operation = (given / "operation").read_text().strip()
results = (given / "results").read_text().split()

def read(name):
    return np.load(given / f"{name}.npy")

if operation == "compose":
    shape, table = read("assignment.shape"), read("table")
    answer, starts = np.zeros((shape[0], table.shape[1]), table.dtype), read("assignment.indptr")
    for row, (start, end) in enumerate(zip(starts[:-1], starts[1:])):
        columns = read("assignment.indices")[start:end]
        answer[row] = read("assignment.data")[start:end] @ table[columns]
elif operation == "part_affinity":
    labels, n = read("labels"), int(read("n_parts"))
    if labels.max() >= n:
        print("labels too large", file=sys.stderr)
        sys.exit(CODE)
    answer = np.where(labels[:, None] == np.arange(n), 0.5 if n > 1 else 1.0, 0.5 / max(n - 1, 1))
else:
    sys.exit(4)
SPOIL
np.save(wanted / f"{results[0]}.npy", answer)
"""


def command(folder: Path, spoil: str = "", code: int = 3) -> str:
    program = folder / "own program.py"  # a blank in the name must do no harm
    program.write_text(PROGRAM.replace("SPOIL", spoil).replace("CODE", str(code)))
    return f"{sys.executable} '{program}' {{in}} {{out}}"


def test_a_right_command_passes_what_it_knows(tmp_path: Path) -> None:
    """Also one that prints more than a pipe holds; its code must refuse bad input."""
    chatty = command(tmp_path, "print('x' * 10**6); print('x' * 10**6, file=sys.stderr)")
    report = check_command(chatty, only=["compose", "part_affinity", "clip"])
    results = [(result.operation, result.verdict, result.failure) for result in report.results]
    right = [("part_affinity", "pass", ""), ("compose", "pass", "")]
    assert results == [*right, ("clip", "missing", "there is no clip")]
    assert report.module == chatty
    report = check_command(command(tmp_path, code=1), only=["part_affinity"])
    reason = "a label out of range, float64: the command ends with exit code 1: labels too large"
    assert failures(report) == {"part_affinity": reason}


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        ("answer = answer * 1.01", r"drawn.*result\[\d+, \d\]: expected .*, got .*, allowed"),
        ("answer = answer.T", r"expected shape \(11, 4\), got \(4, 11\)"),
        ("sys.exit(0)", r"wrote no result\.npy"),
        ("(wanted / 'result.npy').write_text('garbage'); sys.exit(0)", "cannot be read: "),
        ("(wanted / 'result.npy').write_bytes(b''); sys.exit(0)", "cannot be read: EOFError"),
        ("np.save(wanted / 'result.npy', np.array([{}])); sys.exit(0)", "read: ValueError"),
        ("raise RuntimeError('out of paper')", "exit code 1: RuntimeError: out of paper"),
        ("sys.exit('out of paper\\n\\n')", "the command ends with exit code 1: out of paper$"),
        ("sys.exit(3)", "exit code 3: it says nothing"),
        ("import os; os.abort()", "exit code -6: it says nothing"),
        ("while True: sys.stderr.write('x' * 99_999)", "exit code (-25|1): "),
        ("CSR = ('data', [1.0]), ('indices', [9]), ('indptr', [0, 1]), ('shape', [1, 1])\n"
         "for name, x in CSR: np.save(wanted / f'result.{name}.npy', x)\nsys.exit(0)", "be read"),
    ],
)  # fmt: skip
def test_everything_that_can_go_wrong_is_reported(
    tmp_path: Path, spoil: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one case, of three groups: a process for each would say the same again."""
    given = [case for case in cases(["part_affinity"]) if case.comparator != "raises"][:1]
    monkeypatch.setattr(run, "cases", lambda *_: given)
    report = check_command(command(tmp_path, spoil), only=["part_affinity"])
    assert re.search(words, failures(report)["part_affinity"], re.DOTALL), failures(report)


def test_a_hang_is_ended_with_everything_that_it_started(tmp_path: Path) -> None:
    mark, began = tmp_path / "still alive", time.monotonic()
    child = f"import time, pathlib; time.sleep(2); pathlib.Path({str(mark)!r}).touch()"
    spoil = f"import subprocess, time; subprocess.Popen([sys.executable, '-c', {child!r}])\n"
    hanging = command(tmp_path, spoil + "time.sleep(60)")
    report = check_command(hanging, only=["part_affinity"], time_limit=1)
    assert failures(report)["part_affinity"].endswith("no result within the time limit of 1 s")
    assert (report.results[0].n_checks, time.monotonic() - began < 30) == (1, True)
    time.sleep(2)
    assert not mark.exists()


def test_a_command_that_cannot_be_run_is_an_error() -> None:
    for words in ("true", "", "cp {in}", "cp {out}", "./no_such {in} {out}", "'x {in} {out}"):
        with pytest.raises(ConformanceError, match="expected a program that exists"):
            check_command(words, only=["clip"])
    with pytest.raises(ConformanceError, match="no_such_name"):
        check_command("true {in} {out}", only=["no_such_name"])


# Vectors: what a command is given, as files


def test_vectors_hold_every_number_of_every_case(tmp_path: Path) -> None:
    folder = tmp_path / "new folder"
    assert write_vectors(folder) == len(list(cases()))
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["format"] == "c2f-ref vectors 2"
    assert "allowed" in (folder / "README.md").read_text(encoding="utf-8")
    for case, entry in zip(cases(), manifest["cases"], strict=True):
        assert [entry[name] for name in case._fields[:4]] == list(case[:4])
        place = folder / entry["folder"]
        assert (place / "in" / "operation").read_text() == f"{case.operation}\n"
        assert (place / "in" / "results").read_text().split() == list(case.expected)
        for part, values in zip(("in", "expected", "allowed"), case[4:], strict=True):
            stored = {path.stem: np.load(path) for path in (place / part).glob("*.npy")}
            given = {name: array for name, array in flatten(values).items() if array is not None}
            assert stored.keys() == given.keys()
            for name, array in stored.items():
                assert (array.dtype, array.shape) == (given[name].dtype, given[name].shape)
                assert array.tobytes() == given[name].tobytes()
