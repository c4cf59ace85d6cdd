"""What the suite uses of `agents.testing`, for Agents SDKs before 0.21, which do not have it yet.

    python -m tools.scripted_model

copies this file into the installed SDK, so that processes started by a test find it too. It leaves a newer SDK alone.
`make test-floors` calls it in an environment of its own.
"""

from __future__ import annotations

import importlib.util
import inspect
import json
import shutil
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import agents
from agents.items import ModelResponse
from agents.models.interface import Model
from agents.usage import Usage
from openai.types.responses import (
    Response,
    ResponseCompletedEvent,
    ResponseContentPartAddedEvent,
    ResponseContentPartDoneEvent,
    ResponseFunctionToolCall,
    ResponseOutputItemAddedEvent,
    ResponseOutputItemDoneEvent,
    ResponseOutputMessage,
    ResponseOutputText,
    ResponseTextDeltaEvent,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator


@dataclass
class ModelCall:
    """What the SDK asked the model."""

    input: Any
    tools: list[Any]


@dataclass
class ModelStep:
    """What the model says: output items, or an error, or a function of the call that returns either."""

    output: Iterable[Any] = ()
    error: Exception | None = None
    responder: Callable[[ModelCall], Any] | None = None

    @classmethod
    def respond(cls, responder: Callable[[ModelCall], Any]) -> ModelStep:
        """Let `responder` decide when the call is there."""
        return cls(responder=responder)

    @classmethod
    def raise_error(cls, error: Exception) -> ModelStep:
        """Fail."""
        return cls(error=error)


class ScriptedModel(Model):
    """A model that takes one step after another, and remembers its calls."""

    def __init__(self, steps: Iterable[Any] = ()) -> None:
        self.calls: list[ModelCall] = []
        self._steps = list(steps)

    @property
    def last_call(self) -> ModelCall | None:
        """The newest call, if there was one."""
        return self.calls[-1] if self.calls else None

    def enqueue(self, step: Any) -> None:
        """Add a step."""
        self._steps.append(step)

    def assert_complete(self) -> None:
        """Fail when steps are left."""
        assert not self._steps, f"{len(self._steps)} steps are left"  # noqa: S101

    async def get_response(self, *args: Any, **kwargs: Any) -> ModelResponse:
        """Answer at once."""
        return ModelResponse(output=await self._next(args, kwargs), usage=Usage(), response_id="response")

    async def stream_response(self, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        """Answer in events."""
        output = await self._next(args, kwargs)
        for index, item in enumerate(output):
            for event in _events(index, item):
                yield event
        response = Response.model_construct(id="response", output=output, usage=None)
        yield ResponseCompletedEvent.model_construct(type="response.completed", response=response, sequence_number=0)

    async def _next(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
        named = dict(zip(("system_instructions", "input", "model_settings", "tools"), args, strict=False)) | kwargs
        call = ModelCall(input=deepcopy(named["input"]), tools=list(named["tools"]))
        self.calls.append(call)
        step = self._steps.pop(0)
        if isinstance(step, ModelStep) and step.responder is not None:
            step = step.responder(call)
            step = await step if inspect.isawaitable(step) else step
        error = step.error if isinstance(step, ModelStep) else step
        if isinstance(error, Exception):
            raise error
        return deepcopy(list(step.output if isinstance(step, ModelStep) else step))


def _events(index: int, item: Any) -> Iterator[Any]:
    place: dict[str, Any] = {"output_index": index, "sequence_number": 0}
    if not isinstance(item, ResponseOutputMessage):
        yield ResponseOutputItemAddedEvent(type="response.output_item.added", item=item, **place)
        yield ResponseOutputItemDoneEvent(type="response.output_item.done", item=item, **place)
        return
    begun = item.model_copy(update={"status": "in_progress", "content": []})
    yield ResponseOutputItemAddedEvent(type="response.output_item.added", item=begun, **place)
    for part, content in enumerate(item.content):
        place.update(item_id=item.id, content_index=part)
        empty = ResponseOutputText(type="output_text", text="", annotations=[])
        yield ResponseContentPartAddedEvent(type="response.content_part.added", part=empty, **place)
        text = getattr(content, "text", "")
        yield ResponseTextDeltaEvent(type="response.output_text.delta", delta=text, logprobs=[], **place)
        yield ResponseContentPartDoneEvent(type="response.content_part.done", part=content, **place)
    yield ResponseOutputItemDoneEvent(
        type="response.output_item.done", item=item, output_index=index, sequence_number=0
    )


def assistant_message(text: str, *, item_id: str = "scripted-message") -> ResponseOutputMessage:
    """Return an item in which the model speaks."""
    content = ResponseOutputText(type="output_text", text=text, annotations=[], logprobs=[])
    return ResponseOutputMessage(id=item_id, type="message", role="assistant", status="completed", content=[content])


def function_call(name: str, arguments: Any, *, call_id: str, item_id: str | None = None) -> ResponseFunctionToolCall:
    """Return an item in which the model calls a function tool."""
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return ResponseFunctionToolCall(
        id=item_id or call_id, call_id=call_id, type="function_call", name=name, arguments=text
    )


if __name__ == "__main__" and importlib.util.find_spec("agents.testing") is None:
    shutil.copy(__file__, Path(agents.__file__).parent / "testing.py")
