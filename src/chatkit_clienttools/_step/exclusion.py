"""What keeps two steps on one thread apart, and what lets a step come to its end.

A step holds the lock of its thread, within this process, and the application's `lock=` if there is one. Without that,
in a store that compares before it saves a plan, it writes its name into the plan as a lease. Nothing of this is held
across a `yield`, a model run, or code of the application.

A lease is judged by how long this process has seen it unchanged, and not by the clock of the worker that wrote it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

from chatkit_clienttools.observe import logger

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

T = TypeVar("T")

LEASE_SECONDS = 10.0
"""How long another worker's step may be at work before it is taken for dead."""

FIRST_LOOK_SECONDS = 0.02
LONGEST_PAUSE_SECONDS = 0.5


class Patience:
    """Waits while another worker's lease stands unchanged, and says when it is over."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._seen: object = None
        self._since: float
        self._pause: float

    async def is_over(self, lease: object) -> bool:
        """Whether the lease has been seen unchanged for its whole time; otherwise wait a moment."""
        if lease != self._seen:
            self._seen, self._since, self._pause = lease, self._monotonic(), FIRST_LOOK_SECONDS
        if self._monotonic() - self._since >= LEASE_SECONDS:
            return True
        await pause(self._pause)
        self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS)
        return False


async def pause(seconds: float) -> None:
    """Wait before another look at what another worker does."""
    await asyncio.sleep(seconds)


_running: set[asyncio.Task[Any]] = set()
"""The steps that are taken at this moment: asyncio itself would forget them."""

_left_behind: set[asyncio.Task[Any]] = set()
"""Those of them whose request was cut off."""


def in_background(coroutine: Coroutine[Any, Any, T]) -> None:
    """Run something to its end, whatever becomes of the request that wanted it."""
    _left_behind.add(_started(coroutine))


async def to_the_end(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a step to its end even if the request is cancelled meanwhile: half a step would hold others up."""
    task = _started(coroutine)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if not task.done():
            _left_behind.add(task)
        raise


def left_behind() -> list[asyncio.Task[Any]]:
    """Return what is still done in this event loop for requests that were cut off."""
    loop = asyncio.get_running_loop()
    return [task for task in _left_behind if task.get_loop() is loop]


def _started(coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    task = asyncio.get_running_loop().create_task(coroutine)
    _running.add(task)
    task.add_done_callback(_note_the_end)
    return task


def _note_the_end(task: asyncio.Task[Any]) -> None:
    _running.discard(task)
    _left_behind.discard(task)
    if not task.cancelled() and task.exception() is not None:
        logger.debug("a step has failed: %s", type(task.exception()).__name__)
