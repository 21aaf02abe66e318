"""Threads, forked processes and damaged caches: whatever computes, results are the same bytes."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numba
import pytest
from training.tiny import RECIPE, SETTINGS, content_of, tiny_split, with_schedules

from c2f_ref import fast
from c2f_ref.fast import compile
from c2f_ref.training import runs, train

pytestmark = pytest.mark.numba
TESTS = Path(__file__).resolve().parent
N_FITS = 8
DOUBLE = "import numpy; values = numpy.ones(3); t.double(values); print(values.sum())"


def run(program: str, **variables: object) -> str:
    """What a fresh process prints on stdout and stderr."""
    path = os.pathsep.join([str(TESTS.parent), str(TESTS)])
    environment = os.environ | {"PYTHONPATH": path} | {k: str(v) for k, v in variables.items()}
    command = [sys.executable, "-c", f"import test_machines as t; {program}"]
    given = {"capture_output": True, "text": True, "timeout": 300, "env": environment}
    done = subprocess.run(command, check=False, **given)  # type: ignore[call-overload]
    assert done.returncode == 0, done.stderr
    return str(done.stdout + done.stderr)


def fit(seed: int) -> object:
    recipe = with_schedules(RECIPE, max_epochs=3)
    return content_of(train(tiny_split(), SETTINGS, recipe, seed=seed, ops=fast))


def fit_in_every_way() -> None:
    """Raise AssertionError unless fits at once give what they give one after the other."""
    runs.SMALL = 0  # or one thread would train every time
    expected = [fit(seed) for seed in range(N_FITS)]
    with ThreadPoolExecutor(N_FITS) as threads:
        assert list(threads.map(fit, range(N_FITS))) == expected
    with multiprocessing.get_context("fork").Pool(2) as processes:
        assert processes.map_async(fit, range(N_FITS)).get(timeout=120) == expected
    print("the same in threads and forked processes on", numba.threading_layer())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("layer", ["workqueue", "omp"])
def test_fits_at_once_give_what_they_give_one_after_the_other(layer: str) -> None:
    """Workqueue, the default of macOS wheels, ends the process when two threads enter it; OpenMP
    waits for ever in a forked child.
    """
    printed = run("t.fit_in_every_way()", NUMBA_THREADING_LAYER=layer, NUMBA_NUM_THREADS=4)
    assert f"the same in threads and forked processes on {layer}" in printed


@compile.kernel(parallel=True)
def double(values: Any) -> None:
    for place in compile.span(values.size):
        values[place] *= 2


def test_a_damaged_cache_is_not_used_and_one_line_says_so(tmp_path: Path) -> None:
    given = {"NUMBA_CACHE_DIR": tmp_path, "NUMBA_NUM_THREADS": 1}
    assert run(DOUBLE, **given) == "6.0\n"
    files = list(tmp_path.rglob("*.nb?"))
    assert files
    for path in files:
        os.truncate(path, path.stat().st_size // 2)
    product, *lines = run(DOUBLE, **given).splitlines()
    assert product == "6.0"
    assert [line.startswith("numba's cache is damaged or full") for line in lines] == [True]


def test_a_full_cache_is_not_used_and_one_line_says_so(tmp_path: Path) -> None:
    limit = "import resource as r; r.setrlimit(r.RLIMIT_FSIZE, (100, 100))"
    ignore = "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)"
    printed = run(
        f"{limit}; {ignore}; {DOUBLE}", NUMBA_CACHE_DIR=tmp_path, NUMBA_NUM_THREADS=1
    ).splitlines()
    assert printed[0] == "6.0"
    assert [line.startswith("numba's cache is damaged or full") for line in printed[1:]] == [True]
