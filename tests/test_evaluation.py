"""Metrics by user and their means; bootstrap intervals; baselines are in a module of their own."""

from __future__ import annotations

import math
import re
from types import ModuleType

import numpy as np
import pytest
from scipy import sparse
from support.implementations import FAST

from c2f_ref import method
from c2f_ref.evaluation import bootstrap_intervals, evaluate_embeddings, metrics_by_user
from c2f_ref.method import MethodError

IMPLEMENTATIONS = pytest.mark.parametrize("ops", [pytest.param(method, id="method"), FAST])


@IMPLEMENTATIONS
def test_metrics_are_those_of_users_with_a_held_out_item(ops: ModuleType) -> None:
    """Entities on a line: user u has value 1 or -1: items rank by their value or against it.

    User 0 has seen item 0: list 1, 2, 3; held out 1 and 3. User 1: list 3, 2, 1, 0; held out 2.
    User 2 has nothing held out. At k = 2 recall is 1/2 and 1; NDCG is 1 / (1 + 1/log2 3) and
    1/log2 3. At k = 1 the first user alone has a hit: recall 1/2, NDCG 1.
    """
    entities = np.array([[1.0], [-1.0], [1.0], [3.0], [2.0], [1.0], [0.0]])
    seen = sparse.csr_array(([1.0], ([0], [0])), shape=(3, 4))
    held_out = sparse.csr_array((np.ones(3), ([0, 0, 1], [1, 3, 2])), shape=(3, 4))
    given = entities, np.zeros(7), seen, held_out, (2, 1)
    by_user = metrics_by_user(*given, ops=ops)
    second = 1 / math.log2(3)
    assert list(by_user) == ["ndcg@2", "ndcg@1", "recall@2", "recall@1"]
    assert by_user["ndcg@2"].tolist() == pytest.approx([1 / (1 + second), second])
    assert by_user["ndcg@1"].tolist() == [1.0, 0.0]
    assert (by_user["recall@2"].tolist(), by_user["recall@1"].tolist()) == ([0.5, 1.0], [0.5, 0.0])
    means = {name: float(values.mean()) for name, values in by_user.items()}
    assert evaluate_embeddings(*given, ops=ops) == means
    with pytest.raises(MethodError, match="at least one user with a held-out item, got none"):
        metrics_by_user(*given[:3], sparse.csr_array((3, 4)), (2,), ops=ops)


def test_the_interval_of_a_share_is_the_normal_one() -> None:
    """A fifth of 2,500 users have 1: the mean of a redraw is binomial, about N(0.2, s^2) with
    s = sqrt(0.2 0.8 / 2500) = 0.008.

    So the interval is 0.2 -+ z s with z = 1.960, averaged over 16 generators. It may be off by:
    five times the error of a quantile of 1,000 redraws, sqrt(0.025 0.975 / 1000) / phi(z) s =
    0.0845 s, over sqrt(16), which is 0.106 s; the binomial's skewness, 0.0142 s; its steps, 0.05 s.
    The sum, 0.17 s, is about half of what parts this z from those of the levels 0.90 and 0.98.
    """
    values, spread = np.repeat([1.0, 0.0], [500, 2000]), 0.008
    drawn = [
        bootstrap_intervals({"share": values}, rng=np.random.default_rng(seed))["share"]
        for seed in range(16)
    ]
    low, high = np.mean(drawn, axis=0)
    assert low == pytest.approx(0.2 - 1.960 * spread, abs=0.17 * spread)
    assert high == pytest.approx(0.2 + 1.960 * spread, abs=0.17 * spread)


def test_the_true_mean_lies_in_about_the_level_of_all_intervals() -> None:
    """100 samples of 100 users each, uniform on [0, 1], whose mean is 1/2; at the level 0.9.

    The interval is that of a normal z = 1.645 with the variance of n = 100, not n - 1, in the
    denominator: it holds the mean with probability P(|t_99| < 1.645 sqrt(0.99)) = 0.895. The count
    of 100 has a spread of sqrt(100 0.895 0.105) = 3.07; four of these are 12.3.
    """
    n_hits = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        low, high = bootstrap_intervals({"m": rng.random(100)}, rng=rng, level=0.9)["m"]
        n_hits += low <= 0.5 <= high
    assert abs(n_hits - 89.5) <= 12.3


def test_a_higher_level_gives_a_wider_interval_around_a_narrower_one() -> None:
    values = {"m": np.random.default_rng(0).random(200)}
    bounds = [
        bootstrap_intervals(values, rng=np.random.default_rng(1), level=level)["m"]
        for level in (0.99, 0.95, 0.5, 0.01)
    ]
    lows, highs = zip(*bounds, strict=True)
    assert (list(lows), list(highs)) == (sorted(set(lows)), sorted(set(highs), reverse=True))
    assert lows[-1] < highs[-1]
    assert bootstrap_intervals(values, rng=np.random.default_rng(1))["m"] == bounds[1]
    assert bootstrap_intervals(values, rng=np.random.default_rng(2))["m"] != bounds[1]


def test_metrics_share_the_redraws() -> None:
    """The same values have the same interval, twice the values twice that interval, their negatives
    the negated one turned round, and no metric changes the interval of another.
    """
    rng, seed = np.random.default_rng(8), 9
    values, others = rng.random(23), rng.random(23)
    values.flags.writeable = others.flags.writeable = False
    by_user = {"b": values, "a": values.copy(), "double": 2 * values, "negative": -values}
    intervals = bootstrap_intervals(by_user | {"o": others}, rng=np.random.default_rng(seed))
    assert list(intervals) == [*by_user, "o"]
    low, high = intervals["a"]
    assert low < values.mean() < high
    assert intervals["b"] == (low, high)
    assert intervals["double"] == (2 * low, 2 * high)
    assert intervals["negative"] == pytest.approx((-high, -low), rel=1e-14)
    alone = bootstrap_intervals({"a": values}, rng=np.random.default_rng(seed))
    assert alone == {"a": (low, high)}
    assert bootstrap_intervals({"m": np.full(7, 0.25)}, rng=rng) == {"m": (0.25, 0.25)}


def test_a_level_lies_between_zero_and_one_and_metrics_are_of_the_same_users() -> None:
    rng = np.random.default_rng(0)
    for level in (0, 1, 0.0, 1.0, -0.1, 95, math.nan):
        with pytest.raises(MethodError, match=rf"level in \(0, 1\).*, got level {level}"):
            bootstrap_intervals({"m": np.ones(3)}, rng=rng, level=level)
    for sizes in ([], [0], [3, 4]):
        by_user = {f"metric {size}": np.ones(size) for size in sizes}
        with pytest.raises(MethodError, match=f"same users, got .* {re.escape(str(sizes))} values"):
            bootstrap_intervals(by_user, rng=rng)
