"""The benchmark times everyone on the same work and reports right; how long it takes is open."""

from __future__ import annotations

import importlib
import json
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from conftest import PROJECT
from scipy import sparse

from c2f_ref import fast, method
from c2f_ref.interactions import Split, planted, split_ratio
from c2f_ref.method import Settings

sys.path.append(str(PROJECT / "examples"))
benchmark: Any = importlib.import_module("benchmark")
workload: Any = importlib.import_module("workload")

pytestmark = pytest.mark.usefixtures("one_thread")
SETTINGS = Settings(n_coarse=6, n_fine=4, dim=5, n_layers=2)
MODULES = {"method": method, "fast": fast}
# Names of torch that the benchmark uses, to test its column where torch is not installed.
STAND_IN = SimpleNamespace(
    __version__="0",
    concatenate=np.concatenate,
    tanh=np.tanh,
    from_numpy=lambda array: array,
    sparse_csr_tensor=lambda indptr, indices, data, size: sparse.csr_array(
        (data, indices, indptr), shape=size
    ),
)
TORCH = benchmark.module_or_none("torch") or STAND_IN


@pytest.fixture(scope="module")
def split() -> Split:
    sizes = {"n_users": 40, "n_items": 30, "n_groups": 2, "subgroups_per_group": 2}
    pairs = planted(**sizes, pairs_per_user=10, rng=np.random.default_rng(0))
    return split_ratio(pairs, valid=0.2, test=0.2, seed=0)


@pytest.fixture(scope="module")
def inputs(split: Split) -> Any:
    labels = np.arange(split.train.n_entities) % SETTINGS.n_coarse
    return workload.Inputs.of(split.train, labels, SETTINGS)


