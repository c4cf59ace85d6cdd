"""`SQLStore` when something goes wrong: a statement, a connection, a lock, the whole server."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sqlite3
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil  # type: ignore[import-untyped]
import pytest
import pytest_asyncio
from sqlalchemy import event, select, text
from sqlalchemy.exc import OperationalError, ProgrammingError
from sqlalchemy.util import await_only

from chatkit_clienttools._step.plans import StoredPlan
from chatkit_clienttools.errors import StoreUnavailableError
from chatkit_clienttools.stores.sql import SQLStore
from tests.helpers.databases import Place, a_place, start_postgres, turns_until
from tests.stores.rules import FORGED, SHOWN
from tests.stores.values import ADA, answered, attachment, call, filled, item_ids, note, thread

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

WRITES: dict[str, Any] = {
    "create a thread": lambda store: store.save_thread(thread("new"), ADA),
    "save a thread": lambda store: store.save_thread(thread(title="renamed"), ADA),
    "add an item": lambda store: store.add_thread_item("thr", note("new"), ADA),
    "change an item": lambda store: store.save_item("thr", note("i1", "changed"), ADA),
    "answer a call": lambda store: store.save_item("thr", answered(call()), ADA),
    "delete an item": lambda store: store.delete_thread_item("thr", "i1", ADA),
    "delete a thread": lambda store: store.delete_thread("thr", ADA),
    "save an attachment": lambda store: store.save_attachment(attachment("new", "thr"), ADA),
    "delete an attachment": lambda store: store.delete_attachment("atc", ADA),
    "save a first plan": lambda store: store.save_plan("other", StoredPlan(1, ""), 0, ADA),
    "save the next plan": lambda store: store.save_plan("thr", StoredPlan(2, ""), 1, ADA),
}


@pytest_asyncio.fixture
async def full(store: SQLStore[Any]) -> SQLStore[Any]:
    """A store with something in every table."""
    await filled(store, note("i1"), call())
    await store.save_thread(thread("other"), ADA)
    await store.save_attachment(attachment("atc", "thr"), ADA)
    await store.save_plan("thr", StoredPlan(1, ""), 0, ADA)
    return store


async def everything(store: SQLStore[Any]) -> dict[str, list[Any]]:
    """Every row of every table."""
    async with store._database.engine.connect() as connection:
        tables = store._tables.metadata.sorted_tables
        rows = {table.name: sorted((await connection.execute(select(table))).all(), key=repr) for table in tables}
        await connection.rollback()
    return rows


class Faults:
    """Lets something happen at the nth statement, the commit being one."""

    def __init__(self, store: SQLStore[Any], fault: Callable[[Any], None]) -> None:
        self.left = 0
        self.fault = fault
        engine = store._database.engine.sync_engine
        event.listen(engine, "before_cursor_execute", lambda connection, *more: self.count(connection))
        event.listen(engine, "commit", self.count)

    def count(self, connection: Any) -> None:
        self.left -= 1
        if self.left == 0:
            self.fault(connection)


def is_full(_: Any) -> None:
    raise OSError(28, "No space left on device")


async def failed_everywhere(store: SQLStore[Any], faults: Faults, name: str) -> int:
    """Let a write fail at each of its statements in turn until it succeeds; after each failure all is as it was."""
    before = await everything(store)
    point = 0
    while point < 20:
        point += 1
        faults.left = point
        try:
            await WRITES[name](store)
        except StoreUnavailableError:
            assert before == await everything(store)
        else:
            break
    faults.left = 0
    return point


@pytest.mark.parametrize("name", WRITES)
async def test_a_failing_statement_leaves_nothing_half_written(full: SQLStore[Any], name: str) -> None:
    """Whichever statement of a write fails, the commit included, all is as it was; and the next try succeeds."""
    before = await everything(full)

    points = await failed_everywhere(full, Faults(full, is_full), name)

    assert points >= (2 if full._database.is_postgres else 4)
    assert before != await everything(full)


@pytest.mark.parametrize("name", WRITES)
async def test_a_session_that_is_ended_leaves_nothing_half_written(postgres: Place, name: str) -> None:
    """Whenever the server ends the session, all is as it was; and the next try, on a new connection, succeeds."""
    store, admin = postgres.store(), postgres.store()
    await store.create_schema()
    await filled(store, note("i1"), call())
    await store.save_thread(thread("other"), ADA)
    await store.save_attachment(attachment("atc", "thr"), ADA)
    await store.save_plan("thr", StoredPlan(1, ""), 0, ADA)

    def end_session(connection: Any) -> None:
        pid = connection.connection.driver_connection.get_server_pid()

        async def terminate() -> None:
            async with admin._database.engine.connect() as other:
                await other.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})

        await_only(terminate())

    before = await everything(store)

    points = await failed_everywhere(store, Faults(store, end_session), name)

    assert points >= 2
    assert before != await everything(store)
    await store.close()
    await admin.close()


@pytest.mark.parametrize("point", range(1, 7))
async def test_a_write_that_is_cancelled_is_whole(full: SQLStore[Any], point: int) -> None:
    """A write that is cancelled at any of its statements has done all of its work, or none."""
    reached = threading.Event()

    def linger(_: Any) -> None:
        reached.set()
        time.sleep(0.05)

    Faults(full, linger).left = point
    before = {name: len(rows) for name, rows in (await everything(full)).items()}
    request = asyncio.create_task(full.delete_thread("thr", ADA))
    assert await asyncio.to_thread(reached.wait, 5)
    for task in full._database._tasks:
        task.cancel()
    await asyncio.gather(request, return_exceptions=True)
    await full.load_threads(9, None, "asc", ADA)
    await full.save_thread(thread("other"), ADA)

    after = {name: len(rows) for name, rows in (await everything(full)).items()}
    deleted = {name: before[name] - after[name] for name in before if before[name] != after[name]}
    tables = full._tables
    everything_of_it = {tables.threads.name: 1, tables.items.name: 2, tables.plans.name: 1, tables.attachments.name: 1}
    assert deleted in ({}, everything_of_it)


async def test_tables_are_made_all_or_none(place: Place) -> None:
    """Making the tables is one transaction too."""
    store = place.store()
    faults = Faults(store, is_full)
    point = 0
    while point < 60:
        point += 1
        faults.left = point
        try:
            await store.create_schema()
        except StoreUnavailableError:
            with contextlib.suppress(Exception):
                await everything(store)
                pytest.fail("some tables were made")
        else:
            break
    faults.left = 0

    assert point > 10
    await filled(store, note("i1"))
    await store.close()


class TestBusy:
    async def test_an_exhausted_pool_is_an_error_within_the_limit(self, shared: Place) -> None:
        """When all connections are taken the error says so in time, and the next call works when one is free."""
        store = shared.store(time_limit=0.5, pool_size=1, max_overflow=0)
        await store.create_schema()
        async with store._database.engine.connect():
            started = time.monotonic()
            with pytest.raises(StoreUnavailableError) as busy:
                await store.load_threads(9, None, "desc", ADA)
            took = time.monotonic() - started

        assert ("list the threads", 0.5) == (busy.value.tried, busy.value.time_limit)
        assert 0.4 < took < 1.5
        assert [] == (await store.load_threads(9, None, "desc", ADA)).data
        await store.close()

    async def test_a_pool_with_a_limit_of_its_own(self, postgres: Place) -> None:
        """A pool that gives up sooner says why."""
        store = postgres.store(pool_size=1, max_overflow=0, pool_timeout=0.1)
        await store.create_schema()
        async with store._database.engine.connect():
            with pytest.raises(StoreUnavailableError, match="QueuePool limit of size 1 overflow 0 reached"):
                await store.load_threads(9, None, "desc", ADA)
        await store.close()

    async def test_another_writer_of_the_file(self, sqlite_file: str) -> None:
        """While another process writes to the file one can read; a write waits for the limit, and works after it."""
        store = a_place(sqlite_file).store(time_limit=0.5)
        await store.create_schema()
        await filled(store, note("i1"))
        with contextlib.closing(sqlite3.connect(store._database.engine.url.database or "")) as other:
            other.execute("BEGIN IMMEDIATE")

            assert ["i1"] == await item_ids(store)
            with pytest.raises(StoreUnavailableError, match=r"save item i2 of thread thr in sqlite\+aiosqlite:///"):
                await store.add_thread_item("thr", note("i2"), ADA)
            other.rollback()

        await store.add_thread_item("thr", note("i3"), ADA)
        assert ["i1", "i3"] == await item_ids(store)
        await store.close()

    async def test_another_holder_of_a_new_file(self, sqlite_file: str) -> None:
        """If another process keeps a new file to itself for the whole limit, the tables cannot be made: an error."""
        store = a_place(sqlite_file).store(time_limit=0.3)
        with contextlib.closing(sqlite3.connect(store._database.engine.url.database or "")) as other:
            other.execute("BEGIN EXCLUSIVE")

            with pytest.raises(StoreUnavailableError):
                await store.create_schema()
        await store.close()

    async def test_another_holder_of_the_row(self, postgres: Place) -> None:
        """A row that somebody else has locked is read, and a write to it is an error when the time is over."""
        store, other = postgres.store(time_limit=0.5), postgres.store()
        await store.create_schema()
        await filled(store, note("i1"))
        async with other._database.engine.connect() as connection:
            await connection.execute(select(store._tables.threads).with_for_update())

            assert ["i1"] == await item_ids(store)
            with pytest.raises(StoreUnavailableError, match="it was not done in time"):
                await store.add_thread_item("thr", note("i2"), ADA)
            await connection.rollback()

        await store.add_thread_item("thr", note("i3"), ADA)
        assert ["i1", "i3"] == await item_ids(store)
        await store.close()
        await other.close()

    async def test_another_process_makes_the_file(self, sqlite_file: str) -> None:
        """While another process has the new file for itself, the tables are tried again; within the limit."""
        place = a_place(sqlite_file)
        hasty, store = place.store(time_limit=0.3), place.store()
        refusals = [OperationalError("PRAGMA", None, sqlite3.OperationalError("database is locked"))]

        @event.listens_for(store._database.engine.sync_engine, "before_cursor_execute")
        def refuse_at_once(*_: Any) -> None:
            if refusals:
                raise refusals.pop()

        with contextlib.closing(sqlite3.connect(hasty._database.engine.url.database or "")) as other:
            other.execute("BEGIN EXCLUSIVE")
            with pytest.raises(StoreUnavailableError, match=r"create the tables in .* database is locked"):
                await hasty.create_schema()
            other.rollback()
        await store.create_schema()

        assert [] == refusals
        await filled(store, note("i1"))
        await store.close()
        await hasty.close()

    async def test_the_queue_of_writers(self, sqlite_file: str) -> None:
        """Of many writers of a process that wait for another process each is told within the limit."""
        store = a_place(sqlite_file).store(time_limit=0.5)
        await store.create_schema()
        await filled(store)
        with contextlib.closing(sqlite3.connect(store._database.engine.url.database or "")) as other:
            other.execute("BEGIN IMMEDIATE")
            results = await asyncio.gather(
                *[store.add_thread_item("thr", note(f"i{n}"), ADA) for n in range(4)], return_exceptions=True
            )
            other.rollback()

        assert [True] * 4 == ["database is locked" in getattr(result, "reason", "") for result in results]
        await store.close()

    async def test_a_writer_that_waits_too_long_for_others(self, sqlite_file: str) -> None:
        """A writer that has waited too long behind the other writers of its process is told so, and is not done."""
        store = a_place(sqlite_file).store()
        await store.create_schema()
        await filled(store, note("i1"))
        reached, release = threading.Event(), threading.Event()

        def hold(_: Any) -> None:
            reached.set()
            release.wait(5)

        Faults(store, hold).left = 1
        first = asyncio.create_task(store.add_thread_item("thr", note("i2"), ADA))
        assert await asyncio.to_thread(reached.wait, 5)
        second = asyncio.create_task(store.add_thread_item("thr", note("i3"), ADA))
        await turns_until(lambda: bool(store._database._writers._queue))
        store._database._writers._patience = 0.0
        release.set()
        with pytest.raises(StoreUnavailableError, match="the other writers of this process have not come to an end"):
            await second
        await first

        assert ["i1", "i2"] == await item_ids(store)
        await store.close()

    async def test_a_write_given_up_on_is_as_a_whole_or_not_at_all(self, sqlite_file: str) -> None:
        """What was given up on after the time limit is not written later, behind everybody's back."""
        store = a_place(sqlite_file).store(time_limit=0.3)
        await store.create_schema()
        await filled(store)
        with contextlib.closing(sqlite3.connect(store._database.engine.url.database or "")) as other:
            other.execute("BEGIN IMMEDIATE")
            results = await asyncio.gather(
                *[store.add_thread_item("thr", note(f"i{n}"), ADA) for n in range(5)], return_exceptions=True
            )
            other.rollback()
        await store.add_thread_item("thr", note("after"), ADA)

        assert [True] * 5 == [isinstance(result, StoreUnavailableError) for result in results]
        assert ["after"] == await item_ids(store)
        await store.close()


