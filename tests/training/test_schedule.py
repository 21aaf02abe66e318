"""The schedule that both stages share, on a stage that learns nothing and whose validation NDCG is dictated."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain, pairwise, repeat
from math import ceil, log2
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from c2f_ref.interactions import Interactions, Split, split_given
from c2f_ref.spec import AdamState, Settings, SpecError, Triples
from c2f_ref.training import Evaluation, Progress, Recipe, StageResult, evaluate_embeddings, run_stage

NDCG = [0.0, *(1 / log2(7 - level) for level in range(1, 6))]
"""NDCG@5 by level: the one held-out item is not in the list (0), or at place 5 - level, counted from 0."""
BATCH, STEPS = 2, 3
"""Triples in a step, steps in an epoch."""


class Script:
    """A stage, and its `ops`, that do nothing but keep count: the tables count steps, the assignment counts refreshes.

    A plan is the assignment that it was made for. `log` has every call; a gradient is 10 + its plan, to be told again later.
    """

    name = "scripted"
    lr = 0.25
    batch = BATCH

    def __init__(self, levels: Iterable[int]) -> None:
        self.levels = chain(levels, repeat(0))
        self.log: list[tuple[Any, ...]] = []
        self.ops = ModuleType("scripted")
        vars(self.ops).update(sample_triples=self.sample_triples, rank_items=self.rank_items, adam_step=self.adam_step)

    def prepare(self, assignment: sparse.csr_array, previous: int | None = None) -> int:
        self.log.append(("prepare", int(assignment.data[0])))
        return int(assignment.data[0])

    def embed(self, plan: int, tables: Any) -> Any:
        self.log.append(("embed", plan, tables[0].item()))
        return np.full((8, 1), float(plan))

    def loss_and_grad(self, plan: int, tables: Any, triples: Triples) -> Any:
        self.log.append(("grad", plan, tables[0].item()))
        assert [part.size for part in triples] == [BATCH] * 3
        return tables[0].item(), (np.array([10.0 + plan]), np.array([20.0 + plan]))

    def refresh(self, plan: int, tables: Any) -> sparse.csr_array:
        self.log.append(("refresh", plan, tables[0].item()))
        return sparse.csr_array([[plan + 1.0]])

    def sample_triples(self, seen: Any, n_draws: int, n_negatives: int, *, rng: Any) -> Triples:
        self.log.append(("sample", n_draws, n_negatives))
        return Triples(*(np.zeros(n_draws * n_negatives, dtype=np.int64) for _ in range(3)))

    def rank_items(self, entities: Any, bias: Any, n_users: int, users: Any, seen: Any, k: int) -> Any:
        ranked = np.full((1, 5), -1)
        level = next(self.levels)
        if level:
            ranked[0, 5 - level] = 0
        return ranked[:, :k], None

    def adam_step(self, table: Any, grad: Any, state: AdamState, lr: float, settings: Settings) -> Any:
        assert lr == self.lr
        if grad.item() < 20:  # of the two tables one is told of
            self.log.append(("adam", table.item(), state.n_steps, grad.item()))
        return table + 1, AdamState(state.first, state.second, state.n_steps + 1)

    def epochs(self) -> list[list[tuple[Any, ...]]]:
        """The calls of each epoch, from its sampling to the next one's."""
        cuts = [place for place, call in enumerate(self.log) if call[0] == "sample"]
        return [self.log[start:stop] for start, stop in zip(cuts, [*cuts[1:], len(self.log)], strict=True)]


UNREFRESHED = sparse.csr_array(([0.0], [0], [0, 1]), shape=(1, 1))
TRAIN, VALID, TEST = (Interactions.from_indices([0], [item], 1, 7) for item in (6, 0, 1))
NONE = Interactions.from_indices([], [], 1, 7)
SPLIT = split_given(TRAIN, VALID, TEST)


def run(
    levels: Iterable[int], *, split: Split = SPLIT, hooks: Any = None, first_phase: int = 1, **recipe: Any
) -> tuple[StageResult, Script]:
    """Run the script: one user with 7 items, 3 steps of 2 triples in an epoch."""
    script = Script(levels)
    result = run_stage(
        script,
        (np.zeros(1), np.zeros(1)),
        UNREFRESHED,
        split,
        Settings(),
        Recipe(**{"draws_per_epoch": STEPS, "n_negatives": BATCH} | recipe),
        rng=np.random.default_rng(0),
        ops=script.ops,
        first_phase=first_phase,
        **(hooks or {}),
    )
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
    _, script = published
    refreshed = [[call[0] for call in epoch].count("refresh") for epoch in script.epochs()]
    assert refreshed == [0] * 30 + [1] * 35


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


# Edges


def test_a_stage_that_ends_in_phase_one_gives_its_best() -> None:
    result, script = run([2, 1, 3], max_epochs=13)
    assert result.best is result.best_fixed
    assert (result.best.epoch, result.last_epoch, result.n_steps) == (10, 12, 39)
    assert not [call for call in script.log if call[0] == "refresh"]


def test_a_stage_that_ends_before_phase_two_is_evaluated_gives_the_best_of_phase_one() -> None:
    """Two misses at epoch 10; epochs 10, 11 and 12 refresh; the evaluation of epoch 15 never comes."""
    result, script = run([3, 2, 1], patience=2, max_epochs=13)
    assert result.best is result.best_fixed
    assert (result.best.epoch, result.best.assignment.data[0], result.last_epoch) == (0, 0, 12)
    assert len([call for call in script.log if call[0] == "refresh"]) == 3


