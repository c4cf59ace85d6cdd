"""A call that nobody answers in time: what ends it, what then goes on, and what becomes of a late answer."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest
from chatkit.agents import ClientToolCall

from chatkit_clienttools import ClientTool, ClientToolSequencer, LifecycleEvent
from chatkit_clienttools.answers import EXPIRED
from chatkit_clienttools.errors import UsageError
from tests.helpers.conversation import CHATKIT_DROPS_PENDING_ON_MESSAGE, Conversation
from tests.helpers.merak import animation, profiles
from tests.helpers.scripted import Scripted, asks, message, says, with_receipt
from tests.helpers.server import NOTHING, RESUME, lines, outputs
from tests.helpers.stores import PlainStore, PlansStore, WatchedStore
from tests.helpers.waiting import left_behind_is_done
from tests.helpers.workers import Clock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from chatkit.agents import AgentContext
    from chatkit.store import Store
    from chatkit.types import ThreadItemDoneEvent

    from tests.helpers.conversation import Reply, Wire

MINUTE = timedelta(minutes=1)

pick = ClientTool("pick_a_color", result=str, expires_after=MINUTE)
"""A call that waits for a person, for a minute."""

beat = ClientTool("heartbeat", result=None, expires_after=MINUTE, required=True)
"""A required call that nobody wants an answer to."""

START = 1_700_000_000.0


class Page:
    """A page, a server with a clock that the test sets, and what is announced."""

    def __init__(self, store: Store[Any], *bodies: Any, receipts: bool = True, **options: Any) -> None:
        self.clock, self.events = Clock(), list[LifecycleEvent]()
        self.sequencer = ClientToolSequencer(
            [pick, beat, animation, profiles],
            clock=self.clock,
            observers=[self.events.append],
            receipts=receipts,
            **options,
        )
        self.server = Scripted(store, self.sequencer, *bodies)
        self.chat = Conversation(self.server)

    async def say(self, text: str = "go") -> Wire:
        """Write, and return the call that comes."""
        [item] = (await self.chat.say(text)).call_items
        return item

    async def answer(self, item: Wire, result: Any = "red") -> Reply:
        return await self.chat.answer(with_receipt(item, result))

    async def expire(self) -> list[str]:
        ended = await self.sequencer.expire(self.server.store, self.chat.thread_id or "", None)
        return [f"{call.name} {call.state.value}" for call in ended]

    async def snapshot(self) -> list[str]:
        calls = await self.sequencer.snapshot(self.server.store, self.chat.thread_id or "", None)
        return [f"{call.name} {call.state.value}" for call in calls]

    @property
    def failures(self) -> list[tuple[str, str | None]]:
        """The calls that have failed, and why."""
        return [(event.tool, event.reason) for event in self.events if event.state.value == "failed"]


class TestWhatEndsIt:
    async def test_an_answer_in_time_is_taken(self, store: Store[Any]) -> None:
        """An answer that comes before the time is over is an answer like any other."""
        page = Page(store, asks(pick()), says("Red it is."))
        item = await page.say()

        page.clock.now += 59.9
        reply = await page.answer(item)

        assert (["Red it is."], ["red"]) == (reply.texts, await outputs(page.chat))

    async def test_a_late_answer_is_not_taken(self, store: Store[Any], log: Any) -> None:
        """An answer that comes when the time is over changes nothing: the call has failed, and the model is told."""
        page = Page(store, asks(pick()), says("Nobody is there."))
        item = await page.say()
        page.events.clear()
        log.clear()

        page.clock.now += 60
        reply = await page.answer(item)

        assert (["Nobody is there."], []) == (reply.texts, reply.errors)
        assert [{"error": EXPIRED}] == await outputs(page.chat)
        assert [("pick_a_color", "expired")] == page.failures
        assert 1 == sum("expired" in record.getMessage() for record in log.records)
        assert "notice" not in reply.types

    async def test_and_again(self, store: Store[Any], log: Any) -> None:
        """A late answer that is posted once more is ignored, as every late answer is."""
        page = Page(store, asks(pick()), says("Nobody is there."))
        item = await page.say()
        page.clock.now += 60
        await page.answer(item)
        log.clear()

        reply = await page.answer(item)

        assert (NOTHING, [{"error": EXPIRED}]) == (reply.types, await outputs(page.chat))
        assert ["INFO"] == [level for level, _ in lines(log)]

    async def test_the_next_call_goes_out(self, store: Store[Any]) -> None:
        """With the default on_failure="continue" the request that ends a call brings the next one."""
        page = Page(store, asks(pick(), profiles(agents=[])))
        item = await page.say()

        page.clock.now += 60
        reply = await page.answer(item)

        assert ["display_agent_profiles"] == [name for name, _ in reply.calls]

    async def test_the_rest_is_cancelled(self, store: Store[Any]) -> None:
        """With on_failure="abort" a call that has expired cancels those behind it, except the required ones."""
        page = Page(
            store, asks(pick(), profiles(agents=[]), animation(state="stop")), says("Well."), on_failure="abort"
        )
        item = await page.say()

        page.clock.now += 60
        reply = await page.answer(item)

        assert ["run_search_animation"] == [name for name, _ in reply.calls]
        assert ["failed", "cancelled"] == [e.state.value for e in page.events if e.state.is_final]

    async def test_a_page_that_is_loaded(self, store: Store[Any]) -> None:
        """A page that loads the thread gets what comes next, and not the call whose time is over."""
        page = Page(store, asks(pick()), says("Nobody is there."))
        await page.say()

        page.clock.now += 60
        reply = await page.chat.act(RESUME)

        assert (["Nobody is there."], []) == (reply.texts, reply.calls)

    @pytest.mark.skipif(CHATKIT_DROPS_PENDING_ON_MESSAGE, reason="older ChatKits delete the call before we are asked")
    @pytest.mark.parametrize("on_user_message", ["cancel", "keep"])
    async def test_a_message(self, store: Store[Any], on_user_message: str) -> None:
        """When the user writes after the time is over, the call has failed, not cancelled; `respond` runs once."""
        page = Page(store, asks(pick()), says("Too late."), on_user_message=on_user_message)
        await page.say()

        page.clock.now += 60
        reply = await page.chat.say("hello?")

        assert (["Too late."], 2) == (reply.texts, page.server.runs)
        assert [("pick_a_color", "expired")] == page.failures
        assert NOTHING == (await page.chat.act(RESUME)).types

    async def test_an_action(self, store: Store[Any]) -> None:
        """An action of the application brings what comes next, after its own events: here the model's word."""
        page = Page(store, asks(pick()), says("Pressed."), says("Nobody is there."))
        await page.say()

        page.clock.now += 60
        reply = await page.chat.act("press")

        assert (["Pressed.", "Nobody is there."], 3) == (reply.texts, page.server.runs)
        assert NOTHING == (await page.chat.act(RESUME)).types

    async def test_an_action_that_is_cut_off_at_its_end(self) -> None:
        """The run that an action brings is free at once for the next request, if the action's is cut off before it."""
        store, gates = WatchedStore(PlainStore()), []

        async def press(server: Scripted, context: AgentContext[Any]) -> AsyncIterator[Any]:
            gates.append(store.gate("save_thread"))
            yield message("Pressed.", context.thread, "pressed")

        page = Page(store, asks(pick()), press, says("Nobody is there."))
        await page.say()
        page.clock.now += 60

        request = asyncio.create_task(page.chat.act("press"))
        while not gates:  # noqa: ASYNC110  the body makes it
            await asyncio.sleep(0)
        await gates[0].reached.wait()
        request.cancel()
        await asyncio.gather(request, return_exceptions=True)
        gates[0].open.set()
        await left_behind_is_done()

        assert ["Nobody is there."] == (await page.chat.act(RESUME)).texts

    async def test_an_action_before_the_next_call(self, store: Store[Any]) -> None:
        """An action brings the next call as its last event, and the model is not told before that is answered."""
        page = Page(store, asks(pick(), profiles(agents=[])), says("Pressed."), says("Done."))
        await page.say()

        page.clock.now += 60
        reply = await page.chat.act("press")
        last = await page.answer(reply.call_items[0], None)

        assert (["Pressed."], ["Done."]) == (reply.texts, last.texts)

    async def test_an_action_in_time(self, store: Store[Any]) -> None:
        """An action before the time is over leaves the call alone."""
        page = Page(store, asks(pick()), says("Pressed."))
        await page.say()

        page.clock.now += 59
        await page.chat.act("press")

        assert [("pick_a_color", "pending")] == await page.chat.calls()

    async def test_a_call_that_nobody_wants_an_answer_to(self, store: Store[Any]) -> None:
        """A call without a result expires as well, and the model does not run for it."""
        page = Page(store, asks(beat()))
        item = await page.say()

        page.clock.now += 60
        reply = await page.answer(item)

        assert (NOTHING, 1) == (reply.types, page.server.runs)
        assert [("heartbeat", "expired")] == page.failures


