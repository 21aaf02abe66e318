"""Synthetic interactions whose structure is known: groups, finer groups inside them, and a popularity slope."""

from __future__ import annotations

import numpy as np

from c2f_ref.interactions.fields import DataError, is_whole
from c2f_ref.interactions.pairs import Interactions


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
    """Draw interactions with two grains: users prefer items of their group, and more so those of their subgroup.

        P(u takes i) ~ popularity_i exp(group_pull [same group] + subgroup_pull [same subgroup]),
        popularity_i = rank_i^-popularity_slope, ranks in random order

    Every user takes `pairs_per_user` different items, one after the other without replacement.

    Shapes: -> n_users * pairs_per_user pairs; raw ids are the strings "u0", "u1", ... and "i0", "i1", ...
    Edge: both pulls 0 leave nothing but popularity; one subgroup per group leaves a single grain.
    Errors: DataError for a size below 1, more pairs per user than items, or a pull or slope that is not finite.
    Source: for tests and demonstrations; sampling by Gumbel keys (Efraimidis and Spirakis 2006).
    """
    sizes = {
        "n_users": n_users,
        "n_items": n_items,
        "n_groups": n_groups,
        "subgroups_per_group": subgroups_per_group,
        "pairs_per_user": pairs_per_user,
    }
    for name, size in sizes.items():
        if not is_whole(size, 1):
            raise DataError(f"{name} must be an integer of at least 1, got {size!r}")
    if pairs_per_user > n_items:
        raise DataError(f"pairs_per_user must be at most n_items = {n_items}, got {pairs_per_user}")
    if not np.isfinite([group_pull, subgroup_pull, popularity_slope]).all():
        raise DataError(f"pulls and slope must be finite, got {group_pull}, {subgroup_pull}, {popularity_slope}")
    n_subgroups = n_groups * subgroups_per_group
    user_subgroups = rng.permutation(np.arange(n_users) % n_subgroups)
    item_subgroups = rng.permutation(np.arange(n_items) % n_subgroups)
    log_popularity = -popularity_slope * np.log(rng.permutation(n_items) + 1.0)
    same_subgroup = user_subgroups[:, None] == item_subgroups
    same_group = user_subgroups[:, None] // subgroups_per_group == item_subgroups // subgroups_per_group
    log_weights = log_popularity + group_pull * same_group + subgroup_pull * same_subgroup
    keys = log_weights + rng.gumbel(size=log_weights.shape)
    taken = np.argsort(-keys, axis=1, kind="stable")[:, :pairs_per_user]
    return Interactions.from_indices(
        np.repeat(np.arange(n_users), pairs_per_user),
        taken.ravel(),
        n_users,
        n_items,
        user_ids=[f"u{user}" for user in range(n_users)],
        item_ids=[f"i{item}" for item in range(n_items)],
    )
