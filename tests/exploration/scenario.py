"""What a scenario is: who does what, at most how often, and what may go wrong."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict

from chatkit_clienttools import ClientTool
from chatkit_clienttools.media import ClientImage  # noqa: TC001  pydantic reads it

if TYPE_CHECKING:
    from collections.abc import Mapping

DEADLINE = 5.0
"""How many seconds the browser has for `waits`: less than the lease of a step."""


class Drawn(BaseModel):
    """An answer with an image."""

    model_config = ConfigDict(extra="allow")

    picture: ClientImage


TOOLS: Mapping[str, ClientTool[..., Any]] = {
    "shows": ClientTool("shows", result=None),
    "stops": ClientTool("stops", result=None, required=True),
    "gets": ClientTool("gets"),
    "draws": ClientTool("draws", result=Drawn),
    "picks": ClientTool("picks"),
    "plays": ClientTool("plays", result=None),
    "insists": ClientTool("insists", required=True),
    "waits": ClientTool("waits", expires_after=timedelta(seconds=DEADLINE)),
}
"""The last four are asked for by tools that await them; the last one by the model, too."""


def picture_of(label: str) -> bytes:
    """The image in the answer to a call: each has its own."""
    return b"\x89PNG\r\n\x1a\n" + label.encode()


def answer_to(name: str, label: str) -> dict[str, Any]:
    """What the browser answers to a call."""
    answer: dict[str, Any] = {"answer to": label}
    if name != "draws":
        return answer
    return {**answer, "picture": {"data_url": f"data:image/png;base64,{b64encode(picture_of(label)).decode()}"}}


@dataclass(frozen=True)
class Scenario:
    """One conversation: the user writes, the model asks for `calls`, and the rest is up to the controller."""

    name: str = ""
    calls: tuple[str, ...] = ("shows", "gets")
    tools: tuple[str, ...] = ()
    """What the bodies of the tools do that the model calls beside: for each its script, see `asking`."""
    subject: str = "protected"
    store: str = "memory"
    workers: int = 1
    receipts: bool = True
    locked: bool = False
    """Whether the workers share a lock."""
    around: Literal["nothing", "validating", "late", "media"] = "nothing"
    """What each worker has around the store."""
    on_user_message: Literal["cancel", "keep"] = "cancel"
    on_failure: Literal["continue", "abort"] = "continue"
    failing: tuple[int, ...] = ()
    """The calls whose handler throws."""
    failing_runs: int = 0
    """How many of the runs after the last answer fail."""
    then: tuple[str, ...] = ()
    """What the model asks for in the run after the last answer."""
    later: tuple[str, ...] = ()
    """What it asks for when there is a second message, or an action."""
    one_at_a_time: bool = False
    """Whether nobody posts anything while a request is open: no interleavings, only faults."""
    every_event: bool = False
    """Whether every event is a point, and not only the calls: crashes and disconnects between any two events."""
    opened: bool = False
    """Whether the exploration begins when the first call is out, and not with the user's message."""
    most: int = 1_000_000
    """How many executions are enough, where all of them are too many."""
    at_random: bool = False
    """Whether the executions are taken at random, with a seed, and not depth first: if not all of them are taken."""
    recovery: Literal["resume", "message", "repeat", "again", "nothing"] = "resume"
    """What the user does when everything has come to a stop, for all to be settled: "again" is to post the last answer
    again, and to resume only where a call is pending that the page may not have."""

    # what the browser and the user may do in addition, at most so often
    repeats: int = 0
    drops: int = 0
    messages: int = 0
    retries: int = 0
    actions: int = 0
    forms: int = 0
    resumes: int = 0
    renames: int = 0
    dismissals: int = 0
    """How often the application cancels what is open."""
    deadlines: int = 0
    """How often so much time goes by that each call is overdue that is out and may be."""
    expiries: int = 0
    """How often the application ends what is overdue."""
    # what may go wrong, at most so often
    crashes: int = 0
    errors: int = 0
    outages: int = 0
    cancels: int = 0
    stops: int = 0
    """How often the user presses Stop while a step of a tool runs."""
    freezes: int = 0
    lapses: int = 0

    remembers: bool = True
    """Whether the browser remembers the receipts it has seen."""
    shows: tuple[str, ...] = ()
    """The violations that this scenario is there to show. None: there must not be any."""

    @property
    def is_exact(self) -> bool:
        """Whether one of two workers can be told to leave a thing to the other."""
        return self.workers == 1 or self.locked or "plans" in self.store or self.store == "memory"

    @property
    def asks(self) -> tuple[str, ...]:
        """What the tools ask the browser for."""
        words = [word for script in self.tools for word in script.split()]
        return tuple(word for word in words if word in TOOLS or word == "until")

    @property
    def threads_stand_still(self) -> bool:
        """Whether nobody writes the thread itself, so that it does not matter when it is read."""
        return not self.every_event and not self.renames and self.store in ("memory", "dicts, plans")

    def but(self, **changes: Any) -> Scenario:
        return replace(self, **changes)
