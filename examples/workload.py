"""What `benchmark.py` times: inputs, the calls made with them, and the clock."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from scipy import sparse

from c2f_ref import fast, spec
from c2f_ref.interactions import Interactions, Split, planted
from c2f_ref.spec import Float64Array, IntArray, Settings, Triples
from c2f_ref.training import RECIPES, evaluate_embeddings

Call: TypeAlias = Callable[[], Any]
Calls: TypeAlias = dict[str, dict[str, Call]]
"""Operation -> implementation -> a call of no arguments."""
Times: TypeAlias = dict[str, dict[str, list[float]]]
"""Operation -> implementation -> seconds of every repeat."""

COARSE_BATCH, FINE_BATCH, N_NEGATIVES, KS = 8192, 32768, 5, (5, 10, 20, 50)
SLOW_SECONDS = 5.0
"""What takes longer than this has one repeat."""
PAIRS_PER_USER, REWIRED_SHARE = 40, 0.3


@dataclass(frozen=True)
class Given:
    """What implementations are given: A (N, N), S_c (N, C), S_f (C, F), E_c, E_f and b in float64, triples for the larger batch."""

    adjacency: sparse.csr_array
    n_users: int
    coarse_assignment: sparse.csr_array
    fine_assignment: sparse.csr_array
    coarse: Float64Array
    fine: Float64Array
    bias: Float64Array
    triples: Triples
    settings: Settings

    @classmethod
    def of(cls, train: Interactions, labels: IntArray, settings: Settings) -> Given:
        """Tables at random; S_c starts from `labels` (N,) in [0, C), S_f from these merged to F parts."""
        rng = np.random.default_rng(0)
        coarse_assignment = fast.start_coarse_assignment(labels, settings, rng=rng)
        affinity = spec.part_affinity(labels * settings.n_fine // settings.n_coarse, settings.n_fine)
        coarse, bias = spec.start_coarse(train.n_entities, settings, rng=rng)
        return cls(
            adjacency=spec.normalise(spec.bipartite(train.users, train.items, train.n_users, train.n_items)),
            n_users=train.n_users,
            coarse_assignment=coarse_assignment,
            fine_assignment=fast.start_fine_assignment(coarse_assignment, affinity, settings.fine_per_coarse),
            coarse=coarse,
            fine=2 * rng.standard_normal((settings.n_fine, settings.dim)),
            bias=bias,
            # One negative a draw: in a batch of a shuffled epoch, hardly any two triples come from the same draw.
            triples=fast.sample_triples(train.matrix(), FINE_BATCH, 1, rng=rng),
            settings=settings,
        )


class Plans(NamedTuple):
    """A in the number type of an implementation, and what that keeps for each stage."""

    adjacency: sparse.csr_array
    coarse: Any
    fine: Any

    @classmethod
    def of(cls, ops: ModuleType, given: Given) -> Plans:
        """float64 for the specification, float32 for any other."""
        adjacency = given.adjacency.astype(np.float64 if ops is spec else np.float32)
        coarse = ops.prepare_coarse(adjacency, given.coarse_assignment, given.n_users, given.settings)
        assignments = given.coarse_assignment, given.fine_assignment
        return cls(adjacency, coarse, ops.prepare_fine(adjacency, *assignments, given.n_users, given.settings, coarse))


def operations(split: Split, settings: Settings, modules: Mapping[str, ModuleType], torch: Any) -> Calls:
    """Every operation, and the unit, of everyone who has it. `modules` has `fast` at least; `torch` may be None."""
    train = split.train
    graph = spec.bipartite(train.users, train.items, train.n_users, train.n_items)
    given = Given.of(train, spec.partition(graph, settings.n_coarse, rng=np.random.default_rng(0)), settings)
    plans = {name: Plans.of(ops, given) for name, ops in modules.items()}
    # The start of the fine stage is the same code in both.
    calls: Calls = {
        "propagate": libraries(given, plans["fast"].coarse.where.order, torch),
        "fine-start": {"fast": partial(start_fine, given)},
    }
    for name, ops in modules.items():
        for operation, call in (steps(ops, given, plans[name]) | contract(ops, split, given, plans[name])).items():
            calls.setdefault(operation, {})[name] = call
    dense = np.random.default_rng(0).standard_normal((train.n_entities, settings.dim)).astype(np.float32)
    calls["unit"] = {"SciPy": partial(given.adjacency.astype(np.float32).__matmul__, dense)}
    return calls


def steps(ops: ModuleType, given: Given, plans: Plans) -> dict[str, Call]:
    """One training step of each stage: loss, gradient, Adam on both tables that the stage trains."""
    coarse, fine, bias = given.coarse, given.fine, given.bias
    moments = {name: spec.start_adam(table) for name, table in (("coarse", coarse), ("fine", fine), ("bias", bias))}
    batch = Triples(*(part[:COARSE_BATCH] for part in given.triples))

    def adam(*parts: Iterable[Any]) -> list[Any]:
        return [ops.adam_step(*each, 1e-3, given.settings) for each in zip(*parts, strict=True)]

    def coarse_step() -> list[Any]:
        _, *grads = ops.coarse_loss_and_grad(plans.coarse, coarse, bias, batch)
        return adam((coarse, bias), grads, (moments["coarse"], moments["bias"]))

    def fine_step() -> list[Any]:
        _, _, *grads = ops.fine_loss_and_grad(plans.fine, coarse, fine, bias, given.triples)
        return adam((fine, bias), grads, (moments["fine"], moments["bias"]))

    return {"coarse-step": coarse_step, "fine-step": fine_step}


def contract(ops: ModuleType, split: Split, given: Given, plans: Plans) -> dict[str, Call]:
    """Everything else that training asks an implementation for, as it asks."""
    settings, plan = given.settings, plans.coarse
    seen, held_out = split.train.matrix(), split.valid.matrix()
    entities, _ = ops.embed_coarse(plan, given.coarse)

    def refresh() -> Any:
        propagated = ops.embed_coarse(plan, given.coarse)
        assignment = ops.refresh_coarse(*propagated, settings.coarse_per_entity, settings.pinv_rtol)
        return ops.prepare_coarse(plans.adjacency, assignment, given.n_users, settings, plan)

    return {
        "propagate": lambda: ops.embed_coarse(plan, given.coarse),
        "refresh": refresh,
        "ranking": lambda: evaluate_embeddings(entities, given.bias, seen, held_out, KS, ops=ops),
        "sampling": lambda: ops.sample_triples(seen, split.train.n_pairs, N_NEGATIVES, rng=np.random.default_rng(0)),
        "preparation": lambda: ops.prepare_coarse(plans.adjacency, given.coarse_assignment, given.n_users, settings),
    }


def start_fine(given: Given) -> tuple[sparse.csr_array, Float64Array]:
    """S_f and E_f as the fine stage of recipe `laptop` starts: partition, affinity, sparse PCA."""
    rng, settings = np.random.default_rng(0), given.settings
    affinity = spec.part_affinity(spec.partition(given.adjacency, settings.n_fine, rng=rng), settings.n_fine)
    assignment = fast.start_fine_assignment(given.coarse_assignment, affinity, settings.fine_per_coarse)
    return assignment, fast.start_fine(given.coarse, settings, rng=rng, method=RECIPES["laptop"].sparse_pca_method)


def libraries(given: Given, order: IntArray, torch: Any) -> dict[str, Call]:
    """The coarse forward pass without this package, in float32 and CSR form: SciPy and torch as given, and SciPy in `order`."""
    table, n_layers = given.coarse.astype(np.float32), given.settings.n_layers

    def matrices(order: IntArray) -> tuple[sparse.csr_array, sparse.csr_array]:
        assignment = given.coarse_assignment[order]
        graph = spec.expand_coarse(given.adjacency[order][:, order], assignment)
        return graph.astype(np.float32), assignment.astype(np.float32)

    graph, assignment = matrices(np.arange(order.size))
    calls: dict[str, Call] = {
        "SciPy": partial(propagated, np, graph, assignment, table, n_layers),
        "renumbered": partial(propagated, np, *matrices(order), table, n_layers),
    }
    if torch:
        there = as_torch(torch, graph), as_torch(torch, assignment), torch.from_numpy(table)
        calls["torch"] = partial(propagated, torch, *there, n_layers)
    return calls


def propagated(library: Any, graph: Any, assignment: Any, coarse: Any, n_layers: int) -> Any:
    """The coarse forward pass as one would write it with NumPy or torch: nodes (N + C, D)."""
    nodes = library.concatenate([library.tanh(assignment @ coarse), coarse])
    total = nodes
    for _ in range(n_layers):
        nodes = graph @ nodes
        total = total + nodes
    return total / (n_layers + 1)


def as_torch(torch: Any, matrix: sparse.csr_array) -> Any:
    """`matrix` as torch has it, with int32 indices, which it multiplies faster than int64 ones."""
    indptr, indices = (torch.from_numpy(part.astype(np.int32)) for part in (matrix.indptr, matrix.indices))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the format is a beta, it says
        return torch.sparse_csr_tensor(indptr, indices, torch.from_numpy(matrix.data), size=matrix.shape)


def communities(n_pairs: int, pairs_each: int, *, rng: np.random.Generator) -> tuple[Interactions, IntArray]:
    """Copies of one planted community side by side, and the copy in which every entity lies, (N,).

    A share of the pairs leads to the item of the same number in a random copy. (`planted` draws a dense table of users and
    items, and so cannot draw large graphs.)
    """
    n_each = pairs_each // PAIRS_PER_USER
    one = planted(n_users=n_each, n_items=n_each, pairs_per_user=PAIRS_PER_USER, rng=rng)
    n_copies = max(round(n_pairs / one.n_pairs), 1)
    home = np.repeat(np.arange(n_copies), one.n_pairs)
    away = np.where(rng.random(home.size) < REWIRED_SHARE, rng.integers(n_copies, size=home.size), home)
    users, items = np.tile(one.users, n_copies) + n_each * home, np.tile(one.items, n_copies) + n_each * away
    copies = np.repeat(np.arange(n_copies), n_each)
    return Interactions.from_indices(users, items, copies.size, copies.size), np.concatenate([copies, copies])


def timed(calls: Calls, repeats: int) -> Times:
    """Seconds of every call, in turns, without those of a first turn that compiles."""
    times: Times = {operation: {name: [] for name in of_one} for operation, of_one in calls.items()}
    for turn in range(repeats + 1):
        for operation, of_one in calls.items():
            for name, call in of_one.items():
                taken = times[operation][name]
                if turn > 1 and taken[1] > SLOW_SECONDS:
                    continue
                began = time.perf_counter()
                call()
                taken.append(time.perf_counter() - began)
    return {operation: {name: taken[1:] for name, taken in of_one.items()} for operation, of_one in times.items()}
