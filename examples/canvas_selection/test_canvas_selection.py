"""The canvas, over the JSON that ChatKit.js speaks: the model waits for what the user selects."""

from __future__ import annotations

from typing import Any

from agents.testing import ScriptedModel, assistant_message, function_call

from chatkit_clienttools.stores import MemoryStore
from chatkit_clienttools.testing import FakeBrowser
from examples.offline import OfflineModel

from .offline import HELLO, reply
from .server import CanvasServer
from .tools import RequestContext

TOOL = "get_selected_canvas_nodes"
ADA = RequestContext("ada")
CIRCLE = {"id": "n1", "kind": "circle", "colour": "red", "size": 90}
SQUARE = {"id": "n2", "kind": "square", "colour": "blue", "size": 60}


def canvas(answer: Any = None, model: Any = None) -> FakeBrowser:
    """Open a page that answers with a selection, or with what a function of it returns or raises."""
    handler = answer if callable(answer) else lambda _: {"nodes": answer}
    server = CanvasServer(MemoryStore(), model or OfflineModel(reply))
    return FakeBrowser(server, context=ADA, handlers={TOOL: handler})


async def test_a_greeting_needs_no_canvas() -> None:
    """The model answers what it can answer without the page."""
    page = canvas([])

    await page.send("Hi!")

    assert [HELLO] == page.texts
    assert [] == page.calls


async def test_the_model_gets_the_selection_and_answers_about_it() -> None:
    """Nothing is said before the page has answered; then the answer is about the selection."""
    said_before: list[str] = []

    def selects(_: object) -> Any:
        said_before.extend(page.texts)
        return {"nodes": [CIRCLE, SQUARE]}

    page = canvas(selects)

    await page.send("What have I selected?")

    assert [(TOOL, {"ask": "Select the shapes you mean, then press Done."})] == page.calls
    assert [] == said_before
    assert ["You have selected a red circle and a blue square."] == page.texts


async def test_the_model_runs_twice_and_reads_the_answer_of_its_own_call() -> None:
    """The run that asks stops at the tool; the run that continues finds the page's answer under the tool's call."""
    call_id = "call_9pQrT0aBcDeFgHiJkLmNoPqR"
    asks = function_call(TOOL, {"ask": "Which?"}, call_id=call_id, item_id="fc_1")
    model = ScriptedModel([[asks], [assistant_message("A circle.", item_id="msg_1")]])
    page = canvas([CIRCLE], model)

    await page.send("What is it?")

    assert ["A circle."] == page.texts
    assert model.last_call
    call, output = model.last_call.input[-2:]
    assert (TOOL, call_id, call_id) == (call["name"], call["call_id"], output["call_id"])
    assert "red" in output["output"]


async def test_a_handler_that_fails_reaches_the_model_as_an_error() -> None:
    """What the page's handler throws is an answer too, and the conversation goes on."""

    def fails(_: object) -> None:
        raise RuntimeError("the canvas is covered in paint")

    page = canvas(fails)

    await page.send("What have I selected?")
    await page.send("Hello?")

    assert [
        "I could not see your selection: the canvas is covered in paint. Ask me again, please.",
        HELLO,
    ] == page.texts
    assert [] == page.errors


async def test_an_answer_that_does_not_fit_reaches_the_model_as_an_error() -> None:
    """When the answer is not a CanvasSelection, the model gets an error instead of the answer."""
    page = canvas([{"id": "n1", "kind": "hexagon"}])

    await page.send("What have I selected?")

    assert "I could not see your selection: the browser's answer does not fit" in page.texts[0]


async def test_a_handler_that_never_answers_holds_nobody_up() -> None:
    """When the user writes again instead, the call is cancelled, and the model asks again if it needs to."""
    page = canvas([SQUARE])
    page.answering = "never"
    await page.send("What have I selected?")
    page.answering = "once"

    await page.send("And now, which is the largest?")
    await page.answer(0)

    assert 2 == len(page.calls)
    assert ["The largest one is the blue square."] == page.texts
    assert [] == page.errors
