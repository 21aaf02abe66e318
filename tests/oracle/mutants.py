"""Wrong implementations: the method with one believable mistake each, which the oracle must catch.

    python tests/oracle/mutants.py
    python tests/oracle/mutants.py --suite 60 --seed 1

The first prints what the operation that holds the mistake complains of. The second puts mutants,
drawn by the seed, into a copy of the project and runs tests there until one fails. The exit code is
1 if a mutant survives.

The mistakes stand in `mutants.diff`, one a paragraph: "operation: mistake", then the change as a
diff; a line "@@ name" names the function that is changed if it is a helper on the same page. A
mutant is a whole implementation: whatever calls the changed function calls it as it is now.
"""

from __future__ import annotations

import argparse
import inspect
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, NamedTuple

PROJECT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(PROJECT), str(PROJECT / "tests")]

from c2f_ref import method, partition  # noqa: E402
from c2f_ref.conformance import cases  # noqa: E402
from c2f_ref.conformance.judge import NoAnswer, judge  # noqa: E402
from c2f_ref.conformance.run import OPTIONAL, ask_module  # noqa: E402

COPY = "c2f_ref_mutant"
EDIT = re.compile(r"((?:^-.*\n)+)((?:^\+.*\n)*)", re.MULTILINE)
SIGN = re.compile("^[-+]", re.MULTILINE)
SUITE = "tests/conformance tests/method tests/oracle tests/official tests/training"
NOT_COPIED = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist")


class Mutant(NamedTuple):
    """One mistake in `function`: each edit replaces lines by others."""

    operation: str
    mistake: str
    function: str
    edits: tuple[tuple[str, str], ...]


def read_mutants(text: str | None = None) -> list[Mutant]:
    """All mutants of a text, by default of `mutants.diff`.

    Errors: ValueError for a paragraph of another form.
    """
    if text is None:
        text = Path(__file__).with_name("mutants.diff").read_text(encoding="utf-8")
    return [_read_mutant(paragraph) for paragraph in re.split(r"\n\n+", text.strip())]


def _read_mutant(paragraph: str) -> Mutant:
    title, *lines = paragraph.splitlines() or [""]
    operation, colon, mistake = title.partition(": ")
    has_helper = bool(lines) and lines[0].startswith("@@ ")
    function = lines.pop(0).removeprefix("@@ ") if has_helper else operation
    diff = "".join(f"{line}\n" for line in lines)
    if not colon or not diff or EDIT.sub("", diff):
        form = "'operation: mistake', perhaps '@@ function', then lines with '-' and '+'"
        raise ValueError(f"expected {form}, got:\n{paragraph}")
    edits = tuple((SIGN.sub("", was), SIGN.sub("", becomes)) for was, becomes in EDIT.findall(diff))
    return Mutant(operation, mistake, function, edits)


def changed_page(mutant: Mutant) -> tuple[ModuleType, str]:
    """The page that holds the mistake, and its source with the mistake in it.

    Errors: ValueError unless the lines of every edit occur in the function exactly once.
    """
    room = partition if mutant.operation in OPTIONAL else method
    page = sys.modules[getattr(room, mutant.operation).__module__]
    right = wrong = inspect.getsource(getattr(page, mutant.function))
    for was, becomes in mutant.edits:
        if wrong.count(was) != 1:
            title = f"{mutant.operation}: {mutant.mistake}"
            raise ValueError(f"{title}: expected once, found {wrong.count(was)} times:\n{was}")
        wrong = wrong.replace(was, becomes)
    return page, inspect.getsource(page).replace(right, wrong)


@cache
def _code(page: str) -> CodeType:
    return compile(inspect.getsource(import_module(page)), page, "exec")


def module_of(mutant: Mutant) -> ModuleType:
    """A second `method`, or `partition`, with the mistake in it.

    It shares the pages above the changed one, which cannot depend on it.
    """
    page, source = changed_page(mutant)
    if page is partition:
        changed = ModuleType(page.__name__)
        changed.__package__ = page.__package__
        exec(compile(source, page.__name__, "exec"), changed.__dict__)
        return changed
    package, name = ModuleType(COPY), page.__name__.rpartition(".")[2]
    package.__path__ = []
    sys.modules[COPY] = package
    try:
        for each in method.PAGES:
            original = f"{method.__name__}.{each}"
            module = import_module(original)
            if method.PAGES.index(each) >= method.PAGES.index(name):
                code = compile(source, original, "exec") if each == name else _code(original)
                module = ModuleType(f"{COPY}.{each}")
                module.__package__ = COPY
                sys.modules[module.__name__] = module
                exec(code, module.__dict__)
            sys.modules[f"{COPY}.{each}"] = module
            vars(package).update({public: getattr(module, public) for public in module.__all__})
    finally:
        for loaded in [each for each in sys.modules if each.partition(".")[0] == COPY]:
            del sys.modules[loaded]
    return package


