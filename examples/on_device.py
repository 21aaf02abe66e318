"""Train, export, then recommend in a fresh process that has NumPy alone and 256 MiB of memory.

    python examples/on_device.py [DATA] [--split FILE] [--set name=value]... [--untrained]
        [--out DIR] [--memory-budget MIB] [--users N]
    python examples/on_device.py --serve MODEL [--memory-budget MIB] [--users N]

Without DATA the pairs are planted; DATA is a folder or file of your own, as for `c2f-ref train`.
`--untrained` skips the training: tables are random then, and take as much to serve. DIR gets
`model.npz`. The second form is the fresh process alone: copy the model to a board and run it there.
It prints the last list, which libraries are loaded, the resident memory and the time per user.
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
    from c2f_ref.interactions import Interactions
    from c2f_ref.method import Settings
    from c2f_ref.model import Model

ADDRESS_SPACE = 256 * 2**20
ABSENT = ("scipy", "numba", "sklearn", "matplotlib")
"""What a device does without."""


def main() -> None:
    """Make a model and serve it in another process, or serve one here."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("data", type=Path, nargs="?", metavar="DATA")
    parser.add_argument("--split", type=Path, metavar="FILE")
    parser.add_argument("--split-seed", type=int, default=0, metavar="N")
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
    words = ["--serve", export(options), "--users", options.users]
    words += ["--memory-budget", options.memory_budget]
    # OpenBLAS, which NumPy loads and a device never calls, reserves memory for every thread.
    alone = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, __file__, *map(str, words)]
    sys.exit(subprocess.run(command, env=alone, check=False).returncode)


def export(options: argparse.Namespace) -> Path:
    """Train a model on DATA or on planted pairs, or make one up, and save it; return its file."""
    import numpy as np
    from common import given

    from c2f_ref.model import save_model
    from c2f_ref.training import to_model, train

    split, settings, recipe, ops = given(options)
    if options.untrained:
        model = made_up(split.train, settings)
    else:
        coarse, fine = train(split, settings, recipe, seed=0, ops=ops)
        model = to_model(split, settings, coarse.chosen, fine.chosen if fine else None)
    options.out.mkdir(parents=True, exist_ok=True)
    path = Path(options.out / "model.npz")
    save_model(path, model.with_tables(np.float32, np.float32))
    sizes = f"{model.n_users:,} users, {model.n_items:,} items, {model.seen.nnz:,} pairs"
    print(f"{path}: {path.stat().st_size:,} bytes; {sizes}", flush=True)
    return path


def made_up(pairs: Interactions, settings: Settings) -> Model:
    """A random model of these pairs and settings, with as many entries as it can have."""
    import numpy as np

    from c2f_ref import method
    from c2f_ref.model import Model

    rng, n_fine = np.random.default_rng(0), settings.n_fine
    coarse, bias = method.start_coarse(pairs.n_entities, settings, rng=rng)
    of_entities = rng.random((pairs.n_entities, settings.n_coarse))
    n_live = min(settings.sparse_pca_components, settings.dim)
    scores = settings.threshold + 1.0 + rng.random((n_fine, n_live))
    positions = method.draw_positions(n_fine, n_live, settings.dim, rng=rng)
    bridges = rng.random((settings.n_coarse, n_fine))
    return Model.of(
        settings=settings,
        user_ids=pairs.user_ids,
        item_ids=pairs.item_ids,
        seen=pairs.matrix(),
        bias=bias,
        coarse=coarse,
        coarse_assignment=method.keep_top(of_entities, settings.coarse_per_entity),
        fine=method.scatter_scores(scores, positions, settings.dim),
        fine_assignment=method.keep_top(bridges, settings.fine_per_coarse),
    )


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
    listed = (f"{item} ({score:.2f})" for item, score in zip(ids[0], scores[0], strict=True))
    print(f"last of {n_users} users, {user}: {'  '.join(listed)}")
    loaded = [name for name in ABSENT if name in sys.modules]
    print(f"of {', '.join(ABSENT)} are loaded: {', '.join(loaded) or 'none'}")
    print(f"address space {limited}; resident {resident():.1f} MiB at most")
    cached = "cached" if device.is_cached else "computed for every request"
    print(f"budget {memory_budget / 2**20:.0f} MiB, embeddings {cached}")
    for name, times in zip(("clock", "processor"), zip(*marks, strict=True), strict=True):
        taken = [after - before for before, after in pairwise(times)]
        further = f", further ones {max(taken[2:]):.3f} s at most" if n_users > 1 else ""
        print(f"by the {name}: loading {taken[0]:.2f} s, first user {taken[1]:.2f} s{further}")
    sys.exit(1 if loaded else 0)


def limit_address_space() -> str:
    """Let this process have no more than ADDRESS_SPACE, where the system can do that."""
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    except (ImportError, OSError, ValueError) as error:
        return f"unlimited here: {error}"
    return f"limited to {ADDRESS_SPACE // 2**20} MiB"


def resident() -> float:
    """The most memory that this process had resident, in MiB; NaN where the system hides it."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return float("nan")
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


if __name__ == "__main__":
    main()
