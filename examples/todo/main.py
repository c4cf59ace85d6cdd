"""The todo list on the web: `python -m examples`, or by itself: `uvicorn examples.todo.main:app`."""

from __future__ import annotations

import secrets
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends, FastAPI, Request, Response
from starlette.datastructures import Secret
from starlette.middleware.sessions import SessionMiddleware

from chatkit_clienttools.errors import StoreUnavailableError
from chatkit_clienttools.stores.sql import SQLStore
from examples.demo import CannotRunError
from examples.guard import Guard
from examples.offline import model_or_offline
from examples.web import chatkit_response, serve_page

from . import offline
from .server import TodoServer
from .settings import Settings, read_settings
from .tasks import Task, TaskList
from .tools import RequestContext, TaskTools

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Open the database; end the process that has the tools."""
    kept = read_settings()
    store = SQLStore[RequestContext].from_url(kept.database_url, owner=lambda context: context.user_id)
    tasks, tools = TaskList(kept.database_url), TaskTools(kept.database_url)
    try:
        await create_schema(store, tasks, kept)
        app.state.tasks = tasks
        app.state.server = TodoServer(store, tools, model_or_offline(offline.reply))
        yield
    finally:
        await tools.close()
        await tasks.close()
        await store.close()


async def create_schema(store: SQLStore[RequestContext], tasks: TaskList, kept: Settings) -> None:
    """Make the tables unless they are there. All workers start at once: one of them makes, the others find."""
    try:
        await store.create_schema()
        async with store.thread_lock("todo_tasks"):
            await tasks.create_schema()
    except StoreUnavailableError:
        raise CannotRunError(f"the todo demo cannot reach {kept.database}") from None


class SessionSecret(Secret):
    """Read when the server starts, not when this module is imported."""

    def __init__(self) -> None:
        super().__init__("")

    def __str__(self) -> str:
        return read_settings().session_secret


app = FastAPI(title="Todo", lifespan=lifespan)
serve_page(app, Path(__file__).parent)
app.add_middleware(SessionMiddleware, secret_key=SessionSecret(), session_cookie="todo_session", same_site="lax")
app.add_middleware(Guard)  # the outermost: it is asked first


def user_id(request: Request) -> str:
    """Return who asks: the signed cookie says so. Who has none becomes a new user."""
    return str(request.session.setdefault("user_id", secrets.token_hex(8)))


UserId = Annotated[str, Depends(user_id)]


@app.post("/chatkit")
async def chatkit(request: Request, user_id: UserId) -> Response:
    """Serve every request of ChatKit.js."""
    server: TodoServer = request.app.state.server
    return await chatkit_response(server, request, RequestContext(user_id))


@app.get("/tasks")
async def tasks(request: Request, user_id: UserId) -> list[Task]:
    """Tell the page what is on the user's list."""
    found: list[Task] = await request.app.state.tasks.all(user_id)
    return found


@app.get("/user")
async def user(user_id: UserId) -> dict[str, str]:
    """Tell the page who its user is, as far as a page has to know."""
    return {"name": user_id[:6]}


@app.post("/user/another")
async def become_another_user(request: Request) -> dict[str, str]:
    """Forget who the user was."""
    request.session.clear()
    return {"name": user_id(request)[:6]}
