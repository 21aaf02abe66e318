"""The command `memory`: what it prints are the counts and promises of the library, for a model and for settings."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.models import model_of
from support.strategies import draw_model

from c2f_ref import cli
from c2f_ref.bundle import Model, save_model
from c2f_ref.spec import Settings, stored_bytes_bound, total_bytes


@pytest.fixture(scope="module")
def model() -> Model:
    """5 users, 7 items with ids of 20 and 8 bytes, C = 4, F = 3, D = 6, in float32, tables in float16."""
    return model_of(draw_model((5, 7, 4, 3, 6, 8), np.random.default_rng(1)), dtype=np.float32, table_dtype=np.float16)


@pytest.fixture(scope="module")
def path(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("memory") / "model.npz"
    save_model(path, model)
    return path


def printed(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert cli.main(["memory", *map(str, arguments)]) == 0
    return capsys.readouterr().out


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[Any, str]:
    with pytest.raises(SystemExit) as stop:
        cli.main(["memory", *map(str, arguments)])
    return stop.value.code, capsys.readouterr().err


def cells(out: str) -> dict[str, list[str]]:
    """Rows of the table by their names, without the commas."""
    rows = {}
    for line in out.splitlines()[2:-2]:
        name, *numbers = (part for part in line.replace(",", "").replace("tables alone %", "tables%").split("  ") if part)
        rows[name.strip()] = [number.strip() for number in numbers]
    return rows


def test_a_model_is_counted_beside_its_promise(model: Model, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = printed(capsys, path)
    lines = out.splitlines()
    assert lines[0] == f"5 users, 7 items, {model.seen.nnz} training pairs; 4 coarse and 3 fine rows of 6 dimensions"
    assert lines[1].split() == ["counted", "promised"]
    types = {"dtype": np.float32, "table_dtype": np.float16}
    promised = stored_bytes_bound(model.settings, 5, 7, 20, n_pairs=model.seen.nnz, **types)
    counted, rows = model.stored_bytes(), cells(out)
    for term, count in counted.items():
        assert rows[term] == [str(count), str(promised[term])]
    totals = total_bytes(counted), total_bytes(promised)
    assert rows["tables alone"] == [str(total["tables"]) for total in totals]
    assert rows["everything"] == [str(total["everything"]) for total in totals]
    full = 12 * 6 * 2
    assert rows["tables%"] == [f"{100 * total['tables'] / full:.2f}" for total in totals]
    assert lines[-2] == f"bytes; % of one vector per entity, {full}"
    zeros = 1 - np.count_nonzero(model.fine) / 18
    assert lines[-1] == f"exact zeros in the fine table: {100 * zeros:.2f} %"


def test_json_has_the_same_numbers(model: Model, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = json.loads(printed(capsys, path, "--json"), parse_constant=pytest.fail)
    assert told["counted"] == model.stored_bytes()
    assert told["sparsity"] == 1 - np.count_nonzero(model.fine) / 18
    assert (told["n_users"], told["n_items"], told["n_pairs"]) == (5, 7, model.seen.nnz)
    assert told["settings"]["dim"] == 6


def test_a_model_of_the_coarse_stage_alone_has_no_sparsity(
    model: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_model(tmp_path / "m", replace(model, fine=None, fine_assignment=None))
    out = printed(capsys, tmp_path / "m")
    assert "exact zeros" not in out
    told = json.loads(printed(capsys, tmp_path / "m", "--json"))
    assert told["counted"]["fine"] == 0
    assert "sparsity" not in told


def test_settings_are_promised(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--users", 30, "--items", 50, "--pairs", 300, "--id-bytes", 8, "--set", "n_coarse=9", "--set", "threshold=inf"]
    told = json.loads(printed(capsys, *arguments, "--tables", "float16", "--json"), parse_constant=pytest.fail)
    settings = Settings(n_coarse=9, threshold=float("inf"))
    assert told["promised"] == stored_bytes_bound(settings, 30, 50, 8, n_pairs=300, table_dtype=np.float16)
    assert told["settings"]["threshold"] == "inf"
    assert "counted" not in told
    out = printed(capsys, *arguments)
    assert "counted" not in out
    assert "30 users, 50 items, 300 training pairs; 9 coarse and 100 fine rows of 128 dimensions" in out


@pytest.mark.parametrize(("budget", "n_bytes"), [("2MiB", 2**21), ("1500 KiB", 1500 * 2**10), ("300000", 300_000)])
def test_a_budget_gives_the_largest_model(capsys: pytest.CaptureFixture[str], budget: str, n_bytes: int) -> None:
    given = ["--users", 3000, "--items", 5000, "--pairs", 20_000, "--set", "dim=32", "--budget", budget]
    told = json.loads(printed(capsys, *given, "--json"))
    settings = Settings.for_budget(n_bytes, 3000, 5000, n_pairs=20_000, dim=32)
    assert (told["settings"]["n_coarse"], told["settings"]["n_fine"]) == (settings.n_coarse, settings.n_fine)
    assert total_bytes(told["promised"])["everything"] <= n_bytes


@pytest.mark.parametrize(
    "option",
    ["--users 3", "--items 0", "--pairs 0", "--id-bytes 8", "--dtype float32", "--tables float16", "--budget 2MiB", "--set dim=3"],
)
def test_no_option_is_ignored_beside_a_model(path: Path, option: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, told = refused(capsys, path, "--json", *option.split())
    assert code == 2
    assert f"memory of a MODEL is what it is: leave out {option.split()[0]}, or the MODEL" in told


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([], 2, "memory needs a MODEL, or --users and --items"),
        (["--users", 3], 2, "memory needs a MODEL, or --users and --items"),
        (["--users", -3, "--items", 4], 2, "expected a whole number of at least 0, got -3"),
        (["--users", 300, "--items", 4, "--budget", 99], 2, "budget must be at least .* bytes for the smallest model, got 99"),
        (["--users", 300, "--items", 4, "--budget", "2MB"], 2, "expected bytes, or a whole number of KiB, MiB or GiB, got '2MB'"),
        (["--users", 3, "--items", 4, "--budget", "2MiB", "--set", "n_coarse=5"], 2, "n_coarse and n_fine follow from the budget"),
        (["--users", 3, "--items", 4, "--set", "n_course=5"], 2, "no setting is called 'n_course'"),
        (["absent.npz"], 3, "absent.npz"),
    ],
)
def test_wrong_usage_and_files_that_are_not_there_are_told(
    capsys: pytest.CaptureFixture[str], arguments: list[Any], code: int, words: str
) -> None:
    got, told = refused(capsys, *arguments)
    assert got == code
    assert re.search(words, told)
