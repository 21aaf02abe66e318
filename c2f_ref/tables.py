"""Results as plain text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def text_table(columns: Sequence[str], rows: Mapping[str, Sequence[str]]) -> str:
    """Rows of cells under their column names, right-aligned; every row begins with its name."""
    width = max((len(name) for name in rows), default=0)
    cells = [columns, *rows.values()]
    widths = [max(len(row[i]) for row in cells) for i in range(len(columns))]
    lines = [" " * width + "".join(f"  {cell:>{w}}" for cell, w in zip(columns, widths, strict=True))]
    for name, row in rows.items():
        lines.append(f"{name:<{width}}" + "".join(f"  {cell:>{w}}" for cell, w in zip(row, widths, strict=True)))
    return "\n".join(lines)


def metric_columns(ks: Sequence[int]) -> dict[str, str]:
    """Metric keys of `c2f_ref.spec.mean_metrics` and how a table heads them: {"ndcg@5": "N@5", ..., "recall@5": "R@5"}."""
    return {f"ndcg@{k}": f"N@{k}" for k in ks} | {f"recall@{k}": f"R@{k}" for k in ks}
