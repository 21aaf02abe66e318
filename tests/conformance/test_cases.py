"""The frozen cases cover the method, in every kind, and none is held too loosely."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
from scipy import sparse

from c2f_ref import method, partition
from c2f_ref.conformance import Case, cases, operations
from c2f_ref.conformance.cases import DATA, assemble, flatten
from c2f_ref.conformance.judge import PROPERTIES, judge
from c2f_ref.conformance.run import OPTIONAL, call

EPS = {"float64": 2.0**-52, "float32": 2.0**-23}
STEPS = {"coarse_steps", "fine_steps"}
ALL = list(cases())


def asked() -> set[str]:
    """Public functions of the method, without the loop that is made of these."""
    loop = {"judge_by_ndcg", "settings_for_budget", "start_state", "train_stage"}
    functions = {name for name in method.__all__ if inspect.isfunction(getattr(method, name))}
    return functions - loop


def function(name: str) -> Any:
    return getattr(partition if name in OPTIONAL else method, name)


def floats(values: dict[str, Any]) -> list[Any]:
    """Arrays of floats, without numbers."""
    arrays = [part for part in flatten(values).values() if part is not None]
    return [array for array in arrays if array.dtype.kind == "f" and array.ndim]


def test_every_public_function_and_ten_steps_of_each_stage_have_cases() -> None:
    assert set(operations()) == asked() | STEPS | set(OPTIONAL)
    assert list(operations(["float64"])) == list(operations())
    for case in cases(STEPS):
        assert len(case.inputs["batches"]) == 10
        assert 0 < case.inputs["refresh_at"] < 9


def test_only_what_is_drawn_is_judged_by_its_properties() -> None:
    kinds: dict[str, set[str]] = {}
    for case in ALL:
        kinds.setdefault(case.operation, set()).add(case.comparator)
    assert set().union(*kinds.values()) == {"exact", "bounded", "kept", "ranked", "raises", "drawn"}
    assert {operation for operation, own in kinds.items() if "drawn" in own} == set(PROPERTIES)
    assert all(own - {"raises"} for own in kinds.values())


def test_every_documented_error_is_asked_for() -> None:
    refusing = {case.operation for case in ALL if case.comparator == "raises"}
    docs = {name: function(name).__doc__ or "" for name in set(operations()) - STEPS}
    documented = {name for name, text in docs.items() if "Errors:" in text}
    # Errors of a plan are raised where it is used: `embed_*` asks for them.
    assert documented - refusing <= {"prepare_coarse", "prepare_fine"}


def test_precisions_are_asked_where_floats_are_given() -> None:
    """In single the worst case of ten fine steps is too wide to say anything."""
    assert set(operations()) - set(operations(["float32"])) == {"fine_steps"}
    assert [case.dtype for case in cases(["part_affinity"])] == ["float64"] * 4
    assert len(list(cases(["part_affinity"], ["float32"]))) == 4
    dtypes: dict[tuple[str, str], set[str]] = {}
    for case in ALL:
        assert all(array.dtype == case.dtype for array in floats(case.inputs))
        if case.comparator == "exact" and floats(case.inputs):
            dtypes.setdefault((case.operation, case.name), set()).add(case.dtype)
    lonely = {key for key, own in dtypes.items() if len(own) == 1}
    assert all(operation == "stored_bytes" or "no " in name for operation, name in lonely), lonely


def test_no_bound_is_wide() -> None:
    """Below 1e-5 of the largest entry in double, however badly conditioned, and 2 % in single."""
    for case in ALL:
        for key, allowed in case.allowed.items():
            if key in ("k", "candidates") or "large magnitude" in case.name:
                continue  # where 1 - tanh^2 is all rounding
            values = case.allowed["candidates"] if key == "errors" else case.expected[key]
            largest = np.abs(np.where(np.isfinite(values), values, 0.0)).max(initial=0.0)
            share = 1e-5 if case.dtype == "float64" else 0.02
            widest = EPS[case.dtype] * allowed.max(initial=0.0)
            assert widest <= max(share * largest, 1e-37), (case.operation, case.name, key)


def test_sizes_within_a_case_are_pairwise_different() -> None:
    """So that no swap of axes goes unseen."""
    for case in cases(["coarse_loss_and_grad", "fine_loss_and_grad"]):
        given, settings = case.inputs, case.inputs["settings"]
        n_items = given["norm_adjacency"].shape[0] - given["n_users"]
        sizes = [given["n_users"], n_items, settings.n_coarse, settings.dim]
        sizes += [settings.n_fine] if "fine" in given else []
        assert len(set(sizes)) == len(sizes), case.name


def test_a_case_has_fresh_arrays_and_the_file_is_small() -> None:
    first = next(cases(["compose"]))
    first.inputs["table"][:] = first.expected["result"][:] = 7
    second = next(cases(["compose"]))
    assert not (second.inputs["table"] == 7).all()
    assert not (second.expected["result"] == 7).all()
    assert DATA.stat().st_size < 1_000_000


def test_flattened_values_are_put_together_again() -> None:
    for case in ALL:
        once = flatten(case.inputs)
        again = flatten(assemble(once, case.dtype))
        assert list(once) == list(again)
        for one, other in zip(once.values(), again.values(), strict=True):
            assert (one is None) == (other is None)
            if one is not None:
                assert one.dtype == other.dtype
                np.testing.assert_array_equal(one, other)


def dense_results(case: Case) -> list[Any]:
    """What the method gives, dense; nothing where a matrix is too large for that."""
    results = call(partition if case.operation in OPTIONAL else method, case)
    if any(sparse.issparse(part) and part.shape[0] > 1000 for part in results):
        return []
    return [np.array(part.toarray() if sparse.issparse(part) else part) for part in results]


def test_an_entry_that_is_off_by_a_ten_thousandth_is_seen_in_every_result_of_every_case() -> None:
    """Large entries; integers by 1. Results of the method, so that nothing else is wrong."""
    rng, n_tried = np.random.default_rng(0), 0
    for case in cases(dtypes=["float64"]):
        if case.comparator in ("raises", "drawn") or "large magnitude" in case.name:
            continue
        results = dense_results(case)
        for place, result in enumerate(results):
            assert not judge(case, results)[1]
            size = np.abs(np.where(np.isfinite(result), result, 0.0))
            is_float = result.dtype.kind == "f"
            entries = np.flatnonzero(size > 0.2 * size.max(initial=0.0) if is_float else size >= 0)
            if entries.size:
                changed = result.copy()
                values, entry = changed.reshape(-1), rng.choice(entries)  # a view
                values[entry] = values[entry] * 1.0001 if is_float else values[entry] + 1
                wrong = [*results[:place], changed, *results[place + 1 :]]
                assert judge(case, wrong)[1], (case.operation, case.name, place)
                n_tried += 1
    assert n_tried > 300
