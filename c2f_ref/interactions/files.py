"""Read the files that interaction data comes in.

    format         suffixes                      one line of it
    "lightgcn"     .txt                          user item item ...: positions from 0; a user may
                                                 have no items, or several lines
    "pairs"        none                          user, item, perhaps rating and timestamp, between
                                                 them `::`, tab, `,`, `;` or blanks; no header
    "csv"          .csv                          header with names; `,`, `;` or tab; quotes
    "tsv"          .tsv, .dat of HetRec          header with names; tabs, no quotes
    "movielens"    .data, .base, .test, .rating  user TAB item TAB rating TAB timestamp
    "movielens-1m" .dat                          user::item::rating::timestamp
    "recbole"      .inter                        header of name:type fields; tabs
    "jsonl"        .jsonl, .json                 an object, with names as in a header

Of several separators the first line decides: the one it has most of. Any file may be compressed,
`.gz`. Lines end in LF or CRLF. A byte order mark, blank lines, blanks around a field and a missing
last line end mean nothing. Anything else that is out of order is a DataError with file, line and
token.
"""

from __future__ import annotations

import re
from array import array
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import fields, replace
from itertools import count
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from .arrays import Columns
from .pairs import MISSING, Array, DataError, Interactions, Places
from .tables import FORMATS, FileOptions, Table, lines_of

__all__ = ["FORMATS", "FileOptions", "read_folder", "read_interactions"]


OTHERWISE = "format='pairs' reads ids, format='lightgcn' positions"

# At most 8 digits, because counts, and so memory, follow from the largest position.
_POSITIONS = re.compile(r"[ \t]*(?:[0-9]{1,8}(?:[ \t]+|\Z))*")
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,18}")
_DECIMAL = re.compile(r"-?[0-9]+\.0*")


def read_interactions(path: str | PathLike[str], **options: Any) -> Interactions:
    """Read one file of pairs; `options` are the fields of `FileOptions`.

    Without a header, two to four columns are user, item, rating and timestamp; where an option
    names a column by its number, they are "1", "2", ... A column that nothing asks for is not read.
    Ids are int64 where every id of the column is a plain decimal integer, such as 7 and -7 but not
    007; else all are text. Pairs without an id (`pairs.MISSING`) are dropped, and ids seen in no
    other pair with them. What is dropped is counted.
    Edge: a `.txt` whose lines all have three or four fields, or whose numbers are not positions
    from 0, is refused unless `format` says what it is. Items that no line names are left out.
    Errors: DataError for a malformed file, an unknown format, and a column or rating that is asked
    for and missing; OSError where the file cannot be read.
    """
    return _read([Path(path)], FileOptions(**options))[0]


def read_folder(path: str | PathLike[str], **options: Any) -> tuple[Interactions, ...]:
    """Read train, test and perhaps valid, all .txt in LightGCN text or all .csv, on shared ids.

    Returns (train, held_out) or (train, valid, test); `options` as in `read_interactions`.
    Edge: a pair in two files belongs to the first alone and is counted as repeated in the other.
    Errors: as `read_interactions`.
    """
    suffix = ".csv" if Path(path, "train.csv").exists() else ".txt"
    files = [Path(path, f"{name}{suffix}") for name in ("train", "valid", "test")]
    parts = _read([p for p in files if p != files[1] or p.exists()], FileOptions(**options))
    for side in ("user", "item"):
        ids = np.unique(np.concatenate([getattr(part, f"{side}_ids") for part in parts]))
        for p, part in enumerate(parts):
            places = np.searchsorted(ids, getattr(part, f"{side}_ids"))
            on_ids: Any = {f"n_{side}s": len(ids), f"{side}_ids": ids}
            on_ids[f"{side}s"] = places[getattr(part, f"{side}s")]
            parts[p] = replace(part, **on_ids)
    seen = parts[0].pair_keys
    for p, part in enumerate(parts[1:], 1):
        known = np.isin(part.pair_keys, seen)
        dropped = {**part.dropped, "repeated": part.n_duplicates + int(known.sum())}
        seen = np.concatenate([seen, part.pair_keys])
        parts[p] = part.select(~known, dropped=dropped, source=part.source, unused=part.unused)
    return tuple(parts)


