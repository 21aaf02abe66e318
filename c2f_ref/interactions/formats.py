"""Read the files interaction data comes in.

    format         one line of it
    "lightgcn"     user item item ...                      positions from 0, no header; a user may have no items, or several lines
    "csv"          a,b,c                                   header with column names; comma or tab, quoted fields
    "movielens"    user TAB item TAB rating TAB timestamp  u.data of MovieLens 100K, no header
    "movielens-1m" user::item::rating::timestamp           ratings.dat of MovieLens 1M and 10M, no header
    "recbole"      a TAB b TAB c                           .inter; header of name:type fields, no quotes

Files are UTF-8, with or without a byte order mark; lines end in LF or CRLF. Blank lines, blanks around a field and a missing
last line end mean nothing. Everything else that is out of order is a DataError that names file, line and token.
"""

from __future__ import annotations

import csv
import math
import re
from array import array
from collections.abc import Iterator
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import TypeAlias

import numpy as np

from c2f_ref.interactions.fields import DataError, IntArray
from c2f_ref.interactions.pairs import Interactions

Row: TypeAlias = tuple[int, list[str]]
"""Line number, from 1, and fields."""

FORMATS = {"lightgcn": " ", "csv": ",", "movielens": "\t", "movielens-1m": "::", "recbole": "\t"}
"""What stands between the fields; in "lightgcn" and "csv" it may be a tab too."""
GUESSES = {".txt": "lightgcn", ".csv": "csv", ".tsv": "csv", ".data": "movielens", ".dat": "movielens-1m", ".inter": "recbole"}
"""Format by file extension, as these data sets are published."""
ROLES = {
    "user": ("user", "userid"),
    "item": ("item", "itemid", "movieid"),
    "rating": ("rating",),
    "timestamp": ("timestamp",),
}
"""Header names that are recognised unasked, compared without case and underscores."""
POSITION_DIGITS = 8
"""Longest position in LightGCN text: counts follow from the largest, so one wrong token must not ask for all the memory."""

_POSITION = re.compile(rf"[0-9]{{1,{POSITION_DIGITS}}}")
_POSITION_LINE = re.compile(r"[0-9 \t]*")
_CANONICAL_INT = re.compile(r"0|-?[1-9][0-9]{0,18}")
_RECBOLE_FIELD = re.compile(r"[^:]+:(token|token_seq|float|float_seq)")
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
    """Read one file of pairs, in the format named or, for None, the one its extension stands for (`GUESSES`).

    Columns of a file with a header are found by name: those given, else the usual ones (`ROLES`); there need not be a rating or
    a timestamp column.
    Pairs rated below `least_rating` are dropped, and the ids seen in no other pair with them.
    Raw ids: int64 where every id of the column is a plain decimal integer, such as 7 and -7 but not 007; else all are strings.
    Errors: DataError for a malformed file, a format that cannot be told, a column or rating asked for that the format has not;
    OSError where the file cannot be read.
    """
    path = Path(path)
    path.stat()  # OSError where there is none
    if path.is_dir():
        raise DataError("expected a file of pairs, got a folder; read_split takes one with train.txt and test.txt", path=path)
    kind = GUESSES.get(path.suffix.lower()) if format is None else format
    if kind is None:
        raise DataError(f"expected a name that ends in {', '.join(GUESSES)}; from Python, format= names the format", path=path)
    if kind not in FORMATS:
        raise DataError(f"expected as format one of {', '.join(FORMATS)}, got {format!r}", path=path)
    wanted = {"user": user_column, "item": item_column, "rating": rating_column, "timestamp": timestamp_column}
    asked = [role for role, name in wanted.items() if name is not None]
    if asked and kind not in ("csv", "recbole"):
        raise DataError(f"format {kind!r} has no header, so no {asked[0]}_column", path=path)
    if kind == "lightgcn":
        if least_rating is not None:
            raise DataError("format 'lightgcn' has no ratings, so no least_rating", path=path)
        return Interactions.from_indices(*_read_positions(path))
    rows = _quoted_rows(path) if kind == "csv" else _plain_rows(path, FORMATS[kind])
    line, header = next(rows, (1, [])) if kind in ("csv", "recbole") else (0, list(ROLES))
    names = [name.strip() for name in header]
    if kind == "recbole":
        for token in names:
            if not _RECBOLE_FIELD.fullmatch(token):
                raise DataError("expected a header field name:type with a type of RecBole", path=path, line=line, token=token)
        names = [name.split(":")[0].strip() for name in names]
    return _read_table(path, rows, len(names), _find_columns(path, line, names, wanted), least_rating)


def read_folder(path: str | PathLike[str]) -> tuple[Interactions, Interactions]:
    """Read a LightGCN folder: (train, held_out) from its train.txt and test.txt, on one id space that spans both.

    Edge: a pair in both files belongs to train alone and is counted in `held_out.n_duplicates`.
    Errors: as `read_interactions`.
    """
    train_users, train_items, *train_counts = _read_positions(Path(path) / "train.txt")
    test_users, test_items, *test_counts = _read_positions(Path(path) / "test.txt")
    n_users, n_items = np.maximum(train_counts, test_counts).tolist()
    train = Interactions.from_indices(train_users, train_items, n_users, n_items)
    held_out = Interactions.from_indices(test_users, test_items, n_users, n_items)
    known = np.isin(held_out.pair_keys, train.pair_keys)
    return train, replace(held_out.select(~known), n_duplicates=held_out.n_duplicates + int(known.sum()))


