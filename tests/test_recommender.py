"""The estimator: what it learns is what training leaves, what it recommends is what brute force finds, by raw ids."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from support import scalar
from training.tiny import RECIPE, SETTINGS, bytes_of, tiny_split, told_of, with_schedules

import c2f_ref
from c2f_ref import C2FRecommender, Interactions, Model, Settings, spec
from c2f_ref.interactions import DataError
from c2f_ref.spec import SettingsError, SpecError
from c2f_ref.training import CheckpointError, Evaluation, Recipe, evaluate_model, to_model, train

SPLIT = tiny_split()
"""30 users "u0", ..., 40 items "i0", ..."""
QUICK = replace(with_schedules(RECIPE, max_epochs=7), sparse_pca_method="cd")
N_USERS, N_ITEMS, N_LISTED = 30, 40, 7


@pytest.fixture(scope="module", autouse=True)
def _no_waiting_for_the_disk() -> Iterator[None]:
    """Flushing every file takes as long as everything else; it matters only where the power fails."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "fsync", lambda _: None)
        yield


def estimator(**changes: Any) -> C2FRecommender:
    """An estimator of the tiny model, not fitted."""
    parameters = {**vars(SETTINGS), "recipe": QUICK, "implementation": "c2f_ref.spec", "random_state": 3, **changes}
    return C2FRecommender(**parameters)


@pytest.fixture(scope="module")
def fitted() -> C2FRecommender:
    """Fitted on the training pairs of `SPLIT`, with its validation pairs; nobody may fit it again."""
    return estimator().fit(SPLIT.train, SPLIT.valid)


def seen_items(user: int) -> set[int]:
    return set(SPLIT.train.items[SPLIT.train.users == user].tolist())


def item_scores(fitted: C2FRecommender, user: int) -> list[float]:
    """H_u . H_(U+i) + b_(U+i) of every item, added up one by one."""
    users, items = fitted.embeddings()
    bias = fitted.model_.bias[N_USERS:]
    return [sum(users[user, d] * items[i, d] for d in range(SETTINGS.dim)) + bias[i] for i in range(N_ITEMS)]


def content(fitted: C2FRecommender) -> Any:
    """All bytes of the model, and everything that evaluations told but the time."""
    model = fitted.model_
    arrays = (model.bias, model.coarse, model.coarse_assignment, model.fine, model.fine_assignment, model.seen)
    assert all(part is not None for part in arrays)
    told = [replace(evaluation, seconds=0.0) for evaluation in fitted.history_]
    return bytes_of(*arrays), bytes_of(*fitted.embeddings()), told, fitted.validation_ndcg_


# Parameters


def test_every_setting_is_a_parameter_with_the_published_default() -> None:
    parameters = C2FRecommender().get_params()
    others = {"recipe": "laptop", "implementation": None, "random_state": None, "verbose": 0}
    assert parameters == {**vars(Settings()), **others}


def test_parameters_are_stored_as_given_and_looked_at_when_fitting() -> None:
    generator = np.random.default_rng(0)
    made = C2FRecommender(n_coarse=-1, recipe="no such recipe", random_state=generator)
    assert (made.n_coarse, made.recipe) == (-1, "no such recipe")
    assert made.random_state is generator
    assert made.set_params(n_coarse="x") is made
    with pytest.raises(SettingsError, match="n_coarse must be of type int, got 'x'"):
        made.fit(SPLIT.train)


def test_a_grid_search_chooses_by_validation() -> None:
    scoring: Any = lambda fitted, X, y=None: fitted.validation_ndcg_  # noqa: E731  as the README has it
    search = GridSearchCV(estimator(n_fine=0), {"dim": [2, 6]}, cv=2, scoring=scoring, error_score="raise")
    search.fit(sparse.vstack([SPLIT.train.matrix()] * 2, format="csr"))
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.best_params_["dim"] in (2, 6)


def test_a_clone_has_the_parameters_and_nothing_that_was_learned(fitted: C2FRecommender) -> None:
    copy = clone(fitted)
    assert copy.get_params() == fitted.get_params()
    with pytest.raises(NotFittedError):
        copy.recommend("u1")


# Fitting


