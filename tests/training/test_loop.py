"""The training loop, on a stage that learns nothing and whose validation NDCG is dictated."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import chain, pairwise, repeat
from math import ceil, cos, pi
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from c2f_ref import method
from c2f_ref.method import AdamState, Settings, Snapshot, State, Triples
from c2f_ref.training import Schedule

BATCH, STEPS = 2, 3
"""Triples in a step, steps in an epoch."""
UNREFRESHED = sparse.csr_array(([0.0], [0], [0, 1]), shape=(1, 1))


class Script:
    """A stage that only keeps count: its tables count steps, its assignment counts refreshes.

    A plan is the number of refreshes that it was made after. `log` has every call; the gradient of
    the first table is 10 + its plan, that of the bias is below 0. `rates` has those of both tables.
    """

    name, settings = "scripted", Settings()

    def __init__(self, levels: Iterable[int]) -> None:
        self.levels = chain(levels, repeat(0))
        self.log: list[tuple[Any, ...]] = []
        self.rates: tuple[list[float], list[float]] = [], []
        self.ops = SimpleNamespace(adam_step=self.adam_step)

    def prepare(self, assignment: sparse.csr_array) -> int:
        self.log.append(("prepare", int(assignment.data[0])))
        return int(assignment.data[0])

    def embed(self, plan: int, tables: Any) -> Any:
        self.log.append(("embed", plan, tables[0].item()))

    def loss_and_grad(self, plan: int, tables: Any, triples: Triples) -> Any:
        self.log.append(("grad", plan, tables[0].item()))
        assert [part.size for part in triples] == [BATCH] * 3
        return tables[0].item(), (np.array([10.0 + plan]), np.array([-1.0]))

    def refresh(self, plan: int, tables: Any) -> sparse.csr_array:
        self.log.append(("refresh", plan, tables[0].item()))
        return sparse.csr_array([[plan + 1.0]])

    def adam_step(self, table: Any, grad: Any, state: AdamState, lr: float, settings: Any) -> Any:
        is_bias = grad.item() < 0
        self.rates[is_bias].append(lr)
        if not is_bias:
            self.log.append(("adam", table.item(), state.n_steps, grad.item()))
        return table + 1, AdamState(state.first, state.second, state.n_steps + 1)

    def draw_epoch(self, stage: Any, plan: Any, state: State, rng: Any) -> Any:
        self.log.append(("draw", state.phase))
        return stage, plan, Triples(*(rng.integers(9, size=BATCH * STEPS) for _ in range(3)))

    def judge(self, entities: Any, tables: Any) -> tuple[float, Any]:
        return next(self.levels) / 8, tables

    def epochs(self) -> list[list[tuple[Any, ...]]]:
        """The calls of each epoch, from its draw to the next one's."""
        cuts = [place for place, call in enumerate(self.log) if call[0] == "draw"]
        return [self.log[start:stop] for start, stop in pairwise([*cuts, len(self.log)])]

    def refreshes(self) -> list[int]:
        return [[call[0] for call in epoch].count("refresh") for epoch in self.epochs()]


def start() -> State:
    tables = np.zeros(1), np.zeros(1)
    return method.start_state(tables, UNREFRESHED, rng=np.random.default_rng(0))


def run(
    levels: Iterable[int],
    state: State | None = None,
    watch: Callable[[State], object] = lambda state: None,
    **changes: Any,
) -> tuple[State, Script]:
    """Run the script from its start or from `state`: 3 steps an epoch at a rate of 1/4."""
    script, state = Script(levels), state or start()
    given: dict[str, Any] = {"batch": BATCH, "lr": 0.25, "draws_per_epoch": STEPS, "n_negatives": 2}
    schedule = Schedule(**given | changes)
    states = method.train_stage(script, state, schedule, script.draw_epoch, script.judge)
    for state in states:
        watch(state)
    return state, script


def steps_of(snapshot: Snapshot | None) -> int:
    """Steps that the snapshot's own table has seen."""
    assert snapshot is not None
    assert snapshot.tables[0] == snapshot.tables[1] == snapshot.n_steps
    return int(snapshot.tables[0].item())


