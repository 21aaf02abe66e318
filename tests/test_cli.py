"""The command line, every command from end to end, and the front door of the package."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import Mock

import numpy as np
import pytest
from mutate_files import LAYOUTS
from support import scalar
from training.tiny import with_schedules

import c2f_ref
from c2f_ref import RECIPES, Interactions, Model, Recipe, Settings, cli, load_model, method
from c2f_ref.baselines import rank_by_graph_filter, rank_by_popularity
from c2f_ref.cli import check, compare, text_table
from c2f_ref.interactions import (
    load_split,
    planted,
    read_folder,
    read_interactions,
    save_split,
    split_ratio,
    split_third,
)
from c2f_ref.method import settings_for_budget, stored_bytes_bound, total_bytes
from c2f_ref.training import with_overrides

SETTINGS = {"n_coarse": 6, "n_fine": 4, "dim": 5, "n_layers": 2, "fine_per_coarse": 3}
SCHEDULE = {"both.max_epochs": 6, "both.batch": 256, "fine.lr": 0.05}
TINY = ["--hold-out", "--recipe", "published", "--implementation", "method"]
TINY_SETS = [f"{name}={value}" for name, value in (SETTINGS | SCHEDULE).items()]
TINY += [f"--set={setting}" for setting in TINY_SETS]
ONCE = [*TINY, "--set", "both.max_epochs=1"]
HOME = Path(c2f_ref.__file__).parents[1]
COMMANDS = ["demo", "train", "evaluate", "recommend", "similar", "memory", "plot"]
COMMANDS += ["conformance", "vectors", "doctor"]


class Outcome(NamedTuple):
    """What a command leaves behind."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """The one JSON object of stdout."""
        assert self.code in (0, 1)
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
            code = int(stop.code or 0)
    return Outcome(code, out.getvalue(), err.getvalue())


def process(*arguments: object, **options: Any) -> Outcome:
    """A Python of its own, in which a warning is an error."""
    command = [sys.executable, "-W", "error", *map(str, arguments)]
    options = {"stdout": subprocess.PIPE, "cwd": HOME} | options
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False, **options)
    return Outcome(done.returncode, done.stdout or "", done.stderr)


def refused(code: int, *arguments: object) -> str:
    """What a command says that ends with this code and prints no result."""
    done = run(*arguments)
    assert (done.code, done.out) == (code, "")
    return done.err


class Files(NamedTuple):
    """The same planted pairs as a file with raw ids and as a folder, and a model of each."""

    csv: Path
    folder: Path
    csv_model: Path
    folder_model: Path
    trained: Outcome


@pytest.fixture(scope="module", autouse=True)
def _nothing_is_slow() -> Iterator[None]:
    """Whether a step takes longer than a second depends on the machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("c2f_ref.runtime.SLOW_SECONDS", 600.0)
        yield


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """30 users with 12 pairs each, 40 items."""
    home = tmp_path_factory.mktemp("cli")
    groups = {"n_groups": 2, "subgroups_per_group": 2, "pairs_per_user": 12}
    pairs = planted(n_users=30, n_items=40, **groups, rng=np.random.default_rng(0))
    csv, folder = home / "pairs.csv", home / "folder"
    raw = zip(pairs.user_ids[pairs.users], pairs.item_ids[pairs.items], strict=True)
    csv.write_text("user,item\n" + "".join(f"{user},{item}\n" for user, item in raw))
    split = split_ratio(pairs, valid=0.0, test=0.4, seed=0)
    write_folder(folder, split.train, split.test)
    trained = run("train", csv, "--out", home / "csv.npz", *TINY, "--seed", 3)
    assert run("train", folder, "--out", home / "folder.npz", *TINY).code == trained.code == 0
    return Files(csv, folder, home / "csv.npz", home / "folder.npz", trained)


def write_folder(folder: Path, train: Interactions, test: Interactions) -> None:
    folder.mkdir()
    for name, part in (("train.txt", train), ("test.txt", test)):
        rows = ([user, *part.items[part.users == user]] for user in range(part.n_users))
        (folder / name).write_text("".join(f"{' '.join(map(str, row))}\n" for row in rows))


# train


PLACES = "0, step 0", "5, step 30"


def test_train_prints_quality_and_what_is_stored_and_shows_progress_on_stderr(files: Files) -> None:
    model, split = load_model(files.csv_model), split_ratio(read_interactions(files.csv), seed=0)
    rows = compare(model, split.test.matrix(), [10, 20], ops=method)
    assert files.trained.out == (
        f"{text_table(rows, '.4f')}\n{files.csv_model}: {model.describe_stored()}\n"
    )
    read, described, *lines = files.trained.err.splitlines()
    assert read == "360 lines of pairs.csv read: 360 pairs of 30 users and 40 items"
    assert described == f"{split.describe()}; method computes"
    assert [line.split(": NDCG@5 0.")[0] for line in lines] == [
        *(f"{stage} phase 1, epoch {at}" for stage in ("coarse", "fine") for at in PLACES),
        "no evaluation of the coarse stage was better than its start, untrained",
    ]


def test_the_model_that_is_written_has_all_pairs_of_the_data_and_recommends_none_of_them(
    files: Files, tmp_path: Path
) -> None:
    """With --hold-out its graph has the training pairs; everything else is the same."""
    given = [word for word in TINY if word != "--hold-out"]
    done = run("train", files.csv, "--out", tmp_path / "m", *given, "--seed", 3)
    lines = done.out.splitlines()[:-3]
    assert lines == files.trained.out.splitlines()[:-3]
    model, judged, pairs = (
        *map(load_model, (tmp_path / "m", files.csv_model)),
        read_interactions(files.csv),
    )
    assert (model.seen != pairs.matrix()).nnz == 0
    assert (judged.seen != split_ratio(pairs, seed=0).train.matrix()).nnz == 0
    different = {name for name in model.arrays if not same(model.arrays[name], judged.arrays[name])}
    assert different == {"graph.columns", "graph.starts"}
    lists = run("recommend", tmp_path / "m", *model.user_ids, "-k", 40, "--json").json()
    for user, entries in lists.items():
        place = pairs.user_index(user)
        own = set(pairs.item_ids[pairs.items[pairs.users == place]])
        assert {entry["item"] for entry in entries} == set(pairs.item_ids) - own
    said = refused(3, "evaluate", tmp_path / "m", files.csv)
    assert "the model has seen 60 of the 60 test pairs it would be judged by" in said
    assert "train --hold-out" in said
    assert "without those that they have" in run("recommend", "--help").out


def same(one: Any, other: Any) -> bool:
    return one.dtype == other.dtype and np.array_equal(one, other)


