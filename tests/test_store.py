"""The file of models, checkpoints and splits: exact round trips, damage found, safe saving."""

from __future__ import annotations

import errno
import io
import json
import math
import os
import subprocess
import sys
import zipfile
from functools import partial
from pathlib import Path
from typing import Any

import mutate_models
import numpy as np
import pytest
from conftest import PROJECT
from hypothesis import given
from hypothesis import strategies as st
from mutate_models import archive, described, npy, npy_of, signed
from support.audit import HARMLESS, events_of_reading, peak_of
from support.faults import failing_at
from support.strategies import rngs

from c2f_ref.store import (
    DTYPES,
    HEADER_LIMIT,
    STALE_SECONDS,
    StoreError,
    pack_text,
    read_arrays,
    read_header,
    read_store,
    replacing,
    require_place,
    unpack_text,
    write_store,
)

KIND = "c2f-ref test 1"
HEADER = {"title": "Zoë", "numbers": [1, 2.5, None], "nested": {"a": {"b": True}}}
ARRAYS = {
    "table": np.random.default_rng(0).normal(size=(64, 32)),
    "few too": np.array([-0.0, 5e-324, np.nan]),
    "none.at_all": np.zeros((0, 7), dtype=np.uint16),
    "one": np.array(3, dtype=np.int8),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file that holds `HEADER` and `ARRAYS`."""
    write_store(tmp_path / "file.npz", KIND, HEADER, ARRAYS)
    return tmp_path / "file.npz"


def bits(arrays: Any) -> dict[str, Any]:
    return {name: (array.dtype.str, array.shape, array.tobytes()) for name, array in arrays.items()}


def assert_refused(path: Path, content: bytes, words: str = "file", read: Any = None) -> None:
    """The content is refused, and the error names the file."""
    path.write_bytes(content)
    with pytest.raises(StoreError, match=words) as caught:
        (read or read_store)(path, KIND)
    assert f"{path}: " in str(caught.value)


def peak_of_refusing(path: Path, content: bytes, words: str = "file", read: Any = None) -> int:
    """Bytes allocated while the content is refused again."""
    assert_refused(path, content, words, read)
    return peak_of(lambda: assert_refused(path, content, words, read)) - len(content)


# Round trips

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**200), 2**200)
    | st.floats(allow_nan=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.text(), JSON, max_size=3), st.sampled_from(DTYPES), rngs())
def test_what_is_written_is_read_bit_for_bit(
    tmp_path_factory: pytest.TempPathFactory, header: Any, dtype: str, rng: np.random.Generator
) -> None:
    """Every bit pattern of a type, NaN with all its bits among them; empty and 0-d arrays too."""
    written = {}
    for name, shape in (("a", (3, 4)), ("b", (0, 2)), ("c", ()), ("d d", (5,)), ("e.f", (2, 3, 1))):
        raw = rng.integers(256, size=math.prod(shape) * np.dtype(dtype).itemsize, dtype=np.uint8)
        written[name] = np.frombuffer(raw.tobytes(), dtype).reshape(shape)
    path = tmp_path_factory.getbasetemp() / "a file"  # no suffix is added
    write_store(path, KIND, header, written)
    found, arrays = read_store(path, KIND)
    assert repr(found) == repr(header)
    assert list(arrays) == list(written)
    assert bits(arrays) == bits(written)
    assert all(array.flags.writeable and array.flags.aligned for array in arrays.values())
    assert read_header(path, KIND) == (found, described(KIND, {}, written)["arrays"])


def test_the_same_content_gives_the_same_bytes_which_numpy_reads(path: Path) -> None:
    """In any memory layout and byte order of the arrays; neither time nor host is in it."""
    content, table = path.read_bytes(), ARRAYS["table"]
    write_store(path, KIND, HEADER, ARRAYS | {"table": np.asfortranarray(table.astype(">f8"))})
    assert path.read_bytes() == content
    with np.load(path) as members:
        assert members.files == ["header", "header_sha256", *ARRAYS]
        assert bits({name: members[name] for name in ARRAYS}) == bits(ARRAYS)
        whole = json.loads(members["header"].tobytes())
    assert whole.keys() == {"format", "header", "versions", "arrays"}
    assert whole["versions"].keys() == {"c2f_ref", "numpy", "python"}
    with zipfile.ZipFile(path) as opened:
        infos = opened.infolist()
    assert {(info.date_time, info.create_system) for info in infos} == {((1980, 1, 1, 0, 0, 0), 3)}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_plain_npz_files_of_others_are_read(path: Path, save: Any) -> None:
    save(path, **ARRAYS)
    assert bits(read_arrays(path)) == bits(ARRAYS)
    with pytest.raises(StoreError, match="expected an uncompressed file of format"):
        read_store(path, KIND)
    save(path, zeros=np.zeros(10**6))
    with pytest.raises(StoreError, match="at most 7,999,999 bytes"):
        read_arrays(path, max_bytes=8 * 10**6 - 1)


def test_what_no_reader_takes_is_not_written(path: Path) -> None:
    content = path.read_bytes()
    refused: list[tuple[Any, dict[str, Any]]] = [
        ({"a": object()}, {}),
        ({"long": "x" * HEADER_LIMIT}, {}),
        ({}, {"a": np.array([object()])}),
        ({}, {"a": np.zeros(2, dtype=[("x", "f4")])}),
        ({}, {"a": np.array([True])}),
        ({}, {"a": np.array(["text"])}),
        ({}, {"a": np.array([1j])}),
        ({}, {"header": np.ones(2)}),
        ({}, {"a\0b": np.ones(2)}),
    ]
    for header, arrays in refused:
        with pytest.raises((TypeError, StoreError)):
            write_store(path, KIND, header, arrays)
    assert path.read_bytes() == content
    assert os.listdir(path.parent) == ["file.npz"]


# Text


@given(st.lists(st.text().filter(lambda text: not text.endswith("\0"))))
def test_text_comes_back_exactly(texts: list[str]) -> None:
    """Empty text, NUL inside and characters of four bytes too."""
    content, starts = pack_text(texts)
    assert unpack_text(content, starts) == texts
    assert content.size == len("".join(texts).encode())
    assert starts.dtype == np.min_scalar_type(content.size)
    given = np.array(texts, dtype=np.str_)
    assert unpack_text(*pack_text(given)) == given.tolist()


@pytest.mark.parametrize("text", ["a\0", "\0", "\ud800", "a\udfff"])
def test_text_that_no_array_could_give_back_is_refused(text: str) -> None:
    with pytest.raises(StoreError, match="text must"):
        pack_text(["a", text])


@pytest.mark.parametrize(
    ("content", "starts", "dtype"),
    [
        (b"ab", [0, 1], "u1"),
        (b"ab", [1, 2], "u1"),
        (b"ab", [0, 2, 1, 2], "u1"),
        (b"ab", [0, 3, 2], "u1"),
        (b"ab", [], "u1"),
        (b"", [], "u1"),
        (b"ab", [0, 2], "u2"),
        (b"ab", [0, 2], "i8"),
        (b"ab", [[0, 2]], "u1"),
        (b"\xc3\xab", [0, 1, 2], "u1"),
        (b"\xff", [0, 1], "u1"),
        (b"\xed\xa0\x80", [0, 3], "u1"),
        (b"a\0", [0, 2], "u1"),
    ],
)
def test_packed_text_that_no_text_gives_is_refused(content: Any, starts: Any, dtype: str) -> None:
    with pytest.raises(StoreError, match=r"text must|starts of text must"):
        unpack_text(np.frombuffer(content, np.uint8), np.array(starts, dtype=dtype))


# Damage


@pytest.mark.parametrize("number", range(6))
def test_6000_damaged_files_are_refused_or_unchanged(tmp_path: Path, number: int) -> None:
    """A model in four forms, a checkpoint, a split; `python tests/mutate_models.py` makes more."""
    rng = np.random.default_rng([6000, number])
    payload = mutate_models.payloads(rng)[number]
    outcomes = mutate_models.run(tmp_path / "file.npz", payload, 1000, rng=rng)
    assert outcomes.total() == 1000
    ways = {name.split(": ")[0] for name in outcomes}
    assert ways == {damage.__name__ for damage in mutate_models.DAMAGES}
    assert {name.split(": ")[1] for name in outcomes} <= {"refused", "unchanged", "other content"}
    assert [name for name in outcomes if name.endswith("other content")] in (
        [],
        ["resign: other content"],
    )
    assert outcomes["resign: refused"] > 10


def test_a_reader_that_misses_damage_is_caught(tmp_path: Path) -> None:
    """One that gives other content in silence, and one that raises another error."""
    rng = np.random.default_rng(0)
    payload = mutate_models.of_arrays("k", {}, {"a": np.arange(500.0)})
    readers = {
        AssertionError: lambda path: path.read_bytes()[700:4700],
        ValueError: lambda path: np.frombuffer(path.read_bytes()[700:]).size,
    }
    for error, read in readers.items():
        with pytest.raises(error) as caught:
            mutate_models.run(tmp_path / "f", payload._replace(read=read), 3000, rng=rng)
        assert caught.type is error


def test_a_file_above_the_cap_or_of_another_format_is_named(path: Path) -> None:
    size = path.stat().st_size
    assert bits(read_store(path, KIND, max_bytes=size)[1]) == bits(ARRAYS)
    for read in (partial(read_store, path, KIND), partial(read_arrays, path)):
        with pytest.raises(StoreError, match=rf"at most {size - 1:,} bytes, got {size:,}"):
            read(max_bytes=size - 1)
    with pytest.raises(StoreError, match=f"expected format 'other', got '{KIND}'"):
        read_store(path, "other")
    for content in (b"", b"user,item\n", npy_of(np.zeros(3)), archive([])):
        assert_refused(path, content, "expected an")


@pytest.mark.parametrize(
    "shape",
    [(2**33,), (2**62,), (10**30,), (-2, -3), (2.0, 3), ("6",), (6, True), "6", None, 6, ((6,),)],
)
@pytest.mark.parametrize("is_in_member", [True, False])
def test_strange_shapes_are_refused_and_allocate_nothing(
    path: Path, shape: Any, is_in_member: bool
) -> None:
    """In the JSON alone or in the member too, with hashes that fit."""
    array = np.arange(6.0)
    whole = described(KIND, {}, {"a": array})
    whole["arrays"]["a"]["shape"] = shape
    raw = npy("<f8", shape, array.tobytes()) if is_in_member else npy_of(array)
    assert peak_of_refusing(path, signed(whole, {"a": raw})) < 2**17


def test_members_that_overlap_or_are_too_many_allocate_nothing(path: Path) -> None:
    """A hundred entries of the directory for one member of 1 MB, as a ZIP bomb has them."""
    array = np.zeros(2**17)
    content = bytearray(archive([("a.npy", npy_of(array))]))
    start = content.index(b"PK\1\2")
    entry, end = bytes(content[start:-22]), bytearray(content[-22:])
    entries = b"".join(
        entry.replace(b"a.npy", bytes([97 + i // 26, 97 + i % 26]) + b"npy") for i in range(100)
    )
    end[8:10] = end[10:12] = (100).to_bytes(2, "little")
    end[12:16] = len(entries).to_bytes(4, "little")
    bomb, words = bytes(content[:start]) + entries + bytes(end), "different members of at most 1,"
    assert peak_of_refusing(path, bomb, words, lambda path, _: read_arrays(path)) < 2**19
    crowd, words = archive((f"{number}.npy", b"") for number in range(5000)), "ends with the dir"
    assert peak_of_refusing(path, crowd, words, lambda path, _: read_arrays(path)) < 2**16


@pytest.mark.parametrize(
    "dtype", ["|O", "|V8", "<c16", "|b1", ">f8", "<f16", "<M8[s]", "|S3", "<U1", "", 3, None]
)
def test_types_other_than_plain_numbers_are_refused(path: Path, dtype: Any) -> None:
    array = np.arange(6.0)
    whole = described(KIND, {}, {"a": array})
    assert_refused(path, signed(whole, {"a": npy(dtype, (6,), array.tobytes())}))
    whole["arrays"]["a"]["dtype"] = dtype
    assert_refused(path, signed(whole, {"a": array}), r"a: must be .*, got .*'<f8'")


class Trap:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_reading_opens_files_and_does_nothing_else(path: Path, tmp_path: Path) -> None:
    """Nothing is unpickled or run: an audit hook of a fresh process sees only files opened.

    (`compile` makes a syntax tree of the header of a `.npy` member, by `ast.literal_eval`.)
    """
    stream = io.BytesIO()
    np.save(stream, np.array([Trap(tmp_path / "sprung")], dtype=object), allow_pickle=True)
    whole = described(KIND, {}, {"a": np.zeros(1)})
    whole["arrays"]["a"]["dtype"] = "|O"
    damaged = {
        "pickle": signed(whole, {"a": stream.getvalue()}),
        "cut": path.read_bytes()[:-1],
        "text": b"import os",
    }
    for name, content in damaged.items():
        (tmp_path / name).write_bytes(content)
    bad = [tmp_path / name for name in damaged]
    events = events_of_reading("c2f_ref.store", "read_store", KIND, good=path, bad=bad)
    assert {"open"} <= events <= {*HARMLESS, "compile"}
    assert not (tmp_path / "sprung").exists()
    np.load(io.BytesIO(stream.getvalue()), allow_pickle=True)
    assert (tmp_path / "sprung").exists()  # it is a trap


@pytest.mark.parametrize(
    "text",
    [
        b"{", b"\xff", b"[" * 10**5, b"[" * 40 + b"]" * 40, b"[]", b"3", b"{}", b"9" * 10**4,
        json.dumps(described(KIND, [], {})).encode(),
        json.dumps(described(KIND, {}, {}) | {"arrays": 3}).encode(),
        json.dumps(described(KIND, {}, {}) | {"arrays": {"a": 3}}).encode(),
        json.dumps(described(KIND, {}, {}) | {"arrays": {"a": {}}}).encode(),
        json.dumps(described(KIND, {}, {}) | {"arrays": {"a": {"shape": [1]}}}).encode(),
        json.dumps({"format": KIND, "arrays": {}}).encode(),
    ],
    ids=str,
)  # fmt: skip
def test_json_that_no_writer_writes_is_refused(path: Path, text: bytes) -> None:
    assert_refused(path, signed(text, {"a": np.zeros(1)}))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: m.update(c=np.ones(2)), "expected arrays"),
        (lambda m: m.pop("a"), "expected arrays"),
        (lambda m: m.update(a=m["b"], b=m["a"]), "a: must be .*'sha256': .*, got "),
        (lambda m: m.update(a=m.pop("a")), "expected arrays"),
        (
            lambda m: m.update(a=npy("<i8", (6,), m["a"].tobytes())),
            "a: must be .*'dtype': .*, got ",
        ),
        (
            lambda m: m.update(a=npy("<f8", (2, 3), m["a"].tobytes())),
            "a: must be .*'shape': .*, go",
        ),
        (lambda m: m.update(a=npy("<f8", (6,), b"")), "a: 0 bytes are not float64"),
        (lambda m: m.update(a=npy_of(m["a"]) + b"\0"), "a: 49 bytes are not float64"),
        (lambda m: m.update(a=npy("<f8", (6,), m["a"].tobytes(), is_fortran=True)), "in C order"),
        (lambda m: m.update(a=npy_of(m["a"]).replace(b"Y\1", b"Y\2")), "a: must be of version 1.0"),
    ],
)
def test_members_that_are_not_what_the_json_says_are_refused(
    path: Path, change: Any, words: str
) -> None:
    """Added, missing, exchanged, in another order, of another type, shape, length or layout."""
    arrays: dict[str, Any] = {"a": np.arange(6.0), "b": np.arange(6.0) + 1}
    whole = described(KIND, {}, arrays)
    change(arrays)
    assert_refused(path, signed(whole, arrays), words)


def test_a_member_that_is_there_twice_is_refused(path: Path) -> None:
    whole = described(KIND, {}, {"a": np.zeros(3)})
    with zipfile.ZipFile(io.BytesIO(signed(whole, {"a": np.zeros(3)}))) as opened:
        members = [(name, opened.read(name)) for name in opened.namelist()]
    for again in members:
        assert_refused(path, archive([*members, again]), "expected different members")


def test_a_header_that_was_changed_without_its_hash_is_refused(path: Path) -> None:
    """The checksums of ZIP are right, since the archive was written anew."""
    with zipfile.ZipFile(path) as opened:
        members = {name: opened.read(name) for name in opened.namelist()}
    members["header.npy"] = members["header.npy"].replace(b"Zo", b"Ta")
    assert_refused(path, archive(members.items()), "its sha256 is not the one in header_sha256")


# Memory and modules


def test_reading_takes_the_arrays_and_little_else(tmp_path: Path) -> None:
    """4 MiB in all; a second copy of one of them would be seen."""
    path = tmp_path / "f"
    write_store(path, KIND, {}, {f"a{i}": np.full((64, 2**11), i / 8) for i in range(4)})
    size = path.stat().st_size
    read_store(path, KIND)
    assert size <= peak_of(lambda: read_store(path, KIND)) + 2**12 < size + 2**18
    assert peak_of(lambda: read_header(path, KIND)) < 2**17


def test_numpy_is_all_that_is_loaded() -> None:
    """By the device, which imports store and model."""
    heavy = "{'numpy', 'scipy', 'numba', 'sklearn', 'matplotlib'}"
    code = f"import sys, c2f_ref.device; print(*{heavy} & set(sys.modules))"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=PROJECT, check=True)
    assert done.stdout.split() == ["numpy"]


# Saving: whatever fails, and whenever, the old file or the new one is there and nothing else

ERRORS = {
    "disk full": OSError(errno.ENOSPC, "No space left on device"),
    "no memory": MemoryError("no memory"),
    "Ctrl-C": KeyboardInterrupt("stopped"),
}


def save(path: Path, content: bytes) -> None:
    with replacing(path) as file:
        for place in range(0, len(content), 3):
            file.write(content[place : place + 3])


@pytest.mark.parametrize("has_old", [True, False])
@pytest.mark.parametrize("error", ERRORS.values(), ids=list(ERRORS))
def test_a_call_that_fails_leaves_the_old_file_or_the_new_one_and_nothing_else(
    tmp_path: Path, error: BaseException, has_old: bool
) -> None:
    """Every call in turn: open, three writes, flush, close, rename, open and flush the folder."""
    path, left = tmp_path / "f", []
    for place in range(100):
        path.unlink(missing_ok=True)
        if has_old:
            path.write_bytes(b"old")
        with pytest.MonkeyPatch.context() as patched:
            calls = failing_at(patched, place, error)
            try:
                save(path, b"new file")
            except BaseException as caught:
                assert caught is error  # noqa: PT017
            else:
                break
        left.append(path.read_bytes() if path.exists() else b"")
        assert os.listdir(tmp_path) == (["f"] if left[-1] else [])
    assert " ".join(calls) == "open write write write fsync close replace open fsync"
    assert left == [b"old" if has_old else b""] * 7 + [b"new file"] * 2


def test_writing_a_store_that_fails_anywhere_leaves_the_old_one(path: Path) -> None:
    content, error = path.read_bytes(), OSError(errno.EIO, "Input/output error")
    for place in range(1000):
        with pytest.MonkeyPatch.context() as patched:
            failing_at(patched, place, error)
            try:
                write_store(path, KIND, {}, {"a": np.arange(9.0)})
            except (OSError, StoreError):
                assert os.listdir(path.parent) == ["file.npz"]
            else:
                break
    assert place > 10
    assert path.read_bytes() != content
    assert read_store(path, KIND)[1]["a"].size == 9


def test_other_bytes_on_the_disk_than_were_written_are_found(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content, opened = path.read_bytes(), Path.open

    class Forgetful(io.BufferedRandom):
        """A disk that loses a bit of the longest piece."""

        def write(self, piece: Any, /) -> int:
            changed = bytearray(piece)
            if len(changed) > 2000:
                changed[7] ^= 1
            return super().write(changed)

    def open_forgetful(path: Path, mode: str = "r", *rest: Any) -> Any:
        return Forgetful(io.FileIO(path, "x+")) if mode == "x+b" else opened(path, mode, *rest)

    monkeypatch.setattr(Path, "open", open_forgetful)
    with pytest.raises(StoreError, match=r"file\.npz: "):
        write_store(path, KIND, {}, {"a": np.arange(999.0)})
    assert path.read_bytes() == content
    write_store(path, KIND, {}, {"a": np.arange(13.0)})
    assert read_store(path, KIND)[1]["a"].size == 13


def test_what_cannot_be_a_file_is_an_os_error_and_stays(tmp_path: Path) -> None:
    (tmp_path / "f").mkdir()
    for path in (tmp_path / "absent" / "f", tmp_path / "f"):
        with pytest.raises(OSError, match=r"absent|f"):
            save(path, b"")
        with pytest.raises(OSError, match=r"absent|f"):
            require_place(path)
    require_place(tmp_path / "new")
    assert os.listdir(tmp_path) == ["f"]
    assert (tmp_path / "f").is_dir()


@pytest.mark.parametrize("name", ["f", "[a]*?", ".hidden", "x" * 255, "Zoë " * 30])
def test_what_a_killed_process_left_is_removed_by_a_save_of_that_path_an_hour_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A younger file, which another process may be writing, stays; so does that of another path."""
    for path in (tmp_path / name, tmp_path / "other"):
        with monkeypatch.context() as killed:
            killed.setattr(Path, "unlink", lambda *_, **__: None)
            killed.setattr(os, "replace", lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                save(path, b"left")
    left = {path.name for path in tmp_path.iterdir()}
    assert len(left) == 2
    save(tmp_path / name, b"young")
    assert {path.name for path in tmp_path.iterdir()} == left | {name}
    for temporary in left:
        then = (tmp_path / temporary).stat().st_mtime - STALE_SECONDS - 60
        os.utime(tmp_path / temporary, (then, then))
    save(tmp_path / name, b"old")
    assert len({path.name for path in tmp_path.iterdir()}) == 2
    save(tmp_path / "other", b"old")
    assert {path.name for path in tmp_path.iterdir()} == {name, "other"}
