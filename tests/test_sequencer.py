"""The sequencer, from the outside: what a backend that uses it may rely on."""

from __future__ import annotations

import asyncio
import contextvars
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import FrozenInstanceError
from datetime import timezone
from typing import TYPE_CHECKING, Any

import chatkit.types
import pytest
from agents import Agent, RunContextWrapper, Runner, function_tool
from agents.testing import ScriptedModel, function_call
from agents.tool_context import ToolContext
from chatkit.agents import AgentContext, ClientToolCall, stream_agent_response
from chatkit.errors import CustomStreamError
from chatkit.server import ChatKitServer
from chatkit.types import (
    AssistantMessageItem,
    ClientToolCallItem,
    CustomTask,
    HiddenContextItem,
    ProgressUpdateEvent,
    ThreadItemDoneEvent,
    ThreadMetadata,
    Workflow,
)

from chatkit_clienttools import (
    ClientTool,
    ClientToolSequencer,
    LifecycleEvent,
    SequencedAgentContext,
    ValidatingStore,
)
from chatkit_clienttools._plans import METADATA_KEY
from chatkit_clienttools.errors import (
    InvalidArgumentsError,
    NotSequencedError,
    QueueFullError,
    UsageError,
)
from tests.helpers.conversation import CHATKIT_DROPS_PENDING_ON_MESSAGE, Conversation, at
from tests.helpers.merak import TOOLS, SequencedServer, animation, anything, calls, profiles, selection, speaks
from tests.helpers.stores import ForgetfulStore, InsertStore, LiveStore, PlainStore, PlansStore, WatchedStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from chatkit.store import Store

Ctx = RunContextWrapper[AgentContext[Any]]
Body = "Callable[[Any, AgentContext[Any]], AsyncIterator[Any]]"


def message(text: str, thread: ThreadMetadata, item_id: str) -> ThreadItemDoneEvent:
    content: Any = [{"text": text, "annotations": []}]
    return ThreadItemDoneEvent(
        item=AssistantMessageItem(id=item_id, thread_id=thread.id, created_at=at(1), content=content)
    )


class Scripted(ChatKitServer[Any]):
    """A server whose runs are written by the test: one function for each body that is run, in order."""

    def __init__(self, store: Store[Any], sequencer: ClientToolSequencer, *bodies: Any) -> None:
        super().__init__(store)
        self.sequencer = sequencer
        self.bodies = list(bodies)
        self.runs = 0

    async def _run(self, thread: ThreadMetadata, subject: Any, context: Any) -> AsyncIterator[Any]:
        self.runs += 1
        body = self.bodies.pop(0)
        agent_context = SequencedAgentContext(thread=thread, store=self.store, request_context=context)
        async for event in body(self, agent_context):
            yield event

    def respond(self, thread: Any, input_user_message: Any, context: Any) -> AsyncIterator[Any]:
        return self.sequencer.sequenced(Scripted._run_respond)(self, thread, input_user_message, context)

    async def _run_respond(self, thread: Any, item: Any, context: Any) -> AsyncIterator[Any]:
        async for event in self._run(thread, item, context):
            yield event

    def action(self, thread: Any, action: Any, sender: Any, context: Any) -> AsyncIterator[Any]:
        return self.sequencer.sequenced(Scripted._run_action)(self, thread, action, sender, context)

    async def _run_action(self, thread: Any, action: Any, sender: Any, context: Any) -> AsyncIterator[Any]:
        async for event in self._run(thread, action, context):
            yield event


class Closing(ChatKitServer[Any]):
    """A server with one body."""

    def __init__(self, store: Store[Any], body: Any) -> None:
        super().__init__(store)
        self.body = body

    async def respond(self, thread: Any, input_user_message: Any, context: Any) -> AsyncIterator[Any]:
        agent_context = AgentContext(thread=thread, store=self.store, request_context=context)
        async with aclosing(self.body(self, agent_context)) as events:
            async for event in events:
                yield event


def asks(*wanted: ClientToolCall, says: str | None = None) -> Any:
    """A body that enqueues calls."""

    async def body(server: Scripted, context: AgentContext[Any]) -> AsyncIterator[Any]:
        server.sequencer.enqueue(context, *wanted)
        if says:
            yield message(says, context.thread, says)

    return body


def says(text: str) -> Any:
    async def body(server: Scripted, context: AgentContext[Any]) -> AsyncIterator[Any]:
        yield message(text, context.thread, text)

    return body


def fails(*wanted: ClientToolCall, text: str | None = None) -> Any:
    """A body that enqueues calls and then fails."""

    async def body(server: Scripted, context: AgentContext[Any]) -> AsyncIterator[Any]:
        server.sequencer.enqueue(context, *wanted)
        if text:
            yield message(text, context.thread, text)
        raise RuntimeError("the model is away")

    return body


def answers_itself(server: Scripted, context: AgentContext[Any]) -> AsyncIterator[Any]:
    """The body of an action that lets the model run."""
    return server.respond(context.thread, None, context.request_context)


def deeply_nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


async def saved_thread(store: Store[Any]) -> ThreadMetadata:
    thread = ThreadMetadata(id="thr_1", created_at=at(0))
    await store.save_thread(thread, None)
    return await store.load_thread("thr_1", None)


def names(items: list[Any]) -> list[str]:
    return [item.name if item.type == "client_tool_call" else item.type for item in items]


@pytest.fixture(params=[PlainStore, PlansStore, LiveStore], ids=["plain", "plans", "live"])
def store(request: pytest.FixtureRequest) -> Store[Any]:
    made: Store[Any] = request.param()
    return made


def scripted(store: Store[Any], *bodies: Any, **options: Any) -> tuple[Scripted, Conversation]:
    server = Scripted(store, ClientToolSequencer(TOOLS, **options), *bodies)
    return server, Conversation(server)


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
        """A call that ChatKit emitted outside a sequenced run is answered as ever."""
        _, chat = scripted(store, says("hello"), says("thanks"))
        await chat.say("go")
        await chat.touch(
            ClientToolCallItem(
                id="tc", thread_id=chat.thread_id or "", created_at=at(5), call_id="c", name="x", arguments={}
            )
        )

        assert ["thanks"] == (await chat.answer()).texts

    async def test_a_repeat_of_the_last_answer_ends_without_a_word(self, store: Store[Any]) -> None:
        """An answer that was overtaken by its own repeat, and finds nothing left to do, does not run the body."""
        server, chat = scripted(store, asks(animation(state="stop")), says("twice"))
        await chat.say("go")
        await chat.answer()
        thread = await store.load_thread(chat.thread_id or "", None)

        assert [] == [event async for event in server.respond(thread, None, None)]

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


