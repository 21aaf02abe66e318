"""Work cut into blocks of rows: every row once, and results gathered in order, whoever was first."""

from __future__ import annotations

import time

import numba
import pytest

from c2f_ref.fast.blocks import over_blocks
from c2f_ref.threads import at_most


@pytest.mark.parametrize("n_threads", [1, 2])
def test_results_are_gathered_in_the_order_of_rows(n_threads: int) -> None:
    """The first block is the slowest; 11 rows in blocks of 4 are three blocks, the last one short."""
    if n_threads > numba.config.NUMBA_NUM_THREADS:
        pytest.skip("this machine has one processor")
    gathered: list[tuple[int, int]] = []

    def work(block: slice) -> tuple[int, int]:
        time.sleep(0.02 if block.start == 0 else 0.0)
        return block.start, block.stop

    with at_most(n_threads):
        over_blocks(work, 11, 4, gathered.append)
    assert gathered == [(0, 4), (4, 8), (8, 11)]


def test_no_rows_are_no_work() -> None:
    over_blocks(lambda block: pytest.fail("no block was asked for"), 0, 4)


@pytest.mark.parametrize("n_threads", [1, 2])
def test_an_error_in_a_block_comes_out(n_threads: int) -> None:
    if n_threads > numba.config.NUMBA_NUM_THREADS:
        pytest.skip("this machine has one processor")

    def work(block: slice) -> None:
        if block.start == 4:
            raise ValueError("the second block")

    with at_most(n_threads), pytest.raises(ValueError, match="the second block"):
        over_blocks(work, 11, 4)
