"""The examples, each run on small data: they print and write what they say."""

from __future__ import annotations

import json
import math
import os
import re
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import PROJECT
from scipy import sparse
from training.tiny import tiny_split, with_schedules

from c2f_ref import method
from c2f_ref.device import Device
from c2f_ref.evaluation import embed_model
from c2f_ref.interactions import planted, read_interactions
from c2f_ref.model import load_model
from c2f_ref.runtime import at_most
from c2f_ref.training import RECIPES

EXAMPLES = PROJECT / "examples"
SIZES = ["n_coarse=6", "n_fine=4", "dim=5", "n_layers=2", "fine_per_coarse=3"]
QUICK = ["both.max_epochs=6", "both.evaluate_every=5", "both.batch=4096"]
OF_FILE = ["both.draws_per_epoch=200", "both.max_fixed_epochs=1"]
"""For the recipe that the examples take for DATA, which draws millions of triples an epoch."""
Run = Callable[..., str]


@pytest.fixture
def pairs_file(tmp_path: Path) -> Path:
    """30 users with 12 pairs each, 40 items, with raw ids, as a CSV."""
    sizes = {"n_users": 30, "n_items": 40, "n_groups": 2, "subgroups_per_group": 2}
    pairs = planted(**sizes, pairs_per_user=12, rng=np.random.default_rng(0))
    raw = zip(pairs.user_ids[pairs.users], pairs.item_ids[pairs.items], strict=True)
    path = tmp_path / "pairs.csv"
    path.write_text("user,item\n" + "".join(f"{user},{item}\n" for user, item in raw))
    return path


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run an example in an empty folder; returns its stdout, a form feed, and its stderr."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.chdir(home)
    monkeypatch.syspath_prepend(str(EXAMPLES))

    def run_example(name: str, *arguments: object, settings: list[str] | None = None) -> str:
        options = [part for setting in settings or [] for part in ("--set", setting)]
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments), *options])
        with at_most(1):  # threads of a busy machine wait for each other at every small step
            runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return "\f".join(capsys.readouterr())

    return run_example


def rows_of(printed: str) -> dict[str, list[str]]:
    """Lines of a table: a name, two spaces or more, then cells."""
    lines = (re.split(r"\s{2,}", line.strip()) for line in printed.partition("\f")[0].splitlines())
    return {name: cells for name, *cells in lines if cells}


def test_a_calculator_gives_what_the_worked_example_gives(run: Run, tmp_path: Path) -> None:
    """Six entries are worked out from numbers that are printed to four places."""
    printed = run("01_worked_example.py")
    by_hand = re.findall(r"^by hand: (.*) = (.*) = (-?\d\.\d{4})$", printed, flags=re.MULTILINE)
    names = ["A[0, 3]", "X_e[0, 1]", "H[0, 1]", "loss", "E_c[0, 0]", "entry [0, 0]"]
    assert [name for name, *_ in by_hand] == names
    assert by_hand[0] == ("A[0, 3]", "1 / sqrt(2 * 1)", "0.7071")
    for _, sum_to_do, value in by_hand:
        assert eval(sum_to_do, dict(vars(math))) == pytest.approx(float(value), abs=3e-4)
    steps = re.findall(r"^(\d+)\. ", printed, flags=re.MULTILINE)
    assert steps == [str(step) for step in range(1, 14)]

    # Of your own pairs: the first user chose 3 items, the first item was chosen twice.
    (tmp_path / "own.csv").write_text("user,item\n5,70\n5,80\n5,90\n6,70\n")
    printed = run("01_worked_example.py", tmp_path / "own.csv")
    assert printed.startswith("Entities are users, then items: 5 6 70 80 90\n")
    assert "A[0, 2] = 1 / sqrt(3 * 2) = 0.4082" in printed


