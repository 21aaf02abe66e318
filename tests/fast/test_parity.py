"""The compiled implementation against the specification.

Two tiers. Exact: on small multiples of 1/8 no float32 operation rounds, so kernels must give the very bits of the formula.
Bounded: |kernel - formula| <= gamma(k) m with k the roundings on the longest path, m the formula with every term made positive
and gamma(k) = k eps / (1 - k eps). What is made of tanh and of whole training steps is held against the specification in float64,
and against the known answers of the official code, at the tolerance of the conformance run.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import sparse
from support.agreement import assert_close, same_bits
from support.degrees import growth
from support.parity import FLOATS, drawn_matrix, eighths, gamma
from support.strategies import models

import c2f_ref.fast.assignment
import c2f_ref.fast.plan
from c2f_ref import conformance, fast, spec
from c2f_ref.fast import batch, compile, kernels, ranking
from c2f_ref.fast.plan import Matrix
from c2f_ref.interactions import planted, split_ratio
from c2f_ref.spec import Settings, SpecError, Triples
from c2f_ref.training import Recipe, Schedule, schedule, train


def test_what_is_compiled_is_listed_and_the_rest_is_the_specification() -> None:
    for name in spec.__all__:
        same = getattr(fast, name) is getattr(spec, name)
        assert same == (name not in fast.__all__), name
    assert set(fast.__all__) <= set(spec.__all__)


@pytest.mark.parametrize("name", [name for name in fast.__all__ if name[0].islower()])
def test_parameters_are_those_of_the_specification(name: str) -> None:
    assert list(inspect.signature(getattr(fast, name)).parameters) == list(inspect.signature(getattr(spec, name)).parameters)


def test_known_answers_of_the_official_code(official_vectors: Path) -> None:
    report = conformance.run(fast, official_vectors)
    assert report.passed, "\n".join(report.lines())


# Kernels: exact, then bounded.


@pytest.mark.parametrize("dtype", FLOATS)
@given(st.integers(0, 2**32 - 1))
def test_a_sparse_product_of_eighths_is_exact(dtype: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    matrix, dense = drawn_matrix(rng, 23, 17, eighths), eighths(rng, 17, 5)
    got = Matrix(matrix, dtype) @ dense.astype(dtype)
    assert same_bits(got, (matrix.toarray() @ dense).astype(dtype))


@pytest.mark.parametrize("dtype", FLOATS)
@given(st.integers(0, 2**32 - 1))
def test_a_sparse_product_stays_within_its_bound(dtype: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    matrix = drawn_matrix(rng, 23, 17, lambda rng, *shape: rng.standard_normal(shape).astype(dtype))
    dense = rng.standard_normal((17, 5)).astype(dtype)
    got = Matrix(matrix, dtype) @ dense
    exact, terms = (f(matrix.toarray()).astype(np.longdouble) @ f(dense).astype(np.longdouble) for f in (np.asarray, np.abs))
    n_roundings = np.diff(matrix.indptr)[:, None] + 1
    assert (np.abs(got - exact) <= gamma(n_roundings, dtype) * terms).all()


@pytest.mark.parametrize("dtype", FLOATS)
@given(st.integers(0, 2**32 - 1))
def test_rows_of_the_published_length_have_the_bits_of_any_other(dtype: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    matrix = Matrix(drawn_matrix(rng, 23, 17, eighths), dtype)
    dense = rng.standard_normal((17, kernels.PUBLISHED_DIM + 1)).astype(dtype)
    assert same_bits(matrix @ np.ascontiguousarray(dense[:, :-1]), np.ascontiguousarray((matrix @ dense)[:, :-1]))


@pytest.mark.parametrize("small", [0, c2f_ref.fast.plan.SMALL])
@pytest.mark.parametrize("dtype", FLOATS)
@given(st.integers(0, 2**32 - 1))
def test_layers_and_steps_back_of_eighths_are_exact(small: int, dtype: Any, seed: int) -> None:
    """19 nodes of which from none to all are in the batch, in any order; a batch's gradient is compact. On threads and on one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(c2f_ref.fast.plan, "SMALL", small)
        assert_layers_and_steps_back_are_exact(dtype, seed)


