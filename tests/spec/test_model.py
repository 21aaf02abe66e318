"""The implementation contract: whole losses by definition, whole gradients, and what training may rely on."""

from __future__ import annotations

import inspect
import math

import numpy as np
import pytest
from hypothesis import given, settings
from scipy import sparse
from support import scalar
from support.agreement import assert_close, same_bits
from support.gradients import check_vjp, taylor_slope
from support.strategies import Model, models, read_only, rngs

from c2f_ref import spec
from c2f_ref.spec import (
    CONTRACT,
    Settings,
    SpecError,
    Triples,
    adam_step,
    coarse_loss_and_grad,
    embed_coarse,
    embed_fine,
    fine_loss_and_grad,
    prepare_coarse,
    prepare_fine,
    refresh_coarse,
    refresh_fine,
    start_adam,
)


def coarse_plan(model: Model) -> spec.CoarsePlan:
    return prepare_coarse(model.norm_adjacency, model.coarse_assignment, model.n_users, model.settings)


def fine_plan(model: Model) -> spec.FinePlan:
    return prepare_fine(model.norm_adjacency, model.coarse_assignment, model.fine_assignment, model.n_users, model.settings)


def ints(*values: int) -> np.ndarray:
    return read_only(np.array(values, dtype=np.int64))


def test_the_contract_is_what_the_design_lists_and_the_specification_offers_it() -> None:
    prepared = {"prepare_coarse", "prepare_fine", "coarse_loss_and_grad", "fine_loss_and_grad", "embed_coarse", "embed_fine"}
    assert set(CONTRACT) == prepared | {"refresh_coarse", "refresh_fine", "adam_step", "sample_triples", "rank_items"}
    assert len(CONTRACT) == 11
    assert all(inspect.isfunction(getattr(spec, name)) for name in CONTRACT)


# By hand


def test_coarse_stage_by_hand() -> None:
    """One user, one item, one coarse row e, S_c = 1, one layer: the graph is a triangle of edges 1/2 and x = tanh(e).

    After the layer entities hold (x + e)/2 and the coarse row x: means (3x + e)/4 and (e + x)/2.
    """
    e = 0.5
    x = math.tanh(e)
    model_settings = Settings(n_coarse=1, n_fine=0, dim=1, n_layers=1, coarse_per_entity=1)
    adjacency = read_only(sparse.csr_array([[0.0, 1.0], [1.0, 0.0]]))
    plan = prepare_coarse(adjacency, read_only(sparse.csr_array(np.ones((2, 1)))), 1, model_settings)
    entities, coarse = embed_coarse(plan, read_only(np.array([[e]])))
    assert_close(entities, [[(3 * x + e) / 4]] * 2)
    assert_close(coarse, [[(e + x) / 2]])


def test_coarse_loss_and_gradient_by_hand() -> None:
    """No layer, one coarse row: user and both items are x = tanh(e), so scores differ by biases alone, here by log 3.

    Loss log(1 + 1/3) + 3 l2 x^2; d/db: the item ahead -1/4, the other +1/4, the user 0; d/de: 6 l2 x (1 - x^2).
    """
    e, l2 = 0.5, 0.1
    x = math.tanh(e)
    model_settings = Settings(n_coarse=1, n_fine=0, dim=1, n_layers=0, coarse_per_entity=1, l2_weight=l2)
    plan = prepare_coarse(sparse.csr_array((3, 3)), sparse.csr_array(np.ones((3, 1))), 1, model_settings)
    bias = read_only(np.array([7.0, math.log(3), 0.0]))
    loss, grad_coarse, grad_bias = coarse_loss_and_grad(plan, read_only(np.array([[e]])), bias, Triples(ints(0), ints(0), ints(1)))
    assert loss == pytest.approx(math.log(4 / 3) + 3 * l2 * x**2, rel=1e-14)
    assert_close(grad_coarse, [[6 * l2 * x * (1 - x**2)]])
    assert_close(grad_bias, [0, -0.25, 0.25])


