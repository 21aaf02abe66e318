"""Planted interactions: their counts, their law by definition, and the structure that can be seen in them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from c2f_ref.interactions import DataError, Interactions, planted

HARD = 60.0
"""A pull of exp(60): nobody leaves."""


def draw(seed: int = 0, **given_: Any) -> Interactions:
    return planted(**given_, rng=np.random.default_rng(seed))


def parts_of(pairs: Interactions) -> np.ndarray[Any, Any]:
    """Connected component of every entity: shape (N,)."""
    joined = (np.ones(pairs.n_pairs), (pairs.users, pairs.items + pairs.n_users))
    return connected_components(sparse.csr_array(joined, shape=(pairs.n_entities, pairs.n_entities)), directed=False)[1]


def own_share(pairs: Interactions, parts: np.ndarray[Any, Any]) -> float:
    """Share of the pairs whose user and item are in one part."""
    return float(np.mean(parts[pairs.users] == parts[pairs.items + pairs.n_users]))


def assert_share(share: float, expected: float, n: int) -> None:
    """Within five standard deviations of a mean of n coin tosses: wrong once in two million, and the seed is fixed."""
    assert abs(share - expected) < 5 * math.sqrt(expected * (1 - expected) / n)


@given(
    n_users=st.integers(1, 9),
    n_items=st.integers(1, 9),
    n_groups=st.integers(1, 4),
    subgroups_per_group=st.integers(1, 4),
    data=st.data(),
)
def test_every_user_takes_so_many_different_items(data: Any, n_items: int, **sizes: int) -> None:
    n_taken = data.draw(st.integers(1, n_items))
    pairs = draw(data.draw(st.integers(0, 2**32)), n_items=n_items, pairs_per_user=n_taken, **sizes)
    assert np.bincount(pairs.users, minlength=pairs.n_users).tolist() == [n_taken] * sizes["n_users"]
    assert (pairs.n_users, pairs.n_items, pairs.n_duplicates) == (sizes["n_users"], n_items, 0)
    assert pairs.user_ids.tolist() == [f"u{user}" for user in range(sizes["n_users"])]
    assert pairs.item_ids.tolist() == [f"i{item}" for item in range(n_items)]
    assert pairs.timestamps is None


def test_one_seed_gives_one_result_and_another_seed_another() -> None:
    assert draw(1).sha256() == draw(1).sha256() != draw(2).sha256()
    assert (draw().n_users, draw().n_items, draw().n_pairs) == (600, 600, 9000)


# By definition


def test_popularity_falls_as_the_rank_to_the_slope() -> None:
    """Slope 1, no pull, one pair a user: 1, 1/2, 1/3 and 1/4 of the whole, 25/12: shares 12/25, 6/25, 4/25 and 3/25."""
    n = 5000
    sizes = {"n_users": n, "n_items": 4, "pairs_per_user": 1}
    pairs = draw(**sizes, group_pull=0.0, subgroup_pull=0.0, popularity_slope=1.0)
    shares = sorted(np.bincount(pairs.items, minlength=4) / n, reverse=True)
    for share, expected in zip(shares, (12 / 25, 6 / 25, 4 / 25, 3 / 25), strict=True):
        assert_share(share, expected, n)


def test_pulls_are_exponents_of_the_weights() -> None:
    """Two groups of two subgroups with two items each, pulls log 2 and log 3: an item of the own subgroup weighs 6, one of the
    rest of the own group 2, any other 1: shares 12/20, 4/20 and 4/20. One seed has one set of groups, whatever the pulls.
    """
    n = 5000
    sizes = {"n_users": n, "n_items": 8, "n_groups": 2, "subgroups_per_group": 2, "popularity_slope": 0.0}
    subgroups = parts_of(draw(**sizes, pairs_per_user=2, group_pull=HARD, subgroup_pull=HARD))
    groups = parts_of(draw(**sizes, pairs_per_user=2, group_pull=HARD, subgroup_pull=0.0))
    assert (subgroups.max() + 1, groups.max() + 1) == (4, 2)
    pairs = draw(**sizes, pairs_per_user=1, group_pull=math.log(2), subgroup_pull=math.log(3))
    assert_share(own_share(pairs, subgroups), 12 / 20, n)
    assert_share(own_share(pairs, groups), 16 / 20, n)


def test_items_are_taken_one_after_the_other_without_replacement() -> None:
    """Weights 1, 1/2 and 1/3 of 11/6; two of three items: the least popular one is left out with probability
    6/11 * 3/5 + 3/11 * 6/8 = 117/220 (first the one, then the other, in either order).
    """
    n = 5000
    sizes = {"n_users": n, "n_items": 3, "pairs_per_user": 2}
    pairs = draw(**sizes, group_pull=0.0, subgroup_pull=0.0, popularity_slope=1.0)
    assert_share(1 - np.bincount(pairs.items, minlength=3).min() / n, 117 / 220, n)


# What can be seen in the data of the demonstration


@pytest.fixture(scope="module")
def grains() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Groups and subgroups of seed 0, from draws that nobody leaves and in which no item is rare: six, and four in each."""
    groups, subgroups = (parts_of(draw(group_pull=HARD, subgroup_pull=pull, popularity_slope=0.0)) for pull in (0.0, HARD))
    assert (groups.max() + 1, subgroups.max() + 1) == (6, 24)
    assert len(set(zip(groups.tolist(), subgroups.tolist(), strict=True))) == 24
    assert np.bincount(groups).tolist() == [200] * 6
    assert np.bincount(subgroups).tolist() == [50] * 24
    return groups, subgroups


