"""A server tool that needs something only the page knows: what the user has selected on the canvas."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from agents import RunContextWrapper, function_tool
from chatkit.agents import AgentContext
from pydantic import BaseModel, Field

from chatkit_clienttools import ClientTool, ClientToolConverter, ClientToolSequencer
from examples.timeline import Timeline


@dataclass(frozen=True)
class RequestContext:
    """Who asks."""

    user_id: str


class Question(BaseModel):
    """What the page asks the user for."""

    ask: str = Field(max_length=200)


class Node(BaseModel):
    """A shape on the canvas."""

    id: str
    kind: Literal["circle", "square", "triangle"]
    colour: str
    size: int = Field(gt=0, description="Its width in pixels.")


class CanvasSelection(BaseModel):
    """What the page answers."""

    nodes: list[Node]


# the answer is checked to be a CanvasSelection, and goes to the model; one that is none goes there as an error
selection = ClientTool("get_selected_canvas_nodes", Question, result=CanvasSelection)

timeline = Timeline()
sequencer = ClientToolSequencer([selection], receipts=True, observers=[timeline])
converter = ClientToolConverter(sequencer)

CanvasContext = AgentContext[RequestContext]


@function_tool
async def get_selected_canvas_nodes(ctx: RunContextWrapper[CanvasContext], ask: str) -> str:
    """Let the user select shapes on the canvas, and get the selection.

    Args:
        ask: What the user is to select, in one short sentence.
    """
    sequencer.enqueue(ctx, selection(ask=ask))
    return "The user is selecting."
