"""A server in one process, and one of which each request has a process of its own: started for it, ended after it."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from agents import Agent, RunContextWrapper, Runner
from agents.testing import ScriptedModel, assistant_message, function_call
from chatkit.agents import AgentContext, stream_agent_response
from chatkit.server import StreamingResult

from chatkit_clienttools import ClientToolConverter, ClientToolSequencer, ClientToolServer
from chatkit_clienttools.stores.sql import SQLStore
from tests.helpers.stores import WatchedStore
from tests.helpers.waiting import TOOLS, animation, choose
from tests.processes.ledger import Ledger
from tests.processes.tools import outputs_in
from tests.processes.workers import processes

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator
    from multiprocessing.connection import Connection
    from pathlib import Path

    from agents import FunctionTool
    from chatkit.store import Store

Ctx = RunContextWrapper[AgentContext[Any]]


@dataclass(frozen=True)
class Site:
    """What all processes share."""

    url: str
    prefix: str
    ledger: Path

    def store(self) -> SQLStore[Any]:
        return SQLStore.from_url(self.url, prefix=self.prefix)


def tools_of(sequencer: ClientToolSequencer, ledger: Ledger) -> list[FunctionTool]:
    """Make the tools that wait. They tell the ledger each time that they begin."""

    async def search(query: str) -> list[str]:
        ledger.write(kind="step", query=query)
        return ["Ada", "Grace"]

    async def chooses(ctx: Ctx, people: list[str]) -> str:
        return (await sequencer.ask(ctx, choose(people=people))).name

    async def search_agents(ctx: Ctx, query: str) -> str:
        ledger.write(kind="body", name="search_agents")
        await sequencer.ask(ctx, animation(state="start"))
        choice = await chooses(ctx, await sequencer.step(ctx, search, query))
        await sequencer.ask(ctx, animation(state="stop"))
        return f"The user chose {choice}."

    async def first(ctx: Ctx, query: str) -> str:
        ledger.write(kind="body", name="first")
        return f"first: {await chooses(ctx, [query])}"

    async def second(ctx: Ctx, query: str) -> str:
        ledger.write(kind="body", name="second")
        choice = await chooses(ctx, [query])
        await sequencer.ask(ctx, animation(state="stop"))
        return f"second: {choice}"

    return [sequencer.function_tool(each) for each in (search_agents, first, second)]


def server(store: Store[Any], ledger: Ledger) -> ClientToolServer[Any]:
    """A server whose model calls the tools that a message names, and then says what they have returned."""
    sequencer = ClientToolSequencer(TOOLS)
    converter = ClientToolConverter(sequencer)
    tools = tools_of(sequencer, ledger)

    def reply(call: Any) -> list[Any]:
        ledger.write(kind="model", reads=[*outputs_in(call.input).values()])
        match call.input[-1]:
            case {"role": "user", "content": [{"text": text}]}:
                return [
                    function_call(name, {"query": "poets"}, call_id=uuid4().hex, item_id=uuid4().hex)
                    for name in text.split()
                ]
        return [assistant_message(" ".join(outputs_in(call.input).values()), item_id=uuid4().hex)]

    class Choosing(ClientToolServer[Any]):
        client_tools = sequencer

        async def respond(self, thread: Any, input_user_message: Any, context: Any) -> AsyncIterator[Any]:
            history = await converter.load_history(self.store, thread, context)
            agent = Agent[Any](name="Merak", model=ScriptedModel([{"responder": reply}]), tools=[*tools])
            agent_context = self.agent_context(thread, context)
            read = await converter.to_agent_input(history)
            async for event in stream_agent_response(
                agent_context, Runner.run_streamed(agent, read, context=agent_context)
            ):
                yield event

    return Choosing(store)


class Backend:
    """What a conversation takes for a server."""

    def __init__(self, site: Site) -> None:
        self.store = site.store()

    async def process(self, request: str, context: Any) -> StreamingResult:
        async def chunks() -> AsyncGenerator[bytes, None]:
            for chunk in await self.served(request):
                yield chunk

        return StreamingResult(chunks())

    async def served(self, request: str) -> list[bytes]:
        """Serve a request to its end."""
        raise NotImplementedError

    async def close(self) -> None:
        await self.store.close()


class OneProcess(Backend):
    """All requests are served here, by one server."""

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self._watched = WatchedStore(self.store)
        self._ledger = Ledger(site.ledger)
        self._server = server(self._watched, self._ledger)

    async def served(self, request: str) -> list[bytes]:
        before = self._watched.counts.total()
        result = await self._server.process(request, None)
        assert isinstance(result, StreamingResult)
        chunks = [chunk async for chunk in result]
        self._ledger.write(kind="request", pid=os.getpid(), operations=self._watched.counts.total() - before)
        return chunks


class AProcessForEach(Backend):
    """Each request is served by a process of its own."""

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self._site = site

    async def served(self, request: str) -> list[bytes]:
        return await asyncio.to_thread(self._served, request)

    def _served(self, request: str) -> list[bytes]:
        ours, theirs = processes.Pipe()
        process = processes.Process(target=serve_one, args=(self._site, request, theirs), daemon=True)
        process.start()
        theirs.close()
        with ours:
            chunks: list[bytes] = ours.recv()
        process.join()
        process.close()
        return chunks


def serve_one(site: Site, request: str, to: Connection) -> None:
    """Serve one request, and end."""
    asyncio.run(_serve_one(site, request, to))


async def _serve_one(site: Site, request: str, to: Connection) -> None:
    here = OneProcess(site)
    to.send(await here.served(request))
    await here.close()


def told(site: Site) -> list[dict[str, Any]]:
    """What the processes have told."""
    return [json.loads(line) for line in site.ledger.read_text().splitlines()]
