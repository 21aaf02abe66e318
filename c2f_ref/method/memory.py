"""Bytes that a model takes: counted from its arrays, and promised before it is trained.

Every array counts in the form in which it is stored. Indices take the narrowest unsigned integers
that hold them; an assignment has equally many entries in every row and needs no row starts; of the
fine table only what soft() leaves is kept, dense or as compressed rows, whichever is smaller; of
the bias that of the items, since that of the users cancels.

    coarse             C D values
    fine               F D values, or a value and a column for every entry left, and F + 1 starts
    coarse_assignment  N coarse_per_entity values and columns
    fine_assignment    C fine_per_coarse values and columns
    bias               I values
    ids                those of the caller
    graph              a column for every training pair, over which inference propagates, and U + 1
                       row starts
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from .notation import BoolArray, Float64Array, MethodError, Settings, SettingsError, Sparse

__all__ = [
    "fine_sparsity", "settings_for_budget", "stored_bytes", "stored_bytes_bound", "total_bytes",
]  # fmt: skip


def narrowest(largest: int) -> np.dtype[Any]:
    """The narrowest unsigned integers that hold 0 to `largest`.

    Errors: MethodError for a number below 0 or above those that 64 bits hold.
    """
    if not 0 <= largest < 2**64:
        raise MethodError(f"the largest index must be in [0, 2**64), got {largest}")
    return np.min_scalar_type(largest)


def surviving_entries(fine: Float64Array, threshold: float) -> BoolArray:
    """Where soft() leaves something: |x| > tau, in float64, in which narrower numbers are exact.

    Shapes: fine (F, D) -> (F, D) bool.
    Edge: |x| == tau is dropped. An entry that is dropped is dropped in every narrower type too.
    Source: equation (9).
    """
    return np.abs(fine, dtype=np.float64) > threshold


def fine_sparsity(fine: Float64Array, threshold: float) -> float:
    """Share of the fine table that soft() makes exactly 0.

        1 - nnz(soft(E_f)) / (F D)

    Shapes: fine (F, D).
    Edge: a table without entries is all zeros: 1.
    Source: equation (33).
    """
    return 1.0 - int(np.count_nonzero(surviving_entries(fine, threshold))) / max(fine.size, 1)


def stored_bytes(
    settings: Settings, user_ids: npt.NDArray[Any], item_ids: npt.NDArray[Any], seen: Sparse,
    bias: Float64Array, coarse: Float64Array, coarse_assignment: Sparse,
    fine: Float64Array | None = None, fine_assignment: Sparse | None = None,
) -> dict[str, int]:  # fmt: skip
    """Bytes of every array that a model keeps, by term.

    Shapes: user_ids (U,), item_ids (I,), seen (U, I), bias (N,), coarse (C, D),
    coarse_assignment (N, C), fine (F, D), fine_assignment (C, F).
    Edge: without a fine table its terms are 0. Values count in the type that they have.
    Source: equation (31).
    """
    s_c = coarse_assignment
    s_f = s_c[:0] if fine_assignment is None else fine_assignment
    fine = np.zeros((0, settings.dim)) if fine is None else fine
    n_live = int(np.count_nonzero(surviving_entries(fine, settings.threshold)))
    return {
        "coarse": coarse.nbytes,
        "fine": min(fine.nbytes, _compressed(n_live, fine.itemsize, *fine.shape)),
        "coarse_assignment": _assigned(s_c.nnz, s_c.dtype.itemsize, settings.n_coarse),
        "fine_assignment": _assigned(s_f.nnz, s_f.dtype.itemsize, settings.n_fine),
        "bias": item_ids.size * bias.itemsize,
        "ids": user_ids.nbytes + item_ids.nbytes,
        "graph": _compressed(seen.nnz, 0, *seen.shape),
    }


def stored_bytes_bound(
    settings: Settings, n_users: int, n_items: int, id_bytes: int = 0, *, n_pairs: int = 0,
    dtype: npt.DTypeLike = np.float32, table_dtype: npt.DTypeLike | None = None,
) -> dict[str, int]:  # fmt: skip
    """The most bytes that a model of these settings can take, by the terms of `stored_bytes`.

    `id_bytes` are those of one raw id, `n_pairs` the training pairs, `dtype` the type of values,
    and `table_dtype` that of both tables, if another.

    Edge: a fine entry that starts inside the threshold never moves, and a row starts with
    min(sparse_pca_components, D) others, so no training, however long, leaves more of them.
    Errors: MethodError for sizes below 0.
    Source: equation (32).
    """
    if min(n_users, n_items, id_bytes, n_pairs) < 0:
        raise MethodError(f"need sizes >= 0, got {n_users=}, {n_items=}, {id_bytes=}, {n_pairs=}")
    value = np.dtype(dtype).itemsize
    table = value if table_dtype is None else np.dtype(table_dtype).itemsize
    n_coarse, n_fine, dim = settings.n_coarse, settings.n_fine, settings.dim
    n_entities = n_users + n_items
    most_live = n_fine * min(settings.sparse_pca_components, dim)
    n_links = n_coarse * settings.fine_per_coarse if n_fine else 0
    return {
        "coarse": n_coarse * dim * table,
        "fine": min(n_fine * dim * table, _compressed(most_live, table, n_fine, dim)),
        "coarse_assignment": _assigned(n_entities * settings.coarse_per_entity, value, n_coarse),
        "fine_assignment": _assigned(n_links, value, n_fine),
        "bias": n_items * value,
        "ids": n_entities * id_bytes,
        "graph": _compressed(n_pairs, 0, n_users, n_items),
    }


def settings_for_budget(
    budget: int, n_users: int, n_items: int, *, id_bytes: int = 0, n_pairs: int = 0,
    dtype: npt.DTypeLike = np.float32, table_dtype: npt.DTypeLike | None = None, **others: Any,
) -> Settings:  # fmt: skip
    """The largest model whose `stored_bytes_bound` is at most `budget` bytes, however trained.

    F = C // 3, as in the published run, for the largest C that fits, or F = 0 where that is below
    `fine_per_coarse`; then C is raised as far as it goes with this F. `others` are other settings;
    the remaining arguments are those of the bound.

    Edge: C is never above N, since a coarse row without an entity could not start.
    Errors: SettingsError that names the smallest sufficient budget, for fewer than
    `coarse_per_entity` entities, or where `others` give C or F.
    Source: equation (32).
    """
    if others.keys() & {"n_coarse", "n_fine"}:
        raise SettingsError("n_coarse and n_fine follow from the budget, so neither may be given")
    largest = Settings(n_coarse=n_users + n_items, n_fine=0, **others)
    counted: Any = {"n_pairs": n_pairs, "dtype": dtype, "table_dtype": table_dtype}

    def sized(n_coarse: int, n_fine: int) -> Settings:
        n_fine = n_fine if n_fine >= largest.fine_per_coarse else 0
        return replace(largest, n_coarse=n_coarse, n_fine=n_fine)

    def needed(n_coarse: int, n_fine: int) -> int:
        settings = sized(n_coarse, n_fine)
        return sum(stored_bytes_bound(settings, n_users, n_items, id_bytes, **counted).values())

    least = largest.coarse_per_entity
    choices = range(least, largest.n_coarse + 1)
    if budget < needed(least, least // 3):
        message = f"budget must be at least {needed(least, least // 3):,} bytes for the smallest"
        raise SettingsError(f"{message} model, got {budget:,}")
    n_fine = choices[bisect_right(choices, budget, key=lambda c: needed(c, c // 3)) - 1] // 3
    n_fitting = bisect_right(choices, budget, key=lambda c: needed(c, n_fine))
    return sized(choices[n_fitting - 1], n_fine)


def total_bytes(terms: Mapping[str, int]) -> dict[str, int]:
    """Both ways of counting: the two tables alone, which "0.6 %" refers to, and everything.

    Source: equation (31).
    """
    return {"tables": terms["coarse"] + terms["fine"], "everything": sum(terms.values())}


def _assigned(n_entries: int, value_bytes: int, n_columns: int) -> int:
    return n_entries * (value_bytes + narrowest(max(n_columns - 1, 0)).itemsize)


def _compressed(n_entries: int, value_bytes: int, n_rows: int, n_columns: int) -> int:
    """Values, columns and row starts of a matrix in compressed rows."""
    row_starts = (n_rows + 1) * narrowest(n_entries).itemsize
    return _assigned(n_entries, value_bytes, n_columns) + row_starts
