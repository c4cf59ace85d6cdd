"""What a page shows of a thread: the items, as the events of a stream change them."""

from __future__ import annotations

from typing import Any

from ._wire import WireError

Json = dict[str, Any]


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
