"""Several workers on one store, a clock that the test sets, and a worker that dies."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from chatkit_clienttools import ClientToolSequencer
from chatkit_clienttools._protocol.plan import Plan
from chatkit_clienttools._step import exclusion
from chatkit_clienttools._step.plans import keeper
from tests.helpers.conversation import Conversation
from tests.helpers.merak import TOOLS
from tests.helpers.scripted import Scripted
from tests.helpers.stores import WatchedStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from chatkit.store import Store


class Clock:
    """A clock that the test sets. It goes on by as much as somebody waits for another worker."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0
        self.waited = 0.0
        self.on_wait: Callable[[], None] = lambda: None

    def __call__(self) -> float:
        return self.now

    async def wait(self, seconds: float) -> None:
        self.on_wait()
        self.now += seconds
        self.waited += seconds
        await asyncio.sleep(0)  # let the others go on


@pytest.fixture(name="clock")
def clock_that_waits(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock on which waiting for another worker takes no time."""
    clock = Clock()
    monkeypatch.setattr(exclusion, "pause", clock.wait)
    return clock


class SharedLock:
    """A lock by thread id that all workers share, as a database or Redis would give it."""

    def __init__(self) -> None:
        self.locks: dict[str, asyncio.Lock] = {}

    @asynccontextmanager
    async def __call__(self, thread_id: str) -> AsyncIterator[None]:
        async with self.locks.setdefault(thread_id, asyncio.Lock()):
            yield


class Died(BaseException):
    """The process is gone."""


@dataclass
class Worker:
    """One process: a server with a sequencer of its own, its connection to the store, and a page that talks to it."""

    server: Scripted
    store: WatchedStore
    chat: Conversation

    def dies_at(self, operation: str, nth: int = 1) -> asyncio.Event:
        """Let the nth call of a store operation never return, and let nothing of this worker be done after it."""
        gate = self.store.gate(operation, nth)
        stop = self.store.before
        assert stop

        async def die(name: str, args: tuple[Any, ...]) -> None:
            if gate.reached.is_set():
                self._is_dead()
            await stop(name, args)

        self.store.before = die
        return gate.reached

    @staticmethod
    def _is_dead() -> NoReturn:
        raise Died


def workers(inner: Store[Any], *bodies: Any, number: int = 2, **options: Any) -> list[Worker]:
    """Processes on one store. The bodies are run by whoever comes first."""
    shared = list(bodies)
    made = []
    for _ in range(number):
        store = WatchedStore(inner)
        server = Scripted(store, ClientToolSequencer(TOOLS, **options))
        server.bodies = shared
        made.append(Worker(server, store, Conversation(server)))
    return made


def on_one_thread(first: Worker, *others: Worker) -> None:
    """Let all pages show the thread of the first one."""
    for other in others:
        other.chat.thread_id = first.chat.thread_id


async def abandon(*tasks: asyncio.Task[Any]) -> None:
    """End the tasks of a worker that has died."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def stored_plan(store: Store[Any], thread_id: str | None, context: Any = None) -> Plan:
    """The plan of a thread as it is stored."""
    found = await keeper(store, thread_id or "", context).load()
    return Plan.from_text(found.plan.document, thread_id or "") if found.plan else Plan()


def fail_once(store: WatchedStore, operation: str) -> None:
    """Let the next call of a store operation fail."""

    async def fail(name: str, args: tuple[Any, ...]) -> None:
        if name == operation:
            store.before = None
            raise ConnectionError

    store.before = fail


def saves(store: WatchedStore, nth: int = 1) -> asyncio.Event:
    """Return what is set once so many plans have been saved."""
    saved, count = asyncio.Event(), 0

    async def watch(name: str, args: tuple[Any, ...]) -> None:
        nonlocal count
        count += name in {"save_plan", "save_thread"}
        if count == nth:
            saved.set()

    store.after = watch
    return saved
