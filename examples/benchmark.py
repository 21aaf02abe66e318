"""How long each operation takes, as ratios from one run, and how a step grows with the data.

    python examples/benchmark.py [DATA] [--split FILE] [--repeats 5] [--threads N] [--only NAME...]
        [--no-method] [--json]
    python examples/benchmark.py --scaling [PAIRS...]
    python examples/benchmark.py --reading [LINES]

The unit p is one SciPy product `norm_adjacency @ X`, X (N, D) float32. Figures are medians of
interleaved repeats, after one call each that compiles; compare ratios, not seconds. Columns:
`method` is the method itself in float64, `fast` is `c2f_ref.fast` on a float32 graph (tables are
float64 in both, as in training), SciPy and torch have the coarse graph in float32 and CSR form.
BLAS runs on one thread, as in training; `--threads` is for compiled loops and torch. Without DATA,
planted pairs; DATA is what `c2f-ref train` takes.

`--scaling` times both steps of `fast` on planted graphs of these sizes (D = 64); by default it
takes a few minutes and 3 GiB. `--reading` times a CSV of so many lines (2 million) against pandas,
where it is installed.
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
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from common import table
from workload import PAIRS_PER_USER, Inputs, Plans, Times, communities, operations, steps, timed

from c2f_ref import fast, method
from c2f_ref.interactions import planted, read_interactions, read_split, split_ratio
from c2f_ref.method import Settings
from c2f_ref.runtime import at_most, one_blas_thread, thread_count

LABELS = {
    "propagate": "propagate: ego rows, products, mean",
    "coarse-step": "coarse step, batch 8192",
    "fine-step": "fine step, batch 32768",
    "refresh": "refresh of S_c, graph rebuilt",
    "fine-start": "start of the fine stage",
    "ranking": "ranking to 50, metrics at four k",
    "sampling": "sampling of an epoch",
    "preparation": "preparation of a plan",
    "import": "import; SciPy: of numpy, scipy.sparse",
}
COLUMNS = ("method", "fast", "SciPy", "torch")
TARGETS = (
    ("propagate", 1 / 4, "SciPy"),
    ("propagate", 1 / 4, "torch"),
    ("coarse-step", 1.5, "p"),
    ("fine-step", 3.0, "p"),
    ("refresh", 10.0, "p"),
    ("fine-start", 200.0, "p"),
    ("ranking", 100.0, "p"),
    ("sampling", 10.0, "p"),
    ("import", 1.3, "SciPy"),
)
"""The most that `fast` may take, in p or relative to another column."""
N_IMPORTS = 9
SCALING_PAIRS = (100_000, 1_000_000, 10_000_000)
COMMUNITY_PAIRS = 100_000


def main(arguments: Sequence[str] | None = None) -> None:
    """Time what is asked for and print it."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("data", type=Path, nargs="?", metavar="DATA")
    parser.add_argument("--split", type=Path, metavar="FILE")
    parser.add_argument("--repeats", type=int, default=5, metavar="N")
    parser.add_argument("--threads", type=int, metavar="N")
    parser.add_argument("--only", nargs="+", choices=LABELS, default=list(LABELS), metavar="NAME")
    parser.add_argument("--no-method", action="store_true", help="leave out the slow column")
    parser.add_argument("--scaling", type=int, nargs="*", metavar="PAIRS")
    parser.add_argument("--reading", type=int, nargs="?", const=2_000_000, metavar="LINES")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    if options.repeats < 1:
        parser.error(f"--repeats must be at least 1, got {options.repeats}")
    if options.reading:
        print(reading_times(options.reading, options.repeats))
        return
    torch = module_or_none("torch")
    if torch and options.threads:
        torch.set_num_threads(options.threads)
    with one_blas_thread(), at_most(options.threads):
        versions = ", ".join(f"{name} {version(name)}" for name in ("numba", "numpy", "scipy"))
        header = f"{thread_count()} threads, {versions}, "
        header += f"torch {torch.__version__}" if torch else "torch not installed, so left out"
        if options.scaling is not None:
            sizes, least = sorted(set(options.scaling or SCALING_PAIRS)), PAIRS_PER_USER**2
            if len(sizes) < 2 or sizes[0] < least:
                parser.error(f"--scaling needs two or more sizes, each at least {least}")
            costs = [step_costs(n_pairs, sizes[0], options.repeats) for n_pairs in sizes]
            report_scaling(header, costs, options.json)
            return
        if options.data:
            split, settings = read_split(options.data, split_file=options.split), Settings()
        else:
            pairs = planted(n_users=3000, n_items=2000, rng=np.random.default_rng(0))
            split, settings = split_ratio(pairs, seed=0), Settings(n_coarse=60, n_fine=20, dim=64)
        modules = {"fast": fast} if options.no_method else {"method": method, "fast": fast}
        calls = operations(split, settings, modules, torch)
        wanted = [name for name in ("unit", *options.only) if name in calls]
        times = timed({name: calls[name] for name in wanted}, options.repeats)
    if "import" in options.only:
        times["import"] = import_times()
    header += f"; {split.train.n_entities:,} entities, {split.train.n_pairs:,} training pairs"
    report(header, times, options.json)


