"""`SQLStore` on SQLite (a file, and in memory) and on PostgreSQL: the rules, and what is its own."""

from __future__ import annotations

import asyncio
import gc
import importlib
import re
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from chatkit.store import NotFoundError
from sqlalchemy import create_engine, event, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool, NullPool, StaticPool

from chatkit_clienttools import stores
from chatkit_clienttools._step.plans import StoredPlan
from chatkit_clienttools.errors import (
    DamagedDocumentError,
    LifecycleViolationError,
    SchemaVersionError,
    UsageError,
)
from chatkit_clienttools.stores._schema import VERSION
from chatkit_clienttools.stores.sql import SQLStore
from tests.helpers.databases import place_named
from tests.stores.rules import StoreRules
from tests.stores.values import (
    ADA,
    BOB,
    KNOWS_ATTACHED,
    answered,
    attachment,
    by_user,
    call,
    filled,
    item_ids,
    note,
    thread,
    thread_ids,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.helpers.databases import Place


class TestSQLStore(StoreRules):
    pass


def statements_of(store: SQLStore[Any]) -> list[tuple[str, Any]]:
    """Everything that is sent from now on."""
    sent: list[tuple[str, Any]] = []

    @event.listens_for(store._database.engine.sync_engine, "before_cursor_execute")
    def note_it(connection: Any, cursor: Any, statement: str, parameters: Any, *more: Any) -> None:
        sent.append((statement, parameters))

    return sent


async def run(store: SQLStore[Any], statement: Any, *parameters: Any) -> Any:
    """Run a statement past the store, and commit it."""
    async with store._database.engine.connect() as connection:
        result = await connection.execute(text(statement) if isinstance(statement, str) else statement, *parameters)
        rows = result.all() if result.returns_rows else None
        await connection.commit()
    return rows


class TestSchema:
    async def test_the_tables_are_made_once(self, store: SQLStore[Any]) -> None:
        """`create_schema` again changes nothing, and keeps what is there."""
        await filled(store, note("i1"))
        await store.create_schema()

        assert ["i1"] == await item_ids(store)

    async def test_workers_that_start_together(self, shared: Place) -> None:
        """Workers that make the tables at the same moment all succeed, and all work."""
        stores = [shared.store() for _ in range(6)]

        await asyncio.gather(*[each.create_schema() for each in stores])
        await asyncio.gather(*[each.save_thread(thread(f"t{n}"), ADA) for n, each in enumerate(stores)])

        assert [f"t{n}" for n in range(6)] == sorted(await thread_ids(stores[0]))
        assert [(VERSION,)] == await run(stores[0], select(stores[0]._tables.schema.c.version))
        for each in stores:
            await each.close()

    async def test_without_tables_it_says_what_is_missing(self, place: Place) -> None:
        """A store whose tables were not made names the line that makes them, and works after it."""
        store = place.store()
        with pytest.raises(SchemaVersionError, match=r"`await store.create_schema\(\)` makes them"):
            await store.load_threads(9, None, "desc", ADA)
        await store.create_schema()

        assert [] == await thread_ids(store)
        await store.close()

    async def test_a_newer_schema_is_refused(self, shared: Place) -> None:
        """Code that is older than the tables does not touch them: not when it starts, and not in a request."""
        newer, older, other = shared.store(), shared.store(), shared.store()
        await newer.create_schema()
        await run(newer, newer._tables.schema.update().values(version=VERSION + 1))

        problem = rf"of version {VERSION + 1} .* knows version {VERSION}\. Nothing was changed\. Upgrade"
        with pytest.raises(SchemaVersionError, match=problem):
            await older.create_schema()
        with pytest.raises(SchemaVersionError, match=problem):
            await other.save_thread(thread(), ADA)
        for each in (newer, older, other):
            await each.close()

    @pytest.mark.parametrize("prefix", ["", "Chat", "1a", "a-b", "a;drop table x", "x" * 33])
    def test_a_prefix_is_a_name(self, prefix: str) -> None:
        """What cannot begin the name of a table everywhere is refused."""
        with pytest.raises(UsageError, match="prefix must be 1 to 32 of a-z, 0-9 and _"):
            SQLStore.from_url("sqlite://", prefix=prefix)

    async def test_two_prefixes_are_two_stores(self, place: Place) -> None:
        """Two applications share a database under prefixes of their own."""
        engine = place.store()._database.engine
        one, two = SQLStore[Any](engine, prefix=f"{place.prefix}a_"), SQLStore[Any](engine, prefix=f"{place.prefix}b_")
        for each in (one, two):
            await each.create_schema()
        await one.save_thread(thread(), None)

        assert (["thr"], []) == (await thread_ids(one, None), await thread_ids(two, None))
        for each in (one, two):
            async with engine.begin() as connection:
                await connection.run_sync(each._tables.metadata.drop_all)
        await engine.dispose()

    async def test_the_database_itself_holds_one_pending_call(self, store: SQLStore[Any]) -> None:
        """Whoever writes to the tables, a second pending call in a thread is refused by the index."""
        await filled(store, call())
        items = store._tables.items
        second = {"owner": "ada", "thread_id": "thr", "id": "x", "seq": 99, "document": "{}"}

        with pytest.raises(IntegrityError):
            await run(store, items.insert().values(**second, call_status="pending"))

        await run(store, items.insert().values(**second, call_status="completed"))

    async def test_the_database_itself_deletes_what_is_in_a_thread(self, store: SQLStore[Any]) -> None:
        """Foreign keys hold: no item outlives its thread, whoever deletes it."""
        await filled(store, note("i1"))
        await run(store, store._tables.threads.delete())

        assert [] == await run(store, select(store._tables.items.c.id))


class TestEngines:
    async def test_sqlite_gets_what_a_store_wants(self, sqlite_file: str) -> None:
        """A file has a write-ahead log, syncs it at checkpoints, waits for its lock, and enforces foreign keys."""
        store = SQLStore[Any].from_url(sqlite_file, time_limit=20)
        await store.create_schema()

        assert [("wal",)] == await run(store, "PRAGMA journal_mode")
        assert [(9000,)] == await run(store, "PRAGMA busy_timeout")
        assert [(1,)] == await run(store, "PRAGMA foreign_keys")
        assert [(1,)] == await run(store, "PRAGMA synchronous")  # NORMAL
        await store.close()

    @pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "sqlite+aiosqlite://"])
    async def test_a_short_url_is_enough(self, url: str) -> None:
        """The async driver need not be named."""
        store = SQLStore[Any].from_url(url)
        await store.create_schema()

        assert [] == await thread_ids(store, None)
        await store.close()

    @pytest.mark.parametrize(
        "name",
        [
            "file:x?mode=memory&uri=true",
            "file:x?mode=memory&cache=shared&uri=true",
            "file::memory:?uri=true",
            "file::memory:?cache=shared&uri=true",
        ],
    )
    async def test_a_memory_by_another_name(self, name: str) -> None:
        """An in-memory database that is named by a URI has one connection too, and works."""
        store = SQLStore[Any].from_url(f"sqlite:///{name}", owner=by_user)
        await store.create_schema()
        await filled(store)
        await asyncio.gather(*[store.add_thread_item("thr", note(f"i{n}"), ADA) for n in range(9)])

        assert 9 == len(await item_ids(store))
        assert isinstance(store._database.engine.pool, StaticPool)
        await store.close()

    @pytest.mark.parametrize("pool", [AsyncAdaptedQueuePool, NullPool, StaticPool])
    async def test_a_file_with_any_pool(self, sqlite_file: str, pool: Any) -> None:
        """What a pool takes is given to it, whatever SQLAlchemy's own choice for SQLite is in this version."""
        chosen = SQLStore[Any].from_url(sqlite_file, owner=by_user, poolclass=pool)
        await chosen.create_schema()
        await filled(chosen, note("i1"))

        assert ["i1"] == await item_ids(chosen)
        assert type(chosen._database.engine.pool) is pool
        assert type(SQLStore[Any].from_url(sqlite_file)._database.engine.pool) is AsyncAdaptedQueuePool
        await chosen.close()

    async def test_a_pool_of_the_application(self, sqlite_file: str) -> None:
        """A pool that is there already is used as it is."""
        made = SQLStore[Any].from_url(sqlite_file)._database.engine.pool
        store = SQLStore[Any].from_url(sqlite_file, pool=made)
        await store.create_schema()

        assert store._database.engine.pool is made
        assert [] == await thread_ids(store, None)
        await store.close()

    async def test_options_are_those_of_the_engine(self, postgres: Place) -> None:
        """Whatever `create_async_engine` takes can be said, and wins."""
        url = postgres.url.replace("+asyncpg", "")
        store = SQLStore[Any].from_url(url, poolclass=NullPool, prefix=postgres.prefix)
        await store.create_schema()

        assert [] == await thread_ids(store, None)
        assert isinstance(store._database.engine.pool, NullPool)
        await store.close()

    async def test_an_engine_of_the_application_stays_its_own(self, place: Place) -> None:
        """A store works on an engine as it is, with any isolation level, and does not close it."""
        engine = create_async_engine(place.url, poolclass=StaticPool if ":memory:" in place.url else None)
        if engine.dialect.name == "postgresql":
            engine = engine.execution_options(isolation_level="SERIALIZABLE")
        store = SQLStore[Any](engine, owner=by_user, prefix=place.prefix)
        await store.create_schema()
        await filled(store, call(), note("i1"))
        await store.save_attachment(attachment("atc", "thr"), ADA)
        await store.save_plan("thr", StoredPlan(1, ""), 0, ADA)
        await asyncio.gather(*[store.add_thread_item("thr", note(f"n{n}"), ADA) for n in range(9)])
        assert 11 == len(await item_ids(store))

        await store.delete_thread("thr", ADA)
        if not KNOWS_ATTACHED:
            await store.delete_attachment("atc", ADA)
        await store.close()

        async with engine.connect() as connection:
            for table in (store._tables.items, store._tables.plans, store._tables.attachments):
                assert [] == (await connection.execute(select(table))).all()
        await engine.dispose()

    async def test_two_stores_on_one_memory(self) -> None:
        """Stores that share the only connection of an in-memory database take turns at it."""
        engine = create_async_engine("sqlite+aiosqlite:///:memory:", poolclass=StaticPool)
        one, two = SQLStore[Any](engine, owner=by_user), SQLStore[Any](engine, owner=by_user)
        await asyncio.gather(one.create_schema(), two.create_schema())
        await filled(one)

        names = [f"i{n}" for n in range(20)]
        await asyncio.gather(*[(one, two)[n % 2].add_thread_item("thr", note(i), ADA) for n, i in enumerate(names)])

        assert sorted(names) == sorted(await item_ids(two))
        await engine.dispose()

    def test_another_database_is_refused(self) -> None:
        """MySQL has no partial index, so it could not hold one pending call per thread."""
        engine = create_async_engine("sqlite+aiosqlite://", poolclass=StaticPool)
        engine.dialect.name = "mysql"
        with pytest.raises(UsageError, match="SQLStore knows SQLite and PostgreSQL, not mysql"):
            SQLStore(engine)

    @pytest.mark.parametrize(
        ("driver", "url", "extra"),
        [
            ("aiosqlite", "sqlite:///chat.db", "sql"),
            ("asyncpg", "postgresql://localhost/chat", "postgres"),
            ("aiomysql", "mysql+aiomysql://localhost/chat", "sql"),
        ],
    )
    def test_a_missing_driver_says_what_to_install(
        self, driver: str, url: str, extra: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Without the driver there is one clear error."""
        monkeypatch.setitem(sys.modules, driver, None)

        with pytest.raises(ImportError, match=rf"needs {driver}: pip install 'chatkit-clienttools\[{extra}\]'"):
            SQLStore.from_url(url)

    @pytest.mark.parametrize(
        ("given", "said"),
        [("sqlite+aiosqlite://", "a URL: use SQLStore.from_url(...)"), (create_engine("sqlite://"), "a Engine")],
        ids=["a URL", "another engine"],
    )
    def test_what_is_no_async_engine_is_refused(self, given: Any, said: str) -> None:
        """A URL, or an engine that is not async, in the place of an AsyncEngine is refused, with the cure."""
        with pytest.raises(UsageError) as raised:
            SQLStore(given)

        assert f"SQLStore takes an AsyncEngine of SQLAlchemy, not {said}" == str(raised.value)

    def test_it_is_not_beside_the_others(self) -> None:
        """Whoever imports SQLStore with the other stores is told where it is."""
        with pytest.raises(ImportError, match=r"from chatkit_clienttools\.stores\.sql import SQLStore"):
            stores.SQLStore  # noqa: B018
        with pytest.raises(AttributeError, match="has no attribute 'Elsewhere'"):
            stores.Elsewhere  # noqa: B018

    def test_without_sqlalchemy_it_says_what_to_install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without SQLAlchemy itself there is one clear error, too."""
        monkeypatch.delitem(sys.modules, "chatkit_clienttools.stores.sql")
        monkeypatch.setitem(sys.modules, "sqlalchemy", None)

        with pytest.raises(ImportError, match=r"SQLStore needs SQLAlchemy: pip install 'chatkit-clienttools\[sql\]'"):
            importlib.import_module("chatkit_clienttools.stores.sql")


class TestStatements:
    async def test_every_statement_names_the_owner(self, store: SQLStore[Any]) -> None:
        """No statement of any method reads or writes a row without saying whose."""
        await store.load_threads(1, None, "desc", ADA)  # the version of the schema is looked up once
        sent = statements_of(store)
        await filled(store, note("i1"), note("i2"), call())
        await store.save_thread(thread(), ADA)
        await store.save_item("thr", answered(call()), ADA)
        await store.load_thread("thr", ADA)
        await store.load_item("thr", "i1", ADA)
        await store.load_thread_items("thr", "i1", 9, "desc", ADA)
        await store.load_threads(9, "thr", "asc", ADA)
        await store.save_attachment(attachment("atc", "thr"), ADA)
        await store.load_attachment("atc", ADA)
        await store.delete_attachment("atc", ADA)
        await store.save_plan("thr", StoredPlan(1, ""), 0, ADA)
        await store.save_plan("thr", StoredPlan(2, ""), 1, ADA)
        await store.save_plan("thr", StoredPlan(2, ""), 1, ADA)
        await store.load_plan("thr", ADA)
        await store.delete_thread_item("thr", "i1", ADA)
        await store.delete_thread("thr", ADA)

        data = [(s, p) for s, p in sent if s not in {"BEGIN IMMEDIATE", "COMMIT"}]
        assert len(data) >= 30
        assert [] == [s for s, p in data if "owner" not in s or "ada" not in p]

    async def test_what_a_request_costs(self, store: SQLStore[Any]) -> None:
        """The statements of the requests a chat makes most: none of them grows with the thread."""
        await filled(store, call())
        sent = statements_of(store)

        async def cost(attempt: Any) -> int:
            sent.clear()
            await attempt
            return len([s for s, _ in sent if s not in {"BEGIN IMMEDIATE", "COMMIT"}])

        assert [1, 1, 1, 2, 1 if store._database.is_postgres else 2, 2, 1] == [
            await cost(store.load_thread("thr", ADA)),
            await cost(store.load_thread_items("thr", None, 1, "desc", ADA)),
            await cost(store.load_item("thr", "tc", ADA)),
            await cost(store.save_item("thr", answered(call()), ADA)),
            await cost(store.add_thread_item("thr", note("i1"), ADA)),
            await cost(store.save_thread(thread(), ADA)),
            await cost(store.save_plan("thr", StoredPlan(1, ""), 0, ADA)),
        ]

    async def test_a_long_thread_is_read_by_its_index(self, shared: Place) -> None:
        """With 10,000 items and 10,000 threads a page is a walk along an index: no sort, and no more than its rows."""
        store = shared.store()
        await store.create_schema()
        await filled(store)
        items, threads = store._tables.items, store._tables.threads
        document = '{"type":"hidden_context_item","id":"x","thread_id":"thr","created_at":"2026-01-01","content":"x"}'
        many = range(10_000)
        async with store._database.engine.begin() as connection:
            await connection.execute(
                items.insert(),
                [{"owner": "ada", "thread_id": "thr", "id": f"i{n}", "seq": n, "document": document} for n in many],
            )
            await connection.execute(
                threads.insert(),
                [
                    {
                        "owner": "ada",
                        "id": f"t{n}",
                        "seq": n + 9,
                        "last_item": 0,
                        "document": thread().model_dump_json(),
                    }
                    for n in many
                ],
            )
        await run(store, "ANALYZE")
        sent = statements_of(store)

        newest = await store.load_thread_items("thr", None, 20, "desc", ADA)
        await store.load_thread_items("thr", newest.after, 20, "desc", ADA)
        await store.load_thread_items("thr", "i5000", 20, "asc", ADA)
        await store.load_threads(20, None, "desc", ADA)
        await store.load_threads(20, "t5000", "desc", ADA)

        pages = [(s, p) for s, p in sent if "ORDER BY" in s]
        assert (5, 20) == (len(pages), len(newest.data))
        for statement, parameters in pages:
            plan = await explained(store, statement, parameters)
            assert "in_order" in plan
            assert not re.search(r"Sort|TEMP B-TREE|Seq Scan|^SCAN", plan, re.MULTILINE), plan
        await store.close()


async def explained(store: SQLStore[Any], statement: str, parameters: Any) -> str:
    how = "EXPLAIN (ANALYZE, BUFFERS OFF, COSTS OFF)" if store._database.is_postgres else "EXPLAIN QUERY PLAN"
    async with store._database.engine.connect() as connection:
        rows = await connection.exec_driver_sql(f"{how} {statement}", parameters)
        plan = "\n".join(str(row[-1]) for row in rows)
    returned = [int(n) for n in re.findall(r"rows=(\d+)", plan)]
    assert all(n <= 21 for n in returned), plan
    return plan


class TestOrder:
    async def test_numbers_become_visible_in_their_order(self, postgres: Place) -> None:
        """Who reads the end of a thread while others add to it misses nothing: no lower number appears later."""
        store = postgres.store(pool_size=20)
        await store.create_schema()
        await filled(store, note("start"))
        seen, after = ["start"], "start"
        writers = asyncio.gather(*[store.add_thread_item("thr", note(f"i{n}"), ADA) for n in range(100)])
        while not writers.done() or len(seen) < 101:
            page = await store.load_thread_items("thr", after, 5, "asc", ADA)
            seen += [item.id for item in page.data]
            after = seen[-1]
        await writers

        assert await item_ids(store) == seen
        await store.close()

    async def test_a_store_that_starts_again_finds_everything(self, shared: Place) -> None:
        """What was saved is there after a restart, in its order."""
        before, again = shared.store(), shared.store()
        await before.create_schema()
        await filled(before, note("b"), note("a"), call())
        await before.save_plan("thr", StoredPlan(1, "p"), 0, ADA)
        await before.close()
        await again.create_schema()

        assert ["b", "a", "tc"] == await item_ids(again)
        assert StoredPlan(1, "p") == await again.load_plan("thr", ADA)
        await again.close()


class TestMeddling:
    async def test_a_call_that_was_answered_in_between(self, store: SQLStore[Any]) -> None:
        """The change from pending to completed is conditional on pending, in the statement that makes it."""
        await filled(store, call())
        items = store._tables.items
        meddles = [items.update().values(call_status="completed")]

        @event.listens_for(store._database.engine.sync_engine, "before_cursor_execute")
        def meddle(connection: Any, cursor: Any, statement: str, *more: Any) -> None:
            if meddles and statement.startswith(f"UPDATE {items.name} "):
                connection.execute(meddles.pop())

        with pytest.raises(
            LifecycleViolationError, match=r"completed -> completed is not allowed\. A call changes once"
        ):
            await store.save_item("thr", answered(call()), ADA)

    async def test_a_damaged_row_says_so(self, store: SQLStore[Any]) -> None:
        """A row that somebody has changed into what ChatKit cannot read is named, and the others can be read."""
        await filled(store, note("i1"), note("i2"))
        items = store._tables.items
        await run(store, items.update().where(items.c.id == "i1").values(document="no JSON"))

        with pytest.raises(DamagedDocumentError, match="Item i1 is stored, but cannot be read"):
            await store.load_thread_items("thr", None, 9, "asc", ADA)

        assert "i2" == (await store.load_item("thr", "i2", ADA)).id


class TestCancellation:
    async def test_a_cancelled_request_leaves_the_database_whole(self, store: SQLStore[Any]) -> None:
        """A request that is cancelled at any moment has written all of what it was writing, or nothing."""
        await filled(store)
        for n in range(40):
            request = asyncio.create_task(store.add_thread_item("thr", note(f"i{n}"), ADA))
            for _ in range(n):
                await asyncio.sleep(0)
            request.cancel()
            await asyncio.gather(request, return_exceptions=True)
        await store.add_thread_item("thr", note("last"), ADA)

        there = await item_ids(store)
        assert 1 == there.count("last")
        assert Counter(there) == Counter(set(there))

    async def test_closing_waits_for_a_write_of_a_cancelled_request(self, shared: Place) -> None:
        """A write that is under way comes to its end before the connections are closed."""
        store, again = shared.store(), shared.store()
        await store.create_schema()
        await filled(store)
        request = asyncio.create_task(store.add_thread_item("thr", note("i1"), ADA))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        request.cancel()
        await asyncio.gather(request, return_exceptions=True)
        assert store._database._tasks
        await store.close()

        assert ["i1"] == await item_ids(again)
        await again.close()

    async def test_closing_waits_for_the_lock_of_a_cancelled_request(self, shared: Place) -> None:
        """Cancelled while it waits for a lock, a request is gone at once; its transaction ends before the pool does."""
        store, other = shared.store(), shared.store()

        async def locks() -> None:
            async with store.thread_lock("thr"):
                pytest.fail("nobody gets here")

        async with other.thread_lock("thr"):
            request = asyncio.create_task(locks())
            for _ in range(10):
                await asyncio.sleep(0)
            request.cancel()
            await asyncio.gather(request, return_exceptions=True)
            assert store._database._locks._holders  # type: ignore[union-attr]
        await store.close()

        async with other.thread_lock("thr"):
            pass
        await other.close()

    async def test_an_error_of_a_cancelled_request_is_nobodys(self, store: SQLStore[Any]) -> None:
        """A write that fails after its request was cancelled does not complain to the event loop."""
        complaints: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, about: complaints.append(about))
        request = asyncio.create_task(store.add_thread_item("no", note("i1"), ADA))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        request.cancel()
        await asyncio.gather(request, return_exceptions=True)
        with pytest.raises(NotFoundError):
            await store.load_thread("no", BOB)
        await store.close()

        assert [] == complaints


