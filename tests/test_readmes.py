"""What the READMEs say: examples print what is shown, and every file that they name is there."""

from __future__ import annotations

import contextlib
import io
import re
import tomllib
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from conftest import PROJECT

import c2f_ref
from c2f_ref.cli import main

README = (PROJECT / "README.md").read_text(encoding="utf-8")
EXAMPLES = (PROJECT / "examples" / "README.md").read_text(encoding="utf-8")
PAGES = [path.relative_to(PROJECT) for path in PROJECT.rglob("README.md") if path.parts[0] != "."]
NUMBER = re.compile(r"\d*\.\d+")


def fenced(text: str) -> list[tuple[str, str]]:
    """Fenced blocks in order: (language, text)."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def test_the_snippets_print_what_the_readme_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One after the other, in one folder.

    Words and counts are equal; metrics may differ by 0.02, because another CPU rounds differently
    over a thousand steps.
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
        got, wanted = (list(map(float, NUMBER.findall(text))) for text in (out.getvalue(), shown))
        np.testing.assert_allclose(got, wanted, atol=0.02)
    assert "device" in names


def test_the_oracle_says_what_its_page_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (PROJECT / "c2f_ref" / "conformance" / "README.md").read_text(encoding="utf-8")
    (_, script), (_, shown), *_ = fenced(page)
    monkeypatch.chdir(tmp_path)
    parts = re.search(r"> (\S+) <<'END'\n(.*)^END\nc2f-ref (.*)$", script, re.MULTILINE | re.DOTALL)
    assert parts is not None
    Path(parts[1]).write_text(parts[2], encoding="utf-8")
    assert main(parts[3].split()) == 1
    assert tuple(capsys.readouterr()) == (shown, "")


def test_every_command_and_option_of_the_readme_exists(capsys: pytest.CaptureFixture[str]) -> None:
    """And every command has its row."""
    rows = re.findall(r"^\| `c2f-ref (\w+)(.*?)`", README, flags=re.MULTILINE)
    with pytest.raises(SystemExit):
        main(["--help"])
    listed = re.findall(r"^    (\w+)(?:$|  )", capsys.readouterr().out, flags=re.MULTILINE)
    assert {name for name, _ in rows} == set(listed)
    for name, rest in rows:
        with pytest.raises(SystemExit):
            main([name, "--help"])
        told = capsys.readouterr().out
        assert [word for word in re.findall(r"--[\w-]+", rest) if word not in told] == []


def test_the_two_commands_are_what_is_checked() -> None:
    lines = re.findall(r"^python3 -m venv .*$", README, flags=re.MULTILINE)
    assert [line.rpartition("/")[2] for line in lines] == ["c2f-ref demo", "python -m pytest -q"]
    checked = (PROJECT / ".ci" / "run").read_text(encoding="utf-8")
    assert 'bin/pip" install -q -e ".[test' in checked
    assert "-m pytest -q\n" in checked


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_every_link_and_file_of_a_readme_is_there(page: Path) -> None:
    text = (PROJECT / page).read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#:]+)(?:#[\w-]+)?\)", text)
    files = re.findall(r"((?:examples|tests|c2f_ref|\.ci)/[\w/.]*\w\.(?:py|c|md|diff))\b", text)
    missing = [name for name in links if not (PROJECT / page.parent / name).exists()]
    missing += [name for name in files if not (PROJECT / name).exists()]
    assert missing == []
    assert page.parts[0] == "tests" or max(map(len, text.splitlines())) <= 100
    titles = {title.lower().replace(" ", "-") for title in re.findall(r"^#+ (.*)$", EXAMPLES, re.M)}
    assert set(re.findall(r"examples/README.md#([\w-]+)", text)) <= titles


def test_every_example_has_its_line() -> None:
    paths = [*(PROJECT / "examples").glob("*.py"), *(PROJECT / "examples").glob("*.c")]
    assert len(paths) > 10
    assert [path.name for path in paths if path.name not in EXAMPLES] == []


def test_the_version_is_the_same_everywhere() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    citation = (PROJECT / "CITATION.cff").read_text()
    newest = re.findall(r"^## ([\d.]+)", (PROJECT / "CHANGELOG.md").read_text(), re.MULTILINE)[0]
    cited = re.findall(r"^version: (.*)$", citation, re.MULTILINE)
    assert [project["version"], newest, *cited] == [c2f_ref.__version__] * 3
