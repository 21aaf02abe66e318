"""The estimator: it learns what `train` learns, and its lists are those of brute force."""

from __future__ import annotations

import math
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from support import scalar
from support.strategies import Model as Drawn
from support.strategies import draw_model, models
from training.tiny import RECIPE, SETTINGS, content_of, tiny_split, with_schedules

from c2f_ref import C2FRecommender, Model, Settings, method, recommender
from c2f_ref.evaluation import embed_model, evaluate_model
from c2f_ref.interactions import DataError
from c2f_ref.method import MethodError, SettingsError
from c2f_ref.model import save_model
from c2f_ref.recommender import _seed_of
from c2f_ref.store import StoreError
from c2f_ref.training import to_model, train

SPLIT = tiny_split()
"""30 users "u0", ..., 40 items "i0", ..."""
N_USERS, N_ITEMS = 30, 40
QUICK = replace(with_schedules(RECIPE, max_epochs=7), sparse_pca_solver="cd")


def estimator(**changes: Any) -> C2FRecommender:
    """An estimator of the tiny model, not fitted."""
    others = {"recipe": QUICK, "implementation": "method", "random_state": 3, "verbose": 0}
    return C2FRecommender(**{**vars(SETTINGS), **others, **changes})


@pytest.fixture(scope="module")
def fitted() -> C2FRecommender:
    """Fitted once, with validation pairs of its own; no test may fit it again."""
    return estimator().fit(SPLIT.train, SPLIT.valid)


def content(made: C2FRecommender) -> Any:
    """All bytes of the model and of its embeddings, and what the evaluations found."""
    arrays = made.model_.arrays
    found = (made.history_, made.validation_ndcg_)
    return content_of((*arrays, *arrays.values(), *made.embeddings(), *found))


def scores_of(made: C2FRecommender, embedding: Any) -> list[float]:
    """H_u . H_(U+i) + b_(U+i) of every item, in loops."""
    bias = made.model_.bias[len(made.user_ids_) :]
    return [
        math.fsum(x * y for x, y in zip(embedding, row, strict=True)) + b
        for row, b in zip(made.embeddings()[1], bias, strict=True)
    ]


def seen_items(user: int) -> set[int]:
    return set(SPLIT.train.items[SPLIT.train.users == user].tolist())


NO_SEEDS: list[Any] = [-1, 1.5, "0", True, np.random.RandomState(0)]


# Parameters


def test_every_setting_is_a_parameter_stored_as_given_and_cloned_without_what_was_learned(
    fitted: C2FRecommender,
) -> None:
    others = {"recipe": "laptop", "implementation": None, "random_state": None, "verbose": None}
    assert C2FRecommender().get_params() == {**vars(Settings()), **others}
    made = C2FRecommender(n_coarse=-1, recipe="none")
    assert made.set_params(random_state="x") is made
    assert (made.n_coarse, made.recipe, made.random_state) == (-1, "none", "x")
    copy = clone(fitted)
    assert copy.get_params() == fitted.get_params()
    for call in (copy.embeddings, lambda: copy.recommend("u1"), lambda: copy.save("model.npz")):
        with pytest.raises(NotFittedError):
            call()


@pytest.mark.parametrize(
    ("parameters", "options", "message"),
    [
        ({"recipe": "fast"}, {}, "recipe must be a Recipe or one of published, laptop, demo, got"),
        ({"recipe": ["demo"]}, {}, "recipe must be a Recipe or one of"),
        ({"implementation": "no.such"}, {}, "no.such"),
        ({"n_coarse": "x"}, {}, "n_coarse"),
        ({"n_coarse": 71}, {}, "n_coarse must be at most"),
        *(({"random_state": state}, {}, "random_state must be None, an") for state in NO_SEEDS),
        ({"random_state": None}, {"checkpoint": "new"}, "needs an int as random_state, got None"),
        ({"random_state": np.random.default_rng(0)}, {"checkpoint": "new"}, "needs an int as"),
        ({}, {"resume": True}, "resume"),
    ],
)
def test_what_cannot_be_trained_with_is_refused(
    parameters: Any, options: Any, message: str, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError, match=message):
        estimator(**parameters).fit(SPLIT.train, **options)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(MethodError, match="validation pair"):  # nothing to draw them from
        estimator(n_coarse=2, n_fine=0).fit([("a", 1), ("b", 2), ("c", 3)])


