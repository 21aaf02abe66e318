"""Degenerate problems, each with its outcome, on both implementations."""

from __future__ import annotations

import math
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from scipy import sparse
from support.implementations import FAST
from training.tiny import RECIPE, SETTINGS, content_of, tiny_split, with_schedules

from c2f_ref import spec
from c2f_ref.interactions import Interactions, Split, split_given
from c2f_ref.spec import Settings, SettingsError, SpecError
from c2f_ref.training import Estimate, StageResult, embed_model, evaluate_embeddings, to_model, train, train_coarse, train_fine

SHORT = with_schedules(RECIPE, patience=1)


@pytest.fixture(params=[pytest.param(spec, id="spec"), FAST])
def ops(request: pytest.FixtureRequest) -> ModuleType:
    implementation: ModuleType = request.param
    return implementation


def split_of(train_: dict[int, list[int]], valid: dict[int, list[int]], test: dict[int, list[int]], n_items: int) -> Split:
    """A split of given items by user, 6 users in all."""

    def pairs(items_of: dict[int, list[int]]) -> Interactions:
        listed = [(user, item) for user, items in items_of.items() for item in items]
        return Interactions.from_indices([u for u, _ in listed], [i for _, i in listed], 6, n_items)

    return split_given(pairs(train_), pairs(valid), pairs(test))


def assert_alive(split: Split, settings: Settings, result: tuple[StageResult, StageResult | None], ops: ModuleType) -> None:
    """Raise AssertionError unless both stages reached phase two and everything that they leave is finite."""
    coarse, fine = result
    for stage in (coarse, fine):
        if stage is not None:
            assert {e.phase for e in stage.evaluations} == {1, 2}
            assert all(np.isfinite(table).all() for table in (*stage.best.tables, stage.best.assignment.data))
            assert all(e.loss is None or math.isfinite(e.loss) for e in stage.evaluations)
    model = to_model(split, settings, coarse.best, fine.best if fine else None)
    assert np.isfinite(embed_model(model, ops=ops)).all()


def test_both_stages_refuse_a_split_without_pairs_to_learn_from_or_to_choose_by(ops: ModuleType) -> None:
    split = tiny_split()
    none = split.valid.select(np.zeros(split.valid.n_pairs, dtype=bool))
    coarse = train_coarse(split, SETTINGS, with_schedules(RECIPE, max_epochs=1), rng=np.random.default_rng(0), ops=ops)
    for poor, missing in ((split_given(none, split.valid, split.test), "training"), (replace(split, valid=none), "validation")):
        with pytest.raises(SpecError, match=f"at least one {missing} pair, got none"):
            train(poor, SETTINGS, RECIPE, seed=0, ops=ops)
        with pytest.raises(SpecError, match=f"at least one {missing} pair, got none"):
            train_fine(poor, coarse.best, SETTINGS, RECIPE, rng=np.random.default_rng(0), ops=ops)


def test_fewer_entities_than_coarse_rows_are_an_error_and_as_many_are_enough(ops: ModuleType) -> None:
    """70 entities. With 70 coarse rows every entity is a part of its own."""
    with pytest.raises(SpecError, match="n_coarse must be at most the number of users and items, 70, got 71"):
        train(tiny_split(), replace(SETTINGS, n_coarse=71), RECIPE, seed=0, ops=ops)
    settings = replace(SETTINGS, n_coarse=70)
    assert_alive(tiny_split(), settings, train(tiny_split(), settings, SHORT, seed=0, ops=ops), ops)


def test_more_fine_rows_than_entities_are_an_error_too(ops: ModuleType) -> None:
    with pytest.raises(SpecError, match="n_fine must be at most the number of users and items, 70, got 71"):
        train(tiny_split(), replace(SETTINGS, n_fine=71), with_schedules(RECIPE, max_epochs=1), seed=0, ops=ops)


def test_without_fine_rows_there_is_the_coarse_stage_alone(ops: ModuleType) -> None:
    split, settings = tiny_split(), replace(SETTINGS, n_fine=0)
    coarse, fine = train(split, settings, SHORT, seed=0, ops=ops)
    assert fine is None
    assert_alive(split, settings, (coarse, fine), ops)
    with pytest.raises(SettingsError, match="n_fine must be at least 1"):
        train_fine(split, coarse.best, settings, SHORT, rng=np.random.default_rng(0), ops=ops)


def test_a_user_with_every_item_is_never_drawn_and_gets_no_list(ops: ModuleType) -> None:
    """User 0 has all 7 items, user 1 all but one: for it there is one negative a draw and one item to recommend."""
    train_ = {0: list(range(7)), 1: list(range(6)), 2: [0, 1], 3: [2], 4: [3, 4]}
    split = split_of(train_, {2: [2], 3: [0]}, {4: [6]}, 7)
    settings = replace(SETTINGS, n_coarse=4)
    coarse, fine = train(split, settings, SHORT, seed=0, ops=ops)
    assert fine is not None
    assert_alive(split, settings, (coarse, fine), ops)
    model = to_model(split, settings, coarse.best, fine.best)
    items, scores = ops.rank_items(embed_model(model, ops=ops), model.bias, 6, np.array([0, 1, 5]), model.seen, 8)
    assert items[0].tolist() == [-1] * 8
    assert np.isneginf(scores[0]).all()
    assert items[1].tolist() == [6] + [-1] * 7
    assert sorted(items[2].tolist()) == [-1, *range(7)]  # user 5 has no pair: all items, by bias and chance
    metrics = evaluate_embeddings(embed_model(model, ops=ops), model.bias, model.seen, split.test.matrix(), (7,), ops=ops)
    assert metrics["recall@7"] == 1.0


