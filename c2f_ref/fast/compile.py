"""How every kernel is compiled: one policy, in one place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., Any])

span = numba.prange
"""`range` whose turns threads may share; a turn writes only to rows of its own, so any number of threads gives the same bits."""


def kernel(*, parallel: bool = False) -> Callable[[Function], Function]:
    """Compile a function of plain arrays, in IEEE arithmetic as written, without bounds checks, kept in the cache.

    Edge: NUMBA_DISABLE_JIT=1 leaves it as it is, plain Python; NUMBA_BOUNDSCHECK=1 adds the checks.
    """

    def compiled(function: Function) -> Function:
        return cast(Function, numba.njit(parallel=parallel, cache=True, error_model="numpy")(function))

    return compiled
