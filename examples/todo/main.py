"""The todo list on the web, with any number of workers and users: `uvicorn --factory todo.main:create_app`.

DATABASE_URL    sqlite+aiosqlite:///todo.db by default; postgresql+asyncpg://user:password@host/name for PostgreSQL
SESSION_SECRET  signs the cookies that say who the user is; without it nobody is known any more after a restart
"""

from __future__ import annotations

import os
import secrets
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated

from chatkit.server import StreamingResult
from chatkit.store import NotFoundError
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import StreamingResponse
from starlette.middleware.sessions import SessionMiddleware

from chatkit_clienttools.errors import InvalidRequestError
from chatkit_clienttools.stores.sql import SQLStore

from .server import TodoServer
from .tasks import Task, TaskList
from .tools import RequestContext, TaskTools

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agents import Model


def user_id(request: Request) -> str:
    """Return who asks: the signed cookie says so. Who has none becomes a new user."""
    return str(request.session.setdefault("user_id", secrets.token_hex(8)))


UserId = Annotated[str, Depends(user_id)]


def create_app(database: str | None = None, secret: str | None = None, model: Model | None = None) -> FastAPI:
    """Make the application. Everything that outlasts a request is in the database, or in the cookie."""
    database = database or os.environ.get("DATABASE_URL", "sqlite+aiosqlite:///todo.db")
    secret = secret or os.environ.get("SESSION_SECRET", secrets.token_urlsafe(32))
    store = SQLStore[RequestContext].from_url(database, owner=lambda context: context.user_id)
    tasks, tools = TaskList(database), TaskTools(database)
    server = TodoServer(store, tools, model)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        """Make the tables; in the end, end the process that has the tools."""
        try:
            await store.create_schema()
            async with store.thread_lock("todo_tasks"):  # all workers start at once: one makes it, the others find it
                await tasks.create_schema()
            yield
        finally:
            await tools.close()
            await tasks.close()
            await store.close()

    app = FastAPI(title="Todo", lifespan=lifespan)
    app.add_middleware(SessionMiddleware, secret_key=secret, session_cookie="todo_session", same_site="lax")

    @app.post("/chatkit")
    async def chatkit(request: Request, user_id: UserId) -> Response:
        """Serve every request of ChatKit.js."""
        try:
            result = await server.process(await request.body(), RequestContext(user_id))
        except InvalidRequestError as error:
            raise HTTPException(400, str(error)) from None
        except NotFoundError:
            raise HTTPException(404, "There is no such conversation.") from None
        if isinstance(result, StreamingResult):
            return StreamingResponse(result, media_type="text/event-stream")
        return Response(result.json, media_type="application/json")

    @app.get("/tasks")
    async def all_tasks(user_id: UserId) -> list[Task]:
        """Tell the page what is on the user's list."""
        return await tasks.all(user_id)

    @app.get("/user")
    async def user(user_id: UserId) -> dict[str, str]:
        """Tell the page who its user is, as far as a page has to know."""
        return {"name": user_id[:6]}

    @app.post("/user/another")
    async def become_another_user(request: Request) -> dict[str, str]:
        """Forget who the user was."""
        request.session.clear()
        return {"name": user_id(request)[:6]}

    return app
