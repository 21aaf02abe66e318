"""The model file: everything that serving needs, in one `.npz` without pickle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from os import PathLike
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from .container import BundleError, read_container, write_container
from .spec.embeddings import soft_threshold
from .spec.notation import Float64Array, Settings, SpecError

FORMAT = "c2f-ref model 1"
DENSE = ("user_ids", "item_ids", "bias", "coarse", "fine")
SPARSE = ("seen", "coarse_assignment", "fine_assignment")


@dataclass(frozen=True, eq=False)
class Model:
    """A trained model: tables, assignments, raw ids, and the training pairs that inference propagates over.

    Shapes: user_ids (U,), item_ids (I,), seen (U, I), bias (N,), coarse (C, D), coarse_assignment (N, C), fine (F, D),
    fine_assignment (C, F).
    Edge: a model of the coarse stage alone has no fine table and no fine assignment. What was computed in float32 is kept so.
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

    def describe_stored(self) -> str:
        """`stored_floats` in words, beside one vector per entity."""
        terms = self.stored_floats()
        tables, everything = terms["coarse"] + terms.get("fine", 0), sum(terms.values())
        full = (self.n_users + self.n_items) * self.settings.dim
        return (
            f"{everything:,} floats stored ({', '.join(f'{name} {count:,}' for name, count in terms.items())}), "
            f"{4 * everything:,} bytes in float32;\n"
            f"the tables alone are {100 * tables / full:.1f} % of one vector per entity ({full:,} floats), everything is "
            f"{100 * everything / full:.1f} %; inference also holds the {self.seen.nnz:,} training pairs"
        )


def save_model(path: str | PathLike[str], model: Model) -> None:
    """Write `model` to `path`: all of it, or nothing and the old file stays.

    Errors: OSError where the folder cannot be written.
    """
    header = {"settings": asdict(model.settings), "provenance": dict(model.provenance)}
    write_container(path, FORMAT, header, {name: getattr(model, name) for name in (*DENSE, *SPARSE)})


def load_model(path: str | PathLike[str]) -> Model:
    """Read a model that `save_model` wrote.

    Errors: BundleError that names the file, and the member where one is at fault; OSError where there is no file.
    """
    header, parts = read_container(path, FORMAT)
    try:
        for name in ("user_ids", "item_ids"):
            if parts[name].dtype.kind not in "iU":
                raise BundleError(f"{name}: must be integers or text, got {parts[name].dtype}")
        for name in parts.keys() - {"user_ids", "item_ids"}:
            values = parts[name].data if name in SPARSE else parts[name]
            if values.dtype not in (np.float32, np.float64) or not np.isfinite(values).all():
                raise BundleError(f"{name}: must be finite float32 or float64, got {values.dtype}")
        return Model(settings=Settings(**header["settings"]), provenance=header["provenance"], **parts)
    except KeyError as error:
        raise BundleError(f"{path}: {error} is missing") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise BundleError(f"{path}: expected a model file: {error}") from error
