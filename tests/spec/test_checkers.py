"""The checkers are tested too: each must refuse what it is there to refuse."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from support import gradients, scalar
from support.agreement import assert_by_definition, assert_close, same_bits
from support.gradients import check_vjp, directional_derivative, taylor_slope
from support.strategies import Model, assert_not_dull, models, read_only, sizes, tables, tied_tables

from c2f_ref import spec

SCALES = np.array([1.0, 1e-9, -2.0, 3.0])
"""Of one function's four outputs: the second gradient entry is tiny beside the others."""
X = np.array([0.5, -1.25, 2.0, 0.75])


def wavy(x: np.ndarray) -> np.ndarray:
    """Entry by entry scale * sin(x); its gradient is scale * cos(x)."""
    return SCALES * np.sin(x)


def wavy_vjp(grad: np.ndarray) -> np.ndarray:
    return grad * SCALES * np.cos(X)


WRONG = {
    "one entry": lambda grad: wavy_vjp(grad) * np.array([1, 1, 1, 0]),
    "one entry, slightly": lambda grad: wavy_vjp(grad) * np.array([1, 1, 1 + 1e-6, 1]),
    "sign": lambda grad: -wavy_vjp(grad),
    "factor": lambda grad: 2 * wavy_vjp(grad),
    "axis": lambda grad: wavy_vjp(grad)[::-1],
    "tiny entry of 1e-9 beside large ones": lambda grad: wavy_vjp(grad) * np.array([1, 2, 1, 1]),
    "tiny entry of 1e-9 left out": lambda grad: wavy_vjp(grad) * np.array([1, 0, 1, 1]),
    "shape": lambda grad: wavy_vjp(grad)[:, None],
}


def test_a_right_pull_back_is_accepted() -> None:
    check_vjp(wavy, wavy_vjp, [X], np.random.default_rng(0), n_entries=4)


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_a_wrong_pull_back_is_refused(wrong) -> None:
    for seed in range(20):
        with pytest.raises(AssertionError, match="input"):
            check_vjp(wavy, wrong, [X], np.random.default_rng(seed), n_entries=4)


def test_a_wrong_gradient_that_is_tiny_throughout_is_refused() -> None:
    """1e-9 sin(x) with a gradient twice too large: the error of 1e-9 would pass any absolute tolerance in use."""
    with pytest.raises(AssertionError, match="all inputs"):
        check_vjp(lambda x: 1e-9 * np.sin(x), lambda grad: 2e-9 * np.cos(X) * grad, [X], np.random.default_rng(0))


def test_a_wrong_gradient_of_one_input_of_two_is_refused() -> None:
    """The product x . y has gradients y and x; with the second one negated, the first alone is still right."""
    y = X[::-1] + 3.0
    check_vjp(lambda a, b: float(a @ b), lambda grad: (grad * y, grad * X), [X, y], np.random.default_rng(0))
    with pytest.raises(AssertionError, match="input"):
        check_vjp(lambda a, b: float(a @ b), lambda grad: (grad * y, -grad * X), [X, y], np.random.default_rng(0))


def test_a_gradient_check_in_which_every_term_is_zero_is_refused() -> None:
    with pytest.raises(AssertionError, match="nothing was checked"):
        check_vjp(lambda x: 0.0 * x, lambda grad: 0.0 * grad, [X], np.random.default_rng(0))


def test_directional_derivative_of_the_exponential_is_right_to_ten_digits() -> None:
    """d/dh exp(x + h v) = v exp(x), with an error of order STEP^6 = 1.5e-11."""
    v = np.array([1.0, -0.5, 0.75, -1.0])
    assert_close(directional_derivative(np.exp, [X], [v])[0], v * np.exp(X), 1e-10)


def test_taylor_slope_is_two_for_a_right_gradient_and_one_for_a_wrong_one() -> None:
    def cube(x: np.ndarray) -> float:
        return float((x**3).sum())

    assert taylor_slope(cube, [3 * X**2], [X], np.random.default_rng(0)) > 1.9
    for wrong in (-3 * X**2, 6 * X**2, 3 * X**2 + np.array([0, 0.5, 0, 0])):
        assert taylor_slope(cube, [wrong], [X], np.random.default_rng(0)) < 1.5


def test_taylor_slope_of_a_linear_function_is_refused() -> None:
    """Dyadic numbers leave no rounding, so the remainder is exactly 0."""
    with pytest.raises(AssertionError, match="linear"):
        taylor_slope(lambda x: 0.0, [np.zeros(4)], [X], np.random.default_rng(0))


def test_a_comparison_of_the_code_with_itself_is_refused() -> None:
    table = np.ones((2, 3))
    for definition in (spec.soft_threshold, spec.fine_embed):
        with pytest.raises(AssertionError, match="under test"):
            assert_by_definition(spec.soft_threshold, definition, table, 0.5)
    with pytest.raises(AssertionError, match="under test"):
        assert_by_definition(scalar.soft_threshold, scalar.soft_threshold, table, 0.5)


