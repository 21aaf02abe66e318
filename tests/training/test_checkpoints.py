"""Stop and resume: wherever a run was interrupted, it ends with the bytes of an undisturbed one."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from scipy import sparse
from support.implementations import fast
from training.tiny import RECIPE, SETTINGS, content_of, implementation, tiny_split, with_schedules

from c2f_ref import method, training
from c2f_ref.method import AdamState, Evaluation, Snapshot, State
from c2f_ref.partition import partition
from c2f_ref.store import StoreError, read_store, write_store
from c2f_ref.training.runs import KIND, load_state, save_state

SPLIT = tiny_split()


def turns(graph: Any, n_parts: int, *, rng: np.random.Generator) -> Any:
    """Parts by turns: how a run begins is no part of how it is stopped."""
    return np.arange(graph.shape[0]) % n_parts


LONG = with_schedules(
    RECIPE,
    batch=150,
    n_candidates=3,
    disjoint_share=0.3,
    draws_per_epoch=60,
    evaluate_every=1,
    patience=6,
    max_epochs=14,
    max_fixed_epochs=5,
    last_lr=0.01,
    bias_lr=2.0,
)
"""Two steps from one evaluation to the next, and a rate that depends on their number."""
SHORT = with_schedules(LONG, max_epochs=2)


def train(recipe: Any = LONG, **options: Any) -> Any:
    given: Any = {"split": SPLIT, "settings": SETTINGS, "recipe": recipe, "seed": 0}
    return training.train(**given | {"ops": method, "partition": turns} | options)


@pytest.fixture(scope="module", autouse=True)
def _no_waiting_for_the_disk() -> Iterator[None]:
    """Flushing every file takes as long as the rest; it matters only where the power fails."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "fsync", lambda _: None)
        yield


class StopError(Exception):
    """What a test raises where it wants a run to end."""


class Recorder:
    """A `watch` that keeps the states after evaluations, and raises at its call number `place`."""

    def __init__(self, place: int = -1) -> None:
        self.place, self.n_calls = place, 0
        self.kept: list[Any] = []
        self.n_kept_before: list[int] = []

    def __call__(self, progress: Any) -> None:
        self.n_kept_before.append(len(self.kept))
        if self.n_calls == self.place:
            raise StopError
        self.n_calls += 1
        if not progress.state.losses:
            self.kept.append(content_of(progress.state))


@cache
def undisturbed(ops: ModuleType) -> tuple[Any, Recorder]:
    """The result of a run without interruption and checkpoints, and everything watched."""
    seen = Recorder()
    return content_of(train(ops=ops, watch=seen)), seen


@pytest.mark.parametrize(
    ("ops", "n_drawn"), [(method, 2), pytest.param(fast, 4, marks=pytest.mark.numba)]
)
def test_a_run_that_was_stopped_goes_on_to_the_same_bytes(
    tmp_path: Path, ops: ModuleType, n_drawn: int
) -> None:
    """The state of an evaluation is kept before anybody is told of it.

    Stops are at drawn calls, and at the last one of each stage.
    """
    content, seen = undisturbed(ops)
    for state in content:  # it is not over at once, nor does it repeat itself
        assert len(state["evaluations"]) >= 10
        assert {evaluation["phase"] for evaluation in state["evaluations"]} == {1, 2}
        assert state["n_refreshes"] > 2
    assert len({state["tables"] for state in seen.kept}) == len(seen.kept)
    n_calls, n_kept = len(seen.n_kept_before), len(seen.kept)
    last_coarse = seen.n_kept_before.index(len(content[0]["evaluations"])) - 1
    drawn = np.random.default_rng(7).permutation(n_calls)[:n_drawn].tolist()
    for place in (*drawn, last_coarse, n_calls - 1):
        stopped, rest, folder = Recorder(place), Recorder(), tmp_path / str(place)
        with pytest.raises(StopError):
            train(ops=ops, checkpoint=folder, watch=stopped)
        assert stopped.kept == seen.kept[: len(stopped.kept)]
        again = train(ops=ops, checkpoint=folder, resume=True, watch=rest)
        assert content_of(again) == content
        assert rest.kept == seen.kept[n_kept - len(rest.kept) :]
        assert len(rest.kept) + len(stopped.kept) - n_kept in (-1, 0)


