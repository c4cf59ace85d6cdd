"""The browser over HTTP, with both kinds of streaming responses."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from chatkit_clienttools.testing import BrokenStreamError, FakeBrowser
from tests.helpers.bodies import Server, call, merak, nothing
from tests.helpers.http import chatkit_app, serving
from tests.helpers.merak import THREE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request


@pytest.mark.parametrize("response", ["starlette", "sse"])
class TestHttp:
    async def test_a_conversation(self, response: Any) -> None:
        """A conversation over a real web server goes as in process, with either kind of streaming response."""
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