async def driver_has_ended() -> None:
    """Wait for the threads of connections that could not be opened: they report to an event loop, which must exist."""
    for thread_of_driver in threading.enumerate():
        if "_connection_worker_thread" in thread_of_driver.name:
            await asyncio.to_thread(thread_of_driver.join, 5)


class TestAway:
    @pytest.mark.parametrize(
        "url",
        [
            "postgresql+asyncpg://user:s3cret@127.0.0.1:9/chat?ssl=disable",
            "postgresql+asyncpg://user:s3cret@/chat?host=/nowhere&password=s3cret",
        ],
    )
    async def test_a_database_that_is_not_there(self, url: str) -> None:
        """The error for a database that is not there names what was tried and where, and never the password."""
        store = SQLStore[Any].from_url(url, time_limit=2)
        for attempt in (store.create_schema(), store.load_thread("thr", None), store.save_thread(thread(), None)):
            with pytest.raises(StoreUnavailableError, match=r"Could not .* in postgresql\+asyncpg://.*/chat") as away:
                await attempt
            assert "s3cret" not in str(away.value)
        with pytest.raises(StoreUnavailableError, match="Could not lock thread thr"):
            async with store.thread_lock("thr"):
                pytest.fail("nobody gets here")
        await store.close()

    async def test_an_id_cannot_forge_a_line_of_the_log(self, tmp_path: Path) -> None:
        """What was tried is told with its ids escaped."""
        store = SQLStore[Any].from_url(f"sqlite:///{tmp_path}/nowhere/chat.db")
        with pytest.raises(StoreUnavailableError, match=rf"Could not load thread {SHOWN} in") as away:
            await store.load_thread(FORGED, None)
        await store.close()
        await driver_has_ended()

        assert str(away.value).isprintable()
        assert f"load thread {FORGED}" == away.value.tried

    async def test_a_database_of_another_name(self, postgres: Place) -> None:
        """What the server says to a connection it refuses is passed on."""
        store = SQLStore[Any].from_url(postgres.url.replace("/postgres?", "/nothing?"))
        with pytest.raises(StoreUnavailableError, match='database "nothing" does not exist'):
            await store.create_schema()
        await store.close()

    async def test_a_file_that_cannot_be_opened(self, tmp_path: Path) -> None:
        """A directory that is not there is an error that names the file."""
        store = SQLStore[Any].from_url(f"sqlite:///{tmp_path}/nowhere/chat.db")
        with pytest.raises(StoreUnavailableError, match=r"nowhere/chat\.db .*unable to open database file"):
            await store.create_schema()
        await store.close()
        await driver_has_ended()

    async def test_an_error_that_is_no_absence_stays_what_it_is(self, postgres: Place) -> None:
        """Not everything that goes wrong is the database being away: a missing column is what SQLAlchemy says it is."""
        store = postgres.store()
        await store.create_schema()
        async with store._database.engine.begin() as connection:
            await connection.execute(text(f"ALTER TABLE {store._tables.attachments.name} RENAME COLUMN document TO d"))

        with pytest.raises(ProgrammingError, match="document does not exist"):
            await store.load_attachment("atc", ADA)
        await store.close()


