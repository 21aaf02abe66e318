"""Stop and go on: wherever a run was interrupted, resuming it leaves the bytes of a run that was not."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from support.implementations import FAST, fast
from support.strategies import rngs
from training.tiny import RECIPE, SETTINGS, content_of_run, content_of_state, tiny_split, with_schedules

from c2f_ref import spec
from c2f_ref.container import BundleError, read_container, write_container
from c2f_ref.spec import AdamState
from c2f_ref.training import CheckpointError, Checkpoints, Evaluation, Snapshot, State, runs
from c2f_ref.training.checkpoints import FORMAT

SPLIT = tiny_split()


def turns(graph: Any, n_parts: int, *, rng: np.random.Generator) -> Any:
    """Parts by turns: how a run begins is no part of how it is stopped."""
    return np.arange(graph.shape[0]) % n_parts


train = partial(runs.train, partition=turns)
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
"""Two steps from one evaluation to the next, and a rate that depends on how many there were."""
N_STOPS = 20


@pytest.fixture(scope="module", autouse=True)
def _no_waiting_for_the_disk() -> Iterator[None]:
    """Flushing every file takes as long as everything else; it matters only where the power fails."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "fsync", lambda _: None)
        yield


class StopError(Exception):
    """What a callback raises where a test wants a run to end."""


def stopping(hook: str, place: int) -> dict[str, Callable[[Any], None]]:
    """A callback that raises at its call number `place`, from 0, over both stages."""
    n_calls = 0

    def call(_: Any) -> None:
        nonlocal n_calls
        n_calls += 1
        if n_calls > place:
            raise StopError

    return {hook: call}


def run(ops: ModuleType, folder: Path | None = None, **options: Any) -> tuple[list[Any], list[Any]]:
    """Contents of the results of a run and of all its states."""
    states: list[State] = []
    results = train(SPLIT, SETTINGS, LONG, seed=0, ops=ops, checkpoint=folder, on_state=states.append, **options)
    return content_of_run(results), [content_of_state(state) for state in states]


@dataclass(frozen=True)
class Undisturbed:
    """A run without interruption and without checkpoints: contents, its states, and how many were kept before every step."""

    ops: ModuleType
    content: list[Any]
    states: list[Any]
    n_kept: list[int]

    @property
    def first_fine(self) -> int:
        """Place of the first evaluation of the fine stage."""
        return len(self.content[0][2])


@cache
def undisturbed_run(ops: ModuleType) -> Undisturbed:
    states: list[State] = []
    n_kept: list[int] = []
    hooks = {"on_state": states.append, "on_step": lambda _: n_kept.append(len(states))}
    content = content_of_run(train(SPLIT, SETTINGS, LONG, seed=0, ops=ops, **hooks))
    return Undisturbed(ops, content, [content_of_state(state) for state in states], n_kept)


@pytest.fixture(params=[pytest.param(spec, id="spec"), FAST])
def undisturbed(request: pytest.FixtureRequest) -> Undisturbed:
    return undisturbed_run(request.param)


def assert_resumes(undisturbed: Undisturbed, folder: Path, n_kept: int) -> None:
    """Raise AssertionError unless the run in `folder` goes on from its state number `n_kept` to the bytes of the other."""
    content, states = run(undisturbed.ops, folder, resume=True)
    assert len(states) == len(undisturbed.states) - n_kept
    assert states == undisturbed.states[n_kept:]
    assert content == undisturbed.content


def test_the_run_that_is_stopped_has_many_evaluations_and_refreshes_in_both_stages(undisturbed: Undisturbed) -> None:
    """What follows would say little about a run that is over at once, or that repeats itself."""
    assert len(undisturbed.content) == 2
    assert len(undisturbed.states) > N_STOPS
    for _, _, evaluations, _, _ in undisturbed.content:
        assert len(evaluations) >= N_STOPS / 2
        assert {evaluation.phase for evaluation in evaluations} == {1, 2}
        assert evaluations[-1].n_refreshes > 2
    assert len({state["tables"] for state in undisturbed.states}) == len(undisturbed.states)


