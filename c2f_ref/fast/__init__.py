"""`c2f_ref.spec` for speed: the same names and parameters, float32 or float64.

Read in this order: `compile` (one policy), `kernels` (loops over plain arrays), `plan` (what is kept, and in which order),
`model`, `assignment` and `ranking` (the contract). Every other name is the specification's own: it is not worth compiling, or
fast enough as it stands.
"""

from __future__ import annotations

from typing import Any

from .. import spec
from .assignment import refresh_coarse
from .model import (
    coarse_loss_and_grad,
    embed_coarse,
    embed_fine,
    fine_loss_and_grad,
    prepare_coarse,
    prepare_fine,
)
from .plan import CoarsePlan, FinePlan
from .ranking import rank_items

__all__ = [
    "CoarsePlan",
    "FinePlan",
    "coarse_loss_and_grad",
    "embed_coarse",
    "embed_fine",
    "fine_loss_and_grad",
    "prepare_coarse",
    "prepare_fine",
    "rank_items",
    "refresh_coarse",
]


def __getattr__(name: str) -> Any:
    if name not in spec.__all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(spec, name)
