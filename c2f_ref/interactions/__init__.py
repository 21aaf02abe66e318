"""Interaction data: pairs in, validated and frozen; file formats; raw ids; splits; planted synthetic data."""

from c2f_ref.interactions.fields import DataError
from c2f_ref.interactions.formats import read_folder, read_interactions
from c2f_ref.interactions.pairs import Interactions
from c2f_ref.interactions.planted import planted
from c2f_ref.interactions.splits import (
    Split,
    load_split,
    read_split,
    save_split,
    split_by_time,
    split_given,
    split_leave_one_out,
    split_ratio,
    split_third,
)

__all__ = [
    "DataError",
    "Interactions",
    "Split",
    "load_split",
    "planted",
    "read_folder",
    "read_interactions",
    "read_split",
    "save_split",
    "split_by_time",
    "split_given",
    "split_leave_one_out",
    "split_ratio",
    "split_third",
]