def test_where_nobody_can_be_drawn_there_is_no_step_and_an_estimate_all_the_same(ops: ModuleType) -> None:
    """The only user with a training pair has every item: epochs without triples, evaluations without a loss."""
    split = split_of({0: list(range(7))}, {1: [2]}, {2: [3]}, 7)
    told: list[Estimate] = []
    coarse, fine = train(split, replace(SETTINGS, n_coarse=4), SHORT, seed=0, ops=ops, on_estimate=told.append)
    assert fine is not None
    assert [e.stage for e in told] == ["coarse", "fine"]
    assert all(math.isfinite(e.seconds) for e in told)
    for stage in (coarse, fine):
        assert stage.n_steps == 0
        assert {e.loss for e in stage.evaluations} == {None}


def test_users_who_are_all_the_same_are_trained_all_the_same(ops: ModuleType) -> None:
    split = split_of({user: [0, 1, 2] for user in range(6)}, {user: [3] for user in range(6)}, {0: [4]}, 9)
    settings = replace(SETTINGS, n_coarse=4)
    result = train(split, settings, SHORT, seed=0, ops=ops)
    assert_alive(split, settings, result, ops)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("changes", [{}, {"batch": 10**6, "evaluate_every": 1}])
def test_rates_that_are_too_high_end_with_their_name(ops: ModuleType, changes: dict[str, int]) -> None:
    """Whoever finds it first: the second step, or an evaluation after the first."""
    recipe = with_schedules(RECIPE, lr=1e307, **changes)
    with pytest.raises(SpecError, match=r"the coarse stage ends after [0-9]+ steps, lower rates may help: .* must be finite"):
        train(tiny_split(), SETTINGS, recipe, seed=0, ops=ops)


def test_an_infinite_threshold_leaves_the_fine_table_as_it_started_and_stores_none_of_it(ops: ModuleType) -> None:
    """soft(E_f) is 0 throughout and so is its gradient: only the bias learns."""
    split, settings = tiny_split(), replace(SETTINGS, threshold=math.inf)
    coarse, fine = train(split, settings, SHORT, seed=0, ops=ops)
    assert fine is not None
    assert fine.best_fixed is not None
    assert_alive(split, settings, (coarse, fine), ops)
    start_rng, _ = np.random.default_rng(0).spawn(2)[1].spawn(2)
    spec.partition(spec.bipartite(split.train.users, split.train.items, 30, 40), settings.n_fine, rng=start_rng)
    assert np.array_equal(fine.best.tables[0], spec.start_fine(coarse.best.tables[0], settings, rng=start_rng))
    assert not np.array_equal(fine.best.tables[1], coarse.best.tables[1])
    assert to_model(split, settings, coarse.best, fine.best).stored_bytes()["fine"] == 5  # starts of 4 rows


def test_without_layers_entities_are_their_ego_embeddings(ops: ModuleType) -> None:
    split, settings = tiny_split(), replace(SETTINGS, n_layers=0)
    coarse, fine = train(split, settings, SHORT, seed=0, ops=ops)
    assert fine is not None
    assert_alive(split, settings, (coarse, fine), ops)
    expected = np.tanh(coarse.best.assignment.toarray() @ coarse.best.tables[0])
    for model in (to_model(split, settings, coarse.best), to_model(split, settings, coarse.best, fine.best)):
        np.testing.assert_allclose(embed_model(model, ops=ops), expected, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("stage", ["coarse", "fine"])
def test_negative_assignments_neither_stop_training_nor_spoil_it(stage: str, ops: ModuleType) -> None:
    """D11: refreshed entries are made so negative that some degree of the expanded graph is below 0."""
    degrees = []
    theirs = ModuleType("negative")
    vars(theirs).update({name: getattr(ops, name) for name in spec.CONTRACT})

    def refresh(*given: Any) -> sparse.csr_array:
        return -2.0 * abs(getattr(ops, f"refresh_{stage}")(*given))

    def prepare(*given: Any) -> Any:
        assignment = given[1 if stage == "coarse" else 2]
        degrees.append(assignment.sum(axis=0).min())  # of the nodes that only this assignment joins to others
        return getattr(ops, f"prepare_{stage}")(*given)

    vars(theirs).update({f"refresh_{stage}": refresh, f"prepare_{stage}": prepare})
    split = tiny_split()
    coarse, fine = train(split, SETTINGS, SHORT, seed=0, ops=theirs, dtype=np.float64)
    assert_alive(split, SETTINGS, (coarse, fine), ops)
    assert degrees[0] > 0
    assert all(degree < 0 for degree in degrees[1:])
    result = {"coarse": coarse, "fine": fine}[stage]
    assert result is not None
    assert (result.best.assignment.data <= 0).all()
    plain = train(split, SETTINGS, SHORT, seed=0, ops=ops, dtype=np.float64)[stage == "fine"]
    assert plain is not None
    assert content_of(result.best) != content_of(plain.best)
