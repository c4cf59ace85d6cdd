"""The canvas assistant's ChatKit server: its model stops at the tool, and goes on with the page's answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agents import Agent, Runner, StopAtTools
from chatkit.agents import stream_agent_response

from chatkit_clienttools import ClientToolServer

from .client_tools import converter, sequencer
from .tools import CanvasContext, RequestContext, get_selected_canvas_nodes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agents import Model
    from chatkit.store import Store
    from chatkit.types import ThreadMetadata, ThreadStreamEvent, UserMessageItem

INSTRUCTIONS = """You talk about the shapes that the user has selected on a canvas. You cannot see it:
call get_selected_canvas_nodes for every question about it, since the selection changes. Then answer in a sentence."""


class CanvasServer(ClientToolServer[RequestContext]):
    client_tools = sequencer

    def __init__(self, store: Store[RequestContext], model: Model | str | None = None) -> None:
        super().__init__(store)
        self.agent = Agent[CanvasContext](
            name="Canvas",
            instructions=INSTRUCTIONS,
            model=model,
            tools=[get_selected_canvas_nodes],
            # the model can say nothing before the user has selected: the next run begins with the answer
            tool_use_behavior=StopAtTools(stop_at_tool_names=[get_selected_canvas_nodes.name]),
        )

    async def respond(
        self, thread: ThreadMetadata, input_user_message: UserMessageItem | None, context: RequestContext
    ) -> AsyncIterator[ThreadStreamEvent]:
        agent_context = CanvasContext(thread=thread, store=self.store, request_context=context)
        newest = await converter.load_history(self.store, thread, context)
        history = await converter.to_agent_input(newest)
        result = Runner.run_streamed(self.agent, history, context=agent_context)
        try:
            async for event in stream_agent_response(agent_context, result):
                yield event
        finally:
            result.cancel()  # after Stop the user is not asked
