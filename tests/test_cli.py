"""The command line, every command from end to end, and the front door of the package."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from support import scalar

import c2f_ref
from c2f_ref import cli, demo, spec
from c2f_ref.bundle import Model, load_model
from c2f_ref.interactions import (
    Interactions,
    load_split,
    planted,
    read_folder,
    read_interactions,
    save_split,
    split_given,
    split_ratio,
    split_third,
)
from c2f_ref.progress import ProgressLine
from c2f_ref.spec import Settings
from c2f_ref.training import RECIPES, Estimate, Recipe, embed_model

TINY = [
    *("--set", "n_coarse=6", "--set", "n_fine=4", "--set", "dim=5", "--set", "n_layers=2", "--set", "fine_per_coarse=3"),
    *("--recipe", "published", "--set", "max_epochs=6", "--set", "batch=256", "--set", "fine.lr=0.05"),
]


class Outcome(NamedTuple):
    """What a command leaves behind."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """The one JSON object of stdout."""
        (line,) = self.out.splitlines()
        value = json.loads(line, parse_constant=pytest.fail)
        assert isinstance(value, dict)
        return value


def run(*arguments: object) -> Outcome:
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            code = cli.main([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 1
    return Outcome(code, out.getvalue(), err.getvalue())


def process(*arguments: object) -> Outcome:
    command = [sys.executable, "-W", "error", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(c2f_ref.__file__).parents[1], check=False)
    return Outcome(done.returncode, done.stdout, done.stderr)


class Files(NamedTuple):
    """Inputs: the same planted pairs as a file with raw ids and as a LightGCN folder; and a model of each."""

    csv: Path
    folder: Path
    csv_model: Path
    folder_model: Path
    told: Outcome


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """30 users with 12 pairs each, 40 items."""
    home = tmp_path_factory.mktemp("cli")
    pairs = planted(n_users=30, n_items=40, n_groups=2, subgroups_per_group=2, pairs_per_user=12, rng=np.random.default_rng(0))
    made = Files(home / "pairs.csv", home / "folder", home / "csv.npz", home / "folder.npz", Outcome(0, "", ""))
    raw = zip(pairs.user_ids[pairs.users], pairs.item_ids[pairs.items], strict=True)
    made.csv.write_text("user,item\n" + "".join(f"{user},{item}\n" for user, item in raw))
    split = split_ratio(pairs, valid=0.0, test=0.4, seed=0)
    write_folder(made.folder, split.train, split.test)
    told = run("train", made.csv, "--out", made.csv_model, *TINY, "--seed", 3)
    assert (told.code, run("train", made.folder, "--out", made.folder_model, *TINY).code) == (0, 0)
    return made._replace(told=told)


def write_folder(folder: Path, train: Interactions, test: Interactions) -> None:
    folder.mkdir()
    for name, part in (("train.txt", train), ("test.txt", test)):
        lines = (f"{user} {' '.join(map(str, part.items[part.users == user]))}\n" for user in range(part.n_users))
        (folder / name).write_text("".join(lines))


# train


@pytest.mark.numba
def test_train_says_where_it_is_on_stderr_and_what_came_of_it_on_stdout(files: Files) -> None:
    code, out, err = files.told
    assert code == 0
    model = load_model(files.csv_model)
    # Tables of 6 * 5 numbers and the fine entries that are left, of 70 vectors of 5; 2 of 6 rows for an entity, 3 of 4 for a row.
    terms = model.stored_bytes()
    told = f"coarse 120, fine {terms['fine']}, coarse_assignment {140 * 5}, fine_assignment {18 * 5}, bias 160, ids "
    assert out.startswith(f"{files.csv_model}: {sum(terms.values()):,} bytes stored ({told}")
    assert f"the tables alone are {(120 + terms['fine']) / 14:.1f} % of one vector per entity (1,400 bytes)" in out
    assert "inference propagates over the 270 training pairs" in out
    lines = err.splitlines()
    assert lines[0].startswith("270 train, 30 valid, 60 test pairs of 30 users, 40 items; ratio 0.7/0.1/0.2, seed 0, ")
    assert lines[1].startswith("coarse: at most 0:00:0")
    assert [line.split(":")[0] for line in lines[1:]] == [
        "coarse",
        "coarse phase 1, epoch 0, step 0",
        "coarse phase 1, epoch 5, step 30",
        "fine",
        "fine phase 1, epoch 0, step 0",
        "fine phase 1, epoch 5, step 30",
    ]


def test_train_misses_the_folder_of_its_model_before_it_begins(files: Files, tmp_path: Path) -> None:
    done = run("train", files.csv, "--out", tmp_path / "none" / "m.npz", *TINY)
    assert (done.code, done.out) == (3, "")
    assert "expected a folder" in done.err
    assert "epoch" not in done.err


@pytest.mark.numba
def test_a_trained_model_is_that_of_the_library_call_and_knows_its_origin(files: Files, tmp_path: Path) -> None:
    model, pairs = load_model(files.csv_model), read_interactions(files.csv)
    split = split_ratio(pairs, seed=0)
    settings = Settings(n_coarse=6, n_fine=4, dim=5, n_layers=2, fine_per_coarse=3)
    coarse, fine = (
        replace(schedule, max_epochs=6, batch=256) for schedule in (RECIPES["published"].coarse, RECIPES["published"].fine)
    )
    recipe = Recipe(coarse=coarse, fine=replace(fine, lr=0.05))
    assert model.settings == settings
    assert model.user_ids.tolist() == sorted(f"u{user}" for user in range(30))
    assert {"seed": "3", "recipe": "published", "split": split.describe()}.items() <= model.provenance.items()
    coarse, fine = c2f_ref.train(split, settings, recipe, seed=3)
    assert fine is not None
    expected = c2f_ref.to_model(split, settings, coarse.best, fine.best).with_tables(np.float32, np.float32)
    for name in ("coarse", "fine", "bias"):
        assert getattr(model, name).dtype == np.float32
        assert np.array_equal(getattr(model, name), getattr(expected, name))
    assert (model.coarse_assignment != expected.coarse_assignment).nnz == 0
    assert run("train", files.csv, "--out", tmp_path / "again", *TINY, "--seed", 3).code == 0
    assert (tmp_path / "again").read_bytes() == files.csv_model.read_bytes()


def test_a_split_can_be_drawn_from_a_seed_or_read_from_a_file(files: Files, tmp_path: Path) -> None:
    once = [*TINY, "--set", "max_epochs=1"]
    assert run("train", files.csv, "--out", tmp_path / "drawn", *once, "--split-seed", 7).code == 0
    split = split_ratio(read_interactions(files.csv), seed=7)
    assert (load_model(tmp_path / "drawn").seen != split.train.matrix()).nnz == 0

    train, test = read_folder(files.folder)
    save_split(tmp_path / "mine.npz", split_third(train, test, seed=9))
    assert run("train", files.folder, "--out", tmp_path / "read", *once, "--split", tmp_path / "mine.npz").code == 0
    expected = load_split(tmp_path / "mine.npz", train).describe()
    assert "file mine.npz" in expected
    assert load_model(tmp_path / "read").provenance["split"] == expected


@pytest.mark.numba
def test_without_fine_rows_the_coarse_stage_is_trained_alone(files: Files, tmp_path: Path) -> None:
    done = run("train", files.csv, "--out", tmp_path / "m", *TINY, "--set", "n_fine=0", "--set", "max_epochs=1")
    assert done.code == 0
    assert [line.split(",")[0] for line in done.err.splitlines()[2:]] == ["coarse phase 1"]
    assert " bytes stored (coarse 120, fine 0, coarse_assignment 700, fine_assignment 0, bias 160, ids " in done.out
    assert load_model(tmp_path / "m").fine is None


@pytest.mark.parametrize(
    ("options", "tables", "values"),
    [
        (["--store", "float16"], np.float16, np.float32),
        (["--store", "float64"], np.float64, np.float64),
        (["--implementation", "spec"], np.float64, np.float64),
        (["--implementation", "spec", "--store", "float32"], np.float32, np.float32),
    ],
)
def test_numbers_are_stored_in_the_type_that_is_asked_for(
    files: Files, tmp_path: Path, options: list[str], tables: Any, values: Any
) -> None:
    assert run("train", files.csv, "--out", tmp_path / "m", *TINY, "--set", "max_epochs=1", *options).code == 0
    model = load_model(tmp_path / "m")
    assert {model.coarse.dtype, model.fine.dtype} == {np.dtype(tables)}
    assert {model.bias.dtype, model.coarse_assignment.dtype, model.fine_assignment.dtype} == {np.dtype(values)}


def test_partitions_can_come_from_metis_where_it_is_installed(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    once = [*TINY, "--set", "max_epochs=1"]
    monkeypatch.setitem(sys.modules, "pymetis", None)
    done = run("train", files.csv, "--out", tmp_path / "m", *once, "--partition", "metis")
    assert (done.code, done.out) == (2, "")
    assert "pymetis" in done.err
    monkeypatch.undo()
    pytest.importorskip("pymetis")
    assert run("train", files.csv, "--out", tmp_path / "m", *once, "--partition", "metis").code == 0
    assert load_model(tmp_path / "m").provenance["partition"] == "metis"
    assert load_model(files.csv_model).provenance["partition"] == "own"


# stop and go on


def test_a_run_that_was_stopped_goes_on_to_the_same_model(files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped as by Ctrl-C or SIGTERM at the third evaluation, in the fine stage."""
    kept = ["--checkpoint", tmp_path / "kept"]
    n_told = 0

    def interrupted(*_: Any) -> None:
        nonlocal n_told
        n_told += 1
        if n_told == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(cli.train.ProgressLine, "evaluated", interrupted)
        before = signal.getsignal(signal.SIGTERM)
        done = run("train", files.csv, "--out", tmp_path / "m", *TINY, "--seed", 3, *kept)
        assert signal.getsignal(signal.SIGTERM) is before
    assert (done.code, done.out) == (130, "")
    assert f"--resume goes on from {tmp_path / 'kept'}" in done.err
    assert not (tmp_path / "m").exists()
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == ["coarse.npz"]

    refused = run("train", files.csv, "--out", tmp_path / "m", *TINY, "--seed", 3, *kept)
    assert (refused.code, "is a checkpoint already" in refused.err) == (3, True)
    other = run("train", files.csv, "--out", tmp_path / "m", *TINY, "--seed", 4, *kept, "--resume")
    assert (other.code, "seed must be 4, got 3" in other.err) == (3, True)
    assert run("train", files.csv, "--out", tmp_path / "m", *TINY, "--seed", 3, *kept, "--resume").code == 0
    assert (tmp_path / "m").read_bytes() == files.csv_model.read_bytes()


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("library", ["numpy", "scipy.sparse", "c2f_ref.training.runs"])
def test_a_stop_while_libraries_are_imported_is_as_quiet_as_later(name: str, library: str) -> None:
    stop = (
        f"import os, signal, sys\n"
        f"signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # whoever runs this may ignore it
        f"class Stop:\n"
        f"    def find_spec(name, *_): name == {library!r} and os.kill(os.getpid(), signal.{name})\n"
        f"sys.meta_path.insert(0, Stop)\n"
        f"sys.argv = ['c2f-ref', 'doctor']\n"
        f"import c2f_ref.__main__"
    )
    assert process("-c", stop) == Outcome(130, "", "\nc2f-ref: interrupted\n")


