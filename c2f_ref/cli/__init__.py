"""The command line: `c2f-ref` and `python -m c2f_ref`; `commands` says what it does."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence

INTERRUPTED = 130
"""Exit code after Ctrl-C or SIGTERM, as shells have it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; `arguments` default to those of the process."""
    terminated = signal.signal(signal.SIGTERM, _on_terminate)
    try:
        from .commands import run  # takes a third of a second, in which Ctrl-C is to be as quiet as later

        return run(arguments)
    except KeyboardInterrupt as stop:
        told = "; ".join(["interrupted", *getattr(stop, "__notes__", [])])
        print(f"\nc2f-ref: {told}", file=sys.stderr)
        return INTERRUPTED
    finally:
        signal.signal(signal.SIGTERM, terminated)


def _on_terminate(signal_number: int, frame: object) -> None:
    """End as after Ctrl-C, so that everything that is being written is finished or undone."""
    raise KeyboardInterrupt
