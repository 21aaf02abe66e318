"""The baselines: by hand, by scalar loops, and the known figures on Gowalla."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from support import scalar
from support.strategies import read_only, rngs

from c2f_ref import baselines
from c2f_ref.baselines import rank_by_graph_filter, rank_by_popularity
from c2f_ref.interactions import load_split, read_folder
from c2f_ref.method import MethodError, mean_metrics, rank_by

KS = (5, 10, 20, 50)


def matrix_of(seen: Any) -> sparse.csr_array:
    return read_only(sparse.csr_array(np.asarray(seen, dtype=np.float64)))


def filter_scores(user: int, seen: Any, alpha: float, beta: float, gamma: float) -> list[float]:
    """Sum over all paths user - j - v - i of 1 / (d_j^alpha d_v^beta d_i^gamma)."""
    of_users, of_items = ((np.asarray(seen) != 0).sum(axis=axis) for axis in (1, 0))
    scores = [0.0] * len(of_items)
    for j in np.flatnonzero(seen[user]):
        for v in np.flatnonzero(seen[:, j]):
            for i in np.flatnonzero(seen[v]):
                scores[i] += 1 / (of_items[j] ** alpha * of_users[v] ** beta * of_items[i] ** gamma)
    return scores


def test_popularity_counts_training_pairs_and_leaves_out_what_was_seen() -> None:
    """Counts are 2, 3, 0, 2, so the order is 1, 0, 3, 2: items 0 and 3 tie, the lower is first."""
    seen = matrix_of([[1, 1, 0, 0], [0, 1, 0, 1], [1, 1, 0, 1], [0, 0, 0, 0]])
    items, scores = rank_by_popularity(np.array([3, 0, 2]), seen, 5)
    assert items.tolist() == [[1, 0, 3, 2, -1], [3, 2, -1, -1, -1], [2, -1, -1, -1, -1]]
    assert scores.tolist() == [[3, 2, 2, 0, -np.inf], [2, 0, *[-np.inf] * 3], [0, *[-np.inf] * 4]]


def test_the_graph_filter_by_hand() -> None:
    """Users {0, 1} and {1}: d_u = 2, 1 and d_i = 1, 2, 0.

    Of user 1 the paths to item 0 are 1 - item 1 - user 0 - item 0: 1 / (2^.5 * 2 * 1).
    Item 2 has no pair: 0. The values of `seen` do not count.
    """
    seen = matrix_of([[5, 5, 0], [0, 5, 0]])
    items, scores = rank_by_graph_filter(np.array([1]), seen, 3)
    assert items.tolist() == [[0, 2, -1]]
    assert scores.tolist() == [[pytest.approx(0.5**1.5), 0.0, -np.inf]]
    _, scores = rank_by_graph_filter(np.array([1]), seen, 1, alpha=2.0, beta=3.0, gamma=7.0)
    assert scores.tolist() == [[pytest.approx(2.0**-5)]]


@given(rngs(), st.integers(1, 6), st.integers(1, 9), st.integers(1, 10), st.floats(0, 0.6))
def test_both_rank_as_scalar_loops_do(
    rng: np.random.Generator, n_users: int, n_items: int, k: int, share: float
) -> None:
    """Users and items without a pair among them; the score decides where rounding parts a tie."""
    is_seen = rng.random((n_users, n_items)) < share
    seen, users, exponents = matrix_of(is_seen), rng.permutation(n_users), rng.random(3)
    counts = is_seen.sum(axis=0).astype(float).tolist()
    places = [set(np.flatnonzero(is_seen[user]).tolist()) for user in users]
    items, scores = rank_by_popularity(users, seen, k)
    assert items.tolist() == [scalar.rank(counts, each, k) for each in places]
    assert scores.tolist() == [[counts[i] if i >= 0 else -math.inf for i in row] for row in items]
    how = dict(zip(("alpha", "beta", "gamma"), exponents, strict=True))
    items, scores = rank_by_graph_filter(users, seen, k, **how)
    for user, place, row, of_row in zip(users, places, items.tolist(), scores, strict=True):
        expected = filter_scores(user, is_seen, **how)
        best = scalar.rank(expected, place, k)
        assert row.count(-1) == best.count(-1)
        assert len(set(row) - {-1} - place) == k - row.count(-1)
        for item, score, wanted in zip(row, of_row, best, strict=True):
            both = (expected[item], expected[wanted]) if item >= 0 else (-math.inf, -math.inf)
            assert both == pytest.approx((score, score), rel=1e-12, abs=0)


@given(rngs(), st.integers(1, 5), st.integers(1, 300), st.integers(0, 40), st.integers(1, 4))
def test_lists_are_those_of_sorted_rows_ties_included(
    rng: np.random.Generator, n_users: int, n_items: int, k: int, n_levels: int
) -> None:
    """Of few different scores, in more than one block of users, some of whom have nearly all."""
    scores = rng.integers(n_levels, size=(n_users, n_items)) / 2 - 1
    seen = matrix_of(rng.random((n_users, n_items)) < rng.choice([0.1, 0.95]))
    users = rng.integers(n_users, size=7)
    for of_block in (3, 128):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(baselines, "USERS_PER_BLOCK", of_block)
            found = baselines._best(lambda block: scores[block].copy(), users, seen, k)
        wanted = rank_by(lambda block: scores[block].copy(), users, seen, k)
        assert all(map(np.array_equal, found, wanted))
    with pytest.raises(MethodError, match="k must be at least 0, got -1"):
        rank_by_popularity(users, seen, -1)
    with pytest.raises(MethodError, match="users must be in"):
        rank_by_popularity(users + n_users, seen, 1)


POPULARITY = [0.0175, 0.0220, 0.0256, 0.0312, 0.0150, 0.0290, 0.0411, 0.0617]
"""NDCG, then recall, at 5, 10, 20 and 50, computed independently of this package."""
GRAPH_FILTER = {"ndcg@20": 0.1104, "recall@20": 0.1692}
"""Likewise, for exponents (.5, 1, .5)."""


@pytest.mark.gowalla
@pytest.mark.skipif("C2F_SLOW" not in os.environ, reason="takes minutes; C2F_SLOW=1 runs it")
def test_both_have_the_known_figures_on_gowalla(gowalla: Path) -> None:
    """All 29,857 test users of split 2024, all items."""
    train, _ = read_folder(gowalla)
    split = load_split(gowalla / "official_split_seed2024.npz", train)
    seen, held_out = split.train.matrix(), split.test.matrix()
    users = np.flatnonzero(np.diff(held_out.indptr))
    assert len(users) == 29857
    popular, filtered = (
        mean_metrics(rank(users, seen, max(KS))[0], held_out[users], KS)
        for rank in (rank_by_popularity, rank_by_graph_filter)
    )
    assert [round(figure, 4) for figure in popular.values()] == POPULARITY
    assert {name: round(filtered[name], 4) for name in GRAPH_FILTER} == GRAPH_FILTER
