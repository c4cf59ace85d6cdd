"""Connections, transactions and time limits, for SQLite and PostgreSQL alike."""

from __future__ import annotations

import asyncio
import inspect
import sqlite3
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from functools import cache, partial
from time import monotonic as _now
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from weakref import WeakKeyDictionary

from sqlalchemy import event, select, text
from sqlalchemy import inspect as looked_at
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError, InterfaceError, InvalidatePoolError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool, NullPool, Pool, QueuePool, StaticPool
from sqlalchemy.util import await_only, greenlet_spawn

from chatkit_clienttools.errors import StoreUnavailableError, UsageError

from ._locks import DatabaseLocks, LocalLocks
from ._loops import OneLoop
from ._schema import VERSION
from ._writers import Work, Writers

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine

    from sqlalchemy import Connection

    from ._schema import Tables

T = TypeVar("T")

_DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg"}
_EXTRAS = {"sqlite": "sql", "postgresql": "postgres"}

_AWAY_STATES = {"08", "28", "3D", "40", "53", "55", "57", "58"}
"""Classes of SQLSTATE: connection, authorization, catalog, rollback, resources, locks, operator, system."""

BUSY_SHARE = 0.45
"""Which share of the time limit SQLite itself may wait for its lock: it has to be the first to give up, since a wait in
its thread cannot be cut off. As much again is for the queue of this process."""

QUEUE_SHARE = 0.5
"""Which share of the time limit a writer may wait for the other writers of this process."""

IDLE_SECONDS = 10.0
"""How long a connection to PostgreSQL may be idle before it is asked whether it still works. To ask each time would
take as long as most of what it is used for; that the server has closed it is known without asking."""

POOL_SIZE = 10
"""How many connections to PostgreSQL are kept."""

RETRY_SECONDS = 0.01
"""How soon to try again what SQLite does not wait for."""

_TWO_LOOPS = (
    "This SQLStore, or its engine, is used by two event loops at a time, and connections cannot be shared by them. "
    "Make one store with an engine of its own for each event loop, that is for each thread that runs one."
)


class _Home:
    """What the connections of a pool belong to, whichever store objects share them."""

    def __init__(self, pool: Pool) -> None:
        self.loop = OneLoop(_TWO_LOOPS)
        self._places = 1 if isinstance(pool, StaticPool) else pool.size() if isinstance(pool, QueuePool) else 0
        self.open_gate()

    def open_gate(self) -> None:
        """Let as many in at a time as the pool keeps connections, in the order in which they come.

        The queue of a pool has no order: who has just given a connection back takes it again before those who wait.
        And what a pool opens beyond those that it keeps costs more to open than to wait for.
        """
        self.gate = asyncio.Semaphore(self._places) if self._places else nullcontext()


_homes: WeakKeyDictionary[Pool, _Home] = WeakKeyDictionary()


def open_engine(url: str | URL, time_limit: float, options: dict[str, Any]) -> AsyncEngine:
    """Make an engine with everything that a store wants of one."""
    url = make_url(url)
    backend = url.get_backend_name()
    if url.drivername in _DRIVERS:
        url = url.set(drivername=_DRIVERS[backend])
    try:
        engine = create_async_engine(url, **_options_for(url, time_limit, options))
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get(backend, "sql")
        raise ImportError(f"{url.drivername} needs {error.name}: pip install 'chatkit-clienttools[{extra}]'") from error
    if backend == "sqlite":

        @event.listens_for(engine.sync_engine, "connect")
        def prepare(connection: Any, _record: Any) -> None:
            connection.execute("PRAGMA foreign_keys = ON")
            # a commit does not wait for the disk: a power cut may lose the last ones, but damages nothing
            connection.execute("PRAGMA synchronous = NORMAL")

    else:
        _check_connections(engine)
    return engine


def _refuse_what_is_no_engine(engine: object) -> None:
    if not isinstance(engine, AsyncEngine):
        given = "a URL: use SQLStore.from_url(...)" if isinstance(engine, str) else f"a {type(engine).__name__}"
        raise UsageError(f"SQLStore takes an AsyncEngine of SQLAlchemy, not {given}")


def _check_connections(engine: AsyncEngine) -> None:
    """See to it that a connection works before it is used."""

    @event.listens_for(engine.sync_engine, "checkin")
    def begin_to_idle(_connection: Any, record: Any) -> None:
        record.info["idle since"] = _now()

    @event.listens_for(engine.sync_engine, "checkout")
    def check(connection: Any, record: Any, _proxied: Any) -> None:
        idle = _now() - record.info.get("idle since", _now())
        if connection.driver_connection.is_closed():
            raise InvalidatePoolError
        if idle > IDLE_SECONDS:
            try:
                engine.dialect.do_ping(connection)
            except Exception as error:
                raise InvalidatePoolError from error


