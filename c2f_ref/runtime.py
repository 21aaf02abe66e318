"""Which implementation computes, and on how many threads."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from importlib import import_module
from importlib.machinery import SourceFileLoader
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from .method.notation import SettingsError


def load_module(name: str) -> ModuleType:
    """Import a module by its dotted name, or from the path of a .py file.

    Errors: SettingsError that names the module, whatever the import raises.
    """
    try:
        if not name.endswith(".py"):
            return import_module(name)
        path = Path(name).absolute()
        loader = SourceFileLoader(f"c2f_ref_loaded_{path.stem}", str(path))
        module = sys.modules[loader.name] = ModuleType(loader.name)  # dataclasses look there
        module.__file__ = loader.path
        loader.exec_module(module)
        module.__name__ = path.stem
        return module
    except (Exception, SystemExit) as error:
        message = f"{name}: cannot be imported: {type(error).__name__}: {error}"
        raise SettingsError(message) from error


def load_implementation(name: str | None = None) -> ModuleType:
    """The implementation of this name: "fast", "method", a dotted name, or the path of a .py file.

    Edge: None is `c2f_ref.fast`, or `c2f_ref.method` where numba is not installed.
    Errors: SettingsError for a module that cannot be imported or lacks names of the contract.
    """
    from .method.contract import CONTRACT  # imports SciPy

    if name is None:
        name = "fast" if find_spec("numba") else "method"
    module = load_module(f"c2f_ref.{name}" if name in ("fast", "method") else name)
    missing = ", ".join(wanted for wanted in CONTRACT if not hasattr(module, wanted))
    if missing:
        raise SettingsError(f"{name}: must have all names of the contract, lacks {missing}")
    return module


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Run matrix products and decompositions on one thread: dividing a sum changes its rounding.

    Edge: restores what was set before; may be nested.
    """
    with _blas().limit(limits=1, user_api="blas"):
        yield


@contextmanager
def at_most(n_threads: int | None) -> Iterator[None]:
    """Let compiled loops use at most this number of threads, on which no result depends.

    Edge: None changes nothing, nor is there anything to change without numba; there are never more
    threads than numba was started with.
    Errors: ValueError for a number below 1.
    """
    with ExitStack() as on_leaving:
        if n_threads is not None and find_spec("numba"):
            import numba

            most: int = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]
            on_leaving.callback(numba.set_num_threads, numba.get_num_threads())
            numba.set_num_threads(min(n_threads, most))
        yield


def thread_count() -> int:
    """Threads that work may be divided among: those of numba where it is loaded, else one."""
    numba = sys.modules.get("numba")
    return int(numba.get_num_threads()) if numba else 1


@cache
def _blas() -> Any:
    import scipy.linalg  # noqa: F401  its BLAS, and NumPy's, must be loaded to be found
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
