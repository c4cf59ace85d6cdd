"""A model that needs no key and no network: it follows a rule, and speaks word by word as a real one does."""

from __future__ import annotations

import asyncio
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Union
from uuid import uuid4

from agents import Model, set_tracing_disabled
from agents.testing import ModelCall, ModelStep, ScriptedModel, assistant_message, function_call

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from agents.items import ModelResponse, TResponseOutputItem, TResponseStreamEvent

PAUSE = float(os.environ.get("DEMO_PAUSE", "0.04"))
"""Seconds between two words."""


@dataclass(frozen=True)
class Use:
    """The model's wish to use a tool."""

    tool: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Heard:
    """What the model was told last."""

    text: str
    """The user's words."""
    outputs: tuple[tuple[str, str], ...] = ()
    """What has come since then of server tools and client tools: the tool, and what it said."""
    spoken: str = ""
    """What the model itself has said since then."""
    images: tuple[str, ...] = ()
    """The URLs of the images among the outputs."""

    def said(self, tool: str) -> str | None:
        """What a tool said, if it was used."""
        return dict(self.outputs).get(tool)


Reply = Union[str, list[Use]]  # noqa: UP007  # needed at run time on 3.10
"""What the model does: it speaks, or it uses tools."""


def has_key() -> bool:
    """Whether there is a key for the real model."""
    return bool(os.environ.get("OPENAI_API_KEY"))


def model_or_offline(rule: Callable[[Heard], Reply]) -> Model | None:
    """Return the offline model that follows `rule`; with OPENAI_API_KEY None, the Agents SDK's own."""
    if has_key():
        return None
    set_tracing_disabled(disabled=True)
    return OfflineModel(rule)


class OfflineModel(Model):
    """Follows a rule."""

    def __init__(self, rule: Callable[[Heard], Reply]) -> None:
        self._rule = rule

    async def get_response(self, *args: Any, **options: Any) -> ModelResponse:
        return await self._scripted().get_response(*args, **options)

    async def stream_response(self, *args: Any, **options: Any) -> AsyncIterator[TResponseStreamEvent]:
        async for event in self._scripted().stream_response(*args, **options):
            if event.type != "response.output_text.delta":
                yield event
                continue
            for word in re.findall(r"\s*\S+", event.delta):
                await asyncio.sleep(PAUSE)
                yield event.model_copy(update={"delta": word})

    def _scripted(self) -> ScriptedModel:
        return ScriptedModel([ModelStep.respond(self._reply)])

    def _reply(self, call: ModelCall) -> list[TResponseOutputItem]:
        reply = self._rule(heard(call.input))
        if isinstance(reply, str):
            return [assistant_message(reply, item_id=_new("msg"))]
        return [function_call(use.tool, use.arguments, call_id=_new("call"), item_id=_new("fc")) for use in reply]


def heard(said: str | list[Any]) -> Heard:
    """Return what is the last in a conversation."""
    text, spoken = "", ""
    names: dict[str, str] = {}
    outputs: list[tuple[str, str]] = []
    images: list[str] = []
    for item in [{"role": "user", "content": said}] if isinstance(said, str) else said:
        if item.get("role") == "user":
            text, spoken, outputs, images = _text(item["content"]), "", [], []
        elif item.get("role") == "assistant":
            spoken = _text(item["content"])
        elif item.get("type") == "function_call":
            names[item["call_id"]] = item["name"]
        elif item.get("type") == "function_call_output":
            outputs.append((names.get(item["call_id"], ""), _text(item["output"])))
            images += _images(item["output"])
    return Heard(text, tuple(outputs), spoken, tuple(images))


def _text(content: str | list[Any]) -> str:
    return content if isinstance(content, str) else " ".join(part.get("text", "") for part in content)


def _images(content: str | list[Any]) -> list[str]:
    return [part["image_url"] for part in content if isinstance(part, dict) and part["type"] == "input_image"]


def _new(kind: str) -> str:
    return f"{kind}_{uuid4().hex[:12]}"
