"""Every pair of what can happen, under every setting: generated, so that no pair is forgotten.

`PAIRS` has each two of `EVENTS` at once, in one conversation. Each pair is played under every value of every setting of
`SETTINGS`, though not under every combination of them: a row takes the values that its pair has not met yet. Rows that
have more orders than can be tried are explored to a stated number of executions, taken at random with a seed.
"""

from __future__ import annotations

from itertools import combinations
from random import Random
from typing import Any

import chatkit.types

from .scenario import Scenario

HAS_FORMS = hasattr(chatkit.types, "StructuredInputItem")

EVENTS: dict[str, dict[str, Any]] = {
    "message": {"messages": 1},
    "second message": {"messages": 2},
    "retry": {"retries": 1},
    "action": {"actions": 1},
    **({"form": {"forms": 1}} if HAS_FORMS else {}),
    "resume": {"resumes": 1},
    "repeat": {"repeats": 1},
    "rename": {"renames": 1},
    "crash": {"crashes": 1},
    "store error": {"errors": 1},
    "cancelled request": {"cancels": 1},
    "frozen stream": {"freezes": 1},
    "lapsed lease": {"lapses": 1},
    "second worker": {"workers": 2},
}
"""What can happen, and how a scenario has it."""

SETTINGS: dict[str, dict[str, dict[str, Any]]] = {
    "store": {
        "memory": {"store": "memory"},
        "metadata": {"store": "memory, plan in metadata"},
        "dicts": {"store": "dicts"},
        "plans": {"store": "dicts, plans"},
        "validated": {"store": "dicts", "around": "validating"},
        "add raises": {"store": "add raises"},
        "live": {"store": "live references"},
        "tied": {"store": "tied timestamps"},
    },
    "message": {"cancel": {}, "keep": {"on_user_message": "keep"}},
    "failure": {"continue": {}, "abort": {"on_failure": "abort", "failing": (0,)}},
    "calls": {"two": {"calls": ("shows", "gets")}, "required": {"calls": ("gets", "stops")}},
    "asks again": {"no": {}, "then": {"then": ("gets",)}, "later": {"later": ("shows",)}},
    "lock": {"no": {}, "lock": {"locked": True}},
}
"""What the conversation can be set to, and how a scenario has it."""

PAIRS = list(combinations(EVENTS, 2))

ROWS = max(map(len, SETTINGS.values()))

KEEP_PLANS = ("memory", "plans")
"""Stores with compare-and-set. Over the others two workers need a lock, as the documentation says."""

Row = dict[str, str]


def rows() -> list[tuple[tuple[str, str], Row]]:
    """Return the rows: for each pair as many as the setting with the most values has, each value in turn."""
    found = []
    for pair in PAIRS:
        columns = {setting: _in_some_order(pair, setting, list(values)) for setting, values in SETTINGS.items()}
        for n in range(ROWS):
            row = {setting: column[n] for setting, column in columns.items()}
            if "second worker" in pair and row["store"] not in KEEP_PLANS:
                row["lock"] = "lock"
            found.append((pair, row))
    return found


def _in_some_order(pair: tuple[str, str], setting: str, values: list[str]) -> list[str]:
    """Return as many values as there are rows, each equally often, in an order that is always the same."""
    column = (values * ROWS)[:ROWS]
    Random(f"{pair} {setting}").shuffle(column)
    return column


def scenario(kind: str, pair: tuple[str, str], row: Row, most: int) -> Scenario:
    """Return the scenario of a row; at most so many of its executions are explored."""
    changes: dict[str, Any] = {"opened": "retry" not in pair, "most": most, "at_random": True}
    for setting, value in row.items():
        changes |= SETTINGS[setting][value]
    for event in pair:
        changes |= EVENTS[event]
    named = ", ".join(value for value in row.values() if value not in ("no", "cancel", "continue", "two"))
    return Scenario(name=f"{kind}: {pair[0]}, {pair[1]}: {named}", **changes)


def one_row_each(most: int) -> list[Scenario]:
    """Return one row of each pair: what is part of the suite."""
    every = rows()
    return [scenario("pair", *every[n * ROWS], most) for n in range(len(PAIRS))]


def every_row(most: int) -> list[Scenario]:
    """Return all rows."""
    return [scenario("all pairs", *row, most) for row in rows()]
