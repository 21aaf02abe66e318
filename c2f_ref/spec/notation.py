"""Symbols, settings and doorway checks: the vocabulary of every other page.

Shapes are written with the letters of the paper: U users, I items, N = U + I entities, C coarse rows, F fine rows,
D dimensions, L layers, B triples of a batch. Item i is entity U + i.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import sparse

Float64Array: TypeAlias = npt.NDArray[np.float64]
IntArray: TypeAlias = npt.NDArray[np.int64]
BoolArray: TypeAlias = npt.NDArray[np.bool_]


class SpecError(ValueError):
    """An input of the specification is not what its docstring asks for: what was expected, what came."""


class SettingsError(SpecError):
    """A setting, or a combination of settings and sizes, that the method is not defined for."""


_RANGES = {
    (1, math.inf): ("n_coarse", "dim", "coarse_per_entity", "fine_per_coarse", "sparse_pca_components"),
    (0, math.inf): ("n_fine", "n_layers", "threshold"),
    (0, math.nextafter(math.inf, 0)): ("l2_weight", "sparse_pca_alpha"),
    (0.0, 1.0): ("anchor_weight", "bridge_weight", "pinv_rtol"),
    (0.0, math.nextafter(1.0, 0.0)): ("adam_beta1", "adam_beta2"),
    (math.nextafter(0.0, 1.0), math.inf): ("clip_limit", "adam_epsilon"),
}
"""The least and the largest value of every field of `Settings`; a field that may be None has them when it is a number."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Every number of the method, once; the defaults are the published Gowalla run.

    How long and how fast to train is not part of the model: see `c2f_ref.training.Recipe`.
    Errors: SettingsError names the field, the range it must be in and the value that came.
    """

    n_coarse: int = 300
    """C, rows of the coarse table. Source: published Gowalla run."""
    n_fine: int = 100
    """F, rows of the fine table; 0 for a model of the coarse stage alone. Source: published Gowalla run."""
    dim: int = 128
    """D, columns of both tables. Source: published Gowalla run."""
    n_layers: int = 3
    """L, propagation layers of either stage (D14: the fine stage has no count of its own). Source: published Gowalla run."""
    coarse_per_entity: int = 2
    """t, entries in a row of S_c. Source: coarse stage, step 1."""
    fine_per_coarse: int = 4
    """Entries in a row of S_f. Source: fine stage, step 3."""
    anchor_weight: float = 0.5
    """w*, weight of an entity's own part at the start (D4). Source: coarse stage, step 1."""
    threshold: float = 1.0
    """tau, soft threshold on the fine table. Source: fine stage, step 5."""
    bridge_weight: float = 0.2
    """w, share of the fine rows in a bridged coarse row. Source: fine stage, steps 5 and 6."""
    l2_weight: float = 5e-4
    """Weight of the ego penalty. Source: coarse stage, step 5."""
    clip_limit: float = 3.0
    """Gradients are clipped by value to [-clip_limit, clip_limit]. Source: coarse stage, step 6."""
    adam_beta1: float = 0.9
    """Decay of Adam's first moment. Source: coarse stage, step 6."""
    adam_beta2: float = 0.999
    """Decay of Adam's second moment. Source: coarse stage, step 6."""
    adam_epsilon: float = 1e-8
    """Added to the root of Adam's second moment. Source: coarse stage, step 6."""
    sparse_pca_components: int = 80
    """Scores per fine row at the start; min(this, D) are used. Source: fine stage, step 2."""
    sparse_pca_alpha: float = 1.0
    """l1 weight of SparsePCA. Source: fine stage, step 2."""
    pinv_rtol: float | None = None
    """Singular values below this share of the largest count as 0; None: max(rows, cols) * eps. Source: end of fine stage."""

    def __post_init__(self) -> None:
        _require_types(self)
        for (low, high), names in _RANGES.items():
            for name in names:
                value = getattr(self, name)
                if value is not None and not low <= value <= high:
                    raise SettingsError(f"{name} must be in [{low}, {high}], got {value}")
        if self.coarse_per_entity > self.n_coarse:
            raise SettingsError(f"coarse_per_entity must be at most n_coarse = {self.n_coarse}, got {self.coarse_per_entity}")
        if 0 < self.n_fine < self.fine_per_coarse:
            raise SettingsError(f"fine_per_coarse must be at most n_fine = {self.n_fine}, got {self.fine_per_coarse}")

    @classmethod
    def for_budget(
        cls,
        budget: int,
        n_users: int,
        n_items: int,
        *,
        id_bytes: int = 0,
        n_pairs: int = 0,
        dtype: npt.DTypeLike = np.float32,
        table_dtype: npt.DTypeLike | None = None,
        **others: Any,
    ) -> Settings:
        """The largest model whose `stored_bytes_bound` is at most `budget` bytes, however it is trained.

        F = C // 3, as in the published run, for the largest C that fits, or F = 0 where that is below `fine_per_coarse`; then C is
        raised as far as it goes with this F. `others` are other settings; the rest of the arguments is that of the bound.

        Edge: C is never above N, since a coarse row without an entity could not start.
        Errors: SettingsError that names the smallest budget that would do, for fewer than `coarse_per_entity` entities, or where
        `others` give C or F.
        """
        # The one page that stands further down: it counts what these settings come to.
        from .memory import stored_bytes_bound

        if others.keys() & {"n_coarse", "n_fine"}:
            raise SettingsError("n_coarse and n_fine follow from the budget, so neither may be given")
        largest = cls(n_coarse=n_users + n_items, n_fine=0, **others)
        choices = range(largest.coarse_per_entity, largest.n_coarse + 1)

        def sized(n_coarse: int, n_fine: int) -> Settings:
            return replace(largest, n_coarse=n_coarse, n_fine=n_fine if n_fine >= largest.fine_per_coarse else 0)

        def needed(n_coarse: int, n_fine: int) -> int:
            given: dict[str, Any] = {"n_pairs": n_pairs, "dtype": dtype, "table_dtype": table_dtype}
            return sum(stored_bytes_bound(sized(n_coarse, n_fine), n_users, n_items, id_bytes, **given).values())

        n_fitting = bisect_right(choices, budget, key=lambda n_coarse: needed(n_coarse, n_coarse // 3))
        if n_fitting == 0:
            smallest = needed(choices[0], choices[0] // 3)
            raise SettingsError(f"budget must be at least {smallest:,} bytes for the smallest model, got {budget:,}")
        n_fine = choices[n_fitting - 1] // 3
        return sized(choices[bisect_right(choices, budget, key=lambda n_coarse: needed(n_coarse, n_fine)) - 1], n_fine)


class Triples(NamedTuple):
    """Training triples: `users` (B,) with a `positives` (B,) and a `negatives` (B,) item each, int64, items from 0."""

    users: IntArray
    positives: IntArray
    negatives: IntArray


def item_rows(n_users: int, items: IntArray) -> IntArray:
    """Entities of these items, U + i, as int64 whatever their integer type: narrow ones would wrap around."""
    return n_users + np.asarray(items, dtype=np.int64)


def stored_pairs(matrix: sparse.csr_array) -> sparse.csr_array:
    """The stored entries of `matrix` as a pattern of its own: each pair once, columns ascending, whatever its value."""
    pattern = sparse.csr_array((np.ones(matrix.nnz), matrix.indices, matrix.indptr), shape=matrix.shape, copy=True)
    pattern.sum_duplicates()
    return pattern


def require_finite(name: str, array: npt.ArrayLike) -> None:
    """Raise SpecError that names the first entry that is NaN or infinite.

    Shapes: any; a sparse array is judged by its stored values.
    """
    values = np.asarray(array.data if sparse.issparse(array) else array)  # type: ignore[union-attr]
    if not np.isfinite(values).all():
        index = tuple(int(i) for i in np.argwhere(~np.isfinite(values))[0])
        raise SpecError(f"{name} must be finite, got {values[index]} at {'stored value ' if sparse.issparse(array) else ''}{index}")


def require_shape(name: str, array: Any, shape: tuple[int, ...]) -> None:
    """Raise SpecError unless `array.shape == shape`."""
    if array.shape != shape:
        raise SpecError(f"{name} must have shape {shape}, got {array.shape}")


def require_indices(name: str, indices: npt.ArrayLike, size: int) -> None:
    """Raise SpecError unless `indices` are integers in [0, size).

    Shapes: any; an empty array is fine.
    """
    indices = np.asarray(indices)
    if not np.issubdtype(indices.dtype, np.integer):
        raise SpecError(f"{name} must be integers, got dtype {indices.dtype}")
    if indices.size and (indices.min() < 0 or indices.max() >= size):
        raise SpecError(f"{name} must be in [0, {size}), got {indices.min()} to {indices.max()}")


def require_sizes(norm_adjacency: sparse.csr_array, coarse_assignment: sparse.csr_array, n_users: int, settings: Settings) -> None:
    """Raise SpecError unless A (N, N) and S_c (N, C) belong together and U is at most N."""
    n_entities = norm_adjacency.shape[0]
    require_shape("coarse_assignment", coarse_assignment, (n_entities, settings.n_coarse))
    if not 0 <= n_users <= n_entities:
        raise SpecError(f"n_users must be in [0, N = {n_entities}], got {n_users}")


def require_table(name: str, table: Float64Array, n_rows: int, settings: Settings) -> None:
    """Raise SpecError unless `table` is (n_rows, D) and finite."""
    require_shape(name, table, (n_rows, settings.dim))
    require_finite(name, table)


def require_batch(n_entities: int, n_users: int, bias: Float64Array, triples: Triples) -> None:
    """Raise SpecError unless b is (N,) and finite, and the triples are of one length and in range."""
    require_shape("bias", bias, (n_entities,))
    require_finite("bias", bias)
    require_shape("users", triples.users, triples.users.shape[:1])
    require_indices("users", triples.users, n_users)
    for name in ("positives", "negatives"):
        require_shape(name, getattr(triples, name), triples.users.shape)
        require_indices(name, getattr(triples, name), n_entities - n_users)


def require_propagated(entities: Float64Array, *tables: Float64Array) -> None:
    """Raise SpecError unless the entities are finite and every table has as many columns."""
    require_finite("entities", entities)
    for table in tables:
        require_shape("table to invert", table, (len(table), entities.shape[1]))


def _require_types(settings: Settings) -> None:
    """Numbers of the declared kind; NumPy's numbers become Python's, so that settings can be written as JSON."""
    for field in fields(settings):
        value = getattr(settings, field.name)
        if value is None and field.default is None:
            continue
        kind: type[int] | type[float] = int if field.type == "int" else float
        allowed = (int, np.integer) if kind is int else (int, float, np.integer, np.floating)
        if isinstance(value, bool) or not isinstance(value, allowed):
            raise SettingsError(f"{field.name} must be of type {field.type}, got {value!r}")
        try:
            object.__setattr__(settings, field.name, kind(value))
        except OverflowError as error:
            raise SettingsError(f"{field.name} must fit into a float, got a larger integer") from error
