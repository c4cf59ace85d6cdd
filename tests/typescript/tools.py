"""The client tools of a canvas, as an application declares them; canvas.d.ts is what `types` writes of them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from chatkit_clienttools import ClientTool, ClientToolSequencer


class Animation(BaseModel):
    """The search's spinner."""

    state: Literal["start", "stop"]
    speed: float = 1.0


class Node(BaseModel):
    """A node of the canvas, with what it holds."""

    label: str
    colour: str | None = None
    inside: list[Node] = []


class Canvas(BaseModel):
    nodes: list[Node] = Field(description="From the back to the front.")
    theme: Literal["dark", "light"] = "light"


class Selection(BaseModel):
    nodes: list[Node]
    at: tuple[float, float] | None = None


sequencer = ClientToolSequencer(
    [
        ClientTool("run_search_animation", Animation, result=None, required=True),
        ClientTool("draw_canvas", Canvas, result=None),
        ClientTool("get_selection", result=Selection),
        ClientTool("list_layers", result=list[str]),
        ClientTool("ask", result=Any),
    ]
)
