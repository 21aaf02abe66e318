"""Every source leads somewhere: to a numbered formula of the method's README, or to a dated paper.

And what the README names is there: functions, tests, and every formula from (1) to (34).
"""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[2]
README = (PROJECT / "c2f_ref" / "method" / "README.md").read_text(encoding="utf-8")
NUMBERS = {int(number) for number in re.findall(r"^    \((\d+)\)", README, re.MULTILINE)}
LABELS = "Shapes|Edge|Errors|Source"


def sources_of(text: str) -> list[str]:
    """Every `Source:` of the strings in a page, from the label to the end of its paragraph."""
    values = [getattr(node, "value", None) for node in ast.walk(ast.parse(text))]
    pattern = rf"Source:(.*?)(?=\n\s*(?:{LABELS}):|\n\s*\n|\Z)"
    strings = [value for value in values if isinstance(value, str)]
    return [found for string in strings for found in re.findall(pattern, string, re.DOTALL)]


def leads_nowhere(source: str) -> str:
    """Why a source leads nowhere: an equation that is not there, or neither number nor year."""
    ours = re.findall(r"equations? (\([^;A-Z]*)", " ".join(source.split()))
    numbers: set[int] = set()
    for listed in ours:
        for first, last in re.findall(r"\((\d+)\)(?: to \((\d+)\))?", listed):
            numbers |= set(range(int(first), int(last or first) + 1))
    if numbers - NUMBERS:
        return f"no equation {sorted(numbers - NUMBERS)}"
    dated = re.search(r"\b(19|20)\d\d\b", source)
    return "" if numbers or dated else "neither an equation nor a paper with its year"


def test_every_source_is_an_equation_or_a_paper_with_its_year() -> None:
    """And one that leads nowhere is found."""
    for page in (PROJECT / "c2f_ref").rglob("*.py"):
        for source in sources_of(page.read_text(encoding="utf-8")):
            assert not leads_nowhere(source), f"{page}: {source}: {leads_nowhere(source)}"
    page = '"""What.\n\n    Source: equation (35).\n    Edge: none.\n    """'
    assert [leads_nowhere(source) for source in sources_of(page)] == ["no equation [35]"]
    assert leads_nowhere(" coarse stage, step 6.").startswith("neither an equation nor a paper")
    assert leads_nowhere(" equations (33) to (36).") == "no equation [35, 36]"
    assert not leads_nowhere(" equation (9); Donoho 1995.")
    assert not leads_nowhere(" He et al., SIGIR 2020, equation 3.")


def test_the_readme_numbers_its_formulas_and_deviations_without_a_gap() -> None:
    assert sorted(NUMBERS) == list(range(1, 35))
    listed = re.findall(r"^- \*\*\((\d+)\)\*\*", README, re.MULTILINE)
    assert [int(number) for number in listed] == list(range(1, 35))
    deviations = re.findall(r"^- \*\*D(\d+)\*\*", README, re.MULTILINE)
    assert [int(number) for number in deviations] == list(range(1, 18))


def function_of(page: str, name: str) -> Any:
    where = f"c2f_ref.{page}" if page == "partition" else f"c2f_ref.method.{page}"
    return getattr(importlib.import_module(where), name)


def test_functions_that_the_readme_names_exist_and_say_their_equation() -> None:
    """A function listed for a formula has the formula's number among its sources."""
    named = re.findall(r"`(\w+)\.(?!py`)(\w+)`", README)
    assert len(named) > 60
    for page, name in named:
        assert function_of(page, name), f"{page}.{name}"
    for number, functions in re.findall(r"^- \*\*\((\d+)\)\*\* (.*?)\. From", README, re.M | re.S):
        for page, name in re.findall(r"`(\w+)\.(\w+)`", functions):
            between = " ".join(function_of(page, name).__doc__.split("Source:")[1].split())
            spans = re.findall(r"\((\d+)\)(?: to \((\d+)\))?", between)
            assert any(int(a) <= int(number) <= int(b or a) for a, b in spans), f"{name}: {number}"


def test_tests_that_the_readme_names_exist() -> None:
    paths = PROJECT.rglob("tests/**/test_*.py")
    tests = "\n".join(path.read_text(encoding="utf-8") for path in paths)
    named = set(re.findall(r"`(test_\w+)`", README))
    assert len(named) > 40
    missing = {name for name in named if not re.search(rf"^def {name}\(", tests, re.MULTILINE)}
    assert not missing
