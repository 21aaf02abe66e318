"""The cases as files: complete, listed with their checksums, and the same bytes every time."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from c2f_ref.conformance import cases, write_vectors
from c2f_ref.conformance.cases import COMPARATORS, flatten


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vectors") / "new folder"
    assert write_vectors(folder) == sum(1 for _ in cases())
    return folder


@pytest.fixture(scope="module")
def manifest(published: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((published / "manifest.json").read_text(encoding="utf-8"))
    return read


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_the_same_bytes_come_every_time_and_less_than_5_megabytes(published: Path, tmp_path: Path) -> None:
    write_vectors(tmp_path)
    once, again = bytes_of(published), bytes_of(tmp_path)
    assert once == again
    assert sum(map(len, once.values())) < 5_000_000


def test_every_array_is_listed_with_its_shape_type_and_checksum(published: Path, manifest: dict[str, Any]) -> None:
    assert {f"{name}.npy" for name in manifest["arrays"]} == {path.name for path in (published / "arrays").iterdir()}
    for name, facts in manifest["arrays"].items():
        content = (published / "arrays" / f"{name}.npy").read_bytes()
        array = np.load(published / "arrays" / f"{name}.npy", allow_pickle=False)
        assert hashlib.sha256(content).hexdigest() == facts["sha256"]
        assert (list(array.shape), array.dtype.str) == (facts["shape"], facts["dtype"])


def test_every_case_is_there_with_every_number(published: Path, manifest: dict[str, Any]) -> None:
    assert manifest["format"] == "c2f-ref vectors 1"
    assert set(COMPARATORS) <= set(manifest["how_to_read"])
    for case, entry in zip(cases(), manifest["cases"], strict=True):
        assert (entry["operation"], entry["name"]) == (case.operation, case.name)
        assert (entry["dtype"], entry["comparator"]) == (case.dtype, case.comparator)
        for part in ("inputs", "expected", "allowed"):
            values = flatten(getattr(case, part))
            assert list(entry[part]) == list(values)
            for name, array in values.items():
                if array is None:
                    assert entry[part][name] is None
                else:
                    stored = np.load(published / "arrays" / f"{entry[part][name]}.npy", allow_pickle=False)
                    np.testing.assert_array_equal(stored, array)
                    assert stored.dtype == array.dtype