def test_two_grains_are_visible(grains: tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]) -> None:
    """By chance 1/24 of the pairs is in the own subgroup and 3/24 in the rest of the group. Weights e^4, e^2 and 1 and equal
    popularity would make it 56 % and 23 %, the first less as a user runs out of popular items there; half of that is asked for.
    """
    pairs = draw()
    in_group, in_subgroup = (own_share(pairs, parts) for parts in grains)
    assert in_subgroup > 0.28 > 6 / 24
    # Per item, the rest of the group is taken more often than the 20/24 outside.
    assert (in_group - in_subgroup) / 3 > 3 * (1 - in_group) / 20


def test_without_pulls_no_grain_is_visible(grains: tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]) -> None:
    """Pairs of a user depend on one another and popularity moves a group's share: twice the five deviations of coin tosses."""
    pairs = draw(group_pull=0.0, subgroup_pull=0.0)
    for parts, chance in zip(grains, (1 / 6, 1 / 24), strict=True):
        assert abs(own_share(pairs, parts) - chance) < 10 * math.sqrt(chance * (1 - chance) / pairs.n_pairs)


def test_the_popularity_slope_is_visible() -> None:
    """Of flat data the most popular tenth of the items has hardly more than a tenth of the pairs."""
    shares = []
    for slope in (0.85, 0.0):
        counts = np.sort(np.bincount(draw(popularity_slope=slope).items, minlength=600))
        shares.append(counts[-60:].sum() / 9000)
    assert shares[0] > 0.3 > 2 * shares[1] * 0.9
    assert shares[1] < 0.17


# Errors


@pytest.mark.parametrize("name", ["n_users", "n_items", "n_groups", "subgroups_per_group", "pairs_per_user"])
@pytest.mark.parametrize("size", [0, -3, 2.5, True])
def test_a_size_is_a_whole_number_from_one(name: str, size: Any) -> None:
    with pytest.raises(DataError, match=f"{name} must be an integer of at least 1, got {size}"):
        draw(**{name: size})


def test_more_pairs_than_items_are_an_error_and_all_items_are_none() -> None:
    with pytest.raises(DataError, match="pairs_per_user must be at most n_items = 5, got 6"):
        draw(n_items=5, pairs_per_user=6)
    assert draw(n_users=2, n_items=5, pairs_per_user=5).items.tolist() == [0, 1, 2, 3, 4] * 2


@pytest.mark.parametrize("name", ["group_pull", "subgroup_pull", "popularity_slope"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_pull_or_slope_that_is_not_finite_is_an_error(name: str, value: float) -> None:
    with pytest.raises(DataError, match="pulls and slope must be finite"):
        draw(**{name: value})