def assert_layers_and_steps_back_are_exact(dtype: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    matrix = drawn_matrix(rng, 19, 19, eighths)
    own, dense = Matrix(matrix, dtype), matrix.toarray()
    rows = rng.permutation(19)[: rng.integers(20)]
    slots = np.full(19, -1)
    slots[rows] = np.arange(rows.size)
    layers, grad = eighths(rng, 3, 19, 3).astype(dtype), eighths(rng, rows.size, 3).astype(dtype)
    full_grad = np.zeros((19, 3))
    full_grad[rows] = grad
    out = np.full((19, 3), 7, dtype=dtype)

    own.step(np.full(19, -1), layers[0], layers[0], out)
    assert same_bits(out, (dense @ layers[0]).astype(dtype))
    own.step(slots, grad, layers[0], out)
    assert same_bits(out, (full_grad + dense @ layers[0]).astype(dtype))
    kernels.first_step_back(own.blocks, own.arrays, slots, grad, out)
    assert same_bits(out, (full_grad + dense @ full_grad).astype(dtype))
    kernels.put_rows(slots, grad, out)
    assert same_bits(out, full_grad.astype(dtype))

    of_rows = np.full((rows.size, 3), 7, dtype=dtype)
    own.step(rows, layers[0], layers[1], of_rows, rows, 4)
    assert same_bits(of_rows, ((layers[0] + dense @ layers[1]) / 4)[rows].astype(dtype))
    own.step(np.full(rows.size, -1), layers[0], layers[1], of_rows, rows)
    assert same_bits(of_rows, (dense @ layers[1])[rows].astype(dtype))
    own.step(None, of_rows, layers[2], of_rows, rows)  # in place
    assert same_bits(of_rows, (dense @ (layers[1] + layers[2]))[rows].astype(dtype))

    ego, counts = layers[1, :11], rng.integers(1, 5, size=rows.size)
    penalties = 0.25 * counts
    kernels.last_step_back(own.blocks, own.arrays, np.arange(19), slots, grad, layers[0], dtype(2), ego, penalties, out)
    expected = (full_grad + dense @ layers[0]) / 2
    by_row = np.zeros((19, 1))
    by_row[rows, 0] = penalties
    expected[:11] = (expected[:11] + by_row[:11] * ego) * (1 - ego.astype(np.float64) ** 2)
    assert same_bits(out, expected.astype(dtype))


def drawn_pairs(rng: np.random.Generator, values: Any, dtype: Any) -> tuple[Any, ...]:
    """13 rows in 40 triples, so that most rows stand in several, in every role."""
    entities, bias, slopes = (values(rng, *shape).astype(dtype) for shape in ((13, 6), (13,), (40,)))
    return entities, bias, slopes, *(rng.integers(0, 13, size=40) for _ in range(3))


@pytest.mark.parametrize("dtype", FLOATS)
@given(st.integers(0, 2**32 - 1))
def test_pairs_and_their_pull_back_of_eighths_are_exact(dtype: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    entities, bias, slopes, users, positives, negatives = drawn_pairs(rng, eighths, dtype)
    differences = bias[negatives] - bias[positives]
    batch.add_products(entities, users, negatives, positives, differences)
    wide = entities.astype(np.float64)
    scores = [(wide[users] * wide[items]).sum(axis=1) + bias[items] for items in (negatives, positives)]
    assert same_bits(differences, (scores[0] - scores[1]).astype(dtype))

    grad, grad_bias = np.full_like(entities, 7), np.full_like(bias, 7)
    standing = batch.places_by_row(np.concatenate([users, positives, negatives]), np.ones(120), 13)
    batch.pull_back_pairs(entities, users, positives, negatives, slopes, standing.indptr, standing.indices, grad, grad_bias)
    expected, expected_bias = np.zeros((13, 6)), np.zeros(13)
    for t, (u, i, j) in enumerate(zip(users, positives, negatives, strict=True)):
        expected[u] += slopes[t] * (wide[j] - wide[i])
        expected[i] -= slopes[t] * wide[u]
        expected[j] += slopes[t] * wide[u]
        expected_bias[i] -= slopes[t]
        expected_bias[j] += slopes[t]
    assert same_bits((grad, grad_bias), (expected.astype(dtype), expected_bias.astype(dtype)))


@pytest.mark.parametrize("dtype", FLOATS)
@given(st.integers(0, 2**32 - 1))
def test_pairs_stay_within_their_bound(dtype: Any, seed: int) -> None:
    """A score has D products of a rounded difference, their sum, and a difference of biases: D + 3 roundings."""
    rng = np.random.default_rng(seed)
    entities, bias, _, users, positives, negatives = drawn_pairs(rng, lambda rng, *shape: rng.standard_normal(shape), dtype)
    got = bias[negatives] - bias[positives]
    batch.add_products(entities, users, negatives, positives, got)
    wide, wide_bias = entities.astype(np.longdouble), bias.astype(np.longdouble)
    exact = (wide[users] * (wide[negatives] - wide[positives])).sum(axis=1) + wide_bias[negatives] - wide_bias[positives]
    size, size_bias = np.abs(wide), np.abs(wide_bias)
    terms = (size[users] * (size[negatives] + size[positives])).sum(axis=1) + size_bias[negatives] + size_bias[positives]
    assert (np.abs(got - exact) <= gamma(6 + 3, dtype) * terms).all()


# The contract against the specification.


def both(model: Any, dtype: Any = np.float64) -> list[tuple[Any, Any]]:
    """(fast, specification) of every forward pass, loss and gradient."""
    adjacency = model.norm_adjacency.astype(dtype)
    n_users, settings = model.n_users, model.settings
    results = []
    for ops in (fast, spec):
        coarse = ops.prepare_coarse(adjacency, model.coarse_assignment, n_users, settings)
        fine = ops.prepare_fine(adjacency, model.coarse_assignment, model.fine_assignment, n_users, settings, coarse)
        results.append(
            [
                ops.embed_coarse(coarse, model.coarse),
                ops.coarse_loss_and_grad(coarse, model.coarse, model.bias, model.triples),
                ops.embed_fine(fine, model.coarse, model.fine),
                ops.fine_loss_and_grad(fine, model.coarse, model.fine, model.bias, model.triples),
                ops.embed_coarse(coarse, model.coarse),
            ]
        )
    return list(zip(*results, strict=True))


def assert_agree(model: Any) -> None:
    """Both implementations, in float64. Gradients are sums of terms that can cancel: embeddings times weights of at most 1."""
    bound, results = 1e-12 * growth(model), both(model)
    largest = max(float(np.abs(table).max()) for _, expected in results for table in expected if isinstance(table, np.ndarray))
    for got, expected in results:
        assert_close(got, expected, bound, largest)


@given(models(signed=True))
def test_every_pass_and_gradient_is_that_of_the_specification(model: Any) -> None:
    """In float64, and the same again from work buffers that other calls have written over."""
    assert_agree(model)


@given(models(signed=True))
def test_renumbering_gives_results_back_in_the_order_of_the_caller(model: Any) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(c2f_ref.fast.plan, "ENTITIES_PER_PART", 3)
        plan = fast.prepare_coarse(model.norm_adjacency, model.coarse_assignment, model.n_users, model.settings)
        assume(not np.array_equal(plan.where.order, np.arange(plan.where.order.size)))
        assert_agree(model)


@given(models())
def test_float32_tables_give_float32_results_near_the_specification(model: Any) -> None:
    """The kernels carry their bounds above; here, that no pass leaves its type or loses more than a few hundred roundings."""
    for got, expected in both(model, np.float32):
        for one, other in zip(got, expected, strict=True):
            assert isinstance(one, float) or one.dtype == np.float32
            scale = max(float(np.abs(other).max()), 1e-3)
            assert np.abs(one - other).max() <= 500 * np.finfo(np.float32).eps * scale


@given(models())
def test_results_belong_to_the_caller(model: Any) -> None:
    """Later calls on the same plans change nothing that earlier ones gave."""
    adjacency, n_users, settings = model.norm_adjacency, model.n_users, model.settings
    coarse_plan = fast.prepare_coarse(adjacency, model.coarse_assignment, n_users, settings)
    fine_plan = fast.prepare_fine(adjacency, model.coarse_assignment, model.fine_assignment, n_users, settings)

    def results(coarse: Any, fine: Any, bias: Any) -> tuple[Any, ...]:
        return (
            *fast.embed_coarse(coarse_plan, coarse),
            *fast.coarse_loss_and_grad(coarse_plan, coarse, bias, model.triples),
            *fast.embed_fine(fine_plan, coarse, fine),
            *fast.fine_loss_and_grad(fine_plan, coarse, fine, bias, model.triples),
        )

    first = results(*tables(model))
    kept = tuple(np.array(array) for array in first)
    results(-model.coarse, 2 * model.fine, model.bias + 1)
    assert same_bits(tuple(np.asarray(array) for array in first), kept)


@given(models())
def test_a_plan_takes_over_from_one_of_the_same_adjacency_and_from_no_other(model: Any) -> None:
    """Twice the adjacency is another graph once it is expanded; what was kept for the first must not serve it."""
    n_users, settings = model.n_users, model.settings
    plan = fast.prepare_coarse(model.norm_adjacency, model.coarse_assignment, n_users, settings)
    again = fast.prepare_coarse(model.norm_adjacency, model.coarse_assignment, n_users, settings, plan)
    assert again.where is plan.where
    assert again.work is plan.work
    other = model.norm_adjacency * 2
    got = fast.embed_coarse(fast.prepare_coarse(other, model.coarse_assignment, n_users, settings, plan), model.coarse)
    expected = spec.embed_coarse(spec.prepare_coarse(other, model.coarse_assignment, n_users, settings), model.coarse)
    assert_close(got, expected)


@given(models())
def test_the_numbering_of_an_earlier_plan_serves_other_graphs_of_the_same_users_and_items_alone(model: Any) -> None:
    """Parts of three entities, so that there is a numbering to speak of: other links keep it, other numbers of users do not."""
    n_users, settings, assignment = model.n_users, model.settings, model.coarse_assignment
    fewer = model.norm_adjacency.copy()
    fewer.data[:: max(fewer.nnz // 3, 1)] = 0
    fewer = sparse.csr_array(fewer + fewer.T)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(c2f_ref.fast.plan, "ENTITIES_PER_PART", 3)
        earlier = fast.prepare_coarse(model.norm_adjacency, assignment, n_users, settings)
        later = fast.prepare_coarse(fewer, assignment, n_users, settings, earlier)
        others = [fast.prepare_coarse(fewer, assignment, n_users + more, settings, earlier) for more in (-1, 1)]
    assert later.where.order is earlier.where.order
    got = fast.embed_coarse(later, model.coarse)
    assert_close(got, spec.embed_coarse(spec.prepare_coarse(fewer, assignment, n_users, settings), model.coarse))
    for other in others:
        assert (other.where.order[: other.n_users] < other.n_users).all()


def tables(model: Any) -> tuple[Any, Any, Any]:
    return model.coarse, model.fine, model.bias


@pytest.mark.parametrize("n", [ranking.LONG, ranking.LONG + 1, ranking.LONG + 9])
@pytest.mark.parametrize("dtype", FLOATS)
def test_long_lists_are_those_of_the_specification_too(dtype: Any, n: int) -> None:
    """Longer than there are items, and shorter; seen items, ties by the dozen."""
    rng = np.random.default_rng(n)
    for n_items in (n - 5, n + 40):
        entities, bias = eighths(rng, 6 + n_items, 2) / 4, eighths(rng, 6 + n_items) / 4
        seen, users = sparse.csr_array(rng.random((6, n_items)) < 0.2, dtype=np.float64), np.array([5, 0, 5])
        got = fast.rank_items(entities.astype(dtype), bias.astype(dtype), 6, users, seen, n)
        expected = spec.rank_items(entities, bias, 6, users, seen, n)
        np.testing.assert_array_equal(got[0], expected[0])
        np.testing.assert_array_equal(got[1], expected[1])
        assert got[1].dtype == dtype


@pytest.mark.parametrize("dtype", FLOATS)
@given(st.integers(0, 2**32 - 1))
def test_rankings_of_eighths_are_those_of_the_specification_with_ties_and_masks(dtype: Any, seed: int) -> None:
    """Few values and few columns: every list has ties, and some users have seen nearly everything."""
    rng = np.random.default_rng(seed)
    entities, bias = (eighths(rng, 31, 2) / 4).astype(dtype), (eighths(rng, 31) / 4).astype(dtype)
    seen = sparse.csr_array(rng.random((11, 20)) < rng.random((11, 1)))
    users = rng.integers(0, 11, size=7)
    for k in (0, 1, 5, 20, 26):
        got, expected = (ops.rank_items(entities, bias, 11, users, seen, k) for ops in (fast, spec))
        assert np.array_equal(got[0], expected[0])
        assert np.array_equal(got[1], expected[1])


@given(st.integers(0, 2**32 - 1))
def test_a_refresh_in_blocks_is_that_of_the_specification(seed: int) -> None:
    rng = np.random.default_rng(seed)
    entities, coarse = rng.standard_normal((37, 6)), rng.standard_normal((5, 6))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(c2f_ref.fast.assignment, "ROWS_PER_BLOCK", 8)
        for k in (0, 1, 3, 5):
            got, expected = (ops.refresh_coarse(entities, coarse, k) for ops in (fast, spec))
            assert np.array_equal(got.indices, expected.indices)
            assert_close(got, expected)
    ties = fast.refresh_coarse(np.ones((4, 3)), np.zeros((5, 3)), 2)
    assert ties.indices.tolist() == [0, 1] * 4
    assert not ties.data.any()


@pytest.mark.parametrize("dtype", FLOATS)
@given(models(signed=True))
def test_a_step_has_the_same_bits_on_threads_and_on_one(dtype: Any, model: Any) -> None:
    """Products of few multiplications are left to one thread."""
    results = []
    for small in (0, 2**62):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(c2f_ref.fast.plan, "SMALL", small)
            results.append([got for got, _ in both(model, dtype)])
    for of_threads, of_one in zip(*results, strict=True):
        assert same_bits(*(tuple(np.asarray(part) for part in parts) for parts in (of_threads, of_one)))


@pytest.mark.parametrize("name", ["coarse", "fine", "bias"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_refused_at_the_door(name: str, value: float) -> None:
    given_tables = {"coarse": np.ones((3, 2)), "fine": np.ones((2, 2)), "bias": np.ones(5)}
    given_tables[name][(0,) * given_tables[name].ndim] = value
    settings = Settings(n_coarse=3, n_fine=2, dim=2, fine_per_coarse=1)
    adjacency = spec.normalise(spec.bipartite(np.array([0, 1]), np.array([2, 0]), 2, 3))
    assignment = spec.start_coarse_assignment(np.array([0, 1, 2, 0, 1]), settings, rng=np.random.default_rng(0))
    plan = fast.prepare_fine(adjacency, assignment, sparse.csr_array(np.eye(3)[:, :2] + [1, 0]), 2, settings)
    triples = Triples(np.array([0]), np.array([2]), np.array([1]))
    with pytest.raises(SpecError, match=f"{name} must be finite"):
        fast.fine_loss_and_grad(plan, *given_tables.values(), triples)


def test_an_adjacency_of_whole_numbers_is_refused() -> None:
    with pytest.raises(SpecError, match="float32 or float64, got int64"):
        fast.prepare_coarse(
            sparse.csr_array(np.eye(3, dtype=np.int64)),
            sparse.csr_array(np.ones((3, 1))),
            1,
            Settings(n_coarse=1, coarse_per_entity=1),
        )


def test_where_no_folder_can_keep_the_cache_kernels_are_compiled_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def njit(**policy: Any) -> Any:
        asked.append(policy)
        if policy.get("cache"):
            raise RuntimeError("cannot cache function: no locator available")
        return lambda function: function

    monkeypatch.setattr(compile.numba, "njit", njit)
    assert compile.kernel(parallel=True)(abs) is abs
    assert [policy.pop("cache", False) for policy in asked] == [True, False]
    assert asked[0] == asked[1]


def test_training_gives_the_same_bytes_for_one_thread_and_for_two(monkeypatch: pytest.MonkeyPatch) -> None:
    """Float32, both stages, refreshes included."""
    monkeypatch.setattr(schedule, "SMALL", 0)  # or one thread would train both times
    if numba.config.NUMBA_NUM_THREADS < 2:
        pytest.skip("this machine has one processor")
    split = split_ratio(
        planted(n_users=60, n_items=50, n_groups=2, pairs_per_user=9, rng=np.random.default_rng(0)), valid=0.2, test=0.2, seed=0
    )
    settings = Settings(n_coarse=6, n_fine=4, dim=5, n_layers=2)
    recipe = Recipe(
        coarse=Schedule(batch=128, lr=0.05, evaluate_every=2, patience=2, max_epochs=30),
        fine=Schedule(batch=96, lr=0.04, evaluate_every=2, patience=2, max_epochs=30),
    )
    results = []
    for n_threads in (1, 2):
        before = numba.get_num_threads()
        numba.set_num_threads(n_threads)
        try:
            stages = train(split, settings, recipe, seed=0, ops=fast, dtype=np.float32)
        finally:
            numba.set_num_threads(before)
        results.append([part for stage in stages if stage for part in (*stage.best.tables, stage.best.assignment.toarray())])
    assert len(results[0]) == 6
    assert same_bits(tuple(results[0]), tuple(results[1]))
