"""The two examples of your own implementation: in PyTorch and in C, where there is a compiler."""

from __future__ import annotations

import ast
import inspect
import re
import shlex
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from conftest import PROJECT

from c2f_ref import method
from c2f_ref.cli import main
from c2f_ref.conformance import check
from c2f_ref.runtime import load_implementation, load_module

IN_PYTORCH = PROJECT / "examples" / "check_your_own.py"
IN_C = PROJECT / "examples" / "check_your_own_c.c"


def test_the_pytorch_example_has_the_contract_with_the_parameters_of_the_method() -> None:
    """Read from its source, without torch; `*tables` are the last parameters of a propagation."""
    body = ast.parse(IN_PYTORCH.read_text(encoding="utf-8")).body
    functions = [node for node in body if isinstance(node, ast.FunctionDef)]
    names = {node.name: [argument.arg for argument in node.args.args] for node in functions}
    shared = {"rank_items", "sample_triples", "score_pairs"}
    assert names.keys() >= set(method.CONTRACT) - shared
    for name in names.keys() & set(method.__all__):
        theirs = list(inspect.signature(getattr(method, name)).parameters)
        is_cut = name.startswith("propagate")
        assert names[name] == (theirs[: len(names[name])] if is_cut else theirs)


@pytest.mark.skipif(find_spec("torch") is None, reason="torch is not installed")
def test_the_pytorch_example_passes_as_the_command_that_it_documents() -> None:
    assert load_implementation(str(IN_PYTORCH)).prepare_fine
    command = [sys.executable, "-W", "error", str(IN_PYTORCH)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"^__main__: (\d+) of \1 operations right: pass$", done.stdout, re.MULTILINE)


@pytest.mark.skipif(find_spec("torch") is None, reason="torch is not installed")
def test_the_softplus_of_torch_itself_is_found(tmp_path: Path) -> None:
    """It is the identity from 20 on, where the exact value is still 2e-9 more."""
    text = IN_PYTORCH.read_text(encoding="utf-8")
    right = "torch.logaddexp(differences, torch.zeros_like(differences))"
    assert text.count(right) == 1
    wrong = text.replace(right, "torch.nn.functional.softplus(differences)")
    (tmp_path / "wrong.py").write_text(wrong, encoding="utf-8")
    stages = ["coarse_loss_and_grad", "fine_loss_and_grad"]
    report = check(load_module(str(tmp_path / "wrong.py")), only=stages)
    assert [each.verdict for each in report.results] == ["fail"] * 2


def documented(program: str) -> list[str]:
    """The words after this program in the head of the C example, lines joined."""
    text = IN_C.read_text(encoding="utf-8").replace("\\\n", "")
    line = re.search(rf"^ +{program} (.*)$", text, flags=re.MULTILINE)
    assert line is not None
    return shlex.split(line[1])


def build(source: Path, folder: Path) -> None:
    """Compile as documented, in `folder`."""
    *words, name = documented("cc")
    assert name == "examples/check_your_own_c.c"
    if shutil.which("cc") is None:
        pytest.skip("there is no C compiler")
    command = ["cc", *words, "-Werror", source]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.fixture(scope="module")
def in_c(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the example, built."""
    folder = tmp_path_factory.mktemp("in_c")
    build(IN_C, folder)
    return folder


def test_the_c_example_passes_as_documented_and_mistakes_in_it_are_found(
    in_c: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two mistakes, one in a pull-back and one in a sign."""
    words, text = documented("c2f-ref"), IN_C.read_text(encoding="utf-8")
    assert words[-3:] == ["propagate_coarse", "propagate_coarse_vjp", "soft_threshold"]
    monkeypatch.chdir(in_c)
    assert main(words) == 0
    mistakes = {"propagate_coarse(1,": "propagate_coarse(0,", "x + threshold :": "x - threshold :"}
    for right, wrong in mistakes.items():
        assert text.count(right) == 1
        text = text.replace(right, wrong)
    (tmp_path / "wrong.c").write_text(text, encoding="utf-8")
    build(tmp_path / "wrong.c", tmp_path)
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    assert main(words) == 1
    failed = re.findall(r"^(\w+) .*: fail$", capsys.readouterr().out, flags=re.MULTILINE)
    assert failed == ["soft_threshold", "propagate_coarse_vjp"]


def test_the_c_example_says_why_it_gives_no_answer(in_c: Path, tmp_path: Path) -> None:
    """An operation that it lacks; then tables that are missing, damaged, or not plain numbers."""
    tables = [None, b"no array", np.asfortranarray(np.eye(2, 3)), np.zeros(3, ">f8"), np.int16([1])]
    reasons = ["cannot open", "not an .npy file of version 1"]
    reasons += ["not a plain array in C order"] * 2 + ["not numbers of 4 or 8 bytes"]
    asked = [("compose", None, 4, "not one of my operations: compose")]
    asked += [("soft_threshold", *each) for each in zip(tables, [1] * 5, reasons, strict=True)]
    for operation, table, code, reason in asked:
        (tmp_path / "operation").write_text(f"{operation}\n", encoding="utf-8")
        if isinstance(table, bytes):
            (tmp_path / "table.npy").write_bytes(table)
        elif table is not None:
            np.save(tmp_path / "table.npy", table)
        command = [in_c / "check_your_own_c", tmp_path, tmp_path]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode, reason in done.stderr) == (code, True), done.stderr