def _read(paths: Sequence[Path], options: FileOptions) -> list[Interactions]:
    """Read the files of one data set, each on the ids that it has."""
    kinds = [_format_of(path, options) for path in paths]
    if kinds[0] == "lightgcn":
        return _read_lightgcn(paths, options)
    known = {side: defaultdict[bytes, int](count().__next__) for side in ("user", "item")}
    tables = [Table(*one, options, known) for one in zip(paths, kinds, strict=True)]
    sides_of = {side: _ids_of(side, tables) for side in known}
    made = []
    for table in tables:
        columns = table.columns
        sides = (Places(ids, places[columns[side]]) for side, (ids, places) in sides_of.items())
        about: Any = {"source": f"{len(columns['user']):,} lines of {table.path.name}"}
        about |= {"ratings": columns.get("rating"), "timestamps": columns.get("timestamp")}
        about |= {"unused": table.unused, "least_rating": options.least_rating}
        made.append(Interactions.from_pairs(*sides, **about))
    return made


def _format_of(path: Path, options: FileOptions) -> str:
    """The format asked for, or the one that the extension and, for .dat, the first line say."""
    path.stat()  # OSError where there is none
    guesses = {suffix: kind for kind, form in FORMATS.items() for suffix in form[0]}
    kind = options.format or guesses.get(Path(path.name.removesuffix(".gz")).suffix.lower())
    if kind not in FORMATS:
        expected = f"expected a file whose name ends in {', '.join(guesses)}, or format= one of"
        raise DataError(f"{expected} {', '.join(FORMATS)}, got {options.format!r}", path)
    if kind == "movielens-1m" and not options.format:
        _, first = next(lines_of(path, options.encoding), (1, ""))
        return "tsv" if "\t" in first and "::" not in first else kind
    return kind


def _read_lightgcn(paths: Sequence[Path], options: FileOptions) -> list[Interactions]:
    """Read LightGCN text: users up to the largest, and the items that a line of the file names.

    Errors: DataError where nobody said that it is LightGCN text and it may be something else.
    """
    if options.separator or any(getattr(options, f.name) is not None for f in fields(Columns)):
        text = "format 'lightgcn' has neither named columns nor ratings"
        raise DataError(f"{text}; {OTHERWISE}", paths[0])
    made, widths, first = [], set[int](), (paths[0], 1, "")
    for path in paths:
        numbers, n_of_line = array("q"), list[int]()  # a list would keep an object for each pair
        for number, line in lines_of(path, options.encoding):
            if not _POSITIONS.fullmatch(line):
                token = re.split(r"[ \t]", _POSITIONS.sub("", line, count=1))[0]
                expected = f"expected a position of at most 8 digits; {OTHERWISE}"
                raise DataError(expected, path, number, token)
            if positions := list(map(int, line.split())):
                first = first if widths else (path, number, line)
                widths.add(len(positions))
                n_of_line.append(len(positions))
                numbers.extend(positions)
        n = np.array(n_of_line, np.int64)
        of_lines, starts = np.array(numbers), np.cumsum(n) - n
        users, n_users = of_lines[starts], int(of_lines[starts].max(initial=-1)) + 1
        ids, items = np.unique(np.delete(of_lines, starts), return_inverse=True)
        about: Any = {"item_ids": ids, "source": f"{len(n):,} lines of {path.name}"}
        made.append(Interactions(np.repeat(users, n - 1), items, n_users, len(ids), **about))
    looks = [f"all lines have {n} fields" for n in (3, 4) if widths == {n}]
    for side in ("user", "item"):
        named = [getattr(part, f"{side}_ids")[getattr(part, f"{side}s")] for part in made]
        ids = np.unique(np.concatenate(named))
        if ids.size and (ids[0] > 0 or 2 * ids.size <= ids[-1]):
            looks.append(f"{ids.size} {side}s have numbers from {ids[0]} to {ids[-1]}")
    if looks and not options.format:
        raise DataError(f"this may not be LightGCN text: {looks[0]}; {OTHERWISE}", *first)
    return made


def _ids_of(side: str, tables: Sequence[Table]) -> tuple[Array, Array]:
    """The sorted ids of one side, and the place there of each numbered token, -1 for missing ones.

    Integers if each is written as Python writes one of int64 range, else text.
    Errors: DataError for integers and decimals in one column.
    """
    texts = [token.decode().strip() for token in tables[0].known[side]]
    tokens = [text for text in texts if text not in MISSING]
    wholes = [one for one in tokens if _INTEGER.fullmatch(one) and -(2**63) <= int(one) < 2**63]
    is_whole = len(wholes) == len(tokens)
    for decimal in filter(_DECIMAL.fullmatch, tokens if wholes and not is_whole else ()):
        text = f"expected integers without a point, as other {side} ids"
        for table in tables:
            if line := table.line_of(side, decimal):
                raise DataError(text, table.path, line, decimal)
    raw = np.array([*map(int, tokens)], np.int64) if is_whole else np.array(tokens)
    ids, found = np.unique(raw, return_inverse=True)
    place = dict(zip(tokens, found.tolist(), strict=True))
    return ids, np.array([place.get(text, -1) for text in texts], np.int32)
