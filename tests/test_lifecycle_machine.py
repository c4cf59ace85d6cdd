"""The machine passes what is right and finds what is planted."""

from __future__ import annotations

import asyncio
import gc
import itertools
import logging
import os
import sys
import warnings
from contextlib import asynccontextmanager
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, ClassVar
from uuid import uuid4

import pytest
from agents import Agent, RunContextWrapper, Runner, function_tool
from agents.testing import ScriptedModel, assistant_message, function_call
from chatkit.agents import AgentContext, ClientToolCall, stream_agent_response
from chatkit.server import ChatKitServer
from chatkit.types import (
    AssistantMessageItem,
    ClientToolCallItem,
    ProgressUpdateEvent,
    ThreadItemDoneEvent,
    ThreadItemReplacedEvent,
)
from hypothesis import Phase, settings

from chatkit_clienttools import ClientTool, ClientToolSequencer, SequencedAgentContext, ValidatingStore
from chatkit_clienttools._step.requests import Posted
from chatkit_clienttools.errors import UsageError
from chatkit_clienttools.server import ClientToolServer
from chatkit_clienttools.stores import MemoryStore
from chatkit_clienttools.testing import BrokenLifecycleError, HandlerError
from chatkit_clienttools.testing.machine import LifecycleMachine
from chatkit_clienttools.testing.machine._machine import fitting
from chatkit_clienttools.testing.machine._oracle import World
from tests.helpers.conversation import CHATKIT_DROPS_PENDING_ON_MESSAGE
from tests.helpers.stores import LiveStore, PlainStore, PlansStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence

    from chatkit.store import Store

EXAMPLES = int(os.environ.get("EXAMPLES", "0"))
"""How many conversations each machine plays in a long run, others each time; the suite plays the same 505."""

PHASES = (Phase.explicit, Phase.generate)
"""No shrinking: it takes minutes, and the steps of a conversation read well enough as they are."""


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """What fails is part of the game."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def case(machine: type[LifecycleMachine], examples: int = 75) -> Any:
    test = machine.TestCase
    test.settings = settings(
        test.settings,
        max_examples=EXAMPLES or examples,
        stateful_step_count=50,
        derandomize=not EXAMPLES,
        database=None,
        phases=PHASES,
    )
    # without coverage: it takes twice as long with it, and what it comes past differs
    return pytest.mark.long(pytest.mark.no_cover(test))


class MemoryLifecycle(LifecycleMachine):
    def make_store(self) -> Any:
        return MemoryStore()


class PlainLifecycle(LifecycleMachine):
    receipts = False

    async def make_store(self) -> Any:
        return PlainStore()


class KeepLifecycle(LifecycleMachine):
    on_user_message = "keep"

    def make_store(self) -> Any:
        @asynccontextmanager
        async def opened() -> AsyncIterator[Store[Any]]:
            yield PlansStore()

        return opened()


class LiveLifecycle(LifecycleMachine):
    def make_store(self) -> Any:
        return ValidatingStore(LiveStore())


class AbortLifecycle(LifecycleMachine):
    on_failure = "abort"

    def make_store(self) -> Any:
        return MemoryStore()


class KeepAbortLifecycle(AbortLifecycle):
    on_user_message = "keep"


TestAbort = case(AbortLifecycle)
TestKeepAbort = case(KeepAbortLifecycle)
TestMemory = case(MemoryLifecycle)
TestPlain = case(PlainLifecycle)
TestKeep = case(KeepLifecycle, examples=25)  # with so many states that are possible it takes three times as long
TestLive = case(LiveLifecycle)

shows = ClientTool("shows", result=None)
gets = ClientTool("gets")

ASKS = {"hello": (), "show": ("shows", "shows", "shows"), "show and get": ("shows", "gets")}


class Own(LifecycleMachine):
    """Somebody's own server, with or without a bug."""

    messages = ASKS
    actions: ClassVar[Mapping[str, Sequence[str]]] = {}
    tools: ClassVar[Sequence[ClientTool[..., Any]]] = (shows, gets)

    def model_runs(self) -> int:
        assert isinstance(self.server, Asking)
        return self.server.runs


