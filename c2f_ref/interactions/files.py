"""Read the files that interaction data comes in.

    format         one line of it
    "lightgcn"     user item item ...                      positions from 0, no header; a user may
                                                           have no items, or several lines
    "csv"          a,b,c                                   header with column names; comma or tab,
                                                           whichever the header has more of; quotes
    "tsv"          a TAB b TAB c                           the same, and always tabs
    "movielens"    user TAB item TAB rating TAB timestamp  u.data of MovieLens 100K, no header
    "movielens-1m" user::item::rating::timestamp           ratings.dat of MovieLens 1M and 10M
    "recbole"      a TAB b TAB c                           .inter; header of name:type fields

Files are UTF-8, with or without a byte order mark; lines end in LF or CRLF. Blank lines, blanks
around a field and a missing last line end mean nothing. Anything else that is out of order is a
DataError that names file, line and token.
"""

from __future__ import annotations

import csv
import math
import re
from array import array
from collections.abc import Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .pairs import DataError, IntArray, Interactions

__all__ = ["FORMATS", "find_columns", "read_folder", "read_interactions", "usual_places"]


class Format(NamedTuple):
    """How a line is cut into fields, and where the columns' names come from."""

    suffix: str
    """File extension with which data sets of this format are published."""
    separators: tuple[str, ...]
    """The first line decides between them: the one it has most of."""
    columns: tuple[str, ...] = ()
    """Names in order; where there are none, the first line is a header."""
    has_quotes: bool = False
    type_suffix: str = ""
    """Pattern of what follows the name in a field of the header."""


ROLES = {
    "user": ("user", "userid"),
    "item": ("item", "itemid", "movieid"),
    "rating": ("rating",),
    "timestamp": ("timestamp",),
}
"""Column names that are recognised unasked, compared without case and underscores."""
FORMATS = {
    "lightgcn": Format(".txt", (" ", "\t")),
    "csv": Format(".csv", (",", "\t"), has_quotes=True),
    "tsv": Format(".tsv", ("\t",), has_quotes=True),
    "movielens": Format(".data", ("\t",), tuple(ROLES)),
    "movielens-1m": Format(".dat", ("::",), tuple(ROLES)),
    "recbole": Format(".inter", ("\t",), type_suffix=" *:(token|float)(_seq)?$"),
}

# At most 8 digits, because counts, and so memory, follow from the largest position.
_POSITIONS = re.compile(r"[ \t]*(?:[0-9]{1,8}(?:[ \t]+|\Z))*")
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,18}")
_UNWANTED = re.compile("[\0\r\udc80-\udcff]")  # surrogates stand for bytes that are not UTF-8
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


def read_interactions(
    path: str | PathLike[str],
    *,
    format: str | None = None,
    user_column: str | None = None,
    item_column: str | None = None,
    rating_column: str | None = None,
    timestamp_column: str | None = None,
    least_rating: float | None = None,
) -> Interactions:
    """Read one file of pairs, in the format named, or else the one that its extension stands for.

    Columns are found by name: those given, or else the usual ones (`ROLES`); a rating or timestamp
    column need not be there. Pairs rated below `least_rating` are dropped, and the ids seen in no
    other pair with them. Ids are int64 where every id of the column is a plain decimal integer,
    such as 7 and -7 but not 007; else all are text.
    Errors: DataError for a malformed file, an unknown format, and a column or rating that is asked
    for and missing; OSError where the file cannot be read.
    """
    path = Path(path)
    path.stat()  # OSError where there is none
    guesses = {known.suffix: kind for kind, known in FORMATS.items()}
    kind = guesses.get(path.suffix.lower()) if format is None else format
    if kind not in FORMATS:
        expected = f"expected a file whose name ends in {', '.join(guesses)}, or format= one of"
        raise DataError(f"{expected} {', '.join(FORMATS)}, got {format!r}", path)
    names = (user_column, item_column, rating_column, timestamp_column)
    wanted = dict(zip(ROLES, names, strict=True))
    if kind != "lightgcn":
        return _read_table(path, FORMATS[kind], wanted, least_rating)
    if least_rating is not None or any(name is not None for name in names):
        raise DataError("format 'lightgcn' has neither named columns nor ratings", path)
    return _read_lightgcn(path)[0]


def read_folder(path: str | PathLike[str]) -> tuple[Interactions, Interactions]:
    """Read train.txt and test.txt, LightGCN text, on ids that span both: (train, held_out).

    Edge: a pair in both files belongs to train alone and is counted in `held_out.n_duplicates`.
    Errors: as `read_interactions`.
    """
    train, held_out = _read_lightgcn(Path(path) / "train.txt", Path(path) / "test.txt")
    known = np.isin(held_out.pair_keys, train.pair_keys)
    return train, held_out.select(~known, n_duplicates=held_out.n_duplicates + int(known.sum()))


