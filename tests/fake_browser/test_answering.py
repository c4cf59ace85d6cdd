"""When a page posts its answers: at once, twice, late, or never."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest
from chatkit.types import ProgressUpdateEvent

from chatkit_clienttools.stores import MemoryStore
from chatkit_clienttools.testing import BrokenStreamError, FakeBrowser, MissingHandlerError
from chatkit_clienttools.testing.machine._server import rehearsal
from tests.helpers.bodies import Server, asks, call, nothing, says

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator


class TestAnswering:
    async def test_at_once(self) -> None:
        """The answer is posted while the stream that brought the call is still open."""
        order = []

        async def asking(thread: Any) -> AsyncIterator[Any]:
            yield call(thread)
            order.append("the stream goes on")

        server = Server(asking, nothing)
        browser = FakeBrowser(server, handlers=lambda name, params: order.append("executed"), answering="at once")

        await browser.send("Go")

        assert ["executed", "the stream goes on"] == order
        assert [None] == server.answers

    async def test_at_once_while_the_stream_is_read_on(self) -> None:
        """A server may hold a lock over its stream: the page reads that to its end, and the answer is taken then."""
        lock = asyncio.Lock()

        class Locking(Server):
            async def _process_streaming(self, request: Any, context: Any) -> AsyncGenerator[bytes, None]:
                async with lock:
                    async for chunk in super()._process_streaming(request, context):
                        yield chunk

        browser = FakeBrowser(Locking(asks(), says("Done.")), answering="at once", time_limit=1)

        await browser.send("Go")

        assert ["Done."] == browser.texts

    async def test_at_once_in_a_stream_that_breaks(self) -> None:
        """If a stream breaks, an answer that is being posted at once ends with it."""

        async def waits(thread: Any) -> AsyncIterator[Any]:
            await asyncio.Event().wait()
            yield

        def fails(kind: str, what: Any) -> None:
            if kind == "progress":
                raise RuntimeError("the test's mistake")

        async def asking(thread: Any) -> AsyncIterator[Any]:
            yield call(thread)
            yield ProgressUpdateEvent(text="Wait.")

        browser = FakeBrowser(Server(asking, waits), answering="at once", observer=fails)

        with pytest.raises(RuntimeError, match="the test's mistake"):
            await browser.send("Go")

        assert 1 == len(asyncio.all_tasks())

    async def test_at_once_and_the_handler_fails(self) -> None:
        """What the answer raises comes out when the stream has ended."""
        browser = FakeBrowser(Server(asks()), handlers={}, answering="at once")

        with pytest.raises(MissingHandlerError):
            await browser.send("Go")

    async def test_twice(self) -> None:
        """With answering="twice" a call is executed once and posted twice; plain ChatKit breaks at the second post."""
        server = Server(asks(), nothing)
        browser = FakeBrowser(server, answering="twice")

        with pytest.raises(BrokenStreamError, match="was not a ClientToolCallItem"):
            await browser.send("Go")

        assert [("shows", {})] == browser.calls
        assert [{}, {}] == server.answers

    async def test_twice_at_once(self) -> None:
        """With answering="twice at once" both posts are under way together, and both end though one breaks."""
        server = Server(asks(), nothing)
        browser = FakeBrowser(server, answering="twice at once")

        with pytest.raises(BrokenStreamError, match="was not a ClientToolCallItem"):
            await browser.send("Go")

        assert [("shows", {})] == browser.calls
        assert [{}, {}] == server.answers
        assert [] == server.bodies

    @pytest.mark.parametrize("answering", ["twice", "twice at once"])
    async def test_a_server_may_take_it(self, answering: Any) -> None:
        """With a `ClientToolServer` the second post of an answer changes nothing."""
        browser = FakeBrowser(rehearsal(MemoryStore(), time.time, receipts=True), answering=answering)

        await browser.send("show, get, show and stop")

        assert ["shows", "gets", "shows", "stops"] == [call.name for call in browser.calls]
        assert ["This is run 1.", "This is run 2."] == browser.texts

    async def test_a_call_that_is_no_longer_there(self) -> None:
        """A late answer to a call that was cancelled meanwhile."""
        browser = FakeBrowser(rehearsal(MemoryStore(), time.time, receipts=True), answering="when told")
        await browser.send("show one")
        await browser.send("say something")
        await browser.reload()

        await browser.answer(0)

        assert ["user_message", "assistant_message"] * 2 == [item["type"] for item in browser.items]

    async def test_never_and_late(self) -> None:
        """The call is executed and its answer kept, until it is posted late."""
        server = Server(asks(), says("Done."))
        browser = FakeBrowser(server, answering="never")

        await browser.send("Go")
        assert ([("shows", {})], []) == (browser.calls, server.answers)
        await browser.answer()

        assert ([("shows", {})], [{}]) == (browser.calls, server.answers)
        assert ["Done."] == browser.texts

    async def test_when_told(self) -> None:
        """The call is not even executed before `answer`."""
        server = Server(asks(), nothing)
        browser = FakeBrowser(server, answering="when told")

        await browser.send("Go")
        assert [] == browser.calls
        assert {} == await browser.execute()
        assert [] == server.answers
        await browser.answer()

        assert [("shows", {})] == browser.calls
        assert [{}] == server.answers

    async def test_an_older_call(self) -> None:
        """The answer to a call is posted again while the next is pending: without receipts it is taken for that."""
        server = Server(asks(item_id="tc_1"), asks(item_id="tc_2"), nothing)
        browser = FakeBrowser(server, handlers=lambda name, params: len(browser.calls), answering="when told")
        await browser.send("Go")
        await browser.answer()

        await browser.answer(0)
        await browser.reload()

        assert [1, 1] == server.answers
        assert [("tc_1", 1), ("tc_2", 1)] == [(i["id"], i["output"]) for i in browser.items if "output" in i]
