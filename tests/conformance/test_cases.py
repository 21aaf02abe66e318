"""The frozen cases: that they cover the specification, in every kind, and that none is held too loosely."""

from __future__ import annotations

import inspect
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from c2f_ref import spec
from c2f_ref.conformance import Case, cases, check, operations
from c2f_ref.conformance.calls import PROGRAMS, call
from c2f_ref.conformance.cases import COMPARATORS, DATA, assemble, flatten
from c2f_ref.conformance.comparators import judge

EPS = {"float64": 2.0**-52, "float32": 2.0**-23}
NOT_OURS = {"metis_partition"}
"""Needs an optional package, whose answer it is."""
DRAWN = {
    "partition",
    "start_coarse_assignment",
    "start_coarse",
    "start_fine",
    "draw_positions",
    "sparse_pca_scores",
    "sample_triples",
}
STEPS = {"coarse_steps", "fine_steps"}


def public_functions() -> set[str]:
    return {name for name in spec.__all__ if inspect.isfunction(getattr(spec, name))}


def everything() -> list[Case]:
    return list(cases())


def test_every_public_function_and_ten_steps_of_each_stage_have_cases() -> None:
    assert set(operations()) == (public_functions() - NOT_OURS) | STEPS
    for case in cases(STEPS):
        assert len(case.inputs["batches"]) == 10
        assert 0 < case.inputs["refresh_at"] < 9


def test_the_name_that_an_operation_asks_for_first_is_its_own_or_that_of_a_plan() -> None:
    report = check(SimpleNamespace())
    assert set(PROGRAMS) <= set(operations())
    assert all(result.verdict == "missing" for result in report.results)
    asked = {result.operation: str(result.failure).removeprefix("there is no ") for result in report.results}
    plans = {"coarse_steps": "prepare_coarse", "fine_steps": "prepare_fine"}
    assert asked == {operation: plans.get(operation, operation) for operation in operations()}


def test_only_what_is_drawn_is_judged_by_its_properties_and_the_rest_by_numbers() -> None:
    by_operation: dict[str, set[str]] = {}
    for case in everything():
        assert case.comparator in COMPARATORS
        by_operation.setdefault(case.operation, set()).add(case.comparator)
    assert {operation for operation, kinds in by_operation.items() if "drawn" in kinds} == DRAWN
    assert all(
        kinds & {"exact", "bounded", "kept", "ranked"} for operation, kinds in by_operation.items() if operation not in DRAWN
    )
    assert set().union(*by_operation.values()) == set(COMPARATORS)


def test_every_documented_error_is_asked_for() -> None:
    """A function whose docstring has a line of errors has a case that must raise."""
    asked = {case.operation for case in everything() if case.comparator == "raises"}
    documented = {name for name in public_functions() - NOT_OURS if "Errors:" in (getattr(spec, name).__doc__ or "")}
    # Raised where a plan is used: `embed_*` asks for that.
    assert documented - asked <= {"prepare_coarse", "prepare_fine"}
    assert asked - documented <= {"draw_positions"}


def test_exact_cases_are_given_in_single_precision_too_wherever_numbers_are_given() -> None:
    dtypes: dict[tuple[str, str], set[str]] = {}
    for case in everything():
        if case.comparator == "exact" and any(
            part is not None and part.dtype.kind == "f" and part.ndim for part in flatten(case.inputs).values()
        ):
            dtypes.setdefault((case.operation, case.name), set()).add(case.dtype)
    lonely = {key for key, own in dtypes.items() if own != {"float64", "float32"}}
    assert all(operation == "stored_bytes" or "no " in name for operation, name in lonely), lonely


def test_every_operation_is_held_in_both_precisions_but_for_the_steps_of_the_fine_stage() -> None:
    """In single the worst case of ten fine steps is too wide to say anything."""
    assert set(operations()) - set(operations(["float32"])) == {"fine_steps"}
    assert operations() == operations(["float64"])
    assert set(operations(["float32"])) == {case.operation for case in cases(dtypes=["float32"])}


def test_what_is_given_without_a_precision_is_asked_once() -> None:
    once = [case.dtype for case in cases(["part_affinity"])]
    assert once == ["float64"] * len(once)
    assert len(list(cases(["part_affinity"], ["float32"]))) == len(once)


