"""A JSON header and named arrays in one `.npz` file: the form of models, checkpoints and splits.

The file is an uncompressed ZIP archive of `.npy` members, which `numpy.load` opens:

    header.npy         JSON as uint8: format, the caller's header, versions, and of every array
                       its name, shape, dtype and sha256
    header_sha256.npy  the sha256 of that JSON
    NAME.npy           each array, little-endian, in the order of the JSON

The JSON says what every array must be, so a file whose content differs is refused. Nothing is
pickled. This page needs NumPy and the standard library alone.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import sys
import time
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy

from . import __version__

AnyPath: TypeAlias = str | os.PathLike[str]
Array: TypeAlias = npt.NDArray[Any]
Stored: TypeAlias = tuple[dict[str, Any], dict[str, Array]]
"""The caller's header, and arrays by name."""

LIMIT = 2**31 - 1
"""Bytes of the largest file; longer ones need the 64-bit extension of ZIP."""
HEADER_LIMIT = 2**20
"""Bytes of the longest JSON; parsed, it may take 25 times as much memory."""
DIRECTORY_LIMIT = 2**16
"""Bytes of the longest ZIP directory; `zipfile` makes an object of every entry."""
STALE_SECONDS = 3600
"""A temporary file this old was left by a process that was killed."""
DTYPES = ("<f2", "<f4", "<f8", "|i1", "<i2", "<i4", "<i8", "|u1", "<u2", "<u4", "<u8")


class StoreError(ValueError):
    """A file that cannot be read or is not what it should be: file, member, what was expected."""


def write_store(
    path: AnyPath, kind: str, header: Mapping[str, Any], arrays: Mapping[str, Array]
) -> None:
    """Write header and arrays to `path` and read them back; on failure the old file stays.

    Edge: the same content gives the same bytes, under one version of Python and NumPy.
    Errors: OSError if the folder cannot be written; TypeError for a header that is not JSON and
    arrays of objects; StoreError for what `read_store` would refuse: types that are not plain
    numbers, arrays named as a member above, damage on the way to the disk.
    """
    plain = {
        name: np.asarray(a, a.dtype.newbyteorder("<"), order="C") for name, a in arrays.items()
    }
    entries = {name: _describe(array) for name, array in plain.items()}
    versions = {"c2f_ref": __version__, "numpy": np.__version__, "python": sys.version.split()[0]}
    whole = {"format": kind, "header": header, "versions": versions, "arrays": entries}
    text = json.dumps(whole, separators=(",", ":")).encode()
    first = {"header": text, "header_sha256": hashlib.sha256(text).digest()}
    members = {name: np.frombuffer(part, np.uint8) for name, part in first.items()} | plain
    with replacing(path) as file:
        with zipfile.ZipFile(file, "w", allowZip64=False) as archive:
            for name, array in members.items():
                info = zipfile.ZipInfo(f"{name}.npy")  # dated 1980, whenever it is written
                info.create_system, info.external_attr = 3, 0o600 << 16
                with archive.open(info, "w") as member:
                    npy.write_array(member, array, (1, 0), allow_pickle=False)
        _read_all(file, path, kind, LIMIT)


@contextmanager
def replacing(path: AnyPath) -> Iterator[BinaryIO]:
    """Give a file to write and read that takes the place of `path` when the block ends well.

    It is written next to `path`, flushed to the disk and renamed; then the folder is flushed. After
    an error `path` is as it was, and there is no other file. A process that is killed leaves its
    temporary file; the first save of the same path more than an hour later removes that.
    Edge: Windows cannot flush a folder; a power failure may then undo the renaming.
    Errors: OSError if the folder cannot be written. If only flushing the folder failed, `path` is
    the new file.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        raise FileExistsError(f"{path}: expected a file, got something else")
    prefix = f".{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]}-"
    for left in path.parent.glob(f"{prefix}*.tmp"):
        with suppress(FileNotFoundError):  # another save may remove it first
            if time.time() - left.stat().st_mtime > STALE_SECONDS:
                left.unlink()
    temporary = path.with_name(f"{prefix}{os.urandom(16).hex()}.tmp")
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


def require_place(path: AnyPath) -> None:
    """Raise OSError unless a file can be written at `path`; ask before a long computation."""
    with suppress(StoreError), replacing(path):
        raise StoreError("nothing is to be written yet")


def read_store(path: AnyPath, kind: str, *, max_bytes: int = LIMIT) -> Stored:
    """Read what `write_store` wrote; what header and arrays mean is for the caller to check.

    A file of more than `max_bytes` is refused, and arrays never take more than the file.
    Errors: StoreError that names the file and the member at fault; OSError if there is no file.
    """
    with Path(path).open("rb") as file:
        return _read_all(file, path, kind, max_bytes)


def read_header(path: AnyPath, kind: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The caller's header, and what the JSON says of every array: "shape", "dtype", "sha256".

    No array is read: one that is not as the JSON says is found by `read_store`.
    Errors: as `read_store`.
    """
    with Path(path).open("rb") as file:
        return _read_all(file, path, kind, LIMIT, has_arrays=False)


def read_arrays(path: AnyPath, *, max_bytes: int = LIMIT) -> dict[str, Array]:
    """The arrays of any `.npz` file of plain numbers, compressed or not, with no header of ours.

    Errors: as `read_store`; StoreError also for arrays of more than `max_bytes` together.
    """
    with Path(path).open("rb") as file, _archive(file, path, max_bytes) as archive:
        names = [member.removesuffix(".npy") for member in archive.namelist()]
        return {name: _read(archive, name) for name in names}


