"""Cut a table of pairs into fields: lines, objects or blocks of bytes become columns of numbers.

A table is read in blocks. NumPy takes those in whose lines nothing needs a second look, and
`Table.row` judges the lines of all others, so what is refused does not depend on the block.
"""

from __future__ import annotations

import csv
import gzip
import json
import math
import re
import zlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from .arrays import ROLES, Columns, usual_role
from .pairs import Array, DataError, IntArray

Known: TypeAlias = dict[str, defaultdict[bytes, int]]
BLOCK = 2**22
"""Bytes that are read at once, besides the rest of the last line."""
LONGEST = 64
"""Bytes of a field that NumPy reads."""
UNWANTED = re.compile("[\0\r\n\ud800-\udfff]")  # surrogates stand for bytes of other encodings
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")

FORMATS: dict[str, tuple[tuple[str, ...], tuple[str, ...], bool]] = {
    "lightgcn": ((".txt",), (" ", "\t"), False),
    "pairs": ((), ("::", "\t", ",", ";", " "), False),
    "csv": ((".csv",), (",", "\t", ";"), True),
    "tsv": ((".tsv",), ("\t",), True),
    "movielens": ((".data", ".base", ".test", ".rating"), ("\t",), False),
    "movielens-1m": ((".dat",), ("::",), False),
    "recbole": ((".inter",), ("\t",), True),
    "jsonl": ((".jsonl", ".json"), (), True),
}
"""Suffixes of a format, separators, and whether the first line has names."""


@dataclass(frozen=True)
class FileOptions(Columns):
    """How a file is read, besides its columns."""

    format: str | None = None
    """A name in `FORMATS`, or None for the one that the extension stands for."""
    separator: str | None = None
    """What stands between fields, or None for what the format says."""
    header: bool = True
    """Whether the first line has names, in a format with such a line."""
    encoding: str = "utf-8"
    """One in which ASCII is ASCII."""

    def __post_init__(self) -> None:
        mark = self.separator
        if mark is not None and (not mark or UNWANTED.search(mark) or '"' in mark):
            raise DataError(f"separator must be text without quotes and line ends, got {mark!r}")
        try:
            is_ascii = bytes(range(128)).decode(self.encoding) == "".join(map(chr, range(128)))
        except (LookupError, UnicodeError):
            is_ascii = False
        if not is_ascii:
            raise DataError(f"encoding must be one that extends ASCII, got {self.encoding!r}")


