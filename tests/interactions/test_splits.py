"""Splits: every pair in exactly one part, the counts each way promises, and a file that cannot be damaged in silence."""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from collections.abc import Callable
from fractions import Fraction
from math import ceil, floor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from c2f_ref.interactions import (
    DataError,
    Interactions,
    Split,
    load_split,
    read_folder,
    save_split,
    split_by_time,
    split_given,
    split_leave_one_out,
    split_ratio,
    split_third,
)

N_USERS, N_ITEMS = 4, 9

TIMES = st.dictionaries(st.tuples(st.integers(0, N_USERS - 1), st.integers(0, N_ITEMS - 1)), st.integers(0, 6))
SEEDS = st.integers(0, 2**40)
SHARES = st.sampled_from([(0.0, 0.0), (0.1, 0.2), (0.3, 0.3), (0.5, 0.0), (0.0, 0.9), (1 / 3, 1 / 3), (0.29, 0.7)])


def timed(times: dict[tuple[int, int], int], with_times: bool = True) -> Interactions:
    users, items = [u for u, _ in times], [i for _, i in times]
    return Interactions.from_indices(users, items, N_USERS, N_ITEMS, timestamps=list(times.values()) if with_times else None)


def pairs_of(interactions: Interactions) -> list[tuple[int, int]]:
    return list(zip(interactions.users.tolist(), interactions.items.tolist(), strict=True))


def parts_of(split: Split) -> tuple[list[tuple[int, int]], list[tuple[int, int]], list[tuple[int, int]]]:
    return pairs_of(split.train), pairs_of(split.valid), pairs_of(split.test)


def counts_of(split: Split, user: int) -> tuple[int, int, int]:
    train, valid, test = (sum(u == user for u, _ in part) for part in parts_of(split))
    return train, valid, test


def full_row(n: int) -> Interactions:
    """One user with n pairs at the times 1..n, in a space of 2 users and n + 1 items."""
    return Interactions.from_indices(np.ones(n, dtype=int), np.arange(n), 2, n + 1, timestamps=np.arange(1, n + 1))


def assert_covers(split: Split, given_pairs: Interactions) -> None:
    train, valid, test = parts_of(split)
    assert sorted(train + valid + test) == pairs_of(given_pairs)  # a list: a pair in two parts would stand twice
    for part in (split.train, split.valid, split.test):
        assert (part.n_users, part.n_items) == (given_pairs.n_users, given_pairs.n_items)
        if given_pairs.timestamps is not None:
            times = dict(zip(pairs_of(given_pairs), given_pairs.timestamps.tolist(), strict=True))
            assert part.timestamps is not None
            assert part.timestamps.tolist() == [times[pair] for pair in pairs_of(part)]


# By definition


@given(TIMES, SHARES, SEEDS, st.booleans())
def test_ratio_takes_floored_shares_of_each_user(times: Any, shares: tuple[float, float], seed: int, with_times: bool) -> None:
    given_pairs = timed(times, with_times)
    split = split_ratio(given_pairs, valid=shares[0], test=shares[1], seed=seed)
    assert_covers(split, given_pairs)
    valid, test = (Fraction(str(round(share, 9))).limit_denominator(100) for share in shares)
    for user in range(N_USERS):
        n = sum(u == user for u, _ in times)
        assert counts_of(split, user) == (n - floor(valid * n) - floor(test * n), floor(valid * n), floor(test * n))
        assert counts_of(split, user)[0] >= (n > 0)


@given(TIMES, SEEDS, st.booleans())
def test_leave_one_out_takes_the_last_two_of_each_user(times: Any, seed: int, with_times: bool) -> None:
    given_pairs = timed(times, with_times)
    split = split_leave_one_out(given_pairs, seed=seed)
    assert_covers(split, given_pairs)
    train, valid, test = ({pair: times[pair] for pair in part} for part in parts_of(split))
    for user in range(N_USERS):
        n = sum(u == user for u, _ in times)
        assert counts_of(split, user) == ((n - 2, 1, 1) if n >= 3 else (n, 0, 0))
        if n >= 3 and with_times:
            last, before = (next(at for (u, _), at in part.items() if u == user) for part in (test, valid))
            assert max(at for (u, _), at in train.items() if u == user) <= before <= last


