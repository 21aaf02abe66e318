"""`c2f_ref.device` held against the frozen cases of what it offers.

It has columns where the specification has tables, keeps no weights of the graph, and returns entities alone. The graphs of the
cases come rounded to float32, so that they are asked for in that precision.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from c2f_ref.conformance.cases import Case, cases
from c2f_ref.conformance.comparators import judge
from c2f_ref.device import forward
from c2f_ref.stored import FixedRows, StoredModel


def fixed_rows(assignment: sparse.csr_array) -> FixedRows:
    """Rows of one length: shorter ones are filled up with zeros in column 0."""
    counts = np.diff(assignment.indptr)
    is_filled = np.arange(counts.max(initial=0)) < counts[:, None]
    values, columns = np.zeros(is_filled.shape), np.zeros(is_filled.shape, dtype=np.uint16)
    values[is_filled], columns[is_filled] = assignment.data, assignment.indices
    return FixedRows(values, columns)


def stored(norm_adjacency: Any, coarse_assignment: Any, n_users: int, settings: Any, coarse: Any, **fine_parts: Any) -> StoredModel:
    graph = norm_adjacency[:n_users, n_users:]
    graph.sort_indices()
    return StoredModel(
        settings=asdict(settings),
        user_ids=np.arange(n_users),
        item_ids=np.arange(graph.shape[1]),
        graph_columns=graph.indices.astype(np.uint16),
        graph_starts=graph.indptr.astype(np.uint32),
        bias=np.zeros(graph.shape[1]),
        coarse=coarse,
        coarse_assignment=fixed_rows(coarse_assignment),
        **fine_parts,
    )


def embedded(
    norm_adjacency: Any,
    coarse_assignment: Any,
    n_users: int,
    settings: Any,
    coarse: Any,
    fine_assignment: Any = None,
    fine: Any = None,
) -> Any:
    """Propagated entities, column by column."""
    parts = {} if fine is None else {"fine": fine, "fine_assignment": fixed_rows(fine_assignment)}
    model = stored(norm_adjacency, coarse_assignment, n_users, settings, coarse, **parts)
    plan = forward.prepare(model)
    return np.stack([forward.embed_column(model, plan, column) for column in range(coarse.shape[1])], axis=1)


def bridged(fine_assignment: Any, weight: float, coarse: Any, fine: Any) -> Any:
    columns = zip(coarse.T, fine.T, strict=True)
    return np.stack([forward.bridge(fixed_rows(fine_assignment), weight, *each) for each in columns], axis=1)


OFFERED = {"soft_threshold": forward.soft, "bridge": bridged, "embed_coarse": embedded, "embed_fine": embedded}


ASKED = [case for case in cases(OFFERED, ("float32",)) if case.comparator != "raises"]
"""Cases with a result: inputs are checked where a file is read."""


@pytest.mark.parametrize("case", ASKED, ids=lambda case: f"{case.operation}: {case.name}")
def test_the_device_gives_what_the_oracle_expects(case: Case) -> None:
    key = next(iter(case.expected))  # of entities, coarse and fine nodes the first
    case = replace(case, expected={key: case.expected[key]})
    inputs = {name: value.astype(np.float64) if isinstance(value, np.ndarray) else value for name, value in case.inputs.items()}
    worst, failure = judge(case, [OFFERED[case.operation](**inputs)])
    assert failure is None, failure
    assert worst <= 1


def test_there_are_cases_of_everything_that_the_device_offers() -> None:
    assert {case.operation for case in ASKED} == set(OFFERED)
    assert sum(case.operation.startswith("embed") for case in ASKED) == 10
