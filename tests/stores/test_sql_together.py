"""`SQLStore` under many requests at once: who shares a transaction, whose turn it is, and what is kept open."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from chatkit.store import NotFoundError
from sqlalchemy import event, text

from chatkit_clienttools.errors import LifecycleViolationError, StoreUnavailableError
from chatkit_clienttools.stores import _database
from tests.helpers.databases import a_place, turns_until
from tests.stores.values import ADA, answered, call, filled, item_ids, note

if TYPE_CHECKING:
    from pathlib import Path

    import aiosqlite

    from chatkit_clienttools.stores.sql import SQLStore
    from tests.helpers.databases import Place


def commits_of(store: SQLStore[Any]) -> list[str]:
    """The transactions on SQLite that are committed from now on."""
    commits: list[str] = []

    @event.listens_for(store._database.engine.sync_engine, "before_cursor_execute")
    def note_it(connection: Any, cursor: Any, statement: str, *more: Any) -> None:
        commits.extend([statement] if statement == "COMMIT" else [])

    return commits


@pytest.fixture(params=["file", "memory"])
def sqlite_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return "sqlite+aiosqlite://" + ("" if request.param == "memory" else f"/{tmp_path}/chat.db")


async def opened(url: str) -> SQLStore[Any]:
    store = a_place(url).store()
    await store.create_schema()
    return store


class TestTransactions:
    async def test_writers_at_once_share_transactions(self, sqlite_url: str) -> None:
        """Fifty writers at once need a few commits on SQLite, and all is written in the order of the calls."""
        store = await filled(await opened(sqlite_url))
        commits = commits_of(store)
        await asyncio.gather(*[store.add_thread_item("thr", note(f"i{n}"), ADA) for n in range(50)])

        assert len(commits) < 10
        assert [f"i{n}" for n in range(50)] == await item_ids(store)
        await store.close()

    async def test_a_write_that_fails_is_undone_alone(self, sqlite_url: str) -> None:
        """Of writes that share a transaction one that fails raises its own error, and the others are written."""
        store = await filled(await opened(sqlite_url), call())
        commits = commits_of(store)
        results = await asyncio.gather(
            store.add_thread_item("thr", note("i1"), ADA),
            store.add_thread_item("no", note("i2"), ADA),
            store.add_thread_item("thr", call("second"), ADA),
            store.save_item("thr", answered(call()), ADA),
            store.add_thread_item("thr", note("i3"), ADA),
            return_exceptions=True,
        )

        assert [type(None), NotFoundError, LifecycleViolationError, type(None), type(None)] == [
            type(result) for result in results
        ]
        assert ["tc", "i1", "i3"] == await item_ids(store)
        assert len(commits) < 5
        await store.close()

    async def test_what_undoes_the_whole_transaction_is_told_to_all(self, sqlite_url: str) -> None:
        """An error after which SQLite has no transaction any more leaves nothing written, and each writer hears it."""
        store = await filled(await opened(sqlite_url))
        failures = [OSError(28, "No space left on device")]

        @event.listens_for(store._database.engine.sync_engine, "before_cursor_execute")
        def fail(connection: Any, cursor: Any, statement: str, *more: Any) -> None:
            if failures and statement.startswith("INSERT INTO"):
                cursor.connection.rollback()  # as SQLite does when the disk is full
                raise failures.pop()

        results = await asyncio.gather(
            *[store.add_thread_item("thr", note(f"i{n}"), ADA) for n in range(3)], return_exceptions=True
        )

        assert [StoreUnavailableError] * 3 == [type(result) for result in results]
        assert [] == await item_ids(store)
        await store.add_thread_item("thr", note("after"), ADA)
        await store.close()

    async def test_a_writer_that_is_cancelled_in_the_queue_writes_nothing(self, sqlite_url: str) -> None:
        """A write that is cut off before its turn is left out of the transaction; the others are done."""
        store = await filled(await opened(sqlite_url))
        writes = [asyncio.create_task(store.add_thread_item("thr", note(f"i{n}"), ADA)) for n in range(3)]
        await turns_until(lambda: len(store._database._writers._queue) == 3)
        for write in list(store._database._tasks)[:1]:
            write.cancel()
        results = await asyncio.gather(*writes, return_exceptions=True)

        assert 1 == sum(isinstance(result, StoreUnavailableError) for result in results)
        assert 2 == len(await item_ids(store))
        await store.close()

    async def test_a_read_that_is_cancelled_lets_its_statement_end(self, sqlite_url: str) -> None:
        """A read that is cut off while its statement runs keeps the connection from the others until that has ended."""
        store = await filled(await opened(sqlite_url), note("i1"))
        reached, release = held_at_the_next_statement(store)
        reading = asyncio.create_task(store.load_threads(9, None, "asc", ADA))
        assert await asyncio.to_thread(reached.wait, 5)
        (task,) = store._database._tasks
        task.cancel()
        await asyncio.sleep(0)
        was_waiting = not task.done()
        release.set()
        with pytest.raises(StoreUnavailableError):
            await reading

        assert was_waiting
        assert ["i1"] == await item_ids(store)
        await store.close()

    async def test_a_transaction_that_is_cut_off(self, sqlite_url: str) -> None:
        """Who is in a transaction that is cut off, or waits for the next one, is told; others can write again."""
        store = await filled(await opened(sqlite_url))
        reached, release = held_at_the_next_statement(store)
        first = asyncio.create_task(store.add_thread_item("thr", note("i1"), ADA))
        assert await asyncio.to_thread(reached.wait, 5)
        second = asyncio.create_task(store.add_thread_item("thr", note("i2"), ADA))
        await turns_until(lambda: bool(store._database._writers._queue))
        for task in store._database._writers.tasks:
            task.cancel()
        release.set()
        results = await asyncio.gather(first, second, return_exceptions=True)
        await store.add_thread_item("thr", note("i3"), ADA)

        assert [StoreUnavailableError] * 2 == [type(result) for result in results]
        assert "i2" not in await item_ids(store)
        await store.close()

    async def test_a_writer_that_is_cut_off_in_its_transaction(self, sqlite_url: str) -> None:
        """Cut off in the middle of its transaction, a write is done as a whole, and so are those of the others."""
        store = await filled(await opened(sqlite_url))
        reached, release = held_at_the_next_statement(store)
        write = asyncio.create_task(store.add_thread_item("thr", note("i1"), ADA))
        assert await asyncio.to_thread(reached.wait, 5)
        for task in store._database._tasks:
            task.cancel()
        with pytest.raises(StoreUnavailableError):
            await write
        release.set()
        await store.add_thread_item("thr", note("i2"), ADA)

        assert ["i1", "i2"] == await item_ids(store)
        await store.close()

    async def test_what_was_in_the_way_is_gone_when_it_is_looked_for(self, store: SQLStore[Any]) -> None:
        """A call that could not be added because of another one is added after all if that one has gone meanwhile."""
        await filled(store, call())
        items = store._tables.items
        meddles = [items.delete()]

        @event.listens_for(store._database.engine.sync_engine, "before_cursor_execute")
        def meddle(connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
            if meddles and statement.startswith("SELECT") and "call_status =" in statement:
                connection.execute(meddles.pop())

        await store.add_thread_item("thr", call("second"), ADA)

        assert ["second"] == await item_ids(store)
        assert [] == meddles


def held_at_the_next_statement(store: SQLStore[Any]) -> tuple[threading.Event, threading.Event]:
    """Let the next statement say that it is reached, and wait until it is released."""
    reached, release = threading.Event(), threading.Event()

    @event.listens_for(store._database.engine.sync_engine, "before_cursor_execute")
    def hold(*_: Any) -> None:
        if not reached.is_set():
            reached.set()
            release.wait(5)

    return reached, release


class TestDriver:
    @pytest.mark.parametrize("name", ["_execute", "_conn"])
    async def test_without_what_is_private_in_the_driver(
        self, sqlite_url: str, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A release of aiosqlite that has renamed what we use of it is used as SQLAlchemy does: slower, and right."""

        class Renamed:
            def __init__(self, driver: aiosqlite.Connection) -> None:
                self._driver = driver

            def __getattr__(self, asked: str) -> Any:
                if asked == name:
                    raise AttributeError(asked)
                return getattr(self._driver, asked)

        class Proxied:
            def __init__(self, proxied: Any) -> None:
                self.driver_connection = Renamed(proxied.driver_connection)

        look, found = _database._driver_of, []

        def look_at_renamed(proxied: Any) -> Any:
            found.append(look(Proxied(proxied)))
            return found[-1]

        monkeypatch.setattr(_database, "_driver_of", look_at_renamed)
        store = await filled(await opened(sqlite_url), call())
        results = await asyncio.gather(
            *[store.add_thread_item("thr", note(f"i{n}"), ADA) for n in range(9)],
            store.add_thread_item("thr", call("second"), ADA),
            return_exceptions=True,
        )
        await store.save_item("thr", answered(call()), ADA)

        assert [LifecycleViolationError] == [type(result) for result in results if result]
        assert ["tc", *(f"i{n}" for n in range(9))] == await item_ids(store)
        assert {None} == set(found)
        await store.close()

    async def test_what_is_private_in_the_driver_is_there(self, sqlite_url: str) -> None:
        """With the aiosqlite that is installed, a transaction is one way to the driver's thread and back."""
        store = await opened(sqlite_url)
        async with store._database.engine.connect() as connection:
            assert _database._driver_of(await connection.get_raw_connection()) is not None
        await store.close()


