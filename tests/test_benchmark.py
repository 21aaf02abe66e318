"""The benchmark times everyone on the same work, and says what it found; how long that takes is nobody's business here."""

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

from c2f_ref import fast, spec
from c2f_ref.interactions import Split, planted, split_ratio
from c2f_ref.spec import Settings

sys.path.append(str(PROJECT / "examples"))
benchmark: Any = importlib.import_module("benchmark")
workload: Any = importlib.import_module("workload")

SETTINGS = Settings(n_coarse=6, n_fine=4, dim=5, n_layers=2)
MODULES = {"spec": spec, "fast": fast}
# Names of torch that the benchmark uses, so that its column is tested where torch is not installed.
STAND_IN = SimpleNamespace(
    __version__="0",
    concatenate=np.concatenate,
    tanh=np.tanh,
    from_numpy=lambda array: array,
    sparse_csr_tensor=lambda indptr, indices, data, size: sparse.csr_array((data, indices, indptr), shape=size),
)


@pytest.fixture(scope="module")
def split() -> Split:
    pairs = planted(n_users=40, n_items=30, n_groups=2, subgroups_per_group=2, pairs_per_user=10, rng=np.random.default_rng(0))
    return split_ratio(pairs, valid=0.2, test=0.2, seed=0)


@pytest.fixture(scope="module")
def calls(split: Split) -> dict[str, Any]:
    return workload.operations(split, SETTINGS, MODULES, benchmark.torch_or_none() or STAND_IN)


def test_every_operation_of_everyone_who_has_it_is_timed(calls: dict[str, Any]) -> None:
    times = workload.timed(calls, 2)
    both = {"spec", "fast"}
    columns = {name: both for name in benchmark.LABELS if name != "import"}
    columns |= {"propagate": set(benchmark.COLUMNS), "fine-start": {"fast"}, "unit": {"SciPy"}}
    assert {name: set(of_one) for name, of_one in times.items()} == columns
    for of_one in times.values():
        for taken in of_one.values():
            assert len(taken) == 2
            assert min(taken) > 0


def given_of(split: Split) -> Any:
    return workload.Given.of(split.train, np.arange(split.train.n_entities) % SETTINGS.n_coarse, SETTINGS)


def test_all_columns_of_propagate_do_the_same_work(split: Split) -> None:
    """Float32 rounds 20 times or so on the longest path, on values of at most 3: 20 * 2^-24 * 3 < 1e-5."""
    given = given_of(split)
    results = {name: workload.contract(ops, split, given, workload.Plans.of(ops, given)) for name, ops in MODULES.items()}
    expected, by_fast = (np.concatenate(results[name]["propagate"]()) for name in ("spec", "fast"))
    order = np.random.default_rng(0).permutation(split.train.n_entities)  # a graph this small has a single part
    libraries = workload.libraries(given, order, benchmark.torch_or_none() or STAND_IN)
    by_library = {name: np.asarray(call()) for name, call in libraries.items()}
    renumbered = by_library.pop("renumbered")
    np.testing.assert_allclose(renumbered[: order.size], expected[order], rtol=0, atol=1e-5)
    np.testing.assert_allclose(renumbered[order.size :], expected[order.size :], rtol=0, atol=1e-5)
    assert set(by_library) == {"SciPy", "torch"}
    assert np.abs(expected).max() <= 3
    for result in (by_fast, *by_library.values()):
        assert result.dtype == np.float32
        np.testing.assert_allclose(result, expected, rtol=0, atol=1e-5)


def test_a_step_moves_both_tables_of_its_stage_and_is_the_same_in_both_implementations(split: Split) -> None:
    """Adam's first step moves an entry by the rate, 1e-3, against the sign of its gradient, wherever that is not 0."""
    given = given_of(split)
    moved = {name: workload.steps(ops, given, workload.Plans.of(ops, given)) for name, ops in MODULES.items()}
    for step, tables in (("coarse-step", (given.coarse, given.bias)), ("fine-step", (given.fine, given.bias))):
        ours, theirs = moved["fast"][step](), moved["spec"][step]()
        for (after, _), (expected, _), before in zip(ours, theirs, tables, strict=True):
            np.testing.assert_allclose(after, expected, rtol=0, atol=1e-4)
            assert np.isclose(np.abs(after - before).max(), 1e-3, rtol=1e-3)


def test_slow_calls_are_repeated_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workload, "SLOW_SECONDS", 0.0)
    n_calls = []
    times = workload.timed({"slow": {"fast": lambda: n_calls.append(1)}}, 4)
    assert len(times["slow"]["fast"]) == 1
    assert len(n_calls) == 2


