"""Readers: every format by hand, round trips, malformed files with the line and token they name."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from c2f_ref.interactions import DataError, Interactions, read_folder, read_interactions


def read(name: str, content: str | bytes, **keywords: Any) -> Interactions:
    with TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return read_interactions(path, **keywords)


def raw_pairs_of(made: Interactions) -> list[tuple[Any, Any]]:
    users, items = made.user_ids[made.users], made.item_ids[made.items]
    return list(zip(users.tolist(), items.tolist(), strict=True))


def raw_pairs_in(name: str, content: str, **keywords: Any) -> list[tuple[Any, Any]]:
    return raw_pairs_of(read(name, content, **keywords))


def times_of(interactions: Interactions) -> list[float]:
    assert interactions.timestamps is not None
    return interactions.timestamps.tolist()


HEADERS = {
    "a.csv": b"user,item,rating\n",
    "a.tsv": b"user\titem\n",
    "a.inter": b"user_id:token\titem_id:token\n",
}

LONG = "9" * 5000

# By hand


def test_lightgcn_text() -> None:
    """User 1 has no items, 0 stands on two lines, (0, 4) is repeated; 3 and 7 set the counts."""
    made = read("train.txt", "0 4 2\n1\n3 7\n0 4\n2 \n")
    assert raw_pairs_of(made) == [(0, 2), (0, 4), (3, 7)]
    assert (made.n_users, made.n_items, made.n_duplicates) == (4, 8, 1)
    assert made.timestamps is None


def test_movielens_files() -> None:
    lines = "196\t242\t3\t881250949\n186\t302\t3\t891717742\n196\t302\t1\t881250950\n"
    made = read("u.data", lines)
    assert raw_pairs_of(made) == [(186, 302), (196, 242), (196, 302)]
    assert times_of(made) == [891717742, 881250949, 881250950]
    assert raw_pairs_in("u.data", lines, least_rating=2) == [(186, 302), (196, 242)]
    lines = "1::1193::5::978300760\n1::661::3::978302109\n2::661::4.5::978300275\n"
    assert raw_pairs_in("ratings.dat", lines, least_rating=4) == [(1, 1193), (2, 661)]
    lines = "userId,movieId,rating,timestamp\n1,31,2.5,1260759144\n1,1029,3.0,1260759179\n"
    made = read("ratings.csv", lines, least_rating=3)
    assert (raw_pairs_of(made), times_of(made)) == ([(1, 1029)], [1260759179])


def test_recbole_inter_takes_quotes_as_they_are() -> None:
    header = "user_id:token\titem_id:token\trating:float\ttag:token_seq\tlabel:float\n"
    text = header + '"u1\tx, y\t4\ta b\t1\nu2\tz\t2\t\t0\n'
    first = [('"u1', "x, y")]
    assert raw_pairs_in("ml.inter", text) == [*first, ("u2", "z")]
    assert raw_pairs_in("ml.inter", text, least_rating=3) == first
    assert raw_pairs_in("ml.inter", text, rating_column="label", least_rating=1) == first


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
        assert raw_pairs_in(name, text, format="csv", item_column="Item ID") == [(1, 2)]
    assert raw_pairs_in("x.log", "\n \nuser,item\n1,2\n", format="csv") == [(1, 2)]
    assert raw_pairs_in("x.tsv", "user\titem\ta,b,c,d\n1\t2\t3\n") == [(1, 2)]
    assert raw_pairs_in("list.csv", "0 1 2\n", format="lightgcn") == [(0, 1), (0, 2)]
    assert raw_pairs_in("part1.base", "1\t2\t3\t4\n", format="movielens") == [(1, 2)]
    assert raw_pairs_in("RATINGS.CSV", "userId,movieId\n1,2\n") == [(1, 2)]


def test_ids_are_integers_only_where_all_are_plain_decimal_integers() -> None:
    def ids_of(*tokens: str) -> list[Any]:
        lines = "".join(f"{token},x\n" for token in tokens)
        return read("ids.csv", f"user,item\n{lines}").user_ids.tolist()

    assert ids_of("7", "-7", "0") == [-7, 0, 7]
    assert ids_of(str(2**63 - 1), str(-(2**63))) == [-(2**63), 2**63 - 1]
    for token in ("07", "-0", "+8", "1_0", "\u0663", str(2**63), LONG, "8.0"):
        assert ids_of("7", token) == sorted(["7", token])


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
IDS = st.integers().map(str) | st.text(CHARACTERS, min_size=1).filter(lambda s: s == s.strip())
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
    made = read("a.txt", "\ufeff" * bom + end.join(lines))  # no end after the last line
    rows = [(user, item) for user, items in lists.items() for item in items]
    assert raw_pairs_of(made) == sorted(set(rows))
    assert made.n_duplicates == len(rows) - len(set(rows))
    assert made.n_users == max(lists, default=-1) + 1
    assert made.n_items == max((item for _, item in rows), default=-1) + 1


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
    if name in ("a.csv", "a.tsv"):
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
        ("u.data", "1\t2\t1e999\t4\n", 1, "1e999"),
        ("u.data", "1\t2\t\u0663\t4\n", 1, "\u0663"),
        ("ratings.dat", "1::2:3::4\n", 1, "4"),
        ("a.csv", CSV + "1,2,3,4\n1,2,3\n", 3, "3"),
        ("a.csv", CSV + "1,2,3,2020-01-01\n", 2, "2020-01-01"),
        ("a.csv", CSV + '\n"1"x,2,3,4\n', 3, '"1"x,2,3,4'),
        ("a.csv", CSV + '1,2,3,4\n1,"2,3,4\n1,2,3,4\n', 3, '1,"2,3,4'),
        ("a.csv", CSV + '"1\n1",2,3,4\n', 2, '"1'),
        ("a.csv", CSV.encode() + b"1,caf\xe9,3,4\n", 2, "\udce9"),
        ("a.csv", "\n user,product\n1,2\n", 2, "user, product"),
        ("a.csv", "user,item,Item_ID\n1,2,3\n", 1, "user, item, Item_ID"),
        ("a.inter", "user_id:token\titem_id:int\n", 1, "user_id, item_id:int"),
        ("a.inter", "user_id:token\tmovie:token\n", 1, "user_id, movie"),
        ("a.inter", INTER + "1\t2\tgood\t3\n", 2, "good"),
        ("a.inter", INTER + "\t2\t3\t4\n", 2, ""),
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
        ("a.xyz", "", {}, "expected a file whose name ends in .txt, .csv, .tsv, .data, .dat, .int"),
        ("a.csv", "", {"format": "xml"}, "format= one of lightgcn, csv, tsv, movielens, m"),
        ("a.csv", "", {"format": "xml"}, "recbole, got 'xml'"),
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
    assert str(caught.value.path).endswith(name)


def test_a_folder_is_refused_and_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected a file whose name ends in"):
        read_interactions(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_interactions(tmp_path / "none")


# Folders


def test_a_folder_has_one_id_space_and_its_training_pairs_win(tmp_path: Path) -> None:
    """Users 0..4, items 0..8 of both; (0, 1) is in both, (4, 2) twice in test: 2 pairs dropped."""
    (tmp_path / "train.txt").write_text("0 1 8\n2 3 3\n")
    (tmp_path / "test.txt").write_text("0 1 5\n4 2 2 3\n")
    train, held_out = read_folder(tmp_path)
    assert raw_pairs_of(train) == [(0, 1), (0, 8), (2, 3)]
    assert raw_pairs_of(held_out) == [(0, 5), (4, 2), (4, 3)]
    assert (train.n_users, train.n_items) == (held_out.n_users, held_out.n_items) == (5, 9)
    assert (train.n_duplicates, held_out.n_duplicates) == (1, 2)


def test_a_folder_names_the_file_that_is_malformed(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("0 1\n")
    (tmp_path / "test.txt").write_text("0 2\n1 b\n")
    with pytest.raises(DataError, match=r"test.txt, line 2: expected a position .*, got 'b'"):
        read_folder(tmp_path)
