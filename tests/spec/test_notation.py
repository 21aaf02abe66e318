"""Settings and the doorway checks."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
import math

import numpy as np
import pytest
from scipy import sparse

from c2f_ref.spec import Settings, SettingsError, SpecError
from c2f_ref.spec.notation import require_finite, require_indices, require_shape

PUBLISHED = {
    "n_coarse": 300,
    "n_fine": 100,
    "dim": 128,
    "n_layers": 3,
    "coarse_per_entity": 2,
    "fine_per_coarse": 4,
    "anchor_weight": 0.5,
    "threshold": 1.0,
    "bridge_weight": 0.2,
    "l2_weight": 5e-4,
    "clip_limit": 3.0,
    "adam_beta1": 0.9,
    "adam_beta2": 0.999,
    "adam_epsilon": 1e-8,
    "sparse_pca_components": 80,
    "sparse_pca_alpha": 1.0,
    "pinv_rtol": None,
}
WHOLE = ["n_coarse", "n_fine", "dim", "n_layers", "coarse_per_entity", "fine_per_coarse", "sparse_pca_components"]
REAL = [name for name in PUBLISHED if name not in WHOLE]
BELOW_RANGE = {
    "n_coarse": 0,
    "n_fine": -1,
    "dim": 0,
    "n_layers": -1,
    "coarse_per_entity": 0,
    "fine_per_coarse": 0,
    "anchor_weight": -0.1,
    "threshold": -0.1,
    "bridge_weight": -0.1,
    "l2_weight": -0.1,
    "clip_limit": 0.0,
    "adam_beta1": -0.1,
    "adam_beta2": -0.1,
    "adam_epsilon": 0.0,
    "sparse_pca_components": 0,
    "sparse_pca_alpha": -0.1,
    "pinv_rtol": -0.1,
}
ABOVE_RANGE = {
    "anchor_weight": 1.5,
    "bridge_weight": 1.5,
    "l2_weight": math.inf,
    "adam_beta1": 1.0,
    "adam_beta2": 1.0,
    "sparse_pca_alpha": math.inf,
    "pinv_rtol": 1.5,
}
ON_THE_EDGE = {
    "n_coarse": 2,
    "n_fine": 0,
    "dim": 1,
    "n_layers": 0,
    "coarse_per_entity": 300,
    "fine_per_coarse": 100,
    "anchor_weight": 1.0,
    "threshold": math.inf,
    "bridge_weight": 1.0,
    "l2_weight": 0.0,
    "clip_limit": math.inf,
    "adam_beta1": 0.0,
    "adam_beta2": 0.0,
    "adam_epsilon": 5e-324,
    "sparse_pca_components": 1,
    "sparse_pca_alpha": 0.0,
    "pinv_rtol": 0.0,
}


def test_defaults_are_the_published_gowalla_run() -> None:
    """The numbers of `Settings()` against those of the method's description, field by field."""
    assert dataclasses.asdict(Settings()) == PUBLISHED


def test_settings_are_frozen_and_named() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().dim = 3  # type: ignore[misc]
    with pytest.raises(TypeError):
        Settings(300)  # type: ignore[misc]
    assert Settings(dim=4) == Settings(dim=4) != Settings(dim=5)


def test_every_setting_has_a_docstring_with_its_source() -> None:
    body = ast.parse(inspect.getsource(Settings)).body[0].body  # type: ignore[attr-defined]
    documented = {
        field.target.id
        for field, text in itertools.pairwise(body)
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and "Source: " in text.value.value
    }
    assert documented == set(PUBLISHED)


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_setting_accepts_the_edge_of_its_range(name) -> None:
    assert getattr(Settings(**{name: ON_THE_EDGE[name]}), name) == ON_THE_EDGE[name]


@pytest.mark.parametrize(("name", "value"), [*BELOW_RANGE.items(), *ABOVE_RANGE.items(), *((name, math.nan) for name in REAL)])
def test_a_setting_out_of_range_is_refused_by_name_and_value(name, value) -> None:
    with pytest.raises(SettingsError, match=rf"{name} must be .*got {value}"):
        Settings(**{name: value})


