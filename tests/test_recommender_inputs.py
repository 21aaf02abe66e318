"""What the estimator makes of data: pairs from every form, and validation pairs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from support.strategies import draw_pairs, read_only, rngs

from c2f_ref.interactions import DataError, Interactions
from c2f_ref.recommender.inputs import interactions_of, interactions_within, split_for

PAIRS = [(0, 2), (0, 0), (1, 1), (1, 3), (2, 2), (1, 0)]
"""Every one of 3 users and 4 items is in one; no order."""
DENSE = read_only(np.array([[1.0, 0.0, 1.0, 0.0], [-2.0, 0.5, 0.0, 1.0], [0.0, 0.0, 3.0, 0.0]]))


class Frame(dict[str, list[Any]]):
    """What pandas and polars share: `columns`, and columns that have `to_list`."""

    @property
    def columns(self) -> list[str]:
        return sorted(self)

    def __getitem__(self, name: str) -> Any:
        return SimpleNamespace(to_list=lambda: self.get(name))


def frame(user: str, item: str, *others: str) -> Frame:
    """The pairs with these column names; other columns hold text."""
    users, items = ([pair[side] for pair in PAIRS] for side in (0, 1))
    return Frame({user: users, item: items} | {name: ["x"] * len(PAIRS) for name in others})


FORMS: dict[str, Callable[[], Any]] = {
    "interactions": lambda: Interactions.from_pairs(*zip(*PAIRS, strict=True)),
    "csr": lambda: sparse.csr_array(DENSE),
    "coo with a stored zero": lambda: sparse.coo_array(
        (np.array([*[1.0] * len(PAIRS), 0.0]), np.array([*PAIRS, (2, 3)]).T), shape=(3, 4)
    ),
    "array of pairs": lambda: read_only(np.array(PAIRS)),
    "narrow array of pairs": lambda: np.array(PAIRS, dtype=np.uint8),
    "list of pairs": lambda: PAIRS,
    "array of objects": lambda: np.array(PAIRS, dtype=object),
    "tuple of two arrays": lambda: tuple(np.array(PAIRS).T),
    "dense matrix": lambda: DENSE,
    "list of rows": lambda: DENSE.tolist(),
    "frame of two columns": lambda: frame("a", "b"),
    "frame with named columns anywhere": lambda: frame("user", "item", "a", "z"),
    "frame with usual names": lambda: frame("userId", "movie_id", "a", "z"),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_the_same_data_gives_the_same_pairs(form: str) -> None:
    """Alone, and among known ids; a stored zero is no pair."""
    known = Interactions.from_indices([0, 1, 2], [3, 2, 1], 3, 4)
    for made in (interactions_of(FORMS[form]()), interactions_within(known, FORMS[form]())):
        assert sorted(zip(made.users.tolist(), made.items.tolist(), strict=True)) == sorted(PAIRS)
        assert made.sha256() == FORMS["interactions"]().sha256()


def test_ids_in_a_list_keep_their_types() -> None:
    made = interactions_of([("b", 11), ("a", 7), ("b", 7)])
    assert (made.user_ids.tolist(), made.item_ids.tolist()) == (["a", "b"], [7, 11])


def test_two_columns_of_floats_are_a_matrix_unless_they_may_be_pairs() -> None:
    made = interactions_of(np.array([[0.5, 0.0], [0.0, 2.0], [1.5, -1.0]]))
    assert (made.n_users, made.n_items, made.n_pairs) == (3, 2, 4)
    with pytest.raises(DataError, match="got floats; a matrix must be sparse"):
        interactions_of(np.array(PAIRS, dtype=np.float64))
    assert interactions_of(sparse.csr_array(np.array(PAIRS, dtype=np.float64))).n_items == 2


@pytest.mark.parametrize(
    ("X", "message"),
    [
        ([(0.5, 1), (2, 3)], "ids must be all integers or all strings"),
        ([("a", 1), (2, 3)], "user ids must be all integers or all strings, got int, str"),
        (Frame(user=[1, 2]), r"one user and one item column, got the columns \['user'\]"),
        (Frame(a=[1], b=[2], user=[3]), r"got the columns \['a', 'b', 'user'\]"),
        (sparse.csr_array(np.array([[1.0, np.nan]])), "must be finite"),
        (np.array([[1.0, np.inf, 0.0]]), "must be finite"),
        (np.ones((4, 1)), r"users times items, got float64 of shape \(4, 1\)"),
        (np.ones(3), r"expected pairs, or a matrix .* got float64 of shape \(3,\)"),
        ([], r"expected pairs, or a matrix .* got object of shape \(0,\)"),
        ([[1, 2], [3]], r"expected pairs, or a matrix .* got object of shape \(2,\)"),
        (np.ones((2, 3)) * 1j, "expected pairs, or a matrix of numbers"),
        ([[1, 2, "x", 3]], "a matrix must hold numbers"),
        ([[1, 2, "x"]], "pairs have two columns, got three"),
        (np.array([[1, 2, 5], [3, 4, 1]]), "pairs have two columns, got three"),
        ("pairs.csv", r"got a path; read_interactions\('pairs.csv'\) reads a file"),
        ((np.array([0, 1]), np.array([2])), "2.*1"),
    ],
    ids=lambda value: value[:12] if isinstance(value, str) else "",
)
def test_data_that_is_neither_pairs_nor_a_matrix_is_refused(X: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        interactions_of(X)


def test_ids_are_looked_up_by_what_they_are_not_by_their_place() -> None:
    known = Interactions.from_pairs(["a", "b", "b"], [30, 10, 20])
    within = interactions_within(known, [("b", 30), ("a", 10)])
    assert list(zip(within.users.tolist(), within.items.tolist(), strict=True)) == [(0, 0), (1, 2)]
    with pytest.raises(DataError, match=r"^unknown item id 12, and 2 more: validation and test"):
        interactions_within(known, [("b", 11), ("b", 12), ("a", 12), ("b", 13), ("a", 10)])
    with pytest.raises(DataError, match="unknown user id 'c'"):
        interactions_within(known, Frame(item=[10], user=["c"]))
    with pytest.raises(DataError, match=r"must have the shape of X, \(2, 3\), got \(3, 4\)"):
        interactions_within(known, DENSE)


@given(st.permutations(range(2, 30)), rngs())
def test_a_tenth_of_each_users_pairs_validates_rounded_up_and_never_all(
    sizes: list[int], rng: np.random.Generator
) -> None:
    n_users, n_items = sizes[:2]
    pairs = Interactions.from_indices(*draw_pairs(n_users, n_items, rng), n_users, n_items)
    seed = int(rng.integers(2**32))
    split = split_for(pairs, None, seed)
    assert sorted([*split.train.pair_keys, *split.valid.pair_keys]) == pairs.pair_keys.tolist()
    assert (split.test.n_pairs, split.seed) == (0, seed)
    have, drawn = Counter(pairs.users.tolist()), Counter(split.valid.users.tolist())
    for user, n in have.items():
        tenth = next(whole for whole in range(n + 1) if 10 * whole >= n)
        assert drawn[user] == (tenth if tenth < n else n - 1)


def test_each_of_a_users_pairs_validates_equally_often() -> None:
    """Of 4 pairs one is drawn: each 125 times in 500, give or take 5 deviations of 9.7."""
    pairs = Interactions.from_indices([0, 1, 1, 1, 1], [3, 0, 2, 4, 5], 2, 6)
    drawn = [split_for(pairs, None, seed).valid.pair_keys for seed in range(500)]
    counts = Counter(np.concatenate(drawn).tolist())
    assert set(counts) == {6, 8, 10, 11}  # user * 6 + item
    np.testing.assert_allclose(list(counts.values()), 125, atol=48)


def test_given_validation_pairs_are_taken_and_repeats_are_counted() -> None:
    """(0, 2) is given three times in X, (0, 1) twice for validation."""
    pairs, valid = interactions_of([*PAIRS, (0, 2), (0, 2)]), [(0, 1), (2, 3), (0, 1)]
    split = split_for(pairs, valid, 5)
    assert (split.train.n_pairs, split.test.n_pairs) == (6, 0)
    assert split.valid.pair_keys.tolist() == [1, 11]
    assert "(3 repeated pairs dropped)" in split.describe()
    assert "(2 repeated pairs dropped)" in split_for(pairs, None, 5).describe()
    with pytest.raises(DataError, match=r"must be disjoint, both have user and item \(2, 2\)"):
        split_for(pairs, [(0, 1), (2, 2)], 5)
