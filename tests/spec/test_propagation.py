"""How embeddings travel: both propagations and their pull-backs."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from support import scalar
from support.agreement import assert_by_definition, assert_close, same_bits
from support.gradients import check_vjp
from support.strategies import draw_assignment, draw_square, draw_table, models, read_only, rngs, sizes

from c2f_ref.spec import (
    expand_coarse,
    expand_fine,
    propagate_coarse,
    propagate_coarse_vjp,
    propagate_fine,
    propagate_fine_vjp,
)

layer_counts = st.integers(0, 3)


def case(numbers, rng):
    """Arguments of both propagations on asymmetric graphs: (coarse graph, fine graph, S_c, S_f, weight, nodes)."""
    n_users, n_items, n_coarse, n_fine, dim, _ = numbers
    rows = [n_users + n_items, n_coarse, n_fine]
    nodes = tuple(draw_table((n, dim), rng) for n in rows)
    coarse_assignment = draw_assignment(rows[0], n_coarse, min(2, n_coarse), rng, signed=True)
    fine_assignment = draw_assignment(n_coarse, n_fine, min(2, n_fine), rng, signed=True)
    weight = float(rng.uniform(0.1, 0.9))
    return draw_square(sum(rows[:2]), rng), draw_square(sum(rows), rng), coarse_assignment, fine_assignment, weight, nodes


# propagate_coarse


def test_propagate_coarse_by_hand() -> None:
    """One entity and one coarse row, edge 1/2 from the coarse row to the entity and 2 back, two layers, from (4, 8):

    (4, 8) -> (8/2, 2 * 4) = (4, 8) -> (4, 8), so the mean is (4, 8); from (6, 0): (0, 12), (6, 0), mean (4, 4).
    """
    graph = read_only(sparse.csr_array([[0.0, 0.5], [2.0, 0.0]]))
    entities, coarse = propagate_coarse(graph, 2, read_only(np.array([[4.0, 6.0]])), read_only(np.array([[8.0, 0.0]])))
    assert entities.tolist() == [[4, 4]]
    assert coarse.tolist() == [[8, 4]]


@given(sizes(), rngs(), layer_counts)
def test_propagate_coarse_by_definition(numbers, rng, n_layers) -> None:
    graph, _, _, _, _, nodes = case(numbers, rng)
    assert_by_definition(propagate_coarse, scalar.propagate_coarse, graph, n_layers, *nodes[:2])


@given(models())
def test_root_degrees_travel_unchanged(model) -> None:
    """A normalised graph G keeps x = sqrt(d): (G x)_i = sum_j G_ij sqrt(d_j) = sum_j raw_ij / sqrt(d_i) = sqrt(d_i)."""
    raw = sparse.block_array([[model.norm_adjacency, model.coarse_assignment], [model.coarse_assignment.T, None]])
    roots = np.sqrt(raw.sum(axis=1))[:, None]
    graph = expand_coarse(model.norm_adjacency, model.coarse_assignment)
    travelled = np.concatenate(propagate_coarse(graph, 3, roots[: model.n_entities], roots[model.n_entities :]))
    assert_close(travelled, roots)


@settings(max_examples=200)
@given(sizes(), rngs(), layer_counts)
def test_pull_back_of_propagate_coarse(numbers, rng, n_layers) -> None:
    """On graphs that are not symmetric, so that G and its transpose are told apart."""
    graph, _, _, _, _, nodes = case(numbers, rng)
    check_vjp(
        lambda *nodes: propagate_coarse(graph, n_layers, *nodes),
        lambda *grads: propagate_coarse_vjp(graph, n_layers, *grads),
        nodes[:2],
        rng,
    )


# propagate_fine


def test_propagate_fine_by_hand() -> None:
    """Graph of `test_expand_fine_by_hand`: user and item at x, coarse row c, fine row f; S_c and S_f are all ones, w = 1/4.

    After G:                      h = x/2 + c/sqrt6,  c1 = 2x/sqrt6 + f/sqrt3,  f1 = c/sqrt3
    then c2 = c1 - f1, c3 = w f1 + (1 - w) c2, and the entities end at h - c1 + c3; means with layer 0 halve the sums.
    """
    x, c, f, w = 0.5, -1.5, 2.0, 0.25
    a, b, g = 1 / 2, 1 / math.sqrt(6), 1 / math.sqrt(3)
    graph = read_only(sparse.csr_array([[0, a, b, 0], [a, 0, b, 0], [b, b, 0, g], [0, 0, g, 0]]))
    ones = read_only(sparse.csr_array(np.ones((2, 1)))), read_only(sparse.csr_array([[1.0]]))
    h, c1, f1 = x * a + c * b, 2 * x * b + f * g, c * g
    c3 = w * f1 + (1 - w) * (c1 - f1)
    end = propagate_fine(graph, *ones, w, 1, *(read_only(np.array(nodes)) for nodes in ([[x], [x]], [[c]], [[f]])))
    assert_close(end[0], [[(x + h - c1 + c3) / 2]] * 2)
    assert_close(end[1], [[(c + c3) / 2]])
    assert_close(end[2], [[(f + f1) / 2]])


@given(sizes(), rngs(), layer_counts)
def test_propagate_fine_by_definition(numbers, rng, n_layers) -> None:
    _, graph, *assignments, weight, nodes = case(numbers, rng)
    assert_by_definition(propagate_fine, scalar.propagate_fine, graph, *assignments, weight, n_layers, *nodes)


@given(sizes(), rngs())
def test_one_fine_layer_is_the_graph_followed_by_one_matrix(numbers, rng) -> None:
    """D2 in one line: after Y = G X, with T = w f + (1 - w)(c - S_f f) for composed f, h = h + S_c (T - c)."""
    _, graph, coarse_assignment, fine_assignment, weight, nodes = case(numbers, rng)
    moved = graph.toarray() @ np.concatenate(nodes)
    cuts = np.cumsum([len(table) for table in nodes[:2]])
    h, c, f = np.split(moved, cuts)
    composed = fine_assignment.toarray() @ f
    bridged = (1 - weight) * c + (2 * weight - 1) * composed
    ends = h + coarse_assignment.toarray() @ (bridged - c), bridged, f
    expected = tuple((start + end) / 2 for start, end in zip(nodes, ends, strict=True))
    assert_close(propagate_fine(graph, coarse_assignment, fine_assignment, weight, 1, *nodes), expected, 1e-11)


@settings(max_examples=200)
@given(sizes(), rngs(), layer_counts)
def test_pull_back_of_propagate_fine(numbers, rng, n_layers) -> None:
    _, graph, *assignments, weight, nodes = case(numbers, rng)
    check_vjp(
        lambda *nodes: propagate_fine(graph, *assignments, weight, n_layers, *nodes),
        lambda *grads: propagate_fine_vjp(graph, *assignments, weight, n_layers, *grads),
        nodes,
        rng,
        n_entries=2,
    )


# both


@given(sizes(), rngs())
def test_zero_layers_give_the_nodes_back(numbers, rng) -> None:
    graph, fine_graph, *assignments, weight, nodes = case(numbers, rng)
    assert same_bits(propagate_coarse(graph, 0, *nodes[:2]), nodes[:2])
    assert same_bits(propagate_fine(fine_graph, *assignments, weight, 0, *nodes), nodes)


@given(sizes(), rngs(), layer_counts)
def test_propagation_is_linear(numbers, rng, n_layers) -> None:
    """Bit for bit under a factor that is a power of two."""
    graph, fine_graph, *assignments, weight, nodes = case(numbers, rng)
    doubled = tuple(2 * table for table in nodes)
    once, twice = propagate_coarse(graph, n_layers, *nodes[:2]), propagate_coarse(graph, n_layers, *doubled[:2])
    assert same_bits(twice, tuple(2 * table for table in once))
    once = propagate_fine(fine_graph, *assignments, weight, n_layers, *nodes)
    twice = propagate_fine(fine_graph, *assignments, weight, n_layers, *doubled)
    assert same_bits(twice, tuple(2 * table for table in once))


@given(models(), rngs())
def test_relabelling_entities_relabels_both_propagations(model, rng) -> None:
    order = rng.permutation(model.n_entities)
    adjacency = sparse.csr_array(model.norm_adjacency.toarray()[np.ix_(order, order)])
    assignment = sparse.csr_array(model.coarse_assignment.toarray()[order])
    entities, n_layers, weight = draw_table((model.n_entities, model.settings.dim), rng), model.settings.n_layers, 0.2

    def travel(adjacency, assignment, entities):
        stage_one = propagate_coarse(expand_coarse(adjacency, assignment), n_layers, entities, model.coarse)
        graph = expand_fine(adjacency, assignment, model.fine_assignment)
        return stage_one, propagate_fine(
            graph, assignment, model.fine_assignment, weight, n_layers, entities, model.coarse, model.fine
        )

    for once, again in zip(
        travel(model.norm_adjacency, model.coarse_assignment, entities), travel(adjacency, assignment, entities[order]), strict=True
    ):
        assert_close(again[0], once[0][order])
        assert_close(again[1:], once[1:])
