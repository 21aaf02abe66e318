"""Interaction data: pairs in, validated and frozen; files; splits; planted synthetic data."""

from .arrays import *  # noqa: F403
from .files import *  # noqa: F403
from .pairs import *  # noqa: F403
from .planted import *  # noqa: F403
from .splits import *  # noqa: F403