class TestWhatIsInTheQueue:
    async def test_parallel_tools_keep_their_order(self, store: Store[Any]) -> None:
        """Calls keep the order in which parallel tools enqueued them."""
        sequencer = ClientToolSequencer(TOOLS)
        second_first = asyncio.Event()

        @function_tool
        async def one(ctx: Ctx) -> str:
            """Ask second."""
            await second_first.wait()
            sequencer.enqueue(ctx, anything(n=2))
            return "ok"

        @function_tool
        async def two(ctx: Ctx) -> str:
            """Ask first."""
            sequencer.enqueue(ctx, anything(n=1))
            second_first.set()
            return "ok"

        @function_tool
        def three(ctx: Ctx) -> str:
            """Ask from a thread: a synchronous tool."""
            sequencer.enqueue(ctx, anything(n=3))
            return "ok"

        steps = [[calls("one"), calls("two")], [calls("three")], speaks("ok"), speaks("done")]
        chat = Conversation(SequencedServer(store, steps, [one, two, three], sequencer=sequencer))

        seen = (await chat.say("go")).calls + (await chat.answer()).calls + (await chat.answer()).calls

        assert [1, 2, 3] == [arguments["n"] for _, arguments in seen]

    async def test_tools_in_threads_lose_nothing(self) -> None:
        """Synchronous tools run in threads: what they enqueue at the same moment is all there."""
        ready = threading.Barrier(8)

        async def body(server: Scripted, context: AgentContext[Any]) -> AsyncIterator[Any]:
            def tool(n: int) -> None:
                ready.wait()
                for i in range(8):
                    server.sequencer.enqueue(context, anything(n=8 * n + i))

            with ThreadPoolExecutor(8) as pool:
                jobs = [pool.submit(contextvars.copy_context().run, tool, n) for n in range(8)]
            for job in jobs:
                job.result()
            return
            yield

        server, chat = scripted(PlainStore(), *[body] * 20, on_user_message="cancel")
        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        try:
            for _ in range(20):
                await chat.say("go")
                shown = await server.sequencer.snapshot(server.store, chat.thread_id or "", None)
                assert 64 == len(shown)
        finally:
            sys.setswitchinterval(interval)

    async def test_the_slot_is_filled(self) -> None:
        """`enqueue` leaves the first call in ChatKit's own slot."""
        seen: list[Any] = []

        async def body(server: Scripted, context: AgentContext[Any]) -> AsyncIterator[Any]:
            server.sequencer.enqueue(context, anything(n=1), anything(n=2))
            seen.append(context.client_tool_call)
            return
            yield

        _, chat = scripted(PlainStore(), body)
        await chat.say("go")

        assert [anything(n=1)] == seen

    @pytest.mark.parametrize("make_context", [AgentContext, SequencedAgentContext])
    async def test_what_is_put_into_the_slot_is_queued(self, make_context: Any) -> None:
        """A call put into the slot before an enqueue goes first, one put there after it goes last."""

        async def body(server: Scripted, given: AgentContext[Any]) -> AsyncIterator[Any]:
            context = make_context(thread=given.thread, store=given.store, request_context=None)
            context.client_tool_call = anything(n=1)
            server.sequencer.enqueue(context, anything(n=2), anything(n=3))
            context.client_tool_call = anything(n=4)
            return
            yield

        _, chat = scripted(PlainStore(), body, says("done"))

        seen = (await chat.say("go")).calls
        for _ in range(4):
            seen += (await chat.answer()).calls

        assert [1, 2, 3, 4] == [arguments["n"] for _, arguments in seen]

    async def test_tools_written_for_plain_chatkit_work_unchanged(self, store: Store[Any]) -> None:
        """With a SequencedAgentContext every assignment of every tool in a run is released."""
        sequencer = ClientToolSequencer()

        @function_tool
        async def switch_theme(ctx: Ctx) -> str:
            """Switch the theme."""
            ctx.context.client_tool_call = ClientToolCall(name="switch_theme", arguments={"theme": "dark"})
            return "ok"

        @function_tool
        async def record_fact(ctx: Ctx) -> str:
            """Record a fact."""
            ctx.context.client_tool_call = ClientToolCall(name="record_fact", arguments={"fact": "blue"})
            return "ok"

        agent = Agent[Any](
            name="facts",
            model=ScriptedModel([[calls("record_fact"), calls("switch_theme")], speaks("ok")]),
            tools=[switch_theme, record_fact],
        )

        async def body(server: Scripted, context: AgentContext[Any]) -> AsyncIterator[Any]:
            async for event in stream_agent_response(context, Runner.run_streamed(agent, "go", context=context)):
                yield event

        chat = Conversation(Scripted(store, sequencer, body, says("done")))

        seen = (await chat.say("go")).calls + (await chat.answer()).calls

        assert ["record_fact", "switch_theme"] == sorted(name for name, _ in seen)

    async def test_one_plain_call_keeps_chatkits_ids(self, store: Store[Any]) -> None:
        """A single call in the slot is released with the ids that ChatKit gives it: those of the function call."""

        @function_tool
        async def select(ctx: Ctx) -> str:
            """Ask for the selection."""
            ctx.context.client_tool_call = ClientToolCall(name="get_selected_canvas_nodes", arguments={})
            return "asked"

        steps = [[function_call("select", {}, call_id="call_7", item_id="fc_7")], speaks("ok"), speaks("done")]
        chat = Conversation(SequencedServer(store, steps, [select]))

        item = (await chat.say("go")).call_items[0]

        assert ("fc_7", "call_7") == (item["id"], item["call_id"])
        assert ["done"] == (await chat.answer([])).texts

    async def test_what_a_body_yields_itself_is_queued(self, store: Store[Any]) -> None:
        """Pending calls that a body yields by hand are released one by one, under their own ids."""

        async def body(server: Scripted, context: AgentContext[Any]) -> AsyncIterator[Any]:
            for n in (1, 2):
                yield ThreadItemDoneEvent(
                    item=ClientToolCallItem(
                        id=f"tc_{n}",
                        thread_id=context.thread.id,
                        created_at=at(n),
                        call_id=f"c_{n}",
                        name="anything",
                        arguments={"n": n},
                    )
                )

        _, chat = scripted(store, body, says("done"))

        items = (await chat.say("go")).call_items + (await chat.answer()).call_items

        assert [("tc_1", "c_1"), ("tc_2", "c_2")] == [(item["id"], item["call_id"]) for item in items]

    async def test_the_first_wanted_answer_carries_the_invocations_id(self, store: Store[Any]) -> None:
        """Of the calls that one tool invocation enqueues, the first that wants an answer has its `tool_call_id`."""

        async def body(server: Scripted, context: AgentContext[Any]) -> AsyncIterator[Any]:
            for call_id in ("call_a", "call_b", "call_a", "__fake_id__"):
                ctx = ToolContext(context, tool_name="t", tool_call_id=call_id, tool_arguments="{}")
                server.sequencer.enqueue(ctx, animation(state="start"), selection(), selection())
            return
            yield

        _, chat = scripted(store, body, says("done"))
        items = (await chat.say("go")).call_items
        for _ in range(11):
            items += (await chat.answer([])).call_items
        call_ids = [item["call_id"] for item in items]

        assert ["call_a", "call_b"] == [call_id for call_id in call_ids if not call_id.startswith("tc_")]
        assert (1, 4) == (call_ids.index("call_a"), call_ids.index("call_b"))
        assert len(set(call_ids)) == 12

    async def test_a_call_is_what_it_was_when_it_was_enqueued(self) -> None:
        """What a tool does to its arguments afterwards does not change the call."""

        async def body(server: Scripted, context: AgentContext[Any]) -> AsyncIterator[Any]:
            shared = ["a"]
            server.sequencer.enqueue(context, anything(names=shared))
            shared.append("b")
            return
            yield

        _, chat = scripted(PlainStore(), body)

        assert [("anything", {"names": ["a"]})] == (await chat.say("go")).calls

    async def test_a_store_that_repeats_its_ids_is_refused(self, caplog: pytest.LogCaptureFixture) -> None:
        """A store whose `generate_item_id` gives an id twice gets an error that names it, not an overwritten call."""

        class Stuck(PlainStore):
            def generate_item_id(self, item_type: Any, thread: Any, context: Any) -> str:
                return "same" if item_type == "tool_call" else super().generate_item_id(item_type, thread, context)

        _, chat = scripted(Stuck(), asks(anything(), anything()))

        assert 1 == len((await chat.say("go")).errors)
        assert [] == await chat.calls()
        assert "UsageError: Stuck.generate_item_id gave 20 times an id that thread" in caplog.text


