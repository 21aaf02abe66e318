"""One `.npz` without pickle that holds a JSON header and named arrays: what model files and checkpoints are made of."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from .files import replacing

PARTS = ("data", "indices", "indptr", "shape")
"""Members of a sparse matrix, behind its name and a dot."""


class BundleError(ValueError):
    """A file that cannot be read or is not what it should be: which file, which member, and what was expected."""


def write_container(path: str | PathLike[str], kind: str, header: Mapping[str, Any], arrays: Mapping[str, Any]) -> None:
    """Write header and arrays to `path`: all of it, or nothing and the old file stays. Values of None are left out.

    Errors: OSError where the folder cannot be written; TypeError or ValueError for what no reader could read, a header that is
    no JSON or an array of Python objects.
    """
    members: dict[str, npt.NDArray[Any]] = {"header": np.array(json.dumps({"format": kind, **header}, sort_keys=True))}
    for name, value in arrays.items():
        if sparse.issparse(value):
            members |= {f"{name}.{part}": np.asarray(getattr(value, part)) for part in PARTS}
        elif value is not None:
            members[name] = np.asarray(value)
    for name, array in members.items():
        if array.dtype.hasobject:
            raise ValueError(f"{name}: must be plain numbers or text, got Python objects")
    with replacing(path) as file:
        np.savez(file, **members)  # type: ignore[arg-type]


def read_container(path: str | PathLike[str], kind: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and arrays that `write_container` wrote; sparse matrices are put together and checked.

    Errors: BundleError for anything that is not a container of this kind; OSError where there is no file.
    """
    content = Path(path).read_bytes()
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = {name.removesuffix(".npy"): _array(archive.read(name)) for name in archive.namelist()}
        header = json.loads(str(members.pop("header")))
        written = header.pop("format")
        if written != kind:
            raise BundleError(f"header: expected format {kind!r}, got {written!r}")
        names = {name.removesuffix(".shape") for name in members if name.endswith(".shape")}
        matrices = {name: _sparse(name, *(members.pop(f"{name}.{part}") for part in PARTS)) for name in names}
        return header, members | matrices
    except BundleError as error:
        raise BundleError(f"{path}: {error}") from error
    except KeyError as error:
        raise BundleError(f"{path}: {error} is missing") from error
    except Exception as error:  # zipfile, zlib, NumPy and SciPy have many types of error for damage, and document few
        raise BundleError(f"{path}: expected a file of format {kind!r}, cannot read it: {error!r}") from error


def _array(member: bytes) -> npt.NDArray[Any]:
    """The array of a member, which must end where the array does: its description may be damaged to ask for less."""
    stream = io.BytesIO(member)
    array: npt.NDArray[Any] = np.lib.format.read_array(stream, allow_pickle=False)
    if stream.tell() != len(member):
        raise ValueError(f"an array must take all {len(member)} bytes of its member, got one of {stream.tell()}")
    return array


def _sparse(name: str, data: Any, indices: Any, indptr: Any, shape: Any) -> sparse.csr_array:
    if not (indices.dtype.kind == indptr.dtype.kind == "i"):
        raise BundleError(f"{name}: indices must be integers, got {indices.dtype} and {indptr.dtype}")
    matrix = sparse.csr_array((data, indices, indptr), shape=tuple(int(size) for size in shape))
    matrix.check_format(full_check=True)
    return matrix
