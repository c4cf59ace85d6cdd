"""The sequencer, from the outside: what a backend that uses it may rely on."""

from __future__ import annotations

import re
from dataclasses import FrozenInstanceError
from datetime import timezone
from typing import TYPE_CHECKING, Any

import chatkit.types
import pytest
from agents import Agent, RunContextWrapper, Runner, function_tool
from agents.testing import ScriptedModel
from chatkit.agents import AgentContext, ClientToolCall, stream_agent_response
from chatkit.types import (
    ClientToolCallItem,
    CustomTask,
    ThreadItemDoneEvent,
    Workflow,
)

from chatkit_clienttools import (
    ClientToolSequencer,
)
from chatkit_clienttools._step.plans import METADATA_KEY
from tests.helpers.conversation import Conversation, at
from tests.helpers.merak import TOOLS, SequencedServer, animation, anything, calls, profiles, selection, speaks
from tests.helpers.scripted import Scripted, asks, fails, hidden, says, scripted, with_receipt
from tests.helpers.server import RESUME
from tests.helpers.stores import ForgetfulStore, InsertStore, LiveStore, PlainStore, PlansStore, WatchedStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from chatkit.store import Store

Ctx = RunContextWrapper[AgentContext[Any]]


@pytest.fixture(params=[PlainStore, PlansStore, LiveStore], ids=["plain", "plans", "live"])
def store(request: pytest.FixtureRequest) -> Store[Any]:
    made: Store[Any] = request.param()
    return made


def names(items: list[Any]) -> list[str]:
    return [item.name if item.type == "client_tool_call" else item.type for item in items]


class TestWhenTheModelRuns:
    @pytest.mark.parametrize(
        ("wanted", "runs"),
        [
            ([animation(state="stop")], 1),
            ([selection()], 2),
            ([selection(), animation(state="stop")], 2),
            ([animation(state="start"), selection(), selection()], 2),
            ([ClientToolCall(name="unknown to us", arguments={})], 2),
        ],
    )
    async def test_it_is_resumed_exactly_when_an_answer_was_wanted(
        self, store: Store[Any], wanted: list[ClientToolCall], runs: int
    ) -> None:
        """The body runs again once, after the last answer, if one of the calls wanted an answer."""
        server, chat = scripted(store, asks(*wanted), says("done"))
        await chat.say("go")

        texts = [(await chat.answer([])).texts for _ in wanted]

        assert runs == server.runs
        assert [[] for _ in wanted[1:]] == texts[:-1]
        assert [["done"] if runs == 2 else []] == texts[-1:]

    async def test_an_answer_without_a_plan_runs_the_body(self, store: Store[Any]) -> None:
        """A call that somebody has put into the thread past the sequencer is answered as in plain ChatKit."""
        _, chat = scripted(store, says("hello"), says("thanks"))
        await chat.say("go")
        await chat.touch(
            ClientToolCallItem(
                id="tc", thread_id=chat.thread_id or "", created_at=at(5), call_id="c", name="x", arguments={}
            )
        )

        assert ["thanks"] == (await chat.answer()).texts

    async def test_a_repeat_of_the_last_answer_ends_without_a_word(self, store: Store[Any]) -> None:
        """A repeated answer that finds nothing left to do does not run the body, and ends without an event."""
        server, chat = scripted(store, asks(animation(state="stop")), says("twice"))
        await chat.say("go")
        await chat.answer()

        repeated = await chat.answer()

        assert ([], [], 1) == (repeated.done, repeated.errors, server.runs)

    async def test_a_continuation_can_ask_again(self, store: Store[Any]) -> None:
        """The run after the last answer may enqueue calls of its own: they are a new plan."""
        _, chat = scripted(store, asks(selection()), asks(selection(), animation(state="stop")), says("done"))
        await chat.say("go")

        replies = [await chat.answer([]), await chat.answer([]), await chat.answer([])]

        assert [["get_selected_canvas_nodes"], ["run_search_animation"], []] == [
            [name for name, _ in reply.calls] for reply in replies
        ]
        assert ["done"] == replies[-1].texts

    async def test_the_model_reads_the_wanted_answers(self) -> None:
        """With the converter, the resumed model sees the call under the invocation's id, and the answer."""
        sequencer = ClientToolSequencer(TOOLS)

        @function_tool
        async def look(ctx: Ctx) -> str:
            """Look at the canvas."""
            sequencer.enqueue(ctx, animation(state="start"), selection(), selection())
            return "asked"

        steps = [[calls("look", call_id="call_look")], speaks("wait"), speaks("seen")]
        server = SequencedServer(PlainStore(), steps, [look], sequencer=sequencer)
        chat = Conversation(server)
        await chat.say("go")
        for result in (None, ["a"], ["b"]):
            await chat.answer(result)

        last = server.model.last_call
        assert last is not None
        assert isinstance(last.input, list)
        read = [each for each in last.input if str(each.get("type", "")).startswith("function_call")]

        assert ["call_look", "call_look"] == [each["call_id"] for each in read[:2]]
        assert ['["a"]', '["b"]'] == [each["output"] for each in read if each["type"] == "function_call_output"]


