"""What plain ChatKit does in the cases users meet, and what ours does: each a conversation over wire JSON."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from agents import RunContextWrapper, function_tool
from agents.testing import function_call
from chatkit.agents import AgentContext, ClientToolCall
from chatkit.types import ClientToolCallItem, HiddenContextItem, ThreadItemDoneEvent

from chatkit_clienttools import ClientToolSequencer, ValidatingStore
from tests.helpers.conversation import CHATKIT_DROPS_PENDING_ON_MESSAGE, Conversation, at
from tests.helpers.merak import (
    THREE,
    TOOLS,
    PlainServer,
    SequencedServer,
    animation,
    calls,
    plain_search,
    profiles,
    selection,
    speaks,
)
from tests.helpers.scripted import with_receipt
from tests.helpers.stores import ClockStore, InsertStore, LiveStore, PlainStore, PlansStore, WatchedStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from agents import Tool
    from chatkit.store import Store

Ctx = RunContextWrapper[AgentContext[Any]]

GOOD_STORES: list[Callable[[], Store[Any]]] = [
    PlainStore,
    PlansStore,
    LiveStore,
    ClockStore,
    InsertStore,
    lambda: ValidatingStore(PlainStore()),
    lambda: ValidatingStore(PlansStore()),
    lambda: ValidatingStore(LiveStore()),
]
STORE_NAMES = ["plain", "plans", "live", "clock", "insert", "valid plain", "valid plans", "valid live"]


@pytest.fixture(params=GOOD_STORES, ids=STORE_NAMES)
def store(request: pytest.FixtureRequest) -> Store[Any]:
    made: Store[Any] = request.param()
    return made


def search_with(sequencer: ClientToolSequencer) -> Tool:
    @function_tool
    async def search(ctx: Ctx) -> str:
        """Search agents, and ask for three client tools."""
        sequencer.enqueue(ctx, animation(state="start"), profiles(agents=["Ada"]), animation(state="stop"))
        return "1 agent is on screen."

    return search


def select_with(sequencer: ClientToolSequencer, times: int = 1) -> Tool:
    @function_tool
    async def select(ctx: Ctx) -> str:
        """Ask for the selection."""
        sequencer.enqueue(ctx, *[selection() for _ in range(times)])
        return "asked"

    return select


def searching(store: Store[Any], *, more: tuple[Any, ...] = (), **options: Any) -> SequencedServer:
    sequencer = ClientToolSequencer(TOOLS, **options)
    steps = [[calls("search")], speaks("Here they are."), *more]
    return SequencedServer(store, steps, [search_with(sequencer)], sequencer=sequencer)


def selecting(store: Store[Any], *, times: int = 1, more: tuple[Any, ...] = (), **options: Any) -> SequencedServer:
    sequencer = ClientToolSequencer(TOOLS, **options)
    steps = [[calls("select")], speaks("One moment."), *more]
    return SequencedServer(store, steps, [select_with(sequencer, times)], sequencer=sequencer)


class TestThreeCallsInOneRun:
    async def test_plain_chatkit_loses_two(self) -> None:
        """Plain ChatKit shows the browser only the last call, and its answer runs the model again."""
        server = PlainServer(
            PlainStore(), [[calls("plain_search", {"query": "x"})], speaks("1"), speaks("2")], [plain_search]
        )
        chat = Conversation(server)

        assert THREE[2:] == (await chat.say("find")).calls
        assert ["2"] == (await chat.answer()).texts
        assert server.runs == 3

    async def test_ours_come_one_by_one(self, store: Store[Any]) -> None:
        """All three reach the browser, in order, one per answer, and the model does not run for them."""
        server = searching(store)
        chat = Conversation(server)

        replies = [await chat.say("find"), await chat.answer(), await chat.answer(), await chat.answer()]

        assert [THREE[:1], THREE[1:2], THREE[2:], []] == [reply.calls for reply in replies]
        assert [] == [reply.errors for reply in replies if reply.errors]
        assert [(name, "completed") for name, _ in THREE] == await chat.calls()
        assert server.runs == 2

    async def test_the_pending_item_is_what_chatkit_would_have_made(self) -> None:
        """Our pending item has the very fields of the one that ChatKit makes from its slot."""
        plain = PlainServer(PlainStore(), [[calls("plain_search", {"query": "x"})], speaks("1")], [plain_search])
        theirs = (await Conversation(plain).say("find")).call_items[0]

        ours = (await Conversation(searching(PlainStore())).say("find")).call_items[0]

        assert theirs.keys() == ours.keys()
        own = {"id", "call_id", "created_at", "thread_id", "arguments"}
        assert {k: v for k, v in theirs.items() if k not in own} == {k: v for k, v in ours.items() if k not in own}

    async def test_the_pending_item_is_the_last_event(self, store: Store[Any]) -> None:
        """Nothing that the body does after the agent's run lands behind the pending call."""
        sequencer = ClientToolSequencer(TOOLS)

        class Server(SequencedServer):
            async def to_input(self, items: list[Any]) -> Any:
                return "find"

            async def respond(self, thread: Any, input_user_message: Any, context: Any) -> AsyncIterator[Any]:
                async for event in PlainServer.respond(self, thread, input_user_message, context):
                    yield event
                hidden = HiddenContextItem(id="hidden", thread_id=thread.id, created_at=at(59), content="!")
                yield ThreadItemDoneEvent(item=hidden)
                thread.title = "Search"

        steps = [[calls("search")], speaks("1")]
        chat = Conversation(Server(store, steps, [search_with(sequencer)], sequencer=sequencer))

        reply = await chat.say("find")

        assert THREE[:1] == reply.calls
        assert (await chat.items())[-1].type == "client_tool_call"
        assert [THREE[1:2], THREE[2:]] == [(await chat.answer()).calls, (await chat.answer()).calls]


