"""How much memory training takes: a formula, term by term."""

from __future__ import annotations

from ..spec import Settings
from .recipes import Recipe, Schedule

FLOAT, INDEX, LONG = 4, 4, 8
"""Bytes of a number of the graph (float32), of an index (int32), and of what is float64 or int64."""
ENTRY = FLOAT + INDEX
"""Bytes of an entry of a sparse matrix in float32."""
WORK_TABLES = 4
"""Tables of a row per node in which a step is computed: the first layer, two that products go to and fro between, a gradient."""
ROWS_PER_BLOCK, USERS_PER_BLOCK = 4096, 128
"""Blocks of a refresh, and of a ranking, of which each thread has one."""
PARTITION = 214
"""Bytes of a pair while `c2f_ref.spec.partition` lists the edges: 32 of the graph, the rest measured."""


def training_bytes(
    settings: Settings, recipe: Recipe, n_users: int, n_items: int, n_pairs: int, n_valid: int = 0, n_threads: int = 1
) -> dict[str, int]:
    """Bytes that the arrays of `train` take when they are most, by term: those of the largest of `training_moments`.

    Linear in entities and in pairs. There is no table of (N, C): a refresh goes by blocks of rows, so that its term stops growing
    with entities where every thread has a whole block. P (N, F), in float64, is there before the fine stage begins.

    Edge: for `c2f_ref.fast` on a float32 graph, and our own partition. Not counted: the split, which is the caller's (16 bytes a
    pair); checkpoints while they are written; the interpreter, libraries and compiled code, about 200 MiB; what the allocator
    keeps of what was given back.
    """
    moments = training_moments(settings, recipe, n_users, n_items, n_pairs, n_valid, n_threads)
    return max(moments.values(), key=lambda terms: sum(terms.values()))


def training_moments(
    settings: Settings, recipe: Recipe, n_users: int, n_items: int, n_pairs: int, n_valid: int = 0, n_threads: int = 1
) -> dict[str, dict[str, int]]:
    """Bytes by term at each moment at which they may be most: {"coarse sampling": {"adjacency": ..., ...}, ...}.

    `n_pairs` and `n_valid` count training and validation pairs, `n_threads` those of compiled loops. Once a stage has begun, there
    is what it keeps, and what a moment needs besides.
    """
    counts = n_users, n_items, n_pairs, n_threads
    moments = {}
    stages = {"coarse": recipe.coarse} | ({"fine": recipe.fine} if settings.n_fine else {})
    for stage, schedule in stages.items():
        for moment, terms in _beginning(settings, stage == "fine", n_users + n_items, n_pairs).items():
            moments[f"{stage} {moment}"] = terms
        kept = _kept(settings, stage == "fine", n_users, n_items, n_pairs, n_valid)
        for moment, terms in _passing(settings, stage == "fine", schedule, *counts).items():
            moments[f"{stage} {moment}"] = kept | terms
    return moments


def _beginning(settings: Settings, is_fine: bool, n_entities: int, n_pairs: int) -> dict[str, dict[str, int]]:
    """What there is at moments before the first step."""
    adjacency = {"adjacency": 2 * n_pairs * ENTRY + n_entities * INDEX}
    moments = {"partition": adjacency | {"graph and lists of edges": PARTITION * n_pairs}}
    if is_fine:
        moments["affinity"] = adjacency | {"affinity": n_entities * settings.n_fine * LONG}
    return moments


