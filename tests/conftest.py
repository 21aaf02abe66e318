"""Profiles of hypothesis, and where the real data lies."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

try:
    from hypothesis import HealthCheck, settings
except ModuleNotFoundError:  # a board with NumPy and pytest alone runs `tests/device`
    pass
else:
    # Random data is part of a test, not of its luck: `ci` draws the same examples every time, `long` draws many.
    settings.register_profile("dev", max_examples=40, deadline=None)
    settings.register_profile("ci", max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
    settings.register_profile("long", max_examples=2000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "dev"))

PROJECT = Path(__file__).resolve().parents[1]
WITHOUT_NUMBA = "--without-numba"
NEED_NUMBA = ("fast", "training/test_memory.py", "test_benchmark.py", "test_threads.py")
"""Tests that cannot be read without numba."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Without the option, tests of compiled kernels fail where there is no numba: nobody leaves them out unknowingly."""
    parser.addoption(WITHOUT_NUMBA, action="store_true", help="leave out what needs compiled kernels, and say so")


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Say what is left out."""
    return ["c2f_ref.fast is NOT tested: --without-numba"] if config.getoption(WITHOUT_NUMBA) else []


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out what cannot be read without numba."""
    needs = collection_path in [PROJECT / "tests" / name for name in NEED_NUMBA]
    return True if needs and config.getoption(WITHOUT_NUMBA) else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the marked tests."""
    if config.getoption(WITHOUT_NUMBA):
        left_out = [item for item in items if item.get_closest_marker("numba")]
        items[:] = [item for item in items if item not in left_out]
        config.hook.pytest_deselected(items=left_out)


def _data_folder(name: str) -> Path:
    """Real interaction data is never part of the project: beside it, or where C2F_DATA says."""
    folder = Path(os.environ.get("C2F_DATA", PROJECT.parent / "shared" / "data")) / name
    if not folder.is_dir():
        pytest.skip(f"no folder {name} beside the project nor in $C2F_DATA: the test on real data is left out")
    return folder


@pytest.fixture(scope="session")
def lastfm() -> Path:
    """Folder of the Last.fm pairs."""
    return _data_folder("lastfm")


@pytest.fixture(scope="session")
def gowalla() -> Path:
    """Folder of the Gowalla pairs and the published splits."""
    return _data_folder("gowalla")


@pytest.fixture(scope="session")
def official_vectors() -> Path:
    """Folder of the known answers recorded from the official code."""
    return PROJECT / "tests" / "vectors" / "official"
