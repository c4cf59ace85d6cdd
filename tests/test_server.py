"""`ClientToolServer`: whatever the browser posts, and whenever, its stream ends in good order."""

from __future__ import annotations

import asyncio
import json
import logging
from abc import abstractmethod
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import chatkit.types
import pytest
from agents.tool_context import ToolContext
from chatkit.agents import ClientToolCall
from chatkit.errors import CustomStreamError, ErrorCode, StreamError
from chatkit.server import ChatKitServer
from chatkit.types import (
    ClientToolCallItem,
    CustomTask,
    HiddenContextItem,
    ThreadItemDoneEvent,
    Workflow,
    WorkflowItem,
)

from chatkit_clienttools import ClientToolSequencer, ClientToolServer, SequencedAgentContext, ValidatingStore
from chatkit_clienttools import _requests as requests_module
from chatkit_clienttools import server as server_module
from chatkit_clienttools.errors import InvalidRequestError, NotSequencedError, UsageError
from chatkit_clienttools.stores import MemoryStore
from tests.helpers.conversation import CHATKIT_DROPS_PENDING_ON_MESSAGE, Conversation, at
from tests.helpers.guarded import guarded, guarded_by, guarded_class
from tests.helpers.merak import TOOLS, animation, anything, profiles, selection
from tests.helpers.stores import ClockStore, InsertStore, LiveStore, PlainStore, PlansStore, WatchedStore
from tests.test_sequencer import asks, fails, message, says

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from chatkit.store import Store

STORES: dict[str, Callable[[], Store[Any]]] = {
    "plain": PlainStore,
    "plans": PlansStore,
    "live": LiveStore,
    "clock": ClockStore,
    "insert": InsertStore,
    "memory": MemoryStore,
    "valid plain": lambda: ValidatingStore(PlainStore()),
    "valid plans": lambda: ValidatingStore(PlansStore()),
    "valid live": lambda: ValidatingStore(LiveStore()),
    "valid memory": lambda: ValidatingStore(MemoryStore()),
}

THREE = [animation(state="start"), selection(), animation(state="stop")]
NAMES = [call.name for call in THREE]

QUIET = ["stream_options"]
"""A stream that ends in good order and says nothing."""


@pytest.fixture(params=list(STORES.values()), ids=list(STORES))
def store(request: pytest.FixtureRequest) -> Store[Any]:
    made: Store[Any] = request.param()
    return made


@pytest.fixture(autouse=True)
def log(caplog: pytest.LogCaptureFixture, request: pytest.FixtureRequest) -> Iterator[pytest.LogCaptureFixture]:
    """What the server logs; a traceback fails the test, unless it is of a body that was made to fail."""
    caplog.set_level(logging.INFO)
    yield caplog
    if request.node.get_closest_marker("fails") is None:
        assert [] == [record for record in caplog.get_records("call") if record.exc_info]


def lines(log: pytest.LogCaptureFixture, *, at_least: int = logging.INFO) -> list[tuple[str, str]]:
    """What was logged besides the steps of calls: level and first words."""
    return [
        (record.levelname, record.getMessage())
        for record in log.records
        if record.name.startswith("chatkit_clienttools")
        and record.levelno >= at_least
        and not record.getMessage().startswith("client tool call ")
    ]


async def everything(chat: Conversation) -> Any:
    """What the store holds of the thread."""
    thread = await chat.server.store.load_thread(chat.thread_id or "", None)
    return thread.model_dump(), [item.model_dump() for item in await chat.items()]


def hidden(chat: Conversation, n: int = 1) -> HiddenContextItem:
    return HiddenContextItem(id=f"h{n}", thread_id=chat.thread_id or "", created_at=at(n), content="x")


def old_call(chat: Conversation, n: int) -> ClientToolCallItem:
    """A pending call that no plan has put into the thread."""
    thread_id = chat.thread_id or ""
    return ClientToolCallItem(
        id=f"o{n}", thread_id=thread_id, created_at=at(n), call_id=f"c{n}", name=f"old{n}", arguments={}
    )


async def answered_behind_our_back(chat: Conversation, output: Any = None) -> None:
    """What the store is like when the process has died just after it had written an answer."""
    pending = next(item for item in await chat.items() if item.type == "client_tool_call" and item.status == "pending")
    done = pending.model_copy(update={"status": "completed", "output": output})
    await chat.server.store.save_item(chat.thread_id or "", done, None)


class TestAnAnswerThatFindsItsCall:
    async def test_three_calls_go_out_in_order(self, store: Store[Any]) -> None:
        """Each answer releases the next call, and the body runs once more after the last."""
        server, chat = guarded(store, asks(*THREE), says("done"))

        replies = [await chat.say("go"), *[await chat.answer(["a"]) for _ in THREE]]

        assert [[name] for name in NAMES] == [[name for name, _ in reply.calls] for reply in replies[:3]]
        assert ["done"] == replies[3].texts
        assert [(name, "completed") for name in NAMES] == await chat.calls()
        assert 2 == server.runs

    async def test_behind_a_hidden_item(self, store: Store[Any]) -> None:
        """An item that the application has added since is no hindrance."""
        _, chat = guarded(store, asks(*THREE), says("done"))
        await chat.say("go")
        await chat.touch(hidden(chat))

        assert [(NAMES[1], {})] == (await chat.answer()).calls

    async def test_behind_a_workflow(self, store: Store[Any]) -> None:
        """Nor is a workflow."""
        _, chat = guarded(store, asks(*THREE), says("done"))
        await chat.say("go")
        workflow = Workflow(type="custom", tasks=[CustomTask(title="t")])
        await chat.touch(WorkflowItem(id="wf", thread_id=chat.thread_id or "", created_at=at(1), workflow=workflow))

        assert [(NAMES[1], {})] == (await chat.answer()).calls

    @pytest.mark.skipif(not hasattr(chatkit.types, "StructuredInputItem"), reason="this ChatKit has no forms")
    async def test_behind_a_form(self, store: Store[Any]) -> None:
        """Nor is a form that the user fills in: the body runs for it, and the call stays."""
        server, chat = guarded(store, asks(selection()), says("thanks for the form"), says("done"))
        await chat.say("go")
        form = chatkit.types.StructuredInputItem(id="f", thread_id=chat.thread_id or "", created_at=at(1), inputs=[])
        await chat.touch(form)

        filled = await chat.fill_in("f")
        answered = await chat.answer(["a"])

        assert (["thanks for the form"], ["done"]) == (filled.texts, answered.texts)
        assert 3 == server.runs

    @pytest.mark.skipif(CHATKIT_DROPS_PENDING_ON_MESSAGE, reason="this ChatKit deletes pending calls by itself")
    async def test_behind_a_user_message(self, store: Store[Any]) -> None:
        """With "keep" the call stays where it is, and its answer is taken after the answer to the message."""
        server, chat = guarded(store, asks(*THREE), says("yes?"), says("done"), on_user_message="keep")
        await chat.say("go")
        before = [item for item in await chat.items() if item.type == "client_tool_call"]

        await chat.say("and?")

        assert before == [item for item in await chat.items() if item.type == "client_tool_call"]
        assert [(NAMES[1], {})] == (await chat.answer()).calls
        assert [(NAMES[2], {"state": "stop"})] == (await chat.answer(["a"])).calls
        assert ["done"] == (await chat.answer()).texts
        assert 3 == server.runs

    @pytest.mark.skipif(CHATKIT_DROPS_PENDING_ON_MESSAGE, reason="this ChatKit deletes pending calls by itself")
    async def test_while_the_body_of_a_kept_message_streams(self) -> None:
        """Nor has it to wait for that."""
        begun, goes_on = asyncio.Event(), asyncio.Event()

        async def slow(server: Any, context: Any) -> AsyncIterator[Any]:
            begun.set()
            await goes_on.wait()
            yield message("yes?", context.thread, "yes")

        _, chat = guarded(PlainStore(), asks(*THREE), slow, says("done"), on_user_message="keep")
        await chat.say("go")
        saying = asyncio.create_task(chat.say("and?"))
        await begun.wait()

        reply = await chat.answer()
        goes_on.set()

        assert [(NAMES[1], {})] == reply.calls
        assert ["yes?"] == (await saying).texts

    async def test_a_call_that_nobody_has_planned(self, store: Store[Any]) -> None:
        """A pending call from before the sequencer came is answered, and the model gets to speak."""
        server, chat = guarded(store, says("hello"), says("thanks"))
        await chat.say("hi")
        await chat.touch(old_call(chat, 1))

        assert ["thanks"] == (await chat.answer(1)).texts
        assert QUIET == (await chat.answer(1)).types
        assert [("old1", "completed")] == await chat.calls()
        assert 2 == server.runs

    async def test_several_that_nobody_has_planned(self) -> None:
        """What plain ChatKit would have deleted is deleted; the newest gets the answer."""
        server, chat = guarded(PlainStore(), says("hello"), says("thanks"))
        await chat.say("hi")
        for n in (1, 2):
            await chat.touch(old_call(chat, n))

        assert ["thanks"] == (await chat.answer(1)).texts
        assert [("old2", "completed")] == await chat.calls()
        assert 2 == server.runs


