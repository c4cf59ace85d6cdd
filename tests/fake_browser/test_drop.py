"""A lost connection, and what is left of a server at the browser's end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from chatkit.types import ProgressUpdateEvent

from chatkit_clienttools.testing import BrokenStreamError, FakeBrowser, FaultError
from chatkit_clienttools.testing.browser._wire import OverHttp
from tests.helpers.bodies import Server, asks, call, nothing
from tests.helpers.http import chatkit_app, serving

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable


class TestDrop:
    async def test_the_server_does_not_notice(self) -> None:
        """A server whose response is dropped rests at its `yield`, and neither goes on nor is cancelled."""
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
        """A request whose response was dropped can be posted again, as ChatKit.js does when a stream breaks."""
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
        """Closing one tab ends the responses that all tabs have dropped; closing another one then does nothing."""
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
        """The HTTP client is closed even if no response came."""
        clients = []

        def kept(wire: OverHttp) -> Any:
            clients.append(made(wire))
            return clients[-1]

        made = OverHttp._client
        monkeypatch.setattr(OverHttp, "_client", kept)

        with pytest.raises(BrokenStreamError, match="ConnectError"):
            await FakeBrowser("http://127.0.0.1:9/").send("Go")

        assert [True] == [client.is_closed for client in clients]
