"""One lock for each thread: what keeps its steps, and its writes, apart within this process."""

from __future__ import annotations

import asyncio
from itertools import count
from typing import Any, Literal
from weakref import WeakKeyDictionary, WeakValueDictionary

from .errors import UsageError, printable

_WAITS_FOR_ITSELF = (
    "Thread {}: it is saved once more while it is being saved, which would wait for itself for ever. A wrapper around "
    "`server.store` that hides `load_plan` and `save_plan` does that: derive it from StoreWrapper, which passes them on"
)


class ThreadLock(asyncio.Lock):
    """The lock of one thread; a task that has it already is told so, instead of waiting for itself."""

    def __init__(self, thread_id: str) -> None:
        super().__init__()
        self._thread_id = thread_id
        self._holder: asyncio.Task[Any] | None = None

    async def acquire(self) -> Literal[True]:
        """Wait for the others."""
        task = asyncio.current_task()
        if task is not None and self._holder is task:
            raise UsageError(_WAITS_FOR_ITSELF.format(printable(self._thread_id)))
        await super().acquire()
        self._holder = task
        return True

    def release(self) -> None:
        """Let the next one in."""
        self._holder = None
        super().release()


class ThreadLocks:
    """One lock for each thread, within this process and one event loop.

    Each loop has locks of its own: asyncio's cannot be shared. Two loops are kept apart as two processes are.
    """

    def __init__(self) -> None:
        self._by_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, WeakValueDictionary[str, ThreadLock]] = (
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

    def held(self, thread_id: str) -> ThreadLock:
        """Return the lock of a thread, to hold with `async with`; it is kept for as long as somebody has it."""
        loop = asyncio.get_running_loop()
        locks = self._by_loop.get(loop)
        if locks is None:
            locks = self._by_loop[loop] = WeakValueDictionary()
        lock = locks.get(thread_id)
        if lock is None:
            lock = locks[thread_id] = ThreadLock(thread_id)
        return lock
