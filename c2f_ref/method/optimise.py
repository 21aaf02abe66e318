"""Clipping and Adam: state in, state out."""

from __future__ import annotations

from math import sqrt
from typing import NamedTuple

import numpy as np

from .notation import Float64Array, Settings, require_finite, require_shape

__all__ = ["AdamState", "adam_step", "clip", "start_adam"]


class AdamState(NamedTuple):
    """Moments of one table's gradients, both of the table's shape, and the number of steps made."""

    first: Float64Array
    second: Float64Array
    n_steps: int


def start_adam(table: Float64Array) -> AdamState:
    """Zero moments for `table`, no step made.

    Shapes: table of any shape -> two moments of that shape.
    Source: equation (21); Kingma and Ba, ICLR 2015, algorithm 1.
    """
    return AdamState(np.zeros_like(table), np.zeros_like(table), 0)


def clip(grad: Float64Array, limit: float) -> Float64Array:
    """Every entry cut to [-limit, limit]: by value, not by norm.

    Shapes: any -> the same.
    Edge: limit == inf changes nothing.
    Source: equation (21).
    """
    return np.clip(grad, -limit, limit)


def adam_step(
    table: Float64Array, grad: Float64Array, state: AdamState, lr: float, settings: Settings
) -> tuple[Float64Array, AdamState]:
    """One step of Adam on the clipped gradient: (table, state).

        g = clip(grad)
        m = beta1 m + (1 - beta1) g,        v = beta2 v + (1 - beta2) g^2
        table - lr / (1 - beta1^n) * m / (sqrt(v) / sqrt(1 - beta2^n) + epsilon)

    Shapes: table, grad and both moments of one shape -> the same.
    Edge: an entry with zero gradient and zero moments stays bit for bit.
    Errors: MethodError for shapes that differ or values that are not finite.
    Source: equation (21); Kingma and Ba, ICLR 2015, algorithm 1; epsilon outside the root.
    """
    names = "table", "grad", "first moment", "second moment"
    for name, array in zip(names, (table, grad, state.first, state.second), strict=True):
        require_shape(name, array, table.shape)
        require_finite(name, array)
    grad = clip(grad, settings.clip_limit)
    n_steps = state.n_steps + 1
    first = settings.adam_beta1 * state.first + (1.0 - settings.adam_beta1) * grad
    second = settings.adam_beta2 * state.second + (1.0 - settings.adam_beta2) * grad**2
    step = lr / (1.0 - settings.adam_beta1**n_steps)
    spread = np.sqrt(second) / sqrt(1.0 - settings.adam_beta2**n_steps) + settings.adam_epsilon
    return table - step * first / spread, AdamState(first, second, n_steps)