def test_only_training_can_be_resumed(files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`plot` has an option --checkpoint too."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.models, "load_model", interrupted)
    done = run("plot", files.csv_model, "--out", tmp_path / "p", "--checkpoint", tmp_path)
    assert done == Outcome(130, "", "\nc2f-ref: interrupted\n")


def test_neither_threads_nor_a_checkpoint_change_the_model(files: Files, tmp_path: Path) -> None:
    done = run("train", files.csv, "--out", tmp_path / "m", *TINY, "--seed", 3, "--threads", 1, "--checkpoint", tmp_path / "kept")
    assert done.code == 0
    assert (tmp_path / "m").read_bytes() == files.csv_model.read_bytes()


@pytest.mark.parametrize("implementation", [pytest.param("fast", marks=pytest.mark.numba), "spec"])
def test_the_compiled_implementation_trains_unless_the_specification_is_asked_for(
    implementation: str, files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = []
    step = spec.coarse_loss_and_grad
    monkeypatch.setattr(spec, "coarse_loss_and_grad", lambda *given: steps.append(1) or step(*given))
    asked = [] if implementation == "fast" else ["--implementation", implementation]
    assert run("train", files.csv, "--out", tmp_path / "m", *TINY, "--seed", 3, *asked).code == 0
    assert load_model(tmp_path / "m").provenance["implementation"] == implementation
    assert bool(steps) == (implementation == "spec")


def test_where_there_is_no_numba_the_specification_trains_and_both_command_and_model_say_so(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli.train, "default_ops", lambda: spec)
    done = run("train", files.csv, "--out", tmp_path / "m", *TINY, "--set", "max_epochs=1", "--threads", 1)
    assert done.code == 0
    assert "numba is not installed: the specification trains, slowly and in float64" in done.err
    model = load_model(tmp_path / "m")
    assert (model.provenance["implementation"], model.coarse.dtype) == ("spec", np.float64)


def test_a_reader_that_has_enough_is_no_error(files: Files) -> None:
    """As in `c2f-ref evaluate ... | head -0`."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "c2f_ref", "evaluate", str(files.csv_model), str(files.csv)]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


# evaluate


def metrics_by_definition(model: Model, test: Interactions, ks: list[int]) -> dict[str, float]:
    """Means over users with a test item, by scalar loops from the model's embeddings."""
    entities, bias = embed_model(model), model.bias
    figures: dict[str, list[float]] = {}
    for user in sorted(set(test.users.tolist())):
        held_out = set(test.items[test.users == user].tolist())
        scores = [float(entities[user] @ entities[30 + item] + bias[30 + item]) for item in range(40)]
        ranked = scalar.rank(scores, set(model.seen.indices[model.seen.indptr[user] : model.seen.indptr[user + 1]].tolist()), 40)
        for k in ks:
            figures.setdefault(f"ndcg@{k}", []).append(scalar.ndcg(ranked, held_out, k))
            figures.setdefault(f"recall@{k}", []).append(scalar.recall(ranked, held_out, k))
    return {name: float(np.mean(values)) for name, values in figures.items()}


def test_evaluate_gives_metrics_of_the_test_pairs(files: Files) -> None:
    split = split_third(*read_folder(files.folder), seed=0)
    expected = metrics_by_definition(load_model(files.folder_model), split.test, [3, 7])
    done = run("evaluate", files.folder_model, files.folder, "--k", 3, 7, "--json")
    assert (done.code, done.err) == (0, "")
    told = done.json()
    assert told.keys() == {"split", "trained_on", "metrics", "intervals"}
    assert (told["split"], told["trained_on"], told["metrics"]) == (split.describe(), split.describe(), pytest.approx(expected))
    assert all(low < told["metrics"][name] < high for name, (low, high) in told["intervals"].items())

    done = run("evaluate", files.folder_model, files.folder, "--k", 3, 7)
    described, head, row, low, high, note = done.out.splitlines()
    assert described == split.describe()
    assert head.split() == ["N@3", "N@7", "R@3", "R@7"]
    names = ("ndcg@3", "ndcg@7", "recall@3", "recall@7")
    assert row.split() == ["folder.npz", *(f"{expected[name]:.4f}" for name in names)]
    for line, end in ((low, 0), (high, 1)):
        assert line.split()[3:] == [f"{told['intervals'][name][end]:.4f}" for name in names]
    assert "bootstrap over users" in note


def test_evaluate_ranks_at_5_10_20_and_50_unless_told(files: Files) -> None:
    """50 is more than there are items."""
    metrics = run("evaluate", files.csv_model, files.csv, "--json").json()["metrics"]
    assert list(metrics) == [f"{name}@{k}" for name in ("ndcg", "recall") for k in (5, 10, 20, 50)]
    assert metrics["recall@50"] == 1.0


def test_evaluate_says_when_the_split_is_another_than_that_of_training(files: Files) -> None:
    """Another third of the same test pairs: no training pair is in it, but pairs that chose the model can be."""
    done = run("evaluate", files.folder_model, files.folder, "--split-seed", 1)
    assert done.code == 0
    trained_on = split_third(*read_folder(files.folder), seed=0).describe()
    assert done.err == f"note: the model was trained on another split: {trained_on}\n"


def test_evaluate_refuses_a_split_the_model_was_not_trained_on(files: Files) -> None:
    done = run("evaluate", files.csv_model, files.csv, "--split-seed", 1)
    assert (done.code, done.out) == (3, "")
    assert "test pairs of this split are among the model's training pairs" in done.err


def test_evaluate_refuses_data_of_another_size(files: Files, tmp_path: Path) -> None:
    (tmp_path / "other.csv").write_text("user,item\n" + "".join(f"a,{item}\n" for item in range(10)))
    done = run("evaluate", files.csv_model, tmp_path / "other.csv")
    assert (done.code, done.out) == (3, "")
    assert "the model must be of the data's users: it has 30, the data 1, and 'a' where 'u0' is" in done.err


def relabelled(path: Path, files: Files) -> Path:
    """The same pairs, every user by another name."""
    path.write_text(files.csv.read_text().replace("u", "zz").replace("zzser", "user"))
    return path


def test_evaluate_refuses_data_of_other_users_however_many_there_are(files: Files, tmp_path: Path) -> None:
    done = run("evaluate", files.csv_model, relabelled(tmp_path / "other.csv", files))
    assert (done.code, done.out) == (3, "")
    assert "the model must be of the data's users: it has 30, the data 30, and 'zz0' where 'u0' is" in done.err


def test_a_split_file_of_other_data_is_refused(files: Files, tmp_path: Path) -> None:
    """With pairs that the data have not; positions alone do not tell."""
    pairs = read_interactions(files.csv)
    absent = sorted(set(range(pairs.n_users * pairs.n_items)) - set(pairs.pair_keys.tolist()))[:3]
    users, items = np.divmod(absent, pairs.n_items)
    invented = Interactions.from_indices(users, items, pairs.n_users, pairs.n_items)
    none = invented.select(np.zeros(3, dtype=bool))
    for valid, test, words in ((invented, none, "3 of its 3 validation pairs"), (none, invented, "3 of its 3 test pairs")):
        save_split(tmp_path / "s.npz", split_given(none, valid, test))
        for data in (files.csv, files.folder):
            done = run("train", data, "--out", tmp_path / "m", "--split", tmp_path / "s.npz", *TINY)
            assert (done.code, done.out) == (3, "")
            assert f"file s.npz is a split of other data: {words} are not in these, user " in done.err


@pytest.mark.parametrize("place", ["folder", ".", "absent/m.npz"])
def test_a_model_that_could_not_be_written_is_not_trained(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    done = run("train", files.csv, "--out", place, *TINY)
    assert (done.code, done.out) == (3, "")
    assert place.split("/")[0] in done.err
    assert "epoch" not in done.err


@pytest.mark.parametrize("words", ["Unable to allocate 43.7 TiB", ""])
def test_more_memory_than_there_is_is_said_in_one_line(files: Files, monkeypatch: pytest.MonkeyPatch, words: str) -> None:
    def fail(*_: object) -> None:
        raise MemoryError(words)

    monkeypatch.setattr(cli.models, "load_model", fail)
    done = run("evaluate", files.csv_model, files.csv)
    assert (done.code, done.out) == (3, "")
    assert done.err == f"c2f-ref: not enough memory for these data and settings: {words or 'nothing is left'}\n"


# recommend


def test_recommend_prints_a_line_for_each_user_as_often_as_asked(files: Files) -> None:
    once, twice = run("recommend", files.csv_model, "u1"), run("recommend", files.csv_model, "u1", "u1")
    assert twice.out == 2 * once.out != ""


def test_recommend_shows_no_control_character_of_an_id(files: Files, tmp_path: Path) -> None:
    (tmp_path / "odd.csv").write_text(files.csv.read_text().replace(",i1\n", ',"i\x1b[31m1\nu9: x"\n'))
    assert run("train", tmp_path / "odd.csv", "--out", tmp_path / "m", *TINY).code == 0
    done = run("recommend", tmp_path / "m", *(f"u{user}" for user in range(30)), "-k", 40)
    assert r"i\x1b[31m1\nu9: x (" in done.out
    assert len(done.out.splitlines()) == 30
    assert all(line.isprintable() for line in done.out.splitlines())


def best_by_definition(model: Model, raw: str, k: int) -> list[str]:
    entities = embed_model(model)
    user = model.user_ids.tolist().index(raw)
    scores = entities[user] @ entities[30:].T + model.bias[30:]
    unseen = set(range(40)) - set(model.seen.indices[model.seen.indptr[user] : model.seen.indptr[user + 1]].tolist())
    return [model.item_ids[item].item() for item in sorted(unseen, key=lambda item: -scores[item])[:k]]


def test_recommend_takes_and_gives_raw_ids(files: Files) -> None:
    model = load_model(files.csv_model)
    done = run("recommend", files.csv_model, "u17", "u2", "-k", 3, "--json")
    assert (done.code, done.err) == (0, "")
    told = done.json()
    assert list(told) == ["u17", "u2"]
    for raw, entries in told.items():
        assert [entry["item"] for entry in entries] == best_by_definition(model, raw, 3)
        assert [entry["score"] for entry in entries] == sorted((entry["score"] for entry in entries), reverse=True)

    (line,) = run("recommend", files.csv_model, "u17").out.splitlines()
    assert line.startswith("u17: ")
    assert line.replace("u17: ", "").split()[::2] == best_by_definition(model, "u17", 10)


def test_recommend_gives_whole_numbers_where_the_ids_are(files: Files) -> None:
    entries = run("recommend", files.folder_model, 4, "-k", 2, "--json").json()["4"]
    assert all(type(entry["item"]) is int for entry in entries)
    assert len(entries) == 2


def test_recommend_lists_no_more_than_there_is(files: Files) -> None:
    """40 items, 9 of them seen: 31 are left."""
    assert len(run("recommend", files.csv_model, "u3", "-k", 99, "--json").json()["u3"]) == 31


def test_recommend_refuses_a_user_it_does_not_know(files: Files) -> None:
    done = run("recommend", files.csv_model, "u3", "nobody", "--json")
    assert (done.code, done.out) == (3, "")
    assert "user 'nobody' is not among" in done.err
    assert "30 users" in done.err


# demo


def test_demo_shows_a_table_recommendations_bytes_and_writes_model_and_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In miniature: what its figures are is another test's matter."""
    monkeypatch.setattr(demo, "DEMO_SETTINGS", replace(demo.DEMO_SETTINGS, dim=4))
    short = {stage: replace(getattr(RECIPES["demo"], stage), max_epochs=6, n_negatives=1) for stage in ("coarse", "fine")}
    monkeypatch.setitem(RECIPES, "demo", Recipe(**short))
    done = run("demo", "--out", tmp_path / "new" / "folder", "--seed", 1)
    assert done.code == 0
    model = load_model(tmp_path / "new" / "folder" / "model.npz")
    assert (tmp_path / "new" / "folder" / "training.png").read_bytes().startswith(b"\x89PNG")
    lines = done.out.splitlines()
    assert lines[0].startswith("planted data, seed 1: 4800 train, 1800 valid, 2400 test pairs of 600 users, 600 items")
    head = lines.index("test pairs, all unseen items ranked; N is NDCG, R is recall:") + 1
    assert lines[head].split() == ["N@5", "N@10", "N@20", "R@5", "R@10", "R@20"]
    names = ["popularity", "item filter", "coarse", "coarse + fine"]
    assert [line[:13].strip() for line in lines[head + 1 : head + 5]] == names
    listed = lines[lines.index("first 5 items for user u0:") + 1].split()[::2]
    assert len(set(listed) & set(model.item_ids.tolist())) == 5
    assert "bytes stored" in done.out
    assert "fine phase 1, epoch 5" in done.err


# conformance


@pytest.fixture(scope="module")
def vectors(official_vectors: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of one file."""
    folder = tmp_path_factory.mktemp("vectors")
    shutil.copy(official_vectors / "dev_01.npz", folder)
    return folder


def test_conformance_passes_the_specification(official_vectors: Path) -> None:
    done = run("conformance", "c2f_ref.spec", "--vectors", official_vectors)
    assert (done.code, done.err) == (0, "")
    assert all(line.endswith("pass") for line in done.out.splitlines())
    assert "10 files of known answers" in done.out.splitlines()[-1]


def test_conformance_fails_when_one_known_answer_is_one_percent_off(vectors: Path, tmp_path: Path) -> None:
    with np.load(vectors / "dev_01.npz", allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    arrays["fine.entity_out"] = arrays["fine.entity_out"].copy()
    arrays["fine.entity_out"][4, 2] *= 1.01
    np.savez(tmp_path / "dev_01.npz", **arrays)
    done = run("conformance", "c2f_ref.spec", "--vectors", tmp_path, "--json")
    assert (done.code, done.err) == (1, "")
    report = done.json()
    assert report["passed"] is False
    failures = [result["failure"] for result in report["results"] if result["verdict"] != "pass"]
    assert {("fine.entity_out", 4, 2)} <= {(failure["key"], *failure["index"]) for failure in failures}


def test_conformance_fails_a_module_with_a_wrong_function(vectors: Path, tmp_path: Path) -> None:
    source = (
        "from c2f_ref.spec import *\nfrom c2f_ref import spec\n\ndef bpr_loss(*scores):\n    return {} * spec.bpr_loss(*scores)\n"
    )
    for factor, code in (("1.0", 0), ("1.01", 1)):
        (tmp_path / "mine.py").write_text(source.format(factor))
        done = run("conformance", tmp_path / "mine.py", "--vectors", vectors)
        assert done.code == code
    (failed,) = (line for line in done.out.splitlines()[:-1] if not line.endswith("pass"))
    assert failed.startswith("bpr_loss ")


def test_conformance_reports_as_one_json_object(vectors: Path) -> None:
    done = run("conformance", "c2f_ref.spec", "--vectors", vectors, "--json")
    assert done.code == 0
    assert done.json()["passed"] is True


# Wrong usage is 2, a bad file 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "required: COMMAND"),
        (["frobnicate"], "invalid choice: 'frobnicate'"),
        (["train", "{csv}"], "required: --out"),
        (["train", "{csv}", "--out", "m", "--recipe", "fast"], "invalid choice: 'fast'"),
        (["train", "{csv}", "--out", "m", "--split", "f", "--split-seed", "1"], "not allowed with"),
        (["train", "{csv}", "--out", "m", "--set", "dims=3"], "no setting is called 'dims'"),
        (["train", "{csv}", "--out", "m", "--set", "dim"], "name=value"),
        (["train", "{csv}", "--out", "m", "--set", "dim=-3"], "dim must be in"),
        (["train", "{csv}", "--out", "m", "--set", "coarse_per_entity=301"], "coarse_per_entity must be at most"),
        # Published sizes: 300 coarse rows, and there are 70 entities.
        (["train", "{csv}", "--out", "m"], "n_coarse must be at most the number of users and items, 70, got 300"),
        (["train", "{csv}", "--out", "m", *TINY, "--set", "n_fine=71"], "n_fine must be at most the number of users and items, 70"),
        (["train", "{csv}", "--out", "m", "--set", "lr=" + 10**5 * "["], "lr must be a finite number above 0"),
        (["train", "{csv}", "--out", "m", "--set", f"batch={10**24}"], "batch must be a whole number from 1 to 2147483647"),
        (["train", "{csv}", "--out", "m", *TINY, "--resume"], "resume goes on from a checkpoint folder, and none is given"),
        (["train", "{csv}", "--out", "{csv}"], "pairs.csv is read or kept by the training itself"),
        (["train", "{csv}", "--out", "m", "--split", "m"], "m is read or kept by the training itself"),
        (
            ["train", "{csv}", "--out", "{home}/fine.npz", "--checkpoint", "{home}"],
            "fine.npz is read or kept by the training itself",
        ),
        (["memory", "{csv_model}", "--users", "3", "--set", "dim=3"], "leave out --set, --users, or the MODEL"),
        (["conformance", "--command", "'x {in} {out}"], "the command must be words of a shell"),
        (["conformance", "--command", ""], "the command must say where {in} goes"),
        (["conformance", "c2f_ref.spec", "--time-limit", "nan"], "expected seconds, more than 0 and at most 1e+06, got nan"),
        (["evaluate", "{csv_model}"], "required: DATA"),
        (["recommend", "{csv_model}"], "required: USER"),
        (["recommend", "{csv_model}", "u1", "-k", "many"], "invalid int value"),
        (["conformance", "no_such_module", "--vectors", "."], "no_such_module: cannot be imported"),
    ],
)
def test_wrong_usage_is_2(files: Files, tmp_path: Path, arguments: list[str], words: str) -> None:
    named = {name: str(value) for name, value in files._asdict().items()} | {"in": "{in}", "out": "{out}", "home": str(tmp_path)}
    done = run(*(argument.format(**named) for argument in arguments))
    assert (done.code, done.out) == (2, "")
    assert words in done.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "{csv}", "--out", "{csv}.out", *TINY, "--seed", "-1"],
        ["train", "{csv}", "--out", "{csv}.out", *TINY, "--split-seed", "-1"],
        ["train", "{csv}", "--out", "{csv}.out", *TINY, "--set", "draws_per_epoch=true"],
        ["evaluate", "{csv_model}", "{csv}", "--k", "0"],
        ["recommend", "{csv_model}", "u1", "-k", "-1"],
        ["demo", "--out", "{csv}.out", "--seed", "-1"],
    ],
    ids=lambda arguments: " ".join([arguments[0], *arguments[-2:]]),
)
def test_a_number_that_no_run_can_use_is_wrong_usage(files: Files, arguments: list[str]) -> None:
    done = run(*(argument.format(**files._asdict()) for argument in arguments))
    assert (done.code, done.out) == (2, "")


@pytest.mark.parametrize("command", ["train", "evaluate"])
@pytest.mark.parametrize(
    ("name", "content", "line", "token"),
    [
        ("pairs.csv", "user,item\na,1\nb\n", 3, None),
        ("pairs.txt", "0 1 2\n1 3 x7\n", 2, "x7"),
        ("pairs.inter", "user_id:token\titem_id:text\na\tb\n", 1, "item_id:text"),
    ],
)
def test_a_bad_file_of_pairs_is_3_with_file_line_and_token(
    files: Files, tmp_path: Path, command: str, name: str, content: str, line: int, token: str | None
) -> None:
    path = tmp_path / name
    path.write_text(content)
    done = run("train", path, "--out", tmp_path / "m", *TINY) if command == "train" else run("evaluate", files.csv_model, path)
    assert (done.code, done.out) == (3, "")
    assert f"{path}, line {line}: " in done.err
    assert token is None or repr(token) in done.err
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "{absent}.csv", "--out", "m"], "absent.csv"),
        (["train", "{csv}", "--out", "m", "--split", "{csv}"], "not a readable split file"),
        (["evaluate", "{absent}", "{csv}"], "absent"),
        (["recommend", "{csv}", "u1"], "pairs.csv: expected a file of format 'c2f-ref model 2'"),
        (["conformance", "c2f_ref.spec", "--vectors", "{absent}"], "no .npz file in this folder"),
    ],
)
def test_an_input_that_cannot_be_used_is_3(files: Files, tmp_path: Path, arguments: list[str], words: str) -> None:
    done = run(*(argument.format(**files._asdict(), absent=tmp_path / "absent") for argument in arguments))
    assert (done.code, done.out) == (3, "")
    assert words in done.err


@pytest.mark.parametrize(
    "command", ["demo", "train", "evaluate", "recommend", "memory", "plot", "conformance", "vectors", "doctor"]
)
def test_help_says_what_each_command_does_with_an_example(command: str) -> None:
    everything, done = run("--help"), run(command, "--help")
    assert (everything.code, everything.err, done.code, done.err) == (0, "", 0, "")
    assert f"\nexample: c2f-ref {command} " in done.out
    text = done.out.split("\n\n")[1].splitlines()[0]
    assert text.endswith(".")
    assert f"{command} {text}" in " ".join(everything.out.split())


def test_python_m_is_the_same_command(files: Files) -> None:
    done = process("-m", "c2f_ref", "recommend", files.csv_model, "u5", "--json")
    assert done == run("recommend", files.csv_model, "u5", "--json")
    done = process("-m", "c2f_ref", "recommend", files.csv_model, "nobody")
    assert (done.code, done.out) == (3, "")
    assert "nobody" in done.err


# The front door


@pytest.mark.parametrize("imported", ["c2f_ref", "c2f_ref.cli", "c2f_ref.spec", "c2f_ref.cli.commands"])
def test_importing_loads_nothing_heavy(imported: str) -> None:
    """The command line has a table to print before it needs a picture or a PCA; and a word for Ctrl-C before it has NumPy."""
    done = process("-c", f"import sys, {imported}; print(*sys.modules)")
    assert done.code == 0
    names = {name.split(".")[0] for name in done.out.split()}
    assert "c2f_ref" in names
    assert not names & {"numba", "sklearn", "matplotlib", "torch", "pymetis"}
    assert ("numpy" in names) == (imported not in ("c2f_ref", "c2f_ref.cli"))


@pytest.mark.parametrize("name", c2f_ref.__all__)
def test_every_name_of_the_front_door_opens(name: str) -> None:
    value = getattr(c2f_ref, name)
    assert getattr(sys.modules[f"c2f_ref.{c2f_ref._HOME_OF[name]}"], name) is value
    assert name in dir(c2f_ref)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    get: Callable[..., Any] = getattr
    with pytest.raises(AttributeError, match="module 'c2f_ref' has no attribute 'no_such_name'"):
        get(c2f_ref, "no_such_name")
    assert not hasattr(c2f_ref, "numpy")


class Full(io.StringIO):
    """A device without room."""

    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("stderr", [Full(), None])
def test_progress_that_nobody_can_be_told_ends_nothing(monkeypatch: pytest.MonkeyPatch, stderr: io.StringIO | None) -> None:
    monkeypatch.setattr(sys, "stderr", stderr)
    progress = ProgressLine()
    seconds = dict.fromkeys(("step_seconds", "epoch_seconds", "evaluation_seconds"), 1.0)
    progress.estimated(Estimate(stage="coarse", max_steps=10, max_epochs=5, max_evaluations=2, **seconds))
    progress.close()
    assert not progress.live


def test_no_stdout_is_no_error(files: Files, tmp_path: Path) -> None:
    command = f"{sys.executable} -m c2f_ref recommend {files.csv_model} u1 >&-"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, cwd=Path(c2f_ref.__file__).parents[1], check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_ids_that_the_terminal_cannot_show_are_escaped(files: Files, tmp_path: Path) -> None:
    (tmp_path / "odd.csv").write_text(files.csv.read_text().replace("u1,", "u\u00e91,"), encoding="utf-8")
    assert run("train", tmp_path / "odd.csv", "--out", tmp_path / "m", *TINY).code == 0
    command = [sys.executable, "-m", "c2f_ref", "recommend", str(tmp_path / "m"), "u\u00e91", "-k", "1"]
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    home = Path(c2f_ref.__file__).parents[1]
    done = subprocess.run(command, capture_output=True, text=True, cwd=home, env=environment, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(r"u\xe91: ")
