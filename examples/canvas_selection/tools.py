"""A server tool that needs something only the page knows: what the user has selected on the canvas."""

from dataclasses import dataclass

from agents import RunContextWrapper
from chatkit.agents import AgentContext

from .client_tools import selection, sequencer


@dataclass(frozen=True)
class RequestContext:
    """Who asks."""

    user_id: str


CanvasContext = AgentContext[RequestContext]


@sequencer.function_tool
async def get_selected_canvas_nodes(ctx: RunContextWrapper[CanvasContext], ask: str) -> str:
    """Let the user select shapes on the canvas, and get the selection.

    Args:
        ask: What the user is to select, in one short sentence.
    """
    sequencer.enqueue(ctx, selection(ask=ask))
    return "The user is selecting."
