"""How long each operation takes, as ratios from one run: the specification in float64 and `c2f_ref.fast` in float32.

    python examples/benchmark.py [DATA] [--repeats 5] [--json]

The unit p is one SciPy product `norm_adjacency @ X` in the caller's order, X (N, D) float32, timed in the same run. Figures are
medians of interleaved repeats; compare ratios, not seconds. Without DATA, planted pairs; DATA is what `c2f-ref train` takes.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from c2f_ref import fast, spec
from c2f_ref.interactions import Split, planted, read_split, split_ratio
from c2f_ref.spec import Settings, Triples
from c2f_ref.tables import text_table

BATCHES = {"coarse step, batch 8192": 8192, "fine step, batch 32768": 32768}


def main() -> None:
    """Time everything and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", metavar="DATA")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.data:
        split, settings = read_split(options.data), Settings()
    else:
        split = split_ratio(planted(n_users=3000, n_items=2000, rng=np.random.default_rng(0)), seed=0)
        settings = Settings(n_coarse=60, n_fine=20, dim=64)
    seconds = timed(calls(split, settings), options.repeats)
    unit = seconds.pop("unit")
    ratios = {name: {ops: value / unit for ops, value in of_ops.items()} for name, of_ops in seconds.items()}
    if options.json:
        print(json.dumps({"unit_seconds": unit, "in_units": ratios}))
        return
    print(f"{split.train.n_entities:,} entities, {split.train.n_pairs:,} training pairs; p = {unit:.4f} s")
    rows = {
        name: [f"{of_ops['spec']:.2f} p", f"{of_ops['fast']:.2f} p", f"{of_ops['spec'] / of_ops['fast']:.1f}"]
        for name, of_ops in ratios.items()
    }
    print(text_table(["spec, float64", "fast, float32", "spec / fast"], rows))


def calls(split: Split, settings: Settings) -> dict[str, Any]:
    """What is timed: a call of no arguments for the unit, and one for each operation of each implementation."""
    rng = np.random.default_rng(0)
    train, n_users = split.train, split.train.n_users
    graph = spec.bipartite(train.users, train.items, n_users, train.n_items)
    seen, users = train.matrix(), np.unique(split.valid.users)
    coarse_labels, fine_labels = (spec.partition(graph, k, rng=rng) for k in (settings.n_coarse, settings.n_fine))
    coarse_assignment = spec.start_coarse_assignment(coarse_labels, settings, rng=rng)
    affinity = spec.part_affinity(fine_labels, settings.n_fine)
    fine_assignment = spec.start_fine_assignment(coarse_assignment, affinity, settings.fine_per_coarse)
    coarse, bias = spec.start_coarse(train.n_entities, settings, rng=rng)
    fine = 2 * rng.standard_normal((settings.n_fine, settings.dim))
    triples = spec.sample_triples(seen, train.n_pairs, 5, rng=rng)
    coarse_batch, fine_batch = (Triples(*(part[:size] for part in triples)) for size in BATCHES.values())

    def of(ops: Any, dtype: Any) -> dict[str, Callable[[], Any]]:
        adjacency = spec.normalise(graph).astype(dtype)
        first = ops.prepare_coarse(adjacency, coarse_assignment, n_users, settings)
        second = ops.prepare_fine(adjacency, coarse_assignment, fine_assignment, n_users, settings, first)
        entities, propagated = ops.embed_coarse(first, coarse)

        def refresh() -> None:
            renewed = ops.refresh_coarse(entities, propagated, settings.coarse_per_entity)
            ops.prepare_coarse(adjacency, renewed, n_users, settings, first)

        coarse_step, fine_step = BATCHES
        return {
            "forward pass": lambda: ops.embed_coarse(first, coarse),
            coarse_step: lambda: ops.coarse_loss_and_grad(first, coarse, bias, coarse_batch),
            fine_step: lambda: ops.fine_loss_and_grad(second, coarse, fine, bias, fine_batch),
            "refresh, graph rebuilt": refresh,
            "ranking to 50": lambda: ops.rank_items(entities, bias, n_users, users, seen, 50),
        }

    dense = rng.standard_normal((train.n_entities, settings.dim)).astype(np.float32)
    unit = spec.normalise(graph).astype(np.float32)
    return {"unit": lambda: unit @ dense, "spec": of(spec, np.float64), "fast": of(fast, np.float32)}


def timed(called: dict[str, Any], repeats: int) -> dict[str, Any]:
    """Median seconds of everything, in turns, after one call each that compiles."""
    names = list(called["spec"])
    times: dict[Any, list[float]] = {}
    for turn in range(repeats + 1):
        pending = [("unit", called["unit"]), *(((name, ops), called[ops][name]) for name in names for ops in ("spec", "fast"))]
        for key, call in pending:
            began = time.perf_counter()
            call()
            if turn:
                times.setdefault(key, []).append(time.perf_counter() - began)
    return {"unit": median(times["unit"])} | {name: {ops: median(times[name, ops]) for ops in ("spec", "fast")} for name in names}


if __name__ == "__main__":
    main()
