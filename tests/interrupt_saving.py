"""Kill processes with SIGKILL while they save or train, and see that nothing is lost.

    python tests/interrupt_saving.py --kills 500            kills while a model is saved: after each the file is readable
    python tests/interrupt_saving.py --training-kills 20    kills while a run trains: resumed, it ends with the same bytes

POSIX alone: the children are forks of this process, so that each is at work within a millisecond.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

sys.path.append(str(Path(__file__).resolve().parent))
from support.models import model_of, parts_of
from support.strategies import draw_model

from c2f_ref import cli
from c2f_ref.bundle import load_model, save_model
from c2f_ref.files import STALE_SECONDS

TRAINING = [
    *("--recipe", "published", "--implementation", "spec", "--seed", "3"),
    *("--set", "n_coarse=8", "--set", "n_fine=4", "--set", "dim=6", "--set", "n_layers=2", "--set", "fine_per_coarse=3"),
    *("--set", "batch=64", "--set", "evaluate_every=1", "--set", "patience=50", "--set", "max_epochs=40"),
    *("--set", "max_fixed_epochs=20", "--set", "coarse.lr=0.02", "--set", "fine.lr=0.02"),
]


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


def killed(child: int) -> bool:
    """Whether SIGKILL ended the child, rather than its own end.

    Raises RuntimeError where it failed by itself.
    """
    os.kill(child, signal.SIGKILL)
    return not ended(child)


def ended(child: int) -> bool:
    """Whether the child came to its own end, for which this waits.

    Raises RuntimeError where it failed.
    """
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise RuntimeError(f"a child ended with exit code {os.WEXITSTATUS(status)}")
    return os.WIFEXITED(status)


def kill_savers(n_kills: int, rng: np.random.Generator) -> str:
    """Kill a process that saves two models in turn, at any moment; the file is always one of the two."""
    models = [model_of(draw_model((41, 57, 4, 3, 6, 8), rng)) for _ in range(2)]
    known, n_killed_at_work = [parts_of(model) for model in models], 0
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.npz"
        save_model(path, models[0])

        def save(writing: int) -> None:
            while True:
                for model in models:
                    save_model(path, model)
                    os.write(writing, b".")

        seen = set()
        for _ in range(n_kills):
            left = len(os.listdir(folder))
            reading, writing = os.pipe()
            child = in_child(partial(save, writing))
            os.read(reading, 1)
            time.sleep(rng.uniform(0, 0.02))
            assert killed(child)
            os.close(reading)
            os.close(writing)
            seen.add(known.index(parts_of(load_model(path))))
            n_killed_at_work += len(os.listdir(folder)) > left
        for temporary in path.parent.glob(".*.tmp"):
            then = time.time() - STALE_SECONDS - 60
            os.utime(temporary, (then, then))
        save_model(path, models[1])
        assert os.listdir(folder) == ["model.npz"]
    assert seen == {0, 1}
    return (
        f"{n_kills} kills while saving, {n_killed_at_work} of which left a temporary file: {n_kills} readable files; "
        "the first save an hour later removes what is left"
    )


def kill_trainers(n_kills: int, rng: np.random.Generator) -> str:
    """Kill a run so many times, resuming it each time; its model and checkpoints are those of a run that nobody killed."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        users, items = np.nonzero(rng.random((40, 50)) < 0.2)
        (folder / "pairs.csv").write_text("user,item\n" + "".join(f"{u},{i}\n" for u, i in zip(users, items, strict=True)))

        def train(run: str) -> None:
            with (folder / f"{run}.txt").open("a") as told, redirect_stdout(told), redirect_stderr(told):
                given = [str(folder / "pairs.csv"), "--out", str(folder / f"{run}.npz"), "--checkpoint", str(folder / run)]
                if cli.main(["train", *given, "--resume", *TRAINING]):
                    os._exit(1)

        assert ended(in_child(lambda: train("undisturbed")))
        for _ in range(n_kills):
            child = in_child(lambda: train("killed"))
            wait_for_states(folder / "killed", int(rng.integers(1, 4)))
            time.sleep(rng.uniform(0, 0.03))
            assert killed(child), "the run was over before all kills"
        assert ended(in_child(lambda: train("killed")))
        saved, kept = [(folder / f"{run}.npz").read_bytes() for run in ("undisturbed", "killed")]
        assert saved == kept, "the killed run ended with another model"
        told = [(folder / f"{run}.txt").read_text().count("step") for run in ("undisturbed", "killed")]
    return (
        f"{n_kills} kills while training ({told[0]} evaluations told without, {told[1]} with), resumed: "
        f"the same {len(saved):,} bytes"
    )


def wait_for_states(folder: Path, n_states: int) -> None:
    """Wait until a run has put so many new states into its folder; five minutes for one is too long."""

    def newest() -> int:
        return max((path.stat().st_mtime_ns for path in folder.glob("*.npz")), default=0)

    for _ in range(n_states):
        before, until = newest(), time.monotonic() + 300
        while newest() == before:
            if time.monotonic() > until:
                raise RuntimeError("no new state came: the run was over before all kills, or it hangs")
            time.sleep(0.0005)


def main() -> None:
    """Kill as asked, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
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
