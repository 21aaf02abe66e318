"""How many threads work: BLAS on one where asked for, compiled loops on at most so many, and what was set before comes back."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numba
import pytest
import scipy.linalg  # noqa: F401  it may bring a BLAS of its own, which has to be loaded to be counted
from threadpoolctl import threadpool_info, threadpool_limits  # comes with scikit-learn
from training.tiny import RECIPE, SETTINGS, content_of_run, tiny_split, with_schedules

from c2f_ref import fast, spec
from c2f_ref.threads import at_most, count, one_blas_thread
from c2f_ref.training import schedule, train

TESTS = Path(__file__).resolve().parent


def blas_threads() -> set[int]:
    """Threads of every BLAS that is loaded."""
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


@pytest.fixture
def _two_blas_threads() -> Iterator[None]:
    """So that one is another number, whatever the machine and its environment say."""
    with threadpool_limits(2, user_api="blas"):
        if blas_threads() != {2}:
            pytest.skip("this BLAS knows but one thread")
        yield


@pytest.mark.usefixtures("_two_blas_threads")
def test_blas_has_one_thread_and_then_as_many_as_before() -> None:
    with one_blas_thread():
        assert blas_threads() == {1}
    assert blas_threads() == {2}


@pytest.mark.usefixtures("_two_blas_threads")
def test_one_thread_within_one_thread_is_one_thread_to_the_end() -> None:
    with one_blas_thread():
        with one_blas_thread():
            assert blas_threads() == {1}
        assert blas_threads() == {1}
    assert blas_threads() == {2}


@pytest.mark.usefixtures("_two_blas_threads")
def test_blas_gets_its_threads_back_after_an_error() -> None:
    with pytest.raises(KeyError), one_blas_thread():
        raise KeyError
    assert blas_threads() == {2}


@pytest.mark.usefixtures("_two_blas_threads")
def test_no_limit_on_blas_is_one_on_compiled_loops() -> None:
    before = numba.get_num_threads()
    with one_blas_thread():
        assert numba.get_num_threads() == before


@pytest.mark.parametrize("n_threads", [0, -1])
def test_a_number_that_cannot_be_is_an_error_and_changes_nothing(n_threads: int) -> None:
    before = numba.get_num_threads()
    with pytest.raises(ValueError, match="number of threads"), at_most(n_threads):
        pytest.fail("must not get here")
    assert numba.get_num_threads() == before


def test_more_threads_than_there_are_processors_are_as_many_as_there_are() -> None:
    with at_most(numba.config.NUMBA_NUM_THREADS + 1):
        assert numba.get_num_threads() == numba.config.NUMBA_NUM_THREADS


def test_a_small_model_is_trained_by_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    for small, expected in ((schedule.SMALL, 1), (0, count())):
        monkeypatch.setattr(schedule, "SMALL", small)
        counted: list[int] = []
        recipe = with_schedules(RECIPE, max_epochs=1)
        train(tiny_split(), SETTINGS, recipe, seed=0, ops=spec, on_evaluation=lambda _, counted=counted: counted.append(count()))
        assert set(counted) == {expected}


def test_without_a_number_or_without_numba_nothing_is_set_nor_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    before = numba.get_num_threads()
    with monkeypatch.context() as absent:
        absent.setitem(sys.modules, "numba", None)  # as if it were not installed: an import would fail
        with at_most(None), at_most(1):
            assert count() == 1
    with at_most(None):
        assert numba.get_num_threads() == before


def test_threads_are_counted_where_numba_is_loaded_and_are_one_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    assert count() == numba.get_num_threads()
    monkeypatch.delitem(sys.modules, "numba")
    assert count() == 1
    assert "numba" not in sys.modules


def test_compiled_loops_have_the_given_number_and_the_same_result() -> None:
    """In a process of its own, whose numba was started with four threads; on a machine with fewer cores, too."""
    environment = os.environ | {"NUMBA_NUM_THREADS": "4", "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)])}
    program = "from test_threads import check_four_threads; check_four_threads()"
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "checked\n"), done.stderr


def check_four_threads() -> None:
    """What the test above runs: raise AssertionError unless numbers are set, nested and restored, and change no byte."""
    assert count() == 4
    schedule.SMALL = 0  # or one thread would train every time
    contents = []
    for n_threads in (1, 3, 4):
        with at_most(n_threads):
            assert numba.get_num_threads() == count() == n_threads
            with at_most(2), suppress(KeyError), at_most(4):
                assert count() == 4
                raise KeyError
            assert count() == n_threads
            contents.append(
                content_of_run(
                    train(tiny_split(), SETTINGS, with_schedules(RECIPE, n_candidates=3, disjoint_share=0.3), seed=0, ops=fast)
                )
            )
        assert count() == 4
    assert contents[0] == contents[1] == contents[2]
    print("checked")
