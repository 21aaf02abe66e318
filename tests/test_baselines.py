"""The yardsticks: by scalar loops, and the published figures on Gowalla."""

from __future__ import annotations

import math
import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from support import scalar
from support.agreement import assert_close
from support.strategies import rngs

from c2f_ref.baselines import item_filter, rank_by_item_filter, rank_by_popularity
from c2f_ref.interactions import load_split, read_folder
from c2f_ref.spec import mean_metrics

KS = (5, 10, 20, 50)


def matrix_of(seen: Any) -> sparse.csr_array:
    return sparse.csr_array(np.asarray(seen, dtype=np.float64))


def filter_scores(user: int, items_of: list[list[int]], users_of: list[list[int]]) -> list[float]:
    """Row `user` of R~ R~^T R~, R~_vi = 1 / sqrt(d_v d_i) for a pair, over all paths user - j - v - i."""
    scores = [0.0] * len(users_of)
    for j in items_of[user]:
        for v in users_of[j]:
            for i in items_of[v]:
                degrees = len(items_of[user]) * len(users_of[j]) * len(items_of[v]) * len(users_of[j])
                scores[i] += 1 / math.sqrt(degrees * len(items_of[v]) * len(users_of[i]))
    return scores


def lists_of(seen: sparse.csr_array) -> tuple[list[list[int]], list[list[int]]]:
    """Items of every user, users of every item."""
    items_of: list[list[int]] = [[] for _ in range(seen.shape[0])]
    users_of: list[list[int]] = [[] for _ in range(seen.shape[1])]
    for user, item in zip(*(ends.tolist() for ends in seen.nonzero()), strict=True):
        items_of[user].append(item)
        users_of[item].append(user)
    return items_of, users_of


# By hand


def test_popularity_counts_training_pairs_and_leaves_out_what_was_seen() -> None:
    """Counts are 2, 3, 0, 2, so the order is 1, 0, 3, 2: items 0 and 3 tie and the lower comes first."""
    seen = matrix_of([[1, 1, 0, 0], [0, 1, 0, 1], [1, 1, 0, 1], [0, 0, 0, 0]])
    items, scores = rank_by_popularity(np.array([3, 0, 2]), seen, 5)
    assert items.tolist() == [[1, 0, 3, 2, -1], [3, 2, -1, -1, -1], [2, -1, -1, -1, -1]]
    assert scores.tolist() == [[3, 2, 2, 0, -np.inf], [2, 0, *[-np.inf] * 3], [0, *[-np.inf] * 4]]


def test_the_item_filter_by_hand() -> None:
    """Users {0, 1} and {1}: degrees 2, 1 and 1, 2, so R~ = [[1/sqrt 2, 1/2], [0, 1/sqrt 2]].

    Row 1: R~_1 R~^T = (1/sqrt 8, 1/2), so item 0 gets 1/sqrt 8 * 1/sqrt 2 = 1/4. Item 2 has no pair: 0.
    """
    seen = matrix_of([[1, 1, 0], [0, 1, 0]])
    assert_close(item_filter(seen), np.array([[math.sqrt(1 / 2), 1 / 2, 0], [0, math.sqrt(1 / 2), 0]]))
    items, scores = rank_by_item_filter(np.array([1]), seen, 3)
    assert items.tolist() == [[0, 2, -1]]
    assert scores.tolist() == [[pytest.approx(0.25), 0.0, -np.inf]]


# By definition


@given(rngs(), st.integers(1, 6), st.integers(1, 9), st.integers(1, 10))
def test_both_rank_as_scalar_loops_do(rng: np.random.Generator, n_users: int, n_items: int, k: int) -> None:
    """Users and items without a pair among them; where rounding could part equal scores, the score decides."""
    seen = matrix_of(rng.random((n_users, n_items)) < 0.4)
    items_of, users_of = lists_of(seen)
    users = rng.permutation(n_users)
    counts = [float(len(users)) for users in users_of]
    items, scores = rank_by_popularity(users, seen, k)
    assert items.tolist() == [scalar.rank(counts, set(items_of[user]), k) for user in users]
    assert scores.tolist() == [[counts[item] if item >= 0 else -math.inf for item in row] for row in items]
    items, scores = rank_by_item_filter(users, seen, k)
    for user, row, row_scores in zip(users, items.tolist(), scores.tolist(), strict=True):
        expected = filter_scores(user, items_of, users_of)
        best = scalar.rank(expected, set(items_of[user]), k)
        assert row.count(-1) == best.count(-1)
        assert not set(row) & set(items_of[user])
        assert len({item for item in row if item >= 0}) == k - row.count(-1)
        for item, score, wanted in zip(row, row_scores, best, strict=True):
            assert score == (pytest.approx(expected[wanted], rel=1e-12, abs=0) if item >= 0 else -math.inf)
            assert item < 0 or score == pytest.approx(expected[item], rel=1e-12, abs=0)


