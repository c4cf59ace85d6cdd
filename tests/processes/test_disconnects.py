"""Clients that disconnect under a real web server: at every point of a request, with all cleanup and with none."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from chatkit_clienttools._protocol.plan import BODY_SECONDS
from chatkit_clienttools._step import exclusion
from chatkit_clienttools.testing import FakeBrowser
from tests.helpers.http import chatkit_app, serving
from tests.helpers.stores import PlainStore, PlansStore, WatchedStore
from tests.processes.disconnects import FIND, AtAYield, Clock, InAnAwait, SendFails, searching, without_cleanup

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from chatkit_clienttools import ClientToolSequencer
    from tests.processes.disconnects import Point

pytestmark = pytest.mark.long

CALLS = ["display_agent_profiles", "get_selected_canvas_nodes", "display_agent_profiles"]

POSITIONS = {"in an await": InAnAwait, "at a yield": AtAYield, "send fails": SendFails}

ANSWERS = {"message": 0, "answer": 1, "last answer": 3}
"""The request that loses its client; with how many answers it is through."""

EVENTS = {"message": 5, "answer": 2, "last answer": 2}
"""How many events there are in the response, at least: as many points at a `yield`, and for sending to fail."""


class Case(NamedTuple):
    """What backends have, and what the page does then."""

    response: Any
    store: Any
    then: str
    operations: dict[str, int]
    """How many store operations there are, at least, each with a point before and a point after it."""


CASES = [
    Case("starlette", PlansStore, "posted again", {"message": 10, "answer": 7, "last answer": 11}),
    Case("sse", PlainStore, "loaded", {"message": 10, "answer": 5, "last answer": 9}),
]


class LostClients:
    """Clients that are lost at each point of a request in turn, and what is seen then."""

    def __init__(self, url: str, point: Point, sequencer: ClientToolSequencer) -> None:
        self._url = url
        self._point = point
        self._sequencer = sequencer

    async def points(self, request: str, then: str, wait: Callable[[], None]) -> int:
        """Lose the client at the first point of a request, at the second, and so on; return how many there are."""
        found = 0
        while (browser := await self._lost(found + 1, request)) is not None:
            found += 1
            wait()
            await self._goes_on(browser, request, then)
        return found

    async def _lost(self, nth: int, request: str) -> FakeBrowser | None:
        """Return a page that has lost its connection at the nth point, or None if the request was through before."""
        browser = a_browser(self._url)
        await browser.send("hello" if request == "message" else FIND)
        for _ in range(ANSWERS[request] - 1):
            await browser.answer()
        self._point.arm(nth)
        await self._until_lost(asyncio.create_task(browser.send(FIND) if request == "message" else browser.answer()))
        if not self._point.reached.is_set():
            return None
        await self._point.ended.wait()
        self._point.gone.set()
        while steps := [*exclusion._running]:
            await asyncio.wait(steps)  # they come to their end without their request
        return browser

    async def _until_lost(self, posting: asyncio.Task[None]) -> None:
        """Let a request come to the point, or to its end, and close its connection."""
        reaching = asyncio.create_task(self._point.reached.wait())
        await asyncio.wait({posting, reaching}, return_when=asyncio.FIRST_COMPLETED)
        self._point.disarm()
        reaching.cancel()
        posting.cancel()
        await asyncio.gather(posting, reaching, return_exceptions=True)

    async def _goes_on(self, browser: FakeBrowser, request: str, then: str) -> None:
        """The page goes on where it was, and the next message as if nothing had been; no lock is left."""
        browser.answering = "once"
        if then == "posted again":
            await browser.repost()
        await browser.reload(resume=True)
        if (request, then) == ("message", "loaded"):  # it may have been lost before its calls were in the plan
            await browser.send(FIND)

        assert is_through(browser)
        assert CALLS == settled(browser)[-len(CALLS) :]

        await browser.send("hello")

        assert "Wait." == browser.texts[-1]
        assert [] == browser.errors
        locks = [lock for by_thread in self._sequencer.rules.locks._by_loop.values() for lock in by_thread.values()]
        assert [] == [lock for lock in locks if lock.locked()]
        assert len({call.params["_receipt"] for call in browser.delivered}) >= len(browser.calls)


def a_browser(url: str) -> FakeBrowser:
    handlers = {"display_agent_profiles": lambda params: None, "get_selected_canvas_nodes": lambda params: ["a"]}
    return FakeBrowser(url, handlers=handlers, answering="when told")


def settled(browser: FakeBrowser) -> list[str]:
    """The calls that the page shows and that were answered."""
    return [item["name"] for item in browser.items if item.get("status") == "completed"]


def is_through(browser: FakeBrowser) -> bool:
    """Whether the model has had the last word, and no call is open."""
    return browser.texts[-1] == "You chose well." and "pending" not in [item.get("status") for item in browser.items]


@pytest.fixture(autouse=True)
def only_ours_is_collected() -> Iterator[None]:
    """Let a collection of garbage look only at what the test has made."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.parametrize("cleanup", ["all", "no"])
@pytest.mark.parametrize("lost", list(ANSWERS))
@pytest.mark.parametrize("position", list(POSITIONS))
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.response}, {case.then}")
async def test_a_client_that_is_lost(
    case: Case, position: str, lost: str, cleanup: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever a client is lost, no lock is left, the page that comes back goes on, and so does the next message."""
    store, clock = WatchedStore(case.store()), Clock()
    server, sequencer = searching(store, clock)
    if cleanup == "no":
        without_cleanup(server, monkeypatch)
    wire = POSITIONS[position](chatkit_app(server, case.response), store)

    def wait() -> None:
        if cleanup == "no":
            gc.collect()  # what was cut off in an await is nobody's any more, and is in nobody's way
        if cleanup == "no" or position != "in an await":
            clock.now += BODY_SECONDS  # what rests at a `yield` is taken for abandoned

    async with serving(wire) as url:
        points = await LostClients(url, wire.point, sequencer).points(lost, case.then, wait)

    assert points >= (2 * case.operations[lost] if position == "in an await" else EVENTS[lost])
