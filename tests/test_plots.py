"""Pictures: what is drawn is what was given, pyplot knows nothing of it, and no picture needs colour."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import pyplot
from matplotlib.figure import Figure
from scipy import sparse

from c2f_ref.plots import (
    plot_bridges,
    plot_embeddings,
    plot_memory,
    plot_sparsity,
    plot_training,
    principal_plane,
    refresh_steps,
)
from c2f_ref.spec import SpecError
from c2f_ref.training import Evaluation


def told(stage: str, *figures: tuple[int, int, int, float]) -> list[Evaluation]:
    """Evaluations of a stage: (phase, step, refreshes so far, NDCG)."""
    return [Evaluation(stage, phase, 0, step, 99, refreshes, None, ndcg, False, 0.0) for phase, step, refreshes, ndcg in figures]


COARSE = told("coarse", (1, 0, 0, 0.1), (1, 10, 0, 0.5), (2, 20, 2, 0.2), (2, 30, 4, 0.4), (2, 40, 5, 0.4))
FINE = told("fine", (1, 0, 0, 0.4), (1, 6, 0, 0.6))
BRIDGES = sparse.csr_array(np.array([[0.0, 0.0, 0.9, 0.1], [0.7, 0.3, 0.0, 0.0], [0.0, 0.0, 0.6, 0.4]]))
TABLE = np.array([[1.5, 0.0, -2.0, 0.0, 0.25], [0.0, 0.0, 0.0, 3.0, 0.0]])
POINTS = np.random.default_rng(0).standard_normal((11, 5))


def lines_of(axes: Any) -> list[tuple[list[float], list[float]]]:
    return [(list(line.get_xdata()), list(line.get_ydata())) for line in axes.get_lines()]


# training


def test_stages_follow_each_other_and_stars_mark_the_chosen_models() -> None:
    """The coarse model is the first best of phase two, at step 30, though phase one had 0.5. The fine stage starts at step 40;
    it ended in phase one, so its model is the best of that.
    """
    axes = plot_training([*COARSE, *FINE])
    assert [line for line in lines_of(axes) if line[1][0] != 0.02] == [
        ([0, 10, 20, 30, 40], [0.1, 0.5, 0.2, 0.4, 0.4]),
        ([30], [0.4]),
        ([40, 46], [0.4, 0.6]),
        ([46], [0.6]),
    ]
    assert [line.get_marker() for line in axes.get_lines()] == ["o", "*", "|", "s", "*"]
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["coarse stage", "S_c is refreshed", "refresh of S_c", "fine stage"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("training steps, one batch each", "validation NDCG")


def test_every_refresh_has_its_tick_and_their_time_is_hatched() -> None:
    """Refreshes begin with the training after step 10: two in ten steps are at 10 and 15, one in ten is at the first. The fine
    stage is drawn 40 steps later.
    """
    assert refresh_steps(COARSE) == [10, 15, 20, 25, 30]
    axes = plot_training([*COARSE, *told("fine", (1, 0, 0, 0.4), (1, 6, 0, 0.6), (2, 12, 3, 0.5))])
    ticks = [line.get_xdata() for line in axes.get_lines() if line.get_marker() == "|"]
    np.testing.assert_array_equal(ticks[0], [10, 15, 20, 25, 30])
    np.testing.assert_array_equal(ticks[1], [46, 48, 50])
    spans = [patch.get_patch_transform().transform_path(patch.get_path()).vertices[:, 0] for patch in axes.patches]
    assert [(span.min(), span.max()) for span in spans] == [(10, 40), (46, 52)]
    assert [patch.get_hatch() for patch in axes.patches] == ["//", "\\\\"]


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(0, 7)), min_size=1, max_size=9))
def test_there_are_as_many_ticks_as_refreshes_each_in_its_span(spans: list[tuple[int, int]]) -> None:
    """(Steps, refreshes) between one evaluation and the next; steps of refreshes are ascending."""
    steps, refreshes = (np.concatenate([[0], np.cumsum(part)]) for part in zip(*spans, strict=True))
    found = refresh_steps(told("coarse", *((2, int(s), int(r), 0.0) for s, r in zip(steps, refreshes, strict=True))))
    assert found == sorted(set(found))
    np.testing.assert_array_equal(np.histogram(found, bins=steps)[0] if found else 0 * refreshes[1:], np.diff(refreshes))


def test_one_stage_alone_is_drawn() -> None:
    assert lines_of(plot_training(FINE)) == [([0, 6], [0.4, 0.6]), ([6], [0.6])]


# memory


def test_families_are_lines_in_order_of_their_bytes() -> None:
    axes = plot_memory(
        {"C2F": [(3000, 0.2), (1000, 0.1)], "LightGCN": [(9000, 0.3)]}, measure="recall@5", counted="bytes of tables"
    )
    assert lines_of(axes) == [([1000, 3000], [0.1, 0.2]), ([9000], [0.3])]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["C2F", "LightGCN"]
    assert (axes.get_xscale(), axes.get_xlabel(), axes.get_ylabel()) == ("log", "bytes of tables (logarithmic)", "recall@5")
    assert axes.xaxis.get_major_formatter()(1000) == "1 kB"


def test_lines_of_families_differ_without_colour() -> None:
    axes = plot_memory({f"family {number}": [(1.0, number), (2.0, number)] for number in range(8)})
    assert len({(line.get_marker(), line.get_linestyle()) for line in axes.get_lines()}) == 8


@pytest.mark.parametrize("n_bytes", [0, -5, float("nan")])
def test_bytes_without_a_place_on_the_axis_are_refused_by_the_name_of_the_family(n_bytes: float) -> None:
    with pytest.raises(SpecError, match=f"bytes of popularity must be above 0, got {n_bytes}"):
        plot_memory({"popularity": [(10.0, 0.3), (n_bytes, 0.1)]})


# sparsity and bridges


def test_black_is_what_is_stored_and_the_title_counts_it() -> None:
    """4 of 10 entries and 1 of 10."""
    alone = np.where(TABLE == 3.0, TABLE, 0.0)
    before, after = plot_sparsity({"before": TABLE, "after": alone})
    assert before.get_title() == "before\n4 of 10 entries are not 0 (black), 60.0 % are"
    assert after.get_title() == "after\n1 of 10 entries are not 0 (black), 90.0 % are"
    np.testing.assert_array_equal(before.images[0].get_array(), [[1, 0, 1, 0, 1], [0, 0, 0, 1, 0]])
    np.testing.assert_array_equal(after.images[0].get_array(), [[0, 0, 0, 0, 0], [0, 0, 0, 1, 0]])


def test_bridges_are_ordered_by_the_heaviest_fine_row() -> None:
    """The second coarse row leans on fine row 0, the others on 2, in the order they came in."""
    axes = plot_bridges(BRIDGES)
    np.testing.assert_array_equal(axes.images[0].get_array(), BRIDGES.toarray()[[1, 0, 2]])
    assert axes.get_title() == "6 bridges from 3 coarse rows to 4 of 4 fine rows"
    assert axes.images[0].get_cmap().name == "Greys"


# embeddings


def test_entities_and_nodes_are_drawn_at_length_one_in_the_plane_of_the_entities() -> None:
    """Directions of entities are four times along the first axis and twice along the second, so shares are 2 to 1; what nodes have
    along the third is not seen, and one of zeros is at 0.
    """
    entities = np.array([[3.0, 0, 0], [-2, 0, 0], [5, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -4, 0]])
    axes = plot_embeddings(entities, 5, np.array([[3.0, 4.0, 0.0], [8.0, 0.0, 6.0], [0.0, 0.0, 0.0]]), np.array([[0.0, -4.0, 3.0]]))
    placed = np.concatenate([np.asarray(drawn.get_offsets()) for drawn in axes.collections])
    expected = [[1, 0], [-1, 0], [1, 0], [-1, 0], [0, 1], [0, -1], [0.6, 0.8], [0.8, 0], [0, 0], [0, -0.8]]
    np.testing.assert_allclose(placed, expected, atol=1e-12)
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["5 users", "1 items", "3 coarse nodes", "1 fine nodes"]
    assert axes.get_xlabel() == "component 1 (67 % of the entities' variance)"
    assert axes.get_ylabel() == "component 2 (33 % of the entities' variance)"


def test_of_many_entities_some_are_drawn_evenly_and_all_nodes() -> None:
    axes = plot_embeddings(POINTS, 8, POINTS[:3], most_entities=6)
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["4 of 8 users", "2 of 3 items", "3 coarse nodes"]


@given(st.integers(0, 2**32 - 1), st.integers(2, 9), st.integers(2, 7))
def test_no_other_plane_holds_more_of_the_variance(seed: int, n_points: int, dim: int) -> None:
    """Directions are orthonormal and what they say they hold is what points have along them; 20 random planes hold no more."""
    rng = np.random.default_rng(seed)
    points = rng.standard_normal((n_points, dim)) * rng.uniform(0.1, 3.0, dim)
    centre, directions, shares = principal_plane(points)
    total = ((points - centre) ** 2).sum()
    np.testing.assert_allclose(directions @ directions.T, np.eye(2), atol=1e-9)
    np.testing.assert_allclose((((points - centre) @ directions.T) ** 2).sum(axis=0) / total, shares, atol=1e-9)
    for _ in range(20):
        other = np.linalg.qr(rng.standard_normal((dim, 2)))[0]
        assert (((points - centre) @ other) ** 2).sum() / total <= shares.sum() + 1e-9


def test_no_sign_depends_on_the_decomposition() -> None:
    """Mirrored points have the same directions, and each has its heaviest entry above 0."""
    _, directions, _ = principal_plane(POINTS)
    np.testing.assert_allclose(principal_plane(-POINTS)[1], directions, atol=1e-9)
    assert (np.take_along_axis(directions, np.abs(directions).argmax(axis=1)[:, None], axis=1) > 0).all()


@pytest.mark.parametrize("points", [np.ones((3, 4)), np.ones((1, 4)), np.ones((3, 1))])
def test_points_that_are_all_equal_have_no_variance_to_share(points: Any) -> None:
    centre, directions, shares = principal_plane(points)
    assert shares.tolist() == [0, 0]
    assert directions.shape == (2, points.shape[1])
    np.testing.assert_array_equal((points - centre) @ directions.T, np.zeros((len(points), 2)))


# all


PICTURES: dict[str, Callable[..., Any]] = {
    "training": lambda axes=None: plot_training(COARSE, axes),
    "no training": lambda axes=None: plot_training([], axes),
    "memory": lambda axes=None: plot_memory({"C2F": [(1.0, 0.1)]}, axes),
    "sparsity": lambda axes=None: plot_sparsity({"fine": TABLE}, axes and [axes])[0],
    "bridges": lambda axes=None: plot_bridges(BRIDGES, axes),
    "embeddings": lambda axes=None: plot_embeddings(POINTS, 8, POINTS[:3], POINTS[3:5], axes),
}


@pytest.mark.parametrize("draw", PICTURES.values(), ids=PICTURES.keys())
def test_a_picture_can_be_written_and_no_figure_stays_open(draw: Callable[..., Any]) -> None:
    axes = draw()
    written = io.BytesIO()
    axes.figure.savefig(written, format="png")
    assert written.getvalue().startswith(b"\x89PNG")
    assert axes.get_xlabel()
    assert axes.get_ylabel()
    assert axes.get_title()
    assert pyplot.get_fignums() == []


@pytest.mark.parametrize("draw", PICTURES.values(), ids=PICTURES.keys())
def test_the_axes_given_are_the_axes_drawn_on(draw: Callable[..., Any]) -> None:
    axes = Figure().add_subplot()
    assert draw(axes) is axes
    assert axes.get_title()


def test_nothing_is_written_to_what_is_given() -> None:
    """Pictures of read-only arrays."""
    points, table = POINTS.copy(), TABLE.copy()
    arrays = (points, table, BRIDGES.data)
    before = [array.tobytes() for array in arrays]
    for array in arrays:
        array.flags.writeable = False  # a write is an error at its place
    plot_embeddings(points, 8, points[:3], points[3:5])
    plot_sparsity({"fine": table})
    plot_bridges(BRIDGES)
    assert [array.tobytes() for array in arrays] == before
