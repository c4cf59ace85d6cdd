"""The statements that every request sends, built and compiled once for each store.

To build a statement and to find it in SQLAlchemy's cache takes longer than SQLite takes to carry it out. What is sent
now and then only is built where it is sent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Text, and_, bindparam, select, update
from sqlalchemy.dialects import postgresql, sqlite

from ._schema import Owned, Tables

if TYPE_CHECKING:
    from sqlalchemy import BindParameter, Column, Connection, CursorResult, Executable
    from sqlalchemy.engine import Dialect

# no column has such a name: SQLAlchemy keeps those of columns for itself
OWNER, THREAD, ITEM = (bindparam(name, type_=Text()) for name in ("of_owner", "of_thread", "of_item"))


class Prepared:
    """A statement as its driver gets it."""

    def __init__(self, statement: Executable, dialect: Dialect) -> None:
        compiled: Any = statement.compile(dialect=dialect)  # type: ignore[attr-defined]
        self._text = str(compiled)
        self._names: list[str] = compiled.positiontup
        self._fixed: dict[str, object] = compiled.params

    def run(self, connection: Connection, **values: object) -> CursorResult[Any]:
        """Send it with these values."""
        known = {**self._fixed, **values}
        return connection.exec_driver_sql(self._text, tuple([known[name] for name in self._names]))


class Statements:
    """What is sent again and again. Each takes `of_owner` and `of_thread`, those about one item `of_item` too."""

    def __init__(self, tables: Tables, dialect: Dialect) -> None:
        mine = Owned(tables, OWNER)
        threads, items, plans = tables.threads, tables.items, tables.plans
        is_thread, is_item = mine.thread(THREAD), mine.item(THREAD, ITEM)

        def prepared(statement: Executable) -> Prepared:
            return Prepared(statement, dialect)

        self.thread = prepared(select(threads.c.document).where(is_thread))
        self.thread_to_change = prepared(select(threads.c.document).where(is_thread).with_for_update())
        document, status, revision = map(_new, (threads.c.document, items.c.call_status, plans.c.revision))
        self.change_thread = prepared(update(threads).where(is_thread).values(document=document))
        self.plan = prepared(select(plans.c.revision, plans.c.document).where(mine.of_thread(plans, THREAD)))
        is_expected = and_(mine.of_thread(plans, THREAD), plans.c.revision == bindparam("expected"))
        self.change_plan = prepared(update(plans).where(is_expected).values(revision=revision, document=document))
        self.item = prepared(select(items.c.document).where(is_item))
        is_call_as_seen = and_(is_item, items.c.call_status == "pending", items.c.document == bindparam("seen"))
        self.change_call = prepared(update(items).where(is_call_as_seen).values(call_status=status, document=document))
        is_no_call = and_(is_item, items.c.call_status.is_(None))
        self.change_item = prepared(update(items).where(is_no_call).values(call_status=status, document=document))
        page = select(items.c.id, items.c.document).where(mine.of_thread(items, THREAD)).limit(bindparam("at_most"))
        self.newest_items = prepared(page.order_by(items.c.seq.desc()))
        self.oldest_items = prepared(page.order_by(items.c.seq))
        self._prepare_insert(tables, prepared, mine, is_postgres=dialect.name == "postgresql")

    def _prepare_insert(self, tables: Tables, prepared: Any, mine: Owned, *, is_postgres: bool) -> None:
        """Count the items of a thread, and add one; on PostgreSQL both in one statement."""
        threads, items = tables.threads, tables.items
        count = update(threads).where(mine.thread(THREAD)).values(last_item=threads.c.last_item + 1)
        counted = count.returning(threads.c.last_item)
        new = {
            "owner": OWNER,
            "thread_id": THREAD,
            "id": ITEM,
            "call_status": _new(items.c.call_status),
            "document": _new(items.c.document),
        }
        if is_postgres:
            numbers = counted.cte("counted")
            row = select(*new.values(), numbers.c.last_item)
            insert: Any = postgresql.insert(items).from_select([*new, "seq"], row)
            self.count_items = None
        else:
            insert = sqlite.insert(items).values({**new, "seq": _new(items.c.seq)})
            self.count_items = prepared(counted)
        self.insert_item = prepared(insert.on_conflict_do_nothing())


def _new(column: Column[Any]) -> BindParameter[Any]:
    """What a column is to hold."""
    return bindparam(f"new_{column.name}", type_=column.type)
