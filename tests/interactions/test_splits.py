"""Splits: every pair in exactly one part, the counts that each way promises, and split files."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from fractions import Fraction
from itertools import chain
from math import ceil, floor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.pairs import pairs_of, times_of

from c2f_ref.interactions import (
    DataError,
    Interactions,
    Split,
    load_split,
    read_folder,
    read_interactions,
    read_split,
    save_split,
    split_by_time,
    split_given,
    split_leave_one_out,
    split_ratio,
    split_third,
)
from c2f_ref.store import read_store, write_store

N_USERS, N_ITEMS = 4, 9
Pairs = list[tuple[int, int]]

PAIR = st.tuples(st.integers(0, N_USERS - 1), st.integers(0, N_ITEMS - 1))
TIMES = st.dictionaries(PAIR, st.integers(0, 6))
SEEDS = st.integers(0, 2**40)
PARTS = ((0, 0), (0.1, 0.2), (0.3, 0.3), (0.5, 0), (0, 0.9), ("1/3", "1/3"), (0.29, 0.7))
SHARES = st.sampled_from([(Fraction(str(valid)), Fraction(str(test))) for valid, test in PARTS])


def timed(times: dict[tuple[int, int], int], with_times: bool = True) -> Interactions:
    users, items = [u for u, _ in times], [i for _, i in times]
    at = list(times.values()) if with_times else None
    return Interactions.from_indices(users, items, N_USERS, N_ITEMS, timestamps=at)


def parts_of(split: Split) -> tuple[Pairs, Pairs, Pairs]:
    return pairs_of(split.train), pairs_of(split.valid), pairs_of(split.test)


def counts_of(split: Split, user: int) -> tuple[int, ...]:
    return tuple(sum(u == user for u, _ in part) for part in parts_of(split))


def assert_covers(split: Split, whole: Interactions) -> None:
    """Sorted lists: a pair in two parts would stand twice."""
    assert sorted(chain(*parts_of(split))) == pairs_of(whole)
    for part in (split.train, split.valid, split.test):
        assert (part.n_users, part.n_items) == (whole.n_users, whole.n_items)
        if whole.timestamps is not None:
            times = dict(zip(pairs_of(whole), times_of(whole), strict=True))
            assert times_of(part) == [times[pair] for pair in pairs_of(part)]


@given(TIMES, SHARES, SEEDS, st.booleans())
def test_ratio_takes_floored_shares_of_each_user_and_validates_with_one_pair_at_least(
    times: Any, shares: tuple[Fraction, Fraction], seed: int, with_times: bool
) -> None:
    whole, (valid, test) = timed(times, with_times), shares
    split = split_ratio(whole, valid=float(valid), test=float(test), seed=seed)
    assert_covers(split, whole)
    for user in range(N_USERS):
        n = sum(u == user for u, _ in times)
        n_valid, n_test = floor(valid * n), floor(test * n)
        if valid and not n_valid and n > n_test + 1:
            n_valid = 1
        assert counts_of(split, user) == (n - n_valid - n_test, n_valid, n_test)
        assert counts_of(split, user)[0] >= (n > 0)


@given(TIMES, SEEDS, st.booleans())
def test_leave_one_out_takes_the_last_two_of_each_user(
    times: Any, seed: int, with_times: bool
) -> None:
    whole = timed(times, with_times)
    split = split_leave_one_out(whole, seed=seed)
    assert_covers(split, whole)
    for user in range(N_USERS):
        n = sum(u == user for u, _ in times)
        assert counts_of(split, user) == ((n - 2, 1, 1) if n >= 3 else (n, 0, 0))
        if n >= 3 and with_times:
            at = [[times[pair] for pair in part if pair[0] == user] for part in parts_of(split)]
            assert max(at[0]) <= at[1][0] <= at[2][0]


@given(TIMES, SHARES)
def test_time_cuts_between_times_and_never_takes_more_than_the_share(
    times: Any, shares: tuple[Fraction, Fraction]
) -> None:
    """By definition: of all cuts between two different times, the one that takes most.

    Equal times therefore stay on the earlier side.
    """
    valid, test = shares
    split = split_by_time(timed(times), valid=float(valid), test=float(test))
    assert_covers(split, timed(times))
    n_test = floor(test * len(times))

    def latest(most: int) -> set[tuple[int, int]]:
        after_cut = [{pair for pair, at in times.items() if at > cut} for cut in range(-1, 7)]
        return max((after for after in after_cut if len(after) <= most), key=len)

    held_out = latest(n_test + floor(valid * len(times)))
    assert set(pairs_of(split.test)) == latest(n_test)
    assert set(pairs_of(split.valid)) == held_out - latest(n_test)


@given(TIMES, TIMES, SEEDS)
def test_third_takes_a_third_rounded_up_and_leaves_train_alone(
    train_times: Any, times: Any, seed: int
) -> None:
    train, held_out = timed({pair: 0 for pair in train_times if pair not in times}), timed(times)
    split = split_third(train, held_out, seed=seed)
    assert pairs_of(split.train) == pairs_of(train)
    assert sorted(pairs_of(split.valid) + pairs_of(split.test)) == pairs_of(held_out)
    for user in range(N_USERS):
        n = sum(u == user for u, _ in times)
        n_valid = max(1, ceil(n / 3)) if n else 0
        assert counts_of(split, user)[1:] == (n_valid, n - n_valid)


def test_shares_are_the_decimals_they_were_written_as() -> None:
    """floor(0.29 * 100) is 28 in floating point, since 0.29 is stored a little low."""
    for n, valid, test, counts in (
        (10, 0.1, 0.2, (7, 1, 2)),
        (100, 0.0, 0.29, (71, 0, 29)),
        (3, 1 / 3, 1 / 3, (1, 1, 1)),
    ):
        pairs = Interactions.from_indices(np.ones(n, dtype=int), np.arange(n), 2, n + 1)
        assert counts_of(split_ratio(pairs, valid=valid, test=test, seed=5), 1) == counts


DRAWS: dict[str, Callable[[Interactions, int], Split]] = {
    "ratio": lambda pairs, seed: split_ratio(pairs, valid=0.34, test=0.34, seed=seed),
    "leave-one-out": lambda pairs, seed: split_leave_one_out(pairs, seed=seed),
    "third": lambda pairs, seed: split_third(
        pairs.select(np.zeros(pairs.n_pairs, dtype=bool)), pairs, seed=seed
    ),
}


@pytest.mark.parametrize("name", DRAWS)
@pytest.mark.parametrize("with_times", [False, True])
def test_the_seed_decides_and_every_pair_can_be_drawn(name: str, with_times: bool) -> None:
    """Of 3 pairs at one time each is in validation and in test in one of 60 seeds."""
    times = {(1, 2): 4, (1, 5): 4, (1, 8): 4}
    splits = [DRAWS[name](timed(times, with_times), seed) for seed in range(60)]
    for part in ("valid", "test"):
        assert {pair for split in splits for pair in pairs_of(getattr(split, part))} == set(times)
    again = [DRAWS[name](timed(times, with_times), seed) for seed in range(60)]
    assert [split.sha256() for split in again] == [split.sha256() for split in splits]
    assert [split.seed for split in splits] == list(range(60))


def test_how_and_seed_are_recorded() -> None:
    pairs, empty = timed({(0, 1): 2, (3, 3): 5}), timed({})
    made = {
        "ratio 0.65/0.1/0.25": split_ratio(pairs, valid=0.1, test=0.25, seed=3),
        "time 0.466667/0.333333/0.2": split_by_time(pairs, valid=1 / 3, test=0.2),
        "leave-one-out": split_leave_one_out(pairs, seed=np.int64(4)),  # type: ignore[arg-type]
        "third": split_third(empty, pairs, seed=5),
        "given": split_given(pairs, empty, empty),
    }
    assert [split.how for split in made.values()] == list(made)
    assert [split.seed for split in made.values()] == [3, None, 4, 5, None]


def test_describe_is_one_printable_line_with_the_number_of_repeats() -> None:
    """Pair (0, 1) is given three times: two repeats, whichever part they are in."""
    pairs = Interactions.from_indices([0, 0, 0, 0, 1], [1, 1, 2, 1, 0], 2, 3)
    train = Interactions.from_indices([1], [2], 2, 3)
    given_ = split_given(train, train.select(np.array([False])), pairs)
    for split in (split_ratio(pairs, seed=0), split_third(train, pairs, seed=0), given_):
        assert " test pairs (2 repeated pairs dropped) of 2 users, 3 items; " in split.describe()
    split = Split(timed({(0, 1): 0, (0, 2): 0}), timed({(1, 1): 0}), timed({}), "\x1b\n\udcff", 7)
    start = "2 train, 1 valid, 0 test pairs of 4 users, 9 items; \\x1b\\n\\udcff, seed 7, "
    assert split.describe() == start + split.sha256()[:12]


def test_hash_is_that_of_the_three_sets_in_order() -> None:
    split = split_given(*(timed({(user, 1): 0}) for user in range(3)))
    joined = "\n".join(part.sha256() for part in (split.train, split.valid, split.test))
    assert split.sha256() == hashlib.sha256(joined.encode()).hexdigest()
    assert Split(split.train, split.valid, split.test, "other", 8).sha256() == split.sha256()


def test_parts_that_share_a_pair_or_have_other_ids_are_refused() -> None:
    def named(users: list[int], items: list[int]) -> Interactions:
        return Interactions.from_indices(users, items, 2, 3, user_ids=["ann", "bob"])

    a, b, c = named([0, 1], [0, 2]), named([1], [2]), named([0], [1])
    whole = {"train and valid": (a, b, c), "train and test": (a, c, b), "valid and test": (c, a, b)}
    for names, parts in whole.items():
        message = rf"^{names} must be disjoint, both have user and item \('bob', 2\)$"
        with pytest.raises(DataError, match=message):
            split_given(*parts)
    for n_items, ids in ((4, {}), (3, {"item_ids": [1, 2, 3]}), (3, {"user_ids": ["a", "b"]})):
        other = Interactions.from_indices([], [], 2, n_items, **({"user_ids": a.user_ids} | ids))
        with pytest.raises(DataError, match="test must have the ids of train"):
            split_given(a, c, other)


@pytest.mark.parametrize(
    "shares", [(0.5, 0.5), (0.9, 0.1), (-0.1, 0.2), (0.1, 1.0), (np.nan, 0.1), (0.1, np.inf)]
)
def test_shares_that_leave_nothing_for_train_are_refused(shares: tuple[float, float]) -> None:
    for split in (lambda pairs, **shares: split_ratio(pairs, seed=0, **shares), split_by_time):
        with pytest.raises(DataError, match="leave a share for train: {}, {}".format(*shares)):
            split(timed({}), valid=shares[0], test=shares[1])


def test_a_seed_is_an_int_from_0_and_a_split_by_time_needs_times() -> None:
    for draw in DRAWS.values():
        for seed in (-1, 1.0, None, True, "1"):
            with pytest.raises(DataError, match="seed must be an int >= 0"):
                draw(timed({(0, 0): 1}), seed)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="needs timestamps"):
        split_by_time(timed({(0, 0): 1}, with_times=False))


# Files

TRAIN = timed({(0, 0): 0, (3, 8): 0})
SPLIT = split_given(TRAIN, timed({(0, 4): 0, (1, 2): 0}), timed({(2, 3): 0}))
GOOD: dict[str, Any] = {"valid_user": [0, 1], "valid_item": [4, 2]}
GOOD |= {"test_user": [2], "test_item": [3]}


@given(TIMES, st.integers(0, 9))
def test_a_saved_split_comes_back(times: Any, seed: int) -> None:
    """From a store of four int32 arrays, the same bytes each time."""
    split = split_ratio(timed(times), valid=0.3, test=0.3, seed=seed)
    with TemporaryDirectory() as folder:
        path = Path(folder, "split.npz")
        save_split(path, split)
        content, again = path.read_bytes(), load_split(path, split.train)
        header, arrays = read_store(path, "c2f-ref split 1")
        save_split(path, split)
        assert (path.read_bytes(), os.listdir(folder)) == (content, ["split.npz"])
    assert parts_of(again) == parts_of(split)
    assert (again.how, again.seed, again.sha256()) == ("file split.npz", None, split.sha256())
    assert (header, list(arrays)) == ({}, list(GOOD))
    assert {array.dtype for array in arrays.values()} == {np.dtype(np.int32)}


@pytest.mark.parametrize("is_store", [True, False])
def test_no_damaged_byte_passes_in_silence(tmp_path: Path, is_store: bool) -> None:
    """Each third byte with a bit turned, and the file up to it: the same split, or a DataError."""
    path = tmp_path / "split.npz"
    save_split(path, SPLIT) if is_store else np.savez_compressed(path, **GOOD)
    whole, n_refused = path.read_bytes(), 0
    for p in range(0, len(whole), 3):
        for content in (whole[:p], whole[:p] + bytes([whole[p] ^ 1 << p % 8]) + whole[p + 1 :]):
            path.write_bytes(content)
            try:
                assert load_split(path, TRAIN).sha256() == SPLIT.sha256()
            except DataError as error:
                n_refused += str(error).startswith(f"{path}: ") and error.path == path
    assert n_refused > 0.8 * 2 * len(whole) / 3  # the rest is dates that nobody reads


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"test_item": [9]}, "items must be integers in [0, 9), got 9"),
        ({"valid_user": [0.0, 1.0]}, "users must be one row of integers in [0, 4), got float64"),
        ({"test_user": [[2]]}, "users must be one row of integers in [0, 4), got int64(1, 1)"),
        ({"test_user": [2, 2]}, "items must have one value per pair, 2, got 1"),
        ({"test_user": [2, 2], "test_item": [3, 3]}, "expected no pair twice, got 1 repeats"),
        ({"test_user": [0], "test_item": [4]}, "valid and test must be disjoint, both have user"),
        ({"test_user": [3], "test_item": [8]}, "train and test must be disjoint, both have user"),
        ({"extra": [1]}, "expected the arrays valid_user, valid_item, test_user, test_item, got "),
        ({"test_item": None}, "expected the arrays valid_user, valid_item, test_user, test_item, "),
    ],
)
def test_what_is_wrong_in_a_split_file_is_said(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    arrays = {name: np.array(m) for name, m in (GOOD | changes).items() if m is not None}
    np.savez(tmp_path / "plain.npz", **arrays)
    write_store(tmp_path / "store.npz", "c2f-ref split 1", {}, arrays)
    for path in (tmp_path / "plain.npz", tmp_path / "store.npz"):
        with pytest.raises(DataError) as caught:
            load_split(path, TRAIN)
        assert str(caught.value).startswith(f"{path}: {message}")


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "split.npz"
    write_store(path, "c2f-ref model 1", {}, {name: np.array(GOOD[name]) for name in GOOD})
    for content in (path.read_bytes(), b"0 1 2\n", b""):
        path.write_bytes(content)
        with pytest.raises(DataError, match=f"^{path}: ") as caught:
            load_split(path, TRAIN)
        assert str(caught.value).count(str(path)) == 1
    with pytest.raises(FileNotFoundError):
        load_split(tmp_path / "none.npz", TRAIN)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "train.txt").write_text("0 1 2 3 4 5 6 7 8 9 10\n1 0 2 4 6 8 10 12\n2 1 3 5\n2 1\n")
    (tmp_path / "test.txt").write_text("0 11 12 0\n1 1 3\n2 0\n")
    return tmp_path


@pytest.mark.parametrize("name", ["", "train.txt"])
def test_the_kind_of_data_decides_and_a_saved_split_comes_back(folder: Path, name: str) -> None:
    split = read_split(folder / name, seed=3)
    if name:
        drawn = split_ratio(read_interactions(folder / name), seed=3)
    else:
        drawn = split_third(*read_folder(folder), seed=3)
    assert split.describe() == drawn.describe()
    save_split(folder / "mine.npz", split)
    again = read_split(folder / name, split_file=folder / "mine.npz")
    assert (again.sha256(), again.train.n_duplicates) == (split.sha256(), 1)


def test_a_saved_split_of_other_data_is_refused(folder: Path) -> None:
    """A folder says itself which pairs are training; a file must have all pairs of the split."""
    save_split(folder / "file.npz", read_split(folder / "train.txt", seed=3))
    with pytest.raises(DataError, match="train and valid must be disjoint"):
        read_split(folder, split_file=folder / "file.npz")
    (folder / "other.txt").write_text("0 1 2 3 4 5\n1 0 6 7 8\n2 9 10 11 12\n")
    save_split(folder / "folder.npz", read_split(folder, seed=3))
    message = r"file folder.npz is a split of other data: 6 of its pairs, such as \(0, 0\), are"
    with pytest.raises(DataError, match=message):
        read_split(folder / "other.txt", split_file=folder / "folder.npz")


def test_one_file_is_divided_as_it_is_said(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    rows = [(u, i, 100 * i + u) for u in range(4) for i in range(12)]
    path.write_text("user,item,timestamp\n" + "".join(f"{u},{i},{t}\n" for u, i, t in rows))
    pairs, shares = read_interactions(path), (0.5, 0.25, 0.25)
    for split_by, wanted in (
        ("ratio", split_ratio(pairs, valid=0.25, test=0.25, seed=2)),
        ("time", split_by_time(pairs, valid=0.25, test=0.25)),
        ("leave-one-out", split_leave_one_out(pairs, seed=2)),
    ):
        split = read_split(path, seed=2, shares=shares, split_by=split_by)
        assert (split.sha256(), split.how) == (wanted.sha256(), wanted.how)
        assert split.source == "48 lines of a.csv read: 48 pairs of 4 users and 12 items"
    for wrong in ({"shares": (0.5, 0.2, 0.2)}, {"shares": (0.8, 0.2)}, {"split_by": "day"}):
        with pytest.raises(DataError, match="shares must be three of sum 1, split_by one of ratio"):
            read_split(path, **wrong)


@pytest.mark.gowalla
def test_gowalla_has_its_published_counts_and_splits(gowalla: Path) -> None:
    start = time.process_time()
    train, held_out = read_folder(gowalla)
    assert time.process_time() - start < 10.0  # about 1 s; the margin is for slow machines
    assert (train.n_users, train.n_items) == (held_out.n_users, held_out.n_items) == (29858, 40981)
    assert (train.n_pairs, held_out.n_pairs) == (810_128, 217_242)
    assert train.n_duplicates == held_out.n_duplicates == 0
    files = [gowalla / f"official_split_seed{seed}.npz" for seed in (2024, 2025, 2026)]
    official = [load_split(file, train) for file in files]
    n_valid = np.bincount(official[0].valid.users, minlength=29_858)
    for split in (*official, split_third(train, held_out, seed=2024)):
        assert (split.valid.n_pairs, split.test.n_pairs) == (80_990, 136_252)
        assert len(np.unique(split.test.users)) == 29_857
        both = np.sort(np.concatenate([split.valid.pair_keys, split.test.pair_keys]))
        assert np.array_equal(both, held_out.pair_keys)
        assert np.array_equal(n_valid, np.bincount(split.valid.users, minlength=29_858))
    assert len({split.sha256() for split in official}) == 3  # D9


@pytest.mark.lastfm
def test_lastfm_has_its_published_counts(lastfm: Path) -> None:
    train, held_out = read_folder(lastfm)
    assert (train.n_users, train.n_items) == (1_892, 4_489)
    assert (train.n_pairs, held_out.n_pairs) == (42_135, 10_533)
