"""Pictures, readable without colour; each function returns the Axes that it drew on.

Without `axes` a figure is made that pyplot does not know, so that none stays open. `save_picture`
writes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby, pairwise
from os import PathLike
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import sparse

from .method import Evaluation, Float64Array
from .store import replacing

Axes: TypeAlias = Any
"""`matplotlib.axes.Axes`; matplotlib is loaded when something is drawn."""
STAGES = {"coarse": ("o-", "C0", "S_c"), "fine": ("s--", "C1", "S_f")}
"""Marker and line, colour and assignment of each stage."""
MOST_ENTITIES = 1000
"""Points that are drawn of users and items together; more would cover one another."""


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


def plot_sparsity(
    tables: Mapping[str, npt.ArrayLike], axes: Sequence[Axes] | None = None
) -> list[Axes]:
    """The entries of each table that are not 0, in black; the title has their number and share.

        {"before": fine, "after": soft_threshold(fine, threshold)}

    Shapes: tables (F, D) -> Axes side by side, one for each table.
    """
    axes = axes or _new_figure(1 + 4 * len(tables)).subplots(1, len(tables), squeeze=False)[0]
    for panel, (name, table) in zip(axes, tables.items(), strict=True):
        kept = np.asarray(table) != 0
        _show_matrix(panel, kept, "dimension", "fine row")
        counts = f"{kept.sum():,} of {kept.size:,} entries are stored (black)"
        panel.set_title(f"{name}\n{counts}, {100 * (~kept).mean():.1f} % are 0", fontsize="medium")
    return list(axes)


def plot_bridges(fine_assignment: sparse.csr_array, axes: Axes | None = None) -> Axes:
    """The weights of S_f, larger ones darker; coarse rows are ordered by their heaviest fine row.

    Shapes: S_f (C, F).
    Edge: a stored weight that underflowed to 0 is counted but not visible.
    """
    axes = axes or _new_figure().add_subplot()
    weights = np.asarray(fine_assignment.toarray())
    order = np.argsort(weights.argmax(axis=1), kind="stable")
    picture = _show_matrix(axes, weights[order], "fine row", "coarse rows, by heaviest fine row")
    axes.figure.colorbar(picture, ax=axes, label="weight in S_f")
    n_used = (weights != 0).any(axis=0).sum()
    axes.set_title(f"{fine_assignment.nnz:,} bridges to {n_used} of {weights.shape[1]} fine rows")
    return axes


def plot_embeddings(
    entities: Float64Array,
    n_users: int,
    coarse: Float64Array,
    fine: Float64Array | None = None,
    axes: Axes | None = None,
) -> Axes:
    """Propagated embeddings, scaled to length 1, in the plane in which those of entities vary most.

    Nodes of tables are much longer than entities, so only directions can be compared. At most
    MOST_ENTITIES entities are drawn, evenly spaced.

    Shapes: entities (N, D), coarse (C, D), fine (F, D) or None.
    Edge: a point outside the plane is projected onto it; an embedding of zeros is drawn at 0.
    """
    axes = axes or _new_figure(height=6).add_subplot()
    entities, n_items = unit_rows(entities), len(entities) - n_users
    shown = np.linspace(0, len(entities) - 1, min(len(entities), MOST_ENTITIES)).astype(np.int64)
    users, items = entities[shown[shown < n_users]], entities[shown[shown >= n_users]]
    groups = {
        f"{len(users):,} of {n_users:,} users": (users, ".", "0.6"),
        f"{len(items):,} of {n_items:,} items": (items, "x", "0.35"),
        f"{len(coarse):,} coarse nodes": (unit_rows(coarse), "s", "C0"),
    }
    if fine is not None:
        groups[f"{len(fine):,} fine nodes"] = (unit_rows(fine), "^", "C1")
    centre, directions, shares = principal_plane(entities)
    for label, (points, marker, colour) in groups.items():
        x, y = directions @ (points - centre).T
        axes.scatter(x, y, s=20, label=label, marker=marker, color=colour, linewidths=0.7)
    axes.set(title="Directions of propagated embeddings in one plane", aspect="equal")
    for axis, number, share in zip((axes.xaxis, axes.yaxis), (1, 2), shares, strict=True):
        axis.set_label_text(f"component {number} ({100 * share:.0f} % of the entities' variance)")
    axes.legend(fontsize="small")
    return axes


def save_picture(axes: Axes, path: str | PathLike[str]) -> None:
    """Write the figure of these axes as PNG, completely or not at all. Errors: OSError."""
    with replacing(path) as file:
        axes.figure.savefig(file, format="png", dpi=150)


def unit_rows(points: Float64Array) -> Float64Array:
    """Scale every row to length 1; a row of zeros stays. Shapes: (n, D) -> (n, D)."""
    lengths = np.linalg.norm(points, axis=1, keepdims=True)
    return np.asarray(points / np.where(lengths > 0, lengths, 1.0))


def principal_plane(points: Float64Array) -> tuple[Float64Array, Float64Array, Float64Array]:
    """The plane in which points vary most: centre, two directions, share of the variance of each.

    Shapes: points (n, D) -> (D,), (2, D), (2,).
    Edge: a direction that the points lack is 0 with a share of 0. The entry of largest size is
    positive in each direction, so no sign depends on the decomposition.
    Source: Pearson 1901, by the singular value decomposition of the centred points.
    """
    centre = points.mean(axis=0)
    _, lengths, directions = np.linalg.svd(points - centre, full_matrices=False)
    heaviest = np.abs(directions).argmax(axis=1)[:, None]
    directions = directions * np.sign(np.take_along_axis(directions, heaviest, axis=1))
    shares = lengths**2 / (np.sum(lengths**2) or 1.0)
    return centre, np.pad(directions, ((0, 2), (0, 0)))[:2], np.pad(shares, (0, 2))[:2]


def _show_matrix(axes: Axes, matrix: npt.NDArray[Any], xlabel: str, ylabel: str) -> Any:
    """Draw entries as grey fields, white for 0 and black for the largest."""
    picture = axes.imshow(matrix, cmap="Greys", vmin=0, aspect="auto", interpolation="none")
    axes.set(xlabel=xlabel, ylabel=ylabel)
    for axis in (axes.xaxis, axes.yaxis):
        axis.get_major_locator().set_params(integer=True)
    return picture


def _new_figure(width: float = 7, height: float = 4) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")
