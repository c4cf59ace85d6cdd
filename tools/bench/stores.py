"""Rows about stores: what a guard costs, and what `SQLStore` costs beside its statements."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import event
from sqlalchemy.engine import make_url

from chatkit_clienttools import StoreWrapper, ValidatingStore
from chatkit_clienttools.stores import MemoryStore
from chatkit_clienttools.stores.sql import SQLStore

from .bench import Bench, Row, new_prefix
from .conversations import OursAsks, Page
from .figures import Pair
from .timing import Stopwatch, in_turns, timed

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from chatkit.store import Store

    Connect = Callable[[Bench], str]

READS = ("load_thread", "load_threads", "load_thread_items", "load_item", "load_plan")
WRITES = ("save_thread", "add_thread_item", "save_item", "save_plan", "delete_thread", "delete_thread_item")


class WatchedStore(StoreWrapper[Any]):
    """Counts what is done with a store, what is written to it, and how long it takes."""

    def __init__(self, inner: Store[Any], watch: Stopwatch | None = None) -> None:
        super().__init__(inner)
        self.counts = Counter[str]()
        self.bytes_written = 0
        self._watched: Callable[[], AbstractContextManager[None]] = watch.running if watch else nullcontext
        for name in (*READS, *WRITES):
            setattr(self, name, self._passing_on(name, getattr(inner, name)))

    def _passing_on(self, name: str, method: Any) -> Any:
        async def passing_on(*args: Any, **options: Any) -> Any:
            self.counts[name] += 1
            if name in WRITES:
                self.bytes_written += sum(map(_size, args))
            with self._watched():
                return await method(*args, **options)

        return passing_on


def _size(value: Any) -> int:
    """How many bytes of JSON an item, a thread or a plan is."""
    if hasattr(value, "model_dump_json"):
        return len(value.model_dump_json().encode())
    return len(value.document.encode()) if hasattr(value, "document") else 0


async def opened(url: str, prefix: str) -> SQLStore[Any]:
    """Return a store that has its tables."""
    store = SQLStore[Any].from_url(url, prefix=prefix)
    await store.create_schema()
    return store


async def guarded_memory(bench: Bench) -> list[Pair]:
    """A conversation of three calls on a guarded `MemoryStore`, and on a bare one."""
    return await _guarded(bench, MemoryStore(), MemoryStore(), 200)


async def guarded_sql(bench: Bench, connect: Connect) -> list[Pair]:
    """A conversation of three calls on a guarded `SQLStore`, and on a bare one."""
    guarded, bare = await opened(connect(bench), new_prefix()), await opened(connect(bench), new_prefix())
    try:
        return await _guarded(bench, guarded, bare, 100)
    finally:
        await guarded.close()
        await bare.close()


async def _guarded(bench: Bench, guarded: Store[Any], bare: Store[Any], times: int) -> list[Pair]:
    servers = OursAsks(ValidatingStore(guarded)), OursAsks(bare)
    ours, theirs = (partial(_talk, server) for server in servers)
    return await in_turns(ours, theirs, bench.times(times), warm_up=2)


async def _talk(server: OursAsks) -> dict[Any, float]:
    return await timed(Page(server).talk())


class Statement(NamedTuple):
    """One trip to the database."""

    text: str
    parameters: tuple[Any, ...]


class Statements:
    """The statements that a store has sent."""

    def __init__(self, store: SQLStore[Any]) -> None:
        self.sent: list[Statement] = []
        engine = store._database.engine.sync_engine  # noqa: SLF001  nobody else needs it
        self._is_postgres = engine.dialect.name == "postgresql"
        event.listen(engine, "before_cursor_execute", self._on_statement)
        event.listen(engine, "begin", partial(self._on_boundary, "BEGIN"))
        event.listen(engine, "commit", partial(self._on_boundary, "COMMIT"))

    def taken(self) -> list[Statement]:
        """Return what was sent since the last time."""
        sent, self.sent = self.sent, []
        return sent

    def _on_statement(self, _connection: Any, _cursor: Any, text: str, parameters: Any, *_: Any) -> None:
        self.sent.append(Statement(text, tuple(parameters)))

    def _on_boundary(self, text: str, connection: Any) -> None:
        # SQLAlchemy tells of a transaction where the connection commits each statement by itself, too
        if self._is_postgres and connection.get_execution_options().get("isolation_level") != "AUTOCOMMIT":
            self.sent.append(Statement(text, ()))


async def bare_statements(bench: Bench, connect: Connect) -> list[Pair]:
    """The operations of one answer, and their statements, sent to tables of their own over the driver itself."""
    url, prefix, other_prefix = connect(bench), new_prefix(), new_prefix()
    store, other = await opened(url, prefix), await opened(url, other_prefix)
    statements, watch = Statements(store), Stopwatch()
    page = Page(OursAsks(WatchedStore(store, watch), calls=20))
    driver = await _Driver.connected(url)

    async def replayed() -> None:
        for text, parameters in statements.taken():
            await driver.send(text.replace(prefix, other_prefix), parameters)

    pairs: list[Pair] = []
    try:
        for _ in range(bench.times(4)):
            await page.say()
            await replayed()
            for _ in range(19):
                watch.cost = dict.fromkeys(watch.cost, 0.0)
                await page.answer()
                pairs.append(Pair(watch.cost, await timed(replayed())))
            await page.answer()
            await replayed()
    finally:
        await driver.close()
        await other.close()
        await store.close()
    return pairs[1:]


class _Driver:
    """A connection without anything around it."""

    def __init__(self, connection: Any, send: Callable[[str, tuple[Any, ...]], Any]) -> None:
        self._connection = connection
        self.send = send

    @classmethod
    async def connected(cls, url: str) -> _Driver:
        where = make_url(url)
        if where.get_backend_name() == "sqlite":
            import aiosqlite  # noqa: PLC0415  what is needed of the two

            sqlite = await aiosqlite.connect(str(where.database), isolation_level=None)
            for pragma in ("foreign_keys = ON", "synchronous = NORMAL"):
                await sqlite.execute(f"PRAGMA {pragma}")
            return cls(sqlite, sqlite.execute_fetchall)
        import asyncpg  # type: ignore[import-untyped]  # noqa: PLC0415

        postgres = await asyncpg.connect(where.set(drivername="postgresql").render_as_string(hide_password=False))

        async def send(text: str, parameters: tuple[Any, ...]) -> None:
            await (postgres.fetch(text, *parameters) if parameters else postgres.execute(text))

        return cls(postgres, send)

    async def close(self) -> None:
        await asyncio.wait_for(self._connection.close(), 10)


ROWS = [
    Row("`ValidatingStore` around `MemoryStore`", "the bare store", 1.3, guarded_memory),
    Row(
        "`ValidatingStore` around `SQLStore`, SQLite",
        "the bare store",
        1.10,
        partial(guarded_sql, connect=Bench.sqlite),
    ),
    Row(
        "`ValidatingStore` around `SQLStore`, PostgreSQL",
        "the bare store",
        1.10,
        partial(guarded_sql, connect=Bench.postgres),
        by="wall",
    ),
    Row(
        "`SQLStore`, one answer, SQLite",
        "its statements, sent bare",
        1.5,
        partial(bare_statements, connect=Bench.sqlite),
    ),
    Row(
        "`SQLStore`, one answer, PostgreSQL",
        "its statements, sent bare",
        1.5,
        partial(bare_statements, connect=Bench.postgres),
        by="wall",
    ),
]
