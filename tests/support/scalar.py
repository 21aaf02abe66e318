"""Lists and their metrics in scalar loops that share no code with the package."""

from __future__ import annotations

import math
from collections.abc import Sequence


def rank(scores: Sequence[float], seen: set[int], k: int) -> list[int]:
    """A full sort of the unseen items, best first, ties to the lowest index, padded with -1."""
    unseen = sorted(set(range(len(scores))) - seen, key=lambda item: (-scores[item], item))
    return (unseen + [-1] * k)[:k]


def recall(ranked: Sequence[int], held_out: set[int], k: int) -> float:
    """Hits among the first k over all held-out items."""
    return sum(item in held_out for item in ranked[:k]) / len(held_out)


def ndcg(ranked: Sequence[int], held_out: set[int], k: int) -> float:
    """Discounted gain of the hits over that of a perfect list."""
    places = [place for place, item in enumerate(ranked[:k], start=1) if item in held_out]
    best = range(1, min(k, len(held_out)) + 1)
    return sum(1 / math.log2(p + 1) for p in places) / sum(1 / math.log2(p + 1) for p in best)
