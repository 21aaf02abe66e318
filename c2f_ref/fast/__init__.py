"""`c2f_ref.method` for speed: the same names and parameters, float32 or float64.

Read in this order: `compile` (one policy), `kernels` (loops over plain arrays), `plan` (the graph,
renumbered), `stages` (both stages, fused) and `rest`. Every other name is that of `c2f_ref.method`,
whose formulas also take a `plan.Matrix`, a sparse array with compiled products.
"""

from __future__ import annotations

from typing import Any

from .. import method
from . import plan, rest, stages
from .plan import *  # noqa: F403
from .rest import *  # noqa: F403
from .stages import *  # noqa: F403

__all__ = [*plan.__all__, *rest.__all__, *stages.__all__]


def __getattr__(name: str) -> Any:
    return getattr(method, name)
