"""Evaluates the cases of `c2f_ref.conformance` anew: python tests/oracle/build.py

It keeps the inputs of the file, replaces all answers and all bounds, and writes the file again.
`add`, called from Python with `tests` on the path, puts a new case at the end of the file.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from c2f_ref.conformance.cases import DATA, PARTS, arrays_of, assemble, flatten, read
from oracle.answers import Frozen, evaluate, results_of

Inputs = dict[str, Any]


class Question(NamedTuple):
    """A case without its answers; `dtypes` are its precisions, none where no floats are given."""

    operation: str
    name: str
    comparator: str
    dtypes: Sequence[str]
    inputs: Inputs


class Pools:
    """Arrays end to end, one pool for each type of number; an array is stored once."""

    def __init__(self) -> None:
        self.parts: dict[str, list[Any]] = {}
        self.places: dict[Any, list[Any]] = {}

    def place(self, value: Any) -> list[Any] | None:
        """[pool, start, shape] of an array; None of None."""
        if value is None:
            return None
        array = np.asarray(value)
        pool = array.dtype.str[1:]
        key = (pool, array.shape, array.tobytes())
        if key not in self.places:
            parts = self.parts.setdefault(pool, [])
            self.places[key] = [pool, sum(part.size for part in parts), list(array.shape)]
            parts.append(array.ravel())
        return self.places[key]


def build(path: Path = DATA, *new: Question) -> int:
    """Evaluate the cases of a file and the new ones, write it, and return how many there are."""
    old, pools, records = read(path), Pools(), []
    titles = [[record[title] for title in Question._fields[:4]] for record in old[0]]
    inputs = [assemble(arrays_of(old[1], record["inputs"]), "float32") for record in old[0]]
    known = [Question(*title, given) for title, given in zip(titles, inputs, strict=True)]
    for question in [*known, *new]:
        expected, allowed = answered(question)
        parts = flatten(question.inputs), flatten(expected), allowed
        record = question._asdict()
        for part, arrays in zip(PARTS, parts, strict=True):
            record[part] = {name: pools.place(array) for name, array in arrays.items()}
        records.append(record)
    text = np.array(json.dumps(records, separators=(",", ":")))
    pooled = {pool: np.concatenate(parts) for pool, parts in sorted(pools.parts.items())}
    np.savez_compressed(path, records=text, **pooled)
    return len(records)


def add(case: Question, path: Path = DATA) -> int:
    """Add a case at the end of the file, and return how many there are.

    `name` says what is special about the numbers. `comparator` is one of those in
    `c2f_ref.conformance.judge`. `inputs` are in the order of the parameters, in the forms of
    `Case.inputs`. `dtypes` are both precisions, or the one that has an answer within 2 % of the
    largest entry (`tests/conformance` holds that); none if there is no array of floats.

    Errors: ValueError if the name is taken, or float32 does not hold a number of an array;
    ArithmeticError if rounding decides the answer: choose other numbers.
    """
    if any([r["operation"], r["name"]] == [case.operation, case.name] for r in read(path)[0]):
        raise ValueError(f"expected a new name, got {case.name!r}, a case of {case.operation}")
    return build(path, case._replace(inputs=in_single(case.inputs)))


def in_single(inputs: Inputs) -> Inputs:
    """The same inputs, arrays of floats in float32."""
    parts = flatten(inputs)
    for name, array in parts.items():
        if array is not None and array.ndim and array.dtype.kind == "f":
            parts[name] = array.astype(np.float32)
            if not np.array_equal(parts[name], array, equal_nan=True):
                raise ValueError(f"expected numbers that float32 holds, got others in {name}")
    return assemble(parts, "float32")


def answered(question: Question) -> Frozen:
    """Expected and allowed, from the inputs as the package will read them."""
    operation, _, comparator, dtypes, inputs = question
    if comparator == "drawn":
        return dict.fromkeys(results_of(operation)), {}
    dtypes = tuple(dtypes) or ("float64",)
    return evaluate(operation, comparator, assemble(flatten(inputs), dtypes[0]), dtypes)


if __name__ == "__main__":
    print(f"{DATA}: {build()} cases, {DATA.stat().st_size:,} bytes")
