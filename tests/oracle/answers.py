"""From the numbers of an evaluation to what is frozen: expected values and their error bounds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np
from scipy import sparse

from . import formulas, training
from .formulas import Candidates, Sparse, as_dense, flat, given, mapped, top_columns
from .number import Number, held_to
from .training import Ranking, best

TERMS = "coarse fine coarse_assignment fine_assignment bias ids graph"
RESULTS = {
    "adam_step": "table first second n_steps",
    "start_adam": "first second n_steps",
    "bridge_vjp": "grad_coarse grad_fine",
    "propagate_coarse_vjp": "grad_entities grad_coarse",
    "propagate_fine_vjp": "grad_entities grad_coarse grad_fine",
    "score_pairs_vjp": "grad_entities grad_bias grad_offset",
    "bpr_loss_vjp": "grad_positive_scores grad_negative_scores",
    **dict.fromkeys(("propagate_coarse", "embed_coarse", "prepare_coarse"), "entities coarse"),
    **dict.fromkeys(("propagate_fine", "embed_fine", "prepare_fine"), "entities coarse fine"),
    "coarse_loss_and_grad": "loss grad_coarse grad_bias",
    "fine_loss_and_grad": "loss grad_coarse grad_fine grad_bias",
    "coarse_steps": "losses coarse bias coarse_assignment",
    "fine_steps": "losses fine bias fine_assignment",
    **dict.fromkeys(("stored_bytes", "stored_bytes_bound"), TERMS),
    "total_bytes": "tables everything",
    "sample_triples": "users positives negatives",
    "start_coarse": "coarse bias",
}
"""Names of the results of an operation, where there are several."""
WITH_PLAN = {
    "prepare_{}": formulas.embed,
    "embed_{}": formulas.embed,
    "{}_loss_and_grad": formulas.loss_and_grad,
    "{}_steps": training.steps,
}
SPACING = {"float64": 2.0**-52, "float32": 2.0**-23}
UNDERFLOW = 1e-38
"""Added to every error that is not 0: a program may hold what is smaller for 0."""
GRAIN = 2.0**-20
"""What must come out to the bit is a multiple of this, made of terms that sum to 16 at most."""
Inputs = Mapping[str, Any]
Frozen = tuple[dict[str, Any], dict[str, Any]]
"""(expected, allowed) of a case."""


def evaluate(operation: str, comparator: str, inputs: Inputs, dtypes: tuple[str, ...]) -> Frozen:
    """(expected, allowed) of a case, for programs of these precisions."""
    if comparator in ("raises", "drawn"):
        return {}, {}
    with held_to(max(SPACING[dtype] for dtype in dtypes)):
        outcome = _outcome(operation, inputs)
        if isinstance(outcome, Candidates):
            return _frozen_candidates(outcome)
        if isinstance(outcome, Ranking):
            return _frozen_ranking(outcome, comparator)
        if not isinstance(outcome, dict):
            names = results_of(operation)
            outcome = dict(zip(names, outcome if len(names) > 1 else (outcome,), strict=True))
        expected = {name: _frozen(part) for name, part in outcome.items()}
        if comparator == "exact":
            for part in outcome.values():
                _require_exact(part)
            return expected, {}
        floats = {name for name, value in expected.items() if value.dtype.kind == "f"}
        errors = {name: _errors(part) for name, part in outcome.items() if name in floats}
        return expected, {name: e.reshape(expected[name].shape) for name, e in errors.items()}


def _outcome(operation: str, inputs: Inputs) -> Any:
    if operation == "stored_bytes":  # counts arrays
        return training.stored_bytes(*inputs.values())
    numbers = {name: given(value) for name, value in inputs.items()}
    for ending, function in WITH_PLAN.items():
        if operation in (ending.format("coarse"), ending.format("fine")):
            return function(**numbers)
    if operation.endswith("_vjp"):
        primal = getattr(formulas, operation.removesuffix("_vjp"))
        outcome = formulas.pull_back(primal, *numbers.values())
        return outcome if len(outcome) > 1 else outcome[0]
    function = getattr(formulas, operation, None) or getattr(training, operation)
    return function(*numbers.values())


def results_of(operation: str) -> tuple[str, ...]:
    """Names of its results."""
    return tuple(RESULTS.get(operation, "result").split())


def _is_large(part: Any) -> bool:
    return isinstance(part, Sparse) and len(part.rows) > 100


def _numbers(part: Any) -> list[Any]:
    """Every number of a result, row by row; of a sparse one every place, unless it is large."""
    if isinstance(part, Sparse):
        part = [list(row.values()) for row in part.rows] if _is_large(part) else as_dense(part)
    if not isinstance(part, (list, tuple)):
        return [part]
    return [number for inner in part for number in _numbers(inner)]


def _frozen(part: Any) -> Any:
    if _is_large(part):
        rows = enumerate(part.rows)
        places = [(i, j, float(x.value)) for i, row in rows for j, x in sorted(row.items())]
        i, j, values = zip(*places, strict=True)
        return sparse.csr_array((values, (i, j)), shape=(len(part.rows), part.n_columns))
    if isinstance(part, Sparse):
        part = as_dense(part)
    value = mapped(lambda x: float(x.value) if isinstance(x, Number) else x, part)
    return np.array(value) if value != [] else np.zeros(0)


def _errors(part: Any) -> Any:
    """Errors as float32, rounded up; half a spacing more, since the expected value is rounded."""

    def error(x: Number) -> float:
        is_exact = x.error == 0 and Fraction(float(x.value)) == Fraction(x.value)
        return 0.0 if is_exact else x.error + 0.5 * abs(float(x.value)) + UNDERFLOW

    errors = np.array([error(number) for number in _numbers(part)])
    above = np.nextafter(errors.astype(np.float32), np.float32(np.inf))
    return np.where(errors > 0, above, np.float32(0))


def _require_exact(part: Any) -> None:
    for x in _numbers(part):
        if isinstance(x, Number) and (x.size > 16 or Fraction(x.value) % Fraction(GRAIN)):
            raise AssertionError(f"{x.value}, made of terms of {x.size}, may round in float32")


def _frozen_candidates(outcome: Candidates) -> Frozen:
    values, kept = _frozen(outcome.values), top_columns(outcome.values, outcome.k)
    assignment = np.zeros(values.shape)
    np.put_along_axis(assignment, np.array(kept), np.take_along_axis(values, np.array(kept), 1), 1)
    errors = _errors(outcome.values).reshape(values.shape)
    allowed = {"candidates": values, "errors": errors, "k": np.array(outcome.k)}
    return {"assignment": assignment}, allowed


def _frozen_ranking(outcome: Ranking, comparator: str) -> Frozen:
    items = np.array(best(outcome), dtype=np.int64).reshape(len(outcome.scores), outcome.k)
    numbers = [[-math.inf if x is None else float(x.value) for x in row] for row in outcome.scores]
    candidates = np.array(numbers)
    found = np.take_along_axis(candidates, np.maximum(items, 0), axis=1)
    expected = {"items": items, "scores": np.where(items >= 0, found, -math.inf)}
    listed = flat([x for row in outcome.scores for x in row if x is not None])
    if comparator == "exact":
        _require_exact(listed)
        return expected, {}
    errors = np.zeros(candidates.shape, dtype=np.float32)
    errors[np.isfinite(candidates)] = _errors(listed)
    return expected, {"candidates": candidates, "errors": errors}
