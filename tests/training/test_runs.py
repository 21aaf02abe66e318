"""Both stages from one seed: what the second takes over from the first."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest

from c2f_ref import spec
from c2f_ref.interactions import planted, split_ratio
from c2f_ref.spec import Settings
from c2f_ref.training import Recipe, to_model, train


def test_the_fine_stage_starts_from_the_chosen_coarse_model_of_the_same_split() -> None:
    """D16: another seed trains another coarse model, and its fine stage takes over that one; the split stays the same."""
    data = planted(n_users=40, n_items=30, n_groups=2, subgroups_per_group=2, pairs_per_user=8, rng=np.random.default_rng(0))
    split = split_ratio(data, valid=0.2, test=0.2, seed=0)
    settings = Settings(n_coarse=5, n_fine=4, dim=6, n_layers=2)
    recipe = Recipe(coarse_batch=64, fine_batch=64, coarse_lr=0.02, max_epochs=12, evaluate_every=2, patience=2)
    models = []
    for seed in (0, 1):
        coarse, fine = train(split, settings, recipe, seed=seed)
        assert fine is not None
        model = to_model(split, settings, coarse.best, fine.best)
        for kept, chosen in ((model.coarse, coarse.best.tables[0]), (model.coarse_assignment.data, coarse.best.assignment.data)):
            assert np.array_equal(kept, chosen)
        assert model.fine is not None
        assert model.provenance["split"] == split.describe()
        models.append(model)
    assert not np.array_equal(models[0].coarse, models[1].coarse)


@pytest.mark.parametrize("stage", ["coarse", "fine"])
def test_a_refreshed_plan_is_told_of_the_one_before(stage: str) -> None:
    """An implementation may take over what it kept for the graph: the first plan has no forerunner, each later one the last."""
    data = planted(n_users=40, n_items=30, n_groups=2, subgroups_per_group=2, pairs_per_user=8, rng=np.random.default_rng(0))
    made: list[Any] = []

    def prepare(*given: Any) -> Any:
        assert given[-1] is (made[-1] if made else None)
        made.append(getattr(spec, f"prepare_{stage}")(*given))
        return made[-1]

    ops = ModuleType("ops")
    vars(ops).update({name: getattr(spec, name) for name in spec.CONTRACT} | {f"prepare_{stage}": prepare})
    recipe = Recipe(coarse_batch=64, fine_batch=64, coarse_lr=0.02, max_epochs=12, evaluate_every=1, patience=1)
    settings = Settings(n_coarse=5, n_fine=4, dim=6, n_layers=2)
    train(split_ratio(data, valid=0.2, test=0.2, seed=0), settings, recipe, seed=0, ops=ops)
    assert len(made) > 1
