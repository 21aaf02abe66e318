"""Recommendations with NumPy alone, under a budget of bytes: what a small board runs.

    device = Device.load("model.npz", memory_budget=32 * 2**20)
    ids, scores = device.recommend(["u17", "u2"], n=10)

The formulas are those of `method`, applied to operators that have `@`. No formula mixes columns of
the tables, so a device computes one column at a time, as a vector, and needs memory for a few
vectors of N numbers. It calls no BLAS, and every sum has a fixed order: results have the same bits
for every budget and number of threads.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np

from .method import embeddings
from .model import FORMAT, Model, load_model
from .store import Array, StoreError, read_header

DEFAULT_BUDGET = 56 * 2**20
"""Bytes; enough to cache the embeddings of the published Gowalla model."""
OVERHEAD = 2**18
"""Bytes of Python's objects: settings, names, views of arrays, the header of a file."""
ANSWERS = 2**17
"""Bytes of answers that every budget has room for."""
PARTS = ("values", "columns")
VECTORS = 14
"""Vectors of N + C + F numbers that exist at once, at most."""
TEXT_STARTS = ("ids.users.starts", "ids.items.starts")
LOADS, PER_TEXT = 3, 256
"""Loading takes this multiple of the file, and bytes for every id that is text."""


class DeviceError(ValueError):
    """A budget or request that the device cannot take; `least` is the budget that is enough."""

    def __init__(self, message: str, least: int | None = None) -> None:
        super().__init__(message)
        self.least = least


