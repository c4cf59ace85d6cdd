"""What goes on after the user has pressed Stop, or has closed the page: nothing."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from examples import offline
from examples.demo import NAMES, demos

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.mark.parametrize("name", NAMES)
async def test_the_run_ends_with_its_request(name: str, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that is at work when the browser closes the connection is cancelled: it would cost money for nothing."""
    begun, ended, forever = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def speaks(*_: Any, **_options: Any) -> AsyncIterator[Any]:
        begun.set()
        try:
            await forever.wait()
        finally:
            ended.set()
        yield

    monkeypatch.setattr(offline.OfflineModel, "stream_response", speaks)
    text = {"type": "input_text", "text": demos()[name].says[0]}
    message = {"content": [text], "attachments": [], "inference_options": {}}
    body = {"type": "threads.create", "params": {"input": message}}

    async with httpx2.AsyncClient() as client, client.stream("POST", f"{url}/{name}/chatkit", json=body):
        await begun.wait()

    await asyncio.wait_for(ended.wait(), 10)
