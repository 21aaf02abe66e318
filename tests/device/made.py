"""Models made with NumPy alone, and the lists they have to give by scalar loops."""

from __future__ import annotations

from typing import Any

import numpy as np
from support import scalar

from c2f_ref.stored import Array, CompressedRows, FixedRows, StoredModel

HALF_ULP = 2.0**-24
"""What rounding to float32 changes a number by, at most, relative to it."""


def assert_close(actual: Array, expected: Array) -> None:
    """Raise AssertionError unless no entry is off by more than 1e-12 of the largest expected: sums have fewer than 100 terms."""
    if actual.shape != expected.shape:
        raise AssertionError(f"expected shape {expected.shape}, got {actual.shape}")
    errors = np.abs(actual - expected)
    if not (errors <= 1e-12 * np.abs(expected).max(initial=0.0)).all():  # a NaN is not below anything
        raise AssertionError(f"off by {errors.max()!r}")


def fixed_rows(rng: np.random.Generator, shape: tuple[int, int], per_row: int, *, signed: bool, dtype: Any) -> FixedRows:
    """`per_row` entries from 1/4 to 1 at random columns of every row, of random sign where `signed`."""
    n_rows, n_columns = shape
    columns = np.sort(rng.permuted(np.tile(np.arange(n_columns), (n_rows, 1)), axis=1)[:, :per_row], axis=1)
    values = rng.uniform(0.25, 1.0, columns.shape) * (rng.choice([-1.0, 1.0], columns.shape) if signed else 1.0)
    return FixedRows(values.astype(dtype), columns.astype(np.min_scalar_type(n_columns - 1)))


def compressed(table: Array) -> CompressedRows:
    """The entries of a table that are not 0, row after row."""
    rows, columns = np.nonzero(table)
    starts = np.concatenate([[0], np.cumsum(np.count_nonzero(table, axis=1))])
    narrow = columns.astype(np.min_scalar_type(table.shape[1] - 1))
    return CompressedRows(table[rows, columns], narrow, starts.astype(np.min_scalar_type(rows.size)))


def make_stored(
    rng: np.random.Generator,
    *,
    n_users: int,
    n_items: int,
    n_coarse: int,
    n_fine: int = 0,
    dim: int,
    n_layers: int = 2,
    pairs_per_user: float = 2.0,
    coarse_per_entity: int = 2,
    signed: bool = False,
    dtype: Any = np.float64,
    table_dtype: Any = None,
    compress: bool = False,
) -> StoredModel:
    """A model of these sizes as its file would give it; users have `pairs_per_user` pairs on average, some none."""
    table_dtype = table_dtype or dtype
    fine_per_coarse = min(3, max(n_fine, 1))
    n_pairs = rng.binomial(n_items, min(pairs_per_user / n_items, 1.0), size=n_users)
    columns = [np.sort(rng.choice(n_items, size=n, replace=False)) for n in n_pairs]
    starts = np.concatenate([[0], np.cumsum(n_pairs)])
    fine: Any = (rng.choice([-1.0, 1.0], (n_fine, dim)) * rng.uniform(1.25, 3.0, (n_fine, dim))).astype(table_dtype)
    fine[rng.random(fine.shape) < 0.5] = 0.0
    entities, weights = n_users + n_items, {"signed": signed, "dtype": dtype}
    return StoredModel(
        settings={
            "n_coarse": n_coarse,
            "n_fine": n_fine,
            "dim": dim,
            "n_layers": n_layers,
            "coarse_per_entity": coarse_per_entity,
            "fine_per_coarse": fine_per_coarse,
            "threshold": 1.0,
            "bridge_weight": 0.2,
            "sparse_pca_components": dim,
        },
        user_ids=rng.permutation(n_users) + 100,
        item_ids=np.array([f"item {number}" for number in rng.permutation(n_items)]),
        graph_columns=np.concatenate([*columns, np.zeros(0, dtype=np.int64)]).astype(np.min_scalar_type(n_items - 1)),
        graph_starts=starts.astype(np.min_scalar_type(int(starts[-1]))),
        bias=rng.normal(size=n_items).astype(dtype),
        coarse=rng.normal(size=(n_coarse, dim)).astype(table_dtype),
        coarse_assignment=fixed_rows(rng, (entities, n_coarse), coarse_per_entity, **weights),
        fine=None if n_fine == 0 else compressed(fine) if compress else fine,
        fine_assignment=None if n_fine == 0 else fixed_rows(rng, (n_coarse, n_fine), fine_per_coarse, **weights),
    )


