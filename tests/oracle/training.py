"""Optimiser, training steps, ranking, metrics and memory, in scalar loops."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

from . import formulas
from . import number as precision
from .formulas import Candidates, Plan, Row, Sparse, Table, as_dense, mapped
from .number import ONE, ZERO, Number, UndecidedError, constant, dot, exact, total


class Moments(NamedTuple):
    """Adam's moments m and v of one number, and the error of sqrt(v): v itself may be uncertain."""

    first: Number = ZERO
    second: Number = ZERO
    root_error: float = 0.0


def stepped(
    value: Number, grad: Number, moments: Moments, n_steps: int, lr: float, settings: Any
) -> tuple[Number, Moments]:
    """Step `n_steps`, counted from 1, of Adam.

    m = beta1 m + (1 - beta1) g,  v = beta2 v + (1 - beta2) g^2
    x - lr m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + epsilon)

    sqrt(v) is the length of (sqrt(beta2) sqrt(v), sqrt(1 - beta2) g): it changes by no more.
    """
    beta1, beta2 = constant(settings.adam_beta1), constant(settings.adam_beta2)
    g = precision.clip(grad, settings.clip_limit)
    first = dot([(beta1, moments.first), (ONE - beta1, g)])
    share = ONE - beta2
    second = dot([(beta2, moments.second), (share, g * g)])
    if first.is_zero:
        return value, Moments(first, second)
    length = float(second.value.sqrt())
    # The rounding of the two factors is that of v, half of it relative to sqrt(v).
    factors = 4 * precision.ELEMENTARY
    if share.value:
        factors += share.error / float(share.value)
    root_error = math.sqrt(settings.adam_beta2) * moments.root_error
    root_error += math.sqrt(float(share.value)) * g.error
    root_error += factors * length
    spread = Number(second.value.sqrt(), length, root_error)
    power1, power2 = (math.prod([beta] * n_steps, start=ONE) for beta in (beta1, beta2))
    spread = spread / precision.root(ONE - power2) + constant(settings.adam_epsilon)
    step = constant(lr) / (ONE - power1) * first / spread
    return value - step, Moments(first, second, root_error)


def clip(grad: Table, limit: float) -> Table:
    """Entry by entry."""
    return mapped(lambda x: precision.clip(x, limit), grad)


def start_adam(table: Table) -> tuple[Table, Table, int]:
    """Zeros."""
    return *[mapped(lambda _: ZERO, table) for _ in range(2)], 0  # type: ignore[return-value]


def adam_step(table: Any, grad: Any, state: Any, lr: float, settings: Any) -> tuple[Any, ...]:
    """Of arrays of one or two axes."""
    n_steps, moments = state.n_steps + 1, mapped(Moments, state.first, state.second)
    move = partial(stepped, n_steps=n_steps, lr=lr, settings=settings)
    values, moments = _apart(mapped(move, table, grad, moments))
    firsts, seconds = (mapped(lambda pair, n=n: pair[n], moments) for n in (0, 1))
    return values, firsts, seconds, n_steps


def _apart(pairs: Any) -> tuple[Any, Any]:
    return mapped(lambda pair: pair[0], pairs), mapped(lambda pair: pair[1], pairs)


def steps(**inputs: Any) -> tuple[Row, Table, Row, Table]:
    """Training of the last table and the bias; the last assignment is refreshed at one step."""
    plan = Plan(inputs)
    losses, settings, tables, bias = [], plan.settings, plan.tables, inputs["bias"]
    states = [mapped(lambda _: Moments(), part) for part in (tables[-1], bias)]
    for step, batch in enumerate(inputs["batches"]):
        loss, *grads = plan.loss_and_grad(tables, bias, list(zip(*batch, strict=True)))
        losses.append(loss)
        if step == inputs["refresh_at"]:
            stage, per_row = (
                ("coarse", settings.coarse_per_entity), ("fine", settings.fine_per_coarse)
            )[len(tables) - 1]  # fmt: skip
            refresh = getattr(formulas, f"refresh_{stage}")
            chosen = refresh(*plan.forward(*tables), per_row, settings.pinv_rtol)
            inputs[f"{stage}_assignment"] = decided(chosen)
            plan = Plan(inputs)
        trained = []
        for n, (part, grad) in enumerate(zip((tables[-1], bias), grads[-2:], strict=True)):
            move = partial(stepped, n_steps=step + 1, lr=inputs["lr"], settings=settings)
            values, states[n] = _apart(mapped(move, part, grad, states[n]))
            trained.append(values)
        tables, bias = [*tables[:-1], trained[0]], trained[1]
    return losses, tables[-1], bias, as_dense(plan.assignments[-1])


def decided(candidates: Candidates) -> Sparse:
    """What is kept, where no rounding can keep another."""
    rows: list[dict[int, Number]] = []
    for values in candidates.values:
        order = sorted(range(len(values)), key=lambda j: -values[j].value)
        kept, rest = order[: candidates.k], order[candidates.k :]
        for j, other in ((j, other) for j in kept for other in rest):
            gap = float(values[j].value - values[other].value)
            if gap <= precision.eps * (values[j].error + values[other].error):
                reason = f"candidates {j} and {other} are {gap} apart: either may be kept"
                raise UndecidedError(reason)
        rows.append({j: values[j].untracked() for j in sorted(kept)})
    return Sparse(rows, len(candidates.values[0]))


# Ranking


class Ranking(NamedTuple):
    """Scores of every column of every row, None for what is not listed; the length of the lists."""

    scores: list[list[Number | None]]
    k: int


def rank_scores(scores: Table, k: int) -> Ranking:
    """A score of -inf is no candidate."""
    return Ranking(mapped(lambda x: x if x.value.is_finite() else None, scores), k)


