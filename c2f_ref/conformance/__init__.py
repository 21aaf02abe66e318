"""The oracle: holds a module, or any command, against what the method gives.

What is given and what must come is a `Case`. They have two sources: `cases` are frozen, and `vectors` are files of numbers
recorded from the official code, which `official` makes cases of. `calls` says how an operation is called, `comparators` and
`properties` when a result is right, `runner` and `command` who is asked; what they find is a `report`. `publish` writes the frozen
cases as files, and `mutants` puts the oracle itself on trial.
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
