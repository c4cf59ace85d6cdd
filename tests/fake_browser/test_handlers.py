"""What a page does with client tools, and what becomes of errors there."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from pydantic import BaseModel

from chatkit_clienttools.errors import UsageError
from chatkit_clienttools.testing import BrokenStreamError, FakeBrowser, HandlerError
from tests.helpers.bodies import Server, asks, nothing, sequencer
from tests.helpers.merak import PlainServer
from tests.helpers.scripted import Scripted
from tests.helpers.stores import PlainStore


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
        """A handler that exceeds the time limit fails the test; one that is not async does so once it has returned."""

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


class TestMistakesOfATest:
    @pytest.mark.parametrize("options", [{"headers": {}}, {"cookies": {"a": "b"}}])
    def test_headers_and_cookies_are_for_http(self, options: Any) -> None:
        """Headers and cookies are refused for a server in process, which would not see them."""
        with pytest.raises(UsageError, match="neither headers nor cookies"):
            FakeBrowser(Server(), **options)

    def test_a_context_is_for_a_server_in_process(self) -> None:
        """A context is refused for a server over HTTP, which makes its own."""
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
        """A handler whose signature cannot be read, like some that are written in C, is called with the params."""
        server = Server(asks(n=7), nothing)

        await FakeBrowser(server, handlers={"shows": dict}).send("Go")

        assert [{"n": 7}] == server.answers

    async def test_an_answer_to_nothing(self) -> None:
        """A page to which no call has come cannot answer."""
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
    async def test_a_page_without_history_has_nothing_to_act_upon(self, does: Any, says: str) -> None:
        """A page cannot retry, fill in or repost before there is something to act upon."""
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