def test_fine_stage_by_hand() -> None:
    """As `test_propagate_fine_by_hand`, from tables: e = 1/2, fine entry 3 with tau = 1, so soft gives 2; w = 1/4.

    Nodes: x = tanh(1/2) twice, the bridged coarse row 3/4 e + 1/4 * 2, and tanh(2).
    """
    e, w = 0.5, 0.25
    x, c, f = math.tanh(e), (1 - w) * e + w * 2, math.tanh(2)
    model_settings = Settings(n_coarse=1, n_fine=1, dim=1, n_layers=1, coarse_per_entity=1, fine_per_coarse=1, bridge_weight=w)
    adjacency, ones = sparse.csr_array([[0.0, 1.0], [1.0, 0.0]]), sparse.csr_array(np.ones((2, 1)))
    plan = prepare_fine(adjacency, ones, sparse.csr_array([[1.0]]), 1, model_settings)
    entities, coarse, fine = embed_fine(plan, read_only(np.array([[e]])), read_only(np.array([[3.0]])))
    a, b, g = 1 / 2, 1 / math.sqrt(6), 1 / math.sqrt(3)
    h, c1, f1 = x * a + c * b, 2 * x * b + f * g, c * g
    c3 = w * f1 + (1 - w) * (c1 - f1)
    assert_close(entities, [[(x + h - c1 + c3) / 2]] * 2)
    assert_close(coarse, [[(c + c3) / 2]])
    assert_close(fine, [[(f + f1) / 2]])


# By definition


def raw_pieces(model: Model) -> tuple:
    return model.users, model.items, model.n_users, model.n_items


@given(models())
def test_coarse_loss_by_definition_from_raw_pairs(model) -> None:
    loss, _, _ = coarse_loss_and_grad(coarse_plan(model), model.coarse, model.bias, model.triples)
    expected = scalar.coarse_loss(
        *raw_pieces(model), model.coarse_assignment, model.coarse, model.bias, model.triples, model.settings
    )
    assert loss == pytest.approx(expected, rel=1e-12)


@given(models())
def test_fine_loss_by_definition_from_raw_pairs(model) -> None:
    loss, *_ = fine_loss_and_grad(fine_plan(model), model.coarse, model.fine, model.bias, model.triples)
    assignments = model.coarse_assignment, model.fine_assignment
    expected = scalar.fine_loss(
        *raw_pieces(model), *assignments, model.coarse, model.fine, model.bias, model.triples, model.settings
    )
    assert loss == pytest.approx(expected, rel=1e-12)


@given(models())
def test_embeddings_by_definition(model) -> None:
    """The same nodes, propagated in scalar loops; ego rows come from the unbridged table (D1)."""
    n_layers, tau, weight = model.settings.n_layers, model.settings.threshold, model.settings.bridge_weight
    ego = scalar.ego_embed(model.coarse_assignment, model.coarse)
    graph = scalar.expand_coarse(model.norm_adjacency, model.coarse_assignment)
    assert_close(embed_coarse(coarse_plan(model), model.coarse), scalar.propagate_coarse(graph, n_layers, ego, model.coarse))
    assignments = model.coarse_assignment, model.fine_assignment
    bridged = scalar.bridge(model.fine_assignment, weight, model.coarse, scalar.soft_threshold(model.fine, tau))
    nodes = ego, bridged, scalar.fine_embed(model.fine, tau)
    graph = scalar.expand_fine(model.norm_adjacency, *assignments)
    expected = scalar.propagate_fine(graph, *assignments, weight, n_layers, *nodes)
    assert_close(embed_fine(fine_plan(model), model.coarse, model.fine), expected)


# Whole gradients


@settings(max_examples=200)
@given(models(), rngs())
def test_every_gradient_of_the_coarse_loss(model, rng) -> None:
    """Random directions in both tables and in each alone, then the Taylor remainder."""
    plan, triples, tables = coarse_plan(model), model.triples, [model.coarse, model.bias]

    def loss(coarse: np.ndarray, bias: np.ndarray) -> float:
        return coarse_loss_and_grad(plan, coarse, bias, triples)[0]

    grads = coarse_loss_and_grad(plan, *tables, triples)[1:]
    check_vjp(loss, lambda weight: tuple(weight * grad for grad in grads), tables, rng, n_entries=0)
    assert taylor_slope(loss, grads, tables, rng) >= 1.9


