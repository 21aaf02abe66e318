"""From a split to a model: where each stage starts, both stages, stops and resumption."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from itertools import chain, islice
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import sparse

from .. import __version__, method
from ..interactions import Interactions, Split
from ..method import IntArray, MethodError, Settings, SettingsError, Snapshot, State
from ..model import Model
from ..partition import partition
from ..runtime import at_most, load_implementation, one_blas_thread, say, when_slow
from ..store import StoreError, read_store, require_place, write_store
from .recipes import RECIPES, STAGES, Additions, Recipe, Schedule, graph_of, norm_adjacency_of

__all__ = ["Progress", "Trainer", "to_model", "train", "with_pairs"]

Start: TypeAlias = tuple[tuple[Any, ...], sparse.csr_array]
"""Tables and assignment with which a stage begins."""
KIND = "c2f-ref checkpoint 4"
UNTRAINED = "no evaluation of the {} stage was better than its start, untrained"
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


@dataclass(kw_only=True, eq=False)
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
        self.ops = self.ops or load_implementation()
        self.when_slow = when_slow if self.watch else nullcontext  # for those who watch
        self.dtype = np.dtype(self.dtype or (np.float64 if self.ops is method else np.float32))
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
        kept = () if self.checkpoint is None else STAGES
        self.paths = {stage: Path(self.checkpoint or "", f"{stage}.npz") for stage in kept}
        for path in self.paths.values():
            path.parent.mkdir(parents=True, exist_ok=True)
            require_place(path)
            if path.exists() and not self.resume:
                raise StoreError(f"{path}: is a checkpoint; resume it or give another folder")
        self.norm_adjacency = norm_adjacency_of(split.train, self.dtype)
        # Everything that decides the result:
        self.run = {"version": __version__, "split": split.describe(), "seed": self.seed}
        self.run |= {"settings": asdict(settings), "recipe": asdict(self.recipe)}
        self.run |= {"dtype": str(self.dtype), "implementation": self.ops.__name__}
        self.run |= {"partition": self.partition.__name__}

    def coarse(self) -> State:
        """The coarse stage from its start: parts, random tables, both phases.

        Shapes: the tables of the result are E_c (C, D) and b (N,), its assignment is S_c (N, C).
        Errors: MethodError on divergence; StoreError for a checkpoint of another run.
        Source: equations (5), (13) and (26).
        """
        pairs, settings, bias_start = self.split.train, self.settings, self.recipe.bias_start
        stage = method.CoarseStage(self.norm_adjacency, pairs.n_users, settings, self.ops)

        def start(rng: np.random.Generator) -> Start:
            labels = self._labels(settings.n_coarse, rng)
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
        given = self.norm_adjacency, self.split.train.n_users, coarse.assignment, table
        stage = method.FineStage(*given, settings, self.ops)

        def start(rng: np.random.Generator) -> Start:
            affinity = method.part_affinity(self._labels(settings.n_fine, rng), settings.n_fine)
            per_row = settings.fine_per_coarse
            assignment = method.start_fine_assignment(coarse.assignment, affinity, per_row)
            with self.when_slow("sparse PCA, from which the fine table starts"):
                fine = method.start_fine(table, settings, rng=rng, solver=solver)
            return (fine, bias), assignment

        return self._train(stage, start, self.recipe.fine)

    def both(self) -> tuple[State, State | None]:
        """What `train` gives."""
        coarse = self.coarse()
        return coarse, self.fine(coarse.chosen) if self.settings.n_fine else None

    def model(
        self, tables: str | None = None, *, tells: bool = True
    ) -> tuple[Model, State, State | None]:
        """The better of both stages as a model, and both: (model, coarse, fine).

        The command line and the estimator train by this function. The fine stage is the model
        unless the coarse stage has a higher validation NDCG. Where that is so, and where a chosen
        model is not trained, it says so on stderr if it `tells`. `tables` is the type of the
        tables, None for that of the graph; other numbers have it too, but never float16.

        Errors: as the stages; MethodError for a table that float16 cannot hold.
        """
        coarse, fine = self.both()
        chosen = {"coarse": coarse.chosen} | ({"fine": fine.chosen} if fine else {})
        odd = [UNTRAINED.format(name) for name, best in chosen.items() if best.n_steps == 0]
        if fine and fine.chosen.ndcg < coarse.chosen.ndcg:
            lower = f"is {fine.chosen.ndcg:.4f}, below {coarse.chosen.ndcg:.4f} of the coarse stage"
            odd.append(f"the fine stage's validation NDCG {lower}, which is the model")
            del chosen["fine"]
        for line in odd if tells else ():
            say(line)
        known = next((name for name, recipe in RECIPES.items() if recipe == self.recipe), None)
        origin = {"recipe": known or str(self.recipe), "partition": self.partition.__name__}
        origin |= {"implementation": self.ops.__name__.removeprefix("c2f_ref.")}
        origin |= {"seed": str(self.seed)}
        model = to_model(self.split, self.settings, **chosen, provenance=origin)
        tables = tables or str(self.dtype)
        return model.with_tables(tables, tables.replace("float16", "float32")), coarse, fine

    def _labels(self, n_parts: int, rng: np.random.Generator) -> IntArray:
        pairs = self.split.train
        with self.when_slow(f"dividing {pairs.n_entities:,} users and items into {n_parts} parts"):
            return self.partition(graph_of(pairs), n_parts, rng=rng)

    def _train(self, stage: Any, start: Callable[..., Start], schedule: Schedule) -> State:
        """Train a stage from its checkpoint or else from its start, which is freed by then."""
        train, path = self.split.train, self.paths.get(stage.name)
        ours = Additions(schedule, train, self.ops)
        hooks = ours.draw_epoch, ours.judge(self.split.valid.matrix()), ours.choose
        is_small = train.n_pairs * self.settings.dim < SMALL
        with one_blas_thread(), at_most(1 if is_small else None):
            if path and path.exists():
                state = load_state(path, self.run)
            else:
                rng = np.random.default_rng(self.seed).spawn(2)[STAGES.index(stage.name)]
                start_rng, sample_rng = rng.spawn(2)
                state = method.start_state(*start(start_rng), rng=sample_rng)
            n_kept, schedule = len(state.evaluations), ours.schedule
            try:
                states = method.train_stage(stage, state, schedule, *hooks)
                with self.when_slow(f"{stage.name} stage: first evaluation and step, compiling"):
                    first = list(islice(states, 2))
                for state in chain(first, states):  # the last one is the result
                    if path and len(state.evaluations) > n_kept:
                        n_kept = len(state.evaluations)
                        save_state(path, self.run, state)
                    if self.watch:
                        rest = schedule.max_steps, schedule.selection_k
                        self.watch(Progress(stage.name, state, *rest))
            except MethodError as error:
                where = f"the {stage.name} stage diverged after {state.n_steps} steps"
                raise MethodError(f"{where}; lower rates may help: {error}") from error
        return state


def train(
    split: Split, settings: Settings, recipe: Recipe, *, seed: int, **options: Any
) -> tuple[State, State | None]:
    """Both stages, one after the other: (coarse, fine); with n_fine == 0 the coarse stage alone.

    `options` are those of `Trainer`: ops, partition, dtype, checkpoint, resume, watch.

    Edge: one seed, one machine, one result, for any number of threads.
    Errors: as `Trainer` and its stages.
    """
    return Trainer(split=split, settings=settings, recipe=recipe, seed=seed, **options).both()


def with_pairs(model: Model, pairs: Interactions) -> Model:
    """The same model on other pairs, which it propagates over and hides; ids as they were."""
    names = "settings user_ids item_ids bias coarse coarse_assignment fine fine_assignment"
    parts = {name: getattr(model, name) for name in (*names.split(), "provenance")}
    return Model.of(seen=pairs.matrix(), **parts)


def to_model(
    split: Split, settings: Settings, coarse: Snapshot, fine: Snapshot | None = None,
    provenance: Mapping[str, str] | None = None,
) -> Model:  # fmt: skip
    """The chosen model, to be saved and served; without `fine` that of the coarse stage alone."""
    pairs, origin = split.train, {"split": split.describe(), **(provenance or {})}
    parts = {"user_ids": pairs.user_ids, "item_ids": pairs.item_ids, "seen": pairs.matrix()}
    parts |= {"coarse": coarse.tables[0], "coarse_assignment": coarse.assignment}
    if fine:
        parts |= {"fine": fine.tables[0], "fine_assignment": fine.assignment}
    bias = (fine or coarse).tables[1]
    return Model.of(settings=settings, bias=bias, provenance=origin, **parts)


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
