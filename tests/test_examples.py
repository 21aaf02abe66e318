"""The numbered examples: each runs on small planted data and on a file, prints what it says it prints, and leaves its pictures."""

from __future__ import annotations

import math
import re
import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import PROJECT
from scipy import sparse

from c2f_ref import spec
from c2f_ref.bundle import load_model
from c2f_ref.interactions import planted, read_interactions

EXAMPLES = PROJECT / "examples"
SMALL = ["n_coarse=6", "n_fine=4", "dim=5", "n_layers=2", "fine_per_coarse=3", "max_epochs=6", "evaluate_every=5", "batch=4096"]
OF_FILE = ["draws_per_epoch=200", "max_fixed_epochs=1"]
"""For the recipe that the examples take for a file, which draws millions of triples an epoch."""


@pytest.fixture
def pairs_file(tmp_path: Path) -> Path:
    """30 users with 12 pairs each, 40 items, with raw ids, as a CSV."""
    pairs = planted(n_users=30, n_items=40, n_groups=2, subgroups_per_group=2, pairs_per_user=12, rng=np.random.default_rng(0))
    raw = zip(pairs.user_ids[pairs.users], pairs.item_ids[pairs.items], strict=True)
    path = tmp_path / "pairs.csv"
    path.write_text("user,item\n" + "".join(f"{user},{item}\n" for user, item in raw))
    return path


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run an example in an empty folder with these arguments, and return what it printed."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.chdir(home)

    def run_example(name: str, *arguments: object, settings: list[str] | None = None) -> str:
        options = [part for setting in settings or [] for part in ("--set", setting)]
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments), *options])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out

    return run_example


def rows_of(printed: str) -> dict[str, list[str]]:
    """Lines of a table: a name, two spaces or more, then cells."""
    lines = (re.split(r"\s{2,}", line.strip()) for line in printed.splitlines())
    return {name: cells for name, *cells in lines if cells}


def test_there_is_a_test_for_every_numbered_example() -> None:
    text = Path(__file__).read_text(encoding="utf-8")
    names = [path.name for path in sorted(EXAMPLES.glob("0*.py"))]
    assert len(names) == 5
    assert [name for name in names if f'"{name}"' not in text] == []


def test_a_calculator_gives_what_the_worked_example_gives(run: Any) -> None:
    """Six entries are worked out from numbers that are printed to four places. 13 steps follow each other."""
    printed = run("01_worked_example.py")
    by_hand = re.findall(r"^by hand: (.*) = (.*) = (-?\d\.\d{4})$", printed, flags=re.MULTILINE)
    assert [name for name, *_ in by_hand] == ["A[0, 3]", "X_e[0, 1]", "H[0, 1]", "loss", "E_c[0, 0]", "entry [0, 0]"]
    assert by_hand[0] == ("A[0, 3]", "1 / sqrt(2 * 1)", "0.7071")
    for _, sum_to_do, value in by_hand:
        assert eval(sum_to_do, dict(vars(math))) == pytest.approx(float(value), abs=3e-4)
    assert re.findall(r"^(\d+)\. ", printed, flags=re.MULTILINE) == [str(step) for step in range(1, 14)]


def test_the_worked_example_takes_pairs_of_your_own(run: Any, tmp_path: Path) -> None:
    """The first user chose 3 items, the first item was chosen twice: 1 / sqrt(6)."""
    (tmp_path / "own.csv").write_text("user,item\n5,70\n5,80\n5,90\n6,70\n")
    printed = run("01_worked_example.py", tmp_path / "own.csv")
    assert printed.startswith("Entities are users, then items: 5 6 70 80 90\n")
    assert "A[0, 2] = 1 / sqrt(3 * 2) = 0.4082" in printed


