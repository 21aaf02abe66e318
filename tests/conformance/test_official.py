"""The official code's answers: the specification gives them all, and no entry of theirs could be another."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from c2f_ref import spec
from c2f_ref.conformance import Case, VectorError, read_vectors, run
from c2f_ref.conformance.calls import call
from c2f_ref.conformance.comparators import judge
from c2f_ref.conformance.official import recorded_cases
from c2f_ref.conformance.vectors import FORMS, REPEATED, ZERO

SMALL = 1e-7
GIVEN = (
    *("interactions.user", "interactions.item", "triples", "eval.test.user", "eval.test.item", "eval.ks", "fine_init.positions"),
    *(key for key in FORMS if ".in." in key or key.endswith(("traj.triples", "traj.lr", "traj.clip", "traj.refresh_at"))),
)
OUTPUTS = {key: form for key, form in FORMS.items() if key not in GIVEN}
STEPS = {"coarse_steps", "fine_steps"}


@pytest.fixture(scope="module")
def few(official_vectors: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two files: both clip (limit 0.01), one bridges unevenly (0.9), the other keeps 3 of 4 in a row of S_f."""
    folder = tmp_path_factory.mktemp("few")
    for name in ("dev_00.npz", "dev_01.npz"):
        shutil.copy(official_vectors / name, folder)
    return folder


def module_with(**functions: Any) -> ModuleType:
    """The specification with some functions replaced; None takes one away."""
    module = ModuleType("mutant")
    names = {name: getattr(spec, name) for name in spec.__all__} | functions
    vars(module).update({name: function for name, function in names.items() if function is not None})
    return module


def failed(module: ModuleType, folder: Path) -> set[str]:
    return {result.operation for result in run(module, folder).results if result.failure is not None}


def compared(case: Case) -> list[tuple[Case, str, Any]]:
    """(case of this array alone, its name, what the specification gives) for each recorded array that it compares.

    Lists are compared with those of the recorded scores, which are another case's.
    """
    results = call(spec, case)
    expected = {key: value for key, value in case.expected.items() if value is not None} if case.comparator != "ranked" else {}
    return [
        (replace(case, expected={key: expected[key]}), key, result)
        for key, result in zip(case.expected, results, strict=True)
        if key in expected
    ]


def blamed_by_run(folder: Path) -> set[str]:
    """Arrays that a run of the specification says are wrong, or those at which reading stops."""
    try:
        report = run(spec, folder)
    except VectorError as error:
        return {key for key in OUTPUTS if re.search(rf"[ ,]{re.escape(key)}[.:, ]", str(error))}
    return set() if report.passed else {result.failure.key for result in report.results if result.failure is not None}


def test_the_specification_gives_every_array_of_every_file(official_vectors: Path) -> None:
    report = run(spec, official_vectors)
    assert report.passed
    assert report.source == "10 files of known answers"
    assert {result.operation for result in report.results} == set(MUTANTS) - {"adam_step"} | STEPS
    assert all(result.n_checks >= 10 for result in report.results)
    # Far inside: no answer is right by the width of a tolerance.
    assert max(result.worst for result in report.results) < 1e-2


def test_the_specification_gives_the_same_on_a_second_run(few: Path) -> None:
    assert run(spec, few) == run(spec, few)


def test_a_case_that_is_asked_twice_gives_the_same(few: Path) -> None:
    """Also where the official code's generator is given, which goes on with every draw."""
    (case, *_) = (case for case in recorded_cases(read_vectors(few / "dev_01.npz")) if case.operation == "sparse_pca_scores")
    once, again = call(spec, case), call(spec, case)
    assert np.array_equal(once, again)


@pytest.mark.parametrize("n", range(10))
def test_every_output_of_a_file_is_compared_and_no_input_is_taken_for_one(official_vectors: Path, n: int) -> None:
    """But for those that repeat another or hold zeros, and the rows drawn: the reader looks at them."""
    asked = recorded_cases(read_vectors(official_vectors / f"dev_0{n}.npz"))
    keys = [key for case in asked for _, key, _ in compared(case)]
    assert set(keys) == set(OUTPUTS) - {*REPEATED, *ZERO, "fine_init.rows"}


@pytest.mark.parametrize("n", range(10))
def test_any_entry_that_is_changed_by_1_percent_is_seen(official_vectors: Path, n: int) -> None:
    """All entries above 1e-7 of their array's largest, up or down by turns, in every case that compares the array."""
    n_tried, unseen = 0, []
    for whole in recorded_cases(read_vectors(official_vectors / f"dev_0{n}.npz")):
        for case, key, result in compared(whole):
            expected = np.array(case.expected[key], dtype=np.float64)
            changed, entries = replace(case, expected={key: expected}), expected.reshape(-1)  # a view: writing changes `expected`
            assert judge(changed, [result])[1] is None
            for place in np.flatnonzero(np.abs(entries) > SMALL * np.abs(entries).max(initial=0.0)):
                entry = entries[place]
                entries[place] = entry * (1.01 if place % 2 else 0.99)
                unseen += [(case.operation, key, place)] * (judge(changed, [result])[1] is None)
                n_tried += 1
                entries[place] = entry
    assert not unseen
    assert n_tried > 5_000


