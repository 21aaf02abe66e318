"""The compiled implementation against the method.

Exact on multiples of 1/8, where nothing rounds; otherwise within the error bounds of the oracle's
cases (`tests/conformance/test_run.py`), which also ask for most errors and for results of no layer
and of no triple. `test_kernels` has the loops below.
"""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import sparse
from support.agreement import assert_close, same_bits
from support.calls import arrays_of, calls, mapped
from support.degrees import growth
from support.parity import FLOATS, drawn_matrix, eighths, singles, small_eighths, threads
from support.strategies import draw_assignment, draw_model, models, read_only

from c2f_ref import fast, method
from c2f_ref.fast import rest
from c2f_ref.fast.plan import Matrix
from c2f_ref.method import MethodError, Settings

pytestmark = pytest.mark.usefixtures("one_thread")
Seeds = st.integers(0, 2**32 - 1)
TESTS = Path(__file__).resolve().parents[1]
CALLS = {name: inputs for name, (_, inputs) in calls().items() if name in fast.__all__}
SIMPLE = [name for name in CALLS if "_loss_" not in name and name[:5] not in ("embed", "prepa")]
"""Functions that take no plan and return no plan."""
EXACT = ["propagate_fine", "propagate_fine_vjp", "score_pairs", "score_pairs_vjp"]


def of_type(inputs: tuple[Any, ...], dtype: Any) -> tuple[Any, ...]:
    """The same inputs, read-only, dense ones of this type; sparse ones stay float64."""

    def converted(value: Any) -> Any:
        is_float = isinstance(value, np.ndarray) and value.dtype.kind == "f"
        return value.astype(dtype) if is_float else value

    return read_only(mapped(inputs, converted))


def as_tuple(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def called(name: str, inputs: tuple[Any, ...], ops: Any = fast) -> Any:
    draws = {"rng": np.random.default_rng(1)} if name == "sample_triples" else {}
    return getattr(ops, name)(*inputs, **draws)


# Names, and the oracle


def test_what_is_not_compiled_is_the_method_itself() -> None:
    for name in method.__all__:
        same = getattr(fast, name) is getattr(method, name)
        assert same == (name not in fast.__all__), name
    assert set(fast.__all__) < set(method.__all__)
    assert set(method.CONTRACT) - set(fast.__all__) == {"adam_step"}
    with pytest.raises(AttributeError, match=r"'c2f_ref\.method' has no attribute 'no_such_name'"):
        _ = fast.no_such_name


@pytest.mark.parametrize("name", fast.__all__)
def test_parameters_are_those_of_the_method(name: str) -> None:
    ours, theirs = (inspect.signature(getattr(ops, name)).parameters for ops in (fast, method))
    assert list(ours) == list(theirs)


# Functions by name


def unsorted(matrix: sparse.csr_array) -> sparse.csr_array:
    """Every row stored from its last entry to its first, with indices of 64 bits."""
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    order = np.lexsort((-np.arange(rows.size), rows))
    changed = sparse.csr_array((matrix.data[order], matrix.indices[order], matrix.indptr.copy()))
    changed.resize(matrix.shape)
    changed.indices, changed.indptr = (
        x.astype(np.int64) for x in (changed.indices, changed.indptr)
    )
    return changed


def with_gaps(table: Any) -> Any:
    """A view of every second entry, which is stored backwards."""
    return np.repeat(table[::-1], 2, axis=-1)[::-1, ..., ::2] if table.ndim > 1 else table


def without_infinity(value: Any) -> Any:
    """Lists that end with -inf end with item -1, too."""
    return value if sparse.issparse(value) else np.nan_to_num(value, neginf=0)


def float_types(value: Any) -> list[Any]:
    return [array.dtype for array in arrays_of(value) if array.dtype.kind == "f"]


STORAGE: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "as it is": (np.copy, lambda matrix: matrix.copy()),
    "columns first": (lambda table: np.array(table, order="F"), unsorted),
    "with gaps": (with_gaps, unsorted),
}


