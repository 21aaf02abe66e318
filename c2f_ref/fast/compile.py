"""How every kernel is compiled: one policy, in one place."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from functools import cache, wraps
from threading import Lock
from types import FunctionType
from typing import Any

import numba
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from ..runtime import say, thread_count

is_compiled = not getattr(numba.config, "DISABLE_JIT", False)

span = numba.prange
"""A `range` that threads share. Each turn writes only to its own rows, so results have the same
bits for any number of threads."""


_one_at_a_time = Lock()
_home = os.getpid()


def kernel(**policy: Any) -> Callable[[Any], Any]:
    """Compile a function of plain arrays and cache it: plain IEEE arithmetic, no bounds checks.

    `policy` says whether a kernel is `parallel` or `nogil`. With inline="always" it is written into
    the kernels that call it: only there can the compiler see that arrays do not overlap, which
    takes a fifth off a product.

    A parallel kernel is called from Python alone, by one thread at a time: numba's workqueue ends
    the process otherwise. For a single thread, and in a forked child, where OpenMP would wait for
    ever, the same loops are compiled without threads; their results have the same bits.

    Edge: NUMBA_DISABLE_JIT=1 leaves plain Python; NUMBA_BOUNDSCHECK=1 adds the checks. Without a
    cache folder that can be read and written, every process compiles again.
    """

    def compiled(function: Any) -> Any:
        shared = _compiled(function, policy)
        if not policy.get("parallel"):
            return shared
        copy = FunctionType(function.__code__, function.__globals__)
        copy.__qualname__ = f"{function.__name__}_alone"  # the cache goes by this name
        alone = _compiled(copy, {"parallel": False})

        @wraps(function)
        def run(*arguments: Any) -> Any:
            if thread_count() == 1 or os.getpid() != _home:
                return alone(*arguments)
            with _one_at_a_time:
                return shared(*arguments)

        return run

    return compiled


def _compiled(function: Any, policy: dict[str, Any]) -> Any:
    policy = policy | {"error_model": "numpy"}
    with suppress(RuntimeError):  # numba found no folder for the cache
        made = numba.njit(cache=True, **policy)(function)
        for name in ("load_overload", "save_overload") if is_compiled else ():
            setattr(made._cache, name, _or_nothing(getattr(made._cache, name)))
        return made
    return numba.njit(**policy)(function)


def _or_nothing(use_cache: Callable[..., Any]) -> Callable[..., Any]:
    def attempt(*given: Any) -> Any:
        try:
            return use_cache(*given)
        except Exception:  # whatever a damaged pickle or a full disk raises
            _report()

    return attempt


@cache
def _report() -> None:
    say("numba's cache is damaged or full: kernels are compiled without it")


@intrinsic
def _prefetch(_typing: Any, address: Any) -> Any:
    """Prefetch the cache line of this address."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        function = builder.module.declare_intrinsic("llvm.prefetch", (byte,), kind)
        pointer, hint = builder.inttoptr(arguments[0], byte), (0, 3, 1)  # to read and keep, data
        builder.call(function, [pointer, *map(number, hint)])
        return context.get_dummy_value()

    return types.void(types.uintp), build


prefetch: Any = _prefetch


@kernel(inline="always")
def prefetch_row(table: Any, row: int) -> None:
    """Prefetch a row that will be read soon. Changes no result."""
    if is_compiled:
        first = table.ctypes.data + row * table.strides[0]
        for offset in range(0, table.shape[1] * table.itemsize, 64):  # bytes of a cache line
            prefetch(first + offset)
