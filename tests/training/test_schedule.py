"""The schedule that both stages share, on a stage that learns nothing and whose validation NDCG is dictated."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain, pairwise, repeat
from math import ceil, cos, log2, pi
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from training.tiny import told_of

from c2f_ref.interactions import Interactions, Split, split_given
from c2f_ref.spec import AdamState, Settings, SpecError, Triples
from c2f_ref.training import Estimate, Evaluation, Progress, Schedule, StageResult, State, run_stage, schedule, start_state

NDCG = [0.0, *(1 / log2(7 - level) for level in range(1, 6))]
"""NDCG@5 by level: the one held-out item is not in the list (0), or at place 5 - level, counted from 0."""
BATCH, STEPS = 2, 3
"""Triples in a step, steps in an epoch."""


class Script:
    """A stage, and its `ops`, that do nothing but keep count: the tables count steps, the assignment counts refreshes.

    A plan is the assignment that it was made for. `log` has every call; a gradient is 10 + its plan, to be told again later,
    and for the bias, the second table, it is below 0. `rates` has those of the first table and those of the bias.
    """

    name = "scripted"

    def __init__(self, levels: Iterable[int]) -> None:
        self.levels = chain(levels, repeat(0))
        self.log: list[tuple[Any, ...]] = []
        self.rates: tuple[list[float], list[float]] = [], []
        self.ops = ModuleType("scripted")
        names = ("sample_triples", "score_pairs", "rank_items", "adam_step")
        vars(self.ops).update({name: getattr(self, name) for name in names})

    def prepare(self, assignment: sparse.csr_array, previous: int | None = None) -> int:
        self.log.append(("prepare", int(assignment.data[0])))
        return int(assignment.data[0])

    def embed(self, plan: int, tables: Any) -> Any:
        self.log.append(("embed", plan, tables[0].item()))
        return np.full((8, 1), float(plan))

    def loss_and_grad(self, plan: int, tables: Any, triples: Triples) -> Any:
        self.log.append(("grad", plan, tables[0].item()))
        assert [part.size for part in triples] == [BATCH] * 3
        return tables[0].item(), (np.array([10.0 + plan]), np.array([-1.0]))

    def refresh(self, plan: int, tables: Any) -> sparse.csr_array:
        self.log.append(("refresh", plan, tables[0].item()))
        return sparse.csr_array([[plan + 1.0]])

    def sample_triples(self, seen: Any, n_draws: int, n_negatives: int, *, rng: Any) -> Triples:
        self.log.append(("sample", n_draws, n_negatives))
        return Triples(*(np.zeros(n_draws * n_negatives, dtype=np.int64) for _ in range(3)))

    def score_pairs(self, entities: Any, bias: Any, offset: float, n_users: int, users: Any, items: Any) -> Any:
        return np.zeros(users.size)

    def rank_items(self, entities: Any, bias: Any, n_users: int, users: Any, seen: Any, k: int) -> Any:
        ranked = np.full((1, 5), -1)
        level = next(self.levels)
        if level:
            ranked[0, 5 - level] = 0
        return ranked[:, :k], None

    def adam_step(self, table: Any, grad: Any, state: AdamState, lr: float, settings: Settings) -> Any:
        is_bias = grad.item() < 0
        self.rates[is_bias].append(lr)
        if not is_bias:
            self.log.append(("adam", table.item(), state.n_steps, grad.item()))
        return table + 1, AdamState(state.first, state.second, state.n_steps + 1)

    def epochs(self) -> list[list[tuple[Any, ...]]]:
        """The calls of each epoch, from its sampling to the next one's."""
        cuts = [place for place, call in enumerate(self.log) if call[0] == "sample"]
        return [self.log[start:stop] for start, stop in pairwise([*cuts, len(self.log)])]


UNREFRESHED = sparse.csr_array(([0.0], [0], [0, 1]), shape=(1, 1))
TRAIN, VALID, TEST = (Interactions.from_indices([0], [item], 1, 7) for item in (6, 0, 1))
NONE = Interactions.from_indices([], [], 1, 7)
SPLIT = split_given(TRAIN, VALID, TEST)