def pairs_of(stored: StoredModel) -> list[tuple[int, int]]:
    """User and item of every training pair, by position."""
    starts, columns = stored.graph_starts.tolist(), stored.graph_columns.tolist()
    return [(user, item) for user in range(stored.n_users) for item in columns[starts[user] : starts[user + 1]]]


def dense_rows(rows: FixedRows, n_columns: int) -> Array:
    """The matrix that these rows are."""
    matrix = np.array(scalar.zeros(len(rows.values), n_columns))
    for i, (values, columns) in enumerate(zip(rows.values.tolist(), rows.columns.tolist(), strict=True)):
        for value, column in zip(values, columns, strict=True):
            matrix[i, column] += value
    return matrix


def dense_fine(stored: StoredModel) -> Array:
    """E_f as a matrix."""
    if not isinstance(stored.fine, CompressedRows):
        return np.array(stored.fine, dtype=np.float64)
    matrix = np.array(scalar.zeros(len(stored.fine.starts) - 1, stored.coarse.shape[1]))
    starts = stored.fine.starts.tolist()
    for row in range(len(matrix)):
        for entry in range(starts[row], starts[row + 1]):
            matrix[row, int(stored.fine.columns[entry])] = stored.fine.values[entry]
    return matrix


def embed_by_definition(stored: StoredModel) -> Array:
    """Propagated entities (N, D), every sum a Python loop."""
    settings, coarse = stored.settings, np.array(stored.coarse, dtype=np.float64)
    users, items = zip(*pairs_of(stored), strict=True) if pairs_of(stored) else ((), ())
    adjacency = scalar.normalise(scalar.bipartite(users, items, stored.n_users, stored.n_items))
    by_entity = dense_rows(stored.coarse_assignment, len(coarse))
    ego = scalar.ego_embed(by_entity, coarse)
    if stored.fine_assignment is None:
        return scalar.propagate_coarse(scalar.expand_coarse(adjacency, by_entity), settings["n_layers"], ego, coarse)[0]
    fine = dense_fine(stored)
    by_coarse, weight = dense_rows(stored.fine_assignment, len(fine)), settings["bridge_weight"]
    thresholded = scalar.soft_threshold(fine, settings["threshold"])
    return scalar.propagate_fine(
        scalar.expand_fine(adjacency, by_entity, by_coarse),
        by_entity,
        by_coarse,
        weight,
        settings["n_layers"],
        ego,
        scalar.bridge(by_coarse, weight, coarse, thresholded),
        scalar.fine_embed(fine, settings["threshold"]),
    )[0]


def scores_by_definition(stored: StoredModel) -> tuple[Array, Array]:
    """Scores (U, I) in float64, and what rounding embeddings to float32 changes them by at most, with room for float64 itself."""
    entities = embed_by_definition(stored).tolist()
    scores = np.array(scalar.zeros(stored.n_users, stored.n_items))
    bounds = scores.copy()
    for user in range(stored.n_users):
        for item in range(stored.n_items):
            terms = [a * b for a, b in zip(entities[user], entities[stored.n_users + item], strict=True)]
            scores[user, item] = sum(terms) + float(stored.bias[item])
            bounds[user, item] = 2.001 * HALF_ULP * sum(abs(term) for term in terms) + 1e-12 * (1.0 + abs(scores[user, item]))
    return scores, bounds
