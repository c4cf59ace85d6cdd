"""How a schedule is shown: one line for what one party does in a row."""

from __future__ import annotations

from itertools import groupby

Schedule = tuple[str, ...]


def readable(schedule: Schedule) -> str:
    lines = []
    for who, steps in groupby(schedule, key=lambda text: text.split(": ")[0]):
        whats = [text.removeprefix(f"{who}: ") for text in steps]
        lines.append(who if whats == [who] else f"{who}: {' | '.join(whats)}")
    return "\n".join(lines)


def parsed(text: str) -> Schedule:
    """Read a schedule as `readable` has shown it."""
    schedule: list[str] = []
    for line in text.strip().splitlines():
        who, colon, whats = line.strip().partition(": ")
        schedule += [f"{who}: {what}" for what in whats.split(" | ")] if colon else [who]
    return tuple(schedule)
