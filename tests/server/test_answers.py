"""`ClientToolServer`: what becomes of an answer, whenever it comes."""

from __future__ import annotations

import asyncio
import itertools
import logging
from typing import TYPE_CHECKING, Any

import chatkit.errors
import chatkit.types
import pytest
from chatkit.types import CustomTask, Workflow, WorkflowItem

from chatkit_clienttools import ClientToolSequencer, ValidatingStore
from tests.helpers.conversation import CHATKIT_DROPS_PENDING_ON_MESSAGE, Conversation, at
from tests.helpers.merak import TOOLS, animation, profiles, selection
from tests.helpers.scripted import Scripted, asks, fails, hidden, message, says, scripted
from tests.helpers.server import (
    NAMES,
    NOTHING,
    RESUME,
    THREE,
    answered_by_a_process_that_died,
    everything,
    lines,
    old_call,
    outputs,
)
from tests.helpers.stores import PlainStore, PlansStore, WatchedStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from chatkit.store import Store


class TestAnAnswerThatFindsItsCall:
    async def test_three_calls_go_out_in_order(self, store: Store[Any]) -> None:
        """Each answer releases the next call, and the body runs once more after the last."""
        server, chat = scripted(store, asks(*THREE), says("done"))

        replies = [await chat.say("go"), *[await chat.answer(["a"]) for _ in THREE]]

        assert [[name] for name in NAMES] == [[name for name, _ in reply.calls] for reply in replies[:3]]
        assert ["done"] == replies[3].texts
        assert [(name, "completed") for name in NAMES] == await chat.calls()
        assert 2 == server.runs

    async def test_the_released_call_is_the_last_event(self, store: Store[Any]) -> None:
        """A browser that acts on the call at once misses nothing: the call comes after everything else."""
        _, chat = scripted(store, asks(selection(), says="wait"))

        reply = await chat.say("go")

        assert ["assistant_message", "client_tool_call"] == [item["type"] for item in reply.done][-2:]
        assert "thread.item.done" == reply.types[-1]

    async def test_behind_a_hidden_item(self, store: Store[Any]) -> None:
        """An answer completes the pending call behind an item that the application has added since."""
        _, chat = scripted(store, asks(*THREE), says("done"))
        await chat.say("go")
        await chat.touch(hidden(chat, 1))

        assert [(NAMES[1], {})] == (await chat.answer()).calls

    async def test_behind_a_workflow(self, store: Store[Any]) -> None:
        """An answer completes the pending call behind a workflow item."""
        _, chat = scripted(store, asks(*THREE), says("done"))
        await chat.say("go")
        workflow = Workflow(type="custom", tasks=[CustomTask(title="t")])
        await chat.touch(WorkflowItem(id="wf", thread_id=chat.thread_id or "", created_at=at(1), workflow=workflow))

        assert [(NAMES[1], {})] == (await chat.answer()).calls

    @pytest.mark.parametrize("behind", [5, 19, 20, 100])
    async def test_far_behind(self, store: Store[Any], behind: int) -> None:
        """However many items have come since, an answer completes the pending call of the plan."""
        _, chat = scripted(store, asks(*THREE), says("done"))
        await chat.say("go")
        for n in range(behind):
            await chat.touch(hidden(chat, n))

        assert [(NAMES[1], {})] == (await chat.answer()).calls
        assert [(NAMES[0], "completed"), (NAMES[1], "pending")] == await chat.calls()

    @pytest.mark.skipif(not hasattr(chatkit.types, "StructuredInputItem"), reason="this ChatKit has no forms")
    async def test_behind_a_form(self, store: Store[Any]) -> None:
        """The body runs for a form that the user fills in; the pending call stays and can be answered."""
        server, chat = scripted(store, asks(selection()), says("thanks for the form"), says("done"))
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
        server, chat = scripted(store, asks(*THREE), says("yes?"), says("done"), on_user_message="keep")
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
        """With "keep" an answer does not wait for the answer to a message that is being written."""
        begun, goes_on = asyncio.Event(), asyncio.Event()

        async def slow(server: Any, context: Any) -> AsyncIterator[Any]:
            begun.set()
            await goes_on.wait()
            yield message("yes?", context.thread, "yes")

        _, chat = scripted(PlainStore(), asks(*THREE), slow, says("done"), on_user_message="keep")
        await chat.say("go")
        saying = asyncio.create_task(chat.say("and?"))
        await begun.wait()

        reply = await chat.answer()
        goes_on.set()

        assert [(NAMES[1], {})] == reply.calls
        assert ["yes?"] == (await saying).texts

    @pytest.mark.fails
    async def test_an_action_that_asks_leaves_the_answers_before_it_to_be_told(self, store: Store[Any]) -> None:
        """An action may do without the model: an answer that it has not read is told after the action's calls."""
        server, chat = scripted(store, asks(selection()), fails(), asks(animation(state="start")), says("done"))
        await chat.say("go")
        await chat.answer(["a"])

        assert [("run_search_animation", {"state": "start"})] == (await chat.act("pressed")).calls
        assert (["done"], 4) == ((await chat.answer()).texts, server.runs)

    @pytest.mark.fails
    @pytest.mark.skipif(not hasattr(chatkit.types, "StructuredInputItem"), reason="this ChatKit has no forms")
    async def test_a_form_tells_the_answers_before_it(self, store: Store[Any]) -> None:
        """The model reads every answer in the run after a form: a repeated answer does not run it again."""
        server, chat = scripted(store, asks(selection()), fails(), says("thanks for the form"))
        await chat.say("go")
        await chat.answer(["a"])
        form = chatkit.types.StructuredInputItem(id="f", thread_id=chat.thread_id or "", created_at=at(1), inputs=[])
        await chat.touch(form)

        assert ["thanks for the form"] == (await chat.fill_in("f")).texts
        assert (NOTHING, 3) == ((await chat.answer(["a"])).types, server.runs)

    async def test_a_call_that_nobody_has_planned(self, store: Store[Any]) -> None:
        """A pending call from before the sequencer came is answered, and the model gets to speak."""
        server, chat = scripted(store, says("hello"), says("thanks"))
        await chat.say("hi")
        await chat.touch(old_call(chat, 1))

        assert ["thanks"] == (await chat.answer(1)).texts
        assert NOTHING == (await chat.answer(1)).types
        assert [("old1", "completed")] == await chat.calls()
        assert 2 == server.runs

    async def test_several_that_nobody_has_planned(self) -> None:
        """What plain ChatKit would have deleted is deleted; the newest gets the answer."""
        server, chat = scripted(PlainStore(), says("hello"), says("thanks"))
        await chat.say("hi")
        for n in (1, 2):
            await chat.touch(old_call(chat, n))

        assert ["thanks"] == (await chat.answer(1)).texts
        assert [("old2", "completed")] == await chat.calls()
        assert 2 == server.runs


