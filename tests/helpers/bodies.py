"""A plain server with a function for each run, and events for these functions to stream."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from agents import RunContextWrapper, function_tool
from chatkit.agents import AgentContext  # noqa: TC002  read at run time
from chatkit.server import ChatKitServer, NonStreamingResult, StreamingResult
from chatkit.types import AssistantMessageItem, ClientToolCallItem, ThreadItemDoneEvent
from pydantic import TypeAdapter

from chatkit_clienttools import ClientToolSequencer
from chatkit_clienttools.stores import MemoryStore
from chatkit_clienttools.testing import FakeBrowser
from tests.helpers.merak import TOOLS, SequencedServer, animation, calls, profiles, speaks
from tests.helpers.stores import PlainStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


sequencer = ClientToolSequencer(TOOLS)


@function_tool
async def search(ctx: RunContextWrapper[AgentContext[Any]], query: str) -> str:
    """Find people."""
    sequencer.enqueue(ctx, animation(state="start"), profiles(agents=["Ada"]), animation(state="stop"))
    return "1 agent is on screen."


def merak() -> SequencedServer:
    steps = [[calls("search", {"query": "law"})], speaks("There.")]
    return SequencedServer(MemoryStore(), steps, [search], sequencer=sequencer)


class Server(ChatKitServer[Any]):
    """A server whose runs are written by the test, in order; it takes down what is posted to it."""

    def __init__(self, *bodies: Callable[..., AsyncIterator[Any]]) -> None:
        super().__init__(PlainStore())
        self.bodies = list(bodies)
        self.posted: list[tuple[str, Any]] = []
        self.cancelled = 0

    async def process(self, request: Any, context: Any) -> StreamingResult | NonStreamingResult:
        posted = json.loads(request)
        self.posted.append((posted["type"], posted["params"]))
        return await super().process(request, context)

    async def respond(self, thread: Any, input_user_message: Any, context: Any) -> AsyncIterator[Any]:
        async for event in self.bodies.pop(0)(thread):
            yield event

    def action(self, thread: Any, action: Any, sender: Any, context: Any) -> AsyncIterator[Any]:
        return self.respond(thread, None, context)

    async def handle_stream_cancelled(self, thread: Any, pending_items: Any, context: Any) -> None:
        self.cancelled += 1

    @property
    def answers(self) -> list[Any]:
        return [params["result"] for kind, params in self.posted if kind == "threads.add_client_tool_output"]


def item(model: Any, thread: Any, item_id: str, **fields: Any) -> Any:
    return TypeAdapter(model).validate_python(
        {"id": item_id, "thread_id": thread.id, "created_at": "2026-01-01T12:00:00", **fields}
    )


def done(model: Any, thread: Any, item_id: str, **fields: Any) -> ThreadItemDoneEvent:
    return ThreadItemDoneEvent(item=item(model, thread, item_id, **fields))


def call(thread: Any, name: str = "shows", item_id: str = "tc_1", **arguments: Any) -> ThreadItemDoneEvent:
    return done(ClientToolCallItem, thread, item_id, call_id=item_id, name=name, arguments=arguments)


def says(text: str, item_id: str = "msg_1") -> Callable[..., AsyncIterator[Any]]:
    async def body(thread: Any) -> AsyncIterator[Any]:
        yield done(AssistantMessageItem, thread, item_id, content=[{"type": "output_text", "text": text}])

    return body


def asks(name: str = "shows", item_id: str = "tc_1", **arguments: Any) -> Callable[..., AsyncIterator[Any]]:
    async def body(thread: Any) -> AsyncIterator[Any]:
        yield call(thread, name, item_id, **arguments)

    return body


async def nothing(thread: Any) -> AsyncIterator[Any]:
    return
    yield


def streams(*events: Any) -> Callable[..., AsyncIterator[Any]]:
    async def body(thread: Any) -> AsyncIterator[Any]:
        for event in events:
            yield event(thread) if callable(event) else event

    return body


async def waiting_for_ever() -> tuple[Server, FakeBrowser, asyncio.Task[None]]:
    """A page that has written, to a server that works and sends nothing more."""
    waits = asyncio.Event()

    async def body(thread: Any) -> AsyncIterator[Any]:
        waits.set()
        await asyncio.Event().wait()
        yield

    server = Server(body)
    browser = FakeBrowser(server)
    sending = asyncio.create_task(browser.send("Go"))
    await waits.wait()
    return server, browser, sending