class Asking(ChatKitServer[Any]):
    """A server that was written by hand: one item of text in each run, and calls as a subclass asks for them."""

    def __init__(self, store: Store[Any] | None = None) -> None:
        super().__init__(store or PlainStore())
        self.runs = 0

    def said(self, thread: Any) -> ThreadItemDoneEvent:
        self.runs += 1
        content: Any = [{"text": f"Run {self.runs}.", "annotations": []}]
        return ThreadItemDoneEvent(
            item=AssistantMessageItem(
                id=f"msg_{self.runs}_{thread.id}",
                thread_id=thread.id,
                created_at=datetime.now(timezone.utc),
                content=content,
            )
        )

    def call(self, name: str, thread: Any) -> ThreadItemDoneEvent:
        item_id = self.store.generate_item_id("tool_call", thread, None)
        return ThreadItemDoneEvent(
            item=ClientToolCallItem(
                id=item_id,
                thread_id=thread.id,
                created_at=datetime.now(timezone.utc),
                call_id=item_id,
                name=name,
                arguments={},
            )
        )

    @staticmethod
    def asked(message: Any) -> tuple[str, ...]:
        return ASKS[message.content[0].text] if message else ()


async def nothing(thread: Any) -> AsyncIterator[Any]:
    return
    yield


def a_server(base: Any = ClientToolServer, tools: Any = (shows, gets), **options: Any) -> Any:
    """A server that is as it should be, but for what is given."""
    sequencer = ClientToolSequencer(tools, **options)

    class Sequenced(Asking, base):  # type: ignore[misc]
        client_tools = sequencer

        async def respond(self, thread: Any, input_user_message: Any, context: Any) -> AsyncIterator[Any]:
            async for event in getattr(self, "before", nothing)(thread):
                yield event
            yield self.said(thread)
            agent_context = SequencedAgentContext(thread=thread, store=self.store, request_context=context)
            for name in self.asked(input_user_message)[: getattr(self, "last", None)]:
                agent_context.client_tool_call = ClientToolCall(name=name, arguments={})

    return Sequenced()


class OwnSafe(Own):
    """A server that a machine can cut off, with what an answer is said by a value."""

    answers: ClassVar[Mapping[str, Any]] = {"shows": None}

    def make_server(self) -> Any:
        return a_server(receipts=True, clock=self.clock)


class OwnBare(Own):
    """Without receipts, and without a clock that the machine could set: its requests are not cut off."""

    def make_server(self) -> Any:
        return a_server()


class OwnUncounted(Own):
    """Nobody knows how often the model runs."""

    def make_server(self) -> Any:
        return a_server()

    def model_runs(self) -> Any:
        return LifecycleMachine.model_runs(self)


TestOwnBare = case(OwnBare, examples=20)
TestOwnSafe = case(OwnSafe)
TestOwnUncounted = case(OwnUncounted, examples=10)


class OneSlot(Asking):
    """Plain ChatKit: three assignments, and the last one wins."""

    async def respond(self, thread: Any, input_user_message: Any, context: Any) -> AsyncIterator[Any]:
        yield self.said(thread)
        if asked := self.asked(input_user_message):
            yield self.call(asked[-1], thread)


class AllAtOnce(Asking):
    """Every call is sent as it comes."""

    async def respond(self, thread: Any, input_user_message: Any, context: Any) -> AsyncIterator[Any]:
        yield self.said(thread)
        for name in self.asked(input_user_message):
            yield self.call(name, thread)


