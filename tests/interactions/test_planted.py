"""Planted interactions: their counts, their law by definition, and the structure that shows."""

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
ONE_GRAIN = {"group_pull": 0.0, "subgroup_pull": 0.0}


def draw(seed: int = 0, **given_: Any) -> Interactions:
    return planted(**given_, rng=np.random.default_rng(seed))


def parts_of(pairs: Interactions) -> np.ndarray[Any, Any]:
    """Connected component of every entity: shape (N,)."""
    joined = (np.ones(pairs.n_pairs), (pairs.users, pairs.items + pairs.n_users))
    graph = sparse.csr_array(joined, shape=(pairs.n_entities, pairs.n_entities))
    return connected_components(graph, directed=False)[1]


def inner_share(pairs: Interactions, parts: np.ndarray[Any, Any]) -> float:
    """Share of the pairs whose user and item are in one part."""
    return float(np.mean(parts[pairs.users] == parts[pairs.items + pairs.n_users]))


def assert_share(share: float, expected: float, n: int) -> None:
    """Within five standard deviations of a mean of n coin tosses; the seed is fixed."""
    assert abs(share - expected) < 5 * math.sqrt(expected * (1 - expected) / n)


@given(
    n_users=st.integers(1, 9),
    n_items=st.integers(1, 9),
    n_groups=st.integers(1, 4),
    subgroups_per_group=st.integers(1, 4),
    data=st.data(),
)
def test_every_user_takes_that_number_of_different_items(
    data: Any, n_items: int, **sizes: int
) -> None:
    n_taken, seed = data.draw(st.integers(1, n_items)), data.draw(st.integers(0, 2**32))
    pairs = draw(seed, n_items=n_items, pairs_per_user=n_taken, **sizes)
    n_users = sizes["n_users"]
    assert np.bincount(pairs.users, minlength=n_users).tolist() == [n_taken] * n_users
    assert (pairs.n_users, pairs.n_items, pairs.n_duplicates) == (n_users, n_items, 0)
    assert pairs.user_ids.tolist() == [f"u{user}" for user in range(n_users)]
    assert pairs.item_ids.tolist() == [f"i{item}" for item in range(n_items)]
    assert pairs.timestamps is None
    again = draw(seed, n_items=n_items, pairs_per_user=n_taken, **sizes)
    assert again.sha256() == pairs.sha256()


# By definition


def test_popularity_falls_as_the_rank_to_the_slope() -> None:
    """Slope 1, one pair a user: weights 1, 1/2, 1/3, 1/4 of 25/12 are 12, 6, 4 and 3 of 25."""
    n = 5000
    pairs = draw(n_users=n, n_items=4, pairs_per_user=1, popularity_slope=1.0, **ONE_GRAIN)
    shares = sorted(np.bincount(pairs.items, minlength=4) / n, reverse=True)
    for share, expected in zip(shares, (12 / 25, 6 / 25, 4 / 25, 3 / 25), strict=True):
        assert_share(share, expected, n)


def test_pulls_are_exponents_of_the_weights() -> None:
    """Two groups of two subgroups of two items, pulls log 2 and log 3.

    An item of the user's subgroup weighs 6, one of the rest of the group 2, any other 1: shares
    12/20, 4/20 and 4/20. One seed has one set of groups, whatever the pulls.
    """
    n = 5000
    sizes: dict[str, Any] = {"n_users": n, "n_items": 8, "n_groups": 2, "subgroups_per_group": 2}
    sizes["popularity_slope"] = 0.0
    subgroups = parts_of(draw(**sizes, pairs_per_user=2, group_pull=HARD, subgroup_pull=HARD))
    groups = parts_of(draw(**sizes, pairs_per_user=2, group_pull=HARD, subgroup_pull=0.0))
    assert (subgroups.max() + 1, groups.max() + 1) == (4, 2)
    pairs = draw(**sizes, pairs_per_user=1, group_pull=math.log(2), subgroup_pull=math.log(3))
    assert_share(inner_share(pairs, subgroups), 12 / 20, n)
    assert_share(inner_share(pairs, groups), 16 / 20, n)


def test_items_are_taken_one_after_the_other_without_replacement() -> None:
    """Weights 1, 1/2, 1/3 of 11/6, two of three items taken.

    The least popular one is left out with probability 6/11 * 3/5 + 3/11 * 6/8 = 117/220: first the
    one, then the other, in either order.
    """
    n = 5000
    pairs = draw(n_users=n, n_items=3, pairs_per_user=2, popularity_slope=1.0, **ONE_GRAIN)
    assert_share(1 - np.bincount(pairs.items, minlength=3).min() / n, 117 / 220, n)


# What shows in the data of the demonstration


def test_two_grains_show_and_without_pulls_none() -> None:
    """By chance 1/24 of the pairs is in the user's subgroup and 3/24 in the rest of the group.

    Weights e^4, e^2 and 1 and equal popularity would make it 56 % and 23 %, the first less as a
    user runs out of popular items there; half of that is asked for. Pairs of a user depend on one
    another: without pulls twice the five deviations of coin tosses are allowed.
    """
    pulls = (0.0, HARD)  # six groups and four subgroups in each, from draws that nobody leaves
    drawn = [draw(group_pull=HARD, subgroup_pull=pull, popularity_slope=0.0) for pull in pulls]
    grains = [parts_of(pairs) for pairs in drawn]
    assert len(set(zip(*(parts.tolist() for parts in grains), strict=True))) == 24
    assert [np.bincount(parts).tolist() for parts in grains] == [[200] * 6, [50] * 24]
    in_group, in_subgroup = (inner_share(draw(), parts) for parts in grains)
    assert in_subgroup > 0.28 > 6 / 24
    # Per item, the rest of the group is taken more often than the 20/24 outside.
    assert (in_group - in_subgroup) / 3 > 3 * (1 - in_group) / 20
    for parts, chance in zip(grains, (1 / 6, 1 / 24), strict=True):
        share = inner_share(draw(**ONE_GRAIN), parts)
        assert abs(share - chance) < 10 * math.sqrt(chance * (1 - chance) / 9000)


# Errors

SIZES = ["n_users", "n_items", "n_groups", "subgroups_per_group", "pairs_per_user"]
STRENGTHS = ["group_pull", "subgroup_pull", "popularity_slope"]


@pytest.mark.parametrize(
    ("name", "value"),
    [("pairs_per_user", 601)]
    + [(name, size) for name in SIZES for size in (0, -3, 2.5, True)]
    + [(name, value) for name in STRENGTHS for value in (math.nan, math.inf, -math.inf)],
)
def test_a_size_or_strength_out_of_range_is_refused(name: str, value: Any) -> None:
    rule = "sizes must be integers from 1, .*" if name in SIZES else "pulls and slope must be fini"
    with pytest.raises(DataError, match=f"{rule}.*, got .*{value}"):
        draw(**{name: value})