class TestAnAnswerWithNothingPending:
    async def test_the_next_call_goes_out(self, store: Store[Any]) -> None:
        """The process died after the answer was written: the repeated POST releases the next call."""
        server, chat = guarded(store, asks(*THREE), says("done"))
        await chat.say("go")
        await answered_behind_our_back(chat)

        assert [(NAMES[1], {})] == (await chat.answer()).calls
        assert 1 == server.runs

    async def test_the_model_sees_the_last_answer(self, store: Store[Any]) -> None:
        """So it did after the last answer: the repeated POST lets the model run."""
        server, chat = guarded(store, asks(selection()), says("done"))
        await chat.say("go")
        await answered_behind_our_back(chat, ["a"])

        assert ["done"] == (await chat.answer(["a"])).texts
        assert QUIET == (await chat.answer(["a"])).types
        assert 2 == server.runs

    @pytest.mark.fails
    async def test_a_run_that_failed_is_repeated(self, store: Store[Any]) -> None:
        """Commit after success: the same answer, posted again, runs the body again; no call is executed twice."""
        server, chat = guarded(store, asks(*THREE), fails(text="well"), says("done"))
        replies = [await chat.say("go"), *[await chat.answer(["a"]) for _ in THREE]]
        assert 1 == len(replies[-1].errors)

        again = await chat.answer(["a"])

        assert ["done"] == again.texts
        assert [] == again.calls
        assert 3 == server.runs

    async def test_a_repeat_of_the_last_changes_nothing(self, store: Store[Any], log: Any) -> None:
        """Nothing is left to do: the stream ends in good order, and one line says so."""
        server, chat = guarded(store, asks(*THREE), says("done"))
        await chat.say("go")
        for _ in THREE:
            await chat.answer(["a"])
        before = await everything(chat)

        reply = await chat.answer(["b"])

        assert QUIET == reply.types
        assert before == await everything(chat)
        assert 2 == server.runs
        [(level, line)] = lines(log)
        assert ("INFO", True) == (level, "no call is pending; nothing was changed" in line)

    async def test_a_late_one_after_a_message_changes_nothing(self, store: Store[Any], log: Any) -> None:
        """The message has cancelled the call: its answer comes too late."""
        server, chat = guarded(store, asks(selection()), says("never mind"))
        await chat.say("go")
        await chat.say("forget it")
        before = await everything(chat)

        reply = await chat.answer(["a"])

        assert QUIET == reply.types
        assert before == await everything(chat)
        assert 2 == server.runs
        assert ["INFO"] == [level for level, _ in lines(log)]

    async def test_one_in_a_thread_that_never_asked(self, store: Store[Any]) -> None:
        """Plain ChatKit breaks the stream; here nothing happens."""
        server, chat = guarded(store, says("hello"))
        await chat.say("hi")

        assert QUIET == (await chat.answer()).types
        assert 1 == server.runs

    async def test_two_at_once(self, store: Store[Any]) -> None:
        """A double click: one of the two goes on, the model runs once."""
        watched = WatchedStore(store)
        server, chat = guarded(watched, asks(selection()), says("done"))
        await chat.say("go")
        watched.take_turns()

        replies = await asyncio.gather(chat.answer(["a"]), chat.answer(["b"]))

        assert [["stream_options"], ["stream_options", "thread.item.done"]] == sorted(r.types for r in replies)
        assert 2 == server.runs

    async def test_two_at_once_in_the_middle(self, store: Store[Any]) -> None:
        """Without receipts the second of two can only be taken for an answer to the next call; nothing breaks."""
        watched = WatchedStore(store)
        server, chat = guarded(watched, asks(*THREE), says("done"))
        await chat.say("go")
        watched.take_turns()

        replies = await asyncio.gather(chat.answer(["a"]), chat.answer(["a"]))

        assert [] == [error for reply in replies for error in reply.errors]
        assert 1 == server.runs
        assert ["completed"] == [status for _, status in await chat.calls()][:1]


class TestTwoWorkers:
    async def test_the_model_runs_once(self) -> None:
        """While one worker lets the model run, an answer to the other ends in good order."""
        store = PlansStore()
        begun, goes_on = asyncio.Event(), asyncio.Event()

        async def slow(server: Any, context: Any) -> AsyncIterator[Any]:
            begun.set()
            await goes_on.wait()
            yield message("done", context.thread, "done")

        _, chat = guarded(store, asks(selection()), slow)
        other, elsewhere = guarded(store)
        await chat.say("go")
        elsewhere.thread_id = chat.thread_id
        answering = asyncio.create_task(chat.answer(["a"]))
        await begun.wait()

        assert QUIET == (await elsewhere.answer(["a"])).types
        goes_on.set()
        assert ["done"] == (await answering).texts
        assert QUIET == (await elsewhere.answer(["a"])).types
        assert 0 == other.runs

    @pytest.mark.parametrize("late", [["a"], ["b"]])
    async def test_a_validator_that_the_other_was_quicker_for(self, late: list[str]) -> None:
        """Both have seen the pending call: the second answer is late, and the first one stays."""
        store = WatchedStore(ValidatingStore(PlansStore()))
        _, chat = guarded(store, asks(selection()), says("done"))
        _, elsewhere = guarded(store)
        await chat.say("go")
        elsewhere.thread_id = chat.thread_id
        gate = store.gate("save_item")
        slow = asyncio.create_task(elsewhere.answer(late))
        await gate.reached.wait()
        quick = await chat.answer(["a"])
        gate.open.set()

        assert ["done"] == quick.texts
        assert QUIET == (await slow).types
        assert [["a"]] == [i.output for i in await chat.items() if i.type == "client_tool_call"]


