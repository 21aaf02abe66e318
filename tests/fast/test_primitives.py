"""The compiled small functions against the specification.

Two tiers, as in `test_parity`. Exact: on multiples of 1/8 nothing rounds, so results are the specification's bit for bit.
Bounded: |fast - spec| <= (gamma(k) + gamma64(k)) m. Every operation has a function below that derives its k, the roundings on the
longest path, and m, the formula with every term made positive. A sum of s products has s + 1 roundings on its longest path.
"""

from __future__ import annotations

import inspect
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from support.agreement import assert_close, same_bits
from support.calls import arrays_of, calls, mapped
from support.parity import (
    FLOATS,
    assert_within,
    drawn_matrix,
    eighths,
    gamma,
    longest_row,
    singles,
    small_eighths,
    threads,
)
from support.strategies import draw_assignment, models, read_only, rngs, tied_tables

from c2f_ref import fast, spec
from c2f_ref.fast import assignment, graph, kernels, primitives
from c2f_ref.spec import Settings, SpecError

PAGES = {
    primitives: (
        *("compose", "compose_vjp", "soft_threshold", "soft_threshold_vjp", "bridge", "bridge_vjp"),
        *("propagate_coarse", "propagate_coarse_vjp", "propagate_fine", "propagate_fine_vjp", "score_pairs", "score_pairs_vjp"),
    ),
    assignment: ("keep_top", "refresh_coarse", "refresh_fine"),
}
FAST = {name: getattr(page, name) for page, names in PAGES.items() for name in names}
CALLS = {name: arguments for name, (_, arguments) in calls().items() if name in FAST}