@given(TIMES, SHARES)
def test_time_cuts_between_times_and_never_takes_more_than_the_share(times: Any, shares: tuple[float, float]) -> None:
    """By definition: of all cuts between two different times, each part's is the one that takes most without passing its share."""
    given_pairs = timed(times)
    split = split_by_time(given_pairs, valid=shares[0], test=shares[1])
    assert_covers(split, given_pairs)
    valid, test = (Fraction(str(round(share, 9))).limit_denominator(100) for share in shares)
    n_test = floor(test * len(times))
    n_held_out = n_test + floor(valid * len(times))

    def latest(most: int) -> set[tuple[int, int]]:
        after_cut = [{pair for pair, at in times.items() if at > cut} for cut in range(-1, 7)]
        return max((after for after in after_cut if len(after) <= most), key=len)

    assert set(pairs_of(split.test)) == latest(n_test)
    assert set(pairs_of(split.valid)) == latest(n_held_out) - latest(n_test)


@given(TIMES, TIMES, SEEDS)
def test_third_takes_a_third_rounded_up_and_leaves_train_alone(train_times: Any, times: Any, seed: int) -> None:
    train, held_out = timed({pair: 0 for pair in train_times if pair not in times}), timed(times)
    split = split_third(train, held_out, seed=seed)
    assert pairs_of(split.train) == pairs_of(train)
    assert sorted(pairs_of(split.valid) + pairs_of(split.test)) == pairs_of(held_out)
    for user in range(N_USERS):
        n = sum(u == user for u, _ in times)
        n_valid = max(1, ceil(n / 3)) if n else 0
        assert counts_of(split, user)[1:] == (n_valid, n - n_valid)


# By hand


def test_ratio_of_ten_pairs_and_of_one_hundred() -> None:
    """floor(0.29 * 100) is 28 in floating point, since 0.29 is stored a little low; as a decimal it is 29."""
    assert counts_of(split_ratio(full_row(10), seed=5), 1) == (7, 1, 2)
    assert counts_of(split_ratio(full_row(9), seed=5), 1) == (8, 0, 1)
    assert counts_of(split_ratio(full_row(1), valid=0.4, test=0.5, seed=5), 1) == (1, 0, 0)
    assert counts_of(split_ratio(full_row(100), valid=0.0, test=0.29, seed=5), 1) == (71, 0, 29)
    assert counts_of(split_ratio(full_row(3), valid=1 / 3, test=1 / 3, seed=5), 1) == (1, 1, 1)


def test_leave_one_out_follows_the_times() -> None:
    split = split_leave_one_out(timed({(0, 5): 3, (0, 2): 9, (0, 7): 1, (0, 1): 4, (2, 0): 8, (2, 3): 9}), seed=0)
    assert parts_of(split) == ([(0, 5), (0, 7), (2, 0), (2, 3)], [(0, 1)], [(0, 2)])


def test_time_keeps_equal_times_on_the_earlier_side() -> None:
    """Times 1 2 2 3 4: of 5 pairs 0.2 are 1, so test is {4}; validation may have 2, but the second would part the two 2s."""
    split = split_by_time(timed({(0, 0): 2, (1, 1): 4, (0, 2): 1, (3, 3): 2, (2, 4): 3}), valid=0.4, test=0.2)
    assert parts_of(split) == ([(0, 0), (0, 2), (3, 3)], [(2, 4)], [(1, 1)])
    together = split_by_time(timed({(0, 0): 5, (1, 1): 5, (2, 2): 5}), valid=0.4, test=0.4)
    assert parts_of(together) == ([(0, 0), (1, 1), (2, 2)], [], [])


def test_a_user_with_one_held_out_pair_goes_to_validation_alone() -> None:
    split = split_third(timed({}), timed({(2, 4): 0}), seed=1)
    assert parts_of(split) == ([], [(2, 4)], [])


DRAWS: dict[str, Callable[[Interactions, int], Split]] = {
    "ratio": lambda pairs, seed: split_ratio(pairs, valid=0.34, test=0.34, seed=seed),
    "leave-one-out": lambda pairs, seed: split_leave_one_out(pairs, seed=seed),
    "third": lambda pairs, seed: split_third(pairs.select(np.zeros(pairs.n_pairs, dtype=bool)), pairs, seed=seed),
}


