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
    counts = n_users, n_items, n_pairs, n_valid, n_threads
    moments = _of_stage("coarse", settings, recipe.coarse, *counts)
    return moments | (_of_stage("fine", settings, recipe.fine, *counts) if settings.n_fine else {})


def _of_stage(
    stage: str, settings: Settings, schedule: Schedule, n_users: int, n_items: int, n_pairs: int, n_valid: int, n_threads: int
) -> dict[str, dict[str, int]]:
    """Those of one stage: two before its first step, and then all others."""
    is_fine = stage == "fine"
    n_entities, n_coarse, n_fine, dim = n_users + n_items, settings.n_coarse, settings.n_fine * is_fine, settings.dim
    n_nodes = n_entities + n_coarse + n_fine
    n_assigned = settings.coarse_per_entity * n_entities
    # Of the expanded graph: every pair and every assignment in both directions.
    n_entries = 2 * (n_pairs + n_assigned + settings.fine_per_coarse * n_coarse * is_fine)
    n_draws = schedule.draws_per_epoch or n_pairs
    n_triples = n_draws * schedule.n_negatives
    n_apart = round(schedule.disjoint_share * n_pairs)
    adjacency, smaller = (2 * n * ENTRY + n_entities * INDEX for n in (n_pairs, n_pairs - n_apart))
    assignment = 2 * n_assigned * ENTRY + (n_entities + n_coarse) * LONG
    in_order = {"pairs in order": n_pairs * (LONG + INDEX) + 2 * n_users * INDEX}
    embeddings = {"embeddings": n_nodes * dim * FLOAT}

    moments = {"partition": {"adjacency": adjacency, "graph and lists of edges": PARTITION * n_pairs}}
    if is_fine:
        moments["affinity"] = {"adjacency": adjacency, "affinity": n_entities * n_fine * LONG}

    # Now, the best of this phase and the best of the first; the fine stage has the last two of the coarse one besides.
    n_assignments, n_coarse_tables, n_rows = (2, 2, n_fine) if is_fine else (3, 0, n_coarse)
    kept = {
        "adjacency, as given and renumbered": 2 * adjacency,
        "numbering": 2 * n_entities * LONG,
        "expanded graph": n_entries * ENTRY + n_nodes * LONG,
        "assignment and its transpose": assignment,
        "assignments of best models": n_assignments * (n_assigned * (LONG + INDEX) + n_entities * INDEX),
        "pairs to draw from and to validate on": (n_pairs + n_valid) * (LONG + INDEX) + 2 * n_users * INDEX,
        # A table, two moments, and the tables of both best models.
        "tables": (5 * n_rows + n_coarse_tables * n_coarse) * dim * LONG,
        "biases": (5 + n_coarse_tables) * n_entities * LONG,
        "work tables": WORK_TABLES * n_nodes * dim * FLOAT,
    }

    triples = {"triples": 3 * n_triples * LONG}
    epoch = dict(triples)
    if schedule.n_candidates > 1:
        epoch["embeddings that negatives are chosen by"] = n_entities * dim * FLOAT
    if n_apart:
        epoch["smaller adjacency, as given and renumbered"] = 2 * smaller
        epoch["smaller expanded graph"] = (n_entries - 2 * n_apart) * ENTRY + n_nodes * LONG
        epoch["its assignment and the transpose"] = assignment
    block = min(n_threads * ROWS_PER_BLOCK, n_entities) * (n_coarse + n_fine)
    passing = {
        "sampling": {**triples, "draws": n_draws * 2 * INDEX + n_triples * INDEX, **in_order},
        "refresh": {
            **epoch,
            **embeddings,
            "block of similarities, and which are finite": block * (FLOAT + 1),
            "largest of every row": 0 if is_fine else n_assigned * (FLOAT + LONG),
        },
        "rebuilding": {
            **epoch,
            "adjacency in float64": 2 * n_pairs * LONG,
            "graph in float64": n_entries * (LONG + INDEX) + 4 * n_nodes * LONG,
            "graph": n_entries * ENTRY + n_nodes * LONG,
        },
        "evaluation": {
            **embeddings,
            "scores of a block of users": min(n_threads * USERS_PER_BLOCK, n_users) * n_items * FLOAT,
            "lists": n_users * schedule.selection_k * (LONG + FLOAT),
            **in_order,
        },
    }
    if n_apart:
        # Triples are copied when those are dropped whose negative is in the graph.
        dropping = {"triples that stay": 3 * n_triples * LONG, "which those are": n_triples, "smaller adjacency": smaller}
        passing["dropping"] = triples | dropping
    moments |= {moment: kept | terms for moment, terms in passing.items()}
    return {f"{stage} {moment}": terms for moment, terms in moments.items()}