class Table:
    """A file of fields: how its lines are cut, and `columns`, for each role a number of each line.

    `known` has a number for every token of an id, seen or new.
    """

    def __init__(self, path: Path, kind: str, options: FileOptions, known: Known) -> None:
        self.path, self.encoding, self.known = path, options.encoding, known
        start, first = next(lines_of(path, self.encoding), (1, ""))
        _, separators, has_header = FORMATS[kind]
        if options.separator and separators:
            separators = (options.separator,)
        self.mark = max(separators, key=first.count, default="")
        self.is_fast = len(self.mark) == 1 and self.mark.isascii() and self.mark != " "
        self.has_quotes = self.is_fast and self.mark != "\t"
        odd = "\0\r\n" + '"' * self.has_quotes + self.mark
        self.plain = bytes(byte for byte in range(128) if chr(byte) not in odd)
        self.keys: list[str] | None = None  # those of an object that are read
        names, hint, self.n_skipped = [n.strip() for n in self._cut(first, start)], "", 0
        if self.mark and has_header and options.header:
            self.n_skipped, hint = start, ", header=False reads a file that has none"
        elif self.mark:
            if {"user", "item"} <= set(map(usual_role, names)):
                text = "expected no header, and this may be one; format='csv', 'tsv' read it"
                raise DataError(text, path, start, first)
            has_numbers = any(str(getattr(options, f"{r}_column")).isdecimal() for r in ROLES)
            if first and not has_numbers and not 2 <= len(names) <= 4:
                text = f"expected user, item, rating, timestamp, found {len(names)} fields"
                raise DataError(f"{text}; user_column='1' names one", path, start, names[-1])
            roles = list(ROLES)[: len(names) if first else None]
            names = [str(p + 1) for p in range(len(names))] if has_numbers else roles
        self.places, self.unused = options.find(names, hint, path=path, line=start)
        if not self.mark:
            names = self.keys = [names[place] for place in self.places.values()]
            self.places = {role: place for place, role in enumerate(self.places)}
        self.n_fields = len(names)
        parts = [{role: np.zeros(0, np.int32) for role in self.places}]
        parts += [self._read(*block) for block in _blocks(path, self.n_skipped)]
        self.columns = {role: np.concatenate([p[role] for p in parts]) for role in self.places}

    def line_of(self, role: str, token: str) -> int | None:
        """The first line that has this token in the column of a role."""
        lines = lines_of(self.path, self.encoding, self.n_skipped)
        found = (n for n, line in lines if self.row(line, n)[self.places[role]] == token)
        return next(found, None)

    def row(self, line: str, number: int) -> list[str]:
        """The fields of one line. Errors: DataError for whatever is wrong in it."""
        row = [field.strip() for field in self._cut(line, number)]
        if len(row) != self.n_fields:
            text = f"expected {self.n_fields} fields, found {len(row)}"
            raise DataError(text, self.path, number, row[-1])
        for role, place in self.places.items():
            # `float` alone takes "1_0" and digits of other scripts.
            is_right = role in self.known or _NUMBER.fullmatch(row[place])
            if not is_right or (role not in self.known and math.isinf(float(row[place]))):
                raise DataError(f"expected a finite {role}", self.path, number, row[place])
        return row

    def _read(self, first: int, block: bytes) -> dict[str, Array]:
        """The columns of whole lines, of which `first` is the number of the first."""
        marks = (self.mark * (self.n_fields - 1) + "\n") * block.count(b"\n")
        if self.is_fast and block and block.translate(None, self.plain) == marks.encode():
            with suppress(ValueError):  # `row` finds the line that has it
                return self._read_plain(block)
        rows = [self.row(line, n) for n, line in _decoded(first, block, self.path, self.encoding)]
        columns: dict[str, Array] = {}
        for role, place in self.places.items():
            is_id = role in self.known
            number_of: Any = self.known[role].__getitem__ if is_id else float
            numbers = (number_of(row[place].encode()) for row in rows)
            columns[role] = np.fromiter(numbers, np.int32 if is_id else np.float64)
        return columns

    def _read_plain(self, block: bytes) -> dict[str, Array]:
        """The columns of lines of which each has all its marks, and ASCII between them.

        Errors: ValueError for fields that are too long or not a finite number.
        """
        data = np.frombuffer(bytes(LONGEST) + block + bytes(LONGEST), np.uint8)
        ends = np.flatnonzero((data == ord(self.mark)) | (data == ord("\n")))
        starts = np.append(LONGEST, ends[:-1] + 1)
        columns: dict[str, Array] = {}
        for role, place in self.places.items():
            bounds = starts[place :: self.n_fields], ends[place :: self.n_fields]
            if role in self.known:
                tokens = _tokens(data, *bounds)
                keys = tokens.view("u8") if tokens.itemsize == 8 else tokens  # sorted faster
                different, places = np.unique(keys, return_inverse=True)
                codes = map(self.known[role].__getitem__, different.view(tokens.dtype).tolist())
                columns[role] = np.array([*codes], np.int32)[places]
            else:
                columns[role] = _numbers(data, *bounds)
        return columns

    def _cut(self, line: str, number: int) -> list[str]:
        """The fields of a line; of an object the values of `keys`, or the keys."""
        try:
            if not self.mark:
                record = json.loads(line or "{}")
                if not isinstance(record, dict):
                    raise ValueError("expected an object")
                return list(record) if self.keys is None else _texts(record, self.keys)
            if self.has_quotes and '"' in line:
                mark = self.mark
                return next(csv.reader([line], delimiter=mark, strict=True, skipinitialspace=True))
        except (csv.Error, ValueError, RecursionError) as error:
            raise DataError(str(error), self.path, number, line) from error
        return line.split(None if self.mark == " " else self.mark)


