"""One-way floors: what a module may import of ours, read from its import statements; and how large rooms may be."""

from __future__ import annotations

import ast
import io
import token
import tokenize
from pathlib import Path

import pytest

import c2f_ref

PACKAGE = Path(c2f_ref.__file__).parent
SPEC_ORDER = [
    "notation",
    "graph",
    "partitioning",
    "assignment",
    "embeddings",
    "propagation",
    "loss",
    "optimise",
    "sampling",
    "ranking",
    "model",
    "memory",
]
ASKED_WHEN_CALLED = {"notation": {"memory"}}
"""The one import from further down: `Settings.for_budget` counts what settings come to, when it is called."""
# Rooms that a room outside `spec` may import, besides itself.
FLOORS = {
    "files": set(),
    "tables": set(),
    "threads": set(),
    "container": {"files"},
    "stored": {"container"},
    "device": {"stored", "container"},
    "interactions": {"files"},
    "fast": {"spec", "threads"},
    "bundle": {"spec", "container", "stored"},
    "conformance": {"spec"},
    "baselines": {"spec", "interactions", "bundle", "training"},
    "training": {"spec", "fast", "interactions", "bundle", "container", "threads"},
    "plots": {"files", "spec", "interactions", "bundle", "training"},
    "doctor": {"spec", "fast"},
    "progress": {"training"},
    "recommender": {"progress", "spec", "interactions", "bundle", "container", "training", "threads"},
    "demo": {"progress", "spec", "interactions", "bundle", "baselines", "training", "plots", "tables"},
    "cli": {
        "demo",
        "progress",
        "plots",
        "doctor",
        "files",
        "spec",
        "interactions",
        "bundle",
        "container",
        "device",
        "conformance",
        "training",
        "tables",
        "threads",
    },
    "__main__": {"cli"},
    "__init__": set(),
}
LONGEST_PAGE = 250
"""Lines that are not blank: a longer page asks to be divided or simplified."""
LARGEST = {"spec": 1010, ".": 6620}
"""Lines of code, without blank ones, comments and docstrings. The aims are about 1,000 and 3,500: the method keeps to its own, the
package does not, and grows no further."""
HEAVY = {"sklearn", "matplotlib", "numba", "torch", "pymetis"}


def imports(path: Path, *, top_level: bool = False) -> set[str]:
    """Absolute dotted names of everything that the module at `path` imports."""
    package = ["c2f_ref", *path.relative_to(PACKAGE).parts[:-1]]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = set()
    for node in tree.body if top_level else ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            stem = ".".join([*base, *([node.module] if node.module else [])])
            names |= {f"{stem}.{alias.name}" for alias in node.names}
    return names


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def ours(path: Path) -> set[str]:
    return {name.split(".")[1] for name in imports(path) if name.startswith("c2f_ref.")} - {"__version__"}


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_room_imports_only_rooms_below_it(path: Path) -> None:
    room = room_of(path)
    if room == "spec":
        assert ours(path) <= {"spec"}
    else:
        assert ours(path) <= FLOORS[room] | {room}


@pytest.mark.parametrize("name", SPEC_ORDER)
def test_a_page_of_the_specification_imports_only_pages_above_it(name: str) -> None:
    path, above = PACKAGE / "spec" / f"{name}.py", set(SPEC_ORDER[: SPEC_ORDER.index(name)])

    def pages(*, top_level: bool) -> set[str]:
        names = imports(path, top_level=top_level)
        return {entry.split(".")[2] for entry in names if entry.startswith("c2f_ref.spec.")}

    assert pages(top_level=True) <= above
    assert pages(top_level=False) <= above | ASKED_WHEN_CALLED.get(name, set())


def test_every_page_of_the_specification_has_its_place_in_the_order() -> None:
    assert {path.stem for path in (PACKAGE / "spec").glob("*.py")} == {*SPEC_ORDER, "__init__"}


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_heavy_libraries_are_imported_when_used(path: Path) -> None:
    """Numba is what `fast` is made of, and scikit-learn has the base class of the estimator; either is imported by who wants it."""
    allowed = {"fast": {"numba"}, "recommender": {"sklearn"}}.get(room_of(path), set())
    assert not {name.split(".")[0] for name in imports(path, top_level=True)} & (HEAVY - allowed)


def test_the_reader_of_imports_sees_what_it_must() -> None:
    """The checker itself: known imports of known modules are found, nested ones only when asked for."""
    assert "c2f_ref.spec.notation.Settings" in imports(PACKAGE / "spec" / "model.py")
    assert "sklearn.decomposition.SparsePCA" in imports(PACKAGE / "spec" / "embeddings.py")
    assert "sklearn.decomposition.SparsePCA" not in imports(PACKAGE / "spec" / "embeddings.py", top_level=True)
    assert "spec" in ours(PACKAGE / "training" / "runs.py")


def lines_of_code(path: Path) -> int:
    """Lines that hold code: no blank ones, comments or docstrings."""
    text = path.read_text(encoding="utf-8")
    around = {token.NL, token.NEWLINE, token.INDENT, token.DEDENT, token.ENDMARKER, tokenize.COMMENT}
    lines: set[int] = set()
    for part in tokenize.generate_tokens(io.StringIO(text).readline):
        if part.type not in around:
            lines.update(range(part.start[0], part.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            lines.difference_update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return len(lines)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_page_is_too_long_to_be_read_at_once(path: Path) -> None:
    assert sum(bool(line.strip()) for line in path.read_text(encoding="utf-8").splitlines()) <= LONGEST_PAGE


@pytest.mark.parametrize("room", LARGEST)
def test_a_room_is_no_larger_than_it_may_be(room: str) -> None:
    assert sum(map(lines_of_code, (PACKAGE / room).rglob("*.py"))) <= LARGEST[room]


def test_the_counter_of_lines_counts_code_alone(tmp_path: Path) -> None:
    page = tmp_path / "page.py"
    page.write_text(
        '"""Told.\n\nMore.\n"""\n\n# why\nx = (\n    1,  # one\n)\n"""What x is."""\ny = """a\nb"""\n', encoding="utf-8"
    )
    assert lines_of_code(page) == 5
