"""The trained model: its arrays as they are stored, and its file.

A model is Settings and named arrays; SciPy arrays are made when they are asked for, so that a
device needs NumPy alone. The names, and with t = coarse_per_entity and k = fine_per_coarse their
shapes:

    coarse                    E_c (C, D), float16, float32 or float64
    fine                      E_f (F, D), likewise, without the entries that soft() drops; or, where
                              that takes fewer bytes, its other entries row after row:
    fine.values, .columns     (entries,), and .starts (F + 1,)
    coarse_assignment.values  S_c (N, t), float32 or float64, with .columns (N, t)
    fine_assignment.values    S_f (C, k), likewise
    bias                      b of the items (I,); that of the users cancels in every ranking
    ids.users, ids.items      integers (U,) and (I,); or text as UTF-8 bytes, and where each begins:
    ids.users.starts          (U + 1,), and ids.items.starts (I + 1,)
    graph.columns             items of the training pairs (pairs,), user after user
    graph.starts              where the pairs of a user begin (U + 1,)

Columns ascend in every row. Columns and starts are unsigned and as narrow as they can be.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .method.notation import MethodError, Settings, require_finite, require_shape, stored_pairs
from .store import LIMIT, Array, StoreError, pack_text, read_store, unpack_text, write_store

if TYPE_CHECKING:
    from scipy import sparse

FORMAT = "c2f-ref model 3"
TERMS = ("coarse", "fine", "coarse_assignment", "fine_assignment", "bias", "ids", "graph")
"""Bytes are counted by these: the name of an array up to its first dot."""
IDS = {"ids.users", "ids.users.starts", "ids.items", "ids.items.starts"}
VALUES = (np.dtype(np.float32), np.dtype(np.float64))
TABLES = (np.dtype(np.float16), *VALUES)
WEIGHTS = ("bias", "coarse_assignment.values", "fine_assignment.values")


@dataclass(frozen=True, eq=False)
class Model:
    """Tables, assignments, raw ids, and the training pairs that inference propagates over.

    `Model.of` makes one from SciPy arrays and drops what cannot change a recommendation: the bias
    of users, entries of E_f that soft() drops, values of `seen`, the order of columns. Therefore a
    file gives back what was saved, bit for bit. Exact zeros of an assignment stay.
    Edge: a model of the coarse stage alone has neither a fine table nor a fine assignment.
    Errors: MethodError for arrays that are not as this page says: sizes that do not fit together,
    values that are not finite, an id given twice, a row of E_f with more entries above the
    threshold than min(sparse_pca_components, D).
    """

    settings: Settings
    arrays: Mapping[str, Array]
    provenance: Mapping[str, str] = field(default_factory=dict)
    n_users: int = field(init=False)
    """U."""
    n_items: int = field(init=False)
    """I."""

    def __post_init__(self) -> None:
        arrays, settings, provenance = dict(self.arrays), self.settings, dict(self.provenance)
        if not all(isinstance(word, str) for item in provenance.items() for word in item):
            raise MethodError(f"provenance must be text by name, got {provenance}")
        found: dict[str, Any] = {"provenance": provenance}
        for side in ("users", "items"):
            name = f"ids.{side}"
            ids, begins = arrays.get(name, np.zeros(1)), arrays.get(f"{name}.starts")
            try:
                if ids.dtype.kind == "U" and ids.ndim == 1:
                    ids, begins = arrays[name], arrays[f"{name}.starts"] = pack_text(ids)
                known: Any = np.unique(ids) if begins is None else set(unpack_text(ids, begins))
            except StoreError as error:
                raise MethodError(f"{name}: {error}") from error
            n_ids = found[f"n_{side}"] = ids.size if begins is None else begins.size - 1
            if ids.ndim != 1 or ids.dtype.kind not in "iu" or len(known) < n_ids:
                raise MethodError(f"{name} must be integers or text, in one row and none twice")
        vars(self).update(found, arrays=dict(sorted(arrays.items())))  # `frozen` guards it later
        left = {name: array for name, array in self.arrays.items() if name not in IDS}
        n_coarse, n_fine, dim = settings.n_coarse, settings.n_fine, settings.dim
        n_users, n_items, per_entity = self.n_users, self.n_items, settings.coarse_per_entity
        _take(left, "bias", (n_items,), VALUES)
        _take(left, "coarse", (n_coarse, dim), TABLES)
        rows: dict[str, Any] = {"graph": (n_users, n_items, None, ())}
        rows["coarse_assignment"] = n_users + n_items, n_coarse, per_entity, VALUES
        has_fine, table = "fine_assignment.values" in left, left.get("fine")
        if has_fine:
            rows["fine_assignment"] = n_coarse, n_fine, settings.fine_per_coarse, VALUES
        if has_fine and table is None:
            rows["fine"] = n_fine, dim, None, TABLES
        elif has_fine:
            _take(left, "fine", (n_fine, dim), TABLES)
        for name, (n_rows, n_columns, per_row, dtypes) in rows.items():
            size = np.size(left.get(f"{name}.columns", ()))
            shape = (size,) if per_row is None else (n_rows, per_row)
            _take(left, f"{name}.columns", shape, (np.min_scalar_type(max(n_columns - 1, 0)),))
            if per_row is None:
                _take(left, f"{name}.starts", (n_rows + 1,), (np.min_scalar_type(size),))
            if dtypes:
                _take(left, f"{name}.values", shape, dtypes)
            columns, starts = self._rows(name)
            if starts[0] != 0 or starts[-1] != size or (np.diff(starts) < 0).any():
                raise MethodError(f"{name}.starts must ascend from 0 to {size}")
            if size and columns.max() >= n_columns:
                raise MethodError(f"{name}.columns must be below {n_columns}, got {columns.max()}")
            ascends = columns[1:] > columns[:-1]
            ascends[starts[(starts > 0) & (starts < size)] - 1] = True  # a row begins there
            if not ascends.all():
                raise MethodError(f"{name}.columns must ascend in every row")
        if left:
            raise MethodError(f"{', '.join(left)}: more than a model has")
        if has_fine:  # `starts` are those of "fine", the last of the rows
            live = arrays["fine.values"] if table is None else table[table != 0.0]
            counts = np.diff(starts) if table is None else np.count_nonzero(table, axis=1)
            most = min(settings.sparse_pca_components, dim)
            is_above = np.abs(live, dtype=np.float64) > settings.threshold
            if counts.max(initial=0) > most or not is_above.all():
                rule = f"at most {most} entries a row, each above the threshold"
                raise MethodError(f"fine must have {rule} {settings.threshold}, got {counts.max()}")

    @classmethod
    def of(
        cls, *, settings: Settings, user_ids: npt.ArrayLike, item_ids: npt.ArrayLike,
        seen: sparse.csr_array, bias: Array, coarse: Array, coarse_assignment: sparse.csr_array,
        fine: Array | None = None, fine_assignment: sparse.csr_array | None = None,
        provenance: Mapping[str, str] | None = None,
    ) -> Model:  # fmt: skip
        """A model of these parts.

        Shapes: user_ids (U,), item_ids (I,), seen (U, I), bias (N,), coarse (C, D),
        coarse_assignment (N, C), fine (F, D), fine_assignment (C, F).
        Errors: as the class; MethodError also for an assignment without `coarse_per_entity` or
        `fine_per_coarse` entries in every row.
        """
        n_users, n_items = np.size(user_ids), np.size(item_ids)
        n_entities, n_coarse, n_fine = n_users + n_items, settings.n_coarse, settings.n_fine
        require_shape("seen", seen, (n_users, n_items))
        require_shape("bias", bias, (n_entities,))
        pairs = stored_pairs(seen)
        arrays = {
            "ids.users": np.asarray(user_ids),
            "ids.items": np.asarray(item_ids),
            "graph.columns": pairs.indices.astype(np.min_scalar_type(max(n_items - 1, 0))),
            "graph.starts": pairs.indptr.astype(np.min_scalar_type(pairs.nnz)),
            "bias": bias[n_users:],
            "coarse": coarse,
        }
        if fine is not None:
            require_shape("fine", fine, (n_fine, settings.dim))
            arrays |= _fine_arrays(fine, settings.threshold)
        by_entity = coarse_assignment, (n_entities, n_coarse), settings.coarse_per_entity
        by_coarse = fine_assignment, (n_coarse, n_fine), settings.fine_per_coarse
        assignments = {"coarse_assignment": by_entity, "fine_assignment": by_coarse}
        for name, (matrix, shape, per_row) in assignments.items():
            if matrix is not None:
                require_shape(name, matrix, shape)
                counts, rows = np.diff(matrix.indptr), matrix.sorted_indices()
                if (counts != per_row).any():
                    found = f"{counts.min()} to {counts.max()}"
                    raise MethodError(f"{name} must have {per_row} entries a row, got {found}")
                columns = rows.indices.astype(np.min_scalar_type(shape[1] - 1))
                arrays[f"{name}.columns"] = columns.reshape(-1, per_row)
                arrays[f"{name}.values"] = rows.data.reshape(-1, per_row)
        return cls(settings, arrays, provenance or {})

    @property
    def user_ids(self) -> Array:
        """Raw ids of the users; text is unpacked for every call. Shapes: (U,)."""
        return self._ids("ids.users")

    @property
    def item_ids(self) -> Array:
        """Raw ids of the items, likewise. Shapes: (I,)."""
        return self._ids("ids.items")

    @cached_property
    def seen(self) -> sparse.csr_array:
        """The training pairs, a pattern of ones. Shapes: (U, I)."""
        return self._matrix("graph", (self.n_users, self.n_items))

    @cached_property
    def bias(self) -> Array:
        """b, 0 for users. Shapes: (N,)."""
        return np.pad(self.arrays["bias"], (self.n_users, 0))

    @property
    def coarse(self) -> Array:
        """E_c. Shapes: (C, D)."""
        return self.arrays["coarse"]

    @cached_property
    def coarse_assignment(self) -> sparse.csr_array:
        """S_c. Shapes: (N, C)."""
        return self._matrix(
            "coarse_assignment", (self.n_users + self.n_items, self.settings.n_coarse)
        )

    @cached_property
    def fine(self) -> Array | None:
        """E_f, 0 where soft() drops an entry; None after the coarse stage. Shapes: (F, D)."""
        if "fine.values" not in self.arrays:
            return self.arrays.get("fine")
        values, (columns, starts) = self.arrays["fine.values"], self._rows("fine")
        table = np.zeros((self.settings.n_fine, self.settings.dim), values.dtype)
        table[np.repeat(np.arange(len(table)), np.diff(starts)), columns] = values
        return table

    @cached_property
    def fine_assignment(self) -> sparse.csr_array | None:
        """S_f; None after the coarse stage. Shapes: (C, F)."""
        if self.fine is None:
            return None
        return self._matrix("fine_assignment", (self.settings.n_coarse, self.settings.n_fine))

    def with_tables(self, dtype: npt.DTypeLike, values: npt.DTypeLike | None = None) -> Model:
        """The same model with both tables rounded to `dtype`; bias and assignments to `values`.

        Edge: a fine entry that is rounded to the threshold becomes 0.
        Errors: MethodError for a type that models do not have, or an entry too large for it.
        """
        types = {"coarse": dtype} | ({} if values is None else dict.fromkeys(WEIGHTS, values))
        kept = {name: part for name, part in self.arrays.items() if name.split(".")[0] != "fine"}
        with np.errstate(over="ignore"):  # the constructor names what has become infinite
            arrays = {name: part.astype(types.get(name, part.dtype)) for name, part in kept.items()}
            if self.fine is not None:
                arrays |= _fine_arrays(self.fine.astype(dtype), self.settings.threshold)
        return replace(self, arrays=arrays)

    def stored_bytes(self) -> dict[str, int]:
        """Bytes of all arrays, by term. Source: equation (31)."""
        terms = dict.fromkeys(TERMS, 0)
        for name, array in self.arrays.items():
            terms[name.split(".")[0]] += array.nbytes
        return terms

    def describe_stored(self) -> str:
        """`stored_bytes` in words, compared with one vector per entity."""
        terms, dim = self.stored_bytes(), self.settings.dim
        total, tables = sum(terms.values()), terms["coarse"] + terms["fine"]
        full = max((self.n_users + self.n_items) * dim * self.arrays["coarse"].itemsize, 1)
        return (
            f"{total:,} bytes stored ({', '.join(f'{name} {n:,}' for name, n in terms.items())});\n"
            f"the tables alone are {100 * tables / full:.1f} % of one vector per entity "
            f"({full:,} bytes), everything is {100 * total / full:.1f} %;\n"
            f"inference propagates over the {self.arrays['graph.columns'].size:,} training pairs"
        )

    def _ids(self, name: str) -> Array:
        ids, starts = self.arrays[name], self.arrays.get(f"{name}.starts")
        return ids if starts is None else np.array(unpack_text(ids, starts), dtype=np.str_)

    def _rows(self, name: str) -> tuple[Array, Array]:
        """Columns of a stored matrix, and where its rows begin."""
        columns, starts = self.arrays[f"{name}.columns"], self.arrays.get(f"{name}.starts")
        if starts is None:
            starts = np.arange(len(columns) + 1) * columns.shape[1]
        return columns.ravel(), starts.astype(np.int64)

    def _matrix(self, name: str, shape: tuple[int, int]) -> sparse.csr_array:
        from scipy import sparse

        columns, starts = self._rows(name)
        values = self.arrays.get(f"{name}.values", np.ones(columns.size)).ravel()
        index = np.int32 if columns.size < 2**31 else np.int64
        return sparse.csr_array((values, columns.astype(index), starts.astype(index)), shape=shape)


def save_model(path: str | PathLike[str], model: Model) -> None:
    """Write `model` to `path`: all of it, or the old file stays.

    Errors: OSError if the folder cannot be written.
    """
    header = {"settings": vars(model.settings), "provenance": dict(model.provenance)}
    write_store(path, FORMAT, header, model.arrays)


def load_model(path: str | PathLike[str], *, max_bytes: int = LIMIT) -> Model:
    """Read a model that `save_model` wrote, bit for bit; a larger file than `max_bytes` is refused.

    Errors: StoreError that names the file, and what is wrong with it; OSError if there is none.
    """
    header, arrays = read_store(path, FORMAT, max_bytes=max_bytes)
    try:
        return Model(Settings(**header["settings"]), arrays, header["provenance"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise StoreError(f"{path}: expected a model: {error}") from error


def _take(
    left: dict[str, Array], name: str, shape: tuple[int, ...], dtypes: tuple[Any, ...]
) -> None:
    """Remove an array that must be there, finite, of this shape and one of these types."""
    if name not in left:
        raise MethodError(f"{name}: missing")
    array = left.pop(name)
    require_shape(name, array, shape)
    if array.dtype not in dtypes:
        raise MethodError(f"{name} must be {' or '.join(map(str, dtypes))}, got {array.dtype}")
    require_finite(name, array)


def _fine_arrays(fine: Array, threshold: float) -> dict[str, Array]:
    """What soft() leaves, as it takes fewer bytes: the whole table, or its entries row by row."""
    is_above = np.abs(fine, dtype=np.float64) > threshold  # float16 would round the threshold
    fine = np.where(is_above, fine, fine.dtype.type(0))
    starts = np.append(0, np.count_nonzero(fine, axis=1).cumsum())
    rows = {
        "fine.columns": np.nonzero(fine)[1].astype(np.min_scalar_type(fine.shape[1] - 1)),
        "fine.starts": starts.astype(np.min_scalar_type(starts[-1])),
        "fine.values": fine[fine != 0],
    }
    return rows if sum(part.nbytes for part in rows.values()) < fine.nbytes else {"fine": fine}