@pytest.mark.parametrize("value", [True, "3", 2.0, 2.5, None, [3], 1j])
@pytest.mark.parametrize("name", WHOLE)
def test_a_whole_number_is_asked_for_by_name(name, value) -> None:
    with pytest.raises(SettingsError, match=f"{name} must be of type int, got"):
        Settings(**{name: value})


@pytest.mark.parametrize("value", [True, "0.5", [0.5], 0.5j])
@pytest.mark.parametrize("name", REAL)
def test_a_real_number_is_asked_for_by_name(name, value) -> None:
    with pytest.raises(SettingsError, match=rf"{name} must be of type float.*, got"):
        Settings(**{name: value})


def test_a_whole_number_too_large_for_a_float_is_refused_as_a_setting() -> None:
    with pytest.raises(SettingsError, match="threshold"):
        Settings(threshold=10**400)


def test_numbers_of_numpy_become_numbers_of_python() -> None:
    settings = Settings(dim=np.int32(7), threshold=np.float32(0.5), l2_weight=1, pinv_rtol=np.float64(0.25))
    assert [type(value) for value in (settings.dim, settings.threshold, settings.l2_weight, settings.pinv_rtol)] == [int] + [
        float
    ] * 3
    assert (settings.dim, settings.threshold, settings.l2_weight, settings.pinv_rtol) == (7, 0.5, 1.0, 0.25)


def test_more_entries_a_row_than_columns_are_refused() -> None:
    with pytest.raises(SettingsError, match="coarse_per_entity must be at most n_coarse = 3, got 4"):
        Settings(n_coarse=3, coarse_per_entity=4)
    with pytest.raises(SettingsError, match="fine_per_coarse must be at most n_fine = 3, got 4"):
        Settings(n_fine=3)
    assert Settings(n_coarse=3, coarse_per_entity=3).coarse_per_entity == 3


def test_a_model_without_fine_rows_ignores_the_entries_per_coarse_row() -> None:
    assert Settings(n_fine=0, fine_per_coarse=4).n_fine == 0


def test_errors_are_one_family() -> None:
    assert issubclass(SettingsError, SpecError)
    assert issubclass(SpecError, ValueError)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_require_finite_names_the_array_the_value_and_the_first_place(bad) -> None:
    table = np.ones((2, 3))
    table[0, 2] = table[1, 1] = bad
    with pytest.raises(SpecError, match=rf"fine must be finite, got {bad} at \(0, 2\)"):
        require_finite("fine", table)
    with pytest.raises(SpecError, match=rf"graph must be finite, got {bad} at stored value \(2,\)"):
        require_finite("graph", sparse.csr_array(table))
    require_finite("fine", np.ones((2, 3)))
    require_finite("fine", np.zeros((0, 3)))
    require_finite("graph", sparse.csr_array((2, 3)))


def test_require_shape_names_both_shapes() -> None:
    with pytest.raises(SpecError, match=r"bias must have shape \(3,\), got \(2,\)"):
        require_shape("bias", np.ones(2), (3,))
    require_shape("bias", np.ones(2), (2,))


def test_require_indices_names_the_range_and_what_came() -> None:
    for dtype in (np.int64, np.int32):
        require_indices("users", np.array([0, 4], dtype=dtype), 5)
    require_indices("users", np.zeros(0, dtype=np.int64), 0)
    for bad in ([0, 5], [-1, 4]):
        with pytest.raises(SpecError, match=rf"users must be in \[0, 5\), got {min(bad)} to {max(bad)}"):
            require_indices("users", np.array(bad), 5)
    for dtype in (np.float64, np.bool_):
        with pytest.raises(SpecError, match="users must be integers, got dtype"):
            require_indices("users", np.ones(2, dtype=dtype), 5)
