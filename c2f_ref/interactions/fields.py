"""What may stand in the fields of interaction data: counts, positions, numbers and raw ids, each checked by its own function."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sized
from os import PathLike
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

RawId: TypeAlias = int | str | np.integer[Any] | np.str_
BoolArray: TypeAlias = npt.NDArray[np.bool_]
Float64Array: TypeAlias = npt.NDArray[np.float64]
IntArray: TypeAlias = npt.NDArray[np.int64]

LARGEST_COUNT = 2**31 - 1
"""Users or items at most, so that every position fits the int32 of sparse indices and of split files."""


class DataError(ValueError):
    """Interaction data that cannot be used: the message names the file, the line (from 1) and the token where there is one."""

    def __init__(
        self, message: str, *, path: str | PathLike[str] | None = None, line: int | None = None, token: str | bytes | None = None
    ) -> None:
        place = [str(path)] * (path is not None) + [f"line {line}"] * (line is not None)
        came = "" if token is None else f", got {token[:80]!r}"
        super().__init__(", ".join(place) + ": " * bool(place) + message + came)
        self.path, self.line, self.token = path, line, token


def require_same_length(name: str, values: Sized, n_pairs: int) -> None:
    """Raise DataError unless `values` holds one value per pair."""
    if len(values) != n_pairs:
        raise DataError(f"{name} must hold a value for each of the {n_pairs} pairs, got {len(values)}")


def is_whole(value: Any, least: int) -> bool:
    """Whether `value` is an integer, of Python or of NumPy, of at least `least`; True and False are none."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and bool(value >= least)


def as_count(name: str, value: Any) -> int:
    """Return `value` as an int in [0, LARGEST_COUNT], or raise DataError."""
    if not is_whole(value, 0) or value > LARGEST_COUNT:
        raise DataError(f"{name} must be an integer in [0, {LARGEST_COUNT}], got {value!r}")
    return int(value)


def as_positions(name: str, values: npt.ArrayLike, size: int) -> IntArray:
    """Return `values` (P,) as int64 positions in [0, size), or raise DataError that names the first that is not."""
    array = np.asarray(values)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise DataError(f"{name} must be one row of integers, got {array.dtype} of shape {array.shape}")
    outside = (array < 0) | (array >= size)
    if outside.any():
        raise DataError(f"{name} must be in [0, {size}), got {array[outside][0]}")
    return array.astype(np.int64, copy=False)


def as_numbers(name: str, values: npt.ArrayLike | None, n_pairs: int) -> Float64Array | None:
    """Return `values` (P,) as finite float64, or raise DataError that names the first that is not. None stays None."""
    if values is None:
        return None
    array = np.asarray(values)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iuf"):
        raise DataError(f"{name} must be one row of numbers, got {array.dtype} of shape {array.shape}")
    require_same_length(name, array, n_pairs)
    numbers = array.astype(np.float64, copy=False)
    if not np.isfinite(numbers).all():
        raise DataError(f"{name} must be finite, got {numbers[~np.isfinite(numbers)][0]}")
    return numbers


def raw_list(name: str, values: Iterable[Any]) -> list[Any]:
    """Return raw ids as a list, all ints of int64 range or all non-empty strings, or raise DataError.

    Edge: NumPy integers and strings pass as what they are; bools, floats, None and bytes do not.
    """
    if isinstance(values, (str, bytes)):
        raise DataError(f"{name} ids must be one for each pair, got the text {values[:80]!r}")
    listed: list[Any] = values.tolist() if isinstance(values, np.ndarray) else list(values)
    kinds = set(map(type, listed))
    if all(issubclass(kind, str) for kind in kinds):
        for raw in listed:
            if not raw or "\0" in raw:  # NumPy's string arrays cut a trailing NUL off
                raise DataError(f"{name} ids must not be empty nor hold NUL, got {raw!r}")
    elif all(issubclass(kind, (int, np.integer)) and kind is not bool for kind in kinds):
        for raw in (min(listed), max(listed)):
            if not -(2**63) <= raw < 2**63:
                raise DataError(f"{name} ids must be within int64, got {raw}")
    else:
        raise DataError(f"{name} ids must be all integers or all strings, got {', '.join(sorted(k.__name__ for k in kinds))}")
    return listed


def _id_array(listed: list[Any]) -> npt.NDArray[Any]:
    """Return the ids that `raw_list` let pass as an array: of strings, or of int64 (also when there are none)."""
    return np.array(listed, dtype=np.str_ if listed and isinstance(listed[0], str) else np.int64)


def as_ids(name: str, values: Iterable[Any] | None, size: int) -> npt.NDArray[Any]:
    """Return `size` unique raw ids as an array of strings or of int64, or raise DataError; None gives the positions."""
    if values is None:
        return np.arange(size, dtype=np.int64)
    listed = raw_list(name, values)
    if len(listed) != size:
        raise DataError(f"{name} ids must be {size}, one for each position, got {len(listed)}")
    if len(set(listed)) != size:
        raise DataError(f"{name} ids must be unique, got {Counter(listed).most_common(1)[0][0]!r} twice")
    return _id_array(listed)


def factorise(listed: list[Any]) -> tuple[npt.NDArray[Any], IntArray]:
    """Split P raw ids into the sorted unique ids and the position (P,) of each among them."""
    unique = sorted(set(listed))
    position = {raw: p for p, raw in enumerate(unique)}
    return _id_array(unique), np.array([position[raw] for raw in listed], dtype=np.int64)


def place_of(ids: npt.NDArray[Any]) -> dict[str, int]:
    """Map each raw id, as text, to its position: 7 and "7" are the same id."""
    return {str(raw): place for place, raw in enumerate(ids.tolist())}
