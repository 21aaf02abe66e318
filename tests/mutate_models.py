"""Damage stored files: each mutant is refused with a StoreError, or gives exactly what was saved.

    python tests/mutate_models.py 1000000 [--seed 0]

The files hold models, a checkpoint and a split. Some mutants have all hashes and sizes right, as
an attacker would make them: those may give other content, but nothing that breaks the rules of a
model, and no error but StoreError. The tests run 6,000.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import sys
import time
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np

from c2f_ref.model import Model, load_model, save_model
from c2f_ref.store import StoreError, read_store, write_store

sys.path.append(str(Path(__file__).resolve().parent))
from support.models import model_of, parts_of
from support.strategies import draw_model

Rng = np.random.Generator
PER_RUN = 20_000
"""Mutants of one file before the next one is drawn."""


# Archives from any parts, right or wrong


def npy(descr: Any, shape: Any, content: bytes, *, is_fortran: bool = False) -> bytes:
    """A `.npy` file, version 1.0, whether description and content fit together or not."""
    text = f"{{'descr': {descr!r}, 'fortran_order': {is_fortran}, 'shape': {shape!r}, }}"
    text = text.ljust((10 + len(text) + 1 + 63) // 64 * 64 - 11) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode() + content


def npy_of(array: Any) -> bytes:
    """The `.npy` file of an array."""
    return npy(array.dtype.str, array.shape, array.tobytes())


def archive(members: Iterable[tuple[str, bytes]], compression: int = zipfile.ZIP_STORED) -> bytes:
    """A ZIP archive of these members, in this order; names may come twice."""
    stream = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(stream, "w") as made:
        warnings.simplefilter("ignore")  # of names that come twice
        for name, content in members:
            info = zipfile.ZipInfo(name)
            info.compress_type = compression
            made.writestr(info, content)
    return stream.getvalue()


def described(kind: str, header: Any, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON of a store."""
    entries = {
        name: {
            "shape": list(array.shape),
            "dtype": array.dtype.str,
            "sha256": hashlib.sha256(array.tobytes()).hexdigest(),
        }
        for name, array in arrays.items()
    }
    return {"format": kind, "header": header, "versions": {}, "arrays": entries}


def signed(whole: Any, arrays: Mapping[str, Any]) -> bytes:
    """A store with this JSON (bytes stay as they are), its hash, and arrays or raw `.npy` files."""
    text = whole if isinstance(whole, bytes) else json.dumps(whole).encode()
    parts = [np.frombuffer(part, np.uint8) for part in (text, hashlib.sha256(text).digest())]
    members = {"header": parts[0], "header_sha256": parts[1], **arrays}
    return archive(
        (f"{name}.npy", part if isinstance(part, bytes) else npy_of(part))
        for name, part in members.items()
    )


# Ways to damage a file