class QueueInMemory(Asking):
    """A queue by hand: nobody empties it when the user writes."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: list[str] = []

    async def respond(self, thread: Any, input_user_message: Any, context: Any) -> AsyncIterator[Any]:
        if input_user_message or not self.queue:
            yield self.said(thread)
        self.queue += self.asked(input_user_message)
        if self.queue:
            yield self.call(self.queue.pop(0), thread)


class Forgetful(ClientToolServer[Any]):
    """The last call of a run is lost."""

    last = -1


class Rewriting(ClientToolServer[Any]):
    """A run that writes completed calls anew."""

    async def before(self, thread: Any) -> AsyncIterator[Any]:
        page = await self.store.load_thread_items(thread.id, None, 100, "asc", None)
        for item in page.data:
            if isinstance(item, ClientToolCallItem) and item.status == "completed":
                yield ThreadItemReplacedEvent(item=item.model_copy(update={"output": "rewritten"}))


class Stuttering(ClientToolServer[Any]):
    """Each call is streamed twice."""

    async def _process_streaming(self, request: Any, context: Any) -> AsyncIterator[bytes]:  # type: ignore[override]
        async for event in super()._process_streaming(request, context):
            yield event
            if b"client_tool_call" in event:
                yield event


class LossyStore(MemoryStore[Any]):
    """A store that keeps the status of a call, and not its answer."""

    async def save_item(self, thread_id: str, item: Any, context: Any) -> None:
        if isinstance(item, ClientToolCallItem):
            item = item.model_copy(update={"output": "something else"})
        await super().save_item(thread_id, item, context)


class Unforgiving(ClientToolServer[Any]):
    """An answer is an error if the newest item is no pending call, as plain ChatKit has it."""

    async def _going_on(self, request: Any, run: Any, event: Any, context: Any) -> AsyncIterator[Any]:  # type: ignore[override]
        page = await self.store.load_thread_items(request.params.thread_id, None, 1, "desc", context)
        if run.posted is Posted.ANSWER and getattr(page.data[0], "status", None) != "pending":
            raise ValueError("no pending call")
        async for each in super()._going_on(request, run, event, context):
            yield each


class SlowToTell(ClientToolServer[Any]):
    """A server that fails when it should go on."""

    def _going_on(self, request: Any, run: Any, event: Any, context: Any) -> Any:
        raise RuntimeError("away")


PLANTED = {
    "one slot": (OneSlot, "expected was"),
    "all at once": (AllAtOnce, "expected was nothing"),
    "a queue in memory": (QueueInMemory, "expected was"),
    "loses the last": (lambda: a_server(Forgetful), "the page was not given (gets|shows)"),
    "rewrites answers": (lambda: a_server(Rewriting), "has changed since"),
    "a call twice": (lambda: a_server(Stuttering, receipts=True), "the page was given a call twice: .'(gets|shows)"),
    "answers are lost": (lambda: with_store(LossyStore()), "is completed with something else"),
    "late answers are errors": (lambda: a_server(Unforgiving, receipts=True), "the chat shows an error"),
    "the model runs for answers that nobody wants": (lambda: a_server(tools=()), "the model ran"),
    "an error in the chat": (lambda: a_server(SlowToTell, receipts=True), "the chat shows an error"),
}


def with_store(store: Store[Any]) -> Any:
    server = a_server()
    server.store = store
    return server


@pytest.mark.parametrize(("make", "says"), PLANTED.values(), ids=PLANTED)
def test_planted_bugs_are_found(make: Any, says: str) -> None:
    """Whatever is left out, the machine finds it, and says what it has seen and what had happened before."""

    class Broken(Own):
        def make_server(self) -> Any:
            return make()

    test = Broken.TestCase
    test.settings = settings(
        test.settings,
        max_examples=200,
        stateful_step_count=12,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        print_blob=False,
    )

    with pytest.raises(AssertionError, match=rf"({says})[\s\S]*What had happened:\nsays "):
        test("runTest").runTest()


class Abort(MemoryLifecycle):
    on_failure = "abort"


class Narrow(KeepLifecycle):
    max_queued = 3


class TestByHand:
    """Every rule, without luck."""

    @pytest.mark.parametrize("kind", [MemoryLifecycle, LiveLifecycle])
    def test_what_users_and_networks_do(self, kind: type[LifecycleMachine]) -> None:
        """A long conversation in which everything happens once, and which ends well, wherever the plan is kept."""
        machine = kind()
        machine.user_begins("show, get, show and stop")
        machine.page_answers(fails=False)
        machine.user_renames()
        machine.user_reloads()
        machine.page_resumes()
        machine.page_answers_late_or_again(0, 2)
        machine.page_answers_late_or_again(2, 3)
        machine.user_stops_an_answer(0, fails=False)
        machine.user_retries()
        machine.connection_of_an_answer_is_lost(1, fails=True)
        machine.time_passes()
        machine.page_resumes()
        machine.user_presses("get and stop")
        machine.user_writes("get one")
        machine.user_stops_a_message("show one", 2)
        machine.connection_of_a_message_is_lost("get one", 3)
        machine.time_passes()

        machine.teardown()

        calls = [item for item in machine.play.page.items if item["type"] == "client_tool_call"]
        assert {"completed"} == {item["status"] for item in calls}

    def test_stop_takes_hold_between_any_two_operations(self) -> None:
        """Over a store that never waits as well: the later it does, the more the server has stored."""
        stored = set()
        for events, operations in itertools.product((1, 2), range(9)):
            machine = MemoryLifecycle()
            machine.user_begins("say something")
            machine.user_stops_a_message("show one", events, operations)
            machine.user_reloads()
            stored.add((machine.model_runs(), *[item["type"] for item in machine.play.page.items[2:]]))
            machine.teardown()

        # the step that ends a run begins when the answer is stored, and a step that has begun comes to its end
        message = (2, "user_message", "assistant_message")
        assert {(1, "user_message"), message[:2], (*message, "client_tool_call")} == stored

    @pytest.mark.skipif(
        CHATKIT_DROPS_PENDING_ON_MESSAGE, reason="this ChatKit deletes a pending call before we are asked"
    )
    def test_stop_takes_hold_while_a_message_cancels_what_is_open(self) -> None:
        """Cancelling is one step and is done as a whole: a late answer changes nothing, and what is required comes."""
        machine = PlainLifecycle()
        machine.user_begins("show, get, show and stop")
        machine.user_stops_a_message("show, get, show and stop", 2, 3)

        machine.page_answers(fails=False)
        machine.teardown()

        assert ["shows", "stops"] == [call.name for call in machine.play.page.calls]

    def test_without_receipts_no_answer_is_repeated_before_the_last_call(self) -> None:
        """Without receipts only the last call's answer is repeated: any other could be taken for the next call's."""
        posted = []
        for machine in (PlainLifecycle(), MemoryLifecycle()):
            machine.user_begins("show, show and stop")
            for number in range(3):
                machine.page_answers_late_or_again(number, 3)
            steps = machine.play.page.transcript.steps
            posted.append([step.what for step in steps].count("threads.add_client_tool_output"))
            machine.teardown()

        assert [1 + 1 + 3, 3 + 3 + 3] == posted

    def test_whoever_repeats_an_answer_is_shown_the_next_call(self) -> None:
        """Once in each response, under the same id, so that a page that has lost a response goes on."""
        machine = MemoryLifecycle()
        machine.user_begins("show, show and stop")
        machine.page_answers(fails=False)

        machine.page_answers_late_or_again(0, 3)
        delivered = [call.item_id for call in machine.play.page.delivered]
        machine.teardown()

        assert (2, [delivered[1]] * 4) == (len(set(delivered)), delivered[1:])

    def test_a_required_call_may_come_again_after_a_retry(self) -> None:
        """A retry removes the answer to a required call of an older message, and so what is known of it."""
        machine = MemoryLifecycle()
        machine.user_begins("show, show and stop")
        machine.user_writes("show one")
        assert "stops" == machine.play.page.delivered[-1].name
        machine.page_answers(fails=False)

        machine.user_retries()
        machine.teardown()

        assert {(True, ())} == {(world.model_knows, world.waiting) for world in machine.play.oracle.worlds}

    def test_a_failure_cancels_the_rest(self) -> None:
        """With "abort" only what is required comes after a call that failed."""
        machine = Abort()
        machine.user_begins("show, get, show and stop")

        machine.page_answers(fails=True)
        machine.teardown()

        assert ["shows", "stops"] == [call.name for call in machine.play.page.calls]

    def test_a_failure_after_a_retry_cancels_the_rest_again(self) -> None:
        """The calls of the message are asked for anew, and may fail anew."""
        machine = Abort()
        machine.user_begins("show, show and stop")
        machine.page_answers(fails=True)
        machine.user_retries()

        machine.page_answers(fails=True)
        delivered = [call.name for call in machine.play.page.delivered]
        machine.teardown()

        assert ["shows", "stops", "shows", "stops"] == delivered

    def test_a_required_call_that_was_answered_does_not_come_again(self) -> None:
        """A retry of a later message removes its answer from the thread; it has left the plan, and is not repeated."""
        machine = MemoryLifecycle()
        machine.user_begins("show, show and stop")
        machine.user_writes("show one")
        machine.page_answers(fails=False)

        machine.user_retries()
        delivered = [call.name for call in machine.play.page.delivered]
        machine.teardown()

        assert ["shows", "stops", "shows", "shows"] == delivered

    def test_a_message_may_keep_what_is_open(self) -> None:
        """With "keep" a message changes nothing for the pending call; what it asks for comes later."""
        machine = KeepLifecycle()
        machine.user_begins("show one")

        machine.user_writes("get one")
        machine.teardown()

        assert ["shows", "gets"] == [call.name for call in machine.play.page.calls]

    def test_no_more_is_asked_for_than_can_be_queued(self) -> None:
        """What the server would refuse, because too much is open, is not said until some of it is settled."""
        machine = Narrow()
        machine.user_begins("show, show and stop")
        full = (fitting(machine, machine.messages), fitting(machine, machine.actions))

        machine.page_answers(fails=False)
        room = (fitting(machine, machine.messages), fitting(machine, machine.actions))
        machine.teardown()

        assert (["say something"], []) == full
        assert (["get one", "say something", "show one"], ["show"]) == room

    def test_who_knows_too_little_cuts_nothing_off(self) -> None:
        """Each cut adds to what is possible; when that is too much to tell right from wrong, there are no more."""
        machine = MemoryLifecycle()
        machine.user_begins("say something")
        may = machine._may_cut_off

        machine.play.oracle.worlds = {World(runs=n) for n in range(200)}
        must_not = machine._may_cut_off
        machine.play.oracle.worlds = {World(runs=1)}
        machine.teardown()

        assert (True, False) == (may, must_not)

    def test_a_server_whose_runs_are_not_counted(self) -> None:
        """The rest is held against the oracle all the same."""
        machine = OwnUncounted()
        machine.user_begins("show and get")

        machine.page_answers(fails=False)
        machine.teardown()

        assert ["shows", "gets"] == [call.name for call in machine.play.page.calls]

    def test_a_second_pending_call_is_seen(self) -> None:
        """A second pending call is an error of the server, even one that was never streamed."""

        class Secretive(Asking):
            async def respond(self, thread: Any, input_user_message: Any, context: Any) -> AsyncIterator[Any]:
                await self.store.add_thread_item(thread.id, self.call("shows", thread).item, context)
                yield self.call("shows", thread)

        machine = made(make_server=lambda _: Secretive(), model_runs=lambda _: None)

        with pytest.raises(BrokenLifecycleError, match="2 calls are pending at once"):
            machine.user_begins("show")
        machine.teardown()

    def test_what_may_be_answered(self) -> None:
        """With receipts every call; without, the pending one, or the last when none is."""
        found = []
        for make in (MemoryLifecycle, PlainLifecycle):
            machine = make()
            first, second = max(machine.messages), min(machine.messages)
            assert [] == machine.play.answerable
            machine.user_begins(first)
            machine.page_answers(fails=False)
            before = machine.play.answerable
            machine.user_writes(second)
            found.append((before, machine.play.answerable))
            machine.teardown()

        assert [([0, 1], [0, 1, 2]), ([1], [2])] == found

    def test_plain_chatkit_takes_an_answer_once(self) -> None:
        """Plain ChatKit breaks off at an answer that finds nothing pending, so the machine repeats none there."""

        class Single(OneSlot):
            @staticmethod
            def asked(message: Any) -> tuple[str, ...]:
                return ("gets",) if message else ()

        machine = made(make_server=Single, messages={"get": ["gets"]})
        machine.user_begins("get")
        before = machine.play.answerable

        machine.page_answers(fails=False)
        after = machine.play.answerable
        machine.teardown()

        assert ([0], []) == (before, after)


class AgentServer(ClientToolServer[Any]):
    """A server as the guide of the Agents SDK has it: its model calls a tool, and speaks when it has heard of it."""

    sequencer: ClientToolSequencer

    async def run(self, thread: Any, message: Any, context: Any) -> AsyncIterator[Any]:
        sequencer = self.sequencer

        @function_tool
        async def ask(ctx: RunContextWrapper[AgentContext[Any]]) -> str:
            sequencer.enqueue(ctx, *(sequencer.tool(name)() for name in Asking.asked(message)))
            await ctx.context.stream(ProgressUpdateEvent(text="Asked"))
            return "Asked."

        said = [assistant_message("There.", item_id=self.store.generate_item_id("message", thread, context))]
        model = ScriptedModel([[function_call("ask", {}, call_id=f"call_{uuid4()}", item_id="fc_1")], said])
        agent_context = AgentContext(thread=thread, store=self.store, request_context=context)
        agent = Agent(name="Merak", model=model, tools=[ask])
        async for event in stream_agent_response(
            agent_context, Runner.run_streamed(agent, "Go", context=agent_context)
        ):
            yield event


class AgentLifecycle(Own):
    def model_runs(self) -> Any:
        return None

    def make_server(self) -> Any:
        sequencer = ClientToolSequencer([shows, gets], receipts=True, clock=self.clock)

        class Server(AgentServer):
            client_tools = sequencer

            async def respond(self, thread: Any, input_user_message: Any, context: Any) -> AsyncIterator[Any]:
                async for event in self.run(thread, input_user_message, context):
                    yield event

        server = Server(MemoryStore())
        server.sequencer = sequencer
        return server


class TestItsEnd:
    def test_nothing_is_left_of_a_server_that_was_cut_off(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Streams that were dropped and tasks of the SDK that still run have ended when the machine is done."""
        left: list[Any] = []
        monkeypatch.setattr(sys, "unraisablehook", left.append)
        logging.disable(logging.NOTSET)
        monkeypatch.setattr(logging.getLogger("asyncio"), "error", lambda *what, **_: left.append(what))

        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for events in range(9):
                machine = AgentLifecycle()
                machine.user_begins("show and get")
                machine.user_stops_a_message("show", events)
                machine.connection_of_a_message_is_lost("show and get", events)
                machine.connection_of_a_message_is_lost("hello", events)
                machine.time_passes()
                machine.teardown()
                del machine
                gc.collect()

        assert [] == left


