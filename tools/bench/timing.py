"""How both sides of a row are timed."""

from __future__ import annotations

import gc
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from .figures import Cost, Pair

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    Side = Callable[[], Awaitable[Cost]]
    """Does the work once, and returns what the part of it took that is measured."""


FOR_WORKERS = (50_000, 20, 50)
"""The thresholds of the garbage collector that docs/deployment.md names."""


class Stopwatch:
    """Adds up what is done under it."""

    def __init__(self) -> None:
        self.cost: Cost = {"cpu": 0.0, "wall": 0.0}

    @contextmanager
    def running(self) -> Iterator[None]:
        """Measure what is done inside."""
        cpu, wall = time.process_time(), time.perf_counter()
        try:
            yield
        finally:
            self.cost["cpu"] += time.process_time() - cpu
            self.cost["wall"] += time.perf_counter() - wall


async def timed(work: Awaitable[object]) -> Cost:
    """Return what `work` takes."""
    watch = Stopwatch()
    with watch.running():
        await work
    return watch.cost


@contextmanager
def collecting_seldom() -> Iterator[None]:
    """Set the garbage collector as docs/deployment.md tells workers to set it."""
    before = gc.get_threshold()
    gc.set_threshold(*FOR_WORKERS)
    try:
        yield
    finally:
        gc.set_threshold(*before)


async def in_turns(ours: Side, theirs: Side, times: int, *, warm_up: int = 1) -> list[Pair]:
    """Measure both sides in turns; the one that is first changes each time."""
    for _ in range(warm_up):
        await ours()
        await theirs()
    gc.collect()
    pairs = []
    for n in range(times):
        if n % 2:
            second, first = await theirs(), await ours()
        else:
            first, second = await ours(), await theirs()
        pairs.append(Pair(first, second))
    return pairs
