"""How far degrees may be off."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import assume


def growth(model: Any) -> float:
    """The most that sum |entries| / |sum entries| is over degrees: how much larger the rounding of
    a degree can be than that of its terms.

    With weights of both signs a positive degree can be a small difference, and two implementations
    sum it in different orders. Where it is nothing but rounding, its very sign is (D11), and there
    is no result to agree on.
    """
    adjacency, s_c, s_f = (
        matrix.toarray()
        for matrix in (model.norm_adjacency, model.coarse_assignment, model.fine_assignment)
    )
    largest = 1.0
    for rows in (np.hstack([adjacency, s_c]), s_c.T, np.hstack([s_c.T, s_f]), s_f.T):
        terms, left = np.abs(rows).sum(axis=1), np.abs(rows.sum(axis=1))
        with np.errstate(divide="ignore"):
            largest = float(np.max(terms[terms > 0] / left[terms > 0], initial=largest))
    assume(largest < 1e6)
    return largest
