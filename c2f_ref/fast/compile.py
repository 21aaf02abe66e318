"""How every kernel is compiled: one policy, in one place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

Function = TypeVar("Function", bound=Callable[..., Any])

is_compiled = not getattr(numba.config, "DISABLE_JIT", False)

CACHE_LINE = 64
"""Bytes that memory moves at a time."""

span = numba.prange
"""A `range` that threads share. Each turn writes only to its own rows, so results have the same
bits for any number of threads."""


def kernel(**policy: Any) -> Callable[[Function], Function]:
    """Compile a function of plain arrays and cache it: plain IEEE arithmetic, no bounds checks.

    `policy` says whether a kernel is `parallel` or `nogil`. With inline="always" it is written into
    the kernels that call it: only there can the compiler see that arrays do not overlap, which
    takes a fifth off a product.

    Edge: NUMBA_DISABLE_JIT=1 leaves plain Python; NUMBA_BOUNDSCHECK=1 adds the checks. Without a
    writable cache folder, every process compiles again.
    """
    policy |= {"error_model": "numpy"}

    def compiled(function: Function) -> Function:
        try:
            return cast(Function, numba.njit(cache=True, **policy)(function))
        except RuntimeError:  # numba found no folder for the cache
            return cast(Function, numba.njit(**policy)(function))

    return compiled


@intrinsic
def _prefetch(_typing: Any, address: Any) -> Any:
    """Prefetch the cache line of this address."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        function = builder.module.declare_intrinsic("llvm.prefetch", (byte,), kind)
        to_read, to_keep, of_data = number(0), number(3), number(1)
        pointer = builder.inttoptr(arguments[0], byte)
        builder.call(function, [pointer, to_read, to_keep, of_data])
        return context.get_dummy_value()

    return types.void(types.uintp), build


prefetch: Any = _prefetch


@kernel(inline="always")
def prefetch_row(table: Any, row: int) -> None:
    """Prefetch a row that will be read soon. Changes no result."""
    if is_compiled:
        first = table.ctypes.data + row * table.strides[0]
        for offset in range(0, table.shape[1] * table.itemsize, CACHE_LINE):
            prefetch(first + offset)
