"""`conformance`, `vectors` and `doctor`: the oracle and this machine."""

from __future__ import annotations

import argparse
import faulthandler
import os
import platform
import sys
from importlib.metadata import version
from typing import Any

from . import show

LIBRARIES = ("c2f-ref", "numpy", "scipy", "scikit-learn", "numba", "matplotlib", "threadpoolctl")
VARIABLES = ("NUMBA_", "OMP_", "OPENBLAS_", "MKL_", "VECLIB_")
"""How the names of environment variables begin that set threads or the compiler."""


def conformance(options: argparse.Namespace) -> bool:
    """Hold an implementation against the method.

    example: c2f-ref conformance mine.py --only propagate_coarse
    """
    from ..conformance.run import check, check_command
    from ..runtime import load_module

    chosen = {"only": options.only, "skip": options.skip, "dtype": options.dtype}
    if options.module is None:
        report = check_command(options.command, **chosen, time_limit=options.time_limit)
    else:
        faulthandler.enable(sys.__stderr__ or 2)  # a crash of compiled code names its caller
        report = check(load_module(options.module), **chosen)
    show(options, report.as_dict(), report.lines())
    return not report.passed


def vectors(options: argparse.Namespace) -> None:
    """Write the cases of `conformance` as files: a manifest and .npy arrays.

    example: c2f-ref vectors answers
    """
    from ..conformance.run import write_vectors

    print(f"{options.folder}: {write_vectors(options.folder)} cases")


def doctor(options: argparse.Namespace) -> bool:
    """Versions, threads and compiled code of this machine: what a bug report needs.

    Exit code 1: something that is installed does not work.

    example: c2f-ref doctor > machine.txt
    """
    found = {"python": platform.python_version(), "platform": platform.platform()}
    found |= {name: _tried(version, name) for name in LIBRARIES}
    found |= {"processors": str(os.cpu_count()), "kernel": _tried(_kernel)}
    found |= {name: value for name, value in os.environ.items() if name.startswith(VARIABLES)}
    show(options, found, (f"{name}: {value}" for name, value in found.items()))
    return "fails" in found["kernel"]


def _tried(call: Any, *arguments: str) -> str:
    """What a call returns, or why it cannot."""
    try:
        return str(call(*arguments))
    except ModuleNotFoundError as error:
        return f"{error.name} is not installed"
    except Exception as error:  # a library that does not fit another one can raise anything
        return f"fails: {error!r}"


def _kernel() -> str:
    """Whether a compiled kernel gives the bits of the method; the first call compiles it."""
    import numpy as np
    from scipy import sparse

    from .. import fast, method
    from ..runtime import thread_count

    assignment = sparse.csr_array(np.array([[0.5, 0.0, 0.25], [0.0, 2.0, 1.0]]))
    given: Any = assignment, np.arange(12.0).reshape(3, 4)
    compiled = fast.plan.Matrix(given[0], np.float64) @ given[1]
    if not np.array_equal(compiled, method.compose(*given)):
        return "fails: its bits are not those of the method"
    return f"gives the bits of the method, on at most {thread_count()} threads"
