"""The method in scalar loops on `Number`s, straight from its formulas.

A function here has the name and the parameters of the operation whose answer it gives, and returns tables (lists of lists of
numbers). A pull-back is the derivative of its function, taken by `gradients`; none is written by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from .inverse import inverse
from .number import (
    ELEMENTARY,
    MINUS_ONE,
    ONE,
    ZERO,
    Number,
    constant,
    dot,
    exact,
    exp,
    gradients,
    growth,
    is_positive,
    root,
    settled,
    soft,
    softplus,
    tanh,
    total,
    variable,
    without_error,
)

Row = list[Number]
Table = list[Row]


class Sparse(NamedTuple):
    """Rows {column: number}, and how many columns there are; a place that is not stored is 0."""

    rows: list[dict[int, Number]]
    n_columns: int


# Reading what is given, and plain matrix algebra


def table(values: Any, number: Callable[[Any], Number] = exact) -> Table:
    """Rows of a dense matrix."""
    return [[number(value) for value in row] for row in values.tolist()]


def column(values: Any, number: Callable[[Any], Number] = exact) -> Row:
    """Entries of a vector."""
    return [number(value) for value in values.tolist()]


def sparse(matrix: Any) -> Sparse:
    """Rows of a sparse matrix; a place stored twice is the sum."""
    rows: list[dict[int, Number]] = []
    for start, end in zip(matrix.indptr[:-1].tolist(), matrix.indptr[1:].tolist(), strict=True):
        row: dict[int, Number] = {}
        for place in range(start, end):
            j, value = int(matrix.indices[place]), exact(matrix.data[place].item())
            row[j] = row[j] + value if j in row else value
        rows.append(row)
    return Sparse(rows, matrix.shape[1])


def transposed(matrix: Sparse) -> Sparse:
    """Rows become columns."""
    rows: list[dict[int, Number]] = [{} for _ in range(matrix.n_columns)]
    for i, row in enumerate(matrix.rows):
        for j, value in row.items():
            rows[j][i] = value
    return Sparse(rows, len(matrix.rows))


def product(matrix: Sparse, dense: Table, width: int) -> Table:
    """Sparse times dense; the width says how many columns a table without rows has."""
    return [[dot((value, dense[j][d]) for j, value in row.items()) for d in range(width)] for row in matrix.rows]


def dense_product(left: Table, right: Table) -> Table:
    """Dense times dense."""
    return [[dot(zip(row, other, strict=True)) for other in zip(*right, strict=True)] for row in left]


def width_of(*tables: Table) -> int:
    """Columns of the first table that has a row."""
    return next((len(rows[0]) for rows in tables if rows), 0)


def combined(*terms: tuple[Number, Table]) -> Table:
    """Sum of weight * table."""
    weights, tables = zip(*terms, strict=True)
    return [[dot(zip(weights, entries, strict=True)) for entries in zip(*rows, strict=True)] for rows in zip(*tables, strict=True)]


def each(function: Callable[[Number], Number], values: Table) -> Table:
    """A function of every entry."""
    return [[function(value) for value in row] for row in values]


def flat(*tables: Any) -> list[Number]:
    """Every number of tables, vectors and numbers, in order."""
    return [number for part in tables for number in ([part] if isinstance(part, Number) else flat(*part))]


def like(numbers: Sequence[Number], *tables: Any) -> list[Any]:
    """The numbers of `flat`, put back into the forms of these tables."""
    remaining = iter(numbers)

    def fill(part: Any) -> Any:
        return next(remaining) if isinstance(part, Number) else [fill(inner) for inner in part]

    return [fill(part) for part in tables]


def pulled_back(outputs: Any, weights: Any, *variables: Any) -> list[Any]:
    """Gradients of sum weights * outputs, in the forms of the variables."""
    pairs = list(zip(flat(outputs), flat(weights), strict=True))
    return like(gradients(pairs, flat(*variables)), *variables)


# Graph


def bipartite(users: Any, items: Any, n_users: int, n_items: int) -> Sparse:
    """1 at (u, U + i) and (U + i, u)."""
    rows: list[dict[int, Number]] = [{} for _ in range(n_users + n_items)]
    for user, item in zip(users.tolist(), items.tolist(), strict=True):
        rows[user][n_users + item] = rows[n_users + item][user] = ONE
    return Sparse(rows, n_users + n_items)


def normalised(graph: Sparse) -> Sparse:
    """G_ij / sqrt(d_i d_j), 0 where a degree is not positive."""
    degrees = [total(row.values()) for row in graph.rows]
    positive = [is_positive(degree) for degree in degrees]
    rows = [
        {j: settled(value / root(degrees[i] * degrees[j])) if positive[i] and positive[j] else ZERO for j, value in row.items()}
        for i, row in enumerate(graph.rows)
    ]
    return Sparse(rows, graph.n_columns)


def normalise(graph: Any) -> Sparse:
    """The same of a matrix."""
    return normalised(sparse(graph))


def expanded(norm_adjacency: Sparse, *assignments: Sparse) -> Sparse:
    """normalise([[A, S_c, 0], [S_c^T, 0, S_f], [0, S_f^T, 0]])."""
    rows = [dict(row) for row in norm_adjacency.rows]
    for assignment in assignments:
        first = len(rows) - len(assignment.rows)  # these rows and those below them are joined
        new: list[dict[int, Number]] = [{} for _ in range(assignment.n_columns)]
        for i, row in enumerate(assignment.rows):
            for j, value in row.items():
                rows[first + i][len(rows) + j] = value
                new[j][first + i] = value
        rows += new
    return normalised(Sparse(rows, len(rows)))


def expand_coarse(norm_adjacency: Any, coarse_assignment: Any) -> Sparse:
    """Graph of the coarse stage."""
    return expanded(sparse(norm_adjacency), sparse(coarse_assignment))


def expand_fine(norm_adjacency: Any, coarse_assignment: Any, fine_assignment: Any) -> Sparse:
    """Graph of the fine stage."""
    return expanded(sparse(norm_adjacency), sparse(coarse_assignment), sparse(fine_assignment))


def edge_cut(graph: Any, labels: Any) -> Number:
    """Share of the edges between parts."""
    edges = {
        (min(i, j), max(i, j))
        for i, row in enumerate(sparse(graph).rows)
        for j, value in row.items()
        if i != j and value.value != 0
    }
    return exact(sum(labels[i] != labels[j] for i, j in edges)) / exact(len(edges)) if edges else ZERO


# Assignment


def top_columns(values: Any, k: int) -> list[list[int]]:
    """A full sort of every row: by value falling, then by column rising."""
    return [[j for _, j in sorted((-value, j) for j, value in enumerate(row))][:k] for row in values.tolist()]


def keep_top(values: Any, k: int) -> Table:
    """The k largest entries of every row, 0 elsewhere."""
    kept = [set(row) for row in top_columns(values, k)]
    return [[value if j in kept[i] else ZERO for j, value in enumerate(row)] for i, row in enumerate(table(values))]


def softmax(rows: Table) -> Table:
    """exp(x_ij) / sum_j exp(x_ij).

    The logarithm of the sum is off by no more than the entry that is off most; entries round once more when the row is shifted.
    """
    result = []
    for row in rows:
        largest = max(row, key=lambda number: number.value)
        exponentials = [exp(exact(0) if number is largest else Number(number.value - largest.value, 0.0, 0.0)) for number in row]
        sum_of = total(exponentials)
        arriving = [number.error + number.size + largest.size for number in row]
        result.append([])
        for number, error in zip(exponentials, arriving, strict=True):
            value = number.value / sum_of.value
            rounding = error + max(arriving) + 2 * ELEMENTARY + len(row) + 1
            result[-1].append(Number(value, float(value), float(value) * rounding * growth(rounding)))
    return result


def softmax_rows(values: Any) -> Table:
    """The same of a matrix."""
    return softmax(table(values))


def part_affinity(labels: Any, n_parts: int) -> Table:
    """0.5 on the own part, 0.5 / (F - 1) elsewhere; 1 where there is one part."""
    half = constant(0.5)
    elsewhere = half / exact(n_parts - 1) if n_parts > 1 else ZERO
    own = half if n_parts > 1 else ONE
    return [[own if part == label else elsewhere for part in range(n_parts)] for label in labels.tolist()]


class Candidates(NamedTuple):
    """All candidates of a top-k, and k."""

    values: Table
    k: int


def start_fine_assignment(coarse_assignment: Any, affinity: Any, fine_per_coarse: int) -> Candidates:
    """keep_top(softmax_rows(S_c^T P), fine_per_coarse)."""
    use = product(transposed(sparse(coarse_assignment)), table(affinity), affinity.shape[1])
    return Candidates(softmax(use), fine_per_coarse)


def pseudo_inverse(table_: Any, rtol: float | None) -> Table:
    """Moore-Penrose inverse."""
    return inverse(table(table_), rtol)


def refreshed_coarse(entities: Table, coarse: Table, k: int, rtol: float | None) -> Candidates:
    """keep_top(H_e pinv(H_c), t)."""
    return Candidates(dense_product(entities, inverse(coarse, rtol)), k)


def refreshed_fine(entities: Table, coarse: Table, fine: Table, k: int, rtol: float | None) -> Candidates:
    """keep_top(softmax_rows((H_e pinv(H_c))^T (H_e pinv(H_f))), fine_per_coarse)."""
    coarse_use, fine_use = (dense_product(entities, inverse(part, rtol)) for part in (coarse, fine))
    matches = [
        [dot(zip(one, other, strict=True)) for other in zip(*fine_use, strict=True)] for one in zip(*coarse_use, strict=True)
    ]
    return Candidates(softmax(matches), k)


def refresh_coarse(entities: Any, coarse: Any, coarse_per_entity: int, pinv_rtol: float | None = None) -> Candidates:
    """S_c anew."""
    return refreshed_coarse(table(entities), table(coarse), coarse_per_entity, pinv_rtol)


def refresh_fine(entities: Any, coarse: Any, fine: Any, fine_per_coarse: int, pinv_rtol: float | None = None) -> Candidates:
    """S_f anew."""
    return refreshed_fine(table(entities), table(coarse), table(fine), fine_per_coarse, pinv_rtol)


# Embeddings


def compose(assignment: Any, table_: Any) -> Table:
    """S E."""
    return product(sparse(assignment), table(table_), table_.shape[1])


def compose_vjp(assignment: Any, grad: Any) -> Table:
    """Linear: the values of the table do not matter."""
    inner = _variables(assignment.shape[1], grad.shape[1])
    return pulled_back(product(sparse(assignment), inner, grad.shape[1]), table(grad), inner)[0]


def _variables(n_rows: int, n_columns: int) -> Table:
    return [[variable(0) for _ in range(n_columns)] for _ in range(n_rows)]


def ego(coarse_assignment: Sparse, coarse: Table) -> Table:
    """tanh(S_c E_c)."""
    return each(tanh, product(coarse_assignment, coarse, width_of(coarse)))


def ego_embed(coarse_assignment: Any, coarse: Any) -> Table:
    """The same of matrices."""
    return ego(sparse(coarse_assignment), table(coarse))


def ego_embed_vjp(coarse_assignment: Any, coarse: Any, grad: Any) -> Table:
    """Pull-back."""
    inner = table(coarse, variable)
    return pulled_back(ego(sparse(coarse_assignment), inner), table(grad), inner)[0]


def soft_threshold(table_: Any, threshold: float) -> Table:
    """Entry by entry."""
    return each(lambda x: soft(x, threshold), table(table_))


def soft_threshold_vjp(table_: Any, threshold: float, grad: Any) -> Table:
    """Pull-back."""
    inner = table(table_, variable)
    return pulled_back(each(lambda x: soft(x, threshold), inner), table(grad), inner)[0]


def fine_nodes(fine: Table, threshold: float) -> Table:
    """tanh(soft(E_f))."""
    return each(lambda x: tanh(soft(x, threshold)), fine)


def fine_embed(fine: Any, threshold: float) -> Table:
    """The same of a matrix."""
    return fine_nodes(table(fine), threshold)


def fine_embed_vjp(fine: Any, threshold: float, grad: Any) -> Table:
    """Pull-back."""
    inner = table(fine, variable)
    return pulled_back(fine_nodes(inner, threshold), table(grad), inner)[0]


def bridged(fine_assignment: Sparse, weight: float, coarse: Table, fine: Table) -> Table:
    """(1 - w) E_c + w S_f E."""
    share = constant(weight)
    return combined((ONE - share, coarse), (share, product(fine_assignment, fine, width_of(coarse))))


def bridge(fine_assignment: Any, weight: float, coarse: Any, fine: Any) -> Table:
    """The same of matrices."""
    return bridged(sparse(fine_assignment), weight, table(coarse), table(fine))


def bridge_vjp(fine_assignment: Any, weight: float, grad: Any) -> tuple[Table, Table]:
    """Linear."""
    matrix = sparse(fine_assignment)
    coarse, fine = (_variables(n, grad.shape[1]) for n in (len(matrix.rows), matrix.n_columns))
    to_coarse, to_fine = pulled_back(bridged(matrix, weight, coarse, fine), table(grad), coarse, fine)
    return to_coarse, to_fine


def scatter_scores(scores: Any, positions: Any, dim: int) -> Table:
    """scores[r, j] at column positions[r, j]."""
    result = [[ZERO] * dim for _ in range(len(scores))]
    for r, row in enumerate(table(scores)):
        for j, score in enumerate(row):
            result[r][int(positions[r, j])] = score
    return result


# Propagation


def travelled(graph: Sparse, n_layers: int, entities: Table, coarse: Table) -> tuple[Table, Table]:
    """Mean of X, G X, ..., G^L X."""
    layers = [entities + coarse]
    for _ in range(n_layers):
        layers.append(product(graph, layers[-1], width_of(entities, coarse)))
    mean = _mean(layers)
    return mean[: len(entities)], mean[len(entities) :]


def travelled_fine(
    graph: Sparse, by_entity: Sparse, by_coarse: Sparse, weight: float, n_layers: int, entities: Table, coarse: Table, fine: Table
) -> tuple[Table, Table, Table]:
    """The layer of the fine stage, line by line."""
    n, c_end, width = len(entities), len(entities) + len(coarse), width_of(entities, coarse)
    layers = [entities + coarse + fine]
    for _ in range(n_layers):
        nodes = product(graph, layers[-1], width)
        h, c, f = nodes[:n], nodes[n:c_end], nodes[c_end:]
        h = combined((ONE, h), (MINUS_ONE, product(by_entity, c, width)))
        c = combined((ONE, c), (MINUS_ONE, product(by_coarse, f, width)))
        c = bridged(by_coarse, weight, c, f)
        h = combined((ONE, h), (ONE, product(by_entity, c, width)))
        layers.append(h + c + f)
    mean = _mean(layers)
    return mean[:n], mean[n:c_end], mean[c_end:]


def _mean(layers: list[Table]) -> Table:
    n_layers = exact(len(layers))
    if len(layers) == 1:
        return layers[0]
    return [[settled(total(entries) / n_layers) for entries in zip(*rows, strict=True)] for rows in zip(*layers, strict=True)]


def propagate_coarse(graph: Any, n_layers: int, entities: Any, coarse: Any) -> tuple[Table, Table]:
    """Of matrices."""
    return travelled(sparse(graph), n_layers, table(entities), table(coarse))


def propagate_coarse_vjp(graph: Any, n_layers: int, grad_entities: Any, grad_coarse: Any) -> tuple[Table, ...]:
    """Linear."""
    inner = [_variables(*grad.shape) for grad in (grad_entities, grad_coarse)]
    outputs = travelled(sparse(graph), n_layers, *inner)
    return tuple(pulled_back(outputs, [table(grad_entities), table(grad_coarse)], *inner))


def propagate_fine(
    graph: Any, coarse_assignment: Any, fine_assignment: Any, bridge_weight: float, n_layers: int, *tables: Any
) -> tuple[Table, Table, Table]:
    """Of matrices."""
    matrices = sparse(graph), sparse(coarse_assignment), sparse(fine_assignment)
    return travelled_fine(*matrices, bridge_weight, n_layers, *(table(part) for part in tables))


def propagate_fine_vjp(
    graph: Any, coarse_assignment: Any, fine_assignment: Any, bridge_weight: float, n_layers: int, *grads: Any
) -> tuple[Table, ...]:
    """Linear."""
    matrices = sparse(graph), sparse(coarse_assignment), sparse(fine_assignment)
    inner = [_variables(*grad.shape) for grad in grads]
    outputs = travelled_fine(*matrices, bridge_weight, n_layers, *inner)
    return tuple(pulled_back(outputs, [table(grad) for grad in grads], *inner))


# Loss


def scores_of(entities: Table, bias: Row, offset: Number, n_users: int, users: Any, items: Any) -> Row:
    """H_u . H_(U+i) + b_u + b_(U+i) + b_0."""
    return [
        settled(
            dot(
                [
                    *zip(entities[user], entities[n_users + item], strict=True),
                    *((number, ONE) for number in (bias[user], bias[n_users + item], offset)),
                ]
            )
        )
        for user, item in zip(users.tolist(), items.tolist(), strict=True)
    ]


def score_pairs(entities: Any, bias: Any, offset: float, n_users: int, users: Any, items: Any) -> Row:
    """Of matrices."""
    return scores_of(table(entities), column(bias), constant(offset), n_users, users, items)


def score_pairs_vjp(
    entities: Any, bias: Any, offset: float, n_users: int, users: Any, items: Any, grad: Any
) -> tuple[Table, Row, Number]:
    """Pull-back."""
    inner = table(entities, variable), column(bias, variable), variable(offset)
    outputs = scores_of(*inner, n_users, users, items)
    to_entities, to_bias, to_offset = pulled_back(outputs, column(grad), *inner)
    return to_entities, to_bias, to_offset


def ranking_loss(positives: Row, negatives: Row) -> Number:
    """Mean of softplus(s_uj - s_ui)."""
    losses = [softplus(negative - positive) for positive, negative in zip(positives, negatives, strict=True)]
    return total(losses) / exact(max(len(losses), 1))


def bpr_loss(positive_scores: Any, negative_scores: Any) -> Number:
    """Of vectors."""
    return ranking_loss(column(positive_scores), column(negative_scores))


def bpr_loss_vjp(positive_scores: Any, negative_scores: Any, grad: float) -> tuple[Row, Row]:
    """Pull-back."""
    inner = column(positive_scores, variable), column(negative_scores, variable)
    to_positive, to_negative = pulled_back([ranking_loss(*inner)], [constant(grad)], *inner)
    return to_positive, to_negative


def penalty(rows: Table, n_users: int, triples: Any, weight: float) -> Number:
    """Weight (||X_u||^2 + ||X_i||^2 + ||X_j||^2) / B, summed over triples."""
    squares = []
    for user, positive, negative in zip(*(part.tolist() for part in triples), strict=True):
        for entity in (user, n_users + positive, n_users + negative):
            squares += [(number, number) for number in rows[entity]]
    return constant(weight) * dot(squares) / exact(max(len(triples[0]), 1))


def ego_penalty(ego: Any, n_users: int, triples: Any, weight: float) -> Number:
    """Of a matrix."""
    return penalty(table(ego), n_users, triples, weight)


def ego_penalty_vjp(ego: Any, n_users: int, triples: Any, weight: float, grad: float) -> Table:
    """Pull-back."""
    inner = table(ego, variable)
    return pulled_back([penalty(inner, n_users, triples, weight)], [constant(grad)], inner)[0]


# The stages


def batch_loss(entities: Table, ego_rows: Table, bias: Row, n_users: int, triples: Any, l2_weight: float) -> Number:
    """The coarse stage, steps 4 and 5. A user's bias is in both scores of a triple: what it is off by cancels."""
    bias = [without_error(number) for number in bias[:n_users]] + bias[n_users:]
    positives, negatives = (scores_of(entities, bias, ZERO, n_users, triples[0], items) for items in triples[1:])
    return ranking_loss(positives, negatives) + penalty(ego_rows, n_users, triples, l2_weight)