def test_a_trained_model_is_that_of_the_library_call_and_knows_its_origin(
    files: Files, tmp_path: Path
) -> None:
    """Training again gives the same bytes, whatever the threads, with a checkpoint or without."""
    model, split = load_model(files.csv_model), split_ratio(read_interactions(files.csv), seed=0)
    origin = {"seed": "3", "split": split.describe()}
    origin |= {"implementation": "method", "partition": "partition"}
    assert origin.items() <= model.provenance.items()
    assert model.settings == Settings(**SETTINGS)
    assert model.user_ids.tolist() == sorted(f"u{user}" for user in range(30))
    published = RECIPES["published"].coarse, RECIPES["published"].fine
    coarse, fine = (replace(stage, max_epochs=6, batch=256) for stage in published)
    recipe = Recipe(coarse=coarse, fine=replace(fine, lr=0.05))
    assert model.provenance["recipe"] == str(recipe)
    coarse, fine = c2f_ref.train(split, model.settings, recipe, seed=3, ops=method)
    assert fine.chosen.ndcg >= coarse.chosen.ndcg
    expected = c2f_ref.to_model(split, model.settings, coarse.chosen, fine.chosen)
    for name in ("coarse", "fine", "bias"):
        assert np.array_equal(getattr(model, name), getattr(expected, name))
    assert (model.coarse_assignment != expected.coarse_assignment).nnz == 0
    for more in ([], ["--threads", 1, "--checkpoint", tmp_path / "kept"]):
        again = run("train", files.csv, "--out", tmp_path / "m", *TINY, "--seed", 3, *more)
        assert again.code == 0
        assert (tmp_path / "m").read_bytes() == files.csv_model.read_bytes()


def test_a_split_is_drawn_from_a_seed_or_read_from_a_file(files: Files, tmp_path: Path) -> None:
    out = tmp_path / "m"
    assert run("train", files.csv, "--out", out, *ONCE, "--split-seed", 7).code == 0
    split = split_ratio(read_interactions(files.csv), seed=7)
    assert (load_model(out).seen != split.train.matrix()).nnz == 0
    train, test = read_folder(files.folder)
    save_split(tmp_path / "mine.npz", split_third(train, test, seed=9))
    saved = ["--split", tmp_path / "mine.npz"]
    assert run("train", files.folder, "--out", out, *ONCE, *saved).code == 0
    expected = load_split(tmp_path / "mine.npz", train).describe()
    assert "file mine.npz" in expected
    assert load_model(out).provenance["split"] == expected


def test_without_fine_rows_the_coarse_stage_is_trained_alone(files: Files, tmp_path: Path) -> None:
    done = run("train", files.csv, "--out", tmp_path / "m", *ONCE, "--set", "n_fine=0")
    assert done.code == 0
    assert "coarse phase 1" in done.err
    assert "fine" not in done.err
    assert load_model(tmp_path / "m").fine is None


@pytest.mark.parametrize(
    ("tables", "values"), [("float16", "float32"), ("float32", "float32"), ("float64", "float64")]
)
def test_numbers_are_stored_in_the_type_that_is_asked_for(
    files: Files, tmp_path: Path, tables: str, values: str
) -> None:
    """The method trains in float64, and stores that by default."""
    stored = [] if tables == "float64" else ["--store", tables]
    given = ["train", files.csv, "--out", tmp_path / "m", *TINY, "--seed", 3]
    assert run(*given, *stored).code == 0
    model = load_model(tmp_path / "m")
    assert model.fine is not None
    assert {model.coarse.dtype, model.fine.dtype} == {np.dtype(tables)}
    others = (model.bias, model.coarse_assignment, model.fine_assignment)
    assert {array.dtype for array in others} == {np.dtype(values)}


@pytest.mark.numba
def test_the_compiled_implementation_trains_unless_another_is_asked_for(
    files: Files, tmp_path: Path
) -> None:
    done = run("train", files.csv, "--out", tmp_path / "m", *ONCE, "--implementation", "fast")
    default = [word for word in ONCE if word not in ("--implementation", "method")]
    assert run("train", files.csv, "--out", tmp_path / "default", *default).code == done.code == 0
    assert (tmp_path / "m").read_bytes() == (tmp_path / "default").read_bytes()
    model = load_model(tmp_path / "m")
    assert (model.provenance["implementation"], model.coarse.dtype) == ("fast", np.float32)


def test_any_module_with_the_names_of_the_contract_trains(files: Files, tmp_path: Path) -> None:
    """Here it is the method, which says when it steps: for two tables, in 5 epochs of 6 steps."""
    mine = tmp_path / "mine.py"
    mine.write_text(
        "from c2f_ref.method import *\n"
        "from c2f_ref import method\n"
        "def adam_step(*given):\n"
        "    print('step')\n"
        "    return method.adam_step(*given)\n"
    )
    out = tmp_path / "m"
    done = run("train", files.csv, "--out", out, *TINY, "--implementation", mine, "--seed", 3)
    assert done.code == 0
    assert "mine" in load_model(out).provenance["implementation"]
    assert done.out.count("step\n") == 2 * 30 * 2  # in both stages
    mine.write_text("def clip(grad, limit):\n    return grad\n")
    words = refused(2, "train", files.csv, "--out", out, *TINY, "--implementation", mine)
    assert "adam_step" in words


def test_partitions_can_come_from_metis_where_it_is_installed(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = ["train", files.csv, "--out", tmp_path / "m", *ONCE, "--partition", "metis"]
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "pymetis", None)
        assert 'pip install "c2f-ref[metis]"' in refused(2, *given)
    pytest.importorskip("pymetis")
    assert run(*given).code == 0
    assert load_model(tmp_path / "m").provenance["partition"] == "metis_partition"


@pytest.mark.parametrize(
    ("content", "options"),
    [
        (
            "wér;was;note;zeit\n{}",
            {"user_column": "wér", "item_column": "was", "rating_column": "note"}
            | {"timestamp_column": "zeit", "split_by": "time", "shares": (0.6, 0.2, 0.2)},
        ),
        ("{}", {"header": False, "split_by": "leave-one-out"}),
    ],
)
def test_options_that_read_a_file_are_those_of_python(
    files: Files, tmp_path: Path, content: str, options: dict[str, Any]
) -> None:
    """Without rows that are rated 1, in an encoding and with a separator of their own."""
    raw = [line.split(",") for line in files.csv.read_text().split()[1:]]
    rows = "".join(f"{user};{item};{n % 5 + 1};{n}\n" for n, (user, item) in enumerate(raw))
    odd, out = tmp_path / "odd.csv", tmp_path / "m"
    odd.write_text(content.format(rows), encoding="latin-1")
    options |= {"format": "csv", "separator": ";", "encoding": "latin-1", "least_rating": 2.0}
    words: list[Any] = []
    for name, value in options.items():
        values = [] if value is False else value if isinstance(value, tuple) else [value]
        word = "no-header" if name == "header" else name.replace("_", "-")
        words += [f"--{word}", *values]
    done = run("train", odd, "--out", out, *ONCE, *words)
    split = c2f_ref.read_split(odd, **options)
    assert (done.code, load_model(out).provenance["split"]) == (0, split.describe())
    assert "dropped: 72 rated below 2" in done.err
    judged = run("evaluate", out, odd, *words, "--json").json()
    assert judged["split"] == split.describe()


