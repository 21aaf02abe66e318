"""Wrong implementations: the specification with one believable mistake each, which the oracle must catch.

    python -m c2f_ref.conformance.mutants [--all]

prints every mutant and what caught it: the operation that the mistake is in, and with `--all` every other that fails too. The exit
code is 1 when one gets away, or is caught by others than its own operation alone.

The mistakes stand in `mutants.diff` beside this page, one a paragraph: the operation and what is wrong with it, then the change as
a diff; `@@` names the function that is changed where it is a helper of the operation. A mutant is a whole implementation:
whatever calls the changed function calls it as it is now.
"""

from __future__ import annotations

import argparse
import inspect
import re
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from .. import spec
from .runner import check

_PACKAGE = "c2f_ref_mutant"
_EDIT = re.compile(r"((?:^-.*\n)+)((?:^\+.*\n)*)", re.MULTILINE)
_SIGN = re.compile("^[-+]", re.MULTILINE)


class MutantError(ValueError):
    """A mutant that cannot be made: its operation, its mistake, and why."""


class Mutant(NamedTuple):
    """One mistake: in `function`, which is `operation` or a helper on its page, each edit puts lines in the place of others."""

    operation: str
    mistake: str
    function: str
    edits: tuple[tuple[str, str], ...]


def read_mutants(text: str | None = None) -> list[Mutant]:
    """All mutants of a `text` in the form that the page describes, by default of `mutants.diff`.

    Errors: MutantError for a paragraph of another form.
    """
    if text is None:
        text = Path(__file__).with_name("mutants.diff").read_text(encoding="utf-8")
    return [_read_mutant(paragraph) for paragraph in re.split(r"\n\n+", text.strip())]


def _read_mutant(paragraph: str) -> Mutant:
    title, *lines = paragraph.splitlines() or [""]
    operation, colon, mistake = title.partition(": ")
    function = lines.pop(0).removeprefix("@@ ") if lines and lines[0].startswith("@@ ") else operation
    diff = "".join(f"{line}\n" for line in lines)
    if not colon or not diff or _EDIT.sub("", diff):
        raise MutantError(f"expected 'operation: mistake', perhaps '@@ function', then lines with '-' and '+', got:\n{paragraph}")
    edits = tuple((_SIGN.sub("", was), _SIGN.sub("", becomes)) for was, becomes in _EDIT.findall(diff))
    return Mutant(operation, mistake, function, edits)


def module_of(mutant: Mutant) -> ModuleType:
    """The specification anew, with the mistake in it.

    Errors: MutantError unless the lines of every edit are in the function exactly once.
    """
    page = sys.modules[getattr(spec, mutant.operation).__module__]
    right = inspect.getsource(getattr(page, mutant.function))
    wrong = right
    for was, becomes in mutant.edits:
        n_found = wrong.count(was)
        if n_found != 1:
            raise MutantError(f"{mutant.operation}: {mutant.mistake}: expected to find once, found {n_found} times:\n{was}")
        wrong = wrong.replace(was, becomes)
    return _specification_with(page, inspect.getsource(page).replace(right, wrong))


def _specification_with(page: ModuleType, source: str) -> ModuleType:
    """A second `c2f_ref.spec`, in which `page` has this source; both share `notation`, and so settings and errors."""
    package, changed = ModuleType(_PACKAGE), ModuleType(page.__name__.replace(spec.__name__, _PACKAGE))
    package.__package__ = changed.__package__ = _PACKAGE
    package.__path__ = list(spec.__path__)
    # Imports of one page by another find what is registered here, and load the rest as it stands.
    sys.modules.update({_PACKAGE: package, f"{_PACKAGE}.notation": spec.notation, changed.__name__: changed})
    try:
        exec(compile(source, changed.__name__, "exec"), changed.__dict__)
        exec(compile(inspect.getsource(spec), _PACKAGE, "exec"), package.__dict__)
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == _PACKAGE]:
            del sys.modules[name]
    return package


def catchers(mutant: Mutant, *, everything: bool = False) -> tuple[str, ...]:
    """The operations that fail: its own if that does, and every other where it does not, or where `everything` is asked for."""
    module = module_of(mutant)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # wrong programs divide by zero
        own = _failed(module, [mutant.operation])
        return own if own and not everything else own + tuple(name for name in _failed(module, None) if name not in own)


def _failed(module: ModuleType, only: list[str] | None) -> tuple[str, ...]:
    return tuple(result.operation for result in check(module, only=only).results if result.failure is not None)


def main(arguments: Sequence[str] | None = None, mutants: Sequence[Mutant] | None = None) -> int:
    """Print the table of mutants and catchers; 0 when each was caught by its own operation."""
    parser = argparse.ArgumentParser(prog="python -m c2f_ref.conformance.mutants", description="mutants and what catches them")
    parser.add_argument("--all", action="store_true", help="hold every mutant against all operations, not its own alone")
    everything = parser.parse_args(arguments).all
    mutants = read_mutants() if mutants is None else mutants
    n_caught = 0
    for mutant in mutants:
        names = catchers(mutant, everything=everything)
        n_caught += mutant.operation in names
        verdict = f"caught by {', '.join(names)}" if names else "SURVIVES"
        print(f"{mutant.operation + ':':<25} {mutant.mistake}: {verdict}", flush=True)
    print(f"{n_caught} of {len(mutants)} mutants caught by the operation that the mistake is in")
    return 0 if n_caught == len(mutants) else 1


if __name__ == "__main__":
    sys.exit(main())
