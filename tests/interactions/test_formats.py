"""Readers: every format by hand, round trips, and malformed files with the line and token they must name."""

from __future__ import annotations

import csv
import io
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from c2f_ref.interactions import DataError, Interactions, read_folder, read_interactions


def read(name: str, content: str | bytes, **keywords: Any) -> Interactions:
    with TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return read_interactions(path, **keywords)


def raw_pairs_of(interactions: Interactions) -> list[tuple[Any, Any]]:
    users, items = interactions.user_ids[interactions.users], interactions.item_ids[interactions.items]
    return list(zip(users.tolist(), items.tolist(), strict=True))


def times_of(interactions: Interactions) -> list[float]:
    assert interactions.timestamps is not None
    return [float(at) for at in interactions.timestamps]


# By hand


def test_lightgcn_text() -> None:
    """User 1 has no items, user 0 stands on two lines, (0, 4) is given twice; user 3 and item 7 set the counts."""
    made = read("train.txt", "0 4 2\n1\n3 7\n0 4\n2 \n")
    assert raw_pairs_of(made) == [(0, 2), (0, 4), (3, 7)]
    assert (made.n_users, made.n_items, made.n_duplicates) == (4, 8, 1)
    assert made.timestamps is None


def test_u_data() -> None:
    made = read("u.data", "196\t242\t3\t881250949\n186\t302\t3\t891717742\n196\t302\t1\t881250950\n")
    assert raw_pairs_of(made) == [(186, 302), (196, 242), (196, 302)]
    assert times_of(made) == [891717742, 881250949, 881250950]


def test_ratings_dat() -> None:
    made = read("ratings.dat", "1::1193::5::978300760\n1::661::3::978302109\n2::661::4.5::978300275\n", least_rating=4)
    assert raw_pairs_of(made) == [(1, 1193), (2, 661)]


def test_ratings_csv() -> None:
    made = read("ratings.csv", "userId,movieId,rating,timestamp\n1,31,2.5,1260759144\n1,1029,3.0,1260759179\n", least_rating=3)
    assert raw_pairs_of(made) == [(1, 1029)]
    assert times_of(made) == [1260759179]


def test_recbole_inter_takes_quotes_as_they_are() -> None:
    text = 'user_id:token\titem_id:token\trating:float\ttag:token_seq\tlabel:float\n"u1\tx, y\t4\ta b\t1\nu2\tz\t2\t\t0\n'
    assert raw_pairs_of(read("ml.inter", text)) == [('"u1', "x, y"), ("u2", "z")]
    assert raw_pairs_of(read("ml.inter", text, least_rating=3)) == [('"u1', "x, y")]
    assert raw_pairs_of(read("ml.inter", text, rating_column="label", least_rating=1)) == [('"u1', "x, y")]


def test_named_columns_in_any_order_and_quoted_fields() -> None:
    text = 'when,"what, really",who,"score"\n3,"a ""b"", c",ann,1\n2,"two\nlines", bob ,5\n'
    columns = {"user_column": "who", "item_column": "what, really", "timestamp_column": "when", "rating_column": "score"}
    made = read("any.csv", text, **columns)
    assert raw_pairs_of(made) == [("ann", 'a "b", c'), ("bob", "two\nlines")]
    assert times_of(made) == [3, 2]
    assert raw_pairs_of(read("any.csv", text, **columns, least_rating=5)) == [("bob", "two\nlines")]


@pytest.mark.parametrize("name", ["x.tsv", "x.log"])
def test_tabs_by_extension_or_by_the_header(name: str) -> None:
    made = read(name, 'User\tItem ID\tnote\n1\t"2"\ta,b\n', format="csv", item_column="Item ID")
    assert raw_pairs_of(made) == [(1, 2)]
    assert raw_pairs_of(read("x.log", "user,item\n1,2\n", format="csv")) == [(1, 2)]
    assert raw_pairs_of(read("x.log", "\n \nuser\titem\n1\t2\n", format="csv")) == [(1, 2)]


