"""The forward pass column by column, held against its definition in scalar loops."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from device.made import assert_close, dense_fine, embed_by_definition, make_stored, pairs_of

from c2f_ref.device.forward import blocks_of_pairs, compose, compose_transposed, embed_column, prepare
from c2f_ref.stored import Array, FixedRows, StoredModel

SIZES = {"n_users": 7, "n_items": 9, "n_coarse": 5, "dim": 3}


def embed(stored: StoredModel) -> Array:
    plan = prepare(stored)
    return np.stack([embed_column(stored, plan, column) for column in range(stored.coarse.shape[1])], axis=1)


# By hand


def test_one_pair_and_one_coarse_row_embed_as_worked_out_on_paper() -> None:
    """A = 1 between user and item; both have degree 1 + 1, the coarse row has 2: every link weighs 1/2.

    X = tanh x for both, so layer 1 of either is (tanh x + x) / 2, and H = (tanh x + (tanh x + x) / 2) / 2.
    """
    x = 0.75
    one = np.zeros(2, dtype=np.uint8)
    stored = StoredModel(
        settings={"n_layers": 1, "bridge_weight": 0.2, "threshold": 1.0},
        user_ids=np.array([3]),
        item_ids=np.array([4]),
        graph_columns=one[:1],
        graph_starts=np.array([0, 1], dtype=np.uint8),
        bias=np.zeros(1),
        coarse=np.array([[x]]),
        coarse_assignment=FixedRows(np.ones((2, 1)), one[:, None]),
    )
    expected = (math.tanh(x) + (math.tanh(x) + x) / 2) / 2
    assert_close(embed(stored), np.full((2, 1), expected))


def test_compose_sums_weighted_entries_in_both_directions() -> None:
    """Rows (1/2 of 1, 2 of 2) and (3 of 0, 1 of 1)."""
    rows = FixedRows(np.array([[0.5, 2.0], [3.0, 1.0]]), np.array([[1, 2], [0, 1]], dtype=np.uint8))
    assert compose(rows, np.array([10.0, 20.0, 40.0])).tolist() == [90.0, 50.0]
    assert compose_transposed(rows, np.array([10.0, 20.0]), 4).tolist() == [60.0, 25.0, 20.0, 0.0]


# By definition


@pytest.mark.parametrize("n_fine", [0, 4])
@pytest.mark.parametrize("n_layers", [0, 1, 3])
@pytest.mark.parametrize("signed", [False, True])
def test_a_pass_is_the_formula(n_fine: int, n_layers: int, signed: bool) -> None:
    """Both stages; signed assignments bring degrees that are not positive (D11)."""
    for seed in range(6):
        stored = make_stored(np.random.default_rng(seed), **SIZES, n_fine=n_fine, n_layers=n_layers, signed=signed)
        assert_close(embed(stored), embed_by_definition(stored))


def test_some_of_those_models_have_degrees_that_are_not_positive_and_entities_without_pairs() -> None:
    made = [make_stored(np.random.default_rng(seed), **SIZES, n_fine=4, signed=True) for seed in range(6)]
    assert any((prepare(stored).scale[np.unique([user for user, _ in pairs_of(stored)])] == 0).any() for stored in made)
    assert any(len({user for user, _ in pairs_of(stored)}) < stored.n_users for stored in made)
    assert any(len({item for _, item in pairs_of(stored)}) < stored.n_items for stored in made)


@pytest.mark.parametrize("pairs_per_user", [0.0, 1.0, 4.0, 9.0])
def test_a_pass_is_the_formula_for_few_pairs_and_for_many(pairs_per_user: float) -> None:
    """None at all, up to every item for every user: 63 pairs, in blocks of at most 16."""
    stored = make_stored(np.random.default_rng(5), **SIZES, n_fine=4, pairs_per_user=pairs_per_user)
    assert_close(embed(stored), embed_by_definition(stored))
    assert (len(list(blocks_of_pairs(stored, prepare(stored).starts))) > 3) == (pairs_per_user == 9.0)


@pytest.mark.parametrize("per_entity", [1, 4])
def test_a_pass_is_the_formula_for_one_entry_a_row_and_for_many(per_entity: int) -> None:
    stored = make_stored(np.random.default_rng(6), **SIZES, n_fine=4, coarse_per_entity=per_entity)
    assert_close(embed(stored), embed_by_definition(stored))


def test_a_compressed_fine_table_gives_the_bits_of_a_dense_one() -> None:
    dense, sparse = (make_stored(np.random.default_rng(7), **SIZES, n_fine=4, compress=choice) for choice in (False, True))
    assert dense_fine(dense).any()
    assert np.array_equal(embed(dense), embed(sparse))


@pytest.mark.parametrize(("dtype", "table_dtype"), [(np.float32, np.float32), (np.float32, np.float16), (np.float64, np.float16)])
def test_narrow_numbers_are_taken_as_they_are_and_computed_with_in_float64(dtype: Any, table_dtype: Any) -> None:
    stored = make_stored(np.random.default_rng(8), **SIZES, n_fine=4, dtype=dtype, table_dtype=table_dtype)
    entities = embed(stored)
    assert entities.dtype == np.float64
    assert_close(entities, embed_by_definition(stored))


# Edges


def test_an_entity_of_degree_zero_keeps_its_share_of_layer_zero_and_nothing_else() -> None:
    """The first user has no pair and entries 1 and -1, so its degree is exactly 0 (D11): of 3 layers only the first is not 0."""
    stored = make_stored(np.random.default_rng(9), **SIZES, n_layers=2)
    starts = stored.graph_starts.copy()
    starts[1:] -= starts[1]
    values = stored.coarse_assignment.values.copy()
    values[0] = [1.0, -1.0]
    stored = replace(
        stored,
        graph_columns=stored.graph_columns[int(stored.graph_starts[1]) :],
        graph_starts=starts,
        coarse_assignment=FixedRows(values, stored.coarse_assignment.columns),
    )
    first, second = stored.coarse_assignment.columns[0]
    assert_close(embed(stored)[0], np.tanh(stored.coarse[first] - stored.coarse[second]) / 3)
    assert_close(embed(stored), embed_by_definition(stored))


def test_degrees_whose_product_is_below_every_number_count_as_zero() -> None:
    """An entity without pairs and a coarse row of its own, both of degree 1e-200: the product of degrees underflows (D11)."""
    stored = make_stored(np.random.default_rng(10), **SIZES, pairs_per_user=0.0, n_layers=1, coarse_per_entity=1)
    values, columns = stored.coarse_assignment.values.copy(), stored.coarse_assignment.columns.copy()
    columns[columns == 0] = 1
    values[2], columns[2] = 1e-200, 0
    stored = replace(stored, coarse_assignment=FixedRows(values, columns))
    assert_close(embed(stored)[2], np.tanh(1e-200 * stored.coarse[0]) / 2)


def test_nothing_writes_to_the_model() -> None:
    stored = make_stored(np.random.default_rng(11), **SIZES, n_fine=4)
    assert stored.fine_assignment is not None
    assignments = (*stored.coarse_assignment, *stored.fine_assignment)
    fine = stored.fine if isinstance(stored.fine, tuple) else (stored.fine,)
    arrays = [stored.coarse, stored.bias, stored.graph_columns, stored.graph_starts, *assignments, *fine]
    before = [array.tobytes() for array in arrays]
    for array in arrays:
        array.flags.writeable = False  # a write is an error at its place
    embed(stored)
    assert [array.tobytes() for array in arrays] == before
