"""Training, validation and test pairs: ways to draw them, a file that keeps what was drawn, and what a user points at as a split.

Each way is a function of the pairs and of its own seed (D9: a split that follows the training seed moves the test set), and
gives every input pair to exactly one part.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import combinations
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from c2f_ref.files import replacing
from c2f_ref.interactions.fields import DataError, IntArray, as_positions, is_whole
from c2f_ref.interactions.formats import read_folder, read_interactions
from c2f_ref.interactions.pairs import Interactions

MEMBERS = ("valid_user", "valid_item", "test_user", "test_item")
"""Arrays of a split file, in order: int32 positions, one per pair."""


@dataclass(frozen=True, eq=False)
class Split:
    """Three disjoint sets of pairs on the same id spaces, and how they came about.

    `how`: "ratio 0.7/0.1/0.2", "leave-one-out", "time 0.7/0.1/0.2" (train/valid/test), "third", "given" or "file NAME".
    `seed`: None where nothing was drawn, and for a file.
    Errors: DataError where the id spaces differ, or a pair is in two parts (the message names its raw ids).
    """

    train: Interactions
    valid: Interactions
    test: Interactions
    how: str
    seed: int | None = None

    def __post_init__(self) -> None:
        parts = {"train": self.train, "valid": self.valid, "test": self.test}
        for (name, part), (other_name, other) in combinations(parts.items(), 2):
            if not (np.array_equal(part.user_ids, other.user_ids) and np.array_equal(part.item_ids, other.item_ids)):
                raise DataError(f"{other_name} must have the id spaces of {name}")
            shared = np.intersect1d(part.pair_keys, other.pair_keys, assume_unique=True)
            if shared.size:
                user, item = divmod(int(shared[0]), part.n_items)
                pair = (part.user_ids[user].item(), part.item_ids[item].item())
                raise DataError(f"{name} and {other_name} must be disjoint, both have user and item {pair}")

    def sha256(self) -> str:
        """Hash the three sets, in hex; neither `how` nor `seed`, so a split read back from its file has the same hash."""
        return hashlib.sha256("\n".join(part.sha256() for part in (self.train, self.valid, self.test)).encode()).hexdigest()

    def describe(self) -> str:
        """Say in one printable line what the split is: counts, repeats dropped, how, seed and the first 12 digits of the hash."""
        counts = f"{self.train.n_pairs} train, {self.valid.n_pairs} valid, {self.test.n_pairs} test pairs"
        how = repr(self.how)[1:-1]  # a file name may hold what a terminal must not see
        n_duplicates = sum(part.n_duplicates for part in (self.train, self.valid, self.test))
        dropped = f" ({n_duplicates} repeated pairs dropped)" if n_duplicates else ""
        sizes = f"{self.train.n_users} users, {self.train.n_items} items"
        return f"{counts}{dropped} of {sizes}; {how}, seed {self.seed}, {self.sha256()[:12]}"


def split_ratio(interactions: Interactions, *, valid: float = 0.1, test: float = 0.2, seed: int) -> Split:
    """Draw a share of each user's pairs for validation and for test.

        n_test = floor(test * n),  n_valid = floor(valid * n),  n_train = n - n_test - n_valid >= 1 for n >= 1

    Edge: shares are taken as the decimals or simple fractions they were written as: 0.29 of 100 is 29, 1/3 of 3 is 1.
    Errors: DataError unless valid >= 0, test >= 0, valid + test < 1; for a seed that is not an int >= 0.
    """
    rank, n = rank_in_user(interactions, _rng(seed).random(interactions.n_pairs))
    n_valid, n_test, ratio = _shares_of(n, valid, test)
    return split_at(interactions, rank, n_test, n_test + n_valid, f"ratio {ratio}", seed)


def split_leave_one_out(interactions: Interactions, *, seed: int) -> Split:
    """Take each user's last pair for test and the one before for validation.

    Edge: equal timestamps are put in an order drawn from the seed, and so are all pairs without timestamps; users with
    fewer than 3 pairs keep them all in train.
    Errors: DataError for a seed that is not an int >= 0.
    """
    drawn = _rng(seed).random(interactions.n_pairs)
    rank, n = rank_in_user(interactions, drawn, *([] if interactions.timestamps is None else [-interactions.timestamps]))
    enough = np.where(n >= 3, 1, 0)
    return split_at(interactions, rank, enough, 2 * enough, "leave-one-out", seed)


def split_by_time(interactions: Interactions, *, valid: float = 0.1, test: float = 0.2) -> Split:
    """Take the latest pairs of all for test and those before them for validation.

        test: timestamp > times[P - n_test - 1],  valid or test: timestamp > times[P - n_test - n_valid - 1]
        with times sorted, n_test = floor(test * P), n_valid = floor(valid * P)

    Edge: equal timestamps stay together on the earlier side of a cut, so a part may be smaller than its share, even empty.
    Errors: DataError without timestamps, and for shares as in `split_ratio`.
    """
    n_valid, n_test, ratio = _shares_of(interactions.n_pairs, valid, test)
    if interactions.timestamps is None:
        raise DataError("a split by time needs timestamps, got none")
    latest_first = -interactions.timestamps
    cuts = np.append(np.sort(latest_first), 0.0)  # the last one for no pairs at all
    return split_at(interactions, latest_first, cuts[n_test], cuts[n_test + n_valid], f"time {ratio}", None)


def split_third(train: Interactions, held_out: Interactions, *, seed: int) -> Split:
    """Draw max(1, ceil(n / 3)) of each user's n held-out pairs for validation; the rest is test.

    Edge: a user with one held-out pair is in validation alone (D10).
    Errors: DataError where `train` and `held_out` differ in ids or share a pair, and for a seed that is not an int >= 0.
    Source: evaluation protocol of the published numbers.
    """
    rank, n = rank_in_user(held_out, _rng(seed).random(held_out.n_pairs))
    in_valid = rank < -(-n // 3)  # at least 1 wherever there is a pair
    valid = replace(held_out.select(in_valid), n_duplicates=held_out.n_duplicates)
    return Split(train, valid, held_out.select(~in_valid), "third", int(seed))


def split_given(train: Interactions, valid: Interactions, test: Interactions) -> Split:
    """Take three sets as they are; DataError where they differ in ids or share a pair."""
    return Split(train, valid, test, "given")


def save_split(path: str | PathLike[str], split: Split) -> None:
    """Write the positions of the validation and test pairs as `.npz`; training pairs and timestamps are not in it.

    The same split gives the same bytes. The file appears whole or not at all.
    """
    pairs = (split.valid.users, split.valid.items, split.test.users, split.test.items)
    arrays: dict[str, Any] = {name: positions.astype(np.int32) for name, positions in zip(MEMBERS, pairs, strict=True)}
    with replacing(path) as file:
        np.savez_compressed(file, **arrays)


def load_split(path: str | PathLike[str], train: Interactions) -> Split:
    """Read the validation and test pairs of a split file; `train` gives the training pairs and the id spaces.

    Errors: DataError that names the file, and the member where one is damaged; OSError where the file cannot be read.
    """
    content = Path(path).read_bytes()
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if sorted(archive.namelist()) != sorted(f"{name}.npy" for name in MEMBERS):
                raise DataError(f"expected the members {', '.join(MEMBERS)}, found {archive.namelist()}")
            valid, test = (_read_pairs(archive, part, train) for part in ("valid", "test"))
        return Split(train, valid, test, how=f"file {Path(path).name}")
    except DataError as error:
        raise DataError(str(error), path=path) from error
    except Exception as error:  # zipfile has many types of error for damage, and documents few
        raise DataError(f"not a readable split file: {error!r}", path=path) from error


def read_split(data: str | PathLike[str], *, split_file: str | PathLike[str] | None = None, seed: int = 0) -> Split:
    """Read `data` and split it the way its kind asks for.

    A folder has train.txt and test.txt in LightGCN text: a third of every user's test pairs becomes validation
    (`split_third`). One file of pairs, in any format of `read_interactions`, is divided per user (`split_ratio`). A saved
    split says which pairs of test.txt, or of the file, are validation and test; all of train.txt is training, or the rest of the
    file.

    Errors: DataError for anything malformed, and for a saved split with a pair that the data have not; OSError for a missing file.
    Source: evaluation protocol.
    """
    if Path(data).is_dir():
        train, test = read_folder(data)
        return _within(test, load_split(split_file, train)) if split_file else split_third(train, test, seed=seed)
    pairs = read_interactions(data)
    if not split_file:
        return split_ratio(pairs, seed=seed)
    split = _within(pairs, load_split(split_file, pairs.select(np.zeros(pairs.n_pairs, dtype=np.bool_))))
    held_out = np.concatenate([split.valid.pair_keys, split.test.pair_keys])
    train = replace(pairs.select(~np.isin(pairs.pair_keys, held_out)), n_duplicates=pairs.n_duplicates)
    return replace(split, train=train)


def _within(pairs: Interactions, split: Split) -> Split:
    """The split, if its validation and test pairs are among `pairs`."""
    for name, part in (("validation", split.valid), ("test", split.test)):
        strange = np.flatnonzero(~np.isin(part.pair_keys, pairs.pair_keys))
        if strange.size:
            user, item = part.user_ids[part.users[strange[0]]], part.item_ids[part.items[strange[0]]]
            raise DataError(
                f"{split.how} is a split of other data: {strange.size} of its {part.n_pairs} {name} pairs are not in these, "
                f"user {user} with item {item} for one"
            )
    return split


def _read_member(archive: zipfile.ZipFile, name: str, size: int) -> IntArray:
    """Read one array and all its bytes: `np.load` on the archive stops at the array's end, and misses the checksum with it."""
    try:
        stream = io.BytesIO(archive.read(f"{name}.npy"))
        array = np.load(stream, allow_pickle=False)
        if stream.read(1):
            raise DataError("there are bytes after the array")
        return as_positions(name, array, size)
    except Exception as error:  # zlib, zipfile and NumPy have at least eight types of error for damage
        raise DataError(f"member {name} is damaged: {str(error) or repr(error)}") from error


