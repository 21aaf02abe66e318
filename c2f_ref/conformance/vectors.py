"""A file of known answers, read and checked."""

from __future__ import annotations

import json
import operator
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import sparse

from ..spec import Float64Array, IntArray, Settings, Triples
from .calls import as_triples
from .layout import INPUTS, OUTPUTS, SPARSE_PARTS, STAGES, stored_names

AnyArray: TypeAlias = npt.NDArray[Any]

_SETTINGS = (
    *("n_coarse", "n_fine", "dim", "n_layers", "coarse_per_entity", "fine_per_coarse"),
    *("threshold", "sparse_pca_components"),
)


class VectorError(ValueError):
    """A file of known answers that cannot be used: the message names the file and the array."""


class Start(NamedTuple):
    """What a stage starts from: E_c (C, D), E_f (F, D), b (N,), S_c (N, C), S_f (C, F)."""

    coarse: Float64Array
    fine: Float64Array
    bias: Float64Array
    coarse_assignment: sparse.csr_array
    fine_assignment: sparse.csr_array


@dataclass(frozen=True)
class Vectors:
    """One file of known answers; all arrays are read-only, so that a module which writes to its input is found out."""

    path: Path
    """Where it came from."""
    settings: Settings
    """Sizes and numbers of the model."""
    n_users: int
    """U."""
    n_items: int
    """I."""
    seed: int
    """Seed of the official run."""
    arrays: dict[str, Any]
    """Every array: float64, int64 or a sparse array in CSR form."""

    def array(self, key: str) -> AnyArray:
        """The array of this name, a sparse one as a dense one."""
        value = self.arrays[key]
        return np.asarray(value.toarray() if sparse.issparse(value) else value)

    def matrix(self, key: str) -> sparse.csr_array:
        """The sparse array of this name."""
        return self.arrays[key]

    def start(self, stage: str) -> Start:
        """The arrays `*.in.*` of a stage."""
        coarse, fine, bias = (self.array(f"{stage}.in.{name}") for name in ("coarse_meta", "fine_meta", "linear_weight"))
        assignments = (self.matrix(f"{stage}.in.{name}_assignment") for name in STAGES)
        return Start(coarse, fine, bias.ravel(), *assignments)

    def triples(self) -> Triples:
        """The batch of the recorded losses and gradients."""
        return as_triples(self.arrays["triples"])

    def pairs(self, name: str) -> sparse.csr_array:
        """User-item pairs as a pattern (U, I)."""
        users, items = self.arrays[f"{name}.user"], self.arrays[f"{name}.item"]
        return sparse.csr_array((np.ones(users.size), (users, items)), shape=(self.n_users, self.n_items))

    def positions(self) -> IntArray:
        """Columns (F, J) into which the scores of the fine rows go: all of them where the file says nothing."""
        every_column = np.tile(np.arange(self.settings.dim), (self.settings.n_fine, 1))
        return np.asarray(self.arrays.get("fine_init.positions", every_column))


def read_vectors(path: str | PathLike[str]) -> Vectors:
    """Read one file and check that it holds every array of `INPUTS` and `OUTPUTS` and nothing else.

    Shapes: as the two tables say, and alike wherever two arrays share a letter.
    Errors: VectorError for a file that is unreadable or damaged, an array that is missing, unknown, of another kind or
    shape or not finite, and for a sparse array with an index out of range or an entry stored twice.
    Source: the README beside the files.
    """
    path = Path(path)
    stored = _load(path)
    settings, n_users, n_items, seed = _read_config(path, stored)
    n_entities, n_components = n_users + n_items, min(settings.sparse_pca_components, settings.dim)
    sizes = {"1": 1, "3": 3, "U": n_users, "I": n_items, "N": n_entities, "J": n_components}
    sizes |= {"C": settings.n_coarse, "F": settings.n_fine, "D": settings.dim}
    sizes["G"] = n_entities + settings.n_coarse + settings.n_fine
    forms = INPUTS | OUTPUTS
    if n_components == settings.dim:
        del forms["fine_init.positions"]
    _require_names(path, set(stored), stored_names(forms) | {"config"})

    arrays: dict[str, Any] = {}
    for key, form in forms.items():
        kind, _, letters = form.partition(" ")
        place = f"{path}: {key}"
        if kind == "sparse":
            arrays[key] = _sparse(place, [stored[f"{key}.{part}"] for part in SPARSE_PARTS], (sizes[letters[0]], sizes[letters[1]]))
        else:
            arrays[key] = _numbers(place, stored[key], kind)
            _require_letters(place, arrays[key].shape, letters, sizes)
    return Vectors(path, settings, n_users, n_items, seed, arrays)


