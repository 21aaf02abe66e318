"""Bytes counted and promised: by hand, by definition, and as inequalities that hypothesis tries to break."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import sparse
from support.strategies import draw_fine, rngs, tables

from c2f_ref import spec
from c2f_ref.spec import Settings, SettingsError, SpecError
from c2f_ref.spec.memory import narrowest, surviving_entries

TERMS = ("coarse", "fine", "coarse_assignment", "fine_assignment", "bias", "ids", "graph")


# Indices


@pytest.mark.parametrize(
    ("largest", "n_bytes"),
    [(0, 1), (255, 1), (256, 2), (65_535, 2), (65_536, 4), (2**32 - 1, 4), (2**32, 8), (2**64 - 1, 8)],
)
def test_the_narrowest_integers_hold_their_largest_and_the_next_narrower_ones_do_not(largest: int, n_bytes: int) -> None:
    """1, 2, 4 and 8 bytes hold 2^8, 2^16, 2^32 and 2^64 numbers, 0 among them."""
    dtype = narrowest(largest)
    assert (dtype.kind, dtype.itemsize) == ("u", n_bytes)
    assert np.array([largest], dtype=dtype)[0] == largest


@pytest.mark.parametrize("largest", [-1, 2**64])
def test_an_index_that_no_integers_hold_is_told(largest: int) -> None:
    with pytest.raises(SpecError, match=f"must be in .*, got {largest}"):
        narrowest(largest)


# Sparsity


@given(rngs(), st.sampled_from([np.float16, np.float32, np.float64]), st.sampled_from([0.0, 0.3, 0.5, 1.0, np.inf]))
def test_entries_survive_where_soft_leaves_something(rng: np.random.Generator, dtype: Any, threshold: float) -> None:
    """By definition, in float64; the threshold itself, its neighbours in every type and zeros of both signs are among them."""
    table = rng.normal(size=(4, 7)).astype(dtype)
    near = dtype(min(threshold, 2.0))
    table.flat[:6] = [near, -near, np.nextafter(near, dtype(9)), np.nextafter(near, dtype(0)), 0.0, -0.0]
    survive = surviving_entries(table, threshold)
    assert np.array_equal(survive, spec.soft_threshold(table.astype(np.float64), threshold) != 0)


@given(rngs(), st.sampled_from([np.float16, np.float32]), st.floats(0.01, 2))
def test_what_is_dropped_in_float64_is_dropped_in_narrower_types_too(
    rng: np.random.Generator, dtype: Any, threshold: float
) -> None:
    """Where the threshold is rounded as well, as kernels of that type do."""
    table = rng.normal(size=(5, 6)).astype(dtype)
    table.flat[:3] = [dtype(threshold), np.nextafter(dtype(threshold), dtype(9)), np.nextafter(dtype(threshold), dtype(0))]
    dropped = ~surviving_entries(table, threshold)
    assert not np.maximum(np.abs(table) - dtype(threshold), dtype(0))[dropped].any()


@given(rngs(), st.floats(0.1, 2))
def test_sparsity_is_one_minus_the_share_of_nonzeros_exactly(rng: np.random.Generator, threshold: float) -> None:
    fine = draw_fine((5, 8), threshold, rng)
    n_nonzero = sum(abs(float(entry)) > threshold for entry in fine.flat)
    assert spec.fine_sparsity(fine, threshold) == 1 - n_nonzero / 40


@given(tables(), st.lists(st.floats(0, 4), min_size=2, max_size=6))
def test_a_higher_threshold_never_leaves_more(table: Any, thresholds: list[float]) -> None:
    sparsities = [spec.fine_sparsity(table, threshold) for threshold in sorted(thresholds)]
    assert sparsities == sorted(sparsities)
    stored = [stored_of(table, threshold)["fine"] for threshold in sorted(thresholds)]
    assert stored == sorted(stored, reverse=True)


def test_sparsity_at_the_ends() -> None:
    """Nothing is dropped of a table without zeros at threshold 0, everything at an infinite one; nothing is left of nothing."""
    table = np.array([[0.5, -1.0, 2.0]])
    assert [spec.fine_sparsity(table, threshold) for threshold in (0.0, 0.5, 1.0, np.inf)] == [0.0, 1 - 2 / 3, 1 - 1 / 3, 1.0]
    assert spec.fine_sparsity(np.zeros((0, 3)), 1.0) == 1.0


# Counted


def stored_of(fine: Any, threshold: float = 1.0) -> dict[str, int]:
    """Bytes of a model of 2 users and 3 items with this fine table."""
    n_fine, dim = fine.shape
    settings = Settings(n_coarse=3, n_fine=n_fine, dim=dim, fine_per_coarse=1, threshold=threshold)
    assignments = sparse.csr_array(np.eye(5, 3) + np.eye(5, 3, 1)), sparse.csr_array(np.eye(3, n_fine))
    ids = np.arange(2), np.arange(3)
    seen = sparse.csr_array((2, 3))
    return spec.stored_bytes(settings, *ids, seen, np.zeros(5), np.zeros((3, dim)), assignments[0], fine, assignments[1])


def test_stored_bytes_by_hand() -> None:
    """U = 3, I = 300, C = 257, D = 5, F = 3, t = 1, 2 fine rows for a coarse one; 4 pairs; ids of 2 and of 4 * 6 bytes.

    Columns of 300 items and of 257 coarse rows take 2 bytes, of 3 fine rows and 5 dimensions 1; starts up to 4 take 1.
    """
    rng = np.random.default_rng(0)
    settings = Settings(n_coarse=257, n_fine=3, dim=5, coarse_per_entity=1, fine_per_coarse=2, threshold=1.0)
    places = np.arange(303)
    fine = np.zeros((3, 5), dtype=np.float32)
    fine[0, :2], fine[2, 4] = [1.5, 1.0], -2.0
    counted = spec.stored_bytes(
        settings,
        np.arange(3, dtype=np.int16),
        np.array([f"item{item % 10}{item // 10}" for item in range(100)] + ["item-x"] * 200)[:300],
        sparse.csr_array((np.ones(4), ([0, 0, 2, 2], [7, 299, 1, 2])), shape=(3, 300)),
        np.zeros(303, dtype=np.float32),
        np.zeros((257, 5), dtype=np.float16),
        sparse.csr_array((np.ones(303), (places, places % 257)), shape=(303, 257)),
        fine,
        sparse.csr_array((rng.normal(size=514).astype(np.float32), np.tile([0, 2], 257), np.arange(258) * 2), shape=(257, 3)),
    )
    assert counted == {
        "coarse": 257 * 5 * 2,
        "fine": 2 * (4 + 1) + 4 * 1,
        "coarse_assignment": 303 * (8 + 2),
        "fine_assignment": 257 * 2 * (4 + 1),
        "bias": 300 * 4,
        "ids": 3 * 2 + 300 * 6 * 4,
        "graph": 4 * 2 + 4 * 1,
    }
    assert spec.total_bytes(counted) == {"tables": 2570 + 14, "everything": 2570 + 14 + 3030 + 2570 + 1200 + 7206 + 12}


def test_the_fine_table_counts_dense_where_that_is_smaller() -> None:
    """F D = 8 values of 8 bytes are 64; with 6 left, 6 (8 + 1) + 3 = 57; with 7, 66."""
    table = np.full((2, 4), 2.0)
    assert stored_of(table)["fine"] == 64
    table[0, 0] = 0.0
    assert stored_of(table)["fine"] == 64
    table[1, 3] = 1.0
    assert stored_of(table)["fine"] == 57


# Promised


def test_the_published_run_by_hand() -> None:
    """300 and 100 rows of 128 columns, 29,858 users, 40,981 items, 810,128 pairs, float32, ids of 8 bytes.

    tables: 300 * 128 * 4, and 100 rows of 80 entries as 8,000 * 5 + 101 * 2, less than 51,200.
    """
    bound = spec.stored_bytes_bound(Settings(), 29_858, 40_981, 8, n_pairs=810_128)
    assert bound == {
        "coarse": 153_600,
        "fine": 40_202,
        "coarse_assignment": 141_678 * (4 + 2),
        "fine_assignment": 1_200 * (4 + 1),
        "bias": 163_924,
        "ids": 566_712,
        "graph": 810_128 * 2 + 29_859 * 4,
    }
    totals = spec.total_bytes(bound)
    assert totals["tables"] / (70_839 * 128 * 4) == pytest.approx(0.0053, abs=5e-5)
    assert totals["everything"] == sum(bound.values())


@pytest.mark.parametrize(("dtype", "table_dtype", "value", "table"), [("f4", "f2", 4, 2), ("f8", None, 8, 8), ("f8", "f4", 8, 4)])
def test_types_count_where_they_are_used(dtype: str, table_dtype: str | None, value: int, table: int) -> None:
    """C = 3, D = 200, F = 0, N = 9, t = 2."""
    settings = Settings(n_coarse=3, n_fine=0, dim=200)
    bound = spec.stored_bytes_bound(settings, 4, 5, dtype=dtype, table_dtype=table_dtype)
    assert bound == {
        "coarse": 600 * table,
        "fine": 0,
        "coarse_assignment": 18 * (value + 1),
        "fine_assignment": 0,
        "bias": 5 * value,
        "ids": 0,
        "graph": 5,
    }


@pytest.mark.parametrize("name", ["n_users", "n_items", "id_bytes", "n_pairs"])
def test_sizes_below_0_are_told(name: str) -> None:
    sizes: dict[str, Any] = {"n_users": 3, "n_items": 4} | {name: -1}
    with pytest.raises(SpecError, match=f"{name} must be at least 0, got -1"):
        spec.stored_bytes_bound(Settings(), **sizes)


@st.composite
def fields(draw: Callable[..., Any]) -> dict[str, Any]:
    """Settings other than C and F."""
    return {
        "dim": draw(st.integers(1, 300)),
        "coarse_per_entity": draw(st.integers(1, 5)),
        "fine_per_coarse": draw(st.integers(1, 6)),
        "sparse_pca_components": draw(st.integers(1, 100)),
    }


@st.composite
def sizes(draw: Callable[..., Any]) -> dict[str, Any]:
    """Users, items and the rest that a bound is asked for."""
    counts = {name: draw(st.integers(0, most)) for name, most in {"n_users": 3000, "n_items": 2000, "n_pairs": 70_000}.items()}
    types = draw(st.sampled_from([(np.float32, None), (np.float64, None), (np.float32, np.float16)]))
    return counts | {"id_bytes": draw(st.integers(0, 40)), "dtype": types[0], "table_dtype": types[1]}


@given(fields(), sizes(), st.data())
def test_the_promise_grows_with_every_size(of_settings: dict[str, Any], of_data: dict[str, Any], data: Any) -> None:
    """Term by term, whichever size grows: what a binary search over budgets stands on."""
    settings = Settings(n_coarse=data.draw(st.integers(5, 700)), n_fine=data.draw(st.integers(6, 700)), **of_settings)
    bound = spec.stored_bytes_bound(settings, **of_data)
    assert tuple(bound) == TERMS
    more = data.draw(st.integers(1, 300))
    for name in ("n_users", "n_items", "n_pairs", "id_bytes"):
        larger = spec.stored_bytes_bound(settings, **of_data | {name: of_data[name] + more})
        assert all(larger[term] >= bound[term] for term in TERMS)
    for name in ("n_coarse", "n_fine", "dim", "sparse_pca_components"):
        larger = spec.stored_bytes_bound(replace(settings, **{name: getattr(settings, name) + more}), **of_data)
        assert all(larger[term] >= bound[term] for term in TERMS)


# Budgets


def needed(settings: Settings, of_data: dict[str, Any]) -> int:
    return sum(spec.stored_bytes_bound(settings, **of_data).values())


@given(fields(), sizes(), st.integers(0, 4 * 10**6))
def test_a_budget_is_kept_and_leaves_no_room_for_one_more_coarse_row(
    of_settings: dict[str, Any], of_data: dict[str, Any], budget: int
) -> None:
    n_entities = of_data["n_users"] + of_data["n_items"]
    assume(n_entities >= of_settings["coarse_per_entity"])
    try:
        settings = Settings.for_budget(budget, **of_data, **of_settings)
    except SettingsError as error:
        least = int(str(error).split("at least ")[1].split(" ")[0].replace(",", ""))
        assert budget < least
        smallest = Settings.for_budget(least, **of_data, **of_settings)
        assert smallest.n_coarse >= of_settings["coarse_per_entity"]
        assert needed(smallest, of_data) == least
        return
    assert {name: getattr(settings, name) for name in of_settings} == of_settings
    assert needed(settings, of_data) <= budget
    assert settings.n_coarse <= n_entities
    more = replace(settings, n_coarse=settings.n_coarse + 1)
    assert settings.n_coarse == n_entities or needed(more, of_data) > budget
    # F = C // 3, as in the published run, for the largest C that fits so: with one more of those, C // 3 would not fit.
    n_before = 3 * settings.n_fine + 2 if settings.n_fine else None
    assert settings.n_fine == 0 or settings.n_fine >= settings.fine_per_coarse
    if n_before is not None and n_before < n_entities:
        assert settings.n_coarse >= 3 * settings.n_fine
        ratio_kept = replace(settings, n_coarse=n_before + 1, n_fine=settings.n_fine + 1)
        assert needed(ratio_kept, of_data) > budget


def test_a_budget_by_hand() -> None:
    """N = 40, t = 1, D = 2, float32, no ids, no pairs: 4 starts and 37 items' bias, 4 + 148 = 152 bytes, and S_c, 40 * 5 = 200.

    Every coarse row takes 8 bytes and 1 entry of S_f of 5; every fine row 8. F = C // 3: C = 30 and F = 10 need
    352 + 390 + 80 = 822; C = 31, which has F = 10 too, 835; C = 32, 848; C = 33 and F = 11, 869.
    """
    fields = {"dim": 2, "coarse_per_entity": 1, "fine_per_coarse": 1}
    for budget, sizes in {822: (30, 10), 834: (30, 10), 835: (31, 10), 868: (33, 10), 869: (33, 11)}.items():
        settings = Settings.for_budget(budget, 3, 37, **fields)
        assert (settings.n_coarse, settings.n_fine) == sizes
    assert Settings.for_budget(10**9, 3, 37, **fields).n_coarse == 40
    assert Settings.for_budget(360, 3, 37, **fields).n_fine == 0
    with pytest.raises(SettingsError, match="budget must be at least 360 bytes for the smallest model, got 359"):
        Settings.for_budget(359, 3, 37, **fields)


def test_a_fine_table_too_small_for_its_rows_is_left_out() -> None:
    """C // 3 = 3 is below the 4 fine rows that a coarse row takes; from C = 12 on there is one."""
    of_data = {"n_users": 4, "n_items": 10}
    assert Settings.for_budget(10**9, **of_data, dim=3).n_fine == 4
    assert Settings.for_budget(10**9, n_users=4, n_items=7, dim=3).n_fine == 0


