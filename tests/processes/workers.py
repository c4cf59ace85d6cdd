"""Two worker processes that can be killed, and the way of a page to either of them."""

from __future__ import annotations

import asyncio
import multiprocessing
import socket
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from chatkit_clienttools.testing.browser._wire import OverHttp, Stream
from tests.processes.application import work
from tests.processes.ledger import Ledger

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable, Coroutine
    from multiprocessing.context import ForkServerProcess

    from tests.processes.application import Setup

T = TypeVar("T")

WORKERS = 2

SECONDS = 30.0
"""How long the next event of a stream may take: a machine may be busy."""

processes = multiprocessing.get_context("forkserver")
# a process is forked from one that has imported this: it need not import all again
processes.set_forkserver_preload([work.__module__, "tests.processes.fresh"])


class Worker:
    """A place where there is always a worker process; the one that is killed is followed by the next at once.

    The listening socket is held here: who connects while there is no process waits for the next one.
    """

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}/chatkit"
        self.kills = 0
        self._process = self._started()

    def _started(self) -> ForkServerProcess:
        process = processes.Process(target=work, args=(self._setup, self._listening), daemon=True)
        process.start()
        return process

    def kill(self, ledger: Ledger) -> None:
        """Kill the process with SIGKILL, say so, and start the next one."""
        killed = self._process
        ledger.write(kind="killed", pid=killed.pid)  # before the signal: what others do because of it comes after
        self.kills += 1  # before the signal: what breaks from here on has broken because of it
        killed.kill()
        killed.join()
        killed.close()
        self._process = self._started()

    def close(self) -> None:
        self._process.kill()
        self._process.join()
        self._process.close()
        self._listening.close()


@dataclass
class Workers:
    """The workers, what was asked of them, and the streams that broke while their worker was alive."""

    setup: Setup
    all: list[Worker] = field(init=False)
    broken_by_kills: int = 0
    broken_alive: list[str] = field(default_factory=list)
    progress: int = 0
    """How many requests were posted and events read."""

    def __post_init__(self) -> None:
        self.all = [Worker(self.setup) for _ in range(WORKERS)]
        self._ledger = Ledger(self.setup.ledger)
        self._moved = asyncio.Event()

    @property
    def kills(self) -> int:
        return sum(worker.kills for worker in self.all)

    def kill(self, number: int) -> None:
        self.all[number].kill(self._ledger)

    async def progressed(self, by: int) -> None:
        """Wait until the pages have come so much further."""
        until = self.progress + by
        while self.progress < until:
            self._moved.clear()
            await self._moved.wait()

    async def asked(self, worker: Worker, kills: int, step: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Take a step of a request to a worker that had been killed so often; if it breaks, say whose fault it was."""
        self.progress += 1
        self._moved.set()
        try:
            return await asyncio.wait_for(step(), SECONDS)
        except Exception as error:
            if worker.kills > kills:
                self.broken_by_kills += 1
            else:
                self.broken_alive.append(repr(error))
            raise

    def close(self) -> None:
        for worker in self.all:
            worker.close()


class EitherWorker:
    """A page's way to the server: each request goes to one of the workers, as a load balancer has it."""

    server = "each request goes to one of several"

    def __init__(self, workers: Workers, rng: random.Random) -> None:
        self._workers = workers
        self._rng = rng

    async def fetch(self, request: str) -> bytes:
        wire, asked = self._choose()
        content: bytes = await asked(lambda: wire.fetch(request))
        return content

    async def open(self, request: str) -> Stream:
        wire, asked = self._choose()
        return _WatchedStream(await asked(lambda: wire.open(request)), asked)

    def _choose(self) -> tuple[OverHttp, Callable[..., Awaitable[Any]]]:
        worker = self._rng.choice(self._workers.all)
        return OverHttp(worker.url, {}, {}, 2 * SECONDS), partial(self._workers.asked, worker, worker.kills)


class _WatchedStream(Stream):
    """A stream of one of the workers. The bytes are the inner one's affair."""

    def __init__(self, stream: Stream, asked: Callable[..., Awaitable[Any]]) -> None:
        self._stream = stream
        self._asked = asked

    async def next(self) -> str | None:
        event: str | None = await self._asked(self._stream.next)
        return event

    async def stop(self) -> None:
        await self._stream.stop()

    async def drop(self) -> None:
        await self._stream.drop()

    async def close(self) -> None:
        await self._stream.close()