class Database:
    """What a store asks of its database: one step that reads, or one transaction that writes.

    Each runs in a task of its own. A request that is cancelled leaves it to end well (a statement cut off would cost
    the connection, and for an in-memory database everything); a step that exceeds the time limit is given up.
    """

    def __init__(self, engine: AsyncEngine, tables: Tables, time_limit: float) -> None:
        _refuse_what_is_no_engine(engine)
        if engine.dialect.name not in _DRIVERS:
            raise UsageError(f"SQLStore knows SQLite and PostgreSQL, not {engine.dialect.name}")
        self.is_postgres = engine.dialect.name == "postgresql"
        self.engine = engine
        self.name = _name_of(engine.url)
        self._tables = tables
        self._time_limit = time_limit
        self.is_own = False
        self._is_checked = False
        self._is_shared_connection = isinstance(engine.pool, StaticPool)
        self._loop = OneLoop(_TWO_LOOPS)
        self._begin()

    def _begin(self) -> None:
        """Make what belongs to an event loop."""
        self._writers = Writers(self._do, self._time_limit * QUEUE_SHARE)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._locks_engine: AsyncEngine | None = None
        local = LocalLocks(self.name, self._time_limit)
        self._locks: LocalLocks | DatabaseLocks = local
        if not self._is_shared_connection:
            self._locks = DatabaseLocks(
                self._lock_transaction,
                self._explained,
                local,
                self.name,
                self._time_limit,
                one_for_all=not self.is_postgres,
            )

    async def read(self, tried: str, work: Work[T]) -> T:
        """Do something that only reads."""
        await self._enter_loop()
        return await self._limited(tried, self._do(self._checked(work)))

    async def write(self, tried: str, work: Work[T]) -> T:
        """Do something in one transaction: all of it, or nothing."""
        await self._enter_loop()
        return await self._limited(tried, self._write(self._checked(work)))

    async def compare_and_set(self, tried: str, work: Work[T]) -> T:
        """Do something whose only change is one statement, which changes nothing but what it expects.

        On PostgreSQL that needs no transaction, which would be two more trips to the server and back. What is given up
        on may still be done there, as on SQLite, whose thread cannot be cut off: that is why it has to compare.
        """
        await self._enter_loop()
        doing = self._do if self.is_postgres else self._write
        return await self._limited(tried, doing(self._checked(work)))

    async def create_schema(self) -> None:
        """Make the tables unless they are there, whoever else does the same at this moment."""
        await self._enter_loop()
        await self._limited("create the tables", self._create_schema())

    @asynccontextmanager
    async def thread_lock(self, thread_id: str) -> AsyncGenerator[None, None]:
        """Hold the lock of a thread."""
        await self._enter_loop()
        async with self._locks.held(thread_id):
            yield

    async def close(self) -> None:
        """Let what is under way end, then close the connections that are ours."""
        await self._enter_loop()
        if under_way := self._tasks | self._writers.tasks:
            await asyncio.wait(under_way, timeout=self._time_limit)
        if isinstance(self._locks, DatabaseLocks):
            await self._locks.close()
        if self._locks_engine is not None:
            await self._locks_engine.dispose()
        if self.is_own:
            await self.engine.dispose()

    async def _enter_loop(self) -> None:
        """Go on in the running event loop if the last one was closed; raises if it was not."""
        if self._loop.has_changed():
            self._begin()
        home = self._home()
        if home.loop.has_changed():
            home.open_gate()
            if not self._is_shared_connection:
                await self._leave_connections(home)

    def _home(self) -> _Home:
        pool = self.engine.pool
        home = _homes.get(pool)
        if home is None:
            home = _homes[pool] = _Home(pool)
        return home

    async def _leave_connections(self, home: _Home) -> None:
        """Give the engine a new pool: nobody can use the connections of a closed loop, except those of SQLite."""
        old = self.engine.pool
        self.engine.sync_engine.dispose(close=False)
        _homes[self.engine.pool] = home
        if not self.is_postgres:
            await create_async_engine(self.engine.url, pool=old).dispose()

    async def _limited(self, tried: str, work: Coroutine[Any, Any, T]) -> T:
        loop = asyncio.get_running_loop()
        task, over = loop.create_task(work), loop.create_future()
        self._tasks.add(task)
        deadline = loop.call_later(self._time_limit, _give_up, task, over)
        task.add_done_callback(partial(self._has_ended, over, deadline))
        # it is no awaiting of the task: that is not cancelled with the request, and may take its time to be cancelled
        await over
        if not task.done() or task.cancelled():
            raise StoreUnavailableError(tried, self.name, self._time_limit, "it was not done in time")
        try:
            return task.result()
        except Exception as error:
            explained = self._explained(tried, error)
            if explained is error:
                raise
            raise explained from error

    def _has_ended(self, over: asyncio.Future[None], deadline: asyncio.TimerHandle, task: asyncio.Task[Any]) -> None:
        deadline.cancel()
        self._tasks.discard(task)
        _release(over)
        if not task.cancelled():
            task.exception()  # nobody asks for it if the request was cancelled

    def _explained(self, tried: str, error: Exception) -> Exception:
        """Say it in words of ours if the database is away or busy; anything else stays what it is."""
        if not _is_away(error):
            return error
        reason = str(getattr(error, "orig", None) or error).splitlines() or [type(error).__name__]
        return StoreUnavailableError(tried, self.name, self._time_limit, reason[0].rstrip("."))

    def _checked(self, work: Work[T]) -> Work[T]:
        """Look at the version of the tables before the first work."""

        def checked(connection: Connection) -> T:
            if not self._is_checked:
                self._tables.check_version(self._version(connection))
                self._is_checked = True
            return work(connection)

        return checked

    async def _do(self, work: Work[T]) -> T:
        return await self._in_connection(work, "AUTOCOMMIT")

    async def _write(self, work: Work[T]) -> T:
        if self.is_postgres:
            return await self._in_connection(partial(_committed, work), "READ COMMITTED")
        return await self._writers.write(work)

    async def _in_connection(self, work: Work[T], isolation_level: str) -> T:
        """Take a connection, do all of `work`, and give it back, in one greenlet: SQLAlchemy's own way has three."""
        async with self._home().gate:
            return await greenlet_spawn(self._connected, work, isolation_level)

    def _connected(self, work: Work[T], isolation_level: str) -> T:
        with self.engine.sync_engine.connect() as connection:
            if self.is_postgres or not self.is_own:  # otherwise it has the level already
                # said for each connection: the engine may be the application's, with a level of its own
                connection.execution_options(isolation_level=isolation_level)
            proxied: Any = connection.connection
            driver = _driver_of(proxied)
            if driver is None:
                return work(connection)
            # the driver of SQLite would go to its thread and back for every statement
            done: T = await_only(_whole(driver, partial(_in_thread, connection, proxied, driver, work)))
            return done

    async def _create_schema(self) -> None:
        if not self.is_postgres and self.is_own:
            await self._write_ahead()
        await self._write(self._make_tables)
        self._is_checked = True

    def _make_tables(self, connection: Connection) -> None:
        if self.is_postgres:
            connection.execute(_ADVISORY_LOCK, {"name": self._tables.schema.name})
        found = self._version(connection)
        if found is not None:
            self._tables.check_version(found)
        # a table that was added later is made as well: those who do not know it do without
        self._tables.metadata.create_all(connection)
        if found is None:
            connection.execute(self._tables.schema.insert().values(id=1, version=VERSION))

    async def _write_ahead(self) -> None:
        """Switch the file to a write-ahead log; SQLite does not wait for others who do the same at this moment."""
        clock = asyncio.get_running_loop().time
        give_up = clock() + self._time_limit * BUSY_SHARE
        while True:
            try:
                await self._do(_switch_to_write_ahead)
            except OperationalError:
                if clock() > give_up:  # pragma: no cover  whether others do it at this moment is up to chance
                    raise
                await asyncio.sleep(RETRY_SECONDS)  # pragma: no cover
            else:
                return

    def _version(self, connection: Connection) -> int | None:
        schema = self._tables.schema
        if not looked_at(connection).has_table(schema.name):
            return None
        version: int | None = connection.scalar(select(schema.c.version))
        return version

    @asynccontextmanager
    async def _lock_transaction(self, thread_id: str) -> AsyncGenerator[None, None]:
        async with AsyncExitStack() as stack:
            if self.is_postgres:
                if self._locks_engine is None:
                    self._locks_engine = create_async_engine(self.engine.url, pool=self.engine.pool.recreate())
                connection = await stack.enter_async_context(self._locks_engine.begin())
                limit = {"limit": f"{int(self._time_limit * 1000)}ms"}
                await connection.execute(text("SELECT set_config('lock_timeout', :limit, true)"), limit)
                await connection.execute(_ADVISORY_LOCK, {"name": f"{self._tables.threads.name} {thread_id}"})
            else:
                if self._locks_engine is None:
                    self._locks_engine = await self._open_lock_file()
                connection = await stack.enter_async_context(self._locks_engine.connect())
                await connection.exec_driver_sql("BEGIN IMMEDIATE")
            yield

    async def _open_lock_file(self) -> AsyncEngine:
        """Open the database beside the database: nothing is ever written to it, it is only locked."""
        file = await self._do(_file_of)
        return create_async_engine(
            URL.create(_DRIVERS["sqlite"], database=f"{file}-lock"),
            poolclass=NullPool,
            isolation_level="AUTOCOMMIT",
            connect_args={"timeout": self._time_limit},
        )


