"""How long each operation takes, as ratios from one run, and how the time of a step grows with the data.

    python examples/benchmark.py [DATA] [--split FILE] [--repeats 5] [--threads N] [--only NAME...] [--no-spec] [--json]
    python examples/benchmark.py --scaling [PAIRS...]

The unit p is one SciPy product `norm_adjacency @ X` in the caller's order, X (N, D) float32. Figures are medians of interleaved
repeats, after one call each that compiles; compare ratios, not seconds. Columns: `spec` is the specification in float64, `fast` is
`c2f_ref.fast` on a float32 graph (tables are float64 in both, as in training). SciPy and torch have the coarse graph in float32
and CSR form, in the caller's order; "renumbered" is SciPy in the order that `fast` has found. BLAS runs on one thread, as in
training; `--threads` is for compiled loops and torch. Without DATA, planted pairs; DATA is what `c2f-ref train` takes.

`--scaling` times both steps of `fast` on planted graphs of so many pairs (D = 64); by default it takes a few minutes and 3 GiB.
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from workload import PAIRS_PER_USER, Given, Plans, Times, communities, operations, steps, timed

from c2f_ref import fast, spec
from c2f_ref.interactions import planted, read_split, split_ratio
from c2f_ref.spec import Settings
from c2f_ref.tables import text_table
from c2f_ref.threads import at_most, count, one_blas_thread

LABELS = {
    "propagate": "propagate: ego rows, products, mean",
    "coarse-step": "coarse step, batch 8192",
    "fine-step": "fine step, batch 32768",
    "refresh": "refresh of S_c, graph rebuilt",
    "fine-start": "start of the fine stage",
    "ranking": "ranking to 50, metrics at four k",
    "sampling": "sampling of an epoch",
    "preparation": "first preparation of a plan",
    "import": "import; SciPy: of numpy, scipy.sparse",
}
COLUMNS = ("spec", "fast", "SciPy", "renumbered", "torch")
TARGETS = (
    ("propagate", 1 / 4, "SciPy"),
    ("propagate", 1 / 4, "torch"),
    ("propagate", 1 / 2, "renumbered"),
    ("coarse-step", 1.5, "p"),
    ("fine-step", 3.0, "p"),
    ("refresh", 10.0, "p"),
    ("fine-start", 200.0, "p"),
    ("ranking", 100.0, "p"),
    ("sampling", 10.0, "p"),
    ("import", 1.3, "SciPy"),
)
"""`fast` is to take at most so many p, or at most so many times what another column takes."""
N_IMPORTS = 9
SCALING_PAIRS = (100_000, 1_000_000, 10_000_000)
COMMUNITY_PAIRS = 100_000


def main(arguments: Sequence[str] | None = None) -> None:
    """Time what is asked for and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", metavar="DATA")
    parser.add_argument("--split", type=Path, metavar="FILE")
    parser.add_argument("--repeats", type=int, default=5, metavar="N")
    parser.add_argument("--threads", type=int, metavar="N")
    parser.add_argument("--only", nargs="+", choices=LABELS, default=list(LABELS), metavar="NAME", help=", ".join(LABELS))
    parser.add_argument("--no-spec", action="store_true", help="leave out the specification, which is slow")
    parser.add_argument("--scaling", type=int, nargs="*", metavar="PAIRS")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    if options.repeats < 1:
        parser.error(f"--repeats must be at least 1, got {options.repeats}")
    torch = torch_or_none()
    if torch and options.threads:
        torch.set_num_threads(options.threads)
    with one_blas_thread(), at_most(options.threads):
        versions = ", ".join(f"{name} {version(name)}" for name in ("numba", "numpy", "scipy"))
        header = f"{count()} threads, {versions}, torch {torch.__version__ if torch else 'not installed, so left out'}"
        if options.scaling is not None:
            sizes = sorted(set(options.scaling or SCALING_PAIRS))
            if len(sizes) < 2 or sizes[0] < PAIRS_PER_USER**2:
                parser.error(f"--scaling needs two or more numbers of pairs, each at least {PAIRS_PER_USER**2}")
            report_scaling(header, [step_costs(n_pairs, sizes[0], options.repeats) for n_pairs in sizes], options.json)
            return
        if options.data:
            split, settings = read_split(options.data, split_file=options.split), Settings()
        else:
            split = split_ratio(planted(n_users=3000, n_items=2000, rng=np.random.default_rng(0)), seed=0)
            settings = Settings(n_coarse=60, n_fine=20, dim=64)
        calls = operations(split, settings, {"fast": fast} if options.no_spec else {"spec": spec, "fast": fast}, torch)
        times = timed({name: calls[name] for name in ("unit", *options.only) if name in calls}, options.repeats)
    if "import" in options.only:
        times["import"] = import_times()
    header += f"; {split.train.n_entities:,} entities, {split.train.n_pairs:,} training pairs"
    report(header, times, options.json)


def torch_or_none() -> Any:
    """The module, or None where it is not installed."""
    try:
        return importlib.import_module("torch")
    except ImportError:
        return None