class TestFailingStores:
    @pytest.mark.parametrize("make", [PlainStore, PlansStore])
    @pytest.mark.parametrize("operation", ["load_thread", "load_thread_items", "load_plan", "save_item", "save_plan"])
    @pytest.mark.parametrize("moment", ["before", "after"])
    async def test_one_error_that_a_person_can_read(
        self, make: Any, operation: str, moment: str, log: pytest.LogCaptureFixture
    ) -> None:
        """Whichever operation fails, before or after it was done: one event, one line, and the repeat goes on."""
        if make is PlainStore and "plan" in operation:
            operation = "load_thread"
        store = WatchedStore(make())
        server, chat = guarded(store, asks(*THREE), says("done"))
        await chat.say("go")
        log.clear()

        async def fail(name: str, _: Any) -> None:
            if name == operation:
                raise ConnectionError("secret password in the address")

        setattr(store, moment, fail)
        reply = await chat.answer()
        setattr(store, moment, None)

        [error] = reply.errors
        assert "Try again in a moment." in error["message"]
        assert error["allow_retry"]
        [(level, line)] = lines(log, at_least=logging.WARNING)
        assert ("ERROR", True) == (level, "could not be carried out: ConnectionError (test_server.py, line" in line)
        assert "secret" not in log.text
        if not (
            await chat.answer()
        ).calls:  # another worker's claim, as far as anybody can know: it ends with its lease
            pytest.fail("the repeated answer does not release the next call")
        assert 1 == server.runs

    async def test_one_that_comes_after_a_call_was_withdrawn(self) -> None:
        """The page hears of what was deleted, also when the request fails right after that."""
        store = WatchedStore(PlainStore())
        _, chat = guarded(store, says("hello"))
        await chat.say("hi")
        for n in (1, 2):
            await chat.touch(old_call(chat, n))

        async def fail(name: str, _: Any) -> None:
            if name == "save_item":
                raise ConnectionError

        store.before = fail
        reply = await chat.answer([])

        assert 1 == len(reply.errors)
        assert ["o1"] == [event["item_id"] for event in reply.events if event["type"] == "thread.item.removed"]

    async def test_one_that_a_run_meets(self, log: pytest.LogCaptureFixture) -> None:
        """What fails as a run begins is such an error too, and the run has not begun."""
        store = WatchedStore(PlainStore())
        server, chat = guarded(store, says("hello"), says("again"))
        await chat.say("hi")

        async def fail(name: str, _: Any) -> None:
            if name == "load_thread_items":
                raise ConnectionError

        store.before = fail
        [error] = (await chat.say("hello?")).errors

        assert ("custom", True) == (error["code"], error["allow_retry"])
        [(level, line)] = lines(log)
        assert ("ERROR", True) == (level, f"thread {chat.thread_id}: the request could not" in line)
        assert 1 == server.runs

    @pytest.mark.fails
    async def test_one_that_chatkit_itself_meets(self) -> None:
        """The released call cannot be stored: ChatKit logs it, and its error has a sentence too."""
        store = WatchedStore(PlainStore())
        _, chat = guarded(store, asks(*THREE))
        await chat.say("go")

        async def fail(name: str, _: Any) -> None:
            if name == "add_thread_item":
                raise ConnectionError

        store.before = fail
        reply = await chat.answer()
        store.before = None

        assert ["Something went wrong on the server. Try again."] == [error["message"] for error in reply.errors]
        assert [(NAMES[1], {})] == (await chat.answer()).calls

    async def test_a_validator_that_refuses(self, log: pytest.LogCaptureFixture) -> None:
        """What a validator says is logged; the person reads that the step does not fit."""

        class Frozen(ValidatingStore[Any]):
            async def save_item(self, thread_id: str, item: Any, context: Any) -> None:
                changed = item.model_copy(update={"name": "another"})
                await super().save_item(thread_id, changed, context)

        _, chat = guarded(Frozen(PlainStore()), asks(selection()))
        await chat.say("go")
        log.clear()

        [error] = (await chat.answer(["private"])).errors

        assert "Reload the page." in error["message"]
        assert not error["allow_retry"]
        assert ["ERROR"] == [level for level, _ in lines(log)]
        assert "Only status and output of a call ever change" in log.text
        assert "private" not in log.text

    async def test_a_damaged_plan(self, log: pytest.LogCaptureFixture) -> None:
        """A plan that cannot be read is one error that names the thread and the cure."""
        store = PlansStore()
        _, chat = guarded(store, asks(selection()))
        await chat.say("go")
        store.plans[chat.thread_id or ""] = store.plans[chat.thread_id or ""]._replace(document="{")

        [error] = (await chat.answer()).errors
        [error_of_message] = (await chat.say("hello?")).errors

        assert "it is not JSON" in error["message"]
        assert "sequencer.cancel" in error_of_message["message"]
        assert ["WARNING", "WARNING"] == [level for level, _ in lines(log)]

    async def test_a_thread_that_does_not_exist(self, log: pytest.LogCaptureFixture) -> None:
        """Another user's thread, or one that was deleted: a sentence, no traceback, no retry."""
        _, chat = guarded(PlainStore())
        chat.thread_id = "thr_of_somebody_else"

        for reply in [await chat.answer(), await chat.say("hi"), await chat.act("chatkit_clienttools.resume")]:
            [error] = reply.errors
            assert "does not exist" in error["message"]
            assert not error["allow_retry"]
        assert ["WARNING"] * 3 == [level for level, _ in lines(log)]


class TestReceipts:
    async def test_each_call_carries_its_own(self, store: Store[Any]) -> None:
        """The params hold the call id; what is planned and what the model reads do not."""
        _, chat = guarded(store, asks(*THREE), says("done"), receipts=True)

        replies = [await chat.say("go"), await chat.answer(), await chat.answer([])]

        items = [item for reply in replies for item in reply.call_items]
        params = [{"state": "start"}, {}, {"state": "stop"}]
        assert [{**each, "_receipt": item["call_id"]} for each, item in zip(params, items, strict=True)] == [
            item["arguments"] for item in items
        ]

    async def test_an_answer_with_its_receipt_is_stored_bare(self, store: Store[Any]) -> None:
        """The answer is taken out of its envelope, a result as well as an error."""
        _, chat = guarded(store, asks(selection(), anything()), says("done"), receipts=True)
        first = (await chat.say("go")).call_items[0]["call_id"]

        second = (await chat.answer({"_receipt": first, "result": ["a"]})).call_items[0]["call_id"]
        last = await chat.answer({"_receipt": second, "error": "no such node"})

        assert ["done"] == last.texts
        outputs = [item.output for item in await chat.items() if item.type == "client_tool_call"]
        assert [["a"], {"error": "no such node"}] == outputs

    async def test_a_bare_answer_is_taken_too(self, store: Store[Any]) -> None:
        """A frontend that knows nothing of receipts goes on working."""
        _, chat = guarded(store, asks(*THREE), says("done"), receipts=True)
        await chat.say("go")

        replies = [await chat.answer(["a"]) for _ in THREE]

        assert ["done"] == replies[-1].texts

    async def test_a_repeat_after_the_next_was_released_changes_nothing(self, store: Store[Any], log: Any) -> None:
        """The answer to call n, posted again, is not taken for the answer to call n+1."""
        server, chat = guarded(store, asks(*THREE), says("done"), receipts=True)
        first = (await chat.say("go")).call_items[0]["call_id"]
        await chat.answer({"_receipt": first, "result": 1})
        before = await everything(chat)
        log.clear()

        reply = await chat.answer({"_receipt": first, "result": 1})

        assert QUIET == reply.types
        assert before == await everything(chat)
        assert 1 == server.runs
        [(level, line)] = lines(log)
        assert ("INFO", True) == (level, "it has the receipt of another call" in line)

    async def test_without_them_it_is_taken_for_the_next(self) -> None:
        """The one hazard that remains without receipts: a repeated POST of answer n is recorded as n+1's."""
        _, chat = guarded(PlainStore(), asks(selection(), selection()), says("done"))
        await chat.say("go")
        await chat.answer(["first"])

        await chat.answer(["first"])

        outputs = [item.output for item in await chat.items() if item.type == "client_tool_call"]
        assert [["first"], ["first"]] == outputs

    async def test_a_repeat_with_nothing_pending_goes_on(self, store: Store[Any]) -> None:
        """The process died after the answer was written: its receipt is no hindrance to the repeat."""
        _, chat = guarded(store, asks(*THREE), says("done"), receipts=True)
        first = (await chat.say("go")).call_items[0]["call_id"]
        await answered_behind_our_back(chat)

        assert [NAMES[1]] == [name for name, _ in (await chat.answer({"_receipt": first, "result": 1})).calls]

    @pytest.mark.parametrize(
        ("posted", "stored"),
        [
            ({"_receipt": 5, "result": 1}, {"_receipt": 5, "result": 1}),
            ({"_receipt": None}, {"_receipt": None}),
            ({"result": 1}, {"result": 1}),
            ("_receipt", "_receipt"),
            (None, None),
            ([{"_receipt": "x"}], [{"_receipt": "x"}]),
        ],
    )
    async def test_what_is_no_receipt_is_an_answer(self, posted: Any, stored: Any) -> None:
        """Only an object whose `_receipt` is a text has one."""
        _, chat = guarded(PlainStore(), asks(anything()), says("done"), receipts=True)
        await chat.say("go")

        assert ["done"] == (await chat.answer(posted)).texts
        assert [stored] == [item.output for item in await chat.items() if item.type == "client_tool_call"]

    async def test_an_application_without_them_may_use_the_word(self) -> None:
        """Where no receipt went out, nothing is taken apart."""
        _, chat = guarded(PlainStore(), asks(anything()), says("done"))
        await chat.say("go")

        await chat.answer({"_receipt": "mine", "result": 1})

        assert [{"_receipt": "mine", "result": 1}] == [
            item.output for item in await chat.items() if item.type == "client_tool_call"
        ]

    async def test_calls_that_went_out_with_them_are_held_to_them(self) -> None:
        """The option was switched off while a call was out: its answer still comes in an envelope."""
        store = PlainStore()
        _, chat = guarded(store, asks(selection()), receipts=True)
        receipt = (await chat.say("go")).call_items[0]["call_id"]
        _, later = guarded(store, says("done"))
        later.thread_id = chat.thread_id

        assert QUIET == (await later.answer({"_receipt": "another", "result": 1})).types
        assert ["done"] == (await later.answer({"_receipt": receipt, "result": ["a"]})).texts
        assert [["a"]] == [item.output for item in await later.items() if item.type == "client_tool_call"]


