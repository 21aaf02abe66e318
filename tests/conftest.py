"""Profiles of hypothesis, and where the real data lies."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

try:
    from hypothesis import HealthCheck, settings
except ModuleNotFoundError:  # a board with NumPy and pytest alone runs `tests/device`
    pass
else:
    # Drawn data is part of a test: `ci` draws the same examples every time, `long` draws many.
    slow = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
    settings.register_profile("dev", max_examples=40, deadline=None)
    settings.register_profile("ci", max_examples=40, derandomize=True, **slow)
    settings.register_profile("long", max_examples=2000, **slow)
    default = "ci" if os.environ.get("CI") else "dev"
    settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", default))

PROJECT = Path(__file__).resolve().parents[1]
WITHOUT_NUMBA = "--without-numba"
NEED_NUMBA = ("fast", "test_benchmark.py", "test_threads.py")
"""Tests that cannot be read without numba."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Without the option, tests of compiled kernels fail where there is no numba."""
    summary = "leave out what needs compiled kernels, and say so"
    parser.addoption(WITHOUT_NUMBA, action="store_true", help=summary)


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Say what is left out."""
    is_left_out = config.getoption(WITHOUT_NUMBA)
    return ["c2f_ref.fast is NOT tested: --without-numba"] if is_left_out else []


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
    """Real data is never part of the project: it is in $C2F_DATA or next to the project."""
    folder = Path(os.environ.get("C2F_DATA", PROJECT.parent / "shared" / "data")) / name
    if not folder.is_dir():
        pytest.skip(f"no folder {name} in ../shared/data nor in $C2F_DATA: no test on real data")
    return folder


@pytest.fixture
def one_thread() -> Iterator[None]:
    """One thread for compiled loops: with small inputs, waiting for a second takes far longer."""
    from c2f_ref.runtime import at_most  # `tests/device` runs without it

    with at_most(1):
        yield


@pytest.fixture(scope="session")
def lastfm() -> Path:
    """Folder of the Last.fm pairs."""
    return _data_folder("lastfm")


@pytest.fixture(scope="session")
def gowalla() -> Path:
    """Folder of the Gowalla pairs and the published splits."""
    return _data_folder("gowalla")
