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

from c2f_ref.interactions import DataError, Interactions

# 3 users, 5 items, 4 pairs
BY_HAND = Interactions.from_pairs(["b", "a", "b", "c", "b"], [40, 10, 30, 20, 30], timestamps=[5, 4, 9, 2, 7])


def pairs_of(interactions: Interactions) -> list[tuple[int, int]]:
    return list(zip(interactions.users.tolist(), interactions.items.tolist(), strict=True))


def raw_pairs_of(interactions: Interactions) -> list[tuple[Any, Any]]:
    return [(interactions.user_ids[u].item(), interactions.item_ids[i].item()) for u, i in pairs_of(interactions)]


def test_raw_pairs_become_sorted_positions_on_sorted_ids() -> None:
    """Ids: a -> 0, b -> 1, c -> 2; 10 -> 0 ... 40 -> 3; (b, 30) came at 9 and at 7, and 7 is kept."""
    assert BY_HAND.user_ids.tolist() == ["a", "b", "c"]
    assert BY_HAND.item_ids.tolist() == [10, 20, 30, 40]
    assert BY_HAND.item_ids.dtype == np.int64
    assert pairs_of(BY_HAND) == [(0, 0), (1, 2), (1, 3), (2, 1)]
    assert BY_HAND.timestamps is not None
    assert BY_HAND.timestamps.tolist() == [4.0, 7.0, 5.0, 2.0]
    assert (BY_HAND.n_users, BY_HAND.n_items, BY_HAND.n_entities, BY_HAND.n_pairs, BY_HAND.n_duplicates) == (3, 4, 7, 4, 1)
    assert BY_HAND.pair_keys.tolist() == [0, 6, 7, 9]  # user * 4 + item


def test_positions_keep_entities_without_pairs() -> None:
    made = Interactions.from_indices([2, 0, 2], [1, 4, 0], 3, 5)
    assert pairs_of(made) == [(0, 4), (2, 0), (2, 1)]
    assert made.user_ids.tolist() == [0, 1, 2]
    assert made.item_ids.tolist() == [0, 1, 2, 3, 4]
    assert made.timestamps is None


def test_ids_given_with_positions_keep_their_order() -> None:
    made = Interactions.from_indices([0, 1], [2, 0], 2, 3, user_ids=["z", "y"], item_ids=[7, -3, 5])
    assert raw_pairs_of(made) == [("z", 5), ("y", 7)]
    assert made.user_index("y") == 1
    assert made.item_index(-3) == 1


def test_pairs_rated_too_low_vanish_with_their_ids() -> None:
    """Of (1, 5) and (2, 6) only ratings >= 4 stay, so user 2 and item 6 do not exist; 4 itself is enough."""
    made = Interactions.from_pairs([1, 2, 1], [5, 6, 8], ratings=[4.0, 3.5, 5.0], least_rating=4, timestamps=[30, 20, 10])
    assert raw_pairs_of(made) == [(1, 5), (1, 8)]
    assert made.user_ids.tolist() == [1]
    assert made.item_ids.tolist() == [5, 8]
    assert made.timestamps is not None
    assert made.timestamps.tolist() == [30.0, 10.0]


def test_ratings_without_a_limit_drop_nothing() -> None:
    assert Interactions.from_pairs([1, 2], [5, 6], ratings=[0.0, -1.0]).n_pairs == 2


@pytest.mark.parametrize("make", [sparse.csr_array, sparse.csc_matrix, sparse.coo_array, sparse.lil_array])
def test_stored_values_that_are_not_0_are_pairs(make: Any) -> None:
    made = Interactions.from_csr(make(np.array([[0.0, 2.0, 0.0], [-1.0, 0.0, 0.5]])), user_ids=["u", "v"])
    assert pairs_of(made) == [(0, 1), (1, 0), (1, 2)]
    assert (made.n_users, made.n_items) == (2, 3)
    assert made.user_ids.tolist() == ["u", "v"]


def test_a_stored_0_is_no_pair_and_a_place_stored_twice_is_one() -> None:
    matrix = sparse.csr_array((np.array([0.0, 1.0, 1.0, -1.0]), np.array([0, 2, 1, 1]), np.array([0, 2, 4])), shape=(2, 3))
    made = Interactions.from_csr(matrix)
    assert pairs_of(made) == [(0, 2), (1, 1)]
    assert made.n_duplicates == 1


def test_matrix_holds_a_1_for_each_pair_in_memory_of_its_own() -> None:
    matrix = BY_HAND.matrix()
    assert matrix.toarray().tolist() == [[1, 0, 0, 0], [0, 0, 1, 1], [0, 1, 0, 0]]
    assert matrix.dtype == np.float64
    assert matrix.indices.dtype == np.int32
    assert matrix.has_sorted_indices
    matrix.data[:] = 9.0
    matrix.indices[:] = 0
    assert BY_HAND.matrix().toarray().sum() == 4


