"""`SQLStore`: a store on SQLite or PostgreSQL, through SQLAlchemy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, cast

from chatkit.store import Store
from chatkit.types import ClientToolCallItem, Page
from typing_extensions import TypeVar, override

try:
    from sqlalchemy import BigInteger, LargeBinary, Text, and_, delete, literal, select
    from sqlalchemy.dialects import postgresql, sqlite
except ImportError as error:
    raise ImportError("SQLStore needs SQLAlchemy: pip install 'chatkit-clienttools[sql]'") from error

from chatkit_clienttools._protocol.guards import check_new, has_to_be_written, late_answer, second_pending
from chatkit_clienttools._step.plans import StoredPlan

from ._database import Database, open_engine
from ._documents import (
    ATTACHMENTS,
    ITEMS,
    THREADS,
    check_thread,
    checked_limit,
    checked_order,
    given,
    is_key,
    new_id,
    not_found,
    owner_key,
    page_of,
    thread_of,
    wanted,
)
from ._schema import Owned, Tables
from ._statements import Prepared, Statements

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from chatkit.store import StoreItemType
    from chatkit.types import Attachment, ThreadItem, ThreadMetadata
    from sqlalchemy import ColumnElement, Connection, Executable, Table
    from sqlalchemy.engine import URL
    from sqlalchemy.ext.asyncio import AsyncEngine

TContext = TypeVar("TContext", default=Any)

Rows = list[tuple[str, str]]
"""Ids and documents."""


class SQLStore(Store[TContext], Generic[TContext]):
    """A store on SQLite (3.35 or newer) or PostgreSQL (12 or newer).

        store = SQLStore.from_url("sqlite+aiosqlite:///chat.db", owner=lambda context: context.user_id)
        await store.create_schema()

    Threads and items have the order in which they were added, by a sequence and never by a clock; saving one again
    keeps its place. Each method is one transaction: done, or not done. It keeps plans of its own (`SupportsPlans`).
    The database itself holds at most one pending client tool call per thread, and a completed one never changes: what
    would break that is a `LifecycleViolationError`. What belongs to another owner does not exist.

    A database that is away, or a pool that is exhausted, is a `StoreUnavailableError` within the time limit, and the
    next call works again when it is back.

    Args:
        engine: An engine that the application has. It is used as it is, and not closed; `from_url` makes one that has
            all that a store wants: write-ahead log, busy timeout and foreign keys on SQLite, a check of connections
            before they are used on PostgreSQL. It serves one event loop at a time.
        owner: Tells whose rows a request may touch. Without it everything belongs to everybody.
        time_limit: How many seconds a method, or waiting for a `thread_lock`, may take.
        prefix: What the names of the tables begin with.
    """

    _holds_lifecycle = True
    """A `ValidatingStore` around it has nothing to look up: it would only look for what is looked for here."""

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        owner: Callable[[TContext], object] | None = None,
        time_limit: float = 10.0,
        prefix: str = "chatkit_",
    ) -> None:
        self._owner = owner
        self._tables = Tables(prefix)
        self._database = Database(engine, self._tables, time_limit)
        self._insert = postgresql.insert if self._database.is_postgres else sqlite.insert
        self._statements = Statements(self._tables, engine.dialect)

    @classmethod
    def from_url(
        cls,
        url: str | URL,
        *,
        owner: Callable[[TContext], object] | None = None,
        time_limit: float = 10.0,
        prefix: str = "chatkit_",
        **engine_options: Any,
    ) -> SQLStore[TContext]:
        """Make a store with an engine of its own; `close()` closes it.

        `sqlite+aiosqlite:///chat.db`, `sqlite+aiosqlite:///:memory:`, `postgresql+asyncpg://user:password@host/name`.
        Further options go to `sqlalchemy.ext.asyncio.create_async_engine`.
        """
        store = cls(open_engine(url, time_limit, engine_options), owner=owner, time_limit=time_limit, prefix=prefix)
        store._database.is_own = True
        return store

    async def create_schema(self) -> None:
        """Make the tables unless they are there. To be called when a worker starts; several may do so at once."""
        await self._database.create_schema()

    async def close(self) -> None:
        """Wait for what is under way, and close the connections of an engine that `from_url` made."""
        await self._database.close()

    def thread_lock(self, thread_id: str) -> AbstractAsyncContextManager[None]:
        """Keep all workers out who ask for the lock of this thread: `ClientToolSequencer(lock=store.thread_lock)`.

        On PostgreSQL it is an advisory lock, on SQLite one lock for all threads, on a file beside the database. It
        takes a connection from a pool of its own. It is not nestable, and not to be held while a model runs.
        """
        return self._database.thread_lock(wanted(thread_id, "Thread"))

    @override
    def generate_thread_id(self, context: TContext) -> str:
        return new_id("thread")

    @override
    def generate_item_id(self, item_type: StoreItemType, thread: ThreadMetadata, context: TContext) -> str:
        return new_id(item_type)

    async def load_thread(self, thread_id: str, context: TContext) -> ThreadMetadata:
        key = self._thread(context, wanted(thread_id, "Thread"))
        document = await self._document(f"load thread {thread_id}", self._statements.thread, key)
        if document is None:
            raise not_found(thread_id, "Thread")
        return THREADS.read(document, thread_id)

    async def save_thread(self, thread: ThreadMetadata, context: TContext) -> None:
        mine = self._of(context)
        document = THREADS.write(thread, given(thread.id, "Thread"))
        key = self._thread(context, thread.id)

        def work(connection: Connection) -> None:
            while (known := self._statements.thread_to_change.run(connection, **key).scalar()) is None:
                if self._create_thread(connection, mine, thread.id, document):  # pragma: no branch  another was first
                    return
            check_thread(known, document, thread.id)
            self._statements.change_thread.run(connection, **key, new_document=document)

        await self._database.write(f"save thread {thread.id}", work)

    async def load_threads(self, limit: int, after: str | None, order: str, context: TContext) -> Page[ThreadMetadata]:
        threads, mine = self._tables.threads, self._of(context)
        span = _Span(threads, mine.threads(), limit, order)
        if after:
            wanted(after, "Thread")

        def work(connection: Connection) -> Rows | None:
            return span.rows(connection, mine.thread(after) if after else None)

        rows = await self._database.read("list the threads", work)
        if rows is None:
            raise not_found(after or "", "Thread")
        return page_of([(key, THREADS.read(document, key)) for key, document in rows], span.limit)

    async def delete_thread(self, thread_id: str, context: TContext) -> None:
        mine = self._of(context)
        if not is_key(thread_id):
            return

        def work(connection: Connection) -> None:
            # its row first: who is about to add something to it waits for that row, and then finds it gone
            connection.execute(delete(self._tables.threads).where(mine.thread(thread_id)))
            for table in (self._tables.items, self._tables.plans, self._tables.attachments, self._tables.contents):
                connection.execute(delete(table).where(mine.of_thread(table, thread_id)))

        await self._database.write(f"delete thread {thread_id}", work)

    async def load_thread_items(
        self, thread_id: str, after: str | None, limit: int, order: str, context: TContext
    ) -> Page[ThreadItem]:
        items, mine = self._tables.items, self._of(context)
        key = self._thread(context, wanted(thread_id, "Thread"))
        at_most, is_ascending = checked_limit(limit), checked_order(order) == "asc"
        first = self._statements.oldest_items if is_ascending else self._statements.newest_items
        if after:
            wanted(after, "Item")

        def work(connection: Connection) -> Rows | None:
            rows: Rows | None
            if after:  # built here: it takes longer than what every request sends
                span = _Span(items, mine.of_thread(items, thread_id), limit, order)
                rows = span.rows(connection, mine.item(thread_id, after))
            else:
                rows = [(row.id, row.document) for row in first.run(connection, **key, at_most=at_most + 1)]
            if not rows and not self._has_thread(connection, mine, thread_id):
                raise not_found(thread_id, "Thread")
            return rows

        rows = await self._database.read(f"load the items of thread {thread_id}", work)
        if rows is None:
            raise not_found(after or "", "Item")
        return page_of([(key, ITEMS.read(document, key)) for key, document in rows], at_most)

    async def add_thread_item(self, thread_id: str, item: ThreadItem, context: TContext) -> None:
        document = ITEMS.write(item, given(item.id, "Item"))
        item = ITEMS.read(document, item.id)  # as everybody will see it
        key = {**self._thread(context, wanted(thread_id, "Thread")), "of_item": item.id}

        def work(connection: Connection) -> None:
            self._write_item(connection, self._of(context), key, item, document)

        # a call is added where none is pending, or completed where it is as it was seen: one statement, either way
        is_call = isinstance(item, ClientToolCallItem)
        doing = self._database.compare_and_set if is_call else self._database.write
        await doing(f"save item {item.id} of thread {thread_id}", work)

    async def save_item(self, thread_id: str, item: ThreadItem, context: TContext) -> None:
        await self.add_thread_item(thread_id, item, context)

    async def load_item(self, thread_id: str, item_id: str, context: TContext) -> ThreadItem:
        key = {**self._thread(context, wanted(thread_id, "Thread")), "of_item": wanted(item_id, "Item")}
        document = await self._document(f"load item {item_id} of thread {thread_id}", self._statements.item, key)
        if document is None:
            raise not_found(item_id, "Item")
        return ITEMS.read(document, item_id)

    async def delete_thread_item(self, thread_id: str, item_id: str, context: TContext) -> None:
        is_it = self._of(context).item(thread_id, item_id)
        if is_key(thread_id) and is_key(item_id):
            await self._delete(f"delete item {item_id} of thread {thread_id}", self._tables.items, is_it)

    async def save_attachment(self, attachment: Attachment, context: TContext) -> None:
        attachments = self._tables.attachments
        document = ATTACHMENTS.write(attachment, given(attachment.id, "Attachment"))
        thread_id = thread_of(attachment)
        new = {"owner": self._of(context).owner, "id": attachment.id, "thread_id": thread_id, "document": document}
        insert = self._insert(attachments).values(new)
        key = [attachments.c.owner, attachments.c.id]
        upsert = insert.on_conflict_do_update(index_elements=key, set_={"thread_id": thread_id, "document": document})

        def work(connection: Connection) -> None:
            connection.execute(upsert)

        await self._database.write(f"save attachment {attachment.id}", work)

    async def load_attachment(self, attachment_id: str, context: TContext) -> Attachment:
        is_it = self._of(context).attachment(wanted(attachment_id, "Attachment"))
        stored = select(self._tables.attachments.c.document).where(is_it)

        def work(connection: Connection) -> str | None:
            found: str | None = connection.scalar(stored)
            return found

        document = await self._database.read(f"load attachment {attachment_id}", work)
        if document is None:
            raise not_found(attachment_id, "Attachment")
        return ATTACHMENTS.read(document, attachment_id)

    async def delete_attachment(self, attachment_id: str, context: TContext) -> None:
        is_it = self._of(context).attachment(attachment_id)
        if is_key(attachment_id):
            await self._delete(f"delete attachment {attachment_id}", self._tables.attachments, is_it)

    async def load_plan(self, thread_id: str, context: TContext) -> StoredPlan | None:
        """Load the plan of a thread and its revision; None if there was never one."""
        key = self._thread(context, wanted(thread_id, "Thread"))

        def work(connection: Connection) -> StoredPlan | None:
            row = self._statements.plan.run(connection, **key).one_or_none()
            return StoredPlan(row.revision, row.document) if row else None

        return await self._database.read(f"load the plan of thread {thread_id}", work)

    async def save_plan(self, thread_id: str, plan: StoredPlan, expected: int, context: TContext) -> bool:
        """Save `plan` if the stored revision is `expected` (0: there is none yet), in one step; say whether it was."""
        mine = self._of(context)
        key = self._thread(context, wanted(thread_id, "Thread"))
        new = {"new_revision": plan.revision, "new_document": plan.document}

        def work(connection: Connection) -> bool:
            if expected:
                saved = self._statements.change_plan.run(connection, **key, **new, expected=expected)
            else:
                saved = connection.execute(self._first_plan(mine, thread_id, plan))
            if saved.rowcount:
                return True
            if not self._has_thread(connection, mine, thread_id):
                raise not_found(thread_id, "Thread")
            return False

        return await self._database.compare_and_set(f"save the plan of thread {thread_id}", work)

    async def save_content(self, thread_id: str, content_id: str, data: bytes, context: TContext) -> None:
        """Keep the content of an image or a file, for a `MediaStore`."""
        contents, threads, mine = self._tables.contents, self._tables.threads, self._of(context)
        wanted(thread_id, "Thread")
        given(content_id, "Content")
        row = select(threads.c.owner, threads.c.id, literal(content_id, Text), literal(data, LargeBinary))
        stays = row.where(mine.thread(thread_id)).with_for_update(read=True, key_share=True)
        insert = self._insert(contents).from_select(["owner", "thread_id", "id", "data"], stays)

        def work(connection: Connection) -> None:
            if not connection.execute(insert).rowcount:
                raise not_found(thread_id, "Thread")

        await self._database.write(f"save content {content_id} of thread {thread_id}", work)

    async def load_content(self, thread_id: str, content_id: str, context: TContext) -> bytes | None:
        """Return the content; None if the thread has none under that id."""
        if not is_key(thread_id) or not is_key(content_id):
            return None
        is_it = self._of(context).content(thread_id, content_id)

        def work(connection: Connection) -> bytes | None:
            data: bytes | None = connection.scalar(select(self._tables.contents.c.data).where(is_it))
            return data

        return await self._database.read(f"load content {content_id} of thread {thread_id}", work)

    async def delete_content(self, thread_id: str, content_id: str, context: TContext) -> None:
        """Delete the content, if it is there."""
        is_it = self._of(context).content(thread_id, content_id)
        if is_key(thread_id) and is_key(content_id):
            await self._delete(f"delete content {content_id} of thread {thread_id}", self._tables.contents, is_it)

    async def delete_contents(self, thread_id: str, context: TContext) -> None:
        """Delete all contents of a thread."""
        is_it = self._of(context).of_thread(self._tables.contents, thread_id)
        if is_key(thread_id):
            await self._delete(f"delete the contents of thread {thread_id}", self._tables.contents, is_it)

    def _of(self, context: TContext) -> Owned:
        return Owned(self._tables, owner_key(self._owner, context))

    def _thread(self, context: TContext, thread_id: str) -> dict[str, str]:
        """Return what a statement about a thread has to be told."""
        return {"of_owner": owner_key(self._owner, context), "of_thread": thread_id}

    async def _document(self, tried: str, statement: Prepared, key: dict[str, str]) -> str | None:
        def work(connection: Connection) -> str | None:
            document: str | None = statement.run(connection, **key).scalar()
            return document

        return await self._database.read(tried, work)

    async def _delete(self, tried: str, table: Table, is_it: ColumnElement[bool]) -> None:
        def work(connection: Connection) -> None:
            connection.execute(delete(table).where(is_it))

        await self._database.write(tried, work)

    def _create_thread(self, connection: Connection, mine: Owned, thread_id: str, document: str) -> bool:
        """Create a thread unless somebody else has just done so; say whether it was created."""
        threads, seq = self._tables.threads, self._next_thread(connection, mine)
        new = {"owner": mine.owner, "id": thread_id, "seq": seq, "last_item": 0, "document": document}
        insert = self._insert(threads).values(new).on_conflict_do_nothing()
        return bool(connection.execute(insert).rowcount)

    def _next_thread(self, connection: Connection, mine: Owned) -> int:
        """Count the owner's threads; the others who do wait here until this transaction has ended."""
        owners = self._tables.owners
        first = self._insert(owners).values(owner=mine.owner, last_thread=1)
        counts = first.on_conflict_do_update(
            index_elements=[owners.c.owner], set_={"last_thread": owners.c.last_thread + 1}
        )
        seq: int = (connection.execute(counts.returning(owners.c.last_thread))).scalar_one()
        return seq

    def _write_item(
        self, connection: Connection, mine: Owned, key: dict[str, str], item: ThreadItem, document: str
    ) -> None:
        """Write an item. Each statement is right by itself, whatever others have done since the one before it."""
        send, thread_id = self._statements, key["of_thread"]
        new = {"new_call_status": _status_of(item), "new_document": document}
        seen: str | None = None
        while True:
            if new["new_call_status"] != "completed" and self._insert_item(connection, key, new):
                return
            known = send.item.run(connection, **key).scalar()
            if known is None:
                self._check_new(connection, mine, thread_id, item)
                continue  # pragma: no cover  what was in the way has gone at this very moment
            if not has_to_be_written(thread_id, ITEMS.read(known, item.id), item):
                return
            if isinstance(item, ClientToolCallItem):
                if known == seen:  # and yet it is not pending any more
                    raise late_answer(thread_id, item, "completed", item.status)
                changed = send.change_call.run(connection, **key, **new, seen=known)
            else:
                changed = send.change_item.run(connection, **key, **new)
            if changed.rowcount:
                return
            seen = known

    def _insert_item(self, connection: Connection, key: dict[str, str], new: dict[str, str | None]) -> bool:
        """Add an item unless it is there, or another call is pending, or there is no thread; say whether it was added.

        The thread counts its items: the others who write to it wait here until this transaction has ended.
        """
        seq: int | None = None
        if self._statements.count_items:  # one statement does both on PostgreSQL
            seq = self._statements.count_items.run(connection, **key).scalar_one_or_none()
            if seq is None:
                return False
        return bool(self._statements.insert_item.run(connection, **key, **new, new_seq=seq).rowcount)

    def _check_new(self, connection: Connection, mine: Owned, thread_id: str, item: ThreadItem) -> None:
        """Raise what is wrong with an item that is not there and could not be added."""
        if not self._has_thread(connection, mine, thread_id):
            raise not_found(thread_id, "Thread")
        check_new(thread_id, item)
        items = self._tables.items
        is_pending = and_(mine.of_thread(items, thread_id), items.c.call_status == "pending")
        row = connection.execute(select(items.c.id, items.c.document).where(is_pending)).one_or_none()
        if row is not None and isinstance(item, ClientToolCallItem):  # pragma: no branch  it has gone since
            raise second_pending(thread_id, item, cast("ClientToolCallItem", ITEMS.read(row.document, row.id)))

    def _has_thread(self, connection: Connection, mine: Owned, thread_id: str) -> bool:
        threads = self._tables.threads
        return connection.scalar(select(threads.c.id).where(mine.thread(thread_id))) is not None

    def _first_plan(self, mine: Owned, thread_id: str, plan: StoredPlan) -> Executable:
        """Insert a plan unless there is one, if its thread is there (and stays there)."""
        plans, threads = self._tables.plans, self._tables.threads
        row = select(threads.c.owner, threads.c.id, literal(plan.revision, BigInteger), literal(plan.document, Text))
        stays = row.where(mine.thread(thread_id)).with_for_update(read=True, key_share=True)
        insert = self._insert(plans).from_select(["owner", "thread_id", "revision", "document"], stays)
        return insert.on_conflict_do_nothing()


def _status_of(item: ThreadItem) -> str | None:
    return item.status if isinstance(item, ClientToolCallItem) else None


class _Span:
    """A page of a table's rows in their order, and one row more to know whether there is a next page."""

    def __init__(self, table: Table, condition: ColumnElement[bool], limit: int, order: str) -> None:
        self.limit = checked_limit(limit)
        self._table = table
        self._is_ascending = checked_order(order) == "asc"
        self._condition = condition

    def rows(self, connection: Connection, is_cursor: ColumnElement[bool] | None) -> Rows | None:
        """Load id and document of each; None if the row that they are to come after is not there."""
        # a row never changes its number: whatever is added or deleted between the two statements, nothing is skipped
        seq = self._table.c.seq
        rows = select(self._table.c.id, self._table.c.document).where(self._condition)
        if is_cursor is not None:
            after = connection.scalar(select(seq).where(is_cursor))
            if after is None:
                return None
            rows = rows.where(seq > after if self._is_ascending else seq < after)
        in_order = rows.order_by(seq if self._is_ascending else seq.desc())
        found = connection.execute(in_order.limit(self.limit + 1))
        return [(row.id, row.document) for row in found]
