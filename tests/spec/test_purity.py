"""What holds for every public function: nothing is written to, nothing is shared, and storage does not matter."""

from __future__ import annotations

import inspect
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
from scipy import sparse
from support.agreement import assert_close, same_bits
from support.calls import arrays_of, calls, mapped
from support.strategies import read_only

from c2f_ref import spec

CALLS = calls()
NOT_FUNCTIONS = {
    "CONTRACT",
    "AdamState",
    "CoarsePlan",
    "FinePlan",
    "Float64Array",
    "IntArray",
    "Settings",
    "SettingsError",
    "SpecError",
    "Triples",
}


def unsorted(matrix: sparse.csr_array) -> sparse.csr_array:
    """Every row stored from its last entry to its first."""
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    order = np.lexsort((-np.arange(rows.size), rows))
    return sparse.csr_array((matrix.data[order], matrix.indices[order], matrix.indptr.copy()), shape=matrix.shape)


def of_index_type(matrix: sparse.csr_array, dtype: type) -> sparse.csr_array:
    matrix = matrix.copy()
    matrix.indices, matrix.indptr = matrix.indices.astype(dtype), matrix.indptr.astype(dtype)
    return matrix


def with_indices(dtype: type) -> Any:
    """All indices of one type: those of sparse arrays and integer arrays themselves."""

    def change(value: Any) -> Any:
        if sparse.issparse(value):
            return of_index_type(value, dtype)
        return value.astype(dtype) if value.dtype.kind == "i" else value.copy()

    return change


def strided(array: np.ndarray) -> np.ndarray:
    """A view with gaps between its entries, in memory from the last row to the first."""
    return np.repeat(array[::-1], 2, axis=-1)[::-1, ..., ::2] if array.ndim > 1 else np.repeat(array[::-1], 2)[::-2]


def test_strided_views_are_views_with_the_same_entries() -> None:
    for array in (np.arange(5), np.arange(6.0).reshape(2, 3)):
        assert np.array_equal(strided(array), array)
        assert not strided(array).flags.c_contiguous
        assert strided(array).strides[0] < 0


STORAGE = {
    "read-only": lambda value: value.copy(),
    "int32 indices": with_indices(np.int32),
    "int64 indices": with_indices(np.int64),
    "strided": lambda value: value.copy() if sparse.issparse(value) else strided(value),
    "columns first": lambda value: value.copy() if sparse.issparse(value) else value.copy(order="F"),
    "rows stored backwards": lambda value: unsorted(value) if sparse.issparse(value) else value.copy(),
}

BY_LAYOUT = {
    *("pseudo_inverse", "rank_items", "refresh_coarse", "refresh_fine", "sparse_pca_scores", "start_fine"),
    *("softmax_rows", "start_fine_assignment", "ego_penalty"),
}
"""BLAS, LAPACK and NumPy's sums along an axis choose their order of summation by the layout of dense operands."""
BY_STORED_ORDER = {
    *("normalise", "expand_coarse", "expand_fine", "prepare_coarse", "prepare_fine"),
    *("compose", "compose_vjp", "bridge", "bridge_vjp", "ego_embed", "ego_embed_vjp", "start_fine_assignment"),
    *("propagate_coarse", "propagate_coarse_vjp", "propagate_fine", "propagate_fine_vjp"),
    *("embed_coarse", "embed_fine", "coarse_loss_and_grad", "fine_loss_and_grad"),
}
"""Row sums and sparse products add along a row as it is stored."""
UP_TO_ROUNDING = {
    *((storage, name) for storage in ("columns first", "strided") for name in BY_LAYOUT),
    *(("rows stored backwards", name) for name in BY_STORED_ORDER),
}


def test_every_public_function_has_a_call_and_everything_else_is_named_as_none() -> None:
    optional = set() if find_spec("pymetis") else {"metis_partition"}
    assert set(CALLS) | NOT_FUNCTIONS | optional == set(spec.__all__)
    assert not set(CALLS) & NOT_FUNCTIONS
    for name in spec.__all__:
        assert inspect.isfunction(getattr(spec, name)) == (name in set(CALLS) | optional), name