HOOKS = ("on_evaluation", "on_state")
KNOWN = [(place, hook) for place in ("last coarse", "first fine", "last") for hook in HOOKS]
DRAWN = [(draw, HOOKS[draw % 2]) for draw in range(N_STOPS)]
"""The specification, which goes on by the same loop, is stopped at fewer of them."""
STOPS = [pytest.param(spec, *stop, id=f"spec-{stop[0]}-{stop[1]}") for stop in KNOWN + DRAWN[:4]]
STOPS += [pytest.param(fast, *stop, id=f"fast-{stop[0]}-{stop[1]}", marks=pytest.mark.numba) for stop in KNOWN + DRAWN]


@pytest.mark.parametrize(("undisturbed", "draw", "hook"), STOPS, indirect=["undisturbed"])
def test_a_run_that_was_stopped_at_an_evaluation_goes_on_to_the_same_bytes(
    undisturbed: Undisturbed, tmp_path: Path, draw: int | str, hook: str
) -> None:
    """An evaluation is told before its state is kept: a run that was stopped there goes on from the state before."""
    ops, n_states = undisturbed.ops, len(undisturbed.states)
    known = {"last": n_states - 1, "last coarse": undisturbed.first_fine - 1, "first fine": undisturbed.first_fine}
    place = known[draw] if isinstance(draw, str) else int(np.random.default_rng(7).permutation(n_states)[draw])
    with pytest.raises(StopError):
        train(SPLIT, SETTINGS, LONG, seed=0, ops=ops, checkpoint=tmp_path, **stopping(hook, place))  # type: ignore
    assert_resumes(undisturbed, tmp_path, place + (hook == "on_state"))


@pytest.mark.parametrize("draw", range(6))
def test_a_run_that_was_stopped_between_evaluations_goes_on_to_the_same_bytes(
    undisturbed: Undisturbed, tmp_path: Path, draw: int
) -> None:
    place = int(np.random.default_rng(8).permutation(len(undisturbed.n_kept))[draw])
    with pytest.raises(StopError):
        run(undisturbed.ops, tmp_path, **stopping("on_step", place))
    assert_resumes(undisturbed, tmp_path, undisturbed.n_kept[place])


def test_a_run_may_be_stopped_again_and_again(undisturbed: Undisturbed, tmp_path: Path) -> None:
    """In the middle of every fourth epoch; each time an estimate is asked for as well."""
    n_stops, estimates = 0, list[Any]()
    while True:
        try:
            content, _ = run(
                undisturbed.ops, tmp_path, resume=n_stops > 0, on_estimate=estimates.append, **stopping("on_evaluation", 4)
            )
        except StopError:
            n_stops += 1
        else:
            break
    assert n_stops == len(undisturbed.states) // 4 - (len(undisturbed.states) % 4 == 0)
    assert len(estimates) > n_stops
    assert content == undisturbed.content


def test_a_finished_run_trains_nothing_and_gives_the_same_result(undisturbed: Undisturbed, tmp_path: Path) -> None:
    assert run(undisturbed.ops, tmp_path)[0] == undisturbed.content
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert files.keys() == {"coarse.npz", "fine.npz"}
    told: list[Any] = []
    hooks = dict.fromkeys(("on_step", "on_evaluation", "on_estimate"), told.append)
    assert run(undisturbed.ops, tmp_path, resume=True, **hooks) == (undisturbed.content, [])
    assert told == []
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == files


def test_what_is_kept_changes_nothing(undisturbed: Undisturbed, tmp_path: Path) -> None:
    assert run(undisturbed.ops, tmp_path) == (undisturbed.content, undisturbed.states)


