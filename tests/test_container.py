"""The file that models and checkpoints are made of: round trips bit for bit, damage and attacks are told."""

from __future__ import annotations

import gc
import hashlib
import io
import math
import os
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import PROJECT
from hypothesis import given
from hypothesis import strategies as st
from support import archives
from support.archives import arrays_of, container, container_of, entry_of, npy, npy_of, shortest, told_of
from support.audit import HARMLESS, events_of_reading, peak_of
from support.strategies import rngs

from c2f_ref.container import HEADER_LIMIT, BundleError, read_container, read_header, write_container

KIND = "c2f-ref test 1"
HEADER = {"title": "Zoë", "numbers": [1, 2.5, None], "nested": {"a": {"b": True}}}


def arrays() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {
        "table": rng.normal(size=(64, 32)),  # 16 KiB: not read at one go
        "numbers": np.arange(2000, dtype=np.int64),
        "words": np.array([f"Zoë {number:04}" for number in range(900)]),
        "few": np.array([-0.0, 5e-324], dtype=np.float64),
        "few too": np.array([0.5, 0.25]),
        "none": np.zeros((0, 7), dtype=np.uint16),
    }


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Bytes of the file of `HEADER` and `arrays()`."""
    path = tmp_path_factory.mktemp("container") / "file.npz"
    write_container(path, KIND, HEADER, arrays())
    return path.read_bytes()


PLACES: list[Path] = []
"""One path for all files that are read: making and removing folders takes much longer than reading."""


@pytest.fixture(scope="module", autouse=True)
def _place(tmp_path_factory: pytest.TempPathFactory) -> None:
    PLACES.append(tmp_path_factory.mktemp("read") / "file.npz")


def read(content: bytes | bytearray, kind: str = KIND, **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    PLACES[0].unlink(missing_ok=True)  # writing over a file waits for the disk
    PLACES[0].write_bytes(content)
    return read_container(PLACES[0], kind, **options)


def assert_refused(content: bytes | bytearray, words: str = "file.npz") -> None:
    with pytest.raises(BundleError, match=words) as caught:
        read(content)
    assert "file.npz: " in str(caught.value)


def bits(arrays: Any) -> dict[str, Any]:
    """Types, shapes and bytes by name."""
    return {name: (array.dtype.str, array.shape, array.tobytes()) for name, array in arrays.items()}


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
TYPES = ("<f2", "<f4", "<f8", "<i2", "<i4", "<i8", "|i1", "|u1", "<u2", "<u4", "<u8", "<U5")


@given(st.dictionaries(st.text(), JSON, max_size=3), st.sampled_from(TYPES), rngs())
def test_what_is_written_is_read_bit_for_bit(header: dict[str, Any], dtype: str, rng: np.random.Generator) -> None:
    """Numbers of every bit pattern that the type has, NaN with all its bits among them; empty and 0-dimensional arrays too."""
    written = {}
    for name, shape in (("a", (3, 4)), ("b", (0, 2)), ("c", ()), ("d d", (5,)), ("e.f_1", (2, 3, 1))):
        raw = rng.integers(256, size=math.prod(shape) * np.dtype(dtype).itemsize, dtype=np.uint8)
        filled = np.frombuffer(raw.tobytes(), dtype).reshape(shape)
        written[name] = np.full(shape, "Zoë") if dtype == "<U5" else filled
    path = PLACES[0].with_name("a file")  # no suffix is put behind the name
    write_container(path, KIND, header, written)
    read_head, read_arrays = read_container(path, KIND)
    assert {name.name for name in PLACES[0].parent.iterdir()} <= {"a file", "file.npz"}
    assert read_header(path, KIND)[0] == read_head
    assert repr(read_head) == repr(sorted_deeply(header))
    assert bits(read_arrays) == bits(written)
    assert all(array.flags.writeable and array.flags.aligned for array in read_arrays.values())


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


def test_numbers_of_any_storage_are_written_little_endian_and_in_order(tmp_path: Path) -> None:
    table = np.arange(12.0).reshape(3, 4)
    write_container(
        tmp_path / "f", KIND, {}, {"big": table.astype(">f4"), "columns": np.asfortranarray(table), "part": table[:, ::2]}
    )
    expected = {"big": table.astype("<f4"), "columns": table, "part": np.ascontiguousarray(table[:, ::2])}
    assert bits(read_container(tmp_path / "f", KIND)[1]) == bits(expected)


def test_the_same_content_gives_the_same_bytes(content: bytes, tmp_path: Path) -> None:
    """Whatever the order of the header's names."""
    write_container(tmp_path / "again", KIND, dict(reversed(HEADER.items())), arrays())
    assert (tmp_path / "again").read_bytes() == content


