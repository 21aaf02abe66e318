"""Thread counts: what is set is restored, and no count changes a result."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import numba
import pytest
import scipy.linalg  # noqa: F401  its BLAS has to be loaded to be counted
from threadpoolctl import threadpool_info, threadpool_limits
from training.tiny import RECIPE, SETTINGS, content_of, tiny_split, with_schedules

from c2f_ref import fast, method
from c2f_ref.runtime import at_most, one_blas_thread, thread_count
from c2f_ref.training import runs, train

TESTS = Path(__file__).resolve().parent


def blas_threads() -> set[int]:
    """Threads of every BLAS that is loaded."""
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


@pytest.fixture
def _two_blas_threads() -> Iterator[None]:
    """So that one is another number, whatever the machine and its environment say."""
    with threadpool_limits(2, user_api="blas"):
        if blas_threads() != {2}:
            pytest.skip("this BLAS has one thread only")
        yield


@pytest.mark.usefixtures("_two_blas_threads")
def test_blas_has_one_thread_also_when_nested_and_then_as_many_as_before() -> None:
    n_compiled = numba.get_num_threads()
    with one_blas_thread():
        with one_blas_thread():
            assert blas_threads() == {1}
        assert blas_threads() == {1}
        assert numba.get_num_threads() == n_compiled
    assert blas_threads() == {2}
    with pytest.raises(KeyError), one_blas_thread():
        raise KeyError
    assert blas_threads() == {2}
    first, second = ExitStack(), ExitStack()  # as of two threads that train at once
    for stack in (first, second):
        stack.enter_context(one_blas_thread())
    first.close()
    assert blas_threads() == {1}
    second.close()
    assert blas_threads() == {2}


@pytest.mark.parametrize("n_threads", [0, -1])
def test_a_count_below_one_is_an_error_and_one_above_all_processors_means_all(
    n_threads: int,
) -> None:
    before = numba.get_num_threads()
    with pytest.raises(ValueError, match="number of threads"), at_most(n_threads):
        pytest.fail("must not get here")
    assert numba.get_num_threads() == before
    with at_most(numba.config.NUMBA_NUM_THREADS + 1):
        assert numba.get_num_threads() == numba.config.NUMBA_NUM_THREADS


def test_a_small_model_is_trained_by_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    for small, expected in ((runs.SMALL, 1), (0, thread_count())):
        monkeypatch.setattr(runs, "SMALL", small)
        counts: set[int] = set()
        recipe = with_schedules(RECIPE, max_epochs=1)
        watch = lambda _, counts=counts: counts.add(thread_count())  # noqa: E731
        train(tiny_split(), SETTINGS, recipe, seed=0, ops=method, watch=watch)
        assert counts == {expected}


def test_without_a_count_or_without_numba_nothing_is_set_nor_loaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = numba.get_num_threads()
    assert thread_count() == before
    with at_most(None):
        assert numba.get_num_threads() == before
    with monkeypatch.context() as absent:
        absent.setitem(sys.modules, "numba", None)  # as if it were not installed
        with at_most(None), at_most(1):
            assert thread_count() == 1
    monkeypatch.delitem(sys.modules, "numba")
    assert thread_count() == 1
    assert "numba" not in sys.modules


def test_compiled_loops_have_the_given_count_and_training_the_same_bytes() -> None:
    """In a process whose numba starts with four threads, also on a machine with fewer cores."""
    path = os.pathsep.join([str(TESTS.parent), str(TESTS)])
    environment = os.environ | {"NUMBA_NUM_THREADS": "4", "PYTHONPATH": path}
    program = "from test_threads import check_four_threads; check_four_threads()"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "checked\n"), done.stderr


def check_four_threads() -> None:
    """Raise AssertionError unless counts are set, nested and restored, and change no byte."""
    assert thread_count() == 4
    runs.SMALL = 0  # or one thread would train every time
    recipe, contents = with_schedules(RECIPE, n_candidates=3, disjoint_share=0.3), []
    for n_threads in (1, 3, 4):
        with at_most(n_threads):
            assert numba.get_num_threads() == thread_count() == n_threads
            with at_most(2), suppress(KeyError), at_most(4):
                assert thread_count() == 4
                raise KeyError
            assert thread_count() == n_threads
            contents.append(content_of(train(tiny_split(), SETTINGS, recipe, seed=0, ops=fast)))
        assert thread_count() == 4
    assert contents[0] == contents[1] == contents[2]
    print("checked")