class TestLocks:
    async def test_the_lock_of_another_worker(self, shared: Place) -> None:
        """Waiting for a lock that another worker holds ends with the time limit, in a clear error."""
        one, two = shared.store(), shared.store(time_limit=0.5)
        async with one.thread_lock("thr"):
            started = time.monotonic()
            with pytest.raises(StoreUnavailableError, match="Could not lock thread thr"):
                async with two.thread_lock("thr"):
                    pytest.fail("nobody gets here")
            assert 0.4 < time.monotonic() - started < 1.5
        async with two.thread_lock("thr"):
            pass
        await one.close()
        await two.close()

    async def test_locks_do_not_wait_for_connections(self, shared: Place) -> None:
        """Many who hold or await locks, and write while they do, need no more connections than there are."""
        stores = [shared.store(pool_size=2, max_overflow=0) for _ in range(2)]
        await asyncio.gather(*[store.create_schema() for store in stores])
        names = [f"t{n}" for n in range(12)]

        async def work(n: int, name: str) -> None:
            store = stores[n % 2]
            async with store.thread_lock(name if n % 3 else "same"):
                await store.save_thread(thread(name), ADA)
                await store.add_thread_item(name, note("i1"), ADA)

        await asyncio.gather(*[work(n, name) for n, name in enumerate(names)])

        assert [["i1"]] * 12 == [await item_ids(stores[0], ADA, name) for name in names]
        for store in stores:
            await store.close()

    async def test_a_lock_goes_with_its_connection(self, postgres: Place) -> None:
        """A holder whose session is ended has lost the lock; it ends its block without an error, and others go on."""
        one, two = postgres.store(), postgres.store(time_limit=2)
        async with one.thread_lock("thr"):
            async with two._database.engine.connect() as connection:
                await connection.execute(
                    text("SELECT pg_terminate_backend(pid, 5000) FROM pg_locks WHERE locktype = 'advisory'")
                )
            async with two.thread_lock("thr"):
                pass
        async with one.thread_lock("thr"):
            pass
        await one.close()
        await two.close()


