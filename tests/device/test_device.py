"""Serving on NumPy alone: embeddings by definition, lists of raw ids, and budgets that are kept."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from device.made import (
    changed,
    embed_by_definition,
    make_model,
    narrow,
    scores_by_definition,
    seen_of,
)
from support.audit import peak_of

from c2f_ref.device import DEFAULT_BUDGET, Device, DeviceError, _Graph, _Rows, embed_column
from c2f_ref.method import Settings
from c2f_ref.model import FORMAT, Model, save_model
from c2f_ref.store import Array, StoreError, pack_text, write_store

SIZES = {"n_users": 7, "n_items": 9, "n_coarse": 5, "n_fine": 4, "dim": 3}
SCALES = [50, 200, 800, 3200]
"""Items; users are two thirds of them, coarse rows a twentieth, pairs ten for each user."""


def embed(model: Model) -> Array:
    graph = _Graph(model)
    columns = [embed_column(model, graph, number) for number in range(model.settings.dim)]
    return np.stack(columns, axis=1)


def assert_by_definition(model: Model) -> None:
    """No entry is off by more than 1e-12 of the largest: sums have fewer than 100 terms."""
    expected = embed_by_definition(model)
    assert np.abs(embed(model) - expected).max() <= 1e-12 * np.abs(expected).max()


def of_scale(n_items: int, **options: Any) -> Model:
    n_coarse = max(n_items // 20, 3)
    sizes = {"n_users": n_items * 2 // 3, "n_coarse": n_coarse, "n_fine": n_coarse // 2 + 1}
    options = {"pairs_per_user": 10.0, "dim": 8} | sizes | options
    return make_model(np.random.default_rng(n_items), n_items=n_items, **options)


def least_of(model: Model | Path, request: Callable[[Device], Any] = lambda _: None) -> int:
    """The least budget that the error names."""
    opening: Any = Device.load if isinstance(model, Path) else Device
    with pytest.raises(DeviceError, match=r"at least [0-9,]+ bytes .* got 1$") as caught:
        opening(model, memory_budget=1)
    assert caught.value.least is not None
    device = opening(model, memory_budget=caught.value.least)
    try:
        request(device)
    except DeviceError as error:
        return error.least or 0
    return caught.value.least


# Embeddings


def test_one_pair_and_one_coarse_row_embed_as_worked_out_on_paper() -> None:
    """A = 1 between user and item; both have degree 2 and so has the coarse row: links weigh 1/2.

    X = tanh x for both, so layer 1 of either is (tanh x + x) / 2, and H the mean of both layers.
    """
    x, one = 0.75, np.zeros(2, dtype=np.uint8)
    settings = Settings(n_coarse=1, n_fine=0, dim=1, n_layers=1, coarse_per_entity=1)
    arrays = {
        "ids.users": np.array([3]), "ids.items": np.array([4]), "bias": np.zeros(1),
        "graph.columns": one[:1], "graph.starts": np.array([0, 1], dtype=np.uint8),
        "coarse": np.array([[x]]), "coarse_assignment.columns": one[:, None],
        "coarse_assignment.values": np.ones((2, 1)),
    }  # fmt: skip
    expected = (math.tanh(x) + (math.tanh(x) + x) / 2) / 2
    assert np.abs(embed(Model(settings, arrays)) - expected).max() <= 1e-15


def test_a_matrix_and_its_transpose_sum_weighted_entries() -> None:
    """Rows (1/2 of 1, 2 of 2) and (3 of 0, 1 of 1)."""
    columns = np.array([[1, 2], [0, 1]], dtype=np.uint8)
    rows = _Rows(np.array([[0.5, 2.0], [3.0, 1.0]]), columns, 4)
    assert (rows @ np.array([10.0, 20.0, 40.0, 80.0])).tolist() == [90.0, 50.0]
    assert (rows.T @ np.array([10.0, 20.0])).tolist() == [60.0, 25.0, 20.0, 0.0]


@pytest.mark.parametrize(
    "options",
    [
        *({"n_fine": f, "n_layers": n} for f, n in product((0, 4), (0, 1, 3))),
        *({"n_fine": f, "n_layers": n, "signed": True} for f, n in product((0, 4), (0, 1, 3))),
        *({"pairs_per_user": pairs} for pairs in (0.0, 1.0, 9.0)),
        *({"coarse_per_entity": n} for n in (1, 4)),
        *({"dtype": np.float32, "table_dtype": t} for t in (np.float32, np.float16)),
        {"compress": True},
    ],
    ids=str,
)  # fmt: skip
def test_embeddings_are_the_formula(options: Any) -> None:
    """Both stages; signed assignments bring degrees that are not positive (D11)."""
    for seed in range(4):
        assert_by_definition(make_model(np.random.default_rng(seed), **SIZES | options))


def test_some_of_those_models_have_degrees_that_are_not_positive() -> None:
    made = [make_model(np.random.default_rng(seed), **SIZES, signed=True) for seed in range(4)]
    assert any((_Graph(model)._scale[:16] == 0).any() for model in made)
    assert any(not seen_of(model, user) for model in made for user in range(7))


def test_a_compressed_fine_table_gives_the_bits_of_a_dense_one() -> None:
    dense, packed = (
        make_model(np.random.default_rng(7), **SIZES, compress=choice) for choice in (False, True)
    )
    assert np.array_equal(embed(dense), embed(packed))


def test_an_entity_of_degree_zero_keeps_its_share_of_layer_zero_and_nothing_else() -> None:
    """The first user has no pair and entries 1 and -1: its degree is exactly 0 (D11)."""
    model = make_model(np.random.default_rng(9), **SIZES | {"n_fine": 0}, n_layers=2)
    values, starts = model.arrays["coarse_assignment.values"].copy(), model.arrays["graph.starts"]
    values[0] = [1.0, -1.0]
    columns = model.arrays["graph.columns"][starts[1] :]
    starts = narrow(np.maximum(starts.astype(int) - starts[1], 0), columns.size)
    model = changed(
        model, coarse_assignment_values=values, graph_columns=columns, graph_starts=starts
    )
    first, second = model.arrays["coarse_assignment.columns"][0]
    expected = np.tanh(model.coarse[first] - model.coarse[second]) / 3
    assert np.abs(embed(model)[0] - expected).max() <= 1e-15


def test_nothing_writes_to_the_model() -> None:
    model = make_model(np.random.default_rng(11), **SIZES)
    before = {name: array.tobytes() for name, array in model.arrays.items()}
    for array in model.arrays.values():
        array.flags.writeable = False  # a write is an error at its place
    Device(model).recommend(model.user_ids, 4)
    assert {name: array.tobytes() for name, array in model.arrays.items()} == before


# Lists


@pytest.mark.parametrize("exclude_seen", [True, False])
@pytest.mark.parametrize("n", [1, 4, 9, 12])
def test_lists_are_those_of_a_full_sort_wherever_scores_differ_by_more_than_rounding(
    n: int, exclude_seen: bool
) -> None:
    for seed in range(4):
        model = make_model(np.random.default_rng(seed), **SIZES, pairs_per_user=3.0)
        scores, bounds = scores_by_definition(model)
        items, best = Device(model).rank(np.arange(7), n, exclude_seen=exclude_seen)
        for user in range(7):
            unseen = set(range(9)) - set(seen_of(model, user) if exclude_seen else [])
            listed = items[user][items[user] >= 0].tolist()
            assert len(set(listed)) == len(listed) == min(n, len(unseen))
            assert set(listed) <= unseen
            assert np.isneginf(best[user, len(listed) :]).all()
            given = best[user, : len(listed)]
            assert (np.diff(given) <= 0).all()
            assert (np.abs(given - scores[user, listed]) <= bounds[user, listed]).all()
            left = list(unseen - set(listed))
            assert (scores[user, left] - bounds[user, left] <= min(given, default=0)).all()


@pytest.mark.parametrize("has_text_users", [True, False])
def test_raw_ids_go_in_and_come_out(has_text_users: bool) -> None:
    """Text of any length and alphabet, or integers: the ids of what `rank` gives by position."""
    model = make_model(np.random.default_rng(1), **SIZES, pairs_per_user=4.0)
    arrays = dict(model.arrays)
    if has_text_users:
        names = ["u", "", "Zoë", "u\0v", "zzz", "😀", "ab"]
        arrays["ids.users"], arrays["ids.users.starts"] = pack_text(names)
        arrays["ids.items"] = np.arange(9, dtype=np.uint8) + 50
        del arrays["ids.items.starts"]
    device = Device(Model(model.settings, arrays))
    positions = np.array([4, 0, 4, 5, 2, 1, 3])
    ids, scores = device.recommend(list(device.user_ids[positions]), n=8)
    items, expected = device.rank(positions, 8)
    padding = -1 if has_text_users else ""
    wanted = [[padding if i < 0 else device._model.item_ids[i] for i in row] for row in items]
    assert ids.tolist() == [[getattr(i, "item", lambda i=i: i)() for i in row] for row in wanted]
    assert scores.tolist() == expected.tolist()
    assert (items == -1).any()


def test_ties_go_to_the_lowest_position() -> None:
    """Without pairs, and with the same coarse rows, the bias alone decides; it has three values."""
    model = make_model(np.random.default_rng(3), **SIZES | {"n_items": 90}, pairs_per_user=0.0)
    rows = {}
    for part in ("values", "columns"):
        rows[f"coarse_assignment_{part}"] = model.arrays[f"coarse_assignment.{part}"].copy()
        rows[f"coarse_assignment_{part}"][7:] = rows[f"coarse_assignment_{part}"][7]
    items, scores = Device(changed(model, **rows, bias=np.arange(90) % 3.0)).rank(np.array([5]), 90)
    assert items.tolist() == [sorted(range(90), key=lambda item: -(item % 3))]
    assert len(set(scores[0].tolist())) == 3


def test_lists_end_where_no_item_is_left_and_may_be_empty() -> None:
    """Everybody has seen everything; then no user, no result, and a model that has no user."""
    device = Device(make_model(np.random.default_rng(7), **SIZES, pairs_per_user=9.0))
    items, scores = device.rank(np.array([1, 3]), 2)
    assert items.tolist() == [[-1, -1]] * 2
    assert np.isneginf(scores).all()
    assert device.recommend(device.user_ids[:1], 2)[0].tolist() == [["", ""]]
    assert [part.shape for part in device.recommend([])] == [(0, 10)] * 2
    assert [part.shape for part in device.recommend(device.user_ids[:2], 0)] == [(2, 0)] * 2
    nobody = Device(make_model(np.random.default_rng(9), **SIZES | {"n_users": 0}))
    assert nobody.recommend([])[0].shape == (0, 10)
    with pytest.raises(DeviceError, match=r"user 'u3' is not among the 0 users of the model$"):
        nobody.recommend(["u3"])


@pytest.mark.parametrize("has_text", [True, False])
@pytest.mark.parametrize("stranger", [99, "100", None, 10**30, 100.5, "\ud800", "x" * 99])
def test_an_unknown_user_is_named(stranger: Any, has_text: bool) -> None:
    model = make_model(np.random.default_rng(9), **SIZES)
    arrays = dict(model.arrays)
    if has_text:
        arrays["ids.users"], arrays["ids.users.starts"] = pack_text("abcdefg")
    device = Device(Model(model.settings, arrays))
    with pytest.raises(DeviceError, match="is not among the 7 users of the model") as caught:
        device.recommend([device.user_ids[0], stranger])
    assert repr(stranger) in str(caught.value)


def test_what_is_not_a_list_a_position_a_count_or_a_float_is_refused() -> None:
    model = make_model(np.random.default_rng(9), **SIZES)
    device, first = Device(model), np.array([0])
    for user in (3, "u3", None, [[100, 101]]):
        with pytest.raises(DeviceError, match="users must be a list of raw ids, got "):
            device.recommend(user)
    for users in ([7], [-1], [0, 12], [1.0], [[1]], ["1"]):
        with pytest.raises(DeviceError, match=r"users must be whole numbers in \[0, 7\), got \["):
            device.rank(np.array(users))
    for n in (-3, 2.0, "3", None):
        with pytest.raises(DeviceError, match="n must be a whole number of at least 0, got "):
            device.rank(first, n)
    assert np.array_equal(device.rank(first, np.int8(100))[0], device.rank(first, 100)[0])
    with pytest.raises(DeviceError, match="must be finite in float32, column 0 is not"):
        Device(changed(model, coarse=model.coarse * 1e60)).rank(first)


# Files


def test_a_file_gives_the_lists_of_the_model_that_was_written(tmp_path: Path) -> None:
    model = make_model(np.random.default_rng(6), **SIZES, compress=True, dtype=np.float32)
    save_model(tmp_path / "model.npz", model)
    loaded = Device.load(tmp_path / "model.npz").recommend(model.user_ids)
    for part, expected in zip(loaded, Device(model).recommend(model.user_ids), strict=True):
        assert part.tolist() == expected.tolist()


def test_a_file_that_is_not_a_model_is_a_store_error(tmp_path: Path) -> None:
    """Damage of a store is tried by the tests of the store."""
    path, arrays = tmp_path / "model.npz", make_model(np.random.default_rng(11), **SIZES).arrays
    no_axes = {name: np.zeros((), np.uint8) for name in arrays}
    one = {"coarse": np.zeros(3)}
    for kind, wrong in ((FORMAT, no_axes), (FORMAT, one), ("another", one)):
        write_store(path, kind, {}, wrong)
        with pytest.raises(StoreError, match=r"model\.npz"):
            Device.load(path)
    with pytest.raises(FileNotFoundError):
        Device.load(tmp_path / "nothing.npz")


# Budgets


def test_every_budget_gives_the_same_bits() -> None:
    """From nothing cached and one user at a time to the whole table."""
    sizes = {"n_users": 20, "n_items": 900, "n_coarse": 11, "n_fine": 6, "dim": 10}
    model = make_model(np.random.default_rng(4), **sizes, pairs_per_user=150.0)
    users, table = np.array([19, 0, 7, 7, 3]), 4 * 920 * 10
    expected, least = Device(model).rank(users, 30), least_of(model)
    for extra in [0, 7200, 3 * 7200, table - 1, table, 2 * table]:
        device = Device(model, memory_budget=least + extra)
        for _ in range(2):
            for part, wanted in zip(device.rank(users, 30), expected, strict=True):
                assert np.array_equal(part, wanted)
        assert device.is_cached == (extra >= table)
    assert device.rank(users[:1], 5, exclude_seen=False)[0].shape == (1, 5)
    assert np.array_equal(device.rank(users, 30)[0], expected[0])  # requests change nothing


def test_the_least_budget_is_the_formula() -> None:
    """U = 7, I = 9, C = 5, F = 4, D = 3, w = 6 letters of `item n`."""
    model = make_model(np.random.default_rng(0), **SIZES)
    n_bytes = sum(array.nbytes for array in model.arrays.values())
    least = 2**18 + n_bytes + 8 * 14 * (16 + 5 + 4) + 8 * 4 * 3 + 2**17
    assert abs(least_of(model) - least) <= 8 * 14
    many = least_of(model, lambda device: device.rank(np.zeros(100, dtype=int), 90))
    assert many - least_of(model) == 100 * (24 + 90 * (120 + 12 * 6)) - 2**17


def test_the_default_budget_caches_the_published_model() -> None:
    """29,858 users, 40,981 items, 810,128 pairs; 300 + 100 rows of 128 columns, in float32."""
    n_users, n_items, n_pairs, n_nodes = 29_858, 40_981, 810_128, 70_839 + 400
    n_bytes = 8 * 70_839 + 2 * n_pairs + 4 * (n_users + 1) + 4 * n_items + 4 * 400 * 128
    n_bytes += 6 * 2 * 70_839 + 5 * 4 * 300
    least = 2**18 + n_bytes + 8 * 14 * (n_nodes + 1) + 8 * 100 * 128 + 2**17
    assert least + 4 * 70_839 * 128 <= DEFAULT_BUDGET


@pytest.mark.parametrize("budget", ["1MiB", 2.0**25, None])
def test_a_budget_that_is_not_a_whole_number_of_bytes_is_refused(budget: Any) -> None:
    model = of_scale(50)
    with pytest.raises(DeviceError, match="memory_budget must be a whole number of bytes") as error:
        Device(model, memory_budget=budget)
    assert repr(budget) in str(error.value)
    assert error.value.least is None
    assert Device(model, memory_budget=np.int64(2**25)).user_ids.size == 33


@pytest.mark.parametrize("n_items", SCALES)
def test_loading_and_recommending_stay_within_every_budget(tmp_path: Path, n_items: int) -> None:
    """From the least to ten times it; one byte less is refused before anything large is made."""
    model, path = of_scale(n_items), tmp_path / "model.npz"
    save_model(path, model)
    least, users = least_of(path), model.user_ids[:5].tolist()

    def serve(budget: int) -> None:
        device = Device.load(path, memory_budget=budget)
        device.recommend(users)
        device.recommend(users[:1], 20)

    def refused() -> None:
        with pytest.raises(DeviceError) as caught:
            serve(least - 1)
        assert caught.value.least == least

    serve(least)  # what is imported or kept on first use is not part of a device
    assert peak_of(refused) < 2**17
    for budget in (least, least * 3 // 2, least * 3, least * 10):
        assert peak_of(partial(serve, budget)) <= budget


@pytest.mark.parametrize(
    "options",
    [
        {"n_users": 9000, "n_items": 40, "pairs_per_user": 1.0},
        {"n_users": 40, "n_items": 9000, "pairs_per_user": 3.0},
        {"n_users": 4000, "n_items": 30, "pairs_per_user": 25.0},
        {"n_users": 900, "n_items": 250, "pairs_per_user": 200.0, "dim": 2},
        {"n_users": 2000, "n_items": 500, "id": "x{:09}" * 12},
        {"n_users": 2000, "n_items": 500, "id": "{:05}\u20ac"},
        {"n_users": 2000, "n_items": 500, "id": "{:05}" + "😀" * 40},
    ],
)
def test_lopsided_models_and_long_ids_stay_within_the_least_budget(
    tmp_path: Path, options: Any
) -> None:
    """In memory and from a file, for few results and for many."""
    options = {"n_coarse": 6, "dim": 3, "n_layers": 1} | options
    id_text = options.pop("id", None)
    model, path = make_model(np.random.default_rng(2), **options), tmp_path / "model.npz"
    if id_text:
        arrays = dict(model.arrays)
        for name, n in (("users", model.n_users), ("items", model.n_items)):
            texts = (id_text.replace("{", "{0").format(number) for number in range(n))
            arrays[f"ids.{name}"], arrays[f"ids.{name}.starts"] = pack_text(texts)
        model = Model(model.settings, arrays)
    save_model(path, model)
    n_bytes = sum(array.nbytes for array in model.arrays.values())
    for n_users, n in ((2, 10), (9, min(model.n_items, 500))):
        users = list(model.user_ids[:n_users])

        def serve(opening: Any, budget: int, users: Any = users, n: int = n) -> None:
            opening(memory_budget=budget).recommend(users, n)

        least = least_of(model, partial(Device.recommend, users=users, n=n))
        assert peak_of(partial(serve, partial(Device, model), least)) + n_bytes <= least
        least = max(least, least_of(path))
        assert peak_of(partial(serve, partial(Device.load, path), least)) <= least


def test_the_least_budget_is_linear_in_entities_and_pairs() -> None:
    """The slope of its logarithm over that of the entities, without the constants."""
    least = [least_of(of_scale(n_items)) - 2**18 - 2**17 for n_items in SCALES]
    assert 0.9 < np.polyfit(np.log(SCALES), np.log(least), 1)[0] <= 1.05
