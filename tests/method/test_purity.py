"""What holds for every public function: nothing is written to or shared, and storage is free."""

from __future__ import annotations

import inspect
import subprocess
import sys
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
from scipy import sparse
from support.agreement import assert_close, same_bits
from support.calls import arrays_of, calls, mapped
from support.strategies import read_only

from c2f_ref import method, partition

CALLS = calls()
OF_PARTITION = {"partition", "edge_cut", "metis_partition"}
OF_STAGES = set(method.stages.__all__) - {"adam_step", "clip", "start_adam"}
"""The training loop computes nothing itself: it has tests of its own."""
NOT_FUNCTIONS = {"CONTRACT", "AdamState", "CoarsePlan", "FinePlan", "Float64Array", "IntArray"}
NOT_FUNCTIONS |= {"Settings", "SettingsError", "MethodError", "Triples"}


def of_sparse(change: Any) -> Any:
    """A change of sparse arrays; dense ones are copied."""
    return lambda x: change(x) if sparse.issparse(x) else x.copy()


def of_dense(change: Any) -> Any:
    """A change of dense arrays; sparse ones are copied."""
    return lambda x: x.copy() if sparse.issparse(x) else change(x)


@of_sparse
def unsorted(matrix: sparse.csr_array) -> sparse.csr_array:
    """Every row stored from its last entry to its first."""
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    order = np.lexsort((-np.arange(rows.size), rows))
    parts = matrix.data[order], matrix.indices[order], matrix.indptr.copy()
    return sparse.csr_array(parts, shape=matrix.shape)


def with_indices(dtype: type) -> Any:
    """All indices of one type: those of sparse arrays and integer arrays themselves."""

    def change(value: Any) -> Any:
        if not sparse.issparse(value):
            return value.astype(dtype) if value.dtype.kind == "i" else value.copy()
        matrix = value.copy()
        matrix.indices, matrix.indptr = matrix.indices.astype(dtype), matrix.indptr.astype(dtype)
        return matrix

    return change


@of_dense
def strided(array: np.ndarray) -> np.ndarray:
    """A view with gaps between its entries, in memory from the last row to the first."""
    wide = np.repeat(array[::-1], 2, axis=-1)
    return wide[::-2] if array.ndim == 1 else wide[::-1, ..., ::2]


STORAGE = {
    "int32 indices": with_indices(np.int32),
    "int64 indices": with_indices(np.int64),
    "strided": strided,
    "columns first": of_dense(lambda x: x.copy(order="F")),
    "rows stored backwards": unsorted,
}
BY_LAYOUT = """pseudo_inverse rank_items refresh_coarse refresh_fine sparse_pca_scores start_fine
    softmax_rows start_fine_assignment ego_penalty"""
"""BLAS, LAPACK and NumPy's sums along an axis choose their order by the layout of operands."""
BY_STORED_ORDER = """normalise expand_coarse expand_fine prepare_coarse prepare_fine compose
    compose_vjp bridge bridge_vjp ego_embed ego_embed_vjp start_fine_assignment propagate_coarse
    propagate_coarse_vjp propagate_fine propagate_fine_vjp embed_coarse embed_fine
    coarse_loss_and_grad fine_loss_and_grad"""
"""Row sums and sparse products add along a row as it is stored."""
UP_TO_ROUNDING = dict.fromkeys(("columns first", "strided"), BY_LAYOUT.split())
UP_TO_ROUNDING["rows stored backwards"] = BY_STORED_ORDER.split()