def test_the_bytes_are_those_that_zipfile_writes(content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """So any reader of ZIP and `.npy` reads them; only the versions are taken from the file."""
    told, members = arrays_of(content)
    monkeypatch.setattr(archives, "VERSIONS", told["versions"])
    assert told["versions"]["numpy"] == np.__version__
    assert bits(members) == bits(arrays())
    assert container_of(KIND, HEADER, arrays()) == content


def test_numpy_opens_the_file_without_pickle(content: bytes) -> None:
    with np.load(io.BytesIO(content), allow_pickle=False) as members:
        assert members.files == ["header", "header_sha256", *arrays()]
        assert {members[name].dtype.kind for name in members.files} == {"f", "i", "u", "U"}
        assert members["header_sha256"].tobytes() == hashlib.sha256(members["header"].tobytes()).digest()


def test_the_header_alone_can_be_read(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(content)
    header, members = read_header(tmp_path / "f", KIND)
    assert header == HEADER
    assert [(member.name, member.shape, member.dtype) for member in members] == [
        (name, array.shape, array.dtype.str) for name, array in arrays().items()
    ]
    assert [member.nbytes for member in members] == [array.nbytes for array in arrays().values()]


# Damage


def test_a_changed_byte_is_told(content: bytes) -> None:
    """400 files of one changed byte each; half of them where the archive and its members are described."""
    rng = np.random.default_rng(3)
    described = [content.index(f"{name}.npy".encode()) + place for name in ["header", *arrays()] for place in range(-30, 150)]
    places = [*rng.integers(len(content), size=200), *rng.choice(described, size=200)]
    for place, change in zip(places, rng.integers(1, 256, size=400), strict=True):
        damaged = bytearray(content)
        damaged[place] ^= int(change)
        assert_refused(damaged)


def test_a_cut_file_is_told(content: bytes) -> None:
    for length in {*range(0, len(content), 997), *range(600), *range(len(content) - 40, len(content))}:
        assert_refused(content[:length])


@pytest.mark.parametrize("more", [b"\0", b"PK\x05\x06", b"\n" * 70000])
def test_bytes_behind_the_archive_are_told(content: bytes, more: bytes) -> None:
    assert_refused(content + more, "must have .* bytes, as the header says, got ")


@pytest.mark.parametrize(
    "written", [b"", b"text\n", b"\x80\x04}.", b"PK\x03\x04", b"\x93NUMPY\x01\x00", b"PK\x05\x06" + b"\0" * 18]
)
def test_a_file_that_is_no_container_is_told(written: bytes) -> None:
    assert_refused(written, f"expected a file of format '{KIND}', its header first, got something else")


def test_a_file_of_savez_is_told(tmp_path: Path) -> None:
    """As the first format was."""
    np.savez(tmp_path / "old.npz", header=np.array('{"format": "c2f-ref test 0"}'), table=np.ones(3))
    with pytest.raises(BundleError, match=r"old\.npz: expected a file of format .*, got something else or an older format"):
        read_container(tmp_path / "old.npz", KIND)


def test_a_container_of_another_kind_is_told(content: bytes) -> None:
    with pytest.raises(BundleError, match=rf"file\.npz: header: expected format 'c2f-ref test 2', got '{KIND}'"):
        read(content, "c2f-ref test 2")


def test_no_file_is_an_os_error(tmp_path: Path) -> None:
    for reader in (read_container, read_header):
        with pytest.raises(FileNotFoundError):
            reader(tmp_path / "absent", KIND)
        with pytest.raises(OSError, match=r"directory|denied"):
            reader(tmp_path, KIND)


def test_a_damaged_file_is_closed(content: bytes) -> None:
    gc.collect()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        with pytest.raises(BundleError):
            read(content[:200])
        gc.collect()
    assert not told


# Attacks: whoever makes such a file gets every hash right

SMALL = {"a": np.arange(6.0).reshape(2, 3), "b": np.arange(6.0, 12.0).reshape(2, 3), "ids": np.array(["x", "yy"])}


def told(**changes: Any) -> dict[str, Any]:
    """The JSON of `SMALL`, with changes."""
    return told_of(KIND, {}, SMALL) | changes


def members(**changes: bytes) -> list[tuple[str, bytes]]:
    """The members of `SMALL`, with changes."""
    return [(name, changes.get(name, npy_of(array))) for name, array in SMALL.items()]


def test_what_the_attacks_start_from_is_read() -> None:
    assert bits(read(container(told(), members()))[1]) == bits(SMALL)


def assert_refused_cheaply(content: bytes, words: str) -> None:
    """Refused, and nothing was allocated to speak of."""
    assert peak_of(lambda: assert_refused(content, words)) < 2**17 + 2 * len(content)


def test_a_zip_bomb_is_refused() -> None:
    """A member that takes 16 KiB and would give 16 MiB."""
    zeros = np.zeros(2**21)
    bomb = container(
        told_of(KIND, {}, {"a": zeros}) | {"arrays": [entry_of("a", zeros)]},
        [("a", npy_of(zeros))],
        compression=zipfile.ZIP_DEFLATED,
    )
    assert len(bomb) < 2**15
    assert_refused_cheaply(bomb, "header")  # its own header is compressed
    told_bomb = shortest(told_of(KIND, {}, {"a": zeros}))
    stored = container(told_bomb, [])
    assert_refused_cheaply(stored, "must have 16,7.* bytes, as the header says, got ")


@pytest.mark.parametrize(
    ("shape", "words"), [([2**33], "a: must take at most"), ([3, 2**27], "must have 3,2.* bytes, as the header")]
)
def test_a_header_that_asks_for_64_or_3_gib_allocates_nothing(shape: list[int], words: str) -> None:
    asked = {**entry_of("a", SMALL["a"]), "shape": shape}
    content = container(told(arrays=[asked, *told()["arrays"][1:]]), members(a=npy("<f8", tuple(shape), SMALL["a"].tobytes())))
    assert_refused_cheaply(content, words)


def test_a_member_that_asks_for_64_gib_allocates_nothing() -> None:
    """Its own header does, the JSON does not."""
    content = container(told(), members(a=npy("<f8", (2**33,), SMALL["a"].tobytes())))
    assert_refused_cheaply(content, "a: must begin as its name, type, size and CRC-32 say")


def test_arrays_that_take_4_gib_together_are_refused() -> None:
    entries = [{**entry_of(name, SMALL["a"]), "shape": [2**28]} for name in ("a", "b", "c")]
    assert_refused_cheaply(container(told(arrays=entries), []), "header: the file must have at most .* bytes, its arrays take")


class Trap:
    """Leaves a file behind where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_objects_are_refused_and_not_unpickled(tmp_path: Path) -> None:
    stream = io.BytesIO()
    np.save(stream, np.array([Trap(tmp_path / "sprung")], dtype=object), allow_pickle=True)
    pickled = stream.getvalue()
    said = {**entry_of("a", SMALL["a"]), "dtype": "|O", "shape": [1]}
    assert_refused(container(told(arrays=[said, *told()["arrays"][1:]]), members(a=pickled)), "a: must be plain numbers or text")
    assert_refused(container(told(), members(a=pickled)), "must have .* bytes, as the header says|a: must begin as")
    assert not (tmp_path / "sprung").exists()
    stream.seek(0)
    np.load(stream, allow_pickle=True)
    assert (tmp_path / "sprung").exists()  # it is a trap


@pytest.mark.parametrize(
    "dtype", ["|O", "|V8", "<c16", "|b1", ">f8", "<f16", "<M8[s]", "|S3", "f8", "<U0", "<U", "<f8 ", "", 3, None]
)
def test_types_other_than_plain_numbers_and_text_are_refused(dtype: Any) -> None:
    said = {**entry_of("a", SMALL["a"]), "dtype": dtype}
    assert_refused(container(told(arrays=[said, *told()["arrays"][1:]]), members()), "a: must be plain numbers|header: TypeError")


@pytest.mark.parametrize(
    "shape", [[-2, -3], [2.0, 3], [True, 6], ["6"], "6", {"6": 1}, None, 6, [[6]], [1] * 9, [0, 2**62], [10**30]]
)
def test_shapes_other_than_counts_are_refused(shape: Any) -> None:
    said = {**entry_of("a", SMALL["a"]), "shape": shape}
    assert_refused_cheaply(container(told(arrays=[said, *told()["arrays"][1:]]), members()), "a: must ")


@pytest.mark.parametrize("name", ["../a", "/a", "a/b", "..", "a\\b", "", ".a", "ä", "a\n", "a\0", 3, None])
def test_names_that_lead_elsewhere_are_refused(name: Any) -> None:
    said = {**entry_of("a", SMALL["a"]), "name": name}
    content = container(told(arrays=[said, *told()["arrays"][1:]]), [(str(name), npy_of(SMALL["a"])), *members()[1:]])
    assert_refused(content, "header: an array must be named by|header: TypeError")


@pytest.mark.parametrize("name", ["a", "b", "header", "header_sha256"])
def test_a_member_that_is_there_twice_is_refused(name: str) -> None:
    again = (name, npy_of(SMALL["a"]))
    said = {**entry_of("a", SMALL["a"]), "name": name}
    assert_refused(
        container(told(arrays=[*told()["arrays"], said]), [*members(), again]), "every array must have a name of its own"
    )
    assert_refused(container(told(), [*members(), again]), "must have .* bytes, as the header says, got .* one more is there")


def test_an_extra_member_is_refused() -> None:
    assert_refused(
        container(told(), [*members(), ("c", npy_of(SMALL["a"]))]), "must have .*, got .*: a member is cut, or one more is there"
    )
    smuggled = npy("<f8", (2, 3), SMALL["b"].tobytes())[:-48]  # in the place of another, which is as long
    assert_refused(
        container(told(), [members()[0], ("c", smuggled + SMALL["b"].tobytes()), members()[2]]), "b: must begin as its name"
    )


@pytest.mark.parametrize("name", SMALL)
def test_a_missing_member_is_refused(name: str) -> None:
    left = [member for member in members() if member[0] != name]
    assert_refused(container(told(), left), "must have .* bytes, as the header says, got ")


def test_swapped_arrays_are_refused() -> None:
    assert_refused(
        container(told(), members(a=npy_of(SMALL["b"]), b=npy_of(SMALL["a"]))), "a: its sha256 is not the one in the header"
    )
    a, b, ids = members()
    assert_refused(container(told(), [b, a, ids]), "a: must begin as its name")


@pytest.mark.parametrize(("offset", "of_entry"), [(6, False), (8, True)])
def test_an_encrypted_member_is_refused(offset: int, of_entry: bool) -> None:
    """Bit 0 of the flags, before the member or in the directory."""
    content = bytearray(container(told(), members()))
    places = [i for i in range(len(content)) if content[i : i + 4] == (b"PK\x01\x02" if of_entry else b"PK\x03\x04")]
    assert len(places) == 2 + len(SMALL)
    for place, name in zip(places, ["header", "header_sha256", *SMALL], strict=True):
        flagged = bytearray(content)
        flagged[place + offset] |= 1
        assert_refused(flagged, "the directory of the archive is not that of its members" if of_entry else f"{name}: must begin as")


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("a", npy("<f4", (2, 6), SMALL["a"].tobytes())),
        ("a", npy("<i8", (2, 3), SMALL["a"].tobytes())),
        ("a", npy("<f8", (3, 2), SMALL["a"].tobytes())),
        ("a", npy("<f8", (6,), SMALL["a"].tobytes())),
        ("a", npy_of(SMALL["a"]).replace(b"False", b"True ")),
        ("a", npy_of(SMALL["a"]).replace(b"NUMPY\x01", b"NUMPY\x02")),
        ("ids", npy("<U4", (1,), SMALL["ids"].tobytes())),
    ],
)
def test_a_member_that_describes_itself_otherwise_than_the_header_is_refused(name: str, changed: bytes) -> None:
    assert_refused(container(told(), members(**{name: changed})), f"{name}: must begin as its name, type, size and CRC-32 say")


def test_bytes_between_a_member_and_the_next_are_refused() -> None:
    assert_refused(container(told(), members(a=npy_of(SMALL["a"]) + b"\0")), "must have .* bytes, as the header says")
    assert_refused(container(told(), members(), comment=b"hello"), "must have .* bytes, as the header says")


def test_a_hash_of_the_header_that_is_wrong_is_refused() -> None:
    assert_refused(container(told(), members(), digest=b"\0" * 32), "header: its sha256 is not the one in header_sha256")
    assert_refused(container(told(), members(), digest=b"\0" * 31), "header_sha256: must begin as")


@pytest.mark.parametrize("digest", ["0" * 64, "0" * 63, "", "G" * 64, None, 3])
def test_a_hash_of_an_array_that_is_wrong_is_refused(digest: Any) -> None:
    said = {**entry_of("a", SMALL["a"]), "sha256": digest}
    content = container(told(arrays=[said, *told()["arrays"][1:]]), members())
    assert_refused(content, "a: its sha256 is not the one|with a sha256, got|header: TypeError")


def test_text_that_is_not_unicode_is_refused() -> None:
    """No Python string can hold such a character, and NumPy would say so only when it is looked at."""
    ids = np.array([0x110000, 0x61], dtype="<u4").view("<U1")
    assert_refused(container_of(KIND, {}, {"ids": ids}), "ids: must be Unicode text")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"{", "header: JSONDecodeError"),
        (b"\xff", "header: "),
        (b"[" * 10**5, "header: RecursionError"),
        (b"[" * 40 + b"]" * 40, "header: AttributeError"),
        (b"[]", "header: AttributeError"),
        (b"3", "header: AttributeError"),
        (b"{}", f"header: expected format '{KIND}', got None"),
        (b"9" * 10**4, "header: ValueError"),
        (shortest(told(format=1)), f"header: expected format '{KIND}', got 1"),
        (shortest(told(format="c2f-ref test 2")), f"header: expected format '{KIND}', got 'c2f-ref test 2'"),
        (shortest(told(header=[])), "must have format, header, versions and arrays"),
        (shortest(told(more=1)), "must have format, header, versions and arrays"),
        (
            shortest({name: value for name, value in told().items() if name != "arrays"}),
            "must have format, header, versions and arrays",
        ),
        (shortest(told(arrays=3)), "header: TypeError"),
        (shortest(told(arrays=[3])), "header: TypeError"),
        (shortest(told(arrays=[{}])), "header: TypeError"),
        (shortest(told(arrays=[entry_of("a", SMALL["a"]) | {"fortran": True}])), "header: TypeError"),
        (shortest(told()).replace(b",", b", "), "in its shortest form, keys in order"),
        (shortest(told()).replace(b'"header":{}', b'"header":{"a":1,"a":2}'), "in its shortest form, keys in order"),
        (shortest(told()).replace(b'"header":{}', b'"header":{"a":1e5}'), "in its shortest form, keys in order"),
    ],
)
def test_another_header_is_told(text: bytes, words: str) -> None:
    assert_refused(container(text, members()), words)


def test_a_header_of_more_than_4_mib_is_neither_read_nor_written(tmp_path: Path) -> None:
    long = {"long": "x" * HEADER_LIMIT}
    assert_refused_cheaply(container(told(header=long), members()), "expected a file of format")
    with pytest.raises(ValueError, match="must be JSON of at most 4,194,304 bytes"):
        write_container(tmp_path / "f", KIND, long, {})
    assert os.listdir(tmp_path) == []


# What reading takes


def test_a_file_above_the_cap_is_not_read(content: bytes) -> None:
    assert_intact(read(content, max_bytes=len(content)))
    with pytest.raises(BundleError, match=rf"file\.npz: must have at most {len(content) - 1:,} bytes, got {len(content):,}"):
        read(content, max_bytes=len(content) - 1)


def test_reading_takes_the_arrays_and_little_else(tmp_path: Path) -> None:
    """4 MiB in all; a second copy of them would be seen."""
    path = tmp_path / "f"
    write_container(path, KIND, {}, {f"a{i}": np.full((64, 2**11), i / 8) for i in range(4)})
    size = path.stat().st_size
    read_container(path, KIND)
    assert size <= peak_of(lambda: read_container(path, KIND)) + 2**11 < size + 2**17
    assert peak_of(lambda: read_header(path, KIND)) < 2**17


def test_reading_opens_files_and_does_nothing_else(content: bytes, tmp_path: Path) -> None:
    """Nothing is unpickled, compiled or run, and nobody is called: an audit hook of a fresh process sees only files opened."""
    (tmp_path / "good").write_bytes(content)
    stream = io.BytesIO()
    np.save(stream, np.array([Trap(tmp_path / "sprung")], dtype=object), allow_pickle=True)
    for name, damaged in {
        "pickle": container(told(), members(a=stream.getvalue())),
        "cut": content[:-1],
        "text": b"import os",
        "bomb": container(told(), members(), compression=zipfile.ZIP_DEFLATED),
    }.items():
        (tmp_path / name).write_bytes(damaged)
    bad = [tmp_path / name for name in ("pickle", "cut", "text", "bomb")]
    events = events_of_reading("c2f_ref.container", "read_container", KIND, good=tmp_path / "good", bad=bad)
    assert {"open"} <= events <= HARMLESS
    assert not (tmp_path / "sprung").exists()


def test_numpy_is_all_that_is_loaded() -> None:
    code = "import sys, c2f_ref.container; print(*{'numpy', 'scipy', 'numba', 'sklearn'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PROJECT, check=True)
    assert done.stdout.split() == ["numpy"]


# Writing


def test_what_no_reader_could_read_is_not_written(content: bytes, tmp_path: Path) -> None:
    """Neither a header that is no JSON, nor an array of Python objects, nor a name that leads elsewhere."""
    path = tmp_path / "file.npz"
    path.write_bytes(content)
    refused: list[tuple[Any, dict[str, Any]]] = [
        ({"a": object()}, {}),
        ({10: 0, 9: 0}, {}),  # as words they stand in another order
        ({}, {"a": np.array([object()])}),
        ({}, {"a": np.zeros(2, dtype=[("x", "f4")])}),
        ({}, {"a": np.array([True])}),
        ({}, {"../a": np.ones(2)}),
        ({}, {"header": np.ones(2)}),
        ({}, {"a": np.zeros((1,) * 9)}),
    ]
    for header, parts in refused:
        with pytest.raises((TypeError, ValueError)):
            write_container(path, KIND, header, parts)
    assert path.read_bytes() == content
    assert os.listdir(tmp_path) == ["file.npz"]


def test_other_bytes_read_back_than_written_are_told(content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file.npz"
    path.write_bytes(content)
    opened = Path.open

    class Forgetful(io.BufferedRandom):
        """A disk that loses a bit in the middle of what is read back."""

        def read(self, size: int | None = -1, /) -> bytes:
            told = bytearray(super().read(size))
            if len(told) == 96:
                told[7] ^= 1
            return bytes(told)

    def open_forgetful(path: Path, mode: str = "r", *rest: Any) -> Any:
        return Forgetful(io.FileIO(path, "x+")) if mode == "x+b" else opened(path, mode, *rest)

    monkeypatch.setattr(Path, "open", open_forgetful)
    with pytest.raises(OSError, match="other bytes are read back than were written"):
        write_container(path, KIND, {}, {"a": np.arange(12.0)})
    write_container(path, KIND, {}, {"a": np.arange(13.0)})
    assert read_container(path, KIND)[1]["a"].size == 13
    assert os.listdir(tmp_path) == ["file.npz"]


def test_a_write_takes_the_place_of_the_old_file(tmp_path: Path) -> None:
    for number in (1, 2):
        write_container(tmp_path / "f", KIND, {"number": number}, {})
        assert read_container(tmp_path / "f", KIND) == ({"number": number}, {})


def test_a_folder_that_is_not_there_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="absent"):
        write_container(tmp_path / "absent" / "f", KIND, {}, {})
