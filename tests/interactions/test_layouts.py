"""Published layouts: each is read as it comes, and damaged files are refused or read right."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from mutate_files import LAYOUTS, ROWS, check, damaged

from c2f_ref.interactions import read_interactions, read_split


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_published_layout_is_read_as_it_comes(tmp_path: Path, name: str) -> None:
    layout = LAYOUTS[name]
    assert check(layout, layout.content(), tmp_path)
    made = read_interactions(tmp_path / layout.name, **layout.options)
    assert (made.n_pairs, made.dropped) == (11 if name == "LightGCN" else len(ROWS), {})
    assert (made.timestamps is None) == (name in ("LightGCN", "Book-Crossing", "HetRec", "RecBole"))
    split = read_split(tmp_path / layout.name, **layout.options)
    assert split.train.n_pairs + split.valid.n_pairs + split.test.n_pairs == made.n_pairs


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_damaged_file_is_refused_with_its_place_or_read_right(tmp_path: Path, name: str) -> None:
    """The long run is the command `tests/mutate_files.py`."""
    layout, rng = LAYOUTS[name], np.random.default_rng(1)
    n_read = sum(check(layout, damaged(layout.content(), rng), tmp_path) for _ in range(60))
    assert 0 < n_read < 60


def test_ratings_of_each_layout_can_be_asked_for(tmp_path: Path) -> None:
    """Of nine ratings four are 4 or more; the least that is kept is told in each file's unit."""
    n_kept = sum(rating >= 4 for _, _, rating, _ in ROWS)
    for name, layout in LAYOUTS.items():
        if name not in ("LightGCN", "HetRec"):
            (tmp_path / layout.name).write_bytes(layout.content())
            made = read_interactions(tmp_path / layout.name, **layout.options, least_rating=4)
            assert (made.n_pairs, made.dropped) == (n_kept, {"rated below 4": 9 - n_kept}), name
