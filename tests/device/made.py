"""Models made with NumPy alone, and their scores by scalar loops."""

from __future__ import annotations

from typing import Any

import numpy as np
from support import scalar

from c2f_ref.method import Settings
from c2f_ref.model import Model
from c2f_ref.store import Array, pack_text


def narrow(indices: Array, largest: int) -> Array:
    """Indices as a model has them."""
    return indices.astype(np.min_scalar_type(max(largest, 0)))


def assignment(
    rng: np.random.Generator, shape: tuple[int, int], per_row: int, *, signed: bool, dtype: Any
) -> dict[str, Array]:
    """`per_row` entries from 1/4 to 1 in every row, of random sign if `signed`."""
    columns = rng.permuted(np.tile(np.arange(shape[1]), (shape[0], 1)), axis=1)[:, :per_row]
    signs = rng.choice([-1.0, 1.0], columns.shape) if signed else 1.0
    values = rng.uniform(0.25, 1.0, columns.shape) * signs
    return {
        "columns": narrow(np.sort(columns, axis=1), shape[1] - 1),
        "values": values.astype(dtype),
    }


def make_model(
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
) -> Model:
    """A model of these sizes; users have `pairs_per_user` pairs on average, some none."""
    table_dtype = table_dtype or dtype
    settings = Settings(
        n_coarse=n_coarse, n_fine=n_fine, dim=dim, n_layers=n_layers,
        coarse_per_entity=coarse_per_entity, fine_per_coarse=min(3, max(n_fine, 1)),
    )  # fmt: skip
    n_pairs = rng.binomial(n_items, min(pairs_per_user / n_items, 1.0), size=n_users)
    columns = [np.sort(rng.choice(n_items, size=n, replace=False)) for n in n_pairs]
    starts = np.concatenate([[0], np.cumsum(n_pairs)]).astype(np.int64)
    items, item_starts = pack_text(f"item {number}" for number in rng.permutation(n_items))
    parts: dict[str, Any] = {
        "ids.users": rng.permutation(n_users) + 100,
        "ids.items": items,
        "ids.items.starts": item_starts,
        "graph.columns": narrow(np.concatenate([*columns, np.zeros(0, np.int64)]), n_items - 1),
        "graph.starts": narrow(starts, int(starts[-1])),
        "bias": rng.normal(size=n_items).astype(dtype),
        "coarse": rng.normal(size=(n_coarse, dim)).astype(table_dtype),
    }
    shapes = {"coarse_assignment": ((n_users + n_items, n_coarse), coarse_per_entity)}
    if n_fine:
        shapes["fine_assignment"] = ((n_coarse, n_fine), settings.fine_per_coarse)
        signs = rng.choice([-1.0, 0.0, 0.0, 1.0], (n_fine, dim))
        fine = (signs * rng.uniform(1.25, 3.0, (n_fine, dim))).astype(table_dtype)
        if compress:
            counts = np.cumsum([0, *np.count_nonzero(fine, axis=1)])
            parts["fine.columns"] = narrow(np.nonzero(fine)[1], dim - 1)
            parts["fine.starts"] = narrow(counts, int(counts[-1]))
            parts["fine.values"] = fine[fine != 0]
        else:
            parts["fine"] = fine
    for name, (shape, per_row) in shapes.items():
        made = assignment(rng, shape, per_row, signed=signed, dtype=dtype)
        parts |= {f"{name}.{part}": array for part, array in made.items()}
    return Model(settings, parts)


def changed(model: Model, **arrays: Array) -> Model:
    """The model with other arrays; a name has `_` for its dots and keeps those of its own."""
    names = {name.replace(".", "_"): name for name in model.arrays}
    return Model(model.settings, {**model.arrays, **{names[k]: part for k, part in arrays.items()}})


def seen_of(model: Model, user: int) -> list[int]:
    """Items of the training pairs of a user."""
    starts = model.arrays["graph.starts"]
    items: list[int] = model.arrays["graph.columns"][starts[user] : starts[user + 1]].tolist()
    return items


def embed_by_definition(model: Model) -> Array:
    """Propagated entities (N, D), every sum a Python loop."""
    settings, arrays, coarse = model.settings, model.arrays, model.coarse.astype(np.float64)
    pairs = [(user, item) for user in range(model.n_users) for item in seen_of(model, user)]
    users, items = zip(*pairs, strict=True) if pairs else ((), ())
    adjacency = scalar.normalise(scalar.bipartite(users, items, model.n_users, model.n_items))

    def matrix(name: str, n_columns: int) -> Array:
        values, columns = (arrays[f"{name}.{part}"] for part in ("values", "columns"))
        dense = np.array(scalar.zeros(len(values), n_columns))
        np.put_along_axis(dense, columns.astype(np.int64), values.astype(np.float64), axis=1)
        return dense

    by_entity = matrix("coarse_assignment", settings.n_coarse)
    ego, n_layers = scalar.ego_embed(by_entity, coarse), settings.n_layers
    if model.fine is None:
        graph = scalar.expand_coarse(adjacency, by_entity)
        return scalar.propagate_coarse(graph, n_layers, ego, coarse)[0]
    fine, weight = model.fine.astype(np.float64), settings.bridge_weight
    threshold = settings.threshold
    by_coarse = matrix("fine_assignment", settings.n_fine)
    graph = scalar.expand_fine(adjacency, by_entity, by_coarse)
    bridged = scalar.bridge(by_coarse, weight, coarse, scalar.soft_threshold(fine, threshold))
    nodes = ego, bridged, scalar.fine_embed(fine, threshold)
    return scalar.propagate_fine(graph, by_entity, by_coarse, weight, n_layers, *nodes)[0]


def scores_by_definition(model: Model) -> tuple[Array, Array]:
    """Scores (U, I), and what rounding embeddings to float32 changes them by, at most."""
    entities, bias = embed_by_definition(model), model.arrays["bias"]
    terms = entities[: model.n_users, None] * entities[None, model.n_users :]
    scores = terms.sum(axis=2) + bias
    bounds = 2.001 * 2.0**-24 * np.abs(terms).sum(axis=2) + 1e-12 * (1.0 + np.abs(scores))
    return scores, bounds
