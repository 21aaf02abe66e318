"""Metrics by user and their means; how far the choice of users could have moved them."""

from __future__ import annotations

import math
from math import log2
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from scipy import sparse
from support.implementations import FAST
from support.strategies import models, rngs

from c2f_ref import spec
from c2f_ref.spec import SpecError
from c2f_ref.training import bootstrap_intervals, evaluate_embeddings, metrics_by_user

IMPLEMENTATIONS = pytest.mark.parametrize("ops", [spec, FAST])


# Metrics


@IMPLEMENTATIONS
def test_metrics_are_those_of_users_with_a_held_out_item(ops: ModuleType) -> None:
    """Entities on a line: user u has value 1 or -1, so items are in falling or in rising order of theirs, 3, 2, 1, 0.

    User 0 has seen item 0: list 1, 2, 3; held out 1 and 3. User 1: list 3, 2, 1, 0; held out 2. User 2 has nothing held out.
    At k = 2 recall is 1/2 and 1; NDCG is 1 / (1 + 1/log2 3) and 1/log2 3.
    """
    entities = np.array([[1.0], [-1.0], [1.0], [3.0], [2.0], [1.0], [0.0]])
    seen = sparse.csr_array(([1.0], ([0], [0])), shape=(3, 4))
    held_out = sparse.csr_array((np.ones(3), ([0, 0, 1], [1, 3, 2])), shape=(3, 4))
    by_user = metrics_by_user(entities, np.zeros(7), seen, held_out, (2,), ops=ops)
    second = 1 / log2(3)
    assert by_user.keys() == {"ndcg@2", "recall@2"}
    assert by_user["ndcg@2"].tolist() == pytest.approx([1 / (1 + second), second])
    assert by_user["recall@2"].tolist() == [0.5, 1.0]
    metrics = evaluate_embeddings(entities, np.zeros(7), seen, held_out, (2,), ops=ops)
    assert metrics == pytest.approx({"ndcg@2": (1 / (1 + second) + second) / 2, "recall@2": 0.75})


@IMPLEMENTATIONS
def test_metrics_of_nobody_are_an_error(ops: ModuleType) -> None:
    nothing = sparse.csr_array((3, 4))
    for evaluate in (metrics_by_user, evaluate_embeddings):
        with pytest.raises(SpecError, match="at least one user with a held-out item, got none"):
            evaluate(np.zeros((7, 1)), np.zeros(7), nothing, nothing, (2,), ops=ops)


@IMPLEMENTATIONS
@given(models(), rngs())
def test_means_of_metrics_by_user_are_the_metrics(ops: ModuleType, drawn: Any, rng: np.random.Generator) -> None:
    """Bit for bit, for every k and in the order of the ks; a list for a smaller k begins as the longest does."""
    n_users, n_items = drawn.n_users, drawn.n_items
    seen = sparse.csr_array((np.ones(drawn.users.size), (drawn.users, drawn.items)), shape=(n_users, n_items))
    chosen = rng.random((n_users, n_items)) < 0.3
    chosen[rng.integers(n_users), rng.integers(n_items)] = True
    held_out = sparse.csr_array(chosen.astype(float))
    given = rng.normal(size=(drawn.n_entities, 3)), drawn.bias, seen, held_out
    by_user = metrics_by_user(*given, (3, 1), ops=ops)
    assert list(by_user) == ["ndcg@3", "ndcg@1", "recall@3", "recall@1"]
    assert {values.shape for values in by_user.values()} == {(int(chosen.any(axis=1).sum()),)}
    metrics = evaluate_embeddings(*given, (3, 1), ops=ops)
    assert metrics == {name: float(values.mean()) for name, values in by_user.items()}
    assert list(metrics) == list(by_user)
    for name, values in metrics_by_user(*given, (1,), ops=ops).items():
        assert np.array_equal(values, by_user[name])


# Intervals


def test_the_interval_of_a_share_is_the_normal_one() -> None:
    """A fifth of 2,500 users have 1: the mean of a redraw is binomial, about N(0.2, s^2) with s = sqrt(0.2 0.8 / 2500) = 0.008.

    So the interval is 0.2 -+ z s with z = 1.960, averaged over 16 generators. It may be off by: the error of a quantile of
    1,000 redraws, sqrt(0.025 0.975 / 1000) / phi(z) s = 0.0845 s, so for the average 0.0845 s / sqrt(16), five times which is
    0.106 s; the binomial's skewness, (1 - 2 0.2) / (6 sqrt(2500 0.2 0.8)) (z^2 - 1) s = 0.0142 s; and its steps of 1/2500 =
    0.05 s. The sum, 0.17 s, is about half of what parts this z from those of the levels 0.90 and 0.98.
    """
    values, spread = np.repeat([1.0, 0.0], [500, 2000]), 0.008
    intervals = [bootstrap_intervals({"share": values}, rng=np.random.default_rng(seed))["share"] for seed in range(16)]
    low, high = np.mean(intervals, axis=0)
    assert low == pytest.approx(0.2 - 1.960 * spread, abs=0.17 * spread)
    assert high == pytest.approx(0.2 + 1.960 * spread, abs=0.17 * spread)


