"""Damage a model file again and again: every mutant is refused with a BundleError, or gives the model that was saved.

    python tests/mutate_bundles.py 1000000 [--seed 0]

A share of the mutants has every hash and every size right, as somebody would make them who wants to be read: those may give another
model, but one that is whole, and otherwise a BundleError. The tests run 20,000.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from c2f_ref.bundle import Model, load_model, save_model
from c2f_ref.container import BundleError

sys.path.append(str(Path(__file__).resolve().parent))
from support.archives import arrays_of, container, npy, shortest, told_of
from support.models import model_of, parts_of
from support.strategies import draw_model

Rng = np.random.Generator


PER_RUN = 25_000
"""Mutants of a model before the next one is drawn."""


def flip_bits(content: bytes, rng: Rng) -> bytes:
    damaged = bytearray(content)
    for place in rng.integers(8 * len(content), size=rng.integers(1, 5)):
        damaged[place // 8] ^= 1 << (place % 8)
    return bytes(damaged)


def change_bytes(content: bytes, rng: Rng) -> bytes:
    damaged, n = bytearray(content), int(rng.integers(1, 9))
    for place in rng.integers(len(content), size=n):
        damaged[place] = rng.integers(256)
    return bytes(damaged)


def overwrite(content: bytes, rng: Rng) -> bytes:
    """A stretch of one byte."""
    first, n = int(rng.integers(len(content))), int(rng.integers(1, 65))
    return content[:first] + bytes([rng.choice([0, 255, 32, 57])]) * n + content[first + n :]


def cut(content: bytes, rng: Rng) -> bytes:
    return content[: rng.integers(len(content))]


def insert(content: bytes, rng: Rng) -> bytes:
    place = int(rng.integers(len(content) + 1))
    return content[:place] + rng.bytes(int(rng.integers(1, 17))) + content[place:]


def remove(content: bytes, rng: Rng) -> bytes:
    place = int(rng.integers(len(content)))
    return content[:place] + content[place + int(rng.integers(1, 17)) :]


def swap(content: bytes, rng: Rng) -> bytes:
    """Two stretches of one length."""
    n = int(rng.integers(1, 129))
    first, second = sorted(rng.integers(len(content) - n, size=2))
    if second < first + n:
        return content
    one, other = content[first : first + n], content[second : second + n]
    return content[:first] + other + content[first + n : second] + one + content[second + n :]


def rezip(content: bytes, rng: Rng) -> bytes:
    """The same members by another writer: compressed or not, in another order, one left out or doubled."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    stream = io.BytesIO()
    choice = rng.integers(4)
    if choice == 0:
        members.pop(int(rng.integers(len(members))))
    elif choice == 1:
        members = [members[i] for i in rng.permutation(len(members))]
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED if choice == 2 else zipfile.ZIP_STORED) as archive:
        for name, member in members:
            archive.writestr(name, member)
    return stream.getvalue()


def resign(content: bytes, rng: Rng) -> bytes:
    """Other arrays, settings or descriptions, and every hash and size made to fit."""
    told, arrays = arrays_of(content)
    name = str(rng.choice(list(arrays)))
    array, choice = arrays[name], rng.integers(6)
    if choice == 0 and array.size:
        raw = np.frombuffer(change_bytes(array.tobytes(), rng), dtype=np.uint8)
        arrays[name] = raw.view(array.dtype).reshape(array.shape)
    elif choice == 1:
        arrays[name] = array[: rng.integers(len(array) + 1)]
    elif choice == 2:
        arrays[name] = array.astype(rng.choice(["<f2", "<f4", "<f8", "<u2", "<i4"])) if array.dtype.kind != "U" else array[::-1]
    elif choice == 3:
        settings = told["header"]["settings"]
        settings[str(rng.choice(list(settings)))] = [0, 1, -1, 10**30, 0.5, float("nan"), None, "1", True, [], 10**400][
            rng.integers(11)
        ]
    elif choice == 4:
        del arrays[name]
    else:
        other = str(rng.choice(list(arrays)))
        arrays[name], arrays[other] = arrays[other], arrays[name]
    made = told_of(told["format"], told["header"], arrays)
    text = shortest(made | {"versions": told["versions"]})
    if rng.integers(4) == 0:
        text = change_bytes(text, rng)
    return container(text, [(name, npy(a.dtype.str, a.shape, a.tobytes())) for name, a in arrays.items()])


DAMAGES: dict[Callable[[bytes, Rng], bytes], float] = {
    flip_bits: 0.3,
    change_bytes: 0.2,
    overwrite: 0.1,
    cut: 0.1,
    insert: 0.08,
    remove: 0.08,
    swap: 0.1,
    rezip: 0.01,
    resign: 0.03,
}
"""Ways to damage a file, and how often each is chosen."""


def run(path: Path, model: Model, n_mutants: int, *, rng: Rng) -> Counter[str]:
    """What became of so many mutants, by the way they were made. Raises what no mutant may raise, and leaves that one at `path`."""
    save_model(path, model)
    content, original = path.read_bytes(), parts_of(load_model(path))
    outcomes: Counter[str] = Counter()
    ways, shares = list(DAMAGES), list(DAMAGES.values())
    with path.open("r+b", buffering=0) as file:
        for way in rng.choice(len(ways), size=n_mutants, p=shares):
            damage = ways[way]
            mutant = damage(content, rng)
            file.seek(0)
            file.write(mutant)
            file.truncate()
            try:
                loaded = load_model(path)
            except BundleError as error:
                outcome = "refused" if path.name in str(error) else "refused without the name of the file"
            else:
                outcome = "unchanged" if mutant == content else "loaded"
                if damage is resign:
                    Model(**vars(loaded))
                else:
                    assert parts_of(loaded) == original
            outcomes[f"{damage.__name__}: {outcome}"] += 1
    return outcomes


def models(rng: Rng) -> list[Model]:
    """Four small models: with a compressed fine table, the same in float16, a dense one, and the coarse stage alone."""
    drawn = draw_model((5, 7, 4, 3, 6, 8), rng)
    sparse, dense = np.where(np.arange(18).reshape(3, 6) % 3, 0.0, 2.0), np.full((3, 6), -3.0)
    return [
        replace(model_of(drawn), fine=sparse),
        replace(model_of(drawn, "unsigned", dtype=np.float32), fine=sparse).with_tables(np.float16),
        replace(model_of(drawn, dtype=np.float32), fine=dense),
        model_of(drawn, "int", has_fine=False),
    ]


def main() -> None:
    """Run the number of mutants that is asked for, and print what became of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("n_mutants", type=int)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng, outcomes, began = np.random.default_rng(options.seed), Counter[str](), time.perf_counter()
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        while outcomes.total() < options.n_mutants:
            for model in models(rng):
                n_mutants = min(PER_RUN, options.n_mutants - outcomes.total())
                outcomes += run(Path(folder) / "model.npz", model, n_mutants, rng=rng)
                print(f"{outcomes.total():,} mutants, {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    print(json.dumps(dict(sorted(outcomes.items())), indent=1))
    seconds = time.perf_counter() - began
    print(f"{outcomes.total():,} mutants in {seconds:.0f} s: no error but BundleError, no other model without hashes that fit")


if __name__ == "__main__":
    main()
