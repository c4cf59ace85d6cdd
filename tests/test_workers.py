"""Several workers on one store: who goes on, who waits, and for how long."""

from __future__ import annotations

import asyncio
import gc
import logging
from typing import TYPE_CHECKING, Any

import pytest

from chatkit_clienttools import ClientToolSequencer
from chatkit_clienttools._protocol.plan import BODY_SECONDS, CLOCK_SKEW_SECONDS
from chatkit_clienttools._step.step import ATTEMPTS
from tests.helpers.conversation import Conversation
from tests.helpers.merak import TOOLS, animation, anything, selection
from tests.helpers.scripted import Scripted, asks, fails, says, with_receipt
from tests.helpers.stores import OPERATIONS, PlainStore, PlansStore, WatchedStore
from tests.helpers.workers import (
    Clock,
    Died,
    SharedLock,
    Worker,
    abandon,
    clock_that_waits,  # noqa: F401  the fixture `clock`
    on_one_thread,
    saves,
    workers,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

MODES: list[Any] = [
    pytest.param(PlansStore, dict, id="compare-and-set"),
    pytest.param(PlainStore, lambda: {"lock": SharedLock()}, id="lock"),
]
STORES: list[Any] = [pytest.param(PlansStore, id="plans"), pytest.param(PlainStore, id="plain")]


async def both_answer(one: Worker, two: Worker, result: Any = None) -> list[Any]:
    """Post one answer to two workers, so that both requests go on step by step."""
    on_one_thread(one, two)
    one.store.take_turns()
    two.store.take_turns()
    return list(await asyncio.gather(one.chat.answer(result), two.chat.answer(result)))


class TestTwoWorkers:
    @pytest.mark.parametrize(("make", "options"), MODES)
    async def test_one_of_them_releases_the_next_call(
        self, make: Any, options: Callable[[], dict[str, Any]], clock: Clock
    ) -> None:
        """Two workers that get the same answer, with its receipt, release one next call between them."""
        wanted = [anything(n=1), anything(n=2), anything(n=3)]
        one, two = workers(make(), asks(*wanted), receipts=True, clock=clock, **options())
        first = (await one.chat.say("go")).call_items[0]

        replies = await both_answer(one, two, with_receipt(first, "done"))

        assert [] == replies[0].errors + replies[1].errors
        assert ["completed", "pending"] == [status for _, status in await one.chat.calls()]
        assert {(await one.chat.items())[-1].id} == {item["id"] for reply in replies for item in reply.call_items}
        assert 1 == one.server.runs + two.server.runs

    @pytest.mark.parametrize(("make", "options"), MODES)
    async def test_one_of_them_runs_the_model(
        self, make: Any, options: Callable[[], dict[str, Any]], clock: Clock
    ) -> None:
        """Two workers that get the same last answer run the model once between them."""
        one, two = workers(make(), asks(selection()), says("done"), says("twice"), clock=clock, **options())
        await one.chat.say("go")

        replies = await both_answer(one, two, [])

        assert ["done"] == replies[0].texts + replies[1].texts
        assert 2 == one.server.runs + two.server.runs

    @pytest.mark.parametrize(("make", "options"), [*MODES, pytest.param(PlainStore, dict, id="neither")])
    async def test_workers_that_take_turns(
        self, make: Any, options: Callable[[], dict[str, Any]], clock: Clock
    ) -> None:
        """Each request may be served by another worker: the plan is in the store, and none of them waits."""
        bodies = [asks(anything(n=1), selection(), anything(n=3), says="asked"), asks(anything(n=4)), says("done")]
        one, two = workers(make(), *bodies, clock=clock, **options())
        replies = [await one.chat.say("go")]
        on_one_thread(one, two)

        replies += [await worker.chat.answer(["a"]) for worker in (two, one, two, one)]

        assert ["anything", "get_selected_canvas_nodes", "anything", "anything"] == [
            name for reply in replies for name, _ in reply.calls
        ]
        assert [["asked"], [], [], [], ["done"]] == [reply.texts for reply in replies]
        assert 0 == clock.waited

    @pytest.mark.parametrize("second", ["answer", "message", "action", "resume"])
    @pytest.mark.parametrize("first", ["answer", "message", "action", "resume"])
    @pytest.mark.parametrize(("make", "options"), MODES)
    async def test_whatever_they_get_at_once_the_thread_goes_on(
        self, make: Any, options: Callable[[], dict[str, Any]], first: str, second: str, clock: Clock
    ) -> None:
        """Two workers that get two requests at once leave one pending call at most, and it can be answered."""
        bodies = [asks(anything(n=1), animation(state="stop")), *[asks(anything(n=2))] * 2, *[says("ok")] * 9]
        one, two = workers(make(), *bodies, clock=clock, **options())
        await one.chat.say("go")
        on_one_thread(one, two)
        one.store.take_turns()
        two.store.take_turns()

        replies = await asyncio.gather(post(one.chat, first), post(two.chat, second))
        left = await pending(one.chat)
        for _ in range(9):
            if await pending(one.chat):
                await one.chat.answer("ok")

        assert [] == [reply.errors for reply in replies if reply.errors]
        assert left <= 1
        assert 0 == await pending(one.chat)
        assert () == await one.server.sequencer.snapshot(one.store, one.chat.thread_id or "", None)

    async def test_without_either_it_is_said_once(self, caplog: pytest.LogCaptureFixture) -> None:
        """Over a store without plans and without `lock=`, the plan of another process is warned about, once."""
        one, two = workers(PlainStore(), asks(*[anything()] * 4), says("done"))
        await one.chat.say("go")
        on_one_thread(one, two)

        with caplog.at_level(logging.WARNING, "chatkit_clienttools"):
            await two.chat.answer()
            await two.chat.answer()

        assert 1 == sum("written by another process" in record.getMessage() for record in caplog.records)
        assert 1 == one.server.runs

    async def test_a_contended_plan_is_tried_again(self) -> None:
        """A step that loses against another writer is decided again from what that one wrote."""
        [one] = workers(PlansStore(), asks(anything(n=1), anything(n=2)), number=1)
        plans = one.store.inner.plans  # type: ignore[attr-defined]
        meddled = 0

        async def meddle(name: str, args: tuple[Any, ...]) -> None:
            nonlocal meddled
            if name == "save_plan" and meddled < 3 and args[0] in plans:
                meddled += 1
                plans[args[0]] = plans[args[0]]._replace(revision=plans[args[0]].revision + 1)

        one.store.before = meddle

        assert [("anything", {"n": 1})] == (await one.chat.say("go")).calls
        assert [("anything", {"n": 2})] == (await one.chat.answer()).calls
        assert 3 == meddled

    async def test_a_plan_that_is_always_contended_is_an_error(self, caplog: pytest.LogCaptureFixture) -> None:
        """After many attempts the request ends with an error event that says so, and the log names the thread."""
        [one] = workers(PlansStore(), asks(anything()), number=1)

        async def never(*args: Any, **kwargs: Any) -> bool:
            return False

        one.store.save_plan = never  # type: ignore[attr-defined]

        reply = await one.chat.say("go")

        what = f"was changed by others {ATTEMPTS} times"
        assert what in reply.errors[0]["message"]
        assert f"thread {one.chat.thread_id} {what}" in caplog.text


async def post(chat: Conversation, what: str) -> Any:
    """Post one of the requests that may come while a call is pending."""
    match what:
        case "answer":
            return await chat.answer("ok")
        case "message":
            return await chat.say("never mind")
        case "action":
            return await chat.act("press")
    return await chat.act("chatkit_clienttools.resume")


async def pending(chat: Conversation) -> int:
    return [status for _, status in await chat.calls()].count("pending")


class TestTheBodyAfterTheLastAnswer:
    """Who may run it while another worker says that it does."""

    @pytest.mark.parametrize("make", STORES)
    async def test_a_dead_workers_body_is_free_after_a_while(self, make: Any, clock: Clock) -> None:
        """When a worker dies while the model runs, the repeated answer runs it again once its time is over."""
        stuck = asyncio.Event()
        one, two = workers(make(), asks(selection()), hangs(stuck), says("done"), clock=clock)
        doomed = await until_stuck(one, two, stuck)

        at_once = await two.chat.answer([])
        clock.now += BODY_SECONDS + 1
        later = await two.chat.answer([])

        assert ([], ["done"]) == (at_once.texts, later.texts)
        await abandon(doomed)

    @pytest.mark.parametrize(("ahead", "texts"), [(CLOCK_SKEW_SECONDS - 1, []), (3600.0, ["done"])])
    async def test_a_clock_that_is_far_ahead_is_not_believed(self, ahead: float, texts: list[str]) -> None:
        """A body counts as running if its worker's clock is a little ahead, and not if it is an hour ahead."""
        store, stuck, right, wrong = PlansStore(), asyncio.Event(), Clock(), Clock()
        wrong.now += ahead
        bodies = [asks(selection()), hangs(stuck), says("done")]
        [one] = workers(store, number=1, clock=wrong)
        [two] = workers(store, number=1, clock=right)
        one.server.bodies = two.server.bodies = bodies
        doomed = await until_stuck(one, two, stuck)

        assert texts == (await two.chat.answer([])).texts
        await abandon(doomed)

    @pytest.mark.parametrize("make", STORES)
    async def test_a_stream_that_nobody_reads_holds_others_up_for_its_time(self, make: Any, clock: Clock) -> None:
        """A stream that is frozen while the model runs holds nobody up longer than a body's time."""
        one, two = workers(make(), asks(selection()), says("frozen"), says("done"), clock=clock)
        await one.chat.say("go")
        on_one_thread(one, two)
        frozen = one.chat.stream(one.chat.answer_request([]))
        while (await anext(frozen))["type"] != "thread.item.done":
            pass

        at_once = await two.chat.answer([])
        clock.now += BODY_SECONDS + 1
        later = await two.chat.answer([])

        assert ([], ["done"]) == (at_once.texts, later.texts)
        del frozen
        gc.collect()

    @pytest.mark.parametrize("make", STORES)
    async def test_a_body_that_fails_is_free_at_once(self, make: Any, clock: Clock) -> None:
        """When the run after the last answer fails, the repeated answer runs it again, on any worker."""
        one, two = workers(make(), asks(selection()), fails(), says("done"), clock=clock)
        await one.chat.say("go")
        on_one_thread(one, two)
        failed = await one.chat.answer([])

        assert 1 == len(failed.errors)
        assert ["done"] == (await two.chat.answer([])).texts

    @pytest.mark.parametrize("make", STORES)
    async def test_stop_frees_the_body_at_once(self, make: Any, clock: Clock) -> None:
        """When the request of the run after the last answer is cancelled, the repeated answer runs it again."""
        stuck = asyncio.Event()
        one, two = workers(make(), asks(selection()), hangs(stuck), says("done"), clock=clock)
        doomed = await until_stuck(one, two, stuck)
        saved = saves(one.store)

        await abandon(doomed)
        await asyncio.wait_for(saved.wait(), 5)

        assert ["done"] == (await two.chat.answer([])).texts

    @pytest.mark.parametrize("make", STORES)
    async def test_a_lost_connection_frees_the_body(self, make: Any, clock: Clock) -> None:
        """When a stream is dropped while the model runs, the repeated answer runs it again."""
        one, two = workers(make(), asks(selection()), says("half"), says("done"), clock=clock)
        await one.chat.say("go")
        on_one_thread(one, two)
        dropped = one.chat.stream(one.chat.answer_request([]))
        while (await anext(dropped))["type"] != "thread.item.done":
            pass
        saved = saves(one.store)

        del dropped
        gc.collect()
        await asyncio.wait_for(saved.wait(), 5)

        assert ["done"] == (await two.chat.answer([])).texts

    async def test_required_calls_of_a_dead_worker_come_when_its_time_is_over(self, clock: Clock) -> None:
        """Required calls wait for the answer to a message; if its worker dies, a page that resumes gets them."""
        stuck = asyncio.Event()
        one, two = workers(PlansStore(), asks(anything(), animation(state="stop")), hangs(stuck), clock=clock)
        await one.chat.say("go")
        on_one_thread(one, two)
        doomed = asyncio.create_task(one.chat.say("never mind"))
        await stuck.wait()

        at_once = await two.chat.act("chatkit_clienttools.resume")
        clock.now += BODY_SECONDS + 1
        later = await two.chat.act("chatkit_clienttools.resume")

        assert ([], [("run_search_animation", {"state": "stop"})]) == (at_once.calls, later.calls)
        await abandon(doomed)


def hangs(stuck: asyncio.Event) -> Any:
    """A body that never ends."""

    async def body(server: Scripted, context: Any) -> AsyncIterator[Any]:
        stuck.set()
        await asyncio.Event().wait()
        yield

    return body


async def until_stuck(one: Worker, two: Worker, stuck: asyncio.Event) -> asyncio.Task[Any]:
    """Let the first worker hang in the run after the last answer."""
    await one.chat.say("go")
    on_one_thread(one, two)
    doomed = asyncio.create_task(one.chat.answer([]))
    await stuck.wait()
    return doomed


@pytest.mark.parametrize("make", STORES)
async def test_a_death_after_the_first_item_loses_no_later_call(make: Any, clock: Clock) -> None:
    """A worker that dies right after it has written the first of three calls has written the plan of the others."""
    one, two = workers(make(), asks(anything(n=1), anything(n=2), anything(n=3)), says("done"), clock=clock)

    async def die(name: str, args: tuple[Any, ...]) -> None:
        if name == "add_thread_item" and args[1].type == "client_tool_call":
            one.store.before = die_too
            raise Died

    async def die_too(name: str, args: tuple[Any, ...]) -> None:
        raise Died

    one.store.after = die
    with pytest.raises(Died):
        await one.chat.say("go")
    on_one_thread(one, two)
    replies = [await two.chat.answer() for _ in range(3)]

    assert [("anything", "completed")] * 3 == await two.chat.calls()
    assert [[], [], []] == [reply.errors for reply in replies]
    assert ["done"] == replies[-1].texts


@pytest.mark.parametrize("make", STORES)
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_death_at_any_store_operation_loses_nothing(make: Any, when: str, clock: Clock) -> None:
    """Whatever operation a worker dies at, a new one goes on: no call is stuck, at most one is pending."""
    points = 0
    for point in range(1, 1000):
        store = WatchedStore(make())
        chat, died = await _until_death(store, point, when, clock)
        if not died:
            break
        points += 1
        await _settles(store.inner, chat, clock)

    assert points >= 30


async def _until_death(store: WatchedStore, point: int, when: str, clock: Clock) -> tuple[Conversation, bool]:
    """Play a conversation of three calls and a continuation, and die at the given store operation."""
    server = Scripted(
        store,
        ClientToolSequencer(TOOLS, clock=clock),
        asks(anything(n=1), selection(), animation(state="stop"), says="asked"),
        asks(anything(n=2), says="asked again"),
        says("done"),
    )
    chat = Conversation(server)
    count = 0

    async def die(name: str, args: tuple[Any, ...]) -> None:
        nonlocal count
        assert name in OPERATIONS
        count += 1
        if count >= point:
            raise Died

    setattr(store, when, die)
    try:
        await chat.say("go")
        answers: list[Any] = [None, [], None, None]
        for result in answers:
            await chat.answer(result)
    except Died:
        return chat, True
    return chat, False


async def _settles(store: Any, chat: Conversation, clock: Clock) -> None:
    """With a fresh worker the user writes, and everything that is released is answered: nothing is left."""
    clock.now += BODY_SECONDS + 1
    server = Scripted(store, ClientToolSequencer(TOOLS, clock=clock), says("recovered"))
    again = Conversation(server, thread_id=chat.thread_id if chat.thread_id in store.threads else None)
    reply = await again.say("hello?")
    assert ["recovered"] == reply.texts
    rounds = 0
    while reply.calls:
        rounds += 1
        assert 1 == len(reply.calls)
        assert rounds < 8
        reply = await again.answer()
    assert [] == reply.errors
    assert "pending" not in [status for _, status in await again.calls()]
    assert () == await server.sequencer.snapshot(store, again.thread_id or "", None)
