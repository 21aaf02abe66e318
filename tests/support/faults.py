"""A disk that fails at a chosen call while a file is saved."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


class FaultyFile:
    """An open file that reports every read and write first; a failing write writes half."""

    def __init__(self, file: Any, call: Callable[[str], None]) -> None:
        self._file, self._call = file, call

    def write(self, content: Any) -> int:
        """All of it, or half and an error."""
        try:
            self._call("write")
        except BaseException:
            self._file.write(bytes(content)[: len(content) // 2])
            raise
        return int(self._file.write(content))

    def read(self, size: int = -1) -> Any:
        """What was written."""
        self._call("read")
        return self._file.read(size)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> FaultyFile:
        return self

    def __exit__(self, *_: Any) -> None:
        self._file.close()
        self._call("close")


def failing_at(patched: pytest.MonkeyPatch, place: int, error: BaseException) -> list[str]:
    """Let call number `place`, from 0, to the file system fail; all calls are put into the list."""
    calls: list[str] = []
    opened, functions = (
        Path.open,
        {name: getattr(os, name) for name in ("open", "fsync", "replace")},
    )

    def call(name: str) -> None:
        calls.append(name)
        if len(calls) == place + 1:
            raise error

    def reporting(name: str) -> Callable[..., Any]:
        def calling(*given: Any, **options: Any) -> Any:
            call(name)
            return functions[name](*given, **options)

        return calling

    def open_file(path: Path, mode: str = "r", *rest: Any) -> Any:
        if "x" not in mode:
            return opened(path, mode, *rest)
        call("open")
        return FaultyFile(opened(path, mode, *rest), call)

    patched.setattr(Path, "open", open_file)
    for name in functions:
        patched.setattr(os, name, reporting(name))
    return calls