class TestAnAnswerWithNothingPending:
    async def test_the_next_call_goes_out(self, store: Store[Any]) -> None:
        """The process died after the answer was written: the repeated POST releases the next call."""
        server, chat = scripted(store, asks(*THREE), says("done"))
        await chat.say("go")
        await answered_by_a_process_that_died(chat)

        assert [(NAMES[1], {})] == (await chat.answer()).calls
        assert 1 == server.runs

    async def test_the_model_sees_the_last_answer(self, store: Store[Any]) -> None:
        """The process died after the last answer was written: the repeated POST lets the model run."""
        server, chat = scripted(store, asks(selection()), says("done"))
        await chat.say("go")
        await answered_by_a_process_that_died(chat, ["a"])

        assert ["done"] == (await chat.answer(["a"])).texts
        assert NOTHING == (await chat.answer(["a"])).types
        assert 2 == server.runs

    @pytest.mark.fails
    async def test_a_run_that_failed_is_repeated(self, store: Store[Any]) -> None:
        """The run after the last answer fails: the same answer, posted again, runs it again, and no call goes out."""
        server, chat = scripted(store, asks(*THREE), fails(text="well"), says("done"))
        replies = [await chat.say("go"), *[await chat.answer(["a"]) for _ in THREE]]
        assert 1 == len(replies[-1].errors)

        again = await chat.answer(["a"])

        assert ["done"] == again.texts
        assert [] == again.calls
        assert 3 == server.runs

    async def test_a_repeat_of_the_last_changes_nothing(self, store: Store[Any], log: Any) -> None:
        """A repeat of the last answer finds nothing to do: the stream closes normally, and one line says so."""
        server, chat = scripted(store, asks(*THREE), says("done"))
        await chat.say("go")
        for _ in THREE:
            await chat.answer(["a"])
        before = await everything(chat)

        reply = await chat.answer(["b"])

        assert NOTHING == reply.types
        assert before == await everything(chat)
        assert 2 == server.runs
        [(level, line)] = lines(log)
        assert ("INFO", True) == (level, "no call is pending; nothing was changed" in line)

    async def test_a_late_one_after_a_message_changes_nothing(self, store: Store[Any], log: Any) -> None:
        """The message has cancelled the call: its answer is late, and changes nothing."""
        server, chat = scripted(store, asks(selection()), says("never mind"))
        await chat.say("go")
        await chat.say("forget it")
        before = await everything(chat)

        reply = await chat.answer(["a"])

        assert NOTHING == reply.types
        assert before == await everything(chat)
        assert 2 == server.runs
        assert ["INFO"] == [level for level, _ in lines(log)]

    async def test_one_in_a_thread_that_never_asked(self, store: Store[Any]) -> None:
        """Where plain ChatKit breaks the stream, nothing happens."""
        server, chat = scripted(store, says("hello"))
        await chat.say("hi")

        assert NOTHING == (await chat.answer()).types
        assert 1 == server.runs

    async def test_two_at_once(self, store: Store[Any]) -> None:
        """A double click: one of the two goes on, and the model runs once."""
        watched = WatchedStore(store)
        server, chat = scripted(watched, asks(selection()), says("done"))
        await chat.say("go")
        watched.take_turns()

        replies = await asyncio.gather(chat.answer(["a"]), chat.answer(["b"]))

        assert [["stream_options"], ["stream_options", "thread.item.done"]] == sorted(r.types for r in replies)
        assert 2 == server.runs

    async def test_two_at_once_in_the_middle(self, store: Store[Any]) -> None:
        """Without receipts the second of two can only be taken for an answer to the next call; nothing breaks."""
        watched = WatchedStore(store)
        server, chat = scripted(watched, asks(*THREE), says("done"))
        await chat.say("go")
        watched.take_turns()

        replies = await asyncio.gather(chat.answer(["a"]), chat.answer(["a"]))

        assert [] == [error for reply in replies for error in reply.errors]
        assert 1 == server.runs
        assert ["completed"] == [status for _, status in await chat.calls()][:1]

    async def test_a_change_is_announced_once(self, store: Store[Any], log: Any) -> None:
        """However often the run after the last answer fails, and whatever is repeated, each change is one line."""
        _, chat = scripted(store, asks(selection()), refuses, refuses, says("done"))
        await chat.say("go")

        for _ in range(4):
            await chat.answer(["a"])

        assert 1 == log.text.count("pending -> completed")


