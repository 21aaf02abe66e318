"""The schedule that both stages share: epochs of sampled triples, two phases with patience, the best model by validation."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import replace
from types import ModuleType
from typing import Any, Unpack, cast

import numpy as np

from ..interactions import Split
from ..spec import Float64Array, Settings, SpecError, Triples
from ..threads import at_most, one_blas_thread
from .evaluation import evaluate_embeddings
from .negatives import hardest_negatives
from .recipes import Schedule
from .stages import Stage, Tables, default_ops, norm_adjacency_of
from .state import Callbacks, Estimate, Evaluation, Progress, Snapshot, StageResult, State

SMALL = 2**20
"""Pairs times dimensions below which one thread trains: two would gain a quarter of a millisecond a step on an idle machine, and
lose twenty where it has other work, waiting for each other."""
STEPS_PER_CHOICE = 10
"""For so many steps negatives are chosen by the embeddings before the first of them."""


def run_stage(
    stage: Stage,
    state: State,
    split: Split,
    settings: Settings,
    schedule: Schedule,
    *,
    ops: ModuleType | None = None,
    **callbacks: Unpack[Callbacks],
) -> StageResult:
    """Train the tables of one stage from where they are, and return the best model by validation NDCG.

    Validation comes before the training of epochs 0, `evaluate_every`, ...; better means strictly greater. Phase 1 keeps the
    assignment until `patience` evaluations in a row have not improved, or `max_fixed_epochs` have passed; that very epoch then
    trains in phase 2, with Adam's state kept, which refreshes the assignment in the first batch of every epoch, from that
    batch's forward pass and before its gradient step. The best model of phase 2 is the result, even where phase 1 had a
    higher figure. With a `disjoint_share` an epoch of phase 2 propagates over a part of the training pairs and learns from the
    others; refreshes and evaluations propagate over all of them.

    What follows the last evaluation could choose no model and is left out.

    `on_state` gets a state after every evaluation; this function goes on from any of them to the same bytes.

    Edge: a stage that ends before phase 2 was evaluated gives the best of phase 1.
    Errors: SpecError for a split without training or without validation pairs, and where numbers grow beyond all bounds.
    Source: coarse stage, step 7; fine stage, step 7.
    """
    require_pairs(split)
    is_small = split.train.n_pairs * settings.dim < SMALL
    with one_blas_thread(), at_most(1 if is_small else None):
        run = _Run(stage, state, split, settings, schedule, ops or default_ops(), callbacks)
        if not state.is_finished:
            run.estimate(state)
        while not state.is_finished:
            is_due = state.epoch % schedule.evaluate_every == 0 and not state.is_evaluated
            state = run.evaluate(state) if is_due else run.train_epoch(state)
    chosen = state.best or state.best_fixed
    assert chosen is not None  # epoch 0 is always evaluated
    best_fixed = state.best if state.phase == 1 else state.best_fixed
    return StageResult(chosen, best_fixed, state.evaluations, state.epoch, state.n_steps)


class _Run:
    """One call of `run_stage`: what stays the same, the plan and the generator at work."""

    def __init__(
        self,
        stage: Stage,
        state: State,
        split: Split,
        settings: Settings,
        schedule: Schedule,
        ops: ModuleType,
        callbacks: Callbacks,
    ) -> None:
        self.stage, self.settings, self.schedule, self.ops, self.callbacks = stage, settings, schedule, ops, callbacks
        self.train, self.seen, self.held_out = split.train, split.train.matrix(), split.valid.matrix()
        self.n_draws = schedule.draws_per_epoch or split.train.n_pairs
        self.max_steps = schedule.last_evaluation * schedule.steps_per_epoch(split.train.n_pairs)
        self.plan = stage.prepare(state.assignment)
        bits = getattr(np.random, state.rng["bit_generator"])()
        bits.state = state.rng
        self.rng = np.random.Generator(bits)
        self.losses: list[float] = []
        self.began = time.perf_counter() - (state.evaluations[-1].seconds if state.evaluations else 0.0)

    @property
    def seconds(self) -> float:
        """Since the stage began, without the time between a stop and its resumption."""
        return time.perf_counter() - self.began

    def tell(self, callback: str, event: Any) -> None:
        listener = self.callbacks.get(callback)
        if listener:
            listener(event)  # type: ignore[operator]

    @contextmanager
    def ending_by_name(self, state: State) -> Iterator[None]:
        """Numbers that grow beyond all bounds end the stage, with its name and how far it came."""
        try:
            yield
        except SpecError as error:
            told = f"the {self.stage.name} stage ends after {state.n_steps} steps, lower rates may help: {error}"
            raise SpecError(told) from error

    def judge(self, tables: Tables) -> tuple[float, float, Tables]:
        """(validation NDCG, factor of b, tables with it): the best of the schedule's factors, the first of them where some tie."""
        k, entities = self.schedule.selection_k, self.stage.embed(self.plan, tables)
        judged = []
        for scale in self.schedule.bias_scales:
            bias = tables[-1] * tables[-1].dtype.type(scale)
            metrics = evaluate_embeddings(entities, bias, self.seen, self.held_out, (k,), ops=self.ops)
            judged.append((metrics[f"ndcg@{k}"], scale, (*tables[:-1], bias)))
        return max(judged, key=lambda each: each[0])

    def evaluate(self, state: State) -> State:
        """The state with an evaluation of its tables: the best model, misses, the phase, and whether that was all."""
        schedule = self.schedule
        with self.ending_by_name(state):
            ndcg, bias_scale, tables = self.judge(state.tables)
        is_best = state.best is None or ndcg > state.best.ndcg
        best = Snapshot(tables, state.assignment, ndcg, state.epoch, state.n_steps) if is_best else state.best
        n_misses = 0 if is_best else state.n_misses + 1
        told = Evaluation(
            stage=self.stage.name,
            phase=state.phase,
            epoch=state.epoch,
            n_steps=state.n_steps,
            max_steps=self.max_steps,
            n_refreshes=state.n_refreshes,
            loss=float(np.mean(self.losses)) if self.losses else None,
            ndcg=ndcg,
            is_best=is_best,
            seconds=self.seconds,
            bias_scale=bias_scale,
        )
        self.losses = []
        state = replace(state, best=best, n_misses=n_misses, evaluations=(*state.evaluations, told))
        is_over = n_misses == schedule.patience
        is_late = schedule.max_fixed_epochs is not None and state.epoch >= schedule.max_fixed_epochs
        if state.phase == 1 and (is_over or is_late):
            state, is_over = replace(state, phase=2, n_misses=0, best_fixed=best, best=None), False
        state = replace(state, is_finished=is_over or state.epoch == schedule.last_evaluation)
        self.tell("on_evaluation", told)
        self.tell("on_state", state)
        return state

    def chosen(self, batch: Triples, tables: Tables, entities: Float64Array | None) -> Triples:
        """The batch, its negatives as drawn or, where embeddings are given, chosen by these."""
        if entities is None:
            return batch
        return hardest_negatives(batch, entities, tables[-1], self.seen, self.schedule.n_candidates, ops=self.ops)

    def begin_epoch(self, state: State) -> tuple[Stage, Any, Triples]:
        """What the epoch learns from: the stage on the graph that it has, the plan of that, and triples.

        With a `disjoint_share` in phase 2, the positives are those of as many training pairs, and the graph is of all others.
        """
        n_negatives, share = self.schedule.n_negatives, self.schedule.disjoint_share
        is_apart = np.zeros(self.train.n_pairs, dtype=np.bool_)
        if state.phase == 2 and share > 0:
            is_apart = self.rng.random(self.train.n_pairs) < share
        if not is_apart.any():
            return self.stage, self.plan, self.ops.sample_triples(self.seen, self.n_draws, n_negatives, rng=self.rng)
        adjacency = norm_adjacency_of(self.train.select(~is_apart), self.stage.norm_adjacency.dtype)
        stage: Stage = replace(cast(Any, self.stage), norm_adjacency=adjacency)
        triples = self.ops.sample_triples(self.train.select(is_apart).matrix(), self.n_draws, n_negatives, rng=self.rng)
        if triples.users.size:  # SciPy looks nothing up as a sparse array
            is_unseen = np.ravel(self.seen[triples.users, triples.negatives]) == 0
            triples = Triples(*(part[is_unseen] for part in triples))
        return stage, stage.prepare(state.assignment, self.plan), triples

    def train_epoch(self, state: State, most: int | None = None) -> State:
        """The state after the training of one epoch, or of its first steps, so many at most."""
        stage, plan, triples = self.begin_epoch(state)
        chooses, entities = state.phase == 2 and self.schedule.n_candidates > 1, None
        for number, start in enumerate(range(0, triples.users.size, self.schedule.batch)[:most]):
            batch = Triples(*(part[start : start + self.schedule.batch] for part in triples))
            with self.ending_by_name(state):
                if chooses and number % STEPS_PER_CHOICE == 0:
                    entities = stage.embed(plan, state.tables)
                loss, grads = stage.loss_and_grad(plan, state.tables, self.chosen(batch, state.tables, entities))
                if state.phase == 2 and start == 0:
                    # The gradient above is that of the pass made with the old assignment.
                    assignment = self.stage.refresh(self.plan, state.tables)
                    self.plan = self.stage.prepare(assignment, self.plan)
                    plan = self.plan if stage is self.stage else stage.prepare(assignment, plan)
                    state = replace(state, assignment=assignment, n_refreshes=state.n_refreshes + 1)
                lr = self.schedule.lr_at(state.n_steps, self.max_steps)
                rates = [lr] * (len(grads) - 1) + [lr * self.schedule.bias_lr]
                trained = zip(state.tables, grads, state.moments, rates, strict=True)
                tables, moments = zip(*(self.ops.adam_step(*each, self.settings) for each in trained), strict=True)
            state = replace(state, tables=tables, moments=moments, n_steps=state.n_steps + 1)
            self.losses.append(loss)
            progress = Progress(self.stage.name, state.phase, state.epoch, state.n_steps, self.max_steps, loss, self.seconds)
            self.tell("on_step", progress)
        return replace(state, rng=dict(self.rng.bit_generator.state), epoch=state.epoch + 1)

    def estimate(self, state: State) -> None:
        """Tell how long the rest can take, from an evaluation and the beginning of an epoch of phase 2 that leave no trace."""
        if not self.callbacks.get("on_estimate"):
            return
        trial, told, later = copy(self), list[Progress](), replace(state, phase=2)
        trial.callbacks, trial.losses, trial.rng = {"on_step": told.append}, [], np.random.default_rng(0)
        trial.train_epoch(later, 1)  # compiles, and makes work buffers
        told.clear()
        began = self.seconds
        trial.train_epoch(later, 1 + STEPS_PER_CHOICE)
        seconds, began = self.seconds - began, self.seconds
        self.judge(state.tables)
        evaluation_seconds = self.seconds - began
        step_seconds = (told[-1].seconds - told[0].seconds) / (len(told) - 1) if len(told) > 1 else 0.0
        n_epochs = self.schedule.last_evaluation - state.epoch
        estimate = Estimate(
            stage=self.stage.name,
            step_seconds=step_seconds,
            epoch_seconds=max(seconds - len(told) * step_seconds, 0.0),
            evaluation_seconds=evaluation_seconds,
            max_steps=self.max_steps - state.n_steps,
            max_epochs=n_epochs,
            max_evaluations=n_epochs // self.schedule.evaluate_every + (not state.is_evaluated),
        )
        self.tell("on_estimate", estimate)


def require_pairs(split: Split) -> None:
    """Raise SpecError for a split without training or without validation pairs."""
    for name, part in (("training", split.train), ("validation", split.valid)):
        if part.n_pairs == 0:
            raise SpecError(f"training needs at least one {name} pair, got none; the split is: {split.describe()}")
