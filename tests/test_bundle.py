"""The model file: round trips bit for bit, and what is no model is told. What is true of every container: `test_container`."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from support.strategies import draw_model, models, rngs

from c2f_ref.bundle import DENSE, SPARSE, Model, load_model, save_model
from c2f_ref.container import BundleError, write_container
from c2f_ref.spec import Settings, SpecError

USER_IDS = {"int": lambda n: np.arange(n) * 7 - 3, "str": lambda n: np.array([f"Zoë {number}" for number in range(n)])}


def model_of(drawn: Any, kind: str = "str", *, fine: bool = True) -> Model:
    """A model of the sizes and tables that the strategies draw."""
    shape = (drawn.n_users, drawn.n_items)
    return Model(
        settings=drawn.settings,
        user_ids=USER_IDS[kind](drawn.n_users),
        item_ids=np.array([f"i{item}" for item in range(drawn.n_items)]),
        seen=sparse.csr_array((np.ones(drawn.users.size), (drawn.users, drawn.items)), shape=shape),
        bias=drawn.bias,
        coarse=drawn.coarse,
        coarse_assignment=drawn.coarse_assignment,
        fine=drawn.fine if fine else None,
        fine_assignment=drawn.fine_assignment if fine else None,
        provenance={"split": "ratio", "seed": "3"},
    )


@pytest.fixture(scope="module")
def model() -> Model:
    """Sizes: 5 users, 7 items, C = 4, F = 3, D = 6."""
    return model_of(draw_model((5, 7, 4, 3, 6, 8), np.random.default_rng(1)))


@pytest.fixture(scope="module")
def content(model: Model, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Bytes of the file of `model`."""
    path = tmp_path_factory.mktemp("bundle") / "model.npz"
    save_model(path, model)
    return path.read_bytes()


def loaded(content: bytes) -> Model:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.npz"
        path.write_bytes(content)
        return load_model(path)


def parts_of(model: Model) -> dict[str, Any]:
    """All that a model holds, as types, shapes and bytes."""
    arrays = {name: getattr(model, name) for name in DENSE}
    for name in SPARSE:
        matrix = getattr(model, name)
        arrays |= {f"{name}.{part}": matrix if matrix is None else getattr(matrix, part) for part in ("data", "indices", "indptr")}
        arrays[f"{name}.shape"] = None if matrix is None else np.array(matrix.shape)
    described = {name: a if a is None else (a.dtype.str, a.shape, a.tobytes()) for name, a in arrays.items()}
    return {"settings": model.settings, "provenance": dict(model.provenance), **described}


def members_of(content: bytes, folder: Path) -> dict[str, Any]:
    path = folder / "members.npz"
    path.write_bytes(content)
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


# Round trips


@given(models(), st.sampled_from(["int", "str"]), st.booleans())
def test_what_is_saved_is_loaded_bit_for_bit(drawn: Any, kind: str, fine: bool) -> None:
    model = model_of(drawn, kind, fine=fine)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "a model"  # no suffix is put behind the name
        save_model(path, model)
        assert parts_of(load_model(path)) == parts_of(model)
        assert os.listdir(folder) == ["a model"]


def test_numbers_that_json_does_not_know_survive(model: Model, tmp_path: Path) -> None:
    odd = replace(model, settings=replace(model.settings, threshold=math.inf, clip_limit=math.inf, pinv_rtol=0.1 + 0.2))
    save_model(tmp_path / "m", odd)
    assert load_model(tmp_path / "m").settings == odd.settings


def test_a_model_without_users_and_pairs_survives(tmp_path: Path) -> None:
    empty = Model(
        settings=Settings(n_coarse=2, n_fine=0, dim=3),
        user_ids=np.array([], dtype=np.int64),
        item_ids=np.array([], dtype=np.int64),
        seen=sparse.csr_array((0, 0)),
        bias=np.zeros(0),
        coarse=np.ones((2, 3)),
        coarse_assignment=sparse.csr_array((0, 2)),
    )
    save_model(tmp_path / "m", empty)
    assert parts_of(load_model(tmp_path / "m")) == parts_of(empty)