def complaint(module: ModuleType, operation: str) -> str:
    """What the first case of the operation that fails says; empty if all pass.

    An answer must be wrong or refused: a program that breaks down proves nothing.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # wrong programs divide by zero
        for case in cases([operation]):
            answer = ask_module(module, case)
            reason = judge(case, answer)[1]
            breaks_down = isinstance(answer, NoAnswer) and re.match(r"\w+: ", answer.reason)
            if reason and (not breaks_down or answer.kind == "refused"):
                return reason
    return ""


def suite_for(page: str) -> list[str]:
    """Folders of tests, after the test modules that are likely to fail for a mistake on a page."""
    first = ["tests/test_partition.py"] if page == "partition" else []
    likely = [PROJECT / f"tests/method/test_{page}.py", PROJECT / "tests/conformance/test_run.py"]
    first += [str(path.relative_to(PROJECT)) for path in likely if path.exists()]
    return first + [name for name in SUITE.split() if (PROJECT / name).exists()]


def run_suite(mutants: Sequence[Mutant]) -> Iterator[tuple[Mutant, str]]:
    """Each mutant with the first test that fails where it stands in a copy of the project."""
    with tempfile.TemporaryDirectory() as name:
        copy = Path(name, "project")
        shutil.copytree(PROJECT, copy, ignore=NOT_COPIED)
        environment = os.environ | {"PYTHONPATH": str(copy), "HYPOTHESIS_PROFILE": "ci"}
        options = ["-x", "-q", "--no-header", "--tb=no", "-p", "no:cacheprovider"]
        options += ["--without-numba", "--ignore=tests/oracle/test_mutants.py"]
        for mutant in mutants:
            page, source = changed_page(mutant)
            place = copy / Path(inspect.getfile(page)).relative_to(PROJECT)
            right = place.read_text(encoding="utf-8")
            place.write_text(source, encoding="utf-8")
            tests = suite_for(page.__name__.rpartition(".")[2])
            command = [sys.executable, "-m", "pytest", *options, *tests]
            how: Any = {"cwd": copy, "env": environment, "capture_output": True, "text": True}
            done = subprocess.run(command, **how)
            place.write_text(right, encoding="utf-8")
            red = re.search(r"^(?:FAILED|ERROR) (\S.*?)(?: - .*)?$", done.stdout, re.MULTILINE)
            if done.returncode not in (0, 1, 2) or (done.returncode and not red):
                raise RuntimeError(f"pytest cannot run:\n{done.stdout}{done.stderr}")
            yield mutant, red[1] if red else ""


def main(arguments: Sequence[str] | None = None, mutants: Sequence[Mutant] | None = None) -> int:
    """Print a line for each mutant; 0 when all are caught."""
    summary = "mutants, and what catches them"
    parser = argparse.ArgumentParser(prog="python tests/oracle/mutants.py", description=summary)
    parser.add_argument("--suite", type=int, metavar="N", help="run the tests on N mutants")
    parser.add_argument("--seed", type=int, default=0, help="draws these mutants")
    options = parser.parse_args(arguments)
    mutants, n_caught = read_mutants() if mutants is None else list(mutants), 0
    results = ((each, complaint(module_of(each), each.operation)) for each in mutants)
    if options.suite is not None:
        mutants = random.Random(options.seed).sample(mutants, min(options.suite, len(mutants)))
        results = run_suite(mutants)
    for mutant, reason in results:
        n_caught += bool(reason)
        outcome = f"caught, {reason}" if reason else "SURVIVES"
        print(f"{mutant.operation}: {mutant.mistake}: {outcome}", flush=True)
    print(f"{n_caught} of {len(mutants)} mutants caught")
    return 0 if n_caught == len(mutants) else 1


if __name__ == "__main__":
    sys.exit(main())
