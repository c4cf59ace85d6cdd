"""The fake browser does to a server what it says: each fault happens, and a broken stream fails."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import chatkit.types
import pytest
from agents import RunContextWrapper, function_tool
from chatkit.agents import AgentContext  # noqa: TC002  read at run time
from chatkit.server import ChatKitServer, NonStreamingResult, StreamingResult
from chatkit.types import (
    AssistantMessageItem,
    ClientEffectEvent,
    ClientToolCallItem,
    ErrorEvent,
    HiddenContextItem,
    NoticeEvent,
    ProgressUpdateEvent,
    ThreadItemAddedEvent,
    ThreadItemDoneEvent,
    ThreadItemRemovedEvent,
    ThreadItemReplacedEvent,
    ThreadItemUpdatedEvent,
    WidgetItem,
    WorkflowItem,
)
from pydantic import BaseModel, TypeAdapter
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from chatkit_clienttools import ClientToolSequencer
from chatkit_clienttools._step.exclusion import left_behind
from chatkit_clienttools.errors import UsageError
from chatkit_clienttools.stores import MemoryStore
from chatkit_clienttools.testing import BrokenStreamError, FakeBrowser, FaultError, HandlerError, MissingHandlerError
from chatkit_clienttools.testing.browser._wire import Frames, OverHttp, WireError
from chatkit_clienttools.testing.machine._server import rehearsal
from tests.helpers.http import chatkit_app, serving
from tests.helpers.merak import (
    THREE,
    TOOLS,
    PlainServer,
    SequencedServer,
    animation,
    calls,
    profiles,
    speaks,
)
from tests.helpers.scripted import Scripted
from tests.helpers.stores import PlainStore

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable

    from starlette.requests import Request

sequencer = ClientToolSequencer(TOOLS)


@function_tool
async def search(ctx: RunContextWrapper[AgentContext[Any]], query: str) -> str:
    """Find people."""
    sequencer.enqueue(ctx, animation(state="start"), profiles(agents=["Ada"]), animation(state="stop"))
    return "1 agent is on screen."


def merak() -> SequencedServer:
    steps = [[calls("search", {"query": "law"})], speaks("There.")]
    return SequencedServer(MemoryStore(), steps, [search], sequencer=sequencer)


class Server(ChatKitServer[Any]):
    """A server whose runs are written by the test, in order; it takes down what is posted to it."""

    def __init__(self, *bodies: Callable[..., AsyncIterator[Any]]) -> None:
        super().__init__(PlainStore())
        self.bodies = list(bodies)
        self.posted: list[tuple[str, Any]] = []
        self.cancelled = 0

    async def process(self, request: Any, context: Any) -> StreamingResult | NonStreamingResult:
        posted = json.loads(request)
        self.posted.append((posted["type"], posted["params"]))
        return await super().process(request, context)

    async def respond(self, thread: Any, input_user_message: Any, context: Any) -> AsyncIterator[Any]:
        async for event in self.bodies.pop(0)(thread):
            yield event

    def action(self, thread: Any, action: Any, sender: Any, context: Any) -> AsyncIterator[Any]:
        return self.respond(thread, None, context)

    async def handle_stream_cancelled(self, thread: Any, pending_items: Any, context: Any) -> None:
        self.cancelled += 1

    @property
    def answers(self) -> list[Any]:
        return [params["result"] for kind, params in self.posted if kind == "threads.add_client_tool_output"]


def item(model: Any, thread: Any, item_id: str, **fields: Any) -> Any:
    return TypeAdapter(model).validate_python(
        {"id": item_id, "thread_id": thread.id, "created_at": "2026-01-01T12:00:00", **fields}
    )


def done(model: Any, thread: Any, item_id: str, **fields: Any) -> ThreadItemDoneEvent:
    return ThreadItemDoneEvent(item=item(model, thread, item_id, **fields))


def call(thread: Any, name: str = "shows", item_id: str = "tc_1", **arguments: Any) -> ThreadItemDoneEvent:
    return done(ClientToolCallItem, thread, item_id, call_id=item_id, name=name, arguments=arguments)


def says(text: str, item_id: str = "msg_1") -> Callable[..., AsyncIterator[Any]]:
    async def body(thread: Any) -> AsyncIterator[Any]:
        yield done(AssistantMessageItem, thread, item_id, content=[{"type": "output_text", "text": text}])

    return body


def asks(name: str = "shows", item_id: str = "tc_1", **arguments: Any) -> Callable[..., AsyncIterator[Any]]:
    async def body(thread: Any) -> AsyncIterator[Any]:
        yield call(thread, name, item_id, **arguments)

    return body


async def nothing(thread: Any) -> AsyncIterator[Any]:
    return
    yield


def streams(*events: Any) -> Callable[..., AsyncIterator[Any]]:
    async def body(thread: Any) -> AsyncIterator[Any]:
        for event in events:
            yield event(thread) if callable(event) else event

    return body


async def waiting_for_ever() -> tuple[Server, FakeBrowser, asyncio.Task[None]]:
    """A page that has written, to a server that works and sends nothing more."""
    waits = asyncio.Event()

    async def body(thread: Any) -> AsyncIterator[Any]:
        waits.set()
        await asyncio.Event().wait()
        yield

    server = Server(body)
    browser = FakeBrowser(server)
    sending = asyncio.create_task(browser.send("Go"))
    await waits.wait()
    return server, browser, sending


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
        """As `onClientTool` does."""
        server = Server(asks(n=7), nothing)

        await FakeBrowser(server, handlers=lambda name, params: [name, params]).send("Go")

        assert [["shows", {"n": 7}]] == server.answers

    async def test_a_missing_handler_fails_the_test(self) -> None:
        """A tool that nobody has written is not answered, but named."""
        browser = FakeBrowser(Server(asks("blinks")), handlers={"shows": print})

        with pytest.raises(MissingHandlerError, match=r"'blinks'; the page has handlers for \['shows'\]"):
            await browser.send("Go")

    async def test_an_observer_is_told_of_each_step(self) -> None:
        """Each step, while it happens, with what it is about."""
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


class TestErrorsOfHandlers:
    @staticmethod
    def raises(params: Any) -> Any:
        raise RuntimeError("no canvas")

    async def test_an_error_is_reported(self) -> None:
        """A page without receipts answers with an error report."""
        server = Server(asks(), nothing)

        await FakeBrowser(server, handlers={"shows": self.raises}).send("Go")

        assert [{"error": "no canvas"}] == server.answers

    async def test_an_error_can_be_answered_in_another_way(self) -> None:
        """What ChatKit.js posts is not known, so it can be said."""
        server = Server(asks(), nothing)

        await FakeBrowser(server, handlers={"shows": self.raises}, on_error=lambda error: None).send("Go")

        assert [None] == server.answers

    async def test_an_error_with_a_receipt_is_reported_with_it(self) -> None:
        """`client-tools.js` reports errors itself."""
        server = Server(asks(_receipt="r1"), nothing)

        await FakeBrowser(server, handlers={"shows": self.raises}, on_error=lambda error: None).send("Go")

        assert [{"_receipt": "r1", "error": "no canvas"}] == server.answers

    async def test_the_transcript_names_it(self) -> None:
        """The page reports a text; who reads the transcript sees what it was."""
        browser = FakeBrowser(Server(asks(), nothing), handlers={"shows": self.raises})

        await browser.send("Go")

        assert "raises    shows RuntimeError: no canvas" in str(browser.transcript).split("\n")

    async def test_an_assertion_fails_the_test(self) -> None:
        """What a test asserts in a handler is no answer of the page; the error has the transcript."""

        def expects(params: Any) -> None:
            assert params == {"n": 8}, "eight were expected"

        browser = FakeBrowser(Server(asks(n=7)), handlers={"shows": expects})

        with pytest.raises(HandlerError, match="'shows' has failed: eight were expected") as caught:
            await browser.send("Go")

        assert isinstance(caught.value.__cause__, AssertionError)
        assert 'gets      shows {"n": 7}' in str(caught.value)

    @pytest.mark.parametrize("answer", [float("nan"), {"n": [float("inf")]}])
    async def test_an_answer_has_no_nan(self, answer: Any) -> None:
        """A page cannot post it, though Python would."""
        browser = FakeBrowser(Server(asks()), handlers={"shows": lambda params: answer})

        with pytest.raises(HandlerError, match=r"'shows' has answered with a .* which is not JSON: Out of range"):
            await browser.send("Go")

    async def test_an_answer_is_json(self) -> None:
        """What cannot be posted is named, with the cure."""

        class Answer(BaseModel):
            n: int

        browser = FakeBrowser(Server(asks(_receipt="r1")), handlers={"shows": lambda params: Answer(n=1)})

        with pytest.raises(
            HandlerError, match=r"'shows' has answered with a Answer, which is not JSON.*model_dump\(mo"
        ):
            await browser.send("Go")

    async def test_a_test_that_fails_in_a_handler_has_failed(self) -> None:
        """`pytest.fail` and `pytest.skip` are no errors of the page."""

        def fails(params: Any) -> None:
            pytest.fail("no such call was expected")

        browser = FakeBrowser(Server(asks()), handlers={"shows": fails})

        with pytest.raises(pytest.fail.Exception, match="no such call"):
            await browser.send("Go")

    @pytest.mark.parametrize("is_async", [True, False])
    async def test_a_handler_that_does_not_return(self, is_async: bool) -> None:
        """It has the time that an event may take; one that is not async is found out when it has returned at last."""

        async def waits(params: Any) -> None:
            await asyncio.Event().wait()

        handlers = {"shows": waits if is_async else lambda params: time.sleep(0.1)}
        browser = FakeBrowser(Server(asks()), handlers=handlers, time_limit=0.05)

        with pytest.raises(HandlerError, match=r"'shows' has not returned for 0\.05 seconds: .*time_limit"):
            await browser.send("Go")

    async def test_a_handler_may_change_what_it_is_given(self) -> None:
        """What was asked for stays what it was."""

        def takes(params: Any) -> None:
            params["n"].clear()

        browser = FakeBrowser(Server(asks(n=[7]), nothing), handlers={"shows": takes})

        await browser.send("Go")

        assert ([("shows", {"n": [7]})], {"n": [7]}) == (browser.calls, browser.delivered[0].params)
        assert [{"n": [7]}] == [item["arguments"] for item in browser.items if item["type"] == "client_tool_call"]

    async def test_an_error_without_a_message_is_named(self) -> None:
        """An empty report would say nothing."""

        def raises(params: Any) -> Any:
            raise KeyError

        server = Server(asks(), nothing)

        await FakeBrowser(server, handlers={"shows": raises}).send("Go")

        assert [{"error": "KeyError"}] == server.answers


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
        """It passes params as they are, answers bare, and executes what comes again."""
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
        """The answer goes with it."""

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
        """One execution, two posts, one after the other: plain ChatKit's stream breaks at the second."""
        server = Server(asks(), nothing)
        browser = FakeBrowser(server, answering="twice")

        with pytest.raises(BrokenStreamError, match="was not a ClientToolCallItem"):
            await browser.send("Go")

        assert [("shows", {})] == browser.calls
        assert [{}, {}] == server.answers

    async def test_twice_at_once(self) -> None:
        """Both posts are under way together, and both come to their ends though one of them breaks."""
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
        """As by a web server; what it would have sent is not seen, and what it sent is not acted upon."""
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
        """The event after them is not seen."""
        browser = FakeBrowser(Server(says("Hello")))
        browser.stop(at=2)

        await browser.send("Go")

        assert ["user_message"] == [item["type"] for item in browser.items]
        assert "stops     after 2 events" in str(browser.transcript)

    async def test_while_the_server_works(self) -> None:
        """Another task presses Stop while nothing comes."""
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
        """It did not try what it was written for; the error has the events that came, and the cut is gone."""
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
        """Between two responses, that is the next one."""

        def shows(params: Any) -> None:
            browser.stop(at=1)

        browser = FakeBrowser(Server(asks(), says("Done.")), handlers={"shows": shows})

        await browser.send("Go")

        assert ([], True) == (browser.texts, str(browser.transcript).endswith("stops     after 1 events"))

    async def test_it_may_be_pressed_twice(self) -> None:
        """By somebody who is impatient."""
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
        """It is told that it was the function, and for which event."""
        browser = FakeBrowser(Server(nothing))
        browser.stop(at=lambda event: event["item"] == "x")

        with pytest.raises(FaultError, match=r"function of stop\(at=<lambda>\) has raised KeyError.*thread\.created"):
            await browser.send("Go")

    async def test_a_function_is_asked_once_for_each_event(self) -> None:
        """It may count."""
        asked: list[str] = []

        def second(event: Any) -> bool:
            asked.append(event["type"])
            return len(asked) == 2

        browser = FakeBrowser(Server(says("Hello")))
        browser.stop(at=second)

        await browser.send("Go")

        assert ["thread.created", "thread.item.done"] == asked

    async def test_the_page_may_answer_all_the_same(self) -> None:
        """What had arrived can be executed afterwards."""
        server = Server(asks(), nothing)
        browser = FakeBrowser(server)
        browser.stop(at=4)

        await browser.send("Go")
        await browser.answer()

        assert [("shows", {})] == browser.calls


