"""Two processes on one database: each with its own engine, server and sequencer, doing the same at the same moment."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import warnings
from typing import TYPE_CHECKING, Any

import pytest

from chatkit_clienttools import ClientToolSequencer
from chatkit_clienttools.errors import LifecycleViolationError
from tests.helpers.conversation import Conversation
from tests.helpers.merak import TOOLS, selection
from tests.helpers.scripted import Scripted, asks, says
from tests.stores.values import ADA, answered, call, filled, item_ids, note, thread

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from multiprocessing.connection import Connection

    from tests.helpers.databases import Place

pytestmark = pytest.mark.long

ROUNDS = int(os.environ.get("STORE_ROUNDS", "60"))
"""How many acknowledgements are posted twice; `STORE_ROUNDS=1000` for the whole thousand."""

IDLE_SECONDS = 60
"""How long a worker waits for the other one before it takes it for dead."""

WORKERS = 2


class Meeting:
    """Where the workers meet: everybody starts a round together, and can wait for another one to be through."""

    def __init__(self, start: Any, through: Any) -> None:
        self.start = start
        self.through = through

    def begin(self) -> None:
        self.start.wait(IDLE_SECONDS)

    async def another_is_through(self) -> None:
        assert await asyncio.to_thread(self.through.acquire, True, IDLE_SECONDS)


def serve(jobs: Connection, start: Any, through: Any) -> None:
    """What a worker process does: one job after the other."""
    warnings.simplefilter("ignore")
    while True:
        job, place, arguments = jobs.recv()
        if job is None:
            return
        try:
            jobs.send(asyncio.run(job(place, Meeting(start, through), arguments)))
        except BaseException as error:  # noqa: BLE001  the test is told
            jobs.send(error)


class Workers:
    """Two processes that do the same."""

    def __init__(self) -> None:
        spawn = multiprocessing.get_context("spawn")
        self.meeting = spawn.Barrier(WORKERS), spawn.Semaphore(0)
        pipes = [spawn.Pipe() for _ in range(WORKERS)]
        self.jobs = [ours for ours, _ in pipes]
        self.processes = [spawn.Process(target=serve, args=(theirs, *self.meeting)) for _, theirs in pipes]
        for process in self.processes:
            process.start()

    async def both(self, job: Callable[[Place, Meeting, Any], Awaitable[Any]], place: Place, arguments: Any) -> Any:
        """Let both do a job, and return what each has found."""
        for jobs in self.jobs:
            jobs.send((job, place, arguments))
        found = [await asyncio.to_thread(jobs.recv) for jobs in self.jobs]
        for result in found:
            if isinstance(result, BaseException):
                raise result
        return found

    def stop(self) -> None:
        for jobs, process in zip(self.jobs, self.processes, strict=True):
            jobs.send((None, None, None))
            process.join(IDLE_SECONDS)
            process.kill()
            jobs.close()


@pytest.fixture(scope="module")
def workers() -> Iterator[Workers]:
    made = Workers()
    yield made
    made.stop()


async def acknowledge(place: Place, meeting: Meeting, threads: list[str]) -> list[tuple[int, str]]:
    """Post the answer to the call of every thread, each together with the other worker; tell runs and errors."""
    store = place.store()
    await store.load_threads(1, None, "desc", ADA)

    async def answers(server: Any, context: Any) -> AsyncIterator[Any]:
        # a model takes longer than the other request: that one is through before this run is over
        await meeting.another_is_through()
        async for event in says("done")(server, context):
            yield event

    outcomes = []
    for thread_id in threads:
        server, error = Scripted(store, ClientToolSequencer(TOOLS), answers), ""
        meeting.begin()
        try:
            await Conversation(server, ADA, thread_id).answer(["a"])
        except ValueError as refused:  # ChatKit's own, for who reads after the winner has written
            error = str(refused)
        if not server.runs:
            meeting.through.release()
        outcomes.append((server.runs, error))
    await store.close()
    return outcomes


async def test_the_same_acknowledgement_at_the_same_moment(shared: Place, workers: Workers) -> None:
    """Each time one of two workers wins: the model runs once, and no item is doubled."""
    store = shared.store()
    await store.create_schema()
    threads = []
    for _ in range(ROUNDS):
        chat = Conversation(Scripted(store, ClientToolSequencer(TOOLS), asks(selection())), ADA)
        await chat.say("go")
        threads.append(chat.thread_id or "")

    one, two = await workers.both(acknowledge, shared, threads)

    for winner, loser in (sorted(round_, reverse=True) for round_ in zip(one, two, strict=True)):
        assert (1, "") == winner
        assert 0 == loser[0]
        assert not loser[1] or "was not a ClientToolCallItem" in loser[1]
    for thread_id in threads:
        items = (await store.load_thread_items(thread_id, None, 100, "asc", ADA)).data
        assert ["user_message", "client_tool_call", "assistant_message"] == [item.type for item in items]
        assert [("completed", ["a"])] == [(i.status, i.output) for i in items if i.type == "client_tool_call"]
    await store.close()


async def answer_differently(place: Place, meeting: Meeting, threads: list[str]) -> list[bool]:
    """Without a sequencer: give an answer of one's own to every pending call, and add an item."""
    store = place.store()
    await store.load_threads(1, None, "desc", ADA)
    won = []
    for thread_id in threads:
        meeting.begin()
        try:
            await store.save_item(thread_id, answered(call(), os.getpid()), ADA)
        except LifecycleViolationError:
            won.append(False)
        else:
            won.append(True)
        await store.add_thread_item(thread_id, note(f"i{os.getpid()}"), ADA)
    await store.close()
    return won