def reading_times(n_lines: int, repeats: int) -> str:
    """CPU seconds to read a CSV of users, items, ratings, timestamps, here and with pandas."""
    rng, pandas = np.random.default_rng(0), module_or_none("pandas")
    users = np.sort(rng.integers(1, n_lines // 20 + 2, n_lines))
    items, times = rng.zipf(1.3, n_lines) % 26_744, rng.integers(10**9, 2 * 10**9, n_lines)
    with TemporaryDirectory() as folder:
        path = Path(folder, "ratings.csv")
        rows = zip(users.tolist(), items.tolist(), times.tolist(), strict=True)
        lines = (f"{user},{item},4.5,{at}\n" for user, item, at in rows)
        path.write_text("userId,movieId,rating,timestamp\n" + "".join(lines))
        calls = {"c2f_ref": read_interactions} | ({"pandas": pandas.read_csv} if pandas else {})
        seconds: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(repeats):
            for name, call in calls.items():
                began = time.process_time()
                call(path)
                seconds[name].append(time.process_time() - began)
    medians = {name: median(row) for name, row in seconds.items()}
    text = f"{n_lines:,} lines: " + ", ".join(f"{name} {s:.2f} s" for name, s in medians.items())
    return text + (f", ratio {medians['c2f_ref'] / medians['pandas']:.1f}" if pandas else "")


def module_or_none(name: str) -> Any:
    """The module, or None where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def import_times() -> dict[str, list[float]]:
    """Seconds of an import in a fresh process: of this package, and of NumPy and scipy.sparse."""
    modules = {"fast": "c2f_ref", "SciPy": "numpy, scipy.sparse"}
    times: dict[str, list[float]] = {name: [] for name in modules}
    folder = Path(fast.__file__).parents[2]
    for _ in range(N_IMPORTS):
        for name, imported in modules.items():
            code = f"import time; began = time.perf_counter(); import {imported}"
            command = [sys.executable, "-c", f"{code}; print(time.perf_counter() - began)"]
            done = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
            times[name].append(float(done.stdout))
    return times


def report(header: str, times: Times, as_json: bool) -> None:
    """Every figure in p, and whether the targets were met."""
    of_unit = times["unit"]["SciPy"]
    unit = median(of_unit)
    in_units = {
        name: {column: median(taken) / unit for column, taken in of_one.items()}
        for name, of_one in times.items()
        if name != "unit"
    }
    verdicts = {}
    for name, limit, baseline in TARGETS:
        of_one = {"p": 1.0, **in_units.get(name, {})}
        if "fast" in of_one and baseline in of_one:
            value = of_one["fast"] / of_one[baseline]
            target = f"{name}: at most {limit:g} {'p' if baseline == 'p' else f'of {baseline}'}"
            verdict = "met" if value <= limit else "missed"
            verdicts[target] = {"measured": f"{value:.3g}", "": verdict}
    if as_json:
        measured = {"unit_seconds": unit, "in_units": in_units, "targets": verdicts}
        print(json.dumps({"header": header, **measured}))
        return
    rows = {}
    for name, of_one in in_units.items():
        columns = [column for column in COLUMNS if column in of_one]
        marks = {column: " *"[len(times[name][column]) == 1] for column in columns}
        rows[LABELS[name]] = {f"{c} ": f"{of_one[c]:.2f}{marks[c]}" for c in columns}
    spread = f"{min(of_unit):.4f} to {max(of_unit):.4f}"
    print(f"{header}\np = {unit:.4f} s ({spread}); figures in p, * those of one repeat")
    print(f"{table(rows)}\n\ntargets of `fast`, set for Gowalla\n{table(verdicts)}")


def step_costs(n_pairs: int, smallest: int, repeats: int) -> dict[str, float]:
    """Sizes, seconds of the preparation and of both steps, and the most memory so far."""
    settings, rng = Settings(dim=64), np.random.default_rng(0)
    train, copies = communities(n_pairs, min(smallest, COMMUNITY_PAIRS), rng=rng)
    # Each copy has coarse parts of its own, in which its entities lie at random.
    places = copies * settings.n_coarse + rng.integers(settings.n_coarse, size=copies.size)
    inputs = Inputs.of(train, places // (copies.max() + 1), settings)
    began = time.perf_counter()
    plans = Plans.of(fast, inputs)
    seconds = {"preparation": time.perf_counter() - began}
    calls = {name: {"fast": call} for name, call in steps(fast, inputs, plans).items()}
    seconds |= {name: median(taken["fast"]) for name, taken in timed(calls, repeats).items()}
    sizes = {"pairs": train.n_pairs, "entities": train.n_entities, "dim": settings.dim}
    sizes["entries"] = inputs.adjacency.nnz + 2 * inputs.coarse_assignment.nnz
    return {**sizes, **seconds, "peak_bytes": peak_bytes()}


def peak_bytes() -> int:
    """The most memory that this process has had, as the operating system counts it."""
    import resource  # not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def report_scaling(header: str, costs: list[dict[str, float]], as_json: bool) -> None:
    """A row for each size, and the slope of log seconds on log pairs: 1 is linear growth.

    A batch costs the same whatever the graph, so the slope approaches 1 from below: the slope
    between neighbours is printed too.
    """
    log_pairs, slopes = np.log([cost["pairs"] for cost in costs]), {}
    for step in ("coarse-step", "fine-step"):
        log_seconds = np.log([cost[step] for cost in costs])
        between = (np.diff(log_seconds) / np.diff(log_pairs)).tolist()
        slopes[step] = {"all": float(np.polyfit(log_pairs, log_seconds, 1)[0]), "between": between}
    if as_json:
        print(json.dumps({"header": header, "sizes": costs, "slopes": slopes}))
        return
    sizes, per_step = {}, {}
    for cost in costs:
        sizes[f"{cost['pairs']:,} pairs"] = {
            "entities": f"{cost['entities']:,}",
            "preparation": f"{cost['preparation']:.1f} s",
            "peak memory so far": f"{cost['peak_bytes'] / 2**30:.2f} GiB",
        }
    for step in slopes:
        for cost in costs:
            of_entry = cost[step] / (cost["entries"] * cost["dim"])
            per_step[f"{step}, {cost['pairs']:,} pairs"] = {
                "seconds": f"{cost[step]:.4f}",
                "ns / (stored entry * D)": f"{1e9 * of_entry:.3f}",
                "ns / pair": f"{1e9 * cost[step] / cost['pairs']:.1f}",
            }
    print(f"{header}\n{table(sizes)}\n\n{table(per_step)}")
    for step, slope in slopes.items():
        words = f"{step}: slope of log seconds on log pairs {slope['all']:.2f}"
        print(
            f"{words}, between neighbours {', '.join(f'{each:.2f}' for each in slope['between'])}"
        )


if __name__ == "__main__":
    main()
