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

from c2f_ref import fast, method
from c2f_ref.evaluation import evaluate_embeddings
from c2f_ref.interactions import Interactions, Split, planted
from c2f_ref.method import Float64Array, IntArray, Settings, Triples
from c2f_ref.partition import partition
from c2f_ref.training import RECIPES, norm_adjacency_of

Call: TypeAlias = Callable[[], Any]
Calls: TypeAlias = dict[str, dict[str, Call]]
"""Operation -> implementation -> a call of no arguments."""
Times: TypeAlias = dict[str, dict[str, list[float]]]
"""Operation -> implementation -> seconds of every repeat."""

COARSE_BATCH, FINE_BATCH, N_NEGATIVES, KS = 8192, 32768, 5, (5, 10, 20, 50)
SLOW_SECONDS = 5.0
"""A call that takes longer than this has one repeat."""
PAIRS_PER_USER, REWIRED_SHARE = 40, 0.3


@dataclass(frozen=True)
class Inputs:
    """A (N, N), S_c (N, C), S_f (C, F), E_c, E_f and b in float64; triples for the larger batch."""

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
    def of(cls, train: Interactions, labels: IntArray, settings: Settings) -> Inputs:
        """Random tables; S_c starts from `labels` (N,) in [0, C), S_f from these merged to F."""
        rng, n_fine = np.random.default_rng(0), settings.n_fine
        coarse_assignment = fast.start_coarse_assignment(labels, settings, rng=rng)
        affinity = method.part_affinity(labels * n_fine // settings.n_coarse, n_fine)
        bridges = fast.start_fine_assignment(coarse_assignment, affinity, settings.fine_per_coarse)
        coarse, bias = method.start_coarse(train.n_entities, settings, rng=rng)
        return cls(
            adjacency=norm_adjacency_of(train, np.float64),
            n_users=train.n_users,
            coarse_assignment=coarse_assignment,
            fine_assignment=bridges,
            coarse=coarse,
            fine=2 * rng.standard_normal((n_fine, settings.dim)),
            bias=bias,
            # One negative per draw: in a batch of a shuffled epoch, hardly any two triples come
            # from the same draw.
            triples=fast.sample_triples(train.matrix(), FINE_BATCH, 1, rng=rng),
            settings=settings,
        )


class Plans(NamedTuple):
    """A in the number type of an implementation, and its plans of both stages."""

    adjacency: sparse.csr_array
    coarse: Any
    fine: Any

    @classmethod
    def of(cls, ops: ModuleType, inputs: Inputs) -> Plans:
        """float64 for the method, float32 for any other."""
        adjacency = inputs.adjacency.astype(np.float64 if ops is method else np.float32)
        assignments, last = (inputs.coarse_assignment, inputs.fine_assignment), inputs.settings
        coarse = ops.prepare_coarse(adjacency, assignments[0], inputs.n_users, last)
        return cls(
            adjacency, coarse, ops.prepare_fine(adjacency, *assignments, inputs.n_users, last)
        )


def operations(
    split: Split, settings: Settings, modules: Mapping[str, ModuleType], torch: Any
) -> Calls:
    """Every operation, and the unit, of everyone who has it; `torch` may be None."""
    graph = norm_adjacency_of(split.train, np.float64)
    labels = partition(graph, settings.n_coarse, rng=np.random.default_rng(0))
    inputs = Inputs.of(split.train, labels, settings)
    # The start of the fine stage is the same code in both implementations.
    calls: Calls = {"fine-start": {"fast": partial(start_fine, inputs)}}
    calls["propagate"] = libraries(inputs, torch)
    for name, ops in modules.items():
        plans = Plans.of(ops, inputs)
        of_one = steps(ops, inputs, plans) | contract(ops, split, inputs, plans)
        for operation, call in of_one.items():
            calls.setdefault(operation, {})[name] = call
    shape = split.train.n_entities, settings.dim
    dense = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    calls["unit"] = {"SciPy": partial(inputs.adjacency.astype(np.float32).__matmul__, dense)}
    return calls


def steps(ops: ModuleType, inputs: Inputs, plans: Plans) -> dict[str, Call]:
    """One training step of each stage: loss, gradient, Adam on both tables that it trains."""
    coarse, fine, bias = inputs.coarse, inputs.fine, inputs.bias
    of_coarse, of_fine, of_bias = map(method.start_adam, (coarse, fine, bias))
    batch = Triples(*(part[:COARSE_BATCH] for part in inputs.triples))

    def adam(*parts: Iterable[Any]) -> list[Any]:
        return [ops.adam_step(*each, 1e-3, inputs.settings) for each in zip(*parts, strict=True)]

    def coarse_step() -> list[Any]:
        _, *grads = ops.coarse_loss_and_grad(plans.coarse, coarse, bias, batch)
        return adam((coarse, bias), grads, (of_coarse, of_bias))

    def fine_step() -> list[Any]:
        _, _, *grads = ops.fine_loss_and_grad(plans.fine, coarse, fine, bias, inputs.triples)
        return adam((fine, bias), grads, (of_fine, of_bias))

    return {"coarse-step": coarse_step, "fine-step": fine_step}


def contract(ops: ModuleType, split: Split, inputs: Inputs, plans: Plans) -> dict[str, Call]:
    """Everything else that training asks an implementation for, as it asks."""
    settings, plan, n_pairs = inputs.settings, plans.coarse, split.train.n_pairs
    seen, held_out = split.train.matrix(), split.valid.matrix()
    entities, _ = ops.embed_coarse(plan, inputs.coarse)

    def prepare(assignment: sparse.csr_array) -> Any:
        return ops.prepare_coarse(plans.adjacency, assignment, inputs.n_users, settings)

    def refresh() -> Any:
        propagated = ops.embed_coarse(plan, inputs.coarse)
        how = settings.coarse_per_entity, settings.pinv_rtol
        return prepare(ops.refresh_coarse(*propagated, *how))

    def sample() -> Triples:
        rng = np.random.default_rng(0)
        return Triples(*ops.sample_triples(seen, n_pairs, N_NEGATIVES, rng=rng))

    return {
        "propagate": lambda: ops.embed_coarse(plan, inputs.coarse),
        "refresh": refresh,
        "ranking": lambda: evaluate_embeddings(entities, inputs.bias, seen, held_out, KS, ops=ops),
        "sampling": sample,
        "preparation": lambda: prepare(inputs.coarse_assignment),
    }


def start_fine(inputs: Inputs) -> tuple[sparse.csr_array, Float64Array]:
    """S_f and E_f as the fine stage of recipe `laptop` starts: parts, affinity, sparse PCA."""
    rng, settings = np.random.default_rng(0), inputs.settings
    labels = partition(inputs.adjacency, settings.n_fine, rng=rng)
    given = inputs.coarse_assignment, method.part_affinity(labels, settings.n_fine)
    assignment = fast.start_fine_assignment(*given, settings.fine_per_coarse)
    solver = RECIPES["laptop"].sparse_pca_solver
    return assignment, fast.start_fine(inputs.coarse, settings, rng=rng, solver=solver)


def libraries(inputs: Inputs, torch: Any) -> dict[str, Call]:
    """The coarse forward pass by SciPy and torch alone, in float32 and CSR form."""
    table, n_layers = inputs.coarse.astype(np.float32), inputs.settings.n_layers
    graph = method.expand_coarse(inputs.adjacency, inputs.coarse_assignment)
    given = graph.astype(np.float32), inputs.coarse_assignment.astype(np.float32)
    calls: dict[str, Call] = {"SciPy": partial(propagated, np, *given, table, n_layers)}
    if torch:
        graph, assignment = (as_torch(torch, matrix) for matrix in given)
        there = torch.from_numpy(table)
        calls["torch"] = partial(propagated, torch, graph, assignment, there, n_layers)
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
    """A CSR matrix of torch with int32 indices, which it multiplies faster than int64 ones."""
    index = (torch.from_numpy(part.astype(np.int32)) for part in (matrix.indptr, matrix.indices))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the format is a beta, it says
        return torch.sparse_csr_tensor(*index, torch.from_numpy(matrix.data), size=matrix.shape)


def communities(
    n_pairs: int, pairs_each: int, *, rng: np.random.Generator
) -> tuple[Interactions, IntArray]:
    """Copies of one planted community side by side, and the copy in which every entity lies, (N,).

    A share of the pairs leads to the item of the same number in a random copy. (`planted` draws a
    dense table of users and items, and so cannot draw large graphs.)
    """
    n_each = pairs_each // PAIRS_PER_USER
    one = planted(n_users=n_each, n_items=n_each, pairs_per_user=PAIRS_PER_USER, rng=rng)
    n_copies = max(round(n_pairs / one.n_pairs), 1)
    home = np.repeat(np.arange(n_copies), one.n_pairs)
    is_moved, away = rng.random(home.size) < REWIRED_SHARE, rng.integers(n_copies, size=home.size)
    users = np.tile(one.users, n_copies) + n_each * home
    items = np.tile(one.items, n_copies) + n_each * np.where(is_moved, away, home)
    copies = np.repeat(np.arange(n_copies), n_each)
    pairs = Interactions.from_indices(users, items, copies.size, copies.size)
    return pairs, np.concatenate([copies, copies])


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
    return {
        operation: {name: taken[1:] for name, taken in of_one.items()}
        for operation, of_one in times.items()
    }
