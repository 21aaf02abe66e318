"""Training from the start: each stage, both stages, and the model that they leave."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from os import PathLike
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias, Unpack

import numpy as np
import numpy.typing as npt
from scipy import sparse

from .. import __version__, spec
from ..bundle import Model
from ..interactions import Interactions, Split
from ..spec import IntArray, Settings, SettingsError
from ..threads import one_blas_thread
from .checkpoints import Checkpoints
from .recipes import Recipe, Schedule
from .schedule import require_pairs, run_stage
from .stages import CoarseStage, FineStage, Tables, default_ops, norm_adjacency_of
from .state import Callbacks, Snapshot, StageResult, State, start_state

Partitioner: TypeAlias = Callable[..., IntArray]
ROWS_PER_BLOCK = 512
"""Rows of the first assignment that are drawn together."""


def train_coarse(
    split: Split,
    settings: Settings,
    recipe: Recipe,
    *,
    rng: np.random.Generator,
    ops: ModuleType | None = None,
    partition: Partitioner = spec.partition,
    dtype: npt.DTypeLike | None = None,
    checkpoints: Checkpoints | None = None,
    **callbacks: Unpack[Callbacks],
) -> StageResult:
    """The coarse stage from its start: partition, random tables, both phases.

    `ops` is the implementation, None for `c2f_ref.fast`; `dtype` is that of the graph, in which `c2f_ref.fast` computes, None for
    float32, or for float64 where `ops` is `c2f_ref.spec`. Tables and Adam's moments are float64 either way.

    Shapes: the result's tables are E_c (C, D) and b (N,); its assignment is S_c (N, C).
    Errors: SettingsError for more rows of a table than entities; SpecError for a split without training or validation pairs;
    CheckpointError for a checkpoint of another run.
    Source: coarse stage.
    """
    ops = ops or default_ops()
    pairs = split.train
    stage = CoarseStage(norm_adjacency_of(pairs, _dtype(ops, dtype)), pairs.n_users, settings, ops)

    def start(rng: np.random.Generator) -> tuple[Tables, sparse.csr_array]:
        labels = partition(_bipartite(pairs), settings.n_coarse, rng=rng)
        # Rows are drawn one after the other, so blocks of them draw the same, and nothing of size (N, C) is made.
        blocks = np.split(labels, range(ROWS_PER_BLOCK, labels.size, ROWS_PER_BLOCK))
        assignment = sparse.vstack([spec.start_coarse_assignment(block, settings, rng=rng) for block in blocks], format="csr")
        table, bias = spec.start_coarse(pairs.n_entities, settings, rng=rng)
        if recipe.bias_start == "zero":
            bias = np.zeros_like(bias)
        elif recipe.bias_start == "popularity":
            bias = np.log1p(np.bincount(pairs.n_users + pairs.items, minlength=pairs.n_entities))
        return (table, bias), assignment

    return _train_stage(stage, start, split, recipe.coarse, rng=rng, checkpoints=checkpoints, callbacks=callbacks)


def train_fine(
    split: Split,
    coarse: Snapshot,
    settings: Settings,
    recipe: Recipe,
    *,
    rng: np.random.Generator,
    ops: ModuleType | None = None,
    partition: Partitioner = spec.partition,
    dtype: npt.DTypeLike | None = None,
    checkpoints: Checkpoints | None = None,
    **callbacks: Unpack[Callbacks],
) -> StageResult:
    """The fine stage from the chosen coarse model: partition, sparse PCA, both phases; E_c and S_c stay as they are.

    Shapes: the result's tables are E_f (F, D) and b (N,); its assignment is S_f (C, F).
    Errors: SettingsError for n_fine == 0; otherwise as `train_coarse`.
    Source: fine stage.
    """
    if settings.n_fine == 0:
        raise SettingsError("n_fine must be at least 1 for the fine stage, got 0")
    ops = ops or default_ops()
    pairs = split.train
    table, bias = coarse.tables
    stage = FineStage(norm_adjacency_of(pairs, _dtype(ops, dtype)), pairs.n_users, coarse.assignment, table, settings, ops)

    def start(rng: np.random.Generator) -> tuple[Tables, sparse.csr_array]:
        affinity = spec.part_affinity(partition(_bipartite(pairs), settings.n_fine, rng=rng), settings.n_fine)
        assignment = spec.start_fine_assignment(coarse.assignment, affinity, settings.fine_per_coarse)
        return (spec.start_fine(table, settings, rng=rng, method=recipe.sparse_pca_method), bias), assignment

    return _train_stage(stage, start, split, recipe.fine, rng=rng, checkpoints=checkpoints, callbacks=callbacks)


def train(
    split: Split,
    settings: Settings,
    recipe: Recipe,
    *,
    seed: int,
    ops: ModuleType | None = None,
    partition: Partitioner = spec.partition,
    dtype: npt.DTypeLike | None = None,
    checkpoint: str | PathLike[str] | None = None,
    resume: bool = False,
    **callbacks: Unpack[Callbacks],
) -> tuple[StageResult, StageResult | None]:
    """Both stages, one after the other: (coarse, fine); with n_fine == 0 the coarse stage alone.

    `checkpoint` is a folder that gets the state of each stage after every evaluation; with `resume` training goes on from
    what is there, to the bytes that it would have ended with undisturbed.

    Edge: one seed, one machine: one result, for any number of threads. The stages draw from independent streams of the seed.
    Errors: as `train_coarse`; SettingsError for `resume` without a folder to go on from.
    Source: coarse stage, fine stage.
    """
    if resume and checkpoint is None:
        raise SettingsError("resume goes on from a checkpoint folder, and none is given")
    ops = ops or default_ops()
    checkpoints = None
    if checkpoint is not None:
        run = {
            "version": __version__,
            "split": split.describe(),
            "settings": asdict(settings),
            "recipe": asdict(recipe),
            "seed": seed,
            "implementation": ops.__name__,
            "dtype": str(_dtype(ops, dtype)),
            "partition": partition.__name__,
        }
        checkpoints = Checkpoints(Path(checkpoint), run, resume)
    coarse_rng, fine_rng = np.random.default_rng(seed).spawn(2)
    shared: dict[str, Any] = {"ops": ops, "partition": partition, "dtype": dtype, "checkpoints": checkpoints, **callbacks}
    coarse = train_coarse(split, settings, recipe, rng=coarse_rng, **shared)
    if settings.n_fine == 0:
        return coarse, None
    return coarse, train_fine(split, coarse.best, settings, recipe, rng=fine_rng, **shared)


def to_model(
    split: Split,
    settings: Settings,
    coarse: Snapshot,
    fine: Snapshot | None = None,
    provenance: Mapping[str, str] | None = None,
) -> Model:
    """What training leaves, as a model that can be saved and served; without `fine` that of the coarse stage."""
    table, bias = coarse.tables
    fine_table, bias = fine.tables if fine else (None, bias)
    return Model(
        settings=settings,
        user_ids=split.train.user_ids,
        item_ids=split.train.item_ids,
        seen=split.train.matrix(),
        bias=bias,
        coarse=table,
        coarse_assignment=coarse.assignment,
        fine=fine_table,
        fine_assignment=fine.assignment if fine else None,
        provenance={"split": split.describe(), **(provenance or {})},
    )


def require_entities(split: Split, settings: Settings) -> None:
    """Raise SettingsError where a table has more rows than there are entities: each row starts from some of its own."""
    for name in ("n_coarse", "n_fine"):
        if getattr(settings, name) > split.train.n_entities:
            most = f"the number of users and items, {split.train.n_entities}"
            raise SettingsError(f"{name} must be at most {most}, got {getattr(settings, name)}")


def _train_stage(
    stage: CoarseStage | FineStage,
    start: Callable[[np.random.Generator], tuple[Tables, sparse.csr_array]],
    split: Split,
    schedule: Schedule,
    *,
    rng: np.random.Generator,
    checkpoints: Checkpoints | None,
    callbacks: Callbacks,
) -> StageResult:
    """Train a stage from its checkpoint or else from its start, and keep every state where there are checkpoints.

    `start` gives tables and assignment; what it makes on the way is gone when training begins.
    """
    require_pairs(split)
    require_entities(split, stage.settings)
    state = checkpoints.load(stage.name) if checkpoints else None
    if state is None:
        start_rng, sample_rng = rng.spawn(2)
        with one_blas_thread():
            state = start_state(*start(start_rng), rng=sample_rng)
    listener = callbacks.get("on_state")

    def keep(state: State) -> None:
        if checkpoints:
            checkpoints.save(stage.name, state)
        if listener:
            listener(state)

    told: Callbacks = {**callbacks, "on_state": keep}
    return run_stage(stage, state, split, stage.settings, schedule, ops=stage.ops, **told)


def _dtype(ops: ModuleType, dtype: npt.DTypeLike | None) -> np.dtype[Any]:
    return np.dtype(dtype or (np.float64 if ops is spec else np.float32))


def _bipartite(pairs: Interactions) -> sparse.csr_array:
    return spec.bipartite(pairs.users, pairs.items, pairs.n_users, pairs.n_items)
