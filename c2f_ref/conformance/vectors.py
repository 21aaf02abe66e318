"""A file of known answers: one random model, every number of it made by the official code.

Names of arrays are those of the official code: `coarse_meta` is our `coarse`, `fine_meta` our `fine`, `linear_weight` our
`bias` and `gate` our `bridge_weight`; `traj` is eight training steps.
"""

from __future__ import annotations

import json
import operator
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import sparse

from ..spec import Settings
from ..spec.notation import require_finite, require_indices, require_shape
from .calls import as_triples

AnyArray: TypeAlias = npt.NDArray[Any]

STAGES = ("coarse", "fine")
OUR_NAMES = {"coarse": "coarse_meta", "fine": "fine_meta", "bias": "linear_weight"}
OUR_NAMES |= {f"{stage}_assignment": f"{stage}_assignment" for stage in STAGES}
_FORMS = {
    "int P": "interactions.user interactions.item",
    "int Q": "eval.test.user eval.test.item",
    "int K": "eval.ks",
    "float K": "eval.recall eval.ndcg",
    "float UI": "eval.scores",
    "int B3": "triples",
    "int TS3": ".traj.triples",
    "float T": ".traj.loss",
    "float": ".bpr .reg .loss .traj.lr .traj.clip",
    "int": ".traj.refresh_at",
    "float CD": ".in.coarse_meta .coarse_out .grad.coarse_meta .traj.coarse_meta fine_init.coarse_meta",
    "float FD": ".in.fine_meta .fine_out .traj.fine_meta fine.grad.fine_meta fine_init.fine_meta",
    "float ND": ".ego .entity_out",
    "float N1": ".in.linear_weight .grad.linear_weight .traj.linear_weight",
    "float 1": ".in.linear_bias .grad.linear_bias",
    "sparse NC": ".in.coarse_assignment .next_coarse_assignment .traj.coarse_assignment fine_init.coarse_assignment",
    "sparse CF": ".in.fine_assignment fine.next_fine_assignment .traj.fine_assignment fine_init.fine_assignment",
    "sparse NF": "fine_init.entity_fine_affinity",
    "sparse NN": "norm_adjacency",
    "sparse GG": ".expanded_graph",
    "int F": "fine_init.rows",
    "int FJ": "fine_init.positions",
}
FORMS = {
    f"{stage}{name}": form
    for form, names in _FORMS.items()
    for name in names.split()
    for stage in (STAGES if name.startswith(".") else ("",))
}
"""Every array beside `config`: kind and shape. U, I, N, C, F, D as everywhere; G = N + C + F nodes, J SparsePCA components; T steps
of S triples, P and Q pairs, B triples and K cuts take their size from the first array that has them. Where J is D a file needs no
positions: they are all columns, in every row. Names with a dot in front are those of either stage."""
REPEATED = {
    "coarse.traj.fine_meta": "coarse.in.fine_meta",  # nothing in this stage reads the fine table
    "coarse.traj.fine_assignment": "coarse.in.fine_assignment",
    "fine_init.coarse_meta": "coarse.traj.coarse_meta",  # the fine stage starts where the coarse steps ended
    "fine_init.coarse_assignment": "coarse.traj.coarse_assignment",
    "fine.traj.coarse_meta": "fine.in.coarse_meta",  # D7
    "fine.traj.coarse_assignment": "fine.in.coarse_assignment",
}
"""Arrays that hold the numbers of another."""
ZERO = ("coarse.fine_out", "coarse.grad.linear_bias", "fine.grad.linear_bias")
"""Arrays of zeros: nothing is joined to fine nodes in the coarse stage, and an offset that all scores share cancels in the loss."""
_SETTINGS = (
    *("n_coarse", "n_fine", "dim", "n_layers", "coarse_per_entity", "fine_per_coarse"),
    *("threshold", "sparse_pca_components"),
)


class VectorError(ValueError):
    """A file of known answers that cannot be used: the message names the file and the array."""


@dataclass(frozen=True)
class Vectors:
    """One file of known answers; all arrays are read-only."""

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
    """Every array: float64, int64 or a sparse array in CSR form; without the axes of length 1 of the official code."""

    def array(self, key: str) -> AnyArray:
        """The array of this name, a sparse one as a dense one."""
        value = self.arrays[key]
        return np.asarray(value.toarray() if sparse.issparse(value) else value)

    def start(self, stage: str) -> dict[str, Any]:
        """What the functions of the whole model are given when a stage starts, by their names for it."""
        adjacency, triples = self.arrays["norm_adjacency"], as_triples(self.arrays["triples"])
        given = {"norm_adjacency": adjacency, "n_users": self.n_users, "settings": self.settings, "triples": triples}
        return given | {ours: self.arrays[f"{stage}.in.{theirs}"] for ours, theirs in OUR_NAMES.items()}

    def pairs(self, name: str) -> sparse.csr_array:
        """User-item pairs as a pattern (U, I)."""
        users, items = self.arrays[f"{name}.user"], self.arrays[f"{name}.item"]
        return sparse.csr_array((np.ones(users.size), (users, items)), shape=(self.n_users, self.n_items))


