"""Negatives that teach more than those drawn: of a few unseen items, the one that the model would recommend first."""

from __future__ import annotations

from types import ModuleType

import numpy as np
from scipy import sparse

from .. import spec
from ..spec import Float64Array, SpecError, Triples


def hardest_negatives(
    triples: Triples,
    entities: Float64Array,
    bias: Float64Array,
    seen: sparse.csr_array,
    n_candidates: int,
    *,
    ops: ModuleType = spec,
) -> Triples:
    """The triples, each with the best-scored of its candidates as its negative (dynamic negative sampling).

        j_t' = argmax of s(u_t, j) over j in {j_t, j_(t+1), ..., j_(t+n-1)} that u_t has not seen,  n = n_candidates

    The negatives behind the last triple are those of the first ones. They were drawn uniformly from what their own users have not
    seen, so no generator is asked again.

    Shapes: triples (B,) each, propagated entities (N, D), bias (N,), seen (U, I) of ones -> triples (B,) each.
    Edge: ties go to the first candidate; one candidate gives the triples as they are.
    Errors: SpecError for n_candidates < 1.
    Source: Zhang et al., SIGIR 2013; not in the paper, whose negatives are as drawn.
    """
    if n_candidates < 1:
        raise SpecError(f"n_candidates must be at least 1, got {n_candidates}")
    # No part of the contract: a module that offers it no faster uses the specification's.
    score_pairs = getattr(ops, "score_pairs", spec.score_pairs)
    bias = bias.astype(entities.dtype, copy=False)
    users, positives, chosen = triples.users, triples.positives, triples.negatives.copy()
    best = score_pairs(entities, bias, 0.0, seen.shape[0], users, chosen)
    for shift in range(1, n_candidates):
        others = np.roll(triples.negatives, -shift)
        scores = score_pairs(entities, bias, 0.0, seen.shape[0], users, others)
        harder = np.flatnonzero(scores > best)
        if harder.size:  # SciPy looks nothing up as a sparse array
            harder = harder[np.ravel(seen[users[harder], others[harder]]) == 0]
            chosen[harder], best[harder] = others[harder], scores[harder]
    return Triples(users, positives, chosen)
