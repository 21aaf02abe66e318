"""Files that are never half-written."""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from os import PathLike
from pathlib import Path
from typing import BinaryIO

STALE_SECONDS = 3600
"""A temporary file that nobody has written to for so long was left by a process that was killed."""


def require_place(path: str | PathLike[str]) -> None:
    """Raise OSError unless a file of this name can be put there: for what takes long before it writes."""
    path = Path(path)
    _require_plain(path)
    try:
        with tempfile.TemporaryFile(dir=path.parent):  # asks the file system itself
            pass
    except OSError as error:
        raise OSError(error.errno, f"cannot be written there: {error.strerror}", os.fspath(path)) from error


@contextmanager
def replacing(path: str | PathLike[str]) -> Iterator[BinaryIO]:
    """A file to write and to read back, which takes the place of `path` when the block ends well; otherwise `path` stays as it was.

    Written beside `path`, flushed to the disk, renamed, and the folder flushed too; nothing else is left behind. Only a process
    that is killed leaves its temporary file, which the first save of the same path an hour later removes.
    Edge: Windows cannot flush a folder; the rename may then be lost with the power, and `path` is as before.
    Errors: OSError where the folder cannot be written; `path` is then the old file or, if flushing the folder failed, the new one.
    """
    path = Path(path)
    _require_plain(path)
    prefix = f".{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]}-"
    for left in path.parent.glob(f"{prefix}*.tmp"):
        with suppress(FileNotFoundError):  # another save may remove it first
            if time.time() - left.stat().st_mtime > STALE_SECONDS:
                left.unlink()
    temporary = path.with_name(f"{prefix}{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("x+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        if os.name != "nt":
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
    finally:
        temporary.unlink(missing_ok=True)


def _require_plain(path: Path) -> None:
    if not path.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "expected a folder", os.fspath(path.parent))
    if path.exists() and not path.is_file():
        raise OSError(errno.EEXIST, "expected the name of a file, there is something else", os.fspath(path))
