"""Degenerate inputs, each with its outcome: a finite result wherever one makes sense, otherwise a typed error.

Never a hang, a silent NaN, a warning (warnings are errors here) or an exception of someone else's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import sparse
from support.calls import array_paths, arrays_of, calls, replaced
from support.strategies import Model, draw_model, draw_table, read_only

from c2f_ref import spec
from c2f_ref.spec import CONTRACT, Settings, SettingsError, SpecError, Triples

Result = Any
Row = tuple[Callable[[], Result], Callable[[Result], bool]]

MODEL = draw_model((5, 7, 4, 3, 6, 8), np.random.default_rng(3))
NONE = read_only(np.zeros(0, dtype=np.int64))
ZERO = read_only(np.zeros(1, dtype=np.int64))


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def empty(n_rows: int, n_columns: int) -> sparse.csr_array:
    return sparse.csr_array((n_rows, n_columns))


def ones(*shape: int) -> np.ndarray:
    return read_only(np.ones(shape))


def full(n_rows: int, n_columns: int) -> sparse.csr_array:
    return sparse.csr_array(np.ones((n_rows, n_columns)))


def tables(*shape: int) -> np.ndarray:
    return draw_table(shape, np.random.default_rng(1))


def settings_with(**changes: Any) -> Settings:
    return Settings(**{**vars(MODEL.settings), **changes})


def both_stages(model: Model) -> tuple:
    """Everything a model goes through: plans, embeddings, losses, gradients, a step of Adam, refreshes, rankings and triples."""
    adjacency, n_users, settings = model.norm_adjacency, model.n_users, model.settings
    coarse_plan = spec.prepare_coarse(adjacency, model.coarse_assignment, n_users, settings)
    fine_plan = spec.prepare_fine(adjacency, model.coarse_assignment, model.fine_assignment, n_users, settings)
    entities, coarse = spec.embed_coarse(coarse_plan, model.coarse)
    _, fine_coarse, fine = embedded = spec.embed_fine(fine_plan, model.coarse, model.fine)
    first = spec.coarse_loss_and_grad(coarse_plan, model.coarse, model.bias, model.triples)
    second = spec.fine_loss_and_grad(fine_plan, model.coarse, model.fine, model.bias, model.triples)
    pairs = np.ones(model.users.size), (model.users, model.items)
    seen = sparse.csr_array(pairs, shape=(n_users, model.n_items))
    return (
        (entities, coarse, *embedded),
        (*first, *second),
        spec.adam_step(model.fine, second[2], spec.start_adam(model.fine), 1e-3, settings),
        spec.refresh_coarse(entities, coarse, settings.coarse_per_entity),
        spec.refresh_fine(embedded[0], fine_coarse, fine, settings.fine_per_coarse),
        spec.rank_items(entities, model.bias, n_users, np.arange(n_users), seen, 0),
        spec.sample_triples(seen, 20, 5, rng=rng()),
    )


def started(settings: Settings) -> np.ndarray:
    """A fine start from random coarse rows."""
    return spec.start_fine(tables(settings.n_coarse, settings.dim), settings, rng=rng())


def of_sizes(n_users: int, n_items: int, *, pairs: tuple[list[int], list[int]] = ([], []), **sizes: int) -> Model:
    """A model of other sizes, with given pairs; all its tables are drawn, all its assignments are full."""
    settings = settings_with(**sizes)
    n_entities, n_coarse, n_fine = n_users + n_items, settings.n_coarse, settings.n_fine
    users, items = (read_only(np.array(ends, dtype=np.int64)) for ends in pairs)
    n_batch = 3 if n_users and n_items else 0
    return Model(
        settings,
        n_users,
        n_items,
        users,
        items,
        spec.normalise(spec.bipartite(users, items, n_users, n_items)),
        full(n_entities, n_coarse),
        full(n_coarse, n_fine),
        tables(n_coarse, settings.dim),
        2 * tables(n_fine, settings.dim),
        tables(n_entities),
        Triples(*(np.zeros(n_batch, dtype=np.int64) for _ in range(3))),
    )


def twins() -> Model:
    """Users 0 and 1 have the same pairs and the same row of S_c."""
    adjacency = np.zeros((12, 12))
    adjacency[:5, 5:] = MODEL.norm_adjacency.toarray()[:5, 5:] > 0
    adjacency[1] = adjacency[0]
    adjacency += adjacency.T
    assignment = MODEL.coarse_assignment.toarray()
    assignment[1] = assignment[0]
    users, items = np.nonzero(adjacency[:5, 5:])
    return MODEL._replace(
        users=users,
        items=items,
        norm_adjacency=spec.normalise(sparse.csr_array(adjacency)),
        coarse_assignment=sparse.csr_array(assignment),
    )


ALL_SEEN = full(3, 4)
ONE = {"n_coarse": 1, "n_fine": 1, "dim": 1, "coarse_per_entity": 1, "fine_per_coarse": 1}

FINITE: dict[str, Row] = {
    # No users, no items, no pairs.
    "no users: graph": (lambda: spec.bipartite(NONE, NONE, 0, 3), lambda r: r.shape == (3, 3) and r.nnz == 0),
    "no users: both stages": (lambda: both_stages(of_sizes(0, 3)), lambda r: r[0][0].shape == (3, 6) and r[5][0].shape == (0, 0)),
    "no users: ranking": (
        lambda: spec.rank_items(tables(3, 2), tables(3), 0, NONE, empty(0, 3), 2),
        lambda r: r[0].shape == r[1].shape == (0, 2),
    ),
    "no users: triples": (lambda: spec.sample_triples(empty(0, 3), 9, 5, rng=rng()), lambda r: r.users.size == 0),
    "no items: graph": (lambda: spec.bipartite(NONE, NONE, 3, 0), lambda r: r.shape == (3, 3) and r.nnz == 0),
    "no items: both stages": (lambda: both_stages(of_sizes(3, 0)), lambda r: r[0][0].shape == (3, 6)),
    "no items: ranking": (
        lambda: spec.rank_items(tables(3, 2), tables(3), 3, ZERO, empty(3, 0), 2),
        lambda r: r[0].tolist() == [[-1, -1]] and np.isneginf(r[1]).all(),
    ),
    "no items: triples": (lambda: spec.sample_triples(empty(3, 0), 9, 5, rng=rng()), lambda r: r.users.size == 0),
    "no entities: graph": (lambda: spec.bipartite(NONE, NONE, 0, 0), lambda r: r.shape == (0, 0)),
    "no entities: both stages": (lambda: both_stages(of_sizes(0, 0)), lambda r: r[0][0].shape == (0, 6) and r[3].shape == (0, 4)),
    "no entities: coarse start": (
        lambda: spec.start_coarse_assignment(NONE, MODEL.settings, rng=rng()),
        lambda r: r.shape == (0, 4),
    ),
    "no entities: fine start": (
        lambda: spec.start_fine_assignment(empty(0, 4), spec.part_affinity(NONE, 3), 2),
        lambda r: r.toarray().tolist() == [[1 / 3, 1 / 3, 0]] * 4,
    ),
    "no entities: fine refresh": (
        lambda: spec.refresh_fine(tables(0, 6), tables(4, 6), tables(3, 6), 2),
        lambda r: r.toarray().tolist() == [[1 / 3, 1 / 3, 0]] * 4,
    ),
    "no pairs: normalised graph": (lambda: spec.normalise(spec.bipartite(NONE, NONE, 2, 3)), lambda r: r.nnz == 0),
    "no pairs: both stages": (lambda: both_stages(of_sizes(2, 3)), lambda r: r[1][0] > 0),
    "no pairs: triples": (lambda: spec.sample_triples(empty(3, 4), 9, 5, rng=rng()), lambda r: r.users.size == 0),
    "no triples asked for": (lambda: spec.sample_triples(full(3, 4), 0, 5, rng=rng()), lambda r: r.users.size == 0),
    "no list asked for": (
        lambda: spec.rank_items(tables(5, 2), tables(5), 2, ZERO, empty(2, 3), 0),
        lambda r: r[0].shape == (1, 0),
    ),
    "no fine rows: fine plan and embeddings": (
        lambda: spec.embed_fine(
            spec.prepare_fine(MODEL.norm_adjacency, MODEL.coarse_assignment, empty(4, 0), 5, settings_with(n_fine=0)),
            MODEL.coarse,
            tables(0, 6),
        ),
        lambda r: r[0].shape == (12, 6) and r[2].shape == (0, 6),
    ),
    "no fine rows: start": (lambda: started(settings_with(n_fine=0)), lambda r: r.shape == (0, 6)),
    # One of each.
    "one of each: both stages": (
        lambda: both_stages(of_sizes(1, 1, pairs=([0], [0]), **ONE)),
        lambda r: r[3].shape == (2, 1) and r[4].toarray().tolist() == [[1]],
    ),
    "one of each: coarse start": (
        lambda: spec.start_coarse_assignment(np.zeros(2, dtype=np.int64), settings_with(**ONE), rng=rng()),
        lambda r: r.toarray().tolist() == [[1], [1]],
    ),
    "one of each: part affinity": (lambda: spec.part_affinity(ZERO, 1), lambda r: r.tolist() == [[1]]),
    "one of each: ranking": (
        lambda: spec.rank_items(tables(2, 1), tables(2), 1, ZERO, empty(1, 1), 1),
        lambda r: r[0].tolist() == [[0]],
    ),
    "one fine row: start": (lambda: started(settings_with(n_fine=1, fine_per_coarse=1)), lambda r: r.shape == (1, 6)),
    "one fine row: scores": (lambda: spec.sparse_pca_scores(tables(1, 6), 3, 1.0, random_state=0), lambda r: r.shape == (1, 3)),
    "one column and one component: start": (lambda: started(settings_with(dim=1)), lambda r: r.shape == (3, 1)),
    # More asked for than there is.
    "k > I: the list is filled up": (
        lambda: spec.rank_items(tables(5, 2), tables(5), 2, ZERO, empty(2, 3), 5),
        lambda r: sorted(r[0][0, :3]) == [0, 1, 2] and r[0][0, 3:].tolist() == [-1, -1],
    ),
    "fine > coarse: both stages": (lambda: both_stages(of_sizes(2, 3, n_coarse=3, n_fine=8)), lambda r: r[4].shape == (3, 8)),
    "fine > coarse: start": (lambda: started(settings_with(n_coarse=3, n_fine=8)), lambda r: r.shape == (8, 6)),
    "components > dim: start": (
        lambda: started(settings_with(sparse_pca_components=80)),
        lambda r: r.shape == (3, 6) and np.abs(r).sum() > 0,
    ),
    "components > rows: start": (lambda: started(settings_with(n_fine=3, sparse_pca_components=5)), lambda r: r.shape == (3, 6)),
    # A user with every item, and one with none.
    "user with every item: triples": (lambda: spec.sample_triples(ALL_SEEN, 9, 5, rng=rng()), lambda r: r.users.size == 0),
    "user with every item: ranking": (
        lambda: spec.rank_items(tables(7, 2), tables(7), 3, ZERO, ALL_SEEN, 2),
        lambda r: r[0].tolist() == [[-1, -1]] and np.isneginf(r[1]).all(),
    ),
    "every pair: both stages": (
        lambda: both_stages(of_sizes(2, 3, pairs=([0, 0, 0, 1, 1, 1], [0, 1, 2, 0, 1, 2]))),
        lambda r: r[6].users.size == 0,
    ),
    # Identical users.
    "identical users have identical rows and lists": (
        lambda: both_stages(twins()),
        lambda r: all(np.array_equal(table[0], table[1]) for table in (r[0][0], r[0][2], r[3].toarray())),
    ),
    "identical coarse rows: start": (
        lambda: spec.start_fine(ones(4, 6), MODEL.settings, rng=rng()),
        lambda r: r.shape == (3, 6) and not r.any(),
    ),
    # Tables of zeros.
    "zeros: pseudo-inverse": (lambda: spec.pseudo_inverse(np.zeros((4, 6)), None), lambda r: r.shape == (6, 4) and not r.any()),
    "zeros: coarse refresh": (
        lambda: spec.refresh_coarse(tables(5, 6), np.zeros((4, 6)), 2),
        lambda r: r.nnz == 10 and not r.data.any(),
    ),
    "zeros: fine refresh": (
        lambda: spec.refresh_fine(tables(5, 6), np.zeros((4, 6)), np.zeros((3, 6)), 2),
        lambda r: r.toarray().tolist() == [[1 / 3, 1 / 3, 0]] * 4,
    ),
    "zeros: start": (lambda: spec.start_fine(np.zeros((4, 6)), MODEL.settings, rng=rng()), lambda r: not r.any()),
    "zeros: both stages": (
        lambda: both_stages(MODEL._replace(coarse=np.zeros((4, 6)), fine=np.zeros((3, 6)), bias=np.zeros(12))),
        lambda r: math.isclose(r[1][0], math.log(2)) and not r[0][0].any(),
    ),
    "zeros: assignments": (
        lambda: both_stages(MODEL._replace(coarse_assignment=empty(12, 4), fine_assignment=empty(4, 3))),
        lambda r: not r[0][0].any(),
    ),
    # Settings at their ends.
    "threshold 0": (
        lambda: both_stages(MODEL._replace(settings=settings_with(threshold=0.0))),
        lambda r: np.count_nonzero(r[1][5]) == 18,
    ),
    "threshold inf: the fine table is silent": (
        lambda: both_stages(MODEL._replace(settings=settings_with(threshold=math.inf))),
        lambda r: not r[1][5].any() and np.array_equal(r[2][0], MODEL.fine),
    ),
    "bridge weight 0": (lambda: both_stages(MODEL._replace(settings=settings_with(bridge_weight=0.0))), lambda r: r[1][5].any()),
    "bridge weight 1": (lambda: both_stages(MODEL._replace(settings=settings_with(bridge_weight=1.0))), lambda r: r[1][5].any()),
    "zero layers": (
        lambda: both_stages(MODEL._replace(settings=settings_with(n_layers=0))),
        lambda r: np.array_equal(r[0][0], r[0][2]) and not r[1][5].any(),
    ),
    "one layer": (lambda: both_stages(MODEL._replace(settings=settings_with(n_layers=1))), lambda r: r[1][5].any()),
    "one entry a row": (
        lambda: both_stages(MODEL._replace(settings=settings_with(coarse_per_entity=1, fine_per_coarse=1))),
        lambda r: r[3].nnz == 12 and r[4].nnz == 4,
    ),
    "all entries of a row": (
        lambda: both_stages(MODEL._replace(settings=settings_with(coarse_per_entity=4, fine_per_coarse=3))),
        lambda r: r[3].nnz == 48 and r[4].nnz == 12,
    ),
    "no penalty, no clipping": (
        lambda: both_stages(MODEL._replace(settings=settings_with(l2_weight=0.0, clip_limit=math.inf))),
        lambda r: r[1][0] > 0,
    ),
    "alpha 0: start": (lambda: started(settings_with(sparse_pca_alpha=0.0)), lambda r: r.shape == (3, 6)),
}

REFUSED: dict[str, tuple[Callable[[], Result], type[SpecError], str]] = {
    "t > C: settings": (lambda: settings_with(coarse_per_entity=5), SettingsError, "at most n_coarse = 4, got 5"),
    "t > C: refresh": (lambda: spec.refresh_coarse(tables(5, 6), tables(4, 6), 5), SpecError, r"k must be in \[0, 4\]"),
    "fine_per_coarse > F: settings": (lambda: settings_with(fine_per_coarse=4), SettingsError, "at most n_fine = 3, got 4"),
    "fine_per_coarse > F: refresh": (
        lambda: spec.refresh_fine(tables(5, 6), tables(4, 6), tables(3, 6), 4),
        SpecError,
        r"k must be in \[0, 3\]",
    ),
    "k < 0: ranking": (lambda: spec.rank_items(tables(5, 2), tables(5), 2, ZERO, empty(2, 3), -1), SpecError, "k must be"),
    "positions > dim": (lambda: spec.draw_positions(2, 4, 3, rng=rng()), SpecError, r"in \[0, dim = 3\], got 4"),
    "positions < 0": (lambda: spec.draw_positions(2, -1, 3, rng=rng()), SpecError, "n_positions must be"),
    "negative draws": (lambda: spec.sample_triples(ALL_SEEN, -1, 5, rng=rng()), SpecError, "must not be negative, got -1"),
    "no coarse columns": (lambda: spec.expand_coarse(empty(3, 3), empty(3, 0)), SpecError, "at least one column"),
    "no user to evaluate": (
        lambda: spec.mean_metrics(np.zeros((0, 5), dtype=np.int64), empty(0, 3), [1]),
        SpecError,
        "at least one user",
    ),
    "a user with nothing held out": (
        lambda: spec.recall_at_k(np.zeros((2, 5), dtype=np.int64), empty(2, 3), 1),
        SpecError,
        "must have a held-out item",
    ),
    "too few coarse rows: start": (
        lambda: spec.start_fine(tables(2, 6), MODEL.settings, rng=rng()),
        SpecError,
        "coarse must have shape",
    ),
    "columns that differ: coarse refresh": (lambda: spec.refresh_coarse(tables(5, 6), tables(4, 3), 2), SpecError, "must have"),
    "columns that differ: fine refresh": (
        lambda: spec.refresh_fine(tables(5, 6), tables(4, 6), tables(3, 2), 2),
        SpecError,
        "must have",
    ),
    "shapes that differ: Adam": (
        lambda: spec.adam_step(tables(4, 6), tables(1, 6), spec.start_adam(tables(4, 6)), 0.1, MODEL.settings),
        SpecError,
        "must have shape",
    ),
    "a state of another table: Adam": (
        lambda: spec.adam_step(tables(4, 6), tables(4, 6), spec.start_adam(tables(1, 6)), 0.1, MODEL.settings),
        SpecError,
        "must have shape",
    ),
    "a graph that is not square": (lambda: spec.normalise(empty(2, 3)), SpecError, r"must have shape \(2, 2\), got \(2, 3\)"),
}


def all_finite(result: Result) -> bool:
    """Every number of a result is finite, in whatever it is wrapped."""
    numbers = [np.float64(value) for value in result if isinstance(value, float)] if isinstance(result, tuple) else []
    nested = [all_finite(part) for part in result if isinstance(part, tuple)] if isinstance(result, tuple) else []
    return all(nested) and all(np.isfinite(array).all() for array in [*arrays_of(result), *numbers])


@pytest.mark.parametrize("row", FINITE)
def test_a_finite_result_where_one_makes_sense(row) -> None:
    """The score of a place that no item fills is -inf by definition; everything else is finite."""
    call, claim = FINITE[row]
    result = call()
    assert claim(result)
    assert all_finite(result[0] if "ranking" in row or "k > I" in row else result)


@pytest.mark.parametrize("row", REFUSED)
def test_a_typed_error_where_none_does(row) -> None:
    call, error, message = REFUSED[row]
    with pytest.raises(error, match=message):
        call()


# NaN and infinity, in every array input of every contract function.

CONTRACT_CALLS = {name: call for name, call in calls().items() if name in CONTRACT}
PATTERN_ONLY = {("sample_triples", (0,)), ("rank_items", (4,))}
"""Of the seen pairs it only counts which are stored."""
INPUTS = [(name, path) for name, (_, arguments) in CONTRACT_CALLS.items() for path in array_paths(arguments)]


def with_bad_value(array: Any, bad: float) -> Any:
    """A copy with `bad` as the middle one of its values; integers become floats, which is how a NaN gets among them."""
    values = np.array(array.data if sparse.issparse(array) else array, dtype=np.float64)
    values.flat[values.size // 2] = bad
    if not sparse.issparse(array):
        return read_only(values)
    return read_only(sparse.csr_array((values, array.indices, array.indptr), shape=array.shape))


def test_every_array_input_of_the_contract_is_among_the_inputs() -> None:
    """By hand: seven functions besides the plans' own arrays."""
    counts = {name: sum(name == other for other, _ in INPUTS) for name in CONTRACT_CALLS}
    assert set(counts) == set(CONTRACT)
    assert counts == {
        "adam_step": 4,
        "coarse_loss_and_grad": 5,
        "embed_coarse": 1,
        "embed_fine": 2,
        "fine_loss_and_grad": 6,
        "prepare_coarse": 2,
        "prepare_fine": 3,
        "rank_items": 4,
        "refresh_coarse": 2,
        "refresh_fine": 3,
        "sample_triples": 1,
    }


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(("name", "path"), INPUTS, ids=[f"{name}-{'.'.join(map(str, path))}" for name, path in INPUTS])
def test_nan_and_infinity_are_refused_at_the_door(name, path, bad) -> None:
    """With a SpecError that asks for finite numbers, or integers; unless only the pattern counts, and it has not changed."""
    function, arguments = CONTRACT_CALLS[name]
    spoilt = replaced(arguments, path, lambda array: with_bad_value(array, bad))
    if (name, path) in PATTERN_ONLY:
        for once, again in zip(function(*arguments), function(*spoilt), strict=True):
            assert np.array_equal(once, again)
    else:
        with pytest.raises(SpecError, match=r"must be (finite|integers)"):
            function(*spoilt)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    "name", ["normalise", "expand_coarse", "expand_fine", "keep_top", "pseudo_inverse", "sparse_pca_scores", "start_fine"]
)
def test_nan_and_infinity_are_refused_wherever_a_docstring_says_so(name, bad) -> None:
    function, arguments = calls()[name]
    for path in array_paths(arguments):
        with pytest.raises(SpecError, match="must be finite"):
            function(*replaced(arguments, path, lambda array: with_bad_value(array, bad)))