@settings(max_examples=200)
@given(models(), rngs())
def test_every_gradient_of_the_fine_loss_away_from_the_kink(model, rng) -> None:
    """Random directions in all three tables and in each alone, then the Taylor remainder."""
    plan, triples, tables = fine_plan(model), model.triples, [model.coarse, model.fine, model.bias]

    def loss(coarse: np.ndarray, fine: np.ndarray, bias: np.ndarray) -> float:
        return fine_loss_and_grad(plan, coarse, fine, bias, triples)[0]

    grads = fine_loss_and_grad(plan, *tables, triples)[1:]
    check_vjp(loss, lambda weight: tuple(weight * grad for grad in grads), tables, rng, n_entries=0)
    assert taylor_slope(loss, grads, tables, rng) >= 1.9


@given(models())
def test_gradients_have_the_shapes_of_their_tables_and_users_have_no_bias_gradient(model) -> None:
    """The user's bias cancels in every difference of scores: its gradient is exactly 0."""
    _, *coarse_grads = coarse_loss_and_grad(coarse_plan(model), model.coarse, model.bias, model.triples)
    _, *fine_grads = fine_loss_and_grad(fine_plan(model), model.coarse, model.fine, model.bias, model.triples)
    assert [grad.shape for grad in coarse_grads] == [model.coarse.shape, model.bias.shape]
    assert [grad.shape for grad in fine_grads] == [model.coarse.shape, model.fine.shape, model.bias.shape]
    for grads in (coarse_grads, fine_grads):
        assert all(grad.dtype == np.float64 for grad in grads)
        assert not grads[-1][: model.n_users].any()
        assert grads[-1][model.n_users :].any()


@given(models())
def test_dead_fine_entries_have_no_gradient_and_never_move(model) -> None:
    """Entries inside [-tau, tau], the edge included, stay bit for bit through steps of Adam, and stay dead; the others move."""
    plan, tau = fine_plan(model), model.settings.threshold
    on_edge = model.fine.copy()
    on_edge.flat[int(np.abs(model.fine).argmin())] = tau
    dead = np.abs(on_edge) <= tau
    fine, state = read_only(on_edge), start_adam(on_edge)
    for _ in range(3):
        _, _, grad, _ = fine_loss_and_grad(plan, model.coarse, fine, model.bias, model.triples)
        assert not grad[dead].any()
        assert grad[~dead].any()
        fine, state = (read_only(value) for value in adam_step(fine, grad, state, 1e-3, model.settings))
    assert np.array_equal(fine[dead].view(np.int64), on_edge[dead].view(np.int64))
    assert (fine[~dead] != on_edge[~dead]).any()


# Identities


@given(models(), rngs())
def test_relabelling_users_and_items_changes_nothing_but_labels(model, rng) -> None:
    new_users, new_items = rng.permutation(model.n_users), rng.permutation(model.n_items)
    order = np.concatenate([new_users, model.n_users + new_items])
    triples = Triples(
        np.argsort(new_users)[model.triples.users],
        np.argsort(new_items)[model.triples.positives],
        np.argsort(new_items)[model.triples.negatives],
    )
    again = model._replace(
        norm_adjacency=sparse.csr_array(model.norm_adjacency.toarray()[np.ix_(order, order)]),
        coarse_assignment=sparse.csr_array(model.coarse_assignment.toarray()[order]),
        bias=model.bias[order],
        triples=triples,
    )
    once = coarse_loss_and_grad(coarse_plan(model), model.coarse, model.bias, model.triples)
    assert_close(coarse_loss_and_grad(coarse_plan(again), again.coarse, again.bias, triples), (*once[:2], once[2][order]))
    once = fine_loss_and_grad(fine_plan(model), model.coarse, model.fine, model.bias, model.triples)
    twice = fine_loss_and_grad(fine_plan(again), again.coarse, again.fine, again.bias, triples)
    assert_close(twice, (*once[:3], once[3][order]))


