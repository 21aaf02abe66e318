"""What every operation gives for a file of known answers: a function here has the name of the function that it tests.

Each starts from recorded numbers, so that a fault shows where it is and does not run on into the next; what a file does
not record is made by `c2f_ref.spec`.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

from .. import spec
from ..spec import Float64Array, IntArray
from ..spec.notation import BoolArray
from .checks import tied_at_cut
from .layout import STAGES
from .vectors import Vectors

OUTPUTS_OF_A_PASS = ("entity_out", "coarse_out", "fine_out")


class Answer(NamedTuple):
    """What an operation gives for the array `key`; `tied` and `iterated` as in `Check`."""

    key: str
    got: Any
    tied: BoolArray | None = None
    iterated: bool = False


def bipartite(ops: ModuleType, v: Vectors) -> Iterator[Answer]:
    graph = ops.bipartite(v.array("interactions.user"), v.array("interactions.item"), v.n_users, v.n_items)
    yield Answer("norm_adjacency", spec.normalise(graph))


def normalise(ops: ModuleType, v: Vectors) -> Iterator[Answer]:
    graph = spec.bipartite(v.array("interactions.user"), v.array("interactions.item"), v.n_users, v.n_items)
    yield Answer("norm_adjacency", ops.normalise(graph))


def expand_coarse(ops: ModuleType, v: Vectors) -> Iterator[Answer]:
    graph = ops.expand_coarse(v.matrix("norm_adjacency"), v.start("coarse").coarse_assignment)
    # The official graph has room for fine nodes in the coarse stage too, and nothing in it.
    yield Answer("coarse.expanded_graph", np.pad(graph.toarray(), (0, v.settings.n_fine)))


def expand_fine(ops: ModuleType, v: Vectors) -> Iterator[Answer]:
    start = v.start("fine")
    graph = ops.expand_fine(v.matrix("norm_adjacency"), start.coarse_assignment, start.fine_assignment)
    yield Answer("fine.expanded_graph", graph)


def part_affinity(ops: ModuleType, v: Vectors) -> Iterator[Answer]:
    # The parts themselves are not recorded: an entity's own is where its affinity is largest.
    labels = v.array("fine_init.entity_fine_affinity").argmax(axis=1)
    yield Answer("fine_init.entity_fine_affinity", ops.part_affinity(labels, v.settings.n_fine))


def start_fine_assignment(ops: ModuleType, v: Vectors) -> Iterator[Answer]:
    assignment, affinity = v.matrix("fine_init.coarse_assignment"), v.array("fine_init.entity_fine_affinity")
    k = v.settings.fine_per_coarse
    tied = tied_at_cut(spec.softmax_rows(assignment.T @ affinity), k)
    yield Answer("fine_init.fine_assignment", ops.start_fine_assignment(assignment, affinity, k), tied)


def refresh_coarse(ops: ModuleType, v: Vectors) -> Iterator[Answer]:
    k = v.settings.coarse_per_entity
    for stage in STAGES:
        entities, coarse = v.array(f"{stage}.entity_out"), v.array(f"{stage}.coarse_out")
        tied = tied_at_cut(entities @ spec.pseudo_inverse(coarse, None), k)
        yield Answer(f"{stage}.next_coarse_assignment", ops.refresh_coarse(entities, coarse, k), tied)


def refresh_fine(ops: ModuleType, v: Vectors) -> Iterator[Answer]:
    k = v.settings.fine_per_coarse
    entities, coarse, fine = (v.array(f"fine.{name}") for name in OUTPUTS_OF_A_PASS)
    coarse_use, fine_use = (entities @ spec.pseudo_inverse(table, None) for table in (coarse, fine))
    tied = tied_at_cut(spec.softmax_rows(coarse_use.T @ fine_use), k)
    yield Answer("fine.next_fine_assignment", ops.refresh_fine(entities, coarse, fine, k), tied)


def sparse_pca_scores(ops: ModuleType, v: Vectors) -> Iterator[Answer]:
    # The official code lets scikit-learn draw from NumPy's global generator, seeded with seed + 1 just before it drew the
    # rows. No source says so: it was found by trial, and all ten files agree with it.
    random_state = np.random.RandomState(v.seed + 1)
    yield Answer("fine_init.rows", random_state.randint(v.settings.n_coarse, size=v.settings.n_fine))
    positions, rows = v.positions(), v.array("fine_init.coarse_meta")[v.array("fine_init.rows")]
    scores = ops.sparse_pca_scores(rows, positions.shape[1], v.settings.sparse_pca_alpha, random_state=random_state)
    yield Answer("fine_init.fine_meta", spec.scatter_scores(scores, positions, v.settings.dim), iterated=True)


def scatter_scores(ops: ModuleType, v: Vectors) -> Iterator[Answer]:
    # The scores are recorded only where they were put: they are read off there and put back.
    positions = v.positions()
    scores = np.take_along_axis(v.array("fine_init.fine_meta"), positions, axis=1)
    yield Answer("fine_init.fine_meta", ops.scatter_scores(scores, positions, v.settings.dim))


def ego_embed(ops: ModuleType, v: Vectors) -> Iterator[Answer]:
    for stage in STAGES:
        start = v.start(stage)
        yield Answer(f"{stage}.ego", ops.ego_embed(start.coarse_assignment, start.coarse))


def propagate_coarse(ops: ModuleType, v: Vectors) -> Iterator[Answer]:
    # On the official graph: fine nodes, joined to nothing, begin as zeros and remain so.
    n_coarse, n_fine, dim = v.settings.n_coarse, v.settings.n_fine, v.settings.dim
    nodes = np.concatenate([v.start("coarse").coarse, np.zeros((n_fine, dim))])
    graph, ego = v.matrix("coarse.expanded_graph"), v.array("coarse.ego")
    entities, others = ops.propagate_coarse(graph, v.settings.n_layers, ego, nodes)
    yield Answer("coarse.entity_out", entities)
    yield Answer("coarse.coarse_out", others[:n_coarse])
    yield Answer("coarse.fine_out", others[n_coarse:])


def propagate_fine(ops: ModuleType, v: Vectors) -> Iterator[Answer]:
    settings, start = v.settings, v.start("fine")
    structure = v.matrix("fine.expanded_graph"), start.coarse_assignment, start.fine_assignment
    thresholded = spec.soft_threshold(start.fine, settings.threshold)
    bridged = spec.bridge(start.fine_assignment, settings.bridge_weight, start.coarse, thresholded)
    nodes = v.array("fine.ego"), bridged, spec.fine_embed(start.fine, settings.threshold)
    yield from _outputs("fine", ops.propagate_fine(*structure, settings.bridge_weight, settings.n_layers, *nodes))


def score_pairs(ops: ModuleType, v: Vectors) -> Iterator[Answer]:
    users, items = np.divmod(np.arange(v.n_users * v.n_items), v.n_items)
    offset = float(v.array("coarse.in.linear_bias")[0])
    scores = ops.score_pairs(*_trained_coarse(v), offset, v.n_users, users, items)
    yield Answer("eval.scores", np.reshape(scores, (v.n_users, v.n_items)))


def score_pairs_vjp(ops: ModuleType, v: Vectors) -> Iterator[Answer]:
    users, positives, negatives = v.triples()
    for stage in STAGES:
        entities, bias = v.array(f"{stage}.entity_out"), v.start(stage).bias
        slopes = spec.bpr_loss_vjp(*_batch_scores(v, stage), 1.0)
        positive = ops.score_pairs_vjp(entities, bias, 0.0, v.n_users, users, positives, slopes[0])
        negative = ops.score_pairs_vjp(entities, bias, 0.0, v.n_users, users, negatives, slopes[1])
        yield Answer(f"{stage}.grad.linear_weight", (positive[1] + negative[1])[:, None])
        yield Answer(f"{stage}.grad.linear_bias", [positive[2] + negative[2]])


def bpr_loss(ops: ModuleType, v: Vectors) -> Iterator[Answer]:
    for stage in STAGES:
        yield Answer(f"{stage}.bpr", ops.bpr_loss(*_batch_scores(v, stage)))


def ego_penalty(ops: ModuleType, v: Vectors) -> Iterator[Answer]:
    for stage in STAGES:
        # The official code has the weight in two parts: loss = bpr + 1e-4 reg, and 5 within reg.
        yield Answer(f"{stage}.reg", ops.ego_penalty(v.array(f"{stage}.ego"), v.n_users, v.triples(), 5.0))


def rank_items(ops: ModuleType, v: Vectors) -> Iterator[Answer]:
    users, held_out, ks = _evaluation(v)
    ranked, _ = ops.rank_items(*_trained_coarse(v), v.n_users, users, v.pairs("interactions"), max(ks))
    yield Answer("eval.recall", [spec.recall_at_k(ranked, held_out, k).mean() for k in ks])
    yield Answer("eval.ndcg", [spec.ndcg_at_k(ranked, held_out, k).mean() for k in ks])


def recall_at_k(ops: ModuleType, v: Vectors) -> Iterator[Answer]:
    _, held_out, ks = _evaluation(v)
    yield Answer("eval.recall", [ops.recall_at_k(_ranked(v), held_out, k).mean() for k in ks])


def ndcg_at_k(ops: ModuleType, v: Vectors) -> Iterator[Answer]:
    _, held_out, ks = _evaluation(v)
    yield Answer("eval.ndcg", [ops.ndcg_at_k(_ranked(v), held_out, k).mean() for k in ks])


def embed_coarse(ops: ModuleType, v: Vectors) -> Iterator[Answer]:
    yield from _outputs("coarse", ops.embed_coarse(_coarse_plan(ops, v), v.start("coarse").coarse))


def embed_fine(ops: ModuleType, v: Vectors) -> Iterator[Answer]:
    start = v.start("fine")
    yield from _outputs("fine", ops.embed_fine(_fine_plan(ops, v), start.coarse, start.fine))


def coarse_loss_and_grad(ops: ModuleType, v: Vectors) -> Iterator[Answer]:
    start = v.start("coarse")
    loss, grad_coarse, grad_bias = ops.coarse_loss_and_grad(_coarse_plan(ops, v), start.coarse, start.bias, v.triples())
    yield Answer("coarse.loss", loss)
    yield Answer("coarse.grad.coarse_meta", grad_coarse)
    yield Answer("coarse.grad.linear_weight", grad_bias[:, None])


def fine_loss_and_grad(ops: ModuleType, v: Vectors) -> Iterator[Answer]:
    coarse, fine, bias, *_ = v.start("fine")
    loss, grad_coarse, grad_fine, grad_bias = ops.fine_loss_and_grad(_fine_plan(ops, v), coarse, fine, bias, v.triples())
    yield Answer("fine.loss", loss)
    yield Answer("fine.grad.coarse_meta", grad_coarse)
    yield Answer("fine.grad.fine_meta", grad_fine)
    yield Answer("fine.grad.linear_weight", grad_bias[:, None])


def _outputs(stage: str, tables: tuple[Float64Array, ...]) -> Iterator[Answer]:
    """A forward pass has two tables in the coarse stage and three in the fine one."""
    names = OUTPUTS_OF_A_PASS[: 2 + STAGES.index(stage)]
    yield from (Answer(f"{stage}.{name}", got) for name, got in zip(names, tables, strict=True))


def _coarse_plan(ops: ModuleType, v: Vectors) -> Any:
    return ops.prepare_coarse(v.matrix("norm_adjacency"), v.start("coarse").coarse_assignment, v.n_users, v.settings)


def _fine_plan(ops: ModuleType, v: Vectors) -> Any:
    start = v.start("fine")
    return ops.prepare_fine(v.matrix("norm_adjacency"), start.coarse_assignment, start.fine_assignment, v.n_users, v.settings)


def _batch_scores(v: Vectors, stage: str) -> tuple[Float64Array, Float64Array]:
    """Scores of the batch's positives and of its negatives."""
    users, positives, negatives = v.triples()
    given = v.array(f"{stage}.entity_out"), v.start(stage).bias, 0.0, v.n_users, users
    return spec.score_pairs(*given, positives), spec.score_pairs(*given, negatives)


def _trained_coarse(v: Vectors) -> tuple[Float64Array, Float64Array]:
    """Propagated entities and bias of the model that `eval.*` belongs to: the coarse one after its eight steps."""
    assignment = v.matrix("coarse.traj.coarse_assignment")
    plan = spec.prepare_coarse(v.matrix("norm_adjacency"), assignment, v.n_users, v.settings)
    entities, _ = spec.embed_coarse(plan, v.array("coarse.traj.coarse_meta"))
    return entities, v.array("coarse.traj.linear_weight").ravel()


def _evaluation(v: Vectors) -> tuple[IntArray, sparse.csr_array, list[int]]:
    """Users with a held-out item, the held-out items of each, and the ks."""
    held_out = v.pairs("eval.test")
    users = np.flatnonzero(np.diff(held_out.indptr))
    return users, held_out[users], v.array("eval.ks").tolist()


def _ranked(v: Vectors) -> IntArray:
    """Lists of the users with a held-out item, by recorded scores, without the items they trained on."""
    users, _, ks = _evaluation(v)
    masked = np.where(v.pairs("interactions").toarray() > 0, -np.inf, v.array("eval.scores"))
    return spec.rank_scores(masked[users], max(ks))[0]
