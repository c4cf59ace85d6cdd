"""What the model gets to read of client tool calls."""

from __future__ import annotations

import json
from typing import Any

import pytest
from chatkit.agents import ThreadItemConverter
from chatkit.types import ClientToolCallItem, HiddenContextItem

from chatkit_clienttools import ClientTool, ClientToolConverter, ClientToolSequencer
from chatkit_clienttools._protocol.outputs import Output, item_of
from chatkit_clienttools.errors import UsageError
from tests.helpers.conversation import at

SEQUENCER = ClientToolSequencer(
    [ClientTool("animate", result=None), ClientTool("select", result=list[str]), ClientTool("ask")]
)


def call(name: str, output: Any = None, **fields: Any) -> ClientToolCallItem:
    ours = {"status": "completed", "arguments": {"of": 1}, "call_id": "call_1", **fields}
    return ClientToolCallItem(id="tc_1", thread_id="thr_1", created_at=at(1), name=name, output=output, **ours)


def as_read(name: str, output: Any) -> list[dict[str, Any]]:
    """A call and its answer, as the model reads them."""
    return [
        {"type": "function_call", "call_id": "call_1", "name": name, "arguments": '{"of": 1}'},
        {"type": "function_call_output", "call_id": "call_1", "output": json.dumps(output)},
    ]


async def read(*items: Any) -> list[Any]:
    return list(await ClientToolConverter(SEQUENCER).to_agent_input(items))


@pytest.mark.parametrize("output", [None, {"ok": True}, {"error": "no"}])
async def test_a_call_without_a_wanted_answer_is_left_out(output: Any) -> None:
    """A call whose answer nobody wanted does not reach the model, whatever was answered."""
    assert [] == await read(call("animate", output))


@pytest.mark.parametrize("name", ["animate", "select", "ask", "unknown"])
async def test_a_pending_call_is_left_out(name: str) -> None:
    """A call that is still at the browser has no answer, and the model's provider would refuse it."""
    assert [] == await read(call(name, status="pending"))


@pytest.mark.parametrize(
    ("name", "output"),
    [("select", ["a", "b"]), ("select", []), ("ask", {"any": 1}), ("ask", None), ("unknown", "yes")],
)
async def test_a_wanted_answer_is_read_as_it_is(name: str, output: Any) -> None:
    """A wanted answer reaches the model as ChatKit would tell it, that of an undeclared tool too."""
    plain = await ThreadItemConverter().to_agent_input(call(name, output))

    assert as_read(name, output) == await read(call(name, output))
    assert plain == await read(call(name, output))


@pytest.mark.parametrize(
    ("name", "output", "error"),
    [
        ("select", "a", "the browser's answer does not fit: value: Input should be a valid array (got str)"),
        ("select", None, "the browser's answer does not fit: value: Input should be a valid array (got NoneType)"),
        ("select", {"error": "no canvas"}, "no canvas"),
        ("ask", {"error": "no canvas"}, "no canvas"),
        ("unknown", {"error": "no canvas"}, "no canvas"),
    ],
)
async def test_a_failed_call_is_read_as_an_error(name: str, output: Any, error: str) -> None:
    """An invalid answer reaches the model as an error it can read: the browser's own words, or what is wrong."""
    assert as_read(name, {"error": error}) == await read(call(name, output))


RECEIPT = "thr_1:call_0123456789abcdef0123456789abcdef"


@pytest.mark.parametrize(
    ("stored", "read_as"),
    [
        (["a"], ["a"]),
        ({"_receipt": RECEIPT, "result": ["a"]}, ["a"]),
        ({"_receipt": RECEIPT, "error": "no canvas"}, {"error": "no canvas"}),
    ],
)
async def test_receipts_are_left_out(stored: Any, read_as: Any) -> None:
    """The model reads params and answer without the receipt, also where plain ChatKitServer has stored it."""
    item = call("select", stored)
    with_receipt = item.model_copy(update={"arguments": {**item.arguments, "_receipt": RECEIPT}})

    assert as_read("select", read_as) == await read(with_receipt)


async def test_a_call_id_is_read_once() -> None:
    """If two items have one call id, the later one is read under an id of its own, the same one each time."""
    output = item_of("output_1", Output("call_1", "search", "{}", "asked"), "thr_1", at(1))

    first, second = await read(output, call("ask", 1)), await read(output, call("ask", 1))

    ids = [item["call_id"] for item in first]
    assert ["call_1", "call_1"] == ids[:2]
    assert "call_1" != ids[2] == ids[3]
    assert first == second


@pytest.mark.parametrize("theirs", ["INV-77", "thr_2:call_0123456789abcdef0123456789abcdef", "thr_1:call_1", 5, None])
async def test_a_param_of_the_applications_own_is_read(theirs: Any) -> None:
    """A `_receipt` that is not one of ours for this thread is a param like any other."""
    item = call("ask", 1).model_copy(update={"arguments": {"_receipt": theirs}})

    assert json.dumps({"_receipt": theirs}) == (await read(item))[0]["arguments"]


async def test_the_item_is_not_changed() -> None:
    """What is told to the model is not what is stored."""
    item = call("select", "a")

    await read(item)

    assert call("select", "a") == item


class Loud(ThreadItemConverter):
    """A converter somebody has already, with arguments of its own."""

    def __init__(self, mark: str) -> None:
        super().__init__()
        self.mark = mark

    async def hidden_context_to_input(self, item: HiddenContextItem) -> Any:
        content = [{"type": "input_text", "text": item.content + self.mark}]
        return {"type": "message", "role": "user", "content": content}

    async def client_tool_call_to_input(self, item: ClientToolCallItem) -> Any:
        return await super().client_tool_call_to_input(item.model_copy(update={"name": item.name + self.mark}))


class TestAsMixin:
    class Both(ClientToolConverter, Loud):
        """Ours before theirs."""

    async def test_theirs_gets_what_ours_lets_through(self) -> None:
        """Put before another converter it decides which calls there are, and the other one how they are told."""
        converter = self.Both(SEQUENCER, "!")

        converted = [
            *await converter.to_agent_input([call("animate"), call("ask", 1)]),
            *await converter.to_agent_input([call("animate"), call("select", 2)]),
        ]

        problem = "the browser's answer does not fit: value: Input should be a valid array (got int)"
        assert [*as_read("ask!", 1), *as_read("select!", {"error": problem})] == converted

    async def test_theirs_gets_its_own_arguments(self) -> None:
        """The sequencer comes first; whatever else is given, by place or by name, goes to the other converter."""
        assert ["?", "!"] == [self.Both(SEQUENCER, "?").mark, self.Both(SEQUENCER, mark="!").mark]

    async def test_their_other_items_stay_theirs(self) -> None:
        """What is not a client tool call is converted by the other one alone."""
        note = HiddenContextItem(id="note_1", thread_id="thr_1", created_at=at(1), content="x")

        expected = await Loud("!").to_agent_input([note])

        assert expected == await self.Both(SEQUENCER, "!").to_agent_input([note])
        assert "x!" in repr(expected)


def test_what_is_no_sequencer_is_refused() -> None:
    """A list of tools in the place of the sequencer is refused at once, not when the first call is read."""
    with pytest.raises(UsageError) as raised:
        ClientToolConverter([ClientTool("x")])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

    assert "ClientToolConverter takes the ClientToolSequencer that the tools and the server share, not a list" == str(
        raised.value
    )