@given(models(), rngs())
def test_order_of_the_batch_changes_nothing_and_a_doubled_batch_has_the_same_mean(model, rng) -> None:
    order = rng.permutation(model.triples.users.size)
    plan = fine_plan(model)
    once = fine_loss_and_grad(plan, model.coarse, model.fine, model.bias, model.triples)
    for chosen in (order, np.concatenate([order, order])):
        triples = Triples(*(array[chosen] for array in model.triples))
        assert_close(fine_loss_and_grad(plan, model.coarse, model.fine, model.bias, triples), once)


@given(models())
def test_index_types_of_graph_and_triples_change_no_bit(model) -> None:
    """All of int32 against all of int64, strided triples against plain ones."""
    wide = [matrix.copy() for matrix in (model.norm_adjacency, model.coarse_assignment, model.fine_assignment)]
    for matrix in wide:
        matrix.indices, matrix.indptr = matrix.indices.astype(np.int64), matrix.indptr.astype(np.int64)
    narrow = Triples(*(np.repeat(array.astype(np.int32), 2)[::2] for array in model.triples))
    again = model._replace(norm_adjacency=wide[0], coarse_assignment=wide[1], fine_assignment=wide[2])
    once = fine_loss_and_grad(fine_plan(model), model.coarse, model.fine, model.bias, model.triples)
    assert same_bits(fine_loss_and_grad(fine_plan(again), model.coarse, model.fine, model.bias, narrow), once)
    once = coarse_loss_and_grad(coarse_plan(model), model.coarse, model.bias, model.triples)
    assert same_bits(coarse_loss_and_grad(coarse_plan(again), model.coarse, model.bias, narrow), once)


def test_narrow_triples_do_not_wrap_around() -> None:
    """Item 60 of 100 users is entity 160; in int8 it would be -96, which NumPy reads as row 65 of 161 without a word."""
    model_settings = Settings(n_coarse=3, n_fine=0, dim=2, n_layers=1)
    rng = np.random.default_rng(0)
    columns = np.argsort(rng.random((161, 3)), axis=1)[:, :2].ravel()
    assignment = sparse.csr_array((rng.random(322), columns, np.arange(162) * 2), shape=(161, 3))
    plan = prepare_coarse(sparse.csr_array((161, 161)), assignment, 100, model_settings)
    coarse, bias = rng.normal(size=(3, 2)), rng.normal(size=161)
    triples = Triples(ints(0, 99), ints(60, 1), ints(2, 50))
    narrow = Triples(*(array.astype(np.int8) for array in triples))
    assert same_bits(coarse_loss_and_grad(plan, coarse, bias, narrow), coarse_loss_and_grad(plan, coarse, bias, triples))


@given(models(), rngs())
def test_storage_order_changes_results_by_rounding_only(model, rng) -> None:
    shuffled = []
    for matrix in (model.norm_adjacency, model.coarse_assignment, model.fine_assignment):
        rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
        order = np.lexsort((rng.permutation(rows.size), rows))
        shuffled.append(sparse.csr_array((matrix.data[order], matrix.indices[order], matrix.indptr.copy()), shape=matrix.shape))
    again = model._replace(norm_adjacency=shuffled[0], coarse_assignment=shuffled[1], fine_assignment=shuffled[2])
    tables = np.asfortranarray(model.coarse), np.repeat(model.fine, 2, axis=0)[::2], np.repeat(model.bias, 3)[::3]
    once = fine_loss_and_grad(fine_plan(model), model.coarse, model.fine, model.bias, model.triples)
    assert_close(fine_loss_and_grad(fine_plan(again), *tables, model.triples), once)


