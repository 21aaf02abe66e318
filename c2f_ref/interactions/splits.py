"""Training, validation and test pairs: ways to draw them, and a file that keeps what was drawn.

Each way is a function of the pairs and of a seed of its own (D9: a split that follows the training
seed moves the test set), and gives every input pair to exactly one part.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import combinations
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from ..store import StoreError, read_arrays, read_store, write_store
from .files import read_folder, read_interactions
from .pairs import Array, DataError, IntArray, Interactions, is_whole

__all__ = ["Split", "load_split", "rank_in_user", "read_split", "save_split", "split_at"]
__all__ += ["split_by_time", "split_given", "split_leave_one_out", "split_ratio", "split_third"]
KIND = "c2f-ref split 1"
MEMBERS = ("valid_user", "valid_item", "test_user", "test_item")
"""Arrays of a split file, in order: int32 positions, one per pair."""
SHARES = (0.7, 0.1, 0.2)
SPLITS = ("ratio", "time", "leave-one-out")


@dataclass(frozen=True, eq=False)
class Split:
    """Three disjoint sets of pairs on the same ids, and how they came about.

    `how`: "ratio 0.7/0.1/0.2" and "time 0.7/0.1/0.2" (train/valid/test), "leave-one-out", "third",
    "given" or "file NAME". `seed`: None where nothing was drawn, and for a file.
    Errors: DataError where the ids differ, or a pair is in two parts, with its raw ids.
    """

    train: Interactions
    valid: Interactions
    test: Interactions
    how: str
    seed: int | None = None
    source: str = ""
    """What was read and dropped, one line: `Interactions.describe` of each file."""

    def __post_init__(self) -> None:
        parts = {"train": self.train, "valid": self.valid, "test": self.test}
        for (name, part), (other_name, other) in combinations(parts.items(), 2):
            sides = (part.user_ids, other.user_ids), (part.item_ids, other.item_ids)
            if not all(np.array_equal(*ids) for ids in sides):
                raise DataError(f"{other_name} must have the ids of {name}")
            for key in np.intersect1d(part.pair_keys, other.pair_keys, assume_unique=True)[:1]:
                both = f"both have user and item {_raw_pair(part, key)}"
                raise DataError(f"{name} and {other_name} must be disjoint, {both}")

    def sha256(self) -> str:
        """Hash the three sets, in hex; neither `how` nor `seed`, so a file gives the same hash."""
        hashes = [part.sha256() for part in (self.train, self.valid, self.test)]
        return hashlib.sha256("\n".join(hashes).encode()).hexdigest()

    def describe(self) -> str:
        """Describe the split in one printable line: counts, repeats dropped, how, seed, hash."""
        train, valid, test = parts = self.train, self.valid, self.test
        counts = f"{train.n_pairs} train, {valid.n_pairs} valid, {test.n_pairs} test pairs"
        n_duplicates = sum(part.n_duplicates for part in parts)
        dropped = f" ({n_duplicates} repeated pairs dropped)" if n_duplicates else ""
        how = repr(self.how)[1:-1]  # a file name may hold what a terminal must not see
        sizes = f"{train.n_users} users, {train.n_items} items"
        return f"{counts}{dropped} of {sizes}; {how}, seed {self.seed}, {self.sha256()[:12]}"


def split_ratio(pairs: Interactions, *, valid: float = 0.1, test: float = 0.2, seed: int) -> Split:
    """Draw a share of each user's pairs for validation and for test.

        n_test = floor(test * n)
        n_valid = min(max(floor(valid * n), 1 where valid > 0), n - n_test - 1)

    Edge: a share too small for a whole pair validates with one where that leaves a training pair,
    so users with few pairs validate too. Shares are the decimals or simple fractions they were
    written as: 0.29 of 100 is 29, 1/3 of 3 is 1.
    Errors: DataError unless valid >= 0, test >= 0, valid + test < 1; for a seed that is not an
    int >= 0.
    """
    rank, n = rank_in_user(pairs, _draw(pairs, seed))
    n_valid, n_test, ratio = _shares_of(n, valid, test)
    n_valid = np.minimum(np.maximum(n_valid, int(valid > 0)), n - n_test - 1)
    return split_at(pairs, rank, n_test, n_test + n_valid, f"ratio {ratio}", int(seed))


def split_leave_one_out(pairs: Interactions, *, seed: int) -> Split:
    """Take each user's last pair for test and the one before for validation.

    Edge: equal timestamps are put in an order drawn from the seed, and so are all pairs without
    timestamps; users with fewer than 3 pairs keep them all in train.
    Errors: DataError for a seed that is not an int >= 0.
    """
    latest_first = [] if pairs.timestamps is None else [-pairs.timestamps]
    rank, n = rank_in_user(pairs, _draw(pairs, seed), *latest_first)
    enough = np.where(n >= 3, 1, 0)
    return split_at(pairs, rank, enough, 2 * enough, "leave-one-out", int(seed))


def split_by_time(pairs: Interactions, *, valid: float = 0.1, test: float = 0.2) -> Split:
    """Take the latest pairs of all for test and those before them for validation.

        test: timestamp > times[P - n_test - 1]
        valid or test: timestamp > times[P - n_test - n_valid - 1]
        with times sorted, n_test = floor(test * P), n_valid = floor(valid * P)

    Edge: equal timestamps stay together on the earlier side of a cut, so a part may be smaller than
    its share, even empty.
    Errors: DataError without timestamps, and for shares as in `split_ratio`.
    """
    n_valid, n_test, ratio = _shares_of(pairs.n_pairs, valid, test)
    if pairs.timestamps is None:
        raise DataError("a split by time needs timestamps, got none")
    age = -pairs.timestamps
    cuts = np.append(np.sort(age), 0.0)  # the last one for no pairs at all
    return split_at(pairs, age, cuts[n_test], cuts[n_test + n_valid], f"time {ratio}", None)


def split_third(train: Interactions, held_out: Interactions, *, seed: int) -> Split:
    """Draw max(1, ceil(n / 3)) of each user's n held-out pairs for validation; the rest is test.

    Edge: a user with one held-out pair is in validation alone (D10).
    Errors: DataError where `train` and `held_out` differ in ids or share a pair, and for a seed
    that is not an int >= 0.
    Source: equation (30).
    """
    rank, n = rank_in_user(held_out, _draw(held_out, seed))
    in_valid = rank < -(-n // 3)  # at least 1 wherever there is a pair
    valid = held_out.select(in_valid, dropped=held_out.dropped)
    return Split(train, valid, held_out.select(~in_valid), "third", int(seed))


def split_given(
    train: Interactions, valid: Interactions | None = None, test: Interactions | None = None
) -> Split:
    """Take the sets as they are, None for no pairs.

    Errors: DataError where they differ in ids or share a pair.
    """
    return Split(train, valid or _none_of(train), test or _none_of(train), "given")


def save_split(path: str | PathLike[str], split: Split) -> None:
    """Store the positions of the validation and test pairs, neither training pairs nor timestamps.

    Edge: the same split gives the same bytes. The file appears whole or not at all.
    Errors: OSError where it cannot be written.
    """
    pairs = (split.valid.users, split.valid.items, split.test.users, split.test.items)
    arrays = {name: row.astype(np.int32) for name, row in zip(MEMBERS, pairs, strict=True)}
    write_store(path, KIND, {}, arrays)


def load_split(path: str | PathLike[str], train: Interactions) -> Split:
    """Read the pairs of `save_split`, or of any `.npz` of the same four arrays.

    `train` gives the training pairs and the ids.
    Errors: DataError for any other file; OSError where the file cannot be read.
    """
    try:
        arrays = read_arrays(path)
        arrays = read_store(path, KIND)[1] if "header" in arrays else arrays
        if sorted(arrays) != sorted(MEMBERS):
            raise DataError(f"expected the arrays {', '.join(MEMBERS)}, got {', '.join(arrays)}")
        valid, test = (
            replace(train, users=arrays[user], items=arrays[item], timestamps=None, dropped={})
            for user, item in (MEMBERS[:2], MEMBERS[2:])
        )
        if n_repeats := valid.n_duplicates + test.n_duplicates:
            raise DataError(f"expected no pair twice, got {n_repeats} repeats")
        return Split(train, valid, test, how=f"file {Path(path).name}")
    except (DataError, StoreError) as error:
        raise DataError(str(error).removeprefix(f"{path}: "), path) from error


def read_split(
    data: str | PathLike[str],
    *,
    split_file: str | PathLike[str] | None = None,
    seed: int = 0,
    shares: Sequence[float] = SHARES,
    split_by: str = "ratio",
    **columns: Any,
) -> Split:
    """Read `data` and split it the way its kind asks for.

    A folder of `read_folder` says itself what is training: with a validation file the parts are as
    given, else a third of each user's test pairs becomes validation (`split_third`). One file of
    pairs is divided by `split_by`: "ratio" per user (`split_ratio`), "time" (`split_by_time`), both
    by `shares` of train, validation and test, or "leave-one-out" (`split_leave_one_out`). A saved
    split says which held-out pairs, or pairs of the file, are validation and test.
    `columns`: `format` and what else `read_interactions` takes by keyword.

    Errors: DataError for anything malformed, shares that are not three numbers of sum 1, and a
    saved split with a pair that the data do not have; OSError for a missing file.
    Source: equation (30).
    """
    shares = tuple(shares)
    if len(shares) != 3 or not abs(sum(shares) - 1) < 1e-6 or split_by not in SPLITS:
        text = f"shares must be three of sum 1, split_by one of {', '.join(SPLITS)}"
        raise DataError(f"{text}; got {shares}, {split_by!r}")
    is_folder = Path(data).is_dir()
    if (is_folder or split_file) and (shares, split_by) != (SHARES, "ratio"):
        raise DataError("shares and split_by divide one file; here the parts are given", data)
    parts = read_folder(data, **columns) if is_folder else (read_interactions(data, **columns),)
    source = "; ".join(part.describe() for part in parts)
    if is_folder:
        sides = ([part.users for part in parts], [part.items for part in parts])
        new = [len(np.setdiff1d(np.concatenate(held_out), train)) for train, *held_out in sides]
        source += f"; only held-out files name {new[0]} users and {new[1]} items"
    if split_file:
        split = _read_saved(split_file, parts)
    elif is_folder:
        split = split_third(*parts, seed=seed) if len(parts) == 2 else split_given(*parts)
    elif split_by == "leave-one-out":
        split = split_leave_one_out(parts[0], seed=seed)
    elif split_by == "time":
        split = split_by_time(parts[0], valid=shares[1], test=shares[2])
    else:
        split = split_ratio(parts[0], valid=shares[1], test=shares[2], seed=seed)
    return replace(split, source=source)


def _read_saved(path: str | PathLike[str], parts: Sequence[Interactions]) -> Split:
    """The split saved at `path`, of one file or of training and held-out files."""
    whole, is_folder = parts[0], len(parts) > 1
    split = load_split(path, whole if is_folder else _none_of(whole))
    held_out = np.concatenate([split.valid.pair_keys, split.test.pair_keys])
    known = np.concatenate([part.pair_keys for part in (parts[1:] if is_folder else parts)])
    strange = held_out[~np.isin(held_out, known)]
    if strange.size:
        found = f"{strange.size} of its pairs, such as {_raw_pair(whole, strange[0])}"
        raise DataError(f"{split.how} is a split of other data: {found}, are not in these")
    if is_folder:
        return split
    train = whole.select(~np.isin(whole.pair_keys, held_out), dropped=whole.dropped)
    return replace(split, train=train)


def split_at(
    pairs: Interactions, key: Array, test_end: Any, valid_end: Any, how: str, seed: int | None
) -> Split:
    """Take pairs with a key below `test_end` for test, and from there to `valid_end` to validate.

    Shapes: key (P,); both ends (P,) or one number.
    """
    in_test, in_train = key < test_end, key >= valid_end
    train = pairs.select(in_train, dropped=pairs.dropped)
    return Split(train, pairs.select(~(in_test | in_train)), pairs.select(in_test), how, seed)


def rank_in_user(pairs: Interactions, *keys: Array) -> tuple[IntArray, IntArray]:
    """Rank each pair among its user's by ascending keys, the last key first; and count these.

    Shapes: keys (P,) each -> rank (P,) from 0, count (P,).
    """
    users = pairs.users
    n = np.bincount(users, minlength=pairs.n_users)
    rank = np.empty(pairs.n_pairs, dtype=np.int64)
    rank[np.lexsort((*keys, users))] = np.arange(pairs.n_pairs) - (np.cumsum(n) - n)[users]
    return rank, n[users]


def _none_of(pairs: Interactions) -> Interactions:
    return pairs.select(np.zeros(pairs.n_pairs, dtype=np.bool_))


def _raw_pair(pairs: Interactions, key: Any) -> tuple[Any, Any]:
    user, item = divmod(int(key), pairs.n_items)
    return pairs.user_ids[user].item(), pairs.item_ids[item].item()


def _draw(pairs: Interactions, seed: int) -> Array:
    """A random number for each pair."""
    if not is_whole(seed, 0):
        raise DataError(f"seed must be an int >= 0, got {seed!r}")
    return np.random.default_rng(seed).random(pairs.n_pairs)


def _shares_of(n: Any, valid: float, test: float) -> tuple[Any, Any, str]:
    """Floors of both shares of n, which may be an array, and train/valid/test as text."""
    given = (share for share in (valid, test) if 0 <= share < 1)  # NaN is not
    shares = [Fraction(share).limit_denominator(10**6) for share in given]
    if len(shares) < 2 or sum(shares) >= 1:
        raise DataError(f"valid, test must be >= 0 and leave a share for train: {valid}, {test}")
    ratio = "/".join(f"{float(share):g}" for share in (1 - sum(shares), *shares))
    return *(share.numerator * n // share.denominator for share in shares), ratio
