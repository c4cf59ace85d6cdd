"""What the body of a tool streams when it runs again: only what the page has not had before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from chatkit.types import ThreadItemAddedEvent, ThreadItemUpdatedEvent, WorkflowItem

from .replay import current_replay

if TYPE_CHECKING:
    import asyncio

    from chatkit.agents import AgentContext
    from chatkit.types import ThreadStreamEvent


class _Unrepeated:
    """ChatKit's queue of events, without what a body streams again."""

    def __init__(self, events: asyncio.Queue[Any]) -> None:
        self.events = events
        self._begun: dict[str, WorkflowItem] = {}
        """The workflows that the body has begun again, by the ids that they have now: the page does not know these."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.events, name)

    async def put(self, event: ThreadStreamEvent) -> None:
        """Take an event, unless it was streamed before."""
        running = current_replay.get()
        is_silent = running is not None and running.is_silent
        match event:
            case ThreadItemAddedEvent(item=WorkflowItem() as item) if is_silent:
                self._begun[item.id] = item
            case ThreadItemUpdatedEvent(item_id=item_id) if item_id in self._begun and not is_silent:
                item = self._begun.pop(item_id).model_copy(deep=True)
                event = ThreadItemAddedEvent(item=item)  # with the task that the update is about
        if not is_silent:
            await self.events.put(event)


def mute_repetitions(context: AgentContext[Any]) -> None:
    """Let the bodies of tools that run with this context stream nothing twice."""
    if not isinstance(context._events, _Unrepeated):  # noqa: SLF001  ChatKit offers no other place
        context._events = cast("Any", _Unrepeated(context._events))  # noqa: SLF001