def _stored_parts() -> list[str]:
    parts = {"sparse": ["val", "row", "col", "shape"], "float": [""], "int": [""]}
    return [f"{key}.{part}".rstrip(".") for key, form in OUTPUTS.items() for part in parts[form.split()[0]]]


@pytest.mark.parametrize("key", _stored_parts())
def test_an_entry_changed_in_the_file_is_seen_by_the_run(official_vectors: Path, tmp_path: Path, key: str) -> None:
    """Every array that is an output, every part of a sparse one; numbers by 1 %, indices and sizes by 1.

    Zeros have no 1 %: `coarse.fine_out` and `grad.linear_bias` hold nothing else, and get a 1e-7.
    """
    stored = dict(np.load(official_vectors / "dev_09.npz"))
    array = stored[key].copy()
    entries, rng = array.reshape(-1), np.random.default_rng(6)
    if array.dtype.kind == "i":
        entries[rng.integers(entries.size)] += 1
    elif not entries.any():
        entries[rng.integers(entries.size)] = 1e-7
    else:
        entries[rng.choice(np.flatnonzero(np.abs(entries) > SMALL * np.abs(entries).max()))] *= 1.01
    np.savez(tmp_path / "changed.npz", **(stored | {key: array}))
    name = key.rsplit(".", 1)[0] if key.endswith((".val", ".row", ".col", ".shape")) else key
    assert name in blamed_by_run(tmp_path)


def test_every_moved_index_of_a_refreshed_assignment_is_seen(official_vectors: Path) -> None:
    """Each entry of S_c and S_f moved to each other column of its row: the answer must differ, tied or not."""
    n_tried = 0
    for name in ("dev_01.npz", "dev_06.npz"):
        for whole in recorded_cases(read_vectors(official_vectors / name)):
            if "tied" not in whole.allowed:
                continue
            ((case, key, result),) = compared(whole)
            expected = case.expected[key]
            size = np.abs(expected)
            for row, column in np.argwhere(size > SMALL * size.max()):
                for other in np.flatnonzero(size[row] == 0):
                    changed = expected.copy()
                    changed[row, [column, other]] = changed[row, [other, column]]
                    assert judge(replace(case, expected={key: changed}), [result])[1] is not None
                    n_tried += 1
    assert n_tried > 1000


# A wrong function for every operation: the slips that an implementer makes.


def _directed(users: Any, items: Any, n_users: int, n_items: int) -> sparse.csr_array:
    return sparse.csr_array(sparse.triu(spec.bipartite(users, items, n_users, n_items)))


def _divided_by_row_degree(graph: sparse.csr_array) -> sparse.csr_array:
    return sparse.csr_array(graph / graph.sum(axis=1)[:, None])


def _normalised_once(norm_adjacency: sparse.csr_array, *assignments: sparse.csr_array) -> sparse.csr_array:
    graph = sparse.csr_array((spec.expand_coarse if len(assignments) == 1 else spec.expand_fine)(norm_adjacency, *assignments))
    n_entities = norm_adjacency.shape[0]
    graph = sparse.lil_array(graph)
    graph[:n_entities, :n_entities] = norm_adjacency
    return sparse.csr_array(graph)


def _sharp_affinity(labels: Any, n_parts: int) -> Any:
    return np.eye(n_parts)[labels]


def _start_without_softmax(assignment: sparse.csr_array, affinity: Any, k: int) -> sparse.csr_array:
    return spec.keep_top(assignment.T @ affinity, k)


def _largest_by_magnitude(entities: Any, coarse: Any, k: int) -> sparse.csr_array:
    values = entities @ spec.pseudo_inverse(coarse, None)
    kept = spec.keep_top(np.abs(values), k)
    return kept.multiply(np.sign(values)).tocsr()


def _renormalised(entities: Any, coarse: Any, fine: Any, k: int) -> sparse.csr_array:
    kept = spec.refresh_fine(entities, coarse, fine, k)
    return sparse.csr_array(kept / kept.sum(axis=1)[:, None])


def _any_random_state(rows: Any, n_components: int, alpha: float, *, random_state: Any) -> Any:
    return spec.sparse_pca_scores(rows, n_components, alpha, random_state=0)


def _same_columns_for_all(scores: Any, positions: Any, dim: int) -> Any:
    return spec.scatter_scores(scores, np.tile(positions[0], (len(positions), 1)), dim)


def _mean_over_n_layers(graph: Any, n_layers: int, entities: Any, coarse: Any) -> Any:
    factor = (n_layers + 1) / n_layers
    return tuple(factor * table for table in spec.propagate_coarse(graph, n_layers, entities, coarse))


def _bridged_the_other_way(graph: Any, s_c: Any, s_f: Any, weight: float, *others: Any) -> Any:
    return spec.propagate_fine(graph, s_c, s_f, 1.0 - weight, *others)


def _without_bias_of_user(entities: Any, bias: Any, offset: float, n_users: int, users: Any, items: Any) -> Any:
    return spec.score_pairs(entities, bias, offset, n_users, users, items) - bias[users]


