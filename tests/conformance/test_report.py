"""The run over a folder, its report, and the loading of the module under test."""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from c2f_ref import spec
from c2f_ref.conformance import ModuleLoadError, Report, VectorError, load_module, run
from c2f_ref.conformance.runner import TIME_LIMIT


@pytest.fixture(scope="module")
def one(official_vectors: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of one file."""
    folder = tmp_path_factory.mktemp("one")
    shutil.copy(official_vectors / "dev_01.npz", folder)
    return folder


def run_with(folder: Path, time_limit: float = TIME_LIMIT, **functions: Any) -> Report:
    """The report on the specification with some functions replaced; None takes one away."""
    module = ModuleType("mine")
    names = {name: getattr(spec, name) for name in spec.__all__} | functions
    vars(module).update({name: function for name, function in names.items() if function is not None})
    return run(module, folder, time_limit=time_limit)


def only_failure(report: Report) -> tuple[str, str, str]:
    """(operation, verdict, failure in words) of the one operation that failed."""
    (result,) = (result for result in report.results if result.failure is not None)
    assert not report.passed
    return result.operation, result.verdict, str(result.failure)


def test_a_right_module_passes_in_words_and_as_json(one: Path) -> None:
    report = run(spec, one)
    lines = list(report.lines())
    assert report.passed
    assert len(lines) == len(report.results) + 1
    assert all(line.endswith(": pass") for line in lines)
    assert lines[-1] == "c2f_ref.spec: 26 of 26 operations right, 1 files of known answers: pass"
    assert lines[1].startswith("normalise                  1 checks, worst ")
    written = json.loads(json.dumps(report.as_dict(), allow_nan=False))
    assert (written["module"], written["passed"], written["source"]) == ("c2f_ref.spec", True, "1 files of known answers")
    assert {result["verdict"] for result in written["results"]} == {"pass"}


def test_a_wrong_entry_is_told_with_its_place(one: Path) -> None:
    """Entry (2, 3) of a table of the first stage is made 1 % too large: the report must say so, and nothing else."""

    def slightly_wrong(assignment: Any, coarse: Any) -> Any:
        ego = spec.ego_embed(assignment, coarse)
        ego[2, 3] *= 1.01
        return ego

    report = run_with(one, ego_embed=slightly_wrong)
    operation, verdict, words = only_failure(report)
    assert (operation, verdict) == ("ego_embed", "fail")
    assert words.startswith("dev_01.npz, float64: coarse.ego[2, 3]: expected ")
    assert next(line for line in report.lines() if words in line).startswith("ego_embed ")
    (written,) = (result for result in report.as_dict()["results"] if result["verdict"] == "fail")
    assert written["failure"]["index"] == [2, 3]
    assert written["failure"]["got"] == pytest.approx(1.01 * written["failure"]["expected"])
    assert list(report.lines())[-1] == "mine: 25 of 26 operations right, 1 files of known answers: fail"


def test_a_missing_function_is_a_failure_of_its_own(one: Path) -> None:
    report = run_with(one, bpr_loss=None)
    assert only_failure(report) == ("bpr_loss", "missing", "there is no bpr_loss")
    assert ("bpr_loss", 0) in {(result.operation, result.n_checks) for result in report.results}


def test_a_missing_plan_fails_what_needs_it(one: Path) -> None:
    report = run_with(one, prepare_fine=None)
    failures = {result.operation: str(result.failure) for result in report.results if result.failure}
    assert failures == dict.fromkeys(["embed_fine", "fine_loss_and_grad", "fine_steps"], "there is no prepare_fine")


@pytest.mark.parametrize("error", [RuntimeError("out of paper"), SystemExit(0), spec.SpecError("no"), MemoryError("full")])
def test_an_exception_is_a_failure_and_no_crash(one: Path, error: BaseException) -> None:
    def raises(*_: Any) -> Any:
        raise error

    expected = ("ego_penalty", "fail", f"dev_01.npz, float64: {type(error).__name__}: {error}")
    assert only_failure(run_with(one, ego_penalty=raises)) == expected


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda ego: ego.T, "expected shape (43, 12), got (12, 43)"),
        (lambda ego: np.where(ego == ego[0, 0], np.nan, ego), "got nan"),
        (lambda ego: None, "expected dtype float32 or float64, got object"),
        (lambda ego: ego.astype(np.float32), "allowed 9.0e-11"),
    ],
)
def test_results_of_another_kind_fail(one: Path, wrong: Any, words: str) -> None:
    report = run_with(one, ego_embed=lambda *given: wrong(spec.ego_embed(*given)))
    operation, _, told = only_failure(report)
    assert operation == "ego_embed"
    assert words in told
    json.dumps(report.as_dict(), allow_nan=False)


def test_a_function_that_writes_to_its_input_fails(one: Path) -> None:
    def in_place(assignment: Any, coarse: Any) -> Any:
        coarse *= 1.0
        return spec.ego_embed(assignment, coarse)

    assert "read-only" in only_failure(run_with(one, ego_embed=in_place))[2]


def test_the_first_failure_is_kept_and_the_worst_error_counted(official_vectors: Path) -> None:
    calls = iter(range(20))  # two stages in each of ten files

    def ever_worse(*given: Any) -> Any:
        return spec.bpr_loss(*given) * (1 + 1e-8 * next(calls))

    (result,) = (result for result in run_with(official_vectors, bpr_loss=ever_worse).results if result.failure)
    assert result.n_checks == 20
    assert (result.failure.case, result.failure.key) == ("dev_00.npz, float64", "fine.bpr")
    assert result.worst == pytest.approx(19e-8 / 1e-10, rel=1e-3)


def test_a_folder_without_files_is_an_error_and_so_is_a_bad_file(one: Path, tmp_path: Path) -> None:
    with pytest.raises(VectorError, match=r"no \.npz file in this folder"):
        run(spec, tmp_path)
    with pytest.raises(VectorError, match=r"no \.npz file in this folder"):
        run(spec, tmp_path / "absent")
    shutil.copy(one / "dev_01.npz", tmp_path)
    (tmp_path / "broken.npz").write_bytes(b"broken")
    with pytest.raises(VectorError, match=r"broken\.npz"):
        run(spec, tmp_path)


@pytest.mark.parametrize("key", ["eval.test.user", "interactions.item", "triples", "fine_init.positions"])
def test_a_file_of_indices_that_are_out_of_range_is_a_bad_file(official_vectors: Path, tmp_path: Path, key: str) -> None:
    stored = dict(np.load(official_vectors / "dev_06.npz"))
    np.savez(tmp_path / "outside.npz", **(stored | {key: stored[key] + 99}))
    with pytest.raises(VectorError, match=r"outside\.npz: "):
        run(spec, tmp_path)


def test_an_entry_at_a_fine_node_of_the_coarse_graph_is_a_bad_file(official_vectors: Path, tmp_path: Path) -> None:
    """Of 71 entities, 10 coarse and 5 fine nodes the last is 85: no implementation has it in this stage, so none is asked."""
    stored = dict(np.load(official_vectors / "dev_06.npz"))
    for part, value in (("row", 85), ("col", 3), ("val", 0.5)):
        key = f"coarse.expanded_graph.{part}"
        stored[key] = np.append(stored[key], np.array([value], dtype=stored[key].dtype))
    np.savez(tmp_path / "joined.npz", **stored)
    with pytest.raises(VectorError, match=r"joined\.npz: coarse\.expanded_graph: must join nothing to fine nodes, got 1 entries"):
        run(spec, tmp_path)


def test_a_hang_is_told(one: Path) -> None:
    report = run_with(one, 0.5, bpr_loss=lambda *_: time.sleep(5))
    assert only_failure(report) == ("bpr_loss", "fail", "dev_01.npz, float64: no result within the time limit of 0.5 s")


def test_a_module_is_loaded_by_name_or_by_path(tmp_path: Path, one: Path) -> None:
    assert load_module("c2f_ref.spec") is spec
    path = tmp_path / "numpy.py"  # a name that is taken does no harm
    path.write_text("from __future__ import annotations\nfrom c2f_ref.spec import *\nimport dataclasses\n"
                    "@dataclasses.dataclass\nclass Plan:\n    n_users: int\n")  # fmt: skip
    module = load_module(str(path))
    report = run(module, one)
    assert (report.module, report.passed) == ("numpy", True)
    assert sys.modules["numpy"] is np


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("def f(:\n", "SyntaxError"),
        ("raise KeyError('x')\n", "KeyError"),
        ("import no_such_module_here\n", "ModuleNotFoundError"),
        ("import sys\nsys.exit(0)\n", "SystemExit"),
    ],
)
def test_a_module_that_does_not_load_is_one_kind_of_error(tmp_path: Path, source: str, words: str) -> None:
    path, before = tmp_path / "mine.py", set(sys.modules)
    path.write_text(source)
    with pytest.raises(ModuleLoadError, match=words) as caught:
        load_module(str(path))
    assert str(path) in str(caught.value)
    assert "c2f_ref_conformance_mine" not in set(sys.modules) - before


@pytest.mark.parametrize("name", ["", "no_such_module_here", "c2f_ref.no_such_page", "absent.py", ".relative"])
def test_a_module_that_is_not_there_is_the_same_error(name: str) -> None:
    with pytest.raises(ModuleLoadError, match="cannot be imported"):
        load_module(name)