def scheduled(**changes: Any) -> Schedule:
    """3 steps of 2 triples in an epoch, at a rate of 1/4."""
    return Schedule(**{"batch": BATCH, "lr": 0.25, "draws_per_epoch": STEPS, "n_negatives": BATCH} | changes)


def start(first_phase: int = 1) -> State:
    return start_state((np.zeros(1), np.zeros(1)), UNREFRESHED, rng=np.random.default_rng(0), first_phase=first_phase)


def run(
    levels: Iterable[int], state: State | None = None, *, split: Split = SPLIT, hooks: Any = None, **changes: Any
) -> tuple[StageResult, Script]:
    """Run the script from its start or from `state`: one user with 7 items."""
    script = Script(levels)
    result = run_stage(script, state or start(), split, Settings(), scheduled(**changes), ops=script.ops, **(hooks or {}))
    return result, script


def steps_of(snapshot: Any) -> float:
    """Steps that the snapshot's own table has seen."""
    assert snapshot.tables[0] == snapshot.tables[1] == snapshot.n_steps
    return float(snapshot.tables[0].item())


# By hand: the published schedule. Phase one improves at epochs 0 and 5 (an equal figure is no improvement), has missed 5 times
# at epoch 30; phase two starts anew at 35, is best at 40, below phase one's best, and has missed 5 times at epoch 65.
PHASE_ONE, PHASE_TWO = [1, 3, 3, 2, 3, 1, 0], [1, 2, 2, 1, 0, 2, 1]


@pytest.fixture(scope="module")
def published() -> tuple[StageResult, Script]:
    return run(PHASE_ONE + PHASE_TWO)


def test_validation_comes_before_the_training_of_every_fifth_epoch(published: tuple[StageResult, Script]) -> None:
    result, script = published
    assert [e.epoch for e in result.evaluations] == list(range(0, 70, 5))
    assert [e.n_steps for e in result.evaluations] == [STEPS * epoch for epoch in range(0, 70, 5)]
    assert [e.ndcg for e in result.evaluations] == pytest.approx([NDCG[level] for level in PHASE_ONE + PHASE_TWO])
    assert script.log[:3] == [("prepare", 0), ("embed", 0, 0.0), ("sample", STEPS, BATCH)]
    assert [call[2] for call in script.log if call[0] == "embed"] == [STEPS * epoch for epoch in range(0, 70, 5)]


def test_better_means_strictly_greater(published: tuple[StageResult, Script]) -> None:
    result, _ = published
    assert [e.epoch for e in result.evaluations if e.is_best] == [0, 5, 35, 40]


def test_five_misses_in_a_row_end_a_phase(published: tuple[StageResult, Script]) -> None:
    result, script = published
    assert [e.epoch for e in result.evaluations if e.phase == 1] == list(range(0, 35, 5))
    assert [e.epoch for e in result.evaluations if e.phase == 2] == list(range(35, 70, 5))
    assert result.last_epoch == 65
    assert len(script.epochs()) == 65  # the epoch in which training ends is not trained
    assert result.n_steps == STEPS * 65


def test_the_best_of_phase_two_wins_even_below_phase_one(published: tuple[StageResult, Script]) -> None:
    result, _ = published
    assert result.best_fixed is not None
    assert (result.best_fixed.epoch, result.best.epoch) == (5, 40)
    assert result.best.ndcg == pytest.approx(NDCG[2])
    assert result.best_fixed.ndcg == pytest.approx(NDCG[3])
    assert (steps_of(result.best_fixed), steps_of(result.best)) == (15, 120)
    # Refreshes before epoch 40 came in epochs 30 to 39.
    assert (result.best_fixed.assignment.data[0], result.best.assignment.data[0]) == (0, 10)


def test_the_assignment_is_refreshed_once_an_epoch_from_the_switch_on(published: tuple[StageResult, Script]) -> None:
    result, script = published
    refreshed = [[call[0] for call in epoch].count("refresh") for epoch in script.epochs()]
    assert refreshed == [0] * 30 + [1] * 35
    assert [e.n_refreshes for e in result.evaluations] == [0] * 7 + [5, 10, 15, 20, 25, 30, 35]


