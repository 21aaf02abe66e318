"""Parts are balanced always, and cut few edges where there is something to find."""

from __future__ import annotations

import time
from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from support.agreement import assert_refused
from support.strategies import read_only, rngs

from c2f_ref.method import bipartite
from c2f_ref.partition import edge_cut, partition

METIS_CUT = {("gowalla", 100): 0.5732, ("lastfm", 60): 0.6314, ("lastfm", 20): 0.5070}
"""Share of pairs cut by METIS (pymetis 2025.2, its defaults), parts up to 3 % above the mean."""


def graph_of(edges: list[tuple[int, int]], n_vertices: int) -> sparse.csr_array:
    """Read-only pattern with a 1 at (i, j) and (j, i) of every edge."""
    dense = np.zeros((n_vertices, n_vertices))
    for i, j in edges:
        dense[i, j] = dense[j, i] = 1.0
    return read_only(sparse.csr_array(dense))


def cliques(sizes: list[int]) -> sparse.csr_array:
    """Cliques of these sizes in a row, the last vertex of each joined to the first of the next."""
    starts = [sum(sizes[:c]) for c in range(len(sizes) + 1)]
    inside = [(i, j) for a, b in pairwise(starts) for i in range(a, b) for j in range(a, i)]
    return graph_of(inside + [(start - 1, start) for start in starts[1:-1]], starts[-1])


