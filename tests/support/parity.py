"""What holds one implementation against another: inputs on which nothing rounds, and a bound on
what rounding can do.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from c2f_ref.runtime import at_most

FLOATS = (np.float32, np.float64)


def gamma(n_roundings: Any, dtype: Any) -> Any:
    """Higham's bound on the relative error of a sum of products after `n_roundings` roundings."""
    unit = np.finfo(dtype).eps / 2
    return n_roundings * unit / (1 - n_roundings * unit)


def eighths(rng: np.random.Generator, *shape: int) -> Any:
    """Multiples of 1/8 in [-2, 2]."""
    return rng.integers(-16, 17, size=shape) / 8


def small_eighths(rng: np.random.Generator, *shape: int) -> Any:
    """Multiples of 1/8 in [-1/4, 1/4], for what multiplies many of them."""
    return rng.integers(-2, 3, size=shape) / 8


def singles(rng: np.random.Generator, *shape: int) -> Any:
    """Normal numbers that float32 holds: the same numbers for an implementation in either type."""
    return rng.standard_normal(shape).astype(np.float32).astype(np.float64)


def drawn_matrix(rng: np.random.Generator, n_rows: int, n_columns: int, values: Any) -> Any:
    """Rows of every length from none to all, so that each remainder of four entries occurs."""
    pattern = rng.random((n_rows, n_columns)) < rng.random((n_rows, 1))
    return sparse.csr_array(np.where(pattern, values(rng, n_rows, n_columns), 0.0))


@contextmanager
def threads(n_threads: int) -> Iterator[None]:
    """Compiled loops on `n_threads` threads; a machine that has fewer skips the test."""
    import numba  # the rest of this page is for tests without it too

    if n_threads > numba.config.NUMBA_NUM_THREADS:
        pytest.skip(f"needs {n_threads} threads of {numba.config.NUMBA_NUM_THREADS} here")
    with at_most(n_threads):
        yield
