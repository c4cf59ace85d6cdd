"""The assistant's ChatKit server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agents import Agent, Runner
from chatkit.agents import AgentContext, stream_agent_response

from chatkit_clienttools import ClientToolServer, SequencedAgentContext

from .client_tools import converter, sequencer
from .tools import RequestContext, record_fact, switch_theme

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agents import Model
    from chatkit.store import Store
    from chatkit.types import ThreadMetadata, ThreadStreamEvent, UserMessageItem


class FactServer(ClientToolServer[RequestContext]):
    client_tools = sequencer

    def __init__(self, store: Store[RequestContext], model: Model | str | None = None) -> None:
        super().__init__(store)
        self.agent = Agent[AgentContext[RequestContext]](
            name="Facts",
            instructions="Note what the user tells about themselves. Switch the theme when asked.",
            model=model,
            tools=[record_fact, switch_theme],
        )

    async def respond(
        self, thread: ThreadMetadata, input_user_message: UserMessageItem | None, context: RequestContext
    ) -> AsyncIterator[ThreadStreamEvent]:
        agent_context = SequencedAgentContext(thread=thread, store=self.store, request_context=context)
        newest = await converter.load_history(self.store, thread, context)
        history = await converter.to_agent_input(newest)
        result = Runner.run_streamed(self.agent, history, context=agent_context)
        try:
            async for event in stream_agent_response(agent_context, result):
                yield event
        finally:
            result.cancel()  # after Stop nothing goes on
