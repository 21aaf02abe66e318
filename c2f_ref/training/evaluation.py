"""How good embeddings are: recall and NDCG on held-out pairs, and how far chance could have moved them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import ModuleType

import numpy as np
from scipy import sparse

from .. import spec
from ..bundle import Model
from ..spec import Float64Array, SpecError
from ..threads import one_blas_thread
from .stages import default_ops

N_RESAMPLES = 1000


def embed_model(model: Model, *, ops: ModuleType | None = None) -> Float64Array:
    """Propagated embeddings of all entities of a model: the first part of `embed_nodes`. Shapes: -> (N, D)."""
    return embed_nodes(model, ops=ops)[0]


def embed_nodes(model: Model, *, ops: ModuleType | None = None) -> tuple[Float64Array, ...]:
    """Propagated entities, coarse and fine nodes of a model, over its own training pairs, in float64 whatever it is stored in.

    `ops` is the implementation, here and below; None for `c2f_ref.fast`.

    Shapes: -> (N, D), (C, D), (F, D).
    Edge: a model of the coarse stage alone has no third part.
    Source: coarse stage, step 3; fine stage, steps 5 and 6.
    """
    ops, model = ops or default_ops(), model.with_tables(np.float64, np.float64)
    users, items = model.seen.nonzero()
    norm_adjacency = spec.normalise(spec.bipartite(users, items, model.n_users, model.n_items))
    if model.fine is None:
        plan = ops.prepare_coarse(norm_adjacency, model.coarse_assignment, model.n_users, model.settings)
        return tuple(ops.embed_coarse(plan, model.coarse))
    plan = ops.prepare_fine(norm_adjacency, model.coarse_assignment, model.fine_assignment, model.n_users, model.settings)
    return tuple(ops.embed_fine(plan, model.coarse, model.fine))


def metrics_by_user(
    entities: Float64Array,
    bias: Float64Array,
    seen: sparse.csr_array,
    held_out: sparse.csr_array,
    ks: Sequence[int],
    *,
    ops: ModuleType | None = None,
) -> dict[str, Float64Array]:
    """NDCG and recall at every k of each user with a held-out item; all items ranked, seen ones masked.

    Shapes: entities (N, D), bias (N,), seen (U, I), held_out (U, I) -> {"ndcg@5": (users,), ..., "recall@5": (users,), ...}.
    Errors: SpecError where no user has a held-out item.
    Source: evaluation protocol.
    """
    users = np.flatnonzero(np.diff(held_out.indptr))
    if users.size == 0:
        raise SpecError("evaluation needs at least one user with a held-out item, got none")
    ops = ops or default_ops()
    with one_blas_thread():
        ranked, _ = ops.rank_items(entities, bias, seen.shape[0], users, seen, max(ks))
    held_out = held_out[users]
    ndcg = {f"ndcg@{k}": spec.ndcg_at_k(ranked, held_out, k) for k in ks}
    return ndcg | {f"recall@{k}": spec.recall_at_k(ranked, held_out, k) for k in ks}


def evaluate_embeddings(
    entities: Float64Array,
    bias: Float64Array,
    seen: sparse.csr_array,
    held_out: sparse.csr_array,
    ks: Sequence[int],
    *,
    ops: ModuleType | None = None,
) -> dict[str, float]:
    """Means of `metrics_by_user`.

    Errors: SpecError where no user has a held-out item.
    Source: evaluation protocol.
    """
    by_user = metrics_by_user(entities, bias, seen, held_out, ks, ops=ops)
    return {name: float(values.mean()) for name, values in by_user.items()}


def evaluate_model(
    model: Model, held_out: sparse.csr_array, ks: Sequence[int], *, ops: ModuleType | None = None
) -> dict[str, float]:
    """Mean NDCG and recall of a model at every k: `evaluate_embeddings` on what `embed_model` gives.

    Shapes: held_out (U, I).
    Errors: SpecError where no user has a held-out item.
    Source: evaluation protocol.
    """
    return evaluate_embeddings(embed_model(model, ops=ops), model.bias, model.seen, held_out, ks, ops=ops)


def bootstrap_intervals(
    by_user: Mapping[str, Float64Array], *, rng: np.random.Generator, level: float = 0.95
) -> dict[str, tuple[float, float]]:
    """Percentile bootstrap over users: where the mean lies in `level` of 1,000 redraws of as many users, with replacement.

    All metrics share the redraws, so that their intervals can be compared.

    Shapes: values (users,) under every name -> (low, high) under the same.
    Edge: it speaks of the choice of users alone, not of that of the split, the seed or the training.
    Errors: SpecError for a level outside (0, 1), no user, or metrics of different numbers of users.
    Source: Efron and Tibshirani 1993, chapter 13.
    """
    if not 0 < level < 1:
        raise SpecError(f"level must be in (0, 1), got {level}")
    sizes = {values.size for values in by_user.values()}
    if len(sizes) != 1 or 0 in sizes:
        raise SpecError(f"every metric must have one value for each of the same users, got {sorted(sizes)} values")
    n_users = sizes.pop()
    values = np.stack(list(by_user.values()))
    means = np.empty((N_RESAMPLES, len(by_user)))
    for resample in range(N_RESAMPLES):
        counts = np.bincount(rng.integers(n_users, size=n_users), minlength=n_users)
        # Not `@`: how a product is summed may depend on the number of threads.
        means[resample] = np.einsum("mu,u->m", values, counts.astype(np.float64)) / n_users
    tail = 100 * (1 - level) / 2
    low, high = np.percentile(means, [tail, 100 - tail], axis=0)
    return {name: (float(low[i]), float(high[i])) for i, name in enumerate(by_user)}
