"""Settings and validation."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
import math
from functools import partial

import numpy as np
import pytest
from scipy import sparse
from support.agreement import assert_refused

from c2f_ref.method import MethodError, Settings, SettingsError
from c2f_ref.method.notation import require_finite, require_indices, require_shape

FIELDS = {
    # name: published value, below the range, on its edge, above it (None: there is no above)
    "n_coarse": (300, 0, 2, None),
    "n_fine": (100, -1, 0, None),
    "dim": (128, 0, 1, None),
    "n_layers": (3, -1, 0, None),
    "coarse_per_entity": (2, 0, 300, None),
    "fine_per_coarse": (4, 0, 100, None),
    "anchor_weight": (0.5, -0.1, 1.0, 1.5),
    "threshold": (1.0, -0.1, math.inf, None),
    "bridge_weight": (0.2, -0.1, 1.0, 1.5),
    "l2_weight": (5e-4, -0.1, 0.0, math.inf),
    "clip_limit": (3.0, 0.0, math.inf, None),
    "adam_beta1": (0.9, -0.1, 0.0, 1.0),
    "adam_beta2": (0.999, -0.1, 0.0, 1.0),
    "adam_epsilon": (1e-8, 0.0, 5e-324, None),
    "sparse_pca_components": (80, 0, 1, None),
    "sparse_pca_alpha": (1.0, -0.1, 0.0, math.inf),
    "pinv_rtol": (None, -0.1, 0.0, 1.5),
}
WHOLE = [name for name, (published, *_) in FIELDS.items() if isinstance(published, int)]
refused = partial(assert_refused, error=SettingsError)


def test_defaults_are_the_published_gowalla_run() -> None:
    """Field by field; one layer count serves both stages (D14, D17). All are frozen and named."""
    published = {name: values[0] for name, values in FIELDS.items()}
    assert dataclasses.asdict(Settings()) == published
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().dim = 3  # type: ignore[misc]
    with pytest.raises(TypeError):
        Settings(300)  # type: ignore[misc]


def test_every_setting_has_a_docstring_with_its_source() -> None:
    body = ast.parse(inspect.getsource(Settings)).body[0].body  # type: ignore[attr-defined]
    pairs = [pair for pair in itertools.pairwise(body) if isinstance(pair[0], ast.AnnAssign)]
    assert [field.target.id for field, _ in pairs] == list(FIELDS)
    assert all("Source: equation" in text.value.value for _, text in pairs)


@pytest.mark.parametrize("name", FIELDS)
def test_a_setting_is_of_its_kind_accepted_on_the_edge_of_its_range_and_refused_outside(
    name,
) -> None:
    _, below, edge, above = FIELDS[name]
    assert getattr(Settings(**{name: edge}), name) == edge
    kind, others, nan = (
        ("int", [2.0, 2.5, None], []) if name in WHOLE else ("float", [], [math.nan])
    )
    for value in [below, *([] if above is None else [above]), *nan]:
        refused(rf"{name} must be in .*got {value}", Settings, **{name: value})
    for value in [True, "3", [3], 1j, *others]:
        refused(f"{name} must be of type {kind}.*, got", Settings, **{name: value})


def test_numbers_of_numpy_become_numbers_of_python() -> None:
    numbers = np.int32(7), np.float32(0.5), 1, np.float64(0.25)
    names = "dim", "threshold", "l2_weight", "pinv_rtol"
    settings = Settings(**dict(zip(names, numbers, strict=True)))
    values = [getattr(settings, name) for name in names]
    assert [type(value) for value in values] == [int, float, float, float]
    assert values == [7, 0.5, 1.0, 0.25]


def test_more_entries_a_row_than_columns_and_integers_beyond_floats_are_refused() -> None:
    """Unless there are no fine rows at all."""
    for wrong, message in [
        ({"threshold": 10**400}, "threshold must fit into a float"),
        ({"n_coarse": 3, "coarse_per_entity": 4}, "coarse_per_entity must be at most n_coarse = 3"),
        ({"n_fine": 3}, "fine_per_coarse must be at most n_fine = 3, got 4"),
    ]:
        refused(message, Settings, **wrong)
    assert Settings(n_coarse=3, coarse_per_entity=3).coarse_per_entity == 3
    assert Settings(n_fine=0, fine_per_coarse=4).n_fine == 0
    assert issubclass(SettingsError, MethodError)
    assert issubclass(MethodError, ValueError)


def test_checks_name_what_was_expected_and_what_came() -> None:
    for bad in (np.nan, np.inf, -np.inf):
        table = np.array([[1.0, 1.0, bad], [1.0, bad, 1.0]])
        assert_refused(
            rf"fine must be finite, got {bad} at \(0, 2\)", require_finite, "fine", table
        )
        message = rf"graph must be finite, got {bad} at stored value \(2,\)"
        assert_refused(message, require_finite, "graph", sparse.csr_array(table))
    for fine in (np.ones((2, 3)), np.zeros((0, 3)), sparse.csr_array((2, 3)), [1.0, 2.0]):
        require_finite("fine", fine)
    require_shape("bias", np.ones(2), (2,))
    message = r"bias must have shape \(3,\), got \(2,\)"
    assert_refused(message, require_shape, "bias", np.ones(2), (3,))
    for dtype in (np.int64, np.int32):
        require_indices("users", np.array([0, 4], dtype=dtype), 5)
    require_indices("users", np.zeros(0, dtype=np.int64), 0)
    for low, high in ((0, 5), (-1, 4)):
        message = rf"users must be in \[0, 5\), got {low} to {high}"
        assert_refused(message, require_indices, "users", np.array([low, high]), 5)
    for dtype in (np.float64, np.bool_):
        message = "users must be integers, got dtype"
        assert_refused(message, require_indices, "users", np.ones(2, dtype=dtype), 5)