async def refuses(server: Any, context: Any) -> AsyncIterator[Any]:
    """A body that says in the chat that it cannot."""
    raise chatkit.errors.CustomStreamError("not now", allow_retry=True)
    yield


class TestTwoWorkers:
    async def test_the_model_runs_once(self) -> None:
        """While one worker lets the model run, an answer to the other closes normally and does nothing."""
        store = PlansStore()
        begun, goes_on = asyncio.Event(), asyncio.Event()

        async def slow(server: Any, context: Any) -> AsyncIterator[Any]:
            begun.set()
            await goes_on.wait()
            yield message("done", context.thread, "done")

        _, chat = scripted(store, asks(selection()), slow)
        other, elsewhere = scripted(store)
        await chat.say("go")
        elsewhere.thread_id = chat.thread_id
        answering = asyncio.create_task(chat.answer(["a"]))
        await begun.wait()

        assert NOTHING == (await elsewhere.answer(["a"])).types
        goes_on.set()
        assert ["done"] == (await answering).texts
        assert NOTHING == (await elsewhere.answer(["a"])).types
        assert 0 == other.runs

    @staticmethod
    def two(store: Store[Any], *bodies: Any) -> tuple[Conversation, Conversation]:
        """Two workers whose clock advances a second with each look, so that a lease is over after a few."""
        ticking = itertools.count(1_700_000_000.0, 1.0)
        servers = [Scripted(store, ClientToolSequencer(TOOLS, clock=lambda: next(ticking))) for _ in range(2)]
        for server in servers:
            server.bodies = list(bodies) if server is servers[0] else servers[0].bodies
        return Conversation(servers[0]), Conversation(servers[1])

    @pytest.mark.parametrize("late", [["a"], ["b"]])
    async def test_a_write_that_outlasts_its_lease(self, late: list[str], log: Any) -> None:
        """A worker hangs in the write of an answer until another has recorded one: it stays, the model runs once."""
        store = WatchedStore(ValidatingStore(PlansStore()))
        chat, elsewhere = self.two(store, asks(selection()), says("done"))
        await chat.say("go")
        elsewhere.thread_id = chat.thread_id
        gate = store.gate("save_item")
        slow = asyncio.create_task(elsewhere.answer(late))
        await gate.reached.wait()
        quick = await chat.answer(["a"])
        gate.open.set()

        assert ["done"] == quick.texts + (await slow).texts
        assert [["a"]] == await outputs(chat)
        # the same answer, written twice, changes nothing the second time: both workers have recorded it
        assert (2 if late == ["a"] else 1) == log.text.count("pending -> completed")
        assert "-> cancelled" not in log.text
        assert [] == lines(log, at_least=logging.WARNING)

    async def test_an_answer_is_recorded_once_though_its_lease_is_over(self) -> None:
        """A worker hangs after it has recorded an answer: that answer is not taken for the next call's as well."""
        store = WatchedStore(PlansStore())
        chat, elsewhere = self.two(store, asks(selection(), selection(), selection()))
        await chat.say("go")
        elsewhere.thread_id = chat.thread_id
        gate = store.gate("save_plan", nth=2)
        slow = asyncio.create_task(elsewhere.answer(["first"]))
        await gate.reached.wait()
        resumed = await chat.act(RESUME)
        gate.open.set()

        assert [] == (await slow).calls
        assert ["get_selected_canvas_nodes"] == [name for name, _ in resumed.calls]
        assert [["first"], None] == await outputs(chat)

    async def test_a_store_for_each_request(self) -> None:
        """An application may make store and server anew for each request: two answers at once run the model once."""
        kept = PlainStore()
        sequencer = ClientToolSequencer(TOOLS)

        def new_server(*bodies: Any) -> Any:
            store = PlainStore()
            vars(store).update(vars(kept))
            watched = WatchedStore(store)
            watched.take_turns()
            return Scripted(watched, sequencer, *bodies)

        chat = Conversation(new_server(asks(selection())))
        await chat.say("go")
        others = [Conversation(new_server(says(f"done {n}")), thread_id=chat.thread_id) for n in (1, 2)]
        replies = await asyncio.gather(*[other.answer(["a"]) for other in others])

        assert 1 == len([text for reply in replies for text in reply.texts])


