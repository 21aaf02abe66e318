"""The claim of the demonstration: on its data each stage beats what came before, whatever the seed."""

from __future__ import annotations

import numpy as np
import pytest

from c2f_ref import spec
from c2f_ref.baselines import rank_by_popularity
from c2f_ref.interactions import planted, split_ratio
from c2f_ref.training import DEMO_SETTINGS, RECIPES, embed_model, evaluate_embeddings, to_model, train


@pytest.mark.parametrize("seed", range(5))
def test_coarse_beats_popularity_and_fine_beats_coarse(seed: int) -> None:
    """By NDCG@10 on held-out pairs; data, split and training follow the seed, as in `c2f-ref demo --seed`."""
    split = split_ratio(planted(rng=np.random.default_rng(seed)), valid=0.2, test=0.3, seed=seed)
    coarse, fine = train(split, DEMO_SETTINGS, RECIPES["demo"], seed=seed)
    assert fine is not None
    seen, held_out = split.train.matrix(), split.test.matrix()
    users = np.flatnonzero(np.diff(held_out.indptr))
    assert len(users) == 600
    popular, _ = rank_by_popularity(users, seen, 10)
    models = to_model(split, DEMO_SETTINGS, coarse.best), to_model(split, DEMO_SETTINGS, coarse.best, fine.best)
    figures = [
        spec.mean_metrics(popular, held_out[users], (10,)),
        *(evaluate_embeddings(embed_model(model), model.bias, seen, held_out, (10,)) for model in models),
    ]
    by_popularity, by_coarse, by_fine = (figure["ndcg@10"] for figure in figures)
    assert by_popularity < by_coarse < by_fine
