"""Pictures: what is drawn is what was told, and pyplot knows nothing of it."""

from __future__ import annotations

import io

import pytest
from matplotlib import pyplot
from matplotlib.figure import Figure

from c2f_ref.plots import plot_training
from c2f_ref.training import Evaluation


def told(stage: str, *figures: tuple[int, int, float]) -> list[Evaluation]:
    """Evaluations of a stage: (phase, step, NDCG)."""
    return [Evaluation(stage, phase, 0, step, 99, 0, None, ndcg, False, 0.0) for phase, step, ndcg in figures]


COARSE = told("coarse", (1, 0, 0.1), (1, 10, 0.5), (2, 20, 0.2), (2, 30, 0.4), (2, 40, 0.4))
FINE = told("fine", (1, 0, 0.4), (1, 6, 0.6))


def lines_of(axes: object) -> list[tuple[list[float], list[float]]]:
    return [(list(line.get_xdata()), list(line.get_ydata())) for line in axes.get_lines()]  # type: ignore[attr-defined]


def test_stages_follow_each_other_and_stars_mark_the_chosen_models() -> None:
    """The coarse model is the first best of phase two, at step 30, though phase one had 0.5. The fine stage starts at step 40;
    it ended in phase one, so its model is the best of that.
    """
    axes = plot_training([*COARSE, *FINE])
    assert lines_of(axes) == [
        ([0, 10, 20, 30, 40], [0.1, 0.5, 0.2, 0.4, 0.4]),
        ([30], [0.4]),
        ([40, 46], [0.4, 0.6]),
        ([46], [0.6]),
    ]
    assert [line.get_marker() for line in axes.get_lines()] == ["o", "*", "s", "*"]
    assert [(patch.get_x(), patch.get_width()) for patch in axes.patches] == [(20, 20)]
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["coarse stage", "coarse assignment refreshed", "fine stage"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("training steps", "validation NDCG")


def test_one_stage_alone_is_drawn() -> None:
    assert lines_of(plot_training(FINE)) == [([0, 6], [0.4, 0.6]), ([6], [0.6])]


def test_the_axes_given_are_the_axes_drawn_on() -> None:
    axes = Figure().add_subplot()
    assert plot_training(COARSE, axes) is axes
    assert axes.get_lines()


@pytest.mark.parametrize("evaluations", [COARSE[:1], [*COARSE, *FINE]])
def test_a_picture_can_be_written_and_no_figure_stays_open(evaluations: list[Evaluation]) -> None:
    axes = plot_training(evaluations)
    written = io.BytesIO()
    axes.figure.savefig(written, format="png")
    assert written.getvalue().startswith(b"\x89PNG")
    assert pyplot.get_fignums() == []