def test_a_grid_search_chooses_by_validation() -> None:
    scoring: Any = lambda fitted, X, y=None: fitted.validation_ndcg_  # noqa: E731  as in the README
    tried, options = {"dim": [2, 6]}, {"cv": 2, "error_score": "raise"}
    search = GridSearchCV(estimator(n_fine=0), tried, scoring=scoring, **options)
    search.fit(sparse.vstack([SPLIT.train.matrix()] * 2, format="csr"))
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.best_params_["dim"] in (2, 6)


# Fitting


@pytest.mark.parametrize("n_fine", [SETTINGS.n_fine, 0])
def test_what_is_learned_is_what_training_leaves(n_fine: int) -> None:
    """Both stages, and without fine rows the coarse one alone."""
    settings = replace(SETTINGS, n_fine=n_fine)
    stages = [stage for stage in train(SPLIT, settings, QUICK, seed=3, ops=method) if stage]
    assert len(stages) == (2 if n_fine else 1)
    chosen = max((stage.chosen for stage in reversed(stages)), key=lambda each: each.ndcg)
    best = stages[:1] if chosen is stages[0].chosen else stages
    made, wanted = estimator(n_fine=n_fine).fit(SPLIT.train, SPLIT.valid), estimator(n_fine=n_fine)
    found = tuple(evaluation for stage in stages for evaluation in stage.evaluations)
    model = to_model(SPLIT, settings, *(stage.chosen for stage in best))
    wanted._serve(model, chosen.ndcg, found)
    assert content(made) == content(wanted)
    assert made.model_.settings == settings
    assert (made.user_ids_[7], made.item_ids_[11]) == ("u7", "i11")


def test_drawn_validation_pairs_join_the_graph_after_training() -> None:
    made = estimator(n_fine=0).fit(SPLIT.train)
    assert (made.model_.seen != SPLIT.train.matrix()).nnz == 0
    counts = f"{SPLIT.train.n_pairs - N_USERS} train, {N_USERS} valid, 0 test pairs"
    assert counts in made.model_.provenance["split"]
    ids, _ = made.recommend(SPLIT.train.user_ids, N_ITEMS)
    for user in range(N_USERS):
        assert not {f"i{item}" for item in seen_items(user)} & set(ids[user])


def test_columns_are_named_and_rated_as_on_the_command_line(fitted: C2FRecommender) -> None:
    """Pairs of training rated 5, the others 1; those of users and items unknown can be dropped."""
    parts = [("train", 5), ("valid", 5), ("test", 1)]
    frames = {}
    for name, rating in parts:
        part = getattr(SPLIT, name)
        ids = part.user_ids[part.users].tolist(), part.item_ids[part.items].tolist()
        frames[name] = {"wer": ids[0], "was": ids[1], "note": [rating] * part.n_pairs}
    how = {"user_column": "wer", "item_column": "was", "rating_column": "note", "least_rating": 2}
    frame = {name: frames["train"][name] + frames["test"][name] for name in frames["train"]}
    again = estimator().fit(frame, frames["valid"], **how)
    train, valid = ((frames[name]["wer"], frames[name]["was"]) for name in ("train", "valid"))
    assert content(again) == content(estimator().fit(train, valid))
    test = {name: [*frames["test"][name], "zz"] for name in ("wer", "was")}
    columns = {"user_column": "wer", "item_column": "was"}
    with pytest.raises(DataError, match="unknown user id 'zz'"):
        fitted.evaluate(test, **columns)
    dropped = fitted.evaluate(test, unknown="drop", **columns)
    assert dropped == fitted.evaluate(SPLIT.test)


def test_one_random_state_gives_one_result_byte_for_byte(fitted: C2FRecommender) -> None:
    """Also with validation pairs in another form; nothing is left of an earlier fit."""
    again = estimator(random_state=4).fit(SPLIT.train, SPLIT.valid)
    assert content(again) != content(fitted)
    again.recommend_for(["i1"])
    users, items = SPLIT.valid.user_ids[SPLIT.valid.users], SPLIT.valid.item_ids[SPLIT.valid.items]
    again.set_params(random_state=3).fit(SPLIT.train, np.stack([users, items], axis=1))
    assert content(again) == content(fitted)
    np.testing.assert_array_equal(again.fold_in(["i1"]), fitted.fold_in(["i1"]))


