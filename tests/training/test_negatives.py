"""Of a few candidates, the best-scored unseen item becomes the negative."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from support.agreement import same_bits
from support.implementations import FAST
from support.strategies import rngs

from c2f_ref import spec
from c2f_ref.spec import SpecError, Triples
from c2f_ref.training import hardest_negatives

IMPLEMENTATIONS = pytest.mark.parametrize("ops", [spec, FAST])

# Two users with embeddings 1 and -1, five items with embeddings 0 to 4: user 0 prefers item 4, user 1 item 0. User 0 has item 4.
ENTITIES = np.array([1.0, -1.0, 0.0, 1.0, 2.0, 3.0, 4.0])[:, None]
SEEN = sparse.csr_array(([1.0], ([0], [4])), shape=(2, 5))
TRIPLES = Triples(np.array([0, 1, 0, 1]), np.array([4, 4, 4, 4]), np.array([1, 3, 2, 0]))


def chosen(n_candidates: int, bias: Any = 0.0, triples: Triples = TRIPLES, **changes: Any) -> list[int]:
    bias = np.broadcast_to(bias, 7).astype(np.float64)
    return hardest_negatives(triples, ENTITIES, bias, SEEN, n_candidates, **changes).negatives.tolist()


# By hand


@IMPLEMENTATIONS
def test_the_best_of_a_triple_s_own_negative_and_those_behind_it_is_taken(ops: ModuleType) -> None:
    """Candidates 1 3 | 3 2 | 2 0 | 0 1 of users 0 1 0 1, then 1 3 2 | 3 2 0 | 2 0 1 | 0 1 3."""
    assert chosen(1, ops=ops) == [1, 3, 2, 0]
    assert chosen(2, ops=ops) == [3, 2, 2, 0]
    assert chosen(3, ops=ops) == [3, 0, 2, 0]


@IMPLEMENTATIONS
def test_an_item_of_the_user_s_own_is_no_candidate(ops: ModuleType) -> None:
    """Item 4 would be user 0's best; user 1 does not have it, and likes it least."""
    triples = TRIPLES._replace(negatives=np.array([1, 4, 2, 4]))
    assert chosen(4, triples=triples, ops=ops) == [2, 1, 2, 1]


@IMPLEMENTATIONS
def test_the_bias_counts(ops: ModuleType) -> None:
    assert chosen(4, bias=[0, 0, 0, 9, 0, 0, 0], ops=ops) == [1, 1, 1, 1]


# By definition


@IMPLEMENTATIONS
@given(st.data(), rngs(), st.integers(1, 6))
def test_negatives_are_those_of_scalar_loops(ops: ModuleType, data: Any, rng: np.random.Generator, n_candidates: int) -> None:
    """Scores are multiples of 1/16 without rounding error, so that they tie alike; own negatives are unseen, as drawn ones are."""
    n_users, n_items, n_triples, dim = data.draw(st.integers(1, 4)), data.draw(st.integers(2, 7)), data.draw(st.integers(0, 9)), 3
    has = rng.random((n_users, n_items)) < 0.4
    has[:, 0] = False
    entities, bias = rng.integers(-4, 5, size=(n_users + n_items, dim)) / 4, rng.integers(-4, 5, size=n_users + n_items) / 4
    users = rng.integers(n_users, size=n_triples)
    negatives = np.array([rng.choice(np.flatnonzero(~has[user])) for user in users], dtype=np.int64)
    triples = Triples(users, rng.integers(n_items, size=n_triples), negatives)
    expected = []
    for t in range(n_triples):
        best, best_score = -1, -np.inf
        for k in range(n_candidates):
            item = negatives[(t + k) % n_triples]
            score = sum(entities[users[t], d] * entities[n_users + item, d] for d in range(dim)) + bias[n_users + item]
            if not has[users[t], item] and score > best_score:
                best, best_score = item, score
        expected.append(best)
    result = hardest_negatives(triples, entities, bias, sparse.csr_array(has.astype(float)), n_candidates, ops=ops)
    assert result.negatives.tolist() == expected
    assert same_bits(tuple(result)[:2], tuple(triples)[:2])


# Edges


def test_nothing_is_written_to() -> None:
    parts = [part.copy() for part in TRIPLES]
    for part in parts:
        part.flags.writeable = False
    assert chosen(4, triples=Triples(*parts)) != TRIPLES.negatives.tolist()
    assert same_bits(tuple(parts), tuple(TRIPLES))


def test_a_module_of_the_contract_alone_is_scored_by_the_specification() -> None:
    assert chosen(3, ops=ModuleType("bare")) == [3, 0, 2, 0]


def test_no_candidate_is_an_error() -> None:
    with pytest.raises(SpecError, match="n_candidates must be at least 1, got 0"):
        chosen(0)
