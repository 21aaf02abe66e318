"""Optimiser, training steps, ranking and metrics, in scalar loops."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from . import number as precision
from .method import (
    Candidates,
    Row,
    Sparse,
    Table,
    coarse_plan,
    column,
    expanded,
    fine_plan,
    refreshed_coarse,
    refreshed_fine,
    sparse,
    table,
)
from .number import ELEMENTARY, ONE, ZERO, Number, UndecidedError, constant, dot, exact, root, soft, total
from .number import clip as clip_number


class Moments(NamedTuple):
    """Adam's moments of one number: m, v, and the error of sqrt(v), which is small where v itself is known badly."""

    first: Number
    second: Number
    root_error: float


def fresh() -> Moments:
    """Before the first step."""
    return Moments(ZERO, ZERO, 0.0)


def stepped(value: Number, grad: Number, moments: Moments, n_steps: int, lr: float, settings: Any) -> tuple[Number, Moments]:
    """Step `n_steps`, counted from 1, of Adam.

    m = beta1 m + (1 - beta1) g,  v = beta2 v + (1 - beta2) g^2,  x - lr m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + epsilon)

    sqrt(v) is the length of (sqrt(beta2) sqrt(v), sqrt(1 - beta2) g) and changes by no more than these do.
    """
    beta1, beta2 = constant(settings.adam_beta1), constant(settings.adam_beta2)
    g = clip_number(grad, settings.clip_limit)
    first = dot([(beta1, moments.first), (ONE - beta1, g)])
    share = ONE - beta2
    second = dot([(beta2, moments.second), (share, g * g)])
    if first.is_zero:
        return value, Moments(first, second, 0.0)
    length = float(second.value.sqrt())
    # The rounding of the two factors is that of v, half of it relative to sqrt(v).
    factors = share.error / float(share.value) + 4 * ELEMENTARY if share.value else 4 * ELEMENTARY
    root_error = math.sqrt(settings.adam_beta2) * moments.root_error + math.sqrt(float(share.value)) * g.error + factors * length
    spread = Number(second.value.sqrt(), length, root_error) / root(ONE - _power(beta2, n_steps)) + constant(settings.adam_epsilon)
    step = constant(lr) / (ONE - _power(beta1, n_steps)) * first / spread
    return value - step, Moments(first, second, root_error)


def _power(base: Number, exponent: int) -> Number:
    result = ONE
    for _ in range(exponent):
        result = result * base
    return result


def clip(grad: Any, limit: float) -> Table:
    """Entry by entry."""
    return [[clip_number(x, limit) for x in row] for row in table(grad)]


def start_adam(table_: Any) -> tuple[Table, Table, int]:
    """Zeros."""
    zeros = [[ZERO] * table_.shape[1] for _ in range(table_.shape[0])]
    return zeros, zeros, 0


def adam_step(table_: Any, grad: Any, state: Any, lr: float, settings: Any) -> tuple[Any, Any, Any, int]:
    """Of arrays of one or two axes."""
    vector = table_.ndim == 1
    read = [table(part[None] if vector else part) for part in (table_, grad, state.first, state.second)]
    steps = [
        [
            stepped(x, g, Moments(m, v, 0.0), state.n_steps + 1, lr, settings)
            for x, g, m, v in zip(*rows, strict=True)
        ]
        for rows in zip(*read, strict=True)
    ]  # fmt: skip
    results = [[[pick(step) for step in row] for row in steps] for pick in (lambda s: s[0], lambda s: s[1][0], lambda s: s[1][1])]
    return (*((part[0] if vector else part) for part in results), state.n_steps + 1)


class _Optimiser:
    """Adam on a table or vector of numbers."""

    def __init__(self, lr: float, settings: Any) -> None:
        self.lr, self.settings, self.n_steps = lr, settings, 0
        self.moments: dict[tuple[int, ...], Moments] = {}

    def step(self, values: Any, grads: Any) -> Any:
        self.n_steps += 1
        return self._step(values, grads, ())

    def _step(self, value: Any, grad: Any, place: tuple[int, ...]) -> Any:
        if not isinstance(value, Number):
            return [self._step(v, g, (*place, n)) for n, (v, g) in enumerate(zip(value, grad, strict=True))]
        moments = self.moments.get(place, fresh())
        value, self.moments[place] = stepped(value, grad, moments, self.n_steps, self.lr, self.settings)
        return value


class _Batch(NamedTuple):
    users: Any
    positives: Any
    negatives: Any