def test_generators_draw_seeds_and_the_global_one_is_never_used() -> None:
    before = np.random.get_state()[1:]  # noqa: NPY002
    generators = [np.random.default_rng(0), np.random.default_rng(0)]
    first, same, second = map(_seed_of, (*generators, generators[0]))
    assert first == same
    assert len({first, second, _seed_of(None), _seed_of(None)}) == 4
    assert all(map(np.array_equal, before, np.random.get_state()[1:]))  # noqa: NPY002


def test_progress_is_shown_on_stderr_by_default_where_somebody_reads_it(
    capsys: Any, monkeypatch: Any
) -> None:
    for verbose, wanted, is_shown in ((None, 0, 0), (None, 1, 1), (0, 1, 0), (1, 0, 1)):
        monkeypatch.setattr(recommender.ProgressLine, "wanted", lambda wanted=wanted: wanted)
        estimator(n_fine=0, verbose=verbose).fit(SPLIT.train)
        out, error = capsys.readouterr()
        assert (out, "NDCG" in error, bool(error)) == ("", is_shown, is_shown)
    for verbose, is_told in ((0, False), (None, True)):  # what is odd is told by default
        monkeypatch.setattr(recommender.ProgressLine, "wanted", lambda: False)
        estimator(verbose=verbose).fit(SPLIT.train, SPLIT.valid)
        assert ("which is the model" in capsys.readouterr().err) == is_told
        rated = {"user": [1, 1, 1, 2, 2, 2], "item": [3, 4, 4, 3, 5, 6], "rating": [1] * 6}
        estimator(verbose=verbose, n_fine=0).fit(rated)
        told = "2 users and 4 items; dropped: 1 repeated; columns not used: rating"
        assert (told in capsys.readouterr().err) == is_told


def test_a_checkpoint_is_resumed(tmp_path: Path, fitted: C2FRecommender) -> None:
    def fit(**options: Any) -> C2FRecommender:
        made = estimator(**options)
        return made.fit(SPLIT.train, SPLIT.valid, checkpoint=tmp_path, resume=len(options) > 0)

    assert content(fit()) == content(fit(verbose=0)) == content(fitted)
    for options, message in (({"random_state": 4}, "seed must be 4, got 3"), ({}, "resume")):
        with pytest.raises(StoreError, match=message):
            fit(**options)


# Serving, on drawn models


def ranker_of(drawn: Drawn, *, fine: bool, **changes: Any) -> C2FRecommender:
    """A model of both stages, or of the coarse one, whose raw ids are positions."""
    pairs = (np.ones(drawn.users.size), (drawn.users, drawn.items))
    made = C2FRecommender(implementation="method")
    model = Model.of(
        settings=replace(drawn.settings, **changes),
        user_ids=np.arange(drawn.n_users),
        item_ids=np.arange(drawn.n_items),
        seen=sparse.csr_array(pairs, shape=(drawn.n_users, drawn.n_items)),
        bias=drawn.bias,
        coarse=drawn.coarse,
        coarse_assignment=drawn.coarse_assignment,
        fine=drawn.fine if fine else None,
        fine_assignment=drawn.fine_assignment if fine else None,
    )
    made._serve(model)
    return made