def test_what_is_learned_is_what_training_leaves(fitted: C2FRecommender) -> None:
    coarse, fine = train(SPLIT, SETTINGS, QUICK, seed=3, ops=spec)
    assert fine is not None
    model = to_model(SPLIT, SETTINGS, coarse.best, fine.best)
    for field in fields(Model):
        if field.name not in ("settings", "provenance"):
            assert bytes_of(getattr(fitted.model_, field.name)) == bytes_of(getattr(model, field.name))
    assert fitted.model_.settings == SETTINGS
    assert [replace(e, seconds=0.0) for e in fitted.history_] == [*told_of(coarse), *told_of(fine)]
    assert fitted.validation_ndcg_ == fine.best.ndcg
    assert (fitted.n_features_in_, fitted.user_ids_[7], fitted.item_ids_[11]) == (40, "u7", "i11")


def test_without_fine_rows_there_is_the_coarse_stage_alone() -> None:
    made = estimator(n_fine=0).fit(SPLIT.train, SPLIT.valid)
    assert made.model_.fine is None
    assert {evaluation.stage for evaluation in made.history_} == {"coarse"}
    assert made.validation_ndcg_ == max(e.ndcg for e in made.history_ if e.phase == made.history_[-1].phase)


def test_validation_pairs_of_its_own_join_the_graph_after_training() -> None:
    made = estimator(n_fine=0).fit(SPLIT.train)
    assert bytes_of(made.model_.seen) == bytes_of(SPLIT.train.matrix())
    assert f"{SPLIT.train.n_pairs - N_USERS} train, {N_USERS} valid, 0 test pairs" in made.model_.provenance["split"]
    ids, _ = made.recommend(SPLIT.train.user_ids, N_ITEMS)
    for user in range(N_USERS):
        assert not {f"i{item}" for item in seen_items(user)} & set(ids[user])


def test_one_random_state_gives_one_result_byte_for_byte(fitted: C2FRecommender) -> None:
    """Also where validation pairs come in another form, and after another fit, of which nothing is left."""
    again = estimator(random_state=4).fit(SPLIT.train, SPLIT.valid)
    assert content(again) != content(fitted)
    again.recommend_for(["i1"])
    valid = list(zip(SPLIT.valid.user_ids[SPLIT.valid.users], SPLIT.valid.item_ids[SPLIT.valid.items], strict=True))
    again.set_params(random_state=3).fit(SPLIT.train, np.array(valid))
    assert content(again) == content(fitted)
    np.testing.assert_array_equal(again.fold_in(["i1"]), fitted.fold_in(["i1"]))


def test_the_default_implementation_trains_to_the_same_bytes_too() -> None:
    """`c2f_ref.fast` where numba is installed; from the start and from another model."""
    parameters = {"implementation": None, "recipe": with_schedules(QUICK, max_epochs=3)}
    made = [estimator(**parameters).fit(SPLIT.train, SPLIT.valid) for _ in range(2)]
    assert content(made[0]) == content(made[1])
    warm = [estimator(**parameters).fit(SPLIT.train, SPLIT.valid, init=start) for start in made]
    assert content(warm[0]) == content(warm[1]) != content(made[0])


def test_without_a_random_state_every_fit_is_another_and_the_global_generator_rests() -> None:
    before = np.random.get_state()  # noqa: NPY002
    made = [estimator(n_fine=0, random_state=None).fit(SPLIT.train).model_ for _ in range(2)]
    after = np.random.get_state()  # noqa: NPY002
    assert bytes_of(made[0].coarse) != bytes_of(made[1].coarse)
    assert before[2] == after[2]
    np.testing.assert_array_equal(before[1], after[1])


def test_a_callback_is_told_of_every_evaluation() -> None:
    told: list[Evaluation] = []
    made = estimator().fit(SPLIT.train, SPLIT.valid, callback=told.append)
    assert tuple(told) == made.history_
    assert {evaluation.stage for evaluation in told} == {"coarse", "fine"}


def test_progress_is_told_on_stderr_when_asked(capsys: pytest.CaptureFixture[str]) -> None:
    told: list[Evaluation] = []
    made = estimator(n_fine=0, verbose=1).fit(SPLIT.train, callback=told.append)
    loud = capsys.readouterr()
    assert loud.out == ""
    assert "120 train, 30 valid, 0 test pairs of 30 users, 40 items; a tenth of each user's pairs, seed 3" in loud.err
    assert loud.err.count("validation NDCG") == len(made.history_) == len(told)
    estimator(n_fine=0).fit(SPLIT.train)
    assert capsys.readouterr() == ("", "")