@pytest.mark.parametrize("storage", STORAGE)
@pytest.mark.parametrize("name", SIMPLE)
def test_results_do_not_depend_on_storage_and_share_no_memory_with_inputs(
    name: str, storage: str
) -> None:
    """Writable inputs keep their bytes; read-only ones give the same bits."""
    dense, of_sparse = STORAGE[storage]
    expected = called(name, CALLS[name], method)
    inputs = mapped(
        CALLS[name], lambda value: (of_sparse if sparse.issparse(value) else dense)(value)
    )
    before = [array.tobytes() for array in arrays_of(inputs)]
    got = called(name, inputs)
    assert [array.tobytes() for array in arrays_of(inputs)] == before
    assert_close(*(mapped(value, without_infinity) for value in (got, expected)), 1e-11)
    assert float_types(got) == float_types(expected)
    for place, array in enumerate(arrays_of(got)):
        others = [*arrays_of(inputs), *arrays_of(got)[:place]]
        assert not any(np.shares_memory(array, other) for other in others)
    for array in arrays_of(inputs):
        array.flags.writeable = False
    assert same_bits(called(name, inputs), got)


@pytest.mark.parametrize("name", SIMPLE)
def test_float32_in_float32_out(name: str) -> None:
    got = called(name, of_type(CALLS[name], np.float32))
    assert set(float_types(got)) <= {np.dtype(np.float32)}


def test_scores_have_the_type_of_the_entities_whatever_that_of_the_bias() -> None:
    table = np.ones((3, 2), dtype=np.float32)
    wide = table.astype(np.float64)
    pairs, seen = (np.array([0]), np.array([1])), sparse.csr_array((1, 2))
    for entities in (table, wide):
        for bias in (np.ones(3), np.ones(3, dtype=np.float32)):
            scores = fast.score_pairs(entities, bias, 0.0, 1, *pairs)
            best = fast.rank_items(entities, bias, 1, pairs[0], seen, 2)[1]
            assert scores.dtype == best.dtype == entities.dtype
            assert scores.tolist() == [4.0]
            assert best.tolist() == [[3.0, 3.0]]


def drawn(name: str, rng: np.random.Generator, values: Any, n_layers: int) -> tuple[Any, ...]:
    """Inputs of a primitive, all sizes different; graphs are not symmetric."""
    h, c, f = (values(rng, n, 4) for n in (11, 5, 3))
    by_coarse, by_fine = drawn_matrix(rng, 11, 5, values), drawn_matrix(rng, 5, 3, values)
    graph = drawn_matrix(rng, 19, 19, values)
    if name.startswith("propagate_fine"):
        return graph, by_coarse, by_fine, 0.25, n_layers, h, c, f
    # 6 users and 7 items in 40 pairs, so that most are in several
    ends = rng.integers(0, 6, size=40), rng.integers(0, 7, size=40)
    pairs = values(rng, 13, 5), values(rng, 13), 0.375, 6, *ends
    return pairs if name == "score_pairs" else (*pairs, values(rng, 40))


def compiled(name: str, inputs: tuple[Any, ...], dtype: Any) -> tuple[Any, ...]:
    """Results of a formula on matrices and tables of this type."""
    given = tuple(
        Matrix(value, dtype) if sparse.issparse(value) else value
        for value in of_type(inputs, dtype)
    )
    return as_tuple(called(name, given, fast if name in fast.__all__ else method))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", EXACT)
@given(Seeds)
def test_on_eighths_it_is_the_method_bit_for_bit(name: str, dtype: Any, seed: int) -> None:
    """Pair scores, and formulas of the method with a `Matrix` for every sparse array: propagation
    composes and bridges, too, and so does its pull-back.

    Sums and products of 1/8, ..., 1/4 and w = 1/4.

    A fine layer makes the largest entry at most 28 < 2^5 times larger (rows of 19, 5 and 3 entries
    of 1/4; in the pull-back columns of 11) and adds 11 binary digits behind the point: 3 each for
    G, S_c and S_f, 2 for w. So one layer has at most 3 + 14 digits, which float32 holds, and three
    have 13 + 36, which float64 holds. L + 1 is 2 or 4 and divides without rounding.
    """
    n_layers = 1 if dtype == np.float32 else 3
    inputs = drawn(name, np.random.default_rng(seed), small_eighths, n_layers)
    got, expected = compiled(name, inputs, dtype), called(name, inputs, method)
    expected = [e if isinstance(e, float) else e.astype(dtype) for e in as_tuple(expected)]
    assert same_bits(got, tuple(expected))


