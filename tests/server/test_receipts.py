"""Receipts: an answer that says which call it is for cannot be taken for another one's."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from agents.tool_context import ToolContext
from chatkit.agents import ClientToolCall

from chatkit_clienttools import ClientToolSequencer
from chatkit_clienttools.errors import UsageError
from tests.helpers.conversation import Conversation
from tests.helpers.merak import TOOLS, anything, selection
from tests.helpers.scripted import Scripted, asks, message, says, scripted
from tests.helpers.server import (
    NAMES,
    NOTHING,
    RESUME,
    THREE,
    answered_by_a_process_that_died,
    everything,
    lines,
    outputs,
)
from tests.helpers.stores import PlainStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from chatkit.store import Store

    from tests.helpers.conversation import Reply


def receipt_in(reply: Reply) -> str:
    """The receipt of the one call that came."""
    [item] = reply.call_items
    receipt = item["arguments"]["_receipt"]
    assert isinstance(receipt, str)
    return receipt


class TestReceipts:
    async def test_each_call_carries_its_own(self, store: Store[Any]) -> None:
        """The params hold a receipt that names the thread and an id of our own, another one for each call."""
        _, chat = scripted(store, asks(*THREE), says("done"), receipts=True)

        replies = [await chat.say("go"), await chat.answer(), await chat.answer([])]

        receipts = [receipt_in(reply) for reply in replies]
        params = [{"state": "start"}, {}, {"state": "stop"}]
        assert [{**each, "_receipt": receipt} for each, receipt in zip(params, receipts, strict=True)] == [
            arguments for reply in replies for _, arguments in reply.calls
        ]
        assert 3 == len(set(receipts))
        assert [] == [r for r in receipts if not re.fullmatch(f"{chat.thread_id}:call_[0-9a-f]{{32}}", r)]

    async def test_an_answer_with_its_receipt_is_stored_bare(self, store: Store[Any]) -> None:
        """The answer is taken out of its envelope, a result as well as an error."""
        _, chat = scripted(store, asks(selection(), anything()), says("done"), receipts=True)
        first = receipt_in(await chat.say("go"))

        second = receipt_in(await chat.answer({"_receipt": first, "result": ["a"]}))
        last = await chat.answer({"_receipt": second, "error": "no such node"})

        assert ["done"] == last.texts
        assert [["a"], {"error": "no such node"}] == await outputs(chat)

    async def test_a_bare_answer_is_taken_too(self, store: Store[Any]) -> None:
        """A frontend that knows nothing of receipts goes on working."""
        _, chat = scripted(store, asks(*THREE), says("done"), receipts=True)
        await chat.say("go")

        replies = [await chat.answer(["a"]) for _ in THREE]

        assert ["done"] == replies[-1].texts

    async def test_a_repeat_after_the_next_was_released_changes_nothing(self, store: Store[Any], log: Any) -> None:
        """The answer to call n, posted again, is not taken for n+1's; that call is streamed once more, as it is."""
        server, chat = scripted(store, asks(*THREE), says("done"), receipts=True)
        first = receipt_in(await chat.say("go"))
        [second] = (await chat.answer({"_receipt": first, "result": 1})).call_items
        before = await everything(chat)
        log.clear()

        reply = await chat.answer({"_receipt": first, "result": 1})

        assert [second["id"]] == [item["id"] for item in reply.call_items]
        assert before == await everything(chat)
        assert 1 == server.runs
        assert ["INFO"] == [level for level, _ in lines(log)]

    async def test_a_repeat_of_an_older_one_is_ignored(self, store: Store[Any], log: Any) -> None:
        """The answer to a call before the last one brings nothing: the stream closes normally, and one line says so."""
        server, chat = scripted(store, asks(*THREE), says("done"), receipts=True)
        first = receipt_in(await chat.say("go"))
        second = receipt_in(await chat.answer({"_receipt": first, "result": 1}))
        await chat.answer({"_receipt": second, "result": []})
        before = await everything(chat)
        log.clear()

        reply = await chat.answer({"_receipt": first, "result": 1})

        assert NOTHING == reply.types
        assert before == await everything(chat)
        assert 1 == server.runs
        [(level, line)] = lines(log)
        assert ("INFO", True) == (level, "another call is pending; nothing was changed" in line)

    async def test_without_them_it_is_taken_for_the_next(self) -> None:
        """The one hazard that remains without receipts: a repeated POST of answer n is recorded as n+1's."""
        _, chat = scripted(PlainStore(), asks(selection(), selection()), says("done"))
        await chat.say("go")
        await chat.answer(["first"])

        await chat.answer(["first"])

        assert [["first"], ["first"]] == await outputs(chat)

    async def test_a_repeat_with_nothing_pending_goes_on(self, store: Store[Any]) -> None:
        """The process died after the answer was written: its repeat, with its receipt, releases the next call."""
        _, chat = scripted(store, asks(*THREE), says("done"), receipts=True)
        first = receipt_in(await chat.say("go"))
        await answered_by_a_process_that_died(chat)

        assert [NAMES[1]] == [name for name, _ in (await chat.answer({"_receipt": first, "result": 1})).calls]

    async def test_a_repeat_of_the_last_runs_what_has_not_run(self, store: Store[Any]) -> None:
        """The process died after the last answer was written: its repeat, with its receipt, lets the model run."""
        _, chat = scripted(store, asks(selection()), says("done"), receipts=True)
        receipt = receipt_in(await chat.say("go"))
        await answered_by_a_process_that_died(chat, ["a"])

        assert ["done"] == (await chat.answer({"_receipt": receipt, "result": ["a"]})).texts
        assert NOTHING == (await chat.answer({"_receipt": receipt, "result": ["a"]})).types

    @pytest.mark.parametrize("posted", [{"_receipt": "stale", "result": 1}, {"_receipt": "stale"}])
    async def test_a_stale_receipt_starts_nothing(self, posted: Any, store: Store[Any]) -> None:
        """Where calls wait and none is pending, only the answer that was recorded last may set them going."""
        server, chat = scripted(store, asks(*THREE), says("done"), receipts=True)
        await chat.say("go")
        await answered_by_a_process_that_died(chat)

        assert NOTHING == (await chat.answer(posted)).types
        assert 1 == server.runs

    @pytest.mark.parametrize(
        "posted",
        [{"_receipt": 5, "result": 1}, {"_receipt": None}, {"result": 1}, "_receipt", None, [{"_receipt": "x"}]],
    )
    async def test_what_is_no_receipt_is_an_answer(self, posted: Any) -> None:
        """Only an object whose `_receipt` is a text has one: everything else is stored as it is."""
        _, chat = scripted(PlainStore(), asks(anything()), says("done"), receipts=True)
        await chat.say("go")

        assert ["done"] == (await chat.answer(posted)).texts
        assert [posted] == await outputs(chat)

    async def test_calls_that_went_out_with_them_are_held_to_them(self) -> None:
        """The option was switched off while a call was out: its answer still comes in an envelope."""
        store = PlainStore()
        _, chat = scripted(store, asks(selection()), receipts=True)
        receipt = receipt_in(await chat.say("go"))
        _, later = scripted(store, says("done"))
        later.thread_id = chat.thread_id

        assert NOTHING == (await later.answer({"_receipt": "another", "result": 1})).types
        assert ["done"] == (await later.answer({"_receipt": receipt, "result": ["a"]})).texts
        assert [["a"]] == await outputs(later)

    async def test_a_call_that_is_sent_again_keeps_its_receipt(self, store: Store[Any]) -> None:
        """A page that has run the call already answers the second attempt from its memory: the receipt is the same."""
        _, chat = scripted(store, asks(selection()), says("done"), receipts=True)
        receipts = [receipt_in(await chat.say("go"))]

        receipts += [receipt_in(await chat.act(RESUME)) for _ in range(3)]

        assert 1 == len(set(receipts))
        assert ["done"] == (await chat.answer({"_receipt": receipts[0], "result": ["a"]})).texts


