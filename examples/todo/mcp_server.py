"""The five tools as an MCP server on stdin and stdout: `python -m todo.mcp_server`.

A process of its own, on the same database as the app. Who asks comes with each call in `_meta`, where the app has
put it: it is no argument of any tool, and the model can neither see nor choose it.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import Field

from .tasks import DATABASE_URL, USER_ID, NoSuchTaskError, Task, TaskList

if TYPE_CHECKING:
    from collections.abc import Iterator

server = MCPServer("todo", log_level="WARNING")
tasks = TaskList(os.environ[DATABASE_URL])

Title = Annotated[str, Field(min_length=1, max_length=200, description="What is to be done, in a few words.")]
TaskId = Annotated[int, Field(ge=1, le=2**31 - 1, description="The task's number, as list_tasks tells it.")]


@server.tool()
async def add_task(ctx: Context, title: Title) -> Task:
    """Put a task on the user's list."""
    return await tasks.add(user_of(ctx), title)


@server.tool()
async def list_tasks(ctx: Context) -> list[Task]:
    """Tell all tasks on the user's list, those that are done included."""
    return await tasks.all(user_of(ctx))


@server.tool()
async def complete_task(ctx: Context, task_id: TaskId) -> Task:
    """Tick a task off."""
    with telling_the_model():
        return await tasks.change(user_of(ctx), task_id, done=True)


@server.tool()
async def update_task(ctx: Context, task_id: TaskId, title: Title) -> Task:
    """Give a task another title."""
    with telling_the_model():
        return await tasks.change(user_of(ctx), task_id, title=title)


@server.tool()
async def delete_task(ctx: Context, task_id: TaskId) -> Task:
    """Take a task off the list."""
    with telling_the_model():
        return await tasks.delete(user_of(ctx), task_id)


def user_of(ctx: Context) -> str:
    """Return who asks, or refuse: a call without a user would be everybody's."""
    user_id = (ctx.request_context.meta or {}).get(USER_ID)
    if not isinstance(user_id, str) or not user_id:
        raise ToolError("This call does not say whose tasks it is about.")
    return user_id


@contextmanager
def telling_the_model() -> Iterator[None]:
    """Let the model read that there is no such task; anything else is a failure of ours and not told."""
    try:
        yield
    except NoSuchTaskError as error:
        raise ToolError(str(error)) from None


if __name__ == "__main__":
    server.run("stdio")