def _texts(record: dict[str, Any], keys: Sequence[str]) -> list[str]:
    """Values of a JSON object as fields; null and what is not there are empty."""
    values = [record.get(key) for key in keys]
    texts = [v if isinstance(v, str) else "" if v is None else json.dumps(v) for v in values]
    if any(isinstance(v, (list, dict, bool)) for v in values) or UNWANTED.search("".join(texts)):
        raise ValueError("expected text and numbers")
    return texts


def _tokens(data: Array, starts: IntArray, ends: IntArray) -> Array:
    """The bytes between these bounds: (P,), (P,) -> (P,) of dtype S8, S16, ...

    Errors: ValueError for more than `LONGEST` of them.
    """
    n = ends - starts
    width = 8 * max(1, -(-int(n.max()) // 8))
    if width > LONGEST:
        raise ValueError(width)
    cells = sliding_window_view(data, width)[starts]
    cells[np.arange(width) >= n[:, None]] = 0
    return cells.view(f"S{width}").ravel()


def _numbers(data: Array, starts: IntArray, ends: IntArray) -> Array:
    """The tokens between these bounds as float64: (P,), (P,) -> (P,).

    Edge: whole numbers are added up digit by digit; a double holds every one of 15 digits.
    Errors: ValueError for what is no finite number.
    """
    n = ends - starts
    width = int(n.max())
    if n.min() > 0 and width <= 15:
        digits = sliding_window_view(data, width)[ends - width] - ord("0")
        digits[np.arange(width, 0, -1) > n[:, None]] = 0  # before the token
        if (digits <= 9).all():
            values = np.zeros(len(n))
            for column in digits.T:
                values = 10.0 * values + column
            return values
    tokens = _tokens(data, starts, ends)
    values = tokens.astype(np.float64)
    if b"_" in tokens.tobytes() or not np.isfinite(values).all():
        raise ValueError(tokens)
    return values


def lines_of(path: Path, encoding: str, n_skipped: int = 0) -> Iterator[tuple[int, str]]:
    """The lines of a file with their numbers from 1, but the first ones and blank ones."""
    for first, block in _blocks(path, n_skipped):
        yield from _decoded(first, block, path, encoding)


def _decoded(first: int, block: bytes, path: Path, encoding: str) -> Iterator[tuple[int, str]]:
    """The lines of a block as text, without trailing blanks and byte order mark."""
    for number, content in enumerate(block.split(b"\n"), first):
        line = content.decode(encoding, "surrogateescape")
        if bad := UNWANTED.search(line):
            text = f"expected lines in {encoding} that end in LF or CRLF; encoding= names another"
            raise DataError(text, path, number, bad[0])
        if line := line.removeprefix("\ufeff" if number == 1 else "").rstrip(" "):
            yield number, line


def _blocks(path: Path, n_skipped: int) -> Iterator[tuple[int, bytes]]:
    """Whole lines, some megabytes at once, and the number of the first; all end in LF."""
    number = 1
    with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
        try:
            while block := file.read(BLOCK) + file.readline():
                if b"\r" in block:
                    block = block.replace(b"\r\n", b"\n")
                block += b"\n" * (not block.endswith(b"\n"))
                n_left_out, n_lines = max(0, n_skipped + 1 - number), block.count(b"\n")
                yield number + n_left_out, block.split(b"\n", n_left_out)[-1]
                number += n_lines
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise DataError(f"damaged: {error}", path, number) from error
