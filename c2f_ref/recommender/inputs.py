"""Data as the estimator takes it: pairs from arrays, frames and matrices, and validation pairs."""

from __future__ import annotations

from dataclasses import replace
from os import PathLike
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from ..interactions import DataError, Interactions, Split, rank_in_user, split_at, usual_places


def interactions_of(X: Any) -> Interactions:
    """The pairs that `X` stands for.

        Interactions           as they are
        SciPy sparse           users times items: a pair for every stored value but 0
        pandas, polars frame   columns of the usual names, such as user and item_id, or the only two
        tuple of two arrays    raw ids of users, and those of the items they chose
        two columns            an array or list of pairs of raw ids, integers or text
        any other array        a dense matrix, users times items, of at least two items

    Positions are the ids of a matrix.
    Edge: two columns of floats are a matrix, unless all are whole: such pairs are refused.
    Errors: DataError for anything else, and for ids that are neither integers nor text.
    """
    return _read(X)[0]


def interactions_within(known: Interactions, X: Any) -> Interactions:
    """The pairs that `X` stands for, with the ids of `known`; a matrix must have its shape.

    Errors: as `interactions_of`; DataError that names an unknown id, or for another shape.
    """
    pairs, is_matrix = _read(X)
    if is_matrix:
        expected, got = (known.n_users, known.n_items), (pairs.n_users, pairs.n_items)
        if got != expected:
            raise DataError(f"a matrix must have the shape of X, {expected}, got {got}")
        return replace(pairs, user_ids=known.user_ids, item_ids=known.item_ids)
    try:
        users = known.user_index(pairs.user_ids[pairs.users].tolist())
        items = known.item_index(pairs.item_ids[pairs.items].tolist())
    except DataError as e:
        raise DataError(f"{e}: validation and test pairs must be of users and items of X") from e
    n = pairs.n_duplicates
    return replace(known, users=users, items=items, timestamps=None, n_duplicates=n)


def split_for(pairs: Interactions, X_val: Any, seed: int) -> Split:
    """`pairs` for training with `X_val` for validation, or else a tenth of each user's pairs.

        n_valid = min(ceil(n / 10), n - 1)

    Edge: a user with a single pair keeps it for training.
    Errors: as `interactions_within`; DataError for a pair that is in both.
    """
    if X_val is not None:
        return held_out_from(pairs, valid=interactions_within(pairs, X_val))
    rng = np.random.default_rng(seed).spawn(4)[3]  # `train` draws from the first two streams
    rank, n = rank_in_user(pairs, rng.random(pairs.n_pairs))
    n_valid = np.minimum(-(-n // 10), n - 1)
    return split_at(pairs, rank, 0, n_valid, "a tenth of each user's pairs", seed)


def held_out_from(
    train: Interactions, valid: Interactions | None = None, test: Interactions | None = None
) -> Split:
    """A split of `train` and these held-out pairs. Errors: DataError for a pair in two of them."""
    none = train.select(np.zeros(train.n_pairs, dtype=np.bool_))
    return Split(train, valid or none, test or none, "given")


def _read(X: Any) -> tuple[Interactions, bool]:
    """The pairs of `interactions_of`, and whether `X` is a matrix."""
    if isinstance(X, Interactions):
        return X, False
    if sparse.issparse(X):
        return Interactions.from_csr(X), True
    if isinstance(X, (str, PathLike)):
        raise DataError(f"expected pairs, got a path; read_interactions({str(X)!r}) reads a file")
    if isinstance(X, tuple) and len(X) == 2 and all(isinstance(part, np.ndarray) for part in X):
        return Interactions.from_pairs(*X), False
    if hasattr(X, "columns"):
        return Interactions.from_pairs(*_frame_columns(X)), False
    # A list becomes an array of objects: NumPy would turn a number next to a text into text.
    array = np.asarray(X) if hasattr(X, "__array__") else np.array(X, dtype=object)
    if array.ndim == 2 and array.shape[1] == 2 and array.dtype.kind != "f":
        return Interactions.from_pairs(*array.T.tolist()), False
    return Interactions.from_csr(sparse.csr_array(_dense_matrix(array))), True


def _frame_columns(frame: Any) -> list[list[Any]]:
    """Users and items of a frame: the columns of the usual names, or the only two."""
    names = list(frame.columns)
    usual = [usual_places([str(name) for name in names], role) for role in ("user", "item")]
    chosen = [names[places[0]] for places in usual if len(places) == 1]
    chosen = chosen if len(chosen) == 2 else names
    if len(chosen) != 2 or len(set(names)) != len(names):
        raise DataError(f"a frame must have one user and one item column, got the columns {names}")
    return [frame[name].to_list() for name in chosen]


def _dense_matrix(array: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Values (U, I) of a dense matrix. Errors: DataError for what may be pairs, or no matrix."""
    if array.ndim != 2 or array.shape[1] < 2 or array.dtype.kind not in "biufO":
        came = f"{array.dtype} of shape {array.shape}"
        raise DataError(f"expected pairs, or a matrix of numbers, users times items, got {came}")
    if array.shape[1] == 3 and array.dtype.kind in "iuO":
        raise DataError("pairs have two columns, got three; a matrix of three items must be sparse")
    try:
        values = array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"a matrix must hold numbers: {error}") from error
    if array.shape[1] == 2 and (values == np.floor(values)).all():
        raise DataError("pairs must be integers or text, got floats; a matrix must be sparse")
    return values