def test_without_any_pair_all_items_are_equal() -> None:
    for rank in (rank_by_popularity, rank_by_item_filter):
        items, scores = rank(np.arange(2), sparse.csr_array((2, 3)), 2)
        assert items.tolist() == [[0, 1], [0, 1]]
        assert not scores.any()


def test_neither_writes_to_its_input() -> None:
    seen = matrix_of([[1, 0, 1], [1, 1, 0]])
    for array in (seen.data, seen.indices, seen.indptr):
        array.flags.writeable = False
    for rank in (rank_by_popularity, rank_by_item_filter):
        rank(np.arange(2), seen, 2)
    assert not np.shares_memory(item_filter(seen).indices, seen.indices)


# Real data


@pytest.mark.lastfm
def test_the_item_filter_on_lastfm_scores_as_scalar_loops_do(lastfm: Path) -> None:
    """Ten users of different activity, all items: every score of the list, and the list itself where it has no near ties."""
    train, _ = read_folder(lastfm)
    seen = train.matrix()
    items_of, users_of = lists_of(seen)
    active = [user for user in range(train.n_users) if items_of[user]]
    users = np.array(sorted(active, key=lambda user: len(items_of[user]))[:: len(active) // 9])
    assert len(users) == 10
    items, scores = rank_by_item_filter(users, seen, 20)
    for user, row, row_scores in zip(users, items.tolist(), scores.tolist(), strict=True):
        expected = filter_scores(user, items_of, users_of)
        best = scalar.rank(expected, set(items_of[user]), 20)
        assert row_scores == pytest.approx([expected[item] for item in best], rel=1e-11)
        gaps = [expected[a] - expected[b] for a, b in pairwise(best)]
        if min(gaps) > 1e-9 * expected[best[0]]:
            assert row[:-1] == best[:-1]


POPULARITY = [0.0175, 0.0220, 0.0256, 0.0312, 0.0150, 0.0290, 0.0411, 0.0617]
ITEM_FILTER = [0.0670, 0.0774, 0.0935, 0.1218, 0.0603, 0.0962, 0.1472, 0.2485]
"""NDCG, then recall, at 5, 10, 20 and 50, computed independently. Source: "two yardsticks that learn nothing"."""


@pytest.mark.gowalla
def test_popularity_has_the_known_figures_on_gowalla(gowalla: Path) -> None:
    """All 29,857 test users, all items.

    The first 50 unseen items of a user who has seen s are among the 50 + s most popular, so ranking those alone, in the order
    of their index as ties want it, gives the same lists in a tenth of the time.
    """
    train, _ = read_folder(gowalla)
    split = load_split(gowalla / "official_split_seed2024.npz", train)
    seen, held_out = split.train.matrix(), split.test.matrix()
    users = np.flatnonzero(np.diff(held_out.indptr))
    assert len(users) == 29857
    counts = np.bincount(split.train.items, minlength=train.n_items)
    most_popular = np.sort(np.argsort(-counts, kind="stable")[: max(KS) + np.diff(seen.indptr).max()])
    ranked = most_popular[rank_by_popularity(users, seen[:, most_popular], max(KS))[0]]
    some = slice(1000, 1100)
    assert np.array_equal(ranked[some], rank_by_popularity(users[some], seen, max(KS))[0])
    assert [round(figure, 4) for figure in mean_metrics(ranked, held_out[users], KS).values()] == POPULARITY


@pytest.mark.gowalla
@pytest.mark.skipif("C2F_SLOW" not in os.environ, reason="takes minutes; C2F_SLOW=1 pytest tests/test_baselines.py runs it")
def test_the_item_filter_has_the_known_figures_on_gowalla(gowalla: Path) -> None:
    train, _ = read_folder(gowalla)
    split = load_split(gowalla / "official_split_seed2024.npz", train)
    seen, held_out = split.train.matrix(), split.test.matrix()
    users = np.flatnonzero(np.diff(held_out.indptr))
    ranked, _ = rank_by_item_filter(users, seen, max(KS))
    assert [round(figure, 4) for figure in mean_metrics(ranked, held_out[users], KS).values()] == ITEM_FILTER