class TestWithoutAPage:
    async def test_expire_returns_what_it_has_ended(self, store: Store[Any]) -> None:
        """`expire` returns the call that it has ended as it was, and nothing the next time."""
        page = Page(store, asks(pick(), profiles(agents=[])))
        await page.say()

        page.clock.now += 60

        assert ["pick_a_color pending"] == await page.expire()
        assert [] == await page.expire()
        assert [("pick_a_color", "completed")] == await page.chat.calls()

    async def test_expire_in_time(self, store: Store[Any]) -> None:
        """Before the time is over `expire` ends nothing, and writes nothing."""
        watched = WatchedStore(store)
        page = Page(watched, asks(pick()), says("Red it is."))
        item = await page.say()
        watched.counts.clear()

        page.clock.now += 59

        assert [] == await page.expire()
        assert [] == [name for name in watched.counts if not name.startswith("load")]
        assert ["Red it is."] == (await page.answer(item)).texts

    async def test_expire_with_abort(self, store: Store[Any]) -> None:
        """With on_failure="abort" `expire` returns those behind the call, too, which it has cancelled."""
        page = Page(store, asks(pick(), profiles(agents=[]), animation(state="stop")), on_failure="abort")
        await page.say()

        page.clock.now += 60

        assert ["pick_a_color pending", "display_agent_profiles queued"] == await page.expire()

    async def test_what_waits_goes_on_with_an_action(self, store: Store[Any]) -> None:
        """After `expire` the next call goes out at the end of an action, too."""
        page = Page(store, asks(pick(), profiles(agents=[])), says("Pressed."))
        await page.say()
        page.clock.now += 60
        await page.expire()

        reply = await page.chat.act("press")

        assert (["Pressed."], ["display_agent_profiles"]) == (reply.texts, [name for name, _ in reply.calls])

    async def test_what_waits_goes_on_with_the_next_request(self, store: Store[Any]) -> None:
        """After `expire` the next call waits for a page that is there, and its time begins only then."""
        page = Page(store, asks(pick(), pick()), says("Blue it is."))
        await page.say()
        page.clock.now += 60
        await page.expire()

        page.clock.now += 3600
        [item] = (await page.chat.act(RESUME)).call_items
        page.clock.now += 59
        reply = await page.answer(item, "blue")

        assert (["Blue it is."], [{"error": EXPIRED}, "blue"]) == (reply.texts, await outputs(page.chat))

    async def test_the_model_is_told_with_the_next_request(self, store: Store[Any]) -> None:
        """After `expire` the model runs when the page is loaded, once."""
        page = Page(store, asks(pick()), says("Nobody was there."))
        await page.say()
        page.clock.now += 60
        await page.expire()

        replies = [await page.chat.act(RESUME), await page.chat.act(RESUME)]

        assert [["Nobody was there."], []] == [reply.texts for reply in replies]

    async def test_a_late_answer_after_expire(self, store: Store[Any]) -> None:
        """A late answer after `expire` is not taken, and the thread goes on with its request."""
        page = Page(store, asks(pick()), says("Nobody was there."))
        item = await page.say()
        page.clock.now += 60
        await page.expire()

        reply = await page.answer(item)

        assert (["Nobody was there."], [{"error": EXPIRED}]) == (reply.texts, await outputs(page.chat))

    async def test_a_snapshot(self, store: Store[Any]) -> None:
        """A snapshot shows no call as pending whose time is over: it ends it."""
        page = Page(store, asks(pick(), pick()))
        await page.say()

        before = await page.snapshot()
        page.clock.now += 60
        after = await page.snapshot()

        assert ["pick_a_color pending", "pick_a_color queued"] == before
        assert ["pick_a_color failed", "pick_a_color queued"] == after
        assert [("pick_a_color", "expired")] == page.failures

    async def test_a_snapshot_says_when(self) -> None:
        """A snapshot says of a call that the browser has when its time is over, and of one that waits nothing."""
        page = Page(PlainStore(), asks(pick(), pick()))
        await page.say()

        calls = await page.sequencer.snapshot(page.server.store, page.chat.thread_id or "", None)

        until = datetime.fromtimestamp(START, timezone.utc) + MINUTE
        assert [until, None] == [call.expires_at for call in calls]

    async def test_cancel_ends_it_as_failed(self, store: Store[Any]) -> None:
        """`cancel` returns an overdue call with the others; it has failed, and those behind it are cancelled."""
        page = Page(store, asks(pick(), profiles(agents=[])))
        await page.say()

        page.clock.now += 60
        ended = await page.sequencer.cancel(page.server.store, page.chat.thread_id or "", None)

        assert ["pick_a_color", "display_agent_profiles"] == [call.name for call in ended]
        assert ["failed", "cancelled"] == [e.state.value for e in page.events if e.state.is_final]
        assert NOTHING == (await page.chat.act(RESUME)).types


