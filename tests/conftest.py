"""Profiles of hypothesis, and where the real data lies."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Random data is part of a test, not of its luck: `ci` draws the same examples every time, `long` draws many.
settings.register_profile("dev", max_examples=50, deadline=None)
settings.register_profile("ci", max_examples=50, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("long", max_examples=2000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "dev"))

PROJECT = Path(__file__).resolve().parents[1]


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
