"""Interactions: what is a pair, what is a repeat, what is refused."""

from __future__ import annotations

import hashlib
import json
import pickle
import struct
from dataclasses import FrozenInstanceError, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from support.pairs import pairs_of, raw_pairs_of, times_of

from c2f_ref.interactions import DataError, Interactions

of_pairs, of_indices = Interactions.from_pairs, Interactions.from_indices
# 3 users, 4 items, 4 pairs
BY_HAND = of_pairs(["b", "a", "b", "c", "b"], [40, 10, 30, 20, 30], timestamps=[5, 4, 9, 2, 7])


def test_raw_pairs_become_sorted_positions_on_sorted_ids() -> None:
    """Ids: a -> 0, b -> 1, c -> 2; 10 -> 0 ... 40 -> 3; (b, 30) came at 9 and at 7, 7 is kept."""
    assert BY_HAND.user_ids.tolist() == ["a", "b", "c"]
    assert BY_HAND.item_ids.tolist() == [10, 20, 30, 40]
    assert BY_HAND.item_ids.dtype == np.int64
    assert pairs_of(BY_HAND) == [(0, 0), (1, 2), (1, 3), (2, 1)]
    assert times_of(BY_HAND) == [4.0, 7.0, 5.0, 2.0]
    assert (BY_HAND.n_users, BY_HAND.n_items, BY_HAND.n_entities) == (3, 4, 7)
    assert (BY_HAND.n_pairs, BY_HAND.n_duplicates) == (4, 1)
    assert BY_HAND.pair_keys.tolist() == [0, 6, 7, 9]  # user * 4 + item


def test_positions_keep_entities_without_pairs_and_the_order_of_ids() -> None:
    made = of_indices([2, 0, 2], [1, 4, 0], 3, 5, user_ids=["z", "y", "x"])
    assert pairs_of(made) == [(0, 4), (2, 0), (2, 1)]
    assert raw_pairs_of(made) == [("z", 4), ("x", 0), ("x", 1)]
    assert made.item_ids.tolist() == [0, 1, 2, 3, 4]
    assert (made.user_index("y"), made.timestamps) == (1, None)


@pytest.mark.parametrize("users", [[1, 2, 1], ["1", "2", "1"]])
def test_pairs_rated_too_low_vanish_with_their_ids(users: list[Any]) -> None:
    """Of (1, 5) and (2, 6) only ratings >= 4 stay, so 2 and 6 do not exist; 4 itself is enough."""
    ratings, times = [4.0, 3.5, 5.0], [30, 20, 10]
    made = of_pairs(users, [5, 6, 8], ratings=ratings, least_rating=4, timestamps=times)
    assert raw_pairs_of(made) == [(users[0], 5), (users[0], 8)]
    assert (made.user_ids.tolist(), made.item_ids.tolist()) == (users[:1], [5, 8])
    assert times_of(made) == [30.0, 10.0]
    assert of_pairs(users, [5, 6, 8], ratings=[0.0, -1.0, 2.0]).n_pairs == 3


@pytest.mark.parametrize("make", [sparse.csr_array, sparse.csc_array, sparse.lil_array])
def test_stored_values_that_are_not_0_are_pairs(make: Any) -> None:
    made = Interactions.from_csr(make(np.array([[0, 2.0, 0], [1.0, 0, 0.5]])), user_ids=["u", "v"])
    assert raw_pairs_of(made) == [("u", 1), ("v", 0), ("v", 2)]
    stored = (np.array([0.0, 1.0, 1.0, 3.0]), np.array([0, 2, 1, 1]), np.array([0, 2, 4]))
    matrix = sparse.csr_array(stored, shape=(2, 3))
    made = Interactions.from_csr(matrix)
    assert pairs_of(made) == [(0, 2), (1, 1)]  # a stored 0 is none, a place stored twice is one
    assert (made.dropped, made.n_duplicates) == ({"stored zeros": 1, "repeated": 1}, 1)
    rated = Interactions.from_csr(matrix, least_rating=2)
    assert (pairs_of(rated), rated.dropped["rated below 2"]) == ([(1, 1)], 2)


