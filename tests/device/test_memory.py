"""Budgets: the least is named and enough, nothing goes above one, and what is needed grows as entities and pairs do."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from device.made import make_stored

from c2f_ref.device import DEFAULT_BUDGET, Device, DeviceError, MemoryBudgetError
from c2f_ref.device.memory import OVERHEAD, RETURNED, loading_bytes, serving_bytes, sizes_of
from c2f_ref.stored import StoredModel, write_stored

SCALES = [50, 100, 200, 400, 800, 1600, 3200, 6400]
"""Items; users are two thirds of them, coarse rows a twentieth, pairs ten for each user."""


def model_of_scale(n_items: int, **options: Any) -> StoredModel:
    n_coarse = max(n_items // 20, 3)
    return make_stored(
        np.random.default_rng(n_items),
        n_users=n_items * 2 // 3,
        n_items=n_items,
        n_coarse=n_coarse,
        n_fine=n_coarse // 2 + 1,
        dim=8,
        pairs_per_user=10.0,
        **options,
    )


def peak_of(call: Callable[[], object]) -> int:
    """Bytes that were allocated at once while this ran, at most, above what was there before."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


# The formula


def test_the_least_budget_is_the_formula_worked_out_for_one_model() -> None:
    """U = 7, I = 9, C = 5, F = 4, D = 3, t = 2, k = 3; float64 with indices of one byte.

    Arrays: ids 7 * 8 and 9 * 6 letters * 4; pairs P and starts 8; b 72; tables 15 * 8 and 12 * 8; S_c 32 * 9; S_f 15 * 9.
    """
    stored = make_stored(np.random.default_rng(0), n_users=7, n_items=9, n_coarse=5, n_fine=4, dim=3)
    arrays = 56 + 216 + stored.graph_columns.size + 8 + 72 + 120 + 96 + 288 + 135
    start = 8 * (16 + 32 + 7 + 15 + 12)
    forward = 8 * 12 * (16 + 5 + 4) + 16 * 12
    scores, overhead = 8 * 9, 2**18
    assert serving_bytes(sizes_of(stored.arrays())) == overhead + arrays + start + forward + scores + 2**17
    assert serving_bytes(sizes_of(stored.arrays()), 100, 90) == overhead + arrays + start + forward + scores + 100 * (
        24 + 90 * (16 + 24)
    )


@pytest.mark.parametrize("compress", [False, True])
def test_a_file_says_the_sizes_of_its_model(tmp_path: Path, compress: bool) -> None:
    stored = model_of_scale(100, compress=compress)
    write_stored(tmp_path / "model.npz", stored)
    needed = serving_bytes(sizes_of(stored.arrays()))
    assert loading_bytes(tmp_path / "model.npz") == needed > 2**18 + 3 * (tmp_path / "model.npz").stat().st_size


def test_the_least_budget_is_linear_in_entities_and_pairs() -> None:
    """The slope of its logarithm over that of the entities, a line through 8 sizes, without the two constants of the formula."""
    least = [serving_bytes(sizes_of(model_of_scale(n_items).arrays())) - OVERHEAD - RETURNED for n_items in SCALES]
    assert 0.9 < np.polyfit(np.log(SCALES), np.log(least), 1)[0] <= 1.05


def test_the_default_budget_keeps_every_column_of_the_published_model() -> None:
    """29,858 users, 40,981 items, 810,128 pairs; 300 coarse and 100 fine rows of 128 columns, in float32."""
    n_users, n_items, n_pairs, n_coarse, n_fine, dim = 29_858, 40_981, 810_128, 300, 100, 128
    arrays = 8 * (n_users + n_items) + 2 * n_pairs + 4 * (n_users + 1) + 4 * n_items + 4 * n_coarse * dim + 4 * n_fine * dim
    arrays += (4 + 2) * 2 * (n_users + n_items) + (4 + 1) * 4 * n_coarse
    sizes = sizes_of(model_of_scale(50).arrays())._replace(
        n_bytes=arrays,
        id_bytes=8,
        n_users=n_users,
        n_items=n_items,
        n_coarse=n_coarse,
        n_fine=n_fine,
        dim=dim,
        n_assigned=2 * (n_users + n_items) + 4 * n_coarse,
    )
    assert serving_bytes(sizes) + 4 * (n_users + n_items) * dim <= DEFAULT_BUDGET


# The least budget


def test_a_budget_that_is_too_small_names_the_least_and_that_one_is_enough(tmp_path: Path) -> None:
    stored = model_of_scale(400)
    path = tmp_path / "model.npz"
    write_stored(path, stored)
    openings: list[Callable[[int], Device]] = [
        lambda budget: Device(stored, memory_budget=budget),
        lambda budget: Device.load(path, memory_budget=budget),
    ]
    for opening in openings:
        for budget in (0, 1000):
            with pytest.raises(MemoryBudgetError, match=rf"at least [0-9,]+ bytes .* got {budget:,}$") as caught:
                opening(budget)
        least = caught.value.least
        with pytest.raises(MemoryBudgetError) as again:
            opening(least - 1)
        assert again.value.least == least
        ids, _ = opening(least).recommend(stored.user_ids[:3])
        assert ids.shape == (3, 10)