class TestDrop:
    async def test_the_server_does_not_notice(self) -> None:
        """It rests at its `yield`, and neither goes on nor is cancelled."""
        reached = []

        async def body(thread: Any) -> AsyncIterator[Any]:
            try:
                yield call(thread)
                reached.append("after the yield")
            finally:
                reached.append("its end")

        server = Server(body)
        browser = FakeBrowser(server)
        browser.drop(after=4)

        await browser.send("Go")

        assert ([], 0) == (reached, server.cancelled)
        assert ["shows"] == [delivery.name for delivery in browser.delivered]

    async def test_the_request_can_be_posted_again(self) -> None:
        """As ChatKit.js does when a stream breaks."""
        server = Server(asks(), nothing, nothing)
        browser = FakeBrowser(server, answering="when told")
        await browser.send("Go")
        browser.drop(after=0)
        await browser.answer()

        await browser.repost()

        assert [{}, {}] == server.answers
        assert "drops     after 0 events" in str(browser.transcript)


class TestItsEnd:
    @staticmethod
    def noting(reached: list[str]) -> Callable[..., AsyncIterator[Any]]:
        async def inner(thread: Any) -> AsyncIterator[Any]:
            try:
                yield call(thread)
            finally:
                await asyncio.sleep(0)
                reached.append("its end")

        async def body(thread: Any) -> AsyncIterator[Any]:
            async for event in inner(thread):
                yield event

        return body

    async def test_what_was_dropped_ends_with_the_browser(self) -> None:
        """The server hears of it then, down to the last of its generators."""
        reached: list[str] = []

        async with FakeBrowser(Server(self.noting(reached))) as browser:
            browser.drop(after=4)
            await browser.send("Go")
            before = list(reached)

        assert ([], ["its end"]) == (before, reached)

    async def test_a_tab_ends_what_all_tabs_have_dropped(self) -> None:
        """They are one browser; and there is nothing left to do when it is ended again."""
        reached: list[str] = []
        browser = FakeBrowser(Server(self.noting(reached)))
        browser.drop(after=4)
        await browser.send("Go")

        await browser.tab().aclose()
        await browser.aclose()

        assert ["its end"] == reached

    async def test_a_server_may_fail_there(self) -> None:
        """Nobody hears of it but the transcript, nor waits for longer than the time limit."""

        class Failing(Server):
            async def _process_streaming(self, request: Any, context: Any) -> AsyncGenerator[bytes, None]:
                try:
                    yield b'data: {"type": "progress_update", "text": "x"}\n\n'
                finally:
                    raise RuntimeError("away")

        browser = FakeBrowser(Failing())
        browser.drop(after=1)
        await browser.send("Go")

        await browser.aclose()

        assert str(browser.transcript).endswith("ends      RuntimeError: away")

    async def test_a_stream_that_was_broken_ends_at_once(self) -> None:
        """The page reads no further, so the server need not wait."""
        reached = []

        class Inventive(Server):
            async def _process_streaming(self, request: Any, context: Any) -> AsyncGenerator[bytes, None]:
                try:
                    yield b'data: {"type": "thread.invented"}\n\n'
                finally:
                    reached.append("its end")

        with pytest.raises(BrokenStreamError):
            await FakeBrowser(Inventive()).send("Go")

        assert ["its end"] == reached

    async def test_over_http_there_is_nothing_to_end(self) -> None:
        """The server has seen the connection go."""
        async with serving(chatkit_app(Server(nothing))) as url, FakeBrowser(url) as browser:
            browser.drop()
            await browser.send("Go")

        assert "drops     after 0 events" in str(browser.transcript)


