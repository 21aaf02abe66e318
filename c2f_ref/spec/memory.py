"""Bytes that a model takes: counted from its arrays, and promised before it is trained.

Every array counts in the form in which it is stored. Indices take the narrowest unsigned integers that hold them; an assignment
has as many entries in every row and needs no row starts; of the fine table only what soft() leaves is kept, dense or as
compressed rows, whichever is smaller; of the bias that of the items, since that of the users cancels.

    coarse             C D values
    fine               F D values, or a value and a column for every entry that is left, and F + 1 row starts
    coarse_assignment  N coarse_per_entity values and columns
    fine_assignment    C fine_per_coarse values and columns
    bias               I values
    ids                those of the caller
    graph              a column for every training pair, over which inference propagates, and U + 1 row starts
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from .notation import BoolArray, Float64Array, Settings, SpecError


def narrowest(largest: int) -> np.dtype[Any]:
    """The narrowest unsigned integers that hold 0 to `largest`.

    Errors: SpecError for a number below 0 or above those that 64 bits hold.
    """
    if not 0 <= largest < 2**64:
        raise SpecError(f"the largest index must be in [0, 2**64), got {largest}")
    return np.min_scalar_type(largest)


def surviving_entries(fine: Float64Array, threshold: float) -> BoolArray:
    """Where soft() leaves something: |x| > tau, judged in float64, in which narrower numbers are exact.

    Shapes: fine (F, D) -> (F, D) bool.
    Edge: |x| == tau is dropped. An entry that is dropped is dropped in every narrower type too.
    Source: building blocks.
    """
    return np.abs(fine, dtype=np.float64) > threshold


def fine_sparsity(fine: Float64Array, threshold: float) -> float:
    """Share of the fine table that soft() makes exactly 0.

        1 - nnz(soft(E_f)) / (F D)

    Shapes: fine (F, D).
    Edge: a table without entries is all zeros: 1.
    Source: building blocks; fine stage, step 2.
    """
    return 1.0 - int(np.count_nonzero(surviving_entries(fine, threshold))) / max(fine.size, 1)


def stored_bytes(
    settings: Settings,
    user_ids: npt.NDArray[Any],
    item_ids: npt.NDArray[Any],
    seen: sparse.csr_array,
    bias: Float64Array,
    coarse: Float64Array,
    coarse_assignment: sparse.csr_array,
    fine: Float64Array | None = None,
    fine_assignment: sparse.csr_array | None = None,
) -> dict[str, int]:
    """Bytes of every array that a model keeps, by term.

    Shapes: user_ids (U,), item_ids (I,), seen (U, I), bias (N,), coarse (C, D), coarse_assignment (N, C), fine (F, D),
    fine_assignment (C, F).
    Edge: without a fine table its terms are 0. Values count in the type that they have.
    Source: "What is really stored".
    """
    n_live = 0 if fine is None else int(np.count_nonzero(surviving_entries(fine, settings.threshold)))
    return {
        "coarse": coarse.nbytes,
        "fine": 0 if fine is None else min(fine.nbytes, _compressed(n_live, fine.itemsize, *fine.shape)),
        "coarse_assignment": _assigned(coarse_assignment.nnz, coarse_assignment.dtype.itemsize, settings.n_coarse),
        "fine_assignment": 0
        if fine_assignment is None
        else _assigned(fine_assignment.nnz, fine_assignment.dtype.itemsize, settings.n_fine),
        "bias": item_ids.size * bias.itemsize,
        "ids": user_ids.nbytes + item_ids.nbytes,
        "graph": _compressed(seen.nnz, 0, *seen.shape),
    }


def stored_bytes_bound(
    settings: Settings,
    n_users: int,
    n_items: int,
    id_bytes: int = 0,
    *,
    n_pairs: int = 0,
    dtype: npt.DTypeLike = np.float32,
    table_dtype: npt.DTypeLike | None = None,
) -> dict[str, int]:
    """The most that a model of these settings can come to take, by the terms of `stored_bytes`, promised before training.

    `id_bytes` are those of one raw id, `n_pairs` the training pairs, `dtype` the type of values, and `table_dtype` that of both
    tables, if another.

    Edge: a fine entry that starts inside the threshold never moves, and a row starts with min(sparse_pca_components, D) others, so
    no training, however long, has more of them.
    Errors: SpecError for sizes below 0.
    Source: fine stage, step 2; "What is really stored".
    """
    sizes = {"n_users": n_users, "n_items": n_items, "id_bytes": id_bytes, "n_pairs": n_pairs}
    for name, size in sizes.items():
        if size < 0:
            raise SpecError(f"{name} must be at least 0, got {size}")
    value = np.dtype(dtype).itemsize
    table = value if table_dtype is None else np.dtype(table_dtype).itemsize
    n_coarse, n_fine, dim, n_entities = settings.n_coarse, settings.n_fine, settings.dim, n_users + n_items
    most_live = n_fine * min(settings.sparse_pca_components, dim)
    return {
        "coarse": n_coarse * dim * table,
        "fine": min(n_fine * dim * table, _compressed(most_live, table, n_fine, dim)),
        "coarse_assignment": _assigned(n_entities * settings.coarse_per_entity, value, n_coarse),
        "fine_assignment": _assigned(n_coarse * settings.fine_per_coarse, value, n_fine) if n_fine else 0,
        "bias": n_items * value,
        "ids": n_entities * id_bytes,
        "graph": _compressed(n_pairs, 0, n_users, n_items),
    }


def total_bytes(terms: Mapping[str, int]) -> dict[str, int]:
    """Both ways of counting: the two tables alone, which is what "0.6 %" speaks of, and everything."""
    return {"tables": terms["coarse"] + terms["fine"], "everything": sum(terms.values())}


def _assigned(n_entries: int, value_bytes: int, n_columns: int) -> int:
    return n_entries * (value_bytes + narrowest(max(n_columns - 1, 0)).itemsize)


def _compressed(n_entries: int, value_bytes: int, n_rows: int, n_columns: int) -> int:
    """Values, columns and row starts of a matrix in compressed rows."""
    return _assigned(n_entries, value_bytes, n_columns) + (n_rows + 1) * narrowest(n_entries).itemsize
