"""Reads a file of recorded arrays, and computes every array in it again.

`tests/vectors/README.md` says what a file holds. Each array is computed from recorded ones, so that
a fault shows where it is; only training steps and rankings call several functions in turn. A
tie at the cut of a refresh would let two right implementations go different ways from there. None
of the ten files has one in its steps: the smallest gap is 3e-7 of the largest candidate.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

from c2f_ref import method
from c2f_ref.conformance import Case
from c2f_ref.conformance.judge import as_dense, compare
from c2f_ref.conformance.run import call
from c2f_ref.method import Settings, Triples

RELATIVE = 1e-10
"""Tolerance as a share of the largest entry: thousands of roundings, no wrong formula."""
RELATIVE_ITERATED, RELATIVE_ENTRY = 1e-6, 1e-3
"""For SparsePCA, of the largest entry; and of each entry, so that 1 % of a small one is seen."""
GIVEN_OF_STAGE = ("in.", "traj.triples.", "traj.lr.", "traj.clip.", "traj.refresh_at.")
GIVEN = ("interactions.", "triples.", "eval.test.", "eval.ks.", "fine_init.positions.")
GIVEN += tuple(f"{stage}.{name}" for stage in ("coarse", "fine") for name in GIVEN_OF_STAGE)
SIZES = ("n_coarse", "n_fine", "dim", "n_layers", "coarse_per_entity", "fine_per_coarse")


class Answer(NamedTuple):
    """An array of the file, and what an implementation gives in its place."""

    key: str
    expected: Any
    got: Any
    is_iterated: bool = False
    tied: Any = None
    """Entries that may have changed places within their row."""

    def tolerance(self) -> Any:
        """How far each entry may be off; zeros must be zeros where all are."""
        size = np.abs(self.expected)
        allowed = np.full(size.shape, RELATIVE * size.max(initial=0.0))
        if not self.is_iterated:
            return allowed
        of_entry = RELATIVE_ENTRY * size + allowed
        return np.minimum(RELATIVE_ITERATED * size.max(initial=0.0), of_entry)

    def compared(self) -> tuple[float, str]:
        """Largest error as a share of the tolerance, and what is wrong if that is above 1."""
        expected, got = (np.array(part, dtype=np.float64) for part in (self.expected, self.got))
        if got.shape != expected.shape:
            return np.inf, f"{self.key}: expected shape {expected.shape}, got {got.shape}"
        for row in () if self.tied is None else np.flatnonzero(self.tied.sum(axis=1) > 1):
            for table in (expected[row], got[row]):
                table[self.tied[row]] = np.sort(table[self.tied[row]])
        return compare(self.key, expected, got, self._replace(expected=expected).tolerance())


class Recorded:
    """One file; sparse arrays are in CSR form, axes of length 1 of biases and offsets are gone."""

    def __init__(self, path: Path) -> None:
        with np.load(path, allow_pickle=False) as file:
            stored = dict(file)
        config = json.loads(str(stored.pop("config")))
        self.n_users, self.n_items, seed = (config[n] for n in ("n_users", "n_items", "seed"))
        named = {n: config[n] for n in (*SIZES, "threshold", "sparse_pca_components")}
        self.settings = Settings(**named, bridge_weight=config["gate"], l2_weight=config["l2"])
        self.random_state = np.random.RandomState(seed + 1)
        n_components = min(config["sparse_pca_components"], config["dim"])
        every = np.tile(np.arange(n_components), (config["n_fine"], 1))
        stored.setdefault("fine_init.positions", every)
        self.arrays: dict[str, Any] = {}
        for key, array in stored.items():
            name, _, part = key.rpartition(".")
            if part == "val":
                places = stored[f"{name}.row"], stored[f"{name}.col"]
                matrix = sparse.coo_array((array, places), shape=tuple(stored[f"{name}.shape"]))
                assert matrix.tocsr().nnz == array.size, f"{name}: a place is stored twice"
                self.arrays[name] = matrix.tocsr()
            elif part not in ("row", "col", "shape"):
                is_column = "linear_" in part and array.shape[-1] == 1
                self.arrays[key] = array[..., 0] if is_column else array

    def __getitem__(self, key: str) -> Any:
        return self.arrays[key]

    def outputs(self) -> set[str]:
        """Names of everything that the official code computed."""
        return {key for key in self.arrays if not f"{key}.".startswith(GIVEN)}

    def pairs(self, name: str) -> sparse.csr_array:
        """User-item pairs as a pattern (U, I)."""
        places = self[f"{name}.user"], self[f"{name}.item"]
        shape = self.n_users, self.n_items
        return sparse.csr_array((np.ones(places[0].size), places), shape=shape)

    def start(self, stage: str) -> dict[str, Any]:
        """What the functions of a stage are given, by our names."""
        inputs = {"norm_adjacency": self["norm_adjacency"], "n_users": self.n_users}
        for part in ("coarse", "fine")[: 1 + (stage == "fine")]:
            inputs[f"{part}_assignment"] = self[f"{stage}.in.{part}_assignment"]
            inputs[part] = self[f"{stage}.in.{part}_meta"]
        return inputs | {"settings": self.settings, "bias": self[f"{stage}.in.linear_weight"]}


def answers(ops: Any, v: Recorded) -> Iterator[Answer]:
    """Every output of a file, computed by the functions of an implementation."""
    yield from _starts(ops, v)
    for stage in ("coarse", "fine"):
        yield from _stage(ops, v, stage)
    yield from _refreshes(ops, v)
    yield from _ranking(ops, v)


def _of(v: Recorded, key: str, got: Any, **how: Any) -> Answer:
    return Answer(key, as_dense(v[key]), as_dense(got), **how)


def tied_at_cut(candidates: Any, k: int) -> Any:
    """Candidates within rounding of the k-th of their row: any of them may be the one kept."""
    cut = np.sort(candidates, axis=1)[:, -k, None]
    return np.abs(candidates - cut) <= RELATIVE * np.abs(candidates).max()


def _starts(ops: Any, v: Recorded) -> Iterator[Answer]:
    settings, given = v.settings, (v["interactions.user"], v["interactions.item"])
    graph = ops.bipartite(*given, v.n_users, v.n_items)
    yield _of(v, "norm_adjacency", ops.normalise(graph))
    # The parts are not recorded: the affinity of an entity is largest at its part.
    assignment = v["coarse.traj.coarse_assignment"]
    affinity = as_dense(v["fine_init.entity_fine_affinity"])
    labels, k = affinity.argmax(axis=1), settings.fine_per_coarse
    yield _of(v, "fine_init.entity_fine_affinity", ops.part_affinity(labels, settings.n_fine))
    tied = tied_at_cut(method.softmax_rows(assignment.T @ affinity), k)
    got = ops.start_fine_assignment(assignment, affinity, k)
    yield _of(v, "fine_init.fine_assignment", got, tied=tied)
    # The official code draws from NumPy's global generator, seeded with seed + 1 just before it
    # draws the rows; scikit-learn goes on with it. Found by trial: all ten files agree.
    state = np.random.RandomState()
    state.set_state(v.random_state.get_state())
    rows = state.randint(settings.n_coarse, size=settings.n_fine)
    yield _of(v, "fine_init.rows", rows)
    positions, alpha = v["fine_init.positions"], settings.sparse_pca_alpha
    drawn, n_components = v["fine_init.coarse_meta"][rows], positions.shape[1]
    scores = ops.sparse_pca_scores(drawn, n_components, alpha, random_state=state)
    got = ops.scatter_scores(scores, positions, settings.dim)
    yield _of(v, "fine_init.fine_meta", got, is_iterated=True)


def _stage(ops: Any, v: Recorded, stage: str) -> Iterator[Answer]:
    settings, inputs, triples = v.settings, v.start(stage), Triples(*v["triples"].T)
    coarse, fine = (v[f"{stage}.in.{name}_meta"] for name in ("coarse", "fine"))
    bias = inputs["bias"]
    s_c, s_f = (v[f"{stage}.in.{name}_assignment"] for name in ("coarse", "fine"))
    weight, tau, graph = settings.bridge_weight, settings.threshold, v[f"{stage}.expanded_graph"]
    ego, names, tables = v[f"{stage}.ego"], ["entity_out", "coarse_out"], ["coarse_meta"]
    yield _of(v, f"{stage}.ego", ops.ego_embed(s_c, coarse))
    if stage == "coarse":
        expanded = ops.expand_coarse(v["norm_adjacency"], s_c)
        n = expanded.shape[0]  # the official graph has room for fine nodes, without an edge
        got = ops.propagate_coarse(graph[:n, :n].tocsr(), settings.n_layers, ego, coarse)
        expanded = np.pad(as_dense(expanded), (0, graph.shape[0] - n))
        yield _of(v, "coarse.fine_out", np.zeros(fine.shape))  # nothing reaches the fine nodes
    else:
        expanded = ops.expand_fine(v["norm_adjacency"], s_c, s_f)
        names, tables = [*names, "fine_out"], [*tables, "fine_meta"]
        bridged = ops.bridge(s_f, weight, coarse, ops.soft_threshold(fine, tau))
        nodes = ego, bridged, ops.fine_embed(fine, tau)
        got = ops.propagate_fine(graph, s_c, s_f, weight, settings.n_layers, *nodes)
    yield _of(v, f"{stage}.expanded_graph", expanded)
    embedded = call(ops, _case(f"embed_{stage}", {k: x for k, x in inputs.items() if k != "bias"}))
    for results in (got, embedded):
        for name, result in zip(names, results, strict=True):
            yield _of(v, f"{stage}.{name}", result)

    # The official weight is in two parts: loss = bpr + 1e-4 reg, and 5 within reg.
    yield _of(v, f"{stage}.reg", ops.ego_penalty(ego, v.n_users, triples, 5.0))
    entities, offset = v[f"{stage}.entity_out"], v[f"{stage}.in.linear_bias"].item()
    users, *both = triples
    scores = [ops.score_pairs(entities, bias, offset, v.n_users, users, items) for items in both]
    yield _of(v, f"{stage}.bpr", ops.bpr_loss(*scores))
    grad = np.concatenate(ops.bpr_loss_vjp(*scores, 1.0))
    pairs = np.tile(users, 2), np.concatenate(both)
    _, grad_bias, _ = ops.score_pairs_vjp(entities, bias, offset, v.n_users, *pairs, grad)
    yield _of(v, f"{stage}.grad.linear_weight", grad_bias)
    yield _of(v, f"{stage}.grad.linear_bias", 0.0)  # an offset of all scores cancels in the loss
    loss = call(ops, _case(f"{stage}_loss_and_grad", inputs | {"triples": triples}))
    names = ["loss", *(f"grad.{name}" for name in (*tables, "linear_weight"))]
    for name, result in zip(names, loss, strict=True):
        yield _of(v, f"{stage}.{name}", result)

    inputs |= {name: v[f"{stage}.traj.{name}"].item() for name in ("lr", "refresh_at")}
    inputs["batches"] = v[f"{stage}.traj.triples"]
    inputs["settings"] = replace(settings, clip_limit=v[f"{stage}.traj.clip"].item())
    trained = call(ops, _case(f"{stage}_steps", inputs))
    names = ["loss", tables[-1], "linear_weight", f"{stage}_assignment"]
    for name, result in zip(names, trained, strict=True):
        yield _of(v, f"{stage}.traj.{name}", result)
    if stage == "coarse":  # its steps move no fine table, and the fine stage starts where they end
        yield _of(v, "coarse.traj.fine_meta", fine)
        yield _of(v, "coarse.traj.fine_assignment", s_f)
        yield _of(v, "fine_init.coarse_meta", trained[1])
        yield _of(v, "fine_init.coarse_assignment", trained[3])
    else:  # D7
        yield _of(v, "fine.traj.coarse_meta", coarse)
        yield _of(v, "fine.traj.coarse_assignment", s_c)


def _case(operation: str, inputs: dict[str, Any]) -> Case:
    return Case(operation, "recorded", "float64", "bounded", inputs, {}, {})


def _refreshes(ops: Any, v: Recorded) -> Iterator[Answer]:
    t, k = v.settings.coarse_per_entity, v.settings.fine_per_coarse
    for stage in ("coarse", "fine"):
        entities, coarse = v[f"{stage}.entity_out"], v[f"{stage}.coarse_out"]
        use = entities @ method.pseudo_inverse(coarse, None)
        got = ops.refresh_coarse(entities, coarse, t)
        yield _of(v, f"{stage}.next_coarse_assignment", got, tied=tied_at_cut(use, t))
    fine = v["fine.fine_out"]
    matches = method.softmax_rows(use.T @ (entities @ method.pseudo_inverse(fine, None)))
    got = ops.refresh_fine(entities, coarse, fine, k)
    yield _of(v, "fine.next_fine_assignment", got, tied=tied_at_cut(matches, k))


def _ranking(ops: Any, v: Recorded) -> Iterator[Answer]:
    """Of the coarse model after its eight steps, for the users with a held-out item."""
    recorded, ks, bias = v["eval.scores"], v["eval.ks"].tolist(), v["coarse.traj.linear_weight"]
    offset, assignment = v["coarse.in.linear_bias"].item(), v["coarse.traj.coarse_assignment"]
    plan = ops.prepare_coarse(v["norm_adjacency"], assignment, v.n_users, v.settings)
    entities = np.asarray(ops.embed_coarse(plan, v["coarse.traj.coarse_meta"])[0])
    pairs = np.divmod(np.arange(recorded.size), v.n_items)
    scores = ops.score_pairs(entities, bias, offset, v.n_users, *pairs)
    yield _of(v, "eval.scores", scores.reshape(recorded.shape))
    held_out, seen = v.pairs("eval.test"), v.pairs("interactions")
    users = np.flatnonzero(np.diff(held_out.indptr))
    items, best = ops.rank_items(entities, bias, v.n_users, users, seen, max(ks))
    # What is the same for all items of a user is not part of a ranking; seen items are not either.
    listed = (recorded - offset - bias[: v.n_users, None])[users]
    listed[seen[users].toarray() > 0] = -np.inf
    finite = np.sort(listed, axis=1)[:, ::-1][:, : max(ks)]
    yield Answer("eval.scores", np.where(items >= 0, finite, 0), np.where(items >= 0, best, 0))
    for name, at_k in (("recall", ops.recall_at_k), ("ndcg", ops.ndcg_at_k)):
        means = [at_k(items, held_out[users], k).mean() for k in ks]
        yield _of(v, f"eval.{name}", np.array(means))