class TestFailures:
    @pytest.mark.parametrize("answer", [{"error": "no canvas"}, "no list", {"_receipt": "?"}])
    async def test_a_wrong_answer_fails_the_call(self, answer: Any) -> None:
        """An error report, or what does not fit the declared type: the call has failed, the next is released."""
        server, chat = guarded(PlainStore(), asks(selection(), profiles(agents=[])), says("done"))
        await chat.say("go")

        reply = await chat.answer(answer)

        assert ["display_agent_profiles"] == [name for name, _ in reply.calls]
        states = await server.sequencer.snapshot(server.store, chat.thread_id, None)
        assert ["failed", "pending"] == [call.state.value for call in states]

    async def test_an_error_in_an_envelope_fails_it_too(self) -> None:
        """What withReceipts makes of a handler that throws."""
        server, chat = guarded(PlainStore(), asks(selection(), profiles(agents=[])), receipts=True)
        receipt = (await chat.say("go")).call_items[0]["call_id"]

        await chat.answer({"_receipt": receipt, "error": "no canvas"})

        states = await server.sequencer.snapshot(server.store, chat.thread_id, None)
        assert ["failed", "pending"] == [call.state.value for call in states]

    async def test_abort_drops_the_rest_but_the_required(self) -> None:
        """`on_failure="abort"`: what is queued is given up, the call that stops the animation is not."""
        server, chat = guarded(
            PlainStore(),
            asks(selection(), profiles(agents=[]), animation(state="stop")),
            says("sorry"),
            on_failure="abort",
        )
        await chat.say("go")

        replies = [await chat.answer({"error": "no canvas"}), await chat.answer()]

        assert [[("run_search_animation", {"state": "stop"})], []] == [reply.calls for reply in replies]
        assert ["sorry"] == replies[1].texts
        assert 2 == server.runs

    async def test_a_failure_is_dealt_with_once(self, store: Store[Any], log: Any) -> None:
        """What was asked for after a failure is not given up for it, whatever is repeated."""
        wanted = [selection(), animation(state="stop")]
        _, chat = guarded(store, asks(*wanted), asks(*wanted), says("done"), on_failure="abort")
        await chat.say("go")
        await chat.answer({"error": "no canvas"})
        await chat.act("again")

        resumed = await chat.act("chatkit_clienttools.resume")
        replies = [await chat.answer(), await chat.answer(["a"]), await chat.answer()]

        assert [("run_search_animation", {"state": "stop"})] == resumed.calls
        assert [["get_selected_canvas_nodes"], ["run_search_animation"], []] == [
            [name for name, _ in reply.calls] for reply in replies
        ]
        assert 1 == log.text.count("-> failed")

    @pytest.mark.skipif(CHATKIT_DROPS_PENDING_ON_MESSAGE, reason="this ChatKit deletes pending calls by itself")
    async def test_a_message_after_a_process_that_died_over_a_failure(self, store: Store[Any]) -> None:
        """Nor is it forgotten when the next request is another one than the repeated answer."""
        wanted = [selection(), profiles(agents=[]), animation(state="stop")]
        _, chat = guarded(store, asks(*wanted), says("yes?"), on_failure="abort", on_user_message="keep")
        await chat.say("go")
        await answered_behind_our_back(chat, {"error": "no canvas"})

        reply = await chat.say("and?")

        assert (["yes?"], [("run_search_animation", {"state": "stop"})]) == (reply.texts, reply.calls)

    async def test_a_process_that_dies_over_a_failure(self, store: Store[Any]) -> None:
        """Nor is that forgotten when the required call was not released any more."""
        wanted = [selection(), profiles(agents=[]), animation(state="stop")]
        _, chat = guarded(store, asks(*wanted), says("done"), on_failure="abort")
        await chat.say("go")
        await answered_behind_our_back(chat, {"error": "no canvas"})

        replies = [await chat.act("chatkit_clienttools.resume"), await chat.answer()]

        assert [[("run_search_animation", {"state": "stop"})], []] == [reply.calls for reply in replies]
        assert ["done"] == replies[1].texts


