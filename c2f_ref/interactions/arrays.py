"""Pairs from what Python holds them in: arrays, frames, dictionaries, sparse matrices.

Columns are chosen by name or handed over as two columns. What could be read in two ways is
refused, with the way to say it right.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC
from os import PathLike
from typing import Any

import numpy as np

from .pairs import Array, DataError, Interactions, drop

__all__ = ["Columns", "interactions_of", "interactions_within"]

ITEM_NAMES = "item itemid movieid artistid trackid productid businessid isbn asin parentasin"
ROLES = {"user": "user userid reviewerid", "item": ITEM_NAMES}
ROLES |= {"rating": "rating bookrating overall stars", "timestamp": "timestamp unixreviewtime"}
"""Column names that are recognised unasked, without case, `_`, `-` and RecBole's `:type`."""
RIGHT = "pass (users, items), a frame or dict with named columns, or a sparse matrix"


@dataclass(frozen=True)
class Columns:
    """Which columns of a table are read; by name, None for a usual name (`ROLES`)."""

    user_column: str | None = None
    item_column: str | None = None
    rating_column: str | None = None
    """Read where there is a `least_rating`, and then required."""
    timestamp_column: str | None = None
    """Need not be there."""
    least_rating: float | None = None
    """Pairs rated below it are dropped."""

    def find(
        self, header: Sequence[str], hint: str = "", **place: Any
    ) -> tuple[dict[str, int], tuple[str, ...]]:
        """Number the column of each role in this header; return it and the names not used.

        Errors: DataError at this place where a role that is required or named has no column, and
        where it has several. A column has one role.
        """
        names = [re.sub(" *:(token|float)(_seq)?$", "", name) for name in header]
        required = ("user", "item", "rating")[: 2 if self.least_rating is None else 3]
        columns: dict[str, int] = {}
        for role in ROLES:
            name = getattr(self, f"{role}_column")
            is_found = [usual_role(n) == role if name is None else n == name for n in names]
            found = [p for p in np.flatnonzero(is_found).tolist() if p not in columns.values()]
            if len(found) > 1 or (not found and (name is not None or role in required)):
                usual = f"of a usual name; {role}_column= names it{hint}"
                text = f"expected one {role} column " + (f"named {name!r}" if name else usual)
                raise DataError(text, token=", ".join(names), **place)
            columns.update((role, p) for p in found)
        if self.least_rating is None:
            columns.pop("rating", None)
        return columns, tuple(n for p, n in enumerate(names) if p not in columns.values())


def usual_role(name: str) -> str | None:
    """The role that a column of this name has unasked."""
    plain = re.sub("[-_]", "", name).lower()
    return next((role for role, usual in ROLES.items() if plain in usual.split()), None)


def interactions_of(X: Any, **columns: Any) -> Interactions:
    """The pairs that `X` stands for; `columns` are the fields of `Columns`.

        Interactions             as they are
        SciPy sparse             users times items: a pair for every stored value but 0
        frame, table, dict       columns of the usual names (`ROLES`) or of those given
        (users, items)           two arrays, Series or lists of raw ids, of one length
        rows of two raw ids      an integer or text array (P, 2), a list of two-field tuples

    Positions are the ids of a matrix. Timestamps are numbers, or datetimes, which become seconds
    since 1970. `least_rating` needs a rating column or a matrix.
    Edge: pairs without an id are dropped and counted. Tuples in a list are rows. Two arrays or
    lists of two to four values in a list could be rows, and are refused.
    Errors: DataError for anything else, with the right form: dense matrices, a first axis of two,
    three or more columns, ids that are neither integers nor text, a path.
    """
    wanted = Columns(**columns)
    if isinstance(X, (str, PathLike)):
        raise DataError(f"expected pairs, got a path; read_interactions({str(X)!r}) reads a file")
    if type(X).__name__ == "LazyFrame":
        return interactions_of(X.collect(), **columns)
    of_dtype = getattr(getattr(X, "dtype", None), "names", None)
    named = getattr(X, "column_names", getattr(X, "columns", of_dtype))
    labels = X if isinstance(X, Mapping) else named
    if labels is not None:
        return _from_columns(X, list(labels), wanted)
    is_matrix = hasattr(X, "tocoo")
    if wanted != Columns(least_rating=wanted.least_rating if is_matrix else None):
        raise DataError(f"columns are named, and {type(X).__name__} has no names, got {columns}")
    if is_matrix:
        return Interactions.from_csr(X, least_rating=wanted.least_rating)
    if isinstance(X, Interactions):
        return X
    users, items = map(_values, _two_columns(X))
    return Interactions.from_pairs(users, items, source=f"{len(users):,} rows")


