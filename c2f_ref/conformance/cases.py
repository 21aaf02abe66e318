"""The cases as data: what an operation is given and what it must return.

Expected values come from a second evaluation of the method (`tests/oracle`): scalar loops with 50
digits that share no code with `c2f_ref`. `python tests/oracle/build.py` writes the file that is
read here. Every given number fits into float32, so a case asks for the same answer in both
precisions.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

from ..method import AdamState, Settings, Triples

Array = np.ndarray[Any, np.dtype[Any]]

DATA = Path(__file__).with_name("cases.npz")
DTYPES = ("float64", "float32")
PARTS = ("inputs", "expected", "allowed")
CSR_PARTS = ("data", "indices", "indptr", "shape")
RECORDS: dict[tuple[str, ...], Any] = {kind._fields: kind for kind in (Triples, AdamState)}


class Case(NamedTuple):
    """One call of an operation, and what decides whether its results are right."""

    operation: str
    """Name of a function of `c2f_ref.method` or `c2f_ref.partition`, or "coarse_steps" or
    "fine_steps": ten training steps of a stage."""
    name: str
    """What is special about the numbers."""
    dtype: str
    """Precision of the tables, vectors and matrices that are given: float64 or float32."""
    comparator: str
    """How results are judged: exact, bounded, kept, ranked, raises or drawn; see `judge`."""
    inputs: dict[str, Any]
    """Arguments in the order of the parameters: arrays, sparse arrays in CSR form, numbers,
    `Settings`, `Triples`, `AdamState`."""
    expected: dict[str, Any]
    """Results in order, float64 or int64, dense or sparse; None is not compared."""
    allowed: dict[str, Array]
    """Error bound of each entry of a result, in units of eps; where a row keeps its largest
    entries, all `candidates` and their `errors`."""


def cases(only: Iterable[str] = (), dtypes: Sequence[str] = DTYPES) -> Iterator[Case]:
    """All cases in the reading order of the method, each with fresh arrays.

    `only`: names of operations, all if empty. `dtypes`: precisions of what is given.
    """
    only, (records, pools) = set(only), _stored()
    for record in records:
        for dtype in _precisions(record, dtypes) if not only or record["operation"] in only else ():
            inputs, expected, allowed = (arrays_of(pools, record[part]) for part in PARTS)
            title = record["operation"], record["name"], dtype, record["comparator"]
            yield Case(*title, assemble(inputs, dtype), assemble(expected, "float64"), allowed)


def operations(dtypes: Sequence[str] = DTYPES) -> tuple[str, ...]:
    """Names of the operations that have cases in one of these precisions, in order."""
    return tuple(dict.fromkeys(r["operation"] for r in _stored()[0] if _precisions(r, dtypes)))


def _precisions(record: Mapping[str, Any], dtypes: Sequence[str]) -> Sequence[str]:
    # A case that is given no floats is the same in every precision and is asked once.
    return [dtype for dtype in dtypes if dtype in (record["dtypes"] or dtypes[:1])]


@cache
def _stored() -> tuple[list[dict[str, Any]], dict[str, Array]]:
    return read(DATA)


def read(path: Path) -> tuple[list[dict[str, Any]], dict[str, Array]]:
    """Records of a file of cases, and the pools of numbers that they point into."""
    with np.load(path, allow_pickle=False) as file:
        pools = dict(file)
    return json.loads(str(pools.pop("records"))), pools


def arrays_of(pools: Mapping[str, Array], places: Mapping[str, Any]) -> dict[str, Any]:
    """Fresh arrays at these places; None where there is no place."""

    def array(pool: str, start: int, shape: list[int]) -> Array:
        return pools[pool][start : start + math.prod(shape)].reshape(shape).copy()

    return {name: place and array(*place) for name, place in places.items()}


def assemble(parts: Mapping[str, Array | None], dtype: str) -> dict[str, Any]:
    """The inverse of `flatten`; float32 arrays get the precision of the case."""
    values: dict[str, dict[str, Any]] = {}
    for name, array in parts.items():
        whole, _, field = name.partition(".")
        value: Any = array.item() if array is not None and array.ndim == 0 else array
        if isinstance(value, np.ndarray) and value.dtype == np.float32:
            value = value.astype(dtype)
        values.setdefault(whole, {})[field] = value
    return {name: _whole(fields) for name, fields in values.items()}


def _whole(fields: dict[str, Any]) -> Any:
    if "" in fields:
        return fields[""]
    if tuple(fields) == CSR_PARTS:
        *arrays, shape = fields.values()
        return sparse.csr_array(tuple(arrays), shape=tuple(shape.tolist()))
    return RECORDS.get(tuple(fields), Settings)(**fields)


def flatten(values: Mapping[str, Any]) -> dict[str, Array | None]:
    """Named values as plain arrays; None stays None.

    A sparse array becomes `name.data`, `name.indices`, `name.indptr` and `name.shape`; settings,
    triples and the state of Adam become one array for each field. A setting that is None is left
    out, since that is its default.
    """
    parts: dict[str, Array | None] = {}
    for name, value in values.items():
        for field, part in _fields(value).items():
            key = f"{name}.{field}" if field else name
            parts[key] = None if part is None else np.asarray(part)
    return parts


def _fields(value: Any) -> dict[str, Any]:
    if sparse.issparse(value):
        return {part: getattr(value, part) for part in CSR_PARTS}
    if isinstance(value, Settings):
        return {field: number for field, number in vars(value).items() if number is not None}
    return value._asdict() if isinstance(value, (Triples, AdamState)) else {"": value}
