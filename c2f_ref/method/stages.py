"""Both stages as the paper trains them: Adam, two phases, patience, refreshes, the model chosen.

`train_stage` is the training loop of either stage, a generator of states. Printing, checkpoints
and plots are what its caller does with what it yields; what a recipe adds to the paper comes in
through its arguments. Every number that the loop sees comes from an implementation `ops`, a module
with the names of `c2f_ref.method.contract.CONTRACT`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import sqrt
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from . import notation
from .notation import Float64Array, Settings, Triples
from .scores import ndcg_at_k

if TYPE_CHECKING:
    from scipy import sparse

__all__ = [
    "COARSE_SCHEDULE", "FINE_SCHEDULE", "AdamState", "CoarseStage", "Evaluation", "FineStage",
    "Schedule", "Snapshot", "State", "adam_step", "clip", "judge_by_ndcg", "start_adam",
    "start_state", "train_stage",
]  # fmt: skip

Tables: TypeAlias = tuple[Float64Array, ...]
Stage: TypeAlias = Any
"""`CoarseStage`, `FineStage`, or anything with their methods, `name`, `settings` and `ops`."""
Rng: TypeAlias = np.random.Generator
DrawEpoch: TypeAlias = Callable[[Stage, Any, "State", Rng], tuple[Stage, Any, Triples]]
Choose: TypeAlias = Callable[[Stage, Any, "State", Triples, int], Triples]
Judge: TypeAlias = Callable[[Any, Tables], tuple[float, Tables]]


class AdamState(NamedTuple):
    """Moments of one table's gradients, both of the table's shape, and the number of steps made."""

    first: Float64Array
    second: Float64Array
    n_steps: int


def start_adam(table: Float64Array) -> AdamState:
    """Zero moments for `table`, no step made.

    Shapes: table of any shape -> two moments of that shape.
    Source: equation (21); Kingma and Ba, ICLR 2015, algorithm 1.
    """
    return AdamState(np.zeros_like(table), np.zeros_like(table), 0)


def clip(grad: Float64Array, limit: float) -> Float64Array:
    """Every entry cut to [-limit, limit]: by value, not by norm.

    Shapes: any -> the same.
    Edge: limit == inf changes nothing.
    Source: equation (21).
    """
    return np.clip(grad, -limit, limit)


def adam_step(
    table: Float64Array, grad: Float64Array, state: AdamState, lr: float, settings: Settings
) -> tuple[Float64Array, AdamState]:
    """One step of Adam on the clipped gradient: (table, state).

        g = clip(grad)
        m = beta1 m + (1 - beta1) g,        v = beta2 v + (1 - beta2) g^2
        table - lr / (1 - beta1^n) * m / (sqrt(v) / sqrt(1 - beta2^n) + epsilon)

    Shapes: table, grad and both moments of one shape -> the same.
    Edge: an entry with zero gradient and zero moments stays bit for bit.
    Errors: MethodError for shapes that differ or values that are not finite.
    Source: equation (21); Kingma and Ba, ICLR 2015, algorithm 1; epsilon outside the root.
    """
    names = "table", "grad", "first moment", "second moment"
    for name, array in zip(names, (table, grad, state.first, state.second), strict=True):
        notation.require_shape(name, array, table.shape)
        notation.require_finite(name, array)
    grad = clip(grad, settings.clip_limit)
    n_steps = state.n_steps + 1
    first = settings.adam_beta1 * state.first + (1.0 - settings.adam_beta1) * grad
    second = settings.adam_beta2 * state.second + (1.0 - settings.adam_beta2) * grad**2
    step = lr / (1.0 - settings.adam_beta1**n_steps)
    spread = np.sqrt(second) / sqrt(1.0 - settings.adam_beta2**n_steps) + settings.adam_epsilon
    return table - step * first / spread, AdamState(first, second, n_steps)


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long and how fast one stage is trained, as published.

    Source: equation (26).
    """

    batch: int
    """Triples in a step."""
    lr: float
    """Adam's rate, constant."""
    n_negatives: int = 5
    """Unseen items drawn for every drawn pair."""
    max_epochs: int = 900
    """Epochs at most."""
    evaluate_every: int = 5
    """Epochs from one evaluation to the next; the first evaluation is of the untrained model."""
    patience: int = 5
    """Evaluations in a row without improvement that end a phase."""
    selection_k: int = 5
    """Models are chosen by validation NDCG at this k."""

    @property
    def last_evaluation(self) -> int:
        """The last epoch before which a model is evaluated; what follows could choose nothing."""
        return (self.max_epochs - 1) // self.evaluate_every * self.evaluate_every

    def rates(self, n_steps: int) -> tuple[float, float]:
        """Adam's rates after `n_steps` steps: for the meta-embedding table and for the bias."""
        return self.lr, self.lr

    def ends_first_phase(self, epoch: int, n_misses: int) -> bool:
        """Whether phase 2 begins with this epoch."""
        return n_misses == self.patience


COARSE_SCHEDULE = Schedule(batch=8192, lr=1e-3)
"""The published coarse stage."""
FINE_SCHEDULE = Schedule(batch=32768, lr=3e-3)
"""The published fine stage."""


