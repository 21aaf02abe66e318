"""The frozen cases: what an operation is given and what it must give, as data.

The expected values come from a second evaluation of the method, `tests/oracle`, in scalar loops of 50 digits that share no code
with `c2f_ref`; `python tests/oracle/build.py` writes the file that is read here. All numbers given fit into float32, so that a
case asks for the same answer in both precisions.
"""

from __future__ import annotations

import json
import math
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
RECORDED = ("recorded", "iterated", "mean")
PARTS = ("inputs", "expected", "allowed")
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
    """How results are judged: one of `COMPARATORS`, or of `RECORDED` where the official code's are expected; see `comparators`."""
    inputs: dict[str, Any]
    """Arguments in the order of the parameters: arrays, CSR matrices, numbers, `Settings`, `Triples`, `AdamState`."""
    expected: dict[str, Any]
    """Results in order, float64 or int64, dense or sparse; None is not compared."""
    allowed: dict[str, Array]
    """How far each entry of a result may be off, in units of eps; `candidates` and their `errors` where a row keeps its largest.
    Of recorded results only where they are `tied`, so that they may have changed places within their row."""

    @property
    def title(self) -> str:
        """What a failure calls it."""
        return f"{self.name}, {self.dtype}"

    def given(self) -> dict[str, Array]:
        """All inputs as plain arrays, those that are None left out."""
        return {name: array for name, array in flatten(self.inputs).items() if array is not None}


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
        for dtype in [dtype for dtype in dtypes if dtype in record["dtypes"]] if record["dtypes"] else dtypes[:1]:
            inputs, expected, allowed = (
                {name: place and _array(pools, *place) for name, place in record[part].items()} for part in PARTS
            )
            words = record["operation"], record["name"], dtype, record["comparator"]
            yield Case(*words, assemble(inputs, dtype), assemble(expected, "float64"), allowed)


def operations(dtypes: Iterable[str] = DTYPES) -> tuple[str, ...]:
    """Names of all operations that have cases in one of these precisions, in order."""
    chosen = (record for record in _stored()[0] if not record["dtypes"] or set(record["dtypes"]) & set(dtypes))
    return tuple(dict.fromkeys(record["operation"] for record in chosen))


@cache
def _stored() -> tuple[list[dict[str, Any]], dict[str, Array]]:
    with np.load(DATA, allow_pickle=False) as file:
        pools = dict(file)
    return json.loads(str(pools.pop("records"))), pools


def _array(pools: Mapping[str, Array], pool: str, start: int, shape: list[int]) -> Array:
    return pools[pool][start : start + math.prod(shape)].reshape(shape).copy()


def assemble(parts: Mapping[str, Array | None], dtype: str) -> dict[str, Any]:
    """Named values from the plain arrays of `flatten`; arrays of single floats take the precision of the case."""
    values: dict[str, Any] = {}
    for name, array in parts.items():
        whole, _, part = name.partition(".")
        value: Any = array.item() if array is not None and array.ndim == 0 else array
        if isinstance(value, np.ndarray) and value.dtype == np.float32:
            value = value.astype(dtype)
        if part:
            values.setdefault(whole, {})[part] = value
        else:
            values[whole] = value
    return {name: _record(value) if isinstance(value, dict) else value for name, value in values.items()}


def _record(parts: dict[str, Any]) -> Any:
    if tuple(parts) == CSR_PARTS:
        return sparse.csr_array((parts["data"], parts["indices"], parts["indptr"]), shape=tuple(parts["shape"].tolist()))
    return RECORDS.get(tuple(parts), Settings)(**parts)


def flatten(values: Mapping[str, Any]) -> dict[str, Array | None]:
    """Named values as plain arrays: a CSR matrix is `name.data`, `name.indices`, `name.indptr` and `name.shape`; settings, triples
    and Adam's state are one array for each field; None stays, but is left out of settings, where it is the default.
    """
    parts: dict[str, Any] = {}
    for name, value in values.items():
        if sparse.issparse(value):
            parts |= {f"{name}.{part}": getattr(value, part) for part in CSR_PARTS}
        elif isinstance(value, Settings):
            parts |= {f"{name}.{field}": number for field, number in vars(value).items() if number is not None}
        elif isinstance(value, (Triples, AdamState)):
            parts |= {f"{name}.{field}": part for field, part in value._asdict().items()}
        else:
            parts[name] = value
    return {name: None if part is None else np.asarray(part) for name, part in parts.items()}
