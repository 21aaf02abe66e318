"""Pictures: what is drawn is what was given, pyplot knows none of them, and none needs colour."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import pyplot
from matplotlib.figure import Figure
from scipy import sparse
from support.strategies import read_only

from c2f_ref import plots


def evaluations(stage: str, *rows: tuple[int, int, int, float]) -> list[Any]:
    """Evaluations of a stage: (phase, step, refreshes so far, NDCG)."""
    names = ("phase", "n_steps", "n_refreshes", "ndcg")
    return [SimpleNamespace(stage=stage, **dict(zip(names, row, strict=True))) for row in rows]


COARSE = evaluations(
    "coarse", (1, 0, 0, 0.1), (1, 10, 0, 0.5), (2, 20, 2, 0.2), (2, 30, 4, 0.4), (2, 40, 5, 0.4)
)
FINE = evaluations("fine", (1, 0, 0, 0.4), (1, 6, 0, 0.6))
BRIDGES = sparse.csr_array(np.array([[0, 0, 0.9, 0.1], [0.7, 0.3, 0, 0], [0, 0, 0.6, 0.4]]))
BRIDGES.data.flags.writeable = False
TABLE = read_only(np.array([[1.5, 0.0, -2.0, 0.0, 0.25], [0.0, 0.0, 0.0, 3.0, 0.0]]))
POINTS = read_only(np.random.default_rng(0).standard_normal((11, 5)))


def lines_of(axes: Any) -> list[tuple[str, list[float], list[float]]]:
    return [(line.get_marker(), *map(list, line.get_data())) for line in axes.get_lines()]


def labels_of(axes: Any) -> list[str]:
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_stages_follow_each_other_with_a_star_at_the_model_and_a_tick_for_each_refresh() -> None:
    """The coarse model is the first best of phase two, step 30, though phase one had 0.5.

    Refreshes begin after step 10: two in ten steps are at 10 and 15, one in ten is at the first.
    The fine stage begins at step 40 and ends in phase one, so its model is the best of that.
    """
    axes = plots.plot_training([*COARSE, *FINE])
    assert lines_of(axes) == [
        ("o", [0, 10, 20, 30, 40], [0.1, 0.5, 0.2, 0.4, 0.4]),
        ("*", [30], [0.4]),
        ("|", [10, 15, 20, 25, 30], [0.02] * 5),
        ("s", [40, 46], [0.4, 0.6]),
        ("*", [46], [0.6]),
    ]
    assert axes.get_lines()[2].get_transform() == axes.get_xaxis_transform()
    assert labels_of(axes) == ["coarse stage", "refresh of S_c", "fine stage"]
    assert lines_of(plots.plot_training(FINE)) == [("s", [0, 6], [0.4, 0.6]), ("*", [6], [0.6])]
    refreshed = plots.plot_training([*COARSE, *FINE, *evaluations("fine", (2, 12, 3, 0.5))])
    assert lines_of(refreshed)[-1] == ("|", [46, 48, 50], [0.02] * 3)


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(0, 7)), min_size=1, max_size=9))
def test_every_refresh_has_its_step_between_its_evaluations(spans: list[tuple[int, int]]) -> None:
    """(Steps, refreshes) from one evaluation to the next; steps of refreshes are ascending."""
    steps, refreshes = (np.concatenate([[0], np.cumsum(part)]) for part in zip(*spans, strict=True))
    rows = [(2, int(s), int(r), 0.0) for s, r in zip(steps, refreshes, strict=True)]
    found = plots.refresh_steps(evaluations("coarse", *rows))
    assert found == sorted(set(found))
    span_of_each = np.searchsorted(steps, found, side="right")
    counts = np.bincount(span_of_each, minlength=len(steps))[1:]
    np.testing.assert_array_equal(counts, np.diff(refreshes))


def test_stored_entries_are_black_and_the_title_counts_them() -> None:
    """4 of 10 entries, 1, none and all: white is 0, black the largest."""
    tables = {"before": TABLE, "after": np.where(TABLE == 3.0, TABLE, 0.0), "none": 0 * TABLE}
    before, after, none, full = plots.plot_sparsity({**tables, "all": TABLE + 5})
    assert before.get_title() == "before\n4 of 10 entries are stored (black), 60.0 % are 0"
    assert after.get_title() == "after\n1 of 10 entries are stored (black), 90.0 % are 0"
    shown = [[[1, 0, 1, 0, 1], [0, 0, 0, 1, 0]], [[0] * 5, [0, 0, 0, 1, 0]]]
    for axes, entries in zip((before, after), shown, strict=True):
        np.testing.assert_array_equal(axes.images[0].get_array(), entries)
        assert (axes.images[0].get_cmap().name, axes.images[0].get_clim()) == ("Greys", (0, 1))
    for axes, shade in ((none, 1.0), (full, 0.0)):
        colours = axes.images[0].to_rgba(axes.images[0].get_array())[..., :3]
        assert (colours == shade).all()


def test_bridges_are_ordered_by_the_heaviest_fine_row() -> None:
    """The second coarse row leans on fine row 0, the others, in their order, on 2."""
    axes = plots.plot_bridges(BRIDGES)
    np.testing.assert_array_equal(axes.images[0].get_array(), BRIDGES.toarray()[[1, 0, 2]])
    assert axes.get_title() == "6 bridges to 4 of 4 fine rows"


def test_entities_and_nodes_are_drawn_at_length_one_in_the_plane_of_the_entities() -> None:
    """Unit entities lie four times on the first axis and twice on the second: shares 2 to 1.

    The third coordinate of a node is not visible, and a node of zeros is drawn at 0.
    """
    entities = np.array([[3.0, 0, 0], [-2, 0, 0], [5, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -4, 0]])
    coarse = np.array([[3.0, 4.0, 0.0], [8.0, 0.0, 6.0], [0.0, 0.0, 0.0]])
    axes = plots.plot_embeddings(entities, 5, coarse, np.array([[0.0, -4.0, 3.0]]))
    users, items, *nodes = [np.asarray(drawn.get_offsets()) for drawn in axes.collections]
    np.testing.assert_allclose(users, [[1, 0], [-1, 0], [1, 0], [-1, 0], [0, 1]], atol=1e-12)
    np.testing.assert_allclose(items, [[0, -1]], atol=1e-12)
    np.testing.assert_allclose(nodes[0], [[0.6, 0.8], [0.8, 0], [0, 0]], atol=1e-12)
    np.testing.assert_allclose(nodes[1], [[0, -0.8]], atol=1e-12)
    labels = ["5 of 5 users", "1 of 1 items", "3 coarse nodes", "1 fine nodes"]
    assert labels_of(axes) == labels
    assert axes.get_xlabel() == "component 1 (67 % of the entities' variance)"
    assert axes.get_ylabel() == "component 2 (33 % of the entities' variance)"


def test_of_many_entities_some_are_drawn_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where all are drawn, their centre is at 0."""
    users, items, _ = plots.plot_embeddings(POINTS, 8, TABLE).collections
    entities = np.concatenate([users.get_offsets(), items.get_offsets()])
    np.testing.assert_allclose(entities.mean(axis=0), 0, atol=1e-12)
    monkeypatch.setattr(plots, "MOST_ENTITIES", 6)
    expected = ["4 of 8 users", "2 of 3 items", "3 coarse nodes"]
    assert labels_of(plots.plot_embeddings(POINTS, 8, POINTS[:3])) == expected


