"""The model file: everything that serving needs, in one `.npz` without pickle."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from .files import replacing
from .spec.embeddings import soft_threshold
from .spec.notation import Float64Array, Settings, SpecError

FORMAT = "c2f-ref model 1"
SPARSE = ("seen", "coarse_assignment", "fine_assignment")
DENSE = ("user_ids", "item_ids", "bias", "coarse", "fine")


class BundleError(ValueError):
    """A model file that cannot be read or is not a model: which file, which member, and what was expected."""


@dataclass(frozen=True, eq=False)
class Model:
    """A trained model: tables, assignments, raw ids, and the training pairs that inference propagates over.

    Shapes: user_ids (U,), item_ids (I,), seen (U, I), bias (N,), coarse (C, D), coarse_assignment (N, C), fine (F, D),
    fine_assignment (C, F).
    Edge: a model of the coarse stage alone has no fine table and no fine assignment.
    Errors: SpecError for parts whose sizes do not fit together.
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
        wanted: dict[str, tuple[int, ...]] = {
            "seen": (self.n_users, self.n_items),
            "bias": (n_entities,),
            "coarse": (settings.n_coarse, settings.dim),
            "coarse_assignment": (n_entities, settings.n_coarse),
        }
        if (self.fine is None) != (self.fine_assignment is None):
            raise SpecError("a model must have both a fine table and a fine assignment, or neither")
        if self.fine is not None:
            wanted |= {"fine": (settings.n_fine, settings.dim), "fine_assignment": (settings.n_coarse, settings.n_fine)}
        for name, shape in wanted.items():
            if getattr(self, name).shape != shape:
                raise SpecError(f"{name} must have shape {shape}, got {getattr(self, name).shape}")

    @property
    def n_users(self) -> int:
        """U."""
        return len(self.user_ids)

    @property
    def n_items(self) -> int:
        """I."""
        return len(self.item_ids)

    def stored_floats(self) -> dict[str, int]:
        """Floats that the model keeps, by term. User biases cancel in every ranking and are not counted.

            coarse C D, coarse_assignment t N, bias I, fine nnz(soft(E_f)), fine_assignment nnz(S_f)

        Edge: the training pairs, over which inference propagates, hold indices and no floats; they are not counted here.
        """
        terms = {"coarse": self.coarse.size, "coarse_assignment": int(self.coarse_assignment.nnz), "bias": self.n_items}
        if self.fine is not None and self.fine_assignment is not None:
            terms["fine"] = int(np.count_nonzero(soft_threshold(self.fine, self.settings.threshold)))
            terms["fine_assignment"] = int(self.fine_assignment.nnz)
        return terms


def save_model(path: str | PathLike[str], model: Model) -> None:
    """Write `model` to `path`: all of it, or nothing and the old file stays.

    Errors: OSError where the folder cannot be written.
    """
    header = {"format": FORMAT, "settings": asdict(model.settings), "provenance": dict(model.provenance)}
    arrays: dict[str, npt.NDArray[Any]] = {"header": np.array(json.dumps(header, sort_keys=True))}
    for name in DENSE:
        if getattr(model, name) is not None:
            arrays[name] = getattr(model, name)
    for name in SPARSE:
        matrix = getattr(model, name)
        if matrix is not None:
            for part in ("data", "indices", "indptr"):
                arrays[f"{name}.{part}"] = getattr(matrix, part)
            arrays[f"{name}.shape"] = np.array(matrix.shape)
    with replacing(path) as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def load_model(path: str | PathLike[str]) -> Model:
    """Read a model that `save_model` wrote.

    Errors: BundleError that names the file, and the member where one is at fault; OSError where there is no file.
    """
    content = Path(path).read_bytes()
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        header = json.loads(str(arrays["header"]))
        if header["format"] != FORMAT:
            raise BundleError(f"header: expected format {FORMAT!r}, got {header['format']!r}")
        parts: dict[str, Any] = {name: arrays[name] for name in DENSE if name in arrays}
        for name in SPARSE:
            if f"{name}.shape" in arrays:
                parts[name] = _sparse(name, *(arrays[f"{name}.{part}"] for part in ("data", "indices", "indptr", "shape")))
        for name in parts.keys() & {"bias", "coarse", "fine"}:
            _require_numbers(name, parts[name])
        for name in ("user_ids", "item_ids"):
            if parts[name].dtype.kind not in "iU":
                raise BundleError(f"{name}: must be integers or text, got {parts[name].dtype}")
        return Model(settings=Settings(**header["settings"]), provenance=header["provenance"], **parts)
    except BundleError as error:
        raise BundleError(f"{path}: {error}") from error
    except KeyError as error:
        raise BundleError(f"{path}: {error} is missing") from error
    except Exception as error:  # zipfile, zlib, NumPy and SciPy have many types of error for damage, and document few
        raise BundleError(f"{path}: expected a model file, cannot read it: {error!r}") from error


def _sparse(name: str, data: Any, indices: Any, indptr: Any, shape: Any) -> sparse.csr_array:
    _require_numbers(name, data)
    if not (indices.dtype.kind == indptr.dtype.kind == "i"):
        raise BundleError(f"{name}: indices must be integers, got {indices.dtype} and {indptr.dtype}")
    matrix = sparse.csr_array((data, indices, indptr), shape=tuple(int(size) for size in shape))
    matrix.check_format(full_check=True)
    return matrix


def _require_numbers(name: str, values: npt.NDArray[Any]) -> None:
    if values.dtype != np.float64 or not np.isfinite(values).all():
        raise BundleError(f"{name}: must be finite float64, got {values.dtype}")
