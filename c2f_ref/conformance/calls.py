"""How an operation is called: with a case's inputs in order, unless it has a program here, which takes them by name."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from types import SimpleNamespace
from typing import Any

import numpy as np

from .. import spec
from ..spec import IntArray, Triples
from .cases import Case

STORED_TERMS = ("coarse", "fine", "coarse_assignment", "fine_assignment", "bias", "ids", "graph")
BY_NAME = ("mean_metrics", "stored_bytes", "stored_bytes_bound", "total_bytes")
"""Operations that give a dictionary, which has their results under the names in the case."""


def call(ops: Any, case: Case) -> tuple[Any, ...]:
    """Results of the operation, one after the other, whatever tuples they came in."""
    inputs = dict(case.inputs)
    if case.operation in PROGRAMS:
        result = PROGRAMS[case.operation](ops, SimpleNamespace(**inputs))
    else:
        drawing = {"rng": np.random.default_rng(inputs.pop("seed"))} if "seed" in inputs else {}
        result = getattr(ops, case.operation)(*inputs.values(), **drawing)
    return tuple(result[name] for name in case.expected) if case.operation in BY_NAME else tuple(_leaves(result))


def as_triples(batch: IntArray) -> Triples:
    """Columns (B, 3) as the lists that an operation takes."""
    return Triples(*(np.ascontiguousarray(column) for column in batch.T))


def _leaves(result: Any) -> list[Any]:
    return [leaf for part in result for leaf in _leaves(part)] if isinstance(result, tuple) else [result]


def _sparse_pca_scores(ops: Any, given: Any) -> Any:
    # A generator of the official code's kind has a state, and the case is asked more than once.
    return ops.sparse_pca_scores(given.rows, given.n_components, given.alpha, random_state=deepcopy(given.seed))


def _stored_bytes_bound(ops: Any, given: Any) -> Any:
    return ops.stored_bytes_bound(given.settings, given.n_users, given.n_items, given.id_bytes, n_pairs=given.n_pairs)


def _total_bytes(ops: Any, given: Any) -> Any:
    return ops.total_bytes(dict(zip(STORED_TERMS, given.terms.tolist(), strict=True)))


def _coarse_plan(ops: Any, given: Any, *earlier: Any) -> Any:
    return ops.prepare_coarse(given.norm_adjacency, given.coarse_assignment, given.n_users, given.settings, *earlier)


def _fine_plan(ops: Any, given: Any, *earlier: Any) -> Any:
    assignments = given.coarse_assignment, given.fine_assignment
    return ops.prepare_fine(given.norm_adjacency, *assignments, given.n_users, given.settings, *earlier)


def _prepare_coarse(ops: Any, given: Any) -> Any:
    """A pass on a plan that takes over from one of another assignment, which was used."""
    earlier = _coarse_plan(ops, SimpleNamespace(**vars(given) | {"coarse_assignment": given.earlier_assignment}))
    ops.embed_coarse(earlier, given.coarse)
    return ops.embed_coarse(_coarse_plan(ops, given, earlier), given.coarse)


def _prepare_fine(ops: Any, given: Any) -> Any:
    """As `_prepare_coarse`."""
    earlier = _fine_plan(ops, SimpleNamespace(**vars(given) | {"fine_assignment": given.earlier_assignment}))
    ops.embed_fine(earlier, given.coarse, given.fine)
    return ops.embed_fine(_fine_plan(ops, given, earlier), given.coarse, given.fine)


def _coarse_loss_and_grad(ops: Any, given: Any) -> Any:
    return ops.coarse_loss_and_grad(_coarse_plan(ops, given), given.coarse, given.bias, given.triples)


def _fine_loss_and_grad(ops: Any, given: Any) -> Any:
    return ops.fine_loss_and_grad(_fine_plan(ops, given), given.coarse, given.fine, given.bias, given.triples)


def _coarse_steps(ops: Any, model: Any) -> Any:
    """Training steps of the coarse stage, S_c refreshed at one of them: (losses, coarse, bias, coarse_assignment).

    The gradient of that step remains the one of the old assignment.

    Shapes: as `c2f_ref.spec.coarse_loss_and_grad`; batches (T, B, 3).
    Source: coarse stage, steps 6 and 7.
    """
    plan, losses, settings = _coarse_plan(ops, model), [], model.settings
    coarse_state, bias_state = spec.start_adam(model.coarse), spec.start_adam(model.bias)
    for step, batch in enumerate(model.batches):
        loss, grad_coarse, grad_bias = ops.coarse_loss_and_grad(plan, model.coarse, model.bias, as_triples(batch))
        losses.append(loss)
        if step == model.refresh_at:
            propagated = ops.embed_coarse(plan, model.coarse)
            model.coarse_assignment = ops.refresh_coarse(*propagated, settings.coarse_per_entity, settings.pinv_rtol)
            plan = _coarse_plan(ops, model, plan)
        model.coarse, coarse_state = ops.adam_step(model.coarse, grad_coarse, coarse_state, model.lr, settings)
        model.bias, bias_state = ops.adam_step(model.bias, grad_bias, bias_state, model.lr, settings)
    return losses, model.coarse, model.bias, model.coarse_assignment


def _fine_steps(ops: Any, model: Any) -> Any:
    """Training steps of the fine stage, S_f refreshed at one of them: (losses, fine, bias, fine_assignment). E_c stays (D7).

    Otherwise as `_coarse_steps`.
    Source: fine stage, steps 1 and 7.
    """
    plan, losses, settings = _fine_plan(ops, model), [], model.settings
    fine_state, bias_state = spec.start_adam(model.fine), spec.start_adam(model.bias)
    for step, batch in enumerate(model.batches):
        loss, _, grad_fine, grad_bias = ops.fine_loss_and_grad(plan, model.coarse, model.fine, model.bias, as_triples(batch))
        losses.append(loss)
        if step == model.refresh_at:
            propagated = ops.embed_fine(plan, model.coarse, model.fine)
            model.fine_assignment = ops.refresh_fine(*propagated, settings.fine_per_coarse, settings.pinv_rtol)
            plan = _fine_plan(ops, model, plan)
        model.fine, fine_state = ops.adam_step(model.fine, grad_fine, fine_state, model.lr, settings)
        model.bias, bias_state = ops.adam_step(model.bias, grad_bias, bias_state, model.lr, settings)
    return losses, model.fine, model.bias, model.fine_assignment


PROGRAMS: dict[str, Callable[[Any, Any], Any]] = {
    "rank_by": lambda ops, given: ops.rank_by(lambda block: given.scores[block].copy(), given.users, given.seen, given.k),
    "mean_metrics": lambda ops, given: ops.mean_metrics(given.ranked, given.held_out, given.ks.tolist()),
    "sparse_pca_scores": _sparse_pca_scores,
    "stored_bytes_bound": _stored_bytes_bound,
    "total_bytes": _total_bytes,
    "prepare_coarse": _prepare_coarse,
    "embed_coarse": lambda ops, given: ops.embed_coarse(_coarse_plan(ops, given), given.coarse),
    "coarse_loss_and_grad": _coarse_loss_and_grad,
    "prepare_fine": _prepare_fine,
    "embed_fine": lambda ops, given: ops.embed_fine(_fine_plan(ops, given), given.coarse, given.fine),
    "fine_loss_and_grad": _fine_loss_and_grad,
    "coarse_steps": _coarse_steps,
    "fine_steps": _fine_steps,
}
"""Each gets a namespace of the inputs that is its own."""