def test_empty_is_legal_everywhere() -> None:
    for empty in (
        Interactions.from_pairs([], [], ratings=[], least_rating=1.0, timestamps=[]),
        Interactions.from_indices([], [], 0, 0),
        Interactions.from_csr(sparse.csr_array((0, 0))),
        BY_HAND.select(np.zeros(4, dtype=bool)),
        Interactions.from_indices([], [], 0, 3),
    ):
        assert empty.n_pairs == 0
        assert empty.users.dtype == empty.items.dtype == np.int64
        assert empty.matrix().shape == (empty.n_users, empty.n_items)
        assert len(empty.sha256()) == 64


def test_select_keeps_the_id_spaces_and_the_times() -> None:
    chosen = BY_HAND.select(np.array([True, False, True, False]))
    assert raw_pairs_of(chosen) == [("a", 10), ("b", 40)]
    assert chosen.timestamps is not None
    assert chosen.timestamps.tolist() == [4.0, 5.0]
    assert (chosen.n_users, chosen.n_items, chosen.n_duplicates) == (3, 4, 0)


@pytest.mark.parametrize("mask", [[0, 1, 2], [True, False], np.array([1, 0, 1, 0])])
def test_select_refuses_what_is_no_mask(mask: Any) -> None:
    with pytest.raises(DataError, match=r"mask must be bool of shape \(4,\)"):
        BY_HAND.select(mask)


def test_7_and_its_string_are_the_same_id() -> None:
    made = Interactions.from_pairs([7, -1, 12], [3, 5, 5])
    assert made.user_index(7) == made.user_index("7") == made.user_index(np.int64(7)) == 1
    assert made.user_index("-1") == 0
    assert made.user_index([12, "7", -1]).tolist() == [2, 1, 0]
    assert made.item_index(np.array([5, 3, 5])).tolist() == [1, 0, 1]
    assert made.item_index([]).dtype == np.int64
    assert Interactions.from_pairs(["7", "x"], ["a", "b"]).user_index(7) == 0


@pytest.mark.parametrize("raw", [8, "8", "07", "", " 7", None, 7.0])
def test_an_unknown_id_is_named(raw: Any) -> None:
    made = Interactions.from_pairs([7, 9], [3, 5])
    for wanted in (raw, [7, raw]):
        with pytest.raises(DataError, match="unknown user id") as caught:
            made.user_index(wanted)
        assert str(caught.value) == f"unknown user id {raw!r}"
    with pytest.raises(DataError, match="unknown item id 'zz'"):
        made.item_index("zz")


def test_several_unknown_ids_are_counted() -> None:
    """Each id once, however often it is asked for: of 7, 8, "8" and 9 the 8 is one."""
    made = Interactions.from_pairs([1, 2], [3, 5])
    with pytest.raises(DataError) as caught:
        made.item_index([3, 7, 8, "8", 5, 9, 7])
    assert str(caught.value) == "unknown item id 7, and 2 more"
    with pytest.raises(DataError) as caught:
        made.item_index([3, 7, 7])
    assert str(caught.value) == "unknown item id 7"


def test_arrays_are_read_only_and_shared_with_no_caller() -> None:
    users, items, ids, times = np.array([0, 1]), np.array([2, 0]), np.array([5, 6, 7]), np.array([1.0, 2.0])
    made = Interactions.from_indices(users, items, 2, 3, item_ids=ids, timestamps=times)
    direct = Interactions(users, items, 2, 3, np.arange(2), ids, times)
    for array in (users, items, ids, times):
        assert array.flags.writeable
        array[:] = 1
    for interactions in (made, direct):
        assert pairs_of(interactions) == [(0, 2), (1, 0)]
        assert interactions.item_ids.tolist() == [5, 6, 7]
        assert interactions.timestamps is not None
        assert interactions.timestamps.tolist() == [1.0, 2.0]
        for name in ("users", "items", "user_ids", "item_ids", "timestamps"):
            with pytest.raises(ValueError, match="read-only"):
                getattr(interactions, name)[0] = 0
        with pytest.raises(FrozenInstanceError):
            interactions.n_users = 9  # type: ignore[misc]


def test_read_only_input_and_every_int_type_are_taken() -> None:
    for dtype in (np.int8, np.int32, np.uint64):
        users = np.array([1, 0], dtype=dtype)
        users.flags.writeable = False
        assert pairs_of(Interactions.from_indices(users, users, 2, 3)) == [(0, 0), (1, 1)]
        assert Interactions.from_pairs(users, users).user_ids.dtype == np.int64
    assert Interactions.from_pairs(np.array(["b", "a"], dtype=object), np.array(["x", "y"])).user_ids.tolist() == ["a", "b"]