def _lines(path: Path) -> list[str]:
    """Return the lines of a UTF-8 file without their ends and trailing blanks; entry p is line p + 1."""
    content = path.read_bytes()
    try:
        text = content.decode("utf-8").removeprefix("\ufeff").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError("expected UTF-8 text", path=path, line=line, token=content[error.start : error.end]) from error
    for unwanted in ("\0", "\r"):
        if unwanted in text:
            line = text.count("\n", 0, text.index(unwanted)) + 1
            raise DataError("expected text with lines that end in LF or CRLF", path=path, line=line, token=unwanted)
    return [line.rstrip(" ") for line in text.split("\n")]


def _read_positions(path: Path) -> tuple[IntArray, IntArray, int, int]:
    """Read LightGCN text: users (P,), items (P,), n_users, n_items; the counts are 1 + the largest position."""
    n_users = 0
    # Lists would keep an object for each of millions of pairs, and most of their memory after them.
    users, items = array("q"), array("q")
    for number, line in enumerate(_lines(path), 1):
        tokens = line.split()
        if not _POSITION_LINE.fullmatch(line) or len(max(tokens, key=len, default="")) > POSITION_DIGITS:
            token = next(token for token in re.findall(r"[^ \t]+", line) if not _POSITION.fullmatch(token))
            raise DataError(f"expected a position of at most {POSITION_DIGITS} digits", path=path, line=number, token=token)
        if tokens:
            user, *chosen = map(int, tokens)
            n_users = max(n_users, user + 1)
            users.extend([user] * len(chosen))
            items.extend(chosen)
    return np.frombuffer(users, dtype=np.int64), np.frombuffer(items, dtype=np.int64), n_users, max(items, default=-1) + 1


def _plain_rows(path: Path, separator: str) -> Iterator[Row]:
    """Yield the lines that are not blank."""
    return ((number, line.split(separator)) for number, line in enumerate(_lines(path), 1) if line)


def _quoted_rows(path: Path) -> Iterator[Row]:
    """Yield the records that are not blank, each with the line it begins on (a quoted field may hold line ends)."""
    lines = _lines(path)
    header = next(filter(None, lines), "")
    is_tabbed = {".tsv": True, ".csv": False}.get(path.suffix.lower(), header.count("\t") > header.count(","))
    ended = (line + "\n" for line in lines)
    reader = csv.reader(ended, delimiter="\t" if is_tabbed else ",", strict=True, skipinitialspace=True)
    number = 1
    try:
        for fields in reader:
            if fields:
                yield number, fields
            number = reader.line_num + 1
    except csv.Error as error:
        raise DataError(str(error), path=path, line=number, token=lines[number - 1]) from error


def _find_columns(path: Path, line: int, names: list[str], wanted: dict[str, str | None]) -> dict[str, int]:
    """Return the field number of each role; rating and timestamp may be missing unless they were asked for."""
    columns = {}
    for role, name in wanted.items():
        found = usual_places(names, role) if name is None else [p for p, given in enumerate(names) if given == name]
        if len(found) > 1 or (not found and (name is not None or role in ("user", "item"))):
            told = f"named {name!r}" if name else f"of a usual name; from Python, {role}_column= tells"
            raise DataError(f"expected exactly one {role} column {told}", path=path, line=line, token=", ".join(names))
        if found:
            columns[role] = found[0]
    if columns["user"] == columns["item"]:
        raise DataError("expected users and items in two columns, got one", path=path, line=line, token=names[columns["user"]])
    return columns


def usual_places(names: list[str], role: str) -> list[int]:
    """Return which of these column names stand for `role` unasked."""
    return [place for place, name in enumerate(names) if name.replace("_", "").lower() in ROLES[role]]


def _read_table(path: Path, rows: Iterator[Row], width: int, columns: dict[str, int], least_rating: float | None) -> Interactions:
    ids: dict[str, list[str]] = {"user": [], "item": []}
    numbers: dict[str, list[float]] = {role: [] for role in columns if role not in ids}
    for line, fields in rows:
        if len(fields) != width:
            raise DataError(f"expected {width} fields, found {len(fields)}", path=path, line=line, token=fields[-1])
        for role, tokens in ids.items():
            token = fields[columns[role]].strip()
            if not token:
                raise DataError(f"expected the {role}'s id", path=path, line=line, token=token)
            tokens.append(token)
        for role, values in numbers.items():
            values.append(_number(path, line, role, fields[columns[role]].strip()))
    if least_rating is not None and "rating" not in columns:
        raise DataError("least_rating needs a rating column; name it with rating_column=", path=path)
    return Interactions.from_pairs(
        _typed(ids["user"]),
        _typed(ids["item"]),
        ratings=numbers.get("rating"),
        least_rating=least_rating,
        timestamps=numbers.get("timestamp"),
    )


def _number(path: Path, line: int, role: str, token: str) -> float:
    # float() alone takes "nan", "1_0" and digits of other scripts
    if not _NUMBER.fullmatch(token) or not math.isfinite(float(token)):
        raise DataError(f"expected a finite {role}", path=path, line=line, token=token)
    return float(token)


def _typed(tokens: list[str]) -> list[str] | list[int]:
    """Return the ids as ints where each is written as Python writes an int of int64 range, else as they are."""
    unique = set(tokens)
    if all(_CANONICAL_INT.fullmatch(token) and -(2**63) <= int(token) < 2**63 for token in unique):
        return list(map(int, tokens))
    return tokens
