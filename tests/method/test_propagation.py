"""How embeddings travel: both propagations."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from support.agreement import assert_close, same_bits
from support.calls import calls
from support.strategies import array, csr, models

from c2f_ref.method import propagate_coarse, propagate_fine

seeds = st.integers(0, 2**32)


def test_propagate_coarse_by_hand() -> None:
    """One entity and one coarse row, edge 1/2 from the coarse row to the entity and 2 back:

    (4, 8) -> (8/2, 2 * 4) = (4, 8) -> (4, 8), mean (4, 8); from (6, 0): (0, 12), (6, 0), (4, 4).
    """
    nodes = propagate_coarse(csr([[0, 0.5], [2, 0]]), 2, array([4, 6]), array([8, 0]))
    assert [table.tolist() for table in nodes] == [[[4, 4]], [[8, 4]]]


def test_propagate_fine_by_hand() -> None:
    """Graph of `test_expand_fine_by_hand`: user and item at x, coarse row c, fine row f; S_c and
    S_f are all ones, w = 1/4.

    After G:  h = x/2 + c/sqrt6,  c1 = 2x/sqrt6 + f/sqrt3,  f1 = c/sqrt3; then c2 = c1 - f1,
    c3 = w f1 + (1 - w) c2, entities end at h - c1 + c3; means with layer 0 halve the sums.
    """
    x, c, f, w = 0.5, -1.5, 2.0, 0.25
    a, b, g = 1 / 2, 1 / math.sqrt(6), 1 / math.sqrt(3)
    graph = csr([[0, a, b, 0], [a, 0, b, 0], [b, b, 0, g], [0, 0, g, 0]])
    h, c1, f1 = x * a + c * b, 2 * x * b + f * g, c * g
    c3 = w * f1 + (1 - w) * (c1 - f1)
    nodes = array([x], [x]), array([c]), array([f])
    means = [[(x + h - c1 + c3) / 2]] * 2, [[(c + c3) / 2]], [[(f + f1) / 2]]
    assert_close(propagate_fine(graph, csr([[1], [1]]), csr([[1]]), w, 1, *nodes), means)


@given(models(signed=True), seeds)
def test_one_fine_layer_is_the_graph_followed_by_one_matrix(model, seed) -> None:
    """D2 in one line: after G, with T = w f + (1 - w)(c - S_f f), entities are h + S_c (T - c)."""
    graph, s_c, s_f, w, _, *nodes = calls(model, seed)["propagate_fine"][1]
    cuts = np.cumsum([len(table) for table in nodes[:2]])
    h, c, f = np.split(graph.toarray() @ np.concatenate(nodes), cuts)
    bridged = (1 - w) * c + (2 * w - 1) * (s_f.toarray() @ f)
    ends = h + s_c.toarray() @ (bridged - c), bridged, f
    expected = tuple((start + end) / 2 for start, end in zip(nodes, ends, strict=True))
    assert_close(propagate_fine(graph, s_c, s_f, w, 1, *nodes), expected, 1e-11)


class Operator:
    """Nothing but a product and a transpose, on NumPy rows."""

    def __init__(self, dense: np.ndarray) -> None:
        self._dense = dense

    def __matmul__(self, other: np.ndarray) -> np.ndarray:
        return self._dense @ other

    @property
    def T(self) -> Operator:  # noqa: N802
        """The transpose."""
        return Operator(self._dense.T)


@given(models(signed=True), seeds)
def test_anything_with_a_product_and_a_transpose_propagates(model, seed) -> None:
    """Graphs and assignments need not be SciPy's; zero layers give the nodes back bit for bit."""
    made = calls(model, seed)
    for name in ("propagate_coarse", "propagate_fine"):
        for function, arguments in (made[name], made[f"{name}_vjp"]):
            n = 1 if name == "propagate_coarse" else 3
            operators = [Operator(matrix.toarray()) for matrix in arguments[:n]]
            assert_close(function(*operators, *arguments[n:]), function(*arguments), 1e-11)
            nodes = arguments[-2:] if n == 1 else arguments[-3:]
            before = arguments[: -len(nodes) - 1]
            assert same_bits(function(*before, 0, *nodes), nodes)
