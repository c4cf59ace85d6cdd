"""The todo assistant's ChatKit server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agents import Agent, Runner
from chatkit.agents import stream_agent_response

from chatkit_clienttools import ClientToolServer

from .client_tools import converter, sequencer
from .tools import RequestContext, ShowChanges, TodoContext

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agents import Model
    from chatkit.store import Store
    from chatkit.types import ThreadMetadata, ThreadStreamEvent, UserMessageItem

    from .tools import TaskTools

INSTRUCTIONS = """You keep the user's todo list. Tasks have numbers: call list_tasks to learn them.
Say in one short sentence what you have done. The page shows the list beside the chat."""


class TodoServer(ClientToolServer[RequestContext]):
    client_tools = sequencer

    def __init__(self, store: Store[RequestContext], tools: TaskTools, model: Model | str | None = None) -> None:
        super().__init__(store)
        self.agent = Agent[TodoContext](name="Todo", instructions=INSTRUCTIONS, model=model)
        self.tools = tools

    async def respond(
        self, thread: ThreadMetadata, input_user_message: UserMessageItem | None, context: RequestContext
    ) -> AsyncIterator[ThreadStreamEvent]:
        agent_context = TodoContext(thread=thread, store=self.store, request_context=context)
        newest = await converter.load_history(self.store, thread, context)
        history = await converter.to_agent_input(newest)
        agent = self.agent.clone(mcp_servers=[await self.tools.ready()])
        result = Runner.run_streamed(agent, history, context=agent_context, hooks=ShowChanges())
        try:
            async for event in stream_agent_response(agent_context, result):
                yield event
        finally:
            result.cancel()  # after Stop the rest is not done