class TestConnections:
    async def test_those_who_wait_for_a_connection_get_it_in_their_order(self, shared: Place) -> None:
        """Who has given a connection back waits behind those who came before."""
        store = shared.store(pool_size=1, max_overflow=0)
        await store.create_schema()
        await filled(store)
        ended: list[str] = []

        async def reads(name: str, times: int) -> None:
            for _ in range(times):
                await item_ids(store)
            ended.append(name)

        async with store._database._home().gate:
            many = asyncio.create_task(reads("many", 20))
            others = [asyncio.create_task(reads(f"other {n}", 1)) for n in range(5)]
            for _ in range(9):
                await asyncio.sleep(0)
        await asyncio.gather(many, *others)

        assert [*(f"other {n}" for n in range(5)), "many"] == ended
        await store.close()

    async def test_no_more_connections_than_are_kept(self, shared: Place) -> None:
        """However many requests there are, no connection is opened that is closed again after them."""
        store = shared.store(pool_size=3)
        await store.create_schema()
        await filled(store)
        made: list[Any] = []
        event.listen(store._database.engine.sync_engine, "connect", lambda connection, _: made.append(connection))
        await asyncio.gather(*[item_ids(store) for _ in range(30)])

        assert len(made) <= 3
        await store.close()

    async def test_a_session_that_has_ended_meanwhile(self, postgres: Place) -> None:
        """A connection that the server has closed is not used, and the request does not notice."""
        store, admin = postgres.store(pool_size=1), postgres.store()
        await store.create_schema()
        await filled(store, note("i1"))
        async with store._database.engine.connect() as connection:
            pid = (await connection.execute(text("SELECT pg_backend_pid()"))).scalar_one()
            driver: Any = (await connection.get_raw_connection()).driver_connection
        async with admin._database.engine.connect() as connection:
            await connection.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})
        await turns_until(driver.is_closed)

        assert ["i1"] == await item_ids(store)
        await store.close()
        await admin.close()

    async def test_a_connection_that_has_been_idle_is_asked_first(
        self, postgres: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """After a while without use a connection has to answer before it is used; one that does not is replaced."""
        store = postgres.store(pool_size=1)
        await store.create_schema()
        await filled(store, note("i1"))
        engine, asked = store._database.engine, []
        ping = engine.dialect.do_ping

        def fails_once(connection: Any) -> bool:
            asked.append(connection)
            if len(asked) == 1:
                raise TimeoutError
            return ping(connection)

        monkeypatch.setattr(engine.dialect, "do_ping", fails_once)
        await item_ids(store)
        assert [] == asked
        now = time.monotonic() + _database.IDLE_SECONDS + 1
        monkeypatch.setattr(_database, "_now", lambda: now)

        assert ["i1"] == await item_ids(store)
        assert 1 == len(asked)
        await store.close()
