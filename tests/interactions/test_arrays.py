"""Data in memory: every right way to hand over pairs, and every wrong one with the right form."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from support.pairs import raw_pairs_of, times_of
from support.strategies import read_only

from c2f_ref.interactions import DataError, Interactions, interactions_of, interactions_within

PAIRS = [(0, 2), (0, 0), (1, 1), (1, 3), (2, 2), (1, 0)]
"""Every one of 3 users and 4 items is in one; no order."""
USERS, ITEMS = map(list, zip(*PAIRS, strict=True))
DENSE = read_only(np.array([[1.0, 0.0, 1.0, 0.0], [2.0, 0.5, 0.0, 1.0], [0.0, 0.0, 3.0, 0.0]]))


class Frame:
    """What pandas and polars share: `columns`, and columns that have `to_list`."""

    def __init__(self, **data: Any) -> None:
        self.data, self.columns = data, list(data)

    def __getitem__(self, name: str) -> Any:
        values = self.data[name]
        return values if name == "timestamp" else SimpleNamespace(to_list=lambda: list(values))


class LazyFrame:
    """A frame that is not computed yet."""

    columns = ("nobody", "asks")

    def collect(self) -> Frame:
        return frame("user", "item")


def frame(user: str, item: str, **more: Any) -> Frame:
    """The pairs with these column names, and other columns."""
    return Frame(**{user: USERS, item: ITEMS}, **more)


FORMS: dict[str, Callable[[], Any]] = {
    "interactions": lambda: Interactions.from_pairs(USERS, ITEMS),
    "csr": lambda: sparse.csr_array(DENSE),
    "coo with a stored zero": lambda: sparse.coo_array(
        (np.array([*[1.0] * len(PAIRS), 0.0]), np.array([*PAIRS, (2, 3)]).T), shape=(3, 4)
    ),
    "array of pairs": lambda: read_only(np.array(PAIRS)),
    "narrow array of pairs": lambda: np.array(PAIRS, dtype=np.uint8),
    "array of objects": lambda: np.array(PAIRS, dtype=object),
    "list of pairs": lambda: PAIRS,
    "list of lists": lambda: [list(pair) for pair in PAIRS],
    "two arrays": lambda: (np.array(USERS), np.array(ITEMS, dtype=np.int16)),
    "two lists": lambda: (USERS, ITEMS),
    "list of two arrays": lambda: [np.array(USERS), np.array(ITEMS)],
    "dict of columns": lambda: {"user": USERS, "item": np.array(ITEMS), "note": ["x"] * 6},
    "record array": lambda: np.array(PAIRS, dtype=[("user", int), ("item", int)]),
    "frame": lambda: frame("userId", "movie_id", a=["x"] * 6),
    "lazy frame": LazyFrame,
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_the_same_data_gives_the_same_pairs(form: str) -> None:
    """Alone, and among known ids; a stored zero is no pair, and counted."""
    known = Interactions.from_indices([0, 1, 2], [3, 2, 1], 3, 4)
    for made in (interactions_of(FORMS[form]()), interactions_within(known, FORMS[form]())):
        assert raw_pairs_of(made) == sorted(PAIRS)
        assert made.sha256() == FORMS["interactions"]().sha256()
        assert made.dropped == ({"stored zeros": 1} if "stored zero" in form else {})


RATED = np.stack([USERS, ITEMS, [5] * 6, [10**9] * 6], 1)
COLUMNS = r"name them: \{'user': X\[:, 0\], 'item': X\[:, 1\], 'rating': X\[:, 2\]\}"
TWO = r"\(X\[0\], X\[1\]\) hands over two columns"
MATRIX = r"a matrix must be sparse, or Interactions.from_dense\(X\)"
RIGHT = r"pass \(users, items\), a frame or dict with named columns, or a sparse matrix"
WRONG: dict[str, tuple[Any, str]] = {
    "ratings and times, as floats": (RATED.astype(float), COLUMNS),
    "ratings and times": (RATED, COLUMNS),
    "ratings, as floats": (RATED[:, :3].astype(float), COLUMNS),
    "edge index": (RATED[:, :2].T, TWO),
    "pairs as floats": (RATED[:, :2].astype(float), r"ids are integers or text: X.astype\(int\)"),
    "a named index": (
        SimpleNamespace(index=SimpleNamespace(names=["user"]), columns=["item"]),
        r"index has names, \['user'\]; X.reset_index\(\) makes columns",
    ),
    "a frame by position": (frame("a", "b"), "one user column of a usual name; user_column= names"),
    "a frame with two item columns": (
        frame("user", "item", asin=ITEMS),
        "expected one item column",
    ),
    "text with ratings": (RATED.astype(str), COLUMNS),
    "dense": (np.tile(DENSE, 2), MATRIX),
    "dense bools": (np.tile(DENSE, 2) > 0, MATRIX),
    "two by two": (np.array([[1, 2], [3, 4]]), TWO),
    "two lists of two in a list": ([[1, 2], [3, 4]], f"a list of 2, each of 2; {RIGHT}"),
    "two rows with ratings": ([[1, 2, 5], [3, 4, 1]], f"a list of 2, each of 3; {RIGHT}"),
    "records with ratings": ([(1, 2, 5), (3, 4, 1), (3, 2, 1)], f"a list of 3, each of 3; {RIGHT}"),
    "a tuple of pairs": (((1, 2), (3, 4)), f"a tuple of 2, each of 2; {RIGHT}"),
    "three columns": ((USERS, ITEMS, ITEMS), f"a tuple of 3, each of 6; {RIGHT}"),
    "dense lists": (DENSE.tolist(), f"a list of 3, each of 4; {RIGHT}"),
    "nothing": ([], RIGHT),
    "lists of other lengths": ([[1, 2], [3], [4]], RIGHT),
    "columns of other lengths": ((np.array([0, 1]), np.array([2])), "must be pairs, got 2 and 1"),
    "texts": (["ab", "cd", "ef"], RIGHT),
    "one column": (np.arange(3), RIGHT),
    "a set": ({(1, 2)}, RIGHT),
    "an iterator": (zip(USERS, ITEMS, strict=True), RIGHT),
    "None": (None, RIGHT),
    "masked": (np.ma.masked_array(RATED[:, :2], RATED[:, :2] > 2), RIGHT),
    "float columns": ((np.array([1.0, 2.0]), np.array([1, 2])), "user ids must be all integers or"),
    "mixed ids": ([("a", 1), (2, 3), ("b", 4)], "user ids must be all integers or all strings"),
    "lists for neighbours": ({1: [2, 3], 4: [5]}, "expected one user column"),
    "a column that is a text": ({"user": "ab", "item": [1, 2]}, "a column must be a row of values"),
    "negative values": (sparse.csr_array(-DENSE), "finite and not negative"),
    "complex values": (sparse.csr_array(DENSE * 1j), "must hold numbers"),
    "a path": ("pairs.csv", r"got a path; read_interactions\('pairs.csv'\) reads a file"),
    "a Path": (Path("a"), "got a path"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_could_be_read_in_two_ways_is_refused_with_the_right_form(name: str) -> None:
    wrong, message = WRONG[name]
    with pytest.raises(DataError, match=message):
        interactions_of(wrong)


IDS = st.integers(-3, 40) | st.integers(0, 2**30)
DTYPES = st.sampled_from([np.int64, np.int32, np.uint64, float, object, str, bool])
LAYERS = {
    "rows": lambda a, b: [a, b],
    "with ratings": lambda a, b: [a, b, [3.0] * len(a)],
    "with ratings and times": lambda a, b: [a, b, [3] * len(a), [10**9] * len(a)],
}


@settings(max_examples=200)
@given(
    st.lists(st.tuples(IDS, IDS), max_size=7),
    st.sampled_from(list(LAYERS)),
    DTYPES,
    st.booleans(),
    st.sampled_from(["array", "fortran", "lists", "tuples", "list of arrays", "frame", "pairs"]),
    st.booleans(),
)
def test_a_drawn_container_gives_the_pairs_meant_or_is_refused(
    pairs: list[tuple[int, int]], layer: str, dtype: Any, turned: bool, form: str, outer: bool
) -> None:
    """Rows or columns, with or without ratings, of any type, in arrays, lists, tuples, frames."""
    columns = LAYERS[layer](*([pair[side] for pair in pairs] for side in (0, 1)))
    table = np.array(columns).reshape(len(columns), -1)
    if (table < 0).any() and dtype in (np.uint64, bool):
        return
    if turned and len(pairs) == 2 < len(columns):
        return  # three or four rows of two are pairs by definition
    table = table.astype(dtype)
    meant = set(map(tuple, table[:2].T.tolist()))
    array = table if turned else table.T
    drawn: Any = np.asfortranarray(array) if form == "fortran" else array
    if form in ("lists", "tuples", "list of arrays"):
        make: Any = {"lists": list, "tuples": tuple, "list of arrays": np.asarray}[form]
        drawn = (tuple if outer else list)(make(row.tolist()) for row in array)
        if outer and len(drawn) == 2 and form != "tuples":  # these are columns by definition
            meant = set(zip(*array.tolist(), strict=True))
        elif not outer and form == "tuples" and array.shape[1] == 2:  # and these are rows
            meant = set(drawn)
    elif form == "frame":
        drawn = dict(zip(("user", "item", "rating", "timestamp"), table, strict=False))
    elif form == "pairs":
        drawn = list(map(tuple, table[:2].T.tolist()))
    try:
        made = interactions_of(drawn)
    except DataError:
        return
    assert dtype not in (float, bool) or not pairs
    assert set(raw_pairs_of(made)) == meant


def test_frames_keep_times_and_say_what_they_do_not_use() -> None:
    zone = timezone(timedelta(hours=2))
    times = [datetime(1970, 1, 1, 2, 0, n, tzinfo=zone) for n in range(6)]
    for column in (times, [time.astimezone(UTC).replace(tzinfo=None) for time in times]):
        for timestamp in (column, np.arange(6).astype("datetime64[s]"), range(6), np.arange(6.0)):
            made = interactions_of(frame("user", "item", timestamp=timestamp, rating=range(6)))
            wanted = [PAIRS.index(pair) for pair in sorted(PAIRS)]
            assert times_of(made) == wanted
    assert made.describe() == (
        "6 rows read: 6 pairs of 3 users and 4 items; columns not used: rating"
    )
    named = frame("who", "what", stars=range(6), when=range(6))
    columns = {"user_column": "who", "item_column": "what", "timestamp_column": "when"}
    made = interactions_of(named, **columns, least_rating=2)
    assert raw_pairs_of(made) == sorted(PAIRS[2:])
    assert (made.dropped, made.unused) == ({"rated below 2": 2}, ())
    with pytest.raises(DataError, match="expected one rating column"):
        interactions_of(frame("user", "item"), least_rating=2)
    with pytest.raises(DataError, match="columns are named, and list has no names"):
        interactions_of(PAIRS, user_column="who")
    with pytest.raises(DataError, match="timestamps must be finite"):
        interactions_of(frame("user", "item", timestamp=np.array(["NaT"] * 6, "datetime64[s]")))
    assert interactions_of(sparse.csr_array(DENSE), least_rating=2).n_pairs == 2


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
def test_frames_of_real_libraries_are_read(library: str) -> None:
    module = pytest.importorskip(library)
    times = [datetime(1970, 1, 1, 0, 0, n) for n in range(7)]
    data = {"userId": [*USERS, None], "movieId": [*map(str, ITEMS), "1"], "timestamp": times}
    if library == "pandas":
        table = module.DataFrame(data | {"userId": module.array(data["userId"], dtype="Int64")})
        with pytest.raises(DataError, match=r"reset_index\(\) makes columns"):
            interactions_of(table.set_index("userId"))
        with pytest.raises(DataError, match=RIGHT):
            interactions_of(table["userId"])
        assert interactions_of((table["userId"][:6], table["movieId"][:6])).n_pairs == 6
        zoned = table.assign(timestamp=table["timestamp"].dt.tz_localize("UTC"))
        tables = [table, zoned, table.astype({"movieId": "category"})]
    elif library == "polars":
        tables = [module.DataFrame(data), module.LazyFrame(data)]
    else:
        tables = [module.table(data)]
    for one in tables:
        made = interactions_of(one)
        assert raw_pairs_of(made) == [(user, str(item)) for user, item in sorted(PAIRS)]
        assert made.dropped == {"without an id": 1}
        assert times_of(made) == [PAIRS.index(pair) for pair in sorted(PAIRS)]


def test_ids_are_looked_up_by_what_they_are_not_by_their_place() -> None:
    known = Interactions.from_pairs(["a", "b", "b"], [30, 10, 20])
    within = interactions_within(known, [("b", 30), ("a", 10)])
    assert raw_pairs_of(within) == [("a", 10), ("b", 30)]
    assert within.user_ids.tolist() == ["a", "b"]
    with pytest.raises(DataError, match=r"^unknown item id 12, and 2 more; unknown='drop' leaves"):
        interactions_within(known, [("b", 11), ("b", 12), ("a", 12), ("b", 13), ("a", 10)])
    with pytest.raises(DataError, match="unknown user id 'c'; unknown='drop'"):
        interactions_within(known, {"item": [10], "user": ["c"]})
    with pytest.raises(DataError, match=r"disjoint, both have user and item \('b', 20\); unknown="):
        interactions_within(known, [("a", 10), ("b", 20), ("b", 30)])
    with pytest.raises(DataError, match=r"must have the shape of X, \(2, 3\), got \(3, 4\)"):
        interactions_within(known, sparse.csr_array(DENSE))
    with pytest.raises(DataError, match="unknown must be 'refuse' or 'drop', got 'keep'"):
        interactions_within(known, PAIRS, unknown="keep")


def test_unknown_ids_and_known_pairs_are_dropped_and_counted_where_that_is_asked_for() -> None:
    known = Interactions.from_pairs(["a", "b", "b"], [30, 10, 20])
    rows = [("b", 30), ("b", 30), ("c", 10), ("c", 99), ("a", 99), ("b", 20), ("a", 10)]
    made = interactions_within(known, rows, unknown="drop")
    assert raw_pairs_of(made) == [("a", 10), ("b", 30)]
    counts = {"repeated": 1, "of unknown users": 2, "of unknown items": 1, "of training": 1}
    assert made.dropped == counts
    assert made.describe().startswith("7 rows read: 2 pairs of 2 users and 3 items; dropped: 1 ")
