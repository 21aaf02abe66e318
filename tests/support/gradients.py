"""Holds a pull-back against its function: random directions on both sides.

Directions have entries of random sign and of magnitude in [1/2, 1], so that none is too small to
count and no input moves further than STEP.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

STEP = 2.0**-6
"""First step of the difference quotients."""


def check_vjp(
    function: Callable[..., Any], vjp: Callable[..., Any], inputs: Sequence[Any],
    rng: np.random.Generator, *, n_entries: int = 3, tolerance: float = 1e-7,
) -> None:  # fmt: skip
    """Raise AssertionError unless <w, J v> = <vjp(w), v> for random directions v and weights w.

        |<w, J v> - <vjp(w), v>| <= tolerance * (sum |w (J v)| + sum |vjp(w) v|)

    `vjp` takes one gradient per output and returns one per input. Directions: all inputs together,
    each input alone, and `n_entries` single entries of each, so that a small entry is judged by its
    own size. The tolerance is relative to the summed terms: a gradient of 1e-9 must be right in
    seven digits too. A direction of whole inputs in which all terms are 0 is refused.
    """
    outputs = _as_tuple(function(*inputs))
    for which, direction in _directions(inputs, rng, n_entries):
        weights = tuple(_random_signed(np.shape(output), rng) for output in outputs)
        grads = _as_tuple(vjp(*(float(w) if w.ndim == 0 else w for w in weights)))
        shapes = [np.shape(grad) for grad in grads]
        assert shapes == [np.shape(value) for value in inputs], f"{which}: gradients of {shapes}"
        changes = directional_derivative(function, inputs, direction)
        measured = np.concatenate([np.ravel(a * b) for a, b in zip(weights, changes, strict=True)])
        pulled = np.concatenate([np.ravel(a * b) for a, b in zip(grads, direction, strict=True)])
        terms, sums = np.abs(measured).sum() + np.abs(pulled).sum(), (measured.sum(), pulled.sum())
        assert terms or "entry" in which, f"{which}: every term is 0, so nothing was checked"
        is_right = abs(sums[0] - sums[1]) <= tolerance * terms
        assert is_right, f"{which}: <w, J v> and <vjp(w), v> are {sums}; terms {terms!r}"


def directional_derivative(
    function: Callable[..., Any], inputs: Sequence[Any], direction: Sequence[Any]
) -> tuple[Any, ...]:
    """J v: central differences at STEP, STEP / 2 and STEP / 4, Richardson-extrapolated.

    D(h) = (f(x + h v) - f(x - h v)) / 2h,  J v = (64 D(h/4) - 20 D(h/2) + D(h)) / 45, whose error
    is of order STEP^6.
    """

    def moved(step: float) -> tuple[Any, ...]:
        return _as_tuple(function(*(x + step * v for x, v in zip(inputs, direction, strict=True))))

    def quotient(step: float) -> list[Any]:
        pairs = zip(moved(step), moved(-step), strict=True)
        return [np.asarray(ahead - behind) / (2 * step) for ahead, behind in pairs]

    quotients = (quotient(STEP / divisor) for divisor in (1, 2, 4))
    return tuple((64 * f - 20 * m + c) / 45 for c, m, f in zip(*quotients, strict=True))


def _as_tuple(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def _random_signed(shape: tuple[int, ...], rng: np.random.Generator) -> Any:
    return np.asarray(rng.uniform(0.5, 1.0, shape) * rng.choice([-1.0, 1.0], shape))


def _directions(inputs: Sequence[Any], rng: np.random.Generator, n_entries: int) -> list[Any]:
    full = [_random_signed(np.shape(value), rng) for value in inputs]
    directions = [("all inputs", full)]
    for place, v in enumerate(full):
        alone = [np.zeros_like(other) for other in full]
        directions.append((f"input {place}", [*alone[:place], v, *alone[place + 1 :]]))
        for entry in rng.permutation(v.size)[:n_entries]:
            one = np.where(np.arange(v.size).reshape(v.shape) == entry, v, 0.0)
            named = f"input {place}, entry {entry}"
            directions.append((named, [*alone[:place], one, *alone[place + 1 :]]))
    return directions
