"""What Merak had before it had client tools: who asks, and whom it can find."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import BaseModel

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

SEARCH_SECONDS = 1.2


@dataclass(frozen=True)
class RequestContext:
    """Who asks."""

    user_id: str


class Profile(BaseModel):
    """One person, as the stage shows them."""

    name: str
    knows: str


PEOPLE = (
    Profile(name="Ada", knows="maritime law"),
    Profile(name="Bela", knows="maritime insurance"),
    Profile(name="Chen", knows="harbour pilotage"),
    Profile(name="Dara", knows="harbour and port law"),
    Profile(name="Edda", knows="storms and weather routing"),
    Profile(name="Femi", knows="ship engines"),
)


async def _nobody(_text: str) -> None:
    """Nobody wants to know how far the search has come."""


async def find(query: str, tell: Callable[[str], Awaitable[None]] = _nobody) -> list[Profile]:
    """Find the people who know something about a word of `query`, and tell how far it has come: it takes a moment."""
    words = set(re.findall(r"\w{3,}", query.lower()))
    found = []
    for number, person in enumerate(PEOPLE, 1):
        await asyncio.sleep(SEARCH_SECONDS / len(PEOPLE))
        if words & set(person.knows.split()):
            found.append(person)
        await tell(f"{number} of {len(PEOPLE)} people looked at, {len(found)} found")
    return found
