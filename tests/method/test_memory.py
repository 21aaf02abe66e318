"""Bytes counted and promised: by hand, and as inequalities that hypothesis tries to break."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import sparse
from support.agreement import assert_refused
from support.strategies import rngs

from c2f_ref import method
from c2f_ref.method import Settings, SettingsError, settings_for_budget
from c2f_ref.method.memory import narrowest, surviving_entries


def test_the_narrowest_integers_hold_their_largest_and_the_next_narrower_ones_do_not() -> None:
    """1, 2, 4 and 8 bytes hold 2^8, 2^16, 2^32 and 2^64 numbers, 0 among them."""
    sizes = {0: 1, 255: 1, 256: 2, 65_535: 2, 65_536: 4, 2**32 - 1: 4, 2**32: 8, 2**64 - 1: 8}
    for largest, n_bytes in sizes.items():
        dtype = narrowest(largest)
        assert (dtype.kind, dtype.itemsize) == ("u", n_bytes)
        assert np.array([largest], dtype=dtype)[0] == largest
    for largest in (-1, 2**64):
        assert_refused(f"must be in .*, got {largest}", narrowest, largest)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@given(rngs(), st.sampled_from([0.0, 0.3, 1.0]))
def test_entries_survive_where_soft_leaves_something(dtype: Any, rng, threshold: float) -> None:
    """In float64; what is dropped there is dropped in narrower types too, in which the threshold is
    rounded. The threshold itself, its neighbours in every type and zeros are among the entries.
    """
    table, near = rng.normal(size=(4, 7)).astype(dtype), dtype(threshold)
    beside = np.nextafter(near, dtype(9)), np.nextafter(near, dtype(0))
    table.flat[:6] = [near, -near, *beside, 0.0, -0.0]
    survive = surviving_entries(table, threshold)
    assert np.array_equal(survive, method.soft_threshold(table.astype(np.float64), threshold) != 0)
    assert not np.maximum(np.abs(table) - near, dtype(0))[~survive].any()
    assert method.fine_sparsity(table, threshold) == 1 - survive.sum() / 28


def test_sparsity_at_the_ends() -> None:
    """Nothing is dropped at threshold 0, all at an infinite one; nothing is left of nothing."""
    by_threshold = {0.0: 0.0, 0.5: 1 - 2 / 3, 1.0: 1 - 1 / 3, np.inf: 1.0}
    for threshold, sparsity in by_threshold.items():
        assert method.fine_sparsity(np.array([[0.5, -1.0, 2.0]]), threshold) == sparsity
    assert method.fine_sparsity(np.zeros((0, 3)), 1.0) == 1.0


def test_stored_bytes_by_hand() -> None:
    """U = 3, I = 300, C = 257, D = 5, F = 3, t = 1, 2 fine rows for a coarse one; 4 pairs; ids of 2
    and of 4 * 6 bytes. Columns of 300 items and of 257 coarse rows take 2 bytes, of 3 fine rows and
    5 dimensions 1; starts up to 4 take 1.
    """
    own = Settings(n_coarse=257, n_fine=3, dim=5, coarse_per_entity=1, fine_per_coarse=2)
    places, fine = np.arange(303), np.zeros((3, 5), dtype=np.float32)
    fine[0, :2], fine[2, 4] = [1.5, 1.0], -2.0
    words = np.array([f"item{item % 10}{item // 10}" for item in range(100)] + ["item-x"] * 200)
    seen = sparse.csr_array((np.ones(4), ([0, 0, 2, 2], [7, 299, 1, 2])), shape=(3, 300))
    tables_ = np.zeros(303, dtype=np.float32), np.zeros((257, 5), dtype=np.float16)
    s_c = sparse.csr_array((np.ones(303), (places, places % 257)), shape=(303, 257))
    links = np.ones(514, dtype=np.float32), np.tile([0, 2], 257), np.arange(258) * 2
    s_f = sparse.csr_array(links, shape=(257, 3))
    ids = np.arange(3, dtype=np.int16), words
    counted = method.stored_bytes(own, *ids, seen, *tables_, s_c, fine, s_f)
    assert counted == {
        "coarse": 257 * 5 * 2,
        "fine": 2 * (4 + 1) + 4 * 1,
        "coarse_assignment": 303 * (8 + 2),
        "fine_assignment": 257 * 2 * (4 + 1),
        "bias": 300 * 4,
        "ids": 3 * 2 + 300 * 6 * 4,
        "graph": 4 * 2 + 4 * 1,
    }
    everything = 2570 + 14 + 3030 + 2570 + 1200 + 7206 + 12
    assert method.total_bytes(counted) == {"tables": 2570 + 14, "everything": everything}
    without = method.stored_bytes(own, *ids, seen, *tables_, s_c)
    assert without == counted | {"fine": 0, "fine_assignment": 0}


def test_the_published_run_by_hand() -> None:
    """300 and 100 rows of 128 columns, 29,858 users, 40,981 items, 810,128 pairs, float32.

    tables: 300 * 128 * 4, and 100 rows of 80 entries as 8,000 * 5 + 101 * 2, less than 51,200.
    """
    bound = method.stored_bytes_bound(Settings(), 29_858, 40_981, 8, n_pairs=810_128)
    assert bound == {
        "coarse": 153_600,
        "fine": 40_202,
        "coarse_assignment": 141_678 * (4 + 2),
        "fine_assignment": 1_200 * (4 + 1),
        "bias": 163_924,
        "ids": 566_712,
        "graph": 810_128 * 2 + 29_859 * 4,
    }
    totals = method.total_bytes(bound)
    assert totals["tables"] / (70_839 * 128 * 4) == pytest.approx(0.0053, abs=5e-5)
    assert totals["everything"] == sum(bound.values())


def bound_of(settings: Settings, of_data: dict[str, Any]) -> int:
    return sum(method.stored_bytes_bound(settings, **of_data).values())


OTHERS = {"dim": 300, "coarse_per_entity": 5, "fine_per_coarse": 6, "sparse_pca_components": 100}
SIZES = {"n_users": 3000, "n_items": 2000, "n_pairs": 70_000, "id_bytes": 40}
"""The largest of settings other than C and F, and of the sizes of a bound."""
TYPES = st.sampled_from([(np.float32, None), (np.float64, None), (np.float32, np.float16)])


@given(
    st.fixed_dictionaries({name: st.integers(1, most) for name, most in OTHERS.items()}),
    st.fixed_dictionaries({name: st.integers(0, most) for name, most in SIZES.items()}),
    TYPES,
    st.integers(0, 4 * 10**6),
)
def test_a_budget_is_kept_and_leaves_no_room_for_one_more_coarse_row(
    of_settings: dict[str, Any], of_data: dict[str, Any], types: tuple[Any, Any], budget: int
) -> None:
    of_data |= dict(zip(("dtype", "table_dtype"), types, strict=True))
    n_entities = of_data["n_users"] + of_data["n_items"]
    assume(n_entities >= of_settings["coarse_per_entity"])
    try:
        settings = settings_for_budget(budget, **of_data, **of_settings)
    except SettingsError as error:
        least = int(str(error).split("at least ")[1].split(" ")[0].replace(",", ""))
        assert budget < least
        smallest = settings_for_budget(least, **of_data, **of_settings)
        assert smallest.n_coarse >= of_settings["coarse_per_entity"]
        assert bound_of(smallest, of_data) == least
        return
    assert {name: getattr(settings, name) for name in of_settings} == of_settings
    assert bound_of(settings, of_data) <= budget
    assert settings.n_coarse <= n_entities
    more = replace(settings, n_coarse=settings.n_coarse + 1)
    assert settings.n_coarse == n_entities or bound_of(more, of_data) > budget
    # F = C // 3 for the largest C that fits so: one fine row more would not fit.
    n_before = 3 * settings.n_fine + 2 if settings.n_fine else None
    assert settings.n_fine == 0 or settings.n_fine >= settings.fine_per_coarse
    if n_before is not None and n_before < n_entities:
        assert settings.n_coarse >= 3 * settings.n_fine
        ratio_kept = replace(settings, n_coarse=n_before + 1, n_fine=settings.n_fine + 1)
        assert bound_of(ratio_kept, of_data) > budget


def test_a_budget_by_hand() -> None:
    """N = 40, t = 1, D = 2, float32, no ids, no pairs: 4 starts and 37 items' bias, 4 + 148 = 152
    bytes, and S_c, 40 * 5 = 200. Every coarse row takes 8 bytes and 1 entry of S_f of 5; every fine
    row 8. F = C // 3: C = 30 and F = 10 need 352 + 390 + 80 = 822; C = 31, which has F = 10 too,
    835; C = 32, 848; C = 33 and F = 11, 869.
    """
    own = {"dim": 2, "coarse_per_entity": 1, "fine_per_coarse": 1}
    by_budget = {822: (30, 10), 834: (30, 10), 835: (31, 10), 868: (33, 10), 869: (33, 11)}
    for budget, expected in by_budget.items():
        settings = settings_for_budget(budget, 3, 37, **own)
        assert (settings.n_coarse, settings.n_fine) == expected
    assert settings_for_budget(10**9, 3, 37, **own).n_coarse == 40
    assert settings_for_budget(10**9, 4, 10, dim=3).n_fine == 4
    assert settings_for_budget(10**9, 4, 7, dim=3).n_fine == 0  # 3 fine rows for 4 of a coarse row
    assert settings_for_budget(360, 3, 37, **own).n_fine == 0
    message = "budget must be at least 360 bytes for the smallest model, got 359"
    assert_refused(message, settings_for_budget, 359, 3, 37, error=SettingsError, **own)


def test_budgets_refuse_what_they_decide_too_few_entities_and_sizes_below_0() -> None:
    for name in ("n_users", "n_items", "id_bytes", "n_pairs"):
        message, given_ = (
            rf"need sizes >= 0, got .*{name}=-1",
            {"n_users": 3, "n_items": 4, name: -1},
        )
        assert_refused(message, method.stored_bytes_bound, Settings(), **given_)
    for message, n_users, others in [
        ("n_coarse and n_fine follow from the budget", 3, {"n_coarse": 5}),
        ("n_coarse and n_fine follow from the budget", 3, {"n_fine": 5}),
        ("coarse_per_entity must be at most n_coarse = 3", 1, {"coarse_per_entity": 4}),
    ]:
        given_ = others | {"error": SettingsError}
        assert_refused(message, settings_for_budget, 10**6, n_users, 2, **given_)