class TestRepeatedAnswers:
    @pytest.mark.fails
    async def test_only_a_repeat_of_the_last_answer_goes_on(self, store: Store[Any]) -> None:
        """When the run after the last answer has failed, a repeat of that answer runs it again, and no other one."""
        _, chat = scripted(store, asks(selection(), selection()), fails(), says("done"), receipts=True)
        first = with_receipt((await chat.say("go")).call_items[0], ["a"])
        second = with_receipt((await chat.answer(first)).call_items[0], ["b"])
        failed = await chat.answer(second)

        of_the_first = await chat.answer(first)
        of_the_last = await chat.answer(second)

        assert 1 == len(failed.errors)
        assert ([], [], []) == (of_the_first.texts, of_the_first.calls, of_the_first.errors)
        assert ["done"] == of_the_last.texts

    async def test_a_repeat_after_a_new_message_runs_nothing(self, store: Store[Any]) -> None:
        """A repeat of the last answer that comes after the user's next message does not run the model again."""
        server, chat = scripted(store, asks(selection()), says("done"), says("hi"), receipts=True)
        answer = with_receipt((await chat.say("go")).call_items[0], ["a"])
        await chat.answer(answer)
        await chat.say("hello")

        repeated = await chat.answer(answer)

        assert ([], [], 3) == (repeated.done, repeated.errors, server.runs)

    async def test_an_answer_from_another_thread_changes_nothing(self, store: Store[Any]) -> None:
        """Where the model gives equal ids in two threads the receipts differ: an answer counts in its thread only."""
        sequencer = ClientToolSequencer(TOOLS, receipts=True)
        chats, items = [], []
        for _ in range(2):
            steps = [[calls("look", call_id="call_equal")], speaks("wait")]
            chats.append(Conversation(SequencedServer(store, steps, [asking(sequencer)], sequencer=sequencer)))
            items.append((await chats[-1].say("go")).call_items[0])

        await chats[1].answer(with_receipt(items[0], ["a"]))

        assert ["call_equal"] * 2 == [item["call_id"] for item in items]
        assert [("get_selected_canvas_nodes", "pending")] == await chats[1].calls()

    async def test_a_call_id_of_the_thread_is_not_given_again(self, store: Store[Any]) -> None:
        """When the model gives a call id that the thread has already, the new call gets one of its own."""
        sequencer = ClientToolSequencer(TOOLS)
        turn = [[calls("look", call_id="call_equal")], speaks("wait"), speaks("seen")]
        server = SequencedServer(store, [*turn, *turn], [asking(sequencer)], sequencer=sequencer)
        chat = Conversation(server)
        await chat.say("go")
        await chat.answer(["a"])

        item = (await chat.say("again")).call_items[0]

        assert re.fullmatch("call_[0-9a-f]{32}", item["call_id"])
        assert ["seen"] == (await chat.answer(["b"])).texts


def asking(sequencer: ClientToolSequencer) -> Any:
    """A server tool that asks for the selection."""

    @function_tool
    async def look(ctx: Ctx) -> str:
        """Look at the canvas."""
        sequencer.enqueue(ctx, selection())
        return "asked"

    return look


