"""Which user chose which item: sorted, unique, checked once and read-only.

An entity has two names: its raw id, an integer or a text of the caller's world, and its position,
counted from 0, which is what all arithmetic here uses. Position p of the users has the raw id
`user_ids[p]`; items alike.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from copy import copy
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeAlias

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from scipy import sparse

__all__ = ["DataError", "Interactions", "is_whole"]

Array: TypeAlias = npt.NDArray[Any]
IntArray: TypeAlias = npt.NDArray[np.int64]

LARGEST_COUNT = 2**31 - 1
"""Of users or items: every position fits the int32 of sparse indices and split files."""
MISSING = {"", "NaN", "nan", "NULL", "null", "\\N"}
"""Texts that stand for no id, in files and in columns."""
ABSENT = {"None", "nan", "<NA>"}
"""Objects that stand for no id: None, NaN and the NA of pandas, as they are printed."""


class DataError(ValueError):
    """Interaction data that cannot be used; the message names file, line (from 1) and token."""

    def __init__(self, message: str, path: Any = None, line: Any = None, token: Any = None) -> None:
        place = [str(path)] * (path is not None) + [f"line {line}"] * (line is not None)
        found = "" if token is None else f", got {token[:80]!r}"
        super().__init__(", ".join(place) + ": " * bool(place) + message + found)
        self.path, self.line, self.token = path, line, token


class Places(NamedTuple):
    """A column of raw ids: the sorted different ones, and for each pair the place of its own."""

    ids: Array
    places: IntArray
    """-1 for no id."""

    def of(self, kept: Array) -> Places:
        """The column of these pairs, without ids that none of them has. Shapes: kept (P,) bool."""
        places = self.places[kept]
        is_used = np.bincount(places, minlength=len(self.ids)) > 0
        return Places(self.ids[is_used], (np.cumsum(is_used) - 1)[places])


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
    dropped: Mapping[str, int] = field(default_factory=dict)
    """How many given pairs were left out, by reason; "repeated": of one another or, in a held-out
    part, of a training pair."""
    source: str = ""
    """What was read, such as "12 lines of a.csv"."""
    unused: tuple[str, ...] = ()
    """Columns that were there and that nothing asked for."""

    def __post_init__(self) -> None:
        for name in ("n_users", "n_items"):
            size = getattr(self, name)
            if not is_whole(size, 0) or size > LARGEST_COUNT:
                raise DataError(f"{name} must be an integer in [0, {LARGEST_COUNT}], got {size!r}")
            object.__setattr__(self, name, int(size))
        users = _column("users", self.users, np.size(self.users), self.n_users)
        items = _column("items", self.items, len(users), self.n_items)
        times = _column("timestamps", self.timestamps, len(users))
        keys = users * self.n_items + items
        order = np.argsort(keys)
        is_first = np.diff(keys[order], prepend=-1) > 0
        kept = order[is_first]
        dropped = dict(self.dropped)
        if len(kept) < len(users):
            dropped["repeated"] = dropped.get("repeated", 0) + len(users) - len(kept)
        if times is not None:  # the earliest of each pair
            firsts = np.flatnonzero(is_first)
            times = np.minimum.reduceat(times[order], firsts) if len(firsts) else times[kept]
        user_ids = _unique_ids("user", self.user_ids, self.n_users)
        item_ids = _unique_ids("item", self.item_ids, self.n_items)
        self._set(users=users[kept], items=items[kept], user_ids=user_ids, item_ids=item_ids)
        self._set(timestamps=times, dropped=dropped)

    @classmethod
    def from_pairs(
        cls,
        users: Iterable[Any],
        items: Iterable[Any],
        *,
        ratings: npt.ArrayLike | None = None,
        least_rating: float | None = None,
        timestamps: npt.ArrayLike | None = None,
        **about: Any,
    ) -> Self:
        """Build from columns of raw ids; the ids are the sorted unique ones of pairs that count.

        Shapes: users, items (P,) all integers or all text; ratings, timestamps (P,) numbers; by
        keyword `source`, `unused`.
        Edge: pairs without an id (`MISSING`) and, with `least_rating`, pairs rated below it are
        dropped first, and the ids seen in no other pair with them.
        Errors: DataError for mixed or other types of ids, unequal lengths, and numbers that are
        not finite.
        """
        sides = [_factorise("user", users, MISSING), _factorise("item", items, MISSING)]
        n_pairs, n_others = (len(side.places) for side in sides)
        if n_others != n_pairs:
            raise DataError(f"users and items must be pairs, got {n_pairs} and {n_others}")
        scores = _column("ratings", ratings, n_pairs)
        times = _column("timestamps", timestamps, n_pairs)
        reasons = {"without an id": (sides[0].places < 0) | (sides[1].places < 0)}
        if least_rating is not None:
            if scores is None or not np.isfinite(least_rating):
                raise DataError(f"least_rating must be finite, with ratings, got {least_rating}")
            reasons[f"rated below {least_rating:g}"] = scores < least_rating
        kept, dropped = drop(reasons, n_pairs)
        u, i = (side.of(kept) for side in sides)
        about |= {"timestamps": None if times is None else times[kept], "dropped": dropped}
        return cls(u.places, i.places, len(u.ids), len(i.ids), u.ids, i.ids, **about)

    @classmethod
    def from_indices(cls, users: Any, items: Any, n_users: int, n_items: int, **more: Any) -> Self:
        """Build from positions; without ids the positions are the ids.

        Shapes: users (P,) in [0, n_users), items (P,) in [0, n_items); by keyword user_ids
        (n_users,), item_ids (n_items,), timestamps (P,).
        Errors: DataError for anything out of range, unequal lengths, repeated ids.
        """
        return cls(users, items, n_users, n_items, **more)

    @classmethod
    def from_csr(cls, matrix: Any, *, least_rating: float | None = None, **ids: Any) -> Self:
        """Build from any SciPy sparse matrix: a pair for each stored value that is not 0.

        Shapes: matrix (n_users, n_items); by keyword user_ids, item_ids as in `from_indices`.
        Edge: a stored 0 is no pair; a place stored twice counts once and is not added up. With
        `least_rating` the values are ratings, and lower ones are dropped.
        Errors: DataError for a matrix that is not sparse or not two-dimensional, and for values
        that are negative, NaN or infinite, with their place.
        """
        if not hasattr(matrix, "tocoo") or matrix.ndim != 2:
            raise DataError(f"expected a 2-dimensional sparse matrix, got {type(matrix).__name__}")
        entries = matrix.tocoo()
        values = entries.data
        if values.dtype.kind not in "biuf":
            raise DataError(f"matrix must hold numbers, got {values.dtype}")
        for bad in np.flatnonzero(~(np.isfinite(values) & (values >= 0)))[:1]:
            place = (int(entries.row[bad]), int(entries.col[bad]))
            raise DataError(f"matrix must be finite and not negative, got {values[bad]} at {place}")
        reasons = {"stored zeros": values == 0}
        if least_rating is not None:
            reasons[f"rated below {least_rating:g}"] = values < least_rating
        kept, dropped = drop(reasons, len(values))
        about = {"dropped": dropped, "source": f"{len(values):,} values", **ids}
        n_users, n_items = matrix.shape
        return cls(entries.row[kept], entries.col[kept], n_users, n_items, **about)

    @classmethod
    def from_dense(cls, matrix: npt.ArrayLike, **more: Any) -> Self:
        """Build from a dense matrix (n_users, n_items): a pair for each value that is not 0.

        Errors: as `from_csr`, with whose keywords it goes.
        """
        from scipy import sparse

        array = np.asarray(matrix)
        if array.ndim != 2 or array.dtype.kind not in "biuf":
            raise DataError(f"expected a matrix of numbers, got {array.dtype}{array.shape}")
        return cls.from_csr(sparse.coo_array(array), **more)

    def describe(self) -> str:
        """One printable line: what was read, pairs, users, items, what was dropped, not used."""
        read = f"{self.source} read: " if self.source else ""
        text = f"{read}{self.n_pairs:,} pairs of {self.n_users:,} users and {self.n_items:,} items"
        dropped = ", ".join(f"{n:,} {why}" for why, n in self.dropped.items() if n)
        text += f"; dropped: {dropped}" if dropped else ""
        text += f"; columns not used: {', '.join(self.unused)}" if self.unused else ""
        return repr(text)[1:-1]  # a name may hold what a terminal must not see

    @property
    def n_duplicates(self) -> int:
        """Given pairs dropped as repeats."""
        return self.dropped.get("repeated", 0)

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
        """Hash the content, in hex: counts, pairs and raw ids; neither timestamps nor drops.

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
        found = self.places_of("user", raw if np.ndim(raw) else [raw])
        return found if np.ndim(raw) else int(found[0])

    def item_index(self, raw: Any) -> Any:
        """The position of a raw item id, or of several: as `user_index`."""
        found = self.places_of("item", raw if np.ndim(raw) else [raw])
        return found if np.ndim(raw) else int(found[0])

    def select(self, mask: npt.ArrayLike, **about: Any) -> Self:
        """Keep the pairs where `mask` (P,) bool is true, on the same ids.

        By keyword `dropped`, `source` and `unused` of the part; else it has none.
        """
        chosen = np.asarray(mask)
        if chosen.dtype != np.bool_ or chosen.shape != (self.n_pairs,):
            raise DataError(f"mask must be {self.n_pairs} bools, got {chosen.dtype}{chosen.shape}")
        times = None if self.timestamps is None else self.timestamps[chosen]
        users, items = self.users[chosen], self.items[chosen]
        part = copy(self)  # ids and order have been checked
        part._set(users=users, items=items, timestamps=times)
        part._set(**{"dropped": {}, "source": "", "unused": ()} | about)
        return part

    def places_of(self, side: str, raw_ids: Iterable[Any], hint: str | None = "") -> IntArray:
        """Positions of these raw ids of the "user" or "item" side: (K,).

        Unknown ids are an error, which ends in `hint`, or -1 where `hint` is None.
        """
        known = self._places[side]
        unknown = {str(raw): raw for raw in raw_ids if str(raw) not in known}
        if unknown and hint is not None:
            more = f", and {len(unknown) - 1} more" if len(unknown) > 1 else ""
            raise DataError(f"unknown {side} id {next(iter(unknown.values()))!r}{more}{hint}")
        return np.array([known.get(str(raw), -1) for raw in raw_ids], dtype=np.int64)

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


