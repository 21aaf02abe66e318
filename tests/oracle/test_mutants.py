"""The oracle is itself on trial: it catches every mistake by the operation that holds it."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from c2f_ref import method
from c2f_ref.conformance import operations
from oracle import mutants
from oracle.mutants import Mutant, changed_page, complaint, main, module_of, read_mutants

MUTANTS = read_mutants()
TITLES = [f"{mutant.operation}: {mutant.mistake}" for mutant in MUTANTS]
TWICE = ("assignment @ table", "2.0 * (assignment @ table)")
DOUBLED = Mutant("compose", "twice too much", "compose", (TWICE,))
HARMLESS = Mutant("clip", "none at all", "clip", (("return ", "return +"),))


@pytest.mark.parametrize("mutant", MUTANTS, ids=TITLES)
def test_a_mutant_is_caught_by_the_operation_that_holds_its_mistake(mutant: Mutant) -> None:
    assert complaint(module_of(mutant), mutant.operation)


def test_every_function_with_cases_has_a_mutant_and_no_two_are_the_same() -> None:
    steps = {"coarse_steps", "fine_steps"}
    assert {mutant.operation for mutant in MUTANTS} == set(operations()) - steps
    assert len(MUTANTS) == len(set(TITLES)) == 274
    assert len({(mutant.operation, mutant.function, mutant.edits) for mutant in MUTANTS}) == 274


def test_a_mistake_reaches_what_calls_the_changed_function_and_nothing_else() -> None:
    """2 S E for S E: the bridge becomes 0.75 E_c + 0.25 (2 S_f E_f); clip composes nothing."""
    before, loaded = {name: getattr(method, name) for name in method.__all__}, set(sys.modules)
    wrong, rng = module_of(DOUBLED), np.random.default_rng(0)
    weights, coarse, fine = (rng.random(shape) for shape in ((4, 3), (4, 5), (3, 5)))
    assignment = method.keep_top(weights, 2)
    composed = method.compose(assignment, fine)
    assert np.array_equal(wrong.compose(assignment, fine), 2.0 * composed)
    bridged = 0.75 * coarse + 0.25 * (2.0 * composed)
    assert np.array_equal(wrong.bridge(assignment, 0.25, coarse, fine), bridged)
    assert np.array_equal(wrong.clip(coarse, 0.5), method.clip(coarse, 0.5))
    assert all(getattr(method, name) is value for name, value in before.items())
    assert set(sys.modules) == loaded
    assert (wrong.MethodError, wrong.Settings) == (method.MethodError, method.Settings)


def test_the_command_says_what_catches_and_fails_when_a_mutant_survives(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Another operation that fails is not enough."""
    elsewhere = DOUBLED._replace(operation="compose_vjp")
    assert [main([], [mutant]) for mutant in (DOUBLED, HARMLESS, elsewhere)] == [0, 1, 1]
    first, *others = capsys.readouterr().out.splitlines()
    assert first.startswith("compose: twice too much: caught, result[0, 0]: expected ")
    survivors = ["clip: none at all: SURVIVES", "compose_vjp: twice too much: SURVIVES"]
    assert others[1::2] == survivors
    assert others[::2] == [f"{n} of 1 mutants caught" for n in (1, 0, 0)]


def test_the_suite_turns_red_on_a_mutant_and_stays_green_without_one(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert mutants.suite_for("embeddings")[0] == "tests/method/test_embeddings.py"
    test = "tests/conformance/test_run.py::test_results_may_be_sparse_or_lists"
    monkeypatch.setattr("oracle.mutants.suite_for", lambda page: [test])
    assert main(["--suite", "9", "--seed", "3"], [HARMLESS, DOUBLED]) == 1
    green, red = sorted(capsys.readouterr().out.splitlines()[:-1])
    assert green == "clip: none at all: SURVIVES"
    assert red == f"compose: twice too much: caught, {test}"


def test_a_paragraph_is_a_title_and_runs_of_lines_that_go_and_come() -> None:
    text = "f: wrong\n@@ g\n-a\n-  b\n+c\n-d\n\n\nh: x: y\n-i\n+\n"
    first = Mutant("f", "wrong", "g", (("a\n  b\n", "c\n"), ("d\n", "")))
    assert read_mutants(text) == [first, Mutant("h", "x: y", "h", (("i\n", "\n"),))]
    for bad in ("f wrong\n-a\n", "f: wrong\n@@ g\n", "f: wrong\n+a\n", "f: wrong\n-a\nb\n+c\n", ""):
        with pytest.raises(ValueError, match="expected 'operation: mistake'"):
            read_mutants(bad)
    for was in ("assignment @ tables", "assignment"):  # never, and more than once
        with pytest.raises(ValueError, match=r"expected once, found [03-9] times"):
            changed_page(DOUBLED._replace(edits=((was, ""),)))
