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
import io
import json
import math
import os
import re
import struct
import sys
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from . import __version__
from .files import replacing

LIMIT = 2**32 - 1
"""Bytes of the largest archive: this layout has no room for more."""
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


class Member(NamedTuple):
    """An array that is stored as `name.npy`, and the sha256 of its bytes."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    sha256: str

    @property
    def nbytes(self) -> int:
        """Bytes of the array."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize

    @property
    def file_name(self) -> bytes:
        """Its name in the archive."""
        return f"{self.name}.npy".encode()

    @property
    def start(self) -> bytes:
        """The `.npy` header, version 1.0, which ends at a multiple of 64 bytes."""
        text = f"{{'descr': '{self.dtype}', 'fortran_order': False, 'shape': {self.shape!r}, }}"
        text += " " * (-(len(text) + 11) % 64) + "\n"
        return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()

    def before(self, content: bytes | memoryview) -> bytes:
        """What stands before the first number: the ZIP header and the `.npy` header, as many bytes for every content.

        Version 2.0, no flag, stored, at the first moment that ZIP can name; CRC-32, sizes, length of the name.
        """
        crc, size = zlib.crc32(content, zlib.crc32(self.start)), len(self.start) + self.nbytes
        zipped = struct.pack("<4s5H3L2H", b"PK\x03\x04", 20, 0, 0, 0, 33, crc, size, size, len(self.file_name), 0)
        return zipped + self.file_name + self.start


