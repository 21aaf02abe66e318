"""One call of every public function of the specification, on a small model of pairwise different sizes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

import numpy as np
from scipy import sparse

from c2f_ref import spec
from support.strategies import draw_fine, draw_model, draw_table

Path = tuple[int, ...]
"""Where an array stands in (nested) arguments: the place in the tuple, then the place in that one."""


def calls() -> dict[str, tuple[Callable[..., Any], tuple[Any, ...]]]:
    """Function and arguments by public name. What draws at random gets a generator of its own, so a call can be repeated.

    `metis_partition` is among them only where its optional package is.
    """
    rng = np.random.default_rng(7)
    model = draw_model((5, 7, 4, 3, 6, 8), rng)
    n_users, n_items, settings, triples = model.n_users, model.n_items, model.settings, model.triples
    assignments = model.coarse_assignment, model.fine_assignment
    coarse_plan = spec.prepare_coarse(model.norm_adjacency, model.coarse_assignment, n_users, settings)
    fine_plan = spec.prepare_fine(model.norm_adjacency, *assignments, n_users, settings)
    labels = rng.permutation(np.arange(model.n_entities) % settings.n_fine)
    entities, other = (draw_table((model.n_entities, settings.dim), rng) for _ in range(2))
    fine, fine_grad = draw_fine((settings.n_fine, settings.dim), settings.threshold, rng), draw_table((3, 6), rng)
    coarse, coarse_grad, bias = model.coarse, draw_table((4, 6), rng), model.bias
    positive, negative = draw_table((8,), rng), draw_table((8,), rng)
    seen = sparse.csr_array((np.ones(model.users.size), (model.users, model.items)), shape=(n_users, n_items))
    held_out = sparse.csr_array(np.eye(n_users, n_items) + np.eye(n_users, n_items, 1))
    ranked = np.argsort(rng.random((n_users, n_items)), axis=1)[:, :6]
    propagate = fine_plan.graph, *assignments, 0.2, 2
    words = np.array([f"item {number}" for number in range(n_items)])
    adam = spec.AdamState(draw_table((4, 6), rng), draw_table((4, 6), rng) ** 2, 3)

    def seeded(function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *arguments: function(*arguments, rng=np.random.default_rng(1))

    metis = {"metis_partition": (seeded(spec.metis_partition), (model.norm_adjacency, 3))} if find_spec("pymetis") else {}
    return metis | {
        "adam_step": (spec.adam_step, (coarse, coarse_grad, adam, 0.01, settings)),
        "bipartite": (spec.bipartite, (model.users, model.items, n_users, n_items)),
        "bpr_loss": (spec.bpr_loss, (positive, negative)),
        "bpr_loss_vjp": (spec.bpr_loss_vjp, (positive, negative, 2.0)),
        "bridge": (spec.bridge, (model.fine_assignment, 0.2, coarse, fine)),
        "bridge_vjp": (spec.bridge_vjp, (model.fine_assignment, 0.2, coarse_grad)),
        "clip": (spec.clip, (coarse, 0.5)),
        "coarse_loss_and_grad": (spec.coarse_loss_and_grad, (coarse_plan, coarse, bias, triples)),
        "compose": (spec.compose, (model.coarse_assignment, coarse)),
        "compose_vjp": (spec.compose_vjp, (model.coarse_assignment, entities)),
        "draw_positions": (seeded(spec.draw_positions), (3, 4, 6)),
        "edge_cut": (spec.edge_cut, (model.norm_adjacency, labels)),
        "ego_embed": (spec.ego_embed, (model.coarse_assignment, coarse)),
        "ego_embed_vjp": (spec.ego_embed_vjp, (model.coarse_assignment, coarse, entities)),
        "ego_penalty": (spec.ego_penalty, (entities, n_users, triples, 0.3)),
        "ego_penalty_vjp": (spec.ego_penalty_vjp, (entities, n_users, triples, 0.3, 1.0)),
        "embed_coarse": (spec.embed_coarse, (coarse_plan, coarse)),
        "embed_fine": (spec.embed_fine, (fine_plan, coarse, fine)),
        "expand_coarse": (spec.expand_coarse, (model.norm_adjacency, model.coarse_assignment)),
        "expand_fine": (spec.expand_fine, (model.norm_adjacency, *assignments)),
        "fine_embed": (spec.fine_embed, (fine, settings.threshold)),
        "fine_embed_vjp": (spec.fine_embed_vjp, (fine, settings.threshold, fine_grad)),
        "fine_loss_and_grad": (spec.fine_loss_and_grad, (fine_plan, coarse, fine, bias, triples)),
        "keep_top": (spec.keep_top, (entities, 4)),
        "mean_metrics": (spec.mean_metrics, (ranked, held_out, [2, 5])),
        "ndcg_at_k": (spec.ndcg_at_k, (ranked, held_out, 5)),
        "normalise": (spec.normalise, (model.norm_adjacency,)),
        "part_affinity": (spec.part_affinity, (labels, 3)),
        "partition": (seeded(spec.partition), (model.norm_adjacency, 3)),
        "prepare_coarse": (spec.prepare_coarse, (model.norm_adjacency, model.coarse_assignment, n_users, settings)),
        "prepare_fine": (spec.prepare_fine, (model.norm_adjacency, *assignments, n_users, settings)),
        "propagate_coarse": (spec.propagate_coarse, (coarse_plan.graph, 2, entities, coarse)),
        "propagate_coarse_vjp": (spec.propagate_coarse_vjp, (coarse_plan.graph, 2, entities, coarse)),
        "propagate_fine": (spec.propagate_fine, (*propagate, entities, coarse, fine)),
        "propagate_fine_vjp": (spec.propagate_fine_vjp, (*propagate, entities, coarse, fine)),
        "pseudo_inverse": (spec.pseudo_inverse, (coarse, None)),
        "rank_by": (
            lambda users, seen: spec.rank_by(lambda u: u[:, None] + np.arange(7.0), users, seen, 3),
            (np.arange(5), seen),
        ),
        "rank_items": (spec.rank_items, (entities, bias, n_users, np.array([3, 0, 3]), seen, 4)),
        "rank_scores": (spec.rank_scores, (entities, 8)),
        "recall_at_k": (spec.recall_at_k, (ranked, held_out, 5)),
        "refresh_coarse": (spec.refresh_coarse, (entities, coarse, 2)),
        "refresh_fine": (spec.refresh_fine, (entities, coarse, fine, 2)),
        "sample_triples": (seeded(spec.sample_triples), (seen, 20, 3)),
        "scatter_scores": (spec.scatter_scores, (coarse, np.tile(np.arange(6)[::-1], (4, 1)), 9)),
        "score_pairs": (spec.score_pairs, (entities, bias, 0.5, n_users, triples.users, triples.positives)),
        "score_pairs_vjp": (
            spec.score_pairs_vjp,
            (entities, bias, 0.5, n_users, triples.users, triples.positives, positive),
        ),
        "soft_threshold": (spec.soft_threshold, (fine, settings.threshold)),
        "soft_threshold_vjp": (spec.soft_threshold_vjp, (fine, settings.threshold, fine_grad)),
        "softmax_rows": (spec.softmax_rows, (other,)),
        "sparse_pca_scores": (lambda rows: spec.sparse_pca_scores(rows, 3, 1.0, random_state=0), (other,)),
        "fine_sparsity": (spec.fine_sparsity, (fine, settings.threshold)),
        "stored_bytes": (
            spec.stored_bytes,
            (settings, words[:5], words, seen, bias, coarse, model.coarse_assignment, fine, model.fine_assignment),
        ),
        "stored_bytes_bound": (spec.stored_bytes_bound, (settings, 5, 7, 8)),
        "total_bytes": (spec.total_bytes, ({"coarse": 3, "fine": 5, "bias": 7},)),
        "start_adam": (spec.start_adam, (coarse,)),
        "start_coarse": (seeded(spec.start_coarse), (12, settings)),
        "start_coarse_assignment": (seeded(spec.start_coarse_assignment), (labels, settings)),
        "start_fine": (seeded(spec.start_fine), (coarse, settings)),
        "start_fine_assignment": (spec.start_fine_assignment, (model.coarse_assignment, np.abs(entities), 2)),
        "top_columns": (spec.top_columns, (entities, 3)),
    }


def arrays_of(value: Any) -> list[np.ndarray[Any, Any]]:
    """Every array within a value: of sparse arrays all three, of tuples, lists and dicts those of their parts."""
    if sparse.issparse(value):
        return [value.data, value.indices, value.indptr]
    if isinstance(value, dict):
        value = tuple(value.values())
    if isinstance(value, (tuple, list)):
        return [array for part in value for array in arrays_of(part)]
    return [value] if isinstance(value, np.ndarray) else []


def mapped(value: Any, change: Callable[[Any], Any]) -> Any:
    """The same value with every dense and sparse array in it changed; tuples keep their type."""
    if isinstance(value, tuple):
        parts = [mapped(part, change) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    return change(value) if isinstance(value, np.ndarray) or sparse.issparse(value) else value


def array_paths(arguments: tuple[Any, ...], start: Path = ()) -> Iterator[Path]:
    """Where the dense and sparse arrays stand; a plan is the implementation's own and is not looked into."""
    for place, value in enumerate(arguments):
        if isinstance(value, np.ndarray) or sparse.issparse(value):
            yield (*start, place)
        elif isinstance(value, tuple) and not isinstance(value, (spec.CoarsePlan, spec.FinePlan)):
            yield from array_paths(value, (*start, place))


def replaced(arguments: tuple[Any, ...], path: Path, change: Callable[[Any], Any]) -> tuple[Any, ...]:
    """The same arguments with the array at `path` changed."""
    place, *rest = path
    part = replaced(arguments[place], tuple(rest), change) if rest else change(arguments[place])
    parts = [*arguments[:place], part, *arguments[place + 1 :]]
    return type(arguments)(*parts) if hasattr(arguments, "_fields") else tuple(parts)