class _Driver(NamedTuple):
    """What is private in aiosqlite, which has no public way to run a function in the thread of a connection."""

    execute: Callable[[Callable[[], Any]], Coroutine[Any, Any, Any]]
    connection: sqlite3.Connection


def _driver_of(proxied: Any) -> _Driver | None:
    """Return the driver of a connection to SQLite; None if it is another one, or is not made as we know it."""
    aiosqlite = proxied.driver_connection
    execute, connection = getattr(aiosqlite, "_execute", None), getattr(aiosqlite, "_conn", None)
    is_known = _is_async(getattr(execute, "__func__", None)) and isinstance(connection, sqlite3.Connection)
    return _Driver(execute, connection) if execute and connection and is_known else None


# to look takes as long as to take a connection from the pool
_is_async = cache(inspect.iscoroutinefunction)


async def _whole(driver: _Driver, function: Callable[[], T]) -> T:
    """Run a function in the thread of SQLite, and wait for it in any case."""
    try:
        done: T = await driver.execute(function)
    except asyncio.CancelledError:  # pragma: no cover  a test does reach it; coverage loses sight in the greenlet
        # what is in the thread cannot be cut off, and the connection is not to be touched before it has ended: the
        # turn of this comes after it
        await driver.execute(_nothing)
        raise
    return done