class TestTheWord:
    """`_receipt` is a word that an application may use itself."""

    async def test_it_is_reserved_where_receipts_go_out(self) -> None:
        """With receipts a tool's own `_receipt` would be lost: enqueue says so."""
        raised: list[Exception] = []

        async def body(server: Any, context: Any) -> AsyncIterator[Any]:
            try:
                server.sequencer.enqueue(context, ClientToolCall(name="bill", arguments={"_receipt": "INV-77"}))
            except UsageError as error:
                raised.append(error)
            yield message("x", context.thread, "x")

        _, chat = scripted(PlainStore(), body, receipts=True)
        await chat.say("go")

        assert "'_receipt' is where its receipt goes" in str(raised[0])

    async def test_it_is_free_where_they_do_not(self) -> None:
        """Without receipts it is a param like any other, in the call and in its answer."""
        _, chat = scripted(
            PlainStore(), asks(ClientToolCall(name="bill", arguments={"_receipt": "INV-77"})), says("thanks")
        )
        await chat.say("go")

        assert ["thanks"] == (await chat.answer({"_receipt": "INV-77", "paid": True})).texts
        assert [{"_receipt": "INV-77", "paid": True}] == await outputs(chat)

    async def test_an_answer_may_use_it_too(self) -> None:
        """An answer to a call without a receipt is stored as it is, even if it has a `_receipt` of its own."""
        _, chat = scripted(PlainStore(), asks(anything()), says("done"))
        await chat.say("go")

        await chat.answer({"_receipt": "mine", "result": 1})

        assert [{"_receipt": "mine", "result": 1}] == await outputs(chat)