def test_every_name_is_public_once_and_leads_somewhere() -> None:
    assert len(set(spec.__all__)) == len(spec.__all__)
    assert all(hasattr(spec, name) for name in spec.__all__)
    assert set(spec.CONTRACT) <= set(CALLS)


@pytest.mark.parametrize("name", CALLS)
def test_nothing_is_written_to(name) -> None:
    """Neither to read-only inputs, which would raise, nor to writeable ones, whose bytes are compared.

    Sparse rows are stored backwards there, so that a call that sorts them in place is seen.
    """
    function, arguments = CALLS[name]
    function(*read_only(arguments))
    loose = mapped(arguments, lambda value: unsorted(value) if sparse.issparse(value) else value.copy())
    before = [array.tobytes() for array in arrays_of(loose)]
    assert all(array.flags.writeable for array in arrays_of(loose))
    function(*loose)
    assert [array.tobytes() for array in arrays_of(loose)] == before


@pytest.mark.parametrize("name", CALLS)
def test_results_share_no_memory_with_inputs(name) -> None:
    function, arguments = CALLS[name]
    result = function(*arguments)
    for given in arrays_of(arguments):
        assert not any(np.shares_memory(given, made) for made in arrays_of(result))


@pytest.mark.parametrize("name", CALLS)
def test_the_global_generator_is_neither_used_nor_moved(name) -> None:
    """Not even where a third party draws: two states of it give one result, and stay as they are."""
    function, arguments = CALLS[name]
    results = []
    before = np.random.get_state()  # noqa: NPY002
    try:
        for seed in (1, 2):
            np.random.seed(seed)  # noqa: NPY002
            at_start = np.random.get_state()[1]  # noqa: NPY002
            results.append(function(*arguments))
            assert np.array_equal(np.random.get_state()[1], at_start)  # noqa: NPY002
    finally:
        np.random.set_state(before)  # noqa: NPY002
    assert same_bits(*results)


@pytest.mark.parametrize("name", CALLS)
def test_results_are_float64_or_int64_and_sparse_ones_in_canonical_form(name) -> None:
    function, arguments = CALLS[name]
    for part in leaves(function(*arguments)):
        if sparse.issparse(part):
            assert isinstance(part, sparse.csr_array)
            assert part.data.dtype == np.float64
            assert part.has_canonical_format
        elif isinstance(part, np.ndarray):
            assert part.dtype in (np.float64, np.int64)
            assert part.size
        else:
            assert isinstance(part, (float, int, spec.Settings))


@pytest.mark.parametrize("storage", STORAGE)
@pytest.mark.parametrize("name", CALLS)
def test_storage_of_the_inputs_changes_nothing(name, storage) -> None:
    """Bit for bit, unless named as up to rounding."""
    function, arguments = CALLS[name]
    once = function(*arguments)
    changed = mapped(arguments, STORAGE[storage])
    for array in arrays_of(changed):
        array.flags.writeable = False
    assert same_bits(changed, arguments) or "indices" in storage  # the same numbers, stored otherwise
    again = function(*changed)
    if (storage, name) in UP_TO_ROUNDING:
        assert_close(numbers(again), numbers(once), 1e-11)
    else:
        assert same_bits(again, once)


def leaves(value: Any) -> list:
    """What a result is made of: the parts of tuples and dicts, and of those in them."""
    if isinstance(value, dict):
        value = tuple(value.values())
    return [leaf for part in value for leaf in leaves(part)] if isinstance(value, tuple) else [value]


def numbers(value: Any) -> tuple:
    """What is to be compared within rounding: arrays and numbers; an infinity must stay where it is, as -1 here."""
    parts = (part for part in leaves(value) if not isinstance(part, spec.Settings))
    return tuple(np.nan_to_num(part, neginf=-1.0) if isinstance(part, np.ndarray) else part for part in parts)