@pytest.mark.parametrize("name", DRAWS)
@pytest.mark.parametrize("with_times", [False, True])
def test_the_seed_decides_and_every_pair_can_be_drawn(name: str, with_times: bool) -> None:
    """3 pairs with equal times or none: in 60 seeds each is in validation and in test once or more; a seed gives the same again."""
    pairs = timed({(1, 2): 4, (1, 5): 4, (1, 8): 4}, with_times)
    splits = [DRAWS[name](pairs, seed) for seed in range(60)]
    assert {pair for split in splits for pair in pairs_of(split.valid)} == {(1, 2), (1, 5), (1, 8)}
    assert {pair for split in splits for pair in pairs_of(split.test)} == {(1, 2), (1, 5), (1, 8)}
    assert [DRAWS[name](pairs, seed).sha256() for seed in range(60)] == [split.sha256() for split in splits]
    assert [split.seed for split in splits] == list(range(60))


def test_empty_data_split_into_empty_parts() -> None:
    empty = Interactions.from_pairs([], [], timestamps=[])
    splits = [
        split_ratio(empty, seed=0),
        split_leave_one_out(empty, seed=0),
        split_by_time(empty),
        split_third(empty, empty, seed=0),
    ]
    for split in splits:
        assert parts_of(split) == ([], [], [])


def test_how_and_seed_are_recorded() -> None:
    pairs = timed({(0, 1): 2, (3, 3): 5})
    empty = timed({})
    made = [
        split_ratio(pairs, valid=0.1, test=0.25, seed=3),
        split_by_time(pairs, valid=1 / 3, test=0.2),
        split_leave_one_out(pairs, seed=np.int64(4)),  # type: ignore[arg-type]
        split_third(empty, pairs, seed=5),
        split_given(pairs, empty, empty),
    ]
    assert [split.how for split in made] == ["ratio 0.65/0.1/0.25", "time 0.466667/0.333333/0.2", "leave-one-out", "third", "given"]
    assert [split.seed for split in made] == [3, None, 4, 5, None]


def test_describe_counts_the_repeats_that_were_dropped() -> None:
    """Pair (0, 1) is given three times: two repeats, whichever way the split is drawn."""
    pairs = Interactions.from_indices([0, 0, 0, 0, 1], [1, 1, 2, 1, 0], 2, 3)
    assert "(2 repeated pairs dropped)" in split_ratio(pairs, valid=0.5, test=0.0, seed=0).describe()
    assert "(2 repeated pairs dropped)" in split_third(Interactions.from_indices([1], [2], 2, 3), pairs, seed=0).describe()
    assert "repeated" not in split_ratio(pairs.select(np.ones(3, dtype=bool)), seed=0).describe()


def test_describe_is_one_printable_line() -> None:
    split = Split(timed({(0, 1): 0, (0, 2): 0}), timed({(1, 1): 0}), timed({}), "file \x1b[2J\n\udcff.npz", 7)
    line = split.describe()
    start = "2 train, 1 valid, 0 test pairs of 4 users, 9 items; file \\x1b[2J\\n\\udcff.npz, seed 7, "
    assert line == start + split.sha256()[:12]
    assert line.isprintable()


def test_hash_is_that_of_the_three_sets_in_order() -> None:
    train, valid, test = timed({(0, 1): 0}), timed({(1, 1): 0}), timed({(2, 1): 0})
    split = split_given(train, valid, test)
    joined = "\n".join([train.sha256(), valid.sha256(), test.sha256()])
    assert split.sha256() == hashlib.sha256(joined.encode()).hexdigest()
    assert split.sha256() != split_given(train, test, valid).sha256()
    assert split.sha256() == Split(train, valid, test, "another way", 8).sha256()


# Errors


def test_parts_that_share_a_pair_are_refused_by_raw_id() -> None:
    def named(pairs: list[tuple[int, int]]) -> Interactions:
        return Interactions.from_indices([u for u, _ in pairs], [i for _, i in pairs], 2, 3, user_ids=["ann", "bob"])

    a, b, c = named([(0, 0), (1, 2)]), named([(1, 2)]), named([(0, 1)])
    for parts, names in (((a, b, c), "train and valid"), ((a, c, b), "train and test"), ((c, a, b), "valid and test")):
        with pytest.raises(DataError) as caught:
            split_given(*parts)
        assert str(caught.value) == f"{names} must be disjoint, both have user and item ('bob', 2)"


@pytest.mark.parametrize(
    "other",
    [
        Interactions.from_indices([], [], N_USERS + 1, N_ITEMS),
        Interactions.from_indices([], [], N_USERS, N_ITEMS - 1),
        Interactions.from_indices([], [], N_USERS, N_ITEMS, item_ids=range(1, N_ITEMS + 1)),
        Interactions.from_indices([], [], N_USERS, N_ITEMS, user_ids=list("0123")),
    ],
)
def test_parts_with_other_ids_are_refused(other: Interactions) -> None:
    with pytest.raises(DataError, match="test must have the id spaces of train"):
        split_given(timed({}), timed({}), other)