class Coarse(NamedTuple):
    """Graph and assignment of the coarse stage."""

    graph: Sparse
    assignment: Sparse
    n_users: int
    settings: Any

    def forward(self, coarse: Table) -> tuple[Table, Table]:
        """The coarse stage, step 3."""
        return travelled(self.graph, self.settings.n_layers, ego(self.assignment, coarse), coarse)

    def loss_and_grad(self, coarse: Table, bias: Row, triples: Any) -> tuple[Number, Table, Row]:
        """The coarse stage, steps 3 to 5."""
        coarse, bias = _tracked(coarse), _tracked(bias)
        entities, _ = self.forward(coarse)
        loss = batch_loss(entities, ego(self.assignment, coarse), bias, self.n_users, triples, self.settings.l2_weight)
        return (loss, *pulled_back([loss], [ONE], coarse, bias))


class Fine(NamedTuple):
    """Graph and assignments of the fine stage."""

    graph: Sparse
    coarse_assignment: Sparse
    fine_assignment: Sparse
    n_users: int
    settings: Any

    def forward(self, coarse: Table, fine: Table) -> tuple[Table, Table, Table]:
        """The fine stage, steps 5 and 6."""
        settings = self.settings
        thresholded = each(lambda x: soft(x, settings.threshold), fine)
        return travelled_fine(
            self.graph,
            self.coarse_assignment,
            self.fine_assignment,
            settings.bridge_weight,
            settings.n_layers,
            ego(self.coarse_assignment, coarse),
            each(settled, bridged(self.fine_assignment, settings.bridge_weight, coarse, thresholded)),
            fine_nodes(fine, settings.threshold),
        )

    def loss_and_grad(self, coarse: Table, fine: Table, bias: Row, triples: Any) -> tuple[Number, Table, Table, Row]:
        """The fine stage, steps 5 to 7."""
        coarse, fine, bias = _tracked(coarse), _tracked(fine), _tracked(bias)
        entities, _, _ = self.forward(coarse, fine)
        ego_rows = ego(self.coarse_assignment, coarse)
        loss = batch_loss(entities, ego_rows, bias, self.n_users, triples, self.settings.l2_weight)
        return (loss, *pulled_back([loss], [ONE], coarse, fine, bias))