def import_times() -> dict[str, list[float]]:
    """Seconds of importing this package in a fresh process and, in the column of SciPy, NumPy and scipy.sparse."""
    modules = {"fast": "c2f_ref", "SciPy": "numpy, scipy.sparse"}
    times: dict[str, list[float]] = {name: [] for name in modules}
    for _ in range(N_IMPORTS):
        for name, imported in modules.items():
            code = f"import time; began = time.perf_counter(); import {imported}; print(time.perf_counter() - began)"
            folder = Path(fast.__file__).parents[2]
            told = subprocess.run([sys.executable, "-c", code], cwd=folder, check=True, capture_output=True, text=True)
            times[name].append(float(told.stdout))
    return times


def report(header: str, times: Times, as_json: bool) -> None:
    """Every figure in p, and whether the targets were met."""
    unit = median(times["unit"]["SciPy"])
    in_units = {name: {column: median(taken) / unit for column, taken in times[name].items()} for name in times if name != "unit"}
    verdicts = {}
    for name, limit, baseline in TARGETS:
        of_one = {"p": 1.0, **in_units.get(name, {})}
        if "fast" in of_one and baseline in of_one:
            value, of = of_one["fast"] / of_one[baseline], "p" if baseline == "p" else f"of {baseline}"
            verdicts[f"{name}: at most {limit:g} {of}"] = [f"{value:.3g}", "met" if value <= limit else "missed"]
    if as_json:
        print(json.dumps({"header": header, "unit_seconds": unit, "in_units": in_units, "targets": verdicts}))
        return
    columns = [column for column in COLUMNS if any(column in of_one for of_one in in_units.values())]

    def cell(name: str, column: str) -> str:
        return f"{in_units[name][column]:.2f}{' *'[len(times[name][column]) == 1]}" if column in in_units[name] else ""

    rows = {LABELS[name]: [cell(name, column) for column in columns] for name in in_units}
    spread = "{:.4f} to {:.4f}".format(min(times["unit"]["SciPy"]), max(times["unit"]["SciPy"]))
    print(f"{header}\np = {unit:.4f} s ({spread}); figures in p, * those of one repeat")
    print(text_table([f"{column} " for column in columns], rows))
    print(f"\ntargets of `fast`, set for Gowalla\n{text_table(['measured', ''], verdicts)}")


def step_costs(n_pairs: int, smallest: int, repeats: int) -> dict[str, float]:
    """Sizes, seconds of the preparation and of both steps, and the most memory that the process has had so far."""
    settings, rng = Settings(dim=64), np.random.default_rng(0)
    train, copies = communities(n_pairs, min(smallest, COMMUNITY_PAIRS), rng=rng)
    # Each copy has coarse parts of its own, in which its entities lie at random.
    labels = (copies * settings.n_coarse + rng.integers(settings.n_coarse, size=copies.size)) // (copies.max() + 1)
    given = Given.of(train, labels, settings)
    began = time.perf_counter()
    plans = Plans.of(fast, given)
    seconds = {"preparation": time.perf_counter() - began}
    calls = {name: {"fast": call} for name, call in steps(fast, given, plans).items()}
    seconds |= {name: median(taken["fast"]) for name, taken in timed(calls, repeats).items()}
    n_entries = given.adjacency.nnz + 2 * given.coarse_assignment.nnz
    sizes = {"pairs": train.n_pairs, "entities": train.n_entities, "entries": n_entries, "dim": settings.dim}
    return {**sizes, **seconds, "peak_bytes": peak_bytes()}


def peak_bytes() -> int:
    """The most memory that this process has had, as the operating system counts it."""
    import resource  # not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def report_scaling(header: str, costs: list[dict[str, float]], as_json: bool) -> None:
    """A row for each size, and the slope of log seconds on log pairs: 1 where ten times the pairs take ten times as long.

    A batch costs the same whatever the graph, so the slope nears 1 from below: that between each two neighbours is told too.
    """
    names = ("coarse-step", "fine-step")
    log_pairs = np.log([cost["pairs"] for cost in costs])
    slopes = {}
    for step in names:
        log_seconds = np.log([cost[step] for cost in costs])
        between = np.diff(log_seconds) / np.diff(log_pairs)
        slopes[step] = {"all": float(np.polyfit(log_pairs, log_seconds, 1)[0]), "between": between.tolist()}
    if as_json:
        print(json.dumps({"header": header, "sizes": costs, "slopes": slopes}))
        return
    sizes = {
        f"{cost['pairs']:,} pairs": [
            f"{cost['entities']:,}",
            f"{cost['preparation']:.1f} s",
            f"{cost['peak_bytes'] / 2**30:.2f} GiB",
        ]
        for cost in costs
    }
    per_step = {
        f"{step}, {cost['pairs']:,} pairs": [
            f"{cost[step]:.4f}",
            f"{1e9 * cost[step] / (cost['entries'] * cost['dim']):.3f}",
            f"{1e9 * cost[step] / cost['pairs']:.1f}",
        ]
        for step in names
        for cost in costs
    }
    print(f"{header}\n{text_table(['entities', 'preparation', 'peak memory so far'], sizes)}\n")
    print(text_table(["seconds", "ns / (stored entry * D)", "ns / pair"], per_step))
    for step, slope in slopes.items():
        neighbours = ", ".join(f"{value:.2f}" for value in slope["between"])
        print(f"{step}: slope of log seconds on log pairs {slope['all']:.2f}, between neighbours {neighbours}")


if __name__ == "__main__":
    main()
