"""Holds a pull-back against its function: random directions on both sides, and the Taylor remainder."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

STEP = 2.0**-6
"""First step of the difference quotients. Directions have entries in [-1, 1], so no input moves further than this."""


def check_vjp(
    function: Callable[..., Any],
    vjp: Callable[..., Any],
    inputs: Sequence[Array | float],
    rng: np.random.Generator,
    *,
    n_entries: int = 3,
    tolerance: float = 1e-7,
) -> None:
    """Raise AssertionError unless <w, J v> = <vjp(w), v> for random directions v of the inputs and w of the outputs.

        |<w, J v> - <vjp(w), v>| <= tolerance * (sum |w (J v)| + sum |vjp(w) v|)

    `vjp` takes one gradient per output and returns one per input. J v is measured by `directional_derivative`. Directions:
    all inputs together; each input alone; and `n_entries` single entries of each input, so that a small entry is judged by
    its own size and not beside large ones. The tolerance is relative to the summed terms alone: a gradient of 1e-9 must be
    right in seven digits too. A direction of whole inputs in which all terms are 0 checks nothing and is refused.
    """
    outputs = _as_tuple(function(*inputs))
    for which, direction in _directions(inputs, rng, n_entries):
        weights = tuple(_random_signed(np.shape(output), rng) for output in outputs)
        grads = _as_tuple(vjp(*(float(w) if w.ndim == 0 else w for w in weights)))
        for value, grad in zip(inputs, grads, strict=True):
            if np.shape(grad) != np.shape(value):
                raise AssertionError(f"{which}: the gradient has shape {np.shape(grad)}, its input {np.shape(value)}")
        measured = np.concatenate(
            [(w * change).ravel() for w, change in zip(weights, directional_derivative(function, inputs, direction), strict=True)]
        )
        pulled = np.concatenate([np.ravel(grad * v) for grad, v in zip(grads, direction, strict=True)])
        terms = np.abs(measured).sum() + np.abs(pulled).sum()
        if terms == 0 and "entry" not in which:
            raise AssertionError(f"{which}: every term is 0, so nothing was checked")
        error = abs(measured.sum() - pulled.sum())
        if not error <= tolerance * terms:
            raise AssertionError(f"{which}: <w, J v> = {measured.sum()!r}, <vjp(w), v> = {pulled.sum()!r}; summed terms {terms!r}")


def directional_derivative(
    function: Callable[..., Any], inputs: Sequence[Array | float], direction: Sequence[Array]
) -> tuple[Array, ...]:
    """J v: central differences at STEP, STEP / 2 and STEP / 4, Richardson-extrapolated, so the error is of order STEP^6.

    Here D(h) = (f(x + h v) - f(x - h v)) / 2h,  J v = (64 D(h/4) - 20 D(h/2) + D(h)) / 45
    """

    def quotient(step: float) -> list[Array]:
        ahead = _as_tuple(function(*_moved(inputs, direction, step)))
        behind = _as_tuple(function(*_moved(inputs, direction, -step)))
        return [np.asarray(a - b) / (2 * step) for a, b in zip(ahead, behind, strict=True)]

    coarse, middle, fine = (quotient(STEP / divisor) for divisor in (1, 2, 4))
    return tuple((64 * f - 20 * m + c) / 45 for f, m, c in zip(fine, middle, coarse, strict=True))


def taylor_slope(
    function: Callable[..., float],
    grads: Sequence[Array | float],
    inputs: Sequence[Array | float],
    rng: np.random.Generator,
    *,
    n_directions: int = 4,
) -> float:
    """How fast the remainder of the linear model falls with the step: 2 for a right gradient, 1 for a wrong one.

        R(h) = sum over directions v of |f(x + h v) - f(x) - h <grad, v>|,  slope = log2(R(h) / R(h / 4)) / 2

    The least slope between STEP, STEP / 4 and STEP / 16 is returned. Summing over directions keeps one whose
    second and third order terms happen to cancel from deciding. A function with no remainder is linear and is refused.
    """
    start = function(*inputs)
    directions = [tuple(_random_signed(np.shape(value), rng) for value in inputs) for _ in range(n_directions)]
    remainders = []
    for step in (STEP, STEP / 4, STEP / 16):
        slopes = [sum(float(np.sum(g * v)) for g, v in zip(grads, direction, strict=True)) for direction in directions]
        ends = [function(*_moved(inputs, direction, step)) for direction in directions]
        remainders.append(sum(abs(end - start - step * slope) for end, slope in zip(ends, slopes, strict=True)))
    if min(remainders) == 0:
        raise AssertionError("the remainder is 0: a linear function has no Taylor slope")
    return min(float(np.log2(large / small)) / 2 for large, small in itertools.pairwise(remainders))


def _as_tuple(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, tuple) else (value,)


def _moved(inputs: Sequence[Array | float], direction: Sequence[Array], step: float) -> list[Array]:
    return [value + step * v for value, v in zip(inputs, direction, strict=True)]


def _random_signed(shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Entries of random sign, in [1/2, 1] by magnitude: none too small to count."""
    return np.asarray(rng.uniform(0.5, 1.0, shape) * rng.choice([-1.0, 1.0], shape))


def _directions(inputs: Sequence[Array | float], rng: np.random.Generator, n_entries: int) -> list[tuple[str, list[Array]]]:
    full = [_random_signed(np.shape(value), rng) for value in inputs]
    zeros = [np.zeros_like(v) for v in full]
    directions = [("all inputs", full)]
    for place, v in enumerate(full):
        directions.append((f"input {place}", [*zeros[:place], v, *zeros[place + 1 :]]))
        for entry in rng.permutation(v.size)[:n_entries]:
            one = np.where(np.arange(v.size).reshape(v.shape) == entry, v, 0.0)
            directions.append((f"input {place}, entry {entry}", [*zeros[:place], one, *zeros[place + 1 :]]))
    return directions
