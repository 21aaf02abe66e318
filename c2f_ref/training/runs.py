"""From a split to a model: where each stage starts, both stages, stops and resumption."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import sparse

from .. import __version__, method
from ..interactions import Split
from ..method import IntArray, MethodError, Settings, SettingsError, Snapshot, State
from ..model import Model
from ..partition import partition
from ..runtime import at_most, load_implementation, one_blas_thread
from ..store import StoreError, read_store, require_place, write_store
from .recipes import STAGES, Additions, Recipe, Schedule, graph_of, norm_adjacency_of

__all__ = ["Progress", "Trainer", "to_model", "train"]

Start: TypeAlias = Callable[[np.random.Generator], tuple[tuple[Any, ...], sparse.csr_array]]
KIND = "c2f-ref checkpoint 4"
RECORDS: dict[str, Any] = {cls.__name__: cls for cls in (State, Snapshot, method.Evaluation)}
ROWS_PER_BLOCK = 512
"""Rows of the first assignment that are drawn together."""
SMALL = 2**20
"""Pairs times dimensions below which one thread trains: on a busy machine two threads lose more by
waiting for each other than they win."""


class Progress(NamedTuple):
    """What `watch` is given after every step and every evaluation."""

    stage: str
    state: State
    max_steps: int
    selection_k: int


@dataclass(frozen=True, kw_only=True)
class Trainer:
    """Both stages on one split. The stages draw from independent streams of `seed`.

    `ops` is the implementation, None for the default of `load_implementation`; `partition` gives
    the parts that both stages start from; `dtype` is that of the graph, in which `c2f_ref.fast`
    computes: None for float32, or float64 where `ops` is `c2f_ref.method`. Tables and Adam's
    moments are float64 either way. `checkpoint` is a folder that gets the state of each stage after
    every evaluation; with `resume` training goes on from what is there, to the bytes that it would
    have ended with undisturbed. `watch` is called with a `Progress` after every step and every
    evaluation.

    Errors: SettingsError for more rows in a table than entities, or `resume` without a folder;
    MethodError for a split without training or validation pairs; StoreError for a folder that holds
    a state already, without `resume`.
    """

    split: Split
    settings: Settings
    recipe: Recipe
    seed: int
    ops: Any = None
    partition: Callable[..., IntArray] = partition
    dtype: npt.DTypeLike | None = None
    checkpoint: str | PathLike[str] | None = None
    resume: bool = False
    watch: Callable[[Progress], object] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "ops", self.ops or load_implementation())
        split, settings = self.split, self.settings
        for name, part in (("training", split.train), ("validation", split.valid)):
            if part.n_pairs == 0:
                raise MethodError(f"training needs {name} pairs, got none: {split.describe()}")
        for name in ("n_coarse", "n_fine"):
            if getattr(settings, name) > split.train.n_entities:
                most = f"the number of users and items, {split.train.n_entities}"
                raise SettingsError(f"{name} must be at most {most}, got {getattr(settings, name)}")
        if self.checkpoint is None and self.resume:
            raise SettingsError("resume needs the checkpoint folder to go on from, got none")
        if self.checkpoint is not None:
            Path(self.checkpoint).mkdir(parents=True, exist_ok=True)
        for path in filter(None, map(self._path, STAGES)):
            require_place(path)
            if path.exists() and not self.resume:
                raise StoreError(f"{path}: is a checkpoint; resume it or give another folder")

    def coarse(self) -> State:
        """The coarse stage from its start: parts, random tables, both phases.

        Shapes: the tables of the result are E_c (C, D) and b (N,), its assignment is S_c (N, C).
        Errors: MethodError on divergence; StoreError for a checkpoint of another run.
        Source: equations (5), (13) and (26).
        """
        pairs, settings, bias_start = self.split.train, self.settings, self.recipe.bias_start
        stage = method.CoarseStage(self._adjacency(), pairs.n_users, settings, self.ops)

        def start(rng: np.random.Generator) -> tuple[tuple[Any, ...], sparse.csr_array]:
            labels = self.partition(graph_of(pairs), settings.n_coarse, rng=rng)
            # Rows are drawn one after the other: blocks draw the same, and nothing is (N, C).
            blocks = np.split(labels, range(ROWS_PER_BLOCK, labels.size, ROWS_PER_BLOCK))
            rows = [method.start_coarse_assignment(block, settings, rng=rng) for block in blocks]
            table, bias = method.start_coarse(pairs.n_entities, settings, rng=rng)
            if bias_start == "zero":
                bias = np.zeros_like(bias)
            elif bias_start == "popularity":
                bias = np.log1p(np.bincount(pairs.n_users + pairs.items, minlength=bias.size))
            return (table, bias), sparse.vstack(rows, format="csr")

        return self._train(stage, start, self.recipe.coarse)

    def fine(self, coarse: Snapshot) -> State:
        """The fine stage from the chosen coarse model: parts, sparse PCA, both phases.

        Shapes: the tables of the result are E_f (F, D) and b (N,), its assignment is S_f (C, F).
        Errors: SettingsError for n_fine == 0; otherwise as `coarse`.
        Source: equations (6), (14) and (26).
        """
        settings, solver = self.settings, self.recipe.sparse_pca_solver
        table, bias = coarse.tables
        if settings.n_fine == 0:
            raise SettingsError("n_fine must be at least 1 for the fine stage, got 0")
        given = self._adjacency(), self.split.train.n_users, coarse.assignment, table
        stage = method.FineStage(*given, settings, self.ops)

        def start(rng: np.random.Generator) -> tuple[tuple[Any, ...], sparse.csr_array]:
            labels = self.partition(graph_of(self.split.train), settings.n_fine, rng=rng)
            affinity = method.part_affinity(labels, settings.n_fine)
            per_row = settings.fine_per_coarse
            assignment = method.start_fine_assignment(coarse.assignment, affinity, per_row)
            return (method.start_fine(table, settings, rng=rng, solver=solver), bias), assignment

        return self._train(stage, start, self.recipe.fine)

    def _train(self, stage: Any, start: Start, schedule: Schedule) -> State:
        """Train a stage from its checkpoint or else from its start, which is freed by then."""
        train, path = self.split.train, self._path(stage.name)
        schedule = schedule.for_pairs(train.n_pairs)
        ours = Additions(schedule, train, self.ops)
        hooks = ours.draw_epoch, ours.judge(self.split.valid.matrix()), ours.choose
        is_small = train.n_pairs * self.settings.dim < SMALL
        with one_blas_thread(), at_most(1 if is_small else None):
            if path and path.exists():
                state = load_state(path, self._run())
            else:
                rng = np.random.default_rng(self.seed).spawn(2)[STAGES.index(stage.name)]
                start_rng, sample_rng = rng.spawn(2)
                state = method.start_state(*start(start_rng), rng=sample_rng)
            n_kept = len(state.evaluations)
            try:
                states = method.train_stage(stage, state, schedule, *hooks)
                for state in states:  # the last one is the result
                    if path and len(state.evaluations) > n_kept:
                        n_kept = len(state.evaluations)
                        save_state(path, self._run(), state)
                    if self.watch:
                        rest = schedule.max_steps, schedule.selection_k
                        self.watch(Progress(stage.name, state, *rest))
            except MethodError as error:
                where = f"the {stage.name} stage diverged after {state.n_steps} steps"
                raise MethodError(f"{where}; lower rates may help: {error}") from error
        return state

    def _dtype(self) -> np.dtype[Any]:
        return np.dtype(self.dtype or (np.float64 if self.ops is method else np.float32))

    def _adjacency(self) -> sparse.csr_array:
        return norm_adjacency_of(self.split.train, self._dtype())

    def _path(self, stage: str) -> Path | None:
        return None if self.checkpoint is None else Path(self.checkpoint) / f"{stage}.npz"

    def _run(self) -> dict[str, Any]:
        """Everything that decides the result."""
        return {
            "version": __version__,
            "split": self.split.describe(),
            "settings": asdict(self.settings),
            "recipe": asdict(self.recipe),
            "seed": self.seed,
            "implementation": self.ops.__name__,
            "dtype": str(self._dtype()),
            "partition": self.partition.__name__,
        }


def train(
    split: Split, settings: Settings, recipe: Recipe, *, seed: int, **options: Any
) -> tuple[State, State | None]:
    """Both stages, one after the other: (coarse, fine); with n_fine == 0 the coarse stage alone.

    `options` are those of `Trainer`: ops, partition, dtype, checkpoint, resume, watch.

    Edge: one seed, one machine, one result, for any number of threads.
    Errors: as `Trainer` and its stages.
    """
    trainer = Trainer(split=split, settings=settings, recipe=recipe, seed=seed, **options)
    coarse = trainer.coarse()
    return coarse, trainer.fine(coarse.chosen) if settings.n_fine else None


def to_model(
    split: Split,
    settings: Settings,
    coarse: Snapshot,
    fine: Snapshot | None = None,
    provenance: Mapping[str, str] | None = None,
) -> Model:
    """The chosen model, to be saved and served; without `fine` that of the coarse stage alone."""
    return Model.of(
        settings=settings,
        user_ids=split.train.user_ids,
        item_ids=split.train.item_ids,
        seen=split.train.matrix(),
        bias=(fine or coarse).tables[1],
        coarse=coarse.tables[0],
        coarse_assignment=coarse.assignment,
        fine=fine.tables[0] if fine else None,
        fine_assignment=fine.assignment if fine else None,
        provenance={"split": split.describe(), **(provenance or {})},
    )


def save_state(path: Path, run: Mapping[str, Any], state: State) -> None:
    """Write a checkpoint: a state, and everything that decides the result of its run.

    Errors: OSError where the file cannot be written.
    """
    arrays: dict[str, Any] = {}
    header = {"run": run, "state": _packed(state, arrays)}
    write_store(path, KIND, header, arrays)


def load_state(path: Path, run: Mapping[str, Any]) -> State:
    """Read a checkpoint of this run.

    Errors: StoreError for a damaged file, or one of another run, naming the first difference.
    """
    header, arrays = read_store(path, KIND)
    try:
        wanted = json.loads(json.dumps(dict(run)))  # as it was written: JSON has lists alone
        for name, value in wanted.items():
            if (found := header["run"].get(name)) != value:
                raise StoreError(f"is of another run: {name} must be {value!r}, got {found!r}")
        state: State = _unpacked(header["state"], arrays)
        return replace(state, moments=tuple(method.AdamState(*each) for each in state.moments))
    except StoreError as error:
        raise StoreError(f"{path}: {error}") from error
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise StoreError(f"{path}: expected the state of a stage: {error!r}") from error


def _packed(value: Any, arrays: dict[str, Any]) -> Any:
    """`value` as JSON; arrays are put into `arrays`, and the JSON has their names."""

    def packed(part: Any) -> dict[str, Any]:
        if isinstance(part, np.ndarray):
            name = f"array {len(arrays)}"
            arrays[name] = part
            return {"array": name}
        if isinstance(part, sparse.csr_array):
            return {"csr": (part.data, part.indices, part.indptr), "shape": part.shape}
        return {type(part).__name__: vars(part)}

    return json.loads(json.dumps(value, default=packed))


def _unpacked(value: Any, arrays: Mapping[str, Any]) -> Any:
    """What `_packed` was given, but with Adam's moments as plain lists."""

    def unpacked(part: dict[str, Any]) -> Any:
        if "array" in part:
            return arrays[part["array"]]
        if "csr" in part:
            matrix = sparse.csr_array(tuple(part["csr"]), shape=tuple(part["shape"]))
            matrix.check_format(full_check=True)
            return matrix
        name = next(iter(part), None)
        if name in RECORDS:
            fields = part[name].items()
            return RECORDS[name](**{k: tuple(v) if isinstance(v, list) else v for k, v in fields})
        return part

    return json.loads(json.dumps(value), object_hook=unpacked)
