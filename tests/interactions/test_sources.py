"""What a user points at becomes the split that its kind asks for."""

from __future__ import annotations

from pathlib import Path

import pytest

from c2f_ref.interactions import DataError, read_interactions, read_split, save_split, split_ratio, split_third
from c2f_ref.interactions.formats import read_folder

LINES = "0 1 2 3 4 5 6 7 8 9 10\n1 0 2 4 6 8 10 12\n2 1 3 5\n"


def folder(tmp_path: Path) -> Path:
    (tmp_path / "train.txt").write_text(LINES, encoding="utf-8")
    (tmp_path / "test.txt").write_text("0 11 12 0\n1 1 3\n2 0\n", encoding="utf-8")
    return tmp_path


def test_a_folder_is_split_into_thirds_of_its_test_pairs(tmp_path: Path) -> None:
    data = folder(tmp_path)
    assert read_split(data, seed=3).sha256() == split_third(*read_folder(data), seed=3).sha256()


def test_a_file_is_split_per_user(tmp_path: Path) -> None:
    file = folder(tmp_path) / "train.txt"
    assert read_split(file, seed=3).sha256() == split_ratio(read_interactions(file), seed=3).sha256()


def test_a_split_saved_from_a_file_comes_back_with_that_file(tmp_path: Path) -> None:
    file = folder(tmp_path) / "train.txt"
    split = read_split(file, seed=3)
    assert split.test.n_pairs > 0
    save_split(tmp_path / "mine.npz", split)
    assert read_split(file, split_file=tmp_path / "mine.npz").sha256() == split.sha256()


def test_a_split_saved_from_a_folder_comes_back_with_that_folder(tmp_path: Path) -> None:
    data = folder(tmp_path)
    split = read_split(data, seed=3)
    save_split(tmp_path / "mine.npz", split)
    assert read_split(data, split_file=tmp_path / "mine.npz").sha256() == split.sha256()


def test_a_split_that_shares_pairs_with_train_txt_is_refused(tmp_path: Path) -> None:
    """A folder says itself which pairs are training: none of them can be held out."""
    data = folder(tmp_path)
    save_split(tmp_path / "mine.npz", read_split(data / "train.txt", seed=3))
    with pytest.raises(DataError):
        read_split(data, split_file=tmp_path / "mine.npz")