class TestStoredAsCompleted:
    @staticmethod
    def server(store: Store[Any]) -> PlainServer:
        class Server(PlainServer):
            async def respond(self, thread: Any, input_user_message: Any, context: Any) -> AsyncIterator[Any]:
                yield ThreadItemDoneEvent(
                    item=ClientToolCallItem(
                        id="tc_1",
                        thread_id=thread.id,
                        created_at=at(1),
                        call_id="c",
                        name="x",
                        arguments={},
                        status="completed",
                    )
                )

        return Server(store)

    async def test_plain_chatkit_breaks_at_the_acknowledgement(self) -> None:
        """A call stored as completed makes plain ChatKit raise out of the stream when it is acknowledged."""
        chat = Conversation(self.server(PlainStore()))

        assert [("x", {})] == (await chat.say("go")).calls
        with pytest.raises(ValueError, match="was not a ClientToolCallItem"):
            await chat.answer()

    async def test_ours_refuses_to_store_it(self) -> None:
        """With a ValidatingStore it is an error in the stream of the run that tried, and nothing is stored."""
        chat = Conversation(self.server(ValidatingStore(PlainStore())))

        reply = await chat.say("go")

        assert ([], 1) == (reply.calls, len(reply.errors))
        assert [] == await chat.calls()


async def in_lockstep(chat: Conversation, store: WatchedStore, result: Any = ("same",)) -> list[Any]:
    """Post an answer twice, so that both requests go on step by step."""
    store.take_turns()
    return list(await asyncio.gather(chat.answer(result), chat.answer(result)))


class TestTwoAnswersAtOnce:
    async def test_plain_chatkit_runs_the_model_for_each(self) -> None:
        """Plain ChatKit accepts both, and the model answers twice."""
        store = WatchedStore(PlainStore())

        @function_tool
        async def select(ctx: Ctx) -> str:
            """Ask for the selection."""
            ctx.context.client_tool_call = ClientToolCall(name="get_selected_canvas_nodes", arguments={})
            return "asked"

        server = PlainServer(store, [[calls("select")], speaks("1"), speaks("2"), speaks("3")], [select])
        chat = Conversation(server)
        await chat.say("which?")

        replies = await in_lockstep(chat, store)

        assert [["2"], ["3"]] == sorted(reply.texts for reply in replies)

    @pytest.mark.parametrize("make", [PlainStore, PlansStore, lambda: ValidatingStore(LiveStore())])
    async def test_ours_runs_the_model_once(self, make: Callable[[], Store[Any]]) -> None:
        """Ours lets one of them continue, and ends the stream of the other without an event."""
        store = WatchedStore(make())
        server = selecting(store, more=(speaks("Two shapes."),))
        chat = Conversation(server)
        await chat.say("which?")

        replies = await in_lockstep(chat, store)

        assert [[], ["Two shapes."]] == sorted(reply.texts for reply in replies)
        assert [] == [reply.errors for reply in replies if reply.errors]
        assert server.runs == 3

    @pytest.mark.parametrize("make", [PlainStore, PlansStore, lambda: ValidatingStore(LiveStore())])
    async def test_ours_releases_the_next_call_once(self, make: Callable[[], Store[Any]]) -> None:
        """With receipts, an answer that comes twice releases one next call, and the repeat is shown that call again."""
        store = WatchedStore(make())
        server = searching(store, receipts=True)
        chat = Conversation(server)
        first = await chat.say("find")

        replies = await in_lockstep(chat, store, with_receipt(first.call_items[0], None))

        items = [item for reply in replies for item in reply.call_items]
        assert [THREE[1][0]] * 2 == [item["name"] for item in items]
        assert items[0]["id"] == items[1]["id"]
        assert [(THREE[0][0], "completed"), (THREE[1][0], "pending")] == await chat.calls()
        assert server.runs == 2

    @pytest.mark.parametrize("make", [PlainStore, PlansStore])
    async def test_a_repeat_after_the_last_answer_changes_nothing(self, make: Callable[[], Store[Any]]) -> None:
        """A repeated answer to the last of several calls that wanted none does not run the model."""
        store = WatchedStore(make())
        server = searching(store)
        chat = Conversation(server)
        for post in (chat.say("find"), chat.answer(), chat.answer()):
            await post

        replies = await in_lockstep(chat, store)

        assert [[], []] == [reply.texts + reply.calls + reply.errors for reply in replies]
        assert server.runs == 2


