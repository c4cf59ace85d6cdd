"""A load: two workers on one database, and pages that talk to both."""

from __future__ import annotations

import asyncio
import multiprocessing
import socket
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx2

from tests.helpers.databases import a_place, dropped
from tests.load.application import Figures, Setup, work
from tests.load.pages import SECONDS, Tally, talk

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

WORKERS = 2
WARMING_UP = 4
"""How many conversations are held before anything is measured: what is made once is there then."""

END_SECONDS = 10.0
COLUMNS = {
    "database": 9,
    "at once": 8,
    "errors": 7,
    "requests": 9,
    "answers p50": 12,
    "p99": 8,
    "commits/s": 10,
    "writes/s": 9,
    "writes/conversation": 20,
    "peak RSS": 9,
    "descriptors": 12,
}
HEADER = "".join(f"{name:>{width}}" for name, width in COLUMNS.items())

processes = multiprocessing.get_context("spawn")


@dataclass(frozen=True)
class Row:
    """What was measured with so many conversations at once."""

    database: str
    at_once: int
    tally: Tally
    seconds: float
    before: list[Figures]
    after: list[Figures]

    @property
    def errors(self) -> list[str]:
        """What the pages have seen; nothing may be measured of nothing."""
        return self.tally.errors if self.tally.conversations else ["no conversation was held", *self.tally.errors]

    @property
    def troubles(self) -> list[str]:
        """What the workers have logged."""
        return [trouble for each in self.after for trouble in each.troubles]

    def __str__(self) -> str:
        tally = self.tally
        commits = sum(each.commits for each in self.after) - sum(each.commits for each in self.before)
        writes = sum(each.writes for each in self.after) - sum(each.writes for each in self.before)
        cells = (
            self.database,
            self.at_once,
            len(self.errors),
            tally.requests,
            f"{tally.percentile(50):.2f} s",
            f"{tally.percentile(99):.2f} s",
            f"{commits / self.seconds:.0f}",
            f"{writes / self.seconds:.0f}",
            f"{writes / max(tally.conversations, 1):.1f}",
            f"{max(each.peak_rss for each in self.after) / 1e6:.0f} MB",
            f"{max(each.descriptors for each in self.before)} -> {max(each.descriptors for each in self.after)}",
        )
        return "".join(f"{cell:>{width}}" for cell, width in zip(cells, COLUMNS.values(), strict=True))


class Load:
    """The workers, and what is asked of them."""

    def __init__(self, database: str, url: str, seconds: float) -> None:
        self._database = database
        self._url = url
        self._seconds = seconds

    async def run(self, levels: list[int], rounds: int) -> AsyncGenerator[Row, None]:
        """Measure with so many conversations at once, one number after the other."""
        place = a_place(self._url)
        try:
            async with workers(Setup(*place)) as urls:
                await talk(urls, WARMING_UP, 1, self._seconds)
                for at_once in levels:
                    yield await self._measured(urls, at_once, rounds, self._seconds / len(levels))
        finally:
            await dropped(place)

    async def _measured(self, urls: list[str], at_once: int, rounds: int, seconds: float) -> Row:
        before = await _figures(urls)
        began = time.perf_counter()
        tally = await talk(urls, at_once, rounds, seconds)
        took = time.perf_counter() - began
        return Row(self._database, at_once, tally, took, before, await _figures(urls))


async def _figures(urls: list[str]) -> list[Figures]:
    async with httpx2.AsyncClient(timeout=SECONDS) as client:
        return [Figures(**(await client.get(f"{url}/figures")).json()) for url in urls]


@asynccontextmanager
async def workers(setup: Setup) -> AsyncIterator[list[str]]:
    """Start the workers, and end them."""
    listening = [socket.create_server(("127.0.0.1", 0), backlog=1024) for _ in range(WORKERS)]
    running = [processes.Process(target=work, args=(setup, each), daemon=True) for each in listening]
    for process in running:
        process.start()
    try:
        yield [f"http://127.0.0.1:{each.getsockname()[1]}" for each in listening]
    finally:
        for process in running:
            process.terminate()
        for process in running:
            await asyncio.to_thread(process.join, END_SECONDS)
        for each in listening:
            each.close()
