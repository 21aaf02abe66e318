"""Reading a file of known answers: what is in it, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from c2f_ref.conformance import VectorError, read_vectors
from c2f_ref.conformance.vectors import FORMS

NAMES = [f"dev_0{n}.npz" for n in range(10)]
Rewrite = Callable[..., Path]


@pytest.fixture
def rewrite(official_vectors: Path, tmp_path: Path) -> Rewrite:
    """Copy dev_06, a file with positions, with some arrays replaced; None leaves one out."""

    def write(**changes: Any) -> Path:
        stored = dict(np.load(official_vectors / "dev_06.npz")) | changes
        path = tmp_path / "changed.npz"
        np.savez(path, **{key: array for key, array in stored.items() if array is not None})
        return path

    return write


@pytest.mark.parametrize("name", NAMES)
def test_every_array_of_a_file_has_a_form(official_vectors: Path, name: str) -> None:
    parts = {key: ("row", "col", "val", "shape") if form.startswith("sparse") else ("",) for key, form in FORMS.items()}
    names = {f"{key}.{part}".rstrip(".") for key, own in parts.items() for part in own} | {"config"}
    keys = set(np.load(official_vectors / name).files)
    assert keys <= names
    assert names - keys <= {"fine_init.positions"}


def test_arrays_come_as_they_are_stored(official_vectors: Path) -> None:
    stored, vectors = np.load(official_vectors / "dev_06.npz"), read_vectors(official_vectors / "dev_06.npz")
    dense = np.zeros(stored["norm_adjacency.shape"])
    for row, col, val in zip(*(stored[f"norm_adjacency.{part}"] for part in ("row", "col", "val")), strict=True):
        dense[row, col] = val
    np.testing.assert_array_equal(vectors.array("norm_adjacency"), dense)
    np.testing.assert_array_equal(vectors.array("coarse.ego"), stored["coarse.ego"])
    np.testing.assert_array_equal(vectors.start("fine")["triples"].negatives, stored["triples"][:, 2])
    np.testing.assert_array_equal(vectors.start("fine")["bias"], stored["fine.in.linear_weight"][:, 0])
    assert (vectors.n_users, vectors.n_items, vectors.seed) == (38, 33, 714955)
    assert (vectors.settings.n_fine, vectors.settings.bridge_weight, vectors.settings.threshold) == (5, 0.1, 0.1)


def test_arrays_are_read_only(official_vectors: Path) -> None:
    vectors = read_vectors(official_vectors / "dev_06.npz")
    graph = vectors.arrays["norm_adjacency"]
    for array in (vectors.array("coarse.ego"), vectors.start("fine")["bias"], graph.data, graph.indices, graph.indptr):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


def test_a_file_without_positions_has_all_columns(official_vectors: Path) -> None:
    positions = read_vectors(official_vectors / "dev_05.npz").array("fine_init.positions")
    assert positions.tolist() == [list(range(11))] * 8


def _swap(array: Any, index: Any, value: Any) -> Any:
    array = array.copy()
    array[index] = value
    return array


@pytest.mark.parametrize(
    ("key", "change", "message"),
    [
        ("coarse.ego", lambda a: None, "coarse.ego: missing"),
        ("fine.next_fine_assignment.col", lambda a: None, "fine.next_fine_assignment.col: missing"),
        ("fine_init.positions", lambda a: None, "fine_init.positions: missing"),
        ("surprise", lambda a: np.zeros(3), "surprise: unknown"),
        ("coarse.ego.val", lambda a: np.zeros(3), "coarse.ego.val: unknown"),
        ("coarse.ego", lambda a: a[:, 1:], r"coarse.ego \(N, D\) must have shape \(71, 15\), got \(71, 14\)"),
        ("coarse.ego", lambda a: a[None], r"coarse.ego \(N, D\) must have shape \(71, 15\), got \(1, 71, 15\)"),
        ("coarse.loss", lambda a: a[None], r"coarse.loss \(\) must have shape \(\), got \(1,\)"),
        ("eval.ndcg", lambda a: a[:-1], r"eval.ndcg \(K\) must have shape \(4,\), got \(3,\)"),
        ("eval.scores", lambda a: a.T, r"eval.scores \(U, I\) must have shape \(38, 33\), got \(33, 38\)"),
        ("triples", lambda a: a[:, 1:], r"triples \(B, 3\) must have shape \(24, 3\), got \(24, 2\)"),
        ("triples", lambda a: a[0], r"triples \(B, 3\) must have shape \(-1, 3\), got \(3,\)"),
        ("interactions.item", lambda a: a[1:], r"interactions.item \(P\) must have shape \(\d+,\), got"),
        ("coarse.ego", lambda a: a.astype(np.float32), "coarse.ego: must be of kind float, got float32"),
        ("coarse.ego", lambda a: _swap(a, (3, 4), np.nan), r"coarse.ego must be finite, got nan at \(3, 4\)"),
        ("triples", lambda a: a * 1.0, "triples: must be of kind int, got float64"),
        ("norm_adjacency.row", lambda a: a * 1.01, "norm_adjacency.row: must be of kind int, got float64"),
        ("norm_adjacency.row", lambda a: _swap(a, 5, 71), r"norm_adjacency.row must be in \[0, 71\), got 0 to 71"),
        ("norm_adjacency.col", lambda a: _swap(a, 5, -1), r"norm_adjacency.col must be in \[0, 71\), got -1 to"),
        ("norm_adjacency.col", lambda a: _swap(a, 1, a[0]), "norm_adjacency: 1 entries are stored twice"),
        ("norm_adjacency.val", lambda a: a[1:], r"norm_adjacency.val \(E\) must have shape \(\d+,\), got"),
        ("norm_adjacency.shape", lambda a: a + 1, r"norm_adjacency.shape: must be \[71, 71\], got \[72, 72\]"),
        ("coarse.fine_out", lambda a: _swap(a, (1, 2), 1e-9), "coarse.fine_out: must hold zeros"),
        ("fine_init.coarse_meta", lambda a: -a, "coarse.traj.coarse_meta, fine_init.coarse_meta: must hold the same"),
        ("coarse.ego", lambda a: a.astype(object), "not a readable .npz file"),
        ("config", lambda a: None, "config: missing"),
        ("config", lambda a: "no JSON", "config: Expecting value"),
        ("config", lambda a: "[]", "config: list indices"),
        ("config", lambda a: str(a).replace("gate", "door"), "config: no value for 'gate'"),
        ("config", lambda a: str(a).replace('"dim": 15', '"dim": 0'), r"config: dim must be in \[1, inf\], got 0"),
        ("config", lambda a: str(a).replace('"n_users": 38', '"n_users": 38.5'), "config: 'float' object"),
        ("config", lambda a: json.dumps(json.loads(str(a)) | {"n_users": 37}), "eval.scores .* must have shape"),
    ],
)
def test_a_file_that_is_not_as_it_should_be_is_refused_by_name(
    official_vectors: Path, rewrite: Rewrite, key: str, change: Callable[[Any], Any], message: str
) -> None:
    path = rewrite(**{key: change(dict(np.load(official_vectors / "dev_06.npz")).get(key))})
    with pytest.raises(VectorError, match=message) as caught:
        read_vectors(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"user,item\n1,2\n", b"PK\x03\x04 and no more"])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.npz"
    path.write_bytes(content)
    with pytest.raises(VectorError, match=r"other\.npz: not a readable \.npz file"):
        read_vectors(path)
    with pytest.raises(VectorError, match=r"absent\.npz: not a readable \.npz file"):
        read_vectors(tmp_path / "absent.npz")


def test_a_damaged_byte_is_refused_or_changes_nothing(official_vectors: Path, tmp_path: Path) -> None:
    """Of 150 damaged copies most must be refused; a byte that no reader looks at (a date, say) may pass."""
    rng = np.random.default_rng(5)
    original, content = read_vectors(official_vectors / "dev_01.npz"), (official_vectors / "dev_01.npz").read_bytes()
    n_refused, path = 0, tmp_path / "damaged.npz"
    for place in rng.integers(len(content), size=150).tolist():
        path.write_bytes(content[:place] + bytes([content[place] ^ int(rng.integers(1, 256))]) + content[place + 1 :])
        try:
            damaged = read_vectors(path)
        except VectorError:
            n_refused += 1
            continue
        for key in original.arrays:
            np.testing.assert_array_equal(damaged.array(key), original.array(key))
    assert n_refused > 75


@pytest.mark.parametrize("share", [0.2, 0.9, 0.999])
def test_a_file_cut_short_is_refused(official_vectors: Path, tmp_path: Path, share: float) -> None:
    content = (official_vectors / "dev_01.npz").read_bytes()
    path = tmp_path / "short.npz"
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(VectorError, match=r"short\.npz"):
        read_vectors(path)
