"""From the numbers of an evaluation to what is frozen: expected values, and how far a program may be off."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np
from scipy import sparse

from . import method, training
from .method import Candidates, Sparse
from .number import Number, held_to
from .training import Ranking, best

TERMS = ("coarse", "fine", "coarse_assignment", "fine_assignment", "bias", "ids", "graph")
RESULTS = {
    "adam_step": ("table", "first", "second", "n_steps"),
    "start_adam": ("first", "second", "n_steps"),
    "bridge_vjp": ("grad_coarse", "grad_fine"),
    "propagate_coarse": ("entities", "coarse"),
    "propagate_coarse_vjp": ("grad_entities", "grad_coarse"),
    "propagate_fine": ("entities", "coarse", "fine"),
    "propagate_fine_vjp": ("grad_entities", "grad_coarse", "grad_fine"),
    "score_pairs_vjp": ("grad_entities", "grad_bias", "grad_offset"),
    "bpr_loss_vjp": ("grad_positive_scores", "grad_negative_scores"),
    "embed_coarse": ("entities", "coarse"),
    "prepare_coarse": ("entities", "coarse"),
    "embed_fine": ("entities", "coarse", "fine"),
    "prepare_fine": ("entities", "coarse", "fine"),
    "coarse_loss_and_grad": ("loss", "grad_coarse", "grad_bias"),
    "fine_loss_and_grad": ("loss", "grad_coarse", "grad_fine", "grad_bias"),
    "coarse_steps": ("losses", "coarse", "bias", "coarse_assignment"),
    "fine_steps": ("losses", "fine", "bias", "fine_assignment"),
    "stored_bytes": TERMS,
    "stored_bytes_bound": TERMS,
    "total_bytes": ("tables", "everything"),
    "sample_triples": ("users", "positives", "negatives"),
    "start_coarse": ("coarse", "bias"),
}
"""Names of an operation's results, where there are several."""
SPACING = {"float64": 2.0**-52, "float32": 2.0**-23}
UNDERFLOW = 1e-38
"""Added to every error that is not 0, since a program may hold what is smaller for 0."""
GRAIN = 2.0**-20
"""Of what must come out to the bit: multiples of this, made of terms that sum to no more than 16."""


def evaluate(
    operation: str, comparator: str, inputs: Mapping[str, Any], dtypes: tuple[str, ...]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """(expected, allowed) of a case, for programs of these precisions."""
    if comparator in ("raises", "drawn"):
        return {}, {}
    function = getattr(method, operation, None) or getattr(training, operation)
    with held_to(max(SPACING[dtype] for dtype in dtypes)):
        outcome = function(*inputs.values())
        if isinstance(outcome, Candidates):
            return _frozen_candidates(outcome)
        if isinstance(outcome, Ranking):
            return _frozen_ranking(outcome, comparator)
        if isinstance(outcome, dict):
            named = outcome
        else:
            names = results_of(operation)
            named = dict(zip(names, outcome if len(names) > 1 else (outcome,), strict=True))
        expected = {name: _frozen(part) for name, part in named.items()}
        if comparator == "exact":
            for part in named.values():
                _require_exact(part)
            return expected, {}
        shapes = {name: np.shape(value) for name, value in expected.items()}
        return expected, {
            name: _errors(part).reshape(shapes[name]) for name, part in named.items() if expected[name].dtype.kind == "f"
        }


def results_of(operation: str) -> tuple[str, ...]:
    """Names of its results."""
    return RESULTS.get(operation, ("result",))


def _numbers(part: Any) -> list[Any]:
    """Every number of a result, row by row; of a sparse one every place, unless it is large."""
    if isinstance(part, Sparse):
        part = [list(row.values()) for row in part.rows] if _is_large(part) else training.as_dense(part)
    return [number for inner in part for number in _numbers(inner)] if isinstance(part, (list, tuple)) else [part]


def _is_large(part: Sparse) -> bool:
    return len(part.rows) > 100


def _frozen(part: Any) -> Any:
    if isinstance(part, Sparse) and _is_large(part):
        places = [(i, j, float(x.value)) for i, row in enumerate(part.rows) for j, x in sorted(row.items())]
        rows, columns, values = zip(*places, strict=True)
        return sparse.csr_array((values, (rows, columns)), shape=(len(part.rows), part.n_columns))
    if isinstance(part, Sparse):
        part = training.as_dense(part)
    if isinstance(part, Number):
        return np.array(float(part.value))
    if isinstance(part, int):
        return np.array(part)
    inner = [_frozen(each) for each in part]
    return np.array(inner) if inner else np.zeros(0)


def _errors(part: Any) -> Any:
    """Errors as float32, rounded up, half a spacing of the expected value added, which is itself rounded to float64."""
    numbers = _numbers(part)
    errors = np.array(
        [0.0 if _is_exact(number) else number.error + 0.5 * abs(float(number.value)) + UNDERFLOW for number in numbers]
    )
    return np.where(errors > 0, np.nextafter(errors.astype(np.float32), np.float32(np.inf)), np.float32(0))


def _is_exact(number: Number) -> bool:
    return number.error == 0 and Fraction(float(number.value)) == Fraction(number.value)


def _require_exact(part: Any) -> None:
    for number in _numbers(part):
        if isinstance(number, Number) and (number.size > 16 or Fraction(number.value) % Fraction(GRAIN)):
            raise AssertionError(f"{number.value}, made of terms of {number.size}, may round in float32")


def _frozen_candidates(outcome: Candidates) -> tuple[dict[str, Any], dict[str, Any]]:
    order = [sorted(range(len(row)), key=lambda j: (-row[j].value, j))[: outcome.k] for row in outcome.values]
    kept = [[float(x.value) if j in order[i] else 0.0 for j, x in enumerate(row)] for i, row in enumerate(outcome.values)]
    values = _frozen(outcome.values)
    allowed = {"candidates": values, "errors": _errors(outcome.values).reshape(values.shape), "k": np.array(outcome.k)}
    return {"assignment": np.array(kept)}, allowed


def _frozen_ranking(outcome: Ranking, comparator: str) -> tuple[dict[str, Any], dict[str, Any]]:
    items = best(outcome)
    scores = [
        [float(row[item].value) if item >= 0 else -math.inf for item in own] for own, row in zip(items, outcome.scores, strict=True)
    ]
    shape = (len(items), outcome.k)
    expected = {"items": np.array(items, dtype=np.int64).reshape(shape), "scores": np.array(scores).reshape(shape)}
    if comparator == "exact":
        _require_exact([x for row in outcome.scores for x in row if x is not None])
        return expected, {}
    candidates = np.array([[-math.inf if x is None else float(x.value) for x in row] for row in outcome.scores])
    errors = [_errors([x for x in row if x is not None]) for row in outcome.scores]
    placed = np.zeros(candidates.shape, dtype=np.float32)
    for row, own in enumerate(errors):
        placed[row, np.isfinite(candidates[row])] = own
    return expected, {"candidates": candidates, "errors": placed}
