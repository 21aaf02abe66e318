"""The example that compares the stages: it runs, prints every row, and its controls are fair."""

from __future__ import annotations

import json
import re
import runpy
import sys
from pathlib import Path

import pytest
from training.tiny import tiny_split

from c2f_ref.interactions import Interactions

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "compare_stages.py"
MODELS = ["coarse, S_c fixed", "coarse", "coarse + fine", "coarse continued", "bias alone"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The tiny pairs as a LightGCN folder; validation and test pairs together are its test.txt."""
    split = tiny_split()
    held_out = Interactions.from_csr(split.valid.matrix() + split.test.matrix())
    for name, part in (("train.txt", split.train), ("test.txt", held_out)):
        lines = (f"{user} {' '.join(map(str, part.items[part.users == user]))}\n" for user in range(part.n_users))
        (tmp_path / name).write_text("".join(lines))
    return tmp_path


@pytest.mark.numba
@pytest.mark.parametrize("max_epochs", [60, 7])
def test_all_rows_are_printed_and_the_controls_make_as_many_steps_as_the_fine_stage(
    folder: Path, max_epochs: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With 60 epochs patience ends the fine stage, with 7 the epochs do."""
    settings = ["n_coarse=6", "n_fine=4", "dim=5", "n_layers=2", "fine_per_coarse=3", "coarse.batch=128", "fine.batch=96"]
    recipe = ["evaluate_every=2", "patience=2", f"max_epochs={max_epochs}", "coarse.lr=0.05", "fine.lr=0.04"]
    options = [part for override in settings + recipe for part in ("--set", override)]
    monkeypatch.setattr(sys, "argv", [str(EXAMPLE), str(folder), "--seeds", "0", "1", "--json", *options])
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    out, err = capsys.readouterr()

    lines = out.splitlines()
    assert lines[0].startswith("150 train, 30 valid, 60 test pairs")
    written = json.loads(next(line for line in lines if line.startswith("{")))
    head, *rows = lines[-8:]
    names = [re.split(r"  +", row)[0] for row in rows]
    assert names == list(written) == ["popularity", "item filter", *MODELS]
    assert head.split("  ")[-1] == "bytes: tables / all"
    assert [len(written[name]) for name in names] == [1, 1, 2, 2, 2, 2, 2]
    assert all("+-" in row for row in rows[2:])

    last_step: dict[str, int] = {}
    last_epoch: dict[str, int] = {}
    for stage, epoch, step in re.findall(r"seed 1, ([^,]+), phase \d, epoch (\d+), step (\d+):", err):
        last_step[stage], last_epoch[stage] = int(step), int(epoch)
    assert last_step.keys() == {"coarse", "fine", "coarse continued", "bias alone"}
    assert last_step["fine"] > 0
    assert last_step["coarse continued"] == last_step["bias alone"] == last_step["fine"]
    assert last_epoch["coarse continued"] == last_epoch["bias alone"] == last_epoch["fine"]
    phases = set(re.findall(r"seed 1, (coarse continued|bias alone), phase (\d)", err))
    assert phases == {("coarse continued", "2"), ("bias alone", "1")}
