"""A server with a script of its own on any store, to try the store with."""

from __future__ import annotations

import asyncio
import itertools
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from chatkit.agents import AgentContext
from chatkit.types import AssistantMessageContent, AssistantMessageItem, ThreadItemDoneEvent

from chatkit_clienttools import ClientTool, ClientToolSequencer, StoreWrapper
from chatkit_clienttools.server import ClientToolServer
from chatkit_clienttools.store import METHODS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

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

OPERATIONS = (*sorted(METHODS), "load_plan", "save_plan")
"""What of a store takes a while in a database."""


def rehearsal(store: Store[Any], clock: Callable[[], float], **options: Any) -> RehearsalServer:
    """Return a server with a sequencer of its own."""
    sequencer = ClientToolSequencer(TOOLS, clock=clock, **options)

    class Rehearsal(RehearsalServer):
        client_tools = sequencer

        async def respond(self, thread: Any, input_user_message: Any, context: Any) -> AsyncIterator[Any]:
            said = input_user_message.content[0].text if input_user_message else None
            async for event in self.run(sequencer, thread, context, MESSAGES[said] if said else ()):
                yield event

        async def action(self, thread: Any, action: Any, sender: Any, context: Any) -> AsyncIterator[Any]:  # noqa: ARG002
            async for event in self.run(sequencer, thread, context, ACTIONS[action.type]):
                yield event

    return Rehearsal(Unhurried(store))


class Unhurried(StoreWrapper[Any]):
    """A store that lets others go on before each operation, as a database does.

    Stop takes hold of a server where it waits. With a store that never does, a request would be over before anybody
    could press it.
    """

    def __init__(self, inner: Store[Any]) -> None:
        super().__init__(inner)
        self._hurries = 0
        for name in OPERATIONS:
            if hasattr(inner, name):
                setattr(self, name, self._waiting(getattr(inner, name)))

    def hurry(self, operations: int) -> None:
        """Do so many operations without a wait: a Stop that is pressed now takes hold of the one after them."""
        self._hurries = operations

    async def wait(self) -> None:
        """Let others go on, unless there is no time for it."""
        if self._hurries:
            self._hurries -= 1
        else:
            await asyncio.sleep(0)

    def _waiting(self, operation: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def waiting(*args: Any, **named: Any) -> Any:
            await self.wait()
            return await operation(*args, **named)

        return waiting


class RehearsalServer(ClientToolServer[Any]):
    """Says something in each run, and counts the runs."""

    def __init__(self, store: Unhurried) -> None:
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
