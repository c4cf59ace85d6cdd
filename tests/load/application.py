"""What a worker of the load test serves: an assistant with one tool, which lets the page show three changes."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import resource
import sys
from collections import Counter
from dataclasses import dataclass
from multiprocessing import parent_process
from typing import TYPE_CHECKING, Any

import psutil  # type: ignore[import-untyped]
import uvicorn
from agents import Agent, RunContextWrapper, Runner
from chatkit.agents import AgentContext, stream_agent_response
from chatkit.server import StreamingResult
from examples.offline import Heard, Reply, Use, model_or_offline
from sqlalchemy import event
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from chatkit_clienttools import ClientTool, ClientToolConverter, ClientToolSequencer, ClientToolServer, StoreWrapper
from chatkit_clienttools.stores.sql import SQLStore

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator

    from starlette.requests import Request

CALLS = 3
"""How many client tool calls a conversation has."""

KEEP_ALIVE = 600
"""How many seconds an idle connection stays open: the pages are not to meet one that is just being closed."""

OWNER = "x-owner"
"""The header that says whose request it is."""

WRITES = {"save_thread", "add_thread_item", "save_item", "delete_thread_item", "save_plan"}

show = ClientTool("show", result=None)
sequencer = ClientToolSequencer([show], receipts=True)
converter = ClientToolConverter(sequencer)


@dataclass(frozen=True)
class Setup:
    """What the workers have in common."""

    url: str
    prefix: str

    def store(self) -> SQLStore[str]:
        return SQLStore.from_url(self.url, prefix=self.prefix, owner=lambda owner: owner)


@dataclass(frozen=True)
class Figures:
    """What a worker tells of itself."""

    commits: int
    writes: int
    peak_rss: int
    """In bytes."""
    descriptors: int
    troubles: list[str]
    """What the worker has logged, each kind once."""


@sequencer.function_tool
async def add_task(ctx: RunContextWrapper[AgentContext[str]], title: str) -> str:
    """Put a task on the list, and let the page show it."""
    for number in range(CALLS):
        sequencer.enqueue(ctx, show(title=title, number=number))
    return "done"


def rule(heard: Heard) -> Reply:
    """Use the tool, then say so."""
    return f"“{heard.text}” is on your list." if heard.outputs else [Use("add_task", {"title": heard.text})]


class Assistant(ClientToolServer[str]):
    client_tools = sequencer
    agent = Agent[AgentContext[str]](name="Todo", tools=[add_task], model=model_or_offline(rule))

    async def respond(self, thread: Any, input_user_message: Any, context: str) -> AsyncIterator[Any]:
        agent_context = AgentContext(thread=thread, store=self.store, request_context=context)
        newest = await self.store.load_thread_items(thread.id, None, 30, "desc", context)
        history = await converter.to_agent_input(newest.data[::-1])
        result = Runner.run_streamed(self.agent, history, context=agent_context)
        async for each in stream_agent_response(agent_context, result):
            yield each


class Troubles(logging.Handler):
    """Keeps what is logged, but for the ids in it."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.seen: dict[str, None] = {}

    def emit(self, record: logging.LogRecord) -> None:
        self.seen[re.sub(r"\b[a-z]+_[0-9a-f]{8,}", "...", record.getMessage())] = None


class Counted(StoreWrapper[str]):
    """Counts what is written."""

    def __init__(self, inner: SQLStore[str], troubles: Troubles) -> None:
        super().__init__(inner)
        self._troubles = troubles
        self.counts = Counter[str]()
        for name in WRITES:
            setattr(self, name, self._counted(name, getattr(inner, name)))
        event.listen(inner._database.engine.sync_engine, "before_cursor_execute", self._on_statement)
        event.listen(inner._database.engine.sync_engine, "commit", self._on_commit)

    def figures(self) -> Figures:
        unit = 1 if sys.platform == "darwin" else 1024
        return Figures(
            commits=self.counts["commits"],
            writes=sum(self.counts[name] for name in WRITES),
            peak_rss=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit,
            descriptors=psutil.Process().num_fds(),
            troubles=list(self._troubles.seen),
        )

    def _counted(self, name: str, method: Any) -> Any:
        async def counted(*args: Any, **options: Any) -> Any:
            self.counts[name] += 1
            return await method(*args, **options)

        return counted

    def _on_statement(self, connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        commits_itself = connection.get_execution_options().get("isolation_level") == "AUTOCOMMIT"
        is_write = commits_itself and statement.split(maxsplit=1)[0] in {"INSERT", "UPDATE", "DELETE", "WITH"}
        self.counts["commits"] += is_write or statement == "COMMIT"

    def _on_commit(self, _connection: Any) -> None:
        self.counts["commits"] += 1


def application(store: Counted) -> Starlette:
    server = Assistant(store)

    async def chatkit(request: Request) -> Response:
        result = await server.process(await request.body(), request.headers[OWNER])
        if isinstance(result, StreamingResult):
            return StreamingResponse(result, media_type="text/event-stream")
        return Response(result.json, media_type="application/json")

    async def figures(_: Request) -> Response:
        return JSONResponse(vars(store.figures()))

    return Starlette(routes=[Route("/chatkit", chatkit, methods=["POST"]), Route("/figures", figures)])


def work(setup: Setup, listening: socket.socket) -> None:
    """Be a worker, until the load test ends it or is gone."""
    asyncio.run(_serve(setup, listening))


async def _serve(setup: Setup, listening: socket.socket) -> None:
    parent = parent_process()
    assert parent is not None
    asyncio.get_running_loop().add_reader(parent.sentinel, os._exit, 0)
    store = setup.store()
    await store.create_schema()
    troubles = Troubles()
    logging.basicConfig(handlers=[troubles], level=logging.WARNING)
    app = application(Counted(store, troubles))
    config = uvicorn.Config(app, lifespan="off", log_config=None, access_log=False, timeout_keep_alive=KEEP_ALIVE)
    await uvicorn.Server(config).serve(sockets=[listening])
    await store.close()