def rank_by(scores: Table, users: list[int], seen: Sparse, k: int) -> Ranking:
    """Of the rows of users, without what is seen."""
    rows = ((scores[user], seen.rows[user]) for user in users)
    return Ranking([[None if i in has else x for i, x in enumerate(row)] for row, has in rows], k)


def rank_items(
    entities: Table, bias: Row, n_users: int, users: list[int], seen: Sparse, k: int
) -> Ranking:
    """H_u . H_(U+i) + b_(U+i), without what is seen."""

    def score(user: int, item: int) -> Number:
        pairs = zip(entities[user], entities[n_users + item], strict=True)
        return dot([*pairs, (bias[n_users + item], ONE)])

    items = range(len(entities) - n_users)
    rows = ((user, seen.rows[user]) for user in users)
    return Ranking([[None if i in has else score(u, i) for i in items] for u, has in rows], k)


def best(ranking: Ranking) -> list[list[int]]:
    """A full sort of the candidates, ties to the lowest index, -1 where the list is too short."""
    lists = []
    for row in ranking.scores:
        candidates = [item for item, x in enumerate(row) if x is not None]
        order = sorted(candidates, key=lambda item: (-row[item].value, item))
        lists.append((order + [-1] * ranking.k)[: ranking.k])
    return lists


def recall_at_k(ranked: list[list[int]], held_out: Sparse, k: int) -> Row:
    """Hits among the first k over all held-out items."""
    pairs = zip(ranked, held_out.rows, strict=True)
    return [exact(sum(i in has for i in row[:k])) / exact(len(has)) for row, has in pairs]


def ndcg_at_k(ranked: list[list[int]], held_out: Sparse, k: int) -> Row:
    """Discounted gain of the hits over that of a perfect list."""
    results = []
    for row, has in zip(ranked, held_out.rows, strict=True):
        gain = total(_discount(place) for place, item in enumerate(row[:k]) if item in has)
        results.append(gain / total(_discount(place) for place in range(min(k, len(has)))))
    return results


def _discount(place: int) -> Number:
    """1 / log2(place + 2)."""
    value = precision.Decimal(2).ln() / precision.Decimal(place + 2).ln()
    return Number(value, float(value), 2 * precision.ELEMENTARY * float(value))


def mean_metrics(ranked: list[list[int]], held_out: Sparse, ks: list[int]) -> dict[str, Number]:
    """Means over users."""
    metrics = {"ndcg": ndcg_at_k, "recall": recall_at_k}
    values = {f"{name}@{k}": at(ranked, held_out, k) for name, at in metrics.items() for k in ks}
    return {name: total(row) / exact(len(row)) for name, row in values.items()}


# Memory


def fine_sparsity(fine: Table, threshold: float) -> Number:
    """Share of entries that soft() makes 0."""
    entries = [precision.soft(x, threshold) for row in fine for x in row]
    return exact(sum(x.is_zero for x in entries)) / exact(len(entries)) if entries else ONE


def stored_bytes(
    settings: Any, user_ids: Any, item_ids: Any, seen: Any, bias: Any, *tables: Any
) -> list[int]:
    """Of every array in the form in which it is stored; takes arrays."""
    coarse, s_c, fine, s_f = tables
    fine_bytes = s_f_bytes = 0
    if fine is not None:
        live = [abs(value) > settings.threshold for row in fine.tolist() for value in row]
        fine_bytes = _fewest(fine.itemsize, sum(live), *fine.shape)
        s_f_bytes = len(s_f.data) * (s_f.data.itemsize + _width(settings.n_fine - 1))
    return [
        coarse.size * coarse.itemsize,
        fine_bytes,
        len(s_c.data) * (s_c.data.itemsize + _width(settings.n_coarse - 1)),
        s_f_bytes,
        len(item_ids) * bias.itemsize,
        len(user_ids) * user_ids.itemsize + len(item_ids) * item_ids.itemsize,
        _pair_bytes(len(seen.data), *seen.shape),
    ]


def stored_bytes_bound(
    settings: Any, n_users: int, n_items: int, id_bytes: int, n_pairs: int
) -> list[int]:
    """Of single floats, with one fine entry for each score."""
    n_coarse, n_fine, n_entities = settings.n_coarse, settings.n_fine, n_users + n_items
    n_scores = n_fine * min(settings.sparse_pca_components, settings.dim)
    return [
        n_coarse * settings.dim * 4,
        _fewest(4, n_scores, n_fine, settings.dim),
        n_entities * settings.coarse_per_entity * (4 + _width(n_coarse - 1)),
        n_coarse * settings.fine_per_coarse * (4 + _width(n_fine - 1)) if n_fine else 0,
        n_items * 4,
        n_entities * id_bytes,
        _pair_bytes(n_pairs, n_users, n_items),
    ]


def _pair_bytes(n_pairs: int, n_users: int, n_items: int) -> int:
    return n_pairs * _width(n_items - 1) + (n_users + 1) * _width(n_pairs)


def total_bytes(terms: Sequence[int]) -> list[int]:
    """The first two are the tables."""
    return [sum(terms[:2]), sum(terms)]


def _fewest(value_bytes: int, n_live: int, n_rows: int, n_columns: int) -> int:
    """Dense, or values, columns and row starts."""
    compressed = n_live * (value_bytes + _width(n_columns - 1)) + (n_rows + 1) * _width(n_live)
    return min(n_rows * n_columns * value_bytes, compressed)


def _width(largest: int) -> int:
    """Bytes of the narrowest unsigned integer."""
    return next(n_bytes for n_bytes in (1, 2, 4, 8) if largest < 256**n_bytes)
