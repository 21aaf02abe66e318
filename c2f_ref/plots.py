"""Pictures, readable without colour; each function returns the Axes that it drew on.

Without `axes` a figure is made that pyplot does not know, so that none stays open. `save_picture`
writes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby, pairwise
from os import PathLike
from typing import Any, TypeAlias

import numpy as np
from scipy import sparse

from .method import Evaluation
from .store import replacing

Axes: TypeAlias = Any
"""`matplotlib.axes.Axes`; matplotlib is loaded when something is drawn."""
STAGES = {"coarse": ("o-", "C0", "S_c"), "fine": ("s--", "C1", "S_f")}
"""Marker and line, colour and assignment of each stage."""


def plot_training(evaluations: Sequence[Evaluation], axes: Axes | None = None) -> Axes:
    """Validation NDCG by training steps, one stage after the other; stars are the chosen models.

    Every refresh of an assignment is a tick at the lower edge.

    Edge: no evaluations give empty axes.
    """
    axes = axes or _new_figure().add_subplot()
    offset = 0
    for stage, group in groupby(evaluations, key=lambda evaluation: evaluation.stage):
        of_stage, (form, colour, assignment) = list(group), STAGES[stage]
        steps = [offset + evaluation.n_steps for evaluation in of_stage]
        ndcg = [evaluation.ndcg for evaluation in of_stage]
        axes.plot(steps, ndcg, form, color=colour, markersize=3, label=f"{stage} stage")
        last_phase = [e for e in of_stage if e.phase == of_stage[-1].phase]
        chosen = max(last_phase, key=lambda evaluation: evaluation.ndcg)
        axes.plot(offset + chosen.n_steps, chosen.ndcg, "*", color=colour, markersize=14)
        ticks = [offset + step for step in refresh_steps(of_stage)]
        if ticks:
            style = {"color": colour, "markersize": 9, "transform": axes.get_xaxis_transform()}
            axes.plot(ticks, [0.02] * len(ticks), "|", label=f"refresh of {assignment}", **style)
        offset = steps[-1]
    axes.set(title="Training: stars are the chosen models")
    axes.set(xlabel="training steps, one batch each", ylabel="validation NDCG")
    if evaluations:
        axes.legend(loc="upper left", fontsize="small")
    return axes


def refresh_steps(evaluations: Sequence[Evaluation]) -> list[float]:
    """The step before each refresh: the start of every epoch between two evaluations of phase two.

    Shapes: evaluations of one stage, in order -> one step for each refresh.
    Edge: epochs between two evaluations are taken to be equally long.
    """
    return [
        float(step)
        for a, b in pairwise(evaluations)
        for step in np.linspace(a.n_steps, b.n_steps, b.n_refreshes - a.n_refreshes, endpoint=False)
    ]


def plot_bridges(fine_assignment: sparse.csr_array, axes: Axes | None = None) -> Axes:
    """The weights of S_f, larger ones darker; coarse rows are ordered by their heaviest fine row.

    Shapes: S_f (C, F).
    Edge: a stored weight that underflowed to 0 is counted but not visible.
    """
    axes = axes or _new_figure().add_subplot()
    weights = np.asarray(fine_assignment.toarray())
    order = np.argsort(weights.argmax(axis=1), kind="stable")
    picture = axes.imshow(weights[order], "Greys", vmin=0, aspect="auto", interpolation="none")
    axes.set(xlabel="fine row", ylabel="coarse rows, by heaviest fine row")
    for axis in (axes.xaxis, axes.yaxis):
        axis.get_major_locator().set_params(integer=True)
    axes.figure.colorbar(picture, ax=axes, label="weight in S_f")
    n_used = (weights != 0).any(axis=0).sum()
    axes.set_title(f"{fine_assignment.nnz:,} bridges to {n_used} of {weights.shape[1]} fine rows")
    return axes


def save_picture(axes: Axes, path: str | PathLike[str]) -> None:
    """Write the figure of these axes as PNG, completely or not at all. Errors: OSError."""
    with replacing(path) as file:
        axes.figure.savefig(file, format="png", dpi=150)


def _new_figure() -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(7, 4), layout="constrained")
