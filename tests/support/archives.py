"""Container files made by `zipfile` from any parts, right or wrong: what `c2f_ref.container` writes, and what it must refuse."""

from __future__ import annotations

import hashlib
import io
import json
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

VERSIONS = {"c2f_ref": "0", "numpy": "0", "python": "0"}


def npy(descr: str, shape: tuple[int, ...], content: bytes) -> bytes:
    """A `.npy` file, version 1.0, padded to 64 bytes, whether content and description fit together or not."""
    text = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}, }}"
    text = text.ljust((10 + len(text) + 1 + 63) // 64 * 64 - 11) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode("latin1") + content


def npy_of(array: Any) -> bytes:
    """The `.npy` file of an array."""
    return npy(array.dtype.str, array.shape, array.tobytes())


def entry_of(name: str, array: Any) -> dict[str, Any]:
    """What the JSON says of an array."""
    digest = hashlib.sha256(array.tobytes()).hexdigest()
    return {"name": name, "shape": list(array.shape), "dtype": array.dtype.str, "sha256": digest}


def told_of(kind: Any, header: Any, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON of a container."""
    entries = [entry_of(name, array) for name, array in arrays.items()]
    return {"format": kind, "header": header, "versions": VERSIONS, "arrays": entries}


def shortest(told: Any) -> bytes:
    """JSON with keys in order and no spaces."""
    return json.dumps(told, sort_keys=True, separators=(",", ":")).encode()


def archive(members: Iterable[tuple[str, bytes]], *, compression: int = zipfile.ZIP_STORED, comment: bytes = b"") -> bytes:
    """A ZIP archive of these members, in this order, names twice if they are."""
    stream = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(stream, "w") as made:
        warnings.simplefilter("ignore")  # of names that are there twice
        made.comment = comment
        for name, content in members:
            info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            info.create_system, info.compress_type = 0, compression
            made.writestr(info, content)
    return stream.getvalue()


def container(told: Any, members: Iterable[tuple[str, bytes]], *, digest: bytes | None = None, **options: Any) -> bytes:
    """The archive of a JSON (a value, or bytes as they are), its hash, and `.npy` members by name."""
    text = told if isinstance(told, bytes) else shortest(told)
    digest = hashlib.sha256(text).digest() if digest is None else digest
    first = [("header", npy("|u1", (len(text),), text)), ("header_sha256", npy("|u1", (len(digest),), digest))]
    return archive([(f"{name}.npy", content) for name, content in [*first, *members]], **options)


def container_of(kind: Any, header: Any, arrays: Mapping[str, Any]) -> bytes:
    """A right container of these arrays."""
    return container(told_of(kind, header, arrays), [(name, npy_of(array)) for name, array in arrays.items()])


def arrays_of(content: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """The JSON and the arrays of a container, as NumPy reads it."""
    with np.load(io.BytesIO(content), allow_pickle=False) as members:
        arrays = {name: members[name] for name in members.files}
    told = json.loads(arrays.pop("header").tobytes())
    del arrays["header_sha256"]
    return told, arrays