# Plans and steps


def plans_of(ops: Any, model: Any, dtype: Any = np.float64) -> tuple[Any, Any]:
    adjacency, by_coarse = model.norm_adjacency.astype(dtype), model.coarse_assignment
    n_users, settings = model.n_users, model.settings
    return (
        ops.prepare_coarse(adjacency, by_coarse, n_users, settings),
        ops.prepare_fine(adjacency, by_coarse, model.fine_assignment, n_users, settings),
    )


def passes(ops: Any, plans: tuple[Any, Any], model: Any) -> list[tuple[Any, ...]]:
    """Both forward passes, losses and gradients, and the first pass again."""
    (coarse_plan, fine_plan), (coarse, fine) = plans, (model.coarse, model.fine)
    return [
        ops.embed_coarse(coarse_plan, coarse),
        ops.coarse_loss_and_grad(coarse_plan, coarse, model.bias, model.triples),
        ops.embed_fine(fine_plan, coarse, fine),
        ops.fine_loss_and_grad(fine_plan, coarse, fine, model.bias, model.triples),
        ops.embed_coarse(coarse_plan, coarse),
    ]


def parts_of(results: list[tuple[Any, ...]]) -> tuple[Any, ...]:
    """Copies of all parts as arrays."""
    return tuple(np.array(part) for result in results for part in result)


@given(models(signed=True))
def test_every_pass_and_gradient_is_that_of_the_method_in_the_callers_order(model: Any) -> None:
    """In float64, entities renumbered. Gradients are sums of terms that can cancel: embeddings
    times weights of at most 1.
    """
    plans = plans_of(fast, model)
    assume(not np.array_equal(plans[0].order, np.arange(model.n_entities)))
    assert (plans[0].order[: model.n_users] < model.n_users).all()
    got = parts_of(passes(fast, plans, model))
    expected = parts_of(passes(method, plans_of(method, model), model))
    largest = max(float(np.abs(part).max(initial=0)) for part in expected if part.ndim)
    assert_close(got, expected, 1e-12 * growth(model), largest)


@given(models())
def test_float32_stays_float32_near_the_method(model: Any) -> None:
    got = parts_of(passes(fast, plans_of(fast, model, np.float32), model))
    expected = parts_of(passes(method, plans_of(method, model), model))
    for one, other in zip(got, expected, strict=True):
        assert one.ndim == 0 or one.dtype == np.float32
        scale = max(float(np.abs(other).max(initial=0)), 1e-3)
        assert np.abs(one - other).max(initial=0) <= 500 * np.finfo(np.float32).eps * scale


def big_model() -> Any:
    """Enough entities and triples for many blocks and every thread."""
    return draw_model((103, 204, 13, 5, 8, 900), np.random.default_rng(5))


@pytest.mark.parametrize("dtype", FLOATS)
def test_the_bias_of_a_user_has_no_gradient_at_all(dtype: Any) -> None:
    """It cancels. Rounding would do for Adam, which scales any gradient to the same step."""
    model = big_model()
    for result in passes(fast, plans_of(fast, model, dtype), model)[1:4:2]:
        assert not result[-1][:103].any()
        assert result[-1][103:].all()