@pytest.mark.parametrize(
    ("valid", "test"), [(0.5, 0.5), (0.9, 0.1), (-0.1, 0.2), (0.1, 1.0), (np.nan, 0.1), (0.1, np.inf), (0.7, 0.4)]
)
def test_shares_that_leave_nothing_for_train_are_refused(valid: float, test: float) -> None:
    with pytest.raises(DataError, match="leave a share for train"):
        split_ratio(timed({}), valid=valid, test=test, seed=0)
    with pytest.raises(DataError, match="leave a share for train"):
        split_by_time(timed({}), valid=valid, test=test)


@pytest.mark.parametrize("seed", [-1, 1.0, None, True, "1"])
def test_a_seed_is_an_int_from_0(seed: Any) -> None:
    for draw in DRAWS.values():
        with pytest.raises(DataError, match="seed must be an int >= 0"):
            draw(timed({(0, 0): 1}), seed)


def test_a_split_by_time_needs_times() -> None:
    with pytest.raises(DataError, match="needs timestamps"):
        split_by_time(timed({(0, 0): 1}, with_times=False))


# Files

SPLIT = split_given(timed({(0, 0): 0, (3, 8): 0}), timed({(0, 4): 0, (1, 2): 0, (3, 1): 0}), timed({(0, 5): 0, (2, 2): 0}))


def saved(folder: Path, split: Split = SPLIT) -> Path:
    save_split(folder / "split.npz", split)
    return folder / "split.npz"


@given(TIMES, st.integers(0, 9))
def test_a_saved_split_comes_back(tmp_path_factory: pytest.TempPathFactory, times: Any, seed: int) -> None:
    split = split_ratio(timed(times), valid=0.3, test=0.3, seed=seed)
    again = load_split(path := saved(tmp_path_factory.mktemp("split"), split), split.train)
    assert parts_of(again) == parts_of(split)
    assert again.sha256() == split.sha256()
    assert (again.how, again.seed) == (f"file {path.name}", None)


def test_a_split_file_is_four_int32_arrays_and_the_same_bytes_each_time(tmp_path: Path) -> None:
    path = saved(tmp_path)
    with np.load(path, allow_pickle=False) as members:
        content = {name: (members[name].dtype, members[name].tolist()) for name in members.files}
    assert content == {
        "valid_user": (np.int32, [0, 1, 3]),
        "valid_item": (np.int32, [4, 2, 1]),
        "test_user": (np.int32, [0, 2]),
        "test_item": (np.int32, [5, 2]),
    }
    first = path.read_bytes()
    assert saved(tmp_path).read_bytes() == first  # also: an older file is replaced
    assert os.listdir(tmp_path) == ["split.npz"]


@pytest.mark.parametrize("broken", ["os.replace", "os.fsync", "numpy.savez_compressed"])
def test_a_save_that_fails_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    before = saved(tmp_path).read_bytes()

    def fail(*_: Any, **__: Any) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(broken, fail)
    with pytest.raises(OSError, match="the disk is full"):
        save_split(tmp_path / "split.npz", split_given(SPLIT.train, SPLIT.test, SPLIT.valid))
    assert (tmp_path / "split.npz").read_bytes() == before
    assert os.listdir(tmp_path) == ["split.npz"]


def test_no_damaged_byte_passes_in_silence(tmp_path: Path) -> None:
    """Each byte with its lowest, its highest or all bits turned, and every shorter file: the same split, or a DataError."""
    path = saved(tmp_path)
    whole = path.read_bytes()
    turned = [bytes([byte ^ (1, 128, 255)[place % 3]]) for place, byte in enumerate(whole)]
    damaged = [whole[:place] + byte + whole[place + 1 :] for place, byte in enumerate(turned)]
    refused = 0
    for content in damaged + [whole[:length] for length in range(len(whole))]:
        path.write_bytes(content)
        try:
            assert load_split(path, SPLIT.train).sha256() == SPLIT.sha256()
        except DataError as error:
            refused += str(error).startswith(f"{path}: ")
    assert refused > 0.8 * 2 * len(whole)  # the rest is dates, versions and attributes that nobody reads


