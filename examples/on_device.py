"""Train, export, then recommend in a fresh process that has NumPy alone and 256 MiB of address space.

    python examples/on_device.py [DATA] [--split FILE] [--set name=value]... [--untrained] [--out DIR]
    python examples/on_device.py --serve MODEL

Both forms take `--memory-budget MIB` (56) and `--users N` (20). Without DATA the pairs are planted; DATA is a folder or file of
your own, as for `c2f-ref train`. `--untrained` skips the training: tables are random then, and take as much to serve.
DIR gets `model.npz`. The second form is the fresh process alone: copy the model to a board and run it there. It prints the last
list, which libraries are loaded, the resident memory and the time that users take.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from c2f_ref.bundle import Model
    from c2f_ref.interactions import Interactions
    from c2f_ref.spec import Settings

ADDRESS_SPACE = 256 * 2**20
ABSENT = ("scipy", "numba", "sklearn", "matplotlib")
"""What a device does without."""


def main() -> None:
    """Make a model and serve it in another process, or serve one here."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", metavar="DATA")
    parser.add_argument("--split", type=Path, metavar="FILE")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--untrained", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("c2f-examples"), metavar="DIR")
    parser.add_argument("--serve", type=Path, metavar="MODEL")
    parser.add_argument("--memory-budget", type=int, default=56, metavar="MIB")
    parser.add_argument("--users", type=int, default=20, metavar="N")
    options = parser.parse_args()
    if options.serve:
        serve(options.serve, options.memory_budget * 2**20, options.users)
        return
    path = export(options)
    command = [sys.executable, __file__, "--serve", str(path), "--users", str(options.users)]
    # OpenBLAS, which NumPy loads and a device never calls, sets room aside for every thread that it may use.
    alone = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    sys.exit(subprocess.run([*command, "--memory-budget", str(options.memory_budget)], env=alone, check=False).returncode)


def export(options: argparse.Namespace) -> Path:
    """Train a model on DATA or on planted pairs, or make one up, and save it; return its file."""
    import numpy as np

    from c2f_ref import spec
    from c2f_ref.bundle import save_model
    from c2f_ref.interactions import planted, read_split, split_ratio
    from c2f_ref.training import DEMO_SETTINGS, RECIPES, to_model, train, with_overrides

    if options.data:
        split = read_split(options.data, split_file=options.split)
        settings, recipe, ops = spec.Settings(), RECIPES["laptop"], None
    else:
        split = split_ratio(planted(rng=np.random.default_rng(0)), valid=0.2, test=0.3, seed=0)
        settings, recipe, ops = DEMO_SETTINGS, RECIPES["demo"], spec  # the specification: kernels would take longer to compile
    settings, recipe = with_overrides(settings, recipe, options.set)
    if options.untrained:
        model = made_up(split.train, settings)
    else:
        coarse, fine = train(split, settings, recipe, seed=0, ops=ops)
        model = to_model(split, settings, coarse.best, fine.best if fine else None)
    options.out.mkdir(parents=True, exist_ok=True)
    path = Path(options.out / "model.npz")
    save_model(path, model.with_tables(np.float32, np.float32))
    print(
        f"{path}: {path.stat().st_size:,} bytes; {model.n_users:,} users, {model.n_items:,} items, {model.seen.nnz:,} pairs",
        flush=True,
    )
    return path


def made_up(pairs: Interactions, settings: Settings) -> Model:
    """A model of these settings, random but for its pairs, with as many entries as it can have."""
    import numpy as np

    from c2f_ref import spec
    from c2f_ref.bundle import Model

    rng = np.random.default_rng(0)
    coarse, bias = spec.start_coarse(pairs.n_entities, settings, rng=rng)
    coarse_assignment = spec.keep_top(rng.random((pairs.n_entities, settings.n_coarse)), settings.coarse_per_entity)
    fine_assignment = spec.keep_top(rng.random((settings.n_coarse, settings.n_fine)), settings.fine_per_coarse)
    n_live = min(settings.sparse_pca_components, settings.dim)
    scores = settings.threshold + 1.0 + rng.random((settings.n_fine, n_live))
    fine = spec.scatter_scores(scores, spec.draw_positions(settings.n_fine, n_live, settings.dim, rng=rng), settings.dim)
    seen = pairs.matrix()
    return Model(settings, pairs.user_ids, pairs.item_ids, seen, bias, coarse, coarse_assignment, fine, fine_assignment)


def serve(path: Path, memory_budget: int, n_users: int) -> None:
    """Recommend to the first users of a model, one request each, and print what that takes."""
    limited = limit_address_space()
    from c2f_ref.device import Device

    marks = [(time.perf_counter(), time.process_time())]
    device = Device.load(path, memory_budget=memory_budget)
    marks.append((time.perf_counter(), time.process_time()))
    for user in device.user_ids[: max(n_users, 1)]:
        ids, scores = device.recommend([user])
        marks.append((time.perf_counter(), time.process_time()))
    seconds, of_processor = ([after - before for before, after in pairwise(times)] for times in zip(*marks, strict=True))
    print(
        f"last of {n_users} users, {user}: "
        + "  ".join(f"{id_} ({score:.2f})" for id_, score in zip(ids[0], scores[0], strict=True))
    )
    loaded = [name for name in ABSENT if name in sys.modules]
    print(f"of {', '.join(ABSENT)} are loaded: {', '.join(loaded) or 'none'}; address space {limited}")
    print(f"budget {memory_budget / 2**20:.0f} MiB, {device.columns_kept} columns kept; resident {resident():.1f} MiB at most")
    for name, taken in (("on the clock", seconds), ("of the processor", of_processor)):
        further = f", further ones {max(taken[2:]):.3f} s at most" if n_users > 1 else ""
        print(f"{name}: loading {taken[0]:.2f} s, first user {taken[1]:.2f} s{further}")
    sys.exit(1 if loaded else 0)


def limit_address_space() -> str:
    """Let this process have no more than ADDRESS_SPACE, where the system can do that; say what was done."""
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    except (ImportError, OSError, ValueError) as error:
        return f"unlimited here: {error}"
    return f"limited to {ADDRESS_SPACE // 2**20} MiB"


def resident() -> float:
    """The most memory that this process had resident, in MiB; NaN where the system does not tell."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return float("nan")
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


if __name__ == "__main__":
    main()
