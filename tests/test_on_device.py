"""The example of a device, from training to a fresh process with little memory, and the command that serves within a budget."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import PROJECT
from training.tiny import RECIPE, SETTINGS, tiny_split, with_schedules

from c2f_ref import cli, spec
from c2f_ref.bundle import load_model, save_model
from c2f_ref.device import Device
from c2f_ref.training import embed_model, to_model, train

EXAMPLE = PROJECT / "examples" / "on_device.py"
SMALL = ["n_coarse=6", "n_fine=4", "dim=5", "n_layers=2", "fine_per_coarse=3", "max_epochs=3", "evaluate_every=2", "batch=512"]


def run_example(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, EXAMPLE, *map(str, arguments)], capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small trained model."""
    split, recipe = tiny_split(), with_schedules(RECIPE, max_epochs=7)
    coarse, fine = train(split, SETTINGS, recipe, seed=0, ops=spec)
    path = tmp_path_factory.mktemp("model") / "model.npz"
    save_model(path, to_model(split, SETTINGS, coarse.best, fine.best if fine else None))
    return path


# The example


@pytest.mark.parametrize("how", [[], ["--untrained"]])
def test_a_fresh_process_with_numpy_alone_serves_the_exported_model_in_little_memory(tmp_path: Path, how: list[str]) -> None:
    """Neither library is loaded, and no more is resident than a board of 128 MiB can give: 96 MiB."""
    settings = [part for setting in SMALL for part in ("--set", setting)]
    done = run_example(*how, *settings, "--out", tmp_path, "--users", 3)
    assert (done.returncode, done.stderr) == (0, "")
    assert load_model(tmp_path / "model.npz").coarse.dtype == np.float32
    assert "of scipy, numba, sklearn, matplotlib are loaded: none" in done.stdout
    assert "5 columns kept" in done.stdout
    if sys.platform == "linux":
        assert "address space limited to 256 MiB" in done.stdout
        assert 10 < float(re.findall(r"resident ([0-9.]+) MiB", done.stdout)[0]) <= 96
    assert len(re.findall(r"loading [0-9.]+ s, first user [0-9.]+ s, further ones [0-9.]+ s at most", done.stdout)) == 2


def test_the_example_serves_a_model_that_is_there_and_lists_what_the_specification_lists(model_file: Path) -> None:
    done = run_example("--serve", model_file, "--users", 2, "--memory-budget", 1)
    assert (done.returncode, done.stderr) == (0, "")
    model = load_model(model_file)
    listed = re.findall(r"(\S+) \((-?[0-9.]+)\)", done.stdout.splitlines()[0])
    expected = json_of(model_file, [str(model.user_ids[1])])
    assert [raw for raw, _ in listed] == [str(entry["item"]) for entry in expected[str(model.user_ids[1])]]


@pytest.mark.gowalla
@pytest.mark.skipif("C2F_SLOW" not in os.environ, reason="takes a minute; C2F_SLOW=1 pytest tests/test_on_device.py runs it")
def test_the_published_size_is_served_in_96_mib_and_time_with_the_lists_of_the_specification(gowalla: Path, tmp_path: Path) -> None:
    """First user in 10 s, each further one in 0.2 s, both of the processor, as the clock tells of other work on the machine too.

    Tables are random; of 200 users' lists none differs where gaps are above what the rounding of embeddings can do.
    """
    split = gowalla / "official_split_seed2024.npz"
    done = run_example(gowalla, "--split", split, "--untrained", "--out", tmp_path)
    assert done.returncode == 0
    (resident,) = re.findall(r"resident ([0-9.]+)", done.stdout)
    (times,) = re.findall(r"of the processor: .* user ([0-9.]+) s, further ones ([0-9.]+) s", done.stdout)
    assert float(resident) <= 96
    assert float(times[0]) <= 10
    assert float(times[1]) <= 0.2

    model = load_model(tmp_path / "model.npz").with_tables(np.float64, np.float64)
    entities, users = embed_model(model, ops=spec), np.arange(0, model.n_users, 150)
    expected, scores = spec.rank_items(entities, model.bias, model.n_users, users, model.seen, 11)
    items, _ = Device.load(tmp_path / "model.npz").rank(users, 10)
    bounds = 2.0**-23 * (np.abs(entities[users]) @ np.abs(entities[model.n_users :]).T)
    clear = -np.diff(scores, axis=1) > 4 * bounds.max(axis=1, keepdims=True)
    assert clear.mean() > 0.9
    told_apart = clear.cumprod(axis=1).astype(bool)  # from the first on, so that places are the same
    assert (items == expected[:, :10])[told_apart].all()


# The command


def json_of(model_file: Path, users: list[str], *options: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "c2f_ref", "recommend", model_file, *users, "--json", *options],
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def test_a_memory_budget_changes_no_list(model_file: Path) -> None:
    """Scores have the same bits, and agree with the specification's to what rounding embeddings to float32 leaves."""
    model = load_model(model_file)
    entities, users = embed_model(model, ops=spec), [str(raw) for raw in model.user_ids[[3, 0]]]
    plain, within = json_of(model_file, users), json_of(model_file, users, "--memory-budget", "1MiB")
    assert within == plain
    items, scores = spec.rank_items(entities, model.bias, model.n_users, np.array([3, 0]), model.seen, 10)
    for row, user in enumerate(users):
        assert [entry["item"] for entry in plain[user]] == model.item_ids[items[row]].tolist()
        assert [entry["score"] for entry in plain[user]] == pytest.approx(scores[row].tolist(), abs=1e-5)


@pytest.mark.parametrize(
    ("budget", "user", "code", "message"),
    [
        ("32 MB", "u1", 2, "expected bytes, or a whole number of KiB, MiB or GiB, got '32 MB'"),
        ("-1", "u1", 2, "expected one argument|expected bytes"),
        ("20KiB", "u1", 2, r"--memory-budget: memory_budget must be at least [0-9,]+ bytes for this model and request, got 20,480"),
        ("1GiB", "nobody", 3, r"model\.npz: user 'nobody' is not among the 30 users of the model"),
        ("1048576", "17", 3, "is not among the 30 users of the model"),
    ],
)
def test_what_the_command_cannot_do_is_told(
    model_file: Path, budget: str, user: str, code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["recommend", str(model_file), user, f"--memory-budget={budget}"])
    assert caught.value.code == code
    assert re.search(message, capsys.readouterr().err)
