"""The model as training leaves it and as serving on SciPy takes it, and its file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from os import PathLike
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from .container import LIMIT, BundleError
from .spec.memory import narrowest, stored_bytes, surviving_entries, total_bytes
from .spec.notation import Float64Array, Settings, SpecError, require_finite, require_shape, require_table, stored_pairs
from .stored import CompressedRows, FixedRows, StoredModel, read_stored, require_stored, write_stored


@dataclass(frozen=True, eq=False)
class Model:
    """A trained model: tables, assignments, raw ids, and the training pairs that inference propagates over.

    What changes no recommendation is put into one form, so that a file gives back what was saved, bit for bit: the bias of users
    is 0 (it cancels), entries of E_f that soft() drops are 0, `seen` is a pattern of ones, columns ascend in every row. Exact
    zeros that an assignment stores stay stored. What is no model in this form is what its file could not hold.

    Shapes: user_ids (U,), item_ids (I,), integers or text; seen (U, I), bias (N,), coarse (C, D), coarse_assignment (N, C),
    fine (F, D), fine_assignment (C, F); float32 or float64, tables also float16.
    Edge: a model of the coarse stage alone has no fine table and no fine assignment.
    Errors: SpecError for sizes that do not fit together, ids that are there twice, values that are not finite, assignments without
    exactly `coarse_per_entity` and `fine_per_coarse` entries in every row, more than min(sparse_pca_components, D) in a fine row.
    """

    settings: Settings
    user_ids: npt.NDArray[Any]
    item_ids: npt.NDArray[Any]
    seen: sparse.csr_array
    bias: Float64Array
    coarse: Float64Array
    coarse_assignment: sparse.csr_array
    fine: Float64Array | None = None
    fine_assignment: sparse.csr_array | None = None
    provenance: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        settings, n_entities = self.settings, self.n_users + self.n_items
        n_coarse, n_fine = settings.n_coarse, settings.n_fine
        require_shape("seen", self.seen, (self.n_users, self.n_items))
        require_shape("bias", self.bias, (n_entities,))
        require_finite("bias", self.bias)
        pattern = stored_pairs(self.seen)
        changed: dict[str, Any] = {
            "user_ids": np.asarray(self.user_ids),
            "item_ids": np.asarray(self.item_ids),
            "seen": _matrix(np.ones(pattern.nnz), pattern.indices, pattern.indptr, pattern.shape),
            "bias": np.concatenate([np.zeros_like(self.bias[: self.n_users]), self.bias[self.n_users :]]),
            "coarse_assignment": self._in_order("coarse_assignment", (n_entities, n_coarse), settings.coarse_per_entity),
        }
        if (self.fine is None) != (self.fine_assignment is None):
            raise SpecError("a model must have both a fine table and a fine assignment, or neither")
        if self.fine is not None:
            require_table("fine", self.fine, n_fine, settings)
            survive = surviving_entries(self.fine, settings.threshold)
            changed["fine"] = np.where(survive, self.fine, self.fine.dtype.type(0))
            changed["fine_assignment"] = self._in_order("fine_assignment", (n_coarse, n_fine), settings.fine_per_coarse)
        for name, value in changed.items():
            object.__setattr__(self, name, value)
        try:
            require_stored(self.stored())
        except BundleError as error:
            raise SpecError(str(error)) from error

    def _in_order(self, name: str, shape: tuple[int, int], per_row: int) -> sparse.csr_array:
        """A copy of this assignment with ascending columns, if it has `per_row` entries in every row."""
        matrix = getattr(self, name)
        require_shape(name, matrix, shape)
        rows = _matrix(matrix.data.copy(), matrix.indices, matrix.indptr, shape)
        rows.sort_indices()
        counts = np.diff(rows.indptr)
        if (counts != per_row).any():
            raise SpecError(f"{name} must have {per_row} entries in every row, got {counts.min()} to {counts.max()}")
        return rows

    @property
    def n_users(self) -> int:
        """U."""
        return len(self.user_ids)

    @property
    def n_items(self) -> int:
        """I."""
        return len(self.item_ids)

    def with_tables(self, dtype: npt.DTypeLike, values: npt.DTypeLike | None = None) -> Model:
        """The same model with both tables rounded to `dtype`, and with bias and assignments rounded to `values`, if given.

        Edge: a fine entry that is rounded to the threshold becomes 0.
        Errors: SpecError for a type that models do not have, or an entry too large for it.
        """
        types = dict.fromkeys(("coarse", "fine"), dtype)
        if values is not None:
            types |= dict.fromkeys(("bias", "coarse_assignment", "fine_assignment"), values)
        parts = {name: getattr(self, name) for name in types}
        with np.errstate(over="ignore"):  # an infinity is told by name
            return replace(self, **{name: part.astype(types[name]) for name, part in parts.items() if part is not None})

    def stored(self) -> StoredModel:
        """The arrays of its file."""
        return StoredModel(
            settings=dict(vars(self.settings)),
            user_ids=self.user_ids,
            item_ids=self.item_ids,
            graph_columns=self.seen.indices.astype(narrowest(max(self.n_items - 1, 0))),
            graph_starts=self.seen.indptr.astype(narrowest(self.seen.nnz)),
            bias=self.bias[self.n_users :],
            coarse=self.coarse,
            coarse_assignment=_fixed(self.coarse_assignment, self.settings.coarse_per_entity),
            fine=None if self.fine is None else _smaller(self.fine),
            fine_assignment=None if self.fine_assignment is None else _fixed(self.fine_assignment, self.settings.fine_per_coarse),
            provenance=dict(self.provenance),
        )

    def stored_bytes(self) -> dict[str, int]:
        """Bytes of the arrays of its file, by term: `c2f_ref.spec.memory.stored_bytes`."""
        parts = {name: value for name, value in vars(self).items() if name != "provenance"}
        return stored_bytes(**parts)

    def describe_stored(self) -> str:
        """`stored_bytes` in words, beside one vector per entity."""
        terms = self.stored_bytes()
        totals = total_bytes(terms)
        full = (self.n_users + self.n_items) * self.settings.dim * self.coarse.itemsize
        return (
            f"{totals['everything']:,} bytes stored ({', '.join(f'{name} {count:,}' for name, count in terms.items())});\n"
            f"the tables alone are {100 * totals['tables'] / full:.1f} % of one vector per entity ({full:,} bytes), everything is "
            f"{100 * totals['everything'] / full:.1f} %; inference propagates over the {self.seen.nnz:,} training pairs"
        )


def save_model(path: str | PathLike[str], model: Model) -> None:
    """Write `model` to `path`: all of it, or nothing and the old file stays.

    Errors: OSError where the folder cannot be written.
    """
    write_stored(path, model.stored())


def load_model(path: str | PathLike[str], *, max_bytes: int = LIMIT) -> Model:
    """Read a model that `save_model` wrote, bit for bit; a file of more than `max_bytes` is not read.

    Errors: BundleError that names the file, and the member where one is at fault; OSError where there is no file.
    """
    stored = read_stored(path, max_bytes=max_bytes)
    try:
        settings = Settings(**stored.settings)
    except (TypeError, SpecError) as error:
        raise BundleError(f"{path}: header: {error}") from error
    seen_shape = (stored.n_users, stored.n_items)
    return Model(
        settings=settings,
        user_ids=stored.user_ids,
        item_ids=stored.item_ids,
        seen=_matrix(np.ones(stored.graph_columns.size), stored.graph_columns, stored.graph_starts, seen_shape),
        bias=np.concatenate([np.zeros(stored.n_users, stored.bias.dtype), stored.bias]),
        coarse=stored.coarse,
        coarse_assignment=_of_fixed(stored.coarse_assignment, settings.n_coarse),
        fine=stored.fine_table(),
        fine_assignment=None if stored.fine_assignment is None else _of_fixed(stored.fine_assignment, settings.n_fine),
        provenance=dict(stored.provenance or {}),
    )


def _matrix(values: Any, columns: Any, starts: Any, shape: tuple[int, int]) -> sparse.csr_array:
    """A matrix with indices of SciPy's own type, int32 unless there are too many entries."""
    index = np.int32 if values.size < 2**31 else np.int64
    return sparse.csr_array((values, columns.astype(index), starts.astype(index)), shape=shape)


def _of_fixed(rows: FixedRows, n_columns: int) -> sparse.csr_array:
    n_rows, per_row = rows.values.shape
    return _matrix(rows.values.ravel(), rows.columns.ravel(), np.arange(n_rows + 1) * per_row, (n_rows, n_columns))


def _fixed(matrix: sparse.csr_array, per_row: int) -> FixedRows:
    shape = (-1, per_row)
    return FixedRows(matrix.data.reshape(shape), matrix.indices.reshape(shape).astype(narrowest(max(matrix.shape[1] - 1, 0))))


def _smaller(fine: Float64Array) -> Float64Array | CompressedRows:
    """The table as it takes fewer bytes: dense, or its non-zeros as compressed rows."""
    n_entries = int(np.count_nonzero(fine))
    starts = np.append(0, np.count_nonzero(fine, axis=1).cumsum()).astype(narrowest(n_entries))
    rows = CompressedRows(fine[fine != 0], np.nonzero(fine)[1].astype(narrowest(fine.shape[1] - 1)), starts)
    return rows if sum(array.nbytes for array in rows) < fine.nbytes else fine