class TestPage:
    async def test_an_answered_call_shows_its_answer(self) -> None:
        """Bare, as it is after a reload, and the first one if there are several."""
        server = rehearsal(MemoryStore(), time.time, receipts=True)
        browser = FakeBrowser(server, handlers=lambda name, params: {"n": params["n"]}, answering="when told")
        await browser.send("show one")

        await browser.answer()
        await browser.answer()
        shown = browser.items[-1]["output"]
        await browser.reload()

        assert ({"n": 1}, {"n": 1}) == (shown, browser.items[-1]["output"])

    async def test_a_reload_shows_the_whole_thread(self) -> None:
        """All pages of it, over the wire, so nothing hidden."""

        async def thirty(thread: Any) -> AsyncIterator[Any]:
            yield done(HiddenContextItem, thread, "h_1", content="x")
            for n in range(30):
                async for event in says(str(n), f"msg_{n}")(thread):
                    yield event

        browser = FakeBrowser(Server(thirty))
        await browser.send("Go")
        shown = browser.items

        await browser.reload()

        assert shown == browser.items
        assert [str(n) for n in range(30)] == browser.texts

    async def test_a_reload_can_resume(self) -> None:
        """It sends the action that our client code sends, and runs what comes."""
        server = Server(nothing, asks(), nothing)
        browser = FakeBrowser(server)
        await browser.send("Go")

        await browser.reload(resume=True)

        action = {"type": "chatkit_clienttools.resume", "payload": None}
        assert [action] == [params["action"] for kind, params in server.posted if kind == "threads.custom_action"]
        assert [("shows", {})] == browser.calls

    async def test_a_reload_forgets_what_was_to_do(self) -> None:
        """A call that has arrived is not executed by the page that was loaded anew."""
        browser = FakeBrowser(Server(asks()), answering="when told")

        await browser.send("Go")
        await browser.reload()

        assert ["pending"] == [item["status"] for item in browser.items if item["type"] == "client_tool_call"]
        assert [] == browser.calls

    async def test_a_second_tab(self) -> None:
        """The same thread, nothing in mind, and one transcript for both."""
        server = Server(asks(_receipt="r1"), nothing)
        browser = FakeBrowser(server, answering="when told")
        await browser.send("Go")
        tab = browser.tab()
        assert [] == tab.items

        await tab.reload()
        await browser.answer()

        assert browser.thread_id == tab.thread_id
        assert ["user_message", "client_tool_call"] == [item["type"] for item in tab.items]
        assert ([("shows", {})], []) == (browser.calls, tab.calls)
        assert "tab 1  says      Go" in str(tab.transcript)
        assert "tab 2  reloads" in str(tab.transcript)

    async def test_retry(self) -> None:
        """The last message is answered again, and what came after it is gone."""
        server = Server(says("One", "msg_1"), says("Two", "msg_2"))
        browser = FakeBrowser(server)
        await browser.send("Go")

        await browser.retry()

        assert ["Two"] == browser.texts
        assert "threads.retry_after_item" == server.posted[-1][0]

    async def test_an_action_of_a_widget(self) -> None:
        """An action says which widget sent it."""
        card = {"type": "Card", "children": [{"type": "Text", "value": "Ada"}]}
        server = Server(streams(lambda thread: done(WidgetItem, thread, "w_1", widget=card)), says("Done."))
        browser = FakeBrowser(server)
        await browser.send("Go")

        await browser.action("press", {"n": 1}, item_id=browser.widgets[0]["id"])

        action = {"type": "press", "payload": {"n": 1}}
        assert ("threads.custom_action", {"thread_id": browser.thread_id, "action": action, "item_id": "w_1"}) == (
            server.posted[-1]
        )
        assert ["Done."] == browser.texts

    async def test_rename(self) -> None:
        """The title that comes back is the page's."""
        browser = FakeBrowser(Server(nothing))
        await browser.send("Go")

        await browser.rename("People")

        assert "People" == browser.title

    @pytest.mark.skipif(not hasattr(chatkit.types, "StructuredInputItem"), reason="this ChatKit has no forms")
    async def test_a_form(self) -> None:
        """One answer, several, and none."""
        questions = [{"id": f"q{n}", "type": "freeform", "question": "?"} for n in (1, 2, 3)]
        form = streams(lambda thread: done(chatkit.types.StructuredInputItem, thread, "f_1", inputs=questions))
        browser = FakeBrowser(Server(form, nothing))
        await browser.send("Go")

        await browser.fill_in({"q1": "Ada", "q2": ["Bela", "Chen"]})

        answers = [question["answer"] for question in browser.items[-1]["inputs"]]
        assert [["Ada"], ["Bela", "Chen"], []] == [answer["values"] for answer in answers]
        assert [False, False, True] == [answer["skipped"] for answer in answers]

    async def test_what_is_streamed_and_not_stored(self) -> None:
        """Effects, progress, notices and errors are kept in the order they came."""
        body = streams(
            ClientEffectEvent(name="spin", data={"on": True}),
            ProgressUpdateEvent(text="Reading"),
            NoticeEvent(level="info", message="Hm"),
            ErrorEvent(message="Oh", allow_retry=True),
        )
        browser = FakeBrowser(Server(body))

        await browser.send("Go")

        assert [{"name": "spin", "data": {"on": True}}] == browser.effects
        assert ["Reading"] == browser.progress
        assert ["Hm"] == [notice["message"] for notice in browser.notices]
        assert ["Oh"] == [error["message"] for error in browser.errors]

    async def test_items_change_as_events_say(self) -> None:
        """Added, updated, replaced, removed."""

        def update(item_id: str, **fields: Any) -> ThreadItemUpdatedEvent:
            return ThreadItemUpdatedEvent.model_validate({"item_id": item_id, "update": fields})

        def part(text: str) -> dict[str, Any]:
            return {"type": "output_text", "text": text, "annotations": []}

        def card(text: str) -> dict[str, Any]:
            return {"type": "Card", "children": [{"type": "Text", "value": text}]}

        message, kind = "assistant_message.content_part", "custom"
        body = streams(
            lambda t: ThreadItemAddedEvent(item=item(AssistantMessageItem, t, "msg_1", content=[])),
            update("msg_1", type=f"{message}.added", content_index=0, content=part("")),
            update("msg_1", type=f"{message}.text_delta", content_index=0, delta="Hel"),
            update("msg_1", type=f"{message}.text_delta", content_index=0, delta="lo"),
            lambda t: ThreadItemAddedEvent(item=item(AssistantMessageItem, t, "msg_2", content=[part("Gone")])),
            ThreadItemRemovedEvent(item_id="msg_2"),
            update("msg_2", type=f"{message}.done", content_index=0, content=part("Too late")),
            lambda t: ThreadItemAddedEvent(item=item(WidgetItem, t, "w_1", widget=card("Ada"))),
            update("w_1", type="widget.root.updated", widget=card("Bela")),
            update("w_1", type="widget.streaming_text.value_delta", component_id="c", delta="x", done=True),
            lambda t: ThreadItemAddedEvent(item=item(WorkflowItem, t, "wf_1", workflow={"type": kind, "tasks": []})),
            update("wf_1", type="workflow.task.added", task_index=0, task={"type": kind, "title": "One"}),
            update("wf_1", type="workflow.task.updated", task_index=0, task={"type": kind, "title": "Two"}),
            lambda t: done(WidgetItem, t, "w_2", widget=card("Chen")),
            lambda t: ThreadItemReplacedEvent(item=item(WidgetItem, t, "w_2", widget=card("Dora"))),
        )
        browser = FakeBrowser(Server(body))

        await browser.send("Go")

        assert ["Hello"] == browser.texts
        assert ["Bela", "Dora"] == [widget["widget"]["children"][0]["value"] for widget in browser.widgets]
        assert ["Two"] == [task["title"] for task in browser.items[-2]["workflow"]["tasks"]]


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
        """Half an event is none."""

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
        """ChatKit sends one at least, whatever it is asked for."""

        class Silent(Server):
            async def _process_streaming(self, request: Any, context: Any) -> AsyncGenerator[bytes, None]:
                yield b": ping\n\n"

        with pytest.raises(BrokenStreamError, match=r"no event came in answer to threads\.create"):
            await FakeBrowser(Silent()).send("Go")

    async def test_a_retry_of_what_is_gone(self) -> None:
        """That is the one request which ChatKit answers without an event."""
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
        """It breaks the stream, and does not end the test's task."""

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


