"""The small functions of the specification, compiled: without a plan, in the caller's order, fresh arrays out.

Results are float32 where every dense input is, float64 otherwise. What the specification leaves to NumPy and SciPy, that sizes fit
and indices are in range, is checked here: a kernel would read beyond its arrays.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from inspect import signature
from itertools import pairwise
from typing import Any, cast

import numpy as np
from scipy import sparse

from .. import spec
from ..spec import IntArray
from ..spec.notation import item_rows, require_indices, require_shape
from .batch import add_products, places_by_row
from .compile import Function, kernel
from .plan import FloatArray, Matrix


def own(*inputs: Any) -> list[Any]:
    """Inputs as the kernels take them: tables of one type, rows contiguous, and writable, so that each is compiled once.

    A sparse array becomes a `Matrix` of that type, and a NumPy number one of Python's, which decides on no type.
    """
    tables = [value for value in inputs if isinstance(value, np.ndarray)]
    dtype = np.float32 if all(table.dtype == np.float32 for table in tables) else np.float64

    def owned(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return np.require(value, dtype, ["C", "W"])
        if sparse.issparse(value):
            return Matrix(value, dtype)
        return value.item() if isinstance(value, np.generic) else value

    return [owned(value) for value in inputs]


def _compiled(formula: Function, require_fitting: Callable[..., None] = lambda *given: None) -> Function:
    """The function of the specification with compiled products: on `own` inputs, after a check that they fit."""

    @wraps(formula)
    def compiled(*arguments: Any, **named: Any) -> Any:
        given = signature(formula).bind(*arguments, **named).args
        require_fitting(*given)
        results = formula(*own(*given))
        # Where there are several, they are views of one table.
        return tuple(part.copy() for part in results) if isinstance(results, tuple) else results

    return cast(Function, compiled)


def _require_graph(graph: sparse.csr_array, *given: Any) -> None:
    """Raise SpecError unless the graph is on the rows of all tables, and assignments, if any, lead from each to the next."""
    sizes = [len(value) for value in given if isinstance(value, np.ndarray)]
    require_shape("graph", graph, (sum(sizes), sum(sizes)))
    assignments = [value for value in given if sparse.issparse(value)]
    names = "coarse_assignment", "fine_assignment"
    for name, assignment, shape in zip(names, assignments, pairwise(sizes), strict=False):
        require_shape(name, assignment, shape)


compose, compose_vjp = _compiled(spec.compose), _compiled(spec.compose_vjp)
bridge, bridge_vjp = _compiled(spec.bridge), _compiled(spec.bridge_vjp)
propagate_coarse = _compiled(spec.propagate_coarse, _require_graph)
propagate_coarse_vjp = _compiled(spec.propagate_coarse_vjp, _require_graph)
propagate_fine = _compiled(spec.propagate_fine, _require_graph)
propagate_fine_vjp = _compiled(spec.propagate_fine_vjp, _require_graph)


def soft_threshold(table: FloatArray, threshold: float) -> FloatArray:
    """As `c2f_ref.spec.soft_threshold`, in one pass; the threshold takes the type of the table."""
    (table,) = own(table)
    out = np.empty_like(table)
    _shrink(table.ravel(), table.dtype.type(threshold), out.ravel())
    return out


def soft_threshold_vjp(table: FloatArray, threshold: float, grad: FloatArray) -> FloatArray:
    """As `c2f_ref.spec.soft_threshold_vjp`, in one pass; the threshold takes the type of the table."""
    require_shape("grad", grad, table.shape)
    table, grad = own(table, grad)
    out = np.empty_like(table)
    _pass_outside(table.ravel(), table.dtype.type(threshold), grad.ravel(), out.ravel())
    return out


def score_pairs(
    entities: FloatArray, bias: FloatArray, offset: float, n_users: int, users: IntArray, items: IntArray
) -> FloatArray:
    """As `c2f_ref.spec.score_pairs`."""
    users, rows = _ends(entities, bias, n_users, users, items)
    entities, bias = own(entities, bias)
    scores: FloatArray = bias[users] + bias[rows] + bias.dtype.type(offset)
    add_products(entities, users, rows, None, scores)
    return scores


def score_pairs_vjp(
    entities: FloatArray, bias: FloatArray, offset: float, n_users: int, users: IntArray, items: IntArray, grad: FloatArray
) -> tuple[FloatArray, FloatArray, float]:
    """As `c2f_ref.spec.score_pairs_vjp`; an entity sums its places in their order, as a user first."""
    users, rows = _ends(entities, bias, n_users, users, items)
    require_shape("grad", grad, users.shape)
    entities, grad = own(entities, grad)
    incidence = places_by_row(np.concatenate([users, rows]), np.concatenate([grad, grad]), len(entities))
    # An entity's places lead to the other ends of its pairs.
    others = np.concatenate([rows, users])[incidence.indices]
    pairs = sparse.csr_array((incidence.data, others, incidence.indptr), shape=(len(entities), len(entities)))
    return Matrix(pairs, grad.dtype) @ entities, incidence.sum(axis=1), float(grad.sum(dtype=np.float64))


def _ends(entities: FloatArray, bias: FloatArray, n_users: int, users: IntArray, items: IntArray) -> tuple[IntArray, IntArray]:
    """Both ends of every pair as entities, int64, after the checks that a kernel needs: (users, rows)."""
    require_shape("bias", bias, (len(entities),))
    require_shape("items", items, users.shape)
    require_indices("users", users, n_users)
    require_indices("items", items, len(entities) - n_users)
    return np.array(users, dtype=np.int64), item_rows(n_users, items)


@kernel()
def _shrink(table: Any, threshold: Any, out: Any) -> None:
    """Entries of out: sign(x) max(|x| - threshold, 0); a NaN stays one."""
    for p in range(table.size):
        x = table[p]
        out[p] = 0.0 if abs(x) <= threshold else x - np.copysign(threshold, x)


@kernel()
def _pass_outside(table: Any, threshold: Any, grad: Any, out: Any) -> None:
    """Entries of out: those of `grad` where |x| > threshold, else 0."""
    for p in range(table.size):
        out[p] = grad[p] if abs(table[p]) > threshold else grad.dtype.type(0)