def test_a_dense_matrix_is_read_where_it_is_asked_for() -> None:
    made = Interactions.from_dense([[0, 2, 0], [1, 0, 5]], user_ids=["u", "v"])
    assert raw_pairs_of(made) == [("u", 1), ("v", 0), ("v", 2)]
    assert (made.dropped, made.source) == ({}, "3 values")
    for wrong in ([[0, -1.0]], [1, 2], [["a"]], [[np.nan]]):
        with pytest.raises(DataError, match="matrix"):
            Interactions.from_dense(wrong)


def test_matrix_holds_a_1_for_each_pair_in_memory_of_its_own() -> None:
    matrix = BY_HAND.matrix()
    assert matrix.toarray().tolist() == [[1, 0, 0, 0], [0, 0, 1, 1], [0, 1, 0, 0]]
    assert (matrix.dtype, matrix.indices.dtype) == (np.float64, np.int32)
    assert matrix.has_sorted_indices
    matrix.data[:] = 9.0
    matrix.indices[:] = 0
    assert BY_HAND.matrix().toarray().sum() == 4


def test_empty_is_legal_everywhere() -> None:
    for empty in (
        of_pairs([], [], ratings=[], least_rating=1.0, timestamps=[]),
        of_indices([], [], 0, 0),
        Interactions.from_csr(sparse.csr_array((0, 3))),
        BY_HAND.select(np.zeros(4, dtype=bool)),
    ):
        assert (empty.n_pairs, empty.users.dtype, empty.items.dtype) == (0, np.int64, np.int64)
        assert empty.matrix().shape == (empty.n_users, empty.n_items)


def test_select_keeps_ids_and_times_and_touches_nothing_else() -> None:
    chosen = BY_HAND.select(np.array([True, False, True, False]), dropped={"repeated": 3})
    assert raw_pairs_of(chosen) == [("a", 10), ("b", 40)]
    assert times_of(chosen) == [4.0, 5.0]
    assert (chosen.n_users, chosen.n_items, chosen.n_duplicates) == (3, 4, 3)
    assert BY_HAND.select(np.ones(4, dtype=bool)).n_duplicates == 0
    for mask in ([0, 1, 2], [True, False], np.array([1, 0, 1, 0])):
        with pytest.raises(DataError, match="mask must be 4 bools, got "):
            BY_HAND.select(mask)
    for name in ("users", "items", "user_ids", "item_ids", "timestamps"):
        with pytest.raises(ValueError, match="read-only"):
            getattr(chosen, name)[0] = 0


def test_7_and_its_text_are_the_same_id() -> None:
    made = of_pairs([7, -1, 12], [3, 5, 5])
    assert made.user_index(7) == made.user_index("7") == made.user_index(np.int64(7)) == 1
    assert made.user_index("-1") == 0
    assert made.user_index([12, "7", -1]).tolist() == [2, 1, 0]
    assert made.item_index(np.array([5, 3, 5])).tolist() == [1, 0, 1]
    assert made.item_index([]).dtype == np.int64
    assert of_pairs(["7", "x"], ["a", "b"]).user_index(7) == 0


def test_unknown_ids_are_named_and_counted_once() -> None:
    """Of 7, 8, "8" and 9 the 8 is one."""
    made = of_pairs([1, 2], [3, 5])
    for raw in (8, "8", "01", "", " 1", None, 1.0):
        for wanted in (raw, [1, raw]):
            with pytest.raises(DataError, match=f"^unknown user id {raw!r}$"):
                made.user_index(wanted)
    for several, more in (
        ([3, 7, 8, "8", 5, 9, 7], ", and 2 more"),
        ([7, 8], ", and 1 more"),
        ([3, 7, 7], ""),
    ):
        with pytest.raises(DataError, match=f"^unknown item id 7{more}$"):
            made.item_index(several)


def test_arrays_are_read_only_and_shared_with_no_caller() -> None:
    users, items, ids, times = map(np.array, ([0, 1], [2, 0], [5, 6, 7], [1.0, 2.0]))
    made = Interactions(users, items, 2, 3, np.arange(2), ids, times)
    for given_ in (users, items, ids, times):
        given_[:] = 1
    assert raw_pairs_of(made) == [(0, 7), (1, 5)]
    assert times_of(made) == [1.0, 2.0]
    for name in ("users", "items", "user_ids", "item_ids", "timestamps"):
        with pytest.raises(ValueError, match="read-only"):
            getattr(made, name)[0] = 0
    with pytest.raises(FrozenInstanceError):
        made.n_users = 9  # type: ignore[misc]