PROVIDED = ["call_0", "functions.look:0", "call_9pQrT0aBcDeFgHiJkLmNoPqR", "call_" + 32 * "0"]
"""Ids that providers give; a caching gateway gives even the random ones again, in another thread or later in one."""


class TestProviders:
    @pytest.mark.parametrize("provided", PROVIDED)
    async def test_a_receipt_is_never_a_providers_id(self, provided: str) -> None:
        """Two threads in which the provider gave the same id have different receipts, none made of that id."""
        receipts = []
        for _ in range(2):
            sequencer = ClientToolSequencer(TOOLS, receipts=True)
            chat = Conversation(Scripted(PlainStore(), sequencer, tool_call(sequencer, provided)))
            receipts.append(receipt_in(await chat.say("go")))

        assert 2 == len(set(receipts))
        assert [] == [receipt for receipt in receipts if receipt.endswith(f":{provided}")]

    @pytest.mark.parametrize("provided", PROVIDED)
    async def test_an_id_that_comes_again_in_one_thread_gets_another(self, provided: str) -> None:
        """A provider's id that comes back much later in the same thread gives another receipt and another item."""
        sequencer = ClientToolSequencer(TOOLS, receipts=True)
        bodies = [each for _ in range(30) for each in (tool_call(sequencer, provided), says("ok"))]
        chat = Conversation(Scripted(PlainStore(), sequencer, *bodies))
        receipts = []

        for n in range(30):
            receipts.append(receipt_in(await chat.say("go")))
            await chat.answer({"_receipt": receipts[-1], "result": [str(n)]})

        assert 30 == len(set(receipts))
        assert [[str(n)] for n in range(30)] == await outputs(chat)

    @pytest.mark.parametrize("provided", PROVIDED)
    async def test_the_call_id_is_the_providers(self, provided: str) -> None:
        """The model reads the call under the id under which it made it."""
        sequencer = ClientToolSequencer(TOOLS)
        chat = Conversation(Scripted(PlainStore(), sequencer, tool_call(sequencer, provided)))

        assert [provided] == [item["call_id"] for item in (await chat.say("go")).call_items]

    @pytest.mark.parametrize("provided", ["", "__fake_id__", "call_\nCRITICAL forged", "x" * 500, "call 1"])
    async def test_an_id_that_is_none_is_replaced(self, provided: str) -> None:
        """What is the same for every call, cannot stand in a line of the log, or is very long: ours is taken."""
        sequencer = ClientToolSequencer(TOOLS)
        chat = Conversation(Scripted(PlainStore(), sequencer, tool_call(sequencer, provided)))

        [item] = (await chat.say("go")).call_items

        assert re.fullmatch("call_[0-9a-f]{32}", item["call_id"])


def tool_call(sequencer: ClientToolSequencer, provided: str) -> Any:
    """A body that enqueues as a tool does that a provider has called with an id of its own."""

    async def body(server: Any, context: Any) -> AsyncIterator[Any]:
        tool_context = ToolContext(context, tool_name="look", tool_call_id=provided, tool_arguments="{}")
        sequencer.enqueue(tool_context, selection())
        return
        yield

    return body