def find_columns(
    names: Sequence[str], wanted: Mapping[str, str | None], required: Sequence[str], **place: Any
) -> dict[str, int]:
    """Number the column of each role: the one of the name wanted or, for None, of a usual name.

    Errors: DataError at this place where a role that is required or named has no column, and where
    it has several. A column has one role.
    """
    columns: dict[str, int] = {}
    for role, name in wanted.items():
        usual = usual_places(names, role)
        found = usual if name is None else [p for p, other in enumerate(names) if other == name]
        found = [p for p in found if p not in columns.values()]
        if len(found) > 1 or (not found and (name is not None or role in required)):
            which = f"named {name!r}" if name else f"of a usual name; {role}_column= names it"
            raise DataError(f"expected one {role} column {which}", token=", ".join(names), **place)
        columns.update((role, p) for p in found)
    return columns


def usual_places(names: Sequence[str], role: str) -> list[int]:
    """Which of these column names stand for `role` unasked."""
    return [p for p, name in enumerate(names) if name.replace("_", "").lower() in ROLES[role]]


def _read_lightgcn(*paths: Path) -> list[Interactions]:
    """Read LightGCN text, all files on one set of positions, from 0 to the largest."""
    # Lists would keep an object for each of millions of pairs.
    columns = [(array("q"), array("q")) for _ in paths]
    n_users = n_items = 0
    for path, (users, items) in zip(paths, columns, strict=True):
        for number, line in _lines(path):
            if not _POSITIONS.fullmatch(line):
                token = re.split(r"[ \t]", _POSITIONS.sub("", line, count=1))[0]
                raise DataError("expected a position of at most 8 digits", path, number, token)
            if positions := list(map(int, line.split())):
                n_users = max(n_users, positions[0] + 1)
                users.extend(positions[:1] * (len(positions) - 1))
                items.extend(positions[1:])
        n_items = max(n_items, max(items, default=-1) + 1)
    return [Interactions.from_indices(*pairs, n_users, n_items) for pairs in columns]


def _read_table(
    path: Path, form: Format, wanted: Mapping[str, str | None], least_rating: float | None
) -> Interactions:
    rows = _rows(path, form)
    line, header = (1, list(form.columns)) if form.columns else next(rows, (1, []))
    names = [re.sub(form.type_suffix, "", name.strip()) for name in header]
    required = ("user", "item") if least_rating is None else ("user", "item", "rating")
    columns = find_columns(names, wanted, required, path=path, line=line)
    ids: dict[str, list[str]] = {"user": [], "item": []}
    numbers = {role: array("d") for role in columns if role not in ids}
    known: dict[str, str] = {}  # one text for each id, not for each row
    for line, row in rows:
        if len(row) != len(names):
            raise DataError(f"expected {len(names)} fields, found {len(row)}", path, line, row[-1])
        for role, tokens in ids.items():
            token = row[columns[role]].strip()
            if not token:
                raise DataError(f"expected the {role}'s id", path, line, token)
            tokens.append(known.setdefault(token, token))
        for role, values in numbers.items():
            token = row[columns[role]].strip()
            # float() alone takes "nan", "1_0" and digits of other scripts
            if not (_NUMBER.fullmatch(token) and math.isfinite(float(token))):
                raise DataError(f"expected a finite {role}", path, line, token)
            values.append(float(token))
    users, items = _typed(ids["user"]), _typed(ids["item"])
    columns_of = {f"{role}s": values for role, values in numbers.items()}
    return Interactions.from_pairs(users, items, least_rating=least_rating, **columns_of)


def _typed(tokens: list[str]) -> list[str] | IntArray:
    """The ids as integers if each is written as Python writes one of int64 range, else as text."""
    for token in set(tokens):
        if not _INTEGER.fullmatch(token) or not -(2**63) <= int(token) < 2**63:
            return tokens
    return np.fromiter(map(int, tokens), np.int64, len(tokens))


def _rows(path: Path, form: Format) -> Iterator[tuple[int, list[str]]]:
    """Cut every line that is not blank into fields, and number it."""
    first = next((line for _, line in _lines(path) if line), "")
    mark = max(form.separators, key=first.count)
    for number, line in _lines(path):
        row = line.split(mark)
        if form.has_quotes and '"' in line:
            try:
                row = next(csv.reader([line], delimiter=mark, strict=True, skipinitialspace=True))
            except csv.Error as error:
                raise DataError(str(error), path, number, line) from error
        if line:
            yield number, row


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Number the lines of a UTF-8 file from 1, and cut off their ends and trailing blanks."""
    with path.open("rb") as file:
        for number, content in enumerate(file, 1):
            line = content.decode("utf-8", "surrogateescape").replace("\r\n", "\n")
            if bad := _UNWANTED.search(line):
                raise DataError("expected UTF-8 lines that end in LF or CRLF", path, number, bad[0])
            yield number, line.removeprefix("\ufeff" if number == 1 else "").rstrip(" \n")
