"""One lock for each thread: what keeps its steps, and its writes, apart within this process."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from itertools import count
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary, WeakValueDictionary

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator


class ThreadLocks:
    """One lock for each thread, within this process and one event loop.

    Each loop has locks of its own: asyncio's cannot be shared. Two loops are kept apart as two processes are.
    """

    def __init__(self) -> None:
        self._by_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, WeakValueDictionary[str, asyncio.Lock]] = (
            WeakKeyDictionary()
        )
        self._numbers: WeakKeyDictionary[asyncio.AbstractEventLoop, int] = WeakKeyDictionary()
        self._next = count(1)

    def loop_number(self) -> int:
        """Return the number of the running loop: the first that came is 1."""
        loop = asyncio.get_running_loop()
        if loop not in self._numbers:
            self._numbers[loop] = next(self._next)
        return self._numbers[loop]

    @asynccontextmanager
    async def held(self, thread_id: str) -> AsyncGenerator[None, None]:
        """Hold the lock of a thread."""
        loop = asyncio.get_running_loop()
        locks = self._by_loop.get(loop)
        if locks is None:
            locks = self._by_loop[loop] = WeakValueDictionary()
        # the local name keeps the lock in the dictionary for as long as somebody waits for it
        lock = locks.get(thread_id)
        if lock is None:
            lock = locks[thread_id] = asyncio.Lock()
        async with lock:
            yield