def read_vectors(path: str | PathLike[str]) -> Vectors:
    """Read one file and check that it holds every array of `FORMS` and nothing else.

    Shapes: as `FORMS` says, and alike wherever two arrays share a letter.
    Errors: VectorError for a file that is unreadable or damaged, an array that is missing, unknown, of another kind or
    shape or not finite, for a sparse array with an index out of range or an entry stored twice, and for an array of `REPEATED` or
    `ZERO` that holds other numbers.
    Source: the README beside the files.
    """
    path = Path(path)
    try:
        # Opened here, because np.load leaves a damaged file open.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            stored = dict(file)
    except Exception as error:  # zipfile, zlib and NumPy have no common one
        raise VectorError(f"{path}: not a readable .npz file: {error}") from error
    try:
        return _vectors(path, stored)
    except ValueError as error:  # of this page, of settings and of SciPy
        raise VectorError(f"{path}: {error}") from error


def _vectors(path: Path, stored: dict[str, AnyArray]) -> Vectors:
    if "config" not in stored:
        raise ValueError("config: missing")
    settings, n_users, n_items, seed = _read_config(str(stored.pop("config")))
    n_entities, n_components = n_users + n_items, min(settings.sparse_pca_components, settings.dim)
    sizes = {"1": 1, "3": 3, "U": n_users, "I": n_items, "N": n_entities, "J": n_components}
    sizes |= {"C": settings.n_coarse, "F": settings.n_fine, "D": settings.dim}
    sizes["G"] = n_entities + settings.n_coarse + settings.n_fine
    if n_components == settings.dim:
        stored.setdefault("fine_init.positions", np.tile(np.arange(settings.dim), (settings.n_fine, 1)))
    arrays: dict[str, Any] = {}
    for key, form in FORMS.items():
        kind, _, letters = form.partition(" ")
        arrays[key] = _sparse(key, stored, letters, sizes) if kind == "sparse" else _numbers(key, stored, kind, letters, sizes)
    if stored:
        raise ValueError(f"{', '.join(sorted(stored))}: unknown, nothing would check it")
    vectors = Vectors(path, settings, n_users, n_items, seed, arrays)
    for key, other in REPEATED.items():
        if not np.array_equal(vectors.array(key), vectors.array(other)):
            raise ValueError(f"{other}, {key}: must hold the same numbers")
    for key in ZERO:
        if arrays[key].any():
            raise ValueError(f"{key}: must hold zeros")
    return vectors


def _read_config(text: str) -> tuple[Settings, int, int, int]:
    """(settings, n_users, n_items, seed)."""
    try:
        config = json.loads(text)
        named = {name: config[name] for name in _SETTINGS}
        settings = Settings(**named, bridge_weight=config["gate"], l2_weight=config["l2"])
        n_users, n_items, seed = (operator.index(config[name]) for name in ("n_users", "n_items", "seed"))
        return settings, n_users, n_items, seed
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"config: {f'no value for {error}' if isinstance(error, KeyError) else error}") from error


def _numbers(key: str, stored: dict[str, AnyArray], kind: str, letters: str, sizes: dict[str, int]) -> AnyArray:
    """The array, taken out of `stored`, as read-only int64 or float64; a letter that has no size yet takes it from here."""
    if key not in stored:
        raise ValueError(f"{key}: missing")
    array = stored.pop(key)
    if not (array.dtype == np.float64 if kind == "float" else array.dtype.kind == "i"):
        raise ValueError(f"{key}: must be of kind {kind}, got {array.dtype}")
    require_finite(key, array)
    if array.ndim == len(letters):
        for letter, size in zip(letters, array.shape, strict=True):
            sizes.setdefault(letter, size)
    require_shape(f"{key} ({', '.join(letters)})", array, tuple(sizes.get(letter, -1) for letter in letters))
    array = array.astype(np.float64 if kind == "float" else np.int64)
    array = array.reshape([sizes[letter] for letter in letters if letter != "1"])
    array.flags.writeable = False
    return array


def _sparse(key: str, stored: dict[str, AnyArray], letters: str, sizes: dict[str, int]) -> sparse.csr_array:
    """The matrix of E entries, taken out of `stored` in four parts."""
    own = {"2": 2}
    row, col = (_numbers(f"{key}.{part}", stored, "int", "E", own) for part in ("row", "col"))
    val, shape = _numbers(f"{key}.val", stored, "float", "E", own), _numbers(f"{key}.shape", stored, "int", "2", own)
    n_rows, n_columns = (sizes[letter] for letter in letters)
    if shape.tolist() != [n_rows, n_columns]:
        raise ValueError(f"{key}.shape: must be {[n_rows, n_columns]}, got {shape.tolist()}")
    require_indices(f"{key}.row", row, n_rows)
    require_indices(f"{key}.col", col, n_columns)
    matrix = sparse.csr_array((val, (row, col)), shape=(n_rows, n_columns))
    if matrix.nnz != val.size:
        raise ValueError(f"{key}: {val.size - matrix.nnz} entries are stored twice")
    for array in (matrix.data, matrix.indices, matrix.indptr):
        array.flags.writeable = False
    return matrix
