"""The drawing assistant's ChatKit server: its model stops at the tool, and goes on with the picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agents import Agent, Runner, StopAtTools
from chatkit.agents import stream_agent_response

from chatkit_clienttools import ClientToolServer

from .client_tools import converter, sequencer
from .tools import DrawingContext, RequestContext, get_drawing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agents import Model
    from chatkit.store import Store
    from chatkit.types import ThreadMetadata, ThreadStreamEvent, UserMessageItem

INSTRUCTIONS = """You talk about what the user draws. You see it only if you call get_drawing: call it for every
question about the drawing, since it changes. Then say in a sentence or two what you see."""


class DrawingServer(ClientToolServer[RequestContext]):
    client_tools = sequencer

    def __init__(self, store: Store[RequestContext], model: Model | str | None = None) -> None:
        super().__init__(store)
        self.agent = Agent[DrawingContext](
            name="Drawing",
            instructions=INSTRUCTIONS,
            model=model,
            tools=[get_drawing],
            # the model can say nothing before it has seen the picture: the next run begins with that
            tool_use_behavior=StopAtTools(stop_at_tool_names=[get_drawing.name]),
        )

    async def respond(
        self, thread: ThreadMetadata, input_user_message: UserMessageItem | None, context: RequestContext
    ) -> AsyncIterator[ThreadStreamEvent]:
        agent_context = DrawingContext(thread=thread, store=self.store, request_context=context)
        newest = await converter.load_history(self.store, thread, context)
        history = await converter.to_agent_input(newest)
        result = Runner.run_streamed(self.agent, history, context=agent_context)
        try:
            async for event in stream_agent_response(agent_context, result):
                yield event
        finally:
            result.cancel()  # after Stop nothing is sent
