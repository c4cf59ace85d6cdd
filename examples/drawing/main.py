"""The drawing on the web: `uvicorn --factory drawing.main:create_app`, with any number of workers."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from chatkit.server import StreamingResult
from chatkit.store import NotFoundError
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import StreamingResponse

from chatkit_clienttools.content import MediaStore
from chatkit_clienttools.errors import InvalidRequestError
from chatkit_clienttools.stores.sql import SQLStore

from .client_tools import sequencer
from .server import DrawingServer
from .tools import RequestContext

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agents import Model

DATABASE = "sqlite+aiosqlite:///drawing.db"
YOU = RequestContext(user_id="you")  # a server with more users asks its session who it is: see todo


def create_app(database: str = DATABASE, model: Model | None = None) -> FastAPI:
    """Make the application. Everything that outlasts a request is in the database."""
    store = SQLStore[RequestContext].from_url(database, owner=lambda context: context.user_id)
    server = DrawingServer(MediaStore(store, sequencer), model)  # larger pictures are kept beside the items

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await store.create_schema()
        yield
        await store.close()

    app = FastAPI(title="Drawing", lifespan=lifespan)

    @app.post("/chatkit")
    async def chatkit(request: Request) -> Response:
        """Serve every request of ChatKit.js."""
        try:
            result = await server.process(await request.body(), YOU)
        except InvalidRequestError as error:
            raise HTTPException(400, str(error)) from None
        except NotFoundError:
            raise HTTPException(404, "There is no such conversation.") from None
        if isinstance(result, StreamingResult):
            return StreamingResponse(result, media_type="text/event-stream")
        return Response(result.json, media_type="application/json")

    return app
