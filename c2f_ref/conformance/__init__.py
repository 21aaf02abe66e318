"""The oracle: holds a module, or any command, against what the method gives.

Two sources. The frozen cases: `cases` (what is given and what must come), `calls` (how an operation is called), `comparators`
and `properties` (when a result is right), `runner` and `command` (who is asked), `publish` (the cases as files). And the numbers
recorded from the official code: `layout` and `vectors` (a file of them), `checks` (when an array is the right one), `answers` and
`steps` (which function must give which array), `official` (a folder). Both end in a `report`.
"""

from .cases import Case, cases, operations
from .command import CommandError, check_command
from .official import run
from .publish import write_vectors
from .report import Failure, Report, Result
from .runner import ModuleLoadError, UnknownOperationError, check, load_module
from .vectors import VectorError, Vectors, read_vectors

__all__ = [
    "Case",
    "CommandError",
    "Failure",
    "ModuleLoadError",
    "Report",
    "Result",
    "UnknownOperationError",
    "VectorError",
    "Vectors",
    "cases",
    "check",
    "check_command",
    "load_module",
    "operations",
    "read_vectors",
    "run",
    "write_vectors",
]