@settings(max_examples=10)
@given(models())
def test_calls_on_other_plans_and_tables_change_no_result(model: Any) -> None:
    """One plan with two tables, two plans at once, a third of another shape: the same bits as
    alone, and no memory in common with earlier results or inputs. A plan made last is the same.
    """
    plans, others = plans_of(fast, model), plans_of(fast, model)
    other = model._replace(coarse=-model.coarse, fine=2 * model.fine, bias=model.bias + 1)
    first = passes(fast, plans, model)
    kept, expected = parts_of(first), parts_of(passes(fast, others, other))
    wide = draw_model((5, 7, 4, 3, 6, 8), np.random.default_rng(0))
    wide_plans = plans_of(fast, wide, np.float32)
    second: list[tuple[Any, ...]] = []
    for place in range(5):  # the calls of both, and of a third, in turn
        passes(fast, wide_plans, wide)
        second.append(passes(fast, plans, other)[place])
        assert same_bits(parts_of(passes(fast, plans, model)), kept)
    assert same_bits(parts_of(second), expected)
    assert same_bits(parts_of(first), kept)
    arrays = [*arrays_of(tuple(first)), *arrays_of(tuple(second))]
    inputs = arrays_of(tuple(model))
    for place, array in enumerate(arrays):
        assert not any(np.shares_memory(array, one) for one in (*arrays[:place], *inputs))
    contents = [(plan[1].order, *plan[1].graph.arrays) for plan in (plans, plans_of(fast, model))]
    assert same_bits(*contents)


def test_two_threads_of_python_may_use_one_plan() -> None:
    """Each has scratch of its own; numba's threads take one caller at a time."""
    model, turn = big_model(), threading.Lock()
    plans = plans_of(fast, model)
    both = model, model._replace(coarse=-model.coarse, fine=2 * model.fine)
    expected = [parts_of(passes(fast, plans, tables)) for tables in both]

    def compute(tables: Any) -> list[Any]:
        results = []
        for _ in range(3):
            with turn:
                results.append(passes(fast, plans, tables))
        return results

    with ThreadPoolExecutor(2) as pool:
        for results, right in zip(pool.map(compute, both), expected, strict=True):
            assert all(same_bits(parts_of(result), right) for result in results)


def results_on_big_inputs(dtype: Any) -> list[Any]:
    """Of every compiled function, on inputs of several blocks."""
    model, rng = big_model(), np.random.default_rng(5)
    h, c, f = (singles(rng, n, 8) for n in (307, 13, 5))
    seen = sparse.csr_array(rng.random((100, 207)) < 0.3, dtype=np.float64)
    pairs = h, h[:, 0], 0.5, 100, rng.integers(0, 100, size=900), rng.integers(0, 207, size=900)
    inputs: dict[str, tuple[Any, ...]] = {
        "score_pairs": pairs,
        "score_pairs_vjp": (*pairs, singles(rng, 900)),
        "refresh_coarse": (h, c, 2),
        "refresh_fine": (h, c, f, 3),
        "rank_items": (h, h[:, 0], 100, rng.integers(0, 100, size=300), seen, 7),
        "sample_triples": (seen, 300, 4),
    }
    assert set(inputs) == set(SIMPLE)
    results = [called(name, of_type(given, dtype)) for name, given in inputs.items()]
    parts = draw_assignment(307, 13, 3, rng), draw_assignment(13, 5, 2, rng)
    formula = drawn_matrix(rng, 325, 325, singles), *parts, 0.2, 2, h, c, f
    results.append(compiled("propagate_fine", formula, dtype))
    return [*results, *passes(fast, plans_of(fast, model, dtype), model)]


def content_of(results: list[Any]) -> list[bytes]:
    return [
        array.tobytes()
        for result in results
        for array in arrays_of(
            tuple(np.asarray(p) if np.isscalar(p) else p for p in as_tuple(result))
        )
    ]


@pytest.mark.parametrize("dtype", FLOATS)
def test_one_thread_and_two_give_the_same_bytes(
    dtype: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rest, "ROWS_PER_BLOCK", 16)
    contents = []
    for n_threads in (2, 1):
        with threads(n_threads):
            contents.append(content_of(results_on_big_inputs(dtype)))
    assert contents[0] == contents[1]
    assert sum(map(len, contents[0])) > 100_000


PROGRAM = """
import sys
from c2f_ref import fast
from c2f_ref.conformance import check
from fast.test_parity import small_contents
sys.stdout.write("\\n".join(part.hex() for part in small_contents()))
report = check(fast)
raise SystemExit(None if report.passed else "\\n".join(report.lines()))
"""


