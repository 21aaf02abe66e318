"""Read damaged files of every published layout, against an independent reader of a few lines.

    PYTHONPATH=. python tests/mutate_files.py [--files 2000] [--seed 0]

A damaged file either is a DataError with file and line or gives exactly the pairs that
`pairs_by_hand` finds in it. The suite does the same with fewer files.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import re
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np

from c2f_ref.interactions import DataError, read_interactions

ROWS = [
    (u, i, r, 880_000_000 + 1000 * u + i)
    for u, i, r in zip(
        (196, 186, 22, 196, 22, 7, 186, 7, 196),
        (242, 302, 377, 51, 302, 242, 51, 377, 302),
        (3, 3, 1, 2, 5, 4, 5, 2, 4),
        strict=True,
    )
]
USERS = {"user", "userid", "reviewerid"}
ITEMS = {"item", "itemid", "movieid", "artistid", "isbn", "asin", "parentasin"}


class Layout(NamedTuple):
    """A published layout: file name, what the reader is told, a line of each pair, the header."""

    name: str
    options: dict[str, Any]
    line: str
    header: str = ""
    separator: str = "\t"
    encoding: str = "utf-8"

    def content(self) -> bytes:
        """A small file: what a download has, with text for titles and ids where it has text."""
        lines = [self.line.format(u=u, i=i, r=r, t=t) for u, i, r, t in ROWS]
        if self.name.endswith(".txt"):
            lines = ["0 0 3 1", "1 2 0", "2 4 1 3 2", "3", "3 5 1"]
        text = "\n".join([self.header] * bool(self.header) + lines) + "\n"
        content = text.encode(self.encoding)
        return gzip.compress(content, mtime=0) if self.name.endswith(".gz") else content


JSON = '{{"overall": {r}.0, "reviewerID": "A{u}", "asin": "B00{i}", "unixReviewTime": {t}}}'
NEW_JSON = '{{"rating": {r}.0, "title": "é", "user_id": "A{u}", "asin": "B0{i}", "timestamp": {t}}}'
LAYOUTS = {
    "MovieLens csv": Layout(
        "ratings.csv", {}, "{u},{i},{r}.5,{t}", "userId,movieId,rating,timestamp", ","
    ),
    "MovieLens 100K": Layout("u.data", {}, "{u}\t{i}\t{r}\t{t}"),
    "MovieLens 100K, a fold": Layout("u1.base", {}, "{u}\t{i}\t{r}\t{t}"),
    "MovieLens 1M": Layout("ratings.dat", {}, "{u}::{i}::{r}::{t}", "", "::"),
    "Amazon csv": Layout(
        "Books.csv", {}, "A{u},B00{i},{r}.0,{t}000", "user_id,parent_asin,rating,timestamp", ","
    ),
    "Amazon csv without a header": Layout(
        "ratings_Books.csv", {"header": False}, "A{u},B00{i},{r}.0,{t}", "", ","
    ),
    "Amazon json, compressed": Layout("reviews_Books_5.json.gz", {}, JSON),
    "Amazon jsonl": Layout("Books.jsonl", {}, NEW_JSON),
    "Book-Crossing": Layout(
        "BX-Book-Ratings.csv",
        {"encoding": "latin-1"},
        '"{u}";"03{i}é";"{r}"',
        '"User-ID";"ISBN";"Book-Rating"',
        ";",
        "latin-1",
    ),
    "HetRec": Layout("user_artists.dat", {}, "{u}\t{i}\t{r}", "userID\tartistID\tweight"),
    "RecBole": Layout(
        "ml.inter", {}, "{u}\t{i}\t{r}\t{t}", "user_id:token\titem_id:token\trating:float\ta:float"
    ),
    "NCF": Layout("ml-1m.train.rating", {}, "{u}\t{i}\t{r}\t{t}"),
    "LightGCN": Layout("train.txt", {}, "", "", " "),
}


def pairs_by_hand(content: bytes, layout: Layout) -> set[tuple[str, str]]:
    """Raw ids of the pairs of a file. Errors: any, where there is no saying what they are."""
    content = gzip.decompress(content) if layout.name.endswith(".gz") else content
    text = content.decode(layout.encoding).removeprefix("\ufeff").replace("\r\n", "\n")
    lines = [line.rstrip(" ") for line in text.split("\n") if line.rstrip(" ")]
    if layout.name.endswith(".txt"):
        rows = [line.split() for line in lines]
        return {(str(int(row[0])), str(int(item))) for row in rows for item in row[1:]}
    if "json" in layout.name:
        objects = [json.loads(line) for line in lines]
        columns = [next(k for k in objects[0] if k.lower().replace("_", "") in n) for n in NAMES]
        rows = [[json_text(one.get(key)) for key in columns] for one in objects]
        places = [0, 1]
    else:
        quoted = layout.separator in (",", ";")
        rows = [
            next(csv.reader([line], delimiter=layout.separator, strict=True, skipinitialspace=True))
            if quoted and '"' in line
            else line.split(layout.separator)
            for line in lines
        ]
        places = [0, 1]
        if layout.header:
            names = [re.sub(" *:(token|float)(_seq)?$", "", n.strip()) for n in rows.pop(0)]
            names = [n.lower().replace("_", "").replace("-", "") for n in names]
            places = [next(p for p, n in enumerate(names) if n in known) for known in NAMES]
        if len({len(row) for row in rows} | ({len(names)} if layout.header else set())) > 1:
            raise ValueError("rows of different lengths")
    pairs = [(row[places[0]].strip(), row[places[1]].strip()) for row in rows]
    missing = {"", "NaN", "nan", "NULL", "null", "\\N"}
    return {pair for pair in pairs if not missing & set(pair)}


NAMES = (USERS, ITEMS)


def json_text(value: Any) -> str:
    """A value of an object as text."""
    return value if isinstance(value, str) else "" if value is None else json.dumps(value)


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """One to three changes: of a byte, of a run of bytes, of a line, of the end."""
    if content.startswith(b"\x1f\x8b") and rng.random() < 0.7:
        return gzip.compress(damaged(gzip.decompress(content), rng), mtime=0)
    for _ in range(int(rng.integers(1, 4))):
        at, to = sorted(rng.integers(0, len(content) + 1, 2).tolist())
        run = content[at : min(to, at + 9)]
        new = bytes([rng.choice(list(b'\t ,;:"\r\n\0\xe9\xff0179.-{}[]anNULuserid\\\xef\xbb\xbf'))])
        kind = int(rng.integers(6))
        if kind == 0:
            content = content[:at] + new + content[at + 1 :]
        elif kind == 1:
            content = content[:at] + new + content[at:]
        elif kind == 2:
            content = content[:at] + content[at + len(run) :]
        elif kind == 3:
            content = content[:to] + run + content[to:]
        elif kind == 4:
            lines = content.split(b"\n")
            one, other = rng.integers(0, len(lines), 2).tolist()
            lines[one] = lines[other] if rng.random() < 0.5 else lines[one] + lines[other]
            content = b"\n".join(lines)
        else:
            content = content[:to] if rng.random() < 0.3 else content.replace(b"\n", b"\r\n")
    return content


def check(layout: Layout, content: bytes, folder: Path) -> bool:
    """Whether a file is read; AssertionError where it is read wrong or refused without a place."""
    path = folder / layout.name
    path.write_bytes(content)
    try:
        made = read_interactions(path, **layout.options)
    except DataError as error:
        if (error.path, type(error.line)) != (path, int):
            raise AssertionError(f"{content!r}: {error}") from error
        return False
    users, items = made.user_ids[made.users].tolist(), made.item_ids[made.items].tolist()
    found = {(str(user), str(item)) for user, item in zip(users, items, strict=True)}
    assert found == pairs_by_hand(content, layout), content
    assert len(found) == made.n_pairs
    return True


def main() -> None:
    """Check many damaged files of each layout and count those that are read."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for name, layout in LAYOUTS.items():
        rng, whole = np.random.default_rng(options.seed), layout.content()
        with TemporaryDirectory() as folder:
            n_read = sum(
                check(layout, damaged(whole, rng), Path(folder)) for _ in range(options.files)
            )
        print(f"{name}: {options.files} damaged files, {n_read} read, the others refused")


if __name__ == "__main__":
    sys.exit(main())