class TestLimits:
    async def test_a_stream_that_trickles(self) -> None:
        """Each event is in time, and there is no end to them: an operation may take 60 times as long as an event."""

        async def trickles(thread: Any) -> AsyncIterator[Any]:
            while True:
                await asyncio.sleep(0.001)
                yield ProgressUpdateEvent(text="Almost there.")

        with pytest.raises(BrokenStreamError, match=r"no end to it: events still come after 0\.6 seconds"):
            await FakeBrowser(Server(trickles), time_limit=0.01).send("Go")

    async def test_a_server_that_asks_for_ever(self) -> None:
        """One operation runs so many calls and no more; the next may run as many."""
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


class TestWhatIsLeft:
    @pytest.mark.parametrize("at", ["observer", "predicate"])
    async def test_a_test_that_fails_in_the_middle_of_a_stream(self, at: str) -> None:
        """The server's run has ended when the error comes out, with all that it holds."""
        ended = []

        async def body(thread: Any) -> AsyncIterator[Any]:
            try:
                yield call(thread)
                yield ProgressUpdateEvent(text="Unseen.")
            finally:
                await asyncio.sleep(0)
                ended.append(True)

        def fails(*seen: Any) -> bool:
            if "shows" in str(seen):
                raise RuntimeError("the test's mistake")
            return False

        options: Any = {"observer": fails} if at == "observer" else {}
        browser = FakeBrowser(Server(body), **options)
        if at == "predicate":
            browser.stop(at=fails)

        with pytest.raises((RuntimeError, FaultError), match="the test's mistake"):
            await browser.send("Go")

        assert [True] == ended

    async def test_a_client_for_a_server_that_is_not_there(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """It is closed though no response came."""
        clients = []

        def kept(wire: OverHttp) -> Any:
            clients.append(made(wire))
            return clients[-1]

        made = OverHttp._client
        monkeypatch.setattr(OverHttp, "_client", kept)

        with pytest.raises(BrokenStreamError, match="ConnectError"):
            await FakeBrowser("http://127.0.0.1:9/").send("Go")

        assert [True] == [client.is_closed for client in clients]


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


def test_it_needs_neither_pytest_nor_hypothesis() -> None:
    """A browser, and the checks of a store, run in any script."""
    program = "import sys, chatkit_clienttools.testing; print({'pytest', 'hypothesis'} & set(sys.modules))"

    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)  # noqa: S603

    assert "set()\n" == ended.stdout


