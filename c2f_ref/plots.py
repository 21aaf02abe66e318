"""Pictures; each function returns the Axes that it drew on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .training import Evaluation


def plot_training(evaluations: Sequence[Evaluation], axes: Any = None) -> Any:
    """Validation NDCG of both stages by steps, one after the other; refreshed phases are shaded, the best models marked.

    Edge: without `axes` a new figure is made, outside pyplot's list of open figures; no evaluations give empty axes.
    """
    from matplotlib.figure import Figure

    if axes is None:
        axes = Figure(figsize=(7, 4), layout="constrained").add_subplot()
    offset = 0
    for stage, marker in (("coarse", "o"), ("fine", "s")):
        told = [evaluation for evaluation in evaluations if evaluation.stage == stage]
        if not told:
            continue
        steps = [offset + evaluation.n_steps for evaluation in told]
        curve = axes.plot(steps, [evaluation.ndcg for evaluation in told], label=f"{stage} stage", marker=marker, markersize=3)
        refreshed = [step for step, evaluation in zip(steps, told, strict=True) if evaluation.phase == 2]
        if refreshed:
            axes.axvspan(refreshed[0], refreshed[-1], alpha=0.12, color=curve[0].get_color(), label=f"{stage} assignment refreshed")
        best = max((e for e in told if e.phase == told[-1].phase), key=lambda evaluation: evaluation.ndcg)
        axes.plot(offset + best.n_steps, best.ndcg, marker="*", markersize=14, color=curve[0].get_color(), linestyle="none")
        offset = steps[-1]
    axes.set(xlabel="training steps", ylabel="validation NDCG", title="Training: stars are the chosen models")
    if evaluations:
        axes.legend(loc="lower right", fontsize="small")
    return axes