def small_contents() -> list[bytes]:
    model = draw_model((5, 7, 4, 3, 6, 8), np.random.default_rng(3))
    results = [passes(fast, plans_of(fast, model, dtype), model) for dtype in FLOATS]
    return [part for result in results for part in content_of(result)]


def test_without_the_compiler_every_case_passes_and_the_bytes_are_the_same() -> None:
    """Kernels are valid Python, and the compiler contracts no product and sum into one rounding."""
    path = os.pathsep.join([str(TESTS.parent), str(TESTS)])
    environment = os.environ | {"NUMBA_DISABLE_JIT": "1", "PYTHONPATH": path}
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == [part.hex() for part in small_contents()]
    assert len(small_contents()) == 2 * (2 + 3 + 3 + 4 + 2)


# Rankings and refreshes


@pytest.mark.parametrize("dtype", FLOATS)
@given(Seeds)
def test_rankings_of_eighths_are_those_of_the_method_with_ties_and_masks(
    dtype: Any, seed: int
) -> None:
    """Every list has ties, some users have seen nearly everything; lists longer than the items."""
    rng = np.random.default_rng(seed)
    entities, bias = (eighths(rng, 31, 2) / 4).astype(dtype), (eighths(rng, 31) / 4).astype(dtype)
    seen = sparse.csr_array(rng.random((11, 20)) < rng.random((11, 1)))
    users = rng.integers(0, 11, size=7)
    for k in (0, 1, 5, 20, 26):
        got, expected = (
            ops.rank_items(entities, bias, 11, users, seen, k) for ops in (fast, method)
        )
        assert np.array_equal(got[0], expected[0])
        assert np.array_equal(got[1], expected[1])


def stored(matrix: sparse.csr_array) -> tuple[Any, ...]:
    assert matrix.has_canonical_format
    return matrix.shape, matrix.indptr.tolist(), matrix.indices.tolist(), matrix.data


@pytest.mark.parametrize("dtype", FLOATS)
@given(Seeds)
def test_refreshes_of_eighths_are_those_of_the_method_bit_for_bit_in_blocks(
    dtype: Any, seed: int
) -> None:
    """Unit rows are their own pseudo-inverse: H pinv(I) is columns of H, full of ties, and H^T H
    is exact. 37 rows in blocks of 8.
    """
    entities = eighths(np.random.default_rng(seed), 37, 6).astype(dtype) / 2
    tables = np.eye(5, 6, dtype=dtype), np.eye(4, 6, dtype=dtype)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rest, "ROWS_PER_BLOCK", 8)
        for k in (0, 1, 3, 4):
            for name, inputs in (
                ("refresh_coarse", (entities, tables[0], k)),
                ("refresh_fine", (entities, *tables, k)),
            ):
                got, expected = (stored(called(name, inputs, ops)) for ops in (fast, method))
                assert got[:3] == expected[:3]
                assert same_bits(got[3], expected[3])


