"""How much an exploration has seen, pinned: less of it is a failure, whoever has made it smaller."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .search import Found

FILE = Path(__file__).with_name("counts.json")
COUNTED = ("executions", "states", "durable", "crash_points")

OF_A_PAIR = ("states",)
"""What is counted of a scenario whose executions are taken at random: there are hundreds of them."""

Pinned = dict[str, dict[str, int]]
"""By the name of the scenario, what was counted when it was pinned."""


def load() -> Pinned:
    pinned: Pinned = json.loads(FILE.read_text())
    return pinned


def pin(seen: Mapping[str, Found]) -> None:
    """Write down what was seen; what was not explored this time stays as it is."""
    known = load() if FILE.exists() else {}
    known |= {name: {count: getattr(found, count) for count in _counted(found)} for name, found in seen.items()}
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(known[name], sort_keys=True)}" for name in sorted(known))
    FILE.write_text(f"{{\n{lines}\n}}\n")


def _counted(found: Found) -> tuple[str, ...]:
    return OF_A_PAIR if found.scenario.at_random else COUNTED


def shrunk(pinned: Pinned, name: str, found: Found) -> list[str]:
    """Say what there is less of than there was."""
    if name not in pinned:
        return ["nothing is pinned for it: --pin"]
    return [
        f"{getattr(found, count)} {count.replace('_', ' ')} where there were {least}"
        for count, least in pinned[name].items()
        if getattr(found, count) < least
    ]
