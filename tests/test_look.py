"""The commands `plot` and `doctor`: pictures of what a model holds, and what is told of a machine, whole or not."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
from conftest import PROJECT
from training.tiny import RECIPE, SETTINGS, tiny_split, with_schedules

import c2f_ref
from c2f_ref import doctor, spec
from c2f_ref.bundle import Model, load_model, save_model
from c2f_ref.cli import main, models
from c2f_ref.doctor import examine, is_sound
from c2f_ref.training import embed_model, embed_nodes, to_model, train

PICTURES = ["embeddings.png", "fine_table.png", "bridges.png"]


class Files(NamedTuple):
    """A model of both stages, one of the coarse stage alone, and the checkpoint folder of their training."""

    model: Path
    coarse_model: Path
    checkpoint: Path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    home = tmp_path_factory.mktemp("look")
    made = Files(home / "both.npz", home / "coarse.npz", home / "checkpoint")
    split = tiny_split()
    coarse, fine = train(split, SETTINGS, with_schedules(RECIPE, max_epochs=9), seed=0, ops=spec, checkpoint=made.checkpoint)
    assert fine is not None
    save_model(made.model, to_model(split, SETTINGS, coarse.best, fine.best))
    save_model(made.coarse_model, to_model(split, SETTINGS, coarse.best))
    return made


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    try:
        code = main([str(argument) for argument in arguments])
    except SystemExit as stop:
        code = int(stop.code or 0)
    return (code, *capsys.readouterr())


# plot


@pytest.mark.parametrize(
    ("options", "pictures"),
    [
        (["model"], PICTURES),
        (["coarse_model"], PICTURES[:1]),
        (["model", "--checkpoint"], [*PICTURES, "training.png"]),
    ],
)
def test_plot_draws_what_there_is_and_prints_a_path_a_line(
    options: list[str], pictures: list[str], files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "folder"
    model, *rest = options
    checkpoint = [*rest, files.checkpoint] if rest else []
    code, told, _ = run(capsys, "plot", getattr(files, model), "--out", out, *checkpoint)
    assert code == 0
    assert told.splitlines() == [str(out / name) for name in pictures]
    assert {path.name for path in out.iterdir()} == set(pictures)
    assert all((out / name).read_bytes().startswith(b"\x89PNG") for name in pictures)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_what_is_drawn_are_the_propagated_nodes_and_the_stored_entries(
    dtype: Any, files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the model as it is in the file, whatever its tables are rounded to."""
    drawn: dict[str, Any] = {}
    for name in ("plot_embeddings", "plot_sparsity", "plot_bridges"):
        draw = getattr(models, name)
        monkeypatch.setattr(models, name, lambda *given, name=name, draw=draw: drawn.update({name: given}) or draw(*given))
    model = load_model(files.model).with_tables(dtype)
    save_model(tmp_path / "model.npz", model)
    assert run(capsys, "plot", tmp_path / "model.npz", "--out", tmp_path)[0] == 0
    entities, n_users, coarse, fine = drawn["plot_embeddings"]
    np.testing.assert_array_equal(entities, embed_model(model, ops=spec))
    assert (n_users, coarse.shape, fine.shape) == (30, (6, 5), (4, 5))
    (table,) = drawn["plot_sparsity"][0].values()
    assert model.fine is not None
    np.testing.assert_array_equal(table, model.fine)
    np.testing.assert_array_equal(drawn["plot_bridges"][0].toarray(), load_model(files.model).fine_assignment.toarray())  # type: ignore[union-attr]


def test_nodes_of_a_coarse_model_are_those_of_its_stage(files: Files) -> None:
    model = load_model(files.coarse_model)
    entities, coarse = embed_nodes(model, ops=spec)
    np.testing.assert_array_equal(entities, embed_model(model, ops=spec))
    assert coarse.shape == (6, 5)