def test_the_largest_model_for_gowalla_in_4_mib() -> None:
    """What is left of 4 MiB beside S_c, bias, ids and graph goes into coarse and fine rows."""
    of_data: dict[str, Any] = {"n_users": 29_858, "n_items": 40_981, "id_bytes": 8, "n_pairs": 810_128}
    settings = Settings.for_budget(4 * 2**20, **of_data)
    assert 4 * 2**20 - 600 < needed(settings, of_data) <= 4 * 2**20
    assert settings.n_fine == pytest.approx(settings.n_coarse / 3, abs=2)


@pytest.mark.parametrize("name", ["n_coarse", "n_fine"])
def test_what_the_budget_decides_cannot_be_given(name: str) -> None:
    with pytest.raises(SettingsError, match="n_coarse and n_fine follow from the budget"):
        Settings.for_budget(10**6, 3, 4, **{name: 5})


def test_fewer_entities_than_an_entity_has_coarse_rows_are_told() -> None:
    with pytest.raises(SettingsError, match="coarse_per_entity must be at most n_coarse = 3, got 4"):
        Settings.for_budget(10**6, 1, 2, coarse_per_entity=4)
    with pytest.raises(SettingsError, match="n_coarse must be in"):
        Settings.for_budget(10**6, 0, 0)


# What training leaves


def test_no_training_of_the_fine_table_leaves_more_than_promised() -> None:
    """300 steps with gradients of both signs: an entry that starts inside the threshold never comes out of it."""
    rng = np.random.default_rng(2)
    settings = Settings(n_coarse=9, n_fine=5, dim=7, fine_per_coarse=2, sparse_pca_components=3, threshold=0.4)
    fine = spec.start_fine(rng.normal(size=(9, 7)), settings, rng=rng)
    state, n_live = spec.start_adam(fine), [int(surviving_entries(fine, settings.threshold).sum())]
    for _ in range(300):
        grad = spec.soft_threshold_vjp(fine, settings.threshold, rng.normal(size=fine.shape))
        fine, state = spec.adam_step(fine, grad, state, 0.05, settings)
        n_live.append(int(surviving_entries(fine, settings.threshold).sum()))
    assert n_live[0] > n_live[-1] > 0
    assert max(n_live) <= settings.n_fine * settings.sparse_pca_components
    assert (surviving_entries(fine, settings.threshold).sum(axis=1) <= settings.sparse_pca_components).all()