class TestFailures:
    async def test_continue_goes_on(self, store: Store[Any]) -> None:
        """An answer that does not fit makes the call fail; the calls after it are released all the same."""
        _, chat = scripted(store, asks(selection(), anything(n=2)), says("done"))
        await chat.say("go")

        assert [("anything", {"n": 2})] == (await chat.answer("not a list")).calls

    async def test_abort_gives_up_the_rest_but_the_required(self, store: Store[Any]) -> None:
        """With "abort" only the required calls are released after a failure; then the model runs."""
        server, chat = scripted(
            store,
            asks(animation(state="start"), selection(), anything(n=3), animation(state="stop")),
            says("that went wrong"),
            on_failure="abort",
        )
        await chat.say("go")
        await chat.answer()

        assert [("run_search_animation", {"state": "stop"})] == (await chat.answer({"error": "no canvas"})).calls
        assert ["that went wrong"] == (await chat.answer()).texts
        assert () == await server.sequencer.snapshot(store, chat.thread_id or "", None)

    async def test_abort_with_nothing_left_ends(self, store: Store[Any]) -> None:
        """A failing call that wanted no answer, with "abort", ends the plan without the model."""
        server, chat = scripted(store, asks(profiles(agents=[]), profiles(agents=[])), on_failure="abort")
        await chat.say("go")

        reply = await chat.answer({"error": "no stage"})

        assert ([], []) == (reply.calls, reply.errors)
        assert 1 == server.runs


@pytest.mark.skipif(not hasattr(chatkit.types, "StructuredInputItem"), reason="this ChatKit has no structured input")
class TestForms:
    @staticmethod
    def form(*wanted: ClientToolCall) -> Any:
        async def body(server: Scripted, context: AgentContext[Any]) -> AsyncIterator[Any]:
            server.sequencer.enqueue(context, *wanted)
            item = chatkit.types.StructuredInputItem(
                id="form_1", thread_id=context.thread.id, created_at=at(1), inputs=[]
            )
            yield ThreadItemDoneEvent(item=item)

        return body

    async def test_a_form_filled_in_after_the_calls_runs_the_body(self, store: Store[Any]) -> None:
        """ChatKit calls `respond` without a message for a form too: that is not taken for a repeated answer."""
        server, chat = scripted(store, self.form(animation(state="stop")), says("thanks for the form"))
        await chat.say("go")
        await chat.answer()

        assert ["thanks for the form"] == (await chat.fill_in("form_1")).texts
        assert 2 == server.runs

    async def test_a_form_filled_in_while_a_call_is_pending_runs_the_body(self, store: Store[Any]) -> None:
        """The call stays pending, can still be answered, and its plan goes on."""
        _, chat = scripted(store, self.form(selection(), anything(n=2)), says("thanks"), says("done"))
        await chat.say("go")

        filled = await chat.fill_in("form_1")
        second, last = await chat.answer([]), await chat.answer()

        assert (["thanks"], []) == (filled.texts, filled.calls)
        assert ([("anything", {"n": 2})], ["done"]) == (second.calls, last.texts)

    @pytest.mark.fails
    async def test_a_form_filled_in_after_a_run_that_failed(self, store: Store[Any]) -> None:
        """The run for a form tells the model what a failed run has not: no reload brings one more run for that."""
        server, chat = scripted(store, self.form(selection()), fails(), says("thanks"))
        await chat.say("go")
        await chat.answer([])
        await chat.fill_in("form_1")

        reply = await chat.act(RESUME)

        assert ([], [], 3) == (reply.errors, reply.texts, server.runs)


class TestWorkflows:
    async def test_a_release_never_adds_the_workflow_again(self) -> None:
        """A workflow left open before several calls is in the store once, however many of them are released."""
        store = WatchedStore(InsertStore())
        agent = Agent[Any](name="a", model=ScriptedModel([speaks("...")]))

        async def body(server: Scripted, context: AgentContext[Any]) -> AsyncIterator[Any]:
            result = Runner.run_streamed(agent, "go", context=context)
            async for event in stream_agent_response(context, result):
                yield event
                if event.type == "thread.item.done":
                    await context.start_workflow(Workflow(type="custom", tasks=[CustomTask(title="Searching")]))
                    server.sequencer.enqueue(context, anything(n=1), anything(n=2), anything(n=3))

        _, chat = scripted(store, body, says("done"))
        await chat.say("go")
        added = store.counts["add_thread_item"]

        replies = [await chat.answer(), await chat.answer(), await chat.answer()]

        assert ["workflow", "anything"] == names(await chat.items())[2:4]
        assert 1 == [item.type for item in await chat.items()].count("workflow")
        assert added + 3 == store.counts["add_thread_item"]
        assert [] == [reply.errors for reply in replies if reply.errors]


