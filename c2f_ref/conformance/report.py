"""What a check tells: operation by operation, in words, as JSON and as JUnit."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any
from xml.etree import ElementTree

_NOT_IN_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
MISSING = "there is no"
"""How the reason of a failure begins that is a missing name."""


@dataclass(frozen=True)
class Failure:
    """Where an answer is farthest from the right one, or why there is nothing to compare."""

    case: str
    """Name of the case, or of the file of known answers."""
    key: str
    """Name of the result; empty where there is none."""
    reason: str
    """In words."""
    index: tuple[int, ...] | None = None
    """Place of the entry; then what should be there, what is, and how far apart they may be."""
    expected: float | None = None
    got: float | None = None
    allowed: float | None = None

    def __str__(self) -> str:
        key = self.key if self.index is None else f"{self.key}{list(self.index)}"
        return ": ".join(part for part in (self.case, key, self.reason) if part)


@dataclass(frozen=True)
class Result:
    """What all cases together say about one operation."""

    operation: str
    """Name of the function."""
    n_checks: int
    """Cases that were asked; 0 for a function that there is not."""
    worst: float
    """Largest error, as a share of what is allowed."""
    failure: Failure | None
    """The first."""

    @property
    def verdict(self) -> str:
        """'pass', 'fail', or 'missing' for a function that there is not."""
        if self.failure is None:
            return "pass"
        return "fail" if self.n_checks else "missing"


@dataclass(frozen=True)
class Report:
    """Results of one implementation, operation by operation."""

    module: str
    """Name of the module, or the command."""
    source: str
    """What it was held against."""
    results: tuple[Result, ...]
    """In reading order of the specification."""

    @property
    def passed(self) -> bool:
        """Whether every operation passed; a missing one did not, and nothing checked is nothing passed."""
        return bool(self.results) and all(result.failure is None for result in self.results)

    def lines(self) -> Iterator[str]:
        """One line for each operation that there is, one for all that are missing, and a last one that sums up."""
        missing = []
        for result in self.results:
            if result.verdict == "missing":
                # It may be there itself, and lack another that it is asked with.
                is_it = str(result.failure) == f"{MISSING} {result.operation}"
                missing.append(result.operation if is_it else f"{result.operation} ({result.failure})")
            else:
                checks = f"{result.n_checks:>3} checks, worst {result.worst:>7.1e} of its bound"
                failure = f": {' '.join(str(result.failure).splitlines())}" if result.failure else ""
                yield f"{result.operation:<24} {checks}: {result.verdict}{failure}"
        if missing:
            yield f"missing: {', '.join(missing)}"
        n_right = f"{sum(result.failure is None for result in self.results)} of {len(self.results)} operations right"
        n_missing = f", {len(missing)} missing" if missing else ""
        yield f"{self.module}: {n_right}{n_missing}, {self.source}: {'pass' if self.passed else 'fail'}"

    def as_dict(self) -> dict[str, Any]:
        """Everything, ready to be written as JSON; a number that JSON does not have is its name in words."""
        results = [{"verdict": result.verdict, **asdict(result)} for result in self.results]
        everything = {"module": self.module, "passed": self.passed, "source": self.source, "results": results}
        return dict(json.loads(json.dumps(everything), parse_constant=lambda name: str(float(name))))

    def as_junit(self) -> str:
        """The report as XML that continuous integration reads: one test case for each operation."""
        n_failed = sum(result.failure is not None for result in self.results)
        suite = ElementTree.Element("testsuite", name=self.module, tests=str(len(self.results)), failures=str(n_failed))
        for result in self.results:
            test = ElementTree.SubElement(suite, "testcase", classname=self.module, name=result.operation)
            if result.failure is not None:
                message = _NOT_IN_XML.sub("?", str(result.failure))
                ElementTree.SubElement(test, "failure", type=result.verdict, message=message)
        return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True)