def test_a_checkpoint_of_another_model_is_refused_by_name(files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other: Model = replace(load_model(files.model), provenance={"split": "another"})
    save_model(tmp_path / "other.npz", other)
    code, out, error = run(capsys, "plot", tmp_path / "other.npz", "--out", tmp_path / "p", "--checkpoint", files.checkpoint)
    assert (code, out) == (3, "")
    assert "is of another run: split must be 'another'" in error
    assert not (tmp_path / "p").exists()


def test_a_checkpoint_of_another_training_of_the_same_data_is_refused(
    files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = load_model(files.model)
    save_model(tmp_path / "other.npz", replace(model, bias=model.bias * 1.25))
    code, out, error = run(capsys, "plot", tmp_path / "other.npz", "--out", tmp_path / "p", "--checkpoint", files.checkpoint)
    assert (code, out) == (3, "")
    assert "expected the training of this model, it has chosen another one" in error


def test_a_picture_that_cannot_be_written_leaves_the_old_one(
    files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(capsys, "plot", files.model, "--out", tmp_path)[0] == 0
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    assert run(capsys, "plot", files.coarse_model, "--out", tmp_path)[0] == 3
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(("folder", "complaint"), [("none", "must be a folder"), ("empty", "found neither")])
def test_a_folder_without_checkpoints_is_told_and_left_as_it_is(
    folder: str, complaint: str, files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    code, _, error = run(capsys, "plot", files.model, "--out", tmp_path / "p", "--checkpoint", tmp_path / folder)
    assert code == 3
    assert complaint in error
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_a_file_that_is_no_model_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "no.npz").write_bytes(b"no")
    code, _, error = run(capsys, "plot", tmp_path / "no.npz", "--out", tmp_path / "p")
    assert code == 3
    assert "no.npz" in error


# doctor


def test_doctor_tells_the_versions_that_are_installed(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "doctor", "--json")
    found = json.loads(out)
    assert code == 0
    assert found["versions"].keys() == {"c2f_ref", "python", *doctor.LIBRARIES}
    for name in doctor.LIBRARIES:
        try:
            installed = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            installed = "not installed"
        assert found["versions"][name] == installed
    assert found["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found["processors"]["count"] == os.cpu_count()
    if importlib.util.find_spec("numba"):
        assert found["numba"]["kernel"] == "gives the bits of the specification"


def test_doctor_prints_what_its_json_holds(capsys: pytest.CaptureFixture[str]) -> None:
    """Names of sections and entries; seconds and free memory differ from call to call."""
    found, printed = json.loads(run(capsys, "doctor", "--json")[1]), run(capsys, "doctor")[1]
    sections = re.findall(r"^(\w[\w ]*): ?(?:none)?$", printed, flags=re.MULTILINE)
    assert sections == list(found)
    assert re.findall(r"^  ([^:]+): .", printed, flags=re.MULTILINE) == [name for entries in found.values() for name in entries]


def test_doctor_works_with_numpy_and_scipy_alone_and_says_what_is_missing() -> None:
    """Nothing that is absent is a fault."""
    absent = ["numba", "sklearn", "matplotlib", "threadpoolctl"]
    start = f"import sys; sys.modules.update(dict.fromkeys({absent}))"
    code = f"{start}; from c2f_ref.cli import main; sys.exit(main(['doctor', '--json']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PROJECT, check=True)
    found = json.loads(done.stdout)
    assert [found["versions"][name] for name in ("numba", "scikit-learn", "matplotlib", "threadpoolctl")] == ["not installed"] * 4
    assert found["numba"] == {"kernel": "left out: numba is not installed"}
    assert "threadpoolctl" in found["thread pools"]["loaded now"]


def compiled(monkeypatch: pytest.MonkeyPatch, compose: Any) -> None:
    """Let `c2f_ref.fast` and numba be stand-ins, of which only `compose` matters."""
    kernel = SimpleNamespace(stats=SimpleNamespace(cache_path="cache"))
    stand_in = SimpleNamespace(compose=compose, compile=SimpleNamespace(is_compiled=True), kernels=SimpleNamespace(add_row=kernel))
    numba = SimpleNamespace(__version__="1", get_num_threads=lambda: 3, threading_layer=lambda: "omp")
    monkeypatch.setattr(c2f_ref, "fast", stand_in, raising=False)
    monkeypatch.setitem(sys.modules, "numba", numba)
    monkeypatch.setitem(sys.modules, "llvmlite", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "llvmlite.binding", SimpleNamespace(get_host_cpu_name=lambda: "cortex-a76"))


def raising(error: Exception) -> Any:
    def call(*given: Any) -> Any:
        raise error

    return call


def test_the_compiler_is_described_after_it_has_worked(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled(monkeypatch, spec.compose)
    found = examine()
    assert is_sound(found)
    assert found["numba"].pop("seconds of the first call") >= 0
    assert found["numba"] == {
        "kernel": "gives the bits of the specification",
        "threads": 3,
        "compiler": "on",
        "compiles for": "cortex-a76",
        "threading layer": "omp",
        "cache": "cache",
    }


@pytest.mark.parametrize(
    ("compose", "told"),
    [
        (lambda assignment, table: spec.compose(assignment, table) + 1e-16, "gives the bits"),
        (
            lambda assignment, table: spec.compose(assignment, table) * (1 + 1e-15),
            "fails: its result is not that of the specification",
        ),
        (raising(ValueError("No threading layer")), "fails: ValueError('No threading layer')"),
    ],
)
def test_a_kernel_that_does_not_work_is_a_fault(
    compose: Any, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first adds less than rounding and is no fault; the others are."""
    compiled(monkeypatch, compose)
    code, out, _ = run(capsys, "doctor", "--json")
    assert json.loads(out)["numba"]["kernel"].startswith(told)
    assert code == (0 if told == "gives the bits" else 1)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (RuntimeError("built for another NumPy"), "fails: RuntimeError('built for another NumPy')"),
        (ModuleNotFoundError("No module named 'kiwisolver'", name="kiwisolver"), "fails: No module named 'kiwisolver'"),
    ],
)
def test_a_library_that_is_installed_and_cannot_be_imported_is_a_fault(
    error: Exception, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(name: str) -> Any:
        if name == "matplotlib":
            raise error
        return importlib.import_module(name)

    monkeypatch.setattr(doctor, "import_module", refuse)
    code, out, _ = run(capsys, "doctor", "--json")
    assert json.loads(out)["versions"]["matplotlib"] == told
    assert code == 1


def test_a_system_that_tells_less_is_no_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "PROC", tmp_path)
    monkeypatch.setattr(platform, "processor", lambda: "")
    for name in ("sysconf", "sched_getaffinity"):
        monkeypatch.delattr(os, name, raising=False)
    found = examine()
    assert found["memory"] == {"total": "unknown", "available": "unknown"}
    assert found["processors"] | {"count": 0} == {"name": "unknown", "count": 0, "allowed": "unknown"}
    assert is_sound(found)


def test_processor_and_free_memory_are_those_that_linux_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first of several processors; `platform.processor` says nothing there."""
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nmodel name\t: Chip: 5\n\nprocessor\t: 1\nmodel name\t: Chip: 6\n")
    (tmp_path / "meminfo").write_text("MemTotal:   9 kB\nMemAvailable:      7 kB\n")
    monkeypatch.setattr(doctor, "PROC", tmp_path)
    found = examine()
    assert (found["processors"]["name"], found["memory"]["available"]) == ("Chip: 5", "7 kB")


def test_only_variables_that_set_threads_or_the_compiler_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setenv("MY_SECRET", "hidden")
    told = examine()["environment"]
    assert told["OMP_NUM_THREADS"] == "7"
    assert "hidden" not in told.values()


@pytest.mark.parametrize("command", ["plot", "doctor"])
def test_the_example_of_the_help_is_a_command_that_runs(
    command: str, files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a folder with the demonstration's model; what a shell would redirect is left out."""
    text = run(capsys, command, "--help")[1]
    (line,) = re.findall(r"^example: c2f-ref (.*)$", text, flags=re.MULTILINE)
    (tmp_path / "c2f-demo").mkdir()
    (tmp_path / "c2f-demo" / "model.npz").write_bytes(files.model.read_bytes())
    monkeypatch.chdir(tmp_path)
    assert run(capsys, *shlex.split(line.split(">")[0]))[0] == 0
