"""One call of every public function, on a model of pairwise different sizes, and tools for inputs.

Graphs of the propagations have no symmetry. What draws at random gets a generator of its own, so
that a call can be repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np
from scipy import sparse

from c2f_ref import method, partition
from support.strategies import Model, draw_model, draw_table, read_only

Path = tuple[int, ...]
"""Where an array stands in (nested) arguments: the place in the tuple, then the place in that."""
Call = tuple[Callable[..., Any], tuple[Any, ...]]


def calls(model: Model | None = None, seed: int = 7) -> dict[str, Call]:
    """Function and arguments by public name, of `method` and of `partition`.

    `metis_partition` is among them only where its optional package is.
    """
    rng = np.random.default_rng(seed)
    m = draw_model((5, 7, 4, 3, 6, 8), rng) if model is None else model
    settings, n_users, n_items, n_all = m.settings, m.n_users, m.n_items, m.n_entities
    n_coarse, n_fine, dim = settings.n_coarse, settings.n_fine, settings.dim
    s_c, s_f, tau, weight = m.coarse_assignment, m.fine_assignment, settings.threshold, 0.2
    plan = method.prepare_coarse(m.norm_adjacency, s_c, n_users, settings)
    fine_plan = method.prepare_fine(m.norm_adjacency, s_c, s_f, n_users, settings)
    ego, of_coarse, of_fine = (draw_table((n, dim), rng) for n in (n_all, n_coarse, n_fine))
    first, second = (draw_table(m.triples.users.shape, rng) for _ in range(2))
    square, fine_square = (_square(n_all + n, rng) for n in (n_coarse, n_coarse + n_fine))
    fine_structure = fine_square, s_c, s_f, weight, settings.n_layers
    labels = read_only(rng.permutation(np.arange(n_all) % n_fine))
    pairs = np.ones(m.users.size), (m.users, m.items)
    seen = read_only(sparse.csr_array(pairs, shape=(n_users, n_items)))
    held_out = read_only(method.keep_top(rng.random((n_users, n_items)), 2))
    ranked = read_only(np.argsort(rng.random((n_users, n_items)), axis=1))
    adam = read_only(method.AdamState(of_coarse, of_coarse[::-1] ** 2, 3))
    some_users = read_only(np.arange(2 * n_users) % n_users)
    scored = ego, m.bias, 0.5, n_users, m.triples.users, m.triples.positives
    batch = m.bias, m.triples
    words = np.array([f"item {number}" for number in range(n_items)])
    positions = np.tile(np.arange(dim)[::-1], (n_coarse, 1))
    model_arrays = words[:n_users], words, seen, m.bias, m.coarse, s_c, m.fine, s_f
    arguments: dict[str, tuple[Any, ...]] = {
        "bipartite": (m.users, m.items, n_users, n_items), "normalise": (square,),
        "expand_coarse": (m.norm_adjacency, s_c), "expand_fine": (m.norm_adjacency, s_c, s_f),
        "top_columns": (ego, 2), "keep_top": (ego, 2), "softmax_rows": (ego,),
        "start_coarse_assignment": (labels % n_coarse, settings), "part_affinity": (labels, n_fine),
        "start_fine_assignment": (s_c, np.abs(draw_table((n_all, n_fine), rng)), 2),
        "pseudo_inverse": (of_coarse, None),
        "refresh_coarse": (ego, of_coarse, settings.coarse_per_entity),
        "refresh_fine": (ego, of_coarse, of_fine, settings.fine_per_coarse),
        "compose": (s_c, m.coarse), "compose_vjp": (s_c, ego), "ego_embed": (s_c, m.coarse),
        "ego_embed_vjp": (s_c, m.coarse, ego), "soft_threshold": (m.fine, tau),
        "soft_threshold_vjp": (m.fine, tau, of_fine), "fine_embed": (m.fine, tau),
        "fine_embed_vjp": (m.fine, tau, of_fine), "bridge": (s_f, weight, m.coarse, of_fine),
        "bridge_vjp": (s_f, weight, of_coarse), "start_coarse": (n_all, settings),
        "start_fine": (m.coarse, settings), "sparse_pca_scores": (ego, 3, 1.0),
        "draw_positions": (3, 2, dim), "scatter_scores": (m.coarse, positions, dim + 3),
        "propagate_coarse": (square, settings.n_layers, ego, of_coarse),
        "propagate_coarse_vjp": (square, settings.n_layers, ego, of_coarse),
        "propagate_fine": (*fine_structure, ego, of_coarse, of_fine),
        "propagate_fine_vjp": (*fine_structure, ego, of_coarse, of_fine), "score_pairs": scored,
        "score_pairs_vjp": (*scored, first), "bpr_loss": (first, second),
        "bpr_loss_vjp": (first, second, 1.5), "ego_penalty": (ego, n_users, m.triples, 0.3),
        "ego_penalty_vjp": (ego, n_users, m.triples, 0.3, 1.5), "start_adam": (m.coarse,),
        "clip": (of_coarse, 0.5), "adam_step": (m.coarse, 2 * of_coarse, adam, 0.05, settings),
        "sample_triples": (seen, 20, 3), "rank_scores": (ego, dim + 2),
        "rank_items": (ego, m.bias, n_users, some_users, seen, min(4, n_items)),
        "rank_by": (lambda users: users[:, None] + np.arange(float(n_items)), some_users, seen, 2),
        "recall_at_k": (ranked, held_out, 2), "ndcg_at_k": (ranked, held_out, 2),
        "mean_metrics": (ranked, held_out, [1, 2]),
        "prepare_coarse": (m.norm_adjacency, s_c, n_users, settings),
        "embed_coarse": (plan, m.coarse), "coarse_loss_and_grad": (plan, m.coarse, *batch),
        "prepare_fine": (m.norm_adjacency, s_c, s_f, n_users, settings),
        "embed_fine": (fine_plan, m.coarse, m.fine),
        "fine_loss_and_grad": (fine_plan, m.coarse, m.fine, *batch), "fine_sparsity": (m.fine, tau),
        "stored_bytes": (settings, *model_arrays),
        "stored_bytes_bound": (settings, n_users, n_items, 8),
        "settings_for_budget": (10_000, 30, 40),
        "total_bytes": ({"coarse": 3, "fine": 5, "bias": 7},), "partition": (m.norm_adjacency, 3),
        "edge_cut": (m.norm_adjacency, labels),
    }  # fmt: skip
    if find_spec("pymetis"):
        arguments["metis_partition"] = m.norm_adjacency, 3
    return {name: (_repeatable(name), given) for name, given in arguments.items()}


def _square(n: int, rng: np.random.Generator) -> Any:
    """A graph whose two directions differ, so that G and G^T cannot be mistaken for each other."""
    values = np.where(rng.random((n, n)) < 0.5, rng.uniform(-0.5, 0.5, (n, n)), 0.0)
    return read_only(sparse.csr_array(values))


def _repeatable(name: str) -> Callable[..., Any]:
    function = getattr(method, name, None) or getattr(partition, name)
    if name == "sparse_pca_scores":
        return partial(function, random_state=0)
    drawing = "start_coarse", "start_fine", "start_coarse_assignment", "draw_positions"
    if name not in (*drawing, "sample_triples", "partition", "metis_partition"):
        return function
    return lambda *given: function(*given, rng=np.random.default_rng(1))


def arrays_of(value: Any) -> list[np.ndarray[Any, Any]]:
    """Every array within a value: of sparse arrays all three, of tuples and dicts all parts."""
    if sparse.issparse(value):
        return [value.data, value.indices, value.indptr]
    if isinstance(value, (tuple, list, dict)):
        parts = value.values() if isinstance(value, dict) else value
        return [array for part in parts for array in arrays_of(part)]
    return [value] if isinstance(value, np.ndarray) else []


def mapped(value: Any, change: Callable[[Any], Any]) -> Any:
    """The same value with every dense and sparse array in it changed; tuples keep their type."""
    if isinstance(value, tuple):
        parts = [mapped(part, change) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    return change(value) if isinstance(value, np.ndarray) or sparse.issparse(value) else value


def array_paths(arguments: tuple[Any, ...], start: Path = ()) -> Iterator[Path]:
    """Where the dense and sparse arrays stand; plans are opaque."""
    for place, value in enumerate(arguments):
        if isinstance(value, np.ndarray) or sparse.issparse(value):
            yield (*start, place)
        elif isinstance(value, tuple) and not hasattr(value, "settings"):
            yield from array_paths(value, (*start, place))


def replaced(arguments: tuple[Any, ...], path: Path, change: Callable[[Any], Any]) -> Any:
    """The same arguments with the array at `path` changed."""
    place, *rest = path
    part = replaced(arguments[place], tuple(rest), change) if rest else change(arguments[place])
    parts = [*arguments[:place], part, *arguments[place + 1 :]]
    return type(arguments)(*parts) if hasattr(arguments, "_fields") else tuple(parts)
