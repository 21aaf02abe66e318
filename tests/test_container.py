"""The file that models and checkpoints are made of: round trips bit for bit, damage is told, an old file is never lost."""

from __future__ import annotations

import gc
import io
import json
import math
import os
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from support.strategies import rngs

from c2f_ref.container import PARTS, BundleError, read_container, write_container

KIND = "c2f-ref test 1"
HEADER = {"title": "Zoë", "numbers": [1, 2.5, None], "nested": {"a": {"b": True}}}


def matrix() -> sparse.csr_array:
    """Three rows, the second one empty; an exact 0 is stored."""
    indices, indptr = np.array([1, 3, 0], dtype=np.int32), np.array([0, 2, 2, 3], dtype=np.int32)
    return sparse.csr_array((np.array([0.5, 0.0, -0.25]), indices, indptr), shape=(3, 4))


def arrays() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {
        "table": rng.normal(size=(64, 32)),  # 16 KiB: not read at one go
        "numbers": np.arange(2000, dtype=np.int64),
        "words": np.array([f"Zoë {number:04}" for number in range(900)]),
        "few": np.array([-0.0, 5e-324], dtype=np.float64),
        "matrix": matrix(),
    }


MEMBERS = ["header", "table", "numbers", "words", "few", *(f"matrix.{part}" for part in PARTS)]


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Bytes of the file of `HEADER` and `arrays()`."""
    path = tmp_path_factory.mktemp("container") / "file.npz"
    write_container(path, KIND, HEADER, arrays())
    return path.read_bytes()


def read(content: bytes, kind: str = KIND) -> tuple[dict[str, Any], dict[str, Any]]:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "file.npz"
        path.write_bytes(content)
        return read_container(path, kind)


def bits(arrays: Any) -> dict[str, Any]:
    """Types, shapes and bytes by name; of sparse arrays those of every part."""
    parts = {}
    for name, a in arrays.items():
        parts |= {f"{name}.{p}": np.asarray(getattr(a, p)) for p in PARTS} if sparse.issparse(a) else {name: a}
    return {name: (array.dtype.str, array.shape, array.tobytes()) for name, array in parts.items()}


def assert_intact(read: tuple[dict[str, Any], dict[str, Any]]) -> None:
    header, parts = read
    assert header == HEADER
    assert bits(parts) == bits(arrays())


# Round trips

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**200), 2**200) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
TYPES = ("<f4", "<f8", ">f8", "<i4", "<i8", "|i1", "|b1", "<U5")


@given(st.dictionaries(st.text().filter(lambda name: name != "format"), JSON, max_size=3), st.sampled_from(TYPES), rngs())
def test_what_is_written_is_read_bit_for_bit(header: dict[str, Any], dtype: str, rng: np.random.Generator) -> None:
    """Numbers of every bit pattern that the type has, NaN with all its bits among them; empty and 0-dimensional arrays too."""
    written = {}
    for name, shape in (("a", (3, 4)), ("b", (0, 2)), ("c", ()), ("d d", (5,))):
        size = math.prod(shape) * np.dtype(dtype).itemsize
        raw = rng.integers(128, size=size, dtype=np.uint8) if dtype != "|b1" else rng.integers(2, size=size, dtype=np.uint8)
        filled = np.frombuffer(raw.tobytes(), dtype).reshape(shape)
        written[name] = np.full(shape, "Zoë") if dtype == "<U5" else filled
    index_type = rng.choice([np.int32, np.int64])
    kept = rng.random((4, 5)) < 0.4
    data, starts = rng.normal(size=kept.sum()).astype("<f4"), np.append(0, kept.sum(axis=1).cumsum())
    written["m"] = sparse.csr_array((data, kept.nonzero()[1].astype(index_type), starts.astype(index_type)), shape=(4, 5))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "a file"  # no suffix is put behind the name
        write_container(path, KIND, header, written)
        read_header, read_arrays = read_container(path, KIND)
        assert os.listdir(folder) == ["a file"]
    assert repr(read_header) == repr(sorted_deeply(header))
    assert bits(read_arrays) == bits(written)


def sorted_deeply(value: Any) -> Any:
    """Objects with their keys in order, as they are written."""
    if isinstance(value, dict):
        return {key: sorted_deeply(value[key]) for key in sorted(value)}
    return [sorted_deeply(part) for part in value] if isinstance(value, list) else value


def test_a_large_file_is_read_as_it_was_written(content: bytes) -> None:
    assert_intact(read(content))


def test_nothing_but_a_header_is_a_file_too(tmp_path: Path) -> None:
    write_container(tmp_path / "f", KIND, {}, {})
    assert read_container(str(tmp_path / "f"), KIND) == ({}, {})


def test_arrays_that_are_none_are_left_out(tmp_path: Path) -> None:
    write_container(tmp_path / "f", KIND, {}, {"a": None, "b": np.ones(2), "c": None})
    assert read_container(tmp_path / "f", KIND)[1].keys() == {"b"}


def test_the_same_content_gives_the_same_bytes(content: bytes, tmp_path: Path) -> None:
    """Whatever the order of the header's names."""
    write_container(tmp_path / "again", KIND, dict(reversed(HEADER.items())), arrays())
    assert (tmp_path / "again").read_bytes() == content


