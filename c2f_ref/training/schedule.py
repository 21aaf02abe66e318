"""The schedule that both stages share: epochs of sampled triples, two phases with patience, the best model by validation."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType

import numpy as np
from scipy import sparse

from .. import spec
from ..interactions import Split
from ..spec import AdamState, Float64Array, Settings, SpecError, Triples
from .recipes import Recipe
from .stages import Stage, Tables


@dataclass(frozen=True)
class Snapshot:
    """A model of one stage as it was at an evaluation: its trained tables, its assignment, and how good they were."""

    tables: Tables
    assignment: sparse.csr_array
    ndcg: float
    epoch: int
    n_steps: int


@dataclass(frozen=True)
class Evaluation:
    """What `on_evaluation` is told: where training stands, the validation NDCG, and seconds since the stage began.

    `loss` is the mean since the last evaluation, None before the first step.
    """

    stage: str
    phase: int
    epoch: int
    n_steps: int
    max_steps: int
    loss: float | None
    ndcg: float
    is_best: bool
    seconds: float


@dataclass(frozen=True)
class Progress:
    """What `on_step` is told after every step: how many there were of the most there can be, seconds since the stage began."""

    stage: str
    phase: int
    epoch: int
    n_steps: int
    max_steps: int
    loss: float
    seconds: float


@dataclass(frozen=True)
class StageResult:
    """The chosen model of a stage, the best one of its first phase (None if it began in the second), and the whole run.

    `last_epoch` is the epoch in which training ended and `n_steps` counts all steps made, those after the best model too.
    """

    best: Snapshot
    best_fixed: Snapshot | None
    evaluations: tuple[Evaluation, ...]
    last_epoch: int
    n_steps: int


def run_stage(
    stage: Stage,
    tables: Tables,
    assignment: sparse.csr_array,
    split: Split,
    settings: Settings,
    recipe: Recipe,
    *,
    rng: np.random.Generator,
    ops: ModuleType = spec,
    first_phase: int = 1,
    on_evaluation: Callable[[Evaluation], None] | None = None,
    on_step: Callable[[Progress], None] | None = None,
) -> StageResult:
    """Train the tables of one stage from where they are, and return the best model by validation NDCG.

    Validation comes before the training of epochs 0, `evaluate_every`, ...; better means strictly greater. Phase 1 keeps the
    assignment until `patience` evaluations in a row have not improved; that very epoch then trains in phase 2, with Adam's
    state kept, which refreshes the assignment in the first batch of every epoch, from that batch's forward pass and before
    its gradient step. The best model of phase 2 is the result, even where phase 1 had a higher figure.

    Edge: a stage that ends before phase 2 was evaluated gives the best of phase 1.
    Errors: SpecError for a split without training or without validation pairs.
    Source: coarse stage, step 7; fine stage, step 7.
    """
    seen, held_out = split.train.matrix(), split.valid.matrix()
    require_pairs(split)
    n_draws = recipe.draws_per_epoch or split.train.n_pairs
    max_steps = recipe.max_epochs * -(-n_draws * recipe.n_negatives // stage.batch)
    metric = f"ndcg@{recipe.selection_k}"
    phase, n_misses, n_steps = first_phase, 0, 0
    best: Snapshot | None = None
    best_fixed: Snapshot | None = None
    moments = tuple(spec.start_adam(table) for table in tables)
    plan = stage.prepare(assignment)
    evaluations: list[Evaluation] = []
    losses: list[float] = []
    began = time.perf_counter()
    for epoch in range(recipe.max_epochs):
        if epoch % recipe.evaluate_every == 0:
            entities = stage.embed(plan, tables)
            ndcg = evaluate_embeddings(entities, tables[-1], seen, held_out, (recipe.selection_k,), ops=ops)[metric]
            is_best = best is None or ndcg > best.ndcg
            if is_best:
                best = Snapshot(tables, assignment, ndcg, epoch, n_steps)
            n_misses = 0 if is_best else n_misses + 1
            loss, losses = float(np.mean(losses)) if losses else None, []
            seconds = time.perf_counter() - began
            evaluations.append(Evaluation(stage.name, phase, epoch, n_steps, max_steps, loss, ndcg, is_best, seconds))
            if on_evaluation:
                on_evaluation(evaluations[-1])
            if n_misses == recipe.patience:
                if phase == 2:
                    break
                phase, n_misses, best_fixed, best = 2, 0, best, None
        triples = ops.sample_triples(seen, n_draws, recipe.n_negatives, rng=rng)
        for start in range(0, triples.users.size, stage.batch):
            batch = Triples(*(part[start : start + stage.batch] for part in triples))
            batch_loss, grads = stage.loss_and_grad(plan, tables, batch)
            if phase == 2 and start == 0:
                # The gradient above is that of the pass made with the old assignment.
                assignment = stage.refresh(plan, tables)
                plan = stage.prepare(assignment, plan)
            tables, moments = _step(ops, tables, grads, moments, stage.lr, settings)
            n_steps += 1
            losses.append(batch_loss)
            if on_step:
                seconds = time.perf_counter() - began
                on_step(Progress(stage.name, phase, epoch, n_steps, max_steps, batch_loss, seconds))
    chosen = best or best_fixed
    assert chosen is not None  # epoch 0 is always evaluated
    return StageResult(chosen, best if phase == 1 else best_fixed, tuple(evaluations), epoch, n_steps)


def evaluate_embeddings(
    entities: Float64Array,
    bias: Float64Array,
    seen: sparse.csr_array,
    held_out: sparse.csr_array,
    ks: Sequence[int],
    *,
    ops: ModuleType = spec,
) -> dict[str, float]:
    """Mean NDCG and recall at every k, over users with a held-out item; all items ranked, seen ones masked.

    Shapes: entities (N, D), bias (N,), seen (U, I), held_out (U, I).
    Errors: SpecError where no user has a held-out item.
    Source: evaluation protocol.
    """
    users = np.flatnonzero(np.diff(held_out.indptr))
    ranked, _ = ops.rank_items(entities, bias, seen.shape[0], users, seen, max(ks))
    return spec.mean_metrics(ranked, held_out[users], ks)


def _step(
    ops: ModuleType, tables: Tables, grads: Tables, moments: tuple[AdamState, ...], lr: float, settings: Settings
) -> tuple[Tables, tuple[AdamState, ...]]:
    stepped = [ops.adam_step(table, grad, state, lr, settings) for table, grad, state in zip(tables, grads, moments, strict=True)]
    return tuple(table for table, _ in stepped), tuple(state for _, state in stepped)


def require_pairs(split: Split) -> None:
    """Raise SpecError for a split without training or without validation pairs."""
    for name, part in (("training", split.train), ("validation", split.valid)):
        if part.n_pairs == 0:
            raise SpecError(f"training needs at least one {name} pair, got none")
