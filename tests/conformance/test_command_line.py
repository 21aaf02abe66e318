"""`c2f-ref conformance` and `c2f-ref vectors`: options, output and exit codes."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from c2f_ref.cli import main

WRONG_CLIP = "from c2f_ref.spec import *\n\ndef clip(grad, limit):\n    return 1.01 * grad\n"


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """(exit code, stdout, stderr)."""
    try:
        code = main([str(argument) for argument in arguments])
    except SystemExit as error:
        code = int(error.code or 0)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_a_right_module_gets_a_line_for_each_operation_and_0(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "conformance", "c2f_ref.spec", "--only", "clip", "bridge*", "--skip", "bridge_vjp")
    assert (code, err) == (0, "")
    assert [line.split()[0] for line in out.splitlines()] == ["bridge", "clip", "c2f_ref.spec:"]
    assert all(line.endswith(": pass") for line in out.splitlines())


def test_one_precision_alone_can_be_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "conformance", "c2f_ref.spec", "--only", "clip", "--dtype", "float32")
    assert code == 0
    assert out.splitlines()[0].startswith("clip                       3 checks, ")


def test_a_wrong_module_gets_1_and_says_so_in_json_and_junit(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(WRONG_CLIP)
    junit = tmp_path / "report.xml"
    code, out, _ = run(capsys, "conformance", tmp_path / "mine.py", "--only", "clip", "compose", "--json", "--junit", junit)
    assert code == 1
    report = json.loads(out)
    assert report["passed"] is False
    (failed,) = (result for result in report["results"] if result["verdict"] == "fail")
    assert failed["operation"] == "clip"
    assert set(failed["failure"]) == {"case", "key", "reason", "index", "expected", "got", "allowed"}
    assert ElementTree.parse(junit).getroot().get("failures") == "1"


def test_a_time_limit_holds_for_recorded_answers_too(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, official_vectors: Path
) -> None:
    """One file, and a module that has nothing but a function that hangs."""
    shutil.copy(official_vectors / "dev_01.npz", tmp_path)
    (tmp_path / "mine.py").write_text("import time\n\ndef bpr_loss(*scores):\n    time.sleep(3)\n")
    code, out, _ = run(capsys, "conformance", tmp_path / "mine.py", "--vectors", tmp_path, "--time-limit", "0.5")
    assert code == 1
    (line,) = (line for line in out.splitlines() if line.startswith("bpr_loss "))
    assert line.endswith("bound: fail: dev_01.npz, float64: no result within the time limit of 0.5 s")


def test_a_command_is_held_alike(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text("import sys\nsys.exit(4)\n")
    command = f"{sys.executable} {program} {{in}} {{out}}"
    code, out, _ = run(capsys, "conformance", "--command", command, "--only", "clip")
    assert code == 1
    assert out.splitlines()[0] == "missing: clip"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "give either a MODULE or a --command"),
        (["c2f_ref.spec", "--command", "x {in} {out}"], "give either a MODULE or a --command"),
        (["c2f_ref.spec", "--only", "no_such_name"], "'no_such_name' fits no operation; there are bipartite, "),
        (["c2f_ref.spec", "--vectors", ".", "--only", "clip"], "--vectors takes a MODULE, and all of it"),
        (["--command", "true"], "must say where {in} goes"),
        (["--command", "./no_such_program {in} {out}"], "there is no such program"),
        (["no_such_module"], "no_such_module: cannot be imported"),
    ],
)
def test_wrong_usage_is_2(capsys: pytest.CaptureFixture[str], arguments: list[str], words: str) -> None:
    code, out, err = run(capsys, "conformance", *arguments)
    assert (code, out) == (2, "")
    assert words in err


def test_vectors_are_written_and_counted(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out, err = run(capsys, "vectors", tmp_path / "answers")
    n_cases = len(json.loads((tmp_path / "answers" / "manifest.json").read_text())["cases"])
    assert (code, out, err) == (0, f"{tmp_path / 'answers'}: {n_cases} cases\n", "")


def test_a_folder_that_cannot_be_written_is_3(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, out, err = run(capsys, "vectors", tmp_path / "file")
    assert (code, out) == (3, "")
    assert "file" in err
