"""What serving takes in bytes: the formulas that a budget is held against."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from typing import NamedTuple

from ..container import BundleError, Member, read_header
from ..stored import FORMAT, Array, StoredModel

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
    """A request that the device cannot answer: what was expected, what came."""


class MemoryBudgetError(DeviceError):
    """A budget that is too small. `least` is the smallest number of bytes that is enough."""

    def __init__(self, least: int, budget: int) -> None:
        super().__init__(f"memory_budget must be at least {least:,} bytes for this model and request, got {budget:,}")
        self.least = least


class Sizes(NamedTuple):
    """The numbers that memory depends on: bytes of all arrays of a model, those of an item id, U, I, C, D, t, and F and k or 0."""

    n_bytes: int
    id_bytes: int
    n_users: int
    n_items: int
    n_coarse: int
    dim: int
    coarse_per_entity: int
    n_fine: int
    fine_per_coarse: int


def sizes_of(stored: StoredModel) -> Sizes:
    """Sizes of a model in memory."""
    return _sizes(stored.arrays())


def sizes_in_file(path: str | PathLike[str]) -> Sizes:
    """Sizes of a stored model, from the header of its file: no array is read, and nothing is checked but that header.

    Errors: BundleError for a file that is no model; OSError where there is none.
    """
    _, members = read_header(path, FORMAT)
    try:
        return _sizes({member.name: member for member in members})
    except (KeyError, IndexError, ValueError) as error:
        raise BundleError(f"{path}: header: expected the arrays of a model: {error!r}") from error


def _sizes(arrays: Mapping[str, Array | Member]) -> Sizes:
    """Sizes of a model from its arrays, or from what its file says of them.

    Errors: KeyError, IndexError or ValueError for what is no model.
    """
    shapes = {name: array.shape for name, array in arrays.items()}
    (n_users,), (n_items,), (n_coarse, dim) = shapes["user_ids"], shapes["item_ids"], shapes["coarse"]
    n_fine = fine_per_coarse = 0
    if "fine_assignment.values" in shapes:
        fine_per_coarse = shapes["fine_assignment.values"][1]
        n_fine = shapes["fine"][0] if "fine" in shapes else shapes["fine.starts"][0] - 1
    n_bytes, id_bytes = sum(array.nbytes for array in arrays.values()), arrays["item_ids"].nbytes // max(n_items, 1)
    coarse_per_entity = shapes["coarse_assignment.values"][1]
    return Sizes(n_bytes, id_bytes, n_users, n_items, n_coarse, dim, coarse_per_entity, n_fine, fine_per_coarse)


def loading_bytes(file_bytes: int) -> int:
    """The least budget for reading a file of so many bytes: OVERHEAD + LOADS file."""
    return OVERHEAD + LOADS * file_bytes


def serving_bytes(sizes: Sizes, n_users: int = 1, n_results: int = 1) -> int:
    """The least budget for a request of so many users and results each, which keeps no column and answers one user at a time.

        OVERHEAD + all arrays of the model
        + 8 (N + t N + U + C k + F D)                                   what a pass starts from
        + 8 VECTORS_PER_PASS (N + C + F) + 16 F D                       a pass, or the ranking after it
        + 8 I                                                           scores of a user
        + max(RETURNED, users (24 + results (16 + bytes of an item id)))

    On top of that come 4 N bytes for every column that is kept and 8 I for every further user at once.
    """
    n_entities, n_entries = sizes.n_users + sizes.n_items, sizes.n_fine * sizes.dim
    per_entity = n_entities * (1 + sizes.coarse_per_entity) + sizes.n_users
    start = 8 * (per_entity + sizes.n_coarse * sizes.fine_per_coarse + n_entries)
    forward = 8 * VECTORS_PER_PASS * (n_entities + sizes.n_coarse + sizes.n_fine) + 16 * n_entries
    returned = max(RETURNED, n_users * (24 + n_results * (16 + sizes.id_bytes)))
    return OVERHEAD + sizes.n_bytes + start + forward + 8 * sizes.n_items + returned


def allot(sizes: Sizes, budget: int, n_users: int, n_results: int) -> tuple[int, int]:
    """Spend a budget on a request: how many users are answered at once, and columns of the embeddings kept for the next one.

    On keeping every column if there is room, else half on that and half on users at once, who share a pass.

    Errors: MemoryBudgetError where not even `serving_bytes` fit.
    """
    room = budget - serving_bytes(sizes, n_users, n_results)
    if room < 0:
        raise MemoryBudgetError(budget - room, budget)
    column, user = 4 * (sizes.n_users + sizes.n_items), 8 * sizes.n_items
    spare = room - sizes.dim * column if room >= sizes.dim * column else room // 2
    users_at_once = min(max(n_users, 1), 1 + spare // max(user, 1))
    return users_at_once, min(sizes.dim, (room - (users_at_once - 1) * user) // max(column, 1))