class TestFrames:
    def test_events_come_in_pieces(self) -> None:
        """However the bytes are cut, with either kind of line end, between comments."""
        whole = b': ping\r\n\r\nevent: x\r\ndata: {"a":\r\ndata: "\xc3\xa4"}\r\n\r\ndata: 2\n\n'
        frames = Frames()

        found = [data for n in range(len(whole)) for data in frames.fed(whole[n : n + 1])]
        frames.end()

        assert ['{"a":\n"ä"}', "2"] == found

    def test_half_an_event_is_an_error(self) -> None:
        """What is left at the end was cut off."""
        frames = Frames()
        frames.fed(b"data: 1\n")

        with pytest.raises(WireError, match="in the middle"):
            frames.end()


@pytest.mark.parametrize("response", ["starlette", "sse"])
class TestHttp:
    async def test_a_conversation(self, response: Any) -> None:
        """The same over a real web server, with either kind of streaming response."""
        async with serving(chatkit_app(merak(), response)) as url:
            browser = FakeBrowser(url)

            await browser.send("Who knows about law?")
            await browser.reload()

        assert browser.calls == THREE
        assert browser.texts == ["There."]
        assert ["completed"] * 3 == [i["status"] for i in browser.items if i["type"] == "client_tool_call"]

    async def test_a_broken_stream(self, response: Any) -> None:
        """A connection that closes before the stream has ended is a failure."""
        async with serving(chatkit_app(Server(nothing), response)) as url:
            browser = FakeBrowser(url)
            await browser.send("Hello")

            with pytest.raises(BrokenStreamError, match="peer closed connection"):
                await browser.post("threads.add_client_tool_output", result={})

    @pytest.mark.parametrize("how", ["stop", "drop"])
    async def test_the_connection_is_closed(self, response: Any, how: str) -> None:
        """The server notices, by being cancelled where it waits."""
        ended = asyncio.Event()

        async def body(thread: Any) -> AsyncIterator[Any]:
            yield call(thread)
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

        async with serving(chatkit_app(Server(body), response)) as url:
            browser = FakeBrowser(url)
            getattr(browser, how)(4)

            await browser.send("Go")
            await ended.wait()

        assert ["shows"] == [delivery.name for delivery in browser.delivered]