@dataclass(frozen=True)
class CoarseStage:
    """Trains (E_c, b) and refreshes S_c.

    Source: equations (15), (20) and (23).
    """

    norm_adjacency: sparse.csr_array
    n_users: int
    settings: Settings
    ops: Any
    name: str = "coarse"

    def prepare(self, assignment: sparse.csr_array) -> Any:
        """The graph of entities and coarse nodes."""
        return self.ops.prepare_coarse(self.norm_adjacency, assignment, self.n_users, self.settings)

    def embed(self, plan: Any, tables: Tables) -> Any:
        """Propagated entities."""
        return self.ops.embed_coarse(plan, tables[0])[0]

    def loss_and_grad(self, plan: Any, tables: Tables, triples: Triples) -> tuple[float, Tables]:
        """Loss and (grad_coarse, grad_bias)."""
        loss, *grads = self.ops.coarse_loss_and_grad(plan, *tables, triples)
        return loss, tuple(grads)

    def refresh(self, plan: Any, tables: Tables) -> sparse.csr_array:
        """S_c anew."""
        propagated = self.ops.embed_coarse(plan, tables[0])
        settings = self.settings
        return self.ops.refresh_coarse(*propagated, settings.coarse_per_entity, settings.pinv_rtol)


@dataclass(frozen=True)
class FineStage:
    """Trains (E_f, b) and refreshes S_f, the weight-bridging update; E_c and S_c stay as they are.

    Source: equations (16), (20) and (24).
    """

    norm_adjacency: sparse.csr_array
    n_users: int
    coarse_assignment: sparse.csr_array
    coarse: Float64Array
    settings: Settings
    ops: Any
    name: str = "fine"

    def prepare(self, assignment: sparse.csr_array) -> Any:
        """The graph of entities, coarse and fine nodes."""
        return self.ops.prepare_fine(
            self.norm_adjacency, self.coarse_assignment, assignment, self.n_users, self.settings
        )

    def embed(self, plan: Any, tables: Tables) -> Any:
        """Propagated entities."""
        return self.ops.embed_fine(plan, self.coarse, tables[0])[0]

    def loss_and_grad(self, plan: Any, tables: Tables, triples: Triples) -> tuple[float, Tables]:
        """Loss and (grad_fine, grad_bias); E_c has a gradient too, which nobody follows (D7)."""
        loss, _, *grads = self.ops.fine_loss_and_grad(plan, self.coarse, *tables, triples)
        return loss, tuple(grads)

    def refresh(self, plan: Any, tables: Tables) -> sparse.csr_array:
        """S_f anew."""
        propagated = self.ops.embed_fine(plan, self.coarse, tables[0])
        settings = self.settings
        return self.ops.refresh_fine(*propagated, settings.fine_per_coarse, settings.pinv_rtol)


@dataclass(frozen=True)
class Snapshot:
    """A model as it was at an evaluation, and its validation NDCG."""

    tables: Tables
    assignment: sparse.csr_array
    ndcg: float
    epoch: int
    n_steps: int


@dataclass(frozen=True)
class Evaluation:
    """One evaluation: where training stood and what it found.

    `loss` is the mean over the steps since the last evaluation, None before the first step.
    """

    stage: str
    phase: int
    epoch: int
    n_steps: int
    n_refreshes: int
    loss: float | None
    ndcg: float
    is_best: bool


@dataclass(frozen=True)
class State:
    """Everything that the rest of a stage depends on.

    Edge: training resumes from a state that was just evaluated; those that follow a step are for
    watching.
    """

    tables: Tables
    moments: tuple[AdamState, ...]
    assignment: sparse.csr_array
    rng: dict[str, Any]
    """State of the generator before `epoch` is drawn."""
    phase: int = 1
    epoch: int = 0
    n_steps: int = 0
    n_refreshes: int = 0
    n_misses: int = 0
    losses: tuple[float, ...] = ()
    """Losses of the steps since the last evaluation."""
    best: Snapshot | None = None
    best_fixed: Snapshot | None = None
    """The best model of the first phase, once the second has begun."""
    evaluations: tuple[Evaluation, ...] = ()
    is_finished: bool = False

    @property
    def chosen(self) -> Snapshot:
        """The best model of phase 2, or of phase 1 where phase 2 was not evaluated."""
        chosen = self.best or self.best_fixed
        if chosen is None:
            raise ValueError("a stage has no model before its first evaluation")
        return chosen


def start_state(tables: Tables, assignment: sparse.csr_array, *, rng: Rng) -> State:
    """Where a stage begins: these tables, Adam at rest, triples to be drawn from `rng`."""
    return State(tables, tuple(map(start_adam, tables)), assignment, dict(rng.bit_generator.state))


