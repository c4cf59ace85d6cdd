"""The application that a worker process runs: a ChatKit endpoint whose model does as the message says."""

from __future__ import annotations

import asyncio
import json
import logging
import multiprocessing
import os
import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4

import uvicorn
from chatkit.agents import AgentContext
from chatkit.server import StreamingResult
from chatkit.types import AssistantMessageContent, AssistantMessageItem, ThreadItemDoneEvent
from starlette.applications import Starlette
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from chatkit_clienttools import ClientTool, ClientToolSequencer, ClientToolServer
from chatkit_clienttools.stores.sql import SQLStore
from tests.processes.ledger import Ledger, Logged

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator
    from pathlib import Path

    from chatkit.agents import ClientToolCall
    from chatkit.types import ClientToolCallItem
    from starlette.requests import Request

show = ClientTool("show", result=None)
ask = ClientTool("ask", result=dict[str, str])  # the model gets the answer
stop = ClientTool("stop", result=None, required=True)  # goes out even if the user writes first
TOOLS = {tool.name: tool for tool in (show, ask, stop)}

THINKING_SECONDS = 0.01
"""How long the model takes before it says something, and again before it asks for client tools."""

PAGE = 1000
"""How many items a thread has at most."""

NOTHING = "nothing"
"""What the model runs after if it was not written to and nothing was answered."""


@dataclass(frozen=True)
class Setup:
    """What all workers of a trial have in common. Their clock is faster than ours, so that leases end sooner."""

    url: str
    ledger: Path
    began: float
    pace: float
    prefix: str = "chatkit_"
    receipts: bool = True

    def store(self) -> SQLStore[Any]:
        return SQLStore.from_url(self.url, prefix=self.prefix, time_limit=20.0)

    def sequencer(self) -> ClientToolSequencer:
        return ClientToolSequencer(TOOLS.values(), receipts=self.receipts, clock=self.clock)

    def clock(self) -> float:
        return self.began + (time.time() - self.began) * self.pace


@dataclass
class Posting:
    """A request, and the runs of the model that it has led to."""

    runs: list[str] = field(default_factory=list)


def server(setup: Setup, store: SQLStore[Any], ledger: Ledger) -> ClientToolServer[Posting]:
    """A server that asks for the client tools that a message names, and afterwards tells what was answered."""
    sequencer = setup.sequencer()

    class Obedient(ClientToolServer[Posting]):
        client_tools = sequencer

        async def respond(self, thread: Any, input_user_message: Any, context: Posting) -> AsyncIterator[Any]:
            items = (await self.store.load_thread_items(thread.id, None, PAGE, "desc", context)).data
            message = next(item for item in items if item.type == "user_message")
            answered = [item for item in items[: items.index(message)] if item.type == "client_tool_call"][::-1]
            after = None if input_user_message else answered[-1].id if answered else NOTHING
            run = uuid4().hex
            context.runs.append(run)
            asks = json.loads(message.content[0].text)["calls"] if input_user_message else []
            place = {"thread_id": thread.id, "message": message.id, "after": after, "pid": os.getpid()}
            ledger.write(kind="run", id=run, asks=asks, **place)
            await asyncio.sleep(THINKING_SECONDS)
            yield says(answers_among(answered), thread.id)
            await asyncio.sleep(THINKING_SECONDS)
            if input_user_message:
                agent_context = AgentContext(thread=thread, store=self.store, request_context=context)
                sequencer.enqueue(agent_context, *calls_for(message.content[0].text, run))

    return Obedient(store)


def answers_among(answered: list[ClientToolCallItem]) -> list[str]:
    """What the model hears: the answers that it wanted."""
    answers = [cast("dict[str, str]", item.output) for item in answered if item.name == ask.name]
    return [answer["mark"] for answer in answers]


def calls_for(text: str, run: str) -> list[ClientToolCall]:
    """The calls that a message names, each with a mark by which its answer is known."""
    names = json.loads(text)["calls"]
    return [TOOLS[name](mark=f"{run}/{n}", of=len(names)) for n, name in enumerate(names, 1)]


def says(heard: list[str], thread_id: str) -> ThreadItemDoneEvent:
    content = [AssistantMessageContent(text=json.dumps(heard))]
    item = AssistantMessageItem(id=uuid4().hex, thread_id=thread_id, created_at=datetime.now(), content=content)  # noqa: DTZ005  as ChatKit does
    return ThreadItemDoneEvent(item=item)


def application(chat: ClientToolServer[Posting], ledger: Ledger) -> Starlette:
    """The endpoint. It tells when a stream has come to its end."""

    async def streamed(result: StreamingResult, posting: Posting) -> AsyncIterator[bytes]:
        async for chunk in result:
            yield chunk
        for run in posting.runs:
            ledger.write(kind="over", id=run)

    async def chatkit(request: Request) -> Response:
        posting = Posting()
        result = await chat.process(await request.body(), posting)
        if isinstance(result, StreamingResult):
            return StreamingResponse(streamed(result, posting), media_type="text/event-stream")
        return Response(result.json, media_type="application/json")

    return Starlette(routes=[Route("/chatkit", chatkit, methods=["POST"])])


def work(setup: Setup, listening: socket.socket) -> None:
    """Be a worker, until somebody kills it, or the trial is gone."""
    asyncio.run(_serve(setup, listening))


async def _serve(setup: Setup, listening: socket.socket) -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    asyncio.get_running_loop().add_reader(parent.sentinel, os._exit, 0)
    ledger = Ledger(setup.ledger)
    logging.basicConfig(handlers=[Logged(ledger)], level=logging.WARNING)
    store = setup.store()
    await store.create_schema()
    app = application(server(setup, store, ledger), ledger)
    await uvicorn.Server(uvicorn.Config(app, lifespan="off", log_config=None)).serve(sockets=[listening])
