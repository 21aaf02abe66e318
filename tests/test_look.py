"""The command `plot` draws what the model file holds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from training.tiny import RECIPE, SETTINGS, tiny_split, with_schedules

from c2f_ref import method, plots
from c2f_ref.cli import main
from c2f_ref.evaluation import embed_nodes
from c2f_ref.model import save_model
from c2f_ref.training import to_model, train


@pytest.mark.parametrize(("n_fine", "dtype"), [(4, np.float16), (4, np.float64), (0, np.float32)])
def test_plot_shows_the_propagated_nodes_and_the_stored_entries(
    n_fine: int, dtype: Any, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever tables are rounded to; of the coarse stage alone the embeddings only."""
    drawn: dict[str, Any] = {}
    draws = {n: getattr(plots, n) for n in ("plot_embeddings", "plot_sparsity", "plot_bridges")}
    for name, draw in draws.items():

        def record(*given: Any, name: str = name, draw: Any = draw) -> Any:
            drawn[name] = given
            return draw(*given)

        monkeypatch.setattr(plots, name, record)
    split, settings = tiny_split(), replace(SETTINGS, n_fine=n_fine)
    recipe = replace(with_schedules(RECIPE, max_epochs=3), sparse_pca_solver="cd")
    coarse, fine = train(split, settings, recipe, seed=0, ops=method)
    model = to_model(split, settings, coarse.chosen, fine.chosen if fine else None)
    model = model.with_tables(dtype)
    save_model(tmp_path / "model.npz", model)
    assert main(["plot", str(tmp_path / "model.npz"), "--out", str(tmp_path)]) == 0
    names = ["embeddings", "fine_table", "bridges"] if fine else ["embeddings"]
    assert capsys.readouterr().out == "".join(f"{tmp_path / name}.png\n" for name in names)
    entities, n_users, *nodes = drawn.pop("plot_embeddings")
    for found, wanted in zip((entities, *nodes), embed_nodes(model, ops=method), strict=True):
        np.testing.assert_array_equal(found, wanted)
    assert n_users == 30
    if fine:
        np.testing.assert_array_equal(*drawn.pop("plot_sparsity")[0].values(), model.fine)
        assert (drawn.pop("plot_bridges")[0] != model.fine_assignment).nnz == 0
    assert drawn == {}
