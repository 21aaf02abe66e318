"""The method in scalar loops on `Number`s, straight from its formulas.

A function has the name and the parameters of the operation whose answer it gives. It takes and
returns tables (lists of lists of numbers), vectors (lists) and `Sparse` matrices: `given` converts
arrays. A pull-back is the derivative of its function, taken by `gradients`; none is written out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from . import number as precision
from .number import MINUS_ONE, ONE, ZERO, Number, constant, dot, exact, inverse, total

Row = list[Number]
Table = list[Row]
Rtol = float | None


class Sparse(NamedTuple):
    """Rows {column: number}, and the number of columns; a place that is not stored is 0."""

    rows: list[dict[int, Number]]
    n_columns: int


class Candidates(NamedTuple):
    """All candidates of a top-k, and k."""

    values: Table
    k: int


def given(value: Any) -> Any:
    """An input in the form of this page; a place of a sparse matrix stored twice is the sum."""
    if hasattr(value, "indptr"):
        rows: list[dict[int, Number]] = [{} for _ in range(value.shape[0])]
        for i, row in enumerate(rows):
            for place in range(value.indptr[i], value.indptr[i + 1]):
                j, x = int(value.indices[place]), exact(value.data[place].item())
                row[j] = row[j] + x if j in row else x
        return Sparse(rows, value.shape[1])
    if isinstance(value, tuple):
        return type(value)(*map(given, value))  # type: ignore[call-arg]
    if not hasattr(value, "tolist"):
        return value
    return mapped(exact, value.tolist()) if value.dtype.kind == "f" else value.tolist()


# Plain matrix algebra


def mapped(function: Callable[..., Any], *parts: Any) -> Any:
    """A function of every entry of nested lists, of several of the same form together."""
    if not isinstance(parts[0], list):
        return function(*parts)
    return [mapped(function, *inner) for inner in zip(*parts, strict=True)]


def transposed(matrix: Sparse) -> Sparse:
    """Rows become columns."""
    rows: list[dict[int, Number]] = [{} for _ in range(matrix.n_columns)]
    for i, row in enumerate(matrix.rows):
        for j, value in row.items():
            rows[j][i] = value
    return Sparse(rows, len(matrix.rows))


def product(matrix: Sparse, dense: Table, width: int) -> Table:
    """Sparse times dense; the width is that of a table without rows too."""
    rows, columns = (row.items() for row in matrix.rows), range(width)
    return [[dot((value, dense[j][d]) for j, value in row) for d in columns] for row in rows]


def dense_product(left: Table, right: Table) -> Table:
    """Dense times dense."""
    columns = list(zip(*right, strict=True))
    return [[dot(zip(row, column, strict=True)) for column in columns] for row in left]


def width_of(*tables: Table) -> int:
    """Columns of the first table that has a row."""
    return next((len(rows[0]) for rows in tables if rows), 0)


def combined(*terms: tuple[Number, Table]) -> Table:
    """Sum of weight * table."""
    weights, tables = zip(*terms, strict=True)
    return mapped(lambda *entries: dot(zip(weights, entries, strict=True)), *tables)


def as_dense(matrix: Sparse) -> Table:
    """Every place."""
    return [[row.get(j, ZERO) for j in range(matrix.n_columns)] for row in matrix.rows]


def flat(*parts: Any) -> list[Number]:
    """Every number of tables, vectors and numbers, in order."""
    lists = ([part] if isinstance(part, Number) else flat(*part) for part in parts)
    return [number for numbers in lists for number in numbers]


def tracked(part: Any) -> Any:
    """The same numbers, with the errors that they have, as variables of a derivative."""
    return mapped(lambda x: Number(x.value, x.size, x.error, ()), part)


def pulled_back(outputs: Any, weights: Any, *variables: Any) -> list[Any]:
    """Gradients of sum weights * outputs, in the forms of the variables."""
    pairs = list(zip(flat(outputs), flat(weights), strict=True))
    remaining = iter(precision.gradients(pairs, flat(*variables)))
    return [mapped(lambda _: next(remaining), part) for part in variables]


# Graph


def bipartite(users: list[int], items: list[int], n_users: int, n_items: int) -> Sparse:
    """1 at (u, U + i) and (U + i, u)."""
    rows: list[dict[int, Number]] = [{} for _ in range(n_users + n_items)]
    for user, item in zip(users, items, strict=True):
        rows[user][n_users + item] = rows[n_users + item][user] = ONE
    return Sparse(rows, n_users + n_items)


def normalise(graph: Sparse) -> Sparse:
    """G_ij / sqrt(d_i d_j), 0 where a degree is not positive."""
    degrees = [total(row.values()) for row in graph.rows]
    positive = [precision.is_positive(degree) for degree in degrees]
    rows: list[dict[int, Number]] = [dict.fromkeys(row, ZERO) for row in graph.rows]
    for i, j, x in ((i, j, x) for i, row in enumerate(graph.rows) for j, x in row.items()):
        if positive[i] and positive[j]:
            rows[i][j] = precision.settled(x / precision.root(degrees[i] * degrees[j]))
    return Sparse(rows, graph.n_columns)


def expanded(norm_adjacency: Sparse, *assignments: Sparse) -> Sparse:
    """normalise([[A, S_c, 0], [S_c^T, 0, S_f], [0, S_f^T, 0]])."""
    rows = [dict(row) for row in norm_adjacency.rows]
    for assignment in assignments:
        first = len(rows) - len(assignment.rows)  # these rows and those below them are joined
        new: list[dict[int, Number]] = [{} for _ in range(assignment.n_columns)]
        for i, row in enumerate(assignment.rows):
            for j, value in row.items():
                rows[first + i][len(rows) + j] = new[j][first + i] = value
        rows += new
    return normalise(Sparse(rows, len(rows)))


expand_coarse = expand_fine = expanded


def edge_cut(graph: Sparse, labels: list[int]) -> Number:
    """Share of the edges between parts."""
    stored = [(i, j) for i, row in enumerate(graph.rows) for j, x in row.items() if x.value != 0]
    edges = {(min(edge), max(edge)) for edge in stored if edge[0] != edge[1]}
    n_cut = sum(labels[i] != labels[j] for i, j in edges)
    return exact(n_cut) / exact(len(edges)) if edges else ZERO


# Assignment


def top_columns(values: Table, k: int) -> list[list[int]]:
    """A full sort of every row: by value falling, then by column rising."""
    return [sorted(range(len(row)), key=lambda j: (-row[j].value, j))[:k] for row in values]


def keep_top(values: Table, k: int) -> Table:
    """The k largest entries of every row, 0 elsewhere."""
    rows = zip(values, top_columns(values, k), strict=True)
    return [[x if j in kept else ZERO for j, x in enumerate(row)] for row, kept in rows]


def softmax_rows(values: Table) -> Table:
    """exp(x_ij) / sum_j exp(x_ij).

    The logarithm of the sum is off by no more than the entry that is off most; entries round once
    more when the row is shifted.
    """
    result: Table = []
    for row in values:
        largest = max(row, key=lambda number: number.value)
        exponentials = [precision.exp(Number(x.value - largest.value, 0.0, 0.0)) for x in row]
        sum_of = total(exponentials)
        arriving = [number.error + number.size + largest.size for number in row]
        result.append([])
        for number, error in zip(exponentials, arriving, strict=True):
            value = number.value / sum_of.value
            rounding = error + max(arriving) + 2 * precision.ELEMENTARY + len(row) + 1
            spread = float(value) * rounding * precision.growth(rounding)
            result[-1].append(Number(value, float(value), spread))
    return result


def part_affinity(labels: list[int], n_parts: int) -> Table:
    """0.5 on the own part, 0.5 / (F - 1) elsewhere; 1 where there is one part."""
    half = constant(0.5)
    elsewhere = half / exact(n_parts - 1) if n_parts > 1 else ZERO
    own = half if n_parts > 1 else ONE
    return [[own if part == label else elsewhere for part in range(n_parts)] for label in labels]


def start_fine_assignment(
    coarse_assignment: Sparse, affinity: Table, fine_per_coarse: int
) -> Candidates:
    """keep_top(softmax_rows(S_c^T P), fine_per_coarse)."""
    use = product(transposed(coarse_assignment), affinity, width_of(affinity))
    return Candidates(softmax_rows(use), fine_per_coarse)


pseudo_inverse = inverse


def refresh_coarse(entities: Table, coarse: Table, k: int, rtol: Rtol = None) -> Candidates:
    """keep_top(H_e pinv(H_c), t)."""
    return Candidates(dense_product(entities, inverse(coarse, rtol)), k)


def refresh_fine(
    entities: Table, coarse: Table, fine: Table, k: int, rtol: Rtol = None
) -> Candidates:
    """keep_top(softmax_rows((H_e pinv(H_c))^T (H_e pinv(H_f))), fine_per_coarse)."""
    uses = [dense_product(entities, inverse(part, rtol)) for part in (coarse, fine)]
    by_coarse = [list(column) for column in zip(*uses[0], strict=True)]
    return Candidates(softmax_rows(dense_product(by_coarse, uses[1])), k)


# Embeddings


def compose(assignment: Sparse, table: Table) -> Table:
    """S E."""
    return product(assignment, table, width_of(table))


def ego_embed(coarse_assignment: Sparse, coarse: Table) -> Table:
    """tanh(S_c E_c)."""
    return mapped(precision.tanh, compose(coarse_assignment, coarse))


def soft_threshold(table: Table, threshold: float) -> Table:
    """Entry by entry."""
    return mapped(lambda x: precision.soft(x, threshold), table)


def fine_embed(fine: Table, threshold: float) -> Table:
    """tanh(soft(E_f))."""
    return mapped(lambda x: precision.tanh(precision.soft(x, threshold)), fine)


def bridge(fine_assignment: Sparse, weight: float, coarse: Table, fine: Table) -> Table:
    """(1 - w) E_c + w S_f E."""
    share = constant(weight)
    mixed = product(fine_assignment, fine, width_of(coarse))
    return combined((ONE - share, coarse), (share, mixed))


def scatter_scores(scores: Table, positions: list[list[int]], dim: int) -> Table:
    """scores[r, j] at column positions[r, j]."""
    places = [dict(zip(*pair, strict=True)) for pair in zip(positions, scores, strict=True)]
    return [[row.get(d, ZERO) for d in range(dim)] for row in places]


# Propagation


def propagate_coarse(
    graph: Sparse, n_layers: int, entities: Table, coarse: Table
) -> tuple[Table, Table]:
    """Mean of X, G X, ..., G^L X."""
    layers = [entities + coarse]
    for _ in range(n_layers):
        layers.append(product(graph, layers[-1], width_of(entities, coarse)))
    mean = _mean(layers)
    return mean[: len(entities)], mean[len(entities) :]


def propagate_fine(
    graph: Sparse, by_entity: Sparse, by_coarse: Sparse, weight: float, n_layers: int,
    entities: Table, coarse: Table, fine: Table,
) -> tuple[Table, Table, Table]:  # fmt: skip
    """The layer of the fine stage, line by line."""
    n, c_end, width = len(entities), len(entities) + len(coarse), width_of(entities, coarse)
    layers = [entities + coarse + fine]
    for _ in range(n_layers):
        nodes = product(graph, layers[-1], width)
        h, c, f = nodes[:n], nodes[n:c_end], nodes[c_end:]
        h = combined((ONE, h), (MINUS_ONE, product(by_entity, c, width)))
        c = combined((ONE, c), (MINUS_ONE, product(by_coarse, f, width)))
        c = bridge(by_coarse, weight, c, f)
        h = combined((ONE, h), (ONE, product(by_entity, c, width)))
        layers.append(h + c + f)
    mean = _mean(layers)
    return mean[:n], mean[n:c_end], mean[c_end:]


def _mean(layers: list[Table]) -> Table:
    n_layers = exact(len(layers))
    if len(layers) == 1:
        return layers[0]
    return mapped(lambda *entries: precision.settled(total(entries) / n_layers), *layers)


# Loss


def score_pairs(
    entities: Table, bias: Row, offset: Any, n_users: int, users: list[int], items: list[int]
) -> Row:
    """H_u . H_(U+i) + b_u + b_(U+i) + b_0."""
    offset = offset if isinstance(offset, Number) else constant(offset)
    scores = []
    for user, item in zip(users, items, strict=True):
        pairs = list(zip(entities[user], entities[n_users + item], strict=True))
        pairs += [(number, ONE) for number in (bias[user], bias[n_users + item], offset)]
        scores.append(precision.settled(dot(pairs)))
    return scores


def bpr_loss(positive_scores: Row, negative_scores: Row) -> Number:
    """Mean of softplus(s_uj - s_ui)."""
    losses = mapped(lambda i, j: precision.softplus(j - i), positive_scores, negative_scores)
    return total(losses) / exact(max(len(losses), 1))


def ego_penalty(ego: Table, n_users: int, triples: Any, weight: float) -> Number:
    """Weight (||X_u||^2 + ||X_i||^2 + ||X_j||^2) / B, summed over triples."""
    squares = []
    for user, positive, negative in zip(*triples, strict=True):
        for entity in (user, n_users + positive, n_users + negative):
            squares += [(number, number) for number in ego[entity]]
    return constant(weight) * dot(squares) / exact(max(len(triples[0]), 1))


BY = dict.fromkeys([soft_threshold, fine_embed, ego_penalty], slice(0, 1))
BY |= {ego_embed: slice(1, 2), bpr_loss: slice(0, 2), score_pairs: slice(0, 3)}
"""Which inputs a function is differentiated by; other functions are linear in all tables."""


def pull_back(function: Callable[..., Any], *inputs: Any) -> list[Any]:
    """The derivative; that of a linear map is taken at zeros, since its tables are not given."""
    if function in BY:
        *before, grad = inputs
        after = before[BY[function].stop :]
        at = [exact(x) if isinstance(x, float) else x for x in before[BY[function]]]
        before = before[: BY[function].start]
        grad = grad if isinstance(grad, list) else constant(grad)
    else:
        grad = [part for part in inputs if isinstance(part, list)]
        before, after = inputs[: -len(grad)], []
        sizes, widths = [len(part) for part in grad], [width_of(part) for part in grad]
        if len(grad) == 1:  # compose, or bridge, which has two tables
            sizes = [len(before[0].rows), before[0].n_columns][1 if function is compose else 0 :]
            widths *= 2
        at = [[[ZERO] * width for _ in range(n)] for n, width in zip(sizes, widths, strict=False)]
    variables = [tracked(part) for part in at]
    return pulled_back(function(*before, *variables, *after), grad, *variables)


# The stages


class Plan:
    """A stage: the fine one if there is a fine assignment."""

    def __init__(self, inputs: dict[str, Any]) -> None:
        stages = ["coarse", "fine"][: 1 + ("fine_assignment" in inputs)]
        self.n_users, self.settings = inputs["n_users"], inputs["settings"]
        self.assignments = [inputs[f"{stage}_assignment"] for stage in stages]
        self.tables = [inputs[stage] for stage in stages]
        self.graph = expanded(inputs["norm_adjacency"], *self.assignments)

    def forward(self, coarse: Table, fine: Table | None = None) -> tuple[Table, ...]:
        """Propagated entities, coarse and fine nodes."""
        settings, ego = self.settings, ego_embed(self.assignments[0], coarse)
        if fine is None:
            return propagate_coarse(self.graph, settings.n_layers, ego, coarse)
        weight, threshold = settings.bridge_weight, settings.threshold
        bridged = bridge(self.assignments[1], weight, coarse, soft_threshold(fine, threshold))
        nodes = ego, mapped(precision.settled, bridged), fine_embed(fine, threshold)
        return propagate_fine(self.graph, *self.assignments, weight, settings.n_layers, *nodes)

    def loss_and_grad(self, tables: Sequence[Table], bias: Row, triples: Any) -> tuple[Any, ...]:
        """Loss of a batch and its gradients. The bias of a user is in both scores of a triple."""
        tables, bias = [tracked(table) for table in tables], tracked(bias)
        entities = self.forward(*tables)[0]
        ego = ego_embed(self.assignments[0], tables[0])
        certain = [precision.without_error(x) for x in bias[: self.n_users]] + bias[self.n_users :]
        users, *both = triples
        known = entities, certain, ZERO, self.n_users
        scores = [score_pairs(*known, users, items) for items in both]
        penalty = ego_penalty(ego, self.n_users, triples, self.settings.l2_weight)
        loss = bpr_loss(*scores) + penalty
        return (loss, *pulled_back([loss], [ONE], *tables, bias))


def embed(**inputs: Any) -> tuple[Table, ...]:
    """Forward pass of a stage; an earlier plan leaves no trace."""
    plan = Plan(inputs)
    return plan.forward(*plan.tables)


def loss_and_grad(**inputs: Any) -> tuple[Any, ...]:
    """Of a batch."""
    plan = Plan(inputs)
    return plan.loss_and_grad(plan.tables, inputs["bias"], inputs["triples"])
