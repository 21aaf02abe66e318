"""Readers: every format by hand, round trips, malformed files with the line and token they name."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.pairs import raw_pairs_of, times_of

from c2f_ref.interactions import (
    DataError,
    Interactions,
    read_folder,
    read_interactions,
    read_split,
    tables,
)
from c2f_ref.interactions.pairs import MISSING


def read(name: str, content: str | bytes, **keywords: Any) -> Interactions:
    with TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return read_interactions(path, **keywords)


def raw_pairs_in(name: str, content: str, **keywords: Any) -> list[tuple[Any, Any]]:
    return raw_pairs_of(read(name, content, **keywords))


HEADERS = {
    "a.csv": b"user,item,rating\n",
    "a.tsv": b"user\titem\n",
    "a.inter": b"user_id:token\titem_id:token\n",
}

LONG = "9" * 5000

# By hand


def test_lightgcn_text() -> None:
    """User 1 has no items, 0 stands on two lines, (0, 2) is repeated; nobody names item 3."""
    made = read("train.txt", "0 0 2\n1\n3 4\n0 2\n2 \n")
    assert raw_pairs_of(made) == [(0, 0), (0, 2), (3, 4)]
    assert (made.n_users, made.item_ids.tolist(), made.dropped) == (4, [0, 2, 4], {"repeated": 1})
    assert made.timestamps is None
    line = "5 lines of train.txt read: 3 pairs of 4 users and 3 items; dropped: 1 repeated"
    assert made.describe() == line


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("1 100 4\n1 200 5\n2 100 1\n", "all lines have 3 fields"),
        ("0 1 5 881\n0 0 3 882\n", "all lines have 4 fields"),
        ("1 2\n2 1\n1 3 4\n", "2 users have numbers from 1 to 2"),
        ("0 1 2 3\n1 2\n", "3 items have numbers from 1 to 3"),
        ("0 0\n1 7\n", "2 items have numbers from 0 to 7"),
    ],
)
def test_a_txt_that_may_not_be_lightgcn_is_believed_only_when_it_is_said(
    content: str, why: str
) -> None:
    with pytest.raises(DataError, match=f"{why}; format='pairs' reads ids") as caught:
        read("ratings.txt", content)
    assert (caught.value.line, caught.value.token) == (1, content.split("\n")[0])
    assert read("ratings.txt", content, format="lightgcn").n_pairs > 0
    lines = [line.split() for line in content.splitlines()]
    if len({len(line) for line in lines}) == 1:
        pairs = {(int(line[0]), int(line[1])) for line in lines}
        assert set(raw_pairs_in("ratings.txt", content, format="pairs")) == pairs


def test_recbole_inter_takes_quotes_as_they_are() -> None:
    header = "user_id:token\titem_id:token\trating:float\ttag:token_seq\tlabel:float\n"
    text = header + '"u1\tx, y\t4\ta b\t1\nu2\tz\t2\t\t0\n'
    first = [('"u1', "x, y")]
    assert raw_pairs_in("ml.inter", text) == [*first, ("u2", "z")]
    assert raw_pairs_in("ml.inter", text, least_rating=3) == first
    assert raw_pairs_in("ml.inter", text, rating_column="label", least_rating=1) == first
    assert read("ml.inter", text).unused == ("rating", "tag", "label")


def test_named_columns_in_any_order_and_quoted_fields() -> None:
    text = 'when,"what, really",who,"score"\n3,"a ""b"", c",ann,1\n2, "two, too", bob ,5\n'
    columns = {"user_column": "who", "item_column": "what, really"}
    columns |= {"timestamp_column": "when", "rating_column": "score"}
    made = read("any.csv", text, **columns)
    assert raw_pairs_of(made) == [("ann", 'a "b", c'), ("bob", "two, too")]
    assert times_of(made) == [3, 2]
    assert raw_pairs_in("any.csv", text, **columns, least_rating=5) == [("bob", "two, too")]


def test_the_name_or_format_and_then_the_header_decide() -> None:
    text = 'User\tItem ID\tnote\n1\t"2"\ta,b\n'
    for name in ("x.tsv", "x.csv", "x.log"):
        assert raw_pairs_in(name, text, format="csv", item_column="Item ID") == [(1, '"2"')]
    assert raw_pairs_in("x.log", "\n \nuser,item\n1,2\n", format="csv") == [(1, 2)]
    assert raw_pairs_in("x.tsv", "user\titem\ta,b,c,d\n1\t2\t3\n") == [(1, 2)]
    assert raw_pairs_in("list.csv", "0 1 2\n", format="lightgcn") == [(0, 1), (0, 2)]
    assert raw_pairs_in("part1.base", "1\t2\t3\t4\n", format="movielens") == [(1, 2)]
    assert raw_pairs_in("ratings.dat", "1::a\tb::5::9\n") == [(1, "a\tb")]
    assert raw_pairs_in("RATINGS.CSV", "userId,movieId\n1,2\n") == [(1, 2)]


def test_ids_are_integers_only_where_all_are_plain_decimal_integers() -> None:
    def ids_of(*tokens: str) -> list[Any]:
        lines = "".join(f"{token},x\n" for token in tokens)
        return read("ids.csv", f"user,item\n{lines}").user_ids.tolist()

    assert ids_of("7", "-7", "0") == [-7, 0, 7]
    assert ids_of(str(2**63 - 1), str(-(2**63))) == [-(2**63), 2**63 - 1]
    for token in ("07", "-0", "+8", "1_0", "\u0663", str(2**63), LONG, "8.5"):
        assert ids_of("7", token) == sorted(["7", token])
    assert ids_of("7.0", "8.0") == ["7.0", "8.0"]
    for tokens in (("x", "7", "8.0"), ("8.0", "7", "x")):
        with pytest.raises(DataError, match="without a point, as other user ids") as caught:
            ids_of(*tokens)
        assert (caught.value.line, caught.value.token) == (tokens.index("8.0") + 2, "8.0")


def test_pairs_without_an_id_are_dropped_and_counted() -> None:
    lines = "user,item\n1,2\n,3\nNaN,3\nNULL,3\n\\N,3\n4,\n , \n1,2\n"
    made = read("a.csv", lines)
    assert raw_pairs_of(made) == [(1, 2)]
    assert made.dropped == {"without an id": 6, "repeated": 1}
    made = read("a.csv", "user,item,rating,x\n1,2,5,\n1,3,1,\n,4,5,\n", least_rating=4)
    assert made.describe() == (
        "3 lines of a.csv read: 1 pairs of 1 users and 1 items; "
        "dropped: 1 without an id, 1 rated below 4; columns not used: x"
    )


@pytest.mark.parametrize("content", [b"", b"\n", b"\xef\xbb\xbf", b"  \r\n\r\n"])
def test_a_file_without_lines_is_empty_or_lacks_its_header(content: bytes) -> None:
    for name in ("a.txt", "u.data", "ratings.dat"):
        assert read(name, content).n_entities == 0
    for name, header in HEADERS.items():
        assert read(name, header + content.replace(b"\xef\xbb\xbf", b"")).n_entities == 0
        with pytest.raises(DataError, match="line 1: expected one user column"):
            read(name, content)


# Round trips

POSITION_LISTS = st.dictionaries(st.integers(0, 40), st.lists(st.integers(0, 60)))
CHARACTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\0\r\n\t")
IDS = st.integers().map(str) | st.text(CHARACTERS, min_size=1).filter(
    lambda s: s == s.strip() and s not in MISSING and not re.fullmatch(r"-?\d+\.0*", s)
)
REAL = st.floats(allow_nan=False, allow_infinity=False)
CSV = "item,user_id,rating,timestamp\n"
INTER = "item_id:token\tuser_id:token\trating:float\ttimestamp:float\n"
MADE = {
    "a.csv": (",", CSV),
    "a.tsv": ("\t", CSV.replace(",", "\t")),
    "a.data": ("\t", ""),
    "a.dat": ("::", ""),
    "a.inter": ("\t", INTER),
}


@given(
    POSITION_LISTS,
    st.sampled_from(["\n", "\r\n", " \n", "\t\r\n", "\n\n \n"]),
    st.sampled_from([" ", "\t", "  "]),
    st.booleans(),
)
def test_lightgcn_text_comes_back(
    lists: dict[int, list[int]], end: str, blank: str, bom: bool
) -> None:
    lines = [blank.join(map(str, [user, *items])) for user, items in lists.items()]
    text = "\ufeff" * bom + end.join(lines)  # no end after the last line
    made = read("a.txt", text, format="lightgcn")
    rows = [(user, item) for user, items in lists.items() for item in items]
    assert raw_pairs_of(made) == sorted(set(rows))
    assert made.n_duplicates == len(rows) - len(set(rows))
    assert made.n_users == max(lists, default=-1) + 1
    assert made.item_ids.tolist() == sorted({item for _, item in rows})


@given(
    st.lists(st.tuples(IDS, IDS, REAL, st.integers(0, 2**40))),
    st.sampled_from(list(MADE)),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
)
def test_tables_come_back(
    rows: list[tuple[str, str, float, int]], name: str, end: str, bom: bool
) -> None:
    """Text of any characters where there are quotes, else in hexadecimal."""
    text, (separator, header) = io.StringIO(), MADE[name]
    if name == "a.csv":
        csv.writer(text, delimiter=separator, lineterminator=end).writerows(rows)
    else:
        rows = [(a.encode().hex(), b.encode().hex(), *numbers) for a, b, *numbers in rows]
        text.write("".join(separator.join(map(str, row)) + end for row in rows))
    least = min((rating for _, _, rating, _ in rows), default=0.0) + 1.0
    for keywords in ({}, {"least_rating": least}):
        made = read(name, "\ufeff" * bom + header + text.getvalue(), **keywords)
        earliest: dict[tuple[str, str], int] = {}
        for first, second, rating, at in rows:
            if rating >= least or not keywords:
                pair = (second, first) if header else (first, second)
                earliest[pair] = min(at, earliest.get(pair, at))
        found = [(str(user), str(item)) for user, item in raw_pairs_of(made)]
        assert dict(zip(found, times_of(made), strict=True)) == earliest
        assert len(found) == len(earliest)


@given(
    st.binary() | st.text('019 \t,:"\r\n-.ex\ufeff').map(str.encode),
    st.sampled_from(["a.txt", "u.data", "ratings.dat", *HEADERS]),
    st.booleans(),
)
def test_any_bytes_give_interactions_or_a_data_error(
    content: bytes, name: str, with_header: bool
) -> None:
    error = None
    try:
        read(name, HEADERS.get(name, b"") * with_header + content)
    except DataError as caught:
        error = caught
    assert error is None or None not in (error.path, error.line, error.token)


# Malformed


@pytest.mark.parametrize(
    ("name", "content", "line", "token"),
    [
        ("a.txt", "0 1 2\n\n1 -3\n", 3, "-3"),
        ("a.txt", "0 \u0663\n", 1, "\u0663"),
        ("a.txt", "0 1\u00a02\n", 1, "1\u00a02"),
        ("a.txt", "0\t1,2\t3\n", 1, "1,2"),
        ("a.txt", "0 1\r\n1 2\r\r\n", 2, "\r"),
        ("a.txt", "0 1 \n1 123456789", 2, "123456789"),
        ("a.txt", f"0 {LONG}", 1, LONG),
        ("a.txt", "0 1\n1 2\0\n", 2, "\0"),
        ("a.txt", b"0 1\n1 2\xff3\n", 2, "\udcff"),
        ("a.txt", "\ufeff0 1\n\ufeff1 2\n", 2, "\ufeff1"),
        ("u.data", "1\t2\t3\t4\n1\t2\t3\n", 2, "3"),
        ("u.data", "1\t2\t3\t4\t5\n", 1, "5"),
        ("u.data", "1\t2\t3\tnan\n", 1, "nan"),
        ("u.data", "1\t2\tx\t1e999\n", 1, "1e999"),
        ("u.data", "1\t2\tx\t\u0663\n", 1, "\u0663"),
        ("u.data", "user_id\titem_id\trating\ttime\n", 1, "user_id\titem_id\trating\ttime"),
        ("ratings.dat", "1::2::3::4\n1::2:3::4\n", 2, "4"),
        ("a.csv", "196,242,3,881\n", 1, "196, 242, 3, 881"),
        ("a.jsonl", '{"user": 1, "item": 2}\n{"user": 1, "item": 2\n', 2, '{"user": 1, "item": 2'),
        ("a.jsonl", '{"user": 1, "item": [2]}\n', 1, '{"user": 1, "item": [2]}'),
        ("a.jsonl", '{"user": 1, "item": "a\\nb"}\n', 1, '{"user": 1, "item": "a\\nb"}'),
        ("a.jsonl", '{"user": 1, "asin": 2, "parent_asin": 3}\n', 1, "user, asin, parent_asin"),
        ("a.csv", CSV + "1,2,3,4\n1,2,3\n", 3, "3"),
        ("a.csv", CSV + "1,2,3,2020-01-01\n", 2, "2020-01-01"),
        ("a.csv", CSV + "1,2,3,4\n1,2,3,\n", 3, ""),
        ("a.csv", CSV + "1,2,3,1_0\n", 2, "1_0"),
        ("a.csv", CSV + "1,2\r,3,4\n", 2, "\r"),
        ("a.csv", CSV + '\n"1"x,2,3,4\n', 3, '"1"x,2,3,4'),
        ("a.csv", CSV + '1,2,3,4\n1,"2,3,4\n1,2,3,4\n', 3, '1,"2,3,4'),
        ("a.csv", CSV + '"1\n1",2,3,4\n', 2, '"1'),
        ("a.csv", CSV.encode() + b"1,caf\xe9,3,4\n", 2, "\udce9"),
        ("a.csv", "\n user,product\n1,2\n", 2, "user, product"),
        ("a.csv", "user,item,Item_ID\n1,2,3\n", 1, "user, item, Item_ID"),
        ("a.inter", "user_id:token\titem_id:int\n", 1, "user_id, item_id:int"),
        ("a.inter", "user_id:token\tmovie:token\n", 1, "user_id, movie"),
        ("a.inter", INTER + "1\t2\tgood\tlate\n", 2, "late"),
    ],
)
def test_a_malformed_file_is_named_with_its_line_and_token(
    tmp_path: Path, name: str, content: str | bytes, line: int, token: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(DataError) as caught:
        read_interactions(path)
    assert (caught.value.path, caught.value.line, caught.value.token) == (path, line, token)
    assert str(caught.value).startswith(f"{path}, line {line}: ")
    assert str(caught.value).endswith(f", got {token[:80]!r}")


NAMED = "expected one user column named"


@pytest.mark.parametrize(
    ("name", "content", "keywords", "message"),
    [
        ("a.xyz", "", {}, "expected a file whose name ends in .txt, .csv, .tsv, .data, .base, "),
        ("a.csv", "", {"format": "xml"}, "format= one of lightgcn, pairs, csv, tsv, movielens, m"),
        ("a.csv", "", {"format": "xml"}, "recbole, jsonl, got 'xml'"),
        ("a.csv", "", {"encoding": "utf-16"}, "encoding must be one that extends ASCII, got 'utf-"),
        ("a.csv", "", {"encoding": "klingon"}, "encoding must be one that extends ASCII, got 'kl"),
        ("a.csv", "", {"separator": ""}, "separator must be text without quotes and line ends"),
        ("a.txt", "1 2 3 4 5\n", {"format": "pairs"}, "timestamp, found 5 fields; user_column='1'"),
        (
            "a.csv",
            "user,item\n",
            {"rating_column": "r", "least_rating": 3},
            "rating column named 'r'",
        ),
        ("a.txt", "0 1\n", {"least_rating": 3}, "'lightgcn' has neither named columns nor ratings"),
        ("a.txt", "0 1\n", {"item_column": "x"}, "'lightgcn' has neither named columns nor rating"),
        ("u.data", "", {"rating_column": "x"}, "column named 'x', got 'user, item, rating, timest"),
        ("a.csv", "user,item\n", {"least_rating": 3}, "expected one rating column of a usual name"),
        ("a.csv", "user,thing\n", {}, "one item column of a usual name; item_column= names it"),
        ("a.csv", "user,item\n", {"user_column": "item"}, "expected one item column of a usual na"),
        ("a.csv", "user,item\n", {"user_column": "who"}, f"{NAMED} 'who', got 'user, item'"),
        ("a.csv", "user,item\n", {"rating_column": "r"}, "one rating column named 'r', got 'user"),
    ],
)
def test_what_a_file_cannot_give_is_refused(
    name: str, content: str, keywords: Any, message: str
) -> None:
    with pytest.raises(DataError) as caught:
        read(name, content, **keywords)
    assert message in str(caught.value)


def test_a_folder_is_refused_and_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected a file whose name ends in"):
        read_interactions(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_interactions(tmp_path / "none")


# Folders


def test_a_folder_has_one_id_space_and_its_training_pairs_win(tmp_path: Path) -> None:
    """Users 0..4, items 0..5 of both; (0, 1) is in both, (4, 2) twice in test: 2 pairs dropped."""
    (tmp_path / "train.txt").write_text("0 1 0\n2 3 3\n1 4 5 6\n")
    (tmp_path / "test.txt").write_text("0 1 5\n4 2 2 3\n")
    train, held_out = read_folder(tmp_path)
    assert raw_pairs_of(train) == [(0, 0), (0, 1), (1, 4), (1, 5), (1, 6), (2, 3)]
    assert raw_pairs_of(held_out) == [(0, 5), (4, 2), (4, 3)]
    assert (train.n_users, train.n_items) == (held_out.n_users, held_out.n_items) == (5, 7)
    assert (train.n_duplicates, held_out.n_duplicates) == (1, 2)


@pytest.mark.parametrize("suffix", [".txt", ".csv"])
def test_a_folder_may_have_validation_pairs(tmp_path: Path, suffix: str) -> None:
    """(0, 1) is in train and valid, (1, 2) in valid and test; only held-out files name item 3."""
    parts = {"train": [(0, 1), (1, 0)], "valid": [(0, 1), (1, 2)], "test": [(1, 2), (0, 3)]}
    for name, pairs in parts.items():
        mark = " " if suffix == ".txt" else ","
        lines = "user,item\n" * (suffix == ".csv") + "".join(f"{u}{mark}{i}\n" for u, i in pairs)
        (tmp_path / f"{name}{suffix}").write_text(lines)
    split = read_split(tmp_path)
    found = [raw_pairs_of(part) for part in (split.train, split.valid, split.test)]
    assert found == [[(0, 1), (1, 0)], [(1, 2)], [(0, 3)]]
    assert [part.dropped.get("repeated", 0) for part in (split.valid, split.test)] == [1, 1]
    assert f"2 lines of valid{suffix} read: 1 pairs of 2 users and 4 items" in split.source
    assert split.source.endswith("only held-out files name 0 users and 2 items")
    with pytest.raises(DataError, match="divide one file"):
        read_split(tmp_path, split_by="time")


def test_a_folder_names_the_file_that_is_malformed(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("0 1\n")
    (tmp_path / "test.txt").write_text("0 2\n1 b\n")
    with pytest.raises(DataError, match=r"test.txt, line 2: expected a position .*, got 'b'"):
        read_folder(tmp_path)


# Blocks: what NumPy reads and what is read line by line must not differ


@given(
    st.lists(
        st.tuples(
            st.text("019aZ -_'é\\N", max_size=3) | st.just("x" * 99),
            st.text("019aZ -_\"'é\\N", max_size=12),
            REAL | st.just(7) | st.integers(0, 10**19),
        ),
        max_size=30,
    ),
    st.sampled_from([1, 40, 1000]),
    st.integers(0, 3),
)
def test_blocks_of_any_size_give_what_lines_give(
    rows: list[tuple[str, str, float]], size: int, zeros: int
) -> None:
    lines = [f"{u};{i};{'0' * zeros}{t}" for u, i, t in rows]
    content = "\n".join(["item;user;timestamp", *lines])

    def outcome(separator: str) -> Any:
        try:
            made = read("a.csv", content.replace(";", separator), separator=separator)
        except DataError as error:
            return error.line
        return made.sha256(), made.dropped, times_of(made)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "BLOCK", size)
        by_numpy = outcome("\t")
    assert by_numpy == outcome("::")  # which no NumPy code reads


@pytest.mark.parametrize("n_digits", [1, 8, 15, 16, 18])
def test_whole_numbers_are_those_that_float_reads(n_digits: int) -> None:
    """Up to 15 digits are added up one by one; an id of 99 bytes sends all lines the slow way."""
    drawn = np.random.default_rng(0).integers(10 ** (n_digits - 1), 10**n_digits, 200)
    tokens = ["7", "07", *map(str, drawn.tolist())]
    names = ["x" * (99 if n_digits == 8 else 9), *map(str, range(100, 301))]
    lines = "".join(f"a,{i},{t}\n" for i, t in zip(names, tokens, strict=True))
    made = read("a.csv", "user,item,timestamp\n" + lines)
    found = dict(zip(made.item_ids[made.items].tolist(), times_of(made), strict=True))
    assert found == dict(zip(names, map(float, tokens), strict=True))
