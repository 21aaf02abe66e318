"""Results as plain text."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from c2f_ref.spec import mean_metrics
from c2f_ref.tables import metric_columns, text_table


def test_cells_are_right_aligned_under_their_columns() -> None:
    assert text_table(["N@5", "floats"], {"popularity": ["0.1", "7"], "b": ["0.2345", "1,234,567"]}).splitlines() == [
        "               N@5     floats",
        "popularity     0.1          7",
        "b           0.2345  1,234,567",
    ]


def test_a_table_without_rows_is_its_head() -> None:
    assert text_table(["N@5"], {}) == "  N@5"


def test_metrics_are_headed_by_a_letter_and_k() -> None:
    assert metric_columns((5, 20)) == {"ndcg@5": "N@5", "ndcg@20": "N@20", "recall@5": "R@5", "recall@20": "R@20"}


def test_columns_are_the_keys_of_the_metrics_in_their_order() -> None:
    metrics = mean_metrics(np.array([[0, 1]]), sparse.csr_array([[1.0, 0.0]]), (1, 2))
    assert list(metric_columns((1, 2))) == list(metrics)