class TestWhatIsLeftBehind:
    async def test_a_message_gives_up_what_is_open(self, store: Store[Any]) -> None:
        """The pending call is removed in the stream; the required one goes out after the new answer."""
        _, chat = guarded(store, asks(selection(), profiles(agents=[]), animation(state="stop")), says("well"))
        [item] = (await chat.say("go")).call_items

        reply = await chat.say("forget it")

        if not CHATKIT_DROPS_PENDING_ON_MESSAGE:
            assert [item["id"]] == reply.removed
        assert (["well"], [("run_search_animation", {"state": "stop"})]) == (reply.texts, reply.calls)
        assert [] == (await chat.answer()).calls

    async def test_a_retry_starts_over(self, store: Store[Any]) -> None:
        """A retried turn has no trace of the old plan, the required calls included."""
        server, chat = guarded(store, asks(*THREE), asks(profiles(agents=["Bo"])))
        await chat.say("go")
        await chat.answer()
        [first] = [item.id for item in await chat.items() if item.type == "user_message"]

        reply = await chat.retry(first)
        last = await chat.answer()

        assert [("display_agent_profiles", {"agents": ["Bo"]})] == reply.calls
        assert ([], QUIET) == (last.calls, last.types)
        assert 2 == server.runs

    async def test_an_action_leaves_the_calls_alone(self, store: Store[Any]) -> None:
        """What the action asks for goes behind them."""
        _, chat = guarded(store, asks(selection()), asks(profiles(agents=[]), says="clicked"), says("done"))
        await chat.say("go")

        acted = await chat.act("click")
        replies = [await chat.answer(["a"]), await chat.answer()]

        assert (["clicked"], []) == (acted.texts, acted.calls)
        assert ["display_agent_profiles"] == [name for name, _ in replies[0].calls]
        assert ["done"] == replies[1].texts

    async def test_a_pending_call_has_nothing_behind_it_when_a_stream_is_cancelled(self, store: Store[Any]) -> None:
        """Stop, just when the call was sent: ChatKit's hidden note is not written."""
        server, chat = guarded(store, asks(selection()), says("done"))
        await chat.say("go")
        before = await everything(chat)
        thread = await store.load_thread(chat.thread_id or "", None)

        await server.handle_stream_cancelled(thread, [], None)

        assert before == await everything(chat)

    async def test_what_was_said_is_kept_when_there_is_none(self, store: Store[Any]) -> None:
        """Otherwise ChatKit's note is written as ever."""
        server, chat = guarded(store, says("hello"))
        await chat.say("hi")
        thread = await store.load_thread(chat.thread_id or "", None)

        await server.handle_stream_cancelled(thread, [], None)

        assert "sdk_hidden_context" == (await chat.items())[-1].type

    @pytest.mark.parametrize("event", range(4))
    async def test_a_client_that_disconnects(self, store: Store[Any], event: int) -> None:
        """A stream that is never read on, after any of its events: the next message goes on."""
        _, chat = guarded(store, asks(*THREE), says("done"))
        abandoned = chat.stream(chat.say_request("go"))
        for _ in range(event + 1):
            await anext(abandoned)

        reply = await chat.say("hello?")

        assert [] == reply.errors
        assert ["done"] == reply.texts or [NAMES[0]] == [name for name, _ in reply.calls]


class TestResume:
    async def test_a_pending_call_goes_out_afresh(self, store: Store[Any]) -> None:
        """Removed and released again: another item, the same call id and receipt; the answer goes to it."""
        _, chat = guarded(store, asks(*THREE), says("done"), receipts=True)
        [before] = (await chat.say("go")).call_items

        reply = await chat.act("chatkit_clienttools.resume")

        [after] = reply.call_items
        assert [before["id"]] == reply.removed
        assert before["id"] != after["id"]
        same = ("call_id", "name", "arguments")
        assert [before[field] for field in same] == [after[field] for field in same]
        assert [("run_search_animation", "pending")] == await chat.calls()
        for _ in range(2):
            [after] = (await chat.answer({"_receipt": after["call_id"]})).call_items
        assert ["done"] == (await chat.answer({"_receipt": after["call_id"]})).texts

    async def test_again_and_again(self, store: Store[Any]) -> None:
        """Each load of the page does the same; the call is never there twice."""
        _, chat = guarded(store, asks(selection()), says("done"))
        await chat.say("go")

        ids = [(await chat.act("chatkit_clienttools.resume")).call_items[0]["id"] for _ in range(4)]

        assert 4 == len(set(ids))
        assert [("get_selected_canvas_nodes", "pending")] == await chat.calls()
        assert ["done"] == (await chat.answer(["a"])).texts

    async def test_nothing_to_resume(self, store: Store[Any], log: Any) -> None:
        """Sent on every load, it changes nothing in a thread that waits for nothing, and says nothing."""
        server, chat = guarded(store, says("hello"))
        await chat.say("hi")
        before = await everything(chat)

        reply = await chat.act("chatkit_clienttools.resume")

        assert QUIET == reply.types
        assert before == await everything(chat)
        assert 1 == server.runs
        assert [] == lines(log)

    async def test_a_thread_whose_next_call_was_never_released(self, store: Store[Any]) -> None:
        """The process died between answer and release: the load of the page releases it."""
        _, chat = guarded(store, asks(*THREE), says("done"))
        await chat.say("go")
        await answered_behind_our_back(chat)

        assert [(NAMES[1], {})] == (await chat.act("chatkit_clienttools.resume")).calls

    async def test_a_last_answer_that_the_model_has_not_seen(self, store: Store[Any]) -> None:
        """So does the model get to see it."""
        _, chat = guarded(store, asks(selection()), says("done"))
        await chat.say("go")
        await answered_behind_our_back(chat, ["a"])

        assert ["done"] == (await chat.act("chatkit_clienttools.resume")).texts

    async def test_calls_that_nobody_has_planned(self) -> None:
        """A pending call from before the sequencer came goes out afresh too; older ones are gone."""
        _, chat = guarded(PlainStore(), says("hello"), says("done"))
        await chat.say("hi")
        for n in (1, 2):
            await chat.touch(old_call(chat, n))

        reply = await chat.act("chatkit_clienttools.resume")

        assert ["old2"] == [name for name, _ in reply.calls]
        assert ["o1", "o2"] == sorted(reply.removed)
        assert ["done"] == (await chat.answer(1)).texts

    async def test_the_application_hears_nothing_of_it(self) -> None:
        """The action is ours: `action` is not called for it, nor has it to be there."""

        class Server(ClientToolServer[Any]):
            async def respond(self, thread: Any, input_user_message: Any, context: Any) -> AsyncIterator[Any]:
                yield message("hello", thread, "hello")

        chat = Conversation(Server(PlainStore()))
        await chat.say("hi")

        assert QUIET == (await chat.act("chatkit_clienttools.resume")).types

    @pytest.mark.parametrize("operation", ["delete_thread_item", "save_thread", "add_thread_item"])
    @pytest.mark.parametrize("moment", ["before", "after"])
    @pytest.mark.fails
    async def test_it_can_be_repeated_whatever_fails(self, operation: str, moment: str) -> None:
        """Whichever of its writes fails, the next one goes on, and the call is there once."""
        store = WatchedStore(PlainStore())
        _, chat = guarded(store, asks(selection()), says("done"))
        await chat.say("go")

        async def fail(name: str, _: Any) -> None:
            if name == operation:
                raise ConnectionError

        setattr(store, moment, fail)
        assert 1 == len((await chat.act("chatkit_clienttools.resume")).errors)
        setattr(store, moment, None)

        resumed = await chat.act("chatkit_clienttools.resume")
        assert ["get_selected_canvas_nodes"] == [name for name, _ in resumed.calls]
        assert [("get_selected_canvas_nodes", "pending")] == await chat.calls()
        assert ["done"] == (await chat.answer(["a"])).texts