def test_hash_is_that_of_counts_pairs_and_ids() -> None:
    """2 users "é", "x" and 3 items 5, 6, 7; pairs (0, 2), (1, 0): the bytes the docstring promises, made by struct and json."""
    made = Interactions.from_indices([1, 0], [0, 2], 2, 3, user_ids=["é", "x"], item_ids=[5, 6, 7], timestamps=[3.0, 4.0])
    content = b"[2, 3, 2]" + struct.pack("<4q", 0, 1, 2, 0) + json.dumps(["é", "x"]).encode() + struct.pack("<3q", 5, 6, 7)
    assert made.sha256() == hashlib.sha256(content).hexdigest()
    assert replace(made, timestamps=None, n_duplicates=3).sha256() == made.sha256()


def test_hash_tells_apart_what_differs() -> None:
    base = Interactions.from_indices([0], [0], 2, 3)
    others = [
        Interactions.from_indices([0], [0], 2, 4),
        Interactions.from_indices([0], [0], 3, 3),
        Interactions.from_indices([0], [1], 2, 3),
        Interactions.from_indices([1], [0], 2, 3),
        Interactions.from_indices([0, 1], [0, 0], 2, 3),
        Interactions.from_indices([0], [0], 2, 3, user_ids=[0, 2]),
        Interactions.from_indices([0], [0], 2, 3, user_ids=["0", "1"]),
        Interactions.from_indices([0], [0], 2, 3, item_ids=[0, 1, 3]),
    ]
    assert len({base.sha256(), *(other.sha256() for other in others)}) == 9


@pytest.mark.parametrize(
    ("arguments", "keywords", "message"),
    [
        (([1, 2], [3]), {}, "items must hold a value for each of the 2 pairs, got 1"),
        (([1], [3]), {"timestamps": [1.0, 2.0]}, "timestamps must hold a value for each of the 1 pairs, got 2"),
        (([1], [3]), {"timestamps": [np.nan]}, "timestamps must be finite, got nan"),
        (([1], [3]), {"timestamps": ["4"]}, "timestamps must be one row of numbers, got <U1 of shape (1,)"),
        (([1], [3]), {"ratings": [np.inf]}, "ratings must be finite, got inf"),
        (([1], [3]), {"least_rating": 2.0}, "least_rating needs ratings, got none"),
        (([1], [3]), {"ratings": [2.0], "least_rating": np.nan}, "least_rating must be finite, got nan"),
        (([1, "a"], [3, 4]), {}, "user ids must be all integers or all strings, got int, str"),
        (([1.0], [3]), {}, "user ids must be all integers or all strings, got float"),
        (("abc", "xyz"), {}, "user ids must be one for each pair, got the text 'abc'"),
        (([1], [True]), {}, "item ids must be all integers or all strings, got bool"),
        (([1], [None]), {}, "item ids must be all integers or all strings, got NoneType"),
        (([1], [b"x"]), {}, "item ids must be all integers or all strings, got bytes"),
        ((np.zeros((2, 2), dtype=int), [1, 2]), {}, "user ids must be all integers or all strings, got list"),
        (([1], [""]), {}, "item ids must not be empty nor hold NUL, got ''"),
        ((["a\0"], [1]), {}, "user ids must not be empty nor hold NUL, got 'a\\x00'"),
        (([2**63], [1]), {}, "user ids must be within int64, got 9223372036854775808"),
        ((np.array([2**63], dtype=np.uint64), [1]), {}, "user ids must be within int64, got 9223372036854775808"),
    ],
)
def test_raw_pairs_out_of_order_are_refused(arguments: Any, keywords: Any, message: str) -> None:
    with pytest.raises(DataError) as caught:
        Interactions.from_pairs(*arguments, **keywords)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("arguments", "keywords", "message"),
    [
        (([0, 2], [0, 0], 2, 3), {}, "users must be in [0, 2), got 2"),
        (([0, 1], [0, 3], 2, 3), {}, "items must be in [0, 3), got 3"),
        (([0, -1], [0, 0], 2, 3), {}, "users must be in [0, 2), got -1"),
        (([0, 1], [0], 2, 3), {}, "items must hold a value for each of the 2 pairs, got 1"),
        (([0.0], [0], 2, 3), {}, "users must be one row of integers, got float64 of shape (1,)"),
        (([True], [0], 2, 3), {}, "users must be one row of integers, got bool of shape (1,)"),
        (([[0]], [0], 2, 3), {}, "users must be one row of integers, got int64 of shape (1, 1)"),
        (([], [], -1, 3), {}, "n_users must be an integer in [0, 2147483647], got -1"),
        (([], [], 2, 2**31), {}, "n_items must be an integer in [0, 2147483647], got 2147483648"),
        (([], [], 2, 3.0), {}, "n_items must be an integer in [0, 2147483647], got 3.0"),
        (([], [], True, 3), {}, "n_users must be an integer in [0, 2147483647], got True"),
        (([0], [0], 2, 3), {"user_ids": [5]}, "user ids must be 2, one for each position, got 1"),
        (([0], [0], 2, 3), {"item_ids": [5, 6, 5]}, "item ids must be unique, got 5 twice"),
        (([0], [0], 2, 3), {"timestamps": [-np.inf]}, "timestamps must be finite, got -inf"),
    ],
)
def test_positions_out_of_order_are_refused(arguments: Any, keywords: Any, message: str) -> None:
    with pytest.raises(DataError) as caught:
        Interactions.from_indices(*arguments, **keywords)
    assert str(caught.value) == message


