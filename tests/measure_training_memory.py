"""Train in this fresh process and hold the memory that it has had against the formula of `c2f_ref.training.training_bytes`.

    python tests/measure_training_memory.py DATA [--split FILE] [--recipe laptop] [--set NAME=VALUE]... [--threads N]

DATA, --recipe and --set are as in `c2f-ref train`. Printed: what was resident before training (interpreter, libraries, the
split), the most that was resident, as the operating system counts it, and the formula, term by term. What is left over is
compiled code, scikit-learn, LAPACK, and what the allocator keeps of what was given back. Exit code 1 where the formula is above
the peak, or the rest is above --rest.
"""

from __future__ import annotations

import argparse
import resource
import sys
from collections.abc import Sequence
from pathlib import Path

from c2f_ref import fast
from c2f_ref.interactions import read_split
from c2f_ref.progress import ProgressLine
from c2f_ref.spec import Settings
from c2f_ref.tables import text_table
from c2f_ref.threads import at_most, count
from c2f_ref.training import RECIPES, train, training_moments, with_overrides


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, print, and say whether both ways of counting agree."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("--split", type=Path, metavar="FILE")
    parser.add_argument("--recipe", choices=sorted(RECIPES), default="laptop")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--threads", type=int, metavar="N")
    parser.add_argument("--rest", type=int, default=300, metavar="MB", help="megabytes that may be left over")
    options = parser.parse_args(arguments)
    split = read_split(options.data, split_file=options.split)
    settings, recipe = with_overrides(Settings(), RECIPES[options.recipe], options.set)
    before = resident_peak()
    with at_most(options.threads):
        train(split, settings, recipe, seed=0, ops=fast, **ProgressLine().callbacks())
        counts = split.train.n_users, split.train.n_items, split.train.n_pairs, split.valid.n_pairs, count()
    peak, moments = resident_peak(), training_moments(settings, recipe, *counts)
    largest = max(moments, key=lambda moment: sum(moments[moment].values()))
    formula = sum(moments[largest].values())
    figures = {"before training": before, "formula": formula, "rest": peak - before - formula, "most resident": peak}
    terms = {**moments[largest], **figures}
    print(text_table([f"MB, {largest}"], {name: [f"{value / 1e6:.1f}"] for name, value in terms.items()}))
    return 0 if formula <= peak and peak - before - formula <= options.rest * 1_000_000 else 1


def resident_peak() -> int:
    """The most bytes that this process has had."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


if __name__ == "__main__":
    sys.exit(main())