def test_the_true_mean_lies_in_about_the_level_of_all_intervals() -> None:
    """200 samples of 100 users each, uniform on [0, 1], whose mean is 1/2; at the level 0.9.

    The interval is that of a normal z = 1.645 with the variance of n = 100, not n - 1, in the denominator: it holds the mean
    with the probability P(|t_99| < 1.645 sqrt(0.99)) = 0.895. The count of 200 has a spread of sqrt(200 0.895 0.105) = 4.3;
    four of these are 17.
    """
    n_hits = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        low, high = bootstrap_intervals({"m": rng.random(100)}, rng=rng, level=0.9)["m"]
        n_hits += low <= 0.5 <= high
    assert abs(n_hits - 200 * 0.895) <= 17


def test_a_higher_level_gives_a_wider_interval_around_a_narrower_one() -> None:
    values = {"m": np.random.default_rng(0).random(200)}
    bounds = [bootstrap_intervals(values, rng=np.random.default_rng(1), level=level)["m"] for level in (0.99, 0.95, 0.5, 0.01)]
    lows, highs = zip(*bounds, strict=True)
    assert list(lows) == sorted(set(lows))
    assert list(highs) == sorted(set(highs), reverse=True)
    assert lows[-1] < highs[-1]
    assert bootstrap_intervals(values, rng=np.random.default_rng(1))["m"] == bounds[1]


def test_one_generator_gives_one_result() -> None:
    values = {"m": np.random.default_rng(0).random(30)}
    first, again, other = (bootstrap_intervals(values, rng=np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert first == again != other


@given(rngs())
def test_metrics_share_the_redraws(rng: np.random.Generator) -> None:
    """So the same values have the same interval, twice the values twice that interval, their negatives the negated one turned
    round, and no metric changes the interval of another.
    """
    values, others, seed = rng.random(23), rng.random(23), int(rng.integers(2**32))
    by_user = {"b": values, "a": values.copy(), "double": 2 * values, "negative": -values, "other": others}
    intervals = bootstrap_intervals(by_user, rng=np.random.default_rng(seed))
    assert list(intervals) == list(by_user)
    low, high = intervals["a"]
    assert low < values.mean() < high
    assert intervals["b"] == (low, high)
    assert intervals["double"] == (2 * low, 2 * high)
    assert intervals["negative"] == pytest.approx((-high, -low), rel=1e-14)
    assert bootstrap_intervals({"a": values}, rng=np.random.default_rng(seed)) == {"a": (low, high)}


def test_users_who_are_all_alike_leave_nothing_to_chance() -> None:
    for n_users in (1, 7):
        assert bootstrap_intervals({"m": np.full(n_users, 0.25)}, rng=np.random.default_rng(0)) == {"m": (0.25, 0.25)}


def test_the_values_are_left_as_they_are() -> None:
    values = np.random.default_rng(0).random(9)
    values.flags.writeable = False
    before = values.tobytes()
    bootstrap_intervals({"m": values}, rng=np.random.default_rng(0))
    assert values.tobytes() == before


@pytest.mark.parametrize("level", [0, 1, 0.0, 1.0, -0.1, 95, math.nan])
def test_a_level_lies_between_zero_and_one(level: float) -> None:
    with pytest.raises(SpecError, match=rf"level must be in \(0, 1\), got {level}"):
        bootstrap_intervals({"m": np.ones(3)}, rng=np.random.default_rng(0), level=level)


@pytest.mark.parametrize(
    ("by_user", "came"),
    [({}, r"\[\]"), ({"m": np.ones(0)}, r"\[0\]"), ({"m": np.ones(3), "n": np.ones(4)}, r"\[3, 4\]")],
)
def test_metrics_are_of_the_same_users_and_of_some(by_user: Any, came: str) -> None:
    with pytest.raises(SpecError, match=f"every metric must have one value for each of the same users, got {came} values"):
        bootstrap_intervals(by_user, rng=np.random.default_rng(0))