class TestSlots:
    """What a body does with the slot, and with its context, besides enqueueing."""

    @staticmethod
    async def streamed(context: AgentContext[Any]) -> AsyncIterator[Any]:
        agent = Agent[Any](name="a", model=ScriptedModel([speaks("ok")]))
        async for event in stream_agent_response(context, Runner.run_streamed(agent, "go", context=context)):
            yield event

    async def seen(self, store: Store[Any], body: Any) -> list[int]:
        _, chat = scripted(store, body, says("done"))
        reply = await chat.say("go")
        seen = []
        while reply.calls:
            seen += [arguments["n"] for _, arguments in reply.calls]
            reply = await chat.answer()
        assert [] == reply.errors
        return seen

    async def test_a_slot_that_is_cleared(self, store: Store[Any]) -> None:
        """A body that clears the slot after its agent's run does not get the call twice."""

        async def body(server: Scripted, context: AgentContext[Any]) -> AsyncIterator[Any]:
            server.sequencer.enqueue(context, anything(n=1))
            async for event in self.streamed(context):
                yield event
            context.client_tool_call = None

        assert [1] == await self.seen(store, body)

    async def test_a_copied_context(self, store: Store[Any]) -> None:
        """Enqueueing on a copy of the context does not take the first call for a new one."""

        async def body(server: Scripted, context: AgentContext[Any]) -> AsyncIterator[Any]:
            server.sequencer.enqueue(context, anything(n=1))
            server.sequencer.enqueue(context.model_copy(), anything(n=2))
            return
            yield

        assert [1, 2] == await self.seen(store, body)

    async def test_several_agents_in_one_run(self, store: Store[Any]) -> None:
        """Slots that were streamed one after the other, and then an enqueue, keep their order."""

        async def body(server: Scripted, given: AgentContext[Any]) -> AsyncIterator[Any]:
            context = AgentContext(thread=given.thread, store=given.store, request_context=None)
            for n in (1, 2):
                context.client_tool_call = anything(n=n)
                async for event in self.streamed(context):
                    yield event
            server.sequencer.enqueue(context, anything(n=3))

        assert [1, 2, 3] == await self.seen(store, body)

    async def test_discard(self, store: Store[Any]) -> None:
        """What a run has asked for can be forgotten, as when a guardrail has rejected the agent's output."""

        async def body(server: Scripted, context: AgentContext[Any]) -> AsyncIterator[Any]:
            server.sequencer.enqueue(context, anything(n=1))
            server.sequencer.discard(context)
            async for event in self.streamed(context):
                yield event

        assert [] == await self.seen(store, body)