def test_read_only_input_and_every_integer_type_are_taken() -> None:
    for dtype in (np.int8, np.int32, np.uint64, ">i8"):
        users = np.array([1, 0], dtype=dtype)
        users.flags.writeable = False
        assert pairs_of(of_indices(users, users, 2, 3)) == [(0, 0), (1, 1)]
        assert of_pairs(users, list(users)).user_ids.dtype == np.int64
    ends = [-(2**63), 2**63 - 1]
    assert of_pairs(ends, ends).user_ids.tolist() == ends
    texts = np.array(["b", "a"], dtype=object), np.array(["x", "y"])
    assert of_pairs(*texts).user_ids.tolist() == ["a", "b"]


def test_pairs_without_an_id_are_dropped_and_counted() -> None:
    missing = [None, float("nan"), "", "NaN", "NULL", "\\N"]
    made = of_pairs([*missing, "a", "a"], [*range(7), None], timestamps=range(8))
    assert (raw_pairs_of(made), made.dropped) == ([("a", 6)], {"without an id": 7})
    assert of_pairs([None, 4], [1, 2]).user_ids.tolist() == [4]
    with pytest.raises(DataError, match="must not be empty"):
        of_indices([0], [0], 1, 1, user_ids=[""])


def test_hash_is_that_of_counts_pairs_and_ids() -> None:
    """Users "é", "x", items 5, 6, 7, pairs (0, 2), (1, 0): the bytes that the docstring says."""
    ids: dict[str, Any] = {"user_ids": ["é", "x"], "item_ids": [5, 6, 7]}
    made = of_indices([1, 0], [0, 2], 2, 3, **ids, timestamps=[3.0, 4.0])
    positions, item_ids = struct.pack("<4q", 0, 1, 2, 0), struct.pack("<3q", 5, 6, 7)
    content = b"[2, 3, 2]" + positions + json.dumps(["é", "x"]).encode() + item_ids
    assert made.sha256() == hashlib.sha256(content).hexdigest()
    assert replace(made, timestamps=None, dropped={}).sha256() == made.sha256()


ANY_IDS = "user ids must be all integers or all strings, got "