def test_the_coarse_stage_alone_has_a_file_alone(tmp_path: Path) -> None:
    settings, folder = replace(SETTINGS, n_fine=0), tmp_path / "a" / "new folder"
    first = train(SPLIT, settings, LONG, seed=0, checkpoint=folder)
    again = train(SPLIT, settings, LONG, seed=0, checkpoint=str(folder), resume=True)
    assert [path.name for path in folder.iterdir()] == ["coarse.npz"]
    assert content_of_run(first) == content_of_run(again)


# What is refused


SHORT = with_schedules(LONG, max_epochs=2)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a short run of both stages."""
    folder = tmp_path_factory.mktemp("kept")
    train(SPLIT, SETTINGS, SHORT, seed=0, ops=spec, checkpoint=folder)
    return folder


@pytest.fixture
def folder(kept: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(kept, tmp_path / "run"))


@pytest.mark.parametrize("left", ["coarse.npz", "fine.npz"])
def test_a_folder_with_a_checkpoint_is_refused_unless_resumed(folder: Path, left: str) -> None:
    for path in folder.iterdir():
        if path.name != left:
            path.unlink()
    before = (folder / left).read_bytes()
    with pytest.raises(CheckpointError, match=f"{left}: is a checkpoint already; resume it, or give another folder"):
        train(SPLIT, SETTINGS, SHORT, seed=0, ops=spec, checkpoint=folder)
    assert [path.name for path in folder.iterdir()] == [left]
    assert (folder / left).read_bytes() == before


def test_a_file_in_the_place_of_the_folder_is_an_os_error(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("mine")
    with pytest.raises(FileExistsError):
        train(SPLIT, SETTINGS, SHORT, seed=0, ops=spec, checkpoint=tmp_path / "run", resume=True)
    assert (tmp_path / "run").read_text() == "mine"


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("seed", {"seed": 1}),
        ("split", {"split": tiny_split(1)}),
        ("settings.threshold", {"settings": replace(SETTINGS, threshold=0.5)}),
        ("recipe.fine.bias_lr", {"recipe": replace(SHORT, fine=replace(SHORT.fine, bias_lr=3.0))}),
        ("implementation", {"ops": fast, "dtype": np.float64}),
        ("dtype", {"dtype": np.float32}),
        ("partition", {"partition": spec.partition}),
    ],
)
def test_a_checkpoint_of_another_run_is_refused_by_name(folder: Path, name: str, changed: dict[str, Any]) -> None:
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    given = {"split": SPLIT, "settings": SETTINGS, "recipe": SHORT, "seed": 0, "ops": spec} | changed
    with pytest.raises(CheckpointError, match=rf"coarse\.npz: is of another run: {re.escape(name)} must be .*, got ") as caught:
        train(**given, checkpoint=folder, resume=True)
    if name == "seed":
        assert "seed must be 1, got 0" in str(caught.value)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == files


def test_a_checkpoint_of_another_version_is_refused_by_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "__version__", "99.0")
    with pytest.raises(CheckpointError, match=r"version must be '99\.0', got "):
        train(SPLIT, SETTINGS, SHORT, seed=0, ops=spec, checkpoint=folder, resume=True)


def test_each_stage_is_held_to_its_run(folder: Path, tmp_path: Path) -> None:
    """A folder in which the files of two runs were mixed."""
    train(SPLIT, SETTINGS, SHORT, seed=1, ops=spec, checkpoint=tmp_path / "other")
    shutil.copy(tmp_path / "other" / "fine.npz", folder)
    with pytest.raises(CheckpointError, match=r"fine\.npz: is of another run: seed must be 0, got 1"):
        train(SPLIT, SETTINGS, SHORT, seed=0, ops=spec, checkpoint=folder, resume=True)


# Files


def special(rng: np.random.Generator, dtype: Any, *shape: int) -> Any:
    """Numbers of this type, some of them zeros below 0, the least and the largest there are."""
    facts = np.finfo(dtype)
    odd = np.array([-0.0, facts.smallest_subnormal, -facts.smallest_subnormal, facts.tiny, facts.max, facts.min, facts.eps])
    return np.where(rng.random(shape) < 0.5, rng.normal(size=shape), rng.choice(odd, shape)).astype(dtype)


@st.composite
def states(draw: Callable[..., Any]) -> State:
    """States of one to three tables of drawn shapes and types."""
    rng, dtype = draw(rngs()), draw(st.sampled_from([np.float32, np.float64]))
    counts, finite = st.integers(0, 10**9), st.floats(allow_nan=False)
    shapes = draw(st.lists(st.sampled_from([(0,), (5,), (0, 3), (4, 3), (1, 2)]), min_size=1, max_size=3))

    def tables() -> tuple[Any, ...]:
        return tuple(special(rng, dtype, *shape) for shape in shapes)

    def assignment() -> sparse.csr_array:
        kept = rng.random((6, 4)) < 0.4
        index, starts = kept.nonzero()[1], np.append(0, kept.sum(axis=1).cumsum())
        index_type = draw(st.sampled_from([np.int32, np.int64]))
        parts = special(rng, dtype, index.size), index.astype(index_type), starts.astype(index_type)
        return sparse.csr_array(parts, shape=(6, 4))

    def snapshot() -> Snapshot | None:
        numbers = draw(finite), draw(counts), draw(counts)
        return Snapshot(tables(), assignment(), *numbers) if draw(st.booleans()) else None

    evaluations = st.builds(
        Evaluation,
        stage=st.text(),
        phase=st.sampled_from([1, 2]),
        **dict.fromkeys(("epoch", "n_steps", "max_steps", "n_refreshes"), counts),
        loss=st.none() | finite,
        **dict.fromkeys(("ndcg", "seconds"), finite),
        is_best=st.booleans(),
    )
    numbers = {name: draw(counts) for name in ("epoch", "n_steps", "n_refreshes", "n_misses")}
    bits = np.random.PCG64()
    bits.state = bits.state | {
        "state": {"state": draw(st.integers(0, 2**128 - 1)), "inc": 2 * draw(st.integers(0, 2**127 - 1)) + 1},
        "has_uint32": draw(st.sampled_from([0, 1])),
        "uinteger": draw(st.integers(0, 2**32 - 1)),
    }
    return State(
        tables=tables(),
        moments=tuple(AdamState(*pair, draw(counts)) for pair in zip(tables(), tables(), strict=True)),
        assignment=assignment(),
        rng=dict(bits.state),
        phase=draw(st.sampled_from([1, 2])),
        best=snapshot(),
        best_fixed=snapshot(),
        evaluations=tuple(draw(st.lists(evaluations, max_size=3))),
        is_finished=draw(st.booleans()),
        **numbers,
    )


@given(states(), st.sampled_from(["coarse", "fine", "scripted"]))
def test_a_state_is_kept_bit_for_bit(state: State, stage: str) -> None:
    with TemporaryDirectory() as place:
        checkpoints = Checkpoints(Path(place), {"seed": 3, "settings": {"threshold": float("inf"), "pinv_rtol": None}})
        assert checkpoints.load(stage) is None
        checkpoints.save(stage, replace(state, epoch=state.epoch + 1))
        checkpoints.save(stage, state)
        loaded = replace(checkpoints, resume=True).load(stage)
        assert os.listdir(place) == [f"{stage}.npz"]
    assert loaded is not None
    assert content_of_state(loaded) == content_of_state(state)
    assert repr(loaded.evaluations) == repr(state.evaluations)  # 0.0 == -0.0, but they look different


def test_stages_are_kept_apart(folder: Path) -> None:
    checkpoints = Checkpoints(folder, {"seed": 0}, resume=True)
    coarse, fine = checkpoints.load("coarse"), checkpoints.load("fine")
    assert coarse is not None
    assert fine is not None
    assert coarse.evaluations[-1].stage == "coarse"
    assert fine.evaluations[-1].stage == "fine"
    assert checkpoints.load("rough") is None


@given(rngs())
def test_a_changed_byte_is_told_or_changes_nothing(kept: Path, rng: np.random.Generator) -> None:
    """Eight files of one changed byte each, in every example."""
    content = (kept / "fine.npz").read_bytes()
    intact = Checkpoints(kept, {"seed": 0}, resume=True).load("fine")
    assert intact is not None
    for place, change in zip(rng.integers(len(content), size=8), rng.integers(1, 256, size=8), strict=True):
        damaged = bytearray(content)
        damaged[place] ^= int(change)
        with TemporaryDirectory() as other:
            (Path(other) / "fine.npz").write_bytes(damaged)
            try:
                state = Checkpoints(Path(other), {"seed": 0}, resume=True).load("fine")
            except BundleError as error:
                assert "fine.npz: " in str(error)  # noqa: PT017
            else:
                assert state is not None
                assert content_of_state(state) == content_of_state(intact)


def test_a_cut_checkpoint_is_told(folder: Path) -> None:
    path = folder / "coarse.npz"
    content = path.read_bytes()
    for length in range(0, len(content), 211):
        path.write_bytes(content[:length])
        with pytest.raises(BundleError, match=r"coarse\.npz: "):
            Checkpoints(folder, {}, resume=True).load("coarse")
    with pytest.raises(BundleError, match=r"coarse\.npz: "):
        train(SPLIT, SETTINGS, SHORT, seed=0, ops=spec, checkpoint=folder, resume=True)


def test_a_missing_part_is_told(folder: Path) -> None:
    path = folder / "coarse.npz"
    header, arrays = read_container(path, FORMAT)
    checkpoints = Checkpoints(folder, {"seed": 0}, resume=True)
    for name in arrays:
        write_container(path, FORMAT, header, {key: value for key, value in arrays.items() if key != name})
        with pytest.raises(BundleError, match=rf"coarse\.npz: .*{name}"):
            checkpoints.load("coarse")
    for name in header["state"].keys() - {"best", "best_fixed"}:
        poor = header | {"state": {key: value for key, value in header["state"].items() if key != name}}
        write_container(path, FORMAT, poor, arrays)
        if name in {"rng", "adam_steps", "evaluations"}:
            with pytest.raises(BundleError, match=rf"coarse\.npz: .*{name}"):
                checkpoints.load("coarse")
    write_container(path, FORMAT, header, arrays)
    assert checkpoints.load("coarse") is not None


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("indices", lambda array: array - 1),
        ("indices", lambda array: array + 100),
        ("indices", lambda array: array.astype(np.float64)),
        ("indptr", lambda array: array + 1),
        ("indptr", lambda array: array[:-1]),
        ("indptr", lambda array: array.astype(np.uint32)),
        ("data", lambda array: array[:-1]),
        ("data", lambda array: array[:0]),
        ("shape", lambda array: array[:1]),
        ("shape", lambda array: -array),
        ("shape", lambda array: array.astype(str)),
    ],
)
def test_an_assignment_that_is_no_matrix_is_told(folder: Path, part: str, change: Callable[[Any], Any]) -> None:
    path = folder / "coarse.npz"
    header, arrays = read_container(path, FORMAT)
    for name in ("assignment", "best assignment"):
        changed = {f"{name}.{part}": change(arrays[f"{name}.{part}"])}
        write_container(path, FORMAT, header, arrays | changed)
        with pytest.raises(BundleError, match=r"coarse\.npz: expected the state of a stage: "):
            Checkpoints(folder, {"seed": 0}, resume=True).load("coarse")


@pytest.mark.parametrize(
    "header",
    [
        {},
        {"run": {"seed": 0}},
        {"state": {}},
        {"run": None, "state": {}},
        {"run": ["seed"], "state": {}},
        {"run": {"seed": 0}, "state": {}},
        {"run": {"seed": 0}, "state": "none"},
        {"run": {"seed": 0}, "state": {"adam_steps": 3, "evaluations": []}},
        {"run": {"seed": 0}, "state": {"adam_steps": [], "evaluations": [3]}},
        {"run": {"seed": 0}, "state": {"adam_steps": [], "evaluations": [{"loss": 1.0}]}},
    ],
)
def test_a_file_that_holds_no_state_is_told(tmp_path: Path, header: dict[str, Any]) -> None:
    write_container(tmp_path / "coarse.npz", FORMAT, header, {})
    with pytest.raises(BundleError, match=r"coarse\.npz: "):
        Checkpoints(tmp_path, {"seed": 0}, resume=True).load("coarse")


@pytest.mark.parametrize("content", [b"", b"text\n", b"PK\x03\x04"])
def test_a_file_of_another_kind_is_told(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "fine.npz"
    path.write_bytes(content)
    with pytest.raises(BundleError, match=r"fine\.npz: "):
        Checkpoints(tmp_path, {}, resume=True).load("fine")
    write_container(path, "c2f-ref model 1", {}, {})
    with pytest.raises(BundleError, match=rf"fine\.npz: .*expected format '{FORMAT}', got 'c2f-ref model 1'"):
        Checkpoints(tmp_path, {}, resume=True).load("fine")


# Saves that fail


def failing(call: Callable[..., Any], place: int, what: type[BaseException]) -> Callable[..., Any]:
    """The function, which fails at its call number `place`, from 0."""
    n_calls = 0

    def fails(*given: Any) -> Any:
        nonlocal n_calls
        n_calls += 1
        if n_calls <= place:
            return call(*given)
        raise what("interrupted")

    return fails


CALLS_PER_SAVE = {"replace": 1, "fsync": 2}
"""The second flush is that of the folder, behind the rename."""


@pytest.mark.parametrize(("where", "what"), [("replace", OSError), ("fsync", OSError), ("replace", KeyboardInterrupt)])
@pytest.mark.parametrize("n_saved", [0, 3])
def test_an_interrupted_save_leaves_the_checkpoint_before(
    undisturbed: Undisturbed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, what: type[BaseException], n_saved: int
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(os, where, failing(getattr(os, where), CALLS_PER_SAVE[where] * n_saved, what))
        with pytest.raises(what, match="interrupted"):
            run(undisturbed.ops, tmp_path)
    assert os.listdir(tmp_path) == (["coarse.npz"] if n_saved else [])
    assert_resumes(undisturbed, tmp_path, n_saved)


CHILD = """
import sys, time
from pathlib import Path
from c2f_ref import spec
from training.test_checkpoints import LONG, SETTINGS, SPLIT, train

