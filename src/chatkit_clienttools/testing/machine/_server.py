"""A server that asks for what a script says, on any store, to try the store with."""

from __future__ import annotations

import asyncio
import itertools
from datetime import datetime, timezone
from functools import partial
from typing import TYPE_CHECKING, Any

from chatkit.agents import AgentContext
from chatkit.types import AssistantMessageContent, AssistantMessageItem, ThreadItemDoneEvent

from chatkit_clienttools import ClientTool, ClientToolSequencer, StoreWrapper
from chatkit_clienttools.server import ClientToolServer
from chatkit_clienttools.testing._factory import AWAITED

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

    from chatkit.store import Store

    Asks = Mapping[str, Sequence[str]]
    """What can be said to a server, and the client tools that it then asks for."""

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


class Unhurried(StoreWrapper[Any]):
    """A store that lets others go on before each operation, as a database does.

    Stop takes hold of a server where it waits. With a store that never does, a request would be over before anybody
    could press it.
    """

    def __init__(self, inner: Store[Any]) -> None:
        super().__init__(inner)
        self.hurries = 0
        """How many operations are done without a wait: a Stop that is pressed now takes hold of the one after them."""
        for name in AWAITED:
            if hasattr(inner, name):
                setattr(self, name, partial(self._waiting, getattr(inner, name)))

    async def _waiting(self, operation: Callable[..., Awaitable[Any]], *args: Any, **named: Any) -> Any:
        if self.hurries:
            self.hurries -= 1
        else:
            await asyncio.sleep(0)
        return await operation(*args, **named)


def rehearsal(
    store: Store[Any],
    clock: Callable[[], float],
    *,
    tools: Sequence[ClientTool[..., Any]] = TOOLS,
    messages: Asks = MESSAGES,
    actions: Asks = ACTIONS,
    **options: Any,
) -> RehearsalServer:
    """Return a server with a sequencer of its own."""
    return RehearsalServer(Unhurried(store), ClientToolSequencer(tools, clock=clock, **options), messages, actions)


class RehearsalServer(ClientToolServer[Any]):
    """Says something in each run, asks for the client tools of the script, and counts the runs."""

    def __init__(self, store: Unhurried, sequencer: ClientToolSequencer, messages: Asks, actions: Asks) -> None:
        self.client_tools = sequencer
        super().__init__(store)
        self.runs = 0
        self._sequencer = sequencer
        self._messages = messages
        self._actions = actions
        self._arguments = itertools.count(1)

    async def respond(self, thread: Any, input_user_message: Any, context: Any) -> AsyncIterator[Any]:
        names = self._messages[input_user_message.content[0].text] if input_user_message else ()
        yield self._run(thread, context, names)

    async def action(self, thread: Any, action: Any, sender: Any, context: Any) -> AsyncIterator[Any]:  # noqa: ARG002
        yield self._run(thread, context, self._actions[action.type])

    def _run(self, thread: Any, context: Any, names: Sequence[str]) -> ThreadItemDoneEvent:
        """Do what the run of a model does in other servers."""
        self.runs += 1
        agent_context = AgentContext(thread=thread, store=self.store, request_context=context)
        calls = (self._sequencer.tool(name)(n=next(self._arguments)) for name in names)
        self._sequencer.enqueue(agent_context, *calls)
        said = AssistantMessageItem(
            id=self.store.generate_item_id("message", thread, context),
            thread_id=thread.id,
            created_at=datetime.now(timezone.utc).replace(tzinfo=None),  # naive, as ChatKit writes it
            content=[AssistantMessageContent(text=f"This is run {self.runs}.")],
        )
        return ThreadItemDoneEvent(item=said)