class TestRefusals:
    async def refusal(self, *wanted: Any, **options: Any) -> tuple[Exception, Conversation]:
        caught: list[Exception] = []

        async def body(server: Scripted, context: AgentContext[Any]) -> AsyncIterator[Any]:
            try:
                server.sequencer.enqueue(context, *wanted)
            except Exception as error:  # noqa: BLE001  the test looks at it
                caught.append(error)
            return
            yield

        _, chat = scripted(PlainStore(), body, **options)
        reply = await chat.say("go")
        assert [] == reply.calls
        return caught[0], chat

    async def test_arguments_that_are_not_json(self) -> None:
        """Arguments that are not JSON raise at the tool, and nothing of that enqueue is queued."""
        error, _ = await self.refusal(anything(), ClientToolCall(name="anything", arguments={"x": object()}))

        assert isinstance(error, InvalidArgumentsError)
        assert "anything" in str(error)
        assert "Unable to serialize unknown type" in str(error)

    async def test_not_a_number(self) -> None:
        """NaN is not JSON."""
        error, _ = await self.refusal(anything(x=float("nan")))

        assert isinstance(error, InvalidArgumentsError)

    async def test_too_many(self) -> None:
        """More calls than `max_queued` raise, with nothing queued."""
        error, _ = await self.refusal(*[anything()] * 4, max_queued=3)

        assert isinstance(error, QueueFullError)
        assert "max_queued" in str(error)

    @pytest.mark.parametrize(("options", "limit"), [({}, 64), ({"max_queued": 1}, 1)])
    async def test_as_many_as_allowed(self, options: Any, limit: int) -> None:
        """As many calls as `max_queued` says are queued, 64 where it says nothing; one more is refused."""
        server, chat = scripted(PlainStore(), asks(*[anything()] * limit), **options)
        await chat.say("go")

        error, _ = await self.refusal(*[anything()] * (limit + 1), **options)

        assert limit == len(await server.sequencer.snapshot(server.store, chat.thread_id or "", None))
        assert isinstance(error, QueueFullError)

    async def test_too_large(self) -> None:
        """More than 256 KiB of arguments raise, with nothing queued."""
        error, _ = await self.refusal(anything(x="x" * 200_000), anything(x="x" * 70_000))

        assert isinstance(error, QueueFullError)
        assert "262,144" in str(error)

    async def test_what_is_no_call(self) -> None:
        """Enqueueing a tool instead of a call says what is missing."""
        error, _ = await self.refusal(animation)

        assert isinstance(error, UsageError)
        assert "enqueue() takes calls, not ClientTool: call the tool, tool(field=...)" == str(error)

    async def test_open_calls_count(self) -> None:
        """Calls that wait since an earlier run count for the limit."""
        server, chat = scripted(PlainStore(), asks(anything(), anything()), asks(anything(), anything()), max_queued=3)
        await chat.say("go")

        reply = await chat.act("more")

        assert (1, []) == (len(reply.errors), reply.calls)
        assert 2 == len(await server.sequencer.snapshot(server.store, chat.thread_id or "", None))

    async def test_outside_a_sequenced_run(self, caplog: pytest.LogCaptureFixture) -> None:
        """`enqueue` outside a sequenced run says which line is missing, in the log too."""
        store = PlainStore()
        context = AgentContext(thread=await saved_thread(store), store=store, request_context=None)

        with pytest.raises(NotSequencedError, match=r"Put `@sequencer\.sequenced` above"):
            ClientToolSequencer().enqueue(context, anything())
        assert ["ERROR"] == [record.levelname for record in caplog.records]

    async def test_assignment_outside_a_sequenced_run(self) -> None:
        """So does an assignment to the slot of a SequencedAgentContext; clearing the slot is allowed anywhere."""
        store = PlainStore()
        context = SequencedAgentContext(thread=await saved_thread(store), store=store, request_context=None)
        context.client_tool_call = None

        with pytest.raises(NotSequencedError, match=r"Put `@sequencer\.sequenced` above"):
            context.client_tool_call = anything()

    async def test_for_another_thread(self) -> None:
        """A context with a thread that is not the run's is told to use the run's."""
        error: list[Exception] = []

        async def body(server: Scripted, context: AgentContext[Any]) -> AsyncIterator[Any]:
            other = AgentContext(
                thread=ThreadMetadata(id="other", created_at=at(0)), store=context.store, request_context=None
            )
            try:
                server.sequencer.enqueue(other, anything())
            except NotSequencedError as caught:
                error.append(caught)
            return
            yield

        _, chat = scripted(PlainStore(), body)
        await chat.say("go")

        assert "give the AgentContext the `thread`" in str(error[0])

    @pytest.mark.parametrize(
        "ask",
        [
            lambda other, context: other.enqueue(context, anything()),
            lambda other, context: other.discard(context),
        ],
        ids=["enqueue", "discard"],
    )
    async def test_with_another_sequencer(self, ask: Callable[[ClientToolSequencer, Any], None]) -> None:
        """Who asks another sequencer than the server's is told to share one."""
        error: list[Exception] = []

        async def body(server: Scripted, context: AgentContext[Any]) -> AsyncIterator[Any]:
            try:
                ask(ClientToolSequencer(), context)
            except NotSequencedError as caught:
                error.append(caught)
            return
            yield

        _, chat = scripted(PlainStore(), body)
        await chat.say("go")

        assert "share one" in str(error[0])

    async def test_after_the_run(self) -> None:
        """A task that outlives the run cannot enqueue any more."""
        over = asyncio.Event()
        tasks: list[asyncio.Task[None]] = []

        async def body(server: Scripted, context: AgentContext[Any]) -> AsyncIterator[Any]:
            async def late() -> None:
                await over.wait()
                server.sequencer.enqueue(context, anything())

            tasks.append(asyncio.create_task(late()))
            return
            yield

        _, chat = scripted(PlainStore(), body)
        await chat.say("go")
        over.set()

        with pytest.raises(NotSequencedError, match="The run has ended"):
            await tasks[0]

    async def test_a_list_of_calls(self) -> None:
        """Enqueueing a list of calls says how to unpack it."""
        error, _ = await self.refusal([anything()])

        assert "enqueue() takes calls, not list: unpack it, *calls" == str(error)

    async def test_a_coroutine(self) -> None:
        """A `respond` without a `yield`, which ChatKit could not iterate over, is refused where it is decorated."""

        async def respond(self: Any, thread: Any, item: Any, context: Any) -> None:
            return None

        with pytest.raises(UsageError, match="has no `yield`"):
            ClientToolSequencer().sequenced(respond)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

    async def test_refusals_are_logged_without_what_users_said(self, caplog: pytest.LogCaptureFixture) -> None:
        """A mistake in a tool is logged as an error, because the SDK tells only the model; the log has no values."""
        with pytest.raises(InvalidArgumentsError):
            animation(state="s3cret")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

        said = "Client tool 'run_search_animation' was called with wrong arguments: state (literal_error)"
        assert [said] == caplog.messages
        assert ["ERROR"] == [record.levelname for record in caplog.records]

    def test_a_forgotten_context_is_logged(self, caplog: pytest.LogCaptureFixture) -> None:
        """Without `ctx`, or in a run without an AgentContext, the developer hears of it, and of the right cure."""
        sequencer = ClientToolSequencer(TOOLS)

        for wrong in (anything(), RunContextWrapper(context=None)):
            with pytest.raises(UsageError):
                sequencer.enqueue(wrong)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

        assert ["ERROR", "ERROR"] == [record.levelname for record in caplog.records]
        assert "`ctx` comes first" in caplog.messages[0]
        assert "run the agent with `context=AgentContext(" in caplog.messages[1]

    async def test_an_unknown_tool_is_said_once(self, caplog: pytest.LogCaptureFixture) -> None:
        """A call by a name that the sequencer was not given is released, and warned about once."""
        _, chat = scripted(PlainStore(), asks(*[ClientToolCall(name="ghost", arguments={})] * 2), says("done"))

        with caplog.at_level("WARNING", "chatkit_clienttools"):
            await chat.say("go")
            await chat.answer()

        assert 1 == sum("'ghost' is not among those" in message for message in caplog.messages)

    @pytest.mark.parametrize(
        ("answer", "reason"),
        [
            ({"error": "s3cret"}, "the browser reported an error"),
            ("s3cret", "the answer does not fit the tool's result type"),
        ],
    )
    async def test_a_failure_is_a_warning_with_its_reason(
        self, answer: Any, reason: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A call that fails is logged as a warning that says why, without the answer; observers get the reason too."""
        events: list[LifecycleEvent] = []
        _, chat = scripted(PlainStore(), asks(selection(), anything()), observers=[events.append])
        await chat.say("go")

        with caplog.at_level("WARNING", "chatkit_clienttools"):
            await chat.answer(answer)

        assert reason in caplog.text
        assert "s3cret" not in caplog.text
        assert [reason] == [event.reason for event in events if event.reason]

    def test_options(self) -> None:
        """A wrong option is refused where the sequencer is built, with the values that are allowed."""
        with pytest.raises(UsageError, match=r"a list of client tools: \[x\]"):
            ClientToolSequencer(ClientTool("x"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        with pytest.raises(UsageError, match="takes client tools, not 'x'"):
            ClientToolSequencer(["x"])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
        with pytest.raises(UsageError, match="is a type, or None"):
            ClientTool("x", result="none")
        with pytest.raises(UsageError, match=r"^on_user_message must be one of 'cancel', 'keep', not 'drop'$"):
            ClientToolSequencer(on_user_message="drop")  # type: ignore[arg-type]
        with pytest.raises(UsageError, match=r"^on_failure must be one of 'continue', 'abort', not 'stop'$"):
            ClientToolSequencer(on_failure="stop")  # type: ignore[arg-type]
        with pytest.raises(UsageError, match="at least 1"):
            ClientToolSequencer(max_queued=0)
        with pytest.raises(UsageError, match="Two client tools are named 'x'"):
            ClientToolSequencer([ClientTool("x"), ClientTool("x")])

    def test_its_tools(self) -> None:
        """Who has the sequencer has its tools, in their order."""
        assert tuple(TOOLS) == ClientToolSequencer(TOOLS).tools

    def test_what_is_neither_respond_nor_action(self) -> None:
        """Sequencing another method is refused where it is decorated, with the two signatures that can be."""

        async def title(self: Any, thread: Any) -> AsyncIterator[Any]:
            yield thread

        with pytest.raises(UsageError) as raised:
            ClientToolSequencer().sequenced(title)

        assert str(raised.value).endswith(
            "title is not a `respond(self, thread, message, context)` or an "
            "`action(self, thread, action, sender, context)`; only those can be sequenced"
        )

    def test_an_asynchronous_observer(self) -> None:
        """An observer that would have to be awaited is refused: it would see nothing."""

        async def observer(event: LifecycleEvent) -> None:
            raise AssertionError

        with pytest.raises(UsageError, match="nobody would await it"):
            ClientToolSequencer(observers=[observer])

    @pytest.mark.parametrize("value", ["\ud83d", deeply_nested(300)], ids=["lone surrogate", "300 levels"])
    async def test_what_chatkit_could_not_send(self, value: Any) -> None:
        """What is JSON for Python and not for ChatKit raises at the tool as well."""
        error, _ = await self.refusal(ClientToolCall(name="anything", arguments={"x": value}))

        assert isinstance(error, InvalidArgumentsError)
        with pytest.raises(InvalidArgumentsError):
            anything(x=value)

    async def test_only_open_calls_count(self, store: Store[Any]) -> None:
        """Calls that were answered do not count for the limit."""
        _, chat = scripted(store, asks(*[anything()] * 4), asks(anything(n=5)), max_queued=4)
        await chat.say("go")
        for _ in range(3):
            await chat.answer()

        assert [] == (await chat.act("more")).errors
        assert [("anything", {"n": 5})] == (await chat.answer()).calls

    async def test_a_limit_in_bytes(self) -> None:
        """The limit in bytes is an option."""
        error, _ = await self.refusal(anything(x="x" * 100), max_bytes=100)

        assert "max_bytes" in str(error)


class TestRuns:
    async def test_a_run_that_fails_leaves_nothing(self, store: Store[Any]) -> None:
        """Calls enqueued by a run that fails are dropped with it."""
        server, chat = scripted(store, fails(anything(), text="half"), asks(animation(state="start")))

        reply = await chat.say("go")

        assert ([], 1) == (reply.calls, len(reply.errors))
        assert () == await server.sequencer.snapshot(store, chat.thread_id or "", None)
        assert [("run_search_animation", {"state": "start"})] == (await chat.say("again")).calls

    async def test_a_body_that_fails_after_its_call_was_made(self, store: Store[Any]) -> None:
        """A pending call that ChatKit has made already is held back, and gone when the rest of the body fails."""

        async def body(server: Scripted, context: AgentContext[Any]) -> AsyncIterator[Any]:
            yield ThreadItemDoneEvent(
                item=ClientToolCallItem(
                    id="tc", thread_id=context.thread.id, created_at=at(1), call_id="c", name="x", arguments={}
                )
            )
            raise RuntimeError("the title task failed")

        _, chat = scripted(store, body)

        assert [] == (await chat.say("go")).calls
        assert [] == await chat.calls()

    async def test_the_run_after_the_last_answer_can_be_repeated_when_it_failed(self, store: Store[Any]) -> None:
        """A failed continuation gives its claim back: the next one runs, and no call is released again."""
        _, chat = scripted(store, asks(selection()), fails(anything()), answers_itself, says("done"))
        await chat.say("go")
        failed = await chat.answer([])

        assert 1 == len(failed.errors)
        assert ["done"] == (await chat.act("continue")).texts
        assert [("get_selected_canvas_nodes", "completed")] == await chat.calls()

    async def test_the_body_is_called_by_position(self, store: Store[Any]) -> None:
        """Bodies name their parameters as they like, and may be called by keyword with those names."""
        sequencer = ClientToolSequencer(TOOLS)
        given: list[Any] = []

        class Server(ChatKitServer[Any]):
            @sequencer.sequenced
            async def respond(  # pyright: ignore[reportIncompatibleMethodOverride]  the names are the test
                self, a_thread: Any, item: Any, ctx: Any
            ) -> AsyncIterator[Any]:
                given.append((a_thread.id, item, ctx))
                return
                yield

        server = Server(store)
        thread = await saved_thread(store)

        async for _ in server.respond(a_thread=thread, item=None, ctx="me"):
            raise AssertionError

        assert [("thr_1", None, "me")] == given

    async def test_a_body_may_be_a_plain_function(self, store: Store[Any]) -> None:
        """A `respond` that returns an async iterator is sequenced like one that is a generator."""
        sequencer = ClientToolSequencer(TOOLS)

        class Server(ChatKitServer[Any]):
            @sequencer.sequenced
            def respond(self, thread: Any, input_user_message: Any, context: Any) -> AsyncIterator[Any]:
                sequencer.enqueue(AgentContext(thread=thread, store=self.store, request_context=context), anything())
                return self.nothing()

            async def nothing(self) -> AsyncIterator[Any]:
                return
                yield

        chat = Conversation(Server(store))

        assert [("anything", {})] == (await chat.say("go")).calls

    async def test_an_action_that_calls_respond_is_one_run(self, store: Store[Any]) -> None:
        """Nested use is part of the outer run: no deadlock, one queue, one pending call at the end."""

        async def nested(server: Scripted, context: AgentContext[Any]) -> AsyncIterator[Any]:
            server.sequencer.enqueue(context, anything(n=1))
            async for event in server.respond(context.thread, None, context.request_context):
                yield event
            server.sequencer.enqueue(context, anything(n=3))

        _, chat = scripted(store, says("hi"), nested, asks(anything(n=2), says="inner"), says("done"))
        await chat.say("go")

        reply = await asyncio.wait_for(chat.act("press"), 5)
        seen = reply.calls + (await chat.answer()).calls + (await chat.answer()).calls

        assert ["inner"] == reply.texts
        assert [1, 2, 3] == [arguments["n"] for _, arguments in seen]

    async def test_two_requests_that_share_a_thread_object_are_two_runs(self) -> None:
        """A store with live references hands both the same object; what one enqueues is not the other's."""
        store = LiveStore()
        started, go_on = asyncio.Event(), asyncio.Event()

        async def slow(server: Scripted, context: AgentContext[Any]) -> AsyncIterator[Any]:
            yield message("working", context.thread, "working")
            started.set()
            await go_on.wait()
            server.sequencer.enqueue(context, anything(n=2))

        server, chat = scripted(store, says("hi"), slow, asks(anything(n=1)))
        await chat.say("hello")
        other = Conversation(server, thread_id=chat.thread_id)
        first = asyncio.create_task(chat.act("slow"))
        await started.wait()

        second = await other.act("quick")
        go_on.set()

        assert [1] == [arguments["n"] for _, arguments in second.calls]
        assert [] == (await first).calls
        assert [2] == [arguments["n"] for _, arguments in (await chat.answer()).calls]

    async def test_an_optional_parameter(self, store: Store[Any]) -> None:
        """A `respond` with an optional parameter of its own is still a `respond`, and its context the context."""
        sequencer = ClientToolSequencer(TOOLS)
        given: list[Any] = []

        class Server(ChatKitServer[Any]):
            @sequencer.sequenced
            async def respond(
                self, thread: Any, input_user_message: Any, context: Any, verbose: bool = False
            ) -> AsyncIterator[Any]:
                given.append((context, verbose))
                return
                yield

        async for _ in Server(store).respond(await saved_thread(store), None, "me"):
            raise AssertionError

        assert [("me", False)] == given

    async def test_what_a_caller_leaves_out(self, store: Store[Any]) -> None:
        """An action may call a sequenced `respond` without what that has defaults for, or with what is its own."""
        sequencer = ClientToolSequencer(TOOLS)
        given: list[Any] = []

        class Server(ChatKitServer[Any]):
            @sequencer.sequenced
            async def respond(
                self, thread: Any, input_user_message: Any = None, context: Any = "nobody", *, verbose: bool = False
            ) -> AsyncIterator[Any]:
                """Answer."""
                given.append((context, verbose))
                return
                yield

        async for _ in Server(store).respond(await saved_thread(store), verbose=True):
            raise AssertionError

        assert [("nobody", True)] == given
        assert ("respond", "Answer.") == (Server.respond.__name__, Server.respond.__doc__)

    async def test_the_store_is_asked_in_the_name_of_the_user(self, store: Store[Any]) -> None:
        """Whatever is done for a request is done with its context: a store that keeps users apart goes by that."""
        watched = WatchedStore(store)
        server, _ = scripted(watched, asks(selection(), anything()), asks(selection()), says("hi"))
        chat = Conversation(server, context="ann")

        await chat.say("go")
        await chat.act("more")
        for _ in range(3):
            await chat.answer([])
        await server.sequencer.snapshot(watched, chat.thread_id or "", "ann")
        await server.sequencer.cancel(watched, chat.thread_id or "", "ann")

        assert 3 == server.runs
        assert {"ann"} == watched.contexts

    async def test_a_body_that_is_iterable(self, store: Store[Any]) -> None:
        """A `respond` may return what can be iterated over, as for plain ChatKit."""

        class Events:
            def __aiter__(self) -> AsyncIterator[Any]:
                return self.events()

            async def events(self) -> AsyncIterator[Any]:
                return
                yield

        def respond(self: Any, thread: Any, item: Any, context: Any) -> Any:
            return Events()

        server, _ = scripted(store)
        sequenced = server.sequencer.sequenced(respond)

        assert [] == [event async for event in sequenced(server, await saved_thread(store), None, None)]

    async def test_closing_the_events_closes_the_body(self, store: Store[Any]) -> None:
        """What a body does at its end is done when its events are closed early."""
        closed = []

        async def body(server: Scripted, context: AgentContext[Any]) -> AsyncIterator[Any]:
            try:
                yield message("one", context.thread, "one")
            finally:
                closed.append(True)

        server, _ = scripted(store)
        stream: Any = server.sequencer.sequenced(Closing.respond)(
            Closing(store, body), await saved_thread(store), None, None
        )
        await anext(stream)

        await stream.aclose()

        assert [True] == closed

    async def test_the_bodys_own_error_is_the_one_that_is_shown(self, caplog: pytest.LogCaptureFixture) -> None:
        """When the store is away as well, the user still reads what the body had to say, and the log has both."""
        store = WatchedStore(PlainStore())

        async def body(server: Scripted, context: AgentContext[Any]) -> AsyncIterator[Any]:
            async def away(name: str, args: tuple[Any, ...]) -> None:
                raise ConnectionError

            store.before = away
            raise CustomStreamError("Your quota is used up.")
            yield

        _, chat = scripted(store, body)

        reply = await chat.say("go")

        assert ["Your quota is used up."] == [error["message"] for error in reply.errors]
        said = f"thread {chat.thread_id}: what a failed run had claimed is not given back (ConnectionError)"
        assert [said] == [record.getMessage() for record in caplog.records if record.name == "chatkit_clienttools"]

    async def test_chatkits_own_save_does_not_bring_a_cancelled_plan_back(self, store: Store[Any]) -> None:
        """A run that cancels the plan and changes the thread has the thread saved as it is then."""

        async def body(server: Scripted, context: AgentContext[Any]) -> AsyncIterator[Any]:
            await server.sequencer.cancel(server.store, context.thread.id, None)
            context.thread.title = "stopped"
            yield message("ok", context.thread, "ok")
            yield message("ok2", context.thread, "ok2")

        server, chat = scripted(store, asks(anything(n=1), anything(n=2)), body)
        await chat.say("go")

        assert [] == (await chat.act("stop")).calls
        assert () == await server.sequencer.snapshot(store, chat.thread_id or "", None)

    async def test_a_slow_run_that_changes_the_thread_keeps_the_plan_of_a_quick_one(self, store: Store[Any]) -> None:
        """What ChatKit saves at the end of a run has the plan that another one has written meanwhile."""
        await self.slow_and_quick(store, at_the_end=True)

    @pytest.mark.parametrize("make", [PlainStore, LiveStore])
    async def test_with_a_validating_store_it_may_save_at_any_time(self, make: Any) -> None:
        """What ChatKit saves in the middle of a run is an older copy: a ValidatingStore keeps the newer plan."""
        await self.slow_and_quick(ValidatingStore(make()), at_the_end=False)

    async def slow_and_quick(self, store: Store[Any], *, at_the_end: bool) -> None:
        started, go_on = asyncio.Event(), asyncio.Event()

        async def slow(server: Scripted, context: AgentContext[Any]) -> AsyncIterator[Any]:
            started.set()
            await go_on.wait()
            context.thread.title = "late"
            if not at_the_end:
                yield ProgressUpdateEvent(text="done")

        server, chat = scripted(store, says("hi"), slow, asks(anything(n=1), anything(n=2)), says("done"))
        await chat.say("hello")
        first = asyncio.create_task(chat.act("slow"))
        await started.wait()
        other = Conversation(server, thread_id=chat.thread_id)
        await other.act("quick")
        go_on.set()
        await first

        assert [("anything", {"n": 2})] == (await chat.answer()).calls

    async def test_what_a_slow_run_adds_is_not_behind_the_call_of_a_quick_one(self, store: Store[Any]) -> None:
        """A call that another run has released meanwhile is the newest item again when a slow run has ended."""
        started, go_on = asyncio.Event(), asyncio.Event()

        async def slow(server: Scripted, context: AgentContext[Any]) -> AsyncIterator[Any]:
            started.set()
            await go_on.wait()
            yield message("late", context.thread, "late")

        server, chat = scripted(store, says("hi"), slow, asks(selection()), says("done"))
        await chat.say("hello")
        first = asyncio.create_task(chat.act("slow"))
        await started.wait()
        await Conversation(server, thread_id=chat.thread_id).act("quick")
        go_on.set()
        await first

        assert ["done"] == (await chat.answer([])).texts

    async def test_a_store_that_saves_what_has_changed(self) -> None:
        """A store that compares what it has with what it gets, as an ORM does, sees a plan that has changed."""

        class Comparing(PlainStore):
            async def save_thread(self, thread: ThreadMetadata, context: Any) -> None:
                known = self.threads.get(thread.id)
                if known is None or known.metadata != thread.metadata or known.title != thread.title:
                    await super().save_thread(thread, context)

        _, chat = scripted(Comparing(), asks(anything(n=1), anything(n=2)), says("done"))
        await chat.say("go")

        assert [("anything", {"n": 2})] == (await chat.answer()).calls
        assert ["done"] == (await chat.answer()).texts

    @pytest.mark.parametrize("guard", [lambda store: store, ValidatingStore], ids=["bare", "validated"])
    async def test_a_store_that_returns_none(self, guard: Any) -> None:
        """A store that returns None for what is not there loses no call."""

        class Nothing(PlainStore):
            async def load_item(self, thread_id: str, item_id: str, context: Any) -> Any:
                return self.items[thread_id].get(item_id)

            async def load_thread(self, thread_id: str, context: Any) -> Any:
                return self._out(self.threads[thread_id]) if thread_id in self.threads else None

        _, chat = scripted(guard(Nothing()), asks(anything(n=1)), says("pressed"), says("done"))
        await chat.say("go")
        await chat.act("press")

        assert ["done"] == (await chat.answer()).texts

    async def test_two_stores_with_equal_ids_do_not_block_each_other(self) -> None:
        """One sequencer over a store for each tenant: a run of one holds up nobody of the other."""

        class Counting(PlainStore):
            count = 0

            def generate_thread_id(self, context: Any) -> str:
                return "thr_1"

            def generate_item_id(self, item_type: Any, thread: Any, context: Any) -> str:
                self.count += 1
                return f"{item_type}_{self.count}"

        sequencer = ClientToolSequencer(TOOLS)
        chats = [Conversation(Scripted(Counting(), sequencer, asks(anything(n=n)))) for n in (1, 2)]
        frozen = chats[0].stream(chats[0].say_request("go"))
        while (await anext(frozen)).get("item", {}).get("type") != "client_tool_call":
            pass

        assert [("anything", {"n": 2})] == (await chats[1].say("go")).calls

    async def test_a_repeat_that_comes_after_the_model_has_answered(self, store: Store[Any]) -> None:
        """An answer that ChatKit accepted twice, and whose second run begins when the first has ended, runs nothing."""
        server, chat = scripted(store, asks(selection()), says("done"), says("twice"))
        await chat.say("go")
        await chat.answer([])
        thread = await store.load_thread(chat.thread_id or "", None)

        assert [] == [event async for event in server.respond(thread, None, None)]
        await chat.touch(hidden(chat, 1))
        assert 1 == len([event async for event in server.respond(thread, None, None)])

    async def test_an_old_id_is_not_adopted(self, store: Store[Any]) -> None:
        """An item id that ChatKit chose and that the thread has had long ago is not used again."""

        @function_tool
        async def select(ctx: Ctx) -> str:
            """Ask for the selection."""
            ctx.context.client_tool_call = ClientToolCall(name="get_selected_canvas_nodes", arguments={})
            return "asked"

        call = function_call("select", {}, call_id="call_0", item_id="fc_0")
        server = SequencedServer(store, [[call], speaks("1"), speaks("2"), [call], speaks("3"), speaks("4")], [select])
        chat = Conversation(server)
        await chat.say("go")
        await chat.answer(["a"])
        for n in range(25):
            await chat.touch(hidden(chat, n))

        await chat.say("again")
        await chat.answer(["b"])

        assert [["a"], ["b"]] == [item.output for item in await chat.items() if item.type == "client_tool_call"]

    async def test_a_stale_thread_object_does_no_harm(self, store: Store[Any]) -> None:
        """The thread that `respond` gets may be older than the plan: it is read again, and a rename is kept."""
        server, chat = scripted(store, asks(anything(n=1), anything(n=2)), says("done"))
        stale = await saved_thread(store)
        chat.thread_id = stale.id
        stale = stale.model_copy(deep=True)
        await chat.say("go")
        await chat.rename("Search")
        items = await chat.items()
        await store.save_item(stale.id, items[-1].model_copy(update={"status": "completed"}), None)

        events = [event async for event in server.respond(stale, None, None)]

        assert [{"n": 2}] == [event.item.arguments for event in events]
        assert "Search" == (await store.load_thread(stale.id, None)).title

    async def test_a_thread_without_items(self, store: Store[Any]) -> None:
        """A run in a thread that has no item yet, of a server that is driven by hand, releases its call as well."""
        server, _ = scripted(store, asks(anything(n=1)))

        events = [event async for event in server.respond(await saved_thread(store), None, None)]

        assert [{"n": 1}] == [event.item.arguments for event in events]

    @pytest.mark.fails
    @pytest.mark.parametrize("how", ["cancelled", "failed"])
    async def test_a_run_that_ends_early_takes_no_more_calls(self, how: str, caplog: pytest.LogCaptureFixture) -> None:
        """What its body has started may go on for a while, as a tool of the SDK does; that is nobody's mistake."""
        caplog.set_level("INFO", "chatkit_clienttools")
        stuck, over = asyncio.Event(), asyncio.Event()
        tasks: list[asyncio.Task[None]] = []

        async def body(server: Scripted, context: AgentContext[Any]) -> AsyncIterator[Any]:
            async def late() -> None:
                await over.wait()
                server.sequencer.enqueue(context, anything())

            tasks.append(asyncio.create_task(late()))
            stuck.set()
            if how == "failed":
                raise RuntimeError
            await asyncio.Event().wait()
            yield

        _, chat = scripted(PlainStore(), body)
        run = asyncio.create_task(chat.say("go"))
        await stuck.wait()
        if how == "cancelled":
            run.cancel()
        await asyncio.gather(run, return_exceptions=True)
        over.set()

        with pytest.raises(NotSequencedError, match="Its run was cut off before, by Stop or a lost"):
            await tasks[0]
        assert ["INFO"] == [record.levelname for record in caplog.records if "not queued" in record.message]

    async def test_a_changed_thread_is_saved_with_its_plan(self, store: Store[Any]) -> None:
        """What ChatKit saves of a thread that the body has changed does not lose the plan."""

        async def body(server: Scripted, context: AgentContext[Any]) -> AsyncIterator[Any]:
            context.thread.title = "A title"
            server.sequencer.enqueue(context, anything(n=1), anything(n=2))
            return
            yield

        _, chat = scripted(store, body, says("done"))

        reply = await chat.say("go")

        assert "thread.updated" in reply.types
        assert [("anything", {"n": 2})] == (await chat.answer()).calls

    async def test_the_browser_never_sees_the_plan(self, store: Store[Any]) -> None:
        """The plan is in the thread's metadata or under its own key, and in no event and no response."""
        _, chat = scripted(store, asks(anything(note="s3cret")), says("done"))
        await chat.say("go")
        await chat.rename("x")

        shown = await chat.server.process(chat._request("threads.get_by_id"), None)

        assert "s3cret" not in getattr(shown, "json", b"").decode().replace('"arguments":{"note":"s3cret"}', "")
        assert METADATA_KEY not in getattr(shown, "json", b"").decode()


class TestOpenCalls:
    async def test_an_action_leaves_them_and_appends(self, store: Store[Any]) -> None:
        """Calls that an action enqueues while a plan is unfinished go to its end; the pending one stays the newest."""
        server, chat = scripted(
            store, asks(anything(n=1), anything(n=2)), asks(anything(n=3), says="pressed"), says("done")
        )
        await chat.say("go")

        pressed = await chat.act("press")
        seen = (await chat.answer()).calls + (await chat.answer()).calls + (await chat.answer()).calls

        assert ([], ["pressed"]) == (pressed.calls, pressed.texts)
        assert [2, 3] == [arguments["n"] for _, arguments in seen]
        assert 3 == server.runs

    async def test_an_action_with_nothing_open_costs_no_write(self) -> None:
        """An action that enqueues nothing in a thread without a plan reads before and after it, and writes nothing."""
        store = WatchedStore(PlainStore())
        _, chat = scripted(store, says("hi"), says("pressed"))
        await chat.say("go")
        store.counts.clear()

        await chat.act("press")

        assert {"load_thread": 3, "load_thread_items": 2, "add_thread_item": 1} == dict(store.counts)

    async def test_keep_leaves_them_open(self, store: Store[Any]) -> None:
        """With "keep" a message is answered while the calls stay; the pending one can be answered, then the rest."""
        server, chat = scripted(
            store,
            asks(selection(), anything(n=2)),
            asks(anything(n=3), says="meanwhile"),
            says("done"),
            on_user_message="keep",
        )
        first = (await chat.say("go")).call_items

        reply = await chat.say("and?")
        newest = (await chat.items())[-1].model_copy()
        seen = (await chat.answer([])).calls + (await chat.answer()).calls
        last = await chat.answer()

        assert (["meanwhile"], [], []) == (reply.texts, reply.removed, reply.errors)
        assert (first[0]["id"], "pending") == (newest.id, newest.status)
        assert len(reply.call_items) == CHATKIT_DROPS_PENDING_ON_MESSAGE
        assert [2, 3] == [arguments["n"] for _, arguments in seen]
        assert ["done"] == last.texts
        assert 3 == server.runs

    @pytest.mark.parametrize("policy", ["cancel", "keep"])
    async def test_a_retry_starts_the_turn_over(self, store: Store[Any], policy: Any) -> None:
        """After a retry of the message nothing of the old plan is left, not even required calls."""
        _, chat = scripted(
            store,
            asks(animation(state="start"), animation(state="stop")),
            asks(anything(n=1)),
            says("done"),
            on_user_message=policy,
        )
        await chat.say("go")
        await chat.answer()
        said = (await chat.items())[0]

        reply = await chat.retry(said.id)

        assert [("anything", {"n": 1})] == reply.calls
        assert [("anything", "pending")] == await chat.calls()
        assert ["done"] == (await chat.answer()).texts

    @pytest.mark.parametrize("policy", ["cancel", "keep"])
    async def test_a_retry_of_an_earlier_message_drops_the_later_plan(self, store: Store[Any], policy: Any) -> None:
        """When the message that a plan was made under is deleted by a retry, the plan goes with it."""
        server, chat = scripted(
            store, says("hi"), asks(animation(state="start")), says("hi again"), on_user_message=policy
        )
        await chat.say("hello")
        await chat.say("go")
        first = (await chat.items())[0]

        reply = await chat.retry(first.id)

        assert (["hi again"], []) == (reply.texts, reply.calls)
        assert () == await server.sequencer.snapshot(store, chat.thread_id or "", None)

    async def test_required_calls_wait_for_the_end_of_the_new_answer(self, store: Store[Any]) -> None:
        """Of a cancelled plan the required calls are released after the new run's body, before its own calls."""
        _, chat = scripted(
            store, asks(profiles(agents=[]), animation(state="stop")), asks(anything(n=1), says="ok"), says("done")
        )
        await chat.say("go")

        reply = await chat.say("never mind")

        assert [("run_search_animation", {"state": "stop"})] == reply.calls
        assert len(reply.removed) == (not CHATKIT_DROPS_PENDING_ON_MESSAGE)
        assert [("anything", {"n": 1})] == (await chat.answer()).calls
        assert ["done"] == (await chat.answer()).texts

    async def test_a_failed_new_run_keeps_required_calls(self, store: Store[Any]) -> None:
        """Required calls survive a failing run and go out with the next one."""
        _, chat = scripted(store, asks(profiles(agents=[]), animation(state="stop")), fails(), says("ok"))
        await chat.say("go")
        await chat.say("never mind")

        reply = await chat.say("hello?")

        assert [("run_search_animation", {"state": "stop"})] == reply.calls

    async def test_a_pending_call_of_nobody_is_cancelled_too(self) -> None:
        """A pending call that no plan knows of would be stuck behind a new message: it is removed."""
        _, chat = scripted(PlainStore(), says("hi"), says("ok"))
        await chat.say("go")
        await chat.touch(foreign(chat))

        await chat.say("never mind")

        assert [] == await chat.calls()

    async def test_a_pending_call_of_nobody_comes_first(self, store: Store[Any]) -> None:
        """An action's calls wait behind a pending call that no plan knows of, and the model gets that one's answer."""
        _, chat = scripted(store, says("hi"), asks(animation(state="start"), says="pressed"), says("done"))
        await chat.say("go")
        await chat.touch(foreign(chat))

        pressed = await chat.act("press")
        second, last = await chat.answer("theirs"), await chat.answer()

        assert [] == pressed.calls
        assert [("run_search_animation", {"state": "start"})] == second.calls
        assert ["done"] == last.texts

    async def test_a_pending_call_of_nobody_stays_the_newest(self, store: Store[Any]) -> None:
        """What a kept or an action's run adds does not end up behind a pending call that no plan knows of."""
        _, chat = scripted(store, says("hi"), says("pressed"), says("done"))
        await chat.say("go")
        await chat.touch(foreign(chat))

        await chat.act("press")

        assert ["done"] == (await chat.answer("theirs")).texts

    async def test_an_answer_saved_while_the_call_is_moved_is_not_undone(self) -> None:
        """When the answer of a call is saved in the moment it is put behind new items, it stays answered."""
        store = WatchedStore(PlainStore())
        server, chat = scripted(store, asks(anything(n=1)), says("pressed"))
        item = (await chat.say("go")).call_items[0]
        answered = (await store.load_item(chat.thread_id or "", item["id"], None)).model_copy(
            update={"status": "completed"}
        )

        async def answer_now(name: str, args: tuple[Any, ...]) -> None:
            if name == "load_item":
                await store.inner.save_item(chat.thread_id or "", answered, None)

        store.before = answer_now
        await chat.act("press")

        assert [("anything", "completed")] == await chat.calls()
        assert 2 == server.runs


def foreign(chat: Conversation) -> ClientToolCallItem:
    return ClientToolCallItem(
        id="tc_foreign", thread_id=chat.thread_id or "", created_at=at(59), call_id="c", name="theirs", arguments={}
    )


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

    async def test_cancel_of_nothing(self, store: Store[Any]) -> None:
        """Cancelling a thread without a plan returns nothing and writes nothing."""
        server, chat = scripted(store, says("hi"))
        await chat.say("hello")

        assert () == await server.sequencer.cancel(store, chat.thread_id or "", None)

    @pytest.mark.parametrize("damage", [{"version": 99, "revision": 3}, "nonsense", {"version": 1, "calls": [1]}])
    async def test_a_damaged_plan_is_an_error_that_names_the_thread(self, damage: Any) -> None:
        """The request gets one error event with the thread and the cure; `cancel` gets the thread going again."""
        store = PlainStore()
        server, chat = scripted(store, asks(anything(n=1)), says("fine"))
        await chat.say("go")
        thread = await store.load_thread(chat.thread_id or "", None)
        thread.metadata[METADATA_KEY] = damage
        await store.save_thread(thread, None)

        reply = await chat.answer()
        assert 1 == len(reply.errors)
        assert str(chat.thread_id) in reply.errors[0]["message"]
        assert "sequencer.cancel" in reply.errors[0]["message"]
        assert damage == (await store.load_thread(thread.id, None)).metadata[METADATA_KEY]

        assert () == await server.sequencer.cancel(store, thread.id, None)
        assert ["fine"] == (await chat.say("hello")).texts

    async def test_a_damaged_plan_under_its_own_key(self) -> None:
        """So it is in a store that keeps plans of its own."""
        store = PlansStore()
        server, chat = scripted(store, asks(anything(n=1)), says("fine"))
        await chat.say("go")
        thread_id = chat.thread_id or ""
        store.plans[thread_id] = store.plans[thread_id]._replace(document="{")

        assert "it is not JSON" in (await chat.say("hello")).errors[0]["message"]
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


def hidden(chat: Conversation, n: int) -> HiddenContextItem:
    return HiddenContextItem(id=f"h_{n}", thread_id=chat.thread_id or "", created_at=at(30), content="x")