class Device:
    """A model that serves recommendations within `memory_budget` bytes, the model included.

    The least budget for B users with n results each, ids of items having at most w bytes, is

        OVERHEAD + bytes of the model + 8 VECTORS (N + C + F) + 8 F D
                 + max(ANSWERS, B (24 + n (120 + 12 w)))

    With room for 4 N D bytes more, the propagated embeddings of all entities are cached, in
    float32. Without it they are computed for every request, and as many users share a computation
    as there is room for, at 8 I bytes each. The answers are the same.
    Edge: one request at a time; two threads need two devices.
    Errors: DeviceError for a budget that is not a whole number of bytes or is too small.
    """

    def __init__(self, model: Model, *, memory_budget: int = DEFAULT_BUDGET) -> None:
        self._model, self._budget = model, memory_budget
        shapes = {name: array.shape for name, array in model.arrays.items()}
        self._least = _least_budget(shapes, sum(array.nbytes for array in model.arrays.values()))
        _require_budget(self._least, memory_budget)
        self._graph = _Graph(model)
        self._cache: Array | None = None

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, memory_budget: int = DEFAULT_BUDGET) -> Device:
        """The device of a model file, which is read within the same budget.

        Errors: DeviceError before an array is read if the budget is too small for serving or for
        loading, which takes OVERHEAD, LOADS times the file and PER_TEXT for every id that is text;
        StoreError for a file that is not a model; OSError if there is none.
        """
        entries, n_bytes = read_header(path, FORMAT)[1], os.stat(path).st_size
        try:
            shapes = {name: entry["shape"] for name, entry in entries.items()}
            n_texts = sum(shape[0] for name, shape in shapes.items() if name in TEXT_STARTS)
            loading = OVERHEAD + LOADS * n_bytes + PER_TEXT * n_texts
            least = max(loading, _least_budget(shapes, n_bytes))
        except (KeyError, IndexError, TypeError) as error:
            raise StoreError(f"{path}: expected the arrays of a model, {error!r}") from error
        _require_budget(least, memory_budget)
        return cls(load_model(path), memory_budget=memory_budget)

    @property
    def user_ids(self) -> Array:
        """Raw ids of the users, by position; text takes memory above the budget. Shapes: (U,)."""
        return self._model.user_ids

    @property
    def is_cached(self) -> bool:
        """Whether the propagated embeddings are kept for the next request."""
        return self._cache is not None

    def recommend(
        self, users: Sequence[Any] | Array, n: int = 10, *, exclude_seen: bool = True
    ) -> tuple[Array, Array]:
        """The n best items of each user by raw ids, best first: (ids, scores).

        Shapes: users (B,) raw ids -> (B, n) raw ids, (B, n) float64.
        Edge: if no item is left, the score is -inf and the id -1 or "". Otherwise as `rank`.
        Errors: as `rank`; DeviceError for an id outside a list, and for an unknown user, by its id.
        """
        if np.ndim(users) != 1:
            raise DeviceError(f"users must be a list of raw ids, got {users!r}")
        positions = np.array([self._position(user) for user in users], dtype=np.int64)
        items, scores = self.rank(positions, n, exclude_seen=exclude_seen)
        arrays, is_listed = self._model.arrays, items >= 0
        given, starts = arrays["ids.items"], arrays.get("ids.items.starts")
        if starts is None:
            listed, ids = given[items[is_listed]], np.full(items.shape, -1)
        else:
            bounds = ((starts[item], starts[item + 1]) for item in items[is_listed])
            texts = [given[start:end].tobytes().decode() for start, end in bounds]
            listed = np.array(texts, dtype=np.str_)
            ids = np.full(items.shape, "", dtype=listed.dtype)
        ids[is_listed] = listed
        return ids, scores

    def rank(self, users: Array, n: int = 10, *, exclude_seen: bool = True) -> tuple[Array, Array]:
        """The n best items of each user by position, best first: (items, scores).

            H_u . H_(U+i) + b_i, embeddings rounded to float32, products and sums in float64

        A score differs from the method's in float64 by at most

            (2^-23 + 2^-48) sum_d |H_ud H_id| + 2 gamma(k) (M_u . M_i + |b_i|),
            gamma(k) = k 2^-53 / (1 - k 2^-53),  k = 2 (L + 1) (r + 20) + D + 4

        the rounding of the embeddings, and of both computations: r is the largest number of entries
        in a row of G, M the formula of H with every term made positive. Degrees that are small
        differences (D11) lose more.

        Shapes: users (B,) positions -> (B, n) int64, (B, n) float64.
        Edge: seen items are left out unless `exclude_seen` is False; a user with fewer than n items
        left gets -1 and -inf at the end; ties go to the lowest position; B and n may be 0.
        Errors: DeviceError for users that are not positions, n that is not a count, embeddings that
        float32 cannot hold, and for a request too large for the budget.
        Source: equations (17) and (27).
        """
        arrays, n_users = self._model.arrays, self._model.n_users
        is_whole = users.dtype.kind in "iu" or not users.size
        if users.ndim != 1 or not is_whole or not ((users >= 0) & (users < n_users)).all():
            raise DeviceError(f"users must be whole numbers in [0, {n_users}), got {users}")
        if not isinstance(n, Integral) or n < 0:
            raise DeviceError(f"n must be a whole number of at least 0, got {n!r}")
        users, n = users.astype(np.int64), int(n)  # narrow integers would wrap around
        id_bytes = int(np.diff(arrays.get("ids.items.starts", np.array([0, 8]))).max(initial=0))
        at_once = self._allot(users.size * (24 + n * (120 + 12 * id_bytes)))
        items, best = np.full((users.size, n), -1), np.full((users.size, n), -np.inf)
        starts, columns = arrays["graph.starts"], arrays["graph.columns"]
        for first in range(0, users.size, at_once):
            block = users[first : first + at_once]
            scored = zip(block, self._scores(block), strict=True)
            for row, (user, scores) in enumerate(scored, first):
                if exclude_seen:
                    scores[columns[starts[user] : starts[user + 1]]] = -np.inf
                order = np.argsort(-scores, kind="stable")[:n]
                order = order[scores[order] > -np.inf]
                items[row, : order.size], best[row, : order.size] = order, scores[order]
        return items, best

    def _allot(self, n_answers: int) -> int:
        """Cache all embeddings if the budget has room; return how many users to score at once.

        Errors: DeviceError for a request of more bytes than there are.
        """
        least = self._least + max(n_answers - ANSWERS, 0)
        _require_budget(least, self._budget)
        model, room = self._model, self._budget - least
        dim, n_entities = model.settings.dim, model.n_users + model.n_items
        if room < 4 * dim * n_entities:
            self._cache = None
            return 1 + room // (8 * max(model.n_items, 1))
        if self._cache is None:
            cache = np.empty((dim, n_entities), dtype=np.float32)
            for column in range(dim):
                cache[column] = self._column(column)
            self._cache = cache
        return 1

    def _scores(self, users: Array) -> Array:
        """Scores of all items, column after column. Shapes: (b,) -> (b, I) float64."""
        n_users = self._model.n_users
        scores = np.empty((users.size, self._model.n_items))
        scores[:] = self._model.arrays["bias"]
        for number in range(self._model.settings.dim):
            column = self._column(number) if self._cache is None else self._cache[number]
            for row, user in zip(scores, users, strict=True):
                row += np.multiply(column[n_users:], column[user], dtype=np.float64)
        return scores

    def _column(self, number: int) -> Array:
        """A column of the propagated embeddings, rounded to float32. Shapes: -> (N,)."""
        with np.errstate(over="ignore"):
            column = embed_column(self._model, self._graph, number).astype(np.float32)
        if not np.isfinite(column).all():
            raise DeviceError(f"embeddings must be finite in float32, column {number} is not")
        return column

    def _position(self, user: Any) -> int:
        """Position of a user by its raw id."""
        ids, starts = self._model.arrays["ids.users"], self._model.arrays.get("ids.users.starts")
        if starts is None:
            places = np.flatnonzero(ids == user)
        else:
            wanted = user.encode("utf-8", "surrogatepass") if isinstance(user, str) else b"\0"
            places = np.flatnonzero(np.diff(starts) == len(wanted))
            for offset, byte in enumerate(wanted):
                places = places[ids[starts[places] + offset] == byte]
        if places.size != 1:
            known = f"the {self._model.n_users} users of the model"
            raise DeviceError(f"user {user!r} is not among {known}")
        return int(places[0])


