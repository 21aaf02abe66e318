"""The implementation contract: stages by hand, and what training may rely on."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from scipy import sparse
from support.agreement import assert_close, assert_refused, same_bits
from support.strategies import Model, array, csr, ints, models

from c2f_ref import method
from c2f_ref.method import Settings, Triples, adam_step, prepare_coarse, start_adam

TINY = Settings(n_coarse=1, n_fine=0, dim=1, n_layers=1, coarse_per_entity=1)
SMALL = Settings(n_coarse=3, n_fine=2, dim=4, fine_per_coarse=1)
ONE = Triples(ints(0), ints(0), ints(1))


def ones(*shape: int) -> sparse.csr_array:
    return csr(np.ones(shape))


def plans(m: Model) -> tuple[method.CoarsePlan, method.FinePlan]:
    parts = m.norm_adjacency, m.coarse_assignment
    fine = method.prepare_fine(*parts, m.fine_assignment, m.n_users, m.settings)
    return prepare_coarse(*parts, m.n_users, m.settings), fine


def test_coarse_loss_and_gradient_by_hand() -> None:
    """No layer, one coarse row: all entities are x = tanh(e), so that scores differ by biases, here
    by log 3. Loss log(1 + 1/3) + 3 l2 x^2; d/db: -1/4 and 1/4, the user 0; d/de: 6 l2 x (1 - x^2).
    """
    e, l2, x = 0.5, 0.1, math.tanh(0.5)
    own = replace(TINY, n_layers=0, l2_weight=l2)
    plan, bias = prepare_coarse(csr(np.zeros((3, 3))), ones(3, 1), 1, own), array(7, math.log(3), 0)
    found = method.coarse_loss_and_grad(plan, array([e]), bias, ONE)
    loss, grads = np.log(4 / 3) + 3 * l2 * x**2, ([[6 * l2 * x * (1 - x**2)]], [0, -0.25, 0.25])
    assert_close(found, (loss, *grads))


def test_fine_stage_by_hand() -> None:
    """As `test_propagate_fine_by_hand`, from tables: e = 1/2, fine entry 3 with tau = 1, so that
    soft gives 2; w = 1/4. Nodes: x = tanh(1/2) twice (D1), 3/4 e + 1/4 * 2, and tanh(2).
    """
    e, w = 0.5, 0.25
    x, c, f = math.tanh(e), (1 - w) * e + w * 2, math.tanh(2)
    own = replace(TINY, n_fine=1, fine_per_coarse=1, bridge_weight=w)
    plan = method.prepare_fine(csr([[0, 1], [1, 0]]), ones(2, 1), ones(1, 1), 1, own)
    a, b, g = 1 / 2, 1 / math.sqrt(6), 1 / math.sqrt(3)
    h, c1, f1 = x * a + c * b, 2 * x * b + f * g, c * g
    c3 = w * f1 + (1 - w) * (c1 - f1)
    means = [[(x + h - c1 + c3) / 2]] * 2, [[(c + c3) / 2]], [[(f + f1) / 2]]
    assert_close(method.embed_fine(plan, array([e]), array([3.0])), means)


@settings(max_examples=15)
@given(models())
def test_dead_fine_entries_have_no_gradient_and_never_move(model) -> None:
    """Entries inside [-tau, tau], the edge included, stay bit for bit through steps of Adam. The
    bias of a user cancels in the loss, exactly.
    """
    plan, tau, on_edge = plans(model)[1], model.settings.threshold, model.fine.copy()
    on_edge.flat[int(np.abs(model.fine).argmin())] = tau
    dead, fine, state = np.abs(on_edge) <= tau, on_edge, start_adam(on_edge)
    for _ in range(3):
        tables = model.coarse, fine, model.bias
        *_, grad, grad_bias = method.fine_loss_and_grad(plan, *tables, model.triples)
        assert not grad[dead].any()
        assert grad[~dead].any()
        assert not grad_bias[: model.n_users].any()
        fine, state = adam_step(fine, grad, state, 1e-3, model.settings)
    assert np.array_equal(fine[dead].view(np.int64), on_edge[dead].view(np.int64))
    assert (fine[~dead] != on_edge[~dead]).any()


def test_narrow_triples_do_not_wrap_around() -> None:
    """Item 60 of 100 users is entity 160; in int8 it would be -96, which NumPy reads as row 65."""
    own, rng = Settings(n_coarse=3, n_fine=0, dim=2, n_layers=1), np.random.default_rng(0)
    assignment = method.keep_top(rng.random((161, 3)), 2)
    plan = prepare_coarse(sparse.csr_array((161, 161)), assignment, 100, own)
    tables = rng.normal(size=(3, 2)), rng.normal(size=161)
    triples = Triples(ints(0, 99), ints(60, 1), ints(2, 50))
    narrow = Triples(*(indices.astype(np.int8) for indices in triples))
    once, again = (method.coarse_loss_and_grad(plan, *tables, drawn) for drawn in (triples, narrow))
    assert same_bits(again, once)


@settings(max_examples=15)
@given(models(signed=True))
def test_both_stages_stay_finite_with_negative_assignments(model) -> None:
    """D11: where the official code dies, both stages go on: steps, refresh, new plan, steps. An
    empty batch has no loss and zero gradients.
    """
    own, coarse, fine = model.settings, model.coarse, model.fine
    states, batch = [start_adam(coarse), start_adam(fine)], (model.bias, model.triples)
    for _ in range(2):
        first, second = plans(model)
        loss, grad, _ = method.coarse_loss_and_grad(first, coarse, *batch)
        coarse, states[0] = adam_step(coarse, grad, states[0], 1e-3, own)
        result = method.fine_loss_and_grad(second, coarse, fine, *batch)
        fine, states[1] = adam_step(fine, result[2], states[1], 3e-3, own)
        embedded = method.embed_coarse(first, coarse)
        fine_rows = method.embed_fine(second, coarse, fine)[2]
        s_c = method.refresh_coarse(*embedded, own.coarse_per_entity)
        s_f = method.refresh_fine(*embedded, fine_rows, own.fine_per_coarse)
        values = loss, grad, coarse, fine, *result, s_c.data, s_f.data
        assert all(np.isfinite(value).all() for value in values)
        model = model._replace(coarse_assignment=s_c, fine_assignment=s_f)
    empty = model.bias, Triples(ints(), ints(), ints())
    results = method.coarse_loss_and_grad(first, coarse, *empty)
    results += method.fine_loss_and_grad(second, coarse, fine, *empty)
    assert not any(np.any(part) for part in results)


def test_plans_refuse_sizes_that_do_not_fit() -> None:
    square, s_c, s_f = ones(5, 5), ones(5, 3), ones(3, 2)
    for *parts, n_users, message in [
        (square, ones(4, 3), s_f, 2, "coarse_assignment must have shape"),
        (square, ones(5, 2), s_f, 2, "coarse_assignment must have shape"),
        (ones(5, 4), s_c, s_f, 2, "norm_adjacency must have shape"),
        (square, s_c, ones(3, 3), 2, "fine_assignment must have shape"),
        (square, s_c, ones(2, 2), 2, "fine_assignment must have shape"),
        (square, s_c, s_f, -1, "n_users must be in"),
        (square, s_c, s_f, 6, "n_users must be in"),
    ]:
        assert_refused(message, method.prepare_fine, *parts, n_users, SMALL)
        if "fine" not in message:
            assert_refused(message, prepare_coarse, *parts[:2], n_users, SMALL)


def test_an_infinite_loss_and_tables_and_triples_of_another_shape_or_range_are_refused() -> None:
    tiny, bias = (
        prepare_coarse(sparse.csr_array((3, 3)), ones(3, 1), 1, TINY),
        array(0, -1e308, 1e308),
    )
    with np.errstate(over="ignore"):
        far = tiny, np.zeros((1, 1)), bias, ONE
        assert_refused("loss must be finite", method.coarse_loss_and_grad, *far)
    plan = prepare_coarse(ones(5, 5), ones(5, 3), 2, SMALL)
    other = method.prepare_fine(ones(5, 5), ones(5, 3), ones(3, 2), 2, SMALL)
    right = {"coarse": np.ones((3, 4)), "fine": np.ones((2, 4)), "bias": np.ones(5)}
    right["triples"] = Triples(ints(0), ints(1), ints(2))
    wrong = [("coarse", np.ones((4, 3))), ("fine", np.ones((4, 2))), ("bias", np.ones(4))]
    wrong += [("coarse", np.ones((2, 4))), ("fine", np.ones((1, 4)))]
    for triples in [
        (ints(2), ints(0), ints(1)),
        (ints(-1), ints(0), ints(1)),
        (ints(0), ints(3), ints(1)),
        (ints(0), ints(0), ints(-1)),
        (ints(0, 1), ints(0), ints(1, 2)),
        (ints(0), ints(0), ints(1, 2)),
        (ints(0, 1)[None],) * 3,
    ]:
        wrong.append(("triples", Triples(*triples)))
    for name, value in wrong:
        given_ = list((right | {name: value}).values())
        message = r"(users|positives|negatives) must" if name == "triples" else f"{name} must have"
        assert_refused(message, method.fine_loss_and_grad, other, *given_)
        if name != "fine":
            assert_refused(message, method.coarse_loss_and_grad, plan, given_[0], *given_[2:])
