"""A server tool that needs something only the page has: what the user has drawn."""

from dataclasses import dataclass

from agents import RunContextWrapper
from chatkit.agents import AgentContext

from .client_tools import drawing, sequencer


@dataclass(frozen=True)
class RequestContext:
    """Who asks."""

    user_id: str


DrawingContext = AgentContext[RequestContext]


@sequencer.function_tool
async def get_drawing(ctx: RunContextWrapper[DrawingContext]) -> str:
    """Look at the drawing as it is now."""
    sequencer.enqueue(ctx, drawing())
    return "The page sends the drawing."