class StopError(Exception):
    """What a callback raises to end a run."""


def test_a_run_that_was_stopped_goes_on_to_the_same_bytes(tmp_path: Path, fitted: C2FRecommender) -> None:
    def stop(evaluation: Evaluation) -> None:
        if (evaluation.stage, evaluation.epoch) == ("fine", 2):
            raise StopError

    with pytest.raises(StopError):
        estimator().fit(SPLIT.train, SPLIT.valid, checkpoint=tmp_path, callback=stop)
    told: list[Evaluation] = []
    made = estimator().fit(SPLIT.train, SPLIT.valid, checkpoint=tmp_path, resume=True, callback=told.append)
    assert content(made)[:2] == content(fitted)[:2]
    assert {evaluation.stage for evaluation in told} == {"fine"}
    with pytest.raises(CheckpointError, match="seed must be 4, got 3"):
        estimator(random_state=4).fit(SPLIT.train, SPLIT.valid, checkpoint=tmp_path, resume=True)


def test_more_coarse_rows_than_entities_is_an_error_that_says_so() -> None:
    with pytest.raises(SettingsError, match="n_coarse must be at most the number of users and items, 70, got 71"):
        estimator(n_coarse=71).fit(SPLIT.train)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"init": "model.npz"}, SettingsError, "init must be a model or a fitted estimator, got 'model.npz'"),
        ({"X_val": []}, DataError, "X_val must hold pairs, got none"),
        ({"resume": True}, SettingsError, "resume goes on from a checkpoint folder, and none is given"),
        ({"X_val": (np.array([0, 1]), np.array([2]))}, DataError, "items must hold a value for each of the 2 pairs, got 1"),
    ],
)
def test_what_fit_cannot_be_given_is_refused(given: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        estimator().fit(SPLIT.train, **given)


@pytest.mark.parametrize("random_state", [None, np.random.default_rng(0), np.random.RandomState(0)])
def test_a_checkpoint_that_nothing_could_go_on_from_is_refused(tmp_path: Path, random_state: Any) -> None:
    """A generator would draw another seed when it is asked again."""
    with pytest.raises(SettingsError, match="a checkpoint needs an int as random_state"):
        estimator(random_state=random_state).fit(SPLIT.train, checkpoint=tmp_path / "c")
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize("name", [5, "", ".fast"])
def test_an_implementation_is_named_by_a_dotted_name(name: Any) -> None:
    with pytest.raises(SettingsError, match="implementation must be the dotted name of a module, got "):
        estimator(implementation=name).fit(SPLIT.train)


@pytest.mark.parametrize("stage", ["coarse", "fine"])
def test_a_recipe_is_made_of_schedules(stage: str) -> None:
    with pytest.raises(SettingsError, match=f"{stage} must be a Schedule, got 'x'"):
        Recipe(**{stage: "x"})


@pytest.mark.parametrize("k", [0, -1, [], [5, 0], "5", 2.0, True, None])
def test_lists_are_cut_at_whole_numbers_from_one(fitted: C2FRecommender, k: Any) -> None:
    with pytest.raises(SpecError, match="k must be one or more whole numbers from 1, got "):
        fitted.evaluate(SPLIT.test, k=k)


def test_users_of_one_pair_each_leave_nothing_to_validate_with() -> None:
    with pytest.raises(SpecError, match="training needs at least one validation pair, got none"):
        estimator(n_coarse=2, n_fine=0).fit([("a", 1), ("b", 2), ("c", 3)])


# Recommending


def test_recommendations_are_the_best_unseen_items_in_order(fitted: C2FRecommender) -> None:
    users = ["u11", "u0", "u29"]
    ids, scores = fitted.recommend(users, N_LISTED)
    assert ids.shape == scores.shape == (3, N_LISTED)
    for row, user in enumerate([11, 0, 29]):
        wanted = item_scores(fitted, user)
        ranked = scalar.rank(wanted, seen_items(user), N_LISTED)
        assert ids[row].tolist() == [f"i{item}" for item in ranked]
        np.testing.assert_allclose(scores[row], [wanted[item] for item in ranked], rtol=0, atol=1e-12)


def test_one_id_gets_one_list(fitted: C2FRecommender) -> None:
    ids, scores = fitted.recommend("u11")
    assert ids.shape == scores.shape == (10,)
    in_rows = fitted.recommend(np.array(["u11"]))
    assert (in_rows[0].tolist(), in_rows[1].tolist()) == ([ids.tolist()], [scores.tolist()])
    assert [part.shape for part in fitted.recommend([], 3)] == [(0, 3), (0, 3)]


def test_seen_items_are_recommended_when_asked(fitted: C2FRecommender) -> None:
    ids, _ = fitted.recommend("u5", N_ITEMS, exclude_seen=False)
    assert ids.tolist() == [f"i{item}" for item in scalar.rank(item_scores(fitted, 5), set(), N_ITEMS)]


def test_only_candidates_are_recommended(fitted: C2FRecommender) -> None:
    """In any order and twice over, known ones only; those that were seen stay out unless asked for."""
    own = next(iter(seen_items(5)))
    candidates = {own, 38, 2, 19} | set(range(11, 17))
    named = [f"i{item}" for item in [38, *candidates, 2]]
    for exclude in (True, False):
        out = set(range(N_ITEMS)) - candidates | (seen_items(5) if exclude else set())
        ranked = [item for item in scalar.rank(item_scores(fitted, 5), out, N_LISTED) if item >= 0]
        ids, scores = fitted.recommend("u5", N_LISTED, exclude_seen=exclude, items=named)
        assert ids.tolist() == [f"i{item}" for item in ranked] + [""] * (N_LISTED - len(ranked))
        assert np.isfinite(scores).tolist() == [True] * len(ranked) + [False] * (N_LISTED - len(ranked))
    assert fitted.recommend("u5", 2, items=[])[0].tolist() == ["", ""]


def test_lists_end_with_padding_where_nothing_is_left(fitted: C2FRecommender) -> None:
    n_left = N_ITEMS - len(seen_items(4))
    ids, scores = fitted.recommend("u4", N_ITEMS + 3)
    assert [bool(raw) for raw in ids] == [True] * n_left + [False] * (N_ITEMS + 3 - n_left)
    assert np.isneginf(scores).tolist() == [not raw for raw in ids]
    by_number = estimator(n_fine=0).fit(SPLIT.train.matrix())
    ids, scores = by_number.recommend(4, N_ITEMS + 3)
    assert (ids == -1).tolist() == np.isneginf(scores).tolist() == [place >= n_left for place in range(N_ITEMS + 3)]
    assert ids.dtype == np.int64


def test_the_score_of_a_pair_is_the_one_it_is_ranked_by(fitted: C2FRecommender) -> None:
    ids, scores = fitted.recommend("u9", N_LISTED)
    np.testing.assert_allclose(fitted.score("u9", ids), scores, rtol=0, atol=1e-12)
    np.testing.assert_allclose(fitted.score(["u9"] * N_LISTED, ids), scores, rtol=0, atol=1e-12)
    one = fitted.score("u9", ids[2])
    assert isinstance(one, float)
    assert one == pytest.approx(scores[2], abs=1e-12)
    for user, item in ((3, 8), (21, 39)):
        assert fitted.score([f"u{user}"], f"i{item}")[0] == pytest.approx(item_scores(fitted, user)[item], abs=1e-12)
    with pytest.raises(DataError, match="users and items must be of one length, got 3 and 2"):
        fitted.score(["u1", "u2", "u3"], ["i1", "i2"])


@pytest.mark.parametrize("kind", ["users", "items"])
def test_the_most_similar_have_the_largest_cosines_and_are_others(fitted: C2FRecommender, kind: str) -> None:
    table = fitted.embeddings()[["users", "items"].index(kind)]
    similar, letter = getattr(fitted, f"similar_{kind}"), kind[0]

    def cosine(a: int, b: int) -> float:
        dot = [sum(x * y for x, y in zip(table[p], table[q], strict=True)) for p, q in ((a, b), (a, a), (b, b))]
        return float(dot[0] / np.sqrt(dot[1] * dot[2]))

    ids, cosines = similar([f"{letter}3", f"{letter}17"], N_LISTED)
    for row, position in enumerate((3, 17)):
        wanted = [cosine(position, other) for other in range(len(table))]
        ranked = scalar.rank(wanted, {position}, N_LISTED)
        assert ids[row].tolist() == [f"{letter}{other}" for other in ranked]
        np.testing.assert_allclose(cosines[row], [wanted[other] for other in ranked], rtol=0, atol=1e-12)
    assert similar(f"{letter}3", N_LISTED)[0].tolist() == ids[0].tolist()
    assert (similar(f"{letter}3", len(table))[0] == "").sum() == 1


def test_metrics_are_those_of_the_protocol(fitted: C2FRecommender) -> None:
    """Recall and NDCG of brute-force lists, in scalar loops, over users with a test pair."""
    wanted: dict[str, list[float]] = {name: [] for name in ("ndcg@3", "ndcg@9", "recall@3", "recall@9")}
    for user in range(N_USERS):
        held_out = set(SPLIT.test.items[SPLIT.test.users == user].tolist())
        ranked = scalar.rank(item_scores(fitted, user), seen_items(user), 9)
        for k in (3, 9):
            wanted[f"ndcg@{k}"].append(scalar.ndcg(ranked, held_out, k))
            wanted[f"recall@{k}"].append(scalar.recall(ranked, held_out, k))
    metrics = fitted.evaluate(SPLIT.test, (3, 9))
    assert metrics == pytest.approx({name: np.mean(values) for name, values in wanted.items()}, abs=1e-12)
    assert fitted.evaluate(SPLIT.test.matrix(), 9) == {name: metrics[name] for name in ("ndcg@9", "recall@9")}
    assert metrics == evaluate_model(fitted.model_, SPLIT.test.matrix(), (3, 9), ops=spec)


def test_pairs_to_evaluate_on_must_be_new_and_there(fitted: C2FRecommender) -> None:
    user, item = SPLIT.train.users[5], SPLIT.train.items[5]
    with pytest.raises(DataError, match=rf"must be disjoint, both have user and item \('u{user}', 'i{item}'\)"):
        fitted.evaluate([(f"u{user}", f"i{item}")])
    with pytest.raises(SpecError, match="at least one user with a held-out item"):
        fitted.evaluate(sparse.csr_array((N_USERS, N_ITEMS)))


def test_embeddings_are_copies_of_what_the_model_propagates(fitted: C2FRecommender) -> None:
    users, items = fitted.embeddings()
    np.testing.assert_array_equal(np.concatenate([users, items]), c2f_ref.embed_model(fitted.model_, ops=spec))
    users[:] = items[:] = 0.0
    assert np.abs(np.concatenate(fitted.embeddings())).min() > 0


METHODS: dict[str, Callable[[C2FRecommender], Any]] = {
    "recommend": lambda made: made.recommend("u1"),
    "recommend_for": lambda made: made.recommend_for(["i1"]),
    "fold_in": lambda made: made.fold_in(["i1"]),
    "similar_items": lambda made: made.similar_items("i1"),
    "similar_users": lambda made: made.similar_users("u1"),
    "score": lambda made: made.score("u1", "i1"),
    "evaluate": lambda made: made.evaluate(SPLIT.test),
    "embeddings": lambda made: made.embeddings(),
    "save": lambda made: made.save("model.npz"),
    "fit": lambda made: estimator().fit(SPLIT.train, init=made),
}


@pytest.mark.parametrize("method", METHODS)
def test_nothing_works_before_fit(method: str) -> None:
    with pytest.raises(NotFittedError, match="not fitted yet") as caught:
        METHODS[method](estimator())
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, AttributeError)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda made: made.recommend("u30"), "unknown user id 'u30'"),
        (lambda made: made.recommend(["u1", 7]), "unknown user id '7'"),
        (lambda made: made.recommend("u1", items=["i1", "i40"]), "unknown item id 'i40'"),
        (lambda made: made.recommend([["u1"]]), "users must be one raw id or a row of them, got 2 dimensions"),
        (lambda made: made.recommend_for(["u1"]), "unknown item id 'u1'"),
        (lambda made: made.fold_in(np.array(["i1", "x"])), "unknown item id 'x'"),
        (lambda made: made.similar_items("x"), "unknown item id 'x'"),
        (lambda made: made.similar_users(["u1", "y"]), "unknown user id 'y'"),
        (lambda made: made.score("u1", "z"), "unknown item id 'z'"),
        (lambda made: made.evaluate([("u1", "z")]), "unknown item id 'z': pairs"),
        (lambda made: made.evaluate([("u1", "z"), ("u1", "y"), ("u2", "y")]), "unknown item id 'y', and 1 more: pairs"),
    ],
)
def test_an_unknown_id_is_an_error_that_names_it(
    fitted: C2FRecommender, call: Callable[[C2FRecommender], Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        call(fitted)


@pytest.mark.parametrize("n", [-1, 2.0, "3", True, None])
def test_the_length_of_a_list_is_a_whole_number(fitted: C2FRecommender, n: Any) -> None:
    with pytest.raises(SpecError, match="n must be a whole number of at least 0, got"):
        fitted.recommend("u1", n)
    assert fitted.recommend("u1", np.int64(0))[0].shape == (0,)


# Keeping


def test_a_saved_model_recommends_what_the_estimator_did(tmp_path: Path, fitted: C2FRecommender) -> None:
    fitted.save(tmp_path / "model.npz")
    read = C2FRecommender.load(tmp_path / "model.npz").set_params(implementation="c2f_ref.spec")
    assert read.get_params() == fitted.get_params()
    assert read.validation_ndcg_ == fitted.validation_ndcg_
    assert (read.history_, read.n_features_in_) == ((), 40)
    served = C2FRecommender.load(tmp_path / "model.npz")
    for user in ("u1", "u20"):
        assert served.recommend(user, N_LISTED)[0].tolist() == fitted.recommend(user, N_LISTED)[0].tolist()
    assert content_of_files(tmp_path, read) == content_of_files(tmp_path, fitted)


def content_of_files(folder: Path, made: C2FRecommender) -> Any:
    made.save(folder / "again.npz")
    return (folder / "again.npz").read_bytes()


def test_a_model_from_the_command_line_can_be_loaded(tmp_path: Path) -> None:
    coarse, _ = train(SPLIT, replace(SETTINGS, n_fine=0, adam_beta1=0.875), QUICK, seed=1, ops=spec)
    c2f_ref.save_model(tmp_path / "model.npz", to_model(SPLIT, replace(SETTINGS, n_fine=0, adam_beta1=0.875), coarse.best))
    read = C2FRecommender.load(tmp_path / "model.npz")
    assert (read.adam_beta1, read.n_fine, read.recipe, read.random_state) == (0.875, 0, "laptop", None)
    assert read.validation_ndcg_ is None
    assert read.recommend("u1", 3)[0].shape == (3,)


def test_a_pickled_estimator_is_the_same(fitted: C2FRecommender) -> None:
    copy = pickle.loads(pickle.dumps(fitted))
    assert content(copy) == content(fitted)
    assert copy.get_params() == fitted.get_params()
    np.testing.assert_array_equal(copy.recommend("u3")[1], fitted.recommend("u3")[1])


# Warm starts


def first_of(made: C2FRecommender, stage: str) -> Evaluation:
    return next(evaluation for evaluation in made.history_ if evaluation.stage == stage)


@pytest.mark.parametrize("kind", ["estimator", "model"])
def test_a_warm_start_begins_where_the_other_model_stands(fitted: C2FRecommender, kind: str) -> None:
    """On the same data, untrained: the coarse model that was chosen, and then the fine one, with the figures they had."""
    still = with_schedules(QUICK, max_epochs=1)
    init = fitted if kind == "estimator" else fitted.model_
    made = estimator(recipe=still).fit(SPLIT.train, SPLIT.valid, init=init)
    assert bytes_of(made.model_.coarse, made.model_.fine) == bytes_of(fitted.model_.coarse, fitted.model_.fine)
    for name in ("coarse_assignment", "fine_assignment", "bias"):
        assert bytes_of(getattr(made.model_, name)) == bytes_of(getattr(fitted.model_, name))
    assert [(e.stage, e.phase, e.epoch) for e in made.history_] == [("coarse", 2, 0), ("fine", 2, 0)]
    assert first_of(made, "fine").ndcg == made.validation_ndcg_ == fitted.validation_ndcg_


def test_a_warm_start_is_deterministic_and_leaves_the_other_model_alone(fitted: C2FRecommender) -> None:
    before = content(fitted)
    made = [estimator().fit(SPLIT.train, SPLIT.valid, init=fitted) for _ in range(2)]
    assert content(made[0]) == content(made[1]) != before
    assert content(fitted) == before
    coarse = [e for e in made[0].history_ if e.stage == "coarse"]
    assert max(e.ndcg for e in coarse) >= first_of(made[0], "coarse").ndcg


def test_entities_are_the_same_where_their_ids_are(fitted: C2FRecommender) -> None:
    """A user and an item less, a user and an item more, all in another order: known rows are taken over, new ones drawn."""
    gone = (SPLIT.train.users == 3) | (SPLIT.train.items == 5)
    left = SPLIT.train.select(~gone)
    users, items = left.user_ids[left.users].tolist(), left.item_ids[left.items].tolist()
    data = Interactions.from_pairs([*users, "a new", "a new", "u1"], [*items, "i1", "z", "z"])
    made = estimator(recipe=with_schedules(QUICK, max_epochs=1)).fit(data, init=fitted)
    old, new = fitted.model_, made.model_
    assert {"u3", "i5"}.isdisjoint([*made.user_ids_, *made.item_ids_])
    for old_ids, ids, old_start, start in (
        (fitted.user_ids_.tolist(), made.user_ids_.tolist(), 0, 0),
        (fitted.item_ids_.tolist(), made.item_ids_.tolist(), N_USERS, len(made.user_ids_)),
    ):
        known = [raw for raw in ids if raw in old_ids]
        assert set(ids) - set(known) in ({"a new"}, {"z"})
        rows = np.array([ids.index(raw) for raw in known]) + start
        old_rows = np.array([old_ids.index(raw) for raw in known]) + old_start
        assert (new.coarse_assignment[rows] != old.coarse_assignment[old_rows]).nnz == 0
        np.testing.assert_array_equal(new.bias[rows], old.bias[old_rows])
    user = new.coarse_assignment[[made.user_ids_.tolist().index("a new")]]
    item_position = len(made.user_ids_) + made.item_ids_.tolist().index("z")
    assert user.data.tolist() == new.coarse_assignment[[item_position]].data.tolist() == [0.5, 0.5]
    known_items = [raw in fitted.item_ids_ for raw in made.item_ids_]
    assert new.bias[item_position] == pytest.approx(new.bias[len(made.user_ids_) :][known_items].mean(), abs=1e-15)


def test_ids_that_are_numbers_in_one_model_and_text_in_the_other_are_the_same() -> None:
    still = with_schedules(QUICK, max_epochs=1)
    first = estimator(recipe=still).fit(SPLIT.train.matrix())
    pairs = list(zip(map(str, SPLIT.train.users), map(str, SPLIT.train.items), strict=True))
    made = estimator(recipe=still).fit(pairs, init=first)
    users = [int(raw) for raw in made.user_ids_]
    assert (made.model_.coarse_assignment[np.arange(len(users))] != first.model_.coarse_assignment[users]).nnz == 0


def test_a_model_of_the_coarse_stage_starts_the_coarse_stage(fitted: C2FRecommender) -> None:
    coarse_alone = estimator(n_fine=0, recipe=with_schedules(QUICK, max_epochs=1)).fit(SPLIT.train, SPLIT.valid, init=fitted)
    assert coarse_alone.model_.fine is None
    assert bytes_of(coarse_alone.model_.coarse) == bytes_of(fitted.model_.coarse)
    both = estimator(recipe=with_schedules(QUICK, max_epochs=1)).fit(SPLIT.train, SPLIT.valid, init=coarse_alone)
    assert bytes_of(both.model_.coarse) == bytes_of(fitted.model_.coarse)
    assert both.model_.fine is not None
    assert first_of(both, "fine").phase == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_coarse": 8}, "n_coarse must be 6, that of the model to start from, got 8"),
        ({"dim": 7}, "dim must be 5"),
        ({"coarse_per_entity": 1}, "coarse_per_entity must be 2"),
        ({"n_fine": 9}, "n_fine must be 4"),
        ({"fine_per_coarse": 1}, "fine_per_coarse must be 3"),
    ],
)
def test_a_warm_start_needs_a_model_of_the_same_sizes(fitted: C2FRecommender, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        estimator(**changes).fit(SPLIT.train, SPLIT.valid, init=fitted)


def test_a_warm_start_needs_an_item_in_common_and_no_checkpoint(tmp_path: Path, fitted: C2FRecommender) -> None:
    with pytest.raises(SpecError, match="must share an item with the training data, got none"):
        estimator().fit(SPLIT.train.matrix(), init=fitted)
    with pytest.raises(SettingsError, match="give init or checkpoint"):
        estimator().fit(SPLIT.train, checkpoint=tmp_path, init=fitted)
    with pytest.raises(SettingsError, match="resumes none: give init or checkpoint"):
        estimator().fit(SPLIT.train, resume=True, init=fitted)
    assert not list(tmp_path.iterdir())
