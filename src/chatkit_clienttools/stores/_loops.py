"""The event loop that a store belongs to.

What waits (a lock, a pool, a connection of asyncpg) belongs to one event loop. Used by a second one it fails later, or
hangs, with an error that names neither. So a store asks first: a second loop is refused while the first may still run,
and once that is closed the store goes on with new locks and connections.
"""

from __future__ import annotations

import asyncio
import threading

from chatkit_clienttools.errors import UsageError


class OneLoop:
    """Keeps something to one event loop at a time."""

    def __init__(self, refusal: str) -> None:
        self._refusal = refusal
        self._loop: asyncio.AbstractEventLoop | None = None
        self._guard = threading.Lock()

    def has_changed(self) -> bool:
        """Whether the running loop takes over from one that was closed; raises if that one was not closed."""
        running = asyncio.get_running_loop()
        with self._guard:
            last = self._loop or running
            if last is not running and not last.is_closed():
                raise UsageError(self._refusal)
            self._loop = running
        return last is not running
