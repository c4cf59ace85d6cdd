"""What a step reads before it decides, and what it holds while it does."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, nullcontext
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from chatkit.widgets import Card, Text

from chatkit_clienttools import ClientTool
from chatkit_clienttools._step.plans import keeper
from chatkit_clienttools.stores import MemoryStore
from tests.helpers.conversation import CHATKIT_DROPS_PENDING_ON_MESSAGE
from tests.helpers.merak import animation, anything, calls, profiles, selection, speaks
from tests.helpers.scripted import asks, fill, foreign, move_behind, says, scripted
from tests.helpers.server import RESUME, answered_by_a_process_that_died, lines
from tests.helpers.stores import PlainStore, PlansStore, WatchedStore
from tests.helpers.waiting import TOOLS, Ctx, Waiting, chooses, tool, twice
from tests.helpers.workers import Clock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable

    from chatkit.store import Store

    from chatkit_clienttools import ClientToolSequencer
    from tests.helpers.conversation import Conversation
    from tests.helpers.scripted import Scripted


@pytest.fixture(params=[PlainStore, PlansStore, MemoryStore], ids=["plain", "plans", "memory"])
def store(request: pytest.FixtureRequest) -> Store[Any]:
    made: Store[Any] = request.param()
    return made


class TestACallThatNobodyPlanned:
    async def test_an_answer_finds_it_behind_other_items(self, store: Store[Any]) -> None:
        """For an answer a pending call is looked for among the twenty newest items, more than other requests read."""
        _, chat = scripted(store, says("hi"), says("thanks"))
        await chat.say("hello")
        await chat.touch(foreign(chat))
        await fill(chat, 12)

        assert ["thanks"] == (await chat.answer(1)).texts
        assert [("theirs", "completed")] == await chat.calls()

    async def test_one_that_a_body_writes_comes_first(self, store: Store[Any]) -> None:
        """A call that a body writes into the store itself is pending: what the body enqueues waits behind it."""

        async def body(server: Any, context: Any) -> AsyncIterator[Any]:
            await chat.touch(foreign(chat))
            server.sequencer.enqueue(context, anything())
            return
            yield

        _, chat = scripted(store, says("hi"), body, says("done"))
        await chat.say("hello")

        assert [] == (await chat.say("go")).calls
        assert [("anything", {})] == (await chat.answer(1)).calls

    async def test_one_whose_answer_is_not_wanted(self, store: Store[Any]) -> None:
        """The model does not run after the answer to a call that nobody planned, if its tool wants no answer."""
        server, chat = scripted(store, says("hi"), says("never"))
        await chat.say("hello")
        await chat.touch(foreign(chat).model_copy(update={"name": animation.name}))

        await chat.answer()

        assert ([(animation.name, "completed")], 1) == (await chat.calls(), server.runs)

    async def test_one_out_of_sight(self, caplog: pytest.LogCaptureFixture) -> None:
        """If a store refuses a call because another is pending, the step reads back until it finds that one."""
        _, chat = scripted(MemoryStore(), says("hi"), asks(anything()), says("done"))
        await chat.say("hello")
        await chat.touch(foreign(chat))
        await fill(chat, 60)

        with caplog.at_level("INFO", "chatkit_clienttools"):
            reply = await chat.act("more")

        assert ([], []) == (reply.errors, reply.calls)
        [item] = (await chat.answer(1)).call_items
        thread = f"thread {chat.thread_id}"
        line = (
            f"{thread}: somebody else was quicker: {thread.capitalize()}, client tool call {item['call_id']} (item "
            f"{item['id']}): no item -> pending is not allowed. Call c (item tc_foreign) is still pending, and the "
            "browser's answer does not say which call it is for. Queue the calls: sequencer.enqueue(ctx, ...)."
        )
        assert [("INFO", line)] == lines(caplog)
        assert ["done"] == (await chat.answer()).texts


async def test_a_thread_is_held_by_its_id(store: Store[Any]) -> None:
    """Every step holds the lock of its thread, and so does what drops a damaged plan between two steps."""
    held: list[str] = []

    @asynccontextmanager
    async def lock(thread_id: str) -> AsyncIterator[None]:
        held.append(thread_id)
        yield

    server, chat = scripted(store, asks(anything()), lock=lock)
    await chat.say("go")
    thread_id = chat.thread_id or ""
    plans = keeper(store, thread_id, None)
    await plans.load()
    await plans.save("{")
    held.clear()

    await server.sequencer.cancel(store, thread_id, None)

    assert [thread_id] * 3 == held


async def test_an_answer_that_only_ends_the_plan(store: Store[Any], caplog: pytest.LogCaptureFixture) -> None:
    """An answer after which the plan has come to its end has changed something, though it writes no item."""
    _, chat = scripted(store, asks(animation(state="start")))
    await chat.say("go")
    await answered_by_a_process_that_died(chat)

    with caplog.at_level("INFO", "chatkit_clienttools"):
        await chat.answer()

    assert [] == lines(caplog)


class Reading(WatchedStore):
    """A store that notes what it is asked for: a thread, an item, or how many of the newest items."""

    def __init__(self) -> None:
        super().__init__(PlansStore())
        self.noted: list[str | int] = []
        self.before = self._note

    async def _note(self, name: str, args: tuple[Any, ...]) -> None:
        if name in {"load_thread", "load_item"}:
            self.noted.append(name)
        elif name == "load_thread_items":
            self.noted.append(args[2])

    async def of(self, request: Awaitable[Any]) -> list[str | int]:
        """Return what a request reads, besides the thread and the plan that it has to know."""
        self.noted.clear()
        await request
        return [*self.noted]


async def whatever_happens(store: Reading, server: Scripted, chat: Conversation) -> list[list[str | int]]:
    """What is read for an answer, a button, a reload, and each question that the application may ask."""
    sequencer, ids = server.sequencer, (store, chat.thread_id or "", None)
    return [
        await store.of(chat.answer()),
        await store.of(chat.act("press")),
        await store.of(chat.act(RESUME)),
        await store.of(sequencer.waiting_tools(*ids)),
        await store.of(sequencer.expire(*ids)),
        await store.of(sequencer.snapshot(*ids)),
        await store.of(sequencer.cancel(*ids)),
    ]


class TestWhatIsRead:
    """A step reads no more than it has to, in a thread of any length."""

    async def test_while_a_call_is_pending(self) -> None:
        """The pending call is the newest item, as a rule: whatever happens, a handful of items is read, once."""
        store = Reading()
        server, chat = scripted(store, says("hi"), asks(*[anything(n=n) for n in range(4)]), says("pressed"))
        await chat.say("hello")
        await fill(chat, 60)
        await chat.say("go")

        with_thread: list[str | int] = ["load_thread", 5]
        assert [with_thread, with_thread, with_thread, [5], [5], [5], [5]] == await whatever_happens(
            store, server, chat
        )

    async def test_while_nothing_is_pending(self) -> None:
        """Without a plan an answer and a reload look at twenty items, and everything else at a handful."""
        store = Reading()
        server, chat = scripted(store, says("hi"), says("hi again"), says("pressed"))
        await chat.say("hello")
        await fill(chat, 60)
        await chat.say("are you there?")

        late: list[str | int] = ["load_thread", 5, 20]
        assert [late, ["load_thread", 5], late, [5, 20], [5], [5, 20], [5]] == await whatever_happens(
            store, server, chat
        )

    @pytest.mark.skipif(CHATKIT_DROPS_PENDING_ON_MESSAGE, reason="this ChatKit deletes a pending call before us")
    async def test_while_calls_wait_that_were_not_sent(self) -> None:
        """Calls that wait behind a message are looked for among twenty items, and not in all that is before them."""
        store = Reading()
        _, chat = scripted(store, says("hi"), asks(profiles(agents=[]), animation(state="stop")), says("ok"))
        await chat.say("hello")
        await fill(chat, 60)
        await chat.say("go")

        assert ["load_thread", 5, 5, 20] == await store.of(chat.say("never mind"))

    async def test_of_calls_that_are_finished(self) -> None:
        """A snapshot reads back as far as the calls that have left the plan, and no further."""
        store = Reading()
        server, chat = scripted(store, says("hi"), asks(*[anything(n=n) for n in range(3)]))
        await chat.say("hello")
        await fill(chat, 60)
        await chat.say("go")
        await chat.answer()
        await chat.answer()
        await move_behind(chat, 40)
        sequencer, ids = server.sequencer, (store, chat.thread_id or "", None)

        assert [5, 20, 20] == await store.of(sequencer.snapshot(*ids))
        assert [5] == await store.of(sequencer.waiting_tools(*ids))
        assert ["completed", "completed", "pending"] == [each.state.value for each in await sequencer.snapshot(*ids)]

    @pytest.mark.skipif(CHATKIT_DROPS_PENDING_ON_MESSAGE, reason="this ChatKit deletes a pending call before us")
    async def test_of_the_message_of_a_call(self) -> None:
        """Whether its message is still there is asked when the user writes, and not for an answer."""
        store = Reading()
        _, chat = scripted(store, asks(animation(state="start"), animation(state="stop")), says("ok"))
        await chat.say("go")
        await move_behind(chat, 30)

        assert ["load_thread", 5] == await store.of(chat.answer())
        assert ["load_thread", 5, "load_item", 5, 20] == await store.of(chat.say("never mind"))


async def test_what_is_written_for_the_last_answer() -> None:
    """In a store without plans a step saves the thread once, after the item: when the run begins, and when it ends."""
    store = WatchedStore(PlainStore())
    _, chat = scripted(store, asks(selection()), says("done"))
    await chat.say("go")
    store.counts.clear()

    await chat.answer([])

    assert (1, 2) == (store.counts["save_item"], store.counts["save_thread"])


@pytest.mark.parametrize("policy", ["cancel", "keep"])
async def test_a_call_of_a_message_that_is_far_back(store: Store[Any], policy: Any) -> None:
    """A required call stays when the user writes, however far back the message is under which it was asked for."""
    _, chat = scripted(store, asks(animation(state="stop")), says("ok"), on_user_message=policy)
    await chat.say("go")
    await move_behind(chat, 30)

    await chat.say("never mind")

    assert [("run_search_animation", "pending")] == await chat.calls()


@pytest.mark.parametrize("status", ["pending", "completed"])
async def test_a_call_that_was_answered_far_back(store: Store[Any], status: Any) -> None:
    """A call whose answer is far back is not sent again, though a call that nobody planned is newer."""
    _, chat = scripted(store, asks(anything(n=1), anything(n=2)), says("done"))
    await chat.say("go")
    await answered_by_a_process_that_died(chat)
    await fill(chat, 30)
    theirs = foreign(chat)
    await chat.touch(theirs)
    await store.save_item(theirs.thread_id, theirs.model_copy(update={"status": status}), None)

    reply = await chat.answer()

    assert [("anything", {"n": 2})] == reply.calls


class TestAToolThatWasWoken:
    @pytest.mark.parametrize("streams", [False, True])
    async def test_what_it_asks_for_is_the_newest_item(self, store: Store[Any], streams: bool) -> None:
        """What a woken tool asks for is newer than its last answer, and than what it has streamed since."""

        async def asks_twice(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            first = await chooses(sequencer, ctx)
            if streams:
                await ctx.context.stream_widget(Card(children=[Text(value=first)]))
            return first + await chooses(sequencer, ctx)

        long_ago = Clock()
        page = Waiting(store, [[calls("asks_twice")]], tool(asks_twice), clock=long_ago)
        await page.say()
        await page.answer({"name": "Ada"})

        times = [item.created_at for item in await page.chat.items()]
        assert sorted({*times}) == times

    async def test_how_far_back_its_answers_are_looked_for(self) -> None:
        """The earlier answers of a woken tool are looked for among a few items, then a hundred at a time."""
        store = Reading()
        returned: list[str] = []

        async def asks_twice(sequencer: ClientToolSequencer, ctx: Ctx) -> None:
            returned.append(await twice(sequencer, ctx))

        page = Waiting(store, [speaks("Hi."), [calls("asks_twice")], speaks("Done.")], tool(asks_twice))
        await page.say()
        await fill(page.chat, 300)
        await page.say()
        await page.answer({"name": "Ada"})
        await move_behind(page.chat, 150)

        read = await store.of(page.answer({"name": "Grace"}))

        assert ["load_thread", 8, 100, 100] == read[:4]
        assert 2 == read.count(100)
        assert ["Ada, Grace"] == returned

    async def test_the_time_of_what_it_asks_for(self, store: Store[Any]) -> None:
        """The time of a call begins when a woken tool has asked for it, however long the tool was at work before."""
        clock = Clock()
        sign = ClientTool("sign", expires_after=timedelta(seconds=60))

        async def signs(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            await chooses(sequencer, ctx)
            clock.now += 50
            return str(await sequencer.ask(ctx, sign()))

        page = Waiting(store, [[calls("signs")]], tool(signs), tools=[*TOOLS, sign], clock=clock)
        await page.say()
        await page.answer({"name": "Ada"})

        [pending] = (await page.plan()).calls
        assert clock.now + 60 == pending.expires_at

    async def test_it_was_dropped_meanwhile(self, store: Store[Any]) -> None:
        """What a woken tool returns is no item if its message was answered again meanwhile, also with a lock."""
        is_awake, go_on = asyncio.Event(), asyncio.Event()

        async def takes_long(sequencer: ClientToolSequencer, ctx: Ctx) -> str:
            await chooses(sequencer, ctx)
            is_awake.set()
            await go_on.wait()
            return "too late"

        steps = [[calls("takes_long")], speaks("Again.")]
        page = Waiting(store, steps, tool(takes_long), lock=lambda _: nullcontext())
        await page.say()
        answered = asyncio.create_task(page.answer({"name": "Ada"}))
        await is_awake.wait()
        other = page.beside()
        await other.retry()
        go_on.set()
        await answered

        assert ["user_message", "assistant_message"] == [item.type for item in await page.chat.items()]
