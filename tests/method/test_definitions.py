"""Every formula against its definition, on drawn models.

Expected values come from the oracle's evaluation (`tests/oracle`): scalar loops with 50 digits that
share no code with the package, pull-backs by differentiating the formulas, and a bound on what
rounding can do to any right program. Assignments have entries of both signs, so that degrees can be
negative (D11).
"""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from hypothesis import Phase, assume, given, settings
from hypothesis import strategies as st
from oracle.answers import evaluate
from support.calls import calls
from support.strategies import Model, models

from c2f_ref import method
from c2f_ref.conformance.cases import Case
from c2f_ref.conformance.judge import judge
from c2f_ref.conformance.run import ask_module

COMPARATORS = dict.fromkeys(("start_fine_assignment", "refresh_coarse", "refresh_fine"), "kept")
COMPARATORS["rank_items"] = "ranked"
NAMES = """bipartite normalise expand_coarse expand_fine keep_top softmax_rows part_affinity
    pseudo_inverse compose compose_vjp ego_embed ego_embed_vjp soft_threshold soft_threshold_vjp
    fine_embed fine_embed_vjp bridge bridge_vjp propagate_coarse propagate_coarse_vjp propagate_fine
    propagate_fine_vjp score_pairs score_pairs_vjp bpr_loss bpr_loss_vjp ego_penalty ego_penalty_vjp
    scatter_scores clip adam_step recall_at_k ndcg_at_k embed_coarse embed_fine coarse_loss_and_grad
    fine_loss_and_grad"""


def inputs_of(operation: str, model: Model | None, seed: int) -> dict[str, Any]:
    """Arguments by name; in place of a plan, what it is made of."""
    arguments = named(operation, model, seed)
    if "plan" not in arguments:
        return arguments
    preparing = "prepare_fine" if "fine" in operation else "prepare_coarse"
    del arguments["plan"]
    return named(preparing, model, seed) | arguments


def named(function: str, model: Model | None, seed: int) -> dict[str, Any]:
    names = inspect.signature(getattr(method, function)).parameters
    return dict(zip(names, calls(model, seed)[function][1], strict=False))


def complaint(operation: str, inputs: dict[str, Any]) -> str:
    """What the oracle says of the results on these inputs; nothing if they are right."""
    comparator = COMPARATORS.get(operation, "bounded")
    try:
        expected, allowed = evaluate(operation, comparator, inputs, ("float64",))
    except ArithmeticError:  # rounding decides which way a formula goes
        assume(False)
    case = Case(operation, "drawn", "float64", comparator, inputs, expected, allowed)
    return judge(case, ask_module(method, case))[1]


@pytest.mark.parametrize("operation", sorted([*COMPARATORS, *NAMES.split()]))
@settings(max_examples=5, phases=[Phase.generate])  # a seed cannot be made simpler
@given(model=models(signed=True), seed=st.integers(0, 2**32))
def test_every_formula_by_definition(operation: str, model: Model, seed: int) -> None:
    """Gradients in the frozen table included (D7)."""
    assert not complaint(operation, inputs_of(operation, model, seed))


@pytest.mark.parametrize("operation", ["ego_embed", "compose_vjp", "softmax_rows", "bpr_loss"])
def test_an_error_in_the_twelfth_digit_is_found(operation: str, monkeypatch: Any) -> None:
    inputs, right = inputs_of(operation, None, 0), getattr(method, operation)
    monkeypatch.setattr(method, operation, lambda *given_: right(*given_) * (1 + 1e-12))
    assert complaint(operation, inputs)
