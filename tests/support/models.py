"""Trained models of the sizes and tables that the strategies draw, and all that they hold."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse

from c2f_ref.model import Model

RAW_IDS = {
    "int": lambda n: np.arange(n) * 7 - 3,
    "unsigned": lambda n: np.arange(n, dtype=np.uint16)[::-1] * 5,
    "text": lambda n: np.array([f"Zoë {number}" for number in range(n)]),
}


def model_of(
    m: Any, ids: str = "text", *, has_fine: bool = True, dtype: Any = np.float64,
    table_dtype: Any = None,
) -> Model:  # fmt: skip
    """A model of these parts; values in `dtype`, tables in `table_dtype`, if another."""
    pairs = np.ones(m.users.size), (m.users, m.items)
    fine = {"fine": m.fine, "fine_assignment": m.fine_assignment} if has_fine else {}
    model = Model.of(
        settings=m.settings, user_ids=RAW_IDS[ids](m.n_users),
        item_ids=np.array([f"i{item}" for item in range(m.n_items)]),
        seen=sparse.csr_array(pairs, shape=(m.n_users, m.n_items)), bias=m.bias, coarse=m.coarse,
        coarse_assignment=m.coarse_assignment, **fine, provenance={"split": "ratio", "seed": "3"},
    )  # fmt: skip
    return model.with_tables(table_dtype or dtype, dtype)


def parts_of(model: Model) -> dict[str, Any]:
    """All that a model holds, as types, shapes and bytes."""
    arrays = {name: (a.dtype.str, a.shape, a.tobytes()) for name, a in model.arrays.items()}
    return {"settings": model.settings, "provenance": dict(model.provenance), **arrays}