def coarse_steps(
    norm_adjacency: Any,
    coarse_assignment: Any,
    n_users: int,
    settings: Any,
    coarse: Any,
    bias: Any,
    batches: Any,
    lr: float,
    refresh_at: int,
) -> tuple[Row, Table, Row, Table]:
    """Training of the coarse stage, S_c refreshed at one step."""
    plan, adjacency = coarse_plan(norm_adjacency, coarse_assignment, n_users, settings), sparse(norm_adjacency)
    coarse, bias, losses = table(coarse), column(bias), []
    on_coarse, on_bias = _Optimiser(lr, settings), _Optimiser(lr, settings)
    for step, batch in enumerate(batches):
        loss, grad_coarse, grad_bias = plan.loss_and_grad(coarse, bias, _Batch(*batch.T))
        losses.append(loss)
        if step == refresh_at:
            entities, nodes = plan.forward(coarse)
            assignment = decided(refreshed_coarse(entities, nodes, settings.coarse_per_entity, settings.pinv_rtol))
            plan = plan._replace(graph=expanded(adjacency, assignment), assignment=assignment)
        coarse, bias = on_coarse.step(coarse, grad_coarse), on_bias.step(bias, grad_bias)
    return losses, coarse, bias, as_dense(plan.assignment)


def fine_steps(
    norm_adjacency: Any,
    coarse_assignment: Any,
    fine_assignment: Any,
    n_users: int,
    settings: Any,
    coarse: Any,
    fine: Any,
    bias: Any,
    batches: Any,
    lr: float,
    refresh_at: int,
) -> tuple[Row, Table, Row, Table]:
    """Training of the fine stage, S_f refreshed at one step; E_c stays."""
    plan, adjacency = fine_plan(norm_adjacency, coarse_assignment, fine_assignment, n_users, settings), sparse(norm_adjacency)
    coarse, fine, bias, losses = table(coarse), table(fine), column(bias), []
    on_fine, on_bias = _Optimiser(lr, settings), _Optimiser(lr, settings)
    for step, batch in enumerate(batches):
        loss, _, grad_fine, grad_bias = plan.loss_and_grad(coarse, fine, bias, _Batch(*batch.T))
        losses.append(loss)
        if step == refresh_at:
            outputs = plan.forward(coarse, fine)
            assignment = decided(refreshed_fine(*outputs, settings.fine_per_coarse, settings.pinv_rtol))
            graph = expanded(adjacency, plan.coarse_assignment, assignment)
            plan = plan._replace(graph=graph, fine_assignment=assignment)
        fine, bias = on_fine.step(fine, grad_fine), on_bias.step(bias, grad_bias)
    return losses, fine, bias, as_dense(plan.fine_assignment)


def decided(candidates: Candidates) -> Sparse:
    """What is kept, where no rounding can keep another."""
    rows: list[dict[int, Number]] = []
    for values in candidates.values:
        order = sorted(range(len(values)), key=lambda j: -values[j].value)
        kept, rest = order[: candidates.k], order[candidates.k :]
        for j in kept:
            for other in rest:
                gap = float(values[j].value - values[other].value)
                if gap <= precision.eps * (values[j].error + values[other].error):
                    raise UndecidedError(f"candidates {j} and {other} are {gap} apart: either may be kept")
        rows.append({j: values[j].untracked() for j in sorted(kept)})
    return Sparse(rows, len(candidates.values[0]))


def as_dense(matrix: Sparse) -> Table:
    """Every place."""
    return [[row.get(j, ZERO) for j in range(matrix.n_columns)] for row in matrix.rows]


# Ranking


class Ranking(NamedTuple):
    """Scores of every column of every row, None for what may not be in a list; and the length of the lists."""

    scores: list[list[Number | None]]
    k: int


def rank_scores(scores: Any, k: int) -> Ranking:
    """A score of -inf is no candidate."""
    return Ranking([[exact(x) if x != -math.inf else None for x in row] for row in scores.tolist()], k)


def rank_by(scores: Any, users: Any, seen: Any, k: int) -> Ranking:
    """Of the users' rows, without what is seen."""
    rows, own = sparse(seen).rows, table(scores)
    return Ranking([[None if item in rows[u] else x for item, x in enumerate(own[u])] for u in users.tolist()], k)


def rank_items(entities: Any, bias: Any, n_users: int, users: Any, seen: Any, k: int) -> Ranking:
    """H_u . H_(U+i) + b_(U+i), without what is seen."""
    rows, own, linear = sparse(seen).rows, table(entities), column(bias)
    return Ranking(
        [
            [
                None if item in rows[u] else dot([*zip(own[u], own[n_users + item], strict=True), (linear[n_users + item], ONE)])
                for item in range(len(own) - n_users)
            ]
            for u in users.tolist()
        ],
        k,
    )