async def test_owners_that_are_not_told_apart(place: Place) -> None:
    """Without `owner=` everything belongs to everybody."""
    store = place.store(owner=None)
    await store.create_schema()
    await store.save_thread(thread(), ADA)

    assert ["thr"] == await thread_ids(store, BOB) == await thread_ids(store, None)
    await store.close()


def test_it_makes_no_difference_where_it_is_called(tmp_path: Any) -> None:
    """A store made at import serves the event loop that is started later."""
    store = SQLStore[Any].from_url(f"sqlite+aiosqlite:///{tmp_path}/chat.db")

    async def main() -> list[str]:
        await store.create_schema()
        await store.save_thread(thread(), None)
        found = await thread_ids(store, None)
        await store.close()
        return found

    assert ["thr"] == asyncio.run(main())


# a connection of asyncpg cannot be closed once its event loop is; Python says so when it is collected
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.usefixtures("collected")
class TestEventLoops:
    @pytest.fixture(params=["sqlite file", "sqlite memory", "postgres"])
    def place(self, request: pytest.FixtureRequest) -> Place:
        return place_named(request.param, request)

    @pytest.fixture
    def collected(self) -> Iterator[None]:
        yield
        gc.collect()

    async def test_one_loop_after_the_other(self, place: Place) -> None:
        """A store goes on in a new event loop once the last one is closed, with everything that it has."""
        store = place.store(pool_size=2, max_overflow=0) if ":memory:" not in place.url else place.store()

        async def crowd(n: int) -> None:
            await store.create_schema()
            await store.save_thread(thread(), ADA)
            await asyncio.gather(*[store.add_thread_item("thr", note(f"i{n}_{k}"), ADA) for k in range(9)])
            await asyncio.gather(*[item_ids(store) for _ in range(9)], lock(), lock(), lock())

        async def lock() -> None:
            async with store.thread_lock("thr"):
                await asyncio.sleep(0)

        for n in range(3):
            await asyncio.to_thread(asyncio.run, crowd(n))

        assert 27 == len(await item_ids(store))
        await store.close()

    async def test_an_engine_of_two_stores(self, place: Place) -> None:
        """Stores that share an engine go on together, and the second does not drop what the first has opened."""
        engine = place.store()._database.engine
        one, two = (SQLStore[Any](engine, owner=by_user, prefix=place.prefix) for _ in range(2))

        async def both() -> object:
            await one.create_schema()
            await filled(one)
            pool = engine.pool
            await thread_ids(two)
            assert engine.pool is pool
            return pool

        pools = [await asyncio.to_thread(asyncio.run, both()) for _ in range(2)]

        assert (pools[0] is pools[1]) == isinstance(engine.pool, StaticPool)
        assert ["thr"] == await thread_ids(two)
        await engine.dispose()

    async def test_two_loops_at_a_time(self, place: Place) -> None:
        """A second event loop is told at once what to do, by every method; the first goes on."""
        store = place.store()
        await store.create_schema()
        other = SQLStore[Any](store._database.engine, owner=by_user, prefix=place.prefix)

        async def locks() -> None:
            async with store.thread_lock("thr"):
                pytest.fail("nobody gets here")

        for attempt in (
            store.save_thread(thread(), ADA),
            store.load_threads(9, None, "asc", ADA),
            store.create_schema(),
            store.close(),
            other.load_threads(9, None, "asc", ADA),
            locks(),
        ):
            with pytest.raises(UsageError, match=r"used by two event loops at a time.*one store with an engine of its"):
                await asyncio.to_thread(asyncio.run, attempt)

        assert [] == await thread_ids(store)
        await store.close()
