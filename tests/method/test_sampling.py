"""One epoch of triples: valid, distinct, uniform, and drawn from the given generator alone."""

from __future__ import annotations

import collections
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from support.agreement import chi_square, same_bits
from support.strategies import draw_pairs, items_of, read_only, rngs

from c2f_ref.method import MethodError, Triples, sample_triples


def sample(rows: list[list[int]], n_items: int, *numbers: int, seed: int) -> Triples:
    return sample_triples(items_of(rows, n_items), *numbers, rng=np.random.default_rng(seed))


@st.composite
def seens(draw) -> sparse.csr_array:
    """Users with some items, without any and with all of them, in random order."""
    n_users, n_items = draw(st.permutations(range(2, 9)))[:2]
    rng = draw(rngs())
    users, items = draw_pairs(n_users, n_items, rng)
    rows = [items[users == user].tolist() for user in range(n_users)]
    order = rng.permutation(n_users + 2)
    return items_of([[*rows, [], list(range(n_items))][user] for user in order], n_items)


def test_by_hand_where_nothing_is_left_to_chance() -> None:
    """One user with item 1 of three, two negatives a pair: all draws give (0, 1, 0), (0, 1, 2)."""
    triples = sample([[1]], 3, 4, 2, seed=0)
    assert triples.users.tolist() == [0] * 8
    assert triples.positives.tolist() == [1] * 8
    assert sorted(triples.negatives.tolist()) == [0] * 4 + [2] * 4


@given(seens(), rngs(), st.integers(0, 40), st.integers(0, 6))
def test_triples_are_valid_distinct_and_as_many_as_asked_for_or_left(
    seen, rng, n_draws, n_negatives
) -> None:
    """A pair drawn c times has c min(n, unseen) triples, no negative more than c times (D15)."""
    triples = sample_triples(seen, n_draws, n_negatives, rng=rng)
    has, unseen = seen.toarray().astype(bool), seen.shape[1] - np.diff(seen.indptr)
    assert len({array.shape for array in triples}) == 1
    assert all(array.dtype == np.int64 and array.ndim == 1 for array in triples)
    assert triples.users.size <= n_draws * n_negatives
    assert has[triples.users, triples.positives].all()
    assert not has[triples.users, triples.negatives].any()
    by_pair: dict[tuple[int, int], list[int]] = collections.defaultdict(list)
    for user, positive, negative in zip(*(array.tolist() for array in triples), strict=True):
        by_pair[user, positive].append(negative)
    for (user, _), negatives in by_pair.items():
        n_times, rest = divmod(len(negatives), min(n_negatives, unseen[user]))
        assert rest == 0
        assert max(collections.Counter(negatives).values()) <= n_times


def test_users_without_items_or_with_every_item_give_no_triples_and_are_not_drawn_again() -> None:
    """Half of the users have no item: of 4000 draws about 2000 remain, with a deviation of 32."""
    triples = sample([[0], [], [2], []], 3, 4000, 1, seed=1)
    assert set(triples.users.tolist()) == {0, 2}
    assert abs(triples.users.size - 2000) < 4 * 32
    assert set(sample([[0, 1, 2], [1]], 3, 1000, 2, seed=1).users.tolist()) == {1}


def test_a_user_with_fewer_than_five_unseen_items_gets_them_all() -> None:
    """D15: the official sampler never ends here."""
    for n_seen in range(3, 8):
        triples = sample([list(range(n_seen))], 7, 1, 5, seed=n_seen)
        assert sorted(triples.negatives.tolist()) == list(range(n_seen, 7))


def test_users_and_positives_are_drawn_uniformly() -> None:
    """Users equally, then each user's items equally: in units of 1/12, (0, 1) has 4, (1, .) 2 each,
    (2, .) 1 each. With 6 degrees of freedom chi-square exceeds 22.5 once in a thousand.
    """
    triples = sample([[1], [0, 3], [0, 1, 2, 4]], 6, 12_000, 1, seed=4)
    shares = {(0, 1): 4, (1, 0): 2, (1, 3): 2} | {(2, item): 1 for item in (0, 1, 2, 4)}
    pairs = zip(triples.users.tolist(), triples.positives.tolist(), strict=True)
    assert chi_square(pairs, shares) < 22.5


def test_sets_of_distinct_negatives_are_drawn_uniformly_and_their_places_too() -> None:
    """Three of five unseen items: ten sets, 9 degrees of freedom, 27.9 once in a thousand; each
    place is uniform over the items: 4 degrees, 18.5. Drawing with replacement and dropping
    repeats, or drawing near the last one, would not be uniform over sets.
    """
    seen, rng = items_of([[1, 4]], 7), np.random.default_rng(6)
    drawn = [sample_triples(seen, 1, 3, rng=rng).negatives.tolist() for _ in range(3000)]
    sets = dict.fromkeys(itertools.combinations([0, 2, 3, 5, 6], 3), 1)
    assert chi_square((tuple(sorted(row)) for row in drawn), sets) < 27.9
    for place in range(3):
        items = [row[place] for row in drawn]
        assert chi_square(items, dict.fromkeys([0, 2, 3, 5, 6], 1)) < 18.5


def test_triples_are_shuffled_as_a_whole() -> None:
    """Unshuffled, the five triples of a pair would be neighbours; here about 1 in 100 are."""
    triples = sample([[user] for user in range(100)], 100, 100, 5, seed=8)
    assert (np.diff(triples.users) == 0).mean() < 0.1
    assert abs(np.corrcoef(triples.users, np.arange(triples.users.size))[0, 1]) < 0.2


@given(seens(), rngs())
def test_storage_of_the_pairs_changes_no_draw(seen, rng) -> None:
    """Order within rows, duplicate entries and the stored values."""
    rows, columns = seen.nonzero()
    twice = np.tile(np.arange(rows.size), 2)
    order = twice[np.lexsort((rng.permutation(twice.size), rows[twice]))]
    parts = rng.random(order.size), columns[order], 2 * seen.indptr
    stored = read_only(sparse.csr_array(parts, shape=seen.shape))
    once, again = (
        sample_triples(pairs, 40, 3, rng=np.random.default_rng(1)) for pairs in (seen, stored)
    )
    assert same_bits(again, once)


def test_negative_counts_are_refused() -> None:
    for numbers in [(-1, 5), (5, -1)]:
        with pytest.raises(MethodError, match=r"counts must be at least 0, got .*=-1"):
            sample([[0]], 2, *numbers, seed=0)