def npy(array: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.asarray(array))
    return stream.getvalue()


def archive(**members: Any) -> bytes:
    """Make a well-formed archive whose members are the given bytes, or arrays."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        for name, member in members.items():
            file.writestr(f"{name}.npy", member if isinstance(member, bytes) else npy(member))
    return content.getvalue()


GOOD: dict[str, Any] = {"valid_user": [0, 1], "valid_item": [4, 2], "test_user": [2], "test_item": [3]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"test_item": [9]}, "member test_item is damaged: test_item must be in [0, 9), got 9"),
        ({"valid_user": [0, -1]}, "member valid_user is damaged: valid_user must be in [0, 4), got -1"),
        ({"valid_user": [0.0, 1.0]}, "member valid_user is damaged: valid_user must be one row of integers, got float64"),
        ({"test_user": [[2]]}, "member test_user is damaged: test_user must be one row of integers, got int64 of shape (1, 1)"),
        ({"test_user": 2}, "member test_user is damaged: test_user must be one row of integers"),
        ({"test_user": npy([2]) + b"\0"}, "member test_user is damaged: there are bytes after the array"),
        ({"test_user": npy([2])[:-1]}, "member test_user is damaged: "),
        ({"test_user": b""}, "member test_user is damaged: "),
        ({"test_user": archive()}, "member test_user is damaged: "),
        ({"test_user": [2, 2]}, "members test_user and test_item must be equally long, got 2 and 1"),
        ({"test_user": [2, 2], "test_item": [3, 3]}, "members test_user and test_item must hold no pair twice, got 1 repeats"),
        ({"test_user": [0], "test_item": [4]}, "valid and test must be disjoint, both have user and item (0, 4)"),
        ({"test_user": [3], "test_item": [8]}, "train and test must be disjoint, both have user and item (3, 8)"),
        ({"extra": [1]}, "expected the members valid_user, valid_item, test_user, test_item, found "),
    ],
)
def test_a_wrong_member_is_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = tmp_path / "split.npz"
    path.write_bytes(archive(**GOOD))
    assert load_split(path, SPLIT.train).test.n_pairs == 1
    path.write_bytes(archive(**{**GOOD, **changes}))
    with pytest.raises(DataError) as caught:
        load_split(path, SPLIT.train)
    assert str(caught.value).startswith(f"{path}: {message}")
    assert caught.value.path == path


def test_a_split_file_never_runs_what_is_pickled_in_it(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "sprung"),)

    path = tmp_path / "split.npz"
    path.write_bytes(archive(**{**GOOD, "test_user": np.array([Trap()])}))
    with pytest.raises(DataError, match="member test_user is damaged"):
        load_split(path, SPLIT.train)
    assert os.listdir(tmp_path) == ["split.npz"]


def test_a_member_that_is_missing_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "split.npz"
    path.write_bytes(archive(**{name: GOOD[name] for name in list(GOOD)[:3]}))
    with pytest.raises(DataError, match="expected the members"):
        load_split(path, SPLIT.train)


def test_a_missing_split_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_split(tmp_path / "none.npz", SPLIT.train)


# Real data


@pytest.mark.gowalla
def test_gowalla_official_splits_have_their_published_counts(gowalla: Path) -> None:
    train, held_out = read_folder(gowalla)
    official = [load_split(gowalla / f"official_split_seed{seed}.npz", train) for seed in (2024, 2025, 2026)]
    for split in (*official, split_third(train, held_out, seed=2024)):
        assert (split.valid.n_pairs, split.test.n_pairs) == (80_990, 136_252)
        assert len(np.unique(split.test.users)) == 29_857
        both = np.sort(np.concatenate([split.valid.pair_keys, split.test.pair_keys]))
        assert np.array_equal(both, held_out.pair_keys)
        n_valid = np.bincount(split.valid.users, minlength=29_858)
        assert np.array_equal(n_valid, np.bincount(official[0].valid.users, minlength=29_858))
    assert len({split.sha256() for split in official}) == 3  # D9


@pytest.mark.lastfm
def test_lastfm_splits_into_thirds(lastfm: Path) -> None:
    train, held_out = read_folder(lastfm)
    split = split_third(train, held_out, seed=7)
    n = [0] * held_out.n_users
    for user in held_out.users.tolist():
        n[user] += 1
    assert split.valid.n_pairs == sum(max(1, ceil(count / 3)) for count in n if count)
    assert split.valid.n_pairs + split.test.n_pairs == 10_533
