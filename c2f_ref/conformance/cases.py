"""The frozen cases: what an operation is given and what it must give, as data.

The expected values come from a second evaluation of the method, `tests/oracle`, in scalar loops of 50 digits that share no code
with `c2f_ref`; `python tests/oracle/build.py` writes the file that is read here. All numbers given fit into float32, so that a
case asks for the same answer in both precisions.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from ..spec import AdamState, Settings, Triples

Array = npt.NDArray[Any]

DATA = Path(__file__).with_name("cases.npz")
DTYPES = ("float64", "float32")
COMPARATORS = ("exact", "bounded", "kept", "ranked", "raises", "drawn")
CSR_PARTS = ("data", "indices", "indptr", "shape")
RECORDS: dict[tuple[str, ...], Any] = {Triples._fields: Triples, AdamState._fields: AdamState}


@dataclass(frozen=True, eq=False)
class Case:
    """One call of an operation, and what decides whether its results are right."""

    operation: str
    """Name of a function of `c2f_ref.spec`, or of a program of `calls`."""
    name: str
    """What is special about the numbers."""
    dtype: str
    """Precision of the tables, vectors and matrices that are given: float64 or float32."""
    comparator: str
    """How results are judged, one of `COMPARATORS`; see `comparators`."""
    inputs: dict[str, Any]
    """Arguments in the order of the parameters: arrays, CSR matrices, numbers, `Settings`, `Triples`, `AdamState`."""
    expected: dict[str, Any]
    """Results in order, float64 or int64, dense or sparse."""
    allowed: dict[str, Array]
    """How far each entry of a result may be off, in units of eps; `candidates` and their `errors` where a row keeps its largest."""


def cases(only: Iterable[str] = (), dtypes: Iterable[str] = DTYPES) -> Iterator[Case]:
    """Every case, in the reading order of the specification; arrays are the caller's own.

    `only`: names of operations, none for all of them. `dtypes`: precisions of what is given.
    """
    only, dtypes = set(only), tuple(dtypes)
    records, pools = _stored()
    for record in records:
        if only and record["operation"] not in only:
            continue
        # Without numbers that have a precision a case is the same in all of them.
        for dtype in dtypes if record["dtypes"] else dtypes[:1]:
            if dtype in record["dtypes"] or not record["dtypes"]:
                parts = {
                    part: {name: place and _array(pools, place) for name, place in record[part].items()}
                    for part in ("inputs", "expected", "allowed")
                }
                yield Case(
                    record["operation"],
                    record["name"],
                    dtype,
                    record["comparator"],
                    assemble(parts["inputs"], dtype),
                    assemble(parts["expected"], "float64"),
                    parts["allowed"],
                )


def operations(dtypes: Iterable[str] = DTYPES) -> tuple[str, ...]:
    """Names of all operations that have cases in one of these precisions, in order."""
    chosen = (record for record in _stored()[0] if not record["dtypes"] or set(record["dtypes"]) & set(dtypes))
    return tuple(dict.fromkeys(record["operation"] for record in chosen))


@cache
def _stored() -> tuple[list[dict[str, Any]], dict[str, Array]]:
    with np.load(DATA, allow_pickle=False) as file:
        pools = {name: file[name] for name in file.files}
    return json.loads(str(pools.pop("records"))), pools


def _array(pools: Mapping[str, Array], place: list[Any]) -> Array:
    pool, start, shape = place
    size = int(np.prod(shape, dtype=np.int64))
    return pools[pool][start : start + size].reshape(shape).copy()


def assemble(parts: Mapping[str, Array | None], dtype: str) -> dict[str, Any]:
    """Named values from the plain arrays of `flatten`; arrays of single floats take the precision of the case."""
    values: dict[str, Any] = {}
    for name, array in parts.items():
        whole, _, part = name.partition(".")
        value = array if array is None else array.item() if array.ndim == 0 else _in_precision(array, dtype)
        if part:
            values.setdefault(whole, {})[part] = value
        else:
            values[whole] = value
    return {name: _record(name, value) if isinstance(value, dict) else value for name, value in values.items()}


def _in_precision(array: Array, dtype: str) -> Array:
    return array.astype(dtype) if array.dtype == np.float32 else array


def _record(name: str, parts: dict[str, Any]) -> Any:
    if tuple(parts) == CSR_PARTS:
        return sparse.csr_array((parts["data"], parts["indices"], parts["indptr"]), shape=tuple(parts["shape"].tolist()))
    return RECORDS[tuple(parts)](**parts) if tuple(parts) in RECORDS else Settings(**parts)


def flatten(values: Mapping[str, Any]) -> dict[str, Array | None]:
    """Named values as plain arrays: a CSR matrix is `name.data`, `name.indices`, `name.indptr` and `name.shape`; settings, triples
    and Adam's state are one array for each field; None stays, but is left out of settings, where it is the default.
    """
    parts: dict[str, Array | None] = {}
    for name, value in values.items():
        if sparse.issparse(value):
            parts |= {f"{name}.{part}": np.asarray(getattr(value, part)) for part in CSR_PARTS}
        elif isinstance(value, Settings):
            fields = {f"{name}.{field}": number for field, number in vars(value).items()}
            parts |= {field: np.asarray(number) for field, number in fields.items() if number is not None}
        elif isinstance(value, tuple):
            parts |= flatten({f"{name}.{field}": part for field, part in value._asdict().items()})  # type: ignore[attr-defined]
        else:
            parts[name] = None if value is None else np.asarray(value)
    return parts
