"""The check of a command: a program of any kind that reads and writes `.npy` files."""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from c2f_ref.conformance import CommandError, Report, UnknownOperationError, cases, check_command
from c2f_ref.conformance.command import read_result, write_inputs
from c2f_ref.conformance.runner import BrokenError

# An implementation that knows two operations. It is given no name of a function, and uses nothing of the package.
PROGRAM = """
import sys
from pathlib import Path
import numpy as np

given, wanted = Path(sys.argv[1]), Path(sys.argv[2])
operation = (given / "operation").read_text().strip()
results = (given / "results").read_text().split()

def read(name):
    return np.load(given / f"{name}.npy")

if operation == "soft_threshold":
    table = read("table")
    answer = np.sign(table) * np.maximum(np.abs(table) - read("threshold").astype(table.dtype), 0)
elif operation == "part_affinity":
    labels, n = read("labels"), int(read("n_parts"))
    if labels.max() >= n:
        sys.exit("labels must be below n_parts") if PLAIN else (print("labels too large", file=sys.stderr), sys.exit(3))
    answer = np.where(labels[:, None] == np.arange(n), 0.5 if n > 1 else 1.0, 0.5 / max(n - 1, 1))
else:
    sys.exit(4)
SPOIL
np.save(wanted / f"{results[0]}.npy", answer)
"""
KNOWN = ["soft_threshold", "part_affinity"]


def command(folder: Path, spoil: str = "", plain: bool = False) -> str:
    program = folder / "own program.py"  # a blank in the name must do no harm
    program.write_text(PROGRAM.replace("SPOIL", spoil).replace("PLAIN", str(plain)))
    return f"{sys.executable} '{program}' {{in}} {{out}}"


def failures(report: Report) -> dict[str, str]:
    return {result.operation: str(result.failure) for result in report.results if result.failure is not None}


def test_a_right_command_passes_what_it_knows(tmp_path: Path) -> None:
    report = check_command(command(tmp_path), only=KNOWN)
    assert report.passed, "\n".join(report.lines())
    assert report.module == command(tmp_path)


def test_an_operation_that_it_does_not_know_is_missing(tmp_path: Path) -> None:
    report = check_command(command(tmp_path), only=["clip"])
    (result,) = report.results
    assert (result.verdict, str(result.failure)) == ("missing", "there is no clip")
    assert not report.passed


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        ("answer = answer * 1.01", r"drawn.*result\[\d+, \d\]: expected .*, got .*, allowed"),
        ("answer = answer.T", r"expected shape \(11, 4\), got \(4, 11\)"),
        ("answer = answer.astype(complex)", "got complex128"),
        ("sys.exit(0)", r"wrote no result\.npy"),
        ("(wanted / 'result.npy').write_text('garbage'); sys.exit(0)", "result: cannot be read: "),
        ("(wanted / 'result.npy').write_bytes(b''); sys.exit(0)", "result: cannot be read: EOFError"),
        ("np.save(wanted / 'result.npy', np.array([{}])); sys.exit(0)", "result: cannot be read: ValueError"),
        ("raise RuntimeError('out of paper')", "the command ends with exit code 1: RuntimeError: out of paper"),
        ("sys.exit('out of paper\\n\\n')", "the command ends with exit code 1: out of paper$"),
        ("sys.exit(3)", "the command refuses its input: it says nothing"),
        ("import os; os.abort()", "the command ends with exit code -6: it says nothing"),
    ],
)
def test_everything_that_can_go_wrong_is_told(tmp_path: Path, spoil: str, words: str) -> None:
    told = failures(check_command(command(tmp_path, spoil), only=["part_affinity"]))
    assert re.search(words, told["part_affinity"]), told


def test_bad_input_must_be_refused_with_the_code_for_it(tmp_path: Path) -> None:
    told = failures(check_command(command(tmp_path, plain=True), only=["part_affinity"]))
    assert told == {
        "part_affinity": "a label out of range, float64: the command ends with exit code 1: labels must be below n_parts"
    }


def test_a_hang_is_ended_with_everything_that_it_started(tmp_path: Path) -> None:
    mark = tmp_path / "still alive"
    child = f"import time, pathlib; time.sleep(3); pathlib.Path({str(mark)!r}).touch()"
    spoil = f"import subprocess, time; subprocess.Popen([sys.executable, '-c', {child!r}]); time.sleep(60)"
    began = time.monotonic()
    told = failures(check_command(command(tmp_path, spoil), only=["part_affinity"], time_limit=1.5))
    assert told["part_affinity"].endswith("no result within the time limit of 1.5 s")
    assert time.monotonic() - began < 30
    time.sleep(3)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("true", "must say where {in} goes"),
        ("cp {in}", "must say where {out} goes"),
        ("./no_such_program {in} {out}", "there is no such program"),
    ],
)
def test_a_command_that_cannot_be_run_is_an_error(words: str, message: str) -> None:
    with pytest.raises(CommandError, match=re.escape(message)):
        check_command(words, only=["clip"])
    with pytest.raises(UnknownOperationError):
        check_command("true {in} {out}", only=["no_such_name"])


def test_inputs_are_files_of_plain_numbers(tmp_path: Path) -> None:
    """Every field and every part of a matrix has a file; None has none."""
    case = next(case for case in cases(["fine_loss_and_grad"], ["float64"]))
    write_inputs(tmp_path, case)
    names = {path.name for path in tmp_path.iterdir()}
    assert {"operation", "results", "coarse.npy", "triples.negatives.npy", "settings.bridge_weight.npy", "n_users.npy"} <= names
    assert {f"fine_assignment.{part}.npy" for part in ("data", "indices", "indptr", "shape")} <= names
    assert "settings.pinv_rtol.npy" not in names
    assert (tmp_path / "results").read_text().split() == ["loss", "grad_coarse", "grad_fine", "grad_bias"]
    assert np.load(tmp_path / "n_users.npy").shape == ()
    for path in tmp_path.glob("*.npy"):
        assert np.load(path, allow_pickle=False).dtype.kind in "if"


def test_a_sparse_result_is_four_files(tmp_path: Path) -> None:
    matrix = sparse.csr_array(np.array([[0.0, 2.0, 0.0], [3.0, 0.0, 4.0]]))
    for part in ("data", "indices", "indptr", "shape"):
        np.save(tmp_path / f"result.{part}.npy", getattr(matrix, part))
    assert (read_result(tmp_path, "result") != matrix).nnz == 0
    (tmp_path / "result.indices.npy").unlink()
    with pytest.raises(BrokenError, match=r"wrote no result\.indices\.npy"):
        read_result(tmp_path, "result")
    np.save(tmp_path / "result.indices.npy", np.array([9, 9, 9]))
    with pytest.raises(BrokenError, match="result: cannot be read"):
        read_result(tmp_path, "result")
