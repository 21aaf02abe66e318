"""How many threads, and none where their number could change a result."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from typing import Any


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Let matrix products and decompositions run on one thread each: how a sum is divided among threads changes its rounding.

    Edge: restores what was set before; may be nested.
    """
    with _controller().limit(limits=1, user_api="blas"):
        yield


@contextmanager
def at_most(n_threads: int | None) -> Iterator[None]:
    """Let compiled loops use at most so many threads; None leaves the number as it is. No result depends on it.

    Edge: without numba there are no compiled loops, and nothing to do; there are never more threads than numba was started with.
    Errors: ValueError for a number below 1.
    """
    if n_threads is None or not find_spec("numba"):
        yield
        return
    import numba

    before = numba.get_num_threads()
    started_with: int = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]
    numba.set_num_threads(min(n_threads, started_with))
    try:
        yield
    finally:
        numba.set_num_threads(before)


def count() -> int:
    """Threads that work may be divided among: those of numba where it is loaded, else one."""
    numba = sys.modules.get("numba")
    return int(numba.get_num_threads()) if numba else 1


@cache
def _controller() -> Any:
    import numpy  # noqa: F401  its BLAS must be loaded to be found
    import scipy.linalg  # noqa: F401
    from threadpoolctl import ThreadpoolController  # what scikit-learn limits its threads with, and installs

    return ThreadpoolController()