class TestSupport:
    async def test_snapshot_tells_every_call_and_its_state(self, store: Store[Any]) -> None:
        """A snapshot shows what a thread waits for, without arguments and answers."""
        server, chat = scripted(store, asks(animation(state="start"), selection(), anything(n=3)))
        await chat.say("go")
        await chat.answer()

        shown = await server.sequencer.snapshot(store, chat.thread_id or "", None)

        assert [
            ("run_search_animation", "completed", False, True),
            ("get_selected_canvas_nodes", "pending", True, False),
            ("anything", "queued", True, False),
        ] == [(each.name, each.state.value, each.answer_wanted, each.required) for each in shown]

    async def test_snapshot_names_the_item(self, store: Store[Any]) -> None:
        """A call of a snapshot is found in the thread by its item id; it is no handle to change anything with."""
        server, chat = scripted(store, asks(selection()))
        await chat.say("go")

        [shown] = await server.sequencer.snapshot(store, chat.thread_id or "", None)

        item: Any = await store.load_item(chat.thread_id or "", shown.item_id, None)
        assert (shown.name, shown.call_id) == (item.name, item.call_id)
        assert shown.since == item.created_at.astimezone(timezone.utc)
        assert timezone.utc is shown.since.tzinfo
        with pytest.raises(FrozenInstanceError):
            shown.name = "another"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]

    async def test_snapshot_tells_failures(self, store: Store[Any]) -> None:
        """A call whose answer is none is shown as failed."""
        server, chat = scripted(store, asks(selection(), anything()))
        await chat.say("go")
        await chat.answer("not a list")

        shown = await server.sequencer.snapshot(store, chat.thread_id or "", None)

        assert ["failed", "pending"] == [each.state.value for each in shown]

    async def test_cancel_drops_what_is_left(self, store: Store[Any]) -> None:
        """`cancel` removes the pending call and the queued ones, returns them as they were, and keeps required ones."""
        server, chat = scripted(store, asks(anything(n=1), anything(n=2), animation(state="stop")), says("hi"))
        await chat.say("go")

        gone = await server.sequencer.cancel(store, chat.thread_id or "", None)

        assert [("anything", "pending"), ("anything", "queued")] == [(each.name, each.state.value) for each in gone]
        assert [] == await chat.calls()
        assert [("run_search_animation", {"state": "stop"})] == (await chat.say("hi")).calls

    async def test_cancel_of_required_calls(self, store: Store[Any]) -> None:
        """With `required=True` nothing stays, so a required call that no page answers can be ended."""
        server, chat = scripted(store, asks(animation(state="start"), animation(state="stop")), says("hi"))
        await chat.say("go")

        gone = await server.sequencer.cancel(store, chat.thread_id or "", None, required=True)

        assert ["pending", "queued"] == [each.state.value for each in gone]
        assert () == await server.sequencer.snapshot(store, chat.thread_id or "", None)
        assert [] == (await chat.say("hi")).calls

    async def test_cancel_of_nothing(self, store: Store[Any]) -> None:
        """Cancelling a thread without a plan returns nothing and writes nothing."""
        server, chat = scripted(store, says("hi"))
        await chat.say("hello")

        assert () == await server.sequencer.cancel(store, chat.thread_id or "", None)

    @pytest.mark.parametrize(
        ("damage", "reason"),
        [
            ("nonsense", "it is not JSON"),
            ({"version": 1, "revision": 3, "calls": []}, "it is a NoneType, not text"),
            ({"revision": 3, "plan": 5}, "it is a int, not text"),
            ({"revision": 3, "plan": '{"version":99}'}, "its format version is 99"),
            ({"revision": 3, "plan": '{"version":2}\n{"id":1}'}, "id: Input should be a valid string"),
        ],
        ids=["text", "an older format", "a number", "a newer format", "a damaged call"],
    )
    async def test_a_damaged_plan_stops_its_thread_until_it_is_cancelled(
        self, damage: Any, reason: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The user reads a sentence, the log has reason and cure, and `cancel` gets the thread going again."""
        store = PlainStore()
        server, chat = scripted(store, asks(anything(n=1)), says("fine"))
        await chat.say("go")
        thread = await store.load_thread(chat.thread_id or "", None)
        thread.metadata[METADATA_KEY] = damage
        await store.save_thread(thread, None)

        [error] = (await chat.answer()).errors

        assert "What the server keeps of this conversation is damaged. Its operator can repair it." == error["message"]
        assert 1 == sum("cannot be read" in message for message in caplog.messages)
        assert f"of thread {chat.thread_id} cannot be read: {reason}" in caplog.text
        assert f"`await sequencer.cancel(store, {chat.thread_id!r}, context)` drops it" in caplog.text
        assert damage == (await store.load_thread(thread.id, None)).metadata[METADATA_KEY]

        gone = await server.sequencer.cancel(store, thread.id, None)
        assert [("anything", "pending")] == [(each.name, each.state.value) for each in gone]
        assert ["fine"] == (await chat.say("hello")).texts

    async def test_a_damaged_plan_under_its_own_key(self, caplog: pytest.LogCaptureFixture) -> None:
        """A damaged plan in a store that keeps plans of its own is treated alike."""
        store = PlansStore()
        server, chat = scripted(store, asks(anything(n=1)), says("fine"))
        await chat.say("go")
        thread_id = chat.thread_id or ""
        store.plans[thread_id] = store.plans[thread_id]._replace(document="{")

        assert 1 == len((await chat.say("hello")).errors)
        assert "it is not JSON" in caplog.text
        await server.sequencer.cancel(store, thread_id, None)
        assert ["fine"] == (await chat.say("hello")).texts


class TestLongThreads:
    async def test_a_plan_whose_calls_are_out_of_sight_is_found(self, store: Store[Any]) -> None:
        """Items written behind the plan's calls, however many, do not make them look unreleased."""
        _, chat = scripted(store, asks(anything(n=1), anything(n=2)), asks(anything(n=3)), says("done"))
        await chat.say("go")
        await chat.answer()
        for n in range(50):
            await chat.touch(hidden(chat, n))

        pressed = await chat.act("press")

        assert [] == pressed.calls
        assert ["completed", "pending"] == [status for _, status in await chat.calls()]
        assert [("anything", {"n": 3})] == (await chat.answer()).calls

    async def test_a_long_plan_keeps_its_order_when_calls_are_appended(self, store: Store[Any]) -> None:
        """Calls settled long ago, are not taken for waiting ones when an action adds to the plan."""
        _, chat = scripted(store, asks(*[anything(n=n) for n in range(30)]), asks(anything(n=30)), says("done"))
        seen = (await chat.say("go")).calls
        for _ in range(25):
            seen += (await chat.answer()).calls

        seen += (await chat.act("press")).calls
        for _ in range(5):
            seen += (await chat.answer()).calls

        assert list(range(31)) == [arguments["n"] for _, arguments in seen]
        assert ["done"] == (await chat.answer()).texts

    async def test_a_cursor_that_starts_over_is_not_followed_for_ever(self) -> None:
        """A store whose cursor restarts at page one does not hang the request."""
        server, chat = scripted(ForgetfulStore(), asks(anything(n=1)))
        await chat.say("go")
        for n in range(50):
            await chat.touch(hidden(chat, n))

        shown = await server.sequencer.snapshot(server.store, chat.thread_id or "", None)

        assert 1 == len(shown)

    async def test_a_snapshot_sees_the_whole_plan(self, store: Store[Any]) -> None:
        """A failure long ago is still shown as one."""
        server, chat = scripted(store, asks(selection(), *[anything()] * 40))
        await chat.say("go")
        await chat.answer("not a list")
        for _ in range(30):
            await chat.answer()

        shown = await server.sequencer.snapshot(store, chat.thread_id or "", None)

        assert "failed" == shown[0].state.value