def test_help_of_train_lists_what_set_takes() -> None:
    text = run("train", "--help").out
    of_model, of_start, of_stages = re.split("of how it starts:|of a stage, with coarse.", text)[:3]
    stage_words = set(of_stages.partition("\n\n")[0].split())
    assert vars(Settings()).keys() <= set(of_model.split())
    assert set(of_start.split()) == vars(Recipe()).keys() - {"coarse", "fine"}
    assert vars(Recipe().coarse).keys() <= stage_words


def test_the_same_training_writes_the_same_file_from_either_door(
    files: Files, tmp_path: Path
) -> None:
    """All pairs but a tenth of each user's train; then all join the graph."""
    given = [word for word in TINY if word != "--hold-out"]
    given += ["--shares", 0.9, 0.1, 0, "--split-seed", 3, "--seed", 3, "--store", "float32"]
    done = run("train", files.csv, "--out", tmp_path / "m", *given)
    assert (done.code, "ndcg" in done.out) == (0, False)  # there are no test pairs
    _, recipe = with_overrides(Settings(), RECIPES["published"], TINY_SETS)
    how = SETTINGS | {"recipe": recipe, "implementation": "method", "random_state": 3}
    made = c2f_ref.C2FRecommender(**how).fit(read_interactions(files.csv))
    made.save(tmp_path / "mine")
    float64 = [word for word in given if word not in ("--store", "float32")]
    assert run("train", files.csv, "--out", tmp_path / "m64", *float64).code == 0
    assert (tmp_path / "mine").read_bytes() == (tmp_path / "m64").read_bytes()
    made.model_ = made.model_.with_tables("float32", "float32")
    made.save(tmp_path / "mine")
    assert (tmp_path / "mine").read_bytes() == (tmp_path / "m").read_bytes()


# stop and go on


