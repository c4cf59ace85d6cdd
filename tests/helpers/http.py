"""A ChatKit server behind real HTTP: the endpoint people write, on uvicorn, on a free port."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Literal

import uvicorn
from chatkit.server import StreamingResult
from sse_starlette import EventSourceResponse
from starlette.applications import Starlette
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from chatkit.server import ChatKitServer
    from starlette.requests import Request
    from starlette.types import ASGIApp


def chatkit_app(
    server: ChatKitServer[Any],
    response: Literal["starlette", "sse"] = "starlette",
    context: Callable[[Request], Any] = lambda request: None,
) -> Starlette:
    """The endpoint, with Starlette's own streaming response or with the one of sse-starlette."""

    async def chatkit(request: Request) -> Response:
        result = await server.process(await request.body(), context(request))
        if not isinstance(result, StreamingResult):
            return Response(result.json, media_type="application/json")
        if response == "sse":
            return EventSourceResponse(result)
        return StreamingResponse(result, media_type="text/event-stream")

    return Starlette(routes=[Route("/chatkit", chatkit, methods=["POST"])])


@asynccontextmanager
async def serving(app: ASGIApp) -> AsyncIterator[str]:
    """Serve an application in this event loop; the URL of its endpoint."""
    config = uvicorn.Config(app, lifespan="off", log_config=None, timeout_graceful_shutdown=1)
    web = uvicorn.Server(config)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()  # from here on connections wait until they are taken
        task = asyncio.create_task(web.serve(sockets=[listening]))
        try:
            host, port = listening.getsockname()
            yield f"http://{host}:{port}/chatkit"
        finally:
            web.should_exit = True
            await task
