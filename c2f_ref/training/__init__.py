"""The two stages as loops.

In reading order: `recipes`, `stages`, `state`, `evaluation`, `negatives`, `schedule`, `checkpoints`, `runs`, `memory`.
"""

from .checkpoints import CheckpointError, Checkpoints
from .evaluation import bootstrap_intervals, embed_model, embed_nodes, evaluate_embeddings, evaluate_model, metrics_by_user
from .memory import training_bytes, training_moments
from .negatives import hardest_negatives
from .recipes import DEMO_SETTINGS, RECIPES, Recipe, Schedule, with_overrides
from .runs import to_model, train, train_coarse, train_fine
from .schedule import run_stage
from .stages import CoarseStage, FineStage, Stage, Tables, default_ops, norm_adjacency_of
from .state import Callbacks, Estimate, Evaluation, Progress, Snapshot, StageResult, State, start_state

__all__ = [
    "DEMO_SETTINGS",
    "RECIPES",
    "Callbacks",
    "CheckpointError",
    "Checkpoints",
    "CoarseStage",
    "Estimate",
    "Evaluation",
    "FineStage",
    "Progress",
    "Recipe",
    "Schedule",
    "Snapshot",
    "Stage",
    "StageResult",
    "State",
    "Tables",
    "bootstrap_intervals",
    "default_ops",
    "embed_model",
    "embed_nodes",
    "evaluate_embeddings",
    "evaluate_model",
    "hardest_negatives",
    "metrics_by_user",
    "norm_adjacency_of",
    "run_stage",
    "start_state",
    "to_model",
    "train",
    "train_coarse",
    "train_fine",
    "training_bytes",
    "training_moments",
    "with_overrides",
]
