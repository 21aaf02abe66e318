"""Synthetic interactions of known structure: groups, finer groups in them, popularity."""

from __future__ import annotations

import numpy as np

from .pairs import DataError, Interactions, is_whole

__all__ = ["planted"]


def planted(
    *,
    n_users: int = 600,
    n_items: int = 600,
    n_groups: int = 6,
    subgroups_per_group: int = 4,
    pairs_per_user: int = 15,
    group_pull: float = 2.0,
    subgroup_pull: float = 2.0,
    popularity_slope: float = 0.85,
    rng: np.random.Generator,
) -> Interactions:
    """Draw interactions with two grains: users prefer their group, and more so their subgroup.

        P(u takes i) ~ popularity_i exp(group_pull [same group] + subgroup_pull [same subgroup])
        popularity_i = rank_i^-popularity_slope, ranks in random order

    Every user takes `pairs_per_user` different items, one after the other without replacement.

    Shapes: -> n_users * pairs_per_user pairs; the raw ids are "u0", "u1", ... and "i0", "i1", ...
    Edge: both pulls 0 leave nothing but popularity; one subgroup per group leaves a single grain.
    Errors: DataError for a size below 1, more pairs per user than items, or a pull or slope that is
    not finite.
    Source: sampling by Gumbel keys, Efraimidis and Spirakis 2006.
    """
    sizes = (n_users, n_items, n_groups, subgroups_per_group, pairs_per_user)
    if not all(is_whole(size, 1) for size in sizes) or pairs_per_user > n_items:
        raise DataError(f"sizes must be integers from 1, pairs_per_user <= n_items, got {sizes}")
    strengths = (group_pull, subgroup_pull, popularity_slope)
    if not np.isfinite(strengths).all():
        raise DataError(f"pulls and slope must be finite, got {strengths}")
    n_subgroups = n_groups * subgroups_per_group
    of_user, of_item = (rng.permutation(np.arange(n) % n_subgroups) for n in (n_users, n_items))
    log_popularity = -popularity_slope * np.log(rng.permutation(n_items) + 1.0)
    same_subgroup = of_user[:, None] == of_item
    same_group = of_user[:, None] // subgroups_per_group == of_item // subgroups_per_group
    log_weights = log_popularity + group_pull * same_group + subgroup_pull * same_subgroup
    keys = log_weights + rng.gumbel(size=log_weights.shape)
    items = np.argsort(-keys, axis=1, kind="stable")[:, :pairs_per_user].ravel()
    users = np.repeat(np.arange(n_users), pairs_per_user)
    user_ids, item_ids = [f"u{u}" for u in range(n_users)], [f"i{i}" for i in range(n_items)]
    sides = {"user_ids": user_ids, "item_ids": item_ids}
    return Interactions.from_indices(users, items, n_users, n_items, **sides)
