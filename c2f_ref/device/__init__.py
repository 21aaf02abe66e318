"""Recommendations on NumPy alone, under a budget of bytes: what a small board runs.

    device = Device.load("model.npz", memory_budget=32 * 2**20)
    ids, scores = device.recommend(["u17", "u2"], n=10)

`forward` has the mathematics, `memory` the formula of the budget. Neither SciPy, numba nor scikit-learn is imported, and no BLAS is
called: every sum is made in one fixed order, so that results have the same bits for every budget and number of threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from os import PathLike
from typing import Any

import numpy as np

from ..stored import Array, StoredModel, read_stored
from .forward import embed_column, prepare
from .memory import DEFAULT_BUDGET, DeviceError, MemoryBudgetError, allot, loading_bytes, require_budget, sizes_of

__all__ = ["DEFAULT_BUDGET", "Device", "DeviceError", "MemoryBudgetError"]


class Device:
    """A model that serves recommendations within `memory_budget` bytes, the model itself included.

    What the budget leaves free keeps columns of the propagated embeddings, in float32, from one request to the next; columns that
    are not kept are computed anew for every request. The answers are the same.

    Errors: MemoryBudgetError where the budget is too small for answers of `RETURNED` bytes; it names the least one that is enough.
    DeviceError for a budget that is no whole number of bytes.
    Edge: one request at a time: two threads need two devices.
    """

    def __init__(self, stored: StoredModel, *, memory_budget: int = DEFAULT_BUDGET) -> None:
        self._budget, self._sizes = memory_budget, sizes_of(stored.arrays())
        allot(self._sizes, self._budget, 1, 1)
        self._stored, self._plan = stored, prepare(stored)
        self._kept: list[Array] = []

    @classmethod
    def load(cls, path: str | PathLike[str], *, memory_budget: int = DEFAULT_BUDGET) -> Device:
        """The device of a model file, read within the same budget.

        Errors: MemoryBudgetError before an array is read, naming the least budget for loading and serving; BundleError for a file
        that is no model; OSError where there is none.
        """
        require_budget(loading_bytes(path), memory_budget)
        return cls(read_stored(path, max_bytes=memory_budget), memory_budget=memory_budget)

    @property
    def user_ids(self) -> Array:
        """Raw ids of the users, by position. Shapes: (U,)."""
        return self._stored.user_ids

    @property
    def columns_kept(self) -> int:
        """Columns of the embeddings, of D, that the next request need not compute."""
        return len(self._kept)

    def recommend(self, users: Sequence[Any] | Array, n: int = 10, *, exclude_seen: bool = True) -> tuple[Array, Array]:
        """The n best items of each user by raw ids, best first: (ids, scores).

        Shapes: users (B,) raw ids -> (B, n) raw ids, (B, n) float64.
        Edge: a score of -inf says that no item is left; the id beside it is -1 or "". Otherwise as `rank`.
        Errors: DeviceError for a user that the model does not know, by its id, and for one id alone; MemoryBudgetError as `rank`.
        """
        if np.ndim(users) != 1:
            raise DeviceError(f"users must be a list of raw ids, got {users!r}")
        items, scores = self.rank(np.array([self._position(user) for user in users], dtype=np.int64), n, exclude_seen=exclude_seen)
        found = self._stored.item_ids[items[items >= 0]]
        is_text = found.dtype.kind == "U"
        ids = np.full(items.shape, "" if is_text else -1, dtype=found.dtype if is_text else np.int64)
        ids[items >= 0] = found
        return ids, scores

    def rank(self, users: Array, n: int = 10, *, exclude_seen: bool = True) -> tuple[Array, Array]:
        """The n best items of each user by position, best first: (items, scores).

            H_u . H_(U+i) + b_i, embeddings rounded to float32, products and sums in float64

        Against the specification in float64 a score is off by at most

            (2^-23 + 2^-48) sum_d |H_ud H_id| + 2 gamma(k) (M_u . M_i + |b_i|),  gamma(k) = k 2^-53 / (1 - k 2^-53)

        the rounding of the embeddings, and that of both passes on k = 2 (L + 1) (r + 20) + D + 4 operations, r the most entries of
        a row of G and M the formula of H with every term made positive. (Degrees that are small differences (D11) lose more.)

        Shapes: users (B,) positions -> (B, n) int64, (B, n) float64.
        Edge: seen items are left out unless `exclude_seen` is False; a user with fewer than n items left gets -1 and -inf at the
        end; ties go to the lowest position; any B and n, 0 included.
        Errors: DeviceError for users that are no positions, n that is no count, or embeddings beyond float32; MemoryBudgetError for
        more users or results than the budget holds.
        Source: evaluation protocol; coarse stage, step 4.
        """
        n_users = self._stored.n_users
        if users.ndim != 1 or (users.size and (users.dtype.kind not in "iu" or not 0 <= users.min() <= users.max() < n_users)):
            raise DeviceError(f"users must be whole numbers in [0, {n_users}), got {users}")
        if not isinstance(n, Integral) or n < 0:
            raise DeviceError(f"n must be a whole number of at least 0, got {n!r}")
        users, n = users.astype(np.int64), int(n)  # narrow integers would wrap around in what follows
        users_at_once, columns_kept = allot(self._sizes, self._budget, users.size, n)
        del self._kept[columns_kept:]
        items, best = np.full((users.size, n), -1), np.full((users.size, n), -np.inf)
        for start in range(0, users.size, users_at_once):
            block = users[start : start + users_at_once]
            for row, (user, scores) in enumerate(zip(block, self._scores(block, columns_kept), strict=True), start):
                if exclude_seen:
                    scores[self._stored.graph_columns[self._plan.starts[user] : self._plan.starts[user + 1]]] = -np.inf
                order = np.argsort(-scores, kind="stable")[:n]
                order = order[scores[order] > -np.inf]
                items[row, : order.size], best[row, : order.size] = order, scores[order]
        return items, best

    def _scores(self, users: Array, columns_kept: int) -> Array:
        """Scores of all items, column after column. Shapes: (b,) -> (b, I) float64."""
        n_users = self._stored.n_users
        scores = np.empty((users.size, self._stored.n_items))
        scores[:] = self._stored.bias
        for number in range(self._stored.coarse.shape[1]):
            column = self._column(number, columns_kept)
            for row, user in zip(scores, users, strict=True):
                row += np.multiply(column[n_users:], column[user], dtype=np.float64)
        return scores

    def _column(self, number: int, columns_kept: int) -> Array:
        """A column of the embeddings in float32, kept or computed. Shapes: -> (N,)."""
        if number < len(self._kept):
            return self._kept[number]
        with np.errstate(over="ignore"):
            column = embed_column(self._stored, self._plan, number).astype(np.float32)
        if not np.isfinite(column).all():
            raise DeviceError(f"propagated embeddings must be finite in float32, column {number} is not")
        if number == len(self._kept) < columns_kept:
            self._kept.append(column)
        return column

    def _position(self, user: Any) -> int:
        """Position of a user by its raw id."""
        found = np.flatnonzero(self._stored.user_ids == user)
        if found.size != 1:
            known = self._stored.user_ids
            ends = f", {known[0]!s} to {known[-1]!s}" if known.size else ""
            raise DeviceError(f"user {user!r} is not among the {known.size} users of the model{ends}")
        return int(found[0])