def test_a_format_named_wins_over_the_file_name() -> None:
    assert raw_pairs_of(read("list.csv", "0 1 2\n", format="lightgcn")) == [(0, 1), (0, 2)]
    assert raw_pairs_of(read("part1.base", "1\t2\t3\t4\n", format="movielens")) == [(1, 2)]
    assert raw_pairs_of(read("RATINGS.CSV", "userId,movieId\n1,2\n")) == [(1, 2)]


def test_u2028_and_other_rare_separators_belong_to_an_id() -> None:
    """`str.splitlines` and `str.split` cut at these, a line of a file does not end there."""
    assert raw_pairs_of(read("a.csv", "user,item\na\u2028b,c\x0bd\ne\x85f,g\u00a0h\n")) == [
        ("a\u2028b", "c\x0bd"),
        ("e\x85f", "g\u00a0h"),
    ]


def test_the_repeat_with_the_earliest_time_is_kept() -> None:
    made = read("u.data", "5\t6\t3\t20\n5\t6\t1\t10\n5\t6\t2\t30\n")
    assert times_of(made) == [10]
    assert made.n_duplicates == 2


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        (["7", "-7", "0"], [-7, 0, 7]),
        (["9223372036854775807", "-9223372036854775808"], [-(2**63), 2**63 - 1]),
        (["7", "07"], ["07", "7"]),
        (["7", "-0"], ["-0", "7"]),
        (["7", "+8"], ["+8", "7"]),
        (["7", "1_0"], ["1_0", "7"]),
        (["7", "\u0663"], ["7", "\u0663"]),
        (["7", "9223372036854775808"], ["7", "9223372036854775808"]),
        (["7", "9" * 5000], ["7", "9" * 5000]),
        (["7", "8.0"], ["7", "8.0"]),
    ],
)
def test_ids_are_ints_only_where_all_are_plain_decimal_integers(tokens: list[str], expected: list[Any]) -> None:
    made = read("ids.csv", "user,item\n" + "".join(f"{token},x\n" for token in tokens))
    assert made.user_ids.tolist() == expected
    assert made.item_ids.tolist() == ["x"]


@pytest.mark.parametrize("name", ["a.txt", "u.data", "ratings.dat", "a.csv", "a.tsv", "a.inter"])
@pytest.mark.parametrize("content", [b"", b"\n", b"\xef\xbb\xbf", b"  \r\n\r\n"])
def test_a_file_without_lines_is_empty_or_lacks_its_header(name: str, content: bytes) -> None:
    if name in ("a.txt", "u.data", "ratings.dat"):
        assert read(name, content).n_entities == 0
    else:
        with pytest.raises(DataError, match="exactly one user column"):
            read(name, content)


@pytest.mark.parametrize(("name", "header"), [("a.csv", "user,item\n"), ("a.inter", "user_id:token\titem_id:token\n")])
def test_a_header_alone_is_legal(name: str, header: str) -> None:
    assert read(name, header).n_entities == 0


# Round trips

POSITION_LISTS = st.dictionaries(st.integers(0, 40), st.lists(st.integers(0, 60)))
IDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r\n\t"), min_size=1).filter(lambda s: s == s.strip())
RATED = st.lists(
    st.tuples(st.integers(), st.integers(0, 10**6), st.floats(allow_nan=False, allow_infinity=False), st.integers(0, 2**40))
)


@given(
    POSITION_LISTS, st.sampled_from(["\n", "\r\n", " \n", "\t\r\n", "\n\n \n"]), st.sampled_from([" ", "\t", "  "]), st.booleans()
)
def test_lightgcn_text_comes_back(lists: dict[int, list[int]], end: str, blank: str, bom: bool) -> None:
    lines = [blank.join(map(str, [user, *items])) for user, items in lists.items()]
    made = read("a.txt", "\ufeff" * bom + end.join(lines))  # no end after the last line
    pairs = {(user, item) for user, items in lists.items() for item in items}
    assert raw_pairs_of(made) == sorted(pairs)
    assert made.n_duplicates == sum(map(len, lists.values())) - len(pairs)
    assert made.n_users == max(lists, default=-1) + 1
    assert made.n_items == max((item for items in lists.values() for item in items), default=-1) + 1