def _nothing() -> None:
    """Do nothing."""


def _give_up(task: asyncio.Task[Any], over: asyncio.Future[None]) -> None:
    task.cancel()
    _release(over)


def _release(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)


def _committed(work: Work[T], connection: Connection) -> T:
    """Do `work` in a transaction."""
    with connection.begin():
        return work(connection)


def _switch_to_write_ahead(connection: Connection) -> None:
    connection.exec_driver_sql("PRAGMA journal_mode = WAL")


def _file_of(connection: Connection) -> str:
    file: str = connection.exec_driver_sql("SELECT file FROM pragma_database_list WHERE name = 'main'").scalar_one()
    return file


def _in_thread(connection: Connection, proxied: Any, driver: _Driver, work: Work[T]) -> T:
    """Do `work`, in the thread that SQLite's connection belongs to, with that connection itself."""
    adapted = proxied.dbapi_connection
    proxied.dbapi_connection = driver.connection
    try:
        return work(connection)
    finally:
        try:
            connection.rollback()  # nothing is open any more; later it would be another way to the thread and back
        finally:
            proxied.dbapi_connection = adapted


_ADVISORY_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))")


def _options_for(url: URL, time_limit: float, given: dict[str, Any]) -> dict[str, Any]:
    options: dict[str, Any] = {"hide_parameters": True}
    if url.get_driver_name() == "asyncpg":
        options["connect_args"] = {"timeout": time_limit}
    if url.get_driver_name() == "aiosqlite":
        options["connect_args"] = {"timeout": time_limit * BUSY_SHARE}
        given = {**given, "isolation_level": "AUTOCOMMIT"}
    if "pool" not in given:
        if url.get_driver_name() == "aiosqlite":
            options["pool_reset_on_return"] = None  # `_in_thread` has done that
        # said for each database: what SQLAlchemy takes for SQLite depends on its version
        options["poolclass"] = given.get("poolclass", StaticPool if _is_in_memory(url) else AsyncAdaptedQueuePool)
        if issubclass(options["poolclass"], QueuePool):
            options["pool_timeout"] = time_limit
            if url.get_backend_name() != "sqlite":
                options["pool_size"] = POOL_SIZE
    return {**options, **given}


def _is_in_memory(url: URL) -> bool:
    """Whether it is a database of SQLite that its only connection holds."""
    if url.get_backend_name() != "sqlite":
        return False
    name = url.database or ":memory:"
    return name == ":memory:" or name.startswith("file::memory:") or url.query.get("mode") == "memory"


def _is_away(error: Exception) -> bool:
    if isinstance(error, (OperationalError, InterfaceError, PoolTimeoutError, OSError, asyncio.TimeoutError)):
        return True
    if isinstance(error, DBAPIError):
        state = getattr(error.orig, "sqlstate", None) or ""
        return error.connection_invalidated or state[:2] in _AWAY_STATES
    # what goes wrong in connecting is not wrapped by SQLAlchemy
    return type(error).__module__.partition(".")[0] == "asyncpg"


def _name_of(url: URL) -> str:
    """Name the database without user, password and options."""
    named = URL.create(url.drivername, host=url.host, port=url.port, database=url.database)
    return named.render_as_string()
