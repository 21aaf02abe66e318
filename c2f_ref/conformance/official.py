"""A module held against the official code's answers, a folder of files.

Each case starts from recorded numbers, so that a fault shows where it is and does not run on into the next; what a file does not
record is made by `c2f_ref.spec`. Only the training steps run the module's own functions one after the other, and so they fail too
where one of those does. A tie at the cut of a refresh would let two right implementations go different ways from there. None of the
ten files has one in its steps (the smallest gap is 3e-7 of the largest candidate), so what comes after a refresh is compared place
by place.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from os import PathLike
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from .. import spec
from ..spec import Float64Array
from ..spec.notation import BoolArray
from .cases import Case
from .comparators import RELATIVE
from .report import Report
from .runner import TIME_LIMIT, answers_of, result_of
from .vectors import STAGES, VectorError, Vectors, read_vectors


def run(
    module: ModuleType, folder: str | PathLike[str], *, time_limit: float = TIME_LIMIT, exits_when_stuck: bool = False
) -> Report:
    """Hold `module` against every .npz file in `folder`; the options are those of `check`.

    Errors: VectorError when there is none, or for the first that cannot be used.
    """
    paths = sorted(Path(folder).glob("*.npz"))
    if not paths:
        raise VectorError(f"{folder}: no .npz file in this folder")
    by_operation: dict[str, list[Case]] = {}
    for path in paths:
        vectors = read_vectors(path)
        try:
            for case in recorded_cases(vectors):
                by_operation.setdefault(case.operation, []).append(case)
        except (ValueError, IndexError) as error:  # of the specification, from numbers that no model has
            raise VectorError(f"{path}: {error}") from error
    answer = answers_of(module, time_limit, exits_when_stuck)
    results = (result_of(answer, operation, asked) for operation, asked in by_operation.items())
    return Report(module.__name__, f"{len(paths)} files of known answers", tuple(results))


def recorded_cases(v: Vectors) -> Iterator[Case]:
    """What one file asks for, from its graph to the training steps of both stages.

    `sample_triples` is not here: what it draws is random, and no file records it. Pull-backs without a case of their own are
    tested within the losses.

    Errors: ValueError for `fine_init.rows` that are not those that the official code drew, for a coarse graph with anything at fine
    nodes, and whatever the specification raises.
    """
    yield from _graphs(v)
    yield from _assignments(v)
    yield from _fine_start(v)
    yield from _propagation(v)
    yield from _losses(v)
    yield from _ranking(v)
    yield from _whole_model(v)


def _case(v: Vectors, operation: str, expected: dict[str, Any], comparator: str = "recorded", /, **inputs: Any) -> Case:
    return Case(operation, v.path.name, "float64", comparator, inputs, expected, {})


def _tied(case: Case, candidates: Float64Array) -> Case:
    return replace(case, allowed={"tied": tied_at_cut(candidates, case.inputs["k"])})


def _given(v: Vectors, stage: str, *names: str) -> dict[str, Any]:
    return {name: v.start(stage)[name] for name in names}


def _recorded(v: Vectors, stage: str, *names: str) -> dict[str, Any]:
    return {f"{stage}.{name}": v.array(f"{stage}.{name}") for name in names}


def tied_at_cut(candidates: Float64Array, k: int) -> BoolArray:
    """Which candidates of a top-k are within rounding of the k-th, so that any of them may be the one that is kept.

    Shapes: (n, m), 1 <= k <= m -> (n, m); True at the k-th itself.
    Source: the README beside the files of known answers.
    """
    cut = np.sort(candidates, axis=1)[:, -k, None]
    return np.asarray(np.abs(candidates - cut) <= RELATIVE * np.abs(candidates).max())


def _graphs(v: Vectors) -> Iterator[Case]:
    users, items, recorded = (v.array(name) for name in ("interactions.user", "interactions.item", "norm_adjacency"))
    sizes = {"n_users": v.n_users, "n_items": v.n_items}
    yield _case(v, "bipartite", {"norm_adjacency": np.sign(recorded)}, users=users, items=items, **sizes)
    yield _case(v, "normalise", {"norm_adjacency": recorded}, graph=spec.bipartite(users, items, **sizes))
    for stage, names in (("coarse", ("coarse_assignment",)), ("fine", ("coarse_assignment", "fine_assignment"))):
        expected = {f"{stage}.expanded_graph": _graph(v, stage).toarray()}
        yield _case(v, f"expand_{stage}", expected, **_given(v, stage, "norm_adjacency", *names))


def _graph(v: Vectors, stage: str) -> Any:
    """The expanded graph; the official one has room for fine nodes in the coarse stage too, and nothing in it."""
    n_nodes = v.n_users + v.n_items + v.settings.n_coarse + (v.settings.n_fine if stage == "fine" else 0)
    graph = v.arrays[f"{stage}.expanded_graph"]
    own = graph[:n_nodes, :n_nodes]
    if own.nnz != graph.nnz:
        raise ValueError(f"{stage}.expanded_graph: must join nothing to fine nodes, got {graph.nnz - own.nnz} entries there")
    return own


def _assignments(v: Vectors) -> Iterator[Case]:
    assignment, affinity = v.arrays["fine_init.coarse_assignment"], v.array("fine_init.entity_fine_affinity")
    # The parts themselves are not recorded: an entity's own is where its affinity is largest.
    expected = _recorded(v, "fine_init", "entity_fine_affinity")
    yield _case(v, "part_affinity", expected, labels=affinity.argmax(axis=1), n_parts=v.settings.n_fine)
    expected, k = _recorded(v, "fine_init", "fine_assignment"), v.settings.fine_per_coarse
    case = _case(v, "start_fine_assignment", expected, coarse_assignment=assignment, affinity=affinity, k=k)
    yield _tied(case, spec.softmax_rows(assignment.T @ affinity))
    for stage in STAGES:
        expected = _recorded(v, stage, "next_coarse_assignment")
        entities, coarse = v.array(f"{stage}.entity_out"), v.array(f"{stage}.coarse_out")
        case = _case(v, "refresh_coarse", expected, entities=entities, coarse=coarse, k=v.settings.coarse_per_entity)
        yield _tied(case, entities @ spec.pseudo_inverse(coarse, None))
    tables = {"coarse": coarse, "fine": v.array("fine.fine_out")}
    case = _case(v, "refresh_fine", _recorded(v, "fine", "next_fine_assignment"), entities=entities, **tables, k=k)
    coarse_use, fine_use = (entities @ spec.pseudo_inverse(table, None) for table in tables.values())
    yield _tied(case, spec.softmax_rows(coarse_use.T @ fine_use))


def _fine_start(v: Vectors) -> Iterator[Case]:
    settings, positions, rows = v.settings, v.array("fine_init.positions"), v.array("fine_init.rows")
    # The official code lets scikit-learn draw from NumPy's global generator, seeded with seed + 1 just before it drew the
    # rows. No source says so: it was found by trial, and all ten files agree with it.
    random_state = np.random.RandomState(v.seed + 1)
    drawn = random_state.randint(settings.n_coarse, size=settings.n_fine)
    if not np.array_equal(rows, drawn):
        raise ValueError(f"fine_init.rows: must be {drawn.tolist()}, as drawn with this seed, got {rows.tolist()}")
    # The scores are recorded only where they were put: they are read off there, and put back.
    scores = np.take_along_axis(v.array("fine_init.fine_meta"), positions, axis=1)
    given = {"rows": v.array("fine_init.coarse_meta")[rows], "n_components": positions.shape[1]}
    given |= {"alpha": settings.sparse_pca_alpha, "seed": random_state}
    yield _case(v, "sparse_pca_scores", {"fine_init.fine_meta": scores}, "iterated", **given)
    expected = _recorded(v, "fine_init", "fine_meta")
    yield _case(v, "scatter_scores", expected, scores=scores, positions=positions, dim=settings.dim)


def _propagation(v: Vectors) -> Iterator[Case]:
    for stage in STAGES:
        yield _case(v, "ego_embed", _recorded(v, stage, "ego"), **_given(v, stage, "coarse_assignment", "coarse"))
    weight, threshold, n_layers = v.settings.bridge_weight, v.settings.threshold, v.settings.n_layers
    given = {"graph": _graph(v, "coarse"), "n_layers": n_layers, "entities": v.array("coarse.ego")} | _given(v, "coarse", "coarse")
    yield _case(v, "propagate_coarse", _recorded(v, "coarse", "entity_out", "coarse_out"), **given)
    coarse, fine, assignment = _given(v, "fine", "coarse", "fine", "fine_assignment").values()
    given = {"graph": _graph(v, "fine")} | _given(v, "fine", "coarse_assignment", "fine_assignment")
    given |= {"weight": weight, "n_layers": n_layers, "entities": v.array("fine.ego")}
    given |= {"coarse": spec.bridge(assignment, weight, coarse, spec.soft_threshold(fine, threshold))}
    given |= {"fine": spec.fine_embed(fine, threshold)}
    yield _case(v, "propagate_fine", _recorded(v, "fine", "entity_out", "coarse_out", "fine_out"), **given)


def _losses(v: Vectors) -> Iterator[Case]:
    for stage in STAGES:
        users, *items = v.start(stage)["triples"]
        # The official code has the weight in two parts: loss = bpr + 1e-4 reg, and 5 within reg.
        given = {"ego": v.array(f"{stage}.ego")} | _given(v, stage, "n_users", "triples") | {"weight": 5.0}
        yield _case(v, "ego_penalty", _recorded(v, stage, "reg"), **given)
        given = {"entities": v.array(f"{stage}.entity_out"), **_given(v, stage, "bias"), "offset": 0.0, "n_users": v.n_users}
        positive, negative = (spec.score_pairs(**given, users=users, items=own) for own in items)
        yield _case(v, "bpr_loss", _recorded(v, stage, "bpr"), positive_scores=positive, negative_scores=negative)
        # The gradient of the table is not recorded, and that of the offset is 0 but for rounding.
        expected = {"grad_entities": None, **_recorded(v, stage, "grad.linear_weight"), "grad_offset": None}
        given |= {"users": np.tile(users, 2), "items": np.concatenate(items)}
        given["grad"] = np.concatenate(spec.bpr_loss_vjp(positive, negative, 1.0))
        yield _case(v, "score_pairs_vjp", expected, **given)


def _ranking(v: Vectors) -> Iterator[Case]:
    """Of the model that `eval.*` belongs to, the coarse one after its eight steps, for the users with a held-out item."""
    recorded, ks, offset = v.array("eval.scores"), v.array("eval.ks").tolist(), v.array("coarse.in.linear_bias").item()
    assignment, bias = v.arrays["coarse.traj.coarse_assignment"], v.array("coarse.traj.linear_weight")
    plan = spec.prepare_coarse(v.arrays["norm_adjacency"], assignment, v.n_users, v.settings)
    entities, _ = spec.embed_coarse(plan, v.array("coarse.traj.coarse_meta"))
    users, items = np.divmod(np.arange(recorded.size), v.n_items)
    given = {"entities": entities, "bias": bias, "offset": offset, "n_users": v.n_users, "users": users, "items": items}
    yield _case(v, "score_pairs", {"eval.scores": recorded.ravel()}, **given)

    held_out, seen = v.pairs("eval.test"), v.pairs("interactions")
    users = np.flatnonzero(np.diff(held_out.indptr))
    # What is the same for all items of a user is no part of a ranking; seen items are none either.
    scores = np.where(seen.toarray() > 0, -np.inf, recorded - offset - bias[: v.n_users, None])[users]
    expected = dict(zip(("items", "scores"), spec.rank_scores(scores, max(ks)), strict=True))
    given = {"entities": entities, "bias": bias, "n_users": v.n_users, "users": users, "seen": seen, "k": max(ks)}
    errors = np.full(scores.shape, RELATIVE * np.abs(recorded).max() / np.finfo(np.float64).eps)
    allowed = {"candidates": scores, "errors": errors}
    yield replace(_case(v, "rank_items", expected, "ranked", **given), allowed=allowed)
    for metric in ("recall", "ndcg"):
        for k, mean in zip(ks, v.array(f"eval.{metric}"), strict=True):
            given = {"ranked": expected["items"], "held_out": held_out[users], "k": k}
            yield _case(v, f"{metric}_at_k", {f"eval.{metric}": np.full(users.size, mean)}, "mean", **given)


def _whole_model(v: Vectors) -> Iterator[Case]:
    for stage, outputs, tables in (
        ("coarse", ("entity_out", "coarse_out"), ("coarse_meta",)),
        ("fine", ("entity_out", "coarse_out", "fine_out"), ("coarse_meta", "fine_meta")),
    ):
        model = v.start(stage)
        yield _case(v, f"embed_{stage}", _recorded(v, stage, *outputs), **model)
        grads = ("loss", *(f"grad.{name}" for name in (*tables, "linear_weight")))
        yield _case(v, f"{stage}_loss_and_grad", _recorded(v, stage, *grads), **model)
        trained = (f"traj.{name}" for name in ("loss", tables[-1], "linear_weight", f"{stage}_assignment"))
        lr, clip_limit, refresh_at = (v.array(f"{stage}.traj.{name}").item() for name in ("lr", "clip", "refresh_at"))
        model |= {"settings": replace(v.settings, clip_limit=clip_limit), "batches": v.array(f"{stage}.traj.triples")}
        yield _case(v, f"{stage}_steps", _recorded(v, stage, *trained), **model, lr=lr, refresh_at=refresh_at)
