"""What hypothesis draws for the tests: small models in which no two sizes are equal, tables vary and nothing can be written to.

Hypothesis draws sizes, settings and a seed; the numbers come from NumPy's generator with that seed. (Drawn entry by entry,
they would be slow and mostly 0.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st
from scipy import sparse

from c2f_ref.spec import Settings, Triples

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

KINK_MARGIN = 1 / 16
"""No drawn fine entry is nearer to the threshold than this, which is more than any step of a gradient check."""


class Model(NamedTuple):
    """Everything a stage of the method reads; all arrays read-only, n_users, n_items, C, F, D, B and N pairwise different."""

    settings: Settings
    n_users: int
    n_items: int
    users: Ints
    items: Ints
    norm_adjacency: sparse.csr_array
    coarse_assignment: sparse.csr_array
    fine_assignment: sparse.csr_array
    coarse: Array
    fine: Array
    bias: Array
    triples: Triples

    @property
    def n_entities(self) -> int:
        """N."""
        return self.n_users + self.n_items


def read_only(value: Any) -> Any:
    """A contiguous copy of an array, a sparse array (all three of its arrays) or a tuple of such, that cannot be written to."""
    if isinstance(value, tuple):
        parts = [read_only(part) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    if sparse.issparse(value):
        value = value.copy()
        for array in (value.data, value.indices, value.indptr):
            array.flags.writeable = False
    elif isinstance(value, np.ndarray):
        value = value.copy()
        value.flags.writeable = False
    return value


def rngs() -> st.SearchStrategy[np.random.Generator]:
    """Generators with a drawn seed."""
    return st.integers(0, 2**32 - 1).map(np.random.default_rng)


def draw_table(shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """A read-only table of both signs."""
    table: Array = read_only(rng.normal(size=shape))
    return table


def draw_assignment(
    n_rows: int, n_columns: int, per_row: int, rng: np.random.Generator, *, signed: bool = False
) -> sparse.csr_array:
    """`per_row` entries in [1/4, 1] at random columns of every row, of random sign where `signed`."""
    columns = np.sort(rng.permuted(np.tile(np.arange(n_columns), (n_rows, 1)), axis=1)[:, :per_row], axis=1)
    values = rng.uniform(0.25, 1.0, columns.shape) * (rng.choice([-1.0, 1.0], columns.shape) if signed else 1.0)
    starts = np.arange(n_rows + 1) * per_row
    return read_only(sparse.csr_array((values.ravel(), columns.ravel(), starts), shape=(n_rows, n_columns)))


def draw_square(n: int, rng: np.random.Generator) -> sparse.csr_array:
    """A graph whose two directions differ, so that G and G^T cannot be mistaken for each other."""
    values = np.where(rng.random((n, n)) < 0.5, rng.uniform(-0.5, 0.5, (n, n)), 0.0)
    return read_only(sparse.csr_array(values))


def draw_pairs(n_users: int, n_items: int, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """Distinct pairs in random order, about half of all, at least one and never all."""
    chosen = rng.random((n_users, n_items)) < 0.5
    chosen.flat[rng.permutation(chosen.size)[:2]] = True, False
    users, items = (ends.astype(np.int64) for ends in np.nonzero(chosen))
    order = rng.permutation(users.size)
    pairs: tuple[Ints, Ints] = read_only((users[order], items[order]))
    return pairs


def draw_fine(shape: tuple[int, int], threshold: float, rng: np.random.Generator) -> Array:
    """Entries inside and outside the dead zone, at least one of each, none near the threshold."""
    live = rng.random(shape) < 0.6
    live.flat[rng.permutation(live.size)[:2]] = True, False
    outside = threshold + rng.uniform(KINK_MARGIN, 1.5, shape)
    inside = rng.uniform(0.0, threshold - KINK_MARGIN, shape)
    fine: Array = read_only(np.where(live, outside, inside) * rng.choice([-1.0, 1.0], shape))
    return fine


def draw_model(
    numbers: tuple[int, ...], rng: np.random.Generator, *, signed: bool = False, n_layers: int = 2, bridge_weight: float = 0.2
) -> Model:
    """A model of given sizes (users, items, C, F, D, B); `signed` gives the assignments entries below 0."""
    n_users, n_items, n_coarse, n_fine, dim, n_batch = numbers
    n_entities = n_users + n_items
    settings = Settings(
        n_coarse=n_coarse,
        n_fine=n_fine,
        dim=dim,
        n_layers=n_layers,
        coarse_per_entity=min(2, n_coarse),
        fine_per_coarse=min(3, n_fine),
        threshold=float(rng.choice([0.25, 0.5, 1.0])),
        bridge_weight=bridge_weight,
        l2_weight=0.05,
    )
    users, items = draw_pairs(n_users, n_items, rng)
    adjacency = np.zeros((n_entities, n_entities))
    adjacency[users, n_users + items] = adjacency[n_users + items, users] = 1.0
    degrees = np.maximum(adjacency.sum(axis=1), 1.0)
    positives = rng.integers(n_items, size=n_batch)
    return Model(
        settings,
        n_users,
        n_items,
        users,
        items,
        read_only(sparse.csr_array(adjacency / np.sqrt(degrees[:, None] * degrees))),
        draw_assignment(n_entities, n_coarse, settings.coarse_per_entity, rng, signed=signed),
        draw_assignment(n_coarse, n_fine, settings.fine_per_coarse, rng, signed=signed),
        draw_table((n_coarse, dim), rng),
        draw_fine((n_fine, dim), settings.threshold, rng),
        draw_table((n_entities,), rng),
        # A negative is never the positive of its triple, so no triple is without effect.
        read_only(
            Triples(rng.integers(n_users, size=n_batch), positives, (positives + rng.integers(1, n_items, n_batch)) % n_items)
        ),
    )


def sizes() -> st.SearchStrategy[tuple[int, ...]]:
    """Users, items, C, F, D and B, from 2 to 9: pairwise different, and U + I different from all of them."""
    drawn = st.permutations(range(2, 10)).map(lambda numbers: tuple(numbers[:6]))
    return drawn.filter(lambda numbers: numbers[0] + numbers[1] not in numbers)


@st.composite
def models(draw: Callable[..., Any], *, signed: bool = False) -> Model:
    """Models of drawn sizes, layers (1 to 3), bridge weight, threshold and numbers."""
    numbers, n_layers, weight = draw(sizes()), draw(st.integers(1, 3)), draw(st.sampled_from([0.2, 0.5, 0.8]))
    return draw_model(numbers, draw(rngs()), signed=signed, n_layers=n_layers, bridge_weight=weight)


@st.composite
def tables(draw: Callable[..., Any], low: int = 2, high: int = 9) -> Array:
    """Read-only tables (n, m) of both signs, n and m different."""
    n_rows, n_columns = draw(st.permutations(range(low, high + 1)))[:2]
    return draw_table((n_rows, n_columns), draw(rngs()))


@st.composite
def tied_tables(draw: Callable[..., Any]) -> Array:
    """Read-only tables (n, m) of few different values, so that rows are full of ties; some are -inf."""
    n_rows, n_columns = draw(st.permutations(range(2, 10)))[:2]
    table: Array = read_only(draw(rngs()).choice([-np.inf, -0.5, -0.0, 0.0, 0.5, 2.0], (n_rows, n_columns)))
    return table


def assert_not_dull(drawn: list[Any], **features: Callable[[Any], Any]) -> None:
    """Raise AssertionError where a feature of the drawn values hardly varies: fewer than three different values in all."""
    for name, feature in features.items():
        seen = {repr(feature(value)) for value in drawn}
        if len(seen) < 3:
            raise AssertionError(f"{name} took only the values {sorted(seen)} in {len(drawn)} draws: the strategy is dull")
