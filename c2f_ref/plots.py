"""Pictures, readable without colour; each function returns the Axes that it drew on.

Without `axes` a figure is made that pyplot does not know of: nothing stays open, and `save_picture` writes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from os import PathLike
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import sparse

from .files import replacing
from .spec import Float64Array, SpecError
from .training import Evaluation

Axes: TypeAlias = Any
"""`matplotlib.axes.Axes`; matplotlib is loaded when something is drawn."""
STAGES = {"coarse": ("o", "-", "C0", "//", "S_c"), "fine": ("s", "--", "C1", "\\\\", "S_f")}
"""Marker, line, colour, hatch and assignment of each stage."""
MARKERS = "osD^vP*X"


def plot_training(evaluations: Sequence[Evaluation], axes: Axes | None = None) -> Axes:
    """Validation NDCG of both stages by steps, one after the other; stars are the chosen models.

    The time in which an assignment is refreshed is hatched, with a tick on the lower edge for every refresh.

    Edge: no evaluations give empty axes.
    """
    axes = axes or _new_figure().add_subplot()
    offset = 0
    for stage, (marker, line, colour, hatch, assignment) in STAGES.items():
        told = [evaluation for evaluation in evaluations if evaluation.stage == stage]
        if not told:
            continue
        steps = [offset + evaluation.n_steps for evaluation in told]
        figures = [evaluation.ndcg for evaluation in told]
        axes.plot(steps, figures, label=f"{stage} stage", color=colour, marker=marker, markersize=3, linestyle=line)
        best = max((e for e in told if e.phase == told[-1].phase), key=lambda evaluation: evaluation.ndcg)
        axes.plot(offset + best.n_steps, best.ndcg, "*", color=colour, markersize=14)
        refreshed = [offset + step for step in refresh_steps(told)]
        if refreshed:
            hatched = {"facecolor": "none", "edgecolor": "0.85", "hatch": hatch}
            axes.axvspan(refreshed[0], steps[-1], zorder=0, label=f"{assignment} is refreshed", **hatched)
            on_lower_edge: dict[str, Any] = {"transform": axes.get_xaxis_transform(), "color": colour, "markersize": 9}
            axes.plot(refreshed, [0.02] * len(refreshed), "|", label=f"refresh of {assignment}", **on_lower_edge)
        offset = steps[-1]
    axes.set(xlabel="training steps, one batch each", ylabel="validation NDCG", title="Training: stars are the chosen models")
    if evaluations:
        axes.legend(loc="upper left", fontsize="small")
    return axes


def refresh_steps(evaluations: Sequence[Evaluation]) -> list[float]:
    """Steps before which the assignment of a stage was refreshed: the first of each epoch between two evaluations.

    Shapes: evaluations of one stage, in order -> as many steps as there were refreshes.
    Edge: epochs between two evaluations are taken to be equally long, as they are but for skipped users.
    """
    between = pairwise(evaluations)
    spans = [np.linspace(a.n_steps, b.n_steps, b.n_refreshes - a.n_refreshes, endpoint=False) for a, b in between]
    return [float(step) for span in spans for step in span]


def plot_memory(
    families: Mapping[str, Sequence[tuple[float, float]]],
    axes: Axes | None = None,
    *,
    measure: str = "recall@20",
    counted: str = "bytes stored",
) -> Axes:
    """How good models are for the bytes that they store: a line for every family of models, a mark for a model alone.

    `families` has (bytes, measure) of every model of a family, in any order; `counted` says what the bytes are made of.

    Errors: SpecError for bytes that are not above 0, which have no place on a logarithmic axis.
    """
    from matplotlib.ticker import EngFormatter

    axes = axes or _new_figure().add_subplot()
    for number, (name, points) in enumerate(families.items()):
        wrong = [n_bytes for n_bytes, _ in points if not n_bytes > 0]
        if wrong:
            raise SpecError(f"bytes of {name} must be above 0, got {wrong[0]}")
        sizes, values = np.array(sorted(points)).reshape(-1, 2).T
        axes.plot(sizes, values, label=name, marker=MARKERS[number % len(MARKERS)], linestyle=("-", "--", ":", "-.")[number % 4])
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(EngFormatter(unit="B"))
    axes.set(xlabel=f"{counted} (logarithmic)", ylabel=measure, title=f"{measure} against memory")
    axes.grid(visible=True, color="0.9")
    axes.legend(fontsize="small")
    return axes


def plot_sparsity(tables: Mapping[str, npt.ArrayLike], axes: Sequence[Axes] | None = None) -> list[Axes]:
    """Which entries of each table are not 0, in black, side by side; how many, and the share of exact zeros, in the title.

        {"before": fine, "after": soft_threshold(fine, threshold)}

    Shapes: tables (F, D) each; an Axes for each.
    """
    axes = axes or _new_figure(1 + 4 * len(tables)).subplots(1, len(tables), squeeze=False)[0]
    for panel, (name, table) in zip(axes, tables.items(), strict=True):
        is_stored = np.asarray(table) != 0
        _show_entries(panel, is_stored, "dimension", "fine row", vmax=1)
        share = 100 * (1 - is_stored.mean())
        told = f"{is_stored.sum():,} of {is_stored.size:,} entries are not 0 (black), {share:.1f} % are"
        panel.set_title(f"{name}\n{told}", fontsize="medium")
    return list(axes)


def plot_bridges(fine_assignment: sparse.csr_array, axes: Axes | None = None) -> Axes:
    """Which fine rows each coarse row bridges to, the darker the heavier: S_f, its rows ordered by their heaviest fine row.

    Shapes: S_f (C, F).
    Edge: a weight that underflowed to 0 is stored, but cannot be seen.
    """
    axes = axes or _new_figure().add_subplot()
    weights = np.asarray(fine_assignment.toarray())
    order = np.argsort(weights.argmax(axis=1), kind="stable")
    picture = _show_entries(axes, weights[order], "fine row", "coarse rows, by their heaviest fine row")
    axes.figure.colorbar(picture, ax=axes, label="weight in S_f")
    (n_coarse, n_fine), n_used = weights.shape, (weights != 0).any(axis=0).sum()
    axes.set_title(f"{fine_assignment.nnz:,} bridges from {n_coarse} coarse rows to {n_used} of {n_fine} fine rows")
    return axes


def plot_embeddings(
    entities: Float64Array,
    n_users: int,
    coarse: Float64Array,
    fine: Float64Array | None = None,
    axes: Axes | None = None,
    *,
    most_entities: int = 1000,
) -> Axes:
    """Directions of propagated embeddings, of entities, coarse and fine nodes, in the plane in which those of entities vary most.

    Every embedding is drawn at length 1: nodes are many times as long as entities, and only directions compare. Of more than
    `most_entities` entities, so many are drawn, evenly spaced over users and items.

    Shapes: entities (N, D), coarse (C, D), fine (F, D) or None.
    Edge: what lies outside the plane is seen at its shadow in it; an embedding of zeros has no direction, and is drawn at 0.
    """
    entities, coarse = directions_of(entities), directions_of(coarse)
    axes = axes or _new_figure(height=6).add_subplot()
    shown = np.unique(np.linspace(0, len(entities) - 1, min(len(entities), most_entities)).astype(np.int64))
    users, items = shown[shown < n_users], shown[shown >= n_users]
    groups: dict[str, tuple[Float64Array, dict[str, Any]]] = {
        "users": (entities[users], {"marker": ".", "color": "0.6", "s": 18}),
        "items": (entities[items], {"marker": "x", "color": "0.35", "s": 14}),
        "coarse nodes": (coarse, {"marker": "s", "color": "C0", "edgecolors": "black", "s": 30}),
    }
    if fine is not None:
        groups["fine nodes"] = (directions_of(fine), {"marker": "^", "color": "C1", "edgecolors": "black", "s": 40})
    centre, directions, shares = principal_plane(entities)
    counts = {"users": n_users, "items": len(entities) - n_users}
    for name, (points, style) in groups.items():
        places = (points - centre) @ directions.T
        of_all = f"of {counts[name]:,} " if counts.get(name, 0) > len(points) else ""
        axes.scatter(places[:, 0], places[:, 1], label=f"{len(points):,} {of_all}{name}", linewidths=0.7, **style)
    first, second = (f"component {i} ({100 * share:.0f} % of the entities' variance)" for i, share in enumerate(shares, 1))
    axes.set(title="Directions of propagated embeddings in one plane", aspect="equal", xlabel=first, ylabel=second)
    axes.legend(fontsize="small")
    return axes


def save_picture(axes: Axes, path: str | PathLike[str]) -> None:
    """Write the figure of these axes as PNG: all of it, or nothing and the old file stays. Errors: OSError where that fails."""
    with replacing(path) as file:
        axes.figure.savefig(file, format="png", dpi=150)


def directions_of(points: Float64Array) -> Float64Array:
    """Every row at length 1, a row of zeros as it is. Shapes: (n, D) -> (n, D)."""
    lengths = np.linalg.norm(points, axis=1, keepdims=True)
    return np.asarray(points / np.where(lengths > 0, lengths, 1.0))


def principal_plane(points: Float64Array) -> tuple[Float64Array, Float64Array, Float64Array]:
    """The plane in which points vary most: its centre, its two directions, and the share of the variance along each.

    Shapes: points (n, D) -> (D,), (2, D), (2,).
    Edge: a direction that the points do not have is 0, with a share of 0. Each direction has its entry of the largest size
    above 0, so that no sign depends on the decomposition.
    Source: principal components, by the singular value decomposition of the centred points.
    """
    centre = points.mean(axis=0)
    _, lengths, directions = np.linalg.svd(points - centre, full_matrices=False)
    heaviest = np.abs(directions).argmax(axis=1)[:, None]
    directions = directions * np.sign(np.take_along_axis(directions, heaviest, axis=1))
    missing = max(0, 2 - len(directions))
    variances = np.pad(lengths**2, (0, missing))
    return centre, np.pad(directions, ((0, missing), (0, 0)))[:2], variances[:2] / (variances.sum() or 1.0)


def _show_entries(axes: Axes, matrix: npt.NDArray[Any], xlabel: str, ylabel: str, vmax: float | None = None) -> Any:
    """Every entry of a matrix as a field, white for 0 and black for `vmax` or the largest, with ticks at whole numbers alone."""
    picture = axes.imshow(matrix, cmap="Greys", vmin=0, vmax=vmax, aspect="auto", interpolation="none")
    axes.set(xlabel=xlabel, ylabel=ylabel)
    for axis in (axes.xaxis, axes.yaxis):
        axis.get_major_locator().set_params(integer=True)
    return picture


def _new_figure(width: float = 7, height: float = 4) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")
