"""The events of a stream, checked against ChatKit's own types, and what a page shows of a thread because of them."""

from __future__ import annotations

import functools
import json
from typing import Any

from chatkit.types import ThreadStreamEvent
from pydantic import TypeAdapter, ValidationError

from ._wire import WireError

Json = dict[str, Any]

RETRY = "threads.retry_after_item"
"""The one request that ChatKit may answer without an event: when the message is gone."""


class Page:
    """The items of a thread, oldest first, as JSON."""

    def __init__(self) -> None:
        self._items: dict[str, Json] = {}

    @property
    def items(self) -> list[Json]:
        """What is shown, oldest first."""
        return list(self._items.values())

    def of_type(self, kind: str) -> list[Json]:
        """The items of one type, oldest first."""
        return [item for item in self._items.values() if item["type"] == kind]

    def show(self, items: list[Json]) -> None:
        """Show these items and no others."""
        self._items = {item["id"]: item for item in items}

    def apply(self, event: Json) -> None:
        """Change what is shown as an event says; most events do not."""
        kind = event["type"]
        if kind in {"thread.item.added", "thread.item.done", "thread.item.replaced"}:
            self._items[event["item"]["id"]] = event["item"]
        elif kind == "thread.item.removed":
            self._items.pop(event["item_id"], None)
        elif kind == "thread.item.updated" and event["item_id"] in self._items:
            self._update(self._items[event["item_id"]], event["update"])

    def _update(self, item: Json, update: Json) -> None:
        try:
            _update(item, update)
        except LookupError as error:
            raise WireError(f"{item['type']} {item['id']} has nothing that this could change: {update}") from error

    def answered(self, item_id: str, output: Any) -> None:
        """Show a client tool call as answered: the page knows it, no event says it. The first answer stays."""
        item = self._items.get(item_id, {})
        if item.get("status") == "pending":
            item |= {"status": "completed", "output": output}

    def cut_after(self, item_id: str) -> None:
        """Take away what comes after an item: it is retried."""
        ids = list(self._items)
        for gone in ids[ids.index(item_id) + 1 :]:
            del self._items[gone]


def _update(item: Json, update: Json) -> None:
    kind = update["type"]
    if kind in {"assistant_message.content_part.added", "assistant_message.content_part.done"}:
        item["content"][update["content_index"] :] = [update["content"]]
    elif kind == "assistant_message.content_part.text_delta":
        item["content"][update["content_index"]]["text"] += update["delta"]
    elif kind == "widget.root.updated":
        item["widget"] = update["widget"]
    elif kind in {"workflow.task.added", "workflow.task.updated"}:
        item["workflow"]["tasks"][update["task_index"] : update["task_index"] + 1] = [update["task"]]


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
