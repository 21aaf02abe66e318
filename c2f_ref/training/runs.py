"""Training from the start: each stage, both stages, and the model that they leave."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import TypeAlias, TypedDict, Unpack

import numpy as np
import numpy.typing as npt
from scipy import sparse

from .. import spec
from ..bundle import Model
from ..interactions import Split
from ..spec import Float64Array, IntArray, Settings, SettingsError
from .recipes import Recipe
from .schedule import Evaluation, Progress, Snapshot, StageResult, evaluate_embeddings, require_pairs, run_stage
from .stages import CoarseStage, FineStage

Partitioner: TypeAlias = Callable[..., IntArray]


class Callbacks(TypedDict, total=False):
    """Who is told of training, as `run_stage` does it."""

    on_evaluation: Callable[[Evaluation], None] | None
    on_step: Callable[[Progress], None] | None


def train_coarse(
    split: Split,
    settings: Settings,
    recipe: Recipe,
    *,
    rng: np.random.Generator,
    ops: ModuleType = spec,
    partition: Partitioner = spec.partition,
    dtype: npt.DTypeLike = np.float64,
    **callbacks: Unpack[Callbacks],
) -> StageResult:
    """The coarse stage from its start: partition, random tables, both phases.

    `dtype` is that of the graph, which `c2f_ref.fast` computes in; tables and Adam's moments are float64 either way.

    Shapes: the result's tables are E_c (C, D) and b (N,); its assignment is S_c (N, C).
    Errors: SpecError for fewer entities than coarse rows, or a split without training or validation pairs.
    Source: coarse stage.
    """
    require_pairs(split)
    graph = _bipartite(split)
    start_rng, sample_rng = rng.spawn(2)
    labels = partition(graph, settings.n_coarse, rng=start_rng)
    assignment = spec.start_coarse_assignment(labels, settings, rng=start_rng)
    tables = spec.start_coarse(split.train.n_entities, settings, rng=start_rng)
    stage = CoarseStage(
        spec.normalise(graph).astype(dtype), split.train.n_users, settings, recipe.coarse_lr, recipe.coarse_batch, ops
    )
    return run_stage(stage, tables, assignment, split, settings, recipe, rng=sample_rng, ops=ops, **callbacks)


def train_fine(
    split: Split,
    coarse: Snapshot,
    settings: Settings,
    recipe: Recipe,
    *,
    rng: np.random.Generator,
    ops: ModuleType = spec,
    partition: Partitioner = spec.partition,
    dtype: npt.DTypeLike = np.float64,
    **callbacks: Unpack[Callbacks],
) -> StageResult:
    """The fine stage from the chosen coarse model: partition, sparse PCA, both phases; E_c and S_c stay as they are.

    Shapes: the result's tables are E_f (F, D) and b (N,); its assignment is S_f (C, F).
    Errors: SettingsError for n_fine == 0; otherwise as `train_coarse`.
    Source: fine stage.
    """
    if settings.n_fine == 0:
        raise SettingsError("n_fine must be at least 1 for the fine stage, got 0")
    require_pairs(split)
    graph = _bipartite(split)
    start_rng, sample_rng = rng.spawn(2)
    coarse_table, bias = coarse.tables
    labels = partition(graph, settings.n_fine, rng=start_rng)
    affinity = spec.part_affinity(labels, settings.n_fine)
    assignment = spec.start_fine_assignment(coarse.assignment, affinity, settings.fine_per_coarse)
    tables = spec.start_fine(coarse_table, settings, rng=start_rng), bias
    stage = FineStage(
        spec.normalise(graph).astype(dtype),
        split.train.n_users,
        coarse.assignment,
        coarse_table,
        settings,
        recipe.fine_lr,
        recipe.fine_batch,
        ops,
    )
    return run_stage(stage, tables, assignment, split, settings, recipe, rng=sample_rng, ops=ops, **callbacks)


def train(
    split: Split,
    settings: Settings,
    recipe: Recipe,
    *,
    seed: int,
    ops: ModuleType = spec,
    partition: Partitioner = spec.partition,
    dtype: npt.DTypeLike = np.float64,
    **callbacks: Unpack[Callbacks],
) -> tuple[StageResult, StageResult | None]:
    """Both stages, one after the other: (coarse, fine); with n_fine == 0 the coarse stage alone.

    Edge: one seed, one machine: one result. The stages draw from independent streams of the seed.
    Errors: as `train_coarse`.
    Source: coarse stage, fine stage.
    """
    coarse_rng, fine_rng = np.random.default_rng(seed).spawn(2)
    coarse = train_coarse(split, settings, recipe, rng=coarse_rng, ops=ops, partition=partition, dtype=dtype, **callbacks)
    if settings.n_fine == 0:
        return coarse, None
    fine = train_fine(split, coarse.best, settings, recipe, rng=fine_rng, ops=ops, partition=partition, dtype=dtype, **callbacks)
    return coarse, fine


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


def embed_model(model: Model, *, ops: ModuleType = spec) -> Float64Array:
    """Propagated embeddings of all entities of a model, over its own training pairs.

    Shapes: -> (N, D).
    Source: coarse stage, step 3; fine stage, steps 5 and 6.
    """
    users, items = model.seen.nonzero()
    norm_adjacency = spec.normalise(spec.bipartite(users, items, model.n_users, model.n_items))
    if model.fine is None:
        plan = ops.prepare_coarse(norm_adjacency, model.coarse_assignment, model.n_users, model.settings)
        entities: Float64Array = ops.embed_coarse(plan, model.coarse)[0]
    else:
        plan = ops.prepare_fine(norm_adjacency, model.coarse_assignment, model.fine_assignment, model.n_users, model.settings)
        entities = ops.embed_fine(plan, model.coarse, model.fine)[0]
    return entities


def evaluate_model(model: Model, held_out: sparse.csr_array, ks: Sequence[int], *, ops: ModuleType = spec) -> dict[str, float]:
    """Mean NDCG and recall of a model at every k: `evaluate_embeddings` on what `embed_model` gives.

    Shapes: held_out (U, I).
    Errors: SpecError where no user has a held-out item.
    Source: evaluation protocol.
    """
    return evaluate_embeddings(embed_model(model, ops=ops), model.bias, model.seen, held_out, ks, ops=ops)


def _bipartite(split: Split) -> sparse.csr_array:
    return spec.bipartite(split.train.users, split.train.items, split.train.n_users, split.train.n_items)