class TestRequests:
    @pytest.mark.parametrize(
        ("body", "field", "said"),
        [
            (b"", None, "Invalid JSON"),
            (b"{", None, "Invalid JSON"),
            (b"[" * 5000, None, "recursion limit"),
            ('"\ud800"', None, "unicode"),
            (b'"\xff"', None, "Invalid JSON"),
            (b"[]", None, "should be an object"),
            (b"null", None, "should be an object"),
            (b"{}", "type", "type: Field required"),
            (b'{"type": 5}', "type", "ChatKit has no request '5'"),
            (b'{"type": "messages.create"}', "type", "threads.create, threads.add_user_message"),
            (b'{"type": "threads.get_by_id"}', "params", "params: Field required"),
            (b'{"type": "threads.get_by_id", "params": {"thread_id": 5}}', "params.thread_id", "params.thread_id: "),
            (b'{"type": "threads.list", "params": {"limit": "many"}}', "params.limit", "params.limit: "),
            (
                b'{"type": "threads.create", "params": {"input": {"content": [{"type": "zz"}], "attachments": []}}}',
                "params.input.content.0.type",
                "none of 'input_text'",
            ),
        ],
    )
    async def test_what_is_none_is_refused_in_words(self, body: Any, field: str | None, said: str) -> None:
        """Not JSON, or not a ChatKit request: one error with the field, before anything is done."""
        server, _ = guarded(PlainStore())

        with pytest.raises(InvalidRequestError) as refused:
            await server.process(body, None)

        assert field == refused.value.field
        assert said in str(refused.value)
        assert refused.value.__cause__ is None

    async def test_it_is_a_value_error(self) -> None:
        """As what plain ChatKit raises, so that a handler for that goes on working."""
        server, _ = guarded(PlainStore())

        with pytest.raises(ValueError, match="not a ChatKit request"):
            await server.process(b"{}", None)

    async def test_the_hand_written_type_is_answered_with_the_real_ones(self) -> None:
        """`messages.create` does not exist; the error says what does, and who routes it."""
        server, _ = guarded(PlainStore())

        with pytest.raises(InvalidRequestError) as refused:
            await server.process(json.dumps({"type": "messages.create", "params": {"text": "private"}}), None)

        for word in ("'messages.create'", "threads.create", "threads.add_user_message", "process() routes them all"):
            assert word in str(refused.value)
        assert "private" not in str(refused.value)

    async def test_it_does_not_grow_with_what_was_posted(self) -> None:
        """A long type, or many wrong fields, make a short error."""
        server, _ = guarded(PlainStore())
        content = [{"type": "wrong"}] * 1000
        body = {"type": "threads.create", "params": {"input": {"content": content, "attachments": []}}}

        for each in ({"type": "x" * 100_000}, body):
            with pytest.raises(InvalidRequestError) as refused:
                await server.process(json.dumps(each), None)
            assert len(str(refused.value)) < 2000

    async def test_a_parsed_body_is_the_applications_mistake(self) -> None:
        """`process(await request.json())` is answered with how it is done."""
        server, _ = guarded(PlainStore())

        with pytest.raises(UsageError, match=r"await request\.body\(\)"):
            await server.process({"type": "threads.list"}, None)

    async def test_everything_else_is_as_ever(self) -> None:
        """Requests that do not stream are ChatKit's own."""
        _, chat = guarded(PlainStore(), says("hello"))
        await chat.say("hi")

        await chat.rename("a title")

        thread = await chat.server.store.load_thread(chat.thread_id or "", None)
        assert "a title" == thread.title


class Single(ChatKitServer[Any]):
    """A backend with one ordinary client tool, as it is today."""

    def __init__(self, store: Store[Any]) -> None:
        super().__init__(store)
        self.runs = 0
        self.fails = 0

    async def respond(self, thread: Any, input_user_message: Any, context: Any) -> AsyncIterator[Any]:
        self.runs += 1
        if input_user_message:
            yield ThreadItemDoneEvent(
                item=ClientToolCallItem(
                    id=f"tc_{self.runs}",
                    thread_id=thread.id,
                    created_at=at(1),
                    call_id=f"c_{self.runs}",
                    name="single",
                    arguments={"large": "x" * 300_000},
                )
            )
        elif self.fails:
            self.fails -= 1
            raise RuntimeError
        else:
            yield message("thanks", thread, f"thanks {self.runs}")


class GuardedSingle(ClientToolServer[Any], Single):
    """The same, protected."""


class TestWithoutASequencer:
    async def test_a_single_call_goes_as_ever(self, store: Store[Any]) -> None:
        """Call, answer, model: as in plain ChatKit, whatever the size."""
        server = GuardedSingle(store)
        chat = Conversation(server)

        [(name, _)] = (await chat.say("go")).calls

        assert "single" == name
        assert ["thanks"] == (await chat.answer(1)).texts
        assert 2 == server.runs

    async def test_what_breaks_plain_chatkit_does_not_break_it(self, store: Store[Any]) -> None:
        """A repeat, an answer behind a hidden item, one after a message: the streams end in good order."""
        server = GuardedSingle(store)
        chat = Conversation(server)
        await chat.say("go")
        await chat.touch(hidden(chat))

        assert ["thanks"] == (await chat.answer(1)).texts
        assert QUIET == (await chat.answer(1)).types
        await chat.say("again")
        await chat.say("no, this")
        assert ["thanks"] == (await chat.answer(1)).texts
        assert QUIET == (await chat.answer(1)).types

    @pytest.mark.fails
    async def test_plain_chatkit_breaks(self) -> None:
        """The seed of it all."""
        chat = Conversation(Single(PlainStore()))
        await chat.say("go")
        await chat.answer(1)

        with pytest.raises(ValueError, match="was not a ClientToolCallItem"):
            await chat.answer(1)

    @pytest.mark.fails
    async def test_a_run_that_failed_is_repeated(self, store: Store[Any]) -> None:
        """The model was away after the answer: the same answer, posted again, runs it again."""
        server = GuardedSingle(store)
        server.fails = 1
        chat = Conversation(server)
        await chat.say("go")

        assert 1 == len((await chat.answer(1)).errors)
        assert ["thanks"] == (await chat.answer(1)).texts

    async def test_the_sequencer_of_a_tool_is_not_its_own(self) -> None:
        """Tools that enqueue need the decorator: the error says which line is missing."""
        sequencer = ClientToolSequencer(TOOLS)
        raised: list[Exception] = []

        class Server(ClientToolServer[Any]):
            async def respond(self, thread: Any, input_user_message: Any, context: Any) -> AsyncIterator[Any]:
                from chatkit.agents import AgentContext  # noqa: PLC0415

                try:
                    sequencer.enqueue(AgentContext(thread=thread, store=self.store, request_context=None), selection())
                except NotSequencedError as error:
                    raised.append(error)
                yield message("hello", thread, "hello")

        await Conversation(Server(PlainStore())).say("hi")

        assert "No sequenced run is open here. Put `@sequencer.sequenced` above" in str(raised[0])


def sequencer_of(method: Any) -> Any:
    return method.__client_tool_sequencer__


