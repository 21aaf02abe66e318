"""Parts are balanced always, and cut few edges where there is something to find."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from support.strategies import read_only, rngs

from c2f_ref.spec.notation import SpecError
from c2f_ref.spec.partitioning import edge_cut, partition

METIS_CUT = {("gowalla", 300): 0.7014, ("gowalla", 100): 0.5732, ("lastfm", 60): 0.6314, ("lastfm", 20): 0.5070}
"""Share of pairs cut by METIS (pymetis 2025.2, unit weights, its defaults), parts up to 3 % above the mean."""


def graph_of(edges: list[tuple[int, int]], n_vertices: int) -> sparse.csr_array:
    """Read-only pattern with a 1 at (i, j) and (j, i) of every edge."""
    dense = np.zeros((n_vertices, n_vertices))
    for i, j in edges:
        dense[i, j] = dense[j, i] = 1.0
    return read_only(sparse.csr_array(dense))


def cliques(sizes: list[int]) -> sparse.csr_array:
    """Cliques of the given sizes in a row, the last vertex of each joined to the first of the next."""
    starts = [sum(sizes[:c]) for c in range(len(sizes) + 1)]
    inside = [(i, j) for start, end in pairwise(starts) for i in range(start, end) for j in range(start, i)]
    return graph_of(inside + [(start - 1, start) for start in starts[1:-1]], starts[-1])


def planted(n_users: int, n_items: int, n_parts: int, rng: np.random.Generator) -> tuple[sparse.csr_array, np.ndarray]:
    """Users and items in `n_parts` groups of equal size; a pair has an edge with probability 0.3 within, 0.02 across groups."""
    groups = np.concatenate((np.arange(n_users) * n_parts // n_users, np.arange(n_items) * n_parts // n_items))
    chance = np.where(groups[:n_users, None] == groups[n_users:], 0.3, 0.02)
    users, items = np.nonzero(rng.random((n_users, n_items)) < chance)
    return graph_of(list(zip(users, n_users + items, strict=True)), n_users + n_items), groups


def edges_of(graph: sparse.csr_array) -> set[tuple[int, int]]:
    """Edges i < j by definition: (i, j) or (j, i) is not 0."""
    dense = graph.toarray()
    return {(i, j) for j in range(len(dense)) for i in range(j) if dense[i, j] != 0 or dense[j, i] != 0}


def assert_balanced(labels: np.ndarray, n_vertices: int, n_parts: int) -> None:
    """No part empty, none above ceil(1.05 N / k) or below floor(0.95 N / k), counted one by one."""
    assert labels.shape == (n_vertices,)
    assert labels.dtype == np.int64
    counts = [0] * n_parts
    for label in labels.tolist():
        assert 0 <= label < n_parts
        counts[label] += 1
    assert min(counts) >= 1
    assert max(counts) <= (21 * n_vertices + 20 * n_parts - 1) // (20 * n_parts)
    assert min(counts) >= 19 * n_vertices // (20 * n_parts)


@st.composite
def graphs(draw: st.DrawFn) -> sparse.csr_array:
    """Graphs of 1 to 40 vertices in any direction, with loops and stored zeros, from no edge at all to nearly complete."""
    n_vertices, rng = draw(st.integers(1, 40)), draw(rngs())
    density = draw(st.sampled_from([0.0, 0.03, 0.1, 0.5, 0.95]))
    rows, columns = np.nonzero(rng.random((n_vertices, n_vertices)) < density)
    values = rng.choice([-1.5, 0.0, 1.0, 2.0], rows.size)
    graph = sparse.csr_array((values, columns, np.searchsorted(rows, np.arange(n_vertices + 1))), shape=(n_vertices, n_vertices))
    return read_only(graph)


# By hand


@pytest.mark.parametrize("seed", range(5))
def test_two_cliques_joined_by_an_edge_are_separated(seed: int) -> None:
    """Two cliques of 7 vertices have 42 edges; only the one between them is cut: 1 / 43."""
    graph = cliques([7, 7])
    labels = partition(graph, 2, rng=np.random.default_rng(seed))
    assert labels.tolist() in ([0] * 7 + [1] * 7, [1] * 7 + [0] * 7)
    assert edge_cut(graph, labels) == 1 / 43


@pytest.mark.parametrize("seed", range(5))
def test_an_odd_number_of_parts_is_found_too(seed: int) -> None:
    """Five cliques of 8 in a row: 5 * 28 edges inside, 4 between."""
    graph = cliques([8] * 5)
    assert edge_cut(graph, partition(graph, 5, rng=np.random.default_rng(seed))) == 4 / 144


def test_components_that_fit_are_not_cut() -> None:
    """Forty cliques of 5 make eight parts of 25 vertices without a cut."""
    graph = graph_of([(5 * c + i, 5 * c + j) for c in range(40) for i in range(5) for j in range(i)], 200)
    assert edge_cut(graph, partition(graph, 8, rng=np.random.default_rng(0))) == 0.0


def test_edge_cut_counts_an_edge_once_whatever_its_storage() -> None:
    """Edges 0-1 (both directions), 1-2 (one direction); a loop and a stored 0 are no edge. Labels 0, 0, 1, 1 cut the second."""
    entries = {(0, 1): 1.0, (1, 0): 1.0, (2, 1): -3.0, (3, 3): 1.0, (0, 3): 0.0}
    ends = np.array(list(entries)).T
    graph = sparse.coo_array((list(entries.values()), (ends[0], ends[1])), shape=(4, 4)).tocsr()
    assert edge_cut(graph, np.array([0, 0, 1, 1])) == 1 / 2


# By definition


@given(graph=graphs(), data=st.data(), rng=rngs())
def test_parts_are_balanced_whatever_the_graph(graph: sparse.csr_array, data: st.DataObject, rng: np.random.Generator) -> None:
    n_parts = data.draw(st.integers(1, graph.shape[0]))
    assert_balanced(partition(graph, n_parts, rng=rng), graph.shape[0], n_parts)


NAMED_GRAPHS = {
    "star": [(0, j) for j in range(1, 37)],
    "clique": [(i, j) for i in range(37) for j in range(i)],
    "complete bipartite": [(i, j) for i in range(15) for j in range(15, 37)],
    "path": [(i, i + 1) for i in range(36)],
    "one edge, the rest isolated": [(3, 9)],
    "no edges": [],
}


@pytest.mark.parametrize("edges", NAMED_GRAPHS.values(), ids=NAMED_GRAPHS)
def test_parts_are_balanced_on_named_graphs_for_every_number_of_parts(edges: list[tuple[int, int]]) -> None:
    graph = graph_of(edges, 37)
    for n_parts in range(1, 38):
        assert_balanced(partition(graph, n_parts, rng=np.random.default_rng(n_parts)), 37, n_parts)


@given(graph=graphs(), rng=rngs())
def test_edge_cut_is_the_share_of_edges_with_two_labels(graph: sparse.csr_array, rng: np.random.Generator) -> None:
    labels = read_only(rng.integers(graph.shape[0], size=graph.shape[0]))
    edges = edges_of(graph)
    expected = sum(1 for i, j in edges if labels[i] != labels[j]) / len(edges) if edges else 0.0
    assert edge_cut(graph, labels) == expected


# Quality


@pytest.mark.parametrize("n_parts", [6, 11])
def test_planted_groups_are_found(n_parts: int) -> None:
    """A tenth above the planted cut at most; random labels cut 1 - 1/k of all edges, which is far more."""
    graph, groups = planted(44 * n_parts, 31 * n_parts, n_parts, np.random.default_rng(3))
    allowed = 1.1 * edge_cut(graph, groups)
    assert allowed < 0.65 * (1 - 1 / n_parts)
    for seed in range(3):
        assert edge_cut(graph, partition(graph, n_parts, rng=np.random.default_rng(seed))) <= allowed


def test_dense_blocks_do_not_swing() -> None:
    """K(50, 50) in two parts with a users and 50 - a items on the left cuts 1/2 + 2 (a/50 - 1/2)^2 of its edges: 1/2 at best."""
    graph = graph_of([(i, j) for i in range(50) for j in range(50, 100)], 100)
    for seed in range(5):
        assert edge_cut(graph, partition(graph, 2, rng=np.random.default_rng(seed))) < 0.54


def read_graph(folder: Path) -> sparse.csr_array:
    """The training pairs `user item item ...`; item i is vertex n_users + i."""
    lines = [np.array(line.split(), dtype=np.int64) for line in (folder / "train.txt").read_text(encoding="utf-8").splitlines()]
    users = np.concatenate([np.full(len(line) - 1, line[0]) for line in lines])
    items = users.max() + 1 + np.concatenate([line[1:] for line in lines])
    n_vertices = items.max() + 1
    return sparse.coo_array((np.ones(users.size), (users, items)), shape=(n_vertices, n_vertices)).tocsr()


def assert_near_metis(folder: Path, n_parts: int, seed: int) -> None:
    graph = read_graph(folder)
    labels = partition(graph, n_parts, rng=np.random.default_rng(seed))
    assert_balanced(labels, graph.shape[0], n_parts)
    assert edge_cut(graph, labels) <= 1.15 * METIS_CUT[folder.name, n_parts]


@pytest.mark.lastfm
@pytest.mark.parametrize("n_parts", [60, 20])
@pytest.mark.parametrize("seed", range(3))
def test_the_cut_of_lastfm_is_at_most_that_of_metis(lastfm: Path, n_parts: int, seed: int) -> None:
    assert_near_metis(lastfm, n_parts, seed)


@pytest.mark.gowalla
@pytest.mark.parametrize("n_parts", [300, 100])
def test_the_cut_of_gowalla_is_at_most_that_of_metis(gowalla: Path, n_parts: int) -> None:
    assert_near_metis(gowalla, n_parts, seed=2024)


# Identities


def test_one_seed_gives_one_result_and_another_seed_another() -> None:
    graph, _ = planted(60, 45, 5, np.random.default_rng(1))
    first, again, other = (partition(graph, 5, rng=np.random.default_rng(seed)) for seed in (7, 7, 8))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def stored_otherwise(graph: sparse.csr_array) -> dict[str, sparse.sparray]:
    """The same pattern in other clothes."""
    coo = graph.tocoo()
    order = np.random.default_rng(2).permutation(coo.nnz)
    order = order[np.argsort(coo.row[order], kind="stable")]
    shuffled = sparse.csr_array((coo.data[order], coo.col[order], graph.indptr), shape=graph.shape)
    assert not shuffled.has_sorted_indices
    wide = graph.copy()
    wide.indices, wide.indptr = graph.indices.astype(np.int64), graph.indptr.astype(np.int64)
    zeros = graph.copy()
    zeros.data = np.where(coo.row < coo.col, zeros.data, 0.0)
    return {
        "order of storage": shuffled,
        "int64 indices": wide,
        "other values": sparse.csr_array((-0.25 * (1 + order), graph.indices, graph.indptr), shape=graph.shape),
        "integers": graph.astype(np.int32),
        "one direction": sparse.csr_array(sparse.tril(graph)),
        "the other direction stored as 0": zeros,
        "loops": sparse.csr_array(graph + sparse.eye_array(graph.shape[0])),
        "CSC": graph.tocsc(),
    }


def test_only_the_pattern_counts() -> None:
    graph, _ = planted(60, 45, 5, np.random.default_rng(1))
    expected = partition(graph, 6, rng=np.random.default_rng(0))
    for name, same in stored_otherwise(graph).items():
        np.testing.assert_array_equal(partition(read_only(same), 6, rng=np.random.default_rng(0)), expected, err_msg=name)
        assert edge_cut(read_only(same), expected) == edge_cut(graph, expected), name


# Edges


def test_a_graph_without_edges_has_no_cut() -> None:
    assert edge_cut(sparse.csr_array((5, 5)), np.arange(5)) == 0.0
    assert edge_cut(sparse.csr_array(np.eye(5)), np.arange(5)) == 0.0


@pytest.mark.parametrize("n_parts", [0, -1, 8, 2.5, 2.0, float("nan"), None])
def test_a_number_of_parts_outside_1_to_n_is_refused(n_parts: int) -> None:
    with pytest.raises(SpecError, match=rf"n_parts must be an integer in \[1, N = 7\], got {n_parts}"):
        partition(cliques([3, 4]), n_parts, rng=np.random.default_rng(0))


def test_no_vertices_make_no_parts() -> None:
    with pytest.raises(SpecError, match="n_parts"):
        partition(sparse.csr_array((0, 0)), 1, rng=np.random.default_rng(0))


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (sparse.csr_array((3, 4)), r"graph must have shape \(3, 3\), got \(3, 4\)"),
        (sparse.csr_array(np.diag([1.0, np.nan, 1.0])), "graph must be finite, got nan"),
        (sparse.csr_array(np.diag([1.0, 1.0, np.inf])), "graph must be finite, got inf"),
    ],
)
def test_a_graph_that_is_not_square_or_not_finite_is_refused(graph: sparse.csr_array, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        partition(graph, 2, rng=np.random.default_rng(0))
    with pytest.raises(SpecError, match=message):
        edge_cut(graph, np.zeros(3, dtype=np.int64))


@pytest.mark.parametrize("labels", [np.zeros(6, dtype=np.int64), np.zeros(7), np.full(7, -1), np.full(7, 7)])
def test_labels_of_another_shape_type_or_range_are_refused(labels: np.ndarray) -> None:
    with pytest.raises(SpecError, match="labels must"):
        edge_cut(cliques([3, 4]), labels)