class TestHttpRequests:
    async def test_an_error_response(self) -> None:
        """Anything but success is a failure that shows what the server said."""
        app = Starlette(routes=[Route("/chatkit", lambda request: PlainTextResponse("go away", 403), methods=["POST"])])
        async with serving(app) as url:
            browser = FakeBrowser(url)

            with pytest.raises(BrokenStreamError, match=r"HTTP 403 with text/plain.*go away"):
                await browser.send("Go")
            with pytest.raises(BrokenStreamError, match="HTTP 403: go away"):
                await browser.fetch("threads.list")

    async def test_a_response_that_is_no_stream(self) -> None:
        """A page of HTML with status 200 is no stream of events."""
        app = Starlette(routes=[Route("/chatkit", lambda request: PlainTextResponse("hello"), methods=["POST"])])
        async with serving(app) as url:
            with pytest.raises(BrokenStreamError, match="HTTP 200 with text/plain"):
                await FakeBrowser(url).send("Go")

    async def test_headers_and_cookies(self) -> None:
        """What the page has goes with every request, what the server sets is kept, and a second tab has it too."""
        seen: list[tuple[str | None, dict[str, str]]] = []

        async def endpoint(request: Request) -> Response:
            seen.append((request.headers.get("authorization"), dict(request.cookies)))
            response = StreamingResponse(iter([b'data: {"type": "error"}\n\n']), media_type="text/event-stream")
            response.set_cookie("session", "s1")
            return response

        async with serving(Starlette(routes=[Route("/chatkit", endpoint, methods=["POST"])])) as url:
            browser = FakeBrowser(url, headers={"authorization": "Bearer x"}, cookies={"user": "ada"})
            await browser.send("One")
            await browser.send("Two")
            await browser.tab().send("Three")

        both = {"user": "ada", "session": "s1"}
        assert [("Bearer x", {"user": "ada"}), ("Bearer x", both), ("Bearer x", both)] == seen


