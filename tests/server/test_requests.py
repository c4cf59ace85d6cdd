"""`ClientToolServer`: requests that are invalid, and a backend that has no sequencer."""

from __future__ import annotations

import asyncio
import json
from contextlib import nullcontext
from contextvars import ContextVar, copy_context
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import pytest
from chatkit.agents import AgentContext, ClientToolCall
from chatkit.server import ChatKitServer
from chatkit.types import ClientToolCallItem, ThreadItemDoneEvent

from chatkit_clienttools import ClientToolSequencer, ClientToolServer
from chatkit_clienttools._step import requests as requests_module
from chatkit_clienttools.errors import InvalidRequestError, NotSequencedError, UsageError
from tests.helpers.conversation import Conversation, at
from tests.helpers.merak import TOOLS, selection
from tests.helpers.scripted import asks, hidden, message, says, scripted
from tests.helpers.server import NOTHING
from tests.helpers.stores import PlainStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from chatkit.store import Store


class TestInvalidRequests:
    @pytest.mark.parametrize(
        ("body", "field", "problem"),
        [
            (b"", None, "Invalid JSON"),
            (b"{", None, "Invalid JSON"),
            (b"[" * 5000, None, "recursion limit"),
            ('"\ud800"', None, "unicode"),
            (b'"\xff"', None, "Invalid JSON"),
            (b"[]", None, "should be an object"),
            (b"null", None, "should be an object"),
            (b"{}", "type", "type: Field required"),
            (b'{"type": 5}', "type", "ChatKit has no request '5'"),
            (b'{"type": "messages.create"}', "type", "threads.create, threads.add_user_message"),
            (b'{"type": "threads.get_by_id"}', "params", "params: Field required"),
            (b'{"type": "threads.get_by_id", "params": {"thread_id": 5}}', "params.thread_id", "params.thread_id: "),
            (b'{"type": "threads.list", "params": {"limit": "many"}}', "params.limit", "params.limit: "),
            (
                b'{"type": "threads.create", "params": {"input": {"content": [{"type": "zz"}], "attachments": []}}}',
                "params.input.content.0.type",
                "none of 'input_text'",
            ),
        ],
    )
    async def test_the_error_names_the_field(self, body: Any, field: str | None, problem: str) -> None:
        """Not JSON, or not a ChatKit request: one error with the field, before anything is done."""
        server, _ = scripted(PlainStore())

        with pytest.raises(InvalidRequestError) as refused:
            await server.process(body, None)

        assert field == refused.value.field
        assert problem in str(refused.value)
        assert refused.value.__cause__ is None

    async def test_what_it_says_of_no_field(self) -> None:
        """The error for what is no JSON, and so has no fields, says only what is wrong with it."""
        server, _ = scripted(PlainStore())

        with pytest.raises(InvalidRequestError, match=r"^This is not a ChatKit request: Invalid JSON: "):
            await server.process(b"{", None)

    async def test_it_is_a_value_error(self) -> None:
        """A handler for the `ValueError` that plain ChatKit raises goes on working."""
        server, _ = scripted(PlainStore())

        with pytest.raises(ValueError, match="not a ChatKit request"):
            await server.process(b"{}", None)

    async def test_a_type_that_does_not_exist_is_answered_with_those_that_do(self) -> None:
        """`messages.create` does not exist; the error lists the valid types, and says who routes them."""
        server, _ = scripted(PlainStore())

        with pytest.raises(InvalidRequestError) as refused:
            await server.process(json.dumps({"type": "messages.create", "params": {"text": "private"}}), None)

        before, between, after = str(refused.value).partition(", only threads.create, threads.add_user_message, ")
        assert "This is not a ChatKit request: type: ChatKit has no request 'messages.create'" == before
        assert between
        assert after.endswith(
            ". A message is posted as threads.create, in a new thread, or as threads.add_user_message; "
            "process() routes them all"
        )
        assert "'" not in after
        assert "private" not in after

    async def test_the_error_does_not_grow_with_the_request(self) -> None:
        """A long type makes a short error, and of many wrong fields five are named."""
        server, _ = scripted(PlainStore())
        content = [{"type": "wrong"}] * 1000
        body = {"type": "threads.create", "params": {"input": {"content": content, "attachments": []}}}

        for each, problems in (({"type": "x" * 100_000}, 1), (body, 5)):
            with pytest.raises(InvalidRequestError) as refused:
                await server.process(json.dumps(each), None)
            assert len(str(refused.value)) < 2000
            assert problems == len(refused.value.problems)

    async def test_a_parsed_body_is_the_applications_mistake(self) -> None:
        """`process(await request.json())` is answered with how it is done."""
        server, _ = scripted(PlainStore())

        with pytest.raises(UsageError) as refused:
            await server.process({"type": "threads.list"}, None)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

        assert (
            "process() takes the body of the request as it came, bytes or str, not dict: "
            "`await server.process(await request.body(), context)`" == str(refused.value)
        )

    async def test_requests_that_do_not_stream_are_chatkits_own(self) -> None:
        """A rename, a list of threads, a thread that is loaded: ChatKit answers them."""
        _, chat = scripted(PlainStore(), says("hello"))
        await chat.say("hi")

        await chat.rename("a title")

        assert ("a title", chat.thread_id) == ((await chat.thread())["title"], (await chat.thread())["id"])
        assert ["a title"] == [each["title"] for each in (await chat.threads())["data"]]

    def test_the_parser_is_built_once(self) -> None:
        """Building the parser takes longer than all the rest of an answer, so two requests share one."""
        requests_module._adapter.cache_clear()

        for _ in range(2):
            requests_module.read_request('{"type": "threads.list", "params": {}}', 1024, lambda result: result)

        assert 1 == requests_module._adapter.cache_info().misses

    async def test_what_plain_chatkit_can_store_can_be_asked_for(self) -> None:
        """Dates and ids are params that ChatKit writes as JSON; they can be queued as well."""
        moment = datetime(2026, 1, 1, tzinfo=timezone.utc)
        _, chat = scripted(PlainStore(), asks(ClientToolCall(name="at", arguments={"at": moment})))

        assert [("at", {"at": "2026-01-01T00:00:00Z"})] == (await chat.say("go")).calls