# By hand: the published schedule. Phase one improves at epochs 0 and 5 (an equal figure is no
# improvement) and has missed 5 times at epoch 30; phase two starts anew at 35, is best at 40, below
# phase one's best, and has missed 5 times at epoch 65.
PHASE_ONE, PHASE_TWO = [1, 3, 3, 2, 3, 1, 0], [1, 2, 2, 1, 0, 2, 1]


@pytest.fixture(scope="module")
def published() -> tuple[State, Script]:
    return run(PHASE_ONE + PHASE_TWO)


def test_better_means_strictly_greater_and_five_misses_end_a_phase(published: Any) -> None:
    """Validation comes before the training of every fifth epoch."""
    state, script = published
    epochs = list(range(0, 70, 5))
    assert [(e.epoch, e.n_steps) for e in state.evaluations] == [(n, STEPS * n) for n in epochs]
    assert [8 * e.ndcg for e in state.evaluations] == PHASE_ONE + PHASE_TWO
    assert [e.epoch for e in state.evaluations if e.is_best] == [0, 5, 35, 40]
    assert [e.epoch for e in state.evaluations if e.phase == 2] == epochs[7:]
    assert (state.epoch, state.n_steps, len(script.epochs())) == (65, STEPS * 65, 65)
    assert script.rates == ([0.25] * STEPS * 65, [0.25] * STEPS * 65)
    assert script.log[:3] == [("prepare", 0), ("embed", 0, 0.0), ("draw", 1)]


def test_the_best_of_phase_two_wins_even_below_phase_one(published: Any) -> None:
    state, _ = published
    assert (state.best_fixed.epoch, state.chosen.epoch) == (5, 40)
    assert (8 * state.best_fixed.ndcg, 8 * state.chosen.ndcg) == (3, 2)
    assert (steps_of(state.best_fixed), steps_of(state.chosen)) == (15, 120)
    # Refreshes before epoch 40 came in epochs 30 to 39.
    assert (state.best_fixed.assignment.data[0], state.chosen.assignment.data[0]) == (0, 10)


def test_every_epoch_from_the_switch_on_refreshes_between_gradient_and_step(published: Any) -> None:
    """Epoch 30 follows 90 steps: the last tables, not the best ones, and Adam's 90 steps.

    In its first batch the gradient is that of plan 0 (10 + 0), also when Adam gets it after the
    refresh; the other batches have plan 1.
    """
    state, script = published
    assert script.refreshes() == [0] * 30 + [1] * 35
    assert [e.n_refreshes for e in state.evaluations] == [0] * 7 + [5, 10, 15, 20, 25, 30, 35]
    assert script.epochs()[30] == [
        ("draw", 2),
        *(("grad", 0, 90.0), ("refresh", 0, 90.0), ("prepare", 1), ("adam", 90.0, 90, 10.0)),
        *(("grad", 1, 91.0), ("adam", 91.0, 91, 11.0)),
        *(("grad", 1, 92.0), ("adam", 92.0, 92, 11.0)),
    ]
    assert script.epochs()[29][:3] == [("draw", 1), ("grad", 0, 87.0), ("adam", 87.0, 87, 10.0)]


def test_a_state_comes_after_every_evaluation_and_every_step() -> None:
    """The loss of step n is n - 1: the mean of 15 steps that end with step n is n - 8."""
    states: list[State] = []
    last, _ = run([1, 0, 2], watch=states.append, max_epochs=12)
    assert [e.loss for e in last.evaluations] == [None, 7.0, 22.0]
    assert len(states) == 3 + 10 * STEPS
    counts = [(len(state.evaluations), state.n_steps, len(state.losses)) for state in states]
    assert counts == sorted(counts, key=lambda count: (count[0], count[1]))
    assert [state.losses[-1] for state in states if state.losses] == list(range(10 * STEPS))
    assert last.evaluations[1].stage == "scripted"


def test_an_epoch_may_come_on_a_graph_of_its_own_whose_plan_is_renewed_with_the_refresh() -> None:
    script, part = Script([1, 2]), Script([])
    state = replace(start(), phase=2)
    triples = Triples(*(np.zeros(2 * BATCH, dtype=np.int64) for _ in range(3)))
    given = script, state, Schedule(batch=BATCH, lr=1.0, max_epochs=2, evaluate_every=1)
    drawn = part, 7, triples
    states = list(method.train_stage(*given, lambda *now: drawn, script.judge))
    assert part.log == [("grad", 7, 0.0), ("prepare", 1), ("grad", 1, 1.0)]
    assert [call for call in script.log if call[0] in ("refresh", "prepare")] == [
        *(("prepare", 0), ("refresh", 0, 0.0), ("prepare", 1))
    ]
    assert states[-1].chosen.assignment.data[0] == 1


