"""Compiled loops give the bits of their formulas on small multiples of 1/8, which never round.

The cases of the oracle bound what rounding can do to other numbers.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from support.agreement import same_bits
from support.parity import FLOATS, drawn_matrix, eighths, threads
from support.strategies import models, read_only, tied_tables

from c2f_ref import method
from c2f_ref.fast import compile, kernels, plan, rest
from c2f_ref.fast.plan import Matrix

pytestmark = pytest.mark.usefixtures("one_thread")
Seeds = st.integers(0, 2**32 - 1)


# Products


@pytest.mark.parametrize("dtype", FLOATS)
@given(Seeds)
def test_a_sparse_product_of_eighths_is_exact_and_so_is_that_of_the_transpose(
    dtype: Any, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    matrix, dense, other = drawn_matrix(rng, 23, 17, eighths), eighths(rng, 17, 5), eighths(rng, 23)
    compiled = Matrix(matrix, dtype)
    assert same_bits(compiled @ dense.astype(dtype), (matrix.toarray() @ dense).astype(dtype))
    got = compiled.T @ other[:, None].astype(dtype)
    assert same_bits(got, (matrix.toarray().T @ other[:, None]).astype(dtype))


@pytest.mark.parametrize("shape", [(6, 4), (0, 4), (4, 0)])
def test_a_matrix_without_entries_gives_zeros_and_another_height_is_refused(shape: Any) -> None:
    matrix = Matrix(sparse.csr_array(shape), np.float32)
    for each in (matrix, matrix.T):
        got = each @ np.ones((each.shape[1], 3), np.float32)
        assert same_bits(got, np.zeros((each.shape[0], 3), np.float32))
        with pytest.raises(method.MethodError, match=r"must have shape \(\d, 2\), got \(9, 2\)"):
            each @ np.ones((9, 2))


@pytest.mark.parametrize("dtype", FLOATS)
@given(Seeds)
def test_steps_of_eighths_are_exact(dtype: Any, seed: int) -> None:
    """19 nodes, of which none to all are in the batch, in any order; its gradient is compact."""
    rng = np.random.default_rng(seed)
    matrix = drawn_matrix(rng, 19, 19, eighths)
    compiled, dense = Matrix(matrix, dtype), matrix.toarray()
    rows = rng.permutation(19)[: rng.integers(20)]
    slots = np.full(19, -1)
    slots[rows] = np.arange(rows.size)
    layers, grad = eighths(rng, 3, 19, 3).astype(dtype), eighths(rng, rows.size, 3).astype(dtype)
    whole_grad = np.zeros((19, 3))
    whole_grad[rows] = grad
    out = np.full((19, 3), 7, dtype=dtype)

    compiled.step(np.full(19, -1), layers[0], layers[0], out)
    assert same_bits(out, (dense @ layers[0]).astype(dtype))
    compiled.step(slots, grad, layers[0], out)
    assert same_bits(out, (whole_grad + dense @ layers[0]).astype(dtype))
    kernels.step_from_batch(compiled.blocks, compiled.arrays, slots, grad, out)
    assert same_bits(out, (whole_grad + dense @ whole_grad).astype(dtype))

    of_rows = np.full((rows.size, 3), 7, dtype=dtype)
    compiled.step(rows, layers[0], layers[1], of_rows, rows, 4)
    assert same_bits(of_rows, ((layers[0] + dense @ layers[1]) / 4)[rows].astype(dtype))
    compiled.step(np.full(rows.size, -1), layers[0], layers[1], of_rows, rows)
    assert same_bits(of_rows, (dense @ layers[1])[rows].astype(dtype))
    compiled.step(None, of_rows, layers[2], of_rows, rows)  # in place
    assert same_bits(of_rows, (dense @ (layers[1] + layers[2]))[rows].astype(dtype))

    ego, penalties = layers[1, :11], 0.25 * rng.integers(1, 5, size=rows.size).astype(dtype)
    by_node = np.zeros((19, 1))
    by_node[rows, 0] = penalties
    got, expected = layers[0].copy(), layers[0].astype(np.float64)
    expected[:11] = (expected[:11] + by_node[:11] * ego) * (1 - ego.astype(np.float64) ** 2)
    kernels.back_through_tanh(slots, penalties, ego, got)
    assert same_bits(got, expected.astype(dtype))


@pytest.mark.parametrize("dtype", FLOATS)
@given(Seeds)
def test_products_of_pairs_of_eighths_are_exact(dtype: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    table, start = eighths(rng, 13, 6), eighths(rng, 40)
    lefts, rights = rng.integers(0, 13, size=(2, 40))
    got = start.astype(dtype)
    kernels.add_products(table.astype(dtype), lefts, rights, got)
    assert same_bits(got, (start + (table[lefts] * table[rights]).sum(axis=1)).astype(dtype))


# The expanded graph, and how its entities are numbered

EXPANSIONS = (2, method.expand_coarse), (3, method.expand_fine)
"""The number of parts that a graph is made of, and who makes it of them."""


def expanded(*parts: Any, place: Any = None) -> sparse.csr_array:
    """The graph of the fine stage, or without an S_f that of the coarse one."""
    parts = parts if len(parts) == 3 else (*parts, sparse.csr_array((parts[1].shape[1], 0)))
    canonical = [plan._canonical("a part", part) for part in parts]
    return plan.expand(*canonical, np.arange(parts[0].shape[0]) if place is None else place)


def stored(matrix: sparse.csr_array) -> tuple[Any, ...]:
    """Pattern and numbers as they are stored."""
    assert matrix.has_canonical_format
    return matrix.shape, matrix.indptr.tolist(), matrix.indices.tolist(), matrix.data.tolist()


def drawn_parts(rng: np.random.Generator, values: Any) -> tuple[Any, ...]:
    """(A (13, 13), not symmetric; S_c (13, 4), S_f (4, 3) of any number of entries in a row)."""
    return tuple(drawn_matrix(rng, n, m, values) for n, m in ((13, 13), (13, 4), (4, 3)))


@pytest.mark.parametrize("dtype", FLOATS)
@given(Seeds)
def test_graphs_of_eighths_are_those_of_the_method_bit_for_bit(dtype: Any, seed: int) -> None:
    """Degrees of eighths are exact, of either sign or 0 (D11); the rest is the same operations.

    A third of the entries become stored zeros.
    """
    rng = np.random.default_rng(seed)
    adjacency, *others = drawn_parts(rng, eighths)
    parts = (adjacency.astype(dtype), *others)
    for part in parts:
        part.data[rng.random(part.nnz) < 1 / 3] = 0
    for n_parts, formula in EXPANSIONS:
        expected = formula(*parts[:n_parts])
        assert stored(expanded(*read_only(parts[:n_parts]))) == stored(expected)
        place = np.concatenate([rng.permutation(13), np.arange(13, expected.shape[0])])
        got = expanded(*parts[:n_parts], place=place[:13])
        assert np.array_equal(got.toarray()[place][:, place], expected.toarray())


@given(models(signed=True))
def test_both_directions_of_an_edge_have_the_same_bits(model: Any) -> None:
    parts = model.norm_adjacency, model.coarse_assignment, model.fine_assignment
    for n_parts in (2, 3):
        dense = expanded(*parts[:n_parts]).toarray()
        assert dense.any()
        assert np.array_equal(dense, dense.T)


TINY = sparse.csr_array([[0.0, 1e-200, 0], [1e-200, 0, 0], [0, 0, 2.0]])
TWICE = sparse.csr_array((np.array([1.0, 0.5, 2, 0]), np.array([1, 0, 1, 0]), np.array([0, 3, 4])))


@pytest.mark.parametrize(
    "parts",
    [
        (TINY, sparse.csr_array([[0.0], [0.0], [1e-200]]), sparse.csr_array((1, 2))),
        (TWICE, sparse.csr_array(np.ones((2, 3))), sparse.csr_array((3, 0))),
    ],
    ids=["degrees whose product underflows", "a place twice, a stored 0, and no fine row"],
)
def test_graphs_on_the_edge_are_those_of_the_method(parts: Any) -> None:
    for n_parts, formula in EXPANSIONS:
        assert stored(expanded(*read_only(parts[:n_parts]))) == stored(formula(*parts[:n_parts]))


def test_main_columns_by_hand() -> None:
    """Entity 0 has one largest entry, 1 none; 2 is tied, and its neighbours 0 and 3 both have
    column 4; 3 is tied between columns that nobody near has, so the lowest one is taken.
    """
    adjacency = sparse.csr_array([[0, 0, 1, 0], [0, 0, 0, 0], [1, 0, 0, 1], [0, 0, 1, 0]])
    rows = [[0, -3, 0, 0, 2], [0, 0, 0, 0, 0], [0, 1, 0, 0, 1], [0, 0, 2, 2, 1]]
    assignment = sparse.csr_array(np.array(rows, dtype=np.float64))
    out = np.full(4, 9)
    plan.put_main_columns(plan.arrays_of(adjacency), plan.arrays_of(assignment), out)
    assert out.tolist() == [4, 0, 4, 2]


# The largest of rows


@pytest.mark.parametrize("dtype", FLOATS)
@given(tied_tables())
def test_the_largest_of_rows_are_those_of_the_method_with_ties(dtype: Any, table: Any) -> None:
    """Without -inf, which is no candidate; there may be fewer columns than are asked for."""
    table = table.astype(dtype)
    for k in range(table.shape[1] + 2):
        assert same_bits(largest_of_rows(table, k), method.rank_scores(table, k))


def largest_of_rows(table: Any, k: int) -> tuple[Any, Any]:
    shape = len(table), k
    columns, best = np.empty(shape, dtype=np.int64), np.empty(shape, table.dtype)
    kernels.top_of_rows(table, columns, best)
    return columns, best


# Blocks, and the compiler


@pytest.mark.parametrize("n_threads", [1, 2])
def test_results_of_blocks_are_in_the_order_of_rows_and_errors_come_out(n_threads: int) -> None:
    """The first block is the slowest; 11 rows in blocks of 4 are three, the last one short."""

    def work(block: slice) -> tuple[int, int]:
        time.sleep(0.02 if block.start == 0 else 0.0)
        return block.start, block.stop

    def fails(block: slice) -> None:
        if block.start == 4:
            raise ValueError("the second block")

    with threads(n_threads):
        assert rest.over_blocks(work, 11, 4) == [(0, 4), (4, 8), (8, 11)]
        with pytest.raises(ValueError, match="the second block"):
            rest.over_blocks(fails, 11, 4)
        assert rest.over_blocks(fails, 0, 4) == []


def test_blocks_cut_all_rows_into_pieces_of_similar_work() -> None:
    """A row of 90 entries is as much work as all others together."""
    counts = np.array([90, *[0] * 50, *[1] * 20])
    assert kernels.balanced_blocks(counts, 2).tolist() == [0, 1, 71]
    for n in (0, 1, 700):
        cuts = kernels.balanced_blocks(np.full(n, 3))
        assert (cuts[0], cuts[-1]) == (0, n)
        assert (np.diff(cuts) > 0).all()
        assert cuts.size <= 257


def test_without_a_folder_for_the_cache_kernels_are_compiled_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    policies = []

    def njit(**policy: Any) -> Any:
        policies.append(policy)
        if policy.get("cache"):
            raise RuntimeError("cannot cache function: no locator available")
        return lambda function: function

    monkeypatch.setattr(compile.numba, "njit", njit)
    assert compile.kernel(nogil=True)(abs) is abs
    assert policies[1] == {"nogil": True, "error_model": "numpy"}  # and no fastmath
    assert policies[0] == policies[1] | {"cache": True}
