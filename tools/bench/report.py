"""The results as text, and as JSON and back."""

from __future__ import annotations

import json
import platform
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from .bench import Result
from .counts import Counts
from .figures import Ratio, Unit

if TYPE_CHECKING:
    from collections.abc import Sequence

VERSIONS = ("openai-chatkit", "openai-agents", "pydantic-ai-slim", "langgraph", "sqlalchemy")
"""Whose versions the figures depend on."""

CLOCKS: dict[Unit, str] = {"cpu": "processor", "wall": "clock", "bytes": "memory"}

HEADER = f"{'measured':<70}{'against':<60}{'goal':>6}{'ratio':>7}{'spread':>16}  by"


@dataclass(frozen=True)
class Taken:
    """All that one run of the bench has measured and counted."""

    results: Sequence[Result]
    counts: Sequence[Counts]
    shares: dict[str, float] = field(default_factory=dict)
    """Which share of a conversation is whose."""


def line(result: Result) -> str:
    """Return a row of the table for a terminal."""
    ratio = result.ratio
    cells = f"{result.name:<70}{result.against:<60}{goal(result):>6}{ratio.value:>7.2f}{spread(ratio):>16}"
    took = f"{CLOCKS[result.by]}, {shown(ratio.ours, result.by)} to {shown(ratio.theirs, result.by)}"
    return f"{cells}  {took}{'  MISSED' if result.is_missed else ''}"


def goal(result: Result) -> str:
    """Return what a ratio may be, or that it has no goal."""
    return "none" if result.goal is None else f"{result.goal:.2f}"


def spread(ratio: Ratio) -> str:
    """Return the smallest and the largest ratio."""
    return f"{ratio.low:.2f} to {ratio.high:.2f}"


def shown(amount: float, unit: Unit) -> str:
    """Return an amount as a person reads it."""
    if unit == "bytes":
        return f"{amount / 1024:.1f} KiB"
    return f"{amount:.2f} s" if amount >= 1 else f"{1000 * amount:.2f} ms"


def counted_lines(counts: Sequence[Counts]) -> list[str]:
    """Return the table of what was counted."""
    return [
        f"{each.name}: {each.requests} requests, {each.model_runs} model runs, {each.reads} reads, "
        f"{each.writes} writes, {each.bytes_written} bytes written for each request, "
        f"{each.sqlite} statements on SQLite, {each.postgres} on PostgreSQL"
        for each in counts
    ]


def verdict(missed: Sequence[Result]) -> str:
    """Say which goals are missed."""
    if not missed:
        return "Every goal is reached."
    names = ", ".join(f"{each.name} against {each.against}" for each in missed)
    return f"{len(missed)} goals are missed by more than their spread: {names}"


def as_json(taken: Taken) -> str:
    """Return all that was measured."""
    document = {
        "machine": f"Python {platform.python_version()}, {platform.system()} {platform.machine()}",
        "versions": {name: _version(name) for name in VERSIONS},
        "rows": [asdict(each) for each in taken.results],
        "counts": [asdict(each) for each in taken.counts],
        "shares": taken.shares,
    }
    return json.dumps(document, indent=1) + "\n"


def read(document: str) -> Taken:
    """Read what `as_json` has written."""
    found = json.loads(document)
    counts = [Counts(**each) for each in found["counts"]]
    return Taken([_result(each) for each in found["rows"]], counts, found["shares"])


def _result(found: dict[str, Any]) -> Result:
    ratios = {unit: Ratio(**each) for unit, each in found["ratios"].items()}
    return Result(**{**found, "ratios": ratios})


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