class TestHierarchies:
    def test_the_mixin_sequences_what_it_finds(self) -> None:
        """Put before a server that exists already, it finds that server's sequencer, for the action too."""
        sequencer = ClientToolSequencer(TOOLS)

        class Existing(ChatKitServer[Any]):
            @sequencer.sequenced
            async def respond(self, thread: Any, input_user_message: Any, context: Any) -> AsyncIterator[Any]:
                yield

            async def action(self, thread: Any, action: Any, sender: Any, context: Any) -> AsyncIterator[Any]:
                yield

        class Mine(ClientToolServer[Any], Existing):
            pass

        assert sequencer is sequencer_of(Mine.respond)
        assert sequencer is sequencer_of(Mine.action)

    async def test_a_method_that_calls_the_one_it_overrides(self) -> None:
        """The override is sequenced as a whole: nothing that it does lands behind the pending call."""
        base = guarded_class(ClientToolSequencer(TOOLS))

        class Titled(base):  # type: ignore[misc, valid-type]
            async def respond(self, *everything: Any) -> AsyncIterator[Any]:
                async for event in super().respond(*everything):
                    yield event
                yield message("a title", everything[0], f"title {self.runs}")

        chat = Conversation(Titled(PlainStore(), asks(*THREE), says("done")))

        replies = [await chat.say("go"), *[await chat.answer(["a"]) for _ in THREE]]

        assert ["thread.item.done", "thread.item.done"] == replies[0].types[-2:]
        assert [[name] for name in NAMES] == [[name for name, _ in reply.calls] for reply in replies[:3]]
        assert [["a title"], [], [], ["done", "a title"]] == [reply.texts for reply in replies]

    def test_a_better_sequencer_takes_the_place_of_a_servers_own(self) -> None:
        """A server without one gets its own; what derives from it may bring one, for the inherited action too."""
        sequencer = ClientToolSequencer(TOOLS)

        class Base(ClientToolServer[Any]):
            async def respond(self, thread: Any, input_user_message: Any, context: Any) -> AsyncIterator[Any]:
                yield

            async def action(self, thread: Any, action: Any, sender: Any, context: Any) -> AsyncIterator[Any]:
                yield

        class Mine(Base):
            @sequencer.sequenced
            async def respond(self, thread: Any, input_user_message: Any, context: Any) -> AsyncIterator[Any]:
                yield

        assert sequencer_of(Base.respond) is sequencer_of(Base.action)
        assert sequencer is sequencer_of(Mine.respond)
        assert sequencer is sequencer_of(Mine.action)

    def test_two_sequencers_are_refused(self) -> None:
        """They would not know of one another's calls and locks."""
        with pytest.raises(UsageError, match="share one ClientToolSequencer"):

            class Server(ClientToolServer[Any]):
                @ClientToolSequencer(TOOLS).sequenced
                async def respond(self, thread: Any, input_user_message: Any, context: Any) -> AsyncIterator[Any]:
                    yield

                @ClientToolSequencer(TOOLS).sequenced
                async def action(self, thread: Any, action: Any, sender: Any, context: Any) -> AsyncIterator[Any]:
                    yield

    async def test_a_method_that_was_sequenced_on_the_object(self, store: Store[Any]) -> None:
        """A `respond` that was decorated there has its sequencer, and its rules are the server's."""
        sequencer = ClientToolSequencer(TOOLS, receipts=True)

        class Server(ClientToolServer[Any]):
            def __init__(self, store: Store[Any]) -> None:
                super().__init__(store)
                self.respond = sequencer.sequenced(Server._body).__get__(self)  # type: ignore[method-assign]

            async def _body(self, thread: Any, input_user_message: Any, context: Any) -> AsyncIterator[Any]:
                if input_user_message:
                    context = SequencedAgentContext(thread=thread, store=self.store, request_context=None)
                    sequencer.enqueue(context, *THREE)
                yield message("x", thread, f"x{bool(input_user_message)}")

            async def respond(self, thread: Any, input_user_message: Any, context: Any) -> AsyncIterator[Any]:
                raise NotImplementedError
                yield

        chat = Conversation(Server(store))
        replies = [await chat.say("go")]
        for _ in THREE:
            [item] = replies[-1].call_items
            replies.append(await chat.answer({"_receipt": item["call_id"], "result": ["a"]}))

        assert [[name] for name in NAMES] == [[name for name, _ in reply.calls] for reply in replies[:3]]
        assert ["x"] == replies[3].texts

    async def test_a_method_that_was_replaced(self) -> None:
        """A `respond` that somebody put onto the object is called; its answers are taken all the same."""
        server, chat = guarded(PlainStore(), asks(selection()))
        await chat.say("go")

        async def replaced(thread: Any, item: Any, context: Any) -> AsyncIterator[Any]:
            yield message("replaced", thread, "replaced")

        server.respond = replaced

        assert ["replaced"] == (await chat.answer(["a"])).texts