async def test_two_answers_at_the_same_moment(shared: Place, workers: Workers) -> None:
    """Two different answers to a call: the database takes one, whichever, and says no to the other."""
    store = shared.store()
    await store.create_schema()
    threads = [f"t{n}" for n in range(20)]
    for name in threads:
        await store.save_thread(thread(name), ADA)
        await store.add_thread_item(name, call(), ADA)

    one, two = await workers.both(answer_differently, shared, threads)

    assert [{True, False}] * 20 == [{a, b} for a, b in zip(one, two, strict=True)]
    assert [3] * 20 == [len(set(await item_ids(store, ADA, name))) for name in threads]
    await store.close()


async def start(place: Place, meeting: Meeting, prefixes: list[str]) -> int:
    """Start, again and again: make the tables, and serve."""
    for prefix in prefixes:
        store = place._replace(prefix=prefix).store()
        meeting.begin()
        await store.create_schema()
        await filled(store)
        await store.add_thread_item("thr", note(f"i{os.getpid()}"), ADA)
        await store.close()
    return os.getpid()


async def test_two_workers_that_start_at_the_same_moment(shared: Place, workers: Workers) -> None:
    """Two processes that make the tables of one database at once both succeed, and what both write is there."""
    prefixes = [shared.prefix, *(f"{shared.prefix}{n}_" for n in range(4))]

    pids = await workers.both(start, shared, prefixes)

    for prefix in prefixes:
        store = shared._replace(prefix=prefix).store()
        assert {f"i{pid}" for pid in pids} == set(await item_ids(store))
        async with store._database.engine.begin() as connection:
            await connection.run_sync(store._tables.metadata.drop_all)
        await store.close()


async def count(place: Place, meeting: Meeting, times: int) -> None:
    """Count in a place that nothing else protects, holding the lock of a thread."""
    store = place.store()
    await store.load_threads(1, None, "desc", ADA)
    meeting.begin()
    for _ in range(times):
        async with store.thread_lock("thr"):
            found = await store.load_thread("thr", ADA)
            found.metadata["n"] += 1
            await store.save_thread(found, ADA)
    await store.close()


async def test_one_process_at_a_time_holds_a_lock(shared: Place, workers: Workers) -> None:
    """What is read, changed and written by two processes under the lock of a thread loses no change."""
    store = shared.store()
    await store.create_schema()
    await store.save_thread(thread(n=0), ADA)

    await workers.both(count, shared, 25)

    assert 25 * WORKERS == (await store.load_thread("thr", ADA)).metadata["n"]
    await store.close()


async def test_a_lock_goes_with_its_process(shared: Place) -> None:
    """A worker that is killed while it holds a lock holds it no longer."""
    spawn = multiprocessing.get_context("spawn")
    held = spawn.Event()
    process = spawn.Process(target=holder, args=(shared, held))
    process.start()
    assert await asyncio.to_thread(held.wait, IDLE_SECONDS)
    process.kill()
    await asyncio.to_thread(process.join)
    store = shared.store()

    async with store.thread_lock("thr"):
        pass
    await store.close()


def holder(place: Place, held: Any) -> None:
    """A worker that takes a lock and keeps it."""

    async def hold() -> None:
        async with place.store().thread_lock("thr"):
            held.set()
            await asyncio.Event().wait()

    asyncio.run(hold())