def drop(reasons: Mapping[str, Array], n_pairs: int) -> tuple[Array, dict[str, int]]:
    """Which of the pairs no reason drops, and how many each drops, the first that does counting."""
    kept, dropped = np.ones(n_pairs, dtype=np.bool_), {}
    for why, is_dropped in reasons.items():
        if n := int((is_dropped & kept).sum()):
            dropped[why] = n
        kept &= ~is_dropped
    return kept, dropped


def _factorise(side: str, values: Any, missing: Collection[str]) -> Places:
    """The sorted unique raw ids, int64 or text, and the place there of each, -1 for missing ones.

    With texts in `missing`, these and the objects of `ABSENT` stand for no id. Shapes: (P,) ->
    (ids,), (P,).
    Errors: DataError for ids that are neither all integers of int64 range nor all text, such as
    bools, floats, bytes and None, and for text that is empty or has NUL, which NumPy cuts off.
    """
    if isinstance(values, Places):
        return values
    if isinstance(values, (str, bytes)):
        raise DataError(f"{side} ids must be one for each pair, got the text {values[:80]!r}")
    if isinstance(values, np.ndarray) and values.ndim == 1 and values.dtype.kind in "iuU":
        if values.dtype.kind == "i":
            return Places(*np.unique(values.astype(np.int64), return_inverse=True))
        values = values.tolist()
    raw, places = list(values), dict[Any, int]()
    if missing:
        texts = ((one, str(one), missing if isinstance(one, str) else ABSENT) for one in raw)
        raw = [None if text in absent else one for one, text, absent in texts]
        places[None] = -1
    kinds = set(map(type, raw)) - {type(None) if missing else None}
    is_text = bool(kinds) and all(issubclass(kind, str) for kind in kinds)
    if not is_text and any(k is bool or not issubclass(k, (int, np.integer)) for k in kinds):
        names = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise DataError(f"{side} ids must be all integers or all strings, got {names}")
    ids = sorted(set(raw).difference(places))
    if is_text:
        rule, wrong = "not be empty nor hold NUL", [one for one in ids if not one or "\0" in one]
    else:
        rule, wrong = "be within int64", [one for one in ids if not -(2**63) <= int(one) < 2**63]
    if wrong:
        raise DataError(f"{side} ids must {rule}, got {wrong[0]!r}")
    places |= {one: p for p, one in enumerate(ids)}
    found = np.fromiter(map(places.__getitem__, raw), np.int64, len(raw))
    return Places(np.array(ids, np.str_ if is_text else np.int64), found)


def _unique_ids(side: str, values: Any, size: int) -> Array:
    """The raw id of each of `size` positions, none twice; None gives the positions."""
    ids, places = _factorise(side, np.arange(size) if values is None else values, ())
    if not len(ids) == len(places) == size:
        raise DataError(f"expected {size} {side} ids, got {len(places)}, {len(ids)} different")
    return ids[places]
