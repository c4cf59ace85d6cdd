"""Several workers, and workers that die: what is written, in which order, and who may go on."""

from __future__ import annotations

import asyncio
import gc
import logging
import pickle
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from chatkit.types import ThreadMetadata

from chatkit_clienttools import ClientToolSequencer
from chatkit_clienttools._plan import PlannedCall
from chatkit_clienttools._plans import put_plan_quietly
from chatkit_clienttools._rules import RELEASE_LEASE_SECONDS
from chatkit_clienttools._runs import LEASE_SECONDS, Claims, Run
from chatkit_clienttools._turn import ATTEMPTS
from tests.helpers.conversation import Conversation, at
from tests.helpers.merak import TOOLS, animation, anything, selection
from tests.helpers.stores import OPERATIONS, PlainStore, PlansStore, WatchedStore
from tests.test_sequencer import Scripted, asks, fails, says

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


class Clock:
    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


class SharedLock:
    """A lock by thread id that all workers share, as a database or Redis would give it."""

    def __init__(self) -> None:
        self.locks: dict[str, asyncio.Lock] = {}

    @asynccontextmanager
    async def __call__(self, thread_id: str) -> AsyncIterator[None]:
        async with self.locks.setdefault(thread_id, asyncio.Lock()):
            yield


def two_workers(store: Any, *bodies: Any, **options: Any) -> tuple[Scripted, Scripted, Conversation, Conversation]:
    """Two processes on one store: each has a sequencer of its own; the bodies are run by whoever comes first."""
    shared = list(bodies)
    one = Scripted(store, ClientToolSequencer(TOOLS, **options))
    two = Scripted(store, ClientToolSequencer(TOOLS, **options))
    one.bodies = two.bodies = shared
    return one, two, Conversation(one), Conversation(two)


MODES: list[Any] = [
    pytest.param(PlansStore, dict, id="compare-and-set"),
    pytest.param(PlainStore, lambda: {"lock": SharedLock()}, id="lock"),
]


async def both_answer(one: Conversation, two: Conversation, store: WatchedStore, result: Any = None) -> list[Any]:
    two.thread_id = one.thread_id
    store.take_turns()
    return list(await asyncio.gather(one.answer(result), two.answer(result)))


class TestTwoWorkers:
    @pytest.mark.parametrize(("make", "options"), MODES)
    async def test_one_of_them_releases_the_next_call(self, make: Any, options: Callable[[], dict[str, Any]]) -> None:
        """Two workers that get the same answer release one next call between them."""
        store = WatchedStore(make())
        one, two, chat, other = two_workers(store, asks(anything(n=1), anything(n=2), anything(n=3)), **options())
        await chat.say("go")

        replies = await both_answer(chat, other, store)

        assert [("anything", {"n": 2})] == replies[0].calls + replies[1].calls
        assert [] == replies[0].errors + replies[1].errors
        assert 1 == one.runs + two.runs

    @pytest.mark.parametrize(("make", "options"), MODES)
    async def test_one_of_them_runs_the_model(self, make: Any, options: Callable[[], dict[str, Any]]) -> None:
        """Two workers that get the same last answer run the model once between them."""
        store = WatchedStore(make())
        one, two, chat, other = two_workers(store, asks(selection()), says("done"), says("twice"), **options())
        await chat.say("go")

        replies = await both_answer(chat, other, store, [])

        assert ["done"] == replies[0].texts + replies[1].texts
        assert 2 == one.runs + two.runs

    async def test_without_either_it_is_said_once(self, caplog: pytest.LogCaptureFixture) -> None:
        """Over a store without compare-and-set and lock, a plan of another process is warned about, once."""
        one, _, chat, other = two_workers(PlainStore(), asks(*[anything()] * 4), says("done"))
        await chat.say("go")
        other.thread_id = chat.thread_id

        with caplog.at_level(logging.WARNING, "chatkit_clienttools"):
            await other.answer()
            await other.answer()

        assert 1 == sum("written by another process" in record.getMessage() for record in caplog.records)
        assert one.runs == 1

    async def test_a_contended_plan_is_tried_again(self) -> None:
        """A change that loses against another writer is made again on what that one wrote."""
        store = WatchedStore(PlansStore())
        _, _, chat, _ = two_workers(store, asks(anything(n=1), anything(n=2)))
        meddled = 0

        async def meddle(name: str, args: tuple[Any, ...]) -> None:
            nonlocal meddled
            if name == "save_plan" and meddled < 3:
                meddled += 1
                stored = store.inner.plans.get(args[0])  # type: ignore[attr-defined]
                revision = stored.revision + 1 if stored else 1
                store.inner.plans[args[0]] = args[1]._replace(  # type: ignore[attr-defined]
                    revision=revision, document='{"version":1}'
                )

        store.before = meddle

        assert [("anything", {"n": 1})] == (await chat.say("go")).calls
        assert [("anything", {"n": 2})] == (await chat.answer()).calls

    async def test_a_plan_that_is_always_contended_is_an_error(self) -> None:
        """After many attempts the request ends with an error event that names the thread."""
        store = WatchedStore(PlansStore())
        _, _, chat, _ = two_workers(store, asks(anything()))

        async def never(*args: Any, **kwargs: Any) -> bool:
            return False

        store.save_plan = never  # type: ignore[attr-defined]

        reply = await chat.say("go")

        assert f"was changed by others {ATTEMPTS} times" in reply.errors[0]["message"]


