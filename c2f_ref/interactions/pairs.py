"""Which user chose which item: sorted, unique, checked once and read-only.

Two names for an entity: its raw id, an int or a string of the caller's world, and its position, counted from 0, which is
what all arithmetic here uses. Position p of the users has the raw id `user_ids[p]`; items alike.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from c2f_ref.interactions.fields import (
    DataError,
    Float64Array,
    IntArray,
    RawId,
    as_count,
    as_ids,
    as_numbers,
    as_positions,
    factorise,
    raw_list,
    read_only,
    require_same_length,
)


@dataclass(frozen=True, eq=False)
class Interactions:
    """The set of (user, item) pairs, as positions, with the raw ids of both sides.

    Shapes: users, items (P,) int64, ascending by (user, item), no pair twice; user_ids (n_users,), item_ids (n_items,), each
    int64 or str and unique; timestamps (P,) float64 or None. All arrays are read-only and shared with no caller.
    Edge: no users, no items or no pairs is legal; a user or an item may have no pair.
    Errors: DataError where a field is not as above. Make one with `from_pairs`, `from_indices` or `from_csr`, which sort.
    """

    users: IntArray = field(repr=False)
    items: IntArray = field(repr=False)
    n_users: int
    n_items: int
    user_ids: npt.NDArray[Any] = field(repr=False)
    item_ids: npt.NDArray[Any] = field(repr=False)
    timestamps: Float64Array | None = field(default=None, repr=False)
    n_duplicates: int = 0
    """Given pairs dropped as repeats: of one another or, in the held-out part of a folder, of a training pair."""

    def __post_init__(self) -> None:
        checked = {
            "n_users": as_count("n_users", self.n_users),
            "n_items": as_count("n_items", self.n_items),
            "users": read_only(as_positions("users", self.users, self.n_users)),
            "items": read_only(as_positions("items", self.items, self.n_items)),
            "user_ids": read_only(as_ids("user", self.user_ids, self.n_users)),
            "item_ids": read_only(as_ids("item", self.item_ids, self.n_items)),
        }
        require_same_length("items", self.items, len(self.users))
        if self.timestamps is not None:
            checked["timestamps"] = read_only(as_numbers("timestamps", self.timestamps, len(self.users)))
        for name, value in checked.items():
            object.__setattr__(self, name, value)
        if (np.diff(self.pair_keys) <= 0).any():
            raise DataError("pairs must be ascending by (user, item) and unique; from_indices sorts and drops repeats")

    @classmethod
    def from_pairs(
        cls,
        users: Iterable[RawId],
        items: Iterable[RawId],
        *,
        ratings: npt.ArrayLike | None = None,
        least_rating: float | None = None,
        timestamps: npt.ArrayLike | None = None,
    ) -> Interactions:
        """Build from raw ids; the id spaces are the sorted unique ids of the pairs that count.

        Shapes: users, items (P,) all ints or all strings; ratings, timestamps (P,) numbers.
        Edge: with `least_rating`, pairs rated below it are dropped first, and an id seen in no other pair with them; a pair given
        several times counts once, at its earliest timestamp.
        Errors: DataError for mixed or other id types, empty ids, unequal lengths, numbers that are not finite.
        """
        user_list, item_list = raw_list("user", users), raw_list("item", items)
        require_same_length("items", item_list, len(user_list))
        times = None if timestamps is None else as_numbers("timestamps", timestamps, len(user_list))
        scores = None if ratings is None else as_numbers("ratings", ratings, len(user_list))
        if least_rating is not None:
            if scores is None:
                raise DataError("least_rating needs ratings, got none")
            if not np.isfinite(least_rating):
                raise DataError(f"least_rating must be finite, got {least_rating}")
            kept = np.flatnonzero(scores >= least_rating)
            user_list, item_list = [user_list[p] for p in kept], [item_list[p] for p in kept]
            times = None if times is None else times[kept]
        user_ids, user_positions = factorise(user_list)
        item_ids, item_positions = factorise(item_list)
        return cls.from_indices(
            user_positions, item_positions, len(user_ids), len(item_ids), user_ids=user_ids, item_ids=item_ids, timestamps=times
        )

    @classmethod
    def from_indices(
        cls,
        users: npt.ArrayLike,
        items: npt.ArrayLike,
        n_users: int,
        n_items: int,
        *,
        user_ids: Iterable[RawId] | None = None,
        item_ids: Iterable[RawId] | None = None,
        timestamps: npt.ArrayLike | None = None,
    ) -> Interactions:
        """Build from positions in any order; a repeated pair counts once, at its earliest timestamp.

        Shapes: users (P,) ints in [0, n_users), items (P,) ints in [0, n_items), timestamps (P,), ids (n_users,) and (n_items,).
        Edge: without ids the positions are the ids.
        Errors: DataError for anything out of range, unequal lengths, repeated ids, timestamps that are not finite.
        """
        n_users, n_items = as_count("n_users", n_users), as_count("n_items", n_items)
        rows, columns = as_positions("users", users, n_users), as_positions("items", items, n_items)
        require_same_length("items", columns, len(rows))
        times = None if timestamps is None else as_numbers("timestamps", timestamps, len(rows))
        order = np.lexsort((columns, rows) if times is None else (times, columns, rows))
        rows, columns = rows[order], columns[order]
        first = np.ones(len(order), dtype=bool)
        first[1:] = (np.diff(rows) != 0) | (np.diff(columns) != 0)
        return cls(
            users=rows[first],
            items=columns[first],
            n_users=n_users,
            n_items=n_items,
            user_ids=np.arange(n_users) if user_ids is None else as_ids("user", user_ids, n_users),
            item_ids=np.arange(n_items) if item_ids is None else as_ids("item", item_ids, n_items),
            timestamps=None if times is None else times[order][first],
            n_duplicates=len(order) - int(first.sum()),
        )

    @classmethod
    def from_csr(
        cls, matrix: Any, *, user_ids: Iterable[RawId] | None = None, item_ids: Iterable[RawId] | None = None
    ) -> Interactions:
        """Build from any SciPy sparse matrix: a pair for each stored value that is not 0.

        Shapes: matrix (n_users, n_items); ids as in `from_indices`.
        Edge: a stored 0 is no pair; entries stored twice count once and are not added up.
        Errors: DataError for a dense or one-dimensional matrix, and for NaN or infinity, naming its place.
        """
        if not sparse.issparse(matrix) or len(matrix.shape) != 2:
            raise DataError(f"matrix must be a two-dimensional SciPy sparse matrix, got {type(matrix).__name__}")
        entries = matrix.tocoo()
        bad = np.flatnonzero(~np.isfinite(entries.data))
        if bad.size:
            place = (int(entries.row[bad[0]]), int(entries.col[bad[0]]))
            raise DataError(f"matrix must be finite, got {entries.data[bad[0]]} at {place}")
        stored = entries.data != 0
        return cls.from_indices(entries.row[stored], entries.col[stored], *matrix.shape, user_ids=user_ids, item_ids=item_ids)

    @property
    def n_pairs(self) -> int:
        return len(self.users)

    @property
    def n_entities(self) -> int:
        """Users and items together; item i is entity n_users + i."""
        return self.n_users + self.n_items

    @property
    def pair_keys(self) -> IntArray:
        """One number per pair, user * n_items + item: shape (P,), ascending, unique; equal id spaces give comparable keys."""
        return self.users * self.n_items + self.items

    def matrix(self) -> sparse.csr_array:
        """Build the 0/1 matrix of the pairs: (n_users, n_items) float64, sorted int32 indices, memory of its own."""
        places = (self.users.astype(np.int32), self.items.astype(np.int32))
        return sparse.csr_array((np.ones(self.n_pairs), places), shape=(self.n_users, self.n_items))

    def sha256(self) -> str:
        """Hash the content, in hex: counts, pairs and raw ids; neither timestamps nor n_duplicates.

        Over: the counts as JSON, then users, items, user_ids, item_ids; ints as little-endian int64, string ids as JSON.
        """
        digest = hashlib.sha256(json.dumps([self.n_users, self.n_items, self.n_pairs]).encode())
        for array in (self.users, self.items, self.user_ids, self.item_ids):
            digest.update(array.astype("<i8").tobytes() if array.dtype.kind == "i" else json.dumps(array.tolist()).encode())
        return digest.hexdigest()

    def user_index(self, raw: Any) -> Any:
        """The position of a raw user id, an int, or of several: (K,) -> (K,) int64. 7 and "7" are the same id.

        Errors: DataError that names the first unknown id.
        """
        return self._look_up("user", raw)

    def item_index(self, raw: Any) -> Any:
        """The position of a raw item id, or of several: as `user_index`."""
        return self._look_up("item", raw)

    def select(self, mask: npt.ArrayLike) -> Interactions:
        """Keep the pairs where `mask` (P,) bool is true, with the same id spaces; n_duplicates starts anew at 0."""
        chosen = np.asarray(mask)
        if chosen.dtype != np.bool_ or chosen.shape != (self.n_pairs,):
            raise DataError(f"mask must be bool of shape ({self.n_pairs},), got {chosen.dtype} of shape {chosen.shape}")
        times = None if self.timestamps is None else self.timestamps[chosen]
        return Interactions(
            self.users[chosen], self.items[chosen], self.n_users, self.n_items, self.user_ids, self.item_ids, timestamps=times
        )

    @cached_property
    def _positions(self) -> dict[str, dict[str, int]]:
        ids = {"user": self.user_ids, "item": self.item_ids}
        return {name: {str(raw): position for position, raw in enumerate(ids[name].tolist())} for name in ids}

    def _look_up(self, name: str, raw: Any) -> Any:
        if np.ndim(raw) > 0:
            return np.array([self._look_up(name, one) for one in raw], dtype=np.int64)
        if str(raw) not in self._positions[name]:
            raise DataError(f"unknown {name} id {raw!r}")
        return self._positions[name][str(raw)]
