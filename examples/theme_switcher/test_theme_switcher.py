"""Two tools, two client tool calls, one turn: over the JSON that ChatKit.js speaks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agents import Runner
from agents.testing import ScriptedModel, assistant_message, function_call
from chatkit.agents import AgentContext, simple_to_agent_input, stream_agent_response
from chatkit.server import ChatKitServer

from chatkit_clienttools import ValidatingStore
from chatkit_clienttools.stores import MemoryStore
from chatkit_clienttools.testing import FakeBrowser
from examples.offline import Heard

from .offline import reply
from .server import FactServer
from .tools import RequestContext, record_fact, switch_theme

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agents import Model
    from chatkit.store import Store

FACT = {"text": "Ada sails.", "topic": "person"}
DARK = {"scheme": "dark"}


class PlainFactServer(ChatKitServer[RequestContext]):
    """The server as it was: ChatKit's own base class, context and converter."""

    def __init__(self, store: Store[RequestContext], model: Model) -> None:
        super().__init__(store)
        self.agent = FactServer(store, model).agent

    async def respond(self, thread: Any, input_user_message: Any, context: RequestContext) -> AsyncIterator[Any]:
        agent_context = AgentContext(thread=thread, store=self.store, request_context=context)
        newest = await self.store.load_thread_items(thread.id, None, 30, "desc", context)
        history = await simple_to_agent_input(newest.data[::-1])
        result = Runner.run_streamed(self.agent, history, context=agent_context)
        async for event in stream_agent_response(agent_context, result):
            yield event


def model() -> ScriptedModel:
    """Both tools at once, then a word; and another one if it is asked again."""
    both = [
        function_call("record_fact", {"fact": FACT}, call_id="call_1", item_id="fc_1"),
        function_call("switch_theme", {"theme": DARK}, call_id="call_2", item_id="fc_2"),
    ]
    return ScriptedModel([both, *[[assistant_message("Noted, and dark.", item_id=f"msg_{n}")] for n in (1, 2)]])


def browser(server: ChatKitServer[Any]) -> FakeBrowser:
    handlers = {name: lambda params: {"success": True} for name in ("record_fact", "switch_theme")}
    return FakeBrowser(server, context=RequestContext(user_id="ada"), handlers=handlers)


async def test_plain_chatkit_loses_the_fact() -> None:
    """Two tools assign the one slot: the page hears of one of them, and the model speaks again."""
    scripted = model()
    page = browser(PlainFactServer(MemoryStore(), scripted))

    await page.send("I sail. Make it dark.")

    assert 1 == len(page.calls)
    assert ["Noted, and dark."] * 2 == page.texts
    assert 3 == len(scripted.calls)


async def test_both_calls_happen_in_order_and_the_model_speaks_once() -> None:
    """The unchanged tools queue their calls, and neither makes the model run again."""
    scripted = model()
    page = browser(FactServer(ValidatingStore(MemoryStore()), scripted))

    await page.send("I sail. Make it dark.")

    assert [("record_fact", FACT), ("switch_theme", DARK)] == page.calls
    assert ["Noted, and dark."] == page.texts
    assert 2 == len(scripted.calls)


async def test_the_widget_of_the_same_run_is_there_too() -> None:
    """A widget that a tool streams arrives at once; the calls come after it."""
    page = browser(FactServer(ValidatingStore(MemoryStore()), model()))

    await page.send("I sail. Make it dark.")

    (card,) = page.widgets
    assert {"type": "Text", "value": "Ada sails."}.items() <= card["widget"]["children"][0].items()
    assert "Ada sails." == card["copy_text"]


def test_a_long_message_is_few_calls() -> None:
    """Without a model only the first ten sentences of a message are facts: a long message does not fill the queue."""
    calls = reply(Heard("I sail. " * 100_000))

    assert 10 == len(calls)


def test_the_model_is_told_what_the_tools_take() -> None:
    """Docstrings and pydantic models become the schema that the model reads."""
    assert "Note a fact about the user, and show it as a card." == record_fact.description
    assert ["light", "dark"] == switch_theme.params_json_schema["$defs"]["Theme"]["properties"]["scheme"]["enum"]
    assert "One short sentence." == record_fact.params_json_schema["$defs"]["Fact"]["properties"]["text"]["description"]