def test_a_single_epoch_evaluates_the_start_and_trains_once() -> None:
    result, _ = run([1], max_epochs=1)
    assert (result.best.epoch, steps_of(result.best), result.n_steps, len(result.evaluations)) == (0, 0, STEPS, 1)


def test_a_stage_may_begin_in_phase_two() -> None:
    result, script = run([1, 2, 0, 0, 0, 0, 0], first_phase=2)
    assert result.best_fixed is None
    assert (result.best.epoch, result.last_epoch) == (5, 30)
    assert [[call[0] for call in epoch].count("refresh") for epoch in script.epochs()] == [1] * 30
    assert {e.phase for e in result.evaluations} == {2}


def test_models_are_chosen_by_ndcg_at_the_given_k() -> None:
    """At level 2 the item is at place 3 from 0: in a list of 5, but not in one of 3."""
    result, _ = run([2, 4], max_epochs=6, selection_k=3)
    assert [e.ndcg for e in result.evaluations] == [0.0, pytest.approx(NDCG[4])]


def test_an_epoch_draws_as_many_users_as_there_are_training_pairs() -> None:
    _, script = run([0], draws_per_epoch=None, n_negatives=BATCH, max_epochs=1)
    assert ("sample", 1, BATCH) in script.log


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
)
def test_phases_and_the_chosen_models_are_those_of_the_definition(
    levels: list[int], patience: int, every: int, max_epochs: int
) -> None:
    result, script = run(levels, patience=patience, evaluate_every=every, max_epochs=max_epochs)
    levels = (levels + [0] * max_epochs)[: ceil(max_epochs / every)]
    switch = first_stop(levels, patience)
    fixed, refreshed = (levels, []) if switch is None else (levels[: switch + 1], levels[switch + 1 :])
    stop = first_stop(refreshed, patience)
    refreshed = refreshed if stop is None else refreshed[: stop + 1]

    assert [(e.phase, e.epoch) for e in result.evaluations] == [
        (1 if place < len(fixed) else 2, every * place) for place in range(len(fixed) + len(refreshed))
    ]
    last_epoch = max_epochs - 1 if stop is None else every * (len(fixed) + stop)
    assert result.last_epoch == last_epoch
    assert len(script.epochs()) == (max_epochs if stop is None else last_epoch)
    assert result.best_fixed is not None
    assert result.best_fixed.epoch == every * fixed.index(max(fixed))
    chosen = every * (len(fixed) + refreshed.index(max(refreshed))) if refreshed else result.best_fixed.epoch
    assert (result.best.epoch, steps_of(result.best)) == (chosen, STEPS * chosen)
    n_refreshed = 0 if switch is None else max(0, chosen - every * switch)
    assert result.best.assignment.data[0] == n_refreshed


# What is told


def test_callbacks_are_told_every_evaluation_and_every_step() -> None:
    """The loss of step n is n - 1: the mean of an interval of 15 steps that ends with step n is n - 8."""
    told: list[Evaluation | Progress] = []
    result, _ = run([1, 0, 2], max_epochs=12, hooks={"on_evaluation": told.append, "on_step": told.append})
    evaluations, steps = ([one for one in told if isinstance(one, kind)] for kind in (Evaluation, Progress))
    assert tuple(evaluations) == result.evaluations
    assert [e.loss for e in evaluations] == [None, 7.0, 22.0]
    assert [(p.epoch, p.n_steps, p.loss) for p in steps] == [(n // STEPS, n + 1, n) for n in range(12 * STEPS)]
    assert {one.max_steps for one in told} == {12 * STEPS}
    assert {(one.stage, one.phase) for one in told} == {("scripted", 1)}
    assert [one.n_steps for one in told] == sorted(one.n_steps for one in told)
    assert all(0 <= one.seconds <= two.seconds for one, two in pairwise(told))


@pytest.mark.parametrize(
    ("split", "missing"), [(split_given(NONE, VALID, TEST), "training"), (split_given(TRAIN, NONE, TEST), "validation")]
)
def test_no_pairs_to_learn_from_or_to_choose_by_is_an_error(split: Split, missing: str) -> None:
    with pytest.raises(SpecError, match=f"at least one {missing} pair, got none"):
        run([1], split=split)


def test_metrics_are_means_over_users_with_a_held_out_item() -> None:
    """Entities on a line: user u has value 1 or -1, so items are in falling or in rising order of theirs, 3, 2, 1, 0.

    User 0 has seen item 0: list 1, 2, 3; held out 1 and 3. User 1: list 3, 2, 1, 0; held out 2. User 2 has nothing held out.
    At k = 2 recall is 1/2 and 1; NDCG is 1 / (1 + 1/log2 3) and 1/log2 3.
    """
    entities = np.array([[1.0], [-1.0], [1.0], [3.0], [2.0], [1.0], [0.0]])
    seen = sparse.csr_array(([1.0], ([0], [0])), shape=(3, 4))
    held_out = sparse.csr_array((np.ones(3), ([0, 0, 1], [1, 3, 2])), shape=(3, 4))
    metrics = evaluate_embeddings(entities, np.zeros(7), seen, held_out, (2,))
    second = 1 / log2(3)
    assert metrics == pytest.approx({"ndcg@2": (1 / (1 + second) + second) / 2, "recall@2": 0.75})
    with pytest.raises(SpecError, match="at least one user"):
        evaluate_embeddings(entities, np.zeros(7), seen, sparse.csr_array((3, 4)), (2,))
