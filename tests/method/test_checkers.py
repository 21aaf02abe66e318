"""The checkers are tested too: each must refuse what it is there to refuse."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from support.agreement import assert_close, chi_square, same_bits
from support.calls import arrays_of
from support.strategies import KINK_MARGIN, assert_not_dull, models, sizes, tied_tables


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
    """And terms of size 8 that cancel may leave 8 bounds, and no more."""
    with pytest.raises(AssertionError):
        assert_close(actual, expected)
    assert_close(expected, expected)
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


def draws(strategy: st.SearchStrategy, n: int = 40) -> list:
    """Values that a strategy gives to a test."""
    values: list = []

    @settings(max_examples=n, derandomize=True, deadline=None, database=None)
    @given(strategy)
    def collect(value) -> None:
        values.append(value)

    collect()
    return values


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
        assert (np.abs(np.abs(model.fine) - tau) >= KINK_MARGIN).all()
        assert (model.triples.positives != model.triples.negatives).all()
    assert {model.settings.n_fine > model.settings.n_coarse for model in drawn} == {True, False}
    sums = [model.coarse_assignment.sum(axis=0).min() for model in draws(models(signed=True))]
    assert min(sums) < 0 < max(sums)


def test_other_strategies_vary_dull_ones_are_refused_and_nothing_drawn_can_be_written_to() -> None:
    assert_not_dull(draws(sizes()), sizes=tuple)
    for dull in (st.just(np.ones((2, 3))), st.sampled_from([np.ones((2, 3)), np.zeros((2, 3))])):
        with pytest.raises(AssertionError, match="dull"):
            assert_not_dull(draws(dull), values=lambda table: table.tolist())
    drawn = draws(tied_tables())
    assert_not_dull(drawn, values=lambda table: table.tolist(), shape=np.shape)
    assert any(len(set(row)) < len(row) for table in drawn for row in table.tolist())
    for value in draws(models(), 5) + drawn[:5]:
        assert not any(part.flags.writeable for part in arrays_of(value))
