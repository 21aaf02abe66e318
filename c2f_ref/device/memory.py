"""What serving takes in bytes: the formulas that a budget is held against."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from numbers import Integral
from os import PathLike
from typing import NamedTuple

from ..container import BundleError, Member, read_header
from ..stored import FORMAT, Array

DEFAULT_BUDGET = 56 * 2**20
"""Bytes. With Python and NumPy themselves, about 35 MiB, they keep a process below 96 MiB."""
OVERHEAD = 2**18
"""Bytes for Python's own objects: settings, names, views of arrays, the header of a file."""
RETURNED = 2**17
"""Bytes for answers that every budget has room for; longer ones are counted."""
VECTORS_PER_PASS = 12
"""Vectors of N numbers, 8 bytes each, that are alive at once in a pass or in its preparation, at most: the sum of layers, the layer
before and the new one, what is sent, a block of at most N pairs and the one before it, and what is made of a block."""
LOADS = 3
"""A file is read into arrays of its size; the checks of its content take up to twice as much beside them."""


class DeviceError(ValueError):
    """A budget or a request that the device cannot take: what was expected, what came."""


class MemoryBudgetError(DeviceError):
    """A budget that is too small. `least` is the smallest number of bytes that is enough."""

    def __init__(self, least: int, budget: int) -> None:
        super().__init__(f"memory_budget must be at least {least:,} bytes for this model and request, got {budget:,}")
        self.least = least


class Sizes(NamedTuple):
    """What memory depends on: bytes of all arrays of a model and of an item id; U, I, C, F, D; entries of both assignments.

    A model of the coarse stage alone has F = 0.
    """

    n_bytes: int
    id_bytes: int
    n_users: int
    n_items: int
    n_coarse: int
    n_fine: int
    dim: int
    n_assigned: int


def sizes_of(arrays: Mapping[str, Array | Member]) -> Sizes:
    """Sizes of a model from its arrays by name, or from what its file says of them.

    Errors: KeyError, IndexError or ValueError for what is no model.
    """
    shapes = {name: array.shape for name, array in arrays.items()}
    (n_users,), (n_items,), (n_coarse, dim) = shapes["user_ids"], shapes["item_ids"], shapes["coarse"]
    n_fine = shapes["fine"][0] if "fine" in shapes else shapes.get("fine.starts", (1,))[0] - 1
    n_assigned = sum(math.prod(shape) for name, shape in shapes.items() if name.endswith("_assignment.values"))
    n_bytes, id_bytes = sum(array.nbytes for array in arrays.values()), arrays["item_ids"].nbytes // max(n_items, 1)
    return Sizes(n_bytes, id_bytes, n_users, n_items, n_coarse, n_fine, dim, n_assigned)


def loading_bytes(path: str | PathLike[str]) -> int:
    """The least budget for a model file: for reading it, OVERHEAD + LOADS file, or for a request, whichever is larger.

    From the header of the file: no array is read, and nothing is checked but that header.

    Errors: BundleError for a file that is no model; OSError where there is none.
    """
    _, members = read_header(path, FORMAT)
    try:
        sizes = sizes_of({member.name: member for member in members})
    except (KeyError, IndexError, ValueError) as error:
        raise BundleError(f"{path}: header: expected the arrays of a model: {error!r}") from error
    return max(OVERHEAD + LOADS * os.stat(path).st_size, serving_bytes(sizes))


def serving_bytes(sizes: Sizes, n_users: int = 1, n_results: int = 1) -> int:
    """The least budget for a request of so many users and results each, which keeps no column and answers one user at a time.

        OVERHEAD + all arrays of the model
        + 8 (N + entries of S_c and S_f + U + F D)                      what a pass starts from
        + 8 VECTORS_PER_PASS (N + C + F) + 16 F D                       a pass, or the ranking after it
        + 8 I                                                           scores of a user
        + max(RETURNED, users (24 + results (16 + bytes of an item id)))

    On top of that come 4 N bytes for every column that is kept and 8 I for every further user at once.
    """
    n_entities, n_entries = sizes.n_users + sizes.n_items, sizes.n_fine * sizes.dim
    start = 8 * (n_entities + sizes.n_assigned + sizes.n_users + n_entries)
    forward = 8 * VECTORS_PER_PASS * (n_entities + sizes.n_coarse + sizes.n_fine) + 16 * n_entries
    returned = max(RETURNED, n_users * (24 + n_results * (16 + sizes.id_bytes)))
    return OVERHEAD + sizes.n_bytes + start + forward + 8 * sizes.n_items + returned


def require_budget(least: int, budget: int) -> None:
    """Raise DeviceError for a budget that is no whole number of bytes, MemoryBudgetError for one below `least`."""
    if not isinstance(budget, Integral):
        raise DeviceError(f"memory_budget must be a whole number of bytes, got {budget!r}")
    if budget < least:
        raise MemoryBudgetError(least, budget)


def allot(sizes: Sizes, budget: int, n_users: int, n_results: int) -> tuple[int, int]:
    """Spend a budget on a request: how many users are answered at once, and columns of the embeddings kept for the next one.

    On keeping every column if there is room, else half on that and half on users at once, who share a pass.

    Errors: as `require_budget`, where not even `serving_bytes` fit.
    """
    least = serving_bytes(sizes, n_users, n_results)
    require_budget(least, budget)
    room = budget - least
    column, user = 4 * (sizes.n_users + sizes.n_items), 8 * sizes.n_items
    spare = room - sizes.dim * column if room >= sizes.dim * column else room // 2
    users_at_once = min(max(n_users, 1), 1 + spare // max(user, 1))
    return users_at_once, min(sizes.dim, (room - (users_at_once - 1) * user) // max(column, 1))
