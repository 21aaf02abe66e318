"""Which user chose which item: sorted, unique, checked once and read-only.

An entity has two names: its raw id, an integer or a text of the caller's world, and its position,
counted from 0, which is what all arithmetic here uses. Position p of the users has the raw id
`user_ids[p]`; items alike.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from copy import copy
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self, TypeAlias

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from scipy import sparse

__all__ = ["DataError", "Interactions", "is_whole"]

Array: TypeAlias = npt.NDArray[Any]
IntArray: TypeAlias = npt.NDArray[np.int64]

LARGEST_COUNT = 2**31 - 1
"""Of users or items: every position fits the int32 of sparse indices and split files."""


class DataError(ValueError):
    """Interaction data that cannot be used; the message names file, line (from 1) and token."""

    def __init__(self, message: str, path: Any = None, line: Any = None, token: Any = None) -> None:
        place = [str(path)] * (path is not None) + [f"line {line}"] * (line is not None)
        found = "" if token is None else f", got {token[:80]!r}"
        super().__init__(", ".join(place) + ": " * bool(place) + message + found)
        self.path, self.line, self.token = path, line, token


@dataclass(frozen=True, eq=False)
class Interactions:
    """The set of (user, item) pairs, as positions, with the raw ids of both sides.

    Shapes: users, items (P,) int64, ascending by (user, item), no pair twice; user_ids (n_users,)
    and item_ids (n_items,), each int64 or str and unique; timestamps (P,) float64 or None. All
    arrays are read-only and shared with no caller.
    Edge: pairs may be given in any order, and a repeated one counts once, at its earliest
    timestamp. No users, no items or no pairs is legal; a user or an item may have no pair.
    Errors: DataError where a field is not as above.
    """

    users: IntArray = field(repr=False)
    items: IntArray = field(repr=False)
    n_users: int
    n_items: int
    user_ids: Array = field(default=None, repr=False)  # type: ignore[arg-type]
    item_ids: Array = field(default=None, repr=False)  # type: ignore[arg-type]
    timestamps: npt.NDArray[np.float64] | None = field(default=None, repr=False)
    n_duplicates: int = 0
    """Given pairs dropped as repeats: of one another or, in a held-out part, of a training pair."""

    def __post_init__(self) -> None:
        for name in ("n_users", "n_items"):
            size = getattr(self, name)
            if not is_whole(size, 0) or size > LARGEST_COUNT:
                raise DataError(f"{name} must be an integer in [0, {LARGEST_COUNT}], got {size!r}")
            object.__setattr__(self, name, int(size))
        users = _column("users", self.users, np.size(self.users), self.n_users)
        items = _column("items", self.items, len(users), self.n_items)
        times = _column("timestamps", self.timestamps, len(users))
        order = np.arange(len(users)) if times is None else np.argsort(times, kind="stable")
        keys = users[order] * self.n_items + items[order]
        kept = order[np.unique(keys, return_index=True)[1]]  # the first of each, so the earliest
        times = None if times is None else times[kept]
        user_ids = _unique_ids("user", self.user_ids, self.n_users)
        item_ids = _unique_ids("item", self.item_ids, self.n_items)
        self._set(users=users[kept], items=items[kept], user_ids=user_ids, item_ids=item_ids)
        self._set(timestamps=times, n_duplicates=self.n_duplicates + len(users) - len(kept))

    @classmethod
    def from_pairs(
        cls,
        users: Iterable[Any],
        items: Iterable[Any],
        *,
        ratings: npt.ArrayLike | None = None,
        least_rating: float | None = None,
        timestamps: npt.ArrayLike | None = None,
    ) -> Self:
        """Build from columns of raw ids; the ids are the sorted unique ones of pairs that count.

        Shapes: users, items (P,) all integers or all text; ratings, timestamps (P,) numbers.
        Edge: with `least_rating`, pairs rated below it are dropped first, and the ids seen in no
        other pair with them.
        Errors: DataError for mixed or other types of ids, empty ids, unequal lengths, and numbers
        that are not finite.
        """
        user_column, item_column = _raw_ids("user", users), _raw_ids("item", items)
        n_pairs = len(user_column)
        if len(item_column) != n_pairs:
            raise DataError(f"users and items must be pairs, got {n_pairs} and {len(item_column)}")
        scores = _column("ratings", ratings, n_pairs)
        times = _column("timestamps", timestamps, n_pairs)
        if least_rating is not None:
            if scores is None or not np.isfinite(least_rating):
                raise DataError(f"least_rating must be finite, with ratings, got {least_rating}")
            kept = scores >= least_rating
            user_column, item_column = user_column[kept], item_column[kept]
            times = None if times is None else times[kept]
        (user_ids, u), (item_ids, i) = _factorise(user_column), _factorise(item_column)
        return cls(u, i, len(user_ids), len(item_ids), user_ids, item_ids, times)

    @classmethod
    def from_indices(cls, users: Any, items: Any, n_users: int, n_items: int, **more: Any) -> Self:
        """Build from positions; without ids the positions are the ids.

        Shapes: users (P,) in [0, n_users), items (P,) in [0, n_items); by keyword user_ids
        (n_users,), item_ids (n_items,), timestamps (P,).
        Errors: DataError for anything out of range, unequal lengths, repeated ids.
        """
        return cls(users, items, n_users, n_items, **more)

    @classmethod
    def from_csr(cls, matrix: Any, **ids: Any) -> Self:
        """Build from any SciPy sparse matrix: a pair for each stored value that is not 0.

        Shapes: matrix (n_users, n_items); by keyword user_ids, item_ids as in `from_indices`.
        Edge: a stored 0 is no pair; a place stored twice counts once and is not added up.
        Errors: DataError for a matrix that is not sparse or not two-dimensional, and for NaN or
        infinity, with their place.
        """
        if not hasattr(matrix, "tocoo") or matrix.ndim != 2:
            raise DataError(f"expected a 2-dimensional sparse matrix, got {type(matrix).__name__}")
        entries = matrix.tocoo()
        for bad in np.flatnonzero(~np.isfinite(entries.data))[:1]:
            place = (int(entries.row[bad]), int(entries.col[bad]))
            raise DataError(f"matrix must be finite, got {entries.data[bad]} at {place}")
        stored = entries.data != 0
        return cls(entries.row[stored], entries.col[stored], *matrix.shape, **ids)

    @property
    def n_pairs(self) -> int:
        return len(self.users)

    @property
    def n_entities(self) -> int:
        """Users and items together; item i is entity n_users + i."""
        return self.n_users + self.n_items

    @property
    def pair_keys(self) -> IntArray:
        """One number per pair, user * n_items + item: (P,), ascending, unique.

        Keys of sets with the same ids can be compared.
        """
        return self.users * self.n_items + self.items

    def matrix(self) -> sparse.csr_array:
        """Build the 0/1 matrix of the pairs: (n_users, n_items) float64, sorted int32 indices."""
        from scipy import sparse

        places = (self.users.astype(np.int32), self.items.astype(np.int32))
        return sparse.csr_array((np.ones(self.n_pairs), places), shape=(self.n_users, self.n_items))

    def sha256(self) -> str:
        """Hash the content, in hex: counts, pairs and raw ids; neither timestamps nor n_duplicates.

        Over the counts as JSON, then users, items, user_ids, item_ids: integers as little-endian
        int64, text as JSON.
        """
        digest = hashlib.sha256(json.dumps([self.n_users, self.n_items, self.n_pairs]).encode())
        for row in (self.users, self.items, self.user_ids, self.item_ids):
            is_text = row.dtype.kind == "U"
            digest.update(json.dumps(row.tolist()).encode() if is_text else row.astype("<i8").data)
        return digest.hexdigest()

    def user_index(self, raw: Any) -> Any:
        """The position of a raw user id, an int, or of several: (K,) -> (K,) int64.

        7 and "7" are the same id.
        Errors: DataError that names the first unknown id, and says how many more there are.
        """
        return _look_up("user", self._places["user"], raw)

    def item_index(self, raw: Any) -> Any:
        """The position of a raw item id, or of several: as `user_index`."""
        return _look_up("item", self._places["item"], raw)

    def select(self, mask: npt.ArrayLike, *, n_duplicates: int = 0) -> Self:
        """Keep the pairs where `mask` (P,) bool is true, on the same ids."""
        chosen = np.asarray(mask)
        if chosen.dtype != np.bool_ or chosen.shape != (self.n_pairs,):
            raise DataError(f"mask must be {self.n_pairs} bools, got {chosen.dtype}{chosen.shape}")
        times = None if self.timestamps is None else self.timestamps[chosen]
        users, items = self.users[chosen], self.items[chosen]
        part = copy(self)  # ids and order have been checked
        part._set(users=users, items=items, timestamps=times, n_duplicates=n_duplicates)
        return part

    @cached_property
    def _places(self) -> dict[str, dict[str, int]]:
        sides = {"user": self.user_ids.tolist(), "item": self.item_ids.tolist()}
        return {side: {str(raw): p for p, raw in enumerate(ids)} for side, ids in sides.items()}

    def _set(self, **values: Any) -> None:
        for name, value in values.items():
            if isinstance(value, np.ndarray):
                value.flags.writeable = False
            object.__setattr__(self, name, value)


def is_whole(value: Any, least: int) -> bool:
    """Whether `value` is an integer of at least `least`; True and False are not integers here."""
    is_integer = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    return is_integer and bool(value >= least)


def _look_up(side: str, places: dict[str, int], raw: Any) -> Any:
    wanted = raw if np.ndim(raw) > 0 else [raw]
    unknown = {str(one): one for one in wanted if str(one) not in places}
    if unknown:
        more = f", and {len(unknown) - 1} more" if len(unknown) > 1 else ""
        raise DataError(f"unknown {side} id {next(iter(unknown.values()))!r}{more}")
    found = np.array([places[str(one)] for one in wanted], dtype=np.int64)
    return found if np.ndim(raw) > 0 else int(found[0])


def _column(name: str, values: Any, n_pairs: int, size: int | None = None) -> Any:
    """One number for each pair: with `size` a position below it, int64, else finite float64.

    None stays None, which is for columns that need not be there.
    """
    if values is None:
        return None
    column = np.asarray(values)
    kind, dtypes = ("finite numbers", "iuf") if size is None else (f"integers in [0, {size})", "iu")
    if column.ndim != 1 or column.dtype.kind not in (dtypes if column.size else "iuf"):
        raise DataError(f"{name} must be one row of {kind}, got {column.dtype}{column.shape}")
    if len(column) != n_pairs:
        raise DataError(f"{name} must have one value per pair, {n_pairs}, got {len(column)}")
    right = np.isfinite(column) if size is None else (column >= 0) & (column < size)
    if not right.all():
        raise DataError(f"{name} must be {kind}, got {column[~right][0]}")
    return column.astype(np.float64 if size is None else np.int64, copy=False)


def _raw_ids(side: str, values: Iterable[Any]) -> Array:
    """Raw ids: int64, or objects that are text, neither empty nor with NUL, which NumPy cuts off.

    Edge: bools, floats, bytes and None are not ids.
    """
    if isinstance(values, np.ndarray) and values.dtype == np.int64 and values.ndim == 1:
        return values
    if isinstance(values, (str, bytes)):
        raise DataError(f"{side} ids must be one for each pair, got the text {values[:80]!r}")
    listed = list(values)
    kinds = set(map(type, listed))
    if kinds and all(issubclass(kind, str) for kind in kinds):
        for raw in set(listed):
            if not raw or "\0" in raw:
                raise DataError(f"{side} ids must not be empty nor hold NUL, got {str(raw)!r}")
        return np.array(listed, dtype=object)
    if any(kind is bool or not issubclass(kind, (int, np.integer)) for kind in kinds):
        names = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise DataError(f"{side} ids must be all integers or all strings, got {names}")
    for raw in (min(listed, default=0), max(listed, default=0)):
        if not -(2**63) <= int(raw) < 2**63:
            raise DataError(f"{side} ids must be within int64, got {raw}")
    return np.array(listed, dtype=np.int64)


def _unique_ids(side: str, values: Iterable[Any] | None, size: int) -> Array:
    """The raw id of each of `size` positions, none twice; None gives the positions."""
    raw = _raw_ids(side, np.arange(size) if values is None else values)
    n_different = len(set(raw))
    if not len(raw) == n_different == size:
        raise DataError(f"expected {size} {side} ids, got {len(raw)}, {n_different} different")
    return raw.astype(np.str_ if raw.dtype == object else np.int64)  # a copy


def _factorise(raw: Array) -> tuple[Array, IntArray]:
    """The sorted unique ids, and the place of each row's there. Shapes: (P,) -> (ids,), (P,)."""
    if raw.dtype != object:
        return np.unique(raw, return_inverse=True)
    ids = sorted(set(raw))
    place = {one: p for p, one in enumerate(ids)}
    return np.array(ids), np.fromiter(map(place.__getitem__, raw), np.int64, len(raw))
