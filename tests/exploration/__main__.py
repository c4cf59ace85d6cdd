"""`python -m tests.exploration`: explore everything, and print a table of it."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, NamedTuple

from agents import set_tracing_disabled

from . import counts
from .ablations import ABLATIONS, CLEANUP
from .scenarios import ALL_PAIRS, HAZARDS, LONG, PAIRS, QUICK
from .schedule import readable
from .search import Search

if TYPE_CHECKING:
    from collections.abc import Callable

    from .search import Found

HEAD = ("scenario", "executions", "steps", "states", "durable", "crashes", "endings", "seconds", "violations")
ROW = "{:66.66} {:>10} {:>9} {:>8} {:>8} {:>8} {:>8} {:>8}  {}"


class Row(NamedTuple):
    """One line of the table: what is explored, and what must be found."""

    name: str
    explore: Callable[[], Found]
    expected: tuple[str, ...]


def rows(*, long: bool, limit: int) -> list[Row]:
    clean = [*QUICK, *PAIRS, *LONG, *ALL_PAIRS] if long else [*QUICK, *PAIRS]
    return [
        *(Row(s.name, Search(s, limit=limit).run, ()) for s in clean),
        *(Row(s.name, Search(s, until=s.shows).run, s.shows) for s in HAZARDS),
        *(Row(f"without {a.safeguard}", a.explore, (a.finds,)) for a in ABLATIONS),
        Row(f"without {CLEANUP.safeguard}", CLEANUP.explore, ()),
    ]


def problems(row: Row, found: Found, pinned: counts.Pinned | None) -> list[str]:
    """Return what is wrong with a row: a violation that nobody expects, or less seen than there was."""
    wrong = [f"not seen: {kind}" for kind in row.expected if kind not in found.kinds]
    if row.expected:
        return wrong
    wrong += [
        f"{kind} ({found.kinds[kind]} times), for example:\n{readable(schedule)}"
        for kind, schedule in found.violations.items()
    ]
    if not found.is_complete:
        return [*wrong, "the limit was reached: not all was explored"]
    return wrong if pinned is None else wrong + counts.shrunk(pinned, row.name, found)


def line(row: Row, found: Found) -> str:
    kinds = ", ".join(f"{kind} {times}" for kind, times in found.kinds.items())
    numbers = (found.executions, found.steps, found.states, found.durable, found.crash_points, found.endings)
    return ROW.format(row.name, *numbers, f"{found.seconds:.1f}", kinds or "0")


def main(arguments: list[str]) -> int:
    """Print the table; return 1 if anything is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.exploration", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="only what is part of the suite")
    parser.add_argument("--only", default="", help="only scenarios whose name contains this")
    parser.add_argument("--limit", type=int, default=1_000_000, help="at most so many executions of each")
    parser.add_argument("--pin", action="store_true", help="write down the counts as the least there must be")
    options = parser.parse_args(arguments)
    set_tracing_disabled(disabled=True)
    pinned = None if options.pin else counts.load()
    seen: dict[str, Found] = {}
    clean: dict[str, Found] = {}
    wrong: list[str] = []
    print(ROW.format(*HEAD))
    for row in rows(long=not options.quick, limit=options.limit):
        if options.only in row.name:
            found = seen[row.name] = row.explore()
            wrong += [f"{row.name}: {problem}" for problem in problems(row, found, pinned)]
            if not row.expected:
                clean[row.name] = found
            print(line(row, found), flush=True)
    if not seen:
        parser.error(f"no scenario's name contains {options.only!r}")
    print(ROW.format("all", *totals(list(seen.values())), ""))
    print("\n\n".join(["", *wrong]))
    if options.pin:
        counts.pin(clean)
    return bool(wrong)


def totals(found: list[Found]) -> tuple[str, ...]:
    """Return the sums of the table's columns."""
    names = ("executions", "steps", "states", "durable", "crash_points", "endings", "seconds")
    return tuple(f"{sum(getattr(each, name) for each in found):.0f}" for name in names)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