class TestAnAnswerThatCrossesIt:
    """One worker takes an answer in time, another ends the call: its clock is ahead."""

    @staticmethod
    async def two() -> tuple[WatchedStore, Page, Page, Wire]:
        store = WatchedStore(PlansStore())
        page, other = Page(store, asks(pick()), says("Good.")), Page(store)
        other.server.bodies = page.server.bodies
        item = await page.say()
        other.chat.thread_id = page.chat.thread_id
        other.clock.now += 60
        return store, page, other, item

    async def test_the_answer_comes_second(self) -> None:
        """If the call has expired before the answer is written, the answer is late: it was decided in vain."""
        store, page, other, item = await self.two()
        gate = store.gate("save_plan")
        answering = asyncio.create_task(page.answer(item))
        await gate.reached.wait()

        ended = await other.expire()
        gate.open.set()
        reply = await answering

        assert (["pick_a_color pending"], ["Good."]) == (ended, reply.texts)
        assert [{"error": EXPIRED}] == await outputs(page.chat)
        assert [("pick_a_color", "expired")] == page.failures + other.failures

    async def test_the_answer_comes_first(self) -> None:
        """If the answer is written before the call expires, it stays: nothing has expired."""
        store, page, other, item = await self.two()
        gate = store.gate("save_plan")
        expiring = asyncio.create_task(other.expire())
        await gate.reached.wait()

        reply = await page.answer(item)
        gate.open.set()
        ended = await expiring

        assert ([], ["Good."], ["red"]) == (ended, reply.texts, await outputs(page.chat))
        assert [] == page.failures + other.failures


