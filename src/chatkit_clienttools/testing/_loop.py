"""To run something async where there is no event loop yet, and leave no trace of the one it ran in."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable

T = TypeVar("T")


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run `main` as `asyncio.run` does, but leave the current event loop alone: a plugin may have set one."""
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(main)
    finally:
        close(loop)


def new_loop() -> asyncio.AbstractEventLoop:
    """Return an event loop that keeps its tasks until they are done.

    A server that is cut off may leave tasks that nobody refers to any more. They are to be ended with the loop, and not
    whenever the garbage collector comes by.
    """
    loop = asyncio.new_event_loop()
    kept: set[asyncio.Task[Any]] = set()

    def task(loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> asyncio.Task[Any]:
        task = asyncio.Task(work, loop=loop, **options)
        kept.add(task)
        task.add_done_callback(kept.discard)
        return task

    loop.set_task_factory(task)
    return loop


def cancel_all(loop: asyncio.AbstractEventLoop, *, but: Iterable[asyncio.Task[Any]] = ()) -> None:
    """Cancel every task of a loop, and see it end."""
    loop.run_until_complete(cancelled(asyncio.all_tasks(loop).difference(but)))


def close(loop: asyncio.AbstractEventLoop) -> None:
    """Close a loop in which nothing is left to be ended later."""
    try:
        cancel_all(loop)
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()


async def generators_closed() -> None:
    """Wait for the generators that were behind a closed one: the event loop closes them in tasks of its own."""
    await asyncio.sleep(0)
    while closing := [task for task in asyncio.all_tasks() if _closes_a_generator(task)]:
        await asyncio.wait(closing)
        await asyncio.sleep(0)


def _closes_a_generator(task: asyncio.Task[Any]) -> bool:
    # what `aclose()` returns is of a type that cannot be imported
    return type(task.get_coro()).__name__ == "async_generator_athrow"


async def cancelled(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks, and see them end."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
