"""What a model file holds, as plain arrays: read and checked with NumPy alone, so that a device needs nothing else."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from .container import LIMIT, BundleError, read_container, write_container

Array: TypeAlias = npt.NDArray[Any]

FORMAT = "c2f-ref model 2"
METHOD = 1
"""Version of the method: it rises when the same arrays come to mean other recommendations."""
PLAIN = ("user_ids", "item_ids", "graph_columns", "graph_starts", "bias", "coarse")
ROWS = ("coarse_assignment.values", "coarse_assignment.columns")
FINE_ROWS = ("fine_assignment.values", "fine_assignment.columns")
FINE = ("fine.values", "fine.columns", "fine.starts")
MEMBERS = ({*PLAIN, *ROWS}, {*PLAIN, *ROWS, *FINE_ROWS, "fine"}, {*PLAIN, *ROWS, *FINE_ROWS, *FINE})
"""What a file holds: of the coarse stage alone, with a dense fine table, with a compressed one."""
VALUES, TABLES = (np.float32, np.float64), (np.float16, np.float32, np.float64)
COUNTS = {
    **dict.fromkeys(("n_coarse", "dim", "coarse_per_entity", "fine_per_coarse", "sparse_pca_components"), 1),
    **dict.fromkeys(("n_fine", "n_layers"), 0),
}
"""Settings that inference needs and that are whole numbers, with the least of each."""
SHARES = {"threshold": float("inf"), "bridge_weight": 1.0}
"""Settings that inference needs and that are numbers from 0, with the largest of each."""


class FixedRows(NamedTuple):
    """A sparse matrix with as many entries in every row: values (n, k), and their columns (n, k), ascending in each row."""

    values: Array
    columns: Array


class CompressedRows(NamedTuple):
    """A sparse matrix, row after row: values (nnz,), their columns (nnz,), ascending in each row, and where rows start (n + 1,)."""

    values: Array
    columns: Array
    starts: Array


@dataclass(frozen=True, eq=False)
class StoredModel:
    """Every array of a model file, in the dtypes it is stored in; columns and starts are unsigned and as narrow as can be.

    Shapes: user_ids (U,), item_ids (I,), bias (I,), coarse (C, D), coarse_assignment (N, t), fine (F, D),
    fine_assignment (C, k), graph_columns (pairs,), graph_starts (U + 1,).
    """

    settings: Mapping[str, Any]
    """Fields of `c2f_ref.spec.Settings` by name."""
    user_ids: Array
    item_ids: Array
    graph_columns: Array
    """Items of the training pairs, user after user, ascending; their weights follow from degrees and assignments."""
    graph_starts: Array
    bias: Array
    """b of the items; that of the users cancels in every ranking."""
    coarse: Array
    """E_c; float16, float32 or float64."""
    coarse_assignment: FixedRows
    fine: Array | CompressedRows | None = None
    """E_f without the entries that soft() drops, dense or compressed, whichever is smaller; None after the coarse stage alone."""
    fine_assignment: FixedRows | None = None
    provenance: Mapping[str, str] | None = None

    @property
    def n_users(self) -> int:
        """U."""
        return int(np.size(self.user_ids))

    @property
    def n_items(self) -> int:
        """I."""
        return int(np.size(self.item_ids))

    def fine_table(self) -> Array | None:
        """E_f as one array. Shapes: -> (F, D)."""
        if not isinstance(self.fine, CompressedRows):
            return self.fine
        counts: Array = np.diff(self.fine.starts.astype(np.int64))
        table = np.zeros((counts.size, self.coarse.shape[1]), dtype=self.fine.values.dtype)
        table[np.repeat(np.arange(counts.size), counts), self.fine.columns] = self.fine.values
        return table

    def header(self) -> dict[str, Any]:
        """What the file holds beside arrays."""
        return {"method": METHOD, "settings": dict(self.settings), "provenance": dict(self.provenance or {})}

    def arrays(self) -> dict[str, Array]:
        """Every array by the name of its member in the file."""
        named: dict[str, Array] = {}
        for name in (*PLAIN, "coarse_assignment", "fine", "fine_assignment"):
            part = getattr(self, name)
            if isinstance(part, FixedRows | CompressedRows):
                named |= {f"{name}.{field}": array for field, array in part._asdict().items()}
            elif part is not None:
                named[name] = part
        return named


def write_stored(path: str | PathLike[str], model: StoredModel) -> None:
    """Write `model` to `path`: all of it, or nothing and the old file stays.

    Errors: OSError where the folder cannot be written; BundleError for what `read_stored` would not take.
    """
    require_stored(model)
    write_container(path, FORMAT, model.header(), model.arrays())


def read_stored(path: str | PathLike[str], *, max_bytes: int = LIMIT) -> StoredModel:
    """Read the arrays of a model file, and check that they are a model: types, shapes, places and values.

    A file of more than `max_bytes` is not read; beside the arrays, memory is taken for masks of the largest of them.

    Errors: BundleError that names the file and the member at fault; OSError where there is no file.
    """
    header, arrays = read_container(path, FORMAT, max_bytes=max_bytes)
    try:
        return _stored(header, arrays)
    except BundleError as error:
        raise BundleError(f"{path}: {error}") from error


def require_stored(model: StoredModel) -> None:
    """Raise BundleError that names the member at fault unless `read_stored` would take the file of `model`."""
    _stored(model.header(), model.arrays())


def _stored(header: Mapping[str, Any], arrays: Mapping[str, Array]) -> StoredModel:
    """The model that header and arrays are, checked."""
    if header.keys() != {"method", "settings", "provenance"} or header["method"] != METHOD:
        told = sorted(header), header.get("method")
        raise BundleError(f"header: must have method {METHOD}, provenance and settings, got {told[0]}, method {told[1]!r}")
    settings, provenance = header["settings"], header["provenance"]
    _require_settings(settings)
    if not isinstance(provenance, dict) or not all(isinstance(value, str) for value in provenance.values()):
        raise BundleError("header: provenance must be words by name")
    wanted = min(MEMBERS, key=lambda names: len(names ^ arrays.keys()))
    if wanted != arrays.keys():
        raise BundleError(f"{', '.join(sorted(wanted ^ arrays.keys()))}: missing, or one too many")
    model = StoredModel(
        settings=settings,
        provenance=provenance,
        **{name: arrays[name] for name in PLAIN},
        coarse_assignment=FixedRows(*(arrays[name] for name in ROWS)),
        fine=CompressedRows(*(arrays[name] for name in FINE)) if FINE[0] in arrays else arrays.get("fine"),
        fine_assignment=FixedRows(*(arrays[name] for name in FINE_ROWS)) if FINE_ROWS[0] in arrays else None,
    )
    _require_model(model)
    return model


def _require_settings(settings: Any) -> None:
    if not isinstance(settings, dict):
        raise BundleError(f"header: settings must be numbers by name, got {type(settings).__name__}")
    for name, least in COUNTS.items():
        if type(settings.get(name)) is not int or settings[name] < least:
            raise BundleError(f"header: {name} must be a whole number from {least}, got {settings.get(name)!r}")
    for name, most in SHARES.items():
        value: Any = settings.get(name)
        # Between the largest float and infinity there are integers alone, with which no array could be compared.
        if type(value) not in (int, float) or not 0 <= value <= most or sys.float_info.max < value < float("inf"):
            raise BundleError(f"header: {name} must be a number from 0 to {most} that a float can hold, got {value!r}")


def _require_model(model: StoredModel) -> None:
    settings = model.settings
    n_coarse, n_fine, dim = settings["n_coarse"], settings["n_fine"], settings["dim"]
    for name in ("user_ids", "item_ids"):
        ids = getattr(model, name)
        if ids.ndim != 1 or ids.dtype.kind not in "iuU" or np.unique(ids).size != ids.size:
            raise BundleError(f"{name}: must be integers or text, none of them twice, got {ids.dtype} of shape {ids.shape}")
    _require_compressed("graph_", model.graph_columns, model.graph_starts, model.n_users, model.n_items)
    _require_values("bias", model.bias, (model.n_items,), VALUES)
    _require_values("coarse", model.coarse, (n_coarse, dim), TABLES)
    n_entities = model.n_users + model.n_items
    _require_fixed("coarse_assignment", model.coarse_assignment, (n_entities, settings["coarse_per_entity"]), n_coarse)
    if model.fine is not None and model.fine_assignment is not None:
        _require_fixed("fine_assignment", model.fine_assignment, (n_coarse, settings["fine_per_coarse"]), n_fine)
        _require_fine(model.fine, (n_fine, dim), min(settings["sparse_pca_components"], dim), settings["threshold"])


def _require_fine(fine: Array | CompressedRows, shape: tuple[int, int], most: int, threshold: float) -> None:
    """At most `most` entries in a row, none that soft() would drop."""
    if isinstance(fine, CompressedRows):
        _require_compressed("fine.", fine.columns, fine.starts, *shape)
        _require_values("fine.values", fine.values, fine.columns.shape, TABLES)
        values, counts = fine.values, np.diff(fine.starts.astype(np.int64))
    else:
        _require_values("fine", fine, shape, TABLES)
        values, counts = fine[fine != 0], np.count_nonzero(fine, axis=1)
    if counts.max(initial=0) > most:
        raise BundleError(f"fine: a row must have at most {most} entries above the threshold, got {counts.max()}")
    # In float64, which no threshold rounds to another number.
    if not (np.abs(values.astype(np.float64)) > threshold).all():
        raise BundleError(f"fine: entries must be above the threshold {threshold}, got one of {np.abs(values).min()}")


def _require_values(name: str, array: Array, shape: tuple[int, ...], dtypes: tuple[Any, ...]) -> None:
    _require_array(name, array, shape, dtypes)
    if not np.isfinite(array).all():
        raise BundleError(f"{name}: must be finite, got {array[~np.isfinite(array)][0]}")


def _require_fixed(name: str, rows: FixedRows, shape: tuple[int, int], n_columns: int) -> None:
    _require_values(f"{name}.values", rows.values, shape, VALUES)
    _require_columns(f"{name}.columns", rows.columns, shape, n_columns)
    if not (rows.columns[:, 1:] > rows.columns[:, :-1]).all():
        raise BundleError(f"{name}.columns: must ascend in every row, none of them twice")


def _require_compressed(prefix: str, columns: Array, starts: Array, n_rows: int, n_columns: int) -> None:
    n_entries = columns.size
    _require_columns(f"{prefix}columns", columns, (n_entries,), n_columns)
    _require_array(f"{prefix}starts", starts, (n_rows + 1,), (np.min_scalar_type(n_entries),))
    if starts[0] != 0 or starts[-1] != n_entries or (starts[1:] < starts[:-1]).any():
        raise BundleError(f"{prefix}starts: must ascend from 0 to the number of entries, {n_entries}")
    is_later = columns[1:] > columns[:-1]
    first = starts[(starts > 0) & (starts < n_entries)].astype(np.int64)
    is_later[first - 1] = True
    if not is_later.all():
        raise BundleError(f"{prefix}columns: must ascend in every row, none of them twice")


def _require_columns(name: str, columns: Array, shape: tuple[int, ...], n_columns: int) -> None:
    """The narrowest unsigned integers that can hold every column, and none beyond the last."""
    _require_array(name, columns, shape, (np.min_scalar_type(max(n_columns - 1, 0)),))
    if columns.size and columns.max() >= n_columns:
        raise BundleError(f"{name}: must be below {n_columns}, got {columns.max()}")


def _require_array(name: str, array: Array, shape: tuple[int, ...], dtypes: tuple[Any, ...]) -> None:
    if array.shape != shape or array.dtype not in dtypes:
        names = " or ".join(np.dtype(dtype).name for dtype in dtypes)
        raise BundleError(f"{name}: must be {names} of shape {shape}, got {array.dtype} of shape {array.shape}")
