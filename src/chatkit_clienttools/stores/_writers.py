"""SQLite's writers of one process: they queue here, and share transactions.

SQLite has one lock for all who write, and those who wait for it poll. So the writers of a process ask for it together:
who comes while a transaction is under way waits for the next one, which does everything that is waiting by then. Each
write is still a whole: one that fails is undone by itself, and nobody is told anything before the commit.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable

    from sqlalchemy import Connection

T = TypeVar("T")

Work = Callable[["Connection"], T]
"""What is done with a connection: one step, without waiting for anything but the database."""

AT_ONCE = 64
"""How many writes a transaction has at most: other processes wait for its end."""


class Runs(Protocol):
    """Runs a function with a connection to SQLite."""

    def __call__(self, work: Work[T], /) -> Awaitable[T]:
        """Run it."""
        ...


@dataclass(frozen=True)
class _Writer:
    work: Work[Any]
    done: asyncio.Future[Any]
    since: float


class Writers:
    """The queue, and the task that works on it for as long as there is anything in it."""

    def __init__(self, run: Runs, patience: float) -> None:
        self._run = run
        self._patience = patience
        self._queue: deque[_Writer] = deque()
        self._is_at_work = False
        self.tasks: set[asyncio.Task[None]] = set()

    async def write(self, work: Work[T]) -> T:
        """Do `work` in a transaction. Cancelled while it waits for others, it is not done."""
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._queue.append(_Writer(work, done, time.monotonic()))
        if not self._is_at_work:
            self._is_at_work = True
            task = asyncio.create_task(self._work())
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)
        return await done

    async def _work(self) -> None:
        try:
            while self._queue:
                await self._commit(self._next())
        finally:
            self._is_at_work = False
            _cut_off(self._queue)  # there are some if this was cut off, with its event loop
            self._queue.clear()

    def _next(self) -> list[_Writer]:
        """Take those whose turn it is, but for those that have waited too long."""
        first = [self._queue.popleft() for _ in range(min(AT_ONCE, len(self._queue)))]
        waiting = [writer for writer in first if not writer.done.done()]
        too_late = time.monotonic() - self._patience
        for writer in waiting:
            if writer.since < too_late:
                writer.done.set_exception(TimeoutError("the other writers of this process have not come to an end"))
        return [writer for writer in waiting if not writer.done.done()]

    async def _commit(self, writers: list[_Writer]) -> None:
        if not writers:
            return
        outcomes: list[_Outcome]
        try:
            outcomes = await self._run(partial(_in_transaction, [writer.work for writer in writers]))
        except Exception as error:  # noqa: BLE001  it is told to those who wait
            outcomes = [_Outcome(error=error)] * len(writers)
        except asyncio.CancelledError:  # pragma: no cover  a test does reach it; coverage loses sight in the greenlet
            _cut_off(writers)
            raise
        for writer, outcome in zip(writers, outcomes, strict=True):
            if writer.done.done():  # pragma: no cover  as above: its request has not waited for it
                continue
            if outcome.error is None:
                writer.done.set_result(outcome.value)
            else:
                writer.done.set_exception(outcome.error)


def _cut_off(writers: Iterable[_Writer]) -> None:
    for writer in writers:
        writer.done.cancel()


@dataclass(frozen=True)
class _Outcome:
    value: Any = None
    error: Exception | None = None


def _in_transaction(works: list[Work[Any]], connection: Connection) -> list[_Outcome]:
    """Do everything in one transaction; raises if none of it is done."""
    connection.exec_driver_sql("BEGIN IMMEDIATE")
    try:
        if len(works) == 1:
            outcomes = [_Outcome(works[0](connection))]
        else:
            outcomes = [_undone_if_it_fails(work, connection) for work in works]
        connection.exec_driver_sql("COMMIT")
    except BaseException:
        connection.rollback()
        raise
    return outcomes


def _undone_if_it_fails(work: Work[Any], connection: Connection) -> _Outcome:
    connection.exec_driver_sql("SAVEPOINT one_of_them")
    try:
        outcome = _Outcome(work(connection))
    except Exception as error:  # noqa: BLE001  it is told to the one who waits
        try:
            connection.exec_driver_sql("ROLLBACK TO one_of_them")
        except Exception:  # noqa: BLE001  what fails badly has undone the whole transaction
            raise error from None
        outcome = _Outcome(error=error)
    connection.exec_driver_sql("RELEASE one_of_them")
    return outcome
