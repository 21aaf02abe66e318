"""Symbols, settings and validation: the vocabulary of every other page.

Shapes are written with the letters of the paper: U users, I items, N = U + I entities, C coarse
rows, F fine rows, D dimensions, L layers, B triples of a batch. Item i is entity U + i.
Arguments are validated once, by the functions that an implementation offers (`contract.CONTRACT`)
and by those that read data; the formulas in between trust what they get.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from scipy import sparse

__all__ = ["Float64Array", "IntArray", "MethodError", "Settings", "SettingsError", "Triples"]

Float64Array: TypeAlias = npt.NDArray[np.float64]
IntArray: TypeAlias = npt.NDArray[np.int64]
BoolArray: TypeAlias = npt.NDArray[np.bool_]
Sparse: TypeAlias = "sparse.csr_array"
"""A SciPy CSR array; where a function only multiplies, anything that has `@` and `.T` will do."""


class MethodError(ValueError):
    """An argument is not what a docstring asks for: the message says what was expected and came."""


class SettingsError(MethodError):
    """A setting, or a combination of settings and sizes, for which the method is not defined."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Every number of the method, once; the defaults are the published Gowalla run.

    How long and how fast to train is not part of the model: see `c2f_ref.training.Recipe`.
    Errors: SettingsError names the field, the range that it must be in, and its value.
    """

    n_coarse: int = 300
    """C, rows of the coarse table. Source: equation (13)."""
    n_fine: int = 100
    """F, rows of the fine table; 0 for the coarse stage alone. Source: equation (14)."""
    dim: int = 128
    """D, columns of both tables. Source: equation (13)."""
    n_layers: int = 3
    """L, propagation layers of either stage (D14, D17). Source: equations (15) and (16)."""
    coarse_per_entity: int = 2
    """t, entries in a row of S_c. Source: equation (5)."""
    fine_per_coarse: int = 4
    """t_f, entries in a row of S_f. Source: equation (6)."""
    anchor_weight: float = 0.5
    """w*, weight of the part that an entity lies in, at the start (D4). Source: equation (5)."""
    threshold: float = 1.0
    """tau, soft threshold on the fine table. Source: equation (9)."""
    bridge_weight: float = 0.2
    """w, share of the fine rows in a bridged coarse row. Source: equation (12)."""
    l2_weight: float = 5e-4
    """l2, weight of the ego penalty. Source: equation (19)."""
    clip_limit: float = 3.0
    """Gradients are clipped by value to [-clip_limit, clip_limit]. Source: equation (21)."""
    adam_beta1: float = 0.9
    """Decay of Adam's first moment. Source: equation (21)."""
    adam_beta2: float = 0.999
    """Decay of Adam's second moment. Source: equation (21)."""
    adam_epsilon: float = 1e-8
    """Added to the root of Adam's second moment. Source: equation (21)."""
    sparse_pca_components: int = 80
    """Scores per fine row at the start; min(this, D) are used. Source: equation (14)."""
    sparse_pca_alpha: float = 1.0
    """l1 weight of the sparse PCA. Source: equation (14)."""
    pinv_rtol: float | None = None
    """Singular values up to this share of the largest count as 0. Source: equation (25)."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value, is_int = getattr(self, field.name), field.type == "int"
            if value is None and field.default is None:
                continue
            kinds = (int, np.integer) if is_int else (int, float, np.integer, np.floating)
            if isinstance(value, bool) or not isinstance(value, kinds):
                raise SettingsError(f"{field.name} must be of type {field.type}, got {value!r}")
            try:  # NumPy's numbers become Python's, so that settings can be written as JSON
                value = int(value) if is_int else float(value)
            except OverflowError as error:
                raise SettingsError(f"{field.name} must fit into a float, got more") from error
            object.__setattr__(self, field.name, value)
        for names, range_, is_inside in _RANGES:
            for name in names:
                value = getattr(self, name)
                if value is not None and not is_inside(value):
                    raise SettingsError(f"{name} must be in {range_}, got {value}")
        for part, whole in ("coarse_per_entity", "n_coarse"), ("fine_per_coarse", "n_fine"):
            size, most = getattr(self, part), getattr(self, whole)
            if 0 < most < size:
                raise SettingsError(f"{part} must be at most {whole} = {most}, got {size}")


_RANGES: Any = (
    (("n_coarse", "dim", "coarse_per_entity"), "[1, inf)", lambda x: x >= 1),
    (("fine_per_coarse", "sparse_pca_components"), "[1, inf)", lambda x: x >= 1),
    (("n_fine", "n_layers", "threshold"), "[0, inf]", lambda x: x >= 0),
    (("l2_weight", "sparse_pca_alpha"), "[0, inf)", lambda x: 0 <= x < math.inf),
    (("anchor_weight", "bridge_weight", "pinv_rtol"), "[0, 1]", lambda x: 0 <= x <= 1),
    (("adam_beta1", "adam_beta2"), "[0, 1)", lambda x: 0 <= x < 1),
    (("clip_limit", "adam_epsilon"), "(0, inf]", lambda x: x > 0),
)


class Triples(NamedTuple):
    """Training triples: `users` with a positive and a negative item each, (B,) int64, from 0."""

    users: IntArray
    positives: IntArray
    negatives: IntArray


def item_rows(n_users: int, items: IntArray) -> IntArray:
    """Entities U + i of these items, as int64: narrow integers would wrap around."""
    return n_users + np.asarray(items, dtype=np.int64)


def stored_pairs(matrix: Sparse) -> Sparse:
    """A copy of the stored pattern of `matrix`: each pair once, columns ascending, every value."""
    pattern = matrix.copy()
    pattern.data = np.ones(pattern.nnz)
    pattern.sum_duplicates()
    return pattern


def require_finite(name: str, array: Any) -> None:
    """Raise MethodError that names the first entry, or stored value, that is NaN or infinite."""
    is_sparse = hasattr(array, "nnz")
    values = np.asarray(array.data if is_sparse else array)
    if not np.isfinite(values).all():
        index = tuple(int(i) for i in np.argwhere(~np.isfinite(values))[0])
        place = f"stored value {index}" if is_sparse else f"{index}"
        raise MethodError(f"{name} must be finite, got {values[index]} at {place}")


def require_shape(name: str, array: Any, shape: tuple[int, ...]) -> None:
    """Raise MethodError unless `array.shape == shape`."""
    if array.shape != shape:
        raise MethodError(f"{name} must have shape {shape}, got {array.shape}")


def require_indices(name: str, indices: npt.ArrayLike, size: int) -> None:
    """Raise MethodError unless `indices`, of any shape, are integers in [0, size)."""
    indices = np.asarray(indices)
    if not np.issubdtype(indices.dtype, np.integer):
        raise MethodError(f"{name} must be integers, got dtype {indices.dtype}")
    if indices.size and (indices.min() < 0 or indices.max() >= size):
        raise MethodError(f"{name} must be in [0, {size}), got {indices.min()} to {indices.max()}")


def require_sizes(
    norm_adjacency: Sparse, coarse_assignment: Sparse, n_users: int, settings: Settings
) -> None:
    """Raise MethodError unless A (N, N) and S_c (N, C) belong together and U is at most N."""
    n_entities = norm_adjacency.shape[0]
    require_shape("coarse_assignment", coarse_assignment, (n_entities, settings.n_coarse))
    if not 0 <= n_users <= n_entities:
        raise MethodError(f"n_users must be in [0, N = {n_entities}], got {n_users}")


def require_table(name: str, table: Float64Array, n_rows: int, settings: Settings) -> None:
    """Raise MethodError unless `table` is (n_rows, D) and finite."""
    require_shape(name, table, (n_rows, settings.dim))
    require_finite(name, table)


def require_batch(n_entities: int, n_users: int, bias: Float64Array, triples: Triples) -> None:
    """Raise MethodError unless b is (N,) and finite, and the triples are (B,) and in range."""
    require_shape("bias", bias, (n_entities,))
    require_finite("bias", bias)
    sizes = n_users, n_entities - n_users, n_entities - n_users
    for name, indices, size in zip(Triples._fields, triples, sizes, strict=True):
        require_shape(name, indices, triples.users.shape[:1])
        require_indices(name, indices, size)


def require_propagated(entities: Float64Array, *tables: Float64Array) -> None:
    """Raise MethodError unless the entities are finite and every table has their columns."""
    require_finite("entities", entities)
    for table in tables:
        require_shape("table to invert", table, (len(table), entities.shape[1]))
