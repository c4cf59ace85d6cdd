"""Locks by thread id, for applications that want one: in this process, or in the database.

A lock of the database lives in a short transaction on a connection of its own, from a pool of its own. So it cannot
wait for a connection that those need who wait for the lock, and it is gone when its process or its connection is.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakValueDictionary

from chatkit_clienttools.errors import StoreUnavailableError

from ._loops import OneLoop

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from contextlib import AbstractAsyncContextManager

GRACE_SECONDS = 1.0
"""How much longer than its time limit a database may take to say that the time is over."""

_BUSY = "somebody else has held it all the time (a lock cannot be taken twice, and is not to be held for long)"


_TWO_LOOPS = (
    "This thread_lock is used by two event loops at a time, and it cannot wait across them. Make one store for each "
    "event loop, or use the store without its lock: the plans need none."
)


class LocalLocks:
    """The locks of one event loop."""

    def __init__(self, name: str, time_limit: float) -> None:
        self._name = name
        self._time_limit = time_limit
        self._loop = OneLoop(_TWO_LOOPS)
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def held(self, thread_id: str, key: str | None = None) -> AsyncGenerator[None, None]:
        """Hold the lock of a thread, or the one that goes by another key."""
        if self._loop.has_changed():
            self._locks = WeakValueDictionary()
        # the local name keeps the lock in the dictionary for as long as somebody waits for it
        lock = self._locks.setdefault(thread_id if key is None else key, asyncio.Lock())
        try:
            await asyncio.wait_for(lock.acquire(), self._time_limit)
        except asyncio.TimeoutError:
            raise StoreUnavailableError(f"lock thread {thread_id}", self._name, self._time_limit, _BUSY) from None
        try:
            yield
        finally:
            lock.release()


class OpensTransaction(Protocol):
    """A transaction that holds the lock of a thread for as long as it is open."""

    def __call__(self, thread_id: str) -> AbstractAsyncContextManager[Any]:
        """Open it; raises if it does not get the lock in time."""
        ...


class DatabaseLocks:
    """The locks of all processes that share a database.

    The transaction is opened and closed by a task of its own: a request that is cancelled while it waits for the lock
    does not cut a statement off, it only says that the lock, once taken, can go at once.
    """

    def __init__(
        self,
        opens: OpensTransaction,
        explained: Callable[[str, Exception], Exception],
        local: LocalLocks,
        name: str,
        time_limit: float,
        *,
        one_for_all: bool,
    ) -> None:
        self._opens = opens
        self._explained = explained
        self._local = local
        self._name = name
        self._time_limit = time_limit
        self._one_for_all = one_for_all
        self._holders: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def held(self, thread_id: str) -> AsyncGenerator[None, None]:
        """Hold the lock of a thread."""
        # of the requests of this process one at a time asks the database: the others need no connection for waiting
        async with self._local.held(thread_id, "" if self._one_for_all else None):
            taken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            let_go = asyncio.Event()
            holder = asyncio.create_task(self._hold(thread_id, taken, let_go))
            self._holders.add(holder)
            holder.add_done_callback(self._holders.discard)
            try:
                await asyncio.wait(
                    {taken, holder}, timeout=self._time_limit + GRACE_SECONDS, return_when=asyncio.FIRST_COMPLETED
                )
                if not taken.done():
                    holder.cancel()
                    raise StoreUnavailableError(
                        f"lock thread {thread_id}", self._name, self._time_limit, "the database does not answer"
                    )
                taken.result()
                yield
            finally:
                let_go.set()
                if taken.done():  # who gave up waiting for the lock does not wait for its end either
                    await asyncio.wait({holder}, timeout=self._time_limit)

    async def close(self) -> None:
        """Wait for the transactions of requests that were cancelled."""
        if self._holders:
            await asyncio.wait(self._holders, timeout=self._time_limit)

    async def _hold(self, thread_id: str, taken: asyncio.Future[None], let_go: asyncio.Event) -> None:
        try:
            async with self._opens(thread_id):
                taken.set_result(None)
                await let_go.wait()
        except Exception as error:  # noqa: BLE001  it is told to the one who waits
            # after it was taken there is nobody to tell: the lock is gone with its connection
            if not taken.done():
                taken.set_exception(self._explained(f"lock thread {thread_id}", error))
                taken.exception()
