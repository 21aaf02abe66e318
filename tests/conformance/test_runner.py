"""The check of a module: right ones pass whole, and everything that can be wrong with one is told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from scipy import sparse
from support.implementations import fast

from c2f_ref import spec
from c2f_ref.conformance import Report, UnknownOperationError, check, operations

PROJECT = Path(__file__).resolve().parents[2]


def module_with(**functions: Any) -> ModuleType:
    """The specification with some functions replaced; None takes one away."""
    module = ModuleType("mine")
    names = {name: getattr(spec, name) for name in spec.__all__} | functions
    vars(module).update({name: function for name, function in names.items() if function is not None})
    return module


def only_failure(report: Report) -> tuple[str, str, str]:
    """(operation, verdict, failure in words) of the one operation that failed."""
    (result,) = (result for result in report.results if result.failure is not None)
    assert not report.passed
    return result.operation, result.verdict, str(result.failure)


def told(function: Any, name: str = "compose", **options: Any) -> str:
    """What a check of this one function says."""
    operation, verdict, words = only_failure(check(module_with(**{name: function}), only=[name], **options))
    assert (operation, verdict) == (name, "fail")
    return words


def test_the_specification_passes_whole() -> None:
    report = check(spec)
    assert report.passed, "\n".join(report.lines())
    assert tuple(result.operation for result in report.results) == operations()
    # No answer is right by the width of its bound.
    assert max(result.worst for result in report.results) < 0.5
    assert (
        list(report.lines())[-1] == f"c2f_ref.spec: {len(operations())} of {len(operations())} operations right, frozen cases: pass"
    )


@pytest.mark.numba
def test_the_compiled_implementation_passes_whole() -> None:
    report = check(fast)
    assert report.passed, "\n".join(report.lines())
    assert len(report.results) == len(operations())


@pytest.mark.numba
def test_the_compiled_implementation_passes_whole_with_the_compiler_off() -> None:
    command = [sys.executable, "-m", "c2f_ref", "conformance", "c2f_ref.fast"]
    done = subprocess.run(command, cwd=PROJECT, env=os.environ | {"NUMBA_DISABLE_JIT": "1"}, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1].endswith(": pass")


def test_a_right_module_in_single_precision_passes_what_it_has() -> None:
    """Whatever it is given it computes in float32: its results are held to that precision."""

    def soft_threshold(table: Any, threshold: float) -> Any:
        table = table.astype(np.float32)
        return np.sign(table) * np.maximum(np.abs(table) - np.float32(threshold), np.float32(0))

    def compose(assignment: Any, table: Any) -> Any:
        return assignment.astype(np.float32) @ table.astype(np.float32)

    module = SimpleNamespace(compose=compose, soft_threshold=soft_threshold)
    assert check(module, only=["compose", "soft_threshold"]).passed


def test_single_precision_that_is_handed_out_as_double_fails() -> None:
    def compose(assignment: Any, table: Any) -> Any:
        return (assignment.astype(np.float32) @ table.astype(np.float32)).astype(np.float64)

    assert told(compose).startswith("drawn, with empty rows, float64: result[")


def test_results_may_be_sparse_or_lists() -> None:
    assert check(module_with(compose=lambda s, e: sparse.coo_array(spec.compose(s, e))), only=["compose"]).passed
    assert check(module_with(compose=lambda s, e: spec.compose(s, e).tolist()), only=["compose"]).passed
    assert check(module_with(keep_top=lambda v, k: spec.keep_top(v, k).toarray()), only=["keep_top"]).passed


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda e: e.T, "expected shape (9, 4), got (4, 9)"),
        (lambda e: e.astype(complex), "expected dtype float32 or float64, got complex128"),
        (lambda e: None, "expected dtype float32 or float64, got object"),
        (lambda e: "text", "got <U4"),
        (lambda e: (e, e), "expected 1 results (result), got 2"),
        (lambda e: np.full_like(e, np.nan), "got nan"),
    ],
)
def test_results_of_another_form_are_told(wrong: Any, words: str) -> None:
    assert words in told(lambda *given: wrong(spec.compose(*given)))


def test_a_wrong_entry_is_told_with_case_place_numbers_and_bound() -> None:
    def slightly_wrong(assignment: Any, table: Any) -> Any:
        composed = spec.compose(assignment, table)
        composed[2, 3] += 1 / 8
        return composed

    report = check(module_with(compose=slightly_wrong), only=["compose"])
    (result,) = report.results
    failure = result.failure
    assert failure is not None
    assert (failure.case, failure.key, failure.index) == ("eighths, float64", "result", (2, 3))
    assert failure.got == failure.expected + 1 / 8  # type: ignore[operator]
    assert failure.allowed == 0
    assert str(failure).startswith("eighths, float64: result[2, 3]: expected ")


@pytest.mark.parametrize(
    "error", [RuntimeError("out of paper"), SystemExit(0), ValueError("no"), KeyError("x"), MemoryError("full")]
)
def test_an_exception_is_a_failure_and_no_crash(error: BaseException) -> None:
    def raises(*_: Any) -> Any:
        raise error

    assert told(raises) == f"eighths, float64: {type(error).__name__}: {error}"


def test_input_that_must_be_refused_and_is_not_is_told() -> None:
    words = told(lambda grad, limit: None, name="clip")
    assert "expected dtype" in words
    trusting = module_with(scatter_scores=lambda s, p, dim: np.zeros((len(s), dim)))
    assert not check(trusting, only=["scatter_scores"]).passed

    def lenient(labels: Any, n_parts: int) -> Any:
        return spec.part_affinity(np.minimum(labels, n_parts - 1), n_parts)

    assert told(lenient, "part_affinity") == "a label out of range, float64: expected an error that is a ValueError, got a result"


def test_an_error_of_another_kind_does_not_refuse_bad_input() -> None:
    def part_affinity(labels: Any, n_parts: int) -> Any:
        if labels.max() >= n_parts:
            raise IndexError("a label too many")
        return spec.part_affinity(labels, n_parts)

    assert told(part_affinity, "part_affinity") == "a label out of range, float64: IndexError: a label too many"


def test_a_missing_function_is_a_failure_of_its_own() -> None:
    report = check(module_with(bpr_loss=None), only=["bpr_loss", "ego_penalty"])
    assert only_failure(report) == ("bpr_loss", "missing", "there is no bpr_loss")
    assert list(report.lines())[1:] == ["missing: bpr_loss", "mine: 1 of 2 operations right, 1 missing, frozen cases: fail"]


def test_what_needs_a_missing_function_is_missing_too() -> None:
    report = check(module_with(prepare_fine=None), only=["embed_fine", "fine_loss_and_grad", "embed_coarse"])
    assert [(result.operation, result.verdict) for result in report.results] == [
        ("embed_coarse", "pass"),
        ("embed_fine", "missing"),
        ("fine_loss_and_grad", "missing"),
    ]
    assert {str(result.failure) for result in report.results if result.failure} == {"there is no prepare_fine"}
    told = list(report.lines())[1]
    assert told == "missing: embed_fine (there is no prepare_fine), fine_loss_and_grad (there is no prepare_fine)"


def test_a_module_of_two_functions_gets_a_line_for_each_and_one_for_all_that_it_lacks() -> None:
    report = check(SimpleNamespace(clip=spec.clip, compose=spec.compose))
    *own, missing, last = report.lines()
    assert [line.split()[0] for line in own] == ["compose", "clip"]
    lacking = [name for name in operations() if name not in ("clip", "compose")]
    told = missing.removeprefix("missing: ").split(", ")
    assert [name.partition(" (")[0] for name in told] == lacking
    assert [name for name in told if " (" in name] == [
        "coarse_steps (there is no prepare_coarse)",
        "fine_steps (there is no prepare_fine)",
    ]
    assert last == f"SimpleNamespace: 2 of {len(operations())} operations right, {len(lacking)} missing, frozen cases: fail"
    assert len(report.as_dict()["results"]) == len(operations())


def test_a_function_that_writes_to_its_input_fails() -> None:
    def in_place(assignment: Any, table: Any) -> Any:
        composed = spec.compose(assignment, table)
        table *= 2
        return composed

    assert told(in_place) == "eighths, float64: the function writes to its input table"


def test_a_hang_is_told_after_the_time_limit_and_the_rest_goes_on() -> None:
    def forever(*_: Any) -> Any:
        while True:
            time.sleep(0.01)

    began = time.monotonic()
    report = check(module_with(compose=forever), only=["compose", "compose_vjp"], time_limit=0.5)
    assert only_failure(report) == ("compose", "fail", "eighths, float64: no result within the time limit of 0.5 s")
    assert report.results[1].verdict == "pass"
    assert time.monotonic() - began < 30


def test_code_that_never_yields_ends_the_process_and_names_its_place(tmp_path: Path) -> None:
    """A regular expression that backtracks for ages holds the interpreter as compiled loops do."""
    (tmp_path / "stuck.py").write_text("import re\n\ndef clip(grad, limit):\n    re.match('(a*)*b', 'a' * 60)\n")
    command = [sys.executable, "-m", "c2f_ref", "conformance", str(tmp_path / "stuck.py"), "--only", "clip", "--time-limit", "0.5"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "Timeout" in done.stderr
    assert 'stuck.py", line 4 in clip' in done.stderr


def test_a_crash_of_compiled_code_names_its_place(tmp_path: Path) -> None:
    (tmp_path / "crashing.py").write_text("import ctypes\n\ndef clip(grad, limit):\n    ctypes.string_at(0)\n")
    command = [sys.executable, "-m", "c2f_ref", "conformance", str(tmp_path / "crashing.py"), "--only", "clip"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=60)
    assert done.returncode not in (0, 2, 3)
    assert "Fatal Python error" in done.stderr
    assert 'crashing.py", line 4 in clip' in done.stderr


def test_operations_are_chosen_by_name_or_pattern() -> None:
    chosen = [result.operation for result in check(spec, only=["bridge*", "clip"], skip=["*_vjp"]).results]
    assert chosen == ["bridge", "clip"]
    for options in ({"only": ["no_such_name"]}, {"skip": ["no_such_*"]}):
        with pytest.raises(UnknownOperationError, match="no_such_"):
            check(spec, **options)


def test_a_module_of_one_precision_is_held_to_that_alone() -> None:
    def compose(assignment: Any, table: Any) -> Any:
        if table.dtype != np.float32:
            raise ValueError("float32 only")
        return spec.compose(assignment, table)

    assert not check(module_with(compose=compose), only=["compose"]).passed
    report = check(module_with(compose=compose), only=["compose", "part_affinity", "fine_steps"], dtype="float32")
    assert report.passed
    assert [(result.operation, result.n_checks) for result in report.results] == [("part_affinity", 4), ("compose", 3)]


def test_nothing_checked_is_nothing_passed() -> None:
    assert not check(spec, only=["clip"], skip=["clip"]).passed


def test_a_report_is_words_json_and_junit() -> None:
    report = check(module_with(clip=None, compose=lambda s, e: 2 * spec.compose(s, e)), only=["clip", "compose", "bridge"])
    assert len(list(report.lines())) == 4
    written = json.loads(json.dumps(report.as_dict(), allow_nan=False))
    assert {result["operation"]: result["verdict"] for result in written["results"]} == {
        "compose": "fail",
        "bridge": "pass",
        "clip": "missing",
    }
    suite = ElementTree.fromstring(report.as_junit())
    assert (suite.get("name"), suite.get("tests"), suite.get("failures")) == ("mine", "3", "2")
    failures = {test.get("name"): [part.get("message") for part in test] for test in suite}
    assert failures["bridge"] == []
    assert failures["clip"] == ["there is no clip"]
    assert failures["compose"][0].startswith("eighths, float64: result[")  # type: ignore[union-attr]


def test_whatever_an_exception_says_takes_one_line_and_can_be_read_as_xml() -> None:
    """Colours of a terminal, a character that UTF-8 does not have, and lines."""

    def clip(*_: Any) -> Any:
        raise RuntimeError("\x1b[31mout of\npaper\x1b[0m \udc80 \N{PILE OF POO}")

    report = check(module_with(clip=clip), only=["clip"])
    first, _ = report.lines()
    assert "out of paper" in first
    assert "\n" not in first
    (failure,) = ElementTree.fromstring(report.as_junit().encode()).iter("failure")
    assert str(failure.get("message")).endswith("RuntimeError: ?[31mout of\npaper?[0m ? \N{PILE OF POO}")
