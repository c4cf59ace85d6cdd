"""For the tests of the pages: an answer of the page that does not arrive yet."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.async_api import Route


class Held:
    """Holds the page's answer to a client tool back, once: the call stays pending until then."""

    def __init__(self, number: int) -> None:
        self._left = number
        self.arrived = asyncio.Event()
        self.released = asyncio.Event()

    async def __call__(self, route: Route) -> None:
        if json.loads(route.request.post_data or "{}")["type"] == "threads.add_client_tool_output":
            self._left -= 1
            if self._left == 0:
                self.arrived.set()
                await self.released.wait()
        await route.continue_()
