"""What training takes is what the formula says, from both sides, and grows no faster than entities and pairs."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from training.tiny import bytes_of

from c2f_ref import fast
from c2f_ref.fast import assignment, plan, ranking
from c2f_ref.fast.compile import is_compiled
from c2f_ref.interactions import Interactions, Split, split_ratio
from c2f_ref.spec import Settings, partition
from c2f_ref.threads import at_most
from c2f_ref.training import Recipe, Schedule, memory, runs, train, training_bytes, training_moments

SIZES = [(900, 600), (1206, 804), (1615, 1077), (2165, 1443), (2901, 1934), (3887, 2592), (5210, 3473), (6981, 4655)]
"""Users and items: every size is 1.34 times the one before."""
COARSE_SHARE = 64
"""Entities per coarse row, which thus become 8 times as many."""


@pytest.fixture(scope="module")
def warm() -> Iterator[None]:
    """Everything compiled and imported before anything is measured, and one thread: each has a block of its own."""
    if not is_compiled:
        pytest.skip("as plain Python the kernels take minutes, and as much memory")
    with at_most(1):
        for small in (plan.SMALL, 0):  # loops for one thread, and those for several
            with pytest.MonkeyPatch.context() as patched:
                patched.setattr(plan, "SMALL", small)
                train(random_split(60, 40, 500), Settings(n_coarse=5, n_fine=4, dim=3), recipe_of(1, None), seed=0, ops=fast)
        yield


def random_split(n_users: int, n_items: int, n_pairs: int) -> Split:
    """Users alike, items of falling popularity; a tenth each of a user's pairs is held out."""
    rng = np.random.default_rng(0)
    items = (n_items * rng.random(n_pairs) ** 1.5).astype(np.int64)
    pairs = Interactions.from_indices(rng.integers(n_users, size=n_pairs), items, n_users, n_items)
    return split_ratio(pairs, valid=0.1, test=0.1, seed=0)


def recipe_of(n_negatives: int, draws_per_epoch: int | None, disjoint_share: float = 0.0) -> Recipe:
    """An epoch in each phase, so that every kind of call is made, and few steps."""
    schedule = Schedule(
        batch=8192,
        lr=0.01,
        n_negatives=n_negatives,
        draws_per_epoch=draws_per_epoch,
        disjoint_share=disjoint_share,
        max_epochs=3,
        max_fixed_epochs=1,
        evaluate_every=1,
    )
    return Recipe(coarse=schedule, fine=schedule, sparse_pca_method="cd")


def hasty_partition(graph: sparse.csr_array, n_parts: int, *, rng: np.random.Generator) -> Any:
    """Ours, which takes most memory when it lists the edges, with less refinement after that."""
    return partition(graph, n_parts, rng=rng, n_sweeps=1)


def peak_of(split: Split, settings: Settings, recipe: Recipe) -> int:
    """The most bytes that training both stages has had at once beside the split."""
    tracemalloc.start()
    try:
        train(split, settings, recipe, seed=0, ops=fast, partition=hasty_partition)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def promised(split: Split, settings: Settings, recipe: Recipe) -> dict[str, int]:
    """Bytes at every moment."""
    train_pairs = split.train
    counts = train_pairs.n_users, train_pairs.n_items, train_pairs.n_pairs, split.valid.n_pairs
    return {moment: sum(terms.values()) for moment, terms in training_moments(settings, recipe, *counts).items()}


