"""From a file of pairs to recommendations: read, train, evaluate, recommend, save and load.

    python examples/03_train_your_data.py [PAIRS] [--out MODEL] [--user ID] [--set name=value]...

PAIRS is a file of user and item, one pair a line, as `c2f-ref train` takes it. Without one, a CSV
of planted pairs is written first and then read like yours. As commands this is `c2f-ref train`,
`evaluate` and `recommend`.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from c2f_ref import C2FRecommender, planted, read_interactions, split_ratio


def main() -> None:
    """Every step of a small project."""
    form, out = argparse.RawDescriptionHelpFormatter, Path("c2f-examples/model.npz")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("pairs", type=Path, nargs="?", metavar="PAIRS")
    parser.add_argument("--out", type=Path, default=out, metavar="MODEL")
    parser.add_argument("--user", metavar="ID")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    options = parser.parse_args()
    if options.pairs and options.pairs.is_dir():
        parser.error("PAIRS must be one file; `c2f-ref train` takes a folder with two files")

    # 1. Read. Ids can be numbers or text and come back as they were; a malformed line is an error
    # that names it.
    pairs = read_interactions(
        options.pairs or write_planted(Path(tempfile.mkdtemp()) / "pairs.csv")
    )
    print(f"1. {pairs.describe()}")

    # 2. Keep a fifth of each user's pairs for the test. The hash at the end says whether two runs
    # were measured on the same pairs.
    split = split_ratio(pairs, valid=0.0, test=0.2, seed=0)
    print(f"2. {split.describe()}")

    # 3. Train. A tenth of each user's pairs chooses the model. Few entities need few rows: a coarse
    # row for every 50 entities is a start, half as many fine ones another. Compiled kernels pay
    # where training takes longer than compiling.
    n_coarse = int(np.clip(pairs.n_entities // 50, 2, 300))
    sizes: dict[str, Any] = {"n_coarse": n_coarse, "n_fine": max(n_coarse // 2, 4)}
    if not options.pairs:
        sizes |= {"dim": 32, "n_layers": 2, "recipe": "demo", "implementation": "method"}
    for override in options.set:
        name, _, text = override.partition("=")
        sizes[name] = text
        with suppress(ValueError):
            sizes[name] = json.loads(text)
    model = C2FRecommender(random_state=0, verbose=1, **sizes).fit(split.train)
    rows = f"{model.n_coarse} coarse and {model.n_fine} fine rows"
    print(f"3. {rows}, validation NDCG {model.validation_ndcg_:.4f}")

    # 4. Evaluate on the test pairs, once.
    for name, value in model.evaluate(split.test, 10).items():
        print(f"4. {name} {value:.4f}")

    # 5. Save, load, recommend: the file is a plain .npz without pickle, written completely or not
    # at all.
    options.out.parent.mkdir(parents=True, exist_ok=True)
    model.save(options.out)
    user = options.user or pairs.user_ids[0]
    print(f"5. {options.out}, {options.out.stat().st_size:,} bytes")
    print(f"   the first items that are new to user {user}:")
    items, scores = C2FRecommender.load(options.out).recommend(user, 5)
    for item, score in zip(items.tolist(), scores.tolist(), strict=True):
        if score > -np.inf:
            print(f"   {item}  {score:.3f}")


def write_planted(path: Path) -> Path:
    """A file such as yours: a header, then a pair a line."""
    pairs = planted(rng=np.random.default_rng(0))
    ids = zip(pairs.user_ids[pairs.users], pairs.item_ids[pairs.items], strict=True)
    lines = (f"{user},{item}\n" for user, item in ids)
    path.write_text("user,item\n" + "".join(lines), encoding="utf-8")
    return path


if __name__ == "__main__":
    main()
