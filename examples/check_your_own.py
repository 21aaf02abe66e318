"""Both stages in PyTorch, with gradients by autograd, and how such a module is checked.

    pip install torch
    python examples/check_your_own.py

prints one line for each operation that is here. Names and parameters are those of `c2f_ref.method`,
so `c2f_ref.training.train(..., ops=check_your_own)` trains with this module, too. Everything is
written for tensors. Only `offered` stands between them and the caller: NumPy and SciPy arrays come
in and go out, and bad input gets a ValueError.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import torch  # type: ignore[import-not-found, unused-ignore]
from scipy import sparse
from torch import Tensor  # type: ignore[import-not-found, unused-ignore]

from c2f_ref import method
from c2f_ref.conformance import check
from c2f_ref.method import AdamState, CoarsePlan, FinePlan, Triples
from c2f_ref.method.notation import require_batch, require_finite, require_shape, require_sizes

Tensors: TypeAlias = Any  # tuples of tensors; a type checker without torch knows nothing of them
# Nothing of the model is in these.
rank_items, sample_triples, score_pairs = (
    method.rank_items, method.sample_triples, method.score_pairs,
)  # fmt: skip
torch.sparse.check_sparse_tensor_invariants.enable()  # torch warns until this is decided


def converted(value: Any) -> Any:
    """Copies: arrays as tensors and back, a sparse one with all stored entries; tuples by part."""
    if isinstance(value, tuple) and not isinstance(value, (CoarsePlan, FinePlan)):
        parts = [converted(part) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    if isinstance(value, np.ndarray) or sparse.issparse(value):
        require_finite("numbers", value)
    if sparse.issparse(value):
        places, values = np.stack(value.tocoo().coords).astype(np.int64), value.tocoo().data
        return coalesced(torch.tensor(places), torch.tensor(values), value.shape)
    if isinstance(value, Tensor) and value.is_sparse:
        places, values = value.indices().numpy(), value.values().numpy()
        return sparse.coo_array((values, tuple(places)), shape=tuple(value.shape)).tocsr()
    if isinstance(value, Tensor):
        return value.detach().numpy() if value.ndim else value.item()
    return torch.tensor(value) if isinstance(value, np.ndarray) else value


def coalesced(places: Tensor, values: Tensor, shape: Any) -> Tensor:
    return torch.sparse_coo_tensor(places, values, shape).coalesce()


def offered(function: Callable[..., Any]) -> Callable[..., Any]:
    """Arrays in, arrays out; calls within this module, which pass tensors, go straight through."""

    def call(*given: Any) -> Any:
        if any(isinstance(value, Tensor) for value in given):
            return function(*given)
        try:
            return converted(function(*converted(given)))
        except (IndexError, RuntimeError) as error:
            raise ValueError(str(error)) from error

    return call


def normalise(graph: Tensor) -> Tensor:
    (rows, columns), values = graph.indices(), graph.values()
    degrees = values.new_zeros(len(graph)).index_add_(0, rows, values)
    products = degrees[rows] * degrees[columns]
    connected = (degrees[rows] > 0) & (products > 0)
    values = torch.where(connected, values / torch.where(connected, products, 1.0).sqrt(), 0.0)
    return coalesced(graph.indices(), values, graph.shape)


def expanded(norm_adjacency: Tensor, *assignments: Tensor) -> Tensor:
    """The normalised graph of either stage: A on the diagonal, S_c and S_f next to it, mirrored."""
    places, values, start = [norm_adjacency.indices()], [norm_adjacency.values()], 0
    for assignment in assignments:
        rows, columns = assignment.indices() + start
        columns = columns + len(assignment)
        places += [torch.stack([rows, columns]), torch.stack([columns, rows])]
        values += [assignment.values()] * 2
        start += len(assignment)
    size = start + assignments[-1].shape[1]
    return normalise(coalesced(torch.cat(places, dim=1), torch.cat(values), (size, size)))


def ego_embed(coarse_assignment: Tensor, coarse: Tensor) -> Tensor:
    return (coarse_assignment @ coarse).tanh()


def soft_threshold(table: Tensor, threshold: float) -> Tensor:
    return table.sign() * (table.abs() - threshold).clamp(min=0.0)


def bridge(fine_assignment: Tensor, weight: float, coarse: Tensor, fine: Tensor) -> Tensor:
    return (1.0 - weight) * coarse + weight * (fine_assignment @ fine)


def propagate_coarse(graph: Tensor, n_layers: int, *tables: Tensor) -> Tensors:
    layers = [torch.cat(tables)]
    for _ in range(n_layers):
        layers.append(graph @ layers[-1])
    return (sum(layers) / len(layers)).split([len(table) for table in tables])


def propagate_fine(
    graph: Tensor,
    coarse_assignment: Tensor,
    fine_assignment: Tensor,
    bridge_weight: float,
    n_layers: int,
    *tables: Tensor,
) -> Tensors:
    sizes = [len(table) for table in tables]
    layers = [torch.cat(tables)]
    for _ in range(n_layers):
        h, c, f = (graph @ layers[-1]).split(sizes)
        h = h - coarse_assignment @ c
        c = bridge(fine_assignment, bridge_weight, c - fine_assignment @ f, f)
        layers.append(torch.cat([h + coarse_assignment @ c, c, f]))
    return (sum(layers) / len(layers)).split(sizes)


def loss_and_grad(
    plan: Any, embed: Callable[..., Tensors], tables: Tensors, triples: Triples
) -> Tensors:
    """The loss of both stages and its gradients: coarse, fine in the fine stage, and bias."""
    require_batch(len(plan.coarse_assignment), plan.n_users, tables[-1], triples)
    coarse, *_, bias = tables = [table.requires_grad_() for table in tables]
    entities, ego = embed(plan, *tables[:-1])[0], ego_embed(plan.coarse_assignment, coarse)
    users, *items = triples
    positives, negatives = (plan.n_users + each for each in items)
    products = entities[users] * (entities[negatives] - entities[positives])
    differences = products.sum(dim=1) + bias[negatives] - bias[positives]
    # Not `softplus`, which is the identity from 20 on.
    losses = torch.logaddexp(differences, torch.zeros_like(differences))
    penalties = plan.settings.l2_weight * ego[torch.cat([users, positives, negatives])] ** 2
    loss = (losses.sum() + penalties.sum()) / max(len(users), 1)
    return loss, *torch.autograd.grad(loss, tables)


def prepare_coarse(
    norm_adjacency: Tensor, coarse_assignment: Tensor, n_users: int, settings: Any
) -> Any:
    require_sizes(norm_adjacency, coarse_assignment, n_users, settings)
    graph = expanded(norm_adjacency, coarse_assignment)
    return CoarsePlan(graph, coarse_assignment, n_users, settings)


def embed_coarse(plan: CoarsePlan, coarse: Tensor) -> Tensors:
    graph, coarse_assignment, _, settings = plan
    require_shape("coarse", coarse, (settings.n_coarse, settings.dim))
    return propagate_coarse(graph, settings.n_layers, ego_embed(coarse_assignment, coarse), coarse)


def coarse_loss_and_grad(
    plan: CoarsePlan, coarse: Tensor, bias: Tensor, triples: Triples
) -> Tensors:
    return loss_and_grad(plan, embed_coarse, (coarse, bias), triples)


def prepare_fine(
    norm_adjacency: Tensor,
    coarse_assignment: Tensor,
    fine_assignment: Tensor,
    n_users: int,
    settings: Any,
) -> Any:
    require_sizes(norm_adjacency, coarse_assignment, n_users, settings)
    graph = expanded(norm_adjacency, coarse_assignment, fine_assignment)
    return FinePlan(graph, coarse_assignment, fine_assignment, n_users, settings)


def embed_fine(plan: FinePlan, coarse: Tensor, fine: Tensor) -> Tensors:
    graph, *assignments, _, settings = plan
    thresholded = soft_threshold(fine, settings.threshold)
    bridged = bridge(plan.fine_assignment, settings.bridge_weight, coarse, thresholded)
    nodes = ego_embed(plan.coarse_assignment, coarse), bridged, thresholded.tanh()
    return propagate_fine(graph, *assignments, settings.bridge_weight, settings.n_layers, *nodes)


def fine_loss_and_grad(
    plan: FinePlan, coarse: Tensor, fine: Tensor, bias: Tensor, triples: Triples
) -> Tensors:
    return loss_and_grad(plan, embed_fine, (coarse, fine, bias), triples)


def keep_top(values: Tensor, k: int) -> Tensor:
    # A stable sort: `torch.topk` promises nothing about ties. `gather` refuses k > columns.
    order = values.sort(dim=1, descending=True, stable=True).indices
    columns = order.gather(1, torch.arange(k).expand(len(values), k))
    places = torch.stack([torch.arange(len(values)).repeat_interleave(k), columns.flatten()])
    return coalesced(places, values.gather(1, columns).flatten(), values.shape)


def refresh_coarse(
    entities: Tensor, coarse: Tensor, coarse_per_entity: int, pinv_rtol: float | None = None
) -> Tensor:
    return keep_top(entities @ torch.linalg.pinv(coarse, rtol=pinv_rtol), coarse_per_entity)


def refresh_fine(
    entities: Tensor,
    coarse: Tensor,
    fine: Tensor,
    fine_per_coarse: int,
    pinv_rtol: float | None = None,
) -> Tensor:
    inverses = (torch.linalg.pinv(table, rtol=pinv_rtol) for table in (coarse, fine))
    coarse_use, fine_use = (entities @ inverse for inverse in inverses)
    return keep_top((coarse_use.T @ fine_use).softmax(dim=1), fine_per_coarse)


def adam_step(
    table: Tensor, grad: Tensor, state: AdamState, lr: float, settings: Any
) -> tuple[Tensor, AdamState]:
    betas = settings.adam_beta1, settings.adam_beta2
    optimiser = torch.optim.Adam([table.requires_grad_()], lr, betas, settings.adam_epsilon)
    table.grad = grad.clamp(-settings.clip_limit, settings.clip_limit)
    moments = {"exp_avg": torch.as_tensor(state.first), "exp_avg_sq": torch.as_tensor(state.second)}
    optimiser.state[table] = {"step": torch.tensor(float(state.n_steps)), **moments}
    optimiser.step()
    return table, AdamState(moments["exp_avg"], moments["exp_avg_sq"], state.n_steps + 1)


OWN = [
    name for name in method.__all__ if getattr(globals().get(name), "__module__", "") == __name__
]
globals().update({name: offered(globals()[name]) for name in OWN})

if __name__ == "__main__":
    report = check(sys.modules[__name__], only=[*OWN, "coarse_steps", "fine_steps"])
    print(*report.lines(), sep="\n")
    sys.exit(0 if report.passed else 1)
