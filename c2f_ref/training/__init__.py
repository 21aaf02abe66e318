"""Training: recipes, what they add to the paper's loop, and runs from a split to a model."""

from .additions import Additions, hardest_negatives, norm_adjacency_of
from .recipes import DEMO_SETTINGS, RECIPES, Recipe, Schedule, with_overrides
from .runs import Progress, Trainer, to_model, train

__all__ = ["DEMO_SETTINGS", "RECIPES", "Additions", "Progress", "Recipe", "Schedule", "Trainer"]
__all__ += ["hardest_negatives", "norm_adjacency_of", "to_model", "train", "with_overrides"]
