"""Adam in one pass over the table, for tables of a row per entity."""

from __future__ import annotations

from math import sqrt
from typing import Any

import numpy as np

from ..spec import AdamState, Settings
from ..spec.notation import require_finite, require_shape
from .compile import kernel, span
from .plan import FloatArray


def adam_step(table: FloatArray, grad: FloatArray, state: AdamState, lr: float, settings: Settings) -> tuple[FloatArray, AdamState]:
    """As `c2f_ref.spec.adam_step`, bit for bit where table, gradient and moments are of one type."""
    for name, array in (("table", table), ("grad", grad), ("first moment", state.first), ("second moment", state.second)):
        require_shape(name, array, table.shape)
        require_finite(name, array)
    n_steps = state.n_steps + 1
    numbers = (
        settings.clip_limit,
        settings.adam_beta1,
        1.0 - settings.adam_beta1,
        settings.adam_beta2,
        1.0 - settings.adam_beta2,
        lr / (1.0 - settings.adam_beta1**n_steps),
        sqrt(1.0 - settings.adam_beta2**n_steps),
        settings.adam_epsilon,
    )
    old = tuple(np.ascontiguousarray(part, dtype=table.dtype).reshape(-1) for part in (table, grad, state.first, state.second))
    new = [np.empty_like(old[0]) for _ in range(3)]
    _adam(old, tuple(table.dtype.type(number) for number in numbers), *new)
    stepped, first, second = (part.reshape(table.shape) for part in new)
    return stepped, AdamState(first, second, n_steps)


@kernel(parallel=True)
def _adam(old: Any, numbers: Any, new_table: Any, new_first: Any, new_second: Any) -> None:
    """From `old` table, gradient and moments, all of them flat. Numba drops what is written to arrays out of a tuple."""
    table, grad, first, second = old
    limit, keep1, take1, keep2, take2, step, correction, epsilon = numbers
    for place in span(table.size):
        g = min(max(grad[place], -limit), limit)
        m = keep1 * first[place] + take1 * g
        v = keep2 * second[place] + take2 * (g * g)
        new_first[place] = m
        new_second[place] = v
        new_table[place] = table[place] - step * m / (np.sqrt(v) / correction + epsilon)
