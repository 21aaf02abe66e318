"""The device against the method: numbers within a bound, the same lists; resident memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from device.made import make_model
from hypothesis import given
from hypothesis import strategies as st
from support.models import model_of
from support.parity import gamma
from support.strategies import models

from c2f_ref import method
from c2f_ref.device import Device
from c2f_ref.model import save_model


def by_method(drawn: Any, *, fine: bool) -> tuple[Any, Any]:
    """Propagated entities, and the graph they travel on."""
    adjacency, by_entity = drawn.norm_adjacency, drawn.coarse_assignment
    n_users, settings = drawn.n_users, drawn.settings
    if not fine:
        plan = method.prepare_coarse(adjacency, by_entity, n_users, settings)
        graph = method.expand_coarse(adjacency, by_entity)
        return method.embed_coarse(plan, drawn.coarse)[0], graph
    plan = method.prepare_fine(adjacency, by_entity, drawn.fine_assignment, n_users, settings)
    graph = method.expand_fine(adjacency, by_entity, drawn.fine_assignment)
    return method.embed_fine(plan, drawn.coarse, drawn.fine)[0], graph


def positive_entities(drawn: Any, graph: Any, *, fine: bool) -> Any:
    """M: the formula of the embeddings with every term made positive.

    A rounding before tanh comes out no larger, but next to a smaller number: tanh is left out.
    """
    by_entity, by_coarse = abs(drawn.coarse_assignment), abs(drawn.fine_assignment)
    coarse = np.abs(drawn.coarse)
    soft = np.abs(method.soft_threshold(drawn.fine, drawn.settings.threshold))
    weight = drawn.settings.bridge_weight
    if not fine:
        by_coarse, soft, weight = by_coarse[:, :0], soft[:0], 0.0
    bridged = (1 - weight) * coarse + weight * (by_coarse @ soft)
    total = nodes = np.concatenate([by_entity @ coarse, bridged, soft])
    cuts = [drawn.n_entities, drawn.n_entities + len(coarse)]
    for _ in range(drawn.settings.n_layers):
        h, c, f = np.split(abs(graph) @ nodes, cuts)
        if fine:
            h, c = h + by_entity @ c, c + by_coarse @ f
            c = weight * (by_coarse @ f) + (1 - weight) * c
            h = h + by_entity @ c
        nodes = np.concatenate([h, c, f])
        total = total + nodes
    return total[: drawn.n_entities] / (drawn.settings.n_layers + 1)


@given(models(), st.booleans(), st.integers(1, 9))
def test_scores_are_within_the_documented_bound_and_lists_the_same_wherever_gaps_are_above_it(
    drawn: Any, fine: bool, k: int
) -> None:
    """Lists may differ at a place only where both items' scores may be either way round."""
    model, (entities, graph) = model_of(drawn, has_fine=fine), by_method(drawn, fine=fine)
    positive = positive_entities(drawn, graph, fine=fine)
    longest, settings = int(np.diff(graph.indptr).max()), drawn.settings
    n_roundings = 2 * (settings.n_layers + 1) * (longest + 20) + settings.dim + 4
    users, n_users, bias = np.arange(drawn.n_users), drawn.n_users, model.arrays["bias"]
    expected, _ = method.rank_items(entities, model.bias, n_users, users, model.seen, k)
    items, scores = Device(model).rank(users, k)
    for user in users:
        exact = entities[n_users:] @ entities[user] + bias
        bound = (2.0**-23 + 2.0**-48) * (np.abs(entities[n_users:]) @ np.abs(entities[user]))
        terms = positive[n_users:] @ positive[user] + np.abs(bias)
        bound += 2 * gamma(n_roundings, np.float64) * terms
        listed = items[user] >= 0
        assert (listed == (expected[user] >= 0)).all()
        ours, theirs = items[user][listed], expected[user][listed]
        assert (np.abs(scores[user][listed] - exact[ours]) <= bound[ours]).all()
        swapped, gaps = ours != theirs, np.abs(exact[ours] - exact[theirs])
        assert (gaps <= bound[ours] + bound[theirs])[swapped].all()


SERVE = """
import sys
from pathlib import Path
from c2f_ref.device import Device
def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
folder, budget = Path(sys.argv[1]), int(sys.argv[2])
small = Device.load(folder / "small.npz")
small.recommend(small.user_ids[:3])
before = peak()
device = Device.load(folder / "large.npz", memory_budget=budget)
device.recommend(device.user_ids[:3])
print(int(device.is_cached), 1024 * (peak() - before))
print(*{"scipy", "numba", "sklearn", "matplotlib"} & set(sys.modules))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models; the large one has 29,000 entities and 80 columns."""
    folder, rng = tmp_path_factory.mktemp("large"), np.random.default_rng(0)
    small = {"n_users": 9, "n_items": 20, "n_coarse": 5, "n_fine": 4, "dim": 3}
    large = {"n_users": 9000, "n_items": 20_000, "n_coarse": 250, "n_fine": 50, "dim": 80}
    for name, sizes in (("small", small), ("large", large)):
        made = make_model(rng, **sizes, pairs_per_user=12.0, dtype=np.float32)
        save_model(folder / f"{name}.npz", made)
    return folder


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says what was resident")
@pytest.mark.parametrize(("mib", "is_cached"), [(9, False), (20, True)])
def test_no_more_than_the_budget_becomes_resident_beside_python_and_numpy(
    folder: Path, mib: int, is_cached: bool
) -> None:
    """In a fresh process, of which tracemalloc sees a part, and without SciPy.

    A small model is served first, so that the code of Python and NumPy is in memory.
    """
    command = [sys.executable, "-c", SERVE, str(folder), str(mib * 2**20)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    numbers, heavy = done.stdout.splitlines()
    cached, resident = map(int, numbers.split())
    assert bool(cached) == is_cached
    assert 2**20 < resident <= mib * 2**20
    assert heavy == ""