def test_a_run_that_was_stopped_goes_on_to_the_same_model(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped as by Ctrl-C or SIGTERM in the fine stage, after its first evaluation."""

    def interrupt(_: object, progress: c2f_ref.training.Progress) -> None:
        if progress.stage == "fine" and progress.state.n_steps == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    kept, out = tmp_path / "kept", tmp_path / "m"
    given = ["train", files.csv, "--out", out, *TINY, "--checkpoint", kept]
    with monkeypatch.context() as patch:
        patch.setattr("c2f_ref.runtime.ProgressLine.__call__", interrupt)
        handler = Mock()
        before = signal.signal(signal.SIGTERM, handler)
        done = run(*given, "--seed", 3)
        assert signal.signal(signal.SIGTERM, before) is handler
    assert (done.code, done.out) == (130, "")
    assert f"interrupted; the same command with --resume goes on from {kept}" in done.err
    assert not out.exists()
    assert "resume it or give another folder" in refused(3, *given, "--seed", 3)
    assert "seed must be 4, got 3" in refused(3, *given, "--seed", 4, "--resume")
    assert run(*given, "--seed", 3, "--resume").code == 0
    assert out.read_bytes() == files.csv_model.read_bytes()


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("library", ["numpy", "scipy.sparse"])
def test_a_stop_while_libraries_are_imported_is_as_quiet_as_later(name: str, library: str) -> None:
    stop = (
        f"import os, signal, sys\n"
        f"signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # it may be ignored
        f"class Stop:\n"
        f"    def find_spec(name, *_):\n"
        f"        name == {library!r} and os.kill(os.getpid(), signal.{name})\n"
        f"sys.meta_path.insert(0, Stop)\n"
        f"sys.argv = ['c2f-ref', 'doctor']\n"
        f"import c2f_ref.__main__"
    )
    assert process("-c", stop) == Outcome(130, "", "\nc2f-ref: interrupted\n")


# evaluate


def metrics_by_definition(model: Model, test: Interactions, ks: list[int]) -> dict[str, float]:
    """Means over users with a test item, by scalar loops from the model's embeddings."""
    entities, bias = c2f_ref.embed_model(model, ops=method), model.bias
    figures: dict[str, list[float]] = {}
    for user in sorted(set(test.users.tolist())):
        held_out = set(test.items[test.users == user].tolist())
        scores = [float(entities[user] @ entities[30 + i] + bias[30 + i]) for i in range(40)]
        ranked = scalar.rank(scores, set(model.seen[[user]].indices.tolist()), 40)
        for k in ks:
            figures.setdefault(f"ndcg@{k}", []).append(scalar.ndcg(ranked, held_out, k))
            figures.setdefault(f"recall@{k}", []).append(scalar.recall(ranked, held_out, k))
    return {name: float(np.mean(values)) for name, values in figures.items()}


ENDS = ", 95 % from", ", 95 % to"


def test_evaluate_gives_metrics_of_the_test_pairs_next_to_what_learns_nothing(files: Files) -> None:
    split = split_third(*read_folder(files.folder), seed=0)
    model = load_model(files.folder_model)
    given = ["evaluate", files.folder_model, files.folder, "--k", 3, 7]
    result = run(*given, "--json").json()
    assert result["split"] == result["trained_on"] == split.describe()
    rows = result["metrics"]
    names = ("model", "popularity", "graph filter")
    assert list(rows) == [f"{name}{end}" for name in names for end in ("", *ENDS)]
    ranked, _ = rank_by_popularity(np.arange(30), model.seen, 7)
    assert rows["popularity"] == method.mean_metrics(ranked, split.test.matrix(), (3, 7))
    assert rows["model"] == pytest.approx(metrics_by_definition(model, split.test, [3, 7]))
    ranked, _ = rank_by_graph_filter(np.arange(30), model.seen, 7)
    assert rows["graph filter"] == method.mean_metrics(ranked, split.test.matrix(), (3, 7))
    for name in names:
        low, high = (rows[f"{name}{end}"] for end in ENDS)
        assert all(low[metric] < value < high[metric] for metric, value in rows[name].items())

    metrics = run("evaluate", files.csv_model, files.csv, "--json").json()["metrics"]["model"]
    assert list(metrics) == [f"{name}@{k}" for name in ("ndcg", "recall") for k in (5, 10, 20, 50)]
    assert metrics["recall@50"] == 1.0  # of 40 items
    described, head, *lines = run(*given).out.splitlines()
    assert described == split.describe()
    assert head.split() == ["ndcg@3", "ndcg@7", "recall@3", "recall@7"]
    for line, (name, row) in zip(lines, rows.items(), strict=True):
        assert line.split() == [*name.split(), *(f"{row[m]:.4f}" for m in head.split())]


def test_evaluate_names_the_split_of_training_where_it_is_another(files: Files) -> None:
    """Another third of the same test pairs has no training pair, but pairs that chose the model."""
    done = run("evaluate", files.folder_model, files.folder, "--split-seed", 1)
    assert done.code == 0
    trained_on = split_third(*read_folder(files.folder), seed=0).describe()
    assert done.err.endswith(f"note: the model was trained on another split: {trained_on}\n")


def test_evaluate_refuses_other_data_and_test_pairs_that_were_trained_on(
    files: Files, tmp_path: Path
) -> None:
    said = refused(3, "evaluate", files.csv_model, files.csv, "--split-seed", 1)
    assert re.search("the model has seen [0-9]+ of the 60 test pairs it would be judged by", said)
    text = files.csv.read_text()
    other = tmp_path / "other.csv"
    for content, words in (
        (re.sub("(?m)^u29,.*\n", "", text), "user_ids must be the model's, got 'u3' where it has"),
        (text.replace("u5,", "zz,"), "got 'u6' where it has 'u5'"),
        (text + "u5,zz\n", "item_ids must be the model's, got 'zz' where it has 'nothing'"),
    ):
        other.write_text(content)
        assert words in refused(3, "evaluate", files.csv_model, other)


def test_evaluate_takes_a_file_of_pairs_as_test(files: Files, tmp_path: Path) -> None:
    """Pairs of training, of unknown users and of unknown items are refused, or dropped."""
    model, test = load_model(files.csv_model), tmp_path / "later.csv"
    split = split_ratio(read_interactions(files.csv), seed=0)
    ids = split.test.user_ids[split.test.users], split.test.item_ids[split.test.items]
    known = [f"{user},{item}\n" for user, item in zip(*ids, strict=True)]
    test.write_text("user,item\n" + "".join(known))
    given = ["evaluate", files.csv_model, "--test", test, "--k", 3, "--json"]
    result = run(*given).json()
    assert result["metrics"]["model"] == pytest.approx(
        metrics_by_definition(model, split.test, [3])
    )
    whole = run("evaluate", files.csv_model, files.csv, "--k", 3, "--json").json()
    assert result["metrics"] == whole["metrics"]
    own = (
        f"{split.train.user_ids[split.train.users[0]]},{split.train.item_ids[split.train.items[0]]}"
    )
    for line, words in (("zz,i1", "'zz'"), ("u1,zz", "'zz'"), (own, "both have user and item")):
        test.write_text("user,item\n" + "".join([line + "\n", *known]))
        said = refused(3, *given)
        assert words in said
        assert "--unknown drop" in said
        dropped = run(*given, "--unknown", "drop").json()
        assert dropped["metrics"] == result["metrics"]
        assert "dropped: 1 of " in dropped["split"]


# recommend and similar


def nearest(scores: Any, left_out: set[int], item_ids: Any, k: int) -> list[Any]:
    order = np.argsort(-scores, kind="stable").tolist()
    return [item_ids[item].item() for item in order if item not in left_out][:k]


def test_recommend_takes_and_gives_raw_ids(files: Files) -> None:
    """The list of all that is left: 40 items, 9 of them seen. Ids that are numbers stay numbers."""
    model = load_model(files.csv_model)
    entities = c2f_ref.embed_model(model, ops=method)
    result = run("recommend", files.csv_model, "u17", "u2", "-k", 99, "--json").json()
    assert list(result) == ["u17", "u2"]
    for raw, entries in result.items():
        user = model.user_ids.tolist().index(raw)
        scores, seen = entities[30:] @ entities[user] + model.bias[30:], model.seen[[user]].indices
        assert [e["item"] for e in entries] == nearest(scores, set(seen), model.item_ids, 31)
        unseen = np.sort(np.delete(scores, seen))[::-1]
        assert [e["score"] for e in entries] == pytest.approx(unseen, rel=1e-5, abs=1e-5)
    listed = [f"{e['item']} ({e['score']:.3f})" for e in result["u17"]]
    line = f"u17: {'  '.join(listed[:3])}\n"
    assert run("recommend", files.csv_model, "u17", "u17", "-k", 3).out == line
    entries = run("recommend", files.folder_model, 4, "--json").json()["4"]
    assert [type(e["item"]) for e in entries] == 10 * [int]


def test_ids_come_from_a_file_too_and_may_begin_with_a_hyphen(files: Files, tmp_path: Path) -> None:
    """As ids of published data sets do. What looks like an option of the command follows `--`."""
    names = {"u1": "-x", "u2": "--9e1ON", "u3": "-5", "u4": "-k3", "i8": "-B00"}
    text = re.sub("[ui][0-9]+", lambda found: names.get(found[0], found[0]), files.csv.read_text())
    data, model, listed = (tmp_path / name for name in ("odd.csv", "m", "ids.txt"))
    data.write_text(text)
    assert run("train", data, "--out", model, *ONCE).code == 0
    asked = ["recommend", model, "-x", "u9", "--9e1ON", "-5", "--json"]
    assert list(run(*asked).json()) == ["-x", "u9", "--9e1ON", "-5"]
    assert list(run("similar", model, "-B00", "-k", 2, "--json").json()) == ["-B00"]
    assert list(run("recommend", model, "--json", "--", "-k3", "-x").json()) == ["-k3", "-x"]
    listed.write_text("-k3\n\n  -x\nu7\n", encoding="utf-8-sig")
    given = ["recommend", model, "u9", "--ids", listed, "--json"]
    assert list(run(*given).json()) == ["u9", "-k3", "-x", "u7"]
    assert "-not-there" in refused(3, "recommend", model, "-not-there")
    listed.write_bytes(b"u\xe97\n")
    assert "is not among the 30 users" in refused(3, *given)


def test_users_who_have_nothing_get_what_is_popular_and_whole_ids_are_written_as_such(
    files: Files, tmp_path: Path
) -> None:
    """User 30 has test pairs alone; `030` is nobody."""
    shutil.copytree(files.folder, tmp_path / "data")
    with (tmp_path / "data" / "test.txt").open("a") as file:
        file.write("30 1 2 3\n")
    assert run("train", tmp_path / "data", "--out", tmp_path / "m", *ONCE).code == 0
    model = load_model(tmp_path / "m")
    counts = np.bincount(model.seen.indices, minlength=40).tolist()
    best = sorted(range(40), key=lambda item: -counts[item])[:3]
    result = run("recommend", tmp_path / "m", 30, 4, "-k", 3, "--json").json()
    expected = [{"item": item, "score": counts[item], "by": "popularity"} for item in best]
    assert result["30"] == expected
    assert not any("by" in entry for entry in result["4"])
    line = "  ".join(f"{item} ({counts[item]})" for item in best)
    printed = run("recommend", tmp_path / "m", 30, "-k", 3).out
    assert printed == f"30 has nothing, the most popular: {line}\n"
    for command in ("recommend", "similar"):
        assert "'030'" in refused(3, command, tmp_path / "m", "030")
        assert "99999999999999999999" in refused(3, command, tmp_path / "m", "9" * 20)


NAMES = {
    "movies.csv": 'movieId,title,genres\ni8,"Toy, the (1995)",Comedy\ni3,Heat,\n',
    "u.item": "i8|Toy, the (1995)|01-Jan-1995||http://x/title-exact?y|0\ni3|Heat|1||z|1\n",
    "movies.dat": "i8::Toy, the (1995)::A|B|C|D\ni3::Heat::A\n",
    "x.item": "item_id:token\tmovie_title:token_seq\ni8\tToy, the (1995)\ni3\tHeat\n",
    "artists.dat": "id\tname\turl\ni8\tToy, the (1995)\thttp\ni3\tHeat\thttp\n",
    "books.csv": '"ISBN";"Author";"Book-Title"\n"i8";"é";"Toy, the (1995)"\n"i3";"";"Heat"\n',
}


@pytest.mark.parametrize("name", NAMES)
def test_titles_come_from_the_files_of_published_data_sets(
    files: Files, tmp_path: Path, name: str
) -> None:
    path = tmp_path / name
    path.write_bytes(NAMES[name].encode("latin-1"))
    titles = {"i8": "Toy, the (1995)", "i3": "Heat"}
    given = [files.csv_model, "-k", 40, "--names", path]
    for command, asked in (("recommend", "u17"), ("similar", "i1")):
        (entries,) = run(command, *given, asked, "--json").json().values()
        found = {entry["item"]: entry["title"] for entry in entries if "title" in entry}
        listed = {entry["item"] for entry in entries}
        assert found == {item: title for item, title in titles.items() if item in listed}
    assert "i8 Toy, the (1995) (" in run("similar", *given, "i1").out
    for content in (b"", NAMES[name].replace("i8", "8").replace("i3", "3").encode("latin-1")):
        path.write_bytes(content)
        said = refused(3, "recommend", *given, "u1")
        assert f"{name}, line 1: expected ids of items in column 1" in said
    path.write_bytes(b'a,b\ni8,"' + 200_000 * b"x")
    assert f"{name}: field larger than" in refused(3, "recommend", *given, "u1")


@pytest.mark.parametrize("name", [name for name in LAYOUTS if name != "LightGCN"])
def test_every_layout_is_trained_on_judged_and_served(name: str, tmp_path: Path) -> None:
    """With 12 users of 10 pairs each; LightGCN folders are in the tests above."""
    layout = LAYOUTS[name]
    pairs = [(u, (7 * u + 3 * n) % 40, n) for u in range(12) for n in range(10)]
    lines = [layout.line.format(u=u, i=i, r=n % 5 + 1, t=880_000_000 + n) for u, i, n in pairs]
    content = "\n".join([layout.header] * bool(layout.header) + lines).encode(layout.encoding)
    data, model = tmp_path / layout.name, tmp_path / "model"
    data.write_bytes(gzip.compress(content) if data.suffix == ".gz" else content)
    words = {"header": ["--no-header"], "encoding": ["--encoding", layout.encoding]}
    how = [word for option in layout.options for word in words[option]]
    done = run("train", data, "--out", model, *ONCE, *how)
    assert (done.code, f"120 lines of {layout.name} read: 120 pairs" in done.err) == (0, True)
    metrics = run("evaluate", model, data, *how, "--k", 5, "--json").json()["metrics"]
    assert 0 <= metrics["model"]["ndcg@5"] <= 1
    user = load_model(model).user_ids[0]
    assert len(run("recommend", model, user, "-k", 5, "--json").json()[str(user)]) == 5


def test_similar_lists_the_nearest_other_items_by_cosine(files: Files) -> None:
    model = load_model(files.csv_model)
    items = c2f_ref.embed_model(model, ops=method)[30:]
    result = run("similar", files.csv_model, "i8", "i3", "-k", 4, "--json").json()
    assert list(result) == ["i8", "i3"]
    for raw, entries in result.items():
        item = model.item_ids.tolist().index(raw)
        lengths = np.linalg.norm(items, axis=1)
        cosines = items @ items[item] / lengths / lengths[item]
        assert [e["item"] for e in entries] == nearest(cosines, {item}, model.item_ids, 4)
        best = max(entry["score"] for entry in entries)
        assert best == pytest.approx(max(np.delete(cosines, item)))


def test_too_small_a_budget_is_refused_with_the_least_that_is_enough(files: Files) -> None:
    given = ["recommend", files.csv_model, "u1", "--memory-budget"]
    (least,) = re.findall(r"at least ([0-9,]+)", refused(3, *given, "1KiB"))
    budget = int(least.replace(",", ""))
    assert run(*given, budget) == run("recommend", files.csv_model, "u1")


def test_no_control_character_of_an_id_is_printed(files: Files, tmp_path: Path) -> None:
    """What the terminal's encoding does not have is escaped too."""
    text = files.csv.read_text().replace(",i1\n", ",i\x1b[31m1\x85u9: x\n").replace("u1,", "é1,")
    (tmp_path / "odd.csv").write_text(text, encoding="utf-8")
    model = tmp_path / "m"
    assert run("train", tmp_path / "odd.csv", "--out", model, *ONCE).code == 0
    users = [f"u{user}" for user in range(30) if user != 1]
    lines = run("recommend", model, *users, "-k", 40).out.splitlines()
    assert len(lines) == 29
    assert all(line.isprintable() for line in lines)
    assert any(r"i\x1b[31m1\x85u9: x (" in line for line in lines)
    ascii_only = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = process("-m", "c2f_ref", "recommend", model, "é1", "-k", "1", env=ascii_only)
    assert (done.code, done.out[:7], done.err) == (0, r"\xe91: ", "")


# memory


def test_memory_counts_a_model(files: Files) -> None:
    model = load_model(files.csv_model)
    result = run("memory", files.csv_model, "--json").json()
    terms = model.stored_bytes()
    assert result["bytes"] == terms | total_bytes(terms)
    assert result["one_vector_per_entity"] == 70 * 5 * 8
    assert result["settings"] == vars(model.settings)
    head, columns, *lines, note = run("memory", files.csv_model).out.splitlines()
    assert head == "6 coarse and 4 fine rows of dimension 5"
    assert note == "100 % is one vector per entity, 2,800 bytes"
    assert columns.split() == ["bytes", "%"]
    for line, (name, count) in zip(lines, result["bytes"].items(), strict=True):
        assert line.split() == [name, f"{count:,}", str(round(count / 28, 2))]


def test_memory_promises_the_bytes_of_settings_and_finds_them_for_a_budget() -> None:
    sizes = ["--users", 3000, "--items", 5000, "--pairs", 20_000, "--id-bytes", 8]
    given = ["memory", *sizes, "--tables", "float16", "--set", "threshold=inf", "--json"]
    form = {"id_bytes": 8, "n_pairs": 20_000, "dtype": "float32", "table_dtype": "float16"}
    result = run(*given, "--set", "n_coarse=9").json()
    bound = stored_bytes_bound(Settings(n_coarse=9, threshold=np.inf), 3000, 5000, **form)
    assert result["bytes"] == bound | total_bytes(bound)
    assert (result["settings"]["threshold"], result["settings"]["n_coarse"]) == ("inf", 9)
    for text, budget in (("2MiB", 2**21), ("1500 KiB", 1500 * 2**10), ("1000000", 1_000_000)):
        result = run(*given, "--set", "dim=32", "--budget", text).json()
        found = settings_for_budget(budget, 3000, 5000, **form, dim=32, threshold=np.inf)
        assert result["settings"] == vars(found) | {"threshold": "inf"}
        assert result["bytes"]["everything"] <= budget


def test_memory_says_where_a_budget_buys_more_than_one_vector_per_entity() -> None:
    larger = "note: this model is larger than one vector per entity"
    for budget, notes in (("20KiB", []), ("4MiB", [larger])):
        given = ["memory", "--users", 300, "--items", 400, "--budget", budget, "--set", "dim=32"]
        result = run(*given, "--json").json()
        assert result["notes"][1:] == notes
        assert (larger in run(*given).out) == bool(notes)
        is_larger = result["bytes"]["everything"] > result["one_vector_per_entity"] == 700 * 32 * 4
        assert is_larger == bool(notes)


def test_no_option_is_ignored_beside_a_model(files: Files) -> None:
    given = {"users": 3, "items": 0, "pairs": 0, "id-bytes": 8, "dtype": "float32"}
    given |= {"tables": "float16", "budget": "2MiB", "set": "dim=3"}
    for name, value in given.items():
        said = refused(2, "memory", files.csv_model, "--json", f"--{name}", value)
        assert f"a model has its own sizes: leave out --{name}\n" in said


# plot and demo


def test_plot_draws_what_the_files_show(files: Files, tmp_path: Path) -> None:
    kept, out = tmp_path / "kept", tmp_path / "new" / "pictures"
    train = ["train", files.csv, *TINY, "--seed"]
    assert run(*train, 3, "--out", tmp_path / "m", "--checkpoint", kept).code == 0
    done = run("plot", tmp_path / "m", "--out", out, "--checkpoint", kept)
    names = ["bridges", "training"]
    assert (done.code, done.out) == (0, "".join(f"{out / name}.png\n" for name in names))
    assert all((out / f"{n}.png").read_bytes().startswith(b"\x89PNG") for n in names)
    assert run(*train, 4, "--out", tmp_path / "other").code == 0
    for model, folder in ((tmp_path / "other", kept), (tmp_path / "m", tmp_path / "none")):
        said = refused(3, "plot", model, "--out", out, "--checkpoint", folder)
        assert f"{folder}: expected checkpoints of this model's training" in said
    said = refused(3, "plot", files.folder_model, "--out", out, "--checkpoint", kept)
    assert "is of another run: split must be" in said
    assert run(*train, 4, "--out", tmp_path / "coarse", "--set", "n_fine=0").code == 0
    done = run("plot", tmp_path / "coarse", "--out", out)
    assert (done.code, done.out) == (0, "")
    assert "coarse stage has no bridges" in done.err


def test_demo_runs_the_other_commands_and_prints_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In miniature: what its figures are is another test's matter."""
    short = with_schedules(RECIPES["demo"], max_epochs=6, n_negatives=1)
    monkeypatch.setitem(RECIPES, "demo", short)
    out = tmp_path / "new folder"
    done = run("demo", "--out", out, "--seed", 1)
    assert done.code == 0
    commands = re.findall(r"(?m)^\$ c2f-ref (\w+)", done.out)
    assert commands == ["train", "evaluate", "recommend", "similar", "memory", "plot"]
    model = load_model(out / "model.npz")
    assert model.settings == c2f_ref.training.DEMO_SETTINGS
    assert f"$ c2f-ref memory '{out}/model.npz'\n{run('memory', out / 'model.npz').out}" in done.out
    pairs, again = planted(rng=np.random.default_rng(1)), read_interactions(out / "pairs.csv")
    assert (again.n_pairs, again.n_users) == (pairs.n_pairs, pairs.n_users)
    assert {path.suffix for path in out.iterdir()} - {".png"} == {".csv", ".npz"}
    assert "fine phase 1, epoch 5" in done.err


@pytest.mark.numba
@pytest.mark.parametrize("seed", range(2))
def test_on_the_data_of_the_demo_each_stage_beats_what_came_before(seed: int) -> None:
    """By NDCG@10 on the test pairs, whatever the seed; with less patience than the demo has."""
    pairs = planted(rng=np.random.default_rng(seed))
    split = split_ratio(pairs, valid=0.2, test=0.3, seed=seed)
    recipe = with_schedules(RECIPES["demo"], patience=1, n_negatives=2)
    settings = c2f_ref.training.DEMO_SETTINGS
    coarse, fine = c2f_ref.train(split, settings, recipe, seed=seed)
    seen, test = split.train.matrix(), split.test.matrix()
    popular, _ = rank_by_popularity(np.arange(600), seen, 10)
    figures = [method.mean_metrics(popular, test, (10,))["ndcg@10"]]
    for chosen in (None, fine.chosen):
        model = c2f_ref.to_model(split, settings, coarse.chosen, chosen)
        figures.append(c2f_ref.evaluate_model(model, test, (10,))["ndcg@10"])
    assert figures == sorted(set(figures))


# conformance, vectors, doctor


def test_conformance_passes_a_right_module_and_prints_each_operation() -> None:
    given = ["conformance", "c2f_ref.method", "--only", "clip", "bridge", "--skip", "bridge"]
    done = run(*given, "--dtype", "float32")
    assert (done.code, done.err) == (0, "")
    line, last = done.out.splitlines()
    assert line.startswith("clip ")
    assert last.startswith("c2f_ref.method: ")
    assert run(*given, "--json").json()["passed"] is True


def test_conformance_gives_1_for_what_is_wrong(tmp_path: Path) -> None:
    wrong = "from c2f_ref.method import *\n\ndef clip(grad, limit):\n    return 1.01 * grad\n"
    (tmp_path / "mine.py").write_text(wrong)
    done = run("conformance", tmp_path / "mine.py", "--only", "clip", "compose", "--json")
    assert (done.code, done.json()["passed"]) == (1, False)
    wrong = [r["operation"] for r in done.json()["results"] if r["verdict"] != "pass"]
    assert wrong == ["clip"]
    (tmp_path / "program.py").write_text("import sys\nsys.exit(4)\n")
    command = f"{sys.executable} {tmp_path / 'program.py'} {{in}} {{out}}"
    done = run("conformance", "--command", command, "--only", "clip")
    assert (done.code, "clip" in done.out) == (1, True)


def test_a_module_of_the_current_folder_is_found(tmp_path: Path) -> None:
    """As with `python -m`, though the script `c2f-ref` lies elsewhere."""
    (tmp_path / "of_this_folder.py").write_text("from c2f_ref.method import *\n")
    start = f"import sys; sys.path = {[*sys.path, str(HOME)]!r}; from c2f_ref.cli import main; "
    call = "sys.exit(main(['conformance', 'of_this_folder', '--only', 'clip']))"
    assert process("-c", start + call, cwd=tmp_path).code == 0


def test_vectors_are_written_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("c2f_ref.conformance.run.write_vectors", lambda folder: len(folder.name))
    answers = tmp_path / "answers"
    assert run("vectors", answers) == Outcome(0, f"{answers}: 7 cases\n", "")


@pytest.mark.numba
def test_doctor_says_whether_compiled_code_gives_the_bits_of_the_method(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from c2f_ref import fast

    found = run("doctor", "--json").json()
    assert found["kernel"].startswith("gives the bits of the method, on at most ")
    assert found["numpy"] == np.__version__
    lines = run("doctor").out.splitlines()
    assert {f"{name}: {value}" for name, value in found.items()} <= set(lines)
    for broken in (lambda *_: np.ones((2, 4)), lambda *_: 1 / 0):
        with monkeypatch.context() as patch:
            patch.setattr(fast.plan.Matrix, "__matmul__", broken)
            done = run("doctor")
        assert (done.code, "kernel: fails: " in done.out) == (1, True)


def test_doctor_names_what_is_not_installed_and_the_settings_of_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(check, "LIBRARIES", ("numpy", "no-such-library"))
    monkeypatch.setattr(check, "_kernel", lambda: "not tried")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    found = run("doctor", "--json").json()
    assert found["no-such-library"] == "no-such-library is not installed"
    assert found["OMP_NUM_THREADS"] == "3"


# wrong usage is 2, a bad file 3


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("", "required: COMMAND"),
        ("frobnicate", "invalid choice: 'frobnicate'"),
        ("train {csv}", "required: --out"),
        ("train {csv} --out m --recipe fast", "invalid choice: 'fast'"),
        ("train {csv} --out m --split f --split-seed 1", "not allowed with"),
        ("train {csv} --out m --set dims=3", "'dims' is not a setting: did you mean dim"),
        ("train {csv} --out m --set dim", "name=value"),
        ("train {csv} --out m --set dim=-3", "dim must be"),
        ("train {csv} --out m --set fine.batch=true", "batch must be"),
        ("train {csv} --out m", "n_coarse must be at most the number of users and items, 70"),
        ("train {csv} --out m --seed -1", "argument --seed: expected a whole number from 0"),
        ("train {csv} --out m --split-seed -1", "expected a whole number from 0, got '-1'"),
        ("train {csv} --out m --threads 0", "expected a whole number from 1, got '0'"),
        ("train {csv} --out m --implementation no_such_module", "no_such_module"),
        ("train {csv} --out {csv}", "training reads or keeps"),
        ("train {csv} --out m --split m", "training reads or keeps m"),
        ("train {folder} --out {folder}/test.txt", "training reads or keeps"),
        ("train {csv} --out {home}/fine.npz --checkpoint {home}", "training reads or keeps"),
        ("evaluate {csv_model}", "one of the arguments data --test is required"),
        ("evaluate {csv_model} {csv} --test m", "not allowed with"),
        ("train {csv} --out m --nonsense", "unrecognized arguments: --nonsense"),
        ("evaluate {csv_model} {csv} --k 0", "expected a whole number from 1, got '0'"),
        ("recommend {csv_model}", "give one or more ids, or a file of them with --ids"),
        ("recommend {csv_model} u1 -k many", "expected a whole number from 1, got 'many'"),
        ("memory", "memory needs a model, or --users and --items"),
        ("memory --users 3", "memory needs a model, or --users and --items"),
        ("memory --users 300 --items 4 --budget 99", "bytes for the smallest model, got 99"),
        ("memory --users 3 --items 4 --budget 2MB", "expected bytes, KiB, MiB or GiB, got '2MB'"),
        ("memory --users 3 --items 4 --budget 2MiB --set n_coarse=5", "follow from the budget"),
        ("conformance", "one of the arguments module --command is required"),
        ("conformance c2f_ref.method --command x", "not allowed with"),
        ("conformance c2f_ref.method --only no_such_name", "no_such_name"),
        ("conformance --command true", "{in}"),
        ("conformance no_such_module", "no_such_module"),
    ],
)
def test_wrong_usage_is_2(files: Files, tmp_path: Path, command: str, words: str) -> None:
    given = files._asdict() | {"home": tmp_path}
    assert words in refused(2, *(word.format(**given) for word in command.split()))


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("train {csv}.none --out {home}/m", "pairs.csv.none"),
        ("train {csv} --out {home}/m --split {csv}", "pairs.csv: "),
        ("train {csv} --out {home}", "expected a file"),
        ("train {csv} --out {home}/none/m", "none"),
        ("train {bad}.csv --out {home}/m", "bad.csv, line 3: "),
        ("train {bad}.txt --out {home}/m", "bad.txt, line 2: "),
        ("evaluate {csv_model} {bad}.txt", "'x7'"),
        ("train {csv} --out {home}/m --shares 0.5 0.5 0.5", "shares must be three of sum 1"),
        ("evaluate {home}/none {csv}", "none"),
        ("recommend {csv} u1", "pairs.csv: "),
        ("recommend {csv_model} nobody --json", "'nobody'"),
        ("similar {csv_model} nobody --json", "'nobody'"),
        ("similar {csv} i1", "pairs.csv: "),
        ("memory {home}/none", "none"),
        ("vectors {csv}", "pairs.csv"),
    ],
)
def test_an_input_that_cannot_be_used_is_3(
    files: Files, tmp_path: Path, command: str, words: str
) -> None:
    (tmp_path / "bad.csv").write_text("user,item\na,1\nb\n")
    (tmp_path / "bad.txt").write_text("0 1 2\n1 3 x7\n")
    given = files._asdict() | {"home": tmp_path, "bad": tmp_path / "bad"}
    said = refused(3, *(word.format(**given) for word in command.split()))
    assert words in said
    assert "epoch" not in said
    assert not (tmp_path / "m").exists()


