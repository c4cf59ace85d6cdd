"""Rows about many conversations at once: throughput, the slowest requests, memory."""

from __future__ import annotations

import asyncio
import gc
import os
import time
import tracemalloc
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json, to_json

from chatkit_clienttools.stores import MemoryStore

from .bench import Bench, Row, new_prefix
from .conversations import CALLS, OursAsks, Page
from .figures import Pair
from .timing import collecting_seldom, in_turns, timed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from .figures import Cost

IN_PROCESS = 1000
"""How many conversations are held at once in one process."""

OVER_HTTP = 200
"""How many over HTTP, on two workers."""

ALLOWED_BYTES = 64 * 1024
"""How much memory an open conversation may take."""

STRINGS = 100_000
"""Several times as many as pydantic keeps of the strings that it has read last."""

SECONDS = 60.0
"""How long a load over HTTP may go on."""


async def at_once(bench: Bench) -> list[Pair]:
    """So many conversations at once, and as many one after the other."""
    number = bench.times(IN_PROCESS)

    async def all_at_once() -> Cost:
        pages = _pages(number)
        return await timed(asyncio.gather(*[page.talk() for page in pages]))

    async def in_order() -> Cost:
        return await timed(_in_order(_pages(number)))

    return await in_turns(all_at_once, in_order, 5, warm_up=0)


async def at_once_in_a_worker(bench: Bench) -> list[Pair]:
    """The same in a worker that is set up as docs/deployment.md says: its garbage collector looks less often."""
    with collecting_seldom():
        return await at_once(bench)


async def slowest(bench: Bench) -> list[Pair]:
    """The 99th percentile of the requests of many conversations at once, and their median."""
    return [_percentiles(await _seconds_of_requests(bench.times(IN_PROCESS))) for _ in range(5)]


async def memory(bench: Bench) -> list[Pair]:
    """The most that conversations take while they are open, for each, and what it may be."""
    return [(await _memory(bench.times(IN_PROCESS)))[0]]


async def memory_after(bench: Bench) -> list[Pair]:
    """What is left of each conversation when its thread is deleted, and what an open one may take."""
    return [(await _memory(bench.times(IN_PROCESS)))[1]]


async def http_at_once(bench: Bench) -> list[Pair]:
    """So many conversations at once over HTTP, on two workers, and some one after the other; seconds for each."""
    many, few = bench.times(OVER_HTTP), bench.times(OVER_HTTP // 10)
    return [
        Pair({"wall": together[0] / many}, {"wall": alone[0] / few})
        async for together, alone in _http(bench, many, few, times=3)
    ]


async def http_slowest(bench: Bench) -> list[Pair]:
    """The 99th percentile of the answers of many conversations at once over HTTP, and their median."""
    return [_percentiles(answers) async for (_, answers), _ in _http(bench, bench.times(OVER_HTTP), 1, times=3)]


def _pages(number: int) -> list[Page]:
    server = OursAsks(MemoryStore())
    return [Page(server) for _ in range(number)]


async def _in_order(pages: list[Page]) -> None:
    for page in pages:
        await page.talk()


async def _seconds_of_requests(number: int) -> list[float]:
    taken: list[float] = []

    class Timed(Page):
        async def exchange(self, request: str) -> list[bytes]:
            began = time.perf_counter()
            chunks = await super().exchange(request)
            taken.append(time.perf_counter() - began)
            return chunks

    server = OursAsks(MemoryStore())
    await asyncio.gather(*[Timed(server).talk() for _ in range(number)])
    return taken


def _percentiles(seconds: list[float]) -> Pair:
    ordered = sorted(seconds)
    return Pair({"wall": ordered[int(0.99 * (len(ordered) - 1))]}, {"wall": ordered[len(ordered) // 2]})


async def _memory(number: int) -> tuple[Pair, Pair]:
    """Return what each of so many conversations takes at most, and what is left of it."""
    server = OursAsks(MemoryStore())
    tracemalloc.start(1)
    try:
        # what grows once and has its size then is nobody's: pydantic's cache of strings, the tables of the event loop
        from_json(to_json([f"as long as an id: {n:018}" for n in range(STRINGS)]))
        await asyncio.gather(*[_one_that_is_over(server) for _ in range(number)])
        gc.collect()
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        await asyncio.gather(*[_one_that_is_over(server) for _ in range(number)])
        await asyncio.sleep(0.1)  # callbacks of the last tasks
        gc.collect()
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    allowed: Cost = {"bytes": float(ALLOWED_BYTES)}
    return Pair({"bytes": (peak - before) / number}, allowed), Pair({"bytes": max(0, after - before) / number}, allowed)


async def _one_that_is_over(server: OursAsks) -> None:
    page = Page(server)
    await page.talk()
    await page.exchange(page.request("threads.delete"))


async def _http(bench: Bench, many: int, few: int, times: int) -> AsyncIterator[tuple[Any, Any]]:
    """Hold conversations over HTTP, many at once and a few one after the other; how long it took, and each answer."""
    os.environ["DEMO_PAUSE"] = "0"  # the model of the workers is not to take time that is not theirs
    from tests.load.application import Setup  # noqa: PLC0415  it brings a web server
    from tests.load.load import workers  # noqa: PLC0415
    from tests.load.pages import talk  # noqa: PLC0415

    async def held(urls: list[str], at_once: int, rounds: int) -> tuple[float, list[float]]:
        began = time.perf_counter()
        tally = await talk(urls, at_once, rounds, SECONDS)
        if tally.errors or tally.conversations != at_once * rounds or len(tally.answers) != CALLS * at_once * rounds:
            raise RuntimeError(f"the load has failed: {tally.errors[:3]}")
        return time.perf_counter() - began, tally.answers

    async with workers(Setup(bench.sqlite(), new_prefix())) as urls:
        await held(urls, min(many, 10), 1)
        for _ in range(times):
            yield await held(urls, many, 1), await held(urls, 1, few)


ROWS = [
    Row(
        "1,000 conversations at once in a worker, `gc.set_threshold` as the deployment guide says",
        "the same, one after the other",
        1.0,
        at_once_in_a_worker,
    ),
    Row("the same without it, as Python is by default", "the same, one after the other", None, at_once),
    Row("the same: the slowest requests (99th percentile)", "their median", 5.0, slowest, by="wall"),
    Row("the same: peak memory for each", "64 KiB", 1.0, memory, by="bytes"),
    Row("the same: memory left of each", "64 KiB", 0.01, memory_after, by="bytes"),
    Row(
        "200 conversations at once over HTTP, two workers",
        "some of them, one after the other",
        1.0,
        http_at_once,
        by="wall",
    ),
    Row("the same: the slowest answers (99th percentile)", "their median", 5.0, http_slowest, by="wall"),
]
