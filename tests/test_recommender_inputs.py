"""What the estimator makes of data: validation pairs, given or drawn."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.strategies import draw_pairs, rngs

from c2f_ref.interactions import DataError, Interactions, interactions_of, split_ratio
from c2f_ref.recommender import split_for


@given(st.permutations(range(2, 30)), rngs())
def test_a_tenth_of_each_users_pairs_validates_by_the_rule_of_the_command_line(
    sizes: list[int], rng: np.random.Generator
) -> None:
    """`split_ratio`, without test pairs; tests/interactions/test_splits.py has its definition."""
    n_users, n_items = sizes[:2]
    pairs = Interactions.from_indices(*draw_pairs(n_users, n_items, rng), n_users, n_items)
    seed = int(rng.integers(2**32))
    split = split_for(pairs, None, seed)
    assert (split.test.n_pairs, split.seed) == (0, seed)
    assert split.sha256() == split_ratio(pairs, valid=0.1, test=0.0, seed=seed).sha256()


def test_each_of_a_users_pairs_validates_equally_often() -> None:
    """Of 4 pairs one is drawn: each 125 times in 500, give or take 5 deviations of 9.7."""
    pairs = Interactions.from_indices([0, 1, 1, 1, 1], [3, 0, 2, 4, 5], 2, 6)
    drawn = [split_for(pairs, None, seed).valid.pair_keys for seed in range(500)]
    counts = Counter(np.concatenate(drawn).tolist())
    assert set(counts) == {6, 8, 10, 11}  # user * 6 + item
    np.testing.assert_allclose(list(counts.values()), 125, atol=48)


def test_given_validation_pairs_are_taken_and_repeats_are_counted() -> None:
    """(0, 2) is given three times in X, (0, 1) twice for validation."""
    pairs = interactions_of([(0, 2), (0, 0), (1, 1), (1, 3), (2, 2), (1, 0), (0, 2), (0, 2)])
    split = split_for(pairs, [(0, 1), (2, 3), (0, 1)], 5)
    assert (split.train.n_pairs, split.test.n_pairs) == (6, 0)
    assert split.valid.pair_keys.tolist() == [1, 11]
    assert "(3 repeated pairs dropped)" in split.describe()
    assert "(2 repeated pairs dropped)" in split_for(pairs, None, 5).describe()
    with pytest.raises(DataError, match=r"must be disjoint, both have user and item \(2, 2\)"):
        split_for(pairs, [(0, 1), (2, 2)], 5)