def test_too_little_memory_is_3_in_one_line_and_an_unforeseen_error_keeps_its_traceback(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    for error in (MemoryError("Unable to allocate 43.7 TiB"), MemoryError()):
        monkeypatch.setattr(cli.models, "load_model", Mock(side_effect=error))
        said = refused(3, "evaluate", files.csv_model, files.csv)
        assert said == f"c2f-ref: {str(error) or 'not enough memory'}\n"
    monkeypatch.setattr(cli.models, "load_model", lambda _: int("no number"))
    with pytest.raises(ValueError, match="no number"):
        run("evaluate", files.csv_model, files.csv)


def test_every_command_has_help_with_an_example() -> None:
    everything = run("--help")
    assert (everything.code, everything.err) == (0, "")
    for command in COMMANDS:
        done = run(command, "--help")
        assert (done.code, done.err) == (0, "")
        assert f"\nexample: c2f-ref {command} " in done.out
        summary = done.out.split("\n\n")[1].splitlines()[0]
        assert summary.endswith(".")
        assert f"{command} {summary}" in " ".join(everything.out.split())
    assert run("--version") == Outcome(0, f"c2f-ref {c2f_ref.__version__}\n", "")
    assert all(f"{{{name}" in run("train", "--help").out.replace(",", "{") for name in RECIPES)


def test_python_m_is_the_same_command(files: Files) -> None:
    given = ["recommend", files.csv_model, "u5", "--json"]
    assert process("-m", "c2f_ref", *given) == run(*given)
    done = process("-m", "c2f_ref", "recommend", files.csv_model, "nobody")
    assert (done.code, done.out, "nobody" in done.err) == (3, "", True)


def test_neither_a_reader_that_has_enough_nor_a_closed_stdout_is_an_error(files: Files) -> None:
    """As in `c2f-ref recommend ... | head -0`."""
    given = ["-m", "c2f_ref", "recommend", files.csv_model, "u1"]
    reader, writer = os.pipe()
    os.close(reader)
    buffered = {k: value for k, value in os.environ.items() if k != "PYTHONUNBUFFERED"}
    assert process(*given, stdout=writer, env=buffered) == Outcome(141, "", "")
    os.close(writer)
    closed = process(*given, stdout=None, preexec_fn=lambda: os.close(1))
    assert closed == Outcome(0, "", "")


def test_commands_run_outside_the_main_thread(files: Files) -> None:
    given = ["recommend", files.csv_model, "u5"]
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(cli.main, [*map(str, given)]).result() == 0


# NumPy alone, and the front door

BLOCK = (
    "import sys\n"
    "class Block:\n"
    "    def find_spec(name, *_):\n"
    "        if name.split('.')[0] in {blocked!r}:\n"
    "            raise ModuleNotFoundError(f'No module named {{name!r}}', name=name)\n"
    "sys.meta_path.insert(0, Block)\n"
    "from c2f_ref.cli import main\n"
    "sys.exit(main({arguments!r}))"
)
OTHERS = ("scipy", "sklearn", "numba", "matplotlib", "threadpoolctl", "joblib", "llvmlite")


def without(blocked: tuple[str, ...], *arguments: object) -> Outcome:
    """A command where these libraries are not installed."""
    return process("-c", BLOCK.format(blocked=blocked, arguments=[*map(str, arguments)]))


def test_where_numpy_alone_is_installed_the_commands_run_that_need_no_more(
    files: Files, tmp_path: Path
) -> None:
    given = ["recommend", files.csv_model, "u1", "u2"]
    assert without(OTHERS, *given) == run(*given)
    given = ["similar", files.csv_model, "i1", "i2"]
    assert without(OTHERS, *given) == run(*given)
    names, ids = tmp_path / "movies.csv", tmp_path / "ids"
    names.write_text(NAMES["movies.csv"])
    ids.write_text("u1")
    given = ["recommend", files.csv_model, "--ids", ids, "--names", names]
    assert without(OTHERS, *given) == run(*given)
    assert without(OTHERS, "--help").code == without(OTHERS, "--version").code == 0
    doctor = without(OTHERS, "doctor")
    assert (doctor.code, doctor.err) == (0, "")
    assert re.search("kernel: (scipy|numba).* is not installed", doctor.out)


def test_a_missing_library_is_named_with_how_to_install_it(files: Files, tmp_path: Path) -> None:
    for module, package, given in (
        ("scipy", "scipy", ["train", files.csv, "--out", tmp_path / "m"]),
        ("scipy", "scipy", ["evaluate", files.csv_model, files.csv]),
        ("matplotlib", "matplotlib", ["plot", files.csv_model, "--out", tmp_path / "p"]),
        ("sklearn", "scikit-learn", ["train", files.csv, "--out", tmp_path / "m", *ONCE]),
    ):
        done = without((module,), *given)
        assert (done.code, done.out) == (2, "")
        expected = f"c2f-ref: No module named '{module}.*': pip install {package}"
        assert re.fullmatch(expected, done.err.splitlines()[-1])


@pytest.mark.parametrize("imported", ["c2f_ref", "c2f_ref.cli", "c2f_ref.method"])
def test_importing_loads_nothing_heavy(imported: str) -> None:
    """The command line has a word for Ctrl-C before it has NumPy."""
    done = process("-c", f"import sys, {imported}; print(*sys.modules)")
    assert done.code == 0
    names = {name.split(".")[0] for name in done.out.split()}
    assert "c2f_ref" in names
    assert not names & {*OTHERS, "torch", "pymetis"} - {"scipy"}
    assert "numpy" not in names or imported == "c2f_ref.method"


@pytest.mark.parametrize("name", c2f_ref.__all__)
def test_every_name_of_the_front_door_opens_and_no_other(name: str) -> None:
    value = getattr(c2f_ref, name)
    assert getattr(sys.modules[f"c2f_ref.{c2f_ref._PAGE_OF[name]}"], name) is value
    assert name in dir(c2f_ref)

    with pytest.raises(AttributeError, match="module 'c2f_ref' has no attribute 'no_such_name'"):
        c2f_ref.no_such_name  # noqa: B018
    assert not hasattr(c2f_ref, "numpy")


def test_cells_of_a_table_are_right_aligned_under_their_columns() -> None:
    rows = {"popularity": {"ndcg@5": 0.1, "bytes": 7.0}, "b": {"ndcg@5": 0.25, "bytes": 1234.5}}
    assert text_table(rows, ".2f").splitlines() == [
        "            ndcg@5    bytes",
        "popularity    0.10     7.00",
        "b             0.25  1234.50",
    ]