class TestMistakesOfATest:
    @pytest.mark.parametrize("options", [{"headers": {}}, {"cookies": {"a": "b"}}])
    def test_headers_and_cookies_are_for_http(self, options: Any) -> None:
        """In process they would be left out in silence."""
        with pytest.raises(UsageError, match="neither headers nor cookies"):
            FakeBrowser(Server(), **options)

    def test_a_context_is_for_a_server_in_process(self) -> None:
        """Over HTTP it would be left out in silence."""
        with pytest.raises(UsageError, match="makes the context itself"):
            FakeBrowser("http://127.0.0.1/chatkit", context="ada")

    @pytest.mark.parametrize(
        ("handlers", "says"),
        [
            (
                {"shows": lambda: None},
                r"'shows' takes \(params\), and this one does not fit: too many positional arguments",
            ),
            (
                {"shows": lambda name, params: {}},
                r"'shows' takes \(params\), .*: missing a required argument: 'params'",
            ),
            (lambda params: {}, r"'shows' for all tools takes \(name, params\), and this one does not fit: too many"),
            ({"shows": {}}, r"'shows' takes \(params\), and this one does not fit: \{\} is not a callable object"),
        ],
    )
    async def test_handlers_take_what_a_page_gives_them(self, handlers: Any, says: str) -> None:
        """A handler that cannot be called fails the test: its error is no answer of a page."""
        browser = FakeBrowser(Server(asks()), handlers=handlers)

        with pytest.raises(HandlerError, match=says):
            await browser.send("Go")

        assert [] == browser.calls

    async def test_handlers_that_do_not_say_what_they_take(self) -> None:
        """Some functions written in C: they are called."""
        server = Server(asks(n=7), nothing)

        await FakeBrowser(server, handlers={"shows": dict}).send("Go")

        assert [{"n": 7}] == server.answers

    async def test_an_answer_to_nothing(self) -> None:
        """There has to be a call that is answered."""
        with pytest.raises(UsageError, match="0 have arrived on this page"):
            await FakeBrowser(PlainServer(PlainStore())).answer()

    @pytest.mark.parametrize(
        ("does", "says"),
        [
            (lambda page: page.retry(), "shows no message"),
            (lambda page: page.fill_in({"q1": "yes"}), "shows no form"),
            (lambda page: page.repost(), "Nothing was posted on this page yet"),
        ],
    )
    async def test_nothing_was_said_yet(self, does: Any, says: str) -> None:
        """There has to be something that is acted upon."""
        with pytest.raises(UsageError, match=rf"{says}.*: send\(\) first"):
            await does(FakeBrowser(Server()))

    async def test_a_request_without_a_stream(self) -> None:
        """A request that is answered at once cannot be posted for its events."""
        with pytest.raises(BrokenStreamError, match=r"no stream came, but an answer: fetch\(\) it"):
            await FakeBrowser(Server()).post("threads.list")

    async def test_an_action_without_a_thread(self) -> None:
        """What needs a thread is an error of the server as long as there is none."""
        with pytest.raises(BrokenStreamError, match="thread_id"):
            await FakeBrowser(Scripted(PlainStore(), sequencer)).action("click")

    async def test_a_misspelt_way_to_answer(self) -> None:
        """A way to answer that does not exist is not taken for another one."""
        wrong: Any = "nevr"

        with pytest.raises(UsageError, match=r"answering must be one of 'once'.*, not 'nevr'"):
            await FakeBrowser(Server(asks()), answering=wrong).send("Go")