def told(_):
    print("kept", flush=True)

def slowly(_):
    time.sleep(0.002)

train(SPLIT, SETTINGS, LONG, seed=0, ops=spec, checkpoint=Path(sys.argv[1]), resume=True, on_state=told, on_step=slowly)
"""


@pytest.mark.parametrize("undisturbed", [spec], ids=["spec"], indirect=True)
def test_a_run_that_was_killed_goes_on_to_the_same_bytes(undisturbed: Undisturbed, tmp_path: Path) -> None:
    """Three times in a row, a few milliseconds after a state was kept; nobody could say goodbye."""
    rng = np.random.default_rng()  # another moment every time
    tests = Path(__file__).resolve().parents[1]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tests.parent), str(tests)])}
    for _ in range(3):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
        )
        with child:
            assert child.stdout is not None
            assert child.stderr is not None
            lines = [child.stdout.readline() for _ in range(rng.integers(1, 5))]
            time.sleep(rng.uniform(0, 0.03))
            child.kill()
            assert lines == [b"kept\n"] * len(lines), child.stderr.read()
        assert child.returncode != 0
    n_left = len(run(undisturbed.ops, Path(shutil.copytree(tmp_path, tmp_path / "copy")), resume=True)[1])
    assert 0 < n_left < len(undisturbed.states)
    assert_resumes(undisturbed, tmp_path, len(undisturbed.states) - n_left)
