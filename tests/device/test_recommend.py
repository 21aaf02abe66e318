"""Lists of raw ids: the right items, the same for every budget, and typed errors for what cannot be answered."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from device.made import make_stored, pairs_of, scores_by_definition

from c2f_ref.container import BundleError, write_container
from c2f_ref.device import Device, DeviceError
from c2f_ref.device.memory import serving_bytes, sizes_of
from c2f_ref.stored import FixedRows, write_stored

SIZES = {"n_users": 7, "n_items": 9, "n_coarse": 5, "n_fine": 4, "dim": 3}


# By definition


@pytest.mark.parametrize("exclude_seen", [True, False])
@pytest.mark.parametrize("n", [1, 4, 9])
def test_lists_are_those_of_a_full_sort_wherever_scores_differ_by_more_than_rounding(n: int, exclude_seen: bool) -> None:
    for seed in range(4):
        stored = make_stored(np.random.default_rng(seed), **SIZES, pairs_per_user=3.0)
        scores, bounds = scores_by_definition(stored)
        items, best = Device(stored).rank(np.arange(7), n, exclude_seen=exclude_seen)
        seen = set(pairs_of(stored)) if exclude_seen else set()
        for user in range(7):
            unseen = [item for item in range(9) if (user, item) not in seen]
            listed = items[user][items[user] >= 0].tolist()
            assert len(set(listed)) == len(listed) == min(n, len(unseen))
            assert set(listed) <= set(unseen)
            assert (np.diff(best[user, : len(listed)]) <= 0).all()
            assert all(
                abs(score - scores[user, item]) <= bounds[user, item] for item, score in zip(listed, best[user], strict=False)
            )
            left_out = [scores[user, item] - bounds[user, item] for item in set(unseen) - set(listed)]
            assert max(left_out, default=-np.inf) <= best[user, len(listed) - 1]


def test_raw_ids_go_in_and_come_out() -> None:
    """Users by whole numbers, items by text: the ids of what `rank` gives by position."""
    stored = make_stored(np.random.default_rng(1), **SIZES)
    device = Device(stored)
    users = stored.user_ids[[4, 0, 4]]
    ids, scores = device.recommend(users.tolist(), n=2)
    items, expected = device.rank(np.array([4, 0, 4]), 2)
    assert ids.tolist() == [[str(stored.item_ids[item]) for item in row] for row in items]
    assert scores.tolist() == expected.tolist()


def test_users_by_text_are_found_by_text() -> None:
    stored = make_stored(np.random.default_rng(2), **SIZES)
    stored = replace(stored, user_ids=np.array([f"u{number}" for number in range(7)]), item_ids=np.arange(9) + 50)
    ids, _ = Device(stored).recommend(["u6", "u2"], n=3)
    assert ids.tolist() == (Device(stored).rank(np.array([6, 2]), 3)[0] + 50).tolist()


def test_ties_go_to_the_lowest_position() -> None:
    """Without pairs, and with the same coarse rows and bias for every item, all scores of a user are equal."""
    stored = make_stored(np.random.default_rng(3), **SIZES, pairs_per_user=0.0)
    values, columns = (part.copy() for part in stored.coarse_assignment)
    values[7:], columns[7:] = values[7], columns[7]
    stored = replace(stored, coarse_assignment=FixedRows(values, columns), bias=np.full(9, 0.5))
    items, scores = Device(stored).rank(np.array([5]), 6)
    assert items.tolist() == [[0, 1, 2, 3, 4, 5]]
    assert len(set(scores[0].tolist())) == 1


# The same for every budget


def test_every_budget_gives_the_same_bits() -> None:
    """From no column kept and one user at a time to all of both."""
    stored = make_stored(np.random.default_rng(4), n_users=20, n_items=900, n_coarse=11, n_fine=6, dim=10, pairs_per_user=150.0)
    users = np.array([19, 0, 7, 7, 3])
    expected = Device(stored).rank(users, 30)
    least, kept = serving_bytes(sizes_of(stored.arrays())), set()
    for extra in [0, 4 * 920, 9000, 30_000, 60_000, 500_000]:
        device = Device(stored, memory_budget=least + extra)
        for _ in range(2):
            items, scores = device.rank(users, 30)
            assert np.array_equal(items, expected[0])
            assert np.array_equal(scores, expected[1])
        kept.add(device.columns_kept)
    assert {0, 10} < kept


def test_requests_do_not_change_later_ones() -> None:
    device = Device(make_stored(np.random.default_rng(5), **SIZES))
    first = device.rank(np.array([2]), 4)
    device.rank(np.array([5, 1, 2]), 9, exclude_seen=False)
    assert all(np.array_equal(a, b) for a, b in zip(device.rank(np.array([2]), 4), first, strict=True))


def test_a_file_gives_the_lists_of_the_model_that_was_written(tmp_path: Path) -> None:
    for number, compress in enumerate([False, True]):
        stored = make_stored(np.random.default_rng(6), **SIZES, compress=compress, dtype=np.float32)
        path = tmp_path / f"{number}.npz"
        write_stored(path, stored)
        loaded, expected = (device.recommend(stored.user_ids) for device in (Device.load(path), Device(stored)))
        assert loaded[0].tolist() == expected[0].tolist()
        assert loaded[1].tolist() == expected[1].tolist()


# Edges


def test_lists_end_with_minus_infinity_where_no_item_is_left() -> None:
    """Everything is seen by everybody: nothing can be listed, and ids are empty."""
    stored = make_stored(np.random.default_rng(7), **SIZES, pairs_per_user=9.0)
    device = Device(stored)
    items, scores = device.rank(np.array([1, 3]), 2)
    assert items.tolist() == [[-1, -1]] * 2
    assert np.isneginf(scores).all()
    assert device.recommend(stored.user_ids[:1], 2)[0].tolist() == [["", ""]]
    assert (device.rank(np.array([1]), 12, exclude_seen=False)[0] == -1).sum() == 3


def test_lists_end_with_an_id_that_nobody_has() -> None:
    """-1, or the empty text: 0 may be an item."""
    letters = np.array(list("abcdefghi"))
    for item_ids, padding in ((np.arange(9), -1), (np.arange(9, dtype=np.uint8), -1), (letters, "")):
        stored = replace(make_stored(np.random.default_rng(7), **SIZES, pairs_per_user=3.0), item_ids=item_ids)
        ids, scores = Device(stored).recommend(stored.user_ids[:2], 40)
        assert (ids[np.isneginf(scores)] == padding).all()
        assert np.isin(ids[scores > -np.inf], item_ids).all()
        assert np.isneginf(scores).any()


@pytest.mark.parametrize("user", [3, "u3", None, [[100, 101]]])
def test_one_id_is_no_list_nor_is_a_table(user: Any) -> None:
    with pytest.raises(DeviceError, match="users must be a list of raw ids, got "):
        Device(make_stored(np.random.default_rng(8), **SIZES)).recommend(user)


def test_no_user_and_no_result_are_answered_with_empty_arrays() -> None:
    stored = make_stored(np.random.default_rng(8), **SIZES)
    device = Device(stored)
    assert [part.shape for part in device.recommend([])] == [(0, 10)] * 2
    assert [part.shape for part in device.recommend(stored.user_ids[:2], 0)] == [(2, 0)] * 2


@pytest.mark.parametrize("stranger", [99, "100", None, 10**30, 100.5])
def test_an_unknown_user_is_named(stranger: Any) -> None:
    stored = make_stored(np.random.default_rng(9), **SIZES)
    with pytest.raises(DeviceError, match=r"not among the 7 users of the model") as caught:
        Device(stored).recommend([int(stored.user_ids[0]), stranger])
    assert repr(stranger) in str(caught.value)


@pytest.mark.parametrize("users", [[7], [-1], [0, 12], [1.0], [[1]], ["1"]])
def test_what_is_no_position_is_refused(users: list[Any]) -> None:
    with pytest.raises(DeviceError, match=r"users must be whole numbers in \[0, 7\), got \["):
        Device(make_stored(np.random.default_rng(9), **SIZES)).rank(np.array(users))


def test_a_user_of_a_model_without_users_is_named() -> None:
    stored = make_stored(np.random.default_rng(9), **SIZES | {"n_users": 0})
    assert Device(stored).recommend([])[0].shape == (0, 10)
    with pytest.raises(DeviceError, match=r"user 'u3' is not among the 0 users of the model$"):
        Device(stored).recommend(["u3"])


@pytest.mark.parametrize("n", [-3, 2.0, "3", None])
def test_numbers_of_results_that_are_no_count_are_refused(n: Any) -> None:
    with pytest.raises(DeviceError, match="n must be a whole number of at least 0, got "):
        Device(make_stored(np.random.default_rng(9), **SIZES)).rank(np.array([0]), n)


def test_a_narrow_number_of_results_does_not_wrap_around() -> None:
    """100 results of 40 bytes each are more than 8 bits hold."""
    device = Device(make_stored(np.random.default_rng(9), **SIZES))
    assert np.array_equal(device.rank(np.array([0]), np.int8(100))[0], device.rank(np.array([0]), 100)[0])  # type: ignore[arg-type]


def test_embeddings_too_large_for_float32_are_refused() -> None:
    stored = make_stored(np.random.default_rng(10), **SIZES)
    with pytest.raises(DeviceError, match="must be finite in float32, column 0 is not"):
        Device(replace(stored, coarse=stored.coarse * 1e60)).rank(np.array([0]))


@pytest.mark.parametrize("damage", ["empty", "text", "cut", "checkpoint", "no model"])
def test_a_file_that_is_no_model_is_a_bundle_error(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "model.npz"
    write_stored(path, make_stored(np.random.default_rng(11), **SIZES))
    content = path.read_bytes()
    if damage == "checkpoint":
        write_container(path, "another format", {}, {"a": np.zeros(3)})
    elif damage == "no model":
        write_container(path, "c2f-ref model 2", {}, {"coarse": np.zeros(3)})
    else:
        path.write_bytes({"empty": b"", "text": b"user,item\n", "cut": content[: len(content) // 2]}[damage])
    with pytest.raises(BundleError, match=r"model\.npz"):
        Device.load(path)


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Device.load(tmp_path / "nothing.npz")
