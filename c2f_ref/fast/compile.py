"""How every kernel is compiled: one policy, in one place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

Function = TypeVar("Function", bound=Callable[..., Any])

span = numba.prange
"""`range` whose turns threads may share; a turn writes only to rows of its own, so any number of threads gives the same bits."""

CACHE_LINE = 64
"""Bytes that memory moves at a time."""


def kernel(*, parallel: bool = False, nogil: bool = False, part: bool = False) -> Callable[[Function], Function]:
    """Compile a function of plain arrays, in IEEE arithmetic as written, without bounds checks, kept in the cache.

    A `part` of a kernel is written into those that call it: only there does the compiler know which arrays are apart, which
    takes a fifth off a product.

    Edge: NUMBA_DISABLE_JIT=1 leaves it as it is, plain Python; NUMBA_BOUNDSCHECK=1 adds the checks. Where no folder can keep the
    cache, every process compiles anew.
    """
    policy: dict[str, Any] = {"parallel": parallel, "nogil": nogil, "inline": "always" if part else "never", "error_model": "numpy"}

    def compiled(function: Function) -> Function:
        try:
            return cast(Function, numba.njit(cache=True, **policy)(function))
        except RuntimeError:  # numba found no folder
            return cast(Function, numba.njit(**policy)(function))

    return compiled


@intrinsic
def _ask_for(_typing: Any, address: Any) -> Any:
    """Tell the processor that this address will be read soon."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        prefetch = builder.module.declare_intrinsic("llvm.prefetch", (byte,), kind)
        read, keep, data = 0, 3, 1
        builder.call(prefetch, [builder.inttoptr(arguments[0], byte), *(number(value) for value in (read, keep, data))])
        return context.get_dummy_value()

    return types.void(types.uintp), build


is_compiled = not getattr(numba.config, "DISABLE_JIT", False)
ask_for: Any = _ask_for


@kernel(part=True)
def ask_for_row(table: Any, row: int) -> None:
    """Tell the processor that this row will be read soon: it is on its way while others are worked on. Changes no result."""
    if is_compiled:
        first = table.ctypes.data + row * table.strides[0]
        for offset in range(0, table.shape[1] * table.itemsize, CACHE_LINE):
            ask_for(first + offset)
