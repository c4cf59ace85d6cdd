"""Merak, over the JSON that ChatKit.js speaks: with plain ChatKit and with chatkit-clienttools."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agents.testing import ScriptedModel, assistant_message, function_call
from starlette.testclient import TestClient

from chatkit_clienttools import ValidatingStore
from chatkit_clienttools.stores import MemoryStore
from chatkit_clienttools.testing import FakeBrowser

from . import main
from .people import RequestContext
from .plain import PlainMerakServer
from .server import MerakServer

if TYPE_CHECKING:
    import pytest
    from chatkit.server import ChatKitServer

START = ("run_search_animation", {"state": "start"})
PROFILES = (
    "display_agent_profiles",
    {"agents": [{"name": "Ada", "knows": "maritime law"}, {"name": "Bela", "knows": "maritime insurance"}]},
)
STOP = ("run_search_animation", {"state": "stop"})

ADA = RequestContext(user_id="ada")


def model() -> ScriptedModel:
    search = function_call("search_agents", {"query": "maritime"}, call_id="call_1", item_id="fc_1")
    said = [[assistant_message("Ada and Bela are on screen.", item_id=f"msg_{n}")] for n in (1, 2)]
    return ScriptedModel([[search], *said])


def browser(server: ChatKitServer[Any]) -> FakeBrowser:
    handlers = {name: lambda params: {"success": True} for name in ("run_search_animation", "display_agent_profiles")}
    return FakeBrowser(server, context=ADA, handlers=handlers)


async def test_plain_chatkit_loses_two_calls_and_answers_twice() -> None:
    """The slot holds one call: only the last reaches the browser, and its answer runs the model again."""
    scripted = model()
    page = browser(PlainMerakServer(MemoryStore(), scripted))

    await page.send("Who knows about maritime law?")

    assert [STOP] == page.calls
    assert ["Ada and Bela are on screen."] * 2 == page.texts
    assert 3 == len(scripted.calls)


async def test_three_calls_arrive_in_order_and_the_model_answers_once() -> None:
    """Each answer releases the next call; none of them wants the model, so it does not run again."""
    scripted = model()
    page = browser(MerakServer(ValidatingStore(MemoryStore()), scripted))

    await page.send("Who knows about maritime law?")

    assert [START, PROFILES, STOP] == page.calls
    assert ["Ada and Bela are on screen."] == page.texts
    assert 2 == len(scripted.calls)


async def test_every_call_is_stored_once_and_completed() -> None:
    """What is left in the thread is what plain ChatKit would leave of three runs with one call each."""
    server = MerakServer(ValidatingStore(MemoryStore()), model())
    page = browser(server)

    await page.send("Who knows about maritime law?")

    assert page.thread_id
    items = await server.store.load_thread_items(page.thread_id, None, 100, "asc", ADA)
    assert ["user_message", "assistant_message", *["client_tool_call"] * 3] == [item.type for item in items.data]
    assert ["completed"] * 3 == [item.status for item in items.data if item.type == "client_tool_call"]


def test_the_endpoint_streams_the_first_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """The web application serves ChatKit's requests, streaming and not."""
    monkeypatch.setattr(main.server.agent, "model", model())
    monkeypatch.setattr(main.server, "store", ValidatingStore(MemoryStore()))  # other tests have used the application's
    content = [{"type": "input_text", "text": "Who knows about maritime law?"}]
    message = {"content": content, "attachments": [], "inference_options": {}}

    with TestClient(main.app, "http://127.0.0.1:8000") as client:
        stream = client.post("/chatkit", json={"type": "threads.create", "params": {"input": message}})
        threads = client.post("/chatkit", json={"type": "threads.list", "params": {}})

    assert stream.headers["content-type"].startswith("text/event-stream")
    assert '"run_search_animation"' in stream.text
    assert 1 == len(threads.json()["data"])
