"""The arrays of a model file: what is no model is told by the member at fault, with NumPy alone."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import PROJECT
from support.audit import peak_of
from support.models import model_of
from support.strategies import draw_model

from c2f_ref.container import BundleError, read_container, write_container
from c2f_ref.stored import FORMAT, METHOD, CompressedRows, FixedRows, StoredModel, read_stored, write_stored

SIZES = (5, 7, 4, 3, 6, 8)
"""Users, items, C, F, D; t = 2, 3 fine rows for a coarse one."""


def stored(kind: str = "compressed") -> StoredModel:
    """A model with the fine table in this form, or without one."""
    model = model_of(draw_model(SIZES, np.random.default_rng(1)), has_fine=kind != "coarse alone")
    if kind == "dense":
        model = replace(model, fine=np.linspace(2, 3, 18).reshape(3, 6))
    return model.stored()


KINDS = ("compressed", "dense", "coarse alone")


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def content_of(model: StoredModel) -> dict[str, Any]:
    """Types, shapes and bytes by name, and what is no array."""
    content: dict[str, Any] = {}
    for name, part in vars(model).items():
        arrays = {f"{name}.{field}": array for field, array in part._asdict().items()} if hasattr(part, "_asdict") else {name: part}
        content |= {key: (a.dtype.str, a.shape, a.tobytes()) if hasattr(a, "dtype") else a for key, a in arrays.items()}
    return content


def parts(path: Path, kind: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and arrays of a right file, to be made wrong."""
    write_stored(path, stored(kind))
    return read_container(path, FORMAT)


def assert_refused(path: Path, header: Any, arrays: dict[str, Any], words: str) -> None:
    write_container(path, FORMAT, header, arrays)
    with pytest.raises(BundleError, match=words) as caught:
        read_stored(path)
    assert str(caught.value).startswith(f"{path}: ")


# Round trips


def test_what_is_written_is_read_bit_for_bit(tmp_path: Path, kind: str) -> None:
    write_stored(tmp_path / "m", stored(kind))
    assert content_of(read_stored(tmp_path / "m")) == content_of(stored(kind))
    form = {"compressed": CompressedRows, "dense": np.ndarray, "coarse alone": type(None)}[kind]
    assert isinstance(read_stored(tmp_path / "m").fine, form)


def test_provenance_may_be_left_out(tmp_path: Path) -> None:
    write_stored(tmp_path / "m", replace(stored(), provenance=None))
    assert read_stored(tmp_path / "m").provenance == {}


def test_what_would_not_be_read_is_not_written(tmp_path: Path) -> None:
    wrong = replace(stored(), bias=np.full(7, np.nan))
    with pytest.raises(BundleError, match="bias: must be finite"):
        write_stored(tmp_path / "m", wrong)
    assert list(tmp_path.iterdir()) == []


def test_a_file_above_the_cap_is_not_read(tmp_path: Path) -> None:
    write_stored(tmp_path / "m", stored())
    size = (tmp_path / "m").stat().st_size
    assert read_stored(tmp_path / "m", max_bytes=size).n_users == 5
    with pytest.raises(BundleError, match=f"must have at most {size - 1:,} bytes"):
        read_stored(tmp_path / "m", max_bytes=size - 1)