# Schedules that are not the published one


def test_rates_fall_along_half_a_cosine_and_the_bias_has_a_multiple_of_them() -> None:
    """Of at most 11 epochs the last, 10, is evaluated and not trained: 30 steps.

    From 0.25 to 0.0625: the rate is 0.15625 + 0.09375 times a cosine that is 0 in step 15.
    """
    state, script = run([1, 2, 3], max_epochs=11, last_lr=0.0625, bias_lr=8.0)
    expected = [0.15625 + 0.09375 * cos(pi * step / 30) for step in range(30)]
    assert script.rates[0] == pytest.approx(expected, rel=1e-14)
    assert (script.rates[0][0], state.n_steps) == (0.25, 30)
    assert script.rates[1] == [8.0 * rate for rate in script.rates[0]]


def test_there_is_no_model_before_the_first_evaluation() -> None:
    with pytest.raises(ValueError, match="no model before its first evaluation"):
        _ = start().chosen


# By definition


def first_stop(levels: list[int], patience: int) -> int | None:
    """The first evaluation that has its best, the first of the highest, `patience` behind it."""
    for place in range(len(levels)):
        so_far = levels[: place + 1]
        if place - so_far.index(max(so_far)) == patience:
            return place
    return None


@given(
    levels=st.lists(st.integers(0, 5), max_size=25),
    patience=st.integers(1, 4),
    every=st.integers(1, 3),
    max_epochs=st.integers(1, 60),
    limit=st.none() | st.integers(1, 60),
)
def test_phases_and_the_chosen_models_are_those_of_the_definition_from_any_state(
    levels: list[int], patience: int, every: int, max_epochs: int, limit: int | None
) -> None:
    states: list[State] = []
    changes: dict[str, Any] = {"patience": patience, "evaluate_every": every}
    changes |= {"max_epochs": max_epochs, "max_fixed_epochs": limit}
    last, script = run(levels, watch=states.append, **changes)
    n_evaluations = ceil(max_epochs / every)
    played = (levels + [0] * n_evaluations)[:n_evaluations]
    late = None if limit is None or ceil(limit / every) >= n_evaluations else ceil(limit / every)
    stops = [place for place in (first_stop(played, patience), late) if place is not None]
    n_fixed = min(stops) + 1 if stops else len(played)
    fixed, refreshed = played[:n_fixed], played[n_fixed:]
    stop = first_stop(refreshed, patience)
    refreshed = refreshed if stop is None else refreshed[: stop + 1]

    n_played, switched = n_fixed + len(refreshed), every * (n_fixed - 1)
    expected = [(1 if place < n_fixed else 2, every * place) for place in range(n_played)]
    assert [(e.phase, e.epoch) for e in last.evaluations] == expected
    assert last.epoch == len(script.epochs()) == every * (n_played - 1)
    chosen = every * fixed.index(max(fixed))
    if refreshed:
        assert last.best_fixed is not None
        assert last.best_fixed.epoch == chosen
        chosen = every * (n_fixed + refreshed.index(max(refreshed)))
    assert (last.chosen.epoch, steps_of(last.chosen)) == (chosen, STEPS * chosen)
    assert last.chosen.assignment.data[0] == max(0, chosen - switched)

    # A run goes on from the state after any evaluation as if nothing had been.
    evaluated = [state for state in states if not state.losses]
    assert [state.is_finished for state in evaluated] == [False] * (n_played - 1) + [True]
    for place, state in enumerate(evaluated):
        again, rest = run(levels[place + 1 :], state, **changes)
        assert again.evaluations == last.evaluations
        assert rest.rates[0] == script.rates[0][state.n_steps :]
        assert (again.epoch, again.n_steps, again.rng) == (last.epoch, last.n_steps, last.rng)
        assert (again.chosen.epoch, steps_of(again.chosen)) == (chosen, STEPS * chosen)
