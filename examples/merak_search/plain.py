"""Merak as it was, on plain ChatKit. It shows what happens to three calls in one run."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from agents import Agent, RunContextWrapper, Runner, function_tool
from chatkit.agents import AgentContext, ClientToolCall, simple_to_agent_input, stream_agent_response
from chatkit.server import ChatKitServer, StreamingResult
from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse

from chatkit_clienttools.stores.sql import SQLStore

from .people import RequestContext, find

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agents import Model
    from chatkit.store import Store
    from chatkit.types import ThreadMetadata, ThreadStreamEvent, UserMessageItem


@function_tool
async def search_agents(ctx: RunContextWrapper[AgentContext[RequestContext]], query: str) -> str:
    """Find people who can answer a question, and let the user choose one of them."""
    found = [person.model_dump() for person in await find(query)]
    ctx.context.client_tool_call = ClientToolCall(name="run_search_animation", arguments={"state": "start"})
    ctx.context.client_tool_call = ClientToolCall(name="choose_agent", arguments={"agents": found})
    ctx.context.client_tool_call = ClientToolCall(name="run_search_animation", arguments={"state": "stop"})
    return f"Found: {', '.join(person['name'] for person in found) or 'nobody'}."


class PlainMerakServer(ChatKitServer[RequestContext]):
    def __init__(self, store: Store[RequestContext], model: Model | str | None = None) -> None:
        super().__init__(store)
        self.agent = Agent[AgentContext[RequestContext]](name="Merak", model=model, tools=[search_agents])

    async def respond(
        self, thread: ThreadMetadata, input_user_message: UserMessageItem | None, context: RequestContext
    ) -> AsyncIterator[ThreadStreamEvent]:
        agent_context = AgentContext(thread=thread, store=self.store, request_context=context)
        newest = await self.store.load_thread_items(thread.id, None, 30, "desc", context)
        history = await simple_to_agent_input(newest.data[::-1])
        result = Runner.run_streamed(self.agent, history, context=agent_context)
        async for event in stream_agent_response(agent_context, result):
            yield event


def create_plain_app(database: str, model: Model | None = None) -> FastAPI:
    """Make the application as it was: the same endpoint, on ChatKit's own server."""
    store = SQLStore[RequestContext].from_url(database, prefix="plain_")
    server = PlainMerakServer(store, model)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await store.create_schema()
        yield
        await store.close()

    app = FastAPI(title="Merak as it was", lifespan=lifespan)

    @app.post("/chatkit")
    async def chatkit(request: Request) -> Response:
        result = await server.process(await request.body(), RequestContext(user_id="you"))
        if isinstance(result, StreamingResult):
            return StreamingResponse(result, media_type="text/event-stream")
        return Response(result.json, media_type="application/json")

    return app