def best(ranking: Ranking) -> list[list[int]]:
    """A full sort of the candidates, ties to the lowest index, -1 where the list is too short."""
    lists = []
    for row in ranking.scores:
        order = sorted((item for item, x in enumerate(row) if x is not None), key=lambda item: (-row[item].value, item))
        lists.append((order + [-1] * ranking.k)[: ranking.k])
    return lists


def recall_at_k(ranked: Any, held_out: Any, k: int) -> Row:
    """Hits among the first k over all held-out items."""
    wanted = sparse(held_out).rows
    return [exact(sum(item in own for item in row[:k])) / exact(len(own)) for row, own in zip(ranked.tolist(), wanted, strict=True)]


def ndcg_at_k(ranked: Any, held_out: Any, k: int) -> Row:
    """Discounted gain of the hits over that of a perfect list."""
    results = []
    for row, own in zip(ranked.tolist(), sparse(held_out).rows, strict=True):
        gain = total(_discount(place) for place, item in enumerate(row[:k]) if item in own)
        results.append(gain / total(_discount(place) for place in range(min(k, len(own)))))
    return results


def _discount(place: int) -> Number:
    """1 / log2(place + 2)."""
    value = precision.Decimal(2).ln() / precision.Decimal(place + 2).ln()
    return Number(value, float(value), 2 * ELEMENTARY * float(value))


def mean_metrics(ranked: Any, held_out: Any, ks: Any) -> dict[str, Number]:
    """Means over users."""
    means = {f"ndcg@{k}": ndcg_at_k(ranked, held_out, k) for k in ks} | {
        f"recall@{k}": recall_at_k(ranked, held_out, k) for k in ks
    }
    return {name: total(values) / exact(len(values)) for name, values in means.items()}


# Memory


def fine_sparsity(fine: Any, threshold: float) -> Number:
    """Share of entries that soft() makes 0."""
    entries = [soft(x, threshold) for row in table(fine) for x in row]
    return exact(sum(x.is_zero for x in entries)) / exact(len(entries)) if entries else ONE


def stored_bytes(
    settings: Any, user_ids: Any, item_ids: Any, seen: Any, bias: Any, coarse: Any, by_entity: Any, fine: Any, by_coarse: Any
) -> list[int]:
    """Every array in the form in which it is stored."""
    has_fine = fine is not None
    n_live = sum(abs(value) > settings.threshold for row in fine.tolist() for value in row) if has_fine else 0
    return [
        coarse.size * coarse.itemsize,
        _fewest(fine.itemsize, n_live, *fine.shape) if has_fine else 0,
        len(by_entity.data) * (by_entity.data.itemsize + _width(settings.n_coarse - 1)),
        len(by_coarse.data) * (by_coarse.data.itemsize + _width(settings.n_fine - 1)) if has_fine else 0,
        len(item_ids) * bias.itemsize,
        len(user_ids) * user_ids.itemsize + len(item_ids) * item_ids.itemsize,
        len(seen.data) * _width(seen.shape[1] - 1) + (seen.shape[0] + 1) * _width(len(seen.data)),
    ]


def stored_bytes_bound(settings: Any, n_users: int, n_items: int, id_bytes: int, n_pairs: int) -> list[int]:
    """Of single floats, with as many fine entries as there are scores."""
    n_coarse, n_fine, n_entities = settings.n_coarse, settings.n_fine, n_users + n_items
    return [
        n_coarse * settings.dim * 4,
        _fewest(4, n_fine * min(settings.sparse_pca_components, settings.dim), n_fine, settings.dim),
        n_entities * settings.coarse_per_entity * (4 + _width(n_coarse - 1)),
        n_coarse * settings.fine_per_coarse * (4 + _width(n_fine - 1)) if n_fine else 0,
        n_items * 4,
        n_entities * id_bytes,
        n_pairs * _width(n_items - 1) + (n_users + 1) * _width(n_pairs),
    ]


def total_bytes(terms: Any) -> list[int]:
    """The first two are the tables."""
    return [int(terms[0] + terms[1]), int(sum(terms))]


def _fewest(value_bytes: int, n_live: int, n_rows: int, n_columns: int) -> int:
    """Dense, or values, columns and row starts."""
    compressed = n_live * (value_bytes + _width(n_columns - 1)) + (n_rows + 1) * _width(n_live)
    return min(n_rows * n_columns * value_bytes, compressed)


def _width(largest: int) -> int:
    """Bytes of the narrowest unsigned integer."""
    return next(n_bytes for n_bytes in (1, 2, 4, 8) if largest < 256**n_bytes)
