"""The two stages as loops. In reading order: `recipes`, `stages`, `schedule`, `runs`."""

from .recipes import DEMO_SETTINGS, RECIPES, Recipe, with_overrides
from .runs import embed_model, evaluate_model, to_model, train, train_coarse, train_fine
from .schedule import Evaluation, Progress, Snapshot, StageResult, evaluate_embeddings, run_stage
from .stages import CoarseStage, FineStage, Stage, Tables

__all__ = [
    "DEMO_SETTINGS",
    "RECIPES",
    "CoarseStage",
    "Evaluation",
    "FineStage",
    "Progress",
    "Recipe",
    "Snapshot",
    "Stage",
    "StageResult",
    "Tables",
    "embed_model",
    "evaluate_embeddings",
    "evaluate_model",
    "run_stage",
    "to_model",
    "train",
    "train_coarse",
    "train_fine",
    "with_overrides",
]