class _Rows(NamedTuple):
    """A sparse matrix with the same number of entries in every row, or its transpose.

    `@` takes vectors and adds terms in the order of the columns of `values`.
    """

    values: Array
    columns: Array
    n_columns: int
    is_flat: bool = False

    @property
    def T(self) -> _Rows:  # noqa: N802
        """The transpose."""
        return self._replace(is_flat=not self.is_flat)

    def __matmul__(self, vector: Array) -> Array:
        total = np.zeros(self.n_columns if self.is_flat else len(self.values))
        terms = np.empty(len(self.values))  # every vector counts in the budget
        for values, columns in zip(self.values.T, self.columns.T, strict=True):
            if self.is_flat:
                np.multiply(values, vector, out=terms)
                total += np.bincount(columns.astype(np.intp), terms, minlength=total.size)
            else:
                vector.take(columns, out=terms, mode="clip")
                terms *= values
                total += terms
        return total


class _Graph:
    """The expanded graph G of equation (3) or (4), of which no value is stored.

        G x = s (B (s x)),   s = 1 / sqrt(row sums of B),  B = [[A, S_c, 0], [S_c^T, 0, S_f], ...]
        A x = r (R~ (r x)),  r = 1 / sqrt(row sums of R~), R~ = [[0, R], [R^T, 0]], R the pairs

    Edge: D11: s is 0 where a row sum is not positive. Two degrees whose product is too small for
    float64 stay linked here; in `normalise` they are not.
    """

    def __init__(self, model: Model) -> None:
        arrays, n_coarse = model.arrays, model.settings.n_coarse
        self._items, self._n_users = arrays["graph.columns"], model.n_users
        self._starts = arrays["graph.starts"].astype(np.int64)
        values, columns = (arrays[f"coarse_assignment.{part}"] for part in PARTS)
        self.coarse, none = _Rows(values, columns, n_coarse), np.zeros((n_coarse, 0), np.uint8)
        values, columns = (arrays.get(f"fine_assignment.{part}", none) for part in PARTS)
        n_entities, n_fine = len(self.coarse.values), model.settings.n_fine if values.size else 0
        self.fine = _Rows(values, columns, n_fine)
        self._cuts = [n_entities, n_entities + n_coarse]
        self._scale = np.ones(n_entities + n_coarse + n_fine)
        self._roots = _inverse_root(self._sum_over_pairs(self._scale[:n_entities]))
        self._scale = _inverse_root(self @ self._scale)
        # After a block of this size was freed, glibc keeps twice as much instead of giving it back
        # to the system; on the Gowalla model page faults took a quarter of the time.
        np.empty(3 * self._scale.size)

    def __matmul__(self, nodes: Array) -> Array:
        parts = zip(np.split(self._scale, self._cuts), np.split(nodes, self._cuts), strict=True)
        h, c, f = (scale * part for scale, part in parts)
        coarse = self.coarse.T @ h + self.fine @ f
        h *= self._roots
        h = self._sum_over_pairs(h)
        h *= self._roots
        h += self.coarse @ c
        result = np.concatenate([h, coarse, self.fine.T @ c])
        result *= self._scale
        return result

    def _sum_over_pairs(self, values: Array) -> Array:
        """R~ x, by blocks of whole users with at most max(N / 4, 4096) pairs, or of one user.

        Shapes: (N,) -> (N,).
        """
        total, starts, n_users, first = np.zeros(values.size), self._starts, self._n_users, 0
        at_once = max(values.size // 4, 2**12)
        while first < n_users:
            end = int(np.searchsorted(starts, starts[first] + at_once, side="right")) - 1
            end = max(end, first + 1)
            items = self._items[starts[first] : starts[end]].astype(np.intp)
            counts = np.diff(starts[first : end + 1])
            filled = counts > 0  # `reduceat` takes an empty run for one of a single value
            if items.size:
                runs = (starts[first:end] - starts[first])[filled]
                total[first:end][filled] = np.add.reduceat(values[n_users:][items], runs)
            np.add.at(total[n_users:], items, np.repeat(values[first:end], counts))
            first = end
        return total


def embed_column(model: Model, graph: _Graph, number: int) -> Array:
    """A column of the propagated embeddings of all entities, as `embed_coarse` or `embed_fine`.

    Shapes: -> (N,) float64.
    Source: equations (10) to (12), (15) and (16).
    """
    settings, coarse = model.settings, model.coarse[:, number].astype(np.float64)
    ego, n_layers = embeddings.ego_embed(graph.coarse, coarse), settings.n_layers
    if model.fine is None:
        return embeddings.propagate_coarse(graph, n_layers, ego, coarse)[0]
    fine, weight = model.fine[:, number].astype(np.float64), settings.bridge_weight
    thresholded = embeddings.soft_threshold(fine, settings.threshold)
    bridged = embeddings.bridge(graph.fine, weight, coarse, thresholded)
    nodes = ego, bridged, embeddings.fine_embed(fine, settings.threshold)
    parts = graph, graph.coarse, graph.fine
    return embeddings.propagate_fine(*parts, weight, n_layers, *nodes)[0]


def _inverse_root(degrees: Array) -> Array:
    """1 / sqrt(d), and 0 where d is not positive. Shapes: (n,) -> (n,)."""
    roots: Array = np.sqrt(np.where(degrees > 0, degrees, np.inf))
    return 1.0 / roots


def _least_budget(shapes: Mapping[str, Sequence[int]], n_bytes: int) -> int:
    """The least budget of a model for serving, by the shapes and bytes of its arrays.

    Errors: KeyError, IndexError or TypeError for shapes that are not those of a model.
    """
    n_fine = shapes["fine"][0] if "fine" in shapes else shapes.get("fine.starts", (0,))[0]
    n_nodes = shapes["graph.starts"][0] + shapes["bias"][0] + shapes["coarse"][0] + n_fine
    tables = 8 * n_fine * shapes["coarse"][1]
    return OVERHEAD + n_bytes + 8 * VECTORS * n_nodes + tables + ANSWERS


def _require_budget(least: int, budget: int) -> None:
    if not isinstance(budget, Integral):
        raise DeviceError(f"memory_budget must be a whole number of bytes, got {budget!r}")
    if budget < least:
        words = f"memory_budget must be at least {least:,} bytes for this model and request"
        raise DeviceError(f"{words}, got {budget:,}", least)
