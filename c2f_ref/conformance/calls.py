"""How an operation is called: with a case's inputs in order, unless it has a program here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import numpy as np
from scipy import sparse

from .. import spec
from ..spec import Float64Array, IntArray, Settings, Triples

STORED_TERMS = ("coarse", "fine", "coarse_assignment", "fine_assignment", "bias", "ids", "graph")


def call(ops: Any, operation: str, inputs: Mapping[str, Any]) -> tuple[Any, ...]:
    """Results of the operation, one after the other, whatever tuples they came in."""
    if operation in PROGRAMS:
        return tuple(_leaves(PROGRAMS[operation](ops, *inputs.values())))
    drawing = {"rng": np.random.default_rng(inputs["seed"])} if "seed" in inputs else {}
    given = (value for name, value in inputs.items() if name != "seed")
    return tuple(_leaves(getattr(ops, operation)(*given, **drawing)))


def needs(operation: str) -> tuple[str, ...]:
    """Names that a module must have for the operation."""
    return NEEDS.get(operation, (operation,))


def _leaves(result: Any) -> list[Any]:
    return [leaf for part in result for leaf in _leaves(part)] if isinstance(result, tuple) else [result]


def _rank_by(ops: ModuleType, scores: Float64Array, users: IntArray, seen: sparse.csr_array, k: int) -> Any:
    return ops.rank_by(lambda block: scores[block].copy(), users, seen, k)


def _mean_metrics(ops: ModuleType, ranked: IntArray, held_out: sparse.csr_array, ks: IntArray) -> Any:
    means = ops.mean_metrics(ranked, held_out, ks.tolist())
    return tuple(means[f"{metric}@{k}"] for metric in ("ndcg", "recall") for k in ks.tolist())


def _sparse_pca_scores(ops: ModuleType, rows: Float64Array, n_components: int, alpha: float, seed: int) -> Any:
    return ops.sparse_pca_scores(rows, n_components, alpha, random_state=seed)


def _stored_bytes(ops: ModuleType, *model: Any) -> Any:
    return _by_term(ops.stored_bytes(*model))


def _stored_bytes_bound(ops: ModuleType, settings: Settings, n_users: int, n_items: int, id_bytes: int, n_pairs: int) -> Any:
    return _by_term(ops.stored_bytes_bound(settings, n_users, n_items, id_bytes, n_pairs=n_pairs))


def _total_bytes(ops: ModuleType, terms: IntArray) -> Any:
    totals = ops.total_bytes(dict(zip(STORED_TERMS, terms.tolist(), strict=True)))
    return totals["tables"], totals["everything"]


def _by_term(terms: Mapping[str, int]) -> tuple[int, ...]:
    return tuple(terms[name] for name in STORED_TERMS)


def _coarse_pass(name: str) -> Callable[..., Any]:
    def run(ops: Any, norm_adjacency: Any, coarse_assignment: Any, n_users: int, settings: Settings, *given: Any) -> Any:
        return getattr(ops, name)(ops.prepare_coarse(norm_adjacency, coarse_assignment, n_users, settings), *given)

    return run


def _fine_pass(name: str) -> Callable[..., Any]:
    def run(ops: Any, norm_adjacency: Any, coarse: Any, fine: Any, n_users: int, settings: Settings, *given: Any) -> Any:
        return getattr(ops, name)(ops.prepare_fine(norm_adjacency, coarse, fine, n_users, settings), *given)

    return run


def _prepare_coarse(
    ops: Any, norm_adjacency: Any, earlier_assignment: Any, coarse_assignment: Any, n_users: int, settings: Settings, coarse: Any
) -> Any:
    """A pass on a plan that takes over from one of another assignment, which was used."""
    earlier = ops.prepare_coarse(norm_adjacency, earlier_assignment, n_users, settings)
    ops.embed_coarse(earlier, coarse)
    return ops.embed_coarse(ops.prepare_coarse(norm_adjacency, coarse_assignment, n_users, settings, earlier), coarse)


def _prepare_fine(
    ops: Any,
    norm_adjacency: Any,
    coarse_assignment: Any,
    earlier_assignment: Any,
    fine_assignment: Any,
    n_users: int,
    settings: Settings,
    coarse: Any,
    fine: Any,
) -> Any:
    """As `_prepare_coarse`."""
    earlier = ops.prepare_fine(norm_adjacency, coarse_assignment, earlier_assignment, n_users, settings)
    ops.embed_fine(earlier, coarse, fine)
    plan = ops.prepare_fine(norm_adjacency, coarse_assignment, fine_assignment, n_users, settings, earlier)
    return ops.embed_fine(plan, coarse, fine)


def coarse_steps(
    ops: Any,
    norm_adjacency: sparse.csr_array,
    coarse_assignment: sparse.csr_array,
    n_users: int,
    settings: Settings,
    coarse: Float64Array,
    bias: Float64Array,
    batches: IntArray,
    lr: float,
    refresh_at: int,
) -> tuple[list[float], Float64Array, Float64Array, sparse.csr_array]:
    """Training steps of the coarse stage, S_c refreshed at one of them: (losses, coarse, bias, coarse_assignment).

    The gradient of that step remains the one of the old assignment.

    Shapes: as `c2f_ref.spec.coarse_loss_and_grad`; batches (T, B, 3).
    Source: coarse stage, steps 6 and 7.
    """
    plan = ops.prepare_coarse(norm_adjacency, coarse_assignment, n_users, settings)
    coarse_state, bias_state = spec.start_adam(coarse), spec.start_adam(bias)
    losses = []
    for step, batch in enumerate(batches):
        loss, grad_coarse, grad_bias = ops.coarse_loss_and_grad(plan, coarse, bias, as_triples(batch))
        losses.append(loss)
        if step == refresh_at:
            propagated = ops.embed_coarse(plan, coarse)
            coarse_assignment = ops.refresh_coarse(*propagated, settings.coarse_per_entity, settings.pinv_rtol)
            plan = ops.prepare_coarse(norm_adjacency, coarse_assignment, n_users, settings, plan)
        coarse, coarse_state = ops.adam_step(coarse, grad_coarse, coarse_state, lr, settings)
        bias, bias_state = ops.adam_step(bias, grad_bias, bias_state, lr, settings)
    return losses, coarse, bias, coarse_assignment


def fine_steps(
    ops: Any,
    norm_adjacency: sparse.csr_array,
    coarse_assignment: sparse.csr_array,
    fine_assignment: sparse.csr_array,
    n_users: int,
    settings: Settings,
    coarse: Float64Array,
    fine: Float64Array,
    bias: Float64Array,
    batches: IntArray,
    lr: float,
    refresh_at: int,
) -> tuple[list[float], Float64Array, Float64Array, sparse.csr_array]:
    """Training steps of the fine stage, S_f refreshed at one of them: (losses, fine, bias, fine_assignment). E_c stays (D7).

    Otherwise as `coarse_steps`.
    Source: fine stage, steps 1 and 7.
    """
    plan = ops.prepare_fine(norm_adjacency, coarse_assignment, fine_assignment, n_users, settings)
    fine_state, bias_state = spec.start_adam(fine), spec.start_adam(bias)
    losses = []
    for step, batch in enumerate(batches):
        loss, _, grad_fine, grad_bias = ops.fine_loss_and_grad(plan, coarse, fine, bias, as_triples(batch))
        losses.append(loss)
        if step == refresh_at:
            propagated = ops.embed_fine(plan, coarse, fine)
            fine_assignment = ops.refresh_fine(*propagated, settings.fine_per_coarse, settings.pinv_rtol)
            plan = ops.prepare_fine(norm_adjacency, coarse_assignment, fine_assignment, n_users, settings, plan)
        fine, fine_state = ops.adam_step(fine, grad_fine, fine_state, lr, settings)
        bias, bias_state = ops.adam_step(bias, grad_bias, bias_state, lr, settings)
    return losses, fine, bias, fine_assignment


def as_triples(batch: IntArray) -> Triples:
    """Columns (B, 3) as the lists that an operation takes."""
    return Triples(*(np.ascontiguousarray(column) for column in batch.T))


PROGRAMS: dict[str, Callable[..., Any]] = {
    "rank_by": _rank_by,
    "mean_metrics": _mean_metrics,
    "sparse_pca_scores": _sparse_pca_scores,
    "stored_bytes": _stored_bytes,
    "stored_bytes_bound": _stored_bytes_bound,
    "total_bytes": _total_bytes,
    "prepare_coarse": _prepare_coarse,
    "embed_coarse": _coarse_pass("embed_coarse"),
    "coarse_loss_and_grad": _coarse_pass("coarse_loss_and_grad"),
    "prepare_fine": _prepare_fine,
    "embed_fine": _fine_pass("embed_fine"),
    "fine_loss_and_grad": _fine_pass("fine_loss_and_grad"),
    "coarse_steps": coarse_steps,
    "fine_steps": fine_steps,
}
NEEDS: dict[str, tuple[str, ...]] = {
    "prepare_coarse": ("prepare_coarse", "embed_coarse"),
    "embed_coarse": ("embed_coarse", "prepare_coarse"),
    "coarse_loss_and_grad": ("coarse_loss_and_grad", "prepare_coarse"),
    "prepare_fine": ("prepare_fine", "embed_fine"),
    "embed_fine": ("embed_fine", "prepare_fine"),
    "fine_loss_and_grad": ("fine_loss_and_grad", "prepare_fine"),
    "coarse_steps": ("prepare_coarse", "embed_coarse", "coarse_loss_and_grad", "refresh_coarse", "adam_step"),
    "fine_steps": ("prepare_fine", "embed_fine", "fine_loss_and_grad", "refresh_fine", "adam_step"),
}
"""Names that programs use, the one that a failure is most likely about first."""
