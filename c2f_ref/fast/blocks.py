"""Blocks of rows shared among threads: for work that is one matrix product and a compiled loop over its rows."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from .. import threads

Result = TypeVar("Result")


def over_blocks(
    work: Callable[[slice], Result], n_rows: int, rows_per_block: int, gather: Callable[[Result], object] = lambda result: None
) -> None:
    """Call `work` with every block of rows, on as many threads as compiled loops may use; `gather` what it gives, in order of rows.

    A matrix product inside runs on one thread, and blocks are cut alike for any number of threads, so that this number
    changes no bit. `work` writes to rows of its block only and calls no kernel that is parallel itself.
    """
    blocks = [slice(start, min(start + rows_per_block, n_rows)) for start in range(0, n_rows, rows_per_block)]
    with threads.one_blas_thread(), ThreadPoolExecutor(threads.count()) as pool:
        share_out = pool.map if len(blocks) > 1 else map  # a single block is done before a thread has started
        for result in share_out(work, blocks):
            gather(result)
