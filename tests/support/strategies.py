"""What hypothesis draws: small models in which no two sizes are equal and nothing is writeable.

Hypothesis draws sizes, settings and a seed; the numbers come from NumPy's generator with that seed.
(Drawn entry by entry they would be slow and mostly 0.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st
from scipy import sparse

from c2f_ref.method import Settings, Triples

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

KINK_MARGIN = 1 / 16
"""No drawn fine entry is nearer to the threshold: far more than any rounding."""


class Model(NamedTuple):
    """Everything a stage reads, read-only; U, I, N, C, F, D and B are pairwise different."""

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
    """A copy of an array, a sparse array (all its arrays) or a tuple, that cannot be written to."""
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


def array(*rows: Any) -> Any:
    """A read-only float64 table of these rows."""
    return read_only(np.array(rows, dtype=np.float64))


def ints(*values: int) -> Any:
    """A read-only int64 array."""
    return read_only(np.array(values, dtype=np.int64))


def csr(rows: Any) -> Any:
    """A read-only sparse array of float64."""
    return read_only(sparse.csr_array(np.array(rows, dtype=np.float64)))


def items_of(rows: list[list[int]], n_items: int) -> Any:
    """The items of every user as a read-only sparse array of ones."""
    has = np.zeros((len(rows), n_items))
    for user, row in enumerate(rows):
        has[user, row] = 1.0
    return csr(has)


def rngs() -> st.SearchStrategy[np.random.Generator]:
    """Generators with a drawn seed."""
    return st.integers(0, 2**32 - 1).map(np.random.default_rng)


def draw_table(shape: tuple[int, ...], rng: np.random.Generator) -> Any:
    """A read-only table of both signs."""
    return read_only(rng.normal(size=shape))


def draw_assignment(
    n_rows: int, n_columns: int, per_row: int, rng: np.random.Generator, *, signed: bool = False
) -> Any:
    """`per_row` entries in [1/4, 1] at random columns of every row; of random sign if `signed`."""
    order = rng.permuted(np.tile(np.arange(n_columns), (n_rows, 1)), axis=1)
    columns = np.sort(order[:, :per_row], axis=1)
    signs = rng.choice([-1.0, 1.0], columns.shape) if signed else 1.0
    values = rng.uniform(0.25, 1.0, columns.shape) * signs
    parts = values.ravel(), columns.ravel(), np.arange(n_rows + 1) * per_row
    return read_only(sparse.csr_array(parts, shape=(n_rows, n_columns)))


def draw_pairs(n_users: int, n_items: int, rng: np.random.Generator) -> Any:
    """Distinct pairs in random order, about half of all, at least one and never all."""
    chosen = rng.random((n_users, n_items)) < 0.5
    chosen.flat[rng.permutation(chosen.size)[:2]] = True, False
    users, items = (ends.astype(np.int64) for ends in np.nonzero(chosen))
    order = rng.permutation(users.size)
    return read_only((users[order], items[order]))


def draw_fine(shape: tuple[int, int], threshold: float, rng: np.random.Generator) -> Any:
    """Entries inside and outside the dead zone, at least one of each, none near the threshold."""
    live = rng.random(shape) < 0.6
    live.flat[rng.permutation(live.size)[:2]] = True, False
    outside = threshold + rng.uniform(KINK_MARGIN, 1.5, shape)
    inside = rng.uniform(0.0, threshold - KINK_MARGIN, shape)
    return read_only(np.where(live, outside, inside) * rng.choice([-1.0, 1.0], shape))


def draw_model(
    numbers: tuple[int, ...], rng: np.random.Generator, *, signed: bool = False,
    n_layers: int = 2, bridge_weight: float = 0.2,
) -> Model:  # fmt: skip
    """A model of given sizes (U, I, C, F, D, B); `signed` gives the assignments negative entries.

    A negative is never the positive of its triple, so that no triple is without effect.
    """
    n_users, n_items, n_coarse, n_fine, dim, n_batch = numbers
    n_entities, per_entity, per_coarse = n_users + n_items, min(2, n_coarse), min(3, n_fine)
    tau = float(rng.choice([0.25, 0.5, 1.0]))
    settings = Settings(
        n_coarse=n_coarse, n_fine=n_fine, dim=dim, n_layers=n_layers, threshold=tau,
        coarse_per_entity=per_entity, fine_per_coarse=per_coarse, bridge_weight=bridge_weight,
        l2_weight=0.05,
    )  # fmt: skip
    users, items = draw_pairs(n_users, n_items, rng)
    adjacency = np.zeros((n_entities, n_entities))
    adjacency[users, n_users + items] = adjacency[n_users + items, users] = 1.0
    degrees = np.maximum(adjacency.sum(axis=1), 1.0)
    norm_adjacency = sparse.csr_array(adjacency / np.sqrt(degrees[:, None] * degrees))
    positives = rng.integers(n_items, size=n_batch)
    s_c = draw_assignment(n_entities, n_coarse, per_entity, rng, signed=signed)
    s_f = draw_assignment(n_coarse, n_fine, per_coarse, rng, signed=signed)
    coarse, fine = draw_table((n_coarse, dim), rng), draw_fine((n_fine, dim), tau, rng)
    bias, drawn_users = draw_table((n_entities,), rng), rng.integers(n_users, size=n_batch)
    negatives = (positives + rng.integers(1, n_items, n_batch)) % n_items
    triples = Triples(drawn_users, positives, negatives)
    parts = users, items, norm_adjacency, s_c, s_f, coarse, fine, bias, triples
    return Model(settings, n_users, n_items, *read_only(parts))


def sizes() -> st.SearchStrategy[tuple[int, ...]]:
    """U, I, C, F, D and B, from 2 to 9: pairwise different, and U + I different from all."""
    drawn = st.permutations(range(2, 10)).map(lambda numbers: tuple(numbers[:6]))
    return drawn.filter(lambda numbers: numbers[0] + numbers[1] not in numbers)


@st.composite
def models(draw: Callable[..., Any], *, signed: bool = False) -> Model:
    """Models of drawn sizes, layers (1 to 3), bridge weight, threshold and numbers."""
    numbers, n_layers = draw(sizes()), draw(st.integers(1, 3))
    weight = draw(st.sampled_from([0.2, 0.5, 0.8]))
    return draw_model(numbers, draw(rngs()), signed=signed, n_layers=n_layers, bridge_weight=weight)


@st.composite
def tied_tables(draw: Callable[..., Any]) -> Any:
    """Read-only tables (n, m) of few different values, so that rows have ties; some are -inf."""
    shape, values = draw(st.permutations(range(2, 10)))[:2], [-np.inf, -0.5, -0.0, 0.0, 0.5, 2.0]
    return read_only(draw(rngs()).choice(values, shape))


def assert_not_dull(drawn: list[Any], **features: Callable[[Any], Any]) -> None:
    """Raise AssertionError where a feature of the drawn values has fewer than three values."""
    for name, feature in features.items():
        seen = sorted({repr(feature(value)) for value in drawn})
        assert len(seen) >= 3, f"{name} has only {seen} in {len(drawn)} draws: it is dull"
