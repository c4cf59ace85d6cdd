"""The tables of `SQLStore`.

Every table begins with the owner, and every key contains it: no statement can reach another owner's rows, and an id
that another owner or another thread uses is no conflict.

The order of items is `seq`, counted per thread in the thread's own row, and that of threads is counted per owner. Both
counters are changed in the transaction that adds the row and are locked until it ends, so the numbers become visible
in their order: a reader that has seen one will never see a lower one appear behind it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    and_,
)

from chatkit_clienttools.errors import SchemaVersionError, UsageError

if TYPE_CHECKING:
    from sqlalchemy import BindParameter, ColumnElement
    from sqlalchemy.schema import SchemaItem

    Key = str | BindParameter[str]
    """A key, or where one will be put into a statement that is compiled before."""

VERSION = 1
"""The version of the tables below."""

_PREFIX = re.compile(r"[a-z_][a-z0-9_]{0,31}")


class Tables:
    """The tables, under names that begin with `prefix`."""

    def __init__(self, prefix: str) -> None:
        if not _PREFIX.fullmatch(prefix):
            raise UsageError(f"prefix must be 1 to 32 of a-z, 0-9 and _, not beginning with a digit; not {prefix!r}")
        self.prefix = prefix
        self.metadata = MetaData()
        self.schema = Table(
            f"{prefix}schema",
            self.metadata,
            Column("id", Integer, primary_key=True, autoincrement=False),
            Column("version", Integer, nullable=False),
        )
        self.owners = Table(
            f"{prefix}owners",
            self.metadata,
            Column("owner", Text, primary_key=True),
            Column("last_thread", BigInteger, nullable=False),
        )
        self.threads = Table(
            f"{prefix}threads",
            self.metadata,
            Column("owner", Text, primary_key=True),
            Column("id", Text, primary_key=True),
            Column("seq", BigInteger, nullable=False),
            Column("last_item", BigInteger, nullable=False),
            Column("document", Text, nullable=False),
            Index(f"{prefix}threads_in_order", "owner", "seq", unique=True),
        )
        self.items = self._of_thread(
            "items",
            Column("id", Text, primary_key=True),
            Column("seq", BigInteger, nullable=False),
            Column("call_status", Text),  # of client tool calls only
            Column("document", Text, nullable=False),
            Index(f"{prefix}items_in_order", "owner", "thread_id", "seq", unique=True),
        )
        is_pending = self.items.c.call_status == "pending"
        Index(
            f"{prefix}items_one_pending",
            self.items.c.owner,
            self.items.c.thread_id,
            unique=True,
            postgresql_where=is_pending,
            sqlite_where=is_pending,
        )
        self.plans = self._of_thread(
            "plans",
            Column("revision", BigInteger, nullable=False),
            Column("document", Text, nullable=False),
        )
        self.attachments = Table(
            f"{prefix}attachments",
            self.metadata,
            Column("owner", Text, primary_key=True),
            Column("id", Text, primary_key=True),
            Column("thread_id", Text),
            Column("document", Text, nullable=False),
            Index(f"{prefix}attachments_of_thread", "owner", "thread_id"),
        )
        self.contents = self._of_thread(
            "contents",
            Column("id", Text, primary_key=True),
            Column("data", LargeBinary, nullable=False),
        )

    def check_version(self, found: int | None) -> None:
        """Raise unless the tables are of the version this code knows."""
        if found is None:
            raise SchemaVersionError(
                f"The tables of the store are not there ({self.schema.name} and the others): "
                "`await store.create_schema()` makes them, once, before the first request."
            )
        if found != VERSION:
            raise SchemaVersionError(
                f"The tables of the store are of version {found} (in {self.schema.name}), and this chatkit-clienttools "
                f"knows version {VERSION}. Nothing was changed. Upgrade chatkit-clienttools to the version that the "
                "other workers have, or give this one tables of its own: SQLStore(..., prefix=...)."
            )

    def _of_thread(self, name: str, *parts: SchemaItem) -> Table:
        """Make a table whose rows belong to a thread, and go with it."""
        return Table(
            f"{self.prefix}{name}",
            self.metadata,
            Column("owner", Text, primary_key=True),
            Column("thread_id", Text, primary_key=True),
            *parts,
            ForeignKeyConstraint(["owner", "thread_id"], [self.threads.c.owner, self.threads.c.id], ondelete="CASCADE"),
        )


class Owned:
    """One owner's rows: every condition of every statement of the store is made here."""

    def __init__(self, tables: Tables, owner: Key) -> None:
        self._tables = tables
        self.owner = owner

    def threads(self) -> ColumnElement[bool]:
        """All threads."""
        return self._tables.threads.c.owner == self.owner

    def thread(self, thread_id: Key) -> ColumnElement[bool]:
        """One thread."""
        return and_(self.threads(), self._tables.threads.c.id == thread_id)

    def of_thread(self, table: Table, thread_id: Key) -> ColumnElement[bool]:
        """Everything in a table that belongs to a thread."""
        return and_(table.c.owner == self.owner, table.c.thread_id == thread_id)

    def item(self, thread_id: Key, item_id: Key) -> ColumnElement[bool]:
        """One item."""
        return and_(self.of_thread(self._tables.items, thread_id), self._tables.items.c.id == item_id)

    def attachment(self, attachment_id: Key) -> ColumnElement[bool]:
        """One attachment."""
        attachments = self._tables.attachments
        return and_(attachments.c.owner == self.owner, attachments.c.id == attachment_id)

    def content(self, thread_id: str, content_id: str) -> ColumnElement[bool]:
        """One content of an image or a file."""
        return and_(self.of_thread(self._tables.contents, thread_id), self._tables.contents.c.id == content_id)
