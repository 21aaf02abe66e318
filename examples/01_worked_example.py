"""The whole method on a model small enough to check with a pocket calculator, printed step by step.

    python examples/01_worked_example.py [PAIRS]

3 users, 4 items, 4 coarse and 3 fine rows of 2 dimensions, one layer. PAIRS is a file of your own,
for instance a CSV with the header `user,item`; keep it tiny, because everything is printed. Lines
that begin with "by hand" work one entry out with plain numbers, next to the array that holds it.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

import numpy as np

from c2f_ref import method
from c2f_ref.interactions import Interactions, read_interactions
from c2f_ref.partition import partition

SETTINGS = method.Settings(n_coarse=4, n_fine=3, dim=2, n_layers=1, fine_per_coarse=2)
LR = 0.1
STEP = 1e-5
"""Of the finite differences."""


def show(title: str, formula: str, *arrays: Any) -> None:
    """One step: its name, its formula, and what came out."""
    print(f"\n{title}\n    {formula}")
    for array in arrays:
        print(array.toarray() if hasattr(array, "toarray") else array)


def by_hand(text: str, value: float, of_array: float) -> None:
    """One entry worked out; what the arrays have must be the same."""
    print(f"by hand: {text} = {value:.4f}")
    assert math.isclose(value, of_array, rel_tol=1e-9, abs_tol=1e-12), (text, value, of_array)


def differences(loss: Any, table: Any) -> Any:
    """The gradient by central differences: every entry a little up, a little down."""
    grad = np.zeros_like(table)
    for place in np.ndindex(table.shape):
        nudge = np.zeros_like(table)
        nudge[place] = STEP
        grad[place] = (loss(table + nudge) - loss(table - nudge)) / (2 * STEP)
    return grad


def main() -> None:
    """Print everything, from the pairs to the lists of both stages."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("pairs", type=Path, nargs="?", metavar="PAIRS")
    options = parser.parse_args()
    np.set_printoptions(precision=4, suppress=True)
    users, rng = ["ann", "ann", "bob", "bob", "cat", "cat"], np.random.default_rng(0)
    ours = Interactions.from_pairs(users, ["A", "B", "B", "C", "C", "D"])
    pairs = read_interactions(options.pairs) if options.pairs else ours
    print("Entities are users, then items:", *pairs.user_ids, *pairs.item_ids)
    fine_stage(pairs, *coarse_stage(pairs, rng), rng)


def coarse_stage(pairs: Interactions, rng: np.random.Generator) -> tuple[Any, Any, Any]:
    """From the pairs to E_c after a step, S_c after a refresh, and b."""
    print("\n==== Coarse stage ====")
    settings, n_users = SETTINGS, pairs.n_users
    graph = method.bipartite(pairs.users, pairs.items, n_users, pairs.n_items)
    adjacency, degrees = method.normalise(graph), graph.sum(axis=1)
    user, item = int(pairs.users[0]), int(n_users + pairs.items[0])
    show("1. The graph of who chose what", "A_ij = G_ij / sqrt(d_i d_j)", adjacency)
    text = f"A[{user}, {item}] = 1 / sqrt({degrees[user]:.0f} * {degrees[item]:.0f})"
    by_hand(text, 1 / math.sqrt(degrees[user] * degrees[item]), adjacency[user, item])

    labels = partition(graph, settings.n_coarse, rng=rng)
    assignment = method.start_coarse_assignment(labels, settings, rng=rng)
    formula = f"S_c: 0.5 on the own part, 0.5 on another; parts are {labels}"
    show("2. Every entity is made of 2 coarse rows", formula, assignment)

    coarse = np.round(2 * rng.standard_normal((settings.n_coarse, settings.dim))) / 2
    ego = method.ego_embed(assignment, coarse)
    show("3. Ego embeddings, from the coarse table E_c", "X_e = tanh(S_c E_c)", coarse, ego)
    (p, q), (x, y) = assignment.data[:2], coarse[assignment.indices[:2], 1]
    by_hand(f"X_e[0, 1] = tanh({p} * {x} + {q} * {y})", math.tanh(p * x + q * y), ego[0, 1])

    plan = method.prepare_coarse(adjacency, assignment, n_users, settings)
    entities, nodes = method.embed_coarse(plan, coarse)
    title = "4. One layer over entities and coarse nodes, and the mean of both layers"
    show(title, "H = (X + G X) / 2", entities, nodes)
    row, column = plan.graph[[0]], np.concatenate([ego, coarse])[:, 1]
    terms = zip(row.data, row.indices, strict=True)
    around = " + ".join(f"{weight:.4f} * {column[node]:.4f}" for weight, node in terms)
    text = f"H[0, 1] = ({ego[0, 1]:.4f} + {around}) / 2"
    by_hand(text, (ego[0, 1] + float((row @ column)[0])) / 2, entities[0, 1])

    bias, triples = np.zeros(pairs.n_entities), method.sample_triples(pairs.matrix(), 2, 1, rng=rng)
    title = "5. Scores, and the loss of triples: a user, an item it chose, one it did not"
    show(title, "s_ui = H_u . H_(U+i) + b_u + b_i", triples)
    loss, grad, grad_bias = method.coarse_loss_and_grad(plan, coarse, bias, triples)
    of_triples = [(u, n_users + i, n_users + j) for u, i, j in zip(*triples, strict=True)]
    margins = [float(entities[u] @ (entities[i] - entities[j])) for u, i, j in of_triples]
    norms = sum(float(ego[row] @ ego[row]) for rows in of_triples for row in rows)
    text = " + ".join(f"log(1 + exp({-margin:.4f}))" for margin in margins)
    total = sum(math.log1p(math.exp(-margin)) for margin in margins) + settings.l2_weight * norms
    text = f"loss = ({text} + {settings.l2_weight} * {norms:.4f}) / {len(margins)}"
    by_hand(text, total / max(len(margins), 1), loss)

    numeric = differences(
        lambda table: method.coarse_loss_and_grad(plan, table, bias, triples)[0], coarse
    )
    title = "6. The gradient in E_c, by the pull-backs and by finite differences"
    show(title, "(loss(x + h) - loss(x - h)) / 2h", grad, numeric)
    np.testing.assert_allclose(grad, numeric, rtol=1e-6, atol=1e-8)

    stepped, _ = method.adam_step(coarse, grad, method.start_adam(coarse), LR, settings)
    bias, _ = method.adam_step(bias, grad_bias, method.start_adam(bias), LR, settings)
    title = "7. Adam's first step moves every entry by the rate, whatever the gradient's size"
    show(title, "E_c - lr g / (sqrt(g^2) + 1e-8)", stepped)
    x, g = coarse[0, 0], grad[0, 0]
    text = f"E_c[0, 0] = {x} - {LR} * {g:.4f} / ({abs(g):.4f} + 1e-8)"
    by_hand(text, x - LR * g / (abs(g) + 1e-8), stepped[0, 0])

    propagated = method.embed_coarse(plan, stepped)
    assignment = method.refresh_coarse(*propagated, settings.coarse_per_entity)
    title = "8. Refresh: the 2 coarse nodes that, weighted, come nearest"
    show(title, "S_c = keep_top(H_e pinv(H_c), 2)", assignment)
    return stepped, assignment, bias