def interactions_within(
    pairs: Interactions, X: Any, *, unknown: str = "refuse", **columns: Any
) -> Interactions:
    """The pairs that `X` stands for, on the ids of `pairs`; a matrix must have its shape.

    `columns`: as `interactions_of` takes them. With `unknown="drop"`, pairs of other users or
    items and pairs of `pairs` are dropped and counted; with "refuse" they are errors.
    Errors: as `interactions_of`; DataError that names an unknown id or a pair in both, or for
    another shape.
    """
    if unknown not in ("refuse", "drop"):
        raise DataError(f"unknown must be 'refuse' or 'drop', got {unknown!r}")
    given = interactions_of(X, **columns)
    users, items, hint = given.users, given.items, "; unknown='drop' leaves such pairs out"
    raw_users, raw_items = given.user_ids[users].tolist(), given.item_ids[items].tolist()
    if hasattr(X, "tocoo"):
        expected, got = (pairs.n_users, pairs.n_items), (given.n_users, given.n_items)
        if got != expected:
            raise DataError(f"a matrix must have the shape of X, {expected}, got {got}")
    else:
        refusal = hint if unknown == "refuse" else None
        users = pairs.places_of("user", raw_users, refusal)
        items = pairs.places_of("item", raw_items, refusal)
    in_both = np.isin(users * pairs.n_items + items, pairs.pair_keys)
    reasons = {"of unknown users": users < 0, "of unknown items": items < 0, "of training": in_both}
    kept, dropped = drop(reasons, given.n_pairs)
    if dropped and unknown == "refuse":
        pair = raw_users[in_both.argmax()], raw_items[in_both.argmax()]
        raise DataError(f"both must be disjoint, both have user and item {pair}{hint}")
    about: Any = {"dropped": {**given.dropped, **dropped}, "source": given.source}
    about |= {"unused": given.unused, "timestamps": None}
    return replace(pairs, users=users[kept], items=items[kept], **about)


def _from_columns(X: Any, labels: list[Any], columns: Columns) -> Interactions:
    index_names = getattr(getattr(X, "index", None), "names", None) or ()
    if named := [name for name in index_names if name is not None]:
        raise DataError(f"the frame's index has names, {named}; X.reset_index() makes columns")
    places, unused = columns.find([str(label) for label in labels])
    found = {role: X[labels[place]] for role, place in places.items()}
    users, items = _values(found["user"]), _values(found["item"])
    more: dict[str, Any] = {"source": f"{len(users):,} rows", "unused": unused}
    more["ratings"] = _values(found["rating"]) if "rating" in found else None
    more["timestamps"] = _seconds(found["timestamp"]) if "timestamp" in found else None
    return Interactions.from_pairs(users, items, **more, least_rating=columns.least_rating)


def _values(column: Any) -> Any:
    """The values of a column: an array of integers, or a list."""
    if getattr(getattr(column, "dtype", None), "kind", "") in ("i", "u"):
        array = np.asarray(column)
        if array.dtype.kind in "iu":  # pandas has integers that may be missing
            return array
    for name in ("to_list", "to_pylist", "tolist"):
        if hasattr(column, name):
            return getattr(column, name)()
    if not isinstance(column, Sequence) or isinstance(column, (str, bytes)):
        raise DataError(f"a column must be a row of values, got {type(column).__name__}")
    return column


def _seconds(column: Any) -> Array:
    """Numbers as they are; datetimes as seconds since 1970, in UTC where they have no time zone."""
    array = np.asarray(column if hasattr(column, "__array__") else _values(column))
    if array.dtype == object and all(hasattr(value, "tzinfo") for value in array):
        local = [v.astimezone(UTC).replace(tzinfo=None) if v.tzinfo else v for v in array]
        array = np.array(local, dtype="datetime64[us]")
    if array.dtype.kind != "M":
        return array
    since: Array = (array - np.datetime64(0, "s")) / np.timedelta64(1, "s")
    return since


def _two_columns(X: Any) -> tuple[Any, Any]:
    """Two columns, from two or from rows of two. Errors: DataError, with what to pass instead."""
    came, right = type(X).__name__, RIGHT
    if isinstance(X, (list, tuple)):
        is_row = [isinstance(part, (list, tuple)) or _ndim(part) == 1 for part in X]
        lengths = {len(part) for part in X} if all(is_row) else set()
        has_records = any(isinstance(part, tuple) for part in X)
        may_be_rows = isinstance(X, list) and lengths <= {2, 3, 4}
        if len(X) == 2 and lengths and not has_records and not may_be_rows:
            return X[0], X[1]
        if lengths == {2} and (len(X) != 2 or (has_records and isinstance(X, list))):
            users, items = map(list, zip(*X, strict=True))
            return users, items
        came = f"a {came} of {len(X)}" + f", each of {max(lengths, default=0)}" * bool(lengths)
    elif _ndim(X) == 2 and not isinstance(X, np.ma.MaskedArray):
        array = np.asarray(X)
        came = f"an array {array.dtype}{array.shape}"
        if len(array) == 2:
            right = "(X[0], X[1]) hands over two columns"
        elif array.shape[1] in (3, 4):
            right = "name them: {'user': X[:, 0], 'item': X[:, 1], 'rating': X[:, 2]}"
        elif array.shape[1] != 2:
            right = "a matrix must be sparse, or Interactions.from_dense(X)"
        elif array.dtype.kind in "iuUO":
            return array[:, 0], array[:, 1]
        else:
            right = "ids are integers or text: X.astype(int), or Interactions.from_dense(X)"
    raise DataError(f"expected two columns of ids, got {came}; {right}")


def _ndim(X: Any) -> int:
    return np.ndim(X) if hasattr(X, "__array__") else -1