numbers = ClientTool("numbers", result=int)


def test_its_own_server_asks_for_what_it_is_told() -> None:
    """The server that is brought along for a store knows the messages, the actions and the tools of the machine."""

    class Told(MemoryLifecycle):
        messages: ClassVar[Mapping[str, Sequence[str]]] = {"Go": ["numbers"]}
        actions: ClassVar[Mapping[str, Sequence[str]]] = {"press": ["shows"]}
        tools: ClassVar[Sequence[ClientTool[..., Any]]] = (shows, numbers)
        answers: ClassVar[Mapping[str, Any]] = {"numbers": lambda number: number}

    machine = Told()
    machine.user_begins("Go")
    machine.page_answers(fails=False)

    machine.user_presses("press")
    machine.page_answers(fails=False)
    machine.teardown()

    assert [("numbers", 1), ("shows", {"number": 2})] == [
        (call.name, call.answer["result"]) for call in machine.play.page.delivered
    ]


@pytest.mark.parametrize(
    ("messages", "says"),
    [
        ({}, "Mine.messages is empty: say what can be written, and which tools it then asks for"),
        (
            {"hi": ("nope",)},
            "Mine: 'hi' asks for ('nope',), and that has to be a list of names of tools: ['gets', 'shows']",
        ),
        (
            {"hi": "shows"},
            "Mine: 'hi' asks for 'shows', and that has to be a list of names of tools: ['gets', 'shows']",
        ),
    ],
)
def test_what_can_be_said_has_to_name_tools(messages: Any, says: str) -> None:
    """A machine whose messages ask for what is not among its tools, or that has none, is refused with the cure."""
    mine = type("Mine", (MemoryLifecycle,), {"messages": messages, "actions": {}, "tools": (shows, gets)})

    with pytest.raises(UsageError) as raised:
        mine()

    assert says == str(raised.value)