class TestClaims:
    async def test_a_release_of_a_worker_that_died_is_free_after_its_lease(self) -> None:
        """A call claimed by a worker that died is released by another one when the lease is over."""
        store, clock = WatchedStore(PlansStore()), Clock()
        _, two, chat, _ = two_workers(store, asks(anything(n=1), anything(n=2)), clock=clock)
        await chat.say("go")
        gate = store.gate("add_thread_item")
        doomed = asyncio.create_task(chat.answer())
        await gate.reached.wait()
        store.before = None
        thread = await store.load_thread(chat.thread_id or "", None)

        at_once = [event async for event in two.respond(thread, None, None)]
        clock.now += RELEASE_LEASE_SECONDS + 1
        later = [event async for event in two.respond(thread, None, None)]

        assert [] == at_once
        assert [{"n": 2}] == [event.item.arguments for event in later]
        doomed.cancel()
        await asyncio.gather(doomed, return_exceptions=True)

    async def test_a_run_of_a_worker_that_died_is_free_after_its_lease(self) -> None:
        """So is the run after the last answer."""
        store, clock = PlansStore(), Clock()
        stuck = asyncio.Event()

        async def hangs(server: Scripted, context: Any) -> AsyncIterator[Any]:
            stuck.set()
            await asyncio.Event().wait()
            yield

        _, two, chat, _ = two_workers(store, asks(selection()), hangs, says("done"), clock=clock)
        await chat.say("go")
        doomed = asyncio.create_task(chat.answer([]))
        await stuck.wait()
        thread = await store.load_thread(chat.thread_id or "", None)

        at_once = [event async for event in two.respond(thread, None, None)]
        clock.now += LEASE_SECONDS + 1
        later = [event async for event in two.respond(thread, None, None)]

        assert ([], 1) == (at_once, len(later))
        doomed.cancel()
        await asyncio.gather(doomed, return_exceptions=True)

    @pytest.mark.parametrize("make", [PlainStore, PlansStore])
    async def test_a_cancelled_run_is_free_at_once_in_its_own_process(self, make: Any) -> None:
        """A disconnect in the middle of the run after the last answer lets the next request run it again."""
        store = make()
        stuck = asyncio.Event()

        async def hangs(server: Scripted, context: Any) -> AsyncIterator[Any]:
            stuck.set()
            await asyncio.Event().wait()
            yield

        one, _, chat, _ = two_workers(store, asks(selection()), hangs, says("done"))
        await chat.say("go")
        doomed = asyncio.create_task(chat.answer([]))
        await stuck.wait()
        doomed.cancel()
        await asyncio.gather(doomed, return_exceptions=True)
        thread = await store.load_thread(chat.thread_id or "", None)

        assert 1 == len([event async for event in one.respond(thread, None, None)])

    @pytest.mark.parametrize("make", [PlainStore, PlansStore])
    async def test_a_stream_that_nobody_reads_holds_its_claim_for_the_lease(self, make: Any) -> None:
        """A run frozen at its `yield` for ever, still referenced, holds nobody up longer than its lease."""
        store, clock = make(), Clock()
        one, _, chat, _ = two_workers(store, asks(selection()), says("frozen"), says("done"), clock=clock)
        await chat.say("go")
        frozen = chat.stream(chat.answer_request([]))
        while (await anext(frozen))["type"] != "thread.item.done":
            pass
        thread = await store.load_thread(chat.thread_id or "", None)

        at_once = [event async for event in one.respond(thread, None, None)]
        clock.now += LEASE_SECONDS + 1
        later = [event async for event in one.respond(thread, None, None)]

        assert ([], 1) == (at_once, len(later))
        del frozen
        gc.collect()

    async def test_a_failed_run_gives_its_claim_back_to_the_others(self) -> None:
        """When the run after the last answer fails, another worker may run it at once."""
        store = PlansStore()
        _, two, chat, _ = two_workers(store, asks(selection()), fails(), says("done"))
        await chat.say("go")
        await chat.answer([])
        thread = await store.load_thread(chat.thread_id or "", None)

        assert 1 == len([event async for event in two.respond(thread, None, None)])


