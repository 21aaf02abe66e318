"""What the estimator makes of its input: pairs from every form of data, its own validation pairs, and what parameters stand for."""

from __future__ import annotations

import sys
import types
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from support.strategies import draw_pairs, read_only, rngs

from c2f_ref import spec
from c2f_ref.container import BundleError
from c2f_ref.interactions import DataError, Interactions
from c2f_ref.recommender.inputs import (
    drawn_for_validation,
    from_provenance,
    implementation_named,
    interactions_of,
    interactions_within,
    recipe_named,
    seed_of,
    split_for,
    to_provenance,
)
from c2f_ref.spec import CONTRACT, SettingsError
from c2f_ref.training import RECIPES, Recipe, Schedule, default_ops

PAIRS = [(0, 2), (0, 0), (1, 1), (1, 3), (2, 2), (1, 0)]
"""Every one of 3 users and 4 items is in one; no order."""
DENSE = read_only(np.array([[1.0, 0.0, 1.0, 0.0], [-2.0, 0.5, 0.0, 1.0], [0.0, 0.0, 3.0, 0.0]]))


class Column:
    """A column as pandas and polars both have it."""

    def __init__(self, values: list[Any]) -> None:
        self.values = values

    def to_list(self) -> list[Any]:
        return self.values


class Frame:
    """The part of a frame that pandas and polars share."""

    def __init__(self, columns: dict[str, list[Any]]) -> None:
        self.columns = list(columns)
        self._values = columns

    def __getitem__(self, name: str) -> Column:
        return Column(self._values[name])


def frame(user: str, item: str, *others: str) -> Frame:
    """The pairs as a frame with these column names in alphabetical order; other columns hold text."""
    columns: dict[str, list[Any]] = {name: ["x"] * len(PAIRS) for name in others}
    columns |= {user: [u for u, _ in PAIRS], item: [i for _, i in PAIRS]}
    return Frame(dict(sorted(columns.items())))


