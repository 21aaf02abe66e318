"""The oracle: holds a module against the numbers that the official code gave.

Read in this order: `layout` and `vectors` (a file of known answers), `checks` (when an array is the right one), `answers` and
`steps` (which function must give which array), `official` (all of them, for one file) and `report` (a folder, and the verdict).
"""

from .checks import Check, Failure
from .official import operations
from .report import ModuleLoadError, Report, load_module, run
from .vectors import VectorError, Vectors, read_vectors

__all__ = [
    "Check",
    "Failure",
    "ModuleLoadError",
    "Report",
    "VectorError",
    "Vectors",
    "load_module",
    "operations",
    "read_vectors",
    "run",
]