def _load(path: Path) -> dict[str, AnyArray]:
    try:
        # Opened here, because np.load leaves a damaged file open.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            return dict(file)
    except Exception as error:  # zipfile, zlib and NumPy have no common one
        raise VectorError(f"{path}: not a readable .npz file: {error}") from error


def _read_config(path: Path, stored: dict[str, AnyArray]) -> tuple[Settings, int, int, int]:
    """(settings, n_users, n_items, seed)."""
    if "config" not in stored:
        raise VectorError(f"{path}: config: missing")
    try:
        config = json.loads(str(stored["config"]))
        named = {name: config[name] for name in _SETTINGS}
        settings = Settings(**named, bridge_weight=config["gate"], l2_weight=config["l2"])
        n_users, n_items, seed = (operator.index(config[name]) for name in ("n_users", "n_items", "seed"))
        return settings, n_users, n_items, seed
    except KeyError as error:
        raise VectorError(f"{path}: config: no value for {error}") from error
    except (TypeError, ValueError) as error:
        raise VectorError(f"{path}: config: {error}") from error


def _require_names(path: Path, names: set[str], expected: set[str]) -> None:
    for found, problem in ((expected - names, "missing"), (names - expected, "unknown, nothing would check it")):
        if found:
            raise VectorError(f"{path}: {', '.join(sorted(found))}: {problem}")


def _require_letters(place: str, shape: tuple[int, ...], letters: str, sizes: dict[str, int]) -> None:
    """Raise VectorError unless `shape` is that of the letters; a letter that has no size yet takes it from here."""
    expected = tuple(sizes.setdefault(letter, size) for letter, size in zip(letters, shape, strict=False))
    if len(shape) != len(letters) or shape != expected:
        known = ", ".join(f"{letter} = {sizes[letter]}" for letter in letters if letter in sizes)
        raise VectorError(f"{place}: must have shape ({', '.join(letters)}) with {known or 'no axis'}, got {shape}")


def _numbers(place: str, array: AnyArray, kind: str) -> AnyArray:
    """The array as read-only int64, or as it is when it is float64 and finite."""
    if not (array.dtype == np.float64 if kind == "float" else array.dtype.kind == "i"):
        raise VectorError(f"{place}: must be of kind {kind}, got {array.dtype}")
    if not np.isfinite(array).all():
        raise VectorError(f"{place}: must be finite, got {array[~np.isfinite(array)][0]}")
    array = array.astype(np.float64 if kind == "float" else np.int64)
    array.flags.writeable = False
    return array


def _sparse(place: str, parts: list[AnyArray], shape: tuple[int, int]) -> sparse.csr_array:
    kinds = ("int", "int", "float", "int")
    row, col, val, given = (
        _numbers(f"{place}.{part}", array, kind) for part, array, kind in zip(SPARSE_PARTS, parts, kinds, strict=True)
    )
    if given.tolist() != list(shape):
        raise VectorError(f"{place}.shape: must be {list(shape)}, got {given.tolist()}")
    if not row.ndim == col.ndim == val.ndim == 1 or not row.size == col.size == val.size:
        raise VectorError(f"{place}: .row, .col and .val must be lists of one length, got {row.shape}, {col.shape}, {val.shape}")
    for part, indices, size in (("row", row, shape[0]), ("col", col, shape[1])):
        outside = (indices < 0) | (indices >= size)
        if outside.any():
            raise VectorError(f"{place}.{part}: must be in [0, {size}), got {indices[outside][0]}")
    matrix = sparse.csr_array((val, (row, col)), shape=shape)
    if matrix.nnz != val.size:
        raise VectorError(f"{place}: {val.size - matrix.nnz} entries are stored twice")
    for array in (matrix.data, matrix.indices, matrix.indptr):
        array.flags.writeable = False
    return matrix
