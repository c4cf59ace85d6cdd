"""`ClientToolServer` over HTTP: what the timing of a real connection does to it."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from agents import RunContextWrapper
from chatkit.agents import AgentContext
from chatkit.types import ProgressUpdateEvent
from starlette.responses import JSONResponse

from chatkit_clienttools import ClientToolSequencer, ValidatingStore
from chatkit_clienttools.errors import InvalidRequestError
from chatkit_clienttools.stores import MemoryStore
from chatkit_clienttools.testing import FakeBrowser
from tests.helpers.conversation import CHATKIT_DROPS_PENDING_ON_MESSAGE
from tests.helpers.http import chatkit_app, serving
from tests.helpers.merak import TOOLS, SequencedServer, animation, calls, selection, speaks
from tests.helpers.scripted import message, says, scripted
from tests.helpers.stores import PlainStore, WatchedStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from chatkit.store import Store
    from starlette.applications import Starlette
    from starlette.requests import Request

Ctx = RunContextWrapper[AgentContext[Any]]

CALLS = ["run_search_animation", "get_selected_canvas_nodes", "run_search_animation"]

EVENTS = 5
"""How many events the first response has at least: a test disconnects after each."""


def merak(store: Store[Any], *, turns: int = 1, **options: Any) -> SequencedServer:
    """A server with the Agents SDK and a sequencer of its own, whose tool asks for three client tools."""
    sequencer = ClientToolSequencer(TOOLS, **options)

    @sequencer.function_tool
    async def search(ctx: Ctx) -> str:
        """Ask for three client tools."""
        sequencer.enqueue(ctx, animation(state="start"), selection(), animation(state="stop"))
        return "asked"

    steps = [[calls("search")], speaks("Here they are."), speaks("You chose well.")]
    return SequencedServer(store, steps * turns, [search], sequencer=sequencer)


@pytest.fixture(params=["starlette", "sse"])
def response(request: pytest.FixtureRequest) -> Any:
    """Which of the two responses people use."""
    return request.param


@pytest.fixture(params=[PlainStore, lambda: ValidatingStore(MemoryStore())], ids=["plain", "memory"])
def store(request: pytest.FixtureRequest) -> Store[Any]:
    made: Store[Any] = request.param()
    return made


@pytest.fixture(autouse=True)
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """What server and web server log: no traceback, and nothing above INFO, unless a test takes it away."""
    caplog.set_level(logging.INFO)
    yield caplog
    loud = [record for record in caplog.get_records("call") if record.exc_info or record.levelno > logging.INFO]
    lines = [record.getMessage() for record in loud]
    assert [] == [line for line in lines if not (CHATKIT_DROPS_PENDING_ON_MESSAGE and "was not completed" in line)]


def a_browser(url: str, **options: Any) -> FakeBrowser:
    handlers = {"run_search_animation": lambda params: None, "get_selected_canvas_nodes": lambda params: ["a"]}
    return FakeBrowser(url, handlers=handlers, **options)


async def settled(browser: FakeBrowser, store: Store[Any]) -> list[tuple[str, str]]:
    """The calls that the store holds."""
    page = await store.load_thread_items(browser.thread_id or "", None, 100, "asc", None)
    return [(item.name, item.status) for item in page.data if item.type == "client_tool_call"]


DONE = [(name, "completed") for name in CALLS]


@pytest.mark.parametrize("receipts", [True, False])
@pytest.mark.parametrize("answering", ["once", "at once"])
async def test_three_calls(response: Any, store: Store[Any], answering: Any, receipts: bool) -> None:
    """A client may answer before the stream that brought the call has ended."""
    server = merak(store, receipts=receipts)

    async with serving(chatkit_app(server, response)) as url:
        browser = a_browser(url, answering=answering)
        await browser.send("find")

    assert CALLS == [call.name for call in browser.calls]
    assert ["Here they are.", "You chose well."] == browser.texts
    assert DONE == await settled(browser, store)
    assert 3 == server.runs
    assert [] == browser.errors


@pytest.mark.parametrize("answering", ["twice", "twice at once"])
async def test_repeated_answers_with_receipts(response: Any, store: Store[Any], answering: Any) -> None:
    """A client that posts every answer twice: each call is executed once, recorded once, and told to the model once."""
    server = merak(store, receipts=True)

    async with serving(chatkit_app(server, response)) as url:
        browser = a_browser(url, answering=answering)
        await browser.send("find")

    assert CALLS == [call.name for call in browser.calls]
    assert DONE == await settled(browser, store)
    assert 3 == server.runs
    assert [] == browser.errors


async def test_late_answers(response: Any, store: Store[Any]) -> None:
    """An answer after the next message, and one after everything: the streams close normally."""
    server = merak(store, turns=2, receipts=True)

    async with serving(chatkit_app(server, response)) as url:
        browser = a_browser(url, answering="when told")
        await browser.send("find")
        late = len(browser.delivered) - 1
        await browser.send("find again")
        browser.answering = "once"
        await browser.answer(late)
        await browser.answer()
        await browser.answer(late)

    assert [] == browser.errors
    assert {"completed"} == {status for _, status in await settled(browser, store)}


def searches(text: str) -> Any:
    """A body that says something before and after it has asked for three calls."""

    async def body(server: Any, context: AgentContext[Any]) -> AsyncIterator[Any]:
        yield message("Wait.", context.thread, f"{text} 1")
        server.sequencer.enqueue(context, animation(state="start"), selection(), animation(state="stop"))
        yield ProgressUpdateEvent(text="searching")
        yield message("Here they are.", context.thread, f"{text} 2")

    return body


@pytest.mark.long
@pytest.mark.parametrize("how", ["drop", "stop"])
@pytest.mark.parametrize("after", range(EVENTS + 1))
async def test_a_client_that_disconnects_and_loads_the_page_again(
    response: Any, store: Store[Any], how: str, after: int
) -> None:
    """After each event of the first response in turn: the page is loaded, says that it is there, and all goes on."""
    bodies = [searches("first"), searches("second"), says("You chose well."), says("You chose well again.")]
    server, _ = scripted(store, says("hello"), *bodies, receipts=True)

    async with serving(chatkit_app(server, response)) as url:
        browser = a_browser(url)
        await browser.send("hello")
        cut = browser.drop if how == "drop" else browser.stop
        cut(after)
        await browser.send("find")
        await browser.reload(resume=True)
        await browser.send("find again")

    assert [] == browser.errors
    assert {"completed"} == {status for _, status in await settled(browser, store)}
    assert len(browser.calls) <= len({call.params["_receipt"] for call in browser.delivered})


@pytest.mark.parametrize("after", range(3))
async def test_a_client_that_disconnects_from_an_answer(response: Any, store: Store[Any], after: int) -> None:
    """After each event of an acknowledgement: posted again, it goes on; with receipts nothing is executed twice."""
    server, _ = scripted(store, searches("first"), says("You chose well."), receipts=True)

    async with serving(chatkit_app(server, response)) as url:
        browser = a_browser(url, answering="when told")
        await browser.send("find")
        browser.drop(after)
        await browser.answer()
        browser.answering = "once"
        await browser.repost()
        await browser.reload(resume=True)

    assert CALLS == [call.name for call in browser.calls]
    assert DONE == await settled(browser, store)
    assert 2 == server.runs


async def test_a_client_that_goes_in_the_middle_of_a_write(response: Any) -> None:
    """A step comes to its end without its client; the same answer, posted again, goes on from there."""
    store = WatchedStore(PlainStore())
    server, _ = scripted(store, searches("first"), says("You chose well."), receipts=True)

    async with serving(chatkit_app(server, response)) as url:
        browser = a_browser(url, answering="when told")
        await browser.send("find")
        gate = store.gate("save_item")
        answering = asyncio.create_task(browser.answer())
        await gate.reached.wait()
        answering.cancel()
        await asyncio.gather(answering, return_exceptions=True)
        gate.open.set()
        browser.answering = "once"
        await browser.answer()

    assert DONE == await settled(browser, store)
    assert 2 == server.runs


class TestRefusals:
    @staticmethod
    def app() -> Starlette:
        """An application that turns an invalid request into a 400, as the documentation shows."""

        async def refused(_: Request, error: Exception) -> JSONResponse:
            assert isinstance(error, InvalidRequestError)
            return JSONResponse({"error": str(error), "field": error.field}, status_code=400)

        app = chatkit_app(merak(PlainStore()))
        app.add_exception_handler(InvalidRequestError, refused)
        return app

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ("{", None),
            ('{"type": "messages.create"}', "type"),
            ('{"type": "threads.list", "params": 1}', "params"),
        ],
    )
    async def test_an_invalid_request_is_a_400(self, body: str, field: str | None) -> None:
        """An invalid request is answered before a stream has begun, with a status that a frontend does not retry."""
        async with serving(self.app()) as url, httpx2.AsyncClient() as client:
            answer = await client.post(url, content=body)

        assert 400 == answer.status_code
        assert field == answer.json()["field"]
        assert "not a ChatKit request" in answer.json()["error"]
