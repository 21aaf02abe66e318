"""Kill processes with SIGKILL while they save or train, and see that nothing is lost.

    python tests/interrupt_saving.py --kills 500          each leaves a file that is readable
    python tests/interrupt_saving.py --training-kills 20  resumed, training ends with the same bytes

POSIX alone: the children are forks of this process, at work within a millisecond.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

sys.path.append(str(Path(__file__).resolve().parent))
from support.models import model_of, parts_of
from support.strategies import draw_model

from c2f_ref.model import load_model, save_model
from c2f_ref.store import STALE_SECONDS


def in_child(work: Callable[[], object]) -> int:
    """Process id of a fork that does this work and ends."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException as error:
            print(f"child: {error!r}", file=sys.__stderr__, flush=True)
            os._exit(1)
        os._exit(0)
    return child


def ended(child: int) -> bool:
    """Wait for the child; whether it came to its own end. Raises RuntimeError if it failed."""
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise RuntimeError(f"a child ended with exit code {os.WEXITSTATUS(status)}")
    return os.WIFEXITED(status)


def kill_savers(n_kills: int, rng: np.random.Generator) -> str:
    """Kill a process that saves two models in turn, at any moment; the file is one of the two."""
    models = [model_of(draw_model((41, 57, 4, 3, 6, 8), rng)) for _ in range(2)]
    known, n_killed_at_work, seen = [parts_of(model) for model in models], 0, set()
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.npz"
        save_model(path, models[0])

        def save(writing: int) -> None:
            while True:
                for model in models:
                    save_model(path, model)
                    os.write(writing, b".")

        for _ in range(n_kills):
            n_left = len(os.listdir(folder))
            reading, writing = os.pipe()
            child = in_child(partial(save, writing))
            os.read(reading, 1)
            time.sleep(rng.uniform(0, 0.02))
            os.kill(child, signal.SIGKILL)
            assert not ended(child)
            os.close(reading)
            os.close(writing)
            seen.add(known.index(parts_of(load_model(path))))
            n_killed_at_work += len(os.listdir(folder)) > n_left
        for temporary in path.parent.glob(".*.tmp"):
            then = time.time() - STALE_SECONDS - 60
            os.utime(temporary, (then, then))
        save_model(path, models[1])
        assert os.listdir(folder) == ["model.npz"]
    assert seen == {0, 1}
    return (
        f"{n_kills} kills while saving, {n_killed_at_work} of which left a temporary file: every "
        "file is readable; the first save an hour later removes what is left"
    )


def kill_trainers(n_kills: int, rng: np.random.Generator) -> str:
    """Kill a run many times and resume it: its model is that of a run that nobody killed."""
    from dataclasses import replace

    from c2f_ref import method
    from c2f_ref.interactions import planted, split_ratio
    from c2f_ref.training import RECIPES, to_model, train, with_overrides

    pairs = planted(n_users=40, n_items=50, rng=rng)
    split = split_ratio(pairs, valid=0.2, test=0.2, seed=0)
    settings = method.Settings(n_coarse=8, n_fine=4, dim=6, n_layers=2, fine_per_coarse=3)
    changes = "both.batch=64 both.evaluate_every=1 both.patience=50 both.max_epochs=40"
    changes += " both.max_fixed_epochs=20"
    rates = "coarse.lr=0.02 fine.lr=0.02"
    settings, recipe = with_overrides(settings, RECIPES["published"], f"{changes} {rates}".split())
    with TemporaryDirectory() as name:
        folder = Path(name)

        def run(name: str) -> None:
            given = {"seed": 3, "ops": method, "checkpoint": folder / name, "resume": True}
            coarse, fine = train(split, settings, recipe, **given)
            model = to_model(split, settings, coarse.chosen, fine.chosen if fine else None)
            save_model(folder / f"{name}.npz", replace(model, provenance={}))

        def newest() -> int:
            paths = folder.glob("killed/*.npz")
            return max((path.stat().st_mtime_ns for path in paths), default=0)

        assert ended(in_child(lambda: run("undisturbed")))
        for _ in range(n_kills):
            child = in_child(lambda: run("killed"))
            for _ in range(int(rng.integers(1, 4))):
                before, until = newest(), time.monotonic() + 300
                while newest() == before:
                    if time.monotonic() > until:
                        raise RuntimeError("no new checkpoint: the run was over, or it hangs")
                    time.sleep(0.0005)
            time.sleep(rng.uniform(0, 0.03))
            os.kill(child, signal.SIGKILL)
            assert not ended(child), "the run was over before all kills"
        assert ended(in_child(lambda: run("killed")))
        saved, kept = ((folder / f"{name}.npz").read_bytes() for name in ("undisturbed", "killed"))
        assert saved == kept, "the killed run ended with another model"
    return f"{n_kills} kills while training, resumed: the same {len(saved):,} bytes"


def main() -> None:
    """Kill as asked, and print what was found."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--training-kills", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    if options.kills:
        print(kill_savers(options.kills, rng), flush=True)
    if options.training_kills:
        print(kill_trainers(options.training_kills, rng), flush=True)


if __name__ == "__main__":
    main()