@pytest.mark.parametrize("pull_back", ["propagate_coarse_vjp", "bridge_vjp"])
def test_the_worked_example_stops_at_a_wrong_gradient(
    pull_back: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = getattr(method.embeddings, pull_back)
    wrong = lambda *given: tuple(1.01 * grad for grad in right(*given))  # noqa: E731
    monkeypatch.setattr(method.embeddings, pull_back, wrong)
    with pytest.raises(AssertionError):
        run("01_worked_example.py")


def test_both_stages_stand_in_a_table_with_the_baselines(run: Run) -> None:
    printed = run("02_train_planted.py", settings=SIZES + QUICK)
    rows = rows_of(printed.split("test pairs (", 1)[1])
    for name in ("popularity", "graph filter", "coarse", "coarse + fine"):
        assert len(rows[name]) == 6
        assert all(0 <= float(cell) <= 1 for cell in rows[name])
    first = r"^(\w+) stage, phase 1, step +0: validation NDCG@5 0\.\d{4} \(best"
    assert re.findall(first, printed, re.MULTILINE) == ["coarse", "fine"]
    assert Path("c2f-examples/training.png").read_bytes().startswith(b"\x89PNG")


def test_a_file_of_pairs_becomes_a_model_and_new_items_by_raw_id(
    run: Run, pairs_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("laptop", "demo"):
        short = with_schedules(RECIPES[name], max_epochs=6, draws_per_epoch=200)
        monkeypatch.setitem(RECIPES, name, short)
    options = [pairs_file, "--out", "kept.npz", "--user", "u7"]
    printed = run("03_train_your_data.py", *options, settings=SIZES[2:])
    pairs, model = read_interactions(pairs_file), load_model("kept.npz")
    counts = f"360 pairs of {pairs.n_users} users and {pairs.n_items} items"
    assert f"1. 360 lines of {pairs_file.name} read: {counts}" in printed
    sizes = model.n_users, model.n_items, model.settings.n_coarse
    assert sizes == (pairs.n_users, pairs.n_items, 2)
    recommended = re.findall(r"^   (i\d+)  -?\d", printed, flags=re.MULTILINE)
    chosen = model.seen[[model.user_ids.tolist().index("u7")]].indices
    assert len(recommended) == 5
    assert not set(recommended) & set(model.item_ids[chosen])

    # Without a file one is written and read.
    printed = run("03_train_your_data.py", settings=SIZES)
    assert "read: 9,000 pairs of 600 users and 598 items" in printed
    assert Path("c2f-examples/model.npz").stat().st_size > 0


def test_recall_stands_next_to_bytes_and_promises_are_kept(run: Run, pairs_file: Path) -> None:
    """Popularity stores a float32 for every item, LightGCN one for every entity and dimension, and
    the training pairs, as the graph filter does.
    """
    pairs = read_interactions(pairs_file)
    options, settings = [pairs_file, "--coarse", 3, 5, "--budgets", 2000], SIZES + QUICK + OF_FILE
    rows = rows_of(run("04_memory_against_recall.py", *options, settings=settings))
    rows = {name: [cell.replace(",", "") for cell in cells] for name, cells in rows.items()}
    assert rows["popularity"][:2] == ["0", str(4 * pairs.n_items)]
    graph = int(rows["graph filter"][1])
    for dim in (1, 5):
        vectors = 4 * dim * (pairs.n_users + pairs.n_items)
        assert rows[f"LightGCN, D = {dim}"][:2] == [str(vectors), str(vectors + graph)]
    for size in ("3 coarse rows", "5 coarse rows", "budget 2,000"):
        tables, everything = map(int, rows[f"coarse, {size}"][:2])
        assert graph < tables + graph < everything
        _, everything, promised = map(int, rows[f"coarse + fine, {size}"][:3])
        assert everything <= promised
    assert int(rows["coarse, 3 coarse rows"][0]) == 4 * 3 * 5
    assert promised <= 2000
    assert Path("c2f-examples/memory_against_recall.png").read_bytes().startswith(b"\x89PNG")


def test_the_fine_stage_is_taken_apart(run: Run) -> None:
    """Entries beyond the threshold can only become fewer."""
    settings = [*SIZES, *QUICK, "sparse_pca_alpha=0.1", "threshold=0.5"]
    rows = rows_of(run("05_what_the_fine_stage_learns.py", settings=settings))
    start, trained = (list(map(int, rows[name])) for name in ("start", "trained"))
    assert start[0] == trained[0] == 4 * 5
    assert trained[2] <= start[2] < start[1]
    assert [len(rows[name]) for name in ("coarse", "fine, untrained", "fine, trained")] == [4, 4, 4]
    pictures = {path.name for path in Path("c2f-examples").iterdir()}
    assert pictures == {"bridges.png"}


def test_items_from_rare_to_popular_and_the_recall_of_some_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Six items are in training 0 to 5 times and held out once each: two in each group.

    Users 0 and 1 are shown items 1, 2 and 3, none; held out are (0, 1), (0, 3) and (1, 3). Of item
    3 one of two pairs is found, of item 1 the only one, of item 2 there is none.
    """
    monkeypatch.syspath_prepend(str(EXAMPLES))
    functions = runpy.run_path(str(EXAMPLES / "05_what_the_fine_stage_learns.py"))
    seen = sparse.csr_array((np.arange(6)[:, None] < np.arange(6)).astype(float))
    groups = functions["item_groups"](seen, sparse.csr_array(np.eye(6)))
    places = {name: np.flatnonzero(items).tolist() for name, items in groups.items()}
    assert places == {"rare": [0, 1], "middling": [2, 3], "popular": [4, 5]}
    held_out = sparse.csr_array(np.array([[0, 1, 0, 1, 0], [0, 0, 0, 1, 0]]))
    for items, recall in (([1], 1.0), ([2], 0.0), ([3], 0.5), ([0, 1, 2, 3, 4], 2 / 3)):
        chosen = np.isin(np.arange(5), items)
        assert functions["recall_of"](np.array([[1, 2], [3, -1]]), held_out, chosen) == recall


def test_lightgcn_stands_in_a_table_with_the_baselines(run: Run, pairs_file: Path) -> None:
    """On DATA it has 64 dimensions unless told otherwise."""
    quick = [*OF_FILE, "both.max_epochs=9", "both.batch=64"]
    for options, settings, dim in (([], SIZES + QUICK, 5), ([pairs_file], quick, 64)):
        rows = rows_of(run("lightgcn.py", *options, settings=settings))
        names = "popularity", "graph filter", f"LightGCN, D = {dim}"
        assert [len(rows[name]) for name in names] == [6, 6, 6]


# The comparison of stages

MODELS = ["coarse, S_c fixed", "coarse", "coarse + fine", "coarse continued", "bias alone"]


def folder_of(split: Any, folder: Path) -> Path:
    """The pairs as a LightGCN folder; validation and test pairs together are its test.txt."""
    folder.mkdir()
    held_out = split.valid.matrix() + split.test.matrix()
    for name, pairs in (("train.txt", split.train.matrix()), ("test.txt", held_out)):
        rows = (pairs[[user]].indices for user in range(pairs.shape[0]))
        lines = (f"{user} {' '.join(map(str, items))}\n" for user, items in enumerate(rows))
        (folder / name).write_text("".join(lines))
    return folder


@pytest.mark.parametrize("max_epochs", [60, 7])
def test_all_rows_are_printed_and_controls_make_as_many_steps_as_the_fine_stage(
    max_epochs: int, run: Run, tmp_path: Path
) -> None:
    """With 60 epochs patience ends the fine stage, with 7 the epochs do."""
    recipe = ["coarse.batch=128", "fine.batch=96", "coarse.lr=0.05", "fine.lr=0.04"]
    recipe += ["both.evaluate_every=2", "both.patience=1", f"both.max_epochs={max_epochs}"]
    options = [folder_of(tiny_split(), tmp_path / "data"), "--seeds", 0, 1, "--json"]
    out, err = run("compare_stages.py", *options, settings=SIZES + recipe).split("\f")
    lines = out.splitlines()
    assert lines[0].startswith("150 train, 30 valid, 60 test pairs")
    written = json.loads(next(line for line in lines if line.startswith("{")))
    head, *rows = lines[-8:]
    names = [re.split(r"  +", row)[0] for row in rows]
    assert names == list(written) == ["popularity", "graph filter", *MODELS]
    assert head.split("  ")[-1] == "bytes: tables / all"
    assert [len(written[name]) for name in names] == [1, 1, 2, 2, 2, 2, 2]
    assert all("+-" in row for row in rows[2:])

    evaluation = r"seed 1, ([^,]+), phase (\d), epoch (\d+), step (\d+):"
    found = re.findall(evaluation, err)
    last = {stage: (int(epoch), int(step)) for stage, _, epoch, step in found}
    assert last.keys() == {"coarse", "fine", "coarse continued", "bias alone"}
    assert last["coarse continued"] == last["bias alone"] == last["fine"] > (0, 0)
    phases = {(stage, phase) for stage, phase, *_ in found if stage not in ("coarse", "fine")}
    assert phases == {("coarse continued", "2"), ("bias alone", "1")}


# The published table


def test_every_run_has_its_row_and_a_second_call_repeats_nothing(run: Run, tmp_path: Path) -> None:
    """A folder with the split files of two seeds, whose validation pairs differ."""
    split = tiny_split()
    data = folder_of(split, tmp_path / "data")
    ends = [(part.users, part.items) for part in (split.valid, split.test)]
    held_out = np.concatenate(ends, axis=1)
    for seed in (2024, 2025):
        is_valid = np.random.default_rng(seed).random(held_out.shape[1]) < 0.4
        parts = *held_out[:, is_valid], *held_out[:, ~is_valid]
        names = "valid_user", "valid_item", "test_user", "test_item"
        path = data / f"official_split_seed{seed}.npz"
        np.savez(path, **dict(zip(names, parts, strict=True)))
    quick = ("max_epochs=4", "evaluate_every=1", "max_fixed_epochs=1", "batch=64")
    settings = [*SIZES, *(f"both.{each}" for each in quick)]
    options = [data, "--out", "out", "--recipe", "demo", "--seeds", 2024, 2025]
    printed = [run("reproduce_gowalla.py", *options, settings=settings) for _ in range(2)]
    first, second = (each.split("\f")[0].split("N@5", 1)[1] for each in printed)
    rows = [line.split("  ")[0] for line in first.splitlines()[1:]]
    fine = [f"fine, seed {seed}{end}" for seed in (2024, 2025) for end in ("", ", published")]
    own = [f"fine of its own coarse, seed {seed}" for seed in (2025, 2024)]
    coarse = ["coarse, seed 2024", "coarse, seed 2024, published"]
    assert rows == [*coarse, *fine, "coarse, seed 2025", *own]
    assert first == second
    assert [", loss " in each for each in printed] == [True, False]  # no step, the second time
    runs = json.loads(Path("out/log.json").read_text())["runs"]
    assert runs["fine, seed 2025"]["split"] != runs["fine, seed 2024"]["split"]
    written = {path.name for path in Path("out").iterdir()}
    assert written >= {"curves.png", "log.json", "fine-seed-2024.npz"}


# The device


def on_device(*arguments: object) -> str:
    command = [sys.executable, EXAMPLES / "on_device.py", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("how", [[], ["--untrained"]])
def test_a_fresh_process_with_numpy_alone_serves_the_model_in_little_memory(
    tmp_path: Path, how: list[str]
) -> None:
    """No other library is loaded, and no more is resident than a board of 128 MiB can give."""
    settings = [part for setting in SIZES + QUICK for part in ("--set", setting)]
    printed = on_device(*how, *settings, "--out", tmp_path, "--users", 3)
    device = Device.load(tmp_path / "model.npz")
    ids, _ = device.recommend(device.user_ids[2:3])
    assert re.findall(r"(\S+) \(-?[0-9.]+\)", printed) == ids[0].tolist()
    assert load_model(tmp_path / "model.npz").coarse.dtype == np.float32
    assert "of scipy, numba, sklearn, matplotlib are loaded: none" in printed
    assert "embeddings cached" in printed
    if sys.platform == "linux":
        assert "address space limited to 256 MiB" in printed
        assert 10 < float(re.findall(r"resident ([0-9.]+) MiB", printed)[0]) <= 96
    times = "loading [0-9.]+ s, first user [0-9.]+ s, further ones [0-9.]+ s at most"
    assert len(re.findall(times, printed)) == 2


@pytest.mark.gowalla
@pytest.mark.skipif("C2F_SLOW" not in os.environ, reason="takes a minute; C2F_SLOW=1 runs it")
def test_the_published_size_is_served_in_96_mib_with_the_lists_of_the_method(
    gowalla: Path, tmp_path: Path
) -> None:
    """First user in 10 s, each further one in 0.2 s, both of the processor.

    Tables are random; of 200 users' lists none differs where gaps are above what the rounding of
    embeddings can do.
    """
    split = gowalla / "official_split_seed2024.npz"
    printed = on_device(gowalla, "--split", split, "--untrained", "--out", tmp_path)
    (resident,) = re.findall(r"resident ([0-9.]+)", printed)
    times = r"by the processor: .* user ([0-9.]+) s, further ones ([0-9.]+) s"
    ((first, further),) = re.findall(times, printed)
    assert float(resident) <= 96
    assert float(first) <= 10
    assert float(further) <= 0.2

    model = load_model(tmp_path / "model.npz").with_tables(np.float64, np.float64)
    entities, users = embed_model(model, ops=method), np.arange(0, model.n_users, 150)
    expected, scores = method.rank_items(entities, model.bias, model.n_users, users, model.seen, 11)
    items, _ = Device.load(tmp_path / "model.npz").rank(users, 10)
    bounds = 2.0**-23 * (np.abs(entities[users]) @ np.abs(entities[model.n_users :]).T)
    is_clear = -np.diff(scores, axis=1) > 4 * bounds.max(axis=1, keepdims=True)
    assert is_clear.mean() > 0.9
    is_certain = is_clear.cumprod(axis=1).astype(bool)  # clear from the first place on
    assert (items == expected[:, :10])[is_certain].all()
