"""What the estimator is given: data, as `Interactions`; a recipe, an implementation, a seed, and how a model file keeps them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, replace
from importlib import import_module
from os import PathLike
from types import ModuleType
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.utils import check_array

from ..container import BundleError
from ..interactions import DataError, Interactions, Split, split_given
from ..interactions.fields import is_whole
from ..interactions.formats import usual_places
from ..interactions.splits import rank_in_user, split_at
from ..spec import CONTRACT, SettingsError, SpecError
from ..training import RECIPES, Recipe, Schedule, default_ops

ONE_IN = 10
"""Of a user's pairs, one in so many is validation where no validation pairs are given."""
PROVENANCE = "estimator"
"""Under which name a model's provenance keeps what an estimator is made from again."""


def interactions_of(X: Any) -> Interactions:
    """The pairs that `X` stands for.

        Interactions           as they are
        SciPy sparse           users times items: a pair for every stored value that is not 0; positions are the ids
        pandas, polars frame   columns of the usual names, such as `user` and `item_id`; where there are but two, these
        a tuple of two arrays  raw ids of users, and of as many items
        two columns            an array or list of pairs of raw ids, integers or text
        any other array        users times items, of at least two items, as the sparse matrix of its values

    Edge: two columns of floats are a matrix; whole numbers alone are refused, as they are pairs that were read as floats.
    Errors: DataError for ids that are neither integers nor text; ValueError or TypeError, from scikit-learn's `check_array`, for
    what is no matrix of finite numbers.
    """
    return _read(X)[0]


def interactions_within(known: Interactions, X: Any) -> Interactions:
    """The pairs that `X` stands for, on the ids of `known`; a matrix must have its shape, and positions are positions.

    Errors: DataError that names the first id that `known` has not, or for a matrix of another shape; as `interactions_of`.
    """
    pairs, is_matrix = _read(X)
    if is_matrix:
        expected, got = (known.n_users, known.n_items), (pairs.n_users, pairs.n_items)
        if got != expected:
            raise DataError(f"a matrix must have shape {expected}, users and items of fit, got {got}")
        return replace(pairs, user_ids=known.user_ids, item_ids=known.item_ids)
    try:
        users = known.user_index(pairs.user_ids[pairs.users].tolist())
        items = known.item_index(pairs.item_ids[pairs.items].tolist())
    except DataError as error:
        raise DataError(f"{error}: pairs to choose or judge a model by must be of users and items that fit was given") from error
    return replace(known, users=users, items=items, timestamps=pairs.timestamps, n_duplicates=pairs.n_duplicates)


def split_for(pairs: Interactions, X_val: Any, seed: int) -> Split:
    """`pairs` with `X_val` beside it as validation; without, or with scikit-learn's one-dimensional `y`, one drawn from `pairs`.

    Errors: as `interactions_within`; DataError for a pair that is in both, or for an empty list.
    """
    if X_val is None:
        return drawn_for_validation(pairs, seed)
    if not _are_two_rows(X_val) and np.ndim(X_val) == 1:
        if len(X_val) == 0:
            raise DataError("X_val must hold pairs, got none; leave it out, and some of X are drawn")
        return drawn_for_validation(pairs, seed)
    return split_given(pairs, interactions_within(pairs, X_val), none_of(pairs))