def test_the_epoch_of_the_switch_trains_on_and_refreshes_between_gradient_and_step(published: tuple[StageResult, Script]) -> None:
    """Epoch 30 follows 90 steps: the last tables, not the best ones of step 15, and Adam's 90 steps. In its first batch the
    gradient is that of plan 0 (10 + 0), also when Adam gets it after the refresh; the other batches have plan 1.
    """
    _, script = published
    assert script.epochs()[30] == [
        ("sample", STEPS, BATCH),
        ("grad", 0, 90.0),
        ("refresh", 0, 90.0),
        ("prepare", 1),
        ("adam", 90.0, 90, 10.0),
        ("grad", 1, 91.0),
        ("adam", 91.0, 91, 11.0),
        ("grad", 1, 92.0),
        ("adam", 92.0, 92, 11.0),
    ]
    assert script.epochs()[29][:3] == [("sample", STEPS, BATCH), ("grad", 0, 87.0), ("adam", 87.0, 87, 10.0)]


def test_an_improvement_starts_the_count_anew() -> None:
    """Four misses, a better figure, five misses: phase one ends at the eleventh evaluation, of epoch 50."""
    result, _ = run([1, 0, 0, 0, 0, 2, 1, 1, 1, 1, 1])
    assert result.best_fixed is not None
    assert result.best_fixed.epoch == 25
    assert next(e.epoch for e in result.evaluations if e.phase == 2) == 55


def test_a_figure_that_never_moves_is_best_when_it_is_first() -> None:
    """Phase one: best at 0, five misses by 25. Phase two: best at 30, five misses by 55."""
    result, _ = run([0] * 12)
    assert result.best_fixed is not None
    assert (result.best_fixed.epoch, result.best.epoch, result.last_epoch) == (0, 30, 55)


def test_the_rate_of_the_schedule_is_that_of_tables_and_bias(published: tuple[StageResult, Script]) -> None:
    _, script = published
    assert script.rates == ([0.25] * STEPS * 65, [0.25] * STEPS * 65)


# Schedules that are not the published one


def test_rates_fall_along_half_a_cosine_and_the_bias_has_a_multiple_of_them() -> None:
    """Of at most 11 epochs the last, 10, is evaluated and not trained: 30 steps, in which the cosine goes from 1 towards -1.

    From 0.25 to 0.0625: the rate is 0.15625 + 0.09375 times the cosine; in step 15 that is 0.
    """
    result, script = run([1, 2, 3], max_epochs=11, last_lr=0.0625, bias_lr=8.0)
    expected = [0.15625 + 0.09375 * cos(pi * step / 30) for step in range(30)]
    assert script.rates[0] == pytest.approx(expected, rel=1e-14)
    assert script.rates[0][0] == 0.25
    assert script.rates[0][15] == pytest.approx(0.15625, rel=1e-14)
    assert script.rates[1] == [8.0 * rate for rate in script.rates[0]]
    assert result.n_steps == 30


def test_a_stage_of_one_table_trains_it_as_its_bias() -> None:
    """The last table is the bias, also where it is the only one."""
    script = Script([1])
    script.loss_and_grad = lambda plan, tables, triples: (0.0, (np.array([-1.0]),))  # type: ignore[method-assign]
    state = start_state((np.zeros(1),), UNREFRESHED, rng=np.random.default_rng(0))
    run_stage(script, state, SPLIT, Settings(), scheduled(max_epochs=6, bias_lr=3.0), ops=script.ops)
    assert script.rates == ([], [0.75] * STEPS * 5)


