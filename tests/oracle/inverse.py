"""Moore-Penrose inverse by one-sided Jacobi rotations in 50 digits, and how far a program's may be from it."""

from __future__ import annotations

import math
from decimal import Decimal

from . import number as precision
from .number import Number, UndecidedError

Column = list[Decimal]
CONVERGED = Decimal("1e-45")


def inverse(table: list[list[Number]], rtol: float | None) -> list[list[Number]]:
    """Pseudo-inverse of an (n, D) table; singular values at or below rtol times the largest count as 0.

    Its entries share one error. A computed singular value decomposition is that of a table within max(n, D) eps s_1 of the given
    one, s_1 its largest singular value: the reason for the default rtol. With s_r the last that is kept and s_(r+1) the first that
    is not, a change E of the table changes the inverse by at most (Wedin 1973)

        (2 / s_r^2 + 2 / (s_r (s_r - s_(r+1)))) |E|
    """
    n_rows, n_columns = len(table), len(table[0])
    size = max(n_rows, n_columns)
    tall = n_rows >= n_columns
    columns = [[x.value for x in row] for row in (zip(*table, strict=True) if tall else table)]
    columns, turned = rotated(columns)
    lengths = [_length(column) for column in columns]
    largest = max(lengths)
    noise = size * precision.eps
    if largest == 0:
        return [[precision.ZERO] * n_rows for _ in range(n_columns)]
    cut = noise if rtol is None else rtol
    kept = []
    for j, length in enumerate(lengths):
        share = float(length / largest)
        # The default cut lies where rounding may put a singular value that is 0.
        is_near = cut / 3 < share < 4 * cut if rtol is None else abs(share - cut) <= noise
        if is_near:
            raise UndecidedError(f"a singular value of {share} of the largest is too near the cut of {cut}")
        if share > cut:
            kept.append(j)
    least = min(lengths[j] for j in kept)
    rest = max((length for j, length in enumerate(lengths) if j not in kept), default=Decimal(0))
    given = math.sqrt(sum(x.error**2 for row in table for x in row))
    change = given + size * float(largest)
    error = change * float(2 / least**2 + 2 / (least * (least - rest)))
    # With U S V^T = table, columns = (U S)_j where it is tall, (V S)_j where it is wide; `turned` has the other.
    dims, rows = range(n_columns), range(n_rows)
    result = []
    for d in dims:
        result.append([])
        for n in rows:
            first, second = (d, n) if tall else (n, d)
            value = sum((turned[j][first] * columns[j][second] / lengths[j] ** 2 for j in kept), Decimal(0))
            result[-1].append(Number(value, abs(float(value)), error))
    return result


def rotated(columns: list[Column]) -> tuple[list[Column], list[Column]]:
    """Columns made orthogonal to each other by rotations, and the columns of all rotations together."""
    columns = [list(column) for column in columns]
    turned = [[Decimal(int(i == j)) for i in range(len(columns))] for j in range(len(columns))]
    is_moving = True
    while is_moving:
        is_moving = False
        # A column that is nothing but the rounding of 50 digits is 0.
        largest = max(_length(column) for column in columns)
        columns = [column if _length(column) > CONVERGED * largest else [Decimal(0)] * len(column) for column in columns]
        for p in range(len(columns)):
            for q in range(p + 1, len(columns)):
                a, b = columns[p], columns[q]
                across, own_a, own_b = _product(a, b), _product(a, a), _product(b, b)
                if across * across <= CONVERGED**2 * own_a * own_b or across == 0:
                    continue
                is_moving = True
                zeta = (own_b - own_a) / (2 * across)
                tangent = Decimal(1).copy_sign(zeta) / (abs(zeta) + (1 + zeta * zeta).sqrt())
                cosine = 1 / (1 + tangent * tangent).sqrt()
                for pair in ((columns[p], columns[q]), (turned[p], turned[q])):
                    one, other = pair
                    for i in range(len(one)):
                        one[i], other[i] = cosine * (one[i] - tangent * other[i]), cosine * (tangent * one[i] + other[i])
    return columns, turned


def _product(a: Column, b: Column) -> Decimal:
    return sum((x * y for x, y in zip(a, b, strict=True)), Decimal(0))


def _length(column: Column) -> Decimal:
    return _product(column, column).sqrt()
