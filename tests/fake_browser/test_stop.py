"""Stop, pressed at each moment."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest
from chatkit.types import NoticeEvent, ProgressUpdateEvent

from chatkit_clienttools._step.exclusion import left_behind
from chatkit_clienttools.errors import UsageError
from chatkit_clienttools.testing import BrokenStreamError, FakeBrowser, FaultError
from chatkit_clienttools.testing.machine._server import rehearsal
from tests.helpers.bodies import Server, asks, call, nothing, says, streams, waiting_for_ever
from tests.helpers.stores import PlainStore

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator


class TestStop:
    async def test_what_a_server_has_begun_to_write_is_written(self) -> None:
        """A step that has begun comes to its end: who looks at the store afterwards does not race with it."""
        counts = []
        for events in range(1, 4):
            server = rehearsal(PlainStore(), time.time, receipts=True)
            browser = FakeBrowser(server)
            await browser.send("say something")
            browser.stop(events, if_reached=True)

            await browser.send("show, show and stop")
            counts.append(len(left_behind()))

        assert [0, 0, 0] == counts

    async def test_the_server_is_cancelled_where_it_waits(self) -> None:
        """Stop cancels the server where it waits, as a web server does, and calls that had arrived are not executed."""
        reached = []

        async def body(thread: Any) -> AsyncIterator[Any]:
            yield call(thread)
            reached.append("the wait")
            await asyncio.Event().wait()

        server = Server(body)
        browser = FakeBrowser(server)
        browser.stop(at=lambda event: event["type"] == "thread.item.done" and event["item"]["id"] == "tc_1")

        await browser.send("Go")

        assert (["the wait"], 1) == (reached, server.cancelled)
        assert ["shows"] == [delivery.name for delivery in browser.delivered]
        assert [] == browser.calls

    async def test_a_cancelled_server_is_cancelled_at_every_wait(self) -> None:
        """A cleanup that waits is cut off, as it is under anyio."""
        cleaned = []

        async def body(thread: Any) -> AsyncIterator[Any]:
            try:
                await asyncio.Event().wait()
                yield
            finally:
                cleaned.append("begun")
                await asyncio.Event().wait()
                cleaned.append("ended")

        browser = FakeBrowser(Server(body))
        browser.stop(at="stream_options")

        await browser.send("Go")

        assert ["begun"] == cleaned

    async def test_after_so_many_events(self) -> None:
        """A Stop after a number of events lets the page see no later event."""
        browser = FakeBrowser(Server(says("Hello")))
        browser.stop(at=2)

        await browser.send("Go")

        assert ["user_message"] == [item["type"] for item in browser.items]
        assert "stops     after 2 events" in str(browser.transcript)

    async def test_while_the_server_works(self) -> None:
        """Another task can press Stop while the server works and sends nothing."""
        server, browser, sending = await waiting_for_ever()

        browser.stop()
        await sending

        assert 1 == server.cancelled
        assert "stops     after 3 events" in str(browser.transcript)

    async def test_in_the_middle_at_an_event_to_come(self) -> None:
        """What is pressed in a response is for that response, though it may not be due yet."""

        def observe(kind: str, what: Any) -> None:
            if kind == "progress":
                browser.stop(at="notice")

        body = streams(
            ProgressUpdateEvent(text="1"), NoticeEvent(level="info", message="2"), ProgressUpdateEvent(text="3")
        )
        browser = FakeBrowser(Server(body), observer=observe)

        await browser.send("Go")

        assert (["1"], 1) == (browser.progress, len(browser.notices))

    async def test_an_event_is_waited_for_in_all_that_an_operation_does(self) -> None:
        """A message is answered by calls, and they by words: Stop is pressed where the words come."""
        server = Server(asks(), says("Done."))
        browser = FakeBrowser(server)
        browser.stop(at=lambda event: event.get("item", {}).get("type") == "assistant_message")

        await browser.send("Go")

        assert [{}] == server.answers
        assert str(browser.transcript).endswith("stops     after 2 events")

    async def test_a_number_counts_the_events_of_one_response(self) -> None:
        """The next response has four, so the second of the two that come after is not cut off either."""
        browser = FakeBrowser(Server(asks(), says("Done.")))
        browser.stop(at=5, if_reached=True)

        await browser.send("Go")

        assert ["Done."] == browser.texts

    @pytest.mark.parametrize(("how", "at"), [("stop", "notice"), ("stop", 100), ("drop", 100)])
    async def test_a_cut_that_is_never_reached_fails_the_test(self, how: str, at: Any) -> None:
        """A stop or drop that is never reached fails the test, lists the events that came, and is then gone."""
        browser = FakeBrowser(Server(asks(), says("One", "msg_1"), says("Two", "msg_2")))
        getattr(browser, how)(at)

        with pytest.raises(FaultError) as caught:
            await browser.send("First")
        await browser.send("Second")

        named = f"stop(at={at!r})" if how == "stop" else f"drop(after={at!r})"
        first = "4 (thread.created, thread.item.done, stream_options, thread.item.done)"
        second = "2 (stream_options, thread.item.done)"
        came = f"the responses had these events: {first}; and {second}"
        assert f"{named} was never reached: {came}" == caught.value.what
        assert ["One", "Two"] == browser.texts

    @pytest.mark.parametrize("is_in_a_tab", [False, True])
    async def test_a_cut_that_nothing_came_after_fails_the_test(self, is_in_a_tab: bool) -> None:
        """At the end of the block, in whichever tab it was set."""

        async def test() -> None:
            async with FakeBrowser(Server(says("Done."))) as browser:
                await browser.send("Go")
                (browser.tab() if is_in_a_tab else browser).drop(after=1)

        with pytest.raises(FaultError) as caught:
            await test()

        assert caught.value.what == "drop(after=1) was never reached: nothing was done after it"

    async def test_a_block_that_fails_fails_for_what_it_failed_for(self) -> None:
        """A cut that was set is still to come then; and one that need not come is no failure."""

        async def test(*, fails: bool) -> None:
            async with FakeBrowser(Server(says("Done."))) as browser:
                browser.stop(if_reached=not fails)
                assert not fails, "what it failed for"

        await test(fails=False)
        with pytest.raises(AssertionError, match="what it failed for"):
            await test(fails=True)

    async def test_what_repeats_and_what_is_empty_is_told_in_short(self) -> None:
        """A hundred deltas are one word, and a response may have no event at all."""

        class Silent(Server):
            async def _process_streaming(self, request: Any, context: Any) -> AsyncGenerator[bytes, None]:
                return
                yield

        browser = FakeBrowser(Server(streams(*[ProgressUpdateEvent(text="x")] * 3)))
        silent = FakeBrowser(Silent())
        browser.stop(at=lambda _: False)
        silent.stop(at="notice")

        with pytest.raises(FaultError, match=r"stop\(at=<lambda>\).* 6 \(.*, progress_update \(x3\)\)"):
            await browser.send("Go")
        with pytest.raises(FaultError, match="had these events: none"):
            await silent.post("threads.retry_after_item", thread_id="thr_1", item_id="msg_gone")

    async def test_another_error_goes_first(self) -> None:
        """A broken stream is what broke, whether a cut was still to come or not; the cut is gone."""
        browser = FakeBrowser(Server(nothing))
        await browser.send("Go")
        browser.stop(at="notice")

        with pytest.raises(BrokenStreamError):
            await browser.post("threads.add_client_tool_output", result={})

        browser.stop()

    async def test_it_holds_for_whatever_is_under_way(self) -> None:
        """A cut may happen in either of two operations, and is missed when both have ended."""
        browser = FakeBrowser(Server(asks(), nothing, nothing), answering="when told")
        await browser.send("Go")
        browser.stop(at="notice")

        action = {"type": "press", "payload": None}

        with pytest.raises(FaultError, match=r"1 \(stream_options\); and 1 \(stream_options\)"):
            await asyncio.gather(browser.answer(), browser.post("threads.custom_action", action=action))

    async def test_it_may_be_set_while_a_tool_is_executed(self) -> None:
        """A Stop that is set while a tool is executed applies to the next response."""

        def shows(params: Any) -> None:
            browser.stop(at=1)

        browser = FakeBrowser(Server(asks(), says("Done.")), handlers={"shows": shows})

        await browser.send("Go")

        assert ([], True) == (browser.texts, str(browser.transcript).endswith("stops     after 1 events"))

    async def test_it_may_be_pressed_twice(self) -> None:
        """Pressing Stop twice cancels the server once."""
        server, browser, sending = await waiting_for_ever()

        browser.stop()
        browser.stop()
        await sending

        assert 1 == server.cancelled

    def test_there_is_one_cut_at_a_time(self) -> None:
        """Which of two would come first, nobody could tell from the test."""
        browser = FakeBrowser(Server())
        browser.stop(at="notice")

        with pytest.raises(UsageError, match=r"drop\(after=3\) cannot be: stop\(at='notice'\) is still to happen"):
            browser.drop(3)

    async def test_a_function_that_fails(self) -> None:
        """If the function of `stop(at=...)` raises, the error says so, and for which event."""
        browser = FakeBrowser(Server(nothing))
        browser.stop(at=lambda event: event["item"] == "x")

        with pytest.raises(FaultError, match=r"function of stop\(at=<lambda>\) has raised KeyError.*thread\.created"):
            await browser.send("Go")

    async def test_a_function_is_asked_once_for_each_event(self) -> None:
        """The function of `stop(at=...)` is called once for each event, so that it may count them."""
        asked: list[str] = []

        def second(event: Any) -> bool:
            asked.append(event["type"])
            return len(asked) == 2

        browser = FakeBrowser(Server(says("Hello")))
        browser.stop(at=second)

        await browser.send("Go")

        assert ["thread.created", "thread.item.done"] == asked

    async def test_the_page_may_answer_all_the_same(self) -> None:
        """A call that had arrived before Stop can be executed afterwards."""
        server = Server(asks(), nothing)
        browser = FakeBrowser(server)
        browser.stop(at=4)

        await browser.send("Go")
        await browser.answer()

        assert [("shows", {})] == browser.calls
