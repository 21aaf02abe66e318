"""The device against the specification: numbers within a bound, the same lists, budgets kept, and nothing but NumPy loaded."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from device.made import make_stored
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from support.degrees import growth
from support.parity import gamma
from support.strategies import models, rngs

from c2f_ref import spec
from c2f_ref.bundle import Model, save_model
from c2f_ref.device import Device, MemoryBudgetError
from c2f_ref.device.forward import embed_column, prepare
from c2f_ref.device.memory import serving_bytes, sizes_of
from c2f_ref.stored import write_stored


def model_of(drawn: Any, *, fine: bool) -> Model:
    """The drawn numbers as a model that can be stored."""
    seen = sparse.csr_array((np.ones(drawn.users.size), (drawn.users, drawn.items)), shape=(drawn.n_users, drawn.n_items))
    return Model(
        settings=drawn.settings,
        user_ids=np.arange(drawn.n_users) + 10,
        item_ids=np.arange(drawn.n_items) + 20,
        seen=seen,
        bias=drawn.bias,
        coarse=drawn.coarse,
        coarse_assignment=drawn.coarse_assignment,
        fine=drawn.fine if fine else None,
        fine_assignment=drawn.fine_assignment if fine else None,
    )


def entities_by_specification(drawn: Any, *, fine: bool) -> Any:
    n_users, settings = drawn.n_users, drawn.settings
    if not fine:
        return spec.embed_coarse(
            spec.prepare_coarse(drawn.norm_adjacency, drawn.coarse_assignment, n_users, settings), drawn.coarse
        )[0]
    plan = spec.prepare_fine(drawn.norm_adjacency, drawn.coarse_assignment, drawn.fine_assignment, n_users, settings)
    return spec.embed_fine(plan, drawn.coarse, drawn.fine)[0]


@given(models(signed=True), st.booleans())
def test_embeddings_are_those_of_the_specification(drawn: Any, fine: bool) -> None:
    """In float64, within what the order of sums can change where degrees are small differences (D11)."""
    bound = 1e-12 * growth(drawn)
    stored = model_of(drawn, fine=fine).stored()
    plan = prepare(stored)
    expected = entities_by_specification(drawn, fine=fine)
    for column in range(drawn.settings.dim):
        assert np.abs(embed_column(stored, plan, column) - expected[:, column]).max() <= bound * np.abs(expected).max()


def positive_entities(drawn: Any, *, fine: bool) -> tuple[Any, int]:
    """M, the formula of the embeddings with every term made positive, and r, the most entries of a row of the graph.

    A rounding before tanh comes out of it no larger, but beside a smaller number: so tanh is left out.
    """
    by_entity, by_coarse = (np.abs(matrix.toarray()) for matrix in (drawn.coarse_assignment, drawn.fine_assignment))
    coarse, soft = np.abs(drawn.coarse), np.abs(spec.soft_threshold(drawn.fine, drawn.settings.threshold))
    n_entities, n_coarse, weight = drawn.n_entities, len(coarse), drawn.settings.bridge_weight
    if not fine:
        by_coarse, soft, weight = np.zeros((n_coarse, 0)), soft[:0], 0.0
        graph = spec.expand_coarse(drawn.norm_adjacency, drawn.coarse_assignment)
    else:
        graph = spec.expand_fine(drawn.norm_adjacency, drawn.coarse_assignment, drawn.fine_assignment)
    total = nodes = np.concatenate([by_entity @ coarse, (1 - weight) * coarse + weight * by_coarse @ soft, soft])
    for _ in range(drawn.settings.n_layers):
        h, c, f = np.split(np.abs(graph.toarray()) @ nodes, [n_entities, n_entities + n_coarse])
        if fine:
            h, c = h + by_entity @ c, c + by_coarse @ f
            c = weight * by_coarse @ f + (1 - weight) * c
            h = h + by_entity @ c
        nodes = np.concatenate([h, c, f])
        total = total + nodes
    return total[:n_entities] / (drawn.settings.n_layers + 1), int(np.diff(graph.indptr).max())


@given(models(), st.booleans(), st.integers(1, 9))
def test_scores_are_within_the_documented_bound_and_lists_the_same_wherever_gaps_are_above_it(
    drawn: Any, fine: bool, k: int
) -> None:
    """The bound of `Device.rank`; lists may hold different items at a place only where their scores may be either way round."""
    model, entities = model_of(drawn, fine=fine), entities_by_specification(drawn, fine=fine)
    positive, longest = positive_entities(drawn, fine=fine)
    rounded = gamma(2 * (drawn.settings.n_layers + 1) * (longest + 20) + drawn.settings.dim + 4, np.float64)
    users, n_users, item_bias = np.arange(drawn.n_users), drawn.n_users, model.bias[drawn.n_users :]
    expected, _ = spec.rank_items(entities, model.bias, n_users, users, model.seen, k)
    items, scores = Device(model.stored()).rank(users, k)
    for user in users:
        exact = entities[n_users:] @ entities[user] + item_bias
        bound = (2.0**-23 + 2.0**-48) * (np.abs(entities[n_users:]) @ np.abs(entities[user]))
        bound += 2 * rounded * (positive[n_users:] @ positive[user] + np.abs(item_bias))
        listed = items[user] >= 0
        assert (listed == (expected[user] >= 0)).all()
        ours, theirs = items[user][listed], expected[user][listed]
        assert (np.abs(scores[user][listed] - exact[ours]) <= bound[ours]).all()
        assert (np.abs(exact[ours] - exact[theirs]) <= bound[ours] + bound[theirs])[ours != theirs].all()


@given(st.tuples(st.integers(2, 60), st.integers(2, 60)), st.floats(1.0, 10.0), rngs())
def test_a_drawn_model_stays_within_a_drawn_budget_or_names_a_larger_one(sizes: tuple[int, int], factor: float, rng: Any) -> None:
    n_users, n_items = sizes[0] * 40, sizes[1] * 30 + 1
    settings = spec.Settings(n_coarse=3 + n_users // 100, n_fine=0, dim=5, n_layers=1)
    labels = rng.integers(settings.n_coarse, size=n_users + n_items)
    seen = sparse.csr_array(rng.random((n_users, n_items)) < 3 / n_items, dtype=np.float64)
    coarse, bias = spec.start_coarse(n_users + n_items, settings, rng=rng)
    assignment = spec.start_coarse_assignment(labels, settings, rng=rng)
    ids = np.arange(n_users), np.arange(n_items)
    stored = Model(settings, *ids, seen, bias, coarse, assignment).stored()
    sizes_stored = sizes_of(stored.arrays())
    budget = int(serving_bytes(sizes_stored) * factor)
    tracemalloc.start()
    try:
        Device(stored, memory_budget=budget).recommend([0, n_users - 1])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak + sizes_stored.n_bytes <= budget
    with pytest.raises(MemoryBudgetError) as caught:
        Device(stored, memory_budget=int(serving_bytes(sizes_stored) / (1.0001 * factor)))
    assert caught.value.least == serving_bytes(sizes_stored)


def test_a_device_loads_neither_scipy_nor_numba_nor_scikit_learn(tmp_path: Path) -> None:
    """In a fresh process that imports the package, loads a model and recommends."""
    settings = spec.Settings(n_coarse=4, n_fine=0, dim=3)
    rng = np.random.default_rng(0)
    coarse, bias = spec.start_coarse(12, settings, rng=rng)
    assignment = spec.start_coarse_assignment(rng.integers(4, size=12), settings, rng=rng)
    seen = sparse.csr_array(np.eye(5, 7))
    path = tmp_path / "model.npz"
    ids = np.array(["a", "b", "c", "d", "e"]), np.arange(7)
    save_model(path, Model(settings, *ids, seen, bias, coarse, assignment))
    code = f"""
