"""What keeps the steps of two workers apart in a store with plans: leases, which run out and are given back."""

from __future__ import annotations

import asyncio
import logging
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import pytest

from chatkit_clienttools._step.exclusion import LEASE_SECONDS, LONGEST_PAUSE_SECONDS
from chatkit_clienttools._step.plans import StoredPlan
from chatkit_clienttools.errors import LifecycleViolationError
from chatkit_clienttools.stores import MemoryStore
from tests.helpers.merak import animation, anything, selection
from tests.helpers.scripted import asks, fails, says, with_receipt
from tests.helpers.server import lines, outputs
from tests.helpers.stores import PlainStore, PlansStore, WatchedStore
from tests.helpers.workers import (
    Clock,
    SharedLock,
    Worker,
    abandon,
    clock_that_waits,  # noqa: F401  the fixture `clock`
    fail_once,
    on_one_thread,
    saves,
    stored_plan,
    workers,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from chatkit_clienttools import LifecycleEvent

RESUME = "chatkit_clienttools.resume"


async def answering(one: Worker, two: Worker) -> Any:
    """Let the first worker release a call of two and return the answer to it, as a page with receipts posts it."""
    item = (await one.chat.say("go")).call_items[0]
    on_one_thread(one, two)
    return with_receipt(item, "ok")


class TestAWorkerThatDiesWhileItWrites:
    @pytest.mark.parametrize(
        ("operation", "nth"), [("save_item", 1), ("add_thread_item", 1), ("save_plan", 2)], ids=lambda value: value
    )
    @pytest.mark.parametrize("make", [PlansStore, MemoryStore])
    async def test_it_holds_the_others_up_for_the_time_of_a_lease(
        self, make: Any, operation: str, nth: int, clock: Clock
    ) -> None:
        """The repeated answer waits for the dead worker's lease, and then the thread goes on; nothing is doubled."""
        one, two = workers(make(), asks(anything(n=1), anything(n=2)), receipts=True, clock=clock)
        answer = await answering(one, two)
        reached = one.dies_at(operation, nth)
        doomed = asyncio.create_task(one.chat.answer(answer))
        await reached.wait()

        reply = await two.chat.answer(answer)

        assert [2] == [arguments["n"] for _, arguments in reply.calls]
        assert LEASE_SECONDS <= clock.waited <= LEASE_SECONDS + LONGEST_PAUSE_SECONDS
        assert [("anything", "completed"), ("anything", "pending")] == await two.chat.calls()
        await abandon(doomed)

    @pytest.mark.parametrize("ahead", [3600.0, -3600.0], ids=["ahead", "behind"])
    async def test_the_clock_of_the_dead_worker_does_not_matter(self, ahead: float, clock: Clock) -> None:
        """A lease runs out for those who see it unchanged, whatever time it was for the worker that took it."""
        store, wrong = PlansStore(), Clock()
        wrong.now += ahead
        [one] = workers(store, asks(anything(n=1), anything(n=2)), number=1, receipts=True, clock=wrong)
        [two] = workers(store, number=1, receipts=True, clock=clock)
        answer = await answering(one, two)
        reached = one.dies_at("add_thread_item")
        doomed = asyncio.create_task(one.chat.answer(answer))
        await reached.wait()

        reply = await two.chat.answer(answer)

        assert [2] == [arguments["n"] for _, arguments in reply.calls]
        assert LEASE_SECONDS <= clock.waited <= LEASE_SECONDS + LONGEST_PAUSE_SECONDS
        await abandon(doomed)

    async def test_a_message_waits_no_longer(self, clock: Clock) -> None:
        """A new message is answered once the dead worker's lease is over, and required calls go out after it."""
        one, two = workers(PlansStore(), asks(anything(), animation(state="stop")), says("ok"), clock=clock)
        await one.chat.say("go")
        on_one_thread(one, two)
        reached = one.dies_at("add_thread_item")
        doomed = asyncio.create_task(one.chat.answer())
        await reached.wait()

        reply = await two.chat.say("never mind")

        assert (["ok"], [("run_search_animation", {"state": "stop"})]) == (reply.texts, reply.calls)
        assert clock.waited <= LEASE_SECONDS + LONGEST_PAUSE_SECONDS
        await abandon(doomed)

    async def test_with_a_lock_there_is_none(self, clock: Clock) -> None:
        """With `lock=` a step takes no lease: when the lock of a dead worker is free, nobody waits any longer."""
        one, two = workers(
            PlansStore(), says("hi"), asks(anything()), lock=lambda _: nullcontext(), receipts=True, clock=clock
        )
        await one.chat.say("hello")
        on_one_thread(one, two)
        reached = one.dies_at("add_thread_item")
        doomed = asyncio.create_task(one.chat.act("more"))
        await reached.wait()

        reply = await two.chat.act(RESUME)

        assert ["anything"] == [name for name, _ in reply.calls]
        assert 0 == clock.waited
        await abandon(doomed)

    async def test_in_its_own_process_a_lock_keeps_steps_apart(self, clock: Clock) -> None:
        """A worker does not wait for a lease of its own: what it wrote under it is over when its lock is free."""
        store = PlansStore()
        [one] = workers(store, asks(anything(n=1), anything(n=2)), number=1, receipts=True, clock=clock)
        answer = with_receipt((await one.chat.say("go")).call_items[0], "ok")
        await hold(store, one.chat.thread_id, one.server.sequencer.rules.holder)

        reply = await one.chat.answer(answer)

        assert [2] == [arguments["n"] for _, arguments in reply.calls]
        assert 0 == clock.waited


async def hold(store: PlansStore, thread_id: str | None, worker: str) -> None:
    """Write a lease of a worker into the plan of a thread."""
    plan = (await stored_plan(store, thread_id)).but(lease=worker)
    revision = store.plans[thread_id or ""].revision + 1
    store.plans[thread_id or ""] = StoredPlan(revision, plan.to_text())


class TestAWorkerThatIsAtWork:
    async def test_it_is_waited_for(self, clock: Clock) -> None:
        """A request that meets another worker's step waits until it has ended, and goes on from what it has done."""
        one, two = workers(PlansStore(), asks(anything(n=1), anything(n=2)), receipts=True, clock=clock)
        answer = await answering(one, two)
        gate = one.store.gate("add_thread_item")
        first = asyncio.create_task(one.chat.answer(answer))
        await gate.reached.wait()
        clock.on_wait = gate.open.set

        second = await two.chat.answer(answer)

        assert 0 < clock.waited < 1
        assert (await first).call_items == second.call_items
        assert [("anything", "completed"), ("anything", "pending")] == await two.chat.calls()

    async def test_each_step_of_it_has_the_whole_time(self, clock: Clock) -> None:
        """A lease that changes while it is watched is another one: its time begins anew."""
        store = PlansStore()
        one, two = workers(store, asks(anything(n=1), anything(n=2)), receipts=True, clock=clock)
        answer = await answering(one, two)
        thread_id = one.chat.thread_id or ""
        await hold(store, thread_id, "another")

        def step_again() -> None:
            if 5 <= clock.waited < 6:
                store.plans[thread_id] = store.plans[thread_id]._replace(revision=store.plans[thread_id].revision + 1)

        clock.on_wait = step_again
        reply = await two.chat.answer(answer)

        assert [2] == [arguments["n"] for _, arguments in reply.calls]
        assert 5 + LEASE_SECONDS <= clock.waited <= 6 + LEASE_SECONDS + 2 * LONGEST_PAUSE_SECONDS

    @pytest.mark.parametrize("make", [PlansStore, MemoryStore])
    async def test_it_stops_writing_when_its_lease_is_over(self, make: Any, clock: Clock) -> None:
        """A step that took longer than its lease writes nothing more, and goes on from what others have written."""
        events: list[LifecycleEvent] = []
        one, two = workers(
            make(), asks(anything(n=1), anything(n=2)), receipts=True, clock=clock, observers=[events.append]
        )
        answer = await answering(one, two)
        is_slow, go_on = asyncio.Event(), asyncio.Event()

        async def slow(name: str, args: tuple[Any, ...]) -> None:
            if name == "save_item" and not go_on.is_set():
                is_slow.set()
                await go_on.wait()

        one.store.after = slow
        first = asyncio.create_task(one.chat.answer(answer))
        await is_slow.wait()

        second = await two.chat.answer(answer)
        go_on.set()
        late = await first

        assert [] == late.errors + second.errors
        assert [("anything", "completed"), ("anything", "pending")] == await two.chat.calls()
        assert {(await two.chat.items())[-1].id} == {item["id"] for item in late.call_items + second.call_items}
        steps = [(event.call_id, event.state.value) for event in events]
        assert len(set(steps)) == len(steps)

    @pytest.mark.parametrize(
        ("make", "options", "seconds", "reads"),
        [
            (PlansStore, dict, LEASE_SECONDS - 1, 1),
            (PlansStore, dict, LEASE_SECONDS, 2),
            (PlansStore, lambda: {"lock": SharedLock()}, 60, 1),
            (PlainStore, dict, 60, 1),
        ],
        ids=["in time", "in the end", "with a lock", "without plans"],
    )
    async def test_a_step_that_takes_long(
        self, make: Any, options: Callable[[], dict[str, Any]], seconds: float, reads: int, clock: Clock
    ) -> None:
        """A step is begun again from what is there when its lease is over; one that needs no lease takes its time."""
        [one] = workers(make(), asks(anything(n=1), anything(n=2)), number=1, clock=clock, **options())
        await one.chat.say("go")

        async def slow(name: str, args: tuple[Any, ...]) -> None:
            clock.now += seconds * (name == "save_item")

        one.store.after = slow
        one.store.counts.clear()
        reply = await one.chat.answer()

        assert [2] == [arguments["n"] for _, arguments in reply.calls]
        assert reads == one.store.counts["load_thread_items"]

    async def test_an_answer_that_takes_long(self, clock: Clock) -> None:
        """An answer is not lost if the lease of its step is over before it was written."""
        [one] = workers(PlansStore(), asks(anything(n=1), anything(n=2)), says("ok"), number=1, clock=clock)
        await one.chat.say("go")
        [*_, late] = await one.chat.items()
        await one.chat.act(RESUME)
        await one.chat.touch(late)

        async def slow(name: str, args: tuple[Any, ...]) -> None:
            clock.now += LEASE_SECONDS * (name == "delete_thread_item")

        one.store.after = slow
        reply = await one.chat.answer("the answer")

        assert [2] == [arguments["n"] for _, arguments in reply.calls]
        assert ["the answer", None] == await outputs(one.chat)


class TestWhatIsGivenBack:
    """After a request that has ended, well or not, the next one waits for nobody."""

    @pytest.mark.parametrize("what", ["answer", "last answer", "message", "action", "resume", "retry", "cancel"])
    @pytest.mark.parametrize(
        ("make", "options"),
        [(PlansStore, dict), (MemoryStore, dict), (PlainStore, dict), (PlainStore, lambda: {"lock": SharedLock()})],
        ids=["plans", "memory", "plain", "plain with a lock"],
    )
    async def test_after_a_good_end_nothing_is_held(
        self, make: Any, options: Callable[[], dict[str, Any]], what: str, clock: Clock
    ) -> None:
        """A request that has ended well leaves no lease and no running body, and the next one does not wait."""
        store = make()
        bodies = [asks(selection(), animation(state="stop")), *[says("ok")] * 5]
        one, two = workers(store, *bodies, clock=clock, **options())
        await one.chat.say("go")
        on_one_thread(one, two)

        match what:
            case "answer":
                await one.chat.answer([])
            case "last answer":
                await one.chat.answer([])
                await one.chat.answer()
            case "message":
                await one.chat.say("never mind")
            case "retry":
                await one.chat.retry((await one.chat.items())[0].id)
            case "cancel":
                await one.server.sequencer.cancel(one.server.store, one.chat.thread_id or "", None)
            case _:
                await one.chat.act("press" if what == "action" else RESUME)
        plan = await stored_plan(one.server.store, one.chat.thread_id)
        await two.chat.say("hello?")

        assert (None, None) == (plan.lease, plan.body)
        assert 0 == clock.waited

    @pytest.mark.parametrize("operation", ["save_item", "add_thread_item"])
    @pytest.mark.fails
    async def test_a_store_that_fails_in_mid_step(self, operation: str, clock: Clock) -> None:
        """When the store fails while a step writes, the lease is given back, and the request can be repeated."""
        store = PlansStore()
        one, two = workers(store, asks(anything(n=1), anything(n=2)), receipts=True, clock=clock)
        answer = await answering(one, two)
        fail_once(one.store, operation)
        failed = await one.chat.answer(answer)

        plan = await stored_plan(store, one.chat.thread_id)
        repeated = await two.chat.answer(answer)

        assert 1 == len(failed.errors)
        assert None is plan.lease
        assert [2] == [arguments["n"] for _, arguments in repeated.calls]
        assert 0 == clock.waited

    @pytest.mark.parametrize("operation", ["delete_thread_item", "add_thread_item"])
    @pytest.mark.parametrize("make", [PlansStore, PlainStore])
    @pytest.mark.fails
    async def test_a_store_that_fails_while_a_call_is_sent_again(self, make: Any, operation: str, clock: Clock) -> None:
        """When a resume fails half way, the answer to the call that it took back sends that call again."""
        one, two = workers(make(), asks(anything(n=1), anything(n=2)), receipts=True, clock=clock)
        answer = await answering(one, two)
        fail_once(one.store, operation)
        failed = await one.chat.act(RESUME)

        again = await two.chat.answer(answer)
        last = await two.chat.answer(answer)

        assert 1 == len(failed.errors)
        assert [[1], [2]] == [[arguments["n"] for _, arguments in reply.calls] for reply in (again, last)]
        assert 0 == clock.waited

    @pytest.mark.fails
    async def test_a_store_that_fails_before_the_model_runs(self, clock: Clock) -> None:
        """A request that fails when its run is in the plan already takes that back: it has not run anything."""
        store = PlansStore()
        [one] = workers(store, asks(selection()), number=1, clock=clock)
        await one.chat.say("go")
        fail_once(one.store, "save_item")

        failed = await one.chat.answer([])

        plan = await stored_plan(store, one.chat.thread_id)
        assert (1, None, None) == (len(failed.errors), plan.lease, plan.body)

    @staticmethod
    def refuse(store: WatchedStore, operation: str) -> None:
        """Let a store refuse an operation, whenever it is asked for."""

        async def refuse(name: str, args: tuple[Any, ...]) -> None:
            if name == operation:
                raise LifecycleViolationError(args[0], "tc", "c", was="this", becomes="that", cure="Do not.")

        store.before = refuse

    async def test_a_store_that_refuses_a_call_for_good(self, caplog: pytest.LogCaptureFixture) -> None:
        """When the store refuses a call again and again, the request ends with that error, and nothing is held."""
        store = PlansStore()
        [one] = workers(store, says("hi"), asks(anything()), number=1)
        await one.chat.say("hello")
        self.refuse(one.store, "add_thread_item")

        failed = await one.chat.act("more")

        plan = await stored_plan(store, one.chat.thread_id)
        assert (1, None, None) == (len(failed.errors), plan.lease, plan.body)
        assert "client tool call c (item tc): this -> that is not allowed. Do not." in lines(caplog)[-1][1]

    async def test_a_store_that_refuses_to_delete_one(self) -> None:
        """When the store refuses what the application asks for, that error is raised, and nothing is held."""
        store = PlansStore()
        [one] = workers(store, asks(anything()), number=1)
        await one.chat.say("go")
        self.refuse(one.store, "delete_thread_item")

        with pytest.raises(LifecycleViolationError):
            await one.server.sequencer.cancel(one.store, one.chat.thread_id or "", None)

        assert None is (await stored_plan(store, one.chat.thread_id)).lease

    async def test_an_item_that_was_written_too_late(self, clock: Clock) -> None:
        """Nothing is held by the step that deletes a call which appears after it was cancelled."""
        store = PlansStore()
        [one] = workers(store, asks(anything()), *[says("ok")] * 2, number=1, clock=clock)
        await one.chat.say("go")
        [*_, late] = await one.chat.items()
        await one.chat.say("never mind")
        await one.chat.touch(late)

        await one.chat.act("press")

        assert [] == await one.chat.calls()
        assert None is (await stored_plan(store, one.chat.thread_id)).lease

    async def test_a_store_that_is_away_altogether(self, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
        """When the lease cannot be given back either, the log says so, and the lease runs out."""
        one, two = workers(PlansStore(), asks(anything(n=1), anything(n=2)), receipts=True, clock=clock)
        answer = await answering(one, two)
        away = False

        async def go_away(name: str, args: tuple[Any, ...]) -> None:
            nonlocal away
            away = away or name == "save_item"
            if away:
                raise ConnectionError

        one.store.before = go_away
        with caplog.at_level(logging.WARNING, "chatkit_clienttools"):
            failed = await one.chat.answer(answer)
        reply = await two.chat.answer(answer)

        assert 1 == len(failed.errors)
        assert f"thread {one.chat.thread_id}: the lease of a failed step stays (ConnectionError)" in caplog.messages
        assert [2] == [arguments["n"] for _, arguments in reply.calls]
        assert LEASE_SECONDS <= clock.waited <= LEASE_SECONDS + LONGEST_PAUSE_SECONDS

    @pytest.mark.fails
    async def test_a_body_that_fails_after_it_has_asked(self, clock: Clock) -> None:
        """A body that fails leaves neither its calls nor a lease."""
        store = PlansStore()
        one, two = workers(store, fails(anything()), says("ok"), clock=clock)
        await one.chat.say("go")
        on_one_thread(one, two)

        plan = await stored_plan(store, one.chat.thread_id)

        assert (0, None, None) == (len(plan.calls), plan.lease, plan.body)
        assert ["ok"] == (await two.chat.say("again")).texts
        assert 0 == clock.waited


class TestARequestThatIsCancelled:
    @pytest.mark.parametrize("operation", ["save_plan", "save_item", "add_thread_item"])
    async def test_its_step_runs_to_its_end(self, operation: str, clock: Clock) -> None:
        """The step of a request that is cancelled while it writes is carried out as a whole, by itself."""
        store = PlansStore()
        one, two = workers(store, asks(anything(n=1), anything(n=2)), receipts=True, clock=clock)
        answer = await answering(one, two)
        gate, done = one.store.gate(operation), saves(one.store, nth=2)
        request = asyncio.create_task(one.chat.answer(answer))
        await gate.reached.wait()

        await abandon(request)
        gate.open.set()
        await asyncio.wait_for(done.wait(), 5)

        assert [("anything", "completed"), ("anything", "pending")] == await two.chat.calls()
        assert None is (await stored_plan(store, one.chat.thread_id)).lease
        assert [2] == [arguments["n"] for _, arguments in (await two.chat.answer(answer)).calls]
        assert 0 == clock.waited

    @pytest.mark.parametrize("make", [PlansStore, PlainStore])
    async def test_a_page_that_resumes_waits_for_it(self, make: Any, clock: Clock) -> None:
        """In one process the next request waits for the step of a cancelled one, and shows what that has released."""
        [one] = workers(make(), asks(anything(n=1), anything(n=2)), number=1, clock=clock)
        await one.chat.say("go")
        gate = one.store.gate("add_thread_item")
        request = asyncio.create_task(one.chat.answer())
        await gate.reached.wait()
        await abandon(request)

        resumed = asyncio.create_task(one.chat.act(RESUME))
        gate.open.set()

        assert [2] == [arguments["n"] for _, arguments in (await resumed).calls]
        assert [("anything", "completed"), ("anything", "pending")] == await one.chat.calls()
