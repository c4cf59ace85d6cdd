"""The events of a stream: held against ChatKit's own types, and told in a line."""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING

from chatkit.types import ThreadStreamEvent
from pydantic import TypeAdapter, ValidationError

from ._wire import WireError

if TYPE_CHECKING:
    from ._page import Json

RETRY = "threads.retry_after_item"
"""The one request that ChatKit may answer without an event: when the message is gone."""


def validated(data: str) -> Json:
    """Return an event as JSON, if ChatKit knows such an event."""
    try:
        _events().validate_json(data)
    except ValidationError as error:
        raise WireError(f"no event of ChatKit: {data[:500]}\n{error}") from error
    event: Json = json.loads(data)
    return event


def refuse_incomplete(kind: str, events: list[Json]) -> None:
    """Raise if a response lacks what ChatKit always sends in answer to a request of this kind."""
    types = {event["type"] for event in events}
    if not events and kind != RETRY:
        raise WireError(f"no event came in answer to {kind}, and ChatKit sends its stream_options at least")
    if kind == "threads.create" and "thread.created" not in types and types != {"error"}:
        raise WireError("a thread was to be created, and no thread.created came")


def summary(event: Json) -> str:
    """Say what an event is, and of which item."""
    item = event.get("item", {})
    about = [event["type"], item.get("type"), item.get("status"), item.get("id") or event.get("item_id")]
    return " ".join(each for each in about if each)


@functools.cache
def _events() -> TypeAdapter[ThreadStreamEvent]:
    """All that may come in a stream; building it takes as long as a whole conversation."""
    return TypeAdapter(ThreadStreamEvent)