def fine_stage(
    pairs: Interactions, coarse: Any, assignment: Any, bias: Any, rng: np.random.Generator
) -> None:
    """A fine table next to the frozen coarse one, a step, and the lists."""
    print("\n==== Fine stage: E_c and S_c are frozen ====")
    settings, n_users, seen = SETTINGS, pairs.n_users, pairs.matrix()
    graph = method.bipartite(pairs.users, pairs.items, n_users, pairs.n_items)
    fine = np.array([[1.5, 0.5], [-2.0, 0.75], [0.25, 1.75]])
    left = method.soft_threshold(fine, settings.threshold)
    title = "9. A fine table E_f, and what the threshold leaves of it"
    show(title, "soft(x) = sign(x) max(|x| - 1, 0)", fine, left)

    affinity = method.part_affinity(partition(graph, settings.n_fine, rng=rng), settings.n_fine)
    bridges = method.start_fine_assignment(assignment, affinity, settings.fine_per_coarse)
    bridged = method.bridge(bridges, settings.bridge_weight, coarse, left)
    formula = "S_f = keep_top(softmax(S_c^T P), 2);  0.8 E_c + 0.2 S_f soft(E_f)"
    title = "10. Bridges from coarse rows to fine rows, and the sharpened table"
    show(title, formula, bridges, bridged)
    (p, q), (x, y), own = bridges.data[:2], fine[bridges.indices[:2], 0], coarse[0, 0]
    x, y = (math.copysign(max(abs(entry) - 1, 0), entry) for entry in (x, y))
    text = f"entry [0, 0] = 0.8 * {own:.4f} + 0.2 * ({p:.4f} * {x} + {q:.4f} * {y})"
    by_hand(text, 0.8 * own + 0.2 * (p * x + q * y), bridged[0, 0])

    plan = method.prepare_fine(method.normalise(graph), assignment, bridges, n_users, settings)
    triples = method.sample_triples(seen, 2, 1, rng=rng)
    _, _, grad, _ = method.fine_loss_and_grad(plan, coarse, fine, bias, triples)
    numeric = differences(
        lambda table: method.fine_loss_and_grad(plan, coarse, table, bias, triples)[0], fine
    )
    formula = "exactly 0 where |x| <= 1, so that such an entry never comes back"
    show("11. The gradient in E_f, both ways", formula, grad, numeric)
    np.testing.assert_allclose(grad, numeric, rtol=1e-6, atol=1e-8)

    fine, _ = method.adam_step(fine, grad, method.start_adam(fine), LR, settings)
    propagated = method.embed_fine(plan, coarse, fine)
    bridges = method.refresh_fine(*propagated, settings.fine_per_coarse)
    formula = "S_f = keep_top(softmax((H_e pinv(H_c))^T (H_e pinv(H_f))), 2)"
    title = "12. Weight bridging: coarse and fine rows match when the same entities use both"
    show(title, formula, bridges)

    items, scores = method.rank_items(propagated[0], bias, n_users, np.arange(n_users), seen, 1)
    formula = "argmax over unseen i of s_ui; -1: there is none"
    show("13. For everyone the best item that is new", formula, items[:, 0], scores[:, 0])


if __name__ == "__main__":
    main()
