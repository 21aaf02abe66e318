"""Which cases there are: inputs drawn once, then stored. Every size within a case is another; all numbers fit into float32."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

from c2f_ref.spec import AdamState, Settings, Triples

Inputs = dict[str, Any]
Drawn = tuple[str, str, str, Inputs]
"""Operation, name, comparator, inputs."""


class Model(NamedTuple):
    """Everything a stage reads."""

    settings: Settings
    n_users: int
    n_items: int
    norm_adjacency: sparse.csr_array
    coarse_assignment: sparse.csr_array
    fine_assignment: sparse.csr_array
    coarse: Any
    fine: Any
    bias: Any
    triples: Triples


def singles(rng: np.random.Generator, *shape: int) -> Any:
    """Normal numbers that float32 holds."""
    return rng.standard_normal(shape).astype(np.float32)


def eighths(rng: np.random.Generator, *shape: int) -> Any:
    """Multiples of 1/8 in [-1, 1]."""
    return (rng.integers(-8, 9, size=shape) / 8).astype(np.float32)


def matrix(dense: Any) -> sparse.csr_array:
    """CSR of float32 numbers."""
    return sparse.csr_array(np.asarray(dense, dtype=np.float32))


def pairs_matrix(rng: np.random.Generator, n_rows: int, n_columns: int, share: float) -> sparse.csr_array:
    """A pattern of ones."""
    return matrix(rng.random((n_rows, n_columns)) < share)


def thin(rng: np.random.Generator, n_rows: int, n_columns: int, values: Any) -> sparse.csr_array:
    """Rows of every length from none to all."""
    lengths = rng.permuted(np.arange(n_rows) % (n_columns + 1))
    kept = np.argsort(rng.random((n_rows, n_columns)), axis=1) < lengths[:, None]
    return matrix(np.where(kept, values(rng, n_rows, n_columns), 0))


def assignment(rng: np.random.Generator, n_rows: int, n_columns: int, per_row: int, low: float = 0.25) -> sparse.csr_array:
    """`per_row` weights in [low, 1] a row."""
    kept = np.argsort(rng.random((n_rows, n_columns)), axis=1) < per_row
    return matrix(np.where(kept, rng.uniform(low, 1.0, (n_rows, n_columns)), 0))


def adjacency(has: Any) -> sparse.csr_array:
    """Normalised graph of the pairs `has` (U, I), rounded to float32."""
    n_users, n_items = has.shape
    dense = np.zeros((n_users + n_items, n_users + n_items))
    dense[:n_users, n_users:], dense[n_users:, :n_users] = has, has.T
    degrees = np.maximum(dense.sum(axis=1), 1)
    return matrix(dense / np.sqrt(degrees[:, None] * degrees))


def fine_table(rng: np.random.Generator, shape: tuple[int, int], threshold: float) -> Any:
    """Entries on both sides of the threshold, none near it, none 0."""
    live = rng.random(shape) < 0.6
    live.flat[:2] = True, False
    size = np.where(live, threshold + rng.uniform(0.1, 1.5, shape), rng.uniform(0.1, 0.9, shape) * threshold)
    return (size * rng.choice([-1.0, 1.0], shape)).astype(np.float32)


def triples(rng: np.random.Generator, n_users: int, n_items: int, n_batch: int) -> Triples:
    """Positives and negatives that differ."""
    positives = rng.integers(n_items, size=n_batch)
    negatives = (positives + rng.integers(1, n_items, size=n_batch)) % n_items
    return Triples(rng.integers(n_users, size=n_batch), positives, negatives)


def model(rng: np.random.Generator, sizes: tuple[int, ...], *, isolated: bool = False, low: float = 0.25, **changes: Any) -> Model:
    """A model of these sizes (U, I, C, F, D, B); `isolated` leaves the first user and the last item without a pair."""
    n_users, n_items, n_coarse, n_fine, dim, n_batch = sizes
    per_entity = min(2, n_coarse)
    chosen = {"n_layers": 2, "threshold": 0.5, "l2_weight": 0.0625, "fine_per_coarse": 2, "coarse_per_entity": per_entity} | changes
    settings = Settings(n_coarse=n_coarse, n_fine=n_fine, dim=dim, **chosen)
    has = rng.random((n_users, n_items)) < 0.45
    has[np.arange(n_users), rng.integers(n_items, size=n_users)] = True
    if isolated:
        has[0], has[:, -1] = False, False
    tau = settings.threshold if np.isfinite(settings.threshold) else 1.0
    return Model(
        settings,
        n_users,
        n_items,
        adjacency(has),
        assignment(rng, n_users + n_items, n_coarse, settings.coarse_per_entity, low),
        assignment(rng, n_coarse, n_fine, min(settings.fine_per_coarse, n_fine), low),
        singles(rng, n_coarse, dim),
        fine_table(rng, (n_fine, dim), tau),
        singles(rng, n_users + n_items),
        triples(rng, n_users, n_items, n_batch),
    )


def with_values(inputs: Inputs, **changes: Any) -> Inputs:
    """The same inputs, some replaced, in the same order."""
    return inputs | changes


def spoilt(array: Any, value: float) -> Any:
    """A copy whose first stored entry is `value`."""
    copy = array.copy()
    (copy.data if sparse.issparse(copy) else copy.reshape(-1))[0] = value
    return copy


NAN, INF = float("nan"), float("inf")
LOST = "a singular value that float32 cannot tell from 0"
ONLY = {LOST: "float32", "nearly of lower rank": "float64", "of four bytes": "float32", "of eight bytes": "float64"}
"""Precision of cases whose answer depends on it, by the end of their names."""


def drawn() -> Iterator[Drawn]:
    """All cases, in the reading order of the specification."""
    for number, part in enumerate(
        (_graph, _assignments, _embeddings, _propagation, _loss, _optimiser, _sampling, _ranking, _stages, _memory)
    ):
        yield from part(np.random.default_rng(number + 1))


def _graph(rng: np.random.Generator) -> Iterator[Drawn]:
    pairs = {"users": np.array([0, 2, 2, 0, 1]), "items": np.array([1, 0, 3, 1, 3]), "n_users": 3, "n_items": 4}
    yield "bipartite", "by hand, one pair twice", "exact", pairs
    has = rng.random((5, 7)) < 0.4
    users, items = (ends[::-1].copy() for ends in np.nonzero(has))
    drawn_pairs = {"users": users, "items": items, "n_users": 5, "n_items": 7}
    yield "bipartite", "drawn, with isolated entities", "exact", drawn_pairs | {"n_users": 6, "n_items": 9}
    none = np.zeros(0, dtype=np.int64)
    yield "bipartite", "no pair", "exact", {"users": none, "items": none, "n_users": 2, "n_items": 3}
    narrow = {
        "users": np.array([0, 120], dtype=np.int8),
        "items": np.array([7, 100], dtype=np.int8),
        "n_users": 121,
        "n_items": 101,
    }
    yield "bipartite", "indices of 8 bits", "exact", narrow
    wide = {"users": np.array([0, 39_999, 17]), "items": np.array([1, 29_999, 25_000]), "n_users": 40_000, "n_items": 30_000}
    yield "bipartite", "more entities than 16 bits count", "exact", wide
    yield "bipartite", "an item out of range", "raises", with_values(pairs, items=np.array([1, 0, 4, 1, 3]))
    yield "bipartite", "a negative user", "raises", with_values(pairs, users=np.array([0, 2, -1, 0, 1]))
    yield "bipartite", "lists of different lengths", "raises", with_values(pairs, users=np.array([0, 2]))

    path = np.zeros((4, 4))
    path[[0, 1, 1, 2], [1, 0, 2, 1]] = 1.0
    yield "normalise", "by hand, a path and an isolated node", "bounded", {"graph": matrix(path)}
    weighted = np.abs(thin(rng, 6, 6, singles).toarray())
    yield "normalise", "weighted, both ways the same", "bounded", {"graph": matrix(weighted + weighted.T)}
    yield "normalise", "directed", "bounded", {"graph": matrix(weighted + 0.5 * (rng.random((6, 6)) < 0.3))}
    signed = np.array([[0, 1, -0.25, 0], [1, 0, 0.5, 0], [-0.25, 0.5, 0, -2], [0, 0, -2, 0]])
    yield "normalise", "degrees that are negative", "bounded", {"graph": matrix(signed)}
    yield "normalise", "large and small weights", "bounded", {"graph": matrix((weighted + weighted.T) * np.exp2(40.0))}
    yield "normalise", "no edge", "bounded", {"graph": matrix(np.zeros((3, 3)))}
    yield "normalise", "not square", "raises", {"graph": matrix(np.ones((3, 4)))}
    yield "normalise", "a value that is not finite", "raises", {"graph": spoilt(matrix(path), NAN)}

    for name, chosen in (
        ("drawn", model(rng, (5, 7, 4, 3, 6, 8))),
        ("isolated entities", model(rng, (4, 6, 5, 3, 2, 2), isolated=True)),
        ("one coarse row", model(rng, (3, 4, 1, 2, 2, 2))),
        ("weights of both signs", model(rng, (5, 4, 6, 3, 2, 2), low=-1.0)),
    ):
        graphs = {"norm_adjacency": chosen.norm_adjacency, "coarse_assignment": chosen.coarse_assignment}
        yield "expand_coarse", name, "bounded", graphs
        yield "expand_fine", name, "bounded", graphs | {"fine_assignment": chosen.fine_assignment}
    few = model(rng, (2, 3, 4, 6, 2, 2))
    graphs = {"norm_adjacency": few.norm_adjacency, "coarse_assignment": few.coarse_assignment}
    empty = graphs["coarse_assignment"].toarray()
    empty[1] = 0
    yield "expand_coarse", "an entity made of nothing", "bounded", graphs | {"coarse_assignment": matrix(empty)}
    fine_graphs = graphs | {"fine_assignment": few.fine_assignment}
    yield "expand_fine", "more fine than coarse rows", "bounded", fine_graphs
    for operation, given in (("expand_coarse", graphs), ("expand_fine", fine_graphs)):
        yield operation, "an assignment of another size", "raises", with_values(given, coarse_assignment=matrix(np.ones((4, 4))))
        yield (
            operation,
            "a value that is not finite",
            "raises",
            with_values(given, coarse_assignment=spoilt(few.coarse_assignment, INF)),
        )
    yield (
        "expand_fine",
        "fine rows for other coarse rows",
        "raises",
        with_values(fine_graphs, fine_assignment=matrix(np.ones((3, 6)))),
    )

    cycle = matrix(np.roll(np.eye(5), 1, axis=1))
    yield "edge_cut", "by hand, a cycle in two parts", "bounded", {"graph": cycle, "labels": np.array([0, 0, 1, 1, 1])}
    looped = thin(rng, 7, 7, singles)
    yield "edge_cut", "loops, and edges stored both ways or once", "bounded", {"graph": looped, "labels": rng.integers(3, size=7)}
    yield "edge_cut", "no edge", "bounded", {"graph": matrix(np.eye(4)), "labels": np.arange(4)}
    yield "edge_cut", "labels of another length", "raises", {"graph": cycle, "labels": np.arange(4)}
    yield "edge_cut", "a negative label", "raises", {"graph": cycle, "labels": np.array([0, 0, -1, 1, 1])}

    groups = np.arange(40) % 4
    near = (groups[:, None] == groups) & (rng.random((40, 40)) < 0.4)
    yield "partition", "four groups", "drawn", {"graph": matrix(np.triu(near, 1) | np.triu(near, 1).T), "n_parts": 4, "seed": 5}
    blocks = np.arange(120) % 8
    noisy = np.triu(rng.random((120, 120)) < np.where(blocks[:, None] == blocks, 0.4, 0.04), 1)
    yield "partition", "eight groups, and edges between them", "drawn", {"graph": matrix(noisy | noisy.T), "n_parts": 8, "seed": 9}
    lines = np.diag(np.ones(59), 1) * (np.arange(60) % 12 != 11)[:, None]
    yield "partition", "five lines, edges stored once", "drawn", {"graph": matrix(lines), "n_parts": 5, "seed": 6}
    yield "partition", "no edge", "drawn", {"graph": matrix(np.zeros((11, 11))), "n_parts": 3, "seed": 7}
    yield "partition", "more parts than vertices", "raises", {"graph": cycle, "n_parts": 6, "seed": 8}
    yield "partition", "no part", "raises", {"graph": cycle, "n_parts": 0, "seed": 8}


def _assignments(rng: np.random.Generator) -> Iterator[Drawn]:
    tied = (rng.integers(-2, 3, size=(9, 7)) / 4).astype(np.float32)
    wide = singles(rng, 5, 11)
    infinite = np.where(rng.random((4, 6)) < 0.5, -INF, tied[:4, :6]).astype(np.float32)
    for k in (1, 3):
        yield "top_columns", f"ties, k = {k}", "exact", {"values": tied, "k": k}
        yield "top_columns", f"drawn, k = {k}", "exact", {"values": wide, "k": k}
    yield "top_columns", "minus infinity is the least", "exact", {"values": infinite, "k": 5}
    yield "top_columns", "all columns", "exact", {"values": wide, "k": 11}
    yield "top_columns", "no column", "exact", {"values": wide, "k": 0}
    yield "top_columns", "more than there are", "raises", {"values": wide, "k": 12}
    yield "top_columns", "not a number", "raises", {"values": spoilt(wide, NAN), "k": 2}
    yield "keep_top", "ties", "exact", {"values": tied, "k": 2}
    yield "keep_top", "large negative entries", "exact", {"values": (eighths(rng, 6, 5) - 0.75).astype(np.float32), "k": 2}
    yield "keep_top", "all negative, all kept", "exact", {"values": -np.abs(eighths(rng, 4, 3)), "k": 3}
    yield "keep_top", "more than there are", "raises", {"values": tied, "k": 8}
    yield "keep_top", "a value that is not finite", "raises", {"values": spoilt(tied, -INF), "k": 2}

    yield "softmax_rows", "drawn", "bounded", {"values": singles(rng, 4, 7)}
    yield "softmax_rows", "large magnitude", "bounded", {"values": (singles(rng, 5, 3) * 1000).astype(np.float32)}
    yield "softmax_rows", "equal entries", "bounded", {"values": np.full((2, 3), 88.5, dtype=np.float32)}
    yield "softmax_rows", "one column", "bounded", {"values": singles(rng, 3, 1)}

    labels = rng.permutation(np.arange(11) % 4)
    yield "part_affinity", "drawn", "bounded", {"labels": labels, "n_parts": 4}
    yield "part_affinity", "two parts", "exact", {"labels": labels % 2, "n_parts": 2}
    yield "part_affinity", "one part", "exact", {"labels": labels * 0, "n_parts": 1}
    yield "part_affinity", "a label out of range", "raises", {"labels": labels, "n_parts": 3}

    affinity = np.where(labels[:, None] == np.arange(4), 0.5, 0.125).astype(np.float32)
    start = {"coarse_assignment": assignment(rng, 11, 6, 2), "affinity": affinity, "fine_per_coarse": 2}
    yield "start_fine_assignment", "drawn", "kept", start
    skewed = {"coarse_assignment": assignment(rng, 11, 5, 3), "affinity": np.abs(singles(rng, 11, 7)) * 4, "fine_per_coarse": 3}
    yield "start_fine_assignment", "any affinity", "kept", skewed
    unused = start["coarse_assignment"].toarray()
    unused[:, 3] = 0
    yield "start_fine_assignment", "a coarse row that nobody uses", "kept", start | {"coarse_assignment": matrix(unused)}
    yield "start_fine_assignment", "more than there are", "raises", with_values(start, fine_per_coarse=5)
    yield "start_fine_assignment", "affinity of other entities", "raises", with_values(start, affinity=affinity[:10])

    for t, weight in ((1, 0.5), (2, 0.5), (3, 0.75)):
        settings = Settings(n_coarse=5, n_fine=0, dim=2, coarse_per_entity=t, anchor_weight=weight)
        given = {"labels": rng.integers(5, size=400), "settings": settings, "seed": 10 + t}
        yield "start_coarse_assignment", f"t = {t}", "drawn", given
    bad = Settings(n_coarse=4, n_fine=0, dim=2)
    yield "start_coarse_assignment", "a label out of range", "raises", {"labels": np.arange(5), "settings": bad, "seed": 1}

    tall, flat = singles(rng, 7, 4), singles(rng, 3, 8)
    low_rank = (eighths(rng, 6, 2) @ eighths(rng, 2, 9)).astype(np.float32)
    steep = (np.eye(5, 7) * 2.0 ** -np.arange(5)[:, None] * 4).astype(np.float32)
    ill, nearly = singles(rng, 5, 6), singles(rng, 5, 6)
    ill[4] = (ill[0] + ill[1] * 2.0**-9).astype(np.float32)  # but for rounding: 4e-9 of the largest
    nearly[4] = (nearly[0] + singles(rng, 6) * 2.0**-7).astype(np.float32)
    # Orthogonal rows; the second has 16 eps of the first, between twice and 64 times eps.
    faint = np.ones((2, 64), dtype=np.float32)
    faint[1] = np.where(np.arange(64) % 2, 2.0**-48, -(2.0**-48))
    tables = {
        "tall": (tall, None),
        "wide": (flat, None),
        "rank 2 of 6": (low_rank, None),
        "badly conditioned": (nearly, None),
        "nearly of lower rank": (ill, None),
        LOST: (ill, None),
        "by hand, 16 eps are 0 beside 64 columns": (faint, None),
        "zeros": (np.zeros((3, 4), dtype=np.float32), None),
        "by hand, a cut at 1/3": (steep, 0.3125),
        "a cut between singular values": (tall, 0.5),
        "large magnitude": ((tall * 2.0**30).astype(np.float32), None),
    }
    for name, (table, rtol) in tables.items():
        yield "pseudo_inverse", name, "bounded", {"table": table, "rtol": rtol}
    yield "pseudo_inverse", "a value that is not finite", "raises", {"table": spoilt(tall, INF), "rtol": None}

    entities = singles(rng, 13, 6)
    for name, table, k, rtol in (
        ("drawn", singles(rng, 5, 6), 2, None),
        ("t = 1", singles(rng, 4, 6), 1, None),
        ("all kept", singles(rng, 3, 6), 3, None),
        ("more coarse rows than dimensions", singles(rng, 9, 6), 2, None),
        ("rank 2 of 5", (eighths(rng, 5, 2) @ eighths(rng, 2, 6)).astype(np.float32), 2, None),
        ("badly conditioned", nearly, 2, None),
        ("nearly of lower rank", ill, 2, None),
        (LOST, ill, 2, None),
        ("a cut between singular values", singles(rng, 5, 6), 2, 0.4),
        ("zeros", np.zeros((4, 6), dtype=np.float32), 2, None),
    ):
        given = {"entities": entities, "coarse": table, "coarse_per_entity": k, "pinv_rtol": rtol}
        yield "refresh_coarse", name, "kept", {key: value for key, value in given.items() if value is not None}
    given = {"entities": entities, "coarse": singles(rng, 5, 6), "coarse_per_entity": 2}
    yield "refresh_coarse", "more than there are", "raises", with_values(given, coarse_per_entity=6)
    yield "refresh_coarse", "another number of columns", "raises", with_values(given, coarse=singles(rng, 5, 7))
    yield "refresh_coarse", "a value that is not finite", "raises", with_values(given, entities=spoilt(entities, NAN))
    for name, coarse, fine, k, rtol in (
        ("drawn", singles(rng, 5, 6), singles(rng, 4, 6), 2, None),
        ("all kept", singles(rng, 5, 6), singles(rng, 3, 6), 3, None),
        ("softmax that underflows", singles(rng, 5, 6), (singles(rng, 4, 6) / 64).astype(np.float32), 3, None),
        ("fine rows of rank 2", singles(rng, 5, 6), (eighths(rng, 4, 2) @ eighths(rng, 2, 6)).astype(np.float32), 2, None),
        (LOST, ill, singles(rng, 4, 6), 2, None),
        ("a cut between singular values", singles(rng, 5, 6), singles(rng, 4, 6), 2, 0.45),
    ):
        given = {"entities": entities, "coarse": coarse, "fine": fine, "fine_per_coarse": k, "pinv_rtol": rtol}
        yield "refresh_fine", name, "kept", {key: value for key, value in given.items() if value is not None}
    given = {"entities": entities, "coarse": singles(rng, 5, 6), "fine": singles(rng, 4, 6), "fine_per_coarse": 2}
    yield "refresh_fine", "more than there are", "raises", with_values(given, fine_per_coarse=5)
    yield "refresh_fine", "a value that is not finite", "raises", with_values(given, fine=spoilt(given["fine"], NAN))


def _embeddings(rng: np.random.Generator) -> Iterator[Drawn]:
    exact, rough = thin(rng, 9, 5, eighths), thin(rng, 9, 5, singles)
    positive = assignment(rng, 9, 5, 2)
    yield "compose", "eighths", "exact", {"assignment": exact, "table": eighths(rng, 5, 4)}
    yield "compose", "drawn, with empty rows", "bounded", {"assignment": rough, "table": singles(rng, 5, 4)}
    yield "compose", "large magnitude", "bounded", {"assignment": rough, "table": (singles(rng, 5, 4) * 2.0**40).astype(np.float32)}
    yield "compose_vjp", "eighths", "exact", {"assignment": exact, "grad": eighths(rng, 9, 4)}
    yield "compose_vjp", "drawn", "bounded", {"assignment": rough, "grad": singles(rng, 9, 4)}
    for name, structure, table in (
        ("drawn", positive, singles(rng, 5, 4)),
        ("weights of both signs, empty rows", rough, singles(rng, 5, 4)),
        ("saturated", positive, (singles(rng, 5, 4) * 64).astype(np.float32)),
        ("small magnitude", positive, (singles(rng, 5, 4) * 2.0**-20).astype(np.float32)),
    ):
        yield "ego_embed", name, "bounded", {"coarse_assignment": structure, "coarse": table}
        yield "ego_embed_vjp", name, "bounded", {"coarse_assignment": structure, "coarse": table, "grad": singles(rng, 9, 4)}

    edges = eighths(rng, 4, 7)
    edges[0, :4] = 0.5, -0.5, 0.625, -0.625
    fine = fine_table(rng, (4, 7), 0.5)
    thresholds = {"eighths, some at the threshold": (edges, 0.5), "threshold 0": (edges, 0.0), "threshold 1": (edges * 2, 1.0)}
    for name, (table, tau) in thresholds.items():
        yield "soft_threshold", name, "exact", {"table": table, "threshold": tau}
        yield "soft_threshold_vjp", name, "exact", {"table": table, "threshold": tau, "grad": eighths(rng, 4, 7)}
        yield "fine_embed", name, "bounded", {"fine": table, "threshold": tau}
        yield "fine_embed_vjp", name, "bounded", {"fine": table, "threshold": tau, "grad": singles(rng, 4, 7)}
    for name, table, tau in (("drawn", fine, 0.3), ("an infinite threshold", fine, INF), ("large magnitude", fine * 1024, 0.5)):
        yield "soft_threshold", name, "bounded", {"table": table, "threshold": tau}
        yield "soft_threshold_vjp", name, "bounded", {"table": table, "threshold": tau, "grad": singles(rng, 4, 7)}
        yield "fine_embed", name, "bounded", {"fine": table, "threshold": tau}
        yield "fine_embed_vjp", name, "bounded", {"fine": table, "threshold": tau, "grad": singles(rng, 4, 7)}

    structure, drawn_structure = thin(rng, 6, 4, eighths), assignment(rng, 6, 4, 3)
    for name, own, weight, values, comparator in (
        ("eighths", structure, 0.25, eighths, "exact"),
        ("weight 0", structure, 0.0, eighths, "exact"),
        ("weight 1", structure, 1.0, eighths, "exact"),
        ("drawn", drawn_structure, 0.2, singles, "bounded"),
        ("weight 0.9", drawn_structure, 0.9, singles, "bounded"),
    ):
        given = {"fine_assignment": own, "weight": weight}
        yield "bridge", name, comparator, given | {"coarse": values(rng, 6, 5), "fine": values(rng, 4, 5)}
        yield "bridge_vjp", name, comparator, given | {"grad": values(rng, 6, 5)}

    positions = np.sort(np.argsort(rng.random((5, 7)), axis=1)[:, :3], axis=1)
    scatter = {"scores": singles(rng, 5, 3), "positions": positions, "dim": 7}
    yield "scatter_scores", "drawn", "bounded", scatter
    yield (
        "scatter_scores",
        "every column, in any order",
        "bounded",
        scatter | {"positions": np.argsort(rng.random((5, 3)), axis=1), "dim": 3},
    )
    yield "scatter_scores", "a position out of range", "raises", with_values(scatter, dim=int(positions.max()))
    yield "scatter_scores", "positions of another shape", "raises", with_values(scatter, positions=positions[:, :2])
    yield "draw_positions", "some columns", "drawn", {"n_rows": 500, "n_positions": 3, "dim": 7, "seed": 3}
    yield "draw_positions", "every column", "drawn", {"n_rows": 4, "n_positions": 5, "dim": 5, "seed": 3}
    yield "draw_positions", "no column", "drawn", {"n_rows": 4, "n_positions": 0, "dim": 5, "seed": 3}
    yield "draw_positions", "more than there are", "raises", {"n_rows": 4, "n_positions": 6, "dim": 5, "seed": 3}

    line = (np.arange(9)[:, None] ** 1.5 - 11) * np.array([1.0, -0.25, 0.5, 0.0625, 2.0])
    pca = {"rows": line.astype(np.float32), "n_components": 1, "alpha": 1.0, "seed": 4}
    yield "sparse_pca_scores", "rows on a line", "drawn", pca
    yield "sparse_pca_scores", "a strong penalty", "drawn", pca | {"alpha": 8.0}
    yield "sparse_pca_scores", "a penalty that leaves nothing", "drawn", pca | {"alpha": 1e6}
    yield "sparse_pca_scores", "a value that is not finite", "raises", with_values(pca, rows=spoilt(pca["rows"], NAN))
    settings = Settings(n_coarse=60, n_fine=0, dim=100)
    yield "start_coarse", "drawn", "drawn", {"n_entities": 700, "settings": settings, "seed": 2}
    settings = Settings(n_coarse=5, n_fine=8, dim=7, sparse_pca_components=4, sparse_pca_alpha=0.5)
    start = {"coarse": singles(rng, 5, 7), "settings": settings, "seed": 2}
    yield "start_fine", "more fine than coarse rows", "drawn", start
    halves = np.repeat(singles(rng, 2, 7), 40, axis=0)
    other = Settings(n_coarse=80, n_fine=33, dim=7, sparse_pca_components=4, sparse_pca_alpha=0.5)
    yield "start_fine", "forty rows of one kind, forty of another", "drawn", {"coarse": halves, "settings": other, "seed": 3}
    yield "start_fine", "rows all alike", "drawn", start | {"coarse": np.ones((5, 7), dtype=np.float32)}
    yield "start_fine", "a value that is not finite", "raises", with_values(start, coarse=spoilt(start["coarse"], INF))


def _propagation(rng: np.random.Generator) -> Iterator[Drawn]:
    def small(rng: np.random.Generator, *shape: int) -> Any:
        return eighths(rng, *shape) / 8 * rng.choice([1, 2], size=shape)

    for name, n_layers, values, nodes, comparator in (
        ("one layer of eighths", 1, eighths, eighths, "exact"),
        ("three layers", 3, singles, singles, "bounded"),
        ("no layer", 0, eighths, eighths, "exact"),
    ):
        graph = thin(rng, 10, 10, values)
        given = {"graph": graph, "n_layers": n_layers}
        yield "propagate_coarse", name, comparator, given | {"entities": nodes(rng, 7, 5), "coarse": nodes(rng, 3, 5)}
        yield "propagate_coarse_vjp", name, comparator, given | {"grad_entities": nodes(rng, 7, 5), "grad_coarse": nodes(rng, 3, 5)}
    chosen = model(rng, (4, 5, 3, 2, 7, 2))
    for name, n_layers, weight, values, comparator in (
        ("one layer of eighths", 1, 0.25, eighths, "exact"),
        ("one layer", 1, 0.2, singles, "bounded"),
        ("three layers", 3, 0.2, singles, "bounded"),
        ("two layers, weight 0.7", 2, 0.7, singles, "bounded"),
        ("no layer", 0, 0.5, eighths, "exact"),
    ):
        is_exact = comparator == "exact"
        structure = {
            "graph": thin(rng, 14, 14, small if is_exact else singles),
            "coarse_assignment": thin(rng, 9, 3, eighths) if is_exact else chosen.coarse_assignment,
            "fine_assignment": thin(rng, 3, 2, eighths) if is_exact else chosen.fine_assignment,
            "bridge_weight": weight,
            "n_layers": n_layers,
        }
        tables = {"entities": values(rng, 9, 7), "coarse": values(rng, 3, 7), "fine": values(rng, 2, 7)}
        yield "propagate_fine", name, comparator, structure | tables
        yield (
            "propagate_fine_vjp",
            name,
            comparator,
            structure | {f"grad_{key}": values(rng, *part.shape) for key, part in tables.items()},
        )


def _loss(rng: np.random.Generator) -> Iterator[Drawn]:
    users, items = rng.integers(4, size=9), rng.integers(6, size=9)
    for name, values, offset, comparator in (("eighths", eighths, 0.5, "exact"), ("drawn", singles, 0.3, "bounded")):
        given = {
            "entities": values(rng, 10, 5),
            "bias": values(rng, 10),
            "offset": offset,
            "n_users": 4,
            "users": users,
            "items": items,
        }
        yield "score_pairs", name, comparator, given
        yield "score_pairs_vjp", f"{name}, entities in several pairs", comparator, given | {"grad": values(rng, 9)}
    narrow = np.zeros((240, 2), dtype=np.float32)
    narrow[[3, 120, 130, 220]] = eighths(rng, 4, 2)
    pairs = {"users": np.array([3, 120], dtype=np.int8), "items": np.array([9, 99], dtype=np.int8)}
    given = {"entities": narrow, "bias": narrow[:, 0].copy(), "offset": 0.0, "n_users": 121} | pairs
    yield "score_pairs", "indices of 8 bits", "exact", given
    yield "score_pairs_vjp", "indices of 8 bits", "exact", given | {"grad": eighths(rng, 2)}
    many = np.zeros((33_000, 1), dtype=np.float32)
    many[[40, 32_768, 32_999, 32_000]] = eighths(rng, 4, 1) + 2
    pairs = {"users": np.array([40, 32_000]), "items": np.array([268, 499])}
    yield "score_pairs", "more entities than 15 bits count", "exact", {
        "entities": many, "bias": many[:, 0].copy(), "offset": 0.0, "n_users": 32_500} | pairs  # fmt: skip

    hand = np.array([0.0, 2.0, -2.0, 1000.0, -1000.0], dtype=np.float32)
    for name, positive, negative in (
        ("drawn", singles(rng, 7), singles(rng, 7)),
        ("equal scores", singles(rng, 3), None),
        ("softplus at 1000 and -1000", np.zeros(5, dtype=np.float32), hand),
        ("a large loss alone", np.array([-40.0, -700.0], dtype=np.float32), np.array([60.0, 500.0], dtype=np.float32)),
        ("differences from 21 to 29", np.array([-10.0, 8.5], dtype=np.float32), np.array([11.0, 37.5], dtype=np.float32)),
        ("a small loss alone", np.array([30.0, 20.0, 25.0], dtype=np.float32), np.array([-3.5, 1.25, -5.0], dtype=np.float32)),
        ("no triple", np.zeros(0, dtype=np.float32), np.zeros(0, dtype=np.float32)),
    ):
        given = {"positive_scores": positive, "negative_scores": positive if negative is None else negative}
        yield "bpr_loss", name, "bounded", given
        yield "bpr_loss_vjp", name, "bounded", given | {"grad": 1.0}
    yield "bpr_loss_vjp", "a gradient of its own", "bounded", given | {
        "positive_scores": singles(rng, 6), "negative_scores": singles(rng, 6), "grad": -2.5}  # fmt: skip

    none = np.zeros(0, dtype=np.int64)
    for name, values, batch, weight, comparator in (
        ("eighths", eighths, triples(rng, 4, 6, 8), 0.5, "exact"),
        ("drawn, entities in several triples", singles, triples(rng, 4, 6, 11), 5e-4, "bounded"),
        ("no triple", eighths, Triples(none, none, none), 0.5, "exact"),
    ):
        given = {"ego": values(rng, 10, 5) / (2 if comparator == "exact" else 1), "n_users": 4, "triples": batch, "weight": weight}
        yield "ego_penalty", name, comparator, given
        yield "ego_penalty_vjp", name, comparator, given | {"grad": 1.0}
    yield "ego_penalty_vjp", "a gradient of its own", "bounded", {
        "ego": singles(rng, 10, 5), "n_users": 4, "triples": triples(rng, 4, 6, 7), "weight": 0.3, "grad": -1.7}  # fmt: skip


def _optimiser(rng: np.random.Generator) -> Iterator[Drawn]:
    edges = eighths(rng, 4, 6) * 2
    edges[0, :3] = 0.5, -0.5, 0.625
    yield "clip", "eighths, some at the limit", "exact", {"grad": edges, "limit": 0.5}
    yield "clip", "an infinite limit", "exact", {"grad": edges, "limit": INF}
    yield "clip", "drawn", "bounded", {"grad": singles(rng, 5, 3), "limit": 0.7}
    yield "start_adam", "drawn", "exact", {"table": singles(rng, 3, 5)}

    def state(shape: tuple[int, ...], n_steps: int) -> AdamState:
        return AdamState(singles(rng, *shape), (singles(rng, *shape) ** 2 + 0.01).astype(np.float32), n_steps)

    settings, tight = Settings(), Settings(clip_limit=0.5, adam_beta1=0.75, adam_beta2=0.9375, adam_epsilon=0.125)
    still = AdamState(np.zeros((3, 5), dtype=np.float32), np.zeros((3, 5), dtype=np.float32), 0)
    sleeping = singles(rng, 3, 5)
    sleeping[:, 1:3] = 0
    for name, shape, own, n_steps, lr, grad in (
        ("first step", (3, 5), settings, 0, 0.001, singles(rng, 3, 5)),
        ("later step", (4, 3), settings, 7, 0.003, singles(rng, 4, 3)),
        ("a vector", (6,), settings, 2, 0.01, singles(rng, 6)),
        ("clipped, other settings", (5, 4), tight, 3, 0.0625, singles(rng, 5, 4)),
        ("clipped at 3", (2, 6), settings, 1, 0.01, (singles(rng, 2, 6) * 8).astype(np.float32)),
        ("entries that sleep", (3, 5), settings, 0, 0.01, sleeping),
        ("entries without gradient, but with moments", (3, 5), settings, 5, 0.01, sleeping),
        ("small gradients", (3, 5), settings, 0, 0.01, (singles(rng, 3, 5) * 2.0**-27).astype(np.float32)),
    ):
        start = still if n_steps == 0 else state(shape, n_steps)
        yield "adam_step", name, "bounded", {"table": singles(rng, *shape), "grad": grad, "state": start, "lr": lr, "settings": own}
    given = {"table": singles(rng, 3, 5), "grad": singles(rng, 3, 5), "state": still, "lr": 0.1, "settings": settings}
    yield "adam_step", "a gradient of another shape", "raises", with_values(given, grad=singles(rng, 5, 3))
    yield "adam_step", "a gradient that is not finite", "raises", with_values(given, grad=spoilt(given["grad"], NAN))


def _sampling(rng: np.random.Generator) -> Iterator[Drawn]:
    has = rng.random((7, 12)) < 0.4
    has[0] = False  # no item
    has[1] = True  # no unseen item
    has[2] = np.arange(12) > 1  # two unseen items
    has[3] = np.arange(12) == 4  # one item
    given = {"seen": matrix(has), "n_draws": 2000, "n_negatives": 3, "seed": 9}
    yield "sample_triples", "users with few or all items", "drawn", given
    many = np.zeros((301, 5))
    many[np.arange(301), rng.integers(5, size=301)] = many[np.arange(301), rng.integers(5, size=301)] = 1
    yield "sample_triples", "many users", "drawn", {"seen": matrix(many), "n_draws": 3000, "n_negatives": 2, "seed": 10}
    yield "sample_triples", "one draw", "drawn", {"seen": matrix(has[4:]), "n_draws": 1, "n_negatives": 5, "seed": 9}
    yield "sample_triples", "one negative", "drawn", given | {"n_negatives": 1}
    yield "sample_triples", "no draw", "drawn", given | {"n_draws": 0}
    yield "sample_triples", "a negative number of draws", "raises", with_values(given, n_draws=-1)


def _ranking(rng: np.random.Generator) -> Iterator[Drawn]:
    tied = (rng.integers(-2, 3, size=(5, 9)) / 8).astype(np.float32)
    masked = np.where(rng.random((5, 9)) < 0.4, -INF, tied).astype(np.float32)
    masked[2] = -INF
    for k in (0, 1, 4, 11):
        yield "rank_scores", f"ties, k = {k}", "exact", {"scores": tied, "k": k}
        yield "rank_scores", f"masked, k = {k}", "exact", {"scores": masked, "k": k}
    yield "rank_scores", "drawn", "ranked", {"scores": singles(rng, 4, 7), "k": 3}
    yield "rank_scores", "not a number", "raises", {"scores": spoilt(tied, NAN), "k": 3}
    yield "rank_scores", "a negative length", "raises", {"scores": tied, "k": -1}

    seen, users = pairs_matrix(rng, 6, 9, 0.3), np.array([4, 0, 2, 4])
    full = seen.toarray()
    full[2, 1:] = 1
    seen = matrix(full)
    low = (singles(rng, 6, 9) - 3000).astype(np.float32)
    for name, scores, k in (("ties", np.tile(tied[:2], (3, 1)), 6), ("a list longer than the items", tied[[0, 1, 2, 3, 4, 0]], 12)):
        yield "rank_by", name, "exact", {"scores": scores, "users": users, "seen": seen, "k": k}
    yield "rank_by", "scores far below -1024", "ranked", {"scores": low, "users": users, "seen": seen, "k": 5}
    yield "rank_by", "every user, a block and more", "ranked", {"scores": low, "users": np.arange(300) % 6, "seen": seen, "k": 2}
    zeros = seen.copy()
    zeros.data[::2] = 0
    yield "rank_by", "seen items stored as 0", "exact", {"scores": np.tile(tied[:2], (3, 1)), "users": users, "seen": zeros, "k": 6}
    yield "rank_by", "a user out of range", "raises", {"scores": low, "users": np.array([6]), "seen": seen, "k": 5}
    given = {"n_users": 6, "users": users, "seen": seen}
    exact = {"entities": eighths(rng, 15, 2), "bias": eighths(rng, 15)}
    for k in (1, 5, 12):
        yield "rank_items", f"eighths with ties, k = {k}", "exact", exact | given | {"k": k}
    yield "rank_items", "seen items stored as 0", "exact", exact | {"n_users": 6, "users": users, "seen": zeros, "k": 6}
    rough = {"entities": singles(rng, 15, 4), "bias": singles(rng, 15)}
    yield "rank_items", "drawn", "ranked", rough | given | {"k": 4}
    far = rough | {"bias": (singles(rng, 15) - 5000).astype(np.float32)}
    yield "rank_items", "scores far below -1024", "ranked", far | given | {"k": 7}
    yield "rank_items", "every user, a block and more", "ranked", rough | given | {"users": np.arange(300) % 6, "k": 2}
    yield "rank_items", "a user out of range", "raises", rough | given | {"users": np.array([0, 6]), "k": 4}
    yield "rank_items", "a bias of another length", "raises", rough | given | {"bias": singles(rng, 14), "k": 4}
    yield "rank_items", "a value that is not finite", "raises", rough | given | {"bias": spoilt(rough["bias"], NAN), "k": 4}

    held_out = pairs_matrix(rng, 5, 11, 0.3).toarray()
    held_out[:, 2] = 1
    held_out[3] = 1
    ranked = np.argsort(rng.random((5, 11)), axis=1)[:, :7]
    ranked[1, 4:] = -1
    ranked[4] = -1
    for k in (1, 3, 7):
        for operation in ("recall_at_k", "ndcg_at_k"):
            yield (
                operation,
                f"more and fewer held out than k = {k}",
                "bounded",
                {"ranked": ranked, "held_out": matrix(held_out), "k": k},
            )
    hand = {"ranked": np.array([[2, 0, 1]]), "held_out": matrix([[1, 1, 0, 0]]), "k": 2}
    stored = sparse.csr_array((np.array([0, 2, 1], dtype=np.float32), np.array([1, 4, 4]), np.array([0, 1, 3])), shape=(2, 6))
    odd = {"ranked": np.array([[5, 1, 0], [3, 4, 2]]), "held_out": stored, "k": 2}
    lonely = {"ranked": ranked, "held_out": matrix(np.where(np.arange(5)[:, None] == 2, 0, held_out)), "k": 3}
    for operation in ("recall_at_k", "ndcg_at_k"):
        yield operation, "by hand", "bounded", hand
        yield operation, "stored zeros and pairs stored twice", "bounded", odd
        yield operation, "a user without held-out items", "raises", lonely
        yield operation, "lists shorter than k", "raises", {"ranked": ranked, "held_out": matrix(held_out), "k": 8}
        yield (
            operation,
            "an item out of range",
            "raises",
            {"ranked": ranked + (ranked == 3) * 9, "held_out": matrix(held_out), "k": 7},
        )
    yield "mean_metrics", "drawn", "bounded", {"ranked": ranked, "held_out": matrix(held_out), "ks": np.array([2, 5])}
    yield "mean_metrics", "no user", "raises", {"ranked": ranked[:0], "held_out": matrix(np.zeros((0, 11))), "ks": np.array([2])}


def _stages(rng: np.random.Generator) -> Iterator[Drawn]:
    models = {
        "drawn": model(rng, (5, 7, 4, 3, 6, 9), clip_limit=0.0078125),
        "one layer, isolated entities": model(rng, (6, 5, 4, 3, 7, 8), isolated=True, n_layers=1, bridge_weight=0.3),
        "no layer": model(rng, (4, 6, 5, 3, 2, 7), n_layers=0),
        "t = 1, three layers": model(rng, (3, 5, 4, 2, 6, 7), coarse_per_entity=1, n_layers=3, fine_per_coarse=1),
        "weights of both signs": model(rng, (5, 4, 3, 6, 7, 8), low=-0.5, n_layers=1),
    }
    for name, own in models.items():
        graphs = {"norm_adjacency": own.norm_adjacency, "coarse_assignment": own.coarse_assignment}
        rest = {"n_users": own.n_users, "settings": own.settings}
        batch = {"bias": own.bias, "triples": own.triples}
        yield "embed_coarse", name, "bounded", graphs | rest | {"coarse": own.coarse}
        yield "coarse_loss_and_grad", name, "bounded", graphs | rest | {"coarse": own.coarse} | batch
        graphs |= {"fine_assignment": own.fine_assignment}
        tables = {"coarse": own.coarse, "fine": own.fine}
        yield "embed_fine", name, "bounded", graphs | rest | tables
        yield "fine_loss_and_grad", name, "bounded", graphs | rest | tables | batch

    own = models["drawn"]
    earlier, earlier_fine = assignment(rng, 12, 4, 2), assignment(rng, 4, 3, 2)
    coarse_graphs = {"norm_adjacency": own.norm_adjacency, "coarse_assignment": own.coarse_assignment}
    rest, batch = {"n_users": own.n_users, "settings": own.settings}, {"bias": own.bias, "triples": own.triples}
    coarse_pass = coarse_graphs | rest | {"coarse": own.coarse}
    fine_pass = coarse_graphs | {"fine_assignment": own.fine_assignment} | rest | {"coarse": own.coarse, "fine": own.fine}
    yield "prepare_coarse", "after a plan of another assignment", "bounded", {
        "norm_adjacency": own.norm_adjacency, "earlier_assignment": earlier, "coarse_assignment": own.coarse_assignment,
        **rest, "coarse": own.coarse}  # fmt: skip
    yield "prepare_fine", "after a plan of another assignment", "bounded", {
        **coarse_graphs, "earlier_assignment": earlier_fine, "fine_assignment": own.fine_assignment,
        **rest, "coarse": own.coarse, "fine": own.fine}  # fmt: skip

    none = np.zeros(0, dtype=np.int64)
    large = model(rng, (4, 3, 5, 2, 6, 8), n_layers=1)
    entities_bias = (singles(rng, 7) * 1000).astype(np.float32)
    alone = model(rng, (4, 5, 3, 0, 7, 6), n_layers=1)
    coarse_batches = {
        "no triple": coarse_pass | {"bias": own.bias, "triples": Triples(none, none, none)},
        "softplus far from 0": {
            "norm_adjacency": large.norm_adjacency, "coarse_assignment": large.coarse_assignment, "n_users": 4,
            "settings": large.settings, "coarse": large.coarse, "bias": entities_bias, "triples": large.triples},
        "a model of the coarse stage alone": {
            "norm_adjacency": alone.norm_adjacency, "coarse_assignment": alone.coarse_assignment, "n_users": 4,
            "settings": alone.settings, "coarse": alone.coarse, "bias": alone.bias, "triples": alone.triples},
    }  # fmt: skip
    for name, given in coarse_batches.items():
        yield "coarse_loss_and_grad", name, "bounded", given
    apart = {"bias": np.where(np.arange(12) % 2, 12, -12).astype(np.float32), "triples": own.triples}
    yield "coarse_loss_and_grad", "differences near 24", "bounded", coarse_pass | apart
    yield "fine_loss_and_grad", "differences near 24", "bounded", fine_pass | apart
    saturated = fine_pass | {"coarse": (own.coarse * 16).astype(np.float32)}
    yield "fine_loss_and_grad", "no triple", "bounded", fine_pass | {"bias": own.bias, "triples": Triples(none, none, none)}
    yield "fine_loss_and_grad", "saturated ego embeddings", "bounded", saturated | batch
    asleep = fine_pass | {"fine": (own.fine / 8).astype(np.float32)}
    yield "fine_loss_and_grad", "a fine table within the threshold", "bounded", asleep | batch

    wrong_table, wrong_bias = singles(rng, 4, 7), singles(rng, 11)
    outside = own.triples._replace(negatives=own.triples.negatives + 7)
    for operation, given in (("embed_coarse", coarse_pass), ("embed_fine", fine_pass)):
        yield operation, "a table of another shape", "raises", with_values(given, coarse=wrong_table)
        yield operation, "a value that is not finite", "raises", with_values(given, coarse=spoilt(own.coarse, NAN))
        yield operation, "more users than entities", "raises", with_values(given, n_users=13)
    for operation, given in (("coarse_loss_and_grad", coarse_pass | batch), ("fine_loss_and_grad", fine_pass | batch)):
        yield operation, "an item out of range", "raises", with_values(given, triples=outside)
        yield operation, "a bias of another length", "raises", with_values(given, bias=wrong_bias)
        yield operation, "a bias that is not finite", "raises", with_values(given, bias=spoilt(own.bias, INF))

    for name, chosen, lr in (
        ("refreshed at the fifth", model(rng, (6, 7, 4, 3, 5, 8), n_layers=1, adam_epsilon=8.0), 0.0625),
        ("clipped, two layers", model(rng, (7, 5, 3, 4, 6, 8), n_layers=2, clip_limit=0.015625, adam_epsilon=4.0), 0.03125),
    ):
        n_users, n_items, settings = chosen.n_users, chosen.n_items, chosen.settings
        batches = np.stack([np.stack(triples(rng, n_users, n_items, 8), axis=1) for _ in range(10)])
        graphs = {"norm_adjacency": chosen.norm_adjacency, "coarse_assignment": chosen.coarse_assignment}
        rest = {"n_users": n_users, "settings": settings}
        steps = {"bias": chosen.bias, "batches": batches, "lr": lr, "refresh_at": 4}
        yield "coarse_steps", name, "bounded", graphs | rest | {"coarse": chosen.coarse} | steps
        graphs |= {"fine_assignment": chosen.fine_assignment}
        yield "fine_steps", name, "bounded", graphs | rest | {"coarse": chosen.coarse, "fine": chosen.fine} | steps


def _memory(rng: np.random.Generator) -> Iterator[Drawn]:
    edges = eighths(rng, 5, 7)
    for tau in (0.0, 0.5, INF):
        yield "fine_sparsity", f"eighths, threshold {tau}", "bounded", {"fine": edges, "threshold": tau}
    yield "fine_sparsity", "no entry", "bounded", {"fine": np.zeros((0, 3), dtype=np.float32), "threshold": 1.0}
    own = model(rng, (5, 7, 4, 3, 6, 8), threshold=1.25)
    wide = model(rng, (3, 300, 260, 2, 5, 4))
    alone = model(rng, (4, 6, 5, 0, 3, 7))
    full = own._replace(fine=(np.abs(own.fine) + 2).astype(np.float32))
    for name in ("of four bytes", "of eight bytes"):
        for which, chosen in (("both stages", own), ("full", full), ("wide", wide), ("the coarse stage alone", alone)):
            has_fine = chosen.settings.n_fine > 0
            yield "stored_bytes", f"{which}, values {name}", "exact", {
                "settings": chosen.settings, "user_ids": np.arange(chosen.n_users), "item_ids": np.arange(chosen.n_items),
                "seen": pairs_matrix(rng, chosen.n_users, chosen.n_items, 0.4), "bias": chosen.bias, "coarse": chosen.coarse,
                "coarse_assignment": chosen.coarse_assignment, "fine": chosen.fine if has_fine else None,
                "fine_assignment": chosen.fine_assignment if has_fine else None}  # fmt: skip
    published = {"n_users": 29_858, "n_items": 40_981, "id_bytes": 4, "n_pairs": 810_128}
    for name, settings in (
        ("published", Settings()),
        ("the coarse stage alone", Settings(n_fine=0)),
        ("few components", Settings(n_coarse=257, n_fine=9, dim=12, sparse_pca_components=3, coarse_per_entity=3)),
        ("as many coarse rows as a byte counts", Settings(n_coarse=256)),
    ):
        yield "stored_bytes_bound", name, "exact", {"settings": settings} | published
    yield "stored_bytes_bound", "a negative size", "raises", {"settings": Settings()} | published | {"n_items": -1}
    yield "total_bytes", "seven terms", "exact", {"terms": np.array([3, 5, 7, 11, 13, 17, 19])}
