"""What a process does while it reads files, by Python's audit hook, and the memory it takes."""

from __future__ import annotations

import gc
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

HARMLESS = {"open", "sys.addaudithook", "object.__getattr__", "object.__setattr__"}
"""Files that are opened, the hook itself, and attributes of functions and frames."""
READ = """
import sys
from importlib import import_module
from c2f_ref.store import StoreError
module, name, *rest, good, bad = sys.argv[1:]
read, seen = getattr(import_module(module), name), set()
read(good, *rest)  # what is imported or set up once is so before
sys.addaudithook(lambda event, _: seen.add(event))
read(good, *rest)
for path in filter(None, bad.split("\\n")):
    try:
        read(path, *rest)
    except StoreError:
        continue
    sys.exit(f"{path} was read")
print(*sorted(seen))
"""


def events_of_reading(module: str, name: str, *rest: str, good: Path, bad: list[Path]) -> set[str]:
    """Events in a new process in which a function of ours reads one file and refuses others."""
    command = [sys.executable, "-c", READ, module, name, *rest, str(good), "\n".join(map(str, bad))]
    project = Path(__file__).resolve().parents[2]
    done = subprocess.run(command, capture_output=True, text=True, cwd=project, check=False)
    assert done.stderr == ""
    return set(done.stdout.split())


def peak_of(call: Callable[[], Any]) -> int:
    """Bytes that are allocated during a call, at the highest."""
    gc.collect()
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
