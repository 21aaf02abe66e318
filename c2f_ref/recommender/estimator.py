"""`C2FRecommender`: both stages behind the methods that users of scikit-learn and of implicit know."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from os import PathLike
from typing import Any, Self, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import sparse
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from .. import spec
from ..bundle import Model, load_model, save_model
from ..interactions import DataError, Interactions, split_given
from ..interactions.fields import is_whole
from ..progress import ProgressLine
from ..spec import Float64Array, IntArray, Settings, SettingsError, SpecError
from ..threads import one_blas_thread
from ..training import Callbacks, Evaluation, Recipe, embed_model, evaluate_embeddings, to_model, train
from . import inputs
from .fold_in import FoldIn
from .warm import train_from

Ids: TypeAlias = npt.NDArray[Any]


@dataclass(eq=False, repr=False)
class C2FRecommender(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Recommend items from interactions alone, with coarse-to-fine meta-embeddings.

    Parameters: the fields of `c2f_ref.Settings` by name, which documents them; `recipe`, a name in `c2f_ref.RECIPES` or a `Recipe`,
    how long and how fast to train; `implementation`, dotted name of a module with the names of `c2f_ref.spec.CONTRACT` (None:
    `c2f_ref.fast`); `random_state`, an int for one result byte for byte, None for a fresh one every time, or a generator of NumPy;
    `verbose`, 1 for progress on stderr. They are stored as given and looked at by `fit`, `implementation` by what serves as well.

    After `fit`: `model_` (`c2f_ref.Model`), `user_ids_`, `item_ids_`, `n_features_in_` (items), `validation_ndcg_` (of the chosen
    model) and `history_` (`Evaluation`s of both stages).

    Users and items go by their raw ids, in and out. Ids of one side are all integers or all text.
    Errors: NotFittedError before `fit`; DataError that names an id nobody knows.
    """

    n_coarse: int = Settings.n_coarse
    n_fine: int = Settings.n_fine
    dim: int = Settings.dim
    n_layers: int = Settings.n_layers
    coarse_per_entity: int = Settings.coarse_per_entity
    fine_per_coarse: int = Settings.fine_per_coarse
    anchor_weight: float = Settings.anchor_weight
    threshold: float = Settings.threshold
    bridge_weight: float = Settings.bridge_weight
    l2_weight: float = Settings.l2_weight
    clip_limit: float = Settings.clip_limit
    adam_beta1: float = Settings.adam_beta1
    adam_beta2: float = Settings.adam_beta2
    adam_epsilon: float = Settings.adam_epsilon
    sparse_pca_components: int = Settings.sparse_pca_components
    sparse_pca_alpha: float = Settings.sparse_pca_alpha
    pinv_rtol: float | None = Settings.pinv_rtol
    recipe: str | Recipe = "laptop"
    implementation: str | None = None
    random_state: int | np.random.RandomState | np.random.Generator | None = None
    verbose: int = 0

    def fit(
        self,
        X: Any,
        X_val: Any = None,
        *,
        callback: Callable[[Evaluation], None] | None = None,
        checkpoint: str | PathLike[str] | None = None,
        resume: bool = False,
        init: C2FRecommender | Model | None = None,
    ) -> Self:
        """Train both stages on `X`, choosing models by NDCG on `X_val`.

        `X` is a SciPy sparse matrix, users times items; an array or list of pairs (n, 2), or a tuple of two arrays; a pandas or
        polars frame; `Interactions`; or a dense matrix: see `interactions_of`. `X_val` is any of these, on ids that `X` has.
        Without it a tenth of each user's pairs, drawn from `random_state`, is validation (`drawn_for_validation`), and these
        pairs join the graph when training is over, as everything in `X` is known of its users. Given `X_val` does not: its items
        can be recommended.

        `callback` is told of every `Evaluation`; `checkpoint` and `resume` are those of `c2f_ref.train`, and need an int as
        `random_state`; `init` is a model or a fitted estimator of the same sizes to start from (`train_from`).

        Edge: a one-dimensional `X_val` is scikit-learn's target `y`, as its pipelines pass it, and is not looked at.
        Errors: DataError, SpecError, SettingsError for what cannot be trained with; CheckpointError for one of another run.
        """
        settings = Settings(**{field.name: getattr(self, field.name) for field in fields(Settings)})
        recipe, seed = inputs.recipe_named(self.recipe), inputs.seed_of(self.random_state)
        ops = inputs.implementation_named(self.implementation)
        inputs.require_checkpoint(checkpoint, resume, init, self.random_state)
        start = init._model if isinstance(init, C2FRecommender) else init
        if not isinstance(start, Model | None):
            raise SettingsError(f"init must be a model or a fitted estimator, got {init!r}")
        pairs = inputs.interactions_of(X)
        split = inputs.split_for(pairs, X_val, seed)
        progress = ProgressLine() if self.verbose else None
        if progress:
            print(split.describe(), file=sys.stderr)
        callbacks: Callbacks = progress.callbacks(callback) if progress else {"on_evaluation": callback}
        if start is not None:
            coarse, fine = train_from(start, split, settings, recipe, seed=seed, ops=ops, **callbacks)
        else:
            coarse, fine = train(split, settings, recipe, seed=seed, ops=ops, checkpoint=checkpoint, resume=resume, **callbacks)
        if progress:
            progress.close()
        chosen = (fine or coarse).best
        provenance = inputs.to_provenance(self.recipe, seed, chosen.ndcg)
        model = to_model(split, settings, coarse.best, fine.best if fine else None, provenance)
        evaluations = (*coarse.evaluations, *(fine.evaluations if fine else ()))
        return self._adopt(replace(model, seen=pairs.matrix()), chosen.ndcg, evaluations)

    def recommend(self, users: Any, n: int = 10, *, exclude_seen: bool = True, items: Any = None) -> tuple[Ids, Float64Array]:
        """The n best items for each user, best first: (ids, scores); `items` are the only candidates where they are given.

        Shapes: one raw id -> (n,), (n,); several -> (B, n), (B, n).
        Edge: where fewer than n candidates exist lists end with score -inf and the id -1, or "" where ids are text. Seen are the
        pairs of `X`. Ties go to the item that comes first in `item_ids_`.
        """
        positions = self._positions("users", users)
        left_out = self._model.seen[positions] * bool(exclude_seen)
        return _as_asked(users, *self._best_items(self._entities[positions], left_out, n, items))

    def recommend_for(
        self, own_items: Any, n: int = 10, *, exclude_seen: bool = True, items: Any = None
    ) -> tuple[Ids, Float64Array]:
        """The n best items for somebody new who has these, by `fold_in`: (ids, scores), otherwise as `recommend`.

        Shapes: -> (n,), (n,).
        """
        left_out = np.zeros((1, self._model.n_items))
        left_out[0, self._positions("items", own_items)] = bool(exclude_seen)
        ids, scores = self._best_items(self.fold_in(own_items)[None], left_out, n, items)
        return ids[0], scores[0]

    def fold_in(self, items: Any) -> Float64Array:
        """An embedding for a further user with these items, by `FoldIn`, all that is trained as it is. Not part of the paper.

        Shapes: -> (D,).
        Edge: an item that no user has adds nothing; where none adds anything it is 0, which leaves the biases alone to rank by.
        """
        return self._to_fold_in.embed(np.unique(self._positions("items", items)))

    def similar_items(self, items: Any, n: int = 10) -> tuple[Ids, Float64Array]:
        """The n items nearest to each by cosine of propagated embeddings: (ids, cosines).

        Shapes: as `recommend`.
        Edge: an item is not in its own list, unlike in `implicit`. Padding and ties as in `recommend`.
        """
        return self._similar("items", items, n)

    def similar_users(self, users: Any, n: int = 10) -> tuple[Ids, Float64Array]:
        """The n users nearest to each, as `similar_items`."""
        return self._similar("users", users, n)

    def score(self, users: Any, items: Any) -> Any:
        """How well users and items fit, pair by pair: what `recommend` ranks by, for seen items too.

        Shapes: ids of equal length, or one id beside several -> (P,); two ids -> one float.
        Errors: DataError for lengths that do not fit.
        """
        of_users, of_items = self._positions("users", users), self._positions("items", items)
        if of_users.size != of_items.size and 1 not in (of_users.size, of_items.size):
            raise DataError(f"users and items must be of one length, got {of_users.size} and {of_items.size}")
        of_users, of_items = np.broadcast_arrays(of_users, of_items)
        bias = self._model.bias.astype(np.float64)
        scores = spec.score_pairs(self._entities, bias, 0.0, self._model.n_users, of_users, of_items)
        return float(scores[0]) if np.ndim(users) == np.ndim(items) == 0 else scores

    def evaluate(self, X_test: Any, k: int | Sequence[int] = (5, 10, 20)) -> dict[str, float]:
        """Mean recall and NDCG on held-out pairs: {"ndcg@5": ..., "recall@5": ..., ...}; all items ranked, those in `X` left out.

        `X_test` is what `fit` takes, on ids that `X` has.
        Errors: DataError for a pair that is in `X`; SpecError where there is no pair, or for a `k` below 1.
        """
        model, known, ks = self._model, self._pairs, inputs.cuts_of(k)
        split = split_given(known, inputs.none_of(known), inputs.interactions_within(known, X_test))
        ops = inputs.implementation_named(self.implementation)
        return evaluate_embeddings(self._entities, model.bias, model.seen, split.test.matrix(), ks, ops=ops)

    def embeddings(self) -> tuple[Float64Array, Float64Array]:
        """Propagated (users, items), rows in the order of `user_ids_` and `item_ids_`. Shapes: -> (U, D), (I, D)."""
        n_users = self._model.n_users
        return self._entities[:n_users].copy(), self._entities[n_users:].copy()

    def save(self, path: str | PathLike[str]) -> None:
        """Write the model to a file without pickle; `history_` is not in it. Errors: as `c2f_ref.save_model`."""
        save_model(path, self._model)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Self:
        """A fitted estimator from a model file: one that `save` wrote, or `c2f-ref train`, which keeps of a recipe its name alone.

        Parameters are those of the model, `random_state` is the seed of its training, if the file has it, and `history_` is empty.
        Errors: as `c2f_ref.load_model`.
        """
        model = load_model(path)
        recipe, seed, ndcg = inputs.from_provenance(model.provenance)
        return cls(**asdict(model.settings), recipe=recipe, random_state=seed)._adopt(model, ndcg, ())

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def _adopt(self, model: Model, validation_ndcg: float | None, evaluations: tuple[Evaluation, ...]) -> Self:
        self.model_, self.validation_ndcg_, self.history_ = model, validation_ndcg, evaluations
        self.user_ids_, self.item_ids_, self.n_features_in_ = model.user_ids, model.item_ids, model.n_items
        for name in ("_pairs", "_entities", "_to_fold_in"):  # what followed from an earlier model
            self.__dict__.pop(name, None)
        return self

    @property
    def _model(self) -> Model:
        check_is_fitted(self, "model_")
        model: Model = self.model_
        return model

    @cached_property
    def _pairs(self) -> Interactions:
        """The pairs that inference propagates over, with the raw ids."""
        model = self._model
        return Interactions.from_csr(model.seen, user_ids=model.user_ids, item_ids=model.item_ids)

    @cached_property
    def _entities(self) -> Float64Array:
        """Propagated embeddings. Shapes: -> (N, D)."""
        return embed_model(self._model, ops=inputs.implementation_named(self.implementation))

    @cached_property
    def _to_fold_in(self) -> FoldIn:
        return FoldIn.of(self._model, self._pairs, self._entities, inputs.implementation_named(self.implementation))

    def _similar(self, kind: str, raw: Any, n: int) -> tuple[Ids, Float64Array]:
        """The nearest of the same kind, "users" or "items", by cosine.

        Edge: an embedding of zeros has cosine 0 with every other.
        """
        users, items = self.embeddings()
        ids, table = (self._pairs.user_ids, users) if kind == "users" else (self._pairs.item_ids, items)
        positions = self._positions(kind, raw)
        norms = np.linalg.norm(table, axis=1, keepdims=True)
        unit = np.divide(table, norms, out=np.zeros_like(table), where=norms > 0)
        itself = sparse.eye_array(len(table), format="csr")[positions]
        return _as_asked(raw, *self._ranked(unit[positions], unit, np.zeros(len(table)), ids, itself, n))

    def _positions(self, kind: str, raw: Any) -> IntArray:
        """Positions of one raw id, or of several, of "users" or "items". Shapes: -> (1,) or (K,).

        Errors: DataError that names the first unknown id and counts the others, or for ids that are not in one row.
        """
        if np.ndim(raw) > 1:
            raise DataError(f"{kind} must be one raw id or a row of them, got {np.ndim(raw)} dimensions")
        look_up = self._pairs.user_index if kind == "users" else self._pairs.item_index
        return np.atleast_1d(np.asarray(look_up(np.asarray(raw).tolist()), dtype=np.int64))

    def _best_items(self, rows: Float64Array, left_out: Any, n: int, items: Any) -> tuple[Ids, Float64Array]:
        """The n best of these items (None: of all) for user embeddings. Shapes: rows (B, D), left_out (B, I) -> (B, n), (B, n)."""
        chosen = np.arange(self._model.n_items) if items is None else np.unique(self._positions("items", items))
        table, bias = (part[self._model.n_users + chosen] for part in (self._entities, self._model.bias))
        return self._ranked(rows, table, bias, self._pairs.item_ids[chosen], left_out[:, chosen], n)

    def _ranked(
        self, rows: Float64Array, table: Float64Array, bias: Float64Array, ids: Ids, left_out: Any, n: int
    ) -> tuple[Ids, Float64Array]:
        """`rank_items` of the contract with these rows as users and this table as items, whose raw ids are `ids`.

        Shapes: rows (B, D), table (K, D), bias and ids (K,), left_out (B, K), sparse or dense: where it is not 0 -> (B, n), (B, n).
        """
        if not is_whole(n, 0):
            raise SpecError(f"n must be a whole number of at least 0, got {n!r}")
        left_out = sparse.csr_array(left_out)
        left_out.eliminate_zeros()
        users = np.arange(len(rows))
        ops = inputs.implementation_named(self.implementation)
        with one_blas_thread():
            places, scores = ops.rank_items(
                np.concatenate([rows, table]), np.concatenate([np.zeros(len(rows)), bias]), len(rows), users, left_out, int(n)
            )
        # Place -1, where there is no further candidate, is the last: that of the padding.
        padding: list[Any] = [""] if ids.dtype.kind == "U" else [-1]
        return np.append(ids, padding)[places], scores


def _as_asked(raw: Any, ids: Ids, scores: Float64Array) -> tuple[Ids, Float64Array]:
    """One list for one raw id, a list for each of several."""
    return (ids[0], scores[0]) if np.ndim(raw) == 0 else (ids, scores)