def _last_pair_wins(entities: Any, bias: Any, offset: float, n_users: int, users: Any, items: Any, grad: Any) -> Any:
    grad_entities, grad_bias, grad_offset = spec.score_pairs_vjp(entities, bias, offset, n_users, users, items, grad)
    grad_bias[items + n_users] = grad
    return grad_entities, grad_bias, grad_offset


def _half_the_squares(ego: Any, n_users: int, triples: Any, weight: float) -> float:
    return 0.5 * spec.ego_penalty(ego, n_users, triples, weight)


def _seen_items_too(entities: Any, bias: Any, n_users: int, users: Any, seen: Any, k: int) -> Any:
    return spec.rank_items(entities, bias, n_users, users, sparse.csr_array(seen.shape), k)


def _recall_cut_at_k(ranked: Any, held_out: Any, k: int) -> Any:
    counts = np.diff(held_out.indptr)
    return spec.recall_at_k(ranked, held_out, k) * counts / np.minimum(counts, k)


def _off_by_1e_8(ranked: Any, held_out: Any, k: int) -> Any:
    return spec.ndcg_at_k(ranked, held_out, k) * (1.0 - 1e-8)


def _bridged_table_as_ego(plan: Any, coarse: Any, fine: Any) -> Any:
    settings = plan.settings
    thresholded = spec.soft_threshold(fine, settings.threshold)
    return spec.embed_fine(plan, spec.bridge(plan.fine_assignment, settings.bridge_weight, coarse, thresholded), fine)


def _one_layer_more(plan: Any, coarse: Any) -> Any:
    return spec.embed_coarse(plan._replace(settings=replace(plan.settings, n_layers=plan.settings.n_layers + 1)), coarse)


def _without_penalty(loss_and_grad: Callable[..., Any]) -> Callable[..., Any]:
    return lambda plan, *given: loss_and_grad(plan._replace(settings=replace(plan.settings, l2_weight=0.0)), *given)


def _gradient_through_the_threshold(plan: Any, *given: Any) -> Any:
    """Only entries of E_f within the threshold are wrong."""
    loss, grad_coarse, grad_fine, grad_bias = spec.fine_loss_and_grad(plan, *given)
    return loss, grad_coarse, np.where(grad_fine == 0, 1e-6, grad_fine), grad_bias


def _unclipped(table: Any, grad: Any, state: Any, lr: float, settings: Any) -> Any:
    return spec.adam_step(table, grad, state, lr, replace(settings, clip_limit=np.inf))


MUTANTS = {
    "bipartite": _directed,
    "normalise": _divided_by_row_degree,
    "expand_coarse": _normalised_once,
    "expand_fine": _normalised_once,
    "part_affinity": _sharp_affinity,
    "start_fine_assignment": _start_without_softmax,
    "refresh_coarse": _largest_by_magnitude,
    "refresh_fine": _renormalised,
    "sparse_pca_scores": _any_random_state,
    "scatter_scores": _same_columns_for_all,
    "ego_embed": spec.compose,
    "propagate_coarse": _mean_over_n_layers,
    "propagate_fine": _bridged_the_other_way,
    "score_pairs": _without_bias_of_user,
    "score_pairs_vjp": _last_pair_wins,
    "bpr_loss": lambda positive, negative: spec.bpr_loss(negative, positive),
    "ego_penalty": _half_the_squares,
    "rank_items": _seen_items_too,
    "recall_at_k": _recall_cut_at_k,
    "ndcg_at_k": _off_by_1e_8,
    "embed_coarse": _one_layer_more,
    "embed_fine": _bridged_table_as_ego,
    "coarse_loss_and_grad": _without_penalty(spec.coarse_loss_and_grad),
    "fine_loss_and_grad": _gradient_through_the_threshold,
    "adam_step": _unclipped,
}
IN_THE_STEPS = {"refresh_coarse", "refresh_fine", "embed_coarse", "embed_fine", "coarse_loss_and_grad", "fine_loss_and_grad"}


@pytest.mark.parametrize("name", list(MUTANTS))
def test_a_wrong_function_is_found_where_it_is(few: Path, name: str) -> None:
    """It alone fails; but the training steps may fail with a function that they call, and `adam_step` is asked for in them."""
    also = STEPS if name in IN_THE_STEPS else set()
    assert failed(module_with(**{name: MUTANTS[name]}), few) - also == (STEPS if name == "adam_step" else {name})


@pytest.mark.parametrize("name", ["prepare_coarse", "prepare_fine"])
def test_a_plan_that_outlives_its_assignment_is_found_by_the_training_steps(few: Path, name: str) -> None:
    """Every single pass is right; only what follows a refresh is not."""
    plans: dict[int, Any] = {}

    def stale(*given: Any) -> Any:
        n_users = next(part for part in given if isinstance(part, int))  # another one in each file
        return plans.setdefault(n_users, getattr(spec, name)(*given))

    assert failed(module_with(**{name: stale}), few) == {name.removeprefix("prepare_") + "_steps"}
