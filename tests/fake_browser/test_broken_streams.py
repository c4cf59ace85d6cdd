"""A stream that breaks, or never ends, fails the test and tells what happened before."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from chatkit.server import NonStreamingResult, StreamingResult
from chatkit.types import ErrorEvent, ProgressUpdateEvent, ThreadItemUpdatedEvent
from pydantic import TypeAdapter

from chatkit_clienttools.testing import BrokenStreamError, FakeBrowser
from chatkit_clienttools.testing.browser import _connection
from chatkit_clienttools.testing.browser._wire import Frames, WireError
from tests.helpers.bodies import Server, asks, call, nothing, says, streams

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator


class TestBrokenStreams:
    async def test_an_exception(self) -> None:
        """What the server raises outside of a run breaks the stream, and the error tells what had happened."""
        browser = FakeBrowser(Server(nothing))
        await browser.send("Hello")

        with pytest.raises(BrokenStreamError) as caught:
            await browser.post("threads.add_client_tool_output", result={})

        assert isinstance(caught.value.__cause__, ValueError)
        assert caught.value.what.startswith("The stream is broken: ValueError: Last thread item in thr_")
        assert "What had happened:\nsays      Hello\nposts     threads.create\n" in str(caught.value)
        assert browser.transcript is caught.value.transcript

    async def test_a_call_before_the_stream_breaks(self) -> None:
        """A call of a response that was not read to its end is not run by the next operation: that may be elsewhere."""

        def breaks(kind: str, what: Any) -> None:
            if kind == "progress":
                raise ConnectionError

        body = streams(call, ProgressUpdateEvent(text="Wait."))
        browser = FakeBrowser(Server(body, says("Hello")), observer=breaks)
        with pytest.raises(ConnectionError):
            await browser.send("Go")

        browser.thread_id = None
        await browser.send("Go")

        assert ([], ["Hello"]) == (browser.calls, browser.texts[-1:])

    async def test_an_exception_before_the_stream(self) -> None:
        """A request that the server cannot read is broken as well, and so is one without a stream."""
        browser = FakeBrowser(Server(nothing))

        with pytest.raises(BrokenStreamError, match="ValidationError"):
            await browser.post("threads.invented")

    async def test_an_exception_where_no_stream_is_expected(self) -> None:
        """A page that cannot load its thread fails."""
        browser = FakeBrowser(Server(nothing))
        browser.thread_id = "thr_unknown"

        with pytest.raises(BrokenStreamError, match="NotFoundError"):
            await browser.reload()

    async def test_an_answer_where_a_stream_is_expected(self) -> None:
        """A server that just answers what it should stream is broken."""

        class Confused(Server):
            async def process(self, request: Any, context: Any) -> StreamingResult | NonStreamingResult:
                return NonStreamingResult(b"{}")

        with pytest.raises(BrokenStreamError, match="no stream came"):
            await FakeBrowser(Confused()).send("Go")

    async def test_a_stream_where_none_is_expected(self) -> None:
        """A server that streams what it should just answer is broken."""

        class Confused(Server):
            async def process(self, request: Any, context: Any) -> StreamingResult | NonStreamingResult:
                return await super().process(request.replace("threads.update", "threads.create"), context)

        browser = FakeBrowser(Confused(nothing))
        message: Any = {"content": [], "attachments": [], "inference_options": {}}

        with pytest.raises(BrokenStreamError, match="a stream came where an answer was expected"):
            await browser.fetch("threads.update", input=message)

    async def test_an_event_that_chatkit_does_not_know(self) -> None:
        """Each event is held against ChatKit's own types."""

        class Inventive(Server):
            async def _process_streaming(self, request: Any, context: Any) -> AsyncGenerator[bytes, None]:
                yield b'data: {"type": "thread.invented"}\n\n'

        with pytest.raises(BrokenStreamError, match=r"no event of ChatKit: .*thread\.invented"):
            await FakeBrowser(Inventive()).send("Go")

    async def test_a_stream_that_ends_in_the_middle(self) -> None:
        """A stream that ends in the middle of an event is broken."""

        class Short(Server):
            async def _process_streaming(self, request: Any, context: Any) -> AsyncGenerator[bytes, None]:
                yield b'data: {"type": "thread.'

        with pytest.raises(BrokenStreamError, match="ends in the middle of an event"):
            await FakeBrowser(Short()).send("Go")

    @pytest.mark.parametrize("said", [b"<html>502</html>\n\n", b"hello\n\n", b"event: error\n\n"])
    async def test_a_stream_of_something_else(self, said: bytes) -> None:
        """What has no data is no event; only a comment may stand there."""

        class Proxy(Server):
            async def _process_streaming(self, request: Any, context: Any) -> AsyncGenerator[bytes, None]:
                yield b": ping\n\n" + said

        with pytest.raises(BrokenStreamError, match="something without data came") as caught:
            await FakeBrowser(Proxy()).send("Go")

        assert "What had happened:\nsays      Go\nposts     threads.create" in str(caught.value)

    async def test_a_stream_without_events(self) -> None:
        """A stream without events is broken, because ChatKit sends at least one."""

        class Silent(Server):
            async def _process_streaming(self, request: Any, context: Any) -> AsyncGenerator[bytes, None]:
                yield b": ping\n\n"

        with pytest.raises(BrokenStreamError, match=r"no event came in answer to threads\.create"):
            await FakeBrowser(Silent()).send("Go")

    async def test_a_retry_of_what_is_gone(self) -> None:
        """A retry of a message that is gone may be answered without an event, because ChatKit sends none."""
        browser = FakeBrowser(Server(nothing))
        await browser.send("Go")

        events = await browser.post("threads.retry_after_item", item_id="msg_gone")

        assert [] == events

    async def test_a_thread_that_is_not_made_known(self) -> None:
        """A page that does not learn the id of its thread can say nothing more in it; an error says why."""

        class Secretive(Server):
            async def _process_streaming_impl(self, request: Any, context: Any) -> AsyncGenerator[Any, None]:
                async for event in super()._process_streaming_impl(request, context):
                    if event.type != "thread.created":
                        yield event

        class Failing(Server):
            async def _process_streaming_impl(self, request: Any, context: Any) -> AsyncGenerator[Any, None]:
                yield ErrorEvent(message="No database.")

        failing = FakeBrowser(Failing())

        with pytest.raises(BrokenStreamError, match=r"no thread\.created came"):
            await FakeBrowser(Secretive(says("Hello"))).send("Go")
        await failing.send("Go")

        assert ["No database."] == [error["message"] for error in failing.errors]

    @pytest.mark.skipif(sys.version_info < (3, 11), reason="a task does not tell whether it was cancelled")
    async def test_a_cancellation_of_the_servers_own(self) -> None:
        """A CancelledError that the server raises by itself breaks the stream, and does not end the test's task."""

        async def gives_up(thread: Any) -> AsyncIterator[Any]:
            raise asyncio.CancelledError
            yield

        with pytest.raises(BrokenStreamError, match="the server has raised CancelledError"):
            await FakeBrowser(Server(gives_up)).send("Go")

    async def test_a_cancellation_of_the_test(self) -> None:
        """Whoever cancels a test's task is not told that a stream broke."""

        async def hangs(thread: Any) -> AsyncIterator[Any]:
            await asyncio.Event().wait()
            yield

        task = asyncio.create_task(FakeBrowser(Server(hangs)).send("Go"))
        await asyncio.sleep(0.01)
        task.cancel()

        with pytest.raises(asyncio.CancelledError):
            await task

    @pytest.mark.parametrize(
        "update",
        [
            {"type": "assistant_message.content_part.text_delta", "content_index": 1, "delta": "x"},
            {"type": "workflow.task.added", "task_index": 0, "task": {"type": "custom"}},
        ],
    )
    async def test_a_change_of_what_is_not_there(self, update: Any) -> None:
        """A text that a message does not have cannot grow, and a message has no tasks."""

        async def grows(thread: Any) -> AsyncIterator[Any]:
            async for event in says("Hello")(thread):
                yield event
            yield TypeAdapter(ThreadItemUpdatedEvent).validate_python({"item_id": "msg_1", "update": update})

        with pytest.raises(BrokenStreamError, match="assistant_message msg_1 has nothing that this could change"):
            await FakeBrowser(Server(grows)).send("Go")

    async def test_a_server_that_does_not_come_back(self) -> None:
        """A stream that hangs is broken after the time limit."""

        async def hangs(thread: Any) -> AsyncIterator[Any]:
            await asyncio.Event().wait()
            yield

        with pytest.raises(BrokenStreamError, match=r"nothing came for 0\.01 seconds"):
            await FakeBrowser(Server(hangs), time_limit=0.01).send("Go")

    async def test_a_request_that_is_not_answered(self) -> None:
        """A request that gets no answer at all is broken after the time limit, whether a stream is expected or not."""

        class Silent(Server):
            async def process(self, request: Any, context: Any) -> Any:
                await asyncio.Event().wait()

        browser = FakeBrowser(Silent(nothing), time_limit=0.01)

        for posted in (browser.post("threads.create"), browser.fetch("threads.list")):
            with pytest.raises(BrokenStreamError, match=r"nothing came for 0\.01 seconds"):
                await posted

    async def test_an_event_that_comes_when_its_time_is_over(self) -> None:
        """An event that is ready in the moment in which its time is over is taken, and the stream goes on."""

        async def is_late(thread: Any) -> AsyncIterator[Any]:
            time.sleep(0.25)  # noqa: ASYNC251  nobody else can go on meanwhile, the timer included
            for text in ("Late.", "Here."):
                await asyncio.sleep(0)
                await asyncio.sleep(0)  # now the timer's turn has come, and ours is the next
                yield ProgressUpdateEvent(text=text)

        browser = FakeBrowser(Server(is_late), time_limit=0.2)

        await browser.send("Go")

        assert ["Late.", "Here."] == browser.progress

    async def test_a_task_group_that_is_open_while_events_come(self) -> None:
        """A server may hold a task group of anyio open from one event to the next, as a client of MCP does."""

        async def holds(thread: Any) -> AsyncIterator[Any]:
            async with anyio.create_task_group():
                for text in ("One.", "Two."):
                    await asyncio.sleep(0)
                    yield ProgressUpdateEvent(text=text)

        browser = FakeBrowser(Server(holds))

        await browser.send("Go")

        assert ["One.", "Two."] == browser.progress