class TestFailures:
    @pytest.mark.parametrize("answer", [{"error": "no canvas"}, "no list", {"_receipt": "?"}])
    async def test_a_wrong_answer_fails_the_call(self, answer: Any) -> None:
        """An error report, or what does not fit the declared type: the call has failed, the next is released."""
        server, chat = scripted(PlainStore(), asks(selection(), profiles(agents=[])), says("done"))
        await chat.say("go")

        reply = await chat.answer(answer)

        assert ["display_agent_profiles"] == [name for name, _ in reply.calls]
        states = await server.sequencer.snapshot(server.store, chat.thread_id or "", None)
        assert ["failed", "pending"] == [call.state.value for call in states]

    async def test_an_error_in_an_envelope_fails_it_too(self) -> None:
        """What withReceipts makes of a handler that throws is a failure."""
        server, chat = scripted(PlainStore(), asks(selection(), profiles(agents=[])), receipts=True)
        receipt = (await chat.say("go")).call_items[0]["arguments"]["_receipt"]

        await chat.answer({"_receipt": receipt, "error": "no canvas"})

        states = await server.sequencer.snapshot(server.store, chat.thread_id or "", None)
        assert ["failed", "pending"] == [call.state.value for call in states]

    async def test_abort_cancels_the_rest_but_the_required(self) -> None:
        """`on_failure="abort"`: what is queued is cancelled, the call that stops the animation is not."""
        server, chat = scripted(
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
        """What was asked for after a failure is not cancelled for it, whatever is repeated."""
        wanted = [selection(), animation(state="stop")]
        _, chat = scripted(store, asks(*wanted), asks(*wanted), says("done"), on_failure="abort")
        await chat.say("go")
        await chat.answer({"error": "no canvas"})
        await chat.act("again")

        resumed = await chat.act(RESUME)
        replies = [await chat.answer(), await chat.answer(["a"]), await chat.answer()]

        assert [("run_search_animation", {"state": "stop"})] == resumed.calls
        assert [["get_selected_canvas_nodes"], ["run_search_animation"], []] == [
            [name for name, _ in reply.calls] for reply in replies
        ]
        assert 1 == log.text.count("-> failed")

    @pytest.mark.skipif(CHATKIT_DROPS_PENDING_ON_MESSAGE, reason="this ChatKit deletes pending calls by itself")
    async def test_a_message_after_a_process_that_died_over_a_failure(self, store: Store[Any]) -> None:
        """The process dies when a failure is written, and nothing else: the next message aborts the rest as well."""
        watched = WatchedStore(store)
        wanted = [selection(), profiles(agents=[]), animation(state="stop")]
        _, chat = scripted(watched, asks(*wanted), says("yes?"), on_failure="abort", on_user_message="keep")
        await chat.say("go")
        await dies_after_the_item_is_written(watched, chat, {"error": "no canvas"})

        reply = await chat.say("and?")

        assert (["yes?"], [("run_search_animation", {"state": "stop"})]) == (reply.texts, reply.calls)

    async def test_a_process_that_dies_over_a_failure(self, store: Store[Any]) -> None:
        """The process dies when a failure is written, and nothing else: a page that loads gets the required call."""
        watched = WatchedStore(store)
        wanted = [selection(), profiles(agents=[]), animation(state="stop")]
        _, chat = scripted(watched, asks(*wanted), says("done"), on_failure="abort")
        await chat.say("go")
        await dies_after_the_item_is_written(watched, chat, {"error": "no canvas"})

        replies = [await chat.act(RESUME), await chat.answer()]

        assert [[("run_search_animation", {"state": "stop"})], []] == [reply.calls for reply in replies]
        assert ["done"] == replies[1].texts


async def dies_after_the_item_is_written(store: WatchedStore, chat: Conversation, answer: Any) -> None:
    """Post an answer to a process that dies, as far as the store can tell, after it has completed the item."""
    dead = False

    async def die(name: str, _: Any) -> None:
        nonlocal dead
        dead = dead or name == "save_item"
        if dead:
            raise ConnectionError

    async def stay_dead(name: str, _: Any) -> None:
        if dead:
            raise ConnectionError

    store.after, store.before = die, stay_dead
    await chat.answer(answer)
    store.after = store.before = None