def _tracked(part: Any) -> Any:
    """The same numbers as variables, with the errors that they have."""
    if isinstance(part, Number):
        return Number(part.value, part.size, part.error, ())
    return [_tracked(inner) for inner in part]


def coarse_plan(norm_adjacency: Any, coarse_assignment: Any, n_users: int, settings: Any) -> Coarse:
    """Of matrices."""
    assignment = sparse(coarse_assignment)
    return Coarse(expanded(sparse(norm_adjacency), assignment), assignment, n_users, settings)


def fine_plan(norm_adjacency: Any, coarse_assignment: Any, fine_assignment: Any, n_users: int, settings: Any) -> Fine:
    """Of matrices."""
    assignments = sparse(coarse_assignment), sparse(fine_assignment)
    return Fine(expanded(sparse(norm_adjacency), *assignments), *assignments, n_users, settings)


def embed_coarse(norm_adjacency: Any, coarse_assignment: Any, n_users: int, settings: Any, coarse: Any) -> tuple[Table, Table]:
    """Forward pass of the coarse stage."""
    return coarse_plan(norm_adjacency, coarse_assignment, n_users, settings).forward(table(coarse))


def prepare_coarse(norm_adjacency: Any, _: Any, *others: Any) -> tuple[Table, Table]:
    """An earlier plan leaves nothing behind."""
    return embed_coarse(norm_adjacency, *others)