@given(models(signed=True), st.booleans(), st.booleans(), st.randoms(use_true_random=False))
def test_lists_of_any_model_are_those_of_brute_force(
    drawn: Drawn, fine: bool, exclude: bool, random: Any
) -> None:
    """For users several times over and for somebody new, of any candidates.

    Scores are compared, not items, so that ties may fall either way.
    """
    ranker, n, n_items = ranker_of(drawn, fine=fine), random.randint(0, 12), drawn.n_items
    users = random.choices(range(drawn.n_users), k=random.randint(1, 4))
    candidates = random.sample(range(n_items), random.randint(0, n_items))
    options: Any = {"n": n, "exclude_seen": exclude, "items": candidates * 2}
    ids, scores = ranker.recommend(users, **options)
    assert ids.shape == scores.shape == (len(users), n)
    assert ids.dtype == np.int64
    new = random.sample(range(n_items), 2)
    lists = [(ranker.fold_in(new), set(new), *ranker.recommend_for(new, **options))]
    for row, user in enumerate(users):
        seen = set(drawn.items[drawn.users == user].tolist())
        lists.append((ranker.embeddings()[0][user], seen, ids[row], scores[row]))
    for embedding, seen, found, best in lists:
        wanted, seen = scores_of(ranker, embedding), seen if exclude else set()
        ranked = scalar.rank(wanted, set(range(n_items)) - set(candidates) | seen, n)
        is_padding = [item == -1 for item in ranked]
        assert (found == -1).tolist() == np.isneginf(best).tolist() == is_padding
        kept = [item for item in found.tolist() if item >= 0]
        assert len(set(kept)) == len(kept)
        assert set(kept) <= set(candidates) - seen
        for items in (ranked, kept):
            values = [wanted[item] for item in items[: len(kept)]]
            np.testing.assert_allclose(best[: len(kept)], values, rtol=1e-9, atol=1e-9)


@given(models(signed=True), st.booleans(), st.randoms(use_true_random=False))
def test_fold_in_has_the_direction_of_a_node_with_these_edges(
    drawn: Drawn, fine: bool, random: Any
) -> None:
    """By definition: sum over layers 0 to L - 1 of sum of G_i h_i^l, G normalised twice.

    The new node is in no other's degree. D11: an item of a degree below 0 has no edge.
    """
    n_users, settings = drawn.n_users, drawn.settings
    joined = np.hstack([drawn.norm_adjacency.toarray(), drawn.coarse_assignment.toarray()])
    degrees = [math.fsum(row) for row in joined[n_users:]]
    assume(min(map(abs, degrees)) > 1e-3)  # a sum that cancels but for rounding has no sign
    layers = ranker_of(drawn, fine=fine, n_layers=settings.n_layers - 1).embeddings()[1]
    own = random.sample(range(drawn.n_items), random.randint(1, drawn.n_items))
    n_users_of = {item: int((drawn.items == item).sum()) for item in own}
    entries = {i: 1 / math.sqrt(len(own) * n) for i, n in n_users_of.items() if n}
    total = np.zeros(settings.dim)
    for item, entry in entries.items():
        if degrees[item] > 0:
            total += entry / math.sqrt(sum(entries.values()) * degrees[item]) * layers[item]
    ranker = ranker_of(drawn, fine=fine)
    made = ranker.fold_in([*own, own[0]])
    if not total.any():
        assert made.tolist() == [0.0] * settings.dim
        return
    direction = total / np.linalg.norm(total)
    np.testing.assert_allclose(made / np.linalg.norm(made), direction, rtol=0, atol=1e-9)
    lengths = [math.hypot(*row) for row in ranker.embeddings()[0]]
    assert np.linalg.norm(made) == pytest.approx(math.fsum(lengths) / n_users, rel=1e-12)


def test_with_nothing_to_fold_in_the_biases_rank_and_zeros_have_cosine_0() -> None:
    """No layers, no items, or an item without users; tables of zeros. 5 users, 7 items, D = 6."""
    drawn = draw_model((5, 7, 4, 3, 6, 8), np.random.default_rng(1))
    is_kept = drawn.items != 2
    unsold = drawn._replace(users=drawn.users[is_kept], items=drawn.items[is_kept])
    no_layers = ranker_of(drawn, fine=True, n_layers=0)
    for ranker, own in ((no_layers, [1, 4]), (ranker_of(unsold, fine=True), [2]), (no_layers, [])):
        assert ranker.fold_in(own).tolist() == [0.0] * 6
        wanted = scalar.rank(drawn.bias[5:].tolist(), set(own), 7)
        assert ranker.recommend_for(own, 7)[0].tolist() == wanted
    ranker = ranker_of(drawn._replace(coarse=np.zeros((4, 6))), fine=False)
    ids, cosines = ranker.similar_items(1, 4)
    assert (ids.tolist(), cosines.tolist()) == ([0, 2, 3, 4], [0.0] * 4)


