"""Pages that talk to the workers, many at once. They do what a page does, with as little work as possible."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import httpx2

from chatkit_clienttools.testing.browser._wire import Frames
from tests.load.application import CALLS, OWNER

if TYPE_CHECKING:
    from collections.abc import Iterator

SECONDS = 60.0
"""How long a response may pause: what is slow is measured, and not cut off."""

MESSAGE = {"content": [{"type": "input_text", "text": "add milk"}], "attachments": [], "inference_options": {}}


@dataclass
class Tally:
    """What the pages have seen."""

    requests: int = 0
    conversations: int = 0
    answers: list[float] = field(default_factory=list)
    """How many seconds each answer took, to the end of its response."""
    errors: list[str] = field(default_factory=list)

    def percentile(self, percent: float) -> float:
        ordered = sorted(self.answers) or [0.0]
        return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


@dataclass
class Page:
    """A page of a new user. Its requests go to one worker after the other."""

    client: httpx2.AsyncClient
    urls: Iterator[str]
    tally: Tally
    owner: str = field(default_factory=lambda: uuid4().hex)

    async def converse(self) -> None:
        """Write a message, and answer each call that comes."""
        thread_id, calls = "", 0
        events = await self._post("threads.create", input=MESSAGE)
        while call := _pending_among(events):
            thread_id, calls = call["thread_id"], calls + 1
            answer = {"_receipt": call["arguments"]["_receipt"], "result": {}}
            began = time.perf_counter()
            events = await self._post("threads.add_client_tool_output", thread_id=thread_id, result=answer)
            self.tally.answers.append(time.perf_counter() - began)
        if calls == CALLS:
            self.tally.conversations += 1
        else:
            self.tally.errors.append(f"{calls} of {CALLS} calls came")

    async def _post(self, kind: str, **params: Any) -> list[Any]:
        self.tally.requests += 1
        request = json.dumps({"type": kind, "params": params})
        response = await self.client.post(next(self.urls), content=request, headers={OWNER: self.owner})
        response.raise_for_status()
        frames = Frames()
        events = [json.loads(event) for event in frames.fed(response.content)]
        frames.end()
        self.tally.errors += [str(event.get("message")) for event in events if event["type"] == "error"]
        return events


def _pending_among(events: list[Any]) -> Any:
    items = [event["item"] for event in events if event["type"] == "thread.item.done"]
    return next((item for item in items if item["type"] == "client_tool_call"), None)


async def talk(urls: list[str], at_once: int, rounds: int, seconds: float) -> Tally:
    """Let so many pages at once hold conversations, each so many, one after the other; none begins when time is up."""
    tally = Tally()
    turns = itertools.cycle(f"{url}/chatkit" for url in urls)
    ends = time.monotonic() + seconds
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx2.AsyncClient(limits=limits, timeout=SECONDS) as client:

        async def pages() -> None:
            for _ in range(rounds):
                if time.monotonic() < ends:
                    try:
                        await Page(client, turns, tally).converse()
                    except Exception as error:  # noqa: BLE001  whatever it is, it is counted, and the others go on
                        tally.errors.append(f"{type(error).__name__}: {error}")

        await asyncio.gather(*[pages() for _ in range(at_once)])
    return tally
