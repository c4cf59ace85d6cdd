"""What Merak had before it had client tools: who asks, and whom it can find."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel


@dataclass(frozen=True)
class RequestContext:
    """Who asks."""

    user_id: str


class Profile(BaseModel):
    """One person, as the canvas shows them."""

    name: str
    knows: str


PEOPLE = (
    Profile(name="Ada", knows="maritime law"),
    Profile(name="Bela", knows="maritime insurance"),
    Profile(name="Chen", knows="harbour pilotage"),
)


async def find(query: str) -> list[Profile]:
    """Find the people who know something about a word of `query`."""
    words = query.lower().split()
    return [person for person in PEOPLE if any(word in person.knows for word in words)]