def _read_pairs(archive: zipfile.ZipFile, part: str, train: Interactions) -> Interactions:
    users = _read_member(archive, f"{part}_user", train.n_users)
    items = _read_member(archive, f"{part}_item", train.n_items)
    if len(users) != len(items):
        raise DataError(f"members {part}_user and {part}_item must be equally long, got {len(users)} and {len(items)}")
    pairs = Interactions.from_indices(users, items, train.n_users, train.n_items, user_ids=train.user_ids, item_ids=train.item_ids)
    if pairs.n_duplicates:
        raise DataError(f"members {part}_user and {part}_item must hold no pair twice, got {pairs.n_duplicates} repeats")
    return pairs


def split_at(interactions: Interactions, key: npt.NDArray[Any], test_end: Any, valid_end: Any, how: str, seed: int | None) -> Split:
    """Take the pairs with a key below `test_end` for test, and those from there to below `valid_end` for validation.

    Shapes: key (P,); both ends (P,) or one number.
    """
    in_test, in_train = key < test_end, key >= valid_end
    train = replace(interactions.select(in_train), n_duplicates=interactions.n_duplicates)
    valid, test = interactions.select(~(in_test | in_train)), interactions.select(in_test)
    return Split(train, valid, test, how, None if seed is None else int(seed))