def test_a_phase_with_a_fixed_assignment_ends_after_its_epochs_even_where_it_improves() -> None:
    """10 epochs have passed at the evaluation of epoch 10, the first one at which 9 have, too; it belongs to phase one."""
    for limit in (9, 10):
        result, script = run([1, 2, 3, 0, 4], max_fixed_epochs=limit)
        assert [e.epoch for e in result.evaluations if e.phase == 1] == [0, 5, 10]
        assert result.best_fixed is not None
        assert (result.best_fixed.epoch, result.best.epoch, result.last_epoch) == (10, 20, 45)
        assert [[call[0] for call in epoch].count("refresh") for epoch in script.epochs()] == [0] * 10 + [1] * 35
        assert [e.n_refreshes for e in result.evaluations] == [0, 0, 0, 5, 10, 15, 20, 25, 30, 35]


def test_patience_may_end_the_first_phase_before_its_epochs_do() -> None:
    result, _ = run([1, 0, 0, 0, 0], patience=2, max_fixed_epochs=40)
    assert [e.epoch for e in result.evaluations if e.phase == 1] == [0, 5, 10]


def test_no_limit_on_the_first_phase_ends_the_second() -> None:
    """Epochs beyond the limit are those of phase two, in which misses alone count."""
    result, _ = run([1, 2, 3, 4, 5], max_fixed_epochs=5, max_epochs=21)
    assert [e.phase for e in result.evaluations] == [1, 1, 2, 2, 2]
    assert (result.best.epoch, result.last_epoch) == (20, 20)


# Edges


def test_a_stage_that_ends_in_phase_one_gives_its_best() -> None:
    """Epochs 11 and 12 would follow the last evaluation, of epoch 10, and are not trained."""
    result, script = run([2, 1, 3], max_epochs=13)
    assert result.best is result.best_fixed
    assert (result.best.epoch, result.last_epoch, result.n_steps) == (10, 10, 30)
    assert {e.max_steps for e in result.evaluations} == {30}
    assert len(script.epochs()) == 10
    assert not [call for call in script.log if call[0] == "refresh"]


@pytest.mark.parametrize("ends", [{"patience": 2}, {"max_fixed_epochs": 6}])
def test_a_stage_that_ends_before_phase_two_is_evaluated_gives_the_best_of_phase_one(ends: dict[str, int]) -> None:
    """Phase one ends at epoch 10; an evaluation of epoch 15 never comes, so that epoch 10 is not trained."""
    result, script = run([3, 2, 1], max_epochs=13, **ends)
    assert result.best is result.best_fixed
    assert (result.best.epoch, result.best.assignment.data[0], result.last_epoch) == (0, 0, 10)
    assert {e.phase for e in result.evaluations} == {1}
    assert not [call for call in script.log if call[0] == "refresh"]


@pytest.mark.parametrize("max_epochs", [1, 5])
def test_without_a_second_evaluation_the_start_is_chosen_and_nothing_trained(max_epochs: int) -> None:
    result, script = run([1], max_epochs=max_epochs, last_lr=0.1)
    assert (result.best.epoch, steps_of(result.best), result.n_steps, result.last_epoch) == (0, 0, 0, 0)
    assert [call[0] for call in script.log] == ["prepare", "embed"]


def test_a_stage_may_begin_in_phase_two() -> None:
    result, script = run([1, 2, 0, 0, 0, 0, 0], start(first_phase=2))
    assert result.best_fixed is None
    assert (result.best.epoch, result.last_epoch) == (5, 30)
    assert [[call[0] for call in epoch].count("refresh") for epoch in script.epochs()] == [1] * 30
    assert {e.phase for e in result.evaluations} == {2}


def test_models_are_chosen_by_ndcg_at_the_given_k() -> None:
    """At level 2 the item is at place 3 from 0: in a list of 5, but not in one of 3."""
    result, _ = run([2, 4], max_epochs=6, selection_k=3)
    assert [e.ndcg for e in result.evaluations] == [0.0, pytest.approx(NDCG[4])]


