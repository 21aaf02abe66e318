"""One file without pickle or compression that holds a JSON header and named arrays: what model files and checkpoints are made of.

It is a ZIP archive of `.npy` members, which `numpy.load` opens, and its bytes follow from header and arrays alone:

    header.npy         JSON as uint8: format, the caller's header, library versions; name, shape, dtype and sha256 of every array
    header_sha256.npy  the hash of that JSON
    NAME.npy           each array, in the order of the JSON, in little-endian bytes
    the directory of the archive

So the JSON says what every other byte has to be, and a file in which one differs is refused. NumPy and the standard library do:
a device reads through this.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import struct
import sys
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from . import __version__
from .files import replacing
from .members import LIMIT, Member, archive_size, directory

HEADER_LIMIT = 4 * 2**20
"""Bytes of the longest JSON: parsed, it takes up to 25 times as many."""
MAX_AXES = 8
NAMES = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_ .]*")
DTYPES = re.compile(r"<f[248]|<[iu][248]|\|[iu]1|<U[1-9][0-9]{0,5}")
HASHES = re.compile(r"[0-9a-f]{64}")
LARGEST_CODE_POINT = 0x10FFFF

Array = npt.NDArray[Any]


class BundleError(ValueError):
    """A file that cannot be read or is not what it should be: which file, which member, and what was expected."""


def write_container(path: str | PathLike[str], kind: str, header: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
    """Write header and arrays to `path`, and read every byte back: all of it, or nothing and the old file stays.

    Edge: big-endian numbers are written little-endian; the same content gives the same bytes.
    Errors: OSError where the folder cannot be written or other bytes are read back; TypeError or ValueError for what no reader
    would take: a header that is no JSON, an array of Python objects, a file of 4 GiB.
    """
    plain = {name: _plain(name, array) for name, array in arrays.items()}
    members = [Member(name, array.shape, array.dtype.str, _sha256(_bytes_of(array))) for name, array in plain.items()]
    versions = {"c2f_ref": __version__, "numpy": np.__version__, "python": ".".join(map(str, sys.version_info[:3]))}
    described = [member._asdict() for member in members]
    text = _as_json({"format": kind, "header": header, "versions": versions, "arrays": described})
    _described(text, kind)  # what no reader takes is not written
    contents = (memoryview(text), memoryview(hashlib.sha256(text).digest()), *map(_bytes_of, plain.values()))
    pieces = list(_pieces(zip(_all_members(len(text), members), contents, strict=True)))
    with replacing(path) as file:
        for piece in pieces:
            file.write(piece)
        file.seek(0)
        for piece in pieces:
            if file.read(len(piece)) != piece:
                raise OSError(errno.EIO, "other bytes are read back than were written", os.fspath(path))


def read_container(path: str | PathLike[str], kind: str, *, max_bytes: int = LIMIT) -> tuple[dict[str, Any], dict[str, Array]]:
    """Header and arrays that `write_container` wrote; what the caller makes of them is left to check.

    A file of more than `max_bytes` is not read. Nothing is allocated for an array before the sizes of all of them add up to that
    of the file, and each is read straight into its place: memory is taken for the arrays and for the JSON alone.

    Errors: BundleError for anything that is not a container of this kind; OSError where there is no file.
    """
    with _opened(path, max_bytes) as (file, size):
        entries: list[bytes] = []
        header, members = _read_header(file, size, kind, entries)
        return header, _read_arrays(file, members, entries)


def read_header(path: str | PathLike[str], kind: str, *, max_bytes: int = LIMIT) -> tuple[dict[str, Any], list[Member]]:
    """The caller's header, and what the file says of its arrays, none of which is read: their sizes add up to that of the file.

    Errors: as `read_container`.
    """
    with _opened(path, max_bytes) as (file, size):
        return _read_header(file, size, kind, [])


@contextmanager
def _opened(path: str | PathLike[str], max_bytes: int) -> Iterator[tuple[BinaryIO, int]]:
    """The file and its size; every BundleError names it."""
    with Path(path).open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        try:
            if size > max_bytes:
                raise BundleError(f"must have at most {max_bytes:,} bytes, got {size:,}")
            yield file, size
        except BundleError as error:
            raise BundleError(f"{path}: {error}") from error


def _read_header(file: BinaryIO, size: int, kind: str, entries: list[bytes]) -> tuple[dict[str, Any], list[Member]]:
    n_text = _length_of_text(file, size, kind)
    of_text, of_hash = _all_members(n_text, [])
    text = _read_array(file, of_text, entries).tobytes()
    if _read_array(file, of_hash, entries).tobytes() != hashlib.sha256(text).digest():
        raise BundleError("header: its sha256 is not the one in header_sha256")
    header, members = _described(text, kind)
    described = archive_size(_all_members(n_text, members))
    if described != size:
        raise BundleError(f"must have {described:,} bytes, as the header says, got {size:,}: a member is cut, or one more is there")
    return header, members


def _read_arrays(file: BinaryIO, members: list[Member], entries: list[bytes]) -> dict[str, Array]:
    """All arrays, up to the end of the file."""
    arrays = {}
    for member in members:
        array = _read_array(file, member, entries)
        if _sha256(_bytes_of(array)) != member.sha256:
            raise BundleError(f"{member.name}: its sha256 is not the one in the header")
        if array.dtype.kind == "U" and array.reshape(-1).view(np.uint32).max(initial=0) > LARGEST_CODE_POINT:
            raise BundleError(f"{member.name}: must be Unicode text")
        arrays[member.name] = array
    end = directory(entries, file.tell())
    if file.read(len(end) + 1) != end:
        raise BundleError("the directory of the archive is not that of its members")
    return arrays


def _length_of_text(file: BinaryIO, size: int, kind: str) -> int:
    """Length of the JSON, from the ZIP header of the first member; the file stands at its beginning again."""
    (stored,) = struct.unpack_from("<L", file.read(26).ljust(26, b"\0"), 22)
    file.seek(0)
    n_text = int(stored) - len(_all_members(0, [])[0].start)
    if not 0 < n_text <= min(size, HEADER_LIMIT):
        raise BundleError(f"expected a file of format {kind!r}, its header first, got something else or an older format")
    return n_text


def _read_array(file: BinaryIO, member: Member, entries: list[bytes]) -> Array:
    """The array of the member that begins here; its entry in the directory is put into `entries`."""
    content, offset = np.empty(member.n_bytes, dtype=np.uint8), file.tell()
    before = file.read(member.n_bytes_before)
    if file.readinto(content) != content.size:  # type: ignore[attr-defined]
        raise BundleError(f"{member.name}: must have {content.size:,} bytes, the file ends before")
    crc = _crc(member, content.data)
    if before != member.before(crc):
        raise BundleError(f"{member.name}: must begin as its name, type, size and CRC-32 say, plainly stored, got {before!r}")
    entries.append(member.entry(crc, offset))
    return content.view(member.dtype).reshape(member.shape)


def _described(text: bytes, kind: str) -> tuple[dict[str, Any], list[Member]]:
    """The caller's header and what the JSON says of the arrays.

    Errors: BundleError for JSON that no writer writes.
    """
    try:
        told = json.loads(text)
        if told["format"] != kind:
            raise BundleError(f"header: expected format {kind!r}, got {told['format']!r}")
        if _as_json(told) != text or len(text) > HEADER_LIMIT:
            raise ValueError(f"must be JSON of at most {HEADER_LIMIT:,} bytes in its shortest form, keys in order")
        if told.keys() != {"format", "header", "versions", "arrays"} or not isinstance(told["header"], dict):
            raise ValueError(f"must have format, header, versions and arrays, got {sorted(told)}")
        members = [_member(entry) for entry in told["arrays"]]
    except BundleError:
        raise
    except KeyError as error:
        raise BundleError(f"header: {error} is missing") from error
    except (AttributeError, TypeError, ValueError, RecursionError) as error:
        raise BundleError(f"header: {error!r}") from error
    all_members = _all_members(len(text), members)
    if len({member.name for member in all_members}) != len(all_members):
        raise BundleError(f"header: every array must have a name of its own, got {[member.name for member in members]}")
    if archive_size(all_members) > LIMIT:
        raise BundleError(f"header: the file must have at most {LIMIT:,} bytes, its arrays take {archive_size(all_members):,}")
    return told["header"], members


def _member(entry: dict[str, Any]) -> Member:
    member = Member(**entry)
    if not NAMES.fullmatch(member.name):
        raise BundleError(f"header: an array must be named by letters, digits, spaces, dots and _, got {member.name!r}")
    if not DTYPES.fullmatch(member.dtype) or not HASHES.fullmatch(member.sha256):
        raise BundleError(f"{member.name}: must be plain numbers or text, with a sha256, got {member.dtype!r}, {member.sha256!r}")
    shape = entry["shape"]
    if type(shape) is not list or len(shape) > MAX_AXES or any(type(length) is not int or length < 0 for length in shape):
        raise BundleError(f"{member.name}: must have at most {MAX_AXES} axes, of whole numbers from 0, got {shape}")
    if member._replace(shape=tuple(max(length, 1) for length in shape)).n_bytes > LIMIT:
        raise BundleError(f"{member.name}: must take at most {LIMIT:,} bytes, got shape {shape}")
    return member._replace(shape=tuple(shape))


def _all_members(n_text: int, members: list[Member]) -> list[Member]:
    """The JSON of this length, its hash, and the arrays."""
    return [Member("header", (n_text,), "|u1", ""), Member("header_sha256", (32,), "|u1", ""), *members]


def _pieces(contents: Iterator[tuple[Member, memoryview]]) -> Iterator[bytes | memoryview]:
    """All bytes of the file."""
    entries: list[bytes] = []
    offset = 0
    for member, content in contents:
        crc = _crc(member, content)
        entries.append(member.entry(crc, offset))
        offset += member.n_bytes_before + len(content)
        yield member.before(crc)
        yield content
    yield directory(entries, offset)


def _plain(name: str, array: npt.ArrayLike) -> Array:
    """The array in one piece and little-endian."""
    array = np.asarray(array)
    plain = np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C")
    if not DTYPES.fullmatch(plain.dtype.str):
        raise BundleError(f"{name}: must be plain numbers or text, got {array.dtype}")
    return plain


def _as_json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _bytes_of(array: Array) -> memoryview:
    return array.reshape(-1).view(np.uint8).data


def _crc(member: Member, content: memoryview) -> int:
    return zlib.crc32(content, zlib.crc32(member.start))


def _sha256(content: memoryview) -> str:
    return hashlib.sha256(content).hexdigest()
