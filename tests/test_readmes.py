"""What the pages say: every name exists, every test that is pointed to is there, the example prints what is shown."""

from __future__ import annotations

import contextlib
import importlib
import io
import re
import subprocess
import sys
from dataclasses import fields
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from conftest import PROJECT

import c2f_ref
from c2f_ref import spec
from c2f_ref.training import RECIPES, Schedule

README = (PROJECT / "README.md").read_text(encoding="utf-8")
SPEC_README = (Path(c2f_ref.__file__).parent / "spec" / "README.md").read_text(encoding="utf-8")
TESTS = "\n".join(path.read_text(encoding="utf-8") for path in (PROJECT / "tests").rglob("test_*.py"))
NUMBER = re.compile(r"\d+\.\d+")


def blocks(text: str, language: str) -> list[str]:
    """Fenced blocks of one language, "" for those without."""
    return [block for named, block in fenced(text) if named == language]


def fenced(text: str) -> list[tuple[str, str]]:
    """Fenced blocks in order: (language, text)."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def test_the_examples_print_what_the_readme_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One after the other, in one folder. Words and counts are equal; metrics may differ by 0.02, because another CPU rounds
    differently over a thousand steps.
    """
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for (language, code), (_, shown) in pairwise(fenced(README)):
        if language != "python":
            continue
        assert len(code.strip().splitlines()) <= 15
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(compile(code, "README.md", "exec"), names)
        assert NUMBER.sub("#", out.getvalue()) == NUMBER.sub("#", shown)
        got, wanted = ([float(number) for number in NUMBER.findall(text)] for text in (out.getvalue(), shown))
        np.testing.assert_allclose(got, wanted, atol=0.02)
    assert "device" in names


def test_the_oracle_says_what_the_readme_shows(tmp_path: Path) -> None:
    (script,) = blocks(README, "sh")
    (shown,) = (text for (language, _), (_, text) in pairwise(fenced(README)) if language == "sh")
    source = re.search(r"<<'END'\n(.*)^END$", script, flags=re.MULTILINE | re.DOTALL)
    (command,) = re.findall(r"^c2f-ref (conformance .*)$", script, flags=re.MULTILINE)
    assert source
    (tmp_path / "mine.py").write_text(source[1], encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "c2f_ref", *command.split()], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr, done.returncode) == (shown, "", 1)


def test_every_yes_of_ours_names_a_test_that_exists() -> None:
    claims = re.findall(r"^\| [^|]+ \| (yes[^|]*) \|", section("Beside others"), flags=re.MULTILINE)
    named = [re.fullmatch(r"yes: `(test_\w+)`", claim) for claim in claims]
    assert len(claims) >= 10
    assert all(named), claims
    missing = [match[1] for match in named if match and f"def {match[1]}(" not in TESTS]
    assert missing == []


def section(title: str) -> str:
    """The part of the page below this title."""
    return README.split(f"\n## {title}\n")[1].split("\n## ")[0]


def test_commands_of_the_readme_are_in_the_project() -> None:
    commands = [line for block in blocks(README, "") for line in block.splitlines() if line.startswith("python3 -m venv")]
    assert len(commands) == 2
    assert "c2f-ref demo" in commands[0]
    assert "-m pytest" in commands[1]
    assert "-m pytest -q" in (PROJECT / ".ci" / "run").read_text(encoding="utf-8")


def test_the_table_of_recipes_is_what_they_are() -> None:
    """Every field of a schedule has its row; the two fields of a recipe stand in the column of the stage that reads them."""
    rows = {name: cells.split(" | ") for name, cells in re.findall(r"^\| `(\w+)` \| (.*) \|$", README, flags=re.MULTILINE)}
    schedules = [getattr(RECIPES[name], stage) for name in ("published", "laptop") for stage in ("coarse", "fine")]
    for field in fields(Schedule):
        assert rows[field.name] == [str(getattr(schedule, field.name)) for schedule in schedules]
    for name in ("bias_start", "sparse_pca_method"):
        assert re.findall(r"\w+", " ".join(rows[name])) == [getattr(RECIPES[r], name) for r in ("published", "laptop")]


@pytest.mark.parametrize(
    "name",
    re.findall(
        r"`((?:notation|graph|partitioning|assignment|embeddings|propagation|loss|optimise|sampling|ranking|model|memory)\.\w+)`",
        SPEC_README,
    ),
)
def test_a_function_named_by_the_page_exists(name: str) -> None:
    module, attribute = name.split(".")
    assert hasattr(importlib.import_module(f"c2f_ref.spec.{module}"), attribute)


def test_every_public_function_of_the_specification_is_on_its_page() -> None:
    """Pull-backs stand below their functions; the front of `model` is the contract, which the page describes as a whole."""
    named = {name.split(".")[1] for name in re.findall(r"`(\w+\.\w+)`", SPEC_README)}
    functions = {name for name in spec.__all__ if name[0].islower() and not name.endswith("_vjp")}
    in_model = {"prepare_coarse", "prepare_fine", "embed_coarse", "embed_fine", "coarse_loss_and_grad", "fine_loss_and_grad"}
    assert functions - named - in_model <= UNNAMED


# Small parts of a formula that has its own row.
UNNAMED = {
    "softmax_rows",
    "pseudo_inverse",
    "start_adam",
    "edge_cut",
    "metis_partition",
    "sparse_pca_scores",
    "scatter_scores",
    "draw_positions",
    "rank_scores",
    "mean_metrics",
}


def test_every_deviation_has_a_row_and_its_tests_exist() -> None:
    rows = re.findall(r"^\| (D\d+) \|.*\| (.+) \|$", SPEC_README, flags=re.MULTILINE)
    assert [row[0] for row in rows] == [f"D{number}" for number in range(1, 17)]
    pointed = [name for _, shown in rows for name in re.findall(r"`(test_\w+)`", shown)]
    assert len(pointed) >= 16
    missing = [name for name in pointed if f"def {name}(" not in TESTS]
    assert missing == []