def pack_text(texts: Iterable[str]) -> tuple[Array, Array]:
    """Text as UTF-8: the bytes of all texts, and where each begins.

    Shapes: n texts -> (bytes,) uint8, (n + 1,) of the narrowest unsigned type.
    Errors: StoreError for what no NumPy array of text can hold: a NUL at the end, a surrogate.
    """
    pieces = [str(text).encode("utf-8", "surrogatepass") for text in texts]
    content = np.frombuffer(b"".join(pieces), np.uint8)
    starts = np.cumsum([0, *map(len, pieces)]).astype(np.min_scalar_type(content.size))
    unpack_text(content, starts)
    return content, starts


def unpack_text(content: Array, starts: Array) -> list[str]:
    """The texts that `pack_text` packed; an array of them takes the longest one for each.

    Errors: StoreError for arrays that `pack_text` does not give.
    """
    ends, raw = starts.ravel().tolist(), content.tobytes()
    found = content.dtype, starts.dtype, content.ndim, starts.ndim, *ends[:1], *ends[-1:]
    packed = np.uint8, np.min_scalar_type(len(raw)), 1, 1, 0, len(raw)
    if found != packed or ends != sorted(ends):
        raise StoreError(f"text must be uint8, with narrow starts that ascend from 0 to {len(raw)}")
    try:
        texts = [raw[start:end].decode() for start, end in pairwise(ends)]
    except ValueError as error:
        raise StoreError(f"text must be Unicode, got {error}") from error
    if any(text.endswith("\0") for text in texts):
        raise StoreError("text must not end with NUL")
    return texts


@contextmanager
def _archive(file: BinaryIO, path: AnyPath, max_bytes: int) -> Iterator[zipfile.ZipFile]:
    """Open the archive; whatever its content causes becomes a StoreError that names the file.

    Members may take `max_bytes`; if none is compressed, no more than the file: some that overlap
    would.
    """
    try:
        size = file.seek(0, os.SEEK_END)
        if size > max_bytes:
            raise StoreError(f"must have at most {max_bytes:,} bytes, got {size:,}")
        file.seek(max(size - 42, 0))
        end = file.read().rjust(42, b"\0")
        n_directory = int.from_bytes(end[32:36], "little")
        is_plain = end[20:24] == b"PK\5\6" and end[40:] == b"\0\0" and end[:4] != b"PK\6\7"
        if not is_plain or n_directory > DIRECTORY_LIMIT:
            raise StoreError("expected an .npz file that ends with the directory of its members")
        with zipfile.ZipFile(file) as archive:
            infos, names = archive.infolist(), archive.namelist()
            most = max_bytes if any(info.compress_type for info in infos) else size
            if len(set(names)) < len(names) or sum(info.file_size for info in infos) > most:
                raise StoreError(f"expected different members of at most {most:,} bytes: {names}")
            yield archive
    except Exception as error:  # zipfile, numpy and json have many errors for damage
        words = str(error) if isinstance(error, StoreError) else f"damaged: {error!r}"
        raise StoreError(f"{path}: {words}") from error


def _read_all(
    file: BinaryIO, path: AnyPath, kind: str, max_bytes: int, *, has_arrays: bool = True
) -> Stored:
    """The caller's header, and the arrays, or what the JSON says of them."""
    with _archive(file, path, max_bytes) as archive:
        infos, names = archive.infolist(), archive.namelist()
        is_stored = not any(info.compress_type for info in infos)
        if names[:2] != ["header.npy", "header_sha256.npy"] or not is_stored:
            raise StoreError(f"expected an uncompressed file of format {kind!r}, its header first")
        if infos[0].file_size > HEADER_LIMIT:
            raise StoreError(f"header: must have at most {HEADER_LIMIT:,} bytes")
        text, digest = (_read(archive, name).tobytes() for name in ("header", "header_sha256"))
        if digest != hashlib.sha256(text).digest():
            raise StoreError("header: its sha256 is not the one in header_sha256")
        whole = json.loads(text)
        header, entries = whole["header"], whole["arrays"]
        if whole["format"] != kind:
            raise StoreError(f"header: expected format {kind!r}, got {whole['format']!r}")
        if names[2:] != [f"{name}.npy" for name in entries]:
            raise StoreError(f"expected arrays {list(entries)}, got {names[2:]}")
        if has_arrays:
            return header, {name: _read(archive, name, entry) for name, entry in entries.items()}
        return header, entries


def _read(archive: zipfile.ZipFile, name: str, entry: Mapping[str, Any] | None = None) -> Array:
    """An array, checked against its entry in the JSON."""
    with archive.open(f"{name}.npy") as member:
        if npy.read_magic(member) != (1, 0):
            raise StoreError(f"{name}: must be of version 1.0 of the .npy format")
        shape, is_fortran, dtype = npy.read_array_header_1_0(member)
        if dtype.str not in DTYPES:
            raise StoreError(f"{name}: must be plain numbers, got {dtype}")
        n_bytes = archive.getinfo(f"{name}.npy").file_size - member.tell()
        if is_fortran or min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != n_bytes:
            raise StoreError(f"{name}: {n_bytes:,} bytes are not {dtype} {shape} in C order")
        array = np.empty(shape, dtype)
        content = array.reshape(-1).view(np.uint8).data
        for place in range(0, n_bytes, 2**16):  # all at once would be in memory twice
            content[place : place + 2**16] = member.read(2**16)  # ValueError if there is less
    if entry is not None and entry != _describe(array):
        raise StoreError(f"{name}: must be {entry}, got {_describe(array)}")
    return array


def _describe(array: Array) -> dict[str, Any]:
    digest = hashlib.sha256(array.reshape(-1).view(np.uint8).data).hexdigest()
    return {"shape": list(array.shape), "dtype": array.dtype.str, "sha256": digest}
