"""What the default recipe adds to the paper's training, as arguments of `method.train_stage`.

Hard negatives, epochs that learn from pairs their graph does not have, and factors of the bias.
With the published schedule each of them is what the paper does.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from .. import method
from ..interactions import Interactions
from ..method import Float64Array, MethodError, State, Triples
from .recipes import Schedule

STEPS_PER_CHOICE = 10
"""For this many steps negatives are chosen by the embeddings before the first of them."""


def graph_of(pairs: Interactions) -> sparse.csr_array:
    """The bipartite graph of these pairs (N, N). Source: equation (1)."""
    return method.bipartite(pairs.users, pairs.items, pairs.n_users, pairs.n_items)


def norm_adjacency_of(pairs: Interactions, dtype: npt.DTypeLike) -> sparse.csr_array:
    """A (N, N) of this dtype, with 32-bit indices where they suffice. Source: equation (2)."""
    graph = method.normalise(graph_of(pairs))
    index = np.int32 if graph.nnz <= np.iinfo(np.int32).max else np.int64
    parts = graph.data.astype(dtype), graph.indices.astype(index), graph.indptr.astype(index)
    return sparse.csr_array(parts, shape=graph.shape)


def hardest_negatives(
    triples: Triples,
    entities: Any,
    bias: Float64Array,
    seen: sparse.csr_array,
    n_candidates: int,
    *,
    ops: Any = method,
) -> Triples:
    """The triples, each with the best scored of its candidates as its negative.

        j_t' = argmax of s(u_t, j) over j in {j_t, j_(t+1), ..., j_(t+n-1)} that u_t has not seen

    The candidates behind the last triple are those of the first ones. They were drawn uniformly
    from what their own users have not seen, so no generator is asked again.

    Shapes: triples (B,) each, entities as `ops` gives them, bias (N,), seen (U, I) of ones ->
    triples.
    Edge: ties go to the first candidate; n_candidates == 1 gives the triples as they are.
    Errors: MethodError for n_candidates < 1.
    Source: dynamic negative sampling, Zhang et al. 2013; not in the paper.
    """
    if n_candidates < 1:
        raise MethodError(f"n_candidates must be at least 1, got {n_candidates}")
    users, positives, chosen = triples.users, triples.positives, triples.negatives.copy()
    best = ops.score_pairs(entities, bias, 0.0, seen.shape[0], users, chosen)
    for shift in range(1, n_candidates):
        others = np.roll(triples.negatives, -shift)
        scores = ops.score_pairs(entities, bias, 0.0, seen.shape[0], users, others)
        harder = np.flatnonzero(scores > best)
        if harder.size:  # a sparse array cannot be indexed by nothing
            harder = harder[np.ravel(seen[users[harder], others[harder]]) == 0]
            chosen[harder], best[harder] = others[harder], scores[harder]
    return Triples(users, positives, chosen)


class Additions:
    """Arguments of `method.train_stage` that follow from a schedule and training pairs."""

    def __init__(self, schedule: Schedule, train: Interactions, ops: Any) -> None:
        """`schedule` has its `draws_per_epoch`."""
        self.schedule, self.train, self.ops, self.seen = schedule, train, ops, train.matrix()
        self.entities: Any = None

    def draw_epoch(
        self, stage: Any, plan: Any, state: State, rng: np.random.Generator
    ) -> tuple[Any, Any, Triples]:
        """The triples of an epoch, and the stage and plan of the graph that they are trained on.

        With a `disjoint_share`, positives of phase 2 are this share of the training pairs, and the
        graph has all others.
        """
        draw = self.schedule.draws_per_epoch, self.schedule.n_negatives
        if state.phase == 2 and self.schedule.disjoint_share > 0:
            is_apart = rng.random(self.train.n_pairs) < self.schedule.disjoint_share
            if is_apart.any():
                graph = self.train.select(~is_apart)
                part = replace(
                    stage, norm_adjacency=norm_adjacency_of(graph, stage.norm_adjacency.dtype)
                )
                apart = self.train.select(is_apart).matrix()
                triples = self.ops.sample_triples(apart, *draw, rng=rng)
                if triples.users.size:  # a sparse array cannot be indexed by nothing
                    is_unseen = np.ravel(self.seen[triples.users, triples.negatives]) == 0
                    triples = Triples(*(column[is_unseen] for column in triples))
                return part, part.prepare(state.assignment), triples
        return stage, plan, self.ops.sample_triples(self.seen, *draw, rng=rng)

    def choose(self, stage: Any, plan: Any, state: State, batch: Triples, number: int) -> Triples:
        """Hard negatives in phase 2, where the schedule has several candidates."""
        if state.phase == 1 or self.schedule.n_candidates == 1:
            return batch
        if number % STEPS_PER_CHOICE == 0:
            self.entities = stage.embed(plan, state.tables)
        bias, n_candidates = state.tables[-1], self.schedule.n_candidates
        return hardest_negatives(batch, self.entities, bias, self.seen, n_candidates, ops=self.ops)

    def judge(self, held_out: sparse.csr_array) -> method.stages.Judge:
        """Validation NDCG, of the first best of the schedule's factors of the bias."""
        by_ndcg = method.judge_by_ndcg(self.ops, self.seen, held_out, self.schedule.selection_k)
        scales = self.schedule.bias_scales

        def best(entities: Any, tables: tuple[Any, ...]) -> tuple[float, tuple[Any, ...]]:
            *others, bias = tables
            scaled = ((*others, bias * bias.dtype.type(scale)) for scale in scales)
            return max((by_ndcg(entities, each) for each in scaled), key=lambda judged: judged[0])

        return best