def embed_fine(
    norm_adjacency: Any, coarse_assignment: Any, fine_assignment: Any, n_users: int, settings: Any, coarse: Any, fine: Any
) -> tuple[Table, Table, Table]:
    """Forward pass of the fine stage."""
    return fine_plan(norm_adjacency, coarse_assignment, fine_assignment, n_users, settings).forward(table(coarse), table(fine))


def prepare_fine(norm_adjacency: Any, coarse_assignment: Any, _: Any, *others: Any) -> tuple[Table, Table, Table]:
    """An earlier plan leaves nothing behind."""
    return embed_fine(norm_adjacency, coarse_assignment, *others)


def coarse_loss_and_grad(
    norm_adjacency: Any, coarse_assignment: Any, n_users: int, settings: Any, coarse: Any, bias: Any, triples: Any
) -> tuple[Number, Table, Row]:
    """Of matrices."""
    plan = coarse_plan(norm_adjacency, coarse_assignment, n_users, settings)
    return plan.loss_and_grad(table(coarse), column(bias), triples)


def fine_loss_and_grad(
    norm_adjacency: Any,
    coarse_assignment: Any,
    fine_assignment: Any,
    n_users: int,
    settings: Any,
    coarse: Any,
    fine: Any,
    bias: Any,
    triples: Any,
) -> tuple[Number, Table, Table, Row]:
    """Of matrices."""
    plan = fine_plan(norm_adjacency, coarse_assignment, fine_assignment, n_users, settings)
    return plan.loss_and_grad(table(coarse), table(fine), column(bias), triples)
