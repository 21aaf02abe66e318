"""Which implementation computes: names, files, what is missing; threads have tests of their own."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from c2f_ref import method, runtime
from c2f_ref.method import SettingsError
from c2f_ref.runtime import load_implementation, load_module


def test_an_implementation_goes_by_its_short_name_its_dotted_name_or_its_file(
    tmp_path: Path,
) -> None:
    path = tmp_path / "numpy.py"  # does no harm under this name
    path.write_text("from c2f_ref.method import *\nfrom c2f_ref.method import prepare_fine\n")
    for name in ("method", "c2f_ref.method"):
        assert load_implementation(name) is method
    loaded = load_implementation(str(path))
    assert loaded.prepare_fine is method.prepare_fine
    assert (loaded.__name__, loaded.__file__) == ("numpy", str(path))
    assert importlib.import_module("numpy") is not loaded


@pytest.mark.numba
def test_the_compiled_implementation_is_the_default_where_numba_is_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert load_implementation() is load_implementation("fast") is sys.modules["c2f_ref.fast"]
    monkeypatch.setattr(runtime, "find_spec", lambda name: None)
    assert load_implementation() is method


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot be imported: FileNotFoundError"),
        ("x = ", "cannot be imported: SyntaxError"),
        ("import nothing_of_this_name", "cannot be imported: ModuleNotFoundError.*nothing_of_this"),
        ("raise SystemExit(3)", "cannot be imported: SystemExit: 3"),
        ("def adam_step(): ...", "must have all names of the contract, lacks .*embed_coarse"),
    ],
)
def test_what_is_no_implementation_is_refused(
    tmp_path: Path, content: str | None, words: str
) -> None:
    path = tmp_path / "mine.py"
    if content is not None:
        path.write_text(content)
    with pytest.raises(SettingsError, match=rf"mine\.py.*{words}|{words}"):
        load_implementation(str(path))


@pytest.mark.parametrize("name", ["", ".relative", "no_such.module", "c2f_ref.no_such"])
def test_a_name_that_cannot_be_imported_is_named(name: str) -> None:
    with pytest.raises(SettingsError, match=f"{name}: cannot be imported"):
        load_module(name)
