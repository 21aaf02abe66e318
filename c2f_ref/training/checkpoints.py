"""Stop and go on: the state of a stage as a file, so that an interrupted run ends with the bytes of an undisturbed one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from ..container import BundleError, read_container, write_container
from ..spec import AdamState
from .state import Evaluation, Snapshot, State

FORMAT = "c2f-ref checkpoint 2"
PARTS = ("data", "indices", "indptr", "shape")
"""Members of an assignment, behind its name and a dot."""
SNAPSHOTS = ("best", "best_fixed")
STAGES = ("coarse", "fine")


class CheckpointError(BundleError):
    """A checkpoint that is in the way, or is of another run: which file, what was expected, what it holds."""


@dataclass(frozen=True)
class Checkpoints:
    """A folder with the latest state of each stage of one run, `coarse.npz` and `fine.npz`.

    `run` is everything that decides the result (seed, split, settings, recipe, ...); a state of another run is refused.
    Without `resume` a folder that holds a state already is refused too: nothing is lost by starting again.

    Errors: CheckpointError as said; BundleError for a damaged file; OSError where the folder cannot be made or written.
    """

    folder: Path
    run: Mapping[str, Any]
    resume: bool = False

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        for path in map(self._path, STAGES):
            if path.exists() and not self.resume:
                raise CheckpointError(f"{path}: is a checkpoint already; resume it, or give another folder")

    def load(self, stage: str) -> State | None:
        """The latest state of this stage, None where there is none."""
        path = self._path(stage)
        if not path.exists():
            return None
        header, arrays = read_container(path, FORMAT)
        try:
            of_run, state = dict(header["run"]), _state(dict(header["state"]), arrays)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise BundleError(f"{path}: expected the state of a stage: {error!r}") from error
        wanted = json.loads(json.dumps(dict(self.run)))  # as it was written: JSON has lists alone
        for name, value in wanted.items():
            if of_run.get(name) != value:
                raise CheckpointError(f"{path}: is of another run: {_difference(name, value, of_run.get(name))}")
        return state

    def save(self, stage: str, state: State) -> None:
        """Put this state in the place of the stage's earlier one."""
        header, arrays = _described(state)
        write_container(self._path(stage), FORMAT, {"run": self.run, "state": header}, arrays)

    def _path(self, stage: str) -> Path:
        return self.folder / f"{stage}.npz"


def _difference(name: str, wanted: Any, got: Any) -> str:
    """The first field in which two values differ, by its path."""
    if isinstance(wanted, dict) and isinstance(got, dict) and wanted.keys() == got.keys():
        field = next(field for field in wanted if wanted[field] != got[field])
        return _difference(f"{name}.{field}", wanted[field], got[field])
    return f"{name} must be {wanted!r}, got {got!r}"


def _described(state: State) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and arrays of a state."""
    header: dict[str, Any] = {
        name: getattr(state, name) for name in ("rng", "phase", "epoch", "n_steps", "n_refreshes", "n_misses", "is_finished")
    }
    header["evaluations"] = [asdict(evaluation) for evaluation in state.evaluations]
    header["adam_steps"] = [moment.n_steps for moment in state.moments]
    arrays = _parts("assignment", state.assignment)
    for i, (table, moment) in enumerate(zip(state.tables, state.moments, strict=True)):
        arrays |= {f"table {i}": table, f"first {i}": moment.first, f"second {i}": moment.second}
    for name in SNAPSHOTS:
        snapshot = getattr(state, name)
        if snapshot:
            header[name] = {"ndcg": snapshot.ndcg, "epoch": snapshot.epoch, "n_steps": snapshot.n_steps}
            arrays |= _parts(f"{name} assignment", snapshot.assignment)
            arrays |= {f"{name} table {i}": table for i, table in enumerate(snapshot.tables)}
    return header, arrays


def _state(header: dict[str, Any], arrays: Mapping[str, Any]) -> State:
    adam_steps = header.pop("adam_steps")
    of_tables = range(len(adam_steps))
    header["evaluations"] = tuple(Evaluation(**told) for told in header["evaluations"])
    for name in SNAPSHOTS:
        if name in header:
            tables = tuple(arrays[f"{name} table {i}"] for i in of_tables)
            header[name] = Snapshot(tables, _matrix(f"{name} assignment", arrays), **header[name])
    return State(
        tables=tuple(arrays[f"table {i}"] for i in of_tables),
        moments=tuple(AdamState(arrays[f"first {i}"], arrays[f"second {i}"], adam_steps[i]) for i in of_tables),
        assignment=_matrix("assignment", arrays),
        **header,
    )


def _parts(name: str, matrix: sparse.csr_array) -> dict[str, Any]:
    return {f"{name}.{part}": np.asarray(getattr(matrix, part)) for part in PARTS}


def _matrix(name: str, arrays: Mapping[str, Any]) -> sparse.csr_array:
    data, indices, indptr, shape = (arrays[f"{name}.{part}"] for part in PARTS)
    if not indices.dtype.kind == indptr.dtype.kind == shape.dtype.kind == "i":
        raise ValueError(f"{name}: indices and shape must be integers, got {indices.dtype}, {indptr.dtype} and {shape.dtype}")
    matrix = sparse.csr_array((data, indices, indptr), shape=tuple(shape.tolist()))
    matrix.check_format(full_check=True)
    return matrix