class TestAnotherChatKit:
    async def test_without_the_methods_it_is_a_chatkit_server(
        self, monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture
    ) -> None:
        """A future ChatKit that is made otherwise is used as it is, and one warning says so."""
        monkeypatch.setattr(server_module, "NEEDED", (*server_module.NEEDED, "_a_method_that_is_gone"))
        server, chat = guarded(PlainStore(), asks(*THREE), says("done"))

        replies = [await chat.say("go"), *[await chat.answer(["a"]) for _ in THREE]]

        assert ["done"] == replies[-1].texts
        assert 2 == server.runs
        [(level, line)] = lines(log, at_least=logging.WARNING)
        assert ("WARNING", True) == (level, "_a_method_that_is_gone" in line)

    def test_this_one_is_as_known(self) -> None:
        """The ChatKit that is installed has what this builds on."""
        server_module._has.cache_clear()

        assert server_module._has(ChatKitServer, server_module.NEEDED)

    def test_the_parser_is_built_once(self) -> None:
        """It takes longer than all the rest of an acknowledgement."""
        requests_module._adapter.cache_clear()

        for _ in range(2):
            requests_module.read_request('{"type": "threads.list", "params": {}}')

        assert 1 == requests_module._adapter.cache_info().misses

    async def test_what_is_no_request_is_refused_all_the_same(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Reading a request needs nothing of ChatKit but its types."""
        monkeypatch.setattr(server_module, "NEEDED", ("_a_method_that_is_gone",))
        server, _ = guarded(PlainStore())

        with pytest.raises(InvalidRequestError):
            await server.process(b"{}", None)


class TestPlainChatKitServer:
    async def test_receipts_are_not_checked_and_it_says_so(self, log: pytest.LogCaptureFixture) -> None:
        """With receipts under plain ChatKitServer one warning names the class to derive from."""
        sequencer = ClientToolSequencer(TOOLS, receipts=True)

        class Plain(ChatKitServer[Any]):
            @sequencer.sequenced
            async def respond(self, thread: Any, input_user_message: Any, context: Any) -> AsyncIterator[Any]:
                from chatkit.agents import AgentContext  # noqa: PLC0415

                if input_user_message:
                    context = AgentContext(thread=thread, store=self.store, request_context=None)
                    sequencer.enqueue(context, selection(), selection())
                yield message("x", thread, f"x{bool(input_user_message)}")

        chat = Conversation(Plain(PlainStore()))
        [item] = (await chat.say("go")).call_items

        for _ in range(2):
            await chat.answer({"_receipt": item["call_id"], "result": ["a"]})

        assert ["WARNING"] == [level for level, _ in lines(log, at_least=logging.WARNING)]
        assert "ClientToolServer" in log.text


class TestOfTheReview:
    """What a reviewer has broken."""

    async def test_the_process_behind_it_is_called(self) -> None:
        """A `process` that checks who is there is not passed over; what is no request is refused before."""

        class Checked(Single):
            async def process(self, request: Any, context: Any) -> Any:
                if context != "alice":
                    raise PermissionError(context)
                return await super().process(request, context)

        class Mine(ClientToolServer[Any], Checked):
            pass

        server = Mine(PlainStore())
        with pytest.raises(PermissionError):
            await Conversation(server, "mallory").say("go")
        chat = Conversation(server, "alice")
        await chat.say("go")

        assert ["thanks"] == (await chat.answer(1)).texts
        assert QUIET == (await chat.answer(1)).types

    @pytest.mark.parametrize("provided", ["call_0", "functions.look:0", "call_\nCRITICAL forged", "x" * 500])
    async def test_a_receipt_is_the_only_one_of_its_kind(self, provided: str) -> None:
        """An id that a provider may give twice, in another thread or turn, is no receipt."""
        receipts = []
        for _ in range(2):
            sequencer = ClientToolSequencer(TOOLS, receipts=True)
            _, chat = guarded_by(sequencer, tool_call(sequencer, provided))
            [item] = (await chat.say("go")).call_items
            receipts.append(item["arguments"]["_receipt"])
            assert item["call_id"] == receipts[-1]

        assert 2 == len({*receipts, provided} - {provided})

    async def test_a_providers_unique_id_is_taken(self) -> None:
        """One that is made of enough chance is."""
        sequencer = ClientToolSequencer(TOOLS, receipts=True)
        provided = "call_9pQrT0aBcDeFgHiJkLmNoPqR"
        _, chat = guarded_by(sequencer, tool_call(sequencer, provided))

        assert [provided] == [item["call_id"] for item in (await chat.say("go")).call_items]

    @pytest.mark.parametrize("posted", [{"_receipt": "stale", "result": 1}, {"_receipt": "stale"}])
    async def test_a_stale_receipt_starts_nothing(self, posted: Any, store: Store[Any]) -> None:
        """Where calls wait and none is pending, only the last answer of the plan may set them going."""
        server, chat = guarded(store, asks(*THREE), says("done"), receipts=True)
        await chat.say("go")
        await answered_behind_our_back(chat)

        assert QUIET == (await chat.answer(posted)).types
        assert 1 == server.runs

    async def test_required_calls_wait_for_the_answer(self, store: Store[Any]) -> None:
        """While the body of the message that kept them runs, a late answer or a loaded page releases nothing."""
        begun, goes_on = asyncio.Event(), asyncio.Event()

        async def slow(server: Any, context: Any) -> AsyncIterator[Any]:
            begun.set()
            await goes_on.wait()
            yield message("well", context.thread, "well")

        _, chat = guarded(store, asks(selection(), animation(state="stop")), slow)
        await chat.say("go")
        saying = asyncio.create_task(chat.say("forget it"))
        await begun.wait()
        late, resumed = await chat.answer(["a"]), await chat.act("chatkit_clienttools.resume")
        goes_on.set()
        reply = await saying

        assert ([], []) == (late.calls, resumed.calls)
        assert ["assistant_message", "client_tool_call"] == [item["type"] for item in reply.done][-2:]

    async def test_no_line_of_the_log_is_forged(self, log: pytest.LogCaptureFixture) -> None:
        """A thread's id is the browser's to choose: what is not printable is escaped, what is long is cut."""
        _, chat = guarded(PlainStore())
        chat.thread_id = "x\n2026-01-01 CRITICAL root: " + "y" * 5000

        await chat.answer()

        [(_, line)] = lines(log)
        assert "\n" not in line
        assert len(line) < 500

    @pytest.mark.parametrize("method", ["respond", "action"])
    async def test_methods_with_defaults_are_what_their_names_say(self, method: str) -> None:
        """`context=None` at the end is no reason to take the one for the other."""

        class Server(ClientToolServer[Any]):
            async def respond(self, thread: Any, input_user_message: Any, context: Any = None) -> AsyncIterator[Any]:
                yield message("respond", thread, "respond")

            async def action(self, thread: Any, action: Any, sender: Any, context: Any = None) -> AsyncIterator[Any]:
                yield message("action", thread, "action")

        chat = Conversation(Server(PlainStore()))
        replies = {"respond": await chat.say("hi"), "action": await chat.act("click")}

        assert [method] == replies[method].texts

    async def test_an_override_in_the_middle_is_not_hidden(self) -> None:
        """A class that comes to stand between the server and the one it derives from has its say."""

        class Quiet(ChatKitServer[Any]):
            async def respond(self, thread: Any, input_user_message: Any, context: Any) -> AsyncIterator[Any]:
                yield message("quiet", thread, "quiet")

        class Louder(Quiet):
            async def respond(self, thread: Any, input_user_message: Any, context: Any) -> AsyncIterator[Any]:
                yield message("LOUD", thread, "loud")

        class One(ClientToolServer[Any], Quiet):
            pass

        class Both(One, Louder):
            pass

        assert ["quiet"] == (await Conversation(One(PlainStore())).say("hi")).texts
        assert ["LOUD"] == (await Conversation(Both(PlainStore())).say("hi")).texts

    def test_what_cannot_be_sequenced_stays_as_it_is(self) -> None:
        """A stub, an abstract method or a property is no reason to refuse a class."""

        class Abstract(ClientToolServer[Any]):
            @abstractmethod
            def respond(self, thread: Any, input_user_message: Any, context: Any) -> Any: ...

            action: Any = property(lambda self: None)

        assert "respond" in Abstract.__abstractmethods__
        assert isinstance(Abstract.action, property)

    async def test_a_store_for_each_request(self) -> None:
        """An application may make store and server anew for each request: two answers at once run the model once."""
        kept = PlainStore()
        sequencer = ClientToolSequencer(TOOLS)
        server = guarded_class(sequencer)

        def a_server(*bodies: Any) -> Any:
            store = PlainStore()
            vars(store).update(vars(kept))
            watched = WatchedStore(store)
            watched.take_turns()
            return server(watched, *bodies)

        chat = Conversation(a_server(asks(selection())))
        await chat.say("go")
        others = [Conversation(a_server(says(f"done {n}")), thread_id=chat.thread_id) for n in (1, 2)]
        replies = await asyncio.gather(*[other.answer(["a"]) for other in others])

        assert 1 == len([text for reply in replies for text in reply.texts])

    async def test_a_step_is_announced_once(self, store: Store[Any], log: Any) -> None:
        """However often the run after the last answer fails, and whatever is repeated."""
        failing = [refuses, refuses, says("done")]
        _, chat = guarded(store, asks(selection()), *failing)
        await chat.say("go")

        for _ in range(4):
            await chat.answer(["a"])

        assert 1 == log.text.count("pending -> completed")

    async def test_chatkits_own_refusals_are_no_errors(self, log: pytest.LogCaptureFixture) -> None:
        """A retry of an item that is no message is the browser's mistake: a warning, and no use to try again."""
        _, chat = guarded(PlainStore(), asks(selection()))
        [item] = (await chat.say("go")).call_items

        [error] = (await chat.retry(item["id"])).errors

        assert not error["allow_retry"]
        assert ["WARNING"] == [level for level, _ in lines(log)]

    async def test_a_stream_error_keeps_its_code(self) -> None:
        """What an application says in ChatKit's own words goes out as it is."""

        class Away(PlainStore):
            async def load_thread(self, thread_id: str, context: Any) -> Any:
                raise StreamError(ErrorCode.STREAM_ERROR, allow_retry=False)

        _, chat = guarded(Away())
        chat.thread_id = "thr_1"

        [error] = (await chat.answer()).errors

        assert ("stream.error", False) == (error["code"], error["allow_retry"])

    async def test_the_word_is_reserved_where_receipts_go_out(self) -> None:
        """With receipts a tool's own `_receipt` would be lost: enqueue says so."""
        raised: list[Exception] = []

        async def body(server: Any, context: Any) -> AsyncIterator[Any]:
            try:
                server.sequencer.enqueue(context, ClientToolCall(name="bill", arguments={"_receipt": "INV-77"}))
            except UsageError as error:
                raised.append(error)
            yield message("x", context.thread, "x")

        _, chat = guarded(PlainStore(), body, receipts=True)
        await chat.say("go")

        assert "'_receipt' is where its receipt goes" in str(raised[0])

    async def test_the_word_is_free_where_they_do_not(self) -> None:
        """Without them it is a param like any other, in the call and in its answer."""
        _, chat = guarded(
            PlainStore(), asks(ClientToolCall(name="bill", arguments={"_receipt": "INV-77"})), says("thanks")
        )
        await chat.say("go")

        assert ["thanks"] == (await chat.answer({"_receipt": "INV-77", "paid": True})).texts
        assert {"_receipt": "INV-77", "paid": True} == next(
            item.output for item in await chat.items() if item.type == "client_tool_call"
        )

    async def test_what_plain_chatkit_can_store_can_be_asked_for(self) -> None:
        """Dates and ids are params that ChatKit writes as JSON; so do we."""
        moment = datetime(2026, 1, 1, tzinfo=timezone.utc)
        _, chat = guarded(PlainStore(), asks(ClientToolCall(name="at", arguments={"at": moment})))

        assert [("at", {"at": "2026-01-01T00:00:00Z"})] == (await chat.say("go")).calls


async def refuses(server: Any, context: Any) -> AsyncIterator[Any]:
    """A body that says in the chat that it cannot."""
    raise CustomStreamError("not now", allow_retry=True)
    yield


def tool_call(sequencer: ClientToolSequencer, provided: str) -> Any:
    """A body that enqueues as a tool does that a provider has called with an id of its own."""

    async def body(server: Any, context: Any) -> AsyncIterator[Any]:
        tool_context = ToolContext(context, tool_name="look", tool_call_id=provided, tool_arguments="{}")
        sequencer.enqueue(tool_context, selection())
        yield message("x", context.thread, "x")

    return body
