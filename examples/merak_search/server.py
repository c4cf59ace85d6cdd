"""Merak's ChatKit server. New with chatkit-clienttools: the base class, `client_tools`, and the converter."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agents import Agent
from chatkit.agents import AgentContext, stream_agent_response

from chatkit_clienttools import ClientToolServer

from .client_tools import converter, sequencer
from .people import RequestContext
from .tools import search_agents

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agents import Model
    from chatkit.store import Store
    from chatkit.types import ThreadMetadata, ThreadStreamEvent, UserMessageItem

INSTRUCTIONS = "You find people. Call search_agents with what the user needs help with, then say whom the user chose."


class MerakServer(ClientToolServer[RequestContext]):
    client_tools = sequencer

    def __init__(self, store: Store[RequestContext], model: Model | str | None = None) -> None:
        super().__init__(store)
        self.agent = Agent[AgentContext[RequestContext]](
            name="Merak", instructions=INSTRUCTIONS, model=model, tools=[search_agents]
        )

    async def respond(
        self, thread: ThreadMetadata, input_user_message: UserMessageItem | None, context: RequestContext
    ) -> AsyncIterator[ThreadStreamEvent]:
        agent_context = AgentContext(thread=thread, store=self.store, request_context=context)
        newest = await converter.load_history(self.store, thread, context)
        history = await converter.to_agent_input(newest)
        result = sequencer.run_streamed(self.agent, history, context=agent_context)
        try:
            async for event in stream_agent_response(agent_context, result):
                yield event
        finally:
            result.cancel()  # after Stop nobody waits for the search