@given(models())
def test_zero_layers_give_the_ego_rows_and_the_bridged_table(model) -> None:
    model = model._replace(settings=spec.Settings(**{**vars(model.settings), "n_layers": 0}))
    ego = np.tanh(model.coarse_assignment @ model.coarse)
    assert same_bits(embed_coarse(coarse_plan(model), model.coarse), (ego, model.coarse))
    entities, _, _ = embed_fine(fine_plan(model), model.coarse, model.fine)
    assert same_bits(entities, ego)


@given(models())
def test_an_empty_batch_has_no_loss_and_zero_gradients(model) -> None:
    none = Triples(ints(), ints(), ints())
    results = [
        coarse_loss_and_grad(coarse_plan(model), model.coarse, model.bias, none),
        fine_loss_and_grad(fine_plan(model), model.coarse, model.fine, model.bias, none),
    ]
    for loss, *grads in results:
        assert loss == 0.0
        assert not any(grad.any() for grad in grads)


def test_a_far_score_neither_overflows_nor_loses_its_gradient() -> None:
    """A lag of 2e4 in bias costs 2e4, with slopes -1 and 1."""
    plan = prepare_coarse(
        sparse.csr_array((3, 3)), sparse.csr_array(np.ones((3, 1))), 1, Settings(n_coarse=1, dim=1, coarse_per_entity=1)
    )
    bias = np.array([0.0, -1e4, 1e4])
    loss, _, grad_bias = coarse_loss_and_grad(plan, np.zeros((1, 1)), bias, Triples(ints(0), ints(0), ints(1)))
    assert loss == 2e4
    assert grad_bias.tolist() == [0, -1, 1]


# D11: negative assignments


@given(models(signed=True))
def test_training_stays_finite_with_negative_assignments(model) -> None:
    """D11: where the official code dies, both stages go on: steps, refresh, new plan, steps."""
    coarse, fine, state = model.coarse, model.fine, [start_adam(model.coarse), start_adam(model.fine)]
    for _ in range(2):
        loss, grad, _ = coarse_loss_and_grad(coarse_plan(model), coarse, model.bias, model.triples)
        coarse, state[0] = adam_step(coarse, grad, state[0], 1e-3, model.settings)
        fine_result = fine_loss_and_grad(fine_plan(model), coarse, fine, model.bias, model.triples)
        fine, state[1] = adam_step(fine, fine_result[2], state[1], 3e-3, model.settings)
        assert all(np.isfinite(value).all() for value in (loss, grad, coarse, fine, *fine_result))
        entities, propagated = embed_coarse(coarse_plan(model), coarse)
        _, _, propagated_fine = embed_fine(fine_plan(model), coarse, fine)
        assignment = refresh_coarse(entities, propagated, model.settings.coarse_per_entity)
        fine_assignment = refresh_fine(entities, propagated, propagated_fine, model.settings.fine_per_coarse)
        assert np.isfinite(assignment.data).all()
        assert np.isfinite(fine_assignment.data).all()
        model = model._replace(coarse_assignment=assignment, fine_assignment=fine_assignment)


def test_an_entity_of_negative_degree_is_cut_off_from_the_graph_by_hand() -> None:
    """Row -1 of S_c and no pair: degree -1, so G has no entry there, and the mean of one layer is half the ego row tanh(-e)."""
    assignment = read_only(sparse.csr_array([[1.0], [-1.0]]))
    model_settings = Settings(n_coarse=1, n_fine=0, dim=1, n_layers=1, coarse_per_entity=1)
    plan = prepare_coarse(sparse.csr_array((2, 2)), assignment, 1, model_settings)
    entities, _ = embed_coarse(plan, np.array([[0.5]]))
    assert_close(entities, [[math.tanh(0.5) / 2], [-math.tanh(0.5) / 2]])


# Doors