def drawn_for_validation(pairs: Interactions, seed: int) -> Split:
    """A tenth of each user's pairs, rounded up, but never all, as validation, and no test pairs.

        n_valid = min(ceil(n / 10), n - 1)

    Edge: a user with a single pair keeps it for training.
    """
    rng = np.random.default_rng(seed).spawn(4)[3]  # a stream that neither `train` nor `train_from` draws from
    rank, n = rank_in_user(pairs, rng.random(pairs.n_pairs))
    return split_at(pairs, rank, 0, np.minimum(-(-n // ONE_IN), n - 1), "a tenth of each user's pairs", seed)


def none_of(pairs: Interactions) -> Interactions:
    """No pair, on the same ids."""
    return pairs.select(np.zeros(pairs.n_pairs, dtype=np.bool_))


def recipe_named(recipe: Any) -> Recipe:
    """A recipe as it is, or the one of this name. Errors: SettingsError for a name that no recipe has."""
    if isinstance(recipe, Recipe):
        return recipe
    if not isinstance(recipe, str) or recipe not in RECIPES:
        raise SettingsError(f"recipe must be a Recipe or one of {', '.join(RECIPES)}, got {recipe!r}")
    return RECIPES[recipe]


def implementation_named(name: str | None) -> ModuleType:
    """The module of this dotted name, which must have the names of `c2f_ref.spec.CONTRACT`; None: `c2f_ref.fast`.

    Errors: ModuleNotFoundError where there is none; SettingsError for one that lacks a name, and for what is no name of a module.
    """
    if name is None:
        return default_ops()
    if not isinstance(name, str) or not name or name.startswith("."):
        raise SettingsError(f"implementation must be the dotted name of a module, got {name!r}")
    module = import_module(name)
    missing = [wanted for wanted in CONTRACT if not hasattr(module, wanted)]
    if missing:
        raise SettingsError(f"implementation must have the names of c2f_ref.spec.CONTRACT, {name} has no {', '.join(missing)}")
    return module


def seed_of(random_state: Any) -> int:
    """The seed that `random_state` stands for: an int is one; a generator of NumPy draws one; None takes a fresh one.

    Errors: SettingsError for anything else. The global generator is never asked.
    """
    if random_state is None:
        return int(np.random.SeedSequence().generate_state(1)[0])
    if isinstance(random_state, np.random.Generator):
        return int(random_state.integers(2**32))
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(2**32, dtype=np.int64))
    if not is_whole(random_state, 0):
        raise SettingsError(f"random_state must be None, an int >= 0 or a generator of NumPy, got {random_state!r}")
    return int(random_state)


def cuts_of(k: Any) -> list[int]:
    """Where lists are cut: one whole number from 1, or several. Errors: SpecError for anything else."""
    ks = list(k) if isinstance(k, (list, tuple, range, np.ndarray)) else [k]
    if not ks or not all(is_whole(cut, 1) for cut in ks):
        raise SpecError(f"k must be one or more whole numbers from 1, got {k!r}")
    return [int(cut) for cut in ks]


def require_checkpoint(checkpoint: Any, resume: bool, init: Any, random_state: Any) -> None:
    """Raise SettingsError for a checkpoint that nothing could go on from, or that a warm start would have to go on from."""
    if init is not None and (checkpoint is not None or resume):
        raise SettingsError("a run that starts from another model keeps no checkpoint and resumes none: give init or checkpoint")
    if checkpoint is not None and not is_whole(random_state, 0):
        raise SettingsError(f"a checkpoint needs an int as random_state, or nothing could go on from it, got {random_state!r}")


def to_provenance(recipe: str | Recipe, seed: int, validation_ndcg: float) -> dict[str, str]:
    """What `from_provenance` reads: the recipe, by name or field by field, the seed, and the chosen model's figure."""
    kept = asdict(recipe) if isinstance(recipe, Recipe) else recipe
    return {PROVENANCE: json.dumps({"recipe": kept, "seed": seed, "validation_ndcg": validation_ndcg})}


def from_provenance(provenance: Mapping[str, str]) -> tuple[str | Recipe, int | None, float | None]:
    """Recipe, seed and validation figure; of a model that no estimator wrote the name of its recipe and its seed, if it has them.

    Errors: BundleError for what no estimator writes.
    """
    if PROVENANCE not in provenance:
        name, seed_told = provenance.get("recipe"), provenance.get("seed", "")
        return name if name in RECIPES else "laptop", int(seed_told) if re.fullmatch("[0-9]{1,99}", seed_told) else None, None
    try:
        told = json.loads(provenance[PROVENANCE])
        recipe, seed, ndcg = told["recipe"], int(told["seed"]), float(told["validation_ndcg"])
        if not isinstance(recipe, str):
            recipe = Recipe(**recipe | {stage: Schedule(**recipe[stage]) for stage in ("coarse", "fine")})
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise BundleError(f"provenance must hold what an estimator writes under {PROVENANCE!r}: {error!r}") from error
    return recipe, seed, ndcg


def _read(X: Any) -> tuple[Interactions, bool]:
    """The pairs of `interactions_of`, and whether `X` is a matrix, whose ids are positions."""
    if isinstance(X, Interactions):
        return X, False
    if isinstance(X, (str, PathLike)):
        raise DataError(f"expected pairs, got the path {str(X)!r}; c2f_ref.read_interactions reads a file")
    if sparse.issparse(X):
        return Interactions.from_csr(X), True
    if _are_two_rows(X):
        return Interactions.from_pairs(*X), False
    if hasattr(X, "columns"):
        return Interactions.from_pairs(*_frame_columns(X)), False
    # A list becomes an array of objects: NumPy would turn the numbers beside a text into text.
    array = np.asarray(X) if hasattr(X, "__array__") else np.array(X, dtype=object)
    if array.ndim == 2 and array.shape[1] == 2 and array.dtype.kind != "f":
        return Interactions.from_pairs(*array.T.tolist()), False
    if array.ndim == 2 and array.shape[1] == 3 and array.dtype.kind in "iuO":
        raise DataError("pairs have two columns, got three; ratings and times are left out, a matrix of three items must be sparse")
    values = check_array(array, ensure_min_features=2)
    if values.shape[1] == 2 and (values == np.floor(values)).all():
        raise DataError("pairs must be integers or text, got two columns of whole floats; a matrix of two items must be sparse")
    return Interactions.from_csr(sparse.csr_array(values)), True


def _are_two_rows(X: Any) -> bool:
    """Whether `X` is a tuple of users and items."""
    return isinstance(X, tuple) and len(X) == 2 and all(isinstance(row, np.ndarray) and row.ndim == 1 for row in X)


def _frame_columns(frame: Any) -> tuple[list[Any], list[Any]]:
    names = list(frame.columns)
    usual = [usual_places([str(name) for name in names], role) for role in ("user", "item")]
    chosen = [names[places[0]] for places in usual if len(places) == 1]
    if len(chosen) != 2:
        chosen = names
    if len(chosen) != 2 or len(set(names)) != len(names):
        raise DataError(f"a frame must have a column of users and one of items, such as user and item, got the columns {names}")
    return frame[chosen[0]].to_list(), frame[chosen[1]].to_list()
