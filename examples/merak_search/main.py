"""Merak on the web, with a real model: `OPENAI_API_KEY=... uvicorn examples.merak_search.main:app`.

The endpoint is the one people have. In FastAPI it is the same function under `@app.post("/chatkit")`: Request, Response
and StreamingResponse are Starlette's there too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from chatkit.server import StreamingResult
from starlette.applications import Starlette
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from chatkit_clienttools import ValidatingStore
from chatkit_clienttools.stores import MemoryStore

from .people import RequestContext
from .server import MerakServer

if TYPE_CHECKING:
    from starlette.requests import Request

server = MerakServer(ValidatingStore(MemoryStore[RequestContext]()))


async def chatkit(request: Request) -> Response:
    """Serve every request of ChatKit.js."""
    result = await server.process(await request.body(), RequestContext(user_id="you"))
    if isinstance(result, StreamingResult):
        return StreamingResponse(result, media_type="text/event-stream")
    return Response(result.json, media_type="application/json")


app = Starlette(routes=[Route("/chatkit", chatkit, methods=["POST"])])
