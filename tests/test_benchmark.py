"""The benchmark times both implementations of every operation; how long they take is nobody's business here."""

from __future__ import annotations

import importlib.util

import numpy as np
from conftest import PROJECT

from c2f_ref.interactions import planted, split_ratio
from c2f_ref.spec import Settings

spec_of = importlib.util.spec_from_file_location("benchmark", PROJECT / "examples" / "benchmark.py")
assert spec_of is not None
assert spec_of.loader is not None
benchmark = importlib.util.module_from_spec(spec_of)
spec_of.loader.exec_module(benchmark)


def test_every_operation_of_both_implementations_is_timed() -> None:
    pairs = planted(n_users=40, n_items=30, n_groups=2, subgroups_per_group=2, pairs_per_user=10, rng=np.random.default_rng(0))
    split = split_ratio(pairs, valid=0.2, test=0.2, seed=0)
    seconds = benchmark.timed(benchmark.calls(split, Settings(n_coarse=6, n_fine=4, dim=5, n_layers=2)), 2)
    assert seconds.pop("unit") > 0
    assert len(seconds) == 5
    assert all(set(of_ops) == {"spec", "fast"} and min(of_ops.values()) > 0 for of_ops in seconds.values())