def test_the_same_model_gives_the_same_bytes(model: Model, content: bytes, tmp_path: Path) -> None:
    save_model(tmp_path / "again", model)
    assert (tmp_path / "again").read_bytes() == content


def test_the_file_holds_plain_arrays_and_nothing_to_unpickle(content: bytes, tmp_path: Path) -> None:
    members = members_of(content, tmp_path)  # refuses pickled members
    assert {array.dtype.kind for array in members.values()} == {"f", "i", "U"}
    assert json.loads(str(members["header"]))["format"] == "c2f-ref model 1"


# Damage


@given(rngs())
def test_a_changed_byte_is_told_or_changes_nothing(content: bytes, model: Model, rng: np.random.Generator) -> None:
    """Eight files of one changed byte each, in every example."""
    for place, change in zip(rng.integers(len(content), size=8), rng.integers(1, 256, size=8), strict=True):
        damaged = bytearray(content)
        damaged[place] ^= int(change)
        try:
            assert parts_of(loaded(damaged)) == parts_of(model)
        except BundleError as error:
            assert "model.npz" in str(error)  # noqa: PT017


def test_a_cut_file_is_told(content: bytes) -> None:
    for length in {*range(0, len(content), 97), *range(len(content) - 40, len(content))}:
        with pytest.raises(BundleError, match=r"model\.npz"):
            loaded(content[:length])


