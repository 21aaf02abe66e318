"""The method, executable: C2F-MetaEmbed as pure functions on NumPy and SciPy arrays, in float64.

Read the pages in the order of `PAGES`; each imports only pages above it. `README.md` next to them
writes the method out: every formula has a number there, and so has every deviation, D1 to D17.
A page is imported when one of its names is first used, so that `embeddings`
works on a device that has NumPy alone.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .contract import *  # noqa: F403
    from .embeddings import *  # noqa: F403
    from .graph import *  # noqa: F403
    from .memory import *  # noqa: F403
    from .notation import *  # noqa: F403
    from .scores import *  # noqa: F403
    from .stages import *  # noqa: F403

PAGES = ("notation", "graph", "embeddings", "scores", "contract", "stages", "memory")


def __getattr__(name: str) -> Any:
    """A page, a public name of one, or `__all__`: the public names of all pages together."""
    if name == "__all__":
        pages = [import_module(f".{page}", __name__) for page in PAGES]
        return sorted(public for page in pages for public in page.__all__)
    if name in PAGES:
        return import_module(f".{name}", __name__)
    for page in () if name.startswith("_") else PAGES:
        module = import_module(f".{page}", __name__)
        if name in module.__all__:
            return globals().setdefault(name, getattr(module, name))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*PAGES, *__getattr__("__all__")]
