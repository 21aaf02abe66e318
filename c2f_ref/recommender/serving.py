"""A trained model at work: its embeddings, and ranked lists, by raw ids."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import sparse

from .. import spec
from ..bundle import Model
from ..interactions import DataError, Interactions
from ..spec import Float64Array, IntArray, SpecError
from ..threads import one_blas_thread
from ..training import embed_model
from .parameters import implementation_named

Ids: TypeAlias = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Ranker:
    """A model and the implementation that it is served with, by dotted name.

    What follows from the two is computed when it is first asked for, and kept. Methods and arguments are those of
    `C2FRecommender`, which documents them.
    """

    model: Model
    implementation: str | None

    @cached_property
    def pairs(self) -> Interactions:
        """The pairs that inference propagates over, with the raw ids."""
        model = self.model
        return Interactions.from_csr(model.seen, user_ids=model.user_ids, item_ids=model.item_ids)

    @cached_property
    def embeddings(self) -> tuple[Float64Array, Float64Array]:
        """Propagated (users, items). Shapes: -> (U, D), (I, D)."""
        entities = embed_model(self.model, ops=implementation_named(self.implementation))
        return entities[: self.model.n_users], entities[self.model.n_users :]

    def score(self, users: Any, items: Any) -> Any:
        """H_u . H_(U+i) + b_(U+i), what items are ranked by: a model keeps no bias of users."""
        of_users, of_items = self.positions("users", users), self.positions("items", items)
        if of_users.size != of_items.size and 1 not in (of_users.size, of_items.size):
            raise DataError(f"users and items must be of one length, got {of_users.size} and {of_items.size}")
        of_users, of_items = np.broadcast_arrays(of_users, of_items)
        pairs = np.arange(of_users.size)
        entities = np.concatenate([self.embeddings[0][of_users], self.embeddings[1][of_items]])
        bias = np.concatenate([np.zeros(pairs.size), self.model.bias[self.model.n_users + of_items]])
        scores = spec.score_pairs(entities, bias, 0.0, pairs.size, pairs, pairs)
        return float(scores[0]) if np.ndim(users) == np.ndim(items) == 0 else scores

    def recommend(self, users: Any, n: int, *, exclude_seen: bool, items: Any) -> tuple[Ids, Float64Array]:
        """Lists for known users."""
        positions = self.positions("users", users)
        seen = self.model.seen[positions]
        return _as_asked(users, *self._best_items(self.embeddings[0][positions], seen if exclude_seen else 0 * seen, n, items))

    def recommend_for(self, own_items: Any, n: int, *, exclude_seen: bool, items: Any) -> tuple[Ids, Float64Array]:
        """A list for an unknown user who has these items."""
        own = np.unique(self.positions("items", own_items))
        seen = sparse.csr_array((np.full(own.size, float(exclude_seen)), own, [0, own.size]), shape=(1, self.model.n_items))
        ids, scores = self._best_items(self.fold_in(own_items)[None], seen, n, items)
        return ids[0], scores[0]

    def similar(self, kind: str, raw: Any, n: int) -> tuple[Ids, Float64Array]:
        """The nearest of the same kind, "users" or "items", by cosine.

        Edge: an embedding of zeros has cosine 0 with every other.
        """
        ids, table = {
            "users": (self.pairs.user_ids, self.embeddings[0]),
            "items": (self.pairs.item_ids, self.embeddings[1]),
        }[kind]
        positions = self.positions(kind, raw)
        norms = np.linalg.norm(table, axis=1, keepdims=True)
        unit = np.divide(table, norms, out=np.zeros_like(table), where=norms > 0)
        itself = sparse.csr_array((np.ones(positions.size), (np.arange(positions.size), positions)), (positions.size, len(table)))
        return _as_asked(raw, *self._ranked(unit[positions], unit, np.zeros(len(table)), ids, itself, n))

    def fold_in(self, items: Any) -> Float64Array:
        """An embedding for a further user with these items, all that is trained as it is. Not part of the paper.

            H_new = r v / |v|,  v = sum over its items of M_i / sqrt(d_i D_i),  r = mean of |H_u| over users

        with d_i the users of item i, D_i its row sum in [A, S_c], and M the model's embeddings with a layer less. v has the
        direction, exactly, of what propagation gives a node with edges to these items and no coarse rows, all other nodes being
        as they are: the mean of its layers 1 to L. Its length would be too short beside the biases, for want of coarse rows.

        Shapes: -> (D,).
        Edge: an item that no user has adds nothing; v = 0 gives 0, which leaves the biases alone to rank by.
        """
        positions = np.unique(self.positions("items", items))
        weights, means, radius = self._to_fold_in
        direction: Float64Array = np.einsum("i,id->d", weights[positions], means[positions])
        length = np.linalg.norm(direction)
        return direction * (radius / length) if length > 0 else direction

    def positions(self, kind: str, raw: Any) -> IntArray:
        """Positions of one raw id, or of several, of "users" or "items". Shapes: -> (1,) or (K,).

        Errors: DataError that names the first unknown id, or for ids that are not in one row.
        """
        if np.ndim(raw) > 1:
            raise DataError(f"{kind} must be one raw id or a row of them, got {np.ndim(raw)} dimensions")
        look_up = {"users": self.pairs.user_index, "items": self.pairs.item_index}[kind]
        return np.atleast_1d(np.asarray(look_up(np.asarray(raw).tolist()), dtype=np.int64))

    @cached_property
    def _to_fold_in(self) -> tuple[Float64Array, Float64Array, float]:
        """1 / sqrt(d_i D_i) (I,), 0 where there is no such root; M (I, D), 0 where the model has no layer; r."""
        model, pairs, n_layers = self.model, self.pairs, self.model.settings.n_layers
        adjacency = spec.normalise(spec.bipartite(pairs.users, pairs.items, pairs.n_users, pairs.n_items))
        degrees = (adjacency.sum(axis=1) + model.coarse_assignment.astype(np.float64).sum(axis=1))[pairs.n_users :]
        products = np.bincount(pairs.items, minlength=pairs.n_items) * degrees
        weights = np.where(products > 0, 1.0 / np.sqrt(np.where(products > 0, products, 1.0)), 0.0)
        means = np.zeros_like(self.embeddings[1])
        if n_layers > 0:
            shallow = replace(model, settings=replace(model.settings, n_layers=n_layers - 1))
            means = embed_model(shallow, ops=implementation_named(self.implementation))[pairs.n_users :]
        return weights, means, float(np.linalg.norm(self.embeddings[0], axis=1).mean())

    def _best_items(self, rows: Float64Array, seen: sparse.csr_array, n: int, items: Any) -> tuple[Ids, Float64Array]:
        """The n best of these items (None: of all) for user embeddings. Shapes: rows (B, D), seen (B, I) -> (B, n), (B, n)."""
        chosen = np.arange(self.model.n_items) if items is None else np.unique(self.positions("items", items))
        table, bias = self.embeddings[1][chosen], self.model.bias[self.model.n_users + chosen]
        return self._ranked(rows, table, bias, self.pairs.item_ids[chosen], seen[:, chosen], n)

    def _ranked(
        self, rows: Float64Array, table: Float64Array, bias: Float64Array, ids: Ids, left_out: sparse.csr_array, n: int
    ) -> tuple[Ids, Float64Array]:
        """`rank_items` of the contract with these rows as users and this table as items, whose raw ids are `ids`.

        Shapes: rows (B, D), table (K, D), bias and ids (K,), left_out (B, K): stored values that are not 0 -> (B, n), (B, n).
        """
        if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 0:
            raise SpecError(f"n must be a whole number of at least 0, got {n!r}")
        left_out = sparse.csr_array(left_out)
        left_out.eliminate_zeros()
        users = np.arange(len(rows))
        ops = implementation_named(self.implementation)
        with one_blas_thread():
            places, scores = ops.rank_items(
                np.concatenate([rows, table]), np.concatenate([np.zeros(len(rows)), bias]), len(rows), users, left_out, int(n)
            )
        # Place -1, where there is no further candidate, is the last: that of the padding.
        padding: list[Any] = [""] if ids.dtype.kind == "U" else [-1]
        return np.append(ids, padding)[places], scores


def _as_asked(raw: Any, ids: Ids, scores: Float64Array) -> tuple[Ids, Float64Array]:
    """One list for one raw id, a list for each of several."""
    return (ids[0], scores[0]) if np.ndim(raw) == 0 else (ids, scores)
