"""What came of the checks: to be read by a person, or by a program."""

from __future__ import annotations

import textwrap
from collections import Counter
from dataclasses import asdict, dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._rules import Check, Level

WIDTH = 100
_STATUS = 13
_NOTES = 10
"""How many notes are shown to a person; a program gets all of them."""

_INDENT = " " * _STATUS
_HEADINGS: dict[Level, str] = {
    "base": "What every store must do",
    "detected": "What this store does, where either way can be lived with",
    "extended": "What a store may offer",
}


class Status(str, Enum):
    """What came of one check."""

    HELD = "held"
    BROKEN = "broken"
    DETECTED = "detected"
    NOT_OFFERED = "not offered"
    NOT_CHECKED = "not checked"
    """Not to be told while a rule this one rests on is broken."""


@dataclass(frozen=True)
class Result:
    """What came of one check."""

    name: str
    level: Level
    rule: str
    status: Status
    detail: str
    """What was seen."""
    breaks: str
    """What breaks in the chat if the rule is broken; for a finding, what follows from it."""

    @classmethod
    def of(cls, check: Check, status: Status, detail: str = "", breaks: str | None = None) -> Result:
        """Return the result of a check."""
        return cls(check.name, check.level, check.rule, status, detail, check.breaks if breaks is None else breaks)


@dataclass(frozen=True)
class Report:
    """What came of all checks of one store. `str()` makes a table of it, `to_json()` plain data."""

    store: str
    results: tuple[Result, ...]
    notes: tuple[str, ...] = ()
    """What the checks wrote and could not remove, and whatever else has to be known."""

    @property
    def ok(self) -> bool:
        """Whether no rule is broken."""
        return not self.broken

    @property
    def broken(self) -> tuple[Result, ...]:
        """The rules that are broken."""
        return tuple(result for result in self.results if result.status is Status.BROKEN)

    def to_json(self) -> dict[str, Any]:
        """Return the report as what `json.dumps` takes."""
        return {"ok": self.ok, **asdict(self)}

    def __str__(self) -> str:
        lines = [f"Store: {self.store}"]
        for level, heading in _HEADINGS.items():
            lines += ["", heading]
            for result in self.results:
                if result.level == level:
                    lines += _lines(result)
        lines += ["", *(_wrapped("NOTE", note) for note in self.notes[:_NOTES])] if self.notes else []
        lines += [_wrapped("NOTE", f"and {len(self.notes) - _NOTES} more")] if len(self.notes) > _NOTES else []
        counts = Counter(result.status.value for result in self.results)
        lines += ["", ", ".join(f"{counts[status.value]} {status.value}" for status in Status if counts[status.value])]
        if not self.ok:
            lines.append(_wrapped("Broken:", ", ".join(result.name for result in self.broken)))
        return "\n".join(lines)


def _lines(result: Result) -> list[str]:
    shouted = result.status.value.upper() if result.status is Status.BROKEN else result.status.value
    lines = [_wrapped(shouted, result.name), _wrapped("", result.rule)]
    if result.detail:
        lines.append(_wrapped("", f"-> {result.detail}"))
    if result.status in {Status.BROKEN, Status.DETECTED}:
        lines.append(_wrapped("", f"-> {result.breaks}"))
    return lines


def _wrapped(label: str, text: str) -> str:
    return textwrap.fill(text, WIDTH, initial_indent=f"{label:<{_STATUS}}", subsequent_indent=_INDENT)