Seeds = st.integers(0, 2**32 - 1)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Inputs here are so small that on a busy machine the wait for a second thread is longer than all work."""
    with threads(1):
        yield


def results_of(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def of_type(arguments: tuple[Any, ...], dtype: Any) -> tuple[Any, ...]:
    """The same arguments, dense ones of this type and nothing to be written to; sparse ones stay float64."""
    return read_only(mapped(arguments, lambda v: v.astype(dtype) if isinstance(v, np.ndarray) and v.dtype.kind == "f" else v))


# What holds for all of them


@pytest.mark.parametrize("name", FAST)
def test_it_is_compiled_and_its_parameters_are_those_of_the_specification(name: str) -> None:
    assert FAST[name] is not getattr(spec, name)
    assert list(inspect.signature(FAST[name]).parameters) == list(inspect.signature(getattr(spec, name)).parameters)


def unsorted(matrix: sparse.csr_array) -> sparse.csr_array:
    """Every row stored from its last entry to its first."""
    ends = zip(matrix.indptr[:-1], matrix.indptr[1:], strict=True)
    order = np.concatenate([np.arange(start, stop)[::-1] for start, stop in ends]).astype(np.int64)
    return sparse.csr_array((matrix.data[order], matrix.indices[order], matrix.indptr.copy()), shape=matrix.shape)


def wide(value: Any) -> Any:
    """Sparse arrays with indices of int64."""
    if not sparse.issparse(value):
        return value.copy()
    value = value.copy()
    value.indices, value.indptr = value.indices.astype(np.int64), value.indptr.astype(np.int64)
    return value


STORAGE: dict[str, Callable[[Any], Any]] = {
    "as it is": lambda value: value.copy(),
    "columns first": lambda value: value.copy() if sparse.issparse(value) else np.asfortranarray(value),
    "with gaps": lambda value: (
        value.copy()
        if sparse.issparse(value)
        else np.repeat(value[::-1], 2, axis=-1)[::-1, ..., ::2]
        if value.ndim > 1
        else np.repeat(value, 2)[::2]
    ),
    "rows backwards": lambda value: unsorted(value) if sparse.issparse(value) else value.copy(),
    "wide indices": wide,
}


@pytest.mark.parametrize("storage", STORAGE)
@pytest.mark.parametrize("name", FAST)
def test_results_are_those_of_the_specification_however_the_inputs_are_stored(name: str, storage: str) -> None:
    """Read-only, and writeable, where the bytes stay, and dense results own memory that none else has a view of."""
    expected = getattr(spec, name)(*CALLS[name])
    loose = mapped(CALLS[name], STORAGE[storage])
    before = [array.tobytes() for array in arrays_of(loose)]
    got = FAST[name](*loose)
    assert [array.tobytes() for array in arrays_of(loose)] == before
    assert_close(got, expected, 1e-11)
    assert float_types(got) == float_types(expected)  # indices may be of either integer type
    for array in arrays_of(got):
        assert not any(np.shares_memory(array, other) for other in arrays_of(loose))
    assert all(part.flags.owndata for part in results_of(got) if isinstance(part, np.ndarray))
    for array in arrays_of(loose):
        array.flags.writeable = False
    assert same_bits(FAST[name](*loose), got)


def float_types(value: Any) -> list[Any]:
    return [array.dtype for array in arrays_of(value) if array.dtype.kind == "f"]


@pytest.mark.parametrize("name", FAST)
def test_float32_in_float32_out(name: str) -> None:
    got = FAST[name](*of_type(CALLS[name], np.float32))
    assert set(float_types(got)) == {np.dtype(np.float32)}


def test_one_input_of_float64_makes_the_result_float64() -> None:
    table = np.ones((3, 2), dtype=np.float32)
    eye = sparse.csr_array(np.eye(3))
    assert primitives.bridge(eye, 0.2, table, table.astype(np.float64)).dtype == np.float64
    assert primitives.propagate_coarse(eye, 1, table[:2], table[2:].astype(np.float64))[0].dtype == np.float64
    assert primitives.compose(eye, np.ones((3, 2), dtype=np.int64)).dtype == np.float64
    assert primitives.score_pairs(table, np.ones(3), 0.0, 1, np.array([0]), np.array([1])).dtype == np.float64
    assert primitives.bridge(eye, np.float64(0.2), table, table).dtype == np.float32  # a number is no dense input


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", FAST)
def test_one_thread_and_two_give_the_same_bytes(name: str, dtype: Any) -> None:
    """On inputs of several blocks."""
    rng = np.random.default_rng(5)
    arguments = of_type(large_arguments(name, rng), dtype)
    made = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(assignment, "ROWS_PER_BLOCK", 16)
        for n_threads in (2, 1):
            with threads(n_threads):
                made.append(FAST[name](*arguments))
    assert [a.tobytes() for a in arrays_of(made[0])] == [a.tobytes() for a in arrays_of(made[1])]
    assert sum(array.size for array in arrays_of(made[0])) > 20


def large_arguments(name: str, rng: np.random.Generator) -> tuple[Any, ...]:
    n_entities, n_coarse, n_fine, dim = 307, 13, 5, 8
    parts = draw_assignment(n_entities, n_coarse, 3, rng), draw_assignment(n_coarse, n_fine, 2, rng)
    h, c, f = (singles(rng, n, dim) for n in (n_entities, n_coarse, n_fine))
    pairs = 100, rng.integers(0, 100, size=900), rng.integers(0, 207, size=900)
    coarse_graph = drawn_matrix(rng, n_entities + n_coarse, n_entities + n_coarse, singles)
    fine_graph = drawn_matrix(rng, n_entities + n_coarse + n_fine, n_entities + n_coarse + n_fine, singles)
    arguments: dict[str, tuple[Any, ...]] = {
        "compose": (parts[0], c),
        "compose_vjp": (parts[0], h),
        "soft_threshold": (h, 0.5),
        "soft_threshold_vjp": (h, 0.5, singles(rng, n_entities, dim)),
        "bridge": (parts[1], 0.2, c, f),
        "bridge_vjp": (parts[1], 0.2, c),
        "propagate_coarse": (coarse_graph, 2, h, c),
        "propagate_coarse_vjp": (coarse_graph, 2, h, c),
        "propagate_fine": (fine_graph, *parts, 0.2, 2, h, c, f),
        "propagate_fine_vjp": (fine_graph, *parts, 0.2, 2, h, c, f),
        "score_pairs": (h, h[:, 0], 0.5, *pairs),
        "score_pairs_vjp": (h, h[:, 0], 0.5, *pairs, singles(rng, 900)),
        "keep_top": (h, 3),
        "refresh_coarse": (h, c, 2),
        "refresh_fine": (h, c, f, 3),
    }
    return arguments[name]


# Inputs that are drawn, and the bound of every operation


def drawn_nodes(rng: np.random.Generator, values: Any) -> tuple[Any, ...]:
    """(S_c (11, 5), S_f (5, 3), entities, coarse and fine rows of 4 columns)."""
    return (
        drawn_matrix(rng, 11, 5, values),
        drawn_matrix(rng, 5, 3, values),
        *(values(rng, n, 4) for n in (11, 5, 3)),
    )


def drawn_pairs(rng: np.random.Generator, values: Any) -> tuple[Any, ...]:
    """6 users and 7 items in 40 pairs, so that most stand in several: (entities (13, 5), bias, offset, n_users, users, items)."""
    ends = rng.integers(0, 6, size=40), rng.integers(0, 7, size=40)
    return values(rng, 13, 5), values(rng, 13), 0.375, 6, *ends


def drawn(name: str, rng: np.random.Generator, values: Any, weight: float, n_layers: int) -> tuple[Any, ...]:
    """Arguments of an operation, all sizes different; graphs are not symmetric."""
    by_coarse, by_fine, h, c, f = drawn_nodes(rng, values)
    if name in ("compose", "compose_vjp"):
        return drawn_matrix(rng, 23, 17, values), values(rng, 17 if name == "compose" else 23, 5)
    if name == "soft_threshold":
        return values(rng, 7, 6), 0.125
    if name == "soft_threshold_vjp":
        return values(rng, 7, 6), 0.125, values(rng, 7, 6)
    if name == "bridge":
        return by_fine, weight, c, f
    if name == "bridge_vjp":
        return by_fine, weight, c
    if name in ("propagate_coarse", "propagate_coarse_vjp"):
        return drawn_matrix(rng, 16, 16, values), n_layers, h, c
    if name in ("propagate_fine", "propagate_fine_vjp"):
        return drawn_matrix(rng, 19, 19, values), by_coarse, by_fine, weight, n_layers, h, c, f
    pairs = drawn_pairs(rng, values)
    return pairs if name == "score_pairs" else (*pairs, values(rng, 40))


def bound_of_compose(assignment: Any, table: Any) -> Any:
    """A row of s entries: s + 1. m = |S| |E|."""
    return longest_row(assignment) + 1, [abs(assignment) @ abs(table)]


def bound_of_compose_vjp(assignment: Any, grad: Any) -> Any:
    """As `compose` with the columns of S. m = |S|^T |G|."""
    return bound_of_compose(assignment.T, grad)


def bound_of_soft_threshold(table: Any, threshold: float) -> Any:
    """The threshold in the type of the table, and a difference: 2. m = |x| + tau."""
    return 2, [abs(table) + threshold]


def bound_of_soft_threshold_vjp(table: Any, threshold: float, grad: Any) -> Any:
    """Nothing is calculated, and the threshold is a power of 2: 0."""
    return 0, [abs(grad)]


def bound_of_bridge(fine_assignment: Any, weight: float, coarse: Any, fine: Any) -> Any:
    """S_f f has s + 1; w in the type of the table, the product and the sum make s + 4, more than the 4 of the other term.

    m = (1 - w) |c| + w |S_f| |f|
    """
    return longest_row(fine_assignment) + 4, [(1 - weight) * abs(coarse) + weight * (abs(fine_assignment) @ abs(fine))]


def bound_of_bridge_vjp(fine_assignment: Any, weight: float, grad: Any) -> Any:
    """S_f^T g has s + 1, w in the type of the table and the product make s + 3; (1 - w) g has 3."""
    back = fine_assignment.T
    return longest_row(back) + 3, [(1 - weight) * abs(grad), weight * (abs(back) @ abs(grad))]


def bound_of_propagate_coarse(graph: Any, n_layers: int, *nodes: Any) -> Any:
    """A layer has s + 1; L of them, then L sums and a division: L (s + 2) + 1. m is the mean of |G|^l |X|."""
    terms = layers_of_positives(graph, n_layers, nodes, lambda h, c: (h, c))
    return n_layers * (longest_row(graph) + 2) + 1, terms


def bound_of_propagate_coarse_vjp(graph: Any, n_layers: int, *grads: Any) -> Any:
    """A layer has s + 1 and a sum, with rows of G^T; then a division: L (s + 2) + 1. m as for `propagate_coarse`, with G^T."""
    return bound_of_propagate_coarse(graph.T, n_layers, *grads)


def bound_of_propagate_fine(graph: Any, by_coarse: Any, by_fine: Any, weight: float, n_layers: int, *nodes: Any) -> Any:
    """A layer: G X, s_g + 1; S_f f, s_f + 1; c minus that, 1; 1 - w, its type and the product, 3; the sum, 1; c' - c, 1; S_c onto
    h, s_c + 1; written as two lines on h, one more. L layers, L sums and a division: L (s_g + s_f + s_c + 10) + 1.

    m: the four lines behind the product with |S_c|, |S_f| and every minus made a plus.
    """

    def after(h: Any, c: Any, f: Any) -> tuple[Any, ...]:
        h = h + abs(by_coarse) @ c
        c = (1 - weight) * (c + abs(by_fine) @ f) + weight * (abs(by_fine) @ f)
        return h + abs(by_coarse) @ c, c, f

    rows = longest_row(graph) + longest_row(by_fine) + longest_row(by_coarse)
    return n_layers * (rows + 10) + 1, layers_of_positives(graph, n_layers, nodes, after)


def bound_of_propagate_fine_vjp(graph: Any, by_coarse: Any, by_fine: Any, weight: float, n_layers: int, *grads: Any) -> Any:
    """A layer, its lines from the last: S_c^T h, t_c + 1; onto c, 1; 1 - w, its type and the product, 3; S_f^T, t_f + 1, with one
    difference before it and up to two sums behind; G^T, t_g + 1; the sum, 1. Then a division: L (t_g + t_f + t_c + 11) + 1.

    m: those lines with |S_c|, |S_f|, |G| and every minus made a plus; the mean is taken by Horner's rule.
    """
    size = [len(grad) for grad in grads]
    back = [abs(matrix).T for matrix in (graph, by_coarse, by_fine)]
    grad = np.concatenate([abs(part) for part in grads])
    total = grad
    for _ in range(n_layers):
        h, c, f = np.split(total, np.cumsum(size)[:-1])
        c = c + back[1] @ h
        f = f + back[2] @ (weight * c) + back[2] @ ((1 - weight) * c)
        c = (1 - weight) * c + back[1] @ h
        total = grad + back[0] @ np.concatenate([h, c, f])
    columns = sum(longest_row(matrix) for matrix in back)
    return n_layers * (columns + 11) + 1, np.split(total / (n_layers + 1), np.cumsum(size)[:-1])


def layers_of_positives(graph: Any, n_layers: int, tables: Sequence[Any], after: Callable[..., tuple[Any, ...]]) -> list[Any]:
    """Mean of layers 0 to L of |tables| under |G|, each product followed by `after`."""
    cuts = np.cumsum([len(table) for table in tables])[:-1]
    nodes = total = np.concatenate([abs(table) for table in tables])
    for _ in range(n_layers):
        nodes = np.concatenate(after(*np.split(abs(graph) @ nodes, cuts)))
        total = total + nodes
    return np.split(total / (n_layers + 1), cuts)


def bound_of_score_pairs(entities: Any, bias: Any, offset: float, n_users: int, users: Any, items: Any) -> Any:
    """D products and three more terms: D + 4. m = |H_u| . |H_i| + |b_u| + |b_i| + |b_0|."""
    size, rows = abs(entities), n_users + items
    return entities.shape[1] + 4, [(size[users] * size[rows]).sum(axis=1) + abs(bias)[users] + abs(bias)[rows] + abs(offset)]


def bound_of_score_pairs_vjp(entities: Any, bias: Any, offset: float, n_users: int, users: Any, items: Any, grad: Any) -> Any:
    """An entity in p pairs sums p products, p + 1, and the offset sums them all: P + 1 is more than either.

    m: the same sums of |g| |H| and of |g|.
    """
    terms, terms_bias, rows = np.zeros(entities.shape), np.zeros(len(entities)), n_users + items
    for ends, others in ((users, rows), (rows, users)):
        np.add.at(terms, ends, abs(grad)[:, None] * abs(entities)[others])
        np.add.at(terms_bias, ends, abs(grad))
    return grad.size + 1, [terms, terms_bias, abs(grad).sum()]


BOUNDS = {name: globals()[f"bound_of_{name}"] for name in PAGES[primitives]}


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", PAGES[primitives])
@given(Seeds)
def test_on_eighths_it_is_the_specification_bit_for_bit(name: str, dtype: Any, seed: int) -> None:
    """Sums and products of 1/8, ..., 1/4 and w = 1/4.

    A fine layer makes the largest entry at most 28 < 2^5 times larger (rows of 19, 5 and 3 entries of 1/4; in the pull-back columns
    of 11) and adds 11 binary digits behind the point: 3 each for G, S_c and S_f, 2 for w. So one layer has at most 3 + 14 digits,
    which float32 holds, and three have 13 + 36, which float64 holds. L + 1 is 2 or 4 and divides without rounding.
    """
    n_layers = 1 if dtype == np.float32 else 3
    arguments = drawn(name, np.random.default_rng(seed), small_eighths, 0.25, n_layers)
    expected = results_of(getattr(spec, name)(*arguments))
    got = results_of(FAST[name](*of_type(arguments, dtype)))
    assert same_bits(got, tuple(e if isinstance(e, float) else e.astype(dtype) for e in expected))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", PAGES[primitives])
@given(Seeds, st.integers(0, 3), st.sampled_from([0.0, 0.2, 0.7, 1.0]))
def test_it_stays_within_its_bound(name: str, dtype: Any, seed: int, n_layers: int, weight: float) -> None:
    arguments = drawn(name, np.random.default_rng(seed), singles, weight, n_layers)
    n_roundings, terms = BOUNDS[name](*arguments)
    got = results_of(FAST[name](*of_type(arguments, dtype)))
    for one, other, size in zip(got, results_of(getattr(spec, name)(*arguments)), terms, strict=True):
        assert_within(one, other, n_roundings, size)


def inner(left: Any, right: Any) -> Fraction:
    """Sum of products over all entries of two results, exactly."""
    pairs = zip(results_of(left), results_of(right), strict=True)
    return sum(
        (Fraction(float(a)) * Fraction(float(b)) for x, y in pairs for a, b in zip(np.ravel(x), np.ravel(y), strict=True)),
        Fraction(0),
    )


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", ["compose", "bridge", "propagate_coarse", "propagate_fine"])
@given(Seeds)
def test_the_pull_back_is_the_adjoint(name: str, dtype: Any, seed: int) -> None:
    """<f(x), y> = <x, f_vjp(y)>, exactly, on the numbers of the exact tier."""
    rng = np.random.default_rng(seed)
    n_dense = {"compose": 1, "bridge": 2, "propagate_coarse": 2, "propagate_fine": 3}[name]
    arguments = of_type(drawn(name, rng, small_eighths, 0.25, 1 if dtype == np.float32 else 3), dtype)
    structure, x = arguments[:-n_dense], arguments[-n_dense:]
    made = results_of(FAST[name](*arguments))
    y = tuple(small_eighths(rng, *part.shape).astype(dtype) for part in made)
    pulled = results_of(FAST[f"{name}_vjp"](*structure, *y))
    assert [part.shape for part in pulled] == [part.shape for part in x]
    assert inner(made, y) == inner(x, pulled)


@pytest.mark.parametrize("dtype", FLOATS)
@given(Seeds)
def test_the_pull_back_of_pair_scores_is_the_adjoint_of_their_derivative(dtype: Any, seed: int) -> None:
    """Scores are quadratic in (H, b, b_0), so J v = (s(x + v) - s(x - v)) / 2 without remainder. All products are of eighths."""
    rng = np.random.default_rng(seed)
    *x, n_users, users, items = drawn_pairs(rng, small_eighths)
    v = small_eighths(rng, 13, 5), small_eighths(rng, 13), 0.25
    ends = [
        primitives.score_pairs(
            *(
                (value + sign * step).astype(dtype) if np.ndim(step) else value + sign * step
                for value, step in zip(x, v, strict=True)
            ),
            n_users,
            users,
            items,
        )
        for sign in (1, -1)
    ]
    y = small_eighths(rng, 40).astype(dtype)
    pulled = primitives.score_pairs_vjp(*of_type(tuple(x), dtype), n_users, users, items, y)
    assert inner((ends[0] - ends[1]) / 2, y) == inner(v, pulled)


# Edges of the primitives


@pytest.mark.parametrize("dtype", FLOATS)
def test_a_threshold_by_hand(dtype: Any) -> None:
    """On the threshold, beside it, on either side of 0; without a threshold, with an endless one; a NaN is no 0."""
    table = np.array([[-2.0, -0.5, -0.25, 0.0], [0.5, 0.75, 4.0, np.nan]], dtype=dtype)
    got = primitives.soft_threshold(table, 0.5)
    assert np.array_equal(got, np.array([[-1.5, 0, 0, 0], [0, 0.25, 3.5, np.nan]], dtype=dtype), equal_nan=True)
    assert np.array_equal(primitives.soft_threshold(table, 0.0), table, equal_nan=True)
    assert not primitives.soft_threshold(table[:1], np.inf).any()
    grad = np.arange(1, 9, dtype=dtype).reshape(2, 4)
    assert primitives.soft_threshold_vjp(table, 0.5, grad).tolist() == [[1, 0, 0, 0], [0, 6, 7, 0]]


@pytest.mark.parametrize("dtype", FLOATS)
def test_nothing_gives_nothing(dtype: Any) -> None:
    """No pair, no fine row, no layer, no entity, no stored entry: what the specification gives."""
    rng = np.random.default_rng(0)
    h, c, none = eighths(rng, 6, 3), eighths(rng, 4, 3), np.zeros((0, 3))
    no_ints, no_fine, empty = np.zeros(0, dtype=np.int64), sparse.csr_array((4, 0)), sparse.csr_array((6, 4))
    square, unused = drawn_matrix(rng, 10, 10, eighths), drawn_matrix(rng, 6, 4, eighths)
    cases: list[tuple[str, tuple[Any, ...]]] = [
        ("score_pairs", (h, h[:, 0], 0.5, 2, no_ints, no_ints)),
        ("score_pairs_vjp", (h, h[:, 0], 0.5, 2, no_ints, no_ints, np.zeros(0))),
        ("bridge", (no_fine, 0.25, c, none)),
        ("bridge_vjp", (no_fine, 0.25, c)),
        ("propagate_fine", (square, unused, no_fine, 0.25, 1, h, c, none)),
        ("propagate_fine_vjp", (square, unused, no_fine, 0.25, 1, h, c, none)),
        ("propagate_fine", (square, unused, no_fine, 0.25, 0, h, c, none)),
        ("propagate_fine_vjp", (square, unused, no_fine, 0.25, 0, h, c, none)),
        ("propagate_coarse", (square, 0, h, c)),
        ("propagate_coarse_vjp", (square, 0, h, c)),
        ("propagate_coarse", (sparse.csr_array((4, 4)), 1, none, c)),
        ("compose", (empty, c)),
        ("compose", (sparse.csr_array((0, 4)), c)),
        ("compose_vjp", (empty, h)),
        ("soft_threshold", (none, 0.5)),
        ("soft_threshold_vjp", (none, 0.5, none)),
    ]
    for name, arguments in cases:
        expected = results_of(getattr(spec, name)(*arguments))
        got = results_of(FAST[name](*of_type(arguments, dtype)))
        assert same_bits(got, tuple(e if isinstance(e, float) else e.astype(dtype) for e in expected)), name


SQUARE, TALL, SMALL = (sparse.csr_array(np.ones(shape)) for shape in ((5, 5), (5, 2), (2, 2)))


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("compose", (TALL, np.ones((3, 4)))),
        ("compose_vjp", (TALL, np.ones((2, 4)))),
        ("soft_threshold_vjp", (np.ones((3, 4)), 1.0, np.ones((3, 1)))),
        ("bridge", (TALL, 0.2, np.ones((5, 4)), np.ones((5, 4)))),
        ("bridge_vjp", (TALL, 0.2, np.ones((2, 4)))),
        ("propagate_coarse", (SQUARE, 1, np.ones((3, 4)), np.ones((1, 4)))),
        ("propagate_coarse_vjp", (TALL, 1, np.ones((3, 4)), np.ones((2, 4)))),
        ("propagate_fine", (SQUARE, TALL, TALL, 0.2, 1, np.ones((2, 4)), np.ones((2, 4)), np.ones((1, 4)))),
        ("propagate_fine", (SQUARE, SMALL, TALL, 0.2, 1, np.ones((2, 4)), np.ones((2, 4)), np.ones((1, 4)))),
        ("propagate_fine_vjp", (SQUARE, SQUARE, TALL, 0.2, 1, np.ones((2, 4)), np.ones((2, 4)), np.ones((1, 4)))),
        ("score_pairs", (np.ones((5, 4)), np.ones(4), 0.0, 2, np.array([1]), np.array([2]))),
        ("score_pairs", (np.ones((5, 4)), np.ones(5), 0.0, 2, np.array([2]), np.array([2]))),
        ("score_pairs", (np.ones((5, 4)), np.ones(5), 0.0, 2, np.array([-1]), np.array([2]))),
        ("score_pairs", (np.ones((5, 4)), np.ones(5), 0.0, 2, np.array([1]), np.array([3]))),
        ("score_pairs_vjp", (np.ones((5, 4)), np.ones(5), 0.0, 2, np.array([1, 0]), np.array([2, 2]), np.ones(3))),
        ("score_pairs_vjp", (np.ones((5, 4)), np.ones(5), 0.0, 2, np.array([1, 0]), np.array([2]), np.ones(2))),
    ],
)
def test_what_would_be_read_beyond_an_array_is_refused(name: str, arguments: tuple[Any, ...]) -> None:
    with pytest.raises(SpecError, match="must"):
        FAST[name](*arguments)


def test_narrow_index_types_do_not_wrap_around() -> None:
    """User 200 and item 60 of 250 users and 61 items are entities 200 and 310."""
    entities, bias = np.arange(622.0).reshape(311, 2), np.zeros(311)
    ends = np.array([200], dtype=np.uint8), np.array([60], dtype=np.int8)
    assert primitives.score_pairs(entities, bias, 0.0, 250, *ends).tolist() == [400 * 620 + 401 * 621]
    grad_entities, grad_bias, _ = primitives.score_pairs_vjp(entities, bias, 0.0, 250, *ends, np.ones(1))
    assert np.flatnonzero(grad_bias).tolist() == np.flatnonzero(grad_entities[:, 0]).tolist() == [200, 310]


# Graphs


def expanded(norm_adjacency: Any, coarse_assignment: Any, fine_assignment: Any = None) -> Any:
    """The graph of the fine stage, or without an S_f that of the coarse one."""
    if fine_assignment is None:
        fine_assignment = sparse.csr_array((coarse_assignment.shape[1], 0))
    return graph.expand(norm_adjacency, coarse_assignment, fine_assignment)


EXPANSIONS = (2, spec.expand_coarse), (3, spec.expand_fine)
"""How many parts a graph is made of, and who makes it of them."""


def stored(matrix: sparse.csr_array) -> tuple[Any, ...]:
    """Pattern and numbers as they are stored."""
    assert isinstance(matrix, sparse.csr_array)
    assert matrix.has_canonical_format
    return matrix.shape, matrix.indptr.tolist(), matrix.indices.tolist(), matrix.data


def drawn_graph(rng: np.random.Generator, values: Any) -> tuple[Any, ...]:
    """(A (13, 13), not symmetric; S_c (13, 4) and S_f (4, 3) of any number of entries a row)."""
    return drawn_matrix(rng, 13, 13, values), drawn_matrix(rng, 13, 4, values), drawn_matrix(rng, 4, 3, values)


@pytest.mark.parametrize("dtype", FLOATS)
@given(Seeds)
def test_graphs_of_eighths_are_those_of_the_specification_bit_for_bit(dtype: Any, seed: int) -> None:
    """Degrees of eighths are exact, of either sign or 0 (D11); product, root and quotient are the same three operations."""
    rng = np.random.default_rng(seed)
    adjacency, *parts = drawn_graph(rng, eighths)
    adjacency = adjacency.astype(dtype)
    # A third of the entries become stored zeros.
    for matrix in (adjacency, *parts):
        matrix.data[rng.random(matrix.nnz) < 1 / 3] = 0
    for n_parts, formula in EXPANSIONS:
        arguments = (adjacency, *parts)[:n_parts]
        got, expected = stored(expanded(*read_only(arguments))), stored(formula(*arguments))
        assert got[:3] == expected[:3]
        assert same_bits(got[3], expected[3])


@pytest.mark.parametrize("dtype", FLOATS)
@given(Seeds)
def test_graphs_stay_within_their_bound(dtype: Any, seed: int) -> None:
    """Entries are positive, so a degree of s terms is right to gamma(s); a product of two, its root and a quotient: 2 s + 3.

    All of it in float64, also for an adjacency of float32. With entries of both signs a degree may cancel to any relative error;
    these graphs have the exact test above.
    """
    rng = np.random.default_rng(seed)
    adjacency, *parts = drawn_graph(rng, lambda rng, *shape: rng.uniform(0.01, 1, shape))
    for n_parts, formula in EXPANSIONS:
        arguments = (adjacency.astype(dtype), *parts)[:n_parts]
        got, expected = expanded(*arguments), formula(*arguments)
        assert got.dtype == np.float64
        assert stored(got)[:3] == stored(expected)[:3]
        assert_within(got.data, expected.data, 2 * longest_row(expected) + 3, expected.data)


@given(models(signed=True))
def test_both_directions_of_an_edge_have_the_same_bits(model: Any) -> None:
    parts = model.coarse_assignment, model.fine_assignment
    for made in (expanded(model.norm_adjacency, parts[0]), expanded(model.norm_adjacency, *parts)):
        assert made.nnz > 0
        assert np.array_equal(made.toarray(), made.toarray().T)


def test_degrees_that_are_not_positive_by_hand() -> None:
    """D11, S_c = [1; -2; 0; 5] and A joins 0 with 1 and 2: degrees 3, -1, 1, 5 and 1 - 2 + 5 = 4.

    Row and column 1 vanish but stay stored, as does the stored 0 of node 2; the rest is A_ij / sqrt(d_i d_j).
    """
    adjacency = sparse.csr_array([[0.0, 1, 1, 0], [1, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]])
    part = sparse.csr_array((np.array([1.0, -2, 0, 5]), np.zeros(4, dtype=np.int32), np.arange(5)), shape=(4, 1))
    got = expanded(*read_only((adjacency, part)))
    a, b, c = 1 / np.sqrt(3 * 1), 1 / np.sqrt(3 * 4), 5 / np.sqrt(5 * 4)
    expected = [[0, 0, a, 0, b], [0, 0, 0, 0, 0], [a, 0, 0, 0, 0], [0, 0, 0, 0, c], [b, 0, 0, c, 0]]
    assert np.array_equal(got.toarray(), expected)
    assert got.nnz == 4 + 4 + 4


def test_degrees_whose_product_underflows_count_as_none() -> None:
    """1e-200 times 1e-200 is 0 in float64; 1e-200 alone is a degree."""
    adjacency = sparse.csr_array([[0.0, 1e-200, 0], [1e-200, 0, 0], [0, 0, 2.0]])
    part = sparse.csr_array(np.array([[0.0], [0], [1e-200]]))
    got = expanded(adjacency, part)
    assert same_bits(got, spec.expand_coarse(adjacency, part))
    assert got.toarray()[:2, :2].tolist() == [[0, 0], [0, 0]]
    assert got.toarray()[2, 2] == 1.0


def test_a_place_stored_twice_is_summed_a_zero_stays_and_no_fine_row_adds_nothing() -> None:
    twice = sparse.csr_array((np.array([1.0, 0.5, 2.0, 0.0]), np.array([1, 0, 1, 0]), np.array([0, 3, 4])), shape=(2, 2))
    part, fine = sparse.csr_array(np.ones((2, 3))), sparse.csr_array((3, 0))
    for n_parts, formula in EXPANSIONS:
        got, expected = (stored(made(*read_only((twice, part, fine)[:n_parts]))) for made in (expanded, formula))
        assert got[:3] == expected[:3]
        assert same_bits(got[3], expected[3])


def test_plans_refuse_sizes_that_do_not_fit_and_values_that_are_not_finite() -> None:
    settings = Settings(n_coarse=2, n_fine=4, dim=3)
    square, tall, wide = (sparse.csr_array(np.ones(shape)) for shape in ((3, 3), (3, 2), (2, 4)))
    with pytest.raises(SpecError, match=r"norm_adjacency must have shape \(3, 3\), got \(3, 4\)"):
        fast.prepare_coarse(sparse.csr_array(np.ones((3, 4))), tall, 1, settings)
    with pytest.raises(SpecError, match=r"coarse_assignment must have shape \(3, 2\), got \(2, 4\)"):
        fast.prepare_coarse(square, wide, 1, settings)
    with pytest.raises(SpecError, match=r"fine_assignment must have shape \(2, 4\), got \(3, 2\)"):
        fast.prepare_fine(square, tall, tall, 1, settings)
    for place, name in enumerate(("norm_adjacency", "coarse_assignment", "fine_assignment")):
        arguments = [square.copy(), tall.copy(), wide.copy()]
        arguments[place].data[1] = np.nan
        with pytest.raises(SpecError, match=f"{name} must be finite"):
            fast.prepare_fine(*arguments, 1, settings)
        if place < 2:
            with pytest.raises(SpecError, match=f"{name} must be finite"):
                fast.prepare_coarse(*arguments[:2], 1, settings)


# Assignments


@pytest.mark.parametrize("dtype", FLOATS)
@given(tied_tables())
def test_the_largest_of_rows_are_those_of_the_specification_with_ties(dtype: Any, table: Any) -> None:
    """Without the least value of all, which is no candidate; there may be fewer columns than are asked for."""
    table = table.astype(dtype)
    for k in range(table.shape[1] + 2):
        assert same_bits(largest_of_rows(table, k), spec.rank_scores(table, k))


def test_the_largest_of_rows_by_hand() -> None:
    """A tie goes to the left, 0 and -0 are one value, and -inf is no candidate."""
    table = np.array([[1.0, 3, 3, 2], [-np.inf, 0.0, -0.0, -np.inf], [-np.inf] * 4])
    columns, best = largest_of_rows(table, 3)
    assert columns.tolist() == [[1, 2, 3], [1, 2, -1], [-1, -1, -1]]
    assert best.tolist() == [[3, 3, 2], [0, 0, -np.inf], [-np.inf] * 3]


def largest_of_rows(table: Any, k: int) -> tuple[Any, Any]:
    columns, best = np.empty((len(table), k), dtype=np.int64), np.empty((len(table), k), dtype=table.dtype)
    kernels.top_of_rows(table, columns, best)
    return columns, best


@pytest.mark.parametrize("dtype", FLOATS)
@given(Seeds)
def test_what_is_kept_is_the_specification_bit_for_bit_in_blocks(dtype: Any, seed: int) -> None:
    """Eighths are few values, so that rows are full of ties, and negative ones and zeros are kept."""
    table = read_only(eighths(np.random.default_rng(seed), 21, 7).astype(dtype) / 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(assignment, "ROWS_PER_BLOCK", 8)
        for k in (0, 1, 3, 7):
            got, expected = stored(assignment.keep_top(table, k)), stored(spec.keep_top(table, k))
            assert got[:3] == expected[:3]
            assert same_bits(got[3], expected[3])


@pytest.mark.parametrize("dtype", FLOATS)
@given(Seeds)
def test_refreshes_of_eighths_are_the_specification_bit_for_bit_in_blocks(dtype: Any, seed: int) -> None:
    """Unit rows are their own pseudo-inverse: H pinv(I) is columns of H, full of ties, and H^T H is exact. 5 blocks."""
    entities = eighths(np.random.default_rng(seed), 37, 6).astype(dtype) / 2
    coarse, fine = np.eye(5, 6, dtype=dtype), np.eye(4, 6, dtype=dtype)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(assignment, "ROWS_PER_BLOCK", 8)
        for k in (0, 1, 3, 4):
            for name, arguments in (("refresh_coarse", (entities, coarse, k)), ("refresh_fine", (entities, coarse, fine, k))):
                got, expected = (stored(function(*read_only(arguments))) for function in (FAST[name], getattr(spec, name)))
                assert got[:3] == expected[:3]
                assert same_bits(got[3], expected[3])
    assert stored(assignment.refresh_coarse(entities, coarse, 2))[2] == stored(spec.keep_top(entities[:, :5], 2))[2]


@pytest.mark.parametrize("dtype", FLOATS)
@given(Seeds)
def test_a_refresh_keeps_what_is_largest_within_its_bound(dtype: Any, seed: int) -> None:
    """Given the inverse, an entry is a sum of D products: D + 1 roundings, m = |H| |pinv|.

    What is kept is right to that bound, and nothing left out is above the least kept by more than twice the row's widest bound.
    """
    rng = np.random.default_rng(seed)
    entities, coarse = (singles(rng, n, 6).astype(dtype) for n in (37, 5))
    inverse = spec.pseudo_inverse(coarse, None).astype(np.float64)
    exact, terms = entities.astype(np.float64) @ inverse, np.abs(entities).astype(np.float64) @ np.abs(inverse)
    bound = (gamma(7, dtype) + gamma(7, np.float64)) * terms
    kept = assignment.refresh_coarse(read_only(entities), read_only(coarse), 2)
    columns = kept.indices.reshape(37, 2)
    assert (
        np.abs(kept.data.reshape(37, 2) - np.take_along_axis(exact, columns, axis=1)) <= np.take_along_axis(bound, columns, axis=1)
    ).all()
    least = np.take_along_axis(exact, columns, axis=1).min(axis=1)
    assert (least >= np.sort(exact, axis=1)[:, -2] - 2 * bound.max(axis=1)).all()


@given(rngs())
def test_the_weight_bridging_update_is_that_of_the_specification_in_blocks(rng: Any) -> None:
    """Orthonormal rows, whose inverse magnifies nothing; the sums are over 37 entities of size 1."""
    entities = rng.standard_normal((37, 6))
    coarse, fine = (np.linalg.qr(rng.standard_normal((6, n)))[0].T for n in (5, 4))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(assignment, "ROWS_PER_BLOCK", 8)
        for k in (1, 3):
            got, expected = (ops.refresh_fine(entities, coarse, fine, k) for ops in (assignment, spec))
            assert np.array_equal(got.indices, expected.indices)
            assert_close(got, expected)


@pytest.mark.parametrize("name", ["refresh_coarse", "refresh_fine"])
def test_no_table_of_entities_by_coarse_rows_is_made(name: str) -> None:
    """6,000 x 200 numbers are 9.6 MB; blocks of 64 rows, two at a time, and 94 matches of 200 x 3 are far below a quarter of it."""
    rng = np.random.default_rng(0)
    tables = tuple(singles(rng, n, 5) for n in (6000, 200, 3))
    arguments = (*tables[:2], 2) if name == "refresh_coarse" else (*tables, 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(assignment, "ROWS_PER_BLOCK", 64)
        FAST[name](*arguments)
        tracemalloc.start()
        try:
            FAST[name](*arguments)
            assert tracemalloc.get_traced_memory()[1] < 6000 * 200 * 8 / 4
        finally:
            tracemalloc.stop()


@pytest.mark.filterwarnings("ignore:overflow")
def test_assignments_refuse_what_has_no_order_or_no_room() -> None:
    table, wrong = np.ones((3, 4)), np.ones((3, 4))
    with pytest.raises(SpecError, match="values must be finite"):
        assignment.refresh_coarse(1e308 * table, 1e-3 * table, 2)
    for k in (-1, 4):
        for entities in (table, table[:0]):
            with pytest.raises(SpecError, match=r"k must be in \[0, 3\]"):
                assignment.refresh_coarse(entities, table, k)
            with pytest.raises(SpecError, match=r"k must be in \[0, 3\]"):
                assignment.refresh_fine(entities, table, table, k)
            with pytest.raises(SpecError, match=r"k must be in \[0, 4\]"):
                assignment.keep_top(entities, 5 if k == 4 else k)
    for value in (np.nan, np.inf, -np.inf):
        wrong[1, 2] = value
        with pytest.raises(SpecError, match="values must be finite"):
            assignment.keep_top(wrong, 2)
        for name, arguments in (("refresh_coarse", (wrong, table, 2)), ("refresh_fine", (wrong, table, table, 2))):
            with pytest.raises(SpecError, match="entities must be finite"):
                FAST[name](*arguments)
    for name, arguments in (("refresh_coarse", (table, np.ones((2, 3)), 2)), ("refresh_fine", (table, table, np.ones((2, 3)), 2))):
        with pytest.raises(SpecError, match="table to invert must have shape"):
            FAST[name](*arguments)
