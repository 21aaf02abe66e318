"""Writes the cases of `c2f_ref.conformance`: python tests/oracle/build.py

It draws the inputs, evaluates them, and freezes both. `test_frozen.py` evaluates what the file holds again.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from c2f_ref.conformance.cases import DATA, assemble, flatten
from oracle.answers import SPACING, evaluate, results_of
from oracle.draws import ONLY, drawn


class Pools:
    """Arrays end to end, one pool for each type of number; an array that is there already is not stored again."""

    def __init__(self) -> None:
        self.parts: dict[str, list[Any]] = {}
        self.sizes: dict[str, int] = {}
        self.places: dict[Any, list[Any]] = {}

    def place(self, array: Any) -> list[Any]:
        """[pool, start, shape] of the array."""
        pool = array.dtype.str[1:]
        key = (pool, array.shape, array.tobytes())
        if key not in self.places:
            start = self.sizes.get(pool, 0)
            self.parts.setdefault(pool, []).append(array.ravel())
            self.sizes[pool] = start + array.size
            self.places[key] = [pool, start, list(array.shape)]
        return self.places[key]


def useful(expected: dict[str, Any], allowed: dict[str, Any]) -> bool:
    """Whether float32 can get within 2 % of the largest entry of every result."""
    errors = allowed if "errors" not in allowed else {"candidates": allowed["errors"]}
    values = expected if "errors" not in allowed else {"candidates": allowed["candidates"]}
    for name, error in errors.items():
        sizes = np.abs(np.where(np.isfinite(values[name]), values[name], 0.0))
        if SPACING["float32"] * np.max(error, initial=0.0) > 0.02 * np.max(sizes, initial=0.0):
            return False
    return True


def frozen(
    operation: str, name: str, comparator: str, inputs: dict[str, Any]
) -> tuple[tuple[str, ...], dict[str, Any], dict[str, Any]]:
    """(precisions, expected, allowed) of a case; no precision where nothing that is given has one."""
    both = ("float64", "float32")
    if not any(array is not None and array.dtype == np.float32 and array.size for array in flatten(inputs).values()):
        return (), *evaluate(operation, comparator, inputs, ("float64",))
    only = next((precision for ending, precision in ONLY.items() if name.endswith(ending)), None)
    inputs = assemble(flatten(inputs), only or "float64")  # as the package will read it
    if only:
        return (only,), *evaluate(operation, comparator, inputs, (only,))
    try:
        expected, allowed = evaluate(operation, comparator, inputs, both)
        if useful(expected, allowed):
            return both, expected, allowed
        reason = "too far off"
    except ArithmeticError as error:
        reason = str(error)
    print(f"{operation}, {name}: float64 alone, in float32 {reason}")
    return ("float64",), *evaluate(operation, comparator, inputs, ("float64",))


def main() -> None:
    """Draw, evaluate, write."""
    records, pools = [], Pools()
    for operation, name, comparator, inputs in drawn():
        dtypes, expected, allowed = frozen(operation, name, comparator, inputs)
        parts = {
            "inputs": flatten(inputs),
            "expected": flatten(expected or dict.fromkeys(results_of(operation) if comparator == "drawn" else ())),
            "allowed": {key: np.asarray(value) for key, value in allowed.items()},
        }
        places = {
            part: {key: None if array is None else pools.place(np.asarray(array)) for key, array in own.items()}
            for part, own in parts.items()
        }
        records.append({"operation": operation, "name": name, "comparator": comparator, "dtypes": dtypes} | places)
    text = np.array(json.dumps(records, separators=(",", ":")))
    np.savez_compressed(DATA, records=text, **{pool: np.concatenate(parts) for pool, parts in sorted(pools.parts.items())})
    print(f"{DATA}: {len(records)} cases, {DATA.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
