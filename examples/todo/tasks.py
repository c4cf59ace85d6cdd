"""The tasks in the database: each belongs to a user, and no statement forgets whose it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel
from sqlalchemy import Boolean, Column, Index, Integer, MetaData, Table, Text, delete, insert, select, update
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.schema import CreateIndex, CreateTable

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Delete, Row, Update

DATABASE_URL = "TODO_DATABASE_URL"
"""The environment variable that tells the process with the tools where the tasks are."""

USER_ID = "todo/user_id"
"""Under which key of a tool call's `_meta` the app says who asks."""

BUSY_SECONDS = 10
"""How long to wait for another process that writes to the same SQLite file."""

TASKS = Table(
    "todo_tasks",
    MetaData(),
    Column("id", Integer, primary_key=True),
    Column("user_id", Text, nullable=False),
    Column("title", Text, nullable=False),
    Column("done", Boolean, nullable=False, default=False),
    sqlite_autoincrement=True,  # the number of a deleted task is not given to another one
)
TASKS_OF_A_USER = Index("todo_tasks_of_a_user", TASKS.c.user_id, TASKS.c.id)


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
    """Everybody's tasks. Each method is one statement, so one transaction."""

    def __init__(self, database_url: str) -> None:
        is_sqlite = make_url(database_url).get_backend_name() == "sqlite"
        self._engine = create_async_engine(database_url, connect_args={"timeout": BUSY_SECONDS} if is_sqlite else {})

    async def create_schema(self) -> None:
        """Make the table unless it is there; for one worker at a time."""
        async with self._engine.begin() as connection:
            await connection.execute(CreateTable(TASKS, if_not_exists=True))
            await connection.execute(CreateIndex(TASKS_OF_A_USER, if_not_exists=True))

    async def close(self) -> None:
        await self._engine.dispose()

    async def add(self, user_id: str, title: str) -> Task:
        async with self._engine.begin() as connection:
            added = await connection.execute(insert(TASKS).values(user_id=user_id, title=title).returning(TASKS))
            return _task(added.one())

    async def all(self, user_id: str) -> list[Task]:
        mine = select(TASKS).where(TASKS.c.user_id == user_id).order_by(TASKS.c.id)
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
    return TASKS.c.user_id == user_id, TASKS.c.id == task_id


def _task(row: Row[Any]) -> Task:
    return Task(id=row.id, title=row.title, done=row.done)
