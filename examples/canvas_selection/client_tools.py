"""What the page can do. The tools and the server both import this module, so it imports neither of them."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from chatkit_clienttools import ClientTool, ClientToolConverter, ClientToolSequencer


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


# The answer goes to the model. If it does not fit CanvasSelection, the model gets an error instead.
selection = ClientTool("get_selected_canvas_nodes", Question, result=CanvasSelection)

sequencer = ClientToolSequencer([selection], receipts=True)
converter = ClientToolConverter(sequencer)
