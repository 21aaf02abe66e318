"""Training: recipes, what they add to the paper's loop, and runs from a split to a model."""

from .recipes import *  # noqa: F403
from .runs import *  # noqa: F403
