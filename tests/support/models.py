"""Trained models of the sizes and tables that the strategies draw, and all that they hold."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse

from c2f_ref.bundle import Model

RAW_IDS = {
    "int": lambda n: np.arange(n) * 7 - 3,
    "unsigned": lambda n: np.arange(n, dtype=np.uint16)[::-1] * 5,
    "text": lambda n: np.array([f"Zoë {number}" for number in range(n)]),
}
DENSE = ("user_ids", "item_ids", "bias", "coarse", "fine")
SPARSE = ("seen", "coarse_assignment", "fine_assignment")


def model_of(drawn: Any, ids: str = "text", *, has_fine: bool = True, dtype: Any = np.float64, table_dtype: Any = None) -> Model:
    """A model of these parts; values in `dtype`, tables in `table_dtype`, if another."""
    shape = (drawn.n_users, drawn.n_items)
    model = Model(
        settings=drawn.settings,
        user_ids=RAW_IDS[ids](drawn.n_users),
        item_ids=np.array([f"i{item}" for item in range(drawn.n_items)]),
        seen=sparse.csr_array((np.ones(drawn.users.size), (drawn.users, drawn.items)), shape=shape),
        bias=drawn.bias,
        coarse=drawn.coarse,
        coarse_assignment=drawn.coarse_assignment,
        fine=drawn.fine if has_fine else None,
        fine_assignment=drawn.fine_assignment if has_fine else None,
        provenance={"split": "ratio", "seed": "3"},
    )
    return model.with_tables(table_dtype or dtype, dtype)


def parts_of(model: Model) -> dict[str, Any]:
    """All that a model holds, as types, shapes and bytes."""
    arrays = {name: getattr(model, name) for name in DENSE}
    for name in SPARSE:
        matrix = getattr(model, name)
        arrays |= {f"{name}.{part}": matrix if matrix is None else getattr(matrix, part) for part in ("data", "indices", "indptr")}
        arrays[f"{name}.shape"] = None if matrix is None else np.array(matrix.shape)
    described = {name: a if a is None else (a.dtype.str, a.shape, a.tobytes()) for name, a in arrays.items()}
    return {"settings": model.settings, "provenance": dict(model.provenance), **described}