@given(st.integers(0, 2**32 - 1), st.integers(2, 9), st.integers(2, 7))
def test_no_other_plane_holds_more_of_the_variance(seed: int, n_points: int, dim: int) -> None:
    """Orthonormal directions with the shares that points have along them, signs fixed.

    20 random planes hold no more; mirrored points have the same plane.
    """
    rng = np.random.default_rng(seed)
    points = rng.standard_normal((n_points, dim)) * rng.uniform(0.1, 3.0, dim)
    centre, directions, shares = plots.principal_plane(points)
    centred = points - centre
    total = (centred**2).sum()
    np.testing.assert_allclose(directions @ directions.T, np.eye(2), atol=1e-9)
    along = ((centred @ directions.T) ** 2).sum(axis=0)
    np.testing.assert_allclose(along / total, shares, atol=1e-9)
    for _ in range(20):
        other = np.linalg.qr(rng.standard_normal((dim, 2)))[0]
        assert ((centred @ other) ** 2).sum() / total <= shares.sum() + 1e-9
    assert (directions[[0, 1], np.abs(directions).argmax(axis=1)] > 0).all()
    np.testing.assert_allclose(plots.principal_plane(-points)[1], directions, atol=1e-6)


@pytest.mark.parametrize("points", [np.ones((3, 4)), np.ones((1, 4)), np.ones((3, 1))])
def test_equal_points_have_no_variance_to_share(points: Any) -> None:
    centre, directions, shares = plots.principal_plane(points)
    assert shares.tolist() == [0, 0]
    assert directions.shape == (2, points.shape[1])
    np.testing.assert_array_equal((points - centre) @ directions.T, np.zeros((len(points), 2)))


PICTURES: dict[str, Callable[..., Any]] = {
    "training": lambda axes=None: plots.plot_training(COARSE, axes),
    "no training": lambda axes=None: plots.plot_training([], axes),
    "sparsity": lambda axes=None: plots.plot_sparsity({"fine": TABLE}, axes and [axes])[0],
    "bridges": lambda axes=None: plots.plot_bridges(BRIDGES, axes),
    "embeddings": lambda axes=None: plots.plot_embeddings(POINTS, 8, POINTS[:3], POINTS[3:5], axes),
}
"""All of read-only arrays: to write to one is an error."""


@pytest.mark.parametrize("draw", PICTURES.values(), ids=PICTURES.keys())
def test_a_picture_is_written_from_a_figure_that_pyplot_does_not_know(
    draw: Callable[..., Any], tmp_path: Path
) -> None:
    axes = draw()
    plots.save_picture(axes, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
    assert all((axes.get_xlabel(), axes.get_ylabel(), axes.get_title()))
    assert pyplot.get_fignums() == []
    given_axes = Figure().add_subplot()
    assert draw(given_axes) is given_axes
    assert given_axes.get_title() == axes.get_title()


def test_a_picture_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(b"old")

    def fail(file: Any, **options: Any) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    axes: Any = SimpleNamespace(figure=SimpleNamespace(savefig=fail))
    with pytest.raises(OSError, match="No space left"):
        plots.save_picture(axes, path)
    assert (path.read_bytes(), list(tmp_path.iterdir())) == (b"old", [path])