@given(st.sets(st.tuples(IDS, IDS)), st.sampled_from(["a.csv", "a.tsv"]), st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_delimited_text_comes_back(pairs: set[tuple[str, str]], name: str, end: str, bom: bool) -> None:
    text = io.StringIO()
    writer = csv.writer(text, delimiter="," if name == "a.csv" else "\t", lineterminator=end)
    writer.writerows([("item", "user_id"), *((item, user) for user, item in sorted(pairs))])
    made = read(name, "\ufeff" * bom + text.getvalue())
    assert sorted((str(u), str(i)) for u, i in raw_pairs_of(made)) == sorted(pairs)


@given(RATED, st.sampled_from([("a.data", "\t"), ("a.dat", "::"), ("a.inter", "\t")]))
def test_rated_text_comes_back(rows: list[tuple[int, int, float, int]], kind: tuple[str, str]) -> None:
    name, separator = kind
    header = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n" * name.endswith(".inter")
    text = header + "".join(separator.join(map(repr, row)) + "\n" for row in rows)
    least = min((rating for _, _, rating, _ in rows), default=0.0) + 1.0
    for made, kept in (
        (read(name, text), rows),
        (read(name, text, least_rating=least), [row for row in rows if row[2] >= least]),
    ):
        assert sorted((int(u), int(i)) for u, i in raw_pairs_of(made)) == sorted({(u, i) for u, i, _, _ in kept})
        for (user, item), at in zip(raw_pairs_of(made), times_of(made), strict=True):
            assert at == min(when for u, i, _, when in kept if (str(u), str(i)) == (str(user), str(item)))


@given(
    st.binary() | st.text('019 \t,:"\r\n-.ex\ufeff').map(str.encode),
    st.sampled_from(["a.txt", "u.data", "ratings.dat", "a.csv", "a.tsv", "a.inter"]),
    st.booleans(),
)
def test_any_bytes_give_interactions_or_a_data_error(content: bytes, name: str, with_header: bool) -> None:
    headers = {"a.csv": b"user,item,rating\n", "a.tsv": b"user\titem\n", "a.inter": b"user_id:token\titem_id:token\n"}
    error = None
    try:
        read(name, headers.get(name, b"") * with_header + content)
    except DataError as caught:
        error = caught
    assert error is None or (error.path is not None and error.line is not None)


# Malformed

CSV = "user,item,rating,timestamp\n"
INTER = "user_id:token\titem_id:token\trating:float\n"


@pytest.mark.parametrize(
    ("name", "content", "line", "token"),
    [
        ("a.txt", "0 1 2\n1 x 3\n", 2, "x"),
        ("a.txt", "0 1 2\n\n1 -3\n", 3, "-3"),
        ("a.txt", "-1\n", 1, "-1"),
        ("a.txt", "0 +1\n", 1, "+1"),
        ("a.txt", "0 1.0\n", 1, "1.0"),
        ("a.txt", "0 1_0\n", 1, "1_0"),
        ("a.txt", "0 \u0663\n", 1, "\u0663"),
        ("a.txt", "0 1\u00a02\n", 1, "1\u00a02"),
        ("a.txt", "0 1,2\n", 1, "1,2"),
        ("a.txt", "0 1\r1 2\n", 1, "\r"),
        ("a.txt", "0 1\r\n1 2\r\r\n", 2, "\r"),
        ("a.txt", "0 1 \n1 123456789", 2, "123456789"),
        ("a.txt", "0 " + "9" * 5000, 1, "9" * 5000),
        ("a.txt", "0 1\n1 2\0\n", 2, "\0"),
        ("a.txt", b"0 1\n1 2\xff3\n", 2, b"\xff"),
        ("a.txt", b"0 1\n\n\n1 \xc3", 4, b"\xc3"),
        ("a.txt", "0 1\n".encode("utf-16"), 1, b"\xff"),
        ("a.txt", "\ufeff0 1\n\ufeff1 2\n", 2, "\ufeff1"),
        ("u.data", "1\t2\t3\t4\n1\t2\t3\n", 2, "3"),
        ("u.data", "1\t2\t3\t4\t5\n", 1, "5"),
        ("u.data", "1 2 3 4\n", 1, "1 2 3 4"),
        ("u.data", "1\t2\t3\tnan\n", 1, "nan"),
        ("u.data", "1\t2\tinf\t4\n", 1, "inf"),
        ("u.data", "1\t2\t1e999\t4\n", 1, "1e999"),
        ("u.data", "1\t2\t1_0\t4\n", 1, "1_0"),
        ("u.data", "1\t2\t\u0663\t4\n", 1, "\u0663"),
        ("u.data", "1\t2\t\t4\n", 1, ""),
        ("u.data", "\n1\t\t3\t4\n", 2, ""),
        ("ratings.dat", "1::2::3::4\n1::2::3::yesterday\n", 2, "yesterday"),
        ("ratings.dat", "1::2:3::4\n", 1, "4"),
        ("ratings.dat", " ::2::3::4\n", 1, ""),
        ("a.csv", CSV + "1,2,3,4\n1,2,3\n", 3, "3"),
        ("a.csv", CSV + "1,2,3,4,5\n", 2, "5"),
        ("a.csv", CSV + "1,2,3,2020-01-01\n", 2, "2020-01-01"),
        ("a.csv", CSV + "1,2,NaN,4\n", 2, "NaN"),
        ("a.csv", CSV + '"1\n1",2,3,4\n"1", ,3,4\n', 4, ""),
        ("a.csv", CSV + '\n"1"x,2,3,4\n', 3, '"1"x,2,3,4'),
        ("a.csv", CSV + '1,2,3,4\n1,"2,3,4\n1,2,3,4\n', 3, '1,"2,3,4'),
        ("a.csv", CSV + f"{'x' * 200_000},2,3,4\n", 2, f"{'x' * 200_000},2,3,4"),
        ("a.csv", CSV + "1,2,3,4\n1,2\0,3,4\n", 3, "\0"),
        ("a.csv", CSV.encode() + b"1,caf\xe9,3,4\n", 2, b"\xe9"),
        ("a.csv", "\n user,product\n1,2\n", 2, "user, product"),
        ("a.csv", "user,item,Item_ID\n1,2,3\n", 1, "user, item, Item_ID"),
        ("a.csv", "user\titem\n1\t2\n", 1, "user\titem"),
        ("a.csv", "1,2,3,4\n", 1, "1, 2, 3, 4"),
        ("a.inter", "user_id:token\titem_id\n", 1, "item_id"),
        ("a.inter", "user_id:token\titem_id:int\n", 1, "item_id:int"),
        ("a.inter", "user_id:token\tmovie:token\n", 1, "user_id, movie"),
        ("a.inter", INTER + "1\t2\t3\n1\t2\n", 3, "2"),
        ("a.inter", INTER + "1\t2\tgood\n", 2, "good"),
        ("a.inter", INTER + "\t2\t3\n", 2, ""),
    ],
)
def test_a_malformed_file_is_named_with_its_line_and_token(
    tmp_path: Path, name: str, content: str | bytes, line: int, token: str | bytes
) -> None:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(DataError) as caught:
        read_interactions(path)
    assert (caught.value.path, caught.value.line, caught.value.token) == (path, line, token)
    assert str(caught.value).startswith(f"{path}, line {line}: expected") or name == "a.csv"
    assert str(caught.value).startswith(f"{path}, line {line}: ")
    assert str(caught.value).endswith(f", got {token[:80]!r}")


@pytest.mark.parametrize(("content", "expected"), [("\t2\t3\t4\n", "the user's id"), ("1\t \t3\t4\n", "the item's id")])
def test_an_id_that_is_missing_is_named(content: str, expected: str) -> None:
    with pytest.raises(DataError, match=f"u.data, line 1: expected {expected}, got ''"):
        read("u.data", content)


def test_a_folder_is_no_file_of_pairs(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected a file of pairs, got a folder; read_split takes one"):
        read_interactions(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "keywords", "message"),
    [
        (
            "a.xyz",
            "",
            {},
            "expected a name that ends in .txt, .csv, .tsv, .data, .dat, .inter; from Python, format= names the format",
        ),
        ("a.csv", "", {"format": "xml"}, "expected as format one of lightgcn, csv, movielens, movielens-1m, recbole, got 'xml'"),
        ("a.csv", "user,item\n", {"user_column": "item"}, "expected users and items in two columns, got one, got 'item'"),
        ("a.txt", "0 1\n", {"least_rating": 3}, "format 'lightgcn' has no ratings, so no least_rating"),
        ("a.txt", "0 1\n", {"item_column": "x"}, "format 'lightgcn' has no header, so no item_column"),
        ("u.data", "", {"rating_column": "x"}, "format 'movielens' has no header, so no rating_column"),
        ("a.csv", "user,item\n1,2\n", {"least_rating": 3}, "least_rating needs a rating column; name it with rating_column="),
        (
            "a.csv",
            "user,thing\n1,2\n",
            {},
            "expected exactly one item column of a usual name; from Python, item_column= tells",
        ),
        ("a.csv", "user,item\n", {"user_column": "who"}, "expected exactly one user column named 'who', got 'user, item'"),
        ("a.csv", "user,item\n", {"rating_column": "r"}, "expected exactly one rating column named 'r', got 'user, item'"),
        ("a.csv", "x,x,item\n", {"user_column": "x"}, "expected exactly one user column named 'x', got 'x, x, item'"),
    ],
)
def test_what_a_file_cannot_give_is_refused(name: str, content: str, keywords: Any, message: str) -> None:
    with pytest.raises(DataError) as caught:
        read(name, content, **keywords)
    assert message in str(caught.value)
    assert str(caught.value.path).endswith(name)


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_interactions(tmp_path / "none.txt")


# Folders


def test_a_folder_has_one_id_space_and_its_training_pairs_win(tmp_path: Path) -> None:
    """Users 0..4 and items 0..8 over both files; (0, 1) is in both, (4, 2) is twice in test: 2 pairs dropped there."""
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
    with pytest.raises(DataError) as caught:
        read_folder(tmp_path)
    assert (caught.value.path, caught.value.line, caught.value.token) == (tmp_path / "test.txt", 2, "b")


@pytest.mark.gowalla
def test_gowalla_has_its_published_counts_and_is_read_in_seconds(gowalla: Path) -> None:
    start = time.process_time()
    train, held_out = read_folder(gowalla)
    assert time.process_time() - start < 10.0  # about 1 s; the margin is for slow and busy machines
    assert (train.n_users, train.n_items, train.n_pairs, held_out.n_pairs) == (29_858, 40_981, 810_128, 217_242)
    assert (held_out.n_users, held_out.n_items) == (29_858, 40_981)
    assert train.n_duplicates == held_out.n_duplicates == 0


@pytest.mark.lastfm
def test_lastfm_has_its_published_counts(lastfm: Path) -> None:
    train, held_out = read_folder(lastfm)
    assert (train.n_users, train.n_items, train.n_pairs, held_out.n_pairs) == (1_892, 4_489, 42_135, 10_533)
    assert int((np.bincount(train.users, minlength=1_892) == 0).sum()) == 14