def test_a_file_of_another_kind_is_told(tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(b"text\n")
    write_container(tmp_path / "checkpoint", "c2f-ref checkpoint 1", {}, {})
    for name in ("text", "checkpoint"):
        with pytest.raises(BundleError, match=f"{name}: .*expected .*'c2f-ref model 1'"):
            load_model(tmp_path / name)


def test_no_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_model(tmp_path / "absent")


# Files that are no models


def rewritten(content: bytes, folder: Path, **changes: Callable[[Any], Any] | None) -> Path:
    """The file with members changed, or left out for None; in a name `__` stands for the dot."""
    members = members_of(content, folder)
    for name, change in changes.items():
        value = members.pop(name.replace("__", "."))
        if change is not None:
            members[name.replace("__", ".")] = change(value)
    with (folder / "changed.npz").open("wb") as file:
        np.savez(file, **members)
    return folder / "changed.npz"


MEMBERS = ["header", *DENSE, *(f"{name}__{part}" for name in SPARSE for part in ("data", "indices", "indptr", "shape"))]


@pytest.mark.parametrize("name", MEMBERS)
def test_a_missing_member_is_told_by_name(content: bytes, tmp_path: Path, name: str) -> None:
    path = rewritten(content, tmp_path, **{name: None})
    with pytest.raises(BundleError, match=f"changed.npz: .*{name.split('__')[0].split('_')[0]}"):
        load_model(path)


@pytest.mark.parametrize("name", [name for name in MEMBERS if name != "header"])
def test_a_member_of_another_size_is_told(content: bytes, tmp_path: Path, name: str) -> None:
    with pytest.raises(BundleError, match=r"changed\.npz"):
        load_model(rewritten(content, tmp_path, **{name: lambda array: array[:-1]}))


@pytest.mark.parametrize("name", [f"{name}__{part}" for name in SPARSE for part in ("indices", "indptr")])
@pytest.mark.parametrize("step", [-1, 100])
def test_places_outside_a_matrix_are_told(content: bytes, tmp_path: Path, name: str, step: int) -> None:
    with pytest.raises(BundleError, match=r"changed\.npz"):
        load_model(rewritten(content, tmp_path, **{name: lambda array: array + step}))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("bias", lambda array: array.astype(str)),
        ("coarse", lambda array: array * 1j),
        ("fine", lambda array: array * np.nan),
        ("coarse_assignment__data", lambda array: array * np.inf),
        ("seen__data", lambda array: array.astype(str)),
        ("seen__indices", lambda array: array + 0.5),
        ("user_ids", lambda array: np.linspace(0, 1, array.size)),
    ],
)
def test_members_that_are_no_numbers_of_a_model_are_told(content: bytes, tmp_path: Path, name: str, change: Any) -> None:
    with pytest.raises(BundleError, match=r"changed\.npz"):
        load_model(rewritten(content, tmp_path, **{name: change}))


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("", "Expecting value"),
        ("[" * 10**5, "changed.npz"),
        ("[]", "changed.npz"),
        ("{}", "'format' is missing"),
        ('{"format": "c2f-ref model 2"}', "expected format 'c2f-ref model 1', got 'c2f-ref model 2'"),
        ('{"format": "c2f-ref model 1"}', "'settings' is missing"),
        ('{"format": "c2f-ref model 1", "settings": {}}', "'provenance' is missing"),
        ('{"format": "c2f-ref model 1", "settings": {"dims": 1}, "provenance": {}}', "dims"),
        ('{"format": "c2f-ref model 1", "settings": {"dim": 0}, "provenance": {}}', "dim must be in"),
        ('{"format": "c2f-ref model 1", "settings": {}, "provenance": {}}', "must have shape"),
    ],
)
def test_another_header_is_told(content: bytes, tmp_path: Path, header: str, words: str) -> None:
    with pytest.raises(BundleError, match=words) as caught:
        load_model(rewritten(content, tmp_path, header=lambda _: np.array(header)))
    assert "changed.npz" in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"bias": np.zeros(11)}, r"bias must have shape \(12,\), got \(11,\)"),
        ({"coarse": np.zeros((4, 5))}, r"coarse must have shape \(4, 6\)"),
        ({"user_ids": np.arange(6)}, r"seen must have shape \(6, 7\)"),
        ({"fine": None}, "both a fine table and a fine assignment, or neither"),
        ({"fine_assignment": sparse.csr_array((3, 4))}, r"fine_assignment must have shape \(4, 3\)"),
        ({"coarse_assignment": sparse.csr_array((12, 3))}, r"coarse_assignment must have shape \(12, 4\)"),
    ],
)
def test_parts_that_do_not_fit_make_no_model(model: Model, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        replace(model, **changes)


# Saving


def test_a_save_takes_the_place_of_the_old_file(model: Model, tmp_path: Path) -> None:
    for seed in ("1", "2"):
        save_model(tmp_path / "m", replace(model, provenance={"seed": seed}))
        assert load_model(tmp_path / "m").provenance == {"seed": seed}


def test_a_folder_that_is_not_there_is_an_os_error(model: Model, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="absent"):
        save_model(tmp_path / "absent" / "m", model)


# What is stored


def test_stored_floats_by_hand() -> None:
    """C = 2, D = 3: 6. Five entities of 2 entries: 10. Three items: 3. At threshold 1, of E_f the entries 1.5 and -2 are left:
    2. S_f has 3 stored entries, an exact 0 among them: 3.
    """
    model = Model(
        settings=Settings(n_coarse=2, n_fine=2, dim=3, fine_per_coarse=2, threshold=1.0),
        user_ids=np.arange(2),
        item_ids=np.arange(3),
        seen=sparse.csr_array((2, 3)),
        bias=np.zeros(5),
        coarse=np.zeros((2, 3)),
        coarse_assignment=sparse.csr_array(np.full((5, 2), 0.5)),
        fine=np.array([[1.5, 1.0, -1.0], [-2.0, 0.0, 0.5]]),
        fine_assignment=sparse.csr_array(([0.5, 0.0, 1.0], [0, 1, 0], [0, 2, 3]), shape=(2, 2)),
    )
    assert model.stored_floats() == {"coarse": 6, "coarse_assignment": 10, "bias": 3, "fine": 2, "fine_assignment": 3}
    coarse_alone = replace(model, fine=None, fine_assignment=None)
    assert coarse_alone.stored_floats() == {"coarse": 6, "coarse_assignment": 10, "bias": 3}
