"""Both implementations, for tests that run on either."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

import pytest

# Without numba there is an empty module: what uses it fails, unless --without-numba leaves it out.
fast = import_module("c2f_ref.fast") if find_spec("numba") else ModuleType("c2f_ref.fast")
FAST = pytest.param(fast, marks=pytest.mark.numba, id="fast")
"""`fast` as a parameter."""
