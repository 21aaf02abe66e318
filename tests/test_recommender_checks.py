"""scikit-learn's own checks of an estimator; what it does otherwise is listed here, with the reason."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from c2f_ref import C2FRecommender, Recipe
from c2f_ref.training import Schedule

SHORT = Schedule(batch=512, lr=0.05, max_epochs=2, evaluate_every=1)
ESTIMATOR = C2FRecommender(
    n_coarse=3,
    n_fine=3,
    dim=4,
    n_layers=1,
    fine_per_coarse=1,
    # Ends at once, but where all three rows are one: there it makes all its 1,000 turns.
    sparse_pca_components=1,
    sparse_pca_alpha=100.0,
    recipe=Recipe(coarse=SHORT, fine=SHORT, sparse_pca_method="cd"),
    implementation="c2f_ref.spec",
)
EXCEPTIONS = {
    "check_fit_score_takes_y": "the second argument of `fit` is validation data (a one-dimensional y is taken for none), and "
    "`score` takes users and items",
    "check_n_features_in_after_fitting": "`score` takes users and items, not a matrix",
    "check_pipeline_consistency": "`score` takes users and items, not a matrix",
}


def name_of(check: Callable[..., Any]) -> str:
    while isinstance(check, partial):
        check = check.func
    return getattr(check, "__name__", "")


# As a list: some versions of scikit-learn mark with a generator, which pytest will not take for long.
CHECKS = list(parametrize_with_checks([ESTIMATOR]).args[1])


@pytest.mark.parametrize(("estimator", "check"), CHECKS, ids=[name_of(check) for _, check in CHECKS])
def test_the_estimator_keeps_the_conventions_of_scikit_learn(estimator: Any, check: Callable[[Any], None]) -> None:
    """An exception that is none any more fails too."""
    if name_of(check) in EXCEPTIONS:
        with pytest.raises((AssertionError, ValueError)):
            check(estimator)
    else:
        check(estimator)


def test_exceptions_are_few_and_have_reasons() -> None:
    assert len(EXCEPTIONS) <= 8
    assert all(EXCEPTIONS.values())
