"""A sequenced server on any store, that asks for what it is told to: for a store's own trial."""

from __future__ import annotations

import itertools
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from chatkit.agents import AgentContext
from chatkit.types import AssistantMessageContent, AssistantMessageItem, ThreadItemDoneEvent

from chatkit_clienttools import ClientTool, ClientToolSequencer
from chatkit_clienttools.server import ClientToolServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from chatkit.store import Store

TOOLS = (
    ClientTool("shows", result=None),
    ClientTool("stops", result=None, required=True),
    ClientTool("gets", result=dict[str, int]),
)

MESSAGES = {
    "say something": (),
    "show one": ("shows",),
    "show, show and stop": ("shows", "shows", "stops"),
    "get one": ("gets",),
    "show, get, show and stop": ("shows", "gets", "shows", "stops"),
}

ACTIONS = {"show": ("shows",), "get and stop": ("gets", "stops")}


def rehearsal(store: Store[Any], clock: Callable[[], float], **options: Any) -> RehearsalServer:
    """Return a server with a sequencer of its own."""
    sequencer = ClientToolSequencer(TOOLS, clock=clock, **options)

    class Rehearsal(RehearsalServer):
        @sequencer.sequenced
        async def respond(self, thread: Any, input_user_message: Any, context: Any) -> AsyncIterator[Any]:
            said = input_user_message.content[0].text if input_user_message else None
            async for event in self.run(sequencer, thread, context, MESSAGES[said] if said else ()):
                yield event

        @sequencer.sequenced
        async def action(self, thread: Any, action: Any, sender: Any, context: Any) -> AsyncIterator[Any]:  # noqa: ARG002
            async for event in self.run(sequencer, thread, context, ACTIONS[action.type]):
                yield event

    return Rehearsal(store)


class RehearsalServer(ClientToolServer[Any]):
    """Says something in each run, and counts the runs."""

    def __init__(self, store: Store[Any]) -> None:
        super().__init__(store)
        self.runs = 0
        self._arguments = itertools.count(1)

    async def run(
        self, sequencer: ClientToolSequencer, thread: Any, context: Any, names: Sequence[str]
    ) -> AsyncIterator[Any]:
        """What a model's run is in other servers."""
        self.runs += 1
        agent_context = AgentContext(thread=thread, store=self.store, request_context=context)
        sequencer.enqueue(agent_context, *(sequencer.tool(name)(n=next(self._arguments)) for name in names))
        yield ThreadItemDoneEvent(item=self._message(thread, context))

    def _message(self, thread: Any, context: Any) -> AssistantMessageItem:
        return AssistantMessageItem(
            id=self.store.generate_item_id("message", thread, context),
            thread_id=thread.id,
            created_at=datetime.now(timezone.utc).replace(tzinfo=None),  # naive, as ChatKit writes it
            content=[AssistantMessageContent(text=f"This is run {self.runs}.")],
        )
