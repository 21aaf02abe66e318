"""Which user chose which item: sorted, unique, checked once and read-only.

Two names for an entity: its raw id, an int or a string of the caller's world, and its position, counted from 0, which is
what all arithmetic here uses. Position p of the users has the raw id `user_ids[p]`; items alike.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
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
    place_of,
    raw_list,
    require_same_length,
)


@dataclass(frozen=True, eq=False)
class Interactions:
    """The set of (user, item) pairs, as positions, with the raw ids of both sides.

    Shapes: users, items (P,) int64, ascending by (user, item), no pair twice; user_ids (n_users,), item_ids (n_items,), each
    int64 or str and unique; timestamps (P,) float64 or None. All arrays are read-only and shared with no caller.
    Edge: pairs may be given in any order, and a repeated one counts once, at its earliest timestamp. No users, no items or no
    pairs is legal; a user or an item may have no pair.
    Errors: DataError where a field is not as above. `from_pairs`, `from_indices` and `from_csr` take other forms of them.
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
        n_users, n_items = as_count("n_users", self.n_users), as_count("n_items", self.n_items)
        users, items = as_positions("users", self.users, n_users), as_positions("items", self.items, n_items)
        require_same_length("items", items, len(users))
        times = as_numbers("timestamps", self.timestamps, len(users))
        kept = _earliest_of_each(users * n_items + items, times)
        checked = {
            "users": users[kept],
            "items": items[kept],
            "n_users": n_users,
            "n_items": n_items,
            "user_ids": as_ids("user", self.user_ids, n_users),
            "item_ids": as_ids("item", self.item_ids, n_items),
            "timestamps": None if times is None else times[kept],
            "n_duplicates": self.n_duplicates + len(users) - len(kept),
        }
        for name, value in checked.items():
            if isinstance(value, np.ndarray):
                value.flags.writeable = False
            object.__setattr__(self, name, value)

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
        times = as_numbers("timestamps", timestamps, len(user_list))
        scores = as_numbers("ratings", ratings, len(user_list))
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
        return cls(user_positions, item_positions, len(user_ids), len(item_ids), user_ids, item_ids, times)

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
        return cls(users, items, n_users, n_items, user_ids, item_ids, timestamps)  # type: ignore[arg-type]  # made arrays there

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

        Errors: DataError that names the first unknown id, and says how many more there are.
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
        return replace(self, users=self.users[chosen], items=self.items[chosen], timestamps=times, n_duplicates=0)

    @cached_property
    def _places(self) -> dict[str, dict[str, int]]:
        return {"user": place_of(self.user_ids), "item": place_of(self.item_ids)}

    def _look_up(self, name: str, raw: Any) -> Any:
        places, wanted = self._places[name], raw if np.ndim(raw) > 0 else [raw]
        unknown = {str(one): one for one in wanted if str(one) not in places}
        if unknown:
            more = f", and {len(unknown) - 1} more" if len(unknown) > 1 else ""
            raise DataError(f"unknown {name} id {next(iter(unknown.values()))!r}{more}")
        found = np.array([places[str(one)] for one in wanted], dtype=np.int64)
        return found if np.ndim(raw) > 0 else int(found[0])


def _earliest_of_each(keys: IntArray, times: Float64Array | None) -> IntArray:
    """Where each pair stands at its earliest time, ascending by key. Shapes: keys, times (P,) -> (distinct pairs,)."""
    if (np.diff(keys) > 0).all():
        return np.arange(len(keys))
    by_time = np.arange(len(keys)) if times is None else np.argsort(times, kind="stable")
    _, first = np.unique(keys[by_time], return_index=True)
    return by_time[first]