@pytest.mark.parametrize("pairs", [([1, 0], [0, 0]), ([0, 0], [2, 1]), ([1, 1, 0], [2, 2, 1])])
def test_pairs_put_in_directly_come_out_in_order_and_unique(pairs: tuple[list[int], list[int]]) -> None:
    """As from `from_indices`, at the earliest time; repeats are counted on top of those that are known already."""
    users, items = map(np.array, pairs)
    times = np.arange(len(users))[::-1] * 1.0
    direct = Interactions(users, items, 2, 3, np.arange(2), np.arange(3), times, n_duplicates=4)
    made = Interactions.from_indices(users, items, 2, 3, timestamps=times)
    assert pairs_of(direct) == pairs_of(made) == sorted(set(zip(*pairs, strict=True)))
    assert direct.timestamps is not None
    assert made.timestamps is not None
    assert direct.timestamps.tolist() == made.timestamps.tolist()
    assert direct.n_duplicates == 4 + made.n_duplicates


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_matrix_with_a_value_that_is_not_finite_is_refused_at_its_place(value: float) -> None:
    with pytest.raises(DataError, match=rf"matrix must be finite, got {value} at \(1, 2\)"):
        Interactions.from_csr(sparse.csr_array(np.array([[1.0, 0.0, 0.0], [0.0, 0.0, value]])))


@pytest.mark.parametrize("matrix", [np.eye(2), [[1]], None, sparse.coo_array(np.ones(3))])
def test_what_is_no_sparse_matrix_is_refused(matrix: Any) -> None:
    with pytest.raises(DataError, match="matrix must be a two-dimensional SciPy sparse matrix"):
        Interactions.from_csr(matrix)


def test_an_error_survives_pickling_and_shortens_a_long_token() -> None:
    error = DataError("expected a position", path="some/file", line=3, token="x" * 1000)
    assert str(error) == f"some/file, line 3: expected a position, got '{'x' * 80}'"
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.path, again.line, again.token) == (str(error), "some/file", 3, "x" * 1000)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4), st.integers(0, 9))))
def test_repeats_count_once_at_their_earliest_time(triples: list[tuple[int, int, int]]) -> None:
    """By definition: a dictionary from pair to the least time."""
    earliest: dict[tuple[int, int], int] = {}
    for user, item, time in triples:
        earliest[user, item] = min(time, earliest.get((user, item), time))
    users, items, times = [list(column) for column in zip(*triples, strict=True)] or [[], [], []]
    for made in (
        Interactions.from_indices(users, items, 4, 5, timestamps=times),
        Interactions.from_pairs(users, items, timestamps=times),
        Interactions.from_pairs([f"u{u}" for u in users], [f"i{i}" for i in items], timestamps=times),
    ):
        found = [(int(str(u).lstrip("u")), int(str(i).lstrip("i"))) for u, i in raw_pairs_of(made)]
        assert found == sorted(earliest)
        assert made.timestamps is not None
        assert made.timestamps.tolist() == [earliest[pair] for pair in found]
        assert made.n_duplicates == len(triples) - len(earliest)


@given(st.sets(st.tuples(st.integers(0, 3), st.integers(0, 4))), st.randoms(use_true_random=False))
def test_the_order_of_the_input_and_the_way_in_do_not_matter(pairs: set[tuple[int, int]], shuffler: Any) -> None:
    shuffled = sorted(pairs)
    shuffler.shuffle(shuffled)
    users, items = [u for u, _ in shuffled], [i for _, i in shuffled]
    made = Interactions.from_indices(users, items, 4, 5)
    assert pairs_of(made) == sorted(pairs)
    assert Interactions.from_csr(made.matrix()).sha256() == made.sha256()