def test_scalar_definitions_share_no_code_with_the_package() -> None:
    """The imports of `support.scalar` are read from its source."""
    nodes = list(ast.walk(ast.parse(Path(scalar.__file__).read_text(encoding="utf-8"))))
    imported = {alias.name.split(".")[0] for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    imported |= {(node.module or "").split(".")[0] for node in nodes if isinstance(node, ast.ImportFrom)}
    assert imported == {"__future__", "math", "collections", "typing", "numpy"}


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


def test_same_bits_sees_one_unit_in_the_last_place_and_the_type() -> None:
    assert same_bits((np.array([1.0]), 2), (np.array([1.0]), 2))
    assert not same_bits(np.array([np.nextafter(1.0, 2.0)]), np.array([1.0]))
    assert not same_bits(np.array([1.0], dtype=np.float32), np.array([1.0]))
    assert not same_bits({"a": 1.0}, {"a": 2.0})
    assert not same_bits(sparse.csr_array([[1.0, 0.0]]), sparse.csr_array([[0.0, 1.0]]))


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
    assert_not_dull(
        drawn,
        **{
            name: lambda model, name=name: getattr(model, name)
            for name in ("n_users", "n_items", "coarse", "fine", "bias", "triples")
        },
        pairs=lambda model: (model.users.tolist(), model.items.tolist()),
        adjacency=lambda model: model.norm_adjacency.toarray().tolist(),
        coarse_assignment=lambda model: model.coarse_assignment.toarray().tolist(),
        fine_assignment=lambda model: model.fine_assignment.toarray().tolist(),
        n_layers=lambda model: model.settings.n_layers,
        bridge_weight=lambda model: model.settings.bridge_weight,
        threshold=lambda model: model.settings.threshold,
    )
    for model in drawn:
        n_coarse, n_fine, dim = model.settings.n_coarse, model.settings.n_fine, model.settings.dim
        numbers = [model.n_users, model.n_items, model.n_entities, n_coarse, n_fine, dim, model.triples.users.size]
        assert len(set(numbers)) == len(numbers)
        for table in (model.coarse, model.fine, model.bias):
            assert len(np.unique(table)) == table.size
        assert 0 < (np.abs(model.fine) > model.settings.threshold).sum() < model.fine.size
        assert (np.abs(np.abs(model.fine) - model.settings.threshold) > gradients.STEP).all()
        assert (model.triples.positives != model.triples.negatives).all()
    assert {model.settings.n_fine > model.settings.n_coarse for model in drawn} == {True, False}


def test_signed_models_have_negative_assignment_entries_and_negative_degrees() -> None:
    sums = [model.coarse_assignment.sum(axis=0).min() for model in draws(models(signed=True))]
    assert min(sums) < 0 < max(sums)


def test_other_strategies_vary_too() -> None:
    assert_not_dull(draws(sizes()), sizes=tuple)
    assert_not_dull(draws(tables()), values=lambda table: table.tolist(), shape=np.shape)
    tied = draws(tied_tables())
    assert_not_dull(tied, values=lambda table: table.tolist(), shape=np.shape)
    assert any(len(set(row)) < len(row) for table in tied for row in table.tolist())


def arrays_of(value) -> list[np.ndarray]:
    if sparse.issparse(value):
        return [value.data, value.indices, value.indptr]
    if isinstance(value, tuple):
        return [array for part in value for array in arrays_of(part)]
    return [value] if isinstance(value, np.ndarray) else []


def test_drawn_inputs_cannot_be_written_to() -> None:
    for drawn in draws(models(), 5) + draws(tables(), 5) + draws(tied_tables(), 5):
        arrays = arrays_of(tuple(drawn) if isinstance(drawn, Model) else drawn)
        assert arrays
        assert not any(array.flags.writeable for array in arrays)


def test_read_only_copies_and_leaves_the_original_writeable() -> None:
    table, matrix = np.ones(3), sparse.csr_array(np.eye(3))
    frozen = read_only((table, matrix))
    assert table.flags.writeable
    assert matrix.data.flags.writeable
    assert not any(np.shares_memory(a, b) for a in arrays_of(frozen) for b in (table, matrix.data, matrix.indices, matrix.indptr))
    with pytest.raises(ValueError, match="read-only"):
        frozen[1].indices[0] = 2


def test_terms_that_cancel_may_leave_their_rounding_and_no_more() -> None:
    """Terms of size 8 may leave 8 * BOUND where 0 is expected."""
    assert_close(np.array([8e-12]), np.zeros(1), least=8.0)
    with pytest.raises(AssertionError, match="off by"):
        assert_close(np.array([8.1e-12]), np.zeros(1), least=8.0)