def write_container(path: str | PathLike[str], kind: str, header: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
    """Write header and arrays to `path`, and read every byte back: all of it, or nothing and the old file stays.

    Edge: big-endian numbers are written little-endian; the same content gives the same bytes.
    Errors: OSError where the folder cannot be written or other bytes are read back; TypeError or ValueError for what no reader
    would take: a header that is no JSON, an array of Python objects, a file of 4 GiB.
    """
    plain = {name: _plain(name, array) for name, array in arrays.items()}
    described = [Member(name, array.shape, array.dtype.str, _sha256(array))._asdict() for name, array in plain.items()]
    versions = {"c2f_ref": __version__, "numpy": np.__version__, "python": ".".join(map(str, sys.version_info[:3]))}
    text = _as_json({"format": kind, "header": header, "versions": versions, "arrays": described})
    _, members = _described(text, kind)  # what no reader takes is not written
    contents = [memoryview(text), memoryview(hashlib.sha256(text).digest()), *map(_bytes_of, plain.values())]
    befores = [member.before(content) for member, content in zip(members, contents, strict=True)]
    pieces: list[Any] = [*chain.from_iterable(zip(befores, contents, strict=True)), _directory(members, befores)]
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
        header, members, befores = _read_header(file, size, kind)
        arrays = {}
        for member in members[len(befores) :]:
            before, array = _read_member(file, member)
            befores.append(before)
            if _sha256(array) != member.sha256:
                raise BundleError(f"{member.name}: its sha256 is not the one in the header")
            if array.dtype.kind == "U" and array.reshape(-1).view(np.uint32).max(initial=0) > LARGEST_CODE_POINT:
                raise BundleError(f"{member.name}: must be Unicode text")
            arrays[member.name] = array
        end = _directory(members, befores)
        if file.read(len(end) + 1) != end:
            raise BundleError("the directory of the archive is not that of its members")
        return header, arrays


def read_header(path: str | PathLike[str], kind: str) -> tuple[dict[str, Any], list[Member]]:
    """The caller's header, and what the file says of its arrays, none of which is read: their sizes add up to that of the file.

    Errors: as `read_container`.
    """
    with _opened(path, LIMIT) as (file, size):
        header, members, befores = _read_header(file, size, kind)
        return header, members[len(befores) :]


@contextmanager
def _opened(path: str | PathLike[str], max_bytes: int) -> Iterator[tuple[io.BufferedReader, int]]:
    """The file and its size; every BundleError names it."""
    with Path(path).open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        try:
            if size > max_bytes:
                raise BundleError(f"must have at most {max_bytes:,} bytes, got {size:,}")
            yield file, size
        except BundleError as error:
            raise BundleError(f"{path}: {error}") from error


def _read_header(file: io.BufferedReader, size: int, kind: str) -> tuple[dict[str, Any], list[Member], list[bytes]]:
    """The caller's header, all members, and what stands before the content of the two that were read for that."""
    (stored,) = struct.unpack_from("<L", file.read(26).ljust(26, b"\0"), 22)  # bytes of the first member, by its ZIP header
    file.seek(0)
    n_text = int(stored) - len(_first_members(0)[0].start)
    if not 0 < n_text <= min(size, HEADER_LIMIT):
        raise BundleError(f"expected a file of format {kind!r}, its header first, got something else or an older format")
    (before, text), (before_digest, digest) = (_read_member(file, member) for member in _first_members(n_text))
    if digest.tobytes() != hashlib.sha256(text.data).digest():
        raise BundleError("header: its sha256 is not the one in header_sha256")
    header, members = _described(text.tobytes(), kind)
    described = _archive_size(members)
    if described != size:
        raise BundleError(f"must have {described:,} bytes, as the header says, got {size:,}: a member is cut, or one more is there")
    return header, members, [before, before_digest]


def _read_member(file: io.BufferedReader, member: Member) -> tuple[bytes, Array]:
    """What stands before the content of the member that begins here, and its array."""
    before, content = file.read(len(member.before(b""))), np.empty(member.nbytes, dtype=np.uint8)
    if file.readinto(content.data) != content.size:
        raise BundleError(f"{member.name}: must have {content.size:,} bytes, the file ends before")
    if before != member.before(content.data):
        raise BundleError(f"{member.name}: must begin as its name, type, size and CRC-32 say, plainly stored, got {before!r}")
    return before, content.view(member.dtype).reshape(member.shape)


def _described(text: bytes, kind: str) -> tuple[dict[str, Any], list[Member]]:
    """The caller's header and all members, as the JSON says.

    Errors: BundleError for JSON that no writer writes.
    """
    try:
        told = json.loads(text)
        if told.get("format") != kind:
            raise BundleError(f"header: expected format {kind!r}, got {told.get('format')!r}")
        if _as_json(told) != text or len(text) > HEADER_LIMIT:
            raise BundleError(f"header: must be JSON of at most {HEADER_LIMIT:,} bytes in its shortest form, keys in order")
        if told.keys() != {"format", "header", "versions", "arrays"} or not isinstance(told["header"], dict):
            raise BundleError(f"header: must have format, header, versions and arrays, got {sorted(told)}")
        members = [*_first_members(len(text)), *map(_member, told["arrays"])]
    except BundleError:
        raise
    except (AttributeError, TypeError, ValueError, RecursionError) as error:
        raise BundleError(f"header: {error!r}") from error
    names = [member.name for member in members]
    if len(set(names)) != len(names):
        raise BundleError(f"header: every array must have a name of its own, got {names}")
    if _archive_size(members) > LIMIT:
        raise BundleError(f"header: the file must have at most {LIMIT:,} bytes, its arrays take {_archive_size(members):,}")
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
    if member._replace(shape=tuple(max(length, 1) for length in shape)).nbytes > LIMIT:
        raise BundleError(f"{member.name}: must take at most {LIMIT:,} bytes, got shape {shape}")
    return member._replace(shape=tuple(shape))


def _first_members(n_text: int) -> list[Member]:
    """The JSON of this length, and its hash."""
    return [Member("header", (n_text,), "|u1", ""), Member("header_sha256", (32,), "|u1", "")]


def _archive_size(members: Sequence[Member]) -> int:
    """Bytes of the whole archive; 46 and 22 are those of an entry without its name and of the end of the directory."""
    return sum(len(member.before(b"")) + member.nbytes + 46 + len(member.file_name) for member in members) + 22


def _directory(members: Sequence[Member], befores: Sequence[bytes]) -> bytes:
    """The end of the archive: an entry for every member, which repeats most of its ZIP header and says where it begins.

    The owner of what is extracted may read and write it.
    """
    directory, offset = b"", 0
    for member, before in zip(members, befores, strict=True):
        owner_and_place = struct.pack("<3H2L", 0, 0, 0, 0o600 << 16, offset)
        directory += b"PK\x01\x02\x14\x00" + before[4:30] + owner_and_place + member.file_name
        offset += len(before) + member.nbytes
    n = len(members)
    return directory + struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, n, n, len(directory), offset, 0)


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


def _sha256(array: Array) -> str:
    return hashlib.sha256(_bytes_of(array)).hexdigest()