def test_every_operation_of_everyone_who_has_it_is_timed(
    split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = workload.timed(workload.operations(split, SETTINGS, MODULES, TORCH), 2)
    columns = {name: {"method", "fast"} for name in benchmark.LABELS if name != "import"}
    columns |= {"propagate": set(benchmark.COLUMNS), "fine-start": {"fast"}, "unit": {"SciPy"}}
    assert {name: set(of_one) for name, of_one in times.items()} == columns
    monkeypatch.setattr(workload, "SLOW_SECONDS", 0.0)
    slow = workload.timed({"slow": {"fast": lambda: None}}, 4)
    assert len(slow["slow"]["fast"]) == 1  # one repeat
    every = [taken for of_one in times.values() for taken in of_one.values()]
    assert all(len(taken) == 2 and min(taken) > 0 for taken in every)


def test_all_columns_of_propagate_do_the_same_work(split: Split, inputs: Any) -> None:
    """Float32 rounds some 20 times on the longest path, on values of at most 3: below 1e-5."""
    plans = {name: workload.Plans.of(ops, inputs) for name, ops in MODULES.items()}
    expected, by_fast = (
        np.concatenate(workload.contract(ops, split, inputs, plans[name])["propagate"]())
        for name, ops in MODULES.items()
    )
    calls = workload.libraries(inputs, TORCH)
    assert set(calls) == {"SciPy", "torch"}
    assert np.abs(expected).max() <= 3
    for result in (by_fast, *(np.asarray(call()) for call in calls.values())):
        assert result.dtype == np.float32
        np.testing.assert_allclose(result, expected, rtol=0, atol=1e-5)


def test_a_step_moves_both_tables_of_its_stage_alike_in_both_implementations(inputs: Any) -> None:
    """Adam's first step moves an entry by the rate, 1e-3, wherever its gradient is not 0."""
    theirs, ours = (
        workload.steps(ops, inputs, workload.Plans.of(ops, inputs)) for ops in MODULES.values()
    )
    for step, table in (("coarse-step", inputs.coarse), ("fine-step", inputs.fine)):
        pairs = zip(ours[step](), theirs[step](), (table, inputs.bias), strict=True)
        for (after, _), (expected, _), before in pairs:
            np.testing.assert_allclose(after, expected, rtol=0, atol=1e-4)
            assert np.isclose(np.abs(after - before).max(), 1e-3, rtol=1e-3)


def test_without_torch_its_column_is_left_out_and_the_header_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setattr(benchmark, "N_IMPORTS", 1)
    wanted = ["propagate", "coarse-step", "import"]
    benchmark.main(["--repeats", "1", "--no-method", "--json", "--threads", "1", "--only", *wanted])
    found = json.loads(capsys.readouterr().out)
    both = {"fast", "SciPy"}
    columns = {"propagate": both, "coarse-step": {"fast"}, "import": both}
    assert {name: set(of_one) for name, of_one in found["in_units"].items()} == columns
    assert all(value > 0 for of_one in found["in_units"].values() for value in of_one.values())
    assert found["unit_seconds"] > 0
    assert len(found["targets"]) == 3
    assert "1 threads" in found["header"]
    assert "torch not installed" in found["header"]


def test_the_report_gives_figures_in_units_and_says_which_targets_are_met(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Over a unit of 2 s: 3 / 2 = 1.5 p is met, 3.1 p of 3 missed, 1 of 4 s met; * one repeat."""
    times = {
        "unit": {"SciPy": [1.0, 2.0, 9.0]},
        "propagate": {"fast": [1.0, 1.0], "SciPy": [4.0, 4.0], "torch": [1.9, 1.9]},
        "coarse-step": {"fast": [3.0, 3.0], "method": [7.0]},
        "fine-step": {"fast": [6.2, 6.2]},
    }
    benchmark.report("header", times, False)
    lines = capsys.readouterr().out.splitlines()
    cells = {line.split("  ")[0]: line.split() for line in lines}
    assert lines[1].startswith("p = 2.0000 s (1.0000 to 9.0000)")
    assert cells["propagate: ego rows, products, mean"][-3:] == ["0.50", "2.00", "0.95"]
    assert set(cells["coarse step, batch 8192"][-2:]) == {"3.50*", "1.50"}
    ends = [line for line in lines if line.endswith(("met", "missed"))]
    assert {line.split("  ")[0]: line.split()[-1] for line in ends} == {
        "propagate: at most 0.25 of SciPy": "met",
        "propagate: at most 0.25 of torch": "missed",
        "coarse-step: at most 1.5 p": "met",
        "fine-step: at most 3 p": "missed",
    }


def test_communities_lie_side_by_side_and_share_the_rewired_pairs() -> None:
    """A rewired pair leaves its copy with probability .9: .27 of 16,000 pairs, 5 sigma .018."""
    pairs, copies = workload.communities(16_000, 1_600, rng=np.random.default_rng(0))
    assert (pairs.n_users, pairs.n_items, pairs.n_pairs) == (400, 400, 16_000)
    assert np.array_equal(copies, np.tile(np.arange(400) // 40, 2))
    user_copies, item_copies = copies[pairs.users], copies[400 + pairs.items]
    assert abs(np.mean(user_copies != item_copies) - 0.27) < 0.018
    # All copies have the pairs of one, in item numbers.
    numbers = np.unique(pairs.users % 40 * 40 + pairs.items % 40, return_counts=True)
    assert (len(numbers[0]), set(numbers[1])) == (1_600, {10})


def test_scaling_prints_a_row_for_each_size_and_the_slope(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Seconds in proportion to pairs have slope 1, to their square 2."""
    benchmark.main(["--scaling", "4000", "2000", "--repeats", "1", "--json"])
    sizes = json.loads(capsys.readouterr().out)["sizes"]
    assert [size["pairs"] for size in sizes] == [2000, 4000]
    assert all(size[step] > 0 for size in sizes for step in ("coarse-step", "fine-step"))
    more = dict.fromkeys(("entities", "entries", "dim", "preparation", "peak_bytes"), 8)
    costs = [{"pairs": n, "coarse-step": 3e-7 * n, "fine-step": n**2} for n in (10, 100, 1000)]
    benchmark.report_scaling("header", [cost | more for cost in costs], False)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if line.endswith("GiB")] == ["10", "100", "1,000"]
    words = ": slope of log seconds on log pairs {0}.00, between neighbours {0}.00, {0}.00"
    assert lines[-2:] == ["coarse-step" + words.format(1), "fine-step" + words.format(2)]


def test_reading_is_timed_against_pandas_where_it_is_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "pandas", SimpleNamespace(read_csv=lambda path: None))
    assert "500 lines: c2f_ref 0." in benchmark.reading_times(500, 1)
    assert ", pandas 0.00 s, ratio " in benchmark.reading_times(500, 1)
