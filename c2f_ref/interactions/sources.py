"""What a user points at, a folder or a file of pairs, as a split."""

from __future__ import annotations

from dataclasses import replace
from os import PathLike
from pathlib import Path

import numpy as np

from c2f_ref.interactions.formats import read_folder, read_interactions
from c2f_ref.interactions.splits import Split, load_split, split_ratio, split_third


def read_split(data: str | PathLike[str], *, split_file: str | PathLike[str] | None = None, seed: int = 0) -> Split:
    """Read `data` and split it the way its kind asks for.

    A folder has train.txt and test.txt in LightGCN text: a third of every user's test pairs becomes validation
    (`split_third`). One file of pairs, in any format of `read_interactions`, is divided per user (`split_ratio`). A saved
    split gives validation and test pairs itself; then all of train.txt is training, or what the split leaves of the file.

    Errors: DataError for anything malformed; OSError for a missing file.
    Source: evaluation protocol.
    """
    if Path(data).is_dir():
        train, test = read_folder(data)
        return load_split(split_file, train) if split_file else split_third(train, test, seed=seed)
    pairs = read_interactions(data)
    if not split_file:
        return split_ratio(pairs, seed=seed)
    split = load_split(split_file, pairs.select(np.zeros(pairs.n_pairs, dtype=np.bool_)))
    held_out = np.concatenate([split.valid.pair_keys, split.test.pair_keys])
    train = replace(pairs.select(~np.isin(pairs.pair_keys, held_out)), n_duplicates=pairs.n_duplicates)
    return replace(split, train=train)
