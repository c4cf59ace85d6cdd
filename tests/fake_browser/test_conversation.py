"""A page without faults: it posts, reads, executes and answers, and says what it saw."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from chatkit.types import ProgressUpdateEvent

from chatkit_clienttools.testing import FakeBrowser, MissingHandlerError
from tests.helpers.bodies import Server, asks, merak, nothing, says, streams
from tests.helpers.merak import THREE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class TestConversation:
    async def test_a_tool_with_three_calls(self) -> None:
        """A message, three calls in order, an answer to each, and one word of the assistant."""
        browser = FakeBrowser(merak(), handlers={"run_search_animation": print, "display_agent_profiles": print})

        await browser.send("Who knows about law?")

        assert browser.calls == THREE
        assert browser.texts == ["There."]
        assert browser.errors == []

    async def test_it_goes_on_with_its_thread(self) -> None:
        """The first message opens a thread, the next ones belong to it."""
        server = Server(says("One.", "msg_1"), says("Two.", "msg_2"))
        browser = FakeBrowser(server)

        await browser.send("First")
        await browser.send("Second")

        assert ["threads.create", "threads.add_user_message"] == [kind for kind, _ in server.posted]
        assert browser.thread_id == server.posted[1][1]["thread_id"]
        assert ["One.", "Two."] == browser.texts

    async def test_handlers_can_be_async(self) -> None:
        """What a handler returns is awaited, if it can be."""

        async def shows(params: Any) -> Any:
            return [params["n"]]

        server = Server(asks(n=7), nothing)

        await FakeBrowser(server, handlers={"shows": shows}).send("Go")

        assert [[7]] == server.answers

    async def test_one_function_can_handle_all(self) -> None:
        """One function can handle every client tool, as `onClientTool` does."""
        server = Server(asks(n=7), nothing)

        await FakeBrowser(server, handlers=lambda name, params: [name, params]).send("Go")

        assert [["shows", {"n": 7}]] == server.answers

    async def test_a_missing_handler_fails_the_test(self) -> None:
        """A tool that nobody has written is not answered, but named."""
        browser = FakeBrowser(Server(asks("blinks")), handlers={"shows": print})

        with pytest.raises(MissingHandlerError, match=r"'blinks'; the page has handlers for \['shows'\]"):
            await browser.send("Go")

    async def test_an_observer_is_told_of_each_step(self) -> None:
        """An observer is told of each step while it happens, with what the step is about."""
        told: list[tuple[str, Any]] = []
        browser = FakeBrowser(Server(asks(n=7), says("Done.")), observer=lambda kind, what: told.append((kind, what)))

        await browser.send("Go")

        assert [("says", "Go"), ("gets", ("shows", {"n": 7})), ("answers", {}), ("reads", "Done.")] == told

    async def test_it_can_post_any_request(self) -> None:
        """`post` returns the events and runs no client tool."""
        server = Server(asks())
        browser = FakeBrowser(server)
        message: Any = {"content": [], "attachments": [], "inference_options": {}}

        events = await browser.post("threads.create", input=message)

        assert ["thread.created", "thread.item.done", "stream_options", "thread.item.done"] == [
            e["type"] for e in events
        ]
        assert [] == browser.calls
        assert 1 == len(server.posted)

    async def test_it_can_fetch_anything(self) -> None:
        """`fetch` returns the answer to a request that has no stream."""
        browser = FakeBrowser(Server(nothing))
        await browser.send("Go")

        page = await browser.fetch("threads.list")

        assert [browser.thread_id] == [thread["id"] for thread in page["data"]]

    async def test_what_a_server_leaves_open_is_closed(self) -> None:
        """A generator that the server has left in the middle is closed when the page is done, to its last step."""
        reached = []

        async def inner(thread: Any) -> AsyncIterator[Any]:
            try:
                while True:
                    yield ProgressUpdateEvent(text="Almost there.")
            finally:
                for _ in range(5):
                    await asyncio.sleep(0)
                reached.append("its end")

        async def leaves(thread: Any) -> AsyncIterator[Any]:
            async for event in inner(thread):
                yield event
                break

        browser = FakeBrowser(Server(leaves, leaves))

        await browser.send("Go")
        await browser.post("threads.retry_after_item", item_id=browser.items[0]["id"])

        assert ["its end", "its end"] == reached


class TestReceipts:
    async def test_a_receipt_comes_back_with_the_answer(self) -> None:
        """The handler gets clean params, and the server the receipt."""
        server = Server(asks(n=7, _receipt="r1"), nothing)
        browser = FakeBrowser(server, handlers={"shows": lambda params: "shown"})

        await browser.send("Go")

        assert [("shows", {"n": 7})] == browser.calls
        assert [{"_receipt": "r1", "result": "shown"}] == server.answers

    async def test_a_receipt_is_executed_once(self) -> None:
        """A call that comes again under another id is answered again, and not executed; not after a reload either."""
        server = Server(asks(item_id="tc_1", _receipt="r1"), nothing, asks(item_id="tc_2", _receipt="r1"), nothing)
        browser = FakeBrowser(server, handlers={"shows": lambda params: "shown"})

        await browser.send("Go")
        await browser.reload()
        await browser.action("again")

        assert [("shows", {})] == browser.calls
        assert [{"_receipt": "r1", "result": "shown"}] * 2 == server.answers

    async def test_a_page_without_receipts_touches_nothing(self) -> None:
        """A page without receipts passes params as they are, answers bare, and executes what comes again."""
        server = Server(asks(item_id="tc_1", _receipt="r1"), asks(item_id="tc_2", _receipt="r1"), nothing)
        browser = FakeBrowser(server, handlers={"shows": lambda params: "shown"}, receipts=False)

        await browser.send("Go")

        assert [("shows", {"_receipt": "r1"})] * 2 == browser.calls
        assert ["shown", "shown"] == server.answers

    async def test_an_execution_that_was_cancelled_is_done_again(self) -> None:
        """A test that gives up on a handler has not executed it."""
        started = asyncio.Event()

        async def shows(params: Any) -> str:
            if not started.is_set():
                started.set()
                await asyncio.Event().wait()
            return "shown"

        server = Server(asks(_receipt="r1"), nothing)
        browser = FakeBrowser(server, handlers={"shows": shows})
        sending = asyncio.create_task(browser.send("Go"))
        await started.wait()
        sending.cancel()
        await asyncio.wait([sending])

        await browser.answer()

        assert [{"_receipt": "r1", "result": "shown"}] == server.answers


class TestTranscript:
    async def test_it_reads(self) -> None:
        """What was done and seen, a line each; what repeats is counted."""
        browser = FakeBrowser(Server(asks(n=1), streams(*[ProgressUpdateEvent(text="x" * 200)] * 2)))

        await browser.send("Go")

        lines = str(browser.transcript).split("\n")
        assert ["says      Go", "posts     threads.create", "event     thread.created"] == lines[:3]
        assert 'gets      shows {"n": 1}' in lines
        assert "answers   shows {}" in lines
        assert f"progress  {'x' * 157}..." in lines

    async def test_what_repeats_is_counted(self) -> None:
        """A hundred deltas are one line."""
        browser = FakeBrowser(Server(nothing, nothing))
        await browser.send("Go")
        await browser.rename("A")
        await browser.reload()
        await browser.reload()

        transcript = browser.transcript
        transcript.add(1, "event", "x")
        transcript.add(1, "event", "x")

        assert str(transcript).endswith("event     x (x2)")

    async def test_a_failing_assertion_shows_the_last_steps(self) -> None:
        """`repr` is short enough for an assertion's message."""
        browser = FakeBrowser(Server(says("Hello")))
        await browser.send("Go")

        assert f"<FakeBrowser on {browser.thread_id}: <7 steps, the last: event" in repr(browser)
        assert repr(browser).endswith("reads Hello>>")
