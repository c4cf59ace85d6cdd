"""Where the time of a conversation goes: whose code runs, looked at every millisecond of processor time."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from typing import TYPE_CHECKING, Any

from chatkit_clienttools.stores import MemoryStore

from .conversations import Ours, Page

if TYPE_CHECKING:
    from types import FrameType

    from .bench import Bench

PLACES = {
    "/chatkit_clienttools/stores/": "the store",
    "/chatkit_clienttools/": "us",
    "/chatkit/": "ChatKit",
    "/agents/": "the Agents SDK",
    "/tools/bench/": "the page and the backend of the bench",
}
"""Whose a file is. Python's and pydantic's own belong to who has called them."""

LOOP = asyncio.BaseEventLoop._run_once.__code__  # type: ignore[attr-defined]  # noqa: SLF001  no other frame is as sure
"""What calls everything. The bench has started the loop, but what that does is not the page's."""

REST = "the event loop"


def owner_of(files: list[str]) -> str:
    """Return whose code runs, from the files of a stack, innermost first."""
    return next((name for file in files for part, name in PLACES.items() if part in file), REST)


async def shares_of(bench: Bench) -> dict[str, float]:
    """Return which share of a conversation with three calls is whose."""
    seen = Counter[str]()

    def look(_signal: int, frame: FrameType | None) -> None:
        files = []
        while frame and frame.f_code is not LOOP:
            files.append(frame.f_code.co_filename)
            frame = frame.f_back
        seen[owner_of(files)] += 1

    server: Any = Ours(MemoryStore())
    await Page(server).talk()
    before = signal.signal(signal.SIGPROF, look)
    signal.setitimer(signal.ITIMER_PROF, 0.001, 0.001)
    try:
        for _ in range(bench.times(200)):
            await Page(server).talk()
            await asyncio.sleep(0)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
    return {name: number / max(seen.total(), 1) for name, number in seen.most_common()}