@pytest.mark.parametrize(
    ("arguments", "keywords", "message"),
    [
        (([1, 2], [3]), {}, "users and items must be pairs, got 2 and 1"),
        (([1], [3]), {"timestamps": [1.0, 2.0]}, "timestamps must have one value per pair, 1, got"),
        (([1], [3]), {"timestamps": [np.nan]}, "timestamps must be finite numbers, got nan"),
        (([1], [3]), {"timestamps": ["4"]}, "timestamps must be one row of finite numbers, got <U"),
        (([1], [3]), {"least_rating": 2.0}, "least_rating must be finite, with ratings, got 2.0"),
        (([1], [3]), {"ratings": [2.0], "least_rating": np.nan}, "least_rating must be finite"),
        (([1, "a"], [3, 4]), {}, f"{ANY_IDS}int, str"),
        (([1.0], [3]), {}, f"{ANY_IDS}float"),
        (([True], [1]), {}, f"{ANY_IDS}bool"),
        (([b"x"], [1]), {}, f"{ANY_IDS}bytes"),
        ((np.zeros((2, 2), dtype=int), [1, 2]), {}, f"{ANY_IDS}ndarray"),
        (("abc", "xyz"), {}, "user ids must be one for each pair, got the text 'abc'"),
        (([1.0, None], [1, 2]), {}, f"{ANY_IDS}float"),
        ((["a\0"], [1]), {}, "user ids must not be empty nor hold NUL, got 'a\\x00'"),
        (([2**63], [1]), {}, "user ids must be within int64, got 9223372036854775808"),
        (
            ([-(2**63), -(2**63) - 1], [1, 1]),
            {},
            f"user ids must be within int64, got {-(2**63) - 1}",
        ),
    ],
)
def test_raw_pairs_out_of_order_are_refused(arguments: Any, keywords: Any, message: str) -> None:
    with pytest.raises(DataError) as caught:
        of_pairs(*arguments, **keywords)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("arguments", "keywords", "message"),
    [
        (([0, 2], [0, 0], 2, 3), {}, "users must be integers in [0, 2), got 2"),
        (([0, 1], [0, 3], 2, 3), {}, "items must be integers in [0, 3), got 3"),
        (([0, -1], [0, 0], 2, 3), {}, "users must be integers in [0, 2), got -1"),
        (([0, 1], [0], 2, 3), {}, "items must have one value per pair, 2, got 1"),
        (([0.0], [0], 2, 3), {}, "users must be one row of integers in [0, 2), got float64(1,)"),
        (([[0]], [0], 2, 3), {}, "users must be one row of integers in [0, 2), got int64(1, 1)"),
        (([], [], 2, 2**31), {}, "n_items must be an integer in [0, 2147483647], got 2147483648"),
        (([], [], True, 3), {}, "n_users must be an integer in [0, 2147483647], got True"),
        (([0], [0], 2, 3), {"user_ids": [5]}, "expected 2 user ids, got 1, 1 different"),
        (([0], [0], 2, 3), {"item_ids": [5, 6, 5]}, "expected 3 item ids, got 3, 2 different"),
        (([0], [0], 2, 3), {"user_ids": ["a", "a"]}, "expected 2 user ids, got 2, 1 different"),
        (([0], [0], 2, 3), {"timestamps": [np.inf]}, "timestamps must be finite numbers, got inf"),
    ],
)
def test_positions_out_of_order_are_refused(arguments: Any, keywords: Any, message: str) -> None:
    with pytest.raises(DataError) as caught:
        of_indices(*arguments, **keywords)
    assert str(caught.value) == message


def test_a_matrix_that_is_not_sparse_and_finite_is_refused() -> None:
    for value in (np.nan, np.inf, -1.0):
        matrix = sparse.csr_array(np.array([[1.0, 0.0, 0.0], [0.0, 0.0, value]]))
        with pytest.raises(DataError, match=rf"finite and not negative, got {value} at \(1, 2\)"):
            Interactions.from_csr(matrix)
    for wrong in (np.eye(2), [[1]], None, sparse.coo_array(np.ones(3))):
        with pytest.raises(DataError, match="expected a 2-dimensional sparse matrix, got "):
            Interactions.from_csr(wrong)


def test_an_error_survives_pickling_and_shortens_a_long_token() -> None:
    error = DataError("expected a position", path="some/file", line=3, token="x" * 1000)
    assert str(error) == f"some/file, line 3: expected a position, got '{'x' * 80}'"
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.path, again.line) == (str(error), "some/file", 3)
    assert again.token == "x" * 1000


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4), st.integers(0, 9))))
def test_repeats_count_once_at_their_earliest_time(rows: list[tuple[int, int, int]]) -> None:
    """By definition: a dictionary from pair to the least time."""
    earliest: dict[tuple[int, int], int] = {}
    for user, item, time in rows:
        earliest[user, item] = min(time, earliest.get((user, item), time))
    users, items, times = [list(column) for column in zip(*rows, strict=True)] or [[], [], []]
    texts = [f"u{user}" for user in users], [f"i{item}" for item in items]
    for made in (
        of_indices(users, items, 4, 5, timestamps=times),
        of_pairs(users, items, timestamps=times),
        of_pairs(*texts, timestamps=times),
    ):
        found = [(int(str(u).lstrip("u")), int(str(i).lstrip("i"))) for u, i in raw_pairs_of(made)]
        assert found == sorted(earliest)
        assert times_of(made) == [earliest[pair] for pair in found]
        assert made.n_duplicates == len(rows) - len(earliest)
        assert replace(made, dropped={"repeated": 7}).n_duplicates == 7  # known repeats, none new
    made = of_indices(users, items, 4, 5)
    assert pairs_of(made) == sorted(earliest)
    assert Interactions.from_csr(made.matrix()).sha256() == made.sha256()
