"""The compiled sampler against the method's: the same triples and use of the generator."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from support.agreement import same_bits
from support.calls import arrays_of
from support.strategies import read_only, rngs

from c2f_ref import method
from c2f_ref.fast import rest, sample_triples
from c2f_ref.method import MethodError, Triples

pytestmark = pytest.mark.usefixtures("one_thread")


class Recorder:
    """A generator that notes what it is asked for."""

    def __init__(self, seed: int) -> None:
        self.generator = np.random.default_rng(seed)
        self.calls: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            self.calls.append((name, tuple(np.int64(argument) for argument in arguments), options))
            return getattr(self.generator, name)(*arguments, **options)

        return call


def assert_same(seen: sparse.csr_array, n_draws: int, n_negatives: int, seed: int) -> Triples:
    """Both samplers give the same triples, call the generator alike, and leave it in one state."""
    used, expected_use = Recorder(seed), Recorder(seed)
    triples = sample_triples(seen, n_draws, n_negatives, rng=used)
    assert same_bits(triples, method.sample_triples(seen, n_draws, n_negatives, rng=expected_use))
    assert all(part.dtype == np.int64 for part in triples)
    assert same_bits(tuple(used.calls), tuple(expected_use.calls))
    assert len(used.calls) == 3 + n_negatives
    assert used.generator.bit_generator.state == expected_use.generator.bit_generator.state
    return triples


def seen_of(
    rows: list[Any], n_items: int, values: Any = 1.0, index_type: Any = np.int32
) -> sparse.csr_array:
    """The items of every user, stored in the order given, as a read-only sparse array."""
    items = np.concatenate([np.zeros(0), *rows]).astype(index_type)
    indptr = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(index_type)
    entries = np.resize(values, items.size), items, indptr
    return read_only(sparse.csr_array(entries, shape=(len(rows), n_items)))


@st.composite
def seens(draw: Any) -> sparse.csr_array:
    """Up to 7 users and 9 items; users without items, with some, with all but a few and with all.

    Half of the matrices have their rows in random order, pairs stored several times and values of
    0. Indices have 32 or 64 bits.
    """
    index_type = draw(st.sampled_from([np.int32, np.int64]))
    n_users, n_items, rng = draw(st.integers(0, 7)), draw(st.integers(0, 9)), draw(rngs())
    n_unseen = rng.choice([0, 1, 2, 4, n_items // 2, n_items], n_users)
    rows = [np.sort(rng.permutation(n_items)[n:]) for n in n_unseen]
    if draw(st.booleans()):
        return seen_of(rows, n_items, 1.0, index_type)
    rows = [rng.permutation(np.concatenate([row, row[: rng.integers(4)]])) for row in rows]
    return seen_of(rows, n_items, [0.0, 1.0, -2.5], index_type)


def features(seen: sparse.csr_array) -> set[str]:
    """What is out of the ordinary in a matrix."""
    (n_users, n_items), bits = seen.shape, seen.indices.dtype.itemsize * 8
    rows = [row.tolist() for row in np.split(seen.indices, seen.indptr[1:-1])][:n_users]
    n_unseen = {n_items - len(set(row)) for row in rows}
    names = {
        "no users": not rows,
        "no items": n_items == 0,
        "a user without items": n_items in n_unseen,
        "a user with every item": n_items > 0 and 0 in n_unseen,
        "a user with all but a few": n_items > 4 and bool(n_unseen & {1, 2}),
        "a pair twice": any(len(set(row)) < len(row) for row in rows),
        "a row out of order": any(sorted(row) != row for row in rows),
        "a stored zero": 0 in seen.data,
        f"indices of {bits} bits": True,
        "nothing of the kind": seen.nnz > 0 and bool(seen.has_canonical_format),
    }
    return {name for name, present in names.items() if present}


def test_the_drawn_matrices_are_of_every_kind() -> None:
    found: set[str] = set()

    @settings(max_examples=100, derandomize=True, deadline=None, database=None)
    @given(seens())
    def collect(seen: sparse.csr_array) -> None:
        found.update(features(seen))

    collect()
    assert len(found) == 11, found


def test_by_hand_where_nothing_is_left_to_chance() -> None:
    """One user with items 1 and 2 of five, three negatives: every draw gives 0, 3 and 4 once."""
    triples = assert_same(seen_of([[1, 2]], 5), 4, 3, seed=0)
    assert sorted(triples.negatives.tolist()) == [0] * 4 + [3] * 4 + [4] * 4


@given(seens(), st.integers(0, 30), st.integers(0, 12), st.integers(0, 2**32 - 1))
def test_triples_and_use_of_the_generator_are_those_of_the_method(
    seen: sparse.csr_array, n_draws: int, n_negatives: int, seed: int
) -> None:
    """Negatives from none to more than there are items."""
    assert_same(seen, n_draws, n_negatives, seed)


@settings(max_examples=10)
@given(st.integers(0, 2**32 - 1))
def test_long_rows_and_many_negatives_give_the_same(seed: int) -> None:
    """Rows of 0 to 199 items, which are counted many at a time, and up to 40 distinct negatives."""
    rng = np.random.default_rng(seed)
    rows = [rng.permutation(199)[: rng.integers(200)] for _ in range(11)]
    assert_same(seen_of(rows, 199), 20, int(rng.integers(41)), seed)


def test_items_that_need_64_bits_are_not_cut_to_32() -> None:
    """Items at the ends of 2^40: hardly a negative is below 2^32."""
    seen = seen_of([[0, 2**40 - 1], [2**39]], 2**40, 1.0, np.int64)
    triples = sample_triples(seen, 50, 3, rng=np.random.default_rng(1))
    assert set(triples.positives.tolist()) == {0, 2**39, 2**40 - 1}
    assert (triples.negatives > 2**32).mean() > 0.9
    assert np.unique(triples.negatives).size == 150
    assert 0 <= triples.negatives.min() <= triples.negatives.max() < 2**40


def test_the_matrix_of_the_caller_stays_as_it_is_and_shares_no_memory_with_the_triples() -> None:
    """Duplicates out of order, writeable: sorted in place, the bytes would change."""
    seen = seen_of([[3, 0, 3], [], [2, 1]], 5, [0.5, 2.0]).copy()
    before = [array.tobytes() for array in arrays_of(seen)]
    triples = sample_triples(seen, 9, 2, rng=np.random.default_rng(0))
    assert all(array.flags.writeable for array in arrays_of(seen))
    assert [array.tobytes() for array in arrays_of(seen)] == before
    assert not any(np.shares_memory(part, array) for part in triples for array in arrays_of(seen))
    assert not any(np.shares_memory(*pair) for pair in (triples[:2], triples[1:], triples[::2]))


def test_negative_counts_are_refused_before_the_generator_is_asked() -> None:
    used = Recorder(0)
    for counts in ((-1, 5), (5, -1)):
        with pytest.raises(MethodError, match=r"got n_draws=\S+ and n_negatives=\S+"):
            sample_triples(seen_of([[0]], 2), *counts, rng=used)
    assert used.calls == []


def test_memory_is_at_most_31_bytes_a_triple_and_what_the_pairs_take() -> None:
    """24 bytes for the result, which holds the order too, 4 for the negatives before it, and 4 + 4
    for each draw, which is 5 triples here.

    That is 29.6; the pairs are few. Objects and temporary arrays take the rest.
    """
    seen = seen_of([[0], [1, 2], [5, 7, 8]], 40)
    sample_triples(seen, 4, 5, rng=np.random.default_rng(0))  # compiles
    tracemalloc.start()
    try:
        triples = sample_triples(seen, 4000, 5, rng=np.random.default_rng(0))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert triples.users.size == 20_000
    assert 24 * 20_000 < peak <= 31 * 20_000


def test_a_wrong_search_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranks left as they are, and triples left unshuffled."""
    seen, put = seen_of([[0, 2], [1]], 9), rest.put_triples
    assert_same(seen, 20, 3, seed=4)

    def unshuffled(u: Any, p: Any, n: Any, width: int, order: Any, *out: Any) -> None:
        put(u, p, n, width, np.sort(order), *out)

    for name, wrong in (("ranks_to_items", lambda *_: None), ("put_triples", unshuffled)):
        with monkeypatch.context() as patch:
            patch.setattr(rest, name, wrong)
            with pytest.raises(AssertionError):
                assert_same(seen, 20, 3, seed=4)