class TestMessageWhileACallIsPending:
    async def test_plain_chatkit_leaves_it_pending_for_ever(self) -> None:
        """Plain ChatKit keeps the call (or deletes it silently, before 1.5), and its answer breaks the stream."""
        server = PlainServer(
            PlainStore(), [[calls("plain_search", {"query": "x"})], speaks("1"), speaks("2")], [plain_search]
        )
        chat = Conversation(server)
        await chat.say("find")
        await chat.say("never mind")

        with pytest.raises(ValueError, match="was not a ClientToolCallItem"):
            await chat.answer()

    async def test_ours_cancels_what_is_open(self, store: Store[Any]) -> None:
        """The new message removes the pending call and drops the queued ones; required ones come after its answer."""
        server = searching(store, more=(speaks("As you like."),))
        chat = Conversation(server)
        first = await chat.say("find")

        reply = await chat.say("never mind")

        assert ["As you like."] == reply.texts
        assert [first.call_items[0]["id"]] * (not CHATKIT_DROPS_PENDING_ON_MESSAGE) == reply.removed
        assert [("run_search_animation", "pending")] == await chat.calls()
        assert [("run_search_animation", {"state": "start"})] == reply.calls
        assert [("run_search_animation", {"state": "stop"})] == (await chat.answer()).calls
        assert [] == (await chat.answer()).calls
        assert server.runs == 3


class TestTies:
    async def test_plain_chatkit_takes_the_older_item_on_a_tie(self) -> None:
        """In a store that orders by time, a call with the time of the message before it cannot be acknowledged."""

        class Server(PlainServer):
            async def respond(self, thread: Any, input_user_message: Any, context: Any) -> AsyncIterator[Any]:
                page = await self.store.load_thread_items(thread.id, None, 1, "desc", context)
                yield ThreadItemDoneEvent(
                    item=ClientToolCallItem(
                        id="tc_1",
                        thread_id=thread.id,
                        created_at=page.data[0].created_at,
                        call_id="c",
                        name="x",
                        arguments={},
                    )
                )

        chat = Conversation(Server(ClockStore()))
        await chat.say("go")

        with pytest.raises(ValueError, match="was not a ClientToolCallItem"):
            await chat.answer()

    async def test_ours_is_always_the_newest(self) -> None:
        """A released call is younger than every item of its thread, even with a clock that stands still."""
        store = ClockStore()
        server = searching(store, clock=lambda: 0.0)
        chat = Conversation(server)

        replies = [await chat.say("find"), await chat.answer(), await chat.answer(), await chat.answer()]

        assert [THREE[:1], THREE[1:2], THREE[2:], []] == [reply.calls for reply in replies]


class TestFakeIds:
    @staticmethod
    def steps() -> list[Any]:
        return [
            [function_call("slot", {}, call_id="__fake_id__", item_id="__fake_id__")],
            speaks("1"),
            [function_call("slot", {}, call_id="__fake_id__", item_id="__fake_id__")],
            speaks("2"),
            speaks("3"),
        ]

    @staticmethod
    def tool() -> Tool:
        @function_tool
        async def slot(ctx: Ctx) -> str:
            """Set the slot."""
            ctx.context.client_tool_call = ClientToolCall(name="anything", arguments={})
            return "ok"

        return slot

    async def test_plain_chatkit_overwrites_the_first_call(self) -> None:
        """Plain ChatKit stores both calls under one id, so the second takes the place of the first."""
        chat = Conversation(PlainServer(PlainStore(), self.steps(), [self.tool()]))

        await chat.say("go")
        await chat.answer("one")

        assert [("anything", "pending")] == await chat.calls()

    async def test_ours_gives_each_its_own(self, store: Store[Any]) -> None:
        """Ours never adopts such an id: both calls are there, each answered once."""
        chat = Conversation(SequencedServer(store, self.steps(), [self.tool()]))

        await chat.say("go")
        await chat.answer("one")
        await chat.answer("two")

        assert [("anything", "completed"), ("anything", "completed")] == await chat.calls()
        assert ["one", "two"] == [item.output for item in await chat.items() if item.type == "client_tool_call"]