def test_the_best_factor_of_the_bias_is_part_of_the_model_and_not_of_training() -> None:
    """Before epochs 0 and 5, factors 1/2, 1 and 2 are judged: levels 2, 3, 3 (the first of a tie), then 4, 1, 2. Five epochs of
    three steps have then raised the bias from 0 to 15, of which the chosen model has half, and training goes on with all.
    """
    states: list[State] = []
    hooks = {"on_state": states.append}
    result, script = run([2, 3, 3, 4, 1, 2], hooks=hooks, max_epochs=6, bias_scales=(0.5, 1.0, 2.0))
    assert [(e.ndcg, e.bias_scale, e.is_best) for e in result.evaluations] == [(NDCG[3], 1.0, True), (NDCG[4], 0.5, True)]
    assert [table.item() for table in result.best.tables] == [15.0, 7.5]
    assert [table.item() for table in states[-1].tables] == [15.0, 15.0]
    assert [call[0] for call in script.log].count("embed") == 2


def test_negatives_are_chosen_in_phase_two_by_embeddings_of_every_tenth_step() -> None:
    """Phase one is epoch 0 alone. The plan that embeds is the one from before the epoch, 0, and then the epoch's own, 1."""
    _, script = run([1, 2, 3], max_epochs=3, evaluate_every=1, max_fixed_epochs=1, n_candidates=2, draws_per_epoch=12)
    first, second = script.epochs()
    assert [call[0] for call in first if call[0] in ("embed", "grad")] == ["grad"] * 12 + ["embed"]
    calls = [call for call in second if call[0] in ("embed", "grad")]
    assert [call[0] for call in calls] == ["embed", *["grad"] * 10, "embed", *["grad"] * 2, "embed"]
    assert [call for call in calls if call[0] == "embed"][:2] == [("embed", 0, 12.0), ("embed", 1, 22.0)]


def test_an_epoch_draws_as_many_users_as_there_are_training_pairs() -> None:
    _, script = run([0], draws_per_epoch=None, n_negatives=BATCH, max_epochs=6)
    assert script.epochs()[0][0] == ("sample", 1, BATCH)
    assert len(script.epochs()) == 5


def test_an_epoch_may_have_fewer_steps_than_it_can() -> None:
    """Users without a pair or without unseen items give no triples: here one batch where there could be three."""
    script = Script([1, 2])
    few = Triples(*(np.zeros(BATCH, dtype=np.int64) for _ in range(3)))
    script.ops.sample_triples = lambda *given, rng: few  # type: ignore[attr-defined]
    result = run_stage(script, start(), SPLIT, Settings(), scheduled(max_epochs=6), ops=script.ops)
    assert [(e.n_steps, e.max_steps) for e in result.evaluations] == [(0, 15), (5, 15)]


# By definition


def first_stop(levels: list[int], patience: int) -> int | None:
    """The first evaluation that has its best, the first of the highest, exactly `patience` evaluations behind it."""
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
def test_phases_and_the_chosen_models_are_those_of_the_definition(
    levels: list[int], patience: int, every: int, max_epochs: int, limit: int | None
) -> None:
    states: list[State] = []
    changes = {"patience": patience, "evaluate_every": every, "max_epochs": max_epochs, "max_fixed_epochs": limit}
    result, script = run(levels, hooks={"on_state": states.append}, **changes)
    n_evaluations = ceil(max_epochs / every)
    played = (levels + [0] * n_evaluations)[:n_evaluations]
    late = None if limit is None or ceil(limit / every) >= n_evaluations else ceil(limit / every)
    switch = min((place for place in (first_stop(played, patience), late) if place is not None), default=None)
    fixed, refreshed = (played, []) if switch is None else (played[: switch + 1], played[switch + 1 :])
    stop = first_stop(refreshed, patience)
    refreshed = refreshed if stop is None else refreshed[: stop + 1]

    assert [(e.phase, e.epoch) for e in result.evaluations] == [
        (1 if place < len(fixed) else 2, every * place) for place in range(len(fixed) + len(refreshed))
    ]
    assert result.last_epoch == len(script.epochs()) == every * (len(fixed) + len(refreshed) - 1)
    assert result.best_fixed is not None
    assert result.best_fixed.epoch == every * fixed.index(max(fixed))
    chosen = every * (len(fixed) + refreshed.index(max(refreshed))) if refreshed else result.best_fixed.epoch
    assert (result.best.epoch, steps_of(result.best)) == (chosen, STEPS * chosen)
    switched = every * (len(fixed) - 1)
    assert [e.n_refreshes for e in result.evaluations] == [max(0, e.epoch - switched) for e in result.evaluations]
    assert result.best.assignment.data[0] == max(0, chosen - switched)

    # States: one for every evaluation, after it; a run goes on from any of them as if nothing had been.
    assert [state.evaluations for state in states] == [result.evaluations[: place + 1] for place in range(len(states))]
    assert [state.is_finished for state in states] == [False] * (len(states) - 1) + [True]
    for place, state in enumerate(states):
        again, rest = run(levels[place + 1 :], state, **changes)
        assert told_of(again) == told_of(result)
        assert rest.rates[0] == script.rates[0][state.n_steps :]
        assert (again.last_epoch, again.n_steps) == (result.last_epoch, result.n_steps)
        for one, two in ((again.best, result.best), (again.best_fixed, result.best_fixed)):
            assert one is not None
            assert two is not None
            assert (one.epoch, steps_of(one), one.assignment.data[0]) == (two.epoch, steps_of(two), two.assignment.data[0])


