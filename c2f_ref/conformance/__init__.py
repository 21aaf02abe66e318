"""The oracle: judges an implementation of the method, a Python module or any command.

`cases` holds inputs and expected results as data; `judge` decides whether results are right; `run`
calls the operations of an implementation and writes the report.
How to use it: README.md in this folder.
"""

from .cases import Case, cases, operations
from .run import ConformanceError, Report, check, check_command, write_vectors

__all__ = ["Case", "ConformanceError", "Report"]
__all__ += ["cases", "check", "check_command", "operations", "write_vectors"]
