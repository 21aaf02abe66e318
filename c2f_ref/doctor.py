"""What a report of a defect needs to say about a machine."""

from __future__ import annotations

import os
import platform
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from . import __version__, spec

LIBRARIES = ("numpy", "scipy", "scikit-learn", "numba", "matplotlib", "threadpoolctl")
PROC = Path("/proc")
"""Where Linux tells of itself."""
VARIABLES = ("NUMBA_", "OMP_", "OPENBLAS_", "MKL_", "BLIS_", "VECLIB_", "KMP_")
"""How names of environment variables begin that set threads or the compiler."""


def examine() -> dict[str, Any]:
    """Versions, platform, processors, memory, BLAS, numba, and whether compiled code gives the bits that it must, by section.

    Edge: works without scikit-learn, numba and matplotlib, and says what is missing. The first call compiles a kernel.
    """
    variables = {name: value for name, value in sorted(os.environ.items()) if name.startswith(VARIABLES)}  # some libraries set more
    affinity = getattr(os, "sched_getaffinity", None)  # on which processors this process may run, where the system tells
    allowed = len(affinity(0)) if affinity else "unknown"
    processor = _linux_says("cpuinfo", "model name") or platform.processor() or "unknown"
    return {
        "versions": {"c2f_ref": __version__, "python": platform.python_version()} | _versions(),
        "platform": {"system": platform.platform(), "machine": platform.machine(), "implementation": sys.implementation.name},
        "processors": {"name": processor, "count": os.cpu_count(), "allowed": allowed},
        "memory": {"total": _total_memory(), "available": _linux_says("meminfo", "MemAvailable") or "unknown"},
        "thread pools": _thread_pools(),
        "numba": _numba(),
        "environment": variables,
    }


def is_sound(found: dict[str, Any]) -> bool:
    """Whether all that is installed works; what is not installed is no fault."""
    told = [*found["versions"].values(), found["numba"].get("kernel", "")]
    return not any(str(value).startswith("fails") for value in told)


def _versions() -> dict[str, str]:
    """Versions as the libraries tell them when imported: being installed is not yet working."""
    versions = {}
    for name in LIBRARIES:
        module = "sklearn" if name == "scikit-learn" else name
        try:
            versions[name] = str(import_module(module).__version__)
        except ModuleNotFoundError as error:
            versions[name] = "not installed" if error.name == module else f"fails: {error}"
        except Exception as error:  # a library that does not fit another one can raise anything
            versions[name] = f"fails: {error!r}"
    return versions


def _linux_says(file: str, name: str) -> str | None:
    """The first value of this name in a file of `PROC`; None where the system has no such file, or the file no such name."""
    try:
        lines = (PROC / file).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), None)


def _total_memory() -> str:
    try:
        return f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') // 1024} kB"  # as Linux says what is available
    except (AttributeError, ValueError, OSError):
        return "unknown"


def _thread_pools() -> dict[str, Any]:
    """The BLAS that NumPy was built with, and BLAS and OpenMP libraries that are loaded now, with their threads."""
    built: Any = np.show_config(mode="dicts")
    blas = built["Build Dependencies"]["blas"]
    pools = {"numpy was built with": f"{blas['name']} {blas['version']}"}
    try:
        from threadpoolctl import threadpool_info
    except ModuleNotFoundError:
        return pools | {"loaded now": "unknown: threadpoolctl, which comes with scikit-learn, is not installed"}
    for number, pool in enumerate(threadpool_info(), start=1):
        parts = (pool["internal_api"], pool.get("version"), pool.get("architecture"), pool.get("threading_layer"))
        pools[f"{pool['user_api']} {number}"] = ", ".join(map(str, filter(None, parts))) + f", {pool['num_threads']} threads"
    return pools


def _numba() -> dict[str, Any]:
    """The compiler's state, after a parallel kernel has run and was held against the specification."""
    assignment, table = sparse.csr_array(np.array([[0.5, 0.0, 0.25], [0.0, 2.0, 1.0]])), np.arange(12.0).reshape(3, 4)
    try:
        from . import fast

        numba, began = import_module("numba"), time.perf_counter()
        agrees = np.array_equal(fast.compose(assignment, table), spec.compose(assignment, table))
        told = {
            "kernel": "gives the bits of the specification" if agrees else "fails: its result is not that of the specification",
            "seconds of the first call": round(time.perf_counter() - began, 2),
            "threads": numba.get_num_threads(),
        }
        if not fast.compile.is_compiled:
            return told | {"compiler": "off, by NUMBA_DISABLE_JIT"}
        kernel: Any = fast.kernels.add_row
        told |= {"compiler": "on", "compiles for": import_module("llvmlite.binding").get_host_cpu_name()}
        return told | {"threading layer": numba.threading_layer(), "cache": str(kernel.stats.cache_path)}
    except ModuleNotFoundError as error:
        return {"kernel": f"left out: {error.name} is not installed"}
    except Exception as error:  # as above
        return {"kernel": f"fails: {error!r}"}