def test_an_answer_has_to_fit() -> None:
    """An answer that the server would refuse fails the machine: otherwise it would play nothing but refusals."""

    class Unfit(MemoryLifecycle):
        messages: ClassVar[Mapping[str, Sequence[str]]] = {"Go": ["numbers"]}
        actions: ClassVar[Mapping[str, Sequence[str]]] = {}
        tools: ClassVar[Sequence[ClientTool[..., Any]]] = (numbers,)

    machine = Unfit()
    machine.user_begins("Go")

    with pytest.raises(HandlerError, match=r"Unfit\.answers has to say what fits, not \{'number': 1\}: .*does not fit"):
        machine.page_answers(fails=False)
    machine.teardown()


def test_a_page_may_always_fail() -> None:
    """An answer that is an error fits every tool, and a tool that is never asked for needs none."""

    class Failing(OwnBare):
        answers: ClassVar[Mapping[str, Any]] = {"gets": {"error": "no canvas"}}
        tools: ClassVar[Sequence[ClientTool[..., Any]]] = (shows, gets, numbers)

    machine = Failing()
    machine.user_begins("show and get")

    machine.page_answers(fails=False)
    machine.teardown()

    assert {"error": "no canvas"} == machine.play.page.delivered[-1].answer


def made(**factories: Any) -> LifecycleMachine:
    """Make a machine of these factories."""
    base = Own if "make_server" in factories else LifecycleMachine
    kind: Any = type("Mine", (base,), {"time_limit": 0.1, **factories})
    machine: LifecycleMachine = kind()
    return machine


async def never(_: Any) -> None:
    await asyncio.Event().wait()


@asynccontextmanager
async def empty(_: Any) -> AsyncIterator[None]:
    yield


@pytest.mark.parametrize(
    ("factories", "says"),
    [
        (
            {"make_server": lambda _: MemoryStore()},
            "did not give a server: it returned a MemoryStore, which",
        ),
        ({"make_server": never}, r"never did not give a server: it had not come back when 0\.1 seconds were over"),
        ({"make_store": never}, r"never did not give a store: it had not come back when 0\.1 seconds were over"),
        ({"make_store": lambda _: None}, "did not give a store: it returned a NoneType, which has no add_thread_item"),
        ({"make_store": lambda _: MemoryStore}, r"did not give a store: it returned a class: MemoryStore\("),
        ({"make_store": empty}, "empty did not give a store: it returned a NoneType"),
        ({}, "did not give a store: NotImplementedError: Mine has to say what is to be tried: make_store or make_"),
    ],
)
def test_what_a_factory_does_not_give(factories: Any, says: str) -> None:
    """A factory that gives no store or server is named, with what it gave, and no event loop is left open."""
    with pytest.raises(UsageError, match=says):
        made(**factories)
