"""Models made with NumPy alone, and their scores by scalar loops."""

from __future__ import annotations

from typing import Any

import numpy as np
from oracle.formulas import Sparse, bipartite, embed, given, mapped, normalise
from oracle.number import exact, held_to

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
    """Propagated entities (N, D), every sum a loop over numbers of 50 digits."""
    n_users, settings = model.n_users, model.settings

    def matrix(name: str, n_columns: int) -> Sparse:
        parts = (model.arrays[f"{name}.{part}"].tolist() for part in ("columns", "values"))
        rows = [dict(zip(c, map(exact, v), strict=True)) for c, v in zip(*parts, strict=True)]
        return Sparse(rows, n_columns)

    with held_to(2.0**-52):
        pairs = [(user, item) for user in range(n_users) for item in seen_of(model, user)]
        users, items = ([pair[place] for pair in pairs] for place in (0, 1))
        adjacency = normalise(bipartite(users, items, n_users, model.n_items))
        inputs = {"norm_adjacency": adjacency, "n_users": n_users, "settings": settings}
        inputs["coarse_assignment"] = matrix("coarse_assignment", settings.n_coarse)
        inputs["coarse"] = given(model.coarse)
        if model.fine is not None:
            inputs["fine_assignment"] = matrix("fine_assignment", settings.n_fine)
            inputs["fine"] = given(model.fine)
        return np.array(mapped(lambda x: float(x.value), embed(**inputs)[0]))


def scores_by_definition(model: Model) -> tuple[Array, Array]:
    """Scores (U, I), and what rounding embeddings to float32 changes them by, at most."""
    entities, bias = embed_by_definition(model), model.arrays["bias"]
    terms = entities[: model.n_users, None] * entities[None, model.n_users :]
    scores = terms.sum(axis=2) + bias
    bounds = 2.001 * 2.0**-24 * np.abs(terms).sum(axis=2) + 1e-12 * (1.0 + np.abs(scores))
    return scores, bounds