def rank_in_user(interactions: Interactions, *keys: npt.NDArray[np.float64]) -> tuple[IntArray, IntArray]:
    """Rank each pair among its user's, from 0, by ascending keys, the last key first; and how many these are.

    Shapes: keys (P,) each -> (P,), (P,).
    """
    users = interactions.users
    n = np.bincount(users, minlength=interactions.n_users)
    rank = np.empty(interactions.n_pairs, dtype=np.int64)
    rank[np.lexsort((*keys, users))] = np.arange(interactions.n_pairs) - (np.cumsum(n) - n)[users]
    return rank, n[users]


def _shares_of(n: Any, valid: float, test: float) -> tuple[Any, Any, str]:
    """Floors of both shares of n, which may be an array, and train/valid/test as text."""
    if 0 <= valid < 1 and 0 <= test < 1:  # also keeps NaN out
        of_valid, of_test = (Fraction(share).limit_denominator(10**6) for share in (valid, test))
        if of_valid + of_test < 1:
            ratio = "/".join(f"{float(share):g}" for share in (1 - of_valid - of_test, of_valid, of_test))
            return of_valid.numerator * n // of_valid.denominator, of_test.numerator * n // of_test.denominator, ratio
    raise DataError(f"valid and test must be >= 0 and leave a share for train, got {valid} and {test}")


def _rng(seed: int) -> np.random.Generator:
    if not is_whole(seed, 0):
        raise DataError(f"seed must be an int >= 0, got {seed!r}")
    return np.random.default_rng(seed)