def test_the_file_holds_plain_arrays_and_nothing_to_unpickle(content: bytes, tmp_path: Path) -> None:
    members = members_of(content, tmp_path)  # refuses pickled members
    assert members.keys() == set(MEMBERS)
    assert {array.dtype.kind for array in members.values()} == {"f", "i", "U"}
    assert json.loads(str(members["header"])) == {"format": KIND, **HEADER}


# Damage


@given(rngs())
def test_a_changed_byte_is_told_or_changes_nothing(content: bytes, rng: np.random.Generator) -> None:
    """Eight files of one changed byte each, in every example; half of them where the archive and its members are described."""
    described = [content.index(f"{name}.npy".encode()) + place for name in MEMBERS for place in range(-30, 150)]
    for place, change in zip(
        [*rng.integers(len(content), size=4), *rng.choice(described, size=4)], rng.integers(1, 256, size=8), strict=True
    ):
        damaged = bytearray(content)
        damaged[place] ^= int(change)
        try:
            assert_intact(read(damaged))
        except BundleError as error:
            assert "file.npz" in str(error)  # noqa: PT017


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("table", b"<f8", b"<f4"),
        ("table", b"<f8", b"<i8"),
        ("table", b"<f8", b"|i1"),
        ("table", b"(64, 32)", b"(34, 32)"),
        ("numbers", b"<i8", b"<i4"),
        ("words", b"<U8", b"<U7"),
        ("words", b"(900,)", b"(200,)"),
        ("few", b"<f8", b"<f4"),
        ("few", b"(2,)", b"(1,)"),
        ("matrix.data", b"<f8", b"<f4"),
        ("matrix.indices", b"<i4", b"<i2"),
        ("table", b"False", b"True "),
    ],
)
def test_another_type_or_size_in_a_members_description_is_told(content: bytes, name: str, old: bytes, new: bytes) -> None:
    """Fewer bytes would do, and the checksum stands behind the others: a member has to be read to its end."""
    damaged = bytearray(content)
    place = content.index(old, content.index(f"{name}.npy".encode()))
    damaged[place : place + len(old)] = new
    assert damaged != content
    with pytest.raises(BundleError, match=r"file\.npz"):
        read(damaged)


@pytest.mark.parametrize(
    ("marker", "offset", "value"),
    [
        (b"PK\x01\x02", 10, 99),  # a way of compression that there is not
        (b"PK\x01\x02", 8, 1),  # encrypted
        (b"PK\x01\x02", 6, 99),  # made by a version of the future
        (b"PK\x05\x06", 0, 0),  # no directory
    ],
)
def test_a_changed_directory_is_told(content: bytes, marker: bytes, offset: int, value: int) -> None:
    """A ZIP archive's central directory has entries (PK 01 02) of version needed, flags and method, and an end (PK 05 06)."""
    damaged = bytearray(content)
    damaged[content.index(marker) + offset] = value
    with pytest.raises(BundleError, match=r"file\.npz"):
        read(damaged)


def test_a_cut_file_is_told(content: bytes) -> None:
    for length in {*range(0, len(content), 997), *range(len(content) - 40, len(content))}:
        with pytest.raises(BundleError, match=r"file\.npz"):
            read(content[:length])


@pytest.mark.parametrize("written", [b"", b"text\n", b"\x80\x04}.", b"PK\x03\x04", b"\x93NUMPY\x01\x00"])
def test_a_file_that_is_no_container_is_told(written: bytes) -> None:
    with pytest.raises(BundleError, match=rf"file\.npz: expected a file of format '{KIND}', cannot read it"):
        read(written)


def test_a_single_array_is_told(tmp_path: Path) -> None:
    np.save(tmp_path / "array.npy", np.zeros(3))
    with pytest.raises(BundleError, match=r"array\.npy"):
        read_container(tmp_path / "array.npy", KIND)


def test_a_container_of_another_kind_is_told(content: bytes) -> None:
    with pytest.raises(BundleError, match=rf"file\.npz: header: expected format 'c2f-ref test 2', got '{KIND}'"):
        read(content, "c2f-ref test 2")


def test_no_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_container(tmp_path / "absent", KIND)


def test_a_damaged_file_is_closed(content: bytes) -> None:
    gc.collect()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        with pytest.raises(BundleError):
            read(content[:200])
        gc.collect()
    assert not told


# Members that are not what they should be


def members_of(content: bytes, folder: Path) -> dict[str, Any]:
    path = folder / "members.npz"
    path.write_bytes(content)
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def rewritten(content: bytes, folder: Path, name: str, change: Callable[[Any], Any] | None) -> Path:
    """The file with one member changed, or left out for None."""
    members = members_of(content, folder)
    value = members.pop(name)
    if change is not None:
        members[name] = change(value)
    with (folder / "changed.npz").open("wb") as file:
        np.savez(file, **members)
    return folder / "changed.npz"


