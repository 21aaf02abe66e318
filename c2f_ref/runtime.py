"""What surrounds a computation: the implementation, its threads, and how far it is, on stderr."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import timedelta
from functools import cache
from importlib import import_module
from importlib.machinery import SourceFileLoader
from importlib.util import find_spec
from pathlib import Path
from threading import Lock, Timer
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .training import Progress

SECONDS_BETWEEN = 0.2
SLOW_SECONDS = 1.0
START_OF_LINE = "\r\x1b[K"


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
        from .method import SettingsError  # the first import of NumPy, so not at the top

        message = f"{name}: cannot be imported: {type(error).__name__}: {error}"
        raise SettingsError(message) from error


def load_implementation(name: str | None = None) -> ModuleType:
    """The implementation of this name: "fast", "method", a dotted name, or the path of a .py file.

    Edge: None is `c2f_ref.fast`, or `c2f_ref.method` where numba is not installed.
    Errors: SettingsError for a module that cannot be imported or lacks names of the contract.
    """
    from .method import CONTRACT, SettingsError

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

    Edge: may be nested, and entered by several threads at once; the last one to leave restores what
    was set before.
    """
    with _blas.lock:
        if _blas.n_inside == 0:
            _blas.limit = _controller().limit(limits=1, user_api="blas")
        _blas.n_inside += 1
    try:
        yield
    finally:
        with _blas.lock:
            _blas.n_inside -= 1
            if _blas.n_inside == 0:
                _blas.limit.restore_original_limits()


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


_blas: Any = SimpleNamespace(lock=Lock(), n_inside=0, limit=None)


@cache
def _controller() -> Any:
    import scipy.linalg  # noqa: F401  its BLAS, and NumPy's, must be loaded to be found
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


class ProgressLine:
    """The `watch` of a training: each evaluation is a line, and at a terminal a line shows the
    step.

    Time left is that of all steps that the schedule allows; patience may end a stage earlier.
    """

    def __init__(self) -> None:
        is_live = sys.stderr is not None and sys.stderr.isatty()
        self.start = START_OF_LINE if is_live else ""
        self.stage, self.first_step, self.began, self.shown = "", 0, 0.0, 0.0

    @staticmethod
    def wanted() -> bool:
        """Whether progress is shown by default: at a terminal and in a notebook."""
        return sys.stderr is not None and (sys.stderr.isatty() or "ipykernel" in sys.modules)

    def __call__(self, progress: Progress) -> None:
        (stage, state, max_steps, k), now = progress, time.perf_counter()
        if stage != self.stage:
            self.stage, self.first_step, self.began = stage, state.n_steps, now
        last = state.evaluations[-1]  # there is one before the first step
        is_evaluation = last.n_steps == state.n_steps
        if not is_evaluation and not (self.start and now - self.shown >= SECONDS_BETWEEN):
            return
        self.shown = now
        phase, loss = (last.phase, last.loss) if is_evaluation else (state.phase, state.losses[-1])
        text = f"{stage} phase {phase}, epoch {state.epoch}, step {state.n_steps:,}"
        if is_evaluation:
            text += f": NDCG@{k} {last.ndcg:.4f}{' (best of its phase)' if last.is_best else ''}"
        text += "" if loss is None else f", loss {loss:.4f}"
        n_done, seconds = state.n_steps - self.first_step, now - self.began
        if n_done:
            left = timedelta(seconds=round(seconds / n_done * (max_steps - state.n_steps)))
            text += f", {n_done / seconds:.1f} steps/s, at most {left} left"
        width = None if is_evaluation else shutil.get_terminal_size().columns - 1
        say(self.start + text[:width], ends_line=is_evaluation)

    def close(self) -> None:
        """Leave the terminal on an empty line."""
        say(self.start, ends_line=False)


@contextmanager
def when_slow(text: str) -> Iterator[None]:
    """Say what is being done, on stderr, if it takes longer than SLOW_SECONDS."""
    timer = Timer(SLOW_SECONDS, say, [f"{text} ..."])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def say(text: str, ends_line: bool = True) -> None:
    """Print on stderr, if it takes anything: nothing fails because a message cannot be shown."""
    if sys.stderr is not None:
        with suppress(OSError):
            print(text, end="\n" if ends_line else "", file=sys.stderr, flush=True)
