"""What a fake browser did and saw, to be read by a person when a test fails."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

WIDTH = 160
LAST = 4
"""How many steps `repr()` shows."""


@dataclass
class Step:
    """One thing that a tab did or saw, and how many times in a row."""

    tab: int
    kind: str
    what: str
    times: int = 1

    def __str__(self) -> str:
        again = f" (x{self.times})" if self.times > 1 else ""
        return f"{self.kind:<9} {self.what}{again}"


class Transcript:
    """What the tabs of a fake browser did and saw, in order. `str()` makes a page of it."""

    def __init__(self) -> None:
        self.steps: list[Step] = []

    def add(self, tab: int, kind: str, what: Any) -> None:
        """Write a step down; one that repeats the last is counted."""
        step = Step(tab, kind, _line(what))
        last = self.steps[-1] if self.steps else None
        if last and (last.tab, last.kind, last.what) == (step.tab, step.kind, step.what):
            last.times += 1
        else:
            self.steps.append(step)

    def __str__(self) -> str:
        several = len({step.tab for step in self.steps}) > 1
        return "\n".join(f"{f'tab {step.tab}  ' if several else ''}{step}".rstrip() for step in self.steps)

    def __repr__(self) -> str:
        last = "; ".join(" ".join(str(step).split()) for step in self.steps[-LAST:])
        return f"<{len(self.steps)} steps, the last: {last}>"


def _line(what: Any) -> str:
    if isinstance(what, tuple):
        return _cut(" ".join(map(_line, what)))
    return _cut(what if isinstance(what, str) else json.dumps(what, default=repr))


def _cut(line: str) -> str:
    return line if len(line) <= WIDTH else f"{line[: WIDTH - 3]}..."
