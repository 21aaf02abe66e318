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


def test_bridges_are_ordered_by_the_heaviest_fine_row() -> None:
    """The second coarse row leans on fine row 0, the others, in their order, on 2."""
    axes = plots.plot_bridges(BRIDGES)
    np.testing.assert_array_equal(axes.images[0].get_array(), BRIDGES.toarray()[[1, 0, 2]])
    assert axes.get_title() == "6 bridges to 4 of 4 fine rows"


PICTURES: dict[str, Callable[..., Any]] = {
    "training": lambda axes=None: plots.plot_training(COARSE, axes),
    "no training": lambda axes=None: plots.plot_training([], axes),
    "bridges": lambda axes=None: plots.plot_bridges(BRIDGES, axes),
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
