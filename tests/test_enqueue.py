"""What a run may ask for, in which order it is released, and what is refused."""

from __future__ import annotations

import asyncio
import contextvars
import re
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from agents import Agent, RunContextWrapper, Runner, function_tool
from agents.testing import ScriptedModel, function_call
from agents.tool_context import ToolContext
from chatkit.agents import AgentContext, ClientToolCall, stream_agent_response
from chatkit.types import (
    ClientToolCallItem,
    ThreadItemDoneEvent,
    ThreadMetadata,
)

from chatkit_clienttools import (
    ClientTool,
    ClientToolSequencer,
    LifecycleEvent,
    SequencedAgentContext,
)
from chatkit_clienttools.errors import (
    InvalidArgumentsError,
    NotSequencedError,
    QueueFullError,
    UsageError,
)
from tests.helpers.conversation import Conversation, at
from tests.helpers.merak import TOOLS, SequencedServer, animation, anything, calls, selection, speaks
from tests.helpers.scripted import Scripted, asks, says, scripted
from tests.helpers.stores import LiveStore, PlainStore, PlansStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from chatkit.store import Store

Ctx = RunContextWrapper[AgentContext[Any]]


@pytest.fixture(params=[PlainStore, PlansStore, LiveStore], ids=["plain", "plans", "live"])
def store(request: pytest.FixtureRequest) -> Store[Any]:
    made: Store[Any] = request.param()
    return made


def deeply_nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


