"""The tasks in the database: each belongs to a user, and no statement forgets whose it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel
from sqlalchemy import Boolean, Column, Integer, MetaData, Table, Text, delete, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.schema import CreateTable

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Delete, Row, Update

DATABASE_URL = "TODO_DATABASE_URL"
"""The environment variable that tells the process with the tools where the tasks are."""

USER_ID = "todo/user_id"
"""Under which key of a tool call's `_meta` the app says who asks."""

BUSY_SECONDS = 10
"""How long to wait for another process that writes to the same SQLite file."""

METADATA = MetaData()

TASKS = Table(
    "todo_list_tasks",
    METADATA,
    Column("user_id", Text, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("title", Text, nullable=False),
    Column("done", Boolean, nullable=False, default=False),
)

COUNTERS = Table(
    "todo_list_counters",
    METADATA,
    Column("user_id", Text, primary_key=True),
    Column("tasks", Integer, nullable=False),
)
"""How many tasks each user has ever had: everybody begins with 1, and no number is given twice."""


class Task(BaseModel):
    """One task, as the page and the model see it."""

    id: int
    title: str
    done: bool


class NoSuchTaskError(Exception):
    """The user has no task of that number."""

    def __init__(self, task_id: int) -> None:
        super().__init__(f"There is no task {task_id}.")


class TaskList:
    """Everybody's tasks. Each method is one transaction."""

    def __init__(self, database_url: str) -> None:
        is_sqlite = make_url(database_url).get_backend_name() == "sqlite"
        self._insert = sqlite.insert if is_sqlite else postgresql.insert
        self._engine = create_async_engine(database_url, connect_args={"timeout": BUSY_SECONDS} if is_sqlite else {})

    async def create_schema(self) -> None:
        """Make the tables unless they are there; for one worker at a time."""
        async with self._engine.begin() as connection:
            for table in (TASKS, COUNTERS):
                await connection.execute(CreateTable(table, if_not_exists=True))

    async def close(self) -> None:
        await self._engine.dispose()

    async def add(self, user_id: str, title: str) -> Task:
        async with self._engine.begin() as connection:
            first = self._insert(COUNTERS).values(user_id=user_id, tasks=1)
            # who adds a task at the same time waits for this row
            one_more = first.on_conflict_do_update(
                index_elements=[COUNTERS.c.user_id], set_={"tasks": COUNTERS.c.tasks + 1}
            )
            number = await connection.scalar(one_more.returning(COUNTERS.c.tasks))
            task = insert(TASKS).values(user_id=user_id, number=number, title=title)
            return _task((await connection.execute(task.returning(TASKS))).one())

    async def all(self, user_id: str) -> list[Task]:
        mine = select(TASKS).where(TASKS.c.user_id == user_id).order_by(TASKS.c.number)
        async with self._engine.connect() as connection:
            return [_task(row) for row in await connection.execute(mine)]

    async def change(self, user_id: str, task_id: int, **values: str | bool) -> Task:
        return await self._one(update(TASKS).where(*_is(user_id, task_id)).values(values), task_id)

    async def delete(self, user_id: str, task_id: int) -> Task:
        return await self._one(delete(TASKS).where(*_is(user_id, task_id)), task_id)

    async def _one(self, statement: Update | Delete, task_id: int) -> Task:
        async with self._engine.begin() as connection:
            row = (await connection.execute(statement.returning(TASKS))).one_or_none()
        if row is None:
            raise NoSuchTaskError(task_id)
        return _task(row)


def _is(user_id: str, task_id: int) -> tuple[ColumnElement[bool], ...]:
    return TASKS.c.user_id == user_id, TASKS.c.number == task_id


def _task(row: Row[Any]) -> Task:
    return Task(id=row.number, title=row.title, done=row.done)