def judge_by_ndcg(ops: Any, seen: sparse.csr_array, held_out: sparse.csr_array, k: int) -> Judge:
    """How a model is judged: mean NDCG@k over users, all items but the seen ones ranked.

    Shapes: seen (U, I), held_out (U, I) -> a function of propagated entities and tables, the last
    of them the bias, that gives the NDCG and the tables of the model that has it.
    Source: equations (29) and (30).
    """
    users = np.flatnonzero(np.diff(held_out.indptr))
    held_out = held_out[users]

    def judge(entities: Any, tables: Tables) -> tuple[float, Tables]:
        ranked, _ = ops.rank_items(entities, tables[-1], seen.shape[0], users, seen, k)
        return float(ndcg_at_k(ranked, held_out, k).mean()), tables

    return judge


def as_drawn(stage: Stage, plan: Any, state: State, batch: Triples, number: int) -> Triples:
    """The negatives of a batch as they were drawn."""
    return batch


def train_stage(
    stage: Stage, state: State, schedule: Schedule, draw_epoch: DrawEpoch, judge: Judge,
    choose: Choose = as_drawn,
) -> Iterator[State]:  # fmt: skip
    """Train one stage from `state`: yields the state after every evaluation and after every step.

    `draw_epoch(stage, plan, state, rng)` gives the stage and the plan of an epoch, and its triples:
    as published the same two, and equation (22). `choose(stage, plan, state, batch, number)` may
    change the negatives of the epoch's batch `number`. `judge(entities, tables)` gives validation
    NDCG and the tables that have it. What recipes put there is in `c2f_ref.training.Additions`.

    Phase 1 keeps the assignment. After `patience` evaluations in a row without improvement, phase 2
    begins: the epoch about to be trained is its first. The counter and the best figure start anew,
    Adam's moments go on. Phase 2 refreshes the assignment once an epoch, after the gradient of the
    first batch and before its step, from the tables as they then are; that step still follows the
    gradient of the old assignment. Better means strictly greater. The chosen model is the best of
    phase 2, even where phase 1 had a higher figure.

    Edge: a state that is finished yields nothing. No epoch is trained after the last evaluation:
    no model of it could be chosen.
    Errors: MethodError where numbers overflow.
    Source: equation (26).
    """
    rng = np.random.Generator(getattr(np.random, state.rng["bit_generator"])())
    rng.bit_generator.state = state.rng
    plan = stage.prepare(state.assignment)
    while not state.is_finished:
        is_evaluated = bool(state.evaluations) and state.evaluations[-1].epoch == state.epoch
        if state.epoch % schedule.evaluate_every == 0 and not is_evaluated:
            ndcg, tables = judge(stage.embed(plan, state.tables), state.tables)
            state = _evaluated(stage.name, state, schedule, ndcg, tables)
            yield state
            continue  # the stage may be over, or phase 2 begin
        epoch_stage, epoch_plan, triples = draw_epoch(stage, plan, state, rng)
        for number, start in enumerate(range(0, triples.users.size, schedule.batch)):
            batch = Triples(*(part[start : start + schedule.batch] for part in triples))
            batch = choose(epoch_stage, epoch_plan, state, batch, number)
            loss, grads = epoch_stage.loss_and_grad(epoch_plan, state.tables, batch)
            if state.phase == 2 and number == 0:
                assignment = stage.refresh(plan, state.tables)
                old_plan, plan = plan, stage.prepare(assignment)
                is_same = epoch_plan is old_plan
                epoch_plan = plan if is_same else epoch_stage.prepare(assignment)
                state = replace(state, assignment=assignment, n_refreshes=state.n_refreshes + 1)
            rates = schedule.rates(state.n_steps)  # of the table, then of the bias
            each = zip(state.tables, grads, state.moments, rates, strict=True)
            steps = [stage.ops.adam_step(*inputs, stage.settings) for inputs in each]
            tables, moments = zip(*steps, strict=True)
            n_steps, losses = state.n_steps + 1, (*state.losses, loss)
            state = replace(state, tables=tables, moments=moments, n_steps=n_steps, losses=losses)
            yield state
        state = replace(state, epoch=state.epoch + 1, rng=dict(rng.bit_generator.state))


def _evaluated(name: str, state: State, schedule: Schedule, ndcg: float, tables: Tables) -> State:
    """The state after an evaluation: the best model, the misses, the phase, whether all is done."""
    epoch, n_steps, best = state.epoch, state.n_steps, state.best
    is_best = best is None or ndcg > best.ndcg
    n_misses = 0 if is_best else state.n_misses + 1
    best = Snapshot(tables, state.assignment, ndcg, epoch, n_steps) if is_best else best
    loss = float(np.mean(state.losses)) if state.losses else None
    where = (name, state.phase, epoch, n_steps, state.n_refreshes)
    evaluations = (*state.evaluations, Evaluation(*where, loss, ndcg, is_best))
    is_last = epoch == schedule.last_evaluation
    state = replace(state, losses=(), evaluations=evaluations, is_finished=is_last)
    if state.phase == 1 and schedule.ends_first_phase(epoch, n_misses):
        return replace(state, phase=2, n_misses=0, best=None, best_fixed=best)
    is_over = is_last or n_misses == schedule.patience
    return replace(state, best=best, n_misses=n_misses, is_finished=is_over)
