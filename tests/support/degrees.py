"""How far degrees may be off."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import assume


def growth(model: Any) -> float:
    """How much larger the rounding of a degree can be than that of its terms: the most that sum |entries| / |sum entries| is.

    With weights of both signs a positive degree can be a small difference, and the two implementations sum it in different orders.
    """
    adjacency, by_coarse, by_fine = (m.toarray() for m in (model.norm_adjacency, model.coarse_assignment, model.fine_assignment))
    rows = [
        np.hstack([adjacency, by_coarse]),
        by_coarse.T,
        np.hstack([by_coarse.T, by_fine]),
        by_fine.T,
    ]
    sums = [(np.abs(part).sum(axis=1), np.abs(part.sum(axis=1))) for part in rows]
    with np.errstate(divide="ignore"):
        largest = float(np.concatenate([[1.0], *(terms[terms > 0] / left[terms > 0] for terms, left in sums)]).max())
    # Where a degree is nothing but rounding, its very sign is (D11), and there is no result to agree on.
    assume(largest < 1e6)
    return largest