class Numbers:
    """An iterator that nobody can close."""

    def __init__(self) -> None:
        self.left = [1, 2]

    def __aiter__(self) -> Numbers:
        return self

    async def __anext__(self) -> int:
        if not self.left:
            raise StopAsyncIteration
        return self.left.pop(0)


class TestStepwise:
    async def test_it_closes_what_it_runs(self) -> None:
        """A stream that is closed closes the iterator behind it before anything else happens."""
        closed: list[str] = []

        async def numbers() -> AsyncIterator[int]:
            try:
                yield 1
            finally:
                closed.append("closed")

        stream = requests_module.stepwise(nullcontext, numbers)
        await anext(stream)
        await stream.aclose()

        assert ["closed"] == closed

    async def test_what_cannot_be_closed(self) -> None:
        """An application may stream with an iterator of its own that has no `aclose`."""
        assert [1, 2] == [number async for number in requests_module.stepwise(nullcontext, Numbers)]

    def test_what_is_closed_elsewhere(self) -> None:
        """A coroutine may be closed in another context than it ran in, as when its event loop has ended."""
        variable: ContextVar[str] = ContextVar("variable")

        async def waits() -> None:
            with requests_module.setting(variable, "set"):
                await asyncio.sleep(0)

        abandoned = waits()
        copy_context().run(abandoned.send, None)
        abandoned.close()

        assert "not set" == variable.get("not set")


class Single(ChatKitServer[Any]):
    """A backend with one ordinary client tool, as it is today."""

    def __init__(self, store: Store[Any]) -> None:
        super().__init__(store)
        self.runs = 0
        self.fails = 0

    async def respond(self, thread: Any, input_user_message: Any, context: Any) -> AsyncIterator[Any]:
        self.runs += 1
        if input_user_message:
            yield ThreadItemDoneEvent(
                item=ClientToolCallItem(
                    id=f"tc_{self.runs}",
                    thread_id=thread.id,
                    created_at=at(1),
                    call_id=f"c_{self.runs}",
                    name="single",
                    arguments={"large": "x" * 300_000},
                )
            )
        elif self.fails:
            self.fails -= 1
            raise RuntimeError
        else:
            yield message("thanks", thread, f"thanks {self.runs}")


class GuardedSingle(ClientToolServer[Any], Single):
    """That backend, protected."""


class TestWithoutASequencer:
    async def test_a_single_call_goes_as_ever(self, store: Store[Any]) -> None:
        """Call, answer, model: as in plain ChatKit, whatever the size, and under the ids of the application."""
        server = GuardedSingle(store)
        chat = Conversation(server)

        [item] = (await chat.say("go")).call_items

        assert ("single", "tc_1", "c_1") == (item["name"], item["id"], item["call_id"])
        assert ["thanks"] == (await chat.answer(1)).texts
        assert 2 == server.runs

    async def test_what_breaks_plain_chatkit_does_not_break_it(self, store: Store[Any]) -> None:
        """A repeat, an answer behind a hidden item, one after a message: each stream closes normally."""
        server = GuardedSingle(store)
        chat = Conversation(server)
        await chat.say("go")
        await chat.touch(hidden(chat, 1))

        assert ["thanks"] == (await chat.answer(1)).texts
        assert NOTHING == (await chat.answer(1)).types
        await chat.say("again")
        await chat.say("no, this")
        assert ["thanks"] == (await chat.answer(1)).texts
        assert NOTHING == (await chat.answer(1)).types

    @pytest.mark.fails
    async def test_plain_chatkit_breaks(self) -> None:
        """Plain ChatKit breaks the stream of a repeated answer: this is why the server exists."""
        chat = Conversation(Single(PlainStore()))
        await chat.say("go")
        await chat.answer(1)

        with pytest.raises(ValueError, match="was not a ClientToolCallItem"):
            await chat.answer(1)

    @pytest.mark.fails
    async def test_a_run_that_failed_is_repeated(self, store: Store[Any]) -> None:
        """The model was away after the answer: the same answer, posted again, runs it again."""
        server = GuardedSingle(store)
        server.fails = 1
        chat = Conversation(server)
        await chat.say("go")

        assert 1 == len((await chat.answer(1)).errors)
        assert ["thanks"] == (await chat.answer(1)).texts

    async def test_a_tool_that_has_a_sequencer_says_so(self) -> None:
        """A tool that enqueues on a server without a sequencer is told which line is missing."""
        sequencer = ClientToolSequencer(TOOLS)
        raised: list[Exception] = []

        class Server(ClientToolServer[Any]):
            async def respond(self, thread: Any, input_user_message: Any, context: Any) -> AsyncIterator[Any]:
                try:
                    sequencer.enqueue(AgentContext(thread=thread, store=self.store, request_context=None), selection())
                except NotSequencedError as error:
                    raised.append(error)
                yield message("hello", thread, "hello")

        await Conversation(Server(PlainStore())).say("hi")

        assert "`client_tools = sequencer` in the body of the server's class" in str(raised[0])