# Serving, on a trained model with text as ids


def test_one_id_gets_one_list_and_several_get_theirs(fitted: C2FRecommender) -> None:
    """In order, and with "" at the end where no item is left."""
    wanted = scores_of(fitted, fitted.embeddings()[0][11])
    ranked = scalar.rank(wanted, seen_items(11), N_ITEMS + 3)
    ids, scores = fitted.recommend("u11", N_ITEMS + 3)
    assert ids.tolist() == [f"i{item}" if item >= 0 else "" for item in ranked]
    assert np.isneginf(scores).tolist() == [item < 0 for item in ranked]
    in_rows, _ = fitted.recommend(np.array(["u0", "u11"]))
    assert (in_rows[1].tolist(), in_rows.shape) == (ids[:10].tolist(), (2, 10))
    assert [part.shape for part in fitted.recommend([], 3)] == [(0, 3), (0, 3)]


def test_the_score_of_a_pair_is_the_one_it_is_ranked_by(fitted: C2FRecommender) -> None:
    ids, scores = fitted.recommend("u9", 7)
    for users in ("u9", ["u9"] * 7):
        np.testing.assert_allclose(fitted.score(users, ids), scores, rtol=0, atol=1e-12)
    one = fitted.score("u9", ids[2])
    assert isinstance(one, float)
    assert one == pytest.approx(scores[2], abs=1e-12)
    wanted = scores_of(fitted, fitted.embeddings()[0][21])
    assert fitted.score(["u21"], "i39")[0] == pytest.approx(wanted[39], abs=1e-12)
    with pytest.raises(DataError, match="users and items must be of one length, got 3 and 2"):
        fitted.score(["u1", "u2", "u3"], ["i1", "i2"])


def test_the_most_similar_items_have_the_largest_cosines_and_are_others(
    fitted: C2FRecommender,
) -> None:
    unit = [[value / math.hypot(*row) for value in row] for row in fitted.embeddings()[1].tolist()]
    ids, cosines = fitted.similar_items(["i3", "i17"], N_ITEMS)
    for row, item in enumerate((3, 17)):
        wanted = [sum(x * y for x, y in zip(unit[item], other, strict=True)) for other in unit]
        ranked = scalar.rank(wanted, {item}, N_ITEMS - 1)
        assert ids[row].tolist() == [*(f"i{other}" for other in ranked), ""]
        best = [*(wanted[other] for other in ranked), -np.inf]
        np.testing.assert_allclose(cosines[row], best, rtol=0, atol=1e-12)
    assert fitted.similar_items("i3", 7)[0].tolist() == ids[0, :7].tolist()


def test_metrics_are_those_of_the_model_on_pairs_that_are_new(fitted: C2FRecommender) -> None:
    wanted = evaluate_model(fitted.model_, SPLIT.test.matrix(), (3, 9), ops=method)
    assert fitted.evaluate(SPLIT.test, (3, 9)) == wanted
    of_matrix = {name: wanted[name] for name in ("ndcg@9", "recall@9")}
    assert fitted.evaluate(SPLIT.test.matrix(), 9) == of_matrix
    pair = (f"u{SPLIT.train.users[5]}", f"i{SPLIT.train.items[5]}")
    with pytest.raises(DataError, match=rf"be disjoint, both have user and item \('{pair[0]}'"):
        fitted.evaluate([pair])
    with pytest.raises(MethodError, match="at least one user with a held-out item"):
        fitted.evaluate(sparse.csr_array((N_USERS, N_ITEMS)))


def test_embeddings_are_copies_of_what_the_model_propagates(fitted: C2FRecommender) -> None:
    users, items = fitted.embeddings()
    wanted = embed_model(fitted.model_, ops=method)
    np.testing.assert_array_equal(np.concatenate([users, items]), wanted)
    users[:] = items[:] = 0.0
    assert np.abs(np.concatenate(fitted.embeddings())).min() > 0


