"""What the estimator is given: matrices, pairs and frames, as `Interactions`."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse
from sklearn.utils import check_array

from ..interactions import DataError, Interactions, Split, split_given
from ..interactions.checks import BoolArray

ONE_IN = 10
"""Of a user's pairs, one in so many is validation where no validation pairs are given."""


def interactions_of(X: Any) -> Interactions:
    """The pairs that `X` stands for.

        Interactions           as they are
        SciPy sparse           users times items: a pair for every stored value that is not 0; positions are the ids
        pandas, polars frame   columns `user` and `item` where there are both, else the first two
        two columns            an array or list of pairs of raw ids, integers or text
        any other array        users times items, of at least two items, as the sparse matrix of its values

    Edge: two columns of floats are a matrix; whole numbers alone are refused, as they are pairs that were read as floats.
    Errors: DataError for ids that are neither integers nor text; ValueError or TypeError, from scikit-learn's `check_array`, for
    what is no matrix of finite numbers.
    """
    if isinstance(X, Interactions):
        return X
    if sparse.issparse(X):
        return Interactions.from_csr(X)
    if hasattr(X, "columns"):
        return Interactions.from_pairs(*_frame_columns(X))
    array = _array_of(X)
    if _is_pairs(array):
        return Interactions.from_pairs(array[:, 0].tolist(), array[:, 1].tolist())
    values = check_array(array, ensure_min_features=2)
    if values.shape[1] == 2 and (values == np.floor(values)).all():
        raise DataError("pairs must be integers or text, got two columns of whole floats; a matrix of two items must be sparse")
    return Interactions.from_csr(sparse.csr_array(values))


def interactions_within(known: Interactions, X: Any) -> Interactions:
    """The pairs that `X` stands for, on the ids of `known`; a matrix must have its shape, and positions are positions.

    Errors: DataError that names the first id that `known` has not, or for a matrix of another shape; as `interactions_of`.
    """
    pairs = interactions_of(X)
    if _is_matrix(X):
        if (pairs.n_users, pairs.n_items) != (known.n_users, known.n_items):
            raise DataError(
                f"a matrix must have shape {(known.n_users, known.n_items)}, users and items of fit, "
                f"got {(pairs.n_users, pairs.n_items)}"
            )
        users, items = pairs.users, pairs.items
    else:
        users = known.user_index(pairs.user_ids[pairs.users].tolist())
        items = known.item_index(pairs.item_ids[pairs.items].tolist())
    return Interactions.from_indices(
        users, items, known.n_users, known.n_items, user_ids=known.user_ids, item_ids=known.item_ids, timestamps=pairs.timestamps
    )


def drawn_for_validation(pairs: Interactions, *, rng: np.random.Generator) -> BoolArray:
    """Which pairs are validation when no other are given: a tenth of each user's, rounded up, but never all.

        n_valid = min(ceil(n / 10), n - 1)

    Shapes: -> (P,) bool.
    Edge: a user with a single pair keeps it for training.
    """
    counts = np.bincount(pairs.users, minlength=pairs.n_users)
    n_valid = np.minimum(-(-counts // ONE_IN), counts - 1)
    # Pairs are ascending by user: so each user's are where they were, in a random order.
    shuffled = np.lexsort((rng.random(pairs.n_pairs), pairs.users))
    place_in_user = np.arange(pairs.n_pairs) - np.searchsorted(pairs.users, pairs.users)
    chosen = np.zeros(pairs.n_pairs, dtype=np.bool_)
    chosen[shuffled[place_in_user < n_valid[pairs.users]]] = True
    return chosen


def split_for(pairs: Interactions, X_val: Any, seed: int) -> Split:
    """`pairs` with `X_val` beside it as validation; without, or with scikit-learn's one-dimensional `y`, one drawn from `pairs`.

    Errors: as `interactions_within`; DataError for a pair that is in both.
    """
    if X_val is not None and np.ndim(X_val) != 1:
        return split_given(pairs, interactions_within(pairs, X_val), none_of(pairs))
    # A stream that neither `train` nor `train_from` draws from.
    in_valid = drawn_for_validation(pairs, rng=np.random.default_rng(seed).spawn(4)[3])
    return Split(pairs.select(~in_valid), pairs.select(in_valid), none_of(pairs), "a tenth of each user's pairs", seed)


def none_of(pairs: Interactions) -> Interactions:
    """No pair, on the same ids."""
    return pairs.select(np.zeros(pairs.n_pairs, dtype=np.bool_))


def _is_matrix(X: Any) -> bool:
    if isinstance(X, Interactions) or hasattr(X, "columns"):
        return False
    return sparse.issparse(X) or not _is_pairs(_array_of(X))


def _array_of(X: Any) -> npt.NDArray[Any]:
    """`X` as an array; of objects if it is a list, since NumPy would turn the numbers beside a text into text."""
    return np.asarray(X) if hasattr(X, "__array__") else np.array(X, dtype=object)


def _is_pairs(array: npt.NDArray[Any]) -> bool:
    return array.ndim == 2 and array.shape[1] == 2 and array.dtype.kind != "f"


def _frame_columns(frame: Any) -> tuple[list[Any], list[Any]]:
    names = list(frame.columns)
    if len(names) < 2:
        raise DataError(f"a frame must have a column of users and one of items, got the columns {names}")
    user, item = ("user", "item") if {"user", "item"} <= set(names) else names[:2]
    return frame[user].to_list(), frame[item].to_list()
