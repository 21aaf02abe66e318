"""A model at work on raw ids: lists of drawn models against brute force, and users that were not there in training."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import sparse
from support import scalar
from support.strategies import Model as Drawn
from support.strategies import draw_model, models
from training.tiny import RECIPE, SETTINGS, tiny_split, with_schedules

from c2f_ref import C2FRecommender, Model

SPLIT = tiny_split()


def ranker_of(drawn: Drawn, *, fine: bool, **changes: Any) -> C2FRecommender:
    """A model of both stages, or of the coarse one, whose raw ids are positions."""
    model = Model(
        settings=replace(drawn.settings, **changes),
        user_ids=np.arange(drawn.n_users),
        item_ids=np.arange(drawn.n_items),
        seen=sparse.csr_array((np.ones(drawn.users.size), (drawn.users, drawn.items)), shape=(drawn.n_users, drawn.n_items)),
        bias=drawn.bias,
        coarse=drawn.coarse,
        coarse_assignment=drawn.coarse_assignment,
        fine=drawn.fine if fine else None,
        fine_assignment=drawn.fine_assignment if fine else None,
    )
    return C2FRecommender(implementation="c2f_ref.spec")._adopt(model, None, ())


@given(models(signed=True), st.booleans(), st.booleans(), st.integers(0, 12), st.randoms(use_true_random=False))
def test_lists_of_any_model_are_those_of_brute_force(drawn: Drawn, fine: bool, exclude: bool, n: int, random: Any) -> None:
    """Any users, several times over too, any candidates; scores are compared place by place, so ties may fall either way."""
    ranker = ranker_of(drawn, fine=fine)
    users = random.choices(range(drawn.n_users), k=random.randint(1, 4))
    candidates = random.sample(range(drawn.n_items), random.randint(0, drawn.n_items))
    ids, scores = ranker.recommend(users, n, exclude_seen=exclude, items=candidates)
    assert ids.shape == scores.shape == (len(users), n)
    for row, user in enumerate(users):
        embedding, items = ranker.embeddings()[0][user], ranker.embeddings()[1]
        fit = [math.fsum(embedding * items[i]) + drawn.bias[drawn.n_users + i] for i in range(drawn.n_items)]
        seen = set(drawn.items[drawn.users == user].tolist()) if exclude else set()
        ranked = scalar.rank(fit, set(range(drawn.n_items)) - set(candidates) | seen, n)
        assert (ids[row] == -1).tolist() == np.isneginf(scores[row]).tolist() == [item == -1 for item in ranked]
        kept = [item for item in ids[row].tolist() if item >= 0]
        assert len(set(kept)) == len(kept)
        assert set(kept) <= set(candidates) - seen
        np.testing.assert_allclose(scores[row, : len(kept)], [fit[item] for item in ranked[: len(kept)]], rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose([fit[item] for item in kept], scores[row, : len(kept)], rtol=1e-9, atol=1e-9)


def layers_of_items(drawn: Drawn, *, fine: bool) -> list[Any]:
    """h^0, ..., h^L of the items, from the means of the scalar propagation over 0, 1, ..., L layers."""
    settings = drawn.settings
    ego = scalar.ego_embed(drawn.coarse_assignment, drawn.coarse)
    sums = []
    for n_layers in range(settings.n_layers + 1):
        if fine:
            graph = scalar.expand_fine(drawn.norm_adjacency, drawn.coarse_assignment, drawn.fine_assignment)
            shrunk = scalar.soft_threshold(drawn.fine, settings.threshold)
            nodes = scalar.bridge(drawn.fine_assignment, settings.bridge_weight, drawn.coarse, shrunk)
            of_fine = scalar.fine_embed(drawn.fine, settings.threshold)
            assignments = drawn.coarse_assignment, drawn.fine_assignment
            mean = scalar.propagate_fine(graph, *assignments, settings.bridge_weight, n_layers, ego, nodes, of_fine)[0]
        else:
            graph = scalar.expand_coarse(drawn.norm_adjacency, drawn.coarse_assignment)
            mean = scalar.propagate_coarse(graph, n_layers, ego, drawn.coarse)[0]
        sums.append(mean[drawn.n_users :] * (n_layers + 1))
    return [sums[0], *(np.diff(sums, axis=0))]


@given(st.booleans().flatmap(lambda signed: models(signed=signed)), st.booleans(), st.randoms(use_true_random=False))
def test_the_direction_is_that_of_a_node_with_these_edges(drawn: Drawn, fine: bool, random: Any) -> None:
    """In scalar loops, layer by layer: h^(l+1) = sum of G_i h_i^l, G normalised twice, the new node in no other node's degree.

    D11: an item whose degree negative weights bring below 0 has no edge.
    """
    users_of = [int((drawn.items == item).sum()) for item in range(drawn.n_items)]
    joined = np.concatenate([drawn.norm_adjacency.toarray(), drawn.coarse_assignment.toarray()], axis=1)
    degrees = [math.fsum(row) for row in joined[drawn.n_users :]]
    assume(min(map(abs, degrees)) > 1e-3)  # what cancels but for rounding has no sign to speak of
    own = random.sample(range(drawn.n_items), random.randint(1, drawn.n_items))
    entries = {item: 1 / math.sqrt(len(own) * users_of[item]) for item in own if users_of[item]}
    total = np.zeros(drawn.settings.dim)
    for layer in layers_of_items(drawn, fine=fine)[:-1]:
        for item, entry in entries.items():
            if degrees[item] > 0:
                total += entry / math.sqrt(sum(entries.values()) * degrees[item]) * layer[item]
    ranker = ranker_of(drawn, fine=fine)
    made = ranker.fold_in(own)
    if not total.any():
        assert made.tolist() == [0.0] * drawn.settings.dim
        return
    np.testing.assert_allclose(made / np.linalg.norm(made), total / np.linalg.norm(total), rtol=0, atol=1e-9)
    lengths = [math.sqrt(math.fsum(value**2 for value in row)) for row in ranker.embeddings()[0]]
    assert np.linalg.norm(made) == pytest.approx(math.fsum(lengths) / drawn.n_users, rel=1e-12)


@pytest.mark.parametrize("fine", [False, True])
def test_with_nothing_to_go_by_the_biases_rank(fine: bool) -> None:
    """Without layers, or with items that no user has, the embedding is 0. Sizes: 5 users, 7 items, C = 4, F = 3, D = 6."""
    drawn = draw_model((5, 7, 4, 3, 6, 8), np.random.default_rng(1))
    unsold = drawn._replace(users=drawn.users[drawn.items != 2], items=drawn.items[drawn.items != 2])
    for ranker, own in (
        (ranker_of(drawn, fine=fine, n_layers=0), [1, 4]),
        (ranker_of(unsold, fine=fine), [2]),
        (ranker_of(drawn, fine=fine), []),
    ):
        assert ranker.fold_in(own).tolist() == [0.0] * 6
        wanted = scalar.rank(drawn.bias[5:].tolist(), set(own), 7)
        assert ranker.recommend_for(own, 7)[0].tolist() == wanted


def test_an_item_counts_once_and_one_item_may_stand_alone() -> None:
    ranker = ranker_of(draw_model((5, 7, 4, 3, 6, 8), np.random.default_rng(1)), fine=True)
    np.testing.assert_array_equal(ranker.fold_in([3, 1, 3]), ranker.fold_in(np.array(["1", "3"])))
    np.testing.assert_array_equal(ranker.fold_in(3), ranker.fold_in([3]))


def test_zeros_are_like_nothing() -> None:
    """A model whose tables are 0 has cosine 0 everywhere: the first others are listed."""
    drawn = draw_model((5, 7, 4, 3, 6, 8), np.random.default_rng(1))
    ranker = ranker_of(drawn._replace(coarse=np.zeros((4, 6))), fine=False)
    ids, cosines = ranker.similar_items(1, 4)
    assert (ids.tolist(), cosines.tolist()) == ([0, 2, 3, 4], [0.0] * 4)


# On a trained model


@pytest.fixture(scope="module")
def fitted() -> C2FRecommender:
    recipe = replace(with_schedules(RECIPE, max_epochs=21), sparse_pca_method="cd")
    made = C2FRecommender(**vars(SETTINGS), recipe=recipe, implementation="c2f_ref.spec", random_state=0)
    return made.fit(SPLIT.train, SPLIT.valid)


def own_items(user: int) -> list[str]:
    return [f"i{item}" for item in SPLIT.train.items[SPLIT.train.users == user]]


def test_somebody_with_a_known_users_items_is_recommended_what_that_user_is(fitted: C2FRecommender) -> None:
    """Of the 7 items of a user's list, more are in the list of its own items than in those of 29 others on average, for 9 in 10."""
    for_users = [set(fitted.recommend(f"u{user}", 7)[0]) for user in range(30)]
    folded = [set(fitted.recommend_for(own_items(user), 7)[0]) for user in range(30)]
    shared = np.array([[len(one & other) for other in folded] for one in for_users])
    others = (shared.sum(axis=1) - shared.diagonal()) / 29
    assert (shared.diagonal() > others).sum() >= 27
    assert shared.diagonal().mean() > 1.5 * others.mean()


def test_a_list_for_somebody_new_is_ranked_by_embedding_and_bias(fitted: C2FRecommender) -> None:
    own = own_items(4)
    embedding, items, bias = fitted.fold_in(own), fitted.embeddings()[1], fitted.model_.bias[30:]
    wanted = [sum(embedding[d] * items[i, d] for d in range(5)) + bias[i] for i in range(40)]
    seen = {int(raw[1:]) for raw in own}
    for exclude, out in ((True, seen), (False, set())):
        ids, scores = fitted.recommend_for(own, 9, exclude_seen=exclude)
        ranked = scalar.rank(wanted, out, 9)
        assert ids.tolist() == [f"i{item}" for item in ranked]
        np.testing.assert_allclose(scores, [wanted[item] for item in ranked], rtol=0, atol=1e-12)
    candidates = [3, 8, 21, *seen]
    ids, _ = fitted.recommend_for(own, 40, items=[f"i{item}" for item in candidates])
    assert ids[:3].tolist() == [f"i{item}" for item in scalar.rank(wanted, set(range(40)) - {3, 8, 21}, 3)]
    assert set(ids[3:]) == {""}