def test_no_bound_is_wide() -> None:
    """Worst-case rounding is below 1e-5 of a result's largest entry in double, however badly conditioned, and 2 % in single."""
    for case in everything():
        for key, allowed in case.allowed.items():
            if key in ("k", "candidates") or "large magnitude" in case.name:  # where 1 - tanh^2 is all rounding
                continue
            values = case.allowed["candidates"] if key == "errors" else case.expected[key]
            largest = np.abs(np.where(np.isfinite(values), values, 0.0)).max(initial=0.0)
            limit = 1e-5 if case.dtype == "float64" else 0.02
            assert EPS[case.dtype] * allowed.max(initial=0.0) <= max(limit * largest, 1e-37), (case.operation, case.name, key)


def test_sizes_within_a_case_are_pairwise_different() -> None:
    """So that no swap of axes goes unseen: every dense table of every drawn model has two different sizes."""
    for case in cases(["coarse_loss_and_grad", "fine_loss_and_grad"]):
        own, n_items = case.inputs["settings"], case.inputs["norm_adjacency"].shape[0] - case.inputs["n_users"]
        sizes = [case.inputs["n_users"], n_items, own.n_coarse, own.dim]
        sizes += [own.n_fine] if "fine" in case.inputs else []
        assert len(set(sizes)) == len(sizes), case.name


def test_a_case_owns_its_arrays() -> None:
    (first, second) = (next(iter(cases(["compose"]))) for _ in range(2))
    first.inputs["table"][:] = 7
    first.expected["result"][:] = 7
    assert not (second.inputs["table"] == 7).all()
    assert not (second.expected["result"] == 7).all()


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_flattened_values_are_put_together_again(dtype: str) -> None:
    for case in cases(dtypes=[dtype]):
        once = flatten(case.inputs)
        again = flatten(assemble(once, dtype))
        assert list(once) == list(again)
        for name, array in once.items():
            assert (array is None) == (again[name] is None)
            assert array is None or (
                array.dtype == again[name].dtype and np.array_equal(array, again[name], equal_nan=array.dtype.kind == "f")
            )


def test_numbers_given_have_the_precision_of_the_case() -> None:
    def floats(value: Any) -> list[Any]:
        if isinstance(value, tuple):
            return [part for inner in value for part in floats(inner)]
        return [value] if (isinstance(value, np.ndarray) or sparse.issparse(value)) and value.dtype.kind == "f" else []

    for case in everything():
        for value in case.inputs.values():
            assert all(array.dtype == case.dtype for array in floats(value)), (case.operation, case.name)


def test_the_file_is_small() -> None:
    assert DATA.stat().st_size < 1_000_000


def test_a_large_entry_that_is_off_by_a_ten_thousandth_is_seen_in_every_result_of_every_case() -> None:
    """Integers by 1. Results of the specification, so that nothing else is wrong."""
    rng, n_tried = np.random.default_rng(0), 0
    for case in cases(dtypes=["float64"]):
        if case.comparator in ("raises", "drawn") or "large magnitude" in case.name:
            continue
        results = dense_results(case)
        if not results:
            continue
        assert judge(case, results)[1] is None
        for place, result in enumerate(results):
            sizes = np.abs(np.where(np.isfinite(result), result, 0.0))
            entries = np.flatnonzero(sizes > 0.2 * sizes.max(initial=0.0)) if result.dtype.kind == "f" else np.arange(result.size)
            if entries.size:
                changed = result.copy()
                values, entry = changed.reshape(-1), rng.choice(entries)  # a view
                values[entry] = values[entry] * 1.0001 if result.dtype.kind == "f" else values[entry] + 1
                assert judge(case, [*results[:place], changed, *results[place + 1 :]])[1] is not None, (
                    case.operation,
                    case.name,
                    place,
                )
                n_tried += 1
    assert n_tried > 300


def dense_results(case: Case) -> list[Any]:
    """What the specification gives, dense; nothing where a matrix is too large for that."""
    results = call(spec, case)
    if any(sparse.issparse(part) and part.shape[0] > 1000 for part in results):
        return []
    return [np.asarray(part.toarray() if sparse.issparse(part) else part) for part in results]