def planted(n_users: int, n_items: int, n_parts: int, seed: int) -> tuple[Any, np.ndarray]:
    """Users and items in `n_parts` equal groups; a pair has an edge with probability 0.3 within a
    group, 0.02 across groups.
    """
    groups = np.concatenate([np.arange(n) * n_parts // n for n in (n_users, n_items)])
    chance = np.where(groups[:n_users, None] == groups[n_users:], 0.3, 0.02)
    pairs = np.nonzero(np.random.default_rng(seed).random((n_users, n_items)) < chance)
    return read_only(bipartite(*pairs, n_users, n_items)), groups


def parts_of(graph: sparse.sparray, n_parts: int, seed: int = 0) -> np.ndarray:
    return partition(graph, n_parts, rng=np.random.default_rng(seed))


def assert_balanced(labels: np.ndarray, n_vertices: int, n_parts: int) -> None:
    """No part empty, none above ceil(1.05 N / k) or below floor(0.95 N / k)."""
    assert (labels.shape, labels.dtype) == ((n_vertices,), np.int64)
    counts = Counter(labels.tolist())
    assert set(counts) == set(range(n_parts))
    assert max(counts.values()) <= (21 * n_vertices + 20 * n_parts - 1) // (20 * n_parts)
    assert min(counts.values()) >= 19 * n_vertices // (20 * n_parts)


@st.composite
def graphs(draw: st.DrawFn) -> sparse.csr_array:
    """Directed graphs of 1 to 40 vertices with loops and stored zeros, empty to nearly complete."""
    n, rng = draw(st.integers(1, 40)), draw(rngs())
    density = draw(st.sampled_from([0, 0.03, 0.1, 0.5, 0.95]))
    rows, columns = np.nonzero(rng.random((n, n)) < density)
    values = rng.choice([-1.5, 0.0, 1.0, 2.0], rows.size)
    parts = values, columns, np.searchsorted(rows, np.arange(n + 1))
    return read_only(sparse.csr_array(parts, shape=(n, n)))


def test_cliques_in_a_row_are_separated_in_even_and_odd_numbers() -> None:
    """Two cliques of 7 have 42 edges and one between them; five of 8 have 140 and 4 between."""
    for sizes, cut in [([7, 7], 1 / 43), ([8] * 5, 4 / 144)]:
        for seed in range(3):
            labels = parts_of(cliques(sizes), len(sizes), seed)
            starts = np.cumsum(sizes) - sizes
            assert np.array_equal(labels, np.repeat(labels[starts], sizes))
            assert edge_cut(cliques(sizes), labels) == cut


@settings(max_examples=20)
@given(graph=graphs(), data=st.data(), rng=rngs())
def test_parts_are_balanced_whatever_the_graph(graph: Any, data: Any, rng: Any) -> None:
    n_parts = data.draw(st.integers(1, graph.shape[0]))
    assert_balanced(partition(graph, n_parts, rng=rng), graph.shape[0], n_parts)


def test_parts_are_balanced_on_a_star_and_on_a_complete_bipartite_graph() -> None:
    star, complete = ([(i, j) for i in range(n) for j in range(n, 37)] for n in (1, 15))
    for graph in (graph_of(star, 37), graph_of(complete, 37)):
        for n_parts in (2, 5, 36, 37):
            assert_balanced(parts_of(graph, n_parts, n_parts), 37, n_parts)


def test_vertices_without_an_edge_change_no_label_of_the_others_and_take_no_time() -> None:
    """Two million around a ring of 30 cliques, whose labels are those of the ring alone.

    As many vertices as parts are joined where parts are large: they lie in parts of their own.
    """
    ring = cliques([5] * 30)
    places = np.arange(150) * 13_000 + 7
    ends = tuple(places[part] for part in ring.nonzero())
    graph = sparse.csr_array((np.ones(ring.nnz), ends), shape=(2_000_000, 2_000_000))
    began = time.process_time()
    labels = parts_of(graph, 30)
    assert time.process_time() - began < 10
    assert_balanced(labels, 2_000_000, 30)
    assert edge_cut(graph, labels) <= edge_cut(ring, np.repeat(np.arange(30), 5)) + 0.05
    assert_balanced(parts_of(graph, 300), 2_000_000, 300)
    assert_balanced(parts_of(sparse.csr_array((50, 50)), 7), 50, 7)


@given(graph=graphs(), rng=rngs())
def test_edge_cut_is_the_share_of_edges_with_two_labels(graph: Any, rng: Any) -> None:
    """An edge counts once, whatever is stored; loops and stored zeros are none."""
    labels, dense = read_only(rng.integers(len(graph.indptr) - 1, size=graph.shape[0])), graph != 0
    ends = np.argwhere(np.triu((dense + dense.T).toarray(), 1)).tolist()
    expected = sum(labels[i] != labels[j] for i, j in ends) / len(ends) if ends else 0.0
    assert edge_cut(graph, labels) == expected


def test_planted_groups_are_found_and_dense_blocks_do_not_swing() -> None:
    """A tenth above the planted cut at most; random labels cut 1 - 1/k of all edges.

    K(50, 50) in two parts with a users and 50 - a items on the left cuts 1/2 + 2 (a/50 - 1/2)^2 of
    its edges: 1/2 at best.
    """
    dense = graph_of([(i, j) for i in range(50) for j in range(50, 100)], 100)
    for seed in range(3):
        assert edge_cut(dense, parts_of(dense, 2, seed)) < 0.54
        for n_parts in (6, 11):
            graph, groups = planted(44 * n_parts, 31 * n_parts, n_parts, 3)
            allowed = 1.1 * edge_cut(graph, groups)
            assert allowed < 0.65 * (1 - 1 / n_parts)
            assert edge_cut(graph, parts_of(graph, n_parts, seed)) <= allowed


@pytest.mark.parametrize(
    ("data", "n_parts"),
    [pytest.param(*case, marks=getattr(pytest.mark, case[0])) for case in METIS_CUT],
)
def test_the_cut_of_real_data_is_near_that_of_metis(request: Any, data: str, n_parts: int) -> None:
    """At most 15 % above, on the training pairs `user item item ...`."""
    text = (request.getfixturevalue(data) / "train.txt").read_text(encoding="utf-8")
    lines = [np.array(line.split(), dtype=np.int64) for line in text.splitlines()]
    users = np.concatenate([np.full(len(line) - 1, line[0]) for line in lines])
    items = np.concatenate([line[1:] for line in lines])
    graph = bipartite(users, items, users.max() + 1, items.max() + 1)
    labels = parts_of(graph, n_parts)
    assert_balanced(labels, graph.shape[0], n_parts)
    assert edge_cut(graph, labels) <= 1.15 * METIS_CUT[data, n_parts]


def test_only_the_pattern_and_the_seed_count() -> None:
    """Neither the order of storage nor the type, values, directions, loops or stored zeros."""
    graph, _ = planted(60, 45, 5, 1)
    rows, columns = graph.nonzero()
    order = np.random.default_rng(2).permutation(rows.size)
    order = order[np.argsort(rows[order], kind="stable")]
    shuffled = sparse.csr_array((-1.0 - order, columns[order], graph.indptr), shape=graph.shape)
    assert not shuffled.has_sorted_indices
    wide, zeros = graph.copy(), graph.copy()
    wide.indices, wide.indptr = graph.indices.astype(np.int64), graph.indptr.astype(np.int64)
    zeros.data = np.where(rows < columns, zeros.data, 0.0)
    loops = sparse.csr_array(graph + sparse.eye_array(graph.shape[0]))
    one_direction = sparse.csr_array(sparse.tril(graph))
    expected = parts_of(graph, 6)
    assert (parts_of(graph, 6, 1) != expected).any()
    others = shuffled, wide, zeros, loops, one_direction, graph.astype(np.int32), graph.tocsc()
    for place, same in enumerate(others):
        assert np.array_equal(parts_of(read_only(same), 6), expected), place
        assert edge_cut(read_only(same), expected) == edge_cut(graph, expected), place


def test_graphs_parts_and_labels_that_make_no_sense_are_refused() -> None:
    for n_parts in (0, -1, 8, 2.5, 2.0, float("nan"), None):
        message = rf"n_parts must be an integer in \[1, N = 7\], got {n_parts}"
        assert_refused(message, parts_of, cliques([3, 4]), n_parts)
    assert_refused("n_parts", parts_of, sparse.csr_array((0, 0)), 1)
    for graph, message in [
        (sparse.csr_array((3, 4)), r"graph must have shape \(3, 3\), got \(3, 4\)"),
        (sparse.csr_array(np.diag([1.0, np.nan, 1.0])), "graph must be finite, got nan"),
        (sparse.csr_array(np.diag([1.0, 1.0, np.inf])), "graph must be finite, got inf"),
    ]:
        assert_refused(message, parts_of, graph, 2)
        assert_refused(message, edge_cut, graph, np.zeros(3, dtype=np.int64))
    for labels in (np.zeros(6, dtype=np.int64), np.zeros(7), np.full(7, -1), np.full(7, 7)):
        assert_refused("labels must", edge_cut, cliques([3, 4]), labels)
