"""The oracle on trial: every believable mistake is caught, by the operation that it is in, and a mutant is its mistake alone."""

from __future__ import annotations

import re
import sys

import numpy as np
import pytest

from c2f_ref import spec
from c2f_ref.conformance import check
from c2f_ref.conformance.cases import operations
from c2f_ref.conformance.mutants import Mutant, MutantError, catchers, main, module_of, read_mutants

MUTANTS = read_mutants()
DOUBLED = Mutant("compose", "twice too much", "compose", (("assignment @ table", "2.0 * (assignment @ table)"),))
HARMLESS = Mutant("clip", "none at all", "clip", (("np.clip(grad, -limit, limit)", "np.clip(grad, -limit, +limit)"),))


@pytest.mark.filterwarnings("ignore")  # wrong programs divide by zero
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: f"{mutant.operation}: {mutant.mistake}")
def test_a_mutant_is_caught_by_the_operation_that_its_mistake_is_in(mutant: Mutant) -> None:
    """By what it gives or refuses: a program that breaks down, say at a name that is not there, would prove nothing."""
    (result,) = check(module_of(mutant), only=[mutant.operation]).results
    assert result.failure is not None
    assert re.match(r"(?!ValueError)\w+Error: ", result.failure.reason) is None


def test_every_function_that_has_cases_has_a_mutant_and_no_two_are_the_same() -> None:
    assert len(MUTANTS) >= 100
    assert {mutant.operation for mutant in MUTANTS} == set(operations()) & set(spec.__all__)
    assert len({(mutant.operation, mutant.mistake) for mutant in MUTANTS}) == len(MUTANTS)
    assert len({(mutant.operation, mutant.function, mutant.edits) for mutant in MUTANTS}) == len(MUTANTS)


def test_a_mistake_reaches_what_calls_the_changed_function_and_nothing_else() -> None:
    """2 S E for S E: the bridge becomes 0.75 E_c + 0.25 (2 S_f E_f), and clip, which composes nothing, stays."""
    wrong = module_of(DOUBLED)
    rng = np.random.default_rng(0)
    assignment, coarse, fine = spec.keep_top(rng.random((4, 3)), 2), rng.random((4, 5)), rng.random((3, 5))
    composed = spec.compose(assignment, fine)
    assert np.array_equal(wrong.compose(assignment, fine), 2.0 * composed)
    assert np.array_equal(wrong.bridge(assignment, 0.25, coarse, fine), 0.75 * coarse + 0.25 * (2.0 * composed))
    assert np.array_equal(wrong.clip(coarse, 0.5), spec.clip(coarse, 0.5))


def test_the_specification_is_left_as_it_was() -> None:
    before = {name: getattr(spec, name) for name in spec.__all__}
    loaded = set(sys.modules)
    wrong = module_of(DOUBLED)
    assert all(getattr(spec, name) is value for name, value in before.items())
    assert set(sys.modules) == loaded
    assert wrong.compose is not spec.compose
    assert wrong.SpecError is spec.SpecError
    assert wrong.Settings is spec.Settings


def test_catchers_are_the_mutants_own_operation_or_all_that_fail() -> None:
    """Both bridges, the ego rows and the passes compose."""
    assert catchers(DOUBLED) == ("compose",)
    names = catchers(DOUBLED, everything=True)
    assert names[0] == "compose"
    assert {"bridge", "ego_embed", "propagate_fine", "embed_coarse", "fine_loss_and_grad"} <= set(names)
    assert "clip" not in names


def test_a_mutant_that_its_own_operation_lets_pass_is_held_against_all_and_fails(capsys: pytest.CaptureFixture[str]) -> None:
    """`compose` and its pull-back stand on one page and share nothing."""
    assert main([], [DOUBLED._replace(operation="compose_vjp")]) == 1
    title, names = capsys.readouterr().out.splitlines()[0].split(": caught by ")
    assert title.startswith("compose_vjp:")
    assert "compose_vjp" not in names.split(", ")
    assert {"compose", "bridge"} <= set(names.split(", "))


def test_the_command_prints_catchers_and_fails_when_a_mutant_survives(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([], [DOUBLED]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{'compose:':<25} twice too much: caught by compose",
        "1 of 1 mutants caught by the operation that the mistake is in",
    ]
    assert main([], [HARMLESS, DOUBLED]) == 1
    assert capsys.readouterr().out.splitlines() == [
        f"{'clip:':<25} none at all: SURVIVES",
        f"{'compose:':<25} twice too much: caught by compose",
        "1 of 2 mutants caught by the operation that the mistake is in",
    ]


def test_a_paragraph_is_a_title_and_runs_of_lines_that_go_and_come() -> None:
    text = "f: wrong\n@@ g\n-a\n-  b\n+c\n-d\n\n\nh: x: y\n-i\n+\n"
    assert read_mutants(text) == [
        Mutant("f", "wrong", "g", (("a\n  b\n", "c\n"), ("d\n", ""))),
        Mutant("h", "x: y", "h", (("i\n", "\n"),)),
    ]


@pytest.mark.parametrize("text", ["f wrong\n-a\n", "f: wrong\n", "f: wrong\n@@ g\n", "f: wrong\n+a\n", "f: wrong\n-a\nb\n+c\n", ""])
def test_a_paragraph_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(MutantError, match="expected 'operation: mistake'"):
        read_mutants(text)


@pytest.mark.parametrize(
    ("mutant", "reason"),
    [
        (DOUBLED._replace(edits=(("assignment @ tables", ""),)), "found 0 times"),
        (DOUBLED._replace(edits=(("assignment", ""),)), "expected to find once, found [3-9] times"),
    ],
)
def test_a_mutant_that_cannot_be_made_says_why(mutant: Mutant, reason: str) -> None:
    with pytest.raises(MutantError, match=reason):
        module_of(mutant)
