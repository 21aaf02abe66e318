"""`C2FRecommender`: both stages behind the methods that users of scikit-learn and of implicit know."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields, replace
from os import PathLike
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from ..bundle import Model, load_model, save_model
from ..interactions import split_given
from ..progress import ProgressLine
from ..spec import Float64Array, Settings, SettingsError
from ..training import Callbacks, Evaluation, Recipe, evaluate_embeddings, to_model, train
from .inputs import interactions_of, interactions_within, none_of, split_for
from .parameters import from_provenance, implementation_named, recipe_named, seed_of, to_provenance
from .serving import Ids, Ranker
from .warm import train_from


class C2FRecommender(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Recommend items from interactions alone, with coarse-to-fine meta-embeddings.

    Parameters: the fields of `c2f_ref.Settings` by name, which documents them; `recipe`, a name in `c2f_ref.RECIPES` or a `Recipe`,
    how long and how fast to train; `implementation`, dotted name of a module with the names of `c2f_ref.spec.CONTRACT` (None:
    `c2f_ref.fast`); `random_state`, an int for one result byte for byte, None for a fresh one every time, or a generator of NumPy;
    `verbose`, 1 for progress on stderr. They are stored as given and looked at by `fit`.

    After `fit`: `model_` (`c2f_ref.Model`), `user_ids_`, `item_ids_`, `n_features_in_` (items), `validation_ndcg_` (of the chosen
    model) and `history_` (`Evaluation`s of both stages).

    Users and items go by their raw ids, in and out. Ids of one side are all integers or all text.
    Errors: NotFittedError before `fit`; DataError that names an id nobody knows.
    """

    def __init__(
        self,
        n_coarse: int = Settings.n_coarse,
        n_fine: int = Settings.n_fine,
        dim: int = Settings.dim,
        n_layers: int = Settings.n_layers,
        coarse_per_entity: int = Settings.coarse_per_entity,
        fine_per_coarse: int = Settings.fine_per_coarse,
        anchor_weight: float = Settings.anchor_weight,
        threshold: float = Settings.threshold,
        bridge_weight: float = Settings.bridge_weight,
        l2_weight: float = Settings.l2_weight,
        clip_limit: float = Settings.clip_limit,
        adam_beta1: float = Settings.adam_beta1,
        adam_beta2: float = Settings.adam_beta2,
        adam_epsilon: float = Settings.adam_epsilon,
        sparse_pca_components: int = Settings.sparse_pca_components,
        sparse_pca_alpha: float = Settings.sparse_pca_alpha,
        pinv_rtol: float | None = Settings.pinv_rtol,
        recipe: str | Recipe = "laptop",
        implementation: str | None = None,
        random_state: int | np.random.RandomState | np.random.Generator | None = None,
        verbose: int = 0,
    ) -> None:
        self.n_coarse = n_coarse
        self.n_fine = n_fine
        self.dim = dim
        self.n_layers = n_layers
        self.coarse_per_entity = coarse_per_entity
        self.fine_per_coarse = fine_per_coarse
        self.anchor_weight = anchor_weight
        self.threshold = threshold
        self.bridge_weight = bridge_weight
        self.l2_weight = l2_weight
        self.clip_limit = clip_limit
        self.adam_beta1 = adam_beta1
        self.adam_beta2 = adam_beta2
        self.adam_epsilon = adam_epsilon
        self.sparse_pca_components = sparse_pca_components
        self.sparse_pca_alpha = sparse_pca_alpha
        self.pinv_rtol = pinv_rtol
        self.recipe = recipe
        self.implementation = implementation
        self.random_state = random_state
        self.verbose = verbose

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

        `X` is a SciPy sparse matrix, users times items; an array or list of pairs (n, 2); a pandas or polars frame; `Interactions`;
        or a dense matrix: see `interactions_of`. `X_val` is any of these, on ids that `X` has. Without it a tenth of each user's
        pairs, drawn from `random_state`, is validation (`drawn_for_validation`), and these pairs join the graph when training is
        over, as everything in `X` is known of its users. Given `X_val` does not: its items can be recommended.

        `callback` is told of every `Evaluation`; `checkpoint` and `resume` are those of `c2f_ref.train`, and need an int as
        `random_state`; `init` is a model or a fitted estimator of the same sizes to start from (`train_from`).

        Edge: a one-dimensional `X_val` is scikit-learn's target `y`, as its pipelines pass it, and is not looked at.
        Errors: DataError, SpecError and SettingsError for data or parameters that cannot be trained with; CheckpointError for a
        checkpoint of another run.
        """
        settings = Settings(**{field.name: getattr(self, field.name) for field in fields(Settings)})
        recipe, ops, seed = recipe_named(self.recipe), implementation_named(self.implementation), seed_of(self.random_state)
        if init is not None and checkpoint is not None:
            raise SettingsError("a checkpoint cannot be kept of a run that starts from another model: give init or checkpoint")
        pairs = interactions_of(X)
        split = split_for(pairs, X_val, seed)
        progress = ProgressLine() if self.verbose else None
        if progress:
            print(split.describe(), file=sys.stderr)
        callbacks = _callbacks(progress, callback)
        if init is not None:
            start = init._ranker().model if isinstance(init, C2FRecommender) else init
            coarse, fine = train_from(start, split, settings, recipe, seed=seed, ops=ops, **callbacks)
        else:
            coarse, fine = train(split, settings, recipe, seed=seed, ops=ops, checkpoint=checkpoint, resume=resume, **callbacks)
        if progress:
            progress.close()
        chosen = (fine or coarse).best
        provenance = to_provenance(self.recipe, seed, chosen.ndcg)
        model = to_model(split, settings, coarse.best, fine.best if fine else None, provenance)
        evaluations = (*coarse.evaluations, *(fine.evaluations if fine else ()))
        return self._adopt(replace(model, seen=pairs.matrix()), chosen.ndcg, evaluations)

    def recommend(self, users: Any, n: int = 10, *, exclude_seen: bool = True, items: Any = None) -> tuple[Ids, Float64Array]:
        """The n best items for each user, best first: (ids, scores); `items` are the only candidates where they are given.

        Shapes: one raw id -> (n,), (n,); several -> (B, n), (B, n).
        Edge: where fewer than n candidates exist lists end with score -inf and the id -1, or "" where ids are text. Seen are the
        pairs of `X`. Ties go to the item that comes first in `item_ids_`.
        """
        return self._ranker().recommend(users, n, exclude_seen=exclude_seen, items=items)

    def recommend_for(
        self, own_items: Any, n: int = 10, *, exclude_seen: bool = True, items: Any = None
    ) -> tuple[Ids, Float64Array]:
        """The n best items for somebody new who has these, by `fold_in`: (ids, scores), otherwise as `recommend`.

        Shapes: -> (n,), (n,).
        """
        return self._ranker().recommend_for(own_items, n, exclude_seen=exclude_seen, items=items)

    def fold_in(self, items: Any) -> Float64Array:
        """The embedding of a new user who has these items, without training. Outside the paper.

        The direction in which the model's own propagation puts a node with edges to these items and no coarse rows, at the mean
        length of the users' embeddings: `Ranker.fold_in` has the formula.

        Shapes: -> (D,).
        """
        return self._ranker().fold_in(items)

    def similar_items(self, items: Any, n: int = 10) -> tuple[Ids, Float64Array]:
        """The n items nearest to each by cosine of propagated embeddings: (ids, cosines).

        Shapes: as `recommend`.
        Edge: an item is not in its own list, unlike in `implicit`. Padding and ties as in `recommend`.
        """
        return self._ranker().similar("items", items, n)

    def similar_users(self, users: Any, n: int = 10) -> tuple[Ids, Float64Array]:
        """The n users nearest to each, as `similar_items`."""
        return self._ranker().similar("users", users, n)

    def score(self, users: Any, items: Any) -> Any:
        """How well users and items fit, pair by pair: what `recommend` ranks by, for seen items too.

        Shapes: ids of equal length, or one id beside several -> (P,); two ids -> one float.
        Errors: DataError for lengths that do not fit.
        """
        return self._ranker().score(users, items)

    def evaluate(self, X_test: Any, k: int | Sequence[int] = (5, 10, 20)) -> dict[str, float]:
        """Mean recall and NDCG on held-out pairs: {"ndcg@5": ..., "recall@5": ..., ...}; all items ranked, those in `X` left out.

        `X_test` is what `fit` takes, on ids that `X` has.
        Errors: DataError for a pair that is in `X`; SpecError where there is no pair.
        """
        ranker, ks = self._ranker(), [k] if isinstance(k, (int, np.integer)) else list(k)
        split = split_given(ranker.pairs, none_of(ranker.pairs), interactions_within(ranker.pairs, X_test))
        ops = implementation_named(ranker.implementation)
        entities = np.concatenate(ranker.embeddings)
        return evaluate_embeddings(entities, ranker.model.bias, ranker.model.seen, split.test.matrix(), ks, ops=ops)

    def embeddings(self) -> tuple[Float64Array, Float64Array]:
        """Propagated (users, items), rows in the order of `user_ids_` and `item_ids_`. Shapes: -> (U, D), (I, D)."""
        users, items = self._ranker().embeddings
        return users.copy(), items.copy()

    def save(self, path: str | PathLike[str]) -> None:
        """Write the model to a file without pickle; `history_` is not in it. Errors: as `c2f_ref.save_model`."""
        check_is_fitted(self, "model_")
        save_model(path, self.model_)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Self:
        """A fitted estimator from a model file: one that `save` wrote, or `c2f-ref train`, which keeps no recipe.

        Parameters are those of the model; `random_state` is the seed that it was trained with, `history_` is empty.
        Errors: as `c2f_ref.load_model`.
        """
        model = load_model(path)
        recipe, seed, ndcg = from_provenance(model.provenance)
        return cls(**asdict(model.settings), recipe=recipe, random_state=seed)._adopt(model, ndcg, ())

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def _adopt(self, model: Model, validation_ndcg: float | None, evaluations: tuple[Evaluation, ...]) -> Self:
        self.model_, self.validation_ndcg_, self.history_ = model, validation_ndcg, evaluations
        self.user_ids_, self.item_ids_, self.n_features_in_ = model.user_ids, model.item_ids, model.n_items
        self._served = Ranker(model, self.implementation)
        return self

    def _ranker(self) -> Ranker:
        check_is_fitted(self, "model_")
        return self._served


def _callbacks(progress: ProgressLine | None, callback: Callable[[Evaluation], None] | None) -> Callbacks:
    """Progress on stderr, the caller's callback, both or neither."""
    callbacks: Callbacks = {**progress.callbacks()} if progress else {}
    listeners = [listener for listener in (callbacks.get("on_evaluation"), callback) if listener]

    def tell(evaluation: Evaluation) -> None:
        for listener in listeners:
            listener(evaluation)

    return {**callbacks, "on_evaluation": tell}