def test_every_public_function_has_a_call_and_everything_else_is_named_as_none() -> None:
    optional = set() if find_spec("pymetis") else {"metis_partition"}
    public = set(method.__all__) - OF_STAGES
    assert (set(CALLS) | optional) - OF_PARTITION == public - NOT_FUNCTIONS
    assert all(inspect.isfunction(getattr(method, name)) for name in public - NOT_FUNCTIONS)
    assert all(hasattr(partition, name) for name in OF_PARTITION)
    assert len(set(method.__all__)) == len(method.__all__)
    assert set(method.__all__) <= set(dir(method))
    verbs = ["prepare_{}", "embed_{}", "refresh_{}", "{}_loss_and_grad"]
    parts = [verb.format(stage) for verb in verbs for stage in ("coarse", "fine")]
    parts += ["adam_step", "sample_triples", "rank_items", "score_pairs"]
    assert sorted(method.CONTRACT) == sorted(parts)


def test_a_page_is_loaded_with_its_first_name_and_propagation_needs_numpy_alone() -> None:
    code = """if True:
        import sys
        from c2f_ref import method
        import c2f_ref.method.embeddings
        assert "scipy" not in sys.modules
        assert method.propagate_fine is c2f_ref.method.embeddings.propagate_fine
        assert "c2f_ref.method.memory" not in sys.modules
        assert method.memory.narrowest(1).itemsize == 1
        try: method.nonsense
        except AttributeError as error: assert "nonsense" in str(error)
        else: raise SystemExit("a name that does not exist was found")
    """
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", CALLS)
def test_nothing_is_written_to_and_nothing_is_shared(name: str) -> None:
    """Neither to read-only inputs, which would raise, nor to writeable ones, compared by bytes.

    Sparse rows are stored backwards there, so that a call that sorts them in place is seen. Results
    are float64 or int64, sparse ones in canonical form. The global generator stays as it was, even
    where a third party draws.
    """
    function, arguments = CALLS[name]
    at_start = np.random.get_state()[1:3]  # noqa: NPY002
    for part in leaves(function(*read_only(arguments))):
        if sparse.issparse(part):
            assert (type(part), part.data.dtype) == (sparse.csr_array, np.float64)
            assert part.has_canonical_format
        elif isinstance(part, np.ndarray):
            assert part.dtype in (np.float64, np.int64)
            assert part.size
        else:
            assert isinstance(part, (float, int, method.Settings))
    assert same_bits(np.random.get_state()[1:3], at_start)  # noqa: NPY002
    loose = mapped(arguments, unsorted)
    before = [array.tobytes() for array in arrays_of(loose)]
    assert all(array.flags.writeable for array in arrays_of(loose))
    result = function(*loose)
    assert [array.tobytes() for array in arrays_of(loose)] == before
    for given in arrays_of(loose):
        assert not any(np.shares_memory(given, made) for made in arrays_of(result))


@pytest.mark.parametrize("storage", STORAGE)
@pytest.mark.parametrize("name", CALLS)
def test_storage_of_the_inputs_changes_nothing(name: str, storage: str) -> None:
    """Bit for bit, unless named as up to rounding."""
    function, arguments = CALLS[name]
    changed = mapped(arguments, STORAGE[storage])
    if storage == "strided":
        dense = (array for array in changed if isinstance(array, np.ndarray) and array.size > 1)
        assert not any(array.flags.c_contiguous for array in dense)
    assert same_bits(changed, arguments) or "indices" in storage
    for array in arrays_of(changed):
        array.flags.writeable = False
    once, again = function(*arguments), function(*changed)
    if name in UP_TO_ROUNDING.get(storage, ()):
        assert_close(numbers(again), numbers(once), 1e-11)
    else:
        assert same_bits(again, once)


def leaves(value: Any) -> list:
    """What a result is made of: the parts of tuples and dicts, and of those in them."""
    parts = tuple(value.values()) if isinstance(value, dict) else value
    if not isinstance(parts, tuple):
        return [value]
    return [leaf for part in parts for leaf in leaves(part)]


def numbers(value: Any) -> tuple:
    """What is compared within rounding; an infinity must stay where it is, as -1 here."""
    parts = (part for part in leaves(value) if not isinstance(part, method.Settings))
    return tuple(np.nan_to_num(x, neginf=-1.0) if isinstance(x, np.ndarray) else x for x in parts)
