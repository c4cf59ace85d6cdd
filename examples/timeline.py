"""The steps of each client tool call, for a page that shows them: an observer of a sequencer."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import TYPE_CHECKING

from pydantic import BaseModel

if TYPE_CHECKING:
    from chatkit_clienttools import LifecycleEvent

THREADS = 200
STEPS = 200


class Step(BaseModel):
    """One step of one call, without its arguments and its answer."""

    at: float
    call_id: str
    item_id: str
    tool: str
    previous: str | None
    state: str
    waited_ms: int
    reason: str | None


class Timeline:
    """Remembers the newest steps of the newest threads, in the memory of this process."""

    def __init__(self) -> None:
        self._threads: OrderedDict[str, list[Step]] = OrderedDict()

    def __call__(self, event: LifecycleEvent) -> None:
        """Take note of a step."""
        steps = self._threads.setdefault(event.thread_id, [])
        steps.append(
            Step(
                at=time.time(),
                call_id=event.call_id,
                item_id=event.item_id,
                tool=event.tool,
                previous=event.previous.value if event.previous else None,
                state=event.state.value,
                waited_ms=event.waited_ms,
                reason=event.reason,
            )
        )
        del steps[:-STEPS]
        self._threads.move_to_end(event.thread_id)
        while len(self._threads) > THREADS:
            self._threads.popitem(last=False)

    def steps(self, thread_id: str) -> list[Step]:
        """Return the steps of a thread's calls, the oldest first."""
        return self._threads.get(thread_id, [])