FORMS: dict[str, Callable[[], Any]] = {
    "interactions": lambda: Interactions.from_pairs(*zip(*PAIRS, strict=True)),
    "csr": lambda: sparse.csr_array(DENSE),
    "csc matrix": lambda: sparse.csc_matrix(DENSE),
    "coo with a stored zero": lambda: sparse.coo_array(
        (np.array([*[1.0] * len(PAIRS), 0.0]), np.array([*PAIRS, (2, 3)]).T), shape=(3, 4)
    ),
    "array of pairs": lambda: read_only(np.array(PAIRS)),
    "narrow array of pairs": lambda: np.array(PAIRS, dtype=np.uint8),
    "list of pairs": lambda: PAIRS,
    "array of objects": lambda: np.array(PAIRS, dtype=object),
    "dense matrix": lambda: DENSE,
    "list of rows": lambda: DENSE.tolist(),
    "frame of two columns": lambda: frame("a", "b"),
    "tuple of two arrays": lambda: tuple(np.array(PAIRS).T),
    "frame with named columns anywhere": lambda: frame("user", "item", "a", "z"),
    "frame with usual names": lambda: frame("userId", "movie_id", "a", "z"),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_the_same_data_gives_the_same_pairs(form: str) -> None:
    made = interactions_of(FORMS[form]())
    assert sorted(zip(made.users.tolist(), made.items.tolist(), strict=True)) == sorted(PAIRS)
    assert made.sha256() == interactions_of(FORMS["interactions"]()).sha256()


@pytest.mark.parametrize("form", [form for form in FORMS if form != "coo with a stored zero"])
def test_every_form_stands_for_the_same_pairs_among_known_ids(form: str) -> None:
    known = Interactions.from_indices([0, 1, 2], [3, 2, 1], 3, 4)
    within = interactions_within(known, FORMS[form]())
    assert sorted(zip(within.users.tolist(), within.items.tolist(), strict=True)) == sorted(PAIRS)
    np.testing.assert_array_equal(within.item_ids, known.item_ids)


def test_ids_in_a_list_keep_their_types() -> None:
    made = interactions_of([("b", 11), ("a", 7), ("b", 7)])
    assert made.user_ids.tolist() == ["a", "b"]
    assert made.item_ids.tolist() == [7, 11]


def test_two_columns_of_floats_are_a_matrix_unless_they_may_be_pairs() -> None:
    matrix = np.array([[0.5, 0.0], [0.0, 2.0], [1.5, -1.0]])
    made = interactions_of(matrix)
    assert (made.n_users, made.n_items, made.n_pairs) == (3, 2, 4)
    with pytest.raises(DataError, match="two columns of whole floats; a matrix of two items must be sparse"):
        interactions_of(np.array(PAIRS, dtype=np.float64))
    assert interactions_of(sparse.csr_array(np.array(PAIRS, dtype=np.float64))).n_items == 2


@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        ([(0.5, 1), (2, 3)], DataError, "ids must be all integers or all strings"),
        ([("a", 1), (2, 3)], DataError, "user ids must be all integers or all strings, got int, str"),
        (Frame({"user": [1, 2]}), DataError, r"such as user and item, got the columns \['user'\]"),
        (sparse.csr_array(np.array([[1.0, np.nan]])), DataError, "matrix must be finite"),
        (np.ones((4, 1)), ValueError, r"1 feature\(s\)"),
        (np.array([[1.0, np.inf, 0.0]]), ValueError, "infinity"),
        (np.ones(3), ValueError, "Expected 2D array"),
        ([[1, 2, "x"]], DataError, "pairs have two columns, got three"),
        (np.array([[1, 2, 5], [3, 4, 1]]), DataError, "pairs have two columns, got three"),
        (Frame({"a": [1], "b": [2], "user": [3]}), DataError, r"such as user and item, got the columns \['a', 'b', 'user'\]"),
        ("pairs.csv", DataError, r"got the path 'pairs.csv'; c2f_ref.read_interactions reads a file"),
        (np.ones((2, 3)) * 1j, ValueError, "Complex data not supported"),
    ],
    ids=lambda value: "" if not isinstance(value, str) else value[:12],
)
def test_data_that_is_neither_pairs_nor_a_matrix_is_refused(X: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        interactions_of(X)


def test_ids_are_looked_up_by_what_they_are_not_by_their_place() -> None:
    known = Interactions.from_pairs(["a", "b", "b"], [30, 10, 20])
    within = interactions_within(known, [("b", 30), ("a", 10)])
    assert list(zip(within.users.tolist(), within.items.tolist(), strict=True)) == [(0, 0), (1, 2)]
    with pytest.raises(DataError, match=r"^unknown item id 11: pairs to choose or judge"):
        interactions_within(known, [("b", 11), ("a", 11)])
    with pytest.raises(DataError, match=r"^unknown item id 12, and 2 more: pairs to choose or judge"):
        interactions_within(known, [("b", 11), ("b", 12), ("a", 12), ("b", 13), ("a", 10)])
    with pytest.raises(DataError, match="unknown user id 'c'"):
        interactions_within(known, Frame({"item": [10], "user": ["c"]}))
    with pytest.raises(DataError, match=r"a matrix must have shape \(2, 3\), users and items of fit, got \(3, 4\)"):
        interactions_within(known, DENSE)


# Validation pairs of its own


@given(st.permutations(range(2, 30)), rngs())
def test_a_tenth_of_each_users_pairs_is_drawn_rounded_up_and_never_all(sizes: list[int], rng: np.random.Generator) -> None:
    n_users, n_items = sizes[:2]
    pairs = Interactions.from_indices(*draw_pairs(n_users, n_items, rng), n_users, n_items)
    valid = drawn_for_validation(pairs, int(rng.integers(2**32))).valid
    have, drawn = Counter(pairs.users.tolist()), Counter(valid.users.tolist())
    for user, n in have.items():
        tenth = next(whole for whole in range(n + 1) if 10 * whole >= n)
        assert drawn[user] == (tenth if tenth < n else n - 1)


def test_each_of_a_users_pairs_is_drawn_equally_often() -> None:
    """User 0 has 1 pair, user 1 has 4 of which 1 is drawn: each 500 times in 2000, plus or minus 5 standard deviations of 19."""
    pairs = Interactions.from_indices([0, 1, 1, 1, 1], [3, 0, 2, 4, 5], 2, 6)
    drawn = [drawn_for_validation(pairs, seed).valid.pair_keys for seed in range(2000)]
    counts = Counter(np.concatenate(drawn).tolist())
    assert set(counts) == {6, 8, 10, 11}  # user * 6 + item
    np.testing.assert_allclose(list(counts.values()), 500, atol=97)


@pytest.mark.parametrize("target", [None, np.arange(3), ["x", "y", "x"]], ids=["none", "numbers", "text"])
def test_without_validation_pairs_they_come_from_the_data(target: Any) -> None:
    pairs = interactions_of(DENSE)
    split = split_for(pairs, target, 5)
    assert split.sha256() == split_for(pairs, None, 5).sha256()
    assert sorted([*split.train.pair_keys, *split.valid.pair_keys]) == pairs.pair_keys.tolist()
    assert (split.train.n_pairs, split.valid.n_pairs, split.test.n_pairs, split.seed) == (4, 2, 0, 5)
    assert "a tenth of each user's pairs, seed 5" in split.describe()


def test_repeats_are_counted_wherever_validation_pairs_come_from() -> None:
    """(0, 2) is given three times in X, (0, 1) twice in X_val."""
    pairs, valid = interactions_of([*PAIRS, (0, 2), (0, 2)]), [(0, 1), (2, 3), (0, 1)]
    assert "(2 repeated pairs dropped)" in split_for(pairs, None, 5).describe()
    assert "(3 repeated pairs dropped)" in split_for(pairs, valid, 5).describe()
    matrix = sparse.coo_array((np.ones(3), ([0, 2, 0], [1, 3, 1])), shape=(3, 4))
    assert "(3 repeated pairs dropped)" in split_for(pairs, matrix, 5).describe()


def test_validation_pairs_that_are_given_are_taken() -> None:
    split = split_for(interactions_of(DENSE), [(0, 1), (2, 3)], 5)
    assert (split.train.n_pairs, split.valid.pair_keys.tolist()) == (6, [1, 11])
    with pytest.raises(DataError, match=r"train and valid must be disjoint, both have user and item \(2, 2\)"):
        split_for(interactions_of(DENSE), [(0, 1), (2, 2)], 5)


# Parameters


def test_an_int_is_its_own_seed_and_a_generator_draws_one() -> None:
    assert [seed_of(7), seed_of(np.int32(8))] == [7, 8]
    for make in (np.random.default_rng, np.random.RandomState):
        generator = make(3)
        drawn = [seed_of(generator) for _ in range(3)]
        assert len(set(drawn)) == 3
        assert drawn[0] == seed_of(make(3))
    assert len({seed_of(None) for _ in range(5)}) == 5


@pytest.mark.parametrize("random_state", [-1, 1.5, "0", True, np.random])
def test_what_is_no_seed_is_refused(random_state: Any) -> None:
    with pytest.raises(SettingsError, match="random_state must be None, an int >= 0 or a generator of NumPy, got"):
        seed_of(random_state)


def test_the_global_generator_is_never_asked() -> None:
    before = np.random.get_state()  # noqa: NPY002
    seed_of(None)
    after = np.random.get_state()  # noqa: NPY002
    assert before[2] == after[2]
    np.testing.assert_array_equal(before[1], after[1])


def test_a_recipe_goes_by_its_name_or_is_given() -> None:
    assert recipe_named("published") is RECIPES["published"]
    assert recipe_named(RECIPES["laptop"]) is RECIPES["laptop"]
    for unknown in ("fast", None, ["laptop"]):
        with pytest.raises(SettingsError, match="recipe must be a Recipe or one of published, laptop, demo, got"):
            recipe_named(unknown)


def test_an_implementation_is_any_module_with_the_names_of_the_contract(monkeypatch: pytest.MonkeyPatch) -> None:
    assert implementation_named("c2f_ref.spec") is spec
    assert implementation_named(None) is default_ops()
    mine = types.ModuleType("mine")
    for name in CONTRACT[2:]:
        setattr(mine, name, getattr(spec, name))
    monkeypatch.setitem(sys.modules, "mine", mine)
    with pytest.raises(SettingsError, match=rf"CONTRACT, mine has no {CONTRACT[0]}, {CONTRACT[1]}$"):
        implementation_named("mine")
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        implementation_named("no_such_module")


@pytest.mark.parametrize(
    "recipe", ["demo", Recipe(coarse=Schedule(batch=7, lr=0.5, last_lr=0.25), fine=Schedule(batch=11, lr=0.125), bias_start="zero")]
)
def test_a_model_file_keeps_what_an_estimator_is_made_from(recipe: str | Recipe) -> None:
    assert from_provenance({"split": "x", **to_provenance(recipe, 7, 0.1)}) == (recipe, 7, 0.1)


def test_a_model_of_somebody_else_has_the_recipe_and_the_seed_that_it_names() -> None:
    assert from_provenance({"recipe": "published", "seed": "3"}) == ("published", 3, None)
    assert from_provenance({"recipe": "of their own"}) == from_provenance({}) == ("laptop", None, None)
    for no_seed in ("seven", "-1", "", "1.5"):
        assert from_provenance({"seed": no_seed}) == ("laptop", None, None)


@pytest.mark.parametrize(
    "text",
    ["{", "3", "{}", '{"recipe": "demo", "seed": "x", "validation_ndcg": 0}', '{"recipe": {}, "seed": 1, "validation_ndcg": 0}'],
)
def test_a_damaged_provenance_is_a_damaged_file(text: str) -> None:
    with pytest.raises(BundleError, match="provenance must hold what an estimator writes under 'estimator'"):
        from_provenance({"estimator": text})
