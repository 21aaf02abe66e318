"""What the pages say: every name exists, every test that is pointed to is there, the example prints what is shown."""

from __future__ import annotations

import contextlib
import importlib
import io
import re
from dataclasses import fields

import numpy as np
import pytest
from conftest import PROJECT

from c2f_ref import spec
from c2f_ref.training import RECIPES, Schedule

README = (PROJECT / "README.md").read_text(encoding="utf-8")
SPEC_README = (PROJECT / "c2f_ref" / "spec" / "README.md").read_text(encoding="utf-8")
NUMBER = re.compile(r"\d+\.\d+")


def blocks(text: str, language: str) -> list[str]:
    """Fenced blocks of one language, "" for those without."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    return [block for named, block in fenced if named == language]


def test_the_example_prints_what_the_readme_shows() -> None:
    """Words and counts are equal; metrics may differ by 0.02, because another CPU rounds differently over a thousand steps."""
    (code,) = blocks(README, "python")
    shown = blocks(README, "")[0]
    assert len(code.strip().splitlines()) <= 15
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(code, "README.md", "exec"), {})
    printed = out.getvalue()
    assert NUMBER.sub("#", printed.split(" with ")[0]) == NUMBER.sub("#", shown.split(" with ")[0])
    wanted, got = ([float(number) for number in NUMBER.findall(text)] for text in (shown, printed))
    assert len(wanted) == 2
    np.testing.assert_allclose(got, wanted, atol=0.02)


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
    tests = "\n".join(path.read_text(encoding="utf-8") for path in (PROJECT / "tests").rglob("test_*.py"))
    pointed = [name for _, shown in rows for name in re.findall(r"`(test_\w+)`", shown)]
    assert len(pointed) >= 16
    missing = [name for name in pointed if f"def {name}(" not in tests]
    assert missing == []
