"""A conversation over wire JSON with a real `ChatKitServer`, as ChatKit.js would hold it."""

from __future__ import annotations

import inspect
import json
from datetime import datetime
from typing import TYPE_CHECKING, Any

from chatkit.server import ChatKitServer, NonStreamingResult, StreamingResult

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

Wire = dict[str, Any]

CHATKIT_DROPS_PENDING_ON_MESSAGE = "cleanup" in inspect.getsource(ChatKitServer._process_new_thread_item_respond)
"""Older ChatKits delete a pending call, silently, before `respond` hears of a new message."""


class Conversation:
    """One thread, one browser."""

    def __init__(self, server: ChatKitServer[Any], context: Any = None, thread_id: str | None = None) -> None:
        self.server = server
        self.context = context
        self.thread_id = thread_id

    async def say(self, text: str) -> Reply:
        return await self._streamed(self.say_request(text))

    async def answer(self, result: Any = None) -> Reply:
        return await self._streamed(self.answer_request(result))

    async def retry(self, item_id: str) -> Reply:
        return await self._streamed(self._request("threads.retry_after_item", item_id=item_id))

    async def act(self, kind: str, **payload: Any) -> Reply:
        action = {"type": kind, "payload": payload}
        return await self._streamed(self._request("threads.custom_action", action=action))

    async def fill_in(self, item_id: str) -> Reply:
        submission = {"status": "answered", "answers": {}}
        return await self._streamed(self._request("threads.add_structured_input", item_id=item_id, input=submission))

    async def rename(self, title: str) -> None:
        await self.server.process(self._request("threads.update", title=title), self.context)

    async def thread(self) -> Wire:
        """The thread as a page that loads it gets it."""
        return await self._read(self._request("threads.get_by_id"))

    async def threads(self) -> Wire:
        """The list of threads as a page gets it."""
        return await self._read(json.dumps({"type": "threads.list", "params": {}}))

    async def _read(self, request: str) -> Wire:
        result = await self.server.process(request, self.context)
        assert isinstance(result, NonStreamingResult)
        answer: Wire = json.loads(result.json)
        return answer

    async def stream(self, request: str) -> AsyncIterator[Wire]:
        """Post a request and take its events one by one."""
        result = await self.server.process(request, self.context)
        assert isinstance(result, StreamingResult)
        async for chunk in result:
            event = json.loads(chunk.removeprefix(b"data: "))
            if event["type"] == "thread.created":
                self.thread_id = event["thread"]["id"]
            yield event

    def say_request(self, text: str) -> str:
        message = {"content": [{"type": "input_text", "text": text}], "attachments": [], "inference_options": {}}
        kind = "threads.add_user_message" if self.thread_id else "threads.create"
        return self._request(kind, input=message)

    def answer_request(self, result: Any = None) -> str:
        return self._request("threads.add_client_tool_output", result=result)

    def _request(self, kind: str, **params: Any) -> str:
        if self.thread_id:
            params["thread_id"] = self.thread_id
        return json.dumps({"type": kind, "params": params})

    async def _streamed(self, request: str) -> Reply:
        return Reply([event async for event in self.stream(request)])

    async def items(self) -> list[Any]:
        """What the store holds, oldest first."""
        assert self.thread_id
        page = await self.server.store.load_thread_items(self.thread_id, None, 100_000, "asc", self.context)
        return page.data

    async def calls(self) -> list[tuple[str, str]]:
        """The client calls the store holds: name and status, oldest first."""
        return [(i.name, i.status) for i in await self.items() if i.type == "client_tool_call"]

    async def touch(self, item: Any) -> None:
        assert self.thread_id
        await self.server.store.add_thread_item(self.thread_id, item, self.context)


class Reply:
    """The events of one response."""

    def __init__(self, events: list[Wire]) -> None:
        self.events = events

    @property
    def types(self) -> list[str]:
        return [event["type"] for event in self.events]

    @property
    def done(self) -> list[Wire]:
        return [event["item"] for event in self.events if event["type"] == "thread.item.done"]

    @property
    def calls(self) -> list[tuple[str, Wire]]:
        """The client calls that reached the browser: name and arguments."""
        return [(item["name"], item["arguments"]) for item in self.done if item["type"] == "client_tool_call"]

    @property
    def call_items(self) -> list[Wire]:
        return [item for item in self.done if item["type"] == "client_tool_call"]

    @property
    def texts(self) -> list[str]:
        return [item["content"][0]["text"] for item in self.done if item["type"] == "assistant_message"]

    @property
    def errors(self) -> list[Wire]:
        return [event for event in self.events if event["type"] == "error"]

    @property
    def removed(self) -> list[str]:
        return [event["item_id"] for event in self.events if event["type"] == "thread.item.removed"]


def at(second: int) -> datetime:
    return datetime(2026, 1, 1, 12, 0, second)  # noqa: DTZ001  naive, as ChatKit writes it