def test_the_peak_is_within_a_tenth_of_the_formula_and_linear_where_coarse_rows_grow_with_entities(warm: None) -> None:
    """Eight sizes. Had there been a table of (N, C) in float32, the slope of log bytes on log entities would be above 1.05."""
    n_entities, peaks, with_table = [], [], []
    recipe = recipe_of(1, None)
    for n_users, n_items in SIZES:
        n = n_users + n_items
        settings = Settings(n_coarse=n // COARSE_SHARE, n_fine=8, dim=48, sparse_pca_components=1)
        split = random_split(n_users, n_items, 12 * n_users)
        peak, formula = peak_of(split, settings, recipe), max(promised(split, settings, recipe).values())
        assert formula / 1.10 <= peak <= 1.10 * formula, (n, peak, formula)
        n_entities.append(n)
        peaks.append(peak)
        with_table.append(peak + 4 * n * settings.n_coarse)
    assert slope(n_entities, peaks) <= 1.05
    assert slope(n_entities, with_table) > 1.05


def slope(sizes: Any, values: Any) -> float:
    """Of log values on log sizes."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


@pytest.mark.parametrize(
    ("moment", "sizes", "tables", "draws", "n_negatives", "share"),
    [
        ("coarse partition", (700, 500, 40_000), (9, 6, 8, 2), None, 1, 0),
        ("fine affinity", (2500, 1500, 9000), (12, 200, 6, 2), 2000, 1, 0),
        ("coarse sampling", (900, 700, 15_000), (9, 5, 24, 2), 120_000, 1, 0),
        ("coarse sampling", (910, 710, 15_000), (9, 5, 24, 2), 40_000, 4, 0),
        ("coarse dropping", (900, 700, 15_000), (9, 5, 24, 2), 120_000, 1, 0.3),
        ("coarse dropping", (910, 710, 15_000), (9, 5, 24, 2), 40_000, 4, 0.6),
        ("coarse refresh", (3000, 2000, 40_000), (300, 7, 16, 2), None, 1, 0),
        ("coarse rebuilding", (1800, 1100, 35_000), (10, 6, 64, 4), 2000, 1, 0),
        ("coarse rebuilding", (1800, 1100, 35_000), (10, 6, 64, 4), 2000, 1, 0.3),
        ("fine evaluation", (1500, 4000, 11_000), (11, 6, 7, 1), 2000, 1, 0),
    ],
)
def test_the_formula_holds_whichever_moment_takes_most(
    warm: None, moment: str, sizes: Any, tables: Any, draws: int | None, n_negatives: int, share: float
) -> None:
    n_coarse, n_fine, dim, coarse_per_entity = tables
    settings = Settings(n_coarse=n_coarse, n_fine=n_fine, dim=dim, coarse_per_entity=coarse_per_entity, sparse_pca_components=1)
    split, recipe = random_split(*sizes), recipe_of(n_negatives, draws, share)
    moments = promised(split, settings, recipe)
    assert max(moments, key=lambda name: moments[name]) == moment
    peak = peak_of(split, settings, recipe)
    assert moments[moment] / 1.10 <= peak <= 1.10 * moments[moment], (peak, moments)


def test_terms_by_hand() -> None:
    """2 users, 3 items, 4 training pairs and 1 for validation; C = 6, D = 7, t = 2, no fine stage; 10 draws of 5 negatives.

    Adjacency: 8 entries of 8 bytes and 5 row starts of 4, twice. Graph: 8 + 2 * 10 entries of 8 bytes, 11 nodes of 8. Work
    tables: 4 of 11 rows of 7 floats. Triples: 50 of three 8-byte numbers.
    """
    settings, recipe = Settings(n_coarse=6, n_fine=0, dim=7), recipe_of(5, 10)
    moments = training_moments(settings, recipe, 2, 3, 4, 1)
    assert set(moments) == {f"coarse {name}" for name in ("partition", "sampling", "refresh", "rebuilding", "evaluation")}
    terms = moments["coarse sampling"]
    assert terms["adjacency, as given and renumbered"] == 2 * (8 * 8 + 5 * 4)
    assert terms["numbering"] == 2 * 5 * 8
    assert terms["expanded graph"] == 28 * 8 + 11 * 8
    assert terms["work tables"] == 4 * 11 * 7 * 4
    assert terms["pairs to draw from and to validate on"] == 5 * 12 + 2 * 2 * 4
    assert terms["triples"] == 50 * 3 * 8
    assert terms["draws"] == 10 * 8 + 50 * 4
    assert training_bytes(settings, recipe, 2, 3, 4, 1) == max(moments.values(), key=lambda of_one: sum(of_one.values()))


def test_the_numbers_of_the_formula_are_those_of_the_kernels() -> None:
    assert memory.ROWS_PER_BLOCK == assignment.ROWS_PER_BLOCK
    assert memory.USERS_PER_BLOCK == ranking.USERS_PER_BLOCK
    split = random_split(30, 20, 300)
    graph = fast.normalise(fast.bipartite(split.train.users, split.train.items, 30, 20))
    settings = Settings(n_coarse=4, n_fine=0, dim=3)
    start = fast.start_coarse_assignment(np.arange(50) % 4, settings, rng=np.random.default_rng(0))
    plan = fast.prepare_coarse(graph, start, 30, settings)
    assert len(plan.work) == memory.WORK_TABLES


@pytest.mark.parametrize("coarse_per_entity", [1, 2, 3])
def test_a_first_assignment_drawn_in_blocks_is_that_of_the_specification(
    coarse_per_entity: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """70 entities in blocks of 16, the last one short; what is drawn afterwards is the same too."""
    split, settings = random_split(40, 30, 300), Settings(n_coarse=7, n_fine=0, dim=5, coarse_per_entity=coarse_per_entity)
    recipe = Recipe(coarse=Schedule(batch=32, lr=0.01, max_epochs=1))
    monkeypatch.setattr(runs, "ROWS_PER_BLOCK", 16)
    best = runs.train_coarse(split, settings, recipe, rng=np.random.default_rng(8), partition=hasty_partition).best
    start_rng, _ = np.random.default_rng(8).spawn(2)
    graph = fast.bipartite(split.train.users, split.train.items, 40, 30)
    whole = fast.start_coarse_assignment(hasty_partition(graph, 7, rng=start_rng), settings, rng=start_rng)
    assert bytes_of(best.assignment) == bytes_of(whole)
    assert bytes_of(*best.tables) == bytes_of(*fast.start_coarse(70, settings, rng=start_rng))


@given(st.integers(8 * 4096, 10**6), st.integers(1, 10**6), st.integers(1, 10**8), st.integers(0, 10**7), st.integers(1, 8))
def test_twice_the_data_takes_at_most_twice_the_memory(
    n_users: int, n_items: int, n_pairs: int, n_valid: int, n_threads: int
) -> None:
    """Once there are enough users for a whole block on every thread; below, blocks grow with the data."""
    settings, recipe = Settings(), recipe_of(5, None)
    once = sum(training_bytes(settings, recipe, n_users, n_items, n_pairs, n_valid, n_threads).values())
    twice = sum(training_bytes(settings, recipe, 2 * n_users, 2 * n_items, 2 * n_pairs, 2 * n_valid, n_threads).values())
    assert once < twice <= 2 * once