@pytest.mark.parametrize("pull_back", ["propagate_coarse_vjp", "bridge_vjp", "ego_penalty_vjp"])
def test_the_worked_example_stops_at_a_wrong_gradient(pull_back: str, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    right = getattr(spec.model, pull_back)

    def wrong(*given: Any) -> Any:
        grads = right(*given)
        return tuple(1.01 * grad for grad in grads) if isinstance(grads, tuple) else 1.01 * grads

    monkeypatch.setattr(spec.model, pull_back, wrong)
    with pytest.raises(AssertionError):
        run("01_worked_example.py")


@pytest.mark.parametrize("is_file", [False, True])
def test_both_stages_stand_in_a_table_with_the_yardsticks(is_file: bool, run: Any, pairs_file: Path) -> None:
    printed = run("02_train_planted.py", *([pairs_file] if is_file else []), settings=SMALL + (OF_FILE if is_file else []))
    rows = rows_of(printed.split("test pairs (", 1)[1])
    for name in ("popularity", "item filter", "coarse", "coarse + fine"):
        assert len(rows[name]) == 6
        assert all(0 <= float(cell) <= 1 for cell in rows[name])
    assert re.findall(r"^(\w+) stage, phase 1, step +0: validation NDCG 0\.\d{4} \(best", printed, re.MULTILINE) == [
        "coarse",
        "fine",
    ]
    assert Path("c2f-examples/training.png").read_bytes().startswith(b"\x89PNG")


def test_a_file_of_pairs_becomes_a_model_and_new_items_by_raw_id(run: Any, pairs_file: Path) -> None:
    printed = run("03_train_your_data.py", pairs_file, "--out", "kept.npz", "--user", "u7", settings=SMALL[2:] + OF_FILE)
    pairs, model = read_interactions(pairs_file), load_model("kept.npz")
    assert (
        f"1. 360 pairs of {pairs.n_users} users and {pairs.n_items} items, {36000 / pairs.n_users / pairs.n_items:.2f} %" in printed
    )
    assert (model.n_users, model.n_items, model.settings.n_coarse) == (pairs.n_users, pairs.n_items, 2)
    recommended = re.findall(r"^   (i\d+)  -?\d", printed, flags=re.MULTILINE)
    chosen = set(model.item_ids[model.seen[[model.user_ids.tolist().index("u7")]].indices])
    assert len(recommended) == 5
    assert not set(recommended) & chosen


def test_without_a_file_one_is_written_and_read(run: Any) -> None:
    printed = run("03_train_your_data.py", settings=SMALL)
    assert "1. 9,000 pairs of 600 users and 598 items" in printed
    assert Path("c2f-examples/model.npz").stat().st_size > 0


@pytest.mark.parametrize("is_file", [False, True])
def test_recall_stands_beside_bytes_and_promises_are_kept(is_file: bool, run: Any, pairs_file: Path) -> None:
    """400 planted users and items, or what the file has. Popularity stores a float32 for every item, LightGCN one for every entity
    and dimension, beside the training pairs that the item filter stores too.
    """
    pairs = read_interactions(pairs_file)
    n_users, n_items = (pairs.n_users, pairs.n_items) if is_file else (400, 400)
    data, quick = ([pairs_file], OF_FILE) if is_file else ([], [])
    budget = 2000 if is_file else 18_000
    printed = run("04_memory_against_recall.py", *data, "--coarse", 3, 5, "--budgets", budget, settings=SMALL + quick)
    rows = {name: [cell.replace(",", "") for cell in cells] for name, cells in rows_of(printed).items()}
    assert rows["popularity"][:2] == ["0", str(4 * n_items)]
    graph = int(rows["item filter"][1])
    for dim in (1, 5):
        vectors = 4 * dim * (n_users + n_items)
        assert rows[f"LightGCN, D = {dim}"][:2] == [str(vectors), str(vectors + graph)]
    for size in ("3 coarse rows", "5 coarse rows", f"budget {budget:,}"):
        tables, everything, *_ = map(int, rows[f"coarse, {size}"][:2])
        assert graph < tables + graph < everything
        _, everything, promised = map(int, rows[f"coarse + fine, {size}"][:3])
        assert everything <= promised
    assert int(rows["coarse, 3 coarse rows"][0]) == 4 * 3 * 5
    assert promised <= budget
    assert Path("c2f-examples/memory_against_recall.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("is_file", [False, True])
def test_the_fine_stage_is_taken_apart(is_file: bool, run: Any, pairs_file: Path) -> None:
    """Entries beyond the threshold can only become fewer."""
    data, quick = ([pairs_file], OF_FILE) if is_file else ([], [])
    printed = run("05_what_the_fine_stage_learns.py", *data, settings=[*SMALL, "sparse_pca_alpha=0.1", "threshold=0.5", *quick])
    rows = rows_of(printed)
    start, trained = (list(map(int, rows[name])) for name in ("start", "trained"))
    assert start[0] == trained[0] == 4 * 5
    assert trained[2] <= start[2] <= start[1]
    assert [len(rows[name]) for name in ("coarse", "fine, untrained", "fine, trained")] == [4, 4, 4]
    assert {path.name for path in Path("c2f-examples").iterdir()} == {"fine_table.png", "bridges.png"}


def test_recall_of_some_items_counts_their_held_out_pairs_alone() -> None:
    """Users 0 and 1 are shown items 1, 2 and 3, none. Held out are (0, 1), (0, 3), (1, 3): of item 3 one of two pairs is found, of
    item 1 the only one, of item 2 there is none.
    """
    recall_of = runpy.run_path(str(EXAMPLES / "05_what_the_fine_stage_learns.py"))["recall_of"]
    ranked = np.array([[1, 2], [3, -1]])
    held_out = sparse.csr_array(np.array([[0, 1, 0, 1, 0], [0, 0, 0, 1, 0]]))
    found = [recall_of(ranked, held_out, np.arange(5) == item) for item in (1, 2, 3)]
    assert found == [1.0, 0.0, 0.5]
    assert recall_of(ranked, held_out, np.ones(5, dtype=bool)) == 2 / 3


def test_item_groups_share_all_items_from_rare_to_popular() -> None:
    """Items are in training 0 to 5 times and held out once each: two of them in each group."""
    item_groups = runpy.run_path(str(EXAMPLES / "05_what_the_fine_stage_learns.py"))["item_groups"]
    seen = sparse.csr_array((np.arange(6)[:, None] < np.arange(6)).astype(float))
    groups = item_groups(seen, sparse.csr_array(np.eye(6)))
    assert {name: np.flatnonzero(items).tolist() for name, items in groups.items()} == {
        "rare": [0, 1],
        "middling": [2, 3],
        "popular": [4, 5],
    }
