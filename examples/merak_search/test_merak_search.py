"""Merak, over the JSON that ChatKit.js speaks: with plain ChatKit and with chatkit-clienttools."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agents.testing import ScriptedModel, assistant_message, function_call
from starlette.testclient import TestClient

from chatkit_clienttools import ValidatingStore
from chatkit_clienttools.stores import MemoryStore
from chatkit_clienttools.testing import FakeBrowser

from .main import create_app
from .people import RequestContext
from .plain import PlainMerakServer
from .server import MerakServer

if TYPE_CHECKING:
    from pathlib import Path

    from chatkit.server import ChatKitServer

FOUND = [{"name": "Ada", "knows": "maritime law"}, {"name": "Bela", "knows": "maritime insurance"}]
START = ("run_search_animation", {"state": "start"})
CHOOSE = ("choose_agent", {"agents": FOUND})
STOP = ("run_search_animation", {"state": "stop"})

ADA = RequestContext(user_id="ada")


def model(speaks: int = 2) -> ScriptedModel:
    search = function_call("search_agents", {"query": "maritime"}, call_id="call_1", item_id="fc_1")
    return ScriptedModel([[search], *[[assistant_message("Bela it is.", item_id=f"msg_{n}")] for n in range(speaks)]])


def browser(server: ChatKitServer[Any], choice: Any = None, **options: Any) -> FakeBrowser:
    handlers = {"run_search_animation": lambda params: {}, "choose_agent": lambda params: choice or {"name": "Bela"}}
    return FakeBrowser(server, context=ADA, handlers=handlers, **options)


def output(scripted: ScriptedModel) -> Any:
    """What the search has returned to the model."""
    said = scripted.calls[-1].input
    return next(
        item["output"] for item in said if isinstance(item, dict) and item.get("type") == "function_call_output"
    )


async def test_plain_chatkit_loses_two_calls_and_answers_twice() -> None:
    """The slot holds one call: only the last reaches the browser, and its answer runs the model again."""
    scripted = model()
    page = browser(PlainMerakServer(MemoryStore(), scripted))

    await page.send("Who knows about maritime law?")

    assert [STOP] == page.calls
    assert ["Bela it is."] * 2 == page.texts
    assert 3 == len(scripted.calls)


async def test_the_tool_goes_on_with_the_choice() -> None:
    """The three calls arrive in order, and the model goes on once, with what the user has chosen."""
    scripted = model()
    page = browser(MerakServer(ValidatingStore(MemoryStore()), scripted))

    await page.send("Who knows about maritime law?")

    assert [START, CHOOSE, STOP] == page.calls
    assert "The user chose Bela, who knows maritime insurance." == output(scripted)
    assert (["Bela it is."], 2) == (page.texts, len(scripted.calls))


async def test_the_progress_of_the_search_is_streamed_once() -> None:
    """The page hears how far the search has come before it may choose, and not again when the tool runs again."""
    seen: list[str] = []

    def hear(kind: str, what: Any) -> None:
        seen.append(what if kind == "progress" else kind)

    page = browser(MerakServer(ValidatingStore(MemoryStore()), model()), observer=hear)

    await page.send("Who knows about maritime law?")

    told = [f"{number} of 6 people looked at, {min(number, 2)} found" for number in range(1, 7)]
    assert told == page.progress
    assert [*told, "gets"] == seen[seen.index(told[0]) :][:7]


async def test_a_name_that_was_not_found_is_nobody() -> None:
    """A name that is not among the people that the server has found is not taken for a choice."""
    scripted = model()
    page = browser(MerakServer(ValidatingStore(MemoryStore()), scripted), {"name": "Mallory"})

    await page.send("Who knows about maritime law?")

    assert "There is nobody." == output(scripted)


async def test_a_page_that_fails() -> None:
    """When the page cannot show the people the animation is stopped, and the model hears that nobody was chosen."""
    scripted = model()
    page = browser(MerakServer(ValidatingStore(MemoryStore()), scripted), {"error": "no room"})

    await page.send("Who knows about maritime law?")

    assert [START, CHOOSE, STOP] == page.calls
    assert output(scripted).startswith("Nobody was chosen.")


async def test_a_message_instead_of_a_choice() -> None:
    """A user who writes instead of choosing is answered, and the animation is stopped."""
    scripted = model()
    page = browser(MerakServer(ValidatingStore(MemoryStore()), scripted))
    page.answering = "when told"
    await page.send("Who knows about maritime law?")
    await page.answer()
    page.answering = "once"

    await page.send("Never mind.")

    assert [START[0], CHOOSE[0], STOP[0]] == [call.name for call in page.delivered]
    assert [START, STOP] == page.calls
    assert ["Bela it is."] == page.texts
    assert output(scripted).startswith("Nobody was chosen.")


async def test_every_call_is_stored_once_and_completed() -> None:
    """The thread keeps each call as one completed item, and what the tool has returned."""
    server = MerakServer(ValidatingStore(MemoryStore()), model())
    page = browser(server)

    await page.send("Who knows about maritime law?")

    assert page.thread_id
    items = await server.store.load_thread_items(page.thread_id, None, 100, "asc", ADA)
    kinds = ["user_message", *["client_tool_call"] * 3, "sdk_hidden_context", "assistant_message"]
    assert kinds == [item.type for item in items.data]
    assert ["completed"] * 3 == [item.status for item in items.data if item.type == "client_tool_call"]


def test_the_endpoint_streams_the_first_call(tmp_path: Path) -> None:
    """The web application serves ChatKit's requests, streaming and not."""
    content = [{"type": "input_text", "text": "Who knows about maritime law?"}]
    message = {"content": content, "attachments": [], "inference_options": {}}

    with TestClient(create_app(f"sqlite+aiosqlite:///{tmp_path}/merak.db", model())) as client:
        stream = client.post("/chatkit", json={"type": "threads.create", "params": {"input": message}})
        threads = client.post("/chatkit", json={"type": "threads.list", "params": {}})

    assert stream.headers["content-type"].startswith("text/event-stream")
    assert '"run_search_animation"' in stream.text
    assert 1 == len(threads.json()["data"])
