"""The checkers are tested too: each must refuse what it is there to refuse."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from support import gradients
from support.agreement import assert_close, chi_square, same_bits
from support.calls import arrays_of
from support.gradients import check_vjp
from support.strategies import assert_not_dull, models, sizes, tables, tied_tables

SCALES = np.array([1.0, 1e-9, -2.0, 3.0])
"""Of one function's four outputs: the second gradient entry is tiny next to the others."""
X = np.array([0.5, -1.25, 2.0, 0.75])


def wavy(x: np.ndarray) -> np.ndarray:
    """Entry by entry scale * sin(x); its gradient is scale * cos(x)."""
    return SCALES * np.sin(x)


def wavy_vjp(grad: np.ndarray, *factors: float) -> np.ndarray:
    """The gradient, right or with an entry times a factor."""
    return grad * SCALES * np.cos(X) * (factors or 1.0)


WRONG = {
    "one entry, slightly": lambda grad: wavy_vjp(grad, 1, 1, 1 + 1e-6, 1),
    "sign": lambda grad: -wavy_vjp(grad),
    "axis": lambda grad: wavy_vjp(grad)[::-1],
    "tiny entry of 1e-9 among large ones": lambda grad: wavy_vjp(grad, 1, 2, 1, 1),
    "tiny entry of 1e-9 left out": lambda grad: wavy_vjp(grad, 1, 0, 1, 1),
    "shape": lambda grad: wavy_vjp(grad)[:, None],
    "everything 0": lambda grad: 0.0 * grad,
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_a_wrong_pull_back_is_refused_and_a_right_one_accepted(wrong) -> None:
    check_vjp(wavy, wavy_vjp, [X], np.random.default_rng(0), n_entries=4)
    for seed in range(20):
        with pytest.raises(AssertionError, match="input"):
            check_vjp(wavy, wrong, [X], np.random.default_rng(seed), n_entries=4)


def test_a_wrong_gradient_of_one_input_of_two_and_a_check_of_nothing_are_refused() -> None:
    """The product x . y has gradients y and x; with the second negated the first is still right."""
    y, rng = X[::-1] + 3.0, np.random.default_rng(0)
    check_vjp(lambda a, b: float(a @ b), lambda grad: (grad * y, grad * X), [X, y], rng)
    with pytest.raises(AssertionError, match="input"):
        check_vjp(lambda a, b: float(a @ b), lambda grad: (grad * y, -grad * X), [X, y], rng)
    with pytest.raises(AssertionError, match="nothing was checked"):
        check_vjp(lambda x: 0.0 * x, lambda grad: 0.0 * grad, [X], rng)


@pytest.mark.parametrize(
    ("actual", "expected"),
    [
        ([1.0, 2.0 + 1e-9], [1.0, 2.0]),
        ([1.0, np.nan], [1.0, 2.0]),
        ([[1.0, 2.0]], [1.0, 2.0]),
        ([0.0, 1e-300], [0.0, 0.0]),
        ([1, 3], [1, 2]),
        (([1.0], [2.0]), ([1.0], [3.0])),
        (([1.0],), ([1.0], [3.0])),
        (sparse.csr_array([[1.0, 0.0]]), [[1.0, 2.0]]),
    ],
)
def test_assert_close_refuses(actual, expected) -> None:
    with pytest.raises(AssertionError):
        assert_close(actual, expected)
    assert_close(expected, expected)


def test_terms_of_size_8_that_cancel_may_leave_8_bounds_and_no_more() -> None:
    assert_close(np.array([8e-12]), np.zeros(1), least=8.0)
    with pytest.raises(AssertionError, match="off by"):
        assert_close(np.array([8.1e-12]), np.zeros(1), least=8.0)


def test_same_bits_sees_one_unit_in_the_last_place_and_the_type() -> None:
    assert same_bits((np.array([1.0]), 2), (np.array([1.0]), 2))
    assert not same_bits(np.array([np.nextafter(1.0, 2.0)]), np.array([1.0]))
    assert not same_bits(np.array([1.0], dtype=np.float32), np.array([1.0]))
    assert not same_bits({"a": 1.0}, {"a": 2.0})
    assert not same_bits(sparse.csr_array([[1.0, 0.0]]), sparse.csr_array([[0.0, 1.0]]))


def test_chi_square_by_hand_and_a_cell_without_a_share_is_refused() -> None:
    """Eight draws with shares 1 : 3 should be 2 and 6; 5 and 3 give 9/2 + 9/6."""
    assert chi_square("aaaaabbb", {"a": 1, "b": 3}) == 4.5 + 1.5
    with pytest.raises(AssertionError):
        chi_square("abc", {"a": 1, "b": 1})


def draws(strategy: st.SearchStrategy, n: int = 60) -> list:
    """Values that a strategy gives to a test."""
    values: list = []

    @settings(max_examples=n, derandomize=True, deadline=None, database=None)
    @given(strategy)
    def collect(value) -> None:
        values.append(value)

    collect()
    return values


def test_a_dull_strategy_is_refused() -> None:
    for dull in (st.just(np.ones((2, 3))), st.sampled_from([np.ones((2, 3)), np.zeros((2, 3))])):
        with pytest.raises(AssertionError, match="dull"):
            assert_not_dull(draws(dull), values=lambda table: table.tolist())


def test_drawn_models_vary_in_everything_and_have_pairwise_different_sizes() -> None:
    drawn = draws(models())
    dense = "norm_adjacency", "coarse_assignment", "fine_assignment"
    plain = "n_users", "n_items", "users", "items", "coarse", "fine", "bias", "triples"
    features = {name: lambda m, name=name: getattr(m, name).toarray().tolist() for name in dense}
    features |= {name: lambda m, name=name: getattr(m, name) for name in plain}
    for name in ("n_layers", "bridge_weight", "threshold"):
        features[name] = lambda m, name=name: getattr(m.settings, name)
    assert_not_dull(drawn, **features)
    for model in drawn:
        own, tau = model.settings, model.settings.threshold
        numbers = [model.n_users, model.n_items, model.n_entities, own.n_coarse, own.n_fine]
        numbers += [own.dim, model.triples.users.size]
        assert len(set(numbers)) == len(numbers)
        assert 0 < (np.abs(model.fine) > tau).sum() < model.fine.size
        assert (np.abs(np.abs(model.fine) - tau) > gradients.STEP).all()
        assert (model.triples.positives != model.triples.negatives).all()
    assert {model.settings.n_fine > model.settings.n_coarse for model in drawn} == {True, False}
    sums = [model.coarse_assignment.sum(axis=0).min() for model in draws(models(signed=True))]
    assert min(sums) < 0 < max(sums)


def test_other_strategies_vary_too_and_nothing_drawn_can_be_written_to() -> None:
    assert_not_dull(draws(sizes()), sizes=tuple)
    for drawn in (draws(tables()), draws(tied_tables())):
        assert_not_dull(drawn, values=lambda table: table.tolist(), shape=np.shape)
    assert any(len(set(row)) < len(row) for table in drawn for row in table.tolist())
    for value in draws(models(), 5) + draws(tables(), 5) + drawn[:5]:
        assert not any(part.flags.writeable for part in arrays_of(value))
