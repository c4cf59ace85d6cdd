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
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import uvicorn
from agents import Runner
from chatkit.agents import stream_agent_response
from chatkit.server import StreamingResult
from chatkit.types import AssistantMessageContent, AssistantMessageItem, ThreadItemDoneEvent
from starlette.applications import Starlette
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from chatkit_clienttools import ClientToolConverter, ClientToolSequencer, ClientToolServer
from chatkit_clienttools._protocol.outputs import output_in
from chatkit_clienttools.receipts import ASKED
from chatkit_clienttools.stores.sql import SQLStore
from tests.processes.ledger import Ledger, Logged
from tests.processes.tools import TOOLS, agent, asks_in, outputs_in, waiting_tool

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator
    from pathlib import Path

    from chatkit.agents import ClientToolCall
    from chatkit.types import ThreadItem
    from starlette.requests import Request

THINKING_SECONDS = 0.01
"""How long the model takes before it says something, and again before it asks for client tools."""

PAGE = 1000
"""How many items a thread has at most."""

NOTHING = "nothing"
"""What the model runs after if it was not written to and nothing was answered since it was."""


@dataclass(frozen=True)
class Setup:
    """What all workers of a trial have in common. Their clock is faster than ours, so that leases end sooner."""

    url: str
    ledger: Path
    began: float
    pace: float
    prefix: str = "chatkit_"
    receipts: bool = True
    """Whether the pages honour receipts."""

    def store(self) -> SQLStore[Any]:
        return SQLStore.from_url(self.url, prefix=self.prefix, time_limit=20.0)

    def sequencer(self) -> ClientToolSequencer:
        return ClientToolSequencer(TOOLS.values(), receipts=True, clock=self.clock)

    def clock(self) -> float:
        return self.began + (time.time() - self.began) * self.pace


@dataclass
class Posting:
    """A request, and the runs of the model that it has led to."""

    runs: list[str] = field(default_factory=list)


def server(setup: Setup, store: SQLStore[Any], ledger: Ledger) -> ClientToolServer[Posting]:
    """A server that does what a message says, and afterwards tells what came of it.

    It asks for the client tools itself, or its agent calls the tool that waits for them.
    """
    sequencer = setup.sequencer()
    converter = ClientToolConverter(sequencer)
    tool = waiting_tool(sequencer, ledger)

    class Obedient(ClientToolServer[Posting]):
        client_tools = sequencer

        async def respond(self, thread: Any, input_user_message: Any, context: Posting) -> AsyncIterator[Any]:
            items = (await self.store.load_thread_items(thread.id, None, PAGE, "desc", context)).data
            message = next(item for item in items if item.type == "user_message")
            news = [item.id for item in items if is_news(item)]
            since = [item.id for item in items[: items.index(message)] if item.id in news]
            after = None if input_user_message else since[0] if since else NOTHING
            said = json.loads(message.content[0].text)
            does = said["does"] if input_user_message else None
            seen = await converter.load_history(self.store, thread, context, limit=PAGE)
            history = await converter.to_agent_input(seen)
            run = uuid4().hex
            context.runs.append(run)
            ledger.write(
                kind="run",
                id=run,
                asks=asks_in(does or []),
                waits=said["waits"],
                reads=[*outputs_in(history)],
                news=news,
                thread_id=thread.id,
                message=message.id,
                after=after,
                pid=os.getpid(),
            )
            await asyncio.sleep(THINKING_SECONDS)
            agent_context = self.agent_context(thread, context)
            if does is None or said["waits"]:
                result = Runner.run_streamed(agent(tool, run, does), history, context=agent_context)
                async for event in stream_agent_response(agent_context, result):
                    yield event
            else:
                yield says("I obey.", thread.id)
            await asyncio.sleep(THINKING_SECONDS)
            if does is not None and not said["waits"]:
                sequencer.enqueue(agent_context, *calls_for(does, run))

    return Obedient(store)


def is_news(item: ThreadItem) -> bool:
    """Whether it is what the model is told: an answer that no tool waits for, or what a tool has returned."""
    if item.type == "client_tool_call":
        return not item.call_id.startswith(ASKED)
    return output_in(item) is not None


def calls_for(names: list[str], run: str) -> list[ClientToolCall]:
    """The calls that a message names, each with a mark by which its answer is known."""
    return [TOOLS[name](mark=f"{run}/{n}", of=len(names)) for n, name in enumerate(names, 1)]


def says(text: str, thread_id: str) -> ThreadItemDoneEvent:
    content = [AssistantMessageContent(text=text)]
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