@pytest.mark.parametrize("name", ["refresh_coarse", "refresh_fine"])
def test_no_table_of_entities_by_coarse_rows_is_made(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """6,000 x 200 numbers are 9.6 MB; blocks of 64 rows and 94 matches of 200 x 3 are far less."""
    rng = np.random.default_rng(0)
    h, c, f = (singles(rng, n, 5) for n in (6000, 200, 3))
    inputs = (h, c, 2) if name == "refresh_coarse" else (h, c, f, 2)
    monkeypatch.setattr(rest, "ROWS_PER_BLOCK", 64)
    called(name, inputs)
    tracemalloc.start()
    try:
        called(name, inputs)
        assert tracemalloc.get_traced_memory()[1] < 6000 * 200 * 8 / 4
    finally:
        tracemalloc.stop()


# What is refused


def test_plans_refuse_sizes_and_types_that_do_not_fit_and_values_that_are_not_finite() -> None:
    settings = Settings(n_coarse=2, n_fine=4, dim=3)
    square, tall, wide = (sparse.csr_array(np.ones(shape)) for shape in ((3, 3), (3, 2), (2, 4)))
    for prepare, inputs, message in (
        ("coarse", (wide, tall), r"must have shape"),
        ("coarse", (sparse.csr_array(np.ones((3, 4))), tall), r"norm_adjacency .*\(3, 4\)"),
        ("coarse", (square, wide), r"coarse_assignment must .*\(3, 2\), got \(2, 4\)"),
        ("fine", (square, tall, tall), r"fine_assignment must .*\(2, 4\), got \(3, 2\)"),
        ("coarse", (square.astype(np.int64), tall), "float32 or float64, got int64"),
    ):
        with pytest.raises(MethodError, match=message):
            getattr(fast, f"prepare_{prepare}")(*inputs, 1, settings)
    for place, name in enumerate(("norm_adjacency", "coarse_assignment", "fine_assignment")):
        parts = [square.copy(), tall.copy(), wide.copy()]
        parts[place].data[1] = np.nan
        with pytest.raises(MethodError, match=f"{name} must be finite"):
            fast.prepare_fine(*parts, 1, settings)


ONES, BIAS, ONE = np.ones((5, 4)), np.ones(5), np.array([1])
REFUSED: list[tuple[str, tuple[Any, ...], str]] = [
    ("score_pairs", (ONES, np.ones(4), 0.0, 2, ONE, ONE + 1), "bias must have shape"),
    ("score_pairs", (ONES, BIAS, 0.0, 2, ONE + 1, ONE + 1), "users must be in"),
    ("score_pairs", (ONES, BIAS, 0.0, 2, ONE - 2, ONE + 1), "users must be in"),
    ("score_pairs", (ONES, BIAS, 0.0, 2, ONE, ONE + 2), "items must be in"),
    ("score_pairs_vjp", (ONES, BIAS, 0.0, 2, ONE, ONE, np.ones(3)), "grad must have shape"),
    ("score_pairs_vjp", (ONES, BIAS, 0.0, 2, ONE, np.ones(2, int), np.ones(1)), "items must have"),
    ("refresh_coarse", (ONES, ONES, -1), r"k must be in \[0, 5\]"),
    ("refresh_coarse", (ONES[:0], ONES, 6), r"k must be in \[0, 5\]"),
    ("refresh_fine", (ONES, ONES, ONES, -1), r"k must be in \[0, 5\]"),
    ("refresh_fine", (ONES[:0], ONES, ONES, 6), r"k must be in \[0, 5\]"),
    ("refresh_coarse", (1e308 * ONES, 1e-3 * ONES, 2), "values must be finite"),
    ("refresh_fine", (ONES * np.inf, ONES, ONES, 2), "entities must be finite"),
    ("refresh_fine", (ONES, ONES, np.ones((2, 3)), 2), "table to invert must have shape"),
    ("rank_items", (ONES, BIAS, 3, ONE, sparse.csr_array((2, 3)), 1), "seen must have shape"),
    ("rank_items", (ONES * np.nan, BIAS, 2, ONE, sparse.csr_array((2, 3)), 1), "entities must be"),
    ("rank_items", (ONES, BIAS, 2, ONE, sparse.csr_array((2, 3)), -1), "k must be at least 0"),
]
"""What the cases of the oracle do not ask for."""


@pytest.mark.filterwarnings("ignore:overflow")
@pytest.mark.parametrize(("name", "inputs", "message"), REFUSED)
def test_what_would_be_read_beyond_an_array_or_has_no_order_is_refused(
    name: str, inputs: tuple[Any, ...], message: str
) -> None:
    with pytest.raises(MethodError, match=message):
        called(name, inputs)


def test_fine_tables_that_are_not_finite_are_refused() -> None:
    model = draw_model((5, 7, 4, 3, 6, 8), np.random.default_rng(0))
    with pytest.raises(MethodError, match="fine must be finite"):
        fast.embed_fine(plans_of(fast, model)[1], model.coarse, np.full((3, 6), np.inf))


def test_no_pairs_have_no_scores() -> None:
    none = np.array([], dtype=np.int64)
    assert fast.score_pairs(ONES, BIAS, 0.0, 2, none, none).shape == (0,)
    assert not fast.score_pairs_vjp(ONES, BIAS, 0.0, 2, none, none, np.zeros(0))[0].any()
