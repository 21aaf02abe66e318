"""The cases of the package are what this evaluation gives; it shares no code with the method."""

from __future__ import annotations

import ast
import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.agreement import same_bits

from c2f_ref.conformance import Case, cases, operations
from c2f_ref.conformance.cases import DATA, flatten, read
from oracle.answers import evaluate
from oracle.build import Question, add, build
from oracle.number import UndecidedError


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether both hold the same arrays, to the bit."""
    return same_bits(flatten(one), flatten(other))


@pytest.mark.parametrize("operation", operations())
def test_what_is_frozen_is_evaluated_again_to_the_bit(operation: str) -> None:
    by_name: dict[str, list[Case]] = {}
    for case in cases([operation]):
        by_name.setdefault(case.name, []).append(case)
    for name, (case, *others) in by_name.items():
        dtypes = case.dtype, *(other.dtype for other in others)
        assert set(dtypes) <= {"float64", "float32"}
        assert len(set(dtypes)) == len(dtypes), f"two cases are called {name}"
        expected, allowed = evaluate(operation, case.comparator, case.inputs, dtypes)
        assert case.comparator == "drawn" or same(case.expected, expected), name
        assert same(case.allowed, allowed), name


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file with the cases of `clip` alone, which the package reads in place of its own."""
    path, (records, pools) = tmp_path / "few.npz", read(DATA)
    clips = [record for record in records if record["operation"] == "clip"]
    np.savez_compressed(path, records=json.dumps(clips), **pools)
    monkeypatch.setattr(sys.modules[read.__module__], "_stored", lambda: read(path))
    return path


def test_building_again_changes_nothing_and_an_added_case_is_the_last(path: Path) -> None:
    before, n_cases = list(cases()), len(read(path)[0])
    assert build(path) == n_cases
    built = path.read_bytes()
    assert build(path) == n_cases
    assert path.read_bytes() == built
    given = {"grad": np.array([[0.25, -0.75], [4.0, -0.5]]), "limit": 0.5}
    made_up = Question("clip", "made up", "exact", ("float64", "float32"), given)
    assert add(made_up, path) == n_cases + 1
    *others, double, single = cases()
    for one, other in zip(before, others, strict=True):
        assert one[:4] == other[:4]
        assert same(one.inputs, other.inputs)
        assert same(one.expected, other.expected)
        assert same(one.allowed, other.allowed)
    for case in (double, single):
        assert case[:4] == ("clip", "made up", case.dtype, "exact")
        assert same(case.inputs, given | {"grad": given["grad"].astype(case.dtype)})
        assert case.expected["result"].tolist() == [[0.25, -0.5], [0.5, -0.5]]


def test_a_case_without_an_answer_is_refused(path: Path) -> None:
    near = {"table": np.diag([1.0, 2.0**-51]), "rtol": None}
    before = path.read_bytes()
    for name, given, error in (
        ("too near the cut", near, UndecidedError),
        ("drawn", {"table": np.eye(2), "rtol": 0.25}, ValueError),
        ("0.1", {"table": np.array([[0.1]]), "rtol": None}, ValueError),
    ):
        operation = "clip" if name == "drawn" else "pseudo_inverse"
        with pytest.raises(error):
            add(Question(operation, name, "bounded", ("float64",), given), path)
    assert path.read_bytes() == before


def test_the_evaluation_imports_nothing_of_the_package() -> None:
    for page in ("number", "formulas", "training", "answers"):
        tree = ast.parse((Path(__file__).parent / f"{page}.py").read_text(encoding="utf-8"))
        nodes = [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]
        assert nodes
        assert not re.search("c2f_ref|support", " ".join(map(ast.unparse, nodes)))
