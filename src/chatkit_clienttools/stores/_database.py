"""Connections, transactions and time limits, for SQLite and PostgreSQL alike."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast
from weakref import WeakKeyDictionary

from sqlalchemy import event, inspect, select, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool, NullPool, Pool, QueuePool, StaticPool

from chatkit_clienttools.errors import StoreUnavailableError, UsageError

from ._locks import DatabaseLocks, LocalLocks
from ._loops import OneLoop
from ._schema import VERSION

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Coroutine
    from contextlib import AbstractAsyncContextManager

    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from ._schema import Tables

T = TypeVar("T")

Work = Callable[["Connection"], T]
"""What is done with a connection: one step, without waiting for anything but the database."""

_DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg"}
_EXTRAS = {"sqlite": "sql", "postgresql": "postgres"}

_AWAY_STATES = {"08", "28", "3D", "40", "53", "55", "57", "58"}
"""Classes of SQLSTATE: connection, authorization, catalog, rollback, resources, locks, operator, system."""

BUSY_SHARE = 0.45
"""Which share of the time limit SQLite itself may wait for its lock: it has to be the first to give up, since a wait in
its thread cannot be cut off. As much again is for the queue of this process."""

RETRY_SECONDS = 0.01
"""How soon to try again what SQLite does not wait for."""

_TWO_LOOPS = (
    "This SQLStore, or its engine, is used by two event loops at a time, and connections cannot be shared by them. "
    "Make one store with an engine of its own for each event loop, that is for each thread that runs one."
)


class _Home:
    """What the connections of a pool belong to, whichever store objects share them."""

    def __init__(self) -> None:
        self.loop = OneLoop(_TWO_LOOPS)
        self.gate = asyncio.Lock()
        """Who may use the only connection of an in-memory database."""


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

    return engine


class Database:
    """What a store asks of its database: one step that reads, or one transaction that writes.

    Each runs in a task of its own. A request that is cancelled leaves it to end well (a statement cut off would cost
    the connection, and for an in-memory database everything); a step that exceeds the time limit is given up.
    """

    def __init__(self, engine: AsyncEngine, tables: Tables, time_limit: float) -> None:
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
        self._writers = asyncio.Lock()
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
        return await self._limited(tried, self._read(self._checked(work)))

    async def write(self, tried: str, work: Work[T]) -> T:
        """Do something in one transaction: all of it, or nothing."""
        await self._enter_loop()
        return await self._limited(tried, self._write(self._checked(work)))

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
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=self._time_limit)
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
            home.gate = asyncio.Lock()
            if not self._is_shared_connection:
                await self._leave_connections(home)

    def _home(self) -> _Home:
        return _homes.setdefault(self.engine.pool, _Home())

    async def _leave_connections(self, home: _Home) -> None:
        """Give the engine a new pool: nobody can use the connections of a closed loop, except those of SQLite."""
        old = self.engine.pool
        self.engine.sync_engine.dispose(close=False)
        _homes[self.engine.pool] = home
        if not self.is_postgres:
            await create_async_engine(self.engine.url, pool=old).dispose()

    async def _limited(self, tried: str, work: Coroutine[Any, Any, T]) -> T:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        deadline = asyncio.get_running_loop().call_later(self._time_limit, task.cancel)
        task.add_done_callback(lambda _: deadline.cancel())
        task.add_done_callback(self._has_ended)
        # wait() does not cancel what it waits for, and does not wait for what takes its time to be cancelled
        await asyncio.wait({task}, timeout=self._time_limit)
        if not task.done() or task.cancelled():
            raise StoreUnavailableError(tried, self.name, self._time_limit, "it was not done in time")
        try:
            return task.result()
        except Exception as error:
            explained = self._explained(tried, error)
            if explained is error:
                raise
            raise explained from error

    def _has_ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
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

    def _alone(self) -> AbstractAsyncContextManager[Any]:
        """Keep the others off the only connection, if there is only one."""
        if not self._is_shared_connection:
            return nullcontext()
        return self._home().gate

    @asynccontextmanager
    async def _connected(self, isolation_level: str) -> AsyncGenerator[AsyncConnection, None]:
        async with self._alone(), self.engine.connect() as connection:
            if self.is_own and not self.is_postgres:
                yield connection  # it has the level already
            else:
                # said for each connection: the engine may be the application's, with a level of its own
                yield await connection.execution_options(isolation_level=isolation_level)

    async def _read(self, work: Work[T]) -> T:
        async with self._connected("AUTOCOMMIT") as connection:
            return await self._run(connection, work)

    async def _write(self, work: Work[T]) -> T:
        if self.is_postgres:
            async with self._connected("READ COMMITTED") as connection, connection.begin():
                return await self._run(connection, work)
        async with self._turn(), self._connected("AUTOCOMMIT") as connection:
            return await self._run(connection, partial(_in_transaction, work))

    async def _run(self, connection: AsyncConnection, work: Work[T]) -> T:
        """Do all of `work` at once: the driver of SQLite would go to its thread and back for every statement."""
        proxied: Any = await connection.get_raw_connection()
        driver = proxied.driver_connection
        if self.is_postgres or not hasattr(driver, "_execute"):
            return await connection.run_sync(work)
        # aiosqlite has no public way to run a function in its thread
        in_thread = partial(_in_thread, cast("Connection", connection.sync_connection), proxied, driver._conn, work)  # noqa: SLF001
        running = asyncio.ensure_future(driver._execute(in_thread))  # noqa: SLF001
        try:
            return cast("T", await asyncio.shield(running))
        except asyncio.CancelledError:
            # what is in the thread cannot be cut off, and the connection is not to be touched before it has ended
            await asyncio.wait({running})
            self._has_ended(running)
            raise

    @asynccontextmanager
    async def _turn(self) -> AsyncGenerator[None, None]:
        """Let one writer of this process at a time go on: they queue here, and do not poll for SQLite's only lock."""
        try:
            await asyncio.wait_for(self._writers.acquire(), self._time_limit / 2)
        except asyncio.TimeoutError:
            raise TimeoutError("the other writers of this process have not come to an end") from None
        try:
            yield
        finally:
            self._writers.release()

    async def _create_schema(self) -> None:
        if not self.is_postgres and self.is_own:
            async with self._connected("AUTOCOMMIT") as connection:
                await self._write_ahead(connection)
        await self._write(self._make_tables)
        self._is_checked = True

    def _make_tables(self, connection: Connection) -> None:
        if self.is_postgres:
            connection.execute(_ADVISORY_LOCK, {"name": self._tables.schema.name})
        found = self._version(connection)
        if found is None:
            self._tables.metadata.create_all(connection)
            connection.execute(self._tables.schema.insert().values(id=1, version=VERSION))
        else:
            self._tables.check_version(found)

    async def _write_ahead(self, connection: AsyncConnection) -> None:
        """Switch the file to a write-ahead log; SQLite does not wait for others who do the same at this moment."""
        clock = asyncio.get_running_loop().time
        give_up = clock() + self._time_limit * BUSY_SHARE
        while True:
            try:
                await connection.exec_driver_sql("PRAGMA journal_mode = WAL")
            except OperationalError:
                if clock() > give_up:
                    raise
                await asyncio.sleep(RETRY_SECONDS)
            else:
                return

    def _version(self, connection: Connection) -> int | None:
        schema = self._tables.schema
        if not inspect(connection).has_table(schema.name):
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
        async with self._connected("AUTOCOMMIT") as connection:
            files = await connection.exec_driver_sql("SELECT file FROM pragma_database_list WHERE name = 'main'")
            file = files.scalar_one()
        return create_async_engine(
            URL.create(_DRIVERS["sqlite"], database=f"{file}-lock"),
            poolclass=NullPool,
            isolation_level="AUTOCOMMIT",
            connect_args={"timeout": self._time_limit},
        )


def _in_transaction(work: Work[T], connection: Connection) -> T:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
    try:
        done = work(connection)
        connection.exec_driver_sql("COMMIT")
    except BaseException:
        connection.rollback()
        raise
    return done


def _in_thread(connection: Connection, proxied: Any, raw: Any, work: Work[T]) -> T:
    """Do `work`, in the thread that SQLite's connection belongs to, with that connection itself."""
    adapted = proxied.dbapi_connection
    proxied.dbapi_connection = raw
    try:
        return work(connection)
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
    if url.get_backend_name() != "sqlite":
        options["pool_pre_ping"] = True
    if "pool" not in given:
        # said for each database: what SQLAlchemy takes for SQLite depends on its version
        options["poolclass"] = given.get("poolclass", StaticPool if _is_in_memory(url) else AsyncAdaptedQueuePool)
        if issubclass(options["poolclass"], QueuePool):
            options["pool_timeout"] = time_limit
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
