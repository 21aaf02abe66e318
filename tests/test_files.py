"""Files that are never half-written: whatever fails, and whenever, the old file or the new one is there and nothing else."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from support.faults import failing_at

from c2f_ref.files import STALE_SECONDS, replacing

ERRORS = {
    "disk full": OSError(errno.ENOSPC, "No space left on device"),
    "damaged disk": OSError(errno.EIO, "Input/output error"),
    "no memory": MemoryError("no memory"),
    "Ctrl-C": KeyboardInterrupt("stopped"),
}


def save(path: Path, content: bytes) -> None:
    with replacing(path) as file:
        for place in range(0, len(content), 3):
            file.write(content[place : place + 3])


def test_what_is_written_takes_the_place_of_the_old_file(tmp_path: Path) -> None:
    for content in (b"first", b"second one"):
        save(tmp_path / "f", content)
        assert (tmp_path / "f").read_bytes() == content
    save(Path(os.path.relpath(tmp_path / "f")), b"by a relative path")
    assert (tmp_path / "f").read_bytes() == b"by a relative path"
    assert os.listdir(tmp_path) == ["f"]


def test_the_file_can_be_read_back_before_it_takes_its_place(tmp_path: Path) -> None:
    with replacing(tmp_path / "f") as file:
        file.write(b"content")
        file.seek(0)
        assert file.read() == b"content"
        assert not (tmp_path / "f").exists()
    assert (tmp_path / "f").read_bytes() == b"content"


def test_a_block_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    save(tmp_path / "f", b"old")
    for error in ERRORS.values():

        def fail(error: BaseException = error) -> None:
            with replacing(tmp_path / "f") as file:
                file.write(b"new")
                raise error

        with pytest.raises(type(error)) as caught:
            fail()
        assert caught.value is error
        assert (tmp_path / "f").read_bytes() == b"old"
        assert os.listdir(tmp_path) == ["f"]


@pytest.mark.parametrize("has_old", [True, False])
@pytest.mark.parametrize("error", ERRORS.values(), ids=list(ERRORS))
def test_a_call_that_fails_leaves_the_old_file_or_the_new_one_and_nothing_else(
    tmp_path: Path, error: BaseException, has_old: bool
) -> None:
    """Every call in turn: opening, three writes, closing, flushing the file, renaming, opening and flushing the folder."""
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
    assert calls == ["open", "write", "write", "write", "fsync", "close", "replace", "open", "fsync"]
    assert left == [b"old" if has_old else b""] * 7 + [b"new file"] * 2


def test_a_folder_that_is_not_there_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="absent"):
        save(tmp_path / "absent" / "f", b"")


def test_a_folder_in_the_place_of_the_file_is_an_os_error_and_stays(tmp_path: Path) -> None:
    (tmp_path / "f").mkdir()
    with pytest.raises(OSError, match="f"):
        save(tmp_path / "f", b"")
    assert os.listdir(tmp_path) == ["f"]
    assert (tmp_path / "f").is_dir()


@pytest.mark.parametrize("name", ["f", "[a]*?", ".hidden", "x" * 255, "Zoë " * 30])
def test_what_a_killed_process_left_is_removed_by_a_save_of_that_path_an_hour_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """What is younger, a save that goes on elsewhere perhaps, stays, and so does what was left of another path."""
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