def small() -> tuple[spec.CoarsePlan, spec.FinePlan, np.ndarray, np.ndarray, np.ndarray, Triples]:
    model_settings = Settings(n_coarse=3, n_fine=2, dim=4, fine_per_coarse=1)
    adjacency, assignment = sparse.csr_array(np.ones((5, 5)) - np.eye(5)), sparse.csr_array(np.ones((5, 3)))
    plans = (
        prepare_coarse(adjacency, assignment, 2, model_settings),
        prepare_fine(adjacency, assignment, sparse.csr_array(np.ones((3, 2))), 2, model_settings),
    )
    return *plans, np.ones((3, 4)), np.ones((2, 4)), np.ones(5), Triples(ints(0), ints(1), ints(2))


def test_plans_refuse_sizes_that_do_not_fit() -> None:
    model_settings = Settings(n_coarse=3, n_fine=2, dim=4, fine_per_coarse=1)
    adjacency, assignment = sparse.csr_array(np.ones((5, 5))), sparse.csr_array(np.ones((5, 3)))
    for wrong in (assignment[:4], assignment[:, :2]):
        with pytest.raises(SpecError, match="coarse_assignment must have shape"):
            prepare_coarse(adjacency, wrong, 2, model_settings)
        with pytest.raises(SpecError, match="coarse_assignment must have shape"):
            prepare_fine(adjacency, wrong, sparse.csr_array(np.ones((3, 2))), 2, model_settings)
    for wrong in (np.ones((3, 3)), np.ones((2, 2))):
        with pytest.raises(SpecError, match="fine_assignment must have shape"):
            prepare_fine(adjacency, assignment, sparse.csr_array(wrong), 2, model_settings)
    with pytest.raises(SpecError, match="norm_adjacency must have shape"):
        prepare_coarse(sparse.csr_array(np.ones((5, 4))), assignment, 2, model_settings)


@pytest.mark.parametrize("n_users", [-1, 6])
def test_plans_refuse_a_number_of_users_outside_the_graph(n_users) -> None:
    """Of five entities 0 to 5 can be users; another number would give items that are no entities."""
    model_settings = Settings(n_coarse=3, n_fine=2, dim=4, fine_per_coarse=1)
    adjacency, assignment = sparse.csr_array(np.ones((5, 5))), sparse.csr_array(np.ones((5, 3)))
    with pytest.raises(SpecError, match="n_users"):
        prepare_coarse(adjacency, assignment, n_users, model_settings)
    with pytest.raises(SpecError, match="n_users"):
        prepare_fine(adjacency, assignment, sparse.csr_array(np.ones((3, 2))), n_users, model_settings)


def test_tables_of_another_shape_are_refused() -> None:
    plan, other_plan, coarse, fine, bias, triples = small()
    for call in (
        lambda: embed_coarse(plan, coarse.T),
        lambda: embed_fine(other_plan, coarse.T, fine),
        lambda: embed_fine(other_plan, coarse, fine.T),
        lambda: coarse_loss_and_grad(plan, coarse[:2], bias, triples),
        lambda: coarse_loss_and_grad(plan, coarse, bias[:4], triples),
        lambda: fine_loss_and_grad(other_plan, coarse, fine[:1], bias, triples),
        lambda: fine_loss_and_grad(other_plan, coarse, fine, bias[:4], triples),
    ):
        with pytest.raises(SpecError, match="must have shape"):
            call()


def test_triples_out_of_range_or_of_another_shape_are_refused() -> None:
    plan, other_plan, coarse, fine, bias, _ = small()
    for triples in [
        Triples(ints(2), ints(0), ints(1)),
        Triples(ints(-1), ints(0), ints(1)),
        Triples(ints(0), ints(3), ints(1)),
        Triples(ints(0), ints(0), ints(-1)),
        Triples(ints(0, 1), ints(0), ints(1, 2)),
        Triples(ints(0), ints(0), ints(1, 2)),
        Triples(*(ints(0, 1).reshape(1, 2) for _ in range(3))),
    ]:
        with pytest.raises(SpecError, match=r"(users|positives|negatives) must"):
            coarse_loss_and_grad(plan, coarse, bias, triples)
        with pytest.raises(SpecError, match=r"(users|positives|negatives) must"):
            fine_loss_and_grad(other_plan, coarse, fine, bias, triples)