def test_without_torch_its_column_is_left_out_and_said_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setattr(benchmark, "N_IMPORTS", 1)
    wanted = ["propagate", "coarse-step", "import"]
    benchmark.main(["--repeats", "1", "--no-spec", "--json", "--threads", "1", "--only", *wanted])
    told = json.loads(capsys.readouterr().out)
    columns = {"propagate": {"fast", "SciPy", "renumbered"}, "coarse-step": {"fast"}, "import": {"fast", "SciPy"}}
    assert {name: set(of_one) for name, of_one in told["in_units"].items()} == columns
    assert all(value > 0 for of_one in told["in_units"].values() for value in of_one.values())
    assert told["unit_seconds"] > 0
    assert len(told["targets"]) == 4
    assert "1 threads" in told["header"]
    assert "torch not installed" in told["header"]


def test_the_report_gives_figures_in_units_and_says_which_targets_are_met(capsys: pytest.CaptureFixture[str]) -> None:
    """Medians over a unit of 2 s: 3 / 2 = 1.5 p is met, 3.1 p of 3 missed, 1 of 4 s met, 1 of 1.9 s missed; * marks one repeat."""
    times = {
        "unit": {"SciPy": [1.0, 2.0, 9.0]},
        "propagate": {"fast": [1.0, 1.0], "SciPy": [4.0, 4.0], "renumbered": [1.9, 1.9]},
        "coarse-step": {"fast": [3.0, 3.0], "spec": [7.0]},
        "fine-step": {"fast": [6.2, 6.2]},
    }
    benchmark.report("header", times, False)
    lines = capsys.readouterr().out.splitlines()
    cells = {line.split("  ")[0]: line.split() for line in lines}
    assert lines[1].startswith("p = 2.0000 s (1.0000 to 9.0000)")
    assert cells["propagate: ego rows, products, mean"][-3:] == ["0.50", "2.00", "0.95"]
    assert cells["coarse step, batch 8192"][-2:] == ["3.50*", "1.50"]
    verdicts = {line.split("  ")[0]: line.split()[-1] for line in lines if line.endswith(("met", "missed"))}
    assert verdicts == {
        "propagate: at most 0.25 of SciPy": "met",
        "propagate: at most 0.5 of renumbered": "missed",
        "coarse-step: at most 1.5 p": "met",
        "fine-step: at most 3 p": "missed",
    }


def test_communities_lie_side_by_side_and_share_the_rewired_pairs() -> None:
    """Of 10 copies, a rewired pair leaves its own with probability .9: .3 * .9 = .27 of 16,000 pairs, five deviations .018."""
    pairs, copies = workload.communities(16_000, 1_600, rng=np.random.default_rng(0))
    assert (pairs.n_users, pairs.n_items, pairs.n_pairs) == (400, 400, 16_000)
    assert np.array_equal(copies, np.tile(np.arange(400) // 40, 2))
    user_copies, item_copies = copies[pairs.users], copies[400 + pairs.items]
    assert abs(np.mean(user_copies != item_copies) - 0.27) < 0.018
    # All copies have the pairs of one, in item numbers.
    numbers = np.unique(pairs.users % 40 * 40 + pairs.items % 40, return_counts=True)
    assert len(numbers[0]) == 1_600
    assert (numbers[1] == 10).all()


def test_scaling_prints_a_row_for_each_size_and_the_slope(capsys: pytest.CaptureFixture[str]) -> None:
    benchmark.main(["--scaling", "8000", "4000", "--repeats", "1"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if line.endswith("GiB")] == ["4,000", "8,000"]
    seconds = {line.split("  ")[0]: line.split()[-3] for line in lines if line.startswith(("coarse-step,", "fine-step,"))}
    assert list(seconds) == [f"{step}, {size} pairs" for step in ("coarse-step", "fine-step") for size in ("4,000", "8,000")]
    assert all(float(value) > 0 for value in seconds.values())
    assert [line.split(":")[0] for line in lines[-2:]] == ["coarse-step", "fine-step"]


def test_the_slope_of_times_in_proportion_to_pairs_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    """Fine steps grow with the square."""
    sizes = [{"pairs": n, "entities": n, "entries": n, "dim": 2, "preparation": 1, "peak_bytes": 8} for n in (10, 100, 1000)]
    costs = [{**size, "coarse-step": 3e-7 * size["pairs"], "fine-step": size["pairs"] ** 2} for size in sizes]
    benchmark.report_scaling("header", costs, True)
    slopes = json.loads(capsys.readouterr().out)["slopes"]
    for name, slope in (("coarse-step", 1.0), ("fine-step", 2.0)):
        assert [slopes[name]["all"], *slopes[name]["between"]] == pytest.approx([slope] * 3)
