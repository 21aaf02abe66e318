"""Degenerate inputs, each with its outcome: a finite result where one makes sense, else an error.

Never a hang, a silent NaN, a warning (warnings are errors here) or another package's exception.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import sparse
from support.agreement import assert_refused, same_bits
from support.calls import array_paths, arrays_of, calls, replaced
from support.strategies import Model, draw_model, draw_table, ints, read_only

from c2f_ref import method
from c2f_ref.method import CONTRACT, Settings, Triples

MODEL = draw_model((5, 7, 4, 3, 6, 8), np.random.default_rng(3))


def empty(n_rows: int, n_columns: int) -> sparse.csr_array:
    return sparse.csr_array((n_rows, n_columns))


def full(n_rows: int, n_columns: int) -> sparse.csr_array:
    return sparse.csr_array(np.ones((n_rows, n_columns)))


def rng() -> np.random.Generator:
    return np.random.default_rng(1)


def tables(*shape: int) -> np.ndarray:
    return draw_table(shape, rng())


def rank(seen: sparse.csr_array, k: int, users: np.ndarray) -> list:
    n_users, n = seen.shape[0], sum(seen.shape)
    return method.rank_items(tables(n, 2), tables(n), n_users, users, seen, k)[0].tolist()


def sample(seen: sparse.csr_array) -> int:
    return method.sample_triples(seen, 9, 5, rng=rng()).users.size


def both_stages(model: Model = MODEL, **changes: Any) -> dict[str, Any]:
    """Everything a model goes through, with some settings changed."""
    own, n_users = Settings(**{**vars(model.settings), **changes}), model.n_users
    parts, batch = (model.norm_adjacency, model.coarse_assignment), (model.bias, model.triples)
    plan = method.prepare_coarse(*parts, n_users, own)
    fine_plan = method.prepare_fine(*parts, model.fine_assignment, n_users, own)
    entities, coarse = method.embed_coarse(plan, model.coarse)
    embedded = method.embed_fine(fine_plan, model.coarse, model.fine)
    first = method.coarse_loss_and_grad(plan, model.coarse, *batch)
    second = method.fine_loss_and_grad(fine_plan, model.coarse, model.fine, *batch)
    pairs = np.ones(model.users.size), (model.users, model.items)
    stepped = method.adam_step(model.fine, second[2], method.start_adam(model.fine), 1e-3, own)
    return {
        "entities": entities, "coarse": coarse, "embedded": embedded, "first": first[1:],
        "losses": np.array([first[0], second[0]]), "second": second[1:], "grad_fine": second[2],
        "stepped": stepped[0],
        "s_c": method.refresh_coarse(entities, coarse, own.coarse_per_entity),
        "s_f": method.refresh_fine(*embedded, own.fine_per_coarse),
        "n_triples": sample(sparse.csr_array(pairs, shape=(n_users, model.n_items))),
    }  # fmt: skip


def of_sizes(n_users: int, n_items: int, pairs: Any = ((), ()), **sizes: int) -> Model:
    """A model of other sizes, with given pairs; tables are drawn, assignments are full."""
    own = Settings(**{**vars(MODEL.settings), **sizes})
    n_entities, n_batch = n_users + n_items, 3 if n_users and n_items else 0
    users, items = (ints(*ends) for ends in pairs)
    adjacency = method.normalise(method.bipartite(users, items, n_users, n_items))
    assignments = full(n_entities, own.n_coarse), full(own.n_coarse, own.n_fine)
    drawn = tables(own.n_coarse, own.dim), 2 * tables(own.n_fine, own.dim), tables(n_entities)
    triples = Triples(*(np.zeros(n_batch, dtype=np.int64) for _ in range(3)))
    return Model(own, n_users, n_items, users, items, adjacency, *assignments, *drawn, triples)


def twins() -> Model:
    """Users 0 and 1 have the same pairs and the same row of S_c."""
    has, s_c = MODEL.norm_adjacency.toarray()[:5, 5:] > 0, MODEL.coarse_assignment.toarray()
    has[1], s_c[1] = has[0], s_c[0]
    model = of_sizes(5, 7, np.nonzero(has))
    parts = {name: getattr(model, name) for name in ("users", "items", "norm_adjacency")}
    return MODEL._replace(coarse_assignment=sparse.csr_array(s_c), **parts)


# fmt: off
ONE = {"n_coarse": 1, "n_fine": 1, "dim": 1, "coarse_per_entity": 1, "fine_per_coarse": 1}
ALL_PAIRS = ([0, 0, 0, 1, 1, 1], [0, 1, 2, 0, 1, 2])
ZEROS = MODEL._replace(coarse=np.zeros((4, 6)), fine=np.zeros((3, 6)), bias=np.zeros(12))
UNASSIGNED = MODEL._replace(coarse_assignment=empty(12, 4), fine_assignment=empty(4, 3))
STAGES: dict[str, tuple[Model, dict[str, Any], Callable[[Any], Any]]] = {
    "no users": (of_sizes(0, 3), {}, lambda r: r["entities"].shape == (3, 6)),
    "no items": (of_sizes(3, 0), {}, lambda r: r["entities"].shape == (3, 6)),
    "no entities": (of_sizes(0, 0), {}, lambda r: r["s_c"].shape == (0, 4)),
    "no pairs": (of_sizes(2, 3), {}, lambda r: (r["losses"] > 0).all()),
    "one of each": (of_sizes(1, 1, ([0], [0]), **ONE), {}, lambda r: r["s_c"].shape == (2, 1)),
    "every pair": (of_sizes(2, 3, ALL_PAIRS), {}, lambda r: r["n_triples"] == 0),
    "identical users": (twins(), {}, lambda r: not any(
        (rows[0] - rows[1]).any() for rows in (r["entities"], r["embedded"][0], r["s_c"].toarray())
    )),
    "zeros": (ZEROS, {}, lambda r: math.isclose(r["losses"][0], math.log(2))),
    "no assignments": (UNASSIGNED, {}, lambda r: not r["entities"].any()),
    "threshold 0": (MODEL, {"threshold": 0.0}, lambda r: np.count_nonzero(r["grad_fine"]) == 18),
    "threshold inf": (MODEL, {"threshold": math.inf}, lambda r: (
        not r["grad_fine"].any() and np.array_equal(r["stepped"], MODEL.fine))),
    "bridge weight 0": (MODEL, {"bridge_weight": 0.0}, lambda r: r["grad_fine"].any()),
    "bridge weight 1": (MODEL, {"bridge_weight": 1.0}, lambda r: r["grad_fine"].any()),
    "zero layers": (MODEL, {"n_layers": 0}, lambda r: (
        not r["grad_fine"].any() and np.array_equal(r["entities"], r["embedded"][0]))),
    "all entries of a row": (MODEL, {"coarse_per_entity": 4, "fine_per_coarse": 3}, lambda r: (
        (r["s_c"].nnz, r["s_f"].nnz) == (48, 12))),
    "no penalty, no clipping": (MODEL, {"l2_weight": 0.0, "clip_limit": math.inf}, lambda r: (
        (r["losses"] > 0).all())),
}
STARTS: dict[str, dict[str, Any]] = {
    "no fine rows": {"n_fine": 0},
    "one column and one component": {"dim": 1}, "fine > coarse": {"n_coarse": 3, "n_fine": 8},
    "components > dim": {"sparse_pca_components": 80},
    "components > rows": {"sparse_pca_components": 5}, "alpha 0": {"sparse_pca_alpha": 0.0},
}
# fmt: on


@pytest.mark.parametrize("row", STAGES)
def test_both_stages_are_finite_where_a_result_makes_sense(row) -> None:
    model, changes, claim = STAGES[row]
    result = both_stages(model, **changes)
    assert claim(result)
    assert all(np.isfinite(part).all() for part in arrays_of(result))


@pytest.mark.parametrize("row", STARTS)
def test_a_fine_start_is_finite_and_has_its_shape(row) -> None:
    own = Settings(**{**vars(MODEL.settings), **STARTS[row]})
    fine = method.start_fine(tables(own.n_coarse, own.dim), own, rng=rng())
    assert fine.shape == (own.n_fine, own.dim)
    assert np.isfinite(fine).all()


def test_nothing_to_draw_from_gives_nothing_and_ties_give_thirds() -> None:
    """No users, no items, no pairs; no entities; a user with every item; zeros; rows that do not
    vary; no fine rows.
    """
    for seen in (empty(0, 3), empty(3, 0), empty(3, 4)):
        assert sample(seen) == 0
    assert rank(empty(0, 3), 2, ints()) == []
    assert rank(empty(3, 0), 2, ints(0)) == rank(full(3, 4), 2, ints(0)) == [[-1, -1]]
    s_c = method.start_coarse_assignment(ints(), MODEL.settings, rng=rng())
    assert s_c.shape == (0, 4)
    zeros, fine_zeros = np.zeros((4, 6)), np.zeros((3, 6))
    for s_f in (
        method.start_fine_assignment(empty(0, 4), method.part_affinity(ints(), 3), 2),
        method.refresh_fine(tables(0, 6), tables(4, 6), tables(3, 6), 2),
        method.refresh_fine(tables(5, 6), zeros, fine_zeros, 2),
    ):
        assert s_f.toarray().tolist() == [[1 / 3, 1 / 3, 0]] * 4
    assert same_bits(method.pseudo_inverse(zeros, None), zeros.T)
    refreshed = method.refresh_coarse(tables(5, 6), zeros, 2)
    assert refreshed.indices.tolist() == [0, 1] * 5
    assert not refreshed.data.any()
    one = Settings(**{**vars(MODEL.settings), "n_fine": 1, "fine_per_coarse": 1})
    assert same_bits(method.start_fine(np.ones((4, 6)), one, rng=rng()), fine_zeros[:1])
    none = Settings(**{**vars(MODEL.settings), "n_fine": 0})
    plan = method.prepare_fine(MODEL.norm_adjacency, MODEL.coarse_assignment, empty(4, 0), 5, none)
    entities, _, fine = method.embed_fine(plan, MODEL.coarse, tables(0, 6))
    assert np.isfinite(entities).all()
    assert fine.shape == (0, 6)


# NaN and infinity, in every array input of every contract function and of some others; not of
# `score_pairs`, which is called with what `embed_*` returned, whatever that is.

CHECKED = ["normalise", "expand_coarse", "expand_fine", "keep_top", "pseudo_inverse"]
CHECKED += ["sparse_pca_scores", "start_fine"]
CHECKED += [name for name in CONTRACT if name != "score_pairs"]
PATTERN_ONLY = {("sample_triples", (0,)), ("rank_items", (4,))}
"""Of the seen pairs it only counts which are stored."""
INPUTS = [(name, path) for name in CHECKED for path in array_paths(calls()[name][1])]


def with_bad_value(array: Any, bad: float) -> Any:
    """A copy whose middle value is `bad`; integers become floats."""
    values = np.array(array.data if sparse.issparse(array) else array, dtype=np.float64)
    values.flat[values.size // 2] = bad
    if not sparse.issparse(array):
        return read_only(values)
    return read_only(sparse.csr_array((values, array.indices, array.indptr), shape=array.shape))


def test_every_array_input_of_the_contract_is_among_the_inputs() -> None:
    """Counted by hand in the signatures, plans apart: 4 of a step of Adam, 5 and 6 of the losses,
    1 and 2 of the embeddings, 2 and 3 of the plans and of the refreshes, 4 and 1 of the others.
    """
    counted = [name for name, _ in INPUTS if name in CONTRACT]
    assert len(counted) == 4 + 5 + 6 + 1 + 2 + 2 + 3 + 2 + 3 + 4 + 1


@pytest.mark.parametrize(("name", "path"), INPUTS, ids=str)
def test_nan_and_infinity_are_refused_by_a_function_that_validates(name, path) -> None:
    """Unless only the pattern counts, and it has not changed."""
    function, arguments = calls()[name]
    for bad in (math.nan, math.inf, -math.inf):
        spoilt = replaced(arguments, path, lambda array, bad=bad: with_bad_value(array, bad))
        if (name, path) in PATTERN_ONLY:
            for once, again in zip(function(*arguments), function(*spoilt), strict=True):
                assert np.array_equal(once, again)
        else:
            assert_refused(r"must be (finite|integers)", function, *spoilt)