@pytest.mark.parametrize("n", [-1, 2.0, "3", True, None])
def test_lists_have_whole_numbers_of_items(fitted: C2FRecommender, n: Any) -> None:
    for call in (lambda: fitted.recommend("u1", n), lambda: fitted.similar_items("i1", n)):
        with pytest.raises(MethodError, match="n must be a whole number of at least 0, got"):
            call()
    assert fitted.recommend("u1", np.int64(0))[0].shape == (0,)
    for k in (n, [], [5, n], 0):
        with pytest.raises(MethodError, match="k must be one or more whole numbers from 1, got "):
            fitted.evaluate(SPLIT.test, k=k)


CALLS: list[tuple[str, tuple[Any, ...], str]] = [
    ("recommend", ("u30",), "unknown user id 'u30'"),
    ("recommend", (["u1", 7],), "unknown user id '7'"),
    ("recommend", ("u1", 3, "i40"), "unknown item id 'i40'"),
    ("recommend", ([["u1"]],), "users must be one raw id or a row of them"),
    ("recommend_for", (["u1"],), "unknown item id 'u1'"),
    ("fold_in", (np.array(["i1", "x"]),), "unknown item id 'x'"),
    ("similar_items", ("x",), "unknown item id 'x'"),
    ("score", ("u1", "z"), "unknown item id 'z'"),
    ("evaluate", ([("u1", "z"), ("u2", "y")],), "unknown item id 'z', and 1 more"),
]


@pytest.mark.parametrize(("name", "given_ids", "message"), CALLS)
def test_an_unknown_id_is_an_error_that_names_it(
    fitted: C2FRecommender, name: str, given_ids: tuple[Any, ...], message: str
) -> None:
    ids, options = given_ids[:2], {"items": given_ids[2]} if len(given_ids) > 2 else {}
    with pytest.raises(DataError, match=message):
        getattr(fitted, name)(*ids, **options)
    with pytest.raises(NotFittedError, match="not fitted yet"):
        getattr(estimator(), name)(*ids, **options)


# Keeping


def test_a_saved_model_serves_as_the_estimator_did(tmp_path: Path, fitted: C2FRecommender) -> None:
    """Its file is the same again; parameters are those of the model, its training by name."""
    fitted.save(tmp_path / "model.npz")
    read = C2FRecommender.load(tmp_path / "model.npz")
    assert (read.validation_ndcg_, read.history_) == (None, ())
    parameters = {**fitted.get_params(), "implementation": None, "recipe": str(QUICK)}
    assert read.get_params() == {**parameters, "verbose": None}
    for user in ("u1", "u20"):
        assert read.recommend(user)[0].tolist() == fitted.recommend(user)[0].tolist()
    read.save(tmp_path / "again.npz")
    assert (tmp_path / "again.npz").read_bytes() == (tmp_path / "model.npz").read_bytes()
    for provenance, recipe, seed in (
        ({"recipe": "published", "seed": "5"}, "published", 5),
        ({}, "laptop", None),
    ):
        save_model(tmp_path / "model.npz", replace(fitted.model_, provenance=provenance))
        read = C2FRecommender.load(tmp_path / "model.npz")
        assert (read.recipe, read.random_state) == (recipe, seed)


def test_tables_may_be_saved_in_fewer_bytes(tmp_path: Path, fitted: C2FRecommender) -> None:
    fitted.save(tmp_path / "m", tables="float16")
    read = C2FRecommender.load(tmp_path / "m").model_
    wanted = fitted.model_.with_tables("float16")
    assert (read.coarse.dtype, read.bias.dtype) == (np.float16, fitted.model_.bias.dtype)
    assert all(np.array_equal(read.arrays[name], part) for name, part in wanted.arrays.items())


@pytest.mark.numba
def test_a_model_of_compiled_training_is_float32(fitted: C2FRecommender) -> None:
    made = estimator(implementation="fast").fit(SPLIT.train, SPLIT.valid)
    found = {part.dtype for part in made.model_.arrays.values() if part.dtype.kind == "f"}
    assert found == {np.dtype(np.float32)}
    assert {made.model_.provenance["implementation"], "method"} == {"fast", "method"}


def test_a_pickled_estimator_is_the_same(fitted: C2FRecommender) -> None:
    copy = pickle.loads(pickle.dumps(fitted))
    assert content(copy) == content(fitted)
    assert copy.get_params() == fitted.get_params()
    np.testing.assert_array_equal(copy.recommend("u3")[1], fitted.recommend("u3")[1])
