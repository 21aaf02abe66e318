"""How good embeddings are: recall and NDCG on held-out pairs, and the spread due to chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import sparse

from . import method
from .method import Float64Array, IntArray, MethodError
from .model import Model
from .runtime import load_implementation, one_blas_thread

N_RESAMPLES = 1000


def embed_model(model: Model, *, ops: Any = None) -> Any:
    """Propagated embeddings of all entities of a model on its training pairs, in float64.

    `ops` is the implementation, here and below; None for the default of `load_implementation`.

    Shapes: -> (N, D).
    Source: equations (15) and (16).
    """
    ops, model = ops or load_implementation(), model.with_tables(np.float64, np.float64)
    users, items = model.seen.nonzero()
    pairs = method.bipartite(users, items, model.n_users, model.n_items)
    graph = method.normalise(pairs), model.coarse_assignment
    if model.fine is None:
        plan = ops.prepare_coarse(*graph, model.n_users, model.settings)
        return ops.embed_coarse(plan, model.coarse)[0]
    plan = ops.prepare_fine(*graph, model.fine_assignment, model.n_users, model.settings)
    return ops.embed_fine(plan, model.coarse, model.fine)[0]


def metrics_by_user(
    entities: Any, bias: Float64Array, seen: sparse.csr_array, held_out: sparse.csr_array,
    ks: Sequence[int], *, ops: Any = None,
) -> dict[str, Float64Array]:  # fmt: skip
    """NDCG and recall at every k of each user with a held-out item; all unseen items are ranked.

    Shapes: entities as `ops` gives them, bias (N,), seen and held_out (U, I)
    -> {"ndcg@5": (users,), ..., "recall@5": (users,), ...}.
    Errors: MethodError where no user has a held-out item.
    Source: equations (27) to (30).
    """
    users = np.flatnonzero(np.diff(held_out.indptr))
    if users.size == 0:
        raise MethodError("evaluation needs at least one user with a held-out item, got none")
    ops = ops or load_implementation()
    with one_blas_thread():
        ranked, _ = ops.rank_items(entities, bias, seen.shape[0], users, seen, max(ks))
    return metrics_of_lists(ranked, held_out[users], ks)


def metrics_of_lists(
    ranked: IntArray, held_out: sparse.csr_array, ks: Sequence[int]
) -> dict[str, Float64Array]:
    """What `metrics_by_user` gives for lists of items.

    Shapes: ranked (users, at least max(ks)) int64, held_out (users, I), something in every row.
    Source: equations (28) and (29).
    """
    ndcg = {f"ndcg@{k}": method.ndcg_at_k(ranked, held_out, k) for k in ks}
    return ndcg | {f"recall@{k}": method.recall_at_k(ranked, held_out, k) for k in ks}


def evaluate_embeddings(*given: Any, **options: Any) -> dict[str, float]:
    """Means over users of what `metrics_by_user` gives for the same arguments.

    Errors: as `metrics_by_user`.
    Source: equation (30).
    """
    by_user = metrics_by_user(*given, **options)
    return {name: float(values.mean()) for name, values in by_user.items()}


def evaluate_model(
    model: Model, held_out: sparse.csr_array, ks: Sequence[int], *, ops: Any = None
) -> dict[str, float]:
    """Mean NDCG and recall of a model at every k.

    Shapes: held_out (U, I).
    Errors: MethodError where no user has a held-out item.
    Source: equation (30).
    """
    entities = embed_model(model, ops=ops)
    return evaluate_embeddings(entities, model.bias, model.seen, held_out, ks, ops=ops)


def bootstrap_intervals(
    by_user: Mapping[str, Float64Array], *, rng: np.random.Generator, level: float = 0.95
) -> dict[str, tuple[float, float]]:
    """Percentile bootstrap over users: where `level` of the means of 1,000 redraws lie.

    A redraw takes as many users, with replacement; all metrics share the redraws.

    Shapes: values (users,) under every name -> (low, high) under the same names.
    Edge: the interval covers the choice of users alone, not that of the split or the seed.
    Errors: MethodError for a level outside (0, 1), no user, or metrics of different numbers of
    users.
    Source: Efron and Tibshirani 1993, chapter 13.
    """
    sizes = {values.size for values in by_user.values()}
    if not 0 < level < 1 or len(sizes) != 1 or 0 in sizes:
        raise MethodError(
            "expected a level in (0, 1) and a value of every metric for each of the same users, "
            f"got level {level} and {sorted(sizes)} values"
        )
    n_users = sizes.pop()
    values = np.stack(list(by_user.values()))
    means = np.empty((N_RESAMPLES, len(by_user)))
    for resample in range(N_RESAMPLES):
        counts = np.bincount(rng.integers(n_users, size=n_users), minlength=n_users)
        # Not `@`, whose sums may depend on the number of threads.
        means[resample] = np.einsum("mu,u->m", values, counts.astype(np.float64)) / n_users
    tail = 100 * (1 - level) / 2
    low, high = np.percentile(means, [tail, 100 - tail], axis=0)
    return {name: (float(low[i]), float(high[i])) for i, name in enumerate(by_user)}