class TestLimits:
    async def test_a_stream_that_trickles(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Each event is in time, and there is no end to them: an operation may take 60 times as long as an event."""
        assert 60 == _connection.TIMES
        monkeypatch.setattr(_connection, "TIMES", 6)  # it would take too long, or leave each event too little time

        async def trickles(thread: Any) -> AsyncIterator[Any]:
            while True:
                await asyncio.sleep(0.001)
                yield ProgressUpdateEvent(text="Almost there.")

        with pytest.raises(BrokenStreamError, match=r"no end to it: events still come after 0\.6 seconds"):
            await FakeBrowser(Server(trickles), time_limit=0.1).send("Go")

    async def test_a_server_that_asks_for_ever(self) -> None:
        """One operation runs at most `max_calls` calls, and the next one may run as many again."""
        a, b, c, d, e = (asks(item_id=f"tc_{n}") for n in range(5))
        browser = FakeBrowser(Server(a, b, nothing, c, d, e), max_calls=2)
        await browser.send("Go")

        with pytest.raises(BrokenStreamError, match="asked for 3 calls, and max_calls is 2"):
            await browser.send("Go on")

        assert 4 == len(browser.calls)

    async def test_a_server_that_takes_no_notice_of_stop(self) -> None:
        """Who goes on sending when it is cancelled would never end."""

        async def deaf(thread: Any) -> AsyncIterator[Any]:
            while True:
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.sleep(0.001)
                yield ProgressUpdateEvent(text="Still here.")

        browser = FakeBrowser(Server(deaf), time_limit=0.05)
        browser.stop(at=4)

        with pytest.raises(BrokenStreamError, match="goes on after Stop was pressed"):
            await browser.send("Go")


class TestFrames:
    def test_events_come_in_pieces(self) -> None:
        """Events are read however the bytes are cut, with either kind of line end, and between comments."""
        whole = b': ping\r\n\r\nevent: x\r\ndata: {"a":\r\ndata: "\xc3\xa4"}\r\n\r\ndata: 2\n\n'
        frames = Frames()

        found = [data for n in range(len(whole)) for data in frames.fed(whole[n : n + 1])]
        frames.end()

        assert ['{"a":\n"ä"}', "2"] == found

    def test_half_an_event_is_an_error(self) -> None:
        """Bytes that end in the middle of an event are an error."""
        frames = Frames()
        frames.fed(b"data: 1\n")

        with pytest.raises(WireError, match="in the middle"):
            frames.end()
