"""Reference implementation of C2F-MetaEmbed: coarse-to-fine lightweight meta-embeddings for ID-based recommendation.

Rooms, in reading order: `spec` (the method), `fast` (the same, compiled), `interactions` (data), `training` (the two stages as
loops), `baselines`, `bundle` (the model file, on `stored` and `container`), `device` (serving on NumPy alone),
`conformance` (the oracle), `recommender` (the estimator), `plots`, `doctor`, `cli`. Names are loaded when they are first used, so
that importing the package costs nothing and pulls in no library that is not needed.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_NAMES_OF = {
    "spec": "Settings",
    "interactions": "Interactions Split planted read_folder read_interactions split_ratio split_third",
    "training": "RECIPES Recipe embed_model evaluate_model to_model train train_coarse train_fine",
    "bundle": "Model load_model save_model",
    "device": "Device",
    "recommender": "C2FRecommender",
}
"""What the front door offers, by the room that it is in."""
_HOME_OF = {name: room for room, names in _NAMES_OF.items() for name in names.split()}
__all__ = list(_HOME_OF)


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME_OF[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME_OF})