@pytest.mark.parametrize("budget", ["1MiB", 2.0**25, None])
def test_a_budget_that_is_no_whole_number_of_bytes_is_told(tmp_path: Path, budget: Any) -> None:
    stored = model_of_scale(50)
    write_stored(tmp_path / "model.npz", stored)
    for opening in (
        lambda: Device(stored, memory_budget=budget),
        lambda: Device.load(tmp_path / "model.npz", memory_budget=budget),
    ):
        with pytest.raises(DeviceError, match="memory_budget must be a whole number of bytes, got ") as caught:
            opening()
        assert repr(budget) in str(caught.value)
    assert Device(stored, memory_budget=np.int64(2**25)).recommend(stored.user_ids[:1])[0].shape == (1, 10)


def test_many_pairs_make_loading_the_larger_need(tmp_path: Path) -> None:
    """Every user has seen half of all items: the file is larger than what a pass takes beside it, so checks of it decide."""
    stored = make_stored(np.random.default_rng(1), n_users=3000, n_items=250, n_coarse=4, dim=2, pairs_per_user=200.0)
    path = tmp_path / "model.npz"
    write_stored(path, stored)
    loading = loading_bytes(path)
    assert loading == 2**18 + 3 * path.stat().st_size > serving_bytes(sizes_of(stored.arrays()))
    with pytest.raises(MemoryBudgetError) as caught:
        Device.load(path, memory_budget=loading - 1)
    assert caught.value.least == loading
    budget = loading
    assert peak_of(lambda: Device.load(path, memory_budget=budget).recommend(stored.user_ids[:2])) <= budget


def test_long_ids_stay_within_the_least_budget(tmp_path: Path) -> None:
    """Ids of 120 letters are most of the file, and a check that none is there twice copies them."""
    stored = model_of_scale(1600)
    users, items = (np.array([f"{number:0120}" for number in range(n)]) for n in (stored.n_users, stored.n_items))
    stored = replace(stored, user_ids=users, item_ids=items)
    path = tmp_path / "model.npz"
    write_stored(path, stored)
    least = loading_bytes(path)
    Device.load(path, memory_budget=least)
    assert peak_of(lambda: Device.load(path, memory_budget=least).recommend(stored.user_ids[:2])) <= least


def test_nothing_large_is_allocated_for_a_budget_that_is_too_small(tmp_path: Path) -> None:
    stored = model_of_scale(6400)
    path = tmp_path / "model.npz"
    write_stored(path, stored)
    least = serving_bytes(sizes_of(stored.arrays()))

    def refused() -> None:
        for opening in (Device.load, Device):
            with pytest.raises(MemoryBudgetError):
                opening(path if opening is not Device else stored, memory_budget=least - 1)  # type: ignore[operator]

    assert peak_of(refused) < 2**17 < path.stat().st_size / 4


def test_a_request_that_is_too_large_names_the_least_budget_for_it() -> None:
    stored = model_of_scale(800)
    device, users = Device(stored, memory_budget=serving_bytes(sizes_of(stored.arrays()))), stored.user_ids[:5]
    with pytest.raises(MemoryBudgetError) as caught:
        device.recommend(users, 800)
    least = caught.value.least
    assert peak_of(lambda: Device(stored, memory_budget=least).recommend(users, 800)) + sizes_of(stored.arrays()).n_bytes <= least
    assert device.recommend(users, 10)[0].shape == (5, 10)


# Peaks


@pytest.mark.parametrize("n_items", SCALES)
def test_loading_and_recommending_stay_within_every_budget(tmp_path: Path, n_items: int) -> None:
    """From the least to ten times it."""
    stored = model_of_scale(n_items)
    path = tmp_path / "model.npz"
    write_stored(path, stored)
    least = loading_bytes(path)
    users = stored.user_ids[:5].tolist()

    def load_and_recommend(budget: int) -> None:
        device = Device.load(path, memory_budget=budget)
        device.recommend(users)
        device.recommend(users[:1], 20)

    load_and_recommend(least)  # what is imported or kept on first use is no part of a device
    for factor in (1.0, 1.5, 3.0, 10.0):
        budget = int(least * factor)
        assert peak_of(lambda budget=budget: load_and_recommend(budget)) <= budget  # type: ignore[misc]


@pytest.mark.parametrize(("n_users", "n_items", "pairs_per_user"), [(9000, 40, 1.0), (40, 9000, 3.0), (4000, 30, 25.0)])
def test_lopsided_models_stay_within_the_least_budget(n_users: int, n_items: int, pairs_per_user: float) -> None:
    stored = make_stored(
        np.random.default_rng(2), n_users=n_users, n_items=n_items, n_coarse=6, dim=3, n_layers=1, pairs_per_user=pairs_per_user
    )
    sizes = sizes_of(stored.arrays())
    least = serving_bytes(sizes)
    peak = peak_of(lambda: Device(stored, memory_budget=least).recommend(stored.user_ids[:2]))
    assert peak + sizes.n_bytes <= least
