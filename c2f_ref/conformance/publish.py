"""The cases as files, for programs in any language: one manifest, and every array once."""

from __future__ import annotations

import hashlib
import io
import json
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from .cases import PARTS, Array, cases, flatten

FORMAT = "c2f-ref vectors 1"
HOW_TO_READ = {
    "inputs": "in order of the parameters; arrays are named as the files that a command reads",
    "eps": "2^-52 for float64, 2^-23 for float32: of the case's dtype or of the result's, whichever is coarser",
    "exact": "results are equal, in float32 too",
    "bounded": "|result - expected| <= eps * allowed, entry by entry; equal where nothing is allowed",
    "kept": "a row keeps its k largest candidates, each within eps * errors; the rest is 0; others only where rounding cannot tell",
    "ranked": "lists of the best candidates, falling, each within eps * errors; others only where rounding cannot tell",
    "raises": "the input is refused",
    "drawn": "results are random; what must be true of them is in the docstring of the function",
}


def write_vectors(folder: str | PathLike[str]) -> int:
    """Write every case to `folder`, the same bytes every time, and return how many there are.

    `manifest.json` lists the cases; their arrays are files `arrays/<name>.npy`, each listed once with its shape, dtype and sha256.

    Errors: OSError where the folder cannot be written.
    """
    arrays = Path(folder) / "arrays"
    arrays.mkdir(parents=True, exist_ok=True)
    known: dict[str, dict[str, Any]] = {}

    def file_of(array: Array) -> str:
        stream = io.BytesIO()
        np.save(stream, array, allow_pickle=False)
        digest = hashlib.sha256(stream.getvalue()).hexdigest()
        name = digest[:12]
        if name not in known:
            (arrays / f"{name}.npy").write_bytes(stream.getvalue())
            known[name] = {"shape": list(array.shape), "dtype": array.dtype.str, "sha256": digest}
        return name

    entries = []
    for case in cases():
        entry = {name: getattr(case, name) for name in ("operation", "name", "dtype", "comparator")}
        for part in PARTS:
            arrays_of_part = flatten(getattr(case, part)).items()
            entry[part] = {name: None if array is None else file_of(array) for name, array in arrays_of_part}
        entries.append(entry)
    manifest = {"format": FORMAT, "how_to_read": HOW_TO_READ, "cases": entries, "arrays": dict(sorted(known.items()))}
    (Path(folder) / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    return len(entries)
