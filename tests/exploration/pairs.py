"""Every pair of what can happen, under every setting: generated, so that no pair is forgotten.

A `Grid` has each two of its events at once, in one conversation. Each pair is played under every value of every
setting, though not under every combination of them: a row takes the values that its pair has not met yet. Rows that
have more orders than can be tried are explored to a stated number of executions, taken at random with a seed.

`QUEUED` is about calls that are enqueued, `AWAITED` about tools that wait: there everything happens while a tool waits,
and may cross the answers to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from random import Random
from typing import TYPE_CHECKING, Any

import chatkit.types

from .scenario import Scenario

if TYPE_CHECKING:
    from collections.abc import Mapping

HAS_FORMS = hasattr(chatkit.types, "StructuredInputItem")

KEEP_PLANS = ("memory", "plans")
"""Stores with compare-and-set. Over the others two workers need a lock, as the documentation says."""

Pair = tuple[str, str]
Row = dict[str, str]
Changes = dict[str, Any]
"""How a scenario is changed."""


@dataclass(frozen=True)
class Grid:
    """Each two of some events, under each value of some settings."""

    name: str
    """What the names of its scenarios begin with, for one row of each pair and for all rows."""
    every: str
    base: Scenario
    events: Mapping[str, Changes]
    """What can happen, and how a scenario has it."""
    settings: Mapping[str, Mapping[str, Changes]]
    """What the conversation can be set to, and how a scenario has it."""
    unsaid: tuple[str, ...] = ("no", "cancel", "continue", "two")
    """The values that are not part of a scenario's name."""

    @property
    def pairs(self) -> list[Pair]:
        return list(combinations(self.events, 2))

    def rows(self) -> list[tuple[Pair, Row]]:
        """Return the rows: for each pair as many as the setting with the most values has, each value in turn."""
        found = []
        for pair in self.pairs:
            columns = {setting: self._in_some_order(pair, setting, [*values]) for setting, values in self._settings}
            for n in range(self._count):
                row = {setting: column[n] for setting, column in columns.items()}
                if "second worker" in pair and row["store"] not in KEEP_PLANS:
                    row["lock"] = "lock"
                found.append((pair, row))
        return found

    @property
    def _settings(self) -> list[tuple[str, Mapping[str, Changes]]]:
        return list(self.settings.items())

    @property
    def _count(self) -> int:
        """How many rows each pair has."""
        return max(map(len, self.settings.values()))

    def _in_some_order(self, pair: Pair, setting: str, values: list[str]) -> list[str]:
        """Return as many values as there are rows, each equally often, in an order that is always the same."""
        column = (values * self._count)[: self._count]
        Random(f"{pair} {setting}").shuffle(column)
        return column

    def scenario(self, kind: str, pair: Pair, row: Row, most: int) -> Scenario:
        """Return the scenario of a row; at most so many of its executions are explored."""
        changes: Changes = {"most": most, "at_random": True}
        for setting, value in row.items():
            changes |= self.settings[setting][value]
        for event in pair:
            changes |= self.events[event]
        named = ", ".join(value for value in row.values() if value not in self.unsaid)
        return self.base.but(name=f"{kind}: {pair[0]}, {pair[1]}: {named}", **changes)

    def one_row_each(self, most: int) -> list[Scenario]:
        """Return one row of each pair: what is part of the suite."""
        return [self.scenario(self.name, *row, most) for row in self.rows()[:: self._count]]

    def every_row(self, most: int) -> list[Scenario]:
        """Return all rows."""
        return [self.scenario(self.every, *row, most) for row in self.rows()]


FORM: dict[str, Changes] = {"form": {"forms": 1}} if HAS_FORMS else {}

STORES: dict[str, Changes] = {
    "memory": {"store": "memory"},
    "metadata": {"store": "memory, plan in metadata"},
    "dicts": {"store": "dicts"},
    "plans": {"store": "dicts, plans"},
    "validated": {"store": "dicts", "around": "validating"},
    "add raises": {"store": "add raises"},
    "live": {"store": "live references"},
    "tied": {"store": "tied timestamps"},
}

POLICIES: dict[str, dict[str, Changes]] = {
    "message": {"cancel": {}, "keep": {"on_user_message": "keep"}},
    "failure": {"continue": {}, "abort": {"on_failure": "abort", "failing": (0,)}},
}

LOCK: dict[str, Changes] = {"no": {}, "lock": {"locked": True}}

QUEUED = Grid(
    "pair",
    "all pairs",
    Scenario(opened=True),
    events={
        "message": {"messages": 1},
        "second message": {"messages": 2},
        "retry": {"retries": 1, "opened": False},
        "action": {"actions": 1},
        **FORM,
        "resume": {"resumes": 1},
        "repeat": {"repeats": 1},
        "rename": {"renames": 1},
        "crash": {"crashes": 1},
        "store error": {"errors": 1},
        "cancelled request": {"cancels": 1},
        "frozen stream": {"freezes": 1},
        "lapsed lease": {"lapses": 1},
        "second worker": {"workers": 2},
    },
    settings={
        "store": STORES,
        **POLICIES,
        "calls": {"two": {"calls": ("shows", "gets")}, "required": {"calls": ("gets", "stops")}},
        "asks again": {"no": {}, "then": {"then": ("gets",)}, "later": {"later": ("shows",)}},
        "lock": LOCK,
    },
)

AWAITED = Grid(
    "awaited pair",
    "all awaited pairs",
    Scenario(subject="waiting", calls=(), opened=True),
    events={
        "answer": {},
        "repeat": {"repeats": 1},
        "failing answer": {"failing": (0,)},
        "message": {"messages": 1},
        "retry": {"retries": 1},
        "reload": {"resumes": 1},
        "action": {"actions": 1},
        **FORM,
        "stop": {"cancels": 1},
        "application cancels": {"dismissals": 1},
    },
    settings={
        "tools": {
            "one ask": {"tools": ("picks",)},
            "a step between": {"tools": ("picks step picks",)},
            "three asks": {"tools": ("effect picks step effect plays picks",)},
            "a loop": {"tools": ("until step",)},
            "two tools": {"tools": ("picks step", "picks")},
            "required": {"tools": ("insists step picks",)},
            "required last": {"tools": ("picks step insists",)},
            "what it queues": {"tools": ("queues picks step",)},
        },
        "store": STORES,
        **POLICIES,
        "asks again": {"no": {}, "later": {"later": ("shows",)}},
        "lock": LOCK,
    },
)
"""An answer crosses the other event in any case."""

GRIDS = (QUEUED, AWAITED)