def test_a_run_whose_stream_is_gone_claims_nothing() -> None:
    """Nobody reads the events of such a run any more: it is not at work."""
    claims = Claims()
    thread = ThreadMetadata(id="thr_1", created_at=at(0))
    a_run, another = (Run(None, thread, max_queued=1, max_bytes=1, clock=lambda: 0.0) for _ in range(2))

    a_call = PlannedCall(name="x", arguments={}, item_id="tc_1", call_id="tc_1", wanted=True, at=0.0)

    claims.take("thr_1", "release", a_call, a_run)

    assert not claims.are_held("thr_1", "release", a_call, 0.0, besides=another)


async def test_a_run_can_be_ended_early() -> None:
    """Closing the events of a run, as a wrapper around `respond` may do, ends it and frees what it has claimed."""
    store = PlainStore()
    one, _, chat, _ = two_workers(store, asks(selection()), says("first"), says("second"))
    await chat.say("go")
    gate_thread = await store.load_thread(chat.thread_id or "", None)
    item = (await chat.items())[-1]
    await store.save_item(gate_thread.id, item.model_copy(update={"status": "completed", "output": []}), None)
    stream: Any = one.respond(gate_thread, None, None)
    await anext(stream)

    await stream.aclose()

    assert 1 == len([event async for event in one.respond(gate_thread, None, None)])


def test_metadata_that_differ_in_the_plan_alone_are_equal() -> None:
    """ChatKit does not save a thread again for the plan; for anything else it does."""
    thread, other = (ThreadMetadata(id="thr_1", created_at=at(0), metadata={"a": 1}) for _ in range(2))
    put_plan_quietly(thread, {"version": 1, "revision": 1})

    assert thread == other
    assert not thread.metadata != other.metadata  # noqa: SIM202  both operators are ours
    assert dict is type(pickle.loads(pickle.dumps(thread.metadata)))  # noqa: S301  our own
    other.metadata["a"] = 2
    assert thread.metadata != other.metadata


class Died(BaseException):
    """The process is gone."""


@pytest.mark.parametrize("make", [PlainStore, PlansStore])
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_death_at_any_store_operation_loses_nothing(make: Any, when: str) -> None:
    """Whatever operation a worker dies at, a new one goes on: no call is stuck, at most one is pending."""
    points = 0
    for point in range(1, 1000):
        store = WatchedStore(make())
        chat, died = await _until_death(store, point, when)
        if not died:
            break
        points += 1
        await _settles(store, chat)

    assert points >= 30


async def _until_death(store: WatchedStore, point: int, when: str) -> tuple[Conversation, bool]:
    """Play a conversation of three calls and a continuation, and die at the given store operation."""
    clock = Clock()
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
        if count == point:
            raise Died

    setattr(store, when, die)
    try:
        await chat.say("go")
        answers: list[Any] = [None, [], None, None]
        for result in answers:
            await chat.answer(result)
    except Died:
        return chat, True
    finally:
        store.before = store.after = None
    return chat, False


async def _settles(store: WatchedStore, chat: Conversation) -> None:
    """With a fresh worker the user writes, and everything that is released is answered: nothing is left."""
    clock = Clock()
    clock.now += LEASE_SECONDS + 1
    server = Scripted(store, ClientToolSequencer(TOOLS, clock=clock), says("recovered"))
    again = Conversation(server, thread_id=chat.thread_id if chat.thread_id in store.inner.threads else None)  # type: ignore[attr-defined]
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
