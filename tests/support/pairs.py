"""Interactions as plain lists, to compare them with what a test expects."""

from __future__ import annotations

from typing import Any

from c2f_ref.interactions import Interactions


def pairs_of(made: Interactions) -> list[tuple[int, int]]:
    """Positions of users and items."""
    return list(zip(made.users.tolist(), made.items.tolist(), strict=True))


def raw_pairs_of(made: Interactions) -> list[tuple[Any, Any]]:
    """Raw ids of users and items."""
    users, items = made.user_ids[made.users], made.item_ids[made.items]
    return list(zip(users.tolist(), items.tolist(), strict=True))


def times_of(made: Interactions) -> list[float]:
    """Timestamps, which must be there."""
    assert made.timestamps is not None
    return made.timestamps.tolist()