def test_bytes_behind_the_array_of_a_member_are_told(content: bytes, tmp_path: Path) -> None:
    """The checksum is right: somebody wrote them."""
    path = tmp_path / "changed.npz"
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name) + b"\0" * (name == "table.npy"))
    with pytest.raises(BundleError, match=r"changed\.npz: .*must take all \d+ bytes of its member"):
        read_container(path, KIND)


@pytest.mark.parametrize("name", ["header", "matrix.data", "matrix.indices", "matrix.indptr"])
def test_a_missing_member_is_told_by_name(content: bytes, tmp_path: Path, name: str) -> None:
    with pytest.raises(BundleError, match=rf"changed\.npz: '{name}' is missing"):
        read_container(rewritten(content, tmp_path, name, None), KIND)


@pytest.mark.parametrize("name", [f"matrix.{part}" for part in PARTS])
def test_a_part_of_another_size_is_told(content: bytes, tmp_path: Path, name: str) -> None:
    with pytest.raises(BundleError, match=r"changed\.npz"):
        read_container(rewritten(content, tmp_path, name, lambda array: array[:-1]), KIND)


@pytest.mark.parametrize("part", ["indices", "indptr"])
@pytest.mark.parametrize("step", [-1, 100])
def test_places_outside_a_matrix_are_told(content: bytes, tmp_path: Path, part: str, step: int) -> None:
    with pytest.raises(BundleError, match=r"changed\.npz"):
        read_container(rewritten(content, tmp_path, f"matrix.{part}", lambda array: array + step), KIND)


@pytest.mark.parametrize("part", ["indices", "indptr"])
@pytest.mark.parametrize("dtype", ["<f8", "<u4", "<U3", "|b1"])
def test_places_that_are_no_signed_integers_are_told(content: bytes, tmp_path: Path, part: str, dtype: str) -> None:
    with pytest.raises(BundleError, match=r"changed\.npz: matrix: indices must be integers, got "):
        read_container(rewritten(content, tmp_path, f"matrix.{part}", lambda array: array.astype(dtype)), KIND)


class Trap:
    """Leaves a file behind where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", ["table", "header", "matrix.data"])
def test_a_pickle_in_a_member_is_told_and_not_opened(content: bytes, tmp_path: Path, name: str) -> None:
    path = rewritten(content, tmp_path, name, lambda _: np.array([Trap(tmp_path / "sprung")], dtype=object))
    with pytest.raises(BundleError, match=r"changed\.npz"):
        read_container(path, KIND)
    assert not (tmp_path / "sprung").exists()
    with np.load(path, allow_pickle=True) as archive:
        assert archive[name].shape == (1,)
    assert (tmp_path / "sprung").exists()  # it is a trap


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("", "Expecting value"),
        ("[" * 10**5, r"changed\.npz"),
        ("[]", r"changed\.npz"),
        ("3", r"changed\.npz"),
        ("{}", "'format' is missing"),
        ('{"format": 1}', f"expected format '{KIND}', got 1"),
        ('{"format": "c2f-ref test 2"}', f"expected format '{KIND}', got 'c2f-ref test 2'"),
    ],
)
def test_another_header_is_told(content: bytes, tmp_path: Path, header: str, words: str) -> None:
    with pytest.raises(BundleError, match=words) as caught:
        read_container(rewritten(content, tmp_path, "header", lambda _: np.array(header)), KIND)
    assert "changed.npz: " in str(caught.value)


# Writing


@pytest.mark.parametrize("broken", ["replace", "fsync"])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    path = tmp_path / "file.npz"
    path.write_bytes(content)

    def fail(*_: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, broken, fail)
    with pytest.raises(OSError, match="disk full"):
        write_container(path, KIND, {}, {})
    assert path.read_bytes() == content
    assert os.listdir(tmp_path) == ["file.npz"]


def test_a_write_that_stops_half_way_leaves_the_old_file(content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped by the user after some bytes."""
    path = tmp_path / "file.npz"
    path.write_bytes(content)

    def half(file: Any, **_: Any) -> None:
        file.write(content[:100])
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez", half)
    with pytest.raises(KeyboardInterrupt):
        write_container(path, KIND, {}, {})
    assert path.read_bytes() == content
    assert os.listdir(tmp_path) == ["file.npz"]


@pytest.mark.parametrize(("header", "array"), [({"a": object()}, np.ones(2)), ({}, np.array([object()]))])
def test_what_no_reader_could_read_is_not_written(content: bytes, tmp_path: Path, header: Any, array: Any) -> None:
    """Neither a header that is no JSON nor an array of Python objects, which NumPy would pickle."""
    path = tmp_path / "file.npz"
    path.write_bytes(content)
    with pytest.raises((TypeError, ValueError)):
        write_container(path, KIND, header, {"a": array})
    assert path.read_bytes() == content
    assert os.listdir(tmp_path) == ["file.npz"]


def test_a_write_takes_the_place_of_the_old_file(tmp_path: Path) -> None:
    for number in (1, 2):
        write_container(tmp_path / "f", KIND, {"number": number}, {})
        assert read_container(tmp_path / "f", KIND) == ({"number": number}, {})


def test_a_folder_that_is_not_there_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="absent"):
        write_container(tmp_path / "absent" / "f", KIND, {}, {})
