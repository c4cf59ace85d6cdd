"""What came of the checks: to be read by a person, or by a program."""

from __future__ import annotations

import textwrap
from collections import Counter
from dataclasses import asdict, dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._rules import Check

WIDTH = 100
SEEN = 180
"""How many characters a person is shown of what was seen; a program gets all of them."""

NOTES = 5
"""How many notes are shown to a person."""

RED, GREEN, PLAIN = "\x1b[1;31m", "\x1b[1;32m", "\x1b[0m"


class Status(str, Enum):
    """What came of one check."""

    BROKEN = "broken"
    HELD = "held"
    DETECTED = "detected"
    NOT_OFFERED = "not offered"
    NOT_CHECKED = "not checked"
    """The rule rests on one that is broken."""


@dataclass(frozen=True)
class Result:
    """What came of one check."""

    name: str
    rule: str
    status: Status
    detail: str
    """What was seen."""
    breaks: str
    """What breaks in the chat if the rule is broken; for a finding, what follows from it."""

    @classmethod
    def of(cls, check: Check, status: Status, detail: str = "", breaks: str | None = None) -> Result:
        """Return the result of a check."""
        return cls(check.name, check.rule, status, detail, check.breaks if breaks is None else breaks)


@dataclass(frozen=True)
class Report:
    """What came of all checks of one store. `str()` is for people, `to_json()` is plain data with every rule."""

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
        return self._with(Status.BROKEN)

    def to_json(self) -> dict[str, Any]:
        """Return the report as what `json.dumps` takes."""
        return {"ok": self.ok, **asdict(self)}

    def to_text(self, *, only_broken: bool = False, colour: bool = False) -> str:
        """Return the report for a person: the broken rules, then the rest, then one line with the numbers.

        Args:
            only_broken: Leave out the rest.
            colour: Mark the broken rules and the last line for a terminal.
        """
        lines = [f"Store: {self.store}", ""]
        for result in self.broken:
            lines += [_coloured(f"BROKEN {result.name}", RED, wanted=colour), *_wrapped(f"  {result.rule}")]
            lines += _wrapped(f"  seen: {textwrap.shorten(result.detail, SEEN, placeholder=' ...')}")
            lines += _wrapped(f"  breaks: {result.breaks}")
        lines += [""] if self.broken else []
        lines += [] if only_broken else self._rest()
        counts = Counter(result.status for result in self.results)
        numbers = [f"{counts[status]} {status.value}" for status in Status if counts[status] or status is Status.BROKEN]
        return "\n".join([*lines, _coloured(", ".join(numbers), GREEN if self.ok else RED, wanted=colour)])

    def _rest(self) -> list[str]:
        """Return what else there is to know: in full, unless broken rules are what has to be read first."""
        lines = []
        for result in self._with(Status.DETECTED):
            lines += _wrapped(f"DETECTED {result.name}: {result.detail}")
            lines += _wrapped(f"  so: {result.breaks}") if self.ok else []
        for status in (Status.NOT_OFFERED,) if self.ok else (Status.NOT_CHECKED,):
            reasons: dict[str, list[str]] = {}
            for result in self._with(status):
                reasons.setdefault(result.detail, []).append(result.name)
            for reason, names in reasons.items():
                lines += _wrapped(f"{status.value.upper()} {', '.join(names)}: {reason}")
        lines += [line for note in self.notes[:NOTES] for line in _wrapped(f"NOTE {note}")]
        lines += [f"NOTE and {len(self.notes) - NOTES} more"] if len(self.notes) > NOTES else []
        return [*lines, ""] if lines else []

    def _with(self, status: Status) -> tuple[Result, ...]:
        return tuple(result for result in self.results if result.status is status)

    def __str__(self) -> str:
        return self.to_text()


def _coloured(text: str, colour: str, *, wanted: bool) -> str:
    return f"{colour}{text}{PLAIN}" if wanted else text


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, subsequent_indent="    ", break_on_hyphens=False)
