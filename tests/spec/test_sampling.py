"""One epoch of triples: valid, distinct, uniform, and drawn from the given generator alone."""

from __future__ import annotations

import collections
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from support.agreement import same_bits
from support.strategies import draw_pairs, read_only, rngs

from c2f_ref.spec import SpecError, sample_triples


def seen_of(rows: list[list[int]], n_items: int) -> sparse.csr_array:
    """The items of every user as a read-only sparse array."""
    users = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    items = np.array([item for row in rows for item in row], dtype=np.int64)
    return read_only(sparse.csr_array((np.ones(items.size), (users, items)), shape=(len(rows), n_items)))


@st.composite
def seens(draw) -> sparse.csr_array:
    """Users with some items, without any and with all of them, in random order."""
    n_users, n_items = draw(st.permutations(range(2, 9)))[:2]
    rng = draw(rngs())
    users, items = draw_pairs(n_users, n_items, rng)
    rows = [items[users == user].tolist() for user in range(n_users)]
    order = rng.permutation(n_users + 2)
    return seen_of([[*rows, [], list(range(n_items))][user] for user in order], n_items)


def chi_square(counts: collections.Counter, cells: list) -> float:
    """Sum of (count - expected)^2 / expected for equally likely cells, which must be all there are."""
    assert set(counts) <= set(cells)
    expected = counts.total() / len(cells)
    return sum((counts[cell] - expected) ** 2 / expected for cell in cells)


def test_by_hand_where_nothing_is_left_to_chance() -> None:
    """One user with item 1 of three, two negatives a pair: every draw gives (0, 1, 0) and (0, 1, 2)."""
    triples = sample_triples(seen_of([[1]], 3), 4, 2, rng=np.random.default_rng(0))
    assert triples.users.tolist() == [0] * 8
    assert triples.positives.tolist() == [1] * 8
    assert sorted(triples.negatives.tolist()) == [0] * 4 + [2] * 4


@given(seens(), rngs(), st.integers(0, 30), st.integers(0, 6))
def test_every_triple_is_a_user_with_the_positive_and_without_the_negative(seen, rng, n_draws, n_negatives) -> None:
    triples = sample_triples(seen, n_draws, n_negatives, rng=rng)
    has = seen.toarray().astype(bool)
    assert len({array.shape for array in triples}) == 1
    assert all(array.dtype == np.int64 and array.ndim == 1 for array in triples)
    assert triples.users.size <= n_draws * n_negatives
    assert has[triples.users, triples.positives].all()
    assert not has[triples.users, triples.negatives].any()


@given(seens(), rngs(), st.integers(1, 40), st.integers(1, 6))
def test_negatives_of_one_pair_are_distinct_and_as_many_as_asked_for_or_left(seen, rng, n_draws, n_negatives) -> None:
    """A pair drawn c times has c min(n, unseen) triples, in which no negative comes more than c times.

    That covers users with every item, who have none, and D15: users with fewer than n unseen items get them all.
    """
    triples = sample_triples(seen, n_draws, n_negatives, rng=rng)
    unseen = seen.shape[1] - np.diff(seen.indptr)
    by_pair: dict[tuple[int, int], list[int]] = collections.defaultdict(list)
    for user, positive, negative in zip(*(array.tolist() for array in triples), strict=True):
        by_pair[user, positive].append(negative)
    for (user, _), negatives in by_pair.items():
        width = min(n_negatives, unseen[user])
        n_times, rest = divmod(len(negatives), width)
        assert rest == 0
        assert max(collections.Counter(negatives).values()) <= n_times
        if unseen[user] <= n_negatives:
            assert set(collections.Counter(negatives).values()) == {n_times}


def test_users_without_items_are_skipped_and_not_drawn_again() -> None:
    """Half of the users have no item: of 4000 draws about 2000 remain, with a deviation of 32."""
    triples = sample_triples(seen_of([[0], [], [2], []], 3), 4000, 1, rng=np.random.default_rng(1))
    assert set(triples.users.tolist()) == {0, 2}
    assert abs(triples.users.size - 2000) < 4 * 32


def test_a_user_with_every_item_gives_no_triples_and_keeps_nobody_waiting() -> None:
    triples = sample_triples(seen_of([[0, 1, 2], [1]], 3), 1000, 2, rng=np.random.default_rng(1))
    assert set(triples.users.tolist()) == {1}


@pytest.mark.parametrize("n_unseen", range(5))
def test_a_user_with_fewer_than_five_unseen_items_gets_them_all(n_unseen) -> None:
    """D15: the official sampler never ends here."""
    seen = seen_of([list(range(7 - n_unseen))], 7)
    triples = sample_triples(seen, 1, 5, rng=np.random.default_rng(n_unseen))
    assert sorted(triples.negatives.tolist()) == list(range(7 - n_unseen, 7))


