"""A browser for the examples: what ChatKit.js does, over the same JSON, without a page."""

from __future__ import annotations

import inspect
import json
from typing import TYPE_CHECKING, Any

from chatkit.server import StreamingResult

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from chatkit.server import ChatKitServer

Json = dict[str, Any]


class Browser:
    """One user with one thread. It runs every client tool call that it is given, and posts the answer.

    Args:
        server: The ChatKit server it talks to.
        context: What the web framework would make of the request: who the user is.
        handlers: The `onClientTool` of the page, by tool: takes the params, returns the answer (or awaits it).
        watch: Told of each step: `says`, `gets`, `answers`, `reads`, `widget`, `effect` or `progress`, and of what.
    """

    def __init__(
        self,
        server: ChatKitServer[Any],
        context: Any,
        handlers: Mapping[str, Callable[[Json], Any]],
        watch: Callable[[str, Any], object] = lambda step, what: None,
    ) -> None:
        self.server = server
        self.context = context
        self.handlers = handlers
        self.watch = watch
        self.thread_id: str | None = None
        self.calls: list[tuple[str, Json]] = []
        self.texts: list[str] = []
        self.widgets: list[Json] = []
        self.effects: list[Json] = []
        self.progress: list[str] = []

    async def say(self, text: str) -> None:
        """Post a message, then run client tools for as long as the server asks for one."""
        self.watch("says", text)
        content = [{"type": "input_text", "text": text}]
        message = {"content": content, "attachments": [], "inference_options": {}}
        call = await self.post("threads.add_user_message" if self.thread_id else "threads.create", input=message)
        while call:
            answer = self.handlers[call["name"]](call["arguments"])
            if inspect.isawaitable(answer):
                answer = await answer
            self.watch("answers", answer)
            call = await self.post("threads.add_client_tool_output", result=answer)

    async def post(self, kind: str, **params: Any) -> Json | None:
        """Post a request and read the stream to its end; return the client tool call that came with it."""
        if self.thread_id:
            params["thread_id"] = self.thread_id
        call = None
        async for event in self._events(json.dumps({"type": kind, "params": params})):
            if event["type"] == "thread.created":
                self.thread_id = event["thread"]["id"]
            elif event["type"] == "client_effect":
                self._take(self.effects, "effect", {"name": event["name"], "data": event["data"]})
            elif event["type"] == "progress_update":
                self._take(self.progress, "progress", event["text"])
            elif event["type"] == "error":
                raise RuntimeError(f"the chat shows an error: {event}")
            elif event["type"] == "thread.item.done":
                call = self._done(event["item"]) or call
        return call

    def _done(self, item: Json) -> Json | None:
        if item["type"] == "client_tool_call" and item["status"] == "pending":
            self._take(self.calls, "gets", (item["name"], item["arguments"]))
            return item
        if item["type"] == "assistant_message":
            self._take(self.texts, "reads", item["content"][0]["text"])
        elif item["type"] == "widget":
            self._take(self.widgets, "widget", item)
        return None

    def _take(self, what: list[Any], step: str, value: Any) -> None:
        what.append(value)
        self.watch(step, value)

    async def _events(self, request: str) -> AsyncIterator[Json]:
        result = await self.server.process(request, self.context)
        if not isinstance(result, StreamingResult):
            raise TypeError(f"a stream was expected, not {result!r}")
        async for chunk in result:
            yield json.loads(chunk.removeprefix(b"data: "))
