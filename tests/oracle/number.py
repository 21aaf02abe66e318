"""Numbers that know how far a computer may be off: value, rounding bound and derivative.

    value   the exact result, in 50 decimal digits
    size    the same formula with every term made positive, subtractions included
    error   in units of eps, the spacing of numbers at 1: any program that evaluates the formula in
            floating point, in any order of its sums, ends within eps * error of the value

A program may rearrange a linear map, so `size` grows through it. Where every program has the result
in hand, an embedding or a score, `settled` starts anew from its magnitude; so do the gradients that
arrive there.

Every operation adds its own rounding to the errors of its operands: eps times `size` for each of
the n terms of a sum and once for each product, and 4 eps for an elementary function, as libraries
promise. Since eps is counted where rounding costs half of it, a program may round once more here
and there. Terms of second order are counted at the coarsest eps that a case is held to, `eps`.

A number made of tracked ones remembers them with the local derivatives, so that `gradients` is
reverse-mode differentiation of the formula itself: no pull-back is written down here.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from decimal import Context, Decimal, localcontext
from typing import Any, TypeAlias

import numpy as np

DIGITS = Context(prec=50, Emin=-999999, Emax=999999)
ELEMENTARY = 4.0
"""Roundings of tanh, exp, log, a root or a quotient."""

eps = 2.0**-23
_count = itertools.count()
Links: TypeAlias = "Sequence[tuple[Number, Number]] | None"


class UndecidedError(ArithmeticError):
    """Rounding decides which way the formula goes, so no answer can be frozen: draw others."""


class Number:
    """See the module."""

    __slots__ = ("error", "is_settled", "links", "order", "size", "value")

    def __init__(self, value: Decimal, size: float, error: float, links: Links = None) -> None:
        self.value, self.size, self.error, self.links = value, size, error, links
        self.is_settled, self.order = False, next(_count)

    @property
    def is_zero(self) -> bool:
        """Whether this is an exact 0 that no gradient flows through."""
        return self.size == 0 and self.error == 0 and self.links is None

    def __add__(self, other: Number) -> Number:
        return total([self, other])

    def __sub__(self, other: Number) -> Number:
        return dot([(self, ONE), (other, MINUS_ONE)])

    def __mul__(self, other: Number) -> Number:
        return dot([(self, other)])

    def __truediv__(self, other: Number) -> Number:
        if self.is_zero:
            return ZERO
        least, value = _certain(other), self.value / other.value
        error = (self.error + abs(float(value)) * other.error) / least
        error += ELEMENTARY * abs(float(value))
        size = self.size / abs(float(other.value))
        a, b = self.untracked(), other.untracked()
        slopes = [(self, lambda: ONE / b), (other, lambda: ZERO - a / (b * b))]
        links = [(x, slope()) for x, slope in slopes if x.links is not None]
        return Number(value, size, error, links or None)

    def untracked(self) -> Number:
        """The same number, of which no derivative is taken."""
        return Number(self.value, self.size, self.error)


def exact(value: Any) -> Number:
    """A given number, without error."""
    size = abs(float(value))
    return Number(Decimal(value if isinstance(value, int) else float(value)), size, 0.0)


def constant(value: float) -> Number:
    """A number of the settings, which a program may hold in single precision."""
    is_single = float(np.float32(value)) == value
    return Number(Decimal(value), abs(value), 0.0 if is_single else abs(value))


def without_error(x: Number) -> Number:
    """The same number where its error does not matter."""
    return Number(x.value, x.size, 0.0, _links([(x, ONE)]))


def settled(x: Number) -> Number:
    """The same number, which every program has in hand before it goes on."""
    number = Number(x.value, abs(float(x.value)), x.error, _links([(x, ONE)]))
    number.is_settled = True
    return number


def dot(pairs: Iterable[tuple[Number, Number]]) -> Number:
    """Sum of products, in any order."""
    pairs = [(a, b) for a, b in pairs if not (a.is_zero or b.is_zero)]
    if not pairs:
        return ZERO
    value, size, error = Decimal(0), 0.0, 0.0
    for a, b in pairs:
        value += a.value * b.value
        size += a.size * b.size
        error += a.size * b.error + b.size * a.error + eps * a.error * b.error
    links = [link for a, b in pairs for link in _links([(a, b), (b, a)]) or ()]
    return Number(value, size, error + (len(pairs) + 1) * size, links or None)


def total(terms: Iterable[Number]) -> Number:
    """Sum, in any order."""
    terms = [term for term in terms if not term.is_zero]
    if len(terms) < 2:
        return terms[0] if terms else ZERO
    size = sum(term.size for term in terms)
    error = sum(term.error for term in terms) + len(terms) * size
    value = sum((term.value for term in terms), Decimal(0))
    return Number(value, size, error, _links([(term, ONE) for term in terms]))


def tanh(x: Number) -> Number:
    """Hyperbolic tangent; its derivative 1 - tanh^2 is taken with both terms, as programs do."""
    if x.is_zero:
        return ZERO
    shrunk = (-2 * abs(x.value)).exp()
    value = ((1 - shrunk) / (1 + shrunk)).copy_sign(x.value)
    slope = 1 - value * value
    size = abs(float(value))
    error = (float(slope) + eps * x.error) * x.error + ELEMENTARY * size
    tangent = Number(value, size, error)
    if x.links is not None:
        tangent.links = [(x, ONE - tangent.untracked() * tangent.untracked())]
    return tangent


def exp(x: Number) -> Number:
    """Exponential."""
    value = x.value.exp()
    error = float(value) * growth(x.error) * x.error + ELEMENTARY * float(value)
    return Number(value, float(value), error)


def growth(error: float) -> float:
    """At least exp(eps * error), the same on every machine: how much steeper an exponential is."""
    x = eps * error
    return 1 / (1 - x) if x < 0.5 else math.ldexp(1.0, min(math.ceil(1.5 * x), 1000))


def root(x: Number) -> Number:
    """Square root of a number that is certainly positive."""
    least, value = _certain(x), x.value.sqrt()
    error = x.error / (math.sqrt(least) + float(value)) + ELEMENTARY * float(value)
    return Number(value, float(value), error)


def softplus(z: Number) -> Number:
    """log(1 + exp(z))."""
    small = (-abs(z.value)).exp()
    # The sum 1 + t would not keep a t beyond the digits there are.
    series = small - small**2 / 2 + small**3 / 3
    value = max(z.value, Decimal(0))
    value += (1 + small).ln() if small > Decimal("1e-15") else series
    steep = min(1.0, float(_sigmoid(z.value)) * growth(z.error))
    error = steep * z.error + ELEMENTARY * float(value)
    return Number(value, float(value), error, [(z, sigmoid(z))] if z.links is not None else None)


def sigmoid(z: Number) -> Number:
    """1 / (1 + exp(-z)), also where it is taken as exp(z - softplus(z))."""
    value = float(_sigmoid(z.value))
    steep = min(0.25, value * growth(z.error))
    error = steep * z.error + (2 * abs(float(z.value)) + 2 * ELEMENTARY) * value
    return Number(_sigmoid(z.value), value, error)


def soft(x: Number, threshold: float) -> Number:
    """sign(x) max(|x| - threshold, 0), by cases."""
    tau = constant(threshold) if math.isfinite(threshold) else None
    if tau is None or _compare(abs(x.value), x.error, tau) <= 0:
        return ZERO
    return dot([(x, ONE), (tau, MINUS_ONE if x.value > 0 else ONE)]) if threshold else x


def clip(x: Number, limit: float) -> Number:
    """x, or the limit that it is beyond."""
    if not math.isfinite(limit) or _compare(abs(x.value), x.error, constant(limit)) <= 0:
        return x
    edge = constant(limit)
    return Number(edge.value.copy_sign(x.value), edge.size, edge.error)


def gradients(
    outputs: Iterable[tuple[Number, Number]], variables: Sequence[Number]
) -> list[Number]:
    """Derivatives of sum weight * output by variables; outputs are pairs (output, weight)."""
    arriving: dict[int, list[tuple[Number, Number]]] = {}
    nodes: dict[int, Number] = {}
    for output, weight in outputs:
        nodes[output.order] = output
        arriving.setdefault(output.order, []).append((weight, ONE))
    # Depth first, because a number is always younger than what it is made of.
    reached, waiting = dict(nodes), list(nodes.values())
    while waiting:
        for parent, _ in waiting.pop().links or ():
            if parent.order not in reached:
                reached[parent.order] = parent
                waiting.append(parent)
    results: dict[int, Number] = {}
    for order in sorted(reached, reverse=True):
        grad = dot(arriving.get(order, []))
        if reached[order].is_settled:
            grad = settled(grad)
        results[order] = grad
        if not grad.is_zero:
            for parent, slope in reached[order].links or ():
                arriving.setdefault(parent.order, []).append((grad, slope.untracked()))
    return [results.get(number.order, ZERO) for number in variables]


@contextmanager
def held_to(spacing: float) -> Iterator[None]:
    """50 digits, and second-order terms counted for programs of this eps."""
    global eps
    before, eps = eps, spacing
    with localcontext(DIGITS):
        yield
    eps = before


def is_positive(x: Number) -> bool:
    """Whether x is above 0, where rounding leaves no doubt."""
    return not x.is_zero and _certain(x) > 0 and x.value > 0


def _links(pairs: Sequence[tuple[Number, Number]]) -> list[tuple[Number, Number]] | None:
    return [(number, slope) for number, slope in pairs if number.links is not None] or None


def _sigmoid(z: Decimal) -> Decimal:
    small = (-abs(z)).exp()
    return (1 if z > 0 else small) / (1 + small)


def _certain(x: Number) -> float:
    """The least that |x| can be in a program; it must be above 0."""
    least = abs(float(x.value)) - eps * x.error
    if least <= 0:
        raise UndecidedError(f"{x.value} may be 0 for all that rounding leaves of it")
    return least


def _compare(value: Decimal, error: float, limit: Number) -> int:
    """Sign of value - limit."""
    if error + limit.error and abs(float(value - limit.value)) <= eps * (error + limit.error):
        raise UndecidedError(f"{value} is within rounding of {limit.value}")
    return int(value.compare(limit.value))


ZERO, ONE, MINUS_ONE = exact(0), exact(1), exact(-1)


# Moore-Penrose inverse, by one-sided Jacobi rotations

CONVERGED = Decimal("1e-45")


def inverse(table: list[list[Number]], rtol: float | None) -> list[list[Number]]:
    """Pseudo-inverse of an (n, D) table; singular values up to rtol times the largest count as 0.

    Its entries share one error. A computed decomposition is that of a table within max(n, D) eps
    s_1 of this one, s_1 the largest singular value: hence the default rtol. With s_r the last that
    is kept and s_(r+1) the first that is not, a change E of the table changes the inverse by up to

        (2 / s_r^2 + 2 / (s_r (s_r - s_(r+1)))) |E|      (Wedin 1973)
    """
    n_rows, n_columns = len(table), len(table[0])
    size = max(n_rows, n_columns)
    tall = n_rows >= n_columns
    columns = [[x.value for x in row] for row in (zip(*table, strict=True) if tall else table)]
    columns, turned = rotated(columns)
    lengths = [_length(column) for column in columns]
    largest = max(lengths)
    if largest == 0:
        return [[ZERO] * n_rows for _ in range(n_columns)]
    noise, kept = size * eps, []
    cut = noise if rtol is None else rtol
    for j, length in enumerate(lengths):
        share = float(length / largest)
        # The default cut lies where rounding may put a singular value that is 0.
        is_near = cut / 3 < share < 4 * cut if rtol is None else abs(share - cut) <= noise
        if is_near:
            raise UndecidedError(f"a singular value of {share} is too near the cut of {cut}")
        if share > cut:
            kept.append(j)
    least = min(lengths[j] for j in kept)
    rest = max((length for j, length in enumerate(lengths) if j not in kept), default=Decimal(0))
    given = math.sqrt(sum(x.error**2 for row in table for x in row))
    change = given + size * float(largest)
    error = change * float(2 / least**2 + 2 / (least * (least - rest)))
    # With U S V^T = table, columns = (U S)_j if it is tall, else (V S)_j; `turned` has the other.
    left, right = (turned, columns) if tall else (columns, turned)

    def entry(d: int, n: int) -> Number:
        value = sum((left[j][d] * right[j][n] / lengths[j] ** 2 for j in kept), Decimal(0))
        return Number(value, abs(float(value)), error)

    return [[entry(d, n) for n in range(n_rows)] for d in range(n_columns)]


def rotated(columns: list[list[Decimal]]) -> tuple[list[list[Decimal]], list[list[Decimal]]]:
    """Columns made orthogonal by rotations, and the columns of all rotations together."""
    columns = [list(column) for column in columns]
    turned = [[Decimal(int(i == j)) for i in range(len(columns))] for j in range(len(columns))]
    is_moving = True
    while is_moving:
        is_moving = False
        # A column that is nothing but the rounding of 50 digits is 0.
        largest = max(_length(column) for column in columns)
        is_zero = [_length(column) <= CONVERGED * largest for column in columns]
        pairs = zip(columns, is_zero, strict=True)
        columns = [[Decimal(0)] * len(column) if zero else column for column, zero in pairs]
        for p, q in itertools.combinations(range(len(columns)), 2):
            a, b = columns[p], columns[q]
            across, own_a, own_b = _product(a, b), _product(a, a), _product(b, b)
            if across * across <= CONVERGED**2 * own_a * own_b or across == 0:
                continue
            is_moving = True
            zeta = (own_b - own_a) / (2 * across)
            tangent = Decimal(1).copy_sign(zeta) / (abs(zeta) + (1 + zeta * zeta).sqrt())
            cosine = 1 / (1 + tangent * tangent).sqrt()
            for one, other in ((a, b), (turned[p], turned[q])):
                for i, (x, y) in enumerate(zip(one, other, strict=True)):
                    one[i], other[i] = cosine * (x - tangent * y), cosine * (tangent * x + y)
    return columns, turned


def _product(a: list[Decimal], b: list[Decimal]) -> Decimal:
    return sum((x * y for x, y in zip(a, b, strict=True)), Decimal(0))


def _length(column: list[Decimal]) -> Decimal:
    return _product(column, column).sqrt()
