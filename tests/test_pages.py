"""Four kinds of pages that do not do what ChatKit.js does, each with a server as people have it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from chatkit_clienttools.stores import MemoryStore
from chatkit_clienttools.testing import BrokenStreamError, FakeBrowser, FaultError
from tests.helpers.http import serving
from tests.helpers.merak import THREE, animation, profiles, selection
from tests.helpers.scripted import Scripted, asks, says, scripted

if TYPE_CHECKING:
    from chatkit.server import NonStreamingResult, StreamingResult
    from starlette.requests import Request

THREE_CALLS = (animation(state="start"), profiles(agents=["Ada"]), animation(state="stop"))


def a_server(*bodies: Any, **options: Any) -> Scripted:
    server, _ = scripted(MemoryStore(), *bodies, **options)
    return server


def statuses(browser: FakeBrowser) -> list[str]:
    return [item["status"] for item in browser.items if item["type"] == "client_tool_call"]


class TestAcknowledgementsThatNobodyReads:
    async def test_the_next_call_waits_for_the_page(self) -> None:
        """The answer is recorded, and the call that comes in the response waits until a reload with resume gets it."""
        server = a_server(asks(*THREE_CALLS, says="There."), receipts=True)
        browser = FakeBrowser(server, reads_acknowledgements=False)

        await browser.send("Who?")
        assert THREE[:1] == browser.calls
        await browser.reload()
        assert ["completed", "pending"] == statuses(browser)
        await browser.reload(resume=True)
        await browser.reload(resume=True)
        await browser.reload()

        assert THREE == browser.calls
        assert ["completed"] * 3 == statuses(browser)
        assert [] == browser.errors

    async def test_the_user_can_write_all_the_same(self) -> None:
        """The next message cancels what waits, and the conversation goes on."""
        server = a_server(asks(profiles(agents=["Ada"]), profiles(agents=["Bela"])), says("Go on."))
        browser = FakeBrowser(server, reads_acknowledgements=False)

        await browser.send("Who?")
        await browser.send("Never mind.")
        await browser.reload()

        assert ["Go on."] == browser.texts
        assert "pending" not in statuses(browser)
        assert [] == browser.errors


class Gateway:
    """Stands before a server, and loses the response to every answer when it comes for the first time."""

    def __init__(self, server: Scripted) -> None:
        self.server = server
        self.posts: list[str] = []

    async def process(self, request: str, context: Any) -> StreamingResult | NonStreamingResult:
        is_new = request not in self.posts
        self.posts.append(request)
        result = await self.server.process(request, context)
        if is_new and json.loads(request)["type"] == "threads.add_client_tool_output":
            async for _ in result:  # type: ignore[union-attr]  # pyright: ignore[reportGeneralTypeIssues]
                pass
            raise ConnectionError("502 Bad Gateway")
        return result


class TestRepeatedPosts:
    async def test_each_call_is_executed_once(self) -> None:
        """With receipts an answer that is posted again after its response was lost brings the next call."""
        server: Any = Gateway(a_server(asks(*THREE_CALLS, selection()), says("There."), receipts=True))
        browser = FakeBrowser(server, repeats=5, handlers=lambda name, _params: ["n1"] if "get" in name else {})

        await browser.send("Who?")
        await browser.reload()

        assert [*THREE, ("get_selected_canvas_nodes", {})] == browser.calls
        assert ["completed"] * 4 == statuses(browser)
        assert ["There."] == browser.texts
        assert 1 + 2 * 4 == sum("threads.get" not in post for post in server.posts)
        assert 2 == server.server.runs

    @pytest.mark.parametrize(("status", "posts"), [(502, 6), (200, 6), (403, 1)])
    async def test_what_is_repeated(self, status: int, posts: int) -> None:
        """Whatever is neither a stream nor a 4xx is posted six times in all; a 4xx is taken for an answer."""
        seen: list[str] = []

        async def endpoint(request: Request) -> PlainTextResponse:
            seen.append((await request.body()).decode())
            return PlainTextResponse("No.", status)

        async with serving(Starlette(routes=[Route("/chatkit", endpoint, methods=["POST"])])) as url:
            with pytest.raises(BrokenStreamError, match=f"HTTP {status} with text/plain"):
                await FakeBrowser(url, repeats=5).send("Who?")

        assert posts == len(seen)
        assert 1 == len(set(seen))


class TestHiddenTabs:
    async def test_an_answer_is_posted_again(self) -> None:
        """A tab that is hidden in the response to an answer posts it again, and each call is executed once."""
        server = a_server(asks(*THREE_CALLS, says="There."), receipts=True)
        browser = FakeBrowser(server, answering="when told")
        await browser.send("Who?")

        browser.answering = "once"
        browser.hide(at="thread.item.done")
        await browser.answer()
        await browser.reload()

        assert THREE == browser.calls
        assert ["completed"] * 3 == statuses(browser)
        assert [] == browser.errors
        assert "hides     after 2 events" in str(browser.transcript)

    async def test_a_message_is_posted_again(self) -> None:
        """A message is another message then, as with plain ChatKit: its calls cancel those of the first one."""
        server = a_server(says("Hello."), asks(profiles(agents=["Ada"])), asks(profiles(agents=["Ada"])))
        browser = FakeBrowser(server)
        await browser.send("Hello")

        browser.hide(at="thread.item.done")
        await browser.send("Who?")
        await browser.reload()

        assert ["Hello", "Who?", "Who?"] == [
            item["content"][0]["text"] for item in browser.items if item["type"] == "user_message"
        ]
        assert [("display_agent_profiles", {"agents": ["Ada"]})] == browser.calls
        assert "pending" not in statuses(browser)

    async def test_a_tab_that_is_never_hidden(self) -> None:
        """An event that does not come fails the test, as with Stop."""
        browser = FakeBrowser(a_server(says("Hello.")))
        browser.hide(at="notice")

        with pytest.raises(FaultError, match=r"hide\(at='notice'\) was never reached"):
            await browser.send("Hello")


def unwrapped(result: Any) -> Any:
    match result:
        case {"type": "success", "data": data}:
            return data
        case {"type": "error", "message": str(message)}:
            return {"error": message}
    return result


class TestWrappedAnswers:
    async def test_a_hook_takes_the_answer_out(self) -> None:
        """With `answers=` an answer is recorded as the page meant it, and an error as an error."""
        events: list[Any] = []
        server = a_server(asks(selection(), selection()), says("There."), answers=unwrapped, observers=[events.append])
        answers: list[Any] = [["n1"], RuntimeError("The canvas is closed.")]

        def select(_params: Any) -> Any:
            answer = answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer

        browser = FakeBrowser(server, wraps_answers=True, handlers={"get_selected_canvas_nodes": select})
        await browser.send("What is selected?")
        await browser.reload()

        outputs = [item["output"] for item in browser.items if item["type"] == "client_tool_call"]
        assert [["n1"], {"error": "The canvas is closed."}] == outputs
        assert ["completed", "failed"] == [
            str(e.state.value) for e in events if e.state.value in {"completed", "failed"}
        ]

    @pytest.mark.parametrize("result", [["n1"], {"type": "success"}])
    async def test_receipts_are_found_inside(self, result: Any) -> None:
        """The hook comes before the receipt is read, and what is not wrapped goes through it as it is."""
        server = a_server(asks(*THREE_CALLS), receipts=True, answers=unwrapped)

        browser = FakeBrowser(server, wraps_answers=True, handlers=lambda _name, _params: result)
        await browser.send("Who?")
        await browser.post("threads.add_client_tool_output", result=result)
        await browser.reload()

        assert THREE == browser.calls
        assert [result] * 3 == [item["output"] for item in browser.items if item["type"] == "client_tool_call"]

    async def test_without_the_hook_a_declared_result_refuses_it(self, caplog: pytest.LogCaptureFixture) -> None:
        """A tool that declares its result takes a wrapped answer for a failure, and the log says what does not fit."""
        browser = FakeBrowser(
            a_server(asks(selection()), says("There.")), wraps_answers=True, handlers=lambda _name, _params: ["n1"]
        )

        await browser.send("What is selected?")

        assert "the answer does not fit the tool's result type" in caplog.text
