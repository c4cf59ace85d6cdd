"""What a tool that waited has returned, as an item of its thread: hidden from the browser, and shown to the model.

It is a function call and its output, so that the model goes on as if the tool had never waited.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import uuid4

from chatkit.types import SDKHiddenContextItem

if TYPE_CHECKING:
    from datetime import datetime

PREFIX = "output_"
"""What the ids of these items begin with."""


class Output(NamedTuple):
    """A function call of the model, and what came of it."""

    call_id: str
    name: str
    arguments: str
    output: Any
    before: str | None = None
    """The user message that the model has to read after it."""


def new_tool_id() -> str:
    """Make an id for a tool that waits, and for the item of its output: 128 random bits."""
    return f"{PREFIX}{uuid4().hex}"


def item_of(item_id: str, output: Output, thread_id: str, created_at: datetime) -> SDKHiddenContextItem:
    """Return the item for a tool that has returned."""
    content = json.dumps(output._asdict())
    return SDKHiddenContextItem(id=item_id, thread_id=thread_id, created_at=created_at, content=content)


def output_in(item: object) -> Output | None:
    """Return the output in an item; None if it is another kind of item."""
    if not isinstance(item, SDKHiddenContextItem) or not item.id.startswith(PREFIX):
        return None
    try:
        return Output(**json.loads(item.content))
    except (ValueError, TypeError):  # ChatKit's own hidden items are plain text
        return None