async def saved_thread(store: Store[Any]) -> ThreadMetadata:
    thread = ThreadMetadata(id="thr_1", created_at=at(0))
    await store.save_thread(thread, None)
    return await store.load_thread("thr_1", None)


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
        """Of the calls that one call of a server tool enqueues, the first that wants an answer has its call id."""

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

        assert ["call_a", "call_b"] == [
            call_id for call_id in call_ids if not re.fullmatch("call_[0-9a-f]{32}", call_id)
        ]
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

    async def test_slots_of_several_contexts(self, store: Store[Any]) -> None:
        """A call that is put into the slot of one context, after others were used, is released as well."""

        async def body(server: Scripted, given: AgentContext[Any]) -> AsyncIterator[Any]:
            first, second = [
                AgentContext(thread=given.thread, store=given.store, request_context=None) for _ in range(2)
            ]
            server.sequencer.enqueue(first, anything(n=1))
            server.sequencer.enqueue(second, anything(n=2))
            first.client_tool_call, second.client_tool_call = anything(n=3), anything(n=4)
            return
            yield

        assert [1, 2, 3, 4] == await self.seen(store, body)

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
            slots.append(context.client_tool_call)
            async for event in self.streamed(context):
                yield event

        slots: list[Any] = []
        assert [] == await self.seen(store, body)
        assert [None] == slots


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
        assert "x: not JSON (Unable to serialize unknown type: <class 'object'>)" in str(error)
        assert error.for_the_log.endswith("wrong arguments: x (not JSON)")

    @pytest.mark.parametrize("declared", [True, False])
    async def test_an_iterator(self, declared: bool) -> None:
        """What can be read once only is read once: the page gets all of it."""
        people = (name for name in ["Ada", "Grace"])
        call = anything(people=people) if declared else ClientToolCall(name="anything", arguments={"people": people})
        _, chat = scripted(PlainStore(), asks(call))

        assert [("anything", {"people": ["Ada", "Grace"]})] == (await chat.say("go")).calls

    async def test_an_iterator_with_something_that_is_not_json(self) -> None:
        """An iterator is read when it fails, so the error names the arguments as a whole, and what was in it."""
        call = ClientToolCall(name="anything", arguments={"x": iter([object()])})

        error, _ = await self.refusal(call)

        assert str(error).endswith("arguments: not JSON (Unable to serialize unknown type: <class 'object'>)")

    @pytest.mark.parametrize(("value", "name"), [(float("nan"), "NaN"), (float("-inf"), "-Infinity")])
    async def test_not_a_number(self, value: float, name: str) -> None:
        """NaN and infinity are not JSON, and the error names them."""
        error, _ = await self.refusal(ClientToolCall(name="anything", arguments={"x": [value]}))

        assert isinstance(error, InvalidArgumentsError)
        assert str(error).endswith(f"x: not JSON ({name} is not JSON)")

    async def test_too_many(self) -> None:
        """More calls than `max_queued` raise, with nothing queued; the error says how many would wait."""
        error, chat = await self.refusal(*[anything()] * 4, max_queued=3)

        said = (
            f"Thread {chat.thread_id} would have 4 client tool calls waiting; at most 3 are allowed "
            "(ClientToolSequencer(max_queued=...))"
        )
        assert (QueueFullError, said) == (type(error), str(error))

    @pytest.mark.parametrize(("options", "limit"), [({}, 64), ({"max_queued": 1}, 1)])
    async def test_as_many_as_allowed(self, options: Any, limit: int) -> None:
        """Up to `max_queued` calls are queued, 64 by default, and one more is refused."""
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

    async def test_outside_a_request(self, caplog: pytest.LogCaptureFixture) -> None:
        """`enqueue` outside a request to a ClientToolServer says what is missing, in the log too."""
        store = PlainStore()
        context = AgentContext(thread=await saved_thread(store), store=store, request_context=None)

        with pytest.raises(NotSequencedError, match="Derive the server from ClientToolServer"):
            ClientToolSequencer().enqueue(context, anything())
        assert ["ERROR"] == [record.levelname for record in caplog.records]

    async def test_assignment_outside_a_request(self) -> None:
        """An assignment to the slot of a SequencedAgentContext needs a request too; clearing the slot does not."""
        store = PlainStore()
        context = SequencedAgentContext(thread=await saved_thread(store), store=store, request_context=None)
        context.client_tool_call = None

        with pytest.raises(NotSequencedError, match="Derive the server from ClientToolServer"):
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

        said = (
            "Thread other: a client tool call cannot be queued. The run that is open here is for thread "
            f"{chat.thread_id}: give the AgentContext the `thread` that `respond` was called with."
        )
        assert [said] == [str(each) for each in error]

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

        for wrong in (anything(), print, RunContextWrapper(context=None)):
            with pytest.raises(UsageError):
                sequencer.enqueue(wrong)  # type: ignore[arg-type, type-var]  # pyright: ignore[reportArgumentType]

        assert ["ERROR"] * 3 == [record.levelname for record in caplog.records]
        assert "`ctx` comes first" in caplog.messages[0]
        assert "`ctx` comes first, as in enqueue(ctx, ...), ask(ctx, ...) and step(ctx, ...)" in caplog.messages[1]
        assert "run the agent with `context=AgentContext(" in caplog.messages[2]

    async def test_an_unknown_tool_is_said_once(self, caplog: pytest.LogCaptureFixture) -> None:
        """A call by a name that the sequencer was not given is released, and warned about once."""
        _, chat = scripted(PlainStore(), asks(*[ClientToolCall(name="ghost", arguments={})] * 2), says("done"))

        with caplog.at_level("WARNING", "chatkit_clienttools"):
            await chat.say("go")
            await chat.answer()

        assert 1 == sum("'ghost' is not in the list" in message for message in caplog.messages)

    @pytest.mark.parametrize(
        ("answer", "reason"),
        [
            ({"error": "s3cret"}, "the browser reported an error"),
            ("s3cret", "the answer does not fit the tool's result type: value (list_type)"),
            (["a", 7], "the answer does not fit the tool's result type: 1 (string_type)"),
        ],
    )
    async def test_a_failure_is_a_warning_with_its_reason(
        self, answer: Any, reason: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A call that fails is a warning that says which field does not fit; observers get the reason too."""
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
        for wrong in ("none", {"a": str}, [str], 3):
            with pytest.raises(UsageError, match=r"^The result of client tool 'x' is a type that pydantic can check"):
                ClientTool("x", result=wrong)
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

    def test_an_asynchronous_observer(self) -> None:
        """An observer that would have to be awaited is refused: it would see nothing."""

        async def observer(event: LifecycleEvent) -> None:
            raise AssertionError

        with pytest.raises(UsageError, match="nobody would await it"):
            ClientToolSequencer(observers=[observer])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]

    @pytest.mark.parametrize("option", ["observers", "tool_observers"])
    def test_an_object_whose_call_is_asynchronous(self, option: str) -> None:
        """An observer with an async `__call__` is refused like an async function, and the error names the option."""

        class Counts:
            async def __call__(self, event: object) -> None:
                raise AssertionError

            def __repr__(self) -> str:
                return "<Counts>"

        wrong: Any = {option: [Counts()]}
        with pytest.raises(UsageError) as raised:
            ClientToolSequencer(**wrong)

        assert f"{option}: <Counts> is async; nobody would await it: give one that is not" == str(raised.value)

    @pytest.mark.parametrize("value", ["\ud83d", deeply_nested(300)], ids=["lone surrogate", "300 levels"])
    async def test_what_chatkit_could_not_send(self, value: Any) -> None:
        """What is JSON for Python and not for ChatKit raises at the tool as well."""
        error, _ = await self.refusal(ClientToolCall(name="anything", arguments={"x": value}))

        assert isinstance(error, InvalidArgumentsError)
        with pytest.raises(InvalidArgumentsError):
            anything(x=value)

    async def test_what_could_not_be_read_in_a_page(self) -> None:
        """An argument that pydantic reads by itself, and not where it is in an item in a page, is refused."""
        most = 196
        _, chat = scripted(PlainStore(), asks(anything(x=deeply_nested(most))))
        assert 1 == len((await chat.say("go")).calls)

        error, _ = await self.refusal(anything(x=deeply_nested(most + 1)))

        assert isinstance(error, InvalidArgumentsError)

    async def test_only_open_calls_count(self, store: Store[Any]) -> None:
        """Calls that were answered do not count for the limit."""
        _, chat = scripted(store, asks(*[anything()] * 4), asks(anything(n=5)), max_queued=4)
        await chat.say("go")
        for _ in range(3):
            await chat.answer()

        assert [] == (await chat.act("more")).errors
        assert [("anything", {"n": 5})] == (await chat.answer()).calls

    async def test_a_limit_in_bytes(self) -> None:
        """Calls of exactly `max_bytes` are queued; a byte more, and the error says how much that is and what to do."""
        wanted = [anything(x="\u00e9" * 10), anything(x=1)]
        size = sum(len(call.model_dump_json().encode()) for call in wanted)
        server, asked = scripted(PlainStore(), asks(*wanted), max_bytes=size)
        await asked.say("go")

        error, chat = await self.refusal(*wanted, max_bytes=size - 1)

        assert 2 == len(await server.sequencer.snapshot(server.store, asked.thread_id or "", None))
        assert str(error) == (
            f"The client tool calls of thread {chat.thread_id} would take {size} bytes; at most {size - 1} are allowed "
            "(ClientToolSequencer(max_bytes=...)). Send an id, and let the frontend fetch what is large; let a step "
            "return an id, too."
        )
