"""The two examples of an implementation of one's own: in PyTorch, where it is installed, and in C, where there is a compiler."""

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
from types import ModuleType

import numpy as np
import pytest
from conftest import PROJECT

from c2f_ref import spec
from c2f_ref.cli import main
from c2f_ref.conformance import check, load_module

IN_PYTORCH = PROJECT / "examples" / "check_your_own.py"
IN_C = PROJECT / "examples" / "check_your_own_c.c"
STAGES = {
    *("prepare_coarse", "embed_coarse", "coarse_loss_and_grad", "refresh_coarse"),
    *("prepare_fine", "embed_fine", "fine_loss_and_grad", "refresh_fine"),
}


@pytest.mark.parametrize("path", [IN_PYTORCH, IN_C], ids=["PyTorch", "C"])
def test_an_example_has_fewer_than_200_lines(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) < 200


def test_the_pytorch_example_has_both_stages_with_the_parameters_of_the_specification() -> None:
    """Read from its source, so that this holds without torch; `*tables` stands for the last parameters of a propagation."""
    functions = [node for node in ast.parse(IN_PYTORCH.read_text(encoding="utf-8")).body if isinstance(node, ast.FunctionDef)]
    names = {node.name: [argument.arg for argument in node.args.args] for node in functions if node.name in spec.__all__}
    assert names.keys() >= STAGES
    for name, own in names.items():
        theirs = list(inspect.signature(getattr(spec, name)).parameters)
        assert own == (theirs[: len(own)] if name.startswith("propagate") else theirs)


@pytest.fixture(scope="module")
def pytorch() -> ModuleType:
    if find_spec("torch") is None:
        pytest.skip("torch is not installed")
    return load_module(str(IN_PYTORCH))


def test_the_pytorch_example_passes_the_oracle_as_the_command_that_it_documents() -> None:
    pytest.importorskip("torch")
    done = subprocess.run([sys.executable, "-W", "error", IN_PYTORCH], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert {line.split()[0] for line in lines} >= STAGES
    assert re.fullmatch(r"__main__: (\d+) of \1 operations right, frozen cases: pass", lines[-1])


def test_the_pytorch_example_takes_and_gives_arrays_and_refuses_an_item_out_of_range(pytorch: ModuleType) -> None:
    rng = np.random.default_rng(0)
    settings = spec.Settings(n_coarse=4, n_fine=0, dim=6, n_layers=2)
    users, items = rng.integers(5, size=20), rng.integers(7, size=20)
    adjacency = spec.normalise(spec.bipartite(users, items, 5, 7))
    assignment = spec.start_coarse_assignment(rng.integers(4, size=12), settings, rng=rng)
    coarse, bias = spec.start_coarse(12, settings, rng=rng)
    triples = spec.Triples(users, items, rng.integers(7, size=20))
    results = [
        ops.coarse_loss_and_grad(ops.prepare_coarse(adjacency, assignment, 5, settings), coarse, bias, triples)
        for ops in (pytorch, spec)
    ]
    for got, expected in zip(*results, strict=True):
        assert type(got) is type(expected)
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-14)
    plan = pytorch.prepare_coarse(adjacency, assignment, 5, settings)
    with pytest.raises(ValueError, match=r"negatives must be in \[0, 7\)"):
        pytorch.coarse_loss_and_grad(plan, coarse, bias, triples._replace(negatives=triples.negatives + 7))


def test_the_softplus_of_torch_itself_is_found(pytorch: ModuleType, tmp_path: Path) -> None:
    """It is the identity from 20 on, where the exact value is still 2e-9 more."""
    text, was = IN_PYTORCH.read_text(encoding="utf-8"), "torch.logaddexp(differences, torch.zeros_like(differences))"
    assert text.count(was) == 1
    (tmp_path / "wrong.py").write_text(text.replace(was, "torch.nn.functional.softplus(differences)"), encoding="utf-8")
    for module, verdict in ((pytorch, "pass"), (load_module(str(tmp_path / "wrong.py")), "fail")):
        report = check(module, only=["coarse_loss_and_grad", "fine_loss_and_grad"])
        assert [result.verdict for result in report.results] == [verdict] * 2


def build(source: Path, folder: Path) -> None:
    """Compile by the line in the head of the example, in `folder`."""
    line = re.search(r"^ +(cc .*)$", IN_C.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert line is not None
    *words, name = shlex.split(line[1])
    assert name == "examples/check_your_own_c.c"
    if shutil.which(words[0]) is None:
        pytest.skip("there is no C compiler")
    done = subprocess.run([*words, "-Werror", source], cwd=folder, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.fixture(scope="module")
def in_c(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the example, built."""
    folder = tmp_path_factory.mktemp("in_c")
    build(IN_C, folder)
    return folder


def documented_check() -> list[str]:
    """Arguments of `c2f-ref` in the head of the example."""
    line = re.search(r"^ +c2f-ref (.*)$", IN_C.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert line is not None
    return shlex.split(line[1])


def test_the_c_example_passes_the_oracle_as_documented(
    in_c: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(in_c)
    assert main(documented_check()) == 0
    assert {"propagate_coarse", "propagate_coarse_vjp", "soft_threshold"} <= {
        line.split()[0] for line in capsys.readouterr().out.splitlines() if line.endswith(": pass")
    }


@pytest.mark.parametrize(
    ("was", "becomes", "operations"),
    [
        ("/= n_layers + 1", "/= n_layers", {"propagate_coarse", "propagate_coarse_vjp"}),
        ("propagate_coarse(1,", "propagate_coarse(0,", {"propagate_coarse_vjp"}),
        ("x + threshold : 0.0", "x - threshold : 0.0", {"soft_threshold"}),
    ],
)
def test_a_mistake_in_the_c_example_is_found(
    was: str,
    becomes: str,
    operations: set[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = IN_C.read_text(encoding="utf-8")
    assert text.count(was) == 1
    wrong = tmp_path / "wrong.c"
    wrong.write_text(text.replace(was, becomes), encoding="utf-8")
    build(wrong, tmp_path)
    monkeypatch.chdir(tmp_path)
    assert main(documented_check()) == 1
    assert {line.split()[0] for line in capsys.readouterr().out.splitlines()[:-1] if ": fail: " in line} == operations


@pytest.mark.parametrize(
    ("operation", "spoil", "code", "reason"),
    [
        ("compose", {}, 4, "not one of my operations: compose"),
        ("soft_threshold", {}, 1, "cannot open: "),
        ("soft_threshold", {"table": b"no array at all"}, 1, "not an .npy file of version 1: table"),
        ("soft_threshold", {"table": np.asfortranarray(np.eye(2, 3))}, 1, "not a plain array in C order"),
        ("soft_threshold", {"table": np.zeros((2, 3), dtype=">f8")}, 1, "not a plain array in C order"),
        ("soft_threshold", {"table": np.zeros((2, 3), dtype=np.int16)}, 1, "not numbers of 4 or 8 bytes, or too few: table"),
    ],
)
def test_the_c_example_says_why_it_gives_no_answer(
    operation: str, spoil: dict[str, object], code: int, reason: str, in_c: Path, tmp_path: Path
) -> None:
    (tmp_path / "operation").write_text(f"{operation}\n", encoding="utf-8")
    for name, content in spoil.items():
        if isinstance(content, bytes):
            (tmp_path / f"{name}.npy").write_bytes(content)
        else:
            np.save(tmp_path / f"{name}.npy", content)
    done = subprocess.run([in_c / "check_your_own_c", tmp_path, tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert reason in done.stderr
