"""`c2f_ref.spec` for speed: the same names and parameters, float32 or float64.

Read in this order: `compile` (one policy), `kernels` (loops over plain arrays), `blocks` (work that threads share), `graph`
(how it is expanded), `plan` (what is kept, and in which order), `batch` (what a step reads, and its loss), `primitives` (small
functions of the specification by name), `model` (both stages, fused and on a plan), `assignment`, `sampling`, `optimise`, `ranking`
(the rest of the contract). Every other name is the specification's own: it is not worth compiling, or fast enough as it stands.
"""

from __future__ import annotations

from typing import Any

from .. import spec
from .assignment import keep_top, refresh_coarse, refresh_fine
from .model import coarse_loss_and_grad, embed_coarse, embed_fine, fine_loss_and_grad, prepare_coarse, prepare_fine
from .optimise import adam_step
from .primitives import (
    bridge,
    bridge_vjp,
    compose,
    compose_vjp,
    propagate_coarse,
    propagate_coarse_vjp,
    propagate_fine,
    propagate_fine_vjp,
    score_pairs,
    score_pairs_vjp,
    soft_threshold,
    soft_threshold_vjp,
)
from .ranking import rank_items
from .sampling import sample_triples

__all__ = [
    "adam_step",
    "bridge",
    "bridge_vjp",
    "coarse_loss_and_grad",
    "compose",
    "compose_vjp",
    "embed_coarse",
    "embed_fine",
    "fine_loss_and_grad",
    "keep_top",
    "prepare_coarse",
    "prepare_fine",
    "propagate_coarse",
    "propagate_coarse_vjp",
    "propagate_fine",
    "propagate_fine_vjp",
    "rank_items",
    "refresh_coarse",
    "refresh_fine",
    "sample_triples",
    "score_pairs",
    "score_pairs_vjp",
    "soft_threshold",
    "soft_threshold_vjp",
]


def __getattr__(name: str) -> Any:
    if name not in spec.__all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(spec, name)