def test_a_run_may_be_stopped_again_and_again_and_trains_nothing_when_finished(
    tmp_path: Path,
) -> None:
    n_stops = 0
    while True:
        try:
            result = train(checkpoint=tmp_path, resume=n_stops > 0, watch=Recorder(11))
            break
        except StopError:
            n_stops += 1
    assert n_stops > 4
    assert content_of(result) == undisturbed(method)[0]
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert files.keys() == {"coarse.npz", "fine.npz"}
    again = train(checkpoint=tmp_path, resume=True, watch=Recorder(0))
    assert content_of(again) == content_of(result)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == files


def test_the_coarse_stage_alone_has_a_file_alone(tmp_path: Path) -> None:
    settings, folder = replace(SETTINGS, n_fine=0), tmp_path / "a" / "new folder"
    first = train(SHORT, settings=settings, checkpoint=folder)
    again = train(SHORT, settings=settings, checkpoint=str(folder), resume=True)
    assert [path.name for path in folder.iterdir()] == ["coarse.npz"]
    assert content_of(first) == content_of(again)


# What is refused


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a short run of both stages."""
    folder = tmp_path_factory.mktemp("kept")
    train(SHORT, checkpoint=folder)
    return folder


@pytest.mark.parametrize("left", ["coarse.npz", "fine.npz"])
def test_a_folder_with_a_checkpoint_is_refused_unless_resumed(
    kept: Path, tmp_path: Path, left: str
) -> None:
    shutil.copy(kept / left, tmp_path)
    with pytest.raises(StoreError, match=f"{left}: is a checkpoint; resume it or give another"):
        train(SHORT, checkpoint=tmp_path)
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert files == {left: (kept / left).read_bytes()}


def test_what_cannot_be_resumed_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("mine")
    with pytest.raises(FileExistsError):
        train(SHORT, checkpoint=tmp_path / "run", resume=True)
    assert (tmp_path / "run").read_text() == "mine"
    with pytest.raises(method.SettingsError, match="resume needs the checkpoint folder"):
        train(SHORT, resume=True)


CHANGES: dict[str, dict[str, Any]] = {
    "seed": {"seed": 1},
    "split": {"split": tiny_split(1)},
    "settings": {"settings": replace(SETTINGS, threshold=0.5)},
    "recipe": {"recipe": replace(SHORT, fine=replace(SHORT.fine, bias_lr=3.0))},
    "implementation": {"ops": implementation(), "dtype": np.float64},
    "dtype": {"dtype": np.float32},
    "partition": {"partition": partition},
    "version": {},
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_checkpoint_of_another_run_is_refused_by_name(
    kept: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    if name == "version":
        monkeypatch.setattr(training.runs, "__version__", "99.0")
    files = {path.name: path.read_bytes() for path in kept.iterdir()}
    options: Any = {"recipe": SHORT, "checkpoint": kept, "resume": True} | CHANGES[name]
    words = rf"coarse\.npz: is of another run: {name} must be .*, got "
    with pytest.raises(StoreError, match=words):
        train(**options)
    assert {path.name: path.read_bytes() for path in kept.iterdir()} == files


def test_each_stage_is_held_to_its_run(kept: Path, tmp_path: Path) -> None:
    """A folder in which the files of two runs were mixed."""
    train(SHORT, seed=1, checkpoint=tmp_path)
    shutil.copy(kept / "coarse.npz", tmp_path)
    with pytest.raises(StoreError, match=r"fine\.npz: is of another run: seed must be 0, got 1"):
        train(SHORT, checkpoint=tmp_path, resume=True)


# Files: damage as such is a matter of the store


RUN = {"seed": 3, "settings": {"threshold": float("inf"), "pinv_rtol": None}, "scales": (1.0,)}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_state_is_kept_bit_for_bit(tmp_path: Path, dtype: Any) -> None:
    """Odd numbers, empty tables, large counts; with and without what a state may lack."""
    facts, path = np.finfo(dtype), tmp_path / "coarse.npz"
    odd = np.array([-0.0, facts.smallest_subnormal, facts.max, facts.min, np.inf, 0.1], dtype)
    tables = odd, odd[:4].reshape(2, 2), odd[:0], odd[:0].reshape(0, 3)
    assignment = sparse.csr_array((odd[:3], [0, 3, 1], [0, 2, 2, 3]), shape=(3, 4))
    moments = tuple(AdamState(table, -table, 10**9) for table in tables)
    bits = dict(np.random.PCG64(7).state)
    best = Snapshot(tables[1:], -assignment, -0.0, 3, 10**9)
    fixed = Snapshot(tables[:1], assignment, 5e-324, 0, 0)
    numbers = {"phase": 2, "epoch": 3, "n_steps": 10**9, "n_refreshes": 5}
    losses = None, -0.0, 1 / 3, float("inf")
    found = [Evaluation("ä\0", **numbers, loss=loss, ndcg=0.1, is_best=True) for loss in losses]
    rest: Any = {"best": best, "best_fixed": fixed, "losses": losses[1:], "is_finished": True}
    bare = State(tables, moments, assignment, bits)
    for state in (bare, replace(bare, **numbers, **rest, n_misses=6, evaluations=tuple(found))):
        save_state(path, RUN, state)
        loaded = load_state(path, RUN)
        assert content_of(loaded) == content_of(state)
        assert all(type(one) is AdamState for one in loaded.moments)
        assert repr(loaded.evaluations) == repr(state.evaluations)  # 0.0 == -0.0


def test_a_file_that_holds_no_state_is_refused(kept: Path, tmp_path: Path) -> None:
    path = tmp_path / "coarse.npz"
    header, arrays = read_store(kept / "coarse.npz", KIND)
    run = header["run"]
    states = "none", {}, [], 3, {"State": 1}, {"State": {}}, header["state"]["State"]["best"]
    broken: list[tuple[Any, Any]] = [
        ({}, arrays),
        ({"run": run}, arrays),
        *(({"run": wrong, "state": header["state"]}, arrays) for wrong in (None, ["seed"])),
        *(({"run": run, "state": state}, arrays) for state in states),
        (header, {name: array for name, array in arrays.items() if name != "array 1"}),
        (header, arrays | {"array 7": arrays["array 7"] + 100}),
        (header, arrays | {"array 7": arrays["array 7"][:-1]}),
    ]
    for changed, of_arrays in broken:
        write_store(path, KIND, changed, of_arrays)
        with pytest.raises(StoreError, match=r"coarse\.npz: "):
            load_state(path, run)
    write_store(path, "c2f-ref model 1", header, arrays)
    with pytest.raises(StoreError, match=re.escape(KIND)):
        load_state(path, run)


CHILD = """
import sys, time
from training.test_checkpoints import train

def watch(progress):
    time.sleep(0.002)
    if not progress.state.losses:
        print("kept", flush=True)

train(checkpoint=sys.argv[1], resume=True, watch=watch)
"""


def test_a_run_that_was_killed_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    """Twice in a row, a few milliseconds after a state was kept."""
    rng = np.random.default_rng()  # another moment every time
    tests = Path(__file__).resolve().parents[1]
    paths = os.pathsep.join([str(tests.parent), str(tests)])
    for _ in range(2):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(tmp_path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": paths},
        )
        with child:
            assert child.stdout is not None
            assert child.stderr is not None
            lines = [child.stdout.readline() for _ in range(rng.integers(1, 5))]
            time.sleep(rng.uniform(0, 0.03))
            child.kill()
            assert lines == [b"kept\n"] * len(lines), child.stderr.read()
        assert child.returncode != 0
    again = train(checkpoint=tmp_path, resume=True)
    assert content_of(again) == undisturbed(method)[0]