def test_users_and_positives_are_drawn_uniformly() -> None:
    """Users equally, then each user's items equally: (0, 1) has 1/3, (1, 0) and (1, 3) 1/6 each, (2, .) 1/12 each of four.

    In units of 1/12: 4, 2, 2, 1, 1, 1, 1. With 6 degrees of freedom chi-square exceeds 22.5 once in a thousand.
    """
    seen = seen_of([[1], [0, 3], [0, 1, 2, 4]], 6)
    triples = sample_triples(seen, 12_000, 1, rng=np.random.default_rng(4))
    shares = {(0, 1): 4, (1, 0): 2, (1, 3): 2, (2, 0): 1, (2, 1): 1, (2, 2): 1, (2, 4): 1}
    counts = collections.Counter(zip(triples.users.tolist(), triples.positives.tolist(), strict=True))
    assert set(counts) == set(shares)
    assert sum((counts[pair] - 1000 * share) ** 2 / (1000 * share) for pair, share in shares.items()) < 22.5


def test_negatives_are_drawn_uniformly_from_the_unseen_items() -> None:
    """Items 0, 2, 3, 5 and 6 are unseen by user 1: 4 degrees of freedom, 18.5 once in a thousand."""
    triples = sample_triples(seen_of([[0, 2, 6], [1, 4]], 7), 20_000, 1, rng=np.random.default_rng(5))
    counts = collections.Counter(triples.negatives[triples.users == 1].tolist())
    assert counts.total() > 9000
    assert chi_square(counts, [0, 2, 3, 5, 6]) < 18.5


def test_sets_of_distinct_negatives_are_drawn_uniformly() -> None:
    """Three of the five unseen items: ten sets, drawn 3000 times; 9 degrees of freedom, 27.9 once in a thousand.

    Drawing with replacement and dropping repeats, or drawing near the last one, would not be uniform over sets.
    """
    seen, rng = seen_of([[1, 4]], 7), np.random.default_rng(6)
    counts = collections.Counter(tuple(sorted(sample_triples(seen, 1, 3, rng=rng).negatives.tolist())) for _ in range(3000))
    assert chi_square(counts, list(itertools.combinations([0, 2, 3, 5, 6], 3))) < 27.9


def test_the_first_of_several_negatives_is_no_different_from_the_last() -> None:
    """Each place of the output is uniform over the unseen items: 3 degrees of freedom, 16.3 once in a thousand."""
    seen, rng = seen_of([[1]], 5), np.random.default_rng(7)
    drawn = [sample_triples(seen, 1, 3, rng=rng).negatives.tolist() for _ in range(3000)]
    for place in range(3):
        assert chi_square(collections.Counter(row[place] for row in drawn), [0, 2, 3, 4]) < 16.3


def test_triples_are_shuffled_as_a_whole() -> None:
    """Unshuffled, the five triples of a pair would stand together: 499 of 500 neighbours in a group alike, here about 1 in 100."""
    seen = seen_of([[user] for user in range(100)], 100)
    triples = sample_triples(seen, 100, 5, rng=np.random.default_rng(8))
    together = (np.diff(triples.users) == 0).mean()
    assert together < 0.1
    assert abs(np.corrcoef(triples.users, np.arange(triples.users.size))[0, 1]) < 0.2


def test_the_generator_determines_the_triples() -> None:
    """Seed 1 twice and seed 2 once."""
    seen = seen_of([[0, 3], [1], [2, 4, 5]], 9)
    once, again, other = (sample_triples(seen, 50, 5, rng=np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert same_bits(once, again)
    assert not any(same_bits(a, b) for a, b in zip(once, other, strict=True))


def test_the_global_generator_is_neither_used_nor_moved() -> None:
    before = np.random.get_state()  # noqa: NPY002
    sample_triples(seen_of([[0], [1]], 9), 100, 5, rng=np.random.default_rng(0))
    after = np.random.get_state()  # noqa: NPY002
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


@given(seens(), rngs())
def test_storage_of_the_pairs_changes_no_draw(seen, rng) -> None:
    """Order within rows, duplicate entries, the type of the indices and the stored values."""
    rows, columns = seen.nonzero()
    again = rng.integers(rows.size, size=rows.size)
    rows, columns = np.concatenate([rows, rows[again]]), np.concatenate([columns, columns[again]])
    order = np.lexsort((rng.permutation(rows.size), rows))
    counts = np.bincount(rows, minlength=seen.shape[0])
    once = sample_triples(seen, 40, 3, rng=np.random.default_rng(1))
    for dtype in (np.int32, np.int64):
        columns_, starts = columns[order].astype(dtype), np.concatenate([[0], np.cumsum(counts)]).astype(dtype)
        stored = read_only(sparse.csr_array((rng.random(rows.size), columns_, starts), shape=seen.shape))
        assert stored.nnz == 2 * seen.nnz
        assert same_bits(sample_triples(stored, 40, 3, rng=np.random.default_rng(1)), once)


def test_negative_counts_are_refused() -> None:
    for n_draws, n_negatives in [(-1, 5), (5, -1)]:
        with pytest.raises(SpecError, match=f"must not be negative, got {n_draws} and {n_negatives}"):
            sample_triples(seen_of([[0]], 2), n_draws, n_negatives, rng=np.random.default_rng(0))
