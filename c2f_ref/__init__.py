"""Reference implementation of C2F-MetaEmbed: coarse-to-fine meta-embeddings for recommendation.

Pages in reading order: `method` (the method), `partition` (parts of a graph to start from), `fast`
(the same, compiled), `interactions` (data), `training` (from a split to a model), `evaluation`,
`store` and `model` (the trained model and its file), `device` (serving on NumPy alone),
`baselines`, `recommender` (the estimator), `plots`, `conformance` (the oracle), `cli`.
A name is loaded when it is first used: importing the package is cheap and needs no library.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.2.0"

_NAMES_IN = {
    "method": "MethodError Settings SettingsError",
    "interactions": "DataError Interactions Split planted read_folder read_interactions read_split"
    " split_ratio split_third",
    "training": "RECIPES Recipe to_model train",
    "evaluation": "embed_model evaluate_model",
    "model": "Model load_model save_model",
    "device": "Device DeviceError",
    "recommender": "C2FRecommender",
}
_PAGE_OF = {name: page for page, names in _NAMES_IN.items() for name in names.split()}
__all__ = list(_PAGE_OF)


def __getattr__(name: str) -> Any:
    if name not in _PAGE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_PAGE_OF[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
