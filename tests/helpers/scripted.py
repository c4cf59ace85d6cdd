"""A server whose runs are written by the test, and what its bodies mostly do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chatkit.types import AssistantMessageItem, ClientToolCallItem, HiddenContextItem, ThreadItemDoneEvent

from chatkit_clienttools import ClientToolSequencer, ClientToolServer, SequencedAgentContext
from tests.helpers.conversation import Conversation, Wire, at
from tests.helpers.merak import TOOLS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from chatkit.agents import AgentContext, ClientToolCall
    from chatkit.store import Store
    from chatkit.types import ThreadMetadata, UserMessageItem


class Scripted(ClientToolServer[Any]):
    """A server with one function for each body that is run, in order."""

    def __init__(self, store: Store[Any], sequencer: ClientToolSequencer, *bodies: Any) -> None:
        super().__init__(store)
        self.client_tools = self.sequencer = sequencer
        self.bodies = list(bodies)
        self.runs = 0

    async def respond(
        self, thread: ThreadMetadata, input_user_message: UserMessageItem | None, context: Any
    ) -> AsyncIterator[Any]:
        async for event in self._run(thread, context):
            yield event

    async def action(self, thread: ThreadMetadata, action: Any, sender: Any, context: Any) -> AsyncIterator[Any]:
        async for event in self._run(thread, context):
            yield event

    async def _run(self, thread: ThreadMetadata, context: Any) -> AsyncIterator[Any]:
        self.runs += 1
        body = self.bodies.pop(0)
        agent_context = SequencedAgentContext(thread=thread, store=self.store, request_context=context)
        async for event in body(self, agent_context):
            yield event


def scripted(store: Store[Any], *bodies: Any, **options: Any) -> tuple[Scripted, Conversation]:
    """A server with these bodies, and a browser that talks to it."""
    server = Scripted(store, ClientToolSequencer(TOOLS, **options), *bodies)
    return server, Conversation(server)


# bodies


def asks(*wanted: ClientToolCall, says: str | None = None) -> Any:
    """A body that enqueues calls."""

    async def body(server: Scripted, context: AgentContext[Any]) -> AsyncIterator[Any]:
        server.sequencer.enqueue(context, *wanted)
        if says:
            yield message(says, context.thread, says)

    return body


def says(text: str) -> Any:
    """A body that says something."""

    async def body(server: Scripted, context: AgentContext[Any]) -> AsyncIterator[Any]:
        yield message(text, context.thread, text)

    return body


def fails(*wanted: ClientToolCall, text: str | None = None) -> Any:
    """A body that enqueues calls and then fails."""

    async def body(server: Scripted, context: AgentContext[Any]) -> AsyncIterator[Any]:
        server.sequencer.enqueue(context, *wanted)
        if text:
            yield message(text, context.thread, text)
        raise RuntimeError("the model is away")

    return body


def answers_itself(server: Scripted, context: AgentContext[Any]) -> AsyncIterator[Any]:
    """The body of an action that lets the model run."""
    return server.respond(context.thread, None, context.request_context)


# items


def message(text: str, thread: ThreadMetadata, item_id: str) -> ThreadItemDoneEvent:
    """The event of an assistant's message."""
    content: Any = [{"text": text, "annotations": []}]
    return ThreadItemDoneEvent(
        item=AssistantMessageItem(id=item_id, thread_id=thread.id, created_at=at(1), content=content)
    )


def foreign(chat: Conversation) -> ClientToolCallItem:
    """A pending call that no plan knows of."""
    return ClientToolCallItem(
        id="tc_foreign", thread_id=chat.thread_id or "", created_at=at(59), call_id="c", name="theirs", arguments={}
    )


def hidden(chat: Conversation, n: int) -> HiddenContextItem:
    """An item that neither the browser nor the model sees."""
    return HiddenContextItem(id=f"h_{n}", thread_id=chat.thread_id or "", created_at=at(30), content="x")


async def fill(chat: Conversation, number: int) -> None:
    """Put items into a thread that no step looks for, as new as the newest one."""
    [*there, newest] = await chat.items()
    for n in range(len(there), len(there) + number):
        await chat.touch(hidden(chat, n).model_copy(update={"created_at": newest.created_at}))


async def move_behind(chat: Conversation, number: int) -> None:
    """Put other items between the pending call of a thread and what was there before."""
    [*_, pending] = await chat.items()
    await chat.server.store.delete_thread_item(pending.thread_id, pending.id, chat.context)
    await fill(chat, number)
    await chat.touch(pending)


def with_receipt(item: Wire, result: Any) -> Wire:
    """The answer to a call as a page posts it that honours receipts."""
    return {"_receipt": item["arguments"]["_receipt"], "result": result}
