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

Pinned = dict[str, dict[str, int]]
"""By the name of the scenario, what was counted when it was pinned."""


def load() -> Pinned:
    pinned: Pinned = json.loads(FILE.read_text())
    return pinned


def pin(seen: Mapping[str, Found]) -> None:
    """Write down what was seen; what was not explored this time stays as it is."""
    known = load() if FILE.exists() else {}
    known |= {name: {count: getattr(found, count) for count in COUNTED} for name, found in seen.items()}
    FILE.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")


def shrunk(pinned: Pinned, name: str, found: Found) -> list[str]:
    """Say what there is less of than there was."""
    if name not in pinned:
        return ["nothing is pinned for it: --pin"]
    return [
        f"{getattr(found, count)} {count.replace('_', ' ')} where there were {least}"
        for count, least in pinned[name].items()
        if getattr(found, count) < least
    ]