class OwnServer:
    """A PostgreSQL that a test may kill."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="pg"))
        self.server = start_postgres(self.directory)

    @property
    def url(self) -> str:
        url: str = self.server.get_uri(driver="asyncpg")
        return url

    def processes(self) -> list[psutil.Process]:
        postmaster = psutil.Process(self.server.get_pid())
        return [postmaster, *postmaster.children(recursive=True)]

    def signal(self, number: int) -> None:
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def kill(self) -> None:
        processes = self.processes()
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                os.kill(process.pid, signal.SIGKILL)
        psutil.wait_procs(processes, timeout=10)

    def start_again(self) -> None:
        self.server.ensure_postgres_running()


@pytest.fixture(scope="module")
def own_server() -> Iterator[OwnServer]:
    server = OwnServer()
    yield server
    server.signal(signal.SIGCONT)
    server.kill()
    server.server.cleanup()


@pytest_asyncio.fixture
async def on_own_server(own_server: OwnServer) -> AsyncIterator[SQLStore[Any]]:
    store = a_place(own_server.url).store(time_limit=3)
    await store.create_schema()
    yield store
    await store.close()


async def test_a_server_that_is_killed_loses_nothing_it_acknowledged(
    on_own_server: SQLStore[Any], own_server: OwnServer
) -> None:
    """Kill -9 in the middle of a batch: clear errors while it is away, then the same store goes on, with all it had."""
    store = await filled(on_own_server)
    acknowledged: list[str] = []
    refused: list[BaseException] = []
    enough = asyncio.Event()

    async def write(worker: int) -> None:
        for n in range(100_000):
            name = f"i{worker}_{n}"
            try:
                await store.add_thread_item("thr", note(name), ADA)
            except StoreUnavailableError as error:
                refused.append(error)
                return
            acknowledged.append(name)
            if len(acknowledged) == 100:
                enough.set()

    writers = asyncio.gather(*[write(worker) for worker in range(4)])
    await enough.wait()
    own_server.kill()
    await writers
    with pytest.raises(StoreUnavailableError):
        await store.load_thread("thr", ADA)
    await asyncio.to_thread(own_server.start_again)
    await store.add_thread_item("thr", note("after"), ADA)

    there = await item_ids(store)
    assert 4 == len(refused)
    assert set() == set(acknowledged) - set(there)
    assert len(there) == len(set(there)) <= len(acknowledged) + 4 + 1
    assert "after" == there[-1]
    async with store.thread_lock("thr"):
        pass


async def test_a_server_that_hangs_is_an_error_within_the_limit(
    on_own_server: SQLStore[Any], own_server: OwnServer
) -> None:
    """A server that does not answer at all is given up on in time, and works again when it wakes up."""
    store = await filled(SQLStore[Any].from_url(own_server.url, time_limit=0.5, prefix=on_own_server._tables.prefix))
    async with store.thread_lock("thr"):
        pass
    own_server.signal(signal.SIGSTOP)
    started = time.monotonic()
    with pytest.raises(StoreUnavailableError, match="it was not done in time"):
        await store.add_thread_item("thr", note("i1"), ADA)
    with pytest.raises(StoreUnavailableError, match=r"Could not lock thread thr .*the database does not answer"):
        async with store.thread_lock("thr"):
            pytest.fail("nobody gets here")
    took = time.monotonic() - started
    own_server.signal(signal.SIGCONT)

    assert took < 5
    async with store.thread_lock("thr"):
        await store.add_thread_item("thr", note("i2"), ADA)
    assert "i2" == (await item_ids(store))[-1]
    await store.close()