def test_reading_and_checking_take_less_than_twice_the_file(tmp_path: Path) -> None:
    """20,001 users with 3 pairs each, 9,000 items with text for ids; 2 MB."""
    n_users, n_items, rng = 20_001, 9_000, np.random.default_rng(0)
    columns = np.sort(rng.permuted(np.tile(np.arange(n_items)[:: n_items // 30], (n_users, 1)), axis=1)[:, :3], axis=1)
    large = replace(
        stored(),
        user_ids=np.arange(n_users),
        item_ids=np.array([f"item {number}" for number in range(n_items)]),
        bias=rng.normal(size=n_items),
        graph_columns=columns.ravel().astype(np.uint16),
        graph_starts=np.arange(n_users + 1, dtype=np.uint16) * np.uint32(3),
        coarse_assignment=FixedRows(rng.random((29_001, 2)), np.tile(np.array([1, 3], dtype=np.uint8), (29_001, 1))),
    )
    write_stored(tmp_path / "m", replace(large, graph_starts=large.graph_starts.astype(np.uint16)))
    size = (tmp_path / "m").stat().st_size
    assert size > 10**6
    assert size < peak_of(lambda: read_stored(tmp_path / "m")) < 2 * size


def test_numpy_is_all_that_reading_loads(tmp_path: Path) -> None:
    write_stored(tmp_path / "m", stored())
    code = (
        "import sys; from c2f_ref.stored import read_stored; read_stored(sys.argv[1]); "
        "print(*{'numpy', 'scipy', 'numba', 'sklearn', 'matplotlib'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "m")], capture_output=True, text=True, cwd=PROJECT, check=True
    )
    assert done.stdout.split() == ["numpy"]


# Members


def test_a_missing_member_is_told_by_name(tmp_path: Path, kind: str) -> None:
    header, arrays = parts(tmp_path / "m", kind)
    for name in arrays:
        left = {key: array for key, array in arrays.items() if key != name}
        assert_refused(tmp_path / "m", header, left, f"{name}.*missing")


def test_a_member_that_belongs_to_no_model_is_told_by_name(tmp_path: Path, kind: str) -> None:
    header, arrays = parts(tmp_path / "m", kind)
    assert_refused(tmp_path / "m", header, arrays | {"seen": np.ones(3)}, "seen: missing, or one too many")


def test_a_fine_table_in_both_forms_is_refused(tmp_path: Path) -> None:
    header, arrays = parts(tmp_path / "m", "compressed")
    both = arrays | {"fine": np.full((3, 6), 2.0)}
    assert_refused(tmp_path / "m", header, both, "fine.*one too many")


# Types and shapes


@pytest.mark.parametrize("change", [lambda a: a[:-1], lambda a: np.concatenate([a, a[-1:]]), lambda a: a[None], lambda a: a[:0]])
def test_a_member_of_another_shape_is_told(tmp_path: Path, kind: str, change: Callable[[Any], Any]) -> None:
    """Ids are counted by themselves, so that other arrays do not fit where they have another number."""
    header, arrays = parts(tmp_path / "m", kind)
    for name, array in arrays.items():
        assert_refused(tmp_path / "m", header, arrays | {name: change(array)}, "must ")


INDEX = ("graph_columns", "graph_starts", "coarse_assignment.columns", "fine_assignment.columns", "fine.columns", "fine.starts")
VALUES = ("bias", "coarse_assignment.values", "fine_assignment.values")
TABLES = ("coarse", "fine", "fine.values")


@pytest.mark.parametrize("dtype", ["<i8", "<u2", "|i1", "<f4", "<U3"])
def test_columns_and_starts_of_another_type_than_the_narrowest_are_told(tmp_path: Path, kind: str, dtype: str) -> None:
    header, arrays = parts(tmp_path / "m", kind)
    for name in set(INDEX) & arrays.keys():
        wrong = arrays | {name: arrays[name].astype(dtype)}
        assert_refused(tmp_path / "m", header, wrong, f"{name}: must be uint8 of shape")


@pytest.mark.parametrize("dtype", ["<i8", "|u1", "<f2", "<U3"])
def test_values_of_another_type_are_told(tmp_path: Path, kind: str, dtype: str) -> None:
    header, arrays = parts(tmp_path / "m", kind)
    for name in set(VALUES + TABLES) & arrays.keys():
        wrong = arrays | {name: np.ones_like(arrays[name]).astype(dtype)}
        if dtype != "<f2" or name in VALUES:
            assert_refused(tmp_path / "m", header, wrong, f"{name}: must be (float16 or )?float32 or float64 of shape")


def test_tables_may_be_of_half_precision(tmp_path: Path, kind: str) -> None:
    header, arrays = parts(tmp_path / "m", kind)
    narrow = {name: arrays[name].astype(np.float16) for name in set(TABLES) & arrays.keys()}
    write_container(tmp_path / "m", FORMAT, header, arrays | narrow)
    assert read_stored(tmp_path / "m").coarse.dtype == np.float16


@pytest.mark.parametrize("ids", [np.linspace(0, 1, 7), np.zeros(7), np.zeros((7, 1), dtype=np.int64), np.array(3)])
@pytest.mark.parametrize("name", ["user_ids", "item_ids"])
def test_ids_that_are_neither_integers_nor_text_in_one_row_are_told(tmp_path: Path, name: str, ids: Any) -> None:
    header, arrays = parts(tmp_path / "m", "compressed")
    assert_refused(tmp_path / "m", header, arrays | {name: ids}, f"{name}: must be integers or text, none of them twice")


@pytest.mark.parametrize("name", ["user_ids", "item_ids"])
def test_an_id_that_is_there_twice_is_told(tmp_path: Path, name: str) -> None:
    header, arrays = parts(tmp_path / "m", "compressed")
    twice = arrays[name].copy()
    twice[-1] = twice[0]
    assert_refused(tmp_path / "m", header, arrays | {name: twice}, f"{name}: must be .*, none of them twice")


# Values and places


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_told(tmp_path: Path, kind: str, value: float) -> None:
    header, arrays = parts(tmp_path / "m", kind)
    for name in set(VALUES + TABLES) & arrays.keys():
        wrong = arrays[name].copy()
        wrong.flat[-1] = value
        assert_refused(tmp_path / "m", header, arrays | {name: wrong}, f"{name}: must be finite, got {value}")


@pytest.mark.parametrize(
    ("name", "size"), [("graph_columns", 7), ("coarse_assignment.columns", 4), ("fine_assignment.columns", 3), ("fine.columns", 6)]
)
def test_a_column_outside_the_matrix_is_told(tmp_path: Path, name: str, size: int) -> None:
    """255 is what -1 has become."""
    header, arrays = parts(tmp_path / "m", "compressed")
    for outside in (size, 255):
        wrong = arrays[name].copy()
        wrong.flat[-1] = outside
        assert_refused(tmp_path / "m", header, arrays | {name: wrong}, f"{name}: must be below {size}, got {outside}")


@pytest.mark.parametrize("name", ["coarse_assignment.columns", "fine_assignment.columns"])
def test_columns_of_an_assignment_that_do_not_ascend_are_told(tmp_path: Path, name: str) -> None:
    header, arrays = parts(tmp_path / "m", "compressed")
    twice = arrays[name].copy()
    twice[1, 1] = twice[1, 0]
    for wrong in (arrays[name][:, ::-1], twice):
        assert_refused(tmp_path / "m", header, arrays | {name: wrong}, f"{name}: must ascend in every row")


@pytest.mark.parametrize("prefix", ["graph_", "fine."])
def test_columns_of_compressed_rows_that_do_not_ascend_are_told(tmp_path: Path, prefix: str) -> None:
    """In each row that has two; where one row ends and the next begins they may fall."""
    header, arrays = parts(tmp_path / "m", "compressed")
    columns, starts = arrays[f"{prefix}columns"], arrays[f"{prefix}starts"].astype(int)
    rows = [(first, last) for first, last in pairwise(starts) if last - first > 1]
    assert len(rows) > 1
    assert (np.diff(columns.astype(int)) < 0).any()
    for first, last in rows:
        for place in range(first, last - 1):
            swapped, twice = columns.copy(), columns.copy()
            swapped[[place, place + 1]] = columns[[place + 1, place]]
            twice[place + 1] = twice[place]
            for wrong in (swapped, twice):
                told = arrays | {f"{prefix}columns": wrong}
                assert_refused(tmp_path / "m", header, told, f"{prefix}columns: must ascend in every row")


@pytest.mark.parametrize("prefix", ["graph_", "fine."])
def test_starts_that_do_not_lead_from_0_to_the_last_entry_are_told(tmp_path: Path, prefix: str) -> None:
    header, arrays = parts(tmp_path / "m", "compressed")
    starts = arrays[f"{prefix}starts"]
    changed = [(0, 1), (-1, starts[-1] - 1), (-1, 255), (1, 255), (1, starts[2] + 1)]
    for place, value in changed:
        wrong = starts.copy()
        wrong[place] = value
        assert_refused(tmp_path / "m", header, arrays | {f"{prefix}starts": wrong}, f"{prefix}starts: must ascend from 0 to")


def test_a_fine_entry_that_the_threshold_drops_is_told(tmp_path: Path) -> None:
    for kind, name in (("compressed", "fine.values"), ("dense", "fine")):
        header, arrays = parts(tmp_path / "m", kind)
        threshold = header["settings"]["threshold"]
        dropped = [threshold, -threshold / 2] + ([0.0] if kind == "compressed" else [])
        for value in dropped:
            wrong = arrays[name].copy()
            wrong.flat[2] = value
            assert_refused(tmp_path / "m", header, arrays | {name: wrong}, "fine: entries must be above the threshold")
    wrong = arrays["fine"].copy()
    wrong[1, 2] = 0.0  # nothing is there
    write_container(tmp_path / "m", FORMAT, header, arrays | {"fine": wrong})
    assert read_stored(tmp_path / "m").fine is not None


def test_a_fine_row_with_more_entries_than_training_can_leave_is_told(tmp_path: Path) -> None:
    for kind in ("compressed", "dense"):
        header, arrays = parts(tmp_path / "m", kind)
        fewer = header | {"settings": header["settings"] | {"sparse_pca_components": 1}}
        assert_refused(tmp_path / "m", fewer, arrays, "fine: a row must have at most 1 entries above the threshold, got ")


# The header


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"method": METHOD + 1}, f"must have method {METHOD}, provenance and settings, got .*, method {METHOD + 1}"),
        ({"method": None}, "must have method"),
        ({"more": 1}, "must have method 1, provenance and settings, got .*'more'"),
        ({"settings": []}, "settings must be numbers by name, got list"),
        ({"settings": {}}, "n_coarse must be a whole number from 1, got None"),
        ({"provenance": []}, "provenance must be words by name"),
        ({"provenance": {"seed": 3}}, "provenance must be words by name"),
    ],
)
def test_another_header_is_told(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    header, arrays = parts(tmp_path / "m", "compressed")
    assert_refused(tmp_path / "m", header | changes, arrays, f"header: {words}")


@pytest.mark.parametrize("value", [-1, 0.5, 2.0, "2", True, None, [], float("nan")])
@pytest.mark.parametrize(
    "name", ["n_coarse", "n_fine", "dim", "n_layers", "coarse_per_entity", "fine_per_coarse", "sparse_pca_components"]
)
def test_counts_that_are_none_are_told(tmp_path: Path, name: str, value: Any) -> None:
    header, arrays = parts(tmp_path / "m", "compressed")
    told = header | {"settings": header["settings"] | {name: value}}
    assert_refused(tmp_path / "m", told, arrays, f"header: {name} must be a whole number from")


@pytest.mark.parametrize("value", [-0.5, "2", True, None, [], float("nan"), pytest.param(10**400, id="10**400")])
@pytest.mark.parametrize("name", ["threshold", "bridge_weight"])
def test_shares_that_are_none_are_told(tmp_path: Path, name: str, value: Any) -> None:
    header, arrays = parts(tmp_path / "m", "compressed")
    told = header | {"settings": header["settings"] | {name: value}}
    assert_refused(tmp_path / "m", told, arrays, f"header: {name} must be a number from 0 to")


@pytest.mark.parametrize("name", ["n_coarse", "n_fine", "dim", "coarse_per_entity", "fine_per_coarse"])
@pytest.mark.parametrize("value", [1, 5, 2**40, 10**30])
def test_sizes_that_the_arrays_do_not_have_are_told(tmp_path: Path, name: str, value: int) -> None:
    header, arrays = parts(tmp_path / "m", "compressed")
    told = header | {"settings": header["settings"] | {name: value}}
    assert_refused(tmp_path / "m", told, arrays, "must be .* of shape|must be below")


def test_a_model_of_the_coarse_stage_alone_may_have_settings_with_fine_rows(tmp_path: Path) -> None:
    header, arrays = parts(tmp_path / "m", "coarse alone")
    assert header["settings"]["n_fine"] == 3
    for n_fine in (0, 8):
        write_container(tmp_path / "m", FORMAT, {**header, "settings": header["settings"] | {"n_fine": n_fine}}, arrays)
        assert read_stored(tmp_path / "m").fine is None


def test_wider_matrices_have_wider_columns(tmp_path: Path) -> None:
    """With 256 items a column takes one byte, with 257 two; with 256 pairs a start takes two bytes, with 255 one."""
    for n_items, n_pairs, widths in ((256, 255, (1, 1)), (257, 255, (2, 1)), (256, 256, (1, 2))):
        columns = np.arange(n_pairs) if n_pairs < 256 else np.arange(256)
        model = replace(
            stored("coarse alone"),
            item_ids=np.arange(n_items),
            bias=np.zeros(n_items),
            graph_columns=columns.astype(f"<u{widths[0]}" if widths[0] > 1 else "|u1"),
            graph_starts=np.full(6, n_pairs, dtype=f"<u{widths[1]}") * (np.arange(6) > 0),
            coarse_assignment=FixedRows(np.ones((n_items + 5, 2)), np.tile(np.array([1, 3], dtype=np.uint8), (n_items + 5, 1))),
        )
        starts = model.graph_starts.astype(f"<u{widths[1]}")
        write_stored(tmp_path / "m", replace(model, graph_starts=starts))
        read = read_stored(tmp_path / "m")
        assert (read.graph_columns.itemsize, read.graph_starts.itemsize) == widths
