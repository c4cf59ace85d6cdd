"""An event loop that is run from one quiet state to the next, and the points at which its tasks wait to be let on."""

from __future__ import annotations

import asyncio
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import AsyncGenerator, Callable, Iterator


class SteppedLoop(asyncio.BaseEventLoop):
    """Runs what is ready and stops when nothing is: nothing in it waits for a socket, and no timer ever fires."""

    _ready: deque[Any]

    def __init__(self) -> None:
        super().__init__()
        self.set_exception_handler(lambda _loop, _context: None)  # a task that was buried has nobody to tell
        self.owner: Callable[[], list[asyncio.Task[Any]] | None] = lambda: None
        """Where the tasks are kept of the request that starts one."""

    def run_until_quiet(self) -> None:
        ready = self._ready
        with self._running():
            while ready:
                handle = ready.popleft()
                if not handle.cancelled():
                    handle._run()

    def create_task(self, coro: Any, **options: Any) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = super().create_task(coro, **options)
        tasks = self.owner()
        if tasks is not None:
            tasks.append(task)
        return task

    @contextmanager
    def _running(self) -> Iterator[None]:
        hooks = sys.get_asyncgen_hooks()
        asyncio._set_running_loop(self)
        sys.set_asyncgen_hooks(firstiter=lambda _: None, finalizer=self._closed_in_a_task)
        try:
            yield
        finally:
            asyncio._set_running_loop(None)
            sys.set_asyncgen_hooks(*hooks)

    def _closed_in_a_task(self, generator: AsyncGenerator[Any, None]) -> None:
        """Close a generator that nobody refers to any more, as asyncio does."""
        self.create_task(generator.aclose())

    def _write_to_self(self) -> None:
        """There is no selector to be woken."""


class Verdict(Enum):
    """What the controller lets happen at a point."""

    GO = "goes on"
    FAIL = "fails"
    FAIL_AFTER = "is done, and fails"
    CANCEL_AFTER = "is done, and cancelled"
    CANCEL_BEFORE = "is cancelled, and done later"


@dataclass(eq=False)
class Point:
    """Where a task waits: before a store operation or a lock, or with an event the browser has not got yet."""

    name: str
    what: str
    is_write: bool
    future: asyncio.Future[Verdict]
    event: dict[str, Any] | None = None
    seen: Any = None
    """What the store held when it began to wait."""
    now: float = 0.0
    is_own: bool = False
    """Whether the request itself waits, and not a step that runs to its end without it."""

    def __str__(self) -> str:
        return f"{self.name} {self.what}".rstrip()


class StoreDownError(ConnectionError):
    """What a store raises when it fails."""


class Buried(BaseException):
    """The execution is over: what still runs ends here, and writes nothing more."""