# What is told


def test_callbacks_are_told_every_evaluation_and_every_step() -> None:
    """The loss of step n is n - 1: the mean of an interval of 15 steps that ends with step n is n - 8."""
    told: list[Evaluation | Progress] = []
    result, _ = run([1, 0, 2], max_epochs=12, hooks={"on_evaluation": told.append, "on_step": told.append})
    evaluations, steps = ([one for one in told if isinstance(one, kind)] for kind in (Evaluation, Progress))
    assert tuple(evaluations) == result.evaluations
    assert [e.loss for e in evaluations] == [None, 7.0, 22.0]
    assert [(p.epoch, p.n_steps, p.loss) for p in steps] == [(n // STEPS, n + 1, n) for n in range(10 * STEPS)]
    assert {one.max_steps for one in told} == {10 * STEPS}
    assert {(one.stage, one.phase) for one in told} == {("scripted", 1)}
    assert [one.n_steps for one in told] == sorted(one.n_steps for one in told)
    assert all(0 <= one.seconds <= two.seconds for one, two in pairwise(told))


def test_an_evaluation_is_told_before_the_state_that_it_leaves() -> None:
    told: list[Evaluation | State] = []
    run([1, 0], max_epochs=6, hooks={"on_evaluation": told.append, "on_state": told.append})
    assert [type(one) for one in told] == [Evaluation, State] * 2


def test_callbacks_of_none_are_no_callbacks() -> None:
    names = ("on_estimate", "on_evaluation", "on_step", "on_state")
    result, script = run([1, 2], max_epochs=6, hooks=dict.fromkeys(names))
    assert result.best.epoch == 5
    assert script.log[:3] == [("prepare", 0), ("embed", 0, 0.0), ("sample", STEPS, BATCH)]


class Clock:
    """Seconds that pass only when somebody says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(schedule, "time", SimpleNamespace(perf_counter=lambda: self.now))

    def slow(self, script: Script, method: str, seconds: list[float]) -> None:
        """Calls of this method take so long, one after the other; the last number holds for all that follow."""
        call, durations = getattr(script, method), chain(seconds, repeat(seconds[-1]))

        def slowly(*given: Any, **named: Any) -> Any:
            self.now += next(durations)
            return call(*given, **named)

        setattr(script, method, slowly)


def test_an_estimate_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first step compiles, 100 seconds long, and does not count. Then an epoch of 3 steps takes 57 seconds: 20 for triples, 30
    for a refresh, and 1, 2 and 4. The last two steps took 3 each, and so the epoch 57 - 3 * 3 = 48 besides its steps.

    12 epochs: evaluations of 0, 5 and 10, 7 seconds each, and 30 steps in 10: 30 * 3 + 10 * 48 + 3 * 7 = 591 seconds.
    """
    clock, script, told = Clock(monkeypatch), Script([5, 1, 2, 3]), []
    clock.slow(script, "loss_and_grad", [100.0, 1.0, 2.0, 4.0, 0.0])
    clock.slow(script, "sample_triples", [0.0, 20.0, 0.0])
    clock.slow(script, "refresh", [0.0, 30.0, 0.0])
    clock.slow(script, "embed", [7.0, 0.0])
    script.ops.sample_triples = script.sample_triples  # type: ignore[attr-defined]
    kept = scheduled(max_epochs=12)
    result = run_stage(script, start(), SPLIT, Settings(), kept, ops=script.ops, on_estimate=told.append)
    paces = {"step_seconds": 3.0, "epoch_seconds": 48.0, "evaluation_seconds": 7.0}
    assert told == [Estimate(stage="scripted", **paces, max_steps=30, max_epochs=10, max_evaluations=3)]
    assert told[0].seconds == 591.0
    # The stage itself began after that: from its own tables, and its first step is its first.
    assert script.log.count(("grad", 0, 0.0)) == 1 + 1
    assert [e.ndcg for e in result.evaluations] == pytest.approx([NDCG[level] for level in (1, 2, 3)])
    assert result.evaluations[1].loss == 7.0
    assert result.n_steps == steps_of(result.best) == 30


def test_an_epoch_of_one_step_is_estimated_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """With nothing to divide by, all 9 seconds of an epoch are the epoch's: 10 of them until the last evaluation."""
    clock, script, told = Clock(monkeypatch), Script([5, 1, 2, 3]), []
    clock.slow(script, "loss_and_grad", [100.0, 9.0, 0.0])
    kept = scheduled(max_epochs=12, draws_per_epoch=1)
    run_stage(script, start(), SPLIT, Settings(), kept, ops=script.ops, on_estimate=told.append)
    assert (told[0].step_seconds, told[0].epoch_seconds, told[0].seconds) == (0.0, 9.0, 90.0)


def test_an_estimate_is_told_of_what_is_left() -> None:
    """In the state of epoch 5, which is evaluated, one more evaluation is left, that of epoch 10, 5 epochs, and 15 of 30 steps."""
    states: list[State] = []
    told: list[Estimate] = []
    run([1, 2, 3], max_epochs=12, hooks={"on_state": states.append})
    run([3], states[1], max_epochs=12, hooks={"on_estimate": told.append})
    assert [(one.max_steps, one.max_epochs, one.max_evaluations) for one in told] == [(15, 5, 1)]


def test_a_finished_state_trains_nothing_and_tells_nobody() -> None:
    states: list[State] = []
    result, _ = run([1, 2, 0], max_epochs=11, hooks={"on_state": states.append})
    told: list[Any] = []
    hooks = dict.fromkeys(("on_estimate", "on_evaluation", "on_step", "on_state"), told.append)
    again, script = run([], states[-1], max_epochs=11, hooks=hooks)
    assert [call[0] for call in script.log] == ["prepare"]
    assert told == []
    assert again == result


def test_time_between_a_stop_and_its_resumption_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps take 2 seconds: 15 of them 30. After the first run ended an hour passes."""
    clock = Clock(monkeypatch)
    states: list[State] = []

    def slow_run(state: State | None) -> StageResult:
        script = Script([1] * 3)
        clock.slow(script, "loss_and_grad", [2.0])
        kept = scheduled(max_epochs=12)
        return run_stage(script, state or start(), SPLIT, Settings(), kept, ops=script.ops, on_state=states.append)

    slow_run(None)
    clock.now += 3600.0
    again = slow_run(states[1])
    assert [e.seconds for e in again.evaluations] == [0.0, 30.0, 60.0]


@pytest.mark.parametrize(
    ("split", "missing"), [(split_given(NONE, VALID, TEST), "training"), (split_given(TRAIN, NONE, TEST), "validation")]
)
def test_no_pairs_to_learn_from_or_to_choose_by_is_an_error(split: Split, missing: str) -> None:
    with pytest.raises(SpecError, match=f"at least one {missing} pair, got none"):
        run([1], split=split)