class TestItsTime:
    async def test_it_begins_when_the_call_goes_out(self, store: Store[Any]) -> None:
        """A call that waits behind another one does not expire: its time begins when it goes out."""
        page = Page(store, asks(profiles(agents=[]), pick()), says("Red it is."))
        first = await page.say()

        page.clock.now += 3600
        [item] = (await page.answer(first, None)).call_items
        page.clock.now += 59
        reply = await page.answer(item)

        assert ["Red it is."] == reply.texts

    async def test_a_reload_gives_no_more_of_it(self, store: Store[Any]) -> None:
        """A page that is loaded again gets the call again, with the time that is left."""
        page = Page(store, asks(pick()), says("Nobody is there."))
        await page.say()

        page.clock.now += 45
        [again] = (await page.chat.act(RESUME)).call_items
        page.clock.now += 15
        reply = await page.answer(again)

        assert 15_000 == again["arguments"]["_expires_in"]
        assert (["Nobody is there."], [{"error": EXPIRED}]) == (reply.texts, await outputs(page.chat))

    async def test_a_required_call_that_went_out_again_too_late(self, store: Store[Any]) -> None:
        """A required call that a message has withdrawn does not expire while it waits; going out, it has new time."""

        async def slow(server: Scripted, context: AgentContext[Any]) -> AsyncIterator[ThreadItemDoneEvent]:
            page.clock.now += 30
            async for event in says("Hm.")(server, context):
                yield event

        page = Page(store, asks(beat()), slow)
        await page.say()

        page.clock.now += 45
        [again] = (await page.chat.say("and?")).call_items
        page.clock.now += 59
        await page.answer(again, None)

        assert ([], 60_000) == (page.failures, again["arguments"]["_expires_in"])

    async def test_the_page_is_told(self, store: Store[Any]) -> None:
        """Beside the receipt the params say when the time is over, and how much of it there is, in milliseconds."""
        page = Page(store, asks(pick(), profiles(agents=[])))

        item = await page.say()
        [other] = (await page.answer(item)).call_items

        told = {name: value for name, value in item["arguments"].items() if name.startswith("_expires")}
        assert {"_expires_at": round(1000 * (START + 60)), "_expires_in": 60_000} == told
        assert {"agents", "_receipt"} == other["arguments"].keys()

    async def test_a_page_without_receipts_is_not_told(self, store: Store[Any]) -> None:
        """Without receipts the params are what the tool has asked for, and the call expires all the same."""
        page = Page(store, asks(pick()), says("Nobody is there."), receipts=False)
        item = await page.say()

        page.clock.now += 60
        reply = await page.chat.answer("red")

        assert {} == item["arguments"]
        assert (["Nobody is there."], [{"error": EXPIRED}]) == (reply.texts, await outputs(page.chat))

    async def test_a_page_that_keeps_the_time_itself(self, store: Store[Any]) -> None:
        """A page that reports in time that the time is over gets what a late one gets: an expired call."""
        page = Page(store, asks(pick()), says("Nobody is there."))
        item = await page.say()

        page.clock.now += 59.9
        reply = await page.chat.answer({"_receipt": item["arguments"]["_receipt"], "error": EXPIRED})

        assert (["Nobody is there."], [{"error": EXPIRED}]) == (reply.texts, await outputs(page.chat))
        assert ([("pick_a_color", "expired")], False) == (page.failures, "notice" in reply.types)

    async def test_without_a_deadline_nothing_is_stored(self) -> None:
        """A call without a deadline costs no more than before: nothing of it is in the plan."""
        store = PlansStore()
        page = Page(store, asks(profiles(agents=[]), profiles(agents=[])))

        await page.say()

        [plan] = store.plans.values()
        assert "expires" not in plan.document

    @pytest.mark.parametrize("time", [timedelta(), -MINUTE, 60])
    def test_a_time_that_is_none(self, time: Any) -> None:
        """What is not a timedelta of more than nothing is refused where the tool is declared."""
        with pytest.raises(UsageError, match="expires_after=timedelta"):
            ClientTool("late", expires_after=time)

    async def test_params_of_that_name(self, caplog: pytest.LogCaptureFixture) -> None:
        """With receipts an argument cannot have the name under which the page is told the time."""

        async def body(server: Scripted, context: AgentContext[Any]) -> AsyncIterator[Any]:
            with pytest.raises(UsageError, match="'_expires_in' is where its receipt goes, or its time"):
                server.sequencer.enqueue(context, ClientToolCall(name="pick_a_color", arguments={"_expires_in": 1}))
            async for event in says("Refused.")(server, context):
                yield event

        page = Page(PlainStore(), body)

        assert ["Refused."] == (await page.chat.say("go")).texts