def flip_bits(content: bytes, rng: Rng) -> bytes:
    damaged = bytearray(content)
    for place in rng.integers(8 * len(content), size=rng.integers(1, 5)):
        damaged[place // 8] ^= 1 << (place % 8)
    return bytes(damaged)


def change_bytes(content: bytes, rng: Rng) -> bytes:
    damaged = bytearray(content)
    for place in rng.integers(len(content), size=rng.integers(1, 9)):
        damaged[place] = rng.integers(256)
    return bytes(damaged)


def damage_directory(content: bytes, rng: Rng) -> bytes:
    """Bytes of the directory of the archive alone, where sizes and places stand."""
    start = content.index(b"PK\1\2")
    return content[:start] + change_bytes(content[start:], rng)


def cut(content: bytes, rng: Rng) -> bytes:
    return content[: rng.integers(len(content))]


def splice(content: bytes, rng: Rng) -> bytes:
    """A stretch removed, another put there, or both; of one byte or of many."""
    place, (n_old, n_new) = int(rng.integers(len(content))), rng.integers(33, size=2)
    new = rng.bytes(n_new) if rng.integers(2) else bytes([rng.choice([0, 255, 32, 57])]) * n_new
    kept = content[place + (n_old if rng.integers(3) else n_new) :]
    return content[:place] + new + kept


def swap(content: bytes, rng: Rng) -> bytes:
    """Two stretches of one length."""
    n = int(rng.integers(1, 129))
    first, second = sorted(rng.integers(len(content) - n, size=2))
    if second < first + n:
        return content
    one, other = content[first : first + n], content[second : second + n]
    return content[:first] + other + content[first + n : second] + one + content[second + n :]


def rezip(content: bytes, rng: Rng) -> bytes:
    """The same members in another archive: one left out, doubled or exchanged, compressed,
    moved.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as opened:
        members = [(name, opened.read(name)) for name in opened.namelist()]
    choice, place = rng.integers(5), int(rng.integers(len(members)))
    if choice == 0:
        members.pop(place)
    elif choice == 1:
        members = [members[i] for i in rng.permutation(len(members))]
    elif choice == 2:
        members.insert(place, members[int(rng.integers(len(members)))])
    elif choice == 3:
        members[place] = members[place][0], members[int(rng.integers(len(members)))][1]
    return archive(members, zipfile.ZIP_DEFLATED if choice == 4 else zipfile.ZIP_STORED)


STRANGE = (0, 1, -1, 2**40, 10**30, 0.5, float("nan"), None, "1", "\ud800", True, [], {}, 10**400)


def resign(content: bytes, rng: Rng) -> bytes:
    """Other arrays, settings, shapes or JSON, and all hashes made to fit."""
    with np.load(io.BytesIO(content)) as members:
        arrays: dict[str, Any] = {name: members[name] for name in members.files}
    whole = json.loads(arrays.pop("header").tobytes())
    del arrays["header_sha256"]
    header, (name, other) = whole["header"], rng.choice(list(arrays), size=2)
    array, choice = arrays[name], rng.integers(9)
    if choice == 0 and array.size:
        raw = np.frombuffer(change_bytes(array.tobytes(), rng), dtype=np.uint8)
        arrays[name] = raw.view(array.dtype).reshape(array.shape)
    elif choice == 1 and array.ndim:
        arrays[name] = array[: rng.integers(len(array) + 1)]
    elif choice == 2:
        with np.errstate(all="ignore"):
            arrays[name] = array.astype(rng.choice(["<f2", "<f4", "<f8", "<u2", "<i4", "|u1"]))
    elif choice == 3:
        part = header.get("settings", header)
        part[str(rng.choice(list(part)))] = STRANGE[rng.integers(len(STRANGE))]
    elif choice == 4:
        del arrays[name]
    elif choice == 5:
        arrays[name], arrays[other] = arrays[other], arrays[name]
    made = described(whole["format"], header, arrays)
    if choice == 6:
        entry = made["arrays"][name]
        shape = [STRANGE[i] for i in rng.integers(len(STRANGE), size=rng.integers(4))]
        entry[rng.choice(["shape", "dtype", "sha256"])] = shape
        if rng.integers(2):
            arrays[name] = npy(entry["dtype"], tuple(shape), array.tobytes())
    text = json.dumps(made).encode()
    if choice == 7:
        text = change_bytes(text, rng)
    elif choice == 8:
        depth = int(rng.choice([10, 10**3, 10**5]))
        text = text.replace(b'"header": ', b'"header": ' + b"[" * depth, 1)
    return signed(text, arrays)


DAMAGES: dict[Callable[[bytes, Rng], bytes], float] = {
    flip_bits: 0.25,
    change_bytes: 0.15,
    damage_directory: 0.1,
    cut: 0.1,
    splice: 0.26,
    swap: 0.08,
    rezip: 0.02,
    resign: 0.04,
}
"""Ways to damage a file, and how often each is chosen."""


# Files


class Payload(NamedTuple):
    """What a file holds: how it is written, and what reading it gives, as types and bytes."""

    write: Callable[[Path], None]
    read: Callable[[Path], Any]


def of_model(model: Model) -> Payload:
    """A model; whatever loads must be a model again by its own rules."""

    def read(path: Path) -> Any:
        loaded = load_model(path)
        return parts_of(Model(loaded.settings, loaded.arrays, loaded.provenance))

    return Payload(lambda path: save_model(path, model), read)


def of_arrays(kind: str, header: Any, arrays: dict[str, Any]) -> Payload:
    """A store of any kind."""

    def read(path: Path) -> Any:
        found, parts = read_store(path, kind)
        return repr(found), {name: (a.dtype, a.shape, a.tobytes()) for name, a in parts.items()}

    return Payload(lambda path: write_store(path, kind, header, arrays), read)


def payloads(rng: Rng) -> list[Payload]:
    """Models with a compressed, a half-precision and a dense fine table and without; other
    stores.
    """
    drawn = draw_model((5, 7, 4, 3, 6, 8), rng)
    sparse, dense = np.where(np.arange(18).reshape(3, 6) % 3, 0.0, 2.0), np.full((3, 6), -3.0)
    models = [
        model_of(drawn._replace(fine=sparse)),
        model_of(drawn._replace(fine=sparse), "unsigned", dtype=np.float32, table_dtype=np.float16),
        model_of(drawn._replace(fine=dense), dtype=np.float32),
        model_of(drawn, "int", has_fine=False),
    ]
    tables = {"table 0": rng.normal(size=(4, 6)), "best.data": rng.normal(size=9), "n": np.array(3)}
    state = {"rng": {"state": 2**100 + 1}, "evaluations": [{"ndcg": 0.1, "epoch": 5}], "run": {}}
    split = {name: rng.integers(9, size=20, dtype=np.int32) for name in ("valid_user", "test_item")}
    return [
        *map(of_model, models),
        of_arrays("checkpoint", state, tables),
        of_arrays("split", {"how": "ratio"}, split),
    ]


def run(path: Path, payload: Payload, n_mutants: int, *, rng: Rng) -> Counter[str]:
    """What became of the mutants, by the way they were made; a wrong one stays at `path`.

    Raises whatever reading raises besides StoreError, and AssertionError for other content.
    """
    payload.write(path)
    content, original, outcomes = path.read_bytes(), payload.read(path), Counter[str]()
    ways, shares = list(DAMAGES), list(DAMAGES.values())
    with path.open("r+b", buffering=0) as file:
        for way in rng.choice(len(ways), size=n_mutants, p=shares):
            damage = ways[way]
            mutant = damage(content, rng)
            file.seek(0)
            file.write(mutant)
            file.truncate()
            try:
                found = payload.read(path)
            except StoreError as error:
                outcome = "refused" if path.name in str(error) else f"refused without name: {error}"
            else:
                assert damage is resign or found == original
                outcome = "unchanged" if found == original else "other content"
            outcomes[f"{damage.__name__}: {outcome}"] += 1
    return outcomes


def main() -> None:
    """Run the given number of mutants, and print what became of them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("n_mutants", type=int)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng, outcomes, began = np.random.default_rng(options.seed), Counter[str](), time.perf_counter()
    memory = Path("/dev/shm")
    left: list[Payload] = []
    with TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        while outcomes.total() < options.n_mutants:
            left = left or payloads(rng)
            n_mutants = min(PER_RUN, options.n_mutants - outcomes.total())
            outcomes += run(Path(folder) / "file.npz", left.pop(), n_mutants, rng=rng)
            seconds = time.perf_counter() - began
            print(f"{outcomes.total():,} mutants, {seconds:.0f} s", file=sys.stderr, flush=True)
    print(json.dumps(dict(sorted(outcomes.items())), indent=1))
    seconds = time.perf_counter() - began
    print(f"{outcomes.total():,} mutants in {seconds:.0f} s: no error but StoreError, no other")
    print("content without hashes that fit")


if __name__ == "__main__":
    main()
