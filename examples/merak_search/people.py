"""What Merak had before it had client tools: who asks, and whom it can find."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass

from pydantic import BaseModel

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


async def find(query: str) -> list[Profile]:
    """Find the people who know something about a word of `query`. It takes a moment, as an index would."""
    await asyncio.sleep(SEARCH_SECONDS)
    words = set(re.findall(r"\w{3,}", query.lower()))
    return [person for person in PEOPLE if words & set(person.knows.split())]
