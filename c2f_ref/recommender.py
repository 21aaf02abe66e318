"""The estimator people expect: both stages behind `fit` and `recommend`, by raw ids.

This page imports scikit-learn for its base class; `c2f_ref` imports this page only on demand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from os import PathLike
from types import ModuleType
from typing import Any, Self, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import sparse
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from . import method
from .evaluation import embed_model, evaluate_embeddings
from .interactions import DataError, Interactions, is_whole
from .interactions.arrays import interactions_of, interactions_within
from .interactions.splits import Split, split_given, split_ratio
from .method import Evaluation, Float64Array, IntArray, MethodError, Settings, SettingsError
from .model import Model, load_model, save_model
from .runtime import ProgressLine, load_implementation, one_blas_thread, say
from .training import RECIPES, Recipe, Trainer, with_pairs

FilePath: TypeAlias = str | PathLike[str]
Lists: TypeAlias = tuple[npt.NDArray[Any], Float64Array]
"""Raw ids of items and their scores, best first."""


@dataclass(eq=False, repr=False)
class C2FRecommender(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Recommend items from interactions alone, with coarse-to-fine meta-embeddings.

    Parameters, stored as given and validated by `fit`: the fields of `c2f_ref.Settings`, which
    documents them; `recipe`, a name in `c2f_ref.RECIPES` or a `Recipe`: how long and how fast to
    train; `implementation`, as `c2f_ref.runtime.load_implementation` takes it; `random_state`, an
    int for the same bytes every time, None for other ones, or a NumPy `Generator`; `verbose`, 1
    for progress on stderr, 0 for none, None for progress at a terminal and in notebooks. Unless
    it is 0, what was left out of the data, and what is odd about the model, is told.

    After `fit`: `model_` (`c2f_ref.Model`), `user_ids_`, `item_ids_`, `validation_ndcg_` of the
    chosen model, and `history_`, the `Evaluation`s of both stages.

    Ids of users, and those of items, are all integers or all text.
    Errors: NotFittedError before `fit`; DataError for an unknown id.
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
    random_state: int | np.random.Generator | None = None
    verbose: int | None = None

    def fit(
        self, X: Any, X_val: Any = None, *, checkpoint: FilePath | None = None,
        resume: bool = False, **columns: Any,
    ) -> Self:  # fmt: skip
        """Train both stages on `X`, choosing models by NDCG on `X_val`.

        `X` and `X_val` are data as `c2f_ref.interactions.interactions_of` takes them, with its
        keywords as `columns`: a SciPy sparse matrix, pairs in an array, list, tuple or frame,
        `Interactions`. `X_val` has ids of `X`.

        Without `X_val`, a tenth of each user's pairs is drawn for validation, by `split_ratio`;
        these join the graph after training, and are not recommended. Items of a given `X_val` can
        be recommended. The model is the better of both stages, see `training.Trainer.model`.

        `checkpoint` is a folder and `resume` continues from it, as in `c2f_ref.train`; both need
        an int as `random_state`.
        Errors: DataError, MethodError, SettingsError for input that cannot be trained with;
        StoreError for a damaged checkpoint or one of another run.
        """
        settings = Settings(**{field.name: getattr(self, field.name) for field in fields(Settings)})
        recipe = self.recipe if isinstance(self.recipe, Recipe) else RECIPES.get(str(self.recipe))
        if recipe is None:
            names = ", ".join(RECIPES)
            raise SettingsError(f"recipe must be a Recipe or one of {names}, got {self.recipe!r}")
        state = self.random_state
        if checkpoint is not None and not is_whole(state, 0):
            raise SettingsError(f"a checkpoint needs an int as random_state, got {state!r}")
        seed, pairs = _seed_of(state), interactions_of(X, **columns)
        split = split_for(pairs, X_val, seed, **columns)
        is_shown = ProgressLine.wanted() if self.verbose is None else self.verbose
        watch, tells = ProgressLine() if is_shown else None, self.verbose != 0
        if tells and (any(pairs.dropped.values()) or pairs.unused):
            say(pairs.describe())
        run: dict[str, Any] = {"seed": seed, "checkpoint": checkpoint, "resume": resume}
        run |= {"split": split, "settings": settings, "recipe": recipe, "ops": self._ops}
        model, coarse, fine = Trainer(**run, watch=watch).model(tells=tells)
        if watch:
            watch.close()
        ndcg = (coarse if fine is None or model.fine is None else fine).chosen.ndcg
        found = coarse.evaluations + (fine.evaluations if fine else ())
        return self._serve(with_pairs(model, pairs), ndcg, found)

    def recommend(
        self, users: Any, n: int = 10, *, exclude_seen: bool = True, items: Any = None
    ) -> Lists:
        """The n best items for each user, best first: (ids, scores). `items` restricts candidates.

        Shapes: one raw id -> (n,), (n,); B of them -> (B, n), (B, n).
        Edge: lists of fewer than n items end with score -inf and id -1, or "" where ids are text.
        Seen items are those of `X`. Ties go to the item that comes first in `item_ids_`.
        """
        positions = self._positions("users", users)
        left_out = self._model.seen[positions] * bool(exclude_seen)
        return self._best(users, self._entities[positions], left_out, n, items)

    def recommend_for(
        self, own_items: Any, n: int = 10, *, exclude_seen: bool = True, items: Any = None
    ) -> Lists:
        """The n best items for a new user who has `own_items`, by `fold_in`; else as `recommend`.

        Shapes: -> (n,), (n,).
        """
        left_out = np.zeros((1, self._model.n_items))
        left_out[0, self._positions("items", own_items)] = bool(exclude_seen)
        return self._best("one", self.fold_in(own_items)[None], left_out, n, items)

    def fold_in(self, items: Any) -> Float64Array:
        """An embedding for a new user with these items; nothing is trained. Not part of the paper.

            H_new = r v / |v|,  v = sum over the items of M_i / sqrt(d_i D_i),  r = mean |H_u|

        d_i counts the users of item i, D_i is its row sum in [A, S_c], M has a layer less than H.
        v has the direction that propagation gives to a node with edges to these items and no
        coarse rows; its length would be too short next to the biases, for want of coarse rows.

        Shapes: -> (D,).
        Edge: an item without users, or with D_i <= 0 (D11), adds nothing; v = 0 gives 0, so that
        the biases rank.
        """
        chosen = np.unique(self._positions("items", items))
        direction: Float64Array = self._fold_in_rows[chosen].sum(axis=0)
        length = np.linalg.norm(direction)
        radius = np.linalg.norm(self._entities[: self._model.n_users], axis=1).mean()
        return direction * (radius / length) if length > 0 else direction

    def similar_items(self, items: Any, n: int = 10) -> Lists:
        """The n other items nearest to each, by cosine of propagated embeddings: (ids, cosines).

        Shapes: as `recommend`.
        Edge: an embedding of zeros has cosine 0 with every other. Padding and ties as `recommend`.
        """
        _require_length(n)
        table, positions = self.embeddings()[1], self._positions("items", items)
        norms = np.linalg.norm(table, axis=1, keepdims=True)
        unit = table / np.where(norms > 0, norms, 1.0)
        itself = sparse.eye_array(len(unit), format="csr")
        with one_blas_thread():
            found = method.rank_by(lambda rows: unit[rows] @ unit.T, positions, itself, n)
        return _lists(items, self.item_ids_, *found)

    def score(self, users: Any, items: Any) -> Any:
        """Scores of pairs of users and items, by which `recommend` ranks; seen items too.

        Shapes: ids of equal length, or one id next to several -> (P,); two ids -> one float.
        Errors: DataError for other lengths.
        """
        left, right = self._positions("users", users), self._positions("items", items)
        if left.size != right.size and 1 not in (left.size, right.size):
            sizes = f"{left.size} and {right.size}"
            raise DataError(f"users and items must be of one length, got {sizes}")
        of_users, of_items = np.broadcast_arrays(left, right)
        bias, n_users = self._model.bias.astype(np.float64), self._model.n_users
        scores = method.score_pairs(self._entities, bias, 0.0, n_users, of_users, of_items)
        return float(scores[0]) if np.ndim(users) == np.ndim(items) == 0 else scores

    def evaluate(
        self, X_test: Any, k: int | Sequence[int] = (5, 10, 20), *, unknown: str = "refuse",
        **columns: Any,
    ) -> dict[str, float]:  # fmt: skip
        """Mean NDCG and recall on held-out pairs: {"ndcg@5": ..., "recall@5": ..., ...}.

        All items are ranked but those of `X`. `X_test` is data as `fit` takes it. Pairs of `X`, and
        of ids that `X` does not have, are errors, or left out with `unknown="drop"`.
        Errors: DataError for such pairs; MethodError for no pair, or a `k` below 1.
        """
        ks: list[Any] = list(k) if isinstance(k, Sequence) else [k]
        if not ks or not all(is_whole(cut, 1) for cut in ks):
            raise MethodError(f"k must be one or more whole numbers from 1, got {k!r}")
        within = interactions_within(self._pairs, X_test, unknown=unknown, **columns)
        model, test = self._model, within.matrix()
        return evaluate_embeddings(self._entities, model.bias, model.seen, test, ks, ops=self._ops)

    def embeddings(self) -> tuple[Float64Array, Float64Array]:
        """Propagated embeddings of users and items, in the order of `user_ids_` and `item_ids_`.

        Shapes: -> (U, D), (I, D).
        """
        n_users = self._model.n_users
        return self._entities[:n_users].copy(), self._entities[n_users:].copy()

    def save(self, path: FilePath, *, tables: npt.DTypeLike | None = None) -> None:
        """Write the model to a file, without `history_`; its tables as float16, for example.

        The numbers of a model that `fit` leaves are float32, or float64 where the method trained.
        Errors: as `c2f_ref.save_model`; MethodError for numbers that `tables` cannot hold.
        """
        save_model(path, self._model if tables is None else self._model.with_tables(tables))

    @classmethod
    def load(cls, path: FilePath) -> Self:
        """A fitted estimator from a model file, of `save` or of `c2f-ref train`.

        Edge: `validation_ndcg_` is None, `history_` is empty. A `Recipe` without a name comes back
        as its text, with which `fit` raises SettingsError.
        Errors: as `c2f_ref.load_model`.
        """
        model = load_model(path)
        recipe, seed = (model.provenance.get(name, "") for name in ("recipe", "seed"))
        state = int(seed) if seed.isdecimal() else None
        made = cls(**asdict(model.settings), recipe=recipe or "laptop", random_state=state)
        return made._serve(model)

    def _serve(
        self, model: Model, ndcg: float | None = None, log: Sequence[Evaluation] = ()
    ) -> Self:
        """Take this model, and forget what followed from an earlier one."""
        self.model_, self.user_ids_, self.item_ids_ = model, model.user_ids, model.item_ids
        self.validation_ndcg_, self.history_ = ndcg, log
        for name in ("_pairs", "_entities", "_fold_in_rows"):
            self.__dict__.pop(name, None)
        return self

    @property
    def _model(self) -> Model:
        check_is_fitted(self, "model_")
        return self.model_

    @property
    def _ops(self) -> ModuleType:
        return load_implementation(self.implementation)

    @cached_property
    def _pairs(self) -> Interactions:
        """The pairs of `X`."""
        model = self._model
        return Interactions.from_csr(model.seen, user_ids=model.user_ids, item_ids=model.item_ids)

    @cached_property
    def _entities(self) -> Float64Array:
        """Propagated embeddings. Shapes: -> (N, D)."""
        return np.asarray(embed_model(self._model, ops=self._ops))

    @cached_property
    def _fold_in_rows(self) -> Float64Array:
        """M_i / sqrt(d_i D_i) of every item, see `fold_in`. Shapes: -> (I, D)."""
        model, pairs, settings = self._model, self._pairs, self._model.settings
        if settings.n_layers == 0:
            return np.zeros((model.n_items, settings.dim))
        graph = method.bipartite(pairs.users, pairs.items, pairs.n_users, pairs.n_items)
        of_coarse = model.coarse_assignment.astype(np.float64).sum(axis=1)
        row_sums = method.normalise(graph).sum(axis=1) + of_coarse
        roots = np.sqrt(np.maximum(graph.sum(axis=1) * row_sums, 0.0))[pairs.n_users :, None]
        shallow = replace(model, settings=replace(settings, n_layers=settings.n_layers - 1))
        means = np.asarray(embed_model(shallow, ops=self._ops))[pairs.n_users :]
        return np.asarray(np.divide(means, roots, out=np.zeros_like(means), where=roots > 0))

    def _positions(self, kind: str, raw: Any) -> IntArray:
        """Positions of one raw id, or of several, of "users" or "items". Shapes: -> (1,) or (K,).

        Errors: DataError that names the first unknown id, or for ids of two or more dimensions.
        """
        look_up = self._pairs.user_index if kind == "users" else self._pairs.item_index
        if np.ndim(raw) > 1:
            raise DataError(f"{kind} must be one raw id or a row of them, got {np.ndim(raw)}-D")
        return np.atleast_1d(np.asarray(look_up(np.asarray(raw).tolist()), dtype=np.int64))

    def _best(self, asked: Any, rows: Float64Array, left_out: Any, n: int, items: Any) -> Lists:
        """The n best of these items (None: of all) for user embeddings, by `rank_items`.

        Shapes: rows (B, D), left_out (B, I), not 0 where an item is left out -> (B, n), (B, n).
        """
        _require_length(n)
        model, chosen = self._model, np.arange(self._model.n_items)
        if items is not None:
            chosen = np.unique(self._positions("items", items))
        seen = sparse.csr_array(left_out[:, chosen])
        seen.eliminate_zeros()
        places = model.n_users + chosen
        entities = np.concatenate([rows, self._entities[places]])
        bias = np.concatenate([np.zeros(len(rows)), model.bias[places]])
        with one_blas_thread():
            found = self._ops.rank_items(entities, bias, len(rows), np.arange(len(rows)), seen, n)
        return _lists(asked, self.item_ids_[chosen], *found)


def split_for(pairs: Interactions, X_val: Any, seed: int, **columns: Any) -> Split:
    """`pairs` with `X_val` for validation, or else a tenth of each user's pairs by `split_ratio`.

    Errors: as `interactions_within`.
    """
    if X_val is None:
        return split_ratio(pairs, valid=0.1, test=0.0, seed=seed)
    return split_given(pairs, interactions_within(pairs, X_val, **columns))


def _require_length(n: Any) -> None:
    if not is_whole(n, 0):
        raise MethodError(f"n must be a whole number of at least 0, got {n!r}")


def _lists(asked: Any, item_ids: Any, places: IntArray, scores: Float64Array) -> Lists:
    """Raw ids instead of places: one list for one raw id, a list for each of several.

    Edge: place -1, where there is no further item, becomes -1 or "".
    """
    ids = np.append(item_ids, "" if item_ids.dtype.kind == "U" else -1)[places]
    return (ids[0], scores[0]) if np.ndim(asked) == 0 else (ids, scores)


def _seed_of(random_state: Any) -> int:
    """The seed that `random_state` stands for: itself, or one that a generator draws."""
    if is_whole(random_state, 0):
        return int(random_state)
    if random_state is None or isinstance(random_state, np.random.Generator):
        return int(np.random.default_rng(random_state).integers(2**32))
    wanted = "None, an int >= 0 or a numpy.random.Generator"
    raise SettingsError(f"random_state must be {wanted}, got {random_state!r}")
