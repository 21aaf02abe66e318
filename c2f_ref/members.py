"""The bytes of a ZIP archive of `.npy` members, plainly stored: what stands before, between and behind the arrays."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

LIMIT = 2**32 - 1
"""Bytes of the largest archive: this layout has no room for more."""


class Member(NamedTuple):
    """An array that is stored as `name.npy`, and the sha256 of its bytes."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    sha256: str

    @property
    def n_bytes(self) -> int:
        """Bytes of the array."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize

    @property
    def start(self) -> bytes:
        """The `.npy` header, version 1.0, which ends at a multiple of 64 bytes."""
        text = f"{{'descr': '{self.dtype}', 'fortran_order': False, 'shape': {self.shape!r}, }}"
        text += " " * (-(len(text) + 11) % 64) + "\n"
        return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()

    @property
    def n_bytes_before(self) -> int:
        """Bytes from the beginning of the member to its first number."""
        return 30 + len(self.file_name) + len(self.start)

    @property
    def file_name(self) -> bytes:
        """Its name in the archive."""
        return f"{self.name}.npy".encode()

    def before(self, crc: int) -> bytes:
        """What stands before the first number: the ZIP header and the `.npy` header."""
        return b"PK\x03\x04" + self._common(crc) + self.file_name + self.start

    def entry(self, crc: int, offset: int) -> bytes:
        """Its entry in the directory; `offset` is where the member begins. Its owner may read and write what is extracted."""
        return b"PK\x01\x02\x14\x00" + self._common(crc) + struct.pack("<3H2L", 0, 0, 0, 0o600 << 16, offset) + self.file_name

    def _common(self, crc: int) -> bytes:
        """Version 2.0, no flag, stored, at the first moment that ZIP can name; CRC-32, sizes, length of the name."""
        size = len(self.start) + self.n_bytes
        return struct.pack("<5H3L2H", 20, 0, 0, 0, 33, crc, size, size, len(self.file_name), 0)


def directory(entries: Sequence[bytes], offset: int) -> bytes:
    """What stands behind the last member, at `offset`."""
    joined, n = b"".join(entries), len(entries)
    return joined + struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, n, n, len(joined), offset, 0)


def archive_size(members: Sequence[Member]) -> int:
    """Bytes of the whole archive."""
    return sum(member.n_bytes_before + member.n_bytes + 46 + len(member.file_name) for member in members) + 22