import sys
from c2f_ref.device import Device
assert len(Device.load({str(path)!r}).recommend(["c"])[0][0]) == 10
print(sorted({{"scipy", "numba", "sklearn", "matplotlib", "c2f_ref.spec"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("[]\n", "")


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """The file of a model with 29,000 entities and 80 columns, and the least budget for it; beside it a small one, `small.npz`."""
    folder = tmp_path_factory.mktemp("large")
    small = make_stored(np.random.default_rng(0), n_users=9, n_items=20, n_coarse=5, n_fine=4, dim=3, dtype=np.float32)
    write_stored(folder / "small.npz", small)
    stored = make_stored(
        np.random.default_rng(0),
        n_users=9000,
        n_items=20_000,
        n_coarse=500,
        n_fine=50,
        dim=80,
        pairs_per_user=12.0,
        dtype=np.float32,
    )
    path = folder / "model.npz"
    write_stored(path, stored)
    return path, serving_bytes(sizes_of(stored.arrays()))


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell what was resident")
@pytest.mark.parametrize(("factor", "all_kept"), [(1, False), (2, False), (6, True)])
def test_no_more_than_the_budget_becomes_resident_beside_python_and_numpy(
    large: tuple[Path, int], factor: int, all_kept: bool
) -> None:
    """In a fresh process, of which tracemalloc sees a part.

    A small model is served first: the code of Python and NumPy, whose pages a busy machine brings in by other numbers, is then in.
    """
    path, least = large
    code = f"""
from pathlib import Path
from c2f_ref.device import Device
def peak():
    return next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
small = Device.load({str(path.with_name("small.npz"))!r})
small.recommend(small.user_ids[:3])
before = peak()
device = Device.load({str(path)!r}, memory_budget={factor * least})
device.recommend(device.user_ids[:3])
print(device.columns_kept, 1024 * (peak() - before))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    kept, resident = map(int, done.stdout.split())
    assert (kept == 80) == all_kept
    assert 2**20 < resident <= factor * least
