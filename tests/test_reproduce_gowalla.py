"""The published table's command, on planted pairs in Gowalla's format: every run is there, and a second call redoes nothing."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import PROJECT
from training.tiny import tiny_split

sys.path.append(str(PROJECT / "examples"))
reproduce_gowalla: Any = importlib.import_module("reproduce_gowalla")

SMALL = [
    "n_coarse=6",
    "n_fine=4",
    "dim=5",
    "n_layers=2",
    "fine_per_coarse=3",
    "max_epochs=4",
    "evaluate_every=1",
    "max_fixed_epochs=1",
    "batch=64",
]


def lightgcn_text(pairs: Any) -> str:
    return "".join(f"{user} {' '.join(map(str, pairs.items[pairs.users == user]))}\n" for user in range(pairs.n_users))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with training and test pairs and the split files of two seeds, whose validation pairs differ."""
    split, folder = tiny_split(), tmp_path / "data"
    folder.mkdir()
    (folder / "train.txt").write_text(lightgcn_text(split.train))
    users, items = (np.concatenate([getattr(part, name) for part in (split.valid, split.test)]) for name in ("users", "items"))
    (folder / "test.txt").write_text("".join(f"{user} {item}\n" for user, item in zip(users, items, strict=True)))
    for seed in (2024, 2025):
        is_valid = np.random.default_rng(seed).random(users.size) < 0.4
        parts = {
            "valid_user": users[is_valid],
            "valid_item": items[is_valid],
            "test_user": users[~is_valid],
            "test_item": items[~is_valid],
        }
        np.savez(folder / f"official_split_seed{seed}.npz", **parts)
    return folder


def test_every_run_has_its_row_and_a_second_call_redoes_nothing(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [str(data), "--out", str(tmp_path / "out"), "--recipe", "demo", "--seeds", "2024", "2025"]
    monkeypatch.setattr(sys, "argv", ["reproduce_gowalla.py", *options, *(part for s in SMALL for part in ("--set", s))])
    tables = []
    for _ in range(2):
        reproduce_gowalla.main()
        tables.append(capsys.readouterr().out.split("N@5", 1)[1])
    rows = [line.split("  ")[0] for line in tables[0].splitlines()[1:]]
    fine = [f"fine, seed {seed}{end}" for seed in (2024, 2025) for end in ("", ", published")]
    own = [f"fine of its own coarse, seed {seed}" for seed in (2025, 2024)]
    assert rows == ["coarse, seed 2024", "coarse, seed 2024, published", *fine, "coarse, seed 2025", *own]
    assert tables[0] == tables[1]
    log = json.loads((tmp_path / "out" / "log.json").read_text())
    assert log["runs"]["fine, seed 2025"]["split"] != log["runs"]["fine, seed 2024"]["split"]
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {"curves.png", "log.json", "fine-seed-2024.npz"}
