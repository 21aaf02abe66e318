"""The cases that the package carries are what this evaluation gives, and it shares no code with what they judge."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from c2f_ref.conformance import Case, cases, operations
from c2f_ref.conformance.cases import flatten
from oracle.answers import evaluate
from oracle.draws import drawn

ROOM = Path(__file__).parent


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether both hold the same arrays, to the bit, in the same order."""
    one, other = flatten(one), flatten(other)
    return list(one) == list(other) and all(
        one[name].dtype == other[name].dtype and np.array_equal(one[name], other[name]) for name in one
    )


def by_name(operation: str) -> Iterator[tuple[Case, tuple[str, ...]]]:
    """Every case of an operation in its first precision, with all of them."""
    found: dict[str, list[Case]] = {}
    for case in cases([operation]):
        found.setdefault(case.name, []).append(case)
    yield from ((own[0], tuple(case.dtype for case in own)) for own in found.values())


@pytest.mark.parametrize("operation", operations())
def test_what_is_frozen_is_evaluated_again_to_the_bit(operation: str) -> None:
    for case, dtypes in by_name(operation):
        expected, allowed = evaluate(operation, case.comparator, case.inputs, dtypes)
        if case.comparator != "drawn":
            assert same(case.expected, expected), case.name
        assert same(case.allowed, allowed), case.name


@pytest.mark.parametrize("operation", operations())
def test_names_of_cases_are_unique_and_every_case_can_be_had_in_double_or_single(operation: str) -> None:
    counts = Counter((case.name, case.dtype) for case in cases([operation]))
    assert set(counts.values()) == {1}
    assert {dtype for _, dtype in counts} <= {"float64", "float32"}


def test_the_file_holds_the_cases_that_are_drawn() -> None:
    """Otherwise it was not built after the last change: python tests/oracle/build.py."""
    frozen = dict.fromkeys((case.operation, case.name, case.comparator) for case in cases())
    assert list(frozen) == [(operation, name, comparator) for operation, name, comparator, _ in drawn()]


@pytest.mark.parametrize("page", ["number", "inverse", "method", "training", "answers"])
def test_the_evaluation_imports_nothing_of_the_package(page: str) -> None:
    tree = ast.parse((ROOM / f"{page}.py").read_text(encoding="utf-8"))
    names = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    names += [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    assert names
    assert not [name for name in names if name.startswith(("c2f_ref", "support"))]