def _kept(settings: Settings, is_fine: bool, n_users: int, n_items: int, n_pairs: int, n_valid: int) -> dict[str, int]:
    """What there is from the first step of a stage to its last."""
    n_entities, n_coarse, t = n_users + n_items, settings.n_coarse, settings.coarse_per_entity
    n_nodes = n_entities + n_coarse + is_fine * settings.n_fine
    assigned = t * n_entities
    n_rows = settings.n_fine if is_fine else n_coarse
    # Now, the best of this phase and the best of the first; the fine stage has the last two of the coarse one besides.
    assignments = 2 if is_fine else 3
    coarse_tables = 2 if is_fine else 0
    return {
        "adjacency, as given and renumbered": 2 * (2 * n_pairs * ENTRY + n_entities * INDEX),
        "numbering": 2 * n_entities * LONG,
        "expanded graph": _n_entries(settings, is_fine, n_entities, n_pairs) * ENTRY + n_nodes * LONG,
        "assignment and its transpose": 2 * assigned * ENTRY + (n_entities + n_coarse) * LONG,
        "assignments of best models": assignments * (assigned * (LONG + INDEX) + n_entities * INDEX),
        "pairs to draw from and to validate on": (n_pairs + n_valid) * (LONG + INDEX) + 2 * n_users * INDEX,
        # A table, two moments, and the tables of both best models.
        "tables": (5 * n_rows + coarse_tables * n_coarse) * settings.dim * LONG,
        "biases": (5 + coarse_tables) * n_entities * LONG,
        "work tables": WORK_TABLES * n_nodes * settings.dim * FLOAT,
    }


def _passing(
    settings: Settings, is_fine: bool, schedule: Schedule, n_users: int, n_items: int, n_pairs: int, n_threads: int
) -> dict[str, dict[str, int]]:
    """What each moment needs besides."""
    n_entities, n_coarse, t = n_users + n_items, settings.n_coarse, settings.coarse_per_entity
    n_nodes = n_entities + n_coarse + is_fine * settings.n_fine
    n_draws = schedule.draws_per_epoch or n_pairs
    n_triples = n_draws * schedule.n_negatives
    triples = {"triples": 3 * n_triples * LONG}
    choosing = {"embeddings that negatives are chosen by": n_entities * settings.dim * FLOAT}
    n_entries = _n_entries(settings, is_fine, n_entities, n_pairs)
    n_apart = round(schedule.disjoint_share * n_pairs)
    n_left = n_pairs - n_apart
    smaller = 2 * n_left * ENTRY + n_entities * INDEX
    graph_of_epoch = {
        "smaller adjacency, as given and renumbered": 2 * smaller,
        "smaller expanded graph": (n_entries - 2 * n_apart) * ENTRY + n_nodes * LONG,
        "its assignment and the transpose": 2 * t * n_entities * ENTRY + (n_entities + n_coarse) * LONG,
    }
    epoch = triples | (choosing if schedule.n_candidates > 1 else {}) | (graph_of_epoch if n_apart else {})
    embeddings = {"embeddings": n_nodes * settings.dim * FLOAT}
    block = min(n_threads * ROWS_PER_BLOCK, n_entities) * (n_coarse + is_fine * settings.n_fine)
    chosen = 0 if is_fine else t * n_entities * (FLOAT + LONG)
    moments = {
        "sampling": triples
        | {
            "draws": n_draws * 2 * INDEX + n_triples * INDEX,
            "pairs in order": n_pairs * (LONG + INDEX) + 2 * n_users * INDEX,
        },
        "refresh": epoch
        | embeddings
        | {"block of similarities, and which are finite": block * (FLOAT + 1), "largest of every row": chosen},
        "rebuilding": epoch
        | {
            "adjacency in float64": 2 * n_pairs * LONG,
            "graph in float64": n_entries * (LONG + INDEX) + 4 * n_nodes * LONG,
            "graph": n_entries * ENTRY + n_nodes * LONG,
        },
        "evaluation": embeddings
        | {
            "scores of a block of users": min(n_threads * USERS_PER_BLOCK, n_users) * n_items * FLOAT,
            "lists": n_users * schedule.selection_k * (LONG + FLOAT),
            "pairs in order": n_pairs * (LONG + INDEX) + 2 * n_users * INDEX,
        },
    }
    # Triples are copied when those are dropped whose negative is in the graph.
    dropping = {"triples that stay": 3 * n_triples * LONG, "which those are": n_triples}
    return moments | ({"dropping": triples | dropping | {"smaller adjacency": smaller}} if n_apart else {})


def _n_entries(settings: Settings, is_fine: bool, n_entities: int, n_pairs: int) -> int:
    """Stored entries of the expanded graph: every pair and every assignment in both directions."""
    of_coarse = settings.fine_per_coarse * settings.n_coarse if is_fine else 0
    return 2 * (n_pairs + settings.coarse_per_entity * n_entities + of_coarse)
